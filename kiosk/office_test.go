package kiosk

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"enrollkiosk/kiosk/secret"
	"enrollkiosk/registry/policy"
	"enrollkiosk/sync/queue"
)

// past is an Archive with what the test puts into it.
type past struct {
	records []RecordView
	final   map[string]string
}

func (p past) Recent(_ context.Context, limit int) ([]RecordView, error) {
	return p.records[:min(limit, len(p.records))], nil
}

func (p past) SetAside(context.Context, int) (aside []RecordView, _ error) {
	for _, r := range p.records {
		if r.Standing == StandingSetAside {
			aside = append(aside, r)
		}
	}
	return aside, nil
}

func (p past) Matching(_ context.Context, digits string, limit int) (ids []queue.ID, _ error) {
	for _, r := range p.records {
		if strings.HasPrefix(r.ID, digits) && len(ids) < limit {
			raw, err := hex.DecodeString(r.ID)
			if err != nil {
				return nil, err
			}
			ids = append(ids, queue.ID(raw))
		}
	}
	return ids, nil
}

func (p past) Record(_ context.Context, id queue.ID) (RecordView, string, []byte, error) {
	for _, r := range p.records {
		if r.ID == id.String() {
			return r, p.final[r.ID], nil, nil
		}
	}
	return RecordView{}, "", nil, ErrNoRecord
}

func (p past) Since(context.Context, time.Time) (int, int, error) { return 37, 2, nil }

// stock is a Queue of which only the counts are asked.
type stock struct{ Queue }

func (stock) Stats(context.Context) (queue.Stats, error) {
	return queue.Stats{Waiting: 3, Quarantined: 1}, nil
}

// book is a Diary in memory.
type book struct {
	mu    sync.Mutex
	notes map[[32]byte]DayCounts
}

func (b *book) Note(o [32]byte, _ time.Time, more DayCounts) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.notes[o] = b.notes[o].Plus(more)
	return nil
}

func (b *book) Day(o [32]byte, _ time.Time) (own, all DayCounts) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, c := range b.notes {
		all = all.Plus(c)
	}
	return b.notes[o], all
}

// press is a Printer that keeps what it prints.
type press struct {
	receipts []ReceiptView
	days     []DayView
	language string
	err      error
}

func (p *press) Print(_ context.Context, r ReceiptView, language string, _ bool) error {
	p.receipts, p.language = append(p.receipts, r), language
	return p.err
}

func (p *press) PrintDay(_ context.Context, v DayView, language string, _ bool) error {
	p.days, p.language = append(p.days, v), language
	return p.err
}

// office is an officer at the desk between two citizens.
type office struct {
	*desk
	t     *testing.T
	agent *Agent
	card  *plainCard // on the officers' reader
	own   plainCard
	other plainCard
	press *press
	ended chan error
}

const (
	officersPIN = "246813"
	homeLock    = 3 * time.Minute
)

// on puts whatever card lies on the reader at the time behind the Tokens.
type on struct{ o *office }

func (t on) Open(ctx context.Context, d Device) (Token, error) { return t.o.card.Open(ctx, d) }

