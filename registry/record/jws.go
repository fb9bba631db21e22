package record

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/asn1"
	"encoding/base64"
	"errors"
	"fmt"
	"math/big"

	"enrollkiosk/registry/internal/canonical"
)

// header is a protected header (RFC 7515 4): of a record's signature with role,
// of every other signature of ours without.
type header struct {
	Algorithm string   `json:"alg"`
	Type      string   `json:"typ"`
	Role      Role     `json:"role,omitzero"`
	JWK       JWK      `json:"jwk,omitzero"`
	X5C       []string `json:"x5c,omitzero"`  // standard base64, as RFC 7515 4.1.6 has it
	Prev      [32]byte `json:"prev,omitzero"` // kiosk: SHA-256 of the earlier signatures, concatenated
}

// Algorithms (RFC 7518 3.1, RFC 8037 3.1); ES384 goes with P-384 alone, ES256 with
// P-256 alone.
const (
	es256 = "ES256"
	es384 = "ES384"
	eddsa = "EdDSA"
	rs256 = "RS256"
	ps256 = "PS256"
)

var b64 = base64.RawURLEncoding.Strict()

// signingInput appends RFC 7515 5.1 step 5 to b; payload is encoded already.
func signingInput(b, protected, payload []byte) []byte {
	b = b64.AppendEncode(b, protected)
	b = append(b, '.')
	return append(b, payload...)
}

func algorithm(s Signer) (string, error) {
	if _, err := NewJWK(s.Public()); err != nil {
		return "", err
	}
	switch k := s.Public().(type) {
	case *ecdsa.PublicKey:
		if k.Curve == elliptic.P384() {
			return es384, nil
		}
		return es256, nil
	case ed25519.PublicKey:
		return eddsa, nil
	}
	if p, ok := s.(PSSSigner); ok && p.PSS() {
		return ps256, nil
	}
	return rs256, nil
}

// digest is what a key signs for input: see Signer.
func digest(alg string, input []byte) []byte {
	switch alg {
	case eddsa:
		return input
	case es384:
		d := sha512.Sum384(input)
		return d[:]
	}
	d := sha256.Sum256(input)
	return d[:]
}

// coordinate is the size of r and of s in an ECDSA signature (RFC 7518 3.4); 0
// for other algorithms.
func coordinate(alg string) int {
	switch alg {
	case es256:
		return 32
	case es384:
		return 48
	}
	return 0
}

// sign makes a JWS signature and verifies it, so that a faulty or swapped device
// is noticed here and not at the registry.
func sign(ctx context.Context, s Signer, alg string, input []byte) ([]byte, error) {
	sig, err := s.Sign(ctx, digest(alg, input))
	if err != nil {
		return nil, err
	}
	if size := coordinate(alg); size > 0 {
		var rs struct{ R, S *big.Int }
		if rest, err := asn1.Unmarshal(sig, &rs); err != nil || len(rest) > 0 || rs.R.Sign() <= 0 || rs.S.Sign() <= 0 || rs.R.BitLen() > 8*size || rs.S.BitLen() > 8*size {
			return nil, fail(CodeSignature, "the device returned no ECDSA signature")
		}
		sig = make([]byte, 2*size)
		rs.R.FillBytes(sig[:size])
		rs.S.FillBytes(sig[size:])
	}
	if err := verify(alg, s.Public(), input, sig); err != nil {
		return nil, fail(CodeSignature, "the device's own signature: %w", err)
	}
	return sig, nil
}

var errSignature = errors.New("signature does not verify")

func verify(alg string, pub crypto.PublicKey, input, sig []byte) error {
	good := false
	message := digest(alg, input)
	switch k := pub.(type) {
	case *ecdsa.PublicKey:
		// A curve has one algorithm: its own.
		size := coordinate(alg)
		if 8*size == k.Params().BitSize && len(sig) == 2*size {
			good = ecdsa.VerifyASN1(k, message, ecdsaSigValue(sig[:size], sig[size:]))
		}
	case ed25519.PublicKey:
		good = alg == eddsa && ed25519.Verify(k, message, sig)
	case *rsa.PublicKey:
		switch alg {
		case rs256:
			good = rsa.VerifyPKCS1v15(k, crypto.SHA256, message, sig) == nil
		case ps256:
			good = rsa.VerifyPSS(k, crypto.SHA256, message, sig, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}) == nil
		}
	}
	if !good {
		return errSignature
	}
	return nil
}

