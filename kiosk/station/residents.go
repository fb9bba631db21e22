package station

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"enrollkiosk/kiosk"
	"enrollkiosk/smartcard/prcid"
)

// residents is the module for resident identity cards on its serial port. The
// line is opened when it is needed and again after every failure: modules are
// unplugged, and come back.
type residents struct {
	port string
	ask  time.Duration // between two looks for a card

	mu     sync.Mutex // one command at a time on the line
	module *prcid.Module
	found  bool // a card was found and selected, and not read yet
}

func newResidents(c Config) *residents {
	if c.Resident.Port == "" {
		return nil
	}
	return &residents{port: c.Resident.Port, ask: 700 * time.Millisecond}
}

// use runs f on the open line.
func (r *residents) use(ctx context.Context, f func(*prcid.Module) error) (err error) {
	if r.module == nil {
		if r.module, err = prcid.Open(ctx, r.port, prcid.Options{}); err != nil {
			r.module = nil
			return fmt.Errorf("%w: %w", prcid.ErrNoAnswer, err)
		}
	}
	err = f(r.module)
	var status prcid.Status
	if err != nil && !errors.As(err, &status) { // not the module's word: the line's
		r.module.Close()
		r.module = nil
	}
	return err
}

// look asks for a card. One that was found stays found until it is read: the
// module does not find the same card twice.
func (r *residents) look(ctx context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.found {
		return nil
	}
	err := r.use(ctx, func(m *prcid.Module) error { return m.Find(ctx) })
	r.found = err == nil
	return err
}

// Present implements kiosk.Residents.
func (r *residents) Present() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.found
}

// Read implements kiosk.Residents.
func (r *residents) Read(ctx context.Context, progress func(prcid.Progress)) (doc prcid.Document, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.found = false
	err = r.use(ctx, func(m *prcid.Module) error {
		doc, err = m.Read(ctx, progress)
		return err
	})
	return doc, err
}

// watch shows a card on the module as one on the document's reader, and a module
// that does not answer as a reader that is missing where there is no other.
func (r *residents) watch(ctx context.Context, states <-chan map[kiosk.Device]kiosk.ReaderState) <-chan map[kiosk.Device]kiosk.ReaderState {
	out := make(chan map[kiosk.Device]kiosk.ReaderState, 1)
	go func() {
		defer close(out)
		tick := time.NewTicker(r.ask)
		defer tick.Stop()
		var cards map[kiosk.Device]kiosk.ReaderState
		shown := false
		for {
			found := false
			select {
			case s, ok := <-states:
				if !ok {
					return
				}
				cards = s
				found = r.Present()
			case <-tick.C:
				limited, cancel := context.WithTimeout(ctx, prcid.DefaultTimeout)
				found = r.look(limited) == nil
				cancel()
				if cards == nil || found == shown {
					continue
				}
			case <-ctx.Done():
				return
			}
			shown = found
			merged := map[kiosk.Device]kiosk.ReaderState{}
			for d, s := range cards {
				merged[d] = s
			}
			if found {
				merged[kiosk.DeviceDocument] = kiosk.ReaderCard
			}
			select { // only the newest matters; this goroutine alone writes
			case <-out:
			default:
			}
			out <- merged
		}
	}()
	return out
}

// ResidentModule finds a card on the configured module, for an inspection by hand.
func ResidentModule(ctx context.Context, c Config) (*residents, error) {
	r := newResidents(c)
	if r == nil {
		return nil, fmt.Errorf("resident.port of the configuration names no module: %w", prcid.ErrNoAnswer)
	}
	for {
		err := r.look(ctx)
		if !errors.Is(err, prcid.ErrNoCard) {
			return r, err
		}
		select {
		case <-time.After(r.ask):
		case <-ctx.Done():
			return nil, prcid.ErrNoCard
		}
	}
}
