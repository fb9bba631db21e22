package piv_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ebfe/scard"

	"enrollkiosk/hsm"
	"enrollkiosk/hsm/piv"
	"enrollkiosk/simulators/pcscd"
	"enrollkiosk/simulators/pivtoken"
)

// altered is a token some of whose answers are others.
type altered struct {
	*pivtoken.Token
	answer func(ctx context.Context, command []byte) []byte // nil: ask the token
}

func (a altered) Transmit(ctx context.Context, command []byte) []byte {
	if b := a.answer(ctx, command); b != nil {
		return b
	}
	return a.Token.Transmit(ctx, command)
}

// counting counts commands by instruction.
func counting(r *pcscd.Reader) func(ins byte) int {
	var mu sync.Mutex
	seen := map[byte]int{}
	r.Trace(func(e pcscd.TraceEvent) {
		if !e.Answered && len(e.Command) > 5 {
			mu.Lock()
			defer mu.Unlock()
			seen[e.Command[1]]++
		}
	})
	return func(ins byte) int {
		mu.Lock()
		defer mu.Unlock()
		return seen[ins]
	}
}

const verify, putData, generate = 0x20, 0xDB, 0x47

func wants(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: want %q, got %v", what, want, err)
	}
}

// exclusive fails if anybody holds the card in r.
func exclusive(t *testing.T, r *pcscd.Reader) {
	t.Helper()
	ctx, err := scard.EstablishContext()
	if err != nil {
		t.Fatal(err)
	}
	defer ctx.Release()
	c, err := ctx.Connect(r.Name(), scard.ShareExclusive, scard.ProtocolAny)
	if err != nil {
		t.Errorf("the card is not free: %v", err)
		return
	}
	c.Disconnect(scard.LeaveCard)
}

func TestNothingThere(t *testing.T) {
	_, err := piv.Open(within(t, time.Second), "no such reader")
	wants(t, "no reader", err, hsm.ErrNoDevice)
	_, err = piv.Open(within(t, time.Second), bench(t).Name())
	wants(t, "no card", err, hsm.ErrRemoved)
}

// piv-go keeps a card locked that it could not open: it must never get one.
func TestCardsThatAreNotTokens(t *testing.T) {
	token := pivtoken.New(pivtoken.Options{})
	for name, c := range map[string]struct {
		card pcscd.Card
		want error
	}{
		"not PIV": {altered{token, func(context.Context, []byte) []byte { return []byte{0x6A, 0x82} }}, hsm.ErrNotPIV},
		"longer identifier wanted": {altered{token, func(_ context.Context, c []byte) []byte {
			if c[1] == 0xA4 && c[4] < 9 {
				return []byte{0x6A, 0x82}
			}
			return nil
		}}, hsm.ErrUnsupported},
		"like Nitrokey":    {pivtoken.New(pivtoken.Options{Faults: pivtoken.LikeNitrokey}), hsm.ErrCannotAttest},
		"plain NIST":       {pivtoken.New(pivtoken.Options{Faults: pivtoken.PlainNIST}), hsm.ErrCannotAttest},
		"one byte answers": {altered{token, func(context.Context, []byte) []byte { return []byte{0x90} }}, hsm.ErrRemoved},
		"endless answers": {altered{token, func(_ context.Context, c []byte) []byte {
			return append(make([]byte, 256), 0x61, 0)
		}}, hsm.ErrUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			r := bench(t)
			r.Insert(c.card)
			for range 2 {
				_, err := piv.Open(within(t, 5*time.Second), r.Name())
				wants(t, "open", err, c.want)
				exclusive(t, r)
			}
			r.Insert(pivtoken.New(pivtoken.Options{Root: authority}))
			open(t, within(t, 5*time.Second), r.Name())
		})
	}
}

func TestTokenThatCannotAttest(t *testing.T) {
	r, _ := insert(t, pivtoken.Options{Faults: pivtoken.NoAttestation})
	count := counting(r)
	ctx := within(t, 5*time.Second)
	token := open(t, ctx, r.Name())
	if i := token.Info(); i.CanAttest || !i.FactoryNew || i.Serial != 10000001 || i.Firmware != [3]byte{5, 7, 4} {
		t.Errorf("%+v", i)
	}
	_, err := token.GenerateKeys(ctx, text(citizenPIN), piv.KeySpec{}, nil)
	wants(t, "generate", err, hsm.ErrCannotAttest)
	if count(generate) != 0 {
		t.Error("a key was generated")
	}
}

