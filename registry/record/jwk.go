package record

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"

	"enrollkiosk/registry/internal/canonical"
)

// ErrKey says that a public key is of a kind that records do not use: P-256,
// P-384, Ed25519 and RSA of 2048 to 4096 bits with exponent 65537 are.
var ErrKey = errors.New("unsupported public key")

// JWK is a public key (RFC 7517, RFC 8037) in the members' lexical order, which
// makes its canonical bytes the input of its RFC 7638 thumbprint.
type JWK struct {
	Curve    string `json:"crv,omitzero"` // "P-256", "P-384" or "Ed25519"
	Exponent []byte `json:"e,omitzero"`
	Type     string `json:"kty"` // "EC", "OKP" or "RSA"
	Modulus  []byte `json:"n,omitzero"`
	X        []byte `json:"x,omitzero"`
	Y        []byte `json:"y,omitzero"`
}

var exponent = []byte{1, 0, 1}

// NewJWK encodes pub.
func NewJWK(pub crypto.PublicKey) (JWK, error) {
	switch k := pub.(type) {
	case *ecdsa.PublicKey:
		if k.Curve != elliptic.P256() && k.Curve != elliptic.P384() {
			break
		}
		point, err := k.Bytes()
		if err != nil {
			return JWK{}, fmt.Errorf("%w: %w", ErrKey, err)
		}
		x, y := point[1:1+len(point)/2], point[1+len(point)/2:]
		return JWK{Type: "EC", Curve: k.Params().Name, X: x, Y: y}, nil
	case ed25519.PublicKey:
		if len(k) == ed25519.PublicKeySize {
			return JWK{Type: "OKP", Curve: "Ed25519", X: k}, nil
		}
	case *rsa.PublicKey:
		if n := k.N.BitLen(); n >= 2048 && n <= 4096 && k.E == 65537 {
			return JWK{Type: "RSA", Modulus: k.N.Bytes(), Exponent: exponent}, nil
		}
	}
	return JWK{}, fmt.Errorf("%w (%T)", ErrKey, pub)
}

// Public decodes the key: *ecdsa.PublicKey, ed25519.PublicKey or *rsa.PublicKey.
func (j JWK) Public() (crypto.PublicKey, error) {
	var pub crypto.PublicKey
	switch j.Type {
	case "EC":
		curve := elliptic.P256()
		if j.Curve == "P-384" {
			curve = elliptic.P384()
		}
		if size := curve.Params().BitSize / 8; len(j.X) != size || len(j.Y) != size {
			return nil, ErrKey
		}
		k, err := ecdsa.ParseUncompressedPublicKey(curve, slices.Concat([]byte{4}, j.X, j.Y))
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrKey, err)
		}
		pub = k
	case "OKP":
		pub = ed25519.PublicKey(j.X)
	case "RSA":
		pub = &rsa.PublicKey{N: new(big.Int).SetBytes(j.Modulus), E: 65537}
	default:
		return nil, ErrKey
	}
	// One key has one encoding.
	if again, err := NewJWK(pub); err != nil || !again.Equal(j) {
		return nil, ErrKey
	}
	return pub, nil
}

// Equal reports whether both hold the same members.
func (j JWK) Equal(o JWK) bool {
	return j.Type == o.Type && j.Curve == o.Curve && string(j.X) == string(o.X) && string(j.Y) == string(o.Y) &&
		string(j.Modulus) == string(o.Modulus) && string(j.Exponent) == string(o.Exponent)
}

// Thumbprint is the RFC 7638 thumbprint with SHA-256.
func (j JWK) Thumbprint() [32]byte { return sha256.Sum256(canonical.Marshal(j)) }

func samePublic(a, b crypto.PublicKey) bool {
	k, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && k.Equal(b)
}

// Multicodec prefixes of did:key, as varints: p256-pub 0x1200, p384-pub 0x1201,
// ed25519-pub 0xed, rsa-pub 0x1205. A did:key with RSA of 4096 bits has 730
// characters.
const (
	codecP256    = "\x80\x24"
	codecP384    = "\x81\x24"
	codecEd25519 = "\xed\x01"
	codecRSA     = "\x85\x24"
	didPrefix    = "did:key:z"
	maxDID       = 730
)

