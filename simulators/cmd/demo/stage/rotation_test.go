package stage_test

import (
	"crypto/x509"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"enrollkiosk/kiosk"
	"enrollkiosk/kiosk/station"
	"enrollkiosk/registry"
	"enrollkiosk/registry/api"
	"enrollkiosk/registry/vault"
	"enrollkiosk/simulators/cmd/demo/stage"
	"enrollkiosk/simulators/idcard"
	"enrollkiosk/simulators/pivtoken"
)

// While a kiosk is away the authority takes another root key and the registry another
// authority over kiosks, and its certificates have come into the last third of their
// life. It comes back, by itself knows both and has new certificates, goes on without
// being started anew; and what it made before and after is delivered.
func TestRotationWhileAway(t *testing.T) {
	t.Parallel()
	s := newStage(t, func(o *stage.Options) { o.Unprovisioned = true })
	do := func(steps ...func() error) {
		t.Helper()
		for _, f := range steps {
			if err := f(); err != nil {
				t.Fatal(err)
			}
		}
	}
	do(func() error { return s.StartRegistry(t.Context()) })
	code, err := s.NewCode(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var approval error
	if _, err := station.Provision(t.Context(), s.Config, station.ProvisionOptions{Code: code, Wait: time.Minute, Progress: func(step station.ProvisionStep, fingerprint string) {
		if step == station.StepWait {
			_, approval = s.Kiosks().Approve(t.Context(), stage.KioskID, fingerprint, time.Now().AddDate(0, 0, -600))
		}
	}}); err != nil || approval != nil {
		t.Fatal(err, approval)
	}
	do(s.StopRegistry, func() error { return s.StartKiosk(t.Context()) })
	certificates := func() (c api.KioskCertificates) {
		b, err := os.ReadFile(filepath.Join(s.Config.Kiosk.State, "certificates.json"))
		if err == nil {
			err = json.Unmarshal(b, &c)
		}
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	before := certificates()
	if r := arrive(t, s, idcard.Options{}, pivtoken.Options{}).meet(); r.Final != "" {
		t.Fatal("delivered without a registry")
	}
	health(t, s, "keeping the record", func(h kiosk.Health) bool { return h.Queued == 1 })

	first := s.Policy
	if _, _, err := vault.RotateRoot(t.Context(), filepath.Join(s.Dir, "vault"), nil, time.Now()); err != nil {
		t.Fatal(err)
	}
	keys, err := registry.RotateKioskCA(filepath.Join(s.Dir, "registry"), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if err := s.SignPolicy(t.Context(), func(text string) string { return strings.Replace(text, "version = 1", "version = 2", 1) }); err != nil {
		t.Fatal(err)
	}
	if s.Policy.Root() == first.Root() || len(s.Policy.Policy().KioskCA) != 2 {
		t.Fatal("nothing was rotated")
	}
	do(func() error { return s.StartVault(t.Context()) }, func() error { return s.StartRegistry(t.Context()) })
	health(t, s, "delivered", func(h kiosk.Health) bool { return h.Queued == 0 && h.Registry && len(h.Alarms) == 0 })
	pool := x509.NewCertPool()
	ca, err := x509.ParseCertificate(keys.KioskCA)
	if err != nil {
		t.Fatal(err)
	}
	pool.AddCert(ca)
	renewed := func() bool {
		leaf, err := x509.ParseCertificate(certificates().TLS[0])
		if err == nil {
			_, err = leaf.Verify(x509.VerifyOptions{Roots: pool, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
		}
		return err == nil
	}
	for deadline := time.Now().Add(3 * time.Minute); !renewed(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("not renewed")
		}
	}
	if end, err := before.End(); err != nil {
		t.Fatal(err)
	} else if now, err := certificates().End(); err != nil || !now.After(end.AddDate(0, 0, 500)) {
		t.Errorf("until %v, then %v: %v", end, now, err)
	}
	works(t, s)
	if p, err := station.Policy(s.Config); err != nil || p.Version != 2 {
		t.Errorf("version %d: %v", p.Version, err)
	}
	// After a restart all is as it was, under the root that was pinned first.
	do(s.StopKiosk, func() error { return s.StartKiosk(t.Context()) })
	works(t, s)

	// Neither registry nor vault goes back to the first root's policy.
	do(s.StopKiosk, s.StopRegistry, s.StopVault)
	s.Policy = first
	if err := s.StartRegistry(t.Context()); err == nil {
		t.Error("the registry goes back to the first root")
	}
	if err := s.StartVault(t.Context()); err == nil {
		t.Error("the vault goes back to the first root")
	}
}
