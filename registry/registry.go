// Package registry takes enrollment records on: it verifies what it can see,
// stores each record once, logs it, and gives a receipt that anyone can verify.
//
// The way of a record:
//
//	POST /v1/records  form, signatures, signers, attestation, policy   (check.go)
//	store             record and outboxes in one transaction           (store*.go)
//	log role          leaf into the transparency log, receipt          (log.go)
//	vault role        identity to the vault, signed verdict            (vaultlink.go)
//	GET /v1/records/  receipt and verdict                              (server.go)
//
// Invariants. A record id is held at most once and is in the log at most once,
// however often it is sent and whenever the process is killed; a repeat gets
// the same verdict and the same receipt bytes. A record is refused for good only
// by a verdict that the registry signs; whatever says nothing about the record
// itself (a full disk, a vault that is down) leaves it pending or to be sent
// again. Identities stay sealed: this package has no key for them. What goes
// into the log is a blinded hash.
//
// One process has a directory for itself, or several share a database: then all
// take records on, and one at a time has the log role and one the vault role
// (lead.go).
//
// Not here: opening identities and finding people twice (package vault),
// deciding whom to trust (package policy: signed by the authority, distributed
// as it is).
package registry

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/mod/sumdb/note"

	"enrollkiosk/registry/api"
	"enrollkiosk/registry/checkpoint"
	"enrollkiosk/registry/internal/keyfile"
	"enrollkiosk/registry/internal/lock"
	"enrollkiosk/registry/issuer"
	"enrollkiosk/registry/parcel"
	"enrollkiosk/registry/policy"
	"enrollkiosk/registry/receipt"
)

// ErrPolicy means that the policy is not for this registry: it names another
// log, another kiosk authority or another verdict key.
var ErrPolicy = errors.New("the policy is not for this registry: sign one with this registry's public.json")

// Options of Open.
type Options struct {
	Dir    string        // made by Init
	Root   [32]byte      // hash of the authority's root key
	Policy policy.Signed // in force, under Root; distributed as it is
	Vault  VaultLink     //

	// Witnesses of the policy, to be asked for their cosignatures: as many as its
	// quorum at least.
	Witnesses []WitnessLink

	// Database is the postgres:// address of a database that several registries
	// may share; empty: everything is in Dir.
	Database string
	// Roles are those that this process may have; nil: all. Whoever may have the log
	// role has the log in Dir, and serves it.
	Roles []Role
	// Production refuses every record that rests on a root of class test.
	Production bool
	// CheckpointInterval is how often the log may publish a checkpoint, at least
	// and by default 200 ms. Receipts wait for one.
	CheckpointInterval time.Duration
	// Connections are open at most at once, ConnectionsPerAddress from one address;
	// 512 and 384 by default.
	Connections, ConnectionsPerAddress int
	// CancelDelay is how long a cancel code suspends before it revokes; default
	// DefaultCancelDelay.
	CancelDelay time.Duration
	// StatusInterval is the time between two status lists of the issuer of credentials;
	// default 1h. There are StatusLists of them, of StatusSize credentials each: 4 of
	// 2^20 by default, and never fewer than there were.
	StatusInterval time.Duration
	StatusLists    uint8
	StatusSize     uint32
	Now            func() time.Time // default time.Now
	Log            *slog.Logger     // default: none
}

const leastCheckpoint = 200 * time.Millisecond

// VaultLink is where the vault is and what proves it.
type VaultLink struct {
	URL  string // https
	Root []byte // of its TLS certificate, DER
}

// Registry is an open registry. Serve runs it.
type Registry struct {
	opts      Options
	check     check
	origin    string
	verdict   keyfile.Key
	server    tls.Certificate
	client    tls.Certificate // shown to the vault
	limits    limits
	metrics   *metrics
	exchange  []parcel.PrivateKey
	kiosks    Kiosks
	activity  activities
	store     store
	outbox    outbox        // the store
	signers   []note.Signer // of the log, the present key first
	witnesses *witnesses
	logging   leading
	vault     *vaultRole
	files     logFiles
	dir       *lock.Lock
	closed    sync.Once

	provisioning *provisioning
	provisions   chan struct{} // places of provisioning
	cancels      *limiter
	issues       *limiter
	issuer       *issuer.Issuer // nil: the policy names none
	heard        contacts
}

