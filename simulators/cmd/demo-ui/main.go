// Command demo-ui opens the kiosk's real window on simulated hardware, and
// beside it a hardware bench: a small window whose buttons put cards on the
// readers and take them away.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/app"
	"fyne.io/fyne/v2/container"
	"fyne.io/fyne/v2/widget"

	"k8s.io/klog/v2"

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
	w.Resize(fyne.NewSize(1120, 760))
	w.CenterOnScreen() // where no window manager places the bench, it opens in the corner
	w.SetMaster()
	u := ui.New(s.Kiosk.Desk(), w, ui.Options{})
	b := bench(a, s)
	a.Lifecycle().SetOnStarted(func() { go u.Run(ctx) })
	w.Show()
	b.Show() // above the kiosk
	a.Run()
	// Nothing may be drawn after Fyne's loop, so the agent, whose end would be,
	// goes with the process.
	err = errors.Join(s.TPM.Stop(), os.RemoveAll(dir))
	if err == nil {
		os.Exit(0)
	}
	return err
}

// bench is the window with the simulated hardware.
func bench(a fyne.App, s *stage.Stage) fyne.Window {
	w := a.NewWindow("Hardware bench")
	token := slot("Token", kiosk.DeviceToken, s)
	serial := uint32(30_000_000)
	rows := container.NewVBox(
		widget.NewLabel(fmt.Sprintf("Card access number: %s\nOfficer's PIN: %s", s.Chip.CAN(), stage.OfficerPIN)),
		slot("Officer's card", kiosk.DeviceOfficer, s),
		slot("ID card", kiosk.DeviceDocument, s),
		token,
		widget.NewButton("Take a new token from the box", func() {
			if s.Lies(kiosk.DeviceToken) {
				token.OnTapped() // the old one is taken away first
			}
			serial++
			s.IssueToken(pivtoken.Options{Serial: serial})
		}),
	)
	w.SetContent(container.NewPadded(rows))
	w.Resize(fyne.NewSize(360, 320))
	return w
}

// slot is the button that moves the card of a reader.
func slot(name string, d kiosk.Device, s *stage.Stage) *widget.Button {
	button := widget.NewButton(name+": put on the reader", nil)
	button.Importance = widget.HighImportance
	button.OnTapped = func() {
		if s.Lies(d) {
			s.Take(d)
			button.SetText(name + ": put on the reader")
			return
		}
		s.Bring(d)
		button.SetText(name + ": take away")
	}
	return button
}
