package idcard

import (
	"bytes"
	"crypto"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"enrollkiosk/smartcard/apdu"
)

// profileOf is what a card would be made of.
func profileOf(t testing.TB, a *Authority, o Options) Profile {
	t.Helper()
	if o.Face == nil {
		o.Face = specimenFace
	}
	p, err := a.personalise(SpecimenPerson(), o)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// verifiesUnder asks openssl for the whole of passive authentication but the hashes.
func verifiesUnder(t *testing.T, csca, contentInfo []byte, more ...string) (string, error) {
	t.Helper()
	args := []string{"cms", "-verify", "-inform", "DER", "-CAfile", writePEM(t, csca), "-purpose", "any",
		"-out", os.DevNull, "-in", write(t, "sod", contentInfo)}
	return openssl(t, append(args, more...)...)
}

func TestFaultsOfTheIssuer(t *testing.T) {
	a := testAuthority(t, ECDSA)
	sod := func(f Fault) []byte {
		return contentInfo(t, profileOf(t, a, Options{Faults: []Fault{f}}).Application[efSOD])
	}
	t.Run(string(RevokedSigner), func(t *testing.T) {
		crl, err := a.CRL(false)
		if err != nil {
			t.Fatal(err)
		}
		list := write(t, "crl.pem", pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: crl}))
		der := sod(RevokedSigner)
		if out, err := verifiesUnder(t, a.CSCA(), der); err != nil {
			t.Errorf("without the list: %v\n%s", err, out)
		}
		signer := write(t, "signer", nil)
		if out, err := verifiesUnder(t, a.CSCA(), der, "-signer", signer); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		out, err := openssl(t, "verify", "-crl_check", "-CRLfile", list, "-CAfile", writePEM(t, a.CSCA()), signer)
		if err == nil || !strings.Contains(out, "certificate revoked") {
			t.Errorf("with the list: %v\n%s", err, out)
		}
	})
	t.Run(string(ExpiredSigner), func(t *testing.T) {
		out, err := verifiesUnder(t, a.CSCA(), sod(ExpiredSigner))
		if err == nil || !strings.Contains(out, "certificate has expired") {
			t.Errorf("today: %v\n%s", err, out)
		}
		if out, err := verifiesUnder(t, a.CSCA(), sod(ExpiredSigner), "-attime", fmt.Sprint(time.Now().AddDate(0, -2, 0).Unix())); err != nil {
			t.Errorf("two months ago: %v\n%s", err, out)
		}
	})
	t.Run(string(SelfMadeSOD), func(t *testing.T) {
		der := sod(SelfMadeSOD)
		verifyCMS(t, der)
		out, err := verifiesUnder(t, a.CSCA(), der)
		if err == nil || !strings.Contains(out, "signature failure") {
			t.Errorf("%v\n%s", err, out)
		}
		n := nodeOf(t, der)
		forged, err := certificateFields(SignedDataIn(n).Find(0xA0).Children[0].Encode())
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(forged.subject, a.signer.subject) || forged.serial.Cmp(a.signer.serial) != 0 {
			t.Error("the certificate does not look like the signer's")
		}
	})
	t.Run(string(SHA1SOD), func(t *testing.T) {
		p := profileOf(t, a, Options{Faults: []Fault{SHA1SOD}})
		content := verifyCMS(t, contentInfo(t, p.Application[efSOD]))
		hash, err := exec.Command("openssl", "dgst", "-sha1", "-binary", write(t, "dg2", p.Application[dg2])).Output()
		if err != nil || !bytes.Contains(content, hash) {
			t.Errorf("no SHA-1 of DG2 (%v)", err)
		}
	})
	t.Run(string(IndefiniteSOD), func(t *testing.T) {
		file := profileOf(t, a, Options{Faults: []Fault{IndefiniteSOD}}).Application[efSOD]
		if total(file) != len(file) {
			t.Errorf("the file says it has %d bytes of %d", total(file), len(file))
		}
		der := file[bytes.IndexByte(file, 0x30):]
		if der[1] != 0x80 {
			t.Errorf("begins %x", der[:2])
		}
		if out, err := verifiesUnder(t, a.CSCA(), der); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
	})
	t.Run(string(TrailingSOD), func(t *testing.T) {
		file := profileOf(t, a, Options{Faults: []Fault{TrailingSOD}}).Application[efSOD]
		if total(file) != len(file)-16 {
			t.Errorf("the file says it has %d bytes of %d", total(file), len(file))
		}
	})
	t.Run(string(SwappedDG), func(t *testing.T) {
		p := profileOf(t, a, Options{Faults: []Fault{SwappedDG}})
		content := verifyCMS(t, contentInfo(t, p.Application[efSOD]))
		for id, same := range map[uint16]bool{dg1: true, dg2: false, dg14: true, dg15: true} {
			if bytes.Contains(content, sum(crypto.SHA256, p.Application[id])) != same {
				t.Errorf("file %04X under this SOD: not %v", id, same)
			}
		}
		if got := imageIn(t, p.Application[dg2]); bytes.Equal(got, specimenFace) {
			t.Error("the face is still the holder's")
		}
	})
}

