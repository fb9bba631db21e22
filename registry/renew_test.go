package registry_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"enrollkiosk/registry"
	"enrollkiosk/registry/api"
	"enrollkiosk/registry/internal/registrytest"
	"enrollkiosk/registry/receipt"
	"enrollkiosk/registry/record"
)

// Certificates live for 825 days; these are in the last third of that.
const old = 600 * 24 * time.Hour

func renewal(t *testing.T, k *registrytest.Kiosk) []byte {
	t.Helper()
	b, err := receipt.SignRenewal(t.Context(), k.ID, registrytest.Origin, k.TLS.Certificate[0], k.Record)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// renews has a kiosk ask as it should, and be answered.
func (c client) renews(k *registrytest.Kiosk) api.KioskCertificates {
	c.t.Helper()
	return c.renewed(renewal(c.t.(*testing.T), k))
}

func (c client) renewed(request []byte) api.KioskCertificates {
	c.t.Helper()
	status, b := c.do(http.MethodPost, api.PathRenewal, api.MediaJOSE, request)
	certs, err := api.Decode[api.KioskCertificates](bytes.NewReader(b))
	if status != http.StatusOK || err != nil {
		c.t.Fatalf("%d %s: %v", status, b, err)
	}
	return certs
}

// uses has a kiosk go on with new certificates.
func uses(k *registrytest.Kiosk, certs api.KioskCertificates) {
	k.Chain = certs.Record
	k.TLS = tls.Certificate{Certificate: certs.TLS, PrivateKey: k.TLS.PrivateKey}
}

func under(t *testing.T, ca []byte, certs api.KioskCertificates) bool {
	t.Helper()
	pool := x509.NewCertPool()
	pool.AddCert(certificate(t, ca))
	for _, chain := range [][][]byte{certs.Attestation, certs.Record, certs.TLS} {
		if _, err := certificate(t, chain[0]).Verify(x509.VerifyOptions{Roots: pool, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}); err != nil {
			return false
		}
	}
	return true
}

// A kiosk whose certificates are in the last third of their life gets new ones for
// the same keys, once, however often it asks. What it made before and what it makes
// after is taken on.
func TestRenewal(t *testing.T) {
	t.Parallel()
	w := registrytest.New(t)
	log := &lines{}
	o := w.RegistryOptions(noVault)
	o.Log = log.logger()
	r := serve(t, o)
	kiosks := registry.KiosksIn(w.RegistryDir())
	registered := func(id string) api.KioskCertificates {
		k, err := kiosks.Find(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		return k.Certificates
	}
	k, young := w.KioskFrom(t, "KIOSK-0001", time.Now().Add(-old)), w.Kiosk(t, "KIOSK-0002")
	was := registered(k.ID)
	before := k.Make(t, registrytest.Spec{})
	c := connect(t, w, r.URL, k.TLS)
	request := renewal(t, k)
	certs := c.renewed(request)
	for name, chains := range map[string][2][][]byte{"attestation": {was.Attestation, certs.Attestation}, "record": {was.Record, certs.Record}, "tls": {was.TLS, certs.TLS}} {
		a, b := certificate(t, chains[0][0]), certificate(t, chains[1][0])
		if !bytes.Equal(a.RawSubjectPublicKeyInfo, b.RawSubjectPublicKeyInfo) || !b.NotAfter.After(a.NotAfter) || b.Subject.CommonName != k.ID {
			t.Errorf("%s: until %v, then %v", name, a.NotAfter, b.NotAfter)
		}
	}
	if !under(t, w.Policy.Policy().KioskCA[0].Certificate, certs) || !reflect.DeepEqual(registered(k.ID), certs) {
		t.Error("not the authority's, or not what is registered")
	}
	if n := strings.Count(log.String(), "certificates renewed"); n != 1 {
		t.Errorf("the log says so %d times", n)
	}
	// The answer was lost, or somebody plays the request again: nothing is issued.
	if again := c.renewed(request); !reflect.DeepEqual(again, certs) {
		t.Error("asked again: other certificates")
	}
	uses(k, certs)
	now := connect(t, w, r.URL, k.TLS)
	now.problem(http.MethodPost, api.PathRenewal, api.MediaJOSE, request, http.StatusForbidden, api.CodeRenewal)
	if again := now.renews(k); !reflect.DeepEqual(again, certs) {
		t.Error("new ones are renewed at once")
	}
	if got := connect(t, w, r.URL, young.TLS).renews(young); !reflect.DeepEqual(got, registered(young.ID)) || !bytes.Equal(got.TLS[0], young.TLS.Certificate[0]) {
		t.Error("renewed before its time")
	}
	if n := strings.Count(log.String(), "certificates renewed"); n != 1 {
		t.Errorf("the log says so %d times", n)
	}

	after := k.Make(t, registrytest.Spec{})
	for _, s := range []record.Submission{before, after} {
		now.send(s)
		now.until(s.ID(), "receipt", hasReceipt)
	}
}

// Nobody gets certificates but the kiosk itself, by both of its keys, in good
// standing.
func TestRenewalRefused(t *testing.T) {
	t.Parallel()
	w := registrytest.New(t)
	r := serve(t, w.RegistryOptions(noVault))
	kiosks := registry.KiosksIn(w.RegistryDir())
	k, other := w.KioskFrom(t, "KIOSK-0001", time.Now().Add(-old)), w.KioskFrom(t, "KIOSK-0002", time.Now().Add(-old))
	was, err := kiosks.Find(t.Context(), k.ID)
	if err != nil {
		t.Fatal(err)
	}
	c, nobody := connect(t, w, r.URL, k.TLS), connect(t, w, r.URL)
	sign := func(id, audience string, shown []byte, key record.Signer) []byte {
		b, err := receipt.SignRenewal(t.Context(), id, audience, shown, key)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	good, shown := renewal(t, k), k.TLS.Certificate[0]
	farewell, err := receipt.SignFarewell(t.Context(), receipt.Farewell{Kiosk: k.ID, Audience: registrytest.Origin, Time: time.Now(), Sequence: 1, Recorded: 1}, k.Record)
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{
		"another kiosk's":              renewal(t, other),
		"by another record key":        sign(k.ID, registrytest.Origin, shown, other.Record),
		"for another registry":         sign(k.ID, "other.example/log", shown, k.Record),
		"for another connection":       sign(k.ID, registrytest.Origin, other.TLS.Certificate[0], k.Record),
		"by the TLS key":               sign(k.ID, registrytest.Origin, shown, registrytest.Device{PrivateKey: k.TLS.PrivateKey.(*ecdsa.PrivateKey)}),
		"another statement of its":     farewell,
		"in the name of another kiosk": sign(other.ID, registrytest.Origin, shown, k.Record),
	} {
		if status, answer := c.do(http.MethodPost, api.PathRenewal, api.MediaJOSE, b); status != http.StatusForbidden || !bytes.Contains(answer, []byte(api.CodeRenewal)) {
			t.Errorf("%s: %d %s", name, status, answer)
		}
	}
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 1
		if status, answer := c.do(http.MethodPost, api.PathRenewal, api.MediaJOSE, bad); status != http.StatusForbidden && status != http.StatusBadRequest {
			t.Fatalf("byte %d: %d %s", i, status, answer)
		}
	}
	c.problem(http.MethodPost, api.PathRenewal, api.MediaJOSE, []byte("x"), http.StatusBadRequest, api.CodeBadRequest)
	c.problem(http.MethodPost, api.PathRenewal, api.MediaJOSE, make([]byte, receipt.MaxSize+1), http.StatusRequestEntityTooLarge, api.CodeTooLarge)
	c.problem(http.MethodPost, api.PathRenewal, api.MediaJSON, good, http.StatusUnsupportedMediaType, api.CodeMedia)
	nobody.problem(http.MethodPost, api.PathRenewal, api.MediaJOSE, good, http.StatusForbidden, api.CodeNoKiosk)
	connect(t, w, r.URL, other.TLS).problem(http.MethodPost, api.PathRenewal, api.MediaJOSE, good, http.StatusForbidden, api.CodeRenewal)

	// Its authority is not at hand: it is told to come again, and nothing is changed.
	key := filepath.Join(w.RegistryDir(), "kiosk-ca.key")
	if err := os.Rename(key, key+".away"); err != nil {
		t.Fatal(err)
	}
	c.problem(http.MethodPost, api.PathRenewal, api.MediaJOSE, good, http.StatusServiceUnavailable, api.CodeUnavailable)
	if err := os.Rename(key+".away", key); err != nil {
		t.Fatal(err)
	}
	if err := kiosks.Revoke(t.Context(), k.ID, time.Now()); err != nil {
		t.Fatal(err)
	}
	c.problem(http.MethodPost, api.PathRenewal, api.MediaJOSE, good, http.StatusForbidden, api.CodeNoKiosk)
	if _, _, err := kiosks.Renew(t.Context(), k.ID, time.Now()); !errors.Is(err, registry.ErrRevoked) {
		t.Errorf("revoked meanwhile: %v", err)
	}
	if now, err := kiosks.Find(t.Context(), k.ID); err != nil || !reflect.DeepEqual(now.Certificates, was.Certificates) {
		t.Errorf("what is registered has changed: %v", err)
	}
	// One that has been retired has ended in the same way.
	retired, err := r.Retire(t.Context(), other.ID, registry.Retirement{Sequence: 1, Missing: 1, By: "A. Clerk"})
	if err != nil || retired.Sequence != 1 {
		t.Fatal(err)
	}
	connect(t, w, r.URL, other.TLS).problem(http.MethodPost, api.PathRenewal, api.MediaJOSE, renewal(t, other), http.StatusForbidden, api.CodeNoKiosk)
	// And when its certificate has ended nobody knows a kiosk.
	ended := w.KioskFrom(t, "KIOSK-0003", time.Now().AddDate(-3, 0, 0))
	transport := &http.Transport{TLSClientConfig: w.TLS(t, ended.TLS)}
	defer transport.CloseIdleConnections()
	if a, err := (&http.Client{Transport: transport}).Post(r.URL+api.PathRenewal, api.MediaJOSE, bytes.NewReader(renewal(t, ended))); err == nil {
		a.Body.Close()
		t.Errorf("with a certificate that has ended: %d", a.StatusCode)
	}
}

// The authority over kiosks is rotated: the next certificates are under the new one as
// soon as the policy names it, and what the old one issued stays good.
func TestRotateKioskCA(t *testing.T) {
	t.Parallel()
	w := registrytest.New(t)
	one, two := w.KioskFrom(t, "KIOSK-0001", time.Now().Add(-old)), w.KioskFrom(t, "KIOSK-0002", time.Now().Add(-old))
	first := w.Policy
	before := []record.Submission{one.Make(t, registrytest.Spec{}), two.Make(t, registrytest.Spec{})}
	keys, err := registry.RotateKioskCA(w.RegistryDir(), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	earlier := keys.EarlierKioskCAs[0]
	if !bytes.Equal(earlier, first.Policy().KioskCA[0].Certificate) || bytes.Equal(earlier, keys.KioskCA) {
		t.Fatal("the authority of before is not kept")
	}
	// Until a policy names it the old one is used; without one nobody can say.
	r := serve(t, w.RegistryOptions(noVault))
	if certs := connect(t, w, r.URL, one.TLS).renews(one); !under(t, earlier, certs) {
		t.Error("under an authority that no policy names")
	} else {
		uses(one, certs)
	}
	r.stop()
	kiosks := registry.KiosksIn(w.RegistryDir())
	if _, _, err := kiosks.Renew(t.Context(), two.ID, time.Now()); !errors.Is(err, registry.ErrKioskCA) {
		t.Errorf("without a policy: %v", err)
	}

	w.Policy = w.Sign(t, 2, time.Now().Add(-time.Minute))
	if p := w.Policy.Policy(); len(p.KioskCA) != 2 || !bytes.Equal(p.KioskCA[0].Certificate, keys.KioskCA) || !bytes.Equal(p.KioskCA[1].Certificate, earlier) {
		t.Fatalf("the new policy names %d authorities", len(p.KioskCA))
	}
	r = serve(t, w.RegistryOptions(noVault))
	c := connect(t, w, r.URL, two.TLS)
	certs := c.renews(two)
	if !under(t, keys.KioskCA, certs) || under(t, earlier, certs) {
		t.Error("not under the new authority")
	}
	uses(two, certs)
	c = connect(t, w, r.URL, two.TLS)
	c.send(before[1])
	c.until(before[1].ID(), "receipt", hasReceipt)
	after := two.Make(t, registrytest.Spec{})
	c.send(after)
	c.until(after.ID(), "receipt", hasReceipt)
	// Under the first policy nobody knows the new authority: a kiosk must have the
	// second before it signs under that.
	early := two.Make(t, registrytest.Spec{Context: func(c *record.Context) { c.PolicyDigest = first.Digest() }})
	c.rejected(w, item(early), api.CodeKiosk)
	// The other one goes on under the old authority.
	c = connect(t, w, r.URL, one.TLS)
	for _, s := range []record.Submission{before[0], one.Make(t, registrytest.Spec{})} {
		c.send(s)
		c.until(s.ID(), "receipt", hasReceipt)
	}
}

// Whoever looks at the registry sees which kiosks have not renewed their certificates.
func TestEndingKiosks(t *testing.T) {
	t.Parallel()
	w := registrytest.New(t)
	day := 24 * time.Hour
	w.KioskFrom(t, "KIOSK-0001", time.Now().Add(-(825-31)*day))
	w.KioskFrom(t, "KIOSK-0002", time.Now().Add(-(825-29)*day))
	w.KioskFrom(t, "KIOSK-0003", time.Now().Add(-826*day))
	gone := w.KioskFrom(t, "KIOSK-0004", time.Now().Add(-826*day))
	if err := registry.KiosksIn(w.RegistryDir()).Revoke(t.Context(), gone.ID, time.Now()); err != nil {
		t.Fatal(err)
	}
	r := serve(t, w.RegistryOptions(noVault))
	console, err := registry.ConsoleOf(t.Context(), r.Registry)
	if err != nil {
		t.Fatal(err)
	}
	defer console.Close()
	var s registry.Status
	if err := console.Do(t.Context(), http.MethodGet, "/status", nil, &s); err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, k := range s.Ending {
		ids = append(ids, k.Kiosk)
	}
	if !reflect.DeepEqual(ids, []string{"KIOSK-0003", "KIOSK-0002"}) {
		t.Errorf("%+v", s.Ending)
	}
}
