package setup_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"enrollkiosk/holder/setup"
)

// The opener gets the address as it is, as one argument.
func TestBrowse(t *testing.T) {
	dir := t.TempDir()
	seen := filepath.Join(dir, "seen")
	shim := "#!/bin/sh\nprintf '%s|' \"$#\" \"$@\" >" + seen + "\n"
	if err := os.WriteFile(filepath.Join(dir, "xdg-open"), []byte(shim), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":/usr/bin:/bin")
	const address = "https://a.example/back?a=$(id)&b='x'#response_code=a%20b"
	if err := setup.Browse(t.Context(), address); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(seen); err != nil || string(b) != "1|"+address+"|" {
		t.Errorf("%q, %v", b, err)
	}
	t.Setenv("PATH", t.TempDir())
	if err := setup.Browse(t.Context(), address); err == nil {
		t.Error("no opener, and no word of it")
	}
}

// The file that registers the helper names the schemes, and hands over one argument.
func TestDesktopFile(t *testing.T) {
	b, err := os.ReadFile("../packaging/enrollkiosk-holder.desktop")
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"Exec=holder-window open %u", "MimeType=x-scheme-handler/haip-vp;x-scheme-handler/openid4vp;", "NoDisplay=true"} {
		if !strings.Contains(string(b), "\n"+line+"\n") {
			t.Errorf("no line %q", line)
		}
	}
}