// A token that somebody used stays as it is until it is reset.
func TestUsedToken(t *testing.T) {
	r, _ := insert(t, pivtoken.Options{Faults: pivtoken.Provisioned})
	count := counting(r)
	ctx := within(t, 10*time.Second)
	token := open(t, ctx, r.Name())
	if i := token.Info(); i.FactoryNew || !i.CanAttest || i.PINTries != 3 {
		t.Errorf("%+v", i)
	}
	wants(t, "set pin", token.SetPIN(ctx, text(citizenPIN)), hsm.ErrNotFactoryNew)
	_, err := token.GenerateKeys(ctx, text(citizenPIN), piv.KeySpec{}, nil)
	wants(t, "generate", err, hsm.ErrNotFactoryNew)
	for ins, n := range map[byte]int{verify: 0, 0x24: 0, generate: 0, putData: 0} {
		if count(ins) != n {
			t.Errorf("%d commands %02X", count(ins), ins)
		}
	}
	wants(t, "lock with somebody's PIN", token.Lock(ctx, text(pivtoken.ProvisionedPIN), admin), hsm.ErrNotFactoryNew)
	if count(putData) != 0 || count(0xFF) != 0 {
		t.Error("lock wrote to a foreign token")
	}

	if err := token.Reset(ctx); err != nil || !token.Info().FactoryNew {
		t.Fatalf("%v, %+v", err, token.Info())
	}
	if err := token.SetPIN(ctx, text(citizenPIN)); err != nil {
		t.Errorf("on the same connection after a reset: %v", err)
	}
}

// A token is not locked under the factory PIN, nor without keys.
func TestLockOutOfOrder(t *testing.T) {
	r, _ := insert(t, pivtoken.Options{})
	count := counting(r)
	ctx := within(t, 5*time.Second)
	token := open(t, ctx, r.Name())
	wants(t, "factory PIN", token.Lock(ctx, text(pivtoken.DefaultPIN), admin), hsm.ErrNotFactoryNew)
	if err := token.SetPIN(ctx, text(citizenPIN)); err != nil {
		t.Fatal(err)
	}
	wants(t, "no keys", token.Lock(ctx, text(citizenPIN), admin), piv.ErrNoKey)
	wants(t, "factory PUK", token.Lock(ctx, text(citizenPIN), piv.Admin{PUK: text("12345678"), ManagementKey: admin.ManagementKey}), hsm.ErrUnsupported)
	wants(t, "short key", token.Lock(ctx, text(citizenPIN), piv.Admin{PUK: admin.PUK, ManagementKey: text("short")}), hsm.ErrUnsupported)
	if count(putData) != 0 || count(0xFF) != 0 {
		t.Error("something was written")
	}
	_, err := token.Key(ctx, piv.Authentication, text(citizenPIN))
	wants(t, "key", err, piv.ErrNoKey)
	_, err = token.Certificate(ctx, piv.Signature)
	wants(t, "certificate", err, piv.ErrNoCertificate)
	_, err = token.Key(ctx, 0x96, text(citizenPIN))
	wants(t, "unknown slot", err, hsm.ErrUnsupported)
}

// Locking again proves that what is set is the administrator's.
func TestLockByAnotherAdministrator(t *testing.T) {
	r, _ := insert(t, pivtoken.Options{})
	ctx := within(t, 10*time.Second)
	if _, err := enroll(ctx, r.Name()); err != nil {
		t.Fatal(err)
	}
	token := open(t, ctx, r.Name())
	if err := token.Lock(ctx, text(citizenPIN), admin); err != nil {
		t.Errorf("the same again: %v", err)
	}
	other := make([]byte, 24)
	rand.Read(other)
	wants(t, "another key", token.Lock(ctx, text(citizenPIN), piv.Admin{PUK: admin.PUK, ManagementKey: text(string(other))}), hsm.ErrNotFactoryNew)
	wants(t, "another PUK", token.Lock(ctx, text(citizenPIN), piv.Admin{PUK: text("27182818"), ManagementKey: admin.ManagementKey}), hsm.ErrNotFactoryNew)
}

