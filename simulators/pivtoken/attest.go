package pivtoken

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"time"

	"enrollkiosk/smartcard/apdu"
)

// Extensions of an attestation, under Yubico's 1.3.6.1.4.1.41482.3. Their
// values are bare bytes but for the serial, an INTEGER.
var (
	oidFirmware   = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 41482, 3, 3}
	oidSerial     = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 41482, 3, 7}
	oidPolicy     = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 41482, 3, 8}
	oidFormFactor = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 41482, 3, 9}
)

var (
	notBefore = time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
	notAfter  = time.Date(2049, 12, 31, 23, 59, 59, 0, time.UTC)
)

// Authority is a test root that issues attestation certificates to tokens.
type Authority struct {
	key  *ecdsa.PrivateKey
	root *x509.Certificate
}

// NewAuthority derives an authority from a seed: the same seed gives the same
// root certificate, byte for byte, so that separate processes can agree on it.
// Whoever knows the seed can attest anything: its class is test.
func NewAuthority(seed []byte) (*Authority, error) {
	private, err := deriveKey(seed)
	if err != nil {
		return nil, fmt.Errorf("derive authority key: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: "Test PIV Attestation Root"},
		NotBefore:             notBefore,
		NotAfter:              notAfter,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLen:            1,
	}
	// Without a source of randomness the signature is deterministic (RFC 6979).
	der, err := x509.CreateCertificate(nil, template, template, private.Public(), private)
	if err != nil {
		return nil, fmt.Errorf("sign authority root: %w", err)
	}
	root, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("parse authority root: %w", err)
	}
	return &Authority{key: private, root: root}, nil
}

func deriveKey(seed []byte) (*ecdsa.PrivateKey, error) {
	// 48 bytes reduced modulo the 32-byte order leave no bias to speak of.
	b, err := hkdf.Key(sha256.New, seed, nil, "enrollkiosk pivtoken test authority", 48)
	if err != nil {
		return nil, err
	}
	one := big.NewInt(1)
	order := new(big.Int).Sub(elliptic.P256().Params().N, one)
	d := new(big.Int).SetBytes(b)
	d.Mod(d, order).Add(d, one)
	return ecdsa.ParseRawPrivateKey(elliptic.P256(), d.FillBytes(make([]byte, 32)))
}

// Root is the authority's certificate, DER.
func (a *Authority) Root() []byte { return slices.Clone(a.root.Raw) }

// issue certifies a token's attestation key.
func (a *Authority) issue(t *Token, public crypto.PublicKey) ([]byte, error) {
	return x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber:          serial(),
		Subject:               pkix.Name{CommonName: "Test PIV Attestation"},
		NotBefore:             notBefore,
		NotAfter:              notAfter,
		KeyUsage:              x509.KeyUsageCertSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true,
		ExtraExtensions:       []pkix.Extension{{Id: oidFirmware, Value: t.version[:]}},
	}, a.root, public, a.key)
}

func serial() *big.Int {
	b := make([]byte, 16)
	_, _ = rand.Read(b) // never fails
	b[0] &= 0x7F
	b[15] |= 1
	return new(big.Int).SetBytes(b)
}

// manufacture gives the token what it leaves the factory with, and the faults
// that are states.
func (t *Token) manufacture(root *Authority) error {
	if !t.has(PlainNIST | NoAttestation | LikeNitrokey | LikePivApplet) {
		if root == nil || t.has(ForeignRoot) {
			seed := make([]byte, 32)
			_, _ = rand.Read(seed)
			var err error
			if root, err = NewAuthority(seed); err != nil {
				return err
			}
		}
		private, err := newPrivateKey(algP256)
		if err != nil {
			return err
		}
		der, err := root.issue(t, private.Public())
		if err != nil {
			return fmt.Errorf("issue attestation certificate: %w", err)
		}
		t.keys[slotAttestation] = &key{
			alg: algP256, pin: pinNever, touch: touchNever, origin: originImported, private: private,
		}
		t.objects[objectAttestation] = certificateContent(der)
		if t.has(CopiedChain) {
			t.donor = New(Options{Serial: t.serial, Version: t.version, FormFactor: t.formFactor, Root: root})
			t.objects[objectAttestation] = t.donor.objects[objectAttestation]
		}
	}
	if t.has(Provisioned) {
		if err := t.provision(); err != nil {
			return fmt.Errorf("provision: %w", err)
		}
	}
	if t.has(PINBlocked) {
		t.pin.left = 0
	}
	return nil
}

// provision makes a token that somebody used before.
func (t *Token) provision() error {
	pin := pad(ProvisionedPIN)
	t.pin.set(pin[:])
	var puk [pinLength]byte
	for i := range puk {
		n, err := rand.Int(rand.Reader, big.NewInt(10))
		if err != nil {
			return err
		}
		puk[i] = '0' + byte(n.Int64())
	}
	t.puk.set(puk[:])
	t.admin.key = make([]byte, managementKeyLength(t.admin.alg))
	_, _ = rand.Read(t.admin.key)

	private, err := newPrivateKey(algP256)
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		SerialNumber: serial(),
		Subject:      pkix.Name{CommonName: "Test holder"},
		NotBefore:    notBefore,
		NotAfter:     notAfter,
		KeyUsage:     x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		return err
	}
	k := &key{alg: algP256, origin: originGenerated, private: private, attested: private.Public()}
	k.pin, k.touch = policies(slotAuthentication, pinDefault, touchDefault)
	t.keys[slotAuthentication] = k
	t.objects[certificateObject(slotAuthentication)] = certificateContent(der)
	return nil
}

