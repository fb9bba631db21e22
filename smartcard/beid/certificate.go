package beid

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	_ "crypto/sha1" // cards of the first years are signed with it
	"crypto/sha256"
	_ "crypto/sha512"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"slices"
	"time"

	"enrollkiosk/smartcard/tlv"
)

// Class says what a root is good for.
type Class string

// Classes of roots.
const (
	Production Class = "production"
	Test       Class = "test"
)

// Root is a trusted root: a "Belgium Root CA".
type Root struct {
	Certificate []byte // DER
	Class       Class
}

// Roots are trusted roots. The zero value trusts nobody.
type Roots struct{ list []root }

type root struct {
	*x509.Certificate
	class Class
}

// NewRoots takes certificates of certificate authorities. One key cannot be of
// two classes.
func NewRoots(trusted ...Root) (Roots, error) {
	var r Roots
	classes := make(map[[32]byte]Class)
	for i, t := range trusted {
		c, err := x509.ParseCertificate(t.Certificate)
		switch {
		case err != nil:
			return Roots{}, fmt.Errorf("root %d: %w: %w", i, ErrMalformed, err)
		case t.Class != Production && t.Class != Test:
			return Roots{}, fmt.Errorf("root %d: %w: class %q", i, ErrCertificate, t.Class)
		case !c.BasicConstraintsValid || !c.IsCA || c.KeyUsage&x509.KeyUsageCertSign == 0 || len(c.UnhandledCriticalExtensions) > 0:
			return Roots{}, fmt.Errorf("root %d: %w: not a certificate authority", i, ErrCertificate)
		}
		id := sha256.Sum256(c.RawSubjectPublicKeyInfo)
		if class, ok := classes[id]; ok && class != t.Class {
			return Roots{}, fmt.Errorf("root %d: %w: its key is trusted as %s and as %s", i, ErrCertificate, class, t.Class)
		}
		classes[id] = t.Class
		r.list = append(r.list, root{c, t.Class})
	}
	return r, nil
}

// issuerOf finds the root that signed c, and the hash that it used.
func (r Roots) issuerOf(c *x509.Certificate) (root, crypto.Hash, error) {
	failure := ErrUnknownAuthority
	for _, ca := range r.list {
		if !bytes.Equal(ca.RawSubject, c.RawIssuer) {
			continue
		}
		if hash, ok := signed(ca.Certificate, c); ok {
			return ca, hash, nil
		}
		failure = fmt.Errorf("%w: of the National Register's certificate", ErrSignature)
	}
	return root{}, 0, failure
}

func signed(ca, c *x509.Certificate) (crypto.Hash, bool) {
	if c.SignatureAlgorithm != x509.SHA1WithRSA { // the standard library refuses it
		return crypto.SHA256, ca.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature) == nil
	}
	key, ok := ca.PublicKey.(*rsa.PublicKey)
	return crypto.SHA1, ok && rsa.VerifyPKCS1v15(key, crypto.SHA1, sum(crypto.SHA1, c.RawTBSCertificate), c.Signature) == nil
}

// checkRegister says whether c may sign identities. The root also certifies
// authorities for citizens, whose keys sign anything; for that reason c must
// stand directly below the root, and be called as the National Register is.
func checkRegister(c *x509.Certificate) error {
	switch {
	case c.IsCA || c.KeyUsage&(x509.KeyUsageDigitalSignature|x509.KeyUsageContentCommitment) == 0:
		return fmt.Errorf("%w: not a signer's", ErrCertificate)
	case c.Subject.CommonName != "RRN" || !slices.Equal(c.Subject.Country, []string{"BE"}):
		return fmt.Errorf("%w: not the National Register's", ErrCertificate)
	case len(c.UnhandledCriticalExtensions) > 0:
		return fmt.Errorf("%w: critical extension %v", ErrCertificate, c.UnhandledCriticalExtensions[0])
	}
	return nil
}

func validAt(c *x509.Certificate, t time.Time) bool {
	return !t.Before(c.NotBefore) && !t.After(c.NotAfter)
}

// checkSignature verifies a signature file, which may be filled with zeros, over
// message. RSA is PKCS #1 v1.5 with the hash that the signature names itself;
// ECDSA is on P-384 with SHA-384, in DER.
func checkSignature(key any, message, file []byte) (crypto.Hash, error) {
	switch key := key.(type) {
	case *rsa.PublicKey:
		signature, ok := unfilled(file, key.Size())
		if !ok {
			return 0, ErrSignature
		}
		for _, hash := range []crypto.Hash{crypto.SHA256, crypto.SHA384, crypto.SHA1} {
			if rsa.VerifyPKCS1v15(key, hash, sum(hash, message), signature) == nil {
				return hash, nil
			}
		}
		return 0, ErrSignature
	case *ecdsa.PublicKey:
		if key.Curve != elliptic.P384() {
			return 0, fmt.Errorf("%w: %s", ErrUnsupported, key.Curve.Params().Name)
		}
		size, _ := certificateSize(file)
		signature, ok := unfilled(file, size)
		if !ok || !ecdsa.VerifyASN1(key, sum(crypto.SHA384, message), signature) {
			return 0, ErrSignature
		}
		return crypto.SHA384, nil
	}
	return 0, fmt.Errorf("%w: kind of key", ErrUnsupported)
}

// unfilled is the first n bytes of a file that has nothing but zeros behind them.
func unfilled(file []byte, n int) ([]byte, bool) {
	if n == 0 || n > len(file) || len(trimmed(file[n:])) > 0 {
		return nil, false
	}
	return file[:n:n], true
}

func trimmed(b []byte) []byte { return bytes.TrimRight(b, "\x00") }

// basicKey reads the basic key file: SubjectPublicKeyInfo, perhaps filled.
func basicKey(file []byte) (*ecdsa.PublicKey, error) {
	_, header, value, err := tlv.Header(file)
	if err != nil {
		return nil, fmt.Errorf("%w: basic key", ErrMalformed)
	}
	der, ok := unfilled(file, header+value)
	if !ok {
		return nil, fmt.Errorf("%w: basic key", ErrMalformed)
	}
	key, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		return nil, fmt.Errorf("%w: basic key: %w", ErrMalformed, err)
	}
	if k, ok := key.(*ecdsa.PublicKey); ok && k.Curve == elliptic.P384() {
		return k, nil
	}
	return nil, fmt.Errorf("%w: kind of basic key", ErrUnsupported)
}

func sum(hash crypto.Hash, b []byte) []byte {
	h := hash.New()
	h.Write(b)
	return h.Sum(nil)
}

func thumbprint(der []byte) string {
	digest := sha256.Sum256(der)
	return hex.EncodeToString(digest[:])
}
