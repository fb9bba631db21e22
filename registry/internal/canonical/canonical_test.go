package canonical_test

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"enrollkiosk/registry/internal/canonical"
)

type inner struct {
	A string `json:"a"`
	B []byte `json:"b,omitzero"`
}

type outer struct {
	Name   string    `json:"name"`
	Number uint64    `json:"number"`
	Small  uint16    `json:"small,omitzero"`
	Flag   bool      `json:"flag"`
	Hash   [4]byte   `json:"hash"`
	When   time.Time `json:"when,omitzero"`
	List   []inner   `json:"list"`
	Maybe  *inner    `json:"maybe,omitzero"`
	In     inner     `json:"in,omitzero"`
}

var full = outer{
	Name: "é \"q\" \\ \n\x01", Number: canonical.MaxNumber, Small: 7, Flag: true, Hash: [4]byte{1, 2, 3, 4},
	When: time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC), List: []inner{{A: "x", B: []byte{0xff}}, {A: ""}}, Maybe: &inner{A: "m"}, In: inner{A: "i"},
}

const fullText = `{"name":"é \"q\" \\ \n\u0001","number":9007199254740991,"small":7,"flag":true,"hash":"AQIDBA","when":"2026-03-04T05:06:07Z","list":[{"a":"x","b":"_w"},{"a":""}],"maybe":{"a":"m"},"in":{"a":"i"}}`

func TestOneForm(t *testing.T) {
	if got := string(canonical.Marshal(full)); got != fullText {
		t.Fatalf("got\n%s\nwant\n%s", got, fullText)
	}
	var back outer
	if err := canonical.Unmarshal([]byte(fullText), &back); err != nil || !reflect.DeepEqual(back, full) {
		t.Fatalf("%v: %+v", err, back)
	}
	if !json.Valid([]byte(fullText)) {
		t.Fatal("encoding/json does not read it")
	}
	back.Name = "left over"
	if err := canonical.Unmarshal([]byte(`{"name":"","number":0,"flag":false,"hash":"AAAAAA","list":[]}`), &back); err != nil || back.Name != "" || back.Maybe != nil {
		t.Fatalf("minimum: %v: %+v", err, back)
	}
}

// Each variant is JSON that a lenient reader takes for the same or a like value.
func TestEverythingElseIsRefused(t *testing.T) {
	edit := func(old, new string) string {
		out := strings.Replace(fullText, old, new, 1)
		if out == fullText {
			t.Fatalf("edit %q changes nothing", old)
		}
		return out
	}
	for name, text := range map[string]string{
		"empty":                 "",
		"space":                 edit(`,"flag"`, `, "flag"`),
		"trailing newline":      fullText + "\n",
		"trailing value":        fullText + "{}",
		"member case":           edit(`"flag"`, `"Flag"`),
		"member order":          edit(`"number":9007199254740991,"small":7`, `"small":7,"number":9007199254740991`),
		"member twice":          edit(`"flag":true`, `"flag":true,"flag":true`),
		"member added":          edit(`"flag":true`, `"flag":true,"extra":1`),
		"member missing":        edit(`"flag":true,`, ``),
		"empty, not left out":   edit(`"small":7`, `"small":0`),
		"empty struct":          edit(`"in":{"a":"i"}`, `"in":{"a":""}`),
		"empty bytes":           edit(`"b":"_w"`, `"b":""`),
		"zero time":             edit(`2026-03-04T05:06:07Z`, `0001-01-01T00:00:00Z`),
		"time with offset":      edit(`05:06:07Z`, `05:06:07+00:00`),
		"time with fraction":    edit(`05:06:07Z`, `05:06:07.0Z`),
		"null":                  edit(`"maybe":{"a":"m"}`, `"maybe":null`),
		"number too large":      edit(`9007199254740991`, `9007199254740992`),
		"number leading zero":   edit(`:7,`, `:07,`),
		"number signed":         edit(`:7,`, `:-7,`),
		"number fraction":       edit(`:7,`, `:7.0,`),
		"number exponent":       edit(`:7,`, `:7e0,`),
		"number overflow":       edit(`:7,`, `:65536,`),
		"base64 loose tail":     edit(`"_w"`, `"_x"`),
		"base64 padded":         edit(`"_w"`, `"_w=="`),
		"base64 standard":       edit(`"_w"`, `"/w"`),
		"base64 line break":     edit(`"_w"`, "\"_\nw\""),
		"base64 escaped":        edit(`"_w"`, `"\u005fw"`),
		"array too long":        edit(`"AQIDBA"`, `"AQIDBAU"`),
		"array too short":       edit(`"AQIDBA"`, `"AQID"`),
		"needless escape":       edit(`é`, `\u00e9`),
		"solidus escape":        edit(`é`, `\/`),
		"upper case hex":        edit(`\u0001`, `\u001F`),
		"long escape of \\n":    edit(`\n`, `\u000a`),
		"raw control character": edit(`\n`, "\n"),
		"invalid UTF-8":         edit(`é`, "\xff"),
		"unterminated":          fullText[:len(fullText)-4],
		"list comma":            edit(`[{"a":"x"`, `[,{"a":"x"`),
	} {
		if err := canonical.Unmarshal([]byte(text), new(outer)); !errors.Is(err, canonical.ErrNotCanonical) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestListsAreBounded(t *testing.T) {
	long := `{"name":"","number":0,"flag":false,"hash":"AAAAAA","list":[` + strings.Repeat(`{"a":""},`, 10000) + `{"a":""}]}`
	if err := canonical.Unmarshal([]byte(long), new(outer)); !errors.Is(err, canonical.ErrNotCanonical) {
		t.Errorf("%v", err)
	}
}

func FuzzUnmarshal(f *testing.F) {
	f.Add([]byte(fullText))
	f.Fuzz(func(t *testing.T, b []byte) {
		var v outer
		if canonical.Unmarshal(b, &v) != nil {
			return
		}
		if string(canonical.Marshal(v)) != string(b) || !json.Valid(b) {
			t.Errorf("accepted %q", b)
		}
	})
}
