package credential

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"time"
)

// The kinds of JWT (typ), each with one accepting function.
const (
	credentialType  = "dc+sd-jwt"            // Accept, Verify
	keyBindingType  = "kb+jwt"               // Verify
	statusListType  = "statuslist+jwt"       // VerifyStatusList
	proofType       = "openid4vci-proof+jwt" // VerifyProofs
	attestationType = "key-attestation+jwt"  // VerifyProofs
	requestType     = "oauth-authz-req+jwt"  // VerifyRequest
	offerType       = "offer-request+jwt"    // VerifyOfferRequest
	algorithm       = "ES256"                // RFC 7518 3.4, the only one
	maxChain        = 4                      // certificates in x5c
)

var b64 = base64.RawURLEncoding.Strict()

// decode is base64url in its one spelling: no padding, no line breaks, no loose
// bits at the end.
func decode(s string) ([]byte, error) {
	if strings.ContainsAny(s, "\r\n") { // encoding/base64 skips them
		return nil, ErrForm
	}
	b, err := b64.DecodeString(s)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrForm, err)
	}
	return b, nil
}

// header is a protected header (RFC 7515 4). A key is named in one of three ways.
type header struct {
	Algorithm   string   `json:"alg"`
	Type        string   `json:"typ"`
	KeyID       string   `json:"kid,omitzero"`
	JWK         *jwk     `json:"jwk,omitzero"`
	Chain       []string `json:"x5c,omitzero"` // standard base64 of DER (RFC 7515 4.1.6)
	Attestation string   `json:"key_attestation,omitzero"`
}

// chain encodes certificates for x5c.
func chain(certs []*x509.Certificate) []string {
	var c []string
	for _, cert := range certs {
		c = append(c, base64.StdEncoding.EncodeToString(cert.Raw))
	}
	return c
}

// sign makes a compact JWS (RFC 7515 7.1) of payload. The signer may be a token's
// key; then its signature is verified, so that a faulty device is noticed here.
func sign(h header, payload []byte, key crypto.Signer) (string, error) {
	pub, ok := key.Public().(*ecdsa.PublicKey)
	if !ok || pub.Curve != elliptic.P256() {
		return "", fmt.Errorf("sign %s: %w", h.Type, ErrKey)
	}
	h.Algorithm = algorithm
	input := b64.EncodeToString(marshal(h)) + "." + b64.EncodeToString(payload)
	digest := sha256.Sum256([]byte(input))
	der, err := key.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil {
		return "", fmt.Errorf("sign %s: %w", h.Type, err)
	}
	var rs struct{ R, S *big.Int }
	_, inMemory := key.(*ecdsa.PrivateKey)
	if rest, err := asn1.Unmarshal(der, &rs); err != nil || len(rest) > 0 || !inMemory && !ecdsa.VerifyASN1(pub, digest[:], der) {
		return "", fmt.Errorf("sign %s: the device's own signature: %w", h.Type, ErrSignature)
	}
	raw := make([]byte, 64)
	rs.R.FillBytes(raw[:32])
	rs.S.FillBytes(raw[32:])
	return input + "." + b64.EncodeToString(raw), nil
}

// unverified is a compact JWS whose header is parsed. Only verify gives its
// payload away.
type unverified struct {
	header  Object
	input   string // what is signed
	payload string
	sig     [64]byte
}

// parseJWS checks form, typ, alg and crit (RFC 7515 5.2, RFC 8725 3.1 and 3.11).
func parseJWS(s, typ string) (unverified, error) {
	parts := strings.Split(s, ".")
	if len(parts) != 3 {
		return unverified{}, refuse(ErrForm, "%s: %d parts", typ, len(parts))
	}
	raw, err := decode(parts[0])
	if err != nil {
		return unverified{}, fmt.Errorf("%s: header: %w", typ, err)
	}
	u := unverified{input: s[:len(parts[0])+1+len(parts[1])], payload: parts[1]}
	if u.header, err = ParseObject(raw, credentialDepth); err != nil {
		return unverified{}, fmt.Errorf("%s: header: %w", typ, err)
	}
	if t, _ := u.header.Text("typ"); t != typ {
		return unverified{}, refuse(ErrType, "not %s", typ)
	}
	if alg, _ := u.header.Text("alg"); alg != algorithm {
		return unverified{}, fmt.Errorf("%s: %w", typ, ErrAlgorithm)
	}
	if _, ok := u.header["crit"]; ok {
		return unverified{}, fmt.Errorf("%s: %w", typ, ErrCritical)
	}
	sig, err := decode(parts[2])
	if err != nil || len(sig) != len(u.sig) {
		return unverified{}, refuse(ErrSignature, "%s: %d bytes", typ, len(sig))
	}
	u.sig = [64]byte(sig)
	return u, nil
}

