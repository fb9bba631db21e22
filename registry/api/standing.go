package api

import (
	"fmt"
	"time"

	"enrollkiosk/registry/receipt"
)

// Cancellation is the body of POST /v1/cancellations: the cancel code from the
// receipt, as it was typed.
type Cancellation struct {
	Code string `json:"code"` // record.ParseCancelCode reads it
}

// Check holds the limits.
func (c Cancellation) Check() error {
	if c.Code == "" || len(c.Code) > 100 {
		return fmt.Errorf("%w: cancel code of %d bytes", ErrForm, len(c.Code))
	}
	return nil
}

// Cancelled answers a Cancellation, whether or not the code was one of ours.
type Cancelled struct {
	Received time.Time `json:"received"`
}

// Check holds that there is a time.
func (c Cancelled) Check() error {
	if c.Received.IsZero() {
		return fmt.Errorf("%w: no time", ErrForm)
	}
	return nil
}

// OutcomesRequest is the body of the vault's POST /v1/outcomes: the registry asks
// what people have decided about records that were judged before.
type OutcomesRequest struct {
	After uint64 `json:"after"` // the last number that it has
}

// Check takes every number.
func (OutcomesRequest) Check() error { return nil }

// MaxOutcomes is how many an answer holds at most: more are asked for.
const MaxOutcomes = 64

// Outcomes answers an OutcomesRequest, in the order of their numbers.
type Outcomes struct {
	Outcomes []Outcome `json:"outcomes"`
	Last     uint64    `json:"last"` // the highest number that there is
}

// Outcome is a verdict that takes the place of an earlier one.
type Outcome struct {
	Number  uint64 `json:"number"` // from 1
	Record  ID     `json:"record"`
	Verdict string `json:"verdict"` // receipt.Verdict with Supersedes, by the vault's key
}

// Check holds that numbers rise and verdicts are there.
func (o Outcomes) Check() error {
	if len(o.Outcomes) > MaxOutcomes {
		return fmt.Errorf("%w: %d outcomes", ErrForm, len(o.Outcomes))
	}
	before := uint64(0)
	for _, one := range o.Outcomes {
		if one.Number <= before || one.Number > o.Last || one.Verdict == "" || len(one.Verdict) > receipt.MaxSize {
			return fmt.Errorf("%w: outcome %d", ErrForm, one.Number)
		}
		before = one.Number
	}
	return nil
}
