package vault_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"

	"enrollkiosk/registry/api"
	"enrollkiosk/registry/internal/registrytest"
	"enrollkiosk/registry/receipt"
	"enrollkiosk/registry/record"
	"enrollkiosk/registry/vault"
	"enrollkiosk/simulators/idcard"
)

// scraped is what Prometheus is told.
func scraped(t *testing.T, v *vault.Vault) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- v.ServeMetrics(ctx, l) }()
	a, err := http.Get("http://" + l.Addr().String() + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer a.Body.Close()
	b, err := io.ReadAll(a.Body)
	cancel()
	if err := errors.Join(err, <-ended); err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestMetrics(t *testing.T) {
	w := registrytest.New(t, state(t).CSCA())
	k := w.Kiosk(t, "KIOSK-0001")
	v := open(t, w.VaultOptions())
	anna := card(t, idcard.SpecimenPerson(), idcard.Options{})
	namesake := card(t, another("L898902C8", idcard.SpecimenPerson().GivenNames), idcard.Options{})
	enroll := func(c *idcard.Chip) record.Submission {
		return k.Make(t, registrytest.Spec{Identity: identityOf(t, c, nil)})
	}
	has := func(text string, wanted ...string) {
		t.Helper()
		for _, want := range wanted {
			if !strings.Contains(text, "\n"+want) {
				t.Errorf("no %s in\n%s", want, text)
			}
		}
	}
	lose := backUp(t, w, v)
	first, second := enroll(anna), enroll(anna)
	judged(t, w, v, first)
	judged(t, w, v, second)
	judged(t, w, v, second) // the same verdict again is none more
	judged(t, w, v, enroll(namesake))
	judged(t, w, v, k.Make(t, registrytest.Spec{}))
	text := scraped(t, v)
	has(text, `vault_judged_total{code="",status="active"} 2`, `vault_judged_total{code="vault-review",status="refused"} 1`,
		`vault_judged_total{code="vault-document",status="refused"} 1`, `vault_duplicates_total{same="document"} 1`, `vault_duplicates_total{same="name"} 1`,
		"vault_reviews_open 2", "vault_behind 0", "vault_persons_lost_total 0", "vault_store_bytes ", "vault_policy_expires_timestamp_seconds ",
		"vault_certificate_expires_timestamp_seconds ", "go_goroutines ", "process_open_fds ")
	if _, err := v.Resolve(t.Context(), second.ID(), by(receipt.Refused)); err != nil {
		t.Fatal(err)
	}
	has(scraped(t, v), "vault_reviews_open 1")
	for _, no := range []string{k.ID, api.ID(first.ID()).String(), first.Record().Payload().Holder.DID, "ERIKSSON", "L898902C", "4711"} {
		if strings.Contains(text, no) {
			t.Errorf("the metrics name %s", no)
		}
	}
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	v = open(t, w.VaultOptions())
	has(scraped(t, v), "vault_reviews_open 1") // counted anew

	forged := shown(t, v, first)
	forged[0].Verdict = forged[0].Verdict[:len(forged[0].Verdict)-5] + "AAAAA"
	v = lose(v)
	if _, err := v.Level(t.Context(), api.LevelRequest{Judged: forged}); err != nil {
		t.Fatal(err)
	}
	has(scraped(t, v), "vault_behind 1", "vault_persons_lost_total 1")

	documented, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"vault_unblocks_total", "vault_errors_total"} {
		text += "\n# TYPE " + name + " counter"
	}
	for _, line := range strings.Split(text, "\n") {
		if name, ok := strings.CutPrefix(line, "# TYPE vault_"); ok {
			name, _, _ = strings.Cut(name, " ")
			if !strings.Contains(string(documented), "`vault_"+name+"`") {
				t.Errorf("docs/metrics.md lacks vault_%s", name)
			}
		}
	}
}
