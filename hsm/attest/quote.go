package attest

import (
	"crypto/ecdsa"
	"crypto/sha256"

	"enrollkiosk/hsm"
)

// Checks of a quote that other statements do not have.
const (
	CheckSelection Check = "selection"  // about other PCRs than 0 to 7 of the SHA-256 bank
	CheckPCRDigest Check = "pcr-digest" // about other values
)

const attestQuote = 0x8018 // TPM_ST_ATTEST_QUOTE (TPM 2.0 Part 2, 6.9)

// QuoteExpect is what the verifier of a quote knows beforehand. Every member
// is needed; they are as in TPMExpect.
type QuoteExpect struct {
	AK             []byte
	ParentName     []byte
	QualifyingData []byte
}

// BootPCRs are PCR 0 to 7: what firmware and boot loader have measured (TCG PC
// Client Platform Firmware Profile 3.3.4).
type BootPCRs [8][32]byte

// VerifyQuote checks a TPM2_Quote statement (TPM 2.0 Part 3, 18.4): the TPM that
// holds the AK had these values in its boot PCRs, and said so for
// QualifyingData. What the values mean is for the caller, who compares them with
// earlier ones.
func VerifyQuote(e hsm.TPMQuote, want QuoteExpect) (BootPCRs, error) {
	if len(want.QualifyingData) == 0 || len(want.QualifyingData) > 32 || !isName(want.ParentName) {
		return BootPCRs{}, reject(CheckExpectation, "nonce or parent name is missing")
	}
	ak, err := ParseAttestationKey(want.AK)
	if err != nil {
		return BootPCRs{}, err
	}
	q, err := parseQuote(e.Attest)
	if err != nil {
		return BootPCRs{}, err
	}
	r, s, err := parseSignature(e.Signature)
	if err != nil {
		return BootPCRs{}, err
	}
	if !equal(q.extraData, want.QualifyingData) {
		return BootPCRs{}, reject(CheckNonce, "the quote was made for another nonce")
	}
	digest := sha256.Sum256(e.Attest)
	if !ecdsa.Verify(ak.Key, digest[:], r, s) {
		return BootPCRs{}, reject(CheckSignature, "not signed by the attestation key")
	}
	if !equal(q.qualifiedSigner, qualifiedName(qualifiedName(ownerHierarchy, want.ParentName), ak.Name)) {
		return BootPCRs{}, reject(CheckSigner, "the attestation key is not where it was pinned")
	}
	if !q.boot {
		return BootPCRs{}, reject(CheckSelection, "the quote is not of the SHA-256 PCRs 0 to 7")
	}
	var out BootPCRs
	if len(e.PCRs) != len(out) {
		return BootPCRs{}, reject(CheckForm, "%d PCR values", len(e.PCRs))
	}
	h := sha256.New()
	for i, p := range e.PCRs {
		if p.Index != i || len(p.Value) != len(out[i]) {
			return BootPCRs{}, reject(CheckForm, "PCR value %d", i)
		}
		copy(out[i][:], p.Value)
		h.Write(p.Value)
	}
	if !equal(q.pcrDigest, h.Sum(nil)) {
		return BootPCRs{}, reject(CheckPCRDigest, "the quote is of other PCR values")
	}
	return out, nil
}

type quote struct {
	qualifiedSigner []byte
	extraData       []byte
	boot            bool // one selection: SHA-256, 0 to 7
	pcrDigest       []byte
}

// parseQuote reads a TPMS_ATTEST (Part 2, 10.12.12) with TPMS_QUOTE_INFO.
func parseQuote(b []byte) (quote, error) {
	c := cursor{b: b, what: "quote"}
	if magic := c.u32(); c.err == nil && magic != tpmGenerated {
		return quote{}, reject(CheckMagic, "%#08x", magic)
	}
	if kind := c.u16(); c.err == nil && kind != attestQuote {
		return quote{}, reject(CheckType, "%#04x", kind)
	}
	var q quote
	q.qualifiedSigner = c.sized(66)
	q.extraData = c.sized(66)
	c.take(8 + 4 + 4) // clock, resetCount, restartCount: obfuscated for an AK
	if safe := c.u8(); safe > 1 {
		c.fail("safe is %d", safe)
	}
	c.take(8) // firmwareVersion
	count := c.u32()
	if count > 16 {
		c.fail("%d PCR banks", count)
		return quote{}, c.err
	}
	for range count {
		bank, size := c.u16(), c.u8()
		if size > 32 {
			c.fail("PCR selection of %d bytes", size)
			return quote{}, c.err
		}
		bits := c.take(int(size))
		// Three octets select 24 PCRs, bit 0 of the first is PCR 0 (Part 2, 10.6.2).
		q.boot = count == 1 && bank == algSHA256 && string(bits) == "\xFF\x00\x00"
	}
	q.pcrDigest = c.sized(64)
	return q, c.end()
}
