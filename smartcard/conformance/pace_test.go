package conformance

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"testing"

	"enrollkiosk/simulators/idcard"
	"enrollkiosk/smartcard/apdu"
	"enrollkiosk/smartcard/domain"
	"enrollkiosk/smartcard/lds"
	"enrollkiosk/smartcard/tlv"
)

// A card with PACE and no BAC, on which a failure of PACE is final.
var paceOnly = with("PACE alone", plain, faults(idcard.PACEOnly))

func pace(variants ...idcard.PACE) func(*card) {
	return func(c *card) { c.opts.PACE = variants }
}

func variant(name string, m idcard.Mapping, s idcard.Suite, d idcard.Domain) base {
	return with(name, paceOnly, pace(idcard.PACE{Mapping: m, Suite: s, Domain: d}))
}

var (
	integrated = variant("PACE-ECDH-IM", idcard.IM, idcard.AES128, idcard.P256)
	overDH     = variant("PACE-DH-GM", idcard.GM, idcard.AES128, idcard.DH1024_160)
	overP384   = variant("PACE-ECDH-GM on brainpoolP384r1", idcard.GM, idcard.AES128, idcard.BrainpoolP384r1)
)

// idPACE is id-PACE, without the last two arcs: the family and the suite.
var idPACE = []int{0, 4, 0, 127, 0, 7, 2, 2, 4}

// paceInfo is a PACEInfo (Doc 9303-11 9.2.1).
func paceInfo(family, suite, parameter int) []byte {
	return sequence(oid(append(idPACE[:9:9], family, suite)...), number(2), number(parameter))
}

// offering makes EF.CardAccess say this, and nothing else.
func offering(infos ...[]byte) func(*card) {
	return master(lds.EFCardAccess, func([]byte) []byte { return tlv.Encode(0x31, infos...) })
}

// announced is the command data of the last MSE:Set AT for PACE.
func announced(r result) (data []byte) {
	for _, c := range r.sent {
		if bytes.HasPrefix(c, []byte{0x00, 0x22, 0xC1, 0xA4}) {
			data = c[5:]
		}
	}
	return data
}

