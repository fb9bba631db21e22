package issuer

import (
	"context"
	"time"
)

// Store keeps what an issuer must remember: values by kind and key. Both methods
// run f in one transaction; Change is durable when it returns nil, and changes
// nothing when f returns an error. Only one Change runs at a time, in all processes
// that share the store; f may run again. Values belong to f until it returns.
type Store interface {
	Read(ctx context.Context, f func(Tx) error) error
	Change(ctx context.Context, f func(Tx) error) error
}

// Tx is a transaction.
type Tx interface {
	// Get is nil if there is nothing.
	Get(k Kind, key []byte) ([]byte, error)
	// Put keeps a value until it expires; with zero expires, for good. What has expired
	// may still be found: whoever asks looks at the time itself.
	Put(k Kind, key, value []byte, expires time.Time) error
	Delete(k Kind, key []byte) error
	// First lists keys of a kind, in any order, at most limit.
	First(k Kind, limit int) ([][]byte, error)
	// Sweep deletes what has expired, at most limit.
	Sweep(now time.Time, limit int) error
}

// Kind is what a value is.
type Kind string

// Kinds. "Hash" is SHA-256 of what the holder has: the store cannot be used to act
// in its place.
const (
	KindSecret  Kind = "secret"  // "": of nonces
	KindOffer   Kind = "offer"   // hash of the pre-authorized code -> an offer, JSON
	KindToken   Kind = "token"   // hash of the access token -> a grant, JSON
	KindNonce   Kind = "nonce"   // a nonce that was used
	KindAnswer  Kind = "answer"  // hash of token and request -> the answer, sealed under both
	KindClaim   Kind = "claim"   // record id -> a claim, JSON
	KindLinks   Kind = "links"   // record id -> batches' places, each sealed to the vault
	KindUsed    Kind = "used"    // list, cell -> bits of indices that were given
	KindRevoked Kind = "revoked" // list, cell -> bits of statuses
	KindKeys    Kind = "keys"    // the first two bytes of keys' hashes -> the rest of each, sorted

	// A DID that ends puts its record here; one that is lifted takes it away. The
	// registry's store does so, in the transaction in which it ends.
	KindEnded  Kind = "ended"  // record id -> empty: its places are to be revoked
	KindClosed Kind = "closed" // record id -> empty: they are
)
