package registry

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"enrollkiosk/registry/api"
	"enrollkiosk/registry/receipt"
	"enrollkiosk/registry/record"
)

// holder is what became of a DID. Its three ends do not know of one another, so
// that each can be undone alone.
type holder struct {
	Record     []byte      `json:"record"`                // the record that brought it
	EndedBy    []byte      `json:"ended_by,omitempty"`    // the record that revoked it; its own Record: that was refused
	ReplacedBy []byte      `json:"replaced_by,omitempty"` // the record that brought another key
	Cancelled  CancelState `json:"cancelled,omitempty"`   // by the cancel code
}

// CancelState is what came of a cancel code.
type CancelState string

const (
	CancelSuspended CancelState = "suspended" // until it is due, lifted or confirmed
	CancelRevoked   CancelState = "revoked"
	CancelLifted    CancelState = "lifted" // the DID is as it was, and the code is spent
)

func (h holder) refused() bool { return sameRecord(h.EndedBy, [32]byte(h.Record)) }

// ended says whether the DID has ended for good.
func (h holder) ended() bool {
	return h.EndedBy != nil || h.ReplacedBy != nil || h.Cancelled == CancelRevoked
}

// standing is what became of the DID and why; "" while it is in good standing, or
// never was.
func (h holder) standing() (receipt.Status, string) {
	switch {
	case h.refused():
		return "", ""
	case h.ReplacedBy != nil:
		return receipt.Revoked, api.CodeReplaced
	case h.EndedBy != nil:
		return receipt.Revoked, api.CodeRevoked
	case h.Cancelled == CancelRevoked:
		return receipt.Revoked, api.CodeCancelled
	case h.Cancelled == CancelSuspended:
		return receipt.Suspended, api.CodeCancelled
	}
	return "", ""
}

var (
	errHolder    = errors.New("the did is unknown or has ended")
	errSuspended = errors.New("the did is suspended by its cancel code: a second officer must agree to replace it")
)

// living is the standing of a DID in good standing; errHolder if it has ended,
// errSuspended.
func living(f dids, did string) (holder, error) {
	h, err := f.holder(did)
	switch {
	case err != nil:
		return h, err
	case h.ended():
		return h, errHolder
	case h.Cancelled == CancelSuspended:
		return h, errSuspended
	}
	return h, nil
}

// moveHolder follows what a record does to DIDs; errHolder or errSuspended if it
// may not.
func moveHolder(f dids, p record.Payload, id [32]byte) error {
	switch p.Context.Purpose {
	case record.Replace:
		h, err := replaceable(f, p)
		if err != nil {
			return err
		}
		h.ReplacedBy = id[:]
		if err := f.keepHolder(p.Replaces, h); err != nil {
			return err
		}
	case record.Update:
		if _, err := living(f, p.Holder.DID); err != nil {
			return err
		}
		return keepCode(f, p, id)
	case record.Revoke:
		h, err := f.holder(p.Holder.DID)
		if err == nil && h.ended() {
			err = errHolder
		}
		if err != nil {
			return err
		}
		h.EndedBy = id[:]
		return f.keepHolder(p.Holder.DID, h)
	case record.Void:
		return nil
	}
	if err := keepCode(f, p, id); err != nil {
		return err
	}
	return f.keepHolder(p.Holder.DID, holder{Record: id[:]})
}

// replaceable is a DID that a record may replace: one in good standing, or, where a
// second officer has agreed, one that is suspended or was revoked. That is how a
// person whose key was lost or cancelled gets going again; the vault holds that it
// is the same person.
func replaceable(f dids, p record.Payload) (holder, error) {
	second := slices.ContainsFunc(p.Signers, func(s record.SignerRef) bool { return s.Role == record.Supervisor })
	if !second {
		return living(f, p.Replaces)
	}
	h, err := f.holder(p.Replaces)
	if err == nil && (h.ReplacedBy != nil || h.refused()) {
		err = errHolder
	}
	return h, err
}

func keepCode(f dids, p record.Payload, id [32]byte) error {
	if p.CancelSHA == [32]byte{} {
		return nil
	}
	return f.keepCode(p.CancelSHA, p.Holder.DID, id)
}

// undoHolder ends the DID that a refused record brought, and gives the one that
// it replaced its standing back.
func undoHolder(f dids, p record.Payload, id [32]byte) error {
	if err := refuseHolder(f, p, id); err != nil {
		return err
	}
	if h, err := f.holder(p.Replaces); err == nil && sameRecord(h.ReplacedBy, id) {
		h.ReplacedBy = nil
		return f.keepHolder(p.Replaces, h)
	}
	return nil
}

