package registry

import "errors"

// facts are what other records say about one that comes. What a fact was read for
// does not change before the transaction ends.
type facts interface {
	held(id [32]byte) bool
	// keyTaken says whether another record has brought a key. Its did:key says as much
	// as its thumbprint: a record has both of one key.
	keyTaken(thumbprint [32]byte, did string) bool
	links
	dids
}

// links are kiosks' chains.
type links interface {
	// link is what has a place; has is false if nothing does.
	link(p place) (l link, has bool, err error)
	// numberOf is the number of a record of a kiosk; 0 if it is not known.
	numberOf(kiosk string, id [32]byte) (uint64, error)
	keepLink(p place, l link) error
	keepFork(kiosk string, f Fork) error
}

// dids are what became of DIDs.
type dids interface {
	// holder is what became of a DID; errHolder if there never was one.
	holder(did string) (holder, error)
	keepHolder(did string, h holder) error
	// keepCode remembers whose DID the cancel code of a hash is for, and which record
	// brought the code. The first stays.
	keepCode(hash [32]byte, did string, id [32]byte) error
}

// codes are the cancel codes.
type codes interface {
	dids
	code(hash [32]byte) (did string, id [32]byte, known bool, err error)
	// cancellation is that of a DID; ErrNoCancellation if there is none.
	cancellation(did string) (Cancellation, error)
	keepCancellation(c Cancellation) error
}

// admit decides on a record by what other records say, and keeps what it does to
// its kiosk's chain and to DIDs. errFork, errChain, errKeyTaken, errHolder and errSuspended
// refuse it for good, with nothing kept. held: it is there already. gap: the number
// before its own has not come.
func admit(f facts, e entry) (held, gap bool, err error) {
	r := e.submission.Record()
	p, id := r.Payload(), r.ID()
	if f.held(id) {
		return true, false, nil
	}
	own := place{p.Context.KioskID, p.Context.Sequence}
	if own.sequence != 0 {
		if gap, err = follows(f, own, e.link, e.starts); err != nil {
			return false, false, err
		}
	}
	if e.newKey != [32]byte{} && f.keyTaken(e.newKey, p.Holder.DID) {
		return false, false, errKeyTaken
	}
	if err := moveHolder(f, p, id); err != nil {
		return false, false, err
	}
	if own.sequence != 0 {
		err = f.keepLink(own, e.link)
	}
	return false, gap, err
}

// refusal says whether an error refuses a record for good.
func refusal(err error) bool {
	return errors.Is(err, errFork) || errors.Is(err, errChain) || errors.Is(err, errKeyTaken) || errors.Is(err, errHolder) || errors.Is(err, errSuspended)
}
