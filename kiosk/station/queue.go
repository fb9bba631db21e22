package station

import (
	"cmp"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"time"

	"enrollkiosk/kiosk"
	"enrollkiosk/kiosk/wire"
	"enrollkiosk/registry/checkpoint"
	"enrollkiosk/registry/record"
	"enrollkiosk/sync/courier"
	"enrollkiosk/sync/queue"
)

// Queries that the agent answers over its socket.
const (
	QueryList   = "queue-list" // argument: Period or "" -> QueueList
	QueryShow   = "queue-show" // argument: record id in hex -> QueueRecord
	QueryHealth = "health"     // -> Health
)

// Bounds of a list: of what is still here, and of what has been delivered, the
// newest.
const (
	listLimit      = 10000
	deliveredLimit = 1000
)

// Delivery is how delivery stands, with nothing personal in it.
type Delivery struct {
	Line        courier.Line `json:"line,omitempty"`       // "" when no agent runs: then nothing is delivered
	Code        kiosk.Code   `json:"code,omitempty"`       // why the last attempt failed
	Fault       string       `json:"fault,omitempty"`      // the same in words
	Inspector   string       `json:"inspector,omitempty"`  // who opens the connection, for kiosk.CodeInspected
	NextTry     time.Time    `json:"next_try,omitzero"`    // of an agent that waits after a failure
	Delivered   time.Time    `json:"delivered,omitzero"`   // the last receipt since the agent's start
	Waiting     int          `json:"waiting"`              // records not yet receipted
	Oldest      time.Time    `json:"oldest,omitzero"`      // of them
	OldestAge   int64        `json:"oldest_age,omitempty"` // seconds
	Quarantined int          `json:"quarantined"`          // set aside
	Receipted   int          `json:"receipted"`            // with their receipt here
}

// QueueList is the queue's list with how delivery stands.
type QueueList struct {
	Delivery Delivery     `json:"delivery"`
	Records  []QueueEntry `json:"records"`
}

// deliveryOf is how an open queue stands.
func deliveryOf(ctx context.Context, open *queue.Queue) (Delivery, error) {
	s, err := open.Stats(ctx)
	return deliveryWith(s), err
}

func deliveryWith(s queue.Stats) Delivery {
	d := Delivery{Waiting: s.Waiting, Oldest: s.Oldest, Quarantined: s.Quarantined, Receipted: s.Receipted}
	if !s.Oldest.IsZero() {
		d.OldestAge = max(0, int64(time.Since(s.Oldest)/time.Second)) // the clock may have been set back
	}
	return d
}

// delivery is how the courier stands.
func (s *Station) delivery(ctx context.Context) (Delivery, error) {
	status, err := s.courier.Status(ctx)
	d := deliveryWith(status.Stats)
	d.Line, d.Delivered = status.Line, status.Delivered
	if status.Fault != nil {
		e := trouble(status.Fault)
		d.Code, d.Fault, d.Inspector = e.Code, status.Fault.Error(), e.Inspector
	}
	if wait := time.Until(status.Next); wait > 0 && status.Waiting > 0 {
		d.NextTry = time.Now().Add(wait) // by the clock of now: it may have been set meanwhile
	}
	return d, err
}

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
	switch q.Kind {
	case QueryHealth:
		return s.health(ctx), nil
	case QueryList:
		records, err := list(ctx, s.queue, q.Argument)
		if err != nil {
			return nil, err
		}
		d, err := s.delivery(ctx)
		return QueueList{d, records}, err
	}
	return keeper{s.config.Kiosk.ID, s.queue, s.courier, s.policies, s.seen, s.tpm.RecordKey(), s.log}.answer(ctx, q)
}

// keeper answers for the queue: in the agent, or in this process when none runs.
type keeper struct {
	id       string // the kiosk's
	queue    *queue.Queue
	courier  *courier.Courier
	policies *policies
	seen     *checkpoint.Keeper
	key      record.Signer // record key; nil when the TPM is not open
	log      *slog.Logger
}

