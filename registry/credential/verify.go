package credential

import (
	"crypto/subtle"
	"maps"
	"time"
)

// Expect is what a website asked for.
type Expect struct {
	Authority
	Types    []string // vct values asked for
	Claims   []string // disclosable claims asked for: exactly these must be shown
	Audience string   // its own full client id
	Nonce    string   // of this request; the caller uses it up, whatever comes out
	Now      time.Time
}

// Credential is what a website may believe; only [Verify] makes it.
type Credential struct{ c *contents }

// Verify checks a presentation (SD-JWT with KB-JWT), cheap things first: form,
// issuer's certificate and signature, type, disclosures, claims, key binding
// (RFC 9901 7.3, OpenID4VP 1.0 8.6). What is left to the caller comes before, that
// the nonce is one of its own and unused; and after: [VerifiedStatusList.Check]. Errors wrap a
// [Refusal].
func Verify(presentation string, e Expect) (Credential, error) {
	if e.Audience == "" || e.Nonce == "" {
		return Credential{}, errZero
	}
	jwt, disclosures, binding, err := split(presentation)
	if err != nil {
		return Credential{}, err
	}
	// That a key binding is needed is said here, never by what came (RFC 9901 9.5).
	if binding == "" {
		return Credential{}, refuse(ErrKeyBinding, "none")
	}
	kb, err := parseJWS(binding, keyBindingType)
	if err != nil {
		return Credential{}, refuse(ErrKeyBinding, "%w", err)
	}
	c, err := open(jwt, disclosures, e.Authority, e.Types, e.Now)
	if err != nil {
		return Credential{}, err
	}
	// One that was not asked for is refused as well: nobody may come to store it.
	if !sameSet(sortedNames(c.claims), e.Claims) {
		return Credential{}, ErrClaims
	}
	p, err := kb.verify(c.key, credentialDepth)
	if err != nil {
		return Credential{}, refuse(ErrKeyBinding, "%w", err)
	}
	if aud, _ := p.Text("aud"); aud != e.Audience {
		return Credential{}, ErrAudience
	}
	nonce, _ := p.Text("nonce")
	if subtle.ConstantTimeCompare([]byte(nonce), []byte(e.Nonce)) != 1 {
		return Credential{}, ErrNonce
	}
	if _, err := fresh(p, e.Now); err != nil {
		return Credential{}, err
	}
	if hash, _ := p.Text("sd_hash"); hash != digestOf(presentation[:len(presentation)-len(binding)]) {
		return Credential{}, ErrHash
	}
	return Credential{c}, nil
}

// Valid is false for the zero value.
func (c Credential) Valid() bool { return c.c != nil }

// Issuer and Type are iss and vct.
func (c Credential) Issuer() string { return c.c.issuer }
func (c Credential) Type() string   { return c.c.vct }

// Expires is the end of its cohort.
func (c Credential) Expires() time.Time { return c.c.expires }

// Pseudonym is the holder at this site: the RFC 7638 thumbprint of its key.
func (c Credential) Pseudonym() [32]byte { return Thumbprint(c.c.key) }

// Claims are those that were shown: bool or string by name.
func (c Credential) Claims() map[string]any { return maps.Clone(c.c.claims) }

// Status is its place in a status list.
func (c Credential) Status() StatusRef { return c.c.status }

// IssuerJWT is the Issuer-signed JWT without disclosures: what a site keeps in
// order to ask the authority, where the law allows, who this is.
func (c Credential) IssuerJWT() string { return c.c.jwt }
