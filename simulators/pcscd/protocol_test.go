package pcscd_test

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"enrollkiosk/simulators/pcscd"
)

// Return values and commands, from pcsclite.h and winscard_msg.h: the tests keep
// their own copy.
const (
	cancelled       = 0x80100002
	invalidHandle   = 0x80100003
	badBuffer       = 0x80100008
	unknownReader   = 0x80100009
	sharing         = 0x8010000B
	noCard          = 0x8010000C
	protoMismatch   = 0x8010000F
	notTransacted   = 0x80100016
	serviceStopped  = 0x8010001E
	unsupported     = 0x8010001F
	unresponsive    = 0x80100066
	wasReset        = 0x80100068
	wasRemoved      = 0x80100069
	exclusive       = 1
	shared          = 2
	direct          = 3
	t1              = 2
	readerName      = "Specimen Reader 00 00"
	patience        = 5 * time.Second
	stateArrayBytes = 16 * 184
)

// card is a test card: SELECT answers 9000, 00 FF blocks until the card is
// pulled or released, 00 EE answers that many bytes as P1 P2 say, else 6D00.
type card struct {
	atr     []byte
	started chan struct{}
	release chan struct{}
	resets  atomic.Int32
	ended   chan error // context's end as the card sees it
	running atomic.Int32
	overlap atomic.Bool
}

func newCard() *card {
	return &card{
		atr:     []byte{0x3B, 0x80, 0x01, 0x81},
		started: make(chan struct{}, 16),
		release: make(chan struct{}),
		ended:   make(chan error, 16),
	}
}

func (c *card) ATR() []byte { return c.atr }
func (c *card) Reset()      { c.enter(); c.resets.Add(1); c.running.Add(-1) }

func (c *card) enter() {
	if c.running.Add(1) > 1 {
		c.overlap.Store(true)
	}
}

func (c *card) Transmit(ctx context.Context, command []byte) []byte {
	c.enter()
	defer c.running.Add(-1)
	switch command[1] {
	case 0xA4:
		return []byte{0x90, 0x00}
	case 0xFF:
		c.started <- struct{}{}
		select {
		case <-c.release:
			return []byte{0x90, 0x00}
		case <-ctx.Done():
			c.ended <- ctx.Err()
			return []byte{0x6F, 0x00}
		}
	case 0xEE:
		return append(make([]byte, int(command[2])<<8|int(command[3])), 0x90, 0x00)
	case 0x00:
		return []byte{0x90}
	}
	return []byte{0x6D, 0x00}
}

func serve(t *testing.T) (*pcscd.Server, string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "pcscd") // t.TempDir is too long for a socket's path
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket := filepath.Join(dir, "s")
	s, err := pcscd.Listen(socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s, socket
}

func addReader(t *testing.T, s *pcscd.Server, name string) *pcscd.Reader {
	t.Helper()
	r, err := s.AddReader(name)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// raw is a client that speaks bytes.
type raw struct {
	t       *testing.T
	conn    net.Conn
	context uint32
}

func dial(t *testing.T, socket string) *raw {
	t.Helper()
	conn, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &raw{t: t, conn: conn}
}

func open(t *testing.T, socket string, minor uint32) *raw {
	t.Helper()
	c := dial(t, socket)
	if got := c.call(0x11, u32s(4, minor, 0), 12); got[0] != 4 || got[1] != minor || got[2] != 0 {
		t.Fatalf("version answered %x", got)
	}
	c.context = c.call(0x01, u32s(2, 0, 0), 12)[1]
	if c.context == 0 || c.context >= 1<<31 {
		t.Fatalf("context %#x", c.context)
	}
	return c
}

func u32s(v ...uint32) []byte {
	var b []byte
	for _, w := range v {
		b = binary.NativeEndian.AppendUint32(b, w)
	}
	return b
}

func (c *raw) send(command uint32, body []byte, payload ...byte) {
	c.t.Helper()
	if _, err := c.conn.Write(append(append(u32s(uint32(len(body)), command), body...), payload...)); err != nil {
		c.t.Fatal(err)
	}
}

func (c *raw) recv(n int) []byte {
	c.t.Helper()
	b := make([]byte, n)
	c.conn.SetReadDeadline(time.Now().Add(patience))
	if _, err := io.ReadFull(c.conn, b); err != nil {
		c.t.Fatalf("read %d bytes: %v", n, err)
	}
	return b
}

// call sends a request and returns the reply as words.
func (c *raw) call(command uint32, body []byte, n int) []uint32 {
	c.t.Helper()
	c.send(command, body)
	return decode(c.recv(n))
}

func decode(b []byte) []uint32 {
	v := make([]uint32, len(b)/4)
	for i := range v {
		v[i] = binary.NativeEndian.Uint32(b[4*i:])
	}
	return v
}

// silent asserts that nothing is on its way.
func (c *raw) silent() {
	c.t.Helper()
	c.conn.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	var b [1]byte
	if n, err := c.conn.Read(b[:]); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		c.t.Fatalf("unexpected byte %x, %v", b[:n], err)
	}
}

