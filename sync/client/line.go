package client

import (
	"bytes"
	"context"
	"crypto"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"reflect"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"enrollkiosk/registry/api"
	"enrollkiosk/registry/policy"
)

// Errors of a request, classed by what a person can do. Errors of the caller's
// context and of Options.Policy come through as they are.
var (
	ErrUnreachable   = errors.New("the registry cannot be reached: check the network cable and the connection")
	ErrCaptivePortal = errors.New("the network shows a page of its own instead of the registry: sign in to the network, or ask for an exception")
	ErrNonsense      = errors.New("the registry's answer is not in order: call staff")
	ErrNotAllowed    = errors.New("the registry or a proxy does not admit this kiosk: call staff")
	ErrTLS           = errors.New("the connection does not end at the registry: its certificate is not the registry's, or expired, or a proxy opens the connection: call staff")
	ErrKey           = errors.New("the kiosk's key did not sign for the connection: check the TPM")
	ErrTooBig        = errors.New("too much for the registry at once")
	ErrNotFound      = errors.New("the registry does not know the record")
	ErrUntold        = errors.New("the registry tells nothing about this receipt")
)

// RetryAfter says that the registry, or a gateway before it, cannot serve now.
type RetryAfter struct {
	After  time.Duration // to wait at least; 0 when it did not say
	Status int           // HTTP status
}

func (e *RetryAfter) Error() string {
	return fmt.Sprintf("the registry is busy (%d): it is tried again by itself", e.Status)
}

// Limits of a connection.
const (
	dialLimit      = 10 * time.Second
	handshakeLimit = 15 * time.Second // a TPM's signature, behind another command
	headerLimit    = 30 * time.Second
	idleLimit      = 90 * time.Second
	headerSize     = 64 << 10
	longestRetry   = time.Hour // a Retry-After beyond it is taken for this
	maxConnections = 8         // the courier's requests, and what else the kiosk asks
)

// line is the way to the registry: TCP or a proxy, then TLS 1.3.
type line struct {
	transport *http.Transport
	host      string
	policy    func() (policy.Signed, error)
	pin       *[16]byte
	clock     func() time.Time
	keyFault  atomic.Pointer[error] // why the client key did not sign last

	certificate atomic.Pointer[tls.Certificate] // the kiosk's, with a watchedSigner
}

func newLine(host string, o Options) *line {
	l := &line{host: host, policy: o.Policy, pin: o.Pin, clock: o.Clock}
	if o.Proxy == nil {
		o.Proxy = http.ProxyFromEnvironment
	}
	l.present(o.Certificate)
	l.transport = &http.Transport{
		Proxy:                  httpProxy(o.Proxy),
		DialContext:            (&net.Dialer{Timeout: dialLimit, KeepAlive: 15 * time.Second}).DialContext,
		OnProxyConnectResponse: proxyRefusal,
		TLSHandshakeTimeout:    handshakeLimit,
		ResponseHeaderTimeout:  headerLimit,
		IdleConnTimeout:        idleLimit,
		MaxConnsPerHost:        maxConnections,
		MaxIdleConnsPerHost:    maxConnections, // or each request beyond two would begin with a handshake
		MaxResponseHeaderBytes: headerSize,
		DisableCompression:     true, // bodies are bounded as they stand on the wire
		TLSClientConfig: &tls.Config{
			// Below 1.3 nothing is sent: verify refuses it, once it has seen whose
			// certificate it is. Inspecting proxies often end there.
			MinVersion: tls.VersionTLS12,
			// Verified in full by verify, which knows the policy of this moment;
			// RootCAs would be those of the moment when the client was made.
			InsecureSkipVerify: true,
			VerifyConnection:   l.verify,
			GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
				return l.certificate.Load(), nil
			},
		},
	}
	return l
}

