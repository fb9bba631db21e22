package vault

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"enrollkiosk/hsm/attest"
	"enrollkiosk/registry/api"
	"enrollkiosk/registry/internal/keyfile"
	"enrollkiosk/registry/internal/tomlfile"
	"enrollkiosk/registry/policy"
	"enrollkiosk/registry/record"
)

// policyFile is the description that a policy is made from: a strict TOML file.
// Paths are relative to it; certificates are PEM or DER, one in a file.
type policyFile struct {
	Version     uint64     `toml:"version"`
	Issued      *time.Time `toml:"issued"` // default: now
	ValidDays   int        `toml:"valid_days"`
	OfflineDays uint64     `toml:"offline_days"`
	Languages   []string   `toml:"languages"`
	Files       []uint16   `toml:"files"` // LDS file identifiers to seal beside DG1 and EF.SOD
	Firmware    string     `toml:"minimum_piv_firmware"`
	Revoked     []uint64   `toml:"revoked_tokens"`
	Officers    []string   `toml:"revoked_officers"` // SHA-256 of certificates, hexadecimal
	CRLs        []string   `toml:"crls"`
	Anchors     []rootFile `toml:"anchors"`

	Witnesses     []string `toml:"witnesses"`      // verifier keys, as registry witness init prints them
	WitnessQuorum uint64   `toml:"witness_quorum"` // so many of them must have cosigned
	WitnessFrom   uint64   `toml:"witness_from"`   // number of leaves from which on they must; default: all

	MasterLists []masterList `toml:"master_lists"` // whose certificates become anchors too

	PIVRoots  []rootFile `toml:"piv_roots"`
	TPMRoots  []rootFile `toml:"tpm_roots"`
	OfficerCA []rootFile `toml:"officer_ca"`

	PIVMakers        []string     `toml:"piv_makers"`           // whose roots and intermediates are known here, of class production: yubico
	PIVIntermediates []string     `toml:"piv_intermediates"`    // each after the one that issued it
	Attestations     []string     `toml:"revoked_attestations"` // SHA-256 of certificates, hexadecimal
	OfficerCRLs      []string     `toml:"officer_crls"`
	OfficerRoles     []officers   `toml:"officer_roles"`
	Token            tokenRules   `toml:"token"`
	Limits           policyLimits `toml:"limits"`
	Minors           minors       `toml:"minors"`

	Documents []struct {
		Kind    record.Document    `toml:"kind"`
		MayLack []record.Exception `toml:"may_lack"` // proofs; each such enrollment takes a second officer
		Roots   []rootFile         `toml:"roots"`
		Class   record.Class       `toml:"class"` // of a kind that nobody signs
	} `toml:"documents"` // accepted beside eMRTDs that prove everything
	Registry struct {
		Public string       `toml:"public"` // the registry's public.json
		Class  record.Class `toml:"class"`
	} `toml:"registry"`
	Consents struct {
		Dir      string            `toml:"dir"` // NAME.LANGUAGE.txt
		Required []string          `toml:"required"`
		Versions map[string]uint64 `toml:"versions"` // default 1
	} `toml:"consents"`
}

type rootFile struct {
	File  string       `toml:"file"`
	Class record.Class `toml:"class"`
}

type officers struct {
	Unit  string        `toml:"unit"`  // OU of the certificates; left out: those without
	Roles []record.Role `toml:"roles"` // officer, supervisor, desk
	Quota uint64        `toml:"quota"` // enrollments of one officer on one day
}

type tokenRules struct {
	Algorithms        []policy.Algorithm `toml:"algorithms"`
	PIN               policy.PIN         `toml:"pin"`
	Touch             policy.Touch       `toml:"touch"`
	KeyAgreementTouch policy.Touch       `toml:"key_agreement_touch"`
	Retired           uint64             `toml:"retired"`
	Custody           bool               `toml:"custody"`
}

type policyLimits struct {
	ReadsWithoutEnrollment uint64 `toml:"reads_without_enrollment"` // of one officer on one day
	EnrollmentsPerDay      uint64 `toml:"enrollments_per_day"`      // of one kiosk
}

type minors struct {
	GuardianBelow uint64                `toml:"guardian_below"` // years; left out: nobody needs one
	GuardianFrom  uint64                `toml:"guardian_from"`  // years, default 18
	Zone          string                `toml:"zone"`           // such as +08:00, default UTC
	Proofs        []record.Guardianship `toml:"proofs"`         // default: all
}

// policy fills in the defaults: what is signed says everything.
func (m minors) policy() policy.Minors {
	if m.GuardianBelow > 0 && m.GuardianFrom == 0 {
		m.GuardianFrom = max(18, m.GuardianBelow)
	}
	if m.GuardianBelow > 0 && len(m.Proofs) == 0 {
		m.Proofs = record.Guardianships()
	}
	return policy.Minors(m)
}

