// Package store keeps, on the citizen's own machine, which website has which index of
// the token's keys, and the credentials that were collected: one file for each token,
// sealed under a key that only the token gives (sitekey.MapKey).
//
// The file is "enrollkiosk-holder", 00, a version, 01; the token's id (16 bytes); then
// AES-256-GCM with a random nonce before the ciphertext, over the JSON of its contents,
// the bytes before it as associated data. It is written whole and renamed.
//
// Invariants: an index belongs to one website for ever, and that is on the disk before
// anybody is shown it. A file that cannot be read is never written over. Two machines
// that do not know of one another never use the same index: a new file starts at a
// random one, and an export holds used indices alone.
//
// Non-goals: holding keys; telling a file apart from an older copy of itself. Who
// copies the file, instead of exporting it, and uses both may give one index to two
// websites.
package store

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/big"
	"os"
	"slices"
	"time"

	"enrollkiosk/kiosk/durable"
)

const (
	magic   = "enrollkiosk-holder\x00"
	version = 1
	maxFile = 16 << 20 // bytes

	maxStart = 1 << 62 // of a new file's indices: counting on never reaches 2^64
)

// Errors of a file, each of which leaves it as it is.
var (
	ErrForm       = errors.New("this is no file of a holder's helper: move it away and collect anew, or import an export")
	ErrVersion    = errors.New("the file was written by another version of the helper: use that one")
	ErrOtherToken = errors.New("the file belongs to another token: use that one")
	ErrDamaged    = errors.New("the file was altered or damaged: move it away and import your last export")
)

// Errors of its contents.
var (
	ErrNoneLeft = errors.New("no unused credential is left: collect more")
	ErrUnknown  = errors.New("no website of this name is in the file")
	ErrIndex    = errors.New("an index that was never reserved")
)

// Entry is one index.
type Entry struct {
	Index      uint64    `json:"index"`
	Type       string    `json:"vct"`
	Site       string    `json:"site,omitempty"` // its DNS name; empty: unused
	Credential string    `json:"credential"`     // compact form, as issued
	Expires    time.Time `json:"expires"`
}

type contents struct {
	Next    uint64  `json:"next"` // the first index that nobody was given; 0 in an export
	Entries []Entry `json:"entries"`
}

// Store is an open file. It is not safe for concurrent use, and one process alone
// holds it: see package holder.
type Store struct {
	file string
	head []byte // magic, version, token: the associated data
	aead cipher.AEAD
	now  contents
}

// Open reads a token's file; a missing one is empty and is made by the first change.
// id is sitekey.TokenID, key sitekey.MapKey's; the caller erases key.
//
// Errors: ErrForm, ErrVersion, ErrOtherToken, ErrDamaged, those of the file system.
func Open(file string, id [16]byte, key []byte) (*Store, error) {
	s, err := sealer(file, id, key)
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	b, err := read(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		start, err := rand.Int(rand.Reader, big.NewInt(maxStart))
		if err != nil {
			return nil, fmt.Errorf("open store: %w", err)
		}
		s.now.Next = start.Uint64()
		return s, nil
	case err == nil:
		s.now, err = s.open(b)
	}
	if err != nil {
		return nil, fmt.Errorf("open store %s: %w", file, err)
	}
	return s, nil
}

func sealer(file string, id [16]byte, key []byte) (*Store, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, err
	}
	return &Store{file: file, head: append(append([]byte(magic), version), id[:]...), aead: aead}, nil
}

func read(file string) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(b) > maxFile {
		err = ErrForm
	}
	return b, err
}

