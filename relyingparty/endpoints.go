package relyingparty

import (
	"context"
	"crypto/ecdsa"
	"crypto/sha512"
	"crypto/subtle"
	"embed"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"strings"
	"time"

	"enrollkiosk/registry/credential"
)

// Endpoints are what the helper speaks to, and the page on which it brings the
// browser back; mount them at the path of [Config.URL] and a slash.
//
//	POST request/{state}    the signed request object (OpenID4VP 1.0, 5.10)
//	POST response/{state}   the encrypted response (8.3.1)
//	GET  return             posts the response code to finish, which the site serves
func (p *Party) Endpoints() http.Handler {
	mux := http.NewServeMux()
	p.endpoints(mux)
	return mux
}

func (p *Party) endpoints(mux *http.ServeMux) {
	mux.HandleFunc("POST "+p.path+"/request/{state}", p.serveRequest)
	mux.HandleFunc("POST "+p.path+"/response/{state}", p.serveResponse)
	mux.HandleFunc("GET "+p.path+"/return", func(w http.ResponseWriter, _ *http.Request) {
		p.page(w, http.StatusOK, "return.html", nil)
	})
	for file, kind := range map[string]string{"return.js": "text/javascript", "page.css": "text/css"} {
		mux.HandleFunc("GET "+p.path+"/"+file, func(w http.ResponseWriter, _ *http.Request) {
			b, _ := pages.ReadFile("pages/" + file) // embedded
			w.Header().Set("Content-Type", kind+"; charset=utf-8")
			w.Header().Set("X-Content-Type-Options", "nosniff")
			w.Header().Set("Cache-Control", "max-age=300")
			w.Write(b)
		})
	}
}

// Handler is everything: the endpoints; begin, which asks and shows the link; and
// finish, which calls done with who signed in. A button that signs in is
//
//	<form method="post" action="/signin/begin"><button>Sign in</button></form>
func (p *Party) Handler(ask Ask, done func(http.ResponseWriter, *http.Request, Login)) http.Handler {
	mux := http.NewServeMux()
	p.endpoints(mux)
	own := http.NewCrossOriginProtection()
	mux.Handle("POST "+p.path+"/begin", own.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		link, err := p.Begin(w, r, ask)
		if err != nil {
			p.refused(w, err)
			return
		}
		p.page(w, http.StatusOK, "open.html", template.URL(link))
	})))
	mux.Handle("POST "+p.path+"/finish", own.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		login, err := p.Finish(w, r)
		if err != nil {
			p.refused(w, err)
			return
		}
		done(w, r, login)
	})))
	return mux
}

func (p *Party) refused(w http.ResponseWriter, err error) {
	p.log.Warn("nobody is signed in", "code", Code(err))
	p.page(w, Status(err), "refused.html", Sentence(err))
}

// Status is the HTTP status that goes with an error.
func Status(err error) int {
	switch {
	case errors.Is(err, ErrBusy), errors.Is(err, ErrStatusAway):
		return http.StatusServiceUnavailable
	case Code(err) == "internal", errors.Is(err, ErrConfig), errors.Is(err, ErrUnregistered):
		return http.StatusInternalServerError
	}
	return http.StatusForbidden
}

// serveRequest signs the request anew for each fetch: a lost answer is fetched again.
func (p *Party) serveRequest(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, 4<<10)
	jwt, err := p.request(r.Context(), r.PathValue("state"), r.PostFormValue("wallet_nonce"))
	if err != nil {
		p.fail(w, "a request is not given", err)
		return
	}
	w.Header().Set("Content-Type", "application/oauth-authz-req+jwt")
	w.Header().Set("Cache-Control", "no-store")
	w.Write([]byte(jwt))
}

func (p *Party) request(ctx context.Context, path, walletNonce string) (string, error) {
	state, ok := parseToken(path)
	if !ok || walletNonce == "" || len(walletNonce) > 512 {
		return "", ErrTransaction
	}
	var t pending
	if _, err := requests.get(ctx, p.store.Get, state, &t); err != nil {
		return "", err
	}
	if !t.Until.After(time.Now()) {
		return "", ErrTransaction
	}
	key, err := t.key()
	if err != nil {
		return "", err
	}
	q, err := p.query(t.Claims)
	if err != nil {
		return "", err
	}
	return p.site.SignRequest(credential.Asked{
		ResponseURI: p.url + "/response/" + path, Nonce: t.Nonce, State: path, WalletNonce: walletNonce, Query: q, Encryption: &key.PublicKey,
	})
}