// sitDown signs an officer on. It must run in a bubble of synctest.
func sitDown(t *testing.T, records ...RecordView) *office {
	t.Helper()
	f := newForce(t, time.Now())
	signed := ofForce(t, f)
	o := &office{desk: newDesk(), t: t, own: f.plainCard(t, "0001"), other: f.plainCard(t, "0002"), press: &press{}, ended: make(chan error, 1)}
	o.card = &o.own
	final := map[string]string{}
	for _, r := range records {
		if r.Standing != StandingSetAside {
			final[r.ID] = "c2sp.org/tlog-proof@v1 of " + r.ID
		}
	}
	limits := DefaultLimits()
	limits.Lock = homeLock
	o.agent = New(Config{ID: "KIOSK-0001", Tokens: on{o}, Policy: func() (policy.Signed, error) { return signed, nil }, Languages: []string{"en", "zh"},
		Limits: limits, Log: slog.New(slog.NewTextHandler(io.Discard, nil)), Clock: func() Times { return Times{Wall: time.Now()} },
		Archive: past{records, final}, Diary: &book{notes: map[[32]byte]DayCounts{}}, Queue: stock{}, Printer: o.press})
	o.agent.hub, o.desk.idle, o.desk.lock = o.hub, limits.Idle, limits.Lock
	o.hub.faulted = o.agent.faults.add
	o.latest = Health{Readers: map[Device]ReaderState{DeviceOfficer: ReaderCard}, Queued: 3, Oldest: time.Now(), Delivered: time.Now(), Quarantined: 1, Today: Today{41, 37, 2}}
	who, err := o.agent.recognise(t.Context(), officer{}, secret.FromString(officersPIN))
	if err != nil {
		t.Fatal(err)
	}
	o.base.Officer = who.number
	o.guard = &guard{left: func() uint64 { return 0 }, proved: time.Now()}
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	go func() { o.ended <- o.agent.serve(ctx, o.desk, who) }()
	return o
}

func (o *office) newest() State {
	synctest.Wait()
	return <-o.hub.states(context.Background())
}

// does answers the screen, which must be the one named, and returns the next.
func (o *office) does(screen Screen, a Action, text string) State {
	o.t.Helper()
	s := o.newest()
	if s.Screen != screen || !slices.Contains(s.Actions, a) {
		o.t.Fatalf("on %s, which offers %v, not on %s with %s", s.Screen, s.Actions, screen, a)
	}
	in := Intent{State: s.Number, Action: a}
	if a == ActionChoose {
		in.Choice = text
	} else if text != "" {
		in.Secret = secret.FromString(text)
	}
	o.intents <- in
	return o.newest()
}

func specimen(id string, s Standing) RecordView {
	return RecordView{ID: strings.Repeat(id, 8), Saved: time.Now(), Standing: s}
}

// A locked desk shows nothing of the day and does nothing, whatever it is sent; the
// same officer goes on.
func TestLockedDeskShowsAndDoesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := sitDown(t, specimen("0123abcd", StandingReceipted))
		s := o.does(ScreenHome, ActionLock, "")
		if s.Screen != ScreenLocked || !slices.Equal(s.Actions, []Action{ActionSignOn, ActionChoose}) {
			t.Fatalf("locked: %s offers %v", s.Screen, s.Actions)
		}
		h := s.Health
		if h.Queued != 0 || h.Quarantined != 0 || h.Today != (Today{}) || !h.Oldest.IsZero() || !h.Delivered.IsZero() ||
			s.Records != nil || s.Record != nil || s.Day != nil || s.Receipt != nil || s.Holder != nil {
			t.Errorf("a locked desk shows %+v", s)
		}
		o.health <- Health{Readers: map[Device]ReaderState{DeviceOfficer: ReaderCard}, Queued: 4, Today: Today{Enrolled: 42}}
		if s = o.newest(); s.Health.Queued != 0 || s.Health.Today.Enrolled != 0 {
			t.Errorf("what comes later is shown: %+v", s.Health)
		}
		for _, a := range []Action{ActionStart, ActionReceipts, ActionSetAside, ActionDay, ActionFind, ActionPrint, ActionWrite, ActionBack, ActionStartOver, ActionSignOff, ActionCustody, ActionLeave} {
			o.intents <- Intent{State: s.Number, Action: a, Secret: secret.FromString("0123abcd")}
			if got := o.newest(); got.Number != s.Number || got.Screen != ScreenLocked {
				t.Fatalf("%s leads to %s", a, got.Screen)
			}
		}
		time.Sleep(50 * time.Minute)
		if got := o.newest(); got.Screen != ScreenLocked {
			t.Errorf("by itself it comes to %s", got.Screen)
		}
		if s = o.does(ScreenLocked, ActionSignOn, officersPIN); s.Screen != ScreenHome || s.Officer != "0001" || s.Health.Queued != 4 {
			t.Errorf("unlocked: %+v", s)
		}
	})
}

