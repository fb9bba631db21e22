// Package backup copies the directory of a registry or a vault while it is in
// use, and puts such a copy back.
//
// A backup is a directory: the files under their own names, and a manifest, a
// compact JWS by the verdict key of whoever made it, with the size and SHA-256 of
// each. Private keys (*.key) are never among them: they go to a directory of
// their own, which is kept elsewhere.
//
// Invariants. A backup is there whole, read back and verified, or not at all.
// Putting back refuses a directory that has anything in it, a manifest that no
// key of the policy signed, and every file that is not what the manifest says;
// none of it changes what is there. What is inside the files is their owners'
// matter.
package backup

import (
	"context"
	"crypto"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"enrollkiosk/registry/internal/canonical"
	"enrollkiosk/registry/internal/keyfile"
	"enrollkiosk/registry/record"
)

// Type is the typ of a manifest's JWS.
const Type = "enrollkiosk-backup+jws"

// Name of the manifest in its directory.
const Name = "manifest.jws"

const maxManifest = 1 << 30

var (
	// ErrDamaged: the backup is not what its manifest says.
	ErrDamaged = errors.New("the backup is damaged: use another one")
	// ErrSigner: nobody whom the policy names has signed the manifest.
	ErrSigner = errors.New("the backup's manifest is not signed by a key that the policy names")
	// ErrKeys: the keys directory lacks one, or has another.
	ErrKeys = errors.New("a private key is missing, or is not the one that goes with this backup: give the directory that the keys were kept in")
)

// Manifest says what is in a backup.
type Manifest struct {
	Version uint64    `json:"version"` // 1
	Kind    string    `json:"kind"`    // registry or vault
	Name    string    `json:"name"`    // the log's origin; empty for a vault
	Made    time.Time `json:"made"`    // whole seconds, UTC
	Keys    []File    `json:"keys"`    // private keys that belong to it, in the keys directory
	Apart   string    `json:"apart"`   // a directory that proves itself and is not among Files; empty: none
	Files   []File    `json:"files"`   // in the order of their paths
}

// File is one file of a backup.
type File struct {
	Path   string   `json:"path"` // with slashes, below the backup's directory
	Size   uint64   `json:"size"`
	SHA256 [32]byte `json:"sha256"`
}

// Part is a file that cannot simply be copied: Write makes it. Parts are made in
// their order, before all other files.
type Part struct {
	Path  string
	Write func(ctx context.Context, w io.Writer) error
}

// Source is what is backed up.
type Source struct {
	Kind, Name string
	Dir        string
	Parts      []Part
	Leave      []string               // names in Dir that are not copied: the parts' originals
	NeverKey   func(name string) bool // says which private keys have no place in any backup; nil: none
	// Apart copies the directory of this name, which proves itself: after the parts,
	// before all else.
	Apart     string
	CopyApart func(ctx context.Context, to string) error
	Signer    record.Signer
	Now       time.Time
}

// Write backs up into to, and the private keys into keys unless that is empty.
// Both must not exist or be empty.
func Write(ctx context.Context, s Source, to, keys string) (m Manifest, err error) {
	m = Manifest{Version: 1, Kind: s.Kind, Name: s.Name, Made: s.Now.UTC().Truncate(time.Second), Apart: s.Apart}
	err = keyfile.NewDir(to, func(dir string) error {
		for _, p := range s.Parts {
			if err := writePart(ctx, filepath.Join(dir, p.Path), p); err != nil {
				return fmt.Errorf("%s: %w", p.Path, err)
			}
		}
		if s.Apart != "" {
			if err := s.CopyApart(ctx, filepath.Join(dir, s.Apart)); err != nil {
				return fmt.Errorf("%s: %w", s.Apart, err)
			}
		}
		private, err := copyPlain(ctx, s, dir)
		if err != nil {
			return err
		}
		m.Keys = private
		if m.Files, err = hashAll(dir, m.Apart); err != nil {
			return err
		}
		b, err := record.SignCompact(ctx, Type, canonical.Marshal(m), s.Signer)
		if err != nil {
			return fmt.Errorf("sign manifest: %w", err)
		}
		if err := keyfile.WriteNew(filepath.Join(dir, Name), b, 0o600); err != nil {
			return err
		}
		if keys == "" {
			return nil
		}
		return keyfile.NewDir(keys, func(dir string) error {
			for _, k := range private {
				if err := copyFile(ctx, filepath.Join(s.Dir, k.Path), filepath.Join(dir, k.Path), 0o600, &k); err != nil {
					return err
				}
			}
			return nil
		})
	})
	if err != nil {
		return Manifest{}, fmt.Errorf("back up: %w", err)
	}
	return m, nil
}

func writePart(ctx context.Context, file string, p Part) error {
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	err = p.Write(ctx, f)
	return errors.Join(err, f.Sync(), f.Close())
}

