package icao

import (
	"context"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"slices"

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
	key       lds.AgreementKey
}

// chooseChipKey pairs a key of DG14 with a protocol, AES before 3DES and curves
// before finite fields. A key without a protocol is none: such a DG14 is
// malformed (BSI TR-03105-5.1 LDS_F_05), and no verifier would take the proof.
func chooseChipKey(infos lds.SecurityInfos) (chipKey, error) {
	type pair struct {
		chipKey
		spki []byte
		cost int
	}
	var pairs []pair
	add := func(family, keyType asn1.ObjectIdentifier, info lds.ChipAuthenticationInfo, cost int) {
		a, ok := suffix(info.Protocol, family)
		if !ok || info.Version != 1 {
			return
		}
		if a == tripleDES {
			cost += 2
		}
		for _, key := range infos.ChipAuthenticationKeys {
			matches := info.KeyID == nil || key.KeyID != nil && key.KeyID.Cmp(info.KeyID) == 0
			if matches && key.Protocol.Equal(keyType) {
				pairs = append(pairs, pair{chipKey{info.Protocol, a, key.KeyID, lds.AgreementKey{}}, key.SPKI, cost})
			}
		}
	}
	for _, info := range infos.ChipAuthentication {
		add(lds.OIDCAECDH, lds.OIDPKECDH, info, 0)
		add(lds.OIDCADH, lds.OIDPKDH, info, 1)
	}
	slices.SortStableFunc(pairs, func(a, b pair) int { return a.cost - b.cost })

	err := ErrUnsupported
	if len(pairs) == 0 && len(infos.ChipAuthentication) > 0 && len(infos.ChipAuthenticationKeys) > 0 {
		err = fmt.Errorf("%w: no key belongs to a protocol that is known", ErrUnsupported)
	}
	const most = 4 // checking what a card made up takes time
	for _, p := range pairs[:min(len(pairs), most)] {
		var bad error
		if p.key, bad = lds.ParseAgreementKey(p.spki); bad == nil {
			return p.chipKey, nil
		}
		if !errors.Is(bad, lds.ErrUnsupported) {
			err = malformed("key of the chip", bad)
		}
	}
	return chipKey{}, err
}

// proof is evidence of Chip Authentication that lacks the first exchange under
// the new keys.
type proof struct {
	evidence lds.ChipAuthentication
	err      error // of that exchange
}

// AuthenticateChip runs Chip Authentication version 1 (ICAO 9303-11 6.2) with
// the key of DG14 and moves secure messaging to the agreed keys. The evidence,
// the first exchange under them, becomes part of the Document, also when that
// exchange shows that the chip does not hold its key: then the error is
// ErrChipNotGenuine and the channel is dead. ErrUnsupported means that DG14 has
// no key this package can use; nothing was sent.
//
// The first exchange reads EF.COM if that has not been read, so that a caller
// who reads DG14 first and the rest afterwards pays for none.
func (c *Chip) AuthenticateChip(ctx context.Context, infos lds.SecurityInfos) error {
	ctx, cancel := c.bound(ctx)
	defer cancel()
	err := c.broken
	if err == nil {
		err = c.agree(ctx, infos)
	}
	if err != nil {
		return fmt.Errorf("authenticate chip: %w", err)
	}
	c.agreed = &infos
	return nil
}

func (c *Chip) agree(ctx context.Context, infos lds.SecurityInfos) error {
	key, err := chooseChipKey(infos)
	if err != nil {
		return err
	}
	if err := c.enter(ctx, lds.DG14); err != nil {
		return err
	}
	g := key.key.Group
	ours, err := newKeyPair(g, g.Generator(), c.random)
	if err != nil {
		return err
	}
	defer clear(ours.private)
	if err := c.sendEphemeral(ctx, key, ours.encoded); err != nil {
		return err
	}
	shared, err := ours.agree(key.key.Public)
	if err != nil {
		return malformed("key of the chip", err)
	}
	defer clear(shared)

	if c.channel != nil {
		c.channel.wipe()
	}
	c.channel = newSession(key.algorithm, shared)
	p := &proof{evidence: lds.ChipAuthentication{
		Protocol:    key.protocol,
		KeyID:       key.id,
		TerminalKey: secret.New(slices.Clone(ours.private)),
		SSC:         slices.Clone(c.channel.ssc),
	}}
	c.proof = p
	err = c.firstExchange(ctx)
	if errors.As(p.err, new(transportError)) || ctx.Err() != nil {
		return err
	}
	c.doc.Chip = &p.evidence
	if p.err != nil {
		return fmt.Errorf("%w: %w", ErrChipNotGenuine, p.err)
	}
	return c.broken // of a later exchange, if there was one
}

// firstExchange needs a protected answer, whatever it says: short, so that
// nothing but the chip can be to blame, and useful if anything is left to read.
func (c *Chip) firstExchange(ctx context.Context) error {
	if _, ok := c.doc.Files[lds.EFCOM]; !ok {
		com, err := c.readShort(ctx, lds.EFCOM, unknown)
		if err == nil {
			c.doc.Files[lds.EFCOM] = com
		}
		return err
	}
	_, err := c.send(ctx, apdu.Command{INS: 0xB0, P1: 0x80 | lds.DG14.SFI(), Le: 8})
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
