package vault_test

import (
	"crypto/sha256"
	"errors"
	"os"
	"path/filepath"
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

// backUp backs a vault up and returns what puts it back after it was lost.
func backUp(t *testing.T, w *registrytest.World, v *vault.Vault) (lose func(*vault.Vault) *vault.Vault) {
	t.Helper()
	dir := t.TempDir()
	to, keys := filepath.Join(dir, "backup"), filepath.Join(dir, "keys")
	if _, err := vault.Backup(t.Context(), w.VaultDir(), w.Policy, to, keys, v.Snapshot, time.Now()); err != nil {
		t.Fatal(err)
	}
	return func(v *vault.Vault) *vault.Vault {
		t.Helper()
		if err := errors.Join(v.Close(), os.RemoveAll(w.VaultDir())); err != nil {
			t.Fatal(err)
		}
		if err := vault.Restore(t.Context(), to, keys, w.VaultDir(), w.Policy, time.Now()); err != nil {
			t.Fatal(err)
		}
		return open(t, w.VaultOptions())
	}
}

// shown is what a registry would show of records, in their order.
func shown(t *testing.T, v *vault.Vault, records ...record.Submission) (out []api.Judged) {
	t.Helper()
	for _, s := range records {
		out = append(out, api.Judged{Record: s.ID(), Verdict: string(jws(t, v, s)), Submission: s.Bytes()})
	}
	return out
}

// level shows it all, as a registry does.
func level(t *testing.T, v *vault.Vault, outcomes uint64, all []api.Judged) (missed int) {
	t.Helper()
	for _, j := range all {
		alone := j
		alone.Submission = nil
		out, err := v.Level(t.Context(), api.LevelRequest{Judged: []api.Judged{alone}})
		if err != nil {
			t.Fatal(err)
		}
		if len(out.Missing) == 0 {
			continue
		}
		if missed++; out.Missing[0] != j.Record {
			t.Errorf("it misses %s", out.Missing[0])
		}
		if out, err = v.Level(t.Context(), api.LevelRequest{Judged: []api.Judged{j}}); err != nil || len(out.Missing) != 0 {
			t.Fatalf("%+v, %v", out, err)
		}
	}
	if _, err := v.Level(t.Context(), api.LevelRequest{Outcomes: outcomes, Done: true}); err != nil {
		t.Fatal(err)
	}
	return missed
}

// A vault that was put back says nothing before it has been shown what it had judged
// since its backup, and knows all persons then: those that were enrolled, whose
// document or key is another now, and those about whom a person has decided.
func TestPutBackAndBroughtLevel(t *testing.T) {
	w := registrytest.New(t, state(t).CSCA())
	k := w.Kiosk(t, "KIOSK-0001")
	v := open(t, w.VaultOptions())
	person := func(number, given string) *idcard.Chip { return card(t, another(number, given), idcard.Options{}) }
	enroll := func(c *idcard.Chip) record.Submission {
		return k.Make(t, registrytest.Spec{Identity: identityOf(t, c, nil)})
	}
	anna, berta, clara, dora, officer := person("L898902C1", "ANNA"), person("L898902C2", "BERTA"), person("L898902C3", "CLARA"), person("L898902C4", "DORA"), person("L898902C5", "EVA")
	officers, err := vault.OfficersIn(w.VaultDir())
	if err != nil {
		t.Fatal(err)
	}
	defer officers.Close()
	d, err := vault.ParseOfficerDocument(strings.NewReader(`{"issuer":"UTO","document":"L898902C5","surname":"ERIKSSON","given_names":"EVA","birth":"1974-08-12"}`))
	if err == nil {
		err = officers.Add("4711", d, time.Now())
	}
	if err != nil {
		t.Fatal(err)
	}

	first, doras := enroll(anna), enroll(dora)
	judged(t, w, v, first)
	judged(t, w, v, doras)
	lose := backUp(t, w, v)

	old, next := registrytest.NewDevice(t), registrytest.NewDevice(t)
	bertas := k.Make(t, registrytest.Spec{Holder: &old, Identity: identityOf(t, berta, nil)})
	bertasNext := k.Make(t, registrytest.Spec{Purpose: record.Replace, Holder: &next, Old: &old, Identity: identityOf(t, berta, nil)})
	annasSecond, clarasFirst, clarasSecond := enroll(anna), enroll(clara), enroll(clara)
	namesake := enroll(person("L898902C6", "CLARA"))
	own := enroll(officer)
	bad := k.Make(t, registrytest.Spec{}) // nothing that verifies
	doraTwice := enroll(dora)
	all := []record.Submission{bertas, annasSecond, first, bertasNext, clarasFirst, clarasSecond, namesake, own, bad, doras, doraTwice}
	for _, s := range all {
		jws(t, v, s)
	}
	// People decide: the second of Anna's is right, so that the first is not; the
	// second of Clara's is not.
	for id, decision := range map[[32]byte]receipt.Status{annasSecond.ID(): receipt.Active, clarasSecond.ID(): receipt.Refused} {
		if _, err := v.Resolve(t.Context(), id, by(decision)); err != nil {
			t.Fatal(err)
		}
	}
	outcomes, err := v.Outcomes(0)
	if err != nil || outcomes.Last != 2 {
		t.Fatalf("%+v, %v", outcomes, err)
	}
	toShow := shown(t, v, all...)
	open1, err := v.Reviews(false)
	if err != nil {
		t.Fatal(err)
	}

	v = lose(v)
	if since, err := v.Behind(); err != nil || since.IsZero() {
		t.Fatalf("%v, %v", since, err)
	}
	says := func(what string, err, want error) {
		t.Helper()
		if !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", what, err, want)
		}
	}
	_, err = v.Judge(t.Context(), first.Bytes())
	says("a verdict", err, vault.ErrBehind)
	_, err = v.Judge(t.Context(), enroll(berta).Bytes())
	says("a new verdict", err, vault.ErrBehind)
	_, err = v.Resolve(t.Context(), first.ID(), by(receipt.Active))
	says("a decision", err, vault.ErrBehind)
	_, err = v.Outcomes(0)
	says("outcomes", err, vault.ErrBehind)

	// It stops half-way, and begins again.
	if _, err := v.Level(t.Context(), api.LevelRequest{Judged: toShow[:3]}); err != nil {
		t.Fatal(err)
	}
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	v = open(t, w.VaultOptions())
	// Known: Dora's first, what was shown before. The first of Anna's has another verdict.
	if missed := level(t, v, outcomes.Last, toShow); missed != len(all)-4 {
		t.Errorf("%d of %d missed", missed, len(all))
	}
	_, err = v.Level(t.Context(), api.LevelRequest{Done: true})
	says("again", err, vault.ErrLevel)
	says("a policy", v.LearnPolicy(w.Policy.Bytes()), vault.ErrLevel)

	for i, s := range all {
		if b := jws(t, v, s); string(b) != toShow[i].Verdict {
			t.Errorf("record %d has another verdict than before", i)
		}
	}
	// A review that a person had closed as the vault had judged is open again: nothing
	// that was signed says so.
	open2, err := v.Reviews(false)
	if err != nil || len(open2) != len(open1)+1 {
		t.Fatalf("%d reviews, there were %d: %v\n%+v", len(open2), len(open1), err, open2)
	}
	for _, want := range open1 {
		if got, err := v.Review(want.Record); err != nil || got != want {
			t.Errorf("%+v, want %+v, %v", got, want, err)
		}
	}
	for name, one := range map[string]struct {
		card  *idcard.Chip
		under record.Submission
	}{"anna": {anna, annasSecond}, "berta": {berta, bertasNext}, "clara": {clara, clarasFirst}, "dora": {dora, doras}} {
		s := enroll(one.card)
		if got := judged(t, w, v, s); got.Status != receipt.Refused || got.Code != api.CodeReview {
			t.Errorf("%s again: %+v", name, got)
		}
		if other, _ := vault.ReviewOf(t, v, s.ID()); other != one.under.Record().Payload().Holder.DID {
			t.Errorf("%s stands under %s", name, other)
		}
	}
	// The next outcome has a number that the registry has not seen.
	if _, err := v.Resolve(t.Context(), doraTwice.ID(), by(receipt.Active)); err != nil {
		t.Fatal(err)
	}
	if later, err := v.Outcomes(outcomes.Last); err != nil || len(later.Outcomes) != 2 || later.Outcomes[0].Number != 3 {
		t.Errorf("%+v, %v", later, err)
	}
}

