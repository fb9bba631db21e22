package holder

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"enrollkiosk/holder/sitekey"
	"enrollkiosk/holder/store"
	"enrollkiosk/kiosk/durable"
	"enrollkiosk/registry/credential"
)

const (
	formType    = "application/x-www-form-urlencoded"
	requestType = "application/oauth-authz-req+jwt"
)

// Presented is a sign-in that the website has taken.
type Presented struct {
	Site   string
	Return string // https address at the website: to be opened in the browser that asked
	Unused int    // credentials that are left for further websites
}

// Present answers a link. It is done when the browser has opened Return: the website
// lets only the browser in that has asked.
//
// Errors: Faults, credential.Refusals, package store's and hsm's.
func (h *Helper) Present(ctx context.Context, link string) (p Presented, err error) {
	l, err := ParseLink(link)
	if err != nil {
		return p, err
	}
	err = h.alone(func() error {
		if err := h.paused(); err != nil {
			return err
		}
		request, clock, err := h.fetch(ctx, l)
		if err != nil {
			return err
		}
		if err := h.consent(ctx, request); err != nil {
			return err
		}
		jwe, unused, err := h.presentation(ctx, request, clock)
		if err != nil {
			return err
		}
		p = Presented{Site: request.Site(), Unused: unused}
		p.Return, err = h.deliver(ctx, request, jwe)
		return err
	})
	return p, err
}

// fetch gets the request object and verifies it. clock is how far the website's time
// is from ours.
func (h *Helper) fetch(ctx context.Context, l Link) (r credential.Request, clock time.Duration, err error) {
	nonce := random()
	a, err := h.do(ctx, exchange{
		method: http.MethodPost, uri: l.RequestURI, kind: formType, accept: requestType,
		body: []byte(url.Values{"wallet_nonce": {nonce}}.Encode()), limit: credential.MaxRequest,
	})
	if err != nil {
		return r, 0, fmt.Errorf("fetch request: %w", err)
	}
	if a.status != http.StatusOK || a.kind != requestType {
		return r, 0, fmt.Errorf("fetch request: status %d, %q: %w", a.status, a.kind, ErrSite)
	}
	now := time.Now()
	theirs, err := a.clock(now)
	if err != nil {
		return r, 0, err
	}
	r, err = credential.VerifyRequest(strings.TrimSpace(string(a.body)), credential.ExpectRequest{
		Roots: h.Authority.SiteRoots, ClientID: l.ClientID, RequestURI: l.RequestURI, WalletNonce: nonce, Now: now, AnyPort: h.Authority.AnyPort,
	})
	if err != nil {
		return r, 0, fmt.Errorf("request: %w", err)
	}
	if !hostName(r.Site()) {
		return r, 0, fmt.Errorf("request: the website's name: %w", credential.ErrSite)
	}
	return r, theirs.Sub(now), nil
}

// consent shows the person what is asked. A no is told to the website, as any other
// reason would be, and a pause begins.
func (h *Helper) consent(ctx context.Context, r credential.Request) error {
	a, err := h.ask(r)
	if err != nil {
		h.refuse(ctx, r)
		return err
	}
	asking, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	yes, err := h.Person.Consent(asking, a)
	if errors.Is(err, context.DeadlineExceeded) {
		yes, err = false, nil
	}
	if err != nil {
		return fmt.Errorf("consent: %w", err)
	}
	if yes {
		return nil
	}
	if err := durable.Replace(filepath.Join(h.Dir, pauseFile), nil); err != nil {
		return err
	}
	h.refuse(ctx, r)
	return ErrDeclined
}

// ask is a request in the person's terms.
func (h *Helper) ask(r credential.Request) (Ask, error) {
	a := Ask{Site: r.Site()}
	for _, q := range r.Query().Credentials {
		n := slices.IndexFunc(q.Types, h.ours)
		if n < 0 {
			return a, fmt.Errorf("type of another issuer: %w", ErrNotIssued)
		}
		vct := q.Types[n]
		a.LegalName = a.LegalName || vct == credential.LegalName(h.Authority.Issuer)
		for _, c := range q.Claims {
			if !slices.Contains(claimsOf(vct, h.Authority.Issuer), c) {
				return a, fmt.Errorf("claim %q: %w", c, ErrNotIssued)
			}
			if !slices.Contains(a.Claims, c) {
				a.Claims = append(a.Claims, c)
			}
		}
	}
	slices.Sort(a.Claims)
	return a, nil
}

