package holder

import (
	"net/url"
	"strings"
	"testing"

	"enrollkiosk/registry/credential"
)

const issuerMetadata = `{"credential_issuer":"https://id.example","credential_endpoint":"https://id.example/credential","nonce_endpoint":"https://id.example/nonce",
"offer_request_endpoint":"https://id.example/offer","status_lists":["https://id.example/status/0"],"batch_credential_issuance":{"batch_size":32},
"credential_configurations_supported":{"real-person":{"format":"dc+sd-jwt","vct":"https://id.example/vct/real-person/1",
"cryptographic_binding_methods_supported":["jwk"],"proof_types_supported":{"jwt":{"proof_signing_alg_values_supported":["ES256"],"key_attestations_required":{}}}}}}`

var published = Authority{Issuer: "https://id.example", StatusLists: []string{"https://id.example/status/0"}}

func TestWellKnown(t *testing.T) {
	for issuer, want := range map[string]string{
		"https://id.example":         "https://id.example/.well-known/x",
		"https://id.example:8443/a/": "https://id.example:8443/.well-known/x/a",
		"https://id.example/a/b":     "https://id.example/.well-known/x/a/b",
	} {
		if got := wellKnown(issuer, "x"); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

func TestParseIssuer(t *testing.T) {
	m, err := parseIssuer([]byte(issuerMetadata), published, credential.RealPerson(published.Issuer))
	if err != nil || m != (metadata{"real-person", 32, "https://id.example/credential", "https://id.example/nonce", "https://id.example/offer", ""}) {
		t.Fatalf("%+v, %v", m, err)
	}
	large := strings.Replace(issuerMetadata, "32", "5000", 1)
	if m, err := parseIssuer([]byte(large), published, credential.RealPerson(published.Issuer)); err != nil || m.batch != credential.MaxBatch {
		t.Errorf("%+v, %v", m, err)
	}
}

func FuzzParseIssuer(f *testing.F) {
	f.Add(issuerMetadata)
	f.Add(strings.Replace(issuerMetadata, "id.example/offer", "id.example:1/offer", 1))
	f.Add(strings.Replace(issuerMetadata, "32", "0", 1))
	f.Add(`{"credential_issuer":"https://id.example"}`)
	f.Fuzz(func(t *testing.T, text string) {
		m, err := parseIssuer([]byte(text), published, credential.RealPerson(published.Issuer))
		if err != nil {
			return
		}
		if m.configuration == "" || m.batch < 1 || m.batch > credential.MaxBatch {
			t.Errorf("%+v", m)
		}
		for _, address := range []string{m.credential, m.nonce, m.offer} {
			if u, err := url.Parse(address); err != nil || u.Scheme != "https" || u.Host != "id.example" {
				t.Errorf("it would send to %q", address)
			}
		}
	})
}

const someOffer = `{"credential_issuer":"https://id.example","credential_configuration_ids":["real-person"],
"grants":{"urn:ietf:params:oauth:grant-type:pre-authorized_code":{"pre-authorized_code":"abc","tx_code":{"input_mode":"text","length":9}}}}`

func TestParseOffer(t *testing.T) {
	if o, err := parseOffer([]byte(someOffer), published.Issuer, "real-person"); err != nil || o != (offer{"abc", true}) {
		t.Errorf("%+v, %v", o, err)
	}
	if _, err := parseOffer([]byte(someOffer), published.Issuer, "legal-name"); err != ErrNotIssued && !strings.Contains(err.Error(), ErrNotIssued.Error()) {
		t.Error(err)
	}
}

// FuzzAnswers are the issuer's other answers.
func FuzzAnswers(f *testing.F) {
	f.Add(someOffer)
	f.Add(`{"access_token":"abc","token_type":"Bearer"}`)
	f.Add(`{"access_token":"abc\r\nX: y","token_type":"bearer"}`)
	f.Add(`{"credentials":[{"credential":"a~"},{"credential":"b~"}]}`)
	f.Fuzz(func(t *testing.T, text string) {
		if o, err := parseOffer([]byte(text), published.Issuer, "real-person"); err == nil && (o.code == "" || len(o.code) > 512) {
			t.Errorf("%+v", o)
		}
		if access, err := parseToken([]byte(text)); err == nil && (access == "" || strings.ContainsAny(access, " \r\n,;\"")) {
			t.Errorf("%q would stand in a header", access)
		}
		parseBatch([]byte(text))
	})
}

// FuzzHostName: what a person is shown of a website is plain.
func FuzzHostName(f *testing.F) {
	for _, s := range []string{"a.example", "xn--80ak6aa92e.example", "a..example", "-a", "a-", "*.example", "a\u202eexample", "A.example", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if hostName(s) && (strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789-.") != "" || strings.Contains(s, "..") || s == "") {
			t.Errorf("%q would be shown", s)
		}
	})
}
