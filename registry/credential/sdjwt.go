package credential

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// What is equal in every credential, so that none stands out.
const (
	digestCount = 8  // of _sd: real ones and decoys (RFC 9901 4.2.5)
	saltSize    = 16 // bytes (RFC 9901 9.3)
	hashName    = "sha-256"
	week        = 7 * 24 * time.Hour
)

// The two types of credential (SD-JWT VC 2.2.2.1): names, never fetched.
func RealPerson(issuer string) string { return issuer + "/vct/real-person/1" }
func LegalName(issuer string) string  { return issuer + "/vct/legal-name/1" }

// Names of disclosable claims. The first four are booleans of a [RealPerson]
// credential and always all there: that one is missing would tell. The others are
// text, of a [LegalName] credential.
const (
	AgeOver14        = "age_over_14"
	AgeOver16        = "age_over_16"
	AgeOver18        = "age_over_18"
	RealNameVerified = "real_name_verified"
	FamilyName       = "family_name"
	GivenName        = "given_name"
	NameLocal        = "name_local" // as the document's own script has it; may be empty
)

// PersonClaims are the names of a [RealPerson] credential's claims, NameClaims those of
// a [LegalName] credential's.
func PersonClaims() []string { return []string{AgeOver14, AgeOver16, AgeOver18, RealNameVerified} }
func NameClaims() []string   { return []string{FamilyName, GivenName, NameLocal} }

// Expiry is the time that all credentials of a cohort end: the first Monday, 00:00
// UTC, at or after t.
func Expiry(t time.Time) time.Time {
	monday := time.Unix(0, 0).UTC().Add(4 * 24 * time.Hour) // 1970-01-05
	weeks := (t.Sub(monday) + week - 1) / week
	return monday.Add(weeks * week)
}

// StatusRef is a credential's place in a status list.
type StatusRef struct {
	URI   string
	Index uint64
}

// Content is what an issuer puts into one credential.
type Content struct {
	Type    string           // vct
	Expires time.Time        // of the whole cohort: see Expiry
	Key     *ecdsa.PublicKey // the holder's, for this credential alone
	Status  StatusRef        //
	Escrow  []byte           // SealEscrow's, bound to the other members
	Claims  map[string]any   // disclosable: bool or string, at most 8
}

// Issuer signs credentials and status lists. The leaf's URI names are the issuer's
// id and each vct that this key may issue.
type Issuer struct {
	ID    string              // iss: an https URL
	Chain []*x509.Certificate // leaf first; no root
	Key   crypto.Signer       // of the leaf
}

// payload is the Issuer-signed JWT's, its members in this order in every credential.
type payload struct {
	Issuer  string   `json:"iss"`
	Type    string   `json:"vct"`
	Expires int64    `json:"exp"`
	Confirm confirm  `json:"cnf"`
	Status  status   `json:"status"`
	Digests []string `json:"_sd"`
	Hash    string   `json:"_sd_alg"`
	Escrow  string   `json:"escrow"`
}

type confirm struct {
	JWK jwk `json:"jwk"`
}

type status struct {
	List statusRef `json:"status_list"`
}

type statusRef struct {
	Index uint64 `json:"idx"`
	URI   string `json:"uri"`
}

// Members that every credential of ours has, and no other.
var members = []string{"iss", "vct", "exp", "cnf", "status", "_sd", "_sd_alg", "escrow"}

// Issue makes a credential in its compact form, with all its disclosures in the
// order of their names. Salts and decoys are fresh.
func (i Issuer) Issue(c Content) (string, error) {
	k, err := newJWK(c.Key)
	if err != nil {
		return "", fmt.Errorf("issue: %w", err)
	}
	if len(c.Claims) > digestCount {
		return "", fmt.Errorf("issue: %w", ErrClaims)
	}
	p := payload{i.ID, c.Type, c.Expires.Unix(), confirm{k}, status{statusRef{c.Status.Index, c.Status.URI}}, nil, hashName, b64.EncodeToString(c.Escrow)}
	var disclosures []string
	for _, name := range sortedNames(c.Claims) {
		switch c.Claims[name].(type) {
		case bool, string:
		default:
			return "", fmt.Errorf("issue: %s: %w", name, ErrClaims)
		}
		d := b64.EncodeToString(marshal([]any{b64.EncodeToString(random(saltSize)), name, c.Claims[name]}))
		disclosures = append(disclosures, d)
		p.Digests = append(p.Digests, digestOf(d))
	}
	for len(p.Digests) < digestCount {
		p.Digests = append(p.Digests, b64.EncodeToString(random(sha256.Size)))
	}
	slices.Sort(p.Digests)
	jwt, err := sign(header{Type: credentialType, Chain: chain(i.Chain)}, marshal(p), i.Key)
	if err != nil {
		return "", fmt.Errorf("issue: %w", err)
	}
	return join(jwt, disclosures), nil
}

