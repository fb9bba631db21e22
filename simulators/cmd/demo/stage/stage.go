package stage

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"enrollkiosk/kiosk"
	"enrollkiosk/kiosk/station"
	"enrollkiosk/registry"
	"enrollkiosk/registry/api"
	"enrollkiosk/registry/policy"
	"enrollkiosk/registry/vault"
	"enrollkiosk/simulators/pcscd"
	"enrollkiosk/simulators/specimen"
	"enrollkiosk/simulators/tpm"
)

// Names of the simulated country.
const (
	Origin  = "registry.specimen.example/log"
	KioskID = "KIOSK-0001"
)

// Options of a Stage. The zero value is the demo's.
type Options struct {
	Prefix   string // of the readers' names; stages on one daemon need different ones
	Log      *slog.Logger
	Observe  func(kiosk.Event)
	Limits   kiosk.Limits
	Did      func(what string) // told each step of setting up
	Registry string            // address that the kiosk is told, "" for the registry's own: a faulty network may stand between
	Issuers  *specimen.Authority
	Policy   string // added to the description of the policy; files are relative to the stage's folder
	Resident string // serial port of a module for resident identity cards
	Printer  string // address of a printer's queue, "" for none
	Folder   string // for pages and records as files, "" for none
	// Unprovisioned leaves the kiosk without keys and certificates.
	Unprovisioned bool
}

func (o Options) complete() Options {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Did == nil {
		o.Did = func(string) {}
	}
	return o
}

// Stage is a police station, its authorities and their hardware.
type Stage struct {
	*Devices
	Dir       string
	Issuers   *specimen.Authority
	TPM       *tpm.Instance
	Keys      api.RegistryKeys
	Policy    policy.Signed
	Config    station.Config
	Kiosk     *station.Station
	id        string
	home      string // folder of registry and authority
	opts      Options
	addresses struct{ registry, vault string }
	kept      []net.PacketConn // their places
	vaultTLS  []byte
	root      [32]byte // hash of the authority's root key

	stopKiosk, stopRegistry, stopVault func() error
}

// New sets the stage: hardware on daemon, keys and policy of every party,
// certificates for the kiosk. Nothing runs yet but the TPM.
func New(ctx context.Context, daemon *pcscd.Server, dir string, o Options) (_ *Stage, err error) {
	o = o.complete()
	s := &Stage{Dir: dir, id: KioskID, home: dir, opts: o, Issuers: o.Issuers}
	defer func() {
		if err != nil {
			s.Close()
		}
	}()
	if s.Issuers == nil {
		if s.Issuers, err = specimen.Open(filepath.Join(dir, "issuers")); err != nil {
			return nil, err
		}
	}
	if s.Devices, err = newDevices(daemon, o.Prefix, s.Issuers); err != nil {
		return nil, err
	}
	o.Did("readers connected, specimen ID card, token and officer's card made")
	if s.TPM, err = tpm.Start(ctx, filepath.Join(dir, "tpm")); err != nil {
		return nil, err
	}
	o.Did("TPM started")
	now := time.Now()
	if s.Keys, err = registry.Init(filepath.Join(dir, "registry"), Origin, nil, now); err != nil {
		return nil, err
	}
	vaultKeys, err := vault.Init(filepath.Join(dir, "vault"), nil, now)
	if err != nil {
		return nil, err
	}
	s.vaultTLS, s.root = vaultKeys.TLSRoot, vaultKeys.RootHash
	o.Did("keys of registry and identity authority made")
	if err := s.SignPolicy(ctx, func(text string) string { return text }); err != nil {
		return nil, err
	}
	o.Did("policy signed by the authority's root")
	if s.addresses.registry, err = s.place(); err != nil {
		return nil, err
	}
	if s.addresses.vault, err = s.place(); err != nil {
		return nil, err
	}
	if err := s.configure(); err != nil {
		return nil, err
	}
	if o.Unprovisioned {
		return s, nil
	}
	if err := s.provision(ctx); err != nil {
		return nil, err
	}
	return s, nil
}

