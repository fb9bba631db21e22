package registry_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"enrollkiosk/registry"
	"enrollkiosk/registry/api"
	"enrollkiosk/registry/internal/registrytest"
	"enrollkiosk/registry/policy"
	"enrollkiosk/registry/record"
	"enrollkiosk/registry/vault"
	"enrollkiosk/simulators/idcard"
)

// The authority's root key is followed by another. Registry and vault go on whichever
// of the two they pin, also with what was made under the first; and whoever has a copy
// of the first key cannot turn them round.
func TestRootRotation(t *testing.T) {
	t.Parallel()
	w := registrytest.New(t, specimenState(t).CSCA())
	k := w.Kiosk(t, "KIOSK-0001")
	third := idcard.SpecimenPerson()
	third.Number, third.GivenNames = "L898902C4", "BENGT"
	address, stopVault := serveVault(t, w, "127.0.0.1:0")
	r := serve(t, w.RegistryOptions(address)) // both know the first policy now
	r.stop()
	stopVault()
	type made struct {
		pins string
		s    record.Submission
	}
	away := []made{{"the first root", k.Make(t, registrytest.Spec{Identity: identityOf(t, idcard.SpecimenPerson())})},
		{"the second root", k.Make(t, registrytest.Spec{Identity: identityOf(t, third)})}}
	stolen := filepath.Join(t.TempDir(), "vault")
	if err := os.CopyFS(stolen, os.DirFS(w.VaultDir())); err != nil {
		t.Fatal(err)
	}
	thief := func(version int) policy.Signed {
		t.Helper()
		own, mine := w.VaultDir(), stolen
		if err := errors.Join(os.Rename(own, own+".away"), os.CopyFS(own, os.DirFS(mine))); err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := errors.Join(os.RemoveAll(own), os.Rename(own+".away", own)); err != nil {
				t.Fatal(err)
			}
		}()
		return w.Sign(t, version, time.Now().Add(-time.Minute))
	}
	number, hash, err := vault.RotateRoot(t.Context(), w.VaultDir(), nil, time.Now())
	if err != nil || number != 2 {
		t.Fatal(number, err)
	}
	w.Policy = w.Sign(t, 2, time.Now().Add(-time.Minute))
	if w.Policy.Root() != hash {
		t.Fatal("the first root signs still")
	}
	first := w.Root
	for _, a := range away {
		if a.pins == "the second root" {
			w.Root = hash
		}
		address, stopVault := serveVault(t, w, "127.0.0.1:0")
		r := serve(t, w.RegistryOptions(address))
		c := connect(t, w, r.URL, k.TLS)
		c.send(a.s)
		if got := c.until(a.s.ID(), "verdict and receipt", func(s api.RecordStatus) bool { return isDecided(s) && hasReceipt(s) }); got.Status != api.Active {
			t.Errorf("pinned to %s: made under the first policy: %+v", a.pins, got)
		}
		r.stop()
		stopVault()
	}
	w.Root = first
	refused := func(what string, p policy.Signed, want error) {
		t.Helper()
		o, v := w.RegistryOptions(noVault), w.VaultOptions()
		o.Policy, v.Policy = p, p
		if r, err := registry.Open(t.Context(), o); !errors.Is(err, want) {
			t.Errorf("%s: the registry: %v", what, err)
			if err == nil {
				r.Close()
			}
		}
		if opened, err := vault.Open(t.Context(), v); !errors.Is(err, want) {
			t.Errorf("%s: the vault: %v", what, err)
			if err == nil {
				opened.Close()
			}
		}
	}
	refused("a newer policy by the first root", thief(9), policy.ErrRollback)
	if _, _, err := vault.RotateRoot(t.Context(), stolen, nil, time.Now()); err != nil {
		t.Fatal(err)
	}
	refused("another root after the first", thief(9), policy.ErrFork)
}
