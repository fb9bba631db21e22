package main

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"html"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"enrollkiosk/registry/credential"
	"enrollkiosk/registry/credential/credentialtest"
)

const host = "forum.example"

// world is the issuer, with a server for its status list, and the site's files.
type world struct {
	ca, registrar, tls credentialtest.CA
	issuer             credential.Issuer
	dir, port          string
	listener           net.Listener
	stop               func()

	mu   sync.Mutex
	list credential.StatusList
	next uint64
}

func newWorld(t *testing.T) *world {
	now := time.Now()
	w := &world{
		ca: credentialtest.NewCA(t, "issuer CA", now), registrar: credentialtest.NewCA(t, "sites CA", now), tls: credentialtest.NewCA(t, "TLS CA", now),
		dir: t.TempDir(), list: credential.NewStatusList(1 << 10),
	}
	server := httptest.NewTLSServer(w)
	t.Cleanup(server.Close)
	w.issuer = w.ca.Issuer(t, server.URL)
	w.listen(t, "127.0.0.1:0")

	person, name := credential.RealPerson(server.URL), credential.LegalName(server.URL)
	key := credentialtest.Key(t)
	w.pair(t, "registered", key, w.registrar.Leaf(t, key, host, person, credential.MayAsk(person, credential.RealNameVerified), credential.MayAsk(person, credential.AgeOver18),
		name, credential.MayAsk(name, credential.FamilyName), credential.MayAsk(name, credential.GivenName)))
	key = credentialtest.Key(t)
	w.pair(t, "tls", key, w.tls.Leaf(t, key, host))
	w.file(t, "issuer-ca.crt", "CERTIFICATE", w.ca.Cert.Raw)
	w.file(t, "issuer-tls.crt", "CERTIFICATE", server.Certificate().Raw)
	config := fmt.Sprintf(`[site]
name = "Lakeside Forum"
url = "https://%s:%s"
listen = "127.0.0.1:%s"
tls = "tls"
registered = "registered"
data = "forum.db"
claims = ["real_name_verified", "age_over_18"]
legal_name = true
[issuer]
id = %q
roots = ["issuer-ca.crt"]
tls_roots = ["issuer-tls.crt"]
status_lists = [%q]
`, host, w.port, w.port, server.URL, server.URL+"/status/1")
	if err := os.WriteFile(w.config(), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *world) config() string { return filepath.Join(w.dir, "site.toml") }

func (w *world) listen(t *testing.T, address string) {
	t.Helper()
	var err error
	if w.listener, err = net.Listen("tcp", address); err != nil {
		t.Fatal(err)
	}
	if _, w.port, err = net.SplitHostPort(w.listener.Addr().String()); err != nil {
		t.Fatal(err)
	}
}

func (w *world) pair(t *testing.T, name string, key crypto.Signer, leaf *x509.Certificate) {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	w.file(t, name+".key", "PRIVATE KEY", der)
	w.file(t, name+".crt", "CERTIFICATE", leaf.Raw)
}

func (w *world) file(t *testing.T, name, kind string, der []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(w.dir, name), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}

// ServeHTTP is the issuer's.
func (w *world) ServeHTTP(out http.ResponseWriter, r *http.Request) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	jwt, err := w.issuer.SignStatusList(credential.StatusToken{URI: w.issuer.ID + r.URL.Path, IssuedAt: now, Expires: now.Add(24 * time.Hour), TTL: time.Hour, List: w.list})
	if err != nil {
		panic(err)
	}
	out.Write([]byte(jwt))
}

// serve runs the site; restart runs it anew on its files.
func (w *world) serve(t *testing.T) {
	t.Helper()
	c, err := load(w.config())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- serve(ctx, c, w.listener, slog.New(slog.DiscardHandler)) }()
	w.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	t.Cleanup(w.stop)
}

func (w *world) restart(t *testing.T) {
	t.Helper()
	w.stop()
	w.listen(t, "127.0.0.1:"+w.port)
	w.serve(t)
}

func (w *world) client() *http.Client {
	jar, _ := cookiejar.New(nil) // never fails
	var d net.Dialer
	return &http.Client{Jar: jar, Timeout: time.Minute, Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: w.tls.Roots()},
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return d.DialContext(ctx, network, "127.0.0.1:"+w.port)
		},
		DisableKeepAlives: true, // none is left open when the site stops
	}}
}

// citizen has a browser and a helper with credentials.
type citizen struct {
	*world
	browser      *http.Client
	person, name credential.Issued
	keys         map[string]*ecdsa.PrivateKey
}

