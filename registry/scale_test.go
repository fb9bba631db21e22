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

// Settings of both: those that docs/runbook.md recommends, with what memory and disk
// a small machine has.
var scaleSettings = []string{"shared_buffers=512MB", "max_wal_size=8GB", "checkpoint_timeout=30min"}

// BenchmarkIngestScale prints at which rate a database that holds many records
// takes on what one that holds few takes on, the same batches in turns: "ingest"
// for the whole way of a batch, "store" for the transaction alone. What is stored
// already has rows of every table, but short records: new ones go to the end of
// their tables, and to random pages of three indexes.
//
// A page that is touched for the first time since a checkpoint goes whole into the
// WAL. "checkpoint" is measured right after one, the worst moment: in the large
// database nearly each insert finds such a page, in the small one the first few.
// "interval" is measured where an interval is as on its average: when the large
// database has taken on a third of the 180,000 records that come in 30 minutes at
// 100 a second.
func BenchmarkIngestScale(b *testing.B) {
	c, err := postgres.New(b.Context(), scaleSettings...)
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
		fill(b, c, name, 1, n)
		query(b, c, name, "VACUUM ANALYZE")
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
	measure := func(b *testing.B) {
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
	b.Run("checkpoint", func(b *testing.B) {
		query(b, c, "large", "CHECKPOINT")
		measure(b)
	})
	b.Run("interval", func(b *testing.B) {
		query(b, c, "large", "CHECKPOINT")
		fill(b, c, "large", 1_000_000_000, 60000)
		measure(b)
	})
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

// fill generates n records of many kiosks, numbered from first on.
func fill(b *testing.B, c *postgres.Cluster, database string, first, n int) {
	b.Helper()
	for _, sql := range []string{
		`INSERT INTO records (arrival, id, kiosk, sequence, sender, received, jws, did) OVERRIDING SYSTEM VALUE
			SELECT n, sha256(('record' || n)::bytea), 'GENERATED-' || n % 5000, n, '', now(), sha256(n::text::bytea), 'did:key:zDn' || n FROM numbers`,
		`INSERT INTO links SELECT 'GENERATED-' || n % 5000, n, sha256(('record' || n)::bytea), '{}' FROM numbers`,
		`INSERT INTO codes SELECT sha256(('code' || n)::bytea), n FROM numbers`,
		`INSERT INTO attestations (arrival, evidence) SELECT n, sha256(n::text::bytea) FROM numbers`,
		`INSERT INTO holders SELECT sha256(('did:key:zDn' || n)::bytea), sha256(('record' || n)::bytea) FROM numbers`,
		`INSERT INTO receipts (arrival, receipt) SELECT n, sha256(n::text::bytea) FROM numbers`,
		`INSERT INTO verdicts (arrival, status, code, verdict) SELECT n, 'active', '', '' FROM numbers`,
	} {
		query(b, c, database, fmt.Sprintf("WITH numbers AS (SELECT n FROM generate_series(%d, %d) AS n) %s", first, first+n-1, sql))
	}
	query(b, c, database, fmt.Sprintf("SELECT setval('records_arrival_seq', %d)", first+n-1))
}

func query(b *testing.B, c *postgres.Cluster, database, sql string) {
	b.Helper()
	if _, err := c.Query(b.Context(), database, sql); err != nil {
		b.Fatal(err)
	}
}
