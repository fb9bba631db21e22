package secret_test

import (
	"bytes"
	"encoding"
	"encoding/gob"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"enrollkiosk/kiosk/secret"
)

const canary = "hunter2-canary"

type holder struct {
	Name string
	PIN  secret.Text
	pin  secret.Text // fmt cannot call Format here
}

func TestNeverPrints(t *testing.T) {
	h := holder{"n", secret.FromString(canary), secret.FromString(canary)}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d", "%T %v"} {
		for _, v := range []any{h, &h, h.PIN, &h.PIN, []secret.Text{h.PIN}, map[string]secret.Text{"k": h.PIN}} {
			if out := fmt.Sprintf(strings.ReplaceAll(verb, "%T ", ""), v); strings.Contains(out, canary) || strings.Contains(out, fmt.Sprintf("%x", canary)) || strings.Contains(out, fmt.Sprint([]byte(canary)[:4])[1:12]) {
				t.Errorf("%s of %T prints the secret: %s", verb, v, out)
			}
		}
	}
	var buf bytes.Buffer
	for _, handler := range []slog.Handler{slog.NewTextHandler(&buf, nil), slog.NewJSONHandler(&buf, nil)} {
		slog.New(handler).Info("m", "pin", h.PIN, "holder", h)
	}
	if strings.Contains(buf.String(), canary) {
		t.Errorf("log holds the secret: %s", buf.String())
	}
}

func TestRefusesToMarshal(t *testing.T) {
	h := holder{"n", secret.FromString(canary), secret.FromString(canary)}
	if _, err := json.Marshal(h); !errors.Is(err, secret.ErrMarshal) {
		t.Errorf("json: %v", err)
	}
	if _, err := xml.Marshal(h); !errors.Is(err, secret.ErrMarshal) {
		t.Errorf("xml: %v", err)
	}
	if err := gob.NewEncoder(new(bytes.Buffer)).Encode(h); !errors.Is(err, secret.ErrMarshal) {
		t.Errorf("gob: %v", err)
	}
	if _, err := encoding.BinaryMarshaler(h.PIN).MarshalBinary(); !errors.Is(err, secret.ErrMarshal) {
		t.Errorf("binary: %v", err)
	}
}

func TestWipeReachesEveryCopy(t *testing.T) {
	raw := []byte(canary)
	a := secret.New(raw)
	b := a
	b.Wipe()
	if a.Len() != 0 || bytes.Contains(raw, []byte("hunter")) {
		t.Error("a copy survived Wipe")
	}
	var zero secret.Text
	zero.Wipe()
	if zero.Len() != 0 || !zero.Equal(secret.Text{}) {
		t.Error("zero value is not empty")
	}
}
