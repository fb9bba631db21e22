package registry

import (
	"bytes"
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"enrollkiosk/registry/api"
	"enrollkiosk/registry/internal/keyfile"
	"enrollkiosk/registry/receipt"
)

// embedded is the store of a registry that runs alone: records in bbolt, the
// register and the reports in files that other processes can read, and sessions
// of provisioning in memory: a kiosk that comes back to none begins again.
type embedded struct {
	*boltStore
	files
	*activityFiles
	*memorySessions
}

func openEmbedded(dir string) (*embedded, error) {
	db, err := openBolt(filepath.Join(dir, fileStore))
	if err != nil {
		return nil, err
	}
	activity, err := openActivities(dir)
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return &embedded{db, files{dir}, activity, &memorySessions{}}, nil
}

// Lead runs f at once: no other process has this directory.
func (*embedded) Lead(ctx context.Context, _ Role, f func(ctx context.Context, term uint64) error) error {
	return f(ctx, 0)
}

// files is the register in a registry's directory: one file for each kiosk, so
// that it can be read and changed while the registry serves; one more for each
// code.
type files struct{ dir string }

func (f files) kiosk(id string) string     { return filepath.Join(f.dir, dirKiosks, id+".json") }
func (f files) provision(id string) string { return filepath.Join(f.dir, dirProvisions, id+".json") }

func (f files) Kiosks(ctx context.Context) ([]Kiosk, error) {
	return list(ctx, filepath.Join(f.dir, dirKiosks), f.Kiosk)
}

func (f files) Provisions(ctx context.Context) ([]Provision, error) {
	return list(ctx, filepath.Join(f.dir, dirProvisions), f.Provision)
}

func list[T any](ctx context.Context, dir string, find func(ctx context.Context, id string) (T, error)) ([]T, error) {
	entries, err := os.ReadDir(dir) // sorted by name
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("list kiosks: %w", err)
	}
	var out []T
	for _, e := range entries {
		id, ok := strings.CutSuffix(e.Name(), ".json")
		if !ok || strings.HasPrefix(id, ".") {
			continue
		}
		one, err := find(ctx, id)
		if err != nil {
			return nil, err
		}
		out = append(out, one)
	}
	return out, nil
}

func (f files) Kiosk(_ context.Context, id string) (Kiosk, error) {
	var kiosk Kiosk
	err := read(f.kiosk(id), id, &kiosk)
	if err == nil && kiosk.ID != id {
		err = fmt.Errorf("read kiosk: %s is of another kiosk", f.kiosk(id))
	}
	if err != nil {
		return Kiosk{}, err
	}
	return kiosk, nil
}

func (f files) Provision(_ context.Context, id string) (Provision, error) {
	var p Provision
	err := read(f.provision(id), id, &p)
	if err == nil && p.ID != id {
		err = fmt.Errorf("read provisioning: %s is of another kiosk", f.provision(id))
	}
	if err != nil {
		return Provision{}, err
	}
	return p, nil
}

func read(file, id string, v any) error {
	if !api.ValidKioskID(id) {
		return ErrUnknownKiosk
	}
	b, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%s: %w", id, ErrUnknownKiosk)
	}
	if err != nil {
		return fmt.Errorf("read kiosk: %w", err)
	}
	if err := decodeStrict(b, v); err != nil {
		return fmt.Errorf("read kiosk: %s is damaged: %w", file, err)
	}
	return nil
}

// decodeStrict reads what this registry wrote: one JSON value of known members.
func decodeStrict(b []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return err
	}
	if _, err := d.Token(); err != io.EOF {
		return errors.New("trailing data")
	}
	return nil
}

func write(file string, v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		panic(err) // plain data always encodes
	}
	return keyfile.Replace(file, append(b, '\n'), 0o600)
}

func (f files) ChangeKiosk(ctx context.Context, id string, change func(*standing) error) error {
	return f.locked(func() error {
		var s standing
		if kiosk, err := f.Kiosk(ctx, id); err == nil {
			s.kiosk = &kiosk
		} else if !errors.Is(err, ErrUnknownKiosk) {
			return err
		}
		if p, err := f.Provision(ctx, id); err == nil {
			s.provision = &p
		} else if !errors.Is(err, ErrUnknownKiosk) {
			return err
		}
		if err := change(&s); err != nil {
			return err
		}
		// In this order: an approval that is cut short is asked for again.
		if s.kiosk != nil {
			if err := write(f.kiosk(id), s.kiosk); err != nil {
				return err
			}
		}
		if s.provision == nil {
			return nil
		}
		if err := os.MkdirAll(filepath.Join(f.dir, dirProvisions), 0o700); err != nil {
			return fmt.Errorf("keep code: %w", err)
		}
		return write(f.provision(id), s.provision)
	})
}

