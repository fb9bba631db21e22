package station

import (
	"context"
	"errors"
	"fmt"
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
	out := make(chan map[kiosk.Device]kiosk.ReaderState, 1)
	go func() {
		defer close(out)
		for list := range events {
			states := map[kiosk.Device]kiosk.ReaderState{}
			for device := range r.names {
				states[device] = kiosk.ReaderMissing
				if reader, ok := r.of(device, list); ok {
					states[device] = readerState(reader)
				}
			}
			select { // only the newest matters; this goroutine alone writes
			case <-out:
			default:
			}
			out <- states
		}
	}()
	if r.residents != nil {
		return r.residents.watch(ctx, out), nil
	}
	return out, nil
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
