package kiosk

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"enrollkiosk/kiosk/secret"
	"enrollkiosk/smartcard/icao"
	"enrollkiosk/smartcard/lds"
	"enrollkiosk/smartcard/trust"
)

// document is a verified ID card that still lies on its reader.
type document struct {
	access access // to open the chip again; wiped by close
	card   *counted
	chip   *icao.Chip
	holder trust.Holder
	report trust.Report
}

// access is what opens a chip: the CAN or the MRZ information.
type access struct {
	secret secret.Text
	kind   func(secret.Text) icao.Password
}

func (d *document) close() {
	if d.chip != nil {
		d.chip.Close()
	}
	if d.card != nil {
		d.card.Close()
	}
	d.access.secret.Wipe()
}

// counted counts what crosses a card.
type counted struct {
	Card
	apdus, bytes int
}

func (c *counted) Transmit(ctx context.Context, command []byte) ([]byte, error) {
	response, err := c.Card.Transmit(ctx, command)
	c.apdus++
	c.bytes += len(command) + len(response)
	return response, err
}

func (c *counted) traffic() (int, int) { return c.apdus, c.bytes }

// wanted are the files to read, in the order that lets verification begin early.
var wanted = []lds.File{lds.EFCOM, lds.EFSOD, lds.DG1, lds.DG14, lds.DG15, lds.DG2}

// readDocument has the citizen place the card and give its access number, then
// reads and verifies it. A wrong number comes back here to be typed again; it
// is never tried twice.
func (e *enrollment) readDocument(ctx context.Context) (*document, error) {
	var doc *document
	err := e.try(ctx, func(ctx context.Context) error {
		if err := e.awaitDevice(ctx, ScreenPlaceCard, DeviceDocument); err != nil {
			return err
		}
		with, err := e.askAccess(ctx)
		if err != nil {
			return err
		}
		d, err := e.openAndVerify(ctx, with)
		if err != nil {
			with.secret.Wipe()
			return err
		}
		doc = d
		return nil
	})
	return doc, err
}

// askAccess asks for the card access number, or the three fields of the
// machine readable zone.
func (e *enrollment) askAccess(ctx context.Context) (access, error) {
	problem := PINFine
	for {
		in, err := e.d.ask(ctx, func() State {
			return State{Screen: ScreenAccessNumber, Turn: TurnOfficer, Main: ActionEnterCAN,
				Actions: []Action{ActionEnterCAN, ActionEnterMRZ, ActionDecline, ActionChoose},
				PIN:     &PINView{Min: 6, Max: 6, Problem: problem}}
		})
		if err != nil {
			return access{}, err
		}
		if in.Action == ActionEnterCAN {
			if problem = digits(in.Secret, 6, 6); problem == PINFine {
				return access{in.Secret, icao.CAN}, nil
			}
			in.Wipe()
			continue
		}
		problem = PINNotDigits
		if in.MRZ != nil {
			info, err := lds.MRZInformation(string(in.MRZ.Number.Reveal()), string(in.MRZ.Birth.Reveal()), string(in.MRZ.Expiry.Reveal()))
			in.Wipe()
			if err == nil {
				return access{info, icao.MRZ}, nil
			}
		}
	}
}

// openAndVerify reads the card and proves it genuine. The result's holder has
// no Active Authentication yet: that waits for the record's context.
func (e *enrollment) openAndVerify(ctx context.Context, with access) (_ *document, err error) {
	d := &document{access: with}
	defer func() {
		if err != nil {
			if d.chip != nil {
				d.chip.Close()
			}
			if d.card != nil {
				d.card.Close()
			}
		}
	}()
	p := e.stepper(ScreenReading, StepOpenCard, StepReadCard, StepVerifyCard, StepProveChip)
	if err := p.run(ctx, StepOpenCard, cardFault, func(ctx context.Context) error { return e.openChip(ctx, d, p) }); err != nil {
		return nil, err
	}
	var read lds.Document
	if err := p.run(ctx, StepReadCard, cardFault, func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, e.limits.ReadCard)
		defer cancel()
		var err error
		read, err = d.chip.ReadAll(ctx, wanted, func(now icao.Progress) {
			p.progress(StepReadCard, now.Read, now.Total)
		})
		return err
	}); err != nil {
		return nil, err
	}
	// Hashes, signature and chain first: a chip's key means nothing before DG14
	// is known to be the issuer's.
	if err := p.run(ctx, StepVerifyCard, proofFault, func(context.Context) error {
		_, d.report, err = trust.Verify(read, e.anchors, e.now(), trust.Options{})
		return err
	}); err != nil {
		return nil, err
	}
	if err := p.run(ctx, StepProveChip, proofOrCardFault, func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, e.limits.Card)
		defer cancel()
		if dg14, ok := read.Files[lds.DG14]; ok {
			infos, err := lds.ParseDG14(dg14)
			if err != nil {
				return fmt.Errorf("%w: %w", trust.ErrMalformed, err)
			}
			if len(infos.ChipAuthenticationKeys) > 0 {
				if err := d.chip.AuthenticateChip(ctx, infos); err != nil {
					return err
				}
			}
		}
		_, activeLater := read.Files[lds.DG15]
		d.holder, d.report, err = trust.Verify(d.chip.Document(), e.anchors, e.now(),
			trust.Options{RequireChip: !activeLater, RefuseExpired: true})
		return err
	}); err != nil {
		return nil, err
	}
	return d, nil
}

