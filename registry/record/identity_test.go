package record_test

import (
	"bytes"
	"encoding/gob"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"testing"

	"enrollkiosk/kiosk/secret"
	"enrollkiosk/registry/record"
)

func TestSealAndOpen(t *testing.T) {
	e := enroll(t)
	id, err := record.OpenSealed(e.payload.Context, e.authority, e.payload.Identity)
	if err != nil {
		t.Fatal(err)
	}
	want := specimenIdentity()
	for f, text := range want.Files {
		if !id.Files[f].Equal(text) {
			t.Errorf("file %04X differs", f)
		}
	}
	if len(id.Files) != len(want.Files) || id.Access != want.Access || !reflect.DeepEqual(id.Chip, want.Chip) || !reflect.DeepEqual(id.Active, want.Active) ||
		!bytes.Equal(id.Report, want.Report) || !reflect.DeepEqual(id.Consents, want.Consents) {
		t.Error("identity differs")
	}
	if c := id.Checks[0]; c.Code != "face-matches" || !c.Passed || !c.Note.Equal(want.Checks[0].Note) {
		t.Error("officer's check differs")
	}
	if !id.TokenAdmin.PUK.Equal(want.TokenAdmin.PUK) || !id.TokenAdmin.ManagementKey.Equal(want.TokenAdmin.ManagementKey) {
		t.Error("token admin differs")
	}
}

