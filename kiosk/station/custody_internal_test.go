package station

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"enrollkiosk/kiosk"
	"enrollkiosk/sync/queue"
)

var record1 = strings.Repeat("a1", 32)

func TestNotes(t *testing.T) {
	c := custody{dir: t.TempDir(), log: slog.New(slog.DiscardHandler)}
	want := map[string]kiosk.CustodyNote{}
	for _, n := range []kiosk.CustodyNote{
		{Number: "00000000"},
		{Number: "00000000", Key: "one", Record: queue.ID{1}},
		{Number: "39402174", Key: "two", Record: queue.ID{2}, Saved: true, ReplacedBy: queue.ID{3}},
		{Number: "00000000", Key: "one", Record: queue.ID{1}, Saved: true}, // in the place of those before
	} {
		if err := c.Note(t.Context(), n); err != nil {
			t.Fatal(err)
		}
		want[n.Number] = n
	}
	if err := os.WriteFile(filepath.Join(c.dir, "11111111.json.123.tmp"), []byte("{"), 0o600); err != nil { // of a crash
		t.Fatal(err)
	}
	notes, err := c.Notes(t.Context())
	if err != nil || len(notes) != len(want) {
		t.Fatalf("%+v, %v", notes, err)
	}
	for _, n := range notes {
		if n != want[n.Number] {
			t.Errorf("%+v, want %+v", n, want[n.Number])
		}
	}
	info, err := os.Stat(c.file("39402174"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	for range 2 {
		if err := c.Drop(t.Context(), "00000000"); err != nil {
			t.Error(err)
		}
	}
	delete(want, "00000000")
	// A damaged one is told of, and hides no other.
	if err := os.WriteFile(c.file("22222222"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if notes, err := c.Notes(t.Context()); !errors.Is(err, ErrNote) || len(notes) != len(want) {
		t.Errorf("%+v, %v", notes, err)
	}
}

func TestDamagedNotes(t *testing.T) {
	good := `{"key":"k","record":"` + record1 + `","saved":true,"replaced_by":"` + record1 + `"}`
	if _, err := parseNote("1", []byte(good)); err != nil {
		t.Fatal(err)
	}
	bad := []string{"", "null", "[]", "{}", good + good, strings.Replace(good, "{", `{"making":true,`, 1), strings.Replace(good, `"k"`, `""`, 1), strings.Replace(good, "key", "kei", 1),
		strings.Replace(good, record1, "", 1), strings.Replace(good, record1, "a1", 1), strings.ReplaceAll(good, "a1", "x1"),
		strings.Replace(good, `"replaced_by":"`, `"replaced_by":"a1`, 1), strings.Replace(good, "true", `"yes"`, 1)}
	for i := 1; i < len(good); i++ {
		bad = append(bad, good[:i])
	}
	for _, b := range bad {
		if n, err := parseNote("1", []byte(b)); !errors.Is(err, ErrNote) {
			t.Errorf("%s: %+v, %v", b, n, err)
		}
	}
}

// What is read as a note is written as the same one.
func FuzzNote(f *testing.F) {
	f.Add([]byte(`{"making":true}`))
	f.Add([]byte(`{"key":"k","record":"` + record1 + `","saved":false}`))
	f.Add([]byte(`{"key":"k","record":"` + record1 + `","saved":true,"replaced_by":"` + record1 + `"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		n, err := parseNote("39402174", b)
		if err != nil {
			if !errors.Is(err, ErrNote) {
				t.Error(err)
			}
			return
		}
		c := custody{dir: t.TempDir()}
		if err := c.Note(t.Context(), n); err != nil {
			t.Fatal(err)
		}
		if again, err := c.Notes(t.Context()); err != nil || len(again) != 1 || again[0] != n {
			t.Errorf("%+v became %+v, %v", n, again, err)
		}
	})
}
