package vault

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"enrollkiosk/registry/api"
	"enrollkiosk/registry/internal/keyfile"
	"enrollkiosk/registry/policy"
	"enrollkiosk/registry/record"
)

// Keys are rotated as the registry's are: a rotation makes the new key and puts it
// into public.json, the next policy names it, and the vault, started with that
// policy, uses it. Old keys stay: what was sealed to them is still opened, what
// they signed is still believed.

// RotateIdentity makes the next key that identities are sealed to.
func RotateIdentity(dir string) (api.VaultKeys, error) {
	return rotate(dir, func(pub *api.VaultKeys) error {
		key, err := record.GenerateAuthorityKey()
		if err != nil {
			return err
		}
		private, err := key.Bytes()
		if err != nil {
			return err
		}
		defer private.Wipe()
		pub.Authority = key.Public()
		return writeSecret(filepath.Join(dir, keyfile.Next(dir, stem(fileIdentity), ".key")+".key"), private)
	})
}

// RotateVerdict makes the next key that signs verdicts.
func RotateVerdict(dir string) (api.VaultKeys, error) {
	return rotate(dir, func(pub *api.VaultKeys) error {
		key, err := keyfile.Create(filepath.Join(dir, keyfile.Next(dir, stem(fileVerdict), ".key")+".key"))
		if err != nil {
			return err
		}
		pub.EarlierVerdictKeys = slices.Insert(pub.EarlierVerdictKeys, 0, pub.VerdictKey)
		pub.VerdictKey, err = record.NewJWK(key.Public())
		return err
	})
}

func rotate(dir string, change func(*api.VaultKeys) error) (api.VaultKeys, error) {
	pub, err := ReadPublic(dir)
	if err == nil {
		err = change(&pub)
	}
	if err == nil {
		err = keyfile.Replace(filepath.Join(dir, FilePublic), api.MarshalKeys(pub), 0o644)
	}
	if err != nil {
		return pub, fmt.Errorf("rotate key: %w", err)
	}
	return pub, nil
}

// RotateTLS makes the next key and certificate of the TLS server, for the hosts of
// the one before and more, under the same root: the registry need not be told.
func RotateTLS(dir string, more []string, now time.Time) error {
	old, err := keyfile.ReadCertificate(filepath.Join(dir, keyfile.Latest(dir, nameServer)+".crt"))
	if err != nil {
		return fmt.Errorf("rotate key: %w", err)
	}
	hosts := slices.Concat(more, old.DNSNames)
	for _, ip := range old.IPAddresses {
		hosts = append(hosts, ip.String())
	}
	root, err := keyfile.ReadAuthority(dir, nameTLSRoot)
	if err == nil {
		err = root.IssueServer(dir, keyfile.Next(dir, nameServer, ".crt"), hosts, now)
	}
	if err != nil {
		return fmt.Errorf("rotate key: %w", err)
	}
	return nil
}

func stem(file string) string { return strings.TrimSuffix(file, ".key") }

// identities reads all keys that identities may be sealed to, the latest first.
func identities(dir string) (out []record.AuthorityPrivateKey, err error) {
	for _, name := range keyfile.Generations(dir, stem(fileIdentity), ".key") {
		private, err := readSecret(filepath.Join(dir, name+".key"))
		if err != nil {
			return nil, err
		}
		key, err := record.ParseAuthorityKey(private)
		private.Wipe()
		if err != nil {
			return nil, err
		}
		out = append(out, key)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("read key: %w: %s", os.ErrNotExist, filepath.Join(dir, fileIdentity))
	}
	return out, nil
}

// verdictKey is the latest of the keys in dir that a policy names.
func verdictKey(dir string, p policy.Signed) (keyfile.Key, error) {
	if !p.Valid() {
		return keyfile.Key{}, fmt.Errorf("%w: there is none", ErrPolicy)
	}
	key, err := keyfile.LatestKnown(dir, stem(fileVerdict), record.AcceptAny(p.Policy().VerdictKeys.Vault...))
	if errors.Is(err, keyfile.ErrNotKnown) {
		err = ErrPolicy
	}
	return key, err
}
