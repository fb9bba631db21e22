package station

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

// Config is the kiosk's configuration file: one strict TOML file.
type Config struct {
	Kiosk    KioskConfig    `toml:"kiosk"`
	Readers  ReadersConfig  `toml:"readers"`
	TPM      TPMConfig      `toml:"tpm"`
	Registry RegistryConfig `toml:"registry"`
	Trust    TrustConfig    `toml:"trust"`
}

// KioskConfig names the kiosk and its places on disk.
type KioskConfig struct {
	ID        string   `toml:"id"`        // as in its certificates, e.g. "KIOSK-0001"
	State     string   `toml:"state"`     // directory: keys, certificates, policy, queue
	Socket    string   `toml:"socket"`    // agent's socket; default: agent.sock in State
	Languages []string `toml:"languages"` // offered to citizens; the first is the default
	Texts     string   `toml:"texts"`     // directory of consent texts; default: the built-in ones
}

// ReadersConfig finds readers by a part of their PC/SC name.
type ReadersConfig struct {
	Document string `toml:"document"`
	Token    string `toml:"token"`
	Officer  string `toml:"officer"`
}

// TPMConfig finds the TPM: "/dev/tpmrm0", or "unix:/path" for a socket.
type TPMConfig struct {
	Path string `toml:"path"`
}

// RegistryConfig finds the registry. What makes it trusted is the policy.
type RegistryConfig struct {
	URL string `toml:"url"`
}

// TrustConfig pins the identity authority.
type TrustConfig struct {
	Root   string `toml:"root"`   // SHA-256 of the authority's root key (SubjectPublicKeyInfo), hexadecimal
	Policy string `toml:"policy"` // a signed policy to begin with; later ones come from the registry
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
	dir := filepath.Dir(file)
	for _, p := range []*string{&c.Kiosk.State, &c.Kiosk.Socket, &c.Kiosk.Texts, &c.Trust.Policy} {
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
	switch {
	case c.Kiosk.ID == "":
		return errors.New("kiosk.id is missing: the name in this kiosk's certificates")
	case c.Kiosk.State == "":
		return errors.New("kiosk.state is missing: a directory for keys, policy and queue")
	case len(c.Kiosk.Languages) == 0:
		return errors.New("kiosk.languages is empty: at least one")
	case len(c.Kiosk.Socket) > 107:
		return errors.New("kiosk.socket is longer than a socket's path may be (107 bytes)")
	case c.TPM.Path == "":
		return errors.New("tpm.path is missing: usually /dev/tpmrm0")
	case c.Readers.Document == "" || c.Readers.Token == "" || c.Readers.Officer == "":
		return errors.New("readers.document, readers.token and readers.officer must each name a reader")
	}
	if u, err := url.Parse(c.Registry.URL); err != nil || u.Scheme != "https" || u.Host == "" {
		return errors.New("registry.url must be an https address")
	}
	if _, err := c.rootHash(); err != nil {
		return err
	}
	return nil
}

func (c Config) rootHash() (hash [32]byte, err error) {
	b, err := hex.DecodeString(c.Trust.Root)
	if err != nil || len(b) != len(hash) {
		return hash, errors.New("trust.root must be 64 hexadecimal digits: the SHA-256 of the authority's root key")
	}
	return [32]byte(b), nil
}

func (c Config) in(name string) string { return filepath.Join(c.Kiosk.State, name) }
