package record

import (
	"crypto/sha256"
	"crypto/subtle"
	"strings"
)

// claimDigits are 40 bits: the code is only ever tried against a server that counts.
const claimDigits = 8

// ClaimCode is what the citizen collects credentials with, once, beside the enrolled
// key. It is derived from the hash of the record's cancel code, so that kiosk and
// registry both know it and no record needs another member:
// SHA-256("enrollkiosk/claim/v1" || CancelHash), its first 40 bits in the letters of
// cancel codes. It tells nothing of the cancel code. A record without one has no
// claim code: "".
func ClaimCode(cancel [32]byte) string {
	if cancel == [32]byte{} {
		return ""
	}
	d := sha256.Sum256(append([]byte("enrollkiosk/claim/v1"), cancel[:]...))
	digits := cancelCoding.EncodeToString(d[:5])
	return digits[:cancelGroup] + "-" + digits[cancelGroup:claimDigits]
}

// IsClaimCode compares what people typed, as forgiving as ParseCancelCode, in
// constant time. No code fits a record without one.
func IsClaimCode(typed string, cancel [32]byte) bool {
	want := strings.ReplaceAll(ClaimCode(cancel), "-", "")
	return want != "" && len(typed) <= maxTyped && subtle.ConstantTimeCompare([]byte(digitsOf(typed)), []byte(want)) == 1
}
