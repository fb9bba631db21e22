package trust

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	_ "crypto/sha1" // documents in circulation use it; the report says so
	_ "crypto/sha256"
	_ "crypto/sha512"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"time"

	"enrollkiosk/smartcard/lds"
)

// signatureAlgorithms names key type and hash; hash 0 is told elsewhere.
var signatureAlgorithms = map[string]struct {
	kind string
	hash crypto.Hash
}{
	"1.2.840.113549.1.1.1":  {"rsa", 0}, // rsaEncryption: the hash is the SignerInfo's
	"1.2.840.113549.1.1.5":  {"rsa", crypto.SHA1},
	"1.2.840.113549.1.1.14": {"rsa", crypto.SHA224},
	"1.2.840.113549.1.1.11": {"rsa", crypto.SHA256},
	"1.2.840.113549.1.1.12": {"rsa", crypto.SHA384},
	"1.2.840.113549.1.1.13": {"rsa", crypto.SHA512},
	"1.2.840.113549.1.1.10": {"pss", 0},
	"1.2.840.10045.4.1":     {"ecdsa", crypto.SHA1},
	"1.2.840.10045.4.3.1":   {"ecdsa", crypto.SHA224},
	"1.2.840.10045.4.3.2":   {"ecdsa", crypto.SHA256},
	"1.2.840.10045.4.3.3":   {"ecdsa", crypto.SHA384},
	"1.2.840.10045.4.3.4":   {"ecdsa", crypto.SHA512},
}

var oidMGF1 = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 8}

// noParameters says that an algorithm's parameters are absent or NULL.
func noParameters(a pkix.AlgorithmIdentifier) bool {
	p := a.Parameters.FullBytes
	return len(p) == 0 || bytes.Equal(p, asn1.NullBytes)
}

func digestAlgorithm(a pkix.AlgorithmIdentifier) (crypto.Hash, error) {
	hash, ok := lds.DigestAlgorithm(a.Algorithm)
	if !ok || !noParameters(a) {
		return 0, fmt.Errorf("%w: digest %v", ErrUnsupported, a.Algorithm)
	}
	return hash, nil
}

func sum(hash crypto.Hash, parts ...[]byte) []byte {
	h := hash.New()
	for _, p := range parts {
		h.Write(p)
	}
	return h.Sum(nil)
}

// checkSignature verifies signature over message. digest is the hash for
// algorithms that do not name one, or 0. It returns the hash that was used.
func checkSignature(key crypto.PublicKey, algorithm pkix.AlgorithmIdentifier, digest crypto.Hash, message, signature []byte) (crypto.Hash, error) {
	a, ok := signatureAlgorithms[algorithm.Algorithm.String()]
	if !ok {
		return 0, fmt.Errorf("%w: signature %v", ErrUnsupported, algorithm.Algorithm)
	}
	hash := a.hash
	if hash == 0 {
		hash = digest
	}
	if a.kind == "pss" {
		hash, options, err := pssParameters(algorithm)
		if err != nil {
			return 0, err
		}
		key, ok := key.(*rsa.PublicKey)
		if !ok {
			return 0, fmt.Errorf("%w: key and algorithm do not fit", ErrSignature)
		}
		if err := rsa.VerifyPSS(key, hash, sum(hash, message), signature, options); err != nil {
			return 0, fmt.Errorf("%w: %v", ErrSignature, err)
		}
		return hash, nil
	}
	if !noParameters(algorithm) || hash == 0 {
		return 0, fmt.Errorf("%w: parameters of %v", ErrUnsupported, algorithm.Algorithm)
	}
	switch key := key.(type) {
	case *rsa.PublicKey:
		if a.kind != "rsa" {
			return 0, fmt.Errorf("%w: key and algorithm do not fit", ErrSignature)
		}
		if err := rsa.VerifyPKCS1v15(key, hash, sum(hash, message), signature); err != nil {
			return 0, fmt.Errorf("%w: %v", ErrSignature, err)
		}
	case *ecdsa.PublicKey:
		if a.kind != "ecdsa" {
			return 0, fmt.Errorf("%w: key and algorithm do not fit", ErrSignature)
		}
		if !ecdsa.VerifyASN1(key, sum(hash, message), signature) {
			return 0, ErrSignature
		}
	default:
		return 0, fmt.Errorf("%w: key type", ErrUnsupported)
	}
	return hash, nil
}

