package station

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

// Config is the kiosk's configuration file: one strict TOML file.
type Config struct {
	Kiosk    KioskConfig    `toml:"kiosk"`
	Readers  ReadersConfig  `toml:"readers"`
	Resident ResidentConfig `toml:"resident"`
	Printer  PrinterConfig  `toml:"printer"`
	TPM      TPMConfig      `toml:"tpm"`
	Registry RegistryConfig `toml:"registry"`
	Trust    TrustConfig    `toml:"trust"`
	Metrics  MetricsConfig  `toml:"metrics"`
	Window   WindowConfig   `toml:"window"`

	SelfService SelfServiceConfig `toml:"self_service"`
}

// KioskConfig names the kiosk and its places on disk.
type KioskConfig struct {
	ID        string   `toml:"id"`        // as in its certificates, e.g. "KIOSK-0001"
	State     string   `toml:"state"`     // directory: keys, certificates, policy, queue
	Socket    string   `toml:"socket"`    // agent's socket; default: agent.sock in State
	Languages []string `toml:"languages"` // offered to citizens; the first is the default
	Texts     string   `toml:"texts"`     // directory of consent texts; default: the built-in ones
}

// ReadersConfig finds readers by a part of their PC/SC name. Where it fits
// several, as the two slots of one device, the one with a card is meant.
type ReadersConfig struct {
	Document string `toml:"document"`
	Token    string `toml:"token"`
	Officer  string `toml:"officer"`
}

// ResidentConfig finds the module for resident identity cards of China.
type ResidentConfig struct {
	Port    string `toml:"port"`    // serial port, e.g. "/dev/ttyUSB0"; left out: there is none
	Decoder string `toml:"decoder"` // program that turns their photo (WLT, standard input) into BMP or JPEG
}

// PrinterConfig finds the printer for receipts, and the folder for what is not
// printed.
type PrinterConfig struct {
	URL    string `toml:"url"`    // e.g. "ipp://localhost/printers/desk", a queue of CUPS; left out: receipts are only shown
	Folder string `toml:"folder"` // e.g. a drive's: copies and summaries as PDF where there is no printer, records that were set aside; left out: nothing is written
}

// TPMConfig finds the TPM: "/dev/tpmrm0", or "unix:/path" for a socket.
type TPMConfig struct {
	Path string `toml:"path"`
}

// RegistryConfig finds the registry. What makes it trusted is the policy.
type RegistryConfig struct {
	URL string `toml:"url"`
}

// TrustConfig may say once more which identity authority `kiosk provision` has
// pinned. Both members may be left out.
type TrustConfig struct {
	Root   string `toml:"root"`   // SHA-256 of the authority's root key (SubjectPublicKeyInfo), hexadecimal; must agree
	Policy string `toml:"policy"` // a signed policy, carried to a kiosk without a line; the newest is in force
}

// MetricsConfig is for who watches many kiosks; see docs/metrics.md.
type MetricsConfig struct {
	File string `toml:"file"` // written anew each half minute; its directory must be there; left out: none is
}

// SelfServiceConfig is about citizens who come without an officer. From an officer's
// home page they are served in any case.
type SelfServiceConfig struct {
	Enabled bool `toml:"enabled"` // also while no officer is signed on
}

// WindowConfig is how kiosk-window looks until somebody changes it. The agent
// only checks it. Every member may be left out.
type WindowConfig struct {
	Text     int     `toml:"text"`     // size of text in percent: 100 (default), 150 or 200
	Contrast bool    `toml:"contrast"` // high
	Dark     bool    `toml:"dark"`     // light text on dark
	Speech   string  `toml:"speech"`   // program that reads aloud; default: espeak-ng or spd-say, if there; "off": none
	Keyboard string  `toml:"keyboard"` // "touch" (default): keys for letters when a finger opened a field; "always"
	DPI      float64 `toml:"dpi"`      // dots per inch of the screen; default: as the monitor says
}

func (w WindowConfig) check() error {
	switch {
	case !slices.Contains([]int{0, 100, 150, 200}, w.Text):
		return errors.New("window.text must be 100, 150 or 200")
	case !slices.Contains([]string{"", "touch", "always"}, w.Keyboard):
		return errors.New(`window.keyboard must be "touch" or "always"`)
	case w.DPI != 0 && (w.DPI < 40 || w.DPI > 400):
		return errors.New("window.dpi must be from 40 to 400 dots per inch")
	}
	return nil
}

// ConfigError is a mistake in the configuration file.
type ConfigError struct {
	File string
	Line int // 0 when the mistake has no line of its own
	Err  error
}

func (e *ConfigError) Error() string {
	if e.Line > 0 {
		return fmt.Sprintf("%s:%d: %v", e.File, e.Line, e.Err)
	}
	return fmt.Sprintf("%s: %v", e.File, e.Err)
}

func (e *ConfigError) Unwrap() error { return e.Err }

