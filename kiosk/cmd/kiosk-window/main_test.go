package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"enrollkiosk/kiosk"
	"enrollkiosk/kiosk/secret"
	"enrollkiosk/kiosk/wire"
)

func TestCommandLine(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		t.Helper()
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return p
	}
	whole := file("kiosk.toml", "[kiosk]\nid = \"KIOSK-1\"\nstate = \"state\"\nlanguages = [\"xx\", \"zh\", \"en\"]\n[tpm]\npath = \"/dev/tpmrm0\"\n")
	for _, c := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"--config", whole}, -1, ""},
		{[]string{"--help"}, exitDone, "Exit codes"},
		{[]string{"--nonsense"}, exitUsage, "not defined"},
		{[]string{"--config", whole, "further"}, exitUsage, "unexpected"},
		{[]string{"--config", filepath.Join(dir, "absent.toml")}, exitUsage, "no such file"},
		{[]string{"--config", file("bad.toml", "[kiosk\n")}, exitUsage, "bad.toml"},
		{[]string{"--config", file("empty.toml", "[kiosk]\n")}, exitUsage, "neither"},
		{[]string{"--socket", "/x", "--size", "12"}, exitUsage, "--size"},
		{[]string{"--socket", "/x", "--size", "1280x800x2"}, exitUsage, "--size"},
		{[]string{"--socket", "/x", "--scale", "9"}, exitUsage, "--scale"},
		{[]string{"--socket", "/x", "--officer-language", "xx"}, exitUsage, "no language"},
	} {
		var out bytes.Buffer
		if _, code := parse(c.args, &out); code != c.code || !strings.Contains(out.String(), c.says) {
			t.Errorf("%v: code %d, says %q", c.args, code, out.String())
		}
	}
	o, _ := parse([]string{"--config", whole, "--full-screen=false", "--size", "1024x768"}, &bytes.Buffer{})
	if o.socket != filepath.Join(dir, "state", "agent.sock") || o.ui.Waiting != "zh" || o.fullScreen || o.size.Width != 1024 {
		t.Errorf("read as %+v", o)
	}
	if o, _ = parse([]string{"--socket", "/run/x.sock"}, &bytes.Buffer{}); o.socket != "/run/x.sock" || !o.fullScreen {
		t.Errorf("read as %+v", o)
	}
}

// station is an agent that shows one state and keeps what it is sent.
type station struct{ sent chan kiosk.Intent }

func (station) States(ctx context.Context) (<-chan kiosk.State, error) {
	ch := make(chan kiosk.State, 1)
	ch <- kiosk.State{Number: 4, Screen: kiosk.ScreenHome}
	context.AfterFunc(ctx, func() { close(ch) })
	return ch, nil
}

func (s station) Send(_ context.Context, in kiosk.Intent) error { s.sent <- in; return nil }

// The window finds the agent when it starts, loses it, and finds the next one.
func TestAgentComesAndGoes(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "a.sock")
	desk := &agent{socket: socket}
	if err := desk.Send(t.Context(), kiosk.Intent{}); !errors.Is(err, wire.ErrNoAgent) {
		t.Errorf("send to nobody: %v", err)
	}
	for round := range 2 {
		if _, err := desk.States(t.Context()); !errors.Is(err, wire.ErrNoAgent) {
			t.Fatalf("round %d: states of nobody: %v", round, err)
		}
		ctx, stop := context.WithCancel(t.Context())
		s := station{make(chan kiosk.Intent, 1)}
		served := make(chan error, 1)
		go func() { served <- wire.Serve(ctx, socket, s, nil) }()
		var states <-chan kiosk.State
		for limit := time.Now().Add(5 * time.Second); ; time.Sleep(5 * time.Millisecond) {
			var err error
			if states, err = desk.States(t.Context()); err == nil {
				break
			}
			if time.Now().After(limit) {
				t.Fatal(err)
			}
		}
		if got := <-states; got.Number != 4 || got.Screen != kiosk.ScreenHome {
			t.Fatalf("round %d: %+v", round, got)
		}
		if err := desk.Send(t.Context(), kiosk.Intent{State: 4, Action: kiosk.ActionStart, Secret: secret.FromString("739105")}); err != nil {
			t.Fatal(err)
		}
		if in := <-s.sent; in.State != 4 || in.Action != kiosk.ActionStart || string(in.Secret.Reveal()) != "739105" {
			t.Errorf("round %d: another intent arrived", round)
		}
		stop()
		if err := <-served; err != nil {
			t.Fatal(err)
		}
		for range states { // ends
		}
	}
}
