package chain

import (
	"crypto/x509"
	"fmt"
	"slices"
	"time"

	"enrollkiosk/registry/api"
	"enrollkiosk/registry/policy"
	"enrollkiosk/registry/record"
)

// Refusal is why a record is bad for good.
type Refusal struct {
	Code string // of package api
	err  error
}

func (r *Refusal) Error() string { return r.Code + ": " + r.err.Error() }
func (r *Refusal) Unwrap() error { return r.err }

// Refuse makes a *Refusal.
func Refuse(code, format string, a ...any) error { return &Refusal{code, fmt.Errorf(format, a...)} }

// Signers are the kiosks and officers that a policy lets sign.
type Signers struct {
	kiosks, officers Roots
	policy           policy.Policy
}

// NewSigners prepares those of a policy.
func NewSigners(p policy.Policy) (s Signers, err error) {
	s.policy = p
	if s.kiosks, err = Parse(p.KioskCA); err != nil {
		return s, err
	}
	s.officers, err = Parse(p.OfficerCA)
	return s, err
}

// Verify checks who made a signature at a time, on what the kiosk of an id made,
// and returns the class of the root behind them; "" for holders, who have no
// certificate. revoked says which officers may not sign any more. Errors are
// *Refusal.
func (s Signers) Verify(sig record.Signature, kioskID string, at time.Time, revoked Revocations) (record.Class, error) {
	switch sig.Role {
	case record.Kiosk:
		class, err := s.kiosks.Verify(sig.Chain, at)
		if err != nil {
			return "", Refuse(api.CodeKiosk, "kiosk: %w", err)
		}
		if sig.Chain[0].Subject.CommonName != kioskID {
			return "", Refuse(api.CodeKiosk, "the certificate is another kiosk's")
		}
		return class, nil
	case record.Officer, record.Supervisor, record.Desk:
		class, err := s.officers.Verify(sig.Chain, at)
		if err != nil {
			return "", Refuse(api.CodeOfficer, "%s: %w", sig.Role, err)
		}
		if sig.Chain[0].Subject.SerialNumber == "" {
			return "", Refuse(api.CodeOfficer, "%s: the certificate has no number", sig.Role)
		}
		if !s.policy.OfficerRule(sig.Chain[0]).May(sig.Role) {
			return "", Refuse(api.CodeOfficer, "%s: the policy does not give this role to the certificate's unit", sig.Role)
		}
		if revoked.officer(sig.Chain, at) {
			return "", Refuse(api.CodeOfficerRevoked, "%s: the certificate is revoked", sig.Role)
		}
		return class, nil
	}
	return "", nil
}

// TwoOfficers refuses a record in which officer and supervisor are one person
// with two cards.
func TwoOfficers(signatures []record.Signature) error {
	numbers := map[string]record.Role{}
	for _, s := range signatures {
		if s.Role != record.Officer && s.Role != record.Supervisor {
			continue
		}
		number := s.Chain[0].Subject.SerialNumber
		if other, twice := numbers[number]; twice {
			return Refuse(api.CodeOfficer, "%s and %s have the same number", other, s.Role)
		}
		numbers[number] = s.Role
	}
	return nil
}

// Revocations are those of all policies that ever were in force, in any order.
type Revocations []policy.Revocations

// officer says whether an officer's chain, leaf first, is revoked at a time: by
// the newest policy issued by then, or by any CRL with an earlier date. A kiosk
// that was offline names an older policy; what it made before the revocation
// stands, and a CRL's date is when the card was lost, whoever knew of it.
func (r Revocations) officer(chain []*x509.Certificate, at time.Time) bool {
	var newest policy.Revocations
	for _, p := range r {
		if !p.Issued.After(at) && p.Version > newest.Version {
			newest = p
		}
		if slices.ContainsFunc(chain, func(c *x509.Certificate) bool { return p.Listed(c, at) }) {
			return true
		}
	}
	return newest.Named(chain[0])
}

// clockSkew is how wrong a kiosk's clock may be.
const clockSkew = 24 * time.Hour

// Captured is the time of capture, which everything is judged at: what the kiosk
// says, but not before known or the last time that it had from the registry, and
// not after now. known is a time that the kiosk cannot have been at work before;
// zero if there is none. A clock that is worse than clockSkew, or a kiosk that
// was away for longer than offline allows, is refused.
func Captured(t record.Times, known, now time.Time, offline time.Duration) (time.Time, error) {
	at, heard := t.Wall, t.Registry
	if heard.Before(known) {
		heard = known
	}
	switch {
	case at.After(now.Add(clockSkew)) || heard.After(now.Add(clockSkew)):
		return at, Refuse(api.CodeTime, "from the future")
	case heard.After(at.Add(clockSkew)):
		return at, Refuse(api.CodeTime, "before the last time that the kiosk had from the registry")
	case !heard.IsZero() && at.Sub(heard) > offline:
		return at, Refuse(api.CodeTime, "the kiosk was offline longer than allowed")
	}
	if at.Before(heard) {
		at = heard
	}
	if at.After(now) {
		at = now
	}
	return at, nil
}

// Offline is how long a policy lets a kiosk work without the registry.
func Offline(p policy.Policy) time.Duration { return time.Duration(p.OfflineDays) * 24 * time.Hour }

// unblockWindow is how far a request to unblock a token may be from the clock of
// whoever judges it.
const unblockWindow = 10 * time.Minute

// Unblock checks what registry and vault both check of a request to unblock a
// token: that it was made for a registry, now, by an officer of the service desk
// and a kiosk. It returns the classes of their roots. Errors are *Refusal.
func (s Signers) Unblock(u record.Unblock, origin string, now time.Time, revoked Revocations) (classes []record.Class, err error) {
	c := u.Context()
	switch {
	case c.Audience != origin:
		return nil, Refuse(record.CodeAudience, "made for another registry")
	case c.Time.Before(now.Add(-unblockWindow)) || c.Time.After(now.Add(unblockWindow)):
		return nil, Refuse(api.CodeTime, "made at %s", c.Time.Format(time.RFC3339))
	case now.After(s.policy.Expires):
		return nil, Refuse(api.CodePolicy, "the policy in force has expired")
	case c.AuthorityKeyID != s.policy.Authority.ID:
		return nil, Refuse(api.CodePolicy, "another authority's key")
	}
	for _, sig := range u.Signatures() {
		class, err := s.Verify(sig, c.KioskID, now, revoked)
		if err != nil {
			return nil, err
		}
		classes = append(classes, class)
	}
	return classes, nil
}
