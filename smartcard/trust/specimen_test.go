package trust_test

import (
	"bytes"
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/des"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"slices"
	"sync"
	"time"

	"github.com/aead/cmac"

	"enrollkiosk/kiosk/secret"
	"enrollkiosk/smartcard/lds"
	"enrollkiosk/smartcard/tlv"
	"enrollkiosk/smartcard/trust"
)

// This file plays the issuing state and the chip, with the standard library
// and nothing of package trust.

var now = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

const (
	annaMRZ  = "I<UTOD231458907<<<<<<<<<<<<<<<7408122F3204153UTO<<<<<<<<<<<2ERIKSSON<<ANNA<MARIA<<<<<<<<<<"
	peterMRZ = "I<UTOD23145890<7349<<<<<<<<<<<3407127M9507122UTO<<<<<<<<<<<2STEVENSON<<PETER<JOHN<<<<<<<<<"
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

var rsaKey = sync.OnceValue(func() *rsa.PrivateKey { return must(rsa.GenerateKey(rand.Reader, 2048)) })
var rsaKey2 = sync.OnceValue(func() *rsa.PrivateKey { return must(rsa.GenerateKey(rand.Reader, 2048)) })

func ecKey(c elliptic.Curve) *ecdsa.PrivateKey { return must(ecdsa.GenerateKey(c, rand.Reader)) }

func name(cn string) pkix.Name { return pkix.Name{Country: []string{"UT"}, CommonName: cn} }

// state is an issuing state: a CSCA and one document signer.
type state struct {
	cscaKey, signerKey crypto.Signer
	csca, signer       []byte // certificates
	digest             crypto.Hash
	pss                bool
	signedAt           time.Time
	extra              []byte // signed attributes
}

func newState(edits ...func(csca, signer *x509.Certificate)) *state {
	return newStateWith(ecKey(elliptic.P256()), ecKey(elliptic.P256()), crypto.SHA256, edits...)
}

func newStateWith(cscaKey, signerKey crypto.Signer, digest crypto.Hash, edits ...func(csca, signer *x509.Certificate)) *state {
	s := &state{cscaKey: cscaKey, signerKey: signerKey, digest: digest, signedAt: now.AddDate(-1, 0, 0)}
	csca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: name("CSCA"), NotBefore: now.AddDate(-3, 0, 0), NotAfter: now.AddDate(12, 0, 0),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	signer := &x509.Certificate{
		SerialNumber: big.NewInt(4711), Subject: name("DS"), NotBefore: now.AddDate(-2, 0, 0), NotAfter: now.AddDate(11, 0, 0),
		KeyUsage: x509.KeyUsageDigitalSignature,
	}
	for _, edit := range edits {
		edit(csca, signer)
	}
	s.csca = must(x509.CreateCertificate(rand.Reader, csca, csca, cscaKey.Public(), cscaKey))
	parent := must(x509.ParseCertificate(s.csca))
	s.signer = must(x509.CreateCertificate(rand.Reader, signer, parent, signerKey.Public(), cscaKey))
	return s
}

func (s *state) anchors(class trust.Class, crls ...[]byte) trust.Anchors {
	return must(trust.NewAnchors([]trust.Anchor{{Certificate: s.csca, Class: class}}, crls...))
}

var digestOIDs = map[crypto.Hash]asn1.ObjectIdentifier{
	crypto.SHA1: {1, 3, 14, 3, 2, 26}, crypto.SHA224: {2, 16, 840, 1, 101, 3, 4, 2, 4}, crypto.SHA256: {2, 16, 840, 1, 101, 3, 4, 2, 1},
	crypto.SHA384: {2, 16, 840, 1, 101, 3, 4, 2, 2}, crypto.SHA512: {2, 16, 840, 1, 101, 3, 4, 2, 3},
}

var ecdsaOIDs = map[crypto.Hash]asn1.ObjectIdentifier{
	crypto.SHA1: {1, 2, 840, 10045, 4, 1}, crypto.SHA224: {1, 2, 840, 10045, 4, 3, 1}, crypto.SHA256: {1, 2, 840, 10045, 4, 3, 2},
	crypto.SHA384: {1, 2, 840, 10045, 4, 3, 3}, crypto.SHA512: {1, 2, 840, 10045, 4, 3, 4},
}

func der(v any) []byte { return must(asn1.Marshal(v)) }

func seq(parts ...[]byte) []byte { return tlv.Encode(0x30, parts...) }

func digestAlg(h crypto.Hash) []byte { return seq(der(digestOIDs[h])) }

func hashOf(h crypto.Hash, parts ...[]byte) []byte {
	d := h.New()
	for _, p := range parts {
		d.Write(p)
	}
	return d.Sum(nil)
}

func attribute(oid asn1.ObjectIdentifier, value []byte) []byte {
	return seq(der(oid), tlv.Encode(0x31, value))
}

// sod makes EF.SOD over the data groups.
func (s *state) sod(files map[lds.File][]byte) []byte {
	var hashes []byte
	for n := 1; n <= 16; n++ {
		f, _ := lds.DataGroup(n)
		if content, ok := files[f]; ok {
			hashes = append(hashes, seq(der(n), der(hashOf(s.digest, content)))...)
		}
	}
	content := seq(der(0), digestAlg(s.digest), seq(hashes))
	return s.sign(lds.OIDSecurityObject, content, lds.OIDSecurityObject)
}

func (s *state) sign(contentType asn1.ObjectIdentifier, content []byte, stated asn1.ObjectIdentifier) []byte {
	attributes := slices.Concat(
		attribute(asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 3}, der(stated)),
		attribute(asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 5}, der(s.signedAt)),
		attribute(asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 4}, der(hashOf(s.digest, content))),
		s.extra,
	)
	digest := hashOf(s.digest, tlv.Encode(0x31, attributes))
	var algorithm, signature []byte
	switch _, isRSA := s.signerKey.Public().(*rsa.PublicKey); {
	case s.pss:
		params := seq(
			tlv.Encode(0xA0, digestAlg(s.digest)),
			tlv.Encode(0xA1, seq(der(asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 8}), digestAlg(s.digest))),
			tlv.Encode(0xA2, der(s.digest.Size())))
		algorithm = seq(der(asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 10}), params)
		signature = must(s.signerKey.Sign(rand.Reader, digest, &rsa.PSSOptions{SaltLength: s.digest.Size(), Hash: s.digest}))
	case isRSA:
		algorithm = seq(der(asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 1}), asn1.NullBytes)
		signature = must(s.signerKey.Sign(rand.Reader, digest, s.digest))
	default:
		algorithm = seq(der(ecdsaOIDs[s.digest]))
		signature = must(s.signerKey.Sign(rand.Reader, digest, s.digest))
	}
	c := must(x509.ParseCertificate(s.csca))
	info := seq(der(1), seq(c.RawSubject, der(signerSerial(s.signer))), digestAlg(s.digest), tlv.Encode(0xA0, attributes), algorithm, der(signature))
	signedData := seq(der(3), tlv.Encode(0x31, digestAlg(s.digest)), seq(der(contentType), tlv.Encode(0xA0, der(content))),
		tlv.Encode(0xA0, s.signer), tlv.Encode(0x31, info))
	return tlv.Encode(0x77, seq(der(asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 2}), tlv.Encode(0xA0, signedData)))
}

