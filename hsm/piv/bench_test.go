package piv_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"enrollkiosk/hsm"
	"enrollkiosk/hsm/piv"
	"enrollkiosk/simulators/pivtoken"
)

// slow takes the time of a real token: what a YubiKey 5 needs over USB for a
// command, for making a P-256 key and for using one. It measures how long it was
// asked for something.
type slow struct {
	*pivtoken.Token
	mu       sync.Mutex
	spent    time.Duration
	commands int
	seen     map[byte]int
}

const (
	anyCommand = 5 * time.Millisecond
	makingKey  = 150 * time.Millisecond
	usingKey   = 60 * time.Millisecond
)

func (s *slow) Transmit(ctx context.Context, command []byte) []byte {
	began := time.Now()
	takes := anyCommand
	switch {
	case command[1] == generate:
		takes = makingKey
	case command[1] == 0xF9, command[1] == 0x87 && command[3] != 0x9B:
		takes = usingKey
	}
	answer := s.Token.Transmit(ctx, command)
	time.Sleep(takes - time.Since(began))
	s.mu.Lock()
	defer s.mu.Unlock()
	s.spent += time.Since(began)
	s.commands++
	s.seen[command[1]]++
	return answer
}

// BenchmarkProvision is the whole making of a token as the flow does it, from
// the first look to the citizen's signature, against the time that the token
// itself takes: whole/device, at most 1.05.
//
// Commands that remain, and why:
//
//   - Each of the four parts opens the token anew, because a person may have
//     exchanged it: SELECT, version, serial number, and metadata of PIN, PUK and
//     management key say which token it is and how far it came (18 commands on a
//     new token, 13 on one that is begun), then SELECT and version by piv-go
//     and the serial number once more, because it connects anew.
//   - Metadata of 9A, 9C, 9D, 9E and their certificates: nothing is overwritten.
//     The certificates are asked for only while the token may still be new.
//   - F9's certificate, ATTEST and GENERAL AUTHENTICATE on an empty slot: a token
//     that cannot attest or agree is refused before anything is written.
//   - A token that is begun is asked too whether it can attest: whoever is told to
//     reset it shall not find out afterwards that it is of no use.
//   - Each session of our own: SELECT and serial number, and twice GENERAL
//     AUTHENTICATE for the management key. piv-go would take three commands for
//     each key and each object.
//   - Each key: its slot is empty, GENERATE, ATTEST and the rest of its answer.
//   - VERIFY right before each use of a key; PUT DATA in two or three pieces for
//     a certificate; one each for CHUID, PUK and management key.
func BenchmarkProvision(b *testing.B) {
	for _, retired := range []int{0, 4} {
		b.Run(fmt.Sprintf("retired=%d", retired), func(b *testing.B) {
			ctx := within(b, time.Hour)
			var whole, device time.Duration
			var commands int
			for range b.N {
				b.StopTimer()
				r := bench(b)
				s := &slow{Token: pivtoken.New(pivtoken.Options{Root: authority}), seen: map[byte]int{}}
				r.Insert(s)
				c := ceremony{reader: r.Name(), spec: piv.KeySpec{Retired: make([]hsm.KeyRule, retired)}}
				b.StartTimer()
				began := time.Now()
				if err := c.run(ctx); err != nil {
					b.Fatal(err)
				}
				whole += time.Since(began)
				s.mu.Lock()
				device, commands = device+s.spent, commands+s.commands
				s.mu.Unlock()
				r.Remove()
			}
			b.ReportMetric(float64(whole)/float64(device), "whole/device")
			b.ReportMetric(float64(commands)/float64(b.N), "commands/op")
			b.ReportMetric(float64(commands)/float64(b.N)/float64(2+retired), "commands/key")
		})
	}
}
