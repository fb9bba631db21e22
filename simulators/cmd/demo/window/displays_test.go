package window

import (
	"context"
	"fmt"
	"image"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jezek/xgb"
	"github.com/jezek/xgb/xproto"

	"enrollkiosk/kiosk"
	"enrollkiosk/kiosk/secret"
	"enrollkiosk/kiosk/wire"
	"enrollkiosk/ui"
)

// The displays of a kiosk, side by side.
var (
	left  = image.Rect(0, 0, 1280, 800)
	right = image.Rect(1280, 0, 2560, 800)
)

// twoDisplays starts an Xorg whose graphics card has two displays but no
// hardware: they can be plugged in and pulled.
func twoDisplays(t *testing.T) *display {
	t.Helper()
	dir := t.TempDir()
	config := filepath.Join(dir, "xorg.conf")
	if err := os.WriteFile(config, []byte(`
Section "Device"
	Identifier "card"
	Driver "dummy"
	VideoRam 64000
EndSection
Section "Monitor"
	Identifier "monitor"
	HorizSync 5-1000
	VertRefresh 5-200
	Modeline "1280x800" 83.46 1280 1344 1480 1680 800 801 804 828
EndSection
Section "Screen"
	Identifier "screen"
	Device "card"
	Monitor "monitor"
	DefaultDepth 24
	SubSection "Display"
		Depth 24
		Virtual 2560 800
		Modes "1280x800"
	EndSubSection
EndSection
Section "ServerFlags"
	Option "AutoAddDevices" "false"
	Option "BlankTime" "0"
EndSection
`), 0o600); err != nil {
		t.Fatal(err)
	}
	d := &display{name: startServer(t, tool(t, "Xorg", "xserver-xorg-core and xserver-xorg-video-dummy"), "-config", config,
		"-logfile", filepath.Join(dir, "log"), "-noreset", "-r", "-nocursor", "-nolisten", "tcp", "-novtswitch", "-sharevts")}
	var err error
	if d.conn, err = xgb.NewConnDisplay(d.name); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.conn.Close)
	d.randr(t, "--addmode", "DUMMY1", "1280x800")
	d.plug(t, 1)
	return d
}

// randr runs xrandr, and once more to have the server look at its outputs again.
func (d *display) randr(t *testing.T, args ...string) {
	t.Helper()
	for _, args := range [][]string{args, {"--query"}} {
		c := exec.CommandContext(t.Context(), tool(t, "xrandr", "x11-xserver-utils"), args...)
		c.Env = append(os.Environ(), "DISPLAY="+d.name)
		if out, err := c.CombinedOutput(); err != nil {
			t.Fatalf("xrandr %v: %v: %s", args, err, out)
		}
	}
}

func (d *display) plug(t *testing.T, n int) {
	t.Helper()
	d.randr(t, "--output", fmt.Sprintf("DUMMY%d", n), "--mode", "1280x800", "--pos", fmt.Sprintf("%dx0", 1280*n))
}

func (d *display) unplug(t *testing.T, n int) {
	t.Helper()
	d.randr(t, "--output", fmt.Sprintf("DUMMY%d", n), "--off")
}

// ask has the server tell what its screen shows, on displays and beside them.
func (d *display) ask(t testing.TB) *image.RGBA {
	t.Helper()
	root := xproto.Setup(d.conn).DefaultScreen(d.conn).Root
	for range 100 { // the screen may change its size between the questions
		size, err := xproto.GetGeometry(d.conn, xproto.Drawable(root)).Reply()
		if err != nil {
			t.Fatal(err)
		}
		got, err := xproto.GetImage(d.conn, xproto.ImageFormatZPixmap, xproto.Drawable(root), 0, 0, size.Width, size.Height, 1<<32-1).Reply()
		if err != nil {
			continue
		}
		img := image.NewRGBA(image.Rect(0, 0, int(size.Width), int(size.Height)))
		for i := 0; i < len(img.Pix); i += 4 {
			img.Pix[i], img.Pix[i+1], img.Pix[i+2], img.Pix[i+3] = got.Data[i+2], got.Data[i+1], got.Data[i], 255
		}
		return img
	}
	t.Fatal("the server does not tell what it shows")
	return nil
}

// script is a desk whose states the test gives.
type script struct {
	mu      sync.Mutex
	now     kiosk.State
	changed chan struct{} // closed when now changes
	sent    chan kiosk.Intent
}

