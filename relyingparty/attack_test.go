package relyingparty_test

import (
	"crypto/ecdsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"enrollkiosk/registry/credential"
	"enrollkiosk/relyingparty"
)

var b64 = base64.RawURLEncoding

// parts are a presentation's, taken apart.
type parts struct {
	jwt         string
	disclosures []string
	binding     string
}

func split(p string) parts {
	all := strings.Split(p, "~")
	return parts{all[0], all[1 : len(all)-1], all[len(all)-1]}
}

func (p parts) shown() string {
	return strings.Join(append([]string{p.jwt}, p.disclosures...), "~") + "~"
}

// rebind is signed by the holder: the strongest attacker.
func (p parts) rebind(t testing.TB, key *ecdsa.PrivateKey, r credential.Request, at time.Time) string {
	t.Helper()
	s, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: key}, &jose.SignerOptions{ExtraHeaders: map[jose.HeaderKey]any{"typ": "kb+jwt"}})
	if err != nil {
		t.Fatal(err)
	}
	hash := sha256.Sum256([]byte(p.shown()))
	payload, err := json.Marshal(map[string]any{"iat": at.Unix(), "aud": r.ClientID(), "nonce": r.Nonce(), "sd_hash": b64.EncodeToString(hash[:])})
	if err != nil {
		t.Fatal(err)
	}
	jws, err := s.Sign(payload)
	if err != nil {
		t.Fatal(err)
	}
	compact, err := jws.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return p.shown() + compact
}

// algorithm changes the alg of a JWS's header.
func algorithm(t testing.TB, jws, alg string) string {
	t.Helper()
	head, rest, _ := strings.Cut(jws, ".")
	raw, err := b64.DecodeString(head)
	if err != nil || !strings.Contains(string(raw), `"ES256"`) {
		t.Fatal(string(raw), err)
	}
	return b64.EncodeToString([]byte(strings.Replace(string(raw), "ES256", alg, 1))) + "." + rest
}

// attack is a request that an attacker answers with what is left of a good
// presentation.
type attack struct {
	*world
	wallet *wallet
	r      credential.Request
	good   string
	key    *ecdsa.PrivateKey
	again  func(testing.TB) string // begins once more in the same browser
}

// by presents a credential of another making in the citizen's place.
func (a *attack) by(t testing.TB, h held) string {
	t.Helper()
	a.wallet.persons["a.example"] = h
	return a.wallet.present(t, a.r)["person"]
}

