package credential_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"enrollkiosk/registry/credential"
	"enrollkiosk/registry/credential/credentialtest"
)

// attack is what an attacker has in hand: a good presentation, taken apart.
type attack struct {
	*world
	jwt         string
	disclosures []string
	binding     string
}

func newAttack(t *testing.T) *attack {
	a := &attack{world: newWorld(t)}
	var err error
	if a.jwt, a.disclosures, a.binding, err = credential.Split(a.present(t)); err != nil {
		t.Fatal(err)
	}
	return a
}

// rebind is the holder's own signature over whatever is presented: the strongest
// attacker is the holder.
func (a *attack) rebind(t *testing.T, payload string) string {
	t.Helper()
	presented := strings.Join(append([]string{a.jwt}, a.disclosures...), "~") + "~"
	if payload == "" {
		payload = `{"iat":` + unix(now) + `,"aud":"` + audience + `","nonce":"` + nonce + `","sd_hash":"HASH"}`
	}
	payload = strings.ReplaceAll(payload, "HASH", credential.DigestOf(presented))
	return presented + signJWS(t, a.key, map[jose.HeaderKey]any{"typ": "kb+jwt"}, payload)
}

// reissue signs another payload with the real issuer's key.
func (a *attack) reissue(t *testing.T, payload string) {
	t.Helper()
	a.jwt = signJWS(t, a.issuer.Key.(*ecdsa.PrivateKey), map[jose.HeaderKey]any{"typ": "dc+sd-jwt", "x5c": x5c(a.issuer.Chain)}, payload)
}

func x5c(certs []*x509.Certificate) []string {
	var c []string
	for _, cert := range certs {
		c = append(c, base64.StdEncoding.EncodeToString(cert.Raw))
	}
	return c
}

func unix(t time.Time) string {
	b, _ := json.Marshal(t.Unix())
	return string(b)
}

// forge replaces a JWS's header and signs with whatever sign does.
func forge(header, jws string, sign func(input string) []byte) string {
	input := b64.EncodeToString([]byte(header)) + "." + strings.Split(jws, ".")[1]
	return input + "." + b64.EncodeToString(sign(input))
}

