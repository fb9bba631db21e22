package record_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/transparency-dev/formats/log"
	"github.com/transparency-dev/merkle/rfc6962"
	"github.com/transparency-dev/merkle/testonly"
	"golang.org/x/mod/sumdb/note"

	"enrollkiosk/registry/checkpoint"
	"enrollkiosk/registry/receipt"
	"enrollkiosk/registry/record"
)

var update = flag.Bool("update", false, "write the worked example of docs/record-format.md anew")

const (
	exampleDir = "testdata/example"
	docPath    = "../../docs/record-format.md"
	scriptPath = "../../scripts/verify-record"
)

// logKey is a note key pair made from a word.
func logKey(t testing.TB, word string) (note.Signer, string) {
	t.Helper()
	seed := sha256.Sum256([]byte(word))
	private := ed25519.NewKeyFromSeed(seed[:])
	public := append([]byte{1}, private.Public().(ed25519.PublicKey)...)
	hash := sha256.Sum256(append([]byte(origin+"\n"), public...))
	id := binary.BigEndian.Uint32(hash[:])
	signer, err := note.NewSigner(fmt.Sprintf("PRIVATE+KEY+%s+%08x+%s", origin, id, base64.StdEncoding.EncodeToString(append([]byte{1}, seed[:]...))))
	if err != nil {
		t.Fatal(err)
	}
	return signer, fmt.Sprintf("%s+%08x+%s", origin, id, base64.StdEncoding.EncodeToString(public))
}

// logged puts a record into a log of seven leaves and returns its receipt.
func logged(t testing.TB, r record.Record) (text []byte, vkey string) {
	t.Helper()
	signer, vkey := logKey(t, "log")
	tree := testonly.New(rfc6962.DefaultHasher)
	for i := range 7 {
		entry := sha256.Sum256([]byte{byte(i)})
		if i == 4 {
			entry = receipt.Leaf(r.Payload().Blind, r.ID())
		}
		tree.AppendData(entry[:])
	}
	checkpoint, err := note.Sign(&note.Note{Text: string(log.Checkpoint{Origin: origin, Size: 7, Hash: tree.HashAt(7)}.Marshal())}, signer)
	if err != nil {
		t.Fatal(err)
	}
	path, err := tree.InclusionProof(4, 7)
	if err != nil {
		t.Fatal(err)
	}
	var hashes [][32]byte
	for _, h := range path {
		hashes = append(hashes, [32]byte(h))
	}
	return receipt.Build(4, hashes, checkpoint, r.Payload().Blind, r.ID()), vkey
}

// The worked example stands in testdata; this holds that it is what the code
// reads and what the document quotes.
func TestWorkedExample(t *testing.T) {
	if *update {
		writeExample(t)
	}
	example := readExample(t)
	r, err := record.Parse(example["record.json"])
	if err != nil {
		t.Fatal(err)
	}
	s, err := record.ParseSubmission(example["submission.json"])
	if err != nil || s.ID() != r.ID() {
		t.Fatalf("submission: %v", err)
	}
	vkey := strings.TrimSpace(string(example["log.vkey"]))
	if _, err := receipt.Verify(example["receipt.tlog-proof"], checkpoint.Log{Key: vkey}, r.ID()); err != nil {
		t.Fatal(err)
	}
	doc, err := os.ReadFile(docPath)
	if err != nil {
		t.Fatal(err)
	}
	p := r.Payload()
	if _, err := record.OpenSealed(p.Context, enroll(t).authority, p.Identity); err != nil {
		t.Errorf("the example's identity does not open: %v", err)
	}
	id, binding := r.ID(), p.Context.KeyBinding()
	pub, err := p.Holder.Key.Public()
	if err != nil {
		t.Fatal(err)
	}
	challenge, err := p.Context.ChipChallenge(pub)
	if err != nil {
		t.Fatal(err)
	}
	leaf := receipt.Leaf(p.Blind, id)
	for what, want := range map[string]string{
		"context":        string(p.Context.Bytes()),
		"record id":      hex.EncodeToString(id[:]),
		"key binding":    hex.EncodeToString(binding[:]),
		"chip challenge": hex.EncodeToString(challenge[:]),
		"DID":            p.Holder.DID,
		"leaf":           hex.EncodeToString(leaf[:]),
		"log key":        vkey,
		"holder header":  decode(t, take(t, r.Bytes()).Signatures[0].Protected),
		"receipt":        string(example["receipt.tlog-proof"]),
	} {
		if !strings.Contains(string(doc), want) {
			t.Errorf("%s does not quote the example's %s:\n%s", docPath, what, want)
		}
	}
}

