package parcel

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"enrollkiosk/registry/checkpoint"
)

// Kind is a file's extension.
type Kind string

const (
	Manifests Kind = ".manifest"
	Records   Kind = ".records"
	Receipts  Kind = ".receipts"
	Seen      Kind = ".seen" // the newest checkpoint of the public log that a kiosk has seen
	Log       Kind = ".log"  // the registry's proof of what the log has become since
)

// limit is the largest file of a kind, in bytes.
func (k Kind) limit() int64 {
	switch k {
	case Manifests:
		return MaxManifest
	case Seen:
		return checkpoint.MaxSize
	case Log:
		return checkpoint.MaxProof
	}
	return MaxFile
}

// temporary marks a file that was being written; after a cut it is nothing.
const temporary = ".tmp"

// MaxNames is how many files of a kind are looked at in one directory.
const MaxNames = 100_000

// Errors of a drive.
var (
	ErrNoDrive   = errors.New("not a directory: is the drive mounted?")
	ErrIrregular = errors.New("not a plain file: links, directories and devices are not read")
	ErrTooBig    = errors.New("larger than such a file can be")
	ErrDrive     = errors.New("the drive did not keep what was written to it: use another one")
	ErrCrowded   = errors.New("too many files in one directory: use an empty one")
)

func (k Kind) known() bool {
	return slices.Contains([]Kind{Manifests, Records, Receipts, Seen, Log}, k)
}

// Name is the name of a file: 64 lower-case hexadecimal digits and the kind. FAT
// takes it.
func Name(sum [32]byte, k Kind) string { return hex.EncodeToString(sum[:]) + string(k) }

// ManifestName is the name of a signed manifest.
func ManifestName(signed []byte) string { return Name(sha256.Sum256(signed), Manifests) }

// KioskName is the name of a file of which each kiosk has one on a drive: Seen and
// Log.
func KioskName(id string, k Kind) string { return Name(sha256.Sum256([]byte(id)), k) }

// parseName is Name's inverse.
func parseName(name string, k Kind) (sum [32]byte, ok bool) {
	digits, ok := strings.CutSuffix(name, string(k))
	if b, err := hex.DecodeString(digits); ok && err == nil && len(b) == len(sum) {
		sum = [32]byte(b)
	}
	return sum, ok && k.known() && Name(sum, k) == name
}

// Drive is a directory, on removable media as a rule, that holds parcels. Files of
// other names in it are left alone, and directories in it are not entered.
type Drive struct {
	dir     string
	written func(file string) // tests spoil a file between writing and reading back
}

// OpenDrive finds a directory; it makes none: where the drive is not mounted, the
// machine's own disk would get what is meant for it. ErrNoDrive.
func OpenDrive(dir string) (Drive, error) {
	info, err := os.Stat(dir)
	if err != nil || !info.IsDir() {
		return Drive{}, fmt.Errorf("%s: %w", dir, ErrNoDrive)
	}
	return Drive{dir: dir}, nil
}

// Dir is the directory.
func (d Drive) Dir() string { return d.dir }

// Names lists the files of a kind, sorted, whatever they are.
func (d Drive) Names(k Kind) ([]string, error) {
	entries, err := os.ReadDir(d.dir)
	if err != nil {
		return nil, fmt.Errorf("read drive: %w", err)
	}
	var out []string
	for _, e := range entries {
		if _, ok := parseName(e.Name(), k); ok {
			out = append(out, e.Name())
		}
	}
	if len(out) > MaxNames {
		return nil, fmt.Errorf("read drive: %w", ErrCrowded)
	}
	return out, nil
}

