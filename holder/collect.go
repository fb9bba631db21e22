package holder

import (
	"context"
	"crypto/ecdsa"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"enrollkiosk/holder/sitekey"
	"enrollkiosk/holder/store"
	"enrollkiosk/hsm"
	"enrollkiosk/registry/credential"
	"enrollkiosk/registry/record"
)

const (
	// Low is when more credentials are fetched, before somebody needs one.
	Low = 8
	// renewBefore is how long before their end all are fetched anew, used or not: the
	// issuer shall not learn which ones are in use.
	renewBefore = 7 * 24 * time.Hour

	touchLimit = 30 * time.Second // for one signature of 9A
	codeTries  = 3                // the issuer takes five wrong codes
	repeats    = 4                // of a request whose answer was lost

	maxMetadata = 64 << 10
	maxBatch    = 1 << 20 // bytes of an answer: 50 credentials of 5 kB
	jwtType     = "application/jwt"
	jsonType    = "application/json"
	grantType   = "urn:ietf:params:oauth:grant-type:pre-authorized_code"
)

// Collected says what came of a collection.
type Collected struct {
	New     int // credentials for further websites
	Renewed int // credentials of keys that were there before
	Unused  int // for further websites, now
}

// Collect fetches credentials from the issuer where few are left or their end is near:
// those that show the name with legalName, else the others. The keys prove themselves,
// and 9A vouches for all of them in one signature.
//
// Errors: Faults, credential.Refusals, package store's and hsm's.
func (h *Helper) Collect(ctx context.Context, legalName bool) (c Collected, err error) {
	vct := credential.RealPerson(h.Authority.Issuer)
	if legalName {
		vct = credential.LegalName(h.Authority.Issuer)
	}
	err = h.alone(func() error {
		m, err := h.metadata(ctx, vct)
		if err != nil {
			return err
		}
		var renew []uint64
		if err := h.withToken(ctx, func(_ context.Context, at session) error {
			renew = due(at.file, vct, time.Now())
			return nil
		}); err != nil {
			return err
		}
		for part := range slices.Chunk(renew, m.batch) {
			if err := h.collect(ctx, m, vct, part); err != nil {
				return err
			}
			c.Renewed += len(part)
		}
		if h.run.file.Unused(vct, time.Now()) < Low {
			if err := h.collect(ctx, m, vct, nil); err != nil {
				return err
			}
			c.New = m.batch
		}
		c.Unused = h.run.file.Unused(vct, time.Now())
		return nil
	})
	return c, err
}

// due are all indices of a type, mixed, once the end of one of them is near.
func due(file *store.Store, vct string, now time.Time) (indices []uint64) {
	near := false
	for _, e := range file.Entries() {
		if e.Type == vct {
			indices = append(indices, e.Index)
			near = near || e.Expires.Before(now.Add(renewBefore))
		}
	}
	if !near {
		return nil
	}
	rand.Shuffle(len(indices), func(i, j int) { indices[i], indices[j] = indices[j], indices[i] })
	return indices
}

// collect is one batch: of indices that have keys already, or of new ones.
func (h *Helper) collect(ctx context.Context, m metadata, vct string, indices []uint64) error {
	access, err := h.authorize(ctx, m)
	if err != nil {
		return err
	}
	nonce, clock, err := h.nonce(ctx, m)
	if err != nil {
		return err
	}
	var body []byte
	var keys []*ecdsa.PublicKey
	if err := h.withToken(ctx, func(ctx context.Context, at session) error {
		if indices == nil {
			if indices, err = at.file.Reserve(m.batch); err != nil {
				return err
			}
		}
		body, keys, err = h.prove(ctx, at.token, m, indices, nonce, time.Now().Add(clock))
		return err
	}); err != nil {
		return err
	}
	compacts, err := h.fetchBatch(ctx, m, access, body)
	if err != nil {
		return err
	}
	batch, err := h.acceptBatch(compacts, vct, indices, keys)
	if err != nil {
		return err
	}
	return h.run.file.Keep(batch)
}

