// Package sitekey derives a citizen's keys at websites from the key agreement key
// (9D) of the PIV token, one for each index:
//
//	P   = hash_to_curve("enrollkiosk/sitekey/v1" || 00 || uint64be(index))   RFC 9380, P256_XMD:SHA-256_SSWU_RO_
//	Z   = x(d9D * P)                                                        ECDH in the token
//	PRK = HKDF-Extract(SHA-256("enrollkiosk/sitekey/salt/v1" || 00 || pub9D), Z)
//	OKM = HKDF-Expand(PRK, "enrollkiosk/sitekey/v1" || 00 || uint64be(index) || uint8(ctr), 32)
//	k   = OKM, if it is a private key of P-256; else with the next ctr, from 0
//
// The same token gives the same keys on every machine. Nobody learns a key from
// other keys, from the token's public key, or from a result of another index: each
// index asks the token anew.
//
// Invariants: no key is written anywhere; its bytes are in memory between Derive and
// Erase, as far as Go lets that be said ("hardware-rooted", not "resident"). 9D is
// used for nothing else, and its public key is shown to no website: whoever answered
// raw agreements with it would give all keys away.
//
// Non-goals: knowing which site has which index (holder/store).
package sitekey

import (
	"context"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/cloudflare/circl/group"
)

// Agreement is ECDH with the token's 9D, a key on P-256. AgreeAll returns the first
// coordinate of each shared point, 32 bytes; the caller erases them.
type Agreement interface {
	Public() *ecdh.PublicKey
	AgreeAll(ctx context.Context, peers []*ecdh.PublicKey) ([][]byte, error)
}

const (
	curveDST  = "enrollkiosk-sitekey-V01-CS01-with-P256_XMD:SHA-256_SSWU_RO_"
	siteLabel = "enrollkiosk/sitekey/v1"
	saltLabel = "enrollkiosk/sitekey/salt/v1"
	mapLabel  = "enrollkiosk/map/v1"
	idLabel   = "enrollkiosk/holder/token/v1"
	size      = 32 // bytes of a coordinate, of a private key, of an AES-256 key
)

var (
	// ErrAgreement means that the token gave something that is no result of ECDH.
	ErrAgreement = errors.New("the token's answer is no shared secret: use another token")
	// ErrErased means that a key is used after Erase.
	ErrErased = errors.New("the key was erased")
)

// Key is the private key of one index. It is a crypto.Signer for SHA-256 digests.
type Key struct {
	public *ecdsa.PublicKey
	raw    []byte // nil once erased
}

// Derive makes the keys of some indices, in their order: one agreement for each, one
// touch for all if the token was made for sign-in. The caller erases each.
func Derive(ctx context.Context, a Agreement, indices ...uint64) ([]*Key, error) {
	peers := make([]*ecdh.PublicKey, len(indices))
	for i, index := range indices {
		var err error
		if peers[i], err = point(siteLabel, index); err != nil {
			return nil, fmt.Errorf("derive site key: %w", err)
		}
	}
	shared, err := agree(ctx, a, peers)
	defer Erase(shared...)
	if err != nil {
		return nil, fmt.Errorf("derive site key: %w", err)
	}
	keys := make([]*Key, len(indices))
	for i, z := range shared {
		if keys[i], err = keyOf(a.Public(), z, indices[i]); err != nil {
			for _, k := range keys[:i] {
				k.Erase()
			}
			return nil, fmt.Errorf("derive site key: %w", err)
		}
	}
	return keys, nil
}

// MapKey is the key of the file that keeps which site has which index: the same
// construction under a label of its own, 32 bytes. The caller erases it.
func MapKey(ctx context.Context, a Agreement) ([]byte, error) {
	peer, err := point(mapLabel, 0)
	if err != nil {
		return nil, fmt.Errorf("derive map key: %w", err)
	}
	shared, err := agree(ctx, a, []*ecdh.PublicKey{peer})
	defer Erase(shared...)
	if err != nil {
		return nil, fmt.Errorf("derive map key: %w", err)
	}
	return expand(a.Public(), shared[0], mapLabel, 0, 0)
}

// TokenID names the token on the citizen's own machine, without a PIN: SHA-256 over a
// label and pub9D, its first 16 bytes. It opens nothing and is shown to nobody else.
func TokenID(public *ecdh.PublicKey) [16]byte {
	d := sha256.Sum256(append([]byte(idLabel+"\x00"), public.Bytes()...))
	return [16]byte(d[:16])
}

func agree(ctx context.Context, a Agreement, peers []*ecdh.PublicKey) ([][]byte, error) {
	shared, err := a.AgreeAll(ctx, peers)
	if err != nil {
		return shared, err
	}
	if len(shared) != len(peers) {
		return shared, ErrAgreement
	}
	for _, z := range shared {
		if len(z) != size {
			return shared, ErrAgreement
		}
	}
	return shared, nil
}

// message is label || 00 || uint64be(index).
func message(label string, index uint64) []byte {
	return binary.BigEndian.AppendUint64(append([]byte(label), 0), index)
}

// point hashes to the curve (RFC 9380 3): nobody knows its logarithm.
func point(label string, index uint64) (*ecdh.PublicKey, error) {
	b, err := group.P256.HashToElement(message(label, index), []byte(curveDST)).MarshalBinary()
	if err != nil {
		return nil, err
	}
	return ecdh.P256().NewPublicKey(b) // refuses the identity
}

// expand is one OKM.
func expand(public *ecdh.PublicKey, z []byte, label string, index uint64, counter uint8) ([]byte, error) {
	salt := sha256.Sum256(append([]byte(saltLabel+"\x00"), public.Bytes()...))
	prk, err := hkdf.Extract(sha256.New, z, salt[:])
	if err != nil {
		return nil, err
	}
	defer clear(prk)
	info := message(label, index)
	if label == siteLabel {
		info = append(info, counter)
	}
	return hkdf.Expand(sha256.New, prk, string(info), size)
}

func keyOf(public *ecdh.PublicKey, z []byte, index uint64) (*Key, error) {
	for counter := range 256 { // the second is needed once in 2^32
		raw, err := expand(public, z, siteLabel, index, uint8(counter))
		if err != nil {
			return nil, err
		}
		private, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), raw)
		if err != nil { // 0, or not below the order
			clear(raw)
			continue
		}
		public := private.PublicKey
		overwrite(private)
		return &Key{&public, raw}, nil
	}
	return nil, ErrAgreement
}

func overwrite(private *ecdsa.PrivateKey) {
	clear(private.D.Bits()) //lint:ignore SA1019 no other way reaches the number itself
}

// Public is an *ecdsa.PublicKey on P-256.
func (k *Key) Public() crypto.PublicKey { return k.public }

// ECDSA is Public in its own type.
func (k *Key) ECDSA() *ecdsa.PublicKey { return k.public }

// Sign is ECDSA with a random nonce, so that the same text is never signed alike.
func (k *Key) Sign(random io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	if k.raw == nil {
		return nil, ErrErased
	}
	private, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), k.raw)
	if err != nil {
		return nil, err
	}
	defer overwrite(private)
	return private.Sign(random, digest, opts)
}

// Erase overwrites the private key. It may be called again.
func (k *Key) Erase() {
	if k != nil {
		clear(k.raw)
		k.raw = nil
	}
}

// Erase overwrites secrets.
func Erase(secrets ...[]byte) {
	for _, s := range secrets {
		clear(s)
	}
}

// String keeps the key out of every text.
func (k *Key) String() string { return "site key" }

// GoString is String.
func (k *Key) GoString() string { return k.String() }
