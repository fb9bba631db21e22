package idcard

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"time"
)

// Period is a time from one instant to another.
type Period struct{ From, To time.Time }

// certified is a private key with its certificate, and the parts of the
// certificate that others repeat, in DER.
type certified struct {
	key    privateKey
	scheme Scheme // by which the key signs
	raw    []byte

	issuer, subject []byte
	serial          *big.Int
	keyID           []byte // of the subject
}

// template is what a certificate says (RFC 5280 4.1), by the profiles of 9303-12 7.1.
type template struct {
	serial     *big.Int // nil: drawn
	subject    []byte
	valid      Period
	key        privateKey
	scheme     Scheme // of the key
	extensions [][]byte
}

// certify signs a certificate as issuer does, who is the zero value where the
// certificate signs itself. The edits alter it before and after.
func certify(t template, issuer certified, tbs, whole Edit) (certified, error) {
	if t.serial == nil {
		serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
		if err != nil {
			return certified{}, err
		}
		t.serial = serial.SetBit(serial, 119, 1)
	}
	c := certified{key: t.key, scheme: t.scheme, subject: t.subject, serial: t.serial}
	info, err := t.key.info(t.scheme.Parameters)
	if err != nil {
		return certified{}, err
	}
	if c.keyID, err = keyIdentifier(info); err != nil {
		return certified{}, err
	}
	if issuer.subject == nil {
		issuer = c
	}
	c.issuer = issuer.subject
	algorithm, err := issuer.scheme.identifier()
	if err != nil {
		return certified{}, err
	}
	extensions := append([][]byte{
		extension(false, oid(2, 5, 29, 14), tlv(0x04, c.keyID)),
		extension(false, oid(2, 5, 29, 35), tlv(0x30, tlv(0x80, issuer.keyID))),
	}, t.extensions...)
	body, err := edited(tlv(0x30, tlv(0xA0, small(2)), integer(t.serial), algorithm, c.issuer,
		tlv(0x30, moment(t.valid.From), moment(t.valid.To)), t.subject, info,
		tlv(0xA3, tlv(0x30, extensions...))), tbs)
	if err != nil {
		return certified{}, fmt.Errorf("edit certificate: %w", err)
	}
	_, signature, err := issuer.key.sign(issuer.scheme, body)
	if err != nil {
		return certified{}, err
	}
	c.raw, err = edited(tlv(0x30, body, algorithm, tlv(0x03, []byte{0}, signature)), whole)
	if err != nil {
		return certified{}, fmt.Errorf("edit certificate: %w", err)
	}
	c.adopt()
	return c, nil
}

// adopt takes names and serial number as the certificate has them after edits, so
// that whoever refers to it agrees with it; of one that is broken they stay as they were.
func (c *certified) adopt() {
	fields, err := certificateFields(c.raw)
	if err == nil {
		c.issuer, c.subject, c.serial = fields.issuer, fields.subject, fields.serial
	}
}

// fields of a well-formed certificate.
type fields struct {
	tbs, algorithm, signature []byte
	issuer, subject, key      []byte
	serial                    *big.Int
	keyID                     []byte
}

var errCertificate = errors.New("not a certificate of version 3")

func certificateFields(raw []byte) (fields, error) {
	n, err := ParseNode(raw)
	if err != nil {
		return fields{}, err
	}
	var tags []int
	if len(n.Children) == 3 && n.Children[2].Tag == 0x03 && len(n.Children[2].Value) > 0 {
		for _, c := range n.Children[0].Children {
			tags = append(tags, c.Tag)
		}
	}
	if !slices.Equal(tags, []int{0xA0, 0x02, 0x30, 0x30, 0x30, 0x30, 0x30, 0xA3}) {
		return fields{}, errCertificate
	}
	tbs := n.Children[0]
	f := fields{
		tbs: tbs.Encode(), algorithm: n.Children[1].Encode(), signature: n.Children[2].Value[1:],
		serial: new(big.Int).SetBytes(tbs.Children[1].Value),
		issuer: tbs.Children[3].Encode(), subject: tbs.Children[5].Encode(), key: tbs.Children[6].Encode(),
	}
	f.keyID, err = keyIdentifier(f.key)
	return f, err
}

// keyIdentifier is the SHA-1 of the key's bits (RFC 5280 4.2.1.2 (1)).
func keyIdentifier(info []byte) ([]byte, error) {
	n, err := ParseNode(info)
	if err != nil || len(n.Children) != 2 || len(n.Children[1].Value) < 2 {
		return nil, errCertificate
	}
	return sum(crypto.SHA1, n.Children[1].Value[1:]), nil
}

