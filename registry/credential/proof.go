package credential

import (
	"crypto"
	"crypto/ecdsa"
	"fmt"
	"strings"
	"time"
)

// MaxBatch is the largest number of credentials of one request.
const MaxBatch = 50

// Where the batch's keys live (OpenID4VCI 1.0 App. D, key_storage), behind the
// issuer's id. Never a level of ISO 18045: a derived key is in the host's memory
// for one signature.
const (
	DerivedFromPIV = "/key-storage/derived-from-piv"
	TPMResident    = "/key-storage/tpm-resident"
)

// attestation is a key attestation's payload: the holder's enrolled key vouches for
// the keys of a batch (OpenID4VCI 1.0 App. D.1).
type attestation struct {
	IssuedAt int64    `json:"iat"`
	Expires  int64    `json:"exp"`
	Nonce    string   `json:"nonce"`
	Keys     []jwk    `json:"attested_keys"`
	Storage  []string `json:"key_storage"`
}

type proofPayload struct {
	Audience string `json:"aud"`
	IssuedAt int64  `json:"iat"`
	Nonce    string `json:"nonce"`
}

// Batch is a request for credentials: one for each key.
type Batch struct {
	Issuer  string // credential issuer identifier: aud
	DID     string // the holder's, did:key
	Nonce   string // c_nonce
	Storage string // DerivedFromPIV or TPMResident
	Now     time.Time
}

// SignAttestation has the holder's enrolled key (9A of a PIV token: one touch) list
// the batch's keys, in order.
func (b Batch) SignAttestation(enrolled crypto.Signer, keys []*ecdsa.PublicKey) (string, error) {
	a := attestation{b.Now.Unix(), b.Now.Add(Skew).Unix(), b.Nonce, nil, []string{b.Issuer + b.Storage}}
	for _, k := range keys {
		j, err := newJWK(k)
		if err != nil {
			return "", fmt.Errorf("attest keys: %w", err)
		}
		a.Keys = append(a.Keys, j)
	}
	return sign(header{Type: attestationType, KeyID: keyID(b.DID)}, marshal(a), enrolled)
}

// SignProof proves possession of one key of the batch (OpenID4VCI 1.0 App. F.1).
// The first proof carries the attestation, the others none.
func (b Batch) SignProof(key crypto.Signer, attestation string) (string, error) {
	pub, ok := key.Public().(*ecdsa.PublicKey)
	if !ok {
		return "", fmt.Errorf("prove possession: %w", ErrKey)
	}
	j, err := newJWK(pub)
	if err != nil {
		return "", fmt.Errorf("prove possession: %w", err)
	}
	return sign(header{Type: proofType, JWK: &j, Attestation: attestation}, marshal(proofPayload{b.Issuer, b.Now.Unix(), b.Nonce}), key)
}

// keyID is the DID URL of a did:key's only key.
func keyID(did string) string {
	const prefix = "did:key:"
	if len(did) <= len(prefix) {
		return ""
	}
	return did + "#" + did[len(prefix):]
}

// ExpectBatch is what an issuer knows of a request before it looks.
type ExpectBatch struct {
	Issuer string                  // its own id
	DID    string                  // that the access token was given to
	Key    crypto.PublicKey        // of the record that is active under this DID
	Nonce  func(nonce string) bool // uses it up; false if it was never given out, or is used or old
	Now    time.Time
}

// Proven are keys whose possession was proved and which an enrolled key vouches
// for; only [VerifyProofs] makes it.
type Proven struct {
	keys    []*ecdsa.PublicKey
	storage []string
}

// Keys are the batch's, in the order of its proofs.
func (p Proven) Keys() []*ecdsa.PublicKey { return p.keys }

// Storage is where the holder says they live.
func (p Proven) Storage() []string { return p.storage }

// VerifyProofs checks the proofs of a credential request: the attestation in the
// first by the enrolled key, every proof by its own key, one nonce in all, the set
// of keys equal to the attested one, all different. The nonce is used up last, so
// that nobody can use up another's.
func VerifyProofs(proofs []string, e ExpectBatch) (Proven, error) {
	if e.Issuer == "" || e.DID == "" || e.Nonce == nil || e.Now.IsZero() {
		return Proven{}, errZero
	}
	if len(proofs) == 0 || len(proofs) > MaxBatch {
		return Proven{}, refuse(ErrSize, "%d proofs", len(proofs))
	}
	first, err := parseProof(proofs[0])
	if err != nil {
		return Proven{}, err
	}
	text, _ := first.header.Text("key_attestation")
	attested, nonce, storage, err := verifyAttestation(text, e)
	if err != nil {
		return Proven{}, err
	}
	if len(attested) != len(proofs) {
		return Proven{}, refuse(ErrAttestation, "%d proofs of %d keys", len(proofs), len(attested))
	}
	seen := map[[32]byte]bool{}
	p := Proven{storage: storage}
	for i, proof := range proofs {
		key, err := verifyProof(proof, i == 0, nonce, e)
		if err != nil {
			return Proven{}, fmt.Errorf("proof %d: %w", i, err)
		}
		if !key.Equal(attested[i]) || seen[Thumbprint(key)] || key.Equal(e.Key) {
			return Proven{}, fmt.Errorf("proof %d: %w", i, ErrAttestation)
		}
		seen[Thumbprint(key)] = true
		p.keys = append(p.keys, key)
	}
	if !e.Nonce(nonce) {
		return Proven{}, ErrNonce
	}
	return p, nil
}

