package registry_test

import (
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"strings"
	"testing"
	"time"

	"enrollkiosk/hsm/attest"
	"enrollkiosk/registry"
	"enrollkiosk/registry/api"
	"enrollkiosk/registry/internal/registrytest"
	"enrollkiosk/registry/record"
)

// unit puts a card into units of the force.
func unit(units ...string) func(*x509.Certificate) {
	return func(c *x509.Certificate) { c.Subject.OrganizationalUnit = units }
}

// A signature counts in the roles that the policy gives to the certificate's
// unit, whatever the record says of the signer.
func TestOfficersRoles(t *testing.T) {
	t.Parallel()
	w := registrytest.New(t)
	w.Accept(t, acceptsResident+"[[officer_roles]]\nunit = \"front\"\nroles = [\"officer\"]\n[[officer_roles]]\nunit = \"back\"\nroles = [\"supervisor\"]\n"+
		"[[officer_roles]]\nunit = \"help\"\nroles = [\"desk\"]\n", nil)
	r := serve(t, w.RegistryOptions(noVault))
	k := w.Kiosk(t, "KIOSK-0001")
	c := connect(t, w, r.URL, k.TLS)
	card := func(number string, units ...string) *registrytest.Officer {
		o := w.Officers.Officer(t, number, unit(units...))
		return &o
	}
	front, back, help, kitchen := card("1", "front"), card("2", "back"), card("3", "help"), card("4", "kitchen")
	for name, s := range map[string]registrytest.Spec{
		"an officer supervises":            {Exceptions: unsigned, Officer: card("5", "front"), Supervisor: front},
		"a supervisor takes the desk":      {Officer: back},
		"the token desk enrolls":           {Officer: help},
		"the token desk supervises":        {Exceptions: unsigned, Officer: front, Supervisor: help},
		"a unit without a rule":            {Officer: kitchen},
		"two units, one of them the right": {Officer: card("6", "front", "back")},
	} {
		t.Run(name, func(t *testing.T) {
			client{t, c.url, c.http}.rejected(w, item(k.Make(t, s)), api.CodeOfficer)
		})
	}
	if v := c.send(k.Make(t, registrytest.Spec{Exceptions: unsigned, Officer: front, Supervisor: back})); v.Status != api.Pending {
		t.Errorf("each in the own role: %+v", v)
	}
}

// A card on the force's CRL ends with the date there, also when the policy that
// brought the CRL is newer than the record.
func TestOfficersCRL(t *testing.T) {
	t.Parallel()
	w := registrytest.New(t)
	k := w.Kiosk(t, "KIOSK-0001")
	since := time.Now().Add(-20 * time.Minute)
	made := func(ago time.Duration) record.Submission {
		return k.Make(t, registrytest.Spec{Payload: func(p *record.Payload) {
			p.Times.Wall = time.Now().UTC().Add(-ago).Truncate(time.Second)
			p.Times.Registry = p.Times.Wall
		}})
	}
	before, after := made(30*time.Minute), made(10*time.Minute)
	serve(t, w.RegistryOptions(noVault)).stop() // has the first policy
	w.Set(t, "officer_crls = [\"officers.crl\"]\n", map[string][]byte{"officers.crl": w.Officers.CRL(t, since, w.Officer)})
	w.Policy = w.Sign(t, 2, time.Now())
	r := serve(t, w.RegistryOptions(noVault))
	c := connect(t, w, r.URL, k.TLS)
	c.rejected(w, item(after), api.CodeOfficerRevoked)
	next := w.Officers.Officer(t, "4711", nil)
	for name, s := range map[string]record.Submission{"before": before, "next card": k.Make(t, registrytest.Spec{Officer: &next})} {
		if v := c.send(s); v.Status != api.Pending {
			t.Errorf("%s: %+v", name, v)
		}
	}
}

// What the policy says of citizens' keys, their attestations must say.
func TestTokenRules(t *testing.T) {
	t.Parallel()
	cached := func(own *registrytest.CA, leaf *x509.Certificate) {
		for i, x := range leaf.ExtraExtensions {
			if x.Id[len(x.Id)-1] == 8 {
				leaf.ExtraExtensions[i].Value = []byte{2, 3} // PIN once, touch cached
			}
		}
	}
	for name, c := range map[string]struct {
		head, rules string
		spec        registrytest.Spec
		refused     bool
	}{
		"defaults":                 {"", "", registrytest.Spec{}, false},
		"less touch":               {"", "", registrytest.Spec{Attest: cached}, true},
		"less touch is enough":     {"", "[token]\ntouch = \"cached\"\n", registrytest.Spec{Attest: cached}, false},
		"another algorithm":        {"", "[token]\nalgorithms = [\"p-384\", \"rsa-2048\"]\n", registrytest.Spec{}, true},
		"the second best":          {"", "[token]\nalgorithms = [\"p-384\", \"p-256\"]\n", registrytest.Spec{}, false},
		"a revoked attestation":    {"revoked_attestations = [%q]\n", "", registrytest.Spec{}, true},
		"another one's revocation": {"revoked_attestations = [\"" + fmt.Sprintf("%064x", 1) + "\"]\n", "", registrytest.Spec{}, false},
	} {
		t.Run(name, func(t *testing.T) {
			w := registrytest.New(t)
			if name == "a revoked attestation" {
				c.head = fmt.Sprintf(c.head, fmt.Sprintf("%x", sha256.Sum256(w.Own().Cert.Raw)))
			}
			w.Set(t, c.head, nil)
			w.Accept(t, c.rules, nil)
			r := serve(t, w.RegistryOptions(noVault))
			k := w.Kiosk(t, "KIOSK-0001")
			line := connect(t, w, r.URL, k.TLS)
			if s := k.Make(t, c.spec); c.refused {
				line.rejected(w, item(s), api.CodeAttestation)
			} else if v := line.send(s); v.Status != api.Pending {
				t.Errorf("%+v", v)
			}
		})
	}
}

// A key in a kiosk's TPM is looked at only where the policy allows such keys.
func TestCustodyByPolicy(t *testing.T) {
	t.Parallel()
	for rules, says := range map[string]string{"": "the policy wants citizens' keys on tokens", "[token]\ncustody = true\n": attest.ErrRejected.Error()} {
		w := registrytest.New(t)
		w.Accept(t, rules, nil)
		r := serve(t, w.RegistryOptions(noVault))
		k := w.Kiosk(t, "KIOSK-0001")
		s := k.Make(t, registrytest.Spec{Custody: func([32]byte) (record.Signer, record.TPMEvidence) {
			return registrytest.NewDevice(t), record.TPMEvidence{Public: []byte{1}, CreationData: []byte{1}, Attest: []byte{1}, Signature: []byte{1}}
		}})
		kiosk, err := registry.KiosksIn(w.RegistryDir()).Find(t.Context(), k.ID)
		if err != nil {
			t.Fatal(err)
		}
		if err := registry.Check(r.Registry, s.Bytes(), s.ID(), kiosk, time.Now()); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: %v", rules, err)
		}
		connect(t, w, r.URL, k.TLS).rejected(w, item(s), api.CodeAttestation)
	}
}
