package receipt

import (
	"context"
	"crypto"
	"crypto/sha256"
	"fmt"

	"enrollkiosk/registry/record"
)

// RenewalType is the typ of a kiosk's request for new certificates.
const RenewalType = "enrollkiosk-renewal+jws"

// Renewal asks for new certificates for the keys that a kiosk has: its record key
// shows that it is still in the hands that hold the TLS key. It is bound to the
// certificate under which it is sent, so that it is of no use when that has ended.
type Renewal struct {
	Kiosk       string   `json:"kiosk"`
	Audience    string   `json:"audience"`    // log origin
	Certificate [32]byte `json:"certificate"` // SHA-256 of the TLS certificate that the kiosk shows, DER
}

// SignRenewal signs with the kiosk's record key; shown is its TLS certificate, DER.
func SignRenewal(ctx context.Context, id, audience string, shown []byte, kiosk record.Signer) ([]byte, error) {
	if id == "" || audience == "" || len(shown) == 0 {
		return nil, fmt.Errorf("%w: renewal", ErrForm)
	}
	return sign(ctx, RenewalType, Renewal{id, audience, sha256.Sum256(shown)}, kiosk)
}

// VerifyRenewal checks a kiosk's request; accept says which key is the kiosk's record
// key, audience is the log's origin, shown the TLS certificate of the connection.
func VerifyRenewal(b []byte, accept func(crypto.PublicKey) bool, kiosk, audience string, shown []byte) (Verified[Renewal], error) {
	v, err := verify[Renewal](b, RenewalType, accept)
	if err != nil {
		return Verified[Renewal]{}, err
	}
	if want := (Renewal{kiosk, audience, sha256.Sum256(shown)}); v.claims != want {
		return Verified[Renewal]{}, fmt.Errorf("%w: another kiosk's, for another registry, or under another certificate", ErrSignature)
	}
	return v, nil
}
