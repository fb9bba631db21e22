package credential

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
)

const (
	selfIssued = "https://self-issued.me/v2" // aud of a request to a wallet (OpenID4VP 1.0, 5.8)
	directPost = "direct_post.jwt"
	vpToken    = "vp_token"
	byHash     = "x509_hash:"
	byName     = "x509_san_dns:"
	responseID = "1" // kid of the ephemeral key: the same for all
)

// Site signs requests. Its leaf has one DNS name, the site, and as URI names what
// the site is registered to ask for: a vct for the pseudonym, vct#claim for a claim.
type Site struct {
	Chain []*x509.Certificate // leaf first; no root
	Key   crypto.Signer       // of the leaf
}

// MayAsk is the URI name that lets a site's leaf ask for a claim of a type; without
// claim, for the pseudonym alone.
func MayAsk(vct, claim string) string {
	if claim == "" {
		return vct
	}
	return vct + "#" + claim
}

// ClientID is x509_hash: SHA-256 of the leaf (OpenID4VP 1.0, 5.9.3). It changes with
// each certificate: it is an audience, never the name of the site.
func (s Site) ClientID() string { return hashID(s.Chain[0]) }

func hashID(leaf *x509.Certificate) string {
	d := sha256.Sum256(leaf.Raw)
	return byHash + b64.EncodeToString(d[:])
}

// Asked is what a request object says.
type Asked struct {
	ResponseURI string
	Nonce       string // 32 random bytes, used once
	State       string
	WalletNonce string // what the holder sent; empty if it sent none
	Query       Query
	Encryption  *ecdsa.PublicKey // ephemeral; the response is encrypted to it
}

// The request object's claims (RFC 9101, OpenID4VP 1.0, 5).
type (
	requestPayload struct {
		ClientID     string    `json:"client_id"`
		ResponseType string    `json:"response_type"`
		ResponseMode string    `json:"response_mode"`
		ResponseURI  string    `json:"response_uri"`
		Nonce        string    `json:"nonce"`
		State        string    `json:"state"`
		WalletNonce  string    `json:"wallet_nonce,omitzero"`
		Audience     string    `json:"aud"`
		Metadata     metadata  `json:"client_metadata"`
		Query        queryWire `json:"dcql_query"`
	}
	metadata struct {
		Keys    encryptionKeys `json:"jwks"`
		Enc     []string       `json:"encrypted_response_enc_values_supported"`
		Formats formats        `json:"vp_formats_supported"`
	}
	encryptionKeys struct {
		Keys []encryptionKey `json:"keys"`
	}
	encryptionKey struct {
		jwk
		Use       string `json:"use"`
		Algorithm string `json:"alg"`
		ID        string `json:"kid"`
	}
	formats struct {
		SDJWT algorithms `json:"dc+sd-jwt"`
	}
	algorithms struct {
		SDJWT []string `json:"sd-jwt_alg_values"`
		KB    []string `json:"kb-jwt_alg_values"`
	}
)

// SignRequest makes a request object under [Site.ClientID].
func (s Site) SignRequest(a Asked) (string, error) {
	k, err := newJWK(a.Encryption)
	if err != nil {
		return "", fmt.Errorf("request: %w", err)
	}
	return sign(header{Type: requestType, Chain: chain(s.Chain)}, marshal(requestPayload{
		s.ClientID(), vpToken, directPost, a.ResponseURI, a.Nonce, a.State, a.WalletNonce, selfIssued,
		metadata{
			encryptionKeys{[]encryptionKey{{k, "enc", string(jose.ECDH_ES), responseID}}},
			[]string{string(jose.A128GCM), string(jose.A256GCM)},
			formats{algorithms{[]string{algorithm}, []string{algorithm}}},
		},
		a.Query.wire(),
	}), s.Key)
}

// ExpectRequest is what the holder's helper knows when it fetches a request.
type ExpectRequest struct {
	Roots       *x509.CertPool // of the CA that registers sites
	ClientID    string         // from the link
	RequestURI  string         // from the link, where the request was fetched
	WalletNonce string         // fresh, sent with the fetch
	Now         time.Time
	AnyPort     bool // for tests and demonstrations: another port than 443
}

// Request is a site's verified request; only [VerifyRequest] makes it.
type Request struct{ r *request }

type request struct {
	asked    Asked
	clientID string
	site     string
	enc      jose.ContentEncryption
	kid      string
}

