package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"enrollkiosk/kiosk"
	"enrollkiosk/kiosk/secret"
	"enrollkiosk/kiosk/wire"
	"enrollkiosk/kiosk/words"
)

// keys are the letters for what is not a screen's main action.
var keys = []struct {
	key    string
	action kiosk.Action
}{
	{"s", kiosk.ActionDecline}, {"o", kiosk.ActionStartOver}, {"b", kiosk.ActionBack}, {"q", kiosk.ActionSignOff},
	{"t", kiosk.ActionNoToken}, {"k", kiosk.ActionCustody}, {"v", kiosk.ActionLeave},
	{"d", kiosk.ActionDoubtPerson}, {"n", kiosk.ActionRefuse}, {"m", kiosk.ActionEnterMRZ}, {"l", kiosk.ActionChoose},
	{"p", kiosk.ActionPrint}, {"z", kiosk.ActionClose}, {"w", kiosk.ActionWrite},
	{"r", kiosk.ActionReceipts}, {"a", kiosk.ActionSetAside}, {"e", kiosk.ActionDay}, {"x", kiosk.ActionLock},
	{"g", kiosk.ActionServices}, {"f", kiosk.ActionSelfService}, {"y", kiosk.ActionTryToken},
	{"c", kiosk.ActionChangePIN}, {"h", kiosk.ActionCheckReceipt}, {"u", kiosk.ActionCancel},
	// Letters of pages that offer none of the others.
	{"y", kiosk.ActionOfAge}, {"i", kiosk.ActionBirthPaper}, {"u", kiosk.ActionFamilyPaper}, {"c", kiosk.ActionCourtPaper}, {"p", kiosk.ActionOtherPaper},
	{"a", kiosk.ActionReplace}, {"w", kiosk.ActionRenew}, {"z", kiosk.ActionEndIdentity}, {"i", kiosk.ActionWithToken}, {"u", kiosk.ActionWithReceipt},
}

// runEnroll is the desk in a terminal: it prints each state as it comes and
// asks for what the state asks for.
func runEnroll(ctx context.Context, c *command) error {
	once := c.flags.Bool("once", false, "leave after one enrollment; fails when it ended without a record")
	language := c.flags.String("language", "", "of the terminal's own words; default: the citizen's")
	if _, err := c.flagsDone(); err != nil {
		return err
	}
	config, err := c.load()
	if err != nil {
		return err
	}
	if *language != "" {
		if _, err := words.Open(*language); err != nil {
			return err
		}
	}
	desk, err := wire.Dial(config.Kiosk.Socket)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	states, err := desk.States(ctx)
	if err != nil {
		return err
	}
	t := &terminal{desk: desk, out: c.out, tty: openTTY(ctx, c.in), language: *language, once: *once}
	defer t.tty.close()
	return t.run(ctx, states)
}

type terminal struct {
	desk     kiosk.Desk
	out      io.Writer
	tty      *tty
	language string
	once     bool
	words    *words.Catalog
	number   uint64                    // of the question on the screen
	steps    map[kiosk.StepName]string // printed for this question
	hints    map[kiosk.Code]bool       // printed for this question
	left     map[kiosk.Device]bool     // printed for this question
	mrz      []secret.Text             // fields typed so far; nil outside
	scan     []byte                    // what a scanner has typed; nil outside
	receipt  []byte                    // lines of a receipt's QR code; nil outside
	scanned  <-chan time.Time          // either has come to its end
	began    bool                      // an enrollment is or was under way
	enrolled bool                      // it came to its receipt
}

// Ends of the terminal.
var (
	errGone     = fmt.Errorf("%w: it has ended", wire.ErrNoAgent)
	errNoRecord = errors.New("the enrollment ended without a record")
)

