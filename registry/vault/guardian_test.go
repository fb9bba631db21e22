package vault_test

import (
	"bytes"
	"crypto"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"enrollkiosk/kiosk/secret"
	"enrollkiosk/registry/api"
	"enrollkiosk/registry/internal/registrytest"
	"enrollkiosk/registry/receipt"
	"enrollkiosk/registry/record"
	"enrollkiosk/registry/vault"
	"enrollkiosk/simulators/beid"
	"enrollkiosk/simulators/idcard"
	"enrollkiosk/simulators/sam"
	"enrollkiosk/smartcard/lds"
)

// asksAges is what a policy says of children.
const asksAges = `
[minors]
guardian_below = 14
`

// aged is a person of an age today.
func aged(number, given string, years int) idcard.Person {
	p := another(number, given)
	now := time.Now().UTC()
	p.Birth = time.Date(now.Year()-years, now.Month(), now.Day(), 0, 0, 0, 0, time.UTC)
	return p
}

// guardianOf is what a kiosk seals of a guardian: the document's chip signs for this
// child, this record and this key.
func guardianOf(t testing.TB, c *idcard.Chip) func(record.Context, crypto.PublicKey, record.Identity) *record.Guardian {
	return func(rc record.Context, holder crypto.PublicKey, child record.Identity) *record.Guardian {
		t.Helper()
		challenge, err := rc.GuardianChallenge(holder, child.Files)
		if err != nil {
			t.Fatal(err)
		}
		short := [8]byte(challenge[:8])
		id := registrytest.Identity(read(t, c, &short))
		return &record.Guardian{Document: id.Document, Files: id.Files, Access: id.Access, Active: id.Active, Report: id.Report,
			Shown: record.BirthCertificate, Checks: []record.Check{{Code: "face-matches", Passed: true}, {Code: "guardian-declared", Passed: true}}}
	}
}

// under is a child's document with a guardian; edit, if not nil, alters what is sealed.
func (s sealing) under(g func(record.Context, crypto.PublicKey, record.Identity) *record.Guardian, edit func(*record.Identity)) sealing {
	return func(c record.Context, holder crypto.PublicKey) record.Identity {
		id := s(c, holder)
		id.Guardian = g(c, holder, id)
		if edit != nil {
			edit(&id)
		}
		return id
	}
}

// plainly reads an eMRTD anew for each record.
func plainly(t testing.TB, c *idcard.Chip) sealing { return identityOf(t, c, nil) }

// agesAsked is a World whose policy asks ages.
func agesAsked(t testing.TB, more string) *registrytest.World {
	t.Helper()
	return accepting(t, asksAges+acceptsBelgian+acceptsResident+more)
}

// acceptsAgeless takes an eMRTD that does not show its holder's age.
const acceptsAgeless = `
[[documents]]
kind = "emrtd"
may_lack = ["no-age"]
`

