package witness_test

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/transparency-dev/formats/log"
	"github.com/transparency-dev/merkle/rfc6962"
	"github.com/transparency-dev/merkle/testonly"
	"golang.org/x/mod/sumdb/note"

	"enrollkiosk/registry/checkpoint"
	"enrollkiosk/registry/internal/keyfile"
	"enrollkiosk/registry/witness"
)

const origin = "registry.example/log"

// publicLog signs whatever tree it is asked to: it can lie.
type publicLog struct {
	signer note.Signer
	beside note.Signer // signs as well; may be nil
	key    string
}

func newLog(t testing.TB, name string) publicLog {
	t.Helper()
	skey, vkey, err := note.GenerateKey(rand.Reader, name)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := note.NewSigner(skey)
	if err != nil {
		t.Fatal(err)
	}
	return publicLog{signer, nil, vkey}
}

// grow makes a tree of n leaves; from the leaf fork on they are others.
func grow(n, fork uint64) *testonly.Tree {
	tree := testonly.New(rfc6962.DefaultHasher)
	for i := range n {
		tree.AppendData(fmt.Appendf(nil, "leaf %d, fork %t", i, i >= fork))
	}
	return tree
}

const noFork = 1 << 40

func (l publicLog) checkpoint(t testing.TB, tree *testonly.Tree, size uint64) []byte {
	t.Helper()
	text := log.Checkpoint{Origin: l.signer.Name(), Size: size, Hash: tree.HashAt(size)}.Marshal()
	signers := []note.Signer{l.signer}
	if l.beside != nil {
		signers = append(signers, l.beside)
	}
	signed, err := note.Sign(&note.Note{Text: string(text)}, signers...)
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

// request is the body of add-checkpoint.
func (l publicLog) request(t testing.TB, tree *testonly.Tree, old, size uint64) []byte {
	t.Helper()
	body := fmt.Appendf(nil, "old %d\n", old)
	if old > 0 && old < size {
		path, err := tree.ConsistencyProof(old, size)
		if err != nil {
			t.Fatal(err)
		}
		for _, h := range path {
			body = fmt.Appendf(body, "%s\n", base64.StdEncoding.EncodeToString(h))
		}
	}
	return append(append(body, '\n'), l.checkpoint(t, tree, size)...)
}

func newWitness(t testing.TB, logs ...publicLog) (dir, vkey string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "witness")
	vkey, err := witness.Init(dir, "witness.example/w1")
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range logs {
		if err := witness.AddLog(dir, l.key, false); err != nil {
			t.Fatal(err)
		}
	}
	return dir, vkey
}