// name is a distinguished name; 9303-12 7.1.1.1 wants the country in capitals and printable.
func name(country, common string) []byte {
	part := func(kind int, tag int, value string) []byte {
		return tlv(0x31, tlv(0x30, oid(2, 5, 4, kind), tlv(tag, []byte(value))))
	}
	return tlv(0x30, part(6, 0x13, country), part(10, 0x13, "Specimen Authority"), part(3, 0x13, common))
}

// moment is UTCTime until 2049, GeneralizedTime from then on (RFC 5280 4.1.2.5).
func moment(t time.Time) []byte {
	if t = t.UTC(); t.Year() < 2050 {
		return tlv(0x17, []byte(t.Format("060102150405Z")))
	}
	return tlv(0x18, []byte(t.Format("20060102150405Z")))
}

func extension(critical bool, id []byte, value []byte) []byte {
	if critical {
		return tlv(0x30, id, tlv(0x01, []byte{0xFF}), tlv(0x04, value))
	}
	return tlv(0x30, id, tlv(0x04, value))
}

// keyUsage has its bits in the first byte of the BIT STRING, unused ones counted.
func keyUsage(bits byte) []byte {
	unused := byte(0)
	for ; bits>>unused&1 == 0; unused++ {
	}
	return extension(true, oid(2, 5, 29, 15), tlv(0x03, []byte{unused, bits}))
}

const (
	digitalSignature = 0x80
	keyCertSign      = 0x04
	crlSign          = 0x02
)

// common are the extensions of every certificate of the state: its three letters
// as a locality (9303-12 7.1.1.2), when the key signs (RFC 3280 4.2.1.4), where the CRL is.
func common(state string, usage Period) [][]byte {
	const form = "20060102150405Z"
	locality := tlv(0x30, tlv(0x31, tlv(0x30, oid(2, 5, 4, 7), tlv(0x13, []byte(state)))))
	names := tlv(0x30, tlv(0xA4, locality))
	place := tlv(0x86, []byte("http://specimen.invalid/csca.crl"))
	return [][]byte{
		extension(false, oid(2, 5, 29, 17), names),
		extension(false, oid(2, 5, 29, 18), names),
		extension(false, oid(2, 5, 29, 16), tlv(0x30,
			tlv(0x80, []byte(usage.From.UTC().Format(form))), tlv(0x81, []byte(usage.To.UTC().Format(form))))),
		extension(false, oid(2, 5, 29, 31), tlv(0x30, tlv(0x30, tlv(0xA0, tlv(0xA0, place))))),
	}
}

// cscaExtensions are those of a root or link certificate (9303-12 table 5).
func cscaExtensions(state string, usage Period, nameChange bool) [][]byte {
	list := append([][]byte{
		keyUsage(keyCertSign | crlSign),
		extension(true, oid(2, 5, 29, 19), tlv(0x30, tlv(0x01, []byte{0xFF}), small(0))),
	}, common(state, usage)...)
	if nameChange {
		list = append(list, extension(false, oid(2, 23, 136, 1, 1, 6, 1), tlv(0x05)))
	}
	return list
}

// signerExtensions are those of a document signer; it signs identity cards and passports.
func signerExtensions(state string, usage Period) [][]byte {
	kinds := tlv(0x30, small(0), tlv(0x31, tlv(0x13, []byte("I")), tlv(0x13, []byte("P"))))
	return append(append([][]byte{keyUsage(digitalSignature)}, common(state, usage)...),
		extension(false, oid(2, 23, 136, 1, 1, 6, 2), kinds))
}

// stateOf reads from a CSCA's certificate what name and common have written.
func stateOf(raw []byte) (country, state, called string, err error) {
	n, err := ParseNode(raw)
	if err != nil || len(n.Children) == 0 || len(n.Children[0].Children) < 6 {
		return "", "", "", errCertificate
	}
	text := func(n *Node, id string) string {
		if n = n.Holding(id); n == nil || len(n.Children) < 2 {
			return ""
		}
		return string(n.Children[len(n.Children)-1].Value)
	}
	subject := n.Children[0].Children[5]
	country, called = text(subject, "2.5.4.6"), text(subject, "2.5.4.3")
	if names, err := ParseNode([]byte(text(n, "2.5.29.18"))); err == nil {
		state = text(names, "2.5.4.7")
	}
	return country, state, called, nil
}

// schemeOf finds the scheme of a signature's AlgorithmIdentifier.
func schemeOf(algorithm []byte) (Scheme, bool) {
	for h := range hashes {
		for _, a := range []Algorithm{ECDSA, PlainECDSA, RSA, PSS} {
			s := Scheme{Algorithm: a, Hash: h}
			if id, err := s.identifier(); err == nil && bytes.Equal(id, algorithm) {
				return s, true
			}
		}
	}
	return Scheme{}, false
}
