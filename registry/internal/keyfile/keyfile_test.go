package keyfile_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"enrollkiosk/kiosk/secret"
	"enrollkiosk/registry/internal/keyfile"
)

func TestKey(t *testing.T) {
	file := filepath.Join(t.TempDir(), "a.key")
	made, err := keyfile.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	read, err := keyfile.Read(file)
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256([]byte("text"))
	signature, err := read.Sign(t.Context(), digest[:])
	if err != nil || !ecdsa.VerifyASN1(made.Public().(*ecdsa.PublicKey), digest[:], signature) {
		t.Errorf("what was read is not what was made: %v", err)
	}
	if _, err := keyfile.Create(file); !errors.Is(err, os.ErrExist) {
		t.Errorf("made over: %v", err)
	}
	if again, err := keyfile.Read(file); err != nil || !again.Public().(*ecdsa.PublicKey).Equal(made.Public()) {
		t.Errorf("another key now: %v", err)
	}
	for _, bad := range []string{"", "no PEM", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"} {
		if err := os.WriteFile(file, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := keyfile.Read(file); err == nil {
			t.Errorf("read a key from %q", bad)
		}
	}
}

// A key does not print, wherever it stands.
func TestKeyNeverPrints(t *testing.T) {
	k, err := keyfile.Create(filepath.Join(t.TempDir(), "a.key"))
	if err != nil {
		t.Fatal(err)
	}
	var logged bytes.Buffer
	slog.New(slog.NewTextHandler(&logged, nil)).Info("x", "key", k)
	seen := logged.String()
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		seen += fmt.Sprintf(verb, k) + fmt.Sprintf(verb, &k)
		if inside := fmt.Sprintf(verb, struct{ k keyfile.Key }{k}); len(inside) > 100 {
			t.Errorf("%s of an unexported field: %s", verb, inside)
		}
	}
	if rest := strings.ReplaceAll(seen, secret.Redacted, ""); len(rest) > 120 {
		t.Errorf("printed: %s", rest)
	}
	if b, err := json.Marshal(k); !errors.Is(err, secret.ErrMarshal) {
		t.Errorf("marshalled: %s", b)
	}
}

// A directory is made whole or not at all, and not over another.
func TestNewDir(t *testing.T) {
	parent := t.TempDir()
	dir := filepath.Join(parent, "made")
	fails := errors.New("fails")
	if err := keyfile.NewDir(dir, func(dir string) error {
		if err := keyfile.WriteNew(filepath.Join(dir, "half"), []byte("x"), 0o600); err != nil {
			return err
		}
		return fails
	}); !errors.Is(err, fails) {
		t.Error(err)
	}
	if left, err := os.ReadDir(parent); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	fill := func(dir string) error { return keyfile.WriteNew(filepath.Join(dir, "file"), []byte("x"), 0o600) }
	if err := os.Mkdir(dir, 0o755); err != nil { // an empty one may be there
		t.Fatal(err)
	}
	if err := keyfile.NewDir(dir+"/", fill); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if err := keyfile.NewDir(dir, fill); !errors.Is(err, keyfile.ErrExists) {
		t.Errorf("made over: %v", err)
	}
}
