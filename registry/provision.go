package registry

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"enrollkiosk/hsm"
	"enrollkiosk/hsm/attest"
	"enrollkiosk/registry/api"
	"enrollkiosk/registry/expect"
	"enrollkiosk/registry/internal/reply"
	"enrollkiosk/registry/policy"
)

// Limits of provisioning. Nobody needs to be known to ask, so little is done for
// whoever has no code.
const (
	maxProvisions   = 4                // requests at once
	wrongCodePause  = time.Second      // before a code is refused
	challengeLife   = 5 * time.Minute  // for a TPM to answer in
	sessionIdleLife = 30 * time.Minute // for a kiosk that waits to ask again in
	maxSessions     = 8                // of one kiosk id; the oldest goes
)

// CheckActivation: the secret of the credential did not come back.
const CheckActivation attest.Check = "activation"

// provisioning is the registry's half of provisioning: begin, prove, wait. The
// kiosk has shown which TPM it has before anything is kept but a session; what
// it has proved waits for a person, and only then it has certificates.
type provisioning struct {
	kiosks   Kiosks
	sessions sessions
	roots    []attest.Root // of endorsement certificates
	now      func() time.Time
	pause    time.Duration // before a code is refused
}

// session is one kiosk's attempt, with what it has said of its keys.
type session struct {
	ID        api.ID    `json:"id"`
	Secret    []byte    `json:"secret_sha256"` // of the one in the credential; nil once it was answered
	Nonce     []byte    `json:"nonce"`
	Ends      time.Time `json:"ends"`
	Code      []byte    `json:"code_sha256"` // of the secret that it came with
	Kiosk     Kiosk     `json:"kiosk"`       // once proved with BootPCRs and keys; without certificates
	RecordCSR []byte    `json:"record_csr"`
	TLSCSR    []byte    `json:"tls_csr"`
	Proved    bool      `json:"proved"`
}

// problem is a refusal with what the kiosk is told.
type problem struct {
	status            int
	code, title, hint string
	err               error // for the log
}

func (p *problem) Error() string { return p.code + ": " + p.title }
func (p *problem) Unwrap() error { return p.err }

func refuse(status int, code, title string, err error) error {
	p := &problem{status: status, code: code, title: title, err: err}
	var check *attest.Error
	if errors.As(err, &check) {
		p.hint = string(check.Check)
	}
	return p
}

func newProvisioning(kiosks Kiosks, sessions sessions, p policy.Policy, now func() time.Time) (*provisioning, error) {
	roots, err := expect.Roots(p.TPMRoots)
	return &provisioning{kiosks: kiosks, sessions: sessions, roots: roots, now: now, pause: wrongCodePause}, err
}

func attestationSPKI(public []byte) ([]byte, error) {
	ak, err := attest.ParseAttestationKey(public)
	if err != nil {
		return nil, err
	}
	return x509.MarshalPKIXPublicKey(ak.Key)
}

// begin checks the code, then what the kiosk says of its TPM, and makes a
// challenge that only that TPM can answer.
func (v *provisioning) begin(ctx context.Context, q api.ProvisionBegin) (api.ProvisionChallenge, error) {
	var none api.ProvisionChallenge
	now := v.now()
	p, err := v.kiosks.checkCode(ctx, q.KioskID, q.Secret, now)
	if errors.Is(err, errCode) {
		select {
		case <-ctx.Done():
		case <-time.After(v.pause):
		}
		return none, refuse(http.StatusForbidden, api.CodeProvisionCode, "the code is not good for this kiosk", err)
	}
	if err != nil {
		return none, err
	}
	known, err := v.standing(ctx, p)
	if err != nil {
		return none, err
	}
	which, ek, e, err := v.endorsed(q.Endorsements, known, now)
	if err != nil {
		return none, err
	}
	s := session{Nonce: random(32), Ends: now.Add(challengeLife), Code: p.Secret, RecordCSR: q.RecordCSR, TLSCSR: q.TLSCSR}
	copy(s.ID[:], random(32))
	if s.Kiosk, err = claimed(q, q.Endorsements[which], e, now); err != nil {
		return none, err
	}
	if _, _, err := s.requests(); err != nil {
		return none, refuse(http.StatusForbidden, api.CodeProvisionAttestation, "a certificate request does not verify", err)
	}
	ak, err := attest.ParseAttestationKey(q.AttestationKey)
	if err != nil {
		return none, refuse(http.StatusForbidden, api.CodeProvisionAttestation, "the attestation key is not one", err)
	}
	secret := random(attest.MaxSecret)
	hash := sha256.Sum256(secret)
	s.Secret = hash[:]
	made, err := attest.MakeCredential(ek, ak.Name, secret)
	if err != nil {
		return none, err
	}
	if err := v.sessions.AddSession(ctx, s, now); err != nil {
		return none, err
	}
	return api.ProvisionChallenge{Session: s.ID, Endorsement: which, Blob: made.Blob, Encrypted: made.Secret, Nonce: s.Nonce}, nil
}

