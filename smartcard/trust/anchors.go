package trust

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"fmt"
	"maps"
	"slices"
	"time"
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

// Anchors are trusted CSCA certificates, what they vouch for, and the revocation
// lists they signed. The zero value trusts nobody. It does not change; its
// methods may be called at the same time.
type Anchors struct {
	list    []*authority
	signers []*certificate // of documents that do not carry their signer's certificate
	crls    map[issuer]*revocations
}

// authority is an anchor, or a CSCA that an anchor vouches for through a link
// certificate (Doc 9303-12 7.1): the new key, signed with the old one.
type authority struct {
	*certificate
	class Class
	via   *authority // who signed the link, nil for an anchor
}

func (a *authority) anchor() *authority {
	for a.via != nil {
		a = a.via
	}
	return a
}

// validAt wants every certificate up to the anchor valid.
func (a *authority) validAt(t time.Time) bool {
	return a.certificate.validAt(t) && (a.via == nil || a.via.validAt(t))
}

// NewAnchors takes CSCA certificates and CRLs (DER). Each CRL must be signed by
// one of the certificates and complete. One key cannot be of two classes. A
// certificate whose key this package cannot use is kept: documents under it
// fail with ErrUnsupported, others do not suffer.
func NewAnchors(certs []Anchor, crls ...[]byte) (Anchors, error) {
	a := Anchors{crls: make(map[issuer]*revocations)}
	for i, anchor := range certs {
		c, err := parseCertificate(anchor.Certificate)
		if err == nil && anchor.Class != Production && anchor.Class != Test {
			err = fmt.Errorf("%w: class %q", ErrCertificate, anchor.Class)
		}
		if err == nil {
			err = c.checkAuthority()
		}
		if err == nil {
			err = a.add(&authority{certificate: c, class: anchor.Class})
		}
		if err != nil {
			return Anchors{}, fmt.Errorf("anchor %d: %w", i, err)
		}
	}
	return a.With(nil, crls...)
}

func (c *certificate) checkAuthority() error {
	switch {
	case !c.isCA || c.keyUsage&keyCertSign == 0:
		return fmt.Errorf("%w: not a certificate authority", ErrCertificate)
	case c.unknownCritical != nil:
		return fmt.Errorf("%w: critical extension %v", ErrCertificate, c.unknownCritical)
	}
	return nil
}

func (a *Anchors) add(ca *authority) error {
	id := sha256.Sum256(ca.spki)
	for _, other := range a.list {
		if other.class != ca.class && sha256.Sum256(other.spki) == id {
			return fmt.Errorf("%w: its key is trusted as %s and as %s", ErrCertificate, other.class, ca.class)
		}
	}
	a.list = append(a.list, ca)
	return nil
}

// With adds certificates that nobody needs to trust: link certificates, which
// count as far as an anchor of the same country vouches for them, and document
// signers, for documents that do not carry theirs. It adds CRLs of anchors and
// of authorities so found. A certificate that leads to no anchor is no error.
func (a Anchors) With(certificates [][]byte, crls ...[]byte) (Anchors, error) {
	a.list, a.signers = slices.Clone(a.list), slices.Clone(a.signers)
	lists := make(map[issuer]*revocations)
	for id, r := range a.crls {
		lists[id] = r.clone()
	}
	a.crls = lists
	var links []*certificate
	for i, der := range certificates {
		c, err := parseCertificate(der)
		if err != nil {
			return Anchors{}, fmt.Errorf("certificate %d: %w", i, err)
		}
		if c.checkAuthority() == nil {
			links = append(links, c)
		} else {
			a.signers = append(a.signers, c)
		}
	}
	// A link may lead from a link: until none is found any more.
	for found := true; found; {
		found = false
		for i, c := range links {
			if c == nil || a.has(c) {
				continue
			}
			ca, _, err := a.issuerOf(c)
			if err != nil || ca.country() != c.country() {
				continue
			}
			if err := a.add(&authority{c, ca.class, ca}); err != nil {
				return Anchors{}, fmt.Errorf("link certificate: %w", err)
			}
			links[i], found = nil, true
		}
	}
	for i, der := range crls {
		if err := a.addCRL(der); err != nil {
			return Anchors{}, fmt.Errorf("revocation list %d: %w", i, err)
		}
	}
	return a, nil
}

