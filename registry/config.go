package registry

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"enrollkiosk/registry/api"
	"enrollkiosk/registry/internal/keyfile"
	"enrollkiosk/registry/internal/tomlfile"
	"enrollkiosk/registry/policy"
)

// Config is the registry's configuration: one strict TOML file. Paths are
// relative to it.
type Config struct {
	Registry struct {
		Dir        string `toml:"dir"`        // made by registry init
		Listen     string `toml:"listen"`     // address
		Policy     string `toml:"policy"`     // signed policy, distributed as it is
		Root       string `toml:"root"`       // SHA-256 of the authority's root key, hexadecimal
		Production bool   `toml:"production"` // refuse what rests on roots of class test
		Metrics    string `toml:"metrics"`    // address of the metrics; empty: none
		Checkpoint string `toml:"checkpoint"` // least time between two checkpoints of the log; default 1s
		Store      string `toml:"store"`      // postgres:// address; default: files in dir
		Roles      []Role `toml:"roles"`      // that this process may have; default: all
		Cancel     string `toml:"cancel"`     // how long a cancel code suspends before it revokes; default 168h

		Connections           int `toml:"connections"`             // open at once; default 512
		ConnectionsPerAddress int `toml:"connections_per_address"` // default 384
	} `toml:"registry"`
	Vault struct {
		URL    string `toml:"url"`    // https
		Public string `toml:"public"` // the vault's public.json
	} `toml:"vault"`
	Issuer struct {
		Listen   string `toml:"listen"`   // address for citizens; empty: no credentials are issued here
		Interval string `toml:"interval"` // between two status lists; default 1h
	} `toml:"issuer"`
	Witnesses []struct {
		Name string `toml:"name"` // in the policy's verifier key
		URL  string `toml:"url"`  // http or https
		Root string `toml:"root"` // file with the root of its TLS certificate, DER or PEM; default: the system's roots
	} `toml:"witnesses"`
}

// Load reads and checks a configuration file. Errors are *tomlfile.Error.
func Load(file string) (Config, error) {
	var c Config
	if err := tomlfile.Load(file, &c); err != nil {
		return c, err
	}
	for i := range c.Witnesses {
		tomlfile.In(file, &c.Witnesses[i].Root)
		if c.Witnesses[i].Name == "" || c.Witnesses[i].URL == "" {
			return c, tomlfile.Mistake(file, "witnesses: name and url are needed: which of the policy's witnesses, and where it is")
		}
	}
	tomlfile.In(file, &c.Registry.Dir, &c.Registry.Policy, &c.Vault.Public)
	switch {
	case c.Registry.Dir == "":
		return c, tomlfile.Mistake(file, "registry.dir is missing: the directory that `registry init` made")
	case c.Registry.Listen == "":
		return c, tomlfile.Mistake(file, "registry.listen is missing: an address such as 127.0.0.1:8443")
	case c.Registry.Policy == "":
		return c, tomlfile.Mistake(file, "registry.policy is missing: the policy that `vault policy sign` made")
	case c.Vault.URL == "" || c.Vault.Public == "":
		return c, tomlfile.Mistake(file, "vault.url and vault.public are needed: where the vault is, and its public.json")
	}
	if _, err := c.root(); err != nil {
		return c, tomlfile.Mistake(file, "registry.root must be 64 hexadecimal digits: the SHA-256 of the authority's root key")
	}
	if c.Registry.Connections < 0 || c.Registry.ConnectionsPerAddress < 0 {
		return c, tomlfile.Mistake(file, "registry.connections and registry.connections_per_address must be numbers above 0")
	}
	if _, err := c.checkpoint(); err != nil {
		return c, tomlfile.Mistake(file, "registry.checkpoint must be a duration of 200ms or more, such as 1s")
	}
	if _, err := c.cancelDelay(); err != nil {
		return c, tomlfile.Mistake(file, "registry.cancel must be a duration of 1h or more, such as 168h")
	}
	if _, err := c.statusInterval(); err != nil {
		return c, tomlfile.Mistake(file, "issuer.interval must be a duration from 1s to 1h, such as 1h")
	}
	for _, role := range c.Registry.Roles {
		if role != RoleLog && role != RoleVault {
			return c, tomlfile.Mistake(file, "registry.roles has %q: there are \"log\" and \"vault\"", string(role))
		}
	}
	if err := c.CheckStore(); err != nil {
		return c, tomlfile.Mistake(file, "registry.store: %v", err)
	}
	return c, nil
}

// CheckStore says whether the store is one.
func (c Config) CheckStore() error {
	if c.Registry.Store == "" {
		return nil
	}
	_, err := postgresConfig(c.Registry.Store)
	return err
}