// open says as exactly as it can what is wrong with bytes before it needs the key.
func (s *Store) open(b []byte) (c contents, err error) {
	switch {
	case len(b) < len(s.head) || !bytes.HasPrefix(b, []byte(magic)):
		return c, ErrForm
	case b[len(magic)] != version:
		return c, fmt.Errorf("version %d: %w", b[len(magic)], ErrVersion)
	case !bytes.Equal(b[:len(s.head)], s.head):
		return c, ErrOtherToken
	}
	plain, err := s.aead.Open(nil, nil, b[len(s.head):], s.head)
	if err != nil {
		return c, ErrDamaged
	}
	defer clear(plain)
	// Whoever has the key wrote this; a mistake of ours shall still be seen.
	d := json.NewDecoder(bytes.NewReader(plain))
	d.DisallowUnknownFields()
	if err := d.Decode(&c); err != nil {
		return contents{}, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return c, c.check()
}

// check holds that no index stands twice, and no site twice for one type.
func (c contents) check() error {
	indices, sites := map[uint64]bool{}, map[[2]string]bool{}
	for _, e := range c.Entries {
		site := [2]string{e.Site, e.Type}
		if indices[e.Index] || e.Site != "" && sites[site] || e.Type == "" {
			return fmt.Errorf("index %d stands twice: %w", e.Index, ErrDamaged)
		}
		indices[e.Index], sites[site] = true, true
	}
	return nil
}

func (s *Store) seal(c contents) ([]byte, error) {
	plain, err := json.Marshal(c)
	if err != nil {
		return nil, err
	}
	defer clear(plain)
	return s.aead.Seal(bytes.Clone(s.head), nil, plain, s.head), nil
}

// change writes what the contents are to be, and only then lets them be so.
func (s *Store) change(c contents) error {
	if err := c.check(); err != nil {
		return fmt.Errorf("write store: %w", err)
	}
	b, err := s.seal(c)
	if err != nil {
		return fmt.Errorf("write store: %w", err)
	}
	if len(b) > maxFile {
		return fmt.Errorf("write store: more than %d bytes: %w", maxFile, ErrForm)
	}
	if err := durable.Replace(s.file, b); err != nil {
		return fmt.Errorf("write store: %w", err)
	}
	s.now = c
	return nil
}

// Entries are all indices, in the order of their collection.
func (s *Store) Entries() []Entry { return slices.Clone(s.now.Entries) }

// Reserve takes n indices that nobody was given and nobody will be given again, even
// if their credentials never arrive.
func (s *Store) Reserve(n int) ([]uint64, error) {
	indices := make([]uint64, n)
	for i := range indices {
		indices[i] = s.now.Next + uint64(i)
	}
	c := s.now
	c.Next += uint64(n)
	return indices, s.change(c)
}

// Keep stores a batch, all or nothing: credentials of reserved indices, and renewed
// ones, whose site stays what it is.
func (s *Store) Keep(batch []Entry) error {
	c := contents{s.now.Next, slices.Clone(s.now.Entries)}
	for _, e := range batch {
		i := slices.IndexFunc(c.Entries, func(old Entry) bool { return old.Index == e.Index && old.Type == e.Type })
		switch {
		case i >= 0:
			e.Site = c.Entries[i].Site
			c.Entries[i] = e
		case e.Index < c.Next:
			e.Site = ""
			c.Entries = append(c.Entries, e)
		default:
			return fmt.Errorf("keep index %d: %w", e.Index, ErrIndex)
		}
	}
	return s.change(c)
}

// Assign is the index of a website for one type of credential. A new website gets an
// unused one whose credential is good at the time now, drawn by lot, so that the order
// of issue tells nothing; it is on the disk when Assign returns.
//
// Errors: ErrNoneLeft.
func (s *Store) Assign(site, vct string, now time.Time) (Entry, error) {
	if site == "" {
		return Entry{}, ErrUnknown
	}
	var unused []int
	for i, e := range s.now.Entries {
		switch {
		case e.Type != vct:
		case e.Site == site:
			return e, nil
		case e.Site == "" && e.Expires.After(now):
			unused = append(unused, i)
		}
	}
	if len(unused) == 0 {
		return Entry{}, ErrNoneLeft
	}
	lot, err := rand.Int(rand.Reader, big.NewInt(int64(len(unused))))
	if err != nil {
		return Entry{}, err
	}
	i := unused[lot.Int64()]
	c := contents{s.now.Next, slices.Clone(s.now.Entries)}
	c.Entries[i].Site = site
	return c.Entries[i], s.change(c)
}

// Unused counts the credentials of a type that are good at the time now and belong to
// no website.
func (s *Store) Unused(vct string, now time.Time) (n int) {
	for _, e := range s.now.Entries {
		if e.Type == vct && e.Site == "" && e.Expires.After(now) {
			n++
		}
	}
	return n
}

// Forget removes a website: the next visit there is a stranger's. Its indices are
// given to nobody else.
//
// Errors: ErrUnknown.
func (s *Store) Forget(site string) error {
	c := contents{s.now.Next, slices.DeleteFunc(slices.Clone(s.now.Entries), func(e Entry) bool { return site != "" && e.Site == site })}
	if len(c.Entries) == len(s.now.Entries) {
		return ErrUnknown
	}
	return s.change(c)
}

// Export is a file for another machine, where the same token gives the same
// pseudonyms: websites with their indices. Unused credentials stay here, so that no
// index is given to two websites.
func (s *Store) Export() ([]byte, error) {
	used := slices.DeleteFunc(slices.Clone(s.now.Entries), func(e Entry) bool { return e.Site == "" })
	return s.seal(contents{0, used})
}

// Import adds what another machine exported. Where this machine has another pseudonym
// at a website, its own stays; conflicts names these. Of two credentials for one index
// the later one stays.
//
// Errors: those of Open.
func (s *Store) Import(b []byte) (added int, conflicts []string, err error) {
	if len(b) > maxFile {
		return 0, nil, fmt.Errorf("import: %w", ErrForm)
	}
	in, err := s.open(b)
	if err != nil {
		return 0, nil, fmt.Errorf("import: %w", err)
	}
	c := contents{s.now.Next, slices.Clone(s.now.Entries)}
	for _, e := range in.Entries {
		if e.Site == "" { // a copied store: what it has not used, it may still use
			continue
		}
		here := slices.IndexFunc(c.Entries, func(o Entry) bool { return o.Index == e.Index || o.Site == e.Site && o.Type == e.Type })
		switch {
		case here < 0:
			c.Entries = append(c.Entries, e)
			added++
		case c.Entries[here].Index == e.Index && c.Entries[here].Type == e.Type && (c.Entries[here].Site == "" || c.Entries[here].Site == e.Site):
			if c.Entries[here].Site == "" {
				added++
			}
			if c.Entries[here].Expires.After(e.Expires) {
				e.Credential, e.Expires = c.Entries[here].Credential, c.Entries[here].Expires
			}
			c.Entries[here] = e
		default:
			conflicts = append(conflicts, e.Site)
		}
	}
	if err := s.change(c); err != nil {
		return 0, nil, fmt.Errorf("import: %w", err)
	}
	return added, conflicts, nil
}
