// Package display finds the displays of an X server and stands windows on them.
//
// A window that is adopted belongs to no window manager: it has no frame, no
// close button, and nobody but this package moves it, whatever display comes or
// goes. That is what keeps a citizen's page from the officer's display when a
// cable is pulled: a manager moves windows to a display that is left, full
// screen or not, and only then tells them.
//
// The package speaks the core protocol and RandR 1.3 over a connection of its own
// and needs no toolkit.
package display

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"image"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/jezek/xgb"
	"github.com/jezek/xgb/randr"
	"github.com/jezek/xgb/xproto"
)

// The library would write what its errors say anyway to standard error.
func init() { xgb.Logger.SetOutput(io.Discard) }

// Errors of this package.
var (
	ErrNoServer = errors.New("no X server, or none with RandR")
	ErrKept     = errors.New("the window manager does not let go of the window")
)

// Display is one that shows something.
type Display struct {
	Name   string          // of its output, such as "HDMI-1"; xrandr lists them
	Bounds image.Rectangle // in pixels, within the X screen
}

// Window is an X window's id.
type Window uint32

// Server is a connection to the X server. Its methods may be called from any
// goroutine.
type Server struct {
	conn *xgb.Conn
	root xproto.Window

	mu       sync.Mutex
	placed   map[Window]bool
	keyboard Window // who was given the keyboard last; 0 before that
}

// Open connects to the X server that DISPLAY names. Errors: ErrNoServer.
func Open() (*Server, error) {
	conn, err := xgb.NewConn()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoServer, err)
	}
	s := &Server{conn: conn, root: xproto.Setup(conn).DefaultScreen(conn).Root, placed: map[Window]bool{}}
	if err := randr.Init(conn); err != nil {
		conn.Close()
		return nil, fmt.Errorf("%w: %w", ErrNoServer, err)
	}
	version, err := randr.QueryVersion(conn, 1, 3).Reply()
	if err == nil && version.MajorVersion == 1 && version.MinorVersion < 3 {
		err = fmt.Errorf("RandR %d.%d", version.MajorVersion, version.MinorVersion)
	}
	if err == nil {
		err = randr.SelectInputChecked(conn, s.root, randr.NotifyMaskCrtcChange|randr.NotifyMaskOutputChange).Check()
	}
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("%w: %w", ErrNoServer, err)
	}
	return s, nil
}

// Close ends the connection.
func (s *Server) Close() { s.conn.Close() }

// Displays lists the displays that show something, the primary one first, then
// from left to right and top to bottom. Of several that show the same only the
// first is listed.
func (s *Server) Displays() ([]Display, error) {
	r, err := randr.GetScreenResourcesCurrent(s.conn, s.root).Reply()
	if err != nil {
		return nil, fmt.Errorf("list outputs: %w", err)
	}
	primary, err := randr.GetOutputPrimary(s.conn, s.root).Reply()
	if err != nil {
		return nil, fmt.Errorf("ask for the primary output: %w", err)
	}
	var all []Display
	first := ""
	for _, out := range r.Outputs {
		o, err := randr.GetOutputInfo(s.conn, out, r.ConfigTimestamp).Reply()
		if err != nil {
			return nil, fmt.Errorf("ask for an output: %w", err)
		}
		if o.Connection == randr.ConnectionDisconnected || o.Crtc == 0 {
			continue
		}
		c, err := randr.GetCrtcInfo(s.conn, o.Crtc, r.ConfigTimestamp).Reply()
		if err != nil {
			return nil, fmt.Errorf("ask for the picture of %s: %w", o.Name, err)
		}
		if c.Width == 0 || c.Height == 0 || c.Mode == 0 {
			continue
		}
		d := Display{string(o.Name), image.Rect(int(c.X), int(c.Y), int(c.X)+int(c.Width), int(c.Y)+int(c.Height))}
		if out == primary.Output {
			first = d.Name
		}
		all = append(all, d)
	}
	slices.SortFunc(all, func(a, b Display) int {
		switch first {
		case a.Name:
			return -1
		case b.Name:
			return 1
		}
		return cmp.Or(a.Bounds.Min.X-b.Bounds.Min.X, a.Bounds.Min.Y-b.Bounds.Min.Y, cmp.Compare(a.Name, b.Name))
	})
	var apart []Display
	for _, d := range all {
		if !slices.ContainsFunc(apart, func(o Display) bool { return o.Bounds.Overlaps(d.Bounds) }) {
			apart = append(apart, d)
		}
	}
	return apart, nil
}