func TestPINForm(t *testing.T) {
	r, _ := insert(t, pivtoken.Options{})
	ctx := within(t, 5*time.Second)
	token := open(t, ctx, r.Name())
	for _, bad := range []string{"", "12345", "123456789", "12345\xff", pivtoken.DefaultPIN} {
		wants(t, fmt.Sprintf("%q", bad), token.SetPIN(ctx, text(bad)), piv.ErrPINForm)
	}
	if !token.Info().FactoryNew {
		t.Error("a refused PIN changed something")
	}
}

// Each call sends a PIN once, and none when only one try is left.
func TestWrongPINIsNeverRetried(t *testing.T) {
	r, _ := officerCard(t)
	count := counting(r)
	ctx := within(t, 10*time.Second)
	token := open(t, ctx, r.Name())
	wrong := text("999999")
	digest := make([]byte, 32)

	var refused *hsm.WrongPIN
	if err := token.VerifyPIN(ctx, wrong); !errors.As(err, &refused) || refused.Left != 2 || count(verify) != 1 {
		t.Errorf("%v after %d commands", err, count(verify))
	}
	k, err := token.Key(ctx, piv.Signature, wrong)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := k.Sign(ctx, digest); !errors.As(err, &refused) || refused.Left != 1 || count(verify) != 2 {
		t.Errorf("%v after %d commands", err, count(verify))
	}
	for name, try := range map[string]func() error{
		"verify":        func() error { return token.VerifyPIN(ctx, wrong) },
		"sign":          func() error { _, err := k.Sign(ctx, digest); return err },
		"the right one": func() error { return token.VerifyPIN(ctx, text(officerPIN)) },
	} {
		err := try()
		wants(t, name, err, piv.ErrLastTry)
		wants(t, name, err, hsm.ErrPINBlocked)
	}
	token.Close()
	token = open(t, ctx, r.Name())
	wants(t, "opened anew", token.VerifyPIN(ctx, text(officerPIN)), piv.ErrLastTry)
	if count(verify) != 2 {
		t.Errorf("%d PINs were sent, want 2", count(verify))
	}

	token.Insist()
	if err := token.VerifyPIN(ctx, text(officerPIN)); err != nil || token.Info().PINTries != 3 {
		t.Errorf("insisting: %v, %+v", err, token.Info())
	}
	for _, left := range []int{2, 1} {
		if err := token.VerifyPIN(ctx, wrong); !errors.As(err, &refused) || refused.Left != left {
			t.Errorf("%v, want %d left", err, left)
		}
	}
	token.Insist()
	wants(t, "insisting on a wrong one", token.VerifyPIN(ctx, wrong), hsm.ErrPINBlocked)
	sent := count(verify)
	wants(t, "blocked", token.VerifyPIN(ctx, text(officerPIN)), hsm.ErrPINBlocked)
	if count(verify) != sent {
		t.Error("a PIN was sent to a blocked token")
	}
}

func TestBlockedPIN(t *testing.T) {
	r, _ := insert(t, pivtoken.Options{Faults: pivtoken.PINBlocked})
	count := counting(r)
	ctx := within(t, 5*time.Second)
	token := open(t, ctx, r.Name())
	if i := token.Info(); i.FactoryNew || i.PINTries != 0 {
		t.Errorf("%+v", i)
	}
	wants(t, "verify", token.VerifyPIN(ctx, text(citizenPIN)), hsm.ErrPINBlocked)
	wants(t, "set", token.SetPIN(ctx, text(citizenPIN)), hsm.ErrPINBlocked)
	if count(verify) != 0 {
		t.Error("a PIN was sent to a blocked token")
	}
}

const officerPIN = "654654"

// officerCard is a token with a P-256 key in 9C.
func officerCard(t testing.TB) (*pcscd.Reader, *ecdsa.PrivateKey) {
	t.Helper()
	r, token := insert(t, pivtoken.Options{})
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	install(t, token, key, key)
	return r, key
}

