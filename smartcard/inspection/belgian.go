package inspection

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"enrollkiosk/smartcard/beid"
	"enrollkiosk/smartcard/identity"
)

// BelgianOptions are what a Belgian card is held against.
type BelgianOptions struct {
	Roots       beid.Roots
	Now         func() time.Time
	RequireChip bool // a card that cannot prove itself is refused
	KeepExpired bool // one that is not valid now is not
	// Observe gets each file once all are read; nil for nobody.
	Observe func(beid.File, []byte)
}

type belgian struct {
	connect Connect
	options BelgianOptions
	card    Card
	read    beid.Document
}

// Belgian is the procedure for a Belgian identity card.
func Belgian(connect Connect, opts BelgianOptions) Document {
	return &belgian{connect: connect, options: opts}
}

func (b *belgian) Kind() identity.Kind { return identity.BelgianEID }

// Signs: cards from applet 1.8 on have a key for it.
func (b *belgian) Signs() bool { return b.read.Files[beid.BasicKey] != nil }

func (b *belgian) open(ctx context.Context) (err error) {
	b.Close()
	b.card, err = b.connect(ctx)
	return err
}

func (b *belgian) Read(ctx context.Context, progress func(Progress)) (identity.Holder, error) {
	tell(progress, Progress{Step: Open})
	if err := b.open(ctx); err != nil {
		return identity.Holder{}, err
	}
	var err error
	b.read, err = beid.Read(ctx, b.card, nil, func(p beid.Progress) {
		tell(progress, Progress{Files, p.Read, p.Total})
	})
	if err != nil {
		return identity.Holder{}, err
	}
	if b.options.Observe != nil {
		for f, content := range b.read.Files {
			b.options.Observe(f, content)
		}
	}
	tell(progress, Progress{Step: Verify})
	return b.verify(nil, b.options.RequireChip && !b.Signs())
}

func (b *belgian) verify(challenge *[32]byte, requireChip bool) (identity.Holder, error) {
	h, _, err := beid.Verify(b.read, b.options.Roots, b.options.Now(),
		beid.Options{ExpectedChallenge: challenge, RequireChip: requireChip, RefuseExpired: !b.options.KeepExpired})
	if err != nil {
		return identity.Holder{}, err
	}
	return identity.OfBelgian(h)
}

func (b *belgian) Bind(ctx context.Context, challenge [32]byte) (identity.Holder, error) {
	if !b.Signs() {
		return b.verify(nil, b.options.RequireChip)
	}
	evidence, err := b.sign(ctx, challenge)
	if err != nil {
		if evidence, err = b.again(ctx, challenge); err != nil {
			return identity.Holder{}, err
		}
	}
	b.read.Chip = evidence
	return b.verify(&challenge, true)
}

func (b *belgian) sign(ctx context.Context, challenge [32]byte) (*beid.ChipAuthentication, error) {
	if b.card == nil {
		return nil, beid.ErrRefused
	}
	return beid.AuthenticateChip(ctx, b.card, challenge)
}

// again opens the card anew and insists on the same identity.
func (b *belgian) again(ctx context.Context, challenge [32]byte) (*beid.ChipAuthentication, error) {
	if err := b.open(ctx); err != nil {
		return nil, err
	}
	doc, err := beid.Read(ctx, b.card, []beid.File{beid.IdentitySignature}, nil)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(doc.Files[beid.IdentitySignature], b.read.Files[beid.IdentitySignature]) {
		return nil, fmt.Errorf("open card again: %w", ErrChanged)
	}
	return beid.AuthenticateChip(ctx, b.card, challenge)
}

func (b *belgian) Close() {
	if b.card != nil {
		b.card.Close()
		b.card = nil
	}
}