// Open opens a registry's directory. One process at a time can. Registries that
// share a database have a directory each, with the same keys.
func Open(ctx context.Context, o Options) (*Registry, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.CancelDelay == 0 {
		o.CancelDelay = DefaultCancelDelay
	}
	o.CheckpointInterval = max(o.CheckpointInterval, leastCheckpoint)
	r := &Registry{opts: o, logging: newLeading(), limits: defaultLimits(), cancels: newLimiter(cancelsOfOne, cancelsOfAll), issues: newLimiter(issuesOfOne, issuesOfAll), provisions: make(chan struct{}, maxProvisions)}
	if o.Connections > 0 {
		r.limits.connections = o.Connections
	}
	if o.ConnectionsPerAddress > 0 {
		r.limits.perAddress = o.ConnectionsPerAddress
	}
	r.metrics = newMetrics(r)
	var err error
	pub, err := ReadPublic(o.Dir)
	if err != nil {
		return nil, err
	}
	r.origin = pub.Origin
	if r.exchange, err = exchangeKeys(o.Dir); err != nil {
		return nil, err
	}
	if err := ours(o.Policy, pub, r.exchange); err != nil {
		return nil, err
	}
	if r.verdict, err = verdictKey(o.Dir, o.Policy); err != nil {
		return nil, err
	}
	if r.server, err = keyfile.TLS(o.Dir, keyfile.Latest(o.Dir, nameServer)); err != nil {
		return nil, err
	}
	if r.client, err = keyfile.TLS(o.Dir, nameVault); err != nil {
		return nil, err
	}
	if r.signers, err = logSigners(o.Dir, o.Policy.Policy().Log()); err != nil {
		return nil, err
	}
	var watched checkpoint.Log
	if r.may(RoleLog) {
		watched = o.Policy.Policy().Log()
	}
	if r.witnesses, err = newWitnesses(o.Witnesses, watched, o.Log); err != nil {
		return nil, err
	}
	if r.dir, err = lockDir(o.Dir); err != nil {
		return nil, err
	}
	st, err := openStore(ctx, o, r.origin)
	if err != nil {
		return nil, errors.Join(err, r.dir.Close())
	}
	r.store, r.outbox = st, st
	r.kiosks = Kiosks{dir: o.Dir, store: st}.Under(o.Policy.Policy())
	r.activity = activities{st, o.Log}
	if err := r.prepare(ctx); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

func (r *Registry) prepare(ctx context.Context) (err error) {
	p := r.opts.Policy.Policy()
	if err := r.loadPolicies(ctx); err != nil {
		return err
	}
	if r.provisioning, err = newProvisioning(r.kiosks, r.store, p, r.opts.Now); err != nil {
		return err
	}
	if r.may(RoleLog) {
		if r.files, err = openLogFiles(r.logDir()); err != nil {
			return err
		}
	}
	if r.vault, err = newVaultRole(r.opts.Vault, r.client, p.VerdictKeys.Vault, r.store, r.opts.Log); err != nil {
		return err
	}
	r.issuer, err = r.openIssuer(ctx)
	return err
}

// openStore opens the store that o asks for.
func openStore(ctx context.Context, o Options, origin string) (store, error) {
	if o.Database == "" {
		return openEmbedded(o.Dir)
	}
	return openPostgres(ctx, o, origin)
}

// lockDir keeps other processes out of a directory until the lock is closed.
func lockDir(dir string) (*lock.Lock, error) {
	l, err := lock.Dir(dir)
	if errors.Is(err, lock.ErrHeld) {
		return nil, errStoreBusy
	}
	return l, err
}

// Close releases the directory. Serve must have returned.
func (r *Registry) Close() (err error) {
	r.closed.Do(func() {
		if r.files.root != nil {
			err = r.files.root.Close()
		}
		err = errors.Join(err, r.store.Close(), r.dir.Close())
	})
	return err
}

// ReadPublic reads the public keys of the registry in dir.
func ReadPublic(dir string) (api.RegistryKeys, error) {
	b, err := os.ReadFile(filepath.Join(dir, FilePublic))
	if err != nil {
		return api.RegistryKeys{}, fmt.Errorf("registry's public keys: %w", err)
	}
	return api.ParseKeys[api.RegistryKeys](b)
}

// ours refuses a policy that would have kiosks trust another registry.
func ours(s policy.Signed, pub api.RegistryKeys, exchange []parcel.PrivateKey) error {
	if !s.Valid() {
		return fmt.Errorf("%w: there is none", ErrPolicy)
	}
	p := s.Policy()
	is := func(der []byte) func(policy.Root) bool {
		return func(r policy.Root) bool { return slices.Equal(r.Certificate, der) }
	}
	switch {
	case p.LogOrigin != pub.Origin || !namesLog(p, pub):
		return fmt.Errorf("%w: log key", ErrPolicy)
	case !slices.ContainsFunc(append([][]byte{pub.KioskCA}, pub.EarlierKioskCAs...), func(ca []byte) bool { return slices.ContainsFunc(p.KioskCA, is(ca)) }):
		return fmt.Errorf("%w: kiosk authority", ErrPolicy)
	case !slices.ContainsFunc(append([][]byte{pub.TLSRoot}, pub.EarlierTLSRoots...), func(root []byte) bool { return slices.ContainsFunc(p.RegistryTLS, is(root)) }):
		return fmt.Errorf("%w: tls root", ErrPolicy)
	case slices.ContainsFunc(p.Exchange, func(k parcel.Key) bool { return !holds(exchange, k) }):
		return fmt.Errorf("%w: exchange key", ErrPolicy)
	case len(p.VerdictKeys.Vault) == 0:
		return fmt.Errorf("%w: no vault's verdict key", ErrPolicy)
	}
	return nil
}

// loadPolicies remembers the policy in force and prepares all that ever were:
// records name the one that they were made under.
func (r *Registry) loadPolicies(ctx context.Context) error {
	current := r.opts.Policy
	kept, err := r.store.Policies(ctx)
	if err != nil {
		return fmt.Errorf("load policies: %w", err)
	}
	r.check = check{origin: r.origin, production: r.opts.Production, rules: map[[32]byte]*rules{}}
	since := r.now()
	for _, k := range kept {
		old, err := current.ParseEarlier(k.signed)
		if err != nil {
			old, err = policy.Parse(k.signed, r.opts.Root)
		}
		if err != nil {
			r.opts.Log.Warn("an earlier policy is of another root and not in force any more", "error", err)
			continue
		}
		if err := current.CheckSuccessor(old); err != nil {
			return fmt.Errorf("policy in force: %w", err)
		}
		if old.Digest() == current.Digest() {
			since = k.since
		}
		if r.check.rules[old.Digest()], err = newRules(old, k.since); err != nil {
			return fmt.Errorf("load policies: %w", err)
		}
	}
	if r.check.rules[current.Digest()], err = newRules(current, since); err != nil {
		return fmt.Errorf("policy in force: %w", err)
	}
	for _, known := range r.check.rules {
		r.check.revoked = append(r.check.revoked, known.policy.Revocations())
	}
	return r.store.KeepPolicy(ctx, current.Digest(), current.Bytes(), since)
}

// Origin is the log's origin, the audience of every record.
func (r *Registry) Origin() string { return r.origin }

// take decides the items of a batch and stores what it takes on. An item with an
// error is not decided: the error says nothing about it, and it may be sent again.
func (r *Registry) take(ctx context.Context, items []api.Item, sender Kiosk) []taken {
	out := make([]taken, len(items))
	ids := make([][32]byte, len(items))
	for i, item := range items {
		out[i].verdict = api.ItemVerdict{ID: item.ID, Status: api.Pending}
		ids[i] = item.ID
	}
	known, err := r.store.Status(ctx, sender.ID, ids...)
	if err != nil {
		return undecided(out, err)
	}
	each(len(items), func(i int) {
		if status, held := known[items[i].ID]; held {
			out[i].verdict, out[i].held = status.answer(items[i].ID), true
			return
		}
		out[i].entry, out[i].err = r.check.submission(items[i].Submission, items[i].ID, sender, r.opts.Now())
	})
	// Rejected records first: those after them in the chain must find their places taken.
	r.reject(ctx, sender, out)
	var entries []entry
	var of []int // the items that entries are of
	for i, t := range out {
		if !t.held && t.err == nil {
			entries, of = append(entries, t.entry), append(of, i)
		}
	}
	if len(entries) == 0 {
		return out
	}
	stored, err := r.store.Add(ctx, entries)
	for n, i := range of {
		if err != nil {
			out[i].err = err
		} else if out[i].err = stored[n].refused; out[i].err == nil {
			out[i].held = true
			r.takenOn(ctx, sender, entries[n], stored[n])
		}
	}
	r.reject(ctx, sender, out)
	return out
}

// taken is what came of an item.
type taken struct {
	verdict api.ItemVerdict
	held    bool // the verdict says what is kept
	err     error
	entry   entry // with its place in the chain, if that is proved, also where err refuses it
}

func undecided(out []taken, err error) []taken {
	for i := range out {
		out[i].err = err
	}
	return out
}

// each runs f for 0 to n-1 on all processors.
func each(n int, f func(i int)) {
	var next atomic.Int64
	var working sync.WaitGroup
	for range min(n, runtime.GOMAXPROCS(0)) {
		working.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				f(i)
			}
		})
	}
	working.Wait()
}

