package station

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"enrollkiosk/kiosk"
	"enrollkiosk/registry/policy"
)

// policyFile is the newest policy that verified, kept in the state directory.
const policyFile = "policy.jws"

// policies keeps the newest policy: signed by the pinned root, never older than
// one before it.
type policies struct {
	file string // where to keep it; "" to keep nothing
	root [32]byte
	mu   sync.Mutex
	now  policy.Signed
}

// readPolicies reads the stored policy and the configured one; the newer one is
// in force. It writes nothing.
func readPolicies(c Config) (*policies, error) {
	root, err := c.rootHash()
	if err != nil {
		return nil, err
	}
	p := &policies{root: root}
	for _, file := range []string{c.in(policyFile), c.Trust.Policy} {
		if file == "" {
			continue
		}
		b, err := os.ReadFile(file)
		if errors.Is(err, os.ErrNotExist) && (file != c.Trust.Policy || p.now.Valid()) {
			continue
		}
		if err != nil {
			return nil, &ConfigError{File: file, Err: fmt.Errorf("trust.policy: %w", err)}
		}
		if err := p.take(b); err != nil && !errors.Is(err, policy.ErrRollback) {
			return nil, fmt.Errorf("policy %s: %w", file, err)
		}
	}
	return p, nil
}

// openPolicies is readPolicies that keeps what is in force, now and later: a
// policy once seen is never followed by an older one.
func openPolicies(c Config) (*policies, error) {
	p, err := readPolicies(c)
	if err != nil {
		return nil, err
	}
	p.file = c.in(policyFile)
	if p.now.Valid() {
		if err := replaceFile(p.file, p.now.Bytes()); err != nil {
			return nil, fmt.Errorf("store policy: %w", err)
		}
	}
	return p, nil
}

// take verifies a policy, keeps it durably and puts it in force. A policy that
// is in force already is no error.
func (p *policies) take(b []byte) error {
	s, err := policy.Parse(b, p.root)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.now.Valid() {
		if err := s.CheckSuccessor(p.now); err != nil {
			return err
		}
		if s.Digest() == p.now.Digest() {
			return nil
		}
	}
	if p.file != "" {
		if err := replaceFile(p.file, s.Bytes()); err != nil {
			return fmt.Errorf("store policy: %w", err)
		}
	}
	p.now = s
	return nil
}

// current is the policy in force, for delivering under: it may have expired.
func (p *policies) current() (policy.Signed, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.now.Valid() {
		return policy.Signed{}, kiosk.ErrPolicy
	}
	return p.now, nil
}

// usable is the policy in force, when an enrollment made under it now would not
// be rejected for its time later. Errors wrap kiosk.ErrPolicy, kiosk.ErrClock or
// kiosk.ErrOffline.
func (p *policies) usable(r reading) (policy.Signed, error) {
	s, err := p.current()
	if err != nil {
		return s, err
	}
	if err := checkClock(r); err != nil {
		return policy.Signed{}, err
	}
	limit := time.Duration(s.Policy().OfflineDays) * 24 * time.Hour
	if !r.Registry.IsZero() && r.Wall.Sub(r.Registry) > limit {
		return policy.Signed{}, fmt.Errorf("%w: last heard %s", kiosk.ErrOffline, r.Registry.Format(time.RFC3339))
	}
	return s, nil
}

// refresh asks the registry for a newer policy.
func (p *policies) refresh(ctx context.Context, fetch func(context.Context) ([]byte, error)) error {
	b, err := fetch(ctx)
	if err != nil {
		return err
	}
	return p.take(b)
}

// replaceFile makes file hold b, durably, or leaves it as it was.
func replaceFile(file string, b []byte) (err error) {
	dir := filepath.Dir(file)
	f, err := os.CreateTemp(dir, filepath.Base(file)+".*.tmp")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return err
	}
	if err := os.Rename(f.Name(), file); err != nil {
		return err
	}
	return syncDir(dir)
}

// syncDir makes the names in dir durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
