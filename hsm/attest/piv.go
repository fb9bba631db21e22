package attest

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"math"
	"math/big"
	"slices"
	"time"

	"enrollkiosk/hsm"
)

// Checks of a PIV token's evidence, beside those of every kind. They are made
// in the order expectation, form, chain, revoked (a certificate of the path),
// leaf, statement, slot, serial, revoked (the token), firmware, fips,
// pin-policy, touch-policy, form-factor, key.
const (
	CheckRevoked     Check = "revoked"      // from a token, or over a certificate, that must not be used
	CheckLeaf        Check = "leaf"         // not issued by the token's own attestation certificate
	CheckStatement   Check = "statement"    // an extension is missing, malformed, or not understood
	CheckSlot        Check = "slot"         // about a key in another slot
	CheckSerial      Check = "serial"       // from another token
	CheckFirmware    Check = "firmware"     // too old, or two versions in one token
	CheckFIPS        Check = "fips"         // from a token without the mark that was asked for
	CheckPINPolicy   Check = "pin-policy"   // the key can be used without the PIN asked for
	CheckTouchPolicy Check = "touch-policy" // the key can be used without the touch asked for
	CheckFormFactor  Check = "form-factor"  // the token does not say what it is
)

// PIVExpect is what the evidence of a PIV token must say.
type PIVExpect struct {
	Slot   byte             // 0x9A, 0x9C, 0x9D, 0x9E, or a retired one, 0x82 to 0x95
	Serial uint32           // of the token that was probed
	Key    crypto.PublicKey // the generated one, of an hsm.Algorithm
	PIN    hsm.PINPolicy    // the least that the key must ask for
	Touch  hsm.TouchPolicy  // likewise
	At     time.Time        // when all certificates must be valid

	Minimum [3]byte // least firmware
	FIPS    bool    // statement or F9 certificate must carry Yubico's mark of a FIPS 140 certification

	// Intermediates are the maker's certificates between its roots and the
	// tokens'. They need not be trusted: they only fill in a path.
	Intermediates []*x509.Certificate

	Revoked             []uint64   // serial numbers of tokens
	RevokedCertificates [][32]byte // SHA-256 of the DER of any certificate of the path from F9 to the root
	// AnySerial is for a verifier that never saw the token, such as the
	// registry; Serial is not looked at.
	AnySerial bool
}

func (want PIVExpect) check() error {
	if _, ok := hsm.AlgorithmOf(want.Key); !ok {
		return reject(CheckExpectation, "no key to expect, or of another kind than a citizen can be given")
	}
	switch s := want.Slot; {
	case s != 0x9A && s != 0x9C && s != 0x9D && s != 0x9E && (s < 0x82 || s > 0x95):
		return reject(CheckExpectation, "no slot %02X", s)
	case want.Serial == 0 && !want.AnySerial:
		return reject(CheckExpectation, "no serial number to expect")
	case !want.PIN.Valid() || !want.Touch.Valid():
		return reject(CheckExpectation, "no least PIN policy or touch policy")
	}
	return nil
}

