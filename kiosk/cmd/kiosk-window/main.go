// Command kiosk-window shows the kiosk on a screen: it draws the states of the
// agent and sends it what people do. It opens no device and keeps nothing; it
// may be killed and started at any time without harm to an enrollment, and it
// waits when there is no agent.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"syscall"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/app"
	"github.com/pelletier/go-toml/v2"

	"enrollkiosk/kiosk"
	"enrollkiosk/kiosk/wire"
	"enrollkiosk/kiosk/words"
	"enrollkiosk/ui"
	"enrollkiosk/ui/display"
	"enrollkiosk/ui/speech"
)

// Exit codes, as for every command of the kiosk.
const (
	exitDone        = 0
	exitUsage       = 2
	exitHardware    = 3 // no display
	exitInterrupted = 130
)

const usage = `kiosk-window shows the enrollment kiosk on a screen. The agent (kiosk agent)
must run; while it does not, the window waits for it.

With two displays officer and citizen have one each. With one they turn it to one
another, and it is covered in between.

`

// options is the command line.
type options struct {
	socket     string
	fullScreen bool
	size       fyne.Size
	seats      display.Seats
	speech     string
	ui         ui.Options
}

func main() {
	o, code := parse(os.Args[1:], os.Stderr)
	if code >= 0 {
		os.Exit(code)
	}
	if runtime.GOOS == "linux" && os.Getenv("DISPLAY") == "" && os.Getenv("WAYLAND_DISPLAY") == "" {
		fmt.Fprintln(os.Stderr, "kiosk-window: no display: start it within an X session, or set DISPLAY")
		os.Exit(exitHardware)
	}
	if err := overwriteFreed(); err != nil {
		fmt.Fprintf(os.Stderr, "kiosk-window: memory that is freed is not overwritten: %v\n", err)
	}
	os.Exit(show(o))
}

// parse reads the command line; code is negative when the window should open.
func parse(args []string, out io.Writer) (o options, code int) {
	f := flag.NewFlagSet("kiosk-window", flag.ContinueOnError)
	f.SetOutput(out)
	f.Usage = func() {
		fmt.Fprint(out, usage)
		f.PrintDefaults()
		fmt.Fprint(out, "\nExit codes: 0 closed by an officer, 2 usage or configuration, 3 no display, 130 interrupted.\n")
	}
	config := f.String("config", "/etc/enrollkiosk/kiosk.toml", "configuration `file` of the kiosk; only kiosk.state, kiosk.socket, kiosk.languages and [window] are read")
	socket := f.String("socket", "", "agent's socket, in place of the configured one")
	f.BoolVar(&o.fullScreen, "full-screen", true, "cover each display whole and refuse to be closed but by an officer")
	f.StringVar(&o.seats.Officer, "officer-display", "", "output `NAME` of the officer's display, as xrandr lists it; default: the primary one")
	f.StringVar(&o.seats.Citizen, "citizen-display", "", "output `NAME` of the citizen's display; default: the second one, if there is one")
	size := f.String("size", "1280x800", "width and height when not full screen")
	scale := f.Float64("scale", 0, "size of everything, in place of what the monitor says: 1 is a pixel a unit, right for 92 dots per inch")
	f.StringVar(&o.ui.OfficerLanguage, "officer-language", "", "language of the officer's pages; default: the citizen's")
	if err := f.Parse(args); err != nil {
		return o, either(errors.Is(err, flag.ErrHelp), exitDone, exitUsage)
	}
	fail := func(format string, a ...any) (options, int) {
		fmt.Fprintf(out, "kiosk-window: "+format+"\n", a...)
		return o, exitUsage
	}
	if f.NArg() > 0 {
		return fail("unexpected argument %q", f.Arg(0))
	}
	var w, h int
	if n, err := fmt.Sscanf(*size+" ", "%dx%d ", &w, &h); n != 2 || err != nil || w < 800 || h < 600 {
		return fail("--size wants WIDTHxHEIGHT, at least 800x600")
	}
	o.size = fyne.NewSize(float32(w), float32(h))
	if *scale != 0 && (*scale < 0.5 || *scale > 4) {
		return fail("--scale wants a number from 0.5 to 4")
	}
	if o.seats.Officer != "" && o.seats.Officer == o.seats.Citizen {
		return fail("--officer-display and --citizen-display name the same one")
	}
	if l := o.ui.OfficerLanguage; l != "" && !slices.Contains(words.Languages(), l) {
		return fail("no language %q; there are %v", l, words.Languages())
	}
	var look look
	if o.socket = *socket; o.socket == "" {
		c, w, err := load(*config)
		if err != nil {
			return fail("%v", err)
		}
		o.socket, o.ui.Waiting, look = c.Socket, c.language(), w
	}
	if err := look.check(); err != nil {
		return fail("%s: %v", *config, err)
	}
	o.ui.Look = ui.Look{Dark: look.Dark, Contrast: look.Contrast, Text: look.Text}
	o.ui.Keyboard, o.speech = look.Keyboard == "always", look.Speech
	if *scale == 0 {
		var small bool
		if *scale, small = look.scale(os.DirFS("/sys/class/drm")); small {
			fmt.Fprintln(out, "kiosk-window: the monitor is too small for keys of 20 mm: they are as large as they can be")
		}
	}
	if *scale != 0 {
		os.Setenv("FYNE_DISABLE_DPI_DETECTION", "1")
		os.Setenv("FYNE_SCALE", strconv.FormatFloat(*scale, 'f', -1, 64))
	}
	return o, -1
}

