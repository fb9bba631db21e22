package conformance

import (
	"crypto"
	"fmt"
	"slices"
	"testing"

	"enrollkiosk/simulators/idcard"
	"enrollkiosk/smartcard/lds"
	"enrollkiosk/smartcard/trust"
)

const (
	oidKeyUsage     = "2.5.29.15"
	oidAuthorityKey = "2.5.29.35"
	oidCommonName   = "2.5.4.3"
	oidCountry      = "2.5.4.6"
)

// certificate changes what is signed of the document signer's certificate
// (RFC 5280 4.1), before it is signed; outer the whole, after.
func certificate(edit idcard.Edit) func(*card) {
	return func(c *card) { c.issuer.EditSignerTBS = edit }
}

func outer(edit idcard.Edit) func(*card) { return func(c *card) { c.issuer.EditSigner = edit } }

// Children of TBSCertificate.
const (
	tbsVersion = iota
	tbsSerial
	tbsAlgorithm
	tbsIssuer
	tbsValidity
	tbsSubject
	tbsKey
)

// signerTests are unit LDS_H as far as it is about the document signer's certificate.
func signerTests() []test {
	const (
		malformed = "signature: malformed"
		profile   = "chain: certificate"
		authority = "chain: unknown authority"
	)
	country := func(as string) func(*card) { // in both names of the CSCA, which its signer repeats
		return func(c *card) {
			rename := func(n *idcard.Node) { n.Holding(oidCountry).Children[1].Value = []byte(as) }
			c.issuer.EditCSCATBS = func(n *idcard.Node) { rename(n.Children[tbsIssuer]); rename(n.Children[tbsSubject]) }
			c.issuer.EditSignerTBS = func(n *idcard.Node) { rename(n.Children[tbsSubject]) }
		}
	}
	long := func(n *idcard.Node) {
		from := n.Children[tbsValidity].Children[0]
		from.Tag, from.Value = 0x18, slices.Concat([]byte("20"), from.Value)
	}
	usage := func(edit func(extension *idcard.Node)) func(*card) {
		return certificate(func(n *idcard.Node) { edit(n.Holding(oidKeyUsage)) })
	}
	gone := func(id string) func(*card) {
		return certificate(func(n *idcard.Node) { n.Remove(n.Holding(id)) })
	}
	return []test{
		{row: "LDS_H_15", what: "in the store", base: plain, alter: func(c *card) {
			c.opts.SOD.NoCertificate = true
			c.anchors = func(a *idcard.Authority) (trust.Anchors, error) {
				anchors, err := trust.NewAnchors([]trust.Anchor{{Certificate: a.CSCA(), Class: trust.Test}})
				if err != nil {
					return trust.Anchors{}, err
				}
				return anchors.With([][]byte{a.Signer()})
			}
		}},
		{row: "LDS_H_48", what: "2", base: plain, alter: certificate(func(n *idcard.Node) { n.Find(0xA0, 0x02).SetInt(1) }), refused: malformed},
		{row: "LDS_H_49", what: "none", base: plain, alter: certificate(withoutChild(tbsVersion)), refused: malformed},
		{row: "LDS_H_50", what: "none", base: plain, alter: certificate(withoutChild(tbsSerial)), refused: malformed},
		{row: "LDS_H_51", what: "SHA-384", base: plain, alter: outer(func(n *idcard.Node) { n.Children[1].Children[0].SetOID("1.2.840.10045.4.3.3") }), refused: malformed},
		{row: "LDS_H_52", what: "none", base: plain, alter: certificate(withoutChild(tbsAlgorithm)), refused: malformed},
		{row: "LDS_H_53", what: "three letters", base: plain, alter: country("UTO"), refused: profile},
		{row: "LDS_H_54", what: "last bit", base: plain, alter: certificate(func(n *idcard.Node) { flipLast(n.Children[tbsIssuer].Holding(oidCommonName).Children[1]) }), refused: authority},
		{row: "LDS_H_55", what: "none", base: plain, alter: certificate(withoutChild(tbsIssuer)), refused: malformed},
		{row: "LDS_H_56", what: "from", base: plain, alter: certificate(long), refused: profile},
		{row: "LDS_H_57", what: "none", base: plain, alter: certificate(withoutChild(tbsValidity)), refused: malformed},
		{row: "LDS_H_58", what: "marked so", base: plain, alter: certificate(func(n *idcard.Node) { n.Children[tbsKey].Children[0].Children[0].SetOID("1.2.840.113549.1.1.4") }), refused: "signature: unsupported"},
		{row: "LDS_H_59", what: "none", base: plain, alter: certificate(withoutChild(tbsKey)), refused: malformed},
		{row: "LDS_H_60", what: "empty", base: plain, alter: certificate(func(n *idcard.Node) { n.Holding(oidAuthorityKey).Children[1].Value = []byte{0x30, 0} }), refused: profile},
		{row: "LDS_H_61", what: "none", base: plain, alter: gone(oidAuthorityKey), refused: profile},
		{row: "LDS_H_62", what: "not critical", base: plain, alter: usage(func(e *idcard.Node) { e.Remove(e.Find(0x01)) }), refused: profile},
		{row: "LDS_H_63", what: "key encipherment", base: plain, alter: usage(func(e *idcard.Node) { e.Find(0x04).Value = []byte{3, 2, 5, 0x20} }), refused: profile},
		{row: "LDS_H_64", what: "none", base: plain, alter: gone(oidKeyUsage), refused: profile},
		{row: "LDS_H_65", what: "signed so", base: plain, alter: func(c *card) { c.issuer, c.opts.GroupHash = both(idcard.RSA, crypto.MD5), crypto.SHA256 }, refused: "content: unsupported"},
		{row: "LDS_H_65", what: "certificates alone", base: plain, alter: func(c *card) { c.issuer, c.opts.SOD.Hash = both(idcard.RSA, crypto.MD5), crypto.SHA256 }, refused: authority},
		{row: "LDS_H_66", what: "none", base: plain, alter: outer(withoutChild(1)), refused: malformed},
		{row: "LDS_H_67", what: "last bit", base: plain, alter: outer(func(n *idcard.Node) { flipLast(n.Children[2]) }), refused: authority},
		{row: "LDS_H_68", what: "none", base: plain, alter: outer(withoutChild(2)), refused: malformed},
	}
}

