package pivtoken_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-piv/piv-go/v2/piv"

	"enrollkiosk/simulators/pivtoken"
	"enrollkiosk/smartcard/apdu"
)

const (
	p256    = 0x11
	p384    = 0x14
	rsa1024 = 0x06
	rsa2048 = 0x07
	ed      = 0xE0
	x       = 0xE1
)

// tag encodes one data object.
func tag(tag byte, value ...byte) []byte {
	switch n := len(value); {
	case n < 0x80:
		return append([]byte{tag, byte(n)}, value...)
	case n < 0x100:
		return append([]byte{tag, 0x81, byte(n)}, value...)
	default:
		return append([]byte{tag, 0x82, byte(n >> 8), byte(n)}, value...)
	}
}

// generate makes a key with the slot's default policies, or with those given
// (PIN, touch), and returns the public point; RSA and Edwards keys by their
// own encoding in the answer.
func (term terminal) generate(slot, alg byte, policy ...byte) []byte {
	term.t.Helper()
	data := []byte{0x80, 1, alg}
	if len(policy) == 2 {
		data = append(data, 0xAA, 1, policy[0], 0xAB, 1, policy[1])
	}
	answer := term.must(0x47, 0, slot, tag(0xAC, data...)...)
	if len(answer) < 5 || answer[0] != 0x7F || answer[1] != 0x49 {
		term.t.Fatalf("public key template %x", answer)
	}
	return answer
}

func point(t *testing.T, answer []byte) *ecdsa.PublicKey {
	t.Helper()
	curve := elliptic.P256()
	if len(answer) > 80 {
		curve = elliptic.P384()
	}
	public, err := ecdsa.ParseUncompressedPublicKey(curve, answer[5:])
	if err != nil {
		t.Fatal(err)
	}
	return public
}

func (term terminal) use(slot, alg byte, t byte, data []byte) ([]byte, apdu.Status) {
	term.t.Helper()
	answer, status := term.send(0x87, alg, slot, tag(0x7C, append([]byte{0x82, 0}, tag(t, data...)...)...)...)
	if status != apdu.OK {
		return nil, status
	}
	for range 2 { // 7C, then 82
		skip := 2
		if answer[1] > 0x80 {
			skip += int(answer[1] & 0x7F)
		}
		answer = answer[skip:]
	}
	return answer, status
}

func (term terminal) sign(slot, alg byte, digest []byte) ([]byte, apdu.Status) {
	term.t.Helper()
	return term.use(slot, alg, 0x81, digest)
}

func ready(t *testing.T, o pivtoken.Options) terminal {
	t.Helper()
	term := insert(t, o)
	term.selectPIV()
	term.mustAdmin()
	return term
}

func TestEllipticKeys(t *testing.T) {
	term := ready(t, pivtoken.Options{})
	digest := sha256.Sum256([]byte("record"))
	for _, kind := range []struct {
		alg   byte
		curve ecdh.Curve
	}{{p256, ecdh.P256()}, {p384, ecdh.P384()}} { // P-384 stays
		alg, curve := kind.alg, kind.curve
		for _, slot := range []byte{0x9A, 0x9C, 0x9D, 0x9E, 0x82, 0x95} {
			public := point(t, term.generate(slot, alg, 1, 1))
			signature, status := term.sign(slot, alg, digest[:])
			if status != apdu.OK || !ecdsa.VerifyASN1(public, digest[:], signature) {
				t.Errorf("slot %X algorithm %02X: signature %x, %v", slot, alg, signature, status)
			}
			peer, err := curve.GenerateKey(rand.Reader)
			if err != nil {
				t.Fatal(err)
			}
			own, err := public.ECDH()
			if err != nil {
				t.Fatal(err)
			}
			want, err := peer.ECDH(own)
			if err != nil {
				t.Fatal(err)
			}
			got, status := term.use(slot, alg, 0x85, peer.PublicKey().Bytes())
			if status != apdu.OK || !bytes.Equal(got, want) {
				t.Errorf("slot %X algorithm %02X: agreed on %x, %v", slot, alg, got, status)
			}
			bad := peer.PublicKey().Bytes()
			bad[9] ^= 1
			if _, status := term.use(slot, alg, 0x85, bad); status != apdu.WrongData {
				t.Errorf("a point off the curve: %v", status)
			}
		}
	}
	if _, status := term.sign(0x9A, p384, nil); status != apdu.WrongData {
		t.Errorf("empty digest: %v", status)
	}
	if _, status := term.sign(0x82, rsa2048, digest[:]); status != apdu.IncorrectP1P2 {
		t.Errorf("another algorithm than the key's: %v", status)
	}
	if _, status := term.sign(0x83, p256, digest[:]); status != apdu.WrongData {
		t.Errorf("empty slot: %v", status)
	}
	if _, status := term.sign(0x70, p256, digest[:]); status != apdu.IncorrectP1P2 {
		t.Errorf("no slot: %v", status)
	}
}

