package main

import (
	"bytes"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"

	"enrollkiosk/hsm"
)

// A PIN is not seen, and the echo is back afterwards.
func TestPINIsTypedBlind(t *testing.T) {
	keyboard, tty, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer keyboard.Close()
	defer tty.Close()
	var out bytes.Buffer
	go func() {
		for echoes(tty) {
			time.Sleep(time.Millisecond)
		}
		io.WriteString(keyboard, "271828\n")
	}()
	pin, err := (&terminal{in: tty, out: &out}).PIN(t.Context(), &hsm.WrongPIN{Left: 2})
	if err != nil || string(pin.Reveal()) != "271828" || !strings.Contains(out.String(), "2 tries left") {
		t.Fatalf("%v, %q", err, out.String())
	}
	if !echoes(tty) {
		t.Error("the echo is still off")
	}
	io.WriteString(tty, "end\n")
	var seen []byte
	for !bytes.Contains(seen, []byte("end")) {
		b := make([]byte, 64)
		n, err := keyboard.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		seen = append(seen, b[:n]...)
	}
	if bytes.Contains(seen, []byte("271828")) {
		t.Errorf("it was shown: %q", seen)
	}
}

// echoes says whether a terminal shows what is typed.
func echoes(tty *os.File) bool {
	mode, err := unix.IoctlGetTermios(int(tty.Fd()), unix.TCGETS)
	return err != nil || mode.Lflag&unix.ECHO != 0
}
