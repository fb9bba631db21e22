package piv

import (
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/des"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"

	"github.com/go-piv/piv-go/v2/piv"

	"enrollkiosk/hsm"
	"enrollkiosk/smartcard/apdu"
	"enrollkiosk/smartcard/tlv"
)

// The commands of one administrator's session. piv-go authenticates anew for
// each key and each object, and panics on a token that says nothing of its
// management key; here it is done once.

// do sends a command that must succeed.
func (c *card) do(about subject, command apdu.Command) ([]byte, error) {
	b, status, err := c.send(command)
	if err == nil && status != apdu.OK {
		err = fmt.Errorf("%w: %w", classOf(status, about), status)
	}
	return b, err
}

// keyLength is the length of a management key (SP 800-78-4 table 6-2).
func keyLength(algorithm byte) int {
	switch algorithm {
	case algorithm3DES, algorithmAES192:
		return 24
	case algorithmAES128:
		return 16
	case algorithmAES256:
		return 32
	}
	return 0
}

// authenticate proves the management key to the token, which proves it too
// (SP 800-73-4 Part 2, A.1). A wrong key costs nothing: no tries are counted.
func (c *card) authenticate(algorithm byte, key []byte) error {
	if keyLength(algorithm) != len(key) {
		return ErrOtherAdmin
	}
	var block cipher.Block
	var err error
	if algorithm == algorithm3DES {
		block, err = des.NewTripleDESCipher(key)
	} else {
		block, err = aes.NewCipher(key)
	}
	if err != nil {
		return err
	}
	n := block.BlockSize()
	ask := func(tag tlv.Tag, objects ...[]byte) ([]byte, error) {
		b, err := c.do(aboutAdmin, apdu.Command{INS: insAuthenticate, P1: algorithm, P2: refAdmin,
			Data: tlv.Encode(0x7C, objects...), Le: apdu.MaxShortLe})
		if err != nil {
			return nil, err
		}
		outer, err := tlv.ParseOne(b, 0x7C)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", hsm.ErrUnavailable, err)
		}
		inner, err := tlv.ParseOne(outer.Value, tag)
		if err != nil || len(inner.Value) != n {
			return nil, fmt.Errorf("%w: malformed answer", hsm.ErrUnavailable)
		}
		return inner.Value, nil
	}
	witness, err := ask(0x80, tlv.Encode(0x80))
	if err != nil {
		return err
	}
	plain, challenge, want := make([]byte, n), make([]byte, n), make([]byte, n)
	block.Decrypt(plain, witness)
	rand.Read(challenge)
	block.Encrypt(want, challenge)
	got, err := ask(0x82, tlv.Encode(0x80, plain), tlv.Encode(0x81, challenge))
	if err != nil {
		return err
	}
	if subtle.ConstantTimeCompare(got, want) != 1 {
		return ErrOtherAdmin
	}
	return nil
}

// generate is GENERATE ASYMMETRIC KEY PAIR (SP 800-73-4 Part 2, 3.3.2) with
// Yubico's policies.
func (c *card) generate(slot Slot, algorithm, pin, touch byte) (crypto.PublicKey, error) {
	b, err := c.do(aboutKind, apdu.Command{INS: insGenerate, P2: byte(slot), Le: apdu.MaxShortLe,
		Data: tlv.Encode(0xAC, tlv.Encode(0x80, []byte{algorithm}), tlv.Encode(0xAA, []byte{pin}), tlv.Encode(0xAB, []byte{touch}))})
	if err != nil {
		return nil, err
	}
	template, err := tlv.ParseOne(b, 0x7F49)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", hsm.ErrUnavailable, err)
	}
	public, err := parsePublic(algorithm, template.Value)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", hsm.ErrUnavailable, err)
	}
	return public, nil
}

// attest is Yubico's attestation of the key in a slot: a certificate, DER.
func (c *card) attest(slot Slot) ([]byte, error) {
	b, err := c.do(aboutContent, apdu.Command{INS: insAttest, P1: byte(slot), Le: apdu.MaxShortLe})
	if err != nil {
		return nil, err
	}
	if n, err := tlv.ParseOne(b, 0x70); err == nil { // firmware 4 wraps it
		return n.Value, nil
	}
	return b, nil
}

