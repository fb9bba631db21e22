package holder

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"time"

	"enrollkiosk/registry/credential"
)

// exchange is one request. Whoever gets it learns the version of this program from
// its TLS at most.
type exchange struct {
	method string
	uri    string
	kind   string // Content-Type of body
	body   []byte
	accept string
	bearer string
	limit  int // bytes of the answer
}

// answer is what came back, with the other side's time.
type answer struct {
	status int
	kind   string // media type
	body   []byte
	date   time.Time // zero if it told none
}

// do sends one request over a connection of its own: no cookies, no resumed session,
// no redirects.
func (h *Helper) do(ctx context.Context, x exchange) (answer, error) {
	return do(ctx, h.Authority.TLSRoots, x)
}

func do(ctx context.Context, roots *x509.CertPool, x exchange) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, answerLimit)
	defer cancel()
	transport := &http.Transport{
		Proxy:              http.ProxyFromEnvironment,
		TLSClientConfig:    &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
		DisableKeepAlives:  true,
		DisableCompression: true,
		// A hostile server sends at most this.
		MaxResponseHeaderBytes: 32 << 10,
	}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return ErrRedirect }}
	r, err := http.NewRequestWithContext(ctx, x.method, x.uri, bytes.NewReader(x.body))
	if err != nil {
		return answer{}, fmt.Errorf("%w: %w", ErrLink, err)
	}
	r.Header["User-Agent"] = []string{""} // none
	if x.kind != "" {
		r.Header.Set("Content-Type", x.kind)
	}
	if x.accept != "" {
		r.Header.Set("Accept", x.accept)
	}
	if x.bearer != "" {
		r.Header.Set("Authorization", "Bearer "+x.bearer)
	}
	response, err := client.Do(r)
	if errors.Is(err, ErrRedirect) {
		return answer{}, ErrRedirect
	}
	if err != nil {
		return answer{}, unreachable(ctx, err)
	}
	defer response.Body.Close()
	if response.StatusCode >= 300 && response.StatusCode < 400 { // also those without a Location
		return answer{}, ErrRedirect
	}
	a := answer{status: response.StatusCode}
	a.kind, _, _ = mime.ParseMediaType(response.Header.Get("Content-Type"))
	if a.date, err = http.ParseTime(response.Header.Get("Date")); err != nil {
		a.date = time.Time{}
	}
	if a.body, err = io.ReadAll(io.LimitReader(response.Body, int64(x.limit)+1)); err != nil {
		return answer{}, unreachable(ctx, err)
	}
	if len(a.body) > x.limit {
		return answer{}, fmt.Errorf("more than %d bytes: %w", x.limit, ErrAnswer)
	}
	return a, nil
}

// unreachable tells a person's interruption, a stranger, and the network's trouble
// apart.
func unreachable(ctx context.Context, err error) error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return context.Cause(ctx)
	}
	var untrusted *tls.CertificateVerificationError
	if errors.As(err, &untrusted) {
		return fmt.Errorf("%w: %w", ErrTLS, err)
	}
	return fmt.Errorf("%w: %w", ErrUnreachable, err)
}

// clock is the other side's time: one's own is a mark. It must be near, since the
// other side would refuse ours otherwise.
func (a answer) clock(now time.Time) (time.Time, error) {
	if a.date.IsZero() {
		return now, nil
	}
	if d := now.Sub(a.date); d > credential.Skew || d < -credential.Skew {
		return time.Time{}, fmt.Errorf("%v off: %w", d.Round(time.Minute), ErrClock)
	}
	return a.date, nil
}