func (c *raw) closed() {
	c.t.Helper()
	c.conn.SetReadDeadline(time.Now().Add(patience))
	var b [1]byte
	if n, err := c.conn.Read(b[:]); n != 0 || err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		c.t.Fatalf("connection is still open: %x, %v", b[:n], err)
	}
}

func (c *raw) connect(name string, share, protocol uint32) (handle, active, rv uint32) {
	c.t.Helper()
	body := append(u32s(c.context), make([]byte, 128)...)
	copy(body[4:131], name)
	got := c.call(0x04, append(body, u32s(share, protocol, 0, 0, 0)...), 152)
	return got[35], got[36], got[37]
}

func (c *raw) mustConnect(share uint32) uint32 {
	c.t.Helper()
	h, active, rv := c.connect(readerName, share, t1)
	if rv != 0 || h == 0 || h >= 1<<31 || share != direct && active != t1 {
		c.t.Fatalf("connect: handle %#x, protocol %d, rv %#x", h, active, rv)
	}
	return h
}

func (c *raw) begin(h uint32) uint32 { c.t.Helper(); return c.call(0x07, u32s(h, 0), 8)[1] }
func (c *raw) end(h, disposition uint32) uint32 {
	c.t.Helper()
	return c.call(0x08, u32s(h, disposition, 0), 12)[2]
}
func (c *raw) status(h uint32) uint32 { c.t.Helper(); return c.call(0x0B, u32s(h, 0), 8)[1] }
func (c *raw) disconnect(h, disposition uint32) uint32 {
	c.t.Helper()
	return c.call(0x06, u32s(h, disposition, 0), 12)[2]
}
func (c *raw) reconnect(h, share, protocol, initialization uint32) uint32 {
	c.t.Helper()
	return c.call(0x05, u32s(h, share, protocol, initialization, 0, 0), 24)[5]
}

func (c *raw) startTransmit(h, limit uint32, apdu ...byte) {
	c.t.Helper()
	c.send(0x09, u32s(h, t1, 16, uint32(len(apdu)), t1, 16, limit, 0), apdu...)
}

func (c *raw) endTransmit() ([]byte, uint32) {
	c.t.Helper()
	got := decode(c.recv(32))
	if got[7] != 0 {
		return nil, got[7]
	}
	return c.recv(int(got[6])), 0
}

func (c *raw) transmit(h uint32, apdu ...byte) ([]byte, uint32) {
	c.t.Helper()
	c.startTransmit(h, 258, apdu...)
	return c.endTransmit()
}

func (c *raw) want(what string, got, want uint32) {
	c.t.Helper()
	if got != want {
		c.t.Fatalf("%s: %#x, want %#x", what, got, want)
	}
}

func TestSocketIsPrivate(t *testing.T) {
	s, socket := serve(t)
	info, err := os.Stat(socket)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("socket: %v, %v", info.Mode(), err)
	}
	if _, err := pcscd.Listen(socket); !errors.Is(err, pcscd.ErrInUse) {
		t.Fatalf("second server on one socket: %v", err)
	}
	s.Close()
	if _, err := os.Stat(socket); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("socket outlives its server: %v", err)
	}
}

