package holder_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/hpke"
	"crypto/rand"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"enrollkiosk/holder"
	"enrollkiosk/hsm"
	"enrollkiosk/hsm/piv"
	"enrollkiosk/kiosk/secret"
	"enrollkiosk/registry/credential"
	"enrollkiosk/registry/credential/credentialtest"
	"enrollkiosk/registry/record"
	"enrollkiosk/simulators/pcscd"
	"enrollkiosk/simulators/pivtoken"
)

const (
	citizenPIN = "271828"
	claimCode  = "ABCD-2345"
)

var (
	daemon  *pcscd.Server
	readers atomic.Int32
	hosts   network
)

// The PC/SC library and net/http's proxy keep what they find in the environment: one
// daemon and one network for all tests.
func TestMain(m *testing.M) {
	os.Exit(func() int {
		started, _, err := pcscd.Private()
		if err != nil {
			panic(err)
		}
		daemon = started
		defer daemon.Close()
		proxy := httptest.NewServer(&hosts)
		defer proxy.Close()
		os.Setenv("HTTPS_PROXY", proxy.URL)
		os.Unsetenv("NO_PROXY")
		return m.Run()
	}())
}

// network is a proxy that knows where the names of tests are: the helper speaks TLS
// with the names themselves, on port 443.
type network struct {
	mu    sync.Mutex
	where map[string]string
}

func (n *network) set(host, address string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.where == nil {
		n.where = map[string]string{}
	}
	n.where[host] = address
}

func (n *network) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	n.mu.Lock()
	address, known := n.where[r.Host]
	n.mu.Unlock()
	if r.Method != http.MethodConnect || !known {
		http.Error(w, "no such host", http.StatusBadGateway)
		return
	}
	there, err := net.Dial("tcp", address)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer there.Close()
	here, buffered, err := w.(http.Hijacker).Hijack()
	if err != nil {
		return
	}
	defer here.Close()
	io.WriteString(here, "HTTP/1.1 200 OK\r\n\r\n")
	go func() { io.Copy(there, buffered); there.(*net.TCPConn).CloseWrite() }()
	io.Copy(here, there)
}

// world is an issuer and CAs.
type world struct {
	t      testing.TB
	name   string            // of this world's hosts
	tls    credentialtest.CA // of the web
	sites  credentialtest.CA // registers websites
	signer credentialtest.CA // of the issuer
	issuer *issuer           //
	lists  []string          //
}

var worlds atomic.Int32

func newWorld(t testing.TB) *world {
	t.Helper()
	now := time.Now()
	w := &world{t: t, name: fmt.Sprintf("w%d.example", worlds.Add(1)),
		tls: credentialtest.NewCA(t, "web", now), sites: credentialtest.NewCA(t, "sites", now), signer: credentialtest.NewCA(t, "issuer", now)}
	id := "https://id." + w.name
	w.lists = []string{id + "/status/0", id + "/status/1"}
	vault, err := hpke.MLKEM768X25519().GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	w.issuer = &issuer{world: w, id: id, signer: w.signer.Issuer(t, id), vault: vault.PublicKey(), batch: 10, nonces: map[string]bool{},
		codes: map[string]string{}, tokens: map[string]string{}, answers: map[string][]byte{}, life: 30 * 24 * time.Hour}
	w.serve("id."+w.name, w.issuer)
	return w
}

// serve puts a host on the network.
func (w *world) serve(host string, h http.Handler) {
	w.t.Helper()
	key := credentialtest.Key(w.t)
	s := httptest.NewUnstartedServer(h)
	s.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{w.tls.Leaf(w.t, key, host).Raw}, PrivateKey: key}}}
	s.Config.ErrorLog = log.New(io.Discard, "", 0) // that a stranger's certificate is refused is no news
	s.StartTLS()
	w.t.Cleanup(s.Close)
	hosts.set(host+":443", s.Listener.Addr().String())
}

func (w *world) authority() holder.Authority {
	return holder.Authority{Issuer: w.issuer.id, IssuerRoots: w.signer.Roots(), SiteRoots: w.sites.Roots(), StatusLists: w.lists, TLSRoots: w.tls.Roots()}
}

// citizen is a token in a reader, a PC, and a person.
type citizen struct {
	*holder.Helper
	t      testing.TB
	reader *pcscd.Reader
	token  *pivtoken.Token
	person *person
	did    string
}

