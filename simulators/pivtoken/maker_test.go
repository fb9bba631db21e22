package pivtoken_test

import (
	"bytes"
	"crypto/x509"
	"testing"

	"enrollkiosk/simulators/pivtoken"
	"enrollkiosk/smartcard/apdu"
)

// exponentiation is GENERAL AUTHENTICATE's request for ECDH with the base point
// of P-256 (SEC 2 2.4.2).
var exponentiation = append([]byte{0x7C, 0x45, 0x82, 0x00, 0x85, 0x41, 0x04},
	0x6B, 0x17, 0xD1, 0xF2, 0xE1, 0x2C, 0x42, 0x47, 0xF8, 0xBC, 0xE6, 0xE5, 0x63, 0xA4, 0x40, 0xF2, 0x77, 0x03, 0x7D, 0x81, 0x2D, 0xEB, 0x33, 0xA0, 0xF4, 0xA1, 0x39, 0x45, 0xD8, 0x98, 0xC2, 0x96,
	0x4F, 0xE3, 0x42, 0xE2, 0xFE, 0x1A, 0x7F, 0x9B, 0x8E, 0xE7, 0xEB, 0x4A, 0x7C, 0x0F, 0x9E, 0x16, 0x2B, 0xCE, 0x33, 0x57, 0x6B, 0x31, 0x5E, 0xCE, 0xCB, 0xB6, 0x40, 0x68, 0x37, 0xBF, 0x51, 0xF5)

// Whoever copies evidence has a genuine chain and the right serial number, but
// not the key; whoever has the key has no genuine signature.
func TestForgedAttestations(t *testing.T) {
	root, err := pivtoken.NewAuthority([]byte("forgers"))
	if err != nil {
		t.Fatal(err)
	}
	trusted, err := x509.ParseCertificate(root.Root())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		fault         pivtoken.Fault
		genuine, same bool // signed by the F9 key; about the generated key
	}{{0, true, true}, {pivtoken.CopiedChain, true, false}, {pivtoken.SoftwareLeaf, false, true}, {pivtoken.SoftwareKey, true, false}} {
		term := ready(t, pivtoken.Options{Root: root, Faults: c.fault})
		template := term.must(0x47, 0, 0x9A, 0xAC, 3, 0x80, 1, p256)
		object := term.must(0xCB, 0x3F, 0xFF, 0x5C, 3, 0x5F, 0xFF, 1)
		start := bytes.Index(object, []byte{0x30, 0x82})
		own, err := x509.ParseCertificate(object[start : len(object)-5])
		if err != nil {
			t.Fatal(err)
		}
		if err := own.CheckSignatureFrom(trusted); err != nil {
			t.Errorf("%v: F9: %v", c.fault, err)
		}
		leaf, err := x509.ParseCertificate(term.must(0xF9, 0x9A, 0))
		if err != nil {
			t.Fatal(err)
		}
		if genuine := leaf.CheckSignatureFrom(own) == nil; genuine != c.genuine || !bytes.Equal(leaf.RawIssuer, own.RawSubject) {
			t.Errorf("%v: genuine %v", c.fault, genuine)
		}
		if same := bytes.Contains(leaf.RawSubjectPublicKeyInfo, template[5:]); same != c.same {
			t.Errorf("%v: about the generated key: %v", c.fault, same)
		}
	}
}

// Statuses as Nitrokey's piv-authenticator 0.3.9 answers.
func TestLikeNitrokey(t *testing.T) {
	term := insert(t, pivtoken.Options{Faults: pivtoken.LikeNitrokey})
	full := []byte{0xA0, 0, 0, 3, 8, 0, 0, 0x10, 0, 1, 0}
	term.refuses(apdu.FileNotFound, 0xA4, 4, 0, full[:5]...)
	term.refuses(apdu.FileNotFound, 0xA4, 4, 0, full[:8]...)
	term.must(0xA4, 4, 0, full[:9]...)
	if got := term.must(0xFD, 0, 0); !bytes.Equal(got, []byte{6, 6, 6}) {
		t.Errorf("version %x", got)
	}
	if got := term.must(0xF8, 0, 0); !bytes.Equal(got, []byte{0, 0x52, 0xF7, 0x43}) {
		t.Errorf("serial %x", got)
	}
	term.refuses(apdu.FunctionNotSupported, 0xF9, 0x9A, 0)
	for _, ref := range []byte{0x80, 0x9A, 0x9B} {
		if got := term.must(0xF7, 0, ref); len(got) != 0 {
			t.Errorf("metadata %x", got)
		}
	}
}