func (w *world) citizen(t *testing.T) *citizen {
	c := &citizen{world: w, browser: w.client(), keys: map[string]*ecdsa.PrivateKey{}}
	c.person = c.collect(t, "person", credential.RealPerson(w.issuer.ID), map[string]any{
		credential.AgeOver14: true, credential.AgeOver16: true, credential.AgeOver18: true, credential.RealNameVerified: true})
	c.name = c.collect(t, "name", credential.LegalName(w.issuer.ID), map[string]any{
		credential.FamilyName: "Eriksson", credential.GivenName: "Anna Maria", credential.NameLocal: ""})
	return c
}

func (c *citizen) collect(t *testing.T, id, vct string, claims map[string]any) credential.Issued {
	t.Helper()
	c.next++
	c.keys[id] = credentialtest.Key(t)
	content := credential.Content{
		Type: vct, Expires: credential.Expiry(time.Now().AddDate(0, 0, 30)), Key: &c.keys[id].PublicKey,
		Status: credential.StatusRef{URI: c.issuer.ID + "/status/1", Index: c.next}, Escrow: make([]byte, credential.EscrowSize), Claims: claims,
	}
	rand.Read(content.Escrow)
	compact, err := c.issuer.Issue(content)
	if err != nil {
		t.Fatal(err)
	}
	terms := credential.Terms{Authority: credential.Authority{Issuer: c.issuer.ID, Roots: c.ca.Roots()}, Type: vct, Key: content.Key, StatusURIs: []string{content.Status.URI}, Now: time.Now()}
	for name := range claims {
		terms.Claims = append(terms.Claims, name)
	}
	issued, err := credential.Accept(compact, terms)
	if err != nil {
		t.Fatal(err)
	}
	return issued
}

// answer is a page as a browser has it.
type answer struct {
	*http.Response
	body string
}

