package receipt_test

import (
	"crypto"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"enrollkiosk/registry/receipt"
	"enrollkiosk/registry/record"
)

func TestSignOn(t *testing.T) {
	card, jwk := newDevice(t)
	want := receipt.SignOn{Kiosk: "kiosk-7", Audience: origin, Nonce: [32]byte{1}, Time: now}
	b, err := receipt.SignSignOn(t.Context(), want, card)
	if err != nil {
		t.Fatal(err)
	}
	v, err := receipt.VerifySignOn(b, record.AcceptAny(jwk))
	if err != nil || v.Claims() != want {
		t.Errorf("%+v, %v", v.Claims(), err)
	}
	if h := decoded(t, strings.Split(string(b), ".")[0]); !strings.HasPrefix(h, `{"alg":"ES256","typ":"enrollkiosk-sign-on+jws","jwk":{`) {
		t.Errorf("header %s", h)
	}
	_, other := newDevice(t)
	if _, err := receipt.VerifySignOn(b, record.AcceptAny(other)); !errors.Is(err, receipt.ErrSignature) {
		t.Errorf("another card's: %v", err)
	}
	everyByte(t, b, func(b []byte) error {
		_, err := receipt.VerifySignOn(b, record.AcceptAny(jwk))
		return err
	})
}

// What an officer's card signs to sign on approves no record, and an approval
// signs nobody on: their signing inputs differ in the typ, whatever the payload.
func TestSignOnIsNoApproval(t *testing.T) {
	anybody := func(crypto.PublicKey) bool { return true }
	var r struct {
		Payload    string `json:"payload"`
		Signatures []struct {
			Protected string `json:"protected"`
			Signature string `json:"signature"`
		} `json:"signatures"`
	}
	text := example(t, "record.json")
	if err := json.Unmarshal(text, &r); err != nil {
		t.Fatal(err)
	}
	for i, s := range r.Signatures {
		if _, err := receipt.VerifySignOn([]byte(s.Protected+"."+r.Payload+"."+s.Signature), anybody); !errors.Is(err, receipt.ErrSignature) {
			t.Errorf("signature %d of a record signs on: %v", i, err)
		}
	}
	parsed, err := record.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	card, _ := newDevice(t)
	b, err := record.SignCompact(t.Context(), receipt.SignOnType, []byte(decoded(t, r.Payload)), card)
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(string(b), ".")
	if parts[1] != r.Payload || parsed.Signatures()[1].Role != record.Officer {
		t.Fatal("the test does not sign what the officer signs")
	}
	for name, change := range map[string][2]string{"signature": {r.Signatures[1].Signature, parts[2]}, "both": {
		`"protected":"` + r.Signatures[1].Protected + `","signature":"` + r.Signatures[1].Signature, `"protected":"` + parts[0] + `","signature":"` + parts[2]}} {
		if forged := strings.Replace(string(text), change[0], change[1], 1); forged == string(text) {
			t.Errorf("%s: nothing changed", name)
		} else if _, err := record.Parse([]byte(forged)); err == nil {
			t.Errorf("%s of a sign-on approves a record", name)
		}
	}
}

var b64 = base64.RawURLEncoding

func decoded(t *testing.T, s string) string {
	t.Helper()
	b, err := b64.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
