package trust_test

import (
	"crypto"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"enrollkiosk/simulators/idcard"
	"enrollkiosk/smartcard/lds"
	"enrollkiosk/smartcard/trust"
)

// Outcomes of BSI TR-03105 Part 5.1.
const (
	accept = "accept"
	warn   = "accept with warning"
	reject = "reject"
)

// row is a card of the test plan: one deviation from a good one.
type row struct {
	id        string
	expect    string
	warning   trust.Warning // with warn
	reason    error         // with reject
	authority idcard.AuthorityOptions
	card      idcard.Options
	doc       func(*lds.Document)
	trusted   func(*idcard.Authority) trust.Anchors // nil: the authority is an anchor
}

func scheme(a idcard.Algorithm, h crypto.Hash) idcard.Scheme {
	return idcard.Scheme{Algorithm: a, Hash: h, Bits: 2048}
}

func both(a idcard.Algorithm, h crypto.Hash) idcard.AuthorityOptions {
	return idcard.AuthorityOptions{CSCA: scheme(a, h), Signer: scheme(a, h)}
}

// pssOnly has keys that say id-RSASSA-PSS themselves.
var pssOnly = func() idcard.AuthorityOptions {
	s := idcard.Scheme{Algorithm: idcard.PSS, Bits: 2048, Parameters: idcard.Explicit}
	return idcard.AuthorityOptions{CSCA: s, Signer: s}
}()

func editedSOD(e idcard.Edit) idcard.Options {
	return idcard.Options{SOD: idcard.SignedObject{Edit: e}}
}

func editedContent(e idcard.Edit) idcard.Options {
	return idcard.Options{SOD: idcard.SignedObject{EditContent: e}}
}

func editedFile(e idcard.Edit) idcard.Options {
	return idcard.Options{EditFile: func(id uint16, b []byte) []byte {
		if id == 0x011D {
			return idcard.EditBytes(e)(b)
		}
		return b
	}}
}

func editedTBS(e idcard.Edit) idcard.AuthorityOptions {
	return idcard.AuthorityOptions{EditSignerTBS: e}
}

func editedCertificate(e idcard.Edit) idcard.AuthorityOptions {
	return idcard.AuthorityOptions{EditSigner: e}
}

// parts of what the edits see
var signedData, signerInfo = idcard.SignedDataIn, idcard.SignerInfoIn

func flip(n *idcard.Node) { n.Value[len(n.Value)-1] ^= 1 }

func groupHash(content *idcard.Node, number byte) *idcard.Node {
	list := content.Children[2].Children
	return list[slices.IndexFunc(list, func(h *idcard.Node) bool { return h.Children[0].Value[0] == number })]
}

func removeChild(i int) idcard.Edit { return func(n *idcard.Node) { n.Remove(n.Children[i]) } }

const (
	oidMD5       = "1.2.840.113549.2.5"
	oidSHA256    = "2.16.840.1.101.3.4.2.1"
	oidDigest    = "1.2.840.113549.1.9.4"
	oidKeyUsage  = "2.5.29.15"
	oidAuthority = "2.5.29.35"
)

