package icao

import (
	"context"
	"errors"
	"fmt"

	"enrollkiosk/smartcard/apdu"
	"enrollkiosk/smartcard/lds"
)

// establish gets from a card in any state to the eMRTD application, with a
// channel if the card wants one (ICAO 9303-11 4.2): PACE, else BAC, else none.
func (c *Chip) establish(ctx context.Context) error {
	offered, err := c.cardAccess(ctx)
	if err != nil {
		return err
	}
	var refusal error
	if len(offered) > 0 {
		if refusal = c.pace(ctx, offered); refusal == nil {
			return c.selectApplication(ctx)
		}
		// Only a card that declines the protocol may be asked for BAC. A password it
		// has rejected is not offered again.
		declined := errors.Is(refusal, ErrChipRefused) || errors.Is(refusal, ErrUnsupported)
		if !declined || c.password.kind != passwordMRZ {
			return refusal
		}
		if err := c.reset(ctx); err != nil {
			return err
		}
	}
	if err = c.selectApplication(ctx); err == nil {
		if len(offered) == 0 && c.password.kind == passwordCAN {
			if c.openDirectly(ctx) == nil { // BAC takes no CAN
				return nil
			}
			err = ErrNeedsMRZ
		} else {
			c.channel, err = c.bac(ctx)
		}
	}
	switch {
	case err == nil:
		c.doc.Access = "BAC"
		return nil
	case refusal != nil && (errors.Is(err, ErrChipRefused) || errors.Is(err, ErrNotEMRTD) || errors.Is(err, ErrAccessDenied)):
		return refusal // the card has PACE only
	case errors.Is(err, ErrNotEMRTD):
		return err
	case errors.Is(err, ErrChipRefused) && c.openDirectly(ctx) == nil:
		return nil
	}
	return fmt.Errorf("bac: %w", err)
}

// pace runs the best of the variants that are offered and accepted.
func (c *Chip) pace(ctx context.Context, offered []lds.PACEInfo) error {
	const most = 3 // of the card's list may be things it cannot do
	err := ErrUnsupported
	for i, p := range choosePACE(offered) {
		if i == most {
			break
		}
		if err = p.announce(ctx, c); errors.Is(err, ErrChipRefused) {
			continue
		}
		var result outcome
		if err == nil {
			result, err = p.run(ctx, c)
		}
		if err != nil {
			break
		}
		c.channel, c.doc.Access, c.inMaster = result.channel, "PACE", true
		if result.oddity != "" {
			c.warn(result.oddity)
		}
		if result.chip == nil {
			return nil
		}
		c.doc.CAM = result.chip
		if err = c.proveMapping(ctx); err != nil {
			break
		}
		return nil
	}
	return fmt.Errorf("pace: %w", err)
}

// proveMapping reads EF.CardSecurity, which only the channel of PACE opens, for
// the key that Chip Authentication Mapping has used.
func (c *Chip) proveMapping(ctx context.Context) error {
	file, err := c.read(ctx, lds.EFCardSecurity, nil)
	if err != nil {
		return err
	}
	security, err := lds.ParseCardSecurity(file)
	if err != nil {
		return malformed("chip authentication mapping", err)
	}
	return checkMapping(*c.doc.CAM, security.Infos.ChipAuthenticationKeys)
}

// openDirectly finds out whether the application can be read as it is.
func (c *Chip) openDirectly(ctx context.Context) error {
	com, err := c.readShort(ctx, lds.EFCOM, unknown)
	if err == nil {
		c.doc.Files[lds.EFCOM], c.doc.Access = com, "none"
	}
	return err
}

