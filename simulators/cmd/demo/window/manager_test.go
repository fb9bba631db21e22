package window

import (
	"image"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/jezek/xgb"
	"github.com/jezek/xgb/xproto"

	"enrollkiosk/kiosk"
	"enrollkiosk/ui"
)

// manage starts a window manager, with its usual keys, and returns how to end it. It
// ends with the test.
func (d *display) manage(t *testing.T) (end func()) {
	t.Helper()
	home := t.TempDir() // nobody's own settings
	c := exec.Command(tool(t, "openbox", "openbox"), "--sm-disable")
	c.Env = append(os.Environ(), "DISPLAY="+d.name, "HOME="+home, "XDG_CONFIG_HOME=", "XDG_CACHE_HOME=", "XDG_DATA_HOME=", "LC_ALL=C.UTF-8")
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	ended := false
	end = func() {
		if !ended {
			ended = true
			c.Process.Kill()
			c.Wait()
		}
	}
	t.Cleanup(end)
	return end
}

// stranger shows a window of another program.
func (d *display) stranger(t *testing.T) (conn *xgb.Conn, window xproto.Window) {
	t.Helper()
	conn, err := xgb.NewConnDisplay(d.name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	if window, err = xproto.NewWindowId(conn); err != nil {
		t.Fatal(err)
	}
	screen := xproto.Setup(conn).DefaultScreen(conn)
	if err := xproto.CreateWindowChecked(conn, screen.RootDepth, window, screen.Root, 0, 0, 300, 200, 0, xproto.WindowClassInputOutput, screen.RootVisual,
		xproto.CwBackPixel, []uint32{screen.WhitePixel}).Check(); err != nil {
		t.Fatal(err)
	}
	if err := xproto.MapWindowChecked(conn, window).Check(); err != nil {
		t.Fatal(err)
	}
	return conn, window
}

// eventually waits until something is so.
func eventually(t *testing.T, what string, so func() bool) {
	t.Helper()
	for limit := time.Now().Add(patience); !so(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatalf("not in time: %s", what)
		}
	}
}

// A window manager frames, moves and closes what other programs show. The kiosk's
// windows it does not: its keys and its requests end neither, each stays on its
// display when one is pulled and plugged in, and the keyboard stays with who is asked,
// also when the manager ends.
func TestWindowManager(t *testing.T) {
	t.Parallel()
	d := twoDisplays(t)
	end := d.manage(t)
	conn, other := d.stranger(t)
	root := xproto.Setup(d.conn).DefaultScreen(d.conn).Root
	eventually(t, "the manager frames a window", func() bool {
		tree, err := xproto.QueryTree(d.conn, other).Reply()
		if err != nil {
			t.Fatal(err)
		}
		return tree.Parent != root
	})
	focused := func() xproto.Window {
		f, err := xproto.GetInputFocus(d.conn).Reply()
		if err != nil {
			t.Fatal(err)
		}
		return f.Focus
	}
	eventually(t, "a framed window has the keyboard", func() bool {
		d.do(t, "mousemove", "150", "100", "click", "1", "mousemove", "3", "400")
		return focused() == other
	})
	d.do(t, "key", "alt+F4")
	eventually(t, "the manager's key closes a window", func() bool {
		_, err := xproto.GetWindowAttributes(d.conn, other).Reply()
		return err != nil
	})
	conn.Close()

	desk, socket := newScript(t)
	p := open(t, d, "--socket", socket)
	officer, citizen := side(ui.Officer), side(ui.Citizen)
	both := pages{left: officer, right: citizen}
	show := func(s kiosk.State) {
		s = desk.show(s)
		officer.draw(s)
		citizen.draw(s)
	}
	show(home())
	d.shows(t, "70-managed-home", both, nil)
	show(comparing())
	d.shows(t, "71-managed-compare", both, nil)
	compare := officer.capture()
	show(choosing())
	d.shows(t, "72-managed-choose-pin", both, map[image.Rectangle]image.Image{right: compare})
	pad := citizen.capture()

	for _, keys := range []string{"alt+F4", "alt+Tab", "alt+Escape", "super+d", "super+F2", "ctrl+alt+Right", "alt+space", "Escape"} {
		d.do(t, "key", keys)
	}
	windows := d.kiosks(t)
	if len(windows) != 2 {
		t.Fatalf("%d windows", len(windows))
	}
	for _, w := range windows {
		d.closeRequest(t, w)
		d.message(t, w, "_NET_CLOSE_WINDOW", 0)              // EWMH: root window messages
		d.message(t, w, "_NET_MOVERESIZE_WINDOW", 0xF00, 90) // to 90, 0
		d.message(t, w, "WM_CHANGE_STATE", 3)                // ICCCM 4.1.4: iconic
	}
	d.message(t, root, "_NET_CURRENT_DESKTOP", 2)
	eventually(t, "the manager has done all that", func() bool { return d.cardinal(t, root, "_NET_CURRENT_DESKTOP") == 2 })
	typing := func() {
		t.Helper()
		eventually(t, "the citizen has the keyboard", func() bool {
			g, err := xproto.GetGeometry(d.conn, xproto.Drawable(focused())).Reply()
			return err == nil && int(g.X) == right.Min.X
		})
	}
	typing()
	d.do(t, "key", "7")
	citizen.digit('7')
	d.shows(t, "73-managed-still", both, map[image.Rectangle]image.Image{right: compare, left: pad})
	select {
	case <-p.exited:
		t.Fatal("the window is gone")
	default:
	}

	show(choosing())
	d.unplug(t, 1)
	officer.serve(ui.Turned)
	d.shows(t, "74-managed-pulled", pages{left: officer}, map[image.Rectangle]image.Image{left: pad})
	d.plug(t, 1)
	officer.serve(ui.Officer)
	d.shows(t, "75-managed-plugged-in", both, map[image.Rectangle]image.Image{right: compare, left: pad})

	end()
	typing()
	d.do(t, "key", "8")
	citizen.digit('8')
	d.shows(t, "76-managed-no-more", both, nil)
}

