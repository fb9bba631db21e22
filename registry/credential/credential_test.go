package credential_test

import (
	"crypto"
	"encoding/json"
	"errors"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"enrollkiosk/registry/credential"
	"enrollkiosk/registry/credential/credentialtest"
)

func TestLogin(t *testing.T) {
	w := newWorld(t)
	c, err := credential.Verify(w.present(t), w.expect)
	if err != nil {
		t.Fatal(err)
	}
	if got := c.Claims(); len(got) != 2 || got[credential.AgeOver16] != true || got[credential.RealNameVerified] != true {
		t.Errorf("claims %v", got)
	}
	if c.Pseudonym() != credential.Thumbprint(&w.key.PublicKey) || c.Type() != w.content.Type || c.Issuer() != issuerID ||
		c.Status() != w.content.Status || !c.Expires().Equal(w.content.Expires) || !c.Valid() {
		t.Errorf("%+v", c)
	}
	record, err := credential.OpenEscrow(c.IssuerJWT(), w.authority, now, w.vault, escrowKey)
	if err != nil || record != w.record {
		t.Errorf("escrow: %x, %v", record, err)
	}
}

// A pseudonym alone: no claim is shown.
func TestNoClaims(t *testing.T) {
	w := newWorld(t)
	w.expect.Claims = nil
	if c, err := credential.Verify(w.present(t), w.expect); err != nil || len(c.Claims()) != 0 {
		t.Error(err)
	}
}

// Another library reads what this one writes: the issuer's and the holder's
// signatures are JWS.
func TestForeignLibraryReads(t *testing.T) {
	w := newWorld(t)
	jwt, disclosures, binding, err := credential.Split(w.present(t))
	if err != nil || len(disclosures) != 2 {
		t.Fatal(disclosures, err)
	}
	for jws, key := range map[string]any{jwt: w.issuer.Key.Public(), binding: &w.key.PublicKey} {
		parsed, err := jose.ParseSignedCompact(jws, []jose.SignatureAlgorithm{jose.ES256})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := parsed.Verify(key); err != nil {
			t.Error(err)
		}
	}
	theirs, err := (&jose.JSONWebKey{Key: &w.key.PublicKey}).Thumbprint(crypto.SHA256)
	if own := credential.Thumbprint(&w.key.PublicKey); err != nil || string(theirs) != string(own[:]) {
		t.Error("thumbprint")
	}
}

var volatile = regexp.MustCompile(`"(x|y|escrow|nonce|sd_hash|x5c)":("[^"]*"|\["[^"]*"\])|"_sd":\[[^\]]*\]`)

// The order of members, the number of digests and the order of disclosures are the
// same for everybody: what a site sees of them tells nothing.
func TestEveryCredentialLooksTheSame(t *testing.T) {
	w := newWorld(t)
	jwt, disclosures, binding, err := credential.Split(w.present(t))
	if err != nil {
		t.Fatal(err)
	}
	hide := func(s string) string {
		return volatile.ReplaceAllStringFunc(s, func(m string) string { return m[:strings.IndexByte(m, ':')+1] + "*" })
	}
	for got, want := range map[string]string{
		hide(headerOf(t, jwt)): `{"alg":"ES256","typ":"dc+sd-jwt","x5c":*}`,
		hide(payloadOf(t, jwt)): `{"iss":"https://id.example","vct":"https://id.example/vct/real-person/1","exp":1799020800,` +
			`"cnf":{"jwk":{"crv":"P-256","kty":"EC","x":*,"y":*}},"status":{"status_list":{"idx":41213,"uri":"https://id.example/status/1"}},` +
			`"_sd":*,"_sd_alg":"sha-256","escrow":*}`,
		hide(headerOf(t, binding)):  `{"alg":"ES256","typ":"kb+jwt"}`,
		hide(payloadOf(t, binding)): `{"iat":1795867200,"aud":"x509_hash:AAAA","nonce":*,"sd_hash":*}`,
	} {
		if got != want {
			t.Errorf("\n%s\nwant\n%s", got, want)
		}
	}
	var names []string
	for _, d := range disclosures {
		name, _, err := credential.ParseDisclosure(d)
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, name)
	}
	if !slices.Equal(names, []string{credential.AgeOver16, credential.RealNameVerified}) {
		t.Error(names)
	}
	var p struct {
		Digests []string `json:"_sd"`
	}
	if err := json.Unmarshal([]byte(payloadOf(t, jwt)), &p); err != nil || len(p.Digests) != 8 || !slices.IsSorted(p.Digests) {
		t.Error(p.Digests, err)
	}
}

