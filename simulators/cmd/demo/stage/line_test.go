package stage_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"enrollkiosk/kiosk"
	"enrollkiosk/simulators/cmd/demo/stage"
	"enrollkiosk/simulators/idcard"
	"enrollkiosk/simulators/pivtoken"
)

// line is the way from the kiosk to the registry. Changing it cuts what runs
// over it.
type line struct {
	listener net.Listener
	wg       sync.WaitGroup
	mu       sync.Mutex
	answer   func(net.Conn) // speaks to the kiosk in the registry's place
	open     map[net.Conn]bool
}

func newLine(t *testing.T) *line {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n := &line{listener: l, open: map[net.Conn]bool{}}
	n.wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			n.mu.Lock()
			answer := n.answer
			n.open[c] = true
			n.mu.Unlock()
			n.wg.Go(func() {
				defer n.hangUp(c)
				answer(c)
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		n.become(func(net.Conn) {})
		n.wg.Wait()
	})
	return n
}

func (n *line) become(answer func(net.Conn)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.answer = answer
	for c := range n.open {
		c.Close()
	}
}

func (n *line) hangUp(c net.Conn) {
	n.mu.Lock()
	defer n.mu.Unlock()
	c.Close()
	delete(n.open, c)
}

// through leads to the registry, whose answers take a while longer.
func through(address string, delay time.Duration) func(net.Conn) {
	return func(c net.Conn) {
		r, err := net.Dial("tcp", address)
		if err != nil {
			return
		}
		defer r.Close()
		go func() {
			io.Copy(r, c)
			r.Close()
		}()
		b := make([]byte, 1<<16)
		for {
			n, err := r.Read(b)
			time.Sleep(delay)
			if _, e := c.Write(b[:n]); err != nil || e != nil {
				return
			}
		}
	}
}

// hello reads the beginning of what the kiosk says and answers text.
func hello(text string) func(net.Conn) {
	return func(c net.Conn) {
		c.Read(make([]byte, 4096))
		io.WriteString(c, text)
	}
}

// server speaks TLS with a certificate, and answers every request alike.
func server(certificate tls.Certificate, status, media, body string) func(net.Conn) {
	answer := fmt.Sprintf("HTTP/1.1 %s\r\nContent-Type: %s\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", status, media, len(body), body)
	return func(c net.Conn) {
		s := tls.Server(c, &tls.Config{Certificates: []tls.Certificate{certificate}, ClientAuth: tls.RequestClientCert})
		s.Read(make([]byte, 4096))
		io.WriteString(s, answer)
		s.Close()
	}
}

// foreign is somebody else's certificate for the registry's address.
func foreign(t *testing.T) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	leaf := &x509.Certificate{SerialNumber: big.NewInt(1), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, leaf, leaf, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// Without the registry the citizen gets a provisional receipt and the officer
// reads why. When the line heals the record is delivered with nobody doing
// anything, and the next citizen gets a final receipt.
func TestBadLine(t *testing.T) {
	t.Parallel()
	n := newLine(t)
	s := newStage(t, func(o *stage.Options) {
		o.Registry, o.Limits.Delivery = n.listener.Addr().String(), moment
	})
	own, err := tls.LoadX509KeyPair(filepath.Join(s.Dir, "registry", "server.crt"), filepath.Join(s.Dir, "registry", "server.key"))
	if err != nil {
		t.Fatal(err)
	}
	healthy := through(s.RegistryAddress(), 0)
	n.become(healthy)
	start(t, s)
	t.Run("slow", func(t *testing.T) {
		n.become(through(s.RegistryAddress(), moment/2+time.Second))
		if r := arrive(t, s, idcard.Options{}, pivtoken.Options{}).meet(); r.Provisional == "" || r.Final != "" {
			t.Errorf("provisional %q, final %q", r.Provisional, r.Final)
		}
		delivered(t, s)
	})
	for _, c := range []struct {
		name   string
		answer func(net.Conn)
		note   kiosk.Code // "": nothing is known to be wrong yet
	}{
		{"silent", func(c net.Conn) { io.Copy(io.Discard, c) }, ""},
		{"unreachable", func(net.Conn) {}, kiosk.CodeUnreachable},
		{"not TLS", hello("220 mail.example ESMTP\r\n"), kiosk.CodeTLS},
		{"nonsense", server(own, "200 OK", "application/json", `{"verdicts":[{"id":"00","status":"accepted"}]}`), kiosk.CodeNonsense},
		{"captive portal", hello("HTTP/1.1 302 Found\r\nLocation: http://portal.example/\r\nContent-Length: 0\r\n\r\n"), kiosk.CodeCaptivePortal},
		{"captive portal with TLS", server(own, "200 OK", "text/html", "<html>Welcome to our network</html>"), kiosk.CodeCaptivePortal},
		{"another's certificate", server(foreign(t), "200 OK", "application/json", "{}"), kiosk.CodeInspected},
		{"not admitted", server(own, "403 Forbidden", "text/plain", "no"), kiosk.CodeNotAllowed},
	} {
		t.Run(c.name, func(t *testing.T) {
			n.become(c.answer)
			r := arrive(t, s, idcard.Options{}, pivtoken.Options{}).meet()
			if r.Provisional == "" || r.Final != "" {
				t.Errorf("provisional %q, final %q", r.Provisional, r.Final)
			}
			if c.note != "" {
				seen(t, s, func(h kiosk.Health) bool { return !h.Registry && h.RegistryNote == c.note && h.Queued == 1 })
			}
			n.become(healthy)
			if c.note != kiosk.CodeNotAllowed { // that is not asked again for minutes: the next citizen's record takes it along
				delivered(t, s)
			} else {
				works(t, s)
			}
			seen(t, s, func(h kiosk.Health) bool { return h.Registry && h.RegistryNote == "" && h.Queued == 0 })
		})
	}
	works(t, s)
}

// A new policy is in force at the kiosk soon after the next delivery: nobody
// waits for the hour of asking.
func TestPolicyWithEveryDelivery(t *testing.T) {
	t.Parallel()
	s := newStage(t, nil)
	start(t, s)
	works(t, s)
	if err := s.SignPolicy(t.Context(), func(text string) string {
		return strings.Replace(text, "version = 1", "version = 2", 1)
	}); err != nil {
		t.Fatal(err)
	}
	for _, f := range []func() error{s.StopRegistry, s.StopVault} {
		if err := f(); err != nil {
			t.Fatal(err)
		}
	}
	for _, f := range []func(context.Context) error{s.StartVault, s.StartRegistry} {
		if err := f(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	works(t, s)
	eventually(t, 20*time.Second, func() error {
		b, err := os.ReadFile(filepath.Join(s.Config.Kiosk.State, "policy.jws"))
		if err == nil && !bytes.Equal(b, s.Policy.Bytes()) {
			err = errors.New("the old one is in force")
		}
		return err
	})
}
