package registry

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"

	"enrollkiosk/registry/api"
	"enrollkiosk/registry/checkpoint"
	"enrollkiosk/registry/internal/keyfile"
	"enrollkiosk/registry/policy"
)

// The log's key changes and the log stays: its origin, its tree, its leaves. What
// signs a checkpoint is decided by the policy that the registry is started with:
//
//	one      the policy has one key               it signs
//	made     RotateLog has made the next          as before: no policy names it
//	overlap  a policy names both                  both sign each checkpoint
//	retired  RetireLog has named the old one's    both sign, until a policy says so
//	         last tree
//	one      a policy says so                     the new one signs
//
// Why nothing falls between: what the old key alone has signed is from before the
// overlap, for no process begins to sign under an older policy than another had
// (runLog). The tree that RetireLog names bears both signatures, so it is at least
// as large as all of those. What is signed after it is good by the new key.
//
// A stolen key cannot be waited for. RotateLog with now has it end at the tree as it
// lies there, while no registry runs: the one that is started next signs with the
// new key alone.

// Errors of the rotation of the log's key.
var (
	ErrOverlap    = errors.New("the log has two keys already: have the next policy name both, and then say registry keys retire log")
	ErrNoOverlap  = errors.New("the log has no second key that could be retired")
	ErrEarly      = errors.New("kiosks may still have a policy without the log's new key")
	ErrBothKeys   = errors.New("the log has not published a checkpoint yet that both its keys have signed: start the registry with the policy that names them")
	ErrLogKeyLost = errors.New("the log's key that the policy names is not in this directory: say --now, and the next one takes its place at once")
	ErrServes     = errors.New("a registry runs and signs with this key: stop it first, wherever it runs")
)

// RotateLog makes the log's next key. Beside it the one before signs on from the
// next policy on, until RetireLog; with now it has signed its last tree, and what
// kiosks make from then on they can prove with the next policy only.
//
// Errors wrap ErrOverlap, ErrLogKeyLost, ErrServes (only with now) or ErrPolicy.
func RotateLog(dir string, p policy.Signed, now bool) (api.RegistryKeys, error) {
	return rotate(dir, func(pub *api.RegistryKeys) error {
		of, used, err := logInUse(*pub, p.Policy())
		if err != nil {
			return err
		}
		switch {
		case now:
			free, err := stopped(dir)
			if err != nil {
				return err
			}
			defer free()
			at, err := lastTree(filepath.Join(dir, dirLog))
			if err != nil {
				return err
			}
			of.Earlier = endAll(append([]checkpoint.Earlier{{Key: of.Key}}, of.Earlier...), at)
		case used && of.Key != pub.LogKey:
			return ErrLogKeyLost
		case !used || len(of.Earlier) > 0 && !of.Earlier[0].Ended():
			return ErrOverlap
		default:
			of.Earlier = append([]checkpoint.Earlier{{Key: of.Key}}, of.Earlier...)
		}
		if of.Key, err = newLogKey(dir, pub.Origin); err != nil {
			return err
		}
		pub.LogKey, pub.EarlierLogs = of.Key, of.Earlier
		return of.Check()
	})
}

// RetireLog has the log's older key end at the newest checkpoint, once every kiosk
// that may enroll has the policy that names the new one, or now. It waits for a
// checkpoint that both have signed as long as ctx lasts.
//
// Errors wrap ErrNoOverlap, ErrEarly, ErrBothKeys or ErrPolicy.
func RetireLog(ctx context.Context, dir string, p policy.Signed, now bool, at time.Time) (api.RegistryKeys, error) {
	return rotate(dir, func(pub *api.RegistryKeys) error {
		of, used, err := logInUse(*pub, p.Policy())
		switch {
		case err != nil:
			return err
		case !used || of.Key != pub.LogKey:
			return fmt.Errorf("%w: the one in force does not name the log's new key", ErrPolicy)
		case len(of.Earlier) == 0 || of.Earlier[0].Ended():
			return ErrNoOverlap
		}
		if known := p.Policy().Issued.AddDate(0, 0, int(p.Policy().OfflineDays)); !now && !at.After(known) {
			return fmt.Errorf("%w: until %s, or say --now", ErrEarly, known.Format(time.DateOnly))
		}
		last, err := bothSigned(ctx, dir, of)
		if err != nil {
			return err
		}
		pub.EarlierLogs = endAll(of.Earlier, checkpoint.Earlier{Size: last.Size(), Root: last.Root()})
		return pub.Log().Check()
	})
}

