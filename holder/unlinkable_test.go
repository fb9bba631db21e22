package holder_test

import (
	"encoding/base64"
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"testing"

	"enrollkiosk/registry/credential"
)

// Two websites lay side by side every byte that they saw of one citizen, and of
// another: nothing is equal but what is equal for everybody.
func TestTwoWebsitesHaveNothingInCommon(t *testing.T) {
	w := newWorld(t)
	one, two := w.citizen(), w.citizen()
	one.collect()
	two.collect()
	a, b := w.site("a", credential.AgeOver18), w.site("b", credential.AgeOver18)
	a.login(one.Helper)
	b.login(one.Helper)
	a.login(two.Helper)
	onesAtA, onesAtB, twosAtA := seen(t, a, 0), seen(t, b, 0), seen(t, a, 1)
	common := map[string]bool{}
	for v := range twosAtA {
		if onesAtA[v] {
			common[v] = true
		}
	}
	for v := range onesAtB {
		// One of the few status lists that there are for all may come by chance.
		if onesAtA[v] && !common[v] && !slices.Contains(w.lists, v) {
			t.Errorf("both websites saw %q of one citizen, and not of the other", v)
		}
	}
	if len(common) < 5 {
		t.Errorf("%d values in common: the test sees nothing", len(common))
	}
	// What is in common is written out: nobody's, or everybody's.
	leaf := base64.StdEncoding.EncodeToString(w.issuer.signer.Chain[0].Raw)
	for v := range common {
		switch {
		case v == leaf, strings.HasPrefix(v, w.issuer.id), everybodys.MatchString(v):
		default:
			t.Errorf("in common, and not known why: %q", v)
		}
	}
}

// everybodys are the values that the format itself fixes, and times of this minute.
var everybodys = regexp.MustCompile(`^(ES256|dc\+sd-jwt|kb\+jwt|sha-256|EC|P-256|age_over_18|true|[0-9]{10}|x509_hash:.*|` +
	`ECDH-ES|A256GCM|1|POST /(request|response) HTTP/1\.1|Accept: application/(json|oauth-authz-req\+jwt)|Content-Type: application/x-www-form-urlencoded|` +
	`Host: .*|Connection: close)$`)

// seen are the single values of what one visit left at a website: of the headers, of
// the encryption's header, and of the presentation down to every member.
func seen(t *testing.T, s *site, visit int) map[string]bool {
	t.Helper()
	values := map[string]bool{}
	var walk func(v any)
	walk = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			for name, m := range v {
				if name != "iat" { // the website's own clock, which it has anyway
					walk(m)
				}
			}
		case []any:
			for _, m := range v {
				walk(m)
			}
		case string:
			values[v] = true
		case bool, json.Number:
			b, _ := json.Marshal(v)
			values[string(b)] = true
		}
	}
	part := func(text string) {
		b, err := base64.RawURLEncoding.DecodeString(text)
		if err != nil {
			t.Fatal(err)
		}
		d := json.NewDecoder(strings.NewReader(string(b)))
		d.UseNumber()
		var v any
		if err := d.Decode(&v); err != nil {
			t.Fatalf("%q: %v", b, err)
		}
		walk(v)
	}
	for _, raw := range s.raw[2*visit : 2*visit+2] {
		head, body, _ := strings.Cut(raw, "\r\n\r\n")
		for line := range strings.SplitSeq(head, "\r\n") {
			if !strings.HasPrefix(line, "Content-Length:") { // of what is compared here
				values[line] = true
			}
		}
		if jwe, ok := strings.CutPrefix(body, "response="); ok {
			parts := strings.Split(jwe, ".")
			part(parts[0])
			for _, p := range parts[2:] { // no encrypted key with ECDH-ES
				values[p] = true
			}
		} else {
			values[body] = true
		}
	}
	for i, p := range strings.Split(s.shown[visit], "~") {
		if jwt := strings.Split(p, "."); len(jwt) == 3 {
			part(jwt[0])
			part(jwt[1])
			values[jwt[2]] = true
		} else if p != "" && i > 0 {
			part(p)
		}
	}
	return values
}

// No name of the program, no language, no cookie.
func TestHeaders(t *testing.T) {
	w := newWorld(t)
	c := w.citizen()
	c.collect()
	s := w.site("a")
	s.login(c.Helper)
	for _, raw := range append(s.raw, w.issuer.seen...) {
		head, _, _ := strings.Cut(raw, "\r\n\r\n")
		for line := range strings.SplitSeq(head, "\r\n") {
			name, _, _ := strings.Cut(strings.ToLower(line), ":")
			switch {
			case strings.HasPrefix(line, "POST "), strings.HasPrefix(line, "GET "):
			case name == "host", name == "content-length", name == "content-type", name == "accept", name == "authorization", name == "connection":
			default:
				t.Errorf("it sends %q", line)
			}
		}
	}
}

// Two presentations of one credential at one website share its key, and no other
// website's.
func TestTokenStaysOutOfSight(t *testing.T) {
	w := newWorld(t)
	c := w.citizen()
	c.collect()
	s := w.site("a")
	s.login(c.Helper)
	for _, raw := range append(s.raw, s.shown...) {
		if strings.Contains(raw, c.did) || strings.Contains(raw, strings.TrimPrefix(c.did, "did:key:")) {
			t.Error("a website saw the enrolled key")
		}
	}
}