// citizen enrolls a token as the kiosk does.
func (w *world) citizen() *citizen {
	w.t.Helper()
	r, err := daemon.AddReader(fmt.Sprintf("Reader %d", readers.Add(1)))
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(r.Remove)
	authority, err := pivtoken.NewAuthority([]byte("holder test"))
	if err != nil {
		w.t.Fatal(err)
	}
	token := pivtoken.New(pivtoken.Options{Root: authority})
	r.Insert(token)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	t, err := piv.Open(ctx, r.Name())
	if err != nil {
		w.t.Fatal(err)
	}
	admin := make([]byte, 24)
	rand.Read(admin)
	pin := secret.FromString(citizenPIN)
	err = t.SetPIN(ctx, pin)
	keys, err2 := t.GenerateKeys(ctx, pin, piv.KeySpec{}, nil)
	err3 := t.Lock(ctx, pin, piv.Admin{PUK: secret.FromString("31415926"), ManagementKey: secret.New(admin)})
	if err := errors.Join(err, err2, err3, t.Close()); err != nil {
		w.t.Fatal(err)
	}
	c := &citizen{t: w.t, reader: r, token: token, person: &person{pins: []string{citizenPIN}, code: claimCode, yes: true}}
	if c.did, err = record.DIDKey(keys.Authentication.Public); err != nil {
		w.t.Fatal(err)
	}
	w.issuer.enroll(c.did, keys.Authentication.Public)
	c.Helper = c.pc(w, w.t.TempDir())
	return c
}

// pc is the helper on one machine.
func (c *citizen) pc(w *world, dir string) *holder.Helper {
	return &holder.Helper{Authority: w.authority(), Dir: dir, Person: c.person,
		Tokens: holder.PIV{Reader: func(context.Context) (string, error) { return c.reader.Name(), nil }}}
}

func (c *citizen) collect() {
	c.t.Helper()
	if _, err := c.Collect(context.Background(), false); err != nil {
		c.t.Fatal(err)
	}
}

// person answers.
type person struct {
	mu      sync.Mutex
	yes     bool
	pins    []string // typed one after the other; the last again and again
	code    string
	asked   []holder.Ask
	wrong   []*hsm.WrongPIN
	codes   int
	touches int
	during  func() // while consent is asked for

	duringCode func() // while the claim code is
}