// takenOn does what follows from a record that was stored.
func (r *Registry) takenOn(ctx context.Context, sender Kiosk, e entry, done added) {
	// Above the quota is for people to look at: the citizen must not pay for it.
	if e.quota > 0 && done.approved > e.quota {
		if err := r.activity.alarm(ctx, sender.ID, Alarm{OverQuota, e.approval.day, e.approval.officer, done.approved, r.now()}); err != nil {
			r.opts.Log.Error("alarm not kept", "kiosk", sender.ID, "error", err)
		}
	}
	if done.gap {
		missing, err := r.store.Gaps(ctx, sender.ID, sender.Counter)
		r.opts.Log.Warn("gap in a kiosk's sequence", "kiosk", sender.ID, "missing", missing, "error", err)
	}
	rec := e.submission.Record()
	r.opts.Log.Info("record taken on", "record", api.ID(rec.ID()), "kiosk", sender.ID, "purpose", rec.Payload().Context.Purpose)
	wake(r.logging.kick)
	if e.personal {
		wake(r.vault.kick)
	}
}

// reject signs refusals for good and keeps them: what has an error with a code.
// What is kept is kept for its sender alone: nobody can have another kiosk's
// record refused beforehand.
func (r *Registry) reject(ctx context.Context, sender Kiosk, out []taken) {
	refused := map[[32]byte]rejection{}
	for i := range out {
		t := &out[i]
		code := codeOf(t.err)
		if code == "" {
			continue
		}
		if sender.Revoked != nil && t.entry.number == 0 {
			// Nothing is kept of what a revoked kiosk sends, but for what its TPM has signed.
			t.err = errRevoked
			continue
		}
		id := t.verdict.ID
		b, err := receipt.SignVerdict(ctx, receipt.Verdict{Record: id, Status: receipt.Rejected, Code: code, Time: r.now()}, r.verdict)
		if err != nil {
			t.err = fmt.Errorf("sign rejection: %w", err)
			continue
		}
		one := rejection{decision: decision{Status: api.Rejected, Code: code, Verdict: string(b)}, number: t.entry.number, link: t.entry.link}
		var fork *forkError
		if errors.As(t.err, &fork) {
			one.fork = &fork.Fork
			r.opts.Log.Error("alarm", "kind", "fork", "kiosk", sender.ID, "number", fork.Number, "record", fork.Record, "held", fork.Held, "code", code)
		}
		r.opts.Log.Warn("record rejected", "record", t.verdict.ID, "kiosk", sender.ID, "code", code, "error", t.err)
		refused[id] = one
	}
	if len(refused) == 0 {
		return
	}
	kept, err := r.store.Reject(ctx, sender.ID, refused)
	for i := range out {
		t := &out[i]
		if _, is := refused[t.verdict.ID]; !is {
			continue
		}
		if t.err = err; err == nil {
			t.verdict, t.held = status{decision: kept[t.verdict.ID]}.answer(t.verdict.ID), true
		}
	}
}

// errRevoked says nothing about an item: another kiosk may send it.
var errRevoked = errors.New("the kiosk is revoked")

func (r *Registry) now() time.Time { return r.opts.Now().UTC().Truncate(time.Second) }

// answer to POST.
func (s status) answer(id api.ID) api.ItemVerdict {
	v := api.ItemVerdict{ID: id, Status: api.Pending}
	switch {
	case s.decision.Status == api.Rejected:
		v.Status, v.Code, v.Verdict = api.Rejected, s.decision.Code, s.decision.Verdict
	case s.receipt != nil:
		v.Status = api.Accepted
	}
	return v
}

// wake tells a role that there is work; it does not wait.
func wake(kick chan struct{}) {
	select {
	case kick <- struct{}{}:
	default:
	}
}
