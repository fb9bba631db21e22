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
	"fmt"
	"math/big"
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
func (c terminal) born(slot, pin, touch byte) (crypto.PublicKey, hsm.PIVEvidence) {
	c.t.Helper()
	return c.bornAs(hsm.P256, slot, pin, touch)
}

// bornAs has a key of any algorithm made and attested.
func (c terminal) bornAs(a hsm.Algorithm, slot, pin, touch byte) (crypto.PublicKey, hsm.PIVEvidence) {
	c.t.Helper()
	number := map[hsm.Algorithm]byte{hsm.RSA2048: 0x07, hsm.P256: 0x11, hsm.P384: 0x14, hsm.Ed25519: 0xE0}[a]
	b := c.send(0x47, 0, slot, []byte{0xAC, 9, 0x80, 1, number, 0xAA, 1, pin, 0xAB, 1, touch})
	unwrap := func(b []byte) (v asn1.RawValue, rest []byte) {
		rest, err := asn1.Unmarshal(b, &v)
		if err != nil {
			c.t.Fatal(err)
		}
		return v, rest
	}
	template, _ := unwrap(b)
	first, rest := unwrap(template.Bytes)
	var public crypto.PublicKey
	var err error
	switch a {
	case hsm.P256:
		public, err = ecdsa.ParseUncompressedPublicKey(elliptic.P256(), first.Bytes)
	case hsm.P384:
		public, err = ecdsa.ParseUncompressedPublicKey(elliptic.P384(), first.Bytes)
	case hsm.Ed25519:
		public = ed25519.PublicKey(first.Bytes)
	case hsm.RSA2048:
		e, _ := unwrap(rest)
		public = &rsa.PublicKey{N: new(big.Int).SetBytes(first.Bytes), E: int(new(big.Int).SetBytes(e.Bytes).Int64())}
	}
	if err != nil {
		c.t.Fatal(err)
	}
	object, _ := unwrap(c.send(0xCB, 0x3F, 0xFF, []byte{0x5C, 3, 0x5F, 0xFF, 1}))
	content, _ := unwrap(object.Bytes)
	return public, hsm.PIVEvidence{Certificate: c.send(0xF9, slot, 0, nil), Intermediate: content.Bytes}
}

func same(a, b crypto.PublicKey) bool {
	k, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && k.Equal(b)
}

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
		PIN: hsm.PINOnce, Touch: hsm.TouchAlways, Revoked: []uint64{1, 2, 1 << 40}, At: time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)}
}