// Everything that a kiosk could have done to a child's guardian, or a guardian to a
// child.
func TestGuardianRefusals(t *testing.T) {
	w := agesAsked(t, "")
	v := open(t, w.VaultOptions())
	k := w.Kiosk(t, "KIOSK-0001")
	child, sibling := card(t, aged("C00000001", "KIM", 13), idcard.Options{}), card(t, aged("C00000002", "LEE", 9), idcard.Options{})
	parent, stranger := card(t, aged("G00000001", "ANNA", 40), idcard.Options{}), card(t, aged("G00000002", "EVA", 41), idcard.Options{})
	youth, adult := card(t, aged("Y00000001", "MAX", 17), idcard.Options{}), card(t, dayOlder(aged("A00000001", "ZOE", 14)), idcard.Options{})
	faulty := func(f idcard.Fault) *idcard.Chip {
		return card(t, aged("G00000001", "ANNA", 40), idcard.Options{Faults: []idcard.Fault{f}})
	}

	of := func(c *idcard.Chip) sealing { return plainly(t, c) }
	good := func(edit func(*record.Identity)) sealing { return of(child).under(guardianOf(t, parent), edit) }
	var elsewhere, ofSibling *record.Guardian
	k.Make(t, registrytest.Spec{Identity: good(func(id *record.Identity) { elsewhere = id.Guardian })})
	k.Make(t, registrytest.Spec{Identity: of(sibling).under(guardianOf(t, parent), func(id *record.Identity) { ofSibling = id.Guardian })})

	for _, c := range []struct {
		name string
		id   sealing
		code string
	}{
		{"no guardian", of(child), api.CodeGuardian},
		{"guardian stripped", good(func(id *record.Identity) { id.Guardian = nil }), api.CodeGuardian},
		{"guardian from another record of the child", good(func(id *record.Identity) { id.Guardian = elsewhere }), api.CodeGuardian},
		{"guardian from a sibling's record", good(func(id *record.Identity) { id.Guardian = ofSibling }), api.CodeGuardian},
		{"guardian's evidence from another record", good(func(id *record.Identity) { id.Guardian.Active = elsewhere.Active }), api.CodeGuardian},
		{"the child's own evidence", good(func(id *record.Identity) { id.Guardian.Active = id.Active }), api.CodeGuardian},
		{"the guardian's evidence as the child's", good(func(id *record.Identity) { id.Active = id.Guardian.Active }), api.CodeDocument},
		{"guardian's chip not asked", good(func(id *record.Identity) { id.Guardian.Active = nil }), api.CodeGuardian},
		{"guardian's chip not asked, kiosk's word", good(func(id *record.Identity) {
			id.Guardian.Active, id.Guardian.Chip = nil, &record.ChipClaim{Protocol: ecdhAES128, Passed: true}
		}), api.CodeGuardian},
		{"child's chip not asked", good(func(id *record.Identity) { id.Active = nil }), api.CodeDocument},
		{"another guardian's answer", good(func(id *record.Identity) {
			c := [8]byte(id.Guardian.Active.Challenge)
			id.Guardian.Active.Signature = read(t, stranger, &c).Active.Signature
		}), api.CodeGuardian},
		{"another child under the guardian", good(func(id *record.Identity) {
			g := id.Guardian
			*id = of(sibling)(record.Context{}, registrytest.NewDevice(t).Public())
			id.Guardian = g
		}), api.CodeDocument},
		{"expired", of(child).under(guardianOf(t, faulty(idcard.Expired)), nil), api.CodeGuardian},
		{"unknown state", of(child).under(guardianOf(t, faulty(idcard.UnknownCSCA)), nil), api.CodeGuardian},
		{"changed name", of(child).under(guardianOf(t, faulty(idcard.TamperedDG1)), nil), api.CodeGuardian},
		{"days too young", of(child).under(guardianOf(t, card(t, daysYounger(aged("G00000003", "TIM", 18)), idcard.Options{})), nil), api.CodeGuardian},
		{"a youth", of(child).under(guardianOf(t, youth), nil), api.CodeGuardian},
		{"the child", of(child).under(guardianOf(t, child), nil), api.CodeGuardian},
		{"a document of the child's number", of(child).under(guardianOf(t, card(t, aged("C00000001", "ANNA", 40), idcard.Options{})), nil), api.CodeGuardian},
		{"DG1 of another", good(func(id *record.Identity) {
			id.Guardian.Files[uint16(lds.DG1)] = secret.New(stranger.File(uint16(lds.DG1)))
		}), api.CodeGuardian},
		{"EF.SOD of another", good(func(id *record.Identity) {
			id.Guardian.Files[uint16(lds.EFSOD)] = secret.New(stranger.File(uint16(lds.EFSOD)))
		}), api.CodeGuardian},
		{"all files of another", good(func(id *record.Identity) { id.Guardian.Files = registrytest.Identity(read(t, stranger, nil)).Files }), api.CodeGuardian},
		{"DG15 left out", good(func(id *record.Identity) { delete(id.Guardian.Files, uint16(lds.DG15)); id.Guardian.Active = nil }), api.CodeGuardian},
		{"a file that nobody signed", good(func(id *record.Identity) { id.Guardian.Files[0x010B] = secret.FromString("\x6B\x00") }), api.CodeGuardian},
		{"a kind of document that is not accepted", good(func(id *record.Identity) { id.Guardian.Document = record.PRCResident }), api.CodeGuardian},
		{"for who needs none", of(adult).under(guardianOf(t, parent), nil), api.CodeGuardian},
		{"child's name changed", good(func(id *record.Identity) { b := id.Files[uint16(lds.DG1)].Reveal(); b[len(b)-1] ^= 1 }), api.CodeDocument},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := k.Make(t, registrytest.Spec{Identity: c.id})
			if got := judged(t, w, v, s); got.Status != receipt.Refused || got.Code != c.code {
				t.Errorf("%s %s, want %s", got.Status, got.Code, c.code)
			}
		})
	}
	// None of them has taken anybody's document: a guardian stands for several children,
	// and enrolls.
	active := func(name string, id sealing) {
		t.Helper()
		if got := judged(t, w, v, k.Make(t, registrytest.Spec{Identity: id})); got.Status != receipt.Active {
			t.Errorf("%s: %s %s", name, got.Status, got.Code)
		}
	}
	active("guardian", of(parent))
	active("child", good(nil))
	active("sibling", of(sibling).under(guardianOf(t, parent), nil))
	active("14 years and a day", of(adult))
	active("youth", of(youth))
}

