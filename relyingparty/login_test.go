package relyingparty_test

import (
	"bytes"
	"context"
	"crypto/sha512"
	"encoding/base64"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"enrollkiosk/registry/credential"
	"enrollkiosk/registry/credential/credentialtest"
	"enrollkiosk/relyingparty"
)

// One citizen is the same at a site each time, and another one elsewhere.
func TestSigningIn(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newWorld(t)
		h := w.wallet()
		first, err := h.signIn(t, w.a, "adult")
		if err != nil {
			t.Fatal(err)
		}
		if want := map[string]any{credential.AgeOver18: true, credential.RealNameVerified: true}; !maps.Equal(first.Claims(), want) {
			t.Errorf("claims %v, want %v", first.Claims(), want)
		}
		if !first.Is(credential.AgeOver18) || first.Is(credential.AgeOver16) || first.Text(credential.FamilyName) != "" {
			t.Error("Is or Text tell of what was not asked for")
		}
		key := h.persons["a.example"]
		if p := first.Pseudonym(); p.Issuer != issuerID || p.Thumbprint != credential.Thumbprint(&key.key.PublicKey) ||
			p.String() != base64.RawURLEncoding.EncodeToString(p.Thumbprint[:])+"@"+issuerID {
			t.Errorf("pseudonym %s", p)
		}
		if first.Status() != key.issued.Status() || !first.Expires().Equal(key.issued.Expires()) || len(first.Evidence()) != 1 || strings.Contains(first.Evidence()[0], "~") {
			t.Error("status, expiry or evidence")
		}
		again, err := h.signIn(t, w.a, "pseudonym")
		if err != nil || again.Pseudonym() != first.Pseudonym() || len(again.Claims()) != 0 {
			t.Errorf("again: %v, claims %v", err, again.Claims())
		}
		other, err := h.signIn(t, w.b, "adult")
		if err != nil || other.Pseudonym() == first.Pseudonym() {
			t.Errorf("at another site: %v", err)
		}
	})
}

func TestTheLegalNameComesWithThePseudonym(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newWorld(t)
		h := w.wallet()
		first, err := h.signIn(t, w.a, "pseudonym")
		if err != nil {
			t.Fatal(err)
		}
		l, err := h.signIn(t, w.a, "named")
		if err != nil {
			t.Fatal(err)
		}
		if l.Pseudonym() != first.Pseudonym() || l.Text(credential.FamilyName) != "Eriksson" || !l.Is(credential.RealNameVerified) || len(l.Evidence()) != 2 {
			t.Errorf("%s: %v, %d jwts", l.Pseudonym(), l.Claims(), len(l.Evidence()))
		}
		// A revoked name is refused though the pseudonym is good.
		w.issuer.revoke(t, h.names["a.example"].issued)
		fresh := w.newSite(t, "a.example", nil)
		if _, err := h.signIn(t, fresh, "named"); !errors.Is(err, credential.ErrStatus) {
			t.Errorf("name revoked: %v", err)
		}
		if _, err := h.signIn(t, fresh, "pseudonym"); err != nil {
			t.Errorf("pseudonym: %v", err)
		}
	})
}

// A lost answer is fetched again; the nonce stays, the wallet's is the new one.
func TestARequestIsFetchedAgain(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newWorld(t)
		h, b := w.wallet(), w.browser()
		link := b.begin(t, w.a, "adult")
		if _, err := h.fetch(t, link); err != nil {
			t.Fatal(err)
		}
		time.Sleep(relyingparty.TransactionTime - time.Second)
		if _, err := b.back(t, w.a, h.open(t, link)); err != nil {
			t.Fatal(err)
		}
	})
}

func TestDeclining(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newWorld(t)
		h, b := w.wallet(), w.browser()
		r, err := h.fetch(t, b.begin(t, w.a, "adult"))
		if err != nil {
			t.Fatal(err)
		}
		redirect, err := h.post(t, r.ResponseURI(), url.Values{"error": {"access_denied"}, "state": {r.State()}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := b.back(t, w.a, redirect); !errors.Is(err, relyingparty.ErrDeclined) {
			t.Error(err)
		}
	})
}

// Of two tabs the later one counts.
func TestTwoTabs(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newWorld(t)
		h, b := w.wallet(), w.browser()
		earlier, later := b.begin(t, w.a, "adult"), b.begin(t, w.a, "adult")
		toEarlier, toLater := h.open(t, earlier), h.open(t, later)
		if _, err := b.back(t, w.a, toLater); err != nil {
			t.Error(err)
		}
		if _, err := b.back(t, w.a, toEarlier); !errors.Is(err, relyingparty.ErrSession) {
			t.Error(err)
		}
	})
}