func (h *Helper) ours(vct string) bool {
	return vct == credential.RealPerson(h.Authority.Issuer) || vct == credential.LegalName(h.Authority.Issuer)
}

// refuse tells the website that there will be no answer, without a reason (OpenID4VP
// 1.0, 8.5). Nobody waits for what it says.
func (h *Helper) refuse(ctx context.Context, r credential.Request) {
	h.do(ctx, exchange{
		method: http.MethodPost, uri: r.ResponseURI(), kind: formType, accept: "application/json",
		body: []byte(url.Values{"error": {"access_denied"}, "state": {r.State()}}.Encode()), limit: credential.MaxResponse,
	})
}

// presentation has the token open for as short a time as it takes.
func (h *Helper) presentation(ctx context.Context, r credential.Request, clock time.Duration) (jwe string, unused int, err error) {
	err = h.withToken(ctx, func(ctx context.Context, at session) error {
		now := time.Now()
		queries := r.Query().Credentials
		entries := make([]store.Entry, len(queries))
		indices := make([]uint64, len(queries))
		for i, q := range queries {
			vct := q.Types[slices.IndexFunc(q.Types, h.ours)] // there is one: it was asked about
			e, err := at.file.Assign(r.Site(), vct, now)
			if errors.Is(err, store.ErrNoneLeft) {
				return ErrNoneLeft
			}
			if err != nil {
				return err
			}
			entries[i], indices[i] = e, e.Index
		}
		keys, err := sitekey.Derive(ctx, at.token, indices...)
		if err != nil {
			return err
		}
		shown := map[string]string{}
		for i, k := range keys {
			defer k.Erase()
			issued, err := h.accept(entries[i].Credential, entries[i].Type, k.ECDSA(), now)
			if errors.Is(err, credential.ErrExpired) {
				return fmt.Errorf("the credential for this website: %w: run holder collect", err)
			}
			if err != nil {
				return fmt.Errorf("own credential: %w", err)
			}
			if !queries[i].Matches(issued) {
				return ErrNotIssued
			}
			if shown[queries[i].ID], err = issued.Present(queries[i].Claims, credential.Binding{Audience: r.ClientID(), Nonce: r.Nonce(), IssuedAt: now.Add(clock)}, k); err != nil {
				return err
			}
		}
		unused = at.file.Unused(credential.RealPerson(h.Authority.Issuer), now)
		jwe, err = r.Seal(shown)
		return err
	})
	return jwe, unused, err
}

// deliver hands the response over and returns where the browser goes on.
func (h *Helper) deliver(ctx context.Context, r credential.Request, jwe string) (string, error) {
	a, err := h.do(ctx, exchange{
		method: http.MethodPost, uri: r.ResponseURI(), kind: formType, accept: "application/json",
		body: []byte(url.Values{"response": {jwe}}.Encode()), limit: 8 << 10,
	})
	if err != nil {
		return "", fmt.Errorf("deliver: %w", err)
	}
	if a.status != http.StatusOK {
		return "", fmt.Errorf("deliver: status %d: %w", a.status, ErrSite)
	}
	o, err := credential.ParseObject(a.body, 4)
	if err != nil {
		return "", fmt.Errorf("deliver: %w: %w", ErrAnswer, err)
	}
	// Without an address to return to, nothing binds the sign-in to the browser that
	// has asked (OpenID4VP 1.0, 13.3).
	text, _ := o.Text("redirect_uri")
	u, err := plainHTTPS(text)
	if err != nil || len(text) > maxLink || !strings.EqualFold(u.Hostname(), r.Site()) || u.Port() != "" && u.Port() != "443" && !h.Authority.AnyPort {
		return "", fmt.Errorf("deliver: an address to return to that is not the website's: %w", ErrRedirect)
	}
	return u.String(), nil
}

// paused is ErrPause for a while after a no.
func (h *Helper) paused() error {
	info, err := os.Stat(filepath.Join(h.Dir, pauseFile))
	if err != nil {
		return nil // never said no
	}
	if since := time.Since(info.ModTime()); since >= 0 && since < Pause {
		return ErrPause
	}
	return nil
}

// random is 32 bytes, as base64url.
func random() string {
	b := make([]byte, 32)
	rand.Read(b)
	return base64.RawURLEncoding.EncodeToString(b)
}