func open(t testing.TB, dir string) *witness.Witness {
	t.Helper()
	w, err := witness.Open(dir, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	return w
}

func ask(w *witness.Witness, body []byte) *httptest.ResponseRecorder {
	a := httptest.NewRecorder()
	w.Handler().ServeHTTP(a, httptest.NewRequest(http.MethodPost, "/add-checkpoint", bytes.NewReader(body)))
	return a
}

// wants asks and checks the status.
func wants(t testing.TB, w *witness.Witness, what string, body []byte, status int) *httptest.ResponseRecorder {
	t.Helper()
	a := ask(w, body)
	if a.Code != status {
		t.Errorf("%s: %d %s, want %d", what, a.Code, a.Body, status)
	}
	return a
}

// A log that grows is cosigned, and its checkpoints stand on the witness from then on.
func TestALogThatGrows(t *testing.T) {
	l := newLog(t, origin)
	dir, vkey := newWitness(t, l)
	w := open(t, dir)
	if w.Key() != vkey || len(w.Logs()) != 1 {
		t.Errorf("%s watches %v", w.Key(), w.Logs())
	}
	tree := grow(300, noFork)
	of := checkpoint.Log{Key: l.key, Witnesses: []string{vkey}, Quorum: 1}
	var old uint64
	for _, size := range []uint64{0, 1, 1, 2, 7, 256, 257, 300, 300} {
		a := wants(t, w, fmt.Sprintf("from %d to %d", old, size), l.request(t, tree, old, size), http.StatusOK)
		c, err := of.Open(append(l.checkpoint(t, tree, size), a.Body.Bytes()...))
		if err != nil || c.Size() != size || len(c.Cosigned()) != 1 || c.Cosigned()[0].Witness != "witness.example/w1" {
			t.Fatalf("at %d: %v, %v in %s", size, err, c.Cosigned(), a.Body)
		}
		old = size
	}
	if _, err := of.Open(l.checkpoint(t, tree, 300)); !errors.Is(err, checkpoint.ErrWitnesses) {
		t.Errorf("without the cosignature: %v", err)
	}
	// Other methods and places are none of its.
	for _, q := range []*http.Request{httptest.NewRequest(http.MethodGet, "/add-checkpoint", nil), httptest.NewRequest(http.MethodPost, "/", nil)} {
		a := httptest.NewRecorder()
		if w.Handler().ServeHTTP(a, q); a.Code < 400 {
			t.Errorf("%s %s: %d", q.Method, q.URL, a.Code)
		}
	}
}

func TestRefusals(t *testing.T) {
	l, other, unknown := newLog(t, origin), newLog(t, origin), newLog(t, "other.example/log")
	dir, _ := newWitness(t, l)
	w := open(t, dir)
	tree, fork := grow(20, noFork), grow(20, 5)
	good := string(l.request(t, tree, 8, 20))
	wants(t, w, "the first", l.request(t, tree, 0, 8), http.StatusOK)
	for name, c := range map[string]struct {
		body   string
		status int
	}{
		"an unknown log":               {string(unknown.request(t, tree, 8, 20)), http.StatusNotFound},
		"another key of the same name": {string(other.request(t, tree, 8, 20)), http.StatusForbidden},
		"unsigned":                     {good[:strings.Index(good, "— ")], http.StatusForbidden},
		"a fork behind the first":      {string(l.request(t, fork, 8, 20)), http.StatusUnprocessableEntity},
		"a fork of the same size":      {string(l.request(t, fork, 8, 8)), http.StatusConflict},
		"a stale old size":             {string(l.request(t, tree, 3, 20)), http.StatusConflict},
		"an old size too large":        {string(l.request(t, tree, 9, 20)), http.StatusConflict},
		"rolled back":                  {string(l.request(t, tree, 8, 7)), http.StatusBadRequest},
		"rolled back, no old size":     {string(l.request(t, tree, 0, 7)), http.StatusConflict},
		"no proof":                     {"old 8\n\n" + string(l.checkpoint(t, tree, 20)), http.StatusUnprocessableEntity},
		"a proof where none belongs":   {strings.Replace(string(l.request(t, tree, 8, 8)), "\n", "\n"+strings.Repeat("A", 43)+"=\n", 1), http.StatusUnprocessableEntity},
		"64 hashes":                    {"old 8\n" + strings.Repeat(strings.Repeat("A", 43)+"=\n", 64) + "\n" + string(l.checkpoint(t, tree, 20)), http.StatusBadRequest},
		"leading zero":                 {strings.Replace(good, "old 8", "old 08", 1), http.StatusBadRequest},
		"plus":                         {strings.Replace(good, "old 8", "old +8", 1), http.StatusBadRequest},
		"no old line":                  {string(l.checkpoint(t, tree, 20)), http.StatusBadRequest},
		"empty":                        {"", http.StatusBadRequest},
		"too large":                    {good + strings.Repeat("— a b\n", 10000), http.StatusRequestEntityTooLarge},
	} {
		a := wants(t, w, name, []byte(c.body), c.status)
		if stale := a.Header().Get("Content-Type") == "text/x.tlog.size"; stale != (strings.Contains(name, "old size")) || stale && a.Body.String() != "8\n" {
			t.Errorf("%s: %s %q", name, a.Header().Get("Content-Type"), a.Body)
		}
	}
	// The contradiction is kept; what was refused has changed nothing.
	if evidence, err := filepath.Glob(filepath.Join(dir, "evidence", "*.checkpoint")); err != nil || len(evidence) != 2 {
		t.Errorf("evidence %v, %v", evidence, err)
	}
	wants(t, w, "the good one", []byte(good), http.StatusOK)
	wants(t, w, "a replay", []byte(good), http.StatusConflict)
}

func TestEveryByteOfARequestMatters(t *testing.T) {
	l := newLog(t, origin)
	dir, _ := newWitness(t, l)
	w := open(t, dir)
	tree := grow(20, noFork)
	wants(t, w, "the first", l.request(t, tree, 0, 7), http.StatusOK)
	good := l.request(t, tree, 7, 20)
	for i := range good {
		for bit := range 8 {
			bad := bytes.Clone(good)
			bad[i] ^= 1 << bit
			if a := ask(w, bad); a.Code < 400 || a.Code >= 500 {
				t.Fatalf("byte %d, %q for %q: %d %s", i, bad[i], good[i], a.Code, a.Body)
			}
		}
		if a := ask(w, good[:i]); a.Code < 400 || a.Code >= 500 {
			t.Fatalf("cut at %d: %d", i, a.Code)
		}
	}
	wants(t, w, "the good one", good, http.StatusOK)
}

// Whatever comes at the same time, what is cosigned is one growing tree.
func TestConcurrentRequestsCannotForkIt(t *testing.T) {
	l := newLog(t, origin)
	dir, vkey := newWitness(t, l)
	w := open(t, dir)
	trees := []*testonly.Tree{grow(40, noFork), grow(40, 4)}
	wants(t, w, "the first", l.request(t, trees[0], 0, 4), http.StatusOK) // both begin with it
	var mu sync.Mutex
	cosigned := map[int]int{}
	var all sync.WaitGroup
	for i := range 64 {
		body := l.request(t, trees[i%2], 4, 5+uint64(i/2))
		all.Go(func() {
			if a := ask(w, body); a.Code == http.StatusOK {
				mu.Lock()
				cosigned[i%2]++
				mu.Unlock()
			}
		})
	}
	all.Wait()
	if cosigned[0]+cosigned[1] != 1 {
		t.Errorf("cosigned %v, want one: all have the same old size", cosigned)
	}
	w.Close()
	b := kept(t, dir)
	if _, err := (checkpoint.Log{Key: l.key, Witnesses: []string{vkey}}).Open(b); err != nil {
		t.Error(err)
	}
}

func kept(t testing.TB, dir string) []byte {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "logs", "*.checkpoint"))
	if err != nil || len(files) != 1 {
		t.Fatal(files, err)
	}
	b, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// leaving looks at the disk when the answer leaves.
