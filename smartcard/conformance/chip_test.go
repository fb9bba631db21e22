package conformance

import (
	"bytes"
	"crypto"
	"fmt"
	"math/big"
	"slices"
	"testing"

	"enrollkiosk/simulators/idcard"
	"enrollkiosk/smartcard/apdu"
	"enrollkiosk/smartcard/domain"
	"enrollkiosk/smartcard/lds"
	"enrollkiosk/smartcard/tlv"
	"enrollkiosk/smartcard/trust"
)

var tripleDES = with("Chip Authentication with 3DES", plain, func(c *card) { c.opts.ChipSuite = idcard.TripleDES })

// proved wants Chip Authentication to have passed, with the key of that number.
func proved(key *big.Int) func(*testing.T, result) {
	return func(t *testing.T, r result) {
		t.Helper()
		e := r.document.Chip
		if r.report.ChipAuthentication != trust.Passed || e == nil || (key == nil) != (e.KeyID == nil) || key != nil && key.Cmp(e.KeyID) != 0 {
			t.Errorf("Chip Authentication %s, or of another key", r.report.ChipAuthentication)
		}
	}
}

func chipKeys(how idcard.Parameters, keys ...idcard.ChipKey) func(*card) {
	return func(c *card) { c.opts.ChipKeys, c.opts.ChipParameters = keys, how }
}

// chipTests are unit ISO7816_D.
func chipTests() []test {
	var list []test
	for _, n := range domain.IDs() {
		row := "ISO7816_D_02"
		if n <= 2 {
			row = "ISO7816_D_01"
		}
		// Each set of domain parameters once, the suites and the forms of a key in turn.
		key := idcard.ChipKey{Suite: idcard.TripleDES + idcard.Suite(n%4), Domain: idcard.Domain(n)}
		how := []idcard.Parameters{idcard.Named, idcard.Explicit, idcard.Standardized}[n%3]
		list = append(list, test{row: row, what: fmt.Sprintf("domain %d, suite %d, form %d", n, key.Suite, how), base: plain, alter: chipKeys(how, key), check: proved(nil)})
	}
	id := func(n int64) *big.Int { return big.NewInt(n) }
	keys := []idcard.ChipKey{{Domain: idcard.P256, ID: id(1)}, {Domain: idcard.P384, ID: id(2)}, {Suite: idcard.TripleDES, Domain: idcard.P256, ID: id(3)}}
	for i, row := range []string{"ISO7816_D_03", "ISO7816_D_04", "ISO7816_D_05"} {
		list = append(list, test{row: row, what: "keys", base: plain, alter: chipKeys(idcard.Named, keys[:i+1]...), check: proved(id(1))})
	}
	numbered := with("one numbered chip key", plain, func(c *card) { c.opts.ChipKeyID = 7 })
	list = append(list,
		test{row: "ISO7816_D_06", what: "another number", base: numbered, alter: profile(func(p *idcard.Profile) { p.ChipKeys[0].ID = id(9) }), refused: "reader: refused"},
		test{row: "ISO7816_D_09", what: "AES", base: plain, alter: exchange(oldKeys), refused: "reader: chip not genuine"},
		test{row: "ISO7816_D_09", what: "3DES", base: tripleDES, alter: exchange(oldKeys), refused: "reader: chip not genuine"},
		freshKeys(),
		test{row: "ISO7816_D_13", what: "another number", base: numbered, alter: tree(lds.DG14, func(n *idcard.Node) {
			n.Holding("0.4.0.127.0.7.2.2.1.2").Find(0x02).SetInt(8)
		}), refused: "structure: malformed"},
		test{row: "ISO7816_D_14", what: "DH", base: plain, alter: chipKeys(idcard.Named, idcard.ChipKey{Domain: idcard.DH2048_256}), check: func(t *testing.T, r result) {
			proved(nil)(t, r)
			if !slices.ContainsFunc(r.sent, func(c []byte) bool { return c[1] == 0x86 && c[0]&0x0C != 0 && c[4] == 0 }) {
				t.Error("no extended GENERAL AUTHENTICATE")
			}
		}})
	for _, sw := range []apdu.Status{apdu.WrongData, apdu.ReferencedDataNotFound, apdu.ConditionsNotSatisfied, apdu.UnknownError} {
		list = append(list, test{row: "ISO7816_D_15", what: sw.Error(), base: numbered, alter: status(idcard.StepChipSet, sw), refused: "reader: refused"})
	}

	// damage changes the chip's public key in DG14.
	damage := func(change func([]byte)) func(*card) {
		return file(lds.DG14, func(b []byte) []byte {
			infos, err := lds.ParseDG14(b)
			if err != nil {
				panic(err)
			}
			spki := infos.ChipAuthenticationKeys[0].SPKI
			at := bytes.Index(b, spki)
			change(b[at : at+len(spki)])
			return b
		})
	}
	last := func(b []byte) { b[len(b)-1] ^= 1 }
	within := func(b []byte) { b[bytes.IndexByte(b, 0x03)+40] ^= 1 }
	parameters := func(b []byte) { // the first number in them gets the tag of another type
		outer, _ := tlv.ParseOne(b, 0x30)
		c := outer.Cursor().Next(0x30).Cursor()
		c.Next(0x06)
		own, _ := c.Next(0x30).Children()
		b[bytes.Index(b, own[0].Raw)] = 0x0A
	}
	dh := with("Chip Authentication over DH", plain, chipKeys(idcard.Named, idcard.ChipKey{Domain: idcard.DH2048_256}))
	curve := with("Chip Authentication on a spelled-out curve", plain, chipKeys(idcard.Explicit, idcard.ChipKey{Domain: idcard.BrainpoolP256r1}))
	standard := with("Chip Authentication on a numbered curve", plain, chipKeys(idcard.Standardized, idcard.ChipKey{Domain: idcard.BrainpoolP256r1}))
	return append(list,
		test{row: "ISO7816_D_07", what: "last byte", base: dh, alter: damage(last), refused: "reader: malformed"},
		test{row: "ISO7816_D_08", what: "last byte", base: standard, alter: damage(last), refused: "reader: malformed"},
		test{row: "ISO7816_D_08", what: "within", base: standard, alter: damage(within), refused: "reader: malformed"},
		test{row: "ISO7816_D_11", what: "spelled out", base: dh, alter: damage(parameters), refused: "reader: malformed"},
		test{row: "ISO7816_D_12", what: "spelled out", base: curve, alter: damage(parameters), refused: "reader: malformed"})
}