// Beside adds a second police station to a registry that does not run: a kiosk with
// readers and a TPM of its own, which a policy of the next version trusts. Its folder is
// in s's, and registry and vault stay s's to start.
func (s *Stage) Beside(ctx context.Context, daemon *pcscd.Server, id string, o Options) (_ *Stage, err error) {
	b := &Stage{Dir: filepath.Join(s.Dir, id), id: id, home: s.home, opts: o.complete(), Issuers: s.Issuers, Keys: s.Keys, addresses: s.addresses, vaultTLS: s.vaultTLS, root: s.root}
	defer func() {
		if err != nil {
			b.Close()
		}
	}()
	chip := filepath.Join(b.Dir, "tpm")
	if err := os.MkdirAll(chip, 0o700); err != nil {
		return nil, err
	}
	if b.Devices, err = newDevices(daemon, o.Prefix, s.Issuers); err != nil {
		return nil, err
	}
	if err := tpm.Manufacture(ctx, chip); err != nil {
		return nil, err
	}
	if b.TPM, err = tpm.Start(ctx, chip); err != nil {
		return nil, err
	}
	for i, der := range b.TPM.Roots() {
		name := fmt.Sprintf("%s-root-%d.der", id, i)
		if err := os.WriteFile(filepath.Join(s.Dir, name), der, 0o600); err != nil {
			return nil, err
		}
		s.opts.Policy += fmt.Sprintf("[[tpm_roots]]\nfile = %q\nclass = \"test\"\n", name)
	}
	next := fmt.Sprintf("version = %d\n", s.Policy.Policy().Version+1)
	if err := s.SignPolicy(ctx, func(text string) string { return strings.Replace(text, "version = 1\n", next, 1) }); err != nil {
		return nil, err
	}
	b.Policy = s.Policy
	if err := os.WriteFile(filepath.Join(b.Dir, "policy.jws"), b.Policy.Bytes(), 0o600); err != nil {
		return nil, err
	}
	if err := b.configure(); err != nil {
		return nil, err
	}
	return b, b.provision(ctx)
}

// provision makes the kiosk one of the registry's, which runs for that long: a
// code for the kiosk, and a person who compares what both show.
func (s *Stage) provision(ctx context.Context) error {
	if err := s.StartRegistry(ctx); err != nil {
		return err
	}
	kiosks := s.Kiosks()
	code, err := s.NewCode(ctx)
	if err != nil {
		return err
	}
	direct := s.Config // a faulty network may not be there yet
	direct.Registry.URL = "https://" + s.addresses.registry
	var approval error
	_, err = station.Provision(ctx, direct, station.ProvisionOptions{Code: code, Wait: time.Minute, Progress: func(step station.ProvisionStep, fingerprint string) {
		switch step {
		case station.StepProve:
			s.opts.Did("kiosk's keys and counter made in the TPM")
		case station.StepWait:
			s.opts.Did("kiosk proved to the registry which TPM it has")
			_, approval = kiosks.Approve(ctx, s.id, fingerprint, time.Now())
		}
	}})
	if err := errors.Join(approval, err, s.StopRegistry()); err != nil {
		return err
	}
	s.opts.Did("kiosk approved, its certificates issued by the registry")
	return nil
}

// Kiosks is the registry's register.
func (s *Stage) Kiosks() registry.Kiosks {
	return registry.KiosksIn(filepath.Join(s.home, "registry")).Under(s.Policy.Policy())
}

// NewCode has the registry give out a provisioning code for the kiosk.
func (s *Stage) NewCode(ctx context.Context) (api.Code, error) {
	return s.Kiosks().NewCode(ctx, s.id, s.Policy.Root(), time.Hour, time.Now())
}