func random(n int) []byte {
	b := make([]byte, n)
	rand.Read(b) // never fails: it ends the program instead
	return b
}

func sortedNames(claims map[string]any) []string {
	var n []string
	for name := range claims {
		n = append(n, name)
	}
	slices.Sort(n)
	return n
}

// digestOf is over the disclosure as it is sent, not over what it encodes
// (RFC 9901 4.2.3).
func digestOf(disclosure string) string {
	d := sha256.Sum256([]byte(disclosure))
	return b64.EncodeToString(d[:])
}

func join(jwt string, disclosures []string) string {
	return strings.Join(append([]string{jwt}, disclosures...), "~") + "~"
}

// split takes the compact form apart; binding is empty without a KB-JWT
// (RFC 9901 4).
func split(compact string) (jwt string, disclosures []string, binding string, err error) {
	if len(compact) > MaxPresentation {
		return "", nil, "", refuse(ErrSize, "%d bytes", len(compact))
	}
	parts := strings.Split(compact, "~")
	last := len(parts) - 1
	if last < 1 {
		return "", nil, "", refuse(ErrForm, "no ~")
	}
	if last-1 > MaxDisclosures {
		return "", nil, "", refuse(ErrSize, "%d disclosures", last-1)
	}
	if slices.Contains(parts[:last], "") {
		return "", nil, "", refuse(ErrForm, "an empty part")
	}
	return parts[0], parts[1:last], parts[last], nil
}

// Authority is the issuer that is trusted.
type Authority struct {
	Issuer string         // iss
	Roots  *x509.CertPool // certificates of its CA
}

// contents are a credential's, verified.
type contents struct {
	jwt         string // as signed
	issuer, vct string
	expires     time.Time
	key         *ecdsa.PublicKey
	status      StatusRef
	escrow      []byte
	claims      map[string]any
	disclosures map[string]string // by claim name, encoded
	authorities [][]byte          // key ids of the CAs above the leaf
	payload     Object
	header      Object
}

// open verifies an Issuer-signed JWT and the disclosures that come with it: steps
// 3 to 5 of RFC 9901 7.1 and SD-JWT VC 2.4.
func open(jwt string, disclosures []string, a Authority, vcts []string, now time.Time) (*contents, error) {
	if a.Issuer == "" || now.IsZero() {
		return nil, errZero
	}
	u, err := parseJWS(jwt, credentialType)
	if err != nil {
		return nil, err
	}
	leaf, err := u.leaf(a.Roots, now)
	if err != nil {
		return nil, err
	}
	if !names(leaf, a.Issuer) {
		return nil, ErrIssuer
	}
	pub, err := keyOf(leaf)
	if err != nil {
		return nil, err
	}
	p, err := u.verify(pub, credentialDepth)
	if err != nil {
		return nil, err
	}
	c := &contents{jwt: jwt, payload: p, header: u.header}
	if len(leaf.AuthorityKeyId) > 0 {
		c.authorities = append(c.authorities, leaf.AuthorityKeyId)
	}
	if c.issuer, _ = p.Text("iss"); c.issuer != a.Issuer {
		return nil, ErrIssuer
	}
	if c.vct, _ = p.Text("vct"); !slices.Contains(vcts, c.vct) || !names(leaf, c.vct) {
		return nil, ErrVCT
	}
	if err := c.visible(p, now); err != nil {
		return nil, err
	}
	return c, c.disclose(p, disclosures)
}

// visible reads the claims that are always there.
func (c *contents) visible(p Object, now time.Time) error {
	exp, ok := p.Whole("exp")
	if !ok {
		return refuse(ErrForm, "no exp")
	}
	if c.expires = time.Unix(exp, 0).UTC(); !c.expires.After(now) {
		return ErrExpired
	}
	cnf, _ := p.Object("cnf")
	k, _ := cnf.Object("jwk")
	var err error
	if c.key, err = parseJWK(k, false); err != nil {
		return fmt.Errorf("cnf: %w", err)
	}
	s, _ := p.Object("status")
	list, _ := s.Object("status_list")
	uri, okURI := list.Text("uri")
	index, okIndex := list.Whole("idx")
	if !okURI || !okIndex || uri == "" {
		return refuse(ErrForm, "no status")
	}
	c.status = StatusRef{uri, uint64(index)}
	escrow, _ := p.Text("escrow")
	if c.escrow, err = decode(escrow); err != nil {
		return fmt.Errorf("escrow: %w", err)
	}
	return nil
}

