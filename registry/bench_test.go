package registry_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/json"
	"math/big"
	"slices"
	"testing"
	"time"

	"enrollkiosk/kiosk/secret"
	"enrollkiosk/registry"
	"enrollkiosk/registry/internal/registrytest"
	"enrollkiosk/registry/record"
)

// BenchmarkIngestRatio prints what the registry's verification of a submission
// costs over the bare signature checks that are in it, measured in turns:
// three signatures of the record, the officer's and the kiosk's certificate, the
// token's statement and the token's own certificate. Sizes are those of real
// documents.
func BenchmarkIngestRatio(b *testing.B) {
	w := registrytest.New(b)
	r, err := registry.Open(b.Context(), w.RegistryOptions(noVault))
	if err != nil {
		b.Fatal(err)
	}
	defer r.Close()
	k := w.Kiosk(b, "KIOSK-0001")
	s := k.Make(b, registrytest.Spec{Identity: func(c record.Context, holder crypto.PublicKey) record.Identity {
		id := registrytest.Unverifiable(c, holder)
		sod := make([]byte, 3000)
		rand.Read(sod)
		id.Files[0x011D] = secret.New(sod)
		return id
	}})
	submission, id := s.Bytes(), s.ID()
	verify, err := registry.Verifier(r, k.ID)
	if err != nil {
		b.Fatal(err)
	}
	bare := bareChecks(b, w, s)
	var whole, checks []time.Duration
	for b.Loop() {
		start := time.Now()
		if err := verify(submission, id); err != nil {
			b.Fatal(err)
		}
		verified := time.Now()
		bare()
		whole = append(whole, verified.Sub(start))
		checks = append(checks, time.Since(verified))
	}
	slices.Sort(whole)
	slices.Sort(checks)
	all, only := whole[len(whole)/2], checks[len(checks)/2] // medians: a busy machine spoils means
	b.ReportMetric(float64(all)/float64(only), "ratio")
	b.ReportMetric(float64(all.Microseconds()), "verify-µs")
	b.ReportMetric(float64(only.Microseconds()), "bare-µs")
	b.ReportMetric(float64(len(submission)), "bytes")
}

// bareChecks prepares the signature checks of a submission and returns what runs
// them.
func bareChecks(t testing.TB, w *registrytest.World, s record.Submission) func() {
	t.Helper()
	type check struct {
		key            *ecdsa.PublicKey
		signed, digest []byte
	}
	var all []check
	add := func(pub crypto.PublicKey, signed, signature []byte) {
		all = append(all, check{pub.(*ecdsa.PublicKey), signed, signature})
	}
	var jws struct {
		Payload    string
		Signatures []struct{ Protected string }
	}
	if err := json.Unmarshal(s.Record().Bytes(), &jws); err != nil {
		t.Fatal(err)
	}
	for i, sig := range s.Record().Signatures() {
		rs := struct{ R, S *big.Int }{new(big.Int).SetBytes(sig.Value[:32]), new(big.Int).SetBytes(sig.Value[32:])}
		der, err := asn1.Marshal(rs)
		if err != nil {
			t.Fatal(err)
		}
		add(sig.Public, bytes.Join([][]byte{[]byte(jws.Signatures[i].Protected), []byte(jws.Payload)}, []byte(".")), der)
		for _, c := range sig.Chain {
			issuer := w.Officers.Cert
			if sig.Role == record.Kiosk {
				var err error
				if issuer, err = x509.ParseCertificate(w.Policy.Policy().KioskCA[0].Certificate); err != nil {
					t.Fatal(err)
				}
			}
			add(issuer.PublicKey, c.RawTBSCertificate, c.Signature)
		}
	}
	evidence, _ := s.Attestation()
	leaf, err := x509.ParseCertificate(evidence.PIV.Certificate)
	if err != nil {
		t.Fatal(err)
	}
	own, err := x509.ParseCertificate(evidence.PIV.Intermediate)
	if err != nil {
		t.Fatal(err)
	}
	add(own.PublicKey, leaf.RawTBSCertificate, leaf.Signature)
	add(w.Tokens.Cert.PublicKey, own.RawTBSCertificate, own.Signature)
	run := func() {
		for _, c := range all {
			if digest := sha256.Sum256(c.signed); !ecdsa.VerifyASN1(c.key, digest[:], c.digest) {
				t.Error("does not verify")
			}
		}
	}
	if run(); len(all) != 7 {
		t.Fatalf("%d checks", len(all))
	}
	return run
}
