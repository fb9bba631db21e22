package station

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"

	"enrollkiosk/kiosk"
	"enrollkiosk/smartcard/pcsc"
)

// readers plugs PC/SC into the flow: each role is a reader whose name holds the
// configured part.
type readers struct {
	names     map[kiosk.Device]string
	residents *residents // nil: none
}

func (c Config) readers() readers {
	return readers{residents: newResidents(c), names: map[kiosk.Device]string{kiosk.DeviceDocument: c.Readers.Document,
		kiosk.DeviceToken: c.Readers.Token, kiosk.DeviceOfficer: c.Readers.Officer}}
}

func (r readers) Watch(ctx context.Context) (<-chan map[kiosk.Device]kiosk.ReaderState, error) {
	events, err := pcsc.Watch(ctx)
	if err != nil {
		return nil, cardError(err)
	}
	out := make(chan map[kiosk.Device]kiosk.ReaderState)
	go func() {
		defer close(out)
		var before map[kiosk.Device]pcsc.Reader
		for list := range events { // the newest there is when the last was taken
			now := map[kiosk.Device]pcsc.Reader{}
			for device := range r.names {
				if reader, ok := r.of(device, list); ok {
					now[device] = reader
				}
			}
			swapped, states := r.states(before, now)
			for _, s := range []map[kiosk.Device]kiosk.ReaderState{swapped, states} {
				if s == nil {
					continue
				}
				select {
				case out <- s:
				case <-ctx.Done():
					return
				}
			}
			before = now
		}
	}()
	if r.residents != nil {
		return r.residents.watch(ctx, out), nil
	}
	return out, nil
}

// states is what to tell of the readers. A card that was swapped for another, or
// put back, before anybody saw the reader empty, has left it all the same: then
// swapped is not nil and comes first.
func (r readers) states(before, now map[kiosk.Device]pcsc.Reader) (swapped, states map[kiosk.Device]kiosk.ReaderState) {
	states = map[kiosk.Device]kiosk.ReaderState{}
	var left []kiosk.Device
	for device := range r.names {
		states[device] = kiosk.ReaderMissing
		reader, ok := now[device]
		if !ok {
			continue
		}
		states[device] = readerState(reader)
		if was := before[device]; was.Card && reader.Card && (was.Name != reader.Name || was.Insertion != reader.Insertion) {
			left = append(left, device)
		}
	}
	if left != nil {
		swapped = maps.Clone(states)
		for _, device := range left {
			swapped[device] = kiosk.ReaderEmpty
		}
	}
	return swapped, states
}

// of picks the reader of a role: of several the first with a card.
func (r readers) of(d kiosk.Device, list []pcsc.Reader) (found pcsc.Reader, ok bool) {
	for _, reader := range list {
		if !strings.Contains(reader.Name, r.names[d]) {
			continue
		}
		if !ok || !found.Card && reader.Card {
			found, ok = reader, true
		}
	}
	return found, ok
}

func readerState(r pcsc.Reader) kiosk.ReaderState {
	switch {
	case r.Unresponsive:
		return kiosk.ReaderMute
	case r.Card:
		return kiosk.ReaderCard
	}
	return kiosk.ReaderEmpty
}

// find returns the full name of the reader in a role.
func (r readers) find(ctx context.Context, d kiosk.Device) (string, error) {
	list, err := pcsc.List(ctx)
	if err != nil {
		return "", cardError(err)
	}
	if reader, ok := r.of(d, list); ok {
		return reader.Name, nil
	}
	return "", fmt.Errorf("reader for %s (%q): %w", d, r.names[d], kiosk.ErrReaderMissing)
}

func (r readers) Card(ctx context.Context, d kiosk.Device) (kiosk.Card, error) {
	name, err := r.find(ctx, d)
	if err != nil {
		return nil, err
	}
	c, err := pcsc.Connect(ctx, name)
	if err != nil {
		return nil, cardError(err)
	}
	return card{c}, nil
}

// card translates PC/SC's errors into the flow's.
type card struct{ *pcsc.Card }

func (c card) Transmit(ctx context.Context, command []byte) ([]byte, error) {
	b, err := c.Card.Transmit(ctx, command)
	return b, cardError(err)
}

func (c card) Reset(ctx context.Context) error { return cardError(c.Card.Reset(ctx)) }

func cardError(err error) error {
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return err // too slow, or called off: says more than what became of the connection
	}
	for _, t := range []struct{ is, as error }{
		{pcsc.ErrNoService, kiosk.ErrServiceMissing},
		{pcsc.ErrNoReader, kiosk.ErrReaderMissing},
		{pcsc.ErrNoCard, kiosk.ErrCardRemoved},
		{pcsc.ErrCardRemoved, kiosk.ErrCardRemoved},
		{pcsc.ErrBusy, kiosk.ErrCardBusy},
		{pcsc.ErrUnresponsive, kiosk.ErrCardMute},
		// Left in the middle of a command, or closed under one: only taking the
		// card out and putting it back helps.
		{pcsc.ErrAbandoned, kiosk.ErrCardRemoved},
		{pcsc.ErrClosed, kiosk.ErrCardRemoved},
	} {
		if errors.Is(err, t.is) {
			return fmt.Errorf("%w: %w", t.as, err)
		}
	}
	return err
}