// VerifyPIV checks the attestation of a key by the PIV token that generated it:
// a certificate for the key, issued by the token's own certificate (slot F9),
// which leads to one of roots, directly or over intermediates. A root may be any
// authority of the maker, an intermediate one too.
//
// All certificates are judged at the same time, as piv-go does. Unlike piv-go,
// it applies every path length, also a root's, and refuses F9 certificates that
// do not say that they may issue (firmware 4.3) and extensions it does not know.
//
// An ECDSA signature (r, s) has a twin (r, n-s) that verifies too. A certificate
// with the twin says the same and is accepted; where one is revoked, both are.
//
// The Proof is of origin and is not Fresh: whoever has seen the two certificates
// can show them again.
func VerifyPIV(e hsm.PIVEvidence, roots []Root, want PIVExpect) (Proof, error) {
	if err := want.check(); err != nil {
		return Proof{}, err
	}
	leaf, err := parsePIVCertificate(e.Certificate)
	if err != nil {
		return Proof{}, fmt.Errorf("attestation certificate: %w", err)
	}
	own, err := parsePIVCertificate(e.Intermediate)
	if err != nil {
		return Proof{}, fmt.Errorf("token's certificate: %w", err)
	}
	class, err := chain(own, want.Intermediates, roots, want.At, func(path []*x509.Certificate) error {
		for i, c := range path {
			// crypto/x509 has not counted own, for it takes it as the last.
			if c.BasicConstraintsValid && c.MaxPathLen >= 0 && i > c.MaxPathLen {
				return reject(CheckChain, "the path is longer than one of its certificates allows")
			}
			if isRevoked(want.RevokedCertificates, c, path[min(i+1, len(path)-1)]) {
				return reject(CheckRevoked, "certificate %d of the path must not be used", i)
			}
		}
		return nil
	})
	if err != nil {
		return Proof{}, err
	}
	switch err := leaf.CheckSignatureFrom(own); {
	case err != nil: // also when own may not issue
		return Proof{}, &Error{CheckLeaf, err}
	case !bytes.Equal(leaf.RawIssuer, own.RawSubject):
		return Proof{}, reject(CheckLeaf, "another issuer")
	case leaf.IsCA:
		return Proof{}, reject(CheckLeaf, "it is a CA certificate")
	case want.At.Before(leaf.NotBefore) || want.At.After(leaf.NotAfter):
		return Proof{}, reject(CheckLeaf, "not valid at the time")
	}

	s, err := parseStatement(leaf)
	if err != nil {
		return Proof{}, &Error{CheckStatement, err}
	}
	if len(leaf.Subject.Names) != 1 || leaf.Subject.CommonName != fmt.Sprintf("YubiKey PIV Attestation %02x", want.Slot) {
		return Proof{}, reject(CheckSlot, "it does not name slot %02X", want.Slot)
	}
	if s.serial != want.Serial && !want.AnySerial {
		return Proof{}, reject(CheckSerial, "from another token")
	}
	if slices.Contains(want.Revoked, uint64(s.serial)) {
		return Proof{}, reject(CheckRevoked, "the token must not be used")
	}
	if slices.Compare(s.firmware[:], want.Minimum[:]) < 0 {
		return Proof{}, reject(CheckFirmware, "%d.%d.%d", s.firmware[0], s.firmware[1], s.firmware[2])
	}
	for _, x := range own.Extensions {
		switch {
		case x.Id.Equal(oidPIVFirmware) && !bytes.Equal(x.Value, s.firmware[:]):
			return Proof{}, reject(CheckFirmware, "the token's own certificate says another one")
		case x.Id.Equal(oidPIVFIPS): // the maker's mark of the whole token
			s.fips = true
		}
	}
	if want.FIPS && !s.fips {
		return Proof{}, reject(CheckFIPS, "no mark of a certification")
	}
	if !pivPINPolicies[s.pin].Covers(want.PIN) {
		return Proof{}, reject(CheckPINPolicy, "%d, want %s", s.pin, want.PIN)
	}
	if !pivTouchPolicies[s.touch].Covers(want.Touch) {
		return Proof{}, reject(CheckTouchPolicy, "%d, want %s", s.touch, want.Touch)
	}
	if s.formFactor == 0 {
		return Proof{}, reject(CheckFormFactor, "unknown")
	}
	key, ok := leaf.PublicKey.(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !key.Equal(want.Key) {
		return Proof{}, reject(CheckKey, "about another key")
	}
	return Proof{key: leaf.PublicKey, where: PIV, class: class}, nil
}

// isRevoked looks for c, which issuer has signed. With ECDSA anyone can turn a
// certificate into its twin, which has another digest.
func isRevoked(list [][32]byte, c, issuer *x509.Certificate) bool {
	if len(list) == 0 {
		return false
	}
	if slices.Contains(list, sha256.Sum256(c.Raw)) {
		return true
	}
	key, ok := issuer.PublicKey.(*ecdsa.PublicKey)
	if !ok {
		return false
	}
	var outer certificate
	var rs struct{ R, S *big.Int }
	if _, err := asn1.Unmarshal(c.Raw, &outer); err != nil {
		return true // cannot be: it was parsed, and its signature verified
	}
	if _, err := asn1.Unmarshal(c.Signature, &rs); err != nil {
		return true
	}
	rs.S.Sub(key.Params().N, rs.S)
	signature, err := asn1.Marshal(rs)
	if err != nil {
		return true
	}
	outer.Signature = asn1.BitString{Bytes: signature, BitLength: 8 * len(signature)}
	twin, err := asn1.Marshal(outer)
	return err != nil || slices.Contains(list, sha256.Sum256(twin))
}

// certificate is X.509's outer sequence (RFC 5280 4.1).
type certificate struct {
	TBS, Algorithm asn1.RawValue
	Signature      asn1.BitString
}

// maxPIVCertificate is the largest object of a YubiKey's PIV application.
const maxPIVCertificate = 3052

// parsePIVCertificate wants one certificate in DER and nothing else:
// crypto/x509 overlooks what stands behind the signature inside the outer
// sequence, which no signature covers.
func parsePIVCertificate(der []byte) (*x509.Certificate, error) {
	if len(der) == 0 || len(der) > maxPIVCertificate {
		return nil, reject(CheckForm, "%d bytes", len(der))
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, &Error{CheckForm, err}
	}
	var outer certificate
	if _, err := asn1.Unmarshal(der, &outer); err != nil {
		return nil, &Error{CheckForm, err}
	}
	again, err := asn1.Marshal(outer)
	if err != nil || !bytes.Equal(again, der) || outer.Signature.BitLength%8 != 0 {
		return nil, reject(CheckForm, "not the one encoding of a certificate")
	}
	return cert, nil
}

// Extensions of Yubico's attestation certificates, all under 1.3.6.1.4.1.41482.3
// (Yubico, "PIV Attestation"). Values are bare bytes; the serial is an INTEGER.
var (
	oidPIVArc        = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 41482, 3}
	oidPIVFirmware   = append(slices.Clip(oidPIVArc), 3)
	oidPIVSerial     = append(slices.Clip(oidPIVArc), 7)
	oidPIVPolicy     = append(slices.Clip(oidPIVArc), 8)
	oidPIVFormFactor = append(slices.Clip(oidPIVArc), 9)
	oidPIVFIPS       = append(slices.Clip(oidPIVArc), 10)
	oidPIVCSPN       = append(slices.Clip(oidPIVArc), 11)

	oidStandardExtensions = asn1.ObjectIdentifier{2, 5, 29} // RFC 5280 4.2.1
)

