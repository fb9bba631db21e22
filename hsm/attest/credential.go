package attest

import (
	"bytes"
	"crypto"
	"crypto/aes"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/binary"
	"fmt"
	"hash"
	"math/big"

	"enrollkiosk/hsm"
)

// Constants of TPM 2.0 Part 2 that only endorsement keys need.
const (
	algRSA    = 0x0001
	algAES    = 0x0006
	algSHA384 = 0x000C
	algCFB    = 0x0043
	curveP384 = 0x0004
)

// ekTemplate is what all public areas of one kind of endorsement key share (TCG
// EK Credential Profile 2.5, annex B): everything but the key itself.
type ekTemplate struct {
	name       string
	head       []byte // type to scheme and curve, as on the wire
	hash       func() hash.Hash
	hashAlg    uint16
	symmetric  int // bits
	curve      elliptic.Curve
	exchange   ecdh.Curve
	coordinate int // bytes; 0 for RSA
}

// Policies of the templates: PolicySecret(TPM_RH_ENDORSEMENT), and PolicyOR of
// that with a PolicyAuthorizeNV that no TPM of ours uses (profile B.6).
var (
	policyA256 = []byte{
		0x83, 0x71, 0x97, 0x67, 0x44, 0x84, 0xB3, 0xF8, 0x1A, 0x90, 0xCC, 0x8D, 0x46, 0xA5, 0xD7, 0x24,
		0xFD, 0x52, 0xD7, 0x6E, 0x06, 0x52, 0x0B, 0x64, 0xF2, 0xA1, 0xDA, 0x1B, 0x33, 0x14, 0x69, 0xAA}
	policyB384 = []byte{
		0xB2, 0x6E, 0x7D, 0x28, 0xD1, 0x1A, 0x50, 0xBC, 0x53, 0xD8, 0x82, 0xBC, 0xF5, 0xFD, 0x3A, 0x1A,
		0x07, 0x41, 0x48, 0xBB, 0x35, 0xD3, 0xB4, 0xE4, 0xCB, 0x1C, 0x0A, 0xD9, 0xBD, 0xE4, 0x19, 0xCA,
		0xCB, 0x47, 0xBA, 0x09, 0x69, 0x96, 0x46, 0x15, 0x0F, 0x9F, 0xC0, 0x00, 0xF3, 0xF8, 0x0E, 0x12}
)

// Attributes of the templates: restricted decryption keys that never leave
// their TPM. Only those of the high range may be used without their policy.
const (
	attrEKLow  = attrFixed | attrAdminWithPolicy | attrRestricted | attrDecrypt
	attrEKHigh = attrEKLow | attrUserWithAuth
)

var ekTemplates = []ekTemplate{
	{name: "RSA 2048 (L-1)", hash: sha256.New, hashAlg: algSHA256, symmetric: 128,
		head: ekHead(algRSA, algSHA256, attrEKLow, policyA256, algAES, 128, algCFB, algNull, 2048, 0, 0)},
	{name: "P-256 (L-2)", hash: sha256.New, hashAlg: algSHA256, symmetric: 128, curve: elliptic.P256(), exchange: ecdh.P256(), coordinate: 32,
		head: ekHead(algECC, algSHA256, attrEKLow, policyA256, algAES, 128, algCFB, algNull, curveP256, algNull)},
	{name: "P-384 (H-3)", hash: sha512.New384, hashAlg: algSHA384, symmetric: 256, curve: elliptic.P384(), exchange: ecdh.P384(), coordinate: 48,
		head: ekHead(algECC, algSHA384, attrEKHigh, policyB384, algAES, 256, algCFB, algNull, curveP384, algNull)},
}