// newScript serves such a desk on a socket.
func newScript(t testing.TB) (desk *script, socket string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "desk") // t.TempDir is too long for a socket's path
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	desk = &script{changed: make(chan struct{}), sent: make(chan kiosk.Intent, 8)}
	socket = filepath.Join(dir, "s")
	ctx, stop := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- wire.Serve(ctx, socket, desk, nil) }()
	t.Cleanup(func() {
		stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return desk, socket
}

func (s *script) show(st kiosk.State) kiosk.State {
	s.mu.Lock()
	defer s.mu.Unlock()
	st.Number, st.Revision, st.Language, st.Languages = s.now.Number+1, s.now.Revision+1, "en", []string{"en", "zh"}
	s.now = st
	close(s.changed)
	s.changed = make(chan struct{})
	return st
}

func (s *script) States(ctx context.Context) (<-chan kiosk.State, error) {
	out := make(chan kiosk.State)
	go func() {
		defer close(out)
		for last := uint64(0); ; {
			s.mu.Lock()
			now, changed := s.now, s.changed
			s.mu.Unlock()
			if now.Revision > last {
				last = now.Revision
				select {
				case out <- now:
					continue
				case <-ctx.Done():
					return
				}
			}
			select {
			case <-changed:
			case <-ctx.Done():
				return
			}
		}
	}()
	return out, nil
}

func (s *script) Send(_ context.Context, in kiosk.Intent) error {
	s.sent <- in
	return nil
}

// gets waits for an intent.
func (s *script) gets(t *testing.T) kiosk.Intent {
	t.Helper()
	select {
	case in := <-s.sent:
		return in
	case <-time.After(patience):
		t.Fatal("no intent came")
		return kiosk.Intent{}
	}
}

// The pages of the tests. Each is told from the others by much more than alike.
func home() kiosk.State {
	return kiosk.State{Screen: kiosk.ScreenHome, Turn: kiosk.TurnOfficer, Main: kiosk.ActionStart, Actions: []kiosk.Action{kiosk.ActionStart, kiosk.ActionSignOff, kiosk.ActionClose},
		Officer: "0001", Health: kiosk.Health{TPM: true, Registry: true, Readers: map[kiosk.Device]kiosk.ReaderState{kiosk.DeviceDocument: kiosk.ReaderEmpty, kiosk.DeviceOfficer: kiosk.ReaderCard}}}
}

func comparing() kiosk.State {
	return kiosk.State{Screen: kiosk.ScreenCompare, Turn: kiosk.TurnOfficer, Position: 3, Positions: 8, Main: kiosk.ActionConfirmPerson,
		Actions: []kiosk.Action{kiosk.ActionConfirmPerson, kiosk.ActionDoubtPerson}, Officer: "0001",
		Checks: []kiosk.Check{{Name: kiosk.CheckHashes, Verdict: kiosk.Passed}, {Name: kiosk.CheckChip, Verdict: kiosk.Passed}},
		Holder: &kiosk.HolderView{Surname: secret.FromString("ERIKSSON"), GivenNames: secret.FromString("ANNA MARIA"), Number: secret.FromString("L898902C3"), Birth: secret.FromString("1974-08-12"),
			Expiry: secret.FromString("2032-04-15"), Sex: "F", Nationality: "UTO", Issuer: "UTO"}}
}

func choosing() kiosk.State {
	return kiosk.State{Screen: kiosk.ScreenChoosePIN, Turn: kiosk.TurnCitizen, Position: 6, Positions: 8, Main: kiosk.ActionPIN,
		Actions: []kiosk.Action{kiosk.ActionPIN, kiosk.ActionDecline, kiosk.ActionChoose}, Officer: "0001", PIN: &kiosk.PINView{Min: 6, Max: 8}}
}

// side is a mirror of a display.
func side(s ui.Side) *mirror {
	m := newMirror(left.Dx(), left.Dy()) // turned: has met nobody
	drawing.Lock()
	defer drawing.Unlock()
	m.u.Serve(s)
	return m
}

// serve has a mirror follow its window to another side.
func (m *mirror) serve(s ui.Side) {
	drawing.Lock()
	defer drawing.Unlock()
	m.u.Serve(s)
	m.picture = nil
}

// within is a part of a picture, as a picture of its own that begins at 0, 0; nil
// where there is no such part.
func within(img *image.RGBA, r image.Rectangle) *image.RGBA {
	if !r.In(img.Bounds()) {
		return nil
	}
	part := image.NewRGBA(image.Rect(0, 0, r.Dx(), r.Dy()))
	for y := range r.Dy() {
		copy(part.Pix[y*part.Stride:], img.Pix[img.PixOffset(r.Min.X, r.Min.Y+y):][:part.Stride])
	}
	return part
}

// looksLike says whether a part of the screen shows a page.
func looksLike(img *image.RGBA, r image.Rectangle, page image.Image) bool {
	part := within(img, r)
	if part == nil {
		return false
	}
	most, _ := differ(page, part)
	return most <= alike
}

// pages is what must stand where; a nil mirror stands for nothing at all.
type pages map[image.Rectangle]*mirror

// shows waits until each part of the screen shows its page. Until then and at no
// moment that is looked at does a part show a page of never.
func (d *display) shows(t testing.TB, name string, want pages, never map[image.Rectangle]image.Image) {
	t.Helper()
	for limit := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		img := d.screen(t)
		for r, page := range never {
			if looksLike(img, r, page) {
				keepPicture(t, name+"-wrong", img)
				t.Fatalf("%s: the page of the other side stands at %v", name, r)
			}
		}
		missing := image.Rectangle{}
		for r, m := range want {
			switch {
			case m != nil && looksLike(img, r, m.capture()):
			case m == nil && blank(within(img, r)):
			default:
				missing = r
			}
		}
		if missing.Empty() {
			keepPicture(t, name, img)
			return
		}
		if time.Now().After(limit) {
			keepPicture(t, name+"-got", img)
			if m := want[missing]; m != nil {
				keepPicture(t, name+"-want", m.capture())
			}
			t.Fatalf("%s: what ought to stand at %v does not", name, missing)
		}
	}
}

