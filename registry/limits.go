package registry

import (
	"net"
	"net/netip"
	"sync"
	"time"
)

// limits of the server: what a client can take of it. docs/limits.md lists them
// all.
type limits struct {
	header, read, write, idle time.Duration // of a request, from its first byte
	connections, perAddress   int           // open at once
	posts, postsPerKiosk      int           // batches being verified at once; more are asked to come again
}

func defaultLimits() limits {
	return limits{
		header: 5 * time.Second,
		read:   30 * time.Second, // a whole request; a batch at 35 kB/s
		write:  60 * time.Second,
		idle:   2 * time.Minute,
		// A police network may have one address: a quarter of all is left to others.
		connections: 512, perAddress: 384,
		posts: 32, postsPerKiosk: 8,
	}
}

const (
	headerTimeout = 5 * time.Second // of the console
	maxHeader     = 16 << 10
	maxStreams    = 16 // requests at once on one connection of HTTP/2
	retryAfter    = 5  // seconds
	revokedAfter  = 3600
	shutdownWait  = 10 * time.Second
)

// turns are a number of places, of which nobody has more than some.
type turns struct {
	all, each int

	mu    sync.Mutex
	taken map[string]int // nobody stands here who has none
	count int
}

// take gives who a place until it is released. If there is none, own says that who
// has too many already.
func (t *turns) take(who string) (release func(), own bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.taken[who] >= t.each {
		return nil, true
	}
	if t.count >= t.all {
		return nil, false
	}
	if t.taken == nil {
		t.taken = map[string]int{}
	}
	t.taken[who]++
	t.count++
	return sync.OnceFunc(func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		if t.taken[who]--; t.taken[who] == 0 {
			delete(t.taken, who)
		}
		t.count--
	}), false
}

// limited is a listener with a bound on open connections: those above all in all
// wait to be accepted, those above an address's own share are closed.
type limited struct {
	net.Listener
	slots   chan struct{}
	clients turns
	refused func()
	closed  chan struct{}
	once    sync.Once
}

func (r *Registry) limit(l net.Listener) *limited {
	n := r.limits
	return &limited{Listener: l, slots: make(chan struct{}, n.connections), clients: turns{all: n.connections, each: n.perAddress},
		refused: r.metrics.refused.Inc, closed: make(chan struct{})}
}

func (l *limited) Accept() (net.Conn, error) {
	select {
	case l.slots <- struct{}{}:
	case <-l.closed:
		return nil, net.ErrClosed
	}
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			<-l.slots
			return nil, err
		}
		release, _ := l.clients.take(origin(c.RemoteAddr()))
		if release == nil {
			l.refused()
			c.Close()
			continue
		}
		return &slot{Conn: c, free: sync.OnceFunc(func() { release(); <-l.slots })}, nil
	}
}

// origin is whom an address counts for: an IPv6 network of 64 bits is one.
func origin(a net.Addr) string {
	p, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return a.String()
	}
	ip := p.Addr().Unmap().WithZone("")
	if ip.Is6() {
		network, _ := ip.Prefix(64)
		return network.String()
	}
	return ip.String()
}

// open is how many connections there are.
func (l *limited) open() int {
	l.clients.mu.Lock()
	defer l.clients.mu.Unlock()
	return l.clients.count
}

func (l *limited) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

type slot struct {
	net.Conn
	free func()
}

func (s *slot) Close() error {
	defer s.free()
	return s.Conn.Close()
}
