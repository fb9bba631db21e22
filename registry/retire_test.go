package registry_test

import (
	"errors"
	"testing"
	"time"

	"enrollkiosk/registry"
	"enrollkiosk/registry/api"
	"enrollkiosk/registry/internal/registrytest"
	"enrollkiosk/registry/receipt"
	"enrollkiosk/registry/record"
)

// A kiosk is retired with its last number: what is missing must be known, nothing
// more is taken, what it made before stands.
func TestRetire(t *testing.T) {
	w := registrytest.New(t)
	k := w.Kiosk(t, "KIOSK-0001")
	r := serve(t, w.RegistryOptions(noVault))
	c := connect(t, w, r.URL, k.TLS)
	first := k.Make(t, registrytest.Spec{})
	lost := k.Make(t, registrytest.Spec{}) // number 2 does not come
	third := k.Make(t, registrytest.Spec{})
	c.send(first)
	c.send(third)
	c.until(third.ID(), "receipt", hasReceipt)

	refused := func(want error, id string, sequence, missing uint64, by string) {
		t.Helper()
		if _, err := r.Retire(t.Context(), id, registry.Retirement{Sequence: sequence, Missing: missing, By: by}); !errors.Is(err, want) {
			t.Errorf("%s, last number %d, %d missing: %v, want %v", id, sequence, missing, err, want)
		}
	}
	refused(registry.ErrUnknownKiosk, "KIOSK-0002", 3, 1, "A")
	refused(registry.ErrBy, "KIOSK-0001", 3, 1, "")
	refused(registry.ErrBy, "KIOSK-0001", 0, 1, "A")
	refused(registry.ErrSequence, "KIOSK-0001", 2, 1, "A")
	refused(registry.ErrMissing, "KIOSK-0001", 3, 0, "A") // one number is missing
	refused(registry.ErrMissing, "KIOSK-0001", 5, 1, "A") // three are
	refused(registry.ErrMissing, "KIOSK-0001", 3, 2, "A")
	if v := c.send(lost); v.Status != api.Pending {
		t.Errorf("refused commands have ended its standing: %+v", v)
	}
	done, err := r.Retire(t.Context(), "KIOSK-0001", registry.Retirement{Sequence: 4, Missing: 1, By: "A. Clerk"})
	if err != nil || done.At.IsZero() {
		t.Fatalf("%+v, %v", done, err)
	}
	refused(registry.ErrRetired, "KIOSK-0001", 4, 1, "A")

	report, err := r.Report(t.Context(), "KIOSK-0001")
	if err != nil || report.Retired == nil || *report.Retired != done || report.Chain.Suspect != 0 {
		t.Errorf("%+v, %v", report, err)
	}
	late := k.Make(t, registrytest.Spec{Context: func(c *record.Context) { c.Sequence = 4 }})
	if v := c.send(late); v.Status != api.Rejected || v.Code != api.CodeKioskRevoked {
		t.Errorf("after its end: %+v", v)
	}
	if v := c.send(first); v.Status != api.Accepted {
		t.Errorf("what it made before: %+v", v)
	}
	if _, err := registry.KiosksIn(w.RegistryDir()).NewCode(t.Context(), "KIOSK-0001", w.Root, 1, done.At); !errors.Is(err, registry.ErrRevoked) {
		t.Errorf("a code for its id: %v", err)
	}
}

// What a kiosk itself has signed takes the place of a number that somebody typed; it
// is believed under that kiosk's key alone, whole, and where its chain is ours.
func TestRetireFarewell(t *testing.T) {
	w := registrytest.New(t)
	k, other := w.Kiosk(t, "KIOSK-0001"), w.Kiosk(t, "KIOSK-0002")
	r := serve(t, w.RegistryOptions(noVault))
	c := connect(t, w, r.URL, k.TLS)
	first := k.Make(t, registrytest.Spec{})
	c.send(first)
	c.until(first.ID(), "receipt", hasReceipt)

	said := receipt.Farewell{Kiosk: "KIOSK-0001", Audience: r.Origin(), Time: time.Now().UTC().Truncate(time.Second), Sequence: 2, Recorded: 1, Head: first.ID()}
	sign := func(by record.Signer, change func(*receipt.Farewell)) string {
		t.Helper()
		f := said
		change(&f)
		b, err := receipt.SignFarewell(t.Context(), f, by)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	asIs := func(*receipt.Farewell) {}
	good := sign(k.Record, asIs)
	for name, want := range map[string]registry.Retirement{
		"another kiosk's key":  {Farewell: sign(other.Record, asIs), Missing: 1},
		"another kiosk's":      {Farewell: sign(other.Record, func(f *receipt.Farewell) { f.Kiosk = "KIOSK-0002" }), Missing: 1},
		"for another registry": {Farewell: sign(k.Record, func(f *receipt.Farewell) { f.Audience = "other.example/log" }), Missing: 1},
		"another chain":        {Farewell: sign(k.Record, func(f *receipt.Farewell) { f.Head[0] ^= 1 }), Missing: 1},
		"another number typed": {Farewell: good, Sequence: 3, Missing: 2},
		"cut short":            {Farewell: good[:len(good)-1], Missing: 1},
		"a byte flipped":       {Farewell: flip(good, len(good)/2), Missing: 1},
		"a line end":           {Farewell: good + "\n", Missing: 1},
	} {
		want.By = "A"
		if _, err := r.Retire(t.Context(), "KIOSK-0001", want); !errors.Is(err, registry.ErrFarewell) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := r.Retire(t.Context(), "KIOSK-0001", registry.Retirement{Farewell: good, By: "A"}); !errors.Is(err, registry.ErrMissing) {
		t.Errorf("number 2 is missing: %v", err)
	}
	if _, err := r.Retire(t.Context(), "KIOSK-0001", registry.Retirement{Farewell: good, Missing: 1, By: "A"}); err != nil {
		t.Fatal(err)
	}
	report, err := r.Report(t.Context(), "KIOSK-0001")
	if err != nil || report.Retired == nil || report.Retired.Sequence != 2 || report.Retired.Farewell != good {
		t.Errorf("%+v, %v", report.Retired, err)
	}
}

func flip(s string, at int) string {
	b := []byte(s)
	if b[at]++; b[at] == '.' {
		b[at]++
	}
	return string(b)
}
