package record_test

import (
	"crypto/rand"
	"encoding/base64"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"

	"enrollkiosk/registry/checkpoint"
	"enrollkiosk/registry/checkpoint/logtest"
	"enrollkiosk/registry/receipt"
)

// scripts/verify-record judges a receipt by the log's keys, old and new, and by its
// witnesses as package receipt does.
func TestScriptJudgesKeysAndWitnesses(t *testing.T) {
	r := enroll(t).sign(t)
	l := logtest.New(logtest.NewKey(t, 3))
	l.Fill(4, "a")
	leaf := receipt.Leaf(r.Payload().Blind, r.ID())
	l.Add(leaf[:])
	thief := l.Fork(5)
	l.Fill(8, "a")
	thief.Fill(8, "b")
	old := l.Key
	give := func(of *logtest.Log, size uint64, witnesses ...int) string {
		return string(receipt.Build(4, of.Path(t, 4, size), of.Signed(t, size, witnesses...), r.Payload().Blind, r.ID()))
	}
	first, larger := give(l, 7, 0, 2), give(l, 10, 0)
	l.Key = old.Rotate(t)
	both := give(l, 9, 1)
	overlap := l.Key.Log
	end, err := overlap.Open(l.Signed(t, 9))
	if err != nil {
		t.Fatal(err)
	}
	l.Key = l.Key.Retire(end)
	ended := l.Key.Log
	last := give(l, 10, 0, 1, 2)
	asked := func(of checkpoint.Log, quorum int) checkpoint.Log {
		of.Quorum = quorum
		return of
	}
	swapped := asked(ended, 1)
	swapped.Witnesses = logtest.NewKey(t, 3).Log.Witnesses

	// Bytes 4 to 11 of a cosignature are its time.
	at := strings.LastIndex(both, " ") + 1
	cosignature, err := base64.StdEncoding.DecodeString(strings.TrimSpace(both[at:]))
	if err != nil {
		t.Fatal(err)
	}
	cosignature[11] ^= 1
	later := both[:at] + base64.StdEncoding.EncodeToString(cosignature) + "\n"

	file := filepath.Join(t.TempDir(), "record.json")
	write(t, file, r.Bytes())
	for name, c := range map[string]struct {
		receipt string
		of      checkpoint.Log
		reason  string // "": verified
	}{
		"the old key":                               {first, asked(old.Log, 0), ""},
		"the old key, and witnesses":                {first, asked(old.Log, 2), ""},
		"the old key, ended since":                  {first, asked(ended, 2), ""},
		"the old key in the overlap":                {larger, asked(overlap, 1), ""},
		"both keys, for who knows the old":          {both, asked(old.Log, 1), ""},
		"both keys, for who knows both":             {both, asked(overlap, 1), ""},
		"both keys, for who knows the end":          {both, asked(ended, 1), ""},
		"the new key":                               {last, asked(ended, 3), ""},
		"the new key, for who knows the old":        {last, asked(old.Log, 0), "not signed by the log"},
		"the old key beyond its end":                {larger, asked(ended, 1), "had ended before"},
		"a thief beyond the end":                    {give(thief, 11, 0), asked(ended, 0), "had ended before"},
		"a thief at the end":                        {give(thief, 9, 0), asked(ended, 0), "had ended before"},
		"one witness of two":                        {both, asked(ended, 2), "1 of 2 witnesses"},
		"one witness twice":                         {both + both[strings.LastIndex(both, "— witness"):], asked(ended, 2), "1 of 2 witnesses"},
		"other witnesses under the same names":      {last, swapped, "0 of 1 witnesses"},
		"a cosignature of another tree":             {strings.Replace(both, "\n9\n", "\n8\n", 1), asked(ended, 1), "does not verify"},
		"a time that was not cosigned":              {later, asked(ended, 1), "a cosignature does not verify"},
		"a time that was not cosigned, nobody asks": {later, ended.Unwitnessed(), ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			proof, keys := filepath.Join(dir, "receipt"), filepath.Join(dir, "log.vkey")
			write(t, proof, []byte(c.receipt))
			write(t, keys, []byte(strings.Join(c.of.Keys(), "\n")+"\n"))
			args := []string{scriptPath, file, "--receipt", proof, "--log-key", keys}
			if c.of.Quorum > 0 {
				args = append(args, "--quorum", strconv.Itoa(c.of.Quorum))
				for _, w := range c.of.Witnesses {
					args = append(args, "--witness", w)
				}
			} else {
				c.of.Witnesses = nil
			}
			out, err := exec.CommandContext(t.Context(), "python3", args...).CombinedOutput()
			_, ours := receipt.Verify([]byte(c.receipt), c.of, r.ID())
			if (err == nil) != (c.reason == "") || (ours == nil) != (c.reason == "") || !strings.Contains(string(out), c.reason) {
				t.Errorf("%v, ours %v:\n%s", err, ours, out)
			}
			if err == nil && strings.Count(string(out), "cosigned   ") != strings.Count(c.receipt, "— witness")*min(c.of.Quorum, 1) {
				t.Errorf("the witnesses are not named:\n%s", out)
			}
		})
	}
	// Keys one by one, as words of the command line.
	proof := filepath.Join(t.TempDir(), "receipt")
	write(t, proof, []byte(first))
	_, other, err := note.GenerateKey(rand.Reader, "other.example/log")
	if err != nil {
		t.Fatal(err)
	}
	name, rest, _ := strings.Cut(ended.Key, "+")
	for reason, keys := range map[string][]string{
		"VERIFIED":                  ended.Keys(),
		"the present one is KEY":    {ended.Keys()[1]},
		"of several logs":           {ended.Key, other},
		"one stands there twice":    {ended.Key, ended.Key},
		"is no verifier key":        {ended.Key, "nonsense"},
		"its hash is wrong":         {name + "+00000000" + rest[8:]},
		"root of its last tree":     {ended.Key, old.Log.Key + " 9 AAAA"},
		"size of its last tree":     {ended.Key, old.Log.Key + " 09 " + strings.Fields(ended.Keys()[1])[2]},
		"not an Ed25519 key of a l": {ended.Witnesses[0]},
	} {
		args := []string{scriptPath, file, "--receipt", proof}
		for _, k := range keys {
			args = append(args, "--log-key", k)
		}
		out, err := exec.CommandContext(t.Context(), "python3", args...).CombinedOutput()
		if (err == nil) != (reason == "VERIFIED") || !strings.Contains(string(out), reason) {
			t.Errorf("%s: %v\n%s", reason, err, out)
		}
	}
}

func write(t testing.TB, file string, b []byte) {
	t.Helper()
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
}
