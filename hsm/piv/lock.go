package piv

import (
	"context"
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/des"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/subtle"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"net/url"
	"slices"
	"time"

	"github.com/go-piv/piv-go/v2/piv"

	"enrollkiosk/hsm"
	"enrollkiosk/kiosk/secret"
	"enrollkiosk/smartcard/apdu"
	"enrollkiosk/smartcard/tlv"
)

// Admin is what administers a token after it was locked.
type Admin struct {
	PUK           secret.Text // 6 to 8 characters
	ManagementKey secret.Text // 24 bytes; 16 or 32 on firmware from 5.4 on
}

// Lock ends the making of a citizen's token: certificates for other programs, a
// CHUID, then the PUK, and the management key last. pin is the citizen's; it is
// presented once, so that a token is never locked under a PIN nobody knows.
//
// The certificates say nothing of the citizen: subject empty, the token's new
// random UUID as alternative name, signed by a key that is thrown away, so that
// the citizen need not touch the token for them.
//
// Interrupted, Lock can be repeated on the token opened anew with the same
// admin: what is set already is proved to be admin's.
//
// Errors: hsm.ErrNotFactoryNew if PUK or management key are somebody else's or
// the PIN is still the factory's, ErrNoKey, and those of VerifyPIN.
func (t *Token) Lock(ctx context.Context, pin secret.Text, admin Admin) error {
	if err := t.lock(ctx, pin, admin); err != nil {
		return fmt.Errorf("lock token: %w", err)
	}
	return nil
}

func (t *Token) lock(ctx context.Context, pin secret.Text, admin Admin) error {
	if t.ended != nil {
		return t.ended
	}
	if err := t.fit(admin); err != nil {
		return err
	}
	if t.state.pinFactory {
		return fmt.Errorf("the PIN is the factory's: %w", hsm.ErrNotFactoryNew)
	}
	if err := t.verifyPIN(ctx, pin); err != nil {
		return err
	}
	if t.state.key.factory { // otherwise all of this was done before
		id := make([]byte, 16)
		rand.Read(id)
		id[6], id[8] = id[6]&0x0F|0x40, id[8]&0x3F|0x80 // RFC 9562 5.4, a random UUID
		for _, slot := range []Slot{Authentication, KeyManagement} {
			if err := t.writeCertificate(ctx, slot, id); err != nil {
				return fmt.Errorf("certificate in slot %v: %w", slot, err)
			}
		}
		if err := t.writeCHUID(ctx, id); err != nil {
			return fmt.Errorf("write chuid: %w", err)
		}
	}

	puk, before := string(admin.PUK.Reveal()), piv.DefaultPUK
	if !t.state.pukFactory {
		before = puk
	}
	if err := t.do(ctx, aboutPUK, func(y *piv.YubiKey) error { return y.SetPUK(before, puk) }); err != nil {
		return fmt.Errorf("set puk: %w", err)
	}
	t.state.pukFactory = false

	// Last: whoever finds another management key than the factory's knows that
	// the rest is done.
	key, old := slices.Clone(admin.ManagementKey.Reveal()), piv.DefaultManagementKey
	if !t.state.key.factory {
		old = key
	}
	if err := t.do(ctx, aboutAdmin, func(y *piv.YubiKey) error { return y.SetManagementKey(old, key) }); err != nil {
		return fmt.Errorf("set management key: %w", err)
	}
	t.state.key.factory = false
	return nil
}

// fit refuses what the token would not take, before anything is written.
func (t *Token) fit(admin Admin) error {
	n, old := admin.ManagementKey.Len(), [3]byte{5, 4, 0}
	modern := string(t.state.Firmware[:]) >= string(old[:])
	switch {
	case t.state.key.algorithm == 0:
		return hsm.ErrUnsupported
	case !goodPIN(admin.PUK) || string(admin.PUK.Reveal()) == piv.DefaultPUK:
		return fmt.Errorf("the PUK has 6 to 8 characters and is not the factory's: %w", hsm.ErrUnsupported)
	case n != 24 && !(modern && (n == 16 || n == 32)), subtle.ConstantTimeCompare(admin.ManagementKey.Reveal(), piv.DefaultManagementKey) == 1:
		return fmt.Errorf("management key of %d bytes, or the factory's: %w", n, hsm.ErrUnsupported)
	case !t.state.key.factory && keyLength(t.state.key.algorithm) != n:
		return hsm.ErrNotFactoryNew // somebody set another one
	}
	return nil
}