// paceTests are unit ISO7816_G as far as all goes well, and the choice of a variant.
func paceTests() []test {
	var list []test
	all := func(row string, m idcard.Mapping, s idcard.Suite, d idcard.Domain, mrz bool) {
		list = append(list, test{row: row, what: fmt.Sprintf("mapping %d, suite %d, domain %d", m, s, d), base: plain, alter: func(c *card) {
			pace(idcard.PACE{Mapping: m, Suite: s, Domain: d})(c)
			faults(idcard.PACEOnly)(c)
			c.mrz = mrz
		}, check: opened("PACE")})
	}
	suites := []idcard.Suite{idcard.TripleDES, idcard.AES128, idcard.AES192, idcard.AES256}
	for _, s := range suites {
		for _, d := range []idcard.Domain{idcard.P256, idcard.DH2048_256} {
			all("ISO7816_G_01", idcard.GM, s, d, false)
			all("ISO7816_G_01", idcard.IM, s, d, false)
			all("ISO7816_G_04", idcard.GM, s, d, true)
		}
		if s != idcard.TripleDES {
			all("ISO7816_G_01", idcard.CAM, s, idcard.P256, false)
		}
	}
	for i, n := range domain.IDs() {
		d, s := idcard.Domain(n), suites[i%4]
		all("ISO7816_G_02", idcard.GM, s, d, i%2 == 1)
		if d != idcard.P224 { // which has no Integrated Mapping (Doc 9303-11 table 6)
			all("ISO7816_G_03", idcard.IM, s, d, i%2 == 1)
		}
		if n > int(idcard.DH2048_256) {
			all("ISO7816_G_41", idcard.CAM, suites[1+i%3], d, i%2 == 1)
		}
	}

	unknown := sequence(oid(1, 2, 3, 4), tlv.Encode(0x04, []byte{0}))
	own := sequence(oid(append(idPACE[:9:9], 2)...), sequence(oid(1, 2, 840, 10045, 2, 1), sequence()), number(64))
	picked := func(want string) func(*testing.T, result) {
		return func(t *testing.T, r result) {
			opened("PACE")(t, r)
			if got := hex.EncodeToString(announced(r)); got != want {
				t.Errorf("MSE:Set AT %s, want %s", got, want)
			}
		}
	}
	const aes128 = "800a04007f00070202040202" + "830102"
	return append(list,
		test{row: "ISO7816_G_05", what: "before and after", base: paceOnly, alter: func(c *card) {
			signed(unknown)(c)
			offering(unknown, paceInfo(2, 2, 12), unknown)(c)
		}, check: opened("PACE")},
		test{row: "ISO7816_G_06", what: "three, two of one protocol", base: paceOnly, alter: pace(
			idcard.PACE{Suite: idcard.AES128, Domain: idcard.BrainpoolP512r1}, idcard.PACE{Suite: idcard.AES128, Domain: idcard.P384},
			idcard.PACE{Suite: idcard.AES256, Domain: idcard.P521}), check: picked(aes128 + "84010f")},
		test{row: "ISO7816_G_07", what: "64", base: paceOnly, alter: func(c *card) {
			signed(paceInfo(2, 2, 64), own)(c)
			offering(paceInfo(2, 2, 64), paceInfo(2, 2, 12), own)(c)
		}, check: picked(aes128 + "84010c")},
		test{row: "ISO7816_G_36", what: "DH-CAM", base: variant("PACE-ECDH-GM with 3DES", idcard.GM, idcard.TripleDES, idcard.P256), alter: func(c *card) {
			signed(paceInfo(5, 2, 2))(c)
			offering(paceInfo(2, 1, 12), paceInfo(5, 2, 2))(c)
		}, outcome: func(r result) string {
			if r.outcome() == accept && bytes.HasPrefix(announced(r), tlv.Encode(0x80, oid(append(idPACE[:9:9], 2, 1)...)[2:])) {
				return "falls back to PACE-GM, accept"
			}
			return r.outcome()
		}},
		test{row: "ISO7816_G_28", what: "not assigned", base: paceOnly, alter: offering(paceInfo(2, 2, 31)), refused: "reader: unsupported"},
		test{row: "ISO7816_G_28", what: "not assigned, zone", base: paceOnly, alter: func(c *card) { offering(paceInfo(2, 2, 3))(c); c.mrz = true }, refused: "reader: unsupported"},
		test{row: "ISO7816_G_27", what: "tag", base: paceOnly, alter: master(lds.EFCardAccess, firstTag(0x30)), refused: "reader: malformed"},
		test{row: "ISO7816_G_27", what: "short", base: paceOnly, alter: master(lds.EFCardAccess, outerLength(-1)), refused: "reader: malformed"},
		test{row: "ISO7816_G_27", what: "long", base: paceOnly, alter: master(lds.EFCardAccess, outerLength(+1)), refused: "reader: malformed"},
		test{row: "ISO7816_G_27", what: "long, zone, BAC at hand", base: plain, alter: func(c *card) {
			master(lds.EFCardAccess, outerLength(+1))(c)
			c.mrz = true
		}, refused: "reader: malformed"})
}

// signed adds security infos to DG14, which repeats what EF.CardAccess says
// (Doc 9303-11 9.2.11).
func signed(infos ...[]byte) func(*card) {
	return tree(lds.DG14, func(n *idcard.Node) {
		for _, info := range infos {
			added, err := idcard.ParseNode(info)
			if err != nil {
				panic(err)
			}
			n.Find(0x31).Children = append(n.Find(0x31).Children, added)
		}
	})
}

