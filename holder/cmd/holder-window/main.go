// Command holder-window signs its owner in to a website that a browser hands over, as
// holder open does, and asks in a window.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"syscall"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/app"

	"enrollkiosk/holder"
	"enrollkiosk/holder/setup"
	"enrollkiosk/holder/window"
	"enrollkiosk/kiosk/secret"
	"enrollkiosk/smartcard/pcsc"
)

func main() {
	pcsc.ClearEnvironment()
	if err := secret.ForbidCore(); err != nil {
		fail(fmt.Errorf("core files cannot be disabled: %w", err))
	}
	// The arguments come from a website: the word open and one link, or nothing happens.
	if len(os.Args) != 3 || os.Args[1] != "open" {
		fail(fmt.Errorf("holder-window open LINK: %w", holder.ErrLink))
	}
	link := os.Args[2]
	if _, err := holder.ParseLink(link); err != nil {
		fail(err)
	}
	helper, err := setup.Load("")
	if err != nil {
		fail(err)
	}
	if runtime.GOOS == "linux" && os.Getenv("DISPLAY") == "" && os.Getenv("WAYLAND_DISPLAY") == "" {
		fmt.Fprintln(os.Stderr, "holder: no display: use holder open in a terminal")
		os.Exit(setup.Hardware)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	a := app.New()
	a.Settings().SetTheme(window.Theme(locale()))
	main := a.NewWindow("")
	person := window.New(main, locale(), fyne.Do)
	main.SetTitle(person.Title())
	main.Resize(window.Size)
	main.CenterOnScreen()
	helper.Person = person
	code := setup.Done
	a.Lifecycle().SetOnStarted(func() {
		go func() {
			err := signIn(ctx, helper, link)
			code = setup.ExitCode(err)
			if err != nil {
				fmt.Fprintf(os.Stderr, "holder: %v [%s]\n", err, setup.Code(err))
			}
			if ctx.Err() == nil {
				person.Show(ctx, end(err), setup.Code(err))
			}
			os.Exit(code)
		}()
	})
	main.Show()
	a.Run()
	// The window was closed: what runs is a no by then, and ends within its own time.
	select {}
}

func signIn(ctx context.Context, h *holder.Helper, link string) error {
	p, err := h.Present(ctx, link)
	if err != nil {
		return err
	}
	if err := setup.Browse(ctx, p.Return); err != nil {
		return fmt.Errorf("%w: %w", holder.ErrBrowser, err)
	}
	return nil
}

func end(err error) window.End {
	switch {
	case err == nil:
		return window.Done
	case errors.Is(err, holder.ErrDeclined):
		return window.Declined
	}
	switch setup.ExitCode(err) {
	case setup.Refused, setup.Usage:
		return window.Refused
	case setup.Hardware:
		return window.Hardware
	case setup.Unreachable:
		return window.Network
	}
	return window.Failed
}

// locale is the one of messages (POSIX, 8.2).
func locale() string {
	for _, name := range []string{"LC_ALL", "LC_MESSAGES", "LANG"} {
		if v := os.Getenv(name); v != "" {
			return v
		}
	}
	return ""
}

func fail(err error) {
	fmt.Fprintf(os.Stderr, "holder: %v\n", err)
	os.Exit(setup.ExitCode(err))
}