func (a Anchors) has(c *certificate) bool {
	return slices.ContainsFunc(a.list, func(ca *authority) bool { return bytes.Equal(ca.raw, c.raw) })
}

// issuerOf finds the authority that signed a certificate: among those of the
// issuer's name, first those of the authority key identifier, the signature
// chooses.
func (a Anchors) issuerOf(c *certificate) (*authority, crypto.Hash, error) {
	reason := fmt.Errorf("%w: no anchor by that name", ErrUnknownAuthority)
	for _, byKey := range []bool{true, false} {
		for _, ca := range a.list {
			same := len(ca.keyID) > 0 && bytes.Equal(ca.keyID, c.authorityKeyID)
			if same != byKey || ca.subject.canonical != c.issuer.canonical {
				continue
			}
			if ca.keyErr != nil {
				reason = unsupported(ca.keyErr)
				continue
			}
			hash, err := ca.verify(c.algorithm, 0, c.tbs, c.signature)
			if err == nil {
				return ca, hash, nil
			}
			reason = fmt.Errorf("%w: not signed by the anchor of that name: %v", ErrUnknownAuthority, err)
		}
	}
	return nil, 0, reason
}

// documentSigner judges the signer of a document (Doc 9303-12 7.1), whose
// certificates must be valid on the given day, and who signed before now.
func (a Anchors) documentSigner(s signed, day, now time.Time) (*authority, crypto.Hash, error) {
	ca, hash, err := a.signerUnder(s, day, now)
	if err == nil && len(s.extendedUsage) > 0 {
		// Signers of master lists, deviation lists and seals stand under the same authorities.
		return nil, 0, fmt.Errorf("%w: made for another use", ErrCertificate)
	}
	return ca, hash, err
}

// signerUnder judges what signers of documents and of master lists have in common.
func (a Anchors) signerUnder(s signed, day, now time.Time) (*authority, crypto.Hash, error) {
	ca, hash, err := a.issuerOf(s.certificate)
	if err != nil {
		return nil, 0, err
	}
	if err := s.checkSigner(); err != nil {
		return nil, 0, err
	}
	switch {
	case s.country() != ca.country():
		return nil, 0, fmt.Errorf("%w: signer and authority are of different countries", ErrCertificate)
	case !s.validAt(day) || !ca.validAt(day):
		return nil, 0, ErrSignerExpired
	case !s.at.IsZero() && (!s.validAt(s.at) || s.at.After(now)):
		return nil, 0, fmt.Errorf("%w: signing time", ErrSignerExpired)
	}
	return ca, hash, nil
}

// family are the names under which an authority may have revoked: its own, and
// those of the keys that it vouches for after a change of name.
func (a Anchors) family(ca *authority) map[string]bool {
	names := map[string]bool{ca.subject.canonical: true}
	for _, other := range a.list {
		for up := other; up != nil; up = up.via {
			if up == ca {
				names[other.subject.canonical] = true
			}
		}
	}
	return names
}

// revoked looks a signer up, and the links above it.
func (a Anchors) revoked(c *certificate, ca *authority, at time.Time) (verdict Verdict, stale bool, err error) {
	verdict = NotChecked
	for ; ca != nil; c, ca = ca.certificate, ca.via {
		for _, name := range slices.Sorted(maps.Keys(a.family(ca))) {
			list := a.crls[issuer{name, ca.class}]
			if list == nil {
				continue
			}
			if list.serials[c.serial.String()] {
				return Failed, stale, ErrRevoked
			}
			stale = stale || at.After(list.nextUpdate)
			verdict = Passed
		}
	}
	return verdict, stale, nil
}
