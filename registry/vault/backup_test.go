package vault_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"enrollkiosk/registry/api"
	"enrollkiosk/registry/internal/backup"
	"enrollkiosk/registry/internal/keyfile"
	"enrollkiosk/registry/internal/registrytest"
	"enrollkiosk/registry/receipt"
	"enrollkiosk/registry/vault"
	"enrollkiosk/simulators/idcard"
)

// A vault is backed up while it serves, is lost, and is put back: it gives the
// same verdict, knows the person again, and opens what was sealed to its key.
func TestBackupAndRestore(t *testing.T) {
	w := registrytest.New(t, state(t).CSCA())
	k := w.Kiosk(t, "KIOSK-0001")
	v := open(t, w.VaultOptions())
	one := k.Make(t, registrytest.Spec{Identity: identityOf(t, card(t, idcard.SpecimenPerson(), idcard.Options{}), nil)})
	verdict, err := v.Judge(t.Context(), one.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	root, err := os.ReadFile(filepath.Join(w.VaultDir(), "authority-root.key"))
	if err != nil {
		t.Fatal(err)
	}
	to, keys := filepath.Join(w.Dir, "backup"), filepath.Join(w.Dir, "keys")
	if _, err := vault.Backup(t.Context(), w.VaultDir(), w.Policy, to, keys, v.Snapshot, time.Now()); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(v.Close(), os.RemoveAll(w.VaultDir())); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{to, keys} {
		err := filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
			if err != nil || info.IsDir() {
				return err
			}
			b, err := os.ReadFile(path)
			if bytes.Contains(b, root) || filepath.Base(path) == "authority-root.key" {
				t.Errorf("the root key is in %s", path)
			}
			if info.Mode().Perm() != 0o600 {
				t.Errorf("%s can be read by others: %v", path, info.Mode())
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}

	// Keys of another vault, and a manifest that another vault signed.
	other := registrytest.New(t)
	if err := vault.Restore(t.Context(), to, other.VaultDir(), w.VaultDir(), w.Policy, time.Now()); !errors.Is(err, backup.ErrKeys) {
		t.Errorf("another vault's keys: %v", err)
	}
	if err := vault.Restore(t.Context(), to, keys, w.VaultDir(), other.Policy, time.Now()); !errors.Is(err, backup.ErrSigner) {
		t.Errorf("under another authority: %v", err)
	}
	for _, name := range []string{"vault.db", "public.json", "manifest.jws"} {
		file := filepath.Join(to, name)
		good, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		bad := bytes.Clone(good)
		bad[len(bad)/2] ^= 1
		if err := os.WriteFile(file, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := vault.Restore(t.Context(), to, keys, w.VaultDir(), w.Policy, time.Now()); err == nil {
			t.Fatalf("%s damaged: not noticed", name)
		}
		if err := os.WriteFile(file, good, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := vault.Restore(t.Context(), to, keys, w.VaultDir(), w.Policy, time.Now()); err != nil {
		t.Fatal(err)
	}
	if err := vault.Restore(t.Context(), to, keys, w.VaultDir(), w.Policy, time.Now()); !errors.Is(err, keyfile.ErrExists) {
		t.Errorf("over a vault that is there: %v", err)
	}

	v = open(t, w.VaultOptions())
	level(t, v, 0, nil)
	if again, err := v.Judge(t.Context(), one.Bytes()); err != nil || !bytes.Equal(again, verdict) {
		t.Errorf("another verdict than before: %v", err)
	}
	twice := k.Make(t, registrytest.Spec{Identity: identityOf(t, card(t, idcard.SpecimenPerson(), idcard.Options{}), nil)})
	if got := judged(t, w, v, twice); got.Status != receipt.Refused || got.Code != api.CodeReview {
		t.Errorf("the same person under another key: %+v", got)
	}
}
