package registry

import (
	"context"
	"encoding/json"
	"errors"
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
	"enrollkiosk/registry/receipt"
	"enrollkiosk/registry/record"
)

// DefaultCancelDelay is how long a cancel code suspends before it revokes.
const DefaultCancelDelay = 7 * 24 * time.Hour

const (
	// cancelTime is how long every well-formed code is worked on.
	cancelTime = time.Second
	// cancelTurn is how often somebody looks for suspensions that are due.
	cancelTurn  = 10 * time.Second
	cancelBatch = 64
)

// Limits of cancel codes: nobody types more, and 128 bits are not found by trying.
// They keep one sender, or many, from keeping the store busy.
var (
	cancelsOfOne = rate{5, 20 * time.Second} // address
	cancelsOfAll = rate{100, 50 * time.Millisecond}
)

const limiterPlaces = 4096

// postCancellation takes a cancel code from anybody. Known and unknown codes get
// the same answer, after the same transaction and the same time: an answer that
// told them apart would tell whoever finds a paper whether it is worth anything.
func (r *Registry) postCancellation(w http.ResponseWriter, q *http.Request) {
	began := time.Now()
	if !api.IsMedia(q.Header.Get("Content-Type"), api.MediaJSON) {
		reply.Problem(w, http.StatusUnsupportedMediaType, api.CodeMedia, "send "+api.MediaJSON, 0)
		return
	}
	if wait := r.cancels.take(q.RemoteAddr, began); wait > 0 {
		seconds := int(math.Ceil(wait.Seconds()))
		w.Header().Set("Retry-After", strconv.Itoa(seconds))
		reply.Problem(w, http.StatusTooManyRequests, api.CodeTooMany, "too many codes: come again later, or go to any police station", seconds)
		return
	}
	asked, err := api.Decode[api.Cancellation](http.MaxBytesReader(w, q.Body, maxCancellation))
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		reply.Problem(w, http.StatusRequestEntityTooLarge, api.CodeTooLarge, "too large for a cancel code", 0)
		return
	case err != nil:
		reply.Problem(w, http.StatusBadRequest, api.CodeBadRequest, "the body holds no cancel code", 0)
		return
	}
	code, err := record.ParseCancelCode(asked.Code)
	if err != nil {
		reply.Problem(w, http.StatusBadRequest, api.CodeCancelCode, "mistyped: compare each letter and digit with the paper", 0)
		return
	}
	now := r.now()
	c, done, err := r.store.Cancel(q.Context(), record.CancelHash(code[:]), now, now.Add(r.opts.CancelDelay))
	if err != nil {
		r.opts.Log.Error("cancel code not looked up", "error", err)
		reply.Problem(w, http.StatusServiceUnavailable, api.CodeUnavailable, "send again", retryAfter)
		return
	}
	if done {
		r.opts.Log.Warn("did suspended by its cancel code", "record", c.Record, "due", c.Due)
	}
	select {
	case <-time.After(time.Until(began.Add(cancelTime))):
	case <-q.Context().Done():
		return
	}
	b, err := json.Marshal(api.Cancelled{Received: now})
	if err != nil {
		panic(err) // plain data always encodes
	}
	reply.Bytes(w, http.StatusAccepted, api.MediaJSON, b)
}

// maxCancellation is more than a cancel code takes, in bytes.
const maxCancellation = 1 << 10

// limiter holds back who sends too often: each address, and all together. It has a
// fixed number of places, on which addresses fall by a secret hash: two that share
// one share its limit, and however many there are it does not grow.
type limiter struct {
	one, together rate
	mu            sync.Mutex
	seed          maphash.Seed
	all           bucket
	places        [limiterPlaces]bucket
}

// rate is how many at once, and one more each every.
type rate struct {
	burst int
	every time.Duration
}

func newLimiter(one, together rate) *limiter {
	return &limiter{one: one, together: together, seed: maphash.MakeSeed()}
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

// take is 0 if a request from an address may be served now; else how long it is to
// wait.
func (l *limiter) take(remote string, now time.Time) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	own := &l.places[maphash.String(l.seed, network(remote))%limiterPlaces]
	if wait := max(own.wait(now, l.one), l.all.wait(now, l.together)); wait > 0 {
		return wait
	}
	own.take(now, l.one)
	l.all.take(now, l.together)
	return 0
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

// runCancellations revokes what is due, until ctx ends. What is due is in the
// store: a registry that was down does it when it is up again.
func (r *Registry) runCancellations(ctx context.Context) {
	for {
		more, err := r.revokeDue(ctx)
		if err != nil && ctx.Err() == nil {
			r.opts.Log.Error("suspensions that are due are not revoked, will be tried again", "error", err)
		}
		if more && err == nil {
			continue
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(cancelTurn):
		}
	}
}

// revokeDue revokes a batch of what is due; more says that there may be more.
func (r *Registry) revokeDue(ctx context.Context) (more bool, err error) {
	due, err := r.store.RevokeDue(ctx, r.now(), cancelBatch)
	for _, c := range due {
		r.opts.Log.Warn("did revoked: it was suspended by its cancel code and nobody lifted that", "record", c.Record)
	}
	return len(due) == cancelBatch, err
}

// standing signs what became of the DID of a record, as of now; "" while it is in
// good standing.
func (r *Registry) standing(ctx context.Context, id [32]byte, s status) (string, error) {
	if s.did == "" {
		return "", nil
	}
	what, code := s.holder.standing()
	if what == "" {
		return "", nil
	}
	b, err := receipt.SignVerdict(ctx, receipt.Verdict{Record: id, DID: s.did, Status: what, Code: code, Time: r.now()}, r.verdict)
	return string(b), err
}
