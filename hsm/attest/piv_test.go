package attest_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/aes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"slices"
	"testing"
	"time"

	"enrollkiosk/hsm"
	"enrollkiosk/hsm/attest"
	"enrollkiosk/simulators/pivtoken"
)

// terminal is the least that has a virtual token generate and attest a key:
// bytes in, bytes out, no driver of ours.
type terminal struct {
	t     testing.TB
	token *pivtoken.Token
}

// send expects success and collects long answers.
func (c terminal) send(ins, p1, p2 byte, data []byte) []byte {
	c.t.Helper()
	command := append([]byte{0, ins, p1, p2, byte(len(data))}, data...)
	if len(data) > 0 {
		command = append(command, 0)
	}
	var out []byte
	for {
		b := c.token.Transmit(context.Background(), command)
		status := b[len(b)-2:]
		out = append(out, b[:len(b)-2]...)
		switch {
		case status[0] == 0x61:
			command = []byte{0, 0xC0, 0, 0, 0}
		case bytes.Equal(status, []byte{0x90, 0}):
			return out
		default:
			c.t.Fatalf("command %02X: status %X", ins, status)
		}
	}
}

// newTerminal authenticates with the factory management key, AES-192.
func newTerminal(t testing.TB, token *pivtoken.Token) terminal {
	t.Helper()
	c := terminal{t, token}
	c.send(0xA4, 4, 0, []byte{0xA0, 0, 0, 3, 8})
	challenge := c.send(0x87, 0x0A, 0x9B, []byte{0x7C, 2, 0x81, 0})[4:]
	block, err := aes.NewCipher([]byte{1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3, 4, 5, 6, 7, 8})
	if err != nil {
		t.Fatal(err)
	}
	block.Encrypt(challenge, challenge)
	c.send(0x87, 0x0A, 0x9B, append([]byte{0x7C, 18, 0x82, 16}, challenge...))
	return c
}

// born has a P-256 key made in a slot and attested.
func (c terminal) born(slot, pin, touch byte) (*ecdsa.PublicKey, hsm.PIVEvidence) {
	c.t.Helper()
	b, e := c.bornAs(0x11, slot, pin, touch)
	public, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), b[len(b)-65:])
	if err != nil {
		c.t.Fatal(err)
	}
	return public, e
}

// bornAs has a key of an algorithm made in a slot and attested; b is the token's
// answer to the first.
func (c terminal) bornAs(algorithm, slot, pin, touch byte) (b []byte, e hsm.PIVEvidence) {
	c.t.Helper()
	b = c.send(0x47, 0, slot, []byte{0xAC, 9, 0x80, 1, algorithm, 0xAA, 1, pin, 0xAB, 1, touch})
	own := c.send(0xCB, 0x3F, 0xFF, []byte{0x5C, 3, 0x5F, 0xFF, 1})
	var object, content asn1.RawValue
	if _, err := asn1.Unmarshal(own, &object); err != nil {
		c.t.Fatal(err)
	}
	if _, err := asn1.Unmarshal(object.Bytes, &content); err != nil {
		c.t.Fatal(err)
	}
	return b, hsm.PIVEvidence{Certificate: c.send(0xF9, slot, 0, nil), Intermediate: content.Bytes}
}

func newToken(a *pivtoken.Authority) *pivtoken.Token { return pivtoken.New(pivtoken.Options{Root: a}) }

const (
	once, always    = 2, 3 // PIN
	touchAlways     = 2
	touchCached     = 3
	never           = 1 // both
	authentication  = 0x9A
	keyManagement   = 0x9D
	defaultSerial   = 10000001
	defaultFirmware = "\x05\x07\x04"
)

func pivAuthority(t testing.TB, seed string) (*pivtoken.Authority, []attest.Root) {
	t.Helper()
	a, err := pivtoken.NewAuthority([]byte(seed))
	if err != nil {
		t.Fatal(err)
	}
	return a, certificates(t, attest.Test, a.Root())
}