func TestOtherKeys(t *testing.T) {
	term := ready(t, pivtoken.Options{})

	public := ed25519.PublicKey(term.generate(0x9A, ed, 1, 1)[5:])
	signature, _ := term.sign(0x9A, ed, []byte("record"))
	if !ed25519.Verify(public, []byte("record"), signature) {
		t.Errorf("Ed25519 signature %x", signature)
	}

	own, err := ecdh.X25519().NewPublicKey(term.generate(0x9D, x, 1, 1)[5:])
	if err != nil {
		t.Fatal(err)
	}
	peer, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	want, err := peer.ECDH(own)
	if err != nil {
		t.Fatal(err)
	}
	if got, _ := term.use(0x9D, x, 0x85, peer.PublicKey().Bytes()); !bytes.Equal(got, want) {
		t.Errorf("X25519 agreed on %x", got)
	}
	if _, status := term.use(0x9D, x, 0x85, make([]byte, 32)); status != apdu.WrongData {
		t.Errorf("X25519 with the zero point: %v", status)
	}

	answer := term.generate(0x9E, rsa2048)
	key := &rsa.PublicKey{N: new(big.Int).SetBytes(answer[9:265]), E: 65537}
	if tail := answer[265:]; !bytes.Equal(tail, []byte{0x82, 3, 1, 0, 1}) {
		t.Errorf("RSA exponent %x", tail)
	}
	digest := sha256.Sum256([]byte("record"))
	block := append([]byte{0, 1}, bytes.Repeat([]byte{0xFF}, 256-3-19-32)...)
	block = append(block, 0)
	block = append(block, 0x30, 0x31, 0x30, 0x0d, 6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 1, 5, 0, 4, 0x20)
	block = append(block, digest[:]...)
	signature, _ = term.sign(0x9E, rsa2048, block)
	if err := rsa.VerifyPKCS1v15(key, crypto.SHA256, digest[:], signature); err != nil {
		t.Errorf("RSA: %v", err)
	}
	for _, bad := range [][]byte{block[1:], bytes.Repeat([]byte{0xFF}, 256)} {
		if _, status := term.sign(0x9E, rsa2048, bad); status != apdu.WrongData {
			t.Errorf("RSA input of %d bytes: %v", len(bad), status)
		}
	}
}

func TestGenerateRefuses(t *testing.T) {
	term := insert(t, pivtoken.Options{})
	term.selectPIV()
	term.refuses(apdu.SecurityNotSatisfied, 0x47, 0, 0x9A, 0xAC, 3, 0x80, 1, p256)
	term.mustAdmin()
	for _, bad := range [][]byte{
		{}, {0xAC, 0}, {0xAC, 3, 0x80, 1, 0x22}, {0xAC, 2, 0x80, 1, p256}, {0xAC, 3, 0x80, 2, p256},
		{0xAC, 6, 0x80, 1, p256, 0xAA, 1, 4}, {0xAC, 6, 0x80, 1, p256, 0xAB, 1, 4}, {0xAC, 5, 0x80, 1, p256, 0xAA, 0},
	} {
		term.refuses(apdu.WrongData, 0x47, 0, 0x9A, bad...)
	}
	term.refuses(apdu.IncorrectP1P2, 0x47, 0, 0x9B, 0xAC, 3, 0x80, 1, p256)
	term.refuses(apdu.IncorrectP1P2, 0x47, 1, 0x9A, 0xAC, 3, 0x80, 1, p256)
}

