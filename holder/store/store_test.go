package store_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"enrollkiosk/holder/store"
)

const person, name = "https://id.example/vct/real-person/1", "https://id.example/vct/legal-name/1"

var (
	now     = time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	expires = now.AddDate(0, 0, 30)
	token   = [16]byte{1, 2, 3}
	key     = bytes.Repeat([]byte{7}, 32)
)

func open(t testing.TB, file string) *store.Store {
	t.Helper()
	s, err := store.Open(file, token, key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// collected is a store with n unused credentials of one type.
func collected(t testing.TB, file string, n int) *store.Store {
	t.Helper()
	s := open(t, file)
	collect(t, s, person, n)
	return s
}

func collect(t testing.TB, s *store.Store, vct string, n int) {
	t.Helper()
	indices, err := s.Reserve(n)
	if err != nil {
		t.Fatal(err)
	}
	var batch []store.Entry
	for _, i := range indices {
		batch = append(batch, store.Entry{Index: i, Type: vct, Credential: fmt.Sprintf("credential %d~", i), Expires: expires})
	}
	if err := s.Keep(batch); err != nil {
		t.Fatal(err)
	}
}

func assign(t testing.TB, s *store.Store, site, vct string) store.Entry {
	t.Helper()
	e, err := s.Assign(site, vct, now)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// One website has one index for ever, no two have the same, and all of it is on the
// disk at once: each step opens the file anew.
func TestAnIndexIsOneWebsites(t *testing.T) {
	file := filepath.Join(t.TempDir(), "s")
	collected(t, file, 10)
	seen := map[uint64]string{}
	for i := range 10 {
		site := fmt.Sprintf("site-%d.example", i)
		e := assign(t, open(t, file), site, person)
		if other, taken := seen[e.Index]; taken {
			t.Fatalf("index %d of %s and %s", e.Index, other, site)
		}
		seen[e.Index] = site
		if again := assign(t, open(t, file), site, person); again != e {
			t.Errorf("%s: %+v, then %+v", site, e, again)
		}
	}
	s := open(t, file)
	if _, err := s.Assign("eleventh.example", person, now); !errors.Is(err, store.ErrNoneLeft) {
		t.Errorf("the eleventh website: %v", err)
	}
	if _, err := s.Assign("site-1.example", name, now); !errors.Is(err, store.ErrNoneLeft) {
		t.Errorf("another type: %v", err)
	}
	if err := s.Forget("site-3.example"); err != nil {
		t.Fatal(err)
	}
	if err := s.Forget("site-3.example"); !errors.Is(err, store.ErrUnknown) {
		t.Errorf("forgotten twice: %v", err)
	}
	collect(t, s, person, 3)
	for _, e := range open(t, file).Entries() {
		if seen[e.Index] == "site-3.example" {
			t.Error("a forgotten website's index came back")
		}
	}
}

// Reserved indices are gone, also if nothing was ever stored under them.
func TestReservedIndicesAreNotGivenAgain(t *testing.T) {
	file := filepath.Join(t.TempDir(), "s")
	one, err := open(t, file).Reserve(5)
	if err != nil {
		t.Fatal(err)
	}
	two, err := open(t, file).Reserve(5)
	if err != nil || two[0] != one[4]+1 {
		t.Errorf("%d behind %d, %v", two, one, err)
	}
	if err := open(t, file).Keep([]store.Entry{{Index: two[4] + 1, Type: person, Expires: expires}}); !errors.Is(err, store.ErrIndex) {
		t.Errorf("an index out of nowhere: %v", err)
	}
	// A new credential is nobody's, whatever is said of it.
	own := open(t, file)
	if err := own.Keep([]store.Entry{{Index: one[0], Type: person, Site: "a.example", Credential: "c~", Expires: expires}}); err != nil || own.Unused(person, now) != 1 {
		t.Errorf("%+v, %v", own.Entries(), err)
	}
	// Two machines start far apart.
	other, err := open(t, filepath.Join(t.TempDir(), "s")).Reserve(1)
	if d := int64(other[0] - one[0]); err != nil || -1<<16 < d && d < 1<<16 {
		t.Errorf("two new files at %d and %d, %v", one[0], other[0], err)
	}
}

func TestRenewalKeepsTheWebsite(t *testing.T) {
	file := filepath.Join(t.TempDir(), "s")
	s := collected(t, file, 4)
	e := assign(t, s, "a.example", person)
	var batch []store.Entry
	for _, old := range s.Entries() {
		batch = append(batch, store.Entry{Index: old.Index, Type: person, Credential: "new", Expires: expires.AddDate(0, 0, 30)})
	}
	if err := s.Keep(batch); err != nil {
		t.Fatal(err)
	}
	if got := assign(t, open(t, file), "a.example", person); got.Index != e.Index || got.Credential != "new" {
		t.Errorf("%+v, was %+v", got, e)
	}
	if n := s.Unused(person, now); n != 3 {
		t.Errorf("%d unused", n)
	}
	if n := s.Unused(person, expires.AddDate(0, 0, 30)); n != 0 {
		t.Errorf("%d unused when all have expired", n)
	}
}

// The attacks on a file: nothing of it opens, and it stays as it is.
func TestAFileThatCannotBeReadStaysAsItIs(t *testing.T) {
	file := filepath.Join(t.TempDir(), "s")
	collected(t, file, 3)
	good, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(good, []byte("credential")) || bytes.Contains(good, []byte("id.example")) {
		t.Error("the file says what is in it")
	}
	refuses := func(what string, b []byte, key []byte, want error) {
		t.Helper()
		if err := os.WriteFile(file, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if s, err := store.Open(file, token, key); !errors.Is(err, want) || s != nil {
			t.Errorf("%s: %v, want %v", what, err, want)
		}
		if after, err := os.ReadFile(file); err != nil || !bytes.Equal(after, b) {
			t.Errorf("%s: the file was changed: %v", what, err)
		}
	}
	const head = 19
	refuses("without the token", good, bytes.Repeat([]byte{8}, 32), store.ErrDamaged)
	for i := range good {
		b := bytes.Clone(good)
		b[i] ^= 1
		want := store.ErrDamaged
		switch {
		case i < head:
			want = store.ErrForm
		case i == head:
			want = store.ErrVersion
		case i < head+17:
			want = store.ErrOtherToken
		}
		refuses(fmt.Sprintf("byte %d flipped", i), b, key, want)
	}
	for n := range len(good) {
		want := store.ErrDamaged
		if n < head+17 {
			want = store.ErrForm
		}
		refuses(fmt.Sprintf("cut to %d bytes", n), good[:n], key, want)
	}
	refuses("longer by one", append(bytes.Clone(good), 0), key, store.ErrDamaged)
	older := bytes.Clone(good)
	older[head] = 0
	refuses("an older version", older, key, store.ErrVersion)
}

// A disk that takes no more leaves the old file, and the store as it was.
func TestAFailedWriteLosesNothing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "d")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	s := collected(t, filepath.Join(dir, "s"), 2)
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Assign("a.example", person, now); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no directory: %v", err)
	}
	for _, e := range s.Entries() {
		if e.Site != "" {
			t.Errorf("assigned without being written: %+v", e)
		}
	}
}

// Another machine with the same token has the same pseudonyms, and neither gives an
// index to two websites.
func TestExportAndImport(t *testing.T) {
	home := collected(t, filepath.Join(t.TempDir(), "s"), 6)
	a, b := assign(t, home, "a.example", person), assign(t, home, "b.example", person)
	carried, err := home.Export()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "s")
	office := collected(t, file, 6)
	own := assign(t, office, "b.example", person)
	added, conflicts, err := office.Import(carried)
	if err != nil || added != 1 || len(conflicts) != 1 || conflicts[0] != "b.example" {
		t.Fatalf("%d added, conflicts %q, %v", added, conflicts, err)
	}
	office = open(t, file)
	if got := assign(t, office, "a.example", person); got != a {
		t.Errorf("a.example: %+v, want %+v", got, a)
	}
	if got := assign(t, office, "b.example", person); got != own || got.Index == b.Index {
		t.Errorf("b.example: %+v, want its own %+v", got, own)
	}
	if n := office.Unused(person, now); n != 5 {
		t.Errorf("%d unused: those of the other machine came along", n)
	}
	if added, conflicts, err := office.Import(carried); err != nil || added != 0 || len(conflicts) != 1 {
		t.Errorf("a second time: %d, %q, %v", added, conflicts, err)
	}
	for i := range carried {
		broken := bytes.Clone(carried)
		broken[i] ^= 0x80
		before := office.Entries()
		if _, _, err := office.Import(broken); err == nil || len(office.Entries()) != len(before) {
			t.Fatalf("byte %d flipped: %v", i, err)
		}
	}
}

func FuzzOpen(f *testing.F) {
	file := filepath.Join(f.TempDir(), "s")
	collected(f, file, 1)
	b, err := os.ReadFile(file)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add(b[:40])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		s := open(t, filepath.Join(t.TempDir(), "s"))
		if _, _, err := s.Import(b); err == nil {
			// Only what was sealed under the key gets so far, and is whole.
			if _, err := s.Export(); err != nil {
				t.Error(err)
			}
		}
		for _, e := range s.Entries() {
			if e.Site == "" {
				t.Errorf("an unused index came in: %+v", e)
			}
		}
	})
}
