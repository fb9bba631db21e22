package client_test

import (
	"crypto/tls"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"enrollkiosk/registry/api"
	"enrollkiosk/registry/policy"
	"enrollkiosk/sync/client"
)

// newcomer is a kiosk that knows a registry's key and nothing else.
func newcomer(t *testing.T, url string, pin [16]byte) *client.Client {
	t.Helper()
	c, err := client.New(client.Options{URL: url, Pin: &pin, Policy: func() (policy.Signed, error) {
		t.Error("asked for a policy")
		return policy.Signed{}, errors.New("none")
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// A kiosk without a policy speaks to the pinned key and to no other, and reads
// only answers of the contract.
func TestProvisioning(t *testing.T) {
	var answer atomic.Pointer[func(http.ResponseWriter)]
	var asked atomic.Int32
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		(*answer.Load())(w)
	}))
	s.TLS = &tls.Config{MinVersion: tls.VersionTLS13}
	s.StartTLS()
	t.Cleanup(s.Close)
	hash := api.KeyHash(s.Certificate().RawSubjectPublicKeyInfo)
	pin := [16]byte(hash[:16])
	say := func(status int, media string, v any) {
		f := func(w http.ResponseWriter) {
			w.Header().Set("Content-Type", media)
			w.WriteHeader(status)
			json.NewEncoder(w).Encode(v)
		}
		answer.Store(&f)
	}
	begin := api.ProvisionBegin{Version: 1, KioskID: "K-1", Secret: make([]byte, 16), Endorsements: make([]api.Endorsement, 2)}
	good := api.ProvisionChallenge{Session: api.ID{1}, Endorsement: 1, Blob: []byte{1}, Encrypted: []byte{1}, Nonce: make([]byte, 32)}

	for i := range pin {
		wrong := pin
		wrong[i] ^= 1
		if _, err := newcomer(t, s.URL, wrong).BeginProvisioning(t.Context(), begin); !errors.Is(err, client.ErrTLS) || asked.Load() != 0 {
			t.Fatalf("byte %d of the pin: %v, %d requests", i, err, asked.Load())
		}
	}
	c := newcomer(t, s.URL, pin)
	say(http.StatusOK, api.MediaJSON, good)
	if got, err := c.BeginProvisioning(t.Context(), begin); err != nil || got.Session != good.Session || got.Endorsement != 1 {
		t.Errorf("%+v, %v", got, err)
	}
	for name, edit := range map[string]func(*api.ProvisionChallenge){
		"a key that was not offered": func(c *api.ProvisionChallenge) { c.Endorsement = 2 },
		"a negative one":             func(c *api.ProvisionChallenge) { c.Endorsement = -1 },
		"no nonce":                   func(c *api.ProvisionChallenge) { c.Nonce = nil },
		"no credential":              func(c *api.ProvisionChallenge) { c.Blob = nil },
	} {
		bad := good
		edit(&bad)
		say(http.StatusOK, api.MediaJSON, bad)
		if _, err := c.BeginProvisioning(t.Context(), begin); !errors.Is(err, client.ErrNonsense) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, bad := range map[string]any{"approved with nothing": api.ProvisionStatus{Status: api.Approved}, "another status": api.ProvisionStatus{Status: api.Active},
		"certificates before approval": api.ProvisionStatus{Status: api.Waiting, Certificates: &api.KioskCertificates{}}, "nothing": nil} {
		say(http.StatusOK, api.MediaJSON, bad)
		_, proving := c.ProveProvisioning(t.Context(), api.ProvisionProof{Secret: []byte{1}})
		if _, err := c.Provisioned(t.Context(), api.ID{1}); !errors.Is(err, client.ErrNonsense) || !errors.Is(proving, client.ErrNonsense) {
			t.Errorf("%s: %v, %v", name, err, proving)
		}
	}
	for code, status := range map[string]int{api.CodeProvisionCode: 403, api.CodeProvisionOtherTPM: 409, api.CodeProvisionRevoked: 403, api.CodeProvisionEK: 403,
		api.CodeProvisionAttestation: 403, api.CodeProvisionSession: 404, api.CodeProvisionRejected: 403, "provision-unheard-of": 403} {
		p := api.NewProblem(status, code, "no")
		p.Refused = "nonce"
		say(status, api.MediaProblem, p)
		_, err := c.BeginProvisioning(t.Context(), begin)
		var refused *client.ProvisionRefused
		if !errors.As(err, &refused) || refused.Code != code || refused.Check != "nonce" || !strings.Contains(err.Error(), code) || len(err.Error()) < 60 {
			t.Errorf("%s: %v", code, err)
		}
	}
}
