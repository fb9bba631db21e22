package idcard

import (
	"crypto"
	"crypto/md5"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"

	_ "crypto/sha256"
	_ "crypto/sha512"
)

// Algorithm is a kind of signature.
type Algorithm string

// Algorithms of authorities and of Active Authentication (there RSA is ISO/IEC 9796-2).
const (
	ECDSA      Algorithm = "ecdsa"       // ANSI X9.62: r and s in DER
	PlainECDSA Algorithm = "ecdsa-plain" // BSI TR-03111 5.2.1: r and s side by side
	RSA        Algorithm = "rsa"         // PKCS #1 v1.5
	PSS        Algorithm = "rsa-pss"     // RSASSA-PSS, salt as long as the hash
)

func (a Algorithm) isRSA() bool { return a == RSA || a == PSS }

// Scheme is a kind of key and how it signs. The zero value is ECDSA on P-256 with SHA-256.
type Scheme struct {
	Algorithm  Algorithm
	Hash       crypto.Hash // 0: SHA-256; MD5, which Doc 9303 forbids, with RSA
	Domain     Domain      // of ECDSA; 0: P-256
	Bits       int         // of RSA; 0: 2048, of a CSCA 3072
	Parameters Parameters  // of a curve; Explicit with PSS: the key itself says id-RSASSA-PSS
}

// Parameters is how a key states its domain parameters.
type Parameters byte

// The ways of Doc 9303: certificates ask for Explicit (9303-12 4.4.2), chips may use all (9303-11 9.5).
const (
	Named        Parameters = iota // a curve's object identifier; of DH the same as Explicit
	Explicit                       // all numbers: ECParameters of TR-03111, dhpublicnumber of X9.42
	Standardized                   // standardizedDomainParameters with a number of 9303-11 9.5.1
	PKCS3                          // dhKeyAgreement of PKCS #3, which the first cards used; of curves the same as Explicit
)

func (s Scheme) filled(bits int) (Scheme, error) {
	if s.Algorithm == "" {
		s.Algorithm = ECDSA
	}
	if s.Hash == 0 {
		s.Hash = crypto.SHA256
	}
	if s.Algorithm.isRSA() {
		if s.Bits == 0 {
			s.Bits = bits
		}
	} else if s.Domain == 0 {
		s.Domain = P256
	}
	_, err := s.identifier()
	return s, err
}

// hashes are the identifiers of hash functions, with the last arc of each algorithm's signature.
var hashes = map[crypto.Hash]struct {
	id         []byte
	rsa, plain int
	ansi       []int
}{
	crypto.MD5:    {id: oid(1, 2, 840, 113549, 2, 5), rsa: 4},
	crypto.SHA1:   {oid(1, 3, 14, 3, 2, 26), 5, 1, []int{1}},
	crypto.SHA224: {oid(2, 16, 840, 1, 101, 3, 4, 2, 4), 14, 2, []int{3, 1}},
	crypto.SHA256: {oid(2, 16, 840, 1, 101, 3, 4, 2, 1), 11, 3, []int{3, 2}},
	crypto.SHA384: {oid(2, 16, 840, 1, 101, 3, 4, 2, 2), 12, 4, []int{3, 3}},
	crypto.SHA512: {oid(2, 16, 840, 1, 101, 3, 4, 2, 3), 13, 5, []int{3, 4}},
}

// digestAlgorithm leaves the parameters out (RFC 5754 2).
func digestAlgorithm(h crypto.Hash) []byte { return tlv(0x30, hashes[h].id) }

var (
	rsaEncryption = tlv(0x30, oid(1, 2, 840, 113549, 1, 1, 1), tlv(0x05))
	rsaPSS        = oid(1, 2, 840, 113549, 1, 1, 10)
)

// identifier is the scheme's AlgorithmIdentifier (RFC 4055, RFC 5758, TR-03111 5.2.1).
func (s Scheme) identifier() ([]byte, error) {
	h, ok := hashes[s.Hash]
	switch {
	case !ok:
		return nil, fmt.Errorf("idcard: hash %v is not known", s.Hash)
	case s.Algorithm == RSA:
		return tlv(0x30, oid(1, 2, 840, 113549, 1, 1, h.rsa), tlv(0x05)), nil
	case s.Algorithm == PSS && s.Hash == crypto.SHA1: // all defaults
		return tlv(0x30, rsaPSS, tlv(0x30)), nil
	case s.Algorithm == PSS && h.rsa > 4: // RFC 4055 3.1
		hash := tlv(0x30, h.id, tlv(0x05))
		mask := tlv(0x30, oid(1, 2, 840, 113549, 1, 1, 8), hash)
		return tlv(0x30, rsaPSS, tlv(0x30, tlv(0xA0, hash), tlv(0xA1, mask), tlv(0xA2, small(s.Hash.Size())))), nil
	case s.Algorithm == ECDSA && h.ansi != nil:
		return tlv(0x30, oid(append([]int{1, 2, 840, 10045, 4}, h.ansi...)...)), nil
	case s.Algorithm == PlainECDSA && h.plain > 0:
		return tlv(0x30, oid(0, 4, 0, 127, 0, 7, 1, 1, 4, 1, h.plain)), nil
	}
	return nil, fmt.Errorf("idcard: no algorithm is called %q with %v", s.Algorithm, s.Hash)
}

