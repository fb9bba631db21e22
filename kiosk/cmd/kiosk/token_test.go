package main

import (
	"bytes"
	"context"
	"crypto/hpke"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ebfe/scard"

	"enrollkiosk/kiosk/station"
	"enrollkiosk/registry/policy"
	"enrollkiosk/registry/record"
	"enrollkiosk/simulators/pcscd"
	"enrollkiosk/simulators/pivtoken"
)

const tokenPIN = "271828"

// bureau is a service desk: a reader for tokens, and a policy that trusts their
// maker. The authority's key is the test's.
type bureau struct {
	t      *testing.T
	s      setting
	reader *pcscd.Reader
	maker  *pivtoken.Authority
	key    record.AuthorityPrivateKey
}

func newBureau(t *testing.T) bureau {
	t.Helper()
	b := bureau{t: t}
	var err error
	if b.maker, err = pivtoken.NewAuthority([]byte("bureau")); err != nil {
		t.Fatal(err)
	}
	b.s = newSettingWith(t, "/dev/none", func(p *policy.Policy, key record.AuthorityPrivateKey) {
		p.PIVRoots = []policy.Root{{Certificate: b.maker.Root(), Class: record.Test}}
		b.key = key
	})
	if b.reader, err = listen(t).AddReader("Yubico YubiKey OTP+FIDO+CCID 00 00"); err != nil {
		t.Fatal(err)
	}
	return b
}

func (b bureau) insert(o pivtoken.Options) *pivtoken.Token {
	if o.Root == nil {
		o.Root = b.maker
	}
	token := pivtoken.New(o)
	b.reader.Insert(token)
	return token
}

// sits runs a token command in a terminal.
func (b bureau) sits(args ...string) *seat {
	b.t.Helper()
	return sitBefore(b.t, program(b.t, b.s.config, append([]string{"token"}, args...)...))
}

func (b bureau) leaves(s *seat, code int, secrets ...string) {
	b.t.Helper()
	if got := s.leaves(); got != code {
		b.t.Errorf("exit code %d, want %d:\n%s", got, code, s.transcript())
	}
	for _, secret := range secrets {
		if strings.Contains(s.transcript(), secret) {
			b.t.Errorf("the terminal shows %q", secret)
		}
	}
}

func TestTokenCommands(t *testing.T) {
	b := newBureau(t)
	wants(t, exitHardware, "insert it", b.s.config, "token", "show")
	card := b.insert(pivtoken.Options{})
	says(t, wants(t, exitDone, "", b.s.config, "token", "show"), "serial      10000001", "firmware    5.7.4", "state       factory-new",
		"PIN         3 of 3 tries left, factory", "management  aes-192, factory", "form        USB-A keychain", "agrees      yes")
	says(t, wants(t, exitDone, "", "/none", "token", "show", "--reader", "YubiKey"), "factory-new")
	wants(t, exitUsage, "/none", "/none", "token", "show")

	dir := t.TempDir()
	s := b.sits("provision", "--dir", dir)
	for _, c := range [][2]string{{"12345", "digits"}, {"123456", "harder to guess"}, {"121212", "harder to guess"}, {tokenPIN, "The same again"}, {"271829", ""}} {
		s.sees(": ")
		s.types(c[0] + "\n")
		s.sees(c[1])
	}
	for _, prompt := range []string{"New PIN", "The same again"} {
		s.sees(prompt)
		s.types(tokenPIN + "\n")
	}
	s.sees("Touch the token", "locking", "Token 10000001 is ready")
	b.leaves(s, exitDone, tokenPIN, "271829")
	b.opens(filepath.Join(dir, "token-10000001.json"), card)
	says(t, wants(t, exitDone, "", b.s.config, "token", "show"), "state       ready", "PIN         3 of 3 tries left, replaced",
		"slot 9A     p-256, PIN once, touch always, generated", "slot 9D     p-256, PIN once, touch cached, generated", "attestation verified, root of class test", "CHUID")
	says(t, wants(t, exitDone, "", "/none", "token", "show", "--reader", "YubiKey"), "not verified: no roots")
	r := wants(t, exitDone, "", b.s.config, "token", "show", "--json")
	var d struct {
		Serial uint32
		Ready  bool
		Slots  []struct{ Slot, Attested string }
	}
	if err := json.Unmarshal([]byte(r.out), &d); err != nil || d.Serial != 10000001 || !d.Ready || len(d.Slots) != 3 || !strings.HasPrefix(d.Slots[0].Attested, "verified") {
		t.Errorf("%v %+v", err, d)
	}

	wants(t, exitRefused, "kiosk token reset", b.s.config, "token", "provision") // in use, before a PIN is asked for

	const next = "161803"
	change := func(code int, old string, more ...string) *seat {
		t.Helper()
		s := b.sits(append([]string{"change-pin"}, more...)...)
		for _, c := range [][2]string{{"Present PIN", old}, {"New PIN", next}, {"The same again", next}} {
			s.sees(c[0])
			s.types(c[1] + "\n")
		}
		b.leaves(s, code, old, next)
		return s
	}
	change(exitRefused, "999999").sees("2 tries left")
	change(exitDone, tokenPIN).sees("was changed")
	change(exitRefused, tokenPIN).sees("2 tries left")
	change(exitRefused, tokenPIN).sees("1 tries left")
	wants(t, exitRefused, "--insist", b.s.config, "token", "change-pin")
	change(exitRefused, "999999", "--insist").sees("blocked")

	wants(t, exitUsage, "--serial is missing", b.s.config, "token", "reset")
	wants(t, exitRefused, "serial number 10000001", b.s.config, "token", "reset", "--serial", "42")
	reset := func(code int, typed string) *seat {
		t.Helper()
		s := b.sits("reset", "--serial", "10000001")
		s.sees("loses its keys", "to confirm")
		s.types(typed + "\n")
		b.leaves(s, code)
		return s
	}
	reset(exitRefused, "yes").sees("nothing was done")
	says(t, wants(t, exitDone, "", b.s.config, "token", "show"), "0 of 3 tries left")
	reset(exitDone, "10000001").sees("factory-new")
	says(t, wants(t, exitDone, "", b.s.config, "token", "show"), "state       factory-new")
}

