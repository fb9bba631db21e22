package parcel_test

import (
	"crypto"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"enrollkiosk/registry/parcel"
)

func openDrive(t testing.TB) parcel.Drive {
	t.Helper()
	d, err := parcel.OpenDrive(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func put(t testing.TB, file string, b []byte) {
	t.Helper()
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func listing(t testing.TB, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func TestOpenDriveMakesNoDirectory(t *testing.T) {
	dir := t.TempDir()
	put(t, filepath.Join(dir, "file"), nil)
	for _, name := range []string{"none", "file"} {
		if _, err := parcel.OpenDrive(filepath.Join(dir, name)); !errors.Is(err, parcel.ErrNoDrive) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if got := listing(t, dir); len(got) != 1 {
		t.Errorf("%v", got)
	}
}

func TestDriveReadsPlainFilesOnly(t *testing.T) {
	d := openDrive(t)
	name := func(n byte) string { return parcel.Name([32]byte{n}, parcel.Records) }
	at := func(n byte) string { return filepath.Join(d.Dir(), name(n)) }
	outside := filepath.Join(t.TempDir(), "outside")
	put(t, outside, []byte("secret"))
	put(t, at(0), []byte("plain"))
	made := []error{
		os.Symlink(outside, at(1)),
		os.Symlink(name(0), at(2)), // within the directory, too
		os.Mkdir(at(3), 0o755),
		syscall.Mkfifo(at(4), 0o600), // nobody writes: to open it would wait for ever
		os.Symlink("/dev/zero", at(5)),
		os.Symlink("/dev/tty", at(6)),
	}
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	made = append(made, os.Rename(l.Addr().String(), at(7)))
	if err := errors.Join(made...); err != nil {
		t.Fatal(err)
	}
	if b, err := d.Read(name(0)); err != nil || string(b) != "plain" {
		t.Errorf("%s, %v", b, err)
	}
	for n := byte(1); n <= 7; n++ {
		done := make(chan error, 1)
		go func() {
			_, err := d.Read(name(n))
			done <- err
		}()
		select {
		case err := <-done:
			if !errors.Is(err, parcel.ErrIrregular) {
				t.Errorf("%d: %v", n, err)
			}
		case <-time.After(20 * time.Second):
			t.Fatalf("%d: reading waits", n)
		}
	}
	if _, err := d.Read(name(8)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing: %v", err)
	}
	for kind, limit := range map[parcel.Kind]int64{parcel.Manifests: parcel.MaxManifest, parcel.Records: parcel.MaxFile, parcel.Receipts: parcel.MaxFile} {
		giant := parcel.Name([32]byte{9}, kind)
		put(t, filepath.Join(d.Dir(), giant), nil)
		if err := os.Truncate(filepath.Join(d.Dir(), giant), 1<<40); err != nil { // holes: it takes no room
			t.Fatal(err)
		}
		if _, err := d.Read(giant); !errors.Is(err, parcel.ErrTooBig) {
			t.Errorf("a giant %s: %v", kind, err)
		}
		if err := os.Truncate(filepath.Join(d.Dir(), giant), limit); err != nil {
			t.Fatal(err)
		}
		if b, err := d.Read(giant); err != nil || int64(len(b)) != limit {
			t.Errorf("the largest %s: %d bytes, %v", kind, len(b), err)
		}
	}
	up := filepath.Join("..", filepath.Base(filepath.Dir(outside)), "outside")
	for _, bad := range []string{"", ".", "..", outside, up, "plain", strings.ToUpper(name(0)), name(0)[1:], "0" + name(0), name(0) + ".tmp", name(0) + "/", "./" + name(0)} {
		if _, err := d.Read(bad); !errors.Is(err, parcel.ErrIrregular) {
			t.Errorf("%q is read: %v", bad, err)
		}
		if err := d.Write(bad, nil); !errors.Is(err, parcel.ErrIrregular) {
			t.Errorf("%q is written: %v", bad, err)
		}
		if err := d.Remove(bad); !errors.Is(err, parcel.ErrIrregular) {
			t.Errorf("%q is removed: %v", bad, err)
		}
	}
}

func TestNames(t *testing.T) {
	d := openDrive(t)
	a, b := parcel.Name([32]byte{1}, parcel.Records), parcel.Name([32]byte{2}, parcel.Records)
	for _, name := range []string{b, a, a + ".tmp", "README.TXT", parcel.Name([32]byte{1}, parcel.Manifests), "x" + a[1:], strings.ToUpper(a[:64]) + ".records"} {
		put(t, filepath.Join(d.Dir(), name), nil)
	}
	if got, err := d.Names(parcel.Records); err != nil || !slices.Equal(got, []string{a, b}) {
		t.Errorf("%v, %v", got, err)
	}
}

func TestWriteIsReadBack(t *testing.T) {
	d := openDrive(t)
	name := parcel.Name([32]byte{1}, parcel.Records)
	for _, b := range []string{"first", "second"} {
		if err := d.Write(name, []byte(b)); err != nil {
			t.Fatal(err)
		}
		if got, err := d.Read(name); err != nil || string(got) != b {
			t.Errorf("%s, %v", got, err)
		}
	}
	for what, spoil := range map[string]func(string){
		"a byte changed": func(f string) { put(t, f, []byte("thirb")) },
		"cut":            func(f string) { put(t, f, []byte("thi")) },
		"longer":         func(f string) { put(t, f, []byte("third ")) },
		"gone":           func(f string) { os.Remove(f) },
	} {
		err := d.Spoil(spoil).Write(name, []byte("third"))
		if err == nil || what != "gone" && !errors.Is(err, parcel.ErrDrive) {
			t.Errorf("%s: %v", what, err)
		}
		if got, err := d.Read(name); err != nil || string(got) != "second" || len(listing(t, d.Dir())) != 1 {
			t.Errorf("%s: %s, %v; %v", what, got, err, listing(t, d.Dir()))
		}
	}
}

// Links that lie in wait lead nothing out of the directory.
func TestWriteFollowsNoLink(t *testing.T) {
	d := openDrive(t)
	outside := filepath.Join(t.TempDir(), "outside")
	name := parcel.Name([32]byte{1}, parcel.Receipts)
	for _, link := range []string{name, name + ".tmp"} {
		put(t, outside, []byte("mine"))
		if err := os.Symlink(outside, filepath.Join(d.Dir(), link)); err != nil {
			t.Fatal(err)
		}
		if err := d.Write(name, []byte("receipts")); err != nil {
			t.Errorf("%s: %v", link, err)
		}
		if got, err := d.Read(name); err != nil || string(got) != "receipts" {
			t.Errorf("%s: %s, %v", link, got, err)
		}
		if b, err := os.ReadFile(outside); err != nil || string(b) != "mine" {
			t.Errorf("%s: outside is %q, %v", link, b, err)
		}
	}
	if err := os.Mkdir(filepath.Join(d.Dir(), name+".tmp"), 0o755); err != nil {
		t.Fatal(err)
	}
	put(t, filepath.Join(d.Dir(), name+".tmp", "x"), nil)
	if err := d.Write(name, []byte("again")); err == nil {
		t.Error("written over a directory")
	}
}

// accepts takes any kiosk.
func accepts(string, crypto.PublicKey) error { return nil }

func TestClear(t *testing.T) {
	s := newSender(t)
	signed, files := s.export(t, "one", "two")
	d := openDrive(t)
	m := s.verify(t, signed).Manifest()
	stray := parcel.Name([32]byte{7}, parcel.Records)
	fill := func() {
		for i, f := range m.Files {
			put(t, filepath.Join(d.Dir(), f.Name()), files[i])
		}
		for _, name := range []string{stray, stray + ".tmp", "holiday.jpg", "x.tmp", m.Files[0].ReceiptsName(), parcel.Name([32]byte{8}, parcel.Receipts)} {
			put(t, filepath.Join(d.Dir(), name), nil)
		}
	}
	fill()
	put(t, filepath.Join(d.Dir(), parcel.ManifestName(signed)), signed)
	if err := d.Clear(); err != nil {
		t.Fatal(err)
	}
	want := []string{"holiday.jpg", "x.tmp", m.Files[0].ReceiptsName(), parcel.Name([32]byte{8}, parcel.Receipts), m.Files[0].Name(), m.Files[1].Name(), parcel.ManifestName(signed)}
	slices.Sort(want)
	if got := listing(t, d.Dir()); !slices.Equal(got, want) {
		t.Errorf("left %v\nwant %v", got, want)
	}
	if _, _, err := d.Manifest(parcel.ManifestName(signed), accepts); err != nil {
		t.Error(err)
	}
	// While a manifest is unreadable nobody knows what it names.
	fill()
	put(t, filepath.Join(d.Dir(), parcel.ManifestName(signed)), signed[:len(signed)-1])
	if _, _, err := d.Manifest(parcel.ManifestName(signed), accepts); !errors.Is(err, parcel.ErrDamaged) {
		t.Errorf("a manifest that was cut: %v", err)
	}
	if err := d.Clear(); err != nil {
		t.Fatal(err)
	}
	if got := listing(t, d.Dir()); !slices.Contains(got, stray) || slices.Contains(got, stray+".tmp") {
		t.Errorf("left %v", got)
	}
}
