package main

import (
	"context"
	"fmt"
	"os"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/driver"

	"enrollkiosk/ui"
	"enrollkiosk/ui/display"
)

// window is one window with what draws in it. Its methods belong to Fyne's
// goroutine.
type window struct {
	fyne.Window
	ui      *ui.UI
	server  *display.Server // nil: Fyne alone stands it somewhere
	adopted bool
}

// newWindow makes a window and what draws in it. Without a display GLFW panics
// where Fyne first asks it for something.
func newWindow(a fyne.App, o options) (w *window, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%v", r)
		}
	}()
	w = &window{Window: a.NewWindow("Kiosk")}
	o.ui.Attend = w.attend
	o.ui.Closed = func() { os.Exit(exitDone) } // an officer's card has said so
	w.ui = ui.New(&agent{socket: o.socket}, w.Window, o.ui)
	w.Resize(o.size)
	return w, nil
}

// handle is the X window, or something else than 0 where only that there is a
// window can be told.
func (w *window) handle() display.Window {
	id := display.Window(1)
	if n, ok := w.Window.(driver.NativeWindow); ok {
		n.RunNative(func(context any) {
			if x, ok := context.(driver.X11WindowContext); ok {
				id = display.Window(x.WindowHandle)
			}
		})
	}
	return id
}

func (w *window) attend() {
	if w.server != nil {
		w.server.Focus(w.handle())
	}
}

// stand shows the window on a display.
func (w *window) stand(server *display.Server, d *display.Display) error {
	w.server = server
	if w.adopted { // on its place before it can be seen
		if err := server.Place(w.handle(), d.Bounds); err != nil {
			return err
		}
	}
	w.Show()
	if !w.adopted {
		w.adopted = true
		return server.Adopt(w.handle(), d.Bounds)
	}
	return server.Place(w.handle(), d.Bounds) // Fyne has shown it where it was before
}

// leave covers the window and takes it from its display.
func (w *window) leave() {
	w.ui.Serve(ui.Nobody)
	w.Hide()
}

// seating stands the windows on the displays that there are. A window never
// changes displays: when one goes, its window goes with it, covered, and the
// window of the other one serves both.
type seating struct {
	server  *display.Server
	seats   display.Seats
	o       options
	officer *window
	citizen *window // nil until there was a second display
}

// start stands the windows and has them follow the displays.
func (s *seating) start() {
	s.arrange()
	go s.server.Follow(context.Background(), func() { fyne.Do(s.arrange) })
}

// arrange stands each window on its display. It draws on no display but that of
// the side that is drawn.
func (s *seating) arrange() {
	displays, err := s.server.Displays()
	if err != nil {
		s.complain(err)
		return
	}
	var p display.Plan
	s.seats, p = s.seats.Arrange(displays)
	if p.Citizen != nil && s.citizen == nil {
		if s.citizen, err = newWindow(fyne.CurrentApp(), s.o); err != nil {
			s.complain(err)
			return
		}
		s.citizen.SetCloseIntercept(func() {})
		s.citizen.ui.Serve(ui.Nobody)
		go s.citizen.ui.Run(context.Background())
	}
	type place struct {
		w    *window
		d    *display.Display
		side ui.Side
	}
	places := []place{{s.officer, p.Officer, ui.Officer}, {s.citizen, p.Citizen, ui.Citizen}}
	for _, at := range places {
		if at.d == nil && at.w != nil {
			at.w.leave()
		}
	}
	for _, at := range places {
		if at.d == nil {
			continue
		}
		if p.Alone() {
			at.side = ui.Turned
		}
		if err := at.w.stand(s.server, at.d); err != nil {
			s.complain(err)
			continue
		}
		at.w.ui.Serve(at.side)
	}
	for _, at := range places { // to be shown takes the keyboard
		if at.d != nil && (at.w.ui.Asks() || p.Alone()) {
			at.w.attend()
		}
	}
}

func (s *seating) complain(err error) {
	fmt.Fprintf(os.Stderr, "kiosk-window: displays: %v\n", err)
}
