package record_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"slices"
	"testing"
	"time"

	"enrollkiosk/kiosk/secret"
	"enrollkiosk/registry/record"
)

// BenchmarkParse prints what ParseSubmission costs over the bare checks of the
// same signatures (SHA-256 of the signing input, one ECDSA verification each),
// measured in turns. Sizes are those of real documents: SOD and certificates.
func BenchmarkParse(b *testing.B) {
	o, k := officer(b), kiosk(b)
	o.chain, k.chain = o.chain[:1], k.chain[:1] // the policy has the issuers
	e := newEnrollment(b, record.Enroll, holder(b), o, k)
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
	var parsing, checking []time.Duration
	for b.Loop() {
		start := time.Now()
		if _, err := record.ParseSubmission(bytes); err != nil {
			b.Fatal(err)
		}
		parsed := time.Now()
		bare()
		parsing = append(parsing, parsed.Sub(start))
		checking = append(checking, time.Since(parsed))
	}
	slices.Sort(parsing)
	slices.Sort(checking)
	parse, check := parsing[b.N/2], checking[b.N/2] // medians: a busy machine spoils means
	b.ReportMetric(float64(parse)/float64(check), "ratio")
	b.ReportMetric(float64(parse.Microseconds()), "parse-µs")
	b.ReportMetric(float64(check.Microseconds()), "bare-µs")
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
