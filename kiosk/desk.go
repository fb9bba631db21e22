package kiosk

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"enrollkiosk/kiosk/secret"
)

// Ways an enrollment ends before its record exists. None is a fault.
var (
	errDeclined  = errors.New("the citizen declined")
	errDoubted   = errors.New("the officer does not recognise the person")
	errStartOver = errors.New("started over")
	errSignedOff = errors.New("the officer signed off")
	errLocked    = errors.New("the officer locked the desk")
	errAlone     = errors.New("a citizen comes without an officer")
)

// errAway means that a screen must not be shown now.
var errAway = errors.New("the officer's card is away")

// desk asks one question at a time: it publishes a state and waits for an
// intent that answers it. Only the goroutine of Agent.Run uses it.
type desk struct {
	hub     *hub
	intents chan Intent
	health  chan Health
	idle    time.Duration
	lock    time.Duration // at home, until the desk locks itself; zero for never
	citizen bool          // is here: screens have their place in an enrollment

	guard *guard // nil: nobody is signed on
	aside bool   // what runs is no enrollment: its pages have no place in one

	number uint64
	latest Health
	base   State // language, officer, simulated: what every state carries
}

// show publishes s as a new question or message.
func (d *desk) show(s State) State {
	d.number++
	s.Number = d.number
	return d.update(s)
}

// update publishes s again under the same number.
func (d *desk) update(s State) State {
	s.Health = d.latest
	s.Languages, s.Language = d.base.Languages, d.base.Language
	s.Officer, s.Simulated, s.Closed = d.base.Officer, d.base.Simulated, d.base.Closed
	if d.base.Guardian != nil {
		s.Guardian = d.base.Guardian
	}
	if !d.aside {
		s.Position = position(s.Screen)
	}
	if s.Position > 0 {
		s.Positions = len(order)
	}
	if s.Screen == ScreenPrinting && !d.citizen {
		s.Position, s.Positions = 0, 0
	}
	if s.Screen == ScreenLocked || s.Locked {
		s.Health = s.Health.withoutFigures()
	}
	if len(s.Actions) == 0 && s.Main != "" {
		s.Actions = []Action{s.Main}
	}
	d.hub.publish(s)
	return s
}

// ask publishes the state that build makes and returns the first intent that
// answers it. A change of language asks the same question again in it.
// ActionDecline, ActionDoubtPerson, ActionStartOver, ActionSignOff and ActionLock
// come back as errors.
func (d *desk) ask(ctx context.Context, build func() State) (Intent, error) {
	in, _, err := d.wait(ctx, build, nil)
	return in, err
}

// wait is ask that also returns, with ok false, as soon as ready says yes to
// the machine's health.
// ready may put a hint into the state. While the officer's card is away, officers'
// screens are covered: the question is asked again when it is back.
func (d *desk) wait(ctx context.Context, build func() State, ready func(*State, Health) bool) (in Intent, ok bool, err error) {
	for {
		if in, ok, err = d.question(ctx, build, ready); !errors.Is(err, errAway) {
			return in, ok, err
		}
		if err := d.unlock(ctx); err != nil {
			return Intent{}, false, err
		}
	}
}

// look is the newest that is known of the machine.
func (d *desk) look() Health {
	select { // what came while nobody was asked
	case d.latest = <-d.health:
	default:
	}
	return d.latest
}

func (d *desk) question(ctx context.Context, build func() State, ready func(*State, Health) bool) (in Intent, ok bool, err error) {
	d.look()
	s := build()
	if d.covered(s) {
		return Intent{}, false, errAway
	}
	if ready != nil && ready(&s, d.latest) {
		return Intent{}, false, nil
	}
	s = d.show(s)
	var expired <-chan time.Time
	if limit := d.patience(s); limit > 0 {
		t := time.NewTimer(limit)
		defer t.Stop()
		expired = t.C
	}
	for {
		select {
		case <-ctx.Done():
			return Intent{}, false, ctx.Err()
		case <-expired:
			return Intent{}, false, &Fault{Code: CodeTimedOut, Remedy: RemedyStartOver}
		case h := <-d.health:
			d.latest = h
			if d.covered(s) {
				return Intent{}, false, errAway
			}
			if ready != nil && ready(&s, h) {
				return Intent{}, false, nil
			}
			d.update(s)
		case in := <-d.intents:
			if in.State != s.Number || !slices.Contains(s.Actions, in.Action) {
				in.Wipe()
				continue
			}
			if d.covered(s) {
				in.Wipe()
				return Intent{}, false, errAway
			}
			switch in.Action {
			case ActionDecline:
				return in, true, errDeclined
			case ActionDoubtPerson:
				return in, true, errDoubted
			case ActionStartOver, ActionLeave:
				return in, true, errStartOver
			case ActionSignOff:
				return in, true, errSignedOff
			case ActionLock:
				return in, true, errLocked
			case ActionChoose:
				if slices.Contains(d.base.Languages, in.Choice) {
					d.base.Language = in.Choice
					if s.Screen != ScreenLanguage {
						s = d.show(build())
						continue
					}
					return in, true, nil
				}
				continue
			}
			return in, true, nil
		}
	}
}

