package policy

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"slices"
	"time"

	"enrollkiosk/registry/internal/canonical"
	"enrollkiosk/registry/record"
)

// A root key is followed by the next as in TUF (section 5.3): the new root says
// that it follows the old one, and the old root signs that. Every policy brings
// all successions since the first root, so that whoever pins any of them can walk
// from there to the root that signed, and has nothing more to fetch or to keep.

// Types of the two JWS, the second around the first.
const (
	ProposalType   = "enrollkiosk-root+jws"            // by the new root
	SuccessionType = "enrollkiosk-root-succession+jws" // by the old root; its payload is the proposal
)

// Bounds of what is read.
const (
	maxSuccession  = 8 << 10 // bytes
	maxSuccessions = 32      // in a policy
)

// Errors about roots.
var (
	ErrSuccession = errors.New("root-succession: this is not the succession of a root key")
	ErrFork       = errors.New("policy-fork: two root keys claim to follow the same one: somebody has a root key who should not: call the authority")
)

// Succession is one root key's handing over to the next.
type Succession struct {
	Number uint64     `json:"number"` // of the new root; the first of all is 1
	Issued time.Time  `json:"issued"` // whole seconds, UTC; for people
	From   [32]byte   `json:"from"`   // RootHash of the old root
	Root   record.JWK `json:"root"`   // the new root's key
}

// To is the RootHash of the new root.
func (s Succession) To() ([32]byte, error) {
	key, err := s.Root.Public()
	if err != nil {
		return [32]byte{}, err
	}
	return RootHash(key)
}

func (s Succession) check() error {
	if s.Number < 2 || s.Number > maxSuccessions+1 || s.Issued.IsZero() {
		return errors.New("number or time")
	}
	to, err := s.To()
	if err != nil {
		return err
	}
	if to == s.From {
		return errors.New("a root that follows itself")
	}
	return nil
}

// Propose signs, with the new root's key, that it follows another root. s.Root is
// set to that key.
func Propose(ctx context.Context, s Succession, next record.Signer) ([]byte, error) {
	var err error
	if s.Root, err = record.NewJWK(next.Public()); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSuccession, err)
	}
	s.Issued = s.Issued.UTC().Truncate(time.Second)
	if err := s.check(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSuccession, err)
	}
	return record.SignCompact(ctx, ProposalType, canonical.Marshal(s), next)
}

// Succeed signs a proposal with the old root's key. From then on the new root can
// do whatever the old one could.
func Succeed(ctx context.Context, proposal []byte, old record.Signer) ([]byte, error) {
	s, err := ParseProposal(proposal)
	if err != nil {
		return nil, err
	}
	if from, err := RootHash(old.Public()); err != nil || from != s.From {
		return nil, fmt.Errorf("%w: it follows another root than this", ErrSuccession)
	}
	return record.SignCompact(ctx, SuccessionType, proposal, old)
}

// ParseProposal verifies what Propose made. That a new root says so makes it none:
// see Succeed. Errors wrap ErrSuccession.
func ParseProposal(b []byte) (s Succession, err error) {
	if len(b) > maxSuccession {
		return s, fmt.Errorf("%w: %d bytes", ErrSuccession, len(b))
	}
	var by [32]byte
	payload, err := record.VerifyCompact(b, ProposalType, func(pub crypto.PublicKey) bool {
		hash, err := RootHash(pub)
		by = hash
		return err == nil
	})
	if err == nil {
		err = canonical.Unmarshal(payload, &s)
	}
	if err == nil {
		err = s.check()
	}
	if err == nil {
		var to [32]byte
		if to, err = s.To(); err == nil && to != by {
			err = errors.New("signed by another key than the new root's")
		}
	}
	if err != nil {
		return Succession{}, fmt.Errorf("%w: %w", ErrSuccession, err)
	}
	return s, nil
}

// ParseSuccession verifies that the old root and the new one have both signed.
// Which root is to be trusted it does not say. Errors wrap ErrSuccession.
func ParseSuccession(b []byte) (Succession, error) {
	if len(b) > maxSuccession {
		return Succession{}, fmt.Errorf("%w: %d bytes", ErrSuccession, len(b))
	}
	var by [32]byte
	proposal, err := record.VerifyCompact(b, SuccessionType, func(pub crypto.PublicKey) bool {
		hash, err := RootHash(pub)
		by = hash
		return err == nil
	})
	if err != nil {
		return Succession{}, fmt.Errorf("%w: %w", ErrSuccession, err)
	}
	s, err := ParseProposal(proposal)
	if err != nil {
		return Succession{}, err
	}
	if s.From != by {
		return Succession{}, fmt.Errorf("%w: signed by another key than the old root's", ErrSuccession)
	}
	return s, nil
}

// Line verifies successions, the first first, and returns the hashes of all roots
// from the first to the last, which must be last. Nothing may be missing, and no
// root come twice. Errors wrap ErrSuccession.
func Line(successions []string, last [32]byte) ([][32]byte, error) {
	if len(successions) > maxSuccessions {
		return nil, fmt.Errorf("%w: %d of them", ErrSuccession, len(successions))
	}
	var line [][32]byte
	for i, b := range successions {
		s, err := ParseSuccession([]byte(b))
		if err != nil {
			return nil, err
		}
		to, err := s.To()
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrSuccession, err)
		}
		if i == 0 {
			line = append(line, s.From)
		}
		if s.Number != uint64(i)+2 || s.From != line[i] || slices.Contains(line, to) {
			return nil, fmt.Errorf("%w: root %d does not follow the one before it", ErrSuccession, s.Number)
		}
		line = append(line, to)
	}
	if line == nil {
		return [][32]byte{last}, nil
	}
	if line[len(line)-1] != last {
		return nil, fmt.Errorf("%w: they lead to another root", ErrSuccession)
	}
	return line, nil
}

// follows says whether a line of roots goes on from one that was seen before: it may
// be longer, and neither end earlier nor take another turn.
func follows(line, seen [][32]byte) error {
	for i := range min(len(line), len(seen)) {
		if line[i] != seen[i] {
			return fmt.Errorf("%w: root %d is %x and %x", ErrFork, i+1, seen[i][:8], line[i][:8])
		}
	}
	if len(line) < len(seen) {
		return fmt.Errorf("%w: it is by root %d, which root %d has followed", ErrRollback, len(line), len(seen))
	}
	return nil
}
