package trust_test

import (
	"bytes"
	"context"
	"crypto"
	"fmt"
	"math/big"
	"slices"
	"testing"
	"time"

	"enrollkiosk/kiosk/secret"
	"enrollkiosk/simulators/idcard"
	"enrollkiosk/smartcard/icao"
	"enrollkiosk/smartcard/lds"
	"enrollkiosk/smartcard/tlv"
	"enrollkiosk/smartcard/trust"
)

// issuer is a state of the simulator and who trusts it.
type issuer struct {
	*idcard.Authority
	anchors trust.Anchors
	face    []byte
}

func newIssuer() issuer {
	a := must(idcard.NewAuthority(idcard.ECDSA))
	return issuer{a, must(trust.NewAnchors([]trust.Anchor{{Certificate: a.CSCA(), Class: trust.Test}})), portrait()}
}

// card makes a card and tells what its master file holds.
func (i issuer) card(t *testing.T, o idcard.Options) (card *idcard.Chip, master map[uint16][]byte) {
	t.Helper()
	o.Face = i.face
	o.Chip = func(p *idcard.Profile) { master = p.Master }
	card, err := i.Personalise(idcard.SpecimenPerson(), o)
	if err != nil {
		t.Fatal(err)
	}
	return card, master
}

// read has the kiosk's reader read the card, with every proof that it gives.
func read(t *testing.T, card *idcard.Chip) lds.Document {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	chip, err := icao.Open(ctx, card.Direct(), icao.CAN(secret.FromString(card.CAN())), icao.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer chip.Close()
	doc, err := chip.ReadAll(ctx, []lds.File{lds.EFCOM, lds.DG1, lds.EFSOD, lds.DG2, lds.DG14, lds.DG15}, func(icao.Progress) {})
	if err != nil {
		t.Fatal(err)
	}
	infos, err := lds.ParseDG14(doc.Files[lds.DG14])
	if err != nil {
		t.Fatal(err)
	}
	if err := chip.AuthenticateChip(ctx, infos); err != nil {
		t.Fatal(err)
	}
	if _, err := chip.AuthenticateActive(ctx, challenge); err != nil {
		t.Fatal(err)
	}
	return chip.Document()
}

var allDomains = append([]idcard.Domain{idcard.DH1024_160, idcard.DH2048_224, idcard.DH2048_256}, curves...)

// Chip Authentication over every group, in every form of its key.
func TestChipAuthenticationOverEveryDomain(t *testing.T) {
	i := newIssuer()
	other := read(t, first(i.card(t, idcard.Options{})))
	for n, d := range allDomains {
		for _, how := range []idcard.Parameters{idcard.Named, idcard.Explicit, idcard.Standardized, idcard.PKCS3} {
			if how != idcard.Named && n%3 != int(how)%3 {
				continue // each form with some of the groups
			}
			t.Run(fmt.Sprintf("domain %d, parameters %d", d, how), func(t *testing.T) {
				card, _ := i.card(t, idcard.Options{ChipKeys: []idcard.ChipKey{{Suite: idcard.AES128, Domain: d}}, ChipParameters: how})
				doc := read(t, card)
				h, r, err := trust.Verify(doc, i.anchors, time.Now(), strict)
				if err != nil || r.ChipAuthentication != trust.Passed || !slices.Contains(h.Proofs(), trust.ProofChipAuthentication) {
					t.Fatalf("%+v, %v", r, err)
				}
				doc.Chip.Response[5] ^= 1
				refused(t, "altered answer", doc, i.anchors, time.Now(), strict, trust.CheckChipAuthentication, trust.ErrChip)
				doc.Chip = other.Chip
				_, _, err = trust.Verify(doc, i.anchors, time.Now(), trust.Options{})
				if err == nil {
					t.Error("the chip of another document")
				}
			})
		}
	}
}

func first[A, B any](a A, _ B) A { return a }

// Several keys, told apart by their numbers and kinds.
func TestSeveralChipKeys(t *testing.T) {
	i := newIssuer()
	card, _ := i.card(t, idcard.Options{ChipKeys: []idcard.ChipKey{
		{Suite: idcard.AES128, Domain: idcard.DH1024_160, ID: big.NewInt(1)}, {Suite: idcard.AES256, Domain: idcard.BrainpoolP256r1, ID: big.NewInt(2)},
	}})
	doc := read(t, card)
	if _, r, err := trust.Verify(doc, i.anchors, time.Now(), strict); err != nil || r.ChipAuthentication != trust.Passed {
		t.Errorf("%v, %v", r.ChipAuthentication, err)
	}
	doc.Chip.KeyID = big.NewInt(3 - doc.Chip.KeyID.Int64())
	refused(t, "the other key", doc, i.anchors, time.Now(), strict, trust.CheckChipAuthentication, trust.ErrChip)
}

func TestISO7816_F(t *testing.T) {
	i := newIssuer()
	verify := func(t *testing.T, o idcard.Options, expect string, reason error) {
		t.Helper()
		outcome(t, row{expect: expect, warning: trust.WarnSHA1, reason: reason}, read(t, first(i.card(t, o))), i.anchors, strict)
	}
	for id, h := range map[string]crypto.Hash{"01": crypto.SHA1, "04": crypto.SHA224, "05": crypto.SHA256, "06": crypto.SHA384, "07": crypto.SHA512} {
		t.Run("ISO7816_F_"+id, func(t *testing.T) {
			expect := accept
			if h == crypto.SHA1 {
				expect = warn
			}
			verify(t, idcard.Options{ActiveScheme: idcard.Scheme{Algorithm: idcard.RSA, Hash: h}}, expect, nil)
		})
	}
	for _, d := range curves {
		for _, a := range []idcard.Algorithm{idcard.PlainECDSA, idcard.ECDSA} {
			t.Run(fmt.Sprintf("ISO7816_F_02, domain %d, %s", d, a), func(t *testing.T) {
				verify(t, idcard.Options{ActiveScheme: idcard.Scheme{Algorithm: a, Domain: d, Hash: crypto.SHA256}}, accept, nil)
			})
		}
	}
	t.Run("ISO7816_F_09", func(t *testing.T) {
		o := idcard.Options{EditFile: func(id uint16, b []byte) []byte {
			if id != 0x010E {
				return b
			}
			return idcard.EditBytes(func(n *idcard.Node) { n.Holding("2.23.136.1.1.5").Children[2].SetOID("1.2.840.113549.1.1.11") })(b)
		}}
		verify(t, o, reject, trust.ErrUnsupported)
	})
}

// PACE with Chip Authentication Mapping on every curve.
func TestISO7816_G_34(t *testing.T) {
	i := newIssuer()
	for _, d := range curves {
		t.Run(fmt.Sprint("domain ", d), func(t *testing.T) {
			card, _ := i.card(t, idcard.Options{PACE: []idcard.PACE{{Mapping: idcard.CAM, Suite: idcard.AES128, Domain: d}}})
			doc := read(t, card)
			h, r, err := trust.Verify(doc, i.anchors, time.Now(), strict)
			if err != nil || r.ChipMapping != trust.Passed || r.CardSecurity != trust.Passed {
				t.Fatalf("%+v, %v", r, err)
			}
			if want := []trust.Proof{trust.ProofData, trust.ProofChipAuthentication, trust.ProofChipMapping, trust.ProofActive}; !slices.Equal(h.Proofs(), want) {
				t.Errorf("proofs %v", h.Proofs())
			}
			// It is proof enough.
			doc.Chip, doc.Active = nil, nil
			again, r, err := trust.Verify(doc, i.anchors, time.Now(), trust.Options{RequireChip: true})
			if err != nil || r.ChipMapping != trust.Passed {
				t.Errorf("%+v, %v", r, err)
			}
			if _, _, err := trust.Verify(again.Document(), i.anchors, time.Now(), trust.Options{RequireChip: true}); err != nil {
				t.Errorf("the holder's document: %v", err)
			}
		})
	}
}

// mapped is a card with Chip Authentication Mapping and what was read of it.
func mapped(t *testing.T, i issuer) lds.Document {
	t.Helper()
	card, _ := i.card(t, idcard.Options{PACE: []idcard.PACE{cam}})
	doc := read(t, card)
	doc.Chip, doc.Active = nil, nil
	return doc
}

var cam = idcard.PACE{Mapping: idcard.CAM, Suite: idcard.AES128, Domain: idcard.BrainpoolP256r1}

// security is EF.CardSecurity of another card, written to order.
func (i issuer) security(t *testing.T, o idcard.SignedObject) []byte {
	_, master := i.card(t, idcard.Options{PACE: []idcard.PACE{cam}, CardSecurity: &o})
	return master[0x011D]
}

func TestChipMappingRows(t *testing.T) {
	i := newIssuer()
	good := mapped(t, i)
	keyOID := "0.4.0.127.0.7.2.2.1.2"
	for id, c := range map[string]struct {
		check  trust.Check
		reason error
		edit   func(*lds.Document)
	}{
		"ISO7816_G_38": {trust.CheckChipMapping, trust.ErrChip, func(d *lds.Document) {
			card, _ := i.card(t, idcard.Options{PACE: []idcard.PACE{cam}, EditFile: func(id uint16, b []byte) []byte {
				if id != 0x010E {
					return b
				}
				return idcard.EditBytes(func(n *idcard.Node) { n.Remove(n.Holding("0.4.0.127.0.7.2.2.4.6.2")) })(b)
			}})
			for f, b := range files(card).Files {
				d.Files[f] = b
			}
		}},
		"ISO7816_G_39": {trust.CheckChipMapping, trust.ErrChip, func(d *lds.Document) {
			d.Files[lds.EFCardSecurity] = i.security(t, idcard.SignedObject{})
		}},
		"ISO7816_G_40": {trust.CheckChipMapping, trust.ErrChip, func(d *lds.Document) {
			d.Files[lds.EFCardSecurity] = i.security(t, idcard.SignedObject{EditContent: func(n *idcard.Node) { n.Remove(n.Holding(keyOID)) }})
		}},
		"LDS_H_93": {trust.CheckCardSecurity, trust.ErrSignature, func(d *lds.Document) {
			d.Files[lds.EFCardSecurity] = i.security(t, idcard.SignedObject{Edit: func(n *idcard.Node) { flip(signerInfo(n).Find(0x04)) }})
		}},
		"LDS_J_02": {trust.CheckCardSecurity, trust.ErrHash, func(d *lds.Document) {
			d.Files[lds.EFCardSecurity] = i.security(t, idcard.SignedObject{EditContent: func(n *idcard.Node) { n.Remove(n.Holding("0.4.0.127.0.7.2.2.4.6.2")) }})
		}},
		"LDS_J_03": {trust.CheckCardSecurity, trust.ErrHash, func(d *lds.Document) {
			d.Files[lds.EFCardSecurity] = i.security(t, idcard.SignedObject{EditContent: func(n *idcard.Node) { n.Holding("0.4.0.127.0.7.2.2.4.6.2").Children[2].SetInt(12) }})
		}},
		"LDS_J_04": {trust.CheckCardSecurity, trust.ErrMalformed, func(d *lds.Document) {
			d.Files[lds.EFCardSecurity] = i.security(t, idcard.SignedObject{EditContent: func(n *idcard.Node) { info := n.Holding(keyOID); info.Remove(info.Children[0]) }})
		}},
		"no EF.CardSecurity": {trust.CheckChipMapping, trust.ErrMissing, func(d *lds.Document) { delete(d.Files, lds.EFCardSecurity) }},
		"of another state": {trust.CheckCardSecurity, trust.ErrUnknownAuthority, func(d *lds.Document) {
			d.Files[lds.EFCardSecurity] = newIssuer().security(t, idcard.SignedObject{})
		}},
		"data of another run": {trust.CheckChipMapping, trust.ErrChip, func(d *lds.Document) { d.CAM.Data = mapped(t, i).CAM.Data }},
		"another protocol":    {trust.CheckChipMapping, trust.ErrChip, func(d *lds.Document) { d.CAM.Protocol = oid(lds.OIDPACEECDHGM, 2) }},
		"another curve":       {trust.CheckChipMapping, trust.ErrChip, func(d *lds.Document) { d.CAM.ParameterID = 12 }},
	} {
		t.Run(id, func(t *testing.T) {
			h, _, err := trust.Verify(good, i.anchors, time.Now(), trust.Options{RequireChip: true})
			if err != nil {
				t.Fatal(err)
			}
			doc := h.Document() // a copy, EF.CardAccess apart
			doc.Files[lds.EFCardAccess] = bytes.Clone(good.Files[lds.EFCardAccess])
			c.edit(&doc)
			refused(t, id, doc, i.anchors, time.Now(), trust.Options{}, c.check, c.reason)
		})
	}
	t.Run("LDS_J_01", func(t *testing.T) {
		doc := good
		doc.CAM = nil
		doc.Files[lds.EFCardSecurity] = i.security(t, idcard.SignedObject{EditContent: func(n *idcard.Node) {
			n.Children = append(n.Children, must(idcard.ParseNode(seq(der(lds.OIDTA), der(1)))))
		}})
		if _, r, err := trust.Verify(doc, i.anchors, time.Now(), trust.Options{}); err != nil || r.CardSecurity != trust.Passed {
			t.Errorf("%v, %v", r.CardSecurity, err)
		}
	})
}

// Bytes of EF.CardSecurity, its signer's certificate within, and of the evidence
// are turned: every seventh, or with -every all. One of the low bits, so that no
// letter changes its case: names are the same in both.
func TestEveryByteOfTheMapping(t *testing.T) {
	i := newIssuer()
	doc := mapped(t, i)
	opts := trust.Options{RequireChip: true}
	if _, _, err := trust.Verify(doc, i.anchors, time.Now(), opts); err != nil {
		t.Fatal(err)
	}
	security := doc.Files[lds.EFCardSecurity]
	hint := must(must(must(must(tlv.ParseOne(security, 0x30)).Children())[1].Children())[0].Children())[1] // the list of digest algorithms
	start := bytes.Index(security, hint.Raw)
	stride := 7
	if *everyWay {
		stride = 1
	}
	for what, b := range map[string][]byte{"EF.CardSecurity": security, "mapping key": doc.CAM.MappingKey, "data": doc.CAM.Data} {
		for at := 0; at < len(b); at += stride {
			if what == "EF.CardSecurity" && at >= start && at < start+len(hint.Raw) {
				continue
			}
			b[at] ^= 1 << (at % 5)
			h, report, err := trust.Verify(doc, i.anchors, time.Now(), opts)
			if err == nil || h.Valid() || slices.Contains(report.Proofs(), trust.ProofChipMapping) {
				t.Errorf("%s, byte %d of %d: %v, %v %x", what, at, len(b), report.Proofs(), err, b[max(0, at-16):min(len(b), at+16)])
			}
			b[at] ^= 1 << (at % 5)
		}
	}
}

// What a chip proves is worth nothing without the issuer's signature on its key.
func TestProofsNeedTheIssuer(t *testing.T) {
	good := trust.Report{Hashes: trust.Passed, Signature: trust.Passed, Chain: trust.Passed, Revocation: trust.NotChecked, ActiveAuthentication: trust.Passed}
	if want := []trust.Proof{trust.ProofData, trust.ProofActive}; !slices.Equal(good.Proofs(), want) {
		t.Errorf("proofs %v", good.Proofs())
	}
	for name, edit := range map[string]func(*trust.Report){
		"hashes": func(r *trust.Report) { r.Hashes = trust.Failed }, "signature": func(r *trust.Report) { r.Signature = trust.NotChecked },
		"chain": func(r *trust.Report) { r.Chain = trust.Failed }, "revocation": func(r *trust.Report) { r.Revocation = trust.Failed },
	} {
		r := good
		if edit(&r); r.Proofs() != nil {
			t.Errorf("%s: proofs %v", name, r.Proofs())
		}
	}
}

// EF.CardSecurity has a signer of its own, who may be revoked.
func TestCardSecurityRevoked(t *testing.T) {
	i := newIssuer()
	doc := mapped(t, i)
	doc.CAM = nil
	twin := issuer{Authority: must(idcard.NewAuthorityWith(idcard.AuthorityOptions{Keys: i.Authority})), face: i.face} // another signer under the same key
	doc.Files[lds.EFCardSecurity] = twin.security(t, idcard.SignedObject{})
	if _, r, err := trust.Verify(doc, i.anchors, time.Now(), trust.Options{}); err != nil || r.CardSecurity != trust.Passed {
		t.Fatalf("%v, %v", r.CardSecurity, err)
	}
	list := must(i.RevocationList(idcard.CRLOptions{Serials: []*big.Int{signerSerial(twin.Signer())}}))
	refused(t, "revoked", doc, must(i.anchors.With(nil, list)), time.Now(), trust.Options{}, trust.CheckCardSecurity, trust.ErrRevoked)
}
