package record

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"

	"enrollkiosk/registry/internal/canonical"
)

// ErrKey says that a public key is of a kind that records do not use: P-256,
// Ed25519 and RSA of 2048 to 4096 bits with exponent 65537 are.
var ErrKey = errors.New("unsupported public key")

// JWK is a public key (RFC 7517, RFC 8037) in the members' lexical order, which
// makes its canonical bytes the input of its RFC 7638 thumbprint.
type JWK struct {
	Curve    string `json:"crv,omitzero"` // "P-256" or "Ed25519"
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
		if k.Curve != elliptic.P256() {
			break
		}
		point, err := k.Bytes()
		if err != nil {
			return JWK{}, fmt.Errorf("%w: %w", ErrKey, err)
		}
		return JWK{Type: "EC", Curve: "P-256", X: point[1:33], Y: point[33:]}, nil
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
		if len(j.X) != 32 || len(j.Y) != 32 {
			return nil, ErrKey
		}
		k, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), slices.Concat([]byte{4}, j.X, j.Y))
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrKey, err)
		}
		if j.Curve != "P-256" || len(j.Modulus)+len(j.Exponent) != 0 {
			return nil, ErrKey
		}
		return k, nil
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

// Multicodec prefixes of did:key, as varints: p256-pub 0x1200, ed25519-pub 0xed.
const (
	codecP256    = "\x80\x24"
	codecEd25519 = "\xed\x01"
	didPrefix    = "did:key:z"
	maxDID       = 80
)

// DIDKey is the did:key of pub: P-256 or Ed25519. Each key has exactly one.
func DIDKey(pub crypto.PublicKey) (string, error) {
	switch k := pub.(type) {
	case *ecdsa.PublicKey:
		if k.Curve != elliptic.P256() {
			break
		}
		point, err := k.Bytes()
		if err != nil {
			return "", fmt.Errorf("%w: %w", ErrKey, err)
		}
		compressed := append([]byte{2 | point[64]&1}, point[1:33]...)
		return didPrefix + base58(append([]byte(codecP256), compressed...)), nil
	case ed25519.PublicKey:
		if len(k) == ed25519.PublicKeySize {
			return didPrefix + base58(append([]byte(codecEd25519), k...)), nil
		}
	}
	return "", fmt.Errorf("did:key: %w (%T)", ErrKey, pub)
}

// ParseDIDKey is DIDKey's inverse; every other text is refused.
func ParseDIDKey(did string) (crypto.PublicKey, error) {
	encoded, ok := strings.CutPrefix(did, didPrefix)
	if !ok || len(did) > maxDID {
		return nil, fmt.Errorf("did:key: %w", ErrKey)
	}
	var pub crypto.PublicKey
	raw := string(parseBase58(encoded))
	if point, ok := strings.CutPrefix(raw, codecP256); ok {
		x, y := elliptic.UnmarshalCompressed(elliptic.P256(), []byte(point))
		if x == nil {
			return nil, fmt.Errorf("did:key: %w", ErrKey)
		}
		k, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), slices.Concat([]byte{4}, x.FillBytes(make([]byte, 32)), y.FillBytes(make([]byte, 32))))
		if err != nil {
			return nil, fmt.Errorf("did:key: %w: %w", ErrKey, err)
		}
		pub = k
	} else if key, ok := strings.CutPrefix(raw, codecEd25519); ok {
		pub = ed25519.PublicKey(key)
	}
	if again, err := DIDKey(pub); err != nil || again != did {
		return nil, fmt.Errorf("did:key: %w", ErrKey)
	}
	return pub, nil
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
