package registry_test

import (
	"flag"
	"fmt"
	"slices"
	"testing"
	"time"

	"enrollkiosk/registry"
	"enrollkiosk/registry/internal/registrytest"
	"enrollkiosk/simulators/postgres"
)

var stored = flag.Int("stored", 50000, "records that BenchmarkIngestScale's larger database holds")

// few is what its smaller one holds.
const few = 10000

// BenchmarkIngestScale prints at which rate a database that holds many records
// takes on what one that holds few takes on, the same batches in turns: "ingest"
// for the whole way of a batch, "store" for the transaction alone. What is stored
// already has keys and rows of every table, but short records: new ones go to the
// end of their tables, and to random places of the indexes.
func BenchmarkIngestScale(b *testing.B) {
	c, err := postgres.New(b.Context(), "shared_buffers=512MB", "max_wal_size=8GB", "checkpoint_timeout=30min")
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	w := registrytest.New(b)
	k := w.Kiosk(b, "KIOSK-0001")
	open := func(name string, n int) (*registry.Registry, registry.Store) {
		if err := c.Create(b.Context(), name, ""); err != nil {
			b.Fatal(err)
		}
		enlist(b, w, c.URL(name), k)
		fill(b, c, name, n)
		o := onDatabase(b, w, c.URL(name))
		r, err := registry.Open(b.Context(), o)
		if err != nil {
			b.Fatal(err)
		}
		s, err := registry.OpenStore(b.Context(), o, registrytest.Origin)
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { s.Close(); r.Close() })
		return r, s
	}
	start := time.Now()
	small, smallStore := open("small", few)
	large, largeStore := open("large", *stored)
	b.Logf("%d records generated in %v", few+*stored, time.Since(start).Round(time.Second))
	if _, err := c.Query(b.Context(), "large", "CHECKPOINT"); err != nil {
		b.Fatal(err)
	}
	var ingest, store []float64
	for b.Loop() {
		b.StopTimer()
		const batches, size = 12, 40
		bodies, _ := madeBatches(b, w, k, batches, size)
		var entries [][]registry.Entry
		for range batches {
			var one []registry.Entry
			for range size {
				one = append(one, registry.NewEntry(k.Make(b, registrytest.Spec{}), k.ID, 1))
			}
			entries = append(entries, one)
		}
		b.StartTimer()
		for i := range bodies {
			ingest = append(ingest, inTurn(i, func() { takeOn(b, small, k, bodies[i]) }, func() { takeOn(b, large, k, bodies[i]) }))
			add := func(s registry.Store) func() {
				return func() {
					out, err := s.Add(b.Context(), entries[i])
					if err != nil || out[0].Refused() != nil {
						b.Fatal(out[0].Refused(), err)
					}
				}
			}
			store = append(store, inTurn(i, add(smallStore), add(largeStore)))
		}
	}
	slices.Sort(ingest)
	slices.Sort(store)
	b.ReportMetric(float64(*stored), "stored")
	b.ReportMetric(ingest[len(ingest)/2], "ingest-large/small")
	b.ReportMetric(store[len(store)/2], "store-large/small")
}

// inTurn is the rate of large over that of small; which goes first alternates.
func inTurn(i int, small, large func()) float64 {
	took := func(f func()) float64 {
		start := time.Now()
		f()
		return float64(time.Since(start))
	}
	if i%2 == 0 {
		s := took(small)
		return s / took(large)
	}
	l := took(large)
	return took(small) / l
}

// fill generates n records of many kiosks.
func fill(b *testing.B, c *postgres.Cluster, database string, n int) {
	b.Helper()
	for _, sql := range []string{
		`INSERT INTO records (id, kiosk, sequence, sender, received, jws)
			SELECT sha256(('record' || n)::bytea), 'GENERATED-' || n %% 5000, n, '', now(), sha256(n::text::bytea) FROM generate_series(1, %d) AS n`,
		`INSERT INTO links SELECT 'GENERATED-' || n %% 5000, n, sha256(('record' || n)::bytea), '{}' FROM generate_series(1, %d) AS n`,
		`INSERT INTO codes SELECT sha256(('code' || n)::bytea), 'did:key:zDn' || encode(sha256(('did' || n)::bytea), 'hex'), sha256(('record' || n)::bytea) FROM generate_series(1, %d) AS n`,
		`INSERT INTO attestations SELECT sha256(('record' || n)::bytea), sha256(n::text::bytea) FROM generate_series(1, %d) AS n`,
		`INSERT INTO keys SELECT sha256(('key' || n)::bytea), sha256(('record' || n)::bytea) FROM generate_series(1, %d) AS n`,
		`INSERT INTO holders SELECT 'did:key:zDn' || encode(sha256(('did' || n)::bytea), 'hex'), sha256(('record' || n)::bytea) FROM generate_series(1, %d) AS n`,
		`INSERT INTO receipts SELECT sha256(('record' || n)::bytea), sha256(n::text::bytea) FROM generate_series(1, %d) AS n`,
		`INSERT INTO verdicts SELECT sha256(('record' || n)::bytea), 'active', '', '' FROM generate_series(1, %d) AS n`,
	} {
		if _, err := c.Query(b.Context(), database, fmt.Sprintf(sql, n)); err != nil {
			b.Fatal(err)
		}
	}
	if _, err := c.Query(b.Context(), database, "VACUUM ANALYZE"); err != nil {
		b.Fatal(err)
	}
}