func (t *terminal) run(ctx context.Context, states <-chan kiosk.State) error {
	var s kiosk.State
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case next, ok := <-states:
			if !ok {
				if ctx.Err() != nil {
					return ctx.Err()
				}
				return errGone
			}
			if s.Revision > 0 && next.Closed > s.Closed {
				return nil
			}
			s = next
			// Who has taken the card away is asked to sign on again.
			if t.once && t.began && (s.Screen == kiosk.ScreenHome || s.Screen == kiosk.ScreenSignOn && !s.Locked) {
				if !t.enrolled {
					return errNoRecord
				}
				return nil
			}
			if err := t.draw(s); err != nil {
				return err
			}
		case <-t.tty.resume:
			t.tty.again()
		case <-t.scanned:
			if err := t.endScan(ctx, s); err != nil {
				return err
			}
		case l := <-t.tty.lines:
			if l.err != nil {
				return l.err
			}
			err := t.answer(ctx, s, l.text)
			clear(l.text)
			if err != nil {
				return err
			}
		}
	}
}

// draw prints what is new in s.
func (t *terminal) draw(s kiosk.State) error {
	language := t.language
	if language == "" {
		language = s.Language
	}
	if t.words == nil || t.words.Code() != language {
		w, err := words.Open(language)
		if err != nil {
			return err
		}
		t.words = w
	}
	if s.Position > 0 {
		t.began = true
	}
	asked := s.Number == t.number
	if !asked {
		t.number, t.mrz = s.Number, nil
		t.forgetScan()
		t.steps, t.hints, t.left = map[kiosk.StepName]string{}, map[kiosk.Code]bool{}, map[kiosk.Device]bool{}
		t.question(s)
	}
	news := t.news(s)
	prompting := s.Main != "" || len(s.Actions) > 0
	switch {
	case !asked && prompting:
		fmt.Fprint(t.out, news)
		t.prompt(s)
	case news != "" && prompting: // behind a prompt
		ask, _ := secretly(s.Main)
		if t.mrz != nil {
			ask = ""
		}
		fmt.Fprintf(t.out, "\n%s%s", news, ask)
	default:
		fmt.Fprint(t.out, news)
	}
	return nil
}

// news is what s says beyond the question and what was said before.
func (t *terminal) news(s kiosk.State) string {
	var b strings.Builder
	for _, step := range s.Steps {
		status := t.words.Status(step.Status)
		if step.Status != kiosk.StepPending && t.steps[step.Name] != status {
			t.steps[step.Name] = status
			fmt.Fprintf(&b, "    %-10s %s\n", status, t.words.Step(step.Name))
		}
	}
	for _, d := range s.Left {
		if !t.left[d] {
			t.left[d] = true
			fmt.Fprintf(&b, "    %s\n", t.words.Take(d))
		}
	}
	if f := s.Fault; f != nil && !t.hints[f.Code] {
		t.hints[f.Code] = true
		w := t.words.Trouble(*f)
		fmt.Fprintf(&b, "  ! %s %s\n    %s\n    [%s] %s\n", w.Headline, w.Do, w.Safe, f.Code, w.Staff)
	}
	if c := s.Health.LogFault; c != "" && s.Screen == kiosk.ScreenHome && !t.hints[c] {
		t.hints[c] = true
		fmt.Fprintf(&b, "  ! [%s] %s\n", c, t.words.Trouble(kiosk.Fault{Code: c}).Staff)
	}
	return b.String()
}

