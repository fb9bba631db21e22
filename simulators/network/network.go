// Package network stands between kiosks and a real registry and misbehaves by
// name, as networks, proxies and servers do.
//
// [Wrap] takes the listener that the registry is going to serve. A healthy line
// and faults of the transport hand the registry the connections themselves, so
// that the registry's own TLS and its clients' certificates stay what they are;
// faults of the content are answered by this package, with the registry's
// certificate. [NewPackets] is a line that loses packets, for TCP to make good, and
// [NewLink] one of a given rate and length. [NewProxy] is an HTTP proxy on loopback with faults of its own.
//
// It speaks bytes and knows nothing of what is sent. Loopback only.
package network

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	crand "crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"
)

// Fault is a way to misbehave.
type Fault string

// Healthy is none.
const Healthy Fault = "healthy"

// Faults of the transport.
const (
	Unreachable Fault = "unreachable"  // connections are reset at once
	Silent      Fault = "silent"       // connections are taken and nothing comes back
	Slow        Fault = "slow"         // the answer comes byte by byte
	Sliced      Fault = "sliced"       // everything comes in slices of a few bytes
	Stalled     Fault = "stalled"      // the answer to a large request begins, and nothing more comes
	Interrupted Fault = "interrupted"  // reset while a large request is on its way
	LostAnswer  Fault = "lost-answer"  // a large request arrives, and its answer does not
	HalfAnswer  Fault = "half-answer"  // of the answer to a large request the beginning arrives
	PlainHTTP   Fault = "plain-http"   // a page where TLS was expected
	OldTLS      Fault = "old-tls"      // an inspecting proxy that ends at TLS 1.2
	WrongCert   Fault = "wrong-cert"   // another server's certificate
	ExpiredCert Fault = "expired-cert" // a certificate that has run out
	Inspected   Fault = "inspected"    // a certificate for the registry's name, by Inspector
)

// Faults of the content, all over the registry's own certificate.
const (
	Nonsense     Fault = "nonsense"     // 200 with other bytes
	OtherJSON    Fault = "other-json"   // 200 with JSON of another contract
	Endless      Fault = "endless"      // 200 without an end
	Page         Fault = "page"         // captive portal: 200 with HTML
	Redirect     Fault = "redirect"     // captive portal: 302 to its page
	SignIn       Fault = "sign-in"      // 511, RFC 6585 section 6
	Unauthorized Fault = "unauthorized" // 401
	Forbidden    Fault = "forbidden"    // 403
	ProxyAuth    Fault = "proxy-auth"   // 407
	TooLarge     Fault = "too-large"    // 413
	Storm        Fault = "storm"        // 429 with Retry-After
	Broken       Fault = "broken"       // 500
	Unavailable  Fault = "unavailable"  // 503 with Retry-After as a date
	CutBody      Fault = "cut-body"     // less than Content-Length says
	BadGateway   Fault = "bad-gateway"  // 502 with a page of the gateway's
)

// OnlyHTTP1 is of a Proxy: it lets pass what begins with a CONNECT of HTTP/1.1 and
// cuts connections that would speak HTTP/2 inside.
const OnlyHTTP1 Fault = "only-http1"

// Inspector is the organisation whose authority an inspecting proxy uses.
const Inspector = "Specimen Web Security"

// large is how many bytes a client has sent on a connection when a request, and
// not only the handshake, must be on its way. A record is larger than that.
const large = 6 << 10

// Options of a Listener.
type Options struct {
	Certificate tls.Certificate // the registry's, for faults of the content
	Expired     tls.Certificate // for ExpiredCert; default: a self-signed one
	RetryAfter  time.Duration   // of Storm and Unavailable, whole seconds; default 1 s
	Pace        time.Duration   // of Slow: for each byte; default 100 ms
}

// Listener is a listener with faults.
type Listener struct {
	net.Listener
	opts  Options
	other tls.Certificate // for WrongCert
	proxy tls.Certificate // for Inspected and OldTLS
	own   *feed

	mu    sync.Mutex
	fault Fault
	open  map[net.Conn]struct{}
	count map[Fault]int
}