// place is the part of the kiosk's configuration that a window needs.
type place struct {
	State     string   `toml:"state"`
	Socket    string   `toml:"socket"`
	Languages []string `toml:"languages"`
}

// load reads it. The agent checks the file as a whole; paths in it are relative
// to its directory.
func load(file string) (place, look, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return place{}, look{}, err
	}
	var c struct {
		Kiosk  place `toml:"kiosk"`
		Window look  `toml:"window"`
	}
	if err := toml.Unmarshal(b, &c); err != nil {
		return place{}, look{}, fmt.Errorf("%s: %w", file, err)
	}
	p := c.Kiosk
	if p.Socket == "" && p.State == "" {
		return place{}, look{}, fmt.Errorf("%s: neither kiosk.state nor kiosk.socket says where the agent is", file)
	}
	if p.Socket == "" {
		p.Socket = filepath.Join(p.State, "agent.sock")
	}
	if !filepath.IsAbs(p.Socket) {
		p.Socket = filepath.Join(filepath.Dir(file), p.Socket)
	}
	return p, c.Window, nil
}

// language is the first one configured that there are sentences in.
func (p place) language() string {
	for _, l := range p.Languages {
		if slices.Contains(words.Languages(), l) {
			return l
		}
	}
	return ""
}

// show opens the windows. It returns only when it cannot.
func show(o options) int {
	fail := func(err any) int {
		fmt.Fprintf(os.Stderr, "kiosk-window: no window on display %q: %v: check that the X server runs with OpenGL and that this user may connect\n",
			os.Getenv("DISPLAY"), err)
		return exitHardware
	}
	speaker, err := speech.Find(o.speech)
	if err != nil {
		fmt.Fprintf(os.Stderr, "kiosk-window: window.speech: %v: install it, or set \"off\"\n", err)
		return exitUsage
	}
	if speaker != nil {
		o.ui.Speaker = speaker
	}
	// A signal ends the process at once, at any moment of Fyne's start and end:
	// nothing here needs to be saved.
	ends := make(chan os.Signal, 2)
	signal.Notify(ends, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-ends
		os.Exit(exitInterrupted)
	}()
	w, err := newWindow(app.New(), o)
	if err != nil {
		return fail(err)
	}
	if o.fullScreen {
		w.SetCloseIntercept(func() {}) // nobody leaves without an officer
	} else {
		w.SetOnClosed(func() { os.Exit(exitDone) })
	}
	w.Show()
	if w.handle() == 0 { // Fyne has said why, and would wait for ever
		return fail("it cannot draw")
	}
	start := func() { w.ui.Serve(ui.Turned) }
	if o.fullScreen {
		if server, err := display.Open(); err != nil { // no X server
			w.SetFullScreen(true)
		} else {
			seats := &seating{server: server, seats: o.seats, o: o, officer: w}
			start = seats.start
		}
	}
	fyne.CurrentApp().Lifecycle().SetOnStarted(func() {
		start()
		go w.ui.Run(context.Background())
	})
	fyne.CurrentApp().Run()
	os.Exit(exitInterrupted)
	return 0
}

// agent is a desk that finds the agent anew whenever states are asked for.
type agent struct {
	socket string
	mu     sync.Mutex
	client *wire.Client
}

func (a *agent) States(ctx context.Context) (<-chan kiosk.State, error) {
	c, err := wire.Dial(a.socket)
	if err != nil {
		return nil, err
	}
	states, err := c.States(ctx)
	if err != nil {
		return nil, err
	}
	a.mu.Lock()
	a.client = c
	a.mu.Unlock()
	return states, nil
}

func (a *agent) Send(ctx context.Context, in kiosk.Intent) error {
	a.mu.Lock()
	c := a.client
	a.mu.Unlock()
	if c == nil {
		return wire.ErrNoAgent
	}
	return c.Send(ctx, in)
}

func either(yes bool, a, b int) int {
	if yes {
		return a
	}
	return b
}
