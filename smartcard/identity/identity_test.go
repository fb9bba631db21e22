package identity_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"enrollkiosk/kiosk/secret"
	"enrollkiosk/simulators/sam"
	"enrollkiosk/smartcard/beid"
	"enrollkiosk/smartcard/identity"
	"enrollkiosk/smartcard/prcid"
	"enrollkiosk/smartcard/trust"
)

// Nothing but a verifier's own result becomes a Holder.
func TestForged(t *testing.T) {
	if _, err := identity.OfEMRTD(trust.Holder{}); !errors.Is(err, identity.ErrNotVerified) {
		t.Errorf("zero eMRTD: %v", err)
	}
	if _, err := identity.OfBelgian(beid.Holder{}); !errors.Is(err, identity.ErrNotVerified) {
		t.Errorf("zero Belgian card: %v", err)
	}
	if _, err := identity.OfResident(resident(t), time.Now(), identity.Unsigned{}); !errors.Is(err, identity.ErrUnsigned) {
		t.Errorf("unsigned data that nobody accepts: %v", err)
	}
	if _, err := identity.OfResident(prcid.Document{}, time.Now(), identity.Unsigned{Accept: true}); !errors.Is(err, identity.ErrIncomplete) {
		t.Errorf("nobody: %v", err)
	}
	var zero identity.Holder
	if zero.Valid() || !zero.Simulated() || len(zero.Lacks()) != 2 || zero.Files() != nil || zero.Person(time.Now()).Surname.Len() != 0 {
		t.Error("the zero value is good for something")
	}
	if _, err := zero.Face(); !errors.Is(err, identity.ErrNotVerified) {
		t.Errorf("face of nobody: %v", err)
	}
}

// Nobody enrolls under a number that is not what the authority wrote: the kiosk
// refuses what the vault would.
func TestResidentContradictsItself(t *testing.T) {
	good := sam.Resident(sam.Specimen())
	for name, at := range map[string]int{"number": 122 + 2*16, "birth": 36 + 2*7, "sex": 30} { // where they stand in the text
		c := good
		c.Text[at] ^= 3
		doc, err := prcid.Parse(c.Text[:])
		if err != nil {
			t.Fatal(err)
		}
		if _, err := identity.OfResident(doc, time.Now(), identity.Unsigned{Accept: true}); !errors.Is(err, identity.ErrContradiction) {
			t.Errorf("%s altered: %v", name, err)
		}
	}
}

func resident(t *testing.T) prcid.Document {
	t.Helper()
	m, err := sam.Start()
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	m.Place(sam.Resident(sam.Specimen()))
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
	return doc
}

func TestResident(t *testing.T) {
	doc := resident(t)
	h, err := identity.OfResident(doc, time.Now(), identity.Unsigned{Accept: true, Simulated: true})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(h.Lacks(), []identity.Lack{identity.NoChipProof, identity.NoIssuerSignature}) || !h.Simulated() || h.Kind() != identity.PRCResident {
		t.Errorf("%v %v %v", h.Kind(), h.Lacks(), h.Simulated())
	}
	if !strings.Contains(string(h.Report()), prcid.Worth) {
		t.Errorf("the report does not say what the data are worth: %s", h.Report())
	}
	p := h.Person(time.Now())
	if p.Issuer != "CHN" || !p.Surname.Equal(doc.Name) || !p.Number.Equal(doc.Number) {
		t.Error("another person")
	}
	if first, last := h.Born(time.Now()); !first.Equal(last) || first.Format(time.DateOnly) != string(p.Birth.Reveal()) {
		t.Errorf("born from %v to %v", first, last)
	}
	for _, c := range h.Checks() {
		if c.Name != identity.Validity && c.Verdict != trust.Impossible {
			t.Errorf("%s: %s", c.Name, c.Verdict)
		}
	}
	name := string(doc.Name.Reveal())
	for _, printed := range []string{fmt.Sprint(h), fmt.Sprintf("%+v", h), fmt.Sprintf("%#v", struct{ H identity.Holder }{h}), fmt.Sprint(p)} {
		if strings.Contains(printed, name) {
			t.Error("a holder prints its name")
		}
	}
	if _, err := json.Marshal(h); !errors.Is(err, secret.ErrMarshal) {
		t.Errorf("a holder marshals: %v", err)
	}
	if _, err := identity.OfResident(doc, time.Now().AddDate(300, 0, 0), identity.Unsigned{Accept: true}); !doc.LongTerm && !errors.Is(err, trust.ErrExpired) {
		t.Errorf("expired: %v", err)
	}
}
