package relyingparty_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"

	"enrollkiosk/registry/credential"
	"enrollkiosk/registry/credential/credentialtest"
	"enrollkiosk/relyingparty"
)

const (
	issuerID = "https://id.example"
	listURI  = "https://id.example/status/1"
)

var (
	adult = relyingparty.Ask{Claims: []string{credential.AgeOver18, credential.RealNameVerified}}
	named = relyingparty.Ask{Claims: []string{credential.RealNameVerified, credential.FamilyName, credential.GivenName}}
)

// inBubble runs a test whose clock jumps on when everybody waits.
func inBubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, f)
}

// web is the Internet: servers by host name.
type web map[string]http.Handler

func (w web) RoundTrip(r *http.Request) (*http.Response, error) {
	h, ok := w[r.URL.Host]
	if !ok {
		return nil, fmt.Errorf("no server at %s", r.URL.Host)
	}
	in := r.Clone(r.Context())
	in.RequestURI = r.URL.RequestURI()
	if in.Body == nil {
		in.Body = http.NoBody
	}
	out := httptest.NewRecorder()
	h.ServeHTTP(out, in)
	return out.Result(), nil
}

// issuer signs credentials and serves a status list.
type issuer struct {
	credential.Issuer
	ca   credentialtest.CA
	next uint64

	mu      sync.Mutex
	list    credential.StatusList
	signer  credential.Issuer // of the list
	away    bool
	old     []byte // served in place of a new list
	fetched []time.Time
	ttl     time.Duration
}

func newIssuer(t testing.TB) *issuer {
	i := &issuer{ca: credentialtest.NewCA(t, "issuer CA", time.Now()), list: credential.NewStatusList(1 << 12), ttl: time.Hour}
	i.Issuer = i.ca.Issuer(t, issuerID)
	i.signer = i.Issuer
	return i
}

func (i *issuer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.fetched = append(i.fetched, time.Now())
	if i.away {
		http.Error(w, "away", http.StatusBadGateway)
		return
	}
	if i.old != nil {
		w.Write(i.old)
		return
	}
	now := time.Now()
	jwt, err := i.signer.SignStatusList(credential.StatusToken{URI: issuerID + r.URL.Path, IssuedAt: now, Expires: now.Add(24 * time.Hour), TTL: i.ttl, List: i.list})
	if err != nil {
		panic(err)
	}
	w.Write([]byte(jwt))
}

func (i *issuer) revoke(t testing.TB, c credential.Issued) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if err := i.list.Revoke(c.Status().Index); err != nil {
		t.Fatal(err)
	}
}

func (i *issuer) set(f func(i *issuer)) {
	i.mu.Lock()
	defer i.mu.Unlock()
	f(i)
}

func (i *issuer) fetches() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return len(i.fetched)
}

func (i *issuer) authority() credential.Authority {
	return credential.Authority{Issuer: issuerID, Roots: i.ca.Roots()}
}

// issue gives out one credential.
func (i *issuer) issue(t testing.TB, change func(c *credential.Content)) held {
	t.Helper()
	i.next += 7
	h := held{key: credentialtest.Key(t)}
	c := credential.Content{
		Type: credential.RealPerson(issuerID), Expires: credential.Expiry(time.Now().AddDate(0, 0, 30)), Key: &h.key.PublicKey,
		Status: credential.StatusRef{URI: listURI, Index: i.next}, Escrow: make([]byte, credential.EscrowSize),
		Claims: map[string]any{credential.AgeOver14: true, credential.AgeOver16: true, credential.AgeOver18: true, credential.RealNameVerified: true},
	}
	rand.Read(c.Escrow)
	if change != nil {
		change(&c)
	}
	compact, err := i.Issue(c)
	if err != nil {
		t.Fatal(err)
	}
	terms := credential.Terms{Authority: i.authority(), Type: c.Type, Key: c.Key, StatusURIs: []string{c.Status.URI}, Now: time.Now()}
	for claim := range c.Claims {
		terms.Claims = append(terms.Claims, claim)
	}
	if h.issued, err = credential.Accept(compact, terms); err != nil {
		t.Fatal(err)
	}
	return h
}

func legalName(c *credential.Content) {
	c.Type = credential.LegalName(issuerID)
	c.Claims = map[string]any{credential.FamilyName: "Eriksson", credential.GivenName: "Anna Maria", credential.NameLocal: ""}
}

type held struct {
	issued credential.Issued
	key    *ecdsa.PrivateKey
}

// site is a website on the three calls. finished is what the last Finish gave.
type site struct {
	host  string
	party *relyingparty.Party
	cert  credential.Site
	codes *codes

	mu       sync.Mutex
	login    relyingparty.Login
	err      error
	beginErr error
}

func (s *site) begin(ask relyingparty.Ask) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		link, err := s.party.Begin(w, r, ask)
		s.mu.Lock()
		s.beginErr = err
		s.mu.Unlock()
		io.WriteString(w, link)
	}
}

