package credential

import (
	"crypto/hpke"
	"encoding/binary"
	"fmt"
)

// Link is a credential's place: the number of its status list, and its index.
type Link struct {
	List  uint8
	Index uint32
}

// The sealed list of one batch's places: HPKE like an escrow, its text always as long
// as that of the largest batch.
const (
	linksInfo   = "enrollkiosk/links/v1"
	linkSize    = 5
	linksText   = 1 + MaxBatch*linkSize
	SealedLinks = encSize + linksText + tagSize // bytes
)

// SealLinks encrypts the places of one batch to the authority, under the record: the
// issuer keeps that instead of a table that links a person's credentials, and forgets
// the rest.
func SealLinks(authority hpke.PublicKey, keyID string, record [32]byte, links []Link) ([]byte, error) {
	if len(links) > MaxBatch {
		return nil, fmt.Errorf("seal links: %w", ErrSize)
	}
	text := make([]byte, 1, linksText)
	text[0] = byte(len(links))
	for _, l := range links {
		text = binary.BigEndian.AppendUint32(append(text, l.List), l.Index)
	}
	sealed, err := seal(authority, linksInfo, keyID, record, text[:linksText])
	if err != nil {
		return nil, fmt.Errorf("seal links: %w", err)
	}
	return sealed, nil
}

// OpenLinks is the inverse, at the vault.
func OpenLinks(sealed []byte, authority hpke.PrivateKey, keyID string, record [32]byte) ([]Link, error) {
	if len(sealed) != SealedLinks {
		return nil, ErrEscrow
	}
	text, err := unseal(authority, linksInfo, keyID, record, sealed)
	if err != nil {
		return nil, err
	}
	if len(text) != linksText || text[0] > MaxBatch {
		return nil, ErrEscrow
	}
	links := make([]Link, text[0])
	for i := range links {
		b := text[1+i*linkSize:]
		links[i] = Link{b[0], binary.BigEndian.Uint32(b[1:])}
	}
	return links, nil
}