// Wrap puts faults before whoever accepts from l. Close ends both.
func Wrap(l net.Listener, o Options) (*Listener, error) {
	if a, ok := l.Addr().(*net.TCPAddr); !ok || !a.IP.IsLoopback() {
		return nil, errors.New("network simulator: loopback only")
	}
	if o.RetryAfter == 0 {
		o.RetryAfter = time.Second
	}
	if o.Pace == 0 {
		o.Pace = 100 * time.Millisecond
	}
	other, err := foreign("Stranger", time.Now().Add(time.Hour), "stranger.example")
	if err != nil {
		return nil, err
	}
	proxy, err := foreign(Inspector, time.Now().Add(time.Hour), registryNames...)
	if err != nil {
		return nil, err
	}
	if o.Expired.Certificate == nil {
		if o.Expired, err = foreign("Stranger", time.Now().Add(-time.Hour), registryNames...); err != nil {
			return nil, err
		}
	}
	w := &Listener{Listener: l, opts: o, other: other, proxy: proxy, fault: Healthy, open: map[net.Conn]struct{}{}, count: map[Fault]int{}}
	w.own = &feed{addr: l.Addr(), conns: make(chan net.Conn), done: make(chan struct{})}
	s := &http.Server{Handler: http.HandlerFunc(w.misbehave), ErrorLog: log.New(io.Discard, "", 0), ReadHeaderTimeout: time.Minute}
	go s.Serve(w.own)
	return w, nil
}

// Suffer sets the fault; connections that are open end, so that it is in force
// for the next byte.
func (l *Listener) Suffer(f Fault) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fault = f
	for c := range l.open {
		reset(c)
	}
	clear(l.open)
}

// Count is how many connections met a fault.
func (l *Listener) Count(f Fault) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.count[f]
}

// Close ends the listener and every connection.
func (l *Listener) Close() error {
	l.Suffer(Unreachable)
	l.own.Close()
	return l.Listener.Close()
}

// Accept gives the registry the connections that are meant to reach it.
func (l *Listener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		l.mu.Lock()
		fault := l.fault
		l.count[fault]++
		l.open[c] = struct{}{}
		l.mu.Unlock()
		c = tracked{c, l}
		switch fault {
		case Healthy:
			return c, nil
		case Slow, Interrupted, LostAnswer, HalfAnswer, Stalled:
			return &faulty{Conn: c, fault: fault, pace: l.opts.Pace}, nil
		case Sliced:
			return &sliced{Conn: c}, nil
		case Unreachable:
			c.Close()
		case Silent:
			go func() { io.Copy(io.Discard, c); c.Close() }()
		default:
			l.own.put(l.dress(c, fault))
		}
	}
}

// dress puts the fault's kind of TLS around a connection.
func (l *Listener) dress(c net.Conn, fault Fault) net.Conn {
	config := &tls.Config{Certificates: []tls.Certificate{l.opts.Certificate}, ClientAuth: tls.RequestClientCert}
	switch fault {
	case PlainHTTP:
		return c
	case OldTLS:
		config.MaxVersion = tls.VersionTLS12
		config.Certificates = []tls.Certificate{l.proxy}
	case Inspected:
		config.Certificates = []tls.Certificate{l.proxy}
	case WrongCert:
		config.Certificates = []tls.Certificate{l.other}
	case ExpiredCert:
		config.Certificates = []tls.Certificate{l.opts.Expired}
	}
	return tls.Server(c, config)
}

const page = "<!DOCTYPE html>\n<html><head><title>Welcome</title></head><body>Sign in to use this network.</body></html>\n"

// misbehave answers as the fault in force does.
func (l *Listener) misbehave(w http.ResponseWriter, r *http.Request) {
	l.mu.Lock()
	fault := l.fault
	l.mu.Unlock()
	io.Copy(io.Discard, io.LimitReader(r.Body, 16<<20))
	respond(w, fault, l.opts.RetryAfter)
}

