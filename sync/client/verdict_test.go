package client_test

import (
	"bytes"
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

// Decisions about many records come in one answer; what is not proved about one of
// them is left out, and told.
func TestDecisions(t *testing.T) {
	r := testregistry.New(t, nil)
	c := connect(t, r, nil)
	void, active, unknown := testregistry.Void(t, 1), r.Enroll(t, 2), r.Enroll(t, 3)
	for _, s := range []record.Submission{void, active} {
		submit(t, c, item(s))
	}
	ids := [][32]byte{void.ID(), active.ID(), unknown.ID()}
	got := func() map[[32]byte]client.Decision {
		t.Helper()
		list, proof, err := c.Decisions(t.Context(), ids)
		if err != nil || proof != nil {
			t.Errorf("%v, %v", proof, err)
		}
		out := map[[32]byte]client.Decision{}
		for _, d := range list {
			out[d.ID] = d
		}
		return out
	}
	d := got()
	if a := d[active.ID()]; len(d) != 2 || d[void.ID()].Status != api.Pending || a.Status != api.Active || a.Time.IsZero() || a.Standing != "" {
		t.Errorf("%+v", d)
	}
	if _, err := receipt.VerifyVerdict(d[active.ID()].Verdict, nil, r.Policy.Policy().VerdictKeys.Vault, active.ID()); err != nil {
		t.Error(err)
	}
	did := active.Record().Payload().Holder.DID
	signed := func(id [32]byte, status receipt.Status, byVault bool) string {
		v := receipt.Verdict{Record: id, DID: did, Status: status, Code: "c"}
		switch status {
		case receipt.Active:
			v.Code = ""
		case receipt.Rejected:
			v.DID = ""
		}
		return string(r.Verdict(v, byVault))
	}
	change := func(lie func(a *api.RecordStatus)) {
		r.Change(func(_ string, answer any) {
			if a, ok := answer.(*api.StatusResult); ok {
				for i := range a.Statuses {
					if a.Statuses[i].ID == active.ID() {
						lie(&a.Statuses[i])
					}
				}
			}
		})
	}
	change(func(a *api.RecordStatus) { a.Standing = signed(active.ID(), receipt.Suspended, false) })
	if a := got()[active.ID()]; a.Status != api.Active || a.Standing != receipt.Suspended {
		t.Errorf("%+v", a)
	}
	for name, lie := range map[string]func(a *api.RecordStatus){
		"told as a refusal":         func(a *api.RecordStatus) { a.Status, a.Code = api.Refused, "c" },
		"no signature":              func(a *api.RecordStatus) { a.Verdict = "jws" },
		"another record's":          func(a *api.RecordStatus) { a.Verdict = signed(void.ID(), receipt.Active, true) },
		"signed by the registry":    func(a *api.RecordStatus) { a.Verdict = signed(active.ID(), receipt.Active, false) },
		"unsigned standing":         func(a *api.RecordStatus) { a.Standing = "jws" },
		"another record's standing": func(a *api.RecordStatus) { a.Standing = signed(void.ID(), receipt.Suspended, false) },
		"the vault's standing":      func(a *api.RecordStatus) { a.Standing = signed(active.ID(), receipt.Suspended, true) },
		"a standing that is none":   func(a *api.RecordStatus) { a.Standing = signed(active.ID(), receipt.Rejected, false) },
	} {
		change(lie)
		list, proof, err := c.Decisions(t.Context(), ids)
		if err != nil || !errors.Is(proof, client.ErrNonsense) || len(list) != 1 || list[0].ID != void.ID() {
			t.Errorf("%s is believed: %+v, %v, %v", name, list, proof, err)
		}
	}
	change(func(a *api.RecordStatus) { a.ID[0] ^= 1 })
	if list, _, err := c.Decisions(t.Context(), ids); !errors.Is(err, client.ErrNonsense) {
		t.Errorf("about a record that was not asked for: %+v, %v", list, err)
	}
}

// Whoever shows a receipt learns what has become of its record, from those who
// decide, and with any other text nothing.
func TestShown(t *testing.T) {
	r := testregistry.New(t, nil)
	c := connect(t, r, nil)
	s, other := r.Enroll(t, 1), r.Enroll(t, 2)
	submit(t, c, item(s))
	submit(t, c, item(other))
	st, err := status(t, c, item(s))
	if err != nil {
		t.Fatal(err)
	}
	text, id := st.Receipt, s.ID()
	d, err := c.Shown(t.Context(), text, id)
	if err != nil || d.ID != id || d.Status != api.Active || d.DID != s.Record().Payload().Holder.DID || d.Standing != "" {
		t.Errorf("%+v, %v", d, err)
	}
	altered := bytes.Clone(text)
	altered[len(altered)/2] ^= 1
	if d, err := c.Shown(t.Context(), altered, id); !errors.Is(err, client.ErrUntold) || d.ID != [32]byte{} {
		t.Errorf("altered: %+v, %v", d, err)
	}
	if d, err := c.Shown(t.Context(), text, other.ID()); !errors.Is(err, client.ErrNonsense) {
		t.Errorf("said to be another record's: %+v, %v", d, err)
	}
	did := d.DID
	for name, lie := range map[string]func(a *api.RecordStatus){
		"another id":   func(a *api.RecordStatus) { a.ID = other.ID() },
		"no signature": func(a *api.RecordStatus) { a.Verdict = "jws" },
		"signed by the registry": func(a *api.RecordStatus) {
			a.Verdict = string(r.Verdict(receipt.Verdict{Record: id, DID: did, Status: receipt.Active}, false))
		},
		"another record's": func(a *api.RecordStatus) {
			a.Verdict = string(r.Verdict(receipt.Verdict{Record: other.ID(), DID: did, Status: receipt.Active}, true))
		},
		"unsigned standing": func(a *api.RecordStatus) { a.Standing = "jws" },
	} {
		r.Change(func(_ string, answer any) { lie(answer.(*api.RecordStatus)) })
		if d, err := c.Shown(t.Context(), text, id); !errors.Is(err, client.ErrNonsense) {
			t.Errorf("%s is believed: %+v, %v", name, d, err)
		}
	}
}
