package network_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"enrollkiosk/simulators/network"
)

// served is an HTTPS server behind a line with faults. It wants a client's
// certificate, which only a line that hands on the connection itself can bring.
func served(t *testing.T) (line *network.Listener, client *http.Client, handled *atomic.Int32) {
	t.Helper()
	handled = new(atomic.Int32)
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || len(r.TLS.PeerCertificates) == 0 {
			w.WriteHeader(http.StatusTeapot)
			return
		}
		handled.Add(1)
		fmt.Fprintf(w, "got %d", len(body))
	}))
	s.StartTLS() // for its certificate
	certificate := s.TLS.Certificates[0]
	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate())
	s.Close()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	line, err = network.Wrap(l, network.Options{Certificate: certificate, RetryAfter: 7 * time.Second, Pace: 20 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: s.Config.Handler, TLSConfig: &tls.Config{Certificates: []tls.Certificate{certificate}, ClientAuth: tls.RequireAnyClientCert}}
	go server.ServeTLS(line, "", "")
	t.Cleanup(func() { server.Close(); line.Close() })
	return line, &http.Client{Timeout: 500 * time.Millisecond,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: "127.0.0.1", MinVersion: tls.VersionTLS13,
			Certificates: []tls.Certificate{certificate}}}}, handled
}

func post(c *http.Client, line *network.Listener) (status int, h http.Header, body string, err error) {
	r, err := c.Post("https://"+line.Addr().String(), "application/json", bytes.NewReader(make([]byte, 50_000)))
	if err != nil {
		return 0, nil, "", err
	}
	defer r.Body.Close()
	b, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	return r.StatusCode, r.Header, string(b), err
}

func TestHealthyLineIsTransparent(t *testing.T) {
	line, c, handled := served(t)
	if status, _, body, err := post(c, line); err != nil || status != 200 || body != "got 50000" || handled.Load() != 1 {
		t.Errorf("%d %q %v", status, body, err)
	}
}

func TestTransportFaults(t *testing.T) {
	line, c, handled := served(t)
	for fault, arrives := range map[network.Fault]bool{
		network.Unreachable: false, network.Silent: false, network.Interrupted: false, network.PlainHTTP: false, network.OldTLS: false,
		network.WrongCert: false, network.ExpiredCert: false, network.Inspected: false, network.Slow: true, network.LostAnswer: true,
		network.HalfAnswer: true, network.Stalled: true,
	} {
		line.Suffer(fault)
		before := handled.Load()
		status, _, body, err := post(c, line)
		if err == nil {
			t.Errorf("%s: %d %q", fault, status, body)
		}
		if did := handled.Load() > before; did != arrives {
			t.Errorf("%s: arrives %v, want %v", fault, did, arrives)
		}
		var unknown x509.UnknownAuthorityError
		if fault == network.Inspected && (!errors.As(err, &unknown) || unknown.Cert.Issuer.Organization[0] != network.Inspector) {
			t.Errorf("%s: %v", fault, err)
		}
		var expired x509.CertificateInvalidError
		if fault == network.ExpiredCert && (!errors.As(err, &expired) || expired.Reason != x509.Expired) {
			t.Errorf("%s: %v", fault, err)
		}
		if line.Count(fault) == 0 {
			t.Errorf("%s is not counted", fault)
		}
		line.Suffer(network.Healthy)
		if _, _, _, err := post(c, line); err != nil {
			t.Errorf("healthy again after %s: %v", fault, err)
		}
	}
}

// A bad line is no fault, only slow.
func TestSliced(t *testing.T) {
	line, c, _ := served(t)
	c.Timeout = 30 * time.Second
	line.Suffer(network.Sliced)
	if status, _, body, err := post(c, line); err != nil || status != 200 || body != "got 50000" {
		t.Errorf("%d %q %v", status, body, err)
	}
}

