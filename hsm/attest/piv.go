package attest

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"enrollkiosk/hsm"
)

// Checks of a PIV token's evidence, beside those of every kind. They are made
// in the order expectation, form, chain, leaf, statement, slot, serial,
// revoked, firmware, pin-policy, touch-policy, form-factor, key.
const (
	CheckLeaf        Check = "leaf"         // not issued by the token's own attestation certificate
	CheckStatement   Check = "statement"    // an extension is missing, malformed, or not understood
	CheckSlot        Check = "slot"         // about a key in another slot
	CheckSerial      Check = "serial"       // from another token
	CheckRevoked     Check = "revoked"      // from a token that must not be used
	CheckFirmware    Check = "firmware"     // too old, or two versions in one token
	CheckPINPolicy   Check = "pin-policy"   // the key can be used without the PIN
	CheckTouchPolicy Check = "touch-policy" // the key can be used without the touch asked for
	CheckFormFactor  Check = "form-factor"  // the token does not say what it is
)

// PIVExpect is what the evidence of a PIV token must say.
type PIVExpect struct {
	Slot    byte             // 0x9A, 0x9C, 0x9D, 0x9E, or a retired one: 0x82 to 0x95
	Serial  uint32           // of the token that was probed
	Key     crypto.PublicKey // the generated one, of one of package hsm's algorithms
	Minimum [3]byte          // least firmware
	Revoked []uint64         // serial numbers
	// RevokedCertificates are SHA-256 of certificates, DER, under which nothing
	// counts: the token's own (F9), or the root that issued it.
	RevokedCertificates [][32]byte
	PIN                 hsm.PINPolicy   // the least
	Touch               hsm.TouchPolicy // the least
	At                  time.Time
	// AnySerial is for a verifier that never saw the token, such as the
	// registry; Serial is not looked at.
	AnySerial bool
}

// VerifyPIV checks the attestation of a key by the PIV token that generated it:
// a certificate for the key, issued by the token's own certificate (slot F9),
// which one of roots issued. A root may be any authority of the maker that
// issues F9 certificates, an intermediate one too: the evidence carries none.
//
// As piv-go does, it judges all certificates at the same time and does not
// apply a root's path length (Yubico's U2F root says 0 and has issued F9
// certificates). Unlike piv-go, it refuses F9 certificates that do not say that
// they may issue (some of firmware 4.3), and extensions it does not know.
//
// The Proof is of origin and is not Fresh: whoever has seen the two certificates
// can show them again.
func VerifyPIV(e hsm.PIVEvidence, roots []Root, want PIVExpect) (Proof, error) {
	_, known := hsm.AlgorithmOf(want.Key)
	key, equal := want.Key.(interface{ Equal(crypto.PublicKey) bool })
	retired := want.Slot >= 0x82 && want.Slot <= 0x95
	switch {
	case !known || !equal:
		return Proof{}, reject(CheckExpectation, "no key to expect")
	case !retired && (want.Slot < 0x9A || want.Slot > 0x9E || want.Slot == 0x9B):
		return Proof{}, reject(CheckExpectation, "no slot %02X", want.Slot)
	case !want.PIN.Covers(hsm.PINOnce) || !want.Touch.Covers(hsm.TouchNever):
		return Proof{}, reject(CheckExpectation, "no PIN or touch policy to expect")
	case want.Serial == 0 && !want.AnySerial:
		return Proof{}, reject(CheckExpectation, "no serial number to expect")
	}

	leaf, err := parsePIVCertificate(e.Certificate)
	if err != nil {
		return Proof{}, fmt.Errorf("attestation certificate: %w", err)
	}
	own, err := parsePIVCertificate(e.Intermediate)
	if err != nil {
		return Proof{}, fmt.Errorf("token's certificate: %w", err)
	}
	root, err := chain(own, nil, roots, want.At)
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
	for _, c := range []*x509.Certificate{own, root.Certificate} {
		if slices.Contains(want.RevokedCertificates, sha256.Sum256(c.Raw)) {
			return Proof{}, reject(CheckRevoked, "a certificate above the key counts no more")
		}
	}
	if slices.Compare(s.firmware[:], want.Minimum[:]) < 0 {
		return Proof{}, reject(CheckFirmware, "%d.%d.%d", s.firmware[0], s.firmware[1], s.firmware[2])
	}
	for _, x := range own.Extensions {
		if x.Id.Equal(oidPIVFirmware) && !bytes.Equal(x.Value, s.firmware[:]) {
			return Proof{}, reject(CheckFirmware, "the token's own certificate says another one")
		}
	}
	if !pinPolicies[s.pin].Covers(want.PIN) {
		return Proof{}, reject(CheckPINPolicy, "%d", s.pin)
	}
	if !touchPolicies[s.touch].Covers(want.Touch) {
		return Proof{}, reject(CheckTouchPolicy, "%d", s.touch)
	}
	if s.formFactor == 0 {
		return Proof{}, reject(CheckFormFactor, "unknown")
	}
	if !key.Equal(leaf.PublicKey) {
		return Proof{}, reject(CheckKey, "about another key")
	}
	return Proof{key: want.Key, where: PIV, class: root.Class}, nil
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
	var outer, algorithm, signature asn1.RawValue
	if _, err := asn1.Unmarshal(der, &outer); err != nil {
		return nil, &Error{CheckForm, err}
	}
	rest, whole := bytes.CutPrefix(outer.Bytes, cert.RawTBSCertificate)
	for _, part := range []*asn1.RawValue{&algorithm, &signature} {
		if rest, err = asn1.Unmarshal(rest, part); err != nil {
			return nil, &Error{CheckForm, err}
		}
	}
	if !whole || len(rest) > 0 || len(signature.Bytes) == 0 || signature.Bytes[0] != 0 { // no unused bits
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

// Policies as Yubico numbers them. Others (no PIN; a fingerprint in its place)
// cover nothing that can be asked for.
var (
	pinPolicies   = map[byte]hsm.PINPolicy{2: hsm.PINOnce, 3: hsm.PINAlways}
	touchPolicies = map[byte]hsm.TouchPolicy{1: hsm.TouchNever, 2: hsm.TouchAlways, 3: hsm.TouchCached}
)

// statement is what a token says about a key beside the key itself.
type statement struct {
	firmware   [3]byte
	serial     uint32
	pin, touch byte
	formFactor byte
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
		case x.Id.Equal(oidPIVFIPS), x.Id.Equal(oidPIVCSPN):
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
