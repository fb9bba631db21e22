package relyingparty_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"testing"
	"time"

	"enrollkiosk/registry/credential"
	"enrollkiosk/relyingparty"
)

// Lists are fetched by the clock, a little late by chance, and never by a sign-in.
func TestListsAreFetchedByTheClock(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newWorld(t)
		h := w.wallet()
		w.a.run(t)
		time.Sleep(time.Minute)
		before := w.issuer.fetches()
		for range 5 {
			if _, err := h.signIn(t, w.a, "adult"); err != nil {
				t.Fatal(err)
			}
		}
		if n := w.issuer.fetches(); before != 1 || n != before {
			t.Errorf("%d fetches at the start, %d after sign-ins", before, n)
		}
		time.Sleep(20 * time.Hour)
		apart := map[time.Duration]bool{}
		w.issuer.set(func(i *issuer) {
			for n, at := range i.fetched[1:] {
				d := at.Sub(i.fetched[n])
				if d < time.Hour || d > time.Hour+time.Hour/10+time.Second {
					t.Errorf("fetched after %s", d)
				}
				apart[d] = true
			}
			if len(i.fetched) < 18 || len(apart) < 10 {
				t.Errorf("%d fetches, %d different times apart", len(i.fetched), len(apart))
			}
		})
	})
}

// A list that is due is not fetched by who comes next, even if nobody else does it.
func TestADueListIsNotFetchedByASignIn(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newWorld(t)
		h := w.wallet()
		for range 3 {
			if _, err := h.signIn(t, w.a, "adult"); err != nil {
				t.Fatal(err)
			}
			time.Sleep(3 * time.Hour)
		}
		if n := w.issuer.fetches(); n != 1 {
			t.Errorf("%d fetches", n)
		}
	})
}

// A revocation is seen when the list is fetched next, by sign-ins and by those who
// are signed in.
func TestRevocation(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newWorld(t)
		h := w.wallet()
		w.a.run(t)
		l, err := h.signIn(t, w.a, "adult")
		if err != nil {
			t.Fatal(err)
		}
		w.issuer.revoke(t, h.persons["a.example"].issued)
		time.Sleep(time.Hour + 10*time.Minute)
		if _, err := h.signIn(t, w.a, "adult"); !errors.Is(err, credential.ErrStatus) {
			t.Errorf("signs in: %v", err)
		}
		if err := w.a.party.Standing(context.Background(), l.Status()); !errors.Is(err, credential.ErrStatus) {
			t.Errorf("stands: %v", err)
		}
		if _, err := w.wallet().signIn(t, w.a, "adult"); err != nil {
			t.Errorf("somebody else: %v", err)
		}
	})
}

// While the issuer is away its last word counts until that expires; then nobody
// signs in; then it is back.
func TestTheIssuerIsAway(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newWorld(t)
		h := w.wallet()
		w.a.run(t)
		l, err := h.signIn(t, w.a, "adult")
		if err != nil {
			t.Fatal(err)
		}
		w.issuer.set(func(i *issuer) { i.away = true })
		time.Sleep(23*time.Hour + 50*time.Minute)
		if _, err := h.signIn(t, w.a, "adult"); err != nil {
			t.Errorf("before the end of the list: %v", err)
		}
		time.Sleep(10 * time.Minute)
		before := w.issuer.fetches()
		_, err = h.signIn(t, w.a, "adult")
		if !errors.Is(err, relyingparty.ErrStatusAway) || relyingparty.Status(err) != 503 {
			t.Errorf("after it: %v", err)
		}
		if err := w.a.party.Standing(context.Background(), l.Status()); !errors.Is(err, relyingparty.ErrStatusAway) {
			t.Errorf("stands: %v", err)
		}
		if w.issuer.fetches() != before {
			t.Error("a sign-in made a fetch")
		}
		w.issuer.set(func(i *issuer) { i.away = false })
		time.Sleep(2 * time.Minute)
		if _, err := h.signIn(t, w.a, "adult"); err != nil {
			t.Errorf("back: %v", err)
		}
	})
}

