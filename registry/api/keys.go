package api

import (
	"fmt"

	"enrollkiosk/registry/checkpoint"
	"enrollkiosk/registry/internal/canonical"
	"enrollkiosk/registry/parcel"
	"enrollkiosk/registry/record"
)

// RegistryKeys is what a registry makes public of its keys when it is set up:
// the file public.json that the authority's policy is made from, and that the
// vault knows the registry by.
type RegistryKeys struct {
	Version     uint64     `json:"version"`      // 1
	Origin      string     `json:"origin"`       // the log's
	LogKey      string     `json:"log_key"`      // note verifier key
	VerdictKey  record.JWK `json:"verdict_key"`  //
	KioskCA     []byte     `json:"kiosk_ca"`     // certificate, DER
	TLSRoot     []byte     `json:"tls_root"`     // certificate, DER
	VaultClient []byte     `json:"vault_client"` // certificate that the registry shows to the vault, DER

	// Keys from before the last rotation, the latest first: what they signed is still
	// to be believed.
	EarlierVerdictKeys []record.JWK         `json:"earlier_verdict_keys,omitzero"`
	EarlierTLSRoots    [][]byte             `json:"earlier_tls_roots,omitzero"`
	EarlierKioskCAs    [][]byte             `json:"earlier_kiosk_cas,omitzero"`
	EarlierLogs        []checkpoint.Earlier `json:"earlier_logs,omitzero"` // keys of the log

	// Exchange are the keys that kiosks seal drives to, the newest first; the older
	// ones are for policies that name them still.
	Exchange []parcel.Key `json:"exchange,omitzero"`

	// Issuer of credentials, if there is one.
	Issuer IssuerKeys `json:"issuer,omitzero"`
}

// IssuerKeys is what is public of an issuer.
type IssuerKeys struct {
	ID   string `json:"id"`   // credential issuer identifier
	Root []byte `json:"root"` // of its certificates, DER
}

// Log is what the log's checkpoints are held against, but for witnesses, whom only
// the policy names.
func (k RegistryKeys) Log() checkpoint.Log {
	return checkpoint.Log{Key: k.LogKey, Earlier: k.EarlierLogs}
}

// VaultKeys is the same of a vault; RootHash pins the authority's policies.
type VaultKeys struct {
	Version    uint64              `json:"version"`     // 1
	RootHash   [32]byte            `json:"root_hash"`   // policy.RootHash
	Authority  record.AuthorityKey `json:"authority"`   // what identities are sealed to
	VerdictKey record.JWK          `json:"verdict_key"` //
	TLSRoot    []byte              `json:"tls_root"`    // certificate, DER

	EarlierVerdictKeys []record.JWK `json:"earlier_verdict_keys,omitzero"` // as in RegistryKeys
}

// MarshalKeys encodes either, for a file.
func MarshalKeys[K RegistryKeys | VaultKeys](k K) []byte {
	return append(canonical.Marshal(k), '\n')
}

// ParseKeys is the inverse. Errors wrap ErrForm.
func ParseKeys[K RegistryKeys | VaultKeys](b []byte) (K, error) {
	var k K
	if n := len(b); n > 0 && b[n-1] == '\n' {
		b = b[:n-1]
	}
	if err := canonical.Unmarshal(b, &k); err != nil {
		return k, fmt.Errorf("%w: public keys: %w", ErrForm, err)
	}
	return k, nil
}
