package conformance

import (
	"bytes"
	"crypto"
	"slices"

	"enrollkiosk/simulators/idcard"
	"enrollkiosk/smartcard/lds"
	"enrollkiosk/smartcard/trust"
)

// What the edits of this file look for.
const (
	oidMD5           = "1.2.840.113549.2.5"
	oidSHA256        = "2.16.840.1.101.3.4.2.1"
	oidMessageDigest = "1.2.840.113549.1.9.4"
)

// sod changes the ContentInfo of EF.SOD after it was signed.
func sod(edit idcard.Edit) func(*card) { return func(c *card) { c.opts.SOD.Edit = edit } }

// signedData changes its SignedData, signer its SignerInfo.
func signedData(edit idcard.Edit) func(*card) {
	return sod(func(n *idcard.Node) { edit(idcard.SignedDataIn(n)) })
}

func signer(edit idcard.Edit) func(*card) {
	return sod(func(n *idcard.Node) { edit(idcard.SignerInfoIn(n)) })
}

// hashes changes the LDSSecurityObject before it is signed.
func hashes(edit idcard.Edit) func(*card) {
	return func(c *card) { c.opts.SOD.EditContent = edit }
}

func attributes(edit idcard.Edit) func(*card) {
	return func(c *card) { c.opts.SOD.EditAttributes = edit }
}

// hashOf is the DataGroupHash of a group.
func hashOf(n *idcard.Node, group byte) *idcard.Node {
	list := n.Children[2].Children
	return list[slices.IndexFunc(list, func(h *idcard.Node) bool { return h.Children[0].Value[0] == group })]
}

// another adds a hash of a group that has none yet.
func another(group byte) idcard.Edit {
	return func(n *idcard.Node) {
		list := n.Children[2]
		add(list, hashOf(n, 1).Encode())
		list.Children[len(list.Children)-1].Children[0].SetInt(group)
	}
}