// No value of a credential comes twice in an issuer's output, but what is common
// to all.
func TestNothingRepeats(t *testing.T) {
	w := newWorld(t)
	seen := map[string]bool{}
	for range 50 {
		c := w.content
		c.Key = &credentialtest.Key(t).PublicKey
		compact, err := w.issuer.Issue(c)
		if err != nil {
			t.Fatal(err)
		}
		jwt, disclosures, _, err := credential.Split(compact)
		if err != nil {
			t.Fatal(err)
		}
		var p struct {
			Digests []string `json:"_sd"`
		}
		if err := json.Unmarshal([]byte(payloadOf(t, jwt)), &p); err != nil {
			t.Fatal(err)
		}
		for _, v := range slices.Concat(p.Digests, disclosures, []string{jwt[strings.LastIndexByte(jwt, '.'):]}) {
			if seen[v] {
				t.Fatalf("%s comes twice", v)
			}
			seen[v] = true
		}
	}
}

func TestExpiryIsTheCohorts(t *testing.T) {
	monday := time.Date(2026, 11, 30, 0, 0, 0, 0, time.UTC)
	for in, want := range map[time.Time]time.Time{
		monday: monday, monday.Add(time.Second): monday.AddDate(0, 0, 7), monday.Add(-time.Second): monday, monday.AddDate(0, 0, -6): monday,
	} {
		if got := credential.Expiry(in); !got.Equal(want) || got.Weekday() != time.Monday {
			t.Errorf("%v: %v", in, got)
		}
	}
}

func TestZeroValuesAreRefused(t *testing.T) {
	w := newWorld(t)
	p := w.present(t)
	for name, change := range map[string]func(*credential.Expect){
		"audience": func(e *credential.Expect) { e.Audience = "" },
		"nonce":    func(e *credential.Expect) { e.Nonce = "" },
		"issuer":   func(e *credential.Expect) { e.Issuer = "" },
		"roots":    func(e *credential.Expect) { e.Roots = nil },
		"types":    func(e *credential.Expect) { e.Types = nil },
		"now":      func(e *credential.Expect) { e.Now = time.Time{} },
	} {
		e := w.expect
		change(&e)
		if c, err := credential.Verify(p, e); err == nil || c.Valid() {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := (credential.Issued{}).Present(nil, credential.Binding{Audience: audience, Nonce: nonce, IssuedAt: now}, w.key); err == nil {
		t.Error("presented nothing")
	}
	if (credential.VerifiedStatusList{}).Check(w.content.Status, now) == nil {
		t.Error("no list says valid")
	}
	if _, err := (credential.Request{}).Seal(nil); err == nil {
		t.Error("sealed to nobody")
	}
}

// RFC 9901's main example: its signatures, digests and hash are found right, and it
// is refused as a whole, since it has disclosures in a list and an object as a value.
func TestRFC9901(t *testing.T) {
	var v struct {
		IssuerKey    json.RawMessage `json:"issuer_key"`
		Issued       string          `json:"issued"`
		Presentation string          `json:"presentation"`
		Disclosures  []struct{ Disclosure, Digest string }
	}
	b, err := os.ReadFile("testdata/rfc9901.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatal(err)
	}
	for _, d := range v.Disclosures {
		if got := credential.DigestOf(d.Disclosure); got != d.Digest {
			t.Errorf("%s: %s", d.Disclosure, got)
		}
	}
	flat := map[string]any{"given_name": "John", "family_name": "Doe", "email": "johndoe@example.com", "phone_number": "+1-202-555-0101",
		"phone_number_verified": true, "birthdate": "1940-01-01"}
	_, all, binding, err := credential.Split(v.Issued)
	if err != nil || len(all) != 10 || binding != "" {
		t.Fatal(len(all), binding, err)
	}
	for _, d := range all {
		name, value, err := credential.ParseDisclosure(d)
		if err == nil && flat[name] != value {
			t.Errorf("%s: %v", name, value)
		}
		if err != nil {
			wants(t, err, credential.ErrDisclosure)
			continue
		}
		delete(flat, name)
	}
	if len(flat) > 0 {
		t.Errorf("not read: %v", flat)
	}
	jwt, shown, binding, err := credential.Split(v.Presentation)
	if err != nil || len(shown) != 4 {
		t.Fatal(shown, err)
	}
	key, err := credential.ParseObject(v.IssuerKey, 4)
	if err != nil {
		t.Fatal(err)
	}
	p, err := credential.VerifyJWS(jwt, "example+sd-jwt", key)
	if err != nil {
		t.Fatal(err)
	}
	cnf, _ := p.Object("cnf")
	holder, _ := cnf.Object("jwk")
	kb, err := credential.VerifyJWS(binding, credential.KeyBindingType, holder)
	if err != nil {
		t.Fatal(err)
	}
	if hash, _ := kb.Text("sd_hash"); hash != credential.DigestOf(strings.TrimSuffix(v.Presentation, binding)) {
		t.Error("sd_hash")
	}
	w := newWorld(t)
	_, err = credential.Verify(v.Presentation, w.expect)
	wants(t, err, credential.ErrType) // example+sd-jwt
	if _, err := credential.VerifyJWS(jwt, credential.CredentialType, key); !errors.Is(err, credential.ErrType) {
		t.Error(err)
	}
}