// Tests may run at midnight.
func daysYounger(p idcard.Person) idcard.Person {
	p.Birth = p.Birth.AddDate(0, 0, 2)
	return p
}

func dayOlder(p idcard.Person) idcard.Person {
	p.Birth = p.Birth.AddDate(0, 0, -1)
	return p
}

// Who becomes old enough while sitting at the kiosk may have begun with a guardian,
// and needs none any more.
func TestGuardianAtMidnight(t *testing.T) {
	w := agesAsked(t, "")
	v := open(t, w.VaultOptions())
	holder := registrytest.NewDevice(t)
	child := plainly(t, card(t, aged("C00000001", "KIM", 13), idcard.Options{}))
	var guarded, alone record.Identity
	payload := w.Kiosk(t, "KIOSK-0001").Make(t, registrytest.Spec{Holder: &holder, Identity: child.under(guardianOf(t, card(t, aged("G00000001", "ANNA", 40), idcard.Options{})),
		func(id *record.Identity) { guarded, alone = *id, *id })}).Record().Payload()
	alone.Guardian = nil
	birthday := aged("", "", 13).Birth.AddDate(14, 0, 0)
	for _, c := range []struct {
		at             time.Time
		guarded, alone bool
	}{
		{birthday.Add(-time.Second), true, false},
		{birthday, true, true},
		{birthday.Add(59 * time.Minute), true, true},
		{birthday.Add(time.Hour), false, true},
	} {
		for id, want := range map[*record.Identity]bool{&guarded: c.guarded, &alone: c.alone} {
			if _, _, err := vault.Known(v, payload, *id, c.at); (err == nil) != want {
				t.Errorf("%v, with a guardian %v: %v", c.at, id.Guardian != nil, err)
			}
		}
	}
}

// No byte of the guardian's evidence can be another one.
func TestGuardianBytes(t *testing.T) {
	w := agesAsked(t, "")
	v := open(t, w.VaultOptions())
	holder := registrytest.NewDevice(t)
	child, parent := plainly(t, card(t, aged("C00000001", "KIM", 13), idcard.Options{})), card(t, aged("G00000001", "ANNA", 40), idcard.Options{})
	var whole record.Identity
	payload := w.Kiosk(t, "KIOSK-0001").Make(t, registrytest.Spec{Holder: &holder, Identity: child.under(guardianOf(t, parent), func(id *record.Identity) { whole = *id })}).Record().Payload()
	if _, _, err := vault.Known(v, payload, whole, time.Now()); err != nil {
		t.Fatalf("as it was sealed: %v", err)
	}
	parts := map[string][]byte{"challenge": whole.Guardian.Active.Challenge, "signature": whole.Guardian.Active.Signature}
	for f, content := range whole.Guardian.Files {
		parts[fmt.Sprintf("file %04X", f)] = content.Reveal()
	}
	flipped := 0
	for name, b := range parts {
		for at := 0; at < len(b); at += max(1, len(b)/24) {
			b[at] ^= 1 << (at % 8)
			flipped++
			if _, _, err := vault.Known(v, payload, whole, time.Now()); err == nil {
				t.Errorf("%s: byte %d can be another one", name, at)
			}
			b[at] ^= 1 << (at % 8)
		}
	}
	if _, _, err := vault.Known(v, payload, whole, time.Now()); err != nil || flipped < 100 {
		t.Errorf("put back, after %d: %v", flipped, err)
	}
}

