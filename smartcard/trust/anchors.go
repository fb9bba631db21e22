package trust

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"time"

	"enrollkiosk/smartcard/tlv"
)

// Class says what an anchor is good for.
type Class string

// Classes of anchors.
const (
	Production Class = "production"
	Test       Class = "test"
)

// Anchor is a trusted CSCA certificate.
type Anchor struct {
	Certificate []byte // DER
	Class       Class
}

// Anchors are trusted CSCA certificates with the revocation lists they signed.
// The zero value trusts nobody.
type Anchors struct {
	list []*authority
	crls map[string]*revocations // by issuer
}

type authority struct {
	*certificate
	class Class
}

// revocations are the serial numbers that one issuer revoked.
type revocations struct {
	serials    map[string]bool
	nextUpdate time.Time // earliest of the issuer's lists
}

// NewAnchors takes CSCA certificates and CRLs (DER). Each CRL must be signed by
// one of the certificates and complete. One key cannot be of two classes. A
// certificate whose key this package cannot use is kept: documents under it
// fail with ErrUnsupported, others do not suffer.
func NewAnchors(certs []Anchor, crls ...[]byte) (Anchors, error) {
	a := Anchors{crls: make(map[string]*revocations)}
	classes := make(map[[32]byte]Class)
	for i, anchor := range certs {
		c, err := parseCertificate(anchor.Certificate)
		switch {
		case err != nil:
			return Anchors{}, fmt.Errorf("anchor %d: %w", i, err)
		case anchor.Class != Production && anchor.Class != Test:
			return Anchors{}, fmt.Errorf("anchor %d: %w: class %q", i, ErrCertificate, anchor.Class)
		case !c.isCA || c.keyUsage&keyCertSign == 0:
			return Anchors{}, fmt.Errorf("anchor %d: %w: not a certificate authority", i, ErrCertificate)
		case c.unknownCritical != nil:
			return Anchors{}, fmt.Errorf("anchor %d: %w: critical extension %v", i, ErrCertificate, c.unknownCritical)
		}
		id := sha256.Sum256(c.spki)
		if class, ok := classes[id]; ok && class != anchor.Class {
			return Anchors{}, fmt.Errorf("anchor %d: %w: its key is trusted as %s and as %s", i, ErrCertificate, class, anchor.Class)
		}
		classes[id] = anchor.Class
		a.list = append(a.list, &authority{c, anchor.Class})
	}
	for i, der := range crls {
		if err := a.addCRL(der); err != nil {
			return Anchors{}, fmt.Errorf("revocation list %d: %w", i, err)
		}
	}
	return a, nil
}

func (a *Anchors) addCRL(der []byte) error {
	list, err := x509.ParseRevocationList(der)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	outer, err := tlv.ParseOne(der, 0x30)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	top := outer.Cursor()
	top.Next(0x30)
	var algorithm pkix.AlgorithmIdentifier
	if err := decode(top.Next(0x30).Raw, &algorithm); err != nil {
		return err
	}
	signed := false
	for _, ca := range a.list {
		if bytes.Equal(ca.subject, list.RawIssuer) && ca.keyUsage&crlSign != 0 && ca.keyErr == nil {
			_, err := checkSignature(ca.key, algorithm, 0, list.RawTBSRevocationList, list.Signature)
			signed = signed || err == nil
		}
	}
	if !signed {
		return fmt.Errorf("%w: no anchor signed it", ErrUnknownAuthority)
	}
	// Partial, indirect and delta lists say so in critical extensions: taking
	// one for a whole list would hide revocations.
	for _, e := range list.Extensions {
		if e.Critical {
			return fmt.Errorf("%w: revocation list with critical extension %v", ErrUnsupported, e.Id)
		}
	}
	r := a.crls[string(list.RawIssuer)]
	if r == nil {
		r = &revocations{serials: make(map[string]bool), nextUpdate: list.NextUpdate}
		a.crls[string(list.RawIssuer)] = r
	}
	if list.NextUpdate.Before(r.nextUpdate) {
		r.nextUpdate = list.NextUpdate
	}
	for _, e := range list.RevokedCertificateEntries {
		r.serials[e.SerialNumber.String()] = true
	}
	return nil
}

// issuerOf finds the anchor that signed a document signer's certificate.
// Candidates are found by name or key identifier, chosen by signature.
func (a Anchors) issuerOf(c *certificate) (*authority, crypto.Hash, error) {
	reason := fmt.Errorf("%w: no anchor by that name or key identifier", ErrUnknownAuthority)
	for _, ca := range a.list {
		byKey := len(ca.keyID) > 0 && bytes.Equal(ca.keyID, c.authorityKeyID)
		if !byKey && !bytes.Equal(ca.subject, c.issuer) {
			continue
		}
		if ca.keyErr != nil {
			reason = unsupported(ca.keyErr)
			continue
		}
		hash, err := checkSignature(ca.key, c.algorithm, 0, c.tbs, c.signature)
		if err == nil {
			return ca, hash, nil
		}
		reason = fmt.Errorf("%w: not signed by the anchor of that name: %v", ErrUnknownAuthority, err)
	}
	return nil, 0, reason
}
