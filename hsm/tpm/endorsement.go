package tpm

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"slices"

	"enrollkiosk/hsm"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
)

// ErrNoEndorsement: no endorsement key fits a certificate of the TPM.
var ErrNoEndorsement = errors.New("the TPM has no endorsement key that fits a certificate in it: use another machine")

// EndorsementKey is a key by which a TPM's maker knows it, with the maker's
// certificate. Untrusted until hsm/attest has verified both.
type EndorsementKey struct {
	Certificate []byte // DER
	Public      []byte // TPMT_PUBLIC
	place       *endorsement
}

// endorsement is where a kind of endorsement key and its certificate are (TCG EK
// Credential Profile 2.5, 2.2.1.4 and annex B; handles: Provisioning Guidance 7.8).
type endorsement struct {
	index      uint32 // of the certificate in NV
	persistent uint32 // handle, where a maker or system left the key
	template   tpm2.TPMTPublic
	authorize  tpm2.PolicyCallback
	hash       tpm2.TPMAlgID // of the policy
}

var endorsements = []endorsement{
	{0x01c00002, 0x81010001, tpm2.RSAEKTemplate, policySecret, tpm2.TPMAlgSHA256},
	{0x01c0000a, 0x81010002, tpm2.ECCEKTemplate, policySecret, tpm2.TPMAlgSHA256},
	{0x01c00016, 0x81010016, p384EKTemplate, policySecretOr, tpm2.TPMAlgSHA384},
}

// p384EKTemplate is H-3 of the profile (B.4.5).
var p384EKTemplate = tpm2.TPMTPublic{
	Type:    tpm2.TPMAlgECC,
	NameAlg: tpm2.TPMAlgSHA384,
	ObjectAttributes: tpm2.TPMAObject{
		FixedTPM: true, FixedParent: true, SensitiveDataOrigin: true, UserWithAuth: true, AdminWithPolicy: true, Restricted: true, Decrypt: true,
	},
	AuthPolicy: tpm2.TPM2BDigest{Buffer: []byte{ // PolicyB
		0xB2, 0x6E, 0x7D, 0x28, 0xD1, 0x1A, 0x50, 0xBC, 0x53, 0xD8, 0x82, 0xBC, 0xF5, 0xFD, 0x3A, 0x1A,
		0x07, 0x41, 0x48, 0xBB, 0x35, 0xD3, 0xB4, 0xE4, 0xCB, 0x1C, 0x0A, 0xD9, 0xBD, 0xE4, 0x19, 0xCA,
		0xCB, 0x47, 0xBA, 0x09, 0x69, 0x96, 0x46, 0x15, 0x0F, 0x9F, 0xC0, 0x00, 0xF3, 0xF8, 0x0E, 0x12}},
	Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{
		Symmetric: tpm2.TPMTSymDefObject{Algorithm: tpm2.TPMAlgAES,
			KeyBits: tpm2.NewTPMUSymKeyBits(tpm2.TPMAlgAES, tpm2.TPMKeyBits(256)), Mode: tpm2.NewTPMUSymMode(tpm2.TPMAlgAES, tpm2.TPMAlgCFB)},
		CurveID: tpm2.TPMECCNistP384,
	}),
	Unique: tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{}), // size 0 (B.4.5)
}

// policyA384 and policyC384 are the branches of PolicyB: PolicySecret of the
// endorsement hierarchy, and PolicyAuthorizeNV of the profile's index (B.6.5).
var (
	policyA384 = []byte{
		0x8B, 0xBF, 0x22, 0x66, 0x53, 0x7C, 0x17, 0x1C, 0xB5, 0x6E, 0x40, 0x3C, 0x4D, 0xC1, 0xD4, 0xB6,
		0x4F, 0x43, 0x26, 0x11, 0xDC, 0x38, 0x6E, 0x6F, 0x53, 0x20, 0x50, 0xC3, 0x27, 0x8C, 0x93, 0x0E,
		0x14, 0x3E, 0x8B, 0xB1, 0x13, 0x38, 0x24, 0xCC, 0xB4, 0x31, 0x05, 0x38, 0x71, 0xC6, 0xDB, 0x53}
	policyC384 = []byte{
		0xD6, 0x03, 0x2C, 0xE6, 0x1F, 0x2F, 0xB3, 0xC2, 0x40, 0xEB, 0x3C, 0xF6, 0xA3, 0x32, 0x37, 0xEF,
		0x2B, 0x6A, 0x16, 0xF4, 0x29, 0x3C, 0x22, 0xB4, 0x55, 0xE2, 0x61, 0xCF, 0xFD, 0x21, 0x7A, 0xD5,
		0xB4, 0x94, 0x7C, 0x2D, 0x73, 0xE6, 0x30, 0x05, 0xEE, 0xD2, 0xDC, 0x2B, 0x35, 0x93, 0xD1, 0x65}
)

