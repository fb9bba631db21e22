package station

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"enrollkiosk/kiosk"
	"enrollkiosk/registry/parcel"
	"enrollkiosk/registry/policy"
	"enrollkiosk/registry/record"
)

// authority signs policies.
type authority struct {
	*ecdsa.PrivateKey
	specimen policy.Policy
	exchange parcel.PrivateKey // the registry's
}

func (a authority) Public() crypto.PublicKey { return a.PrivateKey.Public() }
func (a authority) Sign(_ context.Context, digest []byte) ([]byte, error) {
	return a.PrivateKey.Sign(rand.Reader, digest, crypto.SHA256)
}

func newAuthority(t *testing.T) authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	const origin = "registry.example/log"
	_, vkey, err := note.GenerateKey(rand.Reader, origin)
	if err != nil {
		t.Fatal(err)
	}
	seal, err := record.GenerateAuthorityKey()
	if err != nil {
		t.Fatal(err)
	}
	texts, err := readTexts("")
	if err != nil {
		t.Fatal(err)
	}
	consent := policy.Text{ID: "enrollment", Version: 1, Required: true}
	for _, x := range texts {
		if x.id == consent.ID {
			consent.Digests = append(consent.Digests, policy.Translation{Language: x.language, SHA256: sha256.Sum256([]byte(x.words))})
		}
	}
	now := time.Now().UTC().Truncate(time.Second)
	exchange, err := parcel.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	return authority{key, policy.Policy{Version: 5, Issued: now.Add(-time.Hour), Expires: now.Add(24 * time.Hour), LogOrigin: origin, LogKey: vkey,
		Authority: seal.Public(), Consents: []policy.Text{consent}, Languages: []string{"en", "zh"}, OfflineDays: 10,
		Exchange: []parcel.Key{exchange.Public()}}, exchange}
}

