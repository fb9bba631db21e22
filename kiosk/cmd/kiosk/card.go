package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/term"

	"enrollkiosk/kiosk/secret"
	"enrollkiosk/kiosk/station"
	"enrollkiosk/registry/record"
	"enrollkiosk/smartcard/apdu"
	"enrollkiosk/smartcard/beid"
	"enrollkiosk/smartcard/icao"
	"enrollkiosk/smartcard/identity"
	"enrollkiosk/smartcard/inspection"
	"enrollkiosk/smartcard/lds"
	"enrollkiosk/smartcard/pcsc"
	"enrollkiosk/smartcard/prcid"
	"enrollkiosk/smartcard/trust"
)

// cardReport is what card read and card verify say; personal data stands in it
// only because the person who holds the card asked for it.
type cardReport struct {
	Reader   string          `json:"reader,omitempty"`
	Kind     identity.Kind   `json:"kind"`
	Access   string          `json:"access,omitempty"`
	Files    []fileReport    `json:"files"`
	APDUs    int             `json:"apdus,omitempty"`
	Bytes    int             `json:"bytes,omitempty"`
	Millis   int64           `json:"milliseconds,omitempty"`
	Report   json.RawMessage `json:"report,omitempty"`
	Proofs   []trust.Proof   `json:"proofs,omitempty"` // of an eMRTD
	Lacks    []identity.Lack `json:"lacks,omitempty"`
	Warnings []string        `json:"warnings,omitempty"`
	Refused  string          `json:"refused,omitempty"`
	Surname  string          `json:"surname,omitempty"`
	Given    string          `json:"given_names,omitempty"`
	Number   string          `json:"number,omitempty"`
	Birth    string          `json:"birth,omitempty"`
	Expiry   string          `json:"expiry,omitempty"`
	Sex      string          `json:"sex,omitempty"`
	Nation   string          `json:"nationality,omitempty"`
	Issuer   string          `json:"issuer,omitempty"`
	Details  []detail        `json:"details,omitempty"` // of further files

	verdicts []namedVerdict
}

type fileReport struct {
	Name  string `json:"name"`
	Bytes int    `json:"bytes"`
}

type namedVerdict struct {
	name    string
	verdict trust.Verdict
}

// readLimit bounds the reading of one card.
const readLimit = 2 * time.Minute

// cardFlags are the flags of card read.
type cardFlags struct {
	reader, can, zone, number, born, expires, files, trust, save, trace string
	resident                                                            bool
}

func runCardRead(ctx context.Context, c *command) error {
	var f cardFlags
	c.flags.StringVar(&f.reader, "reader", "", "part of the reader's `name`; default: readers.document of the configuration")
	c.flags.StringVar(&f.can, "can", "", "card access `number`; asked for when nothing else opens the card")
	c.flags.StringVar(&f.zone, "mrz", "", "the whole machine readable `zone`; the chip must say the same")
	c.flags.StringVar(&f.number, "doc", "", "document `number`")
	c.flags.StringVar(&f.born, "born", "", "date of birth, `YYMMDD`")
	c.flags.StringVar(&f.expires, "expires", "", "date of expiry, `YYMMDD`")
	c.flags.StringVar(&f.files, "files", "", "further `files` to read, such as DG7,DG11; all reads every file but fingerprints and iris")
	c.flags.StringVar(&f.trust, "trust", "", "trust the issuers in `directory`, not those of the policy")
	c.flags.StringVar(&f.save, "save", "", "write the raw files to `directory`: personal data")
	c.flags.StringVar(&f.trace, "apdu-log", "", "write commands and answers to `file`, without what opens the card and what it holds")
	c.flags.BoolVar(&f.resident, "resident", false, "read a resident identity card on the module of the configuration")
	if _, err := c.flagsDone(); err != nil {
		return err
	}
	s, err := c.inspectionSetting(f)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, readLimit)
	defer cancel()
	if s.document, err = s.procedure(ctx, f); err != nil {
		return err
	}
	defer s.document.Close()
	return s.read(ctx, f)
}

// inspectionOf is one inspection from the command line.
type inspectionOf struct {
	c        *command
	config   station.Config
	trusted  station.Trusted
	unsigned identity.Unsigned
	reader   string
	trace    io.WriteCloser
	traffic  struct{ apdus, bytes int }
	document inspection.Document
	observed map[string][]byte // files as they came, by name
	passport *inspection.Passport
}