// logInUse is the log by the keys that have signed, as directory and policy know
// them together. used is false when the directory has a newer key, which no policy
// has named.
func logInUse(pub api.RegistryKeys, p policy.Policy) (of checkpoint.Log, used bool, err error) {
	of = pub.Log()
	isKey := func(key string) func(checkpoint.Earlier) bool {
		return func(e checkpoint.Earlier) bool { return e.Key == key }
	}
	i := slices.IndexFunc(of.Earlier, isKey(p.LogKey))
	switch {
	case p.LogKey == of.Key:
		return of, true, nil
	case i >= 0 && !of.Earlier[i].Ended():
		return checkpoint.Log{Key: p.LogKey, Earlier: of.Earlier[i+1:]}, false, nil
	case slices.ContainsFunc(p.EarlierLogs, isKey(of.Key)): // the directory was put back from before the rotation
		return p.Log().Unwitnessed(), true, nil
	}
	return of, false, fmt.Errorf("%w: log key", ErrPolicy)
}

// namesLog says whether a policy has the log's keys as the directory has them. It
// may be from before the last rotation, and may not know yet where a key ended,
// unless that is the key that would sign.
func namesLog(p policy.Policy, pub api.RegistryKeys) bool {
	ours := append([]checkpoint.Earlier{{Key: pub.LogKey}}, pub.EarlierLogs...)
	i := slices.IndexFunc(ours, func(e checkpoint.Earlier) bool { return e.Key == p.LogKey })
	if i < 0 || ours[i].Ended() {
		return false
	}
	return slices.EqualFunc(p.EarlierLogs, ours[i+1:], func(theirs, our checkpoint.Earlier) bool {
		return theirs == our || theirs.Key == our.Key && !theirs.Ended()
	})
}

// endAll has all keys end at a tree that did not end before.
func endAll(keys []checkpoint.Earlier, at checkpoint.Earlier) []checkpoint.Earlier {
	keys = slices.Clone(keys)
	for i, e := range keys {
		if !e.Ended() {
			keys[i].Size, keys[i].Root = at.Size, at.Root
		}
	}
	return keys
}

// stopped holds the directory and its log until free is called: nobody signs.
func stopped(dir string) (free func(), err error) {
	own, err := lockDir(dir)
	if errors.Is(err, errStoreBusy) {
		return nil, ErrServes
	}
	if err != nil {
		return nil, err
	}
	log, err := lockDir(filepath.Join(dir, dirLog)) // others may share it
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return func() { own.Close() }, nil
	case errors.Is(err, errStoreBusy):
		return nil, errors.Join(ErrServes, own.Close())
	case err != nil:
		return nil, errors.Join(err, own.Close())
	}
	return func() { log.Close(); own.Close() }, nil
}

// tree is the content of treeState.
type tree struct {
	Size uint64 `json:"size"`
	Root []byte `json:"root"`
}

// lastTree is the tree of the log in a directory.
func lastTree(dir string) (checkpoint.Earlier, error) {
	b, err := os.ReadFile(filepath.Join(dir, treeState))
	if errors.Is(err, fs.ErrNotExist) {
		return checkpoint.Earlier{Root: sha256.Sum256(nil)}, nil // never begun
	}
	var t tree
	if err == nil {
		err = json.Unmarshal(b, &t)
	}
	if err == nil && t.Size == 0 {
		return checkpoint.Earlier{Root: sha256.Sum256(nil)}, nil
	}
	if err == nil && len(t.Root) != sha256.Size {
		err = errors.New("no root")
	}
	if err != nil {
		return checkpoint.Earlier{}, fmt.Errorf("tree of the log: %w", err)
	}
	return checkpoint.Earlier{Size: t.Size, Root: [32]byte(t.Root)}, nil
}