// patience is how long a question waits for its answer; zero is for ever.
func (d *desk) patience(s State) time.Duration {
	switch {
	case s.Screen == ScreenHome:
		return d.lock
	case s.Screen == ScreenLocked, s.Screen == ScreenSignOn && !s.Locked:
		return 0
	}
	return d.idle
}

// askOfficer shows the screen that build makes, which wants an officer's card
// and PIN, until try succeeds; a fault in its state is shown until another one
// comes. Only an intent of the officer, never a retry,
// sends a PIN to the card. A fault of try is shown; any other error ends it.
func (d *desk) askOfficer(ctx context.Context, build func() State, try func(context.Context, secret.Text) (officer, error)) (officer, error) {
	var problem PINView
	fault := build().Fault
	for {
		in, answered, err := d.wait(ctx, func() State {
			s, pin := build(), problem
			pin.Min, pin.Max = MinPIN, MaxPIN
			s.Turn, s.Waiting, s.PIN, s.Fault = TurnOfficer, DeviceOfficer, &pin, fault
			return s
		}, func(s *State, h Health) bool {
			s.Fault = cmp.Or(readerHint(DeviceOfficer, h.Readers[DeviceOfficer]), fault)
			return false
		})
		if err != nil {
			return officer{}, err
		}
		if !answered {
			continue
		}
		if in.Action == ActionSelfService {
			return officer{}, errAlone
		}
		o, err := try(ctx, in.Secret)
		in.Wipe()
		if err == nil {
			return o, nil
		}
		if !errors.As(err, &fault) {
			return officer{}, err
		}
		problem = PINView{}
		if fault.Code == CodeOfficerWrongPIN {
			problem.Problem, problem.Left = PINWrong, fault.Left
		}
	}
}

// Wipe overwrites what the intent carries in secret.
func (in Intent) Wipe() {
	in.Secret.Wipe()
	if in.MRZ != nil {
		in.MRZ.Number.Wipe()
		in.MRZ.Birth.Wipe()
		in.MRZ.Expiry.Wipe()
	}
}

// guard knows whether the card of the officer who signed on has lain on its
// reader all the time since it last proved itself.
type guard struct {
	left   func() uint64 // how often a card has left the officers' reader
	seen   uint64        // left, before the card proved itself
	proved time.Time
	unlock func(ctx context.Context, pin secret.Text) error // nil when the same card is back
}

// settle is how long the news that a card has come may take.
const settle = 5 * time.Second

// away says whether the card has left, for however short a time.
func (g *guard) away(h Health) bool {
	return g.left() != g.seen || h.Readers[DeviceOfficer] != ReaderCard && time.Since(g.proved) > settle
}

// proving runs f, in which the officer's card proves itself.
func (g *guard) proving(f func() error) error {
	if g == nil {
		return f()
	}
	before := g.left()
	if err := f(); err != nil {
		return err
	}
	g.seen, g.proved = before, time.Now()
	return nil
}

// covered says whether the officer's card must be back before s is shown. What
// asks for a card and its PIN is for whoever brings them; at home the officer is
// signed off instead.
func (d *desk) covered(s State) bool {
	return s.Turn == TurnOfficer && s.Waiting != DeviceOfficer && s.Screen != ScreenHome && d.guard != nil && d.guard.away(d.latest)
}

// unlock covers the screen until the card of the officer who signed on is back
// with its PIN. Anybody may start over: that keeps nothing and shows nothing.
func (d *desk) unlock(ctx context.Context) error {
	_, err := d.askOfficer(ctx, func() State {
		return State{Screen: ScreenSignOn, Locked: true, Main: ActionSignOn, Actions: []Action{ActionSignOn, ActionStartOver, ActionChoose},
			Fault: &Fault{Code: CodeOfficerRemoved, Remedy: RemedyRetry}}
	}, d.prove)
	return err
}

// close asks for the card of the officer who signed on, with its PIN, and tells
// the windows to end. nil: the officer went back instead.
func (d *desk) close(ctx context.Context) error {
	_, err := d.askOfficer(ctx, func() State {
		return State{Screen: ScreenClose, Main: ActionApprove, Actions: []Action{ActionApprove, ActionLeave, ActionChoose}}
	}, d.prove)
	var fault *Fault
	switch {
	case errors.Is(err, errStartOver), errors.As(err, &fault):
		return nil
	case err != nil:
		return err
	}
	d.base.Closed++
	return errSignedOff
}

// prove has the card of the officer who signed on prove itself again.
func (d *desk) prove(ctx context.Context, pin secret.Text) (officer, error) {
	return officer{}, d.guard.proving(func() error { return d.guard.unlock(ctx, pin) })
}
