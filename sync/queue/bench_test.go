package queue_test

import (
	"context"
	"crypto/rand"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"enrollkiosk/sync/queue"
)

// Both figures of a benchmark come from one run, slice by slice in turn: disks
// change their pace from second to second. "ratio" is the median over the
// slices of the raw time to the queue's, so 1 would be free of cost.
func BenchmarkPut(b *testing.B) {
	for _, size := range []int{4 << 10, 25 << 10} {
		for _, writers := range []int{1, 64} {
			b.Run(fmt.Sprintf("%dKiB/%dwriters", size>>10, writers), func(b *testing.B) {
				const raws, each = 64, 32
				puts := max(raws, writers*each)
				dir := b.TempDir()
				q, _, err := queue.Open(context.Background(), filepath.Join(dir, "queue"), queue.Options{})
				if err != nil {
					b.Fatal(err)
				}
				defer q.Close()
				raw, err := os.Create(filepath.Join(dir, "raw"))
				if err != nil {
					b.Fatal(err)
				}
				defer raw.Close()
				data := make([]byte, size)
				rand.Read(data)
				var ratios []float64
				for b.Loop() {
					r := appendRaw(b, raw, data, raws)
					p := putAll(b, q, data, puts, writers)
					r += appendRaw(b, raw, data, raws)
					ratios = append(ratios, r.Seconds()/(2*raws)/p.Seconds()*float64(puts))
				}
				slices.Sort(ratios)
				b.ReportMetric(ratios[len(ratios)/2], "ratio")
			})
		}
	}
}

func appendRaw(b *testing.B, f *os.File, data []byte, n int) time.Duration {
	start := time.Now()
	for range n {
		if _, err := f.Write(data); err != nil {
			b.Fatal(err)
		}
		if err := syscall.Fdatasync(int(f.Fd())); err != nil {
			b.Fatal(err)
		}
	}
	return time.Since(start)
}

func putAll(b *testing.B, q *queue.Queue, data []byte, n, writers int) time.Duration {
	start := time.Now()
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			for range n / writers {
				var id queue.ID
				rand.Read(id[:])
				if err := q.Put(context.Background(), queue.Item{ID: id, Data: data, Head: id[:]}); err != nil {
					b.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if _, err := q.Stats(context.Background()); err != nil { // the database is told
		b.Error(err)
	}
	return time.Since(start)
}

// How full BenchmarkOpen's queue is; by hand: -args -purged 1000000 -waiting 10000.
var (
	manyPurged  = flag.Int("purged", 10_000, "purged records of BenchmarkOpen")
	manyWaiting = flag.Int("waiting", 500, "waiting records of BenchmarkOpen")
)

// Opening a queue that holds many records, against opening one that holds none,
// slice by slice in turn: after a clean end, and after a crash. "ratio" is the median
// over the slices of the full one's time to the empty one's.
func BenchmarkOpen(b *testing.B) {
	empty, full := filepath.Join(b.TempDir(), "queue"), filepath.Join(b.TempDir(), "queue")
	fill(b, empty, 0, 0)
	fill(b, full, *manyPurged, *manyWaiting)
	for _, name := range []string{"after closing", "after a crash"} {
		b.Run(name, func(b *testing.B) {
			var ratios []float64
			for b.Loop() {
				if name == "after a crash" {
					for _, dir := range []string{empty, full} {
						runChild(b, "put and die", dir)
					}
				}
				e := opened(b, empty)
				f := opened(b, full)
				ratios = append(ratios, f.Seconds()/e.Seconds())
			}
			slices.Sort(ratios)
			b.ReportMetric(ratios[len(ratios)/2], "ratio")
			b.ReportMetric(float64(*manyPurged), "purged")
			b.ReportMetric(float64(*manyWaiting), "waiting")
		})
	}
}

func opened(b *testing.B, dir string) time.Duration {
	start := time.Now()
	q, r, err := queue.Open(context.Background(), dir, queue.Options{})
	took := time.Since(start)
	if err != nil || r.Mended() {
		b.Fatalf("%v, %+v", err, r)
	}
	if err := q.Close(); err != nil {
		b.Fatal(err)
	}
	return took
}

// fill delivers so many records with receipts of 2 KiB, and leaves others of 8 KiB
// waiting.
func fill(b *testing.B, dir string, purged, waiting int) {
	q, _, err := queue.Open(context.Background(), dir, queue.Options{}.Unsynced())
	if err != nil {
		b.Fatal(err)
	}
	data, receipt := make([]byte, 8<<10), make([]byte, 2<<10)
	rand.Read(data)
	rand.Read(receipt)
	if err := q.Deliver(purged, receipt); err != nil {
		b.Fatal(err)
	}
	for range waiting {
		var id queue.ID
		rand.Read(id[:])
		if err := q.Put(context.Background(), queue.Item{ID: id, Data: data}); err != nil {
			b.Fatal(err)
		}
	}
	if err := q.Close(); err != nil {
		b.Fatal(err)
	}
}
