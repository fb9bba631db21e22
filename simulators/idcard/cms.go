package idcard

import (
	"crypto"
	"fmt"
	"time"
)

// SignedObject chooses how a CMS object is written (RFC 5652 5, 9303-10 4.6.2).
// The zero value is DER with one signer, named by issuer and serial number, its
// certificate and the signing time inside.
type SignedObject struct {
	Algorithm Algorithm   // RSA or PSS, ECDSA or PlainECDSA, as the signer's key can; "": the signer's
	Hash      crypto.Hash // of content and signed attributes; 0: the signer's

	ByKeyID       bool     // the signer is named by its subject key identifier
	RSAEncryption bool     // the signature algorithm is rsaEncryption, which leaves the hash to the digest algorithm
	NoSigningTime bool     // no such attribute
	NoCertificate bool     // the signer's certificate is not inside
	Certificates  [][]byte // further certificates
	ContentType   string   // with dots, as "1.2.840.113549.1.7.1"; "": the standard's
	Indefinite    bool     // BER: indefinite lengths, the content in pieces

	EditContent    Edit // the content, before it is hashed and signed
	EditAttributes Edit // the signed attributes, a SET, before they are signed
	Edit           Edit // the whole ContentInfo, after
}

// signedData is a ContentInfo with SignedData.
func signedData(signer certified, contentType, content []byte, o SignedObject) ([]byte, error) {
	scheme := signer.scheme
	if o.Algorithm != "" {
		scheme.Algorithm = o.Algorithm
	}
	if o.Hash != 0 {
		scheme.Hash = o.Hash
	}
	if o.ContentType != "" {
		contentType = dotted(o.ContentType)
	}
	content, err := edited(content, o.EditContent)
	if err != nil {
		return nil, fmt.Errorf("edit content: %w", err)
	}
	attribute := func(arc int, value []byte) []byte {
		return tlv(0x30, oid(1, 2, 840, 113549, 1, 9, arc), tlv(0x31, value))
	}
	attributes := [][]byte{attribute(3, contentType), attribute(4, tlv(0x04, sum(scheme.Hash, content)))}
	if !o.NoSigningTime {
		attributes = append(attributes, attribute(5, moment(time.Now())))
	}
	signed, err := edited(set(attributes...), o.EditAttributes)
	if err != nil {
		return nil, fmt.Errorf("edit attributes: %w", err)
	}
	algorithm, signature, err := signer.key.sign(scheme, signed)
	if err != nil {
		return nil, err
	}
	if o.RSAEncryption {
		algorithm = rsaEncryption
	}
	signed[0] = 0xA0 // signed as a SET, written as [0] IMPLICIT (RFC 5652 5.4)

	// Versions by RFC 5652 5.1 and 5.3.
	version, infoVersion, who := 3, 1, tlv(0x30, signer.issuer, integer(signer.serial))
	if o.ByKeyID {
		infoVersion, who = 3, tlv(0x80, signer.keyID)
	} else if o.ContentType == idData {
		version = 1
	}
	info := tlv(0x30, small(infoVersion), who, digestAlgorithm(scheme.Hash), signed, algorithm, tlv(0x04, signature))

	certificates := o.Certificates
	if !o.NoCertificate {
		certificates = append([][]byte{signer.raw}, certificates...)
	}
	var inside []byte
	if len(certificates) > 0 {
		inside = set(certificates...)
		inside[0] = 0xA0
	}
	whole, err := edited(tlv(0x30, oid(1, 2, 840, 113549, 1, 7, 2), tlv(0xA0, tlv(0x30, small(version),
		tlv(0x31, digestAlgorithm(scheme.Hash)),
		tlv(0x30, contentType, tlv(0xA0, tlv(0x04, content))),
		inside, tlv(0x31, info)))), o.Edit)
	if err != nil {
		return nil, fmt.Errorf("edit signed data: %w", err)
	}
	if o.Indefinite {
		return edited(whole, indefinite)
	}
	return whole, nil
}

// idData is the content type of arbitrary octets.
const idData = "1.2.840.113549.1.7.1"

// piece is how many bytes of content an indefinite object writes at once.
const piece = 100

// indefinite writes a ContentInfo as a streaming encoder does: nothing from the
// outside down to the content, the certificates and the signer knows its length.
func indefinite(n *Node) {
	open := func(n *Node) {
		if n != nil {
			n.Indefinite = true
		}
	}
	explicit := n.Find(0xA0)
	data := explicit.Find(0x30)
	content := data.Find(0x30, 0xA0)
	for _, x := range []*Node{n, explicit, data, data.Find(0x30), content, data.Find(0xA0)} {
		open(x)
	}
	if content == nil || content.Find(0x04) == nil {
		return
	}
	octets := content.Find(0x04)
	rest := octets.Value
	octets.Tag, octets.Value, octets.Indefinite = 0x24, nil, true
	for len(rest) > 0 {
		k := min(piece, len(rest))
		octets.Children = append(octets.Children, &Node{Tag: 0x04, Value: rest[:k]})
		rest = rest[k:]
	}
}

// SignedDataIn is the SignedData of a ContentInfo: version, digest algorithms,
// content, perhaps certificates under A0, signers.
func SignedDataIn(contentInfo *Node) *Node { return contentInfo.Find(0xA0, 0x30) }

// SignerInfoIn is the one signer of a ContentInfo: version, name, digest
// algorithm, signed attributes under A0, signature algorithm, signature.
func SignerInfoIn(contentInfo *Node) *Node {
	signers := SignedDataIn(contentInfo).Children
	return signers[len(signers)-1].Children[0]
}