func rows() []row {
	unlisted := func(n *idcard.Node, number byte) { // a hash of a group that the card lacks
		copied, err := idcard.ParseNode(groupHash(n, 1).Encode())
		must(0, err)
		copied.Children[0].SetInt(number)
		n.Children[2].Children = append(n.Children[2].Children, copied)
	}
	list := []row{
		{id: "LDS_H_01", expect: warn, warning: trust.WarnSHA1, authority: both(idcard.RSA, crypto.SHA1)},
		{id: "LDS_H_02", expect: warn, warning: trust.WarnSHA1, authority: both(idcard.PSS, crypto.SHA1)},
		{id: "LDS_H_03", expect: accept, authority: both(idcard.PSS, crypto.SHA256)},
		{id: "LDS_H_04", expect: accept, authority: both(idcard.RSA, crypto.SHA224)},
		{id: "LDS_H_05", expect: accept, authority: both(idcard.RSA, crypto.SHA256)},
		{id: "LDS_H_06", expect: accept, authority: both(idcard.RSA, crypto.SHA384)},
		{id: "LDS_H_07", expect: accept, authority: both(idcard.RSA, crypto.SHA512)},
		{id: "LDS_H_09", expect: warn, warning: trust.WarnSHA1, authority: both(idcard.ECDSA, crypto.SHA1)},
		{id: "LDS_H_10", expect: warn, warning: trust.WarnSHA1, authority: both(idcard.PlainECDSA, crypto.SHA1)},
		{id: "LDS_H_11", expect: accept, authority: both(idcard.PlainECDSA, crypto.SHA224)},
		{id: "LDS_H_12", expect: accept, authority: both(idcard.PlainECDSA, crypto.SHA256)},
		{id: "LDS_H_13", expect: accept, authority: both(idcard.PlainECDSA, crypto.SHA384)},
		{id: "LDS_H_14", expect: accept, authority: both(idcard.PlainECDSA, crypto.SHA512)},
		{id: "LDS_H_15", expect: accept, card: idcard.Options{SOD: idcard.SignedObject{NoCertificate: true}},
			trusted: func(a *idcard.Authority) trust.Anchors {
				return must(must(trust.NewAnchors([]trust.Anchor{{Certificate: a.CSCA(), Class: trust.Test}})).With([][]byte{a.Signer()}))
			}},
		{id: "LDS_H_17", expect: reject, reason: trust.ErrMalformed, card: editedFile(func(n *idcard.Node) { n.Tag = 0x78 })},
		{id: "LDS_H_18", expect: reject, reason: trust.ErrMalformed, card: editedFile(func(n *idcard.Node) { n.Claim = -1 })},
		{id: "LDS_H_19", expect: reject, reason: trust.ErrMalformed, card: editedFile(func(n *idcard.Node) { n.Claim = +1 })},
		{id: "LDS_H_20", expect: reject, reason: trust.ErrUnsupported, card: editedSOD(func(n *idcard.Node) { signedData(n).Children[0].SetInt(9) })},
		{id: "LDS_H_21", expect: reject, reason: trust.ErrMalformed, card: editedSOD(func(n *idcard.Node) { n.Remove(signedData(n).Children[0]) })},
		{id: "LDS_H_22", expect: reject, reason: trust.ErrUnsupported, card: editedSOD(func(n *idcard.Node) { signedData(n).Children[1].Holding(oidSHA256).Children[0].SetOID(oidMD5) })},
		{id: "LDS_H_23", expect: reject, reason: trust.ErrMalformed, card: editedSOD(func(n *idcard.Node) { n.Remove(signedData(n).Children[1]) })},
		{id: "LDS_H_24", expect: reject, reason: trust.ErrUnsupported, card: idcard.Options{SOD: idcard.SignedObject{ContentType: "1.2.3.4"}}},
		{id: "LDS_H_25", expect: reject, reason: trust.ErrMalformed, card: editedSOD(func(n *idcard.Node) { n.Remove(signedData(n).Find(0x30, 0x06)) })},
		{id: "LDS_H_26", expect: reject, reason: trust.ErrUnsupported, card: editedSOD(func(n *idcard.Node) { signerInfo(n).Children[0].SetInt(9) })},
		{id: "LDS_H_27", expect: reject, reason: trust.ErrMalformed, card: editedSOD(func(n *idcard.Node) { n.Remove(signerInfo(n).Children[0]) })},
		{id: "LDS_H_28", expect: reject, reason: trust.ErrCertificate, card: editedSOD(func(n *idcard.Node) { flip(signerInfo(n).Find(0x30, 0x02)) })},
		{id: "LDS_H_29", expect: reject, reason: trust.ErrCertificate, card: idcard.Options{SOD: idcard.SignedObject{ByKeyID: true, Edit: func(n *idcard.Node) { flip(signerInfo(n).Find(0x80)) }}}},
		{id: "LDS_H_30", expect: reject, reason: trust.ErrUnsupported, card: editedSOD(func(n *idcard.Node) { signerInfo(n).Holding(oidSHA256).Children[0].SetOID(oidMD5) })},
		{id: "LDS_H_31", expect: reject, reason: trust.ErrMalformed, card: editedSOD(func(n *idcard.Node) { n.Remove(signerInfo(n).Holding(oidSHA256)) })},
		{id: "LDS_H_32", expect: reject, reason: trust.ErrSignature, card: idcard.Options{SOD: idcard.SignedObject{EditAttributes: func(n *idcard.Node) { flip(n.Holding(oidDigest).Find(0x31, 0x04)) }}}},
		{id: "LDS_H_33", expect: reject, reason: trust.ErrSignature, card: idcard.Options{SOD: idcard.SignedObject{EditAttributes: func(n *idcard.Node) { n.Remove(n.Holding(oidDigest)) }}}},
		{id: "LDS_H_36", expect: reject, reason: trust.ErrUnsupported, authority: idcard.AuthorityOptions{Signer: scheme(idcard.RSA, 0)},
			card: idcard.Options{SOD: idcard.SignedObject{Hash: crypto.MD5}, GroupHash: crypto.SHA256}},
		{id: "LDS_H_37", expect: reject, reason: trust.ErrSignature, card: editedSOD(func(n *idcard.Node) { flip(signerInfo(n).Find(0x04)) })},
		{id: "LDS_H_38", expect: reject, reason: trust.ErrMalformed, card: editedSOD(func(n *idcard.Node) { n.Remove(signerInfo(n).Find(0x04)) })},
		{id: "LDS_H_39", expect: reject, reason: trust.ErrUnsupported, card: editedContent(func(n *idcard.Node) { n.Children[0].SetInt(9) })},
		{id: "LDS_H_40", expect: reject, reason: trust.ErrMalformed, card: editedContent(removeChild(0))},
		{id: "LDS_H_41", expect: reject, reason: trust.ErrUnsupported, card: editedContent(func(n *idcard.Node) { n.Holding(oidSHA256).Children[0].SetOID(oidMD5) })},
		{id: "LDS_H_42", expect: reject, reason: trust.ErrMalformed, card: editedContent(removeChild(1))},
		{id: "LDS_H_43", expect: reject, reason: trust.ErrHash, card: editedContent(func(n *idcard.Node) { flip(groupHash(n, 2).Find(0x04)) })},
		{id: "LDS_H_44", expect: reject, reason: trust.ErrHash, card: editedContent(func(n *idcard.Node) { n.Remove(groupHash(n, 1)) })},
		{id: "LDS_H_45", expect: reject, reason: trust.ErrMalformed, card: editedContent(func(n *idcard.Node) { unlisted(n, 10) })},
		{id: "LDS_H_46", expect: reject, reason: trust.ErrMalformed, card: editedContent(func(n *idcard.Node) { groupHash(n, 1).Children[0].Value = []byte{0, 0xFF} })},
		{id: "LDS_H_47", expect: reject, reason: trust.ErrMalformed, card: editedContent(func(n *idcard.Node) { n.Remove(groupHash(n, 2).Children[0]) })},
		{id: "LDS_H_48", expect: reject, reason: trust.ErrMalformed, authority: editedTBS(func(n *idcard.Node) { n.Find(0xA0, 0x02).SetInt(1) })},
		{id: "LDS_H_49", expect: reject, reason: trust.ErrMalformed, authority: editedTBS(removeChild(0))},
		{id: "LDS_H_50", expect: reject, reason: trust.ErrMalformed, authority: editedTBS(removeChild(1))},
		{id: "LDS_H_51", expect: reject, reason: trust.ErrMalformed, authority: editedCertificate(func(n *idcard.Node) { n.Children[1].Children[0].SetOID("1.2.840.10045.4.3.3") })},
		{id: "LDS_H_52", expect: reject, reason: trust.ErrMalformed, authority: editedTBS(removeChild(2))},
		// A country of three letters; what states do wrong in practice is LDS_H_53 (field).
		{id: "LDS_H_53", expect: reject, reason: trust.ErrCertificate, authority: renamed("UTO")},
		{id: "LDS_H_53 (field)", expect: warn, warning: trust.WarnIssuerName, authority: renamed("ut")},
		{id: "LDS_H_54", expect: reject, reason: trust.ErrUnknownAuthority, authority: editedTBS(func(n *idcard.Node) { flip(n.Children[3].Holding("2.5.4.3").Children[1]) })},
		{id: "LDS_H_55", expect: reject, reason: trust.ErrMalformed, authority: editedTBS(removeChild(3))},
		{id: "LDS_H_56", expect: reject, reason: trust.ErrCertificate, authority: editedTBS(func(n *idcard.Node) {
			from := n.Children[4].Children[0]
			from.Tag, from.Value = 0x18, append([]byte("20"), from.Value...)
		})},
		{id: "LDS_H_57", expect: reject, reason: trust.ErrMalformed, authority: editedTBS(removeChild(4))},
		{id: "LDS_H_58", expect: reject, reason: trust.ErrUnsupported, authority: editedTBS(func(n *idcard.Node) { n.Children[6].Children[0].Children[0].SetOID("1.2.840.113549.1.1.4") })},
		{id: "LDS_H_59", expect: reject, reason: trust.ErrMalformed, authority: editedTBS(removeChild(6))},
		{id: "LDS_H_60", expect: reject, reason: trust.ErrCertificate, authority: editedTBS(func(n *idcard.Node) { n.Holding(oidAuthority).Children[1].Value = []byte{0x30, 0} })},
		{id: "LDS_H_61", expect: reject, reason: trust.ErrCertificate, authority: editedTBS(func(n *idcard.Node) { n.Remove(n.Holding(oidAuthority)) })},
		{id: "LDS_H_62", expect: reject, reason: trust.ErrCertificate, authority: editedTBS(func(n *idcard.Node) { n.Remove(n.Holding(oidKeyUsage).Find(0x01)) })},
		{id: "LDS_H_63", expect: reject, reason: trust.ErrCertificate, authority: editedTBS(func(n *idcard.Node) { n.Holding(oidKeyUsage).Find(0x04).Value = []byte{3, 2, 5, 0x20} })},
		{id: "LDS_H_64", expect: reject, reason: trust.ErrCertificate, authority: editedTBS(func(n *idcard.Node) { n.Remove(n.Holding(oidKeyUsage)) })},
		{id: "LDS_H_65", expect: reject, reason: trust.ErrUnsupported, authority: both(idcard.RSA, crypto.MD5), card: idcard.Options{GroupHash: crypto.SHA256}},
		{id: "LDS_H_66", expect: reject, reason: trust.ErrMalformed, authority: editedCertificate(removeChild(1))},
		{id: "LDS_H_67", expect: reject, reason: trust.ErrUnknownAuthority, authority: editedCertificate(func(n *idcard.Node) { flip(n.Children[2]) })},
		{id: "LDS_H_68", expect: reject, reason: trust.ErrMalformed, authority: editedCertificate(removeChild(2))},
		{id: "LDS_H_69", expect: reject, reason: trust.ErrHash, doc: func(d *lds.Document) { d.Files[lds.DG2][40] ^= 1 }},
		{id: "LDS_H_74", expect: accept, card: idcard.Options{GroupHash: crypto.SHA224}},
		{id: "LDS_H_75", expect: accept, authority: both(idcard.PSS, crypto.SHA256), card: idcard.Options{GroupHash: crypto.SHA224}},
		{id: "LDS_H_76", expect: accept, authority: idcard.AuthorityOptions{CSCA: scheme(idcard.ECDSA, crypto.SHA224), Signer: scheme(idcard.RSA, crypto.SHA256)}},
		{id: "LDS_H_77", expect: accept, authority: idcard.AuthorityOptions{CSCA: scheme(idcard.PSS, crypto.SHA224), Signer: scheme(idcard.PSS, crypto.SHA256)}},
		{id: "LDS_H_78", expect: accept, authority: idcard.AuthorityOptions{CSCA: scheme(idcard.RSA, crypto.SHA256), Signer: scheme(idcard.PSS, crypto.SHA256)}},
		{id: "LDS_H_84", expect: reject, reason: trust.ErrUnsupported, card: editedSOD(func(n *idcard.Node) { signerInfo(n).Children[0].SetInt(3) })},
		{id: "LDS_H_85", expect: reject, reason: trust.ErrUnsupported, card: idcard.Options{SOD: idcard.SignedObject{ByKeyID: true, Edit: func(n *idcard.Node) { signerInfo(n).Children[0].SetInt(1) }}}},
		{id: "LDS_H_86", expect: accept, card: idcard.Options{LDSVersion: idcard.LDS18}},
		{id: "LDS_H_87", expect: reject, reason: trust.ErrMalformed, card: idcard.Options{LDSVersion: idcard.LDS18, SOD: idcard.SignedObject{EditContent: func(n *idcard.Node) { n.Children[0].SetInt(0) }}}},
		{id: "LDS_H_88", expect: reject, reason: trust.ErrMalformed, card: editedContent(func(n *idcard.Node) { n.Children[0].SetInt(1) })},
		{id: "LDS_H_88 (with versions)", expect: reject, reason: trust.ErrMalformed, card: idcard.Options{LDSVersion: idcard.LDS18, SOD: idcard.SignedObject{EditContent: func(n *idcard.Node) {
			n.Children[3].Children[0].Value = []byte(idcard.LDS17)
		}}}},
		{id: "LDS_H_89", expect: warn, warning: trust.WarnLDSVersion, card: idcard.Options{LDSVersion: "0109"}},
		{id: "LDS_H_90", expect: reject, reason: trust.ErrMalformed, card: editedContent(func(n *idcard.Node) { unlisted(n, 3) })},
		{id: "LDS_H_91", expect: reject, reason: trust.ErrMalformed, card: editedContent(func(n *idcard.Node) { n.Remove(groupHash(n, 2)) }),
			doc: func(d *lds.Document) { delete(d.Files, lds.DG2) }},
		{id: "LDS_H_92", expect: reject, reason: trust.ErrMalformed, card: editedContent(func(n *idcard.Node) { groupHash(n, 2).Children[0].SetInt(3) }),
			doc: func(d *lds.Document) { delete(d.Files, lds.DG2) }},

		{id: "key for PSS only", expect: accept, authority: pssOnly},
		{id: "key for PSS only, another signature", expect: reject, reason: trust.ErrSignature, authority: pssOnly, card: idcard.Options{SOD: idcard.SignedObject{Algorithm: idcard.RSA}}},
		{id: "indefinite length", expect: accept, card: idcard.Options{Faults: []idcard.Fault{idcard.IndefiniteSOD}}},
		{id: "bytes after the SOD", expect: reject, reason: trust.ErrMalformed, card: idcard.Options{Faults: []idcard.Fault{idcard.TrailingSOD}}},
		{id: "named by key identifier", expect: accept, card: idcard.Options{SOD: idcard.SignedObject{ByKeyID: true}}},
		{id: "no signing time", expect: accept, card: idcard.Options{SOD: idcard.SignedObject{NoSigningTime: true}}},
		{id: "plain data", expect: warn, warning: trust.WarnContentType, card: idcard.Options{SOD: idcard.SignedObject{ContentType: "1.2.840.113549.1.7.1"}}},
		{id: "identifier of old", expect: warn, warning: trust.WarnContentType, card: idcard.Options{SOD: idcard.SignedObject{ContentType: "1.3.27.1.1.1"}}},
		{id: "several certificates", expect: accept, card: idcard.Options{SOD: idcard.SignedObject{Certificates: [][]byte{{0x30, 0}}}}},
	}
	for id, h := range map[string]crypto.Hash{"70": crypto.SHA224, "71": crypto.SHA256, "72": crypto.SHA384, "73": crypto.SHA512} {
		list = append(list, row{id: "LDS_H_" + id, expect: accept, authority: both(idcard.ECDSA, h)})
	}
	for id, h := range map[string]crypto.Hash{"79": crypto.SHA1, "80": crypto.SHA224, "81": crypto.SHA256, "82": crypto.SHA384, "83": crypto.SHA512} {
		r := row{id: "LDS_H_" + id, expect: accept, authority: both(idcard.RSA, h), card: idcard.Options{SOD: idcard.SignedObject{RSAEncryption: true}}}
		if h == crypto.SHA1 {
			r.expect, r.warning = warn, trust.WarnSHA1
		}
		list = append(list, r)
	}
	for id, h := range map[string]crypto.Hash{"94": crypto.SHA224, "95": crypto.SHA384, "96": crypto.SHA512} {
		list = append(list, row{id: "LDS_H_" + id, expect: accept, authority: both(idcard.PSS, h)})
	}
	for _, d := range curves {
		for _, how := range []idcard.Parameters{idcard.Named, idcard.Explicit} {
			s := idcard.Scheme{Algorithm: idcard.ECDSA, Hash: crypto.SHA384, Domain: d, Parameters: how}
			list = append(list, row{id: fmt.Sprintf("domain %d, parameters %d", d, how), expect: accept, authority: idcard.AuthorityOptions{CSCA: s, Signer: s}})
		}
	}
	return list
}

