package holder_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"enrollkiosk/holder"
	"enrollkiosk/holder/store"
	"enrollkiosk/hsm"
	"enrollkiosk/registry/credential"
	"enrollkiosk/registry/credential/credentialtest"
)

// The whole of it: collect, sign in, sign in again, sign in elsewhere.
func TestSignIn(t *testing.T) {
	w := newWorld(t)
	c := w.citizen()
	got, err := c.Collect(t.Context(), false)
	if err != nil || got != (holder.Collected{New: 10, Unused: 10}) {
		t.Fatalf("%+v, %v", got, err)
	}
	if c.person.codes != 1 || len(c.person.wrong) != 1 {
		t.Errorf("asked for %d claim codes and %d PINs", c.person.codes, len(c.person.wrong))
	}
	a, b := w.site("a", credential.AgeOver18), w.site("b", credential.AgeOver18)
	first, again, elsewhere := a.login(c.Helper), a.login(c.Helper), b.login(c.Helper)
	if first.Pseudonym() != again.Pseudonym() {
		t.Error("another person at the second visit")
	}
	if first.Pseudonym() == elsewhere.Pseudonym() {
		t.Error("two websites see the same person")
	}
	if v, ok := first.Claims()[credential.AgeOver18].(bool); !ok || !v || len(first.Claims()) != 1 {
		t.Errorf("claims %v", first.Claims())
	}
	want := holder.Ask{Site: a.host, Claims: []string{credential.AgeOver18}}
	if len(c.person.asked) != 3 || c.person.asked[0].Site != want.Site || !slices.Equal(c.person.asked[0].Claims, want.Claims) || c.person.asked[0].LegalName {
		t.Errorf("asked %+v", c.person.asked)
	}
	s, err := c.List(t.Context())
	if err != nil || len(s.Sites) != 2 || s.Sites[0].Name != a.host || s.Sites[1].Name != b.host || s.Unused != 8 {
		t.Errorf("%+v, %v", s, err)
	}
	if err := c.Forget(t.Context(), a.host); err != nil {
		t.Fatal(err)
	}
	if a.login(c.Helper).Pseudonym() == first.Pseudonym() {
		t.Error("a forgotten website knows the person again")
	}
	// The issuer took no part in it.
	if n := len(w.issuer.bodies); n != 1 {
		t.Errorf("%d requests for credentials", n)
	}
}