func TestAttacks(t *testing.T) {
	disclosure := func(text string) string { return b64.EncodeToString([]byte(text)) }
	for name, test := range map[string]struct {
		attack func(t *testing.T, a *attack) string
		want   credential.Refusal
	}{
		"key binding stripped": {func(t *testing.T, a *attack) string {
			return strings.TrimSuffix(a.present(t), a.binding)[:len(a.jwt)+1] + strings.Join(a.disclosures, "~") + "~"
		}, credential.ErrKeyBinding},
		"last tilde left out": {func(t *testing.T, a *attack) string { return a.jwt }, credential.ErrForm},
		"empty part": {func(t *testing.T, a *attack) string {
			return a.jwt + "~~" + a.disclosures[0] + "~" + a.binding
		}, credential.ErrForm},
		"padding": {func(t *testing.T, a *attack) string {
			a.disclosures[0] += "="
			return a.rebind(t, "")
		}, credential.ErrDisclosure},
		"line break in a disclosure": {func(t *testing.T, a *attack) string {
			a.disclosures[0] = a.disclosures[0][:8] + "\n" + a.disclosures[0][8:]
			return a.rebind(t, "")
		}, credential.ErrDisclosure},
		"too large": {func(t *testing.T, a *attack) string {
			return a.present(t) + strings.Repeat("A", credential.MaxPresentation)
		}, credential.ErrSize},
		"too many disclosures": {func(t *testing.T, a *attack) string {
			return a.jwt + strings.Repeat("~A", credential.MaxDisclosures+1) + "~" + a.binding
		}, credential.ErrSize},

		"disclosure removed, by another": {func(t *testing.T, a *attack) string {
			return a.jwt + "~" + a.disclosures[0] + "~" + a.binding
		}, credential.ErrClaims},
		"disclosure removed, by the holder": {func(t *testing.T, a *attack) string {
			a.disclosures = a.disclosures[:1]
			return a.rebind(t, "")
		}, credential.ErrClaims},
		"disclosure twice": {func(t *testing.T, a *attack) string {
			a.disclosures = append(a.disclosures, a.disclosures[0])
			return a.rebind(t, "")
		}, credential.ErrDigest},
		"disclosure of another credential": {func(t *testing.T, a *attack) string {
			other := newAttack(t)
			a.disclosures[0] = other.disclosures[0]
			return a.rebind(t, "")
		}, credential.ErrDigest},
		"disclosure with another value": {func(t *testing.T, a *attack) string {
			raw, _ := b64.DecodeString(a.disclosures[0])
			a.disclosures[0] = disclosure(strings.Replace(string(raw), "true", "false", 1))
			return a.rebind(t, "")
		}, credential.ErrDigest},
		"disclosure in other white space": {func(t *testing.T, a *attack) string {
			raw, _ := b64.DecodeString(a.disclosures[0])
			a.disclosures[0] = disclosure(string(raw) + " ")
			return a.rebind(t, "")
		}, credential.ErrDigest},
		"more shown than asked for": {func(t *testing.T, a *attack) string {
			p, err := a.issued.Present([]string{credential.AgeOver16, credential.AgeOver18, credential.RealNameVerified},
				credential.Binding{Audience: audience, Nonce: nonce, IssuedAt: now}, a.key)
			if err != nil {
				t.Fatal(err)
			}
			return p
		}, credential.ErrClaims},
		"disclosure of two elements": {func(t *testing.T, a *attack) string {
			a.disclosures[0] = disclosure(`["salt","US"]`)
			return a.rebind(t, "")
		}, credential.ErrDisclosure},
		"disclosure of a reserved name": {func(t *testing.T, a *attack) string {
			a.disclosures[0] = disclosure(`["salt","_sd",true]`)
			return a.rebind(t, "")
		}, credential.ErrDisclosure},
		"disclosure of an object": {func(t *testing.T, a *attack) string {
			a.disclosures[0] = disclosure(`["salt","address",{"_sd":[]}]`)
			return a.rebind(t, "")
		}, credential.ErrDisclosure},

		"claim of a taken name": {func(t *testing.T, a *attack) string {
			d := disclosure(`["salt","exp",true]`)
			a.reissue(t, replace(t, payloadOf(t, a.jwt), `"_sd":[`, `"_sd":["`+credential.DigestOf(d)+`",`))
			a.disclosures = append(a.disclosures, d)
			return a.rebind(t, "")
		}, credential.ErrDisclosure},
		"one digest twice": {func(t *testing.T, a *attack) string {
			d := credential.DigestOf(a.disclosures[0])
			a.reissue(t, replace(t, payloadOf(t, a.jwt), `"_sd":[`, `"_sd":["`+d+`",`))
			return a.rebind(t, "")
		}, credential.ErrDigest},
		"another _sd_alg": {func(t *testing.T, a *attack) string {
			a.reissue(t, replace(t, payloadOf(t, a.jwt), `"_sd_alg":"sha-256"`, `"_sd_alg":"sha-1"`))
			return a.rebind(t, "")
		}, credential.ErrDigest},
		"digests further down": {func(t *testing.T, a *attack) string {
			a.reissue(t, replace(t, payloadOf(t, a.jwt), `"escrow"`, `"address":{"_sd":["x"]},"escrow"`))
			return a.rebind(t, "")
		}, credential.ErrDigest},
		"digests in a list": {func(t *testing.T, a *attack) string {
			a.reissue(t, replace(t, payloadOf(t, a.jwt), `"escrow"`, `"nationalities":[{"...":"x"}],"escrow"`))
			return a.rebind(t, "")
		}, credential.ErrDigest},
		"a member twice": {func(t *testing.T, a *attack) string {
			a.reissue(t, replace(t, payloadOf(t, a.jwt), `"escrow"`, `"exp":9999999999,"escrow"`))
			return a.rebind(t, "")
		}, credential.ErrJSON},
		"a member in capitals": {func(t *testing.T, a *attack) string {
			a.reissue(t, replace(t, payloadOf(t, a.jwt), `"escrow"`, `"EXP":9999999999,"escrow"`))
			return a.rebind(t, "")
		}, credential.ErrJSON},
		"no cnf": {func(t *testing.T, a *attack) string {
			a.reissue(t, replace(t, payloadOf(t, a.jwt), `"cnf"`, `"conf"`))
			return a.rebind(t, "")
		}, credential.ErrKey},
		"no exp": {func(t *testing.T, a *attack) string {
			a.reissue(t, replace(t, payloadOf(t, a.jwt), `"exp"`, `"expires"`))
			return a.rebind(t, "")
		}, credential.ErrForm},
		"no status": {func(t *testing.T, a *attack) string {
			a.reissue(t, replace(t, payloadOf(t, a.jwt), `"idx"`, `"index"`))
			return a.rebind(t, "")
		}, credential.ErrForm},

		"alg none": {func(t *testing.T, a *attack) string {
			a.jwt = forge(strings.Replace(headerOf(t, a.jwt), "ES256", "none", 1), a.jwt, func(string) []byte { return nil })
			return a.rebind(t, "")
		}, credential.ErrAlgorithm},
		"alg HS256 with the public key": {func(t *testing.T, a *attack) string {
			a.jwt = forge(strings.Replace(headerOf(t, a.jwt), "ES256", "HS256", 1), a.jwt, func(in string) []byte {
				point, _ := a.issuer.Key.Public().(*ecdsa.PublicKey).Bytes()
				m := hmac.New(sha256.New, point)
				m.Write([]byte(in))
				return m.Sum(nil)
			})
			return a.rebind(t, "")
		}, credential.ErrAlgorithm},
		"alg RS256": {func(t *testing.T, a *attack) string {
			key, err := rsa.GenerateKey(rand.Reader, 2048)
			if err != nil {
				t.Fatal(err)
			}
			a.jwt = forge(strings.Replace(headerOf(t, a.jwt), "ES256", "RS256", 1), a.jwt, func(in string) []byte {
				d := sha256.Sum256([]byte(in))
				sig, _ := rsa.SignPKCS1v15(nil, key, crypto.SHA256, d[:])
				return sig
			})
			return a.rebind(t, "")
		}, credential.ErrAlgorithm},
		"crit": {func(t *testing.T, a *attack) string {
			a.jwt = signJWS(t, a.issuer.Key.(*ecdsa.PrivateKey), map[jose.HeaderKey]any{"typ": "dc+sd-jwt", "x5c": x5c(a.issuer.Chain), "crit": []string{"b64"}, "b64": true}, payloadOf(t, a.jwt))
			return a.rebind(t, "")
		}, credential.ErrCritical},
		"key in the header": {func(t *testing.T, a *attack) string {
			key := credentialtest.Key(t)
			a.jwt = signJWS(t, key, map[jose.HeaderKey]any{"typ": "dc+sd-jwt", "jwk": jose.JSONWebKey{Key: key.Public()}}, payloadOf(t, a.jwt))
			return a.rebind(t, "")
		}, credential.ErrChain},
		"key in the header beside the chain": {func(t *testing.T, a *attack) string {
			key := credentialtest.Key(t)
			a.jwt = signJWS(t, key, map[jose.HeaderKey]any{"typ": "dc+sd-jwt", "x5c": x5c(a.issuer.Chain), "jwk": jose.JSONWebKey{Key: key.Public()}}, payloadOf(t, a.jwt))
			return a.rebind(t, "")
		}, credential.ErrSignature},
		"old typ": {func(t *testing.T, a *attack) string {
			a.jwt = signJWS(t, a.issuer.Key.(*ecdsa.PrivateKey), map[jose.HeaderKey]any{"typ": "vc+sd-jwt", "x5c": x5c(a.issuer.Chain)}, payloadOf(t, a.jwt))
			return a.rebind(t, "")
		}, credential.ErrType},
		"a key binding as credential": {func(t *testing.T, a *attack) string {
			return a.binding + "~" + a.binding
		}, credential.ErrType},
		"a credential as key binding": {func(t *testing.T, a *attack) string {
			return a.jwt + "~" + a.jwt
		}, credential.ErrKeyBinding},

		"foreign issuer": {func(t *testing.T, a *attack) string {
			foreign := credentialtest.NewCA(t, "foreign CA", now).Issuer(t, issuerID)
			a.jwt = signJWS(t, foreign.Key.(*ecdsa.PrivateKey), map[jose.HeaderKey]any{"typ": "dc+sd-jwt", "x5c": x5c(foreign.Chain)}, payloadOf(t, a.jwt))
			return a.rebind(t, "")
		}, credential.ErrChain},
		"foreign issuer that sends its root": {func(t *testing.T, a *attack) string {
			ca := credentialtest.NewCA(t, "foreign CA", now)
			foreign := ca.Issuer(t, issuerID)
			a.jwt = signJWS(t, foreign.Key.(*ecdsa.PrivateKey), map[jose.HeaderKey]any{"typ": "dc+sd-jwt", "x5c": x5c(append(foreign.Chain, ca.Cert))}, payloadOf(t, a.jwt))
			return a.rebind(t, "")
		}, credential.ErrChain},
		"the root in the chain": {func(t *testing.T, a *attack) string {
			a.jwt = signJWS(t, a.issuer.Key.(*ecdsa.PrivateKey), map[jose.HeaderKey]any{"typ": "dc+sd-jwt", "x5c": x5c(append(a.issuer.Chain, a.ca.Cert))}, payloadOf(t, a.jwt))
			return a.rebind(t, "")
		}, credential.ErrChain},
		"another issuer of the same CA": {func(t *testing.T, a *attack) string {
			other := a.ca.Issuer(t, "https://other.example")
			a.jwt = signJWS(t, other.Key.(*ecdsa.PrivateKey), map[jose.HeaderKey]any{"typ": "dc+sd-jwt", "x5c": x5c(other.Chain)}, payloadOf(t, a.jwt))
			return a.rebind(t, "")
		}, credential.ErrIssuer},
		"another iss under this leaf": {func(t *testing.T, a *attack) string {
			a.reissue(t, replace(t, payloadOf(t, a.jwt), `"iss":"https://id.example"`, `"iss":"https://id.example.evil"`))
			return a.rebind(t, "")
		}, credential.ErrIssuer},
		"a leaf that may not issue this type": {func(t *testing.T, a *attack) string {
			key := credentialtest.Key(t)
			leaf := a.ca.Leaf(t, key, "", issuerID, credential.LegalName(issuerID))
			a.jwt = signJWS(t, key, map[jose.HeaderKey]any{"typ": "dc+sd-jwt", "x5c": x5c([]*x509.Certificate{leaf})}, payloadOf(t, a.jwt))
			return a.rebind(t, "")
		}, credential.ErrVCT},
		"a type that was not asked for": {func(t *testing.T, a *attack) string {
			a.reissue(t, replace(t, payloadOf(t, a.jwt), "real-person", "legal-name"))
			return a.rebind(t, "")
		}, credential.ErrVCT},
		"expired": {func(t *testing.T, a *attack) string {
			a.expect.Now = a.content.Expires
			return a.rebind(t, "")
		}, credential.ErrExpired},
		"certificate expired": {func(t *testing.T, a *attack) string {
			a.expect.Now = now.AddDate(3, 0, 0)
			return a.rebind(t, "")
		}, credential.ErrChain},

		"replayed to another site": {func(t *testing.T, a *attack) string {
			a.expect.Audience = "x509_hash:BBBB"
			return a.present(t)
		}, credential.ErrAudience},
		"replayed to another request": {func(t *testing.T, a *attack) string {
			a.expect.Nonce = "other"
			return a.present(t)
		}, credential.ErrNonce},
		"aud as a list": {func(t *testing.T, a *attack) string {
			return a.rebind(t, `{"iat":`+unix(now)+`,"aud":["`+audience+`"],"nonce":"`+nonce+`","sd_hash":"HASH"}`)
		}, credential.ErrAudience},
		"AUD beside aud": {func(t *testing.T, a *attack) string {
			return a.rebind(t, `{"iat":`+unix(now)+`,"aud":"elsewhere","AUD":"`+audience+`","nonce":"`+nonce+`","sd_hash":"HASH"}`)
		}, credential.ErrJSON},
		"no nonce": {func(t *testing.T, a *attack) string {
			return a.rebind(t, `{"iat":`+unix(now)+`,"aud":"`+audience+`","sd_hash":"HASH"}`)
		}, credential.ErrNonce},
		"made long ago": {func(t *testing.T, a *attack) string {
			a.expect.Now = now.Add(credential.Skew + time.Second)
			return a.present(t)
		}, credential.ErrTime},
		"made in the future": {func(t *testing.T, a *attack) string {
			a.expect.Now = now.Add(-credential.Skew - time.Second)
			return a.present(t)
		}, credential.ErrTime},
		"sd_hash of another presentation": {func(t *testing.T, a *attack) string {
			return a.rebind(t, `{"iat":`+unix(now)+`,"aud":"`+audience+`","nonce":"`+nonce+`","sd_hash":"`+credential.DigestOf(a.jwt+"~")+`"}`)
		}, credential.ErrHash},
		"disclosures in another order": {func(t *testing.T, a *attack) string {
			return a.jwt + "~" + a.disclosures[1] + "~" + a.disclosures[0] + "~" + a.binding
		}, credential.ErrHash},
		"another holder's key binding": {func(t *testing.T, a *attack) string {
			a.key = credentialtest.Key(t)
			return a.rebind(t, "")
		}, credential.ErrKeyBinding},
		"key binding under the key in its own header": {func(t *testing.T, a *attack) string {
			key := credentialtest.Key(t)
			return strings.TrimSuffix(a.present(t), a.binding) + signJWS(t, key, map[jose.HeaderKey]any{"typ": "kb+jwt", "jwk": jose.JSONWebKey{Key: key.Public()}}, payloadOf(t, a.binding))
		}, credential.ErrKeyBinding},
	} {
		t.Run(name, func(t *testing.T) {
			a := newAttack(t)
			p := test.attack(t, a)
			c, err := credential.Verify(p, a.expect)
			if c.Valid() {
				t.Fatal("accepted")
			}
			wants(t, err, test.want)
		})
	}
}

