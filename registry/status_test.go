package registry_test

import (
	"bytes"
	"compress/gzip"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"enrollkiosk/registry"
	"enrollkiosk/registry/api"
	"enrollkiosk/registry/internal/registrytest"
)

func zipped(b []byte) []byte {
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	w.Write(b)
	w.Close()
	return out.Bytes()
}

// coded posts a batch whose body has a content coding.
func (c client) coded(coding string, body []byte) (int, http.Header, []byte) {
	c.t.Helper()
	q, err := http.NewRequestWithContext(c.t.Context(), http.MethodPost, c.url+api.PathRecords, bytes.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	q.Header.Set("Content-Type", api.MediaJSON)
	q.Header.Set("Content-Encoding", coding)
	a, err := c.http.Do(q)
	if err != nil {
		c.t.Fatal(err)
	}
	defer a.Body.Close()
	var b bytes.Buffer
	if _, err := b.ReadFrom(a.Body); err != nil {
		c.t.Fatal(err)
	}
	return a.StatusCode, a.Header, b.Bytes()
}

// A body that was compressed is the same batch, and gets round no limit.
func TestCompressedBatch(t *testing.T) {
	t.Parallel()
	w := registrytest.New(t)
	r := serve(t, w.RegistryOptions(noVault))
	k := w.Kiosk(t, "KIOSK-0001")
	c := connect(t, w, r.URL, k.TLS)
	s := k.Make(t, registrytest.Spec{})
	body := zipped(batch(item(s)))
	status, _, b := c.coded(api.Gzip, body)
	if result, err := api.Decode[api.BatchResult](bytes.NewReader(b)); status != http.StatusOK || err != nil || result.Verdicts[0].ID != s.ID() {
		t.Fatalf("%d %s", status, b)
	}
	if v := c.send(s); v.Status != api.Pending && v.Status != api.Accepted {
		t.Errorf("the same, as it is: %+v", v)
	}
	flipped := bytes.Clone(body)
	flipped[len(flipped)-6] ^= 1 // of the checksum
	for name, bad := range map[string]struct {
		coding string
		body   []byte
		status int
	}{
		"not what it says": {api.Gzip, batch(item(s)), http.StatusBadRequest},
		"a bit":            {api.Gzip, flipped, http.StatusBadRequest},
		"cut":              {api.Gzip, body[:len(body)/2], http.StatusBadRequest},
		"nothing":          {api.Gzip, nil, http.StatusBadRequest},
		"a bomb":           {api.Gzip, zipped([]byte(strings.Repeat(" ", 200<<20))), http.StatusRequestEntityTooLarge},
		"another coding":   {"br", body, http.StatusUnsupportedMediaType},
		"two codings":      {"gzip, gzip", zipped(body), http.StatusUnsupportedMediaType},
	} {
		status, h, b := c.coded(bad.coding, bad.body)
		if p, err := api.Decode[api.Problem](bytes.NewReader(b)); err != nil || status != bad.status {
			t.Errorf("%s: %d %s %v", name, status, b, p)
		}
		if status == http.StatusUnsupportedMediaType && h.Get("Accept-Encoding") != api.Gzip {
			t.Errorf("%s: which coding is taken is not said", name)
		}
	}
}

// Of many records at once a kiosk learns what it would of each, and of others'
// records nothing.
func TestStatusOfMany(t *testing.T) {
	t.Parallel()
	w := registrytest.New(t)
	r := serve(t, w.RegistryOptions(noVault))
	k := w.Kiosk(t, "KIOSK-0001")
	c := connect(t, w, r.URL, k.TLS)
	stranger := connect(t, w, r.URL, w.Kiosk(t, "KIOSK-0002").TLS)
	nobody := connect(t, w, r.URL)
	one, two := k.Make(t, registrytest.Spec{}), k.Make(t, registrytest.Spec{})
	bad := item(k.Make(t, registrytest.Spec{}))
	bad.ID[0] ^= 1 // not its own
	c.send(one)
	c.send(two)
	c.rejected(w, bad, api.CodeID)
	c.until(one.ID(), "receipt", hasReceipt)
	c.until(two.ID(), "receipt", hasReceipt)
	never := api.ID{9}
	ids := []api.ID{never, two.ID(), bad.ID, one.ID()}
	query := func(c client) map[api.ID]api.RecordStatus {
		t.Helper()
		body := encoded(t, api.StatusQuery{IDs: ids})
		status, b := c.do(http.MethodPost, api.PathStatus, api.MediaJSON, body)
		result, err := api.Decode[api.StatusResult](bytes.NewReader(b))
		if status != http.StatusOK || err != nil || len(result.Statuses) != len(ids) {
			t.Fatalf("%d %s: %v", status, b, err)
		}
		out := map[api.ID]api.RecordStatus{}
		for _, s := range result.Statuses {
			out[s.ID] = s
		}
		return out
	}
	got := query(c)
	for _, id := range []api.ID{one.ID(), two.ID(), bad.ID} {
		single, err := c.record(id)
		if err != nil || got[id] != single {
			t.Errorf("%+v of many, %+v alone: %v", got[id], single, err)
		}
	}
	if got[never].Status != api.Unknown {
		t.Errorf("never sent: %+v", got[never])
	}
	for id, s := range query(stranger) {
		if s.Status != api.Unknown {
			t.Errorf("another kiosk learns %+v of %s", s, id)
		}
	}
	body := encoded(t, api.StatusQuery{IDs: ids})
	nobody.problem(http.MethodPost, api.PathStatus, api.MediaJSON, body, http.StatusForbidden, api.CodeNoKiosk)
	c.problem(http.MethodPost, api.PathStatus, api.MediaText, body, http.StatusUnsupportedMediaType, api.CodeMedia)
	c.problem(http.MethodPost, api.PathStatus, api.MediaJSON, []byte(`{"ids":[]}`), http.StatusBadRequest, api.CodeBadRequest)
	c.problem(http.MethodGet, api.PathStatus, "", nil, http.StatusMethodNotAllowed, api.CodeMethod)
}

func encoded(t testing.TB, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// FuzzCompressed posts bytes that are said to be gzip. The answer is a problem
// or a result; never a panic.
func FuzzCompressed(f *testing.F) {
	w := registrytest.New(f)
	r, err := registry.Open(f.Context(), w.RegistryOptions(noVault))
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { r.Close() })
	k := w.Kiosk(f, "KIOSK-0001")
	leaf, err := x509.ParseCertificate(k.TLS.Certificate[0])
	if err != nil {
		f.Fatal(err)
	}
	h := registry.Handler(r)
	f.Add(zipped(batch(item(k.Make(f, registrytest.Spec{})))))
	f.Add(zipped([]byte(`{"items":[]}`)))
	f.Fuzz(func(t *testing.T, body []byte) {
		q := httptest.NewRequest(http.MethodPost, api.PathRecords, bytes.NewReader(body))
		q.Header.Set("Content-Type", api.MediaJSON)
		q.Header.Set("Content-Encoding", api.Gzip)
		q.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{leaf}}
		a := httptest.NewRecorder()
		h.ServeHTTP(a, q)
		if a.Code == http.StatusOK {
			if _, err := api.Decode[api.BatchResult](a.Body); err != nil {
				t.Error(err)
			}
		} else if _, err := api.Decode[api.Problem](a.Body); err != nil {
			t.Errorf("%d %s: %v", a.Code, a.Body, err)
		}
	})
}