func (t *Token) writeCertificate(ctx context.Context, slot Slot, id []byte) error {
	info, err := t.slot(ctx, slot)
	if err != nil {
		return err
	}
	certificate, err := bareCertificate(info.PublicKey, slot, id, time.Now())
	if err != nil {
		return fmt.Errorf("make certificate: %w", err)
	}
	return t.do(ctx, aboutAdmin, func(y *piv.YubiKey) error {
		return y.SetCertificate(piv.DefaultManagementKey, slot.upstream(), certificate)
	})
}

// bareCertificate is a container for a public key. Its issuer signs once and is
// gone; nobody trusts it. Its date is no more exact than a day.
func bareCertificate(public crypto.PublicKey, slot Slot, id []byte, now time.Time) (*x509.Certificate, error) {
	issuer, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	usage := x509.KeyUsageDigitalSignature
	if slot == KeyManagement {
		usage = x509.KeyUsageKeyAgreement
	}
	template := &x509.Certificate{
		SerialNumber: serial.Add(serial, big.NewInt(1)),
		NotBefore:    now.UTC().Truncate(24 * time.Hour),
		NotAfter:     time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC), // none (RFC 5280 4.1.2.5)
		KeyUsage:     usage,
		// Critical, because the subject is empty (RFC 5280 4.2.1.6).
		URIs: []*url.URL{{Scheme: "urn", Opaque: fmt.Sprintf("uuid:%x-%x-%x-%x-%x", id[:4], id[4:6], id[6:8], id[8:10], id[10:])}},
	}
	parent := &x509.Certificate{Subject: pkix.Name{CommonName: "Key container"}}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, issuer)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

// fascN is the identifier of cards outside the US government: agency, system
// and credential all nines (SP 800-73-4 Part 1, 3.1.2; encoding of TIG SCEPACS).
var fascN = []byte{
	0xD4, 0xE7, 0x39, 0xDA, 0x73, 0x9C, 0xED, 0x39, 0xCE, 0x73, 0x9D, 0x83, 0x68,
	0x58, 0x21, 0x08, 0x42, 0x10, 0x84, 0x21, 0xC8, 0x42, 0x10, 0xC3, 0xEB,
}

// writeCHUID gives the token an identity for other programs' caches
// (SP 800-73-4 Part 1, 3.1.2), unsigned. piv-go writes no such object.
func (t *Token) writeCHUID(ctx context.Context, id []byte) error {
	object := tlv.Encode(0x53,
		tlv.Encode(0x30, fascN),
		tlv.Encode(0x34, id),
		tlv.Encode(0x35, []byte("20991231")),
		tlv.Encode(0x3E),
		tlv.Encode(0xFE))
	err := t.aside(ctx, func(c *card) error {
		m, err := c.metadata(refAdmin)
		if err != nil {
			return err
		}
		if err := c.authenticate(m.algorithm, piv.DefaultManagementKey); err != nil {
			return err
		}
		_, status, err := c.send(apdu.Command{INS: insPutData, P1: 0x3F, P2: 0xFF,
			Data: append(tlv.Encode(0x5C, objectID(objectCHUID)), object...)})
		if err == nil && status != apdu.OK {
			err = fmt.Errorf("%w: %w", hsm.ErrUnavailable, status)
		}
		return err
	})
	return err
}

// keyLength is the length of a management key (SP 800-78-4 table 6-2).
func keyLength(algorithm byte) int {
	switch algorithm {
	case 0x03, 0x0A: // 3DES, AES-192
		return 24
	case 0x08:
		return 16
	case 0x0C:
		return 32
	}
	return 0
}

// authenticate proves the management key to the token, which proves it too
// (SP 800-73-4 Part 2, A.1).
func (c *card) authenticate(algorithm byte, key []byte) error {
	if keyLength(algorithm) != len(key) {
		return hsm.ErrNotFactoryNew
	}
	var block cipher.Block
	var err error
	if algorithm == 0x03 {
		block, err = des.NewTripleDESCipher(key)
	} else {
		block, err = aes.NewCipher(key)
	}
	if err != nil {
		return err
	}
	n := block.BlockSize()
	ask := func(tag tlv.Tag, objects ...[]byte) ([]byte, error) {
		b, status, err := c.send(apdu.Command{INS: insAuthenticate, P1: algorithm, P2: refAdmin,
			Data: tlv.Encode(0x7C, objects...), Le: apdu.MaxShortLe})
		switch {
		case err != nil:
			return nil, err
		case status == apdu.SecurityNotSatisfied:
			return nil, hsm.ErrNotFactoryNew
		case status != apdu.OK:
			return nil, fmt.Errorf("%w: %w", hsm.ErrUnavailable, status)
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
		return hsm.ErrNotFactoryNew
	}
	return nil
}
