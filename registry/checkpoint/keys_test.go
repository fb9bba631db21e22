package checkpoint_test

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"enrollkiosk/registry/checkpoint"
	"enrollkiosk/registry/checkpoint/logtest"
)

// An old key is believed up to the tree at which it ended, and the new one always.
func TestEndedKey(t *testing.T) {
	l := logtest.New(logtest.NewKey(t, 1))
	old := l.Key
	l.Fill(12, "a")
	alone, larger := l.Signed(t, 5, 0), l.Signed(t, 9, 0)
	other := l.Fork(3)
	other.Fill(9, "b")
	l.Key = old.Rotate(t)
	both := l.Signed(t, 8, 0)
	overlap := l.Key.Log
	end := open(t, overlap, both)
	l.Key = l.Key.Retire(end)
	ended := l.Key.Log
	last := l.Signed(t, 9, 0)

	for name, c := range map[string]struct {
		of     checkpoint.Log
		signed []byte
		is     error
	}{
		"the old policy and the old key alone":   {old.Log, alone, nil},
		"the old policy and both keys":           {old.Log, both, nil},
		"the old policy and the new key alone":   {old.Log, last, checkpoint.ErrSignature},
		"overlap and the old key alone":          {overlap, alone, nil},
		"overlap and the old key, larger":        {overlap, larger, nil},
		"overlap and both keys":                  {overlap, both, nil},
		"overlap and the new key alone":          {overlap, last, nil},
		"ended, and smaller":                     {ended, alone, nil},
		"ended, at its end":                      {ended, logOf(l, old).Signed(t, 8, 0), nil},
		"ended, at its end, but another tree":    {ended, other.Signed(t, 8, 0), checkpoint.ErrEnded},
		"ended, and larger":                      {ended, larger, checkpoint.ErrEnded},
		"ended, and larger, of another tree":     {ended, other.Signed(t, 12, 0), checkpoint.ErrEnded},
		"the new key's, larger than the old end": {ended, last, nil},
		"the new key's, smaller than the end":    {ended, l.Signed(t, 7, 0), nil},
	} {
		_, err := c.of.Open(c.signed)
		if !errors.Is(err, c.is) || err != nil && !errors.Is(err, checkpoint.ErrSignature) {
			t.Errorf("%s: %v, want %v", name, err, c.is)
		}
	}
	if c := open(t, ended, both); !c.SignedBy(ended.Key) || !c.SignedBy(old.Log.Key) || c.SignedBy("") || len(c.Cosigned()) != 1 {
		t.Errorf("both have signed %v: %v", c, c.Cosigned())
	}
	ended.Quorum = 1 // the old key's signature is no cosignature
	if _, err := ended.Open(both); err != nil {
		t.Error(err)
	}
	if _, err := ended.Open(l.Signed(t, 8)); !errors.Is(err, checkpoint.ErrWitnesses) {
		t.Errorf("without a witness: %v", err)
	}
	// Of a signature that does not hold nothing is left: the other one has to.
	for i := range both {
		bad := bytes.Clone(both)
		bad[i] ^= 1
		if c, err := ended.Open(bad); err == nil && (c.Root() != end.Root() || c.Size() != 8 || c.SignedBy(old.Log.Key) == c.SignedBy(ended.Key)) {
			t.Fatalf("byte %d, %q for %q", i, bad[i], both[i])
		}
	}
	if ended.Past(open(t, ended, both)) || !ended.Past(open(t, old.Log, alone)) || overlap.Past(open(t, overlap, alone)) || ended.Past(checkpoint.Checkpoint{}) {
		t.Error("which keys are past")
	}
}

// logOf is l's history under another key.
func logOf(l *logtest.Log, k logtest.Key) *logtest.Log {
	f := l.Fork(int(l.Size()))
	f.Key = k
	return f
}

