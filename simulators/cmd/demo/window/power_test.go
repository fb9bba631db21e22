package window

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"enrollkiosk/kiosk"
	"enrollkiosk/kiosk/secret"
	"enrollkiosk/kiosk/station"
	"enrollkiosk/registry/checkpoint"
	"enrollkiosk/registry/receipt"
	"enrollkiosk/registry/record"
	"enrollkiosk/simulators/cmd/demo/stage"
	"enrollkiosk/simulators/pivtoken"
	"enrollkiosk/sync/queue"
)

// envAgent names a configuration: this process is the agent that it describes.
const envAgent = "WINDOW_TEST_AGENT"

// runAgent opens and runs the station as `kiosk agent` does, which lets nobody
// choose its PC/SC daemon.
func runAgent(file string) error {
	if err := secret.ForbidCore(); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	go func() { // the test holds the other end: no agent outlives it
		io.Copy(io.Discard, os.Stdin)
		os.Exit(1)
	}()
	config, err := station.Load(file)
	if err != nil {
		return err
	}
	limits := kiosk.DefaultLimits()
	limits.Delivery = patience
	s, err := station.Open(ctx, config, station.Options{Limits: limits, Log: slog.New(slog.NewTextHandler(os.Stderr, nil))})
	if err != nil {
		return err
	}
	return errors.Join(s.Run(ctx), s.Close())
}

// startAgent starts the stage's agent as a process of its own. It ends with the
// test.
func startAgent(t *testing.T, s *stage.Stage) *exec.Cmd {
	t.Helper()
	a := exec.Command(os.Args[0])
	a.Env = append(os.Environ(), envAgent+"="+filepath.Join(s.Dir, "kiosk.toml"))
	a.Stderr = t.Output()
	alive, err := a.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		a.Process.Kill() // fails only if it has ended
		a.Wait()
		alive.Close()
	})
	return a
}

// The power goes twice: when the citizen has a key and has signed nothing, and when
// the record is saved and the registry does not have it yet. Each time the window
// comes back to an officer's sign-on with nothing of the citizen. Of the first time
// no enrollment is left, and the token that has half a one on it is not taken; of
// the second the record is whole, and delivered once.
func TestPowerCut(t *testing.T) {
	t.Parallel()
	p := newPerson(t, "power", mouse{}, 1280, 800, "")
	p.language = "es"
	if err := p.StopKiosk(); err != nil { // it runs in this process
		t.Fatal(err)
	}
	var agent *exec.Cmd
	var window *program
	on := func() {
		t.Helper()
		agent = startAgent(t, p.Stage)
		window = open(t, p.display, "--socket", p.Config.Kiosk.Socket, "--full-screen=true")
		p.meet()
	}
	off := func() {
		t.Helper()
		window.kill()
		agent.Process.Kill()
		agent.Wait()
	}
	left := func(want ...record.Purpose) {
		t.Helper()
		if got := p.waiting(); !slices.Equal(got, want) {
			t.Errorf("records that wait: %v, want %v", got, want)
		}
	}
	signOn := func() {
		t.Helper()
		p.until(at(kiosk.ScreenSignOn))
		if s := p.now; s.Locked || s.Officer != "" || s.Holder != nil || s.Review != nil || s.Receipt != nil {
			t.Error("after the power cut the page for signing on carries something of before")
		}
	}

	on()
	p.until(at(kiosk.ScreenReview))
	off()
	left()

	on()
	signOn()
	if err := p.StopRegistry(); err != nil {
		t.Fatal(err)
	}
	p.instead = map[kiosk.Screen]func(kiosk.State){kiosk.ScreenTrouble: func(s kiosk.State) {
		p.Take(kiosk.DeviceToken)
		p.waits("the token is seen to go", func(s kiosk.State) bool { return s.Health.Readers[kiosk.DeviceToken] != kiosk.ReaderCard })
		p.IssueToken(pivtoken.Options{Serial: 20_000_002})
		p.press(p.words().Action(s.Main))
	}}
	p.until(at(kiosk.ScreenReceipt))
	if want := []kiosk.Code{kiosk.CodeNotFactoryNew}; !slices.Equal(p.troubles, want) {
		t.Errorf("troubles shown: %v, want %v", p.troubles, want)
	}
	saved := *p.now.Receipt
	off()
	left(record.Void, record.Enroll)

	if err := p.StartRegistry(t.Context()); err != nil {
		t.Fatal(err)
	}
	on()
	signOn()
	p.until(at(kiosk.ScreenHome))
	p.waits("all is delivered", func(s kiosk.State) bool { return s.Health.Queued == 0 && s.Health.Today.Delivered > 0 })
	p.keep("home-delivered", p.look())
	if h := p.now.Health; h.Quarantined != 0 || h.Today.Enrolled != 1 {
		t.Errorf("after the power cut %d enrolled today, %d set aside", h.Today.Enrolled, h.Quarantined)
	}
	off()
	left()
	p.delivered(saved.RecordID)
}

// waiting lists what the waiting records of the queue that a dead agent left are
// for, the oldest first.
func (p *person) waiting() (all []record.Purpose) {
	p.t.Helper()
	p.queue(func(ctx context.Context, q *queue.Queue) error {
		entries, err := q.List(ctx, 100, func(e queue.Entry) bool { return e.State != queue.Receipted && e.State != queue.Purged })
		for _, e := range entries {
			data, err := q.Data(ctx, e.ID)
			if err != nil {
				return err
			}
			sub, err := record.ParseSubmission(data)
			if err != nil {
				return err
			}
			if sub.ID() != e.ID {
				return fmt.Errorf("record %x stands under %s", sub.ID(), e.ID)
			}
			all = append(all, sub.Record().Payload().Context.Purpose)
		}
		return err
	})
	return all
}

// delivered wants the registry's receipt of a record in that queue.
func (p *person) delivered(record string) {
	p.t.Helper()
	p.queue(func(ctx context.Context, q *queue.Queue) error {
		entries, err := q.List(ctx, 100, func(e queue.Entry) bool { return e.ID.String() == record })
		if err != nil || len(entries) != 1 {
			return fmt.Errorf("%d records %s: %w", len(entries), record, err)
		}
		b, err := q.Receipt(ctx, entries[0].ID)
		if err != nil {
			return err
		}
		_, err = receipt.Verify(b, checkpoint.Log{Key: p.Keys.LogKey}, entries[0].ID)
		return err
	})
}

// queue opens the queue of a dead agent, which must be whole.
func (p *person) queue(look func(context.Context, *queue.Queue) error) {
	p.t.Helper()
	ctx := p.t.Context()
	q, report, err := queue.Open(ctx, filepath.Join(p.Config.Kiosk.State, "queue"), queue.Options{})
	if err != nil {
		p.t.Fatal(err)
	}
	if err := errors.Join(look(ctx, q), q.Close()); err != nil {
		p.t.Fatal(err)
	}
	if report.Rebuilt || len(report.SetAside) > 0 || report.Quarantined > 0 || report.Repaired > 0 || report.Unreadable > 0 {
		p.t.Errorf("the queue had to be mended: %+v", report)
	}
}