func TestAttacks(t *testing.T) {
	for name, test := range map[string]struct {
		attack func(t *testing.T, a *attack) string
		want   error
	}{
		"none": {func(t *testing.T, a *attack) string { return a.good }, nil},

		"replayed presentation": {func(t *testing.T, a *attack) string {
			other := a.browser()
			r, err := a.wallet.fetch(t, other.begin(t, a.a, "adult"))
			if err != nil {
				t.Fatal(err)
			}
			p := a.wallet.present(t, r)
			redirect, err := a.wallet.send(t, r, p)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := other.back(t, a.a, redirect); err != nil {
				t.Fatal(err)
			}
			return p["person"]
		}, credential.ErrNonce},
		"presentation for another site": {func(t *testing.T, a *attack) string {
			h := a.wallet.credentialFor(t, "a.example", "person")
			p, err := h.issued.Present(adult.Claims, credential.Binding{Audience: a.b.cert.ClientID(), Nonce: a.r.Nonce(), IssuedAt: time.Now()}, h.key)
			if err != nil {
				t.Fatal(err)
			}
			return p
		}, credential.ErrAudience},
		"swapped nonce": {func(t *testing.T, a *attack) string {
			h := a.wallet.credentialFor(t, "a.example", "person")
			p, err := h.issued.Present(adult.Claims, credential.Binding{Audience: a.r.ClientID(), Nonce: b64.EncodeToString(make([]byte, 32)), IssuedAt: time.Now()}, h.key)
			if err != nil {
				t.Fatal(err)
			}
			return p
		}, credential.ErrNonce},
		"made long ago": {func(t *testing.T, a *attack) string {
			return split(a.good).rebind(t, a.key, a.r, time.Now().Add(-6*time.Minute))
		}, credential.ErrTime},
		"made in the future": {func(t *testing.T, a *attack) string {
			return split(a.good).rebind(t, a.key, a.r, time.Now().Add(6*time.Minute))
		}, credential.ErrTime},
		"stripped key binding": {func(t *testing.T, a *attack) string { return split(a.good).shown() }, credential.ErrKeyBinding},
		"key binding by another key": {func(t *testing.T, a *attack) string {
			return split(a.good).rebind(t, a.wallet.credentialFor(t, "b.example", "person").key, a.r, time.Now())
		}, credential.ErrKeyBinding},
		"key binding of another presentation": {func(t *testing.T, a *attack) string {
			other := split(a.by(t, a.issuer.issue(t, nil)))
			return split(a.good).shown() + other.binding
		}, credential.ErrKeyBinding},
		"removed disclosure": {func(t *testing.T, a *attack) string {
			p := split(a.good)
			p.disclosures = p.disclosures[1:]
			return p.shown() + p.binding
		}, credential.ErrClaims},
		"removed disclosure, by the holder": {func(t *testing.T, a *attack) string {
			p := split(a.good)
			p.disclosures = p.disclosures[1:]
			return p.rebind(t, a.key, a.r, time.Now())
		}, credential.ErrClaims},
		"duplicated disclosure": {func(t *testing.T, a *attack) string {
			p := split(a.good)
			p.disclosures = append(p.disclosures, p.disclosures[0])
			return p.rebind(t, a.key, a.r, time.Now())
		}, credential.ErrDigest},
		"disclosures in another order": {func(t *testing.T, a *attack) string {
			p := split(a.good)
			p.disclosures[0], p.disclosures[1] = p.disclosures[1], p.disclosures[0]
			return p.shown() + p.binding
		}, credential.ErrHash},
		"more claims than asked for": {func(t *testing.T, a *attack) string {
			h := a.wallet.credentialFor(t, "a.example", "person")
			p, err := h.issued.Present(append([]string{credential.AgeOver14}, adult.Claims...), credential.Binding{Audience: a.r.ClientID(), Nonce: a.r.Nonce(), IssuedAt: time.Now()}, h.key)
			if err != nil {
				t.Fatal(err)
			}
			return p
		}, credential.ErrClaims},
		"alg none": {func(t *testing.T, a *attack) string {
			p := split(a.good)
			p.jwt = algorithm(t, p.jwt, "none")
			return p.rebind(t, a.key, a.r, time.Now())
		}, credential.ErrAlgorithm},
		"alg HS256 in the key binding": {func(t *testing.T, a *attack) string {
			p := split(a.good)
			return p.shown() + algorithm(t, p.binding, "HS256")
		}, credential.ErrKeyBinding},
		"foreign issuer": {func(t *testing.T, a *attack) string {
			foreign := newIssuer(t)
			return a.by(t, foreign.issue(t, nil))
		}, credential.ErrChain},
		"the authority of sites issues": {func(t *testing.T, a *attack) string {
			foreign := newIssuer(t)
			foreign.ca, foreign.Issuer = a.sites, a.sites.Issuer(t, issuerID)
			return a.by(t, foreign.issue(t, nil))
		}, credential.ErrChain},
		"a credential of another type": {func(t *testing.T, a *attack) string {
			h := a.issuer.issue(t, legalName)
			p, err := h.issued.Present([]string{credential.FamilyName}, credential.Binding{Audience: a.r.ClientID(), Nonce: a.r.Nonce(), IssuedAt: time.Now()}, h.key)
			if err != nil {
				t.Fatal(err)
			}
			return p
		}, credential.ErrVCT},
		"expired credential": {func(t *testing.T, a *attack) string {
			h := a.issuer.issue(t, func(c *credential.Content) { c.Expires = credential.Expiry(time.Now()) })
			time.Sleep(time.Until(h.issued.Expires()))
			var err error
			if a.r, err = a.wallet.fetch(t, a.again(t)); err != nil {
				t.Fatal(err)
			}
			return a.by(t, h)
		}, credential.ErrExpired},
		"revoked credential": {func(t *testing.T, a *attack) string {
			a.issuer.revoke(t, a.wallet.credentialFor(t, "a.example", "person").issued)
			return a.good
		}, credential.ErrStatus},
		"an index outside of the list": {func(t *testing.T, a *attack) string {
			return a.by(t, a.issuer.issue(t, func(c *credential.Content) { c.Status.Index = 1 << 12 }))
		}, credential.ErrStatusList},
		"not text": {func(t *testing.T, a *attack) string { return "\x00~\xff~" }, credential.ErrKeyBinding},
		"nothing":  {func(t *testing.T, a *attack) string { return "" }, credential.ErrForm},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				w := newWorld(t)
				a := &attack{world: w, wallet: w.wallet()}
				b := w.browser()
				a.again = func(t testing.TB) string { return b.begin(t, w.a, "adult") }
				var err error
				if a.r, err = a.wallet.fetch(t, a.again(t)); err != nil {
					t.Fatal(err)
				}
				a.good = a.wallet.present(t, a.r)["person"]
				a.key = a.wallet.persons["a.example"].key
				bad := test.attack(t, a)
				redirect, err := a.wallet.send(t, a.r, map[string]string{"person": bad})
				if err != nil {
					t.Fatal(err)
				}
				l, err := b.back(t, w.a, redirect)
				if test.want == nil {
					if err != nil || l.Pseudonym().Thumbprint != credential.Thumbprint(&a.key.PublicKey) {
						t.Errorf("%v", err)
					}
					return
				}
				if !errors.Is(err, test.want) {
					t.Errorf("%v, want %v", err, test.want)
				}
				if relyingparty.Sentence(err) != relyingparty.Sentence(relyingparty.ErrCode) || relyingparty.Code(err) == "internal" {
					t.Errorf("the person learns %q, the log %q", relyingparty.Sentence(err), relyingparty.Code(err))
				}
			})
		})
	}
}