func signerSerial(cert []byte) *big.Int {
	tbs := must(must(tlv.ParseOne(cert, 0x30)).Children())[0]
	var n *big.Int
	for _, c := range must(tbs.Children()) {
		if c.Tag == 0x02 {
			must(asn1.Unmarshal(c.Raw, &n))
		}
	}
	return n
}

// chip holds the private keys of one document.
type chip struct {
	doc    lds.Document // what was read, without evidence
	ca     *ecdh.PrivateKey
	caOID  asn1.ObjectIdentifier
	active crypto.Signer
}

func oid(prefix asn1.ObjectIdentifier, arc int) asn1.ObjectIdentifier {
	return append(slices.Clone(prefix), arc)
}

func facialImage(seed byte) []byte {
	image := append([]byte{0xFF, 0xD8, 0xFF, 0xE0}, bytes.Repeat([]byte{seed}, 60)...)
	n := 20 + 12 + len(image)
	record := slices.Concat([]byte("FAC\x00010\x00"), []byte{0, 0, 0, byte(n + 14), 0, 1, 0, 0, 0, byte(n)}, make([]byte, 16+12), image)
	return tlv.Encode(0x75, tlv.Encode(0x7F61, []byte{2, 1, 1}, tlv.Encode(0x7F60, tlv.Encode(0xA1,
		[]byte{0x80, 2, 1, 1, 0x81, 1, 2, 0x87, 2, 1, 1, 0x88, 2, 0, 8}), tlv.Encode(0x5F2E, record))))
}

// issue personalises a document. suite is the last arc of the Chip
// Authentication protocol.
func (s *state) issue(mrz string, suite int, active crypto.Signer) *chip {
	c := &chip{ca: must(ecdh.P256().GenerateKey(rand.Reader)), caOID: oid(lds.OIDCAECDH, suite), active: active}
	pace := seq(der(oid(lds.OIDPACEECDHGM, 2)), der(2), der(12))
	infos := [][]byte{
		pace,
		seq(der(c.caOID), der(1)),
		seq(der(lds.OIDPKECDH), must(x509.MarshalPKIXPublicKey(c.ca.PublicKey()))),
	}
	files := map[lds.File][]byte{
		lds.DG1: tlv.Encode(0x61, tlv.Encode(0x5F1F, []byte(mrz))),
		lds.DG2: facialImage(mrz[60]),
	}
	if active != nil {
		files[lds.DG15] = tlv.Encode(0x6F, must(x509.MarshalPKIXPublicKey(active.Public())))
		if _, ok := active.(*ecdsa.PrivateKey); ok {
			infos = append(infos, seq(der(lds.OIDAA), der(1), der(asn1.ObjectIdentifier{0, 4, 0, 127, 0, 7, 1, 1, 4, 1, 3})))
		}
	}
	files[lds.DG14] = tlv.Encode(0x6E, tlv.Encode(0x31, infos...))
	files[lds.EFSOD] = s.sod(files)
	tags := []byte{0x61, 0x75, 0x6E}
	if active != nil {
		tags = append(tags, 0x6F)
	}
	files[lds.EFCOM] = tlv.Encode(0x60, tlv.Encode(0x5F01, []byte("0107")), tlv.Encode(0x5F36, []byte("040000")), tlv.Encode(0x5C, tags))
	files[lds.EFCardAccess] = tlv.Encode(0x31, pace)
	c.doc = lds.Document{Files: files, Access: "PACE"}
	return c
}

