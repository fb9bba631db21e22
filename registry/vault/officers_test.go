package vault_test

import (
	"bytes"
	"crypto"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"enrollkiosk/registry/api"
	"enrollkiosk/registry/internal/registrytest"
	"enrollkiosk/registry/receipt"
	"enrollkiosk/registry/record"
	"enrollkiosk/registry/vault"
	"enrollkiosk/simulators/idcard"
)

const annas = `{"issuer": "UTO", "document": "D23145890", "surname": "Eriksson", "given_names": "Anna-Maria", "birth": "1974-08-12"}`

// knows has the World's vault know an officer's document.
func knows(t *testing.T, w *registrytest.World, number, document string) vault.Officers {
	t.Helper()
	o, err := vault.OfficersIn(w.VaultDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(o.Close)
	d, err := vault.ParseOfficerDocument(strings.NewReader(document))
	if err == nil {
		err = o.Add(number, d, time.Now())
	}
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// An officer cannot enroll himself: not with the document that is known, nor a
// renewed one, nor under another name. Another officer can, and a person of the
// same name who was born on another day is another person.
func TestOfficerEnrollsHimself(t *testing.T) {
	w := registrytest.New(t, state(t).CSCA())
	w.Accept(t, acceptsChipless, nil)
	anna := idcard.SpecimenPerson()
	if anna.Surname != "ERIKSSON" || anna.GivenNames != "ANNA MARIA" || anna.Number != "D23145890" {
		t.Fatalf("the specimen is %s", anna.Number)
	}
	v := open(t, w.VaultOptions()) // known while it serves
	officers := knows(t, w, "4711", annas)
	k := w.Kiosk(t, "KIOSK-0001")
	other := w.Officers.Officer(t, "4712", nil)
	spare := w.Officers.Officer(t, "4711", nil) // another card of the same officer
	married, younger := another("D23145890", anna.GivenNames), another("L898902C7", anna.GivenNames)
	married.Surname = "SVENSSON"
	younger.Birth = younger.Birth.AddDate(1, 0, 0)
	chipless := func(p idcard.Person) registrytest.Spec {
		c := card(t, p, idcard.Options{Faults: []idcard.Fault{idcard.NoChipKeys}})
		return registrytest.Spec{Exceptions: noChip, Identity: func(record.Context, crypto.PublicKey) record.Identity {
			return registrytest.Identity(read(t, c, nil))
		}}
	}
	whole := func(p idcard.Person, o *registrytest.Officer) registrytest.Spec {
		return registrytest.Spec{Officer: o, Identity: identityOf(t, card(t, p, idcard.Options{}), nil)}
	}
	second := chipless(another("L898902C9", anna.GivenNames)) // who signs last: the vault must look at both
	second.Officer, second.Supervisor = &other, &w.Officer
	first := chipless(anna)
	for i, c := range []struct {
		name    string
		spec    registrytest.Spec
		refused bool
	}{
		{"own document", whole(anna, nil), true},
		{"own document, another card", whole(anna, &spare), true},
		{"renewed document", whole(another("L898902C9", anna.GivenNames), nil), true},
		{"another name", whole(married, nil), true},
		{"as the first of two", first, true},
		{"as the second of two", second, true},
		{"another born later", whole(younger, nil), false},
		{"by another officer", whole(anna, &other), false},
	} {
		s := k.Make(t, c.spec)
		got := judged(t, w, v, s)
		review, err := v.Review(s.ID())
		if err != nil && !errors.Is(err, vault.ErrNoReview) {
			t.Fatal(err)
		}
		number, refused := review.Officer, review.Refused
		switch {
		case c.refused && (got.Status != receipt.Refused || got.Code != api.CodeOwnEnrollment || number != "4711" || !refused):
			t.Errorf("%d %s: %s %s, review of %q", i, c.name, got.Status, got.Code, number)
		case !c.refused && (got.Status != receipt.Active || number != ""):
			t.Errorf("%d %s: %s %s, review of %q", i, c.name, got.Status, got.Code, number)
		}
	}
	if err := officers.Remove("4711"); err != nil {
		t.Fatal(err)
	}
	if got := judged(t, w, v, k.Make(t, whole(another("L898902C6", "ANNA MARIA"), nil))); got.Status != receipt.Active {
		t.Errorf("forgotten: %+v", got)
	}
	if err := officers.Remove("4711"); !errors.Is(err, vault.ErrUnknownOfficer) {
		t.Errorf("removed twice: %v", err)
	}
}

// What is kept says nothing of the person to anybody else, and one more document
// stands beside the first. What is damaged is no verdict.
func TestOfficersFiles(t *testing.T) {
	w := registrytest.New(t, state(t).CSCA())
	v := open(t, w.VaultOptions())
	knows(t, w, "4711", annas)
	knows(t, w, "4711", annas)
	knows(t, w, "4711", strings.Replace(annas, "Eriksson", "Svensson", 1))
	officers := knows(t, w, "../../1", annas) // as a certificate may have it
	list, err := officers.List()
	if err != nil || len(list) != 2 || list[0].Number != "../../1" || len(list[0].Documents) != 1 || len(list[1].Documents) != 2 {
		t.Fatalf("%+v, %v", list, err)
	}
	if a, b := list[1].Documents[0], list[1].Documents[1]; a.Document != b.Document || a.Person == b.Person {
		t.Error("one document under two names")
	}
	files, err := filepath.Glob(filepath.Join(w.VaultDir(), "officers", "*"))
	if err != nil || len(files) != 2 {
		t.Fatalf("%v, %v", files, err)
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, word := range []string{"ERIKSSON", "ANNA", "D23145890", "1974", "UTO"} {
			if bytes.Contains(bytes.ToUpper(b), []byte(word)) {
				t.Errorf("%s holds %s", file, word)
			}
		}
		if err := os.WriteFile(file, b[:len(b)/2], 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s := w.Kiosk(t, "KIOSK-0001").Make(t, registrytest.Spec{Identity: identityOf(t, card(t, idcard.SpecimenPerson(), idcard.Options{}), nil)})
	if b, err := v.Judge(t.Context(), s.Bytes()); err == nil || b != nil {
		t.Errorf("judged over damage: %s, %v", b, err)
	}
	if _, err := officers.List(); err == nil {
		t.Error("listed over damage")
	}
}

func TestOfficerDocumentMistakes(t *testing.T) {
	for name, text := range map[string]string{
		"nothing":         "",
		"no JSON":         "ERIKSSON",
		"unknown member":  strings.Replace(annas, "birth", "born", 1),
		"two":             annas + annas,
		"no surname":      strings.Replace(annas, "Eriksson", " ", 1),
		"no document":     strings.Replace(annas, "D23145890", "", 1),
		"no issuer":       strings.Replace(annas, "UTO", "", 1),
		"issuer's name":   strings.Replace(annas, "UTO", "Utopia", 1),
		"birth":           strings.Replace(annas, "1974-08-12", "12.8.1974", 1),
		"no such day":     strings.Replace(annas, "1974-08-12", "1974-02-30", 1),
		"kind":            strings.Replace(annas, "{", `{"kind": "library-card", `, 1),
		"letters":         strings.Replace(annas, "Eriksson", "Müller", 1),
		"far too long":    strings.Replace(annas, "Eriksson", strings.Repeat("E", 5000), 1),
		"not the members": `["UTO"]`,
	} {
		_, err := vault.ParseOfficerDocument(strings.NewReader(text))
		if !errors.Is(err, vault.ErrOfficerDocument) {
			t.Errorf("%s: %v", name, err)
		} else if s := strings.ToUpper(err.Error()); strings.Contains(s, "ERIKSSON") || strings.Contains(s, "D2314") {
			t.Errorf("%s: the error names the person: %v", name, err)
		}
	}
	d, err := vault.ParseOfficerDocument(strings.NewReader(annas))
	if err != nil {
		t.Fatal(err)
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s"} {
		if s := strings.ToUpper(fmt.Sprintf(verb, d)); strings.Contains(s, "ERIKSSON") || strings.Contains(s, "D2314") {
			t.Errorf("%s prints the person: %s", verb, s)
		}
	}
}

// FuzzOfficerDocument: whatever is read is taken whole or refused.
func FuzzOfficerDocument(f *testing.F) {
	f.Add([]byte(annas))
	f.Add([]byte(`{"kind":"belgian-eid","issuer":"BEL","document":"592-1","surname":"Specimen","given_names":"Alice","birth":"1971-01-01"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := vault.ParseOfficerDocument(bytes.NewReader(b)); err != nil && !errors.Is(err, vault.ErrOfficerDocument) {
			t.Errorf("untyped: %v", err)
		}
	})
}
