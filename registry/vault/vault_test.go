package vault_test

import (
	"bytes"
	"crypto"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"enrollkiosk/kiosk/secret"
	"enrollkiosk/registry/api"
	"enrollkiosk/registry/internal/registrytest"
	"enrollkiosk/registry/receipt"
	"enrollkiosk/registry/record"
	"enrollkiosk/registry/vault"
	"enrollkiosk/simulators/idcard"
	"enrollkiosk/smartcard/icao"
	"enrollkiosk/smartcard/lds"
)

// specimen makes one specimen state for all tests: its keys take time.
var specimen = sync.OnceValues(func() (*idcard.Authority, error) { return idcard.NewAuthority(idcard.ECDSA) })

func state(t testing.TB) *idcard.Authority {
	t.Helper()
	a, err := specimen()
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// portrait is on every card: the vault is not given it, and drawing takes time.
var portrait = sync.OnceValues(func() ([]byte, error) { return idcard.Portrait(idcard.SpecimenPerson()) })

func card(t testing.TB, p idcard.Person, o idcard.Options) *idcard.Chip {
	t.Helper()
	return personalise(t, state(t), p, o)
}

func personalise(t testing.TB, a *idcard.Authority, p idcard.Person, o idcard.Options) *idcard.Chip {
	t.Helper()
	var err error
	if o.Face, err = portrait(); err != nil {
		t.Fatal(err)
	}
	c, err := a.Personalise(p, o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// read opens a card and reads it; active, if not nil, is the challenge.
func read(t testing.TB, c *idcard.Chip, active *[8]byte) lds.Document {
	t.Helper()
	chip, err := icao.Open(t.Context(), c.Direct(), icao.CAN(secret.FromString(c.CAN())), icao.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer chip.Close()
	files := []lds.File{lds.DG1, lds.EFSOD}
	for _, f := range []lds.File{lds.DG14, lds.DG15} {
		if c.File(uint16(f)) != nil {
			files = append(files, f)
		}
	}
	if _, err := chip.ReadAll(t.Context(), files, nil); err != nil {
		t.Fatal(err)
	}
	if active != nil {
		if _, err := chip.AuthenticateActive(t.Context(), *active); err != nil {
			t.Fatal(err)
		}
	}
	return chip.Document()
}

// identityOf reads a card as a kiosk does; edit, if not nil, alters what is sealed.
func identityOf(t testing.TB, c *idcard.Chip, edit func(*record.Identity)) func(record.Context, crypto.PublicKey) record.Identity {
	return func(rc record.Context, holder crypto.PublicKey) record.Identity {
		t.Helper()
		challenge, err := rc.ChipChallenge(holder)
		if err != nil {
			t.Fatal(err)
		}
		aa := [8]byte(challenge[:8])
		id := registrytest.Identity(read(t, c, &aa))
		if edit != nil {
			edit(&id)
		}
		return id
	}
}

func open(t testing.TB, o vault.Options) *vault.Vault {
	t.Helper()
	v, err := vault.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { v.Close() })
	return v
}

// judged is the verdict on a record, verified.
func judged(t testing.TB, w *registrytest.World, v *vault.Vault, s record.Submission) receipt.Verdict {
	t.Helper()
	b, err := v.Judge(t.Context(), s.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	verdict, err := receipt.VerifyVerdict(b, nil, w.Policy.Policy().VerdictKeys.Vault, s.ID())
	if err != nil {
		t.Fatal(err)
	}
	return verdict.Claims()
}

func another(number, given string) idcard.Person {
	p := idcard.SpecimenPerson()
	p.Number, p.GivenNames = number, given
	return p
}

func TestActiveAndTheSameBytesAgain(t *testing.T) {
	w := registrytest.New(t, state(t).CSCA())
	v := open(t, w.VaultOptions())
	s := w.Kiosk(t, "KIOSK-0001").Make(t, registrytest.Spec{Identity: identityOf(t, card(t, idcard.SpecimenPerson(), idcard.Options{}), nil)})
	first, err := v.Judge(t.Context(), s.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	if c := judged(t, w, v, s); c.Status != receipt.Active || c.Code != "" || c.DID != s.Record().Payload().Holder.DID {
		t.Errorf("%+v", c)
	}
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	v = open(t, w.VaultOptions())
	if again, err := v.Judge(t.Context(), s.Bytes()); err != nil || !bytes.Equal(first, again) {
		t.Errorf("after a restart: %v\n%s\n%s", err, first, again)
	}
	if _, err := vault.Open(t.Context(), w.VaultOptions()); !errors.Is(err, vault.ErrBusy) {
		t.Errorf("a second vault on the directory: %v", err)
	}
}

// Everything that a registry, a kiosk or a card could have done to an identity.
func TestRefusals(t *testing.T) {
	w := registrytest.New(t, state(t).CSCA())
	v := open(t, w.VaultOptions())
	k := w.Kiosk(t, "KIOSK-0001")
	good, other := card(t, idcard.SpecimenPerson(), idcard.Options{}), card(t, another("L898902C4", "EVA"), idcard.Options{})
	with := func(edit func(*record.Identity)) registrytest.Spec {
		return registrytest.Spec{Identity: identityOf(t, good, edit)}
	}
	file := func(id *record.Identity, f lds.File) []byte { return id.Files[uint16(f)].Reveal() }
	var replayed record.Identity
	earlier := registrytest.NewDevice(t)
	k.Make(t, registrytest.Spec{Holder: &earlier, Identity: identityOf(t, good, func(id *record.Identity) { replayed = *id })})
	stranger := registrytest.NewCA(t, "Officers").Officer(t, "1", nil)
	neighbour := w.Kiosk(t, "KIOSK-0002")

	for _, c := range []struct {
		name string
		spec registrytest.Spec
		code string
	}{
		{"no document", registrytest.Spec{}, api.CodeDocument},
		{"name changed", with(func(id *record.Identity) { b := file(id, lds.DG1); b[len(b)-1] ^= 1 }), api.CodeDocument},
		{"card with a changed name", registrytest.Spec{Identity: identityOf(t, card(t, idcard.SpecimenPerson(), idcard.Options{Faults: []idcard.Fault{idcard.TamperedDG1}}), nil)}, api.CodeDocument},
		{"signature changed", with(func(id *record.Identity) { b := file(id, lds.EFSOD); b[len(b)-1] ^= 1 }), api.CodeDocument},
		{"another person's DG1", with(func(id *record.Identity) { id.Files[uint16(lds.DG1)] = secret.New(other.File(uint16(lds.DG1))) }), api.CodeDocument},
		{"a file that nobody signed", with(func(id *record.Identity) { id.Files[0x010B] = secret.FromString("\x6B\x00") }), api.CodeDocument},
		{"unknown state", registrytest.Spec{Identity: identityOf(t, card(t, idcard.SpecimenPerson(), idcard.Options{Faults: []idcard.Fault{idcard.UnknownCSCA}}), nil)}, api.CodeDocument},
		{"expired card", registrytest.Spec{Identity: identityOf(t, card(t, idcard.SpecimenPerson(), idcard.Options{Faults: []idcard.Fault{idcard.Expired}}), nil)}, api.CodeDocument},
		{"chip not asked", with(func(id *record.Identity) { id.Active = nil }), api.CodeDocument},
		{"chip not asked, kiosk's word", with(func(id *record.Identity) {
			id.Active, id.Chip = nil, &record.ChipClaim{Protocol: "0.4.0.127.0.7.2.2.3.2.2", Passed: true}
		}), api.CodeDocument},
		{"answer for another record", with(func(id *record.Identity) { id.Active = replayed.Active }), api.CodeDocument},
		{"answer of another chip", with(func(id *record.Identity) {
			c := [8]byte(id.Active.Challenge)
			id.Active.Signature = read(t, other, &c).Active.Signature
		}), api.CodeDocument},
		{"another text", with(func(id *record.Identity) { id.Consents[0].Digest[0] ^= 1 }), api.CodePolicy},
		{"another language", with(func(id *record.Identity) { id.Consents[0].Language = "zh" }), api.CodePolicy},
		{"consent to more", with(func(id *record.Identity) { id.Consents = append(id.Consents, id.Consents[0]) }), api.CodePolicy},
		{"no consent", with(func(id *record.Identity) { id.Consents = nil }), api.CodePolicy},
		{"sealed text changed", registrytest.Spec{Identity: identityOf(t, good, nil), Payload: func(p *record.Payload) { p.Identity.Ciphertext[100] ^= 1 }}, api.CodeSealed},
		{"sealed for another record", registrytest.Spec{Identity: identityOf(t, good, nil), Payload: func(p *record.Payload) { p.Context.Nonce[0] ^= 1 }}, api.CodeSealed},
		{"signed by another kiosk", registrytest.Spec{Identity: identityOf(t, good, nil), Kiosk: neighbour}, api.CodeKiosk},
		{"from the future", registrytest.Spec{Identity: identityOf(t, good, nil), Payload: func(p *record.Payload) {
			p.Times.Wall = p.Times.Wall.Add(25 * time.Hour)
		}}, api.CodeTime},
		{"a year back", registrytest.Spec{Identity: identityOf(t, good, nil), Payload: func(p *record.Payload) {
			p.Times.Wall, p.Times.Registry = p.Times.Wall.AddDate(-1, 0, 0), time.Time{}
		}}, api.CodeTime},
		{"unknown officer", registrytest.Spec{Identity: identityOf(t, good, nil), Officer: &stranger}, api.CodeOfficer},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := k.Make(t, c.spec)
			if got := judged(t, w, v, s); got.Status != receipt.Refused || got.Code != c.code {
				t.Errorf("%s %s, want refused %s", got.Status, got.Code, c.code)
			}
		})
	}
	// None of that enrolled anybody.
	if got := judged(t, w, v, k.Make(t, with(nil))); got.Status != receipt.Active {
		t.Errorf("%+v", got)
	}
}

// A document that has no key for Active Authentication: the kiosk's word on Chip
// Authentication stands if the document has keys for that.
func TestChipClaim(t *testing.T) {
	w := registrytest.New(t, state(t).CSCA())
	v := open(t, w.VaultOptions())
	k := w.Kiosk(t, "KIOSK-0001")
	keys := card(t, idcard.SpecimenPerson(), idcard.Options{}).File(uint16(lds.DG14))
	faults := []idcard.Fault{idcard.NoChipKeys}
	claiming := card(t, idcard.SpecimenPerson(), idcard.Options{Faults: faults, Files: map[uint16][]byte{uint16(lds.DG14): keys}})
	plain := card(t, idcard.SpecimenPerson(), idcard.Options{Faults: faults})
	for _, c := range []struct {
		name   string
		card   *idcard.Chip
		claim  *record.ChipClaim
		status receipt.Status
	}{
		{"no claim", claiming, nil, receipt.Refused},
		{"failed", claiming, &record.ChipClaim{Protocol: "0.4.0.127.0.7.2.2.3.2.2"}, receipt.Refused},
		{"no keys", plain, &record.ChipClaim{Protocol: "0.4.0.127.0.7.2.2.3.2.2", Passed: true}, receipt.Refused},
		{"passed", claiming, &record.ChipClaim{Protocol: "0.4.0.127.0.7.2.2.3.2.2", Passed: true}, receipt.Active},
	} {
		s := k.Make(t, registrytest.Spec{Identity: func(record.Context, crypto.PublicKey) record.Identity {
			id := registrytest.Identity(read(t, c.card, nil))
			id.Chip = c.claim
			return id
		}})
		if got := judged(t, w, v, s); got.Status != c.status {
			t.Errorf("%s: %+v", c.name, got)
		}
	}
}

// A document has one DID. Another document of the same name and birth may be
// another person's: it is active, and noted for review.
func TestSamePersonTwice(t *testing.T) {
	w := registrytest.New(t, state(t).CSCA())
	v := open(t, w.VaultOptions())
	k := w.Kiosk(t, "KIOSK-0001")
	anna, renewed := card(t, idcard.SpecimenPerson(), idcard.Options{}), card(t, another("L898902C9", idcard.SpecimenPerson().GivenNames), idcard.Options{})
	namesake := card(t, another("L898902C8", idcard.SpecimenPerson().GivenNames), idcard.Options{})
	eva := card(t, another("L898902C4", "EVA"), idcard.Options{})
	married := idcard.SpecimenPerson()
	married.Surname = "SVENSSON"
	sameCard := card(t, married, idcard.Options{})
	first, second, third, fourth := registrytest.NewDevice(t), registrytest.NewDevice(t), registrytest.NewDevice(t), registrytest.NewDevice(t)

	for i, step := range []struct {
		spec  registrytest.Spec
		card  *idcard.Chip
		code  string
		other *registrytest.Device // of whom the review is
	}{
		{registrytest.Spec{Holder: &first}, anna, "", nil},
		{registrytest.Spec{}, anna, api.CodeReview, &first},
		{registrytest.Spec{}, sameCard, api.CodeReview, &first},
		{registrytest.Spec{Holder: &third}, eva, "", nil},
		{registrytest.Spec{Purpose: record.Update, Holder: &first}, renewed, "", nil},
		{registrytest.Spec{Purpose: record.Update, Holder: &first}, eva, api.CodeReview, &third},
		{registrytest.Spec{}, renewed, api.CodeReview, &first},
		{registrytest.Spec{Purpose: record.Replace, Holder: &second, Old: &third}, anna, api.CodeReview, &third},
		{registrytest.Spec{Purpose: record.Replace, Holder: &second, Old: &first}, renewed, "", nil},
		{registrytest.Spec{Purpose: record.Update, Holder: &first}, renewed, api.CodeReview, &second}, // its DID has gone
		{registrytest.Spec{Purpose: record.Update, Holder: &second}, renewed, "", nil},
		{registrytest.Spec{Holder: &fourth}, namesake, "", &second},
		{registrytest.Spec{}, namesake, api.CodeReview, &fourth},
		{registrytest.Spec{Purpose: record.Update, Holder: &fourth}, namesake, "", nil},
		{registrytest.Spec{Purpose: record.Update, Holder: &third}, namesake, api.CodeReview, &fourth},
		{registrytest.Spec{}, renewed, api.CodeReview, &second}, // the namesake took nothing from her
	} {
		step.spec.Identity = identityOf(t, step.card, nil)
		want := receipt.Active
		if step.code != "" {
			want = receipt.Refused
		}
		s := k.Make(t, step.spec)
		if got := judged(t, w, v, s); got.Status != want || got.Code != step.code {
			t.Errorf("step %d: %+v", i, got)
		}
		var other string
		if step.other != nil {
			var err error
			if other, err = record.DIDKey(step.other.Public()); err != nil {
				t.Fatal(err)
			}
		}
		if got, refused := vault.ReviewOf(t, v, s.ID()); got != other || refused != (step.code != "") {
			t.Errorf("step %d: review of %q (refused %v), want %q", i, got, refused, other)
		}
	}
}

// A production vault takes nothing that rests on a single test root, even if the
// registry did.
func TestProductionRefusesSimulated(t *testing.T) {
	for _, simulated := range []string{registrytest.Anchors, registrytest.KioskCA, registrytest.OfficerCA, ""} {
		t.Run(simulated, func(t *testing.T) {
			w := registrytest.New(t, state(t).CSCA())
			w.Production(t, simulated)
			o := w.VaultOptions()
			o.Production = true
			s := w.Kiosk(t, "KIOSK-0001").Make(t, registrytest.Spec{Identity: identityOf(t, card(t, idcard.SpecimenPerson(), idcard.Options{}), nil)})
			want := api.CodeSimulated
			if simulated == "" {
				want = ""
			}
			if got := judged(t, w, open(t, o), s); got.Code != want {
				t.Errorf("%+v", got)
			}
		})
	}
}

// The vault ends a lost card too.
func TestLostOfficersCard(t *testing.T) {
	w := registrytest.New(t, state(t).CSCA())
	k := w.Kiosk(t, "KIOSK-0001")
	s := k.Make(t, registrytest.Spec{Identity: identityOf(t, card(t, idcard.SpecimenPerson(), idcard.Options{}), nil)})
	open(t, w.VaultOptions()).Close() // has the first policy
	o := w.VaultOptions()
	o.Policy = w.Revoke(t, 2, time.Now().Add(-10*time.Minute), w.Officer)
	if got := judged(t, w, open(t, o), s); got.Code != api.CodeOfficerRevoked {
		t.Errorf("%+v", got)
	}
}

// What is not for this vault gets no verdict.
func TestNoVerdict(t *testing.T) {
	w, elsewhere := registrytest.New(t, state(t).CSCA()), registrytest.New(t, state(t).CSCA())
	v := open(t, w.VaultOptions())
	k := w.Kiosk(t, "KIOSK-0001")
	for name, c := range map[string]struct {
		submission []byte
		err        error
	}{
		"garbage":        {[]byte("{}"), vault.ErrNoRecord},
		"nothing":        {nil, vault.ErrNoRecord},
		"another log's":  {k.Make(t, registrytest.Spec{Context: func(c *record.Context) { c.Audience = "elsewhere.example/log" }}).Bytes(), vault.ErrNoRecord},
		"a void":         {k.Make(t, registrytest.Spec{Purpose: record.Void}).Bytes(), vault.ErrNoRecord},
		"unknown policy": {elsewhere.Kiosk(t, "KIOSK-0001").Make(t, registrytest.Spec{}).Bytes(), vault.ErrUnknownPolicy},
	} {
		if b, err := v.Judge(t.Context(), c.submission); !errors.Is(err, c.err) || b != nil {
			t.Errorf("%s: %s, %v", name, b, err)
		}
	}
}

// Records made under an earlier policy are judged by it; a policy that goes
// back, or is another vault's, is refused.
func TestPolicies(t *testing.T) {
	w := registrytest.New(t, state(t).CSCA())
	s := w.Kiosk(t, "KIOSK-0001").Make(t, registrytest.Spec{Identity: identityOf(t, card(t, idcard.SpecimenPerson(), idcard.Options{}), nil)})
	earlier := w.VaultOptions()
	open(t, earlier).Close()
	later := w.VaultOptions()
	later.Policy = w.Sign(t, 2, time.Now())
	v := open(t, later)
	if got := judged(t, w, v, s); got.Status != receipt.Active {
		t.Errorf("%+v", got)
	}
	v.Close()
	if _, err := vault.Open(t.Context(), earlier); err == nil {
		t.Error("took an older policy")
	}
	foreign := w.VaultOptions()
	foreign.Policy = registrytest.New(t).Policy
	if _, err := vault.Open(t.Context(), foreign); !errors.Is(err, vault.ErrPolicy) {
		t.Errorf("took another vault's policy: %v", err)
	}
}

// Nothing that was opened is found on disk or in the log, in any of the usual
// spellings. The negative control is found.
func TestNothingPersonalStays(t *testing.T) {
	w := registrytest.New(t, state(t).CSCA())
	var logged bytes.Buffer
	o := w.VaultOptions()
	o.Log = slog.New(slog.NewTextHandler(&logged, &slog.HandlerOptions{Level: slog.LevelDebug}))
	v := open(t, o)
	k := w.Kiosk(t, "KIOSK-0001")
	good := card(t, idcard.SpecimenPerson(), idcard.Options{})
	for _, edit := range []func(*record.Identity){nil, nil, // the second for review
		func(id *record.Identity) { b := id.Files[0x0101].Reveal(); b[len(b)-1] ^= 1 },
		func(id *record.Identity) { id.Active = nil },
		func(id *record.Identity) { id.Consents = nil }} {
		judged(t, w, v, k.Make(t, registrytest.Spec{Identity: identityOf(t, good, edit)}))
	}
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	p := idcard.SpecimenPerson()
	seen := logged.String()
	for _, name := range []string{"vault.db"} {
		b, err := os.ReadFile(filepath.Join(w.VaultDir(), name))
		if err != nil {
			t.Fatal(err)
		}
		seen += string(b)
	}
	for _, canary := range []string{p.Surname, strings.ReplaceAll(p.GivenNames, " ", "<"), p.GivenNames, p.Number, p.Birth.Format("060102"), p.CAN} {
		if canary == "" || strings.Contains(seen, canary) {
			t.Errorf("found %q", canary)
		}
	}
	if !strings.Contains(seen, api.CodeReview) || !strings.Contains(logged.String(), "refused") {
		t.Error("the control is not there either: this test looks in the wrong place")
	}
}