func (k keeper) answer(ctx context.Context, q wire.Query) (any, error) {
	switch q.Kind {
	case QueryList:
		records, err := list(ctx, k.queue, q.Argument)
		if err != nil {
			return nil, err
		}
		d, err := deliveryOf(ctx, k.queue)
		return QueueList{d, records}, err
	case QueryShow:
		return show(ctx, k.queue, q.Argument)
	case queryWaiting:
		return waiting(ctx, k.queue)
	case querySign:
		return k.sign(ctx, q.Argument)
	case querySettle:
		return k.settle(ctx, q.Argument)
	case queryFollow:
		return k.follow(ctx, q.Argument)
	}
	return nil, fmt.Errorf("unknown question %q", q.Kind)
}

// Period is the argument of QueryList that asks for what was delivered between two
// times, the second not included; a zero time is no bound.
func Period(from, to time.Time) string {
	b, _ := json.Marshal([2]time.Time{from, to}) // times of four digits' years
	return string(b)
}

// list lists what is still here and the newest of what has been delivered, or what
// has been delivered in a period.
func list(ctx context.Context, open *queue.Queue, period string) ([]QueueEntry, error) {
	var times [2]time.Time
	var entries []queue.Entry
	var err error
	if period != "" {
		if err := json.Unmarshal([]byte(period), &times); err != nil {
			return nil, fmt.Errorf("period: %w", err)
		}
	} else if entries, err = open.List(ctx, listLimit, func(e queue.Entry) bool {
		return e.State == queue.Queued || e.State == queue.Quarantined
	}); err != nil {
		return nil, err
	}
	delivered, err := open.Delivered(ctx, times[0], times[1], deliveredLimit)
	if err != nil {
		return nil, err
	}
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
// no agent runs. v is a *QueueList or a *QueueRecord.
func Ask(ctx context.Context, c Config, q wire.Query, v any) error {
	l, err := openLine(ctx, c, false)
	if err != nil {
		return err
	}
	defer l.close()
	return l.ask(ctx, q, v)
}

// line leads to whoever keeps the queue: the agent, or a keeper of our own.
type line struct {
	socket string
	keeper *keeper // nil: the agent
	close  func() error
}

// openLine finds the agent, or opens the queue where none runs; with the TPM if
// something is to be signed.
func openLine(ctx context.Context, c Config, signing bool) (_ *line, err error) {
	l := &line{socket: c.Kiosk.Socket, close: func() error { return nil }}
	if _, err := wire.Dial(c.Kiosk.Socket); !errors.Is(err, wire.ErrNoAgent) {
		return l, err
	}
	q, _, err := openQueue(ctx, c)
	if err != nil {
		return nil, err
	}
	l.keeper, l.close = &keeper{id: c.Kiosk.ID, queue: q, courier: courier.New(q, nil, courier.Options{}), log: slog.New(slog.DiscardHandler)}, q.Close
	defer func() {
		if err != nil {
			l.close()
		}
	}()
	if l.keeper.seen, err = checkpoint.OpenKeeper(c.in(logDir)); err != nil {
		return nil, err
	}
	if l.keeper.policies, err = readPolicies(c); err != nil || !signing {
		return l, err
	}
	chip, err := openTPM(ctx, c)
	if err != nil {
		return nil, err
	}
	l.close = func() error { return errors.Join(chip.Close(), q.Close()) }
	l.keeper.key = chip.RecordKey()
	return l, chip.Ready()
}

// ask puts one question. What comes back passes through JSON either way.
func (l *line) ask(ctx context.Context, q wire.Query, v any) error {
	if l.keeper == nil {
		return wire.Ask(ctx, l.socket, q, v)
	}
	answer, err := l.keeper.answer(ctx, q)
	if err != nil {
		return err
	}
	b, err := json.Marshal(answer)
	if err != nil {
		return err
	}
	return json.Unmarshal(b, v)
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