// disclose holds each disclosure against the signed digests (RFC 9901 7.1 step 3
// and 4, for a flat credential).
func (c *contents) disclose(p Object, disclosures []string) error {
	if alg, there := p["_sd_alg"]; there && alg != hashName {
		return refuse(ErrDigest, "_sd_alg is not %s", hashName)
	}
	digests, ok := p.Texts("_sd")
	if _, there := p["_sd"]; there && !ok {
		return refuse(ErrDigest, "_sd is no list of strings")
	}
	unused := map[string]bool{}
	for _, d := range digests {
		if unused[d] {
			return refuse(ErrDigest, "a digest stands twice")
		}
		unused[d] = true
	}
	for name, v := range p {
		if name != "_sd" && nested(v) || name == "..." {
			return refuse(ErrDigest, "digests below the top")
		}
	}
	c.claims, c.disclosures = map[string]any{}, map[string]string{}
	for _, d := range disclosures {
		name, value, err := parseDisclosure(d)
		if err != nil {
			return err
		}
		if digest := digestOf(d); !unused[digest] {
			return refuse(ErrDigest, "a disclosure without a digest, or twice")
		} else {
			delete(unused, digest)
		}
		if _, taken := p[name]; taken || c.disclosures[name] != "" {
			return refuse(ErrDisclosure, "its name is taken")
		}
		c.claims[name], c.disclosures[name] = value, d
	}
	return nil
}

// nested reports whether v holds a name that RFC 9901 reserves for digests.
func nested(v any) bool {
	switch v := v.(type) {
	case Object:
		for name, below := range v {
			if name == "_sd" || name == "..." || nested(below) {
				return true
			}
		}
	case []any:
		return slices.ContainsFunc(v, nested)
	}
	return false
}

// parseDisclosure reads [salt, name, value] (RFC 9901 4.2.1) with a value that is
// a string or a boolean.
func parseDisclosure(d string) (name string, value any, err error) {
	raw, err := decode(d)
	if err != nil {
		return "", nil, fmt.Errorf("%w: %w", ErrDisclosure, err)
	}
	v, err := parse(raw, credentialDepth)
	if err != nil {
		return "", nil, fmt.Errorf("%w: %w", ErrDisclosure, err)
	}
	list, _ := v.([]any)
	if len(list) != 3 {
		return "", nil, refuse(ErrDisclosure, "not three elements")
	}
	salt, okSalt := list[0].(string)
	name, okName := list[1].(string)
	if !okSalt || salt == "" || !okName || name == "" || name == "_sd" || name == "..." {
		return "", nil, refuse(ErrDisclosure, "salt or name")
	}
	switch list[2].(type) {
	case string, bool:
		return name, list[2], nil
	}
	return "", nil, refuse(ErrDisclosure, "a value that is neither text nor true or false")
}

// EscrowData binds an escrow to its credential: SHA-256 over iss, vct, thumbprint
// of the holder's key, status URI, index and exp, each behind its length. It is
// the associated data of the sealing.
func (c Content) EscrowData(issuer string) [32]byte {
	return escrowData(issuer, c.Type, c.Key, c.Status, c.Expires)
}

// Terms are what a holder knows of a credential before it has it.
type Terms struct {
	Authority
	Type       string           // vct
	Claims     []string         // names of its disclosable claims
	Key        *ecdsa.PublicKey // that it must be bound to
	StatusURIs []string         // of the issuer's published lists
	Now        time.Time
}

// Issued is a credential in its holder's hands; only [Accept] makes it.
type Issued struct{ c *contents }