// keyTests are unit ISO7816_G as far as the chip's part of the protocol is wrong.
func keyTests() []test {
	var list []test
	add := func(row, what string, b base, alter func(*card), refused string) {
		list = append(list, test{row: row, what: what, base: b, alter: alter, refused: refused})
	}
	for _, sw := range []apdu.Status{apdu.WrongData, apdu.SecurityNotSatisfied, apdu.UnknownError} {
		add("ISO7816_G_08", sw.Error(), paceOnly, status(idcard.StepPACESet, sw), "reader: refused")
		add("ISO7816_G_10", sw.Error(), paceOnly, status(idcard.StepPACENonce, sw), "reader: refused")
		add("ISO7816_G_12", sw.Error(), paceOnly, status(idcard.StepPACEMap, sw), "reader: refused")
		add("ISO7816_G_18", sw.Error(), paceOnly, status(idcard.StepPACEAgree, sw), "reader: refused")
		add("ISO7816_G_24", sw.Error(), paceOnly, status(idcard.StepPACEConfirm, sw), "reader: wrong password")
	}
	zeros := func(b []byte) []byte { return make([]byte, len(b)) }
	noTemplate := exchange(func(e *idcard.Exchange) {
		if e.Step == idcard.StepPACEMap {
			e.Answer.Data = nil
		}
	})
	ours := exchange(func(e *idcard.Exchange) {
		if e.Step == idcard.StepPACEAgree && !e.Wire {
			nodes, _ := tlv.Parse(e.Command.Data)
			inner, _ := nodes[0].Children()
			e.Answer = apdu.Response{Data: tlv.Encode(0x7C, tlv.Encode(0x84, inner[0].Value)), Status: apdu.OK}
		}
	})
	add("ISO7816_G_09", "one bit", paceOnly, revalue(idcard.StepPACENonce, 0x80, flip(3)), "reader: wrong password")
	add("ISO7816_G_09", "one bit, Integrated Mapping", integrated, revalue(idcard.StepPACENonce, 0x80, flip(3)), "reader: wrong password")
	add("ISO7816_G_11", "90", paceOnly, retag(idcard.StepPACENonce, 0x80, 0x90), "reader: malformed")
	add("ISO7816_G_13", "92", paceOnly, retag(idcard.StepPACEMap, 0x82, 0x92), "reader: malformed")
	add("ISO7816_G_14", "zeros", paceOnly, revalue(idcard.StepPACEMap, 0x82, zeros), "reader: malformed")
	add("ISO7816_G_14", "empty", paceOnly, revalue(idcard.StepPACEMap, 0x82, fixed()), "reader: malformed")
	add("ISO7816_G_15", "92", integrated, retag(idcard.StepPACEMap, 0x82, 0x92), "reader: malformed")
	add("ISO7816_G_15", "a byte where none belongs", integrated, revalue(idcard.StepPACEMap, 0x82, fixed(1)), "reader: malformed")
	add("ISO7816_G_15", "no template", integrated, noTemplate, "reader: malformed")
	add("ISO7816_G_19", "94", paceOnly, retag(idcard.StepPACEAgree, 0x84, 0x94), "reader: malformed")
	add("ISO7816_G_20", "one byte", paceOnly, revalue(idcard.StepPACEAgree, 0x84, fixed(4)), "reader: malformed")
	add("ISO7816_G_23", "last key", paceOnly, ours, "reader: malformed")
	add("ISO7816_G_23", "both keys", paceOnly, faults(idcard.MirrorPACE), "reader: malformed")
	add("ISO7816_G_23", "both keys, DH", overDH, faults(idcard.MirrorPACE), "reader: malformed")
	add("ISO7816_G_25", "96", paceOnly, retag(idcard.StepPACEConfirm, 0x86, 0x96), "reader: malformed")
	add("ISO7816_G_26", "one bit", paceOnly, revalue(idcard.StepPACEConfirm, 0x86, flip(0)), "reader: wrong password")
	add("ISO7816_G_26", "cut", paceOnly, revalue(idcard.StepPACEConfirm, 0x86, func(b []byte) []byte { return b[:7] }), "reader: wrong password")

	for _, step := range []struct {
		step   idcard.Step
		tag    tlv.Tag
		ec, dh string
	}{
		{idcard.StepPACEMap, 0x82, "ISO7816_G_16", "ISO7816_G_17"},
		{idcard.StepPACEAgree, 0x84, "ISO7816_G_21", "ISO7816_G_22"},
	} {
		for _, b := range []base{paceOnly, overP384} {
			for what, change := range badPoints {
				add(step.ec, what+", "+b.name, b, revalue(step.step, step.tag, change), "reader: malformed")
			}
		}
		for what, change := range badNumbers {
			add(step.dh, what, overDH, revalue(step.step, step.tag, change), "reader: malformed")
		}
	}
	return list
}