func pivExpect(key crypto.PublicKey) attest.PIVExpect {
	return attest.PIVExpect{Slot: authentication, Serial: defaultSerial, Key: key, Minimum: [3]byte{5, 4, 3},
		Revoked: []uint64{1, 2, 1 << 40}, PIN: hsm.PINOnce, Touch: hsm.TouchAlways, At: time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)}
}

func TestVerifyPIV(t *testing.T) {
	authority, roots := pivAuthority(t, "root")
	token := newTerminal(t, pivtoken.New(pivtoken.Options{Root: authority}))
	key, e := token.born(authentication, once, touchAlways)
	p, err := attest.VerifyPIV(e, roots, pivExpect(key))
	if err != nil {
		t.Fatal(err)
	}
	if !p.Valid() || p.Fresh() || p.Where() != attest.PIV || p.Class() != attest.Test || !key.Equal(p.Key()) {
		t.Errorf("proof %+v", p)
	}

	want := pivExpect(key)
	want.Serial, want.AnySerial = 0, true
	if _, err := attest.VerifyPIV(e, roots, want); err != nil {
		t.Errorf("any serial: %v", err)
	}
	want.Revoked = []uint64{defaultSerial}
	p, err = attest.VerifyPIV(e, roots, want)
	refused(t, "any serial but a revoked one", p, err, attest.CheckRevoked)

	key, e = token.born(keyManagement, once, touchCached)
	want = pivExpect(key)
	want.Slot, want.Touch = keyManagement, hsm.TouchCached
	if _, err := attest.VerifyPIV(e, roots, want); err != nil {
		t.Errorf("9D: %v", err)
	}
}

// A genuine YubiKey, and one whose own certificate does not say that it may
// issue: public data of the tokens' maker and of the library that drives them.
func TestVerifyGenuineYubiKeys(t *testing.T) {
	read := func(name string) (key crypto.PublicKey, e hsm.PIVEvidence, roots []attest.Root) {
		b, err := os.ReadFile("testdata/yubico/" + name)
		if err != nil {
			t.Fatal(err)
		}
		var der [][]byte
		for block, rest := pem.Decode(b); block != nil; block, rest = pem.Decode(rest) {
			der = append(der, block.Bytes)
		}
		leaf := certificates(t, attest.Production, der[0])[0].Certificate
		return leaf.PublicKey, hsm.PIVEvidence{Certificate: der[0], Intermediate: der[1]}, certificates(t, attest.Production, der[2])
	}
	key, e, roots := read("firmware-5.4.3.pem")
	want := attest.PIVExpect{Slot: authentication, Serial: 0xF00F14, Key: key, PIN: hsm.PINOnce, Touch: hsm.TouchNever, Minimum: [3]byte{5, 4, 3}, At: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
	p, err := attest.VerifyPIV(e, roots, want)
	if err != nil || p.Class() != attest.Production {
		t.Errorf("firmware 5.4.3: %v", err)
	}
	want.Touch = hsm.TouchAlways
	p, err = attest.VerifyPIV(e, roots, want)
	refused(t, "no touch", p, err, attest.CheckTouchPolicy)
	want.Touch, want.Minimum = hsm.TouchNever, [3]byte{5, 7, 0}
	p, err = attest.VerifyPIV(e, roots, want)
	refused(t, "older firmware", p, err, attest.CheckFirmware)

	key, old, oldRoots := read("firmware-4.3.7.pem")
	want = attest.PIVExpect{Slot: authentication, AnySerial: true, Key: key, PIN: hsm.PINOnce, Touch: hsm.TouchNever, At: want.At}
	p, err = attest.VerifyPIV(old, oldRoots, want)
	refused(t, "firmware 4.3.7", p, err, attest.CheckLeaf)
	p, err = attest.VerifyPIV(hsm.PIVEvidence{Certificate: e.Certificate, Intermediate: old.Intermediate}, slices.Concat(roots, oldRoots), want)
	refused(t, "one token's certificate, another's statement", p, err, attest.CheckLeaf)
}

// generated reads the token's own answer, not its attestation.
func generated(t *testing.T, algorithm byte, b []byte) crypto.PublicKey {
	t.Helper()
	switch algorithm {
	case 0x14:
		k, err := ecdsa.ParseUncompressedPublicKey(elliptic.P384(), b[len(b)-97:])
		if err != nil {
			t.Fatal(err)
		}
		return k
	case 0xE0:
		return ed25519.PublicKey(b[len(b)-32:])
	case 0x07: // 7F49 82.... 81 82 0100 n, 82 03 010001
		return &rsa.PublicKey{N: new(big.Int).SetBytes(b[len(b)-5-256 : len(b)-5]), E: 65537}
	}
	k, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), b[len(b)-65:])
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// Every algorithm; of the evidence of each, every bit.
func TestPIVEveryByteCounts(t *testing.T) {
	authority, roots := pivAuthority(t, "root")
	for name, algorithm := range map[string]byte{"P-256": 0x11, "P-384": 0x14, "Ed25519": 0xE0, "RSA-2048": 0x07} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			answer, genuine := newTerminal(t, newToken(authority)).bornAs(algorithm, authentication, once, touchAlways)
			key := generated(t, algorithm, answer)
			p, err := attest.VerifyPIV(genuine, roots, pivExpect(key))
			if err != nil || !p.Key().(interface{ Equal(crypto.PublicKey) bool }).Equal(key) {
				t.Fatal(err)
			}
			everyByte(t, genuine, roots, pivExpect(key))
		})
	}
}

