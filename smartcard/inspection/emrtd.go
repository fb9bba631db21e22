package inspection

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"enrollkiosk/smartcard/icao"
	"enrollkiosk/smartcard/identity"
	"enrollkiosk/smartcard/lds"
	"enrollkiosk/smartcard/trust"
)

// EMRTDOptions are how an eMRTD is opened and what it is held against.
type EMRTDOptions struct {
	Password icao.Password
	Printed  *lds.MRZ // the zone as a scanner read it from the page, nil if none did
	Reader   icao.Options
	Memory   *Memory // of other cards' habits; nil: none
	Anchors  trust.Anchors
	Now      func() time.Time
	// Files are read beside those that every inspection needs, if the document has
	// them; nil means DG2. All means every file but DG3 and DG4, which need a
	// terminal certificate.
	Files []lds.File
	All   bool
	// RequireChip refuses a document that has no way to prove its chip, KeepExpired
	// takes one that has expired.
	RequireChip, KeepExpired bool
	// Observe gets each file as soon as it is whole; nil for nobody.
	Observe func(lds.File, []byte)
}

// PageError means that the printed zone is not the chip's.
type PageError struct{ Fields []string } // names of fields, no contents

func (e *PageError) Error() string {
	return "inspection: the printed page and the chip differ: " + strings.Join(e.Fields, ", ")
}

// Passport is the procedure for an eMRTD (Doc 9303-11 4.2): access control, Chip
// Authentication, reading under its keys with passive authentication of EF.SOD
// meanwhile, and the verdict over everything.
type Passport struct {
	connect Connect
	options EMRTDOptions
	card    *gate
	chip    *icao.Chip
	holder  trust.Holder
	report  trust.Report
}

var _ Document = (*Passport)(nil)

// EMRTD is the procedure for an eMRTD.
func EMRTD(connect Connect, opts EMRTDOptions) *Passport {
	if opts.Files == nil {
		opts.Files = []lds.File{lds.DG2}
	}
	return &Passport{connect: connect, options: opts}
}

// Kind implements Document.
func (p *Passport) Kind() identity.Kind { return identity.EMRTD }

// Report is what the verifier found out so far, also when it refused.
func (p *Passport) Report() trust.Report { return p.report }

// Chip is the opened chip, nil before Read and after Close.
func (p *Passport) Chip() *icao.Chip { return p.chip }

// Signs implements Document: with Active Authentication it does.
func (p *Passport) Signs() bool { return p.holder.Document().Files[lds.DG15] != nil }

func (p *Passport) open(ctx context.Context) (err error) {
	p.Close()
	card, err := p.connect(ctx)
	if err != nil {
		return err
	}
	p.card = newGate(card)
	opts := p.options.Reader
	if opts.Habits == (icao.Habits{}) {
		opts.Habits = p.options.Memory.recall(p.card.ATR())
	}
	p.chip, err = icao.Open(ctx, p.card, p.options.Password, opts)
	return err
}

// Read implements Document. Errors are those of connecting, of package icao, or
// *trust.Error, or *PageError.
func (p *Passport) Read(ctx context.Context, progress func(Progress)) (identity.Holder, error) {
	tell(progress, Progress{Step: Open})
	if err := p.open(ctx); err != nil {
		return identity.Holder{}, err
	}
	tell(progress, Progress{Step: Prove})
	if err := p.authenticateChip(ctx); err != nil {
		return identity.Holder{}, err
	}
	tell(progress, Progress{Step: Files})
	if err := p.readFiles(ctx, progress); err != nil {
		return identity.Holder{}, err
	}
	p.options.Memory.keep(p.card.ATR(), p.chip.Habits())
	tell(progress, Progress{Step: Verify})
	doc := p.chip.Document()
	return p.verify(doc, trust.Options{RequireChip: p.options.RequireChip && doc.Files[lds.DG15] == nil})
}

// authenticateChip runs Chip Authentication if DG14 has a key for it and PACE has
// not proved the chip already. DG14 is not yet known to be the issuer's: the
// verdict comes with all the others.
func (p *Passport) authenticateChip(ctx context.Context) error {
	dg14, err := p.chip.Read(ctx, lds.DG14)
	switch {
	case errors.Is(err, icao.ErrFileNotFound):
		return nil
	case err != nil:
		return err
	}
	p.observe(lds.DG14, dg14)
	infos, err := lds.ParseDG14(dg14)
	if err != nil || len(infos.ChipAuthenticationKeys) == 0 || p.chip.Document().CAM != nil {
		return nil // what does not parse is the verifier's to refuse
	}
	if err = p.chip.AuthenticateChip(ctx, infos); errors.Is(err, icao.ErrUnsupported) {
		return nil // the report says that the chip proved nothing
	}
	return err
}