func respond(w http.ResponseWriter, fault Fault, after time.Duration) {
	h := w.Header()
	send := func(status int, media, body string) {
		h.Set("Content-Type", media)
		w.WriteHeader(status)
		io.WriteString(w, body)
	}
	seconds := fmt.Sprint(int(after / time.Second))
	switch fault {
	case Nonsense:
		send(200, "application/json", "{\"verdicts\":[{\"id\":17,,,\x00")
	case OtherJSON:
		send(200, "application/json", `{"status":"ok","items":[]}`)
	case Endless:
		h.Set("Content-Type", "application/json")
		for _, err := w.Write([]byte("[")); err == nil; {
			_, err = w.Write(bytes.Repeat([]byte("[0],"), 1<<12))
		}
	case Redirect:
		h.Set("Location", "https://portal.example/login")
		send(302, "text/html", page)
	case SignIn:
		send(511, "text/html", page)
	case Unauthorized:
		send(401, "text/plain", "no")
	case Forbidden:
		send(403, "text/html", page)
	case ProxyAuth:
		h.Set("Proxy-Authenticate", `Basic realm="proxy"`)
		send(407, "text/html", page)
	case TooLarge:
		send(413, "text/plain", "too large")
	case Storm:
		h.Set("Retry-After", seconds)
		send(429, "text/plain", "later")
	case Broken:
		send(500, "text/plain", "broken")
	case Unavailable:
		now := time.Now().UTC()
		h.Set("Date", now.Format(http.TimeFormat))
		h.Set("Retry-After", now.Add(after).Format(http.TimeFormat))
		send(503, "text/plain", "later")
	case BadGateway:
		send(502, "text/html", page)
	case CutBody:
		h.Set("Content-Length", "1000")
		send(200, "application/json", `{"verdicts":[`)
	default: // Page, PlainHTTP, and what nobody gets to see
		send(200, "text/html; charset=utf-8", page)
	}
}

// tracked is a connection that Suffer can end.
type tracked struct {
	net.Conn
	l *Listener
}

func (c tracked) Close() error {
	c.l.mu.Lock()
	delete(c.l.open, c.Conn)
	unreachable := c.l.fault == Unreachable
	c.l.mu.Unlock()
	if unreachable {
		reset(c.Conn)
		return nil
	}
	return c.Conn.Close()
}

// reset ends a connection with RST, as a network does.
func reset(c net.Conn) {
	if t, ok := c.(*net.TCPConn); ok {
		t.SetLinger(0)
	}
	c.Close()
}

// faulty is a connection to the registry that fails in the middle.
type faulty struct {
	net.Conn
	fault Fault
	pace  time.Duration

	mu    sync.Mutex
	heard int // bytes from the client

	stalled bool // Write's
}

func (c *faulty) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.heard += n
	if c.fault == Interrupted && c.heard > large {
		c.cut()
		return 0, net.ErrClosed
	}
	return n, err
}

func (c *faulty) Write(b []byte) (int, error) {
	c.mu.Lock()
	request := c.heard > large
	c.mu.Unlock()
	if !request {
		return c.Conn.Write(b)
	}
	switch c.fault {
	case LostAnswer:
		c.cut()
		return 0, net.ErrClosed
	case HalfAnswer:
		c.Conn.Write(b[:len(b)/2])
		time.Sleep(10 * time.Millisecond) // so that it arrives before the reset
		c.cut()
		return 0, net.ErrClosed
	case Stalled:
		if !c.stalled {
			c.stalled = true
			c.Conn.Write(b[:len(b)/2])
		}
		return len(b), nil
	}
	for i := range b { // Slow
		if _, err := c.Conn.Write(b[i : i+1]); err != nil {
			return i, err
		}
		time.Sleep(c.pace)
	}
	return len(b), nil
}

func (c *faulty) cut() { cut(c.Conn) }

// cut ends a connection with RST from the server's side.
func cut(c net.Conn) {
	if t, ok := c.(tracked); ok {
		reset(t.Conn)
	}
	c.Close()
}

// sliced hands on a few bytes at a time, in both directions.
type sliced struct{ net.Conn }

func slice() int { return 1 + rand.IntN(23) }

func (c *sliced) Read(b []byte) (int, error) { return c.Conn.Read(b[:min(len(b), slice())]) }

func (c *sliced) Write(b []byte) (n int, err error) {
	for n < len(b) && err == nil {
		var m int
		m, err = c.Conn.Write(b[n:min(len(b), n+slice())])
		n += m
	}
	return n, err
}

