// Package kiosk runs enrollments: intents in, states out.
//
// Its path is card bytes, verified holder, key with proof, signed record,
// queue, receipt. [Agent] owns the flow; flow.go is the visible list of steps;
// state.go is everything a screen can show and a person can do.
//
// Invariants: one enrollment at a time; a step that failed leaves nothing
// half-written; "saved" is shown only after the queue said so; a PIN is sent to
// a card only because a person has just entered it.
//
// Not its job: drivers (the mains plug in readers, tokens and the TPM through
// the small interfaces of devices.go), screens, and delivery.
package kiosk

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"enrollkiosk/registry/expect"
	"enrollkiosk/registry/policy"
	"enrollkiosk/registry/record"
	"enrollkiosk/smartcard/inspection"
	"enrollkiosk/smartcard/trust"
	"enrollkiosk/sync/queue"
)

// Config is what an Agent needs. Every field is required but Residents, Printer,
// Folder, Custody, Machine, Observe and Faulted.
type Config struct {
	ID          string          // this kiosk's id, as in its certificate
	Certificate func() [][]byte // of the record key, leaf first, DER; the policy, asked after it, names its authority
	Languages   []string
	Readers     Readers
	Residents   Residents // nil: this machine has no module for them
	Portraits   Portraits
	Printer     Printer // nil: none
	Folder      Folder  // nil: none
	Tokens      Tokens
	TPM         TPM
	Custody     Custody // nil: no citizen's key may live in this machine's TPM
	Queue       Queue
	Delivery    Delivery
	Registry    Registry
	Activity    Activity
	Archive     Archive
	Diary       Diary
	Policy      func() (policy.Signed, error)                // the newest one that verified
	Texts       func(digest [32]byte) (text string, ok bool) // consent texts by SHA-256; the first line is the title
	Clock       func() Times
	Machine     func(context.Context) Machine // how clock, disk and printer do, asked now and then; nil: nobody looks
	LogFault    func() Code                   // what the registry's public log has shown amiss; nil: nobody looks
	Alarms      func() []Code                 // Health.Alarms; nil: nobody looks
	SelfService bool                          // also while no officer is signed on
	Limits      Limits
	Log         *slog.Logger
	Observe     func(Event)
	Faulted     func(Code) // gets each fault that people are shown, once; must not block
}

// Machine is what of Health only the machine knows.
type Machine struct {
	Clock, Disk Code // "" when in order
	Printer     PrinterState
}

// Times is a clock reading with what is known about it; see record.Times.
type Times = record.Times

// Limits bound everything that waits.
type Limits struct {
	Idle     time.Duration // nobody answers a question of an enrollment
	Lock     time.Duration // nobody touches the home screen, before it locks itself; zero for never
	Card     time.Duration // opening a chip, Chip Authentication
	ReadCard time.Duration // reading all files
	Token    time.Duration // one short token operation
	MakeKeys time.Duration // PIN and two key pairs
	Touch    time.Duration // a signature that waits for a touch
	TPM      time.Duration
	Delivery time.Duration // how long a person waits for the final receipt
	Print    time.Duration // until the page is there
}

// DefaultLimits fit real hardware.
func DefaultLimits() Limits {
	return Limits{Idle: 5 * time.Minute, Lock: 5 * time.Minute, Card: 20 * time.Second, ReadCard: 60 * time.Second, Token: 20 * time.Second,
		MakeKeys: 2 * time.Minute, Touch: 30 * time.Second, TPM: 30 * time.Second, Delivery: 15 * time.Second, Print: time.Minute}
}

// ErrPolicy means that there is no policy, or none that can be used; Config.Policy wraps it.
var (
	ErrPolicy = errors.New("no valid policy: connect this kiosk to the registry")
	// ErrClock means that the clock cannot be right, ErrOffline that the policy
	// allows no more enrollments before the registry was reached, ErrCertificate
	// that this kiosk's own certificate is not valid now. Config.Policy wraps them:
	// a record made all the same would be rejected when the citizen has gone.
	ErrClock       = errors.New("the clock is wrong: set it")
	ErrOffline     = errors.New("this kiosk has been offline for longer than the policy allows: connect it")
	ErrCertificate = errors.New("this kiosk's certificate is not valid now: have the registry sign it again")
	errText        = errors.New("a consent text of the policy is not installed: update this kiosk")
)

// Agent runs the flow and is a Desk.
type Agent struct {
	cfg     Config
	hub     *hub
	intents chan Intent
	line    chan DeliveryEvent
	log     *slog.Logger
	custody *custodian        // nil: none
	cards   inspection.Memory // of how they like to be read
	faults  faults
	noted   chan struct{} // there is news in the diary
	left    atomic.Uint64 // how often a card has left the officers' reader
}

