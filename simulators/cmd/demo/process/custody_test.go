package process_test

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"enrollkiosk/kiosk"
	"enrollkiosk/simulators/cmd/demo/stage"
)

// inCustody lists the key files and notes that a kiosk keeps.
func inCustody(t *testing.T, s *stage.Stage) (keys, notes []string) {
	t.Helper()
	for pattern, list := range map[string]*[]string{"tpm/citizens/*.pem": &keys, "custody/*": &notes} {
		var err error
		if *list, err = filepath.Glob(filepath.Join(s.Config.Kiosk.State, pattern)); err != nil {
			t.Fatal(err)
		}
	}
	return keys, notes
}

// The agent is killed after each step that has to do with a key in the kiosk's
// TPM. When it has started again, the key is gone, or it is the saved record's
// and its holder comes back to it.
func TestKilledInCustody(t *testing.T) {
	s := newStage(t, "Custody", slog.New(slog.DiscardHandler))
	kept := 0
	for i, step := range []kiosk.StepName{kiosk.StepMakeContext, kiosk.StepMakeKeys, kiosk.StepVerifyKey, kiosk.StepSeal,
		kiosk.StepHolderSign, kiosk.StepProvisional, kiosk.StepSave} {
		t.Run(string(step), func(t *testing.T) {
			newCitizen(t, s, 100+i)
			killAfter(t, s, step, func(p *stage.Script) { p.NoToken = true })
			if keys, _ := inCustody(t, s); len(keys) == kept && step != kiosk.StepMakeContext {
				t.Error("no key was made before the kill")
			}
			if step == kiosk.StepSave {
				kept++
			}
			a := startAgent(t, s)
			tidied(t, a)
			if keys, notes := inCustody(t, s); len(keys) != kept || len(notes) != kept {
				t.Errorf("kept %v %v, want %d", keys, notes, kept)
			}
			a.stop(t)
		})
	}
}

// tidied waits for the first question of an agent.
func tidied(t *testing.T, a *process) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	states, err := a.desk.States(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := <-states; !ok {
		t.Fatal("the agent shows nothing")
	}
}

// The agent is killed while the holder of a key in custody moves to a token. The
// old key lives exactly until the authority has confirmed the new one, also when
// that happened while no agent ran.
func TestKilledOnTheMove(t *testing.T) {
	s := newStage(t, "Move", slog.New(slog.DiscardHandler))
	for i, step := range []kiosk.StepName{kiosk.StepMakeKeys, kiosk.StepOldSign, kiosk.StepProvisional, kiosk.StepSave, kiosk.StepPurge} {
		t.Run(string(step), func(t *testing.T) {
			newCitizen(t, s, 200+i)
			a := startAgent(t, s)
			a.follow(func(kiosk.Event) {})
			first := a.script(s)
			first.NoToken = true
			number := enroll(t, first).Custody
			a.stop(t)
			newToken(s, 200+i)
			move := func(p *stage.Script) { p.Custody, p.KeyPIN, p.PIN = number, p.PIN, "61507392" }
			killAfter(t, s, step, move)
			keys, notes := inCustody(t, s)
			if (len(keys) != 1 || len(notes) != 1) && step != kiosk.StepPurge { // after it the authority may have confirmed
				t.Fatalf("the kill left %v %v", keys, notes)
			}
			again := step != kiosk.StepSave && step != kiosk.StepPurge // it did not happen: once more
			if again {
				newToken(s, 300+i)
			}
			a = startAgent(t, s)
			tidied(t, a)
			if again {
				a.follow(func(kiosk.Event) {})
				p := a.script(s)
				move(p)
				enroll(t, p)
			}
			var err error
			for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
				keys, notes := inCustody(t, s)
				if err = nil; len(keys)+len(notes) == 0 {
					break
				}
				err = fmt.Errorf("still here: %v %v", keys, notes)
			}
			if err != nil {
				t.Error(err)
			}
			a.stop(t)
		})
	}
}