func (c *citizen) do(t *testing.T, method, path string, form url.Values, header http.Header) answer {
	t.Helper()
	r, err := http.NewRequest(method, "https://"+host+":"+c.port+path, strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	for k, v := range header {
		r.Header[k] = v
	}
	if method == "POST" {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	resp, err := c.browser.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{resp, string(b)}
}

func (c *citizen) get(t *testing.T, path string) answer { return c.do(t, "GET", path, nil, nil) }
func (c *citizen) post(t *testing.T, path string, form url.Values) answer {
	return c.do(t, "POST", path, form, nil)
}

// signIn presses a button, lets the helper answer and comes back.
func (c *citizen) signIn(t *testing.T, button string) answer {
	t.Helper()
	page := c.post(t, button, nil)
	m := regexp.MustCompile(`href="(haip-vp:[^"]+)"`).FindStringSubmatch(page.body)
	if m == nil {
		t.Fatalf("no link: %s", page.body)
	}
	link, err := url.Parse(html.UnescapeString(m[1]))
	if err != nil {
		t.Fatal(err)
	}
	q, helper := link.Query(), c.client()
	resp, err := helper.PostForm(q.Get("request_uri"), url.Values{"wallet_nonce": {"w"}})
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	jwt, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	request, err := credential.VerifyRequest(string(jwt), credential.ExpectRequest{
		Roots: c.registrar.Roots(), ClientID: q.Get("client_id"), RequestURI: q.Get("request_uri"), WalletNonce: "w", Now: time.Now(), AnyPort: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	shown := map[string]string{}
	for _, want := range request.Query().Credentials {
		held := map[string]credential.Issued{"person": c.person, "name": c.name}[want.ID]
		if shown[want.ID], err = held.Present(want.Claims, credential.Binding{Audience: request.ClientID(), Nonce: request.Nonce(), IssuedAt: time.Now()}, c.keys[want.ID]); err != nil {
			t.Fatal(err)
		}
	}
	jwe, err := request.Seal(shown)
	if err != nil {
		t.Fatal(err)
	}
	sent, err := helper.PostForm(request.ResponseURI(), url.Values{"response": {jwe}})
	if err != nil {
		t.Fatal(err)
	}
	defer sent.Body.Close()
	var back struct {
		RedirectURI string `json:"redirect_uri"`
	}
	if err := json.NewDecoder(sent.Body).Decode(&back); err != nil || back.RedirectURI == "" {
		t.Fatal(sent.Status, err)
	}
	// What return.js does.
	_, code, _ := strings.Cut(back.RedirectURI, "#response_code=")
	return c.post(t, "/signin/finish", url.Values{"response_code": {code}})
}

func (a answer) wants(t *testing.T, path string, texts ...string) {
	t.Helper()
	if a.Request.URL.Path != path {
		t.Errorf("on %s, want %s", a.Request.URL.Path, path)
	}
	for _, text := range texts {
		if !strings.Contains(a.body, text) {
			t.Errorf("%s: no %q in %s", path, text, a.body)
		}
	}
}

// Register, sign out, sign in again, show the legal name, delete: by real HTTP over
// TLS.
func TestAMember(t *testing.T) {
	w := newWorld(t)
	w.serve(t)
	anna := w.citizen(t)
	anna.get(t, "/").wants(t, "/", "What we will know", "whether you are over 18")
	anna.signIn(t, "/signin/begin").wants(t, "/register", "Choose a name")
	anna.get(t, "/profile").wants(t, "/register")
	anna.post(t, "/register", url.Values{"name": {"<b>"}}).wants(t, "/register", "2 to 40 letters", "&lt;b&gt;")
	anna.post(t, "/register", url.Values{"name": {"Heron"}}).wants(t, "/profile", "Heron", "Verified real name", "Over 18", "not shown to us")
	pseudonym := regexp.MustCompile(`id="pseudonym">([^<]+)`).FindString(anna.get(t, "/profile").body)
	anna.post(t, "/signout", nil).wants(t, "/", "Sign in or register")
	anna.get(t, "/profile").wants(t, "/")
	anna.signIn(t, "/signin/begin").wants(t, "/profile", "Heron", pseudonym)

	bela := w.citizen(t)
	bela.signIn(t, "/signin/begin").wants(t, "/register")
	bela.post(t, "/register", url.Values{"name": {"heron"}}).wants(t, "/register", "This name is taken.")
	bela.post(t, "/register", url.Values{"name": {"Otter"}}).wants(t, "/profile", "Otter")
	if strings.Contains(bela.get(t, "/profile").body, pseudonym) {
		t.Error("two citizens under one pseudonym")
	}

	anna.signIn(t, "/signin/named").wants(t, "/profile", "Heron", "Anna Maria Eriksson", pseudonym)
	bela.get(t, "/profile").wants(t, "/profile", "not shown to us")
	anna.post(t, "/delete", nil).wants(t, "/", "Sign in or register")
	anna.signIn(t, "/signin/begin").wants(t, "/register")
	anna.post(t, "/register", url.Values{"name": {"Heron"}}).wants(t, "/profile", "Heron", "not shown to us")
}

// Who is revoked is signed out, as soon as the site knows, and does not come in again.
func TestARevokedMember(t *testing.T) {
	w := newWorld(t)
	w.serve(t)
	anna := w.citizen(t)
	anna.signIn(t, "/signin/begin").wants(t, "/register")
	anna.post(t, "/register", url.Values{"name": {"Heron"}}).wants(t, "/profile", "Heron")
	w.restart(t)
	anna.get(t, "/profile").wants(t, "/profile", "Heron")
	w.mu.Lock()
	err := w.list.Revoke(anna.person.Status().Index)
	w.mu.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	w.restart(t) // fetches the list
	if page := anna.get(t, "/profile"); page.StatusCode != http.StatusForbidden || !strings.Contains(page.body, "was revoked") {
		t.Errorf("%s: %s", page.Status, page.body)
	}
	anna.get(t, "/profile").wants(t, "/")
	if page := anna.signIn(t, "/signin/begin"); page.StatusCode != http.StatusForbidden || !strings.Contains(page.body, "Signing in did not work") {
		t.Errorf("%s: %s", page.Status, page.body)
	}
}

// What the site stores is what accounts prints; while it serves, the file is its own.
func TestAccounts(t *testing.T) {
	w := newWorld(t)
	w.serve(t)
	anna := w.citizen(t)
	anna.signIn(t, "/signin/begin")
	anna.post(t, "/register", url.Values{"name": {"Heron"}}).wants(t, "/profile")
	if err := run(context.Background(), []string{"accounts", "--config", w.config()}, io.Discard); err == nil {
		t.Error("read while the site serves")
	}
	w.stop()
	var out strings.Builder
	if err := run(context.Background(), []string{"accounts", "--config", w.config()}, &out); err != nil {
		t.Fatal(err)
	}
	var all []account
	if err := json.Unmarshal([]byte(out.String()), &all); err != nil || len(all) != 1 {
		t.Fatal(out.String(), err)
	}
	if a := all[0]; a.Name != "Heron" || a.LegalName != "" || a.Claims[credential.RealNameVerified] != true || len(a.Claims) != 2 || len(a.Evidence) != 1 {
		t.Errorf("%+v", a)
	}
}

func TestForeignForms(t *testing.T) {
	w := newWorld(t)
	w.serve(t)
	anna := w.citizen(t)
	anna.signIn(t, "/signin/begin")
	anna.post(t, "/register", url.Values{"name": {"Heron"}}).wants(t, "/profile")
	for _, path := range []string{"/signin/begin", "/signin/finish", "/register", "/signout", "/delete"} {
		if page := anna.do(t, "POST", path, nil, http.Header{"Sec-Fetch-Site": {"cross-site"}}); page.StatusCode != http.StatusForbidden {
			t.Errorf("%s: %s", path, page.Status)
		}
	}
	anna.get(t, "/profile").wants(t, "/profile", "Heron")
}

func TestHeaders(t *testing.T) {
	w := newWorld(t)
	w.serve(t)
	anna := w.citizen(t)
	for _, path := range []string{"/", "/signin/return", "/site.css", "/nowhere"} {
		h := anna.get(t, path).Header
		csp := h.Get("Content-Security-Policy")
		if !strings.Contains(csp, "default-src 'none'") || !strings.Contains(csp, "frame-ancestors 'none'") || strings.Contains(csp, "unsafe") ||
			strings.Contains(csp, "script-src") != (path == "/signin/return") || h.Get("X-Content-Type-Options") != "nosniff" || h.Get("Strict-Transport-Security") == "" {
			t.Errorf("%s: %v", path, h)
		}
	}
	anna.browser.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	if cookies := anna.signIn(t, "/signin/begin").Cookies(); len(cookies) != 2 || cookies[1].Name != sessionCookie || !cookies[1].Secure || !cookies[1].HttpOnly || cookies[1].SameSite != http.SameSiteLaxMode {
		t.Errorf("%v", cookies)
	}
}

// A session is over after its time; another sign-in ends the one before.
func TestSessions(t *testing.T) {
	w := newWorld(t)
	w.serve(t)
	anna := w.citizen(t)
	anna.signIn(t, "/signin/begin")
	u := &url.URL{Scheme: "https", Host: host + ":" + w.port, Path: "/"}
	first := anna.browser.Jar.Cookies(u)
	anna.signIn(t, "/signin/begin")
	thief := w.citizen(t)
	thief.browser.Jar.SetCookies(u, first)
	thief.get(t, "/register").wants(t, "/", "Sign in or register")

	second := anna.browser.Jar.Cookies(u)[0].Value
	w.stop()
	m, err := openMembers(filepath.Join(w.dir, "forum.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer m.close()
	if _, _, err := m.member(second, time.Now()); err != nil {
		t.Errorf("now: %v", err)
	}
	later := time.Now().Add(sessionTime)
	if _, _, err := m.member(second, later); !errors.Is(err, errNone) {
		t.Errorf("later: %v", err)
	}
	if err := m.tidy(later); err != nil {
		t.Fatal(err)
	}
	if _, _, err := m.member(second, time.Now()); !errors.Is(err, errNone) {
		t.Errorf("tidied: %v", err)
	}
}

func TestConfiguration(t *testing.T) {
	w := newWorld(t)
	w.listener.Close()
	good, err := os.ReadFile(w.config())
	if err != nil {
		t.Fatal(err)
	}
	for what, test := range map[string]struct{ old, new, want string }{
		"unknown key": {`data = `, "colour = 1\ndata = ", `site.toml:7: unknown key "site.colour"`},
		"no TOML":     {`name = "Lakeside Forum"`, `name = Lakeside`, "site.toml:2:"},
		"missing":     {`name = "Lakeside Forum"`, ``, "site.name is missing"},
		"http":        {`"https://` + host, `"http://` + host, "site.url"},
		"no such key": {`tls = "tls"`, `tls = "nowhere"`, "site.tls"},
		"no root":     {`roots = ["issuer-ca.crt"]`, `roots = ["tls.key"]`, "issuer.roots"},
	} {
		if err := os.WriteFile(w.config(), []byte(strings.Replace(string(good), test.old, test.new, 1)), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := run(context.Background(), []string{"serve", "--config", w.config()}, io.Discard); !errors.Is(err, errUsage) || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %s", what, err, test.want)
		}
	}
	for _, args := range [][]string{nil, {"serve"}, {"serve", "--config"}, {"sing", "--config", w.config()}} {
		if err := run(context.Background(), args, io.Discard); !errors.Is(err, errUsage) {
			t.Errorf("%v: %v", args, err)
		}
	}
}
