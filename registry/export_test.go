package registry

import (
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"enrollkiosk/registry/api"
	"enrollkiosk/registry/internal/console"
	"enrollkiosk/registry/receipt"
	"enrollkiosk/registry/record"
)

// Gaps is how many sequence numbers of a kiosk are missing.
func Gaps(r *Registry, kiosk string) (uint64, error) {
	return r.store.Gaps(context.Background(), kiosk, 0)
}

// LoseReceipts makes the store lose what the log role wants kept, n times; the
// channel is closed with the first. Before Serve.
func LoseReceipts(r *Registry, n int32) <-chan struct{} {
	l := &loser{outbox: r.store, lost: make(chan struct{})}
	l.left.Store(n)
	r.outbox = l
	return l.lost
}

type loser struct {
	outbox
	left atomic.Int32
	lost chan struct{}
}

func (l *loser) Logged(ctx context.Context, term uint64, receipts map[[32]byte][]byte, scanned uint64) error {
	if n := l.left.Add(-1); n >= 0 {
		if n == 0 {
			close(l.lost)
		}
		return errors.New("lost")
	}
	return l.outbox.Logged(ctx, term, receipts, scanned)
}

// ErrBusy is what a second process gets.
var ErrBusy = errStoreBusy

// StallStore makes every question to the store wait until it is released.
func StallStore(r *Registry) (release func()) {
	s := &stalled{store: r.store, gate: make(chan struct{})}
	r.store = s
	return func() { close(s.gate) }
}

type stalled struct {
	store
	gate chan struct{}
}

func (s *stalled) Status(ctx context.Context, sender string, ids ...[32]byte) (map[[32]byte]status, error) {
	<-s.gate
	return s.store.Status(ctx, sender, ids...)
}

// BreakStore makes the store refuse to write until it is mended: a full disk.
func BreakStore(r *Registry) (mend func()) {
	s := &broken{store: r.store}
	s.now.Store(true)
	r.store = s
	return func() { s.now.Store(false) }
}

type broken struct {
	store
	now atomic.Bool
}

var errFull = errors.New("no space left on device")

func (s *broken) Add(ctx context.Context, entries []entry) ([]added, error) {
	if s.now.Load() {
		return nil, errFull
	}
	return s.store.Add(ctx, entries)
}

func (s *broken) Reject(ctx context.Context, sender string, rejections map[[32]byte]rejection) (map[[32]byte]decision, error) {
	if s.now.Load() {
		return nil, errFull
	}
	return s.store.Reject(ctx, sender, rejections)
}

// LogAll has the log role until every record has its receipt.
func LogAll(ctx context.Context, r *Registry) error {
	return r.store.Lead(ctx, RoleLog, func(ctx context.Context, term uint64) error {
		l, err := openLog(r.logDir(), r.signers, r.opts.Policy.Policy().Log(), r.witnesses, r.opts.CheckpointInterval, r.outbox, r.opts.Log)
		if err != nil {
			return err
		}
		l.leading, l.term = r.logging, term
		for more := true; more && err == nil; {
			more, err = l.turn(ctx)
		}
		return errors.Join(err, l.stop(ctx))
	})
}

// Handler is what Serve serves, without TLS.
func Handler(r *Registry) http.Handler { return r.handler() }

// Verifier is all that the registry checks of a kiosk's submission before it
// stores it. The kiosk's standing is looked up once, as it is for a batch.
func Verifier(r *Registry, kiosk string) (func(submission []byte, id [32]byte) error, error) {
	k, err := r.kiosks.Find(context.Background(), kiosk)
	return func(submission []byte, id [32]byte) error {
		_, err := r.check.submission(submission, id, k, r.opts.Now())
		return err
	}, err
}

// Check is what the registry finds out about a submission by itself.
func Check(r *Registry, submission []byte, id [32]byte, sender Kiosk, now time.Time) error {
	_, err := r.check.submission(submission, id, sender, now)
	return err
}

// ConsoleOf is the console of a registry that serves, or is about to.
func ConsoleOf(ctx context.Context, r *Registry) (c *Console, err error) {
	notYet := func() (map[string]http.HandlerFunc, func() error, error) {
		return nil, nil, errors.New("it does not serve")
	}
	for late := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		if c, err = console.Open(ctx, r.opts.Dir, notYet); err == nil || time.Now().After(late) {
			return c, err
		}
	}
}