func TestPINPolicies(t *testing.T) {
	term := ready(t, pivtoken.Options{})
	digest := make([]byte, 32)
	metadata := func(slot byte) []byte { return term.must(0xF7, 0, slot)[5:7] }
	for slot, want := range map[byte]byte{0x9A: 2, 0x9C: 3, 0x9D: 2, 0x9E: 1, 0x82: 2} {
		term.generate(slot, p256)
		if got := metadata(slot); got[0] != want || got[1] != 1 {
			t.Errorf("default policy of %X: %x", slot, got)
		}
	}
	signs := func(slot byte, want apdu.Status) {
		t.Helper()
		if _, status := term.sign(slot, p256, digest); status != want {
			t.Errorf("slot %X: %v, want %v", slot, status, want)
		}
	}
	signs(0x9E, apdu.OK)
	signs(0x9A, apdu.SecurityNotSatisfied)
	signs(0x9C, apdu.SecurityNotSatisfied)
	term.verify("123456")
	signs(0x9A, apdu.OK)
	signs(0x9A, apdu.OK)
	signs(0x9C, apdu.SecurityNotSatisfied) // the PIN is there, but not fresh
	term.verify("123456")
	signs(0x9C, apdu.OK)
	signs(0x9C, apdu.SecurityNotSatisfied)
	term.verify("123456")
	term.must(0xCB, 0x3F, 0xFF, 0x5C, 1, 0x7E) // a command between
	signs(0x9C, apdu.SecurityNotSatisfied)
	term.refuses(0x63C2, 0x20, 0, 0x80, padded("0")...)
	signs(0x9A, apdu.SecurityNotSatisfied)
}

func TestImport(t *testing.T) {
	term := insert(t, pivtoken.Options{})
	term.selectPIV()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := private.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	term.refuses(apdu.SecurityNotSatisfied, 0xFE, p256, 0x9E, tag(6, raw...)...)
	term.mustAdmin()
	term.must(0xFE, p256, 0x9E, append(tag(6, raw...), 0xAA, 1, 1, 0xAB, 1, 1)...)
	if got := term.must(0xF7, 0, 0x9E); !bytes.HasPrefix(got, []byte{1, 1, p256, 2, 2, 1, 1, 3, 1, 2, 4, 0x43, 0x86, 0x41, 4}) {
		t.Errorf("metadata %x", got)
	}
	digest := sha256.Sum256([]byte("record"))
	if signature, _ := term.sign(0x9E, p256, digest[:]); !ecdsa.VerifyASN1(&private.PublicKey, digest[:], signature) {
		t.Error("signature by another key than the imported one")
	}
	term.refuses(apdu.WrongData, 0xF9, 0x9E, 0) // an imported key is never attested

	big1024, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	part := func(t byte, n *big.Int) []byte { return tag(t, n.FillBytes(make([]byte, 64))...) }
	parts := append(part(1, big1024.Primes[0]), part(2, big1024.Primes[1])...)
	parts = append(append(append(parts,
		part(3, big1024.Precomputed.Dp)...), part(4, big1024.Precomputed.Dq)...), part(5, big1024.Precomputed.Qinv)...)
	term.must(0xFE, rsa1024, 0x9E, parts...)
	for i := 5; i < len(parts); i += 66 {
		bad := bytes.Clone(parts)
		bad[i] ^= 0x40
		term.refuses(apdu.WrongData, 0xFE, rsa1024, 0x9E, bad...)
	}
	term.refuses(apdu.WrongData, 0xFE, rsa2048, 0x9E, parts...)
	term.refuses(apdu.WrongData, 0xFE, rsa1024, 0x9E)
	term.refuses(apdu.WrongData, 0xFE, rsa1024, 0x9E, bytes.Repeat([]byte{0}, 5)...)
	for alg, bad := range map[byte][]byte{p256: make([]byte, 32), ed: make([]byte, 31), x: make([]byte, 33), 0x22: raw} {
		term.refuses(apdu.WrongData, 0xFE, alg, 0x9E, append(tag(6, bad...), append(tag(7, bad...), tag(8, bad...)...)...)...)
	}
}

