package tpm_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"enrollkiosk/hsm"
	"enrollkiosk/hsm/tpm"
	"enrollkiosk/kiosk/secret"
	sim "enrollkiosk/simulators/tpm"
)

// TestMain lets this program be the pipe between tpm2-tools and the socket, and
// a kiosk that is killed.
func TestMain(m *testing.M) {
	if args := strings.Fields(os.Getenv("TPM_TEST_KIOSK")); len(args) == 4 {
		d, err := tpm.Open(context.Background(), tpm.Options{Path: args[0], Dir: args[1]})
		if err == nil {
			var c tpm.Citizen
			if c, err = d.Citizen(args[2]); err == nil {
				_, err = c.Key(secret.FromString(args[3])).Sign(context.Background(), someDigest[:])
			}
		}
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
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

// tool runs one of tpm2-tools, or openssl with its tpm2 provider, against i,
// which nobody else may be using.
func tool(t testing.TB, i *sim.Instance, name string, args ...string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("%v: apt-get install tpm2-tools openssl", err)
	}
	cmd := exec.CommandContext(t.Context(), path, args...)
	cmd.Env = append(os.Environ(), "TPM2TOOLS_TCTI=cmd:"+os.Args[0], "TPM2OPENSSL_TCTI=cmd:"+os.Args[0],
		"TPM_TEST_PIPE="+strings.TrimPrefix(i.Path(), "unix:"))
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return string(out)
}

// TestForeignToolsAgree reads the same TPM with tpm2-tools: the counter, the
// storage root key's name, and a record key whose file it loads and signs with.
func TestForeignToolsAgree(t *testing.T) {
	i, dir, d := initialized(t)
	var count uint64
	var err error
	for range 3 {
		if count, err = d.Increment(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	ak, err := d.AttestationKey()
	if err != nil {
		t.Fatal(err)
	}
	_ = d.Close() // one client at a time

	if out := tool(t, i, "tpm2_nvread", "-C", "0x01800100", "-s", "8", "0x01800100"); out != string(be(count)) {
		t.Errorf("counter %x, want %d", out, count)
	}
	if out := tool(t, i, "tpm2_readpublic", "-c", "0x81000001"); !strings.Contains(out, hex.EncodeToString(ak.ParentName)) {
		t.Errorf("name %x is not in\n%s", ak.ParentName, out)
	}

	got := parts(t, filepath.Join(dir, "record.tss2.pem"))
	if got.Type.String() != "2.23.133.10.1.3" || got.Parent != 0x81000001 || !got.EmptyAuth {
		t.Errorf("key file %v %#x", got.Type, got.Parent)
	}
	if !ecdsa.VerifyASN1(d.RecordKey().Public().(*ecdsa.PublicKey), someDigest[:], toolSigns(t, i, got, "")) {
		t.Error("tpm2_sign's signature does not verify")
	}
}

// tssFile is the first block of a key file.
type tssFile struct {
	Type            asn1.ObjectIdentifier
	EmptyAuth       bool `asn1:"explicit,tag:0,optional"`
	Parent          int
	Public, Private []byte // TPM2B structures, as tpm2_load wants them
}

func parts(t *testing.T, name string) (file tssFile) {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	if rest, err := asn1.Unmarshal(block.Bytes, &file); err != nil || len(rest) > 0 || block.Type != "TSS2 PRIVATE KEY" {
		t.Fatal(err, block.Type)
	}
	return file
}

// toolSigns has tpm2-tools load a key and sign someDigest.
func toolSigns(t *testing.T, i *sim.Instance, file tssFile, auth string) []byte {
	t.Helper()
	tmp := t.TempDir()
	in := func(name string) string { return filepath.Join(tmp, name) }
	for name, b := range map[string][]byte{"pub": file.Public, "priv": file.Private, "digest": someDigest[:]} {
		if err := os.WriteFile(in(name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	tool(t, i, "tpm2_load", "-C", "0x81000001", "-u", in("pub"), "-r", in("priv"), "-c", in("ctx"))
	tool(t, i, "tpm2_flushcontext", "-t")
	args := []string{"-c", in("ctx"), "-g", "sha256", "-d", in("digest"), "-f", "plain", "-o", in("sig")}
	if auth != "" {
		args = append(args, "-p", "str:"+auth)
	}
	tool(t, i, "tpm2_sign", args...)
	sig, err := os.ReadFile(in("sig"))
	if err != nil {
		t.Fatal(err)
	}
	return sig
}

// TestKeyFilesInOpenSSL has openssl's tpm2 provider load the key files as they
// are and sign; openssl alone verifies. The citizen's key wants what the PIN
// becomes.
func TestKeyFilesInOpenSSL(t *testing.T) {
	i, dir, d := initialized(t)
	c := citizen(t, d)
	_ = d.Close() // one client at a time
	auth := string(authOf(t, dir, c, rightPIN))
	if !ecdsa.VerifyASN1(c.Public().(*ecdsa.PublicKey), someDigest[:], toolSigns(t, i, parts(t, filepath.Join(dir, "citizens", c.Name()+".tss2.pem")), auth)) {
		t.Error("tpm2_sign's signature with the citizen's key does not verify")
	}
	tmp := t.TempDir()
	message := filepath.Join(tmp, "message")
	if err := os.WriteFile(message, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, k := range map[string]struct {
		file   string
		public any
		auth   string
	}{
		"record":  {"record.tss2.pem", d.RecordKey().Public(), ""},
		"tls":     {"tls.tss2.pem", d.TLSKey().Public(), ""},
		"citizen": {filepath.Join("citizens", c.Name()+".tss2.pem"), c.Public(), auth},
	} {
		der, err := x509.MarshalPKIXPublicKey(k.public)
		if err != nil {
			t.Fatal(err)
		}
		public, sig := filepath.Join(tmp, name+".pub"), filepath.Join(tmp, name+".sig")
		if err := os.WriteFile(public, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		tool(t, i, "openssl", "dgst", "-provider", "tpm2", "-provider", "default", "-propquery", "?provider=tpm2",
			"-sha256", "-sign", filepath.Join(dir, k.file), "-passin", "pass:"+k.auth, "-out", sig, message)
		if out, err := exec.CommandContext(t.Context(), "openssl", "dgst", "-sha256", "-verify", public, "-signature", sig, message).CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
}

func be(n uint64) []byte { return new(big.Int).SetUint64(n).FillBytes(make([]byte, 8)) }

// TestKeyFileForOpenSSL reads the key file's structure with openssl.
func TestKeyFileForOpenSSL(t *testing.T) {
	_, dir, _ := initialized(t)
	out, err := exec.CommandContext(t.Context(), "openssl", "asn1parse", "-in", filepath.Join(dir, "tls.tss2.pem")).CombinedOutput()
	if err != nil {
		t.Fatalf("openssl asn1parse: %v\n%s", err, out)
	}
	for _, want := range []string{"2.23.133.10.1.3", "81000001", "BOOLEAN"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("no %s in\n%s", want, out)
		}
	}
	info, err := os.Stat(filepath.Join(dir, "tls.tss2.pem"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

// TestRequestAndMutualTLS uses both keys as kiosk init and the courier do.
func TestRequestAndMutualTLS(t *testing.T) {
	_, _, d := initialized(t)
	for _, k := range []hsm.Key{d.RecordKey(), d.TLSKey()} {
		der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "kiosk-7"}}, hsm.Signer(k, time.Minute))
		if err != nil {
			t.Fatal(err)
		}
		csr, err := x509.ParseCertificateRequest(der)
		if err != nil || csr.CheckSignature() != nil {
			t.Fatal(err, csr.CheckSignature())
		}
	}
	signer := hsm.Signer(d.TLSKey(), time.Minute)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"x"}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, signer.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	cert := tls.Certificate{Certificate: [][]byte{der}, PrivateKey: signer}
	a, b := net.Pipe()
	server := tls.Server(a, &tls.Config{Certificates: []tls.Certificate{cert}, ClientAuth: tls.RequireAnyClientCert, MinVersion: tls.VersionTLS13})
	client := tls.Client(b, &tls.Config{Certificates: []tls.Certificate{cert}, InsecureSkipVerify: true, MinVersion: tls.VersionTLS13})
	done := make(chan error, 1)
	go func() {
		err := server.HandshakeContext(t.Context())
		_ = server.SetDeadline(time.Now()) // no close_notify into a pipe that nobody reads
		done <- err
	}()
	if err := client.HandshakeContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if peers := server.ConnectionState().PeerCertificates; len(peers) != 1 || !d.TLSKey().Public().(*ecdsa.PublicKey).Equal(peers[0].PublicKey) {
		t.Error("the server saw another client key")
	}
}
