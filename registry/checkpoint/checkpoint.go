// Package checkpoint is what anyone can check of the public log without the
// registry's help: signed checkpoints (C2SP tlog-checkpoint) with witnesses'
// cosignatures (C2SP tlog-cosignature), trees read from tiles that are proved
// against a checkpoint (C2SP tlog-tiles), and a durable memory of the newest
// checkpoint seen, from which a log that shows two faces is told.
//
// Invariants: a [Checkpoint] was signed by its log and by as many witnesses as
// asked for; what a [Tree] returns has been proved against its checkpoint; a
// [Keeper] never follows a checkpoint that contradicts the one before it, and
// never overwrites evidence. Not its job: transport, and records.
package checkpoint

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/transparency-dev/formats/log"
	cosignature "github.com/transparency-dev/formats/note"
	"golang.org/x/mod/sumdb/note"
)

// MaxSize is the largest signed checkpoint, in bytes.
const MaxSize = 16 << 10

// MaxWitnesses bounds a log's list of witnesses: their cosignatures have to fit
// a receipt.
const MaxWitnesses = 16

// maxTree bounds the number of leaves: indexes of hashes stay within an int64.
const maxTree = 1 << 60

// Errors of this package.
var (
	ErrKey       = errors.New("checkpoint-key: not the verifier key of a log, or not those of its witnesses")
	ErrForm      = errors.New("checkpoint-form: the checkpoint is malformed")
	ErrSignature = errors.New("checkpoint-signature: the checkpoint is not signed by the log")
	ErrWitnesses = errors.New("checkpoint-witnesses: too few witnesses have cosigned the checkpoint")
	ErrTiles     = errors.New("checkpoint-tiles: the log does not show the tree that it has signed")
	ErrSplit     = errors.New("checkpoint-split: the log has signed two trees that contradict each other")
	ErrBehind    = errors.New("checkpoint-behind: the log shows an older tree than before")
	ErrEnded     = errors.New("the key that signed it had ended before: the log did not sign this tree")
	ErrKept      = errors.New("checkpoint-kept: the checkpoint kept here is damaged: have it looked at, then move it away")
)

// Log is what a log's checkpoints are held against.
type Log struct {
	Key string // verifier key (C2SP signed-note, Ed25519); its name is the log's origin
	// Earlier are the keys that signed before Key, the latest first: those that have
	// not ended yet, and after them those that have, at sizes that do not grow.
	Earlier []Earlier
	// Witnesses are verifier keys of algorithm 0x04 (C2SP tlog-cosignature,
	// Ed25519): "name+hash+base64".
	Witnesses []string
	Quorum    int // so many of Witnesses must have cosigned; 0 asks for none
	// From is the number of leaves from which on the quorum is asked for: smaller
	// trees are from before there were witnesses.
	From uint64
}

// Checkpoint is a verified one; only Log.Open makes it.
type Checkpoint struct{ c *opened }

type opened struct {
	bytes    []byte
	signers  []string // of the log's keys
	origin   string
	size     uint64
	root     [32]byte
	cosigned []Cosignature
}

// Cosignature says that a witness has seen the log grow without a
// contradiction, up to this checkpoint.
type Cosignature struct {
	Witness string
	Time    time.Time // by the witness's clock, whole seconds
}

// Check holds that the keys are keys: the log's, under one name, and each witness
// once under one name and one key, none of them the log's. Errors wrap ErrKey.
func (l Log) Check() error {
	_, err := l.verifiers()
	return err
}

type verifiers struct {
	log       []note.Verifier // Key's, and those of Earlier
	witnesses []note.Verifier
}

func (l Log) verifiers() (v verifiers, err error) {
	if len(l.Witnesses) > MaxWitnesses || l.Quorum < 0 || l.Quorum > len(l.Witnesses) {
		return v, fmt.Errorf("%w: quorum of %d among %d witnesses", ErrKey, l.Quorum, len(l.Witnesses))
	}
	if err := l.checkEnds(); err != nil {
		return v, err
	}
	var keys [][]byte
	known := func(key []byte) bool {
		return slices.ContainsFunc(keys, func(k []byte) bool { return bytes.Equal(k, key) })
	}
	for _, vkey := range l.keys() {
		one, err := note.NewVerifier(vkey)
		if err != nil {
			return v, fmt.Errorf("%w: log: %w", ErrKey, err)
		}
		_, _, key, err := splitKey(vkey)
		if err != nil {
			return v, err
		}
		if one.Name() != Name(l.Key) || known(key[1:]) {
			return v, fmt.Errorf("%w: log: %q is of another log, or is there twice", ErrKey, vkey)
		}
		keys, v.log = append(keys, key[1:]), append(v.log, one)
	}
	names := []string{Name(l.Key)}
	for _, w := range l.Witnesses {
		one, key, err := witness(w)
		if err != nil {
			return v, err
		}
		if slices.Contains(names, one.Name()) || known(key) {
			return v, fmt.Errorf("%w: witness %q: its name or key is there twice", ErrKey, one.Name())
		}
		keys, names, v.witnesses = append(keys, key), append(names, one.Name()), append(v.witnesses, one)
	}
	return v, nil
}

// cosignatureV1 is the algorithm of an Ed25519 cosignature/v1 key (C2SP signed-note, signature types).
const cosignatureV1 = 0x04