func TestMoveKey(t *testing.T) {
	term := insert(t, pivtoken.Options{})
	term.selectPIV()
	term.refuses(apdu.SecurityNotSatisfied, 0xF6, 0x82, 0x9A)
	term.mustAdmin()
	term.refuses(apdu.ReferencedDataNotFound, 0xF6, 0x82, 0x9A)
	public := point(t, term.generate(0x9A, p256, 1, 1))
	term.must(0xF6, 0x82, 0x9A)
	digest := make([]byte, 32)
	if signature, _ := term.sign(0x82, p256, digest); !ecdsa.VerifyASN1(public, digest, signature) {
		t.Error("the moved key does not sign")
	}
	term.refuses(apdu.ReferencedDataNotFound, 0xF7, 0, 0x9A)
	term.must(0xF6, 0xFF, 0x82)
	term.refuses(apdu.ReferencedDataNotFound, 0xF7, 0, 0x82)
	for _, bad := range [][2]byte{{0x9A, 0x9A}, {0x9A, 0xF9}, {0x9B, 0x9A}, {0x9A, 0x70}} {
		term.refuses(apdu.IncorrectP1P2, 0xF6, bad[0], bad[1])
	}
	term.must(0xF6, 0xFF, 0xF9) // the attestation key may be deleted
	term.generate(0x9A, p256)
	term.refuses(apdu.WrongData, 0xF9, 0x9A, 0)
}

