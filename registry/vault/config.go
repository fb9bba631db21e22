package vault

import (
	"encoding/hex"
	"errors"
	"fmt"
	"os"

	"enrollkiosk/registry/api"
	"enrollkiosk/registry/internal/tomlfile"
	"enrollkiosk/registry/policy"
)

// Config is the vault's configuration: one strict TOML file. Paths are relative
// to it.
type Config struct {
	Vault struct {
		Dir        string `toml:"dir"`        // made by vault init
		Listen     string `toml:"listen"`     // address
		Policy     string `toml:"policy"`     // signed policy
		Root       string `toml:"root"`       // SHA-256 of the authority's root key, hexadecimal
		Production bool   `toml:"production"` // refuse what rests on a root of class test
		Metrics    string `toml:"metrics"`    // address of the metrics; empty: none
	} `toml:"vault"`
	Registry struct {
		Public string `toml:"public"` // the registry's public.json: who may ask
	} `toml:"registry"`
}

// Load reads and checks a configuration file. Errors are *tomlfile.Error.
func Load(file string) (Config, error) {
	var c Config
	if err := tomlfile.Load(file, &c); err != nil {
		return c, err
	}
	tomlfile.In(file, &c.Vault.Dir, &c.Vault.Policy, &c.Registry.Public)
	switch {
	case c.Vault.Dir == "":
		return c, tomlfile.Mistake(file, "vault.dir is missing: the directory that `vault init` made")
	case c.Vault.Listen == "":
		return c, tomlfile.Mistake(file, "vault.listen is missing: an address such as 127.0.0.1:8444")
	case c.Vault.Policy == "":
		return c, tomlfile.Mistake(file, "vault.policy is missing: the signed policy")
	case c.Registry.Public == "":
		return c, tomlfile.Mistake(file, "registry.public is missing: the registry's public.json")
	}
	if _, err := c.root(); err != nil {
		return c, tomlfile.Mistake(file, "vault.root must be 64 hexadecimal digits: the SHA-256 of the authority's root key")
	}
	return c, nil
}

func (c Config) root() (root [32]byte, err error) {
	b, err := hex.DecodeString(c.Vault.Root)
	if err != nil || len(b) != len(root) {
		return root, errors.New("no SHA-256")
	}
	return [32]byte(b), nil
}

// Options reads the files that c names.
func (c Config) Options() (Options, error) {
	o := Options{Dir: c.Vault.Dir, Production: c.Vault.Production}
	var err error
	if o.Root, err = c.root(); err != nil {
		return o, err
	}
	b, err := os.ReadFile(c.Vault.Policy)
	if err != nil {
		return o, fmt.Errorf("read policy: %w", err)
	}
	if o.Policy, err = policy.Parse(b, o.Root); err != nil {
		return o, err
	}
	if b, err = os.ReadFile(c.Registry.Public); err != nil {
		return o, fmt.Errorf("read registry's public keys: %w", err)
	}
	keys, err := api.ParseKeys[api.RegistryKeys](b)
	o.Client = keys.VaultClient
	return o, err
}
