package kiosk

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"enrollkiosk/kiosk/secret"
	"enrollkiosk/registry/policy"
	"enrollkiosk/registry/record"
	"enrollkiosk/smartcard/beid"
	"enrollkiosk/smartcard/icao"
	"enrollkiosk/smartcard/identity"
	"enrollkiosk/smartcard/inspection"
	"enrollkiosk/smartcard/lds"
	"enrollkiosk/smartcard/trust"
)

// document is a verified identity document that still lies on its reader.
type document struct {
	source inspection.Document
	access access // to open the chip again; wiped by close
	card   *counted
	holder identity.Holder
	lacks  []record.Exception // what it cannot prove; the policy accepts that
	face   secret.Text        // PNG of this kiosk's own; empty when there is none to show
}

func (d *document) close() {
	d.source.Close()
	d.access.secret.Wipe()
}

// access is what opens a chip: the CAN or the MRZ information, and the whole
// zone when a scanner has read it.
type access struct {
	secret  secret.Text
	kind    func(secret.Text) icao.Password
	printed *lds.MRZ
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

// connect opens the card on the document's reader. The counts go on when it is
// opened again.
func (c *counted) connect(e *enrollment) inspection.Connect {
	return func(ctx context.Context) (inspection.Card, error) {
		ctx, cancel := context.WithTimeout(ctx, e.limits.Card)
		defer cancel()
		card, err := e.readers.Card(ctx, DeviceDocument)
		if err != nil {
			return nil, err
		}
		c.Card = card
		return c, nil
	}
}

// readDocument has the citizen place a document, asks for what opens it, reads
// and verifies it. A wrong number comes back here to be typed again; it is
// never tried twice.
func (e *enrollment) readDocument(ctx context.Context) (*document, error) {
	var doc *document
	err := e.try(ctx, func(ctx context.Context) error {
		if err := e.awaitDevice(ctx, ScreenPlaceCard, DeviceDocument); err != nil {
			return err
		}
		d, err := e.procedure(ctx)
		if err != nil {
			return err
		}
		if err := e.openAndVerify(ctx, d); err != nil {
			d.close()
			return err
		}
		doc = d
		return nil
	})
	return doc, err
}

// procedure finds out what lies on the reader and how to read it, within what
// the policy accepts.
func (e *enrollment) procedure(ctx context.Context) (*document, error) {
	d := &document{card: &counted{}}
	kind, err := e.recognise(ctx, d)
	if err != nil {
		return nil, cardFault(err)
	}
	rule, ok := e.policy.Policy().Document(record.Document(kind))
	if !ok {
		return nil, cardFault(errKindRefused)
	}
	requireChip := !rule.Allows([]record.Exception{record.NoChipProof})
	switch kind {
	case identity.PRCResident:
		accept := identity.Unsigned{Accept: rule.Allows([]record.Exception{record.NoChipProof, record.NoIssuerSignature}),
			Simulated: rule.Class != record.Production}
		d.source = inspection.Resident(e.residents, inspection.ResidentOptions{Now: e.now, Unsigned: accept})
	case identity.BelgianEID:
		roots, err := BelgianRoots(rule)
		if err != nil {
			return nil, kioskFault(err)
		}
		d.source = inspection.Belgian(d.card.connect(e), inspection.BelgianOptions{Roots: roots, Now: e.now, RequireChip: requireChip})
	default:
		if d.access, err = e.askAccess(ctx); err != nil {
			return nil, err
		}
		files := []lds.File{lds.DG2}
		for _, f := range e.policy.Policy().Files {
			files = append(files, lds.File(f))
		}
		d.source = inspection.EMRTD(d.card.connect(e), inspection.EMRTDOptions{Password: d.access.kind(d.access.secret),
			Printed: d.access.printed, Files: files, Memory: e.cards, Anchors: e.anchors, Now: e.now, RequireChip: requireChip})
	}
	return d, nil
}

func (e *enrollment) recognise(ctx context.Context, d *document) (identity.Kind, error) {
	if e.residents != nil && e.residents.Present() {
		return identity.PRCResident, nil
	}
	ctx, cancel := context.WithTimeout(ctx, e.limits.Card)
	defer cancel()
	card, err := d.card.connect(e)(ctx)
	if err != nil {
		return "", err
	}
	defer card.Close()
	return inspection.Recognise(ctx, card)
}

// BelgianRoots are the root authorities that a policy's rule for Belgian cards names.
func BelgianRoots(rule policy.Document) (beid.Roots, error) {
	var list []beid.Root
	for _, r := range rule.Roots {
		list = append(list, beid.Root{Certificate: r.Certificate, Class: beid.Class(r.Class)})
	}
	return beid.NewRoots(list...)
}

// askAccess asks for the card access number, or the three fields of the machine
// readable zone, or takes the zone from a scanner.
func (e *enrollment) askAccess(ctx context.Context) (access, error) {
	problem := PINFine
	for {
		in, err := e.d.ask(ctx, func() State {
			return State{Screen: ScreenAccessNumber, Turn: TurnOfficer, Main: ActionEnterCAN,
				Actions: []Action{ActionEnterCAN, ActionEnterMRZ, ActionScanMRZ, ActionDecline, ActionChoose},
				PIN:     &PINView{Min: 6, Max: 6, Problem: problem}}
		})
		if err != nil {
			return access{}, err
		}
		problem = PINNotDigits
		switch in.Action {
		case ActionEnterCAN:
			if problem = digits(in.Secret, 6, 6); problem == PINFine {
				return access{secret: in.Secret, kind: icao.CAN}, nil
			}
		case ActionScanMRZ:
			printed, err := lds.ParseScan(string(in.Secret.Reveal()))
			if err != nil {
				break
			}
			if info, err := printed.Information(); err == nil {
				in.Wipe()
				return access{info, icao.MRZ, &printed}, nil
			}
		case ActionEnterMRZ:
			if in.MRZ == nil {
				break
			}
			info, err := lds.MRZInformation(string(in.MRZ.Number.Reveal()), string(in.MRZ.Birth.Reveal()), string(in.MRZ.Expiry.Reveal()))
			if err == nil {
				in.Wipe()
				return access{secret: info, kind: icao.MRZ}, nil
			}
		}
		in.Wipe()
	}
}

// openAndVerify reads the document and proves it genuine. The holder that it
// leaves in d has no proof for this record yet: that waits for its context.
func (e *enrollment) openAndVerify(ctx context.Context, d *document) error {
	p := e.stepper(ScreenReading, StepOpenCard, StepProveChip, StepReadCard, StepVerifyCard)
	p.traffic = d.card.traffic
	steps := map[inspection.Step]StepName{inspection.Open: StepOpenCard, inspection.Prove: StepProveChip,
		inspection.Files: StepReadCard, inspection.Verify: StepVerifyCard}
	if err := p.run(ctx, StepOpenCard, documentFault, func(ctx context.Context) (err error) {
		ctx, cancel := context.WithTimeout(ctx, e.limits.ReadCard)
		defer cancel()
		// Counted first: no document is opened that nobody hears of.
		if err := e.activity.Opened(e.officer.digest(), e.now()); err != nil {
			return kioskFault(fmt.Errorf("count the opening: %w", err))
		}
		d.holder, err = d.source.Read(ctx, func(now inspection.Progress) {
			p.enter(steps[now.Step])
			if now.Total > 0 {
				p.progress(steps[now.Step], now.Done, now.Total)
			}
		})
		return err
	}); err != nil {
		return err
	}
	for _, l := range d.holder.Lacks() {
		// A chip that will sign the record's context has to prove itself then.
		if l != identity.NoChipProof || !d.source.Signs() {
			d.lacks = append(d.lacks, record.Exception(l))
		}
	}
	if rule, _ := e.policy.Policy().Document(record.Document(d.holder.Kind())); !rule.Allows(d.lacks) {
		return documentFault(errCannotProve)
	}
	d.face = e.picture(ctx, d.holder)
	return nil
}

// picture is the face as this kiosk draws it. A face that cannot be drawn is the
// officer's to notice: the screen says so, and nothing else fails.
func (e *enrollment) picture(ctx context.Context, h identity.Holder) secret.Text {
	image, err := h.Face()
	if err == nil {
		ctx, cancel := context.WithTimeout(ctx, e.limits.Card)
		defer cancel()
		var png []byte
		if png, err = e.portraits.Picture(ctx, h.Kind(), image); err == nil {
			return secret.New(png)
		}
	}
	e.log.Warn("the face cannot be shown", "cause", err)
	return secret.Text{}
}

// bind has a document's chip sign the challenge that follows from the context and
// the holder's new key, and verifies the document once more with that.
func (e *enrollment) bind(ctx context.Context, step StepName, d *document, challenge [32]byte) error {
	return e.try(ctx, func(ctx context.Context) error {
		p := e.stepper(ScreenMakingKey, step)
		p.traffic = d.card.traffic
		return p.run(ctx, step, documentFault, func(ctx context.Context) error {
			ctx, cancel := context.WithTimeout(ctx, e.limits.ReadCard)
			defer cancel()
			h, err := d.source.Bind(ctx, challenge)
			if err != nil {
				return err
			}
			d.holder = h
			return nil
		})
	})
}

// awaitDevice shows screen until a card lies on the reader of d. An action out
// of instead ends it with errInstead.
func (e *enrollment) awaitDevice(ctx context.Context, screen Screen, d Device, instead ...Action) error {
	for {
		in, answered, err := e.d.wait(ctx, func() State {
			s := State{Screen: screen, Turn: TurnCitizen, Waiting: d,
				Actions: append(instead, ActionDecline, ActionChoose)}
			return s
		}, func(s *State, h Health) bool {
			s.Fault = readerHint(d, h.Readers[d])
			return h.Readers[d] == ReaderCard
		})
		if err != nil || !answered {
			return err
		}
		if slices.Contains(instead, in.Action) {
			return errInstead
		}
	}
}

// errInstead means that the person has no such thing to bring.
var errInstead = errors.New("something else was chosen")

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
	p := d.holder.Person(now)
	v := &HolderView{Surname: p.Surname, GivenNames: p.GivenNames, Number: p.Number, Sex: p.Sex,
		Nationality: string(p.Nationality.Reveal()), Issuer: p.Issuer, Birth: p.Birth, Expiry: p.Expiry, Face: d.face}
	if d.face.Len() > 0 {
		v.FaceMIME = "image/png"
	}
	return v
}

// checks are the verdicts as the officer sees them.
func (d *document) checks() []Check {
	names := map[identity.CheckName]CheckName{identity.Unaltered: CheckHashes, identity.SignatureOK: CheckSignature,
		identity.Chain: CheckChain, identity.Revoked: CheckRevoked, identity.Chip: CheckChip, identity.Validity: CheckValidity}
	var list []Check
	for _, c := range d.holder.Checks() {
		list = append(list, Check{names[c.Name], verdict(c.Verdict)})
	}
	return list
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

func lackViews(lacks []record.Exception) []Lack {
	views := map[record.Exception]Lack{record.NoAge: LackAge, record.NoChipProof: LackChip, record.NoIssuerSignature: LackIssuer}
	var list []Lack
	for _, l := range lacks {
		list = append(list, views[l])
	}
	return list
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
