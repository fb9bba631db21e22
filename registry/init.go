package registry

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"enrollkiosk/registry/api"
	"enrollkiosk/registry/internal/keyfile"
	"enrollkiosk/registry/parcel"
	"enrollkiosk/registry/record"
)

// Names in a registry's directory.
const (
	fileLogKey    = "log.key" // C2SP signed-note signer key; the next is log-2.key
	fileVerdict   = "verdict.key"
	nameKioskCA   = "kiosk-ca"
	nameTLSRoot   = "tls-root"
	nameServer    = "server"
	nameVault     = "vault-client"
	dirKiosks     = "kiosks"
	dirActivity   = "activity"
	dirProvisions = "provisions"
	dirLog        = "log"
	dirExchange   = "exchange" // ID.key: private keys that drives are sealed to, the old ones too
	fileStore     = "registry.db"

	// FilePublic holds what the world must know of the keys: an api.RegistryKeys.
	FilePublic = "public.json"
)

// Init makes a registry's directory: its keys, its authority over kiosks, its
// TLS certificate for hosts beside localhost, and FilePublic. A directory that
// has keys is left alone: the error is keyfile's ErrExists.
func Init(dir, origin string, hosts []string, now time.Time) (api.RegistryKeys, error) {
	var pub api.RegistryKeys
	if !validOrigin(origin) {
		return pub, ErrOrigin
	}
	err := keyfile.NewDir(dir, func(dir string) error {
		logKey, err := newLogKey(dir, origin)
		if err != nil {
			return err
		}
		verdict, err := keyfile.Create(filepath.Join(dir, fileVerdict))
		if err != nil {
			return err
		}
		kiosks, err := keyfile.CreateAuthority(dir, nameKioskCA, "Kiosks of "+origin, now)
		if err != nil {
			return err
		}
		servers, err := keyfile.CreateAuthority(dir, nameTLSRoot, "Registry TLS of "+origin, now)
		if err != nil {
			return err
		}
		if err := servers.IssueServer(dir, nameServer, hosts, now); err != nil {
			return err
		}
		if err := servers.IssueClient(dir, nameVault, now); err != nil {
			return err
		}
		client, err := keyfile.ReadCertificate(filepath.Join(dir, nameVault+".crt"))
		if err != nil {
			return err
		}
		if err := os.Mkdir(filepath.Join(dir, dirKiosks), 0o700); err != nil {
			return err
		}
		pub = api.RegistryKeys{Version: 1, Origin: origin, LogKey: logKey, KioskCA: kiosks.Certificate.Raw,
			TLSRoot: servers.Certificate.Raw, VaultClient: client.Raw}
		if pub.VerdictKey, err = record.NewJWK(verdict.Public()); err != nil {
			return err
		}
		exchange, err := newExchangeKey(dir)
		if err != nil {
			return err
		}
		pub.Exchange = []parcel.Key{exchange}
		return keyfile.WriteNew(filepath.Join(dir, FilePublic), api.MarshalKeys(pub), 0o644)
	})
	if err != nil {
		return pub, fmt.Errorf("set up registry: %w", err)
	}
	return pub, nil
}

// ErrOrigin refuses a name for the log.
var ErrOrigin = errors.New("the origin must be a name of visible ASCII characters without quotes, plus sign or backslash, such as registry.example/log")

// validOrigin holds what signed notes, checkpoints and records ask of a log's name.
func validOrigin(s string) bool {
	for _, c := range []byte(s) {
		if c <= ' ' || c > '~' || c == '"' || c == '\\' || c == '+' {
			return false
		}
	}
	return s != "" && len(s) <= 255
}