// pssParameters reads RSASSA-PSS-params (RFC 4055 3.1).
func pssParameters(algorithm pkix.AlgorithmIdentifier) (crypto.Hash, *rsa.PSSOptions, error) {
	p := struct {
		Hash    pkix.AlgorithmIdentifier `asn1:"optional,explicit,tag:0"`
		MGF     pkix.AlgorithmIdentifier `asn1:"optional,explicit,tag:1"`
		Salt    int                      `asn1:"optional,explicit,tag:2,default:20"`
		Trailer int                      `asn1:"optional,explicit,tag:3,default:1"`
	}{}
	if err := decode(algorithm.Parameters.FullBytes, &p); err != nil {
		return 0, nil, err
	}
	hash, mgfHash := crypto.SHA1, crypto.SHA1
	var err error
	if p.Hash.Algorithm != nil {
		if hash, err = digestAlgorithm(p.Hash); err != nil {
			return 0, nil, err
		}
	}
	if p.MGF.Algorithm != nil {
		var inner pkix.AlgorithmIdentifier
		if err := decode(p.MGF.Parameters.FullBytes, &inner); err != nil {
			return 0, nil, err
		}
		if mgfHash, err = digestAlgorithm(inner); err != nil {
			return 0, nil, err
		}
		if !p.MGF.Algorithm.Equal(oidMGF1) {
			return 0, nil, fmt.Errorf("%w: mask generation %v", ErrUnsupported, p.MGF.Algorithm)
		}
	}
	// A salt length of zero means "any" to crypto/rsa.
	if mgfHash != hash || p.Trailer != 1 || p.Salt <= 0 {
		return 0, nil, fmt.Errorf("%w: RSASSA-PSS parameters", ErrUnsupported)
	}
	return hash, &rsa.PSSOptions{SaltLength: p.Salt, Hash: hash}, nil
}

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

// checkSOD verifies the SOD's signature with the document signer's
// certificate that it carries, which it returns.
func checkSOD(sod lds.SOD) (signer *certificate, signingTime time.Time, used crypto.Hash, err error) {
	s := sod.Signer
	for _, der := range sod.Certificates {
		c, err := parseCertificate(der)
		if err != nil {
			return nil, signingTime, 0, err
		}
		if s.Serial != nil && s.Serial.Cmp(c.serial) == 0 && bytes.Equal(s.Issuer, c.issuer) ||
			len(s.KeyID) > 0 && bytes.Equal(s.KeyID, c.keyID) {
			signer = c
			break
		}
	}
	if signer == nil {
		return nil, signingTime, 0, fmt.Errorf("%w: the security object carries no certificate of its signer", ErrCertificate)
	}
	digest, err := digestAlgorithm(s.Digest)
	if err != nil {
		return nil, signingTime, 0, err
	}
	attributes, err := parseAttributes(s.Attributes)
	if err != nil {
		return nil, signingTime, 0, err
	}
	if !attributes.contentType.Equal(sod.ContentType) {
		return nil, signingTime, 0, fmt.Errorf("%w: content type", ErrSignature)
	}
	if !bytes.Equal(attributes.messageDigest, sum(digest, sod.Content)) {
		return nil, signingTime, 0, fmt.Errorf("%w: message digest", ErrSignature)
	}
	if signer.keyErr != nil {
		return nil, signingTime, 0, unsupported(signer.keyErr)
	}
	used, err = checkSignature(signer.key, s.SignatureAlgorithm, digest, s.Attributes, s.Signature)
	if err != nil {
		return nil, signingTime, 0, err
	}
	if digest == crypto.SHA1 || sod.Digest == crypto.SHA1 {
		used = crypto.SHA1
	}
	return signer, attributes.signingTime, used, nil
}
