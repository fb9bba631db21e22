package tpm_test

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"enrollkiosk/hsm"
	"enrollkiosk/hsm/attest"
	"enrollkiosk/hsm/tpm"
	sim "enrollkiosk/simulators/tpm"

	"github.com/google/go-tpm/tpm2"
)

// endorsed is a TPM's endorsement keys as the registry sees them: certificates
// verified, public areas parsed, and both the same key.
func endorsed(t *testing.T, i *sim.Instance, d *tpm.TPM) (keys []tpm.EndorsementKey, parsed []attest.EndorsementKey) {
	t.Helper()
	keys, err := d.EndorsementKeys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	root, err := x509.ParseCertificate(i.Roots()[1])
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range keys {
		e, err := attest.VerifyEndorsement(k.Certificate, i.Roots()[:1], []attest.Root{{Certificate: root, Class: attest.Test}}, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		p, err := attest.ParseEndorsementKey(k.Public)
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Certified(e); err != nil {
			t.Error(err)
		}
		parsed = append(parsed, p)
	}
	return keys, parsed
}

func credential(t *testing.T, ek attest.EndorsementKey, name, secret []byte) hsm.TPMCredential {
	t.Helper()
	c, err := attest.MakeCredential(ek, name, secret)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

var activationSecret = sha256.Sum256([]byte("activation"))

// Both endorsement keys of a TPM open what was made for them and for the
// attestation key, and nothing else: not one bit otherwise, not for another key
// of the TPM, not in another TPM.
func TestActivate(t *testing.T) {
	i, _, d := initialized(t)
	ak, err := d.AttestationKey()
	if err != nil {
		t.Fatal(err)
	}
	keys, parsed := endorsed(t, i, d)
	if len(keys) != 2 {
		t.Fatalf("%d endorsement keys", len(keys))
	}
	if parsed[0].Certified(attest.Endorsement{}) == nil {
		t.Error("certified by nothing")
	}
	for n, k := range keys {
		good := credential(t, parsed[n], ak.Name, activationSecret[:])
		got, err := d.Activate(t.Context(), k, good)
		if err != nil || !bytes.Equal(got, activationSecret[:]) {
			t.Fatalf("endorsement key %d: %x, %v", n, got, err)
		}
		otherName := bytes.Clone(ak.Name)
		otherName[5] ^= 1
		bad := []hsm.TPMCredential{credential(t, parsed[n], otherName, activationSecret[:]), credential(t, parsed[1-n], ak.Name, activationSecret[:]), {}}
		for at := range good.Blob {
			bad = append(bad, hsm.TPMCredential{Blob: flipped(good.Blob, at), Secret: good.Secret})
		}
		for at := 0; at < len(good.Secret); at += 7 {
			bad = append(bad, hsm.TPMCredential{Blob: good.Blob, Secret: flipped(good.Secret, at)})
		}
		for at, c := range bad {
			if got, err := d.Activate(t.Context(), k, c); err == nil || got != nil {
				t.Errorf("endorsement key %d, bad credential %d: %x", n, at, got)
			} else if at < 2 && !errors.Is(err, tpm.ErrCredential) {
				t.Errorf("bad credential %d: %v", at, err)
			}
		}
		for _, secret := range [][]byte{nil, make([]byte, attest.MaxSecret+1)} {
			if _, err := attest.MakeCredential(parsed[n], ak.Name, secret); !errors.Is(err, attest.ErrRejected) {
				t.Errorf("secret of %d bytes: %v", len(secret), err)
			}
		}
		// Nothing was left loaded, and nothing locked.
		if got, err := d.Activate(t.Context(), k, good); err != nil || !bytes.Equal(got, activationSecret[:]) {
			t.Errorf("afterwards: %x, %v", got, err)
		}
	}
	if _, err := d.Activate(t.Context(), tpm.EndorsementKey{}, hsm.TPMCredential{}); !errors.Is(err, tpm.ErrNoEndorsement) {
		t.Errorf("no key: %v", err)
	}
	if _, err := attest.MakeCredential(attest.EndorsementKey{}, ak.Name, activationSecret[:]); !errors.Is(err, attest.ErrRejected) {
		t.Errorf("zero key: %v", err)
	}

	other := filepath.Join(t.TempDir(), "other")
	if err := sim.Manufacture(t.Context(), other); err != nil {
		t.Fatal(err)
	}
	stranger, err := sim.Start(t.Context(), other)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = stranger.Stop() })
	e := open(t, stranger, t.TempDir())
	if err := e.Init(t.Context(), binding); err != nil {
		t.Fatal(err)
	}
	theirs, err := e.EndorsementKeys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got, err := e.Activate(t.Context(), theirs[0], credential(t, parsed[0], ak.Name, activationSecret[:])); !errors.Is(err, tpm.ErrCredential) || got != nil {
		t.Errorf("another TPM: %x, %v", got, err)
	}
	_ = d.Close()
	_ = e.Close()
	for _, i := range []*sim.Instance{i, stranger} {
		if list := loaded(t, i); len(list) > 0 {
			t.Errorf("%#x stay loaded", list)
		}
	}
}

func flipped(b []byte, at int) []byte {
	b = bytes.Clone(b)
	b[at] ^= 1
	return b
}

