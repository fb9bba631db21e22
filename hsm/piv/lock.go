package piv

import (
	"context"
	"crypto"
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
	"enrollkiosk/smartcard/tlv"
)

// Lock ends the making of a citizen's token: certificates for other programs, a
// CHUID, then the PUK, and the management key last. pin is the citizen's; it is
// presented once, so that a token is never locked under a PIN nobody knows.
// Whoever calls it has sealed admin to those who shall keep it.
//
// The certificates say nothing of the citizen: subject empty, the token's new
// random UUID as alternative name, signed by a key that is thrown away, so that
// the citizen need not touch the token for them.
//
// Interrupted, Lock can be repeated on the token opened anew with the same
// admin: what is set already is proved to be admin's. That it worked, the token
// itself says when it is opened anew: see Ready.
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
	switch {
	case t.state.pin.factory:
		return fmt.Errorf("the PIN is the factory's: %w", hsm.ErrNotFactoryNew)
	case !goodPIN(pin):
		return ErrPINForm
	}
	var writes []func(*card) error // what comes before the PUK
	if t.state.admin.factory {     // otherwise it was done before
		var err error
		if writes, err = t.container(); err != nil {
			return err
		}
	}
	if err := t.mayTry(); err != nil {
		return err
	}
	// Copies: a call that is left behind may outlive the caller's.
	presented, key := string(pin.Reveal()), slices.Clone(admin.ManagementKey.Reveal())
	puk, before := string(admin.PUK.Reveal()), piv.DefaultPUK
	if !t.state.puk.factory {
		before = puk
	}
	now, algorithm := t.state, t.state.admin.algorithm // read only when aside has ended well
	err := t.aside(ctx, func(c *card) error {
		if err := c.verify(presented); err != nil {
			return err
		}
		if !now.admin.factory {
			if err := c.authenticate(now.admin.algorithm, key); err != nil {
				return fmt.Errorf("management key: %w", err)
			}
		} else if err := c.asFactory(now); err != nil {
			return fmt.Errorf("management key: %w", err)
		}
		for _, write := range writes {
			if err := write(c); err != nil {
				return err
			}
		}
		if err := c.changePUK(before, puk); err != nil {
			return fmt.Errorf("set puk: %w", err)
		}
		if !now.admin.factory {
			return nil
		}
		// Last: whoever finds another management key than the factory's knows that
		// the rest is done.
		var err error
		if algorithm, err = c.setManagementKey(key); err != nil {
			return fmt.Errorf("set management key: %w", err)
		}
		return nil
	})
	t.tried(err)
	if err == nil {
		t.state.puk.factory, t.state.admin = false, metadata{algorithm: algorithm}
	}
	return err
}

// fit refuses what the token would not take, before anything is written.
func (t *Token) fit(admin Admin) error {
	if t.state.admin.algorithm == 0 {
		return fmt.Errorf("it does not say what its management key is: %w", hsm.ErrUnsupported)
	}
	if !t.state.admin.factory && keyLength(t.state.admin.algorithm) != admin.ManagementKey.Len() {
		return ErrOtherAdmin
	}
	return takes(admin)
}

// takes refuses what no token would take.
func takes(admin Admin) error {
	n := admin.ManagementKey.Len()
	switch {
	case !goodPIN(admin.PUK) || string(admin.PUK.Reveal()) == piv.DefaultPUK:
		return fmt.Errorf("the PUK has 6 to 8 characters and is not the factory's: %w", hsm.ErrUnsupported)
	case n != 16 && n != 24 && n != 32, subtle.ConstantTimeCompare(admin.ManagementKey.Reveal(), piv.DefaultManagementKey) == 1:
		return fmt.Errorf("management key of %d bytes, or the factory's: %w", n, hsm.ErrUnsupported)
	}
	return nil
}

// container is what other programs expect on a token: certificates that name
// its keys, and a CHUID under the same UUID.
func (t *Token) container() ([]func(*card) error, error) {
	id := make([]byte, 16)
	rand.Read(id)
	id[6], id[8] = id[6]&0x0F|0x40, id[8]&0x3F|0x80 // RFC 9562 5.4, a random UUID
	var writes []func(*card) error
	for _, slot := range []Slot{Authentication, KeyManagement} {
		public := t.state.slots[slot].public
		if public == nil {
			return nil, fmt.Errorf("slot %v: %w", slot, ErrNoKey)
		}
		der, err := bareCertificate(public, slot, id, time.Now())
		if err != nil {
			return nil, fmt.Errorf("make certificate for slot %v: %w", slot, err)
		}
		writes = append(writes, func(c *card) error {
			// 71 00: not compressed; FE: no check sum (SP 800-73-4 Part 1 table 10).
			if err := c.put(slot.object(), tlv.Encode(0x70, der), tlv.Encode(0x71, []byte{0}), tlv.Encode(0xFE)); err != nil {
				return fmt.Errorf("write certificate of slot %v: %w", slot, err)
			}
			return nil
		})
	}
	return append(writes, func(c *card) error {
		// An identity for other programs' caches (SP 800-73-4 Part 1, 3.1.2), unsigned.
		if err := c.put(objectCHUID, tlv.Encode(0x30, fascN), tlv.Encode(0x34, id), tlv.Encode(0x35, []byte("20991231")),
			tlv.Encode(0x3E), tlv.Encode(0xFE)); err != nil {
			return fmt.Errorf("write chuid: %w", err)
		}
		return nil
	}), nil
}

// bareCertificate is a container for a public key, DER. Its issuer signs once and is
// gone; nobody trusts it. Its date is no more exact than a day.
func bareCertificate(public crypto.PublicKey, slot Slot, id []byte, now time.Time) ([]byte, error) {
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
	return x509.CreateCertificate(rand.Reader, template, parent, public, issuer)
}

// fascN is the identifier of cards outside the US government: agency, system
// and credential all nines (SP 800-73-4 Part 1, 3.1.2; encoding of TIG SCEPACS).
var fascN = []byte{
	0xD4, 0xE7, 0x39, 0xDA, 0x73, 0x9C, 0xED, 0x39, 0xCE, 0x73, 0x9D, 0x83, 0x68,
	0x58, 0x21, 0x08, 0x42, 0x10, 0x84, 0x21, 0xC8, 0x42, 0x10, 0xC3, 0xEB,
}
