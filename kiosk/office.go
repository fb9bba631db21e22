package kiosk

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"maps"
	"strings"
	"sync"
	"time"

	"enrollkiosk/kiosk/secret"
	"enrollkiosk/registry/receipt"
	"enrollkiosk/registry/record"
	"enrollkiosk/sync/queue"
)

// What an officer does at the desk between two citizens: receipts, records that
// were set aside, the day's summary, and leaving it for a while.

// Standing is what has become of a record and of the identity that it brought.
type Standing string

const (
	StandingWaiting   Standing = "waiting"   // to be sent
	StandingReceipted Standing = "receipted" // in the registry's log; nothing is decided yet
	StandingActive    Standing = "active"    // the identity authority has confirmed it
	StandingRefused   Standing = "refused"   // it has not
	StandingSuspended Standing = "suspended"
	StandingRevoked   Standing = "revoked"
	StandingSetAside  Standing = "set-aside" // rejected; the record is kept here
	StandingUntold    Standing = "untold"    // the registry tells nothing about the receipt: it has no such record, or not yet
	StandingUnknown   Standing = "unknown"   // the registry could not be asked
)

// RecordView is a record as an officer may see it: nothing in it names a person.
type RecordView struct {
	ID       string    // hex
	Saved    time.Time // here
	Done     time.Time // receipted or set aside; zero when neither
	Standing Standing
	Code     string // why it was set aside or refused
	QR       string // what a copy of the receipt holds; "" when there is nothing to be had
	Final    bool   // that is the registry's receipt
	Printed  bool   // the page is on paper
	File     string // or has this name
}

// Number is the record's, in groups of eight digits.
func (v RecordView) Number() string { return inGroups(v.ID) }

// DayView is what was done at this kiosk since midnight, local time.
type DayView struct {
	At        time.Time // as of
	Officer   string    // who asks
	Own, All  DayCounts // the officer's, and everybody's
	Delivered int       // receipts that came
	Refused   int
	Waiting   int // records that are still here
	SetAside  int
	Alarms    []Code // in force now
	Printed   bool
	File      string
}

// Ending is how an enrollment ended that brought no record.
type Ending string

const (
	EndDeclined    Ending = "declined"     // the citizen did not want it
	EndDoubted     Ending = "doubted"      // the officer did not recognise the person
	EndStartedOver Ending = "started-over" // somebody left it
	EndTimedOut    Ending = "timed-out"    // nobody answered
	EndUnproven    Ending = "unproven"     // the document failed a proof
	EndFault       Ending = "fault"        // anything else
)

// Endings lists them all.
func Endings() []Ending {
	return []Ending{EndDeclined, EndDoubted, EndStartedOver, EndTimedOut, EndUnproven, EndFault}
}

// DayCounts are counts of a day.
type DayCounts struct {
	Enrolled int            `json:"enrolled,omitempty"`
	Second   int            `json:"second,omitempty"` // of them, those to which a second officer agreed
	Ended    map[Ending]int `json:"ended,omitempty"`
	Faults   map[Code]int   `json:"faults,omitempty"` // as often as people were told of one
}

// Plus is the sum; neither summand changes.
func (c DayCounts) Plus(o DayCounts) DayCounts {
	c.Enrolled, c.Second = c.Enrolled+o.Enrolled, c.Second+o.Second
	c.Ended, c.Faults = plus(c.Ended, o.Ended), plus(c.Faults, o.Faults)
	return c
}

func plus[K comparable](a, b map[K]int) map[K]int {
	sum := maps.Clone(a)
	if sum == nil {
		sum = map[K]int{}
	}
	for k, n := range b {
		sum[k] += n
	}
	return sum
}

// Unfinished is how many enrollments brought no record.
func (c DayCounts) Unfinished() (n int) {
	for _, k := range c.Ended {
		n += k
	}
	return n
}

// Trouble is how often people were told of something amiss with a device.
func (c DayCounts) Trouble(d Device) (n int) {
	for code, k := range c.Faults {
		if of, ok := deviceOf(code); ok && of == d {
			n += k
		}
	}
	return n
}