// Another officer's card and PIN take the desk over: what is done from then on
// counts as theirs. A card that is none, or is locked out, opens nothing.
func TestChangeOfShift(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := sitDown(t)
		o.does(ScreenHome, ActionLock, "")
		stranger := newForce(t, time.Now()).plainCard(t, "0001")
		o.card = &stranger
		if s := o.does(ScreenLocked, ActionSignOn, officersPIN); s.Screen != ScreenLocked || s.Fault == nil || s.Fault.Code != CodeOfficerUnknown {
			t.Fatalf("a stranger's card: %+v", s)
		}
		o.card = &o.other
		if s := o.does(ScreenLocked, ActionSignOn, officersPIN); s.Screen != ScreenHome || s.Officer != "0002" {
			t.Fatalf("taken over: %+v", s)
		}
		if s := o.does(ScreenHome, ActionDay, ""); s.Day == nil || s.Day.Officer != "0002" || s.Day.Own.Trouble(DeviceOfficer) != 0 || s.Day.All.Trouble(DeviceOfficer) != 1 {
			t.Errorf("the day of the second: %+v", s.Day)
		}
		if s := o.does(ScreenDay, ActionSignOff, ""); s.Screen != ScreenDay {
			t.Errorf("signed off: %+v", s)
		}
		if err := <-o.ended; !errors.Is(err, errSignedOff) {
			t.Errorf("ended by %v", err)
		}
	})
}

// Whatever screen of the officer's nobody touches, the desk locks itself.
func TestDeskLocksItself(t *testing.T) {
	for _, at := range []Action{"", ActionReceipts, ActionSetAside, ActionDay} {
		synctest.Test(t, func(t *testing.T) {
			o := sitDown(t, specimen("0123abcd", StandingReceipted))
			if at != "" {
				o.does(ScreenHome, at, "")
			}
			was := o.newest()
			limit := DefaultLimits().Idle
			if at == "" {
				limit = homeLock
			}
			time.Sleep(limit - time.Second)
			o.health <- o.latest // news are no touch
			if s := o.newest(); s.Screen != was.Screen {
				t.Fatalf("%s: too early on %s", was.Screen, s.Screen)
			}
			time.Sleep(2 * time.Second)
			if s := o.newest(); s.Screen != ScreenLocked || s.Records != nil || s.Day != nil {
				t.Errorf("%s: left alone it shows %s", was.Screen, s.Screen)
			}
			if s := o.does(ScreenLocked, ActionSignOn, officersPIN); s.Screen != ScreenHome {
				t.Errorf("unlocked: %s", s.Screen)
			}
		})
	}
}

// A receipt is found by the beginning of its number, all of it, or what a scanner
// reads from either kind of receipt, and printed again without a cancel code, in the
// language of the page.
func TestReprint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := specimen("0123abcd", StandingActive)
		o := sitDown(t, r, specimen("0123ffff", StandingWaiting), specimen("99999999", StandingSetAside))
		if s := o.does(ScreenHome, ActionReceipts, ""); len(s.Records) != 3 || s.Main != ActionFind {
			t.Fatalf("the list: %+v", s)
		}
		raw, err := hex.DecodeString(r.ID)
		if err != nil {
			t.Fatal(err)
		}
		for name, text := range map[string]string{"digits": "0123ABCD", "groups": "0123abcd 0123abcd 0123", "all": r.ID, "provisional": jws(raw), "final": tlog(raw),
			"final, as a scanner's keyboard has it": strings.ReplaceAll(strings.ReplaceAll(tlog(raw), "—", "?"), "\n", "\r\n")} {
			s := o.does(ScreenReceipts, ActionFind, text)
			if s.Screen != ScreenRecord || s.Record.ID != r.ID || !s.Record.Final || s.Record.QR == "" || s.Position != 0 {
				t.Fatalf("%s: %+v", name, s)
			}
			o.does(ScreenRecord, ActionBack, "")
		}
		o.does(ScreenReceipts, ActionFind, "0123abcd")
		o.does(ScreenRecord, ActionChoose, "zh")
		if s := o.does(ScreenRecord, ActionPrint, ""); s.Screen != ScreenRecord || !s.Record.Printed || s.Fault != nil {
			t.Errorf("printed: %+v", s)
		}
		if len(o.press.receipts) != 1 || o.press.language != "zh" {
			t.Fatalf("printed %d in %s", len(o.press.receipts), o.press.language)
		}
		if p := o.press.receipts[0]; p.CancelCode.Len() != 0 || p.Final == "" || p.QR != p.Final || p.RecordID != r.ID {
			t.Errorf("printed %+v", p)
		}
		o.press.err = ErrPrinter
		if s := o.does(ScreenRecord, ActionPrint, ""); s.Fault == nil || s.Fault.Code != CodeNotPrinted || s.Record.Printed {
			t.Errorf("not printed: %+v", s)
		}
		o.does(ScreenRecord, ActionBack, "")
		if s := o.does(ScreenReceipts, ActionFind, "99999999"); s.Record.QR != "" || slices.Contains(s.Actions, ActionPrint) || s.Record.Standing != StandingSetAside || s.Fault != nil {
			t.Errorf("a receipt of a record that was rejected: %+v", s)
		}
	})
}

