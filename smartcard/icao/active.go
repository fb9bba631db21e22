package icao

import (
	"context"
	"crypto/ecdsa"
	"crypto/rsa"
	"fmt"

	"enrollkiosk/smartcard/apdu"
	"enrollkiosk/smartcard/lds"
)

// AuthenticateActive runs Active Authentication (ICAO 9303-11 6.1) over the
// caller's challenge. It reads DG15 if that has not been read, to know how long
// the signature is. It verifies nothing: the signature is evidence in the
// Document.
func (c *Chip) AuthenticateActive(ctx context.Context, challenge [8]byte) (lds.ActiveAuthentication, error) {
	ctx, cancel := c.bound(ctx)
	defer cancel()
	signature, err := c.internalAuthenticate(ctx, challenge)
	if err != nil {
		return lds.ActiveAuthentication{}, fmt.Errorf("active authentication: %w", err)
	}
	result := lds.ActiveAuthentication{Challenge: challenge, Signature: signature}
	c.doc.Active = &result
	return result, nil
}

func (c *Chip) internalAuthenticate(ctx context.Context, challenge [8]byte) ([]byte, error) {
	file, err := c.read(ctx, lds.DG15, nil)
	if err != nil {
		return nil, err
	}
	public, err := lds.ParseDG15(file)
	if err != nil {
		return nil, malformed("parse DG15", err)
	}
	var least, most int // bytes of a signature
	switch k := public.(type) {
	case *rsa.PublicKey:
		least, most = k.Size(), k.Size()
	case *ecdsa.PublicKey: // plain, or DER with its frame
		n := (k.Curve.Params().N.BitLen() + 7) / 8
		least, most = 8, 2*n+9
	default:
		return nil, ErrUnsupported
	}
	if err := c.enter(ctx, lds.DG15); err != nil {
		return nil, err
	}
	// Asked for 65536 some cards answer nothing, asked for the exact length others
	// give a part: the best answer counts. Without extended length the card may
	// still chain (61xx).
	type length struct {
		le       int
		extended bool
	}
	lengths := []length{{apdu.MaxShortLe, false}}
	if most > c.short() && c.reading.max > apdu.MaxShortLe {
		lengths = []length{{most, true}, {apdu.MaxExtendedLe, true}, {apdu.MaxShortLe, false}}
	}
	var r apdu.Response
	for _, l := range lengths {
		again, err := c.send(ctx, apdu.Command{INS: 0x88, Data: challenge[:], Le: l.le, Extended: l.extended})
		if err != nil {
			return nil, err
		}
		if len(again.Data) >= len(r.Data) {
			r = again
		}
		if r.Status == apdu.OK && len(r.Data) >= least || r.Status != apdu.OK && r.Status != apdu.WrongLength {
			break
		}
	}
	switch {
	case r.Status == apdu.SecurityNotSatisfied:
		return nil, fmt.Errorf("%w: %w", ErrAccessDenied, r.Status)
	case r.Status != apdu.OK:
		return nil, refused("internal authenticate", r.Status)
	case len(r.Data) < least || len(r.Data) > most:
		return nil, malformed("internal authenticate", fmt.Errorf("%d bytes of signature for a key of %d", len(r.Data), most))
	}
	return r.Data, nil
}
