package station

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"enrollkiosk/kiosk"
	"enrollkiosk/registry/api"
	"enrollkiosk/registry/policy"
	"enrollkiosk/registry/receipt"
	"enrollkiosk/registry/record"
	"enrollkiosk/sync/client"
)

// lasting has the issuer's certificates valid between two times.
func (i *issuer) lasting(from, until time.Time) *issuer {
	i.root.NotBefore, i.root.NotAfter = from, until
	return i
}

// A registry answers a kiosk whose certificates are in the last third of their life.
// What is not for this kiosk's keys, good now, from an authority that the policy names
// and better than what is there is not kept; what is, is kept and used at once.
func TestRenewedCertificates(t *testing.T) {
	now := time.Now()
	ca := newIssuer(t)
	var mu sync.Mutex
	var answer api.KioskCertificates
	var shown, request []byte
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		if q.Method != http.MethodPost || q.URL.Path != api.PathRenewal || q.Header.Get("Content-Type") != api.MediaJOSE {
			t.Errorf("%s %s, %s", q.Method, q.URL.Path, q.Header.Get("Content-Type"))
		}
		shown = q.TLS.PeerCertificates[0].Raw
		request, _ = io.ReadAll(q.Body)
		w.Header().Set("Content-Type", api.MediaJSON)
		json.NewEncoder(w).Encode(answer)
	}))
	server.TLS = &tls.Config{MinVersion: tls.VersionTLS13, ClientAuth: tls.RequireAnyClientCert}
	server.StartTLS()
	t.Cleanup(server.Close)

	asked := func() (by, with []byte) {
		mu.Lock()
		defer mu.Unlock()
		by, with, shown, request = shown, request, nil, nil
		return by, with
	}
	answers := func(certs api.KioskCertificates) {
		mu.Lock()
		defer mu.Unlock()
		answer = certs
	}

	a := newAuthority(t)
	c := a.config(t)
	c.Registry.URL = server.URL
	rules, err := policy.Parse(a.sign(t, 5, func(p *policy.Policy) {
		p.KioskCA = []policy.Root{{Certificate: bytes.Clone(ca.root.Raw), Class: record.Test}}
		p.RegistryTLS = []policy.Root{{Certificate: server.Certificate().Raw, Class: record.Test}}
	}), a.root(t))
	if err != nil {
		t.Fatal(err)
	}
	put(t, c.Trust.Policy, rules.Bytes())
	c.TPM.Path = startTPM(t).Path()
	chip, err := openTPM(t.Context(), c)
	if err == nil {
		err = errors.Join(c.makeState(), chip.Init(t.Context(), api.KioskBinding(c.Kiosk.ID)))
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { chip.Close() })
	until := now.Add(20 * 24 * time.Hour).Truncate(time.Second)
	aging := ca.lasting(now.AddDate(-2, 0, 0), until).answer(t, c.Kiosk.ID, chip)
	if err := install(c, chip, a.root(t), rules, aging); err != nil {
		t.Fatal(err)
	}
	kept := func() (certs api.KioskCertificates) {
		if err := json.Unmarshal(read(t, c.in(certificatesFile)), &certs); err != nil {
			t.Fatal(err)
		}
		return certs
	}

	s := &Station{config: c, tpm: chip, log: slog.New(slog.DiscardHandler)}
	if s.clock, err = openClock(c); err != nil {
		t.Fatal(err)
	}
	if s.policies, err = openPolicies(c); err != nil {
		t.Fatal(err)
	}
	if err := s.own.use(aging); err != nil {
		t.Fatal(err)
	}
	if s.client, err = newClient(c, s.tlsCertificate(aging), s.policies, s.clock, nil, nil, nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.client.Close)
	if !slices.Equal(s.alarms(), []kiosk.Code{kiosk.CodeCertificateEnds}) {
		t.Errorf("three weeks before the end: %v", s.alarms())
	}

	fresh := ca.lasting(now.Add(-time.Hour), now.AddDate(2, 0, 0)).answer(t, c.Kiosk.ID, chip)
	with := func(edit func(*api.KioskCertificates)) api.KioskCertificates {
		bad := fresh
		edit(&bad)
		return bad
	}
	other := newIssuer(t)
	for name, bad := range map[string]struct {
		answer api.KioskCertificates
		want   error // nil: there is nothing better yet
	}{
		"another kiosk's":       {with(func(c *api.KioskCertificates) { c.KioskID = "KIOSK-0002" }), ErrCertificates},
		"another key's":         {with(func(c *api.KioskCertificates) { c.TLS = c.Record }), ErrCertificates},
		"another authority's":   {other.answer(t, c.Kiosk.ID, chip), ErrCertificates},
		"one of them altered":   {with(func(c *api.KioskCertificates) { c.Record = altered(c.Record) }), ErrCertificates},
		"not valid yet":         {ca.lasting(now.Add(time.Hour), now.AddDate(2, 0, 0)).answer(t, c.Kiosk.ID, chip), kiosk.ErrCertificate},
		"those that it has":     {aging, nil},
		"some that end earlier": {ca.lasting(now.Add(-time.Hour), until.Add(-time.Hour)).answer(t, c.Kiosk.ID, chip), nil},
		"nothing":               {api.KioskCertificates{}, client.ErrNonsense},
	} {
		answers(bad.answer)
		if got, err := s.renewNow(t.Context(), aging); !errors.Is(err, bad.want) || !got.IsZero() {
			t.Errorf("%s: until %v, %v", name, got, err)
		}
		if in, _ := s.own.now(); !reflect.DeepEqual(kept(), aging) || !reflect.DeepEqual(in, aging) {
			t.Fatalf("%s: kept or used", name)
		}
	}
	spki, err := x509.ParseCertificate(aging.Record[0])
	if err != nil {
		t.Fatal(err)
	}
	own, err := record.NewJWK(spki.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	by, sent := asked()
	if _, err := receipt.VerifyRenewal(sent, record.AcceptAny(own), c.Kiosk.ID, rules.Policy().LogOrigin, by); err != nil || !bytes.Equal(by, aging.TLS[0]) {
		t.Errorf("it asks otherwise: %v", err)
	}

	answers(fresh)
	s.renew(t.Context())
	if in, _ := s.own.now(); !reflect.DeepEqual(kept(), fresh) || !reflect.DeepEqual(in, fresh) || !reflect.DeepEqual(s.own.record(), fresh.Record) {
		t.Fatal("not kept, or not used")
	}
	if len(s.alarms()) > 0 {
		t.Errorf("renewed: %v", s.alarms())
	}
	// From now on it shows itself with the new one, and does not ask before its time.
	_, err = s.renewNow(t.Context(), fresh)
	if by, _ := asked(); err != nil || !bytes.Equal(by, fresh.TLS[0]) {
		t.Errorf("another certificate is shown: %v", err)
	}
	s.renew(t.Context())
	if by, _ := asked(); by != nil {
		t.Error("it asks before its time")
	}
}

