package credential_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"enrollkiosk/registry/credential"
	"enrollkiosk/registry/credential/credentialtest"
)

// The holder and its request for a batch. Any text may stand for the DID here.
type holder struct {
	batch    credential.Batch
	enrolled *ecdsa.PrivateKey
	keys     []*ecdsa.PrivateKey
}

const did = "did:key:zDnaeHolder"

func newHolder(t testing.TB, n int) *holder {
	h := &holder{credential.Batch{Issuer: issuerID, DID: did, Nonce: nonce, Storage: credential.DerivedFromPIV, Now: now}, credentialtest.Key(t), nil}
	for range n {
		h.keys = append(h.keys, credentialtest.Key(t))
	}
	return h
}

func (h *holder) proofs(t testing.TB) []string {
	t.Helper()
	var public []*ecdsa.PublicKey
	for _, k := range h.keys {
		public = append(public, &k.PublicKey)
	}
	attestation, err := h.batch.SignAttestation(h.enrolled, public)
	if err != nil {
		t.Fatal(err)
	}
	var proofs []string
	for _, k := range h.keys {
		p, err := h.batch.SignProof(k, attestation)
		if err != nil {
			t.Fatal(err)
		}
		proofs = append(proofs, p)
		attestation = ""
	}
	return proofs
}

func (h *holder) expect() credential.ExpectBatch {
	return credential.ExpectBatch{Issuer: issuerID, DID: did, Key: &h.enrolled.PublicKey, Now: now, Nonce: func(n string) bool { return n == nonce }}
}

func TestBatch(t *testing.T) {
	h := newHolder(t, credential.MaxBatch)
	proofs := h.proofs(t)
	p, err := credential.VerifyProofs(proofs, h.expect())
	if err != nil {
		t.Fatal(err)
	}
	if len(p.Keys()) != len(h.keys) || p.Storage()[0] != issuerID+credential.DerivedFromPIV {
		t.Error(len(p.Keys()), p.Storage())
	}
	for i, k := range p.Keys() {
		if !k.Equal(&h.keys[i].PublicKey) {
			t.Errorf("key %d", i)
		}
	}
}