// opens the token's file as the authority would.
func (b bureau) opens(file string, card *pivtoken.Token) {
	b.t.Helper()
	raw, err := os.ReadFile(file)
	if err != nil {
		b.t.Fatal(err)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		b.t.Errorf("%v %v", info.Mode(), err)
	}
	var f station.TokenFile
	if err := json.Unmarshal(raw, &f); err != nil || f.Version != 1 || f.Serial != 10000001 || f.Admin.Key != b.key.Public().ID {
		b.t.Fatalf("%v %+v", err, f)
	}
	seed, err := b.key.Bytes()
	if err != nil {
		b.t.Fatal(err)
	}
	private, err := hpke.MLKEM768X25519().NewPrivateKey(seed.Reveal())
	if err != nil {
		b.t.Fatal(err)
	}
	open := func(serial uint32) ([]byte, error) {
		recipient, err := hpke.NewRecipient(f.Admin.Enc, private, hpke.HKDFSHA256(), hpke.AES256GCM(), []byte("enrollkiosk/token/v1"))
		if err != nil {
			return nil, err
		}
		return recipient.Open(append(binary.BigEndian.AppendUint32(nil, serial), f.Authentication.Public...), f.Admin.Ciphertext)
	}
	if _, err := open(f.Serial + 1); err == nil {
		b.t.Error("opens for another token")
	}
	plain, err := open(f.Serial)
	var admin struct {
		PUK           []byte `json:"puk"`
		ManagementKey []byte `json:"management_key"`
	}
	if err != nil || json.Unmarshal(plain, &admin) != nil || len(admin.PUK) != 8 || len(admin.ManagementKey) != 24 {
		b.t.Fatalf("%v", err)
	}
	if bytes.Contains(raw, admin.PUK) {
		b.t.Error("the file shows the PUK")
	}
	// The PUK is the token's: it sets a PIN, and sets the old one again.
	card.Transmit(context.Background(), []byte{0, 0xA4, 4, 0, 5, 0xA0, 0, 0, 3, 8})
	for _, pin := range []string{"999999", tokenPIN} {
		command := append([]byte{0, 0x2C, 0, 0x80, 16}, admin.PUK...)
		if got := card.Transmit(context.Background(), append(command, pin+"\xFF\xFF"...)); string(got) != "\x90\x00" {
			b.t.Errorf("unblock: %X", got)
		}
	}
}