// kiosks lists the windows as large as a display, which belong to no manager.
func (d *display) kiosks(t *testing.T) (all []xproto.Window) {
	t.Helper()
	tree, err := xproto.QueryTree(d.conn, xproto.Setup(d.conn).DefaultScreen(d.conn).Root).Reply()
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range tree.Children {
		a, err := xproto.GetWindowAttributes(d.conn, w).Reply()
		if err != nil || a.MapState != xproto.MapStateViewable {
			continue
		}
		g, err := xproto.GetGeometry(d.conn, xproto.Drawable(w)).Reply()
		if err != nil || int(g.Width) != left.Dx() {
			continue // the manager's own
		}
		if !a.OverrideRedirect {
			t.Errorf("window %d is the window manager's to move", w)
		}
		all = append(all, w)
	}
	return all
}

// message asks the window manager for something about a window (EWMH, ICCCM).
func (d *display) message(t *testing.T, w xproto.Window, kind string, data ...uint32) {
	t.Helper()
	r, err := xproto.InternAtom(d.conn, false, uint16(len(kind)), kind).Reply()
	if err != nil {
		t.Fatal(err)
	}
	words := make([]uint32, 5)
	copy(words, data)
	e := xproto.ClientMessageEvent{Format: 32, Window: w, Type: r.Atom, Data: xproto.ClientMessageDataUnionData32New(words)}
	if err := xproto.SendEventChecked(d.conn, false, xproto.Setup(d.conn).DefaultScreen(d.conn).Root,
		xproto.EventMaskSubstructureRedirect|xproto.EventMaskSubstructureNotify, string(e.Bytes())).Check(); err != nil {
		t.Fatal(err)
	}
}

// cardinal is a number that is a property of a window; -1 when it is not there.
func (d *display) cardinal(t *testing.T, w xproto.Window, name string) int {
	t.Helper()
	r, err := xproto.InternAtom(d.conn, false, uint16(len(name)), name).Reply()
	if err != nil {
		t.Fatal(err)
	}
	p, err := xproto.GetProperty(d.conn, false, w, r.Atom, xproto.AtomCardinal, 0, 1).Reply()
	if err != nil || len(p.Value) < 4 {
		return -1
	}
	return int(xgb.Get32(p.Value))
}
