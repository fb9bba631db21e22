package station

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"enrollkiosk/kiosk/wire"
	"enrollkiosk/sync/queue"
)

// Queries that the agent answers over its socket.
const (
	QueryList   = "queue-list" // -> []QueueEntry
	QueryShow   = "queue-show" // argument: record id in hex -> QueueRecord
	QueryHealth = "health"     // -> Health
)

// Bounds of a list: of what is still here, and of what has been delivered, the
// newest.
const (
	listLimit      = 10000
	deliveredLimit = 1000
)

// QueueEntry is one line of the queue's list. It holds no personal data.
type QueueEntry struct {
	ID     string      `json:"id"`
	State  queue.State `json:"state"`
	Size   int         `json:"size"`
	Put    time.Time   `json:"put"`
	Done   time.Time   `json:"done,omitzero"`
	Code   string      `json:"code,omitempty"`
	Reason string      `json:"reason,omitempty"`
}

// QueueRecord is one record with what may be shown of it.
type QueueRecord struct {
	QueueEntry
	Digest     string `json:"sha256"`
	Receipt    string `json:"receipt,omitempty"`
	Submission []byte `json:"submission,omitempty"` // sealed and signed bytes, until purged
}

func (s *Station) answer(ctx context.Context, q wire.Query) (any, error) {
	if q.Kind == QueryHealth {
		return s.health(ctx), nil
	}
	return answer(ctx, s.queue, q)
}

func answer(ctx context.Context, open *queue.Queue, q wire.Query) (any, error) {
	switch q.Kind {
	case QueryList:
		return list(ctx, open)
	case QueryShow:
		return show(ctx, open, q.Argument)
	}
	return nil, fmt.Errorf("unknown question %q", q.Kind)
}

func list(ctx context.Context, open *queue.Queue) ([]QueueEntry, error) {
	var delivered []queue.Entry
	newest := func() {
		slices.SortFunc(delivered, func(a, b queue.Entry) int { return cmp.Compare(b.Seq, a.Seq) })
		delivered = delivered[:min(len(delivered), deliveredLimit)]
	}
	entries, err := open.List(ctx, listLimit, func(e queue.Entry) bool {
		if e.State != queue.Purged {
			return true
		}
		if delivered = append(delivered, e); len(delivered) == 2*deliveredLimit {
			newest()
		}
		return false
	})
	if err != nil {
		return nil, err
	}
	newest()
	entries = append(entries, delivered...)
	slices.SortFunc(entries, func(a, b queue.Entry) int { return cmp.Compare(a.Seq, b.Seq) })
	out := make([]QueueEntry, 0, len(entries))
	for _, e := range entries {
		out = append(out, entryOf(e))
	}
	return out, nil
}

func entryOf(e queue.Entry) QueueEntry {
	out := QueueEntry{ID: e.ID.String(), State: e.State, Size: e.Size, Put: e.Put, Done: e.Done}
	if e.Reason != nil {
		out.Code, out.Reason = e.Reason.Code, e.Reason.Text
	}
	return out
}

func show(ctx context.Context, open *queue.Queue, argument string) (QueueRecord, error) {
	raw, err := hex.DecodeString(argument)
	if err != nil || len(raw) != 32 {
		return QueueRecord{}, errors.New("a record id is 64 hexadecimal digits")
	}
	id := queue.ID(raw)
	e, err := open.Get(ctx, id)
	if err != nil {
		return QueueRecord{}, err
	}
	out := QueueRecord{QueueEntry: entryOf(e), Digest: hex.EncodeToString(e.Digest)}
	if r, err := open.Receipt(ctx, id); err == nil {
		out.Receipt = string(r)
	}
	if e.State != queue.Purged {
		if out.Submission, err = open.Data(ctx, id); err != nil {
			return QueueRecord{}, err
		}
	}
	return out, nil
}

// Ask puts a question about the queue to the agent, or to the queue itself when
// no agent runs. v is a *[]QueueEntry or a *QueueRecord.
func Ask(ctx context.Context, c Config, q wire.Query, v any) error {
	err := wire.Ask(ctx, c.Kiosk.Socket, q, v)
	if !errors.Is(err, wire.ErrNoAgent) {
		return err
	}
	open, _, err := openQueue(ctx, c)
	if err != nil {
		return err
	}
	defer open.Close()
	answered, err := answer(ctx, open, q)
	if err != nil {
		return err
	}
	switch out := v.(type) {
	case *[]QueueEntry:
		*out = answered.([]QueueEntry)
	case *QueueRecord:
		*out = answered.(QueueRecord)
	}
	return nil
}

// openQueue opens the queue that Provision made; it makes none.
func openQueue(ctx context.Context, c Config) (*queue.Queue, queue.Report, error) {
	if err := c.own(); err != nil {
		return nil, queue.Report{}, err
	}
	if _, err := os.Stat(c.in(queueDir)); errors.Is(err, os.ErrNotExist) {
		return nil, queue.Report{}, ErrNotProvisioned
	}
	q, report, err := queue.Open(ctx, c.in(queueDir), queue.Options{})
	if err != nil {
		err = fmt.Errorf("open queue %s: %w", c.in(queueDir), err)
	}
	return q, report, err
}