// authenticated is the document with both kinds of evidence.
func (c *chip) authenticated(challenge [8]byte) lds.Document {
	d := c.doc
	d.Chip = c.authenticateChip()
	if c.active != nil {
		d.Active = c.authenticateActive(challenge)
	}
	return d
}

// authenticateChip plays terminal and chip up to the first READ BINARY under
// the new keys.
func (c *chip) authenticateChip() *lds.ChipAuthentication {
	terminal := must(ecdh.P256().GenerateKey(rand.Reader))
	shared := must(c.ca.ECDH(terminal.PublicKey())) // the chip's side of the agreement
	e := &lds.ChipAuthentication{Protocol: c.caOID, TerminalKey: secret.New(terminal.Bytes())}
	var mac func(...[]byte) []byte
	k := sha1.Sum(append(slices.Clone(shared), 0, 0, 0, 2))
	k2 := sha256.Sum256(append(slices.Clone(shared), 0, 0, 0, 2))
	switch c.caOID[len(c.caOID)-1] {
	case 1:
		e.SSC = make([]byte, 8)
		mac = func(parts ...[]byte) []byte { return desMAC(k[:16], padded(slices.Concat(parts...), 8)) }
	case 2:
		mac = aesMAC(k[:16])
	case 3:
		mac = aesMAC(k2[:24])
	case 4:
		mac = aesMAC(k2[:])
	}
	if e.SSC == nil {
		e.SSC = make([]byte, 16)
	}
	count := func(n byte) []byte { s := slices.Clone(e.SSC); s[len(s)-1] += n; return s }
	header, le := []byte{0x0C, 0xB0, 0x9E, 0x00}, tlv.Encode(0x97, []byte{0})
	cc := mac(count(1), padded(header, len(e.SSC)), le)
	data := slices.Concat(le, tlv.Encode(0x8E, cc))
	e.Command = slices.Concat(header, []byte{byte(len(data))}, data, []byte{0})
	answer := slices.Concat(tlv.Encode(0x87, []byte{1}, bytes.Repeat([]byte{0x5A}, 32)), []byte{0x99, 2, 0x90, 0})
	e.Response = slices.Concat(answer, tlv.Encode(0x8E, mac(count(2), answer)), []byte{0x90, 0})
	return e
}

func padded(b []byte, block int) []byte {
	return append(append(slices.Clone(b), 0x80), make([]byte, block-1-len(b)%block)...)
}

func aesMAC(key []byte) func(...[]byte) []byte {
	return func(parts ...[]byte) []byte {
		return must(cmac.Sum(padded(slices.Concat(parts...), 16), must(aes.NewCipher(key)), 16))[:8]
	}
}

func desMAC(key, message []byte) []byte {
	a, b := must(des.NewCipher(key[:8])), must(des.NewCipher(key[8:]))
	out := make([]byte, len(message))
	cipher.NewCBCEncrypter(a, make([]byte, 8)).CryptBlocks(out, message)
	last := out[len(out)-8:]
	b.Decrypt(last, last)
	a.Encrypt(last, last)
	return last
}

func (c *chip) authenticateActive(challenge [8]byte) *lds.ActiveAuthentication {
	e := &lds.ActiveAuthentication{Challenge: challenge}
	switch key := c.active.(type) {
	case *ecdsa.PrivateKey:
		digest := sha256.Sum256(challenge[:])
		r, s, err := ecdsa.Sign(rand.Reader, key, digest[:])
		must(0, err)
		e.Signature = append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
	case *rsa.PrivateKey:
		e.Signature = iso9796(key, crypto.SHA256, []byte{0x34, 0xCC}, challenge)
	}
	return e
}

// iso9796 signs by ISO/IEC 9796-2 scheme 1.
func iso9796(key *rsa.PrivateKey, hash crypto.Hash, trailer []byte, challenge [8]byte) []byte {
	m1 := make([]byte, key.Size()-1-hash.Size()-len(trailer))
	must(rand.Read(m1))
	f := slices.Concat([]byte{0x6A}, m1, hashOf(hash, m1, challenge[:]), trailer)
	return new(big.Int).Exp(new(big.Int).SetBytes(f), key.D, key.N).FillBytes(make([]byte, key.Size()))
}