// readFiles reads what EF.SOD lists and the caller wants. EF.SOD is verified
// while the long files stream; a document that is refused is not read to its end.
func (p *Passport) readFiles(ctx context.Context, progress func(Progress)) error {
	follow := func(now icao.Progress) { tell(progress, Progress{Files, now.Read, now.Total}) }
	if _, err := p.chip.ReadEach(ctx, []lds.File{lds.EFCOM, lds.EFSOD, lds.DG1}, follow, p.observe); err != nil {
		return err
	}
	sod, err := lds.ParseSOD(p.chip.Document().Files[lds.EFSOD])
	if err != nil {
		return nil // the verifier says so, with everything else that it finds
	}
	// Precheck works on files of its own while the chip goes on talking.
	doc := p.chip.Document()
	refused := make(chan error, 1)
	go func() {
		report, err := trust.Precheck(doc, p.options.Anchors, p.options.Now())
		if err != nil {
			p.report = report
			close(p.card.stop)
		}
		refused <- err
	}()
	err = p.readListed(ctx, sod, follow)
	if refusal := <-refused; refusal != nil {
		return refusal
	}
	return err
}

// readListed reads the files that the security object has a hash of.
func (p *Passport) readListed(ctx context.Context, sod lds.SOD, follow func(icao.Progress)) error {
	for n := 1; n <= 16; n++ {
		f, _ := lds.DataGroup(n)
		_, listed := sod.Hashes[f]
		// A listed DG14 or DG15 that the card does not show is a chip that hides what
		// would give it away.
		keys := f == lds.DG14 || f == lds.DG15
		wanted := slices.Contains(p.options.Files, f) || p.options.All && f != lds.DG3 && f != lds.DG4
		if !listed || !keys && !wanted {
			continue
		}
		if _, err := p.chip.ReadEach(ctx, []lds.File{f}, follow, p.observe); err != nil {
			return err
		}
		if p.chip.Document().Files[f] == nil {
			return fmt.Errorf("read %v, which EF.SOD lists: %w", f, icao.ErrFileNotFound)
		}
	}
	return nil
}

func (p *Passport) observe(f lds.File, b []byte) {
	if p.options.Observe != nil {
		p.options.Observe(f, b)
	}
}

func (p *Passport) verify(doc lds.Document, opts trust.Options) (identity.Holder, error) {
	opts.RefuseExpired = !p.options.KeepExpired
	var err error
	if p.holder, p.report, err = trust.Verify(doc, p.options.Anchors, p.options.Now(), opts); err != nil {
		return identity.Holder{}, err
	}
	if printed := p.options.Printed; printed != nil {
		if fields := p.holder.MRZ().Differs(*printed); len(fields) > 0 {
			return identity.Holder{}, &PageError{fields}
		}
	}
	return identity.OfEMRTD(p.holder)
}

// Bind implements Document by Active Authentication over the challenge's first
// eight bytes.
func (p *Passport) Bind(ctx context.Context, challenge [32]byte) (identity.Holder, error) {
	if !p.Signs() {
		return identity.OfEMRTD(p.holder)
	}
	short := [8]byte(challenge[:8])
	active, err := p.sign(ctx, short)
	if err != nil {
		if err = p.reopen(ctx); err != nil {
			return identity.Holder{}, err
		}
		if active, err = p.sign(ctx, short); err != nil {
			return identity.Holder{}, err
		}
	}
	doc := p.holder.Document()
	doc.Active = &active
	return p.verify(doc, trust.Options{ExpectedChallenge: &short, RequireActive: true})
}

func (p *Passport) sign(ctx context.Context, challenge [8]byte) (lds.ActiveAuthentication, error) {
	if p.chip == nil {
		return lds.ActiveAuthentication{}, icao.ErrClosed
	}
	return p.chip.AuthenticateActive(ctx, challenge)
}

// reopen opens the card that lies there now and insists on the same EF.SOD.
func (p *Passport) reopen(ctx context.Context) error {
	if err := p.open(ctx); errors.Is(err, icao.ErrWrongPassword) {
		return fmt.Errorf("open card again: %w", ErrChanged) // what opened the first does not open this one
	} else if err != nil {
		return err
	}
	sod, err := p.chip.Read(ctx, lds.EFSOD)
	if err != nil {
		return err
	}
	if !bytes.Equal(sod, p.holder.Document().Files[lds.EFSOD]) {
		return fmt.Errorf("open card again: %w", ErrChanged)
	}
	return nil
}

// Close implements Document.
func (p *Passport) Close() {
	if p.chip != nil {
		p.chip.Close()
		p.chip = nil
	}
	if p.card != nil {
		p.card.Close()
		p.card = nil
	}
}
