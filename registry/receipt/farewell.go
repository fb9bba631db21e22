package receipt

import (
	"context"
	"crypto"
	"fmt"
	"time"

	"enrollkiosk/registry/record"
)

// FarewellType is the typ of a kiosk's farewell.
const FarewellType = "enrollkiosk-farewell+jws"

// Farewell is a kiosk's last statement, before its keys are destroyed: after it
// there is no further record.
type Farewell struct {
	Kiosk     string    `json:"kiosk"`
	Audience  string    `json:"audience"` // log origin
	Time      time.Time `json:"time"`
	Sequence  uint64    `json:"sequence"`  // the last number of its TPM's counter
	Recorded  uint64    `json:"recorded"`  // the last number that has a record, or the counter's before its first
	Head      [32]byte  `json:"head"`      // that record's id, zero if there never was one
	Abandoned uint64    `json:"abandoned"` // records that it made and gave up
}

func (f Farewell) wellFormed() bool {
	return f.Kiosk != "" && f.Audience != "" && f.Sequence > 0 && f.Recorded <= f.Sequence
}

// SignFarewell signs with the kiosk's record key.
func SignFarewell(ctx context.Context, f Farewell, kiosk record.Signer) ([]byte, error) {
	if !f.wellFormed() {
		return nil, fmt.Errorf("%w: farewell", ErrForm)
	}
	return sign(ctx, FarewellType, f, kiosk)
}

// VerifyFarewell checks a kiosk's farewell; accept says which key is the kiosk's
// record key, audience is the log's origin.
func VerifyFarewell(b []byte, accept func(crypto.PublicKey) bool, kiosk, audience string) (Verified[Farewell], error) {
	v, err := verify[Farewell](b, FarewellType, accept)
	switch {
	case err != nil:
		return Verified[Farewell]{}, err
	case !v.claims.wellFormed():
		return Verified[Farewell]{}, fmt.Errorf("%w: farewell", ErrForm)
	case v.claims.Kiosk != kiosk || v.claims.Audience != audience:
		return Verified[Farewell]{}, fmt.Errorf("%w: another kiosk's, or for another registry", ErrSignature)
	}
	return v, nil
}