func everyByte(t *testing.T, genuine hsm.PIVEvidence, roots []attest.Root, want attest.PIVExpect) {
	for name, member := range map[string]func(*hsm.PIVEvidence) *[]byte{
		"certificate":  func(e *hsm.PIVEvidence) *[]byte { return &e.Certificate },
		"intermediate": func(e *hsm.PIVEvidence) *[]byte { return &e.Intermediate },
	} {
		original := *member(&genuine)
		with := func(b []byte) hsm.PIVEvidence {
			e := genuine
			*member(&e) = b
			return e
		}
		for i := range original {
			for _, mask := range []byte{0x01, 0x02, 0x04, 0x08, 0x10, 0x20, 0x40, 0x80, 0xFF} {
				changed := bytes.Clone(original)
				changed[i] ^= mask
				p, err := attest.VerifyPIV(with(changed), roots, want)
				refused(t, fmt.Sprintf("%s, byte %d", name, i), p, err)
			}
			p, err := attest.VerifyPIV(with(original[:i]), roots, want)
			refused(t, name+" cut", p, err, attest.CheckForm)
		}
		for _, tail := range [][]byte{{0}, {0xFF}, original} {
			p, err := attest.VerifyPIV(with(slices.Concat(original, tail)), roots, want)
			refused(t, name+" with a tail", p, err, attest.CheckForm)
		}
		// Bytes behind the signature, inside the outer sequence: no signature
		// covers them and crypto/x509 does not look.
		inner := slices.Concat(original[4:], []byte{5, 0})
		stretched := slices.Concat([]byte{0x30, 0x82, byte(len(inner) >> 8), byte(len(inner))}, inner)
		if _, err := x509.ParseCertificate(stretched); err != nil {
			t.Errorf("this test no longer tests anything: %v", err)
		}
		p, err := attest.VerifyPIV(with(stretched), roots, want)
		refused(t, name+" stretched", p, err, attest.CheckForm)
	}
}