// inspectionSetting finds out whom to trust: a folder needs no configuration.
func (c *command) inspectionSetting(f cardFlags) (*inspectionOf, error) {
	s := &inspectionOf{c: c, reader: f.reader, observed: map[string][]byte{}}
	var err error
	if f.trust == "" || f.reader == "" || f.resident {
		if s.config, err = c.load(); err != nil {
			return nil, err
		}
	}
	if s.reader == "" {
		s.reader = s.config.Readers.Document
	}
	if f.trust != "" {
		s.trusted, err = station.ReadTrust(f.trust, time.Now())
		s.unsigned = identity.Unsigned{Accept: true} // the report says what it is worth
		return s, err
	}
	p, err := station.Policy(s.config)
	if err != nil {
		return nil, err
	}
	s.trusted, err = station.TrustOf(p)
	rule, _ := p.Document(record.PRCResident)
	s.unsigned = identity.Unsigned{Accept: true, Simulated: rule.Class == record.Test}
	return s, err
}

// procedure recognises what lies on the reader and asks for what opens it.
func (s *inspectionOf) procedure(ctx context.Context, f cardFlags) (inspection.Document, error) {
	if f.resident {
		module, err := station.ResidentModule(ctx, s.config)
		if err != nil {
			return nil, err
		}
		s.reader = s.config.Resident.Port
		return inspection.Resident(module, inspection.ResidentOptions{Now: time.Now, Unsigned: s.unsigned}), nil
	}
	name, err := findReader(ctx, s.reader)
	if err != nil {
		return nil, err
	}
	s.reader = name
	if f.trace != "" {
		if s.trace, err = os.OpenFile(f.trace, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600); err != nil {
			return nil, usageError{err.Error()}
		}
	}
	card, err := s.connect(ctx)
	if err != nil {
		return nil, err
	}
	kind, err := inspection.Recognise(ctx, card)
	card.Close()
	if err != nil {
		return nil, err
	}
	if kind == identity.BelgianEID {
		return inspection.Belgian(s.connect, inspection.BelgianOptions{Roots: s.trusted.Belgian, Now: time.Now, KeepExpired: true,
			Observe: func(f beid.File, b []byte) { s.observed[fmt.Sprintf("%04X", uint16(f))] = b }}), nil
	}
	opts := inspection.EMRTDOptions{Anchors: s.trusted.Anchors, Now: time.Now, KeepExpired: true,
		Observe: func(f lds.File, b []byte) { s.observed[f.String()] = b }}
	if opts.Files, opts.All, err = parseFiles(f.files); err != nil {
		return nil, err
	}
	if opts.Password, opts.Printed, err = s.c.password(ctx, f); err != nil {
		return nil, err
	}
	s.passport = inspection.EMRTD(s.connect, opts)
	return s.passport, nil
}

func parseFiles(list string) (files []lds.File, all bool, err error) {
	if list == "" {
		return nil, false, nil
	}
	if list == "all" {
		return []lds.File{lds.DG2}, true, nil
	}
	files = []lds.File{lds.DG2}
	for _, name := range strings.Split(list, ",") {
		f, err := lds.ParseFile(strings.TrimSpace(name))
		if err != nil || f.Group() == 0 {
			return nil, false, usageError{fmt.Sprintf("--files: %q is no data group: DG1 to DG16, or all", name)}
		}
		files = append(files, f)
	}
	return files, false, nil
}

// connected counts what crosses a card, and traces it when asked to.
type connected struct {
	*pcsc.Card
	via apdu.Card
	s   *inspectionOf
}

func (c connected) Transmit(ctx context.Context, command []byte) ([]byte, error) {
	answer, err := c.via.Transmit(ctx, command)
	c.s.traffic.apdus++
	c.s.traffic.bytes += len(command) + len(answer)
	return answer, err
}

func (s *inspectionOf) connect(ctx context.Context) (inspection.Card, error) {
	card, err := pcsc.Connect(ctx, s.reader)
	if err != nil {
		return nil, err
	}
	c := connected{card, card, s}
	if s.trace != nil {
		c.via = icao.Trace(card, s.trace)
	}
	return c, nil
}