func keepPicture(t testing.TB, name string, img image.Image) {
	t.Helper()
	write(t, filepath.Join("..", "..", "..", "..", "out", "window", "displays", name+".png"), img)
}

// blank says that a part shows one colour: no window.
func blank(img *image.RGBA) bool {
	if img == nil {
		return true
	}
	first := img.Pix[:4]
	for i := 0; i < len(img.Pix); i += 4 {
		if !slices.Equal(img.Pix[i:i+4], first) {
			return false
		}
	}
	return true
}

// Officer and citizen have a display each. What is pulled takes its window with
// it: no page of one side is seen on the other's display at any moment, and the
// display that is left is covered until somebody says who sits there. Plugged in
// again all stands where it was.
func TestTwoDisplays(t *testing.T) {
	t.Parallel()
	d := twoDisplays(t)
	desk, socket := newScript(t)
	open(t, d, "--socket", socket)
	officer, citizen := side(ui.Officer), side(ui.Citizen)
	both := pages{left: officer, right: citizen}
	show := func(s kiosk.State) {
		s = desk.show(s)
		officer.draw(s)
		citizen.draw(s)
	}
	show(home())
	d.shows(t, "1-home", both, nil)
	show(comparing())
	d.shows(t, "2-compare", both, nil)
	compare := officer.capture()
	show(choosing())
	d.shows(t, "3-choose-pin", both, map[image.Rectangle]image.Image{right: compare})
	pad := citizen.capture()

	// The keyboard is the citizen's now.
	d.do(t, "key", "--delay", "40", "8", "0", "2", "4")
	for _, r := range "8024" {
		citizen.digit(r)
	}
	d.shows(t, "4-digits", both, map[image.Rectangle]image.Image{left: pad})
	d.do(t, "key", "--delay", "40", "6", "9", "Return")
	if in := desk.gets(t); in.Action != kiosk.ActionPIN || !in.Secret.Equal(secret.FromString("802469")) {
		t.Errorf("sent %s with %d digits", in.Action, in.Secret.Len())
	}

	// The citizen's display goes while the pad is on it.
	show(choosing())
	d.shows(t, "5-again", both, nil)
	d.unplug(t, 1)
	officer.serve(ui.Turned)
	d.shows(t, "6-citizens-pulled", pages{left: officer}, map[image.Rectangle]image.Image{left: pad})
	time.Sleep(ui.StrikeGuard)
	d.do(t, "key", "Return")
	officer.enter()
	d.shows(t, "7-turned-to-citizen", pages{left: officer}, nil)
	if !looksLike(d.screen(t), left, pad) {
		t.Error("the citizen does not see the pad on the display that is left")
	}
	show(comparing())
	d.shows(t, "8-covered", pages{left: officer}, map[image.Rectangle]image.Image{left: compare})
	show(choosing())
	d.shows(t, "9-pad", pages{left: officer}, nil)

	d.plug(t, 1)
	officer.serve(ui.Officer)
	d.shows(t, "10-plugged-in", both, map[image.Rectangle]image.Image{right: compare})

	// The officer's goes while the face is on it.
	show(comparing())
	d.shows(t, "11-compare", both, map[image.Rectangle]image.Image{right: compare})
	d.unplug(t, 0) // and the other becomes the left one
	citizen.serve(ui.Turned)
	d.shows(t, "12-officers-pulled", pages{left: citizen}, nil)
	if n := len(d.windows(t)); n != 1 {
		t.Errorf("%d windows on one display", n)
	}
	d.randr(t, "--output", "DUMMY0", "--mode", "1280x800", "--pos", "0x0", "--output", "DUMMY1", "--pos", "1280x0")
	citizen.serve(ui.Citizen)
	d.shows(t, "13-plugged-in", both, map[image.Rectangle]image.Image{right: compare, left: pad})
}

