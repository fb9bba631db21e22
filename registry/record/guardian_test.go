package record_test

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"enrollkiosk/kiosk/secret"
	"enrollkiosk/registry/record"
)

func specimenGuardian() *record.Guardian {
	return &record.Guardian{Document: record.EMRTD, Access: "PACE", Report: []byte(`{"hashes":"ok"}`),
		Files: map[uint16]secret.Text{0x0101: secret.FromString("DG1 canary-guardian"), 0x011D: secret.FromString("SOD canary-guardian")},
		Chip:  &record.ChipClaim{Protocol: "0.4.0.127.0.7.2.2.3.2.2", Passed: true}, Active: &record.ActiveEvidence{Challenge: []byte{8, 7, 6, 5, 4, 3, 2, 1}, Signature: []byte{9}},
		Shown: record.OtherProof, Note: secret.FromString("canary-note 12/2026"), Checks: []record.Check{{Code: "face-matches", Passed: true}}}
}

// resealed is id as it comes out again.
func resealed(t *testing.T, id record.Identity) (record.Identity, error) {
	t.Helper()
	e := enroll(t)
	s, err := record.Seal(e.payload.Context, e.authority.Public(), id)
	if err != nil {
		return record.Identity{}, err
	}
	return record.OpenSealed(e.payload.Context, e.authority, s)
}

func TestGuardianIsSealed(t *testing.T) {
	id, want := specimenIdentity(), specimenGuardian()
	id.Guardian = want
	id, err := resealed(t, id)
	if err != nil {
		t.Fatal(err)
	}
	g := id.Guardian
	if g == nil || g.Document != want.Document || g.Access != want.Access || g.Shown != want.Shown || !g.Note.Equal(want.Note) || len(g.Files) != 2 ||
		!g.Files[0x0101].Equal(want.Files[0x0101]) || !g.Files[0x011D].Equal(want.Files[0x011D]) || !reflect.DeepEqual(g.Chip, want.Chip) ||
		!reflect.DeepEqual(g.Active, want.Active) || !bytes.Equal(g.Report, want.Report) || len(g.Checks) != 1 || g.Checks[0].Code != "face-matches" {
		t.Error("the guardian differs")
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x"} {
		if s := fmt.Sprintf(verb+verb, g, *g); strings.Contains(s, "canary") || strings.Contains(s, fmt.Sprintf("%x", "canary")) {
			t.Errorf("%s prints the guardian", verb)
		}
	}
	if id, err := resealed(t, specimenIdentity()); err != nil || id.Guardian != nil {
		t.Errorf("an identity without a guardian: %v", err)
	}
}

// What was sealed before there were guardians is written as it was.
func TestIdentityWithoutGuardian(t *testing.T) {
	const want = `{"document":"prc-resident","files":[{"id":1,"bytes":"AQ"}],"access":"","report":"e30","consents":[],"checks":[{"code":"face-matches","passed":true,"note":""}],` +
		`"token_admin":{"puk":"MTI","management_key":"MzQ"}}`
	id := record.Identity{Document: record.PRCResident, Files: map[uint16]secret.Text{1: secret.New([]byte{1})}, Report: []byte("{}"), Consents: []record.ConsentText{},
		Checks: []record.Check{{Code: "face-matches", Passed: true}}, TokenAdmin: &record.TokenAdmin{PUK: secret.FromString("12"), ManagementKey: secret.FromString("34")}}
	if got, err := record.Plaintext(id); err != nil || string(got) != want {
		t.Errorf("%s (%v)", got, err)
	}
	if got, err := record.ParseIdentity([]byte(want)); err != nil || got.Guardian != nil {
		t.Errorf("an old identity: %v", err)
	}
}