// install puts a key into 9C, with a certificate for certified.
func install(t testing.TB, token *pivtoken.Token, key, certified crypto.Signer) []byte {
	t.Helper()
	c := &x509.Certificate{SerialNumber: big.NewInt(7), Subject: pkix.Name{SerialNumber: "0007"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, c, c, certified.Public(), certified)
	if err != nil {
		t.Fatal(err)
	}
	if err := token.InstallKey(byte(piv.Signature), key, der); err != nil {
		t.Fatal(err)
	}
	if err := token.SetPIN(officerPIN); err != nil {
		t.Fatal(err)
	}
	return der
}

func TestOfficerSigns(t *testing.T) {
	ec, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	old, _ := rsa.GenerateKey(rand.Reader, 2048)
	for name, key := range map[string]crypto.Signer{"P-256": ec, "RSA": old} {
		for _, version := range [][3]byte{{5, 7, 4}, {5, 2, 7}} { // with and without metadata
			t.Run(fmt.Sprint(name, version), func(t *testing.T) {
				r, token := insert(t, pivtoken.Options{Version: version})
				der := install(t, token, key, key)
				count := counting(r)
				ctx := within(t, 10*time.Second)
				opened := open(t, ctx, r.Name())
				if got, err := opened.Certificate(ctx, piv.Signature); err != nil || !bytes.Equal(got, der) {
					t.Fatalf("certificate: %v", err)
				}
				if err := opened.VerifyPIN(ctx, text(officerPIN)); err != nil {
					t.Fatal(err)
				}
				k, err := opened.Key(ctx, piv.Signature, text(officerPIN))
				if err != nil {
					t.Fatal(err)
				}
				before := count(verify)
				for i := range 2 {
					digest := sha256.Sum256([]byte{byte(i)})
					signature, err := k.Sign(ctx, digest[:])
					if err != nil {
						t.Fatal(err)
					}
					switch p := k.Public().(type) {
					case *ecdsa.PublicKey:
						if !ecdsa.VerifyASN1(p, digest[:], signature) {
							t.Error("bad signature")
						}
					case *rsa.PublicKey:
						if err := rsa.VerifyPKCS1v15(p, crypto.SHA256, digest[:], signature); err != nil {
							t.Error(err)
						}
					}
				}
				if n := count(verify) - before; n != 2 {
					t.Errorf("%d PINs for 2 signatures", n)
				}
				if _, err := k.Sign(ctx, []byte("not a digest")); !errors.Is(err, hsm.ErrUnsupported) {
					t.Error(err)
				}
			})
		}
	}
}

// A certificate of another key than the one that signs is found out before, or
// at the latest after, a signature.
func TestCertificateOfAnotherKey(t *testing.T) {
	key, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	other, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	ctx := within(t, 10*time.Second)

	r, token := insert(t, pivtoken.Options{})
	install(t, token, key, other)
	_, err := open(t, ctx, r.Name()).Key(ctx, piv.Signature, text(officerPIN))
	wants(t, "with metadata", err, piv.ErrOtherKey)

	r, token = insert(t, pivtoken.Options{Version: [3]byte{5, 2, 7}})
	install(t, token, key, other)
	k, err := open(t, ctx, r.Name()).Key(ctx, piv.Signature, text(officerPIN))
	if err != nil {
		t.Fatal(err)
	}
	_, err = k.Sign(ctx, make([]byte, 32))
	wants(t, "without metadata", err, piv.ErrOtherKey)
}

func holderKey(t testing.TB, ctx context.Context, r *pcscd.Reader) (*piv.Token, hsm.Key) {
	t.Helper()
	token := open(t, ctx, r.Name())
	k, err := token.Key(ctx, piv.Authentication, text(citizenPIN))
	if err != nil {
		t.Fatal(err)
	}
	return token, k
}

// The token itself gives up waiting for the finger: the next try may work.
func TestTouchComesAtTheSecondTry(t *testing.T) {
	var asked atomic.Int32
	ctx := within(t, 5*time.Second)
	r, _, first := born(t, ctx, pivtoken.Options{Touch: func(context.Context) bool { return asked.Add(1) != 2 }})
	first.Close()
	token, k := holderKey(t, ctx, r)
	_, err := k.Sign(ctx, make([]byte, 32))
	wants(t, "no touch", err, hsm.ErrTouchTimeout)
	if token.Info().PINTries != 3 {
		t.Error("a missing touch counted as a wrong PIN")
	}
	if _, err := k.Sign(ctx, make([]byte, 32)); err != nil {
		t.Errorf("touched: %v", err)
	}
}

// Our patience ends first: the connection is given up, and cleans up after
// itself as soon as the token is pulled.
func TestTouchNeverComes(t *testing.T) {
	before := runtime.NumGoroutine()
	var asked atomic.Int32
	r, _, first := born(t, within(t, 5*time.Second), pivtoken.Options{Touch: func(ctx context.Context) bool {
		if asked.Add(1) > 1 { // the first was for the agreement, when it was made
			<-ctx.Done()
			return false
		}
		return true
	}})
	first.Close()
	token, k := holderKey(t, within(t, 5*time.Second), r)
	start := time.Now()
	_, err := k.Sign(within(t, 200*time.Millisecond), make([]byte, 32))
	wants(t, "no touch", err, hsm.ErrTouchTimeout)
	wants(t, "no touch", err, context.DeadlineExceeded)
	if d := time.Since(start); d > 5*time.Second {
		t.Errorf("took %v", d)
	}
	if _, err := k.Sign(within(t, time.Second), make([]byte, 32)); !errors.Is(err, hsm.ErrUnavailable) {
		t.Errorf("on an abandoned connection: %v", err)
	}
	_, err = piv.Open(within(t, 500*time.Millisecond), r.Name())
	wants(t, "while it waits for a finger", err, hsm.ErrBusy)
	if err := token.Close(); err != nil {
		t.Error(err)
	}

	r.Pull()
	fresh := pivtoken.New(pivtoken.Options{Root: authority})
	r.Insert(fresh)
	open(t, within(t, 5*time.Second), r.Name()).Close()
	settles(t, before)
}

// settles waits for goroutines that were left behind to end.
func settles(t *testing.T, before int) {
	t.Helper()
	for end := time.Now().Add(5 * time.Second); runtime.NumGoroutine() > before+2; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			b := make([]byte, 1<<16)
			t.Fatalf("%d goroutines, %d before\n%s", runtime.NumGoroutine(), before, b[:runtime.Stack(b, true)])
		}
	}
}