// What tokens with faults, and people with two tokens, can show.
func TestPIVEvidenceOfOtherThings(t *testing.T) {
	authority, roots := pivAuthority(t, "root")
	_, otherRoots := pivAuthority(t, "another root")
	key, genuine := newTerminal(t, pivtoken.New(pivtoken.Options{Root: authority})).born(authentication, once, touchAlways)
	want := pivExpect(key)

	second := newTerminal(t, pivtoken.New(pivtoken.Options{Root: authority, Serial: 42}))
	secondKey, secondEvidence := second.born(authentication, once, touchAlways)
	p, err := attest.VerifyPIV(secondEvidence, roots, pivExpect(secondKey))
	refused(t, "another token", p, err, attest.CheckSerial)
	p, err = attest.VerifyPIV(hsm.PIVEvidence{Certificate: genuine.Certificate, Intermediate: secondEvidence.Intermediate}, roots, want)
	refused(t, "the other token's certificate", p, err, attest.CheckLeaf)
	p, err = attest.VerifyPIV(hsm.PIVEvidence{Certificate: genuine.Intermediate, Intermediate: genuine.Certificate}, roots, want)
	refused(t, "the two exchanged", p, err, attest.CheckChain)
	p, err = attest.VerifyPIV(hsm.PIVEvidence{Certificate: genuine.Intermediate, Intermediate: authority.Root()}, roots, want)
	refused(t, "the token's certificate as statement", p, err, attest.CheckLeaf)
	p, err = attest.VerifyPIV(genuine, otherRoots, want)
	refused(t, "another root", p, err, attest.CheckChain)
	p, err = attest.VerifyPIV(genuine, nil, want)
	refused(t, "no root", p, err, attest.CheckChain)

	software, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p, err = attest.VerifyPIV(genuine, roots, pivExpect(software.Public()))
	refused(t, "a software key behind a copied attestation", p, err, attest.CheckKey)

	for fault, check := range map[pivtoken.Fault]attest.Check{
		pivtoken.ForeignRoot: attest.CheckChain, pivtoken.WrongSlot: attest.CheckSlot, pivtoken.SoftwareKey: attest.CheckKey,
	} {
		key, e := newTerminal(t, pivtoken.New(pivtoken.Options{Root: authority, Faults: fault})).born(authentication, once, touchAlways)
		p, err := attest.VerifyPIV(e, roots, pivExpect(key))
		refused(t, fault.String(), p, err, check)
	}

	for name, c := range map[string]struct {
		slot, pin, touch byte
		leastPIN         hsm.PINPolicy
		least            hsm.TouchPolicy
		check            attest.Check // none: accepted
	}{
		"without PIN":                 {0x9A, never, touchAlways, hsm.PINOnce, hsm.TouchAlways, attest.CheckPINPolicy},
		"PIN always":                  {0x9A, always, touchAlways, hsm.PINOnce, hsm.TouchAlways, ""},
		"PIN once, always asked":      {0x9A, once, touchAlways, hsm.PINAlways, hsm.TouchAlways, attest.CheckPINPolicy},
		"PIN always, as asked":        {0x9A, always, touchAlways, hsm.PINAlways, hsm.TouchAlways, ""},
		"touch cached, always asked":  {0x9A, once, touchCached, hsm.PINOnce, hsm.TouchAlways, attest.CheckTouchPolicy},
		"no touch, always asked":      {0x9A, once, never, hsm.PINOnce, hsm.TouchAlways, attest.CheckTouchPolicy},
		"no touch, none asked":        {0x9A, once, never, hsm.PINOnce, hsm.TouchNever, ""},
		"touch always, cached asked":  {0x9D, once, touchAlways, hsm.PINOnce, hsm.TouchCached, ""},
		"no touch, cached asked":      {0x9D, once, never, hsm.PINOnce, hsm.TouchCached, attest.CheckTouchPolicy},
		"touch cached, not enough":    {0x9D, once, touchCached, hsm.PINOnce, hsm.TouchAlways, attest.CheckTouchPolicy},
		"retired":                     {0x82, once, touchAlways, hsm.PINOnce, hsm.TouchAlways, ""},
		"the last retired":            {0x95, once, touchCached, hsm.PINOnce, hsm.TouchCached, ""},
		"retired, not enough touches": {0x83, once, never, hsm.PINOnce, hsm.TouchCached, attest.CheckTouchPolicy},
	} {
		key, e := second.born(c.slot, c.pin, c.touch)
		want := pivExpect(key)
		want.Slot, want.Serial, want.PIN, want.Touch = c.slot, 42, c.leastPIN, c.least
		p, err := attest.VerifyPIV(e, roots, want)
		if c.check != "" {
			refused(t, name, p, err, c.check)
		} else if err != nil || !p.Valid() {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestPIVExpectations(t *testing.T) {
	authority, roots := pivAuthority(t, "root")
	key, e := newTerminal(t, pivtoken.New(pivtoken.Options{Root: authority})).born(authentication, once, touchAlways)
	p384, _ := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	p521, _ := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	for name, c := range map[string]struct {
		change func(*attest.PIVExpect)
		check  attest.Check
	}{
		"nothing":       {func(w *attest.PIVExpect) { *w = attest.PIVExpect{} }, attest.CheckExpectation},
		"no key":        {func(w *attest.PIVExpect) { w.Key = nil }, attest.CheckExpectation},
		"nil key":       {func(w *attest.PIVExpect) { w.Key = (*ecdsa.PublicKey)(nil) }, attest.CheckExpectation},
		"P-521":         {func(w *attest.PIVExpect) { w.Key = p521.Public() }, attest.CheckExpectation},
		"another curve": {func(w *attest.PIVExpect) { w.Key = p384.Public() }, attest.CheckKey},
		"no PIN policy": {func(w *attest.PIVExpect) { w.PIN = "" }, attest.CheckExpectation},
		"PIN policy":    {func(w *attest.PIVExpect) { w.PIN = "never" }, attest.CheckExpectation},
		"no touch":      {func(w *attest.PIVExpect) { w.Touch = "" }, attest.CheckExpectation},
		"slot 81":       {func(w *attest.PIVExpect) { w.Slot = 0x81 }, attest.CheckExpectation},
		"slot 96":       {func(w *attest.PIVExpect) { w.Slot = 0x96 }, attest.CheckExpectation},
		"slot F9":       {func(w *attest.PIVExpect) { w.Slot = 0xF9 }, attest.CheckExpectation},
		"slot 9B":       {func(w *attest.PIVExpect) { w.Slot = 0x9B }, attest.CheckExpectation},
		"no serial":     {func(w *attest.PIVExpect) { w.Serial = 0 }, attest.CheckExpectation},
		"no time":       {func(w *attest.PIVExpect) { w.At = time.Time{} }, attest.CheckExpectation},
		"another slot":  {func(w *attest.PIVExpect) { w.Slot = 0x9C }, attest.CheckSlot},
		"newer":         {func(w *attest.PIVExpect) { w.Minimum = [3]byte{5, 7, 5} }, attest.CheckFirmware},
		"much newer":    {func(w *attest.PIVExpect) { w.Minimum = [3]byte{6, 0, 0} }, attest.CheckFirmware},
		"revoked":       {func(w *attest.PIVExpect) { w.Revoked = []uint64{9, defaultSerial} }, attest.CheckRevoked},
		"before it was": {func(w *attest.PIVExpect) { w.At = time.Date(2019, 1, 1, 0, 0, 0, 0, time.UTC) }, attest.CheckChain},
		"after it was":  {func(w *attest.PIVExpect) { w.At = time.Date(2051, 1, 1, 0, 0, 0, 0, time.UTC) }, attest.CheckChain},
	} {
		want := pivExpect(key)
		c.change(&want)
		p, err := attest.VerifyPIV(e, roots, want)
		refused(t, name, p, err, c.check)
	}
}

// maker issues whatever a test wants, under a root of its own.
type maker struct {
	root, own       *x509.Certificate
	rootKey, ownKey *ecdsa.PrivateKey
}

func newMaker(t testing.TB, change func(own *x509.Certificate)) maker {
	t.Helper()
	var m maker
	for _, k := range []**ecdsa.PrivateKey{&m.rootKey, &m.ownKey} {
		var err error
		if *k, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
			t.Fatal(err)
		}
	}
	ca := func(name string) *x509.Certificate {
		return &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
			KeyUsage: x509.KeyUsageCertSign, NotBefore: time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC), NotAfter: time.Date(2040, 1, 1, 0, 0, 0, 0, time.UTC)}
	}
	root := ca("maker")
	m.root = m.issue(t, root, root, m.rootKey, m.rootKey)
	own := ca("token")
	change(own)
	m.own = m.issue(t, own, m.root, m.ownKey, m.rootKey)
	return m
}