// What reaches the response endpoint in another form than the request wants is
// refused there, with one answer, and the request is used up.
func TestAttacksOnTheResponse(t *testing.T) {
	for name, test := range map[string]struct {
		form func(t *testing.T, w *world, h *wallet, r credential.Request) url.Values
		code string
		kept bool // the request: what is no response is not taken for one
	}{
		"nothing": {func(*testing.T, *world, *wallet, credential.Request) url.Values { return nil }, string(relyingparty.ErrResponse), true},
		"two": {func(*testing.T, *world, *wallet, credential.Request) url.Values {
			return url.Values{"response": {"a", "b"}}
		}, string(relyingparty.ErrResponse), true},
		"too long": {func(*testing.T, *world, *wallet, credential.Request) url.Values {
			return url.Values{"response": {strings.Repeat("A", 80<<10)}}
		}, string(relyingparty.ErrResponse), true},
		"not encrypted": {func(t *testing.T, _ *world, h *wallet, r credential.Request) url.Values {
			b, _ := json.Marshal(map[string]any{"vp_token": map[string][]string{"person": {h.present(t, r)["person"]}}, "state": r.State()})
			return url.Values{"response": {string(b)}}
		}, string(credential.ErrResponse), false},
		"for another request's key": {func(t *testing.T, w *world, h *wallet, r credential.Request) url.Values {
			other, err := h.fetch(t, w.browser().begin(t, w.a, "adult"))
			if err != nil {
				t.Fatal(err)
			}
			jwe, err := other.Seal(h.present(t, r))
			if err != nil {
				t.Fatal(err)
			}
			return url.Values{"response": {jwe}}
		}, string(credential.ErrResponse), false},
		"another state": {func(t *testing.T, _ *world, h *wallet, r credential.Request) url.Values {
			return url.Values{"response": {h.sealJSON(t, map[string]any{"vp_token": map[string][]string{"person": {h.present(t, r)["person"]}}, "state": "x"})}}
		}, string(relyingparty.ErrResponse), false},
		"another id": {func(t *testing.T, _ *world, h *wallet, r credential.Request) url.Values {
			return url.Values{"response": {h.sealJSON(t, map[string]any{"vp_token": map[string][]string{"name": {h.present(t, r)["person"]}}, "state": r.State()})}}
		}, string(relyingparty.ErrResponse), false},
		"one presentation too many": {func(t *testing.T, _ *world, h *wallet, r credential.Request) url.Values {
			p := h.present(t, r)["person"]
			return url.Values{"response": {h.sealJSON(t, map[string]any{"vp_token": map[string][]string{"person": {p}, "name": {p}}, "state": r.State()})}}
		}, string(relyingparty.ErrResponse), false},
		"two presentations under one id": {func(t *testing.T, _ *world, h *wallet, r credential.Request) url.Values {
			p := h.present(t, r)["person"]
			return url.Values{"response": {h.sealJSON(t, map[string]any{"vp_token": map[string][]string{"person": {p, p}}, "state": r.State()})}}
		}, string(credential.ErrResponse), false},
		"two presentations in one": {func(t *testing.T, _ *world, h *wallet, r credential.Request) url.Values {
			p := h.present(t, r)["person"]
			return url.Values{"response": {h.sealJSON(t, map[string]any{"vp_token": map[string][]string{"person": {p + "\n" + p}}, "state": r.State()})}}
		}, string(credential.ErrForm), false},
		"a presentation that is too long": {func(t *testing.T, _ *world, h *wallet, r credential.Request) url.Values {
			return url.Values{"response": {h.sealJSON(t, map[string]any{"vp_token": map[string][]string{"person": {strings.Repeat("A", credential.MaxPresentation+1)}}, "state": r.State()})}}
		}, string(credential.ErrSize), false},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				w := newWorld(t)
				h := w.wallet()
				link := w.browser().begin(t, w.a, "adult")
				r, err := h.fetch(t, link)
				if err != nil {
					t.Fatal(err)
				}
				if redirect, err := h.post(t, r.ResponseURI(), test.form(t, w, h, r)); err == nil {
					t.Errorf("redirected to %q", redirect)
				}
				if got := w.a.codes.last(); got != test.code {
					t.Errorf("%s, want %s", got, test.code)
				}
				if _, err := h.fetch(t, link); (err == nil) != test.kept {
					t.Errorf("afterwards: %v", err)
				}
			})
		})
	}
}

