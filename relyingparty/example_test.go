package relyingparty_test

import (
	"context"
	"crypto/x509"
	"log"
	"log/slog"
	"net/http"

	"enrollkiosk/registry/credential"
	"enrollkiosk/relyingparty"
)

// A website with everything that signing in needs.
func Example() {
	var site credential.Site // the certificate of the authority that registers sites, and its key
	var roots *x509.CertPool // of the issuer's CA

	party, err := relyingparty.New(relyingparty.Config{
		URL:         "https://forum.example/signin",
		Site:        site,
		Issuer:      credential.Authority{Issuer: "https://id.example", Roots: roots},
		StatusLists: []string{"https://id.example/status/1"},
		Log:         slog.Default(),
	})
	if err != nil {
		log.Fatal(err)
	}
	go party.Run(context.Background()) // keeps the status lists fresh

	ask := relyingparty.Ask{Claims: []string{credential.RealNameVerified, credential.AgeOver18}}
	http.Handle("/signin/", party.Handler(ask, func(w http.ResponseWriter, r *http.Request, l relyingparty.Login) {
		// Make a session under a new id for the account l.Pseudonym().
		http.Redirect(w, r, "/", http.StatusSeeOther)
	}))
}
