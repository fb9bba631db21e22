package inspection

import (
	"context"
	"errors"
)

// errStopped is what a closed gate answers.
var errStopped = errors.New("inspection: stopped")

// gate ends an exchange between two commands. A context would end it in the
// middle of one, and leave a card that only pulling it brings back.
type gate struct {
	Card
	stop chan struct{}
}

func newGate(c Card) *gate { return &gate{c, make(chan struct{})} }

func (g *gate) Transmit(ctx context.Context, command []byte) ([]byte, error) {
	select {
	case <-g.stop:
		return nil, errStopped
	default:
		return g.Card.Transmit(ctx, command)
	}
}

// The optional abilities of a card pass through. Answering nothing is as good as
// not having one.

func (g *gate) ATR() []byte {
	if c, ok := g.Card.(interface{ ATR() []byte }); ok {
		return c.ATR()
	}
	return nil
}

func (g *gate) MaxAPDU() int {
	if c, ok := g.Card.(interface{ MaxAPDU() int }); ok {
		return c.MaxAPDU()
	}
	return 0
}
