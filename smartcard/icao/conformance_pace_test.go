package icao_test

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"enrollkiosk/simulators/idcard"
	"enrollkiosk/smartcard/apdu"
	"enrollkiosk/smartcard/domain"
	"enrollkiosk/smartcard/icao"
	"enrollkiosk/smartcard/lds"
	"enrollkiosk/smartcard/tlv"
)

// What a chip may send in place of a public key, in each of its parts.
func badKeys(d idcard.Domain) map[string]func([]byte) []byte {
	g, _ := domain.Standardized(int(d))
	n := g.Size()
	bad := map[string]func([]byte) []byte{
		"empty": fixed(), "cut": func(b []byte) []byte { return b[:len(b)-1] }, "last bit": flip(-1),
	}
	if g.Elliptic() {
		bad["long"] = func(b []byte) []byte { return append(b, 0) }
		bad["x"], bad["y"] = flip(n), flip(1+n)
		bad["form"] = func(b []byte) []byte { return append([]byte{2}, b[1:]...) }
		bad["compressed"] = func(b []byte) []byte { return append([]byte{2}, b[1:1+n]...) }
		bad["over the field"] = func(b []byte) []byte { return append([]byte{4}, bytes.Repeat([]byte{0xFF}, 2*n)...) }
		bad["zero"] = func(b []byte) []byte { return append([]byte{4}, make([]byte, 2*n)...) }
		bad["infinity"] = fixed(0)
		return bad
	}
	bad["zero"], bad["one"], bad["two"] = fixed(0), fixed(1), fixed(2) // 2 is outside the subgroup
	bad["long"] = func(b []byte) []byte { return append([]byte{1}, b...) }
	bad["over the field"] = func(b []byte) []byte { return bytes.Repeat([]byte{0xFF}, n) }
	delete(bad, "cut") // a number like any other; the next line has it
	bad["half"] = func(b []byte) []byte { return b[:len(b)/2] }
	return bad
}

// replaced makes a file of nothing but the security infos given.
func replaced(infos ...[]byte) func([]byte) []byte {
	return func([]byte) []byte { return tlv.Encode(0x31, infos...) }
}

// paceInfo is a PACEInfo (ICAO 9303-11 9.2.3) with a family's arc below id-PACE.
func paceInfo(family, suite, parameter byte) []byte {
	return tlv.Encode(0x30, tlv.Encode(0x06, []byte{0x04, 0x00, 0x7F, 0x00, 0x07, 0x02, 0x02, 0x04, family, suite}),
		[]byte{0x02, 0x01, 0x02}, []byte{0x02, 0x01, parameter})
}

