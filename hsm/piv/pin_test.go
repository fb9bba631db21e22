package piv_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"testing"
	"time"

	"enrollkiosk/hsm"
	"enrollkiosk/hsm/piv"
	"enrollkiosk/kiosk/secret"
	"enrollkiosk/simulators/pcscd"
	"enrollkiosk/simulators/pivtoken"
)

const newPIN = "161803"

// finished is a token that a citizen holds.
func finished(t *testing.T) (*pcscd.Reader, *pivtoken.Token) {
	t.Helper()
	r, card := insert(t, pivtoken.Options{})
	if _, err := enroll(within(t, 20*time.Second), r.Name()); err != nil {
		t.Fatal(err)
	}
	return r, card
}

func TestChangePIN(t *testing.T) {
	r, _ := finished(t)
	ctx := within(t, 10*time.Second)
	token := open(t, ctx, r.Name())
	count := counting(r)
	for _, bad := range []string{"", "12345", "123456789", "12345\xff", pivtoken.DefaultPIN} {
		wants(t, bad, token.ChangePIN(ctx, text(citizenPIN), text(bad)), piv.ErrPINForm)
	}
	wants(t, "old one", token.ChangePIN(ctx, text("12"), text(newPIN)), piv.ErrPINForm)
	if count(0x24) != 0 {
		t.Error("a malformed PIN was sent")
	}
	var wrong *hsm.WrongPIN
	if err := token.ChangePIN(ctx, text("999999"), text(newPIN)); !errors.As(err, &wrong) || wrong.Left != 2 {
		t.Errorf("%v", err)
	}
	if err := token.ChangePIN(ctx, text(citizenPIN), text(newPIN)); err != nil || token.Info().PINTries != 3 {
		t.Errorf("%v, %+v", err, token.Info())
	}
	for _, left := range []int{2, 1} {
		if err := token.ChangePIN(ctx, text(citizenPIN), text("802469")); !errors.As(err, &wrong) || wrong.Left != left {
			t.Errorf("the old one, %d left: %v", left, err)
		}
	}
	sent := count(0x24)
	wants(t, "one try left", token.ChangePIN(ctx, text(newPIN), text("802469")), piv.ErrLastTry)
	if count(0x24) != sent || sent != 4 {
		t.Errorf("%d PINs were sent, then one more", sent)
	}
	token.Insist()
	if err := token.ChangePIN(ctx, text(newPIN), text("802469")); err != nil {
		t.Errorf("insisting: %v", err)
	}
}

// block sends wrong PINs until there are no tries left.
func block(t *testing.T, token *piv.Token) {
	t.Helper()
	ctx := within(t, 5*time.Second)
	for token.Info().PINTries > 0 {
		token.Insist()
		token.VerifyPIN(ctx, text("999999"))
	}
}

func TestUnblock(t *testing.T) {
	r, _ := finished(t)
	ctx := within(t, 10*time.Second)
	token := open(t, ctx, r.Name())
	block(t, token)
	wants(t, "blocked", token.ChangePIN(ctx, text(citizenPIN), text(newPIN)), hsm.ErrPINBlocked)
	wants(t, "weak form", token.Unblock(ctx, admin.PUK, text("12")), piv.ErrPINForm)
	wants(t, "factory PIN", token.Unblock(ctx, admin.PUK, text(pivtoken.DefaultPIN)), piv.ErrPINForm)
	var wrong *piv.WrongPUK
	if err := token.Unblock(ctx, text("99999999"), text(newPIN)); !errors.As(err, &wrong) || wrong.Left != 2 || token.Info().PUKTries != 2 {
		t.Errorf("%v, %+v", err, token.Info())
	}
	if err := token.Unblock(ctx, admin.PUK, text(newPIN)); err != nil || token.Info().PINTries != 3 || token.Info().PUKTries != 3 {
		t.Errorf("%v, %+v", err, token.Info())
	}
	if err := token.VerifyPIN(ctx, text(newPIN)); err != nil {
		t.Error(err)
	}
	count := counting(r)
	for range 2 {
		token.Unblock(ctx, text("99999999"), text(newPIN))
	}
	err := token.Unblock(ctx, admin.PUK, text(newPIN))
	wants(t, "one try left", err, piv.ErrLastPUKTry)
	wants(t, "one try left", err, hsm.ErrPUKBlocked)
	token.Close()
	token = open(t, ctx, r.Name())
	wants(t, "opened anew", token.Unblock(ctx, admin.PUK, text(newPIN)), piv.ErrLastPUKTry)
	if count(0x2C) != 2 {
		t.Errorf("%d PUKs were sent", count(0x2C))
	}
	token.Insist()
	wants(t, "the last", token.Unblock(ctx, text("99999999"), text(newPIN)), hsm.ErrPUKBlocked)
	wants(t, "blocked", token.Unblock(ctx, admin.PUK, text(newPIN)), hsm.ErrPUKBlocked)
	if count(0x2C) != 3 {
		t.Error("a PUK was sent to a blocked token")
	}
}

