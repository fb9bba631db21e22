// Package registry takes enrollment records on: it verifies what it can see,
// stores each record once, logs it, and gives a receipt that anyone can verify.
//
// The way of a record:
//
//	POST /v1/records  form, signatures, signers, attestation, policy   (check.go)
//	store             record and outboxes in one transaction           (store.go)
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
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/mod/sumdb/note"

	"enrollkiosk/registry/api"
	"enrollkiosk/registry/internal/keyfile"
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

	// Production refuses every record that rests on a root of class test.
	Production bool
	// CheckpointInterval is how often the log may publish a checkpoint, at least
	// and by default 200 ms. Receipts wait for one.
	CheckpointInterval time.Duration
	Now                func() time.Time // default time.Now
	Log                *slog.Logger     // default: none
}

const leastCheckpoint = 200 * time.Millisecond

// VaultLink is where the vault is and what proves it.
type VaultLink struct {
	URL  string // https
	Root []byte // of its TLS certificate, DER
}

// Registry is an open registry. Serve runs it.
type Registry struct {
	opts     Options
	check    check
	origin   string
	verdict  keyfile.Key
	server   tls.Certificate
	kiosks   Kiosks
	activity *activities
	store    store
	logRole  *logRole
	vault    *vaultRole
	files    logFiles
	closed   sync.Once

	provisioning *provisioning
}