func TestGuardianForm(t *testing.T) {
	for name, edit := range map[string]func(*record.Guardian){
		"no document":        func(g *record.Guardian) { g.Document = "" },
		"no DG1":             func(g *record.Guardian) { delete(g.Files, 0x0101) },
		"no EF.SOD":          func(g *record.Guardian) { delete(g.Files, 0x011D) },
		"no proof":           func(g *record.Guardian) { g.Shown = "" },
		"unknown proof":      func(g *record.Guardian) { g.Shown = "their word" },
		"other without note": func(g *record.Guardian) { g.Note = secret.Text{} },
		"note too long":      func(g *record.Guardian) { g.Note = secret.FromString(strings.Repeat("x", record.MaxGuardianNote+1)) },
	} {
		id := specimenIdentity()
		id.Guardian = specimenGuardian()
		edit(id.Guardian)
		if _, err := resealed(t, id); !errors.Is(err, record.ErrForm) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, shown := range record.Guardianships() {
		id := specimenIdentity()
		id.Guardian = specimenGuardian()
		if id.Guardian.Shown = shown; shown != record.OtherProof {
			id.Guardian.Note = secret.Text{}
		}
		if _, err := resealed(t, id); err != nil {
			t.Errorf("%s: %v", shown, err)
		}
	}
}

// The challenge is what record-format.md says, and another one for whatever it is for.
func TestGuardianChallenge(t *testing.T) {
	e := enroll(t)
	c, files := e.payload.Context, specimenIdentity().Files
	key, err := e.payload.Holder.Key.Public()
	if err != nil {
		t.Fatal(err)
	}
	got, err := c.GuardianChallenge(key, files)
	if err != nil {
		t.Fatal(err)
	}
	spki, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		t.Fatal(err)
	}
	packed := sha256.Sum256([]byte("\x01\x01\x00\x00\x00\x29DG1 I<UTO ERIKSSON<<ANNA<MARIA canary-dg1" + "\x01\x0F\x00\x00\x00\x04DG15" + "\x01\x1D\x00\x00\x00\x0ESOD canary-sod"))
	if want := sha256.Sum256(bytes.Join([][]byte{[]byte("enrollkiosk/guardian/v1"), c.Bytes(), spki, packed[:]}, nil)); got != want {
		t.Errorf("%x, want %x", got, want)
	}
	own, err := c.ChipChallenge(key)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[[32]byte]string{got: "as it is", own: "the holder's own"}
	again := func(name string, c record.Context, key any, files map[uint16]secret.Text) {
		t.Helper()
		got, err := c.GuardianChallenge(key, files)
		if err != nil || seen[got] != "" {
			t.Errorf("%s: the same as %s (%v)", name, seen[got], err)
		}
		seen[got] = name
	}
	other := c
	other.Nonce[0] ^= 1
	again("another enrollment", other, key, files)
	again("another key", c, ecKey(t, "somebody else").Public(), files)
	for f, content := range files {
		changed := specimenIdentity().Files
		changed[f] = secret.New(append(bytes.Clone(content.Reveal()), 0))
		again(fmt.Sprintf("file %04X longer", f), c, key, changed)
		delete(changed, f)
		again(fmt.Sprintf("file %04X left out", f), c, key, changed)
	}
}

// FuzzParseIdentity reads what a hostile kiosk may have sealed. What is taken has one
// encoding, and a guardian in it is whole.
func FuzzParseIdentity(f *testing.F) {
	plain := specimenIdentity()
	guarded := specimenIdentity()
	guarded.Guardian = specimenGuardian()
	for _, id := range []record.Identity{plain, guarded} {
		text, err := record.Plaintext(id)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		id, err := record.ParseIdentity(text)
		if err != nil {
			if !errors.Is(err, record.ErrForm) {
				t.Errorf("refused with %v", err)
			}
			return
		}
		again, err := record.Plaintext(id)
		if err != nil || !bytes.Equal(again, text) {
			t.Errorf("%q is taken and would be written %q (%v)", text, again, err)
		}
		if g := id.Guardian; g != nil && (len(g.Files) == 0 || g.Shown == "" || g.Shown == record.OtherProof && g.Note.Len() == 0) {
			t.Error("half a guardian")
		}
	})
}
