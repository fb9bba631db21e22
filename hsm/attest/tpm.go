package attest

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"math/big"

	"enrollkiosk/hsm"
)

// Checks of a TPM's evidence, in the order they are made.
const (
	CheckAttestationKey Check = "attestation-key" // the pinned AK is not one
	CheckMagic          Check = "magic"           // not made by a TPM
	CheckType           Check = "type"            // another kind of statement
	CheckNonce          Check = "nonce"           // made for another occasion
	CheckSignature      Check = "signature"
	CheckSigner         Check = "signer"        // signed by a key elsewhere in the TPM
	CheckName           Check = "name"          // about another key
	CheckCreationHash   Check = "creation-hash" // about another birth
	CheckBinding        Check = "binding"       // born for another purpose
	CheckParent         Check = "parent"        // born under another storage root key
	CheckAttributes     Check = "attributes"    // the key can leave, or can do other things
	CheckPCR            Check = "pcr"           // bound to a platform state that nobody asked for
)

// TPMExpect is what the verifier knows beforehand. Every member is needed but
// UserAuth.
type TPMExpect struct {
	// AK is the attestation key's TPMT_PUBLIC, pinned when the kiosk was
	// enrolled. That it lives in a genuine TPM is known from then.
	AK []byte
	// Class is that of the root behind the TPM's endorsement certificate.
	Class string
	// QualifyingData is the verifier's nonce, 1 to 32 bytes.
	QualifyingData []byte
	// OutsideInfo is what the key was bound to when it was created.
	OutsideInfo [32]byte
	// ParentName is the name of the storage root key: 000B and SHA-256 of its
	// public area. It must be a primary key of the owner hierarchy, and the AK
	// must be under it too.
	ParentName []byte
	// UserAuth is for a person's key: the TPM uses it only with its auth value
	// (userWithAuth), and counts wrong ones (noDA clear). What the value is, no
	// evidence can say.
	UserAuth bool
}

// VerifyTPM checks a TPM2_CertifyCreation statement (TPM 2.0 Part 3, 18.3): a
// P-256 signing key was created in the TPM that holds the AK, under ParentName,
// bound to OutsideInfo, without a policy and without PCRs; it can never leave; and
// the TPM said so for QualifyingData. The Proof is Fresh if the nonce was.
//
// One statement has several genuine signatures, and they are accepted: a TPM may
// make another, s may be its complement n-s, and TPMs write r and s in 32 bytes or
// without their leading zeros. Public area, creation data and statement have one
// encoding each.
func VerifyTPM(e hsm.TPMEvidence, want TPMExpect) (Proof, error) {
	if len(want.QualifyingData) == 0 || len(want.QualifyingData) > 32 || want.OutsideInfo == [32]byte{} ||
		want.Class != Production && want.Class != Test {
		return Proof{}, reject(CheckExpectation, "nonce, outside info or class is missing")
	}
	if !isName(want.ParentName) {
		return Proof{}, reject(CheckExpectation, "parent name is not a SHA-256 name")
	}
	ak, err := ParseAttestationKey(want.AK)
	if err != nil {
		return Proof{}, err
	}

	public, err := parsePublic(e.Public)
	if err != nil {
		return Proof{}, err
	}
	creation, err := parseCreationData(e.CreationData)
	if err != nil {
		return Proof{}, err
	}
	attest, err := parseAttest(e.Attest)
	if err != nil {
		return Proof{}, err
	}
	r, s, err := parseSignature(e.Signature)
	if err != nil {
		return Proof{}, err
	}

	if !equal(attest.extraData, want.QualifyingData) {
		return Proof{}, reject(CheckNonce, "the statement was made for another nonce")
	}
	digest := sha256.Sum256(e.Attest)
	if !ecdsa.Verify(ak.Key, digest[:], r, s) {
		return Proof{}, reject(CheckSignature, "not signed by the attestation key")
	}
	srk := qualifiedName(ownerHierarchy, want.ParentName)
	if !equal(attest.qualifiedSigner, qualifiedName(srk, ak.Name)) {
		return Proof{}, reject(CheckSigner, "the attestation key is not where it was pinned")
	}
	if !equal(attest.objectName, nameOf(e.Public)) {
		return Proof{}, reject(CheckName, "the statement is about another key")
	}
	birth := sha256.Sum256(e.CreationData)
	if !equal(attest.creationHash, birth[:]) {
		return Proof{}, reject(CheckCreationHash, "the statement is about other creation data")
	}
	if !equal(creation.outsideInfo, want.OutsideInfo[:]) {
		return Proof{}, reject(CheckBinding, "the key was created for something else")
	}
	if creation.parentNameAlg != algSHA256 || !equal(creation.parentName, want.ParentName) || !equal(creation.parentQualifiedName, srk) {
		return Proof{}, reject(CheckParent, "the key was created under another parent")
	}
	if public.attributes&(attrFixed|attrRestricted|attrDecrypt|attrSign|attrSTClear) != attrFixed|attrSign {
		return Proof{}, reject(CheckAttributes, "%#08x", public.attributes)
	}
	if want.UserAuth && public.attributes&(attrUserWithAuth|attrNoDA) != attrUserWithAuth {
		return Proof{}, reject(CheckAttributes, "%#08x: usable without the person's secret, or that can be guessed", public.attributes)
	}
	if creation.pcrSelections != 0 {
		return Proof{}, reject(CheckPCR, "the key was created with a platform state")
	}
	return Proof{key: public.key, where: TPM, class: want.Class, fresh: true}, nil
}

