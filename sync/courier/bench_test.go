package courier_test

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"testing"
	"time"

	"enrollkiosk/registry/policy"
	"enrollkiosk/registry/record"
	"enrollkiosk/simulators/network"
	"enrollkiosk/sync/client"
	"enrollkiosk/sync/courier"
	"enrollkiosk/sync/internal/testregistry"
	"enrollkiosk/sync/queue"
)

// BenchmarkDrain empties a backlog over a line of 10 Mbit/s with a round trip of
// 100 ms: from the courier's start, with its first handshake, until the last
// receipt is stored and its record purged. Records, signatures, log and TLS are
// real. The registry's answers are made beforehand and the queue lies in memory
// where it can, for the line is what is measured.
//
//	bandwidth  the records' own bytes, as a part of what the line could have carried
//	wire       all bytes sent, handshakes, headers and questions included, likewise
//
// bandwidth is more than wire because batches travel compressed.
func BenchmarkDrain(b *testing.B) {
	const rate, roundTrip = 10e6, 100 * time.Millisecond
	for _, n := range []int{2000, 10000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			var took time.Duration
			var wire, payload int64
			for range b.N {
				b.StopTimer()
				r := testregistry.New(b, nil)
				link, err := network.NewLink(r.Address, rate, roundTrip)
				if err != nil {
					b.Fatal(err)
				}
				c, err := client.New(client.Options{URL: "https://" + link.Address, Certificate: r.Kiosk,
					Policy: func() (policy.Signed, error) { return r.Policy, nil }, Proxy: func(*http.Request) (*url.URL, error) { return nil, nil }})
				if err != nil {
					b.Fatal(err)
				}
				q := open(b, quickDir(b))
				var all []record.Submission
				for i := range n {
					s := r.Enroll(b, uint64(i+1))
					all = append(all, s)
					if err := q.Put(b.Context(), queue.Item{ID: s.ID(), Data: s.Bytes()}); err != nil {
						b.Fatal(err)
					}
					payload += int64(len(s.Bytes()))
				}
				r.Expect(all)
				co := courier.New(q, c, courier.Options{})
				ctx, cancel := context.WithCancel(b.Context())
				ended := make(chan error, 1)
				b.StartTimer()
				start := time.Now()
				go func() { ended <- co.Run(ctx) }()
				for s := (queue.Stats{}); s.Receipted < n || s.Bytes > 0; time.Sleep(5 * time.Millisecond) {
					if s, err = q.Stats(b.Context()); err != nil {
						b.Fatal(err)
					}
				}
				took += time.Since(start)
				b.StopTimer()
				up, _ := link.Carried()
				wire += up
				cancel()
				if err := <-ended; err != nil {
					b.Fatal(err)
				}
				for _, s := range all {
					if times := r.Submitted(s.ID()); times != 1 {
						b.Errorf("a record came %d times", times)
					}
				}
				c.Close()
				link.Close()
			}
			line := rate / 8 * took.Seconds()
			b.ReportMetric(float64(payload)/line, "bandwidth")
			b.ReportMetric(float64(wire)/line, "wire")
			b.ReportMetric(0, "ns/op")
		})
	}
}
