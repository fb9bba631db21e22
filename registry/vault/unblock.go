package vault

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.etcd.io/bbolt"

	"enrollkiosk/hsm/attest"
	"enrollkiosk/registry/api"
	"enrollkiosk/registry/internal/chain"
	"enrollkiosk/registry/policy"
	"enrollkiosk/registry/receipt"
	"enrollkiosk/registry/record"
)

// ErrNoRequest: what came is not a request to unblock a token with its holder's
// record.
var ErrNoRequest = errors.New("not a request to unblock a token with its holder's record")

// Limits of unblocking. Who asks more often has another problem than a forgotten
// PIN, and somebody must look at it.
const (
	unblocksOfToken   = 3 // in unblockPeriod
	unblockPeriod     = 30 * 24 * time.Hour
	unblocksOfOfficer = 20 // on one day, UTC
)

// Unblock answers an officer's and a kiosk's request for what administers a
// citizen's token: PUK and management key, from the record in which they were
// sealed and from earlier requests, encrypted to the kiosk's TPM for this one use.
// It is counted before it is answered. The same request gets the same bytes again.
//
// The registry is not trusted: the request says, under the officer's signature,
// whose TPM may read the answer, and the record must be the one that this vault
// has found active.
//
// A *chain.Refusal is final, ErrNoRequest too; everything else may pass.
func (v *Vault) Unblock(ctx context.Context, order api.UnblockOrder) ([]byte, error) {
	u, err := record.ParseUnblock(order.Request)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoRequest, err)
	}
	s, err := record.ParseSubmission(order.Record)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoRequest, err)
	}
	v.one.Lock()
	defer v.one.Unlock()
	if err := v.isLevel(); err != nil {
		return nil, err
	}
	if old, err := v.store.answer(u.ID()); err != nil || old != nil {
		return old, err
	}
	now := v.opts.Now().UTC().Truncate(time.Second)
	if err := v.mayUnblock(u, now); err != nil {
		return nil, err
	}
	if err := v.isHolders(s.Record(), u); err != nil {
		return nil, err
	}
	ek, err := v.tpm(order, u, now)
	if err != nil {
		return nil, err
	}
	next := unblocking{Request: u.Bytes(), Officer: officerOf(u), Time: now}
	earlier, err := v.store.unblockings(u.Context().DID)
	if err != nil {
		return nil, err
	}
	if err := v.store.withinLimits(earlier, next); err != nil {
		return nil, err
	}
	candidates, err := v.candidates(s.Record(), u, earlier)
	defer func() {
		for _, a := range candidates {
			a.Wipe()
		}
	}()
	if err != nil {
		return nil, err
	}
	secret := make([]byte, attest.MaxSecret)
	rand.Read(secret)
	defer clear(secret)
	credential, err := attest.MakeCredential(ek, u.Context().AKName, secret)
	if err != nil {
		return nil, err
	}
	ciphertext, err := record.SealCandidates(secret, u.ID(), candidates)
	if err != nil {
		return nil, err
	}
	answer, err := record.SignUnblockAnswer(ctx, record.UnblockAnswer{Request: u.ID(), Time: now, EKName: ek.Name(),
		Blob: credential.Blob, Encrypted: credential.Secret, Ciphertext: ciphertext}, v.verdict)
	if err != nil {
		return nil, err
	}
	if err := v.store.keepUnblocking(u, next, answer); err != nil {
		return nil, fmt.Errorf("count unblocking: %w", err)
	}
	v.opts.Log.Info("token administrator handed out", "request", api.ID(u.ID()), "kiosk", u.Context().KioskID)
	return answer, nil
}

// mayUnblock checks who asks, under the policy in force: what was revoked counts
// at once. The policy that the request names must be known.
func (v *Vault) mayUnblock(u record.Unblock, now time.Time) error {
	if v.judge.rules[u.Context().PolicyDigest] == nil {
		return ErrUnknownPolicy
	}
	current := v.judge.rules[v.opts.Policy.Digest()]
	classes, err := current.signers.Unblock(u, current.policy.LogOrigin, now, v.judge.revoked)
	if err == nil && v.judge.production && slices.Contains(classes, record.Test) {
		err = chain.Refuse(api.CodeSimulated, "rests on a root of class test")
	}
	return err
}

