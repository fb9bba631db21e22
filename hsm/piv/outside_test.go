package piv_test

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"enrollkiosk/hsm"
	"enrollkiosk/hsm/piv"
	"enrollkiosk/simulators/pivtoken"
)

// foreign runs a program that is not ours and must succeed.
func foreign(t *testing.T, dir, program string, args ...string) string {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		t.Fatalf("%v: install the Debian packages yubico-piv-tool, opensc and openssl", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "LC_ALL=C")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", program, args, err, out)
	}
	return string(out)
}

// Other programs find a citizen's token in order: Yubico's tool, OpenSC and
// OpenSSL.
func TestOtherProgramsUseTheToken(t *testing.T) {
	r, _ := insert(t, pivtoken.Options{})
	ctx := within(t, 20*time.Second)
	keys, err := enroll(ctx, r.Name())
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	says := func(out string, sentences ...string) {
		t.Helper()
		for _, s := range sentences {
			if !regexp.MustCompile(s).MatchString(out) {
				t.Errorf("no %q in:\n%s", s, out)
			}
		}
	}
	tool := func(args ...string) string {
		return foreign(t, dir, "yubico-piv-tool", append([]string{"-r", r.Name()}, args...)...)
	}
	says(tool("-a", "status"), `CHUID:\s+3019d4e739da739ced39ce739d8368582108421084`, `Slot 9a:\s+Algorithm:\s+ECCP256\s+Subject DN:\s+Issuer DN:\s+CN=Key container`,
		`Slot 9d:\s+Algorithm:\s+ECCP256`, `Not After:\s+Dec 31 23:59:59 9999`, `PIN tries left:\s+3`)
	for _, slot := range []string{"9a", "9d"} {
		tool("-a", "read-certificate", "-s", slot, "-o", slot+".pem")
	}
	says(tool("-a", "verify-pin", "-P", citizenPIN, "-a", "test-signature", "-s", "9a", "-i", "9a.pem"), "Successful ECDSA verification")
	says(tool("-a", "verify-pin", "-P", citizenPIN, "-a", "test-decipher", "-s", "9d", "-i", "9d.pem"), "Successfully performed ECDH exchange")

	shown := foreign(t, dir, "openssl", "x509", "-in", "9a.pem", "-noout", "-subject", "-ext", "subjectAltName,keyUsage")
	says(shown, `(?m)^subject=\s*$`, `Alternative Name: critical\s+URI:urn:uuid:[0-9a-f-]{36}`, "Digital Signature")
	says(foreign(t, dir, "openssl", "x509", "-in", "9d.pem", "-noout", "-ext", "keyUsage"), "Key Agreement")
	public, err := x509.MarshalPKIXPublicKey(keys.Authentication.Public)
	if err != nil {
		t.Fatal(err)
	}
	if got := foreign(t, dir, "openssl", "x509", "-in", "9a.pem", "-noout", "-pubkey"); got != string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public})) {
		t.Errorf("another key:\n%s", got)
	}

	for name, der := range map[string][]byte{"leaf": keys.Authentication.Evidence.Certificate, "own": keys.Authentication.Evidence.Intermediate, "root": authority.Root()} {
		if err := os.WriteFile(filepath.Join(dir, name+".pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	says(foreign(t, dir, "openssl", "verify", "-CAfile", "root.pem", "-untrusted", "own.pem", "leaf.pem"), "leaf.pem: OK")

	says(foreign(t, dir, "pkcs15-tool", "--reader", r.Name(), "--list-certificates"), "Certificate for PIV Authentication", "Certificate for Key Management")
	if _, err := piv.Probe(ctx, r.Name()); err != nil {
		t.Errorf("after all of them: %v", err)
	}
}

// Yubico's tool verifies what keys of the other algorithms sign and agree on.
func TestOtherProgramsUseOtherAlgorithms(t *testing.T) {
	for algorithm, says := range map[hsm.Algorithm]string{hsm.P384: "Successful ECDSA verification", hsm.RSA2048: "Successful RSA verification"} {
		t.Run(string(algorithm), func(t *testing.T) {
			r, _ := insert(t, pivtoken.Options{})
			c := ceremony{reader: r.Name(), spec: piv.KeySpec{Authentication: hsm.KeyRule{Algorithm: algorithm}, KeyManagement: hsm.KeyRule{Algorithm: hsm.P384}}}
			c.digest = map[hsm.Algorithm]int{hsm.P384: 48, hsm.RSA2048: 32}[algorithm]
			if err := c.run(within(t, time.Minute)); err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			tool := func(args ...string) string {
				return foreign(t, dir, "yubico-piv-tool", append([]string{"-r", r.Name()}, args...)...)
			}
			for _, slot := range []string{"9a", "9d"} {
				tool("-a", "read-certificate", "-s", slot, "-o", slot+".pem")
			}
			if out := tool("-a", "verify-pin", "-P", citizenPIN, "-a", "test-signature", "-s", "9a", "-i", "9a.pem"); !strings.Contains(out, says) {
				t.Errorf("%s", out)
			}
			if out := tool("-a", "verify-pin", "-P", citizenPIN, "-a", "test-decipher", "-s", "9d", "-i", "9d.pem"); !strings.Contains(out, "Successfully performed ECDH exchange") {
				t.Errorf("%s", out)
			}
		})
	}
}
