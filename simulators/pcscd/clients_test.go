package pcscd_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ebfe/scard"

	"enrollkiosk/simulators/pcscd"
)

// The client library keeps the socket's path for the life of the process: one
// server for all tests that go through it.
var shop struct {
	socket string
	server *pcscd.Server
}

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "pcscd")
	if err != nil {
		panic(err)
	}
	shop.socket = filepath.Join(dir, "s")
	if shop.server, err = pcscd.Listen(shop.socket); err != nil {
		panic(err)
	}
	os.Setenv("PCSCLITE_CSOCK_NAME", shop.socket)
	code := m.Run()
	shop.server.Close()
	os.RemoveAll(dir)
	os.Exit(code)
}

func shopReader(t *testing.T, name string) *pcscd.Reader {
	t.Helper()
	r := addReader(t, shop.server, name)
	t.Cleanup(r.Remove)
	return r
}

func establish(t *testing.T) *scard.Context {
	t.Helper()
	c, err := scard.EstablishContext()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Release() })
	return c
}

func TestLibrary(t *testing.T) {
	first, second := shopReader(t, "Library Reader 00 00"), shopReader(t, "Library Reader 01 00")
	in := newCard()
	second.Insert(in)
	c := establish(t)
	names, err := c.ListReaders()
	if err != nil || !slices.Equal(names, []string{first.Name(), second.Name()}) {
		t.Fatalf("readers %q, %v", names, err)
	}
	if _, err := c.Connect(first.Name(), scard.ShareShared, scard.ProtocolAny); !errors.Is(err, scard.ErrNoSmartcard) {
		t.Fatalf("connect to an empty reader: %v", err)
	}
	card, err := c.Connect(second.Name(), scard.ShareShared, scard.ProtocolAny)
	if err != nil {
		t.Fatal(err)
	}
	if card.ActiveProtocol() != scard.ProtocolT1 {
		t.Errorf("protocol %v", card.ActiveProtocol())
	}
	if err := card.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	status, err := card.Status()
	if err != nil || status.Reader != second.Name() || !slices.Equal(status.Atr, in.atr) || status.ActiveProtocol != scard.ProtocolT1 {
		t.Errorf("status %+v, %v", status, err)
	}
	if got, err := card.Transmit([]byte{0, 0xA4, 4, 0}); err != nil || string(got) != "\x90\x00" {
		t.Errorf("select: %x, %v", got, err)
	}
	if got, err := card.Transmit([]byte{0, 0xEE, 0xFF, 0xFF}); err != nil || len(got) != 65537 {
		t.Errorf("long answer: %d bytes, %v", len(got), err)
	}
	if atr, err := card.GetAttrib(scard.AttrAtrString); err != nil || !slices.Equal(atr, in.atr) {
		t.Errorf("ATR attribute: %x, %v", atr, err)
	}
	if _, err := card.Control(scard.CtlCode(3400), nil); !errors.Is(err, scard.ErrUnsupportedFeature) {
		t.Errorf("control: %v", err)
	}
	if err := card.EndTransaction(scard.LeaveCard); err != nil {
		t.Error(err)
	}
	before := in.resets.Load()
	if err := card.Reconnect(scard.ShareShared, scard.ProtocolT1, scard.ResetCard); err != nil || in.resets.Load() != before+1 {
		t.Errorf("reconnect: %v", err)
	}

	go func() { <-in.started; second.Pull() }()
	if _, err := card.Transmit([]byte{0, 0xFF, 0, 0}); !errors.Is(err, scard.ErrRemovedCard) {
		t.Errorf("pull in the middle of a command: %v", err)
	}
	if err := card.Disconnect(scard.LeaveCard); err != nil {
		t.Errorf("disconnect after the pull: %v", err)
	}
}

func TestLibraryExclusive(t *testing.T) {
	r := shopReader(t, "Exclusive Reader 00 00")
	r.Insert(newCard())
	a, b := establish(t), establish(t)
	card, err := a.Connect(r.Name(), scard.ShareExclusive, scard.ProtocolT1)
	if err != nil {
		t.Fatal(err)
	}
	if err := card.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Connect(r.Name(), scard.ShareShared, scard.ProtocolT1); !errors.Is(err, scard.ErrSharingViolation) {
		t.Errorf("second connection: %v", err)
	}
	card.Disconnect(scard.LeaveCard)
	if _, err := b.Connect(r.Name(), scard.ShareExclusive, scard.ProtocolT1); err != nil {
		t.Error(err)
	}
}

// Two processes' worth of contexts take turns: the library waits for a foreign
// transaction by trying again.
func TestLibraryTransactionsTakeTurns(t *testing.T) {
	r := shopReader(t, "Turns Reader 00 00")
	r.Insert(newCard())
	var inside sync.Mutex
	var group sync.WaitGroup
	for range 3 {
		c := establish(t)
		group.Go(func() {
			card, err := c.Connect(r.Name(), scard.ShareShared, scard.ProtocolT1)
			if err != nil {
				t.Error(err)
				return
			}
			defer card.Disconnect(scard.LeaveCard)
			if err := card.BeginTransaction(); err != nil {
				t.Error(err)
				return
			}
			if !inside.TryLock() {
				t.Error("two transactions at once")
				return
			}
			card.Transmit([]byte{0, 0xA4, 4, 0})
			time.Sleep(5 * time.Millisecond)
			inside.Unlock()
			card.EndTransaction(scard.LeaveCard)
		})
	}
	group.Wait()
}