func TestDeadSocketIsReplaced(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	s, err := pcscd.Listen(socket)
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
}

func TestVersions(t *testing.T) {
	_, socket := serve(t)
	for minor := uint32(4); minor <= 6; minor++ {
		open(t, socket, minor)
	}
	for _, v := range [][2]uint32{{4, 3}, {4, 7}, {3, 4}, {5, 4}} {
		c := dial(t, socket)
		got := c.call(0x11, u32s(v[0], v[1], 0), 12)
		if got[0] != 4 || got[1] != 6 || got[2] != serviceStopped {
			t.Errorf("version %d.%d answered %x", v[0], v[1], got)
		}
		// The client may try again at the server's version.
		if got := c.call(0x11, u32s(4, 6, 0), 12); got[2] != 0 {
			t.Errorf("second version answered %x", got)
		}
	}
}

func TestReaderNames(t *testing.T) {
	s, _ := serve(t)
	for _, name := range []string{"", "a\x00b", strings.Repeat("x", 128)} {
		if _, err := s.AddReader(name); !errors.Is(err, pcscd.ErrReaderName) {
			t.Errorf("name %q: %v", name, err)
		}
	}
	for i := range 16 {
		addReader(t, s, "Reader "+string(rune('A'+i)))
	}
	if _, err := s.AddReader("Reader Q"); !errors.Is(err, pcscd.ErrTooMany) {
		t.Errorf("seventeenth reader: %v", err)
	}
	s.Close()
	if _, err := s.AddReader("late"); !errors.Is(err, pcscd.ErrClosed) {
		t.Errorf("reader on a closed server: %v", err)
	}
}

func TestStatesAndWaiting(t *testing.T) {
	s, socket := serve(t)
	c := open(t, socket, 4)
	if got := c.call(0x12, nil, stateArrayBytes); slices.Max(got) != 0 {
		t.Fatal("states of no reader are not zero")
	}

	// Register: the array comes at once, the event later, exactly one.
	c.call(0x13, nil, stateArrayBytes)
	c.silent()
	r := addReader(t, s, readerName)
	if got := decode(c.recv(8)); got[1] != 0 {
		t.Fatalf("event %x", got)
	}
	r.Insert(newCard())
	c.silent()

	c.send(0x13, nil)
	e := c.recv(stateArrayBytes)[:184]
	if name := string(e[:len(readerName)]); name != readerName || e[len(readerName)] != 0 {
		t.Errorf("name %q", name)
	}
	w := decode(e[128:])
	if w[0] != 1 || w[1] != 0x34 || w[2] != 0 || string(e[140:144]) != "\x3B\x80\x01\x81" || w[12] != 4 {
		t.Errorf("state with card: %x", e[128:])
	}
	r.Pull()
	c.recv(8)
	w = decode(c.stateOf(0)[128:])
	if w[0] != 2 || w[1] != 2 || w[12] != 0 {
		t.Errorf("state after pull: %x", w)
	}
	r.Remove()
	r.Insert(newCard()) // nothing to insert into
	if got := c.stateOf(0); slices.Max(got) != 0 {
		t.Errorf("state after removal: %x", got)
	}

	// STOP answers only who is registered.
	c.send(0x14, nil)
	c.silent()
	c.call(0x13, nil, stateArrayBytes)
	if got := c.call(0x14, nil, 8); got[1] != 0 {
		t.Errorf("stop: %x", got)
	}
	addReader(t, s, readerName)
	c.silent()
}

func (c *raw) stateOf(slot int) []byte {
	c.t.Helper()
	c.send(0x12, nil)
	return c.recv(stateArrayBytes)[slot*184:][:184]
}

