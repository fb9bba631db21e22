package conformance

import (
	"testing"

	"enrollkiosk/simulators/idcard"
	"enrollkiosk/smartcard/apdu"
	"enrollkiosk/smartcard/lds"
	"enrollkiosk/smartcard/tlv"
	"enrollkiosk/smartcard/trust"
)

// A card whose chip proves itself within PACE, with a second variant beside; and
// one on domain parameters of its own number that nobody uses.
var (
	cam      = idcard.PACE{Mapping: idcard.CAM, Suite: idcard.AES128, Domain: idcard.P256}
	mapping  = with("PACE-ECDH-CAM", paceOnly, pace(cam))
	twofold  = with("PACE-ECDH-CAM beside GM", paceOnly, pace(cam, idcard.PACE{Mapping: idcard.GM, Suite: idcard.AES128, Domain: idcard.P384}))
	spelling = with("PACE-ECDH-CAM beside own parameters", paceOnly, func(c *card) {
		pace(cam)(c)
		own := ownParameters(idcard.P256)
		signed(own)(c)
		offering(paceInfo(6, 2, 12), own)(c)
		security(func(n *idcard.Node) { add(n, own) })(c)
	})
)

// mapped wants the chip's proof within PACE, on a key that the issuer signed.
func mapped(t *testing.T, r result) {
	if r.report.ChipMapping != trust.Passed || r.report.CardSecurity != trust.Passed {
		t.Errorf("Chip Authentication Mapping %s, EF.CardSecurity %s", r.report.ChipMapping, r.report.CardSecurity)
	}
}

// security changes what EF.CardSecurity says, before it is signed.
func security(edit idcard.Edit) func(*card) {
	return func(c *card) { c.opts.CardSecurity = &idcard.SignedObject{EditContent: edit} }
}

func add(n *idcard.Node, element []byte) {
	added, err := idcard.ParseNode(element)
	if err != nil {
		panic(err)
	}
	n.Children = append(n.Children, added)
}

// ownParameters is a PACEDomainParameterInfo with a numbered curve and a number
// of its own (Doc 9303-11 9.2.2).
func ownParameters(d idcard.Domain) []byte {
	return sequence(oid(append(idPACE[:9:9], 2)...), sequence(oid(0, 4, 0, 127, 0, 7, 1, 2), number(int(d))), number(64))
}

