package kiosk

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"slices"
	"sync"
	"time"

	"enrollkiosk/sync/queue"
)

// custodian keeps the notes about keys in custody true: whose number a key has,
// and which keys may go.
type custodian struct {
	keys     Custody
	queue    Queue
	delivery Delivery
	limit    time.Duration // of a tidy-up
	log      *slog.Logger

	mu sync.Mutex // a note is read and written again by one at a time
}

// tidy forgets what belongs to no record: a key with the note of a record that
// the queue does not hold, as a crash before the record was put leaves it; and
// the nameless key of a note that says that one is being made. A record that was
// saved is noted so; from then on nothing but a replacement ends its key, not
// even a queue that was rebuilt and has forgotten the record.
//
// Nothing is forgotten without a note that says so: not where a note is missing
// or cannot be read, nor where the queue cannot tell. While a key is being made
// it must not run.
func (c *custodian) tidy(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	notes, err := c.keys.Notes(ctx)
	if err != nil {
		return err
	}
	keys, err := c.keys.Keys(ctx)
	if err != nil {
		return err
	}
	var unborn []CustodyNote
	for _, n := range notes {
		if n.Key == "" {
			unborn = append(unborn, n)
			continue
		}
		keys = slices.DeleteFunc(keys, func(key string) bool { return key == n.Key })
		state, err := c.state(ctx, n.Record)
		if err != nil {
			return err
		}
		if !n.Saved && state == "" {
			if err := c.forget(ctx, n); err != nil {
				return err
			}
			continue
		}
		was := n
		n.Saved = true
		if n.ReplacedBy != (queue.ID{}) {
			if state, err = c.state(ctx, n.ReplacedBy); err != nil {
				return err
			}
			if state == "" || state == queue.Quarantined {
				n.ReplacedBy = queue.ID{}
			}
		}
		if n != was {
			if err := c.keys.Note(ctx, n); err != nil {
				return err
			}
		}
	}
	if len(unborn) == 0 && len(keys) > 0 {
		c.log.Error("keys in custody have no note, and are kept: was one deleted?", "keys", len(keys))
		return nil
	}
	for _, key := range keys {
		if err := c.keys.Forget(ctx, key); err != nil {
			return err
		}
	}
	for _, n := range unborn {
		if err := c.forget(ctx, n); err != nil {
			return err
		}
	}
	return nil
}

// forget ends a key: the note goes last, so that it can be done again.
func (c *custodian) forget(ctx context.Context, n CustodyNote) error {
	if n.Key != "" {
		if err := c.keys.Forget(ctx, n.Key); err != nil {
			return err
		}
	}
	return c.keys.Drop(ctx, n.Number)
}

// state is that of a record in the queue, "" if it never was there.
func (c *custodian) state(ctx context.Context, id queue.ID) (queue.State, error) {
	e, err := c.queue.Get(ctx, id)
	if errors.Is(err, queue.ErrUnknown) {
		return "", nil
	}
	return e.State, err
}

// tidyUp is tidy also when ctx has ended. What it cannot do now the next start does.
func (c *custodian) tidyUp(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.limit)
	defer cancel()
	if err := c.tidy(ctx); err != nil {
		c.log.Error("keys in custody are not tidied up", "cause", err)
	}
}

func (c *custodian) note(ctx context.Context, n CustodyNote) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.keys.Note(ctx, n)
}

// find opens the key of a number; ok is false when there is none.
func (c *custodian) find(ctx context.Context, number string) (n CustodyNote, key CustodyKey, ok bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	notes, err := c.keys.Notes(ctx)
	i := slices.IndexFunc(notes, func(n CustodyNote) bool { return n.Number == number && n.Key != "" })
	if i < 0 {
		return n, nil, false, err
	}
	key, err = c.keys.Key(ctx, notes[i].Key)
	return notes[i], key, err == nil, err
}

// run forgets keys whose replacement holds, until ctx ends. It hears of verdicts
// from the courier, and asks for those that came while nobody listened.
func (c *custodian) run(ctx context.Context) {
	events := c.delivery.Events(ctx)
	tick := time.NewTicker(askVerdicts)
	defer tick.Stop()
	c.ask(ctx)
	for {
		select {
		case <-ctx.Done():
			return
		case ev := <-events:
			switch ev.Stage {
			case Activated, Refused, Quarantined:
				c.decided(ctx, ev.ID, ev.Stage)
			case Reached:
				c.ask(ctx)
			}
		case <-tick.C:
			c.ask(ctx)
		}
	}
}

// askVerdicts is how often the registry is asked for verdicts that nobody told.
const askVerdicts = 10 * time.Minute

// ask asks for the verdict on each replacement that is on its way.
func (c *custodian) ask(ctx context.Context) {
	c.mu.Lock()
	notes, err := c.keys.Notes(ctx)
	c.mu.Unlock()
	if err != nil {
		c.log.Error("a note about a key in custody cannot be read", "cause", err)
	}
	for _, n := range notes {
		if n.ReplacedBy == (queue.ID{}) {
			continue
		}
		stage, err := c.delivery.Verdict(ctx, n.ReplacedBy)
		if err != nil {
			c.log.Debug("no verdict on a replacement", "record", n.ReplacedBy, "cause", err)
			continue
		}
		c.decided(ctx, n.ReplacedBy, stage)
	}
}

// decided does what a verdict on a replacement means: it holds, and the old key
// goes; or it does not, and the old key is as it was.
func (c *custodian) decided(ctx context.Context, id queue.ID, stage DeliveryStage) {
	c.mu.Lock()
	defer c.mu.Unlock()
	notes, err := c.keys.Notes(ctx)
	for _, n := range notes {
		if n.ReplacedBy != id {
			continue
		}
		switch stage {
		case Activated:
			if err = c.forget(ctx, n); err == nil {
				c.log.Info("a key in custody was replaced and forgotten", "record", id)
			}
		case Refused, Quarantined:
			n.ReplacedBy = queue.ID{}
			err = c.keys.Note(ctx, n)
		}
	}
	if err != nil {
		c.log.Error("a verdict on a replacement is not followed", "record", id, "cause", err)
	}
}

// numberSize is the length of a custody number: seven random digits and the
// check digit of ISO/IEC 7812-1.
const numberSize = 8

// reserve draws a number that no key here has, and notes that its key is being
// made.
func (c *custodian) reserve(ctx context.Context) (CustodyNote, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	notes, err := c.keys.Notes(ctx)
	if err != nil {
		return CustodyNote{}, err
	}
	for {
		n, err := rand.Int(rand.Reader, big.NewInt(1e7))
		if err != nil {
			return CustodyNote{}, err
		}
		seven := fmt.Sprintf("%07d", n)
		note := CustodyNote{Number: seven + string('0'+byte(10-luhn(seven+"0"))%10)}
		if !slices.ContainsFunc(notes, func(n CustodyNote) bool { return n.Number == note.Number }) {
			return note, c.keys.Note(ctx, note)
		}
	}
}

// luhn is the sum of ISO/IEC 7812-1 annex B, modulo 10: 0 for a number whose
// check digit is right.
func luhn(digits string) int {
	sum := 0
	for i := range len(digits) {
		d := int(digits[len(digits)-1-i] - '0')
		if i%2 == 1 {
			if d *= 2; d > 9 {
				d -= 9
			}
		}
		sum += d
	}
	return sum % 10
}
