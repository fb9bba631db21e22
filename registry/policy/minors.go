package policy

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"enrollkiosk/registry/record"
)

// maxAge is the highest age that a rule can ask for, in years.
const maxAge = 120

// Minors says who is too young to decide alone, and who may decide for them. The
// zero value asks nobody's age.
type Minors struct {
	// GuardianBelow is the age, in years, below which a guardian consents in the
	// holder's place.
	GuardianBelow uint64 `json:"guardian_below,omitzero"`
	// GuardianFrom is the age from which somebody can be a guardian.
	GuardianFrom uint64 `json:"guardian_from,omitzero"`
	// Zone is the time of the law, in which birthdays begin, as its distance from UTC
	// ("+08:00", without daylight saving). None: UTC.
	Zone string `json:"zone,omitzero"`
	// Proofs are the kinds of proof of guardianship that an officer may accept.
	Proofs []record.Guardianship `json:"proofs,omitzero"`
}

// Young says whether somebody born on a day needs a guardian at a time.
func (m Minors) Young(born, at time.Time) bool { return !m.reached(m.GuardianBelow, born, at) }

// MayGuard says whether somebody born on a day can be a guardian at a time.
func (m Minors) MayGuard(born, at time.Time) bool {
	return m.GuardianBelow > 0 && m.reached(m.GuardianFrom, born, at)
}

// reached says whether the birthday has begun on which somebody is of an age. Who
// was born on 29 February has it on 1 March in common years.
func (m Minors) reached(age uint64, born, at time.Time) bool {
	if age == 0 {
		return true
	}
	zone, err := parseZone(m.Zone)
	if err != nil {
		return false
	}
	return !at.Before(time.Date(born.Year()+int(age), born.Month(), born.Day(), 0, 0, 0, 0, zone))
}

func parseZone(s string) (*time.Location, error) {
	if s == "" {
		return time.UTC, nil
	}
	t, err := time.Parse("-07:00", s)
	if err != nil || t.Format("-07:00") != s {
		return nil, fmt.Errorf("zone %q: a distance from UTC, such as +08:00", s)
	}
	_, seconds := t.Zone()
	if seconds < -12*3600 || seconds > 14*3600 {
		return nil, fmt.Errorf("zone %q: from -12:00 to +14:00", s)
	}
	return time.FixedZone(s, seconds), nil
}

func (m Minors) check() error {
	if _, err := parseZone(m.Zone); err != nil {
		return fmt.Errorf("minors: %w", err)
	}
	for i, p := range m.Proofs {
		if !slices.Contains(record.Guardianships(), p) || slices.Contains(m.Proofs[:i], p) {
			return fmt.Errorf("minors: proof %q is unknown, or given twice: %q", p, record.Guardianships())
		}
	}
	switch {
	case m.GuardianBelow == 0 && (m.GuardianFrom > 0 || m.Zone != "" || len(m.Proofs) > 0):
		return errors.New("minors: who needs a guardian? guardian_below is missing")
	case m.GuardianBelow > 0 && len(m.Proofs) == 0:
		return errors.New("minors: without a kind of proof nobody can be a guardian")
	case m.GuardianBelow > m.GuardianFrom || m.GuardianFrom > maxAge:
		return fmt.Errorf("minors: a guardian is at least as old as who needs none, and at most %d", maxAge)
	}
	return nil
}