func TestKeysText(t *testing.T) {
	first, second := logtest.NewKey(t, 1), logtest.NewKey(t, 0)
	l := logtest.New(first)
	l.Fill(9, "a")
	k := first.Rotate(t)
	if got, err := checkpoint.ParseKeys(k.Log.Keys()...); err != nil || fmt.Sprint(got) != fmt.Sprint(k.Log.Unwitnessed()) {
		t.Errorf("overlap: %v, %v", got, err)
	}
	k = k.Retire(open(t, first.Log, l.Signed(t, 9))).Rotate(t)
	text := strings.Join(k.Log.Keys(), "\n")
	for _, texts := range [][]string{{text}, {text + "\n"}, k.Log.Keys()} {
		got, err := checkpoint.ParseKeys(texts...)
		if err != nil || fmt.Sprint(got) != fmt.Sprint(k.Log.Unwitnessed()) || len(got.Earlier) != 2 || got.Earlier[0].Ended() || got.Earlier[1].Size != 9 {
			t.Errorf("%q: %v, %v", texts, got, err)
		}
	}
	root := base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{7}, 32))
	a, b, c := k.Log.Key, first.Log.Key, second.Log.Key
	for name, bad := range map[string][]string{
		"nothing":                    {},
		"an empty text":              {""},
		"an empty line":              {a + "\n\n" + b},
		"the present one has ended":  {a + " 7 " + root},
		"two words":                  {a, b + " 7"},
		"four words":                 {a, b + " 7 " + root + " x"},
		"a loose size":               {a, b + " 07 " + root},
		"no size":                    {a, b + " x " + root},
		"too large":                  {a, b + " 1152921504606846977 " + root},
		"a short root":               {a, b + " 7 " + root[4:]},
		"no root":                    {a, b + " 7 " + base64.StdEncoding.EncodeToString(make([]byte, 32))},
		"the same twice":             {a, a},
		"a witness":                  {a, first.Log.Witnesses[0]},
		"another log's":              {a, strings.Replace(b, "registry", "other", 1)},
		"open after one that ended":  {a, b + " 7 " + root, c},
		"ended later than the later": {a, b + " 7 " + root, c + " 8 " + root},
		"two ends at one size":       {a, b + " 7 " + root, c + " 7 " + strings.Replace(root, "Bw", "Cw", 1)},
	} {
		if _, err := checkpoint.ParseKeys(bad...); !errors.Is(err, checkpoint.ErrKey) {
			t.Errorf("%s: %v", name, err)
		}
	}
	many := checkpoint.Log{Key: a}
	for range checkpoint.MaxEarlier + 1 {
		many.Earlier = append(many.Earlier, checkpoint.Earlier{Key: logtest.NewKey(t, 0).Log.Key})
	}
	if err := many.Check(); !errors.Is(err, checkpoint.ErrKey) {
		t.Errorf("too many: %v", err)
	}
	if err := (checkpoint.Log{Key: a, Earlier: []checkpoint.Earlier{{Key: b, Size: 7}}}).Check(); !errors.Is(err, checkpoint.ErrKey) {
		t.Errorf("a size without a root: %v", err)
	}
	if err := (checkpoint.Log{Key: a, Earlier: []checkpoint.Earlier{{Key: b}}, Witnesses: first.Log.Witnesses, Quorum: 1}).Check(); err != nil {
		t.Error(err)
	}
}

// A memory goes on through a rotation, and a log that uses it to change its tree is
// found out.
func TestFollowThroughRotation(t *testing.T) {
	l := logtest.New(logtest.NewKey(t, 0))
	l.Fill(900, "a")
	dir := t.TempDir()
	follow := func(files checkpoint.Files) error {
		t.Helper()
		_, err := keeper(t, dir).Follow(t.Context(), l.Key.Log, files)
		return err
	}
	l.Publish(t, 300)
	if err := follow(l); err != nil {
		t.Fatal(err)
	}
	old := l.Key
	l.Key = l.Key.Rotate(t)
	fork := l.Fork(299)
	fork.Fill(600, "b")
	fork.Publish(t, 500)
	if err := follow(fork); !errors.Is(err, checkpoint.ErrSplit) {
		t.Errorf("another tree under the new key: %v", err)
	}
	if err := os.RemoveAll(filepath.Join(dir, "evidence")); err != nil {
		t.Fatal(err)
	}
	for _, size := range []uint64{300, 500} {
		l.Publish(t, size)
		if err := follow(l); err != nil {
			t.Fatal(err)
		}
	}
	// A kiosk that has the old policy still goes on as well.
	if _, err := keeper(t, t.TempDir()).Follow(t.Context(), old.Log, l); err != nil {
		t.Error(err)
	}
	l.Key = l.Key.Retire(open(t, l.Key.Log, l.Signed(t, 500)))
	l.Publish(t, 900)
	if err := follow(l); err != nil {
		t.Fatal(err)
	}
	kept, err := keeper(t, dir).Kept(t.Context(), l.Key.Log)
	if err != nil || kept.Size() != 900 {
		t.Errorf("kept %v, %v", kept, err)
	}
	if pairs, err := keeper(t, dir).Evidence(); err != nil || len(pairs) > 0 {
		t.Errorf("evidence %v, %v", pairs, err)
	}
	// Who remembers nothing has the tree at which the old key ended.
	dir = t.TempDir()
	fork.Key = l.Key
	fork.Publish(t, 600)
	if err := follow(fork); !errors.Is(err, checkpoint.ErrTiles) {
		t.Errorf("another tree at the old key's end: %v", err)
	}
	if err := follow(l); err != nil {
		t.Error(err)
	}
}

