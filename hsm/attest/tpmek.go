package attest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"slices"
	"strings"
	"time"
)

// CheckEndorsement: a certificate of a genuine chain, but not of an
// endorsement key.
const CheckEndorsement Check = "endorsement"

// Object identifiers of the TCG (EK Credential Profile 2.5, 3.2 and 3.1.2).
var (
	oidEKCertificate   = asn1.ObjectIdentifier{2, 23, 133, 8, 1}
	oidTPMManufacturer = asn1.ObjectIdentifier{2, 23, 133, 2, 1}
	oidTPMModel        = asn1.ObjectIdentifier{2, 23, 133, 2, 2}
	oidTPMVersion      = asn1.ObjectIdentifier{2, 23, 133, 2, 3}
	oidSubjectAltName  = asn1.ObjectIdentifier{2, 5, 29, 17}
)

// Endorsement is a verified endorsement certificate: a TPM of this maker has
// this key. The zero value says nothing and has no Key.
type Endorsement struct {
	key                 crypto.PublicKey
	class               string
	manufacturer, model string
}

// Key is the endorsement key: RSA of 2048 bits or more, P-256 or P-384.
func (e Endorsement) Key() crypto.PublicKey { return e.key }

// Class is that of the root.
func (e Endorsement) Class() string { return e.class }

// Manufacturer is the maker's id, such as "id:49465800"; Model is its own name for the part.
func (e Endorsement) Manufacturer() string { return e.manufacturer }

// Model is the maker's name for the part.
func (e Endorsement) Model() string { return e.model }

// VerifyEndorsement checks an endorsement certificate (TCG EK Credential
// Profile 2.5): a chain through intermediates (DER) to one of roots at the
// given time, made for an endorsement key. It does not show that the TPM is
// present: that takes credential activation.
func VerifyEndorsement(certificate []byte, intermediates [][]byte, roots []Root, at time.Time) (Endorsement, error) {
	cert, err := x509.ParseCertificate(certificate)
	if err != nil {
		return Endorsement{}, &Error{CheckForm, err}
	}
	var between []*x509.Certificate
	for _, der := range intermediates {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return Endorsement{}, &Error{CheckForm, err}
		}
		between = append(between, c)
	}
	e, err := device(cert)
	if err != nil {
		return Endorsement{}, err
	}
	// The subject alternative name names a device by a directory name, is
	// critical, and crypto/x509 leaves such names to its caller. It was read
	// above; nothing else critical may stay unread.
	cert.UnhandledCriticalExtensions = slices.DeleteFunc(cert.UnhandledCriticalExtensions, oidSubjectAltName.Equal)
	if e.class, err = chain(cert, between, roots, at, nil); err != nil {
		return Endorsement{}, err
	}
	if !slices.ContainsFunc(cert.UnknownExtKeyUsage, oidEKCertificate.Equal) {
		return Endorsement{}, reject(CheckEndorsement, "extended key usage is not 2.23.133.8.1")
	}
	if cert.IsCA {
		return Endorsement{}, reject(CheckEndorsement, "it is a CA certificate")
	}
	var usage x509.KeyUsage
	switch k := cert.PublicKey.(type) {
	case *rsa.PublicKey:
		usage = x509.KeyUsageKeyEncipherment
		if k.N.BitLen() < 2048 {
			return Endorsement{}, reject(CheckKey, "RSA of %d bits", k.N.BitLen())
		}
	case *ecdsa.PublicKey:
		usage = x509.KeyUsageKeyAgreement
		if size := k.Curve.Params().BitSize; size != 256 && size != 384 {
			return Endorsement{}, reject(CheckKey, "curve of %d bits", size)
		}
	default:
		return Endorsement{}, reject(CheckKey, "%T", k)
	}
	if cert.KeyUsage&usage == 0 {
		return Endorsement{}, reject(CheckEndorsement, "key usage %#x", int(cert.KeyUsage))
	}
	e.key = cert.PublicKey
	return e, nil
}

// device reads maker and model from the subject alternative name: one
// directory name that holds all three attributes of the profile (3.1.2).
func device(cert *x509.Certificate) (Endorsement, error) {
	var found []asn1.RawValue
	for _, x := range cert.Extensions {
		if !x.Id.Equal(oidSubjectAltName) {
			continue
		}
		var names asn1.RawValue
		if rest, err := asn1.Unmarshal(x.Value, &names); err != nil || len(rest) > 0 || names.Tag != asn1.TagSequence || names.Class != asn1.ClassUniversal {
			return Endorsement{}, reject(CheckForm, "subject alternative name")
		}
		for rest := names.Bytes; len(rest) > 0; {
			var name asn1.RawValue
			var err error
			if rest, err = asn1.Unmarshal(rest, &name); err != nil {
				return Endorsement{}, &Error{CheckForm, fmt.Errorf("subject alternative name: %w", err)}
			}
			if name.Class == asn1.ClassContextSpecific && name.Tag == 4 {
				found = append(found, name)
			}
		}
	}
	if len(found) != 1 {
		return Endorsement{}, reject(CheckEndorsement, "%d directory names", len(found))
	}
	// RelativeDistinguishedNames as sets of attributes; makers put the three
	// into one set or into three.
	type attribute struct {
		Type  asn1.ObjectIdentifier
		Value string
	}
	values := map[string]string{}
	var sets asn1.RawValue
	if rest, err := asn1.Unmarshal(found[0].Bytes, &sets); err != nil || len(rest) > 0 || sets.Tag != asn1.TagSequence {
		return Endorsement{}, reject(CheckForm, "directory name")
	}
	for rest := sets.Bytes; len(rest) > 0; {
		var list []attribute
		var err error
		if rest, err = asn1.UnmarshalWithParams(rest, &list, "set"); err != nil {
			return Endorsement{}, &Error{CheckForm, fmt.Errorf("directory name: %w", err)}
		}
		for _, a := range list {
			if _, twice := values[a.Type.String()]; twice {
				return Endorsement{}, reject(CheckForm, "directory name has an attribute twice")
			}
			values[a.Type.String()] = a.Value
		}
	}
	e := Endorsement{manufacturer: values[oidTPMManufacturer.String()], model: values[oidTPMModel.String()]}
	if !strings.HasPrefix(e.manufacturer, "id:") || e.model == "" || values[oidTPMVersion.String()] == "" {
		return Endorsement{}, reject(CheckEndorsement, "maker, model or version is missing")
	}
	return e, nil
}