// New makes an Agent; Run starts it.
func New(cfg Config) *Agent {
	if cfg.Observe == nil {
		cfg.Observe = func(Event) {}
	}
	if cfg.Faulted == nil {
		cfg.Faulted = func(Code) {}
	}
	a := &Agent{cfg: cfg, intents: make(chan Intent), line: make(chan DeliveryEvent, 1), noted: make(chan struct{}, 1), log: cfg.Log}
	a.hub = newHub(func(c Code) { a.faults.add(c); cfg.Faulted(c) })
	if cfg.Custody != nil {
		a.custody = &custodian{keys: cfg.Custody, queue: cfg.Queue, delivery: cfg.Delivery, limit: cfg.Limits.TPM, log: cfg.Log}
	}
	return a
}

// States implements Desk.
func (a *Agent) States(ctx context.Context) (<-chan State, error) { return a.hub.states(ctx), nil }

// Send implements Desk. While the machine works nobody is asked anything, and
// an intent is dropped.
func (a *Agent) Send(ctx context.Context, in Intent) error {
	select {
	case a.intents <- in:
	case <-ctx.Done():
		in.Wipe()
		return ctx.Err()
	case <-time.After(time.Second):
		in.Wipe()
	}
	return nil
}

// Heard tells the agent how an attempt at the registry ended that was not about
// a record: Reached, or Trouble with the reason.
func (a *Agent) Heard(e DeliveryEvent) {
	select {
	case a.line <- e:
	default: // the one before has not been looked at yet and is as good
	}
}

func (a *Agent) now() time.Time { return a.cfg.Clock().Wall }

// Begin initialises the chain of a kiosk that has none, once, when it is set up.
func Begin(ctx context.Context, tpm TPM, q Queue) error { return chain{tpm, q}.begin(ctx) }

// End is where this kiosk's chain ends: its counter's value, the last number that has
// a record, and that record's id, zero if there never was one. ErrRolledBack when
// disk and counter do not belong together.
func End(ctx context.Context, tpm TPM, q Queue) (sequence, recorded uint64, head [32]byte, err error) {
	h, _, err := chain{tpm, q}.check(ctx)
	if err != nil {
		return 0, 0, head, err
	}
	sequence, err = tpm.Counter(ctx)
	return sequence, h.Recorded, h.Previous, err
}

// Run serves officers and citizens until ctx ends.
func (a *Agent) Run(ctx context.Context) error {
	defer a.hub.close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	d := &desk{hub: a.hub, intents: a.intents, health: make(chan Health, 1), idle: a.cfg.Limits.Idle, lock: a.cfg.Limits.Lock}
	d.base.Languages, d.base.Language = a.cfg.Languages, a.cfg.Languages[0]
	var background sync.WaitGroup
	defer func() { cancel(); background.Wait() }()
	background.Go(func() { a.watch(ctx, d.health) })
	// The first screen tells what is known, not what nobody has looked at yet.
	d.latest = Health{Readers: map[Device]ReaderState{}}
	for late := time.After(2 * time.Second); !d.latest.TPM || len(d.latest.Readers) == 0; {
		select {
		case d.latest = <-d.health:
			continue
		case <-ctx.Done():
		case <-late:
		}
		break
	}
	if err := a.ownDisk(ctx, d); err != nil {
		return ignoreCancel(ctx, err)
	}
	if a.custody != nil {
		a.custody.tidyUp(ctx) // what a crash has left
		background.Go(func() { a.custody.run(ctx) })
	}
	for {
		o, err := a.signOn(ctx, d)
		if errors.Is(err, errAlone) {
			e := a.newEnrollment(d, officer{})
			err = a.attend(ctx, e, e.selfService)
			if err == nil {
				continue
			}
		}
		if err != nil {
			return ignoreCancel(ctx, err)
		}
		if err := a.serve(ctx, d, o); !errors.Is(err, errSignedOff) {
			return ignoreCancel(ctx, err)
		}
	}
}

