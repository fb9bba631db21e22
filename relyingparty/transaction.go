package relyingparty

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// How long a person has from the click to the helper's answer, and from there to
// the browser's return.
const (
	TransactionTime = 10 * time.Minute
	AnswerTime      = 2 * time.Minute
)

var b64 = base64.RawURLEncoding.Strict()

// token is 32 random bytes: a state, a nonce, a response code, a browser's cookie.
type token [32]byte

// hash is what may be kept of it.
func (t token) hash() []byte { h := sha256.Sum256(t[:]); return h[:] }

func newToken() token {
	var t token
	rand.Read(t[:]) // never fails: it ends the program instead
	return t
}

func (t token) String() string { return b64.EncodeToString(t[:]) }

func parseToken(s string) (token, bool) {
	b, err := b64.DecodeString(s)
	if err != nil || len(b) != len(token{}) || b64.EncodeToString(b) != s {
		return token{}, false
	}
	return token(b), true
}

// pending is a request that waits for its response. It is kept under its state.
type pending struct {
	Browser []byte // SHA-256 of the cookie
	Nonce   string
	Key     []byte // ephemeral P-256 private key, 32 bytes
	Claims  []string
	Until   time.Time
}

func (p pending) key() (*ecdsa.PrivateKey, error) {
	return ecdsa.ParseRawPrivateKey(elliptic.P256(), p.Key)
}

// answer is a response that waits for its browser. It is kept under its response
// code: until the browser brings that, the site itself cannot read it.
type answer struct {
	Browser  []byte
	Nonce    string
	Claims   []string
	Declined bool
	Arrived  time.Time
	Until    time.Time

	Presentations []string `json:"-"` // in the query's order; nothing of it is verified
}

// A drawer is one kind of what is kept. Each value stands under a hash of a secret
// and is sealed with a key from the same secret, so that a copy of the store tells
// nothing.
type drawer string

const (
	requests drawer = "enrollkiosk/signin/request/v1"
	answers  drawer = "enrollkiosk/signin/answer/v1"
)

func (d drawer) key(secret token) [32]byte { return sha256.Sum256(append([]byte(d), secret[:]...)) }

// cipher's key is used for one value only.
func (d drawer) cipher(secret token) (cipher.AEAD, error) {
	key, err := hkdf.Key(sha256.New, secret[:], nil, string(d), 32)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}

// put keeps v, and lines as they are, which JSON would make slow to read.
func (d drawer) put(ctx context.Context, s Store, secret token, v any, lines []string, until time.Time) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	text = append(text, '\n')
	text = append(text, strings.Join(lines, "\n")...)
	aead, err := d.cipher(secret)
	if err != nil {
		return err
	}
	return s.Put(ctx, d.key(secret), aead.Seal(nil, nil, text, nil), until)
}

// get reads with the store's Get or Take.
func (d drawer) get(ctx context.Context, from func(context.Context, [32]byte) ([]byte, error), secret token, v any) (lines []string, err error) {
	sealed, err := from(ctx, d.key(secret))
	if err != nil {
		return nil, err
	}
	aead, err := d.cipher(secret)
	if err != nil {
		return nil, err
	}
	text, err := aead.Open(nil, nil, sealed, nil)
	if err != nil {
		return nil, fmt.Errorf("what the store gave: %w", err)
	}
	head, tail, _ := strings.Cut(string(text), "\n")
	return strings.Split(tail, "\n"), json.Unmarshal([]byte(head), v)
}