// isHolders holds that a record is the one that brought the DID that the request is
// about, that this vault has found it active, and that its holder is not the
// officer who asks.
func (v *Vault) isHolders(r record.Record, u record.Unblock) error {
	p, did := r.Payload(), u.Context().DID
	if p.Context.Purpose != record.Enroll && p.Context.Purpose != record.Replace || p.Holder.DID != did {
		return fmt.Errorf("%w: the record is not the one that brought the holder's key", ErrNoRequest)
	}
	signed, err := v.store.verdict(r.ID())
	if err != nil {
		return err
	}
	verdict, err := receipt.VerifyVerdict(signed, nil, v.keys(), r.ID())
	if err != nil || verdict.Claims().Status != receipt.Active {
		return chain.Refuse(api.CodeUnblockToken, "the holder's record is not active")
	}
	person, ok, err := v.store.holder(did)
	if err != nil {
		return err
	}
	if !ok {
		return chain.Refuse(api.CodeUnblockToken, "the holder has another key now")
	}
	own, err := v.officers.is(officerOf(u), person)
	if err == nil && own {
		err = chain.Refuse(api.CodeOwnEnrollment, "the officer is the holder")
	}
	return err
}

// officerOf is the number of the officer who signed.
func officerOf(u record.Unblock) string { return u.Signatures()[0].Chain[0].Subject.SerialNumber }

// tpm is the endorsement key that the answer is encrypted to: certified, and named
// under the officer's signature, as is the attestation key.
func (v *Vault) tpm(order api.UnblockOrder, u record.Unblock, now time.Time) (attest.EndorsementKey, error) {
	refuse := func(err error) (attest.EndorsementKey, error) {
		return attest.EndorsementKey{}, chain.Refuse(api.CodeUnblockTPM, "%w", err)
	}
	current := v.judge.rules[v.opts.Policy.Digest()]
	e, err := attest.VerifyEndorsement(order.Endorsement.Certificate, nil, current.tpms, now)
	if err != nil {
		return refuse(err)
	}
	if v.judge.production && e.Class() == attest.Test {
		return attest.EndorsementKey{}, chain.Refuse(api.CodeSimulated, "the TPM's root is of class test")
	}
	ek, err := attest.ParseEndorsementKey(order.Endorsement.Public)
	if err != nil {
		return refuse(err)
	}
	if err := ek.Certified(e); err != nil {
		return refuse(err)
	}
	ak, err := attest.ParseAttestationKey(order.AttestationKey)
	if err != nil {
		return refuse(err)
	}
	c := u.Context()
	if !slices.ContainsFunc(c.EKNames, func(n []byte) bool { return bytes.Equal(n, ek.Name()) }) || !bytes.Equal(ak.Name, c.AKName) {
		return refuse(errors.New("not the keys that the request names"))
	}
	return ek, nil
}

// candidates are the administrators that the token may have: the one that was
// sealed when it was enrolled, then those of earlier requests, the newest first.
// The one of this request is not handed out, but must open: the token will have it.
func (v *Vault) candidates(r record.Record, u record.Unblock, earlier []unblocking) (out []record.TokenAdmin, err error) {
	next, err := u.OpenAdmin(v.identity(u.Context().AuthorityKeyID))
	if err != nil {
		return nil, chain.Refuse(api.CodeSealed, "the new administrator: %w", err)
	}
	next.Wipe()
	p := r.Payload()
	id, err := record.OpenSealed(p.Context, v.identity(p.Identity.Key), p.Identity)
	if err != nil {
		return nil, chain.Refuse(api.CodeSealed, "%w", err)
	}
	if id.TokenAdmin == nil {
		wipe(id)
		return nil, chain.Refuse(api.CodeUnblockToken, "the holder's key is in no token")
	}
	out = append(out, *id.TokenAdmin)
	id.TokenAdmin = nil
	wipe(id)
	for _, e := range slices.Backward(earlier) {
		if len(out) == record.MaxCandidates {
			break
		}
		old, err := record.ParseUnblock(e.Request)
		if err != nil {
			return out, fmt.Errorf("kept request: %w", err)
		}
		a, err := old.OpenAdmin(v.identity(old.Context().AuthorityKeyID))
		if err != nil {
			return out, fmt.Errorf("kept request: %w", err)
		}
		out = append(out, a)
	}
	return out, nil
}