func TestBatchAttacks(t *testing.T) {
	for name, test := range map[string]struct {
		attack func(t *testing.T, h *holder, e *credential.ExpectBatch) []string
		want   credential.Refusal
	}{
		"none":            {func(*testing.T, *holder, *credential.ExpectBatch) []string { return nil }, credential.ErrSize},
		"a proof missing": {func(t *testing.T, h *holder, _ *credential.ExpectBatch) []string { return h.proofs(t)[:2] }, credential.ErrAttestation},
		"a proof more": {func(t *testing.T, h *holder, _ *credential.ExpectBatch) []string {
			p, _ := h.batch.SignProof(credentialtest.Key(t), "")
			return append(h.proofs(t), p)
		}, credential.ErrAttestation},
		"a proof of a key that is not attested": {func(t *testing.T, h *holder, _ *credential.ExpectBatch) []string {
			p, _ := h.batch.SignProof(credentialtest.Key(t), "")
			return append(h.proofs(t)[:2], p)
		}, credential.ErrAttestation},
		"one key twice": {func(t *testing.T, h *holder, _ *credential.ExpectBatch) []string {
			h.keys[2] = h.keys[1]
			return h.proofs(t)
		}, credential.ErrAttestation},
		"the enrolled key itself": {func(t *testing.T, h *holder, _ *credential.ExpectBatch) []string {
			h.keys[1] = h.enrolled
			return h.proofs(t)
		}, credential.ErrAttestation},
		"a key whose owner did not prove it": {func(t *testing.T, h *holder, _ *credential.ExpectBatch) []string {
			proofs := h.proofs(t)
			forged := signJWS(t, credentialtest.Key(t), map[jose.HeaderKey]any{"typ": "openid4vci-proof+jwt", "jwk": jose.JSONWebKey{Key: &h.keys[1].PublicKey}}, payloadOf(t, proofs[1]))
			return []string{proofs[0], forged, proofs[2]}
		}, credential.ErrSignature},
		"attested by another": {func(t *testing.T, h *holder, _ *credential.ExpectBatch) []string {
			h.enrolled = credentialtest.Key(t)
			return h.proofs(t)
		}, credential.ErrSignature},
		"attested in the name of another": {func(t *testing.T, h *holder, _ *credential.ExpectBatch) []string {
			h.batch.DID += "x"
			return h.proofs(t)
		}, credential.ErrKey},
		"without attestation": {func(t *testing.T, h *holder, _ *credential.ExpectBatch) []string {
			p, _ := h.batch.SignProof(h.keys[0], "")
			return []string{p}
		}, credential.ErrForm},
		"an attestation in the second proof": {func(t *testing.T, h *holder, _ *credential.ExpectBatch) []string {
			proofs := h.proofs(t)
			proofs[1], _ = h.batch.SignProof(h.keys[1], "x.y.z")
			return proofs
		}, credential.ErrAttestation},
		"for another issuer": {func(t *testing.T, h *holder, _ *credential.ExpectBatch) []string {
			h.batch.Issuer = "https://other.example"
			return h.proofs(t)
		}, credential.ErrAudience},
		"an old nonce": {func(t *testing.T, h *holder, e *credential.ExpectBatch) []string {
			e.Nonce = func(string) bool { return false }
			return h.proofs(t)
		}, credential.ErrNonce},
		"two nonces": {func(t *testing.T, h *holder, e *credential.ExpectBatch) []string {
			e.Nonce = func(string) bool { return true }
			proofs := h.proofs(t)
			h.batch.Nonce = "other"
			proofs[1], _ = h.batch.SignProof(h.keys[1], "")
			return proofs
		}, credential.ErrNonce},
		"old": {func(t *testing.T, h *holder, e *credential.ExpectBatch) []string {
			e.Now = now.Add(credential.Skew + time.Second)
			return h.proofs(t)
		}, credential.ErrTime},
		"a key binding as proof": {func(t *testing.T, h *holder, _ *credential.ExpectBatch) []string {
			return []string{newAttack(t).binding}
		}, credential.ErrType},
		"an enrolled key of another kind": {func(t *testing.T, h *holder, e *credential.ExpectBatch) []string {
			k, err := rsa.GenerateKey(rand.Reader, 2048)
			if err != nil {
				t.Fatal(err)
			}
			e.Key = k.Public()
			return h.proofs(t)
		}, credential.ErrKey},
		"with iss": {func(t *testing.T, h *holder, _ *credential.ExpectBatch) []string {
			proofs := h.proofs(t)
			proofs[1] = signJWS(t, h.keys[1], map[jose.HeaderKey]any{"typ": "openid4vci-proof+jwt", "jwk": jose.JSONWebKey{Key: &h.keys[1].PublicKey}},
				replace(t, payloadOf(t, proofs[1]), `{`, `{"iss":"wallet",`))
			return proofs
		}, credential.ErrForm},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHolder(t, 3)
			e := h.expect()
			used := false
			p, err := credential.VerifyProofs(test.attack(t, h, &e), func() credential.ExpectBatch {
				inner := e.Nonce
				e.Nonce = func(n string) bool { used = inner(n); return used }
				return e
			}())
			if len(p.Keys()) > 0 {
				t.Fatal("accepted")
			}
			if used {
				t.Error("the nonce is used up by a request that is refused")
			}
			wants(t, err, test.want)
		})
	}
}

func TestOfferRequest(t *testing.T) {
	h := newHolder(t, 0)
	unknown := errors.New("no such record")
	find := func(name string) (crypto.PublicKey, error) {
		if name != did {
			return nil, unknown
		}
		return &h.enrolled.PublicKey, nil
	}
	good, err := h.batch.SignOfferRequest(h.enrolled)
	if err != nil {
		t.Fatal(err)
	}
	r, err := credential.VerifyOfferRequest(good, issuerID, now, find)
	if err != nil || r.DID() != did || r.Nonce() != nonce {
		t.Fatal(r, err)
	}
	stranger, _ := h.batch.SignOfferRequest(credentialtest.Key(t))
	_, err = credential.VerifyOfferRequest(stranger, issuerID, now, find)
	wants(t, err, credential.ErrSignature)
	_, err = credential.VerifyOfferRequest(good, "https://other.example", now, find)
	wants(t, err, credential.ErrAudience)
	_, err = credential.VerifyOfferRequest(good, issuerID, now.Add(time.Hour), find)
	wants(t, err, credential.ErrTime)
	h.batch.DID += "x"
	other, _ := h.batch.SignOfferRequest(h.enrolled)
	if _, err := credential.VerifyOfferRequest(other, issuerID, now, find); !errors.Is(err, unknown) {
		t.Error(err)
	}
	// kid names one holder, the payload another.
	mixed := signJWS(t, h.enrolled, map[jose.HeaderKey]any{"typ": "offer-request+jwt", "kid": did + "#zDnaeHolder"}, payloadOf(t, other))
	_, err = credential.VerifyOfferRequest(mixed, issuerID, now, find)
	wants(t, err, credential.ErrKey)
	for i := range len(good) {
		bad := []byte(good)
		bad[i] ^= 1
		if _, err := credential.VerifyOfferRequest(string(bad), issuerID, now, find); err == nil {
			t.Fatalf("byte %d: accepted", i)
		}
	}
}
