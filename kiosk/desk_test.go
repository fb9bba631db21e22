package kiosk

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"enrollkiosk/kiosk/secret"
)

func newDesk() *desk {
	d := &desk{hub: newHub(func(Code) {}), intents: make(chan Intent), health: make(chan Health, 1), idle: time.Minute}
	d.base.Languages, d.base.Language = []string{"en", "zh"}, "en"
	return d
}

func consent() State {
	return State{Screen: ScreenConsent, Main: ActionAccept, Actions: []Action{ActionAccept, ActionDecline, ActionChoose}}
}

// ask asks in the background; the test answers as a person would.
func ask(ctx context.Context, d *desk, build func() State) (states <-chan State, answer <-chan Intent, failed <-chan error) {
	a, e := make(chan Intent, 1), make(chan error, 1)
	go func() {
		in, err := d.ask(ctx, build)
		if err != nil {
			e <- err
			return
		}
		a <- in
	}()
	return d.hub.states(ctx), a, e
}

func TestOnlyAnAnswerToThisQuestionCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk()
		states, answer, _ := ask(t.Context(), d, consent)
		s := <-states
		stale := secret.FromString("123456")
		d.intents <- Intent{State: s.Number - 1, Action: ActionAccept, Secret: stale} // a second tap on the page before
		d.intents <- Intent{State: s.Number, Action: ActionApprove}                   // no button of this page
		d.intents <- Intent{State: s.Number + 1, Action: ActionAccept}
		synctest.Wait()
		select {
		case in := <-answer:
			t.Fatalf("taken: %+v", in)
		default:
		}
		if stale.Len() != 0 {
			t.Error("the secret of a dropped intent was not wiped")
		}
		d.intents <- Intent{State: s.Number, Action: ActionAccept}
		if in := <-answer; in.Action != ActionAccept {
			t.Errorf("got %+v", in)
		}
	})
}

func TestLanguageChangesAnywhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk()
		states, answer, _ := ask(t.Context(), d, consent)
		s := <-states
		d.intents <- Intent{State: s.Number, Action: ActionChoose, Choice: "xx"} // not offered: nothing happens
		d.intents <- Intent{State: s.Number, Action: ActionChoose, Choice: "zh"}
		next := <-states
		if next.Language != "zh" || next.Screen != ScreenConsent || next.Number == s.Number {
			t.Errorf("got %+v", next)
		}
		d.intents <- Intent{State: next.Number, Action: ActionAccept}
		<-answer
	})
}

func TestDecliningAndWalkingAwayEndTheQuestion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk()
		states, _, failed := ask(t.Context(), d, consent)
		s := <-states
		d.intents <- Intent{State: s.Number, Action: ActionDecline}
		if err := <-failed; !errors.Is(err, errDeclined) {
			t.Errorf("declined: %v", err)
		}
		_, _, failed = ask(t.Context(), d, consent)
		began := time.Now()
		var fault *Fault
		if err := <-failed; !errors.As(err, &fault) || fault.Code != CodeTimedOut || time.Since(began) != time.Minute {
			t.Errorf("walked away: %v after %v", err, time.Since(began))
		}
	})
}

// A change of the machine's health is shown at once and does not make a tap on
// the way invalid.
func TestHealthDoesNotInvalidateATap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk()
		states, answer, _ := ask(t.Context(), d, consent)
		s := <-states
		d.health <- Health{Queued: 5}
		next := <-states
		if next.Health.Queued != 5 || next.Number != s.Number || next.Revision <= s.Revision {
			t.Errorf("got %+v", next)
		}
		d.intents <- Intent{State: s.Number, Action: ActionAccept}
		<-answer
	})
}

func TestWaitGoesOnWhenTheCardComes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk()
		e := &enrollment{d: d}
		done := make(chan error, 1)
		go func() { done <- e.awaitDevice(t.Context(), ScreenPlaceCard, DeviceDocument) }()
		states := d.hub.states(t.Context())
		if s := <-states; s.Fault == nil || s.Fault.Code != CodeReaderMissing {
			t.Errorf("no reader: %+v", s.Fault)
		}
		for _, step := range []struct {
			reader ReaderState
			want   Code
		}{{ReaderEmpty, ""}, {ReaderMute, CodeCardMute}, {ReaderEmpty, ""}} {
			d.health <- Health{Readers: map[Device]ReaderState{DeviceDocument: step.reader}}
			s := <-states
			if got := s.Fault; (got == nil) != (step.want == "") || got != nil && got.Code != step.want {
				t.Errorf("%s: %+v", step.reader, got)
			}
		}
		d.health <- Health{Readers: map[Device]ReaderState{DeviceDocument: ReaderCard}}
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestSlowReaderGetsTheNewestState(t *testing.T) {
	h := newHub(func(Code) {})
	ch := h.states(t.Context())
	for n := range uint64(100) {
		h.publish(State{Number: n})
	}
	if s := <-ch; s.Number != 99 {
		t.Errorf("got state %d, want 99", s.Number)
	}
	if s := <-h.states(t.Context()); s.Number != 99 {
		t.Errorf("a new reader got %d", s.Number)
	}
	h.close()
	if _, ok := <-ch; ok {
		t.Error("channel open after the agent ended")
	}
}

// A fault counts once for each time that people are asked about it, however often
// its state is drawn.
func TestFaultsAreCounted(t *testing.T) {
	var got []Code
	h := newHub(func(c Code) { got = append(got, c) })
	shown := func(number uint64, code Code) {
		s := State{Number: number}
		if code != "" {
			s.Fault = &Fault{Code: code}
		}
		h.publish(s)
	}
	shown(1, "")
	shown(2, CodeCardMute)
	shown(2, CodeCardMute) // health has changed
	shown(3, CodeCardMute) // and again
	shown(3, CodeCardSlow)
	shown(3, "")
	shown(3, CodeCardSlow)
	if want := []Code{CodeCardMute, CodeCardMute, CodeCardSlow, CodeCardSlow}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}
