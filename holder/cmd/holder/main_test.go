package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"enrollkiosk/holder"
	"enrollkiosk/holder/setup"
	"enrollkiosk/hsm/piv"
	"enrollkiosk/kiosk/secret"
	"enrollkiosk/registry/credential"
	"enrollkiosk/registry/credential/credentialtest"
	"enrollkiosk/simulators/pcscd"
	"enrollkiosk/simulators/pivtoken"
)

const link = "haip-vp://authorize?client_id=x509_hash%3AAAAA&request_uri=https%3A%2F%2F127.0.0.1%3A1%2Frequest&request_uri_method=post"

var daemon *pcscd.Server

func TestMain(m *testing.M) {
	os.Exit(func() int {
		started, _, err := pcscd.Private()
		if err != nil {
			panic(err)
		}
		daemon = started
		defer daemon.Close()
		return m.Run()
	}())
}

// write makes a configuration file that is good, with lines of the test's own.
func write(t *testing.T, lines ...string) string {
	t.Helper()
	dir := t.TempDir()
	ca := credentialtest.NewCA(t, "CA", time.Now())
	if err := os.WriteFile(filepath.Join(dir, "ca.pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.Cert.Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	text := `issuer = "https://127.0.0.1:1"
issuer_roots = "ca.pem"
site_roots = "ca.pem"
status_lists = ["https://127.0.0.1:1/status/0"]
dir = "data"
` + strings.Join(lines, "\n")
	file := filepath.Join(dir, "holder.toml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// typed is a keyboard on which text was typed, and nothing more comes.
func typed(t *testing.T, text string) *os.File {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	if _, err := io.WriteString(w, text); err != nil {
		t.Fatal(err)
	}
	w.Close()
	return r
}

// invoke runs a command.
func invoke(t *testing.T, in string, args ...string) (code int, out, said string) {
	t.Helper()
	var o, e bytes.Buffer
	code = run(t.Context(), args, typed(t, in), &o, &e)
	return code, o.String(), e.String()
}

// What a browser hands over is one link, or nothing happens: no file is read, no flag
// is believed.
func TestOpenBelievesNoArgument(t *testing.T) {
	t.Setenv("XDG_CONFIG_HOME", t.TempDir()) // no configuration: it would be exit 2 with another sentence
	for _, args := range [][]string{
		{"open"}, {"open", link, "--config=/tmp/x"}, {"open", "--config=/tmp/x", link}, {"open", "--help"}, {"open", "-h"}, {"open", ""},
		{"open", "--config", "/tmp/x"}, {"open", link + "\" --config evil"}, {"open", "https://a.example/"}, {"open", "file:///etc/passwd"},
		{"open", link + strings.Repeat("x", 2048)},
	} {
		code, out, said := invoke(t, "y\n", args...)
		if code != setup.Usage || out != "" || !strings.Contains(said, "[holder-link]") || strings.Contains(said, "evil") {
			t.Errorf("%q: exit %d, %s%s", args, code, out, said)
		}
	}
}

func TestUsage(t *testing.T) {
	for _, args := range [][]string{{}, {"dance"}, {"list", "too", "much"}, {"forget"}, {"list", "--nonsense"}, {"list", "--config", "/nonexistent"}} {
		if code, out, said := invoke(t, "", args...); code != setup.Usage || out != "" || !strings.HasPrefix(said, "holder: ") {
			t.Errorf("%q: exit %d, %s%s", args, code, out, said)
		}
	}
	for _, args := range [][]string{{"--help"}, {"help"}, {"list", "--help"}} {
		if code, out, _ := invoke(t, "", args...); code != setup.Done || !strings.Contains(out, "holder collect") {
			t.Errorf("%q: exit %d, %s", args, code, out)
		}
	}
}

// Only a clear yes is one.
func TestConsent(t *testing.T) {
	plain := holder.Ask{Site: "a.example", Claims: []string{credential.AgeOver18}}
	name := holder.Ask{Site: "a.example", Claims: []string{credential.FamilyName}, LegalName: true}
	for _, test := range []struct {
		ask  holder.Ask
		in   string
		want bool
	}{
		{plain, "y\n", true}, {plain, "Yes\r\n", true}, {plain, "y", true}, {plain, "\n", false}, {plain, "n\n", false}, {plain, "yeah\n", false}, {plain, "a.example\n", false},
		{name, "a.example\n", true}, {name, "y\n", false}, {name, "b.example\n", false}, {name, "\n", false},
	} {
		var out bytes.Buffer
		got, err := (&terminal{in: typed(t, test.in), out: &out}).Consent(t.Context(), test.ask)
		if err != nil || got != test.want {
			t.Errorf("%q: %v, %v", test.in, got, err)
		}
		if !strings.Contains(out.String(), "  a.example\n") || test.ask.LegalName != strings.Contains(out.String(), "FAMILY NAME") ||
			test.ask.LegalName == strings.Contains(out.String(), "will not know your name") || !test.ask.LegalName && !strings.Contains(out.String(), "over 18") {
			t.Errorf("it said %s", out.String())
		}
	}
	var out bytes.Buffer
	if yes, err := (&terminal{in: typed(t, ""), out: &out}).Consent(t.Context(), plain); yes || !errors.Is(err, holder.ErrDeclined) {
		t.Errorf("nobody there: %v, %v", yes, err)
	}
	(&terminal{in: typed(t, "\n"), out: &out}).Consent(t.Context(), holder.Ask{Site: "xn--80ak6aa92e.example"})
	if !strings.Contains(out.String(), "foreign letters") {
		t.Error("no word of foreign letters")
	}
	for _, c := range []string{credential.RealNameVerified, credential.AgeOver14, credential.AgeOver16, credential.AgeOver18, credential.FamilyName, credential.GivenName, credential.NameLocal} {
		said := false
		for _, k := range knows {
			said = said || k.claim == c
		}
		if !said {
			t.Errorf("%s would be shown without a word", c)
		}
	}
}

// told closes a channel when the PIN is asked for.
type told struct {
	to    io.Writer
	asked chan struct{}
}

func (w told) Write(b []byte) (int, error) {
	if bytes.Contains(b, []byte("PIN of")) {
		defer close(w.asked)
	}
	return w.to.Write(b)
}

// A person who goes away, or presses Ctrl-C, at any question.
func TestInterrupted(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	ctx, cancel := context.WithCancel(t.Context())
	var out bytes.Buffer
	asked := make(chan struct{})
	done := make(chan int)
	go func() { done <- run(ctx, []string{"list", "--config", write(t)}, r, &out, told{io.Discard, asked}) }()
	<-asked
	cancel()
	if code := <-done; code != setup.Interrupted {
		t.Errorf("exit %d", code)
	}
}

// The commands with a token: found among other readers, its files made and read.
func TestCommandsWithAToken(t *testing.T) {
	config := write(t, `reader = "Citizen"`)
	if code, _, said := invoke(t, "271828\n", "list", "--config", config); code != setup.Hardware {
		t.Errorf("no reader: exit %d, %s", code, said)
	}
	enroll(t, "Citizen", "271828")
	another, err := daemon.AddReader("Another")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(another.Remove)
	export := filepath.Join(t.TempDir(), "export")
	for _, test := range []struct {
		in   string
		args []string
		code int
		want string
	}{
		{"271828\n", []string{"list"}, setup.Done, "0 credentials for further websites"},
		{"000000\n271828\n", []string{"list", "--json"}, setup.Done, `"unused": 0`},
		{"271828\n", []string{"forget", "a.example"}, setup.Refused, ""},
		{"271828\n", []string{"export", export}, setup.Done, export},
		{"271828\n", []string{"import", export}, setup.Done, "0 websites added"},
		{"271828\n", []string{"import", config}, setup.Refused, ""},
		{"271828\n", []string{"import", "/nonexistent"}, setup.Failed, ""},
		{"", []string{"present", link}, setup.Unreachable, ""},
		{"", []string{"present", "haip-vp:"}, setup.Usage, ""},
		{"", []string{"collect"}, setup.Unreachable, ""},
		{"", []string{"list"}, setup.Refused, ""}, // nobody at the terminal
	} {
		args := append([]string{test.args[0], "--config", config}, test.args[1:]...)
		code, out, said := invoke(t, test.in, args...)
		if code != test.code || !strings.Contains(out, test.want) || strings.Contains(out+said, "271828") {
			t.Errorf("%q: exit %d, want %d\n%s%s", test.args, code, test.code, out, said)
		}
	}
}

// enroll makes a token as the kiosk does.
func enroll(t *testing.T, reader, pin string) {
	t.Helper()
	r, err := daemon.AddReader(reader)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Remove)
	authority, err := pivtoken.NewAuthority([]byte("holder"))
	if err != nil {
		t.Fatal(err)
	}
	r.Insert(pivtoken.New(pivtoken.Options{Root: authority}))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	token, err := piv.Open(ctx, r.Name())
	if err != nil {
		t.Fatal(err)
	}
	key, own := make([]byte, 24), secret.FromString(pin)
	rand.Read(key)
	err = token.SetPIN(ctx, own)
	_, err2 := token.GenerateKeys(ctx, own, piv.KeySpec{}, nil)
	err3 := token.Lock(ctx, own, piv.Admin{PUK: secret.FromString("31415926"), ManagementKey: secret.New(key)})
	if err := errors.Join(err, err2, err3, token.Close()); err != nil {
		t.Fatal(fmt.Errorf("enroll: %w", err))
	}
}