// openssl reads every public key of DG14 and DG15 that is written in a way it knows.
func TestChipKeysArePublished(t *testing.T) {
	a := testAuthority(t, ECDSA)
	for _, how := range []Parameters{Named, Explicit, Standardized, PKCS3} {
		p := profileOf(t, a, Options{ChipParameters: how, ChipKeys: []ChipKey{
			{Suite: AES256, Domain: BrainpoolP320r1, ID: big.NewInt(1)}, {Suite: TripleDES, Domain: DH2048_256, ID: big.NewInt(2)},
			{Domain: P521, ID: big.NewInt(300)}}, TerminalAuthentication: true})
		if len(p.ChipKeys) != 3 || p.ChipKeys[2].Suite != AES128 {
			t.Fatalf("keys %v", p.ChipKeys)
		}
		file := nodeOf(t, p.Application[dg14])
		for id, arcs := range map[string]string{ // protocol and key
			"1": "0.4.0.127.0.7.2.2.3.2.4 0.4.0.127.0.7.2.2.1.2",
			"2": "0.4.0.127.0.7.2.2.3.1.1 0.4.0.127.0.7.2.2.1.1",
		} {
			info := file.Holding(strings.Fields(arcs)[0])
			key := file.Holding(strings.Fields(arcs)[1])
			if info == nil || key == nil || len(info.Children) != 3 || info.Children[2].Value[0] != id[0]-'0' ||
				key.Children[2].Value[0] != id[0]-'0' {
				t.Fatalf("key %s: %x", id, file.Encode())
			}
			if how == Standardized {
				if key.Holding("0.4.0.127.0.7.1.2") == nil {
					t.Errorf("key %s is not standardized", id)
				}
				continue
			}
			out, err := openssl(t, "pkey", "-pubin", "-inform", "DER", "-noout", "-text", "-in", write(t, "key", key.Children[1].Encode()))
			if err != nil || !strings.Contains(out, "ublic") {
				t.Errorf("key %s: %v\n%s", id, err, out)
			}
			if how == Explicit && id == "1" && !strings.Contains(out, "Prime:") || how == Named && id == "1" && !strings.Contains(out, "ASN1 OID") {
				t.Errorf("parameters %d: %s", how, out)
			}
		}
		if file.Holding("0.4.0.127.0.7.2.2.2") == nil {
			t.Error("no TerminalAuthenticationInfo")
		}
	}
}

