package attest

import (
	"crypto"
	"time"

	"enrollkiosk/hsm"
)

// PIVExpect is what the evidence of a PIV token must say.
type PIVExpect struct {
	Slot        byte             // 0x9A, 0x9D, ...
	Serial      uint32           // of the token that was probed
	Key         crypto.PublicKey // the generated one
	Minimum     [3]byte          // least firmware
	Revoked     []uint64         // serial numbers
	TouchAlways bool             // the key must ask for a touch at every use
	At          time.Time
}

// VerifyPIV checks the evidence of a PIV token.
func VerifyPIV(e hsm.PIVEvidence, roots []Root, want PIVExpect) (Proof, error) {
	return Proof{}, reject(CheckForm, "no evidence")
}
