package client_test

import (
	"errors"
	"testing"

	"enrollkiosk/registry/api"
	"enrollkiosk/registry/receipt"
	"enrollkiosk/registry/record"
	"enrollkiosk/sync/client"
	"enrollkiosk/sync/internal/testregistry"
)

// What was decided about a record can be learned without its bytes, and only
// from those who decide.
func TestVerdict(t *testing.T) {
	r := testregistry.New(t, nil)
	c := connect(t, r, nil)
	wants := func(s record.Submission, want api.Status) {
		t.Helper()
		if got, err := c.Verdict(t.Context(), s.ID()); err != nil || got != want {
			t.Errorf("%s, %v; want %s", got, err, want)
		}
	}
	void, active, refused := testregistry.Void(t, 1), r.Enroll(t, 2), r.Enroll(t, 3)
	if got, err := c.Verdict(t.Context(), active.ID()); !errors.Is(err, client.ErrNotFound) {
		t.Errorf("before it was sent: %s, %v", got, err)
	}
	for _, s := range []record.Submission{void, active} {
		submit(t, c, item(s))
	}
	wants(active, api.Active)
	r.Decide(receipt.Refused)
	submit(t, c, item(refused))
	wants(void, api.Pending)
	wants(refused, api.Refused)

	did := refused.Record().Payload().Holder.DID
	id := refused.ID()
	for name, lie := range map[string]func(a *api.RecordStatus){
		"another id":            func(a *api.RecordStatus) { a.ID[0] ^= 1 },
		"told as an activation": func(a *api.RecordStatus) { a.Status, a.Code = api.Active, "" },
		"no signature":          func(a *api.RecordStatus) { a.Verdict = "jws" },
		"another record's": func(a *api.RecordStatus) {
			a.Verdict = string(r.Verdict(receipt.Verdict{Record: active.ID(), DID: did, Status: receipt.Refused, Code: "c"}, true))
		},
		"signed by the registry": func(a *api.RecordStatus) {
			a.Verdict = string(r.Verdict(receipt.Verdict{Record: id, DID: did, Status: receipt.Refused, Code: "c"}, false))
		},
	} {
		r.Change(func(_ string, answer any) {
			if a, ok := answer.(*api.RecordStatus); ok {
				lie(a)
			}
		})
		if got, err := c.Verdict(t.Context(), id); !errors.Is(err, client.ErrNonsense) {
			t.Errorf("%s is believed: %s, %v", name, got, err)
		}
	}
}
