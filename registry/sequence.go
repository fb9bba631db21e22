package registry

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"time"

	"enrollkiosk/registry/api"
	"enrollkiosk/registry/record"
)

// A kiosk's records are a chain: each has the next sequence number and names the
// id of the one before it. What is held of a chain may have gaps, which late
// records fill; it never has two records of one number, nor one that names another
// record before it than the one that is there.

// place is a kiosk's sequence number.
type place struct {
	kiosk    string
	sequence uint64
}

// link is the record of a place, with what its kiosk says of the time. A rejected
// record keeps its place: nothing else can have it.
type link struct {
	Record    api.ID    `json:"record"`
	Previous  api.ID    `json:"previous"` // zero: the kiosk begins here
	Wall      time.Time `json:"wall"`
	Monotonic uint64    `json:"monotonic"` // milliseconds since the boot
	Boot      string    `json:"boot"`      // hexadecimal
	Received  time.Time `json:"received"`
	Rejected  string    `json:"rejected,omitempty"` // code; empty: taken on
}

// linkOf is where a record stands in its kiosk's chain.
func linkOf(r record.Record, received time.Time) link {
	p := r.Payload()
	return link{Record: r.ID(), Previous: p.Previous, Wall: p.Times.Wall, Monotonic: p.Times.Monotonic, Boot: hex.EncodeToString(p.Times.Boot[:]),
		Received: received.UTC().Truncate(time.Second)}
}

// Fork is a record that contradicts the chain of the kiosk that signed it: two
// copies of one disk have been at work, or somebody has altered the kiosk. It was
// rejected.
type Fork struct {
	Number  uint64    `json:"number"`  // that the offered record has
	Record  api.ID    `json:"record"`  // the offered one
	Held    api.ID    `json:"held"`    // the record that it contradicts
	HeldAt  uint64    `json:"held_at"` // that one's number
	Code    string    `json:"code"`    // api.CodeFork: the same number. api.CodeChain: another record before it
	Claimed api.ID    `json:"claimed"` // the record that the offered one names as the one before it
	Time    time.Time `json:"time"`
}

// forkError refuses a record for good, and says what it contradicts.
type forkError struct{ Fork }

// Sentinels for errors.Is.
var (
	errFork  = &forkError{Fork{Code: api.CodeFork}}
	errChain = &forkError{Fork{Code: api.CodeChain}}
)

// Is matches a sentinel of the same code.
func (e *forkError) Is(target error) bool {
	t, ok := target.(*forkError)
	return ok && (t == errFork || t == errChain) && t.Code == e.Code
}

func (e *forkError) Error() string {
	if e.Code == api.CodeFork {
		return fmt.Sprintf("record %s has the number %d of this kiosk", e.Held, e.HeldAt)
	}
	return fmt.Sprintf("it names %s before it; that is not how record %s at %d stands in this kiosk's chain", e.Claimed, e.Held, e.HeldAt)
}

// follows holds a record against what is held of its kiosk's chain. starts are the
// counter's values after which the kiosk began with an empty disk. gap: the number
// before has no record yet. The error is an *forkError, or the store's own.
func follows(f links, own place, l link, starts []uint64) (gap bool, err error) {
	contradicts := func(code string, held link, at uint64) error {
		return &forkError{Fork{Number: own.sequence, Record: l.Record, Held: held.Record, HeldAt: at, Code: code, Claimed: l.Previous, Time: l.Received}}
	}
	taken, has, err := f.link(own)
	if err != nil {
		return false, err
	}
	if has {
		return false, contradicts(api.CodeFork, taken, own.sequence)
	}
	before, has, err := f.link(place{own.kiosk, own.sequence - 1})
	if err != nil {
		return false, err
	}
	if begins := startsAt(starts, own.sequence-1); l.Previous == (api.ID{}) {
		// Nothing before it: only a kiosk that was provisioned on an empty disk says so.
		if !begins {
			return false, contradicts(api.CodeChain, before, own.sequence-1)
		}
	} else if has && (before.Record != l.Previous || before.Rejected == api.CodeChain) {
		// What follows a record that contradicted the chain contradicts it as well, until
		// the kiosk begins anew.
		return false, contradicts(api.CodeChain, before, own.sequence-1)
	} else if !has {
		// The one before has not come. It cannot be one that is known by another number.
		at, err := f.numberOf(own.kiosk, l.Previous)
		if err != nil {
			return false, err
		}
		if at != 0 {
			return false, contradicts(api.CodeChain, link{Record: l.Previous}, at)
		}
		gap = !begins && len(starts) > 0 && own.sequence-1 > starts[0]
	}
	after, has, err := f.link(place{own.kiosk, own.sequence + 1})
	if err != nil {
		return false, err
	}
	if has && after.Previous != l.Record && after.Previous != (api.ID{}) {
		return false, contradicts(api.CodeChain, after, own.sequence+1)
	}
	return gap, nil
}

