package attest_test

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"enrollkiosk/hsm"
	"enrollkiosk/hsm/attest"
	sim "enrollkiosk/simulators/tpm"
)

// TestMain lets this program be the pipe between tpm2-tools and the socket.
func TestMain(m *testing.M) {
	if path := os.Getenv("TPM_TEST_PIPE"); path != "" {
		c, err := net.Dial("unix", path)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		go func() { _, _ = io.Copy(c, os.Stdin); os.Exit(0) }()
		_, _ = io.Copy(os.Stdout, c)
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// toolbox runs tpm2-tools in a directory against a TPM that nobody else uses.
type toolbox struct {
	t   *testing.T
	tpm *sim.Instance
	dir string
}

func (b toolbox) run(name string, args ...string) {
	b.t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		b.t.Fatalf("%v: apt-get install tpm2-tools", err)
	}
	cmd := exec.CommandContext(b.t.Context(), path, args...)
	cmd.Dir = b.dir
	cmd.Env = append(os.Environ(), "TPM2TOOLS_TCTI=cmd:"+os.Args[0], "TPM_TEST_PIPE="+strings.TrimPrefix(b.tpm.Path(), "unix:"))
	if out, err := cmd.CombinedOutput(); err != nil {
		b.t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	if name != "tpm2_flushcontext" {
		b.run("tpm2_flushcontext", "-t")
	}
}

func (b toolbox) read(name string) []byte {
	b.t.Helper()
	out, err := os.ReadFile(filepath.Join(b.dir, name))
	if err != nil {
		b.t.Fatal(err)
	}
	return out
}

// create makes a key under the storage root key and loads it.
func (b toolbox) create(name, attributes string, more ...string) {
	b.t.Helper()
	b.run("tpm2_create", append([]string{"-C", srk, "-G", "ecc:ecdsa-sha256:null", "-g", "sha256", "-a", attributes, "-u", name + ".pub", "-r", name + ".priv",
		"--creation-data", name + ".creation", "-d", name + ".hash", "-t", name + ".ticket"}, more...)...)
	b.run("tpm2_load", "-C", srk, "-u", name+".pub", "-r", name+".priv", "-c", name+".ctx")
}

const (
	srk   = "0x81000001"
	fixed = "fixedtpm|fixedparent|sensitivedataorigin|sign|"
)

// unwrap takes the structure out of a TPM2B.
func unwrap(t *testing.T, b []byte) []byte {
	t.Helper()
	if len(b) < 2 || len(b) != 2+int(b[0])<<8+int(b[1]) {
		t.Fatalf("no TPM2B: %x", b)
	}
	return b[2:]
}

// TestForeignStatement has tpm2-tools create keys and certify their creation; no
// code of ours makes any of the evidence.
func TestForeignStatement(t *testing.T) {
	i, d := machine(t, t.TempDir())
	kiosk, err := d.AttestationKey()
	if err != nil {
		t.Fatal(err)
	}
	_ = d.Close() // one client at a time
	b := toolbox{t, i, t.TempDir()}
	outside, nonce := sha256.Sum256([]byte("outside")), sha256.Sum256([]byte("foreign nonce"))
	b.create("ak", fixed+"userwithauth|noda|restricted")
	expect := attest.TPMExpect{AK: unwrap(t, b.read("ak.pub")), Class: attest.Test, QualifyingData: nonce[:], OutsideInfo: outside, ParentName: kiosk.ParentName}

	for name, c := range map[string]struct {
		attributes string
		more       []string
		any, user  attest.Check // verdicts without and with UserAuth; none: accepted
	}{
		"person":    {fixed + "userwithauth", []string{"-p", "2468-person"}, "", ""},
		"machine":   {fixed + "userwithauth|noda", nil, "", attest.CheckAttributes},
		"no-auth":   {fixed + "adminwithpolicy|noda", nil, "", attest.CheckAttributes},
		"decrypts":  {fixed + "userwithauth|decrypt", []string{"-G", "ecc:null"}, attest.CheckForm, attest.CheckForm},
		"leaves":    {"sensitivedataorigin|sign|userwithauth", nil, attest.CheckAttributes, attest.CheckAttributes},
		"with-pcrs": {fixed + "userwithauth", []string{"-l", "sha256:0,7"}, attest.CheckPCR, attest.CheckPCR},
		"other-use": {fixed + "userwithauth", []string{"-q", hex.EncodeToString(nonce[:])}, attest.CheckBinding, attest.CheckBinding},
		"p-384":     {fixed + "userwithauth", []string{"-G", "ecc384:ecdsa-sha384:null"}, attest.CheckForm, attest.CheckForm},
	} {
		b.create(name, c.attributes, append([]string{"-q", hex.EncodeToString(outside[:])}, c.more...)...)
		b.run("tpm2_certifycreation", "-C", "ak.ctx", "-c", name+".ctx", "-d", name+".hash", "-t", name+".ticket", "-g", "sha256", "-s", "ecdsa", "-f", "tss",
			"-q", hex.EncodeToString(nonce[:]), "-o", name+".sig", "--attestation", name+".attest")
		e := hsm.TPMEvidence{Public: unwrap(t, b.read(name+".pub")), CreationData: unwrap(t, b.read(name+".creation")),
			Attest: b.read(name + ".attest"), Signature: b.read(name + ".sig")}
		for user, check := range map[bool]attest.Check{false: c.any, true: c.user} {
			want := expect
			want.UserAuth = user
			p, err := attest.VerifyTPM(e, want)
			if check != "" {
				refused(t, name, p, err, check)
			} else if err != nil || !p.Valid() || !p.Fresh() {
				t.Errorf("%s, user auth %v: %v", name, user, err)
			}
		}
		want := expect
		want.AK = kiosk.Public
		p, err := attest.VerifyTPM(e, want)
		if err == nil || p.Valid() {
			t.Errorf("%s: accepted under another attestation key", name)
		}
	}
}