// question prints a screen.
func (t *terminal) question(s kiosk.State) {
	label := func(l words.Label) string { return t.words.Label(l, nil) }
	if s.Simulated && s.Screen == kiosk.ScreenHome {
		fmt.Fprintf(t.out, "\n*** %s ***\n", label(words.Training))
	}
	position := ""
	if s.Position > 0 {
		position = fmt.Sprintf(" (%d/%d)", s.Position, s.Positions)
	}
	title, instruction := t.words.Heading(s)
	fmt.Fprintf(t.out, "\n== %s%s\n   %s\n", title, position, instruction)
	switch s.Screen {
	case kiosk.ScreenHome:
		t.home(s)
	case kiosk.ScreenReceipts, kiosk.ScreenSetAside:
		t.records(s)
	case kiosk.ScreenWelcome:
		for _, l := range []words.Label{words.Welcome1, words.Welcome2, words.Welcome3, words.Welcome4} {
			fmt.Fprintf(t.out, "    %s\n", label(l))
		}
	case kiosk.ScreenNoToken:
		for _, l := range []words.Label{words.CustodyPlace, words.CustodySites, words.CustodyLater, words.CustodyLost} {
			fmt.Fprintf(t.out, "    %s\n", label(l))
		}
	}
	if v := s.Guardian; v != nil && s.Screen == kiosk.ScreenGuardian {
		fmt.Fprintf(t.out, "    %s\n    %s\n    %s\n", t.words.Label(words.GuardianWhy, words.Args{"below": v.Below}),
			t.words.Label(words.GuardianWho, words.Args{"from": v.From}), label(words.GuardianPaper))
		if slices.Contains(s.Actions, kiosk.ActionOfAge) {
			fmt.Fprintf(t.out, "    %s\n", label(words.GuardianAge))
		}
	}
	if c := s.Custody; c != nil {
		next := words.CustodyMove
		if c.Moving {
			next = words.CustodyMoving
		}
		fmt.Fprintf(t.out, "    %s: %s\n    %s\n", label(words.CustodyNumber), c.Number, label(next))
	}
	t.alone(s)
	if h := s.Holder; h != nil {
		// The officer compares these with the person: they are shown on this
		// terminal and nowhere else.
		for _, f := range []struct {
			label words.Label
			value string
		}{{words.Surname, reveal(h.Surname)}, {words.GivenNames, reveal(h.GivenNames)}, {words.Number, reveal(h.Number)},
			{words.Birth, reveal(h.Birth)}, {words.Expiry, reveal(h.Expiry)}, {words.Nationality, h.Nationality}, {words.Issuer, h.Issuer}} {
			fmt.Fprintf(t.out, "    %s: %s\n", label(f.label), f.value)
		}
		if s.Screen == kiosk.ScreenCompare || s.Screen == kiosk.ScreenSecondOfficer || s.Screen == kiosk.ScreenGuardianCompare {
			fmt.Fprintf(t.out, "    %s\n", label(words.NoPhoto)) // a terminal draws none
		}
	}
	for _, c := range s.Checks {
		fmt.Fprintf(t.out, "    %-12s %s\n", t.words.Verdict(c.Verdict), t.words.Check(c.Name))
	}
	for _, l := range s.Lacks {
		fmt.Fprintf(t.out, "  ! %s\n", t.words.Lack(l))
	}
	if len(s.Lacks) > 0 && (s.Screen == kiosk.ScreenCompare || s.Screen == kiosk.ScreenGuardianCompare) {
		fmt.Fprintf(t.out, "    %s\n", label(words.SecondNeeded))
	}
	if c := s.Consent; c != nil {
		need := words.Optional
		if c.Required {
			need = words.Required
		}
		fmt.Fprintf(t.out, "    %s\n    %s\n    %s\n    %s\n", t.words.Label(words.PurposeOf, words.Args{"index": c.Index, "count": c.Count}),
			c.Title, c.Text, label(need))
	}
	if r := s.Review; r != nil {
		t.review(r)
	}
	if r := s.Record; r != nil {
		t.record(*r)
	}
	if v := s.Day; v != nil {
		t.day(*v)
	}
	if s.Screen == kiosk.ScreenScanReceipt {
		fmt.Fprintf(t.out, "    %s\n", label(words.ScanNow))
	}
	if p := s.PIN; p != nil {
		if p.Problem != kiosk.PINFine {
			fmt.Fprintf(t.out, "  ! %s\n", t.words.Problem(*p))
		}
		if !slices.Contains(s.Actions, kiosk.ActionFind) && !slices.Contains(s.Actions, kiosk.ActionNote) {
			fmt.Fprintf(t.out, "    %s\n", t.digits(*p))
		}
	}
	if slices.Contains(s.Actions, kiosk.ActionScanMRZ) {
		fmt.Fprintf(t.out, "    %s\n", label(words.ScanHint))
	}
	if r := s.Receipt; r != nil {
		t.enrolled = true
		fmt.Fprintf(t.out, "    %s: %s\n    %s: %s\n    %s\n", label(words.Record), r.RecordID,
			label(words.CancelCode), reveal(r.CancelCode), label(words.CancelHint))
		if code := r.ClaimCode(); code != "" {
			fmt.Fprintf(t.out, "    %s: %s\n    %s\n", label(words.ClaimCode), code, label(words.ClaimHint))
		}
		if r.Custody != "" {
			fmt.Fprintf(t.out, "    %s: %s\n    %s\n", label(words.CustodyNumber), r.Custody, label(words.CustodyHint))
		}
		if r.Final != "" {
			fmt.Fprintf(t.out, "    %s\n%s\n", label(words.ReceiptFinal), r.Final)
		} else {
			fmt.Fprintf(t.out, "    %s\n    %s\n", label(words.ReceiptWaiting), r.Provisional)
		}
		if r.Printed {
			fmt.Fprintf(t.out, "    %s\n", label(words.Printed))
		}
	}
}