// SignPolicy makes the policy that file describes and signs it with the root
// key in dir. The authority's identity key and this vault's verdict key come
// from dir, the registry's keys from the public.json that file names. Mistakes
// in file are *tomlfile.Error, or wrap policy.ErrForm. Each of leftOut is told of
// every certificate of a master list that is not in the policy.
func SignPolicy(ctx context.Context, dir, file string, now time.Time, leftOut ...func(LeftOut)) ([]byte, error) {
	roots, err := readRoots(dir)
	if err != nil {
		return nil, err
	}
	root, err := roots.key()
	if err != nil {
		return nil, err
	}
	var f policyFile
	if err := tomlfile.Load(file, &f); err != nil {
		return nil, err
	}
	p, err := f.policy(file, roots.public, now, func(l LeftOut) {
		for _, tell := range leftOut {
			tell(l)
		}
	})
	if err != nil {
		return nil, tomlfile.Mistake(file, "%w", err)
	}
	p.Successions = roots.successions
	return policy.Sign(ctx, p, root)
}

func (f policyFile) policy(file string, mine api.VaultKeys, now time.Time, leftOut func(LeftOut)) (policy.Policy, error) {
	issued := now
	if f.Issued != nil {
		issued = *f.Issued
	}
	issued = issued.UTC().Truncate(time.Second)
	p := policy.Policy{Version: f.Version, Issued: issued, Expires: issued.AddDate(0, 0, f.ValidDays), OfflineDays: f.OfflineDays,
		Authority: mine.Authority, Languages: f.Languages, Files: f.Files, RevokedTokens: f.Revoked,
		Witnesses: f.Witnesses, WitnessQuorum: f.WitnessQuorum, WitnessFrom: f.WitnessFrom,
		VerdictKeys: policy.VerdictKeys{Vault: append([]record.JWK{mine.VerdictKey}, mine.EarlierVerdictKeys...)}}
	if f.ValidDays <= 0 {
		return p, fmt.Errorf("valid_days must be 1 or more")
	}
	if len(f.Languages) == 0 {
		return p, fmt.Errorf("languages is empty: at least one")
	}
	if f.Firmware != "" {
		if _, err := fmt.Sscanf(f.Firmware, "%d.%d.%d", &p.MinimumPIVFirmware.Major, &p.MinimumPIVFirmware.Minor, &p.MinimumPIVFirmware.Patch); err != nil {
			return p, fmt.Errorf("minimum_piv_firmware must be three numbers, such as 5.4.3")
		}
	}
	p.Token, p.Limits, p.Minors = policy.Token(f.Token), policy.Limits(f.Limits), f.Minors.policy()
	for _, rule := range f.OfficerRoles {
		p.OfficerRules = append(p.OfficerRules, policy.OfficerRule(rule))
	}
	if len(f.OfficerCA) > 0 && len(f.OfficerRoles) == 0 {
		return p, fmt.Errorf("officer_roles is missing: without a rule nobody under officer_ca may do anything")
	}
	for _, list := range []struct {
		name string
		from []string
		to   *[][32]byte
	}{{"revoked_officers", f.Officers, &p.RevokedOfficers}, {"revoked_attestations", f.Attestations, &p.RevokedAttestations}} {
		for _, digits := range list.from {
			digest, err := parseDigest(digits)
			if err != nil {
				return p, fmt.Errorf("%s: %w", list.name, err)
			}
			*list.to = append(*list.to, digest)
		}
	}
	if err := f.addRegistry(&p, file); err != nil {
		return p, err
	}
	for _, name := range f.PIVMakers {
		if name != "yubico" {
			return p, fmt.Errorf("piv_makers: %q is not known: only yubico is", name)
		}
		roots, intermediates := attest.Yubico()
		for _, r := range roots {
			p.PIVRoots = append(p.PIVRoots, policy.Root{Certificate: r.Certificate.Raw, Class: record.Class(r.Class)})
		}
		for _, c := range intermediates {
			p.PIVIntermediates = append(p.PIVIntermediates, c.Raw)
		}
	}
	type rootList struct {
		name string
		from []rootFile
		to   *[]policy.Root
	}
	lists := []rootList{{"piv_roots", f.PIVRoots, &p.PIVRoots}, {"tpm_roots", f.TPMRoots, &p.TPMRoots}, {"officer_ca", f.OfficerCA, &p.OfficerCA}}
	p.Documents = make([]policy.Document, len(f.Documents))
	for i, d := range f.Documents {
		p.Documents[i] = policy.Document{Kind: d.Kind, MayLack: d.MayLack, Class: d.Class}
		lists = append(lists, rootList{fmt.Sprintf("documents %s: roots", d.Kind), d.Roots, &p.Documents[i].Roots})
	}
	for _, kind := range lists {
		for _, r := range kind.from {
			tomlfile.In(file, &r.File)
			der, err := keyfile.ReadDER(r.File)
			if err != nil {
				return p, fmt.Errorf("%s: %w", kind.name, err)
			}
			*kind.to = append(*kind.to, policy.Root{Certificate: der, Class: r.Class})
		}
	}
	for _, list := range []struct {
		name string
		from []string
		to   *[][]byte
	}{{"crls", f.CRLs, &p.CRLs}, {"officer_crls", f.OfficerCRLs, &p.OfficerCRLs}, {"piv_intermediates", f.PIVIntermediates, &p.PIVIntermediates}} {
		for _, name := range list.from {
			tomlfile.In(file, &name)
			der, err := keyfile.ReadDER(name)
			if err != nil {
				return p, fmt.Errorf("%s: %w", list.name, err)
			}
			*list.to = append(*list.to, der)
		}
	}
	for i, der := range p.OfficerCRLs {
		// It would count all the same; an old one is rather a slip.
		if crl, err := x509.ParseRevocationList(der); err == nil && !crl.NextUpdate.IsZero() && crl.NextUpdate.Before(now) {
			return p, fmt.Errorf("officer_crls: %s is outdated since %s: fetch the next one", f.OfficerCRLs[i], crl.NextUpdate.Format(time.DateOnly))
		}
	}
	if err := f.addAnchors(&p, file, now, leftOut); err != nil {
		return p, err
	}
	if rule, ok := p.Document(record.BelgianEID); ok {
		if _, err := belgianRoots(rule); err != nil {
			return p, fmt.Errorf("documents %s: %w", rule.Kind, err)
		}
	}
	var err error
	p.Consents, err = f.consents(file)
	return p, err
}