func (p *person) Consent(_ context.Context, a holder.Ask) (bool, error) {
	if p.during != nil {
		p.during()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked = append(p.asked, a)
	return p.yes, nil
}

func (p *person) PIN(_ context.Context, wrong *hsm.WrongPIN) (secret.Text, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.wrong = append(p.wrong, wrong)
	pin := p.pins[0]
	if len(p.pins) > 1 {
		p.pins = p.pins[1:]
	}
	return secret.FromString(pin), nil
}

func (p *person) ClaimCode(context.Context) (secret.Text, error) {
	if p.duringCode != nil {
		p.duringCode()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.codes++
	return secret.FromString(p.code), nil
}

func (p *person) Touch() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.touches++
}

// issuer speaks OpenID4VCI as signin.md's table has it.
type issuer struct {
	*world
	mu      sync.Mutex
	id      string
	signer  credential.Issuer
	vault   hpke.PublicKey
	batch   int
	life    time.Duration
	keys    map[string]crypto.PublicKey
	claimed map[string]bool
	nonces  map[string]bool
	codes   map[string]string // pre-authorized code -> did
	tokens  map[string]string // access token -> did
	answers map[string][]byte
	issued  [][]*ecdsa.PublicKey // of each batch
	bodies  []string             // of each credential request that arrived
	next    uint64

	meta  func(map[string]any)               // changes the metadata
	edit  func(i int, c *credential.Content) // changes what is issued
	lose  int                                // answers that get lost after the batch was issued
	sign  *credential.Issuer                 // for credentials, instead of signer
	order func([]string) []string            // of the answer
	off   time.Duration                      // its clock
	seen  []string                           // every request, raw
}

func (i *issuer) enroll(did string, key crypto.PublicKey) {
	if i.keys == nil {
		i.keys, i.claimed = map[string]crypto.PublicKey{}, map[string]bool{}
	}
	i.keys[did] = key
}

func (i *issuer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	i.mu.Lock()
	defer i.mu.Unlock()
	raw, _ := httputil.DumpRequest(r, true)
	i.seen = append(i.seen, string(raw))
	b, _ := io.ReadAll(r.Body)
	now := time.Now().Add(i.off)
	w.Header().Set("Date", now.UTC().Format(http.TimeFormat))
	say := func(v any) {
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(v)
	}
	no := func(status int, code string) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		json.NewEncoder(w).Encode(map[string]string{"error": code})
	}
	switch r.Method + " " + r.URL.Path {
	case "GET /.well-known/openid-credential-issuer":
		m := map[string]any{"credential_issuer": i.id, "credential_endpoint": i.id + "/credential", "nonce_endpoint": i.id + "/nonce",
			"offer_request_endpoint": i.id + "/offer", "status_lists": i.lists, "batch_credential_issuance": map[string]any{"batch_size": i.batch},
			"credential_configurations_supported": map[string]any{
				"real-person": configuration(credential.RealPerson(i.id)), "legal-name": configuration(credential.LegalName(i.id))}}
		if i.meta != nil {
			i.meta(m)
		}
		say(m)
	case "GET /.well-known/oauth-authorization-server":
		say(map[string]any{"issuer": i.id, "token_endpoint": i.id + "/token"})
	case "POST /nonce":
		n := rand.Text()
		i.nonces[n] = true
		say(map[string]string{"c_nonce": n})
	case "POST /offer":
		q, err := credential.VerifyOfferRequest(string(b), i.id, now, func(did string) (crypto.PublicKey, error) {
			if key, ok := i.keys[did]; ok {
				return key, nil
			}
			return nil, errors.New("nobody")
		})
		if err != nil || !i.nonces[q.Nonce()] || r.Header.Get("Content-Type") != "application/jwt" {
			no(403, "credential_request_denied")
			return
		}
		delete(i.nonces, q.Nonce())
		code := rand.Text()
		i.codes[code] = q.DID()
		grant := map[string]any{"pre-authorized_code": code}
		if !i.claimed[q.DID()] {
			grant["tx_code"] = map[string]any{"input_mode": "text", "length": 9}
		}
		say(map[string]any{"credential_issuer": i.id, "credential_configuration_ids": []string{"real-person", "legal-name"},
			"grants": map[string]any{"urn:ietf:params:oauth:grant-type:pre-authorized_code": grant}})
	case "POST /token":
		q, _ := url.ParseQuery(string(b))
		did, known := i.codes[q.Get("pre-authorized_code")]
		if !known || q.Get("grant_type") != "urn:ietf:params:oauth:grant-type:pre-authorized_code" || !i.claimed[did] && q.Get("tx_code") != claimCode {
			no(400, "invalid_grant")
			return
		}
		i.claimed[did] = true
		delete(i.codes, q.Get("pre-authorized_code"))
		access := rand.Text()
		i.tokens[access] = did
		say(map[string]any{"access_token": access, "token_type": "Bearer"})
	case "POST /credential":
		access := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
		i.bodies = append(i.bodies, string(b))
		answer, again := i.answers[access+string(b)]
		if !again {
			did, known := i.tokens[access]
			if !known {
				no(401, "invalid_token")
				return
			}
			var err error
			if answer, err = i.issue(did, b, now); err != nil {
				i.t.Logf("issuer: %v", err)
				no(400, "invalid_proof")
				return
			}
			i.answers[access+string(b)] = answer
		}
		if i.lose > 0 {
			i.lose--
			panic(http.ErrAbortHandler)
		}
		w.Header().Set("Content-Type", "application/json")
		w.Write(answer)
	default:
		no(404, "invalid_request")
	}
}

func configuration(vct string) map[string]any {
	return map[string]any{"format": "dc+sd-jwt", "vct": vct, "cryptographic_binding_methods_supported": []string{"jwk"},
		"proof_types_supported": map[string]any{"jwt": map[string]any{"proof_signing_alg_values_supported": []string{"ES256"}}}}
}

