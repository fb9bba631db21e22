package idcard

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"fmt"
	"maps"
	"slices"
	"time"
)

// documentSecurityObject is EF.SOD of version 0 (9303-10 4.6.2.3, RFC 5652): the
// SHA-256 of every data group, signed by the document signer.
func (a *Authority) documentSecurityObject(groups map[int][]byte) ([]byte, error) {
	sha256ID := tlv(0x30, oid(2, 16, 840, 1, 101, 3, 4, 2, 1))
	securityObject := oid(2, 23, 136, 1, 1, 1)

	var hashes [][]byte
	for _, n := range slices.Sorted(maps.Keys(groups)) {
		h := sha256.Sum256(groups[n])
		hashes = append(hashes, tlv(0x30, small(n), tlv(0x04, h[:])))
	}
	content := tlv(0x30, small(0), sha256ID, tlv(0x30, hashes...))

	digest := sha256.Sum256(content)
	attribute := func(id, value []byte) []byte { return tlv(0x30, id, tlv(0x31, value)) }
	signed := set(
		attribute(oid(1, 2, 840, 113549, 1, 9, 3), securityObject),
		attribute(oid(1, 2, 840, 113549, 1, 9, 4), tlv(0x04, digest[:])),
		attribute(oid(1, 2, 840, 113549, 1, 9, 5), tlv(0x17, []byte(time.Now().UTC().Format("060102150405Z")))),
	)
	algorithm, signature, err := a.sign(signed)
	if err != nil {
		return nil, fmt.Errorf("sign document security object: %w", err)
	}
	signed[0] = 0xA0 // signed as a SET, written as [0] IMPLICIT (RFC 5652 5.4)
	cert := a.signer.cert
	signer := tlv(0x30, small(1), tlv(0x30, cert.RawIssuer, integer(cert.SerialNumber)),
		sha256ID, signed, algorithm, tlv(0x04, signature))

	data := tlv(0x30, small(3), tlv(0x31, sha256ID),
		tlv(0x30, securityObject, tlv(0xA0, tlv(0x04, content))),
		tlv(0xA0, cert.Raw), tlv(0x31, signer))
	return tlv(0x77, tlv(0x30, oid(1, 2, 840, 113549, 1, 7, 2), tlv(0xA0, data))), nil
}

// sign returns the algorithm identifier and the document signer's signature.
func (a *Authority) sign(message []byte) (algorithm, signature []byte, err error) {
	digest := sha256.Sum256(message)
	var opts crypto.SignerOpts = crypto.SHA256
	switch a.algorithm {
	case ECDSA:
		algorithm = tlv(0x30, oid(1, 2, 840, 10045, 4, 3, 2))
	case RSA:
		algorithm = tlv(0x30, oid(1, 2, 840, 113549, 1, 1, 11), tlv(0x05))
	case PSS: // RFC 4055 3.1
		hash := tlv(0x30, oid(2, 16, 840, 1, 101, 3, 4, 2, 1))
		mask := tlv(0x30, oid(1, 2, 840, 113549, 1, 1, 8), hash)
		algorithm = tlv(0x30, oid(1, 2, 840, 113549, 1, 1, 10),
			tlv(0x30, tlv(0xA0, hash), tlv(0xA1, mask), tlv(0xA2, small(sha256.Size))))
		opts = &rsa.PSSOptions{SaltLength: sha256.Size, Hash: crypto.SHA256}
	}
	signature, err = a.signer.key.Sign(rand.Reader, digest[:], opts)
	return algorithm, signature, err
}
