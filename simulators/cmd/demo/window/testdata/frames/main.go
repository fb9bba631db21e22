// Command frames shows a kiosk as the window does and counts its frames: from
// SIGUSR1 on, until SIGTERM, when it prints the longest gap between two and the
// median, in milliseconds. Its argument is the agent's socket.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"sync/atomic"
	"syscall"
	"time"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/app"

	"enrollkiosk/kiosk/wire"
	"enrollkiosk/ui"
)

func main() {
	os.Setenv("FYNE_DISABLE_DPI_DETECTION", "1")
	os.Setenv("FYNE_SCALE", "1")
	agent, err := wire.Dial(os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	w := app.New().NewWindow("Frames")
	u := ui.New(agent, w, ui.Options{})
	u.Serve(ui.Turned)
	w.Resize(fyne.NewSize(1280, 800))

	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGUSR1, syscall.SIGTERM)
	var counting atomic.Bool
	go func() {
		for s := range signals {
			if counting.Store(s == syscall.SIGUSR1); s == syscall.SIGTERM {
				fyne.Do(fyne.CurrentApp().Quit)
			}
		}
	}()
	// The driver calls what animates once in each frame.
	var gaps []time.Duration
	var last time.Time
	frames := &fyne.Animation{Duration: time.Hour, RepeatCount: fyne.AnimationRepeatForever, Curve: fyne.AnimationLinear, Tick: func(float32) {
		now := time.Now()
		if counting.Load() && !last.IsZero() {
			gaps = append(gaps, now.Sub(last))
		}
		last = now
	}}
	fyne.CurrentApp().Lifecycle().SetOnStarted(func() {
		frames.Start()
		go u.Run(context.Background())
	})
	w.ShowAndRun()
	if len(gaps) == 0 {
		fmt.Fprintln(os.Stderr, "no frames")
		os.Exit(1)
	}
	slices.Sort(gaps)
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	fmt.Printf("gaps %f %f\n", ms(gaps[len(gaps)-1]), ms(gaps[len(gaps)/2]))
}