// Policies as Yubico numbers them. PIN policies 1 (never), 4 and 5 (a finger
// instead of the PIN) have no name: no key of ours may have them.
var (
	pivPINPolicies   = map[byte]hsm.PINPolicy{2: hsm.PINOnce, 3: hsm.PINAlways}
	pivTouchPolicies = map[byte]hsm.TouchPolicy{1: hsm.TouchNever, 2: hsm.TouchAlways, 3: hsm.TouchCached}
)

// statement is what a token says about a key beside the key itself.
type statement struct {
	firmware   [3]byte
	serial     uint32
	pin, touch byte
	formFactor byte
	fips       bool
}

// parseStatement reads the extensions: each of the four once, FIPS and CSPN
// marks, and what RFC 5280 defines; anything else could change the meaning.
// That no extension comes twice, crypto/x509 has seen to.
func parseStatement(cert *x509.Certificate) (statement, error) {
	var s statement
	var seen int
	for _, x := range cert.Extensions {
		v := x.Value
		ok := true
		switch {
		case x.Critical && slices.ContainsFunc(cert.UnhandledCriticalExtensions, x.Id.Equal):
			return s, fmt.Errorf("critical extension %v", x.Id)
		case x.Id.Equal(oidPIVFirmware):
			if ok = len(v) == 3; ok {
				s.firmware = [3]byte(v)
			}
			seen++
		case x.Id.Equal(oidPIVSerial):
			s.serial, ok = parseSerial(v)
			seen++
		case x.Id.Equal(oidPIVPolicy):
			if ok = len(v) == 2; ok {
				s.pin, s.touch = v[0], v[1]
			}
			seen++
		case x.Id.Equal(oidPIVFormFactor):
			if ok = len(v) == 1; ok {
				s.formFactor = v[0]
			}
			seen++
		case x.Id.Equal(oidPIVFIPS):
			s.fips = true
		case x.Id.Equal(oidPIVCSPN):
		case len(x.Id) == 4 && x.Id[:3].Equal(oidStandardExtensions):
		default:
			return s, fmt.Errorf("unknown extension %v", x.Id)
		}
		if !ok {
			return s, fmt.Errorf("malformed extension %v", x.Id)
		}
	}
	if seen != 4 {
		return s, errors.New("firmware, serial, policy or form factor is missing")
	}
	return s, nil
}

// parseSerial reads an INTEGER of 1 to 32 bits in DER.
func parseSerial(der []byte) (uint32, bool) {
	var n int64
	rest, err := asn1.Unmarshal(der, &n)
	return uint32(n), err == nil && len(rest) == 0 && n > 0 && n <= math.MaxUint32
}