func TestVerifyPIV(t *testing.T) {
	authority, roots := pivAuthority(t, "root")
	token := newTerminal(t, pivtoken.New(pivtoken.Options{Root: authority}))
	key, e := token.born(authentication, once, touchAlways)
	p, err := attest.VerifyPIV(e, roots, pivExpect(key))
	if err != nil {
		t.Fatal(err)
	}
	if !p.Valid() || p.Fresh() || p.Where() != attest.PIV || p.Class() != attest.Test || !same(key, p.Key()) {
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

// TestPIVEveryByteCounts damages the evidence of a key of each kind.
func TestPIVEveryByteCounts(t *testing.T) {
	authority, roots := pivAuthority(t, "root")
	for _, a := range algorithms {
		t.Run(string(a), func(t *testing.T) {
			t.Parallel()
			key, e := newTerminal(t, pivtoken.New(pivtoken.Options{Root: authority})).bornAs(a, authentication, once, touchAlways)
			everyByteCounts(t, e, roots, pivExpect(key))
		})
	}
}

// everyByteCounts turns each bit of evidence that is good, cuts it and lengthens
// it everywhere.
func everyByteCounts(t *testing.T, genuine hsm.PIVEvidence, roots []attest.Root, want attest.PIVExpect) {
	t.Helper()
	if p, err := attest.VerifyPIV(genuine, roots, want); err != nil || !same(p.Key(), want.Key) {
		t.Fatalf("genuine: %v", err)
	}
	for name, member := range map[string]func(*hsm.PIVEvidence) *[]byte{
		"certificate":  func(e *hsm.PIVEvidence) *[]byte { return &e.Certificate },
		"intermediate": func(e *hsm.PIVEvidence) *[]byte { return &e.Intermediate },
	} {
		original := *member(&genuine)
		try := func(what string, b []byte, checks ...attest.Check) {
			t.Helper()
			e := genuine
			*member(&e) = b
			p, err := attest.VerifyPIV(e, roots, want)
			refused(t, name+", "+what, p, err, checks...)
		}
		for i := range original {
			for _, mask := range []byte{0x01, 0x02, 0x04, 0x08, 0x10, 0x20, 0x40, 0x80, 0xFF} {
				changed := bytes.Clone(original)
				changed[i] ^= mask
				try(fmt.Sprintf("byte %d", i), changed)
			}
			try("cut", original[:i], attest.CheckForm)
			try("front cut", original[i+1:], attest.CheckForm)
			try(fmt.Sprintf("byte more at %d", i), slices.Insert(bytes.Clone(original), i, 0))
			try(fmt.Sprintf("byte less at %d", i), slices.Delete(bytes.Clone(original), i, i+1))
			try("with a tail", slices.Concat(original, make([]byte, i+1)), attest.CheckForm)
		}
		try("twice", slices.Concat(original, original), attest.CheckForm)
		try("in a longer form of its length", slices.Concat([]byte{0x30, 0x83, 0}, original[2:]), attest.CheckForm)
		// Bytes behind the signature, inside the outer sequence: no signature
		// covers them and crypto/x509 does not look.
		inner := slices.Concat(original[4:], []byte{5, 0})
		stretched := slices.Concat([]byte{0x30, 0x82, byte(len(inner) >> 8), byte(len(inner))}, inner)
		if _, err := x509.ParseCertificate(stretched); err != nil {
			t.Errorf("this test no longer tests anything: %v", err)
		}
		try("stretched", stretched, attest.CheckForm)
	}
}

var algorithms = []hsm.Algorithm{hsm.P256, hsm.P384, hsm.Ed25519, hsm.RSA2048}

// TestPIVAlgorithmsAndSlots verifies a key of each kind in each slot that may
// hold one, and swaps between two tokens what can be swapped.
func TestPIVAlgorithmsAndSlots(t *testing.T) {
	authority, roots := pivAuthority(t, "root")
	for _, a := range algorithms {
		t.Run(string(a), func(t *testing.T) {
			t.Parallel()
			mine := newTerminal(t, pivtoken.New(pivtoken.Options{Root: authority}))
			theirs := newTerminal(t, pivtoken.New(pivtoken.Options{Root: authority, Serial: 42}))
			slots := []byte{0x9A, 0x9C, 0x9D, 0x9E, 0x82, 0x95}
			if a == hsm.RSA2048 {
				slots = []byte{0x9A, 0x82} // slow to make
			}
			for _, slot := range slots {
				key, e := mine.bornAs(a, slot, always, touchAlways)
				want := pivExpect(key)
				want.Slot, want.PIN = slot, hsm.PINAlways
				p, err := attest.VerifyPIV(e, roots, want)
				if err != nil || !same(p.Key(), key) {
					t.Errorf("slot %02X: %v", slot, err)
				}
				want.Slot ^= 0x07 // 9D, 9B, 9A, 99, 85, 92
				check := attest.CheckSlot
				if want.Slot == 0x9B || want.Slot == 0x99 {
					check = attest.CheckExpectation
				}
				p, err = attest.VerifyPIV(e, roots, want)
				refused(t, "another slot", p, err, check)
			}
			key, e := mine.bornAs(a, authentication, once, touchAlways)
			otherKey, other := theirs.bornAs(a, authentication, once, touchAlways)
			p, err := attest.VerifyPIV(other, roots, pivExpect(otherKey))
			refused(t, "another token", p, err, attest.CheckSerial)
			p, err = attest.VerifyPIV(e, roots, pivExpect(otherKey))
			refused(t, "another token's key", p, err, attest.CheckKey)
			p, err = attest.VerifyPIV(hsm.PIVEvidence{Certificate: e.Certificate, Intermediate: other.Intermediate}, roots, pivExpect(key))
			refused(t, "another token's certificate", p, err, attest.CheckLeaf)
			p, err = attest.VerifyPIV(hsm.PIVEvidence{Certificate: other.Certificate, Intermediate: e.Intermediate}, roots, pivExpect(key))
			refused(t, "another token's statement", p, err, attest.CheckLeaf)
		})
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
		leastTouch       hsm.TouchPolicy
		check            attest.Check // none: accepted
	}{
		"without PIN":                {0x9A, never, touchAlways, hsm.PINOnce, hsm.TouchAlways, attest.CheckPINPolicy},
		"PIN once":                   {0x9C, once, touchAlways, hsm.PINOnce, hsm.TouchAlways, ""},
		"PIN once, not enough":       {0x9C, once, touchAlways, hsm.PINAlways, hsm.TouchAlways, attest.CheckPINPolicy},
		"PIN always":                 {0x9A, always, touchAlways, hsm.PINAlways, hsm.TouchAlways, ""},
		"PIN always, once asked":     {0x9A, always, touchAlways, hsm.PINOnce, hsm.TouchAlways, ""},
		"touch cached, not enough":   {0x9A, once, touchCached, hsm.PINOnce, hsm.TouchAlways, attest.CheckTouchPolicy},
		"touch cached":               {0x9D, once, touchCached, hsm.PINOnce, hsm.TouchCached, ""},
		"touch cached, none asked":   {0x9D, once, touchCached, hsm.PINOnce, hsm.TouchNever, ""},
		"touch always, cached asked": {0x9D, once, touchAlways, hsm.PINOnce, hsm.TouchCached, ""},
		"no touch, always asked":     {0x9A, once, never, hsm.PINOnce, hsm.TouchAlways, attest.CheckTouchPolicy},
		"no touch, cached asked":     {0x9D, once, never, hsm.PINOnce, hsm.TouchCached, attest.CheckTouchPolicy},
		"no touch":                   {0x9A, once, never, hsm.PINOnce, hsm.TouchNever, ""},
	} {
		key, e := second.born(c.slot, c.pin, c.touch)
		want := pivExpect(key)
		want.Slot, want.Serial, want.PIN, want.Touch = c.slot, 42, c.leastPIN, c.leastTouch
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
	p521, err := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	large, err := rsa.GenerateKey(rand.Reader, 3072)
	if err != nil {
		t.Fatal(err)
	}
	small := &rsa.PublicKey{N: new(big.Int).Rsh(large.N, 3072-1024), E: 65537}
	odd := &rsa.PublicKey{N: new(big.Int).Rsh(large.N, 1024), E: 3}
	for name, c := range map[string]struct {
		change func(*attest.PIVExpect)
		check  attest.Check
	}{
		"nothing":       {func(w *attest.PIVExpect) { *w = attest.PIVExpect{} }, attest.CheckExpectation},
		"no key":        {func(w *attest.PIVExpect) { w.Key = nil }, attest.CheckExpectation},
		"nil key":       {func(w *attest.PIVExpect) { w.Key = (*ecdsa.PublicKey)(nil) }, attest.CheckExpectation},
		"P-521":         {func(w *attest.PIVExpect) { w.Key = p521.Public() }, attest.CheckExpectation},
		"RSA-3072":      {func(w *attest.PIVExpect) { w.Key = large.Public() }, attest.CheckExpectation},
		"RSA-1024":      {func(w *attest.PIVExpect) { w.Key = small }, attest.CheckExpectation},
		"RSA, e = 3":    {func(w *attest.PIVExpect) { w.Key = odd }, attest.CheckExpectation},
		"short Ed25519": {func(w *attest.PIVExpect) { w.Key = ed25519.PublicKey{1} }, attest.CheckExpectation},
		"no PIN policy": {func(w *attest.PIVExpect) { w.PIN = "" }, attest.CheckExpectation},
		"unknown PIN":   {func(w *attest.PIVExpect) { w.PIN = "never" }, attest.CheckExpectation},
		"no touch":      {func(w *attest.PIVExpect) { w.Touch = "" }, attest.CheckExpectation},
		"slot 9B":       {func(w *attest.PIVExpect) { w.Slot = 0x9B }, attest.CheckExpectation},
		"slot 81":       {func(w *attest.PIVExpect) { w.Slot = 0x81 }, attest.CheckExpectation},
		"slot 96":       {func(w *attest.PIVExpect) { w.Slot = 0x96 }, attest.CheckExpectation},
		"slot F9":       {func(w *attest.PIVExpect) { w.Slot = 0xF9 }, attest.CheckExpectation},
		"no mark":       {func(w *attest.PIVExpect) { w.FIPS = true }, attest.CheckFIPS},
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
	m := maker{rootKey: p256Key(t), ownKey: p256Key(t)}
	root := authorityCertificate("maker", -1)
	m.root = issue(t, root, root, m.rootKey, m.rootKey)
	own := authorityCertificate("token", -1)
	change(own)
	m.own = issue(t, own, m.root, m.ownKey, m.rootKey)
	return m
}

func p256Key(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// authorityCertificate is a template for a CA; a negative length is none.
func authorityCertificate(name string, pathLength int) *x509.Certificate {
	return &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		MaxPathLen: pathLength, MaxPathLenZero: pathLength == 0, KeyUsage: x509.KeyUsageCertSign,
		NotBefore: time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC), NotAfter: time.Date(2040, 1, 1, 0, 0, 0, 0, time.UTC)}
}

// statementCertificate is a template for the attestation of a key in 9A, serial 42.
func statementCertificate() *x509.Certificate {
	return &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "YubiKey PIV Attestation 9a"},
		NotBefore: time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC), NotAfter: time.Date(2040, 1, 1, 0, 0, 0, 0, time.UTC),
		ExtraExtensions: []pkix.Extension{yubico(3, []byte(defaultFirmware)...), yubico(7, 2, 1, 42), yubico(8, once, touchAlways), yubico(9, 1)}}
}