func TestSealedOpensOnlyInItsContext(t *testing.T) {
	e := enroll(t)
	for name, change := range map[string]func(c *record.Context){
		"audience": func(c *record.Context) { c.Audience = "other.example/log" },
		"purpose":  func(c *record.Context) { c.Purpose = record.Update },
		"kiosk":    func(c *record.Context) { c.KioskID = "kiosk-8" },
		"sequence": func(c *record.Context) { c.Sequence++ },
		"nonce":    func(c *record.Context) { c.Nonce[31] ^= 1 },
		"policy":   func(c *record.Context) { c.PolicyDigest[31] ^= 1 },
	} {
		c := e.payload.Context
		change(&c)
		if _, err := record.OpenSealed(c, e.authority, e.payload.Identity); !errors.Is(err, record.ErrSeal) {
			t.Errorf("%s: %v", name, err)
		}
	}
	other, err := record.GenerateAuthorityKey()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := record.OpenSealed(e.payload.Context, other, e.payload.Identity); !errors.Is(err, record.ErrSeal) {
		t.Errorf("another key: %v", err)
	}
	for name, change := range map[string]func(s *record.Sealed){
		"ciphertext":    func(s *record.Sealed) { s.Ciphertext = flipped(s.Ciphertext, 100) },
		"tag":           func(s *record.Sealed) { s.Ciphertext = flipped(s.Ciphertext, len(s.Ciphertext)-1) },
		"encapsulation": func(s *record.Sealed) { s.Enc = flipped(s.Enc, 0) },
		"X25519 share":  func(s *record.Sealed) { s.Enc = flipped(s.Enc, len(s.Enc)-1) },
		"suite":         func(s *record.Sealed) { s.AEAD = 1 },
		"cut":           func(s *record.Sealed) { s.Ciphertext = s.Ciphertext[:len(s.Ciphertext)-1024] },
	} {
		s := e.payload.Identity
		change(&s)
		if _, err := record.OpenSealed(e.payload.Context, e.authority, s); !errors.Is(err, record.ErrSeal) && !errors.Is(err, record.ErrForm) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func flipped(b []byte, i int) []byte {
	b = bytes.Clone(b)
	b[i] ^= 1
	return b
}

func TestSealRefuses(t *testing.T) {
	e := enroll(t)
	c, pub := e.payload.Context, e.authority.Public()
	if _, err := record.Seal(record.Context{}, pub, e.identity); !errors.Is(err, record.ErrForm) {
		t.Errorf("empty context: %v", err)
	}
	if _, err := record.Seal(c, record.AuthorityKey{ID: "another", Public: pub.Public}, e.identity); !errors.Is(err, record.ErrSeal) {
		t.Errorf("key that the context does not name: %v", err)
	}
	if _, err := record.Seal(c, record.AuthorityKey{ID: pub.ID, Public: pub.Public[1:]}, e.identity); !errors.Is(err, record.ErrSeal) {
		t.Errorf("broken key: %v", err)
	}
	if _, err := record.Seal(c, pub, record.Identity{}); !errors.Is(err, record.ErrForm) {
		t.Errorf("empty identity: %v", err)
	}
	bad := specimenIdentity()
	bad.Access = "\xff"
	if _, err := record.Seal(c, pub, bad); !errors.Is(err, record.ErrForm) {
		t.Errorf("invalid UTF-8: %v", err)
	}
}

// A name's length must not show in the ciphertext's.
func TestSealHidesLengths(t *testing.T) {
	e := enroll(t)
	long := specimenIdentity()
	long.Files[0x0101] = secret.New(append(bytes.Clone(long.Files[0x0101].Reveal()), "<WITH<A<LONGER<NAME"...))
	s, err := record.Seal(e.payload.Context, e.authority.Public(), long)
	if err != nil {
		t.Fatal(err)
	}
	if len(s.Ciphertext) != len(e.payload.Identity.Ciphertext) || len(s.Ciphertext)%1024 != 16 {
		t.Errorf("%d and %d bytes", len(s.Ciphertext), len(e.payload.Identity.Ciphertext))
	}
	if bytes.Equal(s.Enc, e.payload.Identity.Enc) {
		t.Error("encapsulation repeats")
	}
}

func TestIdentityNeverPrintsOrMarshals(t *testing.T) {
	id := specimenIdentity()
	key, err := record.GenerateAuthorityKey()
	if err != nil {
		t.Fatal(err)
	}
	seed, err := key.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d", "%q", "%p"} {
		for _, v := range []any{id, &id, []record.Identity{id}, map[string]any{"k": id}, key, &key, struct{ I record.Identity }{id},
			struct{ i record.Identity }{id}, struct{ k record.AuthorityPrivateKey }{key}, []record.AuthorityPrivateKey{key}} {
			fmt.Fprintf(&out, verb+"\n", v)
		}
	}
	slog.New(slog.NewJSONHandler(&out, nil)).Info("m", "id", id, "ptr", &id, "key", key)
	slog.New(slog.NewTextHandler(&out, nil)).Info("m", "id", id, "ptr", &id, "key", key)
	for _, leak := range []string{"canary", fmt.Sprintf("%x", "canary"), fmt.Sprintf("%x", seed.Reveal()), string(seed.Reveal()), strings.Trim(fmt.Sprint(seed.Reveal()), "[]")} {
		if strings.Contains(out.String(), leak) {
			t.Errorf("%q is printed", leak)
		}
	}
	if _, err := json.Marshal(id); !errors.Is(err, secret.ErrMarshal) {
		t.Errorf("json: %v", err)
	}
	if err := gob.NewEncoder(&out).Encode(id); !errors.Is(err, secret.ErrMarshal) {
		t.Errorf("gob: %v", err)
	}
}

func TestAuthorityKeyRoundTrip(t *testing.T) {
	key, err := record.GenerateAuthorityKey()
	if err != nil {
		t.Fatal(err)
	}
	seed, err := key.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	back, err := record.ParseAuthorityKey(seed)
	if err != nil || !reflect.DeepEqual(back.Public(), key.Public()) {
		t.Fatalf("%v", err)
	}
	if len(seed.Reveal()) != 32 || len(key.Public().Public) != 1216 {
		t.Errorf("seed %d, public %d bytes", seed.Len(), len(key.Public().Public))
	}
	if _, err := record.ParseAuthorityKey(secret.FromString("short")); err == nil {
		t.Error("short seed accepted")
	}
}
