package network_test

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"enrollkiosk/simulators/network"
)

// echo is a line of packets to a server that sends everything back.
func echo(t *testing.T) *network.Packets {
	t.Helper()
	if missing := network.MissingForPackets(); missing != "" {
		t.Fatal("a line of packets needs " + missing)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { defer c.Close(); io.Copy(c, c) }()
		}
	}()
	line, err := network.NewPackets(l.Addr().String(), 1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { line.Close() })
	return line
}

// through sends data over a new connection and returns what comes back in time.
func through(t *testing.T, line *network.Packets, data []byte, within time.Duration) ([]byte, error) {
	t.Helper()
	c, err := net.Dial("tcp", line.Address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(within))
	go func() { c.Write(data); c.(*net.TCPConn).CloseWrite() }()
	return io.ReadAll(c)
}

// In any weather what arrives is what was sent, for the kernel sends again what was
// lost; a line that loses everything carries nothing, and is as good as before when
// it stops doing so.
func TestPackets(t *testing.T) {
	t.Parallel()
	line := echo(t)
	data := make([]byte, 8_000)
	for i := range data {
		data[i] = byte(rand.Uint32())
	}
	again := 0
	for _, w := range []struct {
		name    string
		weather network.Weather
		bad     bool // the kernel has to send again
	}{
		{"fair", network.Weather{}, false},
		{"far", network.Weather{Delay: 20 * time.Millisecond}, false},
		{"lossy", network.Weather{Loss: 0.3}, true},
		{"lossy and out of order", network.Weather{Loss: 0.1, Delay: time.Millisecond, Jitter: 10 * time.Millisecond}, true},
		{"fair again", network.Weather{}, false},
	} {
		line.Suffer(w.weather)
		_, lost := line.Count()
		for met := false; !met; { // a few packets may all be lucky
			start := time.Now()
			got, err := through(t, line, data, 2*time.Minute)
			if err != nil || !bytes.Equal(got, data) {
				t.Fatalf("%s: %d of %d bytes, %v", w.name, len(got), len(data), err)
			}
			if took := time.Since(start); took < 4*w.weather.Delay {
				t.Errorf("%s: two round trips of %v in %v", w.name, 2*w.weather.Delay, took)
			}
			_, nowLost := line.Count()
			nowAgain, err := line.Retransmitted()
			if err != nil {
				t.Fatal(err)
			}
			met = !w.bad || nowLost > lost && nowAgain > again
			if met {
				again = nowAgain
			}
		}
	}

	line.Suffer(network.Weather{Loss: 1})
	if got, err := through(t, line, data, time.Second); len(got) > 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("over a dead line come %d bytes, %v", len(got), err)
	}
	line.Suffer(network.Weather{})
	if got, err := through(t, line, data, time.Minute); err != nil || !bytes.Equal(got, data) {
		t.Errorf("after it %d bytes, %v", len(got), err)
	}
}

// How a connection ends at one end of the line it ends at the other.
func TestPacketsCarryEnds(t *testing.T) {
	t.Parallel()
	line := echo(t)
	c, err := net.Dial("tcp", line.Address)
	if err != nil {
		t.Fatal(err)
	}
	c.SetDeadline(time.Now().Add(time.Minute))
	if _, err := c.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	line.Close()
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) && err != io.EOF {
		t.Errorf("the line is closed: %v", err)
	}
	if c, err := net.Dial("tcp", line.Address); err == nil {
		c.Close()
		t.Error("a closed line takes connections")
	}
	if _, err := network.NewPackets("203.0.113.1:443", 1); err == nil {
		t.Error("leads out of this machine")
	}
}
