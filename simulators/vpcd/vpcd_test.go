package vpcd

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const patience = 5 * time.Second

// card answers 9000 to SELECT, waits at 00 FF, else 6D00.
type card struct {
	resets  int
	started chan struct{}
	ended   chan struct{}
}

func newCard() *card { return &card{started: make(chan struct{}, 1), ended: make(chan struct{}, 1)} }

func (c *card) ATR() []byte { return []byte{0x3B, 0x80, 0x01, 0x81} }
func (c *card) Reset()      { c.resets++ }
func (c *card) Transmit(ctx context.Context, command []byte) []byte {
	switch command[1] {
	case 0xA4:
		return []byte{0x90, 0}
	case 0xFF:
		c.started <- struct{}{}
		<-ctx.Done()
		c.ended <- struct{}{}
	case 0xEE:
		return make([]byte, 0x10000)
	}
	return []byte{0x6D, 0}
}

// reader is the driver's side.
type reader struct {
	t      *testing.T
	conn   net.Conn
	result chan error
	pull   context.CancelFunc
}

func plug(t *testing.T, c Card) *reader {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, cancel := context.WithCancel(t.Context())
	r := &reader{t: t, result: make(chan error, 1), pull: cancel}
	go func() { r.result <- Plug(ctx, l.Addr().String(), c) }()
	l.(*net.TCPListener).SetDeadline(time.Now().Add(patience))
	if r.conn, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cancel(); r.conn.Close() })
	return r
}

func (r *reader) send(m ...byte) {
	r.t.Helper()
	if _, err := r.conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(m))), m...)); err != nil {
		r.t.Fatal(err)
	}
}

func (r *reader) recv() []byte {
	r.t.Helper()
	r.conn.SetReadDeadline(time.Now().Add(patience))
	var header [2]byte
	if _, err := io.ReadFull(r.conn, header[:]); err != nil {
		r.t.Fatal(err)
	}
	m := make([]byte, binary.BigEndian.Uint16(header[:]))
	if _, err := io.ReadFull(r.conn, m); err != nil {
		r.t.Fatal(err)
	}
	return m
}

func (r *reader) end(want error) {
	r.t.Helper()
	select {
	case err := <-r.result:
		if !errors.Is(err, want) {
			r.t.Fatalf("Plug: %v, want %v", err, want)
		}
	case <-time.After(patience):
		r.t.Fatal("Plug hangs")
	}
}

func TestConversation(t *testing.T) {
	c := newCard()
	r := plug(t, c)
	r.send(powerOn)
	r.send(askATR)
	if got := r.recv(); !bytes.Equal(got, c.ATR()) {
		t.Errorf("ATR %x", got)
	}
	r.send(0, 0xA4, 4, 0)
	if got := r.recv(); !bytes.Equal(got, []byte{0x90, 0}) {
		t.Errorf("select %x", got)
	}
	r.send(reset)
	r.send(powerOff)
	r.send(0, 0xB0, 0, 0, 0)
	if got := r.recv(); !bytes.Equal(got, []byte{0x6D, 0}) {
		t.Errorf("read %x", got)
	}
	r.pull()
	r.end(nil)
	if c.resets != 3 {
		t.Errorf("%d resets", c.resets)
	}
}

func TestEndsInTheMiddleOfACommand(t *testing.T) {
	for name, tt := range map[string]struct {
		do   func(*reader)
		want error
	}{
		"card pulled":      {func(r *reader) { r.pull() }, nil},
		"reader went away": {func(r *reader) { r.conn.Close() }, ErrGone},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCard()
			r := plug(t, c)
			r.send(0, 0xFF, 0, 0)
			<-c.started
			tt.do(r)
			select {
			case <-c.ended:
			case <-time.After(patience):
				t.Fatal("the card was not told")
			}
			r.end(tt.want)
		})
	}
}

func TestNonsense(t *testing.T) {
	for name, tt := range map[string]struct {
		bytes string
		want  error
	}{
		"empty message":   {"\x00\x00", ErrProtocol},
		"unknown control": {"\x00\x01\x03", ErrProtocol},
		"short command":   {"\x00\x03\x00\xA4\x04", ErrProtocol},
		"cut header":      {"\x00", ErrGone},
		"cut message":     {"\x00\x05\x00", ErrGone},
		"long answer":     {"\x00\x04\x00\xEE\x00\x00", ErrTooLong},
	} {
		t.Run(name, func(t *testing.T) {
			r := plug(t, newCard())
			io.WriteString(r.conn, tt.bytes)
			r.conn.(*net.TCPConn).CloseWrite()
			r.end(tt.want)
		})
	}
}