func readExample(t testing.TB) map[string][]byte {
	t.Helper()
	out := map[string][]byte{}
	for _, name := range []string{"record.json", "submission.json", "receipt.tlog-proof", "log.vkey"} {
		b, err := os.ReadFile(filepath.Join(exampleDir, name))
		if err != nil {
			t.Fatal(err)
		}
		out[name] = b
	}
	return out
}

func writeExample(t *testing.T) {
	t.Helper()
	e := enroll(t)
	r := e.sign(t)
	s, err := record.NewSubmission(r, e.attestation)
	if err != nil {
		t.Fatal(err)
	}
	text, vkey := logged(t, r)
	for name, b := range map[string][]byte{
		"record.json": r.Bytes(), "submission.json": s.Bytes(), "receipt.tlog-proof": text, "log.vkey": []byte(vkey + "\n"),
	} {
		if err := os.MkdirAll(exampleDir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(exampleDir, name), b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// The shell commands that the document gives are run as they stand there.
func TestDocumentedCommands(t *testing.T) {
	doc, err := os.ReadFile(docPath)
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllSubmatch(doc, -1)
	if len(blocks) == 0 {
		t.Fatal("no commands in the document")
	}
	dir := t.TempDir()
	for name, b := range readExample(t) {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	script := "set -eu\n" + string(bytes.Join(firsts(blocks), []byte("\n")))
	run := func(change func()) (string, error) {
		change()
		cmd := exec.CommandContext(t.Context(), "sh", "-c", script)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	out, err := run(func() {})
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if n := strings.Count(out, "Verified OK") + strings.Count(out, "Signature Verified Successfully"); n != 4 {
		t.Errorf("%d of 4 signatures verified:\n%s", n, out)
	}
	id := ID(t, readExample(t)["record.json"])
	if !strings.Contains(out, id) {
		t.Errorf("the commands do not print the record id:\n%s", out)
	}
	// While the log changes its key, two sign, and either is found.
	next, nextKey := logKey(t, "next log")
	proof := string(readExample(t)["receipt.tlog-proof"])
	head, signed, _ := strings.Cut(proof, "\n\n")
	text, _, _ := strings.Cut(signed, "\n\n")
	second, err := note.Sign(&note.Note{Text: text + "\n"}, next)
	if err != nil {
		t.Fatal(err)
	}
	line := string(second[len(text)+2:])
	for _, vkey := range []string{nextKey + "\n", string(readExample(t)["log.vkey"])} {
		out, err = run(func() {
			write(t, filepath.Join(dir, "receipt.tlog-proof"), []byte(head+"\n\n"+text+"\n\n"+line+strings.TrimPrefix(signed, text+"\n\n")))
			write(t, filepath.Join(dir, "log.vkey"), []byte(vkey))
		})
		if err != nil {
			t.Errorf("two keys: %v\n%s", err, out)
		}
	}
	out, err = run(func() {
		path := filepath.Join(dir, "record.json")
		b, _ := os.ReadFile(path)
		b[len(`{"payload":"`)+400] ^= 1
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
	})
	if err == nil {
		t.Errorf("the commands accept a changed record:\n%s", out)
	}
}

func firsts(blocks [][][]byte) (out [][]byte) {
	for _, b := range blocks {
		out = append(out, b[1])
	}
	return out
}

func ID(t *testing.T, b []byte) string {
	t.Helper()
	r, err := record.Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	id := r.ID()
	return hex.EncodeToString(id[:])
}

// verifyRecord runs the independent verifier; code is its exit status.
func verifyRecord(t *testing.T, r, text []byte, vkey string, args ...string) (out string, code int) {
	t.Helper()
	dir := t.TempDir()
	write := func(name string, b []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	args = append([]string{scriptPath, write("record.json", r)}, args...)
	if text != nil {
		args = append(args, "--receipt", write("receipt", text), "--log-key", write("vkey", []byte(vkey+"\n")))
	}
	b, err := exec.CommandContext(t.Context(), "python3", args...).CombinedOutput()
	if exit, ok := err.(*exec.ExitError); ok {
		return string(b), exit.ExitCode()
	} else if err != nil {
		t.Fatalf("python3 is needed: %v", err)
	}
	return string(b), 0
}

func TestScriptVerifies(t *testing.T) {
	rsaOfficer := party{role: record.Officer, key: device{key: rsaOnce()}}
	rsaOfficer.chain = chain(t, "officer 1", rsaOfficer.key)
	for name, e := range map[string]*enrollment{
		"enroll":            enroll(t),
		"replace":           newEnrollment(t, record.Replace, oldHolder(t), holder(t), officer(t), kiosk(t)),
		"revoke":            newEnrollment(t, record.Revoke, holder(t)),
		"RS256 and Ed25519": newEnrollment(t, record.Enroll, party{role: record.Holder, key: edKey("holder")}, rsaOfficer, kiosk(t)),
		"ES384":             newEnrollment(t, record.Enroll, party{role: record.Holder, key: p384Key(t, "holder")}, officer(t), kiosk(t)),
		"RS256 holder":      newEnrollment(t, record.Enroll, party{role: record.Holder, key: device{key: rsaOnce()}}, officer(t), kiosk(t)),
		"PS256":             newEnrollment(t, record.Update, holder(t), officer(t), party{role: record.Kiosk, key: device{key: rsaOnce(), pss: true}}),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := e.sign(t)
			text, vkey := logged(t, r)
			s, err := record.NewSubmission(r, e.attestation)
			if err != nil {
				t.Fatal(err)
			}
			id := r.ID()
			out, code := verifyRecord(t, s.Bytes(), text, vkey, "--id", hex.EncodeToString(id[:]), "--audience", origin)
			if code != 0 || !strings.Contains(out, "VERIFIED: record and receipt") || !strings.Contains(out, hex.EncodeToString(id[:])) {
				t.Errorf("exit %d:\n%s", code, out)
			}
		})
	}
}

func TestScriptRefuses(t *testing.T) {
	e := enroll(t)
	r := e.sign(t)
	good := string(r.Bytes())
	text, vkey := logged(t, r)
	other := newEnrollment(t, record.Update, holder(t), officer(t), kiosk(t)).sign(t)
	otherText, _ := logged(t, other)
	_, otherKey := logKey(t, "another log")
	edit := func(change func(j *jws)) string {
		j := take(t, []byte(good))
		change(&j)
		return j.text(t)
	}
	tampered := func(old, new string) string { return replaceOnce(t, string(text), old, new) }
	lines := strings.Split(string(text), "\n")
	for name, c := range map[string]struct{ record, receipt, vkey, reason string }{
		"payload changed": {edit(func(j *jws) {
			j.Payload = b64.EncodeToString([]byte(replaceOnce(t, decode(t, j.Payload), `"sequence":42`, `"sequence":43`)))
		}), "", "", "signature does not verify"},
		"signature removed":  {edit(func(j *jws) { j.Signatures = j.Signatures[1:] }), "", "", "2 signatures, 3 signers"},
		"signature changed":  {edit(func(j *jws) { j.Signatures[2].Signature = j.Signatures[1].Signature }), "", "", "signature does not verify"},
		"role moved":         {edit(func(j *jws) { moveRole(t, &j.Signatures[1]) }), "", "", "members"},
		"white space":        {good + "\n", "", "", "canonical"},
		"member added":       {strings.Replace(good, `{"payload"`, `{"a":1,"payload"`, 1), "", "", "members"},
		"member twice":       {strings.Replace(good, `{"payload"`, `{"payload":"e30","payload"`, 1), "", "", "twice"},
		"member case":        {strings.Replace(good, `{"payload"`, `{"PAYLOAD"`, 1), "", "", "members"},
		"not JSON":           {"<html>", "", "", "JSON"},
		"nothing":            {"", "", "", "JSON"},
		"other receipt":      {good, string(otherText), vkey, "another record"},
		"other log key":      {good, string(text), otherKey, "not signed by the log"},
		"index":              {good, tampered("index 4", "index 5"), vkey, "not in the log"},
		"index beyond":       {good, tampered("index 4", "index 7"), vkey, "beyond"},
		"path cut":           {good, tampered(lines[5]+"\n", ""), vkey, "receipt"},
		"path longer":        {good, tampered(lines[5], lines[5]+"\n"+lines[5]), vkey, "receipt"},
		"checkpoint size":    {good, tampered("\n7\n", "\n8\n"), vkey, "checkpoint: signature"},
		"checkpoint origin":  {good, tampered("\n"+origin+"\n", "\nother.example/log\n"), vkey, "origin"},
		"header of receipt":  {good, tampered("@v1", "@v2"), vkey, "tlog-proof"},
		"signature stripped": {good, string(text[:strings.LastIndex(string(text), "\u2014")]), vkey, "not signed"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var receiptText []byte
			if c.receipt != "" {
				receiptText = []byte(c.receipt)
			}
			out, code := verifyRecord(t, []byte(c.record), receiptText, c.vkey)
			if code != 4 || !strings.Contains(out, "REFUSED: ") || !strings.Contains(out, c.reason) {
				t.Errorf("exit %d, want a refusal about %q:\n%s", code, c.reason, out)
			}
		})
	}
	for _, args := range [][]string{{"--id", strings.Repeat("0", 64)}, {"--audience", "other.example/log"}} {
		if out, code := verifyRecord(t, []byte(good), nil, "", args...); code != 4 {
			t.Errorf("%v: exit %d\n%s", args, code, out)
		}
	}
}
