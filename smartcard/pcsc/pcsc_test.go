package pcsc_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ebfe/scard"

	"enrollkiosk/simulators/pcscd"
	"enrollkiosk/smartcard/apdu"
	"enrollkiosk/smartcard/pcsc"
)

const patience = 5 * time.Second

// The PC/SC library keeps the socket's path for the life of the process: one
// path for all tests.
var socket string

const child = "PCSC_TEST_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(child) != "" {
		os.Exit(inChild())
	}
	dir, err := os.MkdirTemp("", "pcsc")
	if err != nil {
		panic(err)
	}
	socket = filepath.Join(dir, "s")
	os.Setenv("PCSCLITE_CSOCK_NAME", socket)
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

func serve(t *testing.T) *pcscd.Server {
	t.Helper()
	s, err := pcscd.Listen(socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func addReader(t *testing.T, s *pcscd.Server, name string) *pcscd.Reader {
	t.Helper()
	r, err := s.AddReader(name)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// card answers its number to 00 CA, waits at 00 FF, 9000 to the rest.
type card struct {
	number  byte
	mute    bool
	started chan struct{}
	release chan struct{}
	resets  atomic.Int32
}

func newCard(number byte) *card {
	return &card{number: number, started: make(chan struct{}, 1), release: make(chan struct{})}
}

func (c *card) ATR() []byte {
	if c.mute {
		return nil
	}
	return []byte{0x3B, 0x81, 0x01, c.number, 0x81 ^ 0x01 ^ c.number}
}
func (c *card) Reset() { c.resets.Add(1) }
func (c *card) Transmit(ctx context.Context, command []byte) []byte {
	switch command[1] {
	case 0xCA:
		return []byte{c.number, 0x90, 0}
	case 0xFF:
		c.started <- struct{}{}
		select {
		case <-c.release:
		case <-ctx.Done():
		}
	}
	return []byte{0x90, 0}
}

func connect(t *testing.T, reader string) *pcsc.Card {
	t.Helper()
	c, err := pcsc.Connect(t.Context(), reader)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func watch(t *testing.T) <-chan []pcsc.Reader {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	updates, err := pcsc.Watch(ctx)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		for range updates {
		}
	})
	return updates
}

// until receives states until one fits.
func until(t *testing.T, updates <-chan []pcsc.Reader, what string, fits func([]pcsc.Reader) bool) []pcsc.Reader {
	t.Helper()
	var last []pcsc.Reader
	for timeout := time.After(patience); ; {
		select {
		case readers, ok := <-updates:
			if !ok {
				t.Fatalf("waiting for %s: channel closed", what)
			}
			if last = readers; fits(readers) {
				return readers
			}
		case <-timeout:
			t.Fatalf("waiting for %s: last state %+v", what, last)
		}
	}
}

func find(readers []pcsc.Reader, name string) (pcsc.Reader, bool) {
	for _, r := range readers {
		if r.Name == name {
			return r, true
		}
	}
	return pcsc.Reader{}, false
}

func TestWatchHotPlug(t *testing.T) {
	s := serve(t)
	updates := watch(t)
	until(t, updates, "no reader", func(r []pcsc.Reader) bool { return r != nil && len(r) == 0 })

	a := addReader(t, s, "Reader A")
	until(t, updates, "an empty reader", func(r []pcsc.Reader) bool {
		x, ok := find(r, "Reader A")
		return ok && !x.Card && x.ATR == nil && !x.Unresponsive
	})
	c := newCard(1)
	a.Insert(c)
	until(t, updates, "a card", func(r []pcsc.Reader) bool {
		x, _ := find(r, "Reader A")
		return x.Card && bytes.Equal(x.ATR, c.ATR()) && !x.Unresponsive
	})
	b := addReader(t, s, "Reader B")
	b.Insert(newCard(2))
	until(t, updates, "two cards", func(r []pcsc.Reader) bool {
		x, _ := find(r, "Reader A")
		y, _ := find(r, "Reader B")
		return len(r) == 2 && x.Card && y.Card && !bytes.Equal(x.ATR, y.ATR)
	})
	a.Pull()
	until(t, updates, "the pull", func(r []pcsc.Reader) bool {
		x, _ := find(r, "Reader A")
		return len(r) == 2 && !x.Card && x.ATR == nil
	})
	dead := newCard(3)
	dead.mute = true
	a.Insert(dead)
	until(t, updates, "a mute card", func(r []pcsc.Reader) bool {
		x, _ := find(r, "Reader A")
		return x.Card && x.Unresponsive && x.ATR == nil
	})
	a.Remove()
	until(t, updates, "one reader", func(r []pcsc.Reader) bool { return len(r) == 1 && r[0].Name == "Reader B" && r[0].Card })
	b.Remove()
	until(t, updates, "no reader again", func(r []pcsc.Reader) bool { return r != nil && len(r) == 0 })
}

// A swap that is quicker than anybody looks is still another insertion, and
// bouncing contacts are one event, not twenty.
func TestWatchFastSwaps(t *testing.T) {
	s := serve(t)
	r := addReader(t, s, "Swap")
	c := newCard(1)
	r.Insert(c)
	updates := watch(t)
	inserted := func(r []pcsc.Reader) bool { x, _ := find(r, "Swap"); return x.Card }
	before := until(t, updates, "the card", inserted)[0].Insertion
	for range 20 {
		r.Pull()
		r.Insert(c)
	}
	after := until(t, updates, "another insertion", func(r []pcsc.Reader) bool { return inserted(r) && r[0].Insertion != before })
	more := 0
	for quiet := time.After(700 * time.Millisecond); ; more++ {
		select {
		case got := <-updates:
			if !inserted(got) {
				t.Errorf("saw %+v", got)
			}
			continue
		case <-quiet:
		}
		break
	}
	if more > 3 {
		t.Errorf("%d more events after the swaps", more)
	}
	last, err := pcsc.List(t.Context())
	if err != nil || last[0].Insertion == before {
		t.Errorf("last state %+v after %+v, %v", last, after, err)
	}
	if got, err := connect(t, "Swap").Transmit(t.Context(), []byte{0, 0xCA, 0, 0}); err != nil || got[0] != 1 {
		t.Errorf("transmit: %x, %v", got, err)
	}
}

func TestServiceGoneAndBack(t *testing.T) {
	s := serve(t)
	addReader(t, s, "Service").Insert(newCard(1))
	updates := watch(t)
	there := func(r []pcsc.Reader) bool { x, _ := find(r, "Service"); return x.Card }
	until(t, updates, "the reader", there)
	c := connect(t, "Service")

	s.Close()
	until(t, updates, "no service", func(r []pcsc.Reader) bool { return r == nil })
	if _, err := c.Transmit(t.Context(), []byte{0, 0xCA, 0, 0}); !errors.Is(err, pcsc.ErrNoService) {
		t.Errorf("transmit without service: %v", err)
	}
	if err := c.Close(); err != nil {
		t.Errorf("close without service: %v", err)
	}
	if _, err := pcsc.Connect(t.Context(), "Service"); !errors.Is(err, pcsc.ErrNoService) {
		t.Errorf("connect without service: %v", err)
	}
	if _, err := pcsc.List(t.Context()); !errors.Is(err, pcsc.ErrNoService) {
		t.Errorf("list without service: %v", err)
	}

	addReader(t, serve(t), "Service").Insert(newCard(2))
	until(t, updates, "the service", there)
	if got, err := connect(t, "Service").Transmit(t.Context(), []byte{0, 0xCA, 0, 0}); err != nil || got[0] != 2 {
		t.Errorf("transmit: %x, %v", got, err)
	}
}

func TestWatchEndsWithItsContext(t *testing.T) {
	addReader(t, serve(t), "End")
	ctx, cancel := context.WithCancel(t.Context())
	one, err := pcsc.Watch(ctx)
	if err != nil {
		t.Fatal(err)
	}
	two := watch(t) // shares the watcher
	until(t, one, "a reader", func(r []pcsc.Reader) bool { return len(r) == 1 })
	until(t, two, "a reader", func(r []pcsc.Reader) bool { return len(r) == 1 })
	cancel()
	for range one {
	}
	if _, err := pcsc.Watch(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("watch with an ended context: %v", err)
	}
	r, err := pcsc.List(t.Context())
	if err != nil || len(r) != 1 {
		t.Errorf("list: %v, %v", r, err)
	}
}

func TestNothingIsLeftRunning(t *testing.T) {
	s := serve(t)
	r := addReader(t, s, "Leak")
	c := newCard(1)
	r.Insert(c)
	for range 10 {
		if _, err := pcsc.List(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	card := connect(t, "Leak")
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-c.started; cancel() }()
	card.Transmit(ctx, []byte{0, 0xFF, 0, 0})
	close(c.release)
	card.Close()
	stacks := make([]byte, 1<<20)
	for end := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		here := string(stacks[:runtime.Stack(stacks, true)])
		if !strings.Contains(here, "smartcard/pcsc.(*hub)") && !strings.Contains(here, "pcsc.inLibrary") {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("still running:\n%s", here)
		}
	}
}

func TestCard(t *testing.T) {
	s := serve(t)
	one, two := addReader(t, s, "Reader 1"), addReader(t, s, "Reader 2")
	a, b := newCard(1), newCard(2)
	one.Insert(a)
	two.Insert(b)
	ca, cb := connect(t, "Reader 1"), connect(t, "Reader 2")
	if !bytes.Equal(ca.ATR(), a.ATR()) || !bytes.Equal(cb.ATR(), b.ATR()) || ca.Reader() != "Reader 1" {
		t.Errorf("ATRs %x, %x, reader %q", ca.ATR(), cb.ATR(), ca.Reader())
	}
	var seen []string
	ca.Trace(func(e pcsc.Exchange) { seen = append(seen, fmt.Sprintf("%X>%X %v", e.Command, e.Response, e.Err)) })
	for i, c := range []*pcsc.Card{ca, cb} {
		r, err := apdu.Send(t.Context(), c, apdu.Command{INS: 0xCA, Le: 256})
		if err != nil || r.Status != apdu.OK || !bytes.Equal(r.Data, []byte{byte(i + 1)}) {
			t.Errorf("card %d: %v, %v", i+1, r, err)
		}
	}
	if !slices.Equal(seen, []string{"00CA000000>019000 <nil>"}) {
		t.Errorf("trace %q", seen)
	}
	if _, err := ca.Transmit(t.Context(), []byte{0, 0xCA, 0}); !errors.Is(err, apdu.ErrMalformed) {
		t.Errorf("three bytes: %v", err)
	}
	if _, err := ca.Transmit(t.Context(), nil); !errors.Is(err, apdu.ErrMalformed) {
		t.Errorf("no bytes: %v", err)
	}
	before := a.resets.Load()
	if err := ca.Reset(t.Context()); err != nil || a.resets.Load() != before+1 {
		t.Errorf("reset: %v", err)
	}
	if err := ca.Close(); err != nil || a.resets.Load() != before+2 {
		t.Errorf("close: %v, %d resets: a card must not stay unlocked", err, a.resets.Load()-before)
	}
	if err := ca.Close(); err != nil {
		t.Errorf("second close: %v", err)
	}
	if _, err := ca.Transmit(t.Context(), []byte{0, 0xCA, 0, 0}); !errors.Is(err, pcsc.ErrClosed) {
		t.Errorf("transmit after close: %v", err)
	}
	if err := ca.Reset(t.Context()); !errors.Is(err, pcsc.ErrClosed) {
		t.Errorf("reset after close: %v", err)
	}
	connect(t, "Reader 1")
}

func TestConnectErrors(t *testing.T) {
	s := serve(t)
	r := addReader(t, s, "Errors")
	if _, err := pcsc.Connect(t.Context(), "Nobody"); !errors.Is(err, pcsc.ErrNoReader) {
		t.Errorf("unknown reader: %v", err)
	}
	if _, err := pcsc.Connect(t.Context(), "Errors"); !errors.Is(err, pcsc.ErrNoCard) {
		t.Errorf("empty reader: %v", err)
	}
	mute := newCard(1)
	mute.mute = true
	r.Insert(mute)
	if _, err := pcsc.Connect(t.Context(), "Errors"); !errors.Is(err, pcsc.ErrUnresponsive) {
		t.Errorf("mute card: %v", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := pcsc.Connect(ended, "Errors"); !errors.Is(err, context.Canceled) {
		t.Errorf("ended context: %v", err)
	}
}

func TestPullInTheMiddleOfACommand(t *testing.T) {
	s := serve(t)
	r := addReader(t, s, "Pull")
	c := newCard(1)
	r.Insert(c)
	card := connect(t, "Pull")
	go func() { <-c.started; r.Pull() }()
	if _, err := card.Transmit(t.Context(), []byte{0, 0xFF, 0, 0}); !errors.Is(err, pcsc.ErrCardRemoved) {
		t.Errorf("pulled: %v", err)
	}
	r.Insert(newCard(2))
	// The old connection must never reach the new card.
	if got, err := card.Transmit(t.Context(), []byte{0, 0xCA, 0, 0}); !errors.Is(err, pcsc.ErrCardRemoved) {
		t.Errorf("old connection: %x, %v", got, err)
	}
	if err := card.Reset(t.Context()); !errors.Is(err, pcsc.ErrCardRemoved) {
		t.Errorf("reset: %v", err)
	}
	card.Close()
	if got, err := connect(t, "Pull").Transmit(t.Context(), []byte{0, 0xCA, 0, 0}); err != nil || got[0] != 2 {
		t.Errorf("new connection: %x, %v", got, err)
	}

	again := connect2(t, s, "Pull 2")
	again.reader.Remove()
	if _, err := again.card.Transmit(t.Context(), []byte{0, 0xCA, 0, 0}); !errors.Is(err, pcsc.ErrCardRemoved) && !errors.Is(err, pcsc.ErrNoReader) {
		t.Errorf("reader unplugged: %v", err)
	}
}

type opened struct {
	reader *pcscd.Reader
	card   *pcsc.Card
}

func connect2(t *testing.T, s *pcscd.Server, name string) opened {
	t.Helper()
	r := addReader(t, s, name)
	r.Insert(newCard(9))
	return opened{r, connect(t, name)}
}

func TestContextEndsInTheMiddleOfACommand(t *testing.T) {
	s := serve(t)
	r := addReader(t, s, "Cancel")
	c := newCard(1)
	r.Insert(c)
	card := connect(t, "Cancel")
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-c.started; cancel() }()
	start := time.Now()
	_, err := card.Transmit(ctx, []byte{0, 0xFF, 0, 0})
	if !errors.Is(err, pcsc.ErrAbandoned) || !errors.Is(err, context.Canceled) || time.Since(start) > time.Second {
		t.Errorf("after %v: %v", time.Since(start), err)
	}
	if _, err := card.Transmit(t.Context(), []byte{0, 0xCA, 0, 0}); !errors.Is(err, pcsc.ErrAbandoned) {
		t.Errorf("next command: %v", err)
	}
	if err := card.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
	// While the card still works on the command nobody else gets it, afterwards
	// everybody does.
	short, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := pcsc.Connect(short, "Cancel"); !errors.Is(err, pcsc.ErrBusy) {
		t.Errorf("connect meanwhile: %v", err)
	}
	close(c.release)
	if got, err := connect(t, "Cancel").Transmit(t.Context(), []byte{0, 0xCA, 0, 0}); err != nil || got[0] != 1 {
		t.Errorf("connect afterwards: %x, %v", got, err)
	}

	// A context that ended before the command costs nothing.
	card = connect2(t, s, "Cancel 2").card
	if _, err := card.Transmit(ctx, []byte{0, 0xCA, 0, 0}); !errors.Is(err, context.Canceled) || errors.Is(err, pcsc.ErrAbandoned) {
		t.Errorf("ended context: %v", err)
	}
	if _, err := card.Transmit(t.Context(), []byte{0, 0xCA, 0, 0}); err != nil {
		t.Errorf("command after it: %v", err)
	}
}

func TestBusy(t *testing.T) {
	s := serve(t)
	addReader(t, s, "Busy").Insert(newCard(1))
	other, err := scard.EstablishContext()
	if err != nil {
		t.Fatal(err)
	}
	defer other.Release()
	theirs, err := other.Connect("Busy", scard.ShareExclusive, scard.ProtocolT1)
	if err != nil {
		t.Fatal(err)
	}
	short, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := pcsc.Connect(short, "Busy"); !errors.Is(err, pcsc.ErrBusy) {
		t.Errorf("exclusive elsewhere: %v", err)
	}
	// Who only looks in for a moment is waited for.
	time.AfterFunc(150*time.Millisecond, func() { theirs.Disconnect(scard.LeaveCard) })
	c := connect(t, "Busy")
	c.Close()

	theirs, err = other.Connect("Busy", scard.ShareShared, scard.ProtocolT1)
	if err != nil {
		t.Fatal(err)
	}
	if err := theirs.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	short, cancel = context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := pcsc.Connect(short, "Busy"); !errors.Is(err, pcsc.ErrBusy) {
		t.Errorf("transaction elsewhere: %v", err)
	}
	theirs.Disconnect(scard.LeaveCard)
	c = connect(t, "Busy")

	// And in turn: nobody gets a command in between.
	theirs, err = other.Connect("Busy", scard.ShareShared, scard.ProtocolT1)
	if err != nil {
		t.Fatal(err)
	}
	got := make(chan error, 1)
	go func() { _, err := theirs.Transmit([]byte{0, 0xCA, 0, 0}); got <- err }()
	select {
	case err := <-got:
		t.Errorf("another program's command came through: %v", err)
	case <-time.After(150 * time.Millisecond):
	}
	c.Close()
	<-got
}

// The production programs' first act works on the C library's environment too.
func TestClearEnvironment(t *testing.T) {
	addReader(t, serve(t), "Fake")
	for _, clear := range []string{"no", "yes"} {
		cmd := exec.CommandContext(t.Context(), os.Args[0])
		cmd.Env = append(os.Environ(), child+"="+clear)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		if fake := strings.Contains(string(out), "reader Fake"); fake != (clear == "no") {
			t.Errorf("clear %s: %s", clear, out)
		}
		if clear == "yes" && !strings.Contains(string(out), "removed [PCSCLITE_CSOCK_NAME]") {
			t.Errorf("removed: %s", out)
		}
	}
}

func inChild() int {
	if os.Getenv(child) == "real" {
		if err := realService(); err != nil {
			fmt.Println(err)
			return 1
		}
		return 0
	}
	if os.Getenv(child) == "yes" {
		fmt.Println("removed", pcsc.ClearEnvironment())
	}
	readers, err := pcsc.List(context.Background())
	if err != nil && !errors.Is(err, pcsc.ErrNoService) {
		fmt.Println(err)
		return 1
	}
	for _, r := range readers {
		fmt.Println("reader", r.Name)
	}
	return 0
}

// What the reader says it takes reaches whoever opened the card, and a reader
// that says nothing is no error.
func TestReaderLimit(t *testing.T) {
	s := serve(t)
	for name, c := range map[string]struct {
		said uint32
		want int
	}{
		"silent": {0, 0}, "short": {256, 256}, "some": {2048, 2048}, "all": {65536, 65536},
		"nonsense small": {1, 256}, "nonsense large": {0xFFFFFFFF, 65536},
	} {
		t.Run(name, func(t *testing.T) {
			r := addReader(t, s, "Limit Reader "+name)
			defer r.Remove()
			r.LimitAPDU(c.said)
			r.Insert(newCard(1))
			card, err := pcsc.Connect(t.Context(), r.Name())
			if err != nil {
				t.Fatal(err)
			}
			defer card.Close()
			if got := card.MaxAPDU(); got != c.want {
				t.Errorf("%d, want %d", got, c.want)
			}
		})
	}
}

// A card that offers both protocols is spoken to by T=1, whichever stands first,
// and one that has T=0 only is opened all the same.
func TestProtocols(t *testing.T) {
	s := serve(t)
	for name, c := range map[string]struct {
		atr  []byte
		most int
	}{
		"T=0 first, then T=1": {[]byte{0x3B, 0x80, 0x80, 0x01, 0x01}, 65536},
		"T=1 only":            {[]byte{0x3B, 0x80, 0x01, 0x81}, 65536},
		"T=0 only":            {[]byte{0x3B, 0x00}, 256},
	} {
		t.Run(name, func(t *testing.T) {
			r := addReader(t, s, "Protocol Reader "+name)
			defer r.Remove()
			r.LimitAPDU(65536)
			r.Insert(withATR{newCard(1), c.atr})
			card, err := pcsc.Connect(t.Context(), r.Name())
			if err != nil {
				t.Fatal(err)
			}
			defer card.Close()
			if got := card.MaxAPDU(); got != c.most {
				t.Errorf("APDUs of up to %d bytes, want %d", got, c.most)
			}
			if _, err := card.Transmit(t.Context(), []byte{0, 0xA4, 4, 0}); err != nil {
				t.Error(err)
			}
		})
	}
}

// withATR is a card with another answer to reset.
type withATR struct {
	*card
	atr []byte
}

func (c withATR) ATR() []byte { return c.atr }
