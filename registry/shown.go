package registry

import (
	"bytes"
	"context"
	"crypto"
	"errors"
	"fmt"
	"net/http"
	"time"

	"enrollkiosk/registry/api"
	"enrollkiosk/registry/internal/reply"
	"enrollkiosk/registry/receipt"
)

// refusalTime is how long every receipt that is refused is worked on.
const refusalTime = time.Second

// Limits of receipts that are shown. A kiosk that was stolen asks no faster than
// people scan.
var (
	shownRate    = rate{20, 3 * time.Second} // of one kiosk
	allShownRate = rate{1000, time.Millisecond}
)

// errShown is every reason for which nothing is told about a receipt.
var errShown = errors.New("nothing is told about this receipt")

// postReceipt tells a kiosk what has become of the record of a receipt that somebody
// shows there, whichever kiosk sent it. The receipt is the evidence: an id alone is
// none. Every refusal is the same, after the same time: an answer that told forged
// receipts from those of records that have not come would tell which ids there are.
//
// Which receipt was shown where is not written down: that would be a list of where
// people go.
func (r *Registry) postReceipt(w http.ResponseWriter, q *http.Request) {
	asking, body, ok := r.asked(w, q, api.MediaJSON, api.MaxReceiptQuery)
	if !ok {
		return
	}
	began := time.Now() // not before the body is here: how long that takes is the sender's choice
	if wait := r.shown.take(asking.ID, began); wait > 0 {
		tooMany(w, wait, "this kiosk shows too many receipts: show it again later")
		return
	}
	query, err := api.Decode[api.ReceiptQuery](bytes.NewReader(body))
	if err != nil {
		reply.Problem(w, http.StatusBadRequest, api.CodeBadRequest, "the body holds no receipt", 0)
		return
	}
	id, known, err := r.evidenced(q.Context(), []byte(query.Receipt))
	if errors.Is(err, errShown) {
		r.opts.Log.Warn("receipt refused", "kiosk", asking.ID, "error", err)
		select {
		case <-time.After(time.Until(began.Add(refusalTime))):
			reply.Problem(w, http.StatusNotFound, api.CodeReceipt, errShown.Error(), 0)
		case <-q.Context().Done():
		}
		return
	}
	var answer api.RecordStatus
	if err == nil {
		answer, err = r.recordStatus(q.Context(), id, known)
	}
	if err != nil {
		r.opts.Log.Error("record of a receipt not read", "error", err)
		reply.Problem(w, http.StatusServiceUnavailable, api.CodeUnavailable, "ask again", retryAfter)
		return
	}
	answer.Receipt = "" // a final one is there already; a provisional one does not give the blind away
	reply.JSON(w, answer)
}

// evidenced is what is known of the record that a receipt proves to have been given
// for; errShown.
func (r *Registry) evidenced(ctx context.Context, b []byte) (api.ID, status, error) {
	if blind, id, err := receipt.Names(b); err == nil {
		return r.evidencedFinal(ctx, b, blind, id)
	}
	return r.evidencedProvisional(ctx, b)
}

// evidencedFinal has its proof in the blind: the log holds neither that nor the id,
// only a hash of both.
func (r *Registry) evidencedFinal(ctx context.Context, b []byte, blind, id [32]byte) (api.ID, status, error) {
	if _, err := receipt.Verify(b, r.opts.Policy.Policy().Log(), id); err != nil {
		return id, status{}, fmt.Errorf("%w: %w", errShown, err)
	}
	known, err := r.store.Held(ctx, id)
	if errors.Is(err, errNotHeld) {
		return id, status{}, fmt.Errorf("%w: %w", errShown, err)
	}
	if err != nil {
		return id, status{}, err
	}
	// Whoever has an ended key of the log can sign a tree with any leaf in it. The
	// record's own blind is in the receipt that was given.
	if given, _, err := receipt.Names(known.receipt); err != nil || given != blind {
		return id, status{}, fmt.Errorf("%w: another blind than the record's", errShown)
	}
	return id, known, nil
}

// evidencedProvisional has its proof in the signature of the kiosk that sent the
// record. A kiosk's word for another kiosk's record is none, nor is that of a revoked
// one: whoever has its TPM could sign for each id in its queue.
func (r *Registry) evidencedProvisional(ctx context.Context, b []byte) (id api.ID, known status, err error) {
	var by crypto.PublicKey
	v, err := receipt.VerifyProvisional(b, func(key crypto.PublicKey) bool { by = key; return true })
	if err != nil {
		return id, known, fmt.Errorf("%w: %w", errShown, err)
	}
	said := v.Claims()
	sender, err := r.kiosks.Find(ctx, said.Kiosk)
	switch {
	case errors.Is(err, ErrUnknownKiosk):
		return id, known, fmt.Errorf("%w: %w", errShown, err)
	case err != nil:
		return id, known, err
	case said.Audience != r.origin:
		return id, known, fmt.Errorf("%w: another registry's", errShown)
	case !sender.signs(by):
		return id, known, fmt.Errorf("%w: not signed by the kiosk that it names", errShown)
	case sender.Revoked != nil && !sender.retired():
		return id, known, fmt.Errorf("%w: of a revoked kiosk", errShown)
	}
	found, err := r.store.Status(ctx, sender.ID, said.Record)
	if err != nil {
		return id, known, err
	}
	known, held := found[said.Record]
	if !held {
		return id, known, fmt.Errorf("%w: %w of the kiosk that signed", errShown, errNotHeld)
	}
	return said.Record, known, nil
}
