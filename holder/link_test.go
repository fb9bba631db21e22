package holder_test

import (
	"errors"
	"strings"
	"testing"

	"enrollkiosk/holder"
	"enrollkiosk/registry/credential"
)

const goodLink = "haip-vp://authorize?client_id=x509_hash%3AAAAA&request_uri=https%3A%2F%2Fa.example%2Frequest%2F1&request_uri_method=post"

func TestParseLink(t *testing.T) {
	want := holder.Link{ClientID: "x509_hash:AAAA", RequestURI: "https://a.example/request/1"}
	for _, link := range []string{goodLink, strings.Replace(goodLink, "haip-vp", "openid4vp", 1), strings.Replace(goodLink, "authorize", "", 1),
		strings.Replace(goodLink, "//authorize", "//authorize/", 1), strings.Replace(goodLink, "haip-vp", "HAIP-VP", 1)} {
		if got, err := holder.ParseLink(link); err != nil || got != want {
			t.Errorf("%s: %+v, %v", link, got, err)
		}
	}
	change := func(old, new string) string {
		t.Helper()
		if !strings.Contains(goodLink, old) {
			t.Fatal(old)
		}
		return strings.Replace(goodLink, old, new, 1)
	}
	for name, link := range map[string]string{
		"empty":                    "",
		"a flag":                   "--config=/tmp/x",
		"another scheme":           change("haip-vp", "https"),
		"a scheme that looks like": change("haip-vp", "haip-vps"),
		"another host":             change("authorize", "evil"),
		"a user":                   change("authorize", "me@authorize"),
		"a path":                   change("authorize?", "authorize/x?"),
		"a fragment":               goodLink + "#x",
		"an empty fragment":        goodLink + "#",
		"a fourth parameter":       goodLink + "&state=1",
		"a parameter twice":        goodLink + "&client_id=x509_hash%3AAAAB",
		"a request by value":       change("request_uri=", "request="),
		"get":                      change("method=post", "method=get"),
		"no method":                change("&request_uri_method=post", ""),
		"a semicolon":              change("&request_uri_method", ";request_uri_method"),
		"http":                     change("https%3A", "http%3A"),
		"file":                     change("https%3A%2F%2Fa.example", "file%3A%2F%2F"),
		"a user in the address":    change("a.example", "a.example%40evil.example"),
		"no host":                  change("a.example", ""),
		"a fragment in it":         change("request%2F1", "request%231"),
		"a quote in it":            change("request%2F1", "request%221"),
		"a line break in it":       change("request%2F1", "request%0A1"),
		"a space":                  goodLink + " --flag",
		"a quote that splits":      goodLink + "\" --config evil",
		"a line break":             goodLink + "\n",
		"not ASCII":                change("a.example", "ä.example"),
		"too long":                 goodLink + strings.Repeat("x", 2048),
	} {
		if l, err := holder.ParseLink(link); !errors.Is(err, holder.ErrLink) || l != (holder.Link{}) {
			t.Errorf("%s: %+v, %v", name, l, err)
		}
	}
	for _, id := range []string{"redirect_uri:https://a.example", "a.example", "origin:https://a.example", "openid_federation:https://a.example",
		"decentralized_identifier:did:web:a.example", "verifier_attestation:a", "x509_hash:", "x509_hash", ""} {
		if _, err := holder.ParseLink(change("x509_hash%3AAAAA", strings.ReplaceAll(id, ":", "%3A"))); !errors.Is(err, credential.ErrClientID) || !errors.Is(err, holder.ErrLink) {
			t.Errorf("client id %q: %v", id, err)
		}
	}
}

func FuzzParseLink(f *testing.F) {
	f.Add(goodLink)
	f.Add("haip-vp:authorize?client_id=x509_hash:A&request_uri=https://a&request_uri_method=post")
	f.Add("openid4vp://?client_id=x509_san_dns:a&request_uri=https://a:443/%41&request_uri_method=post")
	f.Fuzz(func(t *testing.T, text string) {
		l, err := holder.ParseLink(text)
		if err != nil {
			if l != (holder.Link{}) {
				t.Errorf("refused, and yet %+v", l)
			}
			return
		}
		if len(text) > 2048 || !strings.HasPrefix(l.RequestURI, "https://") && !strings.HasPrefix(strings.ToLower(l.RequestURI), "https://") ||
			strings.ContainsAny(l.RequestURI, " \"\r\n#\\") || !strings.HasPrefix(l.ClientID, "x509_") {
			t.Errorf("%q: %+v", text, l)
		}
	})
}