func (i *issuer) issue(did string, body []byte, now time.Time) ([]byte, error) {
	var q struct {
		ID     string `json:"credential_configuration_id"`
		Proofs struct {
			JWT []string `json:"jwt"`
		} `json:"proofs"`
	}
	if err := json.Unmarshal(body, &q); err != nil {
		return nil, err
	}
	p, err := credential.VerifyProofs(q.Proofs.JWT, credential.ExpectBatch{Issuer: i.id, DID: did, Key: i.keys[did], Now: now,
		Nonce: func(n string) bool { ok := i.nonces[n]; delete(i.nonces, n); return ok }})
	if err != nil {
		return nil, err
	}
	if !slices.Equal(p.Storage(), []string{i.id + credential.DerivedFromPIV}) {
		return nil, fmt.Errorf("storage %q", p.Storage())
	}
	i.issued = append(i.issued, p.Keys())
	var all []string
	for n, key := range p.Keys() {
		i.next++
		c := credential.Content{Type: credential.RealPerson(i.id), Expires: credential.Expiry(now.Add(i.life)), Key: key,
			Status: credential.StatusRef{URI: i.lists[i.next%2], Index: i.next * 7919},
			Claims: map[string]any{credential.RealNameVerified: true, credential.AgeOver14: true, credential.AgeOver16: true, credential.AgeOver18: true}}
		if q.ID == "legal-name" {
			c.Type = credential.LegalName(i.id)
			c.Claims = map[string]any{credential.FamilyName: "Musterfrau", credential.GivenName: "Erika", credential.NameLocal: ""}
		}
		if i.edit != nil {
			i.edit(n, &c)
		}
		if c.Escrow, err = credential.SealEscrow(i.vault, "1", c.EscrowData(i.id), [32]byte{9}); err != nil {
			return nil, err
		}
		signer := i.signer
		if i.sign != nil && n == 3 {
			signer = *i.sign
		}
		compact, err := signer.Issue(c)
		if err != nil {
			return nil, err
		}
		all = append(all, compact)
	}
	if i.order != nil {
		all = i.order(all)
	}
	var out struct {
		Credentials []map[string]string `json:"credentials"`
	}
	for _, c := range all {
		out.Credentials = append(out.Credentials, map[string]string{"credential": c})
	}
	return json.Marshal(out)
}

// site is a website that speaks OpenID4VP.
type site struct {
	*world
	mu    sync.Mutex
	host  string
	cert  credential.Site
	query credential.Query
	key   *ecdsa.PrivateKey // ephemeral
	nonce string

	asked  func(*credential.Asked)                       // changes the request
	object func(string) string                           // changes the signed request
	before func(http.ResponseWriter, *http.Request) bool // true: it has answered
	back   string                                        // redirect_uri; empty: its own
	off    time.Duration                                 // its clock

	raw    []string                // every request that arrived
	shown  []string                // presentations
	logins []credential.Credential //
	errors []string                // what it was told instead
}

// site registers one that may ask for everything.
func (w *world) site(host string, claims ...string) *site {
	w.t.Helper()
	vct := credential.RealPerson(w.issuer.id)
	return w.siteThatMay(host, credential.Query{Credentials: []credential.CredentialQuery{{ID: "person", Types: []string{vct}, Claims: claims}}},
		append(all(vct, credential.RealNameVerified, credential.AgeOver14, credential.AgeOver16, credential.AgeOver18),
			all(credential.LegalName(w.issuer.id), credential.FamilyName, credential.GivenName, credential.NameLocal)...)...)
}

func all(vct string, claims ...string) []string {
	rights := []string{credential.MayAsk(vct, "")}
	for _, c := range claims {
		rights = append(rights, credential.MayAsk(vct, c))
	}
	return rights
}

func (w *world) siteThatMay(host string, q credential.Query, rights ...string) *site {
	w.t.Helper()
	host += "." + w.name
	s := &site{world: w, host: host, cert: w.sites.Site(w.t, host, rights...), query: q}
	w.serve(host, s)
	return s
}

// link begins a sign-in, as the website's page does.
func (s *site) link() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.key, s.nonce = credentialtest.Key(s.t), rand.Text()
	return "haip-vp://authorize?" + url.Values{"client_id": {s.cert.ClientID()}, "request_uri": {"https://" + s.host + "/request"}, "request_uri_method": {"post"}}.Encode()
}

