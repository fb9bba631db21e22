package registry_test

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"enrollkiosk/hsm"
	"enrollkiosk/hsm/attest"
	"enrollkiosk/kiosk/secret"
	"enrollkiosk/registry"
	"enrollkiosk/registry/api"
	"enrollkiosk/registry/internal/registrytest"
	"enrollkiosk/registry/record"
	"enrollkiosk/registry/vault"
	"enrollkiosk/simulators/idcard"
)

// desk is a registry with its vault, an officer of the service desk, a kiosk with a
// real TPM, and an enrolled citizen.
type desk struct {
	w         *registrytest.World
	k         *registrytest.Kiosk
	c         client
	tpm       *applicant
	spec      registrytest.UnblockSpec
	holder    registrytest.Device
	enrolled  record.Submission
	opened    *vault.Vault
	vault     string // its address
	stopVault func()
	url       string
}

var enrolledAdmin = record.TokenAdmin{PUK: secret.FromString("77123450"), ManagementKey: secret.New(bytes.Repeat([]byte{0xA0}, 24))}

func newDesk(t *testing.T) *desk {
	t.Helper()
	d := &desk{w: registrytest.New(t, specimenState(t).CSCA()), tpm: machine(t, "KIOSK-0001", false), holder: registrytest.NewDevice(t)}
	more := "[[officer_roles]]\nunit = \"desk\"\nroles = [\"desk\"]\n"
	files := map[string][]byte{}
	for i, der := range d.tpm.chip.Roots() {
		name := fmt.Sprintf("tpm%d.der", i)
		files[name] = der
		more += fmt.Sprintf("[[tpm_roots]]\nfile = %q\nclass = \"test\"\n", name)
	}
	d.w.Accept(t, more, files)
	var err error
	if d.opened, err = vault.Open(t.Context(), d.w.VaultOptions()); err != nil {
		t.Fatal(err)
	}
	d.vault, d.stopVault = runVault(t, d.opened, "127.0.0.1:0")
	d.url = serve(t, d.w.RegistryOptions(d.vault)).URL
	d.k = d.w.Kiosk(t, "KIOSK-0001")
	d.c = connect(t, d.w, d.url, d.k.TLS)
	ek, err := attest.ParseEndorsementKey(d.tpm.eks[0].Public)
	if err != nil {
		t.Fatal(err)
	}
	ak, err := d.tpm.tpm.AttestationKey()
	if err != nil {
		t.Fatal(err)
	}
	d.k.HasTPM(t, api.Endorsement{Certificate: d.tpm.eks[0].Certificate, Public: d.tpm.eks[0].Public}, ak.Public)
	seal := identityOf(t, idcard.SpecimenPerson())
	enrolled := d.k.Make(t, registrytest.Spec{Holder: &d.holder, Identity: func(c record.Context, key crypto.PublicKey) record.Identity {
		id := seal(c, key)
		id.TokenAdmin = &enrolledAdmin
		return id
	}})
	d.enrolled = enrolled
	d.c.send(enrolled)
	if got := d.c.until(enrolled.ID(), "verdict", isDecided); got.Status != api.Active {
		t.Fatalf("%+v", got)
	}
	d.spec = registrytest.UnblockSpec{DID: enrolled.Record().Payload().Holder.DID, EKNames: [][]byte{[]byte(strings.Repeat("x", 50)), ek.Name()}, AKName: ak.Name,
		Officer: d.w.Officers.Officer(t, "5500", func(x *x509.Certificate) { x.Subject.OrganizationalUnit = []string{"desk"} })}
	return d
}

func (d *desk) request(t *testing.T, edit func(*registrytest.UnblockSpec)) record.Unblock {
	t.Helper()
	s := d.spec
	if edit != nil {
		edit(&s)
	}
	return d.k.Unblock(t, s)
}

func (d *desk) refused(u record.Unblock, status int, code string) {
	d.c.t.Helper()
	d.c.problem(http.MethodPost, api.PathTokenUnblock, api.MediaJOSEJS, u.Bytes(), status, code)
}

// A request goes to the vault and its answer comes back, for this kiosk's TPM. The
// same request gets the same answer.
func TestTokenUnblock(t *testing.T) {
	d := newDesk(t)
	u := d.request(t, nil)
	status, b := d.c.do(http.MethodPost, api.PathTokenUnblock, api.MediaJOSEJS, u.Bytes())
	if status != http.StatusOK {
		t.Fatalf("%d %s", status, b)
	}
	a, err := record.VerifyUnblockAnswer(b, d.w.Policy.Policy().VerdictKeys.Vault, u)
	if err != nil {
		t.Fatal(err)
	}
	key, err := d.tpm.tpm.Activate(t.Context(), d.tpm.eks[0], hsm.TPMCredential{Blob: a.Blob, Secret: a.Encrypted})
	if err != nil {
		t.Fatal(err)
	}
	if list, err := record.OpenCandidates(key, u.ID(), a.Ciphertext); err != nil || len(list) != 1 || !list[0].PUK.Equal(enrolledAdmin.PUK) {
		t.Errorf("%d candidates: %v", len(list), err)
	}
	if _, again := d.c.do(http.MethodPost, api.PathTokenUnblock, api.MediaJOSEJS, u.Bytes()); !bytes.Equal(again, b) {
		t.Error("sent again, another answer")
	}
	d.stopVault()
	d.refused(d.request(t, nil), http.StatusServiceUnavailable, api.CodeUnavailable)
	serveVault(t, d.w, d.vault)
	for range 2 {
		if status, b := d.c.do(http.MethodPost, api.PathTokenUnblock, api.MediaJOSEJS, d.request(t, nil).Bytes()); status != http.StatusOK {
			t.Errorf("the vault is back: %d %s", status, b)
		}
	}
	d.refused(d.request(t, nil), http.StatusForbidden, api.CodeUnblockLimit) // the vault's word is passed on
}

