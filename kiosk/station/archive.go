package station

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"time"

	"enrollkiosk/kiosk"
	"enrollkiosk/registry/api"
	"enrollkiosk/registry/receipt"
	"enrollkiosk/sync/queue"
)

// archive is kiosk.Archive: the queue with what has been decided.
type archive struct {
	queue   *queue.Queue
	decided *decisions
}

// historyLimit is how many delivered records are looked through for a number's
// first digits: those of years.
const historyLimit = 500_000

func here(e queue.Entry) bool     { return e.State == queue.Queued || e.State == queue.Quarantined }
func aside(e queue.Entry) bool    { return e.State == queue.Quarantined }
func newest(a, b queue.Entry) int { return cmp.Compare(b.Seq, a.Seq) }

// Recent implements kiosk.Archive.
func (a archive) Recent(ctx context.Context, limit int) ([]kiosk.RecordView, error) {
	entries, err := a.queue.List(ctx, listLimit, here)
	if err != nil {
		return nil, err
	}
	delivered, err := a.queue.Delivered(ctx, time.Time{}, time.Time{}, limit)
	if err != nil {
		return nil, err
	}
	return a.views(append(entries, delivered...), limit), nil
}

// SetAside implements kiosk.Archive.
func (a archive) SetAside(ctx context.Context, limit int) ([]kiosk.RecordView, error) {
	entries, err := a.queue.List(ctx, listLimit, aside)
	return a.views(entries, limit), err
}

func (a archive) views(entries []queue.Entry, limit int) []kiosk.RecordView {
	slices.SortFunc(entries, newest)
	entries = slices.CompactFunc(entries, func(x, y queue.Entry) bool { return x.ID == y.ID }) // receipted between the two questions
	entries = entries[:min(limit, len(entries))]
	out := make([]kiosk.RecordView, 0, len(entries))
	for _, e := range entries {
		out = append(out, a.view(e))
	}
	return out
}

// view is what may be shown of an entry.
func (a archive) view(e queue.Entry) kiosk.RecordView {
	v := kiosk.RecordView{ID: e.ID.String(), Saved: e.Put, Done: e.Done, Standing: kiosk.StandingWaiting}
	switch e.State {
	case queue.Quarantined:
		v.Standing = kiosk.StandingSetAside
		if e.Reason != nil {
			v.Code = e.Reason.Code
		}
	case queue.Receipted, queue.Purged:
		v.Standing = kiosk.StandingReceipted
		if d := a.decided.of(api.ID(e.ID)); d != nil {
			v.Standing, v.Code = standing(*d), d.Code
		}
	}
	return v
}

func standing(d Decision) kiosk.Standing {
	switch {
	case d.Standing == receipt.Suspended:
		return kiosk.StandingSuspended
	case d.Standing == receipt.Revoked:
		return kiosk.StandingRevoked
	case d.Status == api.Active:
		return kiosk.StandingActive
	}
	return kiosk.StandingRefused
}

// Matching implements kiosk.Archive.
func (a archive) Matching(ctx context.Context, digits string, limit int) (ids []queue.ID, err error) {
	if raw, err := hex.DecodeString(digits); err == nil && len(raw) == len(queue.ID{}) {
		switch _, err := a.queue.Get(ctx, queue.ID(raw)); {
		case errors.Is(err, queue.ErrUnknown):
			return nil, nil
		case err != nil:
			return nil, err
		}
		return []queue.ID{queue.ID(raw)}, nil
	}
	begins := func(e queue.Entry) bool { return strings.HasPrefix(e.ID.String(), digits) }
	entries, err := a.queue.List(ctx, limit, begins)
	if err != nil {
		return nil, err
	}
	history, err := a.queue.Delivered(ctx, time.Time{}, time.Time{}, historyLimit)
	if err != nil {
		return nil, err
	}
	for _, e := range append(entries, history...) {
		if begins(e) && !slices.Contains(ids, e.ID) && len(ids) < limit {
			ids = append(ids, e.ID)
		}
	}
	return ids, nil
}

// Record implements kiosk.Archive.
func (a archive) Record(ctx context.Context, id queue.ID) (v kiosk.RecordView, final string, data []byte, err error) {
	e, err := a.queue.Get(ctx, id)
	if errors.Is(err, queue.ErrUnknown) {
		err = kiosk.ErrNoRecord
	}
	if err != nil {
		return v, "", nil, err
	}
	switch e.State {
	case queue.Receipted, queue.Purged:
		b, err := a.queue.Receipt(ctx, id)
		return a.view(e), string(b), nil, err
	case queue.Queued:
		if data, err = a.queue.Data(ctx, id); errors.Is(err, queue.ErrState) { // purged meanwhile
			return a.Record(ctx, id)
		}
	}
	return a.view(e), "", data, err
}

// Since implements kiosk.Archive.
func (a archive) Since(ctx context.Context, t time.Time) (delivered, refused int, err error) {
	got, err := a.queue.Delivered(ctx, t, time.Time{}, listLimit)
	if err != nil {
		return 0, 0, err
	}
	rejected, err := a.queue.List(ctx, listLimit, func(e queue.Entry) bool { return aside(e) && !e.Done.Before(t) })
	return len(got), len(rejected) + a.decided.refusedSince(t), err
}

// refusedSince counts the records that the identity authority has refused from
// some time on.
func (d *decisions) refusedSince(t time.Time) (n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, known := range d.known {
		if known.Status != api.Active && !known.Time.Before(t) {
			n++
		}
	}
	return n
}
