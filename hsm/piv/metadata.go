package piv

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"fmt"
	"math/big"

	"enrollkiosk/hsm"
	"enrollkiosk/smartcard/apdu"
	"enrollkiosk/smartcard/tlv"
)

// Algorithm identifiers (SP 800-78-4 table 6-2; Ed25519 is Yubico's).
const (
	algorithm3DES    = 0x03
	algorithmRSA2048 = 0x07
	algorithmAES128  = 0x08
	algorithmAES192  = 0x0A
	algorithmAES256  = 0x0C
	algorithmP256    = 0x11
	algorithmP384    = 0x14
	algorithmEd25519 = 0xE0
)

var algorithms = map[hsm.Algorithm]byte{hsm.P256: algorithmP256, hsm.P384: algorithmP384, hsm.Ed25519: algorithmEd25519, hsm.RSA2048: algorithmRSA2048}

// Policies as Yubico numbers them; 0 is the slot's default.
const (
	pinNever    = 1
	touchNever  = 1
	touchAlways = 2
	touchCached = 3
)

var (
	pinPolicies   = map[hsm.PINPolicy]byte{hsm.PINOnce: 2, hsm.PINAlways: 3}
	touchPolicies = map[hsm.TouchPolicy]byte{hsm.TouchNever: touchNever, hsm.TouchAlways: touchAlways, hsm.TouchCached: touchCached}
)

// metadata is the answer to Yubico's GET METADATA, as far as it is understood.
// Some cards answer nothing, or other lengths: that counts as not said.
type metadata struct {
	status      apdu.Status
	algorithm   byte             // 01; 0 if not said
	pin, touch  byte             // 02; 0 if not said
	origin      string           // 03; "" if not said
	public      crypto.PublicKey // 04; nil if not said, or of a kind not used here
	factory     bool             // 05
	told        bool             // ... was there
	total, left int              // 06; total 0 if not said
}

// replaced says that the factory's value is gone, as far as the token says it.
func (m metadata) replaced() bool { return m.told && !m.factory }

func (c *card) metadata(ref byte) (metadata, error) {
	b, status, err := c.send(apdu.Command{INS: insMetadata, P2: ref, Le: apdu.MaxShortLe})
	if err != nil {
		return metadata{}, err
	}
	if status != apdu.OK {
		return metadata{status: status}, nil
	}
	return parseMetadata(b), nil
}

func parseMetadata(b []byte) metadata {
	m := metadata{status: apdu.OK}
	nodes, err := tlv.Parse(b)
	if err != nil {
		return m
	}
	value := func(tag tlv.Tag, length int) []byte {
		if n, ok := tlv.Find(nodes, tag); ok && (len(n.Value) == length || length < 0) {
			return n.Value
		}
		return nil
	}
	if v := value(0x01, 1); v != nil {
		m.algorithm = v[0]
	}
	if v := value(0x02, 2); v != nil {
		m.pin, m.touch = v[0], v[1]
	}
	if v := value(0x03, 1); v != nil {
		m.origin = originOf(v[0])
	}
	if v := value(0x04, -1); v != nil {
		m.public, _ = parsePublic(m.algorithm, v)
	}
	if v := value(0x05, 1); v != nil {
		m.told, m.factory = true, v[0] == 1
	}
	if v := value(0x06, 2); v != nil {
		m.total, m.left = int(v[0]), int(v[1])
	}
	return m
}

// originOf names an origin. Yubico numbers from 1; some cards from 0, which
// makes their 1 ambiguous: nothing rests on it, an attestation tells.
func originOf(b byte) string {
	switch b {
	case 1:
		return "generated"
	case 2:
		return "imported"
	}
	return fmt.Sprintf("unknown (%d)", b)
}

// parsePublic reads the content of 7F49 (SP 800-73-4 Part 2 table 11):
// *ecdsa.PublicKey, ed25519.PublicKey or *rsa.PublicKey.
func parsePublic(algorithm byte, content []byte) (crypto.PublicKey, error) {
	nodes, err := tlv.Parse(content)
	if err != nil {
		return nil, err
	}
	point, _ := tlv.Find(nodes, 0x86)
	switch algorithm {
	case algorithmP256:
		return publicOrNil(ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point.Value))
	case algorithmP384:
		return publicOrNil(ecdsa.ParseUncompressedPublicKey(elliptic.P384(), point.Value))
	case algorithmEd25519:
		if len(point.Value) == ed25519.PublicKeySize {
			return ed25519.PublicKey(append([]byte(nil), point.Value...)), nil
		}
	case algorithmRSA2048, 0x05, 0x16: // and 3072, 4096
		n, _ := tlv.Find(nodes, 0x81)
		e, _ := tlv.Find(nodes, 0x82)
		exponent := new(big.Int).SetBytes(e.Value)
		if len(n.Value) >= 256 && len(n.Value) <= 512 && exponent.IsInt64() && exponent.Int64() >= 3 && exponent.Int64() < 1<<31 {
			return &rsa.PublicKey{N: new(big.Int).SetBytes(n.Value), E: int(exponent.Int64())}, nil
		}
	}
	return nil, fmt.Errorf("public key of algorithm %02X: %w", algorithm, hsm.ErrUnsupported)
}

func publicOrNil(k *ecdsa.PublicKey, err error) (crypto.PublicKey, error) {
	if err != nil {
		return nil, err
	}
	return k, nil
}
