package vault_test

import (
	"crypto/hpke"
	"errors"
	"testing"
	"time"

	"enrollkiosk/registry/api"
	"enrollkiosk/registry/credential"
	"enrollkiosk/registry/internal/registrytest"
	"enrollkiosk/registry/vault"
)

// Nobody is made older than the document can show.
func TestReached(t *testing.T) {
	now := time.Date(2026, 11, 28, 23, 59, 59, 0, time.UTC)
	for born, want := range map[string]bool{
		"2008-11-28": true, "2008-11-29": false, "2008-01-01": true, "2009-01-01": false,
		"2008-11": false, "2008-10": true, "2008": false, "2007": true, "2008-11-??": false, "2007-??-??": true, "2008-??-??": false,
		"": false, "????-??-??": false, "2008-13-01": false, "2008-01-32": false, "x": false,
	} {
		if got := vault.Reached(born, 18, now); got != want {
			t.Errorf("%q: %v", born, got)
		}
	}
	leap := time.Date(2026, 2, 28, 12, 0, 0, 0, time.UTC)
	if vault.Reached("2008-02-29", 18, leap) || !vault.Reached("2008-02-29", 18, leap.AddDate(0, 0, 1)) {
		t.Error("29 February")
	}
}

// The vault speaks only of records that it has found active, and opens only what was
// sealed to it.
func TestClaimsAndPlacesRefused(t *testing.T) {
	w := registrytest.New(t)
	v, err := vault.Open(t.Context(), w.VaultOptions())
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	k := w.Kiosk(t, "KIOSK-0001")
	s := k.Make(t, registrytest.Spec{})
	if _, err := v.Claims(api.ClaimsRequest{Record: s.Bytes(), Names: true}); !errors.Is(err, vault.ErrNotActive) {
		t.Errorf("a record that was never judged: %v", err)
	}
	if _, err := v.Judge(t.Context(), s.Bytes()); err != nil {
		t.Fatal(err)
	}
	if out, err := v.Claims(api.ClaimsRequest{Record: s.Bytes()}); !errors.Is(err, vault.ErrNotActive) || out != (api.ClaimsResult{}) {
		t.Errorf("a record that was refused: %+v, %v", out, err)
	}
	if _, err := v.Claims(api.ClaimsRequest{Record: []byte("{}")}); !errors.Is(err, vault.ErrNoRecord) {
		t.Errorf("no record: %v", err)
	}
	p := w.Policy.Policy().Authority
	pub, err := hpke.MLKEM768X25519().NewPublicKey(p.Public)
	if err != nil {
		t.Fatal(err)
	}
	links := []credential.Link{{List: 1, Index: 7}, {List: 2, Index: 1 << 19}}
	sealed, err := credential.SealLinks(pub, p.ID, s.ID(), links)
	if err != nil {
		t.Fatal(err)
	}
	out, err := v.Places(api.PlacesRequest{Sealed: []api.SealedPlaces{{Record: s.ID(), Places: sealed}}})
	if err != nil || len(out.Places) != 2 {
		t.Errorf("%+v, %v", out, err)
	}
	if _, err := v.Places(api.PlacesRequest{Sealed: []api.SealedPlaces{{Record: api.ID{1}, Places: sealed}}}); !errors.Is(err, vault.ErrNoRecord) {
		t.Errorf("under another record: %v", err)
	}
}