// ekHead encodes the part of a TPMT_PUBLIC before its unique field.
func ekHead(kind, nameAlg uint16, attributes uint32, policy []byte, parameters ...uint16) []byte {
	b := binary.BigEndian.AppendUint16(nil, kind)
	b = binary.BigEndian.AppendUint16(b, nameAlg)
	b = binary.BigEndian.AppendUint32(b, attributes)
	b = appendSized(b, policy)
	for _, p := range parameters {
		b = binary.BigEndian.AppendUint16(b, p)
	}
	return b
}

// appendSized appends a TPM2B.
func appendSized(b, content []byte) []byte {
	return append(binary.BigEndian.AppendUint16(b, uint16(len(content))), content...)
}

// EndorsementKey is a public area that only an endorsement key has. That it is
// the one of a genuine TPM is another question ([EndorsementKey.Certified]). The
// zero value is refused by MakeCredential.
type EndorsementKey struct {
	key      crypto.PublicKey
	name     []byte
	template *ekTemplate
}

// Key is RSA of 2048 bits, P-256 or P-384.
func (k EndorsementKey) Key() crypto.PublicKey { return k.key }

// Name is the key's TPM name: algorithm and digest of the public area.
func (k EndorsementKey) Name() []byte { return bytes.Clone(k.name) }

// Certified says whether e, a verified certificate, is for this key.
func (k EndorsementKey) Certified(e Endorsement) error {
	own, ok := k.key.(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !own.Equal(e.key) {
		return reject(CheckEndorsement, "the certificate is for another key")
	}
	return nil
}

// ParseEndorsementKey wants the TPMT_PUBLIC of a key made from one of the TCG's
// templates (EK Credential Profile 2.5, annex B: L-1, L-2, H-3): with another
// one a TPM could be made to open a credential for what it does not hold.
func ParseEndorsementKey(public []byte) (EndorsementKey, error) {
	for i := range ekTemplates {
		t := &ekTemplates[i]
		rest, ok := bytes.CutPrefix(public, t.head)
		if !ok {
			continue
		}
		key, err := t.unique(rest)
		if err != nil {
			return EndorsementKey{}, err
		}
		h := t.hash()
		h.Write(public)
		return EndorsementKey{key, h.Sum(binary.BigEndian.AppendUint16(nil, t.hashAlg)), t}, nil
	}
	return EndorsementKey{}, reject(CheckEndorsement, "the public area is of none of the TCG's templates")
}

// unique reads a TPMU_PUBLIC_ID (TPM 2.0 Part 2, 12.2.3.2).
func (t *ekTemplate) unique(b []byte) (crypto.PublicKey, error) {
	c := cursor{b: b, what: "endorsement key"}
	if t.coordinate == 0 {
		n := c.sized(256)
		if err := c.end(); err != nil {
			return nil, err
		}
		key := &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: 65537}
		if key.N.BitLen() != 2048 || key.N.Bit(0) == 0 {
			return nil, reject(CheckKey, "RSA of %d bits", key.N.BitLen())
		}
		return key, nil
	}
	x, y := c.sized(t.coordinate), c.sized(t.coordinate)
	if err := c.end(); err != nil {
		return nil, err
	}
	if len(x) != t.coordinate || len(y) != t.coordinate {
		return nil, reject(CheckForm, "%s: coordinates are not %d bytes", c.what, t.coordinate)
	}
	key, err := ecdsa.ParseUncompressedPublicKey(t.curve, bytes.Join([][]byte{{4}, x, y}, nil))
	if err != nil {
		return nil, &Error{CheckKey, err}
	}
	return key, nil
}

// MaxSecret is the longest secret of a credential: the digest of the smallest
// hash among the templates.
const MaxSecret = 32