func random(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}

// standing is the endorsement key that the id or the code belongs to already;
// nil for a new kiosk.
func (v *provisioning) standing(ctx context.Context, p Provision) ([]byte, error) {
	kiosk, err := v.kiosks.Find(ctx, p.ID)
	switch {
	case err == nil:
		return standing{&kiosk, &p}.belongs()
	case errors.Is(err, ErrUnknownKiosk):
		return standing{nil, &p}.belongs()
	}
	return nil, err
}

func (s standing) belongs() ([]byte, error) {
	switch {
	case s.provision.Rejected:
		return nil, refuse(http.StatusForbidden, api.CodeProvisionRejected, "a person at the registry has rejected this kiosk", nil)
	case s.kiosk == nil:
		return s.provision.EndorsementKey, nil
	case s.kiosk.Revoked != nil:
		return nil, refuse(http.StatusForbidden, api.CodeProvisionRevoked, "the kiosk of this id was revoked", nil)
	}
	return s.kiosk.EndorsementKey, nil
}

// endorsed finds the endorsement key to challenge: the known one if there is one,
// else the first that a root vouches for.
func (v *provisioning) endorsed(list []api.Endorsement, known []byte, now time.Time) (which int, ek attest.EndorsementKey, e attest.Endorsement, err error) {
	if known != nil && !slices.ContainsFunc(list, func(o api.Endorsement) bool {
		c, err := x509.ParseCertificate(o.Certificate)
		return err == nil && string(c.RawSubjectPublicKeyInfo) == string(known)
	}) {
		return 0, ek, e, refuse(http.StatusConflict, api.CodeProvisionOtherTPM, "this id or code belongs to another TPM", nil)
	}
	for i, o := range list {
		if e, err = attest.VerifyEndorsement(o.Certificate, nil, v.roots, now); err != nil {
			continue
		}
		if known != nil {
			if spki, _ := x509.MarshalPKIXPublicKey(e.Key()); string(spki) != string(known) {
				continue
			}
		}
		if ek, err = attest.ParseEndorsementKey(o.Public); err != nil {
			continue
		}
		if err = ek.Certified(e); err == nil {
			return i, ek, e, nil
		}
	}
	return 0, ek, e, refuse(http.StatusForbidden, api.CodeProvisionEK, "no endorsement key of this TPM is vouched for", err)
}

// claimed is what a kiosk says of its TPM.
func claimed(q api.ProvisionBegin, own api.Endorsement, e attest.Endorsement, now time.Time) (Kiosk, error) {
	ek, err := x509.MarshalPKIXPublicKey(e.Key())
	return Kiosk{ID: q.KioskID, EndorsementKey: ek, Endorsement: own, AttestationKey: q.AttestationKey, StorageKeyName: q.StorageKeyName, Class: e.Class(),
		Manufacturer: e.Manufacturer(), Model: e.Model(), Counter: q.Counter, Registered: now.UTC().Truncate(time.Second)}, err
}

// requests are the two that the kiosk came with.
func (s session) requests() (record, tls *x509.CertificateRequest, err error) {
	for _, r := range []struct {
		der []byte
		out **x509.CertificateRequest
	}{{s.RecordCSR, &record}, {s.TLSCSR, &tls}} {
		if *r.out, err = x509.ParseCertificateRequest(r.der); err == nil {
			err = (*r.out).CheckSignature()
		}
		if err != nil {
			return nil, nil, err
		}
	}
	return record, tls, nil
}

// prove checks a challenge's answer: the TPM is the endorsed one (the secret),
// the AK is in it (the credential's name), and all that the AK states was stated
// now. A challenge is answered once.
func (v *provisioning) prove(ctx context.Context, q api.ProvisionProof) (api.ProvisionStatus, error) {
	now := v.now()
	var secret []byte
	s, err := v.sessions.ChangeSession(ctx, q.Session, now, func(s *session) error {
		if s.Secret == nil {
			return errSessionOver
		}
		secret, s.Secret = s.Secret, nil
		return nil
	})
	if err != nil {
		return api.ProvisionStatus{}, ended(err)
	}
	if hash := sha256.Sum256(q.Secret); subtle.ConstantTimeCompare(secret, hash[:]) != 1 {
		return api.ProvisionStatus{}, refuse(http.StatusForbidden, api.CodeProvisionAttestation, "the TPM did not open the credential",
			&attest.Error{Check: CheckActivation})
	}
	kiosk, err := s.prove(q)
	if err != nil {
		return api.ProvisionStatus{}, refuse(http.StatusForbidden, api.CodeProvisionAttestation, "the TPM's statements do not verify", err)
	}
	status, err := v.settle(ctx, kiosk, s.Code, now)
	if err != nil {
		return status, err
	}
	_, err = v.sessions.ChangeSession(ctx, q.Session, now, func(s *session) error {
		s.Kiosk, s.Proved, s.Ends = kiosk, true, now.Add(sessionIdleLife)
		return nil
	})
	return status, ended(err)
}

