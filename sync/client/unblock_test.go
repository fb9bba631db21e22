package client_test

import (
	"crypto/x509"
	"encoding/json"
	"errors"
	"math/big"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"enrollkiosk/kiosk/secret"
	"enrollkiosk/registry/api"
	"enrollkiosk/registry/record"
	"enrollkiosk/sync/client"
	"enrollkiosk/sync/internal/testregistry"
)

// unblock is a request whose certificates nobody looks at here.
func unblock(t *testing.T, r *testregistry.Registry) record.Unblock {
	t.Helper()
	p := r.Policy.Policy()
	holder, officer, kiosk := testregistry.NewDevice(), testregistry.NewDevice(), testregistry.NewDevice()
	did, err := record.DIDKey(holder.Public())
	if err != nil {
		t.Fatal(err)
	}
	chain := func(k testregistry.Device) [][]byte {
		c := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now(), NotAfter: time.Now().Add(time.Hour)}
		der, err := x509.CreateCertificate(nil, c, c, k.Public(), k.PrivateKey)
		if err != nil {
			t.Fatal(err)
		}
		return [][]byte{der}
	}
	c := record.UnblockContext{Version: record.Version, Audience: testregistry.Origin, KioskID: "KIOSK-0001", DID: did, Serial: 1, Time: time.Now().UTC().Truncate(time.Second),
		Nonce: [32]byte{1}, PolicyDigest: r.Policy.Digest(), AuthorityKeyID: p.Authority.ID, EKNames: [][]byte{make([]byte, 34)}, AKName: make([]byte, 34)}
	officers, kiosks := chain(officer), chain(kiosk)
	d, err := record.NewUnblock(c, p.Authority, record.TokenAdmin{PUK: secret.FromString("77123456"), ManagementKey: secret.New(make([]byte, 24))}, officers, kiosks)
	if err == nil {
		err = d.Sign(t.Context(), record.Desk, officer, officers)
	}
	if err == nil {
		err = d.Sign(t.Context(), record.Kiosk, kiosk, kiosks)
	}
	if err != nil {
		t.Fatal(err)
	}
	u, err := d.Unblock()
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// An answer is believed when the vault signed it for this request; a refusal says
// what the officer can do.
func TestUnblock(t *testing.T) {
	r := testregistry.New(t, nil)
	c := connect(t, r, nil)
	u := unblock(t, r)
	good := record.UnblockAnswer{Request: u.ID(), Time: time.Now().UTC().Truncate(time.Second), EKName: make([]byte, 34), Blob: []byte{1}, Encrypted: []byte{2}, Ciphertext: []byte{3}}
	answers := func(media string, status int, b []byte) {
		r.Unblock = func(got []byte) (string, int, []byte) {
			if string(got) != string(u.Bytes()) {
				t.Error("another request arrived")
			}
			return media, status, b
		}
	}
	answers(api.MediaJOSE, http.StatusOK, r.Answer(good, true))
	if a, err := c.Unblock(t.Context(), u); err != nil || a.Request != u.ID() || string(a.Ciphertext) != "\x03" {
		t.Errorf("%+v, %v", a, err)
	}
	other := good
	other.Request[0] ^= 1
	for name, b := range map[string][]byte{"the registry's own": r.Answer(good, false), "to another request": r.Answer(other, true), "none": nil, "a page": []byte("sign in")} {
		answers(api.MediaJOSE, http.StatusOK, b)
		if _, err := c.Unblock(t.Context(), u); !errors.Is(err, client.ErrNonsense) {
			t.Errorf("%s: %v", name, err)
		}
	}
	problem := func(status int, code string) {
		b, err := json.Marshal(api.NewProblem(status, code, "no"))
		if err != nil {
			t.Fatal(err)
		}
		answers(api.MediaProblem, status, b)
	}
	var refused *client.UnblockRefused
	general := (&client.UnblockRefused{Code: "vault-new"}).Error()
	for _, code := range refusals(t) {
		problem(http.StatusForbidden, code)
		if _, err := c.Unblock(t.Context(), u); !errors.As(err, &refused) || refused.Code != code || code != record.CodeAudience && strings.HasSuffix(general, strings.TrimPrefix(err.Error(), "unblock: "+code)) {
			t.Errorf("%s: %v", code, err)
		}
	}
	problem(http.StatusForbidden, api.CodeNoKiosk)
	if _, err := c.Unblock(t.Context(), u); !errors.Is(err, client.ErrNotAllowed) {
		t.Errorf("no kiosk: %v", err)
	}
	var again *client.RetryAfter
	problem(http.StatusServiceUnavailable, api.CodeUnavailable)
	if _, err := c.Unblock(t.Context(), u); !errors.As(err, &again) {
		t.Errorf("the vault is away: %v", err)
	}
}

// refusals are the codes with which the contract says that a token is not unblocked.
func refusals(t *testing.T) (codes []string) {
	t.Helper()
	b, err := os.ReadFile("../../docs/openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	_, list, _ := strings.Cut(string(b), "provision-rejected,")
	list, _, _ = strings.Cut(list, "]")
	for code := range strings.FieldsFuncSeq(list, func(r rune) bool { return r == ',' || r == ' ' || r == '\n' }) {
		if code != api.CodeUnknownPolicy && code != api.CodeBehind { // 503
			codes = append(codes, code)
		}
	}
	if len(codes) < 12 {
		t.Fatalf("%v", codes)
	}
	return codes
}