func authority(t *testing.T, seed string) *pivtoken.Authority {
	t.Helper()
	a, err := pivtoken.NewAuthority([]byte(seed))
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// attest returns the attestation of a slot and the token's own certificate.
func (term terminal) attest(slot byte) (leaf, intermediate *x509.Certificate) {
	term.t.Helper()
	leaf, err := x509.ParseCertificate(term.must(0xF9, slot, 0))
	if err != nil {
		term.t.Fatal(err)
	}
	object := term.must(0xCB, 0x3F, 0xFF, 0x5C, 3, 0x5F, 0xFF, 1)
	der := object[8 : len(object)-5] // 53 82.. 70 82.. | 71 01 00 FE 00
	if intermediate, err = x509.ParseCertificate(der); err != nil {
		term.t.Fatal(err)
	}
	return leaf, intermediate
}

func verify(a *pivtoken.Authority, leaf, intermediate *x509.Certificate) (*piv.Attestation, error) {
	root, err := x509.ParseCertificate(a.Root())
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AddCert(root)
	return (&piv.Verifier{Roots: roots}).Verify(intermediate, leaf)
}

func TestAttestation(t *testing.T) {
	a := authority(t, "attestation")
	term := ready(t, pivtoken.Options{Root: a, Serial: 4242, Version: [3]byte{5, 7, 2}, FormFactor: 3})
	term.refuses(apdu.WrongData, 0xF9, 0x9A, 0)
	for slot, object := range map[byte]piv.Slot{
		0x9A: piv.SlotAuthentication, 0x9C: piv.SlotSignature, 0x9D: piv.SlotKeyManagement, 0x9E: piv.SlotCardAuthentication,
	} {
		public := point(t, term.generate(slot, p256, 2, 3))
		leaf, intermediate := term.attest(slot)
		got, err := verify(a, leaf, intermediate)
		if err != nil {
			t.Fatal(err)
		}
		want := piv.Attestation{
			Version: piv.Version{Major: 5, Minor: 7, Patch: 2}, Serial: 4242, Formfactor: piv.FormfactorUSBCKeychain,
			PINPolicy: piv.PINPolicyOnce, TouchPolicy: piv.TouchPolicyCached, Slot: object,
		}
		if *got != want {
			t.Errorf("slot %X: %+v, want %+v", slot, *got, want)
		}
		if !public.Equal(leaf.PublicKey) {
			t.Errorf("slot %X: another key is attested", slot)
		}
	}
	leaf, _ := term.attest(0x9A)
	if leaf.Subject.CommonName != "YubiKey PIV Attestation 9a" {
		t.Errorf("subject %q", leaf.Subject)
	}
	var got []string
	for _, e := range leaf.Extensions {
		got = append(got, fmt.Sprintf("%v=%x", e.Id, e.Value))
	}
	want := "[1.3.6.1.4.1.41482.3.3=050702 1.3.6.1.4.1.41482.3.7=02021092 1.3.6.1.4.1.41482.3.8=0203 1.3.6.1.4.1.41482.3.9=03]"
	if fmt.Sprint(got) != want {
		t.Errorf("extensions %v", got)
	}
	for _, alg := range []byte{ed, x, p384, rsa1024} {
		term.generate(0x95, alg)
		if _, err := verify(a, first(term.attest(0x95)), mustIntermediate(term)); err != nil {
			t.Errorf("algorithm %02X: %v", alg, err)
		}
	}

	if _, err := verify(authority(t, "another"), leaf, mustIntermediate(term)); err == nil {
		t.Error("any authority will do")
	}
	if !bytes.Equal(authority(t, "attestation").Root(), a.Root()) {
		t.Error("the same seed gave another root")
	}
	term.refuses(apdu.IncorrectP1P2, 0xF9, 0xF9, 0)
	term.refuses(apdu.IncorrectP1P2, 0xF9, 0x9A, 1)
}

func mustIntermediate(term terminal) *x509.Certificate {
	term.t.Helper()
	_, intermediate := term.attest(0x9A)
	return intermediate
}

func TestFaults(t *testing.T) {
	a := authority(t, "faults")
	faulty := func(t *testing.T, f pivtoken.Fault) terminal {
		return ready(t, pivtoken.Options{Root: a, Faults: f})
	}
	t.Run("no-attestation", func(t *testing.T) {
		term := faulty(t, pivtoken.NoAttestation)
		term.generate(0x9A, p256)
		term.refuses(apdu.InstructionNotSupported, 0xF9, 0x9A, 0)
		term.refuses(apdu.FileNotFound, 0xCB, 0x3F, 0xFF, 0x5C, 3, 0x5F, 0xFF, 1)
	})
	t.Run("foreign-root", func(t *testing.T) {
		term := faulty(t, pivtoken.ForeignRoot)
		term.generate(0x9A, p256)
		leaf, intermediate := term.attest(0x9A)
		if err := leaf.CheckSignatureFrom(intermediate); err != nil {
			t.Error(err)
		}
		if _, err := verify(a, leaf, intermediate); err == nil {
			t.Error("the chain ends in the root")
		}
		if root, _ := x509.ParseCertificate(a.Root()); !bytes.Equal(intermediate.RawIssuer, root.RawSubject) {
			t.Error("the foreign root does not even have the name")
		}
	})
	t.Run("wrong-slot", func(t *testing.T) {
		term := faulty(t, pivtoken.WrongSlot)
		for slot, named := range map[byte]piv.Slot{0x9A: piv.SlotSignature, 0x9D: piv.SlotAuthentication} {
			public := point(t, term.generate(slot, p256))
			leaf, intermediate := term.attest(slot)
			got, err := verify(a, leaf, intermediate)
			if err != nil || got.Slot != named || !public.Equal(leaf.PublicKey) {
				t.Errorf("slot %X: %+v, %v", slot, got, err)
			}
		}
	})
	t.Run("software-key", func(t *testing.T) {
		term := faulty(t, pivtoken.SoftwareKey)
		public := point(t, term.generate(0x9A, p256, 1, 1))
		leaf, intermediate := term.attest(0x9A)
		if _, err := verify(a, leaf, intermediate); err != nil || public.Equal(leaf.PublicKey) {
			t.Errorf("an honest attestation of the key itself, or none: %v", err)
		}
		digest := make([]byte, 32)
		if signature, _ := term.sign(0x9A, p256, digest); !ecdsa.VerifyASN1(public, digest, signature) {
			t.Error("the software key does not sign")
		}
	})
	t.Run("pin-blocked", func(t *testing.T) {
		term := faulty(t, pivtoken.PINBlocked)
		term.refuses(apdu.AuthenticationBlocked, 0x20, 0, 0x80)
		term.refuses(apdu.AuthenticationBlocked, 0x20, 0, 0x80, padded("123456")...)
		term.must(0x2C, 0, 0x80, padded("12345678", "123456")...)
		term.verify("123456")
	})
	t.Run("provisioned", func(t *testing.T) {
		term := insert(t, pivtoken.Options{Root: a, Faults: pivtoken.Provisioned})
		term.selectPIV()
		for _, ref := range []byte{0x80, 0x81, 0x9B} {
			if got := term.must(0xF7, 0, ref); !bytes.Contains(got, []byte{5, 1, 0}) {
				t.Errorf("reference %02X is the factory's: %x", ref, got)
			}
		}
		if term.admin(aes192, factoryKey) != apdu.SecurityNotSatisfied {
			t.Error("the factory's management key works")
		}
		term.refuses(0x63C2, 0x20, 0, 0x80, padded("123456")...)
		term.verify(pivtoken.ProvisionedPIN)
		term.must(0xCB, 0x3F, 0xFF, 0x5C, 3, 0x5F, 0xC1, 5)
		if _, err := verify(a, first(term.attest(0x9A)), mustIntermediate(term)); err != nil {
			t.Error(err)
		}
	})
	t.Run("plain-nist", func(t *testing.T) {
		term := insert(t, pivtoken.Options{Faults: pivtoken.PlainNIST})
		term.selectPIV()
		for _, ins := range []byte{0xF6, 0xF7, 0xF8, 0xF9, 0xFA, 0xFB, 0xFD, 0xFE, 0xFF} {
			term.refuses(apdu.InstructionNotSupported, ins, 0, 0x9A)
		}
		if status := term.admin(tripleDES, factoryKey); status != apdu.OK {
			t.Fatal(status)
		}
		term.refuses(apdu.WrongData, 0x47, 0, 0x9A, 0xAC, 6, 0x80, 1, p256, 0xAA, 1, 1)
		term.refuses(apdu.WrongData, 0x47, 0, 0x9A, 0xAC, 3, 0x80, 1, ed)
		term.refuses(apdu.FileNotFound, 0xCB, 0x3F, 0xFF, 0x5C, 3, 0x5F, 0xFF, 1)
		public := point(t, term.generate(0x9C, p256))
		term.verify("123456")
		digest := make([]byte, 32)
		if signature, _ := term.sign(0x9C, p256, digest); !ecdsa.VerifyASN1(public, digest, signature) {
			t.Error("no signature")
		}
		term.refuses(apdu.FileNotFound, 0xA4, 4, 0, 0xA0, 0, 0, 5, 0x27, 0x47, 0x11, 0x17)
	})
	t.Run("names", func(t *testing.T) {
		for f := pivtoken.NoAttestation; f <= pivtoken.PlainNIST; f <<= 1 {
			if got, err := pivtoken.ParseFault(f.String()); err != nil || got != f || f.String() == "" {
				t.Errorf("%q: %v, %v", f, got, err)
			}
		}
		both := pivtoken.NoTouch | pivtoken.ForeignRoot
		if got, err := pivtoken.ParseFault(both.String()); err != nil || got != both {
			t.Errorf("%q: %v, %v", both, got, err)
		}
		if got, err := pivtoken.ParseFault(""); err != nil || got != 0 {
			t.Errorf("no fault: %v, %v", got, err)
		}
		if _, err := pivtoken.ParseFault("no-touch,unheard-of"); err == nil {
			t.Error("an unknown fault")
		}
	})
}

func first(leaf, _ *x509.Certificate) *x509.Certificate { return leaf }

// Firmware before 5.7 has a 3DES management key and lacks what came later.
func TestOlderFirmware(t *testing.T) {
	term := insert(t, pivtoken.Options{Version: [3]byte{4, 3, 5}})
	term.selectPIV()
	if status := term.admin(tripleDES, factoryKey); status != apdu.OK {
		t.Fatal(status)
	}
	for _, ins := range []byte{0xF6, 0xF7, 0xF8} {
		term.refuses(apdu.InstructionNotSupported, ins, 0, 0x9A)
	}
	term.refuses(apdu.WrongData, 0x47, 0, 0x9A, 0xAC, 3, 0x80, 1, ed)
	term.refuses(apdu.WrongData, 0xFF, 0xFF, 0xFF, append([]byte{aes192, 0x9B, 24}, factoryKey...)...)
	if got := term.must(0xFD, 0, 0); !bytes.Equal(got, []byte{4, 3, 5}) {
		t.Errorf("version %x", got)
	}
}

func TestInstallKey(t *testing.T) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{SerialNumber: "4711"}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	term := insert(t, pivtoken.Options{})
	if err := term.token.InstallKey(0x9C, private, der); err != nil {
		t.Fatal(err)
	}
	if err := term.token.SetPIN("246813"); err != nil {
		t.Fatal(err)
	}
	term.selectPIV()
	object := term.must(0xCB, 0x3F, 0xFF, 0x5C, 3, 0x5F, 0xC1, 0x0A)
	if want := tag(0x53, append(tag(0x70, der...), 0x71, 1, 0, 0xFE, 0)...); !bytes.Equal(object, want) {
		t.Errorf("certificate object %x", object)
	}
	digest := sha256.Sum256([]byte("record"))
	if _, status := term.sign(0x9C, p256, digest[:]); status != apdu.SecurityNotSatisfied {
		t.Errorf("signed without PIN: %v", status)
	}
	term.verify("246813")
	if signature, _ := term.sign(0x9C, p256, digest[:]); !ecdsa.VerifyASN1(&private.PublicKey, digest[:], signature) {
		t.Error("no signature by the officer's key")
	}
	if _, status := term.sign(0x9C, p256, digest[:]); status != apdu.SecurityNotSatisfied {
		t.Errorf("signed twice with one PIN: %v", status)
	}

	odd, err := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if term.token.InstallKey(0x9C, odd, der) == nil || term.token.InstallKey(0x9B, private, der) == nil ||
		term.token.InstallKey(0x9C, private, make([]byte, 4000)) == nil {
		t.Error("a key, slot or certificate that no token has was taken")
	}
}