func TestTokenUnblockRefusals(t *testing.T) {
	d := newDesk(t)
	good := d.request(t, nil)
	post := func(c client, media string, b []byte, status int, code string) {
		t.Helper()
		c.problem(http.MethodPost, api.PathTokenUnblock, media, b, status, code)
	}
	post(d.c, api.MediaJSON, good.Bytes(), http.StatusUnsupportedMediaType, api.CodeMedia)
	post(d.c, api.MediaJOSEJS, make([]byte, record.MaxUnblock+1), http.StatusRequestEntityTooLarge, api.CodeTooLarge)
	post(d.c, api.MediaJOSEJS, nil, http.StatusBadRequest, api.CodeBadRequest)
	d.c.problem(http.MethodGet, api.PathTokenUnblock, "", nil, http.StatusMethodNotAllowed, api.CodeMethod)
	for i := 0; i < len(good.Bytes()); i += 97 {
		altered := good.Bytes()
		altered[i] ^= 1
		post(d.c, api.MediaJOSEJS, altered, http.StatusBadRequest, api.CodeBadRequest)
	}
	post(connect(t, d.w, d.url), api.MediaJOSEJS, good.Bytes(), http.StatusForbidden, api.CodeNoKiosk)
	second := d.w.Kiosk(t, "KIOSK-0002")
	other := connect(t, d.w, d.url, second.TLS)
	post(other, api.MediaJOSEJS, good.Bytes(), http.StatusForbidden, api.CodeKiosk) // stolen on the way, sent by another

	stranger := registrytest.NewDevice(t)
	did, err := record.DIDKey(stranger.Public())
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range []struct {
		what   string
		edit   func(*registrytest.UnblockSpec)
		status int
		code   string
	}{
		{"unknown holder", func(s *registrytest.UnblockSpec) { s.DID = did }, http.StatusForbidden, api.CodeHolder},
		{"no officer of the desk", func(s *registrytest.UnblockSpec) { s.Officer = d.w.Officer }, http.StatusForbidden, api.CodeOfficer},
		{"another kiosk signs", func(s *registrytest.UnblockSpec) { s.Kiosk = second }, http.StatusForbidden, api.CodeKiosk},
		{"too old", func(s *registrytest.UnblockSpec) {
			s.Context = func(c *record.UnblockContext) { c.Time = c.Time.Add(-11 * time.Minute) }
		}, http.StatusForbidden, api.CodeTime},
		{"from the future", func(s *registrytest.UnblockSpec) {
			s.Context = func(c *record.UnblockContext) { c.Time = c.Time.Add(11 * time.Minute) }
		}, http.StatusForbidden, api.CodeTime},
		{"for another registry", func(s *registrytest.UnblockSpec) {
			s.Context = func(c *record.UnblockContext) { c.Audience = "elsewhere.example/log" }
		}, http.StatusForbidden, record.CodeAudience},
		{"unknown policy", func(s *registrytest.UnblockSpec) {
			s.Context = func(c *record.UnblockContext) { c.PolicyDigest[0] ^= 1 }
		}, http.StatusServiceUnavailable, api.CodeUnknownPolicy},
		{"another TPM's endorsement key", func(s *registrytest.UnblockSpec) { s.EKNames = s.EKNames[:1] }, http.StatusForbidden, api.CodeUnblockTPM},
		{"another TPM's AK", func(s *registrytest.UnblockSpec) { s.AKName = bytes.Repeat([]byte{1}, 34) }, http.StatusForbidden, api.CodeUnblockTPM},
	} {
		t.Log(r.what)
		d.refused(d.request(t, r.edit), r.status, r.code)
	}
	d.c.send(d.k.Make(t, registrytest.Spec{Purpose: record.Revoke, Holder: &d.holder, Context: func(c *record.Context) { c.KioskID, c.Sequence = "", 0 }}))
	d.refused(d.request(t, nil), http.StatusForbidden, api.CodeHolder)
	if err := registry.KiosksIn(d.w.RegistryDir()).Revoke(t.Context(), d.k.ID, time.Now()); err != nil {
		t.Fatal(err)
	}
	d.refused(good, http.StatusForbidden, api.CodeNoKiosk)
}
