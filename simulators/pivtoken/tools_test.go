package pivtoken_test

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"enrollkiosk/simulators/pivtoken"
)

// bench runs foreign programs against one token.
type bench struct {
	t   *testing.T
	env []string
	dir string
}

func plug(t *testing.T, o pivtoken.Options) bench {
	t.Helper()
	r, env := reader(t, "Yubico YubiKey OTP+FIDO+CCID 00 00")
	r.Insert(pivtoken.New(o))
	return bench{t, append(env, "LC_ALL=C"), t.TempDir()}
}

// run runs a program that must succeed and returns all it said.
func (b bench) run(program string, args ...string) string {
	b.t.Helper()
	out, err := b.try(program, args...)
	if err != nil {
		b.t.Fatalf("%s %q: %v\n%s", program, args, err, out)
	}
	return out
}

func (b bench) try(program string, args ...string) (string, error) {
	b.t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		packages := map[string]string{
			"yubico-piv-tool": "yubico-piv-tool", "openssl": "openssl",
			"pkcs15-tool": "opensc", "pkcs11-tool": "opensc", "opensc-tool": "opensc",
		}
		b.t.Fatalf("%v: install the Debian package %s", err, packages[program])
	}
	ctx, cancel := context.WithTimeout(b.t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env, cmd.Dir = b.env, b.dir
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func (b bench) wants(out string, sentences ...string) {
	b.t.Helper()
	for _, s := range sentences {
		if !strings.Contains(out, s) {
			b.t.Errorf("no %q in:\n%s", s, out)
		}
	}
}

// certify generates a key with Yubico's tool and gives it a certificate.
func (b bench) certify(slot, algorithm, name string) {
	b.t.Helper()
	public, certificate := slot+".pub", slot+".pem"
	b.run("yubico-piv-tool", "-a", "generate", "-s", slot, "-A", algorithm, "-o", public)
	if _, err := os.Stat(filepath.Join(b.dir, "ca.pem")); err != nil {
		b.run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
			"-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=Test CA", "-days", "2")
	}
	// yubico-piv-tool 2.2.0 cannot sign one with OpenSSL 3 (its issue 388).
	b.run("openssl", "x509", "-new", "-force_pubkey", public, "-subj", "/CN="+name,
		"-CA", "ca.pem", "-CAkey", "ca.key", "-days", "2", "-out", certificate)
	b.run("yubico-piv-tool", "-a", "import-certificate", "-s", slot, "-i", certificate)
}

func TestYubicoPIVToolReadsStatus(t *testing.T) {
	b := plug(t, pivtoken.Options{Serial: 7654321, Faults: pivtoken.Provisioned})
	b.wants(b.run("yubico-piv-tool", "-a", "status"),
		"Version:\t5.7.4", "Serial Number:\t7654321", "Slot 9a:", "ECCP256", "CN=Test holder", "PIN tries left:\t3")
	b.wants(b.run("yubico-piv-tool", "-a", "version"), "5.7.4")
}

// The whole life of a key. Firmware 5.4.3, because version 2.2.0 of the tool
// knows only 3DES management keys and firmware 5.7 comes with an AES one.
func TestYubicoPIVTool(t *testing.T) {
	a := authority(t, "tools")
	b := plug(t, pivtoken.Options{Root: a, Version: [3]byte{5, 4, 3}})
	b.run("yubico-piv-tool", "-a", "set-chuid", "-a", "set-ccc")

	b.certify("9a", "ECCP256", "authentication")
	b.certify("9c", "ECCP384", "signature")
	b.certify("9d", "RSA2048", "management")
	for slot, said := range map[string][2]string{
		"9a": {"Successful ECDSA verification", "Successfully performed ECDH exchange"},
		"9c": {"Successful ECDSA verification", "Successfully performed ECDH exchange"},
		"9d": {"Successful RSA verification", "Successfully performed RSA decryption"},
	} {
		for i, action := range []string{"test-signature", "test-decipher"} {
			out := b.run("yubico-piv-tool", "-a", "verify-pin", "-P", "123456", "-a", action, "-s", slot, "-i", slot+".pem")
			b.wants(out, said[i])
		}
		if out, err := b.try("yubico-piv-tool", "-a", "test-signature", "-s", slot, "-i", slot+".pem"); err == nil {
			t.Errorf("slot %s signed without PIN:\n%s", slot, out)
		}
	}
	b.wants(b.run("yubico-piv-tool", "-a", "status"),
		"Slot 9a:", "Slot 9c:", "Slot 9d:", "CN=authentication", "ECCP384", "RSA2048", "CCC:\tf015")

	// OpenSSL follows the attestation to the root.
	b.run("yubico-piv-tool", "-a", "attest", "-s", "9a", "-o", "leaf.pem")
	b.run("yubico-piv-tool", "-a", "read-certificate", "-s", "f9", "-o", "f9.pem")
	if err := os.WriteFile(filepath.Join(b.dir, "root.der"), a.Root(), 0o600); err != nil {
		t.Fatal(err)
	}
	b.run("openssl", "x509", "-inform", "DER", "-in", "root.der", "-out", "root.pem")
	b.wants(b.run("openssl", "verify", "-x509_strict", "-CAfile", "root.pem", "f9.pem"), "OK")
	b.wants(b.run("openssl", "verify", "-CAfile", "root.pem", "-untrusted", "f9.pem", "leaf.pem"), "OK")
	b.wants(b.run("openssl", "x509", "-in", "leaf.pem", "-noout", "-pubkey"), string(must(os.ReadFile(filepath.Join(b.dir, "9a.pub")))))

	b.run("yubico-piv-tool", "-a", "change-pin", "-P", "123456", "-N", "654321")
	out, _ := b.try("yubico-piv-tool", "-a", "verify-pin", "-P", "123456")
	b.wants(out, "2 tries left")
	b.run("yubico-piv-tool", "-a", "unblock-pin", "-P", "12345678", "-N", "111111")
	b.run("yubico-piv-tool", "-a", "set-mgm-key", "-n", strings.Repeat("0123456789ABCDEF", 3))
	if out, err := b.try("yubico-piv-tool", "-a", "generate", "-s", "9a", "-A", "ECCP256"); err == nil {
		t.Errorf("the old management key works:\n%s", out)
	}
	for range 3 {
		b.try("yubico-piv-tool", "-a", "verify-pin", "-P", "000000")
		b.try("yubico-piv-tool", "-a", "change-puk", "-P", "00000000", "-N", "00000001")
	}
	b.run("yubico-piv-tool", "-a", "reset")
	if out := b.run("yubico-piv-tool", "-a", "status"); strings.Contains(out, "Slot") {
		t.Errorf("after reset:\n%s", out)
	}
}