// Nothing that a citizen can press or a window manager may ask for ends the
// windows or changes them; an officer's closing does, and a window that is killed
// comes back to the same page.
func TestNoWayOutWithoutAnOfficer(t *testing.T) {
	t.Parallel()
	d := twoDisplays(t)
	desk, socket := newScript(t)
	p := open(t, d, "--socket", socket)
	officer, citizen := side(ui.Officer), side(ui.Citizen)
	both := pages{left: officer, right: citizen}
	show := func(s kiosk.State) {
		s = desk.show(s)
		officer.draw(s)
		citizen.draw(s)
	}
	show(choosing())
	d.shows(t, "20-kiosk", both, nil)
	for _, keys := range []string{"Escape", "F11", "alt+F4", "ctrl+q", "ctrl+w", "super", "alt+Return"} {
		d.do(t, "key", keys)
	}
	windows := d.windows(t)
	if len(windows) != 2 {
		t.Fatalf("%d windows", len(windows))
	}
	for _, w := range windows { // ICCCM 4.2.8.1
		d.closeRequest(t, w)
	}
	d.do(t, "key", "7") // comes after all of them
	citizen.digit('7')
	d.shows(t, "21-still", both, nil)
	select {
	case <-p.exited:
		t.Fatal("the window is gone")
	default:
	}

	p.kill()
	p = open(t, d, "--socket", socket)
	officer, citizen = side(ui.Officer), side(ui.Citizen)
	both = pages{left: officer, right: citizen}
	show(choosing())
	d.shows(t, "22-back", both, nil)

	closed := home()
	closed.Screen, closed.Main, closed.Closed = kiosk.ScreenSignOn, kiosk.ActionSignOn, 1
	desk.show(closed)
	if code := p.code(t); code != 0 {
		t.Errorf("closed by an officer, the window exits with %d", code)
	}
}

// windows lists those that stand on the root window and are shown.
func (d *display) windows(t *testing.T) (all []xproto.Window) {
	t.Helper()
	tree, err := xproto.QueryTree(d.conn, xproto.Setup(d.conn).DefaultScreen(d.conn).Root).Reply()
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range tree.Children {
		a, err := xproto.GetWindowAttributes(d.conn, w).Reply()
		if err == nil && a.MapState == xproto.MapStateViewable {
			if !a.OverrideRedirect {
				t.Errorf("window %d is a window manager's to move", w)
			}
			all = append(all, w)
		}
	}
	return all
}

// closeRequest is what a window manager sends for the close button and Alt+F4.
func (d *display) closeRequest(t *testing.T, w xproto.Window) {
	t.Helper()
	atom := func(name string) xproto.Atom {
		r, err := xproto.InternAtom(d.conn, false, uint16(len(name)), name).Reply()
		if err != nil {
			t.Fatal(err)
		}
		return r.Atom
	}
	e := xproto.ClientMessageEvent{Format: 32, Window: w, Type: atom("WM_PROTOCOLS"),
		Data: xproto.ClientMessageDataUnionData32New([]uint32{uint32(atom("WM_DELETE_WINDOW")), 0, 0, 0, 0})}
	if err := xproto.SendEventChecked(d.conn, false, w, 0, string(e.Bytes())).Check(); err != nil {
		t.Fatal(err)
	}
}