// tpmRoots are the policy's, for endorsement certificates.
func tpmRoots(p policy.Policy) (out []attest.Root, err error) {
	for _, r := range p.TPMRoots {
		c, err := x509.ParseCertificate(r.Certificate)
		if err != nil {
			return nil, fmt.Errorf("parse tpm root: %w", err)
		}
		out = append(out, attest.Root{Certificate: c, Class: string(r.Class)})
	}
	return out, nil
}

// unblocking is a request that was answered. What it holds of the token is sealed.
type unblocking struct {
	Request []byte    `json:"request"`
	Officer string    `json:"officer"` // number
	Time    time.Time `json:"time"`
}

func (s *store) answer(id [32]byte) (out []byte, err error) {
	err = s.db.View(func(tx *bbolt.Tx) error {
		out = bytes.Clone(tx.Bucket(bucketAnswers).Get(id[:]))
		return nil
	})
	return out, err
}

// holder is the person who has a DID; false if nobody has it now.
func (s *store) holder(did string) (t tokens, ok bool, err error) {
	err = s.db.View(func(tx *bbolt.Tx) error {
		if b := tx.Bucket(bucketHolders).Get([]byte(did)); len(b) == 64 {
			copy(t.document[:], b[:32])
			copy(t.person[:], b[32:])
			ok = true
		}
		return nil
	})
	return t, ok, err
}

// unblockings are those of a DID, in the order of their answers.
func (s *store) unblockings(did string) (out []unblocking, err error) {
	prefix := append([]byte(did), 0)
	err = s.db.View(func(tx *bbolt.Tx) error {
		c := tx.Bucket(bucketUnblocks).Cursor()
		for k, b := c.Seek(prefix); bytes.HasPrefix(k, prefix); k, b = c.Next() {
			var u unblocking
			if err := json.Unmarshal(b, &u); err != nil {
				return fmt.Errorf("kept request: %w", err)
			}
			out = append(out, u)
		}
		return nil
	})
	return out, err
}

// withinLimits refuses what is too often, for the token or for the officer.
func (s *store) withinLimits(earlier []unblocking, next unblocking) error {
	n := 0
	for _, u := range earlier {
		if next.Time.Sub(u.Time) < unblockPeriod {
			n++
		}
	}
	if n >= unblocksOfToken {
		return chain.Refuse(api.CodeUnblockLimit, "the token was unblocked %d times lately", n)
	}
	return s.db.View(func(tx *bbolt.Tx) error {
		if n := count(tx.Bucket(bucketDesks).Get(deskKey(next))); n >= unblocksOfOfficer {
			return chain.Refuse(api.CodeUnblockLimit, "the officer unblocked %d tokens today", n)
		}
		return nil
	})
}

func deskKey(u unblocking) []byte {
	return append([]byte(u.Time.UTC().Format(time.DateOnly)+"\x00"), u.Officer...)
}

func count(b []byte) uint64 {
	if len(b) != 8 {
		return 0
	}
	return binary.BigEndian.Uint64(b)
}

// keepUnblocking counts a request and keeps its answer, in one transaction.
func (s *store) keepUnblocking(u record.Unblock, next unblocking, answer []byte) error {
	b, err := json.Marshal(next)
	if err != nil {
		return err
	}
	return s.db.Update(func(tx *bbolt.Tx) error {
		unblocks, desks := tx.Bucket(bucketUnblocks), tx.Bucket(bucketDesks)
		number, err := unblocks.NextSequence()
		if err != nil {
			return err
		}
		id, day := u.ID(), deskKey(next)
		key := binary.BigEndian.AppendUint64(append([]byte(u.Context().DID), 0), number)
		today := binary.BigEndian.AppendUint64(nil, count(desks.Get(day))+1)
		return errors.Join(unblocks.Put(key, b), desks.Put(day, today), tx.Bucket(bucketAnswers).Put(id[:], answer))
	})
}
