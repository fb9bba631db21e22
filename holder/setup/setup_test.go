package setup_test

import (
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"enrollkiosk/holder/setup"
	"enrollkiosk/registry/credential/credentialtest"
)

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

func TestConfiguration(t *testing.T) {
	if c, err := setup.Load(write(t)); err != nil || !filepath.IsAbs(c.Dir) || c.Authority.Issuer != "https://127.0.0.1:1" || c.Authority.AnyPort {
		t.Errorf("%+v, %v", c, err)
	}
	for lines, want := range map[string]string{
		"nonsense = 1":                    `:6: unknown key "nonsense"`,
		"any_port = 3":                    ":6: ",
		"issuer = \"http://127.0.0.1:1\"": ":6: ", // given twice
		"tls_roots = \"none.pem\"":        "tls_roots: ",
	} {
		_, err := setup.Load(write(t, lines))
		var c *setup.ConfigError
		if !errors.As(err, &c) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", lines, err, want)
		}
	}
	for _, change := range [][2]string{{"https://127.0.0.1:1\"\nissuer_roots", "http://127.0.0.1:1\"\nissuer_roots"}, {"ca.pem", ""}, {"[\"https://127.0.0.1:1/status/0\"]", "[]"},
		{"https://127.0.0.1:1\"\nissuer_roots", "https://127.0.0.1:1/\"\nissuer_roots"}} {
		file := write(t)
		b, err := os.ReadFile(file)
		if err != nil || !strings.Contains(string(b), change[0]) {
			t.Fatalf("%q, %v", change[0], err)
		}
		if err := os.WriteFile(file, []byte(strings.Replace(string(b), change[0], change[1], 1)), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := setup.Load(file); err == nil {
			t.Errorf("%q was taken", change[1])
		}
	}
	// The user's own file is found without a flag.
	file := write(t)
	t.Setenv("XDG_CONFIG_HOME", filepath.Dir(filepath.Dir(file)))
	if err := os.Rename(filepath.Dir(file), filepath.Join(filepath.Dir(filepath.Dir(file)), "enrollkiosk")); err != nil {
		t.Fatal(err)
	}
	if c, err := setup.Load(""); err != nil || c.Authority.Issuer != "https://127.0.0.1:1" {
		t.Errorf("%+v, %v", c, err)
	}
}