// ownDisk lets nobody sign on while the disk does not belong to the TPM: an older
// or copied one. What was saved is delivered all the same. Whatever else keeps
// the TPM from being asked shows when an enrollment begins.
func (a *Agent) ownDisk(ctx context.Context, d *desk) error {
	for {
		limited, cancel := context.WithTimeout(ctx, a.cfg.Limits.TPM)
		_, _, err := chain{a.cfg.TPM, a.cfg.Queue}.check(limited)
		cancel()
		if !errors.Is(err, ErrRolledBack) {
			return ctx.Err()
		}
		fault := kioskFault(err)
		a.log.Error("no enrollment can begin", "code", fault.Code, "cause", err)
		_, err = d.ask(ctx, func() State {
			return State{Screen: ScreenTrouble, Turn: TurnOfficer, Main: ActionRetry, Fault: fault}
		})
		var idle *Fault
		if err != nil && !errors.As(err, &idle) {
			return err
		}
	}
}

func ignoreCancel(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// serve is the time between a sign-on and the sign-off that follows it, in which
// the desk may be locked and go over to another officer. It ends when the officer
// signs off or takes the card away between two citizens.
func (a *Agent) serve(ctx context.Context, d *desk, o officer) error {
	defer func() { a.note(o, DayCounts{}) }()
	for {
		in, err := a.home(ctx, d)
		if err == nil {
			err = a.errand(ctx, d, o, in.Action)
		}
		var fault *Fault
		switch {
		case err == nil, errors.Is(err, errStartOver):
		case errors.Is(err, errLocked), errors.As(err, &fault) && fault.Code == CodeTimedOut:
			next, err := a.lock(ctx, d, o)
			if err != nil {
				return err
			}
			o = next
		default:
			return err
		}
	}
}

// services is what an officer does for citizens beside enrolling them.
func (a *Agent) services(ctx context.Context, d *desk) (Intent, error) {
	return d.ask(ctx, func() State {
		s := State{Screen: ScreenServices, Turn: TurnOfficer, Actions: []Action{ActionReplace, ActionRenew, ActionEndIdentity, ActionSelfService}}
		if a.custody != nil {
			s.Actions = append(s.Actions, ActionCustody)
		}
		s.Actions = append(s.Actions, ActionLeave, ActionChoose)
		return s
	})
}

func (a *Agent) newEnrollment(d *desk, o officer) *enrollment {
	return &enrollment{d: d, officer: o, readers: a.cfg.Readers, residents: a.cfg.Residents, cards: &a.cards, portraits: a.cfg.Portraits, printer: a.cfg.Printer, tokens: a.cfg.Tokens, tpm: a.cfg.TPM, queue: a.cfg.Queue, activity: a.cfg.Activity,
		delivery: a.cfg.Delivery, registry: a.cfg.Registry, chain: chain{a.cfg.TPM, a.cfg.Queue}, id: a.cfg.ID, cert: a.cfg.Certificate(),
		count: func(c DayCounts) { a.note(o, c) }, limits: a.cfg.Limits, clock: a.cfg.Clock, now: a.now, newestPolicy: a.cfg.Policy, texts: a.cfg.Texts, observe: a.cfg.Observe, log: a.log, custodian: a.custody}
}

// attend runs what a citizen came for. It returns an error only when the agent
// ends.
func (a *Agent) attend(ctx context.Context, e *enrollment, errand func(context.Context) error) error {
	language := e.d.base.Language
	e.d.citizen = true
	defer func() { e.d.base.Language, e.d.base.Guardian, e.d.citizen = language, nil, false }()
	err := errand(ctx)
	if err != nil && ctx.Err() == nil && !e.saved {
		a.note(e.officer, DayCounts{Ended: map[Ending]int{ending(err): 1}})
	}
	if err != nil && e.place != nil {
		e.place.abandon(ctx)
	}
	if err != nil && e.old != nil {
		a.custody.tidyUp(ctx) // a replacement that was promised and not put
	}
	if err == nil || ctx.Err() != nil {
		return ctx.Err()
	}
	var fault *Fault
	switch {
	case errors.Is(err, errDeclined), errors.Is(err, errDoubted), errors.Is(err, errStartOver):
		a.log.Info("enrollment ended early", "because", err)
		return nil
	case errors.As(err, &fault):
	default:
		fault = kioskFault(err)
	}
	a.log.Warn("enrollment failed", "code", fault.Code, "cause", fault.Unwrap())
	if fault.Code == CodeTimedOut {
		return nil
	}
	fault.Remedy = RemedyStartOver
	if err := e.trouble(ctx, fault); err != nil && !errors.Is(err, errStartOver) {
		return ctx.Err()
	}
	return nil
}

// prepare is ready for an enrollment, of which there may be only so many on one day.
func (e *enrollment) prepare(ctx context.Context) error {
	if err := e.ready(ctx); err != nil {
		return err
	}
	if err := e.withinQuota(e.policy.Policy()); err != nil {
		return kioskFault(err)
	}
	return nil
}

// ready takes the policy for this record and checks what it will need.
func (e *enrollment) ready(ctx context.Context) (err error) {
	defer func() {
		if err != nil {
			err = kioskFault(err)
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, e.limits.TPM)
	defer cancel()
	if e.policy, err = e.currentPolicy(); err != nil {
		return err
	}
	p := e.policy.Policy()
	if e.anchors, err = Anchors(p); err != nil {
		return err
	}
	if e.roots, err = expect.Roots(p.PIVRoots); err != nil {
		return err
	}
	e.d.base.Simulated = simulated(p)
	// The policy may be newer than the sign-on.
	if _, err := officerOf(e.officer.leaf.Raw, p, record.Officer, e.now()); err != nil {
		return officerFault(err)
	}
	if err := e.queue.Room(ctx); err != nil {
		return err
	}
	_, _, err = e.chain.check(ctx)
	return err
}

// withinQuota says whether the policy lets this officer and this kiosk enroll one
// more today.
func (e *enrollment) withinQuota(p policy.Policy) error {
	own, all := e.activity.Enrollments(e.officer.digest(), e.now())
	if quota := p.OfficerRule(e.officer.leaf).Quota; quota > 0 && own >= quota {
		return fmt.Errorf("%w: %d by this officer", errQuota, own)
	}
	if limit := p.Limits.EnrollmentsPerDay; limit > 0 && all >= limit {
		return fmt.Errorf("%w: %d on this kiosk", errQuota, all)
	}
	return nil
}

// Anchors are the trust anchors of a policy.
func Anchors(p policy.Policy) (trust.Anchors, error) {
	var list []trust.Anchor
	for _, r := range p.Anchors {
		list = append(list, trust.Anchor{Certificate: r.Certificate, Class: trust.Class(r.Class)})
	}
	return trust.NewAnchors(list, p.CRLs...)
}

// simulated says whether any root of class test is trusted: then this is a
// training installation and every screen says so.
func simulated(p policy.Policy) bool {
	lists := [][]policy.Root{p.Anchors, p.PIVRoots, p.OfficerCA}
	for _, d := range p.Documents {
		if d.Class == record.Test {
			return true
		}
		lists = append(lists, d.Roots)
	}
	for _, roots := range lists {
		for _, r := range roots {
			if r.Class == record.Test {
				return true
			}
		}
	}
	return false
}

// officerOf checks an officer's certificate: under the force's authority, valid
// now, not revoked, for signing, with a number for a name, of a unit that may
// play the role.
func officerOf(der []byte, p policy.Policy, role record.Role, at time.Time) (officer, error) {
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return officer{}, fmt.Errorf("%w: %w", ErrOfficerUnknown, err)
	}
	pool := x509.NewCertPool()
	for _, r := range p.OfficerCA {
		c, err := x509.ParseCertificate(r.Certificate)
		if err != nil {
			return officer{}, fmt.Errorf("officers' authority: %w", err)
		}
		pool.AddCert(c)
	}
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: pool, CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}); err != nil {
		return officer{}, fmt.Errorf("%w: %w", ErrOfficerUnknown, err)
	}
	if r := p.Revocations(); r.Named(leaf) || r.Listed(leaf, at) {
		return officer{}, fmt.Errorf("%w: the card was reported lost", ErrOfficerUnknown)
	}
	if leaf.KeyUsage&x509.KeyUsageDigitalSignature == 0 || leaf.Subject.SerialNumber == "" {
		return officer{}, fmt.Errorf("%w: certificate is not for signing or has no number", ErrOfficerUnknown)
	}
	if !p.OfficerRule(leaf).May(role) {
		return officer{}, fmt.Errorf("%w: the policy does not give the role %s to its unit", ErrOfficerUnknown, role)
	}
	return officer{chain: [][]byte{der}, leaf: leaf, number: leaf.Subject.SerialNumber}, nil
}