func TestLibraryEvents(t *testing.T) {
	r := shopReader(t, "Events Reader 00 00")
	c := establish(t)
	states := []scard.ReaderState{{Reader: r.Name()}}
	next := func(do func()) scard.StateFlag {
		t.Helper()
		states[0].CurrentState = states[0].EventState
		go func() { time.Sleep(10 * time.Millisecond); do() }()
		if err := c.GetStatusChange(states, patience); err != nil {
			t.Fatal(err)
		}
		return states[0].EventState & 0xFFFF
	}
	if s := next(func() {}); s&scard.StateEmpty == 0 {
		t.Errorf("empty reader: %v", s)
	}
	if s := next(func() { r.Insert(newCard()) }); s&scard.StatePresent == 0 {
		t.Errorf("inserted: %v", s)
	}
	if s := next(r.Pull); s&scard.StateEmpty == 0 {
		t.Errorf("pulled: %v", s)
	}
	states[0].CurrentState = states[0].EventState
	if err := c.GetStatusChange(states, 20*time.Millisecond); !errors.Is(err, scard.ErrTimeout) {
		t.Errorf("nothing happens: %v", err)
	}
	go func() { time.Sleep(20 * time.Millisecond); c.Cancel() }()
	if err := c.GetStatusChange(states, patience); !errors.Is(err, scard.ErrCancelled) {
		t.Errorf("cancel: %v", err)
	}
	mute := newCard()
	mute.atr = []byte{0x3B}
	if s := next(func() { r.Insert(mute) }); s&scard.StateMute == 0 {
		t.Errorf("mute: %v", s)
	}
	pnp := []scard.ReaderState{{Reader: `\\?PnP?\Notification`}}
	go func() { time.Sleep(20 * time.Millisecond); shopReader(t, "Events Reader 01 00") }()
	if err := c.GetStatusChange(pnp, patience); err != nil || pnp[0].EventState&scard.StateChanged == 0 {
		t.Errorf("new reader: %v, %v", pnp[0].EventState, err)
	}
	if s := next(r.Remove); s&scard.StateUnknown == 0 {
		t.Errorf("reader removed: %v", s)
	}
}

func tool(t *testing.T, pkg, name string, args ...string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("%s is missing: install the Debian package %s", name, pkg)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env = append(os.Environ(), "PCSCLITE_CSOCK_NAME="+shop.socket, "LC_ALL=C")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

func TestForeignTools(t *testing.T) {
	full, empty := shopReader(t, "Tool Reader 00 00"), shopReader(t, "Tool Reader 01 00")
	full.Insert(newCard())

	list := tool(t, "opensc", "opensc-tool", "-l")
	for line := range strings.Lines(list) {
		if strings.Contains(line, full.Name()) && !strings.Contains(line, "Yes") ||
			strings.Contains(line, empty.Name()) && !strings.Contains(line, "No ") {
			t.Errorf("opensc-tool: %q", line)
		}
	}
	if !strings.Contains(list, full.Name()) || !strings.Contains(list, empty.Name()) {
		t.Errorf("opensc-tool lists %q", list)
	}
	if got := tool(t, "opensc", "opensc-tool", "-a"); !strings.HasSuffix(strings.TrimSpace(got), "3b:80:01:81") {
		t.Errorf("opensc-tool -a: %q", got)
	}
	if got := tool(t, "opensc", "opensc-tool", "-s", "00A40400"); !strings.Contains(got, "SW1=0x90, SW2=0x00") {
		t.Errorf("opensc-tool -s: %q", got)
	}
	if got := tool(t, "pcsc-tools", "pcsc_scan", "-r"); !strings.Contains(got, full.Name()) || !strings.Contains(got, empty.Name()) {
		t.Errorf("pcsc_scan -r: %q", got)
	}

	// A scan of two seconds sees a card come and a reader go.
	time.AfterFunc(500*time.Millisecond, func() { empty.Insert(newCard()) })
	time.AfterFunc(1000*time.Millisecond, full.Remove)
	scan := tool(t, "pcsc-tools", "pcsc_scan", "-n", "-q", "-t", "2")
	if !strings.Contains(scan, "Event number: 1") || strings.Count(scan, "Card inserted") < 2 || !strings.Contains(scan, "3B 80 01 81") {
		t.Errorf("pcsc_scan: %q", scan)
	}
	if last := scan[strings.LastIndex(scan, "0: "):]; strings.Contains(last, full.Name()) {
		t.Errorf("pcsc_scan still sees the removed reader: %q", last)
	}
}