// A link lets its rate pass, whatever the number of connections, and takes its
// round trip.
func TestLink(t *testing.T) {
	const rate, roundTrip, each = 20e6, 100 * time.Millisecond, 500_000
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				n, _ := io.Copy(io.Discard, c)
				fmt.Fprint(c, n)
			}()
		}
	}()
	link, err := network.NewLink(l.Addr().String(), rate, roundTrip)
	if err != nil {
		t.Fatal(err)
	}
	defer link.Close()
	send := func(n int) string {
		c, err := net.Dial("tcp", link.Address)
		if err != nil {
			t.Error(err)
			return ""
		}
		defer c.Close()
		c.Write(make([]byte, n))
		c.(*net.TCPConn).CloseWrite()
		b, _ := io.ReadAll(c)
		return string(b)
	}
	start := time.Now()
	if got := send(1); got != "1" {
		t.Errorf("%q", got)
	}
	if took := time.Since(start); took < 2*roundTrip {
		t.Errorf("two round trips in %v", took)
	}
	start = time.Now()
	var senders sync.WaitGroup
	for range 4 {
		senders.Go(func() {
			if got := send(each); got != fmt.Sprint(each) {
				t.Errorf("%q", got)
			}
		})
	}
	senders.Wait()
	least := time.Duration(4*each*8/rate*float64(time.Second)) - 50*time.Millisecond
	if took := time.Since(start); took < least {
		t.Errorf("%d bytes in %v, want at least %v", 4*each, took, least)
	}
	if up, down := link.Carried(); up != 4*each+1 || down == 0 {
		t.Errorf("carried %d and %d", up, down)
	}
	if _, err := network.NewLink("203.0.113.1:443", rate, roundTrip); err == nil {
		t.Error("leads out of this machine")
	}
}

func TestContentFaults(t *testing.T) {
	line, c, handled := served(t)
	for fault, want := range map[network.Fault]int{
		network.Nonsense: 200, network.OtherJSON: 200, network.Endless: 200, network.Page: 200, network.Redirect: 302, network.SignIn: 511,
		network.Unauthorized: 401, network.Forbidden: 403, network.ProxyAuth: 407, network.TooLarge: 413, network.Storm: 429, network.Broken: 500,
		network.Unavailable: 503, network.BadGateway: 502, network.CutBody: 200,
	} {
		line.Suffer(fault)
		status, h, body, err := post(c, line)
		if status != want || (err != nil) != (fault == network.CutBody) {
			t.Errorf("%s: %d %v", fault, status, err)
		}
		page := strings.Contains(body, "<html>")
		if fault == network.Page != (page && status == 200) || fault == network.Redirect && h.Get("Location") == "" || fault == network.Endless && len(body) < 1<<20 {
			t.Errorf("%s: %v %.100q", fault, h, body)
		}
		if fault == network.Storm && h.Get("Retry-After") != "7" {
			t.Errorf("%s: %v", fault, h)
		}
		if fault == network.Unavailable {
			if at, err := http.ParseTime(h.Get("Retry-After")); err != nil || time.Until(at) > 8*time.Second {
				t.Errorf("%s: %v", fault, h)
			}
		}
	}
	if handled.Load() != 0 {
		t.Error("the server behind was reached")
	}
}

func TestProxy(t *testing.T) {
	line, c, _ := served(t)
	p, err := network.NewProxy()
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	address, err := url.Parse(p.URL)
	if err != nil {
		t.Fatal(err)
	}
	c.Transport.(*http.Transport).Proxy = http.ProxyURL(address)
	if _, _, body, err := post(c, line); err != nil || body != "got 50000" {
		t.Errorf("%q %v", body, err)
	}
	p.Suffer(network.OnlyHTTP1)
	if _, _, body, err := post(c, line); err != nil || body != "got 50000" {
		t.Errorf("HTTP/1.1: %q %v", body, err)
	}
	two := &http.Client{Transport: c.Transport.(*http.Transport).Clone()}
	two.Transport.(*http.Transport).ForceAttemptHTTP2 = true
	if _, err := two.Get("https://" + line.Addr().String()); err == nil {
		t.Error("HTTP/2 passes")
	}
	p.Suffer(network.Inspected)
	var unknown x509.UnknownAuthorityError
	if _, _, _, err := post(c, line); !errors.As(err, &unknown) || unknown.Cert.Issuer.Organization[0] != network.Inspector {
		t.Errorf("inspected: %v", err)
	}
	p.Suffer(network.ProxyAuth)
	if _, _, _, err := post(c, line); err == nil || !strings.Contains(err.Error(), "Proxy Authentication Required") {
		t.Errorf("%v", err)
	}
	p.Suffer(network.Healthy)
	if _, err := c.Get("https://203.0.113.1/"); err == nil {
		t.Error("the proxy leads out of this machine")
	}
	if len(p.Seen()) != 6 {
		t.Errorf("%v", p.Seen())
	}
}

func TestLoopbackOnly(t *testing.T) {
	if _, err := network.Wrap(elsewhere{}, network.Options{}); err == nil {
		t.Error("wraps a listener on every address")
	}
}

type elsewhere struct{ net.Listener }

func (elsewhere) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4zero, Port: 443} }