// place finds a loopback address for one of the stage's servers and keeps it until
// the stage is closed. It lies below the ports that systems give to outgoing
// connections; whatever else looks for a place meanwhile, in any process, finds the
// UDP port of the same number taken.
func (s *Stage) place() (address string, err error) {
	for range 100 {
		address = fmt.Sprintf("127.0.0.1:%d", 20000+rand.IntN(10000))
		var kept net.PacketConn
		if kept, err = net.ListenPacket("udp", address); err != nil {
			continue
		}
		var l net.Listener
		if l, err = net.Listen("tcp", address); err != nil {
			kept.Close()
			continue
		}
		s.kept = append(s.kept, kept)
		return address, l.Close()
	}
	return "", err
}

// SignPolicy writes the specimen's policy file and has the authority's root
// sign it. change alters the text before.
func (s *Stage) SignPolicy(ctx context.Context, change func(text string) string) error {
	roots := map[string][]byte{"csca.der": s.Issuers.State.CSCA(), "piv-root.der": s.Issuers.Tokens.Root(),
		"officers-ca.der": s.Issuers.OfficerCA}
	var tpmRoots strings.Builder
	for i, der := range s.TPM.Roots() {
		name := fmt.Sprintf("tpm-root-%d.der", i)
		roots[name] = der
		fmt.Fprintf(&tpmRoots, "[[tpm_roots]]\nfile = %q\nclass = \"test\"\n", name)
	}
	for name, der := range roots {
		if err := os.WriteFile(filepath.Join(s.Dir, name), der, 0o600); err != nil {
			return err
		}
	}
	texts := filepath.Join(s.Dir, "texts")
	if err := station.WriteTexts(texts); err != nil {
		return err
	}
	file := filepath.Join(s.Dir, "policy.toml")
	if err := os.WriteFile(file, []byte(change(policyText+tpmRoots.String()+s.opts.Policy)), 0o600); err != nil {
		return err
	}
	b, err := vault.SignPolicy(ctx, filepath.Join(s.Dir, "vault"), file, time.Now())
	if err != nil {
		return err
	}
	keys, err := vault.ReadPublic(filepath.Join(s.Dir, "vault"))
	if err != nil {
		return err
	}
	if s.Policy, err = policy.Parse(b, keys.RootHash); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(s.Dir, "policy.jws"), b, 0o600)
}

const policyText = `version = 1
valid_days = 30
offline_days = 30
languages = ["en", "es", "hi", "zh"]
minimum_piv_firmware = "5.0.0"
token = { custody = true }

[registry]
public = "registry/public.json"
class = "test"

[consents]
dir = "texts"
required = ["enrollment"]

[[anchors]]
file = "csca.der"
class = "test"

[[piv_roots]]
file = "piv-root.der"
class = "test"

[[officer_ca]]
file = "officers-ca.der"
class = "test"

[[officer_roles]]
unit = "Citizen Services"
roles = ["officer", "supervisor", "desk"]

`

// configure writes the kiosk's configuration file.
func (s *Stage) configure() error {
	address := s.opts.Registry
	if address == "" {
		address = s.addresses.registry
	}
	text := fmt.Sprintf(`[kiosk]
id = %q
state = "kiosk"
languages = ["en", "es", "hi", "zh"]

[readers]
document = %q
token = %q
officer = %q

[tpm]
path = %q

[registry]
url = "https://%s"

[trust]
root = %q
policy = "policy.jws"

[resident]
port = %q

[printer]
url = %q
folder = %q
`, s.id, s.names[kiosk.DeviceDocument], s.names[kiosk.DeviceToken], s.names[kiosk.DeviceOfficer], s.TPM.Path(), address,
		hex.EncodeToString(s.root[:]), s.opts.Resident, s.opts.Printer, s.opts.Folder)
	file := filepath.Join(s.Dir, "kiosk.toml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return err
	}
	var err error
	s.Config, err = station.Load(file)
	return err
}

// run runs f until the returned stop is called, which returns f's error.
func run(f func(context.Context) error) (stop func() error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	return func() error {
		cancel()
		return <-done
	}
}

