package vault_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"strings"
	"testing"
	"time"

	"enrollkiosk/registry/api"
	"enrollkiosk/registry/internal/registrytest"
	"enrollkiosk/registry/receipt"
	"enrollkiosk/registry/record"
	"enrollkiosk/registry/vault"
	"enrollkiosk/simulators/idcard"
)

// by is a decision of a named person.
func by(decision receipt.Status) vault.Resolution {
	return vault.Resolution{Decision: decision, By: "review desk 7", Reason: "both papers were compared"}
}

// jws is the verdict's bytes.
func jws(t *testing.T, v *vault.Vault, s record.Submission) []byte {
	t.Helper()
	b, err := v.Judge(t.Context(), s.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The card again, under a second key: refused, until a person finds that the second
// one is right. Then it is active and the first is not, once and for all.
func TestReviewMakesTheSecondActive(t *testing.T) {
	w := registrytest.New(t, state(t).CSCA())
	v := open(t, w.VaultOptions())
	k := w.Kiosk(t, "KIOSK-0001")
	anna := card(t, idcard.SpecimenPerson(), idcard.Options{})
	first, second := k.Make(t, registrytest.Spec{Identity: identityOf(t, anna, nil)}), k.Make(t, registrytest.Spec{Identity: identityOf(t, anna, nil)})
	if got := judged(t, w, v, first); got.Status != receipt.Active {
		t.Fatalf("%+v", got)
	}
	if got := judged(t, w, v, second); got.Status != receipt.Refused || got.Code != api.CodeReview {
		t.Fatalf("%+v", got)
	}
	before := map[api.ID][]byte{first.ID(): jws(t, v, first), second.ID(): jws(t, v, second)}
	list, err := v.Reviews(false)
	if err != nil || len(list) != 1 || list[0].Record != second.ID() || list[0].Other != first.Record().Payload().Holder.DID || !list[0].Refused {
		t.Fatalf("%+v, %v", list, err)
	}
	r, err := v.Resolve(t.Context(), second.ID(), by(receipt.Active))
	if err != nil || r.Resolution == nil || r.Resolution.By != "review desk 7" || r.Resolution.Time.IsZero() {
		t.Fatalf("%+v, %v", r, err)
	}
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	v = open(t, w.VaultOptions()) // all of it is durable
	for _, c := range []struct {
		s    record.Submission
		want receipt.Verdict
	}{{second, receipt.Verdict{Status: receipt.Active}}, {first, receipt.Verdict{Status: receipt.Refused, Code: api.CodeReview}}} {
		s, want := c.s, c.want
		got := judged(t, w, v, s)
		if got.Status != want.Status || got.Code != want.Code || got.Supersedes != sha256.Sum256(before[s.ID()]) || got.DID != s.Record().Payload().Holder.DID {
			t.Errorf("%+v, want %+v", got, want)
		}
		if again := jws(t, v, s); !bytes.Equal(again, jws(t, v, s)) {
			t.Error("other bytes the second time")
		}
	}
	out, err := v.Outcomes(0)
	if err != nil || len(out.Outcomes) != 2 || out.Last != 2 || out.Outcomes[1].Record != second.ID() || out.Outcomes[1].Verdict != string(jws(t, v, second)) {
		t.Errorf("%+v, %v", out, err)
	}
	if rest, err := v.Outcomes(1); err != nil || len(rest.Outcomes) != 1 || rest.Outcomes[0].Number != 2 {
		t.Errorf("%+v, %v", rest, err)
	}
	for _, decision := range []receipt.Status{receipt.Active, receipt.Refused} {
		if _, err := v.Resolve(t.Context(), second.ID(), by(decision)); !errors.Is(err, vault.ErrResolved) || !strings.Contains(err.Error(), "review desk 7") {
			t.Errorf("again: %v", err)
		}
	}
	if list, err = v.Reviews(false); err != nil || len(list) != 0 {
		t.Errorf("still open: %+v, %v", list, err)
	}
	if list, err = v.Reviews(true); err != nil || len(list) != 1 {
		t.Errorf("all: %+v, %v", list, err)
	}
	// The document stands under the second key alone.
	if got := judged(t, w, v, k.Make(t, registrytest.Spec{Identity: identityOf(t, anna, nil)})); got.Code != api.CodeReview {
		t.Errorf("a third time: %+v", got)
	}
	if r, _ := v.Reviews(false); len(r) != 1 || r[0].Other != second.Record().Payload().Holder.DID {
		t.Errorf("%+v", r)
	}
}

// What a person leaves as it was gets no new verdict.
func TestReviewLeavesItRefused(t *testing.T) {
	w := registrytest.New(t, state(t).CSCA())
	v := open(t, w.VaultOptions())
	k := w.Kiosk(t, "KIOSK-0001")
	anna := card(t, idcard.SpecimenPerson(), idcard.Options{})
	judged(t, w, v, k.Make(t, registrytest.Spec{Identity: identityOf(t, anna, nil)}))
	again := k.Make(t, registrytest.Spec{Identity: identityOf(t, anna, nil)})
	first := jws(t, v, again)
	if _, err := v.Resolve(t.Context(), again.ID(), by(receipt.Refused)); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(first, jws(t, v, again)) {
		t.Error("another verdict")
	}
	if out, err := v.Outcomes(0); err != nil || len(out.Outcomes) != 0 {
		t.Errorf("%+v, %v", out, err)
	}
}

// A namesake is active and noted. A person may find that it is nobody: then the DID
// has nothing any more, and the true one is untouched.
func TestReviewRefusesANamesake(t *testing.T) {
	w := registrytest.New(t, state(t).CSCA())
	v := open(t, w.VaultOptions())
	k := w.Kiosk(t, "KIOSK-0001")
	anna := card(t, idcard.SpecimenPerson(), idcard.Options{})
	namesake := card(t, another("L898902C8", idcard.SpecimenPerson().GivenNames), idcard.Options{})
	true1 := k.Make(t, registrytest.Spec{Identity: identityOf(t, anna, nil)})
	judged(t, w, v, true1)
	device := registrytest.NewDevice(t)
	s := k.Make(t, registrytest.Spec{Holder: &device, Identity: identityOf(t, namesake, nil)})
	if got := judged(t, w, v, s); got.Status != receipt.Active {
		t.Fatalf("%+v", got)
	}
	if _, err := v.Resolve(t.Context(), s.ID(), by(receipt.Refused)); err != nil {
		t.Fatal(err)
	}
	if got := judged(t, w, v, s); got.Status != receipt.Refused || got.Code != api.CodeReview {
		t.Errorf("%+v", got)
	}
	if got := judged(t, w, v, k.Make(t, registrytest.Spec{Purpose: record.Update, Holder: &device, Identity: identityOf(t, namesake, nil)})); got.Status != receipt.Refused {
		t.Errorf("the ended did is renewed: %+v", got)
	}
	if got := judged(t, w, v, true1); got.Status != receipt.Active || got.Supersedes != [32]byte{} {
		t.Errorf("the true one: %+v", got)
	}
	// The document is free again: it was nobody's.
	if got := judged(t, w, v, k.Make(t, registrytest.Spec{Identity: identityOf(t, namesake, nil)})); got.Status != receipt.Active {
		t.Errorf("%+v", got)
	}
}

// While a person thinks, the document gets another key: the decision is asked for
// again, with what is so now.
func TestReviewOfWhatHasChanged(t *testing.T) {
	w := registrytest.New(t, state(t).CSCA())
	v := open(t, w.VaultOptions())
	k := w.Kiosk(t, "KIOSK-0001")
	anna := card(t, idcard.SpecimenPerson(), idcard.Options{})
	old, next := registrytest.NewDevice(t), registrytest.NewDevice(t)
	judged(t, w, v, k.Make(t, registrytest.Spec{Holder: &old, Identity: identityOf(t, anna, nil)}))
	again := k.Make(t, registrytest.Spec{Identity: identityOf(t, anna, nil)})
	judged(t, w, v, again)
	replaced := k.Make(t, registrytest.Spec{Purpose: record.Replace, Holder: &next, Old: &old, Identity: identityOf(t, anna, nil)})
	if got := judged(t, w, v, replaced); got.Status != receipt.Active {
		t.Fatalf("%+v", got)
	}
	if _, err := v.Resolve(t.Context(), again.ID(), by(receipt.Active)); !errors.Is(err, vault.ErrReviewChanged) {
		t.Fatalf("%v", err)
	}
	r, err := v.Review(again.ID())
	if err != nil || r.Other != replaced.Record().Payload().Holder.DID || r.Resolution != nil {
		t.Errorf("%+v, %v", r, err)
	}
	if _, err := v.Resolve(t.Context(), again.ID(), by(receipt.Active)); err != nil {
		t.Fatal(err)
	}
	if got := judged(t, w, v, replaced); got.Status != receipt.Refused {
		t.Errorf("%+v", got)
	}
	if got := judged(t, w, v, again); got.Status != receipt.Active {
		t.Errorf("%+v", got)
	}
}

// Two reviews of one document cannot contradict each other, and what nobody may
// decide is refused.
func TestReviewsThatCannotBe(t *testing.T) {
	w := registrytest.New(t, state(t).CSCA())
	v := open(t, w.VaultOptions())
	k := w.Kiosk(t, "KIOSK-0001")
	anna := card(t, idcard.SpecimenPerson(), idcard.Options{})
	first := k.Make(t, registrytest.Spec{Identity: identityOf(t, anna, nil)})
	judged(t, w, v, first)
	second, third := k.Make(t, registrytest.Spec{Identity: identityOf(t, anna, nil)}), k.Make(t, registrytest.Spec{Identity: identityOf(t, anna, nil)})
	judged(t, w, v, second)
	judged(t, w, v, third)
	if _, err := v.Resolve(t.Context(), first.ID(), by(receipt.Refused)); !errors.Is(err, vault.ErrNoReview) {
		t.Errorf("no review: %v", err)
	}
	for _, bad := range []vault.Resolution{{Decision: receipt.Rejected, By: "a", Reason: "b"}, {Decision: receipt.Active, By: " ", Reason: "b"}, {Decision: receipt.Active, By: "a"},
		{Decision: receipt.Active, By: strings.Repeat("a", 101), Reason: "b"}, {Decision: receipt.Active, By: "a", Reason: strings.Repeat("b", 1001)}} {
		if _, err := v.Resolve(t.Context(), second.ID(), bad); !errors.Is(err, vault.ErrDecision) {
			t.Errorf("%+v: %v", bad.Decision, err)
		}
	}
	if _, err := v.Resolve(t.Context(), second.ID(), by(receipt.Active)); err != nil {
		t.Fatal(err)
	}
	// The third collides with the second now.
	if _, err := v.Resolve(t.Context(), third.ID(), by(receipt.Active)); !errors.Is(err, vault.ErrReviewChanged) {
		t.Errorf("%v", err)
	}
	// A verdict is taken back once: the second, made active by a person, is not ended by another review.
	if _, err := v.Resolve(t.Context(), third.ID(), by(receipt.Active)); !errors.Is(err, vault.ErrResolved) {
		t.Errorf("%v", err)
	}
	if got := judged(t, w, v, second); got.Status != receipt.Active {
		t.Errorf("%+v", got)
	}
	if _, err := v.Resolve(t.Context(), third.ID(), by(receipt.Refused)); err != nil {
		t.Errorf("%v", err)
	}

	officers, err := vault.OfficersIn(w.VaultDir())
	if err != nil {
		t.Fatal(err)
	}
	defer officers.Close()
	d, err := vault.ParseOfficerDocument(strings.NewReader(`{"issuer":"UTO","document":"L898902C4","surname":"ERIKSSON","given_names":"EVA","birth":"1974-08-12"}`))
	if err == nil {
		err = officers.Add("4711", d, time.Now())
	}
	if err != nil {
		t.Fatal(err)
	}
	own := k.Make(t, registrytest.Spec{Identity: identityOf(t, card(t, another("L898902C4", "EVA"), idcard.Options{}), nil)})
	if got := judged(t, w, v, own); got.Code != api.CodeOwnEnrollment {
		t.Fatalf("%+v", got)
	}
	if _, err := v.Resolve(t.Context(), own.ID(), by(receipt.Active)); !errors.Is(err, vault.ErrOwnReview) {
		t.Errorf("%v", err)
	}
	if _, err := v.Resolve(t.Context(), own.ID(), by(receipt.Refused)); err != nil {
		t.Errorf("%v", err)
	}
}

// What was judged under an earlier verdict key can still be reviewed.
func TestReviewAfterTheVerdictKeyChanged(t *testing.T) {
	w := registrytest.New(t, state(t).CSCA())
	v := open(t, w.VaultOptions())
	k := w.Kiosk(t, "KIOSK-0001")
	anna := card(t, idcard.SpecimenPerson(), idcard.Options{})
	first, second := k.Make(t, registrytest.Spec{Identity: identityOf(t, anna, nil)}), k.Make(t, registrytest.Spec{Identity: identityOf(t, anna, nil)})
	judged(t, w, v, first)
	judged(t, w, v, second)
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := vault.RotateVerdict(w.VaultDir()); err != nil {
		t.Fatal(err)
	}
	w.Policy = w.Sign(t, 2, time.Now())
	v = open(t, w.VaultOptions())
	if _, err := v.Resolve(t.Context(), second.ID(), by(receipt.Active)); err != nil {
		t.Fatal(err)
	}
	if got := judged(t, w, v, first); got.Status != receipt.Refused {
		t.Errorf("%+v", got)
	}
}
