package vault

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"enrollkiosk/kiosk/secret"
	"enrollkiosk/registry/api"
	"enrollkiosk/registry/internal/keyfile"
	"enrollkiosk/registry/policy"
	"enrollkiosk/registry/record"
)

// Names in a vault's directory.
const (
	fileRoot     = "authority-root.key" // signs policies; belongs offline once it has
	fileIdentity = "identity.key"       // HPKE private key, hexadecimal
	filePersons  = "persons.key"        // PRF key, hexadecimal
	fileVerdict  = "verdict.key"
	nameTLSRoot  = "tls-root"
	nameServer   = "server"
	fileStore    = "vault.db"
	dirOfficers  = "officers"

	// FilePublic holds what the world must know of the keys: an api.VaultKeys.
	FilePublic = "public.json"
)

// Init makes a vault's directory: the authority's root key, the key that opens
// identities, the key that signs verdicts, the key that tells persons apart,
// its TLS certificate for hosts beside localhost, and FilePublic. A directory
// that has keys is left alone: the error is keyfile's ErrExists.
func Init(dir string, hosts []string, now time.Time) (api.VaultKeys, error) {
	var pub api.VaultKeys
	err := keyfile.NewDir(dir, func(dir string) error {
		root, err := keyfile.Create(filepath.Join(dir, fileRoot))
		if err != nil {
			return err
		}
		identity, err := record.GenerateAuthorityKey()
		if err != nil {
			return err
		}
		private, err := identity.Bytes()
		if err != nil {
			return err
		}
		if err := writeSecret(filepath.Join(dir, fileIdentity), private); err != nil {
			return err
		}
		persons := make([]byte, 32)
		rand.Read(persons)
		if err := writeSecret(filepath.Join(dir, filePersons), secret.New(persons)); err != nil {
			return err
		}
		verdict, err := keyfile.Create(filepath.Join(dir, fileVerdict))
		if err != nil {
			return err
		}
		servers, err := keyfile.CreateAuthority(dir, nameTLSRoot, "Vault TLS", now)
		if err != nil {
			return err
		}
		if err := servers.IssueServer(dir, nameServer, hosts, now); err != nil {
			return err
		}
		pub = api.VaultKeys{Version: 1, Authority: identity.Public(), TLSRoot: servers.Certificate.Raw}
		if pub.RootHash, err = policy.RootHash(root.Public()); err != nil {
			return err
		}
		if pub.VerdictKey, err = record.NewJWK(verdict.Public()); err != nil {
			return err
		}
		return keyfile.WriteNew(filepath.Join(dir, FilePublic), api.MarshalKeys(pub), 0o644)
	})
	if err != nil {
		return pub, fmt.Errorf("set up vault: %w", err)
	}
	return pub, nil
}

// ReadPublic reads the public keys of the vault in dir.
func ReadPublic(dir string) (api.VaultKeys, error) {
	b, err := os.ReadFile(filepath.Join(dir, FilePublic))
	if err != nil {
		return api.VaultKeys{}, fmt.Errorf("vault's public keys: %w", err)
	}
	return api.ParseKeys[api.VaultKeys](b)
}

func writeSecret(file string, s secret.Text) error {
	b := append(hex.AppendEncode(nil, s.Reveal()), '\n')
	defer clear(b)
	return keyfile.WriteNew(file, b, 0o600)
}

func readSecret(file string) (secret.Text, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return secret.Text{}, fmt.Errorf("read key: %w", err)
	}
	defer clear(b)
	out, err := hex.DecodeString(strings.TrimSpace(string(b)))
	if err != nil || len(out) == 0 {
		return secret.Text{}, fmt.Errorf("read key: %s holds none", file)
	}
	return secret.New(out), nil
}
