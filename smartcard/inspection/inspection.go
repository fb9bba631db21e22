// Package inspection reads identity documents and has them verified, each kind
// by its own procedure behind one interface.
//
// [Recognise] tells which kind of card lies on a reader; [EMRTD], [Belgian] and
// [Resident] make the [Document] for it. Its Read returns a verified
// [identity.Holder] or the reason why there is none; its Bind has the chip sign
// a challenge, where it can.
//
// Invariants: nothing is returned as verified that the kind's verifier has not
// passed; a card that was taken away and came back must be the same one. The
// procedures hold one card at a time and are not safe for concurrent use.
package inspection

import (
	"context"
	"errors"
	"fmt"

	"enrollkiosk/smartcard/apdu"
	"enrollkiosk/smartcard/beid"
	"enrollkiosk/smartcard/identity"
)

// Document is an identity document on its reader.
type Document interface {
	// Kind says which procedure this is.
	Kind() identity.Kind
	// Read reads and verifies the document. progress may be nil.
	Read(ctx context.Context, progress func(Progress)) (identity.Holder, error)
	// Signs says whether Bind will add the chip's proof.
	Signs() bool
	// Bind has the chip sign a challenge and returns the holder with that proof. A
	// document whose chip signs nothing returns what Read returned. A card that was
	// taken away since is opened again, and fails with ErrChanged if it is another.
	Bind(ctx context.Context, challenge [32]byte) (identity.Holder, error)
	// Close lets go of the card and forgets keys.
	Close()
}

// Step is a part of Read.
type Step string

// Steps, in the order in which they begin.
const (
	Open   Step = "open"   // access control
	Prove  Step = "prove"  // the chip shows that it holds its key
	Files  Step = "files"  // the files are read
	Verify Step = "verify" // the last checks are made
)

// Progress tells that a step is under way, and how far it is, in bytes, where
// that is known.
type Progress struct {
	Step        Step
	Done, Total int
}

// Card is a card that can be powered off and on, and let go. It may know its
// answer to reset, ATR() []byte, and what its reader carries, MaxAPDU() int.
type Card interface {
	apdu.Card
	Reset(ctx context.Context) error
	Close() error
}

// Connect opens the card on the document's reader.
type Connect func(ctx context.Context) (Card, error)

// ErrChanged means that the card on the reader is not the one that was read.
var ErrChanged = errors.New("inspection: another card than the one that was read")

// Recognise tells what kind of card lies on a reader by its answer to reset, and
// where that fits several, by the applications it has. What is nothing else is
// taken for an eMRTD, which its procedure will find out.
func Recognise(ctx context.Context, card apdu.Card) (identity.Kind, error) {
	known, ok := card.(interface{ ATR() []byte })
	if !ok || !beid.Recognise(known.ATR()) {
		return identity.EMRTD, nil
	}
	switch err := beid.Select(ctx, card); {
	case errors.Is(err, beid.ErrNotBelgianEID):
		return identity.EMRTD, nil
	case err != nil:
		return "", fmt.Errorf("recognise card: %w", err)
	}
	return identity.BelgianEID, nil
}

// tell is progress that may be nil.
func tell(progress func(Progress), p Progress) {
	if progress != nil {
		progress(p)
	}
}
