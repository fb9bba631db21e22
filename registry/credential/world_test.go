package credential_test

import (
	"crypto/ecdsa"
	"crypto/hpke"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"enrollkiosk/registry/credential"
	"enrollkiosk/registry/credential/credentialtest"
)

const (
	issuerID  = "https://id.example"
	listURI   = "https://id.example/status/1"
	audience  = "x509_hash:AAAA"
	nonce     = "n-0S6_WzA2Mj"
	escrowKey = "authority-1"
)

var (
	now = time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	b64 = base64.RawURLEncoding

	ages = map[string]any{
		credential.AgeOver14: true, credential.AgeOver16: true, credential.AgeOver18: false,
		credential.RealNameVerified: true,
	}
)

// world is one issuer, one citizen with a credential, and what a site expects.
type world struct {
	ca        credentialtest.CA
	issuer    credential.Issuer
	authority credential.Authority
	vault     hpke.PrivateKey
	record    [32]byte
	key       *ecdsa.PrivateKey // the holder's at the site
	content   credential.Content
	compact   string
	issued    credential.Issued
	expect    credential.Expect
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{ca: credentialtest.NewCA(t, "issuer CA", now), record: sha256.Sum256([]byte("record")), key: credentialtest.Key(t)}
	w.issuer = w.ca.Issuer(t, issuerID)
	w.authority = credential.Authority{Issuer: issuerID, Roots: w.ca.Roots()}
	vault, err := hpke.MLKEM768X25519().GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	w.vault = vault
	w.content = credential.Content{
		Type: credential.RealPerson(issuerID), Expires: credential.Expiry(now.AddDate(0, 0, 30)), Key: &w.key.PublicKey,
		Status: credential.StatusRef{URI: listURI, Index: 41213}, Claims: ages,
	}
	if w.content.Escrow, err = credential.SealEscrow(vault.PublicKey(), escrowKey, w.content.EscrowData(issuerID), w.record); err != nil {
		t.Fatal(err)
	}
	if w.compact, err = w.issuer.Issue(w.content); err != nil {
		t.Fatal(err)
	}
	if w.issued, err = credential.Accept(w.compact, w.terms()); err != nil {
		t.Fatal(err)
	}
	w.expect = credential.Expect{
		Authority: w.authority, Types: []string{credential.RealPerson(issuerID)},
		Claims:   []string{credential.AgeOver16, credential.RealNameVerified},
		Audience: audience, Nonce: nonce, Now: now,
	}
	return w
}

func (w *world) terms() credential.Terms {
	return credential.Terms{
		Authority: w.authority, Type: credential.RealPerson(issuerID),
		Claims: []string{credential.AgeOver14, credential.AgeOver16, credential.AgeOver18, credential.RealNameVerified},
		Key:    &w.key.PublicKey, StatusURIs: []string{listURI, listURI + "x"}, Now: now,
	}
}

func (w *world) present(t testing.TB) string {
	t.Helper()
	p, err := w.issued.Present(w.expect.Claims, credential.Binding{Audience: audience, Nonce: nonce, IssuedAt: now}, w.key)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// signJWS is the attacker's tool: a foreign library that signs any header and
// payload.
func signJWS(t testing.TB, key *ecdsa.PrivateKey, header map[jose.HeaderKey]any, payload string) string {
	t.Helper()
	s, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: key}, &jose.SignerOptions{ExtraHeaders: header})
	if err != nil {
		t.Fatal(err)
	}
	jws, err := s.Sign([]byte(payload))
	if err != nil {
		t.Fatal(err)
	}
	compact, err := jws.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return compact
}

// payloadOf and headerOf read a JWS without checking it.
func payloadOf(t testing.TB, jws string) string { return part(t, jws, 1) }
func headerOf(t testing.TB, jws string) string  { return part(t, jws, 0) }

func part(t testing.TB, jws string, n int) string {
	t.Helper()
	b, err := b64.DecodeString(strings.Split(jws, ".")[n])
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// replace changes the one place where old stands.
func replace(t testing.TB, s, old, new string) string {
	t.Helper()
	if strings.Count(s, old) != 1 {
		t.Fatalf("%q stands %d times", old, strings.Count(s, old))
	}
	return strings.Replace(s, old, new, 1)
}

func wants(t testing.TB, err error, want credential.Refusal) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%v, want %s", err, string(want))
	}
	// The code is what a log gets.
	var r credential.Refusal
	if err != nil && !errors.As(err, &r) {
		t.Errorf("%v is no Refusal", err)
	}
}
