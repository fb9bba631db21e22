package icao

import (
	"bytes"
	"context"
	"crypto/sha1"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"

	"enrollkiosk/smartcard/apdu"
)

// bac runs Basic Access Control (ICAO 9303-11 4.3) in the selected eMRTD
// application: GET CHALLENGE, EXTERNAL AUTHENTICATE.
func (c *Chip) bac(ctx context.Context) (*session, error) {
	const a = tripleDES
	if c.password.kind != passwordMRZ {
		return nil, ErrNeedsMRZ
	}
	r, err := c.send(ctx, apdu.Command{INS: 0x84, Le: 8})
	if err != nil {
		return nil, fmt.Errorf("get challenge: %w", err)
	}
	if r.Status != apdu.OK {
		return nil, refused("get challenge", r.Status)
	}
	if len(r.Data) != 8 {
		return nil, malformed("get challenge", fmt.Errorf("%d bytes", len(r.Data)))
	}
	challenge := bytes.Clone(r.Data)

	seed := sha1.Sum(c.password.text.Reveal())
	encryption, integrity := a.derive(seed[:16], counterEncryption), a.derive(seed[:16], counterMAC)
	ours := make([]byte, 8+16) // RND.IFD, K.IFD
	defer func() { clear(seed[:]); clear(encryption); clear(integrity); clear(ours) }()
	if _, err := io.ReadFull(c.random, ours); err != nil {
		return nil, err
	}
	mine, key := ours[:8], ours[8:]
	zero := make([]byte, a.blockSize())
	e := a.encrypt(encryption, zero, bytes.Join([][]byte{mine, challenge, key}, nil))
	data := append(e, a.mac(integrity, pad(e, a.blockSize()))...)

	r, err = c.send(ctx, apdu.Command{INS: 0x82, Data: data, Le: 40})
	if err != nil {
		return nil, fmt.Errorf("external authenticate: %w", err)
	}
	_, counted := r.Status.TriesLeft()
	switch {
	case r.Status == apdu.OK:
	case r.Status == apdu.AuthenticationBlocked:
		return nil, fmt.Errorf("external authenticate: %w: %w", ErrBlocked, r.Status)
	// 6300 is the rule; the others are seen from cards that treat a wrong MAC
	// as an error of their own.
	case r.Status == 0x6300, counted, r.Status == apdu.SecurityNotSatisfied, r.Status == apdu.SMObjectsIncorrect:
		return nil, fmt.Errorf("external authenticate: %w: %w", ErrWrongPassword, r.Status)
	default:
		return nil, refused("external authenticate", r.Status)
	}
	// The card has accepted the password. An answer that does not verify now is
	// somebody's who does not know it.
	if len(r.Data) != 40 {
		return nil, malformed("external authenticate", fmt.Errorf("%d bytes", len(r.Data)))
	}
	if subtle.ConstantTimeCompare(a.mac(integrity, pad(r.Data[:32], a.blockSize())), r.Data[32:]) != 1 {
		return nil, fmt.Errorf("external authenticate: %w: wrong MAC", ErrSecureMessaging)
	}
	answer := a.decrypt(encryption, zero, r.Data[:32])
	defer clear(answer)
	if !bytes.Equal(answer[:8], challenge) || !bytes.Equal(answer[8:16], mine) {
		return nil, fmt.Errorf("external authenticate: %w: %w", ErrSecureMessaging, errors.New("another challenge"))
	}
	session := make([]byte, 16)
	defer clear(session)
	subtle.XORBytes(session, key, answer[16:])
	s := newSession(a, session)
	copy(s.ssc, challenge[4:])
	copy(s.ssc[4:], mine[4:])
	return s, nil
}