func TestTouch(t *testing.T) {
	digest := make([]byte, 32)
	touching := func(t *testing.T, policy byte, o pivtoken.Options) terminal {
		term := ready(t, o)
		term.generate(0x9A, p256, 1, policy)
		return term
	}
	signs := func(term terminal, want apdu.Status) time.Duration {
		term.t.Helper()
		start := time.Now()
		if _, status := term.sign(0x9A, p256, digest); status != want {
			term.t.Errorf("%v, want %v", status, want)
		}
		return time.Since(start)
	}
	t.Run("never comes", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			term := touching(t, 2, pivtoken.Options{Faults: pivtoken.NoTouch})
			if waited := signs(term, apdu.SecurityNotSatisfied); waited != 15*time.Second {
				t.Errorf("waited %v", waited)
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			c, _ := apdu.Command{INS: 0x87, P1: p256, P2: 0x9A, Data: tag(0x7C, append([]byte{0x82, 0}, tag(0x81, digest...)...)...)}.Bytes()
			start := time.Now()
			if got := term.token.Transmit(ctx, c); string(got) != "\x69\x82" || time.Since(start) != time.Second {
				t.Errorf("pulled while waiting: %x after %v", got, time.Since(start))
			}
			term.must(0xFD, 0, 0) // and the token works on
		})
	})
	t.Run("always", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			touches := 0
			term := touching(t, 2, pivtoken.Options{Touch: func(context.Context) bool {
				touches++
				time.Sleep(2 * time.Second)
				return touches != 2
			}})
			if waited := signs(term, apdu.OK); waited != 2*time.Second {
				t.Errorf("waited %v", waited)
			}
			signs(term, apdu.SecurityNotSatisfied)
			signs(term, apdu.OK)
			if touches != 3 {
				t.Errorf("%d touches", touches)
			}
		})
	})
	t.Run("cached", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			touches := 0
			term := touching(t, 3, pivtoken.Options{Touch: func(context.Context) bool { touches++; return true }})
			signs(term, apdu.OK)
			time.Sleep(14 * time.Second)
			signs(term, apdu.OK)
			time.Sleep(time.Second)
			if signs(term, apdu.OK); touches != 2 {
				t.Errorf("%d touches", touches)
			}
		})
	})
	t.Run("too late", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			term := touching(t, 2, pivtoken.Options{Touch: func(context.Context) bool { time.Sleep(16 * time.Second); return true }})
			signs(term, apdu.SecurityNotSatisfied)
		})
	})
	t.Run("reset while waiting", func(t *testing.T) {
		var term terminal
		term = touching(t, 2, pivtoken.Options{Touch: func(context.Context) bool { term.token.Reset(); return true }})
		signs(term, apdu.UnknownError)
		term.refuses(apdu.InstructionNotSupported, 0xFD, 0, 0)
	})
	t.Run("management key", func(t *testing.T) {
		touched := false
		term := ready(t, pivtoken.Options{Touch: func(context.Context) bool { return touched }})
		term.must(0xFF, 0xFF, 0xFE, append([]byte{aes192, 0x9B, 24}, factoryKey...)...)
		if got := term.must(0xF7, 0, 0x9B); !bytes.Contains(got, []byte{2, 2, 0, 2}) {
			t.Errorf("metadata %x", got)
		}
		if status := term.admin(aes192, factoryKey); status != apdu.SecurityNotSatisfied {
			t.Errorf("without touch: %v", status)
		}
		term.refuses(apdu.SecurityNotSatisfied, 0x47, 0, 0x9A, 0xAC, 3, 0x80, 1, p256)
		touched = true
		term.mustAdmin()
	})
}

// A card may be reset at any moment.
func TestResetRaces(t *testing.T) {
	term := insert(t, pivtoken.Options{Touch: func(context.Context) bool { time.Sleep(time.Millisecond); return true }})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 300 {
			term.token.Reset()
			time.Sleep(50 * time.Microsecond)
		}
	}()
	for running := true; running; {
		select {
		case <-done:
			running = false
		default:
		}
		term.send(0xA4, 4, 0, 0xA0, 0, 0, 3, 8)
		if term.admin(aes192, factoryKey) == apdu.OK {
			term.send(0x47, 0, 0x9A, 0xAC, 9, 0x80, 1, p256, 0xAA, 1, 1, 0xAB, 1, 2)
		}
		term.sign(0x9A, p256, make([]byte, 32))
	}
	term.selectPIV()
	term.verify("123456")
}