// What the proof above rests on: a vault that is told that there is nothing to learn
// enrolls the person again.
func TestBroughtLevelWithNothing(t *testing.T) {
	w := registrytest.New(t, state(t).CSCA())
	k := w.Kiosk(t, "KIOSK-0001")
	v := open(t, w.VaultOptions())
	lose := backUp(t, w, v)
	anna := card(t, idcard.SpecimenPerson(), idcard.Options{})
	jws(t, v, k.Make(t, registrytest.Spec{Identity: identityOf(t, anna, nil)}))
	v = lose(v)
	level(t, v, 0, nil)
	if got := judged(t, w, v, k.Make(t, registrytest.Spec{Identity: identityOf(t, anna, nil)})); got.Status != receipt.Active {
		t.Errorf("%+v", got)
	}
}

// A registry shows what the vault has not signed, or another record: the vault learns
// nothing from it, and goes on.
func TestForgedVerdictsTeachNothing(t *testing.T) {
	w := registrytest.New(t, state(t).CSCA())
	k := w.Kiosk(t, "KIOSK-0001")
	v := open(t, w.VaultOptions())
	lose := backUp(t, w, v)
	anna := card(t, idcard.SpecimenPerson(), idcard.Options{})
	s, other := k.Make(t, registrytest.Spec{Identity: identityOf(t, anna, nil)}), k.Make(t, registrytest.Spec{})
	good := shown(t, v, s, other)
	claims := judged(t, w, v, s)
	claims.Status, claims.Code, claims.Supersedes = receipt.Refused, api.CodeReview, sha256.Sum256([]byte(good[0].Verdict))
	forged, err := receipt.SignVerdict(t.Context(), claims, registrytest.NewDevice(t))
	if err != nil {
		t.Fatal(err)
	}
	v = lose(v)
	flipped := good[0]
	flipped.Verdict = flipped.Verdict[:len(flipped.Verdict)-5] + "AAAAA"
	swapped, hollow := good[1], good[0]
	swapped.Verdict, hollow.Submission = good[0].Verdict, good[1].Submission
	for name, j := range map[string]api.Judged{"by another key": {Record: s.ID(), Verdict: string(forged), Submission: s.Bytes()}, "flipped": flipped, "of another record": swapped, "with another record": hollow} {
		if out, err := v.Level(t.Context(), api.LevelRequest{Judged: []api.Judged{j}}); err != nil || len(out.Missing) != 0 {
			t.Errorf("%s: %+v, %v", name, out, err)
		}
	}
	if missed := level(t, v, 0, good); missed != 2 {
		t.Errorf("%d missed", missed)
	}
	if got := judged(t, w, v, s); got.Status != receipt.Active {
		t.Errorf("%+v", got)
	}
	if got := judged(t, w, v, k.Make(t, registrytest.Spec{Identity: identityOf(t, anna, nil)})); got.Code != api.CodeReview {
		t.Errorf("%+v", got)
	}
}