// StartVault runs the vault on loopback.
func (s *Stage) StartVault(ctx context.Context) error {
	v, err := vault.Open(ctx, vault.Options{Dir: filepath.Join(s.home, "vault"), Root: s.root, Policy: s.Policy, Client: s.Keys.VaultClient, Log: s.opts.Log})
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", s.addresses.vault)
	if err != nil {
		return errors.Join(err, v.Close())
	}
	stop := run(func(ctx context.Context) error { return v.Serve(ctx, l) })
	s.stopVault = func() error { return errors.Join(stop(), v.Close()) }
	return nil
}

// StartRegistry runs the registry on loopback.
func (s *Stage) StartRegistry(ctx context.Context) error {
	r, err := registry.Open(ctx, s.RegistryOptions())
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", s.addresses.registry)
	if err != nil {
		return errors.Join(err, r.Close())
	}
	stop := run(func(ctx context.Context) error { return r.Serve(ctx, l) })
	s.stopRegistry = func() error { return errors.Join(stop(), r.Close()) }
	return nil
}

// RegistryOptions open the registry while it does not run.
func (s *Stage) RegistryOptions() registry.Options {
	return registry.Options{Dir: filepath.Join(s.home, "registry"), Policy: s.Policy, Root: s.root,
		Vault: registry.VaultLink{URL: "https://" + s.addresses.vault, Root: s.vaultTLS}, Log: s.opts.Log}
}

// RegistryAddress is where the registry itself listens.
func (s *Stage) RegistryAddress() string { return s.addresses.registry }

// StartKiosk runs the agent, as `kiosk agent` does.
func (s *Stage) StartKiosk(ctx context.Context) error {
	k, err := station.Open(ctx, s.Config, station.Options{Log: s.opts.Log, Observe: s.opts.Observe, Limits: s.opts.Limits})
	if err != nil {
		return err
	}
	s.Kiosk = k
	stop := run(k.Run)
	s.stopKiosk = func() error { return errors.Join(stop(), k.Close()) }
	return nil
}

// Start runs vault, registry and kiosk.
func (s *Stage) Start(ctx context.Context) error {
	for _, start := range []func(context.Context) error{s.StartVault, s.StartRegistry, s.StartKiosk} {
		if err := start(ctx); err != nil {
			return err
		}
	}
	return nil
}

// Ready waits until the kiosk has seen its TPM and its registry, as an officer
// does before the first citizen.
func (s *Stage) Ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	states, err := s.Kiosk.Desk().States(ctx)
	if err != nil {
		return err
	}
	for state := range states {
		if state.Health.TPM && state.Health.Registry {
			return nil
		}
	}
	return errors.New("the kiosk does not find its TPM or its registry")
}

func call(f *func() error) error {
	if *f == nil {
		return nil
	}
	stop := *f
	*f = nil
	return stop()
}

// StopKiosk ends the agent.
func (s *Stage) StopKiosk() error { return call(&s.stopKiosk) }

// StopRegistry ends the registry.
func (s *Stage) StopRegistry() error { return call(&s.stopRegistry) }

// StopVault ends the vault.
func (s *Stage) StopVault() error { return call(&s.stopVault) }

// Close ends everything.
func (s *Stage) Close() error {
	err := errors.Join(s.StopKiosk(), s.StopRegistry(), s.StopVault())
	if s.Devices != nil {
		s.Devices.close()
	}
	if s.TPM != nil {
		err = errors.Join(err, s.TPM.Stop())
	}
	for _, k := range s.kept {
		k.Close()
	}
	return err
}

// Script is the specimen citizen and officer at this kiosk.
func (s *Stage) Script() *Script {
	p := &Script{Desk: s.Kiosk.Desk(), Language: "en", CAN: s.Chip.CAN(), PIN: "802469", OfficerPIN: OfficerPIN,
		Bring: s.Bring, Take: s.Take, Officer: s.Officer, Swap: s.Swap}
	if s.Guardian != nil {
		p.GuardianCAN = s.Guardian.CAN()
	}
	return p
}