// objectTests are unit LDS_H as far as it is about the signed object and its hashes.
func objectTests() []test {
	const (
		content   = "content: malformed"
		unknown   = "content: unsupported"
		structure = "structure: malformed"
	)
	byKeyID := with("the signer named by its key", plain, func(c *card) { c.opts.SOD.ByKeyID = true })
	rsaSigner := with("an RSA signer", plain, func(c *card) { c.issuer.Signer = scheme(idcard.RSA, crypto.SHA256) })
	lds18 := with("LDS 1.8", plain, func(c *card) { c.opts.LDSVersion = idcard.LDS18 })
	md5 := func(n *idcard.Node) { n.Holding(oidSHA256).Children[0].SetOID(oidMD5) }
	fingers := func(alter func(*card)) func(*card) { // there is a DG3, which EF.SOD and EF.COM say nothing of
		return func(c *card) {
			c.opts.Chip = func(p *idcard.Profile) { p.Application[lds.DG3.FID()] = []byte{0x63, 1, 0} }
			alter(c)
		}
	}
	damaged := func(c *card) { // DG2 is not built right, nor what was hashed
		c.opts.Chip = func(p *idcard.Profile) {
			face := bytes.Clone(p.Application[lds.DG2.FID()])
			face[bytes.Index(face, []byte{0x7F, 0x60})+1] = 0x6F
			p.Application[lds.DG2.FID()] = face
		}
	}
	unseen := func(r result) string {
		if r.outcome() == reject && r.report.Structure == trust.NotChecked {
			return "reject; nothing shown before the check" // DG2 was not even taken apart
		}
		return r.outcome()
	}
	return []test{
		{row: "LDS_H_17", what: "78", base: plain, alter: file(lds.EFSOD, firstTag(0x78)), refused: content},
		{row: "LDS_H_18", what: "one byte", base: plain, alter: file(lds.EFSOD, outerLength(-1)), refused: content},
		{row: "LDS_H_19", what: "one byte", base: plain, alter: file(lds.EFSOD, outerLength(+1)), refused: "reader: malformed"},
		{row: "LDS_H_20", what: "9", base: plain, alter: signedData(func(n *idcard.Node) { n.Children[0].SetInt(9) }), refused: unknown},
		{row: "LDS_H_21", what: "none", base: plain, alter: signedData(withoutChild(0)), refused: content},
		{row: "LDS_H_22", what: "MD5", base: plain, alter: signedData(func(n *idcard.Node) { md5(n.Children[1]) }), refused: unknown},
		{row: "LDS_H_23", what: "none", base: plain, alter: signedData(withoutChild(1)), refused: content},
		{row: "LDS_H_24", what: "1.2.3.4", base: plain, alter: func(c *card) { c.opts.SOD.ContentType = "1.2.3.4" }, refused: unknown},
		{row: "LDS_H_25", what: "none", base: plain, alter: signedData(without(0x30, 0x06)), refused: content},
		{row: "LDS_H_26", what: "9", base: plain, alter: signer(func(n *idcard.Node) { n.Children[0].SetInt(9) }), refused: unknown},
		{row: "LDS_H_27", what: "none", base: plain, alter: signer(withoutChild(0)), refused: content},
		{row: "LDS_H_28", what: "serial number", base: plain, alter: signer(func(n *idcard.Node) { flipLast(n.Find(0x30, 0x02)) }), refused: "signature: certificate"},
		{row: "LDS_H_29", what: "last bit", base: byKeyID, alter: signer(func(n *idcard.Node) { flipLast(n.Find(0x80)) }), refused: "signature: certificate"},
		{row: "LDS_H_30", what: "MD5", base: plain, alter: signer(md5), refused: "signature: unsupported"},
		{row: "LDS_H_31", what: "none", base: plain, alter: signer(func(n *idcard.Node) { n.Remove(n.Holding(oidSHA256)) }), refused: content},
		{row: "LDS_H_32", what: "last bit", base: plain, alter: attributes(func(n *idcard.Node) { flipLast(n.Holding(oidMessageDigest).Find(0x31, 0x04)) }), refused: "signature: wrong signature"},
		{row: "LDS_H_33", what: "none", base: plain, alter: attributes(func(n *idcard.Node) { n.Remove(n.Holding(oidMessageDigest)) }), refused: "signature: wrong signature"},
		{row: "LDS_H_36", what: "signed so", base: rsaSigner, alter: func(c *card) { c.opts.SOD.Hash, c.opts.GroupHash = crypto.MD5, crypto.SHA256 }, refused: unknown},
		{row: "LDS_H_37", what: "last bit", base: plain, alter: signer(func(n *idcard.Node) { flipLast(n.Find(0x04)) }), refused: "signature: wrong signature"},
		{row: "LDS_H_38", what: "none", base: plain, alter: signer(without(0x04)), refused: content},
		{row: "LDS_H_39", what: "9", base: plain, alter: hashes(func(n *idcard.Node) { n.Children[0].SetInt(9) }), refused: unknown},
		{row: "LDS_H_40", what: "none", base: plain, alter: hashes(withoutChild(0)), refused: content},
		{row: "LDS_H_41", what: "MD5", base: plain, alter: hashes(md5), refused: unknown},
		{row: "LDS_H_42", what: "none", base: plain, alter: hashes(withoutChild(1)), refused: content},
		{row: "LDS_H_43", what: "last bit", base: plain, alter: hashes(func(n *idcard.Node) { flipLast(hashOf(n, 2).Find(0x04)) }), refused: "hashes: altered"},
		{row: "LDS_H_44", what: "none", base: plain, alter: hashes(func(n *idcard.Node) { n.Children[2].Remove(hashOf(n, 1)) }), refused: "hashes: altered"},
		{row: "LDS_H_45", what: "not in EF.COM either", base: plain, alter: hashes(another(10)), refused: structure},
		{row: "LDS_H_46", what: "255", base: plain, alter: hashes(func(n *idcard.Node) { hashOf(n, 1).Children[0].Value = []byte{0, 0xFF} }), refused: content},
		{row: "LDS_H_47", what: "none", base: plain, alter: hashes(func(n *idcard.Node) { h := hashOf(n, 2); h.Remove(h.Children[0]) }), refused: content},
		{row: "LDS_H_69", what: "built wrong", base: plain, alter: damaged, refused: "hashes: altered", outcome: unseen},

		{row: "LDS_H_84", what: "3", base: plain, alter: signer(func(n *idcard.Node) { n.Children[0].SetInt(3) }), refused: unknown},
		{row: "LDS_H_85", what: "1", base: byKeyID, alter: signer(func(n *idcard.Node) { n.Children[0].SetInt(1) }), refused: unknown},
		{row: "LDS_H_86", what: "0108", base: lds18},
		{row: "LDS_H_87", what: "0", base: lds18, alter: hashes(func(n *idcard.Node) { n.Children[0].SetInt(0) }), refused: content},
		{row: "LDS_H_88", what: "1", base: plain, alter: hashes(func(n *idcard.Node) { n.Children[0].SetInt(1) }), refused: content},
		{row: "LDS_H_89", what: "0109", base: plain, alter: func(c *card) { c.opts.LDSVersion = "0109" }, warning: "lds-version-later"},
		{row: "LDS_H_90", what: "DG3", base: plain, alter: fingers(hashes(another(3))), refused: structure},
		{row: "LDS_H_91", what: "DG2", base: plain, alter: hashes(func(n *idcard.Node) { n.Children[2].Remove(hashOf(n, 2)) }), refused: "content: missing"},
		{row: "LDS_H_92", what: "DG3 for DG2", base: plain, alter: fingers(hashes(func(n *idcard.Node) { hashOf(n, 2).Children[0].SetInt(3) })), refused: "content: missing"},
		{row: "LDS_H_93", what: "last bit of the signature", base: mapping, alter: func(c *card) {
			c.opts.CardSecurity = &idcard.SignedObject{Edit: func(n *idcard.Node) { flipLast(idcard.SignerInfoIn(n).Find(0x04)) }}
		}, refused: "card-security: wrong signature"},
	}
}
