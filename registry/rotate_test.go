package registry_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"enrollkiosk/registry"
	"enrollkiosk/registry/api"
	"enrollkiosk/registry/internal/keyfile"
	"enrollkiosk/registry/internal/registrytest"
	"enrollkiosk/registry/receipt"
	"enrollkiosk/registry/record"
	"enrollkiosk/registry/vault"
	"enrollkiosk/simulators/idcard"
)

// All keys that can be rotated are, while a kiosk is away. What the old keys signed
// and sealed still counts, the kiosk delivers under the policy that it knows, and
// what comes from now on is by the new keys.
func TestRotation(t *testing.T) {
	w := registrytest.New(t, specimenState(t).CSCA())
	one, away := w.Kiosk(t, "KIOSK-0001"), w.Kiosk(t, "KIOSK-0002")
	another := idcard.SpecimenPerson()
	another.Number, another.GivenNames = "L898902C4", "BENGT"
	third := idcard.SpecimenPerson()
	third.Number, third.GivenNames = "L898902C5", "CARIN"
	address, stopVault := serveVault(t, w, "127.0.0.1:0")
	r := serve(t, w.RegistryOptions(address))
	c := connect(t, w, r.URL, one.TLS)
	before := one.Make(t, registrytest.Spec{Identity: identityOf(t, idcard.SpecimenPerson())})
	c.send(before)
	old := c.until(before.ID(), "verdict and receipt", func(s api.RecordStatus) bool { return isDecided(s) && hasReceipt(s) })
	offline := away.Make(t, registrytest.Spec{Identity: identityOf(t, another)}) // made, not sent
	first := w.Policy
	oldTLS := w.TLS(t, away.TLS)
	oldCertificate := serverOf(t, r.URL, oldTLS)
	r.stop()
	stopVault()

	_, e1 := registry.RotateVerdict(w.RegistryDir())
	_, e2 := registry.RotateTLSRoot(w.RegistryDir(), time.Now())
	_, e3 := vault.RotateIdentity(w.VaultDir())
	_, e4 := vault.RotateVerdict(w.VaultDir())
	if err := errors.Join(e1, e2, e3, e4, registry.RotateTLS(w.RegistryDir(), first, []string{"registry.example"}, time.Now()),
		vault.RotateTLS(w.VaultDir(), nil, time.Now())); err != nil {
		t.Fatal(err)
	}
	// Until a policy names the new keys, the old ones are used.
	address, stopVault = serveVault(t, w, "127.0.0.1:0")
	r = serve(t, w.RegistryOptions(address))
	c = connect(t, w, r.URL, one.TLS)
	c.rejected(w, item(one.Make(t, registrytest.Spec{Context: func(c *record.Context) { c.Sequence = 1 }})), api.CodeFork)
	r.stop()
	stopVault()

	w.Policy = w.Sign(t, 2, time.Now().Add(-time.Minute))
	p, q := first.Policy(), w.Policy.Policy()
	if q.Authority.ID == p.Authority.ID || len(q.VerdictKeys.Registry) != 2 || len(q.VerdictKeys.Vault) != 2 || len(q.RegistryTLS) != 2 {
		t.Fatalf("the new policy names %s, %d and %d verdict keys, %d roots", q.Authority.ID, len(q.VerdictKeys.Registry), len(q.VerdictKeys.Vault), len(q.RegistryTLS))
	}
	address, _ = serveVault(t, w, "127.0.0.1:0")
	r = serve(t, w.RegistryOptions(address))
	if now := serverOf(t, r.URL, oldTLS); bytes.Equal(now.RawSubjectPublicKeyInfo, oldCertificate.RawSubjectPublicKeyInfo) || now.VerifyHostname("registry.example") != nil {
		t.Error("the TLS key is the old one, or the new certificate lacks a host")
	}

	// The kiosk that was away knows the old root and the old policy alone.
	transport := &http.Transport{TLSClientConfig: oldTLS}
	defer transport.CloseIdleConnections()
	late := client{t, r.URL, &http.Client{Transport: watched{transport, theContract(t)}}}
	late.send(offline)
	got := late.until(offline.ID(), "verdict and receipt", func(s api.RecordStatus) bool { return isDecided(s) && hasReceipt(s) })
	if got.Status != api.Active {
		t.Errorf("sealed to the old key: %+v", got)
	}
	if _, err := receipt.VerifyVerdict([]byte(got.Verdict), p.VerdictKeys.Registry, p.VerdictKeys.Vault, offline.ID()); !errors.Is(err, receipt.ErrSignature) {
		t.Errorf("the old key signs still: %v", err)
	}
	if _, err := receipt.VerifyVerdict([]byte(got.Verdict), q.VerdictKeys.Registry, q.VerdictKeys.Vault, offline.ID()); err != nil {
		t.Errorf("the new key's verdict: %v", err)
	}
	// With the policy that it fetches now it believes both.
	if _, b := late.do(http.MethodGet, api.PathPolicy, "", nil); !bytes.Equal(b, w.Policy.Bytes()) {
		t.Error("another policy is handed out")
	}
	if _, err := receipt.VerifyVerdict([]byte(old.Verdict), q.VerdictKeys.Registry, q.VerdictKeys.Vault, before.ID()); err != nil {
		t.Errorf("a verdict of before: %v", err)
	}
	if _, err := receipt.Verify([]byte(old.Receipt), q.Log(), before.ID()); err != nil {
		t.Errorf("a receipt of before: %v", err)
	}
	c = connect(t, w, r.URL, one.TLS)
	if again, err := c.record(before.ID()); err != nil || again != old {
		t.Errorf("a record of before: %+v, %v", again, err)
	}

	// New records are sealed to the new key, and found to be the same persons.
	w.Rotated(t)
	for _, n := range []struct {
		person idcard.Person
		want   api.Status
	}{{third, api.Active}, {another, api.Refused}} {
		s := one.Make(t, registrytest.Spec{Identity: identityOf(t, n.person)})
		if id := s.Record().Payload().Identity.Key; id != q.Authority.ID {
			t.Fatalf("sealed to %s", id)
		}
		c.send(s)
		if got := c.until(s.ID(), "verdict", isDecided); got.Status != n.want {
			t.Errorf("%s: %+v", n.person.GivenNames, got)
		}
	}
	c.rejected(w, item(one.Make(t, registrytest.Spec{Context: func(c *record.Context) { c.Sequence = 1 }})), api.CodeFork)
	if _, err := receipt.VerifyTime(timeOf(c), p.VerdictKeys.Registry, registrytest.Origin); !errors.Is(err, receipt.ErrSignature) {
		t.Errorf("the old key signs times still: %v", err)
	}

	// The next certificate is under the new root as soon as no kiosk can be without it.
	roots := x509.NewCertPool()
	c2, err := x509.ParseCertificate(q.RegistryTLS[0].Certificate)
	if err != nil {
		t.Fatal(err)
	}
	roots.AddCert(c2)
	for _, step := range []struct {
		days int
		want bool
	}{{1, false}, {31, true}} {
		now := time.Now().AddDate(0, 0, step.days)
		if err := registry.RotateTLS(w.RegistryDir(), w.Policy, nil, now); err != nil {
			t.Fatal(err)
		}
		leaf, err := keyfile.ReadCertificate(w.RegistryDir() + "/" + keyfile.Latest(w.RegistryDir(), "server") + ".crt")
		if err != nil {
			t.Fatal(err)
		}
		_, err = leaf.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: now, DNSName: "registry.example"})
		if (err == nil) != step.want {
			t.Errorf("after %d days: under the new root: %v", step.days, err)
		}
	}
}

func timeOf(c client) []byte {
	_, b := c.do(http.MethodGet, api.PathTime, "", nil)
	return b
}

func serverOf(t *testing.T, url string, config *tls.Config) *x509.Certificate {
	t.Helper()
	c, err := tls.Dial("tcp", strings.TrimPrefix(url, "https://"), config)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	return c.ConnectionState().PeerCertificates[0]
}
