package courier

import (
	"context"
	"errors"
	"time"

	"enrollkiosk/registry/api"
	"enrollkiosk/sync/client"
	"enrollkiosk/sync/queue"
)

// ErrOpen says that a status settles nothing yet.
var ErrOpen = errors.New("the registry has neither a receipt nor a rejection of the record yet")

// Settle does with a record what its verified status asks for, when that came
// another way than over the network: the receipt is stored and the record purged,
// or it is quarantined with its rejection. It may be called while Run runs, and
// again; what has been settled stays as it is. Errors: ErrOpen and the queue's.
func (c *Courier) Settle(ctx context.Context, s client.Status) error {
	id := queue.ID(s.ID)
	switch {
	case s.Status == api.Rejected:
		r := queue.Reason{Code: s.Code, Text: "rejected by the registry", Evidence: s.Verdict}
		if err := c.queue.Quarantine(ctx, id, r); err != nil {
			return err
		}
		c.log.Error("the registry rejects a record", "record", id, "code", s.Code)
		c.tell(Event{ID: id, Stage: Quarantined, Code: s.Code})
		return nil
	case s.Receipt == nil:
		return ErrOpen
	}
	k := c.keep(ctx, []client.Status{s})[id]
	if k.stored {
		c.note(func(s *Status) { s.Delivered = time.Now() })
		c.tell(Event{ID: id, Stage: Receipted})
	}
	if k.err != nil {
		return k.err
	}
	c.tell(Event{ID: id, Stage: Purged})
	switch s.Status {
	case api.Active:
		c.tell(Event{ID: id, Stage: Activated})
	case api.Refused:
		c.log.Warn("the identity authority refuses a record", "record", id, "code", s.Code)
		c.tell(Event{ID: id, Stage: Refused, Code: s.Code})
	}
	return nil
}