// alone is what came of what a citizen did without an officer.
func (t *terminal) alone(s kiosk.State) {
	say := func(said ...string) {
		for _, line := range said {
			fmt.Fprintf(t.out, "    %s\n", line)
		}
	}
	label := func(l words.Label) string { return t.words.Label(l, nil) }
	if v := s.Token; v != nil {
		if v.Changed {
			say(label(words.OwnChanged))
		} else {
			say(label(words.OwnTried))
		}
	}
	if v := s.Proof; v != nil {
		say(label(words.Record)+": "+v.RecordID, t.words.Receipt(v.Kind), t.words.Outcome(v.Standing))
	}
	if s.Screen == kiosk.ScreenConfirmCancel {
		say(label(words.Cancel1), label(words.Cancel2), label(words.Cancel3))
	}
	if s.Screen == kiosk.ScreenConfirmEnd {
		say(label(words.End1), label(words.End2), label(words.End3))
	}
	if v := s.Ended; v != nil && v.RecordID != "" {
		say(label(words.Record)+": "+v.RecordID, label(words.Saved)+": "+v.At.Local().Format(time.DateTime))
	} else if v != nil {
		say(t.words.Label(words.CancelledAt, words.Args{"time": v.At.Local().Format(time.DateTime)}), label(words.CancelledNext))
	}
}

// home is what the officer wants to know of the machine between two citizens.
func (t *terminal) home(s kiosk.State) {
	h := s.Health
	line, waiting := words.NotReached, words.NothingWaiting
	if h.Registry {
		line = words.Reached
	}
	args := words.Args{"count": h.Queued}
	if h.Queued > 0 {
		waiting = words.WaitingRecords
	}
	fmt.Fprintf(t.out, "    %s: %d %s, %d %s, %d %s\n", t.words.Label(words.TodayTitle, nil), h.Today.Enrolled, t.words.Label(words.DayEnrolled, nil),
		h.Today.Delivered, t.words.Label(words.DayDelivered, nil), h.Today.Refused, t.words.Label(words.DayRefused, nil))
	fmt.Fprintf(t.out, "    %s\n    %s: %s. %s.\n", t.words.Label(words.SignedOn, words.Args{"number": s.Officer}),
		t.words.Label(words.Connection, nil), t.words.Label(line, nil), t.words.Label(waiting, args))
	if !h.Registry && h.RegistryNote != "" {
		fmt.Fprintf(t.out, "    %s %s\n", t.words.Trouble(kiosk.Fault{Code: h.RegistryNote}).Staff, h.RegistryNote)
	}
	if h.Inspector != "" {
		fmt.Fprintf(t.out, "    %s\n", t.words.Label(words.InspectedBy, words.Args{"name": h.Inspector}))
	}
	for _, code := range h.Alarms {
		fmt.Fprintf(t.out, "    %s %s\n", t.words.Trouble(kiosk.Fault{Code: code}).Staff, code)
	}
	if !h.NextTry.IsZero() && h.Queued > 0 {
		fmt.Fprintf(t.out, "    %s\n", t.words.Label(words.NextTry, words.Args{"time": h.NextTry.Local().Format(time.TimeOnly)}))
	}
	if !h.Oldest.IsZero() {
		fmt.Fprintf(t.out, "    %s\n", t.words.Label(words.Oldest, words.Args{"time": h.Oldest.Local().Format(time.DateTime)}))
	}
	if h.Quarantined > 0 {
		fmt.Fprintf(t.out, "    %s\n", t.words.Label(words.SetAside, words.Args{"count": h.Quarantined}))
	}
}