// VerifyRequest checks a request object: signature and chain, the client id of the
// link (x509_hash or x509_san_dns, nothing else: OpenID4VP 1.0, 5.9.3), the addresses
// on the certificate's one DNS name, the nonce that this helper sent, and that the
// site asks for nothing that its certificate does not allow ([ErrOverask]). Only
// signed claims count; iss and unknown ones are ignored.
func VerifyRequest(jwt string, e ExpectRequest) (Request, error) {
	if e.ClientID == "" || e.WalletNonce == "" || e.Now.IsZero() {
		return Request{}, errZero
	}
	if len(jwt) > MaxRequest {
		return Request{}, refuse(ErrSize, "%d bytes", len(jwt))
	}
	u, err := parseJWS(jwt, requestType)
	if err != nil {
		return Request{}, err
	}
	leaf, err := u.leaf(e.Roots, e.Now)
	if err != nil {
		return Request{}, err
	}
	pub, err := keyOf(leaf)
	if err != nil {
		return Request{}, err
	}
	p, err := u.verify(pub, requestDepth)
	if err != nil {
		return Request{}, err
	}
	if len(leaf.DNSNames) != 1 || strings.Contains(leaf.DNSNames[0], "*") {
		return Request{}, refuse(ErrSite, "%d names", len(leaf.DNSNames))
	}
	r := &request{site: leaf.DNSNames[0]}
	if r.clientID, _ = p.Text("client_id"); r.clientID != e.ClientID || r.clientID != hashID(leaf) && r.clientID != byName+r.site {
		return Request{}, ErrClientID
	}
	if err := r.read(p, e); err != nil {
		return Request{}, err
	}
	for _, c := range r.asked.Query.Credentials {
		for _, vct := range c.Types {
			for _, claim := range append([]string{""}, c.Claims...) {
				if !names(leaf, MayAsk(vct, claim)) {
					return Request{}, refuse(ErrOverask, "%s", MayAsk(vct, claim))
				}
			}
		}
	}
	return Request{r}, nil
}

func (r *request) read(p Object, e ExpectRequest) error {
	for name, want := range map[string]string{
		"response_type": vpToken, "response_mode": directPost, "aud": selfIssued,
	} {
		if v, _ := p.Text(name); v != want {
			return refuse(ErrRequest, "%s is not %s", name, want)
		}
	}
	if n, _ := p.Text("wallet_nonce"); n != e.WalletNonce {
		return refuse(ErrNonce, "wallet_nonce")
	}
	for _, name := range []string{"redirect_uri", "transaction_data", "scope"} {
		if _, there := p[name]; there {
			return refuse(ErrRequest, "%s", name)
		}
	}
	if exp, there := p["exp"]; there {
		if at, ok := p.Whole("exp"); !ok || !time.Unix(at, 0).After(e.Now) {
			return refuse(ErrExpired, "exp %v", exp)
		}
	}
	a := &r.asked
	a.WalletNonce = e.WalletNonce
	a.Nonce, _ = p.Text("nonce")
	a.State, _ = p.Text("state")
	if a.Nonce == "" || len(a.Nonce) > 512 || a.State == "" || len(a.State) > 512 {
		return refuse(ErrRequest, "nonce or state")
	}
	a.ResponseURI, _ = p.Text("response_uri")
	for _, uri := range []string{e.RequestURI, a.ResponseURI} {
		if err := onSite(uri, r.site, e.AnyPort); err != nil {
			return err
		}
	}
	dcql, _ := p.Object("dcql_query")
	var err error
	if a.Query, err = ParseQuery(dcql); err != nil {
		return err
	}
	return r.readMetadata(p)
}

// onSite holds an address to https, the site's own host and port 443.
func onSite(uri, site string, anyPort bool) error {
	u, err := url.Parse(uri)
	if err != nil || u.Scheme != "https" || u.User != nil || u.Fragment != "" || u.Opaque != "" {
		return refuse(ErrSite, "an address that is no plain https")
	}
	if !strings.EqualFold(u.Hostname(), site) || u.Port() != "" && u.Port() != "443" && !anyPort {
		return refuse(ErrSite, "an address elsewhere than at %s", site)
	}
	return nil
}

func (r *request) readMetadata(p Object) error {
	m, _ := p.Object("client_metadata")
	jwks, _ := m.Object("jwks")
	keys, _ := jwks.List("keys")
	for _, v := range keys {
		k, _ := v.(Object)
		if alg, _ := k.Text("alg"); alg != string(jose.ECDH_ES) {
			continue
		}
		if use, there := k["use"]; there && use != "enc" {
			continue
		}
		pub, err := parseJWK(k, false)
		if err != nil {
			continue
		}
		r.asked.Encryption = pub
		r.kid, _ = k.Text("kid")
		break
	}
	if r.asked.Encryption == nil {
		return refuse(ErrRequest, "no key to encrypt to")
	}
	enc, _ := m.Texts("encrypted_response_enc_values_supported")
	switch {
	case slices.Contains(enc, string(jose.A256GCM)):
		r.enc = jose.A256GCM
	case enc == nil || slices.Contains(enc, string(jose.A128GCM)): // the default (OpenID4VP 1.0, 8.3)
		r.enc = jose.A128GCM
	default:
		return refuse(ErrRequest, "no content encryption in common")
	}
	return nil
}

