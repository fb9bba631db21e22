// Package relyingparty lets a website sign people in who have an enrolled key: it
// learns "a real person", the claims it asked for, and a pseudonym that no other
// site knows. It speaks OpenID4VP 1.0 (HAIP 1.0 profile) on the same device: signed
// request object under x509_hash, DCQL, direct_post.jwt, redirect with a response
// code.
//
// Three calls, in the order of the person's way:
//
//	link, err := party.Begin(w, r, ask)  // the button was pressed: show this link
//	mux.Handle("/signin/", party.Endpoints()) // the helper fetches the request and leaves its response
//	login, err := party.Finish(w, r)     // the browser is back: who is it?
//
// [Party.Handler] is all of it with plain pages. [Party.Run] keeps the issuer's
// status lists fresh and must run beside it.
//
// Invariants: a [Login] is made by [Party.Finish] alone, after everything was
// verified; its zero value is nobody's. Nothing is acted on before the response code
// comes back with the cookie of the browser that began: a link that is opened
// elsewhere signs nobody in. Each state, nonce and code is used once. A revoked
// credential is refused, and so is everybody while no status list is fresh.
//
// Non-goals: signing in across devices (a QR code can be relayed to a victim, and
// nothing in the protocol shows it: OpenID4VP 1.0, 14.2); one account for each
// person (a batch of credentials gives one citizen several pseudonyms at one site);
// rate limits by address, which belong in front of the site.
package relyingparty

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"enrollkiosk/registry/credential"
)

// Config is what a site knows of itself and of the issuer.
type Config struct {
	// URL is where the site mounts the endpoints, as the helper sees it:
	// "https://site.example/signin". Its host is the DNS name of Site's certificate.
	URL string

	// Site signs the requests.
	Site credential.Site

	// Issuer is whose credentials are believed.
	Issuer credential.Authority

	// StatusLists are the addresses of the issuer's lists. One that is missing is
	// fetched at the first sign-in that needs it, which shows the issuer the time of
	// that sign-in; all others are fetched by the clock.
	StatusLists []string

	// Store keeps sign-ins that are under way; nil is a Memory of 10,000.
	Store Store

	// Client fetches status lists; nil trusts the system's roots. Redirects are
	// never followed.
	Client *http.Client

	// Log gets codes and no values of people; nil logs nothing.
	Log *slog.Logger
}

const memorySize = 10_000

// Party is the relying party.
type Party struct {
	url   string
	path  string // of url
	site  credential.Site
	from  credential.Authority
	store Store
	lists *lists
	log   *slog.Logger
}