// A token that goes silent at any command costs no more than the caller's
// patience.
func TestSilentToken(t *testing.T) {
	before := runtime.NumGoroutine()
	t.Run("instructions", func(t *testing.T) {
		for _, ins := range []byte{0xA4, 0xFD, 0xF7, 0xCB, 0xF8, 0x24, 0x47, 0xF9, 0xDB, 0xFF} {
			t.Run(fmt.Sprintf("%02X", ins), func(t *testing.T) {
				t.Parallel()
				r := bench(t)
				r.Insert(altered{pivtoken.New(pivtoken.Options{Root: authority}), func(ctx context.Context, c []byte) []byte {
					if c[1] == ins {
						<-ctx.Done()
					}
					return nil
				}})
				start := time.Now()
				_, err := enroll(within(t, 300*time.Millisecond), r.Name())
				wants(t, "silent", err, context.DeadlineExceeded)
				if d := time.Since(start); d > 5*time.Second {
					t.Errorf("took %v", d)
				}
				r.Insert(pivtoken.New(pivtoken.Options{Root: authority}))
				if _, err := enroll(within(t, 10*time.Second), r.Name()); err != nil {
					t.Errorf("with another token: %v", err)
				}
				r.Remove()
			})
		}
	})
	settles(t, before)
}

func TestBusy(t *testing.T) {
	r, _ := insert(t, pivtoken.Options{})
	for name, share := range map[string]scard.ShareMode{"exclusive": scard.ShareExclusive, "in a transaction": scard.ShareShared, "shared": scard.ShareShared} {
		t.Run(name, func(t *testing.T) {
			other, err := scard.EstablishContext()
			if err != nil {
				t.Fatal(err)
			}
			defer other.Release()
			card, err := other.Connect(r.Name(), share, scard.ProtocolAny)
			if err != nil {
				t.Fatal(err)
			}
			if name == "in a transaction" {
				if err := card.BeginTransaction(); err != nil {
					t.Fatal(err)
				}
			}
			_, err = piv.Open(within(t, 500*time.Millisecond), r.Name())
			wants(t, "held", err, hsm.ErrBusy)
			go func() {
				time.Sleep(100 * time.Millisecond)
				card.Disconnect(scard.LeaveCard)
			}()
			open(t, within(t, 5*time.Second), r.Name()).Close() // waits for a moment
		})
	}
}