// publishedPause is between looks at what the registry has published.
const publishedPause = 50 * time.Millisecond

// bothSigned waits for a checkpoint that all keys have signed that sign now.
func bothSigned(ctx context.Context, dir string, of checkpoint.Log) (checkpoint.Checkpoint, error) {
	for {
		b, err := os.ReadFile(filepath.Join(dir, dirLog, checkpoint.PathCheckpoint))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return checkpoint.Checkpoint{}, fmt.Errorf("own checkpoint: %w", err)
		}
		if err == nil {
			c, err := of.Open(b)
			if err != nil {
				return c, fmt.Errorf("own checkpoint: %w", err)
			}
			if signedByAll(c, of) {
				return c, nil
			}
		}
		select {
		case <-ctx.Done():
			return checkpoint.Checkpoint{}, ErrBothKeys
		case <-time.After(publishedPause):
		}
	}
}

// signing are the keys that sign a log's checkpoints, the present one first.
func signing(of checkpoint.Log) []string {
	keys := []string{of.Key}
	for _, e := range of.Earlier {
		if !e.Ended() {
			keys = append(keys, e.Key)
		}
	}
	return keys
}

func signedByAll(c checkpoint.Checkpoint, of checkpoint.Log) bool {
	return !slices.ContainsFunc(signing(of), func(key string) bool { return !c.SignedBy(key) })
}

// newLogKey makes a key for the log in a file of its own.
func newLogKey(dir, origin string) (vkey string, err error) {
	skey, vkey, err := note.GenerateKey(rand.Reader, origin)
	if err != nil {
		return "", fmt.Errorf("log key: %w", err)
	}
	name := keyfile.Next(dir, strings.TrimSuffix(fileLogKey, ".key"), ".key") + ".key"
	return vkey, keyfile.WriteNew(filepath.Join(dir, name), []byte(skey+"\n"), 0o600)
}

// logSigners are the private halves of the keys that sign, the present one first.
func logSigners(dir string, of checkpoint.Log) (signers []note.Signer, err error) {
	files, err := filepath.Glob(filepath.Join(dir, strings.TrimSuffix(fileLogKey, ".key")+"*.key"))
	if err != nil {
		return nil, err
	}
	var all []note.Signer
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("read log key: %w", err)
		}
		signer, err := note.NewSigner(strings.TrimSpace(string(b)))
		if err != nil {
			return nil, fmt.Errorf("read log key: %s holds none", file) // the cause could quote it
		}
		all = append(all, signer)
	}
	for _, vkey := range signing(of) {
		i := slices.IndexFunc(all, func(s note.Signer) bool {
			return strings.HasPrefix(vkey, fmt.Sprintf("%s+%08x+", s.Name(), s.KeyHash()))
		})
		if i < 0 {
			return nil, fmt.Errorf("read log key: %s: %w", vkey, fs.ErrNotExist)
		}
		signers = append(signers, all[i])
	}
	return signers, nil
}

// errOutdated keeps a process from the log that would sign with fewer keys than
// another has, or with one that has ended.
var errOutdated = errors.New("another registry was started with a newer policy, which names other keys of the log: start this one with it")

// outdated is errOutdated when a newer policy than this process's names other keys.
func (r *Registry) outdated(ctx context.Context) error {
	kept, err := r.store.Policies(ctx)
	if err != nil {
		return fmt.Errorf("load policies: %w", err)
	}
	own := r.opts.Policy.Policy()
	for _, k := range kept {
		s, err := policy.Parse(k.signed, r.opts.Root)
		if err != nil {
			continue // of another root: see loadPolicies
		}
		if p := s.Policy(); p.Version > own.Version && (p.LogKey != own.LogKey || !slices.Equal(p.EarlierLogs, own.EarlierLogs)) {
			return errOutdated
		}
	}
	return nil
}