// signedBy wants EF.SOD to say that it was signed so.
func signedBy(a idcard.Algorithm, h crypto.Hash, plainRSA bool) func(*testing.T, result) {
	ids := map[idcard.Algorithm]map[crypto.Hash]string{
		idcard.RSA: {crypto.SHA1: "1.2.840.113549.1.1.5", crypto.SHA224: "1.2.840.113549.1.1.14", crypto.SHA256: "1.2.840.113549.1.1.11",
			crypto.SHA384: "1.2.840.113549.1.1.12", crypto.SHA512: "1.2.840.113549.1.1.13"},
		idcard.ECDSA: {crypto.SHA1: "1.2.840.10045.4.1", crypto.SHA224: "1.2.840.10045.4.3.1", crypto.SHA256: "1.2.840.10045.4.3.2",
			crypto.SHA384: "1.2.840.10045.4.3.3", crypto.SHA512: "1.2.840.10045.4.3.4"},
		idcard.PlainECDSA: {crypto.SHA1: "0.4.0.127.0.7.1.1.4.1.1", crypto.SHA224: "0.4.0.127.0.7.1.1.4.1.2", crypto.SHA256: "0.4.0.127.0.7.1.1.4.1.3",
			crypto.SHA384: "0.4.0.127.0.7.1.1.4.1.4", crypto.SHA512: "0.4.0.127.0.7.1.1.4.1.5"},
	}
	want := ids[a][h]
	switch {
	case plainRSA:
		want = "1.2.840.113549.1.1.1"
	case a == idcard.PSS:
		want = "1.2.840.113549.1.1.10"
	}
	return func(t *testing.T, r result) {
		sod, err := lds.ParseSOD(r.document.Files[lds.EFSOD])
		if got := sod.Signer.SignatureAlgorithm.Algorithm.String(); err != nil || sod.Digest != h || got != want {
			t.Errorf("EF.SOD by %s over %v: %v", got, sod.Digest, err)
		}
	}
}

// algorithmTests are unit LDS_H as far as it is about algorithms: every one of
// Doc 9303-12 4.4 by which EF.SOD, its signer and the CSCA may sign.
func algorithmTests() []test {
	var list []test
	// of signs everything so, from the numbered row on.
	of := func(first int, a idcard.Algorithm, plainRSA bool, sums ...crypto.Hash) {
		for i, h := range sums {
			c := test{row: fmt.Sprintf("LDS_H_%02d", first+i), what: fmt.Sprintf("%s, %v", a, h), base: plain, alter: func(c *card) {
				c.issuer, c.opts.SOD.RSAEncryption = both(a, h), plainRSA
			}, check: signedBy(a, h, plainRSA)}
			if h == crypto.SHA1 {
				c.warning = "sha-1"
			}
			list = append(list, c)
		}
	}
	of(1, idcard.RSA, false, crypto.SHA1)
	of(2, idcard.PSS, false, crypto.SHA1, crypto.SHA256)
	of(4, idcard.RSA, false, crypto.SHA224, crypto.SHA256, crypto.SHA384, crypto.SHA512)
	of(9, idcard.ECDSA, false, crypto.SHA1)
	of(10, idcard.PlainECDSA, false, crypto.SHA1, crypto.SHA224, crypto.SHA256, crypto.SHA384, crypto.SHA512)
	of(70, idcard.ECDSA, false, crypto.SHA224, crypto.SHA256, crypto.SHA384, crypto.SHA512)
	of(79, idcard.RSA, true, crypto.SHA1, crypto.SHA224, crypto.SHA256, crypto.SHA384, crypto.SHA512)
	of(94, idcard.PSS, false, crypto.SHA224, crypto.SHA384, crypto.SHA512)

	mixed := func(csca, signer idcard.Scheme, groups crypto.Hash) func(*card) {
		return func(c *card) {
			c.issuer, c.opts.GroupHash = idcard.AuthorityOptions{CSCA: csca, Signer: signer}, groups
		}
	}
	pss := scheme(idcard.PSS, crypto.SHA256)
	return append(list,
		test{row: "LDS_H_74", what: "mixed", base: plain, alter: func(c *card) { c.opts.GroupHash = crypto.SHA224 }},
		test{row: "LDS_H_75", what: "mixed", base: plain, alter: mixed(pss, pss, crypto.SHA224)},
		test{row: "LDS_H_76", what: "mixed", base: plain, alter: mixed(scheme(idcard.ECDSA, crypto.SHA224), scheme(idcard.RSA, crypto.SHA256), 0)},
		test{row: "LDS_H_77", what: "mixed", base: plain, alter: mixed(scheme(idcard.PSS, crypto.SHA224), pss, 0)},
		test{row: "LDS_H_78", what: "mixed", base: plain, alter: mixed(scheme(idcard.RSA, crypto.SHA256), pss, 0)})
}