// A list that nobody configured is fetched by the first who needs it, once; if that
// fails, not by each who comes.
func TestAListThatWasNeverSeen(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newWorld(t)
		s := w.newSite(t, "a.example", func(c *relyingparty.Config) { c.StatusLists = nil })
		h := w.wallet()
		w.issuer.set(func(i *issuer) { i.away = true })
		for range 3 {
			if _, err := h.signIn(t, s, "adult"); !errors.Is(err, relyingparty.ErrStatusAway) {
				t.Errorf("away: %v", err)
			}
		}
		if n := w.issuer.fetches(); n != 1 {
			t.Errorf("%d fetches", n)
		}
		w.issuer.set(func(i *issuer) { i.away = false })
		time.Sleep(2 * time.Minute)
		for range 3 {
			if _, err := h.signIn(t, s, "adult"); err != nil {
				t.Error(err)
			}
		}
		if n := w.issuer.fetches(); n != 2 {
			t.Errorf("%d fetches", n)
		}
	})
}

// A list of another issuer is no list, whoever serves it, and does not displace the
// one that is known.
func TestAListOfAnotherIssuer(t *testing.T) {
	for name, test := range map[string]struct {
		signer func(t *testing.T, w *world) credential.Issuer
		code   credential.Refusal
	}{
		"of another CA":      {func(t *testing.T, w *world) credential.Issuer { return w.sites.Issuer(t, issuerID) }, credential.ErrChain},
		"under the same CA":  {func(t *testing.T, w *world) credential.Issuer { return w.issuer.ca.Issuer(t, "https://other.example") }, credential.ErrIssuer},
		"with a foreign key": {func(t *testing.T, w *world) credential.Issuer { i := w.issuer.Issuer; i.Key = w.a.cert.Key; return i }, credential.ErrSignature},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				w := newWorld(t)
				h := w.wallet()
				w.b.run(t)
				if _, err := h.signIn(t, w.b, "adult"); err != nil {
					t.Fatal(err)
				}
				w.issuer.set(func(i *issuer) { i.signer = test.signer(t, w) })
				if _, err := h.signIn(t, w.a, "adult"); !errors.Is(err, relyingparty.ErrStatusAway) {
					t.Errorf("%v", err)
				}
				if w.a.codes.last() != string(test.code) {
					t.Errorf("%s, want %s", w.a.codes.last(), string(test.code))
				}
				time.Sleep(3 * time.Hour)
				if w.b.codes.last() != string(test.code) {
					t.Errorf("the timer: %s, want %s", w.b.codes.last(), string(test.code))
				}
				if _, err := h.signIn(t, w.b, "adult"); err != nil {
					t.Errorf("where a good one is known: %v", err)
				}
			})
		})
	}
}

// A credential's list lies at its issuer; nothing else is ever fetched.
func TestAListElsewhere(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newWorld(t)
		for _, uri := range []string{"https://intranet/status/1", "https://id.example.evil/1", "http://id.example/status/1", "file:///etc/passwd"} {
			h := w.wallet()
			h.persons["a.example"] = w.issuer.issue(t, func(c *credential.Content) { c.Status.URI = uri })
			if _, err := h.signIn(t, w.a, "adult"); !errors.Is(err, credential.ErrStatusList) {
				t.Errorf("%s: %v", uri, err)
			}
		}
		if n := w.issuer.fetches(); n != 0 {
			t.Errorf("%d fetches", n)
		}
	})
}

// An older list, kept somewhere in between, does not undo a revocation.
func TestAnOlderListIsNoNews(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newWorld(t)
		h := w.wallet()
		l, err := h.signIn(t, w.b, "adult")
		if err != nil {
			t.Fatal(err)
		}
		resp, err := (&http.Client{Transport: w.web}).Get(listURI)
		if err != nil {
			t.Fatal(err)
		}
		old, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		w.issuer.revoke(t, h.persons["b.example"].issued)
		w.b.run(t)
		time.Sleep(2 * time.Hour)
		if err := w.b.party.Standing(context.Background(), l.Status()); !errors.Is(err, credential.ErrStatus) {
			t.Fatalf("revoked: %v", err)
		}
		before := w.issuer.fetches()
		w.issuer.set(func(i *issuer) { i.old = old })
		time.Sleep(5 * time.Hour)
		if err := w.b.party.Standing(context.Background(), l.Status()); !errors.Is(err, credential.ErrStatus) || w.issuer.fetches() == before {
			t.Errorf("an older list came: %v", err)
		}
	})
}