// Accept verifies a credential as it was issued. Beyond what a website checks, it
// holds that nothing in it sets it apart from those of other people: no member of
// header or payload too many, an exp that is a cohort's, eight digests in order, a
// status list from the published set ([ErrTagged]). One with a KB-JWT is refused
// (RFC 9901 7.2).
func Accept(compact string, t Terms) (Issued, error) {
	jwt, disclosures, binding, err := split(compact)
	if err != nil {
		return Issued{}, err
	}
	if binding != "" {
		return Issued{}, refuse(ErrForm, "issued with a key binding")
	}
	c, err := open(jwt, disclosures, t.Authority, []string{t.Type}, t.Now)
	if err != nil {
		return Issued{}, err
	}
	if t.Key == nil || !c.key.Equal(t.Key) {
		return Issued{}, ErrKey
	}
	if !sameSet(sortedNames(c.claims), t.Claims) {
		return Issued{}, ErrClaims
	}
	if err := c.untagged(t.StatusURIs); err != nil {
		return Issued{}, err
	}
	return Issued{c}, nil
}

func (c *contents) untagged(uris []string) error {
	digests, _ := c.payload.Texts("_sd")
	cnf, _ := c.payload.Object("cnf")
	k, _ := cnf.Object("jwk")
	s, _ := c.payload.Object("status")
	list, _ := s.Object("status_list")
	switch {
	case !exactly(c.header, "alg", "typ", "x5c"):
		return refuse(ErrTagged, "header")
	case !exactly(c.payload, members...) || len(cnf) != 1 || len(k) != 4 || len(s) != 1 || len(list) != 2:
		return refuse(ErrTagged, "members")
	case len(digests) != digestCount || !slices.IsSorted(digests):
		return refuse(ErrTagged, "digests")
	case !c.expires.Equal(Expiry(c.expires)):
		return refuse(ErrTagged, "exp")
	case !slices.Contains(uris, c.status.URI):
		return refuse(ErrTagged, "status list")
	case len(c.escrow) != EscrowSize:
		return refuse(ErrTagged, "escrow")
	}
	return nil
}

func exactly(o Object, want ...string) bool {
	for _, name := range want {
		if _, ok := o[name]; !ok {
			return false
		}
	}
	return len(o) == len(want)
}

func sameSet(a, b []string) bool {
	a, b = slices.Clone(a), slices.Clone(b)
	slices.Sort(a)
	slices.Sort(b)
	return slices.Equal(a, b)
}

// Valid is false for the zero value.
func (i Issued) Valid() bool { return i.c != nil }

// Type is the vct.
func (i Issued) Type() string { return i.c.vct }

// Expires is the end of its cohort.
func (i Issued) Expires() time.Time { return i.c.expires }

// Key is the holder's key that it is bound to.
func (i Issued) Key() *ecdsa.PublicKey { return i.c.key }

// Status is its place in a status list.
func (i Issued) Status() StatusRef { return i.c.status }

// Claims are all disclosable claims, by name.
func (i Issued) Claims() map[string]any { return maps.Clone(i.c.claims) }

// Binding is what a presentation is bound to.
type Binding struct {
	Audience string    // the verifier's full client id (OpenID4VP 1.0, B.3)
	Nonce    string    // from its request
	IssuedAt time.Time // by the verifier's clock where it is known: one's own tells machines apart
}

// Present shows the named claims and no others, bound to b by a signature of the
// credential's key. Disclosures stand in the order of their names.
func (i Issued) Present(claims []string, b Binding, key crypto.Signer) (string, error) {
	if i.c == nil || b.Audience == "" || b.Nonce == "" || b.IssuedAt.IsZero() {
		return "", errZero
	}
	if pub, ok := key.Public().(*ecdsa.PublicKey); !ok || !pub.Equal(i.c.key) {
		return "", fmt.Errorf("present: %w", ErrKey)
	}
	claims = slices.Clone(claims)
	slices.Sort(claims)
	var shown []string
	for _, name := range slices.Compact(claims) {
		d, ok := i.c.disclosures[name]
		if !ok {
			return "", fmt.Errorf("present %s: %w", name, ErrClaims)
		}
		shown = append(shown, d)
	}
	presented := join(i.c.jwt, shown)
	binding, err := sign(header{Type: keyBindingType}, marshal(keyBinding{b.IssuedAt.Unix(), b.Audience, b.Nonce, digestOf(presented)}), key)
	if err != nil {
		return "", fmt.Errorf("present: %w", err)
	}
	return presented + binding, nil
}

// keyBinding is the KB-JWT's payload (RFC 9901 4.3).
type keyBinding struct {
	IssuedAt int64  `json:"iat"`
	Audience string `json:"aud"`
	Nonce    string `json:"nonce"`
	Hash     string `json:"sd_hash"`
}