func policySecret(r transport.TPM, session tpm2.TPMISHPolicy, nonce tpm2.TPM2BNonce) error {
	_, err := tpm2.PolicySecret{
		AuthHandle:    tpm2.AuthHandle{Handle: tpm2.TPMRHEndorsement, Auth: tpm2.PasswordAuth(nil)},
		PolicySession: session, NonceTPM: nonce,
	}.Execute(r)
	return err
}

func policySecretOr(r transport.TPM, session tpm2.TPMISHPolicy, nonce tpm2.TPM2BNonce) error {
	if err := policySecret(r, session, nonce); err != nil {
		return err
	}
	_, err := tpm2.PolicyOr{PolicySession: session, PHashList: tpm2.TPMLDigest{Digests: []tpm2.TPM2BDigest{{Buffer: policyA384}, {Buffer: policyC384}}}}.Execute(r)
	return err
}

// EndorsementKeys finds the TPM's endorsement keys: for each certificate in NV
// the persistent key, or one made anew from the TCG's template, which takes
// seconds for RSA. Keys that do not fit their certificate are left out; with
// none left it is ErrNoEndorsement, without a certificate hsm.ErrUnsupported.
func (t *TPM) EndorsementKeys(ctx context.Context) ([]EndorsementKey, error) {
	certificates, err := t.EKCertificates(ctx)
	if err != nil {
		return nil, err
	}
	var out []EndorsementKey
	err = t.do(ctx, "find endorsement keys", func(r transport.TPM) error {
		for i := range endorsements {
			e := &endorsements[i]
			for _, c := range certificates {
				if c.Index != e.index {
					continue
				}
				cert, err := x509.ParseCertificate(c.DER)
				if err != nil {
					continue // the verifier could not read it either
				}
				public, err := e.find(r, cert.PublicKey)
				if err != nil {
					return fmt.Errorf("endorsement key %#x: %w", e.persistent, err)
				}
				if public != nil {
					out = append(out, EndorsementKey{c.DER, public, e})
				}
			}
		}
		if len(out) == 0 {
			return ErrNoEndorsement
		}
		return nil
	})
	return out, err
}

// find reads the persistent key, or makes it; nil when neither is the
// certificate's.
func (e *endorsement) find(r transport.TPM, certified crypto.PublicKey) ([]byte, error) {
	got, err := tpm2.ReadPublic{ObjectHandle: tpm2.TPMHandle(e.persistent)}.Execute(r)
	switch {
	case err == nil && fits(got.OutPublic, certified):
		return got.OutPublic.Bytes(), nil
	case err != nil && !errors.Is(err, tpm2.TPMRCHandle):
		return nil, err
	}
	made, err := e.make(r)
	if err != nil {
		return nil, err
	}
	defer flush(r, made.ObjectHandle)
	if !fits(made.OutPublic, certified) {
		return nil, nil
	}
	return made.OutPublic.Bytes(), nil
}

func (e *endorsement) make(r transport.TPM) (*tpm2.CreatePrimaryResponse, error) {
	return tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHEndorsement, InPublic: tpm2.New2B(e.template)}.Execute(r)
}

// fits says whether a public area has a certificate's key.
func fits(area tpm2.TPM2BPublic, certified crypto.PublicKey) bool {
	public, err := area.Contents()
	if err != nil {
		return false
	}
	switch want := certified.(type) {
	case *rsa.PublicKey:
		n, err := public.Unique.RSA()
		return err == nil && want.N.Cmp(new(big.Int).SetBytes(n.Buffer)) == 0
	case *ecdsa.PublicKey:
		p, err := public.Unique.ECC()
		if err != nil {
			return false
		}
		size := (want.Curve.Params().BitSize + 7) / 8
		if len(p.X.Buffer) > size || len(p.Y.Buffer) > size || want.Curve != elliptic.P256() && want.Curve != elliptic.P384() {
			return false
		}
		point := append([]byte{4}, make([]byte, 2*size)...)
		copy(point[1+size-len(p.X.Buffer):], p.X.Buffer)
		copy(point[1+2*size-len(p.Y.Buffer):], p.Y.Buffer)
		known, err := want.Bytes()
		return err == nil && bytes.Equal(point, known)
	}
	return false
}