// copyPlain copies the regular files of the directory but those that are left
// out, and returns the names of the private keys among those.
func copyPlain(ctx context.Context, s Source, to string) (private []File, err error) {
	err = filepath.WalkDir(s.Dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(s.Dir, path)
		switch {
		case err != nil || name == ".":
			return err
		case slices.Contains(s.Leave, name) || s.Apart != "" && name == s.Apart || strings.HasPrefix(e.Name(), "."): // temporary files and locks have a dot
			if e.IsDir() {
				return fs.SkipDir
			}
			return nil
		case e.IsDir():
			return os.MkdirAll(filepath.Join(to, name), 0o700)
		case !e.Type().IsRegular():
			return nil
		case strings.HasSuffix(name, ".key"):
			if s.NeverKey != nil && s.NeverKey(name) {
				return nil
			}
			f, err := hashFile(path, name)
			private = append(private, f)
			return err
		}
		err = copyFile(ctx, path, filepath.Join(to, name), 0o600, nil)
		if errors.Is(err, fs.ErrNotExist) {
			return nil // ended meanwhile
		}
		return err
	})
	return private, err
}

// copyFile copies durably; the hash of what was written must be want, if given.
func copyFile(ctx context.Context, from, to string, mode os.FileMode, want *File) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
		return err
	}
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	h := sha256.New()
	n, err := io.Copy(io.MultiWriter(out, h), in)
	if err := errors.Join(err, out.Sync(), out.Close()); err != nil {
		return err
	}
	if want != nil && (uint64(n) != want.Size || [32]byte(h.Sum(nil)) != want.SHA256) {
		return fmt.Errorf("%w: %s", ErrDamaged, want.Path)
	}
	return keyfile.SyncDir(filepath.Dir(to))
}

func hashAll(dir, apart string) (files []File, err error) {
	err = filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		switch {
		case err != nil:
			return err
		case e.IsDir() && apart != "" && name == apart:
			return fs.SkipDir
		case e.IsDir():
			return nil
		}
		f, err := hashFile(path, name)
		files = append(files, f)
		return err
	})
	slices.SortFunc(files, func(a, b File) int { return strings.Compare(a.Path, b.Path) })
	return files, err
}

func hashFile(path, name string) (File, error) {
	in, err := os.Open(path)
	if err != nil {
		return File{}, err
	}
	defer in.Close()
	h := sha256.New()
	n, err := io.Copy(h, in)
	return File{filepath.ToSlash(name), uint64(n), [32]byte(h.Sum(nil))}, err
}

// Open reads the manifest of a backup of a kind. One of keys must have signed it.
func Open(dir, kind string, keys []record.JWK) (Manifest, error) {
	var m Manifest
	f, err := os.Open(filepath.Join(dir, Name))
	if err != nil {
		return m, fmt.Errorf("open backup: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxManifest))
	if err != nil {
		return m, fmt.Errorf("open backup: %w", err)
	}
	payload, err := record.VerifyCompact(b, Type, func(pub crypto.PublicKey) bool {
		k, err := record.NewJWK(pub)
		return err == nil && slices.ContainsFunc(keys, k.Equal)
	})
	if err != nil {
		return m, fmt.Errorf("open backup: %w: %w", ErrSigner, err)
	}
	if err := canonical.Unmarshal(payload, &m); err != nil {
		return m, fmt.Errorf("open backup: %w: %w", ErrDamaged, err)
	}
	if m.Apart != "" && !filepath.IsLocal(m.Apart) {
		return m, fmt.Errorf("open backup: %w: paths", ErrDamaged)
	}
	if m.Version != 1 || m.Kind != kind {
		return m, fmt.Errorf("open backup: it is of a %s, version %d, and not of a %s", m.Kind, m.Version, kind)
	}
	for i, f := range m.Files {
		if !filepath.IsLocal(f.Path) || i > 0 && f.Path <= m.Files[i-1].Path {
			return m, fmt.Errorf("open backup: %w: paths", ErrDamaged)
		}
	}
	return m, nil
}

// Verify reads a whole backup: every file must be there and what the manifest
// says, and nothing else.
func (m Manifest) Verify(dir string) error {
	files, err := hashAll(dir, m.Apart)
	if err != nil {
		return fmt.Errorf("verify backup: %w", err)
	}
	files = slices.DeleteFunc(files, func(f File) bool { return f.Path == Name })
	for i, f := range m.Files {
		if i >= len(files) || files[i] != f {
			return fmt.Errorf("verify backup: %w: %s", ErrDamaged, f.Path)
		}
	}
	if len(files) > len(m.Files) {
		return fmt.Errorf("verify backup: %w: %s is not in the manifest", ErrDamaged, files[len(m.Files)].Path)
	}
	return nil
}

// Restore copies the files and the private keys into a directory that exists.
func (m Manifest) Restore(ctx context.Context, from, keys, to string) error {
	for _, f := range m.Files {
		mode := os.FileMode(0o600)
		if strings.HasSuffix(f.Path, ".crt") || f.Path == "public.json" {
			mode = 0o644
		}
		if err := copyFile(ctx, filepath.Join(from, f.Path), filepath.Join(to, f.Path), mode, &f); err != nil {
			return fmt.Errorf("put back: %w", err)
		}
	}
	for _, k := range m.Keys {
		if !filepath.IsLocal(k.Path) {
			return fmt.Errorf("put back: %w: %s", ErrDamaged, k.Path)
		}
		err := copyFile(ctx, filepath.Join(keys, k.Path), filepath.Join(to, k.Path), 0o600, &k)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, ErrDamaged) {
			return fmt.Errorf("put back: %w: %s", ErrKeys, k.Path)
		}
		if err != nil {
			return fmt.Errorf("put back: %w", err)
		}
	}
	return nil
}
