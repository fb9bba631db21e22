// Package window tests the window that is installed at a police station: the
// production program on a display, with simulated hardware behind the agent and
// a person in front who works it by keyboard alone or by mouse alone. It acts on
// what is on the screen, compared with what ought to be there. Pictures of every
// page stay in out/window.
package window

import (
	"context"
	"fmt"
	"image"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"fyne.io/fyne/v2/test"

	"enrollkiosk/kiosk"
	"enrollkiosk/registry/checkpoint"
	"enrollkiosk/registry/receipt"
	"enrollkiosk/simulators/cmd/demo/stage"
	"enrollkiosk/simulators/idcard"
	"enrollkiosk/simulators/pcscd"
	"enrollkiosk/simulators/specimen"
	"enrollkiosk/sync/queue"
)

// What the tests of this process share: libpcsclite reads its daemon's address
// once.
var (
	binaryFile string
	daemon     *pcscd.Server
	issuers    *specimen.Authority
	stages     atomic.Int32
)

func TestMain(m *testing.M) {
	queue.RunCheck()
	if file := os.Getenv(envAgent); file != "" {
		if err := runAgent(file); err != nil {
			fmt.Fprintln(os.Stderr, "agent:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(func() int {
		started, dir, err := pcscd.Private()
		if err != nil {
			panic(err)
		}
		daemon = started
		defer daemon.Close()
		binaryFile = filepath.Join(dir, "kiosk-window")
		// With the options of `make build`, which leaves little to compile here.
		if out, err := exec.Command("go", "build", "-trimpath", "-o", binaryFile, "enrollkiosk/kiosk/cmd/kiosk-window").CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "build kiosk-window: %v\n%s", err, out)
			return 1
		}
		if issuers, err = specimen.Open(filepath.Join(dir, "issuers")); err != nil {
			panic(err)
		}
		test.NewApp() // for the mirrors
		return m.Run()
	}())
}

// newPerson sets a stage with a running agent and a display, and puts a person
// in front. There is no window yet.
func newPerson(t testing.TB, name string, hands hands, width, height int, policy string) *person {
	t.Helper()
	dir, err := os.MkdirTemp("", "stage") // t.TempDir is too long for a socket's path
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	limits := kiosk.DefaultLimits()
	limits.Delivery = patience
	s, err := stage.New(t.Context(), daemon, dir, stage.Options{Prefix: fmt.Sprintf("Window%d", stages.Add(1)), Limits: limits,
		Policy: policy, Issuers: issuers, Log: slog.New(slog.NewTextHandler(t.Output(), nil))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close stage: %v", err)
		}
	})
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	pictures := filepath.Join("..", "..", "..", "..", "out", "window", name)
	if err := os.RemoveAll(pictures); err != nil {
		t.Fatal(err)
	}
	return &person{Stage: s, t: t, hands: hands, width: width, height: height, language: "en", pictures: pictures,
		display: openDisplay(t, 1280, 800)}
}

func at(screen kiosk.Screen) func(kiosk.State) bool {
	return func(s kiosk.State) bool { return s.Screen == screen }
}

// An officer and a citizen use no mouse. The citizen's card number is mistyped
// first and the page scanned then; the chip cannot prove itself, so that a
// second officer agrees; an optional consent is refused, and the window is killed
// on a consent page.
func TestKeyboardAlone(t *testing.T) {
	t.Parallel()
	p := newPerson(t, "keyboard", keyboard{}, 1024, 768, `
[[documents]]
kind = "emrtd"
may_lack = ["no-chip-proof"]
`)
	if err := p.IssueCard(idcard.SpecimenPerson(), idcard.Options{Faults: []idcard.Fault{idcard.NoChipKeys}}); err != nil {
		t.Fatal(err)
	}
	arguments := []string{"--socket", p.Config.Kiosk.Socket, "--full-screen=false", "--size", "1024x768"}
	window := open(t, p.display, arguments...)
	p.meet()
	before := p.until(at(kiosk.ScreenHome))

	for _, d := range []kiosk.Device{kiosk.DeviceDocument, kiosk.DeviceToken} { // chips take their time
		p.Reader(d).Trace(func(e pcscd.TraceEvent) {
			if !e.Answered {
				time.Sleep(40 * time.Millisecond)
			}
		})
	}
	p.numbers, p.scanner, p.refuses = []string{"000000"}, true, "statistics"
	p.until(at(kiosk.ScreenSecondOfficer))
	if !p.mirror.reads(p.words().Lack(kiosk.LackChip)) || p.now.Holder.Face.Len() == 0 {
		t.Error("the second officer does not see what the card lacks, or no face")
	}
	p.until(at(kiosk.ScreenConsent))
	if want := []kiosk.Code{kiosk.CodeWrongAccess}; !slices.Equal(p.troubles, want) {
		t.Errorf("troubles shown: %v, want %v", p.troubles, want)
	}
	asked := p.now.Number
	window.kill()
	window = open(t, p.display, arguments...)
	p.meet()
	p.look()
	if p.now.Number != asked || p.now.Screen != kiosk.ScreenConsent {
		t.Errorf("after the window was killed the agent asks question %d, %s; before %d", p.now.Number, p.now.Screen, asked)
	}
	p.until(at(kiosk.ScreenReceipt))
	p.finish(before)
	if code := window.leave(t, syscall.SIGTERM); code != 130 {
		t.Errorf("asked to end, the window exits with %d", code)
	}
}