// witness reads a witness's verifier key. The library takes keys of other
// algorithms and does not look at the hash.
func witness(vkey string) (note.Verifier, []byte, error) {
	_, hash, key, err := splitKey(vkey)
	if err != nil {
		return nil, nil, err
	}
	if key[0] != cosignatureV1 || len(key) != 1+ed25519.PublicKeySize {
		return nil, nil, fmt.Errorf("%w: witness %q: not an Ed25519 cosignature/v1 key", ErrKey, vkey)
	}
	v, err := cosignature.NewVerifierForCosignatureV1(vkey)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: witness %q: %w", ErrKey, vkey, err)
	}
	if fmt.Sprintf("%08x", v.KeyHash()) != hash {
		return nil, nil, fmt.Errorf("%w: witness %q: its hash is not the key's", ErrKey, vkey)
	}
	return v, key[1:], nil
}

func splitKey(vkey string) (name, hash string, key []byte, err error) {
	parts := strings.SplitN(vkey, "+", 3)
	if len(parts) == 3 {
		key, err = base64.StdEncoding.Strict().DecodeString(parts[2])
	}
	if len(parts) != 3 || err != nil || len(key) < 2 {
		return "", "", nil, fmt.Errorf("%w: %q", ErrKey, vkey)
	}
	return parts[0], parts[1], key, nil
}

// Name is a verifier key's name: a log's origin, or a witness's name.
func Name(vkey string) string {
	name, _, _ := strings.Cut(vkey, "+")
	return name
}

// Open verifies a signed checkpoint. Errors wrap ErrKey, ErrForm, ErrSignature or
// ErrWitnesses; ErrSignature may be ErrEnded besides.
func (l Log) Open(signed []byte) (Checkpoint, error) {
	of, err := l.verifiers()
	if err != nil {
		return Checkpoint{}, err
	}
	if len(signed) > MaxSize {
		return Checkpoint{}, fmt.Errorf("%w: %d bytes", ErrForm, len(signed))
	}
	n, err := note.Open(signed, note.VerifierList(slices.Concat(of.witnesses, of.log)...))
	if err != nil {
		return Checkpoint{}, fmt.Errorf("%w: %w", ErrSignature, err)
	}
	c := &opened{bytes: bytes.Clone(signed), origin: Name(l.Key)}
	byLog := func(s note.Signature) bool {
		return slices.ContainsFunc(of.log, func(v note.Verifier) bool { return s.Name == v.Name() && s.Hash == v.KeyHash() })
	}
	for i, vkey := range l.keys() {
		if slices.ContainsFunc(n.Sigs, func(s note.Signature) bool { return s.Name == of.log[i].Name() && s.Hash == of.log[i].KeyHash() }) {
			c.signers = append(c.signers, vkey)
		}
	}
	if c.signers == nil {
		return Checkpoint{}, ErrSignature
	}
	var text log.Checkpoint
	rest, err := text.Unmarshal([]byte(n.Text))
	if err != nil || len(rest) > 0 || len(text.Hash) != sha256.Size || text.Size > maxTree || string(text.Marshal()) != n.Text {
		return Checkpoint{}, fmt.Errorf("%w: its text", ErrForm)
	}
	if text.Origin != c.origin {
		return Checkpoint{}, fmt.Errorf("%w: the origin is %q", ErrSignature, text.Origin)
	}
	c.size, c.root = text.Size, [32]byte(text.Hash)
	if err := l.ended(c); err != nil {
		return Checkpoint{}, err
	}
	for _, s := range slices.Concat(n.Sigs, n.UnverifiedSigs) { // of witnesses that nobody asked for, too
		if _, err := base64.StdEncoding.Strict().DecodeString(s.Base64); err != nil {
			return Checkpoint{}, fmt.Errorf("%w: signature", ErrForm)
		}
	}
	for _, s := range n.Sigs { // each verifier's once: the note says so
		if byLog(s) {
			continue
		}
		at, err := cosignature.CoSigV1Timestamp(s)
		if err != nil {
			return Checkpoint{}, fmt.Errorf("%w: cosignature: %w", ErrForm, err)
		}
		c.cosigned = append(c.cosigned, Cosignature{s.Name, at.UTC()})
	}
	if len(c.cosigned) < l.Quorum && c.size >= l.From {
		return Checkpoint{}, fmt.Errorf("%w: %d of %d", ErrWitnesses, len(c.cosigned), l.Quorum)
	}
	return Checkpoint{c}, nil
}

// Valid is false for the zero value.
func (c Checkpoint) Valid() bool { return c.c != nil }

// Origin names the log.
func (c Checkpoint) Origin() string {
	if c.c == nil {
		return ""
	}
	return c.c.origin
}

// Size is the number of leaves that it covers.
func (c Checkpoint) Size() uint64 {
	if c.c == nil {
		return 0
	}
	return c.c.size
}

// Root is the tree's hash (RFC 6962 section 2.1).
func (c Checkpoint) Root() [32]byte {
	if c.c == nil {
		return [32]byte{}
	}
	return c.c.root
}

// SignedBy says whether a key, of those that the checkpoint was opened with, has
// signed it.
func (c Checkpoint) SignedBy(vkey string) bool {
	return c.c != nil && slices.Contains(c.c.signers, vkey)
}

// Bytes is the signed note.
func (c Checkpoint) Bytes() []byte {
	if c.c == nil {
		return nil
	}
	return bytes.Clone(c.c.bytes)
}

// Cosigned are the cosignatures of the log's witnesses, verified.
func (c Checkpoint) Cosigned() []Cosignature {
	if c.c == nil {
		return nil
	}
	return slices.Clone(c.c.cosigned)
}

func (c Checkpoint) String() string {
	root := c.Root()
	return fmt.Sprintf("%s at %d leaves, root %s", c.Origin(), c.Size(), hex.EncodeToString(root[:8]))
}
