package policy

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	"enrollkiosk/registry/record"
)

// Desk is the role of whoever serves at the desk for tokens: unlocks, replaces,
// takes back. It signs no enrollment record.
const Desk = record.Desk

// OfficerRule says what the officers of one unit may do.
type OfficerRule struct {
	Unit  string        `json:"unit"`  // the one OU of the certificate's subject; "" for certificates without
	Roles []record.Role `json:"roles"` // record.Officer, record.Supervisor, Desk
	// Quota is how many enrollments one officer approves on one day (UTC) at most;
	// 0: no limit.
	Quota uint64 `json:"quota,omitzero"`
}

// May says whether the rule allows a role; the zero rule allows none.
func (r OfficerRule) May(role record.Role) bool { return slices.Contains(r.Roles, role) }

// OfficerRule is the rule for an officer's certificate; zero if there is none,
// and for a certificate of several units.
func (p Policy) OfficerRule(c *x509.Certificate) OfficerRule {
	unit := ""
	switch units := c.Subject.OrganizationalUnit; len(units) {
	case 0:
	case 1:
		unit = units[0]
	default:
		return OfficerRule{}
	}
	for _, r := range p.OfficerRules {
		if r.Unit == unit {
			return r
		}
	}
	return OfficerRule{}
}

// Revocations are the officers' certificates that one policy revokes, prepared
// for looking up.
type Revocations struct {
	Version uint64
	Issued  time.Time
	named   [][32]byte
	listed  map[string]time.Time // by issuer and serial number
}

// Revocations reads the policy's lists, whose form Parse has checked.
func (p Policy) Revocations() Revocations {
	r := Revocations{p.Version, p.Issued, p.RevokedOfficers, map[string]time.Time{}}
	for _, der := range p.OfficerCRLs {
		crl, err := x509.ParseRevocationList(der)
		if err != nil {
			continue
		}
		for _, e := range crl.RevokedCertificateEntries {
			r.listed[string(crl.RawIssuer)+e.SerialNumber.String()] = e.RevocationTime
		}
	}
	return r
}

// Named says whether the authority revoked a certificate with this policy.
func (r Revocations) Named(c *x509.Certificate) bool {
	return slices.Contains(r.named, sha256.Sum256(c.Raw))
}

// Listed says whether the force revoked a certificate before a time. What is on
// hold counts as revoked.
func (r Revocations) Listed(c *x509.Certificate, at time.Time) bool {
	since, ok := r.listed[string(c.RawIssuer)+c.SerialNumber.String()]
	return ok && !at.Before(since)
}

// checkOfficers holds that rules are clear, and that every CRL is complete and of
// the officers' CA.
func (p Policy) checkOfficers() error {
	for i, r := range p.OfficerRules {
		if slices.ContainsFunc(p.OfficerRules[:i], func(o OfficerRule) bool { return o.Unit == r.Unit }) {
			return fmt.Errorf("officers of unit %q: given twice", r.Unit)
		}
		if len(r.Roles) == 0 {
			return fmt.Errorf("officers of unit %q: no role: officer, supervisor or desk", r.Unit)
		}
		for j, role := range r.Roles {
			if role != record.Officer && role != record.Supervisor && role != Desk {
				return fmt.Errorf("officers of unit %q: unknown role %q: officer, supervisor or desk", r.Unit, role)
			}
			if slices.Contains(r.Roles[:j], role) {
				return fmt.Errorf("officers of unit %q: role %q is given twice", r.Unit, role)
			}
		}
	}
	for i, der := range p.OfficerCRLs {
		if err := p.checkOfficerCRL(der); err != nil {
			return fmt.Errorf("officers' CRL %d: %w", i+1, err)
		}
	}
	return nil
}

func (p Policy) checkOfficerCRL(der []byte) error {
	crl, err := x509.ParseRevocationList(der)
	if err != nil {
		return err
	}
	if !bytes.Equal(crl.Raw, der) {
		return errors.New("there is more than one list")
	}
	// A critical extension narrows what the list speaks of (RFC 5280 5.2.4, 5.2.5).
	for _, x := range crl.Extensions {
		if x.Critical {
			return errors.New("it is partial or indirect: give the complete one")
		}
	}
	for _, e := range crl.RevokedCertificateEntries {
		for _, x := range e.Extensions {
			if x.Critical {
				return errors.New("it is indirect: give the complete one")
			}
		}
	}
	for _, r := range p.OfficerCA {
		ca, err := x509.ParseCertificate(r.Certificate)
		if err == nil && bytes.Equal(ca.RawSubject, crl.RawIssuer) && crl.CheckSignatureFrom(ca) == nil {
			return nil
		}
	}
	return errors.New("no officers' CA has signed it")
}
