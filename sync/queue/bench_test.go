package queue_test

import (
	"context"
	"crypto/rand"
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
				const raws, each = 64, 8
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
	return time.Since(start)
}