func TestReaderEvents(t *testing.T) {
	s, socket := serve(t)
	c := open(t, socket, 5)
	before := c.call(0x15, nil, 8)
	if before[0] == 0 || before[1] != 0 {
		t.Fatalf("reader events %x: zero means unaware", before)
	}
	addReader(t, s, readerName).Remove()
	if after := c.call(0x15, nil, 8); after[0] != before[0]+2 {
		t.Errorf("reader events went from %d to %d", before[0], after[0])
	}
	old := open(t, socket, 4)
	old.send(0x15, nil)
	old.closed()
}

// A 4.6 client registers without an answer, then fetches size and array. An
// event in between must wait, or the client takes it for a part of the array.
func TestWaiting46(t *testing.T) {
	s, socket := serve(t)
	c := open(t, socket, 6)
	c.send(0x13, nil)
	c.silent()
	addReader(t, s, readerName)
	c.silent()
	if got := c.call(0x16, nil, 4); got[0] != 16 {
		t.Fatalf("size %d", got[0])
	}
	array := c.call(0x17, nil, stateArrayBytes)
	if array[0] == 0 {
		t.Error("array lacks the reader")
	}
	if got := decode(c.recv(8)); got[1] != 0 {
		t.Errorf("held event: %x", got)
	}
	c.silent()

	c.send(0x13, nil)
	c.call(0x17, nil, stateArrayBytes)
	c.silent()
	addReader(t, s, "another")
	c.recv(8)
	old := open(t, socket, 5)
	old.send(0x17, nil)
	old.closed()
}

func TestCancel(t *testing.T) {
	_, socket := serve(t)
	c := open(t, socket, 4)
	cancel := func(context uint32) uint32 {
		return dial(t, socket).call(0x0D, u32s(context, 0), 8)[1] // no VERSION
	}
	c.want("cancel with nothing waiting", cancel(c.context), invalidHandle)
	c.call(0x13, nil, stateArrayBytes)
	c.want("cancel of another context", cancel(c.context^1), invalidHandle)
	c.want("cancel of no context", cancel(0), invalidHandle)
	c.want("cancel", cancel(c.context), 0)
	c.want("event", decode(c.recv(8))[1], cancelled)
	c.want("cancel again", cancel(c.context), invalidHandle)
}

func TestConnect(t *testing.T) {
	s, socket := serve(t)
	r := addReader(t, s, readerName)
	a, b := open(t, socket, 4), open(t, socket, 5)
	connect := func(c *raw, name string, share, protocol uint32) uint32 {
		_, _, rv := c.connect(name, share, protocol)
		return rv
	}
	a.want("unknown reader", connect(a, "nobody", shared, t1), unknownReader)
	a.want("no card", connect(a, readerName, shared, t1), noCard)
	h := a.mustConnect(direct)
	_, rv := a.transmit(h, 0, 0xA4, 4, 0)
	a.want("transmit without card", rv, noCard)
	a.want("disconnect", a.disconnect(h, 0), 0)

	mute := newCard()
	mute.atr = nil
	r.Insert(mute)
	a.want("mute card", connect(a, readerName, shared, t1), unresponsive)
	if state := decode(a.stateOf(0)[128:])[1]; state != 0x0C {
		t.Errorf("state of mute card %#x", state)
	}

	r.Insert(newCard())
	a.want("T=0 with a T=1 card", connect(a, readerName, shared, 1), protoMismatch)
	h = a.mustConnect(shared)
	b.mustConnect(shared)
	if n := decode(a.stateOf(0)[128:])[2]; n != 2 {
		t.Errorf("%d connections shown", n)
	}
	b.want("exclusive beside shared", connect(b, readerName, exclusive, t1), sharing)
	b.conn.Close()
	a.want("disconnect", a.disconnect(h, 0), 0)
	eventually(t, func() bool {
		var rv uint32
		h, _, rv = a.connect(readerName, exclusive, t1)
		return rv == 0
	})
	if n := decode(a.stateOf(0)[128:])[2]; n != 0xFFFFFFFF {
		t.Errorf("exclusive shown as %#x", n)
	}
	c := open(t, socket, 4)
	c.want("shared beside exclusive", connect(c, readerName, shared, t1), sharing)
	a.want("reconnect shared", a.reconnect(h, shared, t1, 0), 0)
	c.mustConnect(shared)
	a.want("reconnect exclusive", a.reconnect(h, exclusive, t1, 0), sharing)
}

