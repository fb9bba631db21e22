package credential_test

import (
	"crypto/ecdsa"
	"crypto/x509"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"

	"enrollkiosk/registry/credential"
	"enrollkiosk/registry/credential/credentialtest"
)

const host = "site.example"

// asking is a site with a request, and the helper that fetched it.
type asking struct {
	ca        credentialtest.CA
	site      credential.Site
	ephemeral *ecdsa.PrivateKey
	asked     credential.Asked
	expect    credential.ExpectRequest
}

func newAsking(t testing.TB) *asking {
	t.Helper()
	vct := credential.RealPerson(issuerID)
	s := &asking{ca: credentialtest.NewCA(t, "site CA", now), ephemeral: credentialtest.Key(t)}
	s.site = s.ca.Site(t, host, credential.MayAsk(vct, ""), credential.MayAsk(vct, credential.RealNameVerified), credential.MayAsk(vct, credential.AgeOver18))
	s.asked = credential.Asked{
		ResponseURI: "https://site.example/signin/response", Nonce: nonce, State: "state", WalletNonce: "wallet",
		Encryption: &s.ephemeral.PublicKey,
		Query: credential.Query{Credentials: []credential.CredentialQuery{{
			ID: "person", Types: []string{vct}, Claims: []string{credential.AgeOver18, credential.RealNameVerified},
		}}},
	}
	s.expect = credential.ExpectRequest{
		Roots: s.ca.Roots(), ClientID: s.site.ClientID(), RequestURI: "https://site.example/signin/request", WalletNonce: "wallet", Now: now,
	}
	return s
}

func (s *asking) sign(t testing.TB) string {
	t.Helper()
	jwt, err := s.site.SignRequest(s.asked)
	if err != nil {
		t.Fatal(err)
	}
	return jwt
}

// The whole way of a sign-in: request, choice, presentation, encrypted response.
func TestRequestAndResponse(t *testing.T) {
	w, s := newWorld(t), newAsking(t)
	s.asked.Query.Credentials[0].Authorities = [][]byte{w.ca.Cert.SubjectKeyId}
	r, err := credential.VerifyRequest(s.sign(t), s.expect)
	if err != nil {
		t.Fatal(err)
	}
	if r.Site() != host || r.ResponseURI() != s.asked.ResponseURI || r.State() != "state" || r.ClientID() != s.site.ClientID() {
		t.Errorf("%+v", r)
	}
	q := r.Query().Credentials[0]
	if !q.Matches(w.issued) {
		t.Fatal("does not match")
	}
	p, err := w.issued.Present(q.Claims, credential.Binding{Audience: r.ClientID(), Nonce: r.Nonce(), IssuedAt: now}, w.key)
	if err != nil {
		t.Fatal(err)
	}
	jwe, err := r.Seal(map[string]string{q.ID: p})
	if err != nil {
		t.Fatal(err)
	}
	if h := headerOf(t, jwe); !strings.Contains(h, `"A256GCM"`) || strings.Contains(h, "apu") || strings.Contains(h, "zip") {
		t.Error(h)
	}
	answer, err := credential.OpenResponse(jwe, s.ephemeral)
	if err != nil || answer.State != "state" {
		t.Fatal(answer, err)
	}
	w.expect.Audience, w.expect.Claims = s.site.ClientID(), q.Claims
	if _, err := credential.Verify(answer.Presentations["person"], w.expect); err != nil {
		t.Error(err)
	}
}

func TestMatches(t *testing.T) {
	w := newWorld(t)
	q := credential.CredentialQuery{ID: "a", Types: []string{"x", credential.RealPerson(issuerID)}, Claims: []string{credential.AgeOver14}, Authorities: [][]byte{{1}, w.ca.Cert.SubjectKeyId}}
	if !q.Matches(w.issued) {
		t.Error("does not match")
	}
	for name, change := range map[string]func(*credential.CredentialQuery){
		"type":      func(q *credential.CredentialQuery) { q.Types = []string{credential.LegalName(issuerID)} },
		"claim":     func(q *credential.CredentialQuery) { q.Claims = []string{credential.AgeOver14, credential.FamilyName} },
		"authority": func(q *credential.CredentialQuery) { q.Authorities = [][]byte{{1}} },
	} {
		bad := q
		change(&bad)
		if bad.Matches(w.issued) {
			t.Error(name)
		}
	}
	if q.Matches(credential.Issued{}) {
		t.Error("nothing matches")
	}
}