func issue(t testing.TB, c, parent *x509.Certificate, key, by *ecdsa.PrivateKey) *x509.Certificate {
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
		key := p256Key(t)
		leaf := statementCertificate()
		m := newMaker(t, func(own *x509.Certificate) { c.change(own, leaf) })
		cert := issue(t, leaf, m.own, key, m.ownKey)
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
	key, leaf := p256Key(t), statementCertificate()
	cert := issue(t, leaf, &x509.Certificate{Subject: pkix.Name{CommonName: "somebody"}}, key, m.ownKey)
	want := pivExpect(key.Public())
	want.Serial = 42
	p, err := attest.VerifyPIV(hsm.PIVEvidence{Certificate: cert.Raw, Intermediate: m.own.Raw}, certificates(t, attest.Test, m.root.Raw), want)
	refused(t, "another issuer", p, err, attest.CheckLeaf)
}

// An extension twice: which one counts?
func TestPIVStatementTwice(t *testing.T) {
	m := newMaker(t, func(*x509.Certificate) {})
	key, leaf := p256Key(t), statementCertificate()
	leaf.ExtraExtensions = append([]pkix.Extension{yubico(8, never, never)}, leaf.ExtraExtensions...)
	der, err := x509.CreateCertificate(rand.Reader, leaf, m.own, key.Public(), m.ownKey)
	if err != nil {
		t.Fatal(err)
	}
	want := pivExpect(key.Public())
	want.Serial = 42
	p, err := attest.VerifyPIV(hsm.PIVEvidence{Certificate: der, Intermediate: m.own.Raw}, certificates(t, attest.Test, m.root.Raw), want)
	refused(t, "twice", p, err, attest.CheckForm)
}

