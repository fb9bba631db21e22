package attest_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"testing"
	"time"

	"enrollkiosk/hsm"
	"enrollkiosk/hsm/attest"
	"enrollkiosk/hsm/tpm"
	sim "enrollkiosk/simulators/tpm"
)

var update = flag.Bool("update", false, "record testdata/tpm.json anew")

// machine is a TPM with the kiosk's keys.
func machine(t *testing.T, dir string) (*sim.Instance, *tpm.TPM) {
	t.Helper()
	i, err := sim.Start(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = i.Stop() })
	d, err := tpm.Open(t.Context(), tpm.Options{Path: i.Path(), Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	if err := d.Init(t.Context(), sha256.Sum256([]byte("enrollkiosk/init/v1"+"kiosk-7"))); err != nil {
		t.Fatal(err)
	}
	return i, d
}

func record(t *testing.T, i *sim.Instance, d *tpm.TPM) recording {
	t.Helper()
	ak, err := d.AttestationKey()
	if err != nil {
		t.Fatal(err)
	}
	outside := sha256.Sum256([]byte("enrollkiosk/init/v1" + "kiosk-7"))
	nonce, older := sha256.Sum256([]byte("nonce")), sha256.Sum256([]byte("older nonce"))
	r := recording{AK: ak.Public, ParentName: ak.ParentName, Outside: outside[:], Nonce: nonce[:], Roots: i.Roots()}
	certify := func(which tpm.KeyName, nonce []byte) hsm.TPMEvidence {
		e, err := d.Certify(t.Context(), which, nonce)
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	r.Evidence, r.OtherKey, r.OtherNonce = certify(tpm.Record, nonce[:]), certify(tpm.TLS, nonce[:]), certify(tpm.Record, older[:])
	ek, err := d.EKCertificates(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range ek {
		r.EK = append(r.EK, c.DER)
	}
	return r
}

// TestRealTPM has a TPM certify the kiosk's keys and verifies what it says,
// before and after it was off.
func TestRealTPM(t *testing.T) {
	i, d := machine(t, t.TempDir())
	for _, moment := range []string{"new", "after a restart"} {
		r := record(t, i, d)
		for what, e := range map[string]hsm.TPMEvidence{"record key": r.Evidence, "tls key": r.OtherKey} {
			p, err := attest.VerifyTPM(e, r.expect())
			if err != nil {
				t.Fatalf("%s, %s: %v", what, moment, err)
			}
			key := d.RecordKey()
			if what == "tls key" {
				key = d.TLSKey()
			}
			if !p.Key().(*ecdsa.PublicKey).Equal(key.Public()) {
				t.Errorf("%s: the proof is about another key", what)
			}
		}
		for _, der := range r.EK {
			if _, err := attest.VerifyEndorsement(der, r.Roots[:1], certificates(t, attest.Test, r.Roots[1]), time.Now()); err != nil {
				t.Error(err)
			}
		}
		if *update && moment == "new" {
			b, err := json.MarshalIndent(r, "", "\t")
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile("testdata/tpm.json", append(b, '\n'), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		i.Kill()
		if err := i.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := d.Counter(t.Context()); err != nil && !errors.Is(err, hsm.ErrUnavailable) {
			t.Fatal(err)
		}
	}
}

// TestAnotherTPM shows evidence of one genuine TPM to a verifier that pinned
// another.
func TestAnotherTPM(t *testing.T) {
	fresh := func(dir string) recording {
		i, d := machine(t, dir)
		return record(t, i, d)
	}
	a := fresh(t.TempDir())
	other := t.TempDir()
	if err := sim.Manufacture(t.Context(), other); err != nil {
		t.Fatal(err)
	}
	b := fresh(other)
	if bytes.Equal(a.ParentName, b.ParentName) {
		t.Fatal("both TPMs have one storage root key")
	}
	p, err := attest.VerifyTPM(b.Evidence, a.expect())
	refused(t, "another TPM", p, err, attest.CheckSignature)
	_, err = attest.VerifyEndorsement(b.EK[0], nil, certificates(t, attest.Test, a.Roots...), time.Now())
	if !errors.Is(err, attest.ErrRejected) {
		t.Errorf("endorsement by another maker: %v", err)
	}
}