func TestConformancePACE(t *testing.T) {
	var list []deviation
	for _, s := range sets() {
		row := map[idcard.Mapping]string{idcard.GM: "ISO7816_G_02", idcard.IM: "ISO7816_G_03", idcard.CAM: "ISO7816_G_41"}[s.mapping]
		if s.domain == idcard.DH2048_256 || s.domain == idcard.P256 {
			row = "ISO7816_G_01"
			for _, suite := range s.suites() {
				list = append(list, deviation{row: "ISO7816_G_04", what: fmt.Sprintf("%v, suite %d", s, suite), opts: s.options(suite), mrz: true, check: access("PACE")})
			}
		}
		list = append(list, deviation{row: row, what: s.String(), opts: s.options(idcard.AES128), check: access("PACE")})
	}

	unknown := tlv.Encode(0x30, []byte{0x06, 0x03, 0x2A, 0x03, 0x04}, []byte{0x04, 0x01, 0x00})
	domains := tlv.Encode(0x30, []byte{0x06, 0x09, 0x04, 0x00, 0x7F, 0x00, 0x07, 0x02, 0x02, 0x04, 0x02}, // id-PACE-ECDH-GM
		tlv.Encode(0x30, []byte{0x06, 0x07, 0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x02, 0x01}, []byte{0x30, 0x00}), []byte{0x02, 0x01, 0x40})
	list = append(list,
		deviation{row: "ISO7816_G_05", what: "unknown entries", opts: master(0x011C, func(b []byte) []byte {
			return tlv.Encode(0x31, unknown, b[2:], unknown)
		}), check: access("PACE")},
		deviation{row: "ISO7816_G_06", what: "two parameters", opts: idcard.Options{PACE: []idcard.PACE{
			{Suite: idcard.AES128, Domain: idcard.BrainpoolP512r1}, {Suite: idcard.AES128, Domain: idcard.P384}, {Suite: idcard.AES256, Domain: idcard.P521}}},
			check: func(t *testing.T, _ *icao.Chip, b *between) {
				if !bytes.HasSuffix(b.commands[1], []byte{0x84, 0x01, byte(idcard.P384)}) {
					t.Errorf("MSE:Set AT %x", b.commands[1])
				}
			}},
		deviation{row: "ISO7816_G_07", what: "own parameters", opts: master(0x011C, replaced(paceInfo(2, 2, 0x40), paceInfo(2, 2, 12), domains)), check: access("PACE")},
		deviation{row: "ISO7816_G_36", what: "made-up DH-CAM", opts: master(0x011C, replaced(paceInfo(5, 2, 2), paceInfo(2, 2, 12))), check: access("PACE")},
	)
	for _, sw := range []apdu.Status{apdu.WrongData, apdu.ReferencedDataNotFound, apdu.SecurityNotSatisfied, apdu.UnknownError, 0x6300} {
		for row, k := range map[string]struct {
			step idcard.Step
			want error
		}{
			"ISO7816_G_08": {idcard.StepPACESet, icao.ErrChipRefused}, "ISO7816_G_10": {idcard.StepPACENonce, icao.ErrChipRefused},
			"ISO7816_G_12": {idcard.StepPACEMap, icao.ErrChipRefused}, "ISO7816_G_18": {idcard.StepPACEAgree, icao.ErrChipRefused},
			"ISO7816_G_24": {idcard.StepPACEConfirm, icao.ErrWrongPassword},
		} {
			if sw == 0x6300 && row != "ISO7816_G_08" {
				k.want = icao.ErrWrongPassword
			}
			list = append(list, deviation{row: row, what: sw.Error(), edit: status(k.step, sw), want: k.want})
		}
	}
	im := pace(idcard.IM, idcard.AES128, idcard.P256)
	cam := pace(idcard.CAM, idcard.AES128, idcard.P256)
	dh := pace(idcard.GM, idcard.AES128, idcard.DH1024_160)
	list = append(list,
		deviation{row: "ISO7816_G_09", what: "one bit", edit: revalue(idcard.StepPACENonce, 0x80, flip(3)), want: icao.ErrWrongPassword},
		deviation{row: "ISO7816_G_09", what: "empty", edit: revalue(idcard.StepPACENonce, 0x80, fixed()), want: icao.ErrMalformed},
		deviation{row: "ISO7816_G_09", what: "one bit, IM", opts: im, edit: revalue(idcard.StepPACENonce, 0x80, flip(3)), want: icao.ErrWrongPassword},
		deviation{row: "ISO7816_G_11", what: "90", edit: retag(idcard.StepPACENonce, 0x80, 0x90), want: icao.ErrMalformed},
		deviation{row: "ISO7816_G_13", what: "92", edit: retag(idcard.StepPACEMap, 0x82, 0x92), want: icao.ErrMalformed},
		deviation{row: "ISO7816_G_15", what: "92", opts: im, edit: retag(idcard.StepPACEMap, 0x82, 0x92), want: icao.ErrMalformed},
		deviation{row: "ISO7816_G_15", what: "data", opts: im, edit: revalue(idcard.StepPACEMap, 0x82, fixed(1)), want: icao.ErrMalformed},
		deviation{row: "ISO7816_G_15", what: "no template", opts: im, edit: func(e *idcard.Exchange) {
			if e.Step == idcard.StepPACEMap {
				e.Answer.Data = nil
			}
		}, want: icao.ErrMalformed},
		deviation{row: "ISO7816_G_19", what: "94", edit: retag(idcard.StepPACEAgree, 0x84, 0x94), want: icao.ErrMalformed},
		deviation{row: "ISO7816_G_20", what: "one byte", edit: revalue(idcard.StepPACEAgree, 0x84, fixed(4)), want: icao.ErrMalformed},
		deviation{row: "ISO7816_G_23", what: "both keys", opts: idcard.Options{Faults: []idcard.Fault{idcard.MirrorPACE}}, want: icao.ErrMalformed},
		deviation{row: "ISO7816_G_23", what: "both keys, DH", opts: idcard.Options{PACE: dh.PACE, Faults: []idcard.Fault{idcard.MirrorPACE}}, want: icao.ErrMalformed},
		deviation{row: "ISO7816_G_23", what: "last key", edit: func(e *idcard.Exchange) {
			if e.Step == idcard.StepPACEAgree && !e.Wire {
				nodes, _ := tlv.Parse(e.Command.Data)
				inner, _ := nodes[0].Children()
				e.Answer = apdu.Response{Data: tlv.Encode(0x7C, tlv.Encode(0x84, inner[0].Value)), Status: apdu.OK}
			}
		}, want: icao.ErrMalformed},
		deviation{row: "ISO7816_G_25", what: "96", edit: retag(idcard.StepPACEConfirm, 0x86, 0x96), want: icao.ErrMalformed},
		deviation{row: "ISO7816_G_26", what: "one bit", edit: revalue(idcard.StepPACEConfirm, 0x86, flip(0)), want: icao.ErrWrongPassword},
		deviation{row: "ISO7816_G_26", what: "cut", edit: revalue(idcard.StepPACEConfirm, 0x86, func(b []byte) []byte { return b[:7] }), want: icao.ErrWrongPassword},
	)
	for step, rows := range map[idcard.Step]struct {
		tag         tlv.Tag
		any, ec, dh string
	}{
		idcard.StepPACEMap:   {0x82, "ISO7816_G_14", "ISO7816_G_16", "ISO7816_G_17"},
		idcard.StepPACEAgree: {0x84, "ISO7816_G_20", "ISO7816_G_21", "ISO7816_G_22"},
	} {
		list = append(list, deviation{row: rows.any, what: "zeros", edit: revalue(step, rows.tag, func(b []byte) []byte { return make([]byte, len(b)) }), want: icao.ErrMalformed})
		for _, d := range []idcard.Domain{idcard.P256, idcard.BrainpoolP384r1, idcard.DH1024_160} {
			row := rows.ec
			if d == idcard.DH1024_160 {
				row = rows.dh
			}
			for what, change := range badKeys(d) {
				list = append(list, deviation{row: row, what: fmt.Sprintf("%s, %d", what, d), opts: pace(idcard.GM, idcard.AES128, d), edit: revalue(step, rows.tag, change), want: icao.ErrMalformed})
			}
		}
	}
	for what, change := range map[string]func([]byte) []byte{
		"tag": func(b []byte) []byte { b[0] = 0x30; return b }, "length": func(b []byte) []byte { b[1]--; return b },
		"too long": func(b []byte) []byte { b[1]++; return b }, "inside": func(b []byte) []byte { b[3]++; return b },
	} {
		for _, mrz := range []bool{false, true} { // BAC, which this card has too, is no way out
			list = append(list, deviation{row: "ISO7816_G_27", what: fmt.Sprint(what, ", MRZ ", mrz), opts: master(0x011C, change), mrz: mrz, want: icao.ErrMalformed})
		}
	}
	for _, parameter := range []byte{3, 7, 19, 31, 32, 0x7F} {
		list = append(list, deviation{row: "ISO7816_G_28", what: fmt.Sprint(parameter), opts: master(0x011C, replaced(paceInfo(2, 2, parameter))), want: icao.ErrUnsupported})
	}

	// Chip Authentication Mapping.
	keyless := cam
	keyless.CardSecurity = &idcard.SignedObject{EditContent: func(n *idcard.Node) {
		if key := n.Holding("0.4.0.127.0.7.2.2.1.2"); key != nil {
			n.Remove(key)
		}
	}}
	cloned := cam
	cloned.Faults = []idcard.Fault{idcard.Clone}
	list = append(list,
		deviation{row: "ISO7816_G_29", what: "bare", opts: cam, edit: object(idcard.StepPACEConfirm, func(nodes []tlv.Node) (out []byte) {
			for _, n := range nodes {
				if n.Tag == 0x8A {
					out = append(out, n.Value...)
				} else {
					out = append(out, n.Raw...)
				}
			}
			return out
		}), want: icao.ErrMalformed},
		deviation{row: "ISO7816_G_30", what: "a sequence of numbers", opts: cam, edit: revalue(idcard.StepPACEConfirm, 0x8A, fixed(0x30, 3, 2, 1, 1)), want: icao.ErrMalformed},
		deviation{row: "ISO7816_G_31", what: "first block", opts: cam, edit: revalue(idcard.StepPACEConfirm, 0x8A, flip(0)), want: icao.ErrChipNotGenuine},
		deviation{row: "ISO7816_G_31", what: "padding", opts: cam, edit: revalue(idcard.StepPACEConfirm, 0x8A, flip(-1)), want: icao.ErrChipNotGenuine},
		deviation{row: "ISO7816_G_32", what: "8B", opts: cam, edit: retag(idcard.StepPACEConfirm, 0x8A, 0x8B), want: icao.ErrMalformed},
		deviation{row: "ISO7816_G_33", what: "empty", opts: cam, edit: revalue(idcard.StepPACEConfirm, 0x8A, fixed()), want: icao.ErrMalformed},
		deviation{row: "ISO7816_G_34", what: "evidence", opts: cam, check: func(t *testing.T, c *icao.Chip, _ *between) {
			doc := c.Document()
			if len(doc.Files[lds.EFCardSecurity]) == 0 || doc.CAM == nil || doc.CAM.ParameterID != int(idcard.P256) {
				t.Fatal("nothing for trust to verify")
			}
			security, err := lds.ParseCardSecurity(doc.Files[lds.EFCardSecurity])
			if err != nil {
				t.Fatal(err)
			}
			key, err := lds.ParseAgreementKey(security.Infos.ChipAuthenticationKeys[0].SPKI)
			if err != nil {
				t.Fatal(err)
			}
			if got := key.Group.Encode(key.Group.Multiply(key.Public, doc.CAM.Data)); !bytes.Equal(got, doc.CAM.MappingKey) {
				t.Error("the evidence does not add up")
			}
		}},
		deviation{row: "ISO7816_G_35", what: "GM", edit: object(idcard.StepPACEConfirm, func(nodes []tlv.Node) []byte {
			return append(bytes.Clone(nodes[0].Raw), tlv.Encode(0x8A, make([]byte, 48))...)
		}), check: func(t *testing.T, c *icao.Chip, _ *between) {
			if w := c.Warnings(); len(w) != 1 || c.Document().CAM != nil {
				t.Errorf("warnings %q", w)
			}
		}},
		deviation{row: "ISO7816_G_39", what: "cloned", opts: cloned, want: icao.ErrChipNotGenuine},
		deviation{row: "ISO7816_G_40", what: "no key", opts: keyless, want: icao.ErrChipNotGenuine},
	)
	slices.SortStableFunc(list, func(a, b deviation) int { return strings.Compare(a.row, b.row) })
	conform(t, list)
}
