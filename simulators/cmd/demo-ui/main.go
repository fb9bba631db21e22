// Command demo-ui opens the kiosk's real window on simulated hardware, and
// beside it a hardware bench: a small window whose buttons put cards on the
// readers and take them away.
package main

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/app"
	"fyne.io/fyne/v2/container"
	"fyne.io/fyne/v2/widget"

	"enrollkiosk/kiosk"
	"enrollkiosk/simulators/cmd/demo/stage"
	"enrollkiosk/simulators/pcscd"
	"enrollkiosk/simulators/pivtoken"
	"enrollkiosk/sync/queue"
	"enrollkiosk/ui"
)

func main() {
	queue.RunCheck()
	verbose := flag.Bool("v", false, "show what kiosk, registry and vault log")
	flag.Parse()
	if os.Getenv("DISPLAY") == "" && os.Getenv("WAYLAND_DISPLAY") == "" {
		fmt.Fprintln(os.Stderr, "demo-ui: no display: start it within an X session, or set DISPLAY")
		os.Exit(3)
	}
	if err := run(*verbose); err != nil {
		fmt.Fprintln(os.Stderr, "demo-ui:", err)
		os.Exit(1)
	}
}

func run(verbose bool) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	dir, err := os.MkdirTemp("", "demo")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	socket := filepath.Join(dir, "pcsc")
	// libpcsclite reads this once, at the first PC/SC call of the process.
	os.Setenv("PCSCLITE_CSOCK_NAME", socket)
	daemon, err := pcscd.Listen(socket)
	if err != nil {
		return err
	}
	defer daemon.Close()
	log := slog.New(slog.DiscardHandler)
	if verbose {
		log = slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	s, err := stage.New(ctx, daemon, dir, stage.Options{Prefix: "Specimen", Log: log,
		Did: func(what string) { fmt.Println(what) }})
	if err != nil {
		return err
	}
	defer s.Close()
	if err := s.Start(ctx); err != nil {
		return err
	}
	a := app.New()
	w := a.NewWindow("Kiosk")
	w.Resize(fyne.NewSize(1280, 800))
	w.SetMaster()
	u := ui.New(s.Kiosk.Desk(), w, ui.Options{})
	b := bench(a, s)
	a.Lifecycle().SetOnStarted(func() { go u.Run(ctx) })
	w.SetOnClosed(cancel)
	b.Show()
	w.ShowAndRun()
	cancel()
	return s.Close()
}

// bench is the window with the simulated hardware.
func bench(a fyne.App, s *stage.Stage) fyne.Window {
	w := a.NewWindow("Hardware bench")
	rows := container.NewVBox(
		widget.NewLabel(fmt.Sprintf("Card access number: %s\nOfficer's PIN: %s", s.Chip.CAN(), stage.OfficerPIN)),
	)
	for _, device := range []struct {
		name string
		d    kiosk.Device
	}{{"Officer's card", kiosk.DeviceOfficer}, {"ID card", kiosk.DeviceDocument}, {"Token", kiosk.DeviceToken}} {
		rows.Add(slot(device.name, device.d, s))
	}
	serial := uint32(30_000_000)
	rows.Add(widget.NewButton("Take a new token from the box", func() {
		serial++
		go func() { // a card in use is let go of first
			s.Take(kiosk.DeviceToken)
			s.IssueToken(pivtoken.Options{Serial: serial})
		}()
	}))
	w.SetContent(container.NewPadded(rows))
	w.Resize(fyne.NewSize(360, 320))
	return w
}

// slot is one reader with the button that moves its card.
func slot(name string, d kiosk.Device, s *stage.Stage) fyne.CanvasObject {
	button := widget.NewButton("", nil)
	label := func() string {
		if s.Lies(d) {
			return name + ": take away"
		}
		return name + ": put on the reader"
	}
	button.SetText(label())
	button.OnTapped = func() {
		go func() {
			if s.Lies(d) {
				s.Take(d)
			} else {
				s.Bring(d)
			}
			fyne.Do(func() { button.SetText(label()) })
		}()
	}
	go func() { // a new token leaves the reader by itself
		for range time.Tick(500 * time.Millisecond) {
			fyne.Do(func() { button.SetText(label()) })
		}
	}()
	return button
}
