package registry

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"slices"
	"time"

	"enrollkiosk/hsm/attest"
	"enrollkiosk/registry/api"
	"enrollkiosk/registry/internal/chain"
	"enrollkiosk/registry/internal/reply"
	"enrollkiosk/registry/record"
)

// maxUnblocks is how many requests to unblock a token wait for the vault at once.
const maxUnblocks = 4

// postUnblock takes a kiosk's request to unblock a citizen's token to the vault,
// with the record that brought the citizen's key, and hands its answer back. The
// registry can open neither: the answer is for the kiosk's TPM.
func (r *Registry) postUnblock(w http.ResponseWriter, q *http.Request, slots chan struct{}) {
	sender, b, ok := r.asked(w, q, api.MediaJOSEJS, record.MaxUnblock)
	if !ok {
		return
	}
	u, err := record.ParseUnblock(b)
	if err != nil {
		r.opts.Log.Warn("no request to unblock", "kiosk", sender.ID, "error", err)
		reply.Problem(w, http.StatusBadRequest, api.CodeBadRequest, "the body is no request to unblock a token", 0)
		return
	}
	select {
	case slots <- struct{}{}:
		defer func() { <-slots }()
	default:
		reply.Problem(w, http.StatusServiceUnavailable, api.CodeUnavailable, "busy: send again", retryAfter)
		return
	}
	answer, err := r.unblock(q.Context(), u, sender)
	var refused *chain.Refusal
	switch {
	case errors.As(err, &refused):
		r.opts.Log.Warn("token not unblocked", "request", api.ID(u.ID()), "kiosk", sender.ID, "code", refused.Code, "error", err)
		reply.Problem(w, http.StatusForbidden, refused.Code, "the token is not unblocked", 0)
	case errors.Is(err, errUnknownPolicy):
		reply.Problem(w, http.StatusServiceUnavailable, api.CodeUnknownPolicy, "the request's policy is not known here yet", retryAfter)
	case err != nil:
		r.opts.Log.Error("token not unblocked", "request", api.ID(u.ID()), "kiosk", sender.ID, "error", err)
		reply.Problem(w, http.StatusServiceUnavailable, api.CodeUnavailable, "the vault does not answer: send again", retryAfter)
	default:
		r.opts.Log.Info("token unblocked", "request", api.ID(u.ID()), "kiosk", sender.ID)
		reply.Bytes(w, http.StatusOK, api.MediaJOSE, answer)
	}
}

// unblockTimeout bounds the vault's work, so that the kiosk is told in time.
const unblockTimeout = 20 * time.Second

func (r *Registry) unblock(ctx context.Context, u record.Unblock, sender Kiosk) ([]byte, error) {
	if err := r.check.unblock(u, sender, r.opts.Policy.Digest(), r.opts.Now()); err != nil {
		return nil, err
	}
	id, err := r.store.Brought(ctx, u.Context().DID)
	switch {
	case errors.Is(err, errHolder):
		return nil, chain.Refuse(api.CodeHolder, "%w", err)
	case errors.Is(err, errSuspended):
		return nil, chain.Refuse(api.CodeSuspended, "%w", err)
	}
	if err != nil {
		return nil, err
	}
	submission, err := r.store.Submission(ctx, id)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, unblockTimeout)
	defer cancel()
	answer, err := r.vault.unblock(ctx, api.UnblockOrder{Request: u.Bytes(), Record: submission, Endorsement: sender.Endorsement, AttestationKey: sender.AttestationKey})
	if err != nil {
		return nil, err
	}
	_, err = record.VerifyUnblockAnswer(answer, r.vault.keys, u)
	return answer, err
}

// unblock checks a request under the policy in force: what was revoked counts at
// once. The one that it names must be known.
func (c check) unblock(u record.Unblock, sender Kiosk, current [32]byte, now time.Time) error {
	p := u.Context()
	if _, known := c.rules[p.PolicyDigest]; !known {
		return errUnknownPolicy
	}
	if p.KioskID != sender.ID {
		return chain.Refuse(api.CodeKiosk, "another kiosk's request")
	}
	classes, err := c.rules[current].signers.Unblock(u, c.origin, now, c.revoked)
	if err != nil {
		return err
	}
	for _, sig := range u.Signatures() {
		if sig.Role == record.Kiosk && !sender.hasRecordKey(sig.Chain[0].RawSubjectPublicKeyInfo) {
			return chain.Refuse(api.CodeKiosk, "not the key that is registered for this kiosk")
		}
	}
	if c.production && slices.Contains(append(classes, record.Class(sender.Class)), record.Test) {
		return chain.Refuse(api.CodeSimulated, "rests on a root of class test")
	}
	ek, err := attest.ParseEndorsementKey(sender.Endorsement.Public)
	if err != nil {
		return chain.Refuse(api.CodeUnblockTPM, "%w", err)
	}
	ak, err := attest.ParseAttestationKey(sender.AttestationKey)
	if err != nil {
		return chain.Refuse(api.CodeUnblockTPM, "%w", err)
	}
	if !slices.ContainsFunc(p.EKNames, func(n []byte) bool { return bytes.Equal(n, ek.Name()) }) || !bytes.Equal(p.AKName, ak.Name) {
		return chain.Refuse(api.CodeUnblockTPM, "the request names other keys than those that are registered")
	}
	return nil
}