// Activate opens a credential that was made for ek and for this kiosk's
// attestation key (TPM2_ActivateCredential): that the secret comes out proves
// that both are in this TPM. ErrCredential: it was made for others, or altered.
func (t *TPM) Activate(ctx context.Context, ek EndorsementKey, c hsm.TPMCredential) (secret []byte, err error) {
	if ek.place == nil {
		return nil, fmt.Errorf("activate credential: %w", ErrNoEndorsement)
	}
	err = t.do(ctx, "activate credential", func(r transport.TPM) error {
		signer, err := t.blob(ak)
		if err != nil {
			return err
		}
		public := tpm2.BytesAs2B[tpm2.TPMTPublic](ek.Public)
		area, err := public.Contents()
		if err != nil {
			return fmt.Errorf("endorsement key: %w", err)
		}
		name, err := tpm2.ObjectName(area)
		if err != nil {
			return fmt.Errorf("endorsement key: %w", err)
		}
		return t.with(r, signer, func(ak tpm2.AuthHandle) error {
			handle, done, err := ek.load(r)
			if err != nil {
				return err
			}
			defer done()
			got, err := tpm2.ActivateCredential{
				ActivateHandle: ak,
				KeyHandle:      tpm2.AuthHandle{Handle: handle, Name: *name, Auth: tpm2.Policy(ek.place.hash, 16, ek.place.authorize)},
				CredentialBlob: tpm2.TPM2BIDObject{Buffer: c.Blob},
				Secret:         tpm2.TPM2BEncryptedSecret{Buffer: c.Secret},
			}.Execute(r)
			if notOurs(r, err) {
				return fmt.Errorf("%w (%v)", ErrCredential, err)
			}
			if err != nil {
				return err
			}
			secret = got.CertInfo.Buffer
			return nil
		})
	})
	return secret, err
}

// ErrCredential: a credential was not made for this TPM's keys.
var ErrCredential = errors.New("the registry's challenge is not for this TPM")

// notOurs says whether a response means that a credential does not open: its
// integrity, its size or its encrypted seed is wrong (TPM 2.0 Part 3, 12.5).
// Some TPMs say TPM_RC_FAILURE when RSA does not decrypt; one that has really
// failed answers nothing any more.
func notOurs(r transport.TPM, err error) bool {
	if errors.Is(err, tpm2.TPMRCFailure) {
		_, dead := tpm2.GetRandom{BytesRequested: 8}.Execute(r)
		return dead == nil
	}
	return slices.ContainsFunc([]tpm2.TPMRC{tpm2.TPMRCIntegrity, tpm2.TPMRCSize, tpm2.TPMRCInsufficient, tpm2.TPMRCValue, tpm2.TPMRCECCPoint},
		func(rc tpm2.TPMRC) bool { return errors.Is(err, rc) })
}

// load gives the key's handle: the persistent one, or that of a key made anew,
// which done flushes.
func (ek EndorsementKey) load(r transport.TPM) (handle tpm2.TPMHandle, done func(), err error) {
	persistent := tpm2.TPMHandle(ek.place.persistent)
	got, err := tpm2.ReadPublic{ObjectHandle: persistent}.Execute(r)
	switch {
	case err == nil && bytes.Equal(got.OutPublic.Bytes(), ek.Public):
		return persistent, func() {}, nil
	case err != nil && !errors.Is(err, tpm2.TPMRCHandle):
		return 0, nil, err
	}
	made, err := ek.place.make(r)
	if err != nil {
		return 0, nil, fmt.Errorf("make endorsement key: %w", err)
	}
	if !bytes.Equal(made.OutPublic.Bytes(), ek.Public) {
		flush(r, made.ObjectHandle)
		return 0, nil, ErrNoEndorsement
	}
	return made.ObjectHandle, func() { flush(r, made.ObjectHandle) }, nil
}