func (m maker) issue(t testing.TB, c, parent *x509.Certificate, key, by *ecdsa.PrivateKey) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, c, parent, key.Public(), by)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func yubico(n int, value ...byte) pkix.Extension {
	return pkix.Extension{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 41482, 3, n}, Value: value}
}

// TestPIVProfile makes statements that are each wrong in one thing.
func TestPIVProfile(t *testing.T) {
	as := func(change func(*x509.Certificate)) func(own, leaf *x509.Certificate) {
		return func(_, leaf *x509.Certificate) { change(leaf) }
	}
	own := func(change func(*x509.Certificate)) func(own, leaf *x509.Certificate) {
		return func(own, _ *x509.Certificate) { change(own) }
	}
	drop := func(n int) func(own, leaf *x509.Certificate) {
		return as(func(c *x509.Certificate) {
			c.ExtraExtensions = slices.DeleteFunc(c.ExtraExtensions, func(x pkix.Extension) bool { return x.Id.Equal(yubico(n).Id) })
		})
	}
	set := func(x pkix.Extension) func(own, leaf *x509.Certificate) {
		return as(func(c *x509.Certificate) {
			c.ExtraExtensions = append(slices.DeleteFunc(c.ExtraExtensions, func(o pkix.Extension) bool { return o.Id.Equal(x.Id) }), x)
		})
	}
	for name, c := range map[string]struct {
		change func(own, leaf *x509.Certificate)
		check  attest.Check // none: accepted
	}{
		"good":                     {as(func(*x509.Certificate) {}), ""},
		"FIPS and CSPN":            {as(func(c *x509.Certificate) { c.ExtraExtensions = append(c.ExtraExtensions, yubico(10, 1), yubico(11, 1)) }), ""},
		"key usage":                {as(func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageDigitalSignature }), ""},
		"no firmware":              {drop(3), attest.CheckStatement},
		"no serial":                {drop(7), attest.CheckStatement},
		"no policy":                {drop(8), attest.CheckStatement},
		"no form factor":           {drop(9), attest.CheckStatement},
		"long firmware":            {set(yubico(3, 5, 7, 4, 0)), attest.CheckStatement},
		"long policy":              {set(yubico(8, 2, 2, 2)), attest.CheckStatement},
		"long form factor":         {set(yubico(9, 1, 1)), attest.CheckStatement},
		"serial with a tail":       {set(yubico(7, 2, 1, 42, 0)), attest.CheckStatement},
		"serial not shortest":      {set(yubico(7, 2, 2, 0, 42)), attest.CheckStatement},
		"serial negative":          {set(yubico(7, 2, 1, 0xAA)), attest.CheckStatement},
		"serial zero":              {set(yubico(7, 2, 1, 0)), attest.CheckStatement},
		"serial of 33 bits":        {set(yubico(7, 2, 5, 1, 0, 0, 0, 42)), attest.CheckStatement},
		"serial as bytes":          {set(yubico(7, 0, 0, 0, 42)), attest.CheckStatement},
		"unknown statement":        {set(yubico(12, 1)), attest.CheckStatement},
		"unknown extension":        {set(pkix.Extension{Id: asn1.ObjectIdentifier{1, 2, 3}, Value: []byte{5, 0}}), attest.CheckStatement},
		"unknown critical":         {set(pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 99}, Critical: true, Value: []byte{5, 0}}), attest.CheckStatement},
		"critical serial":          {set(pkix.Extension{Id: yubico(7).Id, Critical: true, Value: []byte{2, 1, 42}}), attest.CheckStatement},
		"biometric PIN policy":     {set(yubico(8, 4, 2)), attest.CheckPINPolicy},
		"unknown PIN policy":       {set(yubico(8, 0, 2)), attest.CheckPINPolicy},
		"unknown touch policy":     {set(yubico(8, 2, 4)), attest.CheckTouchPolicy},
		"form factor unknown":      {set(yubico(9, 0)), attest.CheckFormFactor},
		"slot in capitals":         {as(func(c *x509.Certificate) { c.Subject.CommonName = "YubiKey PIV Attestation 9A" }), attest.CheckSlot},
		"slot with a space":        {as(func(c *x509.Certificate) { c.Subject.CommonName += " " }), attest.CheckSlot},
		"two names":                {as(func(c *x509.Certificate) { c.Subject.Organization = []string{"x"} }), attest.CheckSlot},
		"a CA":                     {as(func(c *x509.Certificate) { c.IsCA, c.BasicConstraintsValid = true, true }), attest.CheckLeaf},
		"not yet valid":            {as(func(c *x509.Certificate) { c.NotBefore = time.Date(2031, 1, 1, 0, 0, 0, 0, time.UTC) }), attest.CheckLeaf},
		"expired":                  {as(func(c *x509.Certificate) { c.NotAfter = time.Date(2029, 1, 1, 0, 0, 0, 0, time.UTC) }), attest.CheckLeaf},
		"token may not issue":      {own(func(c *x509.Certificate) { c.IsCA = false }), attest.CheckLeaf},
		"token says nothing of it": {own(func(c *x509.Certificate) { c.IsCA, c.BasicConstraintsValid = false, false }), attest.CheckLeaf},
		"token has another usage":  {own(func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageDigitalSignature }), attest.CheckLeaf},
		"token expired":            {own(func(c *x509.Certificate) { c.NotAfter = time.Date(2029, 1, 1, 0, 0, 0, 0, time.UTC) }), attest.CheckChain},
		"two firmwares":            {own(func(c *x509.Certificate) { c.ExtraExtensions = []pkix.Extension{yubico(3, 5, 7, 3)} }), attest.CheckFirmware},
		"too long": {as(func(c *x509.Certificate) {
			c.ExtraExtensions = append(c.ExtraExtensions, yubico(10, make([]byte, 3000)...))
		}), attest.CheckForm},
	} {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		leaf := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "YubiKey PIV Attestation 9a"},
			NotBefore: time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC), NotAfter: time.Date(2040, 1, 1, 0, 0, 0, 0, time.UTC),
			ExtraExtensions: []pkix.Extension{yubico(3, []byte(defaultFirmware)...), yubico(7, 2, 1, 42), yubico(8, once, touchAlways), yubico(9, 1)}}
		m := newMaker(t, func(own *x509.Certificate) { c.change(own, leaf) })
		cert := m.issue(t, leaf, m.own, key, m.ownKey)
		want := pivExpect(key.Public())
		want.Serial = 42
		p, err := attest.VerifyPIV(hsm.PIVEvidence{Certificate: cert.Raw, Intermediate: m.own.Raw}, certificates(t, attest.Production, m.root.Raw), want)
		if c.check != "" {
			refused(t, name, p, err, c.check)
		} else if err != nil || p.Class() != attest.Production {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A statement signed by the token's key under another issuer's name.
func TestPIVIssuerOfAnotherName(t *testing.T) {
	m := newMaker(t, func(*x509.Certificate) {})
	key, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	leaf := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "YubiKey PIV Attestation 9a"},
		NotAfter:        time.Date(2040, 1, 1, 0, 0, 0, 0, time.UTC),
		ExtraExtensions: []pkix.Extension{yubico(3, 5, 7, 4), yubico(7, 2, 1, 42), yubico(8, once, touchAlways), yubico(9, 1)}}
	cert := m.issue(t, leaf, &x509.Certificate{Subject: pkix.Name{CommonName: "somebody"}}, key, m.ownKey)
	want := pivExpect(key.Public())
	want.Serial = 42
	p, err := attest.VerifyPIV(hsm.PIVEvidence{Certificate: cert.Raw, Intermediate: m.own.Raw}, certificates(t, attest.Test, m.root.Raw), want)
	refused(t, "another issuer", p, err, attest.CheckLeaf)
}