// A token that says nothing of its management key is not written to.
func TestTokenThatSaysNothingOfItsManagementKey(t *testing.T) {
	r := bench(t)
	r.Insert(altered{pivtoken.New(pivtoken.Options{Root: authority}), silentOfAdmin})
	count := counting(r)
	ctx := within(t, 10*time.Second)
	token := open(t, ctx, r.Name())
	if token.Info().FactoryNew {
		t.Error("factory-new without knowing")
	}
	_, err := token.GenerateKeys(ctx, text(citizenPIN), piv.KeySpec{}, nil)
	wants(t, "generate", err, hsm.ErrUnsupported)
	wants(t, "lock", token.Lock(ctx, text(citizenPIN), admin), hsm.ErrUnsupported)
	wants(t, "ready", token.Ready(), hsm.ErrFactoryCredentials)
	if count(generate)+count(putData)+count(0xFF)+count(0x24) != 0 {
		t.Error("something was written")
	}
}

// silentOfAdmin answers GET METADATA for 9B with bare 9000, as some cards do.
func silentOfAdmin(_ context.Context, c []byte) []byte {
	if c[1] == 0xF7 && c[3] == 0x9B {
		return []byte{0x90, 0}
	}
	return nil
}

// The token is another one when piv-go gets it than when it was probed.
func TestTokenSwappedUnderOurHands(t *testing.T) {
	var asked atomic.Int32
	r := bench(t)
	r.Insert(altered{pivtoken.New(pivtoken.Options{Root: authority}), func(_ context.Context, c []byte) []byte {
		if c[1] == 0xF8 {
			if asked.Add(1) > 1 {
				return []byte{0, 0, 0, 42, 0x90, 0}
			}
		}
		return nil
	}})
	_, err := piv.Open(within(t, 5*time.Second), r.Name())
	wants(t, "swapped", err, hsm.ErrRemoved)
	exclusive(t, r)
}

// Nothing stays unlocked for the next program.
func TestCloseLocks(t *testing.T) {
	r, _ := officerCard(t)
	ctx := within(t, 5*time.Second)
	token := open(t, ctx, r.Name())
	if err := token.VerifyPIN(ctx, text(officerPIN)); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := token.Close(); err != nil {
			t.Error(err)
		}
	}
	wants(t, "closed", token.VerifyPIN(ctx, text(officerPIN)), piv.ErrClosed)

	other, err := scard.EstablishContext()
	if err != nil {
		t.Fatal(err)
	}
	defer other.Release()
	card, err := other.Connect(r.Name(), scard.ShareShared, scard.ProtocolAny)
	if err != nil {
		t.Fatal(err)
	}
	defer card.Disconnect(scard.LeaveCard)
	for _, command := range [][]byte{{0, 0xA4, 4, 0, 5, 0xA0, 0, 0, 3, 8}, {0, 0x20, 0, 0x80}} {
		answer, err := card.Transmit(command)
		if err != nil {
			t.Fatal(err)
		}
		if command[1] == 0x20 && !bytes.Equal(answer, []byte{0x63, 0xC3}) {
			t.Errorf("PIN status %X", answer)
		}
	}
}

// No error and no printed value holds a PIN, a PUK or a key.
func TestNothingPrintsSecrets(t *testing.T) {
	r, _ := officerCard(t)
	ctx := within(t, 5*time.Second)
	token := open(t, ctx, r.Name())
	k, err := token.Key(ctx, piv.Signature, text("424242"))
	if err != nil {
		t.Fatal(err)
	}
	_, signErr := k.Sign(ctx, make([]byte, 32))
	out := fmt.Sprintf("%v %+v %#v %+v %+v", signErr, token, token, k, admin)
	for _, s := range []string{"424242", "31415926", string(admin.ManagementKey.Reveal())} {
		if strings.Contains(out, s) || strings.Contains(out, fmt.Sprintf("%x", s)) {
			t.Errorf("prints %q", s)
		}
	}
}
