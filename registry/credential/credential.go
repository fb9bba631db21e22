// Package credential is the wire of signing in: credentials that the issuer
// signs in batches (SD-JWT VC, RFC 9901), presentations that a holder makes of
// them, status lists, and the signed messages of issuing and asking
// (OpenID4VCI 1.0, OpenID4VP 1.0). It builds, parses strictly and verifies.
//
// The way of a credential: [Issuer.Issue] -> [Accept] at the holder -> [Issued]
// -> [Issued.Present] -> [Verify] at the website -> [Credential] -> [VerifiedStatusList.Check].
//
// Invariants: [Issued], [Credential], [Request] and the other verified types are
// made by their verifying function alone; their zero values are valid nowhere.
// Each kind of JWT has one accepting function, which demands its typ, ES256 and
// P-256, and a header's key or certificate is used only where that function says
// so. Every JSON text is read by [ParseObject]. Nothing is read of a JWT's
// payload before its signature is good.
//
// Non-goals: fetching, storing, single use of nonces (the caller's store does
// that), nested or recursive disclosures, disclosures in arrays, the JWS JSON
// serialization. They are refused.
package credential

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"fmt"
	"time"
)

// Refusal is why something was not accepted: a code for logs, with a sentence. To
// a stranger all refusals should look alike.
type Refusal string

// What is refused; errors wrap one of them.
const (
	ErrSize        Refusal = "credential-size"
	ErrForm        Refusal = "credential-form"
	ErrJSON        Refusal = "credential-json"
	ErrType        Refusal = "credential-typ"
	ErrAlgorithm   Refusal = "credential-alg"
	ErrCritical    Refusal = "credential-crit"
	ErrKey         Refusal = "credential-key"
	ErrChain       Refusal = "credential-chain"
	ErrIssuer      Refusal = "credential-issuer"
	ErrSignature   Refusal = "credential-signature"
	ErrVCT         Refusal = "credential-vct"
	ErrExpired     Refusal = "credential-expired"
	ErrDisclosure  Refusal = "credential-disclosure"
	ErrDigest      Refusal = "credential-digest"
	ErrClaims      Refusal = "credential-claims"
	ErrKeyBinding  Refusal = "credential-key-binding"
	ErrAudience    Refusal = "credential-audience"
	ErrNonce       Refusal = "credential-nonce"
	ErrTime        Refusal = "credential-time"
	ErrHash        Refusal = "credential-sd-hash"
	ErrStatus      Refusal = "credential-status"
	ErrStatusList  Refusal = "credential-status-list"
	ErrTagged      Refusal = "credential-tagged"
	ErrEscrow      Refusal = "credential-escrow"
	ErrQuery       Refusal = "credential-query"
	ErrOverask     Refusal = "credential-overask"
	ErrClientID    Refusal = "credential-client-id"
	ErrSite        Refusal = "credential-site"
	ErrRequest     Refusal = "credential-request"
	ErrResponse    Refusal = "credential-response"
	ErrAttestation Refusal = "credential-attestation"
)

var sentences = map[Refusal]string{
	ErrSize:        "longer than allowed",
	ErrForm:        "not the compact form",
	ErrJSON:        "not strict JSON",
	ErrType:        "another kind of token (typ)",
	ErrAlgorithm:   "not signed with ES256",
	ErrCritical:    "has a critical header that is not understood",
	ErrKey:         "no P-256 public key, or another one than expected",
	ErrChain:       "the certificate is not of the expected authority, or not valid now",
	ErrIssuer:      "the certificate does not name this issuer",
	ErrSignature:   "the signature does not verify",
	ErrVCT:         "a type of credential that was not asked for, or that this issuer may not issue",
	ErrExpired:     "expired",
	ErrDisclosure:  "a disclosure is malformed, or its name is taken",
	ErrDigest:      "the disclosures do not fit the signed digests",
	ErrClaims:      "the claims shown are not the claims asked for, or one is missing",
	ErrKeyBinding:  "not bound to the holder's key",
	ErrAudience:    "made for somebody else",
	ErrNonce:       "answers another request",
	ErrTime:        "made too long ago, or in the future",
	ErrHash:        "the key binding is of another presentation",
	ErrStatus:      "revoked",
	ErrStatusList:  "the status list is malformed, of another issuer, or too old",
	ErrTagged:      "holds something that sets this credential apart from others",
	ErrEscrow:      "the escrow does not open",
	ErrQuery:       "the query asks in a way that is not supported",
	ErrOverask:     "the site asks for more than it is registered for",
	ErrClientID:    "the client id does not fit the certificate",
	ErrSite:        "the site's certificate does not fit its addresses",
	ErrRequest:     "the request is malformed",
	ErrResponse:    "the response does not decrypt, or is malformed",
	ErrAttestation: "the key attestation does not list these keys",
}

func (r Refusal) Error() string { return string(r) + ": " + sentences[r] }

func refuse(r Refusal, format string, args ...any) error {
	return fmt.Errorf("%w: %w", r, fmt.Errorf(format, args...))
}

// Limits of what is read.
const (
	MaxPresentation = 16 << 10 // bytes
	MaxDisclosures  = 16
	MaxRequest      = 32 << 10 // bytes of a request object
	MaxResponse     = 64 << 10 // bytes of an encrypted response

	// Skew is how far a holder's or a site's clock may be off.
	Skew = 5 * time.Minute

	credentialDepth = 4 // of JSON in credentials and proofs
	requestDepth    = 8 // of JSON in a request object: a DCQL path lies at 7
)

// jwk is a P-256 public key (RFC 7517, RFC 7518 6.2.1), its members in the order
// that makes it the input of its RFC 7638 thumbprint.
type jwk struct {
	Curve string `json:"crv"`
	Type  string `json:"kty"`
	X     string `json:"x"`
	Y     string `json:"y"`
}

func newJWK(pub *ecdsa.PublicKey) (jwk, error) {
	if pub == nil || pub.Curve != elliptic.P256() {
		return jwk{}, ErrKey
	}
	point, err := pub.Bytes()
	if err != nil {
		return jwk{}, fmt.Errorf("%w: %w", ErrKey, err)
	}
	return jwk{"P-256", "EC", b64.EncodeToString(point[1:33]), b64.EncodeToString(point[33:])}, nil
}

// parseJWK reads a public key; a private one, another kind, and members beyond
// those that are allowed are refused. Without allowed, any other member is ignored.
func parseJWK(o Object, only bool) (*ecdsa.PublicKey, error) {
	kty, _ := o.Text("kty")
	crv, _ := o.Text("crv")
	x, okX := o.Text("x")
	y, okY := o.Text("y")
	if _, private := o["d"]; private || kty != "EC" || crv != "P-256" || !okX || !okY || only && len(o) != 4 {
		return nil, ErrKey
	}
	rawX, errX := decode(x)
	rawY, errY := decode(y)
	if errX != nil || errY != nil || len(rawX) != 32 || len(rawY) != 32 {
		return nil, ErrKey
	}
	pub, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), append(append([]byte{4}, rawX...), rawY...))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKey, err)
	}
	return pub, nil
}

// Thumbprint is the RFC 7638 thumbprint with SHA-256 of a P-256 key: at a site, a
// holder's pseudonym. It is zero for another key.
func Thumbprint(pub *ecdsa.PublicKey) [32]byte {
	j, err := newJWK(pub)
	if err != nil {
		return [32]byte{}
	}
	return sha256.Sum256(marshal(j))
}