// What a thief of the old key showed before it was known is a contradiction, which
// stays as evidence, and does not keep the log from being believed.
func TestMemoryOfAThief(t *testing.T) {
	for _, c := range []struct{ shown, ended, now uint64 }{
		{shown: 300, ended: 270, now: 400}, // beyond the end, and the log is larger by now
		{shown: 300, ended: 270, now: 280}, // beyond the end, and the log is not yet
		{shown: 260, ended: 270, now: 280}, // not beyond the end: only the tiles tell
	} {
		t.Run(fmt.Sprint(c), func(t *testing.T) {
			l := logtest.New(logtest.NewKey(t, 0))
			l.Fill(400, "a")
			old := l.Key
			thief := l.Fork(250)
			thief.Fill(150, "b")
			dir := t.TempDir()
			l.Publish(t, 250)
			if _, err := keeper(t, dir).Follow(t.Context(), old.Log, l); err != nil {
				t.Fatal(err)
			}
			thief.Publish(t, c.shown)
			if _, err := keeper(t, dir).Follow(t.Context(), old.Log, thief); err != nil {
				t.Fatal(err)
			}
			l.Key = old.Rotate(t).Retire(open(t, old.Log, l.Signed(t, c.ended)))
			l.Publish(t, c.now)
			k := keeper(t, dir)
			if _, err := k.Follow(t.Context(), l.Key.Log, l); !errors.Is(err, checkpoint.ErrSplit) {
				t.Fatalf("%v", err)
			}
			if _, err := k.Follow(t.Context(), l.Key.Log, l); err != nil {
				t.Errorf("the log, from then on: %v", err)
			}
			k = keeper(t, dir)
			kept, err := k.Kept(t.Context(), l.Key.Log)
			if err != nil || kept.Size() != c.now || !kept.SignedBy(l.Key.Log.Key) {
				t.Errorf("kept %v, %v", kept, err)
			}
			if pairs, err := k.Evidence(); err != nil || len(pairs) != 1 {
				t.Errorf("evidence %v, %v", pairs, err)
			}
			// The thief goes on in vain.
			thief.Publish(t, 400)
			if _, err := k.Follow(t.Context(), l.Key.Log, thief); !errors.Is(err, checkpoint.ErrEnded) {
				t.Errorf("beyond the end: %v", err)
			}
			small := thief.Fork(250)
			small.Fill(10, "c")
			small.Publish(t, 260)
			if _, err := k.Follow(t.Context(), l.Key.Log, small); !errors.Is(err, checkpoint.ErrSplit) && !errors.Is(err, checkpoint.ErrTiles) {
				t.Errorf("before the end: %v", err)
			}
			if again, err := k.Kept(t.Context(), l.Key.Log); err != nil || !bytes.Equal(again.Bytes(), kept.Bytes()) {
				t.Errorf("kept %v, %v", again, err)
			}
		})
	}
}

// FuzzParseKeys: what passes is in the one form.
func FuzzParseKeys(f *testing.F) {
	l := logtest.New(logtest.NewKey(f, 0))
	l.Fill(9, "a")
	c, err := l.Key.Log.Open(l.Signed(f, 9))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(strings.Join(l.Key.Rotate(f).Retire(c).Rotate(f).Log.Keys(), "\n"))
	f.Add("registry.example/log+00000000+AAAA 7 x\n")
	f.Fuzz(func(t *testing.T, text string) {
		got, err := checkpoint.ParseKeys(text)
		if err != nil {
			if !errors.Is(err, checkpoint.ErrKey) {
				t.Errorf("untyped: %v", err)
			}
			return
		}
		if again := strings.Join(got.Keys(), "\n"); again != strings.TrimSuffix(text, "\n") {
			t.Errorf("%q is %q", text, again)
		}
	})
}
