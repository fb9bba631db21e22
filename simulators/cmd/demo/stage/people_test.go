package stage_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"enrollkiosk/kiosk"
	"enrollkiosk/kiosk/secret"
	"enrollkiosk/kiosk/words"
	"enrollkiosk/registry/receipt"
	"enrollkiosk/simulators/cmd/demo/stage"
	"enrollkiosk/simulators/idcard"
	"enrollkiosk/simulators/pcscd"
	"enrollkiosk/simulators/pivtoken"
	"enrollkiosk/sync/queue"
)

// told is a fault as a person was shown it.
type told struct {
	screen kiosk.Screen
	code   kiosk.Code
	left   int // PIN tries
}

// people are officer and citizen in an enrollment in which things go wrong.
type people struct {
	*stage.Script
	t   *testing.T
	s   *stage.Stage
	who idcard.Person

	// mend is what they do about the nth fault before they go on: try again, or
	// start over. nil always starts over.
	mend func(n int, f told) kiosk.Action
	// odd, when it says yes, has answered a state in its own way.
	odd func(ctx context.Context, st kiosk.State) (bool, error)

	told []told
	over bool // the enrollment has been left
}

// errLeft means that the desk is home again and nothing was enrolled.
var errLeft = errors.New("the enrollment was left")

// citizens gives every citizen another name, so that nobody enrolls twice.
var citizens atomic.Int32

// arrive is the next citizen, with a genuine card and a factory-new token
// unless options say otherwise; the officer is at the desk.
func arrive(t *testing.T, s *stage.Stage, card idcard.Options, token pivtoken.Options) *people {
	t.Helper()
	n := citizens.Add(1)
	who := idcard.SpecimenPerson()
	who.Number, who.GivenNames, who.CAN = fmt.Sprintf("D%08d", n), "ANNA "+letters(n), fmt.Sprintf("%06d", 100000+n)
	if err := s.IssueCard(who, card); err != nil {
		t.Fatal(err)
	}
	if token.Serial == 0 {
		token.Serial = 10_000_000 + uint32(n)
	}
	s.IssueToken(token)
	p := again(t, s)
	p.who = who
	return p
}

// again is the same citizen once more, with the same card and token in the hand.
func again(t *testing.T, s *stage.Stage) *people {
	s.Take(kiosk.DeviceDocument)
	s.Take(kiosk.DeviceToken)
	seen(t, s, func(h kiosk.Health) bool {
		return h.Readers[kiosk.DeviceDocument] == kiosk.ReaderEmpty && h.Readers[kiosk.DeviceToken] == kiosk.ReaderEmpty
	})
	if s.Guardian != nil { // whose card may have been the last one
		s.Hold(kiosk.DeviceDocument, s.Chip)
	}
	p := &people{Script: s.Script(), t: t, s: s}
	p.Act = p.act
	return p
}