// DeskOfficer reads the certificate of slot 9C, DER, of an officer who serves at
// the desk for tokens, and returns the officer's number. That the card holds its
// key is not shown by this. Errors wrap ErrOfficerUnknown.
func DeskOfficer(der []byte, p policy.Policy, at time.Time) (number string, err error) {
	o, err := officerOf(der, p, policy.Desk, at)
	return o.number, err
}

// watch keeps Health current: readers, queue and line. It writes the newest
// value into out, a channel of capacity one.
func (a *Agent) watch(ctx context.Context, out chan Health) {
	h := Health{Readers: map[Device]ReaderState{}}
	send := func() {
		select {
		case <-out:
		default:
		}
		out <- h
	}
	counted := make(chan func(*Health), 1)
	recount := make(chan struct{}, 1)
	go a.count(ctx, recount, counted)
	again := func() {
		select {
		case recount <- struct{}{}:
		default:
		}
	}
	if a.cfg.Machine != nil {
		go a.inspect(ctx, counted)
	}
	events := a.cfg.Delivery.Events(ctx)
	tick := time.NewTicker(10 * time.Second)
	defer tick.Stop()
	var readers <-chan map[Device]ReaderState
	retry := time.After(0)
	again()
	for {
		select {
		case <-ctx.Done():
			return
		case news := <-counted:
			news(&h)
			send()
		case <-retry:
			ch, err := a.cfg.Readers.Watch(ctx)
			if err != nil { // the channel has closed before: readers are empty
				h.Readers = map[Device]ReaderState{}
				retry = time.After(2 * time.Second)
				send()
				continue
			}
			readers = ch
		case r, ok := <-readers:
			if !ok {
				readers, retry = nil, time.After(2*time.Second)
				r = map[Device]ReaderState{}
			}
			if h.Readers[DeviceOfficer] == ReaderCard && r[DeviceOfficer] != ReaderCard {
				a.left.Add(1)
			}
			if there := h.Readers[DeviceDocument]; (there == ReaderCard || there == ReaderMute) && r[DeviceDocument] != there {
				h.documents++
			}
			h.Readers = r
			send()
		case ev := <-events:
			h.heard(ev)
			if ev.Stage == Receipted {
				h.Delivered = a.now()
			}
			again()
			send()
		case ev := <-a.line:
			h.heard(ev)
			send()
		case <-tick.C:
			again()
		case <-a.noted:
			again()
		}
	}
}