// authorize gets an access token for the enrolled key, with the code on the receipt
// the first time (OpenID4VCI 1.0, 4.1 and 6).
func (h *Helper) authorize(ctx context.Context, m metadata) (access string, err error) {
	nonce, clock, err := h.nonce(ctx, m)
	if err != nil {
		return "", err
	}
	var asked string
	if err := h.withToken(ctx, func(ctx context.Context, at session) error {
		did, err := record.DIDKey(at.token.Enrolled().Public())
		if err != nil {
			return err
		}
		b := credential.Batch{Issuer: h.Authority.Issuer, DID: did, Nonce: nonce, Now: time.Now().Add(clock)}
		h.Person.Touch()
		asked, err = b.SignOfferRequest(hsm.Signer(at.token.Enrolled(), touchLimit))
		return err
	}); err != nil {
		return "", err
	}
	a, err := h.issuer(ctx, exchange{method: http.MethodPost, uri: m.offer, kind: jwtType, accept: jsonType, body: []byte(asked), limit: maxMetadata})
	if err != nil {
		return "", fmt.Errorf("ask for an offer: %w", err)
	}
	o, err := parseOffer(a.body, h.Authority.Issuer, m.configuration)
	if err != nil {
		return "", err
	}
	form := url.Values{"grant_type": {grantType}, "pre-authorized_code": {o.code}}
	for try := 1; ; try++ {
		if o.claim {
			if err := h.claimCode(ctx, form); err != nil {
				return "", err
			}
		}
		a, err = h.issuer(ctx, exchange{method: http.MethodPost, uri: m.token, kind: formType, accept: jsonType, body: []byte(form.Encode()), limit: maxMetadata})
		var said *refusal
		switch {
		case err == nil:
			return parseToken(a.body)
		case !o.claim || !errors.As(err, &said) || said.code != "invalid_grant":
			return "", fmt.Errorf("ask for a token: %w", err)
		case try == codeTries:
			return "", fmt.Errorf("ask for a token: %w", ErrClaimCode)
		}
	}
}

func (h *Helper) claimCode(ctx context.Context, form url.Values) error {
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	p, ok := h.Person.(Claimant)
	if !ok {
		return ErrNoCode
	}
	code, err := p.ClaimCode(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		err = ErrNoCode
	}
	if err != nil {
		return fmt.Errorf("claim code: %w", err)
	}
	defer code.Wipe()
	if code.Len() == 0 {
		return ErrNoCode
	}
	form.Set("tx_code", string(code.Reveal()))
	return nil
}

// nonce is a c_nonce (OpenID4VCI 1.0, 7), with how far the issuer's time is from ours.
func (h *Helper) nonce(ctx context.Context, m metadata) (nonce string, clock time.Duration, err error) {
	a, err := h.issuer(ctx, exchange{method: http.MethodPost, uri: m.nonce, accept: jsonType, limit: maxMetadata})
	if err != nil {
		return "", 0, fmt.Errorf("nonce: %w", err)
	}
	now := time.Now()
	theirs, err := a.clock(now)
	if err != nil {
		return "", 0, err
	}
	o, err := credential.ParseObject(a.body, 4)
	if err != nil {
		return "", 0, fmt.Errorf("nonce: %w: %w", ErrAnswer, err)
	}
	if nonce, _ = o.Text("c_nonce"); nonce == "" || len(nonce) > 512 {
		return "", 0, fmt.Errorf("nonce: %w", ErrAnswer)
	}
	return nonce, theirs.Sub(now), nil
}

// The request for a batch (OpenID4VCI 1.0, 8.2).
type (
	batchRequest struct {
		Configuration string `json:"credential_configuration_id"`
		Proofs        proofs `json:"proofs"`
	}
	proofs struct {
		JWT []string `json:"jwt"`
	}
)

