package registry

import (
	"bytes"
	"errors"

	"enrollkiosk/registry/record"
)

// facts are what other records say about one that comes. What a fact was read for
// does not change before the transaction ends.
type facts interface {
	held(id [32]byte) bool
	sequenceTaken(p place) bool
	keyTaken(thumbprint [32]byte) bool
	// holder is the standing of a DID; errHolder if it never had one.
	holder(did string) (holder, error)
	keepHolder(did string, h holder) error
}

// place is a kiosk's sequence number.
type place struct {
	kiosk    string
	sequence uint64
}

// holder is the standing of a DID.
type holder struct {
	Record  []byte `json:"record"`             // the record that brought it
	EndedBy []byte `json:"ended_by,omitempty"` // the record that ended it
}

// admit decides on a record by what other records say, and keeps what it does to
// DIDs. errFork, errKeyTaken and errHolder refuse it for good, with nothing kept.
// held: it is there already. gap: the number before its own has not come.
func admit(f facts, e entry) (held, gap bool, err error) {
	r := e.submission.Record()
	p, id := r.Payload(), r.ID()
	if f.held(id) {
		return true, false, nil
	}
	own := place{p.Context.KioskID, p.Context.Sequence}
	if own.sequence != 0 {
		if f.sequenceTaken(own) {
			return false, false, errFork
		}
		before := place{own.kiosk, own.sequence - 1}
		gap = before.sequence > e.first && !f.sequenceTaken(before)
	}
	if e.newKey != [32]byte{} && f.keyTaken(e.newKey) {
		return false, false, errKeyTaken
	}
	return false, gap, moveHolder(f, p, id)
}

// refusal says whether an error refuses a record for good.
func refusal(err error) bool {
	return errors.Is(err, errFork) || errors.Is(err, errKeyTaken) || errors.Is(err, errHolder)
}

// living is the standing of a DID that has not ended; errHolder if it has.
func living(f facts, did string) (holder, error) {
	h, err := f.holder(did)
	if err == nil && h.EndedBy != nil {
		err = errHolder
	}
	return h, err
}

// moveHolder follows what a record does to DIDs; errHolder if it may not.
func moveHolder(f facts, p record.Payload, id [32]byte) error {
	end := func(did string) error {
		h, err := living(f, did)
		if err != nil {
			return err
		}
		h.EndedBy = id[:]
		return f.keepHolder(did, h)
	}
	switch p.Context.Purpose {
	case record.Replace:
		if err := end(p.Replaces); err != nil {
			return err
		}
	case record.Update:
		_, err := living(f, p.Holder.DID)
		return err
	case record.Revoke:
		return end(p.Holder.DID)
	case record.Void:
		return nil
	}
	return f.keepHolder(p.Holder.DID, holder{Record: id[:]})
}

// undoHolder ends the DID that a refused record brought, and gives the one that
// it replaced its standing back.
func undoHolder(f facts, p record.Payload, id [32]byte) error {
	if h, err := f.holder(p.Holder.DID); err == nil && bytes.Equal(h.Record, id[:]) && h.EndedBy == nil {
		h.EndedBy = id[:]
		if err := f.keepHolder(p.Holder.DID, h); err != nil {
			return err
		}
	}
	if h, err := f.holder(p.Replaces); err == nil && bytes.Equal(h.EndedBy, id[:]) {
		h.EndedBy = nil
		return f.keepHolder(p.Replaces, h)
	}
	return nil
}