// Of records that this kiosk has not made nothing is told: a genuine receipt of
// another kiosk's, garbage and an empty entry have the very same answer.
func TestSearchTellsNothingOfOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := sitDown(t, specimen("0123abcd", StandingReceipted))
		o.does(ScreenHome, ActionReceipts, "")
		foreign := bytes.Repeat([]byte{7}, 32)
		var first []byte
		for _, text := range []string{hex.EncodeToString(foreign), jws(foreign), tlog(foreign), "07070707", "zzzzzzzz", "", "012", strings.Repeat("a", 9000)} {
			s := o.does(ScreenReceipts, ActionFind, text)
			if s.Screen != ScreenReceipts || s.PIN.Problem != PINNoRecord {
				t.Fatalf("%.20q: %+v", text, s)
			}
			s.Number, s.Revision = 0, 0
			b, err := json.Marshal(s)
			if err != nil {
				t.Fatal(err)
			}
			if first == nil {
				first = b
			}
			if !bytes.Equal(b, first) {
				t.Errorf("%.20q is answered\n%s, not\n%s", text, b, first)
			}
		}
		o2 := sitDown(t, specimen("0123abcd", StandingReceipted), RecordView{ID: "0123abcd" + strings.Repeat("f", 56), Standing: StandingActive})
		o2.does(ScreenHome, ActionReceipts, "")
		if s := o2.does(ScreenReceipts, ActionFind, "0123abcd"); s.PIN.Problem != PINSeveral {
			t.Errorf("two that begin alike: %+v", s.PIN)
		}
	})
}

// The day's summary has the counts of the officer and of all, and is printed in the
// language of who reads it.
func TestDay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := sitDown(t)
		o.agent.cfg.Diary.Note([32]byte{9}, time.Now(), DayCounts{Enrolled: 5, Second: 2, Ended: map[Ending]int{EndDeclined: 1, EndTimedOut: 2}})
		o.agent.faults.add(CodeCardRemoved)
		o.agent.faults.add(CodeNotPrinted)
		o.agent.faults.add(CodeExpired) // no device's
		s := o.does(ScreenHome, ActionDay, "")
		v := s.Day
		if v == nil || v.All.Enrolled != 5 || v.Own.Enrolled != 0 || v.All.Second != 2 || v.All.Unfinished() != 3 || v.Delivered != 37 || v.Refused != 2 || v.Waiting != 3 ||
			v.SetAside != 1 || v.Own.Trouble(DeviceDocument) != 1 || v.Own.Trouble(DevicePrinter) != 1 || v.Own.Trouble(DeviceTPM) != 0 {
			t.Fatalf("%+v", v)
		}
		o.intents <- Intent{State: s.Number, Action: ActionPrint, Choice: "zh"}
		if s = o.newest(); !s.Day.Printed || len(o.press.days) != 1 || o.press.language != "zh" {
			t.Errorf("printed %d in %q: %+v", len(o.press.days), o.press.language, s)
		}
	})
}