func TestRequestAttacks(t *testing.T) {
	vct := credential.RealPerson(issuerID)
	// resign signs a changed payload under the site's own certificate.
	resign := func(t *testing.T, s *asking, old, new string) string {
		return signJWS(t, s.site.Key.(*ecdsa.PrivateKey), map[jose.HeaderKey]any{"typ": "oauth-authz-req+jwt", "x5c": x5c(s.site.Chain)}, replace(t, payloadOf(t, s.sign(t)), old, new))
	}
	for name, test := range map[string]struct {
		attack func(t *testing.T, s *asking) string
		want   credential.Refusal
	}{
		"a claim too many": {func(t *testing.T, s *asking) string {
			s.asked.Query.Credentials[0].Claims = []string{credential.AgeOver14}
			return s.sign(t)
		}, credential.ErrOverask},
		"the legal name": {func(t *testing.T, s *asking) string {
			s.asked.Query.Credentials[0].Types = []string{credential.LegalName(issuerID)}
			s.asked.Query.Credentials[0].Claims = nil
			return s.sign(t)
		}, credential.ErrOverask},
		"the legal name as a second choice": {func(t *testing.T, s *asking) string {
			s.asked.Query.Credentials[0].Types = []string{vct, credential.LegalName(issuerID)}
			return s.sign(t)
		}, credential.ErrOverask},
		"a certificate of another CA": {func(t *testing.T, s *asking) string {
			s.site = credentialtest.NewCA(t, "evil", now).Site(t, host, vct, vct+"#"+credential.AgeOver18, vct+"#"+credential.RealNameVerified)
			s.expect.ClientID = s.site.ClientID()
			return s.sign(t)
		}, credential.ErrChain},
		"relayed: the real site's request under a phishing site's link": {func(t *testing.T, s *asking) string {
			phisher := s.ca.Site(t, "phish.example", vct)
			s.expect.ClientID, s.expect.RequestURI = phisher.ClientID(), "https://phish.example/request"
			return s.sign(t)
		}, credential.ErrClientID},
		"relayed with the real client id": {func(t *testing.T, s *asking) string {
			s.expect.RequestURI = "https://phish.example/request"
			return s.sign(t)
		}, credential.ErrSite},
		"answer elsewhere": {func(t *testing.T, s *asking) string {
			s.asked.ResponseURI = "https://phish.example/response"
			return s.sign(t)
		}, credential.ErrSite},
		"answer below another's name": {func(t *testing.T, s *asking) string {
			s.asked.ResponseURI = "https://site.example.phish.example/response"
			return s.sign(t)
		}, credential.ErrSite},
		"answer with a user name": {func(t *testing.T, s *asking) string {
			s.asked.ResponseURI = "https://site.example@phish.example/response"
			return s.sign(t)
		}, credential.ErrSite},
		"answer with a user name at the site": {func(t *testing.T, s *asking) string {
			s.asked.ResponseURI = "https://phish.example@site.example/response"
			return s.sign(t)
		}, credential.ErrSite},
		"answer in the clear": {func(t *testing.T, s *asking) string {
			s.asked.ResponseURI = "http://site.example/response"
			return s.sign(t)
		}, credential.ErrSite},
		"answer to another port": {func(t *testing.T, s *asking) string {
			s.asked.ResponseURI = "https://site.example:8443/response"
			return s.sign(t)
		}, credential.ErrSite},
		"two names": {func(t *testing.T, s *asking) string {
			key := credentialtest.Key(t)
			leaf := s.ca.Leaf(t, key, "", vct)
			s.site = credential.Site{Chain: []*x509.Certificate{leaf}, Key: key}
			s.expect.ClientID = s.site.ClientID()
			return s.sign(t)
		}, credential.ErrSite},
		"a star": {func(t *testing.T, s *asking) string {
			s.site = s.ca.Site(t, "*.example", vct)
			s.expect.ClientID = s.site.ClientID()
			return s.sign(t)
		}, credential.ErrSite},
		"an old request": {func(t *testing.T, s *asking) string {
			s.expect.WalletNonce = "fresh"
			return s.sign(t)
		}, credential.ErrNonce},
		"no wallet nonce": {func(t *testing.T, s *asking) string {
			s.asked.WalletNonce = ""
			return s.sign(t)
		}, credential.ErrNonce},
		"client id by redirect_uri": {func(t *testing.T, s *asking) string {
			s.expect.ClientID = "redirect_uri:https://site.example/signin/response"
			return resign(t, s, `"client_id":"`+s.site.ClientID()+`"`, `"client_id":"`+s.expect.ClientID+`"`)
		}, credential.ErrClientID},
		"client id by origin": {func(t *testing.T, s *asking) string {
			s.expect.ClientID = "origin:https://site.example"
			return resign(t, s, `"client_id":"`+s.site.ClientID()+`"`, `"client_id":"`+s.expect.ClientID+`"`)
		}, credential.ErrClientID},
		"a redirect_uri beside response_uri": {func(t *testing.T, s *asking) string {
			return resign(t, s, `"response_uri"`, `"redirect_uri":"https://site.example/","response_uri"`)
		}, credential.ErrRequest},
		"transaction data": {func(t *testing.T, s *asking) string {
			return resign(t, s, `"response_uri"`, `"transaction_data":[],"response_uri"`)
		}, credential.ErrRequest},
		"in the clear": {func(t *testing.T, s *asking) string {
			return resign(t, s, `"direct_post.jwt"`, `"direct_post"`)
		}, credential.ErrRequest},
		"another audience": {func(t *testing.T, s *asking) string {
			return resign(t, s, `self-issued.me/v2`, `self-issued.me`)
		}, credential.ErrRequest},
		"expired": {func(t *testing.T, s *asking) string {
			return resign(t, s, `"aud"`, `"exp":1,"aud"`)
		}, credential.ErrExpired},
		"no key": {func(t *testing.T, s *asking) string {
			return resign(t, s, `"alg":"ECDH-ES"`, `"alg":"RSA-OAEP"`)
		}, credential.ErrRequest},
		"only a weak encryption": {func(t *testing.T, s *asking) string {
			return resign(t, s, `"A128GCM","A256GCM"`, `"A128CBC-HS256"`)
		}, credential.ErrRequest},
		"a credential as request": {func(t *testing.T, s *asking) string {
			jwt, _, _, _ := credential.Split(newWorld(t).compact)
			return jwt
		}, credential.ErrType},
		"too long": {func(t *testing.T, s *asking) string { return strings.Repeat("A", credential.MaxRequest+1) }, credential.ErrSize},
	} {
		t.Run(name, func(t *testing.T) {
			s := newAsking(t)
			r, err := credential.VerifyRequest(test.attack(t, s), s.expect)
			if r.Valid() {
				t.Fatal("accepted")
			}
			wants(t, err, test.want)
		})
	}
	s := newAsking(t)
	good := s.sign(t)
	for i := range len(good) {
		bad := []byte(good)
		bad[i] ^= 1
		if r, err := credential.VerifyRequest(string(bad), s.expect); err == nil || r.Valid() {
			t.Fatalf("byte %d: accepted", i)
		}
	}
}