func (e *enrollment) openChip(ctx context.Context, d *document, p *stepper) error {
	ctx, cancel := context.WithTimeout(ctx, e.limits.Card)
	defer cancel()
	card, err := e.readers.Card(ctx, DeviceDocument)
	if err != nil {
		return err
	}
	if d.card == nil {
		d.card = &counted{}
	}
	d.card.Card = card // the counts go on when a card is opened again
	p.traffic = d.card.traffic
	chip, err := icao.Open(ctx, d.card, d.access.kind(d.access.secret), icao.Options{})
	if err != nil {
		return err // d.chip stays what it was: a closed chip answers as one that was taken away
	}
	d.chip = chip
	return nil
}

// bindChip has the chip sign the challenge that follows from the context and
// the holder's new key, and verifies the document once more with that. A card
// that was taken away is opened again, and must be the same one.
func (e *enrollment) bindChip(ctx context.Context, d *document, challenge [8]byte) error {
	return e.try(ctx, func(ctx context.Context) error {
		p := e.stepper(ScreenMakingKey, StepBindChip)
		p.traffic = d.card.traffic
		return p.run(ctx, StepBindChip, proofOrCardFault, func(ctx context.Context) error {
			ctx, cancel := context.WithTimeout(ctx, e.limits.ReadCard)
			defer cancel()
			before := d.holder.Document()
			if _, ok := before.Files[lds.DG15]; !ok {
				return nil // the chip proved itself by Chip Authentication; openAndVerify required it
			}
			active, err := d.chip.AuthenticateActive(ctx, challenge)
			if err != nil {
				if err = e.reopen(ctx, d, p, before); err != nil {
					return err
				}
				if active, err = d.chip.AuthenticateActive(ctx, challenge); err != nil {
					return err
				}
			}
			before.Active = &active
			d.holder, d.report, err = trust.Verify(before, e.anchors, e.now(),
				trust.Options{ExpectedChallenge: &challenge, RequireActive: true, RefuseExpired: true})
			return err
		})
	})
}

// reopen opens the chip again and insists on the same EF.SOD.
func (e *enrollment) reopen(ctx context.Context, d *document, p *stepper, before lds.Document) error {
	d.chip.Close()
	d.card.Close()
	if err := e.openChip(ctx, d, p); errors.Is(err, icao.ErrWrongPassword) {
		return errCardChanged // what opened the first card does not open this one
	} else if err != nil {
		return err
	}
	sod, err := d.chip.Read(ctx, lds.EFSOD)
	if err != nil {
		return err
	}
	if !bytes.Equal(sod, before.Files[lds.EFSOD]) {
		return errCardChanged
	}
	return nil
}

// awaitDevice shows screen until a card lies on the reader of d.
func (e *enrollment) awaitDevice(ctx context.Context, screen Screen, d Device) error {
	for {
		_, answered, err := e.d.wait(ctx, func() State {
			s := State{Screen: screen, Turn: TurnCitizen, Waiting: d,
				Actions: []Action{ActionDecline, ActionChoose}}
			return s
		}, func(s *State, h Health) bool {
			s.Fault = readerHint(d, h.Readers[d])
			return h.Readers[d] == ReaderCard
		})
		if err != nil || !answered {
			return err
		}
	}
}

// readerHint says what is wrong with a reader, nil when nothing is.
func readerHint(d Device, s ReaderState) *Fault {
	switch {
	case s == ReaderMissing || s == "":
		return &Fault{Code: CodeReaderMissing, Remedy: RemedyStaff}
	case s == ReaderMute && d == DeviceDocument:
		return &Fault{Code: CodeCardMute, Remedy: RemedyRetry}
	case s == ReaderMute:
		return &Fault{Code: CodeTokenFailed, Remedy: RemedyRetry}
	}
	return nil
}

// view is what the screens show of the holder.
func (d *document) view(now time.Time) *HolderView {
	m := d.holder.MRZ()
	v := &HolderView{Surname: m.Primary, GivenNames: m.Secondary, Number: m.Number, Sex: string(m.Sex),
		Nationality: string(m.Nationality.Reveal()), Issuer: m.Issuer, Birth: m.Birth.Text(), Expiry: m.Expiry.Text()}
	if day, ok := m.Birth.Birth(now); ok {
		v.Birth = secret.FromString(day.Format(time.DateOnly))
	}
	if day, ok := m.Expiry.Expiry(now); ok {
		v.Expiry = secret.FromString(day.Format(time.DateOnly))
	}
	if face, err := d.holder.Face(); err == nil {
		v.Face, v.FaceMIME = secret.New(face.Image), face.MIME
	}
	return v
}

// checks are the report's verdicts as the officer sees them.
func checks(r trust.Report) []Check {
	chip := r.ChipAuthentication
	if r.ActiveAuthentication == trust.Passed || chip != trust.Passed && r.ActiveAuthentication == trust.Failed {
		chip = r.ActiveAuthentication
	}
	return []Check{
		{CheckHashes, verdict(r.Hashes)}, {CheckSignature, verdict(r.Signature)}, {CheckChain, verdict(r.Chain)},
		{CheckRevoked, verdict(r.Revocation)}, {CheckChip, verdict(chip)}, {CheckValidity, verdict(r.Validity)},
	}
}

func verdict(v trust.Verdict) Verdict {
	switch v {
	case trust.Passed:
		return Passed
	case trust.Failed:
		return Failed
	}
	return NotChecked
}

// digits says what is wrong with an entry that should be digits only.
func digits(t secret.Text, least, most int) PINProblem {
	b := t.Reveal()
	for _, c := range b {
		if c < '0' || c > '9' {
			return PINNotDigits
		}
	}
	switch {
	case len(b) < least:
		return PINTooShort
	case len(b) > most:
		return PINTooLong
	}
	return PINFine
}