// deviceOf says which device a fault is one of, if any.
func deviceOf(c Code) (Device, bool) {
	family, _, _ := strings.Cut(strings.TrimPrefix(string(c), "K-"), "-")
	d, ok := map[string]Device{"CARD": DeviceDocument, "TOKEN": DeviceToken, "OFFICER": DeviceOfficer, "TPM": DeviceTPM, "KEY": DeviceTPM,
		"QUEUE": DeviceDisk, "CLOCK": DeviceClock, "NET": DeviceRegistry, "LOG": DeviceRegistry, "PRINT": DevicePrinter}[family]
	return d, ok
}

// Midnight begins the local day of t.
func Midnight(t time.Time) time.Time {
	y, m, d := t.Local().Date()
	return time.Date(y, m, d, 0, 0, 0, 0, time.Local)
}

// faults are those that people were told of since they were last noted.
type faults struct {
	mu    sync.Mutex
	count map[Code]int
}

func (f *faults) add(c Code) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.count == nil {
		f.count = map[Code]int{}
	}
	f.count[c]++
}

func (f *faults) take() map[Code]int {
	f.mu.Lock()
	defer f.mu.Unlock()
	taken := f.count
	f.count = nil
	return taken
}

// note writes into the diary; what the zero officer does is nobody's own. What it
// cannot keep is lost to the summary only.
func (a *Agent) note(o officer, more DayCounts) {
	more.Faults = a.faults.take()
	if more.Enrolled == 0 && len(more.Ended) == 0 && len(more.Faults) == 0 {
		return
	}
	var who [32]byte
	if o.leaf != nil {
		who = o.digest()
	}
	if err := a.cfg.Diary.Note(who, a.now(), more); err != nil {
		a.log.Error("the day's counts are not kept", "cause", err)
	}
	select {
	case a.noted <- struct{}{}:
	default:
	}
}

// ending classes what ended an enrollment.
func ending(err error) Ending {
	var fault *Fault
	switch {
	case errors.Is(err, errDeclined):
		return EndDeclined
	case errors.Is(err, errDoubted):
		return EndDoubted
	case errors.As(err, &fault) && fault.Code == CodeTimedOut:
		return EndTimedOut
	case errors.As(err, &fault) && strings.HasPrefix(string(fault.Code), "K-PROOF-"):
		return EndUnproven
	case errors.Is(err, errStartOver):
		return EndStartedOver
	}
	return EndFault
}

// home shows the machine and asks what is next.
func (a *Agent) home(ctx context.Context, d *desk) (Intent, error) {
	in, answered, err := d.wait(ctx, func() State {
		return State{Screen: ScreenHome, Turn: TurnOfficer, Main: ActionStart,
			Actions: []Action{ActionStart, ActionServices, ActionReceipts, ActionSetAside, ActionDay, ActionLock, ActionSignOff, ActionClose, ActionChoose}}
	}, func(_ *State, h Health) bool { return d.guard.away(h) })
	if err == nil && !answered {
		err = errSignedOff
	}
	return in, err
}

// errand is what the officer has chosen at home.
func (a *Agent) errand(ctx context.Context, d *desk, o officer, what Action) error {
	switch what {
	case ActionReceipts:
		return a.receipts(ctx, d)
	case ActionSetAside:
		return a.setAside(ctx, d)
	case ActionClose:
		return d.close(ctx)
	case ActionServices:
		in, err := a.services(ctx, d)
		if err != nil {
			return err
		}
		what = in.Action
	case ActionDay:
		return a.day(ctx, d, o)
	}
	e := a.newEnrollment(d, o)
	run := e.run
	switch what {
	case ActionCustody:
		run = e.visit
	case ActionReplace:
		run = e.replaceLost
	case ActionRenew:
		run = e.renewCard
	case ActionEndIdentity:
		run = e.endIdentity
	case ActionSelfService:
		run = e.selfService
	}
	return a.attend(ctx, e, run)
}