// Valid is false for the zero value.
func (r Request) Valid() bool { return r.r != nil }

// Site is the certificate's DNS name: what the citizen is shown, and the name under
// which a pseudonym is kept.
func (r Request) Site() string { return r.r.site }

// ClientID is the audience of the presentations.
func (r Request) ClientID() string { return r.r.clientID }

// Nonce, ResponseURI, State and Query are the site's.
func (r Request) Nonce() string       { return r.r.asked.Nonce }
func (r Request) ResponseURI() string { return r.r.asked.ResponseURI }
func (r Request) State() string       { return r.r.asked.State }
func (r Request) Query() Query        { return r.r.asked.Query }

type responseWire struct {
	Token map[string][]string `json:"vp_token"` // members in the order of their names
	State string              `json:"state"`
}

// Seal encrypts presentations, by query id, to the site (OpenID4VP 1.0, 8.3):
// ECDH-ES over P-256 with a fresh key, the site's kid, nothing else in the header.
func (r Request) Seal(presentations map[string]string) (string, error) {
	if r.r == nil {
		return "", errZero
	}
	w := responseWire{map[string][]string{}, r.r.asked.State}
	for id, p := range presentations {
		w.Token[id] = []string{p}
	}
	e, err := jose.NewEncrypter(r.r.enc, jose.Recipient{Algorithm: jose.ECDH_ES, Key: r.r.asked.Encryption, KeyID: r.r.kid}, nil)
	if err != nil {
		return "", fmt.Errorf("seal response: %w", err)
	}
	jwe, err := e.Encrypt(marshal(w))
	if err != nil {
		return "", fmt.Errorf("seal response: %w", err)
	}
	return jwe.CompactSerialize()
}

// Response is what came back to a site. Nothing in it is verified: encryption says
// nothing of who wrote it (OpenID4VP 1.0, 14.5).
type Response struct {
	State         string
	Presentations map[string]string // by query id; each for Verify
}

// OpenResponse decrypts a response with the ephemeral key of its request.
func OpenResponse(jwe string, key *ecdsa.PrivateKey) (Response, error) {
	if len(jwe) > MaxResponse {
		return Response{}, refuse(ErrSize, "%d bytes", len(jwe))
	}
	parts := strings.Split(jwe, ".")
	for _, part := range parts { // the library below takes loose bits at the end
		if _, err := decode(part); err != nil {
			return Response{}, fmt.Errorf("%w: %w", ErrResponse, err)
		}
	}
	raw, _ := decode(parts[0])
	h, err := ParseObject(raw, credentialDepth)
	if err != nil {
		return Response{}, fmt.Errorf("%w: %w", ErrResponse, err)
	}
	for _, name := range []string{"zip", "crit"} { // neither a bomb nor a rule unknown to us
		if _, there := h[name]; there {
			return Response{}, refuse(ErrResponse, "%s", name)
		}
	}
	if kid, _ := h.Text("kid"); kid != responseID {
		return Response{}, refuse(ErrResponse, "kid")
	}
	e, err := jose.ParseEncryptedCompact(jwe, []jose.KeyAlgorithm{jose.ECDH_ES}, []jose.ContentEncryption{jose.A128GCM, jose.A256GCM})
	if err != nil {
		return Response{}, fmt.Errorf("%w: %w", ErrResponse, err)
	}
	plain, err := e.Decrypt(key)
	if err != nil {
		return Response{}, fmt.Errorf("%w: %w", ErrResponse, err)
	}
	o, err := ParseObject(plain, credentialDepth)
	if err != nil {
		return Response{}, fmt.Errorf("%w: %w", ErrResponse, err)
	}
	r := Response{Presentations: map[string]string{}}
	r.State, _ = o.Text("state")
	token, ok := o.Object(vpToken)
	if !ok {
		return Response{}, refuse(ErrResponse, "no vp_token")
	}
	for id := range token {
		one, _ := token.Texts(id)
		if len(one) != 1 {
			return Response{}, refuse(ErrResponse, "%d presentations under one id", len(one))
		}
		r.Presentations[id] = one[0]
	}
	return r, nil
}