// Sites of other makers name themselves by DNS name.
func TestClientIDByName(t *testing.T) {
	s := newAsking(t)
	s.expect.ClientID = "x509_san_dns:" + host
	jwt := signJWS(t, s.site.Key.(*ecdsa.PrivateKey), map[jose.HeaderKey]any{"typ": "oauth-authz-req+jwt", "x5c": x5c(s.site.Chain)},
		replace(t, payloadOf(t, s.sign(t)), s.site.ClientID(), s.expect.ClientID))
	if r, err := credential.VerifyRequest(jwt, s.expect); err != nil || r.ClientID() != s.expect.ClientID {
		t.Error(err)
	}
}

func TestAnotherPortForTests(t *testing.T) {
	s := newAsking(t)
	s.asked.ResponseURI, s.expect.RequestURI, s.expect.AnyPort = "https://site.example:8443/a", "https://site.example:8443/b", true
	if _, err := credential.VerifyRequest(s.sign(t), s.expect); err != nil {
		t.Error(err)
	}
}

func TestQueries(t *testing.T) {
	const person = `{"id":"person","format":"dc+sd-jwt","meta":{"vct_values":["v"]}`
	for text, claims := range map[string][]string{
		`{"credentials":[` + person + `}]}`:                                                         nil,
		`{"credentials":[` + person + `,"claims":[{"path":["b"]},{"id":"x","path":["a"]}]}]}`:       {"a", "b"},
		`{"credentials":[` + person + `,"multiple":false,"unknown":1}],"also":[]}`:                  nil,
		`{"credentials":[` + person + `,"trusted_authorities":[{"type":"aki","values":["AQI"]}]}]}`: nil,
	} {
		q, err := credential.ParseQuery(object(t, text))
		if err != nil || !slices.Equal(q.Credentials[0].Claims, claims) {
			t.Errorf("%s: %v, %v", text, q, err)
		}
	}
	for _, text := range []string{
		`{}`, `{"credentials":[]}`, `{"credentials":{}}`, `{"credentials":[1]}`,
		`{"credentials":[` + person + `}],"credential_sets":[]}`,
		`{"credentials":[` + person + `},` + person + `}]}`,
		`{"credentials":[` + strings.Repeat(person+`},`, 4) + person + `}]}`,
		`{"credentials":[` + person + `,"multiple":true}]}`,
		`{"credentials":[` + person + `,"require_cryptographic_holder_binding":false}]}`,
		`{"credentials":[` + person + `,"claim_sets":[["a"]]}]}`,
		`{"credentials":[` + person + `,"claims":[]}]}`,
		`{"credentials":[` + person + `,"claims":[{"path":["a","b"]}]}]}`,
		`{"credentials":[` + person + `,"claims":[{"path":["a",null]}]}]}`,
		`{"credentials":[` + person + `,"claims":[{"path":["a"]},{"path":["a"]}]}]}`,
		`{"credentials":[` + person + `,"claims":[{"path":["a"],"values":[true]}]}]}`,
		`{"credentials":[` + person + `,"trusted_authorities":[{"type":"etsi_tl","values":["x"]}]}]}`,
		`{"credentials":[` + person + `,"trusted_authorities":[{"type":"aki","values":["!"]}]}]}`,
		`{"credentials":[` + person + `,"trusted_authorities":[]}]}`,
		`{"credentials":[{"id":"p","format":"mso_mdoc","meta":{"vct_values":["v"]}}]}`,
		`{"credentials":[{"id":"p p","format":"dc+sd-jwt","meta":{"vct_values":["v"]}}]}`,
		`{"credentials":[{"id":"p","format":"dc+sd-jwt","meta":{"vct_values":[]}}]}`,
		`{"credentials":[{"id":"p","format":"dc+sd-jwt"}]}`,
	} {
		if q, err := credential.ParseQuery(object(t, text)); err == nil {
			t.Errorf("%s: %v", text, q)
		} else {
			wants(t, err, credential.ErrQuery)
		}
	}
}