type leaving struct {
	*httptest.ResponseRecorder
	look func()
}

func (l leaving) Write(b []byte) (int, error) {
	l.look()
	return l.ResponseRecorder.Write(b)
}

// What is cosigned is on the disk before anybody hears of it; a witness that dies
// in between knows what it saw, and says so to a log that asks again.
func TestDeathBetweenStateAndAnswer(t *testing.T) {
	l := newLog(t, origin)
	dir, _ := newWitness(t, l)
	w := open(t, dir)
	tree, fork := grow(20, noFork), grow(20, 5)
	looked := false
	a := leaving{httptest.NewRecorder(), func() {
		looked = true
		if !bytes.Equal(kept(t, dir), l.checkpoint(t, tree, 8)) {
			t.Errorf("the cosignature leaves, and on the disk is %q", kept(t, dir))
		}
	}}
	w.Handler().ServeHTTP(a, httptest.NewRequest(http.MethodPost, "/add-checkpoint", bytes.NewReader(l.request(t, tree, 0, 8))))
	if !looked || a.Code != http.StatusOK {
		t.Fatalf("%d", a.Code)
	}
	// The answer is lost, the witness has died.
	w.Close()
	w = open(t, dir)
	if a := wants(t, w, "again", l.request(t, tree, 0, 8), http.StatusConflict); a.Body.String() != "8\n" {
		t.Errorf("%q", a.Body)
	}
	wants(t, w, "a fork", l.request(t, fork, 8, 8), http.StatusConflict)
	wants(t, w, "with what it has", l.request(t, tree, 8, 8), http.StatusOK)
	wants(t, w, "and on", l.request(t, tree, 8, 20), http.StatusOK)
}

