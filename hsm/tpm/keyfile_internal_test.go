package tpm

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"
)

// specimen is a key file that a swtpm made: "record" or "citizen".
func specimen(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile("testdata/" + name + ".tss2.pem")
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestKeyFileRoundTrip(t *testing.T) {
	for _, name := range []string{"record", "citizen"} {
		b, err := decodeBlob(specimen(t, name))
		if err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		if err := b.store(dir, "k"); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(filepath.Join(dir, "k"))
		if err != nil || !bytes.Equal(text, specimen(t, name)) {
			t.Errorf("%s: another file, %v", name, err)
		}
		if entries, _ := os.ReadDir(dir); len(entries) != 1 {
			t.Errorf("%s: %d files", name, len(entries))
		}
		if (b.salt != nil) != (name == "citizen") {
			t.Errorf("%s: salt %x", name, b.salt)
		}
	}
}

// TestTriesFile goes through all files of two bytes.
func TestTriesFile(t *testing.T) {
	counts := map[int]int{}
	for i := range 1 << 16 {
		if n, ok := parseTries([]byte{byte(i >> 8), byte(i)}); ok {
			counts[n]++
		}
	}
	for n := range MaxTries + 1 {
		if counts[n] != 1 {
			t.Errorf("%d files say %d", counts[n], n)
		}
	}
	if len(counts) != MaxTries+1 {
		t.Errorf("counts %v", counts)
	}
}

func TestDamagedKeyFile(t *testing.T) {
	good, citizen := specimen(t, "record"), specimen(t, "citizen")
	salt := citizen[bytes.Index(citizen, []byte("-----BEGIN "+saltBlock)):]
	second := bytes.Index(good, []byte("-----BEGIN "+creationBlock))
	for name, text := range map[string][]byte{
		"empty":            {},
		"first block only": good[:second],
		"blocks swapped":   append(bytes.Clone(good[second:]), good[:second]...),
		"a third block":    append(bytes.Clone(good), good[:second]...),
		"a salt too many":  append(bytes.Clone(good), salt...),
		"two salts":        append(bytes.Clone(citizen), salt...),
		"no salt":          citizen[:len(citizen)-len(salt)],
		"cut":              good[:len(good)-40],
		"too long":         append(bytes.Clone(good), bytes.Repeat([]byte{'\n'}, maxKeyFile)...),
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "k"), text, 0o600); err != nil {
			t.Fatal(err)
		}
		if b, err := load(dir, "k"); !errors.Is(err, ErrKeyFile) || b != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if b, err := load(t.TempDir(), "k"); b != nil || err != nil {
		t.Errorf("no file: %v, %v", b, err)
	}
}

func FuzzKeyFile(f *testing.F) {
	f.Add(specimen(f, "record"))
	f.Add(specimen(f, "citizen"))
	f.Fuzz(func(t *testing.T, text []byte) {
		b, err := decodeBlob(text)
		if err != nil {
			if !errors.Is(err, ErrKeyFile) {
				t.Fatalf("untyped: %v", err)
			}
			return
		}
		again, err := b.encode()
		if err != nil {
			t.Fatal(err)
		}
		if c, err := decodeBlob(again); err != nil || !bytes.Equal(c.name, b.name) || !bytes.Equal(c.salt, b.salt) {
			t.Fatalf("reads back as another key: %v", err)
		}
	})
}

// FuzzResponse feeds what a device says in pieces of any size.
func FuzzResponse(f *testing.F) {
	f.Add([]byte{0x80, 1, 0, 0, 0, 10, 0, 0, 0, 0}, 10)
	f.Add([]byte{0x80, 2, 0, 0, 0, 12, 0, 0, 0, 0, 1, 2}, 3)
	f.Add([]byte{0x80, 2, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0}, 1)
	f.Add([]byte{}, 1)
	f.Fuzz(func(t *testing.T, b []byte, piece int) {
		got, err := readResponse(&pieces{b, max(piece, 1)})
		if err == nil && (!bytes.HasPrefix(b, got) || len(got) < headerSize || len(got) > maxSize) {
			t.Fatalf("%x from %x", got, b)
		}
	})
}

// answering is a device that says one thing.
type answering []byte

func (a answering) exchange(context.Context, []byte) ([]byte, error) {
	return readResponse(bytes.NewReader(a))
}
func (answering) Close() error { return nil }

// FuzzDictionaryAttack feeds answers to the one command that is ours to
// marshal. With a password for authorization exactly one is a success.
func FuzzDictionaryAttack(f *testing.F) {
	ok := []byte{0x80, 2, 0, 0, 0, 19, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0}
	f.Add(ok)
	f.Add([]byte{0x80, 1, 0, 0, 0, 10, 0, 0, 9, 0x21})
	f.Fuzz(func(t *testing.T, b []byte) {
		r := &runner{ctx: t.Context(), device: answering(b), timeout: 50 * time.Millisecond}
		err := setDictionaryAttack(r, tpm2.PasswordAuth(nil), protection)
		if (err == nil) != bytes.Equal(b, ok) {
			t.Fatalf("%x: %v", b, err)
		}
	})
}

type pieces struct {
	b    []byte
	size int
}

func (p *pieces) Read(out []byte) (int, error) {
	if len(p.b) == 0 {
		return 0, io.EOF
	}
	n := copy(out[:min(len(out), p.size)], p.b)
	p.b = p.b[n:]
	return n, nil
}