// attest certifies, with the key of slot F9, that the key of slot P1 was
// generated here.
func (t *Token) attest(c apdu.Command) ([]byte, apdu.Status) {
	if !isSlot(c.P1) || c.P2 != 0 {
		return nil, apdu.IncorrectP1P2
	}
	k, attester := t.keys[c.P1], t.keys[slotAttestation]
	if k == nil || k.origin != originGenerated || attester == nil {
		return nil, apdu.WrongData
	}
	if t.has(CopiedChain) {
		return t.copied(c, k)
	}
	list, err := parseTLV(t.objects[objectAttestation])
	if err != nil {
		return nil, apdu.WrongData
	}
	der, _ := find(list, 0x70)
	issuer, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, apdu.WrongData
	}
	slot := c.P1
	if t.has(WrongSlot) {
		if slot = slotAuthentication; c.P1 == slotAuthentication {
			slot = slotSignature
		}
	}
	if t.has(SoftwareLeaf) {
		private, err := newPrivateKey(algP256)
		if err != nil {
			return nil, apdu.UnknownError
		}
		attester = &key{private: private}
	}
	der, err = t.certify(slot, k, issuer, attester)
	if err != nil {
		return nil, apdu.WrongData
	}
	return der, apdu.OK
}

// copied is what the donor says of a key of its own, made under the same
// policies.
func (t *Token) copied(c apdu.Command, k *key) ([]byte, apdu.Status) {
	if t.donor.keys[c.P1] == nil {
		private, err := newPrivateKey(k.alg)
		if err != nil {
			return nil, apdu.UnknownError
		}
		t.donor.keys[c.P1] = &key{alg: k.alg, pin: k.pin, touch: k.touch, origin: originGenerated, private: private, attested: private.Public()}
	}
	return t.donor.attest(c)
}

// tbsCertificate is RFC 5280 4.1. It is written out because crypto/x509 makes
// no certificates for X25519 keys and adds extensions that attestations lack.
type tbsCertificate struct {
	Version    int `asn1:"explicit,tag:0"`
	Serial     *big.Int
	Algorithm  pkix.AlgorithmIdentifier
	Issuer     asn1.RawValue
	Validity   struct{ NotBefore, NotAfter time.Time }
	Subject    pkix.RDNSequence
	PublicKey  asn1.RawValue
	Extensions []pkix.Extension `asn1:"explicit,tag:3"`
}

func (t *Token) certify(slot byte, k *key, issuer *x509.Certificate, attester *key) ([]byte, error) {
	algorithm, hash, err := attester.signatureAlgorithm()
	if err != nil {
		return nil, err
	}
	number, err := asn1.Marshal(int64(t.serial))
	if err != nil {
		return nil, err
	}
	public, err := x509.MarshalPKIXPublicKey(k.attested)
	if err != nil {
		return nil, err
	}
	name := pkix.Name{CommonName: fmt.Sprintf("YubiKey PIV Attestation %x", slot)}
	tbs := tbsCertificate{
		Version:   2,
		Serial:    serial(),
		Algorithm: algorithm,
		Issuer:    asn1.RawValue{FullBytes: issuer.RawSubject},
		Subject:   name.ToRDNSequence(),
		PublicKey: asn1.RawValue{FullBytes: public},
		Extensions: []pkix.Extension{
			{Id: oidFirmware, Value: t.version[:]},
			{Id: oidSerial, Value: number},
			{Id: oidPolicy, Value: []byte{k.pin, k.touch}},
			{Id: oidFormFactor, Value: []byte{t.formFactor}},
		},
	}
	tbs.Validity.NotBefore, tbs.Validity.NotAfter = issuer.NotBefore, issuer.NotAfter
	signed, err := asn1.Marshal(tbs)
	if err != nil {
		return nil, err
	}
	signature, err := crypto.SignMessage(attester.private.(crypto.Signer), rand.Reader, signed, hash)
	if err != nil {
		return nil, err
	}
	return asn1.Marshal(struct {
		TBS       asn1.RawValue
		Algorithm pkix.AlgorithmIdentifier
		Signature asn1.BitString
	}{
		asn1.RawValue{FullBytes: signed},
		algorithm,
		asn1.BitString{Bytes: signature, BitLength: 8 * len(signature)},
	})
}

// signatureAlgorithm is how the key signs certificates.
func (k *key) signatureAlgorithm() (pkix.AlgorithmIdentifier, crypto.Hash, error) {
	switch k.private.(type) {
	case *ecdsa.PrivateKey: // ecdsa-with-SHA256
		return pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}}, crypto.SHA256, nil
	case *rsa.PrivateKey: // sha256WithRSAEncryption
		return pkix.AlgorithmIdentifier{
			Algorithm:  asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 11},
			Parameters: asn1.NullRawValue,
		}, crypto.SHA256, nil
	case ed25519.PrivateKey:
		return pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{1, 3, 101, 112}}, 0, nil
	}
	return pkix.AlgorithmIdentifier{}, 0, errors.New("the attestation key cannot sign")
}