// DIDKey is the did:key of pub: a compressed point, an Ed25519 key, or an
// RSAPublicKey in DER (RFC 8017 A.1.1). Each key of a kind that records use has
// exactly one.
func DIDKey(pub crypto.PublicKey) (string, error) {
	if _, err := NewJWK(pub); err != nil {
		return "", fmt.Errorf("did:key: %w", err)
	}
	var raw []byte
	switch k := pub.(type) {
	case *ecdsa.PublicKey:
		codec := codecP256
		if k.Curve == elliptic.P384() {
			codec = codecP384
		}
		point, err := k.Bytes()
		if err != nil {
			return "", fmt.Errorf("did:key: %w: %w", ErrKey, err)
		}
		sign := 2 | point[len(point)-1]&1
		raw = slices.Concat([]byte(codec), []byte{sign}, point[1:1+len(point)/2])
	case ed25519.PublicKey:
		raw = slices.Concat([]byte(codecEd25519), k)
	case *rsa.PublicKey:
		raw = slices.Concat([]byte(codecRSA), x509.MarshalPKCS1PublicKey(k))
	}
	return didPrefix + base58(raw), nil
}

// ParseDIDKey is DIDKey's inverse; every other text is refused.
func ParseDIDKey(did string) (crypto.PublicKey, error) {
	encoded, ok := strings.CutPrefix(did, didPrefix)
	if !ok || len(did) > maxDID {
		return nil, fmt.Errorf("did:key: %w", ErrKey)
	}
	pub, err := decodeKey(string(parseBase58(encoded)))
	if err != nil {
		return nil, fmt.Errorf("did:key: %w: %w", ErrKey, err)
	}
	if again, err := DIDKey(pub); err != nil || again != did {
		return nil, fmt.Errorf("did:key: %w", ErrKey)
	}
	return pub, nil
}

// decodeKey reads a key behind its codec; nil for another codec.
func decodeKey(raw string) (crypto.PublicKey, error) {
	if point, ok := strings.CutPrefix(raw, codecP256); ok {
		return decompress(elliptic.P256(), []byte(point))
	}
	if point, ok := strings.CutPrefix(raw, codecP384); ok {
		return decompress(elliptic.P384(), []byte(point))
	}
	if key, ok := strings.CutPrefix(raw, codecEd25519); ok {
		return ed25519.PublicKey(key), nil
	}
	if der, ok := strings.CutPrefix(raw, codecRSA); ok {
		return x509.ParsePKCS1PublicKey([]byte(der))
	}
	return nil, nil
}

func decompress(curve elliptic.Curve, point []byte) (crypto.PublicKey, error) {
	x, y := elliptic.UnmarshalCompressed(curve, point)
	if x == nil {
		return nil, errors.New("no point of the curve")
	}
	size := curve.Params().BitSize / 8
	return ecdsa.ParseUncompressedPublicKey(curve, slices.Concat([]byte{4}, x.FillBytes(make([]byte, size)), y.FillBytes(make([]byte, size))))
}

// base58 with the Bitcoin alphabet. Inputs never start with a zero byte, so the
// rule for leading zeros is not needed.
const alphabet58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"

var fiftyEight = big.NewInt(58)

func base58(b []byte) string {
	var out []byte
	for n, digit := new(big.Int).SetBytes(b), new(big.Int); n.Sign() > 0; {
		n.DivMod(n, fiftyEight, digit)
		out = append(out, alphabet58[digit.Int64()])
	}
	slices.Reverse(out)
	return string(out)
}

// parseBase58 returns nil for a foreign character.
func parseBase58(s string) []byte {
	n := new(big.Int)
	for i := range len(s) {
		digit := strings.IndexByte(alphabet58, s[i])
		if digit < 0 {
			return nil
		}
		n.Add(n.Mul(n, fiftyEight), big.NewInt(int64(digit)))
	}
	return n.Bytes()
}
