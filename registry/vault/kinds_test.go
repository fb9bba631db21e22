package vault_test

import (
	"bytes"
	"crypto"
	"encoding/binary"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"unicode/utf16"

	"enrollkiosk/kiosk/secret"
	"enrollkiosk/registry/api"
	"enrollkiosk/registry/internal/registrytest"
	"enrollkiosk/registry/receipt"
	"enrollkiosk/registry/record"
	"enrollkiosk/registry/vault"
	"enrollkiosk/simulators/beid"
	"enrollkiosk/simulators/idcard"
	"enrollkiosk/simulators/sam"
	belgium "enrollkiosk/smartcard/beid"
	"enrollkiosk/smartcard/identity"
	"enrollkiosk/smartcard/prcid"
)

// What a policy says of documents.
const (
	acceptsBelgian = `
[[documents]]
kind = "belgian-eid"
may_lack = ["no-chip-proof"]
[[documents.roots]]
file = "belgium17.der"
class = "test"
[[documents.roots]]
file = "belgium18.der"
class = "test"
`
	acceptsResident = `
[[documents]]
kind = "prc-resident"
may_lack = ["no-chip-proof", "no-issuer-signature"]
class = "test"
`
	acceptsChipless = `
[[documents]]
kind = "emrtd"
may_lack = ["no-chip-proof"]
`
)

var (
	noChip   = []record.Exception{record.NoChipProof}
	noIssuer = []record.Exception{record.NoIssuerSignature}
	neither  = []record.Exception{record.NoChipProof, record.NoIssuerSignature}
)

// register plays the Belgian authorities, one for each generation of cards.
var register = map[beid.Generation]func() (*beid.Issuer, error){
	beid.Applet17: sync.OnceValues(func() (*beid.Issuer, error) { return beid.NewIssuer(beid.Applet17) }),
	beid.Applet18: sync.OnceValues(func() (*beid.Issuer, error) { return beid.NewIssuer(beid.Applet18) }),
}