// ServeConsole serves the console alone: records are taken on, and not logged.
func ServeConsole(r *Registry) (stop func(context.Context) error, err error) {
	return console.Listen(r.opts.Dir, r.consoleRoutes())
}

// The store and what goes in and out of it, for its conformance test.
type (
	Store    = store
	Entry    = entry
	Added    = added
	Decision = decision
	Session  = session
	Tally    = tally

	KeptPolicy = keptPolicy
)

// NewKeptPolicy is one as the store returns it.
func NewKeptPolicy(signed []byte, since time.Time) KeptPolicy { return keptPolicy{signed, since} }

// Number of a link.
func (n numbered) Number() uint64 { return n.number }

// NewOutcome is a verdict of the vault in place of an earlier one.
func NewOutcome(number uint64, id [32]byte, supersedes string, d Decision) outcome {
	return outcome{number, id, sha256.Sum256([]byte(supersedes)), d}
}

// Rejections is what the front makes of rejections of records that the kiosk has
// signed.
func Rejections(of map[[32]byte]Decision, subs ...record.Submission) map[[32]byte]rejection {
	out := map[[32]byte]rejection{}
	for _, s := range subs {
		out[s.ID()] = rejection{decision: of[s.ID()], number: s.Record().Payload().Context.Sequence, link: linkOf(s.Record(), time.Now())}
	}
	return out
}

// Refusals and other answers of a store.
var (
	ErrFork        = errFork
	ErrChain       = errChain
	ErrKeyTaken    = errKeyTaken
	ErrHolder      = errHolder
	ErrSuspended   = errSuspended
	ErrNotHeld     = errNotHeld
	ErrDeposed     = errDeposed
	ErrSessionOver = errSessionOver
)

// OpenStore opens the store that o asks for.
func OpenStore(ctx context.Context, o Options, origin string) (Store, error) {
	o.Log = slog.New(slog.DiscardHandler)
	return openStore(ctx, o, origin)
}

// KiosksOf is a registry's register.
func KiosksOf(r *Registry) Kiosks { return r.kiosks }

// NewEntry is what the front makes of a submission by sender. An enrollment is
// approved by officer.
func NewEntry(s record.Submission, sender string, officer byte) Entry {
	p := s.Record().Payload()
	e := entry{submission: s, sender: sender, received: time.Now(), starts: []uint64{0}, number: p.Context.Sequence, link: linkOf(s.Record(), time.Now())}
	switch p.Context.Purpose {
	case record.Enroll, record.Replace:
		e.newKey, e.personal = p.Holder.Key.Thumbprint(), true
	}
	if p.Context.Purpose == record.Enroll {
		e.approval = approval{receipt.Officer{officer}, "2026-11-28"}
	}
	return e
}

func (a added) Refused() error   { return a.refused }
func (a added) Gap() bool        { return a.gap }
func (a added) Approved() uint64 { return a.approved }

func (s status) Decision() Decision { return s.decision }
func (s status) Receipt() []byte    { return s.receipt }

func (j judged) Number() uint64  { return j.number }
func (j judged) ID() [32]byte    { return j.id }
func (j judged) Verdict() string { return j.verdict }

func (l leaf) ID() [32]byte    { return l.id }
func (l leaf) Blind() [32]byte { return l.blind }

func (t tally) Counts() [3]uint64 { return [3]uint64{t.reads, t.enrollments, t.kiosks} }

// ChangeKiosk changes what a store has of an id.
func ChangeKiosk(ctx context.Context, s Store, id string, f func(k **Kiosk, p **Provision) error) error {
	return s.ChangeKiosk(ctx, id, func(st *standing) error { return f(&st.kiosk, &st.provision) })
}

// DatabaseWait is what any other transaction may take.
const DatabaseWait = databaseWait

// Migrate applies migrations to the database of a store.
func Migrate(ctx context.Context, s Store, migrations fs.FS) error {
	return s.(*postgresStore).migrate(ctx, migrations)
}