// Read reads a file of this package's names. Errors wrap ErrIrregular, ErrTooBig or
// fs.ErrNotExist.
func (d Drive) Read(name string) ([]byte, error) {
	k := Kind(filepath.Ext(name))
	if _, ok := parseName(name, k); !ok {
		return nil, fmt.Errorf("%s: %w", name, ErrIrregular)
	}
	file := filepath.Join(d.dir, name)
	// Looked at first: to open a device can do something.
	if info, err := os.Lstat(file); err != nil {
		return nil, err
	} else if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: %w", name, ErrIrregular)
	}
	f, err := os.OpenFile(file, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if errors.Is(err, syscall.ELOOP) {
		err = fmt.Errorf("%s: %w", name, ErrIrregular)
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%s: %w", name, ErrIrregular)
	}
	b, err := io.ReadAll(io.LimitReader(f, k.limit()+1))
	if err == nil && int64(len(b)) > k.limit() {
		err = fmt.Errorf("%s: %w", name, ErrTooBig)
	}
	if err != nil {
		return nil, fmt.Errorf("read drive: %w", err)
	}
	return b, nil
}

// Write makes a file hold b, durably: written under another name, synced, read
// back from the drive and compared, then renamed and the directory synced. ErrDrive
// when something else was read than written.
func (d Drive) Write(name string, b []byte) (err error) {
	if _, ok := parseName(name, Kind(filepath.Ext(name))); !ok {
		return fmt.Errorf("%s: %w", name, ErrIrregular)
	}
	tmp := filepath.Join(d.dir, name+temporary)
	// What lies there, be it a link, goes; O_EXCL follows none that comes after.
	if err := os.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("write to drive: %w", err)
	}
	defer func() {
		if err != nil {
			os.Remove(tmp)
			err = fmt.Errorf("write to drive: %w", err)
		}
	}()
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = forget(f)
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	if d.written != nil {
		d.written(tmp)
	}
	if back, err := os.ReadFile(tmp); err != nil {
		return err
	} else if !bytes.Equal(back, b) {
		return fmt.Errorf("%s: %w", name, ErrDrive)
	}
	if err := os.Rename(tmp, filepath.Join(d.dir, name)); err != nil {
		return err
	}
	return d.sync()
}

func (d Drive) sync() error {
	f, err := os.Open(d.dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// Remove removes a file; that it is gone already is fine.
func (d Drive) Remove(name string) error {
	if _, ok := parseName(name, Kind(filepath.Ext(name))); !ok {
		return fmt.Errorf("%s: %w", name, ErrIrregular)
	}
	if err := os.Remove(filepath.Join(d.dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove from drive: %w", err)
	}
	return nil
}

// Clear removes what an interrupted export left: unfinished files, and records that
// no manifest names. It removes nothing while a manifest cannot be read: whose
// records are whose is not known then.
func (d Drive) Clear() error {
	entries, err := os.ReadDir(d.dir)
	if err != nil {
		return fmt.Errorf("read drive: %w", err)
	}
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), temporary)
		if _, ours := parseName(name, Kind(filepath.Ext(name))); ok && ours && e.Type().IsRegular() {
			if err := os.Remove(filepath.Join(d.dir, e.Name())); err != nil {
				return fmt.Errorf("remove from drive: %w", err)
			}
		}
	}
	named, err := d.named()
	if err != nil {
		return nil
	}
	names, err := d.Names(Records)
	if err != nil {
		return err
	}
	for _, name := range names {
		if !named[name] {
			if err := d.Remove(name); err != nil {
				return err
			}
		}
	}
	return nil
}

// Manifest reads and verifies a manifest, see Verify. ErrDamaged when its name is
// not that of its bytes.
func (d Drive) Manifest(name string, isKiosk func(id string, key crypto.PublicKey) error) (Signed, []byte, error) {
	b, err := d.Read(name)
	if err != nil {
		return Signed{}, nil, err
	}
	if ManifestName(b) != name {
		return Signed{}, nil, ErrDamaged
	}
	s, err := Verify(b, isKiosk)
	return s, b, err
}

// named are the files that the manifests here name, whoever signed them.
func (d Drive) named() (map[string]bool, error) {
	names, err := d.Names(Manifests)
	if err != nil {
		return nil, err
	}
	out := map[string]bool{}
	for _, name := range names {
		s, _, err := d.Manifest(name, func(string, crypto.PublicKey) error { return nil })
		if err != nil {
			return nil, err
		}
		for _, f := range s.Manifest().Files {
			out[f.Name()] = true
		}
	}
	return out, nil
}
