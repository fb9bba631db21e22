package record

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"slices"

	"enrollkiosk/registry/internal/canonical"
)

// Record is a checked record; only Parse makes one. The zero value is refused
// everywhere. Copies share their bytes, which never change.
type Record struct{ r *parsed }

type parsed struct {
	bytes      []byte
	id         [32]byte
	payload    Payload
	signatures []Signature
}

// Signature is one verified signature of a record. Its certificates are parsed
// and the leaf's key made the signature; who issued them is not checked.
type Signature struct {
	Role      Role
	Algorithm string // RFC 7518 name
	Public    crypto.PublicKey
	Chain     []*x509.Certificate // leaf first; nil for a bare key
	Value     []byte
}

// Parse reads and checks a record: encoding, form, set of signers, signatures.
// Every error is an *Error.
func Parse(b []byte) (Record, error) {
	if len(b) > MaxRecord {
		return Record{}, fail(CodeSize, "record of %d bytes", len(b))
	}
	var e envelope
	if err := canonical.Unmarshal(b, &e); err != nil {
		return Record{}, fail(CodeCanonical, "envelope: %w", err)
	}
	return open(bytes.Clone(b), e)
}

// open checks a decoded envelope; b are its bytes, owned from now on.
func open(b []byte, e envelope) (Record, error) {
	r := &parsed{bytes: b, id: ID(e.Payload)}
	if err := canonical.Unmarshal(e.Payload, &r.payload); err != nil {
		return Record{}, fail(CodeCanonical, "payload: %w", err)
	}
	headers, err := e.headers()
	if err != nil {
		return Record{}, err
	}
	if err := r.payload.check(); err != nil {
		return Record{}, err
	}
	if r.signatures, err = e.signers(headers, recordType, r.payload.Signers); err != nil {
		return Record{}, err
	}
	if err := r.checkReplaced(); err != nil {
		return Record{}, err
	}
	if err := e.verify(b, r.signatures); err != nil {
		return Record{}, err
	}
	return Record{r}, nil
}

// headers decodes the protected headers.
func (e envelope) headers() ([]header, error) {
	headers := make([]header, len(e.Signatures))
	for i, s := range e.Signatures {
		if err := canonical.Unmarshal(s.Protected, &headers[i]); err != nil {
			return nil, fail(CodeCanonical, "protected header %d: %w", i, err)
		}
	}
	return headers, nil
}

// signers are the signatures under headers of a type, if they are those of refs
// and all keys differ. They are not verified yet.
func (e envelope) signers(headers []header, typ string, refs []SignerRef) ([]Signature, error) {
	if len(headers) != len(refs) {
		return nil, fail(CodeSigners, "%d signatures, %d signers", len(headers), len(refs))
	}
	var out []Signature
	for i, h := range headers {
		s, err := h.signer(typ, refs[i])
		if err != nil {
			return nil, fail(CodeSigners, "signature %d, %s: %w", i, refs[i].Role, err)
		}
		if slices.ContainsFunc(out, func(o Signature) bool { return samePublic(o.Public, s.Public) }) {
			return nil, fail(CodeSigners, "%s has another role's key", s.Role)
		}
		if want := hashSignatures(e.Signatures[:i]); h.Role == Kiosk && h.Prev != want || h.Role != Kiosk && h.Prev != [32]byte{} {
			return nil, fail(CodeSigners, "%s: hash of the earlier signatures", h.Role)
		}
		s.Value = e.Signatures[i].Signature
		out = append(out, s)
	}
	return out, nil
}

// verify verifies signatures of the envelope whose bytes are b.
func (e envelope) verify(b []byte, signatures []Signature) error {
	// The payload's text stands in b; its decoding was exact, so its place is known.
	payload := b[len(`{"payload":"`):][:b64.EncodedLen(len(e.Payload))]
	input := make([]byte, 0, len(b))
	for i, s := range signatures {
		input = signingInput(input[:0], e.Signatures[i].Protected, payload)
		if err := verify(s.Algorithm, s.Public, input, s.Value); err != nil {
			return fail(CodeSignature, "%s: %w", s.Role, err)
		}
	}
	return nil
}

// checkReplaced holds that an old holder's signature and the replaced DID are of one key.
func (r *parsed) checkReplaced() error {
	for _, s := range r.signatures {
		if s.Role != OldHolder {
			continue
		}
		if did, err := DIDKey(s.Public); err != nil || did != r.payload.Replaces {
			return fail(CodeSigners, "the old holder's key is not the replaced one")
		}
	}
	return nil
}

// signer is h's key, if h is the header that ref asks for.
func (h header) signer(typ string, ref SignerRef) (Signature, error) {
	if h.Type != typ {
		return Signature{}, errors.New("typ")
	}
	if h.Role != ref.Role {
		return Signature{}, errors.New("another role's signature")
	}
	pub, chain, err := h.key()
	if err != nil {
		return Signature{}, err
	}
	print, by := [32]byte{}, ByJWK
	if chain != nil {
		print, by = sha256.Sum256(chain[0].Raw), ByX5C
	} else {
		print = h.JWK.Thumbprint()
	}
	if by != ref.By || print != ref.SHA256 {
		return Signature{}, errors.New("not the key that the payload names")
	}
	return Signature{Role: h.Role, Algorithm: h.Algorithm, Public: pub, Chain: chain}, nil
}

// key is the public key that h carries, in exactly one of jwk and x5c.
func (h header) key() (crypto.PublicKey, []*x509.Certificate, error) {
	if len(h.X5C) == 0 {
		pub, err := h.JWK.Public()
		return pub, nil, err
	}
	if !h.JWK.Equal(JWK{}) || len(h.X5C) > maxChain {
		return nil, nil, errors.New("one of jwk and x5c, at most four certificates")
	}
	var chain []*x509.Certificate
	for _, text := range h.X5C {
		der, err := base64.StdEncoding.Strict().DecodeString(text)
		if err != nil || base64.StdEncoding.EncodedLen(len(der)) != len(text) {
			return nil, nil, errors.New("x5c: no base64")
		}
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, nil, err
		}
		chain = append(chain, cert)
	}
	if _, err := NewJWK(chain[0].PublicKey); err != nil {
		return nil, nil, err
	}
	return chain[0].PublicKey, chain, nil
}

// Valid is false for the zero value.
func (r Record) Valid() bool { return r.r != nil }

// Bytes is the record's JSON; nil for the zero value.
func (r Record) Bytes() []byte {
	if r.r == nil {
		return nil
	}
	return bytes.Clone(r.r.bytes)
}

// ID is the record id; zero for the zero value.
func (r Record) ID() [32]byte {
	if r.r == nil {
		return [32]byte{}
	}
	return r.r.id
}

// Payload is what was signed. Its slices are shared: do not write to them.
func (r Record) Payload() Payload {
	if r.r == nil {
		return Payload{}
	}
	return r.r.payload
}

// Signatures lists the signatures in signing order.
func (r Record) Signatures() []Signature {
	if r.r == nil {
		return nil
	}
	return slices.Clone(r.r.signatures)
}

// Signature is role's signature, if it has one.
func (r Record) Signature(role Role) (Signature, bool) {
	for _, s := range r.Signatures() {
		if s.Role == role {
			return s, true
		}
	}
	return Signature{}, false
}

// CheckAudience refuses a record that was made for another registry: origin is
// the caller's own log origin.
func (r Record) CheckAudience(origin string) error {
	if r.r == nil {
		return ErrZero
	}
	if r.r.payload.Context.Audience != origin {
		return fail(CodeAudience, "made for another registry")
	}
	return nil
}
