// Command demo enrolls one specimen citizen, from chip to receipt, on simulated
// hardware: every protocol byte is real, and every program but the hardware is
// the one that production runs. It prints each step with its time and leaves
// record, receipt, the log's key, a timeline and a picture of every screen.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"k8s.io/klog/v2"

	"enrollkiosk/kiosk"
	"enrollkiosk/kiosk/words"
	"enrollkiosk/registry/record"
	"enrollkiosk/simulators/cmd/demo/stage"
	"enrollkiosk/simulators/pcscd"
	"enrollkiosk/sync/queue"
	"enrollkiosk/ui/picture"
)

func main() {
	queue.RunCheck()
	out := flag.String("out", "out/demo", "`directory` for what the run leaves")
	language := flag.String("language", "en", "the citizen's language: en or zh")
	verbose := flag.Bool("v", false, "show what kiosk, registry and vault log")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *out, *language, *verbose); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

// screen is the size of the pictures, in pixels.
const width, height = 1280, 800

// show is one run of the demo.
type show struct {
	out       string
	began     time.Time
	words     *words.Catalog
	traffic   *traffic
	stage     *stage.Stage
	mu        sync.Mutex
	steps     []timelineStep
	seen      []sight // one for each question asked
	err       error
	activated bool
}

// sight is a screen and when it was there.
type sight struct {
	state kiosk.State
	at    time.Time
}

// timelineStep is one line of timeline.json.
type timelineStep struct {
	Step   kiosk.StepName `json:"step"`
	At     float64        `json:"at_ms"` // since the program began
	Millis float64        `json:"ms"`
	APDUs  int            `json:"apdus,omitempty"` // exchanged with ID card, token and officer's card
	Bytes  int            `json:"bytes,omitempty"` // commands and responses
	Failed kiosk.Code     `json:"failed,omitempty"`
}

func run(ctx context.Context, out, language string, verbose bool) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	w, err := words.Open(language)
	if err != nil {
		return err
	}
	d := &show{out: out, began: time.Now(), words: w, traffic: &traffic{}}
	if err := os.RemoveAll(out); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(out, "screens"), 0o755); err != nil {
		return err
	}
	// A socket's path must be short, so everything that is not a result lives in
	// the temporary directory.
	daemon, dir, err := pcscd.Private()
	if err != nil {
		return err
	}
	defer daemon.Close()
	log := slog.New(slog.DiscardHandler)
	if verbose {
		log = slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	klog.SetSlogLogger(log) // the log library speaks through it
	s, err := stage.New(ctx, daemon, dir, stage.Options{Prefix: "Specimen", Log: log, Did: d.did, Observe: d.observe})
	if err != nil {
		return err
	}
	defer s.Close()
	d.stage = s
	d.traffic.watch(s)
	if err := s.Start(ctx); err != nil {
		return err
	}
	d.did("vault, registry and kiosk run")
	if err := s.Ready(ctx); err != nil {
		return err
	}
	script := s.Script()
	script.Language, script.OnState = language, d.see
	receipt, err := script.Enroll(ctx)
	if err != nil {
		return fmt.Errorf("enroll: %w", err)
	}
	if d.err != nil {
		return d.err
	}
	if err := d.draw(); err != nil {
		return err
	}
	if receipt.Final == "" {
		return errors.New("the final receipt did not come in time")
	}
	if !d.activated {
		return errors.New("the identity authority did not confirm the record in time")
	}
	if err := d.write("receipt.tlog-proof", []byte(receipt.Final)); err != nil {
		return err
	}
	if err := d.write("log.vkey", []byte(s.Keys.LogKey+"\n")); err != nil {
		return err
	}
	timeline, err := json.MarshalIndent(d.steps, "", "  ")
	if err != nil {
		return err
	}
	if err := d.write("timeline.json", append(timeline, '\n')); err != nil {
		return err
	}
	fmt.Printf("\nrecord    %s\nverdict   active\nscreens   %d pictures in %s\n\n%s", receipt.RecordID, len(d.seen),
		filepath.Join(out, "screens"), receipt.Final)
	return s.Close()
}

func (d *show) write(name string, b []byte) error {
	return os.WriteFile(filepath.Join(d.out, name), b, 0o644)
}

func (d *show) line(at time.Time, took time.Duration, text string) {
	fmt.Printf("%8.3f s  %8.1f ms  %s\n", at.Sub(d.began).Seconds(), float64(took.Microseconds())/1000, text)
}

// did prints a step of setting up.
func (d *show) did(what string) { d.line(time.Now(), 0, what) }