var curves = []idcard.Domain{idcard.P192, idcard.BrainpoolP192r1, idcard.P224, idcard.BrainpoolP224r1, idcard.P256, idcard.BrainpoolP256r1,
	idcard.BrainpoolP320r1, idcard.P384, idcard.BrainpoolP384r1, idcard.BrainpoolP512r1, idcard.P521}

// renamed gives the CSCA another country in both its names, which its signer repeats.
func renamed(country string) idcard.AuthorityOptions {
	edit := func(n *idcard.Node) { n.Holding("2.5.4.6").Children[1].Value = []byte(country) }
	return idcard.AuthorityOptions{
		EditCSCATBS:   func(n *idcard.Node) { edit(n.Children[3]); edit(n.Children[5]) },
		EditSignerTBS: func(n *idcard.Node) { edit(n.Children[5]) },
	}
}

// files are what a reader has of a card of the simulator.
func files(card *idcard.Chip) lds.Document {
	d := lds.Document{Access: "PACE", Files: make(map[lds.File][]byte)}
	for _, f := range []lds.File{lds.EFCOM, lds.EFSOD, lds.DG1, lds.DG2, lds.DG14, lds.DG15} {
		if content := card.File(uint16(f)); content != nil {
			d.Files[f] = slices.Clone(content)
		}
	}
	return d
}