// sealJSON is a response of any content.
func (h *wallet) sealJSON(t testing.TB, v any) string {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return h.seal(t, text)
}

func TestAResponseIsTakenOnce(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newWorld(t)
		h, b := w.wallet(), w.browser()
		r, err := h.fetch(t, b.begin(t, w.a, "adult"))
		if err != nil {
			t.Fatal(err)
		}
		p := h.present(t, r)
		redirect, err := h.send(t, r, p)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := h.send(t, r, p); err == nil || w.a.codes.last() != string(relyingparty.ErrTransaction) {
			t.Errorf("%v, %s", err, w.a.codes.last())
		}
		if _, err := b.back(t, w.a, redirect); err != nil {
			t.Error(err)
		}
	})
}

// A phishing site begins at the real one and sends its visitor the link. The
// visitor's helper shows the real site's name, the visitor agrees, and nobody is
// signed in: not the attacker, who has the cookie, nor the visitor, who has the code,
// nor the attacker with the code afterwards.
func TestARelayedRequest(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newWorld(t)
		attacker, visitor, helper := w.browser(), w.browser(), w.wallet()
		redirect := helper.open(t, attacker.begin(t, w.a, "adult"))
		_, err := visitor.back(t, w.a, redirect)
		if !errors.Is(err, relyingparty.ErrSession) {
			t.Errorf("the visitor: %v", err)
		}
		if !strings.Contains(relyingparty.Sentence(err), "another browser") {
			t.Error(relyingparty.Sentence(err))
		}
		if _, err := attacker.back(t, w.a, redirect); !errors.Is(err, relyingparty.ErrCode) {
			t.Errorf("the attacker: %v", err)
		}
	})
}

