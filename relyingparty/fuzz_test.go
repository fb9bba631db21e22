package relyingparty_test

import (
	"encoding/json"
	"net/url"
	"strings"
	"testing"
)

// What comes to the response endpoint is taken or refused; only a presentation that
// the wallet made for this request signs anybody in.
func FuzzResponse(f *testing.F) {
	w := newWorld(f)
	f.Add("response", "a.b.c.d.e")
	f.Add("response", "eyJhbGciOiJub25lIn0.e30.")
	f.Add("error", "access_denied")
	f.Add("response=x&response", "{}")
	f.Fuzz(func(t *testing.T, field, value string) {
		h, b := w.wallet(), w.browser()
		r, err := h.fetch(t, b.begin(t, w.a, "adult"))
		if err != nil {
			t.Fatal(err)
		}
		redirect, err := h.post(t, r.ResponseURI(), url.Values{field: {value}})
		if err != nil {
			return
		}
		if l, err := b.back(t, w.a, redirect); err == nil {
			t.Fatalf("%q=%q signs in %s", field, value, l.Pseudonym())
		}
	})
}

// The same behind the encryption, which anybody can make: GOOD stands for a
// presentation that answers the request, STATE for its state.
func FuzzVPToken(f *testing.F) {
	w := newWorld(f)
	h := w.wallet()
	f.Add(`{"vp_token":{"person":["GOOD"]},"state":"STATE"}`)
	f.Add(`{"vp_token":{"person":["GOOD","GOOD"]},"state":"STATE"}`)
	f.Add(`{"vp_token":{"person":"GOOD"},"state":"STATE"}`)
	f.Add(`{"vp_token":{"person":["GOOD"],"PERSON":["GOOD"]},"state":"STATE"}`)
	f.Add(`{"vp_token":{"person":["a~b~c"]},"state":"STATE"}`)
	f.Fuzz(func(t *testing.T, text string) {
		b := w.browser()
		r, err := h.fetch(t, b.begin(t, w.a, "adult"))
		if err != nil {
			t.Fatal(err)
		}
		good := h.present(t, r)["person"]
		text = strings.NewReplacer("GOOD", good, "STATE", r.State()).Replace(text)
		redirect, err := h.post(t, r.ResponseURI(), url.Values{"response": {h.seal(t, []byte(text))}})
		if err != nil {
			return
		}
		if _, err := b.back(t, w.a, redirect); err != nil {
			return
		}
		var token struct {
			Token map[string][]string `json:"vp_token"`
			State string
		}
		if err := json.Unmarshal([]byte(text), &token); err != nil || token.State != r.State() || len(token.Token) != 1 ||
			len(token.Token["person"]) != 1 || token.Token["person"][0] != good {
			t.Fatalf("%q signs somebody in", text)
		}
	})
}

// Whatever stands in the path, no request is given that nobody began.
func FuzzRequestPath(f *testing.F) {
	w := newWorld(f)
	f.Add("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "nonce")
	f.Add("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAB", "nonce")
	f.Add("..", "")
	f.Fuzz(func(t *testing.T, state, nonce string) {
		client := w.browser()
		body := client.post(t, "https://a.example/signin/request/"+url.PathEscape(state), url.Values{"wallet_nonce": {nonce}})
		if strings.HasPrefix(body, "ey") {
			t.Fatalf("%q: %s", state, body)
		}
	})
}
