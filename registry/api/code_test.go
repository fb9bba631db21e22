package api_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"enrollkiosk/registry/api"
)

func TestCode(t *testing.T) {
	root, tls := sha256.Sum256([]byte("root")), sha256.Sum256([]byte("tls"))
	c := api.NewCode(root, tls)
	text := c.Text()
	if !regexp.MustCompile(`^([A-Z2-7]{4}-){20}[A-Z2-7]{4}$`).MatchString(text) {
		t.Errorf("code %s", text)
	}
	if api.NewCode(root, tls).Text() == text {
		t.Error("two codes are alike")
	}
	for _, typed := range []string{text, strings.ToLower(text), strings.ReplaceAll(text, "-", ""), strings.ReplaceAll(text, "-", " \r\n"), text + "\n"} {
		got, err := api.ParseCode(typed)
		if err != nil || !got.Secret.Equal(c.Secret) || got.Root != [16]byte(root[:]) || got.TLS != [16]byte(tls[:]) {
			t.Errorf("%q: %v", typed, err)
		}
	}
	// Every single mistyped character is found, and so are two exchanged ones.
	for i := range text {
		for _, r := range "A2-" {
			bad := text[:i] + string(r) + text[i+1:]
			if _, err := api.ParseCode(bad); (err == nil) != (strings.ReplaceAll(bad, "-", "") == strings.ReplaceAll(text, "-", "")) || err != nil && !errors.Is(err, api.ErrCode) {
				t.Errorf("%q: %v", bad, err)
			}
		}
		if i > 0 && text[i] != text[i-1] && text[i] != '-' && text[i-1] != '-' {
			if _, err := api.ParseCode(text[:i-1] + text[i:i+1] + text[i-1:i] + text[i+1:]); !errors.Is(err, api.ErrCode) {
				t.Errorf("exchanged at %d: %v", i, err)
			}
		}
	}
	for _, bad := range []string{"", text[:80], text + "AAAA", strings.Repeat("A", 84), strings.Repeat(" ", 1000), "0" + text[1:], "é" + text[1:]} {
		if _, err := api.ParseCode(bad); !errors.Is(err, api.ErrCode) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	if shown := fmt.Sprintf("%v %+v %#v %s", c, c, c, c); strings.Contains(shown, string(c.Secret.Reveal())) {
		t.Error("the secret prints")
	}
}

func FuzzParseCode(f *testing.F) {
	f.Add(api.NewCode([32]byte{1}, [32]byte{2}).Text())
	f.Add("")
	f.Fuzz(func(t *testing.T, s string) {
		c, err := api.ParseCode(s)
		if err != nil {
			if !errors.Is(err, api.ErrCode) {
				t.Errorf("untyped: %v", err)
			}
			return
		}
		if again, err := api.ParseCode(c.Text()); err != nil || again.Text() != c.Text() {
			t.Errorf("%q does not come back: %v", s, err)
		}
	})
}

func TestFingerprint(t *testing.T) {
	f := api.Fingerprint([]byte("key"))
	if !regexp.MustCompile(`^([0-9a-f]{4} ){7}[0-9a-f]{4}$`).MatchString(f) {
		t.Errorf("fingerprint %q", f)
	}
	for typed, same := range map[string]bool{f: true, strings.ToUpper(f): true, strings.ReplaceAll(f, " ", ":"): true, strings.ReplaceAll(f, " ", ""): true,
		"": false, f[1:]: false, f + "0": false, api.Fingerprint([]byte("other")): false} {
		if api.SameFingerprint(typed, f) != same {
			t.Errorf("%q: %v", typed, !same)
		}
	}
	if api.SameFingerprint("", "") {
		t.Error("nothing is the same as nothing")
	}
}
