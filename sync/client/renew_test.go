package client_test

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"enrollkiosk/registry/api"
	"enrollkiosk/registry/policy"
	"enrollkiosk/sync/client"
	"enrollkiosk/sync/internal/testregistry"
)

// New certificates are asked for with the old one, and shown from then on, also where
// a connection is open already; only what the contract knows is read.
func TestRenew(t *testing.T) {
	r := testregistry.New(t, nil)
	one, two := r.Kiosk, testregistry.New(t, nil).Kiosk
	var mu sync.Mutex
	var shown []byte
	status, code, answer := http.StatusOK, "", any(api.KioskCertificates{Version: 1, KioskID: "K-1", Attestation: [][]byte{{1}}, Record: [][]byte{{2}}, TLS: [][]byte{{3}}})
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		shown = q.TLS.PeerCertificates[0].Raw
		w.Header().Set("Content-Type", api.MediaJSON)
		if status != http.StatusOK {
			w.Header().Set("Content-Type", api.MediaProblem)
			answer = api.NewProblem(status, code, "no")
		}
		w.WriteHeader(status)
		json.NewEncoder(w).Encode(answer)
	}))
	s.TLS = &tls.Config{MinVersion: tls.VersionTLS13, ClientAuth: tls.RequireAnyClientCert}
	s.StartTLS()
	t.Cleanup(s.Close)
	hash := api.KeyHash(s.Certificate().RawSubjectPublicKeyInfo)
	pin := [16]byte(hash[:16])
	c, err := client.New(client.Options{URL: s.URL, Pin: &pin, Certificate: one, Proxy: noProxy, Policy: func() (policy.Signed, error) { return r.Policy, nil }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	asks := func(what string, want error, by tls.Certificate) {
		t.Helper()
		certs, err := c.Renew(t.Context(), []byte("signed"))
		mu.Lock()
		defer mu.Unlock()
		if !errors.Is(err, want) || (err == nil) != (certs.KioskID == "K-1") || !bytes.Equal(shown, by.Certificate[0]) {
			t.Errorf("%s: %+v, %v", what, certs, err)
		}
	}
	asks("at first", nil, one)
	asks("on the same connection", nil, one)
	c.Present(two)
	asks("with the next certificate", nil, two)
	set := func(st int, co string, a any) { mu.Lock(); status, code, answer = st, co, a; mu.Unlock() }
	set(http.StatusOK, "", map[string]any{"version": 2})
	asks("another version", client.ErrNonsense, two)
	set(http.StatusOK, "", api.KioskCertificates{Version: 1, KioskID: "K-1"})
	asks("no chains", client.ErrNonsense, two)
	set(http.StatusForbidden, api.CodeRenewal, nil)
	asks("refused", client.ErrNotAllowed, two)
	set(http.StatusForbidden, api.CodeNoKiosk, nil)
	asks("revoked", client.ErrNotAllowed, two)
}