// observe prints a step of the enrollment as it ends. It runs in the flow.
func (d *show) observe(e kiosk.Event) {
	apdus, bytes := d.traffic.since(e.Began)
	d.shown(e.Step)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.steps = append(d.steps, timelineStep{Step: e.Step, At: float64(e.Began.Sub(d.began).Microseconds()) / 1000,
		Millis: float64(e.Took.Microseconds()) / 1000, APDUs: apdus, Bytes: bytes, Failed: e.Failed})
	text := d.words.Step(e.Step)
	if apdus > 0 {
		text += fmt.Sprintf("  (%d APDUs, %d bytes)", apdus, bytes)
	}
	if e.Failed != "" {
		text += "  FAILED " + string(e.Failed)
	}
	d.line(e.Began.Add(e.Took), e.Took, text)
	d.activated = d.activated || e.Step == kiosk.StepActivate && e.Failed == ""
	if e.Step == kiosk.StepSave && e.Failed == "" {
		d.keep(d.saveRecord())
	}
}

// saveRecord takes the record from the queue while it is there: after the
// receipt only its proof is left.
func (d *show) saveRecord() error {
	q := d.stage.Kiosk.Queue()
	waiting, err := q.Waiting(context.Background(), 1, queue.MaxData, func(queue.ID) bool { return false })
	if err != nil {
		return err
	}
	if len(waiting) != 1 {
		return fmt.Errorf("%d records wait in the queue, want 1", len(waiting))
	}
	s, err := record.ParseSubmission(waiting[0].Data)
	if err != nil {
		return err
	}
	return d.write("record.json", s.Record().Bytes())
}

func (d *show) keep(err error) {
	if d.err == nil {
		d.err = err
	}
}

// see keeps each question as it looked when it was answered, and of the things
// to take how they lay there.
func (d *show) see(s kiosk.State) {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := sight{s, time.Now()}
	switch last := len(d.seen) - 1; {
	case last < 0 || d.seen[last].state.Number != s.Number:
		d.seen = append(d.seen, now)
	case s.Screen != kiosk.ScreenTakeThings:
		d.seen[last] = now
	}
}

// shown gives whoever looks the time to see the screen of a step: a desk skips
// states for readers that are slower than the machine.
func (d *show) shown(step kiosk.StepName) {
	for range 200 {
		d.mu.Lock()
		there := len(d.seen) > 0 && slices.ContainsFunc(d.seen[len(d.seen)-1].state.Steps,
			func(s kiosk.Step) bool { return s.Name == step })
		d.mu.Unlock()
		if there {
			return
		}
		time.Sleep(time.Millisecond)
	}
}

// draw makes the pictures, after the run: they take longer than it does.
func (d *show) draw() error {
	// Nothing goes wrong in the demo, its card proves everything, its citizen is of age, has a
	// token, comes for an enrollment only, and there is no printer.
	drawn := map[kiosk.Screen]bool{kiosk.ScreenTrouble: true, kiosk.ScreenSecondOfficer: true, kiosk.ScreenSecondApprove: true,
		kiosk.ScreenNoToken: true, kiosk.ScreenCustodyNumber: true, kiosk.ScreenCustodyPIN: true, kiosk.ScreenCustodyKey: true, kiosk.ScreenPrinting: true,
		kiosk.ScreenLocked: true, kiosk.ScreenReceipts: true, kiosk.ScreenSetAside: true, kiosk.ScreenRecord: true, kiosk.ScreenDay: true, kiosk.ScreenClose: true,
		kiosk.ScreenServices: true, kiosk.ScreenSelfService: true, kiosk.ScreenShowToken: true, kiosk.ScreenTokenPIN: true, kiosk.ScreenTokenWork: true,
		kiosk.ScreenTokenResult: true, kiosk.ScreenScanReceipt: true, kiosk.ScreenStanding: true, kiosk.ScreenAskRegistry: true,
		kiosk.ScreenCancelCode: true, kiosk.ScreenConfirmCancel: true, kiosk.ScreenCancelled: true,
		kiosk.ScreenEndIdentity: true, kiosk.ScreenConfirmEnd: true, kiosk.ScreenIdentityEnded: true,
		kiosk.ScreenGuardian: true, kiosk.ScreenGuardianCard: true, kiosk.ScreenGuardianCompare: true, kiosk.ScreenGuardianProof: true,
		kiosk.ScreenGuardianNote: true, kiosk.ScreenCardBack: true}
	for i, s := range d.seen {
		drawn[s.state.Screen] = true
		name := filepath.Join(d.out, "screens", fmt.Sprintf("%02d-%s.png", i+1, s.state.Screen))
		if err := picture.Write(name, s.state, width, height, s.at); err != nil {
			return err
		}
	}
	for _, screen := range kiosk.Screens() {
		if !drawn[screen] {
			return fmt.Errorf("the screen %q was not seen in the run", screen)
		}
	}
	return nil
}