// AttestationKey is a public area that is fit to be pinned as AK.
type AttestationKey struct {
	Key  *ecdsa.PublicKey
	Name []byte // 000B and SHA-256 of the public area
}

// ParseAttestationKey wants a TPMT_PUBLIC of a restricted P-256 signing key
// that was born in its TPM and stays there: such a key signs nothing but what
// the TPM itself states. That the TPM is genuine is another question
// ([VerifyEndorsement]).
func ParseAttestationKey(public []byte) (AttestationKey, error) {
	p, err := parsePublic(public)
	if err != nil {
		return AttestationKey{}, &Error{CheckAttestationKey, err}
	}
	if p.attributes&(attrFixed|attrRestricted|attrDecrypt|attrSign|attrSTClear) != attrFixed|attrRestricted|attrSign {
		return AttestationKey{}, reject(CheckAttestationKey, "attributes %#08x", p.attributes)
	}
	return AttestationKey{p.key, nameOf(public)}, nil
}

// Constants of TPM 2.0 Part 2: 6.3 TPM_ALG_ID, 6.4 TPM_ECC_CURVE, 6.2
// TPM_GENERATED, 6.9 TPM_ST, 8.3 TPMA_OBJECT.
const (
	algSHA256 = 0x000B
	algNull   = 0x0010
	algECDSA  = 0x0018
	algECC    = 0x0023
	curveP256 = 0x0003

	tpmGenerated   = 0xFF544347
	attestCreation = 0x801A

	attrSTClear             = 1 << 2
	attrFixedTPM            = 1 << 1
	attrFixedParent         = 1 << 4
	attrSensitiveDataOrigin = 1 << 5
	attrUserWithAuth        = 1 << 6
	attrAdminWithPolicy     = 1 << 7
	attrNoDA                = 1 << 10
	attrEncryptedDuplicate  = 1 << 11
	attrRestricted          = 1 << 16
	attrDecrypt             = 1 << 17
	attrSign                = 1 << 18
	attrX509Sign            = 1 << 19

	attrFixed   = attrFixedTPM | attrFixedParent | attrSensitiveDataOrigin
	attrDefined = attrFixed | attrSTClear | attrUserWithAuth | attrAdminWithPolicy | attrNoDA |
		attrEncryptedDuplicate | attrRestricted | attrDecrypt | attrSign | attrX509Sign
)

// ownerHierarchy is the name of TPM_RH_OWNER: its handle (Part 1, 16).
var ownerHierarchy = []byte{0x40, 0, 0, 1}

// nameOf is an object's name (Part 1, 16): algorithm and digest of its public
// area. The parser has made sure that the algorithm is SHA-256.
func nameOf(public []byte) []byte {
	d := sha256.Sum256(public)
	return append([]byte{algSHA256 >> 8, algSHA256 & 0xFF}, d[:]...)
}

// qualifiedName is a name below another (Part 1, 26.5).
func qualifiedName(parent, name []byte) []byte {
	h := sha256.New()
	h.Write(parent)
	h.Write(name)
	return h.Sum([]byte{algSHA256 >> 8, algSHA256 & 0xFF})
}

func isName(b []byte) bool { return len(b) == 34 && b[0] == algSHA256>>8 && b[1] == algSHA256&0xFF }

func equal(a, b []byte) bool { return subtle.ConstantTimeCompare(a, b) == 1 }

// cursor reads big-endian fields; the first failure stays.
type cursor struct {
	b    []byte
	what string
	err  error
}

func (c *cursor) fail(format string, a ...any) {
	if c.err == nil {
		c.err = reject(CheckForm, c.what+": "+format, a...)
	}
}

func (c *cursor) take(n int) []byte {
	if c.err == nil && len(c.b) < n {
		c.fail("cut short")
	}
	if c.err != nil {
		return make([]byte, n)
	}
	out := c.b[:n:n]
	c.b = c.b[n:]
	return out
}

func (c *cursor) u8() byte    { return c.take(1)[0] }
func (c *cursor) u16() uint16 { return binary.BigEndian.Uint16(c.take(2)) }
func (c *cursor) u32() uint32 { return binary.BigEndian.Uint32(c.take(4)) }

// sized reads a TPM2B of at most max bytes.
func (c *cursor) sized(max int) []byte {
	n := int(c.u16())
	if n > max {
		c.fail("field of %d bytes, at most %d", n, max)
		return nil
	}
	return c.take(n)
}