func (s *site) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	raw, _ := httputil.DumpRequest(r, true)
	s.raw = append(s.raw, string(raw))
	b, _ := io.ReadAll(r.Body)
	form, _ := url.ParseQuery(string(b))
	w.Header().Set("Date", time.Now().Add(s.off).UTC().Format(http.TimeFormat))
	if s.before != nil && s.before(w, r) {
		return
	}
	switch r.Method + " " + r.URL.Path {
	case "POST /request":
		a := credential.Asked{ResponseURI: "https://" + s.host + "/response", Nonce: s.nonce, State: "state-" + s.nonce,
			WalletNonce: form.Get("wallet_nonce"), Query: s.query, Encryption: &s.key.PublicKey}
		if s.asked != nil {
			s.asked(&a)
		}
		jwt, err := s.cert.SignRequest(a)
		if err != nil {
			http.Error(w, err.Error(), 500)
			return
		}
		if s.object != nil {
			jwt = s.object(jwt)
		}
		w.Header().Set("Content-Type", "application/oauth-authz-req+jwt")
		io.WriteString(w, jwt)
	case "POST /response":
		if e := form.Get("error"); e != "" {
			s.errors = append(s.errors, e+" "+form.Get("error_description"))
			return
		}
		if err := s.take(form.Get("response")); err != nil {
			s.t.Logf("site: %v", err)
			http.Error(w, "", 400)
			return
		}
		back := s.back
		if back == "" {
			back = "https://" + s.host + "/signed-in#response_code=" + rand.Text()
		}
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(map[string]string{"redirect_uri": back})
	default:
		http.NotFound(w, r)
	}
}

func (s *site) take(jwe string) error {
	r, err := credential.OpenResponse(jwe, s.key)
	if err != nil {
		return err
	}
	if r.State != "state-"+s.nonce || len(r.Presentations) != len(s.query.Credentials) {
		return errors.New("state or number of presentations")
	}
	for _, q := range s.query.Credentials {
		p := r.Presentations[q.ID]
		c, err := credential.Verify(p, credential.Expect{Authority: credential.Authority{Issuer: s.issuer.id, Roots: s.signer.Roots()},
			Types: q.Types, Claims: q.Claims, Audience: s.cert.ClientID(), Nonce: s.nonce, Now: time.Now().Add(s.off)})
		if err != nil {
			return err
		}
		s.shown, s.logins = append(s.shown, p), append(s.logins, c)
	}
	return nil
}

// login signs a citizen in, and returns who he is there.
func (s *site) login(h *holder.Helper) credential.Credential {
	s.t.Helper()
	p, err := h.Present(context.Background(), s.link())
	if err != nil {
		s.t.Fatal(err)
	}
	if !strings.HasPrefix(p.Return, "https://"+s.host+"/signed-in#response_code=") || p.Site != s.host {
		s.t.Errorf("%+v", p)
	}
	return s.logins[len(s.logins)-1]
}

// files are what a PC's directory holds.
func files(t testing.TB, dir string) map[string][]byte {
	t.Helper()
	all := map[string][]byte{}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		all[e.Name()] = b
	}
	return all
}

func unchanged(t testing.TB, dir string, before map[string][]byte) {
	t.Helper()
	if !maps.EqualFunc(files(t, dir), before, bytes.Equal) {
		t.Error("the helper's files changed")
	}
}

// rnd is a piece of a host's name.
func rnd() string { return strings.ToLower(rand.Text()[:6]) }

// resign puts a member into a request and signs it anew with the site's key, by a
// foreign library.
func resign(t *testing.T, s *site, member string) func(string) string {
	return func(jwt string) string {
		part := strings.Split(jwt, ".")
		payload, err := base64.RawURLEncoding.DecodeString(part[1])
		if err != nil {
			t.Fatal(err)
		}
		signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: s.cert.Key},
			(&jose.SignerOptions{}).WithType("oauth-authz-req+jwt").WithHeader("x5c", []string{base64.StdEncoding.EncodeToString(s.cert.Chain[0].Raw)}))
		if err != nil {
			t.Fatal(err)
		}
		jws, err := signer.Sign([]byte("{" + member + string(payload[1:])))
		if err != nil {
			t.Fatal(err)
		}
		compact, err := jws.CompactSerialize()
		if err != nil {
			t.Fatal(err)
		}
		return compact
	}
}