// FuzzVerifyPIV shows foreign bytes to a verifier of a virtual token, made anew
// in each process, and to one of a genuine YubiKey, whose bytes the corpus has.
func FuzzVerifyPIV(f *testing.F) {
	authority, roots := pivAuthority(f, "fuzz")
	token := newTerminal(f, pivtoken.New(pivtoken.Options{Root: authority}))
	key, e := token.born(authentication, once, touchAlways)
	f.Add(e.Certificate, e.Intermediate)
	f.Add(e.Intermediate, e.Certificate)
	f.Add(e.Certificate, authority.Root())
	for _, a := range algorithms {
		_, other := token.bornAs(a, 0x82, once, touchCached)
		f.Add(other.Certificate, other.Intermediate)
	}
	yubikey, _, yubikeyWant := genuine(f, "firmware-5.4.3.pem")
	f.Add(yubikey.Certificate, yubikey.Intermediate)
	yubicoRoots, _ := attest.Yubico()
	verifiers := []struct {
		e     hsm.PIVEvidence
		roots []attest.Root
		want  attest.PIVExpect
	}{{e, roots, pivExpect(key)}, {yubikey, yubicoRoots, yubikeyWant}}
	for _, v := range verifiers {
		if _, err := attest.VerifyPIV(v.e, v.roots, v.want); err != nil {
			f.Fatal(err)
		}
	}
	f.Fuzz(func(t *testing.T, certificate, intermediate []byte) {
		for _, v := range verifiers {
			v.want.RevokedCertificates = [][32]byte{{1}} // has every path compared
			p, err := attest.VerifyPIV(hsm.PIVEvidence{Certificate: certificate, Intermediate: intermediate}, v.roots, v.want)
			if err != nil {
				refused(t, "fuzz", p, err)
				continue
			}
			// What is signed is what was signed; the signature may be the twin.
			for got, want := range map[string][]byte{string(certificate): v.e.Certificate, string(intermediate): v.e.Intermediate} {
				pair := certificates(t, attest.Test, []byte(got), want)
				if !bytes.Equal(pair[0].Certificate.RawTBSCertificate, pair[1].Certificate.RawTBSCertificate) {
					t.Error("another statement was accepted")
				}
			}
		}
	})
}

// BenchmarkVerifyPIV compares with the bare cost of its two signature checks.
func BenchmarkVerifyPIV(b *testing.B) {
	authority, roots := pivAuthority(b, "root")
	key, e := newTerminal(b, pivtoken.New(pivtoken.Options{Root: authority})).born(authentication, once, touchAlways)
	want := pivExpect(key)
	certs := certificates(b, attest.Test, e.Certificate, e.Intermediate, authority.Root())
	var bare, whole time.Duration
	for b.Loop() {
		start := time.Now()
		for i := range 2 {
			c, by := certs[i].Certificate, certs[i+1].Certificate
			digest := sha256.Sum256(c.RawTBSCertificate)
			if !ecdsa.VerifyASN1(by.PublicKey.(*ecdsa.PublicKey), digest[:], c.Signature) {
				b.Fatal("signature")
			}
		}
		bare += time.Since(start)
		start = time.Now()
		if _, err := attest.VerifyPIV(e, roots, want); err != nil {
			b.Fatal(err)
		}
		whole += time.Since(start)
	}
	b.ReportMetric(float64(whole)/float64(bare), "verify/bare")
}