// Statuses as PivApplet 0.9 answers, built without key agreement.
func TestLikePivApplet(t *testing.T) {
	term := insert(t, pivtoken.Options{Faults: pivtoken.LikePivApplet})
	term.selectPIV()
	term.refuses(apdu.InstructionNotSupported, 0xF7, 0, 0x9A)
	term.refuses(apdu.InstructionNotSupported, 0xF9, 0x9A, 0)
	term.refuses(apdu.FileNotFound, 0xCB, 0x3F, 0xFF, 0x5C, 3, 0x5F, 0xFF, 1)
	term.refuses(apdu.SecurityNotSatisfied, 0x87, p256, 0x9D, exponentiation...) // the PIN first
	term.verify(pivtoken.DefaultPIN)
	term.refuses(apdu.IncorrectP1P2, 0x87, p256, 0x9D, exponentiation...) // then the key
	if status := term.admin(tripleDES, factoryKey); status != apdu.OK {
		t.Fatal(status)
	}
	term.must(0x47, 0, 0x9D, 0xAC, 3, 0x80, 1, p256)
	term.refuses(apdu.WrongData, 0x47, 0, 0x9A, 0xAC, 3, 0x80, 1, 0x14)
	term.refuses(apdu.FunctionNotSupported, 0x87, p256, 0x9D, exponentiation...) // then the operation
	term.refuses(apdu.WrongData, 0xFF, 0xFF, 0xFF, append([]byte{aes192, 0x9B, 24}, factoryKey...)...)
	term.must(0xFF, 0xFF, 0xFF, append([]byte{tripleDES, 0x9B, 24}, factoryKey...)...)
}

func TestTokensThatCannotAgree(t *testing.T) {
	for fault, want := range map[pivtoken.Fault][2]apdu.Status{ // of an empty slot, of a key
		0:                      {apdu.WrongData, apdu.OK},
		pivtoken.NoAgreement:   {apdu.FunctionNotSupported, apdu.FunctionNotSupported},
		pivtoken.LateAgreement: {apdu.WrongData, apdu.FunctionNotSupported},
	} {
		term := ready(t, pivtoken.Options{Faults: fault})
		term.verify(pivtoken.DefaultPIN)
		term.refuses(want[0], 0x87, p256, 0x95, exponentiation...)
		term.must(0x47, 0, 0x9D, 0xAC, 3, 0x80, 1, p256)
		if _, status := term.send(0x87, p256, 0x9D, exponentiation...); status != want[1] {
			t.Errorf("%v: %v, want %v", fault, status, want[1])
		}
	}
}

func TestOtherOriginsAndAlgorithms(t *testing.T) {
	term := ready(t, pivtoken.Options{Faults: pivtoken.OtherOrigins | pivtoken.NoEd25519})
	term.must(0x47, 0, 0x9A, 0xAC, 3, 0x80, 1, p256)
	if got := term.must(0xF7, 0, 0x9A); !bytes.Contains(got, []byte{3, 1, 0}) {
		t.Errorf("metadata %x", got)
	}
	term.refuses(apdu.WrongData, 0x47, 0, 0x9C, 0xAC, 3, 0x80, 1, 0xE0)
}

func TestFaultNames(t *testing.T) {
	all, err := pivtoken.ParseFault(pivtoken.Fault(0xFFFF).String())
	if err != nil || all != 0xFFFF {
		t.Errorf("%v %v", all, err)
	}
}