func TestActiveKeysToOrder(t *testing.T) {
	a := testAuthority(t, ECDSA)
	for _, v := range []struct {
		scheme Scheme
		info   string // signature algorithm in DG14
	}{
		{Scheme{Algorithm: ECDSA, Hash: crypto.SHA384, Domain: P384}, "1.2.840.10045.4.3.3"},
		{Scheme{Algorithm: PlainECDSA, Hash: crypto.SHA1, Domain: BrainpoolP224r1, Parameters: Explicit}, "0.4.0.127.0.7.1.1.4.1.1"},
		{Scheme{Algorithm: PlainECDSA, Hash: crypto.SHA512, Domain: BrainpoolP512r1}, "0.4.0.127.0.7.1.1.4.1.5"},
		{Scheme{Algorithm: RSA, Hash: crypto.SHA512, Bits: 1280}, ""},
	} {
		p := profileOf(t, a, Options{ActiveScheme: v.scheme})
		key := nodeOf(t, p.Application[dg15]).Children[0].Encode()
		out, err := openssl(t, "pkey", "-pubin", "-inform", "DER", "-noout", "-text", "-in", write(t, "key", key))
		if err != nil || strings.Contains(out, "Field Type") != (v.scheme.Parameters == Explicit) {
			t.Errorf("%v: %v\n%s", v.scheme, err, out)
		}
		info := nodeOf(t, p.Application[dg14]).Holding("2.23.136.1.1.5")
		if (info != nil) != (v.info != "") || info != nil && !bytes.Equal(info.Children[2].Encode(), dotted(v.info)) {
			t.Errorf("%v: not announced as %q", v.scheme, v.info)
		}
		if p.ActiveKey.Hash != v.scheme.Hash || p.ActiveKey.DER != (v.scheme.Algorithm == ECDSA) {
			t.Errorf("%v: the chip signs otherwise", v.scheme)
		}
	}
}

// EF.CardSecurity has what EF.CardAccess has and the mapping's key, and openssl takes its signature.
func TestCardSecurity(t *testing.T) {
	a := testAuthority(t, ECDSA)
	p := profileOf(t, a, Options{PACE: []PACE{{CAM, AES128, BrainpoolP256r1}, {GM, AES128, P256}}})
	if out, err := verifiesUnder(t, a.CSCA(), p.Master[efCardSecurity]); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	content := nodeOf(t, verifyCMS(t, p.Master[efCardSecurity]))
	for _, info := range nodeOf(t, p.Master[efCardAccess]).Children {
		if !bytes.Contains(content.Encode(), info.Encode()) {
			t.Errorf("EF.CardSecurity lacks %x", info.Encode())
		}
	}
	if key := content.Holding("0.4.0.127.0.7.2.2.1.2"); key == nil || key.Holding("0.4.0.127.0.7.1.2").Children[1].Value[0] != 13 {
		t.Error("EF.CardSecurity lacks the key of the mapping")
	}
	if len(p.ChipKeys) != 1 || p.ChipKeys[0].Domain != BrainpoolP256r1 {
		t.Errorf("chip keys %v", p.ChipKeys)
	}
	c, err := New(p)
	if err != nil {
		t.Fatal(err)
	}
	connect(t, c).paceCAN()

	p = profileOf(t, a, Options{ChipKeyID: 1, ChipDomain: P256, PACE: []PACE{{CAM, AES256, P384}}})
	if len(p.ChipKeys) != 2 || p.ChipKeys[1].Domain != P384 || p.ChipKeys[1].Suite != AES256 {
		t.Errorf("chip keys %v", p.ChipKeys)
	}
	if p := profileOf(t, a, Options{}); p.Master[efCardSecurity] != nil {
		t.Error("a card without need has EF.CardSecurity")
	}
	p = profileOf(t, a, Options{CardSecurity: &SignedObject{EditContent: func(n *Node) { n.Children = n.Children[1:] }}})
	if n := nodeOf(t, verifyCMS(t, p.Master[efCardSecurity])); len(n.Children) != 2 {
		t.Errorf("%d entries after one was taken out", len(n.Children))
	}
}

func TestChipAuthenticationOverDH(t *testing.T) {
	c := issue(t, Options{ChipKeys: []ChipKey{{Suite: AES256, Domain: DH2048_224}}})
	r := connect(t, c)
	r.extended = true
	r.paceCAN()
	file, err := r.read(dg14)
	if err != nil {
		t.Fatal(err)
	}
	bits := nodeOf(t, file).Holding("0.4.0.127.0.7.2.2.1.1").Children[1].Children[1]
	public := nodeOf(t, bits.Value[1:]).Value
	if public[0] == 0 {
		public = public[1:]
	}
	if sw := r.authenticateChip(&ChipKey{Suite: AES256, Domain: DH2048_224}, public); sw != apdu.OK {
		t.Fatal(sw)
	}
	if _, err := r.read(dg1); err != nil {
		t.Errorf("read under the new keys: %v", err)
	}
}

