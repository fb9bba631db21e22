// Package client speaks to the registry: it submits records, fetches what
// became of them, the policy and the time.
//
// Nothing that comes back is believed because it came over TLS. A rejection
// counts only with the registry's signature, an activation or refusal only with
// the vault's, a receipt only when it proves that this very record is in the log
// that the policy names; an answer that claims more than it proves is
// [ErrNonsense]. The policy itself is handed on as it came: its reader verifies it.
//
// The package keeps nothing, and repeats a request only when a connection turns
// out to have ended while it was idle: trying again is the courier's job.
// The wire is HTTP/1.1, so that it passes through ordinary proxies.
package client

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"enrollkiosk/registry/api"
	"enrollkiosk/registry/checkpoint"
	"enrollkiosk/registry/policy"
	"enrollkiosk/registry/receipt"
	"enrollkiosk/registry/record"
)

// DefaultTimeout bounds one request, from name look-up to the answer's last
// byte: the largest batch at 256 kbit/s.
const DefaultTimeout = 60 * time.Second

// Options of a Client.
type Options struct {
	URL string // "https://host[:port]", nothing after

	// Certificate identifies the kiosk; its PrivateKey may be any crypto.Signer. The
	// zero value is good for the public paths: policy and time.
	Certificate tls.Certificate

	// Policy gives the policy in force, asked anew at each connection and for each
	// answer. An expired one is still good for delivering under.
	Policy func() (policy.Signed, error)

	// Pin, if not nil, accepts the registry by the first half of the SHA-256 of its
	// TLS key (SubjectPublicKeyInfo) instead of by Policy: for a kiosk that has none
	// yet.
	Pin   *[16]byte
	Heard func(time.Time) // gets each time that the registry signed; may be nil
	// Log remembers the registry's public log: a receipt whose checkpoint contradicts
	// it is ErrNonsense and checkpoint.ErrSplit. nil: receipts are not held against
	// one another.
	Log     *checkpoint.Keeper
	Offered func(digest [32]byte)                 // gets, unverified, which policy the registry has; may be nil
	Clock   func() time.Time                      // judges the registry's certificate; default time.Now
	Proxy   func(*http.Request) (*url.URL, error) // default http.ProxyFromEnvironment
	Timeout time.Duration                         // default DefaultTimeout
}

// Client is a connection to one registry. Its methods may be called from several
// goroutines.
type Client struct {
	base    string
	policy  func() (policy.Signed, error)
	heard   func(time.Time)
	offered func([32]byte)
	log     *checkpoint.Keeper
	limit   time.Duration
	line    *line
	http    *http.Client
}

// Item is a record under its id: record.Submission.Bytes.
type Item struct {
	ID   [32]byte
	Data []byte
}

// Verdict is what the registry says about one submitted item.
type Verdict struct {
	ID       [32]byte
	Status   api.Status    // Pending, Accepted, Rejected or Retry
	Code     string        // of Rejected (as signed) and Retry
	After    time.Duration // of Retry: how long to wait at least
	Evidence []byte        // of Rejected: the registry's statement, verified
}

// Status is what has become of a record. Err, when not nil, is about this record
// alone, and the rest is zero then: ErrNotFound, the registry does not have it
// (any more), submit it again; or ErrNonsense, what it says is not believed.
type Status struct {
	ID      [32]byte
	Status  api.Status // Pending, Active, Refused or Rejected: all but Pending as signed
	Code    string     // why it is refused or rejected
	Verdict []byte     // the vault's or registry's statement, verified; nil while Pending
	Receipt []byte     // the proof that the record is in the log, verified; nil before it is
	// Standing is the registry's statement, verified, that the DID which the record
	// brought is suspended or revoked; nil while it is in good standing.
	Standing *receipt.Verdict
	Err      error
}