// portrait and keys are made once: both take long.
var portrait = sync.OnceValue(func() []byte { return must(idcard.Portrait(idcard.SpecimenPerson())) })

var rsaKeys = sync.OnceValue(func() *idcard.Authority { return must(idcard.NewAuthorityWith(both(idcard.RSA, 0))) })
var ecKeys = sync.OnceValue(func() *idcard.Authority { return must(idcard.NewAuthority(idcard.ECDSA)) })

func keysFor(a idcard.Algorithm) *idcard.Authority {
	if a == idcard.RSA || a == idcard.PSS {
		return rsaKeys()
	}
	return ecKeys()
}

func TestConformance(t *testing.T) {
	for _, r := range rows() {
		r.card.Face = portrait()
		t.Run(r.id, func(t *testing.T) {
			r.authority.Keys = keysFor(r.authority.CSCA.Algorithm)
			state, err := idcard.NewAuthorityWith(r.authority)
			if err != nil {
				t.Fatal(err)
			}
			card, err := state.Personalise(idcard.SpecimenPerson(), r.card)
			if err != nil {
				t.Fatal(err)
			}
			var anchors trust.Anchors
			if r.trusted != nil {
				anchors = r.trusted(state)
			} else {
				anchors = must(trust.NewAnchors([]trust.Anchor{{Certificate: state.CSCA(), Class: trust.Test}}))
			}
			doc := files(card)
			opts := trust.Options{}
			if r.doc != nil {
				r.doc(&doc)
				opts.FaceWithheld = true
			}
			outcome(t, r, doc, anchors, opts)
		})
	}
}

func outcome(t *testing.T, r row, doc lds.Document, anchors trust.Anchors, opts trust.Options) {
	t.Helper()
	h, report, err := trust.Verify(doc, anchors, time.Now(), opts)
	got := accept
	switch {
	case err != nil:
		got = reject
	case len(report.Warnings) > 0:
		got = warn
	}
	if got != r.expect || h.Valid() != (got != reject) {
		t.Errorf("%s, want %s: %v, %v", got, r.expect, report.Warnings, err)
	}
	if r.expect == warn && !slices.Equal(report.Warnings, []trust.Warning{r.warning}) {
		t.Errorf("warnings %v, want %v", report.Warnings, r.warning)
	}
	if r.expect == reject {
		is(t, err, r.reason)
	}
}

func is(t *testing.T, err, reason error) {
	t.Helper()
	if !errors.Is(err, reason) {
		t.Errorf("%v, want %v", err, reason)
	}
}
