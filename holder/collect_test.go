package holder_test

import (
	"context"
	"crypto/ecdsa"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"enrollkiosk/holder"
	"enrollkiosk/holder/store"
	"enrollkiosk/registry/credential"
	"enrollkiosk/registry/credential/credentialtest"
)

// A lost answer is asked for again with the same words: one batch, not two.
func TestLostAnswer(t *testing.T) {
	w := newWorld(t)
	c := w.citizen()
	w.issuer.lose = 2
	got, err := c.Collect(t.Context(), false)
	if err != nil || got.New != 10 {
		t.Fatalf("%+v, %v", got, err)
	}
	if len(w.issuer.bodies) != 3 || w.issuer.bodies[0] != w.issuer.bodies[1] || w.issuer.bodies[1] != w.issuer.bodies[2] || len(w.issuer.issued) != 1 {
		t.Errorf("%d requests, %d batches", len(w.issuer.bodies), len(w.issuer.issued))
	}
}

// An answer that never comes costs indices, and the next collection takes others.
func TestAnswerThatNeverComes(t *testing.T) {
	w := newWorld(t)
	c := w.citizen()
	w.issuer.lose = 1 << 20
	if _, err := c.Collect(t.Context(), false); !errors.Is(err, holder.ErrUnreachable) {
		t.Fatal(err)
	}
	w.issuer.lose = 0
	c.collect()
	if len(w.issuer.issued) != 2 {
		t.Fatalf("%d batches", len(w.issuer.issued))
	}
	for _, k := range w.issuer.issued[1] {
		for _, o := range w.issuer.issued[0] {
			if k.Equal(o) {
				t.Error("a key of the lost batch was used again")
			}
		}
	}
}

func TestClaimCode(t *testing.T) {
	w := newWorld(t)
	c := w.citizen()
	c.person.code = "WRNG-2345"
	if _, err := c.Collect(t.Context(), false); !errors.Is(err, holder.ErrClaimCode) || c.person.codes != 3 {
		t.Fatalf("%v after %d codes", err, c.person.codes)
	}
	c.person.code = ""
	if _, err := c.Collect(t.Context(), false); !errors.Is(err, holder.ErrNoCode) {
		t.Fatal(err)
	}
	c.person.code = claimCode
	c.collect()
	// From then on the enrolled key is enough.
	asked := c.person.codes
	if _, err := c.Collect(t.Context(), true); err != nil || c.person.codes != asked {
		t.Errorf("%v, asked %d times more", err, c.person.codes-asked)
	}
}

func TestTokenThatIsNotEnrolled(t *testing.T) {
	w := newWorld(t)
	c := w.citizen()
	delete(w.issuer.keys, c.did)
	if _, err := c.Collect(t.Context(), false); !errors.Is(err, holder.ErrIssuer) || !strings.Contains(err.Error(), "credential_request_denied") {
		t.Error(err)
	}
}

// Enough is enough: nothing is fetched while much is left.
func TestCollectsWhenFewAreLeft(t *testing.T) {
	w := newWorld(t)
	c := w.citizen()
	c.collect()
	if got, err := c.Collect(t.Context(), false); err != nil || got != (holder.Collected{Unused: 10}) {
		t.Errorf("%+v, %v", got, err)
	}
	for _, name := range []string{"a", "b", "c"} {
		w.site(name).login(c.Helper)
	}
	if got, err := c.Collect(t.Context(), false); err != nil || got != (holder.Collected{New: 10, Unused: 17}) {
		t.Errorf("%+v, %v", got, err)
	}
}

// Near their end all are fetched anew, used or not, in no order that tells, and each
// website goes on to see the same person.
func TestRenewal(t *testing.T) {
	w := newWorld(t)
	c := w.citizen()
	w.issuer.life = time.Hour // till Monday at most
	c.collect()
	s := w.site("a")
	first := s.login(c.Helper)
	w.issuer.life = 60 * 24 * time.Hour
	got, err := c.Collect(t.Context(), false)
	if err != nil || got != (holder.Collected{Renewed: 10, Unused: 9}) {
		t.Fatalf("%+v, %v", got, err)
	}
	if again := s.login(c.Helper); again.Pseudonym() != first.Pseudonym() || !again.Expires().After(first.Expires()) {
		t.Error("another person after the renewal, or the old credential")
	}
	old, renewed := w.issuer.issued[0], w.issuer.issued[1]
	if slices.EqualFunc(old, renewed, func(a, b *ecdsa.PublicKey) bool { return a.Equal(b) }) { // by chance once in 3.6 million
		t.Error("renewed in the order of issue")
	}
	for _, k := range old {
		if !slices.ContainsFunc(renewed, func(n *ecdsa.PublicKey) bool { return n.Equal(k) }) {
			t.Error("a key was not renewed")
		}
	}
}

