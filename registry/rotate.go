package registry

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

// Keys are rotated in three steps that may lie days apart: a rotation makes the
// new key and adds it to public.json; the authority signs a policy that names it
// beside the old; the registry, started with that policy, uses it. Old keys stay
// in the directory and in the policy: what they signed is still to be believed.

// RotateVerdict makes the next key that signs rejections and times.
func RotateVerdict(dir string) (api.RegistryKeys, error) {
	return rotate(dir, func(pub *api.RegistryKeys) error {
		name := strings.TrimSuffix(fileVerdict, ".key")
		key, err := keyfile.Create(filepath.Join(dir, keyfile.Next(dir, name, ".key")+".key"))
		if err != nil {
			return err
		}
		pub.EarlierVerdictKeys = slices.Insert(pub.EarlierVerdictKeys, 0, pub.VerdictKey)
		pub.VerdictKey, err = record.NewJWK(key.Public())
		return err
	})
}

// RotateTLSRoot makes the next authority over the registry's TLS certificates.
func RotateTLSRoot(dir string, now time.Time) (api.RegistryKeys, error) {
	return rotate(dir, func(pub *api.RegistryKeys) error {
		root, err := keyfile.CreateAuthority(dir, keyfile.Next(dir, nameTLSRoot, ".crt"), "Registry TLS of "+pub.Origin, now)
		if err != nil {
			return err
		}
		pub.EarlierTLSRoots = slices.Insert(pub.EarlierTLSRoots, 0, pub.TLSRoot)
		pub.TLSRoot = root.Certificate.Raw
		return nil
	})
}

func rotate(dir string, change func(*api.RegistryKeys) error) (api.RegistryKeys, error) {
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
// the one before and more. It is under the latest root that every kiosk knows:
// that has been in the policy for as long as a kiosk may be offline. Nobody else
// needs to be told; codes that were given out for provisioning end, for they name
// the key.
func RotateTLS(dir string, p policy.Signed, more []string, now time.Time) error {
	old, err := keyfile.ReadCertificate(filepath.Join(dir, keyfile.Latest(dir, nameServer)+".crt"))
	if err != nil {
		return fmt.Errorf("rotate key: %w", err)
	}
	hosts := more
	for _, ip := range old.IPAddresses {
		hosts = append(hosts, ip.String())
	}
	root, err := knownRoot(dir, p.Policy(), now)
	if err != nil {
		return fmt.Errorf("rotate key: %w", err)
	}
	if err := root.IssueServer(dir, keyfile.Next(dir, nameServer, ".crt"), append(hosts, old.DNSNames...), now); err != nil {
		return fmt.Errorf("rotate key: %w", err)
	}
	return nil
}

// ErrRoot means that the policy names none of the registry's TLS roots.
var ErrRoot = errors.New("the policy names no TLS root of this registry")

func knownRoot(dir string, p policy.Policy, now time.Time) (keyfile.Authority, error) {
	var named []keyfile.Authority // the latest first
	for _, name := range keyfile.Generations(dir, nameTLSRoot, ".crt") {
		root, err := keyfile.ReadAuthority(dir, name)
		if err != nil {
			return root, err
		}
		if slices.ContainsFunc(p.RegistryTLS, func(r policy.Root) bool { return slices.Equal(r.Certificate, root.Certificate.Raw) }) {
			named = append(named, root)
		}
	}
	switch {
	case len(named) == 0:
		return keyfile.Authority{}, ErrRoot
	case now.After(p.Issued.AddDate(0, 0, int(p.OfflineDays))):
		return named[0], nil
	}
	return named[len(named)-1], nil
}

// verdictKey is the latest of the keys in dir that a policy names.
func verdictKey(dir string, p policy.Signed) (keyfile.Key, error) {
	key, err := keyfile.LatestKnown(dir, strings.TrimSuffix(fileVerdict, ".key"), record.AcceptAny(p.Policy().VerdictKeys.Registry...))
	if !errors.Is(err, keyfile.ErrNotKnown) {
		return key, err
	}
	if _, err := os.Stat(filepath.Join(dir, fileVerdict)); err != nil {
		return keyfile.Key{}, fmt.Errorf("read key: %w", err)
	}
	return keyfile.Key{}, fmt.Errorf("%w: verdict key", ErrPolicy)
}
