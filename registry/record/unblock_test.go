package record_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"enrollkiosk/kiosk/secret"
	"enrollkiosk/registry/record"
)

func unblockContext(t testing.TB, k record.AuthorityPrivateKey) record.UnblockContext {
	t.Helper()
	did, err := record.DIDKey(ecKey(t, "holder").Public())
	if err != nil {
		t.Fatal(err)
	}
	return record.UnblockContext{Version: record.Version, Audience: origin, KioskID: "KIOSK-0001", DID: did, Serial: 1234567,
		Time: time.Date(2026, 11, 28, 9, 0, 0, 0, time.UTC), Nonce: sha256.Sum256([]byte("nonce")), PolicyDigest: sha256.Sum256([]byte("policy")),
		AuthorityKeyID: k.Public().ID, EKNames: [][]byte{bytes.Repeat([]byte{11}, 34), bytes.Repeat([]byte{12}, 50)}, AKName: bytes.Repeat([]byte{13}, 34)}
}

func tokenAdmin(n byte) record.TokenAdmin {
	return record.TokenAdmin{PUK: secret.FromString(fmt.Sprintf("7712345%d", n)), ManagementKey: secret.New(bytes.Repeat([]byte{0xA0 + n}, 24))}
}

func authorityPrivate(t testing.TB) record.AuthorityPrivateKey {
	t.Helper()
	k, err := record.GenerateAuthorityKey()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// unblockDraft is a request that nobody has signed.
func unblockDraft(t testing.TB, k record.AuthorityPrivateKey, edit func(*record.UnblockContext)) (*record.UnblockDraft, error) {
	c := unblockContext(t, k)
	if edit != nil {
		edit(&c)
	}
	return record.NewUnblock(c, k.Public(), tokenAdmin(1), chain(t, "officer", ecKey(t, "officer")), chain(t, "kiosk", ecKey(t, "kiosk")))
}

func unblock(t testing.TB, k record.AuthorityPrivateKey) record.Unblock {
	t.Helper()
	d, err := unblockDraft(t, k, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range []struct {
		role record.Role
		name string
	}{{record.Desk, "officer"}, {record.Kiosk, "kiosk"}} {
		if err := d.Sign(t.Context(), p.role, ecKey(t, p.name), chain(t, p.name, ecKey(t, p.name))); err != nil {
			t.Fatal(err)
		}
	}
	u, err := d.Unblock()
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func answer(t testing.TB, u record.Unblock, vault device, edit func(*record.UnblockAnswer)) []byte {
	t.Helper()
	sealed, err := record.SealCandidates(bytes.Repeat([]byte{7}, 32), u.ID(), []record.TokenAdmin{tokenAdmin(0), tokenAdmin(1)})
	if err != nil {
		t.Fatal(err)
	}
	a := record.UnblockAnswer{Request: u.ID(), Time: time.Date(2026, 11, 28, 9, 0, 1, 0, time.UTC), EKName: u.Context().EKNames[1],
		Blob: []byte("credential"), Encrypted: []byte("encrypted"), Ciphertext: sealed}
	if edit != nil {
		edit(&a)
	}
	b, err := record.SignUnblockAnswer(t.Context(), a, vault)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func jwkOf(t testing.TB, d device) record.JWK {
	t.Helper()
	j, err := record.NewJWK(d.Public())
	if err != nil {
		t.Fatal(err)
	}
	return j
}

func TestUnblock(t *testing.T) {
	k := authorityPrivate(t)
	u := unblock(t, k)
	again, err := record.ParseUnblock(u.Bytes())
	if err != nil || again.ID() != u.ID() || !bytes.Equal(again.Bytes(), u.Bytes()) {
		t.Fatal(err)
	}
	if s := again.Signatures(); len(s) != 2 || s[0].Role != record.Desk || s[1].Role != record.Kiosk || s[0].Chain[0].Subject.CommonName != "officer" {
		t.Errorf("%+v", s)
	}
	a, err := again.OpenAdmin(k)
	if err != nil || !a.PUK.Equal(tokenAdmin(1).PUK) || !a.ManagementKey.Equal(tokenAdmin(1).ManagementKey) {
		t.Errorf("the new administrator: %v", err)
	}
	if _, err := again.OpenAdmin(authorityPrivate(t)); !errors.Is(err, record.ErrSeal) {
		t.Errorf("another authority: %v", err)
	}
	if bytes.Contains(u.Bytes(), tokenAdmin(1).PUK.Reveal()) {
		t.Error("the request shows the PUK")
	}

	vault := ecKey(t, "vault")
	got, err := record.VerifyUnblockAnswer(answer(t, u, vault, nil), []record.JWK{jwkOf(t, vault)}, u)
	if err != nil {
		t.Fatal(err)
	}
	list, err := record.OpenCandidates(bytes.Repeat([]byte{7}, 32), u.ID(), got.Ciphertext)
	if err != nil || len(list) != 2 || !list[0].PUK.Equal(tokenAdmin(0).PUK) || !list[1].ManagementKey.Equal(tokenAdmin(1).ManagementKey) {
		t.Errorf("candidates: %v", err)
	}
	if len(got.Ciphertext)%1024 != 16 {
		t.Error("its length tells how many candidates there are")
	}
	if _, err := record.OpenCandidates(bytes.Repeat([]byte{8}, 32), u.ID(), got.Ciphertext); !errors.Is(err, record.ErrSeal) {
		t.Errorf("another secret: %v", err)
	}
	if _, err := record.OpenCandidates(bytes.Repeat([]byte{7}, 32), [32]byte{1}, got.Ciphertext); !errors.Is(err, record.ErrSeal) {
		t.Errorf("another request: %v", err)
	}
	for i := range got.Ciphertext {
		b := bytes.Clone(got.Ciphertext)
		b[i] ^= 1
		if _, err := record.OpenCandidates(bytes.Repeat([]byte{7}, 32), u.ID(), b); !errors.Is(err, record.ErrSeal) {
			t.Fatalf("byte %d altered: %v", i, err)
		}
	}
}

func TestUnblockForm(t *testing.T) {
	k := authorityPrivate(t)
	for name, edit := range map[string]func(*record.UnblockContext){
		"version":       func(c *record.UnblockContext) { c.Version = 2 },
		"audience":      func(c *record.UnblockContext) { c.Audience = "" },
		"kiosk":         func(c *record.UnblockContext) { c.KioskID = "" },
		"did":           func(c *record.UnblockContext) { c.DID = "did:web:example" },
		"serial":        func(c *record.UnblockContext) { c.Serial = 0 },
		"time":          func(c *record.UnblockContext) { c.Time = time.Time{} },
		"nonce":         func(c *record.UnblockContext) { c.Nonce = [32]byte{} },
		"policy":        func(c *record.UnblockContext) { c.PolicyDigest = [32]byte{} },
		"no ek":         func(c *record.UnblockContext) { c.EKNames = nil },
		"too many eks":  func(c *record.UnblockContext) { c.EKNames = make([][]byte, 9) },
		"no name of ek": func(c *record.UnblockContext) { c.EKNames[1] = []byte("name") },
		"ak":            func(c *record.UnblockContext) { c.AKName = c.AKName[1:] },
	} {
		if _, err := unblockDraft(t, k, edit); !errors.Is(err, record.ErrForm) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := unblockDraft(t, k, func(c *record.UnblockContext) { c.AuthorityKeyID = "another" }); !errors.Is(err, record.ErrSeal) {
		t.Errorf("another authority: %v", err)
	}
	if _, err := record.NewUnblock(unblockContext(t, k), k.Public(), tokenAdmin(1), nil, chain(t, "kiosk", ecKey(t, "kiosk"))); !errors.Is(err, record.ErrSigners) {
		t.Errorf("without an officer: %v", err)
	}
	d, err := unblockDraft(t, k, nil)
	if err != nil {
		t.Fatal(err)
	}
	sign := func(role record.Role, name string) error {
		return d.Sign(context.Background(), role, ecKey(t, name), chain(t, name, ecKey(t, name)))
	}
	for _, wrong := range []error{sign(record.Kiosk, "kiosk"), sign(record.Officer, "officer"), sign(record.Desk, "kiosk"), sign(record.Desk, "somebody")} {
		if !errors.Is(wrong, record.ErrSigners) {
			t.Errorf("signed out of turn or by another: %v", wrong)
		}
	}
	if _, err := d.Unblock(); !errors.Is(err, record.ErrSigners) {
		t.Errorf("unsigned: %v", err)
	}
	if (record.Unblock{}).Valid() || (record.Unblock{}).Bytes() != nil || (record.Unblock{}).Signatures() != nil {
		t.Error("the zero value says something")
	}
	if _, err := (record.Unblock{}).OpenAdmin(k); !errors.Is(err, record.ErrZero) {
		t.Errorf("the zero value opens: %v", err)
	}
	if _, err := record.VerifyUnblockAnswer(nil, nil, record.Unblock{}); !errors.Is(err, record.ErrZero) {
		t.Errorf("the zero value is answered: %v", err)
	}
	if s := fmt.Sprintf("%v %+v", tokenAdmin(1), tokenAdmin(1)); strings.Contains(s, "77123") {
		t.Error("an administrator prints")
	}
}

// reencoded alters the decoded text of a base64url string in the request's JSON.
func reencoded(t *testing.T, b []byte, encoded string, alter func(string) string) []byte {
	t.Helper()
	raw, err := base64.RawURLEncoding.DecodeString(encoded)
	if err != nil {
		t.Fatal(err)
	}
	altered := alter(string(raw))
	if altered == string(raw) {
		t.Fatal("nothing was altered")
	}
	return bytes.Replace(b, []byte(encoded), []byte(base64.RawURLEncoding.EncodeToString([]byte(altered))), 1)
}

func TestUnblockAttacks(t *testing.T) {
	k := authorityPrivate(t)
	u := unblock(t, k)
	b := u.Bytes()
	for i := range b {
		altered := bytes.Clone(b)
		altered[i] ^= 1
		if _, err := record.ParseUnblock(altered); err == nil {
			t.Fatalf("byte %d altered, accepted", i)
		}
	}
	text := string(b)
	payload, rest, _ := strings.Cut(strings.TrimPrefix(text, `{"payload":"`), `"`)
	parts := strings.Split(rest, `"`) // ...protected "X" signature "Y"...
	desk, first, kiosk, second := parts[5], parts[9], parts[13], parts[17]
	swapped := strings.NewReplacer(desk, kiosk, kiosk, desk, first, second, second, first).Replace(text)
	oneOnly := `{"payload":"` + payload + `","signatures":[{"protected":"` + desk + `","signature":"` + first + `"}]}`
	for name, altered := range map[string][]byte{
		"signatures swapped":  []byte(swapped),
		"the kiosk's missing": []byte(oneOnly),
		"an officer's role":   reencoded(t, b, desk, func(h string) string { return strings.Replace(h, `"role":"desk"`, `"role":"officer"`, 1) }),
		"a record's type":     reencoded(t, b, kiosk, func(h string) string { return strings.Replace(h, record.UnblockType, "enrollkiosk-record+jws", 1) }),
		"another token":       reencoded(t, b, payload, func(p string) string { return strings.Replace(p, "1234567", "1234568", 1) }),
		"trailing":            append(bytes.Clone(b), '\n'),
		"too large":           make([]byte, record.MaxUnblock+1),
	} {
		var e *record.Error
		if _, err := record.ParseUnblock(altered); !errors.As(err, &e) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := record.Parse(b); err == nil {
		t.Error("a request passes for a record")
	}

	vault := ecKey(t, "vault")
	keys := []record.JWK{jwkOf(t, vault)}
	good := answer(t, u, vault, nil)
	for i := range good {
		altered := bytes.Clone(good)
		altered[i] ^= 1
		if _, err := record.VerifyUnblockAnswer(altered, keys, u); err == nil {
			t.Fatalf("byte %d of the answer altered, accepted", i)
		}
	}
	for name, refused := range map[string][]byte{
		"another key's":        answer(t, u, ecKey(t, "registry"), nil),
		"to another request":   answer(t, unblock(t, k), vault, nil),
		"for another TPM":      answer(t, u, vault, func(a *record.UnblockAnswer) { a.EKName = bytes.Repeat([]byte{14}, 34) }),
		"without a credential": answer(t, u, vault, func(a *record.UnblockAnswer) { a.Blob = nil }),
		"without a time":       answer(t, u, vault, func(a *record.UnblockAnswer) { a.Time = time.Time{} }),
		"too large":            make([]byte, record.MaxUnblockAnswer+1),
	} {
		var e *record.Error
		if _, err := record.VerifyUnblockAnswer(refused, keys, u); !errors.As(err, &e) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if typed, err := record.SignCompact(t.Context(), "enrollkiosk-verdict+jws", []byte(`{}`), vault); err != nil {
		t.Error(err)
	} else if _, err := record.VerifyUnblockAnswer(typed, keys, u); !errors.Is(err, record.ErrSigners) {
		t.Errorf("a verdict passes for an answer: %v", err)
	}
	many := make([]record.TokenAdmin, record.MaxCandidates+1)
	for i := range many {
		many[i] = tokenAdmin(0)
	}
	sealed, err := record.SealCandidates(make([]byte, 32), u.ID(), many)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := record.OpenCandidates(make([]byte, 32), u.ID(), sealed); !errors.Is(err, record.ErrForm) {
		t.Errorf("too many candidates: %v", err)
	}
	if sealed, err = record.SealCandidates(make([]byte, 32), u.ID(), many[1:]); err != nil {
		t.Fatal(err)
	}
	full := answer(t, u, vault, func(a *record.UnblockAnswer) {
		a.Ciphertext, a.Blob, a.Encrypted = sealed, make([]byte, 100), make([]byte, 256)
	})
	if _, err := record.VerifyUnblockAnswer(full, keys, u); err != nil {
		t.Errorf("the largest answer: %v", err)
	}
}

// Whatever passes re-encodes to itself and has both signatures.
func FuzzParseUnblock(f *testing.F) {
	f.Add(seed(f, "request.json"))
	f.Fuzz(func(t *testing.T, b []byte) {
		u, err := record.ParseUnblock(b)
		if err != nil {
			var e *record.Error
			if !errors.As(err, &e) || u.Valid() {
				t.Fatalf("%v", err)
			}
			return
		}
		if !bytes.Equal(u.Bytes(), b) || len(u.Signatures()) != 2 {
			t.Fatal("it is not what was read")
		}
	})
}

func FuzzVerifyUnblockAnswer(f *testing.F) {
	u, err := record.ParseUnblock(seed(f, "request.json"))
	if err != nil {
		f.Fatal(err)
	}
	good := seed(f, "answer.jws")
	keys := []record.JWK{jwkOf(f, ecKey(f, "vault"))}
	f.Add(good)
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := record.VerifyUnblockAnswer(b, keys, u)
		var e *record.Error
		if err == nil && a.Request != u.ID() || err != nil && (!errors.As(err, &e) || bytes.Equal(b, good)) {
			t.Fatalf("%v", err)
		}
	})
}

func FuzzOpenCandidates(f *testing.F) {
	f.Add([]byte{})
	f.Add(make([]byte, 1040))
	f.Fuzz(func(t *testing.T, b []byte) {
		var e *record.Error
		if _, err := record.OpenCandidates(make([]byte, 32), [32]byte{}, b); !errors.As(err, &e) {
			t.Fatalf("%v", err)
		}
	})
}

// seed is an example in testdata/unblock; -update makes them anew.
func seed(t testing.TB, name string) []byte {
	t.Helper()
	dir := filepath.Join("testdata", "unblock")
	if *update {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		u := unblock(t, authorityPrivate(t))
		for name, b := range map[string][]byte{"request.json": u.Bytes(), "answer.jws": answer(t, u, ecKey(t, "vault"), nil)} {
			if err := os.WriteFile(filepath.Join(dir, name), b, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		*update = false // the two belong together
	}
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}