// The sealed file is on the disk before PUK or management key is set, and when
// the token is refused, it goes back to its factory state and the file with it.
func TestTokenProvisionOrderAndRefusals(t *testing.T) {
	b := newBureau(t)
	dir := t.TempDir()
	file := filepath.Join(dir, "token-10000001.json")
	provision := func(code int, text string) {
		t.Helper()
		s := b.sits("provision", "--dir", dir)
		for _, prompt := range []string{"New PIN", "The same again"} {
			s.sees(prompt)
			s.types(tokenPIN + "\n")
		}
		s.sees(text)
		b.leaves(s, code, tokenPIN)
	}
	for fault, text := range map[pivtoken.Fault]string{pivtoken.ForeignRoot: "attestation refused", pivtoken.CopiedChain: "attestation refused",
		pivtoken.SoftwareLeaf: "attestation refused", pivtoken.SoftwareKey: "attestation refused", pivtoken.LateAgreement: "cannot do this"} {
		b.insert(pivtoken.Options{Faults: fault})
		provision(exitRefused, text)
		says(t, wants(t, exitDone, "", b.s.config, "token", "show"), "state       factory-new")
		if _, err := os.Stat(file); err == nil {
			t.Errorf("%v: a file is left", fault)
		}
	}
	for fault, text := range map[pivtoken.Fault]string{pivtoken.NoAttestation: "cannot prove", pivtoken.NoAgreement: "cannot do this",
		pivtoken.Provisioned: "used before", pivtoken.PINBlocked: "PIN is blocked", pivtoken.LikeNitrokey: "cannot prove", pivtoken.LikePivApplet: "cannot prove"} {
		b.insert(pivtoken.Options{Faults: fault})
		wants(t, exitRefused, text, b.s.config, "token", "provision", "--dir", dir)
	}

	early := make(chan string, 1)
	b.insert(pivtoken.Options{Observe: func(_ int, c []byte) {
		if c[1] == 0x24 && c[3] == 0x81 || c[1] == 0xFF { // PUK, management key
			if _, err := os.Stat(file); err != nil {
				select {
				case early <- fmt.Sprintf("%02X: %v", c[1], err):
				default:
				}
			}
		}
	}})
	provision(exitDone, "is ready")
	select {
	case what := <-early:
		t.Errorf("set before the file was there: %s", what)
	default:
	}

	// Pulled in the middle, it says what to do.
	pulled := b.insert(pivtoken.Options{})
	b.reader.Trace(func(e pcscd.TraceEvent) {
		if !e.Answered && e.Command[1] == 0xF9 && e.Command[2] == 0x9A {
			b.reader.Pull()
		}
	})
	provision(exitHardware, "taken away")
	b.reader.Trace(nil)
	b.reader.Insert(pulled)
	wants(t, exitRefused, "kiosk token reset", b.s.config, "token", "provision", "--dir", dir)
	says(t, wants(t, exitDone, "", b.s.config, "token", "show"), "begun and not finished")

	// A reset that is interrupted is finished by another one.
	reset := func(code int, text string) {
		t.Helper()
		s := b.sits("reset", "--serial", "10000001")
		s.sees("to confirm")
		s.types("10000001\n")
		s.sees(text)
		b.leaves(s, code)
	}
	b.reader.Trace(func(e pcscd.TraceEvent) {
		if !e.Answered && e.Command[1] == 0x24 && e.Command[3] == 0x81 { // the PIN is blocked, the PUK not yet
			b.reader.Pull()
		}
	})
	reset(exitHardware, "the same command finishes it")
	b.reader.Trace(nil)
	b.reader.Insert(pulled)
	reset(exitDone, "factory-new")
}

// Called off while keys are made, it puts the token back as it was.
func TestTokenProvisionCalledOff(t *testing.T) {
	b := newBureau(t)
	dir := t.TempDir()
	var s *seat
	started := make(chan struct{})
	b.insert(pivtoken.Options{Observe: func(_ int, c []byte) {
		if c[1] == 0x47 && c[3] == 0x9D {
			<-started
			s.cmd.Process.Signal(os.Interrupt)
			time.Sleep(100 * time.Millisecond)
		}
	}})
	s = b.sits("provision", "--dir", dir)
	close(started)
	for _, prompt := range []string{"New PIN", "The same again"} {
		s.sees(prompt)
		s.types(tokenPIN + "\n")
	}
	b.leaves(s, exitInterrupted, tokenPIN)
	says(t, wants(t, exitDone, "", b.s.config, "token", "show"), "state       factory-new")
	if files, err := os.ReadDir(dir); err != nil || len(files) > 0 {
		t.Errorf("%v %v", files, err)
	}
}

// Nobody fights over a token that another program works with.
func TestTokenBusy(t *testing.T) {
	b := newBureau(t)
	b.insert(pivtoken.Options{})
	other, err := scard.EstablishContext()
	if err != nil {
		t.Fatal(err)
	}
	defer other.Release()
	card, err := other.Connect(b.reader.Name(), scard.ShareExclusive, scard.ProtocolAny)
	if err != nil {
		t.Fatal(err)
	}
	defer card.Disconnect(scard.LeaveCard)
	wants(t, exitFailed, "in use by another program", b.s.config, "token", "show")
}
