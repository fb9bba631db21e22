package registry

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"enrollkiosk/kiosk/secret"
	"enrollkiosk/registry/api"
	"enrollkiosk/registry/internal/keyfile"
	"enrollkiosk/registry/parcel"
)

// maxExchange is how many exchange keys a policy names: the one in use and those
// that kiosks with an older policy use yet.
const maxExchange = 4

// NewExchangeKey makes the key that kiosks seal drives to under the next policy,
// and puts it into FilePublic in front of the older ones. Private keys stay in dir
// for good: they open what was exported before. The registry that serves must be
// started anew, before a policy that names the key is in force.
func NewExchangeKey(dir string) (parcel.Key, error) {
	pub, err := ReadPublic(dir)
	if err != nil {
		return parcel.Key{}, err
	}
	key, err := newExchangeKey(dir)
	if err != nil {
		return parcel.Key{}, err
	}
	pub.Exchange = append([]parcel.Key{key}, pub.Exchange[:min(len(pub.Exchange), maxExchange-1)]...)
	if err := keyfile.Replace(filepath.Join(dir, FilePublic), api.MarshalKeys(pub), 0o644); err != nil {
		return parcel.Key{}, fmt.Errorf("exchange key: %w", err)
	}
	return key, nil
}

func newExchangeKey(dir string) (parcel.Key, error) {
	key, err := parcel.GenerateKey()
	if err != nil {
		return parcel.Key{}, err
	}
	text, err := key.Text()
	if err != nil {
		return parcel.Key{}, err
	}
	defer text.Wipe()
	if err := os.Mkdir(filepath.Join(dir, dirExchange), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return parcel.Key{}, fmt.Errorf("exchange key: %w", err)
	}
	if err := keyfile.WriteNew(filepath.Join(dir, dirExchange, key.Public().ID+keyExtension), text.Reveal(), 0o600); err != nil {
		return parcel.Key{}, fmt.Errorf("exchange key: %w", err)
	}
	return key.Public(), nil
}

const keyExtension = ".key"

// exchangeKeys reads all private keys that drives were ever sealed to. A registry
// that was set up before there were any has none.
func exchangeKeys(dir string) (out []parcel.PrivateKey, err error) {
	entries, err := os.ReadDir(filepath.Join(dir, dirExchange))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("exchange keys: %w", err)
	}
	for _, e := range entries {
		id, ok := strings.CutSuffix(e.Name(), keyExtension)
		if !ok {
			continue
		}
		b, err := os.ReadFile(filepath.Join(dir, dirExchange, e.Name()))
		if err != nil {
			return nil, fmt.Errorf("exchange keys: %w", err)
		}
		text := secret.New(b)
		key, err := parcel.ParseKey(text)
		text.Wipe()
		if err != nil || key.Public().ID != id {
			return nil, fmt.Errorf("exchange keys: %s holds none of this name", e.Name())
		}
		out = append(out, key)
	}
	return out, nil
}

// holds says whether one of the private keys is k's.
func holds(keys []parcel.PrivateKey, k parcel.Key) bool {
	return slices.ContainsFunc(keys, func(own parcel.PrivateKey) bool { return own.Public().ID == k.ID })
}
