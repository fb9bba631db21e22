// Package vault opens sealed identities for the identity authority, and says
// of each whether it holds: the only place where an enrollment record becomes a
// person again.
//
// It takes a record from the registry, checks it as if the registry lied, opens
// the identity with the authority's key, verifies the document once more (the
// issuer's signature, the answer to a challenge that was made for this record
// and this key, the texts that were consented to), looks whether the same document
// is enrolled already, and signs a verdict: active or refused, by DID.
//
// Invariants. A record gets one verdict, the same bytes however often it is
// asked for, until a person who reviews it decides otherwise, which happens once
// at most (review.go). Nothing that is opened is stored, logged or sent: what is kept of a
// person is a keyed hash that only this vault's key can make. Whoever is refused
// because of another enrollment is not told so.
//
// Not here: storing identities (they stay sealed, in the registry), credentials,
// opening for any other purpose.
package vault

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"enrollkiosk/registry/api"
	"enrollkiosk/registry/internal/chain"
	"enrollkiosk/registry/internal/keyfile"
	"enrollkiosk/registry/policy"
	"enrollkiosk/registry/receipt"
	"enrollkiosk/registry/record"
)

// Errors of Open and Judge. None is a verdict.
var (
	ErrPolicy        = errors.New("the policy is not for this vault: it names another identity key or verdict key")
	ErrUnknownPolicy = errors.New("the record was made under a policy that this vault does not know: give it the new one")
	ErrNoRecord      = errors.New("not a record with an identity for this authority")
)

// Options of Open.
type Options struct {
	Dir    string        // made by Init
	Root   [32]byte      // hash of the authority's root key
	Policy policy.Signed // in force, under Root
	// Client is the certificate of the one client that may ask, DER: the
	// registry's.
	Client []byte
	// Production refuses what rests on a root of class test: documents, kiosks, officers.
	Production bool
	Now        func() time.Time // default time.Now
	Log        *slog.Logger     // default: none
}

// Vault is an open vault.
type Vault struct {
	opts  Options
	judge judge
	// identities are all keys that ever were in a policy, the latest first: records
	// that were sealed to an earlier one may still come.
	identities []record.AuthorityPrivateKey
	verdict    keyfile.Key
	officers   Officers // with the key that tells persons apart
	server     tls.Certificate
	client     [32]byte // SHA-256 of the client's SubjectPublicKeyInfo
	store      *store
	metrics    *metrics
	one        sync.Mutex // verdicts are given one after another: each may depend on the last
}

// Open opens a vault's directory. One process at a time can.
func Open(_ context.Context, o Options) (*Vault, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	v := &Vault{opts: o}
	v.metrics = newMetrics(v)
	var err error
	if v.identities, err = identities(o.Dir); err != nil {
		return nil, err
	}
	if v.officers, err = OfficersIn(o.Dir); err != nil {
		return nil, err
	}
	if v.verdict, err = verdictKey(o.Dir, o.Policy); err != nil {
		return nil, err
	}
	if v.server, err = keyfile.TLS(o.Dir, keyfile.Latest(o.Dir, nameServer)); err != nil {
		return nil, err
	}
	client, err := x509.ParseCertificate(o.Client)
	if err != nil {
		return nil, fmt.Errorf("registry's client certificate: %w", err)
	}
	v.client = sha256.Sum256(client.RawSubjectPublicKeyInfo)
	if err := v.ours(); err != nil {
		return nil, err
	}
	if v.store, err = openStore(filepath.Join(o.Dir, fileStore)); err != nil {
		return nil, err
	}
	if err := errors.Join(v.loadPolicies(), v.countReviews()); err != nil {
		return nil, errors.Join(err, v.store.Close())
	}
	return v, nil
}

// Close releases the directory. Serve must have returned.
func (v *Vault) Close() error {
	v.officers.Close()
	return v.store.Close()
}

// identity is the private key of an id; the latest if there is none, which opens
// nothing of another id.
func (v *Vault) identity(id string) record.AuthorityPrivateKey {
	for _, k := range v.identities {
		if k.Public().ID == id {
			return k
		}
	}
	return v.identities[0]
}

// ours refuses a policy under which identities would be sealed to another key.
func (v *Vault) ours() error {
	if !v.opts.Policy.Valid() {
		return fmt.Errorf("%w: there is none", ErrPolicy)
	}
	named := v.opts.Policy.Policy().Authority.ID
	if !slices.ContainsFunc(v.identities, func(k record.AuthorityPrivateKey) bool { return k.Public().ID == named }) {
		return ErrPolicy
	}
	return nil
}

// loadPolicies remembers the policy in force and prepares all that ever were:
// records name the one that they were made under.
func (v *Vault) loadPolicies() error {
	current := v.opts.Policy
	kept, err := v.store.policies()
	if err != nil {
		return fmt.Errorf("load policies: %w", err)
	}
	v.judge = judge{production: v.opts.Production, rules: map[[32]byte]*rules{}}
	for _, b := range append(kept, current.Bytes()) {
		if _, err := v.addPolicy(b); err != nil {
			return err
		}
	}
	return v.store.keepPolicy(current.Digest(), current.Bytes())
}

