package checkpoint

import (
	"encoding/base64"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Earlier is a key with which a log signed before its present one. What it alone
// has signed is believed up to the tree at which it ended: whoever steals it later
// can sign nothing that is larger.
type Earlier struct {
	Key  string   `json:"key"`           // verifier key, of the log's name
	Size uint64   `json:"size,omitzero"` // leaves of the last tree
	Root [32]byte `json:"root,omitzero"` // of that tree; zero: the key has not ended yet, and signs beside the present one
}

// MaxEarlier bounds a log's list of earlier keys.
const MaxEarlier = 32

// Ended is false for a key that signs beside the present one still.
func (e Earlier) Ended() bool { return e.Root != [32]byte{} }

// covers says whether a tree may be one of this key's.
func (e Earlier) covers(size uint64, root [32]byte) bool {
	return !e.Ended() || size < e.Size || size == e.Size && root == e.Root
}

// keys are the log's, the present one first.
func (l Log) keys() []string {
	out := []string{l.Key}
	for _, e := range l.Earlier {
		out = append(out, e.Key)
	}
	return out
}

// checkEnds holds that keys ended one after another.
func (l Log) checkEnds() error {
	if len(l.Earlier) > MaxEarlier {
		return fmt.Errorf("%w: %d earlier keys", ErrKey, len(l.Earlier))
	}
	for i, e := range l.Earlier {
		wrong := !e.Ended() && e.Size > 0 || e.Size > maxTree
		if i > 0 {
			later := l.Earlier[i-1] // ended, if at all, no earlier
			wrong = wrong || later.Ended() && (!e.Ended() || e.Size > later.Size || e.Size == later.Size && e.Root != later.Root)
		}
		if wrong {
			return fmt.Errorf("%w: log: where %q ended", ErrKey, e.Key)
		}
	}
	return nil
}

// ended refuses what only keys that ended before have signed.
func (l Log) ended(c *opened) error {
	if slices.Contains(c.signers, l.Key) {
		return nil
	}
	var latest Earlier
	for _, e := range l.Earlier {
		if slices.Contains(c.signers, e.Key) {
			if e.covers(c.size, c.root) {
				return nil
			}
			latest = e
		}
	}
	return fmt.Errorf("%w: %w: it ended at %d leaves, this tree has %d", ErrSignature, ErrEnded, latest.Size, c.size)
}

// Ends are the sizes of the trees at which keys ended: Keeper.Follow wants them proved.
func (l Log) Ends() (sizes []uint64) {
	for _, e := range l.Earlier {
		if e.Ended() {
			sizes = append(sizes, e.Size)
		}
	}
	return sizes
}

// Unwitnessed is the log without its witnesses: for what they are yet to see, or
// did not have to.
func (l Log) Unwitnessed() Log { return Log{Key: l.Key, Earlier: l.Earlier} }

// unended is the log as its keys have ever signed, whoever has them now.
func (l Log) unended() Log {
	out := Log{Key: l.Key}
	for _, e := range l.Earlier {
		out.Earlier = append(out.Earlier, Earlier{Key: e.Key})
	}
	return out
}

// disowns says of a checkpoint that was believed once that it is so no more: only
// keys have signed it that ended before.
func (l Log) disowns(c Checkpoint) bool { return c.Valid() && l.ended(c.c) != nil }

// Past says of a checkpoint that only keys have signed it that have ended by now:
// when it contradicts one of the present key, it is the one that is wrong.
func (l Log) Past(c Checkpoint) bool {
	return c.Valid() && !c.SignedBy(l.Key) && !slices.ContainsFunc(l.Earlier, func(e Earlier) bool { return !e.Ended() && c.SignedBy(e.Key) })
}

// Keys are the log's keys in the text that people hand on, a line for each, the
// present one first:
//
//	KEY                  a verifier key
//	KEY SIZE ROOT        one that ended, at so many leaves; ROOT is in base64, as in checkpoints
func (l Log) Keys() []string {
	out := l.keys()
	for i, e := range l.Earlier {
		if e.Ended() {
			out[i+1] = fmt.Sprintf("%s %d %s", e.Key, e.Size, base64.StdEncoding.EncodeToString(e.Root[:]))
		}
	}
	return out
}

// ParseKeys is the inverse of Keys. Each text may have several lines. Errors wrap
// ErrKey.
func ParseKeys(texts ...string) (Log, error) {
	var l Log
	for _, text := range texts {
		for line := range strings.SplitSeq(strings.TrimSuffix(text, "\n"), "\n") {
			e, err := parseKey(line)
			switch {
			case err != nil:
				return Log{}, err
			case l.Key == "" && e.Ended():
				return Log{}, fmt.Errorf("%w: the present one comes first", ErrKey)
			case l.Key == "":
				l.Key = e.Key
			default:
				l.Earlier = append(l.Earlier, e)
			}
		}
	}
	if err := l.Check(); err != nil {
		return Log{}, err
	}
	return l, nil
}

func parseKey(line string) (Earlier, error) {
	fields := strings.Split(line, " ")
	e := Earlier{Key: fields[0]}
	if len(fields) == 1 && e.Key != "" {
		return e, nil
	}
	if len(fields) != 3 {
		return e, fmt.Errorf("%w: %q: want KEY, or KEY SIZE ROOT", ErrKey, line)
	}
	var err error
	if e.Size, err = strconv.ParseUint(fields[1], 10, 64); err != nil || strconv.FormatUint(e.Size, 10) != fields[1] {
		return e, fmt.Errorf("%w: %q: the size", ErrKey, line)
	}
	root, err := base64.StdEncoding.Strict().DecodeString(fields[2])
	if err != nil || len(root) != len(e.Root) || strings.ContainsAny(fields[2], "\r\n") {
		return e, fmt.Errorf("%w: %q: the root", ErrKey, line)
	}
	if e.Root = [32]byte(root); !e.Ended() {
		return e, fmt.Errorf("%w: %q: the root", ErrKey, line)
	}
	return e, nil
}