// The issuer sets one person apart, or is another than the authority's: all is thrown
// away, nothing is stored.
func TestCredentialsThatAreRefused(t *testing.T) {
	other := credentialtest.NewCA(t, "other", time.Now())
	for name, test := range map[string]struct {
		change func(*issuer)
		want   error
	}{
		"a status list of one's own": {func(i *issuer) { i.edit = func(_ int, c *credential.Content) { c.Status.URI = i.id + "/status/7f3a" } }, credential.ErrTagged},
		"published for this one alone": {func(i *issuer) {
			i.meta = func(m map[string]any) { m["status_lists"] = append(slices.Clone(i.lists), i.id+"/status/7f3a") }
		}, holder.ErrMetadata},
		"an end of one's own": {func(i *issuer) {
			i.edit = func(_ int, c *credential.Content) { c.Expires = c.Expires.Add(time.Second) }
		}, credential.ErrTagged},
		"another week for one of them": {func(i *issuer) {
			i.edit = func(n int, c *credential.Content) { c.Expires = c.Expires.AddDate(0, 0, 7*(n/9)) }
		}, holder.ErrMarked},
		"another certificate for one": {func(i *issuer) { second := i.world.signer.Issuer(t, i.id); i.sign = &second }, holder.ErrMarked},
		"another CA":                  {func(i *issuer) { foreign := other.Issuer(t, i.id); i.sign = &foreign }, credential.ErrChain},
		"one place in the list for all": {func(i *issuer) {
			i.edit = func(_ int, c *credential.Content) { c.Status = credential.StatusRef{URI: i.lists[0], Index: 1} }
		}, holder.ErrMarked},
		"a claim too few": {func(i *issuer) {
			i.edit = func(_ int, c *credential.Content) { delete(c.Claims, credential.AgeOver14) }
		}, credential.ErrClaims},
		"in another order":          {func(i *issuer) { i.order = func(s []string) []string { s[0], s[1] = s[1], s[0]; return s } }, credential.ErrKey},
		"one too few":               {func(i *issuer) { i.order = func(s []string) []string { return s[1:] } }, holder.ErrAnswer},
		"none":                      {func(i *issuer) { i.order = func(s []string) []string { return nil } }, holder.ErrAnswer},
		"expired":                   {func(i *issuer) { i.life = -20 * 24 * time.Hour }, credential.ErrExpired},
		"another issuer's metadata": {func(i *issuer) { i.meta = func(m map[string]any) { m["credential_issuer"] = "https://x.example" } }, holder.ErrMetadata},
		"an endpoint elsewhere":     {func(i *issuer) { i.meta = func(m map[string]any) { m["nonce_endpoint"] = "https://x.example/nonce" } }, holder.ErrMetadata},
		"no such type": {func(i *issuer) {
			i.meta = func(m map[string]any) { m["credential_configurations_supported"] = map[string]any{} }
		}, holder.ErrMetadata},
		"a batch of none": {func(i *issuer) {
			i.meta = func(m map[string]any) { m["batch_credential_issuance"] = map[string]any{"batch_size": 0} }
		}, holder.ErrMetadata},
		"a wrong clock": {func(i *issuer) { i.off = time.Hour }, holder.ErrClock},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			c := w.citizen()
			test.change(w.issuer)
			if _, err := c.Collect(context.Background(), false); !errors.Is(err, test.want) {
				t.Errorf("%v, want %v", err, test.want)
			}
			if l, err := c.List(t.Context()); err != nil || l.Unused != 0 {
				t.Errorf("stored: %+v, %v", l, err)
			}
		})
	}
}

// The issuer away: a sign-in needs it not, a collection says so.
func TestIssuerAway(t *testing.T) {
	w := newWorld(t)
	c := w.citizen()
	c.collect()
	hosts.set("id."+w.name+":443", "127.0.0.1:1")
	w.site("a").login(c.Helper)
	if _, err := c.Collect(t.Context(), false); !errors.Is(err, holder.ErrUnreachable) {
		t.Error(err)
	}
}

// Another enrolled token in the reader, between two steps, gets nothing of the first
// one's file.
func TestSwappedToken(t *testing.T) {
	w := newWorld(t)
	c, other := w.citizen(), w.citizen()
	w.issuer.claimed[c.did], w.issuer.claimed[other.did] = false, false
	c.person.duringCode = func() {
		other.reader.Pull()
		c.reader.Pull()
		c.reader.Insert(other.token)
	}
	if _, err := c.Collect(t.Context(), false); !errors.Is(err, store.ErrOtherToken) {
		t.Error(err)
	}
	if len(w.issuer.issued) > 0 {
		t.Error("keys of one token were proved with another's")
	}
}