// Open opens a registry's directory. One process at a time can.
func Open(ctx context.Context, o Options) (*Registry, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	o.CheckpointInterval = max(o.CheckpointInterval, leastCheckpoint)
	r := &Registry{opts: o, kiosks: KiosksIn(o.Dir)}
	var err error
	if r.verdict, err = keyfile.Read(filepath.Join(o.Dir, fileVerdict)); err != nil {
		return nil, err
	}
	if r.server, err = keyfile.TLS(o.Dir, nameServer); err != nil {
		return nil, err
	}
	client, err := keyfile.TLS(o.Dir, nameVault)
	if err != nil {
		return nil, err
	}
	pub, err := ReadPublic(o.Dir)
	if err != nil {
		return nil, err
	}
	if r.provisioning, err = newProvisioning(r.kiosks, o.Policy.Policy(), o.Now); err != nil {
		return nil, err
	}
	r.origin = pub.Origin
	if err := ours(o.Policy, pub); err != nil {
		return nil, err
	}
	signer, err := logSigner(o.Dir)
	if err != nil {
		return nil, err
	}
	st, err := openStore(filepath.Join(o.Dir, fileStore))
	if err != nil {
		return nil, err
	}
	r.store = st
	if err := r.loadPolicies(ctx); err != nil {
		return nil, errors.Join(err, st.Close())
	}
	if r.activity, err = openActivities(o.Dir, o.Log); err != nil {
		return nil, errors.Join(err, st.Close())
	}
	logDir := filepath.Join(o.Dir, dirLog)
	if r.logRole, err = openLog(logDir, signer, o.Policy.Policy().Log(), o.Witnesses, o.CheckpointInterval, st, o.Log); err != nil {
		return nil, errors.Join(err, st.Close())
	}
	if r.files.root, err = os.OpenRoot(logDir); err == nil {
		r.vault, err = newVaultRole(o.Vault, client, o.Policy.Policy().VerdictKeys.Vault, st, o.Log)
	}
	if err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

// Close releases the directory. Serve must have returned.
func (r *Registry) Close() (err error) {
	r.closed.Do(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		err = r.logRole.stop(ctx)
		if r.files.root != nil {
			err = errors.Join(err, r.files.root.Close())
		}
		err = errors.Join(err, r.store.Close())
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

func logSigner(dir string) (note.Signer, error) {
	b, err := os.ReadFile(filepath.Join(dir, fileLogKey))
	if err != nil {
		return nil, fmt.Errorf("read log key: %w", err)
	}
	signer, err := note.NewSigner(strings.TrimSpace(string(b)))
	if err != nil {
		return nil, errors.New("read log key: the file holds none") // the cause could quote it
	}
	return signer, nil
}

// ours refuses a policy that would have kiosks trust another registry.
func ours(s policy.Signed, pub api.RegistryKeys) error {
	if !s.Valid() {
		return fmt.Errorf("%w: there is none", ErrPolicy)
	}
	p := s.Policy()
	is := func(der []byte) func(policy.Root) bool {
		return func(r policy.Root) bool { return slices.Equal(r.Certificate, der) }
	}
	switch {
	case p.LogOrigin != pub.Origin || p.LogKey != pub.LogKey:
		return fmt.Errorf("%w: log key", ErrPolicy)
	case !slices.ContainsFunc(p.KioskCA, is(pub.KioskCA)):
		return fmt.Errorf("%w: kiosk authority", ErrPolicy)
	case !slices.ContainsFunc(p.RegistryTLS, is(pub.TLSRoot)):
		return fmt.Errorf("%w: tls root", ErrPolicy)
	case !slices.ContainsFunc(p.VerdictKeys.Registry, pub.VerdictKey.Equal):
		return fmt.Errorf("%w: verdict key", ErrPolicy)
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
	for _, b := range kept {
		old, err := policy.Parse(b, r.opts.Root)
		if err != nil {
			r.opts.Log.Warn("an earlier policy is of another root and not in force any more", "error", err)
			continue
		}
		if err := current.CheckSuccessor(old.Policy().Version, old.Digest()); err != nil {
			return fmt.Errorf("policy in force: %w", err)
		}
		if r.check.rules[old.Digest()], err = newRules(old); err != nil {
			return fmt.Errorf("load policies: %w", err)
		}
	}
	if r.check.rules[current.Digest()], err = newRules(current); err != nil {
		return fmt.Errorf("policy in force: %w", err)
	}
	for _, known := range r.check.rules {
		r.check.revoked = append(r.check.revoked, known.policy.Revocations())
	}
	return r.store.KeepPolicy(ctx, current.Digest(), current.Bytes())
}

// Origin is the log's origin, the audience of every record.
func (r *Registry) Origin() string { return r.origin }

// take decides one item of a batch and stores what it takes on. The error says
// nothing about the item: it may be sent again.
func (r *Registry) take(ctx context.Context, item api.Item, sender Kiosk) (api.ItemVerdict, error) {
	answer := api.ItemVerdict{ID: item.ID, Status: api.Pending}
	known, err := r.store.Status(ctx, sender.ID, item.ID)
	switch {
	case err == nil:
		return known.answer(item.ID), nil
	case !errors.Is(err, errNotHeld):
		return answer, err
	}
	e, err := r.check.submission(item.Submission, item.ID, sender, r.opts.Now())
	var done added
	if err == nil {
		done, err = r.store.Add(ctx, e)
	}
	if code := codeOf(err); code != "" {
		rejected, err := r.reject(ctx, sender.ID, item.ID, code)
		if err != nil {
			return answer, err
		}
		r.opts.Log.Warn("record rejected", "record", item.ID, "kiosk", sender.ID, "code", rejected.Code)
		return status{decision: rejected}.answer(item.ID), nil
	}
	if err != nil {
		return answer, err
	}
	// Above the quota is for people to look at: the citizen must not pay for it.
	if e.quota > 0 && done.approved > e.quota {
		if err := r.activity.alarm(sender.ID, Alarm{OverQuota, e.approval.day, e.approval.officer, done.approved, r.now()}); err != nil {
			r.opts.Log.Error("alarm not kept", "kiosk", sender.ID, "error", err)
		}
	}
	if done.gap {
		missing, err := r.store.Gaps(ctx, sender.ID, sender.Counter)
		r.opts.Log.Warn("gap in a kiosk's sequence", "kiosk", sender.ID, "missing", missing, "error", err)
	}
	r.opts.Log.Info("record taken on", "record", item.ID, "kiosk", sender.ID, "purpose", e.submission.Record().Payload().Context.Purpose)
	wake(r.logRole.kick)
	if e.personal {
		wake(r.vault.kick)
	}
	return answer, nil
}

// reject signs a refusal for good and keeps it. What is kept is kept for its
// sender alone: nobody can have another kiosk's record refused beforehand.
func (r *Registry) reject(ctx context.Context, sender string, id [32]byte, code string) (decision, error) {
	b, err := receipt.SignVerdict(ctx, receipt.Verdict{Record: id, Status: receipt.Rejected, Code: code, Time: r.now()}, r.verdict)
	if err != nil {
		return decision{}, fmt.Errorf("sign rejection: %w", err)
	}
	return r.store.Reject(ctx, sender, id, decision{Status: api.Rejected, Code: code, Verdict: string(b)})
}

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
