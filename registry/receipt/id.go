package receipt

import (
	"fmt"

	tlog "github.com/transparency-dev/formats/proof"
)

// RecordID is the record id that a final receipt names. It is unverified: pass
// it to Verify, and compare it with the record in hand.
func RecordID(receipt []byte) (id [32]byte, err error) {
	_, id, err = Names(receipt)
	return id, err
}

// Names is what a final receipt names: the record, and the blind without which nobody
// finds that in the log. It is unverified.
func Names(receipt []byte) (blind, id [32]byte, err error) {
	var p tlog.TLogProof
	if len(receipt) > MaxSize || p.Unmarshal(receipt) != nil || len(p.ExtraData) != 64 {
		return blind, id, fmt.Errorf("%w: no record id", ErrForm)
	}
	return [32]byte(p.ExtraData[:32]), [32]byte(p.ExtraData[32:]), nil
}