// read runs the inspection and says how it ended. What was refused is told with
// everything that was found out.
func (s *inspectionOf) read(ctx context.Context, f cardFlags) error {
	began := time.Now()
	bar := newBar(s.c.err)
	holder, refusal := s.document.Read(ctx, bar.show)
	var challenge [32]byte
	rand.Read(challenge[:])
	if refusal == nil && s.document.Signs() {
		holder, refusal = s.document.Bind(ctx, challenge)
	}
	bar.clear()
	if s.trace != nil {
		if err := s.trace.Close(); err != nil {
			return err
		}
	}
	if f.save != "" && len(s.observed) > 0 {
		if err := saveFiles(f.save, savedCard{Kind: s.document.Kind(), Access: s.access()}, s.files(holder)); err != nil {
			return err
		}
		fmt.Fprintln(s.c.err, "The saved files are personal data: protect and delete them.")
	}
	if refusal != nil && !judged(refusal) {
		return refusal
	}
	out := cardReport{Reader: s.reader, Kind: s.document.Kind(), Millis: time.Since(began).Milliseconds(),
		APDUs: s.traffic.apdus, Bytes: s.traffic.bytes, Access: s.access()}
	out.listFiles(s.files(holder))
	out.fill(holder, refusal)
	if s.passport != nil && refusal == nil {
		out.Proofs = s.passport.Report().Proofs()
		out.Warnings = append(out.Warnings, s.passport.Chip().Warnings()...)
	}
	if !holder.Valid() {
		out.unverified(s.observed)
		if s.passport != nil {
			out.ofReport(s.passport.Report())
		}
	}
	if err := s.c.print(out.human(), out); err != nil {
		return err
	}
	return refusal
}

func (s *inspectionOf) access() string {
	if s.passport != nil && s.passport.Chip() != nil {
		return s.passport.Chip().Document().Access
	}
	return ""
}

// files are the raw files by name, from the card or, where that hands over
// nothing on the way, from the verified holder.
func (s *inspectionOf) files(h identity.Holder) map[string][]byte {
	if s.passport != nil && s.passport.Chip() != nil {
		for f, b := range s.passport.Chip().Document().Files { // EF.CardAccess and EF.CardSecurity too
			s.observed[f.String()] = b
		}
	}
	if len(s.observed) == 0 {
		for f, b := range h.Files() {
			s.observed[fmt.Sprintf("%04X", f)] = b
		}
	}
	return s.observed
}

// judged says whether an error is the verdict over a document that was read.
func judged(err error) bool {
	var ofTrust *trust.Error
	var ofBelgian *beid.Error
	var page *inspection.PageError
	return errors.As(err, &ofTrust) || errors.As(err, &ofBelgian) || errors.As(err, &page) || errors.Is(err, icao.ErrChipNotGenuine) ||
		errors.Is(err, trust.ErrExpired)
}

func (r *cardReport) listFiles(files map[string][]byte) {
	for name, b := range files {
		r.Files = append(r.Files, fileReport{name, len(b)})
	}
	r.Details = details(files)
	slices.SortFunc(r.Files, func(a, b fileReport) int { return strings.Compare(a.Name, b.Name) })
}

// fill takes over what is verified.
func (r *cardReport) fill(h identity.Holder, refusal error) {
	if refusal != nil {
		r.Refused = refusal.Error()
		return
	}
	r.Report, r.Lacks, r.Warnings = h.Report(), h.Lacks(), h.Warnings()
	r.person(h.Person(time.Now()))
	for _, c := range h.Checks() {
		r.verdicts = append(r.verdicts, namedVerdict{string(c.Name), c.Verdict})
	}
}

func (r *cardReport) person(p identity.Person) {
	r.Surname, r.Given, r.Number = reveal(p.Surname), reveal(p.GivenNames), reveal(p.Number)
	r.Birth, r.Expiry, r.Nation = reveal(p.Birth), reveal(p.Expiry), reveal(p.Nationality)
	r.Sex, r.Issuer = p.Sex, p.Issuer
}

// unverified shows what a refused eMRTD says, which the last line calls not genuine.
func (r *cardReport) unverified(files map[string][]byte) {
	if m, err := lds.ParseDG1(files[lds.DG1.String()]); err == nil || errors.Is(err, lds.ErrCheckDigit) {
		r.Surname, r.Given, r.Number = reveal(m.Primary), reveal(m.Secondary), reveal(m.Number)
		r.Birth, r.Expiry, r.Nation = reveal(m.Birth.Text()), reveal(m.Expiry.Text()), reveal(m.Nationality)
		r.Sex, r.Issuer = string(m.Sex), m.Issuer
	}
}

func (r *cardReport) ofReport(report trust.Report) {
	r.Report, _ = json.Marshal(report)
	for _, w := range report.Warnings {
		r.Warnings = append(r.Warnings, string(w))
	}
	r.verdicts = []namedVerdict{{"unaltered", report.Hashes}, {"signature", report.Signature}, {"chain", report.Chain}, {"revoked", report.Revocation},
		{"structure", report.Structure}, {"chip", report.ChipAuthentication}, {"challenge", report.ActiveAuthentication}, {"validity", report.Validity}}
}

