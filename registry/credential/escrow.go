package credential

import (
	"crypto/ecdsa"
	"crypto/hpke"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"time"
)

// Sizes in bytes.
const (
	EscrowSize = encSize + escrowText + tagSize
	escrowText = 64
	encSize    = 1120 // encapsulation
	tagSize    = 16
)

const (
	escrowInfo    = "enrollkiosk/escrow/v1"
	escrowVersion = 1
)

func escrowData(issuer, vct string, key *ecdsa.PublicKey, s StatusRef, expires time.Time) [32]byte {
	print := Thumbprint(key)
	h := sha256.New()
	for _, part := range [][]byte{
		[]byte(issuer), []byte(vct), print[:], []byte(s.URI),
		binary.BigEndian.AppendUint64(nil, s.Index), binary.BigEndian.AppendUint64(nil, uint64(expires.Unix())),
	} {
		h.Write(binary.BigEndian.AppendUint32(nil, uint32(len(part))))
		h.Write(part)
	}
	return [32]byte(h.Sum(nil))
}

// seal encrypts to the authority: HPKE base mode (RFC 9180), MLKEM768-X25519,
// HKDF-SHA256, AES-256-GCM, whose info is purpose || 00 || authority key id.
func seal(authority hpke.PublicKey, purpose, keyID string, data [32]byte, text []byte) ([]byte, error) {
	enc, sender, err := hpke.NewSender(authority, hpke.HKDFSHA256(), hpke.AES256GCM(), []byte(purpose+"\x00"+keyID))
	if err != nil {
		return nil, err
	}
	if len(enc) != encSize {
		return nil, ErrKey
	}
	ct, err := sender.Seal(data[:], text)
	return append(enc, ct...), err
}

// unseal is the inverse. The error wraps ErrEscrow.
func unseal(authority hpke.PrivateKey, purpose, keyID string, data [32]byte, sealed []byte) ([]byte, error) {
	recipient, err := hpke.NewRecipient(sealed[:encSize], authority, hpke.HKDFSHA256(), hpke.AES256GCM(), []byte(purpose+"\x00"+keyID))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrEscrow, err)
	}
	text, err := recipient.Open(data[:], sealed[encSize:])
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrEscrow, err)
	}
	return text, nil
}

// SealEscrow encrypts a record id to the authority, afresh for each credential:
// nobody can change a ciphertext into another of the same text. data is
// [Content.EscrowData]. The text is always 64 bytes: version, record id, zeros.
func SealEscrow(authority hpke.PublicKey, keyID string, data, record [32]byte) ([]byte, error) {
	text := make([]byte, escrowText)
	text[0] = escrowVersion
	copy(text[1:], record[:])
	sealed, err := seal(authority, escrowInfo, keyID, data, text)
	if err != nil {
		return nil, fmt.Errorf("seal escrow: %w", err)
	}
	return sealed, nil
}

// OpenEscrow finds the record behind a credential. jwt is its Issuer-signed JWT,
// at the time when the website accepted it: credential and certificate must have
// been good then. The error wraps a [Refusal]: [ErrEscrow] if the issuer sealed
// something else, or for another credential.
func OpenEscrow(jwt string, a Authority, at time.Time, authority hpke.PrivateKey, keyID string) (record [32]byte, err error) {
	c, err := open(jwt, nil, a, []string{RealPerson(a.Issuer), LegalName(a.Issuer)}, at)
	if err != nil {
		return record, err
	}
	if len(c.escrow) != EscrowSize {
		return record, ErrEscrow
	}
	data := escrowData(c.issuer, c.vct, c.key, c.status, c.expires)
	text, err := unseal(authority, escrowInfo, keyID, data, c.escrow)
	if err != nil {
		return record, err
	}
	if len(text) != escrowText || text[0] != escrowVersion || [escrowText - 33]byte(text[33:]) != [escrowText - 33]byte{} {
		return record, ErrEscrow
	}
	return [32]byte(text[1:33]), nil
}