// privateKey is an RSA key, or else a number on a domain.
type privateKey struct {
	rsa    *rsa.PrivateKey
	domain Domain
	d      *big.Int
}

func newPrivateKey(s Scheme) (privateKey, error) {
	if s.Algorithm.isRSA() {
		key, err := rsa.GenerateKey(rand.Reader, s.Bits)
		return privateKey{rsa: key}, err
	}
	g, err := s.Domain.group()
	if err != nil {
		return privateKey{}, err
	}
	d, err := g.scalar(rand.Reader)
	return privateKey{domain: s.Domain, d: d}, err
}

// fits tells whether the key is one that newPrivateKey could make for s.
func (k privateKey) fits(s Scheme) bool {
	if s.Algorithm.isRSA() {
		return k.rsa != nil && k.rsa.N.BitLen() == s.Bits
	}
	return k.d != nil && k.domain == s.Domain
}

// sign gives the AlgorithmIdentifier and the signature.
func (k privateKey) sign(s Scheme, message []byte) (algorithm, signature []byte, err error) {
	if algorithm, err = s.identifier(); err != nil {
		return nil, nil, err
	}
	if s.Algorithm.isRSA() != (k.rsa != nil) {
		return nil, nil, fmt.Errorf("idcard: the key does not sign with %s", s.Algorithm)
	}
	digest := sum(s.Hash, message)
	switch s.Algorithm {
	case RSA:
		signature, err = rsa.SignPKCS1v15(rand.Reader, k.rsa, s.Hash, digest)
		return algorithm, signature, err
	case PSS:
		signature, err = rsa.SignPSS(rand.Reader, k.rsa, s.Hash, digest, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash})
		return algorithm, signature, err
	}
	g, err := k.domain.group()
	if err != nil {
		return nil, nil, err
	}
	r, t, err := g.sign(rand.Reader, k.d, digest)
	if err != nil {
		return nil, nil, err
	}
	if s.Algorithm == ECDSA {
		return algorithm, tlv(0x30, integer(r), integer(t)), nil
	}
	size := (g.n.BitLen() + 7) / 8
	return algorithm, append(r.FillBytes(make([]byte, size)), t.FillBytes(make([]byte, size))...), nil
}

// sum hashes; MD5 and SHA-1 stay reachable where a policy of the process would refuse them.
func sum(h crypto.Hash, message []byte) []byte {
	switch h {
	case crypto.MD5:
		d := md5.Sum(message)
		return d[:]
	case crypto.SHA1:
		d := sha1.Sum(message)
		return d[:]
	}
	f := h.New()
	f.Write(message)
	return f.Sum(nil)
}

var errSignature = errors.New("signature does not verify")

// verify checks a signature of the key's own.
func (k privateKey) verify(s Scheme, message, signature []byte) error {
	digest := sum(s.Hash, message)
	switch s.Algorithm {
	case RSA:
		return rsa.VerifyPKCS1v15(&k.rsa.PublicKey, s.Hash, digest, signature)
	case PSS:
		return rsa.VerifyPSS(&k.rsa.PublicKey, s.Hash, digest, signature, nil)
	}
	g, err := k.domain.group()
	if err != nil {
		return err
	}
	size := (g.n.BitLen() + 7) / 8
	var r, t *big.Int
	if s.Algorithm == ECDSA {
		n, err := ParseNode(signature)
		if err != nil || len(n.Children) != 2 {
			return errSignature
		}
		r, t = new(big.Int).SetBytes(n.Children[0].Value), new(big.Int).SetBytes(n.Children[1].Value)
	} else {
		if len(signature) != 2*size {
			return errSignature
		}
		r, t = new(big.Int).SetBytes(signature[:size]), new(big.Int).SetBytes(signature[size:])
	}
	if r.Sign() == 0 || t.Sign() == 0 || r.Cmp(g.n) >= 0 || t.Cmp(g.n) >= 0 {
		return errSignature
	}
	e := new(big.Int).SetBytes(digest)
	if spare := len(digest)*8 - g.n.BitLen(); spare > 0 {
		e.Rsh(e, uint(spare))
	}
	w := new(big.Int).ModInverse(t, g.n)
	u := new(big.Int).Mod(e.Mul(e, w), g.n)
	v := new(big.Int).Mul(r, w)
	q := g.add(g.mul(u, g.g), g.mul(v.Mod(v, g.n), g.mul(k.d, g.g)))
	if q.x == nil || new(big.Int).Mod(q.x, g.n).Cmp(r) != 0 {
		return errSignature
	}
	return nil
}