var nextAdmin = piv.Admin{PUK: text("27182818"), ManagementKey: text("another management key!!")}

func TestSetAdmin(t *testing.T) {
	r, _ := finished(t)
	ctx := within(t, 10*time.Second)
	token := open(t, ctx, r.Name())
	if err := token.Authenticate(ctx, admin.ManagementKey); err != nil {
		t.Error(err)
	}
	wants(t, "another key", token.Authenticate(ctx, nextAdmin.ManagementKey), piv.ErrOtherAdmin)
	stranger := piv.Admin{PUK: text("99999999"), ManagementKey: text("nobody's management key!")}
	wants(t, "a stranger", token.SetAdmin(ctx, stranger, piv.Admin{PUK: nextAdmin.PUK, ManagementKey: text("nor is this one of ours!")}), piv.ErrOtherAdmin)
	wants(t, "factory PUK", token.SetAdmin(ctx, admin, piv.Admin{PUK: text("12345678"), ManagementKey: nextAdmin.ManagementKey}), hsm.ErrUnsupported)
	wants(t, "factory key", token.SetAdmin(ctx, admin, piv.Admin{PUK: nextAdmin.PUK, ManagementKey: secret.New(factoryKey)}), hsm.ErrUnsupported)
	if i := token.Info(); i.PUKTries != 3 {
		t.Errorf("%+v", i)
	}
	var wrong *piv.WrongPUK
	if err := token.SetAdmin(ctx, piv.Admin{PUK: stranger.PUK, ManagementKey: admin.ManagementKey}, nextAdmin); !errors.As(err, &wrong) {
		t.Errorf("another PUK: %v", err)
	}
	token.Close()
	token = open(t, ctx, r.Name())
	wants(t, "with one PUK try left", token.SetAdmin(ctx, admin, nextAdmin), piv.ErrLastPUKTry)
	token.Insist()
	if err := token.SetAdmin(ctx, admin, nextAdmin); err != nil {
		t.Fatal(err)
	}
	token.Close()
	isAdmin(t, r, nextAdmin, admin)
}

// isAdmin finds out who administers a token.
func isAdmin(t *testing.T, r *pcscd.Reader, now, before piv.Admin) {
	t.Helper()
	ctx := within(t, 10*time.Second)
	token := open(t, ctx, r.Name())
	defer token.Close()
	if err := token.Authenticate(ctx, now.ManagementKey); err != nil {
		t.Error(err)
	}
	wants(t, "the old key", token.Authenticate(ctx, before.ManagementKey), piv.ErrOtherAdmin)
	var wrong *piv.WrongPUK
	if err := token.Unblock(ctx, before.PUK, text(newPIN)); !errors.As(err, &wrong) {
		t.Errorf("the old PUK: %v", err)
	}
	if err := token.Unblock(ctx, now.PUK, text(newPIN)); err != nil {
		t.Errorf("the new PUK: %v", err)
	}
	if err := token.Ready(); err != nil {
		t.Error(err)
	}
}