// locked runs f while no other process changes the register.
func (f files) locked(do func() error) error {
	l, err := os.OpenFile(filepath.Join(f.dir, dirKiosks, ".lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("lock register: %w", err)
	}
	defer l.Close() // ends the lock
	if err := syscall.Flock(int(l.Fd()), syscall.LOCK_EX); err != nil {
		return fmt.Errorf("lock register: %w", err)
	}
	return do()
}

// readActivities reads what every kiosk reported from a registry's directory: one
// file for each.
func readActivities(dir string) ([]KioskActivity, error) {
	dir = filepath.Join(dir, dirActivity)
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("list activity: %w", err)
	}
	var out []KioskActivity
	for _, e := range entries {
		id, ok := strings.CutSuffix(e.Name(), ".json")
		if !ok || !api.ValidKioskID(id) {
			continue
		}
		var k KioskActivity
		if err := read(filepath.Join(dir, e.Name()), id, &k); err != nil {
			return nil, fmt.Errorf("activity: %w", err)
		}
		if k.Kiosk != id {
			return nil, fmt.Errorf("activity: %s is damaged: it speaks of another kiosk", e.Name())
		}
		out = append(out, k)
	}
	slices.SortFunc(out, func(a, b KioskActivity) int { return strings.Compare(a.Kiosk, b.Kiosk) })
	return out, nil
}

// activityFiles are the reports of a registry that serves: it alone writes them,
// and keeps them in memory besides.
type activityFiles struct {
	dir    string
	mu     sync.Mutex
	kiosks map[string]KioskActivity
}

func openActivities(dir string) (*activityFiles, error) {
	a := &activityFiles{dir: filepath.Join(dir, dirActivity), kiosks: map[string]KioskActivity{}}
	if err := os.Mkdir(a.dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, fmt.Errorf("activity: %w", err)
	}
	list, err := readActivities(dir)
	if err != nil {
		return nil, err
	}
	for _, k := range list {
		a.kiosks[k.Kiosk] = k
	}
	return a, nil
}

func (a *activityFiles) Activities(context.Context) ([]KioskActivity, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	var out []KioskActivity
	for _, k := range a.kiosks {
		out = append(out, k)
	}
	slices.SortFunc(out, func(a, b KioskActivity) int { return strings.Compare(a.Kiosk, b.Kiosk) })
	return out, nil
}

func (a *activityFiles) ChangeActivity(_ context.Context, kiosk string, about []receipt.ActivityEntry, f func(*KioskActivity, []tally)) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	others := make([]tally, len(about))
	for id, k := range a.kiosks {
		if id == kiosk {
			continue
		}
		for n, e := range about {
			if i, found := slices.BinarySearchFunc(k.Entries, e, receipt.ActivityEntry.Compare); found {
				others[n].add(k.Entries[i])
			}
		}
	}
	k := a.kiosks[kiosk]
	k.Kiosk, k.Entries, k.Alarms = kiosk, slices.Clone(k.Entries), slices.Clone(k.Alarms)
	f(&k, others)
	if err := write(filepath.Join(a.dir, kiosk+".json"), k); err != nil {
		return fmt.Errorf("keep activity: %w", err)
	}
	a.kiosks[kiosk] = k
	return nil
}

// memorySessions keeps sessions of provisioning, oldest first.
type memorySessions struct {
	mu       sync.Mutex
	sessions []session
}

func (m *memorySessions) prune(now time.Time) {
	m.sessions = slices.DeleteFunc(m.sessions, func(s session) bool { return !now.Before(s.Ends) })
}

func (m *memorySessions) AddSession(_ context.Context, s session, now time.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.prune(now)
	same := func(o session) bool { return o.Kiosk.ID == s.Kiosk.ID }
	count := 0
	for _, o := range m.sessions {
		if same(o) {
			count++
		}
	}
	if count >= maxSessions {
		oldest := slices.IndexFunc(m.sessions, same)
		m.sessions = slices.Delete(m.sessions, oldest, oldest+1)
	}
	m.sessions = append(m.sessions, s)
	return nil
}

func (m *memorySessions) ChangeSession(_ context.Context, id api.ID, now time.Time, f func(*session) error) (session, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.prune(now)
	for i, s := range m.sessions {
		if subtle.ConstantTimeCompare(s.ID[:], id[:]) == 1 {
			if err := f(&s); err != nil {
				return session{}, err
			}
			m.sessions[i] = s
			return s, nil
		}
	}
	return session{}, errSessionOver
}