func must(data []byte, err error) []byte {
	if err != nil {
		panic(err)
	}
	return data
}

func TestOpenSC(t *testing.T) {
	b := plug(t, pivtoken.Options{Version: [3]byte{5, 4, 3}})
	b.wants(b.run("opensc-tool", "-n"), "Personal Identity Verification Card")
	b.run("yubico-piv-tool", "-a", "set-chuid", "-a", "set-ccc")
	b.certify("9a", "RSA2048", "authentication")
	b.certify("9c", "ECCP256", "signature")

	b.wants(b.run("pkcs15-tool", "-D"),
		"PKCS#15 Card [authentication]", "Private RSA Key [PIV AUTH key]", "Private EC Key [SIGN key]",
		"X.509 Certificate [Certificate for PIV Authentication]", "Certificate for Digital Signature")
	b.wants(b.run("openssl", "x509", "-in", "9a.pem", "-outform", "PEM"),
		strings.TrimSpace(b.run("pkcs15-tool", "--read-certificate", "1")[len("Using reader with a card: Yubico YubiKey OTP+FIDO+CCID 00 00\n"):]))

	// OpenSC's own test: random numbers, signatures, verification, decryption.
	out := b.run("pkcs11-tool", "--test", "--login", "--pin", "123456")
	b.wants(out, "all 4 signature functions seem to work", "RSA-PKCS: OK", "No errors")

	// 9C asks for the PIN again before each signature.
	if err := os.WriteFile(filepath.Join(b.dir, "digest"), bytes.Repeat([]byte{0xD1}, 32), 0o600); err != nil {
		t.Fatal(err)
	}
	b.run("pkcs11-tool", "--sign", "--login", "--pin", "123456", "--id", "02", "-m", "ECDSA",
		"--signature-format", "openssl", "-i", "digest", "-o", "signature")
	b.wants(b.run("openssl", "pkeyutl", "-verify", "-pubin", "-inkey", "9c.pub", "-in", "digest", "-sigfile", "signature"),
		"Verified Successfully")
}

func TestOpenSCReadsPlainCard(t *testing.T) {
	b := plug(t, pivtoken.Options{Faults: pivtoken.PlainNIST})
	b.wants(b.run("opensc-tool", "-a"), "3b:80:80:01:01")
	b.wants(b.run("pkcs15-tool", "-D"), "PKCS#15 Card [PIV_II]", "PIN [PIN]")
}

// A card pulled at any command ends a foreign program's work, not the daemon;
// put back, the card works on.
func TestPulledFromReader(t *testing.T) {
	r, env := reader(t, "Yubico YubiKey OTP+FIDO+CCID 00 00")
	b := bench{t, append(env, "LC_ALL=C"), t.TempDir()}
	var last, pullAt atomic.Int64
	token := pivtoken.New(pivtoken.Options{Observe: func(n int, _ []byte) {
		last.Store(int64(n))
		if int64(n) == pullAt.Load() {
			r.Pull()
		}
	}})
	r.Insert(token)
	want := b.run("yubico-piv-tool", "-a", "status")
	for _, after := range []int64{1, 2, 5, 20, last.Load()} {
		pullAt.Store(last.Load() + after)
		if out, _ := b.try("yubico-piv-tool", "-a", "status"); out == want {
			t.Errorf("pulled before command %d and nobody noticed:\n%s", after, out)
		}
		pullAt.Store(0)
		r.Insert(token)
		if got := b.run("yubico-piv-tool", "-a", "status"); got != want {
			t.Errorf("put back after command %d: %s", after, got)
		}
	}
}