// refuseHolder ends the DID that a refused record brought.
func refuseHolder(f dids, p record.Payload, id [32]byte) error {
	if h, err := f.holder(p.Holder.DID); err == nil && sameRecord(h.Record, id) && h.EndedBy == nil {
		h.EndedBy = id[:]
		return f.keepHolder(p.Holder.DID, h)
	}
	return nil
}

// redecide follows a verdict that takes the place of an earlier one. What others
// have done to DIDs since stays.
func redecide(f dids, p record.Payload, id [32]byte, active bool) error {
	if !active {
		return refuseHolder(f, p, id)
	}
	if h, err := f.holder(p.Holder.DID); err == nil && sameRecord(h.Record, id) && h.refused() {
		h.EndedBy = nil
		if err := f.keepHolder(p.Holder.DID, h); err != nil {
			return err
		}
	}
	if h, err := f.holder(p.Replaces); err == nil && h.ReplacedBy == nil {
		h.ReplacedBy = id[:]
		return f.keepHolder(p.Replaces, h)
	}
	return nil
}

// Cancellation is a DID whose cancel code was given.
type Cancellation struct {
	DID      string      `json:"did"`
	Record   api.ID      `json:"record"` // whose receipt the code stood on
	State    CancelState `json:"state"`
	Received time.Time   `json:"received"`
	Due      time.Time   `json:"due"` // when it revokes, unless it is lifted
	// Resolution is a person's; nil in a revoked one: nobody decided, and it was due.
	Resolution *Resolution `json:"resolution,omitempty"`
	Ended      time.Time   `json:"ended,omitzero"` // when it was lifted or revoked
}

// Resolution is what a person of the authority has decided.
type Resolution struct {
	By     string    `json:"by"`
	Reason string    `json:"reason"`
	Time   time.Time `json:"time"`
}

// Errors about cancellations. All are a no to the person who decides.
var (
	ErrNoCancellation = errors.New("the cancel code of this did was not given")
	ErrCancelResolved = errors.New("it was lifted or revoked already")
	ErrResolution     = errors.New("a decision says by whom and why it was made")
)

// Longest texts, in bytes.
const (
	maxBy     = 100
	maxReason = 1000
)

func (d Resolution) check() error {
	if strings.TrimSpace(d.By) == "" || strings.TrimSpace(d.Reason) == "" || len(d.By) > maxBy || len(d.Reason) > maxReason {
		return ErrResolution
	}
	return nil
}

// cancel suspends the DID of a code's hash. It does nothing for a code that is not
// ours, or whose DID has ended, is suspended, or was lifted after a code of it.
func cancel(f codes, hash [32]byte, now, due time.Time) (c Cancellation, done bool, err error) {
	did, id, known, err := f.code(hash)
	if err != nil || !known {
		return c, false, err
	}
	h, err := living(f, did)
	if errors.Is(err, errHolder) || errors.Is(err, errSuspended) {
		return c, false, nil
	}
	if err != nil {
		return c, false, err
	}
	switch old, err := f.cancellation(did); {
	case err == nil && old.Record == api.ID(id): // spent
		return c, false, nil
	case err != nil && !errors.Is(err, ErrNoCancellation):
		return c, false, err
	}
	h.Cancelled = CancelSuspended
	c = Cancellation{DID: did, Record: id, State: CancelSuspended, Received: now, Due: due}
	return c, true, errors.Join(f.keepHolder(did, h), f.keepCancellation(c))
}

// resolveCancellation lifts a suspension, or revokes what is suspended: because a
// person has decided, or, with no decision, because it is due.
func resolveCancellation(f codes, did string, state CancelState, d *Resolution, now time.Time) (Cancellation, error) {
	c, err := f.cancellation(did)
	if err != nil {
		return c, err
	}
	if c.State != CancelSuspended {
		return c, fmt.Errorf("%w: %s on %s", ErrCancelResolved, c.State, c.Ended.Format(time.RFC3339))
	}
	h, err := f.holder(did)
	if err != nil {
		return c, err
	}
	c.State, c.Resolution, c.Ended = state, d, now
	if h.Cancelled = state; state == CancelLifted {
		h.Cancelled = ""
	}
	return c, errors.Join(f.keepHolder(did, h), f.keepCancellation(c))
}
