package relyingparty

import (
	"context"
	"crypto/subtle"
	"fmt"
	"maps"
	"net/http"
	"time"

	"enrollkiosk/registry/credential"
)

// Pseudonym is a person at this site, the same at each sign-in: the key of an
// account.
type Pseudonym struct {
	Issuer     string   // iss
	Thumbprint [32]byte // RFC 7638, SHA-256, of the holder's key for this site
}

// String is THUMBPRINT@ISSUER, the thumbprint in base64url.
func (p Pseudonym) String() string { return b64.EncodeToString(p.Thumbprint[:]) + "@" + p.Issuer }

// Login is a person who signed in just now; only [Party.Finish] makes it.
type Login struct{ l *login }

type login struct {
	person credential.Credential
	claims map[string]any
	jwts   []string
}

// Valid is false for the zero value.
func (l Login) Valid() bool { return l.l != nil }

// Pseudonym names the account.
func (l Login) Pseudonym() Pseudonym {
	return Pseudonym{l.l.person.Issuer(), l.l.person.Pseudonym()}
}

// Claims are the ones that were asked for, bool or string by name: no fewer and no
// others.
func (l Login) Claims() map[string]any { return maps.Clone(l.l.claims) }

// Is reports whether a claim was asked for and is true.
func (l Login) Is(claim string) bool { return l.l.claims[claim] == true }

// Text is a claim that was asked for and is text, or empty.
func (l Login) Text(claim string) string { s, _ := l.l.claims[claim].(string); return s }

// Expires is the end of the credential.
func (l Login) Expires() time.Time { return l.l.person.Expires() }

// Status is for [Party.Standing] while a session or an account lives.
func (l Login) Status() credential.StatusRef { return l.l.person.Status() }

// Evidence is the Issuer-signed JWT of each credential, without claims and key
// binding, the pseudonym's first: what the authority needs to find out, where the
// law allows it, who this is. Nobody else can.
func (l Login) Evidence() []string { return l.l.jwts }

// Finish is for the POST by which the browser comes back (the form field
// response_code, from the page that [Party.Endpoints] serves at /return). It takes the
// cookie away, whatever comes out: on success make a new session under a new id.
// Errors wrap a [Refusal] or a [credential.Refusal]; show [Sentence], log [Code].
func (p *Party) Finish(w http.ResponseWriter, r *http.Request) (Login, error) {
	http.SetCookie(w, cookie("", -time.Second))
	w.Header().Set("Cache-Control", "no-store")
	r.Body = http.MaxBytesReader(w, r.Body, 4<<10)
	code, ok := parseToken(r.PostFormValue("response_code"))
	if !ok {
		return Login{}, ErrCode
	}
	// Taken before the browser is known: a code that turns up in another one has
	// no further use.
	var a answer
	presentations, err := answers.get(r.Context(), p.store.Take, code, &a)
	if err != nil {
		return Login{}, fmt.Errorf("finish: %w", missing(err, ErrCode))
	}
	a.Presentations = presentations
	now := time.Now()
	if !a.Until.After(now) {
		return Login{}, ErrCode
	}
	if !sameBrowser(r, a.Browser) {
		return Login{}, ErrSession
	}
	if a.Declined {
		return Login{}, ErrDeclined
	}
	l, err := p.verify(r.Context(), a, now)
	if err != nil {
		return Login{}, fmt.Errorf("finish: %w", err)
	}
	return l, nil
}

func sameBrowser(r *http.Request, want []byte) bool {
	c, err := r.Cookie(cookieName)
	if err != nil {
		return false
	}
	browser, ok := parseToken(c.Value)
	return ok && subtle.ConstantTimeCompare(browser.hash(), want) == 1
}

// verify checks all presentations of a response, the status last: what fails
// earlier must cause no fetch (Token Status List 8.3). A presentation is judged at the
// time when it arrived, its standing now.
func (p *Party) verify(ctx context.Context, a answer, now time.Time) (Login, error) {
	q, err := p.query(a.Claims)
	if err != nil {
		return Login{}, err
	}
	l := &login{claims: map[string]any{}}
	var all []credential.Credential
	if len(a.Presentations) != len(q.Credentials) {
		return Login{}, ErrResponse
	}
	for i, want := range q.Credentials {
		c, err := credential.Verify(a.Presentations[i], credential.Expect{
			Authority: p.from, Types: want.Types, Claims: want.Claims, Audience: p.site.ClientID(), Nonce: a.Nonce, Now: a.Arrived,
		})
		if err != nil {
			return Login{}, fmt.Errorf("%s: %w", want.ID, err)
		}
		if want.ID == person {
			l.person = c
		}
		maps.Copy(l.claims, c.Claims()) // the two types have no name in common
		l.jwts = append(l.jwts, c.IssuerJWT())
		all = append(all, c)
	}
	for _, c := range all {
		if err := p.lists.check(ctx, c.Status(), now); err != nil {
			return Login{}, err
		}
	}
	return Login{l}, nil
}

// Standing looks up a person who is signed in already, as [Login.Status] gave it: nil
// while the credential is good, [credential.ErrStatus] once it is revoked,
// [ErrStatusAway] while nobody can tell. Ask at least once a day; it costs a look
// into memory.
func (p *Party) Standing(ctx context.Context, s credential.StatusRef) error {
	return p.lists.check(ctx, s, time.Now())
}
