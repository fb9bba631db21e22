package policy_test

import (
	"errors"
	"testing"
	"time"

	"enrollkiosk/registry/policy"
	"enrollkiosk/registry/record"
)

func TestMinors(t *testing.T) {
	day := func(s string) time.Time {
		t.Helper()
		d, err := time.Parse(time.DateOnly, s)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	at := func(s string) time.Time {
		t.Helper()
		d, err := time.Parse(time.RFC3339, s)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	for _, c := range []struct {
		zone, born, at string
		young          bool // under 14
		guard          bool // 18 or more
	}{
		{"", "2012-11-28", "2026-11-27T23:59:59Z", true, false},
		{"", "2012-11-28", "2026-11-28T00:00:00Z", false, false},
		{"", "2012-11-28", "2030-11-27T23:59:59Z", false, false},
		{"", "2012-11-28", "2030-11-28T00:00:00Z", false, true},
		{"+08:00", "2012-11-28", "2026-11-27T15:59:59Z", true, false},
		{"+08:00", "2012-11-28", "2026-11-27T16:00:00Z", false, false},
		{"-05:30", "2012-11-28", "2026-11-28T05:29:59Z", true, false},
		{"-05:30", "2012-11-28", "2026-11-28T05:30:00Z", false, false},
		{"", "2012-02-29", "2026-02-28T23:59:59Z", true, false},
		{"", "2012-02-29", "2026-03-01T00:00:00Z", false, false},
		{"", "2026-11-28", "2026-11-28T09:00:00Z", true, false},
		{"", "1926-11-28", "2026-11-28T09:00:00Z", false, true},
	} {
		m := policy.Minors{GuardianBelow: 14, GuardianFrom: 18, Zone: c.zone, Proofs: record.Guardianships()}
		if got := m.Young(day(c.born), at(c.at)); got != c.young {
			t.Errorf("born %s, %s %s: too young %v", c.born, c.at, c.zone, got)
		}
		if got := m.MayGuard(day(c.born), at(c.at)); got != c.guard {
			t.Errorf("born %s, %s %s: a guardian %v", c.born, c.at, c.zone, got)
		}
	}
	// A policy from before there were minors asks nobody's age, and knows no guardian.
	var none policy.Minors
	if none.Young(day("2026-11-28"), at("2026-11-28T09:00:00Z")) || none.MayGuard(day("1970-01-01"), at("2026-11-28T09:00:00Z")) {
		t.Error("no rule, and somebody needs a guardian or is one")
	}
}

func TestMinorsForm(t *testing.T) {
	all := record.Guardianships()
	for name, c := range map[string]struct {
		m  policy.Minors
		ok bool
	}{
		"none":                   {policy.Minors{}, true},
		"whole":                  {policy.Minors{GuardianBelow: 14, GuardianFrom: 18, Zone: "+08:00", Proofs: all}, true},
		"the same age":           {policy.Minors{GuardianBelow: 18, GuardianFrom: 18, Proofs: all[:1]}, true},
		"guardian younger":       {policy.Minors{GuardianBelow: 18, GuardianFrom: 17, Proofs: all}, false},
		"no age of guardians":    {policy.Minors{GuardianBelow: 14, Proofs: all}, false},
		"nobody so old":          {policy.Minors{GuardianBelow: 14, GuardianFrom: 121, Proofs: all}, false},
		"no proof":               {policy.Minors{GuardianBelow: 14, GuardianFrom: 18}, false},
		"unknown proof":          {policy.Minors{GuardianBelow: 14, GuardianFrom: 18, Proofs: []record.Guardianship{"word"}}, false},
		"proof twice":            {policy.Minors{GuardianBelow: 14, GuardianFrom: 18, Proofs: []record.Guardianship{all[0], all[0]}}, false},
		"nobody needs one":       {policy.Minors{GuardianFrom: 18, Proofs: all}, false},
		"zone of a place":        {policy.Minors{GuardianBelow: 14, GuardianFrom: 18, Zone: "Asia/Shanghai", Proofs: all}, false},
		"zone of another planet": {policy.Minors{GuardianBelow: 14, GuardianFrom: 18, Zone: "+15:00", Proofs: all}, false},
		"zone in another form":   {policy.Minors{GuardianBelow: 14, GuardianFrom: 18, Zone: "Z", Proofs: all}, false},
	} {
		p := specimen(t)
		p.Minors = c.m
		root := newDevice(t)
		if _, err := policy.Sign(t.Context(), p, root); c.ok != (err == nil) || err != nil && !errors.Is(err, policy.ErrForm) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
