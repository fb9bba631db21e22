package record_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"testing"
	"time"

	"enrollkiosk/kiosk/secret"
	"enrollkiosk/registry/record"
)

// BenchmarkParse prints what ParseSubmission costs over the bare checks of the
// same signatures (SHA-256 of the signing input, one ECDSA verification each),
// measured in turns. Sizes are those of real documents: SOD and certificates.
func BenchmarkParse(b *testing.B) {
	e := enroll(b)
	sod := make([]byte, 3000)
	rand.Read(sod)
	e.identity.Files[0x011D] = secret.New(sod)
	var err error
	if e.payload.Identity, err = record.Seal(e.payload.Context, e.authority.Public(), e.identity); err != nil {
		b.Fatal(err)
	}
	s, err := record.NewSubmission(e.sign(b), e.attestation)
	if err != nil {
		b.Fatal(err)
	}
	bytes := s.Bytes()
	bare := bareChecks(b, s.Record())
	var parsing, checking time.Duration
	for b.Loop() {
		start := time.Now()
		if _, err := record.ParseSubmission(bytes); err != nil {
			b.Fatal(err)
		}
		parsed := time.Now()
		bare()
		parsing += parsed.Sub(start)
		checking += time.Since(parsed)
	}
	b.ReportMetric(float64(parsing)/float64(checking), "ratio")
	b.ReportMetric(float64(parsing.Microseconds())/float64(b.N), "parse-µs")
	b.ReportMetric(float64(checking.Microseconds())/float64(b.N), "bare-µs")
	b.ReportMetric(float64(len(bytes)), "bytes")
}

// bareChecks prepares the signature checks of a record and returns what runs them.
func bareChecks(t testing.TB, r record.Record) func() {
	t.Helper()
	var j jws
	if err := json.Unmarshal(r.Bytes(), &j); err != nil {
		t.Fatal(err)
	}
	type check struct {
		key        *ecdsa.PublicKey
		input, der []byte
	}
	var checks []check
	for i, s := range r.Signatures() {
		input := bytes.Join([][]byte{[]byte(j.Signatures[i].Protected), []byte(j.Payload)}, []byte("."))
		checks = append(checks, check{s.Public.(*ecdsa.PublicKey), input, derSignature(s.Value)})
	}
	return func() {
		for _, c := range checks {
			if digest := sha256.Sum256(c.input); !ecdsa.VerifyASN1(c.key, digest[:], c.der) {
				t.Error("does not verify")
			}
		}
	}
}