func (a authority) sign(t *testing.T, version uint64, change func(*policy.Policy)) []byte {
	t.Helper()
	p := a.specimen
	p.Version = version
	if change != nil {
		change(&p)
	}
	b, err := policy.Sign(t.Context(), p, a)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (a authority) root(t *testing.T) [32]byte {
	t.Helper()
	root, err := policy.RootHash(a.Public())
	if err != nil {
		t.Fatal(err)
	}
	return root
}

// config is of a kiosk that pins a.
func (a authority) config(t *testing.T) Config {
	t.Helper()
	root := a.root(t)
	var c Config
	c.Kiosk.ID, c.Kiosk.State, c.Kiosk.Languages = "KIOSK-0001", t.TempDir(), []string{"en", "zh"}
	c.Kiosk.Socket = filepath.Join(c.Kiosk.State, "agent.sock")
	c.Readers = ReadersConfig{Document: idCardReader, Token: tokenReader, Officer: officerReader}
	c.Registry.URL = "https://127.0.0.1:1"
	c.Trust.Root, c.Trust.Policy = hex.EncodeToString(root[:]), filepath.Join(t.TempDir(), "policy.jws")
	if err := os.Chmod(c.Kiosk.State, 0o700); err != nil {
		t.Fatal(err)
	}
	return c
}

func put(t *testing.T, file string, b []byte) {
	t.Helper()
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, file string) []byte {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func version(t *testing.T, p *policies) uint64 {
	t.Helper()
	s, err := p.current()
	if err != nil {
		t.Fatal(err)
	}
	return s.Policy().Version
}

// A policy once seen is never followed by an older one: not from the registry,
// not from the configured file, not after a restart.
func TestPolicyNeverGoesBack(t *testing.T) {
	a := newAuthority(t)
	c := a.config(t)
	put(t, c.Trust.Policy, a.sign(t, 5, nil))
	p, err := openPolicies(c)
	if err != nil {
		t.Fatal(err)
	}
	serve := func(b []byte) error {
		return p.refresh(t.Context(), func(context.Context) ([]byte, error) { return b, nil })
	}
	newest := a.sign(t, 7, nil)
	if err := serve(newest); err != nil {
		t.Fatal(err)
	}
	if err := serve(newest); err != nil {
		t.Errorf("the same again: %v", err)
	}
	for name, bad := range map[string]struct {
		b    []byte
		want error
	}{
		"older":        {a.sign(t, 6, nil), policy.ErrRollback},
		"another 7":    {a.sign(t, 7, func(p *policy.Policy) { p.OfflineDays++ }), policy.ErrRollback},
		"another root": {newAuthority(t).sign(t, 8, nil), policy.ErrSignature},
		"damaged":      {append(slices.Clone(newest[:len(newest)-4]), "AAAA"...), policy.ErrSignature},
		"nonsense":     {[]byte("<html>"), policy.ErrSignature},
	} {
		if err := serve(bad.b); !errors.Is(err, bad.want) && !errors.Is(err, policy.ErrForm) {
			t.Errorf("%s: %v", name, err)
		}
		if v := version(t, p); v != 7 {
			t.Fatalf("%s: version %d is in force", name, v)
		}
	}
	// After a restart, with the old file still configured.
	if p, err = openPolicies(c); err != nil || version(t, p) != 7 {
		t.Errorf("after a restart: %v", err)
	}
	// The old policy in the place of the stored one is a rollback that nobody can
	// see; a foreign one is seen.
	put(t, c.in(policyFile), newAuthority(t).sign(t, 9, nil))
	if _, err := openPolicies(c); !errors.Is(err, policy.ErrSignature) || !strings.Contains(err.Error(), c.in(policyFile)) {
		t.Errorf("a foreign policy in the state directory: %v", err)
	}
}

// Reading commands write nothing: another user's file would lock the agent out.
func TestReadingPoliciesWritesNothing(t *testing.T) {
	a := newAuthority(t)
	c := a.config(t)
	put(t, c.Trust.Policy, a.sign(t, 5, nil))
	p, err := readPolicies(c)
	if err != nil || version(t, p) != 5 {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(c.Kiosk.State)
	if err != nil || len(entries) > 0 {
		t.Errorf("%v, %v", entries, err)
	}
}

func TestNoPolicy(t *testing.T) {
	c := newAuthority(t).config(t)
	if _, err := readPolicies(c); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "trust.policy") {
		t.Errorf("configured and not there: %v", err)
	}
	c.Trust.Policy = ""
	p, err := readPolicies(c)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.current(); !errors.Is(err, kiosk.ErrPolicy) {
		t.Errorf("none: %v", err)
	}
}

// What the registry would reject for its time is not begun.
func TestNoEnrollmentOutOfTime(t *testing.T) {
	a := newAuthority(t)
	c := a.config(t)
	put(t, c.Trust.Policy, a.sign(t, 5, nil))
	p, err := readPolicies(c)
	if err != nil {
		t.Fatal(err)
	}
	wall := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	const day = 24 * time.Hour
	var unknown time.Time
	for _, x := range []struct {
		name                     string
		wall, registry, expected time.Time
		want                     error
	}{
		{"never heard", wall, unknown, unknown, nil},
		{"just heard", wall, wall, wall, nil},
		{"a little behind", wall, wall.Add(4 * time.Minute), unknown, nil},
		{"behind the registry", wall, wall.Add(6 * time.Minute), unknown, kiosk.ErrClock},
		{"at the limit", wall, wall.Add(-10 * day), unknown, nil},
		{"too long offline", wall, wall.Add(-10*day - time.Second), unknown, kiosk.ErrOffline},
		{"battery empty", time.Date(1970, 1, 1, 0, 0, 0, 0, time.UTC), unknown, unknown, kiosk.ErrClock},
		{"a little ahead", wall, wall.Add(-5 * day), wall.Add(-12 * time.Hour), nil},
		{"ahead, just heard", wall, wall.Add(-12*time.Hour - time.Second), wall.Add(-12*time.Hour - time.Second), kiosk.ErrClock},
		{"ahead, heard days ago", wall, wall.Add(-5 * day), wall.Add(-25 * time.Hour), kiosk.ErrClock},
	} {
		s, err := p.usable(reading{kiosk.Times{Wall: x.wall, Registry: x.registry}, x.expected})
		if !errors.Is(err, x.want) || s.Valid() != (x.want == nil) {
			t.Errorf("%s: %v", x.name, err)
		}
	}
}

// A newer policy is the authority's whatever this clock says: it is taken, and records
// are delivered under it; whether one may enroll is judged by the clock, which is held
// against the registry's first. A clock that was set back makes no older policy the
// newest again, nor one that has run out good.
func TestPolicyComesWithAnOddClock(t *testing.T) {
	a := newAuthority(t)
	issued, expires := a.specimen.Issued, a.specimen.Expires // an hour ago, in a day
	now := issued.Add(time.Hour)
	const day = 24 * time.Hour
	var unknown time.Time
	for _, x := range []struct {
		name                     string
		wall, registry, expected time.Time
		usable, inForce          error
	}{
		{"right", now, now, now, nil, nil},
		{"right, never heard", now, unknown, unknown, nil, nil},
		{"battery empty", time.Date(1970, 1, 1, 0, 0, 0, 0, time.UTC), now, now, kiosk.ErrClock, policy.ErrNotYet},
		{"battery empty, never heard", time.Date(1970, 1, 1, 0, 0, 0, 0, time.UTC), unknown, unknown, kiosk.ErrClock, policy.ErrNotYet},
		{"a year back", now.Add(-365 * day), now, now, kiosk.ErrClock, policy.ErrNotYet},
		{"a year ahead", now.Add(365 * day), now, now, kiosk.ErrClock, policy.ErrExpired},
		{"a year ahead, heard before the last start", now.Add(365 * day), now, unknown, kiosk.ErrOffline, policy.ErrExpired},
		{"a year ahead, never heard", now.Add(365 * day), unknown, unknown, nil, policy.ErrExpired}, // the flow asks for both
		{"set back into a policy that has run out", expires.Add(-time.Minute), expires.Add(day), unknown, kiosk.ErrClock, nil},
	} {
		c := a.config(t)
		put(t, c.Trust.Policy, a.sign(t, 5, nil))
		p, err := openPolicies(c)
		if err != nil {
			t.Fatal(err)
		}
		serve := func(b []byte) error {
			return p.refresh(t.Context(), func(context.Context) ([]byte, error) { return b, nil })
		}
		if err := serve(a.sign(t, 7, nil)); err != nil || version(t, p) != 7 {
			t.Errorf("%s: not taken: %v", x.name, err)
		}
		if err := serve(a.sign(t, 6, nil)); !errors.Is(err, policy.ErrRollback) || version(t, p) != 7 {
			t.Errorf("%s: an older one: %v", x.name, err)
		}
		if _, err := p.usable(reading{kiosk.Times{Wall: x.wall, Registry: x.registry}, x.expected}); !errors.Is(err, x.usable) {
			t.Errorf("%s: %v", x.name, err)
		}
		s, err := p.current()
		if err != nil {
			t.Fatal(err)
		}
		if err := s.CheckTime(x.wall); !errors.Is(err, x.inForce) {
			t.Errorf("%s: in force: %v", x.name, err)
		}
		// The clock is put right, and nothing has to be fetched again.
		right, err := p.usable(reading{kiosk.Times{Wall: now, Registry: now}, now})
		if err != nil || right.CheckTime(now) != nil {
			t.Errorf("%s, put right: %v", x.name, err)
		}
		if p, err = openPolicies(c); err != nil || version(t, p) != 7 {
			t.Errorf("%s: after a start: %v", x.name, err)
		}
	}
}

func TestRegistryTimeSurvives(t *testing.T) {
	c := newAuthority(t).config(t)
	k, err := openClock(c)
	if err != nil || !k.now().Registry.IsZero() {
		t.Fatal(err)
	}
	heard := time.Date(2026, 11, 20, 12, 0, 0, 900, time.UTC)
	if err := k.heard(heard); err != nil {
		t.Fatal(err)
	}
	if err := k.heard(heard.Add(-time.Hour)); err != nil { // an older one changes nothing
		t.Fatal(err)
	}
	if k, err = openClock(c); err != nil || !k.now().Registry.Equal(heard.Truncate(time.Second)) {
		t.Errorf("after a restart %v, %v", k.now().Registry, err)
	}
	now := k.now()
	if now.Wall.Nanosecond() != 0 || now.Wall.Location() != time.UTC || now.Monotonic == 0 || now.Boot == [16]byte{} {
		t.Errorf("clock says %+v", now)
	}
	// In this boot the registry's clock is known to go on; in another it is not.
	expected := k.read().expected
	if off := expected.Sub(heard); off < -time.Second || off > 10*time.Second {
		t.Errorf("the registry's clock is expected at %s", expected)
	}
	if err := k.heard(heard.Add(time.Second)); err != nil { // signed hours ago for all we know
		t.Fatal(err)
	}
	if k.read().expected.Before(expected) {
		t.Error("a time that came late has put the expected one back")
	}
	put(t, c.in(timeFile), bytes.ReplaceAll(read(t, c.in(timeFile)), []byte(hex.EncodeToString(now.Boot[:])), []byte(strings.Repeat("0", 32))))
	if k, err = openClock(c); err != nil || !k.read().expected.IsZero() || k.now().Registry.IsZero() {
		t.Errorf("after another boot %+v, %v", k.read(), err)
	}
	put(t, c.in(timeFile), []byte("yesterday"))
	if _, err := openClock(c); err == nil || !strings.Contains(err.Error(), timeFile) {
		t.Errorf("a damaged file: %v", err)
	}
}

// A clock that is ahead is measured when the registry is heard.
func TestClockAhead(t *testing.T) {
	k, err := openClock(newAuthority(t).config(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range []struct {
		ahead time.Duration
		want  error
	}{{25 * time.Hour, kiosk.ErrClock}, {11 * time.Hour, nil}, {0, nil}} {
		if err := k.heard(time.Now().Add(-x.ahead)); err != nil {
			t.Fatal(err)
		}
		if err := checkClock(k.read()); !errors.Is(err, x.want) {
			t.Errorf("%s ahead: %v", x.ahead, err)
		}
	}
}

func TestConsentTexts(t *testing.T) {
	a := newAuthority(t)
	c := a.config(t)
	if err := installed(c, a.specimen); err != nil {
		t.Fatal(err)
	}
	texts, err := readTexts("")
	if err != nil {
		t.Fatal(err)
	}
	find := byDigest(texts)
	for _, d := range a.specimen.Consents[0].Digests {
		if words, ok := find(d.SHA256); !ok || sha256.Sum256([]byte(words)) != d.SHA256 {
			t.Errorf("%s is not found by its digest", d.Language)
		}
	}
	if _, ok := find([32]byte{1}); ok {
		t.Error("a text that is not there")
	}

	// A directory of one's own; one changed letter is another text.
	c.Kiosk.Texts = t.TempDir()
	if err := WriteTexts(c.Kiosk.Texts); err != nil {
		t.Fatal(err)
	}
	if err := installed(c, a.specimen); err != nil {
		t.Error(err)
	}
	file := filepath.Join(c.Kiosk.Texts, "enrollment.zh.txt")
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)-2] ^= 1
	put(t, file, b)
	if err := installed(c, a.specimen); !errors.Is(err, ErrTexts) || !strings.Contains(err.Error(), "enrollment in zh") {
		t.Errorf("an altered text: %v", err)
	}
	c.Kiosk.Languages = []string{"en"}
	if err := installed(c, a.specimen); err != nil {
		t.Errorf("in a language that nobody offers: %v", err)
	}
	put(t, filepath.Join(c.Kiosk.Texts, "enrollment.txt"), b)
	if err := installed(c, a.specimen); err == nil {
		t.Error("a file whose name says no language")
	}
}

func TestMountOf(t *testing.T) {
	const mounts = `21 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw,errors=remount-ro
30 21 8:2 / /TMP rw,noatime - ext4 /dev/sdb2 rw,fast_commit
31 21 8:3 / /TMP2 rw - xfs /dev/sdc rw
garbage
`
	dir := t.TempDir()
	for point, want := range map[string]string{dir: "/dev/sdb2 rw,noatime,rw,fast_commit", filepath.Dir(dir): "/dev/sda1 rw,relatime,rw,errors=remount-ro"} {
		source, options := mountOf(strings.ReplaceAll(mounts, "/TMP", dir), point)
		if source+" "+options != want {
			t.Errorf("%s lies on %s %s", point, source, options)
		}
	}
	for release, old := range map[string]bool{"5.16.9-1-amd64": true, "5.17.0": false, "6.1.0-18-amd64": false, "4.19": true, "next": false} {
		if olderThan(release, 5, 17) != old {
			t.Errorf("%s: %v", release, !old)
		}
	}
}

func TestDisk(t *testing.T) {
	c := newAuthority(t).config(t)
	if _, err := diagnoseDisk(c); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(c.Kiosk.State, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := diagnoseDisk(c); !errors.Is(err, ErrOpenState) {
		t.Errorf("others may read: %v", err)
	}
	c.Kiosk.State += "/none"
	if _, err := diagnoseDisk(c); !errors.Is(err, ErrNotProvisioned) {
		t.Errorf("no directory: %v", err)
	}
}

// follow has the authority followed by another, with its successions.
func (a authority) follow(t *testing.T, next *authority, before ...string) []string {
	t.Helper()
	proposal, err := policy.Propose(t.Context(), policy.Succession{Number: uint64(len(before)) + 2, Issued: time.Now(), From: a.root(t)}, next)
	if err != nil {
		t.Fatal(err)
	}
	b, err := policy.Succeed(t.Context(), proposal, a)
	if err != nil {
		t.Fatal(err)
	}
	next.specimen.Successions = append(slices.Clone(before), string(b))
	return next.specimen.Successions
}

// A kiosk goes along with a new root of its authority, and never back. What somebody
// makes who has the old root's key is refused; where it is a fork it is kept as
// evidence, and shown until staff has taken that away.
func TestRootSucceeds(t *testing.T) {
	first, second, third, usurper := newAuthority(t), newAuthority(t), newAuthority(t), newAuthority(t)
	line := first.follow(t, &second)
	second.follow(t, &third, line...)
	first.follow(t, &usurper)
	c := first.config(t)
	put(t, c.Trust.Policy, first.sign(t, 5, nil))
	p, err := openPolicies(c)
	if err != nil {
		t.Fatal(err)
	}
	serve := func(b []byte) error {
		return p.refresh(t.Context(), func(context.Context) ([]byte, error) { return b, nil })
	}
	holds := func(what string, want uint64, root authority) {
		t.Helper()
		for _, when := range []string{"now", "after a restart"} {
			s, err := p.current()
			if err != nil || s.Policy().Version != want || s.Root() != root.root(t) {
				t.Errorf("%s, %s: version %d by %x: %v", what, when, s.Policy().Version, s.Root(), err)
			}
			if p, err = openPolicies(c); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := serve(second.sign(t, 4, nil)); !errors.Is(err, policy.ErrRollback) {
		t.Errorf("the second root with an older policy: %v", err)
	}
	holds("the second root with an older policy", 5, first)
	if err := serve(second.sign(t, 6, nil)); err != nil {
		t.Fatal(err)
	}
	holds("the second root", 6, second)
	if err := serve(first.sign(t, 7, nil)); !errors.Is(err, policy.ErrRollback) || c.forkSeen() {
		t.Errorf("the first root's next policy: %v", err)
	}
	holds("the first root's next policy", 6, second)
	fork := usurper.sign(t, 8, nil)
	if err := serve(fork); !errors.Is(err, policy.ErrFork) {
		t.Errorf("a fork: %v", err)
	}
	holds("a fork", 6, second)
	if !bytes.Equal(read(t, c.in(forkFile)), fork) {
		t.Error("the evidence is not kept")
	}
	s := &Station{config: c, clock: &clock{}}
	alarmed := func() bool { return slices.Contains(s.alarms(), kiosk.CodeAuthorityFork) }
	if _, err := diagnoseAuthority(c); !errors.Is(err, policy.ErrFork) || !alarmed() {
		t.Errorf("nobody is told: %v", err)
	}
	if err := serve(third.sign(t, 7, nil)); err != nil {
		t.Errorf("the third root: %v", err)
	}
	holds("the third root", 7, third)
	if err := os.Rename(c.in(forkFile), filepath.Join(t.TempDir(), "evidence")); err != nil {
		t.Fatal(err)
	}
	if said, err := diagnoseAuthority(c); err != nil || !strings.HasPrefix(said, "root 3: ") || alarmed() {
		t.Errorf("with the evidence away: %q, %v", said, err)
	}
	// The same on a drive: the agent starts, under what it knows, and is alarmed.
	put(t, c.Trust.Policy, fork)
	if p, err = openPolicies(c); err != nil {
		t.Fatal(err)
	}
	holds("a fork on a drive", 7, third)
	if !alarmed() {
		t.Error("a fork on a drive is no alarm")
	}
}
