package registry

import (
	"hash/maphash"
	"math"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"enrollkiosk/registry/api"
	"enrollkiosk/registry/internal/reply"
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
		release, _ := l.clients.take(network(c.RemoteAddr().String()))
		if release == nil {
			l.refused()
			c.Close()
			continue
		}
		return &slot{Conn: c, free: sync.OnceFunc(func() { release(); <-l.slots })}, nil
	}
}

// network is whom an address belongs to: itself, or the /64 of an IPv6 address.
func network(remote string) string {
	host, _, err := net.SplitHostPort(remote)
	if err != nil {
		host = remote
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return host
	}
	if ip = ip.Unmap(); ip.Is6() {
		if prefix, err := ip.WithZone("").Prefix(64); err == nil {
			return prefix.String()
		}
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

// rate is how many may come at once, and how long until one more may.
type rate struct {
	burst int
	every time.Duration
}

// limiter holds back who sends too often: each, and all together. It has a fixed
// number of places, on which senders fall by a secret hash: two that share one share
// its limit, and however many there are it does not grow.
type limiter struct {
	own, together rate
	mu            sync.Mutex
	seed          maphash.Seed
	all           bucket
	places        [limiterPlaces]bucket
}

const limiterPlaces = 4096

func newLimiter(own, together rate) *limiter {
	return &limiter{own: own, together: together, seed: maphash.MakeSeed()}
}

// bucket is a token bucket: the time at which it is full again.
type bucket struct{ full time.Time }

// wait is how long until a bucket has a token.
func (b bucket) wait(now time.Time, r rate) time.Duration {
	if b.full.Before(now) { // also of one that was never used
		return 0
	}
	return max(0, b.full.Sub(now)-time.Duration(r.burst-1)*r.every)
}

func (b *bucket) take(now time.Time, r rate) {
	if b.full.Before(now) {
		b.full = now
	}
	b.full = b.full.Add(r.every)
}

// take is 0 if a request of a sender may be served now; else how long it is to wait.
func (l *limiter) take(sender string, now time.Time) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	own := &l.places[maphash.String(l.seed, sender)%limiterPlaces]
	if wait := max(own.wait(now, l.own), l.all.wait(now, l.together)); wait > 0 {
		return wait
	}
	own.take(now, l.own)
	l.all.take(now, l.together)
	return 0
}

// tooMany asks a sender to come again after a while.
func tooMany(w http.ResponseWriter, wait time.Duration, detail string) {
	seconds := int(math.Ceil(wait.Seconds()))
	w.Header().Set("Retry-After", strconv.Itoa(seconds))
	reply.Problem(w, http.StatusTooManyRequests, api.CodeTooMany, detail, seconds)
}