// infosTests are units LDS_F, LDS_I and LDS_J: DG14, DG15 and EF.CardSecurity.
func infosTests() []test {
	info := func(id string, edit func(set, info *idcard.Node)) func(*card) {
		return tree(lds.DG14, func(n *idcard.Node) { edit(n.Find(0x31), n.Holding(id)) })
	}
	const key, protocol = "0.4.0.127.0.7.2.2.1.2", "0.4.0.127.0.7.2.2.3.2.2"
	return []test{
		{row: "LDS_F_01", what: "6F", base: plain, alter: file(lds.DG14, firstTag(0x6F)), refused: "structure: malformed"},
		{row: "LDS_F_02", what: "hashed as stored", base: plain, alter: file(lds.DG14, outerLength(-1)), refused: "hashes: altered"},
		{row: "LDS_F_02", what: "hashed as stated", base: plain, alter: file(lds.DG14, cutToLength), refused: "structure: malformed"},
		{row: "LDS_F_03", what: "one byte", base: plain, alter: file(lds.DG14, outerLength(+1)), refused: "reader: malformed"},
		{row: "LDS_F_04", what: "key", base: plain, alter: info(key, func(_, info *idcard.Node) { info.Children[0].SetOID("0.4.0.127.0.7.2.2.85.2") }), refused: "structure: malformed"},
		{row: "LDS_F_05", what: "3DES", base: tripleDES, alter: info("0.4.0.127.0.7.2.2.3.2.1", func(set, info *idcard.Node) { set.Remove(info) }), refused: "structure: malformed"},
		{row: "LDS_F_05", what: "AES", base: plain, alter: info(protocol, func(set, info *idcard.Node) { set.Remove(info) }), refused: "structure: malformed"},
		{row: "LDS_F_06", what: "10", base: plain, alter: info(protocol, func(_, info *idcard.Node) { info.Find(0x02).SetInt(10) }), refused: "structure: malformed"},
		{row: "LDS_F_07", what: "none", base: plain, alter: info(protocol, func(_, info *idcard.Node) { info.Remove(info.Find(0x02)) }), refused: "structure: malformed"},

		{row: "LDS_I_01", what: "70", base: plain, alter: file(lds.DG15, firstTag(0x70)), refused: "structure: malformed"},
		{row: "LDS_I_02", what: "hashed as stored", base: plain, alter: file(lds.DG15, outerLength(-1)), refused: "hashes: altered"},
		{row: "LDS_I_02", what: "hashed as stated", base: plain, alter: file(lds.DG15, cutToLength), refused: "structure: malformed"},
		{row: "LDS_I_03", what: "one byte", base: plain, alter: file(lds.DG15, outerLength(+1)), refused: "reader: malformed"},

		{row: "LDS_J_01", what: "an unknown one", base: mapping, alter: security(func(n *idcard.Node) { add(n, sequence(oid(1, 2, 3, 4), number(1))) }), check: mapped},
		{row: "LDS_J_02", what: "PACEInfo", base: twofold, alter: security(func(n *idcard.Node) { n.Remove(n.Holding("0.4.0.127.0.7.2.2.4.2.2")) }), refused: "card-security: altered"},
		{row: "LDS_J_03", what: "number", base: twofold, alter: security(func(n *idcard.Node) { n.Holding("0.4.0.127.0.7.2.2.4.2.2").Children[2].SetInt(12) }), refused: "card-security: altered"},
		{row: "LDS_J_03", what: "own parameters", base: spelling, alter: security(func(n *idcard.Node) { add(n, ownParameters(idcard.P384)) }), refused: "card-security: altered"},
		{row: "LDS_J_04", what: "key", base: mapping, alter: security(func(n *idcard.Node) {
			info := n.Holding("0.4.0.127.0.7.2.2.1.2")
			info.Remove(info.Children[0])
		}), refused: "reader: malformed"},
	}
}

// masterTests are unit LDS_K: EF.ATR/INFO (Doc 9303-10 3.11.2), which is read
// when long answers fail, and here verified with the rest.
func masterTests() []test {
	const limit = 2000
	length := func(b ...byte) []byte { return tlv.Encode(0x02, b) }
	two, three := length(limit>>8, limit&0xFF), length(0, limit>>8, limit&0xFF)
	saying := func(tag tlv.Tag, lengths ...[]byte) func(*card) {
		content := append(tlv.Encode(0x47, []byte{0x94, 0x01, 0xE0}), tlv.Encode(tag, lengths...)...)
		return func(c *card) {
			c.info = true
			master(lds.EFATRInfo, func([]byte) []byte { return content })(c)
			// An answer that would be longer than the limit is refused.
			c.edit = func(e *idcard.Exchange) {
				if e.Step == idcard.StepRead && !e.Wire && e.Command.Extended && e.Command.Le > limit {
					e.Answer = apdu.Response{Status: apdu.WrongLength}
				}
			}
		}
	}
	learned := func(t *testing.T, r result) {
		if r.habits.MaxLe != limit-2 {
			t.Errorf("answers of %d bytes, want %d", r.habits.MaxLe, limit-2)
		}
	}
	announced := with("EF.ATR/INFO read", plain, saying(0x7F66, two, two))
	return []test{
		{row: "LDS_K_01", what: "two bytes", base: announced, check: learned},
		{row: "LDS_K_02", what: "three bytes", base: announced, alter: saying(0x7F66, three, three), check: learned},
		{row: "LDS_K_03", what: "one", base: announced, alter: saying(0x7F66, two), refused: "structure: malformed"},
		{row: "LDS_K_04", what: "7F65", base: announced, alter: saying(0x7F65, two, two), refused: "structure: malformed"},
	}
}