// An extension twice: which one counts?
func TestPIVStatementTwice(t *testing.T) {
	m := newMaker(t, func(*x509.Certificate) {})
	key, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "YubiKey PIV Attestation 9a"},
		NotAfter: time.Date(2040, 1, 1, 0, 0, 0, 0, time.UTC), ExtraExtensions: []pkix.Extension{yubico(3, 5, 7, 4), yubico(7, 2, 1, 42),
			yubico(8, never, never), yubico(8, once, touchAlways), yubico(9, 1)}}, m.own, key.Public(), m.ownKey)
	if err != nil {
		t.Fatal(err)
	}
	want := pivExpect(key.Public())
	want.Serial = 42
	p, err := attest.VerifyPIV(hsm.PIVEvidence{Certificate: der, Intermediate: m.own.Raw}, certificates(t, attest.Test, m.root.Raw), want)
	refused(t, "twice", p, err, attest.CheckForm)
}

func FuzzVerifyPIV(f *testing.F) {
	authority, roots := pivAuthority(f, "fuzz")
	key, e := newTerminal(f, pivtoken.New(pivtoken.Options{Root: authority})).born(authentication, once, touchAlways)
	want := pivExpect(key)
	f.Add(e.Certificate, e.Intermediate)
	f.Add(e.Intermediate, e.Certificate)
	f.Add(e.Certificate, authority.Root())
	f.Fuzz(func(t *testing.T, certificate, intermediate []byte) {
		p, err := attest.VerifyPIV(hsm.PIVEvidence{Certificate: certificate, Intermediate: intermediate}, roots, want)
		if err != nil {
			refused(t, "fuzz", p, err)
			return
		}
		if !bytes.Equal(certificate, e.Certificate) || !bytes.Equal(intermediate, e.Intermediate) {
			t.Error("other bytes were accepted")
		}
	})
}

// BenchmarkVerifyPIV compares with the bare cost of its two signature checks.
func BenchmarkVerifyPIV(b *testing.B) {
	authority, roots := pivAuthority(b, "root")
	key, e := newTerminal(b, pivtoken.New(pivtoken.Options{Root: authority})).born(authentication, once, touchAlways)
	want := pivExpect(key)
	certs := certificates(b, attest.Test, e.Certificate, e.Intermediate, authority.Root())
	var bare time.Duration
	for b.Loop() {
		b.StopTimer()
		start := time.Now()
		for i := range 2 {
			c, by := certs[i].Certificate, certs[i+1].Certificate
			digest := sha256.Sum256(c.RawTBSCertificate)
			if !ecdsa.VerifyASN1(by.PublicKey.(*ecdsa.PublicKey), digest[:], c.Signature) {
				b.Fatal("signature")
			}
		}
		bare += time.Since(start)
		b.StartTimer()
		if _, err := attest.VerifyPIV(e, roots, want); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed())/float64(bare), "verify/bare")
}