// Load reads and checks a configuration file. Relative paths in it are relative
// to its directory. Errors are *ConfigError.
func Load(file string) (Config, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return Config{}, &ConfigError{File: file, Err: err}
	}
	var c Config
	dec := toml.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&c); err != nil {
		return Config{}, tomlError(file, err)
	}
	dir, err := filepath.Abs(filepath.Dir(file))
	if err != nil {
		return Config{}, &ConfigError{File: file, Err: err}
	}
	for _, p := range []*string{&c.Kiosk.State, &c.Kiosk.Socket, &c.Kiosk.Texts, &c.Trust.Policy, &c.Metrics.File, &c.Printer.Folder} {
		if *p != "" && !filepath.IsAbs(*p) {
			*p = filepath.Join(dir, *p)
		}
	}
	if c.Kiosk.Socket == "" {
		c.Kiosk.Socket = filepath.Join(c.Kiosk.State, "agent.sock")
	}
	if err := c.check(); err != nil {
		return Config{}, &ConfigError{File: file, Err: err}
	}
	return c, nil
}

func tomlError(file string, err error) error {
	e := &ConfigError{File: file, Err: err}
	var strict *toml.StrictMissingError
	var decode *toml.DecodeError
	switch {
	case errors.As(err, &strict) && len(strict.Errors) > 0:
		first := strict.Errors[0]
		e.Line, _ = first.Position()
		e.Err = fmt.Errorf("unknown key %q", strings.Join(first.Key(), "."))
	case errors.As(err, &decode):
		e.Line, _ = decode.Position()
	}
	return e
}

func (c Config) check() error {
	for _, k := range []struct{ name, value, what string }{
		{"kiosk.id", c.Kiosk.ID, "the name in this kiosk's certificates"},
		{"kiosk.state", c.Kiosk.State, "a directory for keys, policy and queue"},
		{"readers.document", c.Readers.Document, "a part of the ID card reader's name; pcsc_scan -r lists them"},
		{"readers.token", c.Readers.Token, "a part of the token's name as a reader; pcsc_scan -r lists them"},
		{"readers.officer", c.Readers.Officer, "a part of the officer's reader's name; pcsc_scan -r lists them"},
		{"tpm.path", c.TPM.Path, "usually /dev/tpmrm0"},
		{"registry.url", c.Registry.URL, "https://host:port"},
	} {
		if k.value == "" {
			return fmt.Errorf("%s is missing: %s", k.name, k.what)
		}
	}
	if len(c.Kiosk.Languages) == 0 {
		return errors.New("kiosk.languages is missing: at least one, such as [\"en\"]")
	}
	if l := slices.Sorted(slices.Values(c.Kiosk.Languages)); len(slices.Compact(l)) != len(c.Kiosk.Languages) {
		return errors.New("kiosk.languages: one is given twice")
	}
	if len(c.Kiosk.Socket) > 107 {
		return errors.New("kiosk.socket is longer than a socket's path may be (107 bytes): set it to a shorter one")
	}
	if _, err := c.printer(); err != nil {
		return err
	}
	if err := c.Window.check(); err != nil {
		return err
	}
	if r := c.Readers; r.Document == r.Token || r.Token == r.Officer || r.Officer == r.Document {
		return errors.New("readers: each must be another one")
	}
	if f := c.Metrics.File; f != "" && filepath.Ext(f) != ".prom" {
		return errors.New("metrics.file must end in .prom: node_exporter's textfile collector reads no others")
	}
	u, err := url.Parse(c.Registry.URL)
	if err != nil || u.Scheme != "https" || u.Hostname() == "" || u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" {
		return errors.New("registry.url must be https://host:port and nothing more")
	}
	if c.Trust.Root != "" {
		_, err = parseHash(c.Trust.Root)
	}
	return err
}

func parseHash(text string) (hash [32]byte, err error) {
	b, err := hex.DecodeString(text)
	if err != nil || len(b) != len(hash) {
		return hash, errors.New("trust.root must be 64 hexadecimal digits: the SHA-256 of the authority's root key")
	}
	return [32]byte(b), nil
}

// rootHash is the authority's: pinned when the kiosk was provisioned, or
// configured, in which case both must agree. ErrNotProvisioned without either.
func (c Config) rootHash() (hash [32]byte, err error) {
	if c.Trust.Root != "" {
		if hash, err = parseHash(c.Trust.Root); err != nil {
			return hash, err
		}
	}
	b, err := os.ReadFile(c.in(rootFile))
	switch {
	case errors.Is(err, os.ErrNotExist) && c.Trust.Root != "":
		return hash, nil
	case errors.Is(err, os.ErrNotExist):
		return hash, ErrNotProvisioned
	case err != nil:
		return hash, err
	}
	pinned, err := parseHash(strings.TrimSpace(string(b)))
	if err != nil {
		return hash, fmt.Errorf("%s is damaged: run kiosk provision again", c.in(rootFile))
	}
	if c.Trust.Root != "" && hash != pinned {
		return hash, ErrOtherAuthority
	}
	return pinned, nil
}

func (c Config) in(name string) string { return filepath.Join(c.Kiosk.State, name) }
