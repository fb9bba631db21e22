package registry_test

import (
	"bytes"
	"context"
	"crypto"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"enrollkiosk/hsm"
	"enrollkiosk/hsm/tpm"
	"enrollkiosk/kiosk/secret"
	"enrollkiosk/registry"
	"enrollkiosk/registry/api"
	"enrollkiosk/registry/internal/registrytest"
	"enrollkiosk/registry/record"
	simulated "enrollkiosk/simulators/tpm"
)

// keeper is a kiosk's TPM with its key files. Only one program talks to a TPM
// at a time: use opens it for the length of f.
type keeper struct {
	t    *testing.T
	at   *simulated.Instance
	keys string // directory
}

func newKeeper(t *testing.T, dir string) keeper {
	t.Helper()
	i, err := simulated.Start(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = i.Stop() })
	m := keeper{t, i, t.TempDir()}
	m.use(func(d *tpm.TPM) error { return d.Init(t.Context(), [32]byte{7}) })
	return m
}

func (m keeper) use(f func(*tpm.TPM) error) {
	m.t.Helper()
	d, err := tpm.Open(m.t.Context(), tpm.Options{Path: m.at.Path(), Dir: m.keys})
	if err == nil {
		err = errors.Join(f(d), d.Close())
	}
	if err != nil {
		m.t.Fatal(err)
	}
}

// recordKey is the record key of a keeper whose TPM is closed meanwhile.
type recordKey struct {
	keeper
	public crypto.PublicKey
}

func (k recordKey) Public() crypto.PublicKey { return k.public }

func (k recordKey) Sign(ctx context.Context, digest []byte) (signature []byte, err error) {
	k.use(func(d *tpm.TPM) (err error) {
		signature, err = d.RecordKey().Sign(ctx, digest)
		return err
	})
	return signature, nil
}

// pin puts a TPM on the register as a kiosk's.
func (m keeper) pin(w *registrytest.World, id string) {
	m.t.Helper()
	file := filepath.Join(w.RegistryDir(), "kiosks", id+".json")
	b, err := os.ReadFile(file)
	if err != nil {
		m.t.Fatal(err)
	}
	var k registry.Kiosk
	if err := json.Unmarshal(b, &k); err != nil {
		m.t.Fatal(err)
	}
	m.use(func(d *tpm.TPM) error {
		ak, err := d.AttestationKey()
		k.AttestationKey, k.StorageKeyName = ak.Public, ak.ParentName
		return err
	})
	if b, err = json.Marshal(k); err != nil {
		m.t.Fatal(err)
	}
	if err := os.WriteFile(file, b, 0o600); err != nil {
		m.t.Fatal(err)
	}
}

// Records whose holder's key is in the sending kiosk's TPM: the genuine ones are
// taken on, and every claim of that kind that is not true in one thing gets the
// code for attestations.
func TestCustody(t *testing.T) {
	w := registrytest.New(t)
	w.Accept(t, "[token]\ncustody = true\n", nil)
	k := w.Kiosk(t, "KIOSK-0001")
	elsewhere := t.TempDir()
	if err := simulated.Manufacture(t.Context(), elsewhere); err != nil {
		t.Fatal(err)
	}
	own, other := newKeeper(t, t.TempDir()), newKeeper(t, elsewhere)
	own.pin(w, k.ID)
	r := serve(t, w.RegistryOptions(noVault))
	c := connect(t, w, r.URL, k.TLS)
	pin := secret.FromString("713905")

	citizen := func(d *tpm.TPM, outside, qualifying [32]byte) (record.Signer, record.TPMEvidence) {
		key, err := d.CreateCitizen(t.Context(), outside, pin)
		if err != nil {
			t.Fatal(err)
		}
		e, err := key.Certify(t.Context(), qualifying[:])
		if err != nil {
			t.Fatal(err)
		}
		return key.Key(pin), record.TPMEvidence(e)
	}
	// unguarded is a key that was born for this record in this TPM and has no PIN:
	// noDA, with an empty authorization value, as the kiosk's own keys are.
	unguarded := func(binding [32]byte) (record.Signer, record.TPMEvidence) {
		born := keeper{t, own.at, t.TempDir()}
		born.use(func(d *tpm.TPM) error { return d.Init(t.Context(), binding) })
		ak, err := os.ReadFile(filepath.Join(own.keys, "ak.tss2.pem"))
		if err == nil {
			err = os.WriteFile(filepath.Join(born.keys, "ak.tss2.pem"), ak, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		key := recordKey{keeper: born}
		var e hsm.TPMEvidence
		born.use(func(d *tpm.TPM) (err error) {
			key.public = d.RecordKey().Public()
			e, err = d.Certify(t.Context(), tpm.Record, binding[:])
			return err
		})
		return key, record.TPMEvidence(e)
	}
	for _, test := range []struct {
		name string
		make func(d *tpm.TPM, binding [32]byte) (record.Signer, record.TPMEvidence)
		in   keeper
		code string
	}{
		{"genuine", func(d *tpm.TPM, b [32]byte) (record.Signer, record.TPMEvidence) { return citizen(d, b, b) }, own, ""},
		{"in another kiosk's TPM", func(d *tpm.TPM, b [32]byte) (record.Signer, record.TPMEvidence) { return citizen(d, b, b) }, other, api.CodeAttestation},
		{"born for another record", func(d *tpm.TPM, b [32]byte) (record.Signer, record.TPMEvidence) { return citizen(d, [32]byte{1}, b) }, own, api.CodeAttestation},
		{"stated for another record", func(d *tpm.TPM, b [32]byte) (record.Signer, record.TPMEvidence) { return citizen(d, b, [32]byte{1}) }, own, api.CodeAttestation},
		{"the evidence of another key", func(d *tpm.TPM, b [32]byte) (record.Signer, record.TPMEvidence) {
			signer, _ := citizen(d, b, b)
			_, evidence := citizen(d, b, b)
			return signer, evidence
		}, own, api.CodeAttestation},
		{"the kiosk's record key", func(d *tpm.TPM, b [32]byte) (record.Signer, record.TPMEvidence) {
			e, err := d.Certify(t.Context(), tpm.Record, b[:])
			if err != nil {
				t.Fatal(err)
			}
			return d.RecordKey(), record.TPMEvidence(e)
		}, own, api.CodeAttestation},
		{"a key without a PIN", nil, own, api.CodeAttestation},
		{"a signature that was altered", func(d *tpm.TPM, b [32]byte) (record.Signer, record.TPMEvidence) {
			signer, evidence := citizen(d, b, b)
			evidence.Signature = bytes.Clone(evidence.Signature)
			evidence.Signature[len(evidence.Signature)-1] ^= 1
			return signer, evidence
		}, own, api.CodeAttestation},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := client{t, c.url, c.http}
			var s record.Submission
			if test.make == nil {
				s = k.Make(t, registrytest.Spec{Custody: unguarded})
			} else {
				test.in.use(func(d *tpm.TPM) error {
					s = k.Make(t, registrytest.Spec{Custody: func(binding [32]byte) (record.Signer, record.TPMEvidence) { return test.make(d, binding) }})
					return nil
				})
			}
			if test.code != "" {
				c.rejected(w, item(s), test.code)
				return
			}
			if v := c.send(s); v.Status != api.Pending {
				t.Errorf("%+v", v)
			}
		})
	}
}
