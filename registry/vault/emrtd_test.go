package vault_test

import (
	"bytes"
	"crypto"
	"slices"
	"testing"

	"enrollkiosk/kiosk/secret"
	"enrollkiosk/registry/internal/registrytest"
	"enrollkiosk/registry/record"
	"enrollkiosk/simulators/idcard"
	"enrollkiosk/smartcard/icao"
	"enrollkiosk/smartcard/lds"
)

// passport opens and reads an eMRTD as a kiosk does, once. For each record the
// chip signs if it can; of one that proves itself by PACE EF.CardSecurity is
// sealed. What the kiosk says of the chip is the test's to add.
func passport(t testing.TB, c *idcard.Chip) sealing {
	t.Helper()
	chip, err := icao.Open(t.Context(), c.Direct(), icao.CAN(secret.FromString(c.CAN())), icao.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(chip.Close)
	if _, err := chip.ReadAll(t.Context(), []lds.File{lds.DG1, lds.EFSOD, lds.DG14, lds.DG15}, nil); err != nil {
		t.Fatal(err)
	}
	return func(rc record.Context, holder crypto.PublicKey) record.Identity {
		t.Helper()
		if c.File(uint16(lds.DG15)) != nil {
			challenge, err := rc.ChipChallenge(holder)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := chip.AuthenticateActive(t.Context(), [8]byte(challenge[:8])); err != nil {
				t.Fatal(err)
			}
		}
		doc := chip.Document()
		id := registrytest.Identity(doc)
		if b := doc.Files[lds.EFCardSecurity]; b != nil {
			id.Files[uint16(lds.EFCardSecurity)] = secret.New(bytes.Clone(b))
		}
		return id
	}
}

// claiming is what a kiosk says that Chip Authentication proved.
func (s sealing) claiming(protocol string, key ...byte) sealing {
	return s.edited(func(id *record.Identity) { id.Chip = &record.ChipClaim{Protocol: protocol, KeyID: key, Passed: true} })
}

// without leaves files out.
func (s sealing) without(files ...lds.File) sealing {
	return s.edited(func(id *record.Identity) {
		for _, f := range files {
			delete(id.Files, uint16(f))
		}
		id.Active = nil
	})
}

// Protocols (Doc 9303-11 9.2.1, 9.2.5).
const (
	ecdhAES128 = "0.4.0.127.0.7.2.2.3.2.2"
	ecdhAES256 = "0.4.0.127.0.7.2.2.3.2.4"
	camAES128  = "0.4.0.127.0.7.2.2.4.6.2"
	gmAES128   = "0.4.0.127.0.7.2.2.4.2.2"
)

// keyless is a card that can neither sign nor run Chip Authentication, but for
// what DG14 says.
func keyless(t testing.TB, dg14 []byte) *idcard.Chip {
	t.Helper()
	o := idcard.Options{Faults: []idcard.Fault{idcard.NoChipKeys}}
	if dg14 != nil {
		o.Files = map[uint16][]byte{uint16(lds.DG14): dg14}
	}
	return card(t, idcard.SpecimenPerson(), o)
}

// What an eMRTD lacks must be what the record says; the kiosk's word for its
// chip stands where there is no other proof, and for what the issuer signed.
func TestPassportsThatLackProof(t *testing.T) {
	full := card(t, idcard.SpecimenPerson(), idcard.Options{ChipKeyID: 7})
	dg14 := full.File(uint16(lds.DG14))
	signing, plain, claimable := passport(t, full), passport(t, keyless(t, nil)), passport(t, keyless(t, dg14))
	// DG14 that offers PACE and no key, and one that offers a protocol of the future.
	listing := passport(t, keyless(t, setOf(0x6E, paceInfo(t, dg14))))
	unknown := passport(t, keyless(t, bytes.ReplaceAll(dg14, []byte("\x00\x7F\x00\x07\x02\x02\x03\x02\x02"), []byte("\x00\x7F\x00\x07\x02\x02\x03\x02\x09"))))

	w := accepting(t, acceptsBelgian+acceptsResident+acceptsChipless)
	judge(t, w, []attempt{
		{"no keys: hides what it lacks", plain, nil, false},
		{"no keys: the issuer's signature too", plain, neither, false},
		{"no keys: the kiosk's word", plain.claiming(ecdhAES128), nil, false},
		{"signs: claims a lack", signing, noChip, false},
		{"signs: DG15 left out, the kiosk's word", signing.without(lds.DG15).claiming(ecdhAES128, 7), nil, false},
		{"signs: DG15 left out, said to lack", signing.without(lds.DG15), noChip, false},
		{"signs: not asked, the kiosk's word", signing.without().claiming(ecdhAES128, 7), nil, false},
		{"signs: both left out, said to lack", signing.without(lds.DG14, lds.DG15), noChip, false},
		{"keys: left out, said to lack", claimable.without(lds.DG14), noChip, false},
		{"keys: left out, the kiosk's word", claimable.without(lds.DG14).claiming(ecdhAES128, 7), nil, false},
		{"keys: not asked, said to lack", claimable, noChip, false},
		{"keys: claimed and said to lack", claimable.claiming(ecdhAES128, 7), noChip, false},
		{"keys: failed, said to lack", claimable.edited(func(id *record.Identity) {
			id.Chip = &record.ChipClaim{Protocol: ecdhAES128, KeyID: []byte{7}}
		}), noChip, false},
		{"keys: another protocol claimed", claimable.claiming(ecdhAES256, 7), nil, false},
		{"keys: another key claimed", claimable.claiming(ecdhAES128, 8), nil, false},
		{"keys: no protocol claimed", claimable.claiming(""), nil, false},
		{"no key for what DG14 lists, claimed", listing.claiming(ecdhAES128), nil, false},
		{"no key for what DG14 lists, left out and claimed", listing.without(lds.DG14).claiming(ecdhAES128), nil, false},
		{"PACE is no proof", listing.claiming(gmAES128), nil, false},
		{"protocol of the future: failed", unknown.edited(func(id *record.Identity) { id.Chip = &record.ChipClaim{Protocol: ecdhAES128} }), noChip, false},
	})
	// Each is the specimen's only document: a World for each.
	for name, a := range map[string]attempt{
		"no keys":                {document: plain, lacks: noChip, accepted: true},
		"signs":                  {document: signing, accepted: true},
		"keys, the kiosk's word": {document: claimable.claiming(ecdhAES128, 7), accepted: true},
		"keys, the kiosk's word without a number": {document: claimable.claiming(ecdhAES128), accepted: true},
		"lists PACE alone":                        {document: listing, lacks: noChip, accepted: true},
		"protocol of the future":                  {document: unknown, lacks: noChip, accepted: true},
	} {
		a.name = name
		judge(t, accepting(t, acceptsChipless), []attempt{a})
	}
	for name, policy := range map[string]string{"no rule for it": acceptsBelgian, "a rule that allows nothing": "[[documents]]\nkind = \"emrtd\"\n"} {
		judge(t, accepting(t, policy), []attempt{{name, plain, noChip, false}})
	}
}

// A chip whose only proof is PACE with Chip Authentication Mapping: the kiosk's
// word stands on EF.CardSecurity, which the state signed.
func TestChipMappingClaim(t *testing.T) {
	pace := []idcard.PACE{{Mapping: idcard.CAM, Suite: idcard.AES128, Domain: idcard.P256}}
	mapping := func(a *idcard.Authority, listed bool) *idcard.Chip {
		t.Helper()
		var whole idcard.Profile
		personalise(t, a, idcard.SpecimenPerson(), idcard.Options{PACE: pace, Chip: func(p *idcard.Profile) { whole = *p }})
		o := idcard.Options{PACE: pace, Faults: []idcard.Fault{idcard.NoChipKeys}, Chip: func(p *idcard.Profile) { p.Master, p.ChipKeys = whole.Master, whole.ChipKeys }}
		if listed {
			o.Files = map[uint16][]byte{uint16(lds.DG14): setOf(0x6E, paceInfo(t, whole.Application[uint16(lds.DG14)]))}
		}
		return personalise(t, a, idcard.SpecimenPerson(), o)
	}
	foreign, err := idcard.NewAuthority(idcard.ECDSA)
	if err != nil {
		t.Fatal(err)
	}
	only, older := passport(t, mapping(state(t), true)), passport(t, mapping(state(t), false))
	graft := func(s, from sealing) sealing {
		return s.edited(func(id *record.Identity) {
			security := elsewhere(t, from).Files[uint16(lds.EFCardSecurity)]
			if security.Len() == 0 {
				t.Fatal("the card's EF.CardSecurity was not read: this test tests nothing")
			}
			id.Files[uint16(lds.EFCardSecurity)] = security
		})
	}
	dg14 := card(t, idcard.SpecimenPerson(), idcard.Options{}).File(uint16(lds.DG14))
	listing := passport(t, keyless(t, setOf(0x6E, paceInfo(t, dg14)))) // of another mapping
	judge(t, accepting(t, acceptsChipless), []attempt{
		{"no claim", only, nil, false},
		{"EF.CardSecurity left out", only.without(lds.EFCardSecurity).claiming(camAES128), nil, false},
		{"EF.CardSecurity of another state", graft(only, passport(t, mapping(foreign, true))).claiming(camAES128), nil, false},
		{"EF.CardSecurity altered", only.claiming(camAES128).edited(func(id *record.Identity) {
			b := id.Files[uint16(lds.EFCardSecurity)].Reveal()
			b[len(b)-1] ^= 1
		}), nil, false},
		{"EF.CardSecurity beside a chip that does not map", graft(listing, only).claiming(camAES128), nil, false},
		{"another protocol claimed", only.claiming(gmAES128), nil, false},
		{"Chip Authentication claimed", only.claiming(ecdhAES128), nil, false},
		{"claimed and said to lack", only.claiming(camAES128), noChip, false},
		{"claimed", only.claiming(camAES128), nil, true},
	})
	judge(t, accepting(t, ""), []attempt{{"claimed, no DG14", older.claiming(camAES128), nil, true}})
}

// paceInfo is the PACEInfo in a DG14.
func paceInfo(t testing.TB, dg14 []byte) []byte {
	t.Helper()
	infos, err := lds.ParseDG14(dg14)
	if err != nil {
		t.Fatal(err)
	}
	at := slices.IndexFunc(infos.Raw, func(info []byte) bool { return bytes.Contains(info, []byte("\x04\x00\x7F\x00\x07\x02\x02\x04")) })
	if at < 0 {
		t.Fatal("no PACEInfo")
	}
	return infos.Raw[at]
}

// setOf is a data group that holds a SET of one short element.
func setOf(tag byte, element []byte) []byte {
	set := append([]byte{0x31, byte(len(element))}, element...)
	return append([]byte{tag, byte(len(set))}, set...)
}
