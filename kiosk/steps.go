package kiosk

import (
	"context"
	"errors"
	"time"
)

// Event is one step of the flow as it ended, for timelines. It holds no
// personal data.
type Event struct {
	Step   StepName
	Began  time.Time
	Took   time.Duration
	APDUs  int // exchanged with the ID card during the step
	Bytes  int // to and from the ID card
	Failed Code
}

// stepper draws a waiting screen while it runs the steps of one part of the
// flow, in order.
type stepper struct {
	d       *desk
	s       State
	observe func(Event)
	traffic func() (apdus, bytes int) // of the ID card; may be nil

	now          Event // of the running step
	apdus, bytes int   // traffic when it began
}

func (e *enrollment) stepper(screen Screen, names ...StepName) *stepper {
	return newStepper(e.d, e.observe, screen, names...)
}

func newStepper(d *desk, observe func(Event), screen Screen, names ...StepName) *stepper {
	p := &stepper{d: d, observe: observe}
	p.s = State{Screen: screen, Turn: TurnMachine}
	for _, n := range names {
		p.s.Steps = append(p.s.Steps, Step{Name: n, Status: StepPending})
	}
	p.s = p.d.show(p.s)
	return p
}

// run does one step and shows it; its error is classified for the device that
// the step works with. What f does may enter further steps: then the error is
// that of the last one.
func (p *stepper) run(ctx context.Context, name StepName, classify func(error) *Fault, f func(ctx context.Context) error) error {
	p.begin(name)
	err := f(ctx)
	status := StepDone
	if err != nil {
		status = StepFailed
		if ctx.Err() == nil || errors.Is(err, context.DeadlineExceeded) {
			f := classify(err)
			p.now.Failed, err = f.Code, f
		}
	}
	p.end(status)
	return err
}

// enter ends the running step well and begins the next.
func (p *stepper) enter(name StepName) {
	if name != p.now.Step {
		p.end(StepDone)
		p.begin(name)
	}
}

func (p *stepper) begin(name StepName) {
	p.now = Event{Step: name, Began: time.Now()}
	if p.traffic != nil {
		p.apdus, p.bytes = p.traffic()
	}
	p.set(name, StepRunning)
}

func (p *stepper) end(status StepStatus) {
	p.now.Took = time.Since(p.now.Began)
	if p.traffic != nil {
		a, b := p.traffic()
		p.now.APDUs, p.now.Bytes = a-p.apdus, b-p.bytes
	}
	p.set(p.now.Step, status)
	p.observe(p.now)
}

func (p *stepper) set(name StepName, status StepStatus) {
	steps := append([]Step(nil), p.s.Steps...) // published states never change
	for i := range steps {
		if steps[i].Name == name {
			steps[i].Status = status
		}
	}
	p.s.Steps = steps
	p.s = p.d.update(p.s)
}

// progress shows how far the running step is.
func (p *stepper) progress(name StepName, done, total int) {
	steps := append([]Step(nil), p.s.Steps...)
	for i := range steps {
		if steps[i].Name == name {
			steps[i].Done, steps[i].Total = done, total
		}
	}
	p.s.Steps = steps
	p.s = p.d.update(p.s)
}

// try runs f until it succeeds or the person gives up. A fault is shown with
// its remedy; any other error ends the enrollment.
func (e *enrollment) try(ctx context.Context, f func(ctx context.Context) error) error {
	for {
		err := f(ctx)
		var fault *Fault
		if err == nil || !errors.As(err, &fault) || fault.Code == CodeTimedOut {
			return err
		}
		e.log.Warn("step failed", "code", fault.Code, "cause", fault.Unwrap())
		if err := e.trouble(ctx, fault); err != nil {
			return err
		}
	}
}

// trouble shows a fault. nil means: try again.
func (e *enrollment) trouble(ctx context.Context, f *Fault) error {
	_, err := e.d.ask(ctx, func() State {
		s := State{Screen: ScreenTrouble, Turn: TurnOfficer, Fault: f}
		switch f.Remedy {
		case RemedyStartOver:
			s.Main, s.Actions = ActionStartOver, []Action{ActionStartOver}
		case RemedyRetry, RemedyOtherCard:
			s.Turn = TurnCitizen
			s.Main, s.Actions = ActionRetry, []Action{ActionRetry, ActionStartOver}
		default:
			s.Main, s.Actions = ActionRetry, []Action{ActionRetry, ActionStartOver}
		}
		if e.officer.leaf == nil { // a citizen alone: nobody else is there to turn the screen to
			s.Turn = TurnCitizen
		}
		return s
	})
	return err
}