// Records name policies that came after the backup, and officers are revoked since:
// what was active then is known all the same.
func TestLevelUnderPoliciesSince(t *testing.T) {
	w := registrytest.New(t, state(t).CSCA())
	k := w.Kiosk(t, "KIOSK-0001")
	v := open(t, w.VaultOptions())
	lose := backUp(t, w, v)
	v.Close()
	w.Policy = w.Sign(t, 2, time.Now())
	between := w.Policy
	v = open(t, w.VaultOptions())
	anna := card(t, idcard.SpecimenPerson(), idcard.Options{})
	s := k.Make(t, registrytest.Spec{Identity: identityOf(t, anna, nil)})
	all := shown(t, v, s)
	if got := judged(t, w, v, s); got.Status != receipt.Active {
		t.Fatalf("%+v", got)
	}
	// The officer's card was lost since, and the clock of the new machine stands yet.
	w.Policy = w.Revoke(t, 3, time.Now().Add(-10*time.Minute), w.Officer)
	lose(v).Close()
	late := w.VaultOptions()
	late.Now = func() time.Time { return time.Now().Add(-24 * time.Hour) }
	v = open(t, late)
	if err := v.LearnPolicy(registrytest.New(t).Policy.Bytes()); err != nil {
		t.Errorf("another root's: %v", err)
	}
	if err := v.LearnPolicy(between.Bytes()); err != nil {
		t.Fatal(err)
	}
	level(t, v, 0, all)
	v.Close()
	v = open(t, w.VaultOptions())
	if got := judged(t, w, v, s); got.Status != receipt.Active {
		t.Errorf("%+v", got)
	}
	w.Officer = w.Officers.Officer(t, "4712", nil)
	if got := judged(t, w, v, k.Make(t, registrytest.Spec{Identity: identityOf(t, anna, nil)})); got.Code != api.CodeReview {
		t.Errorf("%+v", got)
	}
}
