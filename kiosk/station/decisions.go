package station

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"slices"
	"sync"
	"time"

	"enrollkiosk/kiosk/durable"
	"enrollkiosk/registry/api"
	"enrollkiosk/registry/receipt"
	"enrollkiosk/sync/client"
	"enrollkiosk/sync/queue"
)

// decisionsFile keeps what has been decided about records that were delivered. What
// it loses is asked for again.
const decisionsFile = "decisions.json"

// Records are asked about for a month after their receipt: until something is
// decided, and once a day from then on, for a review may decide otherwise, and an
// identity may be suspended. As many as fit a request are asked about at once.
const (
	followFor       = 30 * 24 * time.Hour
	followInterval  = time.Hour
	decidedInterval = 24 * time.Hour
	followLimit     = 5000 // records, the newest
)

// Decision is what has been decided about a delivered record, as it was signed. It
// holds nothing personal.
type Decision struct {
	Status   api.Status     `json:"status"`             // active, refused or rejected
	Code     string         `json:"code,omitempty"`     // why it is not active
	Time     time.Time      `json:"time"`               // when it was decided
	Standing receipt.Status `json:"standing,omitempty"` // suspended or revoked since; "" while the identity holds
	Verdict  string         `json:"verdict"`            // signed
}

func (d Decision) String() string {
	s := string(d.Status)
	if d.Standing != "" {
		s += ", " + string(d.Standing) + " since"
	}
	if d.Code != "" {
		s += " " + d.Code
	}
	return s
}

// decisions are on one file, which is written whole when one has changed.
type decisions struct {
	file  string
	log   *slog.Logger
	mu    sync.Mutex
	known map[api.ID]Decision
	asked map[api.ID]time.Time // since the start
}

func openDecisions(c Config, log *slog.Logger) (*decisions, error) {
	d := &decisions{file: c.in(decisionsFile), log: log, known: map[api.ID]Decision{}, asked: map[api.ID]time.Time{}}
	b, err := os.ReadFile(d.file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return d, nil
	case err != nil:
		return nil, fmt.Errorf("decisions about delivered records: %w", err)
	}
	if err := strictly(b, &d.known); err != nil || d.known == nil {
		log.Warn("the file of decisions is damaged: they are asked for again", "file", d.file, "cause", err)
		d.known = map[api.ID]Decision{}
	}
	return d, nil
}

// of is what is known about a record; nil for nothing.
func (d *decisions) of(id api.ID) *Decision {
	d.mu.Lock()
	defer d.mu.Unlock()
	if known, ok := d.known[id]; ok {
		return &known
	}
	return nil
}

// due are the delivered records to ask about now. What was delivered too long ago
// is forgotten.
func (d *decisions) due(delivered []queue.Entry, now time.Time) (ids [][32]byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	still := map[api.ID]bool{}
	for _, e := range delivered {
		id := api.ID(e.ID)
		still[id] = true
		wait := time.Duration(0)
		if _, decided := d.known[id]; decided {
			wait = decidedInterval
		}
		if at, asked := d.asked[id]; !asked || now.Sub(at) >= wait || now.Before(at) { // the clock may have been set back
			ids = append(ids, id)
		}
	}
	maps.DeleteFunc(d.known, func(id api.ID, _ Decision) bool { return !still[id] })
	maps.DeleteFunc(d.asked, func(id api.ID, _ time.Time) bool { return !still[id] })
	return ids
}

// hear takes what was told about some records. Of two decisions the later one
// counts: an older one that comes again changes nothing.
func (d *decisions) hear(told []client.Decision, now time.Time) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	next, changed := maps.Clone(d.known), false
	for _, t := range told {
		d.asked[t.ID] = now
		before, known := d.known[t.ID]
		if t.Status == api.Pending || known && t.Time.Before(before.Time) {
			continue
		}
		is := Decision{Status: t.Status, Code: t.Code, Time: t.Time, Standing: t.Standing, Verdict: string(t.Verdict)}
		if is == before {
			continue
		}
		next[t.ID], changed = is, true
		if known {
			d.log.Warn("a decision about a delivered record has changed", "record", api.ID(t.ID), "was", before.String(), "is", is.String())
		}
	}
	if !changed {
		return nil
	}
	b, err := json.Marshal(next)
	if err != nil {
		return err
	}
	if err := durable.Replace(d.file, b); err != nil {
		return fmt.Errorf("keep decisions: %w", err)
	}
	d.known = next
	return nil
}

// follow asks about what is due.
func (d *decisions) follow(ctx context.Context, delivered []queue.Entry, now time.Time, ask func(context.Context, [][32]byte) ([]client.Decision, error, error)) error {
	for ids := range slices.Chunk(d.due(delivered, now), api.MaxItems) {
		told, proof, err := ask(ctx, ids)
		if err != nil {
			return err
		}
		if proof != nil {
			d.log.Error("the registry does not prove what it says about delivered records", "cause", proof)
		}
		if err := d.hear(told, now); err != nil {
			return err
		}
	}
	return nil
}

// keepDecided follows what becomes of delivered records.
func (s *Station) keepDecided(ctx context.Context) error {
	for {
		now := time.Now()
		delivered, err := s.queue.Delivered(ctx, now.Add(-followFor), time.Time{}, followLimit)
		if err == nil {
			err = s.decisions.follow(ctx, delivered, now, s.client.Decisions)
		}
		wait := followInterval
		if err != nil && ctx.Err() == nil {
			s.log.Debug("decisions about delivered records are not known", "cause", err)
			wait = askAgain
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
	}
}