func startsAt(starts []uint64, before uint64) bool {
	for _, s := range starts {
		if s == before {
			return true
		}
	}
	return false
}

// bury has a rejected record keep its place. Where another record has that place,
// the rejected one was a fork besides.
func bury(f links, kiosk string, r rejection) error {
	if r.fork != nil {
		if err := f.keepFork(kiosk, *r.fork); err != nil {
			return err
		}
	}
	if r.number == 0 {
		return nil
	}
	own := place{kiosk, r.number}
	taken, has, err := f.link(own)
	switch {
	case err != nil:
		return err
	case !has:
		l := r.link
		l.Rejected = r.Code
		return f.keepLink(own, l)
	case taken.Record != r.link.Record && r.fork == nil:
		return f.keepFork(kiosk, Fork{Number: r.number, Record: r.link.Record, Held: taken.Record, HeldAt: r.number, Code: api.CodeFork, Claimed: r.link.Previous, Time: r.link.Received})
	}
	return nil
}

// rejection is a decision with what the rejected record says of its place; number
// is 0 where nothing proves that the kiosk signed it.
type rejection struct {
	decision
	number uint64
	link   link
	fork   *Fork
}

// Chain is what the registry knows of a kiosk's sequence.
type Chain struct {
	First      uint64    `json:"first"`    // the counter before its first record
	Highest    uint64    `json:"highest"`  // number; 0 while there is none
	Accepted   uint64    `json:"accepted"` // records
	Rejected   uint64    `json:"rejected"` // with a number
	LastRecord time.Time `json:"last_record,omitzero"`
	// Missing counts the numbers below Highest of which no record has come; Gaps has
	// the newest ranges of them.
	Missing uint64 `json:"missing"`
	Gaps    []Gap  `json:"gaps"`
	// Odd counts what is odd about clocks; Clock has the newest.
	Odd   uint64    `json:"odd_times"`
	Clock []OddTime `json:"clock"`
	// Suspects are records that were taken on though they were made, or came, after the
	// time from which the kiosk counts as revoked: people look at them. The newest.
	Suspects []api.ID `json:"suspects"`
	Suspect  uint64   `json:"suspect"`
}

// Gap is a range of numbers of which no record has come.
type Gap struct {
	From  uint64    `json:"from"`
	To    uint64    `json:"to"`
	Since time.Time `json:"since"` // when the record after it came
}

// OddTime is a record whose time does not fit those around it. Nothing was refused
// for it: a clock may be wrong, and what was judged by it is bounded by the
// registry's own.
type OddTime struct {
	Number  uint64    `json:"number"`
	Record  api.ID    `json:"record"`
	Kind    ClockKind `json:"kind"`
	Seconds int64     `json:"seconds"` // by how much
	Wall    time.Time `json:"wall"`    // what the kiosk's clock said
}

// ClockKind says what is odd about a time.
type ClockKind string

const (
	// ClockBack: the clock says less than at the number before.
	ClockBack ClockKind = "clock-back"
	// ClockAhead: the clock said a time that the registry's had not reached when the
	// record came.
	ClockAhead ClockKind = "clock-ahead"
	// ClockStepped: within one boot the clock has moved otherwise than the time since
	// boot: somebody has set it.
	ClockStepped ClockKind = "clock-stepped"
	// BootBack: within one boot the time since boot is less than at the number before: a
	// machine was put back to an earlier state.
	BootBack ClockKind = "boot-back"
	// BootAgain: a boot comes back after another one: likewise.
	BootAgain ClockKind = "boot-again"
)

