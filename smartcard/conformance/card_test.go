package conformance

import (
	"bytes"
	"context"
	"crypto"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"enrollkiosk/kiosk/secret"
	"enrollkiosk/simulators/idcard"
	"enrollkiosk/smartcard/apdu"
	"enrollkiosk/smartcard/icao"
	"enrollkiosk/smartcard/identity"
	"enrollkiosk/smartcard/inspection"
	"enrollkiosk/smartcard/lds"
	"enrollkiosk/smartcard/trust"
)

// card is a document: how it is issued, how it behaves, and how it is inspected.
type card struct {
	person  idcard.Person
	issuer  idcard.AuthorityOptions
	opts    idcard.Options
	edit    func(*idcard.Exchange)
	anchors func(*idcard.Authority) (trust.Anchors, error) // nil: the CSCA

	mrz     bool // opened with the machine readable zone, else with the card access number
	scanned bool // the printed page is scanned and held against DG1
	all     bool // every data group is read
	info    bool // EF.ATR/INFO is read and verified with the others
	again   bool // inspected twice: the second time counts
}

// base is a card that is accepted, without a warning.
type base struct {
	name string
	card card
}

// test is a base with one deviation.
type test struct {
	row, what string
	base      base
	alter     func(*card)
	refused   string // why, in words of reason; "": it is accepted
	warning   string // the one; "": none
	check     func(*testing.T, result)
	outcome   func(result) string // in place of the usual; for rows that ask for more
}

// Outcomes of the plan.
const (
	accept = "accept"
	warn   = "accept with warning"
	reject = "reject"
)

// result is how an inspection ended.
type result struct {
	holder   identity.Holder
	report   trust.Report
	access   string
	document lds.Document
	habits   icao.Habits
	warnings []string
	sent     [][]byte
	err      error
}

func (r result) outcome() string {
	switch {
	case r.err != nil && !r.holder.Valid():
		return reject
	case r.err != nil || !r.holder.Valid():
		return "neither a holder nor an error, or both"
	case len(r.warnings) > 0:
		return warn
	}
	return accept
}

// run inspects the card, and returns the outcome with the reason.
func (c test) run(t *testing.T) (outcome, why string) {
	t.Helper()
	document := c.base.card
	if c.alter != nil {
		c.alter(&document)
	}
	r := document.inspect(t)
	outcome, why = r.outcome(), reason(r.err)
	if c.outcome != nil {
		outcome = c.outcome(r)
	}
	if r.err == nil {
		why = strings.Join(r.warnings, "+")
	}
	if want := c.refused + c.warning; why != want {
		t.Errorf("%s: because of %q, want %q: %v", c.what, why, want, r.err)
	}
	if c.check != nil {
		c.check(t, r)
	}
	return outcome, why
}

// control wants a base accepted: what becomes of its card with a deviation then
// comes from the deviation.
func (b base) control(t *testing.T) {
	t.Helper()
	if r := b.card.inspect(t); r.outcome() != accept {
		t.Errorf("without the deviation (%s): %s, %v, %v", b.name, r.outcome(), r.warnings, r.err)
	}
}

func (c card) inspect(t *testing.T) result {
	t.Helper()
	state, err := c.authority()
	if err != nil {
		t.Fatal(err)
	}
	opts := c.opts
	if opts.Face == nil {
		opts.Face = portrait()
	}
	if c.edit != nil {
		before := opts.Chip
		opts.Chip = func(p *idcard.Profile) {
			p.Edit = c.edit
			if before != nil {
				before(p)
			}
		}
	}
	chip, err := state.Personalise(c.person, opts)
	if err != nil {
		t.Fatal(err)
	}
	anchors, err := c.trusted(state)
	if err != nil {
		t.Fatal(err)
	}
	r := c.read(t, chip, anchors)
	if c.again {
		r = c.read(t, chip, anchors)
	}
	return r
}

func (c card) trusted(state *idcard.Authority) (trust.Anchors, error) {
	if c.anchors != nil {
		return c.anchors(state)
	}
	return trust.NewAnchors([]trust.Anchor{{Certificate: state.CSCA(), Class: trust.Test}})
}

// read is the whole procedure: what a kiosk asks of a document.
func (c card) read(t *testing.T, chip *idcard.Chip, anchors trust.Anchors) (r result) {
	t.Helper()
	printed, err := lds.ParseMRZ(chip.MRZ())
	if err != nil {
		t.Fatal(err)
	}
	options := inspection.EMRTDOptions{Password: icao.CAN(secret.FromString(chip.CAN())), Anchors: anchors, Now: time.Now, RequireChip: true, All: c.all}
	if c.scanned {
		options.Printed = &printed
	}
	if c.mrz {
		information, err := printed.Information()
		if err != nil {
			t.Fatal(err)
		}
		options.Password = icao.MRZ(information)
	}
	w := &wire{chip: chip}
	p := inspection.EMRTD(func(context.Context) (inspection.Card, error) {
		chip.Reset()
		return w, nil
	}, options)
	defer p.Close()

	r.holder, r.err = p.Read(t.Context(), nil)
	if r.err == nil && c.info {
		r.err = verifyInfo(t.Context(), p, anchors)
	}
	if r.err == nil && p.Signs() {
		r.holder, r.err = p.Bind(t.Context(), [32]byte{7, 6, 5, 4, 3, 2, 1})
	}
	if r.err != nil {
		r.holder = identity.Holder{} // a caller drops it with the error
	}
	r.report, r.warnings, r.sent = p.Report(), r.holder.Warnings(), w.sent
	if opened := p.Chip(); opened != nil {
		r.document, r.habits = opened.Document(), opened.Habits()
		r.access = r.document.Access
		r.warnings = append(slices.Clone(r.warnings), opened.Warnings()...)
	}
	return r
}