// parseDigest reads the SHA-256 of a certificate.
func parseDigest(digits string) (digest [32]byte, err error) {
	b, err := hex.DecodeString(digits)
	if err != nil || len(b) != len(digest) {
		return digest, fmt.Errorf("%q is not 64 hexadecimal digits: the SHA-256 of a certificate in DER", digits)
	}
	return [32]byte(b), nil
}

func (f policyFile) addRegistry(p *policy.Policy, file string) error {
	name := f.Registry.Public
	if name == "" {
		return fmt.Errorf("registry.public is missing: the registry's public.json")
	}
	tomlfile.In(file, &name)
	b, err := os.ReadFile(name)
	if err != nil {
		return fmt.Errorf("registry.public: %w", err)
	}
	keys, err := api.ParseKeys[api.RegistryKeys](b)
	if err != nil {
		return fmt.Errorf("registry.public: %w", err)
	}
	p.LogOrigin, p.LogKey, p.EarlierLogs = keys.Origin, keys.LogKey, keys.EarlierLogs
	p.KioskCA = []policy.Root{{Certificate: keys.KioskCA, Class: f.Registry.Class}}
	for _, ca := range keys.EarlierKioskCAs {
		p.KioskCA = append(p.KioskCA, policy.Root{Certificate: ca, Class: f.Registry.Class})
	}
	p.RegistryTLS = []policy.Root{{Certificate: keys.TLSRoot, Class: f.Registry.Class}}
	for _, root := range keys.EarlierTLSRoots {
		p.RegistryTLS = append(p.RegistryTLS, policy.Root{Certificate: root, Class: f.Registry.Class})
	}
	p.VerdictKeys.Registry = append([]record.JWK{keys.VerdictKey}, keys.EarlierVerdictKeys...)
	p.Exchange = keys.Exchange
	if keys.Issuer.ID != "" {
		p.Issuer = policy.Issuer{ID: keys.Issuer.ID, Roots: []policy.Root{{Certificate: keys.Issuer.Root, Class: f.Registry.Class}}}
	}
	return nil
}

// consents reads a directory of texts: NAME.LANGUAGE.txt. The policy has the
// digest of each file's bytes.
func (f policyFile) consents(file string) ([]policy.Text, error) {
	dir := f.Consents.Dir
	if dir == "" {
		return nil, fmt.Errorf("consents.dir is missing: a directory of NAME.LANGUAGE.txt")
	}
	tomlfile.In(file, &dir)
	names, err := filepath.Glob(filepath.Join(dir, "*.txt"))
	if err != nil || len(names) == 0 {
		return nil, fmt.Errorf("consents.dir %s holds no NAME.LANGUAGE.txt", dir)
	}
	var out []policy.Text
	for _, name := range names { // sorted: one text's languages follow one another
		parts := strings.Split(filepath.Base(name), ".")
		if len(parts) != 3 {
			return nil, fmt.Errorf("consent text %s: the name must be NAME.LANGUAGE.txt", name)
		}
		id, language := parts[0], parts[1]
		words, err := os.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("consent text: %w", err)
		}
		if len(out) == 0 || out[len(out)-1].ID != id {
			version := f.Consents.Versions[id]
			if version == 0 {
				version = 1
			}
			out = append(out, policy.Text{ID: id, Version: version, Required: slices.Contains(f.Consents.Required, id)})
		}
		last := &out[len(out)-1]
		last.Digests = append(last.Digests, policy.Translation{Language: language, SHA256: sha256.Sum256(words)})
	}
	for _, id := range f.Consents.Required {
		if !slices.ContainsFunc(out, func(t policy.Text) bool { return t.ID == id }) {
			return nil, fmt.Errorf("consents.required names %q, which has no text", id)
		}
	}
	return out, nil
}
