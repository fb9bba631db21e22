package relyingparty

import (
	"errors"

	"enrollkiosk/registry/credential"
)

// Refusal is why nobody was signed in: a code for logs, with a sentence. A
// presentation that does not verify is a [credential.Refusal] instead.
type Refusal string

// What is refused; errors wrap one of them, or one of package credential's.
const (
	ErrConfig       Refusal = "signin-config"
	ErrUnregistered Refusal = "signin-unregistered"
	ErrBusy         Refusal = "signin-busy"
	ErrTransaction  Refusal = "signin-transaction"
	ErrResponse     Refusal = "signin-response"
	ErrCode         Refusal = "signin-code"
	ErrSession      Refusal = "signin-session"
	ErrDeclined     Refusal = "signin-declined"
	ErrStatusAway   Refusal = "signin-status-away"
)

var sentences = map[Refusal]string{
	ErrConfig:       "the configuration does not hold together",
	ErrUnregistered: "the site's certificate does not let it ask for this",
	ErrBusy:         "too many people are signing in",
	ErrTransaction:  "no sign-in is under way here: unknown, used or too old",
	ErrResponse:     "the response is malformed",
	ErrCode:         "the response code is unknown, used or too old",
	ErrSession:      "came back to another browser than the one that asked",
	ErrDeclined:     "declined by the person",
	ErrStatusAway:   "no status list is fresh enough to tell whether the credential is revoked",
}

func (r Refusal) Error() string { return string(r) + ": " + sentences[r] }

// Code is what a log gets of an error: no value of anybody's, nothing that tells
// people apart. It is "internal" for an error that is no refusal.
func Code(err error) string {
	var own Refusal
	var other credential.Refusal
	switch {
	case errors.As(err, &own):
		return string(own)
	case errors.As(err, &other):
		return string(other)
	}
	return "internal"
}

// Sentence is what the person in front of the browser is told. What was wrong with
// a presentation is not among it: who tries things out learns one text.
func Sentence(err error) string {
	switch {
	case errors.Is(err, ErrSession):
		return "You were brought back to another browser than the one in which you began. " +
			"If somebody sent you the link, you were about to sign that person in. Otherwise make this browser the default one, or begin here."
	case errors.Is(err, ErrDeclined):
		return "You declined, and nothing was sent."
	case errors.Is(err, ErrBusy), errors.Is(err, ErrStatusAway):
		return "Signing in is not possible just now. Please try again in a few minutes."
	}
	return "Signing in did not work. Please begin again."
}