// What does not decrypt to the one form is refused.
func TestResponseAttacks(t *testing.T) {
	key := credentialtest.Key(t)
	encrypt := func(plain string, options *jose.EncrypterOptions, kid string, to *ecdsa.PrivateKey) string {
		e, err := jose.NewEncrypter(jose.A256GCM, jose.Recipient{Algorithm: jose.ECDH_ES, Key: &to.PublicKey, KeyID: kid}, options)
		if err != nil {
			t.Fatal(err)
		}
		jwe, err := e.Encrypt([]byte(plain))
		if err != nil {
			t.Fatal(err)
		}
		s, err := jwe.CompactSerialize()
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	const plain = `{"vp_token":{"person":["p"]},"state":"s"}`
	if r, err := credential.OpenResponse(encrypt(plain, nil, "1", key), key); err != nil || !maps.Equal(r.Presentations, map[string]string{"person": "p"}) {
		t.Fatal(r, err)
	}
	good := encrypt(plain, nil, "1", key)
	for name, jwe := range map[string]string{
		"to another key":      encrypt(plain, nil, "1", credentialtest.Key(t)),
		"under another kid":   encrypt(plain, nil, "2", key),
		"compressed":          encrypt(plain, &jose.EncrypterOptions{Compression: jose.DEFLATE}, "1", key),
		"two presentations":   encrypt(`{"vp_token":{"person":["p","q"]},"state":"s"}`, nil, "1", key),
		"a presentation bare": encrypt(`{"vp_token":{"person":"p"},"state":"s"}`, nil, "1", key),
		"no token":            encrypt(`{"state":"s"}`, nil, "1", key),
		"an id twice":         encrypt(`{"vp_token":{"person":["p"],"person":["q"]}}`, nil, "1", key),
		"no JSON":             encrypt("x", nil, "1", key),
		"a signature":         signJWS(t, key, map[jose.HeaderKey]any{"kid": "1"}, plain),
		"in JSON":             `{"protected":"` + strings.Split(good, ".")[0] + `"}`,
	} {
		if r, err := credential.OpenResponse(jwe, key); err == nil {
			t.Errorf("%s: %v", name, r)
		} else {
			wants(t, err, credential.ErrResponse)
		}
	}
	for i := range len(good) {
		bad := []byte(good)
		bad[i] ^= 1
		if r, err := credential.OpenResponse(string(bad), key); err == nil {
			t.Fatalf("byte %d: %v", i, r)
		}
	}
}