func belgians(t testing.TB, g beid.Generation) *beid.Issuer {
	t.Helper()
	i, err := register[g]()
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// accepting is a World whose policy says more of documents.
func accepting(t testing.TB, documents string) *registrytest.World {
	t.Helper()
	w := registrytest.New(t, state(t).CSCA())
	w.Accept(t, documents, map[string][]byte{
		"belgium17.der": belgians(t, beid.Applet17).Root(), "belgium18.der": belgians(t, beid.Applet18).Root()})
	return w
}

// sealing reads a document for a record; the challenge is what its chip is to sign.
type sealing func(record.Context, crypto.PublicKey) record.Identity

func (s sealing) edited(edit func(*record.Identity)) sealing {
	return func(c record.Context, holder crypto.PublicKey) record.Identity {
		id := s(c, holder)
		edit(&id)
		return id
	}
}

// belgian reads a Belgian card as a kiosk does, though it would not seal what
// does not verify.
func belgian(t testing.TB, g beid.Generation, p beid.Person, faults ...beid.Fault) sealing {
	t.Helper()
	card, err := belgians(t, g).Personalise(beid.Options{Person: p, Faults: faults})
	if err != nil {
		t.Fatal(err)
	}
	return func(c record.Context, holder crypto.PublicKey) record.Identity {
		t.Helper()
		doc, err := belgium.Read(t.Context(), card.Direct(), nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		id := record.Identity{Document: record.BelgianEID, Report: []byte(`{}`), Consents: registrytest.Consents(), Files: map[uint16]secret.Text{}}
		for f, b := range doc.Files {
			if f != belgium.PhotoFile { // stays at the kiosk
				id.Files[uint16(f)] = secret.New(b)
			}
		}
		if doc.Files[belgium.BasicKey] != nil {
			challenge, err := c.ChipChallenge(holder)
			if err != nil {
				t.Fatal(err)
			}
			e, err := belgium.AuthenticateChip(t.Context(), card.Direct(), challenge)
			if err != nil {
				t.Fatal(err)
			}
			id.Active = &record.ActiveEvidence{Challenge: e.Challenge[:], Signature: e.Signature[:]}
		}
		return id
	}
}

// resident reads a card through the police module, once.
func resident(t testing.TB, c sam.Card) sealing {
	t.Helper()
	m, err := sam.Start()
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	m.Place(c)
	module, err := prcid.Open(t.Context(), m.Path(), prcid.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer module.Close()
	if err := module.Find(t.Context()); err != nil {
		t.Fatal(err)
	}
	doc, err := module.Read(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	return func(record.Context, crypto.PublicKey) record.Identity {
		return record.Identity{Document: record.PRCResident, Report: []byte(`{}`), Consents: registrytest.Consents(),
			Files: map[uint16]secret.Text{identity.ResidentText: secret.New(bytes.Clone(doc.Text.Reveal()))}}
	}
}

// attempt is a record about a document, and what becomes of it.
type attempt struct {
	name     string
	document sealing
	lacks    []record.Exception // what the record says
	accepted bool
}

// judge gives each attempt a record of its own under w's policy.
func judge(t *testing.T, w *registrytest.World, attempts []attempt) {
	t.Helper()
	v := open(t, w.VaultOptions())
	k := w.Kiosk(t, "KIOSK-0001")
	for _, a := range attempts {
		t.Run(a.name, func(t *testing.T) {
			s := k.Make(t, registrytest.Spec{Identity: a.document, Exceptions: a.lacks})
			want, code := receipt.Active, ""
			if !a.accepted {
				want, code = receipt.Refused, api.CodeDocument
			}
			if got := judged(t, w, v, s); got.Status != want || got.Code != code {
				t.Errorf("%s %s, want %s %s", got.Status, got.Code, want, code)
			}
		})
	}
}

func file(id *record.Identity, f belgium.File) []byte { return id.Files[uint16(f)].Reveal() }

func TestBelgianCards(t *testing.T) {
	older, newer := belgian(t, beid.Applet17, beid.Specimen()), belgian(t, beid.Applet18, beid.Specimen())
	other := beid.OtherSpecimen()
	foreign := belgian(t, beid.Applet18, other)
	faulty := func(f beid.Fault) sealing { return belgian(t, beid.Applet18, beid.Specimen(), f) }
	// With the card enrolled each attempt would be refused for that: all come before.
	judge(t, accepting(t, acceptsBelgian+acceptsResident+acceptsChipless), []attempt{
		{"older: hides what it lacks", older, nil, false},
		{"older: lacks more than that", older, neither, false},
		{"older: lacks something else", older, noIssuer, false},
		{"older: the kiosk's word for the chip", older.edited(func(id *record.Identity) {
			id.Chip = &record.ChipClaim{Protocol: "0.4.0.127.0.7.2.2.3.2.2", Passed: true}
		}), nil, false},
		{"older: another chip's evidence", older.edited(func(id *record.Identity) { id.Active = elsewhere(t, newer).Active }), nil, false},
		{"claims a lack that it does not have", newer, noChip, false},
		{"chip not asked", newer.edited(func(id *record.Identity) { id.Active = nil }), nil, false},
		{"chip not asked, said to lack its proof", newer.edited(func(id *record.Identity) { id.Active = nil }), noChip, false},
		{"chip's key left out", newer.edited(func(id *record.Identity) {
			id.Active = nil
			delete(id.Files, uint16(belgium.BasicKey))
		}), noChip, false},
		{"chip's answer for another record", newer.edited(func(id *record.Identity) { id.Active = elsewhere(t, newer).Active }), nil, false},
		{"chip's answer cut", newer.edited(func(id *record.Identity) { id.Active.Signature = id.Active.Signature[1:] }), nil, false},
		{"chip's answer altered", newer.edited(func(id *record.Identity) { id.Active.Signature[0] ^= 1 }), nil, false},
		{"clone", faulty(beid.Clone), nil, false},
		{"clone, said to lack its proof", faulty(beid.Clone), noChip, false},
		{"address of another citizen", faulty(beid.ForeignAddress), nil, false},
		{"address file of another card", newer.edited(func(id *record.Identity) {
			id.Files[uint16(belgium.AddressFile)] = elsewhere(t, foreign).Files[uint16(belgium.AddressFile)]
		}), nil, false},
		{"no address", newer.edited(func(id *record.Identity) { delete(id.Files, uint16(belgium.AddressFile)) }), nil, false},
		{"name changed", faulty(beid.AlteredIdentity), nil, false},
		{"signature changed", newer.edited(func(id *record.Identity) { file(id, belgium.IdentitySignature)[10] ^= 1 }), nil, false},
		{"unknown root", faulty(beid.SelfMadeSigner), nil, false},
		{"a citizen's own signature", faulty(beid.CitizenSigner), nil, false},
		{"expired", faulty(beid.Expired), nil, false},
		{"another citizen's photo", newer.edited(func(id *record.Identity) {
			id.Files[uint16(belgium.PhotoFile)] = secret.FromString("a photo of somebody")
		}), nil, false},
		{"under the rule for resident cards", newer.edited(func(id *record.Identity) { id.Document = record.PRCResident }), neither, false},
		{"resident's words under its rule", resident(t, sam.Resident(sam.Specimen())).edited(func(id *record.Identity) { id.Document = record.BelgianEID }), neither, false},
		{"eMRTD under its rule", passport(t, card(t, idcard.SpecimenPerson(), idcard.Options{})).edited(func(id *record.Identity) { id.Document = record.BelgianEID }), nil, false},
		{"older", older, noChip, true},
		{"newer", foreign, nil, true},
	})
	for name, policy := range map[string]string{
		"no rule for it":               acceptsResident + acceptsChipless,
		"a rule that allows less":      "[[documents]]\nkind = \"belgian-eid\"\n[[documents.roots]]\nfile = \"belgium17.der\"\nclass = \"test\"\n",
		"a rule without that root":     "[[documents]]\nkind = \"belgian-eid\"\nmay_lack = [\"no-chip-proof\"]\n[[documents.roots]]\nfile = \"belgium18.der\"\nclass = \"test\"\n",
		"the lack for other documents": "[[documents]]\nkind = \"belgian-eid\"\n[[documents.roots]]\nfile = \"belgium17.der\"\nclass = \"test\"\n" + acceptsChipless,
	} {
		t.Run(name, func(t *testing.T) {
			judge(t, accepting(t, policy), []attempt{{"older", older, noChip, false}})
		})
	}
}

// elsewhere is what is sealed of a document in a record that never was.
func elsewhere(t testing.TB, s sealing) record.Identity {
	t.Helper()
	return s(record.Context{Version: record.Version, Audience: registrytest.Origin, Purpose: record.Enroll, KioskID: "KIOSK-0001", Sequence: 1,
		Nonce: [32]byte{1}, PolicyDigest: [32]byte{1}, AuthorityKeyID: "1"}, registrytest.NewDevice(t).Public())
}

// text alters a field of a resident card's text by one code unit.
func text(s sealing, at int, b byte) sealing {
	return s.edited(func(id *record.Identity) { id.Files[identity.ResidentText].Reveal()[at] = b })
}

func TestResidentCards(t *testing.T) {
	good := resident(t, sam.Resident(sam.Specimen()))
	with := func(edit func(*sam.Person)) sealing {
		p := sam.Specimen()
		edit(&p)
		return resident(t, sam.Resident(p))
	}
	sized := func(n int) sealing {
		return good.edited(func(id *record.Identity) {
			id.Files[identity.ResidentText] = secret.New(append(bytes.Clone(id.Files[identity.ResidentText].Reveal()), 0)[:n])
		})
	}
	judge(t, accepting(t, acceptsBelgian+acceptsResident+acceptsChipless), []attempt{
		{"hides what it lacks", good, nil, false},
		{"hides that nobody signed it", good, noChip, false},
		{"hides that the chip proved nothing", good, noIssuer, false},
		{"the kiosk's word for the chip", good.edited(func(id *record.Identity) {
			id.Chip = &record.ChipClaim{Protocol: "0.4.0.127.0.7.2.2.3.2.2", Passed: true}
		}), noIssuer, false},
		{"number altered", text(good, 122+2*16, '7'), neither, false},
		{"check digit altered", text(good, 122+2*17, 'Y'), neither, false},
		{"number taken away", text(good, 122, ' '), neither, false},
		{"another's birth", text(good, 36+2*7, '3'), neither, false},
		{"other sex", text(good, 30, '1'), neither, false},
		{"name no text", text(good, 1, 0xD8), neither, false},
		{"a byte short", sized(255), neither, false},
		{"a byte more", sized(257), neither, false},
		{"no text", good.edited(func(id *record.Identity) {
			id.Files[identity.ResidentPhoto] = id.Files[identity.ResidentText]
			delete(id.Files, identity.ResidentText)
		}), neither, false},
		{"expired", with(func(p *sam.Person) { p.Until = "20210101" }), neither, false},
		{"under the rule for eMRTDs", good.edited(func(id *record.Identity) {
			id.Document = record.EMRTD
			id.Files[0x0101], id.Files[0x011D] = id.Files[identity.ResidentText], id.Files[identity.ResidentText]
		}), neither, false},
		{"eMRTD under its rule", passport(t, card(t, idcard.SpecimenPerson(), idcard.Options{})).edited(func(id *record.Identity) { id.Document = record.PRCResident }), neither, false},
		{"in order", good, neither, true},
		{"without a last day", with(func(p *sam.Person) { p.Until, p.Birth = "长期", "19500101" }), neither, true},
		{"unknown ethnic group", with(func(p *sam.Person) { p.EthnicGroup, p.Birth = "88", "19600101" }), neither, true},
	})
	for name, policy := range map[string]string{
		"no rule for it":             acceptsBelgian + acceptsChipless,
		"a rule that allows nothing": "[[documents]]\nkind = \"prc-resident\"\nclass = \"test\"\n",
		"a rule that allows half":    "[[documents]]\nkind = \"prc-resident\"\nmay_lack = [\"no-chip-proof\"]\nclass = \"test\"\n",
	} {
		t.Run(name, func(t *testing.T) {
			judge(t, accepting(t, policy), []attempt{{"in order", good, neither, false}, {"said to lack nothing", good, nil, false}})
		})
	}
}

// A production vault takes no kind of document that rests on a root of class
// test, nor a kind of that class.
func TestProductionRefusesSimulatedKinds(t *testing.T) {
	all := acceptsBelgian + acceptsResident + acceptsChipless
	for _, c := range []struct {
		name      string
		simulated string
		document  sealing
		lacks     []record.Exception
	}{
		{"older Belgian", registrytest.Issuers, belgian(t, beid.Applet17, beid.Specimen()), noChip},
		{"newer Belgian", registrytest.Issuers, belgian(t, beid.Applet18, beid.Specimen()), nil},
		{"resident", registrytest.Documents, resident(t, sam.Resident(sam.Specimen())), neither},
		{"eMRTD without keys", registrytest.Anchors, passport(t, card(t, idcard.SpecimenPerson(), idcard.Options{Faults: []idcard.Fault{idcard.NoChipKeys}})), noChip},
	} {
		for _, simulated := range []string{c.simulated, ""} {
			t.Run(c.name+", simulated "+simulated, func(t *testing.T) {
				w := accepting(t, all)
				w.Production(t, simulated)
				o := w.VaultOptions()
				o.Production = true
				s := w.Kiosk(t, "KIOSK-0001").Make(t, registrytest.Spec{Identity: c.document, Exceptions: c.lacks})
				want := api.CodeSimulated
				if simulated == "" {
					want = ""
				}
				if got := judged(t, w, open(t, o), s); got.Code != want {
					t.Errorf("%s, want %q", got.Code, want)
				}
			})
		}
	}
}

// Whatever the kind, a document has one DID. A number is a kind's own: what
// another kind has under the same number is another document.
func TestSameDocumentOfAnyKind(t *testing.T) {
	w := accepting(t, acceptsBelgian+acceptsResident+acceptsChipless)
	v := open(t, w.VaultOptions())
	k := w.Kiosk(t, "KIOSK-0001")
	citizen := beid.Specimen()
	moved := citizen
	moved.Street, moved.Surname = "Elders 1", "Andersnaam"
	person := sam.Specimen()
	moreover := person
	moreover.Name, moreover.Address = "样本乙", "样本省另市1号"
	number := prcNumber(t, person)
	like := func(issuer, number string) sealing {
		p := another(number, "EVA")
		p.Issuer = issuer
		return passport(t, card(t, p, idcard.Options{}))
	}
	for _, step := range []struct {
		name     string
		document sealing
		lacks    []record.Exception
		code     string
	}{
		{"Belgian", belgian(t, beid.Applet18, citizen), nil, ""},
		{"resident", resident(t, sam.Resident(person)), neither, ""},
		{"Belgian again", belgian(t, beid.Applet18, citizen), nil, api.CodeReview},
		{"Belgian again, by an older card", belgian(t, beid.Applet17, citizen), noChip, api.CodeReview},
		{"Belgian again, another name", belgian(t, beid.Applet18, moved), nil, api.CodeReview},
		{"resident again", resident(t, sam.Resident(person)), neither, api.CodeReview},
		{"resident again, another name", resident(t, sam.Resident(moreover)), neither, api.CodeReview},
		{"another Belgian", belgian(t, beid.Applet18, beid.OtherSpecimen()), nil, ""},
		{"passport with the Belgian's number", like("BEL", citizen.CardNumber), nil, ""},
		{"passport with the resident's number", like("CHN", number), nil, ""},
		{"passport again", like("BEL", citizen.CardNumber), nil, api.CodeReview},
	} {
		s := k.Make(t, registrytest.Spec{Identity: step.document, Exceptions: step.lacks})
		if got := judged(t, w, v, s); got.Code != step.code {
			t.Errorf("%s: %q, want %q", step.name, got.Code, step.code)
		}
		if other, refused := vault.ReviewOf(t, v, s.ID()); refused != (step.code != "") {
			t.Errorf("%s: review of %q, refused %v", step.name, other, refused)
		}
	}
}

// Nothing that was opened of any kind, or that a kiosk wrote into it, is found on
// disk or in the log.
func TestNothingPersonalStaysOfAnyKind(t *testing.T) {
	w := accepting(t, acceptsBelgian+acceptsResident+acceptsChipless)
	var logged bytes.Buffer
	o := w.VaultOptions()
	o.Log = slog.New(slog.NewTextHandler(&logged, &slog.HandlerOptions{Level: slog.LevelDebug}))
	v := open(t, o)
	k := w.Kiosk(t, "KIOSK-0001")
	citizen, person := beid.Specimen(), sam.Specimen()
	const smuggled = "WRITTEN BY A KIOSK"
	card18, words := belgian(t, beid.Applet18, citizen), resident(t, sam.Resident(person))
	keys := passport(t, keyless(t, card(t, idcard.SpecimenPerson(), idcard.Options{}).File(0x010E)))
	for _, a := range []attempt{
		{"", card18, nil, true}, {"", card18, nil, false}, {"", card18, noChip, false},
		{"", card18.edited(func(id *record.Identity) { file(id, belgium.IdentityFile)[20] ^= 1 }), nil, false},
		{"", words, neither, true}, {"", words, neither, false}, {"", text(words, 122+2*16, '7'), neither, false}, {"", text(words, 36, 'X'), neither, false},
		{"", keys.claiming(smuggled), nil, false}, {"", keys.edited(func(id *record.Identity) { id.Document, id.Access = record.PRCResident, smuggled }), neither, false},
	} {
		if got := judged(t, w, v, k.Make(t, registrytest.Spec{Identity: a.document, Exceptions: a.lacks})); (got.Status == receipt.Active) != a.accepted {
			t.Errorf("%+v", got)
		}
	}
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	kept, err := os.ReadFile(filepath.Join(w.VaultDir(), "vault.db"))
	if err != nil {
		t.Fatal(err)
	}
	seen := logged.String() + string(kept)
	wide := func(s string) string { // as the card has it: UTF-16, little endian
		var b []byte
		for _, unit := range utf16.Encode([]rune(s)) {
			b = binary.LittleEndian.AppendUint16(b, unit)
		}
		return string(b)
	}
	for _, canary := range []string{smuggled, citizen.Surname, citizen.FirstNames, citizen.CardNumber, citizen.NationalNumber, citizen.Street,
		person.Name, wide(person.Name), person.Address, person.Birth, wide(person.Birth), prcNumber(t, person), wide(prcNumber(t, person))} {
		if strings.Contains(seen, canary) {
			t.Errorf("found %q", canary)
		}
	}
	if !strings.Contains(seen, api.CodeReview) || strings.Count(logged.String(), "identity refused") < 6 {
		t.Error("the control is not there either: this test looks in the wrong place")
	}
}

// prcNumber is the number on a person's card.
func prcNumber(t testing.TB, p sam.Person) string {
	t.Helper()
	c := sam.Resident(p)
	doc, err := prcid.Parse(slices.Clone(c.Text[:]))
	if err != nil {
		t.Fatal(err)
	}
	return string(doc.Number.Reveal())
}
