package registry_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"net/http/httptest"
	"testing"

	"enrollkiosk/registry"
	"enrollkiosk/registry/api"
	"enrollkiosk/registry/internal/registrytest"
)

// FuzzRecords posts what nobody would send. The answer is a problem, or a signed
// rejection or a pending for each item; never a panic, never a receipt.
func FuzzRecords(f *testing.F) {
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
	s := k.Make(f, registrytest.Spec{})
	f.Add(batch(item(s)))
	f.Add([]byte(`{"items":[]}`))
	f.Add([]byte(`{"items":[{"id":"0000000000000000000000000000000000000000000000000000000000000000","submission":"e30"}]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		q := httptest.NewRequest(http.MethodPost, api.PathRecords, bytes.NewReader(body))
		q.Header.Set("Content-Type", api.MediaJSON)
		q.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{leaf}}
		a := httptest.NewRecorder()
		h.ServeHTTP(a, q)
		if a.Code != http.StatusOK {
			if _, err := api.Decode[api.Problem](a.Body); err != nil {
				t.Errorf("%d %s: %v", a.Code, a.Body, err)
			}
			return
		}
		result, err := api.Decode[api.BatchResult](a.Body)
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range result.Verdicts {
			if v.Status == api.Pending && v.ID != s.ID() || v.Status != api.Pending && v.Status != api.Rejected {
				t.Errorf("%+v", v)
			}
		}
	})
}