func eventually(t *testing.T, f func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if f() {
			return
		}
	}
	t.Fatal("never became true")
}

func TestTransmit(t *testing.T) {
	s, socket := serve(t)
	r := addReader(t, s, readerName)
	r.Insert(newCard())
	c := open(t, socket, 4)
	h := c.mustConnect(shared)
	if got, rv := c.transmit(h, 0, 0xA4, 4, 0); rv != 0 || string(got) != "\x90\x00" {
		t.Fatalf("select: %x %#x", got, rv)
	}
	c.startTransmit(h, 65548, 0, 0xEE, 0xFF, 0xFF)
	if got, rv := c.endTransmit(); rv != 0 || len(got) != 65537 {
		t.Fatalf("long answer: %d bytes, %#x", len(got), rv)
	}
	c.startTransmit(h, 257, 0, 0xEE, 1, 0)
	_, rv := c.endTransmit()
	c.want("answer longer than the client's buffer", rv, badBuffer)
	_, rv = c.transmit(h, 0, 0xA4, 4)
	c.want("three bytes", rv, 0x80100004)
	_, rv = c.transmit(h, 0, 0, 0, 0)
	c.want("one byte from the card", rv, notTransacted)
	c.send(0x09, u32s(h, 1, 16, 4, 1, 16, 258, 0), 0, 0xA4, 4, 0)
	_, rv = c.endTransmit()
	c.want("protocol not agreed", rv, protoMismatch)
	c.send(0x0A, u32s(h, 0x42000000+3400, 0, 256, 0, 0))
	c.want("control", decode(c.recv(24))[5], unsupported)
}

func TestTransactions(t *testing.T) {
	s, socket := serve(t)
	r := addReader(t, s, readerName)
	first := newCard()
	r.Insert(first)
	a, b := open(t, socket, 4), open(t, socket, 4)
	ha, hb := a.mustConnect(shared), b.mustConnect(shared)
	a.want("end without begin", a.end(ha, 0), notTransacted)
	a.want("begin", a.begin(ha), 0)
	a.want("nested begin", a.begin(ha), 0)
	b.want("begin meanwhile", b.begin(hb), sharing)
	b.want("end of another's", b.end(hb, 0), sharing)
	_, rv := b.transmit(hb, 0, 0xA4, 4, 0)
	b.want("transmit meanwhile", rv, sharing)
	b.want("reconnect meanwhile", b.reconnect(hb, shared, t1, 1), sharing)
	a.want("end", a.end(ha, 0), 0)
	b.want("begin inside the outer one", b.begin(hb), sharing)
	a.want("outer end", a.end(ha, 0), 0)
	b.want("begin", b.begin(hb), 0)

	// b dies inside its transaction: the card is reset, a is told, once.
	before := first.resets.Load()
	b.conn.Close()
	eventually(t, func() bool { return a.status(ha) == wasReset })
	if n := first.resets.Load() - before; n != 1 {
		t.Errorf("%d resets", n)
	}
	a.want("begin after the reset", a.begin(ha), wasReset)
	a.want("reconnect", a.reconnect(ha, shared, t1, 0), 0)
	eventually(t, func() bool { return a.begin(ha) == 0 })

	c := open(t, socket, 6)
	hc := c.mustConnect(shared)
	a.want("end with reset", a.end(ha, 1), 0)
	c.want("status after the reset", c.status(hc), wasReset)
	a.want("status of who reset", a.status(ha), 0)
	c.want("reconnect with reset", c.reconnect(hc, shared, t1, 1), 0)
	a.want("status after reconnect with reset", a.status(ha), wasReset)
	a.want("disconnect with reset", a.disconnect(ha, 1), 0)
	if first.overlap.Load() {
		t.Error("two methods of the card ran at once")
	}
}