// Interrupted anywhere, the exchange is finished by doing the same once more.
func TestSetAdminInterruptedAtEveryCommand(t *testing.T) {
	for _, answered := range []bool{false, true} {
		t.Run(whichCommand(answered), func(t *testing.T) {
			everyCommand(t, func(t *testing.T, n int) bool {
				r, card := finished(t)
				defer r.Remove()
				ctx := within(t, 10*time.Second)
				token := open(t, ctx, r.Name())
				pulled := pullAt(r, n, answered)
				err := token.SetAdmin(ctx, admin, nextAdmin)
				token.Close()
				if pulled.Load() && err != nil {
					removed(t, err)
				}
				r.Trace(nil)
				r.Insert(card)
				again := open(t, ctx, r.Name())
				if err := again.SetAdmin(ctx, admin, nextAdmin); err != nil {
					t.Errorf("command %d: once more: %v", n, err)
				}
				if again.Info().PUKTries != 3 {
					t.Errorf("command %d: %+v", n, again.Info())
				}
				again.Close()
				isAdmin(t, r, nextAdmin, admin)
				return pulled.Load()
			})
		})
	}
}

// Every error that a person can meet, by the way it comes about.
func TestTypedErrors(t *testing.T) {
	ctx := within(t, 10*time.Second)
	r, card := finished(t)
	token := open(t, ctx, r.Name())
	r.Pull()
	wants(t, "pulled", token.VerifyPIN(ctx, text(citizenPIN)), hsm.ErrRemoved)
	r.Insert(card)
	for name, c := range map[string]struct {
		faults pivtoken.Fault
		want   error
	}{
		"plain NIST": {pivtoken.PlainNIST, hsm.ErrCannotAttest}, "Nitrokey": {pivtoken.LikeNitrokey, hsm.ErrCannotAttest},
	} {
		r, _ := insert(t, pivtoken.Options{Faults: c.faults})
		_, err := piv.Probe(ctx, r.Name())
		wants(t, name, err, c.want)
	}
	r, _ = insert(t, pivtoken.Options{Faults: pivtoken.LikePivApplet})
	applet := open(t, ctx, r.Name())
	if i := applet.Info(); i.CanAttest || i.FactoryNew || i.Ready || i.PINTries != 3 || i.PUKTries != -1 {
		t.Errorf("like PivApplet: %+v", i)
	}
	_, err := applet.GenerateKeys(ctx, text(citizenPIN), piv.KeySpec{}, nil)
	wants(t, "like PivApplet", err, hsm.ErrCannotAttest)
	wants(t, "like PivApplet", applet.Ready(), hsm.ErrFactoryCredentials)
	r, _ = insert(t, pivtoken.Options{})
	wants(t, "factory-new", open(t, ctx, r.Name()).Ready(), hsm.ErrFactoryCredentials)
}

// A token attests the key that was born in it, without a PIN, and no other: none,
// and none that was brought in. It goes on working afterwards.
func TestAttest(t *testing.T) {
	r, card := finished(t)
	ctx := within(t, 20*time.Second)
	token := open(t, ctx, r.Name())
	count := counting(r)
	k, err := token.Attest(ctx, piv.Authentication)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(k.Evidence.Certificate)
	if err != nil || !leaf.PublicKey.(*ecdsa.PublicKey).Equal(k.Public) {
		t.Errorf("attested: %v, of another key: %v", err, k.Public)
	}
	if count(0x20) != 0 {
		t.Error("a PIN was sent")
	}
	_, err = token.Attest(ctx, piv.Signature)
	wants(t, "empty slot", err, piv.ErrNoKey)
	if err := token.VerifyPIN(ctx, text(citizenPIN)); err != nil {
		t.Errorf("afterwards: %v", err)
	}
	foreign, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err == nil {
		err = card.InstallKey(byte(piv.Signature), foreign, nil)
	}
	if err != nil {
		t.Fatal(err)
	}
	_, err = token.Attest(ctx, piv.Signature)
	wants(t, "imported", err, hsm.ErrCannotAttest)
}