// MakeCredential protects a secret of 1 to MaxSecret bytes so that only the TPM
// with ek opens it, and only for a loaded object with that name
// (TPM2_MakeCredential, in software: TPM 2.0 Part 1, 24 and annexes B.10.4 and
// C.6.1). akName is a SHA-256 name, as ParseAttestationKey computes it.
func MakeCredential(ek EndorsementKey, akName, secret []byte) (hsm.TPMCredential, error) {
	if ek.template == nil || !isName(akName) || len(secret) == 0 || len(secret) > MaxSecret {
		return hsm.TPMCredential{}, reject(CheckExpectation, "endorsement key, name or secret is missing")
	}
	t := ek.template
	seed, encrypted, err := t.seed(ek.key)
	if err != nil {
		return hsm.TPMCredential{}, fmt.Errorf("make credential: %w", err)
	}
	identity, err := encryptCFB(t.kdfa(seed, "STORAGE", akName, t.symmetric), appendSized(nil, secret))
	if err != nil {
		return hsm.TPMCredential{}, fmt.Errorf("make credential: %w", err)
	}
	mac := hmac.New(t.hash, t.kdfa(seed, "INTEGRITY", nil, t.hash().Size()*8))
	mac.Write(identity)
	mac.Write(akName)
	return hsm.TPMCredential{Blob: append(appendSized(nil, mac.Sum(nil)), identity...), Secret: encrypted}, nil
}

// seed makes a seed and encrypts it to an endorsement key. The label ends with
// a zero byte (Part 1, B.4 and C.6.4).
func (t *ekTemplate) seed(key crypto.PublicKey) (seed, encrypted []byte, err error) {
	const label = "IDENTITY"
	switch key := key.(type) {
	case *rsa.PublicKey:
		seed = make([]byte, t.hash().Size())
		rand.Read(seed)
		encrypted, err = rsa.EncryptOAEP(t.hash(), rand.Reader, key, seed, []byte(label+"\x00"))
		return seed, encrypted, err
	case *ecdsa.PublicKey:
		ephemeral, err := t.exchange.GenerateKey(rand.Reader)
		if err != nil {
			return nil, nil, err
		}
		peer, err := key.ECDH()
		if err != nil {
			return nil, nil, err
		}
		z, err := ephemeral.ECDH(peer)
		if err != nil {
			return nil, nil, err
		}
		own := ephemeral.PublicKey().Bytes()[1:] // without the form byte
		x, y := own[:t.coordinate], own[t.coordinate:]
		return t.kdfe(z, label, x, peer.Bytes()[1:1+t.coordinate]), appendSized(appendSized(nil, x), y), nil
	}
	return nil, nil, reject(CheckKey, "%T", key)
}

// kdfa derives bits, at most one digest's, from key (Part 1, 11.4.10.2: SP
// 800-108 in counter mode); contextV is empty in all our uses.
func (t *ekTemplate) kdfa(key []byte, label string, contextU []byte, bits int) []byte {
	mac := hmac.New(t.hash, key)
	mac.Write([]byte{0, 0, 0, 1})
	mac.Write([]byte(label))
	mac.Write([]byte{0})
	mac.Write(contextU)
	mac.Write(binary.BigEndian.AppendUint32(nil, uint32(bits)))
	return mac.Sum(nil)[:bits/8]
}

// kdfe derives one digest from a shared point's x coordinate (Part 1,
// 11.4.10.3: SP 800-56A concatenation).
func (t *ekTemplate) kdfe(z []byte, label string, partyU, partyV []byte) []byte {
	h := t.hash()
	h.Write([]byte{0, 0, 0, 1})
	h.Write(z)
	h.Write([]byte(label))
	h.Write([]byte{0})
	h.Write(partyU)
	h.Write(partyV)
	return h.Sum(nil)
}

// encryptCFB is AES in full-block CFB mode with a zero IV, good for a key that
// encrypts once. The standard library has deprecated the mode; TPMs use it.
func encryptCFB(key, plain []byte) ([]byte, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	out := bytes.Clone(plain)
	previous := make([]byte, aes.BlockSize)
	for at := 0; at < len(out); at += aes.BlockSize {
		chunk := out[at:min(at+aes.BlockSize, len(out))]
		block.Encrypt(previous, previous)
		subtle.XORBytes(chunk, chunk, previous)
		copy(previous, chunk)
	}
	return out, nil
}