func TestPull(t *testing.T) {
	s, socket := serve(t)
	r := addReader(t, s, readerName)
	pulled := newCard()
	r.Insert(pulled)
	a, b := open(t, socket, 4), open(t, socket, 4)
	ha, hb := a.mustConnect(shared), b.mustConnect(shared)
	a.want("begin", a.begin(ha), 0)
	a.startTransmit(ha, 258, 0, 0xFF, 0, 0)
	<-pulled.started
	r.Pull()
	_, rv := a.endTransmit()
	a.want("transmit in progress", rv, wasRemoved)
	select {
	case err := <-pulled.ended:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("card saw %v", err)
		}
	case <-time.After(patience):
		t.Fatal("the card's context did not end")
	}
	b.want("status of the other", b.status(hb), wasRemoved)
	b.want("begin of the other", b.begin(hb), wasRemoved)
	_, rv = a.transmit(ha, 0, 0xA4, 4, 0)
	a.want("transmit after", rv, wasRemoved)

	// The same handle does not reach the next card until it reconnects.
	next := newCard()
	r.Insert(next)
	_, rv = a.transmit(ha, 0, 0xA4, 4, 0)
	a.want("transmit to the next card", rv, wasRemoved)
	a.want("reconnect with reset", a.reconnect(ha, shared, t1, 1), wasRemoved)
	a.want("reconnect", a.reconnect(ha, shared, t1, 0), 0)
	if _, rv = a.transmit(ha, 0, 0xA4, 4, 0); rv != 0 {
		t.Errorf("transmit after reconnect %#x", rv)
	}
	b.want("disconnect", b.disconnect(hb, 1), 0)
	if n := next.resets.Load(); n != 1 {
		t.Errorf("a dead handle reset the next card: %d resets", n)
	}

	r.Remove()
	a.want("status after the reader went", a.status(ha), wasRemoved)
	a.want("reconnect after the reader went", a.reconnect(ha, shared, t1, 0), wasRemoved)
	a.want("disconnect after the reader went", a.disconnect(ha, 0), 0)
}

// deaf never looks at its context.
type deaf struct{ *card }

func (d deaf) Transmit(context.Context, []byte) []byte {
	d.started <- struct{}{}
	<-d.release
	return []byte{0x90, 0}
}

func TestPullOfADeafCard(t *testing.T) {
	s, socket := serve(t)
	r := addReader(t, s, readerName)
	c := newCard()
	r.Insert(deaf{c})
	a := open(t, socket, 4)
	h := a.mustConnect(shared)
	a.startTransmit(h, 258, 0, 0xA4, 4, 0)
	<-c.started
	r.Pull()
	_, rv := a.endTransmit()
	a.want("transmit", rv, wasRemoved)
	close(c.release)
}

// A card that waits for a touch holds up nobody else.
func TestSlowCardBlocksOnlyItself(t *testing.T) {
	s, socket := serve(t)
	r := addReader(t, s, readerName)
	slow := newCard()
	r.Insert(slow)
	other := addReader(t, s, "other")
	other.Insert(newCard())
	a, b := open(t, socket, 4), open(t, socket, 4)
	h := a.mustConnect(shared)
	a.startTransmit(h, 258, 0, 0xFF, 0, 0)
	<-slow.started
	hb, _, rv := b.connect("other", shared, t1)
	b.want("connect", rv, 0)
	_, rv = b.transmit(hb, 0, 0xA4, 4, 0)
	b.want("transmit", rv, 0)
	close(slow.release)
	_, rv = a.endTransmit()
	a.want("slow transmit", rv, 0)
}

func TestTrace(t *testing.T) {
	s, socket := serve(t)
	r := addReader(t, s, readerName)
	r.Insert(newCard())
	var events []pcscd.TraceEvent
	r.Trace(func(e pcscd.TraceEvent) {
		e.Command, e.Response = slices.Clone(e.Command), slices.Clone(e.Response)
		events = append(events, e)
		if e.Number == 2 && !e.Answered {
			r.Pull() // pulled before the second command
		}
	})
	c := open(t, socket, 4)
	h := c.mustConnect(shared)
	c.transmit(h, 0, 0xA4, 4, 0)
	_, rv := c.transmit(h, 0, 0xCA, 0, 0)
	c.want("second command", rv, wasRemoved)
	if len(events) != 4 {
		t.Fatalf("%d events", len(events))
	}
	for i, want := range []struct {
		number   int
		answered bool
		response string
	}{{1, false, ""}, {1, true, "\x90\x00"}, {2, false, ""}, {2, true, ""}} {
		if e := events[i]; e.Number != want.number || e.Answered != want.answered || string(e.Response) != want.response ||
			e.Reader != readerName || e.Start.IsZero() || e.Answered && e.Took <= 0 {
			t.Errorf("event %d: %+v", i, e)
		}
	}
}

