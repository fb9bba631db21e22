package registry_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"math"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"

	"enrollkiosk/registry"
	"enrollkiosk/registry/api"
	"enrollkiosk/registry/internal/registrytest"
)

// FuzzRecords posts what nobody would send: a good batch of this registry's own, of
// which the body, or the record inside, has a piece cut out and another one put in.
// So inputs mean the same to every worker, whose registries and kiosks are others.
// The answer is a problem, or a signed rejection or a pending for each item, or that
// a policy is not known here; never a panic, never a receipt.
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
	whole := uint16(math.MaxUint16)
	f.Add(false, uint16(0), uint16(0), []byte{})
	f.Add(false, uint16(0), whole, []byte(`{"items":[]}`))
	f.Add(false, uint16(0), whole, []byte(`{"items":[{"id":"0000000000000000000000000000000000000000000000000000000000000000","submission":"e30"}]}`))
	f.Add(true, uint16(0), uint16(1), []byte{})
	f.Add(true, uint16(300), uint16(0), []byte("x"))
	f.Fuzz(func(t *testing.T, inside bool, at, cut uint16, put []byte) {
		body := batch(item(s))
		if inside {
			body = batch(api.Item{ID: s.ID(), Submission: spliced(s.Bytes(), at, cut, put)})
		} else {
			body = spliced(body, at, cut, put)
		}
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
			switch {
			case v.Status == api.Pending && v.ID == s.ID(), v.Status == api.Rejected, v.Status == api.Retry && v.Code == api.CodeUnknownPolicy:
			default:
				t.Errorf("%+v", v)
			}
		}
	})
}

// spliced is b with up to cut bytes from at on replaced.
func spliced(b []byte, at, cut uint16, put []byte) []byte {
	from := min(int(at), len(b))
	return slices.Concat(b[:from], put, b[min(from+int(cut), len(b)):])
}