// verify accepts TLS 1.3 with the registry's certificate: for its host name,
// under a root of the policy in force; or, for a kiosk that has no policy yet, by
// its key alone. It runs before anything of the kiosk's is sent. A certificate that
// it refuses is a *CertificateError.
func (l *line) verify(state tls.ConnectionState) error {
	if len(state.PeerCertificates) == 0 {
		return ErrTLS
	}
	if err := l.verifyChain(state.PeerCertificates); err != nil {
		return err
	}
	if state.Version < tls.VersionTLS13 {
		return fmt.Errorf("%w: %s", ErrTLS, tls.VersionName(state.Version))
	}
	return nil
}

func (l *line) verifyChain(chain []*x509.Certificate) error {
	if l.pin != nil {
		hash := api.KeyHash(chain[0].RawSubjectPublicKeyInfo)
		if subtle.ConstantTimeCompare(hash[:len(l.pin)], l.pin[:]) != 1 {
			return fmt.Errorf("%w: its key is not the one that the provisioning code names", ErrTLS)
		}
		return nil
	}
	p, err := l.policy()
	if err != nil {
		return err
	}
	o := x509.VerifyOptions{DNSName: l.host, Roots: x509.NewCertPool(), Intermediates: x509.NewCertPool(), CurrentTime: l.clock()}
	for _, r := range p.Policy().RegistryTLS {
		c, err := x509.ParseCertificate(r.Certificate)
		if err != nil {
			return fmt.Errorf("%w: root: %w", ErrTLS, err)
		}
		o.Roots.AddCert(c)
	}
	for _, c := range chain[1:] {
		o.Intermediates.AddCert(c)
	}
	if _, err := chain[0].Verify(o); err != nil {
		return certificateError(chain[0], o, err)
	}
	return nil
}

// httpProxy refuses proxies spoken to over TLS: the policy's roots are the
// registry's, not a proxy's.
func httpProxy(find func(*http.Request) (*url.URL, error)) func(*http.Request) (*url.URL, error) {
	return func(r *http.Request) (*url.URL, error) {
		u, err := find(r)
		if err == nil && u != nil && u.Scheme != "http" && !strings.HasPrefix(u.Scheme, "socks5") {
			return nil, fmt.Errorf("%w: proxy %s: only http and socks5 proxies", ErrUnreachable, u.Redacted())
		}
		return u, err
	}
}

// proxyRefusal reads a proxy's answer to CONNECT.
func proxyRefusal(_ context.Context, _ *url.URL, _ *http.Request, res *http.Response) error {
	switch {
	case res.StatusCode == http.StatusOK:
		return nil
	case res.StatusCode == http.StatusBadGateway, res.StatusCode == http.StatusServiceUnavailable, res.StatusCode == http.StatusGatewayTimeout:
		return fmt.Errorf("%w: proxy answers %d", ErrUnreachable, res.StatusCode)
	}
	if err := refusal(res); err != nil {
		return fmt.Errorf("proxy: %w", err)
	}
	return fmt.Errorf("%w: proxy answers %d", ErrUnreachable, res.StatusCode)
}

// refusal classes an answer by its status; nil for 200 and 202.
func refusal(res *http.Response) error {
	s := res.StatusCode
	if s == http.StatusOK || s == http.StatusAccepted {
		return nil
	}
	p := problem(res)
	switch {
	case strings.HasPrefix(p.Code, "provision-"):
		return &ProvisionRefused{Code: p.Code, Check: p.Refused}
	case s == http.StatusForbidden && unblockRefusal(p.Code):
		return &UnblockRefused{p.Code}
	case s == http.StatusUnauthorized, s == http.StatusForbidden, s == http.StatusProxyAuthRequired:
		return fmt.Errorf("%w: %s", ErrNotAllowed, p.Code)
	case s >= 300 && s < 400, s == http.StatusNetworkAuthenticationRequired: // RFC 6585 section 6
		return fmt.Errorf("%w: status %d", ErrCaptivePortal, s)
	case s == http.StatusRequestEntityTooLarge:
		return ErrTooBig
	case s == http.StatusTooManyRequests, s == http.StatusRequestTimeout, s >= 500:
		return &RetryAfter{After: after(res.Header), Status: s}
	case api.IsMedia(res.Header.Get("Content-Type"), "text/html"):
		return fmt.Errorf("%w: status %d", ErrCaptivePortal, s)
	}
	switch {
	case s == http.StatusNotFound && p.Code == api.CodeNotFound:
		return ErrNotFound
	case s == http.StatusNotFound && p.Code == api.CodeReceipt:
		return ErrUntold
	}
	return fmt.Errorf("%w: %s", ErrNonsense, p.Code)
}