// info is the SubjectPublicKeyInfo.
func (k privateKey) info(how Parameters) ([]byte, error) {
	if k.rsa != nil {
		algorithm := rsaEncryption
		if how == Explicit {
			algorithm = tlv(0x30, rsaPSS)
		}
		public := tlv(0x30, integer(k.rsa.N), integer(big.NewInt(int64(k.rsa.E))))
		return tlv(0x30, algorithm, tlv(0x03, []byte{0}, public)), nil
	}
	g, err := k.domain.group()
	if err != nil {
		return nil, err
	}
	algorithm, err := k.domain.algorithm(how)
	if err != nil {
		return nil, err
	}
	return tlv(0x30, algorithm, tlv(0x03, []byte{0}, g.encode(g.mul(k.d, g.g)))), nil
}

// pkcs8 is the PrivateKeyInfo (RFC 5208, RFC 5915).
func (k privateKey) pkcs8() ([]byte, error) {
	if k.rsa != nil {
		return x509.MarshalPKCS8PrivateKey(k.rsa)
	}
	g, err := k.domain.group()
	if err != nil {
		return nil, err
	}
	algorithm, err := k.domain.algorithm(Named)
	if err != nil {
		return nil, err
	}
	private := tlv(0x30, small(1), tlv(0x04, k.d.FillBytes(make([]byte, (g.n.BitLen()+7)/8))),
		tlv(0xA1, tlv(0x03, []byte{0}, g.encode(g.mul(k.d, g.g)))))
	return tlv(0x30, small(0), algorithm, tlv(0x04, private)), nil
}

// parsePKCS8 reads what pkcs8 wrote.
func parsePKCS8(der []byte) (privateKey, error) {
	if key, err := x509.ParsePKCS8PrivateKey(der); err == nil {
		if key, ok := key.(*rsa.PrivateKey); ok {
			return privateKey{rsa: key}, nil
		}
	}
	bad := errors.New("not a signing key")
	n, err := ParseNode(der)
	if err != nil || len(n.Children) < 3 || n.Children[2].Tag != 0x04 {
		return privateKey{}, bad
	}
	inner, err := ParseNode(n.Children[2].Value)
	if err != nil || len(inner.Children) < 2 || inner.Children[1].Tag != 0x04 {
		return privateKey{}, bad
	}
	for d := range curves {
		if algorithm, err := d.algorithm(Named); err == nil && string(algorithm) == string(n.Children[1].Encode()) {
			return privateKey{domain: d, d: new(big.Int).SetBytes(inner.Children[1].Value)}, nil
		}
	}
	return privateKey{}, bad
}

// curveNames are object identifiers of ANSI X9.62, SEC 2 and RFC 5639.
var curveNames = map[Domain][]byte{
	P192: oid(1, 2, 840, 10045, 3, 1, 1), P256: oid(1, 2, 840, 10045, 3, 1, 7),
	P224: oid(1, 3, 132, 0, 33), P384: oid(1, 3, 132, 0, 34), P521: oid(1, 3, 132, 0, 35),
	BrainpoolP192r1: oid(1, 3, 36, 3, 3, 2, 8, 1, 1, 3), BrainpoolP224r1: oid(1, 3, 36, 3, 3, 2, 8, 1, 1, 5),
	BrainpoolP256r1: oid(1, 3, 36, 3, 3, 2, 8, 1, 1, 7), BrainpoolP320r1: oid(1, 3, 36, 3, 3, 2, 8, 1, 1, 9),
	BrainpoolP384r1: oid(1, 3, 36, 3, 3, 2, 8, 1, 1, 11), BrainpoolP512r1: oid(1, 3, 36, 3, 3, 2, 8, 1, 1, 13),
}

// algorithm is the AlgorithmIdentifier of a public key on a curve (RFC 5480, TR-03111 5.1.1, 9303-11 9.5).
func (d Domain) algorithm(how Parameters) ([]byte, error) {
	g, err := d.group()
	if err != nil {
		return nil, err
	}
	public := oid(1, 2, 840, 10045, 2, 1)
	switch how {
	case Named:
		return tlv(0x30, public, curveNames[d]), nil
	case Standardized:
		return tlv(0x30, oid(0, 4, 0, 127, 0, 7, 1, 2), small(int(d))), nil
	}
	return tlv(0x30, public, tlv(0x30, small(1),
		tlv(0x30, oid(1, 2, 840, 10045, 1, 1), integer(g.p)),
		tlv(0x30, tlv(0x04, g.field(g.a)), tlv(0x04, g.field(g.b))),
		tlv(0x04, g.encode(g.g)), integer(g.n), small(1))), nil
}
