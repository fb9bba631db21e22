package policy_test

import (
	"bytes"
	"encoding/base64"
	"errors"
	"slices"
	"strings"
	"testing"

	"enrollkiosk/registry/policy"
	"enrollkiosk/registry/record"
)

// succeed has a root followed by the next.
func succeed(t testing.TB, number uint64, old, next device) string {
	t.Helper()
	proposal, err := policy.Propose(t.Context(), policy.Succession{Number: number, Issued: issued, From: rootHash(t, old)}, next)
	if err != nil {
		t.Fatal(err)
	}
	b, err := policy.Succeed(t.Context(), proposal, old)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// dynasty is n roots with their successions.
func dynasty(t testing.TB, n int) (roots []device, successions []string) {
	t.Helper()
	for i := range n {
		roots = append(roots, newDevice(t))
		if i > 0 {
			successions = append(successions, succeed(t, uint64(i)+1, roots[i-1], roots[i]))
		}
	}
	return roots, successions
}

// under is a policy of a version by the last of a line.
func under(t testing.TB, p policy.Policy, version uint64, successions []string, root device) policy.Signed {
	t.Helper()
	p.Version, p.Successions = version, successions
	return parse(t, p, root)
}

// Whoever pins any root of the line takes a policy of the last, and only of that
// line.
func TestSuccession(t *testing.T) {
	roots, successions := dynasty(t, 3)
	s := under(t, specimen(t), 7, successions, roots[2])
	for i, pinned := range roots {
		got, err := policy.Parse(s.Bytes(), rootHash(t, pinned))
		if err != nil || got.Digest() != s.Digest() || got.Root() != rootHash(t, roots[2]) || len(got.Roots()) != 3 || got.Roots()[i] != rootHash(t, pinned) {
			t.Errorf("pinned to root %d: %v", i+1, err)
		}
		hash := rootHash(t, pinned)
		if _, whole, err := policy.ParseShort(s.Bytes(), [16]byte(hash[:])); err != nil || whole != hash {
			t.Errorf("a code of root %d: %v", i+1, err)
		}
	}
	if _, err := policy.Parse(s.Bytes(), rootHash(t, newDevice(t))); !errors.Is(err, policy.ErrSignature) {
		t.Errorf("pinned to another root: %v", err)
	}
	// An earlier root's policy is of no use to whoever pins a later one, unless that
	// is vouched for by what is in force.
	first := under(t, specimen(t), 6, nil, roots[0])
	if _, err := policy.Parse(first.Bytes(), rootHash(t, roots[1])); !errors.Is(err, policy.ErrSignature) {
		t.Errorf("the first root's policy, pinned to the second: %v", err)
	}
	if got, err := s.ParseEarlier(first.Bytes()); err != nil || got.Digest() != first.Digest() {
		t.Errorf("what was in force before: %v", err)
	}
	if _, err := s.ParseEarlier(under(t, specimen(t), 6, nil, newDevice(t)).Bytes()); !errors.Is(err, policy.ErrSignature) {
		t.Errorf("what never was in force: %v", err)
	}
	if _, err := (policy.Signed{}).ParseEarlier(first.Bytes()); !errors.Is(err, policy.ErrSignature) {
		t.Errorf("the zero value vouches: %v", err)
	}
}

// What the line of roots must be like. Each is tried as the authority would sign it
// and, since that refuses, as an attacker who has the last root's key.
func TestBrokenLine(t *testing.T) {
	roots, good := dynasty(t, 4)
	stranger := newDevice(t)
	flip := func(s string) string { return s[:len(s)-1] + string(s[len(s)-1]^1) }
	proposal, err := policy.Propose(t.Context(), policy.Succession{Number: 2, Issued: issued, From: rootHash(t, roots[0])}, roots[1])
	if err != nil {
		t.Fatal(err)
	}
	seized, err := record.SignCompact(t.Context(), policy.SuccessionType, proposal, stranger)
	if err != nil {
		t.Fatal(err)
	}
	// The stranger names the second root's key as the one that follows, without having it.
	payload, _ := base64.RawURLEncoding.DecodeString(strings.Split(string(proposal), ".")[1])
	inner, err := record.SignCompact(t.Context(), policy.ProposalType, payload, stranger)
	if err != nil {
		t.Fatal(err)
	}
	unwilling, err := record.SignCompact(t.Context(), policy.SuccessionType, inner, roots[0])
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		line []string
		by   device
	}{
		"nothing":                      {nil, roots[3]},
		"a gap":                        {[]string{good[0], good[2]}, roots[3]},
		"no beginning":                 {good[1:], roots[3]},
		"no end":                       {good[:2], roots[3]},
		"another order":                {[]string{good[1], good[0], good[2]}, roots[3]},
		"one twice":                    {[]string{good[0], good[0], good[2]}, roots[3]},
		"another number":               {[]string{succeed(t, 3, roots[0], roots[1])}, roots[1]},
		"a root comes again":           {[]string{good[0], good[1], succeed(t, 4, roots[2], roots[0])}, roots[0]},
		"they lead elsewhere":          {good, stranger},
		"altered":                      {[]string{good[0], flip(good[1]), good[2]}, roots[3]},
		"a proposal alone":             {[]string{string(proposal)}, roots[1]},
		"not signed by the old root":   {[]string{string(seized)}, roots[1]},
		"not signed by the new root":   {[]string{string(unwilling)}, roots[1]},
		"empty":                        {[]string{""}, roots[1]},
		"a longer one than is allowed": {slices.Repeat([]string{good[0]}, 33), roots[1]},
	} {
		p := specimen(t)
		p.Successions = c.line
		if len(c.line) > 0 {
			if _, err := policy.Sign(t.Context(), p, c.by); !errors.Is(err, policy.ErrForm) {
				t.Errorf("%s: the authority signs it: %v", name, err)
			}
		}
		b := signAnyway(t, p, c.by)
		if _, err := policy.Parse(b, rootHash(t, roots[0])); !errors.Is(err, policy.ErrSignature) && !errors.Is(err, policy.ErrForm) {
			t.Errorf("%s: %v", name, err)
		}
		if len(c.line) > 0 {
			if _, err := policy.Parse(b, rootHash(t, c.by)); !errors.Is(err, policy.ErrForm) && !errors.Is(err, policy.ErrSignature) {
				t.Errorf("%s, pinned to the last: %v", name, err)
			}
		}
	}
}