// ended turns errSessionOver into what the kiosk is told.
func ended(err error) error {
	if errors.Is(err, errSessionOver) {
		return errSession()
	}
	return err
}

func errSession() error {
	return refuse(http.StatusNotFound, api.CodeProvisionSession, "this session is over: begin again", nil)
}

// prove verifies the AK's statements for the session's nonce and is the kiosk
// that they describe.
func (s session) prove(q api.ProvisionProof) (Kiosk, error) {
	k, nonce := s.Kiosk, s.Nonce
	recordCSR, tlsCSR, err := s.requests()
	if err != nil {
		return k, err
	}
	quote := hsm.TPMQuote{Attest: q.Quote.Attest, Signature: q.Quote.Signature}
	for _, p := range q.Quote.PCRs {
		quote.PCRs = append(quote.PCRs, hsm.PCR(p))
	}
	boot, err := attest.VerifyQuote(quote, attest.QuoteExpect{AK: k.AttestationKey, ParentName: k.StorageKeyName, QualifyingData: nonce})
	if err != nil {
		return k, fmt.Errorf("quote: %w", err)
	}
	for i := range boot {
		k.BootPCRs = append(k.BootPCRs, boot[i][:])
	}
	for _, key := range []struct {
		name     string
		evidence api.TPMEvidence
		request  *x509.CertificateRequest
		spki     *[]byte
	}{{"record key", q.RecordEvidence, recordCSR, &k.RecordKey}, {"tls key", q.TLSEvidence, tlsCSR, &k.TLSKey}} {
		proof, err := attest.VerifyTPM(hsm.TPMEvidence(key.evidence), attest.TPMExpect{AK: k.AttestationKey, Class: k.Class,
			QualifyingData: nonce, OutsideInfo: api.KioskBinding(k.ID), ParentName: k.StorageKeyName})
		if err != nil {
			return k, fmt.Errorf("%s: %w", key.name, err)
		}
		if !samePublic(key.request.PublicKey, proof.Key()) {
			return k, fmt.Errorf("%s: %w", key.name, &attest.Error{Check: attest.CheckKey, Err: errors.New("the certificate request is for another key")})
		}
		*key.spki = key.request.RawSubjectPublicKeyInfo
	}
	if samePublic(recordCSR.PublicKey, tlsCSR.PublicKey) {
		return k, &attest.Error{Check: attest.CheckKey, Err: errors.New("one key for two uses")}
	}
	return k, nil
}

// settle gives a kiosk that has proved itself its certificates again, if it is on
// the register with these keys and this boot, and else has it wait for a person.
// Its TPM claims the code, if it is still the one that the session began with.
func (v *provisioning) settle(ctx context.Context, kiosk Kiosk, code []byte, now time.Time) (status api.ProvisionStatus, err error) {
	err = v.kiosks.change(ctx, kiosk.ID, func(s *standing) error {
		p, old := s.provision, s.kiosk
		if p == nil {
			return refuse(http.StatusForbidden, api.CodeProvisionCode, "the code is not good for this kiosk", errCode)
		}
		known, err := s.belongs()
		if err != nil {
			return err
		}
		if !now.Before(p.Expires) || !bytes.Equal(p.Secret, code) {
			return refuse(http.StatusForbidden, api.CodeProvisionCode, "the code is not good for this kiosk", errCode)
		}
		if known != nil && string(known) != string(kiosk.EndorsementKey) {
			return refuse(http.StatusConflict, api.CodeProvisionOtherTPM, "this id or code belongs to another TPM", nil)
		}
		p.EndorsementKey = kiosk.EndorsementKey
		if old != nil && old.same(kiosk) && old.bootsLike(kiosk) {
			if !v.kiosks.last(old.Certificates, now) {
				if err := v.kiosks.issue(old, now); err != nil {
					return err
				}
			}
			p.Waiting = nil
			status = api.ProvisionStatus{Status: api.Approved, Certificates: &old.Certificates}
			return nil
		}
		p.Waiting, p.Since = &kiosk, now.UTC().Truncate(time.Second)
		status = api.ProvisionStatus{Status: api.Waiting}
		return nil
	})
	return status, err
}