// What a chip may send in place of a public key, in each of its parts (Doc
// 9303-11 9.4.5).
var (
	badPoints = map[string]func([]byte) []byte{
		"form": func(b []byte) []byte { b[0] = 2; return b }, "x": flip(8), "y": flip(-1), "infinity": fixed(0),
		"cut": func(b []byte) []byte { return b[:len(b)-1] }, "long": func(b []byte) []byte { return append(b, 0) },
		"compressed":     func(b []byte) []byte { b[0] = 2; return b[:len(b)/2+1] },
		"over the field": func(b []byte) []byte { return append([]byte{4}, bytes.Repeat([]byte{0xFF}, len(b)-1)...) },
	}
	badNumbers = map[string]func([]byte) []byte{
		"zero": fixed(0), "one": fixed(1), "outside the subgroup": fixed(2), "last bit": flip(-1),
		"over the field": func(b []byte) []byte { return bytes.Repeat([]byte{0xFF}, len(b)) },
		"long":           func(b []byte) []byte { return append([]byte{1}, b...) },
	}
)

// mappingTests are unit ISO7816_G as far as it is about Chip Authentication
// Mapping: EF.CardSecurity and the encrypted chip authentication data.
func mappingTests() []test {
	bare := object(idcard.StepPACEConfirm, 0x8A, func(n tlv.Node) []byte { return n.Value })
	data := func(change func([]byte) []byte) func(*card) { return revalue(idcard.StepPACEConfirm, 0x8A, change) }
	unasked := objects(idcard.StepPACEConfirm, func(nodes []tlv.Node) []byte {
		return append(bytes.Clone(nodes[0].Raw), tlv.Encode(0x8A, make([]byte, 48))...)
	})
	keyless := security(func(n *idcard.Node) { n.Remove(n.Holding("0.4.0.127.0.7.2.2.1.2")) })
	silent := tree(lds.DG14, func(n *idcard.Node) { n.Remove(n.Holding("0.4.0.127.0.7.2.2.4.6.2")) })
	return []test{
		{row: "ISO7816_G_29", what: "bare", base: mapping, alter: bare, refused: "reader: malformed"},
		{row: "ISO7816_G_30", what: "a sequence of numbers", base: mapping, alter: data(fixed(0x30, 3, 2, 1, 1)), refused: "reader: malformed"},
		{row: "ISO7816_G_31", what: "first block", base: mapping, alter: data(flip(0)), refused: "reader: chip not genuine"},
		{row: "ISO7816_G_31", what: "padding", base: mapping, alter: data(flip(-17)), refused: "reader: chip not genuine"},
		{row: "ISO7816_G_32", what: "8B", base: mapping, alter: retag(idcard.StepPACEConfirm, 0x8A, 0x8B), refused: "reader: malformed"},
		{row: "ISO7816_G_33", what: "empty", base: mapping, alter: data(fixed()), refused: "reader: malformed"},
		{row: "ISO7816_G_34", what: "verified", base: mapping, check: mapped},
		{row: "ISO7816_G_35", what: "48 bytes", base: paceOnly, alter: unasked, warning: "PACE answers with chip authentication data nobody asked for"},
		{row: "ISO7816_G_38", what: "no PACEInfo", base: mapping, alter: silent, refused: "chip-mapping: not proved"},
		{row: "ISO7816_G_39", what: "another key", base: mapping, alter: profile(func(p *idcard.Profile) {
			other := *p.ChipKeys[0]
			other.Private = p.ActiveKey.Private
			p.ChipKeys[0] = &other
		}), refused: "reader: chip not genuine"},
		{row: "ISO7816_G_40", what: "no key", base: mapping, alter: keyless, refused: "reader: chip not genuine"},
	}
}