func (t *terminal) review(r *kiosk.ReviewView) {
	list := func(l words.Label, items []string) {
		fmt.Fprintf(t.out, "    %s:\n", t.words.Label(l, nil))
		for _, item := range items {
			fmt.Fprintf(t.out, "      %s\n", item)
		}
	}
	items := func(names []string) (out []string) {
		for _, name := range names {
			out = append(out, t.words.Item(name))
		}
		return out
	}
	var agreed []string
	for _, c := range r.Consents {
		agreed = append(agreed, c.Title)
	}
	list(words.Sealed, items(r.Sealed))
	list(words.RegistrySees, items(r.Open))
	list(words.Agreed, agreed)
	list(words.Identifier, []string{r.DID})
}

func (t *terminal) digits(p kiosk.PINView) string {
	args := words.Args{"min": p.Min, "max": p.Max}
	if p.Min == kiosk.CancelCodeSize {
		return t.words.Label(words.LettersExact, args)
	}
	if p.Min == p.Max {
		return t.words.Label(words.DigitsExact, args)
	}
	return t.words.Label(words.DigitsRange, args)
}

func reveal(v secret.Text) string { return string(v.Reveal()) }

// secretly says whether what an action takes is typed without echo, and how it
// is asked for.
func secretly(a kiosk.Action) (prompt string, hidden bool) {
	switch a {
	case kiosk.ActionSignOn, kiosk.ActionPIN, kiosk.ActionApprove:
		return "PIN> ", true
	case kiosk.ActionEnterCAN:
		return "CAN> ", true
	case kiosk.ActionGiveCode, kiosk.ActionScan:
		return "> ", true
	}
	return "> ", false
}

// prompt says what can be typed.
func (t *terminal) prompt(s kiosk.State) {
	ask, hidden := secretly(s.Main)
	hidden = hidden || slices.Contains(s.Actions, kiosk.ActionScanMRZ)
	t.tty.echo(!hidden) // before the prompt: what is typed at once is not shown either
	var others []string
	for _, k := range keys {
		if k.action != s.Main && slices.Contains(s.Actions, k.action) {
			others = append(others, k.key+" = "+t.name(s, k.action))
		}
	}
	switch {
	case s.Screen == kiosk.ScreenLanguage:
		fmt.Fprintf(t.out, "   %s", strings.Join(s.Languages, " / "))
	case s.Main != "":
		fmt.Fprintf(t.out, "   Enter = %s", t.words.Action(s.Main))
	}
	if len(others) > 0 {
		fmt.Fprintf(t.out, "   (%s)", strings.Join(others, ", "))
	}
	fmt.Fprintf(t.out, "\n%s", ask)
}

// name is what the letter for an action stands for.
func (t *terminal) name(s kiosk.State, a kiosk.Action) string {
	switch a {
	case kiosk.ActionEnterMRZ:
		return t.words.Label(words.UseMRZ, nil)
	case kiosk.ActionChoose:
		if next, err := words.Open(following(s)); err == nil {
			return next.Name()
		}
	}
	return t.words.Action(a)
}