// seen waits until the desk shows a machine that is so.
func seen(t *testing.T, s *stage.Stage, so func(kiosk.Health) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	states, err := s.Kiosk.Desk().States(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var last kiosk.Health
	for st := range states {
		if last = st.Health; so(last) {
			return
		}
	}
	t.Fatalf("the desk shows %+v", last)
}

// swap puts another card on a reader.
func (p *people) swap(d kiosk.Device, card pcscd.Card) {
	p.Take(d)
	p.s.Hold(d, card)
	p.Bring(d)
}

func letters(n int32) string {
	return string([]byte{'A' + byte(n/676%26), 'A' + byte(n/26%26), 'A' + byte(n%26)})
}

// act handles what goes wrong and leaves the rest to the script.
func (p *people) act(ctx context.Context, st kiosk.State) (bool, error) {
	if st.Screen == kiosk.ScreenHome && p.over {
		return false, errLeft
	}
	if p.odd != nil {
		if done, err := p.odd(ctx, st); done || err != nil {
			return done, err
		}
	}
	if st.Fault == nil || st.Screen == kiosk.ScreenPlaceCard || st.Screen == kiosk.ScreenInsertToken ||
		st.Screen == kiosk.ScreenGuardianCard || st.Screen == kiosk.ScreenCardBack {
		return false, nil
	}
	f := told{st.Screen, st.Fault.Code, st.Fault.Left}
	p.told = append(p.told, f)
	p.readable(st)
	action := kiosk.ActionStartOver
	if p.mend != nil {
		action = p.mend(len(p.told), f)
	}
	in := kiosk.Intent{State: st.Number, Action: action}
	switch st.Screen {
	case kiosk.ScreenSignOn, kiosk.ScreenApprove: // the fault stands above the pad
		if action == kiosk.ActionRetry {
			in.Action, in.Secret = st.Main, secret.FromString(p.OfficerPIN)
			p.Bring(kiosk.DeviceOfficer)
		}
	case kiosk.ScreenSecondOfficer, kiosk.ScreenSecondApprove:
		if action == kiosk.ActionRetry {
			in.Action, in.Secret = st.Main, secret.FromString(p.OfficerPIN)
			p.s.Officer(1)
		}
	}
	p.over = p.over || in.Action == kiosk.ActionStartOver
	if !slices.Contains(st.Actions, in.Action) {
		return false, fmt.Errorf("%s on %s cannot be answered with %q, only %q", f.code, f.screen, in.Action, st.Actions)
	}
	return true, p.Desk.Send(ctx, in)
}

// readable checks that a fault comes with sentences in every language, and with
// a way on that fits its remedy.
func (p *people) readable(st kiosk.State) {
	for _, language := range st.Languages {
		catalog, err := words.Open(language)
		if err != nil {
			p.t.Fatal(err)
		}
		if w := catalog.Trouble(*st.Fault); w.Headline == "" || w.Do == "" {
			p.t.Errorf("%s has no sentence in %s", st.Fault.Code, language)
		}
	}
	if st.Screen == kiosk.ScreenTrouble && st.Fault.Remedy != kiosk.RemedyStartOver && st.Main != kiosk.ActionRetry {
		p.t.Errorf("%s is to be mended, its screen offers %q", st.Fault.Code, st.Main)
	}
}

// meet plays the enrollment; it must end with a receipt after exactly the faults
// wanted.
func (p *people) meet(want ...told) *kiosk.ReceiptView {
	p.t.Helper()
	r, err := p.enroll()
	if err != nil {
		p.t.Fatalf("enroll: %v, after %v", err, p.told)
	}
	p.compare(want)
	return r
}

// leave plays an enrollment that must end without a record.
func (p *people) leave(want ...told) {
	p.t.Helper()
	before := entries(p.t, p.s)
	if _, err := p.enroll(); !errors.Is(err, errLeft) {
		p.t.Fatalf("enroll: %v, after %v", err, p.told)
	}
	p.compare(want)
	if after := entries(p.t, p.s); len(after) != len(before) {
		p.t.Errorf("%d records in the queue, %d before", len(after), len(before))
	}
}

func (p *people) enroll() (*kiosk.ReceiptView, error) {
	ctx, cancel := context.WithTimeout(p.t.Context(), time.Minute)
	defer cancel()
	return p.Enroll(ctx)
}

func (p *people) compare(want []told) {
	p.t.Helper()
	if !slices.Equal(p.told, want) {
		p.t.Errorf("people were told %v, want %v", p.told, want)
	}
}

// trouble is a fault on the screen for faults.
func trouble(c kiosk.Code) told { return told{screen: kiosk.ScreenTrouble, code: c} }

// works has one more citizen enrolled to a final receipt, and looks for what
// those before have left behind.
func works(t *testing.T, s *stage.Stage) {
	t.Helper()
	final(t, s, arrive(t, s, idcard.Options{}, pivtoken.Options{}).meet())
}

// final checks that the record is in the log and that nothing else is left here.
func final(t *testing.T, s *stage.Stage, r *kiosk.ReceiptView) {
	t.Helper()
	if r.Final == "" {
		t.Fatal("only a provisional receipt")
	}
	logged(t, s, []byte(r.Final))
	delivered(t, s)
}

func logged(t *testing.T, s *stage.Stage, proof []byte) {
	t.Helper()
	id, err := receipt.RecordID(proof)
	if err == nil {
		_, err = receipt.Verify(proof, s.Policy.Policy().Log(), id)
	}
	if err != nil {
		t.Errorf("receipt: %v", err)
	}
}

// delivered waits until every record is in the log and none lies here any more.
func delivered(t *testing.T, s *stage.Stage) {
	t.Helper()
	eventually(t, time.Minute, func() error {
		for _, e := range entries(t, s) {
			if e.State != queue.Purged {
				return fmt.Errorf("record %v is %s", e.ID, e.State)
			}
		}
		files, err := os.ReadDir(filepath.Join(s.Config.Kiosk.State, "queue", "spool"))
		if err != nil {
			return err
		}
		for _, f := range files { // two may be ready for the next record
			if info, err := f.Info(); err == nil && info.Size() > 0 {
				return fmt.Errorf("%d bytes in %s", info.Size(), f.Name())
			}
		}
		return nil
	})
	for _, e := range entries(t, s) {
		proof, err := s.Kiosk.Queue().Receipt(t.Context(), e.ID)
		if err != nil {
			t.Fatal(err)
		}
		logged(t, s, proof)
	}
}

func entries(t *testing.T, s *stage.Stage) []queue.Entry {
	t.Helper()
	list, err := s.Kiosk.Queue().List(t.Context(), 1000, func(queue.Entry) bool { return true })
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// eventually asks until the answer is nil.
func eventually(t *testing.T, limit time.Duration, ask func() error) {
	t.Helper()
	for end := time.Now().Add(limit); ; time.Sleep(20 * time.Millisecond) {
		err := ask()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatal(err)
		}
	}
}