// cardAccess reads what PACE the card offers; nothing if it has no
// EF.CardAccess. A fresh card is in the master file, so that this is tried
// first; SELECT MF follows where it was not.
func (c *Chip) cardAccess(ctx context.Context) ([]lds.PACEInfo, error) {
	file, ok := c.doc.Files[lds.EFCardAccess]
	if !ok {
		var err error
		c.inMaster = true
		if file, err = c.readShort(ctx, lds.EFCardAccess, bySFI); unreadable(err) {
			if err = c.selectMaster(ctx); err == nil {
				file, err = c.readShort(ctx, lds.EFCardAccess, bySelect)
			}
		}
		switch {
		case unreadable(err):
			return nil, nil
		case err != nil:
			return nil, err
		}
		c.doc.Files[lds.EFCardAccess] = file
	}
	infos, err := lds.ParseCardAccess(file)
	if err != nil {
		return nil, malformed("parse EF.CardAccess", err)
	}
	return infos.PACE, nil
}

// unreadable says that a card does not give a file, and not that the file is bad.
func unreadable(err error) bool {
	return errors.Is(err, ErrFileNotFound) || errors.Is(err, ErrChipRefused) || errors.Is(err, ErrAccessDenied)
}

// enter makes the directory of f current.
func (c *Chip) enter(ctx context.Context, f lds.File) error {
	switch {
	case f.Master() == c.inMaster:
		return nil
	case f.Master():
		return c.selectMaster(ctx)
	}
	return c.selectApplication(ctx)
}

// selectMaster makes the master file current. Cards differ in what they accept
// and some are there already, so that no status stops it. A channel left over
// from earlier dies of the first plain command.
func (c *Chip) selectMaster(ctx context.Context) error {
	c.inMaster = true
	for _, name := range [][]byte{{0x3F, 0x00}, nil} {
		if name == nil && c.channel != nil {
			break // nothing to protect
		}
		if r, err := c.send(ctx, apdu.Command{INS: 0xA4, P2: 0x0C, Data: name}); err != nil {
			return fmt.Errorf("select master file: %w", err)
		} else if r.Status == apdu.OK {
			break
		}
	}
	return nil
}

// application is the identifier of the eMRTD application (ICAO 9303-10 3.11.1).
const application = "\xA0\x00\x00\x02\x47\x10\x01"

func (c *Chip) selectApplication(ctx context.Context) error {
	const step = "select application"
	// Le must be absent with P2 = 0C (ICAO 9303-10 3.6.2).
	r, err := c.send(ctx, apdu.Command{INS: 0xA4, P1: 0x04, P2: 0x0C, Data: []byte(application)})
	switch {
	case err != nil:
		return fmt.Errorf("%s: %w", step, err)
	case r.Status == apdu.OK:
		c.inMaster = false
		return nil
	case r.Status == apdu.SecurityNotSatisfied:
		return fmt.Errorf("%s: %w: %w", step, ErrAccessDenied, r.Status)
	}
	return fmt.Errorf("%s: %w: %w", step, ErrNotEMRTD, r.Status)
}

// reset forgets the channel, on the card's side too as far as the transport can.
func (c *Chip) reset(ctx context.Context) error {
	if c.channel != nil {
		c.channel.wipe()
	}
	c.channel, c.broken, c.proof = nil, nil, nil
	c.reading.address = unknown
	c.inMaster = true
	if r, ok := c.card.(resetter); ok {
		if err := r.Reset(ctx); err != nil {
			return fmt.Errorf("reset card: %w", err)
		}
		return nil
	}
	return c.selectMaster(ctx)
}

// reopen gets the channel back after it was lost, with Chip Authentication if
// that had been run. The card has accepted the password before, so that this is
// no second guess.
func (c *Chip) reopen(ctx context.Context) error {
	if c.password.text.Len() == 0 { // wiped too early: do not spend a try on nothing
		return fmt.Errorf("%w: none left", ErrWrongPassword)
	}
	if err := c.reset(ctx); err != nil {
		return err
	}
	c.learnLimits(ctx)
	if err := c.establish(ctx); err != nil {
		return err
	}
	if c.agreed == nil {
		return nil
	}
	return c.agree(ctx, *c.agreed)
}