func (p *Party) serveResponse(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, credential.MaxResponse+4<<10)
	if err := r.ParseForm(); err != nil {
		p.fail(w, "a response is not taken", fmt.Errorf("%w: %w", ErrResponse, err))
		return
	}
	code, err := p.take(r.Context(), r.PathValue("state"), r.PostForm)
	if err != nil {
		p.fail(w, "a response is not taken", err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	// Behind #, where no log of a server and no Referer has it.
	json.NewEncoder(w).Encode(map[string]string{"redirect_uri": p.url + "/return#response_code=" + code.String()})
}

// take puts a response away for the browser that began. Whatever comes, the state
// and its nonce are used up. Nothing is verified: nobody would act on it.
func (p *Party) take(ctx context.Context, path string, form url.Values) (code token, err error) {
	state, ok := parseToken(path)
	response, failure := form["response"], form["error"]
	if !ok || len(response)+len(failure) != 1 {
		return token{}, ErrResponse
	}
	var t pending
	if _, err := requests.get(ctx, p.store.Take, state, &t); err != nil {
		return token{}, err
	}
	now := time.Now()
	if !t.Until.After(now) {
		return token{}, ErrTransaction
	}
	a := answer{Browser: t.Browser, Nonce: t.Nonce, Claims: t.Claims, Declined: len(failure) == 1, Arrived: now, Until: now.Add(AnswerTime)}
	if !a.Declined {
		key, err := t.key()
		if err != nil {
			return token{}, err
		}
		if a.Presentations, err = p.open(response[0], key, path, t.Claims); err != nil {
			return token{}, err
		}
	}
	code = newToken()
	return code, answers.put(ctx, p.store, code, a, a.Presentations, a.Until)
}

// open decrypts a response and holds it to the form of what was asked.
func (p *Party) open(jwe string, key *ecdsa.PrivateKey, state string, claims []string) (presentations []string, err error) {
	r, err := credential.OpenResponse(jwe, key)
	if err != nil {
		return nil, err
	}
	if subtle.ConstantTimeCompare([]byte(r.State), []byte(state)) != 1 {
		return nil, fmt.Errorf("%w: another state", ErrResponse)
	}
	q, err := p.query(claims)
	if err != nil {
		return nil, err
	}
	if len(r.Presentations) != len(q.Credentials) {
		return nil, fmt.Errorf("%w: %d presentations, not %d", ErrResponse, len(r.Presentations), len(q.Credentials))
	}
	for _, c := range q.Credentials {
		switch presentation, there := r.Presentations[c.ID]; {
		case !there:
			return nil, fmt.Errorf("%w: no presentation %s", ErrResponse, c.ID)
		case len(presentation) > credential.MaxPresentation:
			return nil, credential.ErrSize
		case strings.Contains(presentation, "\n"): // divides them in the store
			return nil, credential.ErrForm
		default:
			presentations = append(presentations, presentation)
		}
	}
	return presentations, nil
}

// fail tells the helper one thing, whatever it was.
func (p *Party) fail(w http.ResponseWriter, what string, err error) {
	p.log.Warn(what, "code", Code(err))
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	if status := Status(err); status >= 500 {
		w.WriteHeader(status)
	} else {
		w.WriteHeader(http.StatusBadRequest)
	}
	w.Write([]byte(`{"error":"invalid_request"}` + "\n"))
}

//go:embed pages
var pages embed.FS

var templates = template.Must(template.New("").ParseFS(pages, "pages/*.html"))

// integrity is of return.js (Subresource Integrity 3.1).
var integrity = func() string {
	b, err := pages.ReadFile("pages/return.js")
	if err != nil {
		panic(err) // not embedded
	}
	d := sha512.Sum384(b)
	return "sha384-" + base64.StdEncoding.EncodeToString(d[:])
}()

// page writes a page that runs nothing but return.js, sends forms to the site alone
// and stands in no frame. The referrer stays for the site itself: without one,
// browsers give a form's origin as "null".
func (p *Party) page(w http.ResponseWriter, status int, file string, data any) {
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; script-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
	h.Set("Referrer-Policy", "same-origin")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	if err := templates.ExecuteTemplate(w, file, struct {
		Path, Integrity string
		Data            any
	}{p.path, integrity, data}); err != nil {
		p.log.Error("a page is not written", "page", file, "error", err)
	}
}