func (r cardReport) human() string {
	var b strings.Builder
	line := func(name, format string, a ...any) {
		fmt.Fprintf(&b, "%-11s "+format+"\n", append([]any{name}, a...)...)
	}
	if r.Reader != "" {
		line("reader", "%s", r.Reader)
	}
	line("kind", "%s", r.Kind)
	if r.Access != "" {
		line("opened", "%s", r.Access)
	}
	var files []string
	for _, f := range r.Files {
		files = append(files, fmt.Sprintf("%s (%d)", f.Name, f.Bytes))
	}
	line("files", "%s", strings.Join(files, ", "))
	if r.Millis > 0 {
		line("traffic", "%d APDUs, %d bytes, %d ms", r.APDUs, r.Bytes, r.Millis)
	}
	line("name", "%s", strings.TrimSuffix(r.Surname+", "+r.Given, ", "))
	line("number", "%s (%s)", r.Number, r.Issuer)
	line("born", "%s", r.Birth)
	line("expires", "%s", r.Expiry)
	for _, d := range r.Details {
		line(d.File, "%s: %s", d.Field, d.Value)
	}
	for _, v := range r.verdicts {
		if v.verdict != "" {
			line(v.name, "%s", v.verdict)
		}
	}
	for _, p := range r.Proofs {
		line("proof", "%s", p)
	}
	for _, w := range r.Warnings {
		line("warning", "%s", w)
	}
	for _, l := range r.Lacks {
		line("LACKS", "%s", map[identity.Lack]string{
			identity.NoChipProof:       "nothing shows that this is the original chip",
			identity.NoIssuerSignature: "no signature of the issuer protects the data: " + prcid.Worth}[l])
	}
	if r.Refused != "" {
		line("NOT GENUINE", "%s", r.Refused)
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// password takes the access data from flags, or asks for them.
func (c *command) password(ctx context.Context, f cardFlags) (icao.Password, *lds.MRZ, error) {
	switch {
	case f.can != "":
		return icao.CAN(secret.FromString(f.can)), nil, nil
	case f.zone != "":
		return zonePassword(f.zone)
	case f.number != "" || f.born != "" || f.expires != "":
		info, err := lds.MRZInformation(f.number, f.born, f.expires)
		if err != nil {
			return icao.Password{}, nil, usageError{"--doc, --born and --expires: " + err.Error()}
		}
		return icao.MRZ(info), nil, nil
	case !term.IsTerminal(int(c.in.Fd())):
		return icao.Password{}, nil, usageError{"what opens the card is missing: --can, --mrz, or --doc, --born and --expires"}
	}
	t := openTTY(ctx, c.in)
	defer t.close()
	t.echo(false)
	fmt.Fprint(c.err, "CAN (6 digits on the card), or scan the machine readable zone: ")
	defer fmt.Fprintln(c.err)
	var typed []byte
	defer func() { clear(typed) }()
	// A scanner types the zone's lines with a line break after each.
	for range 3 {
		line, err := t.hide(ctx)
		if err != nil {
			return icao.Password{}, nil, err
		}
		typed = append(append(typed, line...), '\n')
		if len(typed) <= shortestZoneLine {
			return icao.CAN(secret.New(line)), nil, nil
		}
		if _, err := lds.ParseScan(string(typed)); err == nil {
			break
		}
	}
	return zonePassword(string(typed))
}

// shortestZoneLine is less than a line of any zone and more than an access number.
const shortestZoneLine = 20

func zonePassword(zone string) (icao.Password, *lds.MRZ, error) {
	printed, err := lds.ParseScan(zone)
	if err != nil {
		return icao.Password{}, nil, usageError{"machine readable zone: " + err.Error()}
	}
	info, err := printed.Information()
	if err != nil {
		return icao.Password{}, nil, usageError{"machine readable zone: " + err.Error()}
	}
	return icao.MRZ(info), &printed, nil
}

// findReader returns the name of the first reader that has part in it and a card.
func findReader(ctx context.Context, part string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	list, err := pcsc.List(ctx)
	if err != nil {
		return "", err
	}
	nothing := fmt.Errorf("%q: %w", part, pcsc.ErrNoReader)
	for _, r := range list {
		switch {
		case !strings.Contains(r.Name, part):
		case r.Unresponsive:
			return "", pcsc.ErrUnresponsive
		case r.Card:
			return r.Name, nil
		default: // perhaps the other slot of the same device
			nothing = fmt.Errorf("%s: %w", r.Name, pcsc.ErrNoCard)
		}
	}
	return "", nothing
}