// certificate is the certificate in an object (SP 800-73-4 Part 1 table 10),
// DER, uncompressed.
func (c *card) certificate(object uint32) ([]byte, error) {
	b, status, err := c.object(object)
	switch {
	case err != nil:
		return nil, err
	case status != apdu.OK:
		return nil, fmt.Errorf("%w: %w", ErrNoCertificate, status)
	}
	return certificateOf(b)
}

// errCompressed means a certificate that was packed with gzip (SP 800-73-4 Part 1
// appendix A): piv-go reads none, and nothing of ours writes one.
var errCompressed = errors.New("it is compressed")

// certificateOf unpacks a certificate object.
func certificateOf(object []byte) ([]byte, error) {
	outer, err := tlv.ParseOne(object, 0x53)
	if err != nil {
		return nil, err
	}
	nodes, err := tlv.Parse(outer.Value)
	if err != nil {
		return nil, err
	}
	if info, ok := tlv.Find(nodes, 0x71); ok && len(info.Value) == 1 && info.Value[0] != 0 {
		return nil, errCompressed
	}
	n, ok := tlv.Find(nodes, 0x70)
	if !ok || len(n.Value) == 0 {
		return nil, ErrNoCertificate
	}
	return n.Value, nil
}

// put is PUT DATA (SP 800-73-4 Part 2, 3.3.1).
func (c *card) put(object uint32, content ...[]byte) error {
	return c.inChain(aboutAdmin, apdu.Command{INS: insPutData, P1: 0x3F, P2: 0xFF,
		Data: append(tlv.Encode(0x5C, objectID(object)), tlv.Encode(0x53, content...)...)})
}

// inChain sends a command of any length (ISO/IEC 7816-4 5.3.3).
func (c *card) inChain(about subject, command apdu.Command) error {
	for len(command.Data) > maxData {
		part := command
		part.CLA |= 0x10
		part.Data, command.Data = command.Data[:maxData], command.Data[maxData:]
		if _, err := c.do(about, part); err != nil {
			return err
		}
	}
	_, err := c.do(about, command)
	return err
}

// maxData is what a command of short length carries.
const maxData = 255

// verify is VERIFY (SP 800-73-4 Part 2, 3.2.1).
func (c *card) verify(pin string) error {
	_, err := c.do(aboutPIN, apdu.Command{INS: insVerify, P2: refPIN, Data: padded(pin)})
	return err
}

// changePUK is CHANGE REFERENCE DATA (SP 800-73-4 Part 2, 3.2.2).
func (c *card) changePUK(old, puk string) error {
	_, err := c.do(aboutPUK, apdu.Command{INS: insChangeReference, P2: refPUK, Data: padded(old, puk)})
	return err
}

// padded fills PINs up with FF (SP 800-73-4 Part 2, 2.4.3).
func padded(pins ...string) []byte {
	var b []byte
	for _, pin := range pins {
		b = append(b, pin...)
		for range 8 - len(pin) {
			b = append(b, 0xFF)
		}
	}
	return b
}

// setManagementKey is Yubico's SET MANAGEMENT KEY. A key of 24 bytes is one for
// AES-192, or for 3DES where the token knows no AES: what it takes tells, not
// its version. It returns what the key is now.
func (c *card) setManagementKey(key []byte) (algorithm byte, err error) {
	err = hsm.ErrUnsupported
	for _, algorithm = range []byte{algorithmAES128, algorithmAES192, algorithmAES256, algorithm3DES} {
		if keyLength(algorithm) != len(key) {
			continue
		}
		if _, err = c.do(aboutKind, apdu.Command{INS: insSetManagementKey, P1: 0xFF, P2: 0xFF,
			Data: append([]byte{algorithm, refAdmin, byte(len(key))}, key...)}); !errors.Is(err, hsm.ErrUnsupported) {
			return algorithm, err
		}
	}
	return 0, err
}

// asFactory authenticates with the factory's management key.
func (c *card) asFactory(s state) error {
	return c.authenticate(s.admin.algorithm, piv.DefaultManagementKey)
}
