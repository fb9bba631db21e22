package registry_test

import (
	"net/http"
	"testing"

	"enrollkiosk/registry/api"
	"enrollkiosk/registry/internal/registrytest"
	"enrollkiosk/registry/receipt"
	"enrollkiosk/simulators/idcard"
)

// One citizen, from a card to a receipt that anyone can verify, and a verdict.
func TestRecordToReceiptAndVerdict(t *testing.T) {
	w := registrytest.New(t, specimenState(t).CSCA())
	address, _ := serveVault(t, w, "127.0.0.1:0")
	r := serve(t, w.RegistryOptions(address))
	k := w.Kiosk(t, "KIOSK-0001")
	c := connect(t, w, r.URL, k.TLS)

	s := k.Make(t, registrytest.Spec{Identity: identityOf(t, idcard.SpecimenPerson())})
	if v := c.send(s); v.Status != api.Pending {
		t.Fatalf("verdict %+v", v)
	}
	done := c.until(s.ID(), "receipt and verdict", func(s api.RecordStatus) bool { return hasReceipt(s) && isDecided(s) })
	p := w.Policy.Policy()
	final, err := receipt.Verify([]byte(done.Receipt), p.Log(), s.ID())
	if err != nil {
		t.Fatal(err)
	}
	if final.Origin() != registrytest.Origin || final.Index() != 0 {
		t.Errorf("origin %s, index %d", final.Origin(), final.Index())
	}
	verdict, err := receipt.VerifyVerdict([]byte(done.Verdict), p.VerdictKeys.Registry, p.VerdictKeys.Vault, s.ID())
	if err != nil {
		t.Fatal(err)
	}
	if claims := verdict.Claims(); done.Status != api.Active || claims.Status != receipt.Active || claims.DID != s.Record().Payload().Holder.DID {
		t.Errorf("status %s, verdict %+v", done.Status, claims)
	}

	// Again, however often: the same verdict, the same receipt bytes, one leaf.
	for range 3 {
		if v := c.send(s); v.Status != api.Accepted {
			t.Errorf("repeat: %+v", v)
		}
		again, err := c.record(s.ID())
		if err != nil || again != done {
			t.Errorf("repeat differs: %v\n%+v\n%+v", err, again, done)
		}
	}
	if status, b := connect(t, w, r.URL).do(http.MethodGet, api.PathCheckpoint, "", nil); status != http.StatusOK || string(b) != string(final.Checkpoint().Bytes()) {
		t.Errorf("checkpoint: %d %s", status, b)
	}
}
