package tpm

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"encoding/asn1"
	"fmt"
	"math/big"
	"slices"

	"enrollkiosk/hsm"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
)

// RecordKey signs enrollment records. Before Init its public key is nil and
// Sign fails with ErrNotInitialized; see [TPM.Ready].
func (t *TPM) RecordKey() hsm.Key { return key{t, Record} }

// TLSKey is the client key towards the registry; like RecordKey otherwise.
func (t *TPM) TLSKey() hsm.Key { return key{t, TLS} }

type key struct {
	tpm  *TPM
	name KeyName
}

func (k key) Public() crypto.PublicKey {
	b, err := k.tpm.blob(k.name)
	if err != nil {
		return nil
	}
	return b.key
}

// Sign loads the key, signs, and flushes it. The signature is verified before
// it is returned: whatever sits between us and the TPM cannot slip in another.
func (k key) Sign(ctx context.Context, digest []byte) ([]byte, error) {
	b, err := k.tpm.blob(k.name)
	if err != nil {
		return nil, err
	}
	var der []byte
	err = k.tpm.do(ctx, "sign with key "+string(k.name), func(r transport.TPM) error {
		return k.tpm.with(r, b, func(h tpm2.AuthHandle) (err error) {
			der, err = b.sign(r, h, digest)
			return err
		}, inOnly)
	})
	return der, err
}

// sign has b, loaded as h, sign a SHA-256 digest.
func (b *blob) sign(r transport.TPM, h tpm2.AuthHandle, digest []byte) ([]byte, error) {
	if len(digest) != 32 {
		return nil, fmt.Errorf("digest of %d bytes: %w", len(digest), hsm.ErrUnsupported)
	}
	got, err := tpm2.Sign{
		KeyHandle:  h,
		Digest:     tpm2.TPM2BDigest{Buffer: digest},
		Validation: tpm2.TPMTTKHashCheck{Tag: tpm2.TPMSTHashCheck, Hierarchy: tpm2.TPMRHNull},
	}.Execute(r)
	if err != nil {
		return nil, err
	}
	sig, err := got.Signature.Signature.ECDSA()
	if err != nil {
		return nil, fmt.Errorf("%w (%w)", hsm.ErrUnavailable, err)
	}
	der, err := asn1.Marshal(struct{ R, S *big.Int }{
		new(big.Int).SetBytes(sig.SignatureR.Buffer), new(big.Int).SetBytes(sig.SignatureS.Buffer)})
	if err != nil {
		return nil, err
	}
	if !ecdsa.VerifyASN1(b.key, digest, der) {
		return nil, fmt.Errorf("%w (signature does not verify)", hsm.ErrUnavailable)
	}
	return der, nil
}

// with loads b for the length of f, in a session that f may use as well.
func (t *TPM) with(r transport.TPM, b *blob, f func(tpm2.AuthHandle) error, opts ...tpm2.AuthOption) error {
	srk, err := t.srk(r)
	if err != nil {
		return err
	}
	s, done, err := session(r, srk, opts...)
	if err != nil {
		return err
	}
	defer done()
	return b.load(r, srk, s, f)
}

// load is with, in a session that is open.
func (b *blob) load(r transport.TPM, srk parent, s tpm2.Session, f func(tpm2.AuthHandle) error) error {
	loaded, err := tpm2.Load{
		ParentHandle: srk.auth(s),
		InPrivate:    tpm2.TPM2BPrivate{Buffer: b.private},
		InPublic:     tpm2.BytesAs2B[tpm2.TPMTPublic](b.public),
	}.Execute(r)
	if err != nil {
		return fmt.Errorf("load key: %w", unread(r, err))
	}
	defer flush(r, loaded.ObjectHandle)
	return f(tpm2.AuthHandle{Handle: loaded.ObjectHandle, Name: tpm2.TPM2BName{Buffer: b.name}, Auth: s})
}

// Certify has the attestation key state how key which was born
// (TPM2_CertifyCreation). qualifying, 1 to 32 bytes, is the verifier's nonce;
// it stands in the signed statement.
func (t *TPM) Certify(ctx context.Context, which KeyName, qualifying []byte) (hsm.TPMEvidence, error) {
	b, err := t.blob(which)
	if err != nil {
		return hsm.TPMEvidence{}, err
	}
	return t.certify(ctx, "certify key "+string(which), b, qualifying)
}

func (t *TPM) certify(ctx context.Context, what string, b *blob, qualifying []byte) (hsm.TPMEvidence, error) {
	if len(qualifying) == 0 || len(qualifying) > 32 {
		return hsm.TPMEvidence{}, fmt.Errorf("%s: qualifying data of %d bytes: %w", what, len(qualifying), hsm.ErrUnsupported)
	}
	signer, err := t.blob(ak)
	if err != nil {
		return hsm.TPMEvidence{}, err
	}
	ticket, err := tpm2.Unmarshal[tpm2.TPMTTKCreation](b.creation.Ticket)
	if err != nil {
		return hsm.TPMEvidence{}, fmt.Errorf("%s: %w: ticket: %w", what, ErrKeyFile, err)
	}
	var out hsm.TPMEvidence
	err = t.do(ctx, what, func(r transport.TPM) error {
		srk, err := t.srk(r)
		if err != nil {
			return err
		}
		return t.with(r, signer, func(ak tpm2.AuthHandle) error {
			return b.load(r, srk, ak.Auth, func(object tpm2.AuthHandle) error {
				got, err := tpm2.CertifyCreation{
					SignHandle:     ak,
					ObjectHandle:   tpm2.NamedHandle{Handle: object.Handle, Name: object.Name},
					QualifyingData: tpm2.TPM2BData{Buffer: qualifying},
					CreationHash:   tpm2.TPM2BDigest{Buffer: b.creation.Hash},
					InScheme:       tpm2.TPMTSigScheme{Scheme: tpm2.TPMAlgECDSA, Details: tpm2.NewTPMUSigScheme(tpm2.TPMAlgECDSA, &tpm2.TPMSSchemeHash{HashAlg: tpm2.TPMAlgSHA256})},
					CreationTicket: *ticket,
				}.Execute(r)
				if err != nil {
					return err
				}
				out = hsm.TPMEvidence{
					Public:       slices.Clone(b.public),
					CreationData: slices.Clone(b.creation.Data),
					Attest:       got.CertifyInfo.Bytes(),
					Signature:    tpm2.Marshal(got.Signature),
				}
				return nil
			})
		})
	})
	return out, err
}