// Follow calls changed, on one goroutine, whenever displays may have come, gone or
// moved, until ctx ends or the server is gone. Before that it hides the windows
// that were placed, if a picture has moved: what stood on one display may be seen
// on another by now. Place and show them again. It also gives the keyboard back to
// the window that was given it, when something takes it away: the keys of a window
// manager do. Call it once.
func (s *Server) Follow(ctx context.Context, changed func()) {
	stop := context.AfterFunc(ctx, s.conn.Close)
	defer stop()
	for {
		event, err := s.conn.WaitForEvent()
		if event == nil && err == nil {
			return
		}
		switch e := event.(type) {
		case randr.NotifyEvent:
			if e.SubCode == randr.NotifyCrtcChange {
				s.hide()
			}
			changed()
		case xproto.FocusOutEvent:
			if e.Mode != xproto.NotifyModeGrab { // which ends by itself
				s.takeBack()
			}
		}
	}
}

// takeBack gives the keyboard to the window that was given it last, when none of the
// placed ones has it.
func (s *Server) takeBack() {
	now, err := xproto.GetInputFocus(s.conn).Reply()
	if err != nil {
		return // the server is gone
	}
	s.mu.Lock()
	w, ours := s.keyboard, s.placed[Window(now.Focus)]
	s.mu.Unlock()
	if w != 0 && !ours {
		s.Focus(w)
	}
}

// hide has the server show none of the placed windows, without waiting for it.
func (s *Server) hide() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for w := range s.placed {
		xproto.UnmapWindow(s.conn, xproto.Window(w))
	}
}

// Adopt takes a window that is shown from the window manager, if there is one,
// and stands it on bounds. Errors: ErrKept.
func (s *Server) Adopt(w Window, bounds image.Rectangle) error {
	win := xproto.Window(w)
	if err := xproto.UnmapWindowChecked(s.conn, win).Check(); err != nil {
		return fmt.Errorf("unmap window: %w", err)
	}
	// The manager hears of it (ICCCM 4.1.4: also where it has the window in a frame,
	// which only a synthetic event says surely) and gives the window back.
	event := xproto.UnmapNotifyEvent{Event: s.root, Window: win}
	xproto.SendEvent(s.conn, false, s.root, xproto.EventMaskSubstructureRedirect|xproto.EventMaskSubstructureNotify, string(event.Bytes()))
	for limit := time.Now().Add(2 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		tree, err := xproto.QueryTree(s.conn, win).Reply()
		if err != nil {
			return fmt.Errorf("ask for the window's parent: %w", err)
		}
		if tree.Parent == s.root {
			break
		}
		if time.Now().After(limit) {
			return ErrKept
		}
	}
	if err := xproto.ChangeWindowAttributesChecked(s.conn, win, xproto.CwOverrideRedirect|xproto.CwEventMask, []uint32{1, xproto.EventMaskFocusChange}).Check(); err != nil {
		return fmt.Errorf("take window from its manager: %w", err)
	}
	if err := s.Place(w, bounds); err != nil {
		return err
	}
	if err := xproto.MapWindowChecked(s.conn, win).Check(); err != nil {
		return fmt.Errorf("map window: %w", err)
	}
	return nil
}

// Place moves an adopted window, shown or not, above all others on bounds.
func (s *Server) Place(w Window, bounds image.Rectangle) error {
	const what = xproto.ConfigWindowX | xproto.ConfigWindowY | xproto.ConfigWindowWidth | xproto.ConfigWindowHeight | xproto.ConfigWindowStackMode
	err := xproto.ConfigureWindowChecked(s.conn, xproto.Window(w), what, []uint32{uint32(int32(bounds.Min.X)), uint32(int32(bounds.Min.Y)),
		uint32(bounds.Dx()), uint32(bounds.Dy()), xproto.StackModeAbove}).Check()
	if err != nil {
		return fmt.Errorf("place window: %w", err)
	}
	s.mu.Lock()
	s.placed[w] = true
	s.mu.Unlock()
	return nil
}

// Focus gives the keyboard to an adopted window. It does nothing while the window
// is not shown.
func (s *Server) Focus(w Window) {
	s.mu.Lock()
	s.keyboard = w
	s.mu.Unlock()
	// Where it is not shown the server refuses; whoever shows it focuses it again.
	_ = xproto.SetInputFocusChecked(s.conn, xproto.InputFocusPointerRoot, xproto.Window(w), xproto.TimeCurrentTime).Check()
}
