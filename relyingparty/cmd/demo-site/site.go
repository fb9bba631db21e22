package main

import (
	"context"
	"embed"
	"errors"
	"html/template"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"enrollkiosk/registry/credential"
	"enrollkiosk/relyingparty"
)

// site is the website: pages from the server, no script but the one that
// relyingparty serves.
type site struct {
	name    string
	party   *relyingparty.Party
	ask     relyingparty.Ask
	named   relyingparty.Ask // with the legal name; no claims if it is not offered
	members *members
	log     *slog.Logger
}

func newSite(c config, m *members, log *slog.Logger) (*site, error) {
	c.party.Log = log
	party, err := relyingparty.New(c.party)
	if err != nil {
		return nil, err
	}
	s := &site{name: c.name, party: party, ask: relyingparty.Ask{Claims: c.claims}, members: m, log: log}
	if c.legalName {
		s.named.Claims = append(append(s.named.Claims, c.claims...), credential.FamilyName, credential.GivenName)
	}
	return s, nil
}

func (s *site) handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/signin/", s.party.Endpoints())
	mux.HandleFunc("POST /signin/begin", s.begin(s.ask))
	if len(s.named.Claims) > 0 {
		mux.HandleFunc("POST /signin/named", s.begin(s.named))
	}
	mux.HandleFunc("POST /signin/finish", s.finish)
	mux.HandleFunc("GET /{$}", s.home)
	mux.HandleFunc("GET /register", s.withMember(s.registration))
	mux.HandleFunc("POST /register", s.withMember(s.register))
	mux.HandleFunc("GET /profile", s.withMember(s.profile))
	mux.HandleFunc("POST /delete", s.withMember(s.remove))
	mux.HandleFunc("POST /signout", s.signOut)
	mux.HandleFunc("GET /site.css", func(w http.ResponseWriter, _ *http.Request) {
		b, _ := pages.ReadFile("pages/site.css") // embedded
		w.Header().Set("Content-Type", "text/css; charset=utf-8")
		w.Header().Set("Cache-Control", "max-age=300")
		w.Write(b)
	})
	// Helpers send neither Origin nor Sec-Fetch-Site and pass.
	own := http.NewCrossOriginProtection().Handler(mux)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Strict-Transport-Security", "max-age=63072000")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Referrer-Policy", "same-origin")
		h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
		own.ServeHTTP(w, r)
	})
}

func (s *site) begin(ask relyingparty.Ask) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		link, err := s.party.Begin(w, r, ask)
		if err != nil {
			s.refused(w, err)
			return
		}
		s.page(w, http.StatusOK, "open.html", map[string]any{"Link": template.URL(link), "Asked": asked(ask)})
	}
}

// asked says in words what a site will know.
func asked(ask relyingparty.Ask) []string {
	var words []string
	for _, claim := range ask.Claims {
		if w, ok := map[string]string{
			credential.RealNameVerified: "that your identity was verified, without your name",
			credential.AgeOver14:        "whether you are over 14",
			credential.AgeOver16:        "whether you are over 16",
			credential.AgeOver18:        "whether you are over 18",
			credential.FamilyName:       "your family name",
			credential.GivenName:        "your given names",
			credential.NameLocal:        "your name in its own script",
		}[claim]; ok {
			words = append(words, w)
		}
	}
	return words
}

const sessionCookie = "__Host-session"

func (s *site) finish(w http.ResponseWriter, r *http.Request) {
	login, err := s.party.Finish(w, r)
	if err != nil {
		s.refused(w, err)
		return
	}
	secret, err := s.members.signIn(login, time.Now())
	if err != nil {
		s.broken(w, err)
		return
	}
	if old, err := r.Cookie(sessionCookie); err == nil { // a new id with each sign-in
		if err := s.members.signOut(old.Value); err != nil {
			s.broken(w, err)
			return
		}
	}
	http.SetCookie(w, &http.Cookie{Name: sessionCookie, Value: secret, Path: "/", MaxAge: int(sessionTime / time.Second), Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode})
	http.Redirect(w, r, "/profile", http.StatusSeeOther)
}

// member is whose session a request belongs to. One whose credential was revoked
// meanwhile is signed out.
func (s *site) member(r *http.Request) (a account, registered bool, secret string, err error) {
	c, err := r.Cookie(sessionCookie)
	if err != nil {
		return account{}, false, "", errNone
	}
	if a, registered, err = s.members.member(c.Value, time.Now()); err != nil {
		return account{}, false, "", err
	}
	err = s.party.Standing(r.Context(), a.status())
	if errors.Is(err, credential.ErrStatus) {
		err = errors.Join(err, s.members.signOut(c.Value))
	}
	return a, registered, c.Value, err
}