// The zone in DG1 may say something else than what is printed and opens the card.
func TestEditedZone(t *testing.T) {
	c := issue(t, Options{EditZone: func(zone string) string {
		return CheckDigits(zone[:30] + "74<<<<" + zone[36:])
	}})
	r := connect(t, c)
	r.selectApplication()
	info, _ := mrzInformation(c.MRZ())
	if sw := r.bac(info); sw != apdu.OK {
		t.Fatal(sw)
	}
	group, err := r.read(dg1)
	if err != nil || !bytes.Contains(group, []byte("74<<<<1F340415")) {
		t.Errorf("%s (%v)", group, err)
	}
}

// A file is altered before it is hashed: the SOD covers what is wrong with it.
func TestEditedFilesAreSigned(t *testing.T) {
	a := testAuthority(t, ECDSA)
	plain := profileOf(t, a, Options{})
	for _, id := range []uint16{dg1, dg2, dg14, dg15, efCOM} {
		p := profileOf(t, a, Options{EditFile: func(which uint16, b []byte) []byte {
			if which == id {
				return EditBytes(func(n *Node) { n.Tag, n.Claim = 0x76, -1 })(b)
			}
			return b
		}})
		file := p.Application[id]
		if file[0] != 0x76 || total(file) != len(file)-1 {
			t.Errorf("%04X begins %x", id, file[:6])
		}
		content := verifyCMS(t, contentInfo(t, p.Application[efSOD]))
		if id != efCOM && !bytes.Contains(content, sum(crypto.SHA256, file)) {
			t.Errorf("%04X: the SOD covers another file", id)
		}
		if bytes.Equal(plain.Application[id], file) {
			t.Errorf("%04X is as ever", id)
		}
	}
}

func TestCheckDigits(t *testing.T) {
	for _, change := range []func(*Person){
		func(*Person) {},
		func(p *Person) { p.Number = "D23145890734" },
		func(p *Person) { p.Format, p.Number = TD2, "D23145890734" },
		func(p *Person) { p.Format, p.Optional = TD2, "AB12" },
		func(p *Person) { p.Format, p.Code, p.Optional = TD3, "P", "ZE184226B" },
		func(p *Person) { p.BirthField = "74<<<<" },
	} {
		p := SpecimenPerson()
		change(&p)
		zone, err := p.zone()
		if err != nil {
			t.Fatal(err)
		}
		var blank []byte // no digit that is a check digit survives
		for i := range zone {
			b := zone[i]
			switch {
			case len(zone) == 90 && (i == 14 && b != '<' || i == 36 || i == 44 || i == 59),
				len(zone) == 72 && (i == 45 && b != '<' || i == 55 || i == 63 || i == 71),
				len(zone) == 88 && (i == 53 || i == 63 || i == 71 || i == 86 || i == 87):
				b = 'X'
			}
			blank = append(blank, b)
		}
		if got := CheckDigits(string(blank)); got != zone || string(blank) == zone {
			t.Errorf("%s\n%s, want\n%s", blank, got, zone)
		}
	}
	if got := CheckDigits("short"); got != "short" {
		t.Error(got)
	}
}

func FuzzNode(f *testing.F) {
	f.Add(tlv(0x30, tlv(0x02, []byte{1}), tlv(0x7F60, tlv(0x5F2E, make([]byte, 300)))))
	f.Add([]byte{0x30, 0x80, 0, 0})
	f.Add(bytes.Repeat([]byte{0x30, 0x82, 0xFF, 0xFF}, 40))
	f.Fuzz(func(t *testing.T, b []byte) {
		n, err := ParseNode(b)
		if err != nil {
			return
		}
		again, err := ParseNode(n.Encode())
		if err != nil || !bytes.Equal(again.Encode(), n.Encode()) {
			t.Errorf("%x is written as %x and read back otherwise (%v)", b, n.Encode(), err)
		}
	})
}