// A policy from before there were guardians asks nobody's age, and has no use for one.
func TestGuardianUnderAnOldPolicy(t *testing.T) {
	judgeWith(t, accepting(t, ""), api.CodeGuardian, []attempt{
		{"with a guardian", plainly(t, card(t, aged("C00000001", "KIM", 13), idcard.Options{})).under(guardianOf(t, card(t, aged("G00000001", "ANNA", 40), idcard.Options{})), nil), nil, false},
		{"a child alone", plainly(t, card(t, aged("C00000001", "KIM", 13), idcard.Options{})), nil, true},
	})
}

// How guardianship was shown must be a way that the policy has.
func TestGuardianProofs(t *testing.T) {
	w := accepting(t, "\n[minors]\nguardian_below = 14\nguardian_from = 21\nproofs = [\"court-order\", \"other\"]\n")
	child := plainly(t, card(t, aged("C00000001", "KIM", 13), idcard.Options{}))
	shown := func(age int, s record.Guardianship, note string) sealing {
		return child.under(guardianOf(t, card(t, aged("G00000001", "ANNA", age), idcard.Options{})), func(id *record.Identity) {
			id.Guardian.Shown, id.Guardian.Note = s, secret.FromString(note)
		})
	}
	judgeWith(t, w, api.CodeGuardian, []attempt{
		{"not accepted", shown(40, record.BirthCertificate, ""), nil, false},
		{"guardian of 20", shown(20, record.CourtOrder, ""), nil, false},
		{"accepted", shown(21, record.OtherProof, "adoption 12/2026"), nil, true},
	})
}

// judgeWith is judge where the reason is another one than the document.
func judgeWith(t *testing.T, w *registrytest.World, code string, attempts []attempt) {
	t.Helper()
	v := open(t, w.VaultOptions())
	k := w.Kiosk(t, "KIOSK-0001")
	for _, a := range attempts {
		t.Run(a.name, func(t *testing.T) {
			want, why := receipt.Active, ""
			if !a.accepted {
				want, why = receipt.Refused, code
			}
			if got := judged(t, w, v, k.Make(t, registrytest.Spec{Identity: a.document, Exceptions: a.lacks})); got.Status != want || got.Code != why {
				t.Errorf("%s %s, want %s %s", got.Status, got.Code, want, why)
			}
		})
	}
}

// What either document lacks the record says, and a second officer signs for.
func TestGuardianLacks(t *testing.T) {
	weak := func(s sealing) func(record.Context, crypto.PublicKey, record.Identity) *record.Guardian {
		return func(c record.Context, holder crypto.PublicKey, _ record.Identity) *record.Guardian {
			id := s(c, holder)
			return &record.Guardian{Document: id.Document, Files: id.Files, Access: id.Access, Active: id.Active, Report: id.Report, Shown: record.FamilyRegister}
		}
	}
	child := plainly(t, card(t, aged("C00000001", "KIM", 13), idcard.Options{}))
	old := weak(resident(t, sam.Resident(sam.Specimen())))
	judge(t, agesAsked(t, ""), []attempt{
		{"hidden", child.under(old, nil), nil, false},
		{"half of it", child.under(old, nil), noChip, false},
		{"said", child.under(old, nil), neither, true},
	})
	judge(t, agesAsked(t, ""), []attempt{{"Belgian", child.under(weak(belgian(t, beid.Applet17, beid.Specimen())), nil), noChip, true}})
	judgeWith(t, accepting(t, asksAges), api.CodeGuardian, []attempt{{"a kind without a rule", child.under(old, nil), neither, false}})
}