// CheckDatabaseAddress says whether an address may be a store.
func CheckDatabaseAddress(address string) error {
	_, err := postgresConfig(address)
	return err
}

func (s stock) ID() []byte      { return s.id[:] }
func (s stock) Record() []byte  { return s.record }
func (s stock) Receipt() []byte { return s.receipt }

// Depth is how many records wait, and since when.
type Depth struct {
	Count  uint64
	Oldest time.Time
}

// Depths are what waits for the log and the vault.
func Depths(s Store) (unlogged, unopened Depth, err error) {
	b, err := s.Backlog(context.Background())
	return Depth{b.unlogged.count, b.unlogged.oldest}, Depth{b.unopened.count, b.unopened.oldest}, err
}

// Hurry makes a registry lose patience with its clients soon, and gives it few places.
func Hurry(r *Registry, patience time.Duration, connections, perAddress int) {
	r.limits.header, r.limits.read, r.limits.write, r.limits.idle = patience, patience, patience, patience
	r.limits.connections, r.limits.perAddress = connections, perAddress
}

// Metrics is what Prometheus is told.
func Metrics(r *Registry) http.Handler {
	return promhttp.HandlerFor(r.metrics.all, promhttp.HandlerOpts{})
}

// HoldProvisioning takes all places of provisioning until it is released.
func HoldProvisioning(r *Registry) (release func()) {
	for range cap(r.provisions) {
		r.provisions <- struct{}{}
	}
	return func() {
		for range cap(r.provisions) {
			<-r.provisions
		}
	}
}

// Snapshot writes the store of a registry that serves.
func Snapshot(r *Registry) func(context.Context, io.Writer) error {
	return r.store.(snapshotter).Snapshot
}

// Examine compares store and log of a registry that serves.
func Examine(r *Registry) (Report, error) {
	return examine(context.Background(), r.store, LogDir(r.logDir()), r.opts.Policy.Policy().Log().Unwitnessed())
}

// Routes are the methods and paths that are served.
func Routes(r *Registry) (out []string) {
	for _, route := range r.routes() {
		out = append(out, route.method+" "+route.path)
	}
	return out
}

// KillStore makes the store fail at all that is not the register's: the database
// is away. Whoever has standing keeps it.
func KillStore(r *Registry) {
	d := dead{r.store}
	r.store, r.activity.store, r.provisioning.kiosks.store, r.provisioning.sessions = d, d, d, d
}

type dead struct{ store }

var errDead = errors.New("connection refused")

func (dead) Status(context.Context, string, ...[32]byte) (map[[32]byte]status, error) {
	return nil, errDead
}
func (dead) ChangeActivity(context.Context, string, []receipt.ActivityEntry, func(*KioskActivity, []tally)) error {
	return errDead
}
func (dead) Provision(context.Context, string) (Provision, error) { return Provision{}, errDead }
func (dead) ChangeSession(context.Context, api.ID, time.Time, func(*session) error) (session, error) {
	return session{}, errDead
}
func (dead) Unlogged(context.Context, int) ([]leaf, error) { return nil, errDead }
func (dead) Backlog(context.Context) (backlog, error)      { return backlog{}, errDead }

// Limiter holds back who sends too often.
type Limiter struct{ l *limiter }

// NewLimiter is one that nobody has used.
func NewLimiter() Limiter { return Limiter{newLimiter(cancelsOfOne, cancelsOfAll)} }

// Take is how long an address is to wait; 0: it is served.
func (l Limiter) Take(remote string, now time.Time) time.Duration { return l.l.take(remote, now) }

// SeenOutcomes is the number of the vault's outcome that was seen last.
func SeenOutcomes(r *Registry) (uint64, error) { return r.store.Outcomes(context.Background()) }

func (dead) Cancel(context.Context, [32]byte, time.Time, time.Time) (Cancellation, bool, error) {
	return Cancellation{}, false, errDead
}

// LiftCancellation is what the command does.
func (r *Registry) LiftCancellation(ctx context.Context, did string) error {
	_, err := r.store.ResolveCancellation(ctx, did, CancelLifted, Resolution{By: "desk 7", Reason: "found", Time: r.now()})
	return err
}
