package idcard

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/hex"
	"flag"
	"fmt"
	"maps"
	"math/big"
	"slices"
	"testing"

	"enrollkiosk/smartcard/apdu"
)

// bare is a chip with the protocols and a few files, no issuer behind it.
func bare(t testing.TB, p Profile) *Chip {
	t.Helper()
	p.MRZ, p.CAN = mrzOf(t), "123456"
	if p.Application == nil {
		p.Application = map[uint16][]byte{efCOM: tlv(0x60, make([]byte, 20)), dg2: tlv(0x75, make([]byte, 3000))}
	}
	if p.Master == nil {
		p.Master = map[uint16][]byte{efCardAccess: tlv(0x31, make([]byte, 18)), efDIR: tlv(0x61, make([]byte, 9))}
	}
	c, err := New(p)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func mrzOf(t testing.TB) string {
	t.Helper()
	zone, err := SpecimenPerson().zone()
	if err != nil {
		t.Fatal(err)
	}
	return zone
}

func domains() []Domain {
	return slices.Sorted(maps.Keys(curves))
}

func chipKey(t testing.TB, s Suite, d Domain) (*ChipKey, []byte) {
	t.Helper()
	group, err := d.agreement()
	if err != nil {
		t.Fatal(err)
	}
	k := &ChipKey{Suite: s, Domain: d}
	if k.Private, err = group.scalar(rand.Reader); err != nil {
		t.Fatal(err)
	}
	return k, group.encode(group.mul(k.Private, group.base()))
}

// every runs whole tables where a sample serves otherwise: under the race detector
// they take a minute.
var every = flag.Bool("every", false, "run every combination of mapping, suite and domain parameters")

// sampled tells whether a combination is run without -every: all suites on three
// domains, and one suite on each of the others.
func sampled(m Mapping, s Suite, d Domain) bool {
	switch d {
	case DH1024_160, P256, BrainpoolP256r1:
		return true
	}
	turn := Suite(d)%4 + 1
	if m == CAM && turn == TripleDES {
		turn = AES128
	}
	return *every || s == turn
}

// variants is every combination of 9303-11 tables 2, 3 and 12.
func variants() (list []PACE) {
	all := append(domains(), DH1024_160, DH2048_224, DH2048_256)
	for _, m := range []Mapping{GM, IM, CAM} {
		for _, d := range all {
			for s := TripleDES; s <= AES256; s++ {
				v := PACE{m, s, d}
				if v.check([]*ChipKey{{Domain: d}}) == nil {
					list = append(list, v)
				}
			}
		}
	}
	return list
}

func TestEveryPACE(t *testing.T) {
	list := variants()
	if want := 4*14 + 4*13 + 3*11; len(list) != want {
		t.Fatalf("%d variants, want %d", len(list), want)
	}
	for _, v := range list {
		if !sampled(v.Mapping, v.Suite, v.Domain) {
			continue
		}
		t.Run(fmt.Sprintf("mapping %d suite %d domain %d", v.Mapping, v.Suite, v.Domain), func(t *testing.T) {
			p := Profile{PACE: []PACE{v}}
			var public []byte
			if v.Mapping == CAM {
				p.ChipKeys = make([]*ChipKey, 1)
				p.ChipKeys[0], public = chipKey(t, v.Suite, v.Domain)
			}
			c := bare(t, p)
			r := connect(t, c)
			if sw := r.pace(v, 2, []byte(c.CAN())); sw != apdu.OK {
				t.Fatal(sw)
			}
			r.selectApplication()
			if _, err := r.read(efCOM); err != nil {
				t.Fatal(err)
			}
			if v.Mapping == CAM && !r.proves(v.Domain, public) {
				t.Error("the chip's proof does not fit its key")
			}
		})
	}
}

// A wrong password is refused by every mapping, and leaves no session.
func TestEveryMappingRefusesAWrongPassword(t *testing.T) {
	key, _ := chipKey(t, AES128, P256)
	for _, v := range []PACE{{GM, AES128, P256}, {IM, AES192, P256}, {CAM, AES256, P256}, {GM, TripleDES, DH1024_160}, {IM, AES128, DH1024_160}} {
		c := bare(t, Profile{PACE: []PACE{v}, ChipKeys: []*ChipKey{key}})
		for reference, password := range map[byte][]byte{1: make([]byte, 20), 2: []byte("654321")} {
			if sw := connect(t, c).pace(v, reference, password); sw != authenticationFailed || c.channel != nil {
				t.Errorf("%v, password %d: %v", v, reference, sw)
			}
		}
		if sw := connect(t, c).pace(v, 1, mrzPassword(c)); sw != apdu.OK {
			t.Errorf("%v with the MRZ: %v", v, sw)
		}
	}
}

// proves checks the chip authentication data: 9303-11 4.4.3.5.2.
func (r *terminal) proves(d Domain, public []byte) bool {
	r.t.Helper()
	g, _ := d.group()
	static, ok := g.decode(public)
	return ok && r.proof != nil && bytes.Equal(g.encode(g.mul(r.proof, static)), g.encode(r.mapping))
}

// Leading zero bytes of secrets, coordinates and numbers: every parameter set
// runs until each kind was met.
func TestSecretsKeepLeadingZeros(t *testing.T) {
	for _, d := range append(domains(), DH1024_160, DH2048_224, DH2048_256) {
		group, _ := d.agreement()
		length := len(group.secret(group.base()))
		found := false
		for p := group.base(); !found; p = group.add(p, group.base()) {
			secret := group.secret(p)
			if len(secret) != length {
				t.Fatalf("domain %d: a secret of %d bytes", d, len(secret))
			}
			encoded := group.encode(p)
			q, ok := group.decode(encoded)
			if !ok || q.x.Cmp(p.x) != 0 {
				t.Fatalf("domain %d: %x does not survive its encoding", d, encoded)
			}
			found = secret[0] == 0
			if d.overFiniteField() && found && encoded[0] == 0 {
				t.Fatalf("domain %d: an unsigned integer begins with a zero byte", d)
			}
		}
	}
}

func TestWrongPasswordHabit(t *testing.T) {
	v := PACE{GM, AES128, P256}
	c := bare(t, Profile{PACE: []PACE{v}, WrongPassword: 0x63C2})
	for range 5 { // it has no counter: the CAN is no secret that a chip defends
		if sw := connect(t, c).pace(v, 2, []byte("000000")); sw != 0x63C2 {
			t.Fatal(sw)
		}
	}
	if sw := connect(t, c).pace(v, 2, []byte(c.CAN())); sw != apdu.OK {
		t.Fatal(sw)
	}
}

func TestPACERefusesWhatNoChipCanDo(t *testing.T) {
	key, _ := chipKey(t, AES128, P256)
	for name, v := range map[string]PACE{
		"a mapping that is not known":     {3, AES128, P256},
		"a suite that is not known":       {GM, 5, P256},
		"domain parameters in reserve":    {GM, AES128, 3},
		"Integrated Mapping on P-224":     {IM, AES128, P224},
		"Chip Authentication with 3DES":   {CAM, TripleDES, P256},
		"Chip Authentication over DH":     {CAM, AES128, DH2048_256},
		"Chip Authentication without key": {CAM, AES128, P384},
	} {
		if _, err := New(Profile{PACE: []PACE{v}, ChipKeys: []*ChipKey{key}}); err == nil {
			t.Errorf("%s: a chip was made", name)
		}
	}
}

func TestPACENamesItsDomain(t *testing.T) {
	c := bare(t, Profile{PACE: []PACE{{GM, AES128, P256}, {GM, AES128, P384}}})
	for _, v := range []struct {
		domain Domain
		want   apdu.Status
	}{{P256, apdu.OK}, {P384, apdu.OK}, {P521, apdu.ReferencedDataNotFound}} {
		if sw := connect(t, c).pace(PACE{GM, AES128, v.domain}, 2, []byte(c.CAN())); sw != v.want {
			t.Errorf("domain %d: %v, want %v", v.domain, sw, v.want)
		}
	}
	if sw := connect(t, c).pace(PACE{IM, AES128, P256}, 2, []byte(c.CAN())); sw != apdu.WrongData {
		t.Errorf("a mapping that the chip does not offer: %v", sw)
	}
}

// No worked example has AES-192, whose 32-byte outputs are cut to 24-byte keys
// (9303-11 4.4.3.3.2, note): figure 2, written out a second time.
func TestPseudoRandomNumberOfAES192(t *testing.T) {
	s, key := bytes.Repeat([]byte{0x11}, 32), bytes.Repeat([]byte{0x22}, 24)
	cbc := func(key, in []byte) []byte {
		block, err := aes.NewCipher(key[:24])
		if err != nil {
			t.Fatal(err)
		}
		out := make([]byte, len(in))
		cipher.NewCBCEncrypter(block, make([]byte, 16)).CryptBlocks(out, in)
		return out
	}
	c0, _ := hex.DecodeString("d463d65234124ef7897054986dca0a174e28df758cbaa03f240616414d5a1676")
	c1, _ := hex.DecodeString("54bd7255f0aaf831bec3423fcf39d69b6cbf066677d0faae5aadd99df8e53517")
	k0 := cbc(key, s)
	k1 := cbc(k0, c0)
	x := append(cbc(k0, c1), cbc(k1, c1)...) // 512 bits are the first to reach 256 + 64
	g, _ := P256.group()
	want := new(big.Int).SetBytes(x)
	if got := AES192.pseudoRandom(s, key, g.p); got.Cmp(want.Mod(want, g.p)) != 0 {
		t.Errorf("%x, want %x", got, want)
	}
}