// Every byte of a presentation counts.
func TestEveryByteFlipped(t *testing.T) {
	w := newWorld(t)
	good := []byte(w.present(t))
	for i := range good {
		for _, bit := range []byte{0x01, 0x20} {
			bad := append([]byte(nil), good...)
			bad[i] ^= bit
			if c, err := credential.Verify(string(bad), w.expect); err == nil || c.Valid() {
				t.Fatalf("byte %d of %d, %q for %q: accepted", i, len(good), bad[i], good[i])
			}
		}
	}
}

// What a holder does not take from an issuer: it would set the citizen apart.
func TestHolderRefuses(t *testing.T) {
	for name, test := range map[string]struct {
		change func(t *testing.T, a *attack, terms *credential.Terms)
		want   credential.Refusal
	}{
		"an iat": {func(t *testing.T, a *attack, _ *credential.Terms) {
			a.reissue(t, replace(t, payloadOf(t, a.jwt), `"escrow"`, `"iat":1,"escrow"`))
		}, credential.ErrTagged},
		"an exp of its own": {func(t *testing.T, a *attack, _ *credential.Terms) {
			a.reissue(t, replace(t, payloadOf(t, a.jwt), `"exp":1799020800`, `"exp":1799020801`))
		}, credential.ErrTagged},
		"a digest more": {func(t *testing.T, a *attack, _ *credential.Terms) {
			a.reissue(t, replace(t, payloadOf(t, a.jwt), `"_sd":[`, `"_sd":["-",`))
		}, credential.ErrTagged},
		"a status list of its own": {func(t *testing.T, a *attack, _ *credential.Terms) {
			a.reissue(t, replace(t, payloadOf(t, a.jwt), `/status/1"`, `/status/1?who"`))
		}, credential.ErrTagged},
		"a member in status": {func(t *testing.T, a *attack, _ *credential.Terms) {
			a.reissue(t, replace(t, payloadOf(t, a.jwt), `{"status_list":`, `{"who":1,"status_list":`))
		}, credential.ErrTagged},
		"a kid in cnf": {func(t *testing.T, a *attack, _ *credential.Terms) {
			a.reissue(t, replace(t, payloadOf(t, a.jwt), `"kty"`, `"kid":"who","kty"`))
		}, credential.ErrTagged},
		"a kid in the header": {func(t *testing.T, a *attack, _ *credential.Terms) {
			a.jwt = signJWS(t, a.issuer.Key.(*ecdsa.PrivateKey), map[jose.HeaderKey]any{"typ": "dc+sd-jwt", "x5c": x5c(a.issuer.Chain), "kid": "who"}, payloadOf(t, a.jwt))
		}, credential.ErrTagged},
		"a shorter escrow": {func(t *testing.T, a *attack, _ *credential.Terms) {
			a.reissue(t, replace(t, payloadOf(t, a.jwt), `"escrow":"`+b64.EncodeToString(a.content.Escrow)+`"`, `"escrow":""`))
		}, credential.ErrTagged},
		"a disclosure less": {func(t *testing.T, a *attack, _ *credential.Terms) { a.disclosures = a.disclosures[1:] }, credential.ErrClaims},
		"another key":       {func(t *testing.T, a *attack, terms *credential.Terms) { terms.Key = &credentialtest.Key(t).PublicKey }, credential.ErrKey},
		"another type":      {func(t *testing.T, a *attack, terms *credential.Terms) { terms.Type = credential.LegalName(issuerID) }, credential.ErrVCT},
		"a key binding":     {func(t *testing.T, a *attack, _ *credential.Terms) { a.disclosures = append(a.disclosures, "x~y") }, credential.ErrForm},
	} {
		t.Run(name, func(t *testing.T) {
			a := newAttack(t)
			var err error
			if a.jwt, a.disclosures, _, err = credential.Split(a.compact); err != nil {
				t.Fatal(err)
			}
			terms := a.terms()
			test.change(t, a, &terms)
			compact := strings.Join(append([]string{a.jwt}, a.disclosures...), "~")
			if name != "a key binding" {
				compact += "~"
			}
			i, err := credential.Accept(compact, terms)
			if i.Valid() {
				t.Fatal("accepted")
			}
			wants(t, err, test.want)
		})
	}
}