// The same with a visitor who has a sign-in of his own under way at that site.
func TestARelayedRequestIntoASignInOfOnesOwn(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newWorld(t)
		attacker, visitor, helper := w.browser(), w.browser(), w.wallet()
		visitor.begin(t, w.a, "adult")
		redirect := helper.open(t, attacker.begin(t, w.a, "adult"))
		if _, err := visitor.back(t, w.a, redirect); !errors.Is(err, relyingparty.ErrSession) {
			t.Errorf("the visitor: %v", err)
		}
	})
}

func TestResponseCodes(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newWorld(t)
		h, b := w.wallet(), w.browser()
		redirect := h.open(t, b.begin(t, w.a, "adult"))
		cookies := b.client.Jar.Cookies(&url.URL{Scheme: "https", Host: "a.example", Path: "/"})
		for _, wrong := range []string{"", "x", b64.EncodeToString(make([]byte, 32)), strings.Repeat("A", 8<<10)} {
			if _, err := w.a.finish(cookies, wrong); !errors.Is(err, relyingparty.ErrCode) {
				t.Errorf("%.9q: %v", wrong, err)
			}
		}
		// The right one is still good, once.
		_, code, _ := strings.Cut(redirect, "response_code=")
		if _, err := w.a.finish(cookies, code); err != nil {
			t.Error(err)
		}
		if _, err := w.a.finish(cookies, code); !errors.Is(err, relyingparty.ErrCode) {
			t.Errorf("a second time: %v", err)
		}
	})
}

// Of many that bring one code at once, one is signed in.
func TestACodeIsUsedOnce(t *testing.T) {
	w := newWorld(t)
	h, b := w.wallet(), w.browser()
	redirect := h.open(t, b.begin(t, w.a, "adult"))
	_, code, _ := strings.Cut(redirect, "response_code=")
	u := &url.URL{Scheme: "https", Host: "a.example", Path: "/signin/finish"}
	cookies := b.client.Jar.Cookies(u)
	var mu sync.Mutex
	var wg sync.WaitGroup
	in, refused := 0, 0
	for range 16 {
		wg.Go(func() {
			_, err := w.a.finish(cookies, code)
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				in++
			} else if errors.Is(err, relyingparty.ErrCode) {
				refused++
			}
		})
	}
	wg.Wait()
	if in != 1 || refused != 15 {
		t.Errorf("%d signed in, %d refused", in, refused)
	}
}

// Every character of a presentation counts.
func TestEveryByteOfAPresentation(t *testing.T) {
	w := newWorld(t)
	h, b := w.wallet(), w.browser()
	r, err := h.fetch(t, b.begin(t, w.a, "adult"))
	if err != nil {
		t.Fatal(err)
	}
	size := len(h.present(t, r)["person"])
	for i := 0; i < size; i += 13 {
		r, err := h.fetch(t, b.begin(t, w.a, "adult"))
		if err != nil {
			t.Fatal(err)
		}
		p := []byte(h.present(t, r)["person"])
		if p[i] == 'A' {
			p[i] = 'B'
		} else {
			p[i] = 'A'
		}
		redirect, err := h.send(t, r, map[string]string{"person": string(p)})
		if err != nil {
			t.Fatal(err)
		}
		if l, err := b.back(t, w.a, redirect); err == nil {
			t.Fatalf("byte %d changed: signed in as %s", i, l.Pseudonym())
		}
	}
}
