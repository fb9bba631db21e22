// Package secret holds values that must never reach a log, a file or an error
// text by accident: PINs, PUKs, card access numbers, keys and personal data.
//
// A [Text] refuses to print and to marshal. Reading it takes a call to
// [Text.Reveal], which is easy to find in review. The package imports nothing
// of this project; every package may use it.
package secret

import (
	"crypto/subtle"
	"errors"
	"fmt"
	"log/slog"
)

// Redacted is what every way of printing a Text yields.
const Redacted = "[redacted]"

// ErrMarshal is returned by every way of marshalling a Text.
var ErrMarshal = errors.New("secret: refuses to be marshalled")

// Text is a secret or personal byte string. The zero value is empty.
// Copies share the same bytes, so that Wipe reaches all of them.
//
// Two pointers stand before the bytes: in an unexported field, where fmt cannot
// call Format, it follows one of them for a verb that pointers do not have.
type Text struct{ p **[]byte }

// New takes ownership of b.
func New(b []byte) Text {
	p := &b
	return Text{&p}
}

// FromString copies s. The original stays in memory: prefer New.
func FromString(s string) Text { return New([]byte(s)) }

// Reveal returns the bytes themselves, not a copy; nil after Wipe.
func (t Text) Reveal() []byte {
	if t.p == nil {
		return nil
	}
	return **t.p
}

// Len is the number of bytes.
func (t Text) Len() int { return len(t.Reveal()) }

// Equal compares in constant time for equal lengths.
func (t Text) Equal(o Text) bool {
	return subtle.ConstantTimeCompare(t.Reveal(), o.Reveal()) == 1
}

// Wipe overwrites the bytes in every copy of t.
func (t Text) Wipe() {
	if t.p == nil {
		return
	}
	clear(**t.p)
	**t.p = nil
}

// Format prints [Redacted] for every verb.
func (t Text) Format(f fmt.State, _ rune) { fmt.Fprint(f, Redacted) }

func (t Text) String() string   { return Redacted }
func (t Text) GoString() string { return Redacted }

// LogValue implements [slog.LogValuer].
func (t Text) LogValue() slog.Value { return slog.StringValue(Redacted) }

func (t Text) MarshalJSON() ([]byte, error)   { return nil, ErrMarshal }
func (t Text) MarshalText() ([]byte, error)   { return nil, ErrMarshal }
func (t Text) MarshalBinary() ([]byte, error) { return nil, ErrMarshal }
func (t Text) GobEncode() ([]byte, error)     { return nil, ErrMarshal }