// addPolicy prepares one that was in force, or is. It returns the zero value for one
// of another root.
func (v *Vault) addPolicy(signed []byte) (policy.Signed, error) {
	s, err := v.opts.Policy.ParseEarlier(signed)
	if err != nil {
		s, err = policy.Parse(signed, v.opts.Root)
	}
	if err != nil {
		v.opts.Log.Warn("an earlier policy is of another root and not in force any more", "error", err)
		return policy.Signed{}, nil
	}
	if v.judge.rules[s.Digest()] != nil {
		return s, nil
	}
	if err := v.opts.Policy.CheckSuccessor(s); err != nil {
		return s, fmt.Errorf("policy in force: %w", err)
	}
	r, err := newRules(s)
	if err != nil {
		return s, fmt.Errorf("load policies: %w", err)
	}
	v.judge.rules[s.Digest()], v.judge.revoked = r, append(v.judge.revoked, r.policy.Revocations())
	return s, nil
}

// Judge opens the identity in a submission and returns the signed verdict: a
// compact JWS. A record that was judged before gets the same bytes. An error is
// no verdict: ErrNoRecord says that the submission is none, everything else may
// pass.
func (v *Vault) Judge(ctx context.Context, submission []byte) ([]byte, error) {
	s, err := record.ParseSubmission(submission)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoRecord, err)
	}
	v.one.Lock()
	defer v.one.Unlock()
	if err := v.isLevel(); err != nil {
		return nil, err
	}
	if old, err := v.store.verdict(s.ID()); err != nil || old != nil {
		return old, err
	}
	p := s.Record().Payload()
	if err := s.Record().CheckAudience(v.opts.Policy.Policy().LogOrigin); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoRecord, err)
	}
	switch p.Context.Purpose {
	case record.Enroll, record.Replace, record.Update:
	default:
		return nil, fmt.Errorf("%w: purpose %s", ErrNoRecord, p.Context.Purpose)
	}
	found, err := v.examine(s.Record(), v.judge, v.opts.Now())
	if err != nil {
		return nil, err
	}
	outcome, err := v.store.outcome(p, s.ID(), found)
	if err != nil {
		return nil, err
	}
	claims := receipt.Verdict{Record: s.ID(), DID: p.Holder.DID, Status: receipt.Active, Time: v.now()}
	if outcome.code != "" {
		claims.Status, claims.Code = receipt.Refused, outcome.code
	}
	verdict, err := receipt.SignVerdict(ctx, claims, v.verdict)
	if err != nil {
		return nil, fmt.Errorf("sign verdict: %w", err)
	}
	if err := v.store.decide(p, s.ID(), verdict, outcome, claims.Time); err != nil {
		return nil, fmt.Errorf("store verdict: %w", err)
	}
	v.metrics.noteVerdict(string(claims.Status), outcome)
	v.opts.Log.Info("identity judged", "record", api.ID(s.ID()), "status", claims.Status, "code", claims.Code)
	return verdict, nil
}

// examined is what is left of an identity after it has been verified: nothing
// that anyone without this vault's key can make anything of.
type examined struct {
	code    string // why it is refused; empty if it holds
	person  tokens
	officer string // number of the officer who is the holder or the guardian; empty

	guardian bool // stands beside the holder
}

// examine opens and verifies at a time; everything personal ends here.
func (v *Vault) examine(r record.Record, j judge, now time.Time) (examined, error) {
	p := r.Payload()
	rules, known := j.rules[p.Context.PolicyDigest]
	if !known {
		return examined{}, ErrUnknownPolicy
	}
	at, err := j.signers(rules, r, now)
	if err != nil {
		return v.refused(r, err), nil
	}
	identity, err := record.OpenSealed(p.Context, v.identity(p.Identity.Key), p.Identity)
	if err != nil {
		return v.refused(r, chain.Refuse(api.CodeSealed, "%w", err)), nil
	}
	defer wipe(identity)
	holder, guardian, err := rules.people(p, identity, at, j.production)
	if err != nil {
		return v.refused(r, err), nil
	}
	if err := rules.consents(p, identity); err != nil {
		return v.refused(r, err), nil
	}
	number, role, err := v.signing(r, at, holder, guardian)
	if err != nil {
		return examined{}, err
	}
	if number != "" {
		refused := v.refused(r, chain.Refuse(api.CodeOwnEnrollment, "the %s is the holder or the guardian", role))
		refused.officer = number
		return refused, nil
	}
	return examined{person: tokensOf(v.officers.key, holder.Kind(), holder.Person(at)), guardian: guardian.Valid()}, nil
}

func (v *Vault) refused(r record.Record, err error) examined {
	code := codeOf(err)
	v.opts.Log.Warn("identity refused", "record", api.ID(r.ID()), "code", code, "error", err)
	return examined{code: code}
}

func codeOf(err error) string {
	var c *chain.Refusal
	if errors.As(err, &c) {
		return c.Code
	}
	return api.CodeDocument
}

func wipe(id record.Identity) {
	for _, f := range id.Files {
		f.Wipe()
	}
	if g := id.Guardian; g != nil {
		for _, f := range g.Files {
			f.Wipe()
		}
		g.Note.Wipe()
		for _, c := range g.Checks {
			c.Note.Wipe()
		}
	}
	if a := id.TokenAdmin; a != nil {
		a.PUK.Wipe()
		a.ManagementKey.Wipe()
	}
	for _, c := range id.Checks {
		c.Note.Wipe()
	}
}