func (c *cursor) want16(v uint16, field string) {
	if got := c.u16(); got != v {
		c.fail("%s is %#04x, want %#04x", field, got, v)
	}
}

func (c *cursor) end() error {
	if len(c.b) > 0 {
		c.fail("%d bytes too many", len(c.b))
	}
	return c.err
}

type public struct {
	attributes uint32
	key        *ecdsa.PublicKey
}

// parsePublic reads a TPMT_PUBLIC (Part 2, 12.2.4) of the only shape we
// accept: ECC P-256, ECDSA with SHA-256, name by SHA-256, no policy.
func parsePublic(b []byte) (public, error) {
	c := cursor{b: b, what: "public area"}
	c.want16(algECC, "type")
	c.want16(algSHA256, "name algorithm")
	attributes := c.u32()
	if attributes&^attrDefined != 0 {
		c.fail("reserved attributes %#08x", attributes)
	}
	c.sized(0) // authPolicy
	c.want16(algNull, "symmetric algorithm")
	c.want16(algECDSA, "scheme")
	c.want16(algSHA256, "scheme's hash")
	c.want16(curveP256, "curve")
	c.want16(algNull, "kdf")
	x, y := c.sized(32), c.sized(32)
	if err := c.end(); err != nil {
		return public{}, err
	}
	if len(x) != 32 || len(y) != 32 {
		return public{}, reject(CheckForm, "%s: coordinates are not 32 bytes", c.what)
	}
	key, err := p256(x, y)
	if err != nil {
		return public{}, &Error{CheckKey, err}
	}
	return public{attributes, key}, nil
}

type creationData struct {
	pcrSelections       uint32
	parentNameAlg       uint16
	parentName          []byte
	parentQualifiedName []byte
	outsideInfo         []byte
}

// parseCreationData reads a TPMS_CREATION_DATA (Part 2, 15.1). A selection of
// PCRs is read only as far as to tell that there is one.
func parseCreationData(b []byte) (creationData, error) {
	c := cursor{b: b, what: "creation data"}
	var d creationData
	if d.pcrSelections = c.u32(); c.err == nil && d.pcrSelections != 0 {
		if d.pcrSelections > 16 {
			c.fail("%d PCR banks", d.pcrSelections)
			return creationData{}, c.err
		}
		for range d.pcrSelections {
			c.u16()
			n := c.u8()
			if n > 32 {
				c.fail("PCR selection of %d bytes", n)
				return creationData{}, c.err
			}
			c.take(int(n))
		}
	}
	c.sized(32) // pcrDigest
	c.u8()      // locality
	d.parentNameAlg = c.u16()
	d.parentName = c.sized(66)
	d.parentQualifiedName = c.sized(66)
	d.outsideInfo = c.sized(66)
	return d, c.end()
}

type attestation struct {
	qualifiedSigner []byte
	extraData       []byte
	objectName      []byte
	creationHash    []byte
}

// parseAttest reads a TPMS_ATTEST (Part 2, 10.12.12) with TPMS_CREATION_INFO.
func parseAttest(b []byte) (attestation, error) {
	c := cursor{b: b, what: "statement"}
	if magic := c.u32(); c.err == nil && magic != tpmGenerated {
		return attestation{}, reject(CheckMagic, "%#08x", magic)
	}
	if kind := c.u16(); c.err == nil && kind != attestCreation {
		return attestation{}, reject(CheckType, "%#04x", kind)
	}
	var a attestation
	a.qualifiedSigner = c.sized(66)
	a.extraData = c.sized(66)
	c.take(8 + 4 + 4) // clock, resetCount, restartCount: obfuscated for an AK
	if safe := c.u8(); safe > 1 {
		c.fail("safe is %d", safe)
	}
	c.take(8) // firmwareVersion
	a.objectName = c.sized(66)
	a.creationHash = c.sized(64)
	return a, c.end()
}

// parseSignature reads a TPMT_SIGNATURE (Part 2, 11.3.4): ECDSA with SHA-256.
func parseSignature(b []byte) (r, s *big.Int, err error) {
	c := cursor{b: b, what: "signature"}
	c.want16(algECDSA, "scheme")
	c.want16(algSHA256, "hash")
	rb, sb := c.sized(32), c.sized(32)
	if err := c.end(); err != nil {
		return nil, nil, err
	}
	for _, b := range [][]byte{rb, sb} {
		if len(b) == 0 || len(b) < 32 && b[0] == 0 {
			return nil, nil, reject(CheckForm, "%s: number of %d bytes, neither 32 nor as few as it needs", c.what, len(b))
		}
	}
	return new(big.Int).SetBytes(rb), new(big.Int).SetBytes(sb), nil
}

// p256 wants a point of the curve.
func p256(x, y []byte) (*ecdsa.PublicKey, error) {
	return ecdsa.ParseUncompressedPublicKey(elliptic.P256(), bytes.Join([][]byte{{4}, x, y}, nil))
}