// verify checks the signature and only then parses the payload.
func (u unverified) verify(pub *ecdsa.PublicKey, depth int) (Object, error) {
	if pub == nil || pub.Curve != elliptic.P256() {
		return nil, ErrKey
	}
	digest := sha256.Sum256([]byte(u.input))
	if !ecdsa.VerifyASN1(pub, digest[:], sigValue(u.sig)) {
		return nil, ErrSignature
	}
	raw, err := decode(u.payload)
	if err != nil {
		return nil, err
	}
	return ParseObject(raw, depth)
}

// sigValue is the DER of r and s (RFC 3279 2.2.3), each as short as DER wants it.
func sigValue(sig [64]byte) []byte {
	der := make([]byte, 2, 72)
	for _, half := range [][]byte{sig[:32], sig[32:]} {
		for len(half) > 1 && half[0] == 0 {
			half = half[1:]
		}
		if half[0] >= 0x80 {
			der = append(der, 0x02, byte(len(half)+1), 0)
		} else {
			der = append(der, 0x02, byte(len(half)))
		}
		der = append(der, half...)
	}
	der[0], der[1] = 0x30, byte(len(der)-2)
	return der
}

// leaf verifies the header's x5c to roots at the time now and returns its first
// certificate. The root must not be in it, nor a self-signed leaf (HAIP 6.1.1).
func (u unverified) leaf(roots *x509.CertPool, now time.Time) (*x509.Certificate, error) {
	list, ok := u.header.Texts("x5c")
	if !ok || len(list) == 0 || len(list) > maxChain {
		return nil, refuse(ErrChain, "%d certificates", len(list))
	}
	if roots == nil {
		return nil, refuse(ErrChain, "no roots")
	}
	certs := make([]*x509.Certificate, len(list))
	var between *x509.CertPool
	for i, text := range list {
		der, err := base64.StdEncoding.Strict().DecodeString(text)
		if err != nil || base64.StdEncoding.EncodedLen(len(der)) != len(text) {
			return nil, refuse(ErrChain, "x5c %d: no base64", i)
		}
		if certs[i], err = x509.ParseCertificate(der); err != nil {
			return nil, refuse(ErrChain, "x5c %d: %w", i, err)
		}
		if string(certs[i].RawSubject) == string(certs[i].RawIssuer) {
			return nil, refuse(ErrChain, "x5c %d is self-signed", i)
		}
		if i > 0 {
			if between == nil {
				between = x509.NewCertPool()
			}
			between.AddCert(certs[i])
		}
	}
	leaf := certs[0]
	if leaf.IsCA {
		return nil, refuse(ErrChain, "the leaf is a CA")
	}
	if leaf.KeyUsage&x509.KeyUsageDigitalSignature == 0 {
		return nil, refuse(ErrChain, "the leaf is not for signatures")
	}
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrChain, err)
	}
	return leaf, nil
}

func keyOf(cert *x509.Certificate) (*ecdsa.PublicKey, error) {
	pub, ok := cert.PublicKey.(*ecdsa.PublicKey)
	if !ok || pub.Curve != elliptic.P256() {
		return nil, ErrKey
	}
	return pub, nil
}

// names reports whether the certificate has uri as a subject alternative name.
func names(cert *x509.Certificate, uri string) bool {
	for _, u := range cert.URIs {
		if u.String() == uri {
			return true
		}
	}
	return false
}

// fresh checks an iat.
func fresh(payload Object, now time.Time) (time.Time, error) {
	iat, ok := payload.Whole("iat")
	at := time.Unix(iat, 0).UTC()
	if age := now.Sub(at); !ok || age > Skew || age < -Skew {
		return time.Time{}, ErrTime
	}
	return at, nil
}

var errZero = errors.New("credential: zero value")
