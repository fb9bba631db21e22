package credential_test

import (
	"crypto/ecdsa"
	"crypto/sha256"
	"testing"
	"time"

	"enrollkiosk/registry/credential"
)

// What a site does for a login, as a ratio to the three signature checks that it
// cannot do without: issuer's certificate, credential, key binding.
func BenchmarkVerify(b *testing.B) {
	w := newWorld(b)
	p := w.present(b)
	digest := sha256.Sum256([]byte(p))
	sig, err := ecdsa.SignASN1(nil, w.key, digest[:])
	if err != nil {
		b.Fatal(err)
	}
	login, bare := time.Hour, time.Hour // the fastest of each: what else the machine does falls out
	for b.Loop() {
		start := time.Now()
		if _, err := credential.Verify(p, w.expect); err != nil {
			b.Fatal(err)
		}
		login = min(login, time.Since(start))
		start = time.Now()
		for range 3 {
			if !ecdsa.VerifyASN1(&w.key.PublicKey, digest[:], sig) {
				b.Fatal("signature")
			}
		}
		bare = min(bare, time.Since(start))
	}
	b.ReportMetric(float64(login)/float64(bare), "x-of-signatures")
	b.ReportMetric(1/login.Seconds(), "logins/s")
	b.ReportMetric(float64(len(p)), "bytes")
}

// A batch of 50, as a ratio to the operations that it cannot do without: a proof's
// check, an escrow and a signature for each credential, the attestation's check.
func BenchmarkIssue(b *testing.B) {
	w := newWorld(b)
	h := newHolder(b, credential.MaxBatch)
	proofs := h.proofs(b)
	digest := sha256.Sum256([]byte("digest"))
	sig, err := ecdsa.SignASN1(nil, w.key, digest[:])
	if err != nil {
		b.Fatal(err)
	}
	batch, bare, signatures := time.Hour, time.Hour, time.Hour
	for b.Loop() {
		start := time.Now()
		p, err := credential.VerifyProofs(proofs, h.expect())
		if err != nil {
			b.Fatal(err)
		}
		for _, k := range p.Keys() {
			c := w.content
			c.Key = k
			if c.Escrow, err = credential.SealEscrow(w.vault.PublicKey(), escrowKey, c.EscrowData(issuerID), w.record); err != nil {
				b.Fatal(err)
			}
			if _, err := w.issuer.Issue(c); err != nil {
				b.Fatal(err)
			}
		}
		batch = min(batch, time.Since(start))
		start = time.Now()
		for range credential.MaxBatch {
			ecdsa.VerifyASN1(&w.key.PublicKey, digest[:], sig)
			ecdsa.SignASN1(nil, w.key, digest[:])
		}
		ecdsa.VerifyASN1(&w.key.PublicKey, digest[:], sig)
		signatures = min(signatures, time.Since(start))
		for range credential.MaxBatch {
			credential.SealEscrow(w.vault.PublicKey(), escrowKey, digest, digest)
		}
		bare = min(bare, time.Since(start))
	}
	b.ReportMetric(float64(batch)/float64(bare), "x-of-signatures-and-seals")
	b.ReportMetric(float64(batch)/float64(signatures), "x-of-signatures")
	b.ReportMetric(batch.Seconds()*1000, "ms/batch")
}