// problem is the problem document of an answer; without one, the bare status
// stands for its code.
func problem(res *http.Response) api.Problem {
	if api.IsMedia(res.Header.Get("Content-Type"), api.MediaProblem) {
		if p, err := api.Decode[api.Problem](io.LimitReader(res.Body, headerSize)); err == nil && p.Status == res.StatusCode {
			return p
		}
	}
	return api.Problem{Code: "status " + strconv.Itoa(res.StatusCode)}
}

// after reads Retry-After (RFC 9110 section 10.2.3): seconds or a date.
func after(h http.Header) time.Duration {
	v := h.Get("Retry-After")
	var d time.Duration
	if n, err := strconv.ParseUint(v, 10, 63); err == nil {
		d = time.Duration(min(n, uint64(longestRetry/time.Second))) * time.Second
	} else if t, err := http.ParseTime(v); err == nil {
		// Against the answer's own clock: the kiosk's may be wrong.
		now, err := http.ParseTime(h.Get("Date"))
		if err != nil {
			now = time.Now()
		}
		d = t.Sub(now)
	}
	return min(max(d, 0), longestRetry)
}

// isPage says that an answer is a page for people.
func isPage(h http.Header, body []byte, want string) bool {
	if api.IsMedia(h.Get("Content-Type"), "text/html") {
		return true
	}
	hashes := want == mediaTile && api.IsMedia(h.Get("Content-Type"), mediaTile) // may begin with anything
	return !hashes && bytes.HasPrefix(bytes.TrimLeft(body, " \t\r\n\ufeff"), []byte("<"))
}

// class gives a transport error its place. ctx is the caller's; handshake says
// that the TLS handshake failed.
func (l *line) class(ctx context.Context, err error, handshake bool) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if fault := l.keyFault.Swap(nil); fault != nil {
		return fmt.Errorf("%w: %w", ErrKey, *fault)
	}
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		err = wrapped.Err // its text repeats the whole address
	}
	var retry *RetryAfter
	var network net.Error
	var remote *net.OpError
	switch {
	case errors.Is(err, ErrTLS), errors.Is(err, ErrNotAllowed), errors.Is(err, ErrCaptivePortal), errors.Is(err, ErrUnreachable),
		errors.Is(err, ErrNonsense), errors.As(err, &retry):
		return err
	case errors.Is(err, http.ErrSchemeMismatch):
		return fmt.Errorf("%w: %w", ErrCaptivePortal, err)
	case errors.As(err, &remote) && remote.Op == "remote error":
		if refusesUs(remote.Err) {
			return fmt.Errorf("%w: %w", ErrNotAllowed, err)
		}
		return fmt.Errorf("%w: %w", ErrTLS, err)
	case handshake && !errors.As(err, &network) && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("%w: %w", ErrTLS, err)
	}
	return fmt.Errorf("%w: %w", ErrUnreachable, err)
}

// refusesUs says whether a TLS alert is about our certificate (RFC 8446 section
// 6.2: bad_certificate 42 to access_denied 49, certificate_required 116).
// crypto/tls does not export the type, only its numbers.
func refusesUs(alert error) bool {
	v := reflect.ValueOf(alert)
	if v.Kind() != reflect.Uint8 {
		return false
	}
	n := v.Uint()
	return n >= 42 && n <= 49 || n == 116
}

// watchedSigner remembers why it could not sign: crypto/tls keeps only the text.
type watchedSigner struct {
	crypto.Signer
	fault *atomic.Pointer[error]
}

func (s watchedSigner) Sign(rand io.Reader, digest []byte, o crypto.SignerOpts) ([]byte, error) {
	sig, err := s.Signer.Sign(rand, digest, o)
	if err != nil {
		s.fault.Store(&err)
	}
	return sig, err
}

func clip(s string) string { return s[:min(len(s), 60)] }
