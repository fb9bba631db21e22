package registry_test

import (
	"crypto"
	"testing"
	"time"

	"enrollkiosk/kiosk/secret"
	"enrollkiosk/registry/api"
	"enrollkiosk/registry/internal/registrytest"
	"enrollkiosk/registry/record"
	"enrollkiosk/simulators/sam"
	"enrollkiosk/smartcard/identity"
)

const acceptsResident = `
[[documents]]
kind = "prc-resident"
may_lack = ["no-chip-proof", "no-issuer-signature"]
class = "test"
`

var unsigned = []record.Exception{record.NoChipProof, record.NoIssuerSignature}

// A record that says what its document lacks needs a rule of the policy for it,
// and a second officer who is in force and is not the first.
func TestExceptions(t *testing.T) {
	t.Parallel()
	w := registrytest.New(t)
	w.Accept(t, acceptsResident, nil)
	r := serve(t, w.RegistryOptions(noVault))
	k := w.Kiosk(t, "KIOSK-0001")
	c := connect(t, w, r.URL, k.TLS)
	again := w.Officers.Officer(t, "4711", nil) // the first officer's other card
	nameless := w.Officers.Officer(t, "", nil)
	stranger := registrytest.NewCA(t, "Officers").Officer(t, "4712", nil)
	for name, s := range map[string]registrytest.Spec{
		"officer and supervisor of one number": {Exceptions: unsigned, Supervisor: &again},
		"supervisor without a number":          {Exceptions: unsigned, Supervisor: &nameless},
		"supervisor of another authority":      {Exceptions: unsigned, Supervisor: &stranger},
		"officer of another authority":         {Exceptions: unsigned, Officer: &stranger},
	} {
		t.Run(name, func(t *testing.T) {
			client{t, c.url, c.http}.rejected(w, item(k.Make(t, s)), api.CodeOfficer)
		})
	}
	for name, lacks := range map[string][]record.Exception{"all that the rule allows": unsigned, "less": unsigned[:1], "nothing": nil} {
		if v := c.send(k.Make(t, registrytest.Spec{Exceptions: lacks})); v.Status != api.Pending {
			t.Errorf("%s: %+v", name, v)
		}
	}
}

func TestExceptionsWithoutARule(t *testing.T) {
	t.Parallel()
	const half = "[[documents]]\nkind = \"prc-resident\"\nmay_lack = [\"no-chip-proof\"]\nclass = \"test\"\n"
	// Two rules that allow one lack each allow no document both.
	const other = "[[documents]]\nkind = \"emrtd\"\nmay_lack = [\"no-issuer-signature\"]\n"
	for name, rules := range map[string]string{"no rule": "", "a rule that allows half": half, "two rules that allow half": half + other} {
		t.Run(name, func(t *testing.T) {
			w := registrytest.New(t)
			w.Accept(t, rules, nil)
			r := serve(t, w.RegistryOptions(noVault))
			k := w.Kiosk(t, "KIOSK-0001")
			connect(t, w, r.URL, k.TLS).rejected(w, item(k.Make(t, registrytest.Spec{Exceptions: unsigned})), api.CodePolicy)
		})
	}
}

// A supervisor's lost card ends as an officer's does.
func TestLostSupervisorsCard(t *testing.T) {
	t.Parallel()
	w := registrytest.New(t)
	w.Accept(t, acceptsResident, nil)
	k := w.Kiosk(t, "KIOSK-0001")
	earlier := k.Make(t, registrytest.Spec{Exceptions: unsigned, Payload: func(p *record.Payload) { p.Times.Wall = p.Times.Wall.Add(-30 * time.Minute) }})
	serve(t, w.RegistryOptions(noVault)).stop() // has the first policy
	lost, next := w.Supervisor, w.Officers.Officer(t, "4710", nil)
	w.Policy = w.Revoke(t, 2, time.Now().Add(-10*time.Minute), lost)
	r := serve(t, w.RegistryOptions(noVault))
	c := connect(t, w, r.URL, k.TLS)
	c.rejected(w, item(k.Make(t, registrytest.Spec{Exceptions: unsigned})), api.CodeOfficerRevoked)
	for name, s := range map[string]record.Submission{"earlier": earlier, "next card": k.Make(t, registrytest.Spec{Exceptions: unsigned, Supervisor: &next})} {
		if v := c.send(s); v.Status != api.Pending {
			t.Errorf("%s: %+v", name, v)
		}
	}
}

// A document that proves nothing, with all in order, is enrolled: registry and
// vault agree. The vault refuses the one whose record claims less.
func TestExceptionsToTheEnd(t *testing.T) {
	t.Parallel()
	w := registrytest.New(t)
	w.Accept(t, acceptsResident, nil)
	at, _ := serveVault(t, w, "127.0.0.1:0")
	r := serve(t, w.RegistryOptions(at))
	k := w.Kiosk(t, "KIOSK-0001")
	c := connect(t, w, r.URL, k.TLS)
	text := sam.Resident(sam.Specimen()).Text
	resident := func(record.Context, crypto.PublicKey) record.Identity {
		return record.Identity{Document: record.PRCResident, Report: []byte(`{}`), Consents: registrytest.Consents(),
			Files: map[uint16]secret.Text{identity.ResidentText: secret.FromString(string(text[:]))}}
	}
	for _, step := range []struct {
		lacks  []record.Exception
		status api.Status
	}{{unsigned[:1], api.Refused}, {unsigned, api.Active}} {
		s := k.Make(t, registrytest.Spec{Exceptions: step.lacks, Identity: resident})
		if v := c.send(s); v.Status != api.Pending {
			t.Fatalf("%+v", v)
		}
		if got := c.until(s.ID(), "verdict", isDecided); got.Status != step.status {
			t.Errorf("lacks %v: %s, want %s", step.lacks, got.Status, step.status)
		}
	}
}
