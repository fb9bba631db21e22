package trust

import (
	"bytes"
	"crypto"
	"encoding/asn1"
	"fmt"
	"time"

	"enrollkiosk/smartcard/lds"
)

var (
	oidContentType   = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 3}
	oidMessageDigest = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 4}
	oidSigningTime   = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 5}
)

// signedAttributes are those of RFC 5652 section 11; signingTime is zero if
// absent.
type signedAttributes struct {
	contentType   asn1.ObjectIdentifier
	messageDigest []byte
	signingTime   time.Time
}

func parseAttributes(der []byte) (a signedAttributes, err error) {
	var set []struct {
		Type   asn1.ObjectIdentifier
		Values []asn1.RawValue `asn1:"set"`
	}
	rest, err := asn1.UnmarshalWithParams(der, &set, "set")
	if err != nil || len(rest) != 0 {
		return a, fmt.Errorf("signed attributes: %w", ErrMalformed)
	}
	seen := make(map[string]bool)
	for _, attribute := range set {
		id := attribute.Type.String()
		if seen[id] {
			return a, fmt.Errorf("signed attribute %s twice: %w", id, ErrMalformed)
		}
		seen[id] = true
		var v any
		switch {
		case attribute.Type.Equal(oidContentType):
			v = &a.contentType
		case attribute.Type.Equal(oidMessageDigest):
			v = &a.messageDigest
		case attribute.Type.Equal(oidSigningTime):
			v = &a.signingTime
		default:
			continue
		}
		if len(attribute.Values) != 1 {
			return a, fmt.Errorf("signed attribute %s: %w", id, ErrMalformed)
		}
		if err := decode(attribute.Values[0].FullBytes, v); err != nil {
			return a, fmt.Errorf("signed attribute %s: %w", id, err)
		}
	}
	return a, nil
}

// signed is who signed an object, and how.
type signed struct {
	*certificate
	at   time.Time   // stated in the signed attributes, zero if not
	hash crypto.Hash // the weakest that the signature rests on
}

// checkSigned verifies the signature of an object with the certificate of its
// signer, which the object carries or which is known.
func checkSigned(object lds.SignedData, known []*certificate) (signed, error) {
	s := object.Signer
	signer, err := findSigner(object, known)
	if err != nil {
		return signed{}, err
	}
	digest, err := digestAlgorithm(s.Digest)
	if err != nil {
		return signed{}, err
	}
	attributes, err := parseAttributes(s.Attributes)
	if err != nil {
		return signed{}, err
	}
	if !attributes.contentType.Equal(object.ContentType) {
		return signed{}, fmt.Errorf("%w: content type", ErrSignature)
	}
	if !bytes.Equal(attributes.messageDigest, sum(digest, object.Content)) {
		return signed{}, fmt.Errorf("%w: message digest", ErrSignature)
	}
	used, err := signer.verify(s.SignatureAlgorithm, digest, s.Attributes, s.Signature)
	if err != nil {
		return signed{}, err
	}
	if digest == crypto.SHA1 {
		used = digest
	}
	return signed{signer, attributes.signingTime, used}, nil
}

// findSigner looks among the certificates of the object, then among those known.
// One that does not parse is no reason to refuse, unless it was the signer's.
func findSigner(object lds.SignedData, known []*certificate) (*certificate, error) {
	var unread error
	candidates := make([]*certificate, 0, len(object.Certificates)+len(known))
	for _, der := range object.Certificates {
		c, err := parseCertificate(der)
		if err != nil {
			unread = err
			continue
		}
		candidates = append(candidates, c)
	}
	s := object.Signer
	for _, c := range append(candidates, known...) {
		if s.Serial != nil && s.Serial.Cmp(c.serial) == 0 && canonicalName(s.Issuer) == c.issuer.canonical ||
			len(s.KeyID) > 0 && bytes.Equal(s.KeyID, c.keyID) {
			return c, nil
		}
	}
	if unread != nil {
		return nil, unread
	}
	return nil, fmt.Errorf("%w: the signer's certificate is not there", ErrCertificate)
}