// verifyInfo reads EF.ATR/INFO beside the files that were read and has all of
// them verified.
func verifyInfo(ctx context.Context, p *inspection.Passport, anchors trust.Anchors) error {
	if _, err := p.Chip().Read(ctx, lds.EFATRInfo); err != nil {
		return err
	}
	_, _, err := trust.Verify(p.Chip().Document(), anchors, time.Now(), trust.Options{})
	return err
}

// wire is the card on its reader; it keeps what was sent.
type wire struct {
	chip *idcard.Chip
	sent [][]byte
}

func (w *wire) Transmit(ctx context.Context, command []byte) ([]byte, error) {
	w.sent = append(w.sent, bytes.Clone(command))
	return w.chip.Direct().Transmit(ctx, command)
}

func (w *wire) ATR() []byte                 { return w.chip.ATR() }
func (w *wire) Reset(context.Context) error { w.chip.Reset(); return nil }
func (w *wire) Close() error                { return nil }

var _ apdu.Card = (*wire)(nil)

var portrait = sync.OnceValue(func() []byte {
	face, err := idcard.Portrait(idcard.SpecimenPerson())
	if err != nil {
		panic(err)
	}
	return face
})

// Keys are slow to make: authorities of one kind of key share it.
var (
	curveKeys = sync.OnceValues(func() (*idcard.Authority, error) { return idcard.NewAuthority(idcard.ECDSA) })
	rsaKeys   = sync.OnceValues(func() (*idcard.Authority, error) {
		return idcard.NewAuthorityWith(both(idcard.RSA, crypto.SHA256))
	})
	mixedKeys = sync.OnceValues(func() (*idcard.Authority, error) {
		return idcard.NewAuthorityWith(idcard.AuthorityOptions{Signer: scheme(idcard.RSA, crypto.SHA256)})
	})
)

// authority is the state that issues the card.
func (c card) authority() (*idcard.Authority, error) {
	keys := curveKeys
	switch rsa := [2]bool{isRSA(c.issuer.CSCA), isRSA(c.issuer.Signer)}; rsa {
	case [2]bool{true, true}:
		keys = rsaKeys
	case [2]bool{false, true}:
		keys = mixedKeys
	}
	state, err := keys()
	if err != nil {
		return nil, err
	}
	issuer := c.issuer
	issuer.Keys = state
	return idcard.NewAuthorityWith(issuer)
}

func isRSA(s idcard.Scheme) bool { return s.Algorithm == idcard.RSA || s.Algorithm == idcard.PSS }

func scheme(a idcard.Algorithm, h crypto.Hash) idcard.Scheme {
	return idcard.Scheme{Algorithm: a, Hash: h, Bits: 2048}
}

func both(a idcard.Algorithm, h crypto.Hash) idcard.AuthorityOptions {
	return idcard.AuthorityOptions{CSCA: scheme(a, h), Signer: scheme(a, h)}
}

// reasons are short words for errors, the more telling first.
var reasons = []struct {
	err  error
	word string
}{
	{icao.ErrChipNotGenuine, "reader: chip not genuine"}, {icao.ErrBlocked, "reader: blocked"}, {icao.ErrWrongPassword, "reader: wrong password"},
	{icao.ErrSecureMessaging, "reader: secure messaging"}, {icao.ErrAccessDenied, "reader: access denied"}, {icao.ErrFileNotFound, "reader: no such file"},
	{icao.ErrTooLarge, "reader: too large"}, {icao.ErrNotEMRTD, "reader: not an eMRTD"}, {icao.ErrNeedsMRZ, "reader: needs the zone"},
	{icao.ErrMalformed, "reader: malformed"}, {icao.ErrUnsupported, "reader: unsupported"}, {icao.ErrChipRefused, "reader: refused"},

	{trust.ErrMissing, "missing"}, {trust.ErrHash, "altered"}, {trust.ErrSignature, "wrong signature"}, {trust.ErrUnknownAuthority, "unknown authority"},
	{trust.ErrCertificate, "certificate"}, {trust.ErrSignerExpired, "expired signer"}, {trust.ErrRevoked, "revoked"}, {trust.ErrChip, "not proved"},
	{trust.ErrChipCannotProve, "no key"}, {trust.ErrExpired, "expired"}, {lds.ErrCheckDigit, "check digit"}, {trust.ErrUnsupported, "unsupported"}, {trust.ErrMalformed, "malformed"},
	{identity.ErrIncomplete, "identity: incomplete"},
}

// reason says in short words who refused a card and why; "" if nobody did.
func reason(err error) string {
	if err == nil {
		return ""
	}
	var page *inspection.PageError
	if errors.As(err, &page) {
		return "page: " + strings.Join(page.Fields, ", ")
	}
	var prefix string
	var verdict *trust.Error
	if errors.As(err, &verdict) {
		prefix = string(verdict.Check) + ": "
	}
	for _, r := range reasons {
		if errors.Is(err, r.err) {
			return prefix + r.word
		}
	}
	return "untyped: " + err.Error()
}