// Times end at the minute, at each of the three places where something waits.
func TestTooLate(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newWorld(t)
		h, b := w.wallet(), w.browser()
		link := b.begin(t, w.a, "adult")
		r, err := h.fetch(t, link)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(relyingparty.TransactionTime)
		if _, err := h.fetch(t, link); err == nil || w.a.codes.last() != string(relyingparty.ErrTransaction) {
			t.Errorf("fetched: %v, %s", err, w.a.codes.last())
		}
		if _, err := h.send(t, r, h.present(t, r)); err == nil || w.a.codes.last() != string(relyingparty.ErrTransaction) {
			t.Errorf("sent: %v, %s", err, w.a.codes.last())
		}
		redirect := h.open(t, b.begin(t, w.a, "adult"))
		time.Sleep(relyingparty.AnswerTime)
		if _, err := b.back(t, w.a, redirect); !errors.Is(err, relyingparty.ErrCode) {
			t.Errorf("back: %v", err)
		}
	})
}

// Who fills the store keeps newcomers out and throws out nobody; time empties it.
func TestAFullStore(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newWorld(t)
		s := w.newSite(t, "a.example", func(c *relyingparty.Config) { c.Store = relyingparty.NewMemory(3) })
		h, b := w.wallet(), w.browser()
		link := b.begin(t, s, "adult")
		attacker := w.browser()
		attacker.begin(t, s, "adult")
		attacker.begin(t, s, "adult")
		attacker.post(t, "https://a.example/begin/adult", nil)
		if !errors.Is(s.beginErr, relyingparty.ErrBusy) {
			t.Fatal(s.beginErr)
		}
		if _, err := b.back(t, s, h.open(t, link)); err != nil {
			t.Error(err)
		}
		time.Sleep(relyingparty.TransactionTime)
		b.begin(t, s, "adult")
	})
}

func TestAskingForWhatIsNotRegistered(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newWorld(t)
		r, _ := http.NewRequest("POST", "https://a.example/", nil)
		for claim, want := range map[string]error{
			credential.AgeOver16: relyingparty.ErrUnregistered, credential.NameLocal: relyingparty.ErrUnregistered, "shoe_size": relyingparty.ErrConfig,
		} {
			if _, err := w.a.party.Begin(nil, r, relyingparty.Ask{Claims: []string{claim}}); !errors.Is(err, want) {
				t.Errorf("%s: %v", claim, err)
			}
		}
		if _, err := w.a.party.Begin(nil, r, relyingparty.Ask{Claims: []string{credential.AgeOver18, credential.AgeOver18}}); !errors.Is(err, relyingparty.ErrConfig) {
			t.Errorf("twice: %v", err)
		}
	})
}

// recorder is a Store that a thief copied.
type recorder struct {
	relyingparty.Store
	mu   sync.Mutex
	seen [][]byte
}

func (r *recorder) Put(ctx context.Context, key [32]byte, value []byte, until time.Time) error {
	r.mu.Lock()
	r.seen = append(r.seen, key[:], bytes.Clone(value))
	r.mu.Unlock()
	return r.Store.Put(ctx, key, value, until)
}

// A copy of the store tells neither who signs in nor how to end it.
func TestTheStoreHoldsNothingReadable(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newWorld(t)
		store := &recorder{Store: relyingparty.NewMemory(10)}
		s := w.newSite(t, "a.example", func(c *relyingparty.Config) { c.Store = store })
		h, b := w.wallet(), w.browser()
		r, err := h.fetch(t, b.begin(t, s, "adult"))
		if err != nil {
			t.Fatal(err)
		}
		shown := h.present(t, r)
		redirect, err := h.send(t, r, shown)
		if err != nil {
			t.Fatal(err)
		}
		_, code, _ := strings.Cut(redirect, "response_code=")
		cookie := b.client.Jar.Cookies(&url.URL{Scheme: "https", Host: "a.example", Path: "/"})[0].Value
		if len(store.seen) != 4 {
			t.Fatalf("%d keys and values", len(store.seen))
		}
		for what, secret := range map[string]string{
			"nonce": r.Nonce(), "state": r.State(), "code": code, "cookie": cookie, "presentation": shown["person"], "claim": credential.AgeOver18,
		} {
			raw, _ := base64.RawURLEncoding.DecodeString(secret)
			for _, kept := range store.seen {
				if bytes.Contains(kept, []byte(secret)) || len(raw) == 32 && bytes.Contains(kept, raw) {
					t.Errorf("the store holds the %s", what)
				}
			}
		}
		if _, err := b.back(t, s, redirect); err != nil {
			t.Error(err)
		}
	})
}

func TestConfiguration(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newWorld(t)
		good := relyingparty.Config{URL: "https://a.example/signin", Site: w.a.cert, Issuer: w.issuer.authority()}
		if _, err := relyingparty.New(good); err != nil {
			t.Fatal(err)
		}
		for what, change := range map[string]func(*relyingparty.Config){
			"http":            func(c *relyingparty.Config) { c.URL = "http://a.example/signin" },
			"another host":    func(c *relyingparty.Config) { c.URL = "https://b.example/signin" },
			"no path":         func(c *relyingparty.Config) { c.URL = "https://a.example/" },
			"slash":           func(c *relyingparty.Config) { c.URL += "/" },
			"query":           func(c *relyingparty.Config) { c.URL += "?a" },
			"no certificate":  func(c *relyingparty.Config) { c.Site.Chain = nil },
			"another key":     func(c *relyingparty.Config) { c.Site.Key = credentialtest.Key(t) },
			"no issuer":       func(c *relyingparty.Config) { c.Issuer.Issuer = "" },
			"no roots":        func(c *relyingparty.Config) { c.Issuer.Roots = nil },
			"a list far away": func(c *relyingparty.Config) { c.StatusLists = []string{"https://id.example.evil/status/1"} },
			"a list on http":  func(c *relyingparty.Config) { c.StatusLists = []string{"http://id.example/status/1"} },
		} {
			c := good
			change(&c)
			if _, err := relyingparty.New(c); !errors.Is(err, relyingparty.ErrConfig) {
				t.Errorf("%s: %v", what, err)
			}
		}
	})
}

