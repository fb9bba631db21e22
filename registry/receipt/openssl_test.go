package receipt_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"enrollkiosk/registry/receipt"
)

// What docs/receipts.md says about checking a cosignature with openssl works, and
// finds a cosignature that is none.
func TestCosignatureByOpenSSL(t *testing.T) {
	text, err := os.ReadFile("../../docs/receipts.md")
	if err != nil {
		t.Fatal(err)
	}
	_, script, _ := strings.Cut(string(text), "```sh\n")
	script, _, found := strings.Cut(script, "```")
	if !found {
		t.Fatal("no lines for a shell")
	}
	l := logged(t, 4, 7)
	of, w := witnessed(t, l)
	good := string(receipt.Build(4, l.path(t, 4), l.checkpoint(t, "", w...), blind, id))
	for what, b := range map[string]string{"good": good, "another tree": strings.Replace(good, "\n7\n", "\n8\n", 1)} {
		dir := t.TempDir()
		for name, b := range map[string]string{"receipt.tlog-proof": b, "witness.vkey": of.Witnesses[1] + "\n"} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(b), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		c := exec.CommandContext(t.Context(), "sh", "-e", "-c", script)
		c.Dir = dir
		out, err := c.CombinedOutput()
		if (err == nil) != (what == "good") || strings.Contains(string(out), "Verified Successfully") != (what == "good") {
			t.Errorf("%s: %v\n%s", what, err, out)
		}
	}
}
