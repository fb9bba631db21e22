package network

import (
	"errors"
	"net"
	"sync"
	"time"
)

// Link is a line of a given rate and round trip to an address on loopback. All
// connections share it, each direction has the whole rate, and what is sent faster
// than that waits in the sender. It carries TCP payload; lower layers' headers are
// not counted.
type Link struct {
	Address string // connect here

	target   string
	oneWay   time.Duration
	up, down *bucket
	l        net.Listener

	mu   sync.Mutex
	open map[net.Conn]bool // nil after Close
}

// mtu is how much of a connection goes onto the line at once.
const mtu = 1460

// NewLink starts a line of rate bits per second.
func NewLink(target string, rate float64, roundTrip time.Duration) (*Link, error) {
	if err := onLoopback(target); err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	k := &Link{Address: l.Addr().String(), target: target, oneWay: roundTrip / 2,
		up: &bucket{rate: rate / 8}, down: &bucket{rate: rate / 8}, l: l, open: map[net.Conn]bool{}}
	go k.accept()
	return k, nil
}

func onLoopback(target string) error {
	host, _, err := net.SplitHostPort(target)
	if err != nil {
		return err
	}
	if ip := net.ParseIP(host); ip == nil || !ip.IsLoopback() {
		return errors.New("network simulator: loopback only")
	}
	return nil
}

// Carried is how many bytes went each way since the start.
func (k *Link) Carried() (up, down int64) { return k.up.count(), k.down.count() }

// Close ends the line and what is on it.
func (k *Link) Close() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	for c := range k.open {
		c.Close()
	}
	k.open = nil
	return k.l.Close()
}

func (k *Link) accept() {
	for {
		near, err := k.l.Accept()
		if err != nil {
			return
		}
		go k.connect(near)
	}
}

func (k *Link) connect(near net.Conn) {
	defer near.Close()
	time.Sleep(2 * k.oneWay) // TCP's handshake
	far, err := net.Dial("tcp", k.target)
	if err != nil {
		return
	}
	defer far.Close()
	k.mu.Lock()
	if k.open == nil {
		k.mu.Unlock()
		return
	}
	k.open[near], k.open[far] = true, true
	k.mu.Unlock()
	// Small buffers: what the kernel takes is not on the line yet.
	near.(*net.TCPConn).SetReadBuffer(64 << 10)
	far.(*net.TCPConn).SetReadBuffer(64 << 10)
	var both sync.WaitGroup
	both.Go(func() { k.carry(far, near, k.up) })
	both.Go(func() { k.carry(near, far, k.down) })
	both.Wait()
	k.mu.Lock()
	delete(k.open, near)
	delete(k.open, far)
	k.mu.Unlock()
}

// piece is on the line until it arrives.
type piece struct {
	b  []byte
	at time.Time
}

// carry moves bytes one way until either end closes.
func (k *Link) carry(to, from net.Conn, b *bucket) {
	line := make(chan piece, 1024) // more than fits on a line of a second at 10 Mbit/s
	var arrivals sync.WaitGroup
	arrivals.Go(func() {
		for p := range line {
			time.Sleep(time.Until(p.at))
			if _, err := to.Write(p.b); err != nil {
				from.Close() // the reader below ends
			}
		}
		to.(*net.TCPConn).CloseWrite()
	})
	for {
		buf := make([]byte, mtu)
		n, err := from.Read(buf)
		if n > 0 {
			b.take(n)
			line <- piece{buf[:n], time.Now().Add(k.oneWay)}
		}
		if err != nil {
			break
		}
	}
	close(line)
	arrivals.Wait()
}

// bucket lets bytes pass at a rate.
type bucket struct {
	rate float64 // bytes per second

	mu    sync.Mutex
	free  time.Time // when the line has sent all that was given to it
	total int64
}

// slack is how much the line makes up for a sender that was woken late.
const slack = 50 * time.Millisecond

func (b *bucket) take(n int) {
	b.mu.Lock()
	if earliest := time.Now().Add(-slack); b.free.Before(earliest) {
		b.free = earliest
	}
	b.free = b.free.Add(time.Duration(float64(n) / b.rate * float64(time.Second)))
	b.total += int64(n)
	until := b.free
	b.mu.Unlock()
	time.Sleep(time.Until(until))
}

func (b *bucket) count() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.total
}