// status says whether a person has decided.
func (v *provisioning) status(ctx context.Context, id api.ID) (api.ProvisionStatus, error) {
	now := v.now()
	s, err := v.sessions.ChangeSession(ctx, id, now, func(s *session) error {
		if !s.Proved {
			return errSessionOver
		}
		s.Ends = now.Add(sessionIdleLife)
		return nil
	})
	if err != nil {
		return api.ProvisionStatus{}, ended(err)
	}
	p, err := v.kiosks.findProvision(ctx, s.Kiosk.ID)
	if err != nil {
		return api.ProvisionStatus{}, err
	}
	if _, err := v.standing(ctx, p); err != nil {
		return api.ProvisionStatus{}, err
	}
	if !bytes.Equal(p.Secret, s.Code) {
		return api.ProvisionStatus{}, errSession() // another code was given out
	}
	if p.Waiting != nil {
		return api.ProvisionStatus{Status: api.Waiting}, nil
	}
	registered, err := v.kiosks.Find(ctx, s.Kiosk.ID)
	if err != nil {
		return api.ProvisionStatus{}, err
	}
	if !registered.same(s.Kiosk) {
		return api.ProvisionStatus{}, errSession() // it proved other keys since
	}
	return api.ProvisionStatus{Status: api.Approved, Certificates: &registered.Certificates}, nil
}

// serveProvision runs one step for whoever asks, a few at a time.
func serveProvision[Q any](r *Registry, slots chan struct{}, read func(*http.Request) (Q, error), step func(context.Context, Q) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, q *http.Request) {
		if q.Method == http.MethodPost {
			if !api.IsMedia(q.Header.Get("Content-Type"), api.MediaJSON) {
				reply.Problem(w, http.StatusUnsupportedMediaType, api.CodeMedia, "send "+api.MediaJSON, 0)
				return
			}
			q.Body = http.MaxBytesReader(w, q.Body, maxProvision)
		}
		body, err := read(q)
		if err != nil {
			reply.Problem(w, http.StatusBadRequest, api.CodeBadRequest, "the request is not of this contract", 0)
			return
		}
		// Now that the request is here: whoever sends slowly takes nobody's place.
		select {
		case slots <- struct{}{}:
			defer func() { <-slots }()
		default:
			reply.Problem(w, http.StatusTooManyRequests, api.CodeTooMany, "busy: ask again", retryAfter)
			return
		}
		answer, err := step(q.Context(), body)
		var refused *problem
		switch {
		case errors.As(err, &refused):
			r.opts.Log.Warn("provisioning refused", "code", refused.code, "check", refused.hint, "cause", refused.err)
			p := api.NewProblem(refused.status, refused.code, refused.title)
			p.Refused = refused.hint
			reply.Refusal(w, p)
		case err != nil:
			r.opts.Log.Error("provisioning failed", "error", err)
			reply.Problem(w, http.StatusServiceUnavailable, api.CodeUnavailable, "ask again", retryAfter)
		default:
			reply.JSON(w, answer)
		}
	}
}

// maxProvision is more than any request with eight certificates of a TPM's maker has.
const maxProvision = 256 << 10

func (r *Registry) provisionBegin(slots chan struct{}) http.HandlerFunc {
	return serveProvision(r, slots, func(q *http.Request) (api.ProvisionBegin, error) { return api.Decode[api.ProvisionBegin](q.Body) },
		func(ctx context.Context, b api.ProvisionBegin) (any, error) { return r.provisioning.begin(ctx, b) })
}

func (r *Registry) provisionProve(slots chan struct{}) http.HandlerFunc {
	return serveProvision(r, slots, func(q *http.Request) (api.ProvisionProof, error) { return api.Decode[api.ProvisionProof](q.Body) },
		func(ctx context.Context, p api.ProvisionProof) (any, error) {
			s, err := r.provisioning.prove(ctx, p)
			if err == nil {
				r.opts.Log.Info("kiosk has proved itself", "status", s.Status)
			}
			return s, err
		})
}

func (r *Registry) provisionStatus(slots chan struct{}) http.HandlerFunc {
	return serveProvision(r, slots, func(q *http.Request) (api.ID, error) { return api.ParseID(q.PathValue("session")) },
		func(ctx context.Context, id api.ID) (any, error) { return r.provisioning.status(ctx, id) })
}
