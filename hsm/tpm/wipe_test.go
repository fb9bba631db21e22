package tpm_test

import (
	"crypto/ecdsa"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"enrollkiosk/hsm/tpm"

	"github.com/google/go-tpm/tpm2"
)

// After Wipe nothing of the kiosk's is in the TPM or on disk, nothing stays loaded,
// and the next kiosk has other keys and goes on counting above the last.
func TestWipe(t *testing.T) {
	i, dir, d := initialized(t)
	if _, err := d.CreateCitizen(t.Context(), [32]byte{1}, text(rightPIN)); err != nil {
		t.Fatal(err)
	}
	record, _ := keys(t, d)
	old := record.Public()
	last, err := d.Increment(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := d.Wipe(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := d.Ready(); !errors.Is(err, tpm.ErrNotInitialized) {
			t.Errorf("keys afterwards: %v", err)
		}
		if _, err := d.Counter(t.Context()); !errors.Is(err, tpm.ErrNotInitialized) {
			t.Errorf("counter afterwards: %v", err)
		}
		if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("key files afterwards: %v", err)
		}
	}
	if err := d.Init(t.Context(), [32]byte{2}); err != nil { // another kiosk id
		t.Fatal(err)
	}
	if next, _ := keys(t, d); next.Public().(*ecdsa.PublicKey).Equal(old) {
		t.Error("the next kiosk has the same key")
	}
	if n, err := d.Counter(t.Context()); err != nil || n <= last {
		t.Errorf("counter %d after %d, %v", n, last, err)
	}
	d.Close()
	if left := loaded(t, i); len(left) > 0 {
		t.Errorf("left in the TPM: %v", left)
	}
}

// What has no counter or no key files any more, as after a power cut, is wiped as well;
// of another TPM nothing is touched.
func TestWipeAfterPowerCut(t *testing.T) {
	i, dir, d := initialized(t)
	d.Close()
	if err := os.Rename(dir, dir+".away"); err != nil {
		t.Fatal(err)
	}
	d = open(t, i, dir)
	if err := d.Wipe(t.Context()); err != nil {
		t.Fatal(err)
	}
	d.Close()
	r := raw(t, i)
	if _, err := (tpm2.NVReadPublic{NVIndex: tpm2.TPMHandle(tpm.DefaultCounter)}).Execute(r); !errors.Is(err, tpm2.TPMRCHandle) {
		t.Errorf("counter: %v", err)
	}
	if _, err := (tpm2.ReadPublic{ObjectHandle: tpm2.TPMHandle(tpm.DefaultSRK)}).Execute(r); err != nil {
		t.Errorf("the machine's storage root key: %v", err)
	}
	r.Close()
	if err := os.Rename(dir+".away", dir); err != nil {
		t.Fatal(err)
	}
	d = open(t, i, dir) // key files and no counter
	if err := d.Wipe(t.Context()); err != nil {
		t.Fatal(err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*")); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// With an owner authorization that we do not have the counter stays, and it is said.
func TestWipeOwned(t *testing.T) {
	i, dir, d := initialized(t)
	d.Close()
	r := raw(t, i)
	if _, err := (tpm2.HierarchyChangeAuth{AuthHandle: tpm2.TPMRHOwner, NewAuth: tpm2.TPM2BAuth{Buffer: []byte("theirs")}}).Execute(r); err != nil {
		t.Fatal(err)
	}
	r.Close()
	d = open(t, i, dir)
	if err := d.Wipe(t.Context()); !errors.Is(err, tpm.ErrOwned) {
		t.Errorf("%v", err)
	}
	if err := d.Ready(); !errors.Is(err, tpm.ErrNotInitialized) {
		t.Errorf("keys: %v", err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("key files: %v", err)
	}
}