// prove makes the request: each key proves itself, 9A vouches for all. The private keys
// are erased when it returns.
func (h *Helper) prove(ctx context.Context, token Token, m metadata, indices []uint64, nonce string, now time.Time) ([]byte, []*ecdsa.PublicKey, error) {
	did, err := record.DIDKey(token.Enrolled().Public())
	if err != nil {
		return nil, nil, err
	}
	h.Person.Touch()
	keys, err := sitekey.Derive(ctx, token, indices...)
	if err != nil {
		return nil, nil, err
	}
	public := make([]*ecdsa.PublicKey, len(keys))
	for i, k := range keys {
		defer k.Erase()
		public[i] = k.ECDSA()
	}
	b := credential.Batch{Issuer: h.Authority.Issuer, DID: did, Nonce: nonce, Storage: credential.DerivedFromPIV, Now: now}
	h.Person.Touch()
	attestation, err := b.SignAttestation(hsm.Signer(token.Enrolled(), touchLimit), public)
	if err != nil {
		return nil, nil, err
	}
	r := batchRequest{Configuration: m.configuration}
	for _, k := range keys {
		p, err := b.SignProof(k, attestation)
		if err != nil {
			return nil, nil, err
		}
		r.Proofs.JWT = append(r.Proofs.JWT, p)
		attestation = "" // stands in the first alone
	}
	body, err := json.Marshal(r)
	return body, public, err
}

// fetchBatch sends the request, and the same one again while the answer was lost: the
// issuer gives the same answer, not a second batch.
func (h *Helper) fetchBatch(ctx context.Context, m metadata, access string, body []byte) (compacts []string, err error) {
	for try := range repeats {
		if try > 0 {
			select {
			case <-ctx.Done():
				return nil, context.Cause(ctx)
			case <-time.After(time.Duration(1<<try)*time.Second/2 + rand.N(time.Second)):
			}
		}
		var a answer
		a, err = h.issuer(ctx, exchange{method: http.MethodPost, uri: m.credential, kind: jsonType, accept: jsonType, bearer: access, body: body, limit: maxBatch})
		if err == nil {
			return parseBatch(a.body)
		}
		if !errors.Is(err, ErrUnreachable) {
			break
		}
	}
	return nil, fmt.Errorf("fetch credentials: %w", err)
}

// acceptBatch checks what came: one credential for each key, in order, and nothing in
// one of them that the others do not have alike.
func (h *Helper) acceptBatch(compacts []string, vct string, indices []uint64, keys []*ecdsa.PublicKey) ([]store.Entry, error) {
	if len(compacts) != len(keys) {
		return nil, fmt.Errorf("%d credentials for %d keys: %w", len(compacts), len(keys), ErrAnswer)
	}
	now, places := time.Now(), map[credential.StatusRef]bool{}
	var batch []store.Entry
	var head string // all say the same of their issuer
	var expires time.Time
	for i, compact := range compacts {
		issued, err := h.accept(compact, vct, keys[i], now)
		if err != nil {
			return nil, fmt.Errorf("credential %d: %w", i, err)
		}
		own, _, _ := strings.Cut(compact, ".")
		if i == 0 {
			head, expires = own, issued.Expires()
		}
		if own != head || !issued.Expires().Equal(expires) || places[issued.Status()] {
			return nil, fmt.Errorf("credential %d: %w", i, ErrMarked)
		}
		places[issued.Status()] = true
		batch = append(batch, store.Entry{Index: indices[i], Type: vct, Credential: compact, Expires: issued.Expires()})
	}
	return batch, nil
}

// issuer is a request to the issuer. A no is a *refusal.
func (h *Helper) issuer(ctx context.Context, x exchange) (answer, error) {
	a, err := h.do(ctx, x)
	switch {
	case err != nil:
		return a, err
	case a.status == http.StatusOK && a.kind == jsonType:
		return a, nil
	case a.status == http.StatusOK:
		return a, fmt.Errorf("%q: %w", a.kind, ErrAnswer)
	case a.status >= 500 || a.status == http.StatusTooManyRequests:
		return a, fmt.Errorf("status %d: %w", a.status, ErrUnreachable)
	}
	r := &refusal{status: a.status}
	if o, err := credential.ParseObject(a.body, 4); err == nil {
		if code, _ := o.Text("error"); isCode(code) {
			r.code = code
		}
	}
	return a, r
}

// refusal is the issuer's no (RFC 6749 5.2). Its own words are not shown: they would be
// a stranger's on the person's screen.
type refusal struct {
	status int
	code   string // empty if it is none
}

func (r *refusal) Error() string { return fmt.Sprintf("%v (%d %s)", ErrIssuer, r.status, r.code) }
func (r *refusal) Unwrap() error { return ErrIssuer }

func isCode(s string) bool {
	return s != "" && len(s) <= 64 && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz_") == ""
}