// A key that is not persistent is made from its template; one that is, but is
// another, is not used.
func TestEndorsementKeyIsMadeAnew(t *testing.T) {
	i, _, d := initialized(t)
	ak, err := d.AttestationKey()
	if err != nil {
		t.Fatal(err)
	}
	before, _ := endorsed(t, i, d)
	_ = d.Close()
	r := raw(t, i)
	public, err := tpm2.ReadPublic{ObjectHandle: tpm2.TPMHandle(0x81010001)}.Execute(r)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := (tpm2.EvictControl{Auth: tpm2.TPMRHOwner, ObjectHandle: tpm2.NamedHandle{Handle: 0x81010001, Name: public.Name},
		PersistentHandle: 0x81010001}).Execute(r); err != nil {
		t.Fatal(err)
	}
	_ = r.Close()
	d = open(t, i, filepath.Join(t.TempDir(), "keys"))
	if err := d.Init(t.Context(), binding); err != nil {
		t.Fatal(err)
	}
	if ak, err = d.AttestationKey(); err != nil {
		t.Fatal(err)
	}
	keys, parsed := endorsed(t, i, d)
	if len(keys) != 2 || !bytes.Equal(keys[0].Public, before[0].Public) {
		t.Fatalf("%d keys, or another RSA key", len(keys))
	}
	got, err := d.Activate(t.Context(), keys[0], credential(t, parsed[0], ak.Name, activationSecret[:]))
	if err != nil || !bytes.Equal(got, activationSecret[:]) {
		t.Errorf("%x, %v", got, err)
	}
	_ = d.Close()
	if list := loaded(t, i); len(list) > 0 {
		t.Errorf("%#x stay loaded", list)
	}
}

// tpm2-tools open what MakeCredential makes, and Activate what they make.
func TestForeignToolsAgreeOnCredentials(t *testing.T) {
	i, dir, d := initialized(t)
	ak, err := d.AttestationKey()
	if err != nil {
		t.Fatal(err)
	}
	keys, parsed := endorsed(t, i, d)
	text, err := os.ReadFile(filepath.Join(dir, "ak.tss2.pem"))
	if err != nil {
		t.Fatal(err)
	}
	public, private := keyFile(t, text)
	tmp := t.TempDir()
	in := func(name string) string { return filepath.Join(tmp, name) }
	put := func(name string, b []byte) string {
		t.Helper()
		if err := os.WriteFile(in(name), b, 0o600); err != nil {
			t.Fatal(err)
		}
		return in(name)
	}
	for n, k := range keys {
		handle, alg := []string{"0x81010001", "0x81010016"}[n], []string{"rsa", "ecc"}[n]
		_ = d.Close() // one client at a time
		tool(t, i, "tpm2_load", "-C", "0x81000001", "-u", put("pub", public), "-r", put("priv", private), "-c", in("ak.ctx"))
		tool(t, i, "tpm2_flushcontext", "-t")
		// RSA: by its policy. P-384: the template allows its empty authorization.
		auth := []string{}
		if n == 0 {
			tool(t, i, "tpm2_startauthsession", "--policy-session", "-S", in("session"))
			tool(t, i, "tpm2_policysecret", "-S", in("session"), "-c", "e")
			auth = []string{"-P", "session:" + in("session")}
		}
		c := credential(t, parsed[n], ak.Name, activationSecret[:])
		// The file format of tpm2-tools: magic, version, then both TPM2Bs.
		file := []byte{0xBA, 0xDC, 0xC0, 0xDE, 0, 0, 0, 1}
		file = append(binary.BigEndian.AppendUint16(file, uint16(len(c.Blob))), c.Blob...)
		file = append(binary.BigEndian.AppendUint16(file, uint16(len(c.Secret))), c.Secret...)
		tool(t, i, "tpm2_activatecredential", append([]string{"-c", in("ak.ctx"), "-C", handle, "-i", put("cred", file), "-o", in("secret")}, auth...)...)
		if got, err := os.ReadFile(in("secret")); err != nil || !bytes.Equal(got, activationSecret[:]) {
			t.Errorf("%s: tpm2_activatecredential opens %x, %v", alg, got, err)
		}
		tool(t, i, "tpm2_flushcontext", "-t")
		tool(t, i, "tpm2_flushcontext", "-l")

		tool(t, i, "tpm2_makecredential", "-T", "none", "-u", put("ek", append(binary.BigEndian.AppendUint16(nil, uint16(len(k.Public))), k.Public...)),
			"-s", put("s", activationSecret[:]), "-n", fmt.Sprintf("%x", ak.Name), "-o", in("made"))
		made, err := os.ReadFile(in("made"))
		if err != nil {
			t.Fatal(err)
		}
		blob := made[10 : 10+binary.BigEndian.Uint16(made[8:])]
		d = open(t, i, dir)
		got, err := d.Activate(t.Context(), k, hsm.TPMCredential{Blob: blob, Secret: made[10+len(blob)+2:]})
		if err != nil || !bytes.Equal(got, activationSecret[:]) {
			t.Errorf("%s: of tpm2_makecredential comes %x, %v", alg, got, err)
		}
	}
}

// keyFile is a key file's two TPM2B structures, as tpm2_load wants them.
func keyFile(t *testing.T, text []byte) (public, private []byte) {
	t.Helper()
	block, _ := pem.Decode(text)
	var file struct {
		Type            asn1.ObjectIdentifier
		EmptyAuth       bool `asn1:"explicit,tag:0,optional"`
		Parent          int
		Public, Private []byte
	}
	if _, err := asn1.Unmarshal(block.Bytes, &file); err != nil {
		t.Fatal(err)
	}
	return file.Public, file.Private
}