// New makes a client. It does not connect.
func New(o Options) (*Client, error) {
	u, err := url.Parse(o.URL)
	if err != nil || u.Scheme != "https" || u.Hostname() == "" || u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf("registry address %q: want https://host[:port]", o.URL)
	}
	if o.Policy == nil {
		return nil, errors.New("registry client: no policy")
	}
	if o.Timeout == 0 {
		o.Timeout = DefaultTimeout
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Offered == nil {
		o.Offered = func([32]byte) {}
	}
	if o.Heard == nil {
		o.Heard = func(time.Time) {}
	}
	l := newLine(u.Hostname(), o)
	return &Client{base: "https://" + u.Host, policy: o.Policy, heard: o.Heard, offered: o.Offered, log: o.Log, limit: o.Timeout, line: l,
		http: &http.Client{Transport: l.transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}, nil
}

// Close drops idle connections.
func (c *Client) Close() { c.line.transport.CloseIdleConnections() }

// Submit sends items, within the contract's limits, and returns one verdict for
// each, in any order.
func (c *Client) Submit(ctx context.Context, items []Item) ([]Verdict, error) {
	batch := api.Batch{}
	size := 0
	for _, i := range items {
		batch.Items = append(batch.Items, api.Item{ID: i.ID, Submission: i.Data})
		size += len(i.Data)
		if len(i.Data) > record.MaxSubmission {
			return nil, fmt.Errorf("submit: %w", ErrTooBig)
		}
	}
	if size > api.MaxBatchData && len(items) > 1 || len(items) > api.MaxItems {
		return nil, fmt.Errorf("submit: %w", ErrTooBig)
	}
	if err := batch.Check(); err != nil {
		return nil, fmt.Errorf("submit: %w", err)
	}
	body, err := compressed(batch)
	if err != nil {
		return nil, fmt.Errorf("submit: %w", err)
	}
	p, err := c.policy()
	if err != nil {
		return nil, fmt.Errorf("submit: %w", err)
	}
	var result api.BatchResult
	err = c.do(ctx, http.MethodPost, api.PathRecords, body, api.MediaJSON, api.MaxBody, func(b []byte) error {
		if result, err = api.Decode[api.BatchResult](bytes.NewReader(b)); err != nil {
			return err
		}
		return result.Answers(batch)
	})
	if err != nil {
		return nil, fmt.Errorf("submit: %w", err)
	}
	out, err := verdicts(result, p.Policy())
	if err == nil && result.Time != "" {
		err = c.hear([]byte(result.Time), p.Policy())
	}
	if err != nil {
		return nil, fmt.Errorf("submit: %w", err)
	}
	if result.Policy != (api.ID{}) {
		c.offered(result.Policy)
	}
	return out, nil
}

// compressed is a batch with the content coding gzip: half as long as JSON with
// submissions in base64. All of it is signed or sealed, so its length tells nothing.
func compressed(batch api.Batch) ([]byte, error) {
	var b bytes.Buffer
	w, err := gzip.NewWriterLevel(&b, gzip.BestSpeed)
	if err == nil {
		err = json.NewEncoder(w).Encode(batch)
	}
	if err == nil {
		err = w.Close()
	}
	return b.Bytes(), err
}

func verdicts(r api.BatchResult, p policy.Policy) ([]Verdict, error) {
	var out []Verdict
	for _, v := range r.Verdicts {
		o := Verdict{ID: v.ID, Status: v.Status, Code: v.Code, After: time.Duration(v.RetryAfter) * time.Second}
		if v.Status == api.Rejected {
			signed, err := receipt.VerifyVerdict([]byte(v.Verdict), p.VerdictKeys.Registry, p.VerdictKeys.Vault, v.ID)
			if err != nil || signed.Claims().Status != receipt.Rejected {
				return nil, fmt.Errorf("%w: a rejection that the registry did not sign: %w", ErrNonsense, err)
			}
			o.Code, o.Evidence = signed.Claims().Code, signed.Bytes()
		}
		out = append(out, o)
	}
	return out, nil
}

// Status asks what has become of records that were submitted, at most
// api.MaxItems. The answer is in any order and may leave records out: ask for
// those again.
func (c *Client) Status(ctx context.Context, items []Item) ([]Status, error) {
	p, err := c.policy()
	if err != nil {
		return nil, fmt.Errorf("status: %w", err)
	}
	var ids [][32]byte
	asked := map[api.ID]Item{}
	for _, i := range items {
		ids = append(ids, i.ID)
		asked[i.ID] = i
	}
	result, err := c.statuses(ctx, ids)
	if err != nil {
		return nil, fmt.Errorf("status: %w", err)
	}
	var out []Status
	for _, got := range result.Statuses {
		s, err := VerifyStatus(got, asked[got.ID], p.Policy())
		if err == nil && s.Receipt != nil {
			if err = c.consistent(ctx, s, p.Policy()); err != nil && !errors.Is(err, ErrNonsense) {
				continue // it is asked for again
			}
		}
		if err != nil {
			s = Status{ID: got.ID, Err: fmt.Errorf("status of %s: %w", got.ID, err)}
		}
		out = append(out, s)
	}
	return out, nil
}

// statuses asks what has become of records. What comes back is about some of them,
// and believed by nobody yet.
func (c *Client) statuses(ctx context.Context, ids [][32]byte) (result api.StatusResult, err error) {
	var query api.StatusQuery
	for _, id := range ids {
		query.IDs = append(query.IDs, id)
	}
	if err := query.Check(); err != nil {
		return result, err
	}
	body, err := json.Marshal(query)
	if err != nil {
		return result, err
	}
	err = c.do(ctx, http.MethodPost, api.PathStatus, body, api.MediaJSON, api.MaxBody, func(b []byte) error {
		if result, err = api.Decode[api.StatusResult](bytes.NewReader(b)); err != nil {
			return err
		}
		return result.Answers(query)
	})
	return result, err
}

// VerifyStatus believes of what somebody says about a record what is proved under
// p, and refuses the whole if it claims more. How it came here is of no matter.
// Errors wrap ErrNotFound or ErrNonsense.
func VerifyStatus(got api.RecordStatus, item Item, p policy.Policy) (out Status, err error) {
	if got.Status == api.Unknown {
		return out, ErrNotFound
	}
	if out, err = provenStatus(got, item, p); err != nil {
		return Status{}, fmt.Errorf("%w: %w", ErrNonsense, err)
	}
	return out, nil
}

func provenStatus(got api.RecordStatus, item Item, p policy.Policy) (Status, error) {
	if got.ID != item.ID {
		return Status{}, errors.New("the answer is about another record")
	}
	out := Status{ID: item.ID, Status: got.Status}
	var claims receipt.Verdict
	if got.Status == api.Pending && got.Receipt == "" && got.Standing == "" {
		return out, nil
	}
	if got.Status != api.Pending {
		v, err := receipt.VerifyVerdict([]byte(got.Verdict), p.VerdictKeys.Registry, p.VerdictKeys.Vault, item.ID)
		if err != nil {
			return out, err
		}
		claims = v.Claims()
		if string(claims.Status) != string(got.Status) {
			return out, errors.New("the signed verdict says something else")
		}
		out.Code, out.Verdict = claims.Code, v.Bytes()
		if got.Status == api.Rejected && got.Receipt == "" {
			return out, nil // by its id: what was rejected need not even be a record
		}
	}
	payload, err := record.PayloadOf(item.Data, item.ID)
	if err != nil {
		return Status{}, err
	}
	if claims.DID != "" && claims.DID != payload.Holder.DID {
		return Status{}, errors.New("the answer is about another record")
	}
	if got.Standing != "" {
		v, err := receipt.VerifyVerdict([]byte(got.Standing), p.VerdictKeys.Registry, p.VerdictKeys.Vault, item.ID)
		if err != nil {
			return out, err
		}
		claims := v.Claims()
		if claims.Status != receipt.Suspended && claims.Status != receipt.Revoked || claims.DID != payload.Holder.DID {
			return out, errors.New("the signed standing says something else")
		}
		out.Standing = &claims
	}
	if got.Receipt != "" {
		f, err := receipt.Verify([]byte(got.Receipt), p.Log(), item.ID)
		if err != nil {
			return out, err
		}
		// The blind is the record's own: another one would make a proof that
		// nobody can check against the record.
		if blind, _, err := receipt.Names(f.Bytes()); err != nil || blind != payload.Blind {
			return out, errors.New("the receipt has another blind than the record")
		}
		out.Receipt = f.Bytes()
	}
	return out, nil
}

// Policy fetches the registry's copy of the policy, as it came: policy.Parse
// verifies it.
func (c *Client) Policy(ctx context.Context) (signed []byte, err error) {
	err = c.do(ctx, http.MethodGet, api.PathPolicy, nil, api.MediaJOSE, policy.MaxSize, func(b []byte) error {
		signed = b
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("fetch policy: %w", err)
	}
	return signed, nil
}

// Report sends what officers did at this kiosk: receipt.SignActivity's JWS.
func (c *Client) Report(ctx context.Context, signed []byte) error {
	p, err := c.policy()
	if err == nil {
		err = c.do(ctx, http.MethodPost, api.PathActivity, signed, api.MediaJOSE, receipt.MaxSize, func(b []byte) error {
			return c.hear(b, p.Policy())
		})
	}
	if err != nil {
		return fmt.Errorf("report activity: %w", err)
	}
	return nil
}

// Time fetches the registry's clock, verified.
func (c *Client) Time(ctx context.Context) (t time.Time, err error) {
	p, err := c.policy()
	if err != nil {
		return t, fmt.Errorf("fetch time: %w", err)
	}
	err = c.do(ctx, http.MethodGet, api.PathTime, nil, api.MediaJOSE, receipt.MaxSize, func(b []byte) error {
		t, err = verifyTime(b, p.Policy())
		return err
	})
	if err != nil {
		return time.Time{}, fmt.Errorf("fetch time: %w", err)
	}
	c.heard(t)
	return t, nil
}

func (c *Client) hear(b []byte, p policy.Policy) error {
	t, err := verifyTime(b, p)
	if err == nil {
		c.heard(t)
	}
	return err
}

func verifyTime(b []byte, p policy.Policy) (time.Time, error) {
	v, err := receipt.VerifyTime(b, p.VerdictKeys.Registry, p.LogOrigin)
	if err != nil {
		return time.Time{}, fmt.Errorf("%w: time: %w", ErrNonsense, err)
	}
	return v.Claims().Time, nil
}

// do makes one request. read gets the body of a good answer, at most limit bytes
// of the media type want; what it does not understand is ErrNonsense.
func (c *Client) do(ctx context.Context, method, path string, body []byte, want string, limit int64, read func([]byte) error) error {
	stale, err := c.once(ctx, method, path, body, want, limit, read)
	if stale {
		// The connection had ended while nobody used it: that says nothing about
		// the registry. All requests of this contract may be repeated.
		c.Close()
		_, err = c.once(ctx, method, path, body, want, limit, read)
	}
	return err
}

func (c *Client) once(ctx context.Context, method, path string, body []byte, want string, limit int64, read func([]byte) error) (stale bool, err error) {
	limited, cancel := context.WithTimeout(ctx, c.limit)
	defer cancel()
	var handshake, reused, answered atomic.Bool
	traced := httptrace.WithClientTrace(limited, &httptrace.ClientTrace{
		TLSHandshakeDone:     func(_ tls.ConnectionState, err error) { handshake.Store(err != nil) },
		GotConn:              func(i httptrace.GotConnInfo) { reused.Store(i.Reused) },
		GotFirstResponseByte: func() { answered.Store(true) },
	})
	req, err := http.NewRequestWithContext(traced, method, c.base+path, bytes.NewReader(body))
	if err != nil {
		return false, err
	}
	req.Header.Set("Accept", want+", "+api.MediaProblem)
	req.Header.Set("User-Agent", "enrollkiosk")
	if body != nil {
		req.Header.Set("Content-Type", mediaOf(path))
		if path == api.PathRecords {
			req.Header.Set("Content-Encoding", api.Gzip)
		}
	}
	res, err := c.http.Do(req)
	if err != nil {
		return reused.Load() && !answered.Load() && limited.Err() == nil, c.line.class(ctx, err, handshake.Load())
	}
	defer res.Body.Close()
	if err := refusal(res); err != nil {
		return false, err
	}
	b, err := io.ReadAll(io.LimitReader(res.Body, limit+1))
	switch {
	case err != nil:
		return false, c.line.class(ctx, err, false)
	case isPage(res.Header, b, want):
		return false, ErrCaptivePortal
	case int64(len(b)) > limit:
		return false, fmt.Errorf("%w: answer of more than %d bytes", ErrNonsense, limit)
	case !api.IsMedia(res.Header.Get("Content-Type"), want):
		return false, fmt.Errorf("%w: media type %q", ErrNonsense, clip(res.Header.Get("Content-Type")))
	}
	if err := read(b); err != nil {
		return false, fmt.Errorf("%w: %w", ErrNonsense, err)
	}
	return false, nil
}

// mediaOf is what a request's body is.
func mediaOf(path string) string {
	switch path {
	case api.PathActivity, api.PathRenewal:
		return api.MediaJOSE
	case api.PathTokenUnblock:
		return api.MediaJOSEJS
	}
	return api.MediaJSON
}