// lock covers the desk until an officer's card and PIN open it: the same officer
// goes on, another one takes over.
func (a *Agent) lock(ctx context.Context, d *desk, o officer) (officer, error) {
	a.note(o, DayCounts{})
	next, err := a.admit(ctx, d, ScreenLocked)
	if err == nil && !next.leaf.Equal(o.leaf) {
		a.log.Info("change of shift")
	}
	return next, err
}

// Bounds of the lists on screens.
const (
	recentLimit   = 60
	setAsideLimit = 200
	leastDigits   = 8 // of a record's number; a page has them in groups of eight
)

// receipts looks for receipts until the officer goes back.
func (a *Agent) receipts(ctx context.Context, d *desk) error {
	return a.browse(ctx, d, ScreenReceipts, func(ctx context.Context) ([]RecordView, error) {
		return a.cfg.Archive.Recent(ctx, recentLimit)
	})
}

// setAside shows what was rejected until the officer goes back.
func (a *Agent) setAside(ctx context.Context, d *desk) error {
	return a.browse(ctx, d, ScreenSetAside, func(ctx context.Context) ([]RecordView, error) {
		return a.cfg.Archive.SetAside(ctx, setAsideLimit)
	})
}

// browse shows a list, and a record of it or any other that is asked for.
func (a *Agent) browse(ctx context.Context, d *desk, screen Screen, list func(context.Context) ([]RecordView, error)) error {
	problem := PINFine
	for {
		var fault *Fault
		records, err := list(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			fault = kioskFault(err)
			a.log.Error("the queue does not answer", "code", fault.Code, "cause", err)
		}
		in, err := d.ask(ctx, func() State {
			s := State{Screen: screen, Turn: TurnOfficer, Main: ActionBack, Actions: []Action{ActionBack, ActionLock, ActionChoose},
				Records: records, PIN: &PINView{Min: leastDigits, Max: 2 * len(queue.ID{}), Problem: problem}, Fault: fault}
			if screen == ScreenReceipts {
				s.Main = ActionFind
			}
			if screen == ScreenReceipts || len(records) > 0 {
				s.Actions = append(s.Actions, ActionFind)
			}
			return s
		})
		if err != nil || in.Action == ActionBack {
			return err
		}
		var id queue.ID
		id, problem, err = a.find(ctx, in.Secret)
		in.Wipe()
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			a.log.Error("a record is looked for in vain", "cause", err)
			problem = PINNoRecord
		case problem == PINFine:
			if err := a.record(ctx, d, id); err != nil {
				return err
			}
		}
	}
}

// find looks for the one record that a person has named, by the beginning of its
// number or by a receipt. Of what is not here it tells nothing, not even whether it
// is a receipt at all: whatever was entered, the answer is the same.
func (a *Agent) find(ctx context.Context, text secret.Text) (queue.ID, PINProblem, error) {
	digits := recordDigits(text.Reveal())
	if digits == "" {
		return queue.ID{}, PINNoRecord, nil
	}
	ids, err := a.cfg.Archive.Matching(ctx, digits, 2)
	switch {
	case err != nil:
		return queue.ID{}, PINNoRecord, err
	case len(ids) == 0:
		return queue.ID{}, PINNoRecord, nil
	case len(ids) > 1:
		return queue.ID{}, PINSeveral, nil
	}
	return ids[0], PINFine, nil
}

