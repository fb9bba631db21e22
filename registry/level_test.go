package registry_test

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"enrollkiosk/registry/api"
	"enrollkiosk/registry/internal/registrytest"
	"enrollkiosk/registry/receipt"
	"enrollkiosk/registry/record"
	"enrollkiosk/registry/vault"
	"enrollkiosk/simulators/idcard"
)

// A vault is lost and put back from a backup that is older than two enrollments. The
// registry shows it what it had judged since, and the same documents are found again.
func TestVaultPutBackLearnsFromTheRegistry(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"embedded", "postgres"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			w := registrytest.New(t, specimenState(t).CSCA())
			k := w.Kiosk(t, "KIOSK-0001")
			o := w.RegistryOptions("")
			if kind == "postgres" {
				o.Database, _ = database(t)
				enlist(t, w, o.Database, k)
			}
			with := func(v *vault.Vault) (c client, stop func()) {
				address, stopVault := runVault(t, v, "127.0.0.1:0")
				o.Vault = w.RegistryOptions(address).Vault
				r := serve(t, o)
				return connect(t, w, r.URL, k.TLS), func() { r.stop(); stopVault() }
			}
			open := func() *vault.Vault {
				v, err := vault.Open(t.Context(), w.VaultOptions())
				if err != nil {
					t.Fatal(err)
				}
				return v
			}
			person := func(number, given string) func() record.Submission {
				p := idcard.SpecimenPerson()
				p.Number, p.GivenNames = number, given
				identity := identityOf(t, p)
				return func() record.Submission { return k.Make(t, registrytest.Spec{Identity: identity}) }
			}
			anna, berta := person("L898902C1", "ANNA"), person("L898902C2", "BERTA")
			v := open()
			c, stop := with(v)
			decided := func(s record.Submission, status api.Status) api.RecordStatus {
				t.Helper()
				c.send(s)
				got := c.until(s.ID(), "verdict", isDecided)
				if got.Status != status {
					t.Fatalf("%+v", got)
				}
				return got
			}
			first := anna()
			decided(first, api.Active)
			to, keys := filepath.Join(w.Dir, "backup"), filepath.Join(w.Dir, "keys")
			if _, err := vault.Backup(t.Context(), w.VaultDir(), w.Policy, to, keys, v.Snapshot, time.Now()); err != nil {
				t.Fatal(err)
			}
			bertas, again := berta(), anna()
			decided(bertas, api.Active)
			before := decided(again, api.Refused)
			// A person finds that the second of Anna's is right.
			if _, err := v.Resolve(t.Context(), again.ID(), vault.Resolution{Decision: receipt.Active, By: "desk", Reason: "the first token was lost"}); err != nil {
				t.Fatal(err)
			}
			taken := c.until(again.ID(), "outcome", func(s api.RecordStatus) bool { return s.Verdict != before.Verdict })
			c.until(first.ID(), "outcome", func(s api.RecordStatus) bool { return s.Status == api.Refused })
			stop()

			if err := errors.Join(os.RemoveAll(w.VaultDir()), vault.Restore(t.Context(), to, keys, w.VaultDir(), w.Policy, time.Now())); err != nil {
				t.Fatal(err)
			}
			v = open()
			address, stopVault := runVault(t, v, "127.0.0.1:0")
			asked := vaultClient(t, w, address)
			asked.problem(http.MethodPost, api.PathOpen, api.MediaJSON, encoded(t, api.OpenRequest{Record: berta().Bytes()}), http.StatusServiceUnavailable, api.CodeBehind)
			asked.problem(http.MethodPost, api.PathOutcomes, api.MediaJSON, encoded(t, api.OutcomesRequest{}), http.StatusServiceUnavailable, api.CodeBehind)
			asked.problem(http.MethodPost, api.PathClaims, api.MediaJSON, encoded(t, api.ClaimsRequest{Record: bertas.Bytes()}), http.StatusServiceUnavailable, api.CodeBehind)
			status, b := asked.do(http.MethodPost, api.PathLevel, api.MediaJSON, encoded(t, api.LevelRequest{Judged: []api.Judged{{Record: bertas.ID(), Verdict: taken.Verdict}}}))
			if status != http.StatusOK {
				t.Errorf("%d %s", status, b)
			}
			stopVault()

			v = open()
			c, _ = with(v)
			bertasNext, annasNext := berta(), anna()
			decided(bertasNext, api.Refused)
			decided(annasNext, api.Refused)
			for _, one := range [][2]record.Submission{{bertasNext, bertas}, {annasNext, again}} {
				if r, err := v.Review(one[0].ID()); err != nil || r.Other != one[1].Record().Payload().Holder.DID {
					t.Errorf("%+v, %v", r, err)
				}
			}
			// What is decided from now on reaches the registry.
			if _, err := v.Resolve(t.Context(), bertasNext.ID(), vault.Resolution{Decision: receipt.Active, By: "desk", Reason: "the first token was lost"}); err != nil {
				t.Fatal(err)
			}
			c.until(bertasNext.ID(), "outcome", func(s api.RecordStatus) bool { return s.Status == api.Active })
			if got, err := c.record(again.ID()); err != nil || got.Verdict != taken.Verdict {
				t.Errorf("%+v, %v", got, err)
			}
		})
	}
}
