package parcel

import (
	"bytes"
	"crypto/hpke"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"enrollkiosk/kiosk/secret"
)

// The HPKE suite (RFC 9180 7) is that of records' identities: MLKEM768-X25519
// (0x647a), HKDF-SHA256, AES-256-GCM; base mode, single shot.
const (
	encSize  = 1120     // ML-KEM-768 ciphertext and X25519 share
	overhead = 16       // GCM's tag
	padBlock = 16 << 10 // lengths stay hidden within a block
)

// Key is a public key to seal to.
type Key struct {
	ID     string `json:"id"`
	Public []byte `json:"public"` // HPKE encoding, 1216 bytes
}

// Check holds that it is a key of the suite, named after itself.
func (k Key) Check() error {
	if _, err := hpke.MLKEM768X25519().NewPublicKey(k.Public); err != nil || k.ID != keyID(k.Public) {
		return fmt.Errorf("%w: key %q", ErrForm, k.ID)
	}
	return nil
}

// keyID names a key after itself, so that two keys never share an id.
func keyID(public []byte) string {
	sum := sha256.Sum256(public)
	return base64.RawURLEncoding.EncodeToString(sum[:16])
}

// seal is enc || ciphertext of the padded body.
func (k Key) seal(info string, data, body []byte) ([]byte, error) {
	if len(body) > MaxPlain {
		return nil, fmt.Errorf("%w: %d bytes", ErrSize, len(body))
	}
	pub, err := hpke.MLKEM768X25519().NewPublicKey(k.Public)
	if err != nil {
		return nil, fmt.Errorf("seal parcel: %w", err)
	}
	enc, sender, err := hpke.NewSender(pub, hpke.HKDFSHA256(), hpke.AES256GCM(), []byte(info))
	if err != nil {
		return nil, fmt.Errorf("seal parcel: %w", err)
	}
	padded := pad(body)
	defer clear(padded)
	ciphertext, err := sender.Seal(data, padded)
	if err != nil {
		return nil, fmt.Errorf("seal parcel: %w", err)
	}
	return append(enc, ciphertext...), nil
}

// PrivateKey opens what was sealed to its Key. It refuses to print; two pointers
// keep fmt out where it cannot call Format, as in secret.Text.
type PrivateKey struct{ p **hpke.PrivateKey }

// GenerateKey makes a new key.
func GenerateKey() (PrivateKey, error) {
	key, err := hpke.MLKEM768X25519().GenerateKey()
	if err != nil {
		return PrivateKey{}, fmt.Errorf("generate exchange key: %w", err)
	}
	p := &key
	return PrivateKey{&p}, nil
}

// ParseKey reads what Text wrote.
func ParseKey(text secret.Text) (PrivateKey, error) {
	seed, err := hex.DecodeString(strings.TrimSpace(string(text.Reveal())))
	if err == nil {
		defer clear(seed)
		var key hpke.PrivateKey
		if key, err = hpke.MLKEM768X25519().NewPrivateKey(seed); err == nil {
			p := &key
			return PrivateKey{&p}, nil
		}
	}
	return PrivateKey{}, errors.New("parse exchange key: not a key of KEM 0x647a") // the cause could quote it
}

// Public is the key to seal to; zero for the zero value.
func (k PrivateKey) Public() Key {
	if k.p == nil {
		return Key{}
	}
	public := (**k.p).PublicKey().Bytes()
	return Key{keyID(public), public}
}

// Text is the private key for a file: its HPKE encoding, a 32-byte seed, as a line
// of hexadecimal digits.
func (k PrivateKey) Text() (secret.Text, error) {
	if k.p == nil {
		return secret.Text{}, ErrKey
	}
	seed, err := (**k.p).Bytes()
	if err != nil {
		return secret.Text{}, fmt.Errorf("encode exchange key: %w", err)
	}
	defer clear(seed)
	return secret.New(append(hex.AppendEncode(nil, seed), '\n')), nil
}

// open is seal's inverse.
func (k PrivateKey) open(info string, data, sealed []byte) ([]byte, error) {
	if k.p == nil {
		return nil, ErrKey
	}
	if len(sealed) < encSize {
		return nil, fmt.Errorf("%w: %d bytes", ErrSealed, len(sealed))
	}
	recipient, err := hpke.NewRecipient(sealed[:encSize], **k.p, hpke.HKDFSHA256(), hpke.AES256GCM(), []byte(info))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSealed, err)
	}
	padded, err := recipient.Open(data, sealed[encSize:])
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSealed, err)
	}
	return unpad(padded)
}

// pad is the length of body in 4 bytes, body, and zeros to a full block.
func pad(body []byte) []byte {
	size := (4 + len(body) + padBlock - 1) / padBlock * padBlock
	padded := binary.BigEndian.AppendUint32(make([]byte, 0, size), uint32(len(body)))
	return append(padded, body...)[:size]
}

// unpad is pad's inverse; every other form is refused. The body stands in padded.
func unpad(padded []byte) ([]byte, error) {
	if len(padded) < 4 || len(padded)%padBlock != 0 {
		return nil, fmt.Errorf("%w: length", ErrSealed)
	}
	n, rest := int64(binary.BigEndian.Uint32(padded)), padded[4:]
	if n > int64(len(rest)) || int64(len(rest))-n >= padBlock || len(bytes.Trim(rest[n:], "\x00")) > 0 {
		return nil, fmt.Errorf("%w: padding", ErrSealed)
	}
	return rest[:n], nil
}

// Format prints [secret.Redacted] for every verb.
func (PrivateKey) Format(f fmt.State, _ rune) { fmt.Fprint(f, secret.Redacted) }

func (PrivateKey) LogValue() slog.Value         { return slog.StringValue(secret.Redacted) }
func (PrivateKey) MarshalJSON() ([]byte, error) { return nil, secret.ErrMarshal }
func (PrivateKey) MarshalText() ([]byte, error) { return nil, secret.ErrMarshal }