// codes collects what is logged.
type codes struct {
	mu  sync.Mutex
	all []string
}

func (c *codes) Write(b []byte) (int, error) {
	var line struct{ Code string }
	if err := json.Unmarshal(b, &line); err != nil {
		return 0, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.all = append(c.all, line.Code)
	return len(b), nil
}

func (c *codes) last() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.all) == 0 {
		return ""
	}
	return c.all[len(c.all)-1]
}

// world is one issuer, two sites and the authority that registers sites.
type world struct {
	web    web
	issuer *issuer
	sites  credentialtest.CA
	a, b   *site
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{web: web{}, issuer: newIssuer(t), sites: credentialtest.NewCA(t, "sites CA", time.Now())}
	w.web["id.example"] = w.issuer
	w.a = w.newSite(t, "a.example", nil)
	w.b = w.newSite(t, "b.example", nil)
	return w
}

func (w *world) newSite(t testing.TB, host string, change func(*relyingparty.Config)) *site {
	t.Helper()
	var may []string
	for _, claim := range append([]string{""}, append(adult.Claims, credential.AgeOver14)...) {
		may = append(may, credential.MayAsk(credential.RealPerson(issuerID), claim))
	}
	for _, claim := range []string{"", credential.FamilyName, credential.GivenName} {
		may = append(may, credential.MayAsk(credential.LegalName(issuerID), claim))
	}
	s := &site{host: host, cert: w.sites.Site(t, host, may...), codes: &codes{}}
	c := relyingparty.Config{
		URL: "https://" + host + "/signin", Site: s.cert, Issuer: w.issuer.authority(), StatusLists: []string{listURI},
		Client: &http.Client{Transport: w.web}, Log: slog.New(slog.NewJSONHandler(s.codes, nil)),
	}
	if change != nil {
		change(&c)
	}
	var err error
	if s.party, err = relyingparty.New(c); err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/signin/", s.party.Endpoints())
	mux.HandleFunc("POST /begin/adult", s.begin(adult))
	mux.HandleFunc("POST /begin/named", s.begin(named))
	mux.HandleFunc("POST /begin/pseudonym", s.begin(relyingparty.Ask{}))
	mux.HandleFunc("POST /signin/finish", func(w http.ResponseWriter, r *http.Request) {
		login, err := s.party.Finish(w, r)
		s.mu.Lock()
		defer s.mu.Unlock()
		s.login, s.err = login, err
	})
	w.web[host] = mux
	return s
}

// browser is one profile of a person's browser.
type browser struct{ client http.Client }

func (w *world) browser() *browser {
	jar, _ := cookiejar.New(nil) // never fails
	return &browser{http.Client{Transport: w.web, Jar: jar}}
}

func (b *browser) post(t testing.TB, address string, form url.Values) string {
	t.Helper()
	resp, err := b.client.PostForm(address, form)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// begin presses the button and gives the link.
func (b *browser) begin(t testing.TB, s *site, what string) string {
	t.Helper()
	link := b.post(t, "https://"+s.host+"/begin/"+what, nil)
	if s.beginErr != nil {
		t.Fatal(s.beginErr)
	}
	return link
}

// back follows the helper's redirect and does what return.js does.
func (b *browser) back(t testing.TB, s *site, redirect string) (relyingparty.Login, error) {
	t.Helper()
	page, fragment, _ := strings.Cut(redirect, "#")
	if page != "https://"+s.host+"/signin/return" {
		t.Fatalf("redirected to %q", redirect)
	}
	v, err := url.ParseQuery(fragment)
	if err != nil {
		t.Fatal(err)
	}
	return b.code(t, s, v.Get("response_code"))
}

func (b *browser) code(t testing.TB, s *site, code string) (relyingparty.Login, error) {
	t.Helper()
	b.post(t, "https://"+s.host+"/signin/finish", url.Values{"response_code": {code}})
	s.mu.Lock()
	defer s.mu.Unlock()
	if (s.err == nil) != s.login.Valid() {
		t.Fatalf("%v with a login that is valid: %v", s.err, s.login.Valid())
	}
	return s.login, s.err
}

// wallet is the helper on a person's machine, by the book.
type wallet struct {
	w       *world
	persons map[string]held // by site
	names   map[string]held
	encrypt jose.JSONWebKey // of the request fetched last
}

func (w *world) wallet() *wallet {
	return &wallet{w: w, persons: map[string]held{}, names: map[string]held{}}
}

// fetch gets the request behind a link.
func (h *wallet) fetch(t testing.TB, link string) (credential.Request, error) {
	t.Helper()
	u, err := url.Parse(link)
	if err != nil || u.Scheme != "haip-vp" || u.Host != "authorize" || u.Query().Get("request_uri_method") != "post" || len(u.Query()) != 3 {
		t.Fatalf("link %q: %v", link, err)
	}
	nonce := fmt.Sprintf("wallet-%d", time.Now().UnixNano())
	client := http.Client{Transport: h.w.web}
	resp, err := client.PostForm(u.Query().Get("request_uri"), url.Values{"wallet_nonce": {nonce}})
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	jwt, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK {
		return credential.Request{}, fmt.Errorf("%s: %s", resp.Status, jwt)
	}
	if kind := resp.Header.Get("Content-Type"); kind != "application/oauth-authz-req+jwt" {
		t.Fatalf("request object of type %q", kind)
	}
	var payload struct {
		Metadata struct{ JWKS jose.JSONWebKeySet } `json:"client_metadata"`
	}
	raw, err := b64.DecodeString(strings.Split(string(jwt), ".")[1])
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, &payload); err != nil || len(payload.Metadata.JWKS.Keys) != 1 {
		t.Fatalf("%s: %v", raw, err)
	}
	h.encrypt = payload.Metadata.JWKS.Keys[0]
	return credential.VerifyRequest(string(jwt), credential.ExpectRequest{
		Roots: h.w.sites.Roots(), ClientID: u.Query().Get("client_id"), RequestURI: u.Query().Get("request_uri"), WalletNonce: nonce, Now: time.Now(),
	})
}