// signAnyway signs a policy that Sign refuses: with its successions put into a good
// one's payload.
func signAnyway(t *testing.T, p policy.Policy, by device) []byte {
	t.Helper()
	line := p.Successions
	p.Successions = nil
	good, err := policy.Sign(t.Context(), p, by)
	if err != nil {
		t.Fatal(err)
	}
	payload, err := base64.RawURLEncoding.DecodeString(strings.Split(string(good), ".")[1])
	if err != nil {
		t.Fatal(err)
	}
	if line != nil {
		payload = append(payload[:len(payload)-1], `,"successions":["`+strings.Join(line, `","`)+`"]}`...)
	}
	b, err := record.SignCompact(t.Context(), policy.Type, payload, by)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The control to TestBrokenLine: what signAnyway makes of a line that is whole is
// taken.
func TestWholeLine(t *testing.T) {
	roots, good := dynasty(t, 4)
	p := specimen(t)
	p.Successions = good
	if _, err := policy.Parse(signAnyway(t, p, roots[3]), rootHash(t, roots[0])); err != nil {
		t.Error(err)
	}
}

// Once a succession is known nothing goes back before it, and no other may take its
// place.
func TestNoWayBack(t *testing.T) {
	roots, good := dynasty(t, 3)
	usurper := newDevice(t)
	fork := []string{succeed(t, 2, roots[0], usurper)}
	p := specimen(t)
	known := under(t, p, 7, good[:1], roots[1])
	for name, c := range map[string]struct {
		next policy.Signed
		want error
	}{
		"the next version":                       {under(t, p, 8, good[:1], roots[1]), nil},
		"the next root":                          {under(t, p, 8, good, roots[2]), nil},
		"the next root, an older version":        {under(t, p, 6, good, roots[2]), policy.ErrRollback},
		"the next root, the same version":        {under(t, p, 7, good, roots[2]), policy.ErrRollback},
		"the root before, a newer version":       {under(t, p, 9, nil, roots[0]), policy.ErrRollback},
		"another root after the one before":      {under(t, p, 9, fork, usurper), policy.ErrFork},
		"another root, and then one more of its": {under(t, p, 9, append(fork, succeed(t, 3, usurper, roots[2])), roots[2]), policy.ErrFork},
	} {
		if err := c.next.CheckSuccessor(known); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

func TestProposals(t *testing.T) {
	old, next := newDevice(t), newDevice(t)
	for name, s := range map[string]policy.Succession{
		"no number":      {Issued: issued, From: rootHash(t, old)},
		"the first":      {Number: 1, Issued: issued, From: rootHash(t, old)},
		"no time":        {Number: 2, From: rootHash(t, old)},
		"after itself":   {Number: 2, Issued: issued, From: rootHash(t, next)},
		"a large number": {Number: 1 << 40, Issued: issued, From: rootHash(t, old)},
	} {
		if _, err := policy.Propose(t.Context(), s, next); !errors.Is(err, policy.ErrSuccession) {
			t.Errorf("%s: %v", name, err)
		}
	}
	proposal, err := policy.Propose(t.Context(), policy.Succession{Number: 2, Issued: issued, From: rootHash(t, old)}, next)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := policy.Succeed(t.Context(), proposal, newDevice(t)); !errors.Is(err, policy.ErrSuccession) {
		t.Errorf("signed by a root that it does not follow: %v", err)
	}
	if _, err := policy.Succeed(t.Context(), append(proposal, '\n'), old); !errors.Is(err, policy.ErrSuccession) {
		t.Errorf("malformed: %v", err)
	}
}

func TestEveryByteOfASuccessionMatters(t *testing.T) {
	roots, successions := dynasty(t, 2)
	good := []byte(successions[0])
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 1
		if s, err := policy.ParseSuccession(bad); s.Number != 0 || s.From != [32]byte{} || !errors.Is(err, policy.ErrSuccession) {
			t.Fatalf("byte %d, %q for %q: %v", i, bad[i], good[i], err)
		}
	}
	if _, err := policy.ParseSuccession(make([]byte, 1<<20)); !errors.Is(err, policy.ErrSuccession) {
		t.Errorf("too large: %v", err)
	}
	whole := under(t, specimen(t), 7, successions, roots[1]).Bytes()
	for i := range whole {
		bad := bytes.Clone(whole)
		bad[i] ^= 1
		if s, err := policy.Parse(bad, rootHash(t, roots[0])); s.Valid() || !errors.Is(err, policy.ErrForm) && !errors.Is(err, policy.ErrSignature) {
			t.Fatalf("the policy's byte %d: %v", i, err)
		}
	}
}

// FuzzParseSuccession feeds the fuzzer's bytes as a succession, and rightly signed as a
// proposal and as what a proposal says.
func FuzzParseSuccession(f *testing.F) {
	roots, successions := dynasty(f, 2)
	part := func(b string) []byte {
		payload, _ := base64.RawURLEncoding.DecodeString(strings.Split(b, ".")[1])
		return payload
	}
	f.Add([]byte(successions[0]))
	f.Add(part(successions[0]))
	f.Add(part(string(part(successions[0]))))
	f.Fuzz(func(t *testing.T, b []byte) {
		proposal, e1 := record.SignCompact(t.Context(), policy.ProposalType, b, roots[1])
		around, e2 := record.SignCompact(t.Context(), policy.SuccessionType, proposal, roots[0])
		signed, e3 := record.SignCompact(t.Context(), policy.SuccessionType, b, roots[0])
		if err := errors.Join(e1, e2, e3); err != nil {
			t.Fatal(err)
		}
		for _, b := range [][]byte{b, signed, around} {
			s, err := policy.ParseSuccession(b)
			if err != nil && !errors.Is(err, policy.ErrSuccession) {
				t.Errorf("untyped: %v", err)
			}
			if to, e := s.To(); err == nil && (e != nil || to == s.From || s.Number < 2) {
				t.Errorf("accepted: %+v", s)
			}
		}
	})
}