// What the law wants: the name beside the pseudonym, in one request, with a key of
// its own.
func TestNameInTheSameRequest(t *testing.T) {
	w := newWorld(t)
	c := w.citizen()
	c.collect()
	s := w.site("a", credential.RealNameVerified)
	s.query.Credentials = append(s.query.Credentials, credential.CredentialQuery{ID: "name", Types: []string{credential.LegalName(w.issuer.id)},
		Claims: []string{credential.FamilyName, credential.GivenName}})
	if _, err := c.Present(t.Context(), s.link()); !errors.Is(err, holder.ErrNoneLeft) {
		t.Fatalf("without a name: %v", err)
	}
	if _, err := c.Collect(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	name := s.login(c.Helper)
	if name.Claims()[credential.FamilyName] != "Musterfrau" || len(s.logins) != 2 || s.logins[0].Pseudonym() == s.logins[1].Pseudonym() {
		t.Errorf("%v of %d", name.Claims(), len(s.logins))
	}
	if a := c.person.asked[len(c.person.asked)-1]; !a.LegalName || !slices.Equal(a.Claims, []string{credential.FamilyName, credential.GivenName, credential.RealNameVerified}) {
		t.Errorf("asked %+v", a)
	}
}

// Every way a website or somebody between can be wrong ends before the person is
// asked, before the token is touched, with nothing changed on the disk.
func TestRequestsThatAreRefused(t *testing.T) {
	w := newWorld(t)
	c := w.citizen()
	c.collect()
	foreign := credentialtest.NewCA(t, "foreign", time.Now())
	other := w.site("other")
	for name, test := range map[string]struct {
		change func(*site)
		link   func(*site, string) string
		want   error
	}{
		"redirected": {func(s *site) {
			s.before = func(w http.ResponseWriter, r *http.Request) bool {
				http.Redirect(w, r, "https://"+other.host+"/request", http.StatusTemporaryRedirect)
				return true
			}
		}, nil, holder.ErrRedirect},
		"a redirect without a place": {func(s *site) {
			s.before = func(w http.ResponseWriter, r *http.Request) bool { w.WriteHeader(304); return true }
		}, nil, holder.ErrRedirect},
		"request_uri of another host": {nil, func(s *site, link string) string {
			other.key, other.nonce = credentialtest.Key(t), "n"
			other.cert, other.object = s.cert, nil
			return strings.ReplaceAll(link, s.host, other.host)
		}, credential.ErrSite},
		"response_uri of another host": {func(s *site) {
			s.asked = func(a *credential.Asked) { a.ResponseURI = "https://" + other.host + "/response" }
		}, nil, credential.ErrSite},
		"foreign CA": {func(s *site) {
			s.cert = foreign.Site(t, s.host, credential.MayAsk(credential.RealPerson(w.issuer.id), ""))
		}, nil, credential.ErrChain},
		"no wallet_nonce": {func(s *site) { s.asked = func(a *credential.Asked) { a.WalletNonce = "" } }, nil, credential.ErrNonce},
		"another wallet_nonce": {func(s *site) {
			s.asked = func(a *credential.Asked) { a.WalletNonce = "kept from an earlier request" }
		}, nil, credential.ErrNonce},
		"a request that was changed": {func(s *site) {
			s.object = func(jwt string) string {
				b := []byte(jwt)
				if at := len(b) - 10; b[at] == 'A' {
					b[at] = 'B'
				} else {
					b[at] = 'A'
				}
				return string(b)
			}
		}, nil, credential.ErrSignature},
		"client_id of another": {nil, func(s *site, link string) string {
			return strings.Replace(link, url.QueryEscape(s.cert.ClientID()), url.QueryEscape("x509_san_dns:"+other.host), 1)
		}, credential.ErrClientID},
		"transaction_data": {func(s *site) { s.object = resign(t, s, `"transaction_data":["e30"],`) }, nil, credential.ErrRequest},
		"redirect_uri":     {func(s *site) { s.object = resign(t, s, `"redirect_uri":"https://x.example/",`) }, nil, credential.ErrRequest},
		"over-asking": {func(s *site) {
			s.cert = w.sites.Site(t, s.host, credential.MayAsk(credential.RealPerson(w.issuer.id), ""))
		}, nil, credential.ErrOverask},
		"two names": {func(s *site) {
			s.cert = w.sites.Site(t, "*."+s.host, all(credential.RealPerson(w.issuer.id), credential.AgeOver18)...)
		}, nil, credential.ErrSite},
		"a wrong clock": {func(s *site) { s.off = -time.Hour }, nil, holder.ErrClock},
		"too long": {func(s *site) {
			s.object = func(jwt string) string { return jwt + strings.Repeat(" ", credential.MaxRequest) }
		}, nil, holder.ErrAnswer},
		"another kind of answer": {func(s *site) {
			s.before = func(w http.ResponseWriter, r *http.Request) bool { w.Write([]byte("<html>")); return true }
		}, nil, holder.ErrSite},
		"another web": {func(s *site) {
			stranger := *w
			stranger.tls = foreign
			stranger.serve(s.host, s)
		}, nil, holder.ErrTLS},
		"nobody there": {nil, func(s *site, link string) string { return strings.ReplaceAll(link, s.host, "nowhere."+w.name) }, holder.ErrUnreachable},
	} {
		t.Run(name, func(t *testing.T) {
			s := w.site(strings.ReplaceAll(name, " ", "-")[:3]+rnd(), credential.AgeOver18)
			if test.change != nil {
				test.change(s)
			}
			link := s.link()
			if test.link != nil {
				link = test.link(s, link)
			}
			before := files(t, c.Dir)
			asked, pins := len(c.person.asked), len(c.person.wrong)
			if _, err := c.Present(t.Context(), link); !errors.Is(err, test.want) {
				t.Errorf("%v, want %v", err, test.want)
			}
			if len(c.person.asked) != asked || len(c.person.wrong) != pins {
				t.Error("the person was asked")
			}
			if len(s.shown) > 0 || len(other.shown) > 0 {
				t.Error("something was shown")
			}
			unchanged(t, c.Dir, before)
		})
	}
}

// A stranger's issuer or claim is no decision for a person.
func TestAsksForWhatThereIsNot(t *testing.T) {
	w := newWorld(t)
	c := w.citizen()
	c.collect()
	vct := "https://elsewhere.example/vct/person"
	s := w.siteThatMay("a", credential.Query{Credentials: []credential.CredentialQuery{{ID: "p", Types: []string{vct}}}}, vct)
	if _, err := c.Present(t.Context(), s.link()); !errors.Is(err, holder.ErrNotIssued) || len(c.person.asked) > 0 {
		t.Errorf("%v", err)
	}
	if len(s.errors) != 1 || s.errors[0] != "access_denied " {
		t.Errorf("told %q", s.errors)
	}
}

// The time in a presentation is the website's: a PC's own error would be a mark.
func TestClockIsTheWebsites(t *testing.T) {
	w := newWorld(t)
	c := w.citizen()
	c.collect()
	s := w.site("a")
	for _, off := range []time.Duration{-200 * time.Second, 200 * time.Second} {
		s.off = off
		s.login(c.Helper)
		shown := s.shown[len(s.shown)-1]
		kb := strings.Split(shown[strings.LastIndex(shown, "~")+1:], ".")
		b, err := base64.RawURLEncoding.DecodeString(kb[1])
		var p struct {
			IssuedAt int64 `json:"iat"`
		}
		if err := errors.Join(err, json.Unmarshal(b, &p)); err != nil {
			t.Fatal(err)
		}
		if d := time.Since(time.Unix(p.IssuedAt, 0)) + off; d < -2*time.Second || d > 100*time.Second {
			t.Errorf("its clock is %v off, ours %v from it", off, d)
		}
	}
}

// A certificate's name that is no plain host name is shown to nobody.
func TestNameThatIsNone(t *testing.T) {
	w := newWorld(t)
	c := w.citizen()
	c.collect()
	s := w.site("a_b")
	if _, err := c.Present(t.Context(), s.link()); !errors.Is(err, credential.ErrSite) || len(c.person.asked) > 0 {
		t.Error(err)
	}
}

// A website that believes another authority's issuer alone gets nothing.
func TestIssuerThatTheWebsiteDoesNotBelieve(t *testing.T) {
	w := newWorld(t)
	c := w.citizen()
	c.collect()
	s := w.site("a")
	s.query.Credentials[0].Authorities = [][]byte{{1, 2, 3, 4}}
	if _, err := c.Present(t.Context(), s.link()); !errors.Is(err, holder.ErrNotIssued) || len(s.shown) > 0 {
		t.Error(err)
	}
	s.query.Credentials[0].Authorities = [][]byte{{1, 2, 3, 4}, w.signer.Cert.SubjectKeyId}
	s.login(c.Helper)
}

// A no tells the website nothing but that, changes nothing, and keeps the next window
// away for a while.
func TestDecline(t *testing.T) {
	w := newWorld(t)
	c := w.citizen()
	c.collect()
	c.person.yes = false
	s := w.site("a")
	pins := len(c.person.wrong)
	if _, err := c.Present(t.Context(), s.link()); !errors.Is(err, holder.ErrDeclined) {
		t.Fatal(err)
	}
	if len(s.errors) != 1 || s.errors[0] != "access_denied " || len(s.shown) > 0 || len(c.person.wrong) != pins {
		t.Errorf("told %q, shown %d, %d PINs", s.errors, len(s.shown), len(c.person.wrong)-pins)
	}
	c.person.yes = true
	n := len(s.raw)
	if _, err := c.Present(t.Context(), s.link()); !errors.Is(err, holder.ErrPause) || len(s.raw) != n {
		t.Errorf("at once again: %v, and %d requests", err, len(s.raw)-n)
	}
}

// One window at a time, for one person.
func TestOneAtATime(t *testing.T) {
	w := newWorld(t)
	c := w.citizen()
	c.collect()
	s := w.site("a")
	second := c.pc(w, c.Dir)
	var err error
	c.person.during = func() {
		c.person.during = nil
		_, err = second.Present(t.Context(), s.link())
	}
	link := s.link()
	c.Present(t.Context(), link)
	if !errors.Is(err, holder.ErrRunning) {
		t.Errorf("a second window: %v", err)
	}
}

func TestPIN(t *testing.T) {
	w := newWorld(t)
	c := w.citizen()
	c.collect()
	s := w.site("a")
	c.person.pins, c.person.wrong = []string{"000000", citizenPIN}, nil
	s.login(c.Helper)
	if len(c.person.wrong) != 2 || c.person.wrong[0] != nil || c.person.wrong[1] == nil || c.person.wrong[1].Left != 2 {
		t.Errorf("asked with %v", c.person.wrong)
	}
	// The last try is the person's own to use elsewhere.
	c.person.pins = []string{"000000"}
	if _, err := c.Present(t.Context(), s.link()); !errors.Is(err, hsm.ErrPINBlocked) {
		t.Errorf("always wrong: %v", err)
	}
	c.person.pins = []string{"1"}
	if _, err := c.Present(t.Context(), s.link()); err == nil {
		t.Error("a PIN of one digit")
	}
}

func TestNothingCollectedAndNothingLeft(t *testing.T) {
	w := newWorld(t)
	c := w.citizen()
	s := w.site("a")
	if _, err := c.Present(t.Context(), s.link()); !errors.Is(err, holder.ErrNoneLeft) {
		t.Errorf("before collecting: %v", err)
	}
	w.issuer.batch = 2
	c.collect()
	s.login(c.Helper)
	w.site("b").login(c.Helper)
	if _, err := c.Present(t.Context(), w.site("c").link()); !errors.Is(err, holder.ErrNoneLeft) {
		t.Errorf("a third website: %v", err)
	}
	s.login(c.Helper) // an old one goes on
}

// The site lets only the browser in that asked: an address elsewhere is none.
func TestReturnAddress(t *testing.T) {
	w := newWorld(t)
	c := w.citizen()
	c.collect()
	s := w.site("a")
	for _, back := range []string{"https://b." + w.name + "/#response_code=1", "http://" + s.host + "/", "javascript:alert(1)", "file:///etc/passwd",
		"https://" + s.host + "@evil.example/", "https://" + s.host + ":8443/", "-h", "https://" + s.host + "/ --flag", "https://" + s.host + "/" + strings.Repeat("x", 4096)} {
		s.back = back
		if p, err := c.Present(t.Context(), s.link()); !errors.Is(err, holder.ErrRedirect) || p.Return != "" {
			t.Errorf("%.40q: %+v, %v", back, p, err)
		}
	}
}

// The token of somebody else, and a copied directory.
func TestCopiedFilesOpenNothing(t *testing.T) {
	w := newWorld(t)
	victim, thief := w.citizen(), w.citizen()
	victim.collect()
	s := w.site("a")
	s.login(victim.Helper)
	stolen := thief.pc(w, victim.Dir)
	before := files(t, victim.Dir)
	if l, err := stolen.List(t.Context()); err != nil || len(l.Sites) > 0 {
		t.Errorf("another token: %+v, %v", l, err)
	}
	carried, err := victim.Export(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := thief.Import(t.Context(), carried); !errors.Is(err, store.ErrOtherToken) {
		t.Errorf("somebody else's export: %v", err)
	}
	if _, err := stolen.Present(t.Context(), s.link()); !errors.Is(err, holder.ErrNoneLeft) {
		t.Errorf("signing in: %v", err)
	}
	unchanged(t, victim.Dir, before)
	// Nothing of it says where the person has been.
	for name, b := range before {
		if strings.Contains(string(b), s.host) || strings.Contains(string(b), victim.did) {
			t.Errorf("%s tells", name)
		}
	}
}

// Another PC, the same token: the same person.
func TestAnotherPC(t *testing.T) {
	w := newWorld(t)
	c := w.citizen()
	c.collect()
	s := w.site("a")
	first := s.login(c.Helper)
	carried, err := c.Export(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	office := c.pc(w, t.TempDir())
	if added, conflicts, err := office.Import(t.Context(), carried); err != nil || added != 1 || len(conflicts) > 0 {
		t.Fatalf("%d, %q, %v", added, conflicts, err)
	}
	if s.login(office).Pseudonym() != first.Pseudonym() {
		t.Error("another person on another PC")
	}
	// A website of its own gets a key that the first PC gives to nobody.
	if _, err := office.Present(t.Context(), w.site("b").link()); !errors.Is(err, holder.ErrNoneLeft) {
		t.Errorf("unused credentials came along: %v", err)
	}
	if _, err := office.Collect(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	seen := map[[32]byte]bool{}
	for i, h := range []*holder.Helper{c.Helper, office, c.Helper, office, c.Helper, office} {
		p := w.site("s" + string(rune('0'+i))).login(h).Pseudonym()
		if seen[p] || p == first.Pseudonym() {
			t.Error("two websites see the same person")
		}
		seen[p] = true
	}
}

// The token is pulled in the middle, or absent.
func TestWithoutToken(t *testing.T) {
	w := newWorld(t)
	c := w.citizen()
	c.collect()
	s := w.site("a")
	c.reader.Pull()
	if _, err := c.Present(t.Context(), s.link()); !errors.Is(err, hsm.ErrRemoved) && !errors.Is(err, hsm.ErrNoDevice) {
		t.Errorf("no token: %v", err)
	}
	c.reader.Insert(c.token)
	s.login(c.Helper)
}

func TestCancelled(t *testing.T) {
	w := newWorld(t)
	c := w.citizen()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Present(ctx, w.site("a").link()); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
