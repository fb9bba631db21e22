package icao

import (
	"context"
	"crypto/ecdsa"
	"crypto/rsa"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"

	"enrollkiosk/kiosk/secret"
	"enrollkiosk/smartcard/apdu"
	"enrollkiosk/smartcard/lds"
	"enrollkiosk/smartcard/tlv"
)

// chipKey is a run of Chip Authentication that card and package can do.
type chipKey struct {
	protocol  asn1.ObjectIdentifier
	algorithm algorithm
	id        *big.Int
	public    *ecdsa.PublicKey
}

// chooseChipKey pairs a key of DG14 with a protocol, AES before 3DES. A key
// without a protocol means 3DES (ICAO 9303-11 9.2.5).
func chooseChipKey(infos lds.SecurityInfos) (chipKey, bool) {
	protocols := infos.ChipAuthentication
	if len(protocols) == 0 {
		protocols = []lds.ChipAuthenticationInfo{{
			Protocol: append(lds.OIDCAECDH[:len(lds.OIDCAECDH):len(lds.OIDCAECDH)], int(tripleDES)), Version: 1,
		}}
	}
	var best chipKey
	for _, info := range protocols {
		a, ok := suffix(info.Protocol, lds.OIDCAECDH)
		if !ok || info.Version != 1 || best.public != nil && (best.algorithm != tripleDES || a == tripleDES) {
			continue
		}
		for _, key := range infos.ChipAuthenticationKeys {
			public, ok := key.Key.(*ecdsa.PublicKey)
			if !ok || !key.Protocol.Equal(lds.OIDPKECDH) {
				continue
			}
			if info.KeyID != nil && (key.KeyID == nil || key.KeyID.Cmp(info.KeyID) != 0) {
				continue
			}
			best = chipKey{info.Protocol, a, key.KeyID, public}
			break
		}
	}
	return best, best.public != nil
}

// AuthenticateChip runs Chip Authentication version 1 (ICAO 9303-11 6.2) with
// the key of DG14 and moves secure messaging to the agreed keys. The evidence,
// the first exchange under them, becomes part of the Document, also when that
// exchange shows that the chip does not hold its key: then the error is
// ErrChipNotGenuine and the channel is dead. ErrUnsupported means that DG14 has
// no key this package can use; nothing was sent.
func (c *Chip) AuthenticateChip(ctx context.Context, infos lds.SecurityInfos) error {
	ctx, cancel := c.bound(ctx)
	defer cancel()
	if c.broken != nil {
		return fmt.Errorf("authenticate chip: %w", c.broken)
	}
	key, ok := chooseChipKey(infos)
	if !ok {
		return fmt.Errorf("authenticate chip: %w", ErrUnsupported)
	}
	g := group{curve: key.public.Curve}
	encoded, err := key.public.Bytes()
	if err != nil {
		return malformed("authenticate chip", err)
	}
	theirs, err := g.parse(encoded)
	if err != nil {
		return malformed("authenticate chip", err)
	}
	private, err := g.scalar(c.random)
	if err != nil {
		return fmt.Errorf("authenticate chip: %w", err)
	}
	if err := c.sendEphemeral(ctx, key, g.encode(g.public(private))); err != nil {
		return fmt.Errorf("authenticate chip: %w", err)
	}
	shared, err := g.agree(theirs, private)
	if err != nil {
		return malformed("authenticate chip", err)
	}
	defer clear(shared)

	c.channel.wipe()
	c.channel = newSession(key.algorithm, shared)
	evidence := lds.ChipAuthentication{
		Protocol:    key.protocol,
		KeyID:       key.id,
		TerminalKey: secret.New(private),
		SSC:         append([]byte(nil), c.channel.ssc...),
	}
	// Any protected answer proves the key. DG14 is there, or we were not here.
	first := apdu.Command{INS: 0xB0, P1: 0x80 | lds.DG14.SFI(), Le: 8}
	if c.reading.bySelect {
		first = selectFile(lds.DG14)
	}
	var transport transportError
	_, evidence.Command, evidence.Response, err = c.exchange(ctx, first)
	switch {
	case errors.As(err, &transport) || ctx.Err() != nil:
		return fmt.Errorf("authenticate chip: %w", err)
	case err != nil:
		err = fmt.Errorf("authenticate chip: %w: %w", ErrChipNotGenuine, err)
	}
	c.doc.Chip = &evidence
	return err
}

// sendEphemeral gives the chip the terminal's key: MSE:Set KAT for 3DES,
// MSE:Set AT and GENERAL AUTHENTICATE for AES (ICAO 9303-11 6.2.4).
func (c *Chip) sendEphemeral(ctx context.Context, key chipKey, public []byte) error {
	var reference []byte
	if key.id != nil {
		reference = tlv.Encode(doParameters, key.id.Bytes())
		if key.id.Sign() == 0 {
			reference = tlv.Encode(doParameters, []byte{0})
		}
	}
	template, data := byte(0xA4), tlv.Encode(doProtocol, oidBytes(key.protocol))
	if key.algorithm == tripleDES {
		template, data = 0xA6, tlv.Encode(0x91, public)
	}
	r, err := c.send(ctx, apdu.Command{INS: 0x22, P1: 0x41, P2: template, Data: append(data, reference...)})
	if err != nil {
		return fmt.Errorf("manage security environment: %w", err)
	}
	if r.Status != apdu.OK {
		return refused("manage security environment", r.Status)
	}
	if key.algorithm == tripleDES {
		return nil
	}
	r, err = c.send(ctx, apdu.Command{
		INS: 0x86, Le: apdu.MaxShortLe,
		Data: tlv.Encode(doAuthentication, tlv.Encode(0x80, public)),
	})
	if err != nil {
		return fmt.Errorf("general authenticate: %w", err)
	}
	if r.Status != apdu.OK {
		return refused("general authenticate", r.Status)
	}
	return nil
}

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
	size := 0
	switch k := public.(type) {
	case *rsa.PublicKey:
		size = k.Size()
	case *ecdsa.PublicKey: // plain, or DER with its frame
		size = 2*((k.Curve.Params().N.BitLen()+7)/8) + 9
	default:
		return nil, ErrUnsupported
	}
	// Asked for 65536 some cards answer nothing, so the length is exact where
	// extended length is needed. Without it the card may still chain (61xx).
	cmd := apdu.Command{INS: 0x88, Data: challenge[:], Le: apdu.MaxShortLe}
	if size > c.short() && c.reading.level == levelExtended {
		cmd.Le, cmd.Extended = size, true
	}
	r, err := c.send(ctx, cmd)
	if err == nil && r.Status == apdu.WrongLength && cmd.Extended {
		cmd.Le, cmd.Extended = apdu.MaxShortLe, false
		r, err = c.send(ctx, cmd)
	}
	switch {
	case err != nil:
		return nil, err
	case r.Status == apdu.SecurityNotSatisfied:
		return nil, fmt.Errorf("%w: %w", ErrAccessDenied, r.Status)
	case r.Status != apdu.OK:
		return nil, refused("internal authenticate", r.Status)
	case len(r.Data) == 0 || len(r.Data) > size:
		return nil, malformed("internal authenticate", fmt.Errorf("%d bytes of signature for a key of %d", len(r.Data), size))
	}
	return r.Data, nil
}
