package holder

import (
	"fmt"
	"net/url"
	"slices"
	"strings"

	"enrollkiosk/registry/credential"
)

// maxLink is the longest address that is looked at, in bytes.
const maxLink = 2 << 10

// Link is an address that a browser was asked to open (OpenID4VP 1.0, 5.10): from
// anybody. ParseLink makes it; nothing in it is believed.
type Link struct {
	ClientID   string // x509_hash or x509_san_dns
	RequestURI string // https
}

// schemes are those that the helper is registered for. Debian 12's opener takes one
// with a digit for a file name.
var schemes = []string{"haip-vp", "openid4vp"}

// ParseLink reads exactly three parameters, each once. Errors wrap ErrLink.
func ParseLink(text string) (Link, error) {
	refuse := func(why string) (Link, error) { return Link{}, fmt.Errorf("%w (%s)", ErrLink, why) }
	if len(text) > maxLink {
		return refuse("too long")
	}
	for _, c := range []byte(text) {
		if c <= ' ' || c >= 0x7F {
			return refuse("characters")
		}
	}
	u, err := url.Parse(text)
	if err != nil {
		return refuse("form")
	}
	if !slices.Contains(schemes, u.Scheme) || u.Opaque != "" || u.User != nil || u.Fragment != "" || strings.Contains(text, "#") ||
		u.Host != "" && u.Host != "authorize" || u.Path != "" && u.Path != "/" {
		return refuse("address")
	}
	q, err := url.ParseQuery(u.RawQuery)
	if err != nil || len(q) != 3 || len(q["client_id"]) != 1 || len(q["request_uri"]) != 1 || !slices.Equal(q["request_uri_method"], []string{"post"}) {
		return refuse("parameters")
	}
	l := Link{q.Get("client_id"), q.Get("request_uri")}
	prefix, id, _ := strings.Cut(l.ClientID, ":")
	if id == "" || !slices.Contains([]string{"x509_hash", "x509_san_dns"}, prefix) {
		return Link{}, fmt.Errorf("%w: %w", ErrLink, credential.ErrClientID)
	}
	r, err := plainHTTPS(l.RequestURI)
	if err != nil || r.Fragment != "" || strings.Contains(l.RequestURI, "#") {
		return refuse("request_uri")
	}
	return l, nil
}

// plainHTTPS is an https address with a host and without a user.
func plainHTTPS(text string) (*url.URL, error) {
	for _, c := range []byte(text) {
		if c <= ' ' || c >= 0x7F || c == '"' || c == '\\' {
			return nil, ErrLink
		}
	}
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.Hostname() == "" || u.User != nil || u.Opaque != "" {
		return nil, ErrLink
	}
	return u, nil
}

// hostName is a DNS name as a person may be shown it: ASCII letters, digits, hyphens
// and dots, none of them in a place where it deceives.
func hostName(s string) bool {
	if s == "" || len(s) > 253 {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for _, c := range []byte(label) {
			if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
				return false
			}
		}
	}
	return true
}
