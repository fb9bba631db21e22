package vault_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"enrollkiosk/registry/internal/registrytest"
	"enrollkiosk/registry/policy"
	"enrollkiosk/registry/vault"
)

// signedBy signs the World's policy with what its vault has, and says which root did.
func signedBy(t *testing.T, w *registrytest.World, version int) (number int, hash [32]byte) {
	t.Helper()
	s := w.Sign(t, version, time.Now().Add(-time.Minute)) // pinned to the first root
	return len(s.Roots()), s.Root()
}

func rotates(t *testing.T, dir string, proposal []byte) (number int, hash [32]byte) {
	t.Helper()
	number, hash, err := vault.RotateRoot(t.Context(), dir, proposal, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if pub, err := vault.ReadPublic(dir); err != nil || pub.RootHash != hash {
		t.Errorf("public.json names another root: %v", err)
	}
	return number, hash
}

// The root key is followed by one that is made here, and that by one that is made on
// another machine. Policies are signed by the last one alone.
func TestRotateRoot(t *testing.T) {
	w := registrytest.New(t)
	dir := w.VaultDir()
	number, second := rotates(t, dir, nil)
	if number != 2 {
		t.Errorf("root %d", number)
	}
	if n, by := signedBy(t, w, 2); n != 2 || by != second {
		t.Errorf("signed by root %d", n)
	}
	w.Policy = w.Sign(t, 3, time.Now().Add(-time.Minute))

	elsewhere := filepath.Join(t.TempDir(), "next.key")
	proposal, third, err := vault.ProposeRoot(t.Context(), w.Policy.Bytes(), elsewhere, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if again, hash, err := vault.ProposeRoot(t.Context(), w.Policy.Bytes(), elsewhere, time.Now()); err != nil || hash != third || bytes.Equal(again, proposal) {
		t.Errorf("proposed again by another key: %v", err)
	}
	if n, hash := rotates(t, dir, proposal); n != 3 || hash != third {
		t.Errorf("root %d", n)
	}
	// Its key stays where it was made until it is brought here.
	if _, err := vault.SignPolicy(t.Context(), dir, filepath.Join(w.Dir, "policy.toml"), time.Now()); !errors.Is(err, vault.ErrNoRoot) {
		t.Errorf("signed without the third root: %v", err)
	}
	if err := os.Link(filepath.Join(dir, "authority-root.key"), filepath.Join(dir, "authority-root-3.key")); err != nil {
		t.Fatal(err)
	}
	if _, err := vault.SignPolicy(t.Context(), dir, filepath.Join(w.Dir, "policy.toml"), time.Now()); !errors.Is(err, vault.ErrNoRoot) {
		t.Errorf("signed by the first root in the third's name: %v", err)
	}
	if err := errors.Join(os.Remove(filepath.Join(dir, "authority-root-3.key")), os.Link(elsewhere, filepath.Join(dir, "authority-root-3.key"))); err != nil {
		t.Fatal(err)
	}
	if n, by := signedBy(t, w, 4); n != 3 || by != third {
		t.Errorf("signed by root %d", n)
	}
	// No root key gets into a backup, whichever it is.
	to, keys := filepath.Join(w.Dir, "backup"), filepath.Join(w.Dir, "keys")
	if _, err := vault.Backup(t.Context(), dir, w.Policy, to, keys, func(context.Context, io.Writer) error { return nil }, time.Now()); err != nil {
		t.Fatal(err)
	}
	if files, err := filepath.Glob(filepath.Join(w.Dir, "[bk]*", "authority-root*.key")); err != nil || len(files) > 0 {
		t.Errorf("%v, %v", files, err)
	}
	if _, err := os.Stat(filepath.Join(to, "authority-root.successions")); err != nil {
		t.Errorf("the successions are in no backup: %v", err)
	}
}

// What says no to a proposal.
func TestProposalRefused(t *testing.T) {
	w, other := registrytest.New(t), registrytest.New(t)
	dir := w.VaultDir()
	propose := func(of *registrytest.World) []byte {
		b, _, err := vault.ProposeRoot(t.Context(), of.Policy.Bytes(), filepath.Join(t.TempDir(), "next.key"), time.Now())
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	late := propose(w)
	for name, b := range map[string][]byte{"another authority's": propose(other), "nothing": {}, "altered": append(bytes.Clone(late[:len(late)-1]), late[len(late)-1]^1)} {
		if _, _, err := vault.RotateRoot(t.Context(), dir, b, time.Now()); !errors.Is(err, policy.ErrSuccession) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if n, _ := signedBy(t, w, 2); n != 1 {
		t.Errorf("refused, and root %d signs", n)
	}
	rotates(t, dir, nil)
	if _, _, err := vault.RotateRoot(t.Context(), dir, late, time.Now()); !errors.Is(err, policy.ErrSuccession) {
		t.Errorf("after a root that another has followed: %v", err)
	}
	if err := os.Remove(filepath.Join(dir, "authority-root-2.key")); err != nil {
		t.Fatal(err)
	}
	if _, _, err := vault.RotateRoot(t.Context(), dir, nil, time.Now()); !errors.Is(err, vault.ErrNoRoot) {
		t.Errorf("without the key: %v", err)
	}
	if _, _, err := vault.ProposeRoot(t.Context(), w.Policy.Bytes()[1:], filepath.Join(dir, "x.key"), time.Now()); !errors.Is(err, policy.ErrSignature) && !errors.Is(err, policy.ErrForm) {
		t.Errorf("no policy: %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "x.key")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a key was made for it: %v", err)
	}
}

// A power cut after any of the files that a rotation writes: run again, it ends with
// the one root that it began with, and until then the old one signs.
func TestRotateRootCutOff(t *testing.T) {
	w := registrytest.New(t)
	dir := w.VaultDir()
	old, err := os.ReadFile(filepath.Join(dir, "public.json"))
	if err != nil {
		t.Fatal(err)
	}
	_, hash := rotates(t, dir, nil)
	// Before public.json was written: the succession is there, so the second root signs.
	if err := os.WriteFile(filepath.Join(dir, "public.json"), old, 0o600); err != nil {
		t.Fatal(err)
	}
	if n, by := signedBy(t, w, 2); n != 2 || by != hash {
		t.Errorf("signed by root %d", n)
	}
	if n, again := rotates(t, dir, nil); n != 2 || again != hash {
		t.Errorf("run again: root %d", n)
	}
	// Before the succession was written: there is a key that nobody has heard of.
	if err := errors.Join(os.WriteFile(filepath.Join(dir, "public.json"), old, 0o600), os.Remove(filepath.Join(dir, "authority-root.successions"))); err != nil {
		t.Fatal(err)
	}
	if n, _ := signedBy(t, w, 3); n != 1 {
		t.Errorf("signed by root %d", n)
	}
	if n, again := rotates(t, dir, nil); n != 2 || again != hash {
		t.Errorf("run again: root %d, or another key", n)
	}
	// What is damaged is said, and nothing is signed.
	if err := os.WriteFile(filepath.Join(dir, "authority-root.successions"), []byte("x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := vault.SignPolicy(t.Context(), dir, filepath.Join(w.Dir, "policy.toml"), time.Now()); !errors.Is(err, policy.ErrSuccession) {
		t.Errorf("damaged: %v", err)
	}
}
