package trust

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"maps"
	"time"

	"enrollkiosk/smartcard/tlv"
)

// issuer of revocation lists. Lists of one class say nothing of the other.
type issuer struct {
	name  string // canonical
	class Class
}

// revocations are the serial numbers that one issuer revoked. A number stays
// revoked when a later list leaves it out.
type revocations struct {
	serials    map[string]bool
	nextUpdate time.Time // latest of the issuer's lists
}

func (r *revocations) clone() *revocations {
	return &revocations{maps.Clone(r.serials), r.nextUpdate}
}

// addCRL takes a list (Doc 9303-12 7.1.4) that any key of the issuer's name
// signed: a state's newest key signs for all of them.
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
	id := issuer{name: canonicalName(list.RawIssuer)}
	for _, ca := range a.list {
		if id.class != "" || ca.subject.canonical != id.name || ca.keyUsage&crlSign == 0 {
			continue
		}
		if _, err := ca.verify(algorithm, 0, list.RawTBSRevocationList, list.Signature); err == nil {
			id.class = ca.class
		}
	}
	if id.class == "" {
		return fmt.Errorf("%w: no anchor signed it", ErrUnknownAuthority)
	}
	// Partial, indirect and delta lists say so in critical extensions: taking
	// one for a whole list would hide revocations.
	for _, e := range list.Extensions {
		if e.Critical {
			return fmt.Errorf("%w: revocation list with critical extension %v", ErrUnsupported, e.Id)
		}
	}
	r := a.crls[id]
	if r == nil {
		r = &revocations{serials: make(map[string]bool)}
		a.crls[id] = r
	}
	if list.NextUpdate.After(r.nextUpdate) {
		r.nextUpdate = list.NextUpdate
	}
	for _, e := range list.RevokedCertificateEntries {
		r.serials[e.SerialNumber.String()] = true
	}
	return nil
}