// recordDigits finds the hexadecimal digits that a record's number begins with, or all
// of them, in what a person typed or a scanner read from a receipt of either
// kind: a provisional one is a compact JWS (RFC 7515 7.1), a final one a
// C2SP tlog-proof whose extra line ends in the id. Nothing is verified: what is
// found is looked for among this kiosk's own records. "" when there is none.
func recordDigits(text []byte) string {
	if len(text) > receipt.MaxSize {
		return ""
	}
	typed := bytes.ToLower(bytes.Join(bytes.Fields(text), nil))
	if len(typed) >= leastDigits && len(typed) <= 2*len(queue.ID{}) && len(bytes.Trim(typed, "0123456789abcdef")) == 0 {
		return string(typed)
	}
	if part := bytes.Split(bytes.TrimSpace(text), []byte(".")); len(part) == 3 {
		var claims struct {
			Record string `json:"record"`
		}
		b, err := base64.RawURLEncoding.DecodeString(string(part[1]))
		if err == nil && json.Unmarshal(b, &claims) == nil {
			if id, err := base64.RawURLEncoding.DecodeString(claims.Record); err == nil && len(id) == len(queue.ID{}) {
				return hex.EncodeToString(id)
			}
		}
	}
	for line := range bytes.Lines(text) {
		extra, found := bytes.CutPrefix(bytes.TrimSpace(line), []byte("extra "))
		if b, err := base64.StdEncoding.DecodeString(string(extra)); found && err == nil && len(b) == 64 {
			return hex.EncodeToString(b[32:])
		}
	}
	return ""
}

// record shows one record until the officer goes back, and anew when something
// was delivered meanwhile.
func (a *Agent) record(ctx context.Context, d *desk, id queue.ID) error {
	var fault *Fault
	var printed bool
	var file string
	for {
		was := d.latest
		v, copied, err := a.copyOf(ctx, id)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			v, fault = RecordView{ID: id.String()}, kioskFault(err)
			a.log.Error("a record cannot be shown", "code", fault.Code, "cause", err)
		}
		v.Printed, v.File = printed, file
		in, answered, err := d.wait(ctx, func() State {
			shown := v // published states never change
			s := State{Screen: ScreenRecord, Turn: TurnOfficer, Main: ActionBack, Actions: []Action{ActionBack, ActionLock, ActionChoose}, Record: &shown, Fault: fault}
			switch {
			case v.QR != "" && a.cfg.Printer != nil:
				s.Main, s.Actions = ActionPrint, append(s.Actions, ActionPrint)
			case (v.QR != "" || v.Standing == StandingSetAside) && a.cfg.Folder != nil:
				s.Main, s.Actions = ActionWrite, append(s.Actions, ActionWrite)
			}
			return s
		}, func(_ *State, h Health) bool {
			return !h.Delivered.Equal(was.Delivered) || h.Quarantined != was.Quarantined
		})
		if err != nil {
			return err
		}
		if !answered {
			continue
		}
		language, training := d.spoken(in.Choice), d.base.Simulated
		switch in.Action {
		case ActionBack:
			return nil
		case ActionPrint:
			fault, err = a.page(ctx, d, func(ctx context.Context) error { return a.cfg.Printer.Print(ctx, copied, language, training) })
			printed = err == nil && fault == nil
		case ActionWrite:
			fault, err = a.page(ctx, d, func(ctx context.Context) (err error) {
				if v.Standing == StandingSetAside {
					file, err = a.cfg.Folder.WriteRecord(ctx, id)
				} else {
					file, err = a.cfg.Folder.Write(ctx, copied, language, training)
				}
				return err
			})
		}
		if err != nil {
			return err
		}
	}
}

// copyOf is a record with the copy of its receipt: the registry's, or until that has
// come one that this kiosk signs anew, with a claim of its own. The cancel
// code is nowhere here; a record that was rejected has no receipt any more.
func (a *Agent) copyOf(ctx context.Context, id queue.ID) (RecordView, ReceiptView, error) {
	v, final, data, err := a.cfg.Archive.Record(ctx, id)
	if err != nil {
		return v, ReceiptView{}, err
	}
	r := ReceiptView{RecordID: v.ID, Final: final, QR: final, Saved: v.Saved}
	if final == "" && v.Standing == StandingWaiting {
		if r.Provisional, err = a.provisional(ctx, data); err != nil {
			return v, r, err
		}
		r.QR = r.Provisional
	}
	v.QR, v.Final = r.QR, final != ""
	return v, r, nil
}