// visit is a request of somebody who is signed in.
type visit struct {
	account
	registered bool
	secret     string
}

func (s *site) withMember(f func(http.ResponseWriter, *http.Request, visit)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		a, registered, secret, err := s.member(r)
		switch {
		case errors.Is(err, errNone):
			http.Redirect(w, r, "/", http.StatusSeeOther)
		case errors.Is(err, credential.ErrStatus):
			s.log.Warn("a member is signed out", "code", relyingparty.Code(err))
			s.page(w, http.StatusForbidden, "refused.html", "Your sign-in credential was revoked, and you are signed out. If you did not ask for that, go to an enrollment station.")
		case relyingparty.Code(err) != "internal":
			s.refused(w, err)
		case err != nil:
			s.broken(w, err)
		default:
			f(w, r, visit{a, registered, secret})
		}
	}
}

func (s *site) home(w http.ResponseWriter, r *http.Request) {
	a, registered, _, err := s.member(r)
	s.page(w, http.StatusOK, "home.html", map[string]any{"In": err == nil, "Registered": registered, "Account": a, "Asked": asked(s.ask)})
}

func (s *site) registration(w http.ResponseWriter, r *http.Request, v visit) {
	if v.registered {
		http.Redirect(w, r, "/profile", http.StatusSeeOther)
		return
	}
	s.page(w, http.StatusOK, "register.html", map[string]any{"Account": v.account})
}

func (s *site) register(w http.ResponseWriter, r *http.Request, v visit) {
	r.Body = http.MaxBytesReader(w, r.Body, 4<<10)
	name := r.PostFormValue("name")
	err := s.members.register(v.secret, name, time.Now())
	switch {
	case errors.Is(err, errName), errors.Is(err, errTaken):
		s.page(w, http.StatusUnprocessableEntity, "register.html", map[string]any{"Account": v.account, "Name": name, "Mistake": sentence(err)})
	case err != nil:
		s.broken(w, err)
	default:
		http.Redirect(w, r, "/profile", http.StatusSeeOther)
	}
}

func sentence(err error) string {
	text := err.Error()
	return strings.ToUpper(text[:1]) + text[1:] + "."
}

func (s *site) profile(w http.ResponseWriter, r *http.Request, v visit) {
	if !v.registered {
		http.Redirect(w, r, "/register", http.StatusSeeOther)
		return
	}
	s.page(w, http.StatusOK, "profile.html", map[string]any{
		"Account": v.account, "Verified": v.Claims[credential.RealNameVerified] == true, "Adult": v.Claims[credential.AgeOver18] == true,
		"Named": len(s.named.Claims) > 0,
	})
}

func (s *site) remove(w http.ResponseWriter, r *http.Request, v visit) {
	if err := s.members.remove(v.account); err != nil {
		s.broken(w, err)
		return
	}
	s.signOut(w, r)
}

func (s *site) signOut(w http.ResponseWriter, r *http.Request) {
	if c, err := r.Cookie(sessionCookie); err == nil {
		if err := s.members.signOut(c.Value); err != nil {
			s.broken(w, err)
			return
		}
	}
	http.SetCookie(w, &http.Cookie{Name: sessionCookie, Path: "/", MaxAge: -1, Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode})
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

func (s *site) refused(w http.ResponseWriter, err error) {
	s.log.Warn("nobody is signed in", "code", relyingparty.Code(err))
	s.page(w, relyingparty.Status(err), "refused.html", relyingparty.Sentence(err))
}

// broken is a fault of ours.
func (s *site) broken(w http.ResponseWriter, err error) {
	s.log.Error("a request failed", "error", err)
	s.page(w, http.StatusInternalServerError, "refused.html", "Something went wrong here. Please try again later.")
}

// tidy removes old sessions until ctx ends.
func (s *site) tidy(ctx context.Context) {
	for {
		if err := s.members.tidy(time.Now()); err != nil {
			s.log.Error("old sessions stay", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Hour):
		}
	}
}

//go:embed pages
var pages embed.FS

var templates = template.Must(template.New("").ParseFS(pages, "pages/*.html"))

func (s *site) page(w http.ResponseWriter, status int, file string, data any) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	if err := templates.ExecuteTemplate(w, file, struct {
		Site string
		Data any
	}{s.name, data}); err != nil {
		s.log.Error("a page is not written", "page", file, "error", err)
	}
}
