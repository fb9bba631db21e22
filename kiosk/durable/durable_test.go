package durable_test

import (
	"os"
	"path/filepath"
	"testing"

	"enrollkiosk/kiosk/durable"
)

func TestReplace(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "kept")
	for _, want := range []string{"first", "", "second, which is longer"} {
		if err := durable.Replace(file, []byte(want)); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(file)
		info, statErr := os.Stat(file)
		if err != nil || statErr != nil || string(b) != want || info.Mode().Perm() != 0o600 {
			t.Errorf("%q, %v, %v", b, err, statErr)
		}
	}
	// What cannot be done leaves everything as it was.
	if err := os.Mkdir(filepath.Join(dir, "directory"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{filepath.Join(dir, "none", "file"), filepath.Join(dir, "directory")} {
		if err := durable.Replace(bad, []byte("x")); err == nil {
			t.Errorf("%s: written", bad)
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 2 {
		t.Errorf("%v, %v", entries, err)
	}
	if err := durable.SyncDir(filepath.Join(dir, "none")); err == nil {
		t.Error("a directory that is not there is durable")
	}
}
