package chain

import (
	"fmt"
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
type Signers struct{ kiosks, officers Roots }

// NewSigners prepares those of a policy.
func NewSigners(p policy.Policy) (s Signers, err error) {
	if s.kiosks, err = Parse(p.KioskCA); err != nil {
		return s, err
	}
	s.officers, err = Parse(p.OfficerCA)
	return s, err
}

// Verify checks who made a signature on p at a time, and returns the class of
// the root behind them; "" for holders, who have no certificate. revoked says
// which officers may not sign any more. Errors are *Refusal.
func (s Signers) Verify(sig record.Signature, p record.Payload, at time.Time, revoked Revocations) (record.Class, error) {
	switch sig.Role {
	case record.Kiosk:
		class, err := s.kiosks.Verify(sig.Chain, at)
		if err != nil {
			return "", Refuse(api.CodeKiosk, "kiosk: %w", err)
		}
		if sig.Chain[0].Subject.CommonName != p.Context.KioskID {
			return "", Refuse(api.CodeKiosk, "the certificate is another kiosk's")
		}
		return class, nil
	case record.Officer, record.Supervisor:
		class, err := s.officers.Verify(sig.Chain, at)
		if err != nil {
			return "", Refuse(api.CodeOfficer, "%s: %w", sig.Role, err)
		}
		if sig.Chain[0].Subject.SerialNumber == "" {
			return "", Refuse(api.CodeOfficer, "%s: the certificate has no number", sig.Role)
		}
		if revoked.officer(sig.Chain[0].Raw, at) {
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

// Revocations are all policies that ever were in force, in any order.
type Revocations []policy.Policy

// officer says whether the newest policy issued by a time revokes a
// certificate. A kiosk that was offline names an older one; what it made before
// the revocation stands.
func (r Revocations) officer(certificate []byte, at time.Time) bool {
	var newest policy.Policy
	for _, p := range r {
		if !p.Issued.After(at) && p.Version > newest.Version {
			newest = p
		}
	}
	return newest.OfficerRevoked(certificate)
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