func TestNoReader(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	if err := Plug(t.Context(), l.Addr().String(), newCard()); err == nil {
		t.Error("no error without a reader")
	}
}

func FuzzMessage(f *testing.F) {
	f.Add([]byte("\x00\x01\x04"))
	f.Add([]byte("\x00\x04\x00\xA4\x04\x00"))
	f.Fuzz(func(t *testing.T, in []byte) {
		m, err := readMessage(bytes.NewReader(in))
		if err == nil && (len(m) == 0 || len(m) > 1 && len(m) < 4 || !bytes.HasPrefix(in[2:], m)) {
			t.Errorf("accepted %x", m)
		}
	})
}

// inside tells the copy of this test binary in the private namespaces what to do.
const inside = "VPCD_TEST_INSIDE"

var insideDo = map[string]func(context.Context) error{"reader": realReader, "cards": realCards}

func TestMain(m *testing.M) {
	what := os.Getenv(inside)
	if what == "" {
		os.Exit(m.Run())
	}
	ctx, cancel := context.WithTimeout(context.Background(), 90*time.Second)
	defer cancel()
	if err := insideDo[what](ctx); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// privately runs a function of insideDo in mount and network namespaces of its
// own, for the driver listens on all addresses and the daemon has one socket.
func privately(t *testing.T, what string) {
	t.Helper()
	for name, pkg := range map[string]string{"pcscd": "pcscd", "opensc-tool": "opensc", "eidenv": "opensc", "unshare": "util-linux", "ip": "iproute2"} {
		if _, err := exec.LookPath(name); err != nil {
			t.Fatalf("%s is missing: install the Debian package %s", name, pkg)
		}
	}
	if found, _ := filepath.Glob("/etc/reader.conf.d/vpcd*"); len(found) == 0 {
		t.Fatal("the virtual reader is missing: install the Debian package vsmartcard-vpcd")
	}
	flags := "-mn"
	if os.Getuid() != 0 {
		flags = "-Urmn"
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, "unshare", flags, "--kill-child", "--fork", "--pid",
		"sh", "-ec", `ip link set lo up; mount -t tmpfs tmpfs /run; mkdir /run/pcscd; exec "$0"`, os.Args[0])
	cmd.Env = append(os.Environ(), inside+"="+what)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if len(out) > 0 {
		t.Logf("%s", out)
	}
}

// The real daemon with the real driver.
func TestRealDaemon(t *testing.T) { privately(t, "reader") }

// startDaemon starts the daemon; the function it returns ends it.
func startDaemon(ctx context.Context) (end func(), err error) {
	daemon := exec.CommandContext(ctx, "pcscd", "--foreground", "--error")
	daemon.Stderr = os.Stderr
	if err := daemon.Start(); err != nil {
		return nil, err
	}
	return func() { daemon.Process.Kill(); daemon.Wait() }, nil
}

// insert plugs a card into the daemon's reader, also while the daemon is still
// starting; the function it returns pulls the card.
func insert(ctx context.Context, c Card) (pull func() error) {
	plugged, cancel := context.WithCancel(ctx)
	result := make(chan error, 1)
	go func() {
		for {
			err := Plug(plugged, "127.0.0.1:35963", c)
			if err == nil || errors.Is(err, ErrProtocol) || ctx.Err() != nil {
				result <- err
				return
			}
			time.Sleep(50 * time.Millisecond)
		}
	}()
	return func() error { cancel(); return <-result }
}

func realReader(ctx context.Context) error {
	end, err := startDaemon(ctx)
	if err != nil {
		return err
	}
	defer end()
	pull := insert(ctx, newCard())
	var out []byte
	for {
		var err error
		if out, err = exec.CommandContext(ctx, "opensc-tool", "-s", "00A40400").CombinedOutput(); err == nil {
			break
		}
		if ctx.Err() != nil {
			return fmt.Errorf("opensc-tool: %w\n%s", err, out)
		}
		time.Sleep(100 * time.Millisecond)
	}
	if !strings.Contains(string(out), "SW1=0x90, SW2=0x00") {
		return fmt.Errorf("opensc-tool says %q", out)
	}
	if err := pull(); err != nil {
		return err
	}
	for {
		out, err := exec.CommandContext(ctx, "opensc-tool", "-l").CombinedOutput()
		if err == nil && !strings.Contains(string(out), "Yes") {
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("card is still there: %w\n%s", err, out)
		}
		time.Sleep(100 * time.Millisecond)
	}
}