// provisional signs a provisional receipt of a record that waits; "" for one that no
// citizen has a receipt of.
func (a *Agent) provisional(ctx context.Context, data []byte) (string, error) {
	s, err := record.ParseSubmission(data)
	if err != nil {
		return "", err
	}
	c := s.Record().Payload().Context
	if c.Purpose == record.Void {
		return "", nil
	}
	ctx, cancel := context.WithTimeout(ctx, a.cfg.Limits.TPM)
	defer cancel()
	b, err := receipt.SignProvisional(ctx, receipt.Provisional{Record: s.ID(), Audience: c.Audience, Kiosk: c.KioskID, Sequence: c.Sequence,
		Time: a.now().UTC().Truncate(time.Second), Claim: claim()}, a.cfg.TPM.RecordKey())
	return string(b), err
}

// page prints or writes a page for the officer.
func (a *Agent) page(ctx context.Context, d *desk, out func(context.Context) error) (*Fault, error) {
	err := newStepper(d, a.cfg.Observe, ScreenPrinting, StepPrint).run(ctx, StepPrint, printFault, func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, a.cfg.Limits.Print)
		defer cancel()
		return out(ctx)
	})
	var fault *Fault
	if errors.As(err, &fault) {
		a.log.Warn("page not printed", "code", fault.Code, "cause", fault.Unwrap())
		return fault, nil
	}
	return nil, err
}

// spoken is a language that pages can be had in: the one asked for, or the desk's.
func (d *desk) spoken(language string) string {
	for _, l := range d.base.Languages {
		if l == language {
			return l
		}
	}
	return d.base.Language
}

// day shows what was done today until the officer goes back.
func (a *Agent) day(ctx context.Context, d *desk, o officer) error {
	var fault *Fault
	var printed bool
	var file string
	for {
		a.note(o, DayCounts{})
		v, err := a.dayView(ctx, d, o)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			fault = kioskFault(err)
			a.log.Error("the day's counts are not known", "code", fault.Code, "cause", err)
		}
		v.Printed, v.File = printed, file
		in, err := d.ask(ctx, func() State {
			shown := v
			s := State{Screen: ScreenDay, Turn: TurnOfficer, Main: ActionBack, Actions: []Action{ActionBack, ActionLock, ActionSignOff, ActionChoose}, Day: &shown, Fault: fault}
			switch {
			case a.cfg.Printer != nil:
				s.Main, s.Actions = ActionPrint, append(s.Actions, ActionPrint)
			case a.cfg.Folder != nil:
				s.Main, s.Actions = ActionWrite, append(s.Actions, ActionWrite)
			}
			return s
		})
		if err != nil || in.Action == ActionBack {
			return err
		}
		language, training := d.spoken(in.Choice), d.base.Simulated
		fault, err = a.page(ctx, d, func(ctx context.Context) (err error) {
			if in.Action == ActionPrint {
				return a.cfg.Printer.PrintDay(ctx, v, language, training)
			}
			file, err = a.cfg.Folder.WriteDay(ctx, v, language, training)
			return err
		})
		if err != nil {
			return err
		}
		printed = in.Action == ActionPrint && fault == nil
	}
}

func (a *Agent) dayView(ctx context.Context, d *desk, o officer) (DayView, error) {
	now, h := a.now(), d.latest
	v := DayView{At: now, Officer: o.number, Alarms: h.Alarms}
	if h.LogFault != "" {
		v.Alarms = append([]Code{h.LogFault}, v.Alarms...)
	}
	v.Own, v.All = a.cfg.Diary.Day(o.digest(), now)
	ctx, cancel := context.WithTimeout(ctx, a.cfg.Limits.TPM)
	defer cancel()
	s, err := a.cfg.Queue.Stats(ctx)
	if err == nil {
		v.Waiting, v.SetAside = s.Waiting, s.Quarantined
		v.Delivered, v.Refused, err = a.cfg.Archive.Since(ctx, Midnight(now))
	}
	return v, err
}
