package attest_test

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"enrollkiosk/hsm"
	"enrollkiosk/hsm/attest"
)

// What is shipped is what the README says, all of it and nothing else, and hangs
// together by openssl's judgement too.
func TestYubico(t *testing.T) {
	readme, err := os.ReadFile("yubico/README.md")
	if err != nil {
		t.Fatal(err)
	}
	roots, intermediates := attest.Yubico()
	files, err := filepath.Glob("yubico/*.pem")
	if err != nil || len(files) != len(roots)+len(intermediates) {
		t.Errorf("%d files for %d certificates; %v", len(files), len(roots)+len(intermediates), err)
	}
	dir := t.TempDir()
	write := func(name string, ders ...[]byte) string {
		var text []byte
		for _, der := range ders {
			text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
		}
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	var trusted, between [][]byte
	for i, c := range append(roots, intermediates...) {
		digest := sha256.Sum256(c.Raw)
		if !strings.Contains(string(readme), "| "+c.Subject.CommonName+" | `"+hex.EncodeToString(digest[:])+"` |") {
			t.Errorf("the README does not tell of %s %x", c.Subject, digest)
		}
		if !c.IsCA || !strings.HasPrefix(c.Subject.CommonName, "Yubico ") {
			t.Errorf("%s is no authority of Yubico", c.Subject)
		}
		if i < len(roots) {
			trusted = append(trusted, c.Raw)
		} else {
			between = append(between, c.Raw)
		}
	}
	rootFile := write("roots.pem", trusted...)
	for _, c := range intermediates {
		out, err := exec.Command("openssl", "verify", "-CAfile", rootFile, "-untrusted", write("between.pem", between...), write("one.pem", c.Raw)).CombinedOutput()
		if err != nil {
			t.Errorf("%s: %v: %s", c.Subject, err, out)
		}
	}
}

// A genuine YubiKey verifies under what is shipped; openssl says the same of its
// chain. A root of a simulator's maker is not among it.
func TestYubicoVouchesForYubiKeys(t *testing.T) {
	b, err := os.ReadFile("testdata/yubico/firmware-5.4.3.pem")
	if err != nil {
		t.Fatal(err)
	}
	var der [][]byte
	for block, rest := pem.Decode(b); block != nil; block, rest = pem.Decode(rest) {
		der = append(der, block.Bytes)
	}
	var roots []attest.Root
	known, between := attest.Yubico()
	for _, c := range append(known, between...) {
		roots = append(roots, attest.Root{Certificate: c, Class: attest.Production})
	}
	key := certificates(t, attest.Production, der[0])[0].Certificate.PublicKey
	want := attest.PIVExpect{Slot: authentication, Serial: 0xF00F14, Key: key, PIN: hsm.PINOnce, Touch: hsm.TouchNever,
		At: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
	e := hsm.PIVEvidence{Certificate: der[0], Intermediate: der[1]}
	p, err := attest.VerifyPIV(e, roots, want)
	if err != nil || p.Class() != attest.Production {
		t.Errorf("%v", err)
	}
	for name, digest := range map[string][32]byte{"its own": sha256.Sum256(der[1]), "the root": sha256.Sum256(known[0].Raw)} {
		revoked := want
		revoked.RevokedCertificates = [][32]byte{{1}, digest}
		p, err := attest.VerifyPIV(e, roots, revoked)
		refused(t, name+" certificate revoked", p, err, attest.CheckRevoked)
	}
	p, err = attest.VerifyPIV(e, roots[1:], want)
	refused(t, "without the PIV root", p, err, attest.CheckChain)

	dir := t.TempDir()
	openssl := func(root []byte) error {
		for name, b := range map[string][]byte{"root": root, "own": der[1], "leaf": der[0]} {
			if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: b}), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		return exec.Command("openssl", "verify", "-CAfile", filepath.Join(dir, "root"), "-untrusted", filepath.Join(dir, "own"), filepath.Join(dir, "leaf")).Run()
	}
	if err := openssl(known[0].Raw); err != nil {
		t.Errorf("openssl refuses the chain: %v", err)
	}
	if openssl(known[1].Raw) == nil {
		t.Error("openssl accepts the chain under another root")
	}

	authority, _ := pivAuthority(t, "root")
	key, simulated := newTerminal(t, newToken(authority)).born(authentication, once, touchAlways)
	p, err = attest.VerifyPIV(simulated, roots, pivExpect(key))
	refused(t, "a simulated token", p, err, attest.CheckChain)
}