// credentialFor is the site's own, issued at the first sign-in.
func (h *wallet) credentialFor(t testing.TB, site, id string) held {
	t.Helper()
	kept, change := h.persons, func(*credential.Content) {}
	if id == "name" {
		kept, change = h.names, legalName
	}
	if _, ok := kept[site]; !ok {
		kept[site] = h.w.issuer.issue(t, change)
	}
	return kept[site]
}

// present answers all of a request.
func (h *wallet) present(t testing.TB, r credential.Request) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, q := range r.Query().Credentials {
		c := h.credentialFor(t, r.Site(), q.ID)
		if !q.Matches(c.issued) {
			t.Fatalf("the query %v does not match", q)
		}
		p, err := c.issued.Present(q.Claims, credential.Binding{Audience: r.ClientID(), Nonce: r.Nonce(), IssuedAt: time.Now()}, c.key)
		if err != nil {
			t.Fatal(err)
		}
		all[q.ID] = p
	}
	return all
}

var errRefusedByEndpoint = errors.New("the endpoint refused")

// send leaves presentations at the site; it gives the redirect.
func (h *wallet) send(t testing.TB, r credential.Request, presentations map[string]string) (string, error) {
	t.Helper()
	jwe, err := r.Seal(presentations)
	if err != nil {
		t.Fatal(err)
	}
	return h.post(t, r.ResponseURI(), url.Values{"response": {jwe}})
}

func (h *wallet) post(t testing.TB, address string, form url.Values) (string, error) {
	t.Helper()
	client := http.Client{Transport: h.w.web}
	resp, err := client.PostForm(address, form)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var answer struct {
		RedirectURI string `json:"redirect_uri"`
		Error       string
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK {
		if answer.Error != "invalid_request" || answer.RedirectURI != "" {
			t.Fatalf("%s: %+v", resp.Status, answer)
		}
		return "", errRefusedByEndpoint
	}
	return answer.RedirectURI, nil
}

// open is what the helper does with a link.
func (h *wallet) open(t testing.TB, link string) string {
	t.Helper()
	r, err := h.fetch(t, link)
	if err != nil {
		t.Fatal(err)
	}
	redirect, err := h.send(t, r, h.present(t, r))
	if err != nil {
		t.Fatal(err)
	}
	return redirect
}

// signIn is the whole way.
func (h *wallet) signIn(t testing.TB, s *site, what string) (relyingparty.Login, error) {
	t.Helper()
	b := h.w.browser()
	return b.back(t, s, h.open(t, b.begin(t, s, what)))
}

// run keeps a site's lists fresh until the test ends.
func (s *site) run(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { s.party.Run(ctx); close(done) }()
	t.Cleanup(func() { cancel(); <-done })
}

// finish brings a code with cookies, past all browsers.
func (s *site) finish(cookies []*http.Cookie, code string) (relyingparty.Login, error) {
	return s.party.Finish(httptest.NewRecorder(), s.back(cookies, code))
}

// back is the request of a browser that is back.
func (s *site) back(cookies []*http.Cookie, code string) *http.Request {
	r := httptest.NewRequest("POST", "https://"+s.host+"/signin/finish", strings.NewReader(url.Values{"response_code": {code}}.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	for _, c := range cookies {
		r.AddCookie(c)
	}
	return r
}

// seal is a foreign library's JWE of any text, to the key of the request.
func (h *wallet) seal(t testing.TB, text []byte) string {
	t.Helper()
	e, err := jose.NewEncrypter(jose.A256GCM, jose.Recipient{Algorithm: jose.ECDH_ES, Key: h.encrypt.Key, KeyID: h.encrypt.KeyID}, nil)
	if err != nil {
		t.Fatal(err)
	}
	jwe, err := e.Encrypt(text)
	if err != nil {
		t.Fatal(err)
	}
	compact, err := jwe.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return compact
}
