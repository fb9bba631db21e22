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
	"math/big"

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
	// BSI TR-03111 5.2.1.1
	"0.4.0.127.0.7.1.1.4.1.1": {"plain", crypto.SHA1},
	"0.4.0.127.0.7.1.1.4.1.2": {"plain", crypto.SHA224},
	"0.4.0.127.0.7.1.1.4.1.3": {"plain", crypto.SHA256},
	"0.4.0.127.0.7.1.1.4.1.4": {"plain", crypto.SHA384},
	"0.4.0.127.0.7.1.1.4.1.5": {"plain", crypto.SHA512},
}

var (
	oidMGF1 = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 8}
	oidPSS  = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 10}
)

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
		digest := sum(hash, message)
		if err := rsa.VerifyPSS(key, hash, digest, signature, options); err != nil {
			return 0, fmt.Errorf("%w: %v", ErrSignature, err)
		}
		if options.SaltLength == rsa.PSSSaltLengthAuto && !unsalted(key, hash, digest, signature) {
			return 0, fmt.Errorf("%w: length of the salt", ErrSignature)
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
		if a.kind != "ecdsa" && a.kind != "plain" {
			return 0, fmt.Errorf("%w: key and algorithm do not fit", ErrSignature)
		}
		if a.kind == "plain" {
			if signature, ok = plainToDER(key, signature); !ok {
				return 0, fmt.Errorf("%w: length", ErrSignature)
			}
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
	// Doc 9303-12 4.4.1: both hashes are the same. A salt length of zero means "any"
	// to crypto/rsa, which is looked at afterwards.
	if mgfHash != hash || p.Trailer != 1 || p.Salt < 0 {
		return 0, nil, fmt.Errorf("%w: RSASSA-PSS parameters", ErrUnsupported)
	}
	return hash, &rsa.PSSOptions{SaltLength: p.Salt, Hash: hash}, nil
}

// unsalted says whether a PSS signature that verifies has a salt of no bytes:
// its hash is then that of eight zeros and the digest (RFC 8017 9.1.1).
func unsalted(key *rsa.PublicKey, hash crypto.Hash, digest, signature []byte) bool {
	m := new(big.Int).Exp(new(big.Int).SetBytes(signature), big.NewInt(int64(key.E)), key.N).FillBytes(make([]byte, key.Size()))
	end := len(m) - 1
	return bytes.Equal(m[end-hash.Size():end], sum(hash, make([]byte, 8), digest))
}

// plainToDER turns r || s (TR-03111 5.2.1), each as long as the order, into the
// form of crypto/ecdsa.
func plainToDER(key *ecdsa.PublicKey, signature []byte) ([]byte, bool) {
	size := (key.Curve.Params().N.BitLen() + 7) / 8
	if len(signature) != 2*size {
		return nil, false
	}
	der, err := asn1.Marshal(struct{ R, S *big.Int }{new(big.Int).SetBytes(signature[:size]), new(big.Int).SetBytes(signature[size:])})
	return der, err == nil
}
