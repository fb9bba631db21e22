package registry

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"
)

// Role is what one process at a time does for all that share a store.
type Role string

const (
	RoleLog   Role = "log"   // appends to the log and makes receipts; needs the log's directory
	RoleVault Role = "vault" // takes identities to the vault
)

// leading is a role as this process has it.
type leading struct {
	kick    chan struct{} // there is work
	leads   *atomic.Bool  // it has the role
	failing *atomic.Bool  // and cannot do it
}

func newLeading() leading {
	return leading{make(chan struct{}, 1), new(atomic.Bool), new(atomic.Bool)}
}

const (
	leadPause = time.Second      // between tries to have a role
	stopWait  = 10 * time.Second // for what a role leaves behind
)

func (r *Registry) may(role Role) bool {
	return r.opts.Roles == nil || slices.Contains(r.opts.Roles, role)
}

// lead has this process take a role on whenever no other has it, until ctx ends.
func (r *Registry) lead(ctx context.Context, role Role, l leading, do func(ctx context.Context, term uint64) error) {
	if !r.may(role) {
		return
	}
	for {
		had := false
		err := r.store.Lead(ctx, role, func(ctx context.Context, term uint64) error {
			had = true
			l.leads.Store(true)
			defer l.leads.Store(false)
			r.opts.Log.Info("role taken on", "role", role, "term", term)
			return do(ctx, term)
		})
		if ctx.Err() != nil {
			return
		}
		l.failing.Store(err != nil)
		if had || err != nil {
			r.opts.Log.Warn("role not held, will be tried again", "role", role, "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(leadPause):
		}
	}
}

func (r *Registry) logDir() string { return filepath.Join(r.opts.Dir, dirLog) }

// errLogBusy means that the process that had the log role has not let go of the
// log's directory yet.
var errLogBusy = errors.New("another process still has the log's directory")

// runLog has the log role for a term.
func (r *Registry) runLog(ctx context.Context, term uint64) error {
	// Who lost the role without knowing it yet may still append: not to this
	// directory while it is locked.
	dir, err := lockDir(r.logDir())
	if errors.Is(err, errStoreBusy) {
		err = errLogBusy
	}
	if err != nil {
		return err
	}
	defer dir.Close() // ends the lock
	// It may be on a disk that others share.
	path, err := filepath.EvalSymlinks(r.logDir())
	if err != nil {
		return fmt.Errorf("open log: %w", err)
	}
	if err := r.outdated(ctx); err != nil {
		return err
	}
	l, err := openLog(path, r.signers, r.opts.Policy.Policy().Log(), r.witnesses, r.opts.CheckpointInterval, r.outbox, r.opts.Log)
	if err != nil {
		return err
	}
	l.leading, l.term = r.logging, term
	err = l.run(ctx)
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopWait)
	defer cancel()
	return errors.Join(err, l.stop(last))
}