// ecdsaSigValue is the DER of r and s (RFC 3279 2.2.3). encoding/asn1 takes a tenth
// as long for it as the curve does for the whole signature.
func ecdsaSigValue(r, s []byte) []byte {
	integers := appendInteger(appendInteger(make([]byte, 0, 2*(3+len(r))), r), s)
	return append([]byte{0x30, byte(len(integers))}, integers...) // at most 102 bytes: a short length
}

func appendInteger(b, unsigned []byte) []byte {
	for len(unsigned) > 1 && unsigned[0] == 0 {
		unsigned = unsigned[1:]
	}
	if unsigned[0] >= 0x80 {
		return append(append(b, 0x02, byte(len(unsigned)+1), 0), unsigned...)
	}
	return append(append(b, 0x02, byte(len(unsigned))), unsigned...)
}

// SignCompact makes a compact JWS (RFC 7515 7.1) with protected header
// {alg, typ, jwk}. Policy, receipts and verdicts are such; each has its own typ,
// so that none passes for another.
func SignCompact(ctx context.Context, typ string, payload []byte, s Signer) ([]byte, error) {
	alg, err := algorithm(s)
	if err != nil {
		return nil, fmt.Errorf("sign %s: %w", typ, err)
	}
	jwk, err := NewJWK(s.Public())
	if err != nil {
		return nil, fmt.Errorf("sign %s: %w", typ, err)
	}
	input := signingInput(nil, canonical.Marshal(header{Algorithm: alg, Type: typ, JWK: jwk}), b64.AppendEncode(nil, payload))
	sig, err := sign(ctx, s, alg, input)
	if err != nil {
		return nil, fmt.Errorf("sign %s: %w", typ, err)
	}
	return b64.AppendEncode(append(input, '.'), sig), nil
}

// VerifyCompact checks what SignCompact made, with a key for which accept is
// true, and returns the payload. Any other header, encoding or typ is refused:
// the error is an *Error with CodeCanonical, CodeSigners or CodeSignature.
func VerifyCompact(b []byte, typ string, accept func(crypto.PublicKey) bool) ([]byte, error) {
	parts := bytes.Split(b, []byte{'.'})
	if len(parts) != 3 {
		return nil, fail(CodeCanonical, "%s: no compact JWS", typ)
	}
	var raw [3][]byte
	for i, part := range parts {
		raw[i] = make([]byte, b64.DecodedLen(len(part)))
		n, err := b64.Decode(raw[i], part)
		raw[i] = raw[i][:n]
		if err != nil || b64.EncodedLen(n) != len(part) { // the length shows skipped line breaks
			return nil, fail(CodeCanonical, "%s: part %d is no base64url", typ, i+1)
		}
	}
	var h header
	if err := canonical.Unmarshal(raw[0], &h); err != nil {
		return nil, fail(CodeCanonical, "%s: protected header: %w", typ, err)
	}
	if h.Type != typ {
		return nil, fail(CodeSigners, "typ is not %s", typ)
	}
	pub, err := h.JWK.Public()
	if err != nil || h.Role != "" || len(h.X5C) > 0 || h.Prev != [32]byte{} || !accept(pub) {
		return nil, fail(CodeSigners, "%s: not signed by an accepted key", typ)
	}
	if err := verify(h.Algorithm, pub, b[:len(parts[0])+1+len(parts[1])], raw[2]); err != nil {
		return nil, fail(CodeSignature, "%s: %w", typ, err)
	}
	return raw[1], nil
}

// AcceptAny makes VerifyCompact's accept from a list of keys.
func AcceptAny(keys ...JWK) func(crypto.PublicKey) bool {
	return func(pub crypto.PublicKey) bool {
		j, err := NewJWK(pub)
		if err != nil {
			return false
		}
		for _, k := range keys {
			if k.Equal(j) {
				return true
			}
		}
		return false
	}
}