func oldKeys(e *idcard.Exchange) { e.OldKeys = e.Step == idcard.StepChipAgree }

// freshKeys is ISO7816_D_10: the terminal's key, twice.
func freshKeys() test {
	var seen [][]byte
	return test{row: "ISO7816_D_10", what: "two runs", base: plain, alter: func(c *card) {
		seen, c.again = nil, true
		c.edit = func(e *idcard.Exchange) {
			if e.Step == idcard.StepChipAgree && !e.Wire {
				seen = append(seen, bytes.Clone(e.Command.Data))
			}
		}
	}, check: func(t *testing.T, r result) {
		proved(nil)(t, r)
		if len(seen) != 2 || bytes.Equal(seen[0], seen[1]) {
			t.Errorf("%d keys of the terminal, or the same again", len(seen))
		}
	}}
}

// terminalTests are those of unit ISO7816_E that a system without terminal
// certificates can meet: it reads on, without fingerprints and iris.
func terminalTests() []test {
	group := func(tag tlv.Tag) []byte { return tlv.Encode(tag, make([]byte, 40)) }
	guarded := func(groups map[uint16][]byte) func(*card) {
		return func(c *card) { c.opts.TerminalAuthentication, c.opts.Files, c.all = true, groups, true }
	}
	finger, iris := map[uint16][]byte{lds.DG3.FID(): group(0x63)}, map[uint16][]byte{lds.DG4.FID(): group(0x76)}
	everything := map[uint16][]byte{lds.DG3.FID(): group(0x63), lds.DG4.FID(): group(0x76)}
	unseen := func(words string) func(result) string {
		return func(r result) string {
			if r.outcome() == accept && r.holder.Files()[lds.DG3.FID()] == nil && r.holder.Files()[lds.DG4.FID()] == nil {
				return accept + "; " + words
			}
			return r.outcome()
		}
	}
	return []test{
		{row: "ISO7816_E_14", what: "no certificate", base: plain, alter: guarded(finger), outcome: unseen("no fingerprints shown")},
		{row: "ISO7816_E_15", what: "no certificate", base: plain, alter: guarded(iris), outcome: unseen("no iris shown")},
		{row: "ISO7816_E_16", what: "no certificate", base: plain, alter: guarded(everything), outcome: unseen("neither shown")},
		{row: "ISO7816_E_29", what: "DG3", base: plain, alter: guarded(finger)},
		{row: "ISO7816_E_30", what: "DG4", base: plain, alter: guarded(iris)},
	}
}

// activeTests are unit ISO7816_F.
func activeTests() []test {
	active := func(s idcard.Scheme) func(*card) { return func(c *card) { c.opts.ActiveScheme = s } }
	rsa := func(h crypto.Hash, bits int) func(*card) {
		return active(idcard.Scheme{Algorithm: idcard.RSA, Hash: h, Bits: bits})
	}
	signed := func(t *testing.T, r result) {
		if r.report.ActiveAuthentication != trust.Passed {
			t.Errorf("Active Authentication %s", r.report.ActiveAuthentication)
		}
	}
	p512 := active(idcard.Scheme{Algorithm: idcard.PlainECDSA, Hash: crypto.SHA512, Domain: idcard.BrainpoolP512r1})
	return []test{
		{row: "ISO7816_F_01", what: "1024 bits", base: plain, alter: rsa(crypto.SHA1, 1024), warning: "sha-1", check: signed},
		{row: "ISO7816_F_02", what: "P-256", base: plain, check: signed},
		{row: "ISO7816_F_02", what: "brainpoolP512r1", base: plain, alter: p512, check: signed},
		{row: "ISO7816_F_02", what: "DER", base: plain, alter: profile(func(p *idcard.Profile) { p.ActiveKey.DER = true }), check: signed},
		{row: "ISO7816_F_04", what: "1536 bits", base: plain, alter: rsa(crypto.SHA224, 1536), check: signed},
		{row: "ISO7816_F_05", what: "2048 bits", base: plain, alter: rsa(crypto.SHA256, 2048), check: signed},
		{row: "ISO7816_F_06", what: "1024 bits", base: plain, alter: rsa(crypto.SHA384, 1024), check: signed},
		{row: "ISO7816_F_07", what: "1536 bits", base: plain, alter: rsa(crypto.SHA512, 1536), check: signed},
		{row: "ISO7816_F_08", what: "99CC", base: with("Active Authentication by RSA", plain, rsa(crypto.SHA256, 1024)),
			alter:   profile(func(p *idcard.Profile) { p.ActiveKey.Trailer = []byte{0x99, 0xCC} }),
			refused: "active-authentication: not proved"},
		{row: "ISO7816_F_09", what: "no algorithm's", base: plain, alter: tree(lds.DG14, func(n *idcard.Node) {
			n.Holding("2.23.136.1.1.5").Children[2].SetOID("1.2.3.4")
		}), refused: "active-authentication: unsupported"},
	}
}