func (c Config) root() (root [32]byte, err error) {
	b, err := hex.DecodeString(c.Registry.Root)
	if err != nil || len(b) != len(root) {
		return root, errors.New("no SHA-256")
	}
	return [32]byte(b), nil
}

func (c Config) checkpoint() (time.Duration, error) {
	if c.Registry.Checkpoint == "" {
		return time.Second, nil
	}
	d, err := time.ParseDuration(c.Registry.Checkpoint)
	if err == nil && d < leastCheckpoint {
		err = errors.New("too short")
	}
	return d, err
}

func (c Config) cancelDelay() (time.Duration, error) {
	if c.Registry.Cancel == "" {
		return DefaultCancelDelay, nil
	}
	d, err := time.ParseDuration(c.Registry.Cancel)
	if err == nil && d < time.Hour {
		err = errors.New("too short")
	}
	return d, err
}

func (c Config) statusInterval() (time.Duration, error) {
	if c.Issuer.Interval == "" {
		return time.Hour, nil
	}
	d, err := time.ParseDuration(c.Issuer.Interval)
	if err == nil && (d < time.Second || d > time.Hour) {
		err = errors.New("too short or too long")
	}
	return d, err
}

// SignedPolicy reads and verifies the policy that c names.
func (c Config) SignedPolicy() (policy.Signed, error) {
	root, err := c.root()
	if err != nil {
		return policy.Signed{}, err
	}
	b, err := os.ReadFile(c.Registry.Policy)
	if err != nil {
		return policy.Signed{}, fmt.Errorf("read policy: %w", err)
	}
	return policy.Parse(b, root)
}

// Options reads the files that c names.
func (c Config) Options() (Options, error) {
	o := Options{Dir: c.Registry.Dir, Production: c.Registry.Production, Database: c.Registry.Store, Roles: c.Registry.Roles, Vault: VaultLink{URL: c.Vault.URL},
		Connections: c.Registry.Connections, ConnectionsPerAddress: c.Registry.ConnectionsPerAddress}
	var err error
	if o.Root, err = c.root(); err != nil {
		return o, err
	}
	if o.CheckpointInterval, err = c.checkpoint(); err != nil {
		return o, err
	}
	if o.CancelDelay, err = c.cancelDelay(); err != nil {
		return o, err
	}
	if o.StatusInterval, err = c.statusInterval(); err != nil {
		return o, err
	}
	if o.Policy, err = c.SignedPolicy(); err != nil {
		return o, err
	}
	for _, w := range c.Witnesses {
		link := WitnessLink{Name: w.Name, URL: w.URL}
		if w.Root != "" {
			root, err := keyfile.ReadCertificate(w.Root)
			if err != nil {
				return o, fmt.Errorf("witness %q: %w", w.Name, err)
			}
			link.Root = root.Raw
		}
		o.Witnesses = append(o.Witnesses, link)
	}
	b, err := os.ReadFile(c.Vault.Public)
	if err != nil {
		return o, fmt.Errorf("read vault's public keys: %w", err)
	}
	keys, err := api.ParseKeys[api.VaultKeys](b)
	o.Vault.Root = keys.TLSRoot
	return o, err
}

// Register is what people at the registry read and change: kiosks, and what they
// reported.
type Register struct {
	Kiosks     Kiosks
	Activities Activities
	close      func() error
}

// Close gives up what OpenRegister took.
func (r Register) Close() error { return r.close() }

// RegisterIn is the register in the directory of a registry that has no database.
func RegisterIn(dir string) Register {
	return Register{KiosksIn(dir), ActivitiesIn(dir), func() error { return nil }}
}

// OpenRegister opens the register that c names, while the registry serves or not.
func OpenRegister(ctx context.Context, c Config) (Register, error) {
	var p policy.Policy
	if signed, err := c.SignedPolicy(); err == nil { // only who issues certificates needs one
		p = signed.Policy()
	}
	if c.Registry.Store == "" {
		r := RegisterIn(c.Registry.Dir)
		r.Kiosks = r.Kiosks.Under(p)
		return r, nil
	}
	pub, err := ReadPublic(c.Registry.Dir)
	if err != nil {
		return Register{}, err
	}
	o := Options{Database: c.Registry.Store, Production: c.Registry.Production, Log: slog.New(slog.DiscardHandler)}
	st, err := openPostgres(ctx, o, pub.Origin)
	if err != nil {
		return Register{}, err
	}
	return Register{Kiosks{dir: c.Registry.Dir, store: st}.Under(p), Activities{st.Activities}, st.Close}, nil
}