// altered is a chain with one bit of the leaf's signature turned.
func altered(chain [][]byte) [][]byte {
	leaf := bytes.Clone(chain[0])
	leaf[len(leaf)-1] ^= 1
	return [][]byte{leaf}
}

// The log says that certificates end soon, once a day.
func TestEndIsLogged(t *testing.T) {
	var lines atomic.Int32
	s := &Station{clock: &clock{}, log: slog.New(slog.NewTextHandler(writerFunc(func(b []byte) {
		if strings.Contains(string(b), "end soon") {
			lines.Add(1)
		}
	}), nil))}
	for _, step := range []struct {
		until time.Duration
		want  int32
	}{{31 * 24 * time.Hour, 0}, {29 * 24 * time.Hour, 1}, {29 * 24 * time.Hour, 1}, {-time.Hour, 1}} {
		s.own.valid.until = time.Now().Add(step.until)
		if s.warnEnding(); lines.Load() != step.want {
			t.Errorf("%v before the end: %d lines", step.until, lines.Load())
		}
	}
	s.own.warned = s.own.warned.Add(-25 * time.Hour)
	if s.warnEnding(); lines.Load() != 2 {
		t.Errorf("a day later: %d lines", lines.Load())
	}
}

type writerFunc func([]byte)

func (f writerFunc) Write(b []byte) (int, error) { f(b); return len(b), nil }
