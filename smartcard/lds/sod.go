package lds

import (
	"crypto"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
)

// SOD is EF.SOD taken apart (Doc 9303-10 4.6.2, RFC 5652): nothing in it is
// verified yet.
type SOD struct {
	Version        int // of the LDS security object: 0 or 1
	Digest         crypto.Hash
	Hashes         map[File][]byte // data group hashes under Digest
	LDSVersion     string          // "0108"; version 1 only
	UnicodeVersion string

	ContentType  asn1.ObjectIdentifier
	Content      []byte // LDSSecurityObject, DER: what the signature speaks of
	Digests      []pkix.AlgorithmIdentifier
	Certificates [][]byte // DER, in the card's order
	Signer       Signer
}

// Signer is the one SignerInfo of an SOD.
type Signer struct {
	Issuer             []byte   // Name, DER; with Serial
	Serial             *big.Int // nil when KeyID is set
	KeyID              []byte   // subject key identifier
	Digest             pkix.AlgorithmIdentifier
	Attributes         []byte // signed attributes as they were signed: SET OF, DER
	SignatureAlgorithm pkix.AlgorithmIdentifier
	Signature          []byte
}

// ParseSOD reads EF.SOD. It fails with ErrIndefinite for BER of indefinite
// length.
func ParseSOD(file []byte) (SOD, error) { return SOD{}, ErrMalformed }
