package vault

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"enrollkiosk/registry/api"
	"enrollkiosk/registry/internal/keyfile"
	"enrollkiosk/registry/policy"
)

// fileSuccessions has one succession of the root key in each line, the first first.
// Every policy brings them all.
const fileSuccessions = "authority-root.successions"

// ErrNoRoot means that the directory lacks the root key that signs now.
var ErrNoRoot = errors.New("the authority's root key is not here: bring it from where it is kept")

// rootKeyFile is the file of the number'th root key.
func rootKeyFile(number int) string {
	if number == 1 {
		return fileRoot
	}
	return fmt.Sprintf("%s-%d.key", stem(fileRoot), number)
}

// isRootKey says of a file's name that it holds a root key.
func isRootKey(name string) bool { return strings.HasPrefix(name, stem(fileRoot)) }

// roots are a vault's root keys, as far as they are public.
type roots struct {
	dir         string
	public      api.VaultKeys
	successions []string
	line        [][32]byte // of hashes, the one that signs now last
}

func readRoots(dir string) (r roots, err error) {
	r.dir = dir
	if r.public, err = ReadPublic(dir); err != nil {
		return r, err
	}
	b, err := os.ReadFile(filepath.Join(dir, fileSuccessions))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return r, fmt.Errorf("root's successions: %w", err)
	}
	last := r.public.RootHash
	if r.successions = strings.Fields(string(b)); len(r.successions) > 0 {
		s, err := policy.ParseSuccession([]byte(r.successions[len(r.successions)-1]))
		if err == nil {
			last, err = s.To()
		}
		if err != nil {
			return r, fmt.Errorf("root's successions: %w", err)
		}
	}
	if r.line, err = policy.Line(r.successions, last); err != nil {
		err = fmt.Errorf("root's successions: %w", err)
	}
	return r, err
}

func (r roots) last() [32]byte { return r.line[len(r.line)-1] }

// key is the root key that signs now.
func (r roots) key() (keyfile.Key, error) {
	file := filepath.Join(r.dir, rootKeyFile(len(r.line)))
	key, err := keyfile.Read(file)
	if errors.Is(err, fs.ErrNotExist) {
		return key, fmt.Errorf("%w: %s", ErrNoRoot, file)
	}
	if err != nil {
		return key, err
	}
	if hash, err := policy.RootHash(key.Public()); err != nil || hash != r.last() {
		return keyfile.Key{}, fmt.Errorf("%w: %s is another", ErrNoRoot, file)
	}
	return key, nil
}

// RotateRoot has the root key in dir followed by the next: by the one that has signed
// proposal, or without one by a new key in dir. It returns the number and the hash of
// the new root, which signs from now on. Cut off, it is run again; the old root signs
// until it has ended.
func RotateRoot(ctx context.Context, dir string, proposal []byte, now time.Time) (number int, hash [32]byte, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("rotate root: %w", err)
		}
	}()
	r, err := readRoots(dir)
	if err != nil {
		return 0, hash, err
	}
	if r.public.RootHash == r.last() { // else it was cut off before its last step
		if err := r.rotate(ctx, proposal, now); err != nil {
			return 0, hash, err
		}
		if r, err = readRoots(dir); err != nil {
			return 0, hash, err
		}
	}
	r.public.RootHash = r.last()
	return len(r.line), r.last(), keyfile.Replace(filepath.Join(dir, FilePublic), api.MarshalKeys(r.public), 0o644)
}

func (r roots) rotate(ctx context.Context, proposal []byte, now time.Time) error {
	old, err := r.key()
	if err != nil {
		return err
	}
	if proposal == nil {
		next, err := createKey(filepath.Join(r.dir, rootKeyFile(len(r.line)+1)))
		if err != nil {
			return err
		}
		proposal, err = policy.Propose(ctx, policy.Succession{Number: uint64(len(r.line)) + 1, Issued: now, From: r.last()}, next)
		if err != nil {
			return err
		}
	}
	signed, err := policy.Succeed(ctx, proposal, old)
	if err != nil {
		return err
	}
	s, err := policy.ParseSuccession(signed)
	if err != nil {
		return err
	}
	to, err := s.To()
	if err != nil {
		return err
	}
	all := append(r.successions, string(signed))
	if _, err := policy.Line(all, to); err != nil {
		return err
	}
	return keyfile.Replace(filepath.Join(r.dir, fileSuccessions), []byte(strings.Join(all, "\n")+"\n"), 0o644)
}

// createKey makes a key, or reads the one that an earlier attempt has made.
func createKey(file string) (keyfile.Key, error) {
	key, err := keyfile.Create(file)
	if errors.Is(err, fs.ErrExist) {
		return keyfile.Read(file)
	}
	return key, err
}

// ProposeRoot makes a root key in file, or takes the one that is there, and signs that
// it follows the root that signed a policy: for RotateRoot, where that root's key is.
// The policy says what it says; whether its root is the authority's is for RotateRoot.
func ProposeRoot(ctx context.Context, signed []byte, file string, now time.Time) (proposal []byte, hash [32]byte, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("propose root: %w", err)
		}
	}()
	by, err := policy.SignedBy(signed)
	if err != nil {
		return nil, hash, err
	}
	s, err := policy.Parse(signed, by)
	if err != nil {
		return nil, hash, err
	}
	key, err := createKey(file)
	if err != nil {
		return nil, hash, err
	}
	if hash, err = policy.RootHash(key.Public()); err != nil {
		return nil, hash, err
	}
	proposal, err = policy.Propose(ctx, policy.Succession{Number: uint64(len(s.Roots())) + 1, Issued: now, From: by}, key)
	return proposal, hash, err
}
