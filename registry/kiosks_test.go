package registry_test

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"errors"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"enrollkiosk/hsm"
	"enrollkiosk/hsm/tpm"
	"enrollkiosk/registry"
	"enrollkiosk/registry/api"
	"enrollkiosk/registry/internal/registrytest"
	"enrollkiosk/registry/policy"
	"enrollkiosk/registry/record"
	sim "enrollkiosk/simulators/tpm"
)

// machine is a new kiosk's TPM with its keys.
func machine(t *testing.T, id string) (*sim.Instance, *tpm.TPM) {
	t.Helper()
	i, err := sim.Start(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { i.Stop() })
	d, err := tpm.Open(t.Context(), tpm.Options{Path: i.Path(), Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	if err := d.Init(t.Context(), api.KioskBinding(id)); err != nil {
		t.Fatal(err)
	}
	return i, d
}

func csr(t *testing.T, id string, key crypto.Signer) []byte {
	t.Helper()
	b, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: id}, SignatureAlgorithm: x509.ECDSAWithSHA256}, key)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func requestOf(t *testing.T, d *tpm.TPM, id string) api.KioskRequest {
	t.Helper()
	ak, err := d.AttestationKey()
	if err != nil {
		t.Fatal(err)
	}
	binding := api.KioskBinding(id)
	q := api.KioskRequest{Version: 1, KioskID: id, AttestationKey: ak.Public, StorageKeyName: ak.ParentName}
	evidence := func(name tpm.KeyName) api.TPMEvidence {
		e, err := d.Certify(t.Context(), name, binding[:])
		if err != nil {
			t.Fatal(err)
		}
		return api.TPMEvidence(e)
	}
	q.RecordEvidence, q.TLSEvidence = evidence(tpm.Record), evidence(tpm.TLS)
	q.RecordCSR, q.TLSCSR = csr(t, id, hsm.Signer(d.RecordKey(), time.Minute)), csr(t, id, hsm.Signer(d.TLSKey(), time.Minute))
	certificates, err := d.EKCertificates(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range certificates {
		q.EKCertificates = append(q.EKCertificates, c.DER)
	}
	if q.CounterAtInit, err = d.Counter(t.Context()); err != nil {
		t.Fatal(err)
	}
	return q
}

// A new kiosk proves its keys, gets its certificates and is let in with them;
// nothing that was altered is.
func TestSignKiosk(t *testing.T) {
	t.Parallel()
	const id = "KIOSK-0007"
	w := registrytest.New(t)
	i, d := machine(t, id)
	q := requestOf(t, d, id)
	var roots []policy.Root
	for _, der := range i.Roots() {
		roots = append(roots, policy.Root{Certificate: der, Class: record.Test})
	}
	kiosks := registry.KiosksIn(w.RegistryDir())
	_, otherTPM := machine(t, id)
	other := requestOf(t, otherTPM, id)
	software := registrytest.NewDevice(t)
	strangers := []policy.Root{{Certificate: registrytest.NewCA(t, "Maker").Cert.Raw, Class: record.Production}}

	for name, c := range map[string]struct {
		edit  func(*api.KioskRequest)
		roots []policy.Root
	}{
		"evidence swapped":         {func(q *api.KioskRequest) { q.RecordEvidence, q.TLSEvidence = q.TLSEvidence, q.RecordEvidence }, roots},
		"one key twice":            {func(q *api.KioskRequest) { q.TLSEvidence, q.TLSCSR = q.RecordEvidence, q.RecordCSR }, roots},
		"software key":             {func(q *api.KioskRequest) { q.RecordCSR = csr(t, id, software.PrivateKey) }, roots},
		"request changed":          {func(q *api.KioskRequest) { q.TLSCSR[len(q.TLSCSR)-3] ^= 1 }, roots},
		"statement changed":        {func(q *api.KioskRequest) { q.RecordEvidence.Attest[20] ^= 1 }, roots},
		"key made for another id":  {func(q *api.KioskRequest) { q.KioskID = "KIOSK-0008" }, roots},
		"another TPM's statement":  {func(q *api.KioskRequest) { q.RecordEvidence = other.RecordEvidence }, roots},
		"another TPM's AK":         {func(q *api.KioskRequest) { q.AttestationKey = other.AttestationKey }, roots},
		"another parent":           {func(q *api.KioskRequest) { q.StorageKeyName[10] ^= 1 }, roots},
		"no endorsement":           {func(q *api.KioskRequest) { q.EKCertificates = nil }, roots},
		"an endorsement of nobody": {func(*api.KioskRequest) {}, strangers},
	} {
		bad := clone(t, q)
		c.edit(&bad)
		if _, err := kiosks.Sign(w.RegistryDir(), bad, c.roots, time.Now()); !errors.Is(err, registry.ErrRequest) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if list, err := kiosks.List(); err != nil || len(list) != 0 {
		t.Fatalf("registered %v, %v", list, err)
	}

	k, err := kiosks.Sign(w.RegistryDir(), q, roots, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if k.Class != "test" || k.Counter != q.CounterAtInit {
		t.Errorf("class %s, counter %d", k.Class, k.Counter)
	}
	// Again: the same. Later, when they run out: new ones for the same keys.
	if again, err := kiosks.Sign(w.RegistryDir(), q, roots, time.Now()); err != nil || !reflect.DeepEqual(again.Certificates, k.Certificates) {
		t.Errorf("again: %v", err)
	}
	renewed, err := kiosks.Sign(w.RegistryDir(), q, nil, time.Now().AddDate(2, 0, 0))
	if err != nil || bytes.Equal(renewed.Certificates.TLS[0], k.Certificates.TLS[0]) {
		t.Errorf("two years later: %v", err)
	}
	if _, err := kiosks.Sign(w.RegistryDir(), other, nil, time.Now()); !errors.Is(err, registry.ErrOtherKiosk) {
		t.Errorf("another TPM: %v", err)
	}
	list, err := kiosks.List()
	if err != nil || len(list) != 1 || list[0].ID != id {
		t.Errorf("list %+v, %v", list, err)
	}

	r := serve(t, w.RegistryOptions(noVault))
	c := connect(t, w, r.URL, tls.Certificate{Certificate: k.Certificates.TLS, PrivateKey: hsm.Signer(d.TLSKey(), time.Minute)})
	unknown := api.PathRecords + "/" + strings.Repeat("00", 32)
	c.problem(http.MethodGet, unknown, "", nil, http.StatusNotFound, api.CodeNotFound)
	if err := kiosks.Revoke(id, time.Now()); err != nil {
		t.Fatal(err)
	}
	c.problem(http.MethodGet, unknown, "", nil, http.StatusForbidden, api.CodeNoKiosk)
	if _, err := kiosks.Sign(w.RegistryDir(), q, nil, time.Now()); !errors.Is(err, registry.ErrOtherKiosk) {
		t.Errorf("a revoked kiosk comes back: %v", err)
	}
}

func clone(t *testing.T, q api.KioskRequest) api.KioskRequest {
	t.Helper()
	b, err := json.Marshal(q)
	if err != nil {
		t.Fatal(err)
	}
	out, err := registry.ParseKioskRequest(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestParseKioskRequest(t *testing.T) {
	good := `{"version":1,"kiosk":"K-1","record_csr":"","tls_csr":"","attestation_key":"","ek_certificates":null,` +
		`"record_evidence":{},"tls_evidence":{},"storage_key_name":"","counter":0}`
	if _, err := registry.ParseKioskRequest(strings.NewReader(good)); err != nil {
		t.Fatal(err)
	}
	for name, bad := range map[string]string{
		"empty":          "",
		"no version":     strings.Replace(good, `"version":1`, `"version":2`, 1),
		"unknown member": strings.Replace(good, `"counter"`, `"more":1,"counter"`, 1),
		"trailing":       good + "{}",
		"id of a path":   strings.Replace(good, "K-1", "../K", 1),
		"hidden file":    strings.Replace(good, "K-1", ".K", 1),
		"too large":      good + strings.Repeat(" ", 300<<10),
	} {
		if _, err := registry.ParseKioskRequest(strings.NewReader(bad)); !errors.Is(err, registry.ErrRequest) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzKioskRequest: a file carried in by hand is foreign bytes, and so is every
// part of it. Nothing is signed, nothing panics.
func FuzzKioskRequest(f *testing.F) {
	seed, err := json.Marshal(api.KioskRequest{Version: 1, KioskID: "K-1", RecordCSR: []byte{0x30, 0}, AttestationKey: bytes.Repeat([]byte{0, 0x23}, 40)})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Add([]byte(`{}`))
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, b []byte) {
		q, err := registry.ParseKioskRequest(bytes.NewReader(b))
		if err != nil {
			return
		}
		if _, err := registry.KiosksIn(dir).Sign(dir, q, nil, time.Now()); !errors.Is(err, registry.ErrRequest) {
			t.Errorf("signed, or failed otherwise: %v", err)
		}
	})
}