// New checks the configuration ([ErrConfig]).
func New(c Config) (*Party, error) {
	u, err := url.Parse(c.URL)
	switch {
	case err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return nil, fmt.Errorf("%w: %q is no https address", ErrConfig, c.URL)
	case strings.Trim(u.Path, "/") == "" || strings.HasSuffix(u.Path, "/") || u.Path != u.EscapedPath():
		return nil, fmt.Errorf("%w: %q needs a path of its own, without a slash at its end", ErrConfig, c.URL)
	case len(c.Site.Chain) == 0 || c.Site.Key == nil:
		return nil, fmt.Errorf("%w: no certificate", ErrConfig)
	case len(c.Site.Chain[0].DNSNames) != 1 || !strings.EqualFold(c.Site.Chain[0].DNSNames[0], u.Hostname()):
		return nil, fmt.Errorf("%w: the certificate is of %q, not of %q alone", ErrConfig, c.Site.Chain[0].DNSNames, u.Hostname())
	case c.Issuer.Issuer == "" || c.Issuer.Roots == nil:
		return nil, fmt.Errorf("%w: no issuer", ErrConfig)
	}
	if pub, ok := c.Site.Key.Public().(*ecdsa.PublicKey); !ok || !pub.Equal(c.Site.Chain[0].PublicKey) {
		return nil, fmt.Errorf("%w: the key is not the certificate's", ErrConfig)
	}
	if c.Store == nil {
		c.Store = NewMemory(memorySize)
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	lists, err := newLists(c)
	if err != nil {
		return nil, err
	}
	return &Party{c.URL, u.Path, c.Site, c.Issuer, c.Store, lists, c.Log}, nil
}

// Ask is what a site wants to know beside the pseudonym: names of claims of package
// credential. Ask for little: each answer narrows the crowd that hides the person.
// The legal name comes from a credential of its own, shown in the same response.
type Ask struct{ Claims []string }

// Ids of the credentials in a query.
const (
	person = "person"
	name   = "name"
)

// query is what claims are asked for, by credential; the pseudonym's comes first.
func (p *Party) query(claims []string) (credential.Query, error) {
	q := []credential.CredentialQuery{
		{ID: person, Types: []string{credential.RealPerson(p.from.Issuer)}},
		{ID: name, Types: []string{credential.LegalName(p.from.Issuer)}},
	}
	for i, claim := range claims {
		switch {
		case slices.Contains(claims[:i], claim):
			return credential.Query{}, fmt.Errorf("%w: %s twice", ErrConfig, claim)
		case slices.Contains(credential.PersonClaims(), claim):
			q[0].Claims = append(q[0].Claims, claim)
		case slices.Contains(credential.NameClaims(), claim):
			q[1].Claims = append(q[1].Claims, claim)
		default:
			return credential.Query{}, fmt.Errorf("%w: no credential has %q", ErrConfig, claim)
		}
	}
	if q[1].Claims == nil {
		q = q[:1]
	}
	for _, c := range q {
		for _, claim := range append([]string{""}, c.Claims...) {
			may := credential.MayAsk(c.Types[0], claim)
			if !slices.ContainsFunc(p.site.Chain[0].URIs, func(u *url.URL) bool { return u.String() == may }) {
				return credential.Query{}, fmt.Errorf("%w: %s", ErrUnregistered, may)
			}
		}
	}
	return credential.Query{Credentials: q}, nil
}

// cookie binds a sign-in to the browser that began it. The prefix keeps other hosts
// of the same domain from planting one (RFC 6265bis 4.1.3.2).
const cookieName = "__Host-signin"

func cookie(value string, age time.Duration) *http.Cookie {
	return &http.Cookie{Name: cookieName, Value: value, Path: "/", MaxAge: int(age / time.Second), Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode}
}

// Begin starts a sign-in for the browser that sent r: it sets a cookie on w and gives
// the link that opens the helper on the same machine. Call it for a POST that was
// checked for its origin. A second one in the same browser takes the place of the
// first. Errors wrap [ErrUnregistered], [ErrConfig] or [ErrBusy].
func (p *Party) Begin(w http.ResponseWriter, r *http.Request, ask Ask) (link string, err error) {
	if _, err := p.query(ask.Claims); err != nil {
		return "", fmt.Errorf("begin: %w", err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", fmt.Errorf("begin: %w", err)
	}
	raw, err := key.Bytes()
	if err != nil {
		return "", fmt.Errorf("begin: %w", err)
	}
	browser, state := newToken(), newToken()
	t := pending{browser.hash(), newToken().String(), raw, ask.Claims, time.Now().Add(TransactionTime)}
	if err := requests.put(r.Context(), p.store, state, t, nil, t.Until); err != nil {
		return "", fmt.Errorf("begin: %w", err)
	}
	http.SetCookie(w, cookie(browser.String(), TransactionTime+AnswerTime))
	w.Header().Set("Cache-Control", "no-store")
	return "haip-vp://authorize?" + url.Values{
		"client_id":          {p.site.ClientID()},
		"request_uri":        {p.url + "/request/" + state.String()},
		"request_uri_method": {"post"},
	}.Encode(), nil
}

// missing turns the store's "none" into what it means at this step.
func missing(err error, meaning Refusal) error {
	if errors.Is(err, ErrTransaction) {
		return meaning
	}
	return err
}