// A witness that cannot write cosigns nothing, and forgets what it did not write.
func TestNoDisk(t *testing.T) {
	l := newLog(t, origin)
	dir, _ := newWitness(t, l)
	w := open(t, dir)
	tree := grow(20, noFork)
	wants(t, w, "the first", l.request(t, tree, 0, 8), http.StatusOK)
	logs, away := filepath.Join(dir, "logs"), filepath.Join(dir, "away")
	if err := os.Rename(logs, away); err != nil {
		t.Fatal(err)
	}
	if a := wants(t, w, "no disk", l.request(t, tree, 8, 20), http.StatusServiceUnavailable); strings.Contains(a.Body.String(), "—") {
		t.Errorf("cosigned: %s", a.Body)
	}
	if err := os.Rename(away, logs); err != nil {
		t.Fatal(err)
	}
	wants(t, w, "the disk is back", l.request(t, tree, 8, 20), http.StatusOK)
}

// A memory that is lost or altered is not made up for.
func TestLostMemory(t *testing.T) {
	l := newLog(t, origin)
	dir, _ := newWitness(t, l)
	w := open(t, dir)
	if _, err := witness.Open(dir, slog.New(slog.DiscardHandler)); !errors.Is(err, witness.ErrLocked) {
		t.Errorf("a second process: %v", err)
	}
	wants(t, w, "the first", l.request(t, grow(8, noFork), 0, 8), http.StatusOK)
	w.Close()
	files, err := filepath.Glob(filepath.Join(dir, "logs", "*.checkpoint"))
	if err != nil {
		t.Fatal(err)
	}
	b := kept(t, dir)
	for i := range b {
		bad := bytes.Clone(b)
		bad[i] ^= 1
		if err := os.WriteFile(files[0], bad, 0o600); err != nil {
			t.Fatal(err)
		}
		if w, err := witness.Open(dir, slog.New(slog.DiscardHandler)); !errors.Is(err, witness.ErrState) {
			t.Errorf("byte %d: %v", i, err)
			if err == nil {
				w.Close()
			}
		}
	}
	if err := os.Remove(files[0]); err != nil {
		t.Fatal(err)
	}
	if _, err := witness.Open(dir, slog.New(slog.DiscardHandler)); !errors.Is(err, witness.ErrState) {
		t.Errorf("lost: %v", err)
	}
}

func TestInit(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"", "with blank", "with+plus", "zwölf", strings.Repeat("a", 256)} {
		if _, err := witness.Init(filepath.Join(dir, "w"), name); !errors.Is(err, witness.ErrName) {
			t.Errorf("%q: %v", name, err)
		}
	}
	l := newLog(t, origin)
	made, _ := newWitness(t, l)
	if _, err := witness.Init(made, "another.example"); !errors.Is(err, keyfile.ErrExists) {
		t.Errorf("a second key: %v", err)
	}
	if err := witness.AddLog(made, l.key, false); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a log twice: %v", err)
	}
	if err := witness.AddLog(made, "nonsense", false); !errors.Is(err, checkpoint.ErrKey) {
		t.Errorf("no key: %v", err)
	}
	if info, err := os.Stat(filepath.Join(made, "witness.key")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
}

// FuzzRequest: nothing but a rightly signed continuation is cosigned.
func FuzzRequest(f *testing.F) {
	l := newLog(f, origin)
	dir, vkey := newWitness(f, l)
	w := open(f, dir)
	tree := grow(20, noFork)
	if a := ask(w, l.request(f, tree, 0, 7)); a.Code != http.StatusOK {
		f.Fatal(a.Code)
	}
	f.Add(l.request(f, tree, 7, 7), true)
	f.Add([]byte("7\n\n"), true)
	f.Add([]byte("old 7\nAAAA\n\norigin\n7\n"), false)
	f.Fuzz(func(t *testing.T, b []byte, signed bool) {
		if signed { // the fuzzer writes the head only
			b = append(bytes.Clone(b), l.checkpoint(t, tree, 7)...)
		}
		a := ask(w, b)
		if a.Code >= 500 {
			t.Fatalf("%d: %s", a.Code, a.Body)
		}
		if a.Code == http.StatusOK {
			_, rest, _ := bytes.Cut(b, []byte("\n\n"))
			c, err := checkpoint.Log{Key: l.key, Witnesses: []string{vkey}, Quorum: 1}.Open(append(bytes.Clone(rest), a.Body.Bytes()...))
			if err != nil || c.Size() != 7 || !bytes.HasPrefix(b, []byte("old 7\n\n")) {
				t.Errorf("cosigned %q: %v", b, err)
			}
		}
		io.Copy(io.Discard, a.Body)
	})
}