// Bounds of what is odd, and of what a Chain lists.
const (
	clockTolerance = 5 * time.Minute
	maxListed      = 100
)

// chainReader makes a Chain of links that it gets in the order of their numbers.
type chainReader struct {
	chain   Chain
	revoked time.Time // zero: it is not
	before  link
	at      uint64
	boots   map[string]uint64 // the last number of each
}

func newChainReader(k Kiosk) *chainReader {
	c := &chainReader{chain: Chain{First: k.Counter, Gaps: []Gap{}, Clock: []OddTime{}, Suspects: []api.ID{}}, at: k.Counter, boots: map[string]uint64{}}
	if k.Revoked != nil {
		c.revoked = *k.Revoked
	}
	return c
}

// newest appends to a list that keeps maxListed.
func newest[T any](list []T, one T) []T {
	if len(list) == maxListed {
		list = append(list[:0], list[1:]...)
	}
	return append(list, one)
}

func (c *chainReader) next(n uint64, l link) {
	if n <= c.chain.First { // of an earlier life of the id
		return
	}
	chain := &c.chain
	if n > c.at+1 {
		chain.Missing += n - c.at - 1
		chain.Gaps = newest(chain.Gaps, Gap{c.at + 1, n - 1, l.Received})
	}
	chain.Highest = n
	if l.Rejected != "" {
		chain.Rejected++
	} else {
		chain.Accepted++
		if !c.revoked.IsZero() && (!l.Wall.Before(c.revoked) || !l.Received.Before(c.revoked)) {
			chain.Suspect++
			chain.Suspects = newest(chain.Suspects, l.Record)
		}
	}
	if l.Received.After(chain.LastRecord) {
		chain.LastRecord = l.Received
	}
	c.clock(n, l)
	c.before, c.at = l, n
}

// clock notes what is odd about a record's time. The time of one that was rejected
// counts as well: the kiosk has signed it.
func (c *chainReader) clock(n uint64, l link) {
	odd := func(kind ClockKind, by time.Duration) {
		c.chain.Odd++
		c.chain.Clock = newest(c.chain.Clock, OddTime{n, l.Record, kind, int64(by / time.Second), l.Wall})
	}
	if ahead := l.Wall.Sub(l.Received); ahead > clockTolerance {
		odd(ClockAhead, ahead)
	}
	last, again := c.boots[l.Boot]
	c.boots[l.Boot] = n
	if c.before.Boot == "" {
		return
	}
	wall := l.Wall.Sub(c.before.Wall)
	if l.Boot != c.before.Boot {
		if again && last != 0 {
			odd(BootAgain, 0)
		}
		if wall < 0 {
			odd(ClockBack, -wall)
		}
		return
	}
	since := time.Duration(int64(l.Monotonic)-int64(c.before.Monotonic)) * time.Millisecond
	switch {
	case since < 0:
		odd(BootBack, -since)
	case wall < 0:
		odd(ClockBack, -wall)
	case wall-since > clockTolerance, since-wall > clockTolerance:
		odd(ClockStepped, (wall - since).Abs())
	}
}

// Alarms are what people should look at, in words.
func (c Chain) Alarms(forks []Fork) []string {
	out := []string{}
	add := func(n uint64, format string, a ...any) {
		if n > 0 {
			out = append(out, fmt.Sprintf(format, a...))
		}
	}
	add(uint64(len(forks)), "%d records contradict this kiosk's chain: two copies of its disk have been at work, or it was altered. Revoke it and look at the machine", len(forks))
	add(c.Missing, "%d numbers below %d have not come: they may lie on the kiosk's disk still. Do not wipe it", c.Missing, c.Highest)
	add(c.Odd, "%d times do not fit: look at the kiosk's clock, and whether it was put back to an earlier state", c.Odd)
	add(c.Suspect, "%d records were taken on that it made after the time from which it is revoked: review them", c.Suspect)
	return out
}

// sameRecord compares ids.
func sameRecord(a []byte, b [32]byte) bool { return bytes.Equal(a, b[:]) }