func parseProof(proof string) (unverified, error) {
	if len(proof) > MaxPresentation {
		return unverified{}, refuse(ErrSize, "%d bytes", len(proof))
	}
	return parseJWS(proof, proofType)
}

// verifyProof checks one proof under the key in its own header.
func verifyProof(proof string, first bool, nonce string, e ExpectBatch) (*ecdsa.PublicKey, error) {
	u, err := parseProof(proof)
	if err != nil {
		return nil, err
	}
	if _, there := u.header["key_attestation"]; there != first {
		return nil, ErrAttestation
	}
	o, _ := u.header.Object("jwk")
	key, err := parseJWK(o, false)
	if err != nil {
		return nil, err
	}
	p, err := u.verify(key, credentialDepth)
	if err != nil {
		return nil, err
	}
	if aud, _ := p.Text("aud"); aud != e.Issuer {
		return nil, ErrAudience
	}
	if n, _ := p.Text("nonce"); n != nonce {
		return nil, ErrNonce
	}
	// iss is the client's id, and there is none (OpenID4VCI 1.0 F.1).
	if _, there := p["iss"]; there {
		return nil, refuse(ErrForm, "iss")
	}
	_, err = fresh(p, e.Now)
	return key, err
}

func verifyAttestation(text string, e ExpectBatch) (keys []*ecdsa.PublicKey, nonce string, storage []string, err error) {
	enrolled, ok := e.Key.(*ecdsa.PublicKey)
	if !ok {
		return nil, "", nil, ErrKey
	}
	u, err := parseJWS(text, attestationType)
	if err != nil {
		return nil, "", nil, fmt.Errorf("key attestation: %w", err)
	}
	if kid, _ := u.header.Text("kid"); kid != keyID(e.DID) {
		return nil, "", nil, refuse(ErrKey, "key attestation of another holder")
	}
	p, err := u.verify(enrolled, credentialDepth)
	if err != nil {
		return nil, "", nil, fmt.Errorf("key attestation: %w", err)
	}
	if _, err := fresh(p, e.Now); err != nil {
		return nil, "", nil, fmt.Errorf("key attestation: %w", err)
	}
	if exp, ok := p.Whole("exp"); !ok || !time.Unix(exp, 0).After(e.Now) {
		return nil, "", nil, fmt.Errorf("key attestation: %w", ErrExpired)
	}
	if nonce, ok = p.Text("nonce"); !ok || nonce == "" {
		return nil, "", nil, fmt.Errorf("key attestation: %w", ErrNonce)
	}
	list, _ := p.List("attested_keys")
	for _, v := range list {
		o, _ := v.(Object)
		k, err := parseJWK(o, false)
		if err != nil {
			return nil, "", nil, fmt.Errorf("key attestation: %w", err)
		}
		keys = append(keys, k)
	}
	storage, _ = p.Texts("key_storage")
	return keys, nonce, storage, nil
}

// offer is the payload of a request for a credential offer.
type offer struct {
	DID      string `json:"did"`
	Audience string `json:"aud"`
	IssuedAt int64  `json:"iat"`
	Nonce    string `json:"nonce"`
}

// SignOfferRequest asks the issuer for an offer, signed by the enrolled key.
func (b Batch) SignOfferRequest(enrolled crypto.Signer) (string, error) {
	return sign(header{Type: offerType, KeyID: keyID(b.DID)}, marshal(offer{b.DID, b.Issuer, b.Now.Unix(), b.Nonce}), enrolled)
}

// OfferRequest is a verified one; only [VerifyOfferRequest] makes it.
type OfferRequest struct{ did, nonce string }

// DID is the holder's; Nonce is the c_nonce that the issuer must still use up.
func (r OfferRequest) DID() string   { return r.did }
func (r OfferRequest) Nonce() string { return r.nonce }

// VerifyOfferRequest checks a request for an offer. key finds the public key of an
// active record by its DID; what it returns as an error comes back.
func VerifyOfferRequest(jwt, issuer string, now time.Time, key func(did string) (crypto.PublicKey, error)) (OfferRequest, error) {
	if issuer == "" || now.IsZero() {
		return OfferRequest{}, errZero
	}
	if len(jwt) > MaxPresentation {
		return OfferRequest{}, refuse(ErrSize, "%d bytes", len(jwt))
	}
	u, err := parseJWS(jwt, offerType)
	if err != nil {
		return OfferRequest{}, err
	}
	// The DID is not believed before it is in the signed payload as well.
	kid, _ := u.header.Text("kid")
	did, _, _ := strings.Cut(kid, "#")
	if did == "" || kid != keyID(did) {
		return OfferRequest{}, refuse(ErrKey, "kid")
	}
	pub, err := key(did)
	if err != nil {
		return OfferRequest{}, err
	}
	k, _ := pub.(*ecdsa.PublicKey)
	p, err := u.verify(k, credentialDepth)
	if err != nil {
		return OfferRequest{}, err
	}
	if signed, _ := p.Text("did"); signed != did {
		return OfferRequest{}, refuse(ErrKey, "did")
	}
	if aud, _ := p.Text("aud"); aud != issuer {
		return OfferRequest{}, ErrAudience
	}
	if _, err := fresh(p, now); err != nil {
		return OfferRequest{}, err
	}
	nonce, _ := p.Text("nonce")
	if nonce == "" {
		return OfferRequest{}, ErrNonce
	}
	return OfferRequest{did, nonce}, nil
}
