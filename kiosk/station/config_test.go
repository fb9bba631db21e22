package station_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"enrollkiosk/kiosk/station"
)

const rootHash = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

const goodConfig = `[kiosk]
id = "KIOSK-0001"
state = "state"
languages = ["en", "zh"]

[readers]
document = "ID Card Reader"
token = "YubiKey"
officer = "Officer Reader"

[tpm]
path = "/dev/tpmrm0"

[registry]
url = "https://registry.example:8443"

[trust]
root = "` + rootHash + `"
policy = "policy.jws"
`

func configFile(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "kiosk.toml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestLoad(t *testing.T) {
	file := configFile(t, goodConfig)
	c, err := station.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Dir(file)
	if c.Kiosk.State != filepath.Join(dir, "state") || c.Trust.Policy != filepath.Join(dir, "policy.jws") {
		t.Errorf("paths are not relative to the file: %+v", c)
	}
	if c.Metrics.File != "" {
		t.Errorf("metrics: %s", c.Metrics.File)
	}
	if c, err := station.Load(configFile(t, goodConfig+"[window]\ntext = 150\ncontrast = true\nspeech = \"off\"\nkeyboard = \"always\"\ndpi = 96\n")); err != nil || c.Window.Text != 150 || !c.Window.Contrast {
		t.Errorf("window: %+v, %v", c.Window, err)
	}
	for key, says := range map[string]string{"text = 120": "window.text", "keyboard = \"never\"": "window.keyboard", "dpi = 9.0": "window.dpi", "color = 1": "window.color"} {
		if _, err := station.Load(configFile(t, goodConfig+"[window]\n"+key+"\n")); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", key, err)
		}
	}
	if c, err := station.Load(configFile(t, goodConfig+"[metrics]\nfile = \"kiosk.prom\"\n")); err != nil || !filepath.IsAbs(c.Metrics.File) {
		t.Errorf("metrics: %q, %v", c.Metrics.File, err)
	}
	if _, err := station.Load(configFile(t, goodConfig+"[metrics]\nfile = \"kiosk.txt\"\n")); err == nil || !strings.Contains(err.Error(), "metrics.file") {
		t.Errorf("metrics: %v", err)
	}
	if c.Kiosk.Socket != filepath.Join(dir, "state", "agent.sock") {
		t.Errorf("socket: %s", c.Kiosk.Socket)
	}
}

// Each line of the example is needed but those of [trust]; without it the error
// names the key.
func TestEachMissingKeyIsNamed(t *testing.T) {
	for _, name := range []string{"kiosk.id", "kiosk.state", "kiosk.languages", "readers.document", "readers.token", "readers.officer",
		"tpm.path", "registry.url"} {
		_, key, _ := strings.Cut(name, ".")
		var kept strings.Builder
		for line := range strings.Lines(goodConfig) {
			if !strings.HasPrefix(line, key+" = ") {
				kept.WriteString(line)
			}
		}
		_, err := station.Load(configFile(t, kept.String()))
		var mistake *station.ConfigError
		if !errors.As(err, &mistake) || !strings.Contains(err.Error(), name) {
			t.Errorf("without %s: %v", name, err)
		}
	}
}

func TestMistakesNameTheirLine(t *testing.T) {
	for _, c := range []struct {
		name, from, to, want string
		line                 int
	}{
		{"unknown key", `id = "KIOSK-0001"`, "id = \"KIOSK-0001\"\nidd = 1", "kiosk.idd", 3},
		{"unknown section", "[tpm]", "[tmp]", "tmp", 11},
		{"no TOML", "[registry]", "[registry", "", 14},
		{"wrong type", `languages = ["en", "zh"]`, `languages = "en"`, "", 4},
		{"given twice", "[trust]", "[tpm]\npath = \"x\"\n[trust]", "", 17},
		{"http", "https://", "http://", "registry.url", 0},
		{"address with a path", ":8443\"", ":8443/v1\"", "registry.url", 0},
		{"short root", rootHash, rootHash[2:], "trust.root", 0},
		{"language twice", `["en", "zh"]`, `["en", "en"]`, "kiosk.languages", 0},
		{"long socket", `state = "state"`, "state = \"state\"\nsocket = \"/" + strings.Repeat("x", 107) + "\"", "kiosk.socket", 0},
		{"one reader twice", `"Officer Reader"`, `"YubiKey"`, "readers", 0},
	} {
		text := strings.Replace(goodConfig, c.from, c.to, 1)
		if text == goodConfig {
			t.Fatalf("%s: nothing replaced", c.name)
		}
		_, err := station.Load(configFile(t, text))
		var mistake *station.ConfigError
		if !errors.As(err, &mistake) {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if c.line != 0 && mistake.Line != c.line {
			t.Errorf("%s: line %d, want %d: %v", c.name, mistake.Line, c.line, err)
		}
		if !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %q is not named: %v", c.name, c.want, err)
		}
	}
	if _, err := station.Load(filepath.Join(t.TempDir(), "none.toml")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
}
