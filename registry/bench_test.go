package registry_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/asn1"
	"encoding/json"
	"math/big"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"enrollkiosk/kiosk/secret"
	"enrollkiosk/registry"
	"enrollkiosk/registry/api"
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

// BenchmarkIngest prints at which rate, over that of its bare signature checks, a
// core takes records on: "taken" from the body of a batch to what is durable,
// "logged" to receipts that are kept. Time is the processor time of this process:
// the database has its own.
func BenchmarkIngest(b *testing.B) {
	for _, kind := range []string{"embedded", "postgres"} {
		b.Run(kind, func(b *testing.B) {
			w := registrytest.New(b)
			k := w.Kiosk(b, "KIOSK-0001")
			o := w.RegistryOptions(noVault)
			if kind == "postgres" {
				o.Database, _ = database(b)
				enlist(b, w, o.Database, k)
			}
			r, err := registry.Open(b.Context(), o)
			if err != nil {
				b.Fatal(err)
			}
			defer r.Close()
			const batches, size = 12, 40 // about api.MaxBatchData each
			var taken, logged []float64
			for b.Loop() {
				b.StopTimer()
				bodies, bare := madeBatches(b, w, k, batches, size)
				b.StartTimer()
				runtime.GC() // what the making left behind
				start := processorTime(b)
				var sending sync.WaitGroup
				for body := range slices.Chunk(bodies, batches/4) { // four kiosks at once
					sending.Go(func() {
						for _, one := range body {
							takeOn(b, r, k, one)
						}
					})
				}
				sending.Wait()
				ours := processorTime(b) - start
				start = processorTime(b)
				var checking sync.WaitGroup // as many: cores that share their parts are slower together
				for range 4 {
					checking.Go(func() {
						for range batches * size / 4 {
							bare()
						}
					})
				}
				checking.Wait()
				theirs := processorTime(b) - start
				start = processorTime(b)
				if err := registry.LogAll(b.Context(), r); err != nil {
					b.Fatal(err)
				}
				after := processorTime(b) - start
				taken = append(taken, float64(theirs)/float64(ours))
				logged = append(logged, float64(theirs)/float64(ours+after))
				b.ReportMetric(float64(theirs.Microseconds())/(batches*size), "bare-µs")
				b.ReportMetric(float64(ours.Microseconds())/(batches*size), "taken-µs")
				b.ReportMetric(float64(after.Microseconds())/(batches*size), "log-µs")
			}
			slices.Sort(taken)
			slices.Sort(logged)
			b.ReportMetric(taken[len(taken)/2], "taken/bare")
			b.ReportMetric(logged[len(logged)/2], "logged/bare")
		})
	}
}

// madeBatches makes batches of new records, and what runs one record's bare checks.
func madeBatches(b *testing.B, w *registrytest.World, k *registrytest.Kiosk, batches, size int) (bodies [][]byte, bare func()) {
	b.Helper()
	sod := make([]byte, 3000)
	rand.Read(sod)
	for range batches {
		var items []api.Item
		for range size {
			s := k.Make(b, registrytest.Spec{Identity: func(c record.Context, holder crypto.PublicKey) record.Identity {
				id := registrytest.Unverifiable(c, holder)
				id.Files[0x011D] = secret.New(bytes.Clone(sod))
				return id
			}})
			if bare == nil {
				bare = bareChecks(b, w, s)
			}
			items = append(items, item(s))
		}
		bodies = append(bodies, batch(items...))
	}
	return bodies, bare
}

// takeOn has a registry take a batch on, without the link.
func takeOn(t testing.TB, r *registry.Registry, k *registrytest.Kiosk, body []byte) {
	t.Helper()
	leaf, err := x509.ParseCertificate(k.TLS.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	q := httptest.NewRequest(http.MethodPost, api.PathRecords, bytes.NewReader(body))
	q.Header.Set("Content-Type", api.MediaJSON)
	q.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{leaf}}
	a := httptest.NewRecorder()
	registry.Handler(r).ServeHTTP(a, q)
	result, err := api.Decode[api.BatchResult](a.Body)
	if err != nil || a.Code != http.StatusOK {
		t.Fatalf("%d, %v", a.Code, err)
	}
	for _, v := range result.Verdicts {
		if v.Status != api.Pending {
			t.Fatalf("%+v", v)
		}
	}
}

// processorTime is what this process has used.
func processorTime(t testing.TB) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
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