// feed is a listener of connections that are handed to it.
type feed struct {
	addr  net.Addr
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func (f *feed) put(c net.Conn) {
	select {
	case f.conns <- c:
	case <-f.done:
		c.Close()
	}
}

func (f *feed) Accept() (net.Conn, error) {
	select {
	case c := <-f.conns:
		return c, nil
	case <-f.done:
		return nil, net.ErrClosed
	}
}

func (f *feed) Close() error   { f.once.Do(func() { close(f.done) }); return nil }
func (f *feed) Addr() net.Addr { return f.addr }

// registryNames are those of a registry on loopback.
var registryNames = []string{"127.0.0.1", "::1", "localhost", "registry.example"}

// foreign is a certificate by an authority that nobody trusts.
func foreign(organisation string, until time.Time, names ...string) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), crand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	name := pkix.Name{Organization: []string{organisation}, CommonName: organisation + " CA"}
	authority := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: name, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
		NotBefore: until.Add(-24 * time.Hour), NotAfter: until.Add(24 * time.Hour)}
	root, err := x509.CreateCertificate(crand.Reader, authority, authority, key.Public(), key)
	if err != nil {
		return tls.Certificate{}, err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: names[0]}, NotBefore: until.Add(-24 * time.Hour), NotAfter: until}
	for _, n := range names {
		if ip := net.ParseIP(n); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, n)
		}
	}
	der, err := x509.CreateCertificate(crand.Reader, template, authority, key.Public(), key)
	return tls.Certificate{Certificate: [][]byte{der, root}, PrivateKey: key}, err
}

// Proxy is an HTTP proxy for CONNECT.
type Proxy struct {
	URL string

	l       net.Listener
	inspect tls.Certificate
	mu      sync.Mutex
	fault   Fault
	seen    []string
	tunnels map[net.Conn]struct{}
}

// NewProxy starts a proxy on loopback.
func NewProxy() (*Proxy, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	inspect, err := foreign(Inspector, time.Now().Add(time.Hour), registryNames...)
	if err != nil {
		return nil, err
	}
	p := &Proxy{URL: "http://" + l.Addr().String(), l: l, inspect: inspect, fault: Healthy, tunnels: map[net.Conn]struct{}{}}
	go (&http.Server{Handler: http.HandlerFunc(p.connect), ErrorLog: log.New(io.Discard, "", 0), ReadHeaderTimeout: time.Minute}).Serve(l)
	return p, nil
}

// Suffer sets what the proxy does with a CONNECT: answer with a fault of the
// content, open the connection (Inspected), or let only HTTP/1.1 pass (OnlyHTTP1). Tunnels
// that are open end.
func (p *Proxy) Suffer(f Fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fault = f
	for c := range p.tunnels {
		reset(c)
	}
	clear(p.tunnels)
}

// Seen lists the hosts that were asked for.
func (p *Proxy) Seen() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.seen)
}

// Close ends the proxy.
func (p *Proxy) Close() error { return p.l.Close() }

func (p *Proxy) connect(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	fault := p.fault
	p.seen = append(p.seen, r.Host)
	p.mu.Unlock()
	tunnels := fault == Healthy || fault == Inspected || fault == OnlyHTTP1 && r.Proto == "HTTP/1.1"
	if !tunnels || r.Method != http.MethodConnect {
		respond(w, fault, time.Second)
		return
	}
	host, _, err := net.SplitHostPort(r.Host)
	if ip := net.ParseIP(host); err != nil || ip == nil || !ip.IsLoopback() {
		http.Error(w, "loopback only", http.StatusForbidden)
		return
	}
	up, err := net.Dial("tcp", r.Host)
	if err != nil {
		http.Error(w, "no route", http.StatusBadGateway)
		return
	}
	defer up.Close()
	down, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	p.mu.Lock()
	p.tunnels[down] = struct{}{}
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		delete(p.tunnels, down)
		p.mu.Unlock()
		down.Close()
	}()
	io.WriteString(down, "HTTP/1.1 200 Connection established\r\n\r\n")
	switch fault {
	case Inspected:
		tls.Server(down, &tls.Config{Certificates: []tls.Certificate{p.inspect}}).Handshake()
		return
	case OnlyHTTP1:
		// RFC 8446 section 5.1: the first record holds the ClientHello with its list
		// of protocols (RFC 7301 section 3.1).
		head, err := buffered.Peek(5)
		if err != nil {
			return
		}
		hello, err := buffered.Peek(5 + int(head[3])<<8 + int(head[4]))
		if err != nil || bytes.Contains(hello, []byte("\x02h2")) {
			return
		}
	}
	done := make(chan struct{}, 2)
	go func() { io.Copy(up, buffered); done <- struct{}{} }()
	go func() { io.Copy(down, up); done <- struct{}{} }()
	<-done
}