// How an enrollment ended is told apart, and trouble with a device counts once.
func TestEndings(t *testing.T) {
	for want, err := range map[Ending]error{EndDeclined: errDeclined, EndDoubted: errDoubted, EndStartedOver: errStartOver, EndTimedOut: &Fault{Code: CodeTimedOut},
		EndUnproven: &Fault{Code: CodeChipCloned}, EndFault: errors.New("anything")} {
		if got := ending(err); got != want {
			t.Errorf("%v: %s, want %s", err, got, want)
		}
	}
	if len(Endings()) != 6 {
		t.Errorf("%d endings", len(Endings()))
	}
	a := DayCounts{Ended: map[Ending]int{EndFault: 1}}
	b := a.Plus(DayCounts{Ended: map[Ending]int{EndFault: 2}})
	if a.Ended[EndFault] != 1 || b.Ended[EndFault] != 3 {
		t.Errorf("%v, %v", a, b)
	}
}

// Every code of the contract has its reason and its advice, and no other has one.
func TestRejectionsAreThoseOfTheContract(t *testing.T) {
	b, err := os.ReadFile("../docs/openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	_, list, found := strings.Cut(string(b), "\n    Code:\n")
	if !found {
		t.Fatal("no schema Code")
	}
	list, _, _ = strings.Cut(list, "\n\n")
	var want []Rejection
	for _, m := range regexp.MustCompile(`(?m)^        - ([a-z-]+)$`).FindAllStringSubmatch(list, -1) {
		want = append(want, Rejection(m[1]))
	}
	if len(want) < 30 {
		t.Fatalf("only %d codes found", len(want))
	}
	for _, r := range append(want, RejectedDamaged) {
		if RejectionOf(string(r)) != r || r.Advice() == "" {
			t.Errorf("%s: %s, %q", r, RejectionOf(string(r)), r.Advice())
		}
	}
	for r := range advices {
		if !slices.Contains(want, r) && r != RejectedDamaged && r != RejectedOtherwise {
			t.Errorf("%s is no code of the contract", r)
		}
	}
	if RejectionOf("registry-of-tomorrow") != RejectedOtherwise || Rejection("registry-of-tomorrow").Advice() != AdviceRegistry {
		t.Error("an unknown code")
	}
}

// jws has the form of a provisional receipt, tlog that of a final one.
func jws(id []byte) string {
	part := base64.RawURLEncoding.EncodeToString
	return part([]byte(`{"alg":"ES256"}`)) + "." + part([]byte(`{"audience":"a","record":"`+part(id)+`"}`)) + "." + part([]byte("signature"))
}

func tlog(id []byte) string {
	extra := append(bytes.Repeat([]byte{1}, 32), id...)
	return "c2sp.org/tlog-proof@v1\nextra " + base64.StdEncoding.EncodeToString(extra) + "\nindex 5\n\nregistry.example/log\n6\nAAAA\n\n— registry.example/log AAAA\n"
}

// What a person types or a scanner reads gives the digits of a record's number or
// nothing, and never more than a number has.
func FuzzRecordDigits(f *testing.F) {
	id := bytes.Repeat([]byte{0xAB}, 32)
	for _, s := range []string{"", "0123abcd", "0123 ABCD", hex.EncodeToString(id), jws(id), tlog(id), "..", "extra ", "eyJ..", "a.eyJyZWNvcmQiOjF9.c"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		kept := bytes.Clone(text)
		got := recordDigits(text)
		if got != "" && (len(got) < leastDigits || len(got) > 64 || strings.Trim(got, "0123456789abcdef") != "") {
			t.Errorf("%q from %q", got, text)
		}
		if !bytes.Equal(text, kept) {
			t.Error("the input was changed")
		}
	})
}