// The handler for the impatient: one button, and done is called.
func TestHandler(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newWorld(t)
		var got relyingparty.Login
		w.web["a.example"] = w.a.party.Handler(adult, func(_ http.ResponseWriter, _ *http.Request, l relyingparty.Login) { got = l })
		h, b := w.wallet(), w.browser()
		page := b.post(t, "https://a.example/signin/begin", nil)
		_, rest, _ := strings.Cut(page, `href="haip-vp:`)
		link, _, found := strings.Cut(rest, `"`)
		if !found {
			t.Fatal(page)
		}
		redirect := h.open(t, strings.ReplaceAll("haip-vp:"+link, "&amp;", "&"))
		_, code, _ := strings.Cut(redirect, "#response_code=")
		b.post(t, "https://a.example/signin/finish", url.Values{"response_code": {code}})
		if !got.Valid() || !got.Is(credential.AgeOver18) {
			t.Fatal("nobody")
		}
		// All that goes wrong with a code reads alike.
		got = relyingparty.Login{}
		again := b.post(t, "https://a.example/signin/finish", url.Values{"response_code": {code}})
		none := b.post(t, "https://a.example/signin/finish", nil)
		if got.Valid() || again != none || !strings.Contains(again, "did not work") {
			t.Errorf("%s\n%s", again, none)
		}
		if w.a.codes.last() != string(relyingparty.ErrCode) {
			t.Error(w.a.codes.last())
		}
	})
}

func TestTheHandlerTakesNoForeignForms(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newWorld(t)
		w.web["a.example"] = w.a.party.Handler(adult, func(http.ResponseWriter, *http.Request, relyingparty.Login) { t.Error("signed in") })
		for _, path := range []string{"begin", "finish"} {
			r, _ := http.NewRequest("POST", "https://a.example/signin/"+path, nil)
			r.Header.Set("Sec-Fetch-Site", "cross-site")
			resp, err := w.web.RoundTrip(r)
			if err != nil {
				t.Fatal(err)
			}
			if resp.StatusCode != http.StatusForbidden || len(resp.Cookies()) > 0 {
				t.Errorf("%s: %s, %v", path, resp.Status, resp.Cookies())
			}
		}
	})
}

// The page on which the browser comes back runs one script, which it names by its
// hash.
func TestTheReturnPage(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newWorld(t)
		get := func(path string) (http.Header, string) {
			r, _ := http.NewRequest("GET", "https://a.example/signin/"+path, nil)
			resp, err := w.web.RoundTrip(r)
			if err != nil || resp.StatusCode != http.StatusOK {
				t.Fatal(resp.Status, err)
			}
			b, _ := io.ReadAll(resp.Body)
			return resp.Header, string(b)
		}
		h, page := get("return")
		_, script := get("return.js")
		sum := sha512.Sum384([]byte(script))
		if want := `src="/signin/return.js" integrity="sha384-` + strings.ReplaceAll(base64.StdEncoding.EncodeToString(sum[:]), "+", "&#43;") + `"`; !strings.Contains(page, want) {
			t.Errorf("no %s in %s", want, page)
		}
		for _, want := range []string{"default-src 'none'", "script-src 'self'", "form-action 'self'", "frame-ancestors 'none'", "base-uri 'none'"} {
			if !strings.Contains(h.Get("Content-Security-Policy"), want) {
				t.Errorf("%s: no %s", h.Get("Content-Security-Policy"), want)
			}
		}
		if h.Get("Cache-Control") != "no-store" || strings.Count(page, "<script") != 1 || !strings.Contains(page, "<noscript>") {
			t.Error(h, page)
		}
	})
}

// The cookie is for this host, its script and no other site's requests.
func TestTheCookie(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newWorld(t)
		r, _ := http.NewRequest("POST", "https://a.example/begin/adult", nil)
		resp, err := w.web.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		c := resp.Cookies()[0]
		if !strings.HasPrefix(c.Name, "__Host-") || !c.Secure || !c.HttpOnly || c.SameSite != http.SameSiteLaxMode || c.Path != "/" || c.Domain != "" {
			t.Errorf("%s", c)
		}
		b := w.browser()
		if _, err := b.back(t, w.a, w.wallet().open(t, b.begin(t, w.a, "adult"))); err != nil {
			t.Fatal(err)
		}
		if left := b.client.Jar.Cookies(&url.URL{Scheme: "https", Host: "a.example", Path: "/"}); len(left) > 0 {
			t.Errorf("%v is left after the sign-in", left)
		}
	})
}