// The same with a mouse alone, in Chinese and on the whole screen. The citizen
// takes the card away while it is read, and the agent ends while the citizen's
// face is on the screen.
func TestMouseAlone(t *testing.T) {
	t.Parallel()
	p := newPerson(t, "mouse", mouse{}, 1280, 800, "")
	p.language = "zh"
	window := open(t, p.display, "--socket", p.Config.Kiosk.Socket, "--full-screen=true")
	p.meet()
	before := p.until(at(kiosk.ScreenHome))

	var pulled atomic.Bool
	p.Reader(kiosk.DeviceDocument).Trace(func(e pcscd.TraceEvent) {
		if e.Number == 12 && pulled.CompareAndSwap(false, true) {
			p.Take(kiosk.DeviceDocument)
		}
	})
	p.until(at(kiosk.ScreenCompare))
	if want := []kiosk.Code{kiosk.CodeCardRemoved}; !slices.Equal(p.troubles, want) {
		t.Errorf("troubles shown: %v, want %v", p.troubles, want)
	}

	if err := p.StopKiosk(); err != nil {
		t.Fatal(err)
	}
	p.meet()
	p.keep("no-agent", p.compare(func() {}))
	p.Take(kiosk.DeviceDocument)
	if err := p.StartKiosk(context.Background()); err != nil {
		t.Fatal(err)
	}
	p.until(at(kiosk.ScreenSignOn))
	p.until(at(kiosk.ScreenReceipt))
	p.finish(before)
	if code := window.leave(t, syscall.SIGINT); code != 130 {
		t.Errorf("interrupted, the window exits with %d", code)
	}
}

// finish goes from the receipt back to the home page, where nothing of the
// citizen is left.
func (p *person) finish(before *image.RGBA) {
	p.t.Helper()
	p.back(before)
	final := []byte(p.receipt.Final)
	id, err := receipt.RecordID(final)
	if err != nil {
		p.t.Fatal(err)
	}
	if _, err := receipt.Verify(final, checkpoint.Log{Key: p.Keys.LogKey}, id); err != nil || fmt.Sprintf("%x", id) != p.receipt.RecordID {
		p.t.Errorf("receipt of record %s: %v", p.receipt.RecordID, err)
	}
}

// back goes to the home page, where nothing of the citizen is left.
func (p *person) back(before *image.RGBA) {
	p.t.Helper()
	after := p.until(at(kiosk.ScreenHome))
	if s := p.now; s.Holder != nil || s.Consent != nil || s.Review != nil || s.Receipt != nil || s.Checks != nil {
		p.t.Error("the home page's state carries something of the citizen")
	}
	// What the registry did stands at the right, the clock in the last line.
	same := image.Rect(0, 0, p.width/2, p.height-square)
	if most, where := differ(before.SubImage(same), after.SubImage(same)); most > alike {
		p.t.Errorf("the home page differs from the one before the citizen at %v by %d", where, most)
	}
}

// What the person must not overlook is more than two renderers differ by: a
// digit too few, the focus elsewhere, another sentence.
func TestThePersonSeesEnough(t *testing.T) {
	m := newMirror(800, 600)
	page := kiosk.State{Number: 1, Screen: kiosk.ScreenChoosePIN, Language: "zh", Turn: kiosk.TurnCitizen, Main: kiosk.ActionPIN,
		Actions: []kiosk.Action{kiosk.ActionPIN, kiosk.ActionDecline}, PIN: &kiosk.PINView{Min: 6, Max: 8}}
	m.draw(page)
	seen := []image.Image{m.capture()}
	next := func(what string, most int) {
		t.Helper()
		seen = append(seen, m.capture())
		if d, _ := differ(seen[len(seen)-2], seen[len(seen)-1]); d < most {
			t.Errorf("%s makes a difference of %d, want at least %d", what, d, most)
		}
	}
	for _, d := range "73" {
		m.digit(d)
		next("a digit", 3*alike/2)
	}
	for range 2 {
		drawing.Lock()
		m.w.Canvas().FocusNext()
		m.picture = nil
		drawing.Unlock()
		next("the focus", 3*alike/2)
	}
	page.Number, page.PIN = 2, &kiosk.PINView{Min: 6, Max: 8, Problem: kiosk.PINTooEasy}
	m.draw(page)
	next("a sentence", 3*alike/2)
}

// Without a display, or on one that cannot draw, the window says so and what to
// do.
func TestNoDisplay(t *testing.T) {
	blind := openDisplay(t, 1280, 800, "-extension", "GLX")
	for name, says := range map[string]string{"": "no display", ":65432": "no window", blind.name: "no window"} {
		p := open(t, &display{name: name}, "--socket", "/nowhere")
		if code := p.code(t); code != 3 || !strings.Contains(p.said.String(), "kiosk-window: "+says) {
			t.Errorf("DISPLAY=%q: exits with %d and says %s", name, code, &p.said)
		}
	}
}