// Who may have been born a hundred years earlier, or on an unknown day, is not taken
// for a child where two officers say so and the policy lets them.
func TestAgeNotShown(t *testing.T) {
	ageOnly := []record.Exception{record.NoAge}
	ancient := plainly(t, card(t, aged("O00000001", "OLGA", 3), idcard.Options{})) // or 103
	unknown := another("O00000002", "IDA")
	unknown.BirthField = "<<<<<<"
	of := plainly(t, card(t, unknown, idcard.Options{}))
	parent := guardianOf(t, card(t, aged("G00000001", "ANNA", 40), idcard.Options{}))
	judgeWith(t, agesAsked(t, acceptsAgeless), api.CodeGuardian, []attempt{
		{"an unknown year, nobody says more", of, nil, false},
		{"a century, nobody says more", ancient, nil, false},
	})
	judge(t, agesAsked(t, acceptsAgeless), []attempt{
		{"said, and a guardian beside", ancient.under(parent, nil), ageOnly, false},
		{"said of who is old enough", plainly(t, card(t, dayOlder(aged("A00000001", "ZOE", 14)), idcard.Options{})), ageOnly, false},
		{"a century, said", ancient, ageOnly, true},
		{"an unknown year, said", of, ageOnly, true},
	})
	minor := sam.Specimen()
	minor.Birth = time.Now().AddDate(-13, 0, 0).Format("20060102")
	judgeWith(t, accepting(t, asksAges+"\n[[documents]]\nkind = \"prc-resident\"\nmay_lack = [\"no-age\", \"no-chip-proof\", \"no-issuer-signature\"]\nclass = \"test\"\n"), api.CodeGuardian, []attempt{
		{"the document shows the year", resident(t, sam.Resident(minor)), append(ageOnly, neither...), false},
	})
	judgeWith(t, agesAsked(t, ""), api.CodeGuardian, []attempt{{"the policy wants an age", ancient, ageOnly, false}})
}

// An officer who is the guardian signs for nobody's guardianship but through another
// officer; a review says so, and of others that a guardian stands beside the holder.
// No listing has more.
func TestGuardianReviews(t *testing.T) {
	w := agesAsked(t, "")
	var out bytes.Buffer
	o := w.VaultOptions()
	o.Log = slog.New(slog.NewTextHandler(&out, nil))
	v := open(t, o)
	k := w.Kiosk(t, "KIOSK-0001")
	parent := card(t, aged("G00000001", "ANNA", 40), idcard.Options{})
	child := plainly(t, card(t, aged("C00000001", "KIM", 13), idcard.Options{}))
	s := k.Make(t, registrytest.Spec{Identity: child.under(guardianOf(t, parent), nil)})
	number := s.Record().Signatures()[1].Chain[0].Subject.SerialNumber
	knows(t, w, number, fmt.Sprintf(`{"issuer": "UTO", "document": "G00000001", "surname": "Eriksson", "given_names": "Anna", "birth": %q}`,
		aged("", "", 40).Birth.Format(time.DateOnly)))
	if got := judged(t, w, v, s); got.Code != api.CodeOwnEnrollment {
		t.Errorf("an officer who is the guardian: %s %s", got.Status, got.Code)
	}
	if r, err := v.Review(s.ID()); err != nil || r.Officer != number {
		t.Errorf("review %+v, %v", r, err)
	}
	twin := plainly(t, card(t, aged("C00000002", "KIM", 13), idcard.Options{}))
	other := guardianOf(t, card(t, aged("G00000002", "EVA", 41), idcard.Options{}))
	for _, id := range []sealing{child.under(other, nil), twin.under(other, nil)} {
		s = k.Make(t, registrytest.Spec{Identity: id})
		if got := judged(t, w, v, s); got.Status != receipt.Active {
			t.Fatalf("%s %s", got.Status, got.Code)
		}
	}
	r, err := v.Review(s.ID())
	if err != nil || !r.Guardian || r.Refused {
		t.Errorf("review of a namesake: %+v, %v", r, err)
	}
	for _, personal := range []string{"ERIKSSON", "EVA", "KIM", "G00000002", "C00000002"} {
		if bytes.Contains(out.Bytes(), []byte(personal)) || bytes.Contains(fmt.Append(nil, r), []byte(personal)) {
			t.Errorf("%s is listed or logged", personal)
		}
	}
}