// heard takes news of the line.
func (h *Health) heard(e DeliveryEvent) {
	switch {
	case e.Stage == Trouble && e.ID == queue.ID{}:
		h.Registry, h.RegistryNote, h.Stopped, h.Inspector = false, e.Code, e.Stopped, e.Inspector
		if !e.Next.IsZero() {
			h.NextTry = e.Next
		}
	case e.Stage == Trouble: // about one record; the registry answered
	default:
		h.Registry, h.RegistryNote, h.Stopped, h.Inspector, h.NextTry = true, "", false, "", time.Time{}
	}
}

// count asks queue and TPM how they are, apart from the readers: neither may
// hold up the news that a card came or went.
func (a *Agent) count(ctx context.Context, ask <-chan struct{}, out chan<- func(*Health)) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-ask:
		}
		limited, cancel := context.WithTimeout(ctx, a.cfg.Limits.TPM)
		s, queueErr := a.cfg.Queue.Stats(limited)
		today, todayErr := a.today(limited)
		_, tpmErr := a.cfg.TPM.Counter(limited)
		cancel()
		var logFault Code
		if a.cfg.LogFault != nil {
			logFault = a.cfg.LogFault()
		}
		var alarms []Code
		if a.cfg.Alarms != nil {
			alarms = a.cfg.Alarms()
		}
		news := func(h *Health) {
			h.TPM, h.LogFault, h.Alarms = tpmErr == nil, logFault, alarms
			if queueErr == nil {
				h.Queued, h.Oldest, h.Quarantined = s.Waiting, s.Oldest, s.Quarantined
			}
			if todayErr == nil {
				h.Today = today
			}
		}
		if err := errors.Join(queueErr, todayErr); err != nil && ctx.Err() == nil {
			a.log.Error("the queue does not answer", "cause", err)
		}
		select {
		case out <- news:
		case <-ctx.Done():
			return
		}
	}
}

// today is what became of enrollments since midnight.
func (a *Agent) today(ctx context.Context) (t Today, err error) {
	now := a.now()
	_, all := a.cfg.Diary.Day([32]byte{}, now)
	t.Enrolled = all.Enrolled
	t.Delivered, t.Refused, err = a.cfg.Archive.Since(ctx, Midnight(now))
	return t, err
}

// inspectInterval is how often clock, disk and printer are looked at.
const inspectInterval = 15 * time.Second

// inspect looks at clock, disk and printer, apart from all others: a printer may be
// slow to answer.
func (a *Agent) inspect(ctx context.Context, out chan<- func(*Health)) {
	for {
		m := a.cfg.Machine(ctx)
		select {
		case out <- func(h *Health) { h.Clock, h.Disk, h.Printer = m.Clock, m.Disk, m.Printer }:
		case <-ctx.Done():
			return
		}
		select {
		case <-time.After(inspectInterval):
		case <-ctx.Done():
			return
		}
	}
}