func TestAttributes(t *testing.T) {
	s, socket := serve(t)
	r := addReader(t, s, readerName)
	r.Insert(newCard())
	c := open(t, socket, 4)
	h := c.mustConnect(shared)
	attribute := func(id, limit uint32) (string, uint32) {
		c.send(0x0F, append(append(u32s(h, id), make([]byte, 264)...), u32s(limit, 0)...))
		b := c.recv(280)
		w := decode(b[272:])
		if w[1] != 0 {
			return "", w[1]
		}
		return string(b[8 : 8+w[0]]), 0
	}
	for id, want := range map[uint32]string{
		0x00090303: "\x3B\x80\x01\x81",
		0x00010100: "Specimen",
		0x7FFF0003: readerName + "\x00",
	} {
		if got, rv := attribute(id, 264); rv != 0 || got != want {
			t.Errorf("attribute %#x: %q %#x", id, got, rv)
		}
	}
	if _, rv := attribute(0x00090303, 3); rv != badBuffer {
		t.Errorf("short buffer: %#x", rv)
	}
	if _, rv := attribute(0x12345678, 264); rv != unsupported {
		t.Errorf("unknown attribute: %#x", rv)
	}
	c.send(0x10, append(append(u32s(h, 0x00090303), make([]byte, 264)...), u32s(4, 0)...))
	c.want("set attribute", decode(c.recv(280))[69], unsupported)
}

// Every request that the real daemon would take for an attack ends the
// connection, and only that one.
func TestMalformedRequests(t *testing.T) {
	s, socket := serve(t)
	r := addReader(t, s, readerName)
	r.Insert(newCard())
	neighbour := open(t, socket, 4)
	theirs := neighbour.mustConnect(shared)
	tests := map[string]func(c *raw, h uint32){
		"unknown command":       func(c *raw, _ uint32) { c.send(0x03, nil) },
		"command 0":             func(c *raw, _ uint32) { c.send(0, nil) },
		"struct too short":      func(c *raw, h uint32) { c.send(0x0B, u32s(h)) },
		"struct too long":       func(c *raw, h uint32) { c.send(0x0B, u32s(h, 0, 0)) },
		"size of 4 GB":          func(c *raw, _ uint32) { c.conn.Write(u32s(0xFFFFFFFF, 0x0B)) },
		"no such handle":        func(c *raw, _ uint32) { c.send(0x0B, u32s(0x7FFFFFFF, 0)) },
		"handle of a neighbour": func(c *raw, _ uint32) { c.send(0x0B, u32s(theirs, 0)) },
		"transmit by neighbour": func(c *raw, _ uint32) { c.startTransmit(theirs, 258, 0, 0xA4, 4, 0) },
		"disconnect neighbour":  func(c *raw, _ uint32) { c.send(0x06, u32s(theirs, 1, 0)) },
		"payload too long":      func(c *raw, h uint32) { c.send(0x09, u32s(h, t1, 16, 65549, t1, 16, 258, 0)) },
		"control payload":       func(c *raw, h uint32) { c.send(0x0A, u32s(h, 0, 0xFFFFFFFF, 0, 0, 0)) },
		"second context":        func(c *raw, _ uint32) { c.send(0x01, u32s(2, 0, 0)) },
		"release of another":    func(c *raw, _ uint32) { c.send(0x02, u32s(neighbour.context, 0)) },
		"connect in another":    func(c *raw, _ uint32) { c.context = neighbour.context; c.sendConnect() },
		"attribute limit": func(c *raw, h uint32) {
			c.send(0x0F, append(append(u32s(h, 1), make([]byte, 264)...), u32s(265, 0)...))
		},
		"set attribute limit": func(c *raw, h uint32) {
			c.send(0x10, append(append(u32s(h, 1), make([]byte, 264)...), u32s(265, 0)...))
		},
		"4.6 size from 4.4":     func(c *raw, _ uint32) { c.send(0x16, nil) },
		"cut inside the header": func(c *raw, _ uint32) { c.conn.Write([]byte{1, 2, 3}); c.conn.(*net.UnixConn).CloseWrite() },
		"cut inside the struct": func(c *raw, h uint32) { c.conn.Write(u32s(8, 0x0B, h)); c.conn.(*net.UnixConn).CloseWrite() },
		"cut inside the payload": func(c *raw, h uint32) {
			c.send(0x09, u32s(h, t1, 16, 9, t1, 16, 258, 0))
			c.conn.(*net.UnixConn).CloseWrite()
		},
	}
	for name, send := range tests {
		t.Run(name, func(t *testing.T) {
			c := open(t, socket, 4)
			send(c, c.mustConnect(shared))
			c.closed()
		})
	}
	t.Run("before the version", func(t *testing.T) {
		c := dial(t, socket)
		c.send(0x01, u32s(2, 0, 0))
		c.closed()
	})
	neighbour.want("neighbour", neighbour.status(theirs), 0)
	if _, rv := neighbour.transmit(theirs, 0, 0xA4, 4, 0); rv != 0 {
		t.Errorf("neighbour's transmit: %#x", rv)
	}
}