// The holder cannot be made to sign with another key, to nobody, or for a claim that
// is not there.
func TestPresentRefuses(t *testing.T) {
	w := newWorld(t)
	good := credential.Binding{Audience: audience, Nonce: nonce, IssuedAt: now}
	_, err := w.issued.Present(nil, good, credentialtest.Key(t))
	wants(t, err, credential.ErrKey)
	_, err = w.issued.Present([]string{credential.FamilyName}, good, w.key)
	wants(t, err, credential.ErrClaims)
	if _, err := w.issued.Present(nil, credential.Binding{Nonce: nonce, IssuedAt: now}, w.key); err == nil {
		t.Error("no audience")
	}
}

// An escrow opens for the credential that it was sealed for, and no other; of what
// the issuer signed nothing else is believed.
func TestEscrowIsBound(t *testing.T) {
	w := newWorld(t)
	other := w.content
	other.Key = &credentialtest.Key(t).PublicKey // the escrow of the first one
	compact, err := w.issuer.Issue(other)
	if err != nil {
		t.Fatal(err)
	}
	jwt, _, _, err := credential.Split(compact)
	if err != nil {
		t.Fatal(err)
	}
	_, err = credential.OpenEscrow(jwt, w.authority, now, w.vault, escrowKey)
	wants(t, err, credential.ErrEscrow)
	good, _, _, _ := credential.Split(w.compact)
	_, err = credential.OpenEscrow(good, w.authority, now, w.vault, "authority-2")
	wants(t, err, credential.ErrEscrow)
	_, err = credential.OpenEscrow(good, credential.Authority{Issuer: issuerID, Roots: credentialtest.NewCA(t, "other", now).Roots()}, now, w.vault, escrowKey)
	wants(t, err, credential.ErrChain)
	again, err := credential.SealEscrow(w.vault.PublicKey(), escrowKey, w.content.EscrowData(issuerID), w.record)
	if err != nil || string(again) == string(w.content.Escrow) || len(again) != credential.EscrowSize {
		t.Error("an escrow comes twice", err)
	}
}