// answer turns a typed line into an intent.
func (t *terminal) answer(ctx context.Context, s kiosk.State, text []byte) error {
	if slices.Contains(s.Actions, kiosk.ActionScanMRZ) && t.scans(text) || slices.Contains(s.Actions, kiosk.ActionFind) && t.finds(text) {
		return nil
	}
	if t.mrz != nil {
		return t.mrzField(ctx, s, text)
	}
	if t.hears(s, text) {
		return nil
	}
	in := kiosk.Intent{State: s.Number, Action: s.Main}
	for _, k := range keys {
		if k.action != s.Main && string(text) == k.key && slices.Contains(s.Actions, k.action) {
			in.Action, text = k.action, nil
			break
		}
	}
	if in.Action == kiosk.ActionNote {
		text = bytes.ToUpper(bytes.TrimSpace(text))
	}
	if _, hidden := secretly(in.Action); hidden || in.Action == kiosk.ActionNumber || in.Action == kiosk.ActionNote {
		if len(text) == 0 {
			t.prompt(s)
			return nil
		}
		in.Secret = secret.New(bytes.Clone(text))
		if hidden {
			fmt.Fprintln(t.out) // the one that was not echoed
		}
	}
	switch in.Action {
	case "":
		return nil // nothing to answer: the machine works, or a card is awaited
	case kiosk.ActionChoose:
		var ok bool
		if in.Choice, ok = choice(s, string(text)); !ok {
			t.prompt(s)
			return nil
		}
	case kiosk.ActionAccept, kiosk.ActionRefuse:
		if s.Consent == nil {
			return nil
		}
		in.Choice = s.Consent.ID
	case kiosk.ActionEnterMRZ:
		t.mrz = []secret.Text{}
		t.tty.echo(true)
		fmt.Fprintf(t.out, "\n   %s\n", t.words.Label(words.MRZInstruction, nil))
		t.askMRZ()
		return nil
	}
	t.tty.echo(true)
	err := t.desk.Send(ctx, in)
	in.Wipe()
	return err
}

// choice is the language that a line chooses: on the language screen the one
// typed, or the present one for an empty line; elsewhere the next one.
func choice(s kiosk.State, typed string) (language string, ok bool) {
	switch {
	case slices.Contains(s.Languages, typed):
		return typed, true
	case s.Screen == kiosk.ScreenLanguage:
		return s.Language, typed == ""
	}
	return following(s), len(s.Languages) > 0
}

// following is the language after the present one.
func following(s kiosk.State) string {
	if len(s.Languages) == 0 {
		return ""
	}
	return s.Languages[(slices.Index(s.Languages, s.Language)+1)%len(s.Languages)]
}

// The three fields that open a chip without an access number.
var mrzFields = []words.Label{words.MRZNumber, words.MRZBirth, words.MRZExpiry}

func (t *terminal) askMRZ() { fmt.Fprintf(t.out, "%s> ", t.words.Label(mrzFields[len(t.mrz)], nil)) }

// mrzField collects document number, birth and expiry, one line each. An empty
// line goes back to the screen's own question.
func (t *terminal) mrzField(ctx context.Context, s kiosk.State, text []byte) error {
	text = bytes.ToUpper(bytes.TrimSpace(text))
	if len(text) == 0 {
		t.mrz = nil
		t.prompt(s)
		return nil
	}
	if t.mrz = append(t.mrz, secret.New(text)); len(t.mrz) < len(mrzFields) {
		t.askMRZ()
		return nil
	}
	in := kiosk.Intent{State: s.Number, Action: kiosk.ActionEnterMRZ,
		MRZ: &kiosk.MRZKey{Number: t.mrz[0], Birth: t.mrz[1], Expiry: t.mrz[2]}}
	t.mrz = nil
	err := t.desk.Send(ctx, in)
	in.Wipe()
	return err
}
