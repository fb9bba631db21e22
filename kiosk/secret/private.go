package secret

import (
	"fmt"
	"log/slog"
)

// Private makes the type that embeds it refuse to print and to marshal, as
// [Text] does. That a struct holding such a type in an unexported field prints
// its exported ones by reflection is beyond a type's reach: their personal parts
// are Texts, which stay closed.
type Private struct{}

// Format prints [Redacted] for every verb.
func (Private) Format(f fmt.State, _ rune) { fmt.Fprint(f, Redacted) }

func (Private) String() string               { return Redacted }
func (Private) GoString() string             { return Redacted }
func (Private) LogValue() slog.Value         { return slog.StringValue(Redacted) }
func (Private) MarshalJSON() ([]byte, error) { return nil, ErrMarshal }
func (Private) MarshalText() ([]byte, error) { return nil, ErrMarshal }
func (Private) GobEncode() ([]byte, error)   { return nil, ErrMarshal }

func (Private) MarshalBinary() ([]byte, error) { return nil, ErrMarshal }
