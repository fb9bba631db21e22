package relyingparty_test

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"enrollkiosk/registry/credential/credentialtest"
)

// What a site does when the browser is back, from the form to the Login, status
// included, as a ratio to the three signature checks that it cannot do without:
// issuer's certificate, credential, key binding. And how many whole sign-ins, from the
// button on, one core gets through: a key, a signature and a key agreement more.
func BenchmarkLogin(b *testing.B) {
	w := newWorld(b)
	h := w.wallet()
	if _, err := h.signIn(b, w.a, "adult"); err != nil { // fetches the status list
		b.Fatal(err)
	}
	key := credentialtest.Key(b)
	digest := sha256.Sum256([]byte("digest"))
	sig, err := ecdsa.SignASN1(rand.Reader, key, digest[:])
	if err != nil {
		b.Fatal(err)
	}
	finish, whole, bare := time.Hour, time.Hour, time.Hour // the fastest of each: what else the machine does falls out
	var presentation, jwe int
	for b.Loop() {
		begin := httptest.NewRecorder()
		post := httptest.NewRequest("POST", "https://a.example/begin/adult", nil)
		start := time.Now()
		w.web["a.example"].ServeHTTP(begin, post)
		site := time.Since(start)

		w.web["a.example"] = clocked(w.web["a.example"], &site)
		r, err := h.fetch(b, begin.Body.String())
		if err != nil {
			b.Fatal(err)
		}
		shown := h.present(b, r)
		sealed, err := r.Seal(shown)
		if err != nil {
			b.Fatal(err)
		}
		redirect, err := h.post(b, r.ResponseURI(), url.Values{"response": {sealed}})
		if err != nil {
			b.Fatal(err)
		}
		w.web["a.example"] = w.web["a.example"].(*clock).Handler
		presentation, jwe = len(shown["person"]), len(sealed)

		_, code, _ := strings.Cut(redirect, "response_code=")
		back, answer := w.a.back(begin.Result().Cookies(), code), httptest.NewRecorder()
		start = time.Now()
		if _, err := w.a.party.Finish(answer, back); err != nil {
			b.Fatal(err)
		}
		last := time.Since(start)
		finish, whole = min(finish, last), min(whole, site+last)

		start = time.Now()
		for range 3 {
			if !ecdsa.VerifyASN1(&key.PublicKey, digest[:], sig) {
				b.Fatal("signature")
			}
		}
		bare = min(bare, time.Since(start))
	}
	b.ReportMetric(float64(finish)/float64(bare), "x-of-signatures")
	b.ReportMetric(1/whole.Seconds(), "logins/s")
	b.ReportMetric(float64(presentation), "presentation-bytes")
	b.ReportMetric(float64(jwe), "response-bytes")
}

// clock adds up the time that a server takes.
type clock struct {
	http.Handler
	sum *time.Duration
}

func clocked(h http.Handler, sum *time.Duration) *clock { return &clock{h, sum} }

func (c *clock) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	start := time.Now()
	c.Handler.ServeHTTP(w, r)
	*c.sum += time.Since(start)
}