func (c *raw) sendConnect() {
	c.t.Helper()
	body := append(u32s(c.context), make([]byte, 128)...)
	copy(body[4:], readerName)
	c.send(0x04, append(body, u32s(shared, t1, 0, 0, 0)...))
}

func TestReleaseDropsHandles(t *testing.T) {
	s, socket := serve(t)
	addReader(t, s, readerName).Insert(newCard())
	c := open(t, socket, 4)
	h := c.mustConnect(exclusive)
	c.want("release", c.call(0x02, u32s(c.context, 0), 8)[1], 0)
	open(t, socket, 4).mustConnect(exclusive)
	c.send(0x0B, u32s(h, 0))
	c.closed()
}

// Many clients, swaps in between: no deadlock, no mixed-up message, and the
// card's methods never overlap.
func TestManyClientsAndSwaps(t *testing.T) {
	s, socket := serve(t)
	r := addReader(t, s, readerName)
	inserted := newCard()
	r.Insert(inserted)
	stop := make(chan struct{})
	var clients sync.WaitGroup
	for i := range 6 {
		c := open(t, socket, 4+uint32(i%3))
		clients.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				h, _, rv := c.connect(readerName, shared, t1)
				if rv != 0 {
					continue
				}
				if c.begin(h) == 0 {
					if got, rv := c.transmit(h, 0, 0xA4, 4, 0); rv == 0 && string(got) != "\x90\x00" {
						t.Errorf("answer %x", got)
					}
					c.end(h, 0)
				}
				c.disconnect(h, 0)
			}
		})
	}
	for range 40 {
		r.Insert(inserted)
		time.Sleep(time.Millisecond)
		r.Pull()
	}
	close(stop)
	clients.Wait()
	if inserted.overlap.Load() {
		t.Error("two methods of the card ran at once")
	}
}

func TestCloseEndsEverything(t *testing.T) {
	s, socket := serve(t)
	r := addReader(t, s, readerName)
	slow := newCard()
	r.Insert(slow)
	a, b := open(t, socket, 4), open(t, socket, 4)
	h := a.mustConnect(shared)
	a.startTransmit(h, 258, 0, 0xFF, 0, 0)
	b.call(0x13, nil, stateArrayBytes)
	<-slow.started
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-slow.ended; err == nil {
		t.Error("card not told")
	}
	if err := s.Close(); err != nil {
		t.Errorf("second close: %v", err)
	}
}
