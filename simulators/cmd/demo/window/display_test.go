package window

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"image"
	"image/png"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jezek/xgb"
)

// display is an X server of its own. The screen of one that Xvfb makes is a file:
// what it shows can be read at any moment without asking anybody.
type display struct {
	name string // ":7"
	file string // "": the server is asked
	conn *xgb.Conn
	home string // with nobody's own settings; what drivers keep there, the next start has
}

// openDisplay starts an X server on a free display. It ends with the test.
func openDisplay(t testing.TB, width, height int, further ...string) *display {
	t.Helper()
	dir := t.TempDir()
	// -noreset: it must outlive a window that was killed. -r: a busy machine
	// holds a key down for long, which must not repeat it.
	name := startServer(t, tool(t, "Xvfb", "xvfb"), append(further, "-noreset", "-r", "-nocursor", "-nolisten", "tcp",
		"-screen", "0", fmt.Sprintf("%dx%dx24", width, height), "-fbdir", dir)...)
	return &display{name: name, file: filepath.Join(dir, "Xvfb_screen0")}
}

// startServer starts an X server and returns the name of its display. It ends
// with the test.
func startServer(t testing.TB, program string, args ...string) string {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var said bytes.Buffer
	x := exec.Command(program, append(args, "-displayfd", "3")...)
	x.ExtraFiles, x.Stdout, x.Stderr = []*os.File{w}, &said, &said
	err = x.Start()
	w.Close()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		x.Process.Signal(syscall.SIGTERM)
		x.Wait()
	})
	number, err := io.ReadAll(r) // the server closes it once it is ready
	if err != nil || len(bytes.TrimSpace(number)) == 0 {
		x.Wait()
		t.Fatalf("%s did not start: %s", program, &said)
	}
	return ":" + string(bytes.TrimSpace(number))
}

// tool finds a program that a Debian package brings.
func tool(t testing.TB, program, pkg string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		t.Fatalf("%s is missing: install the Debian package %s (scripts/install-packages)", program, pkg)
	}
	return path
}

// screen is what a person in front of the display sees. The file is an X window
// dump, version 7: a header of big-endian words, colors, then pixels.
func (d *display) screen(t testing.TB) *image.RGBA {
	t.Helper()
	if d.file == "" {
		return d.ask(t)
	}
	b, err := os.ReadFile(d.file)
	if err != nil {
		t.Fatal(err)
	}
	const words = 25
	if len(b) < 4*words {
		t.Fatalf("screen of %d bytes", len(b))
	}
	var h [words]uint32
	for i := range h {
		h[i] = binary.BigEndian.Uint32(b[4*i:])
	}
	width, height, perLine := int(h[4]), int(h[5]), int(h[12])
	if depth := h[11]; h[1] != 7 || depth != 32 || h[7] != 0 {
		t.Fatalf("screen is a version %d dump, %d bits a pixel, byte order %d", h[1], depth, h[7])
	}
	b = b[int(h[0])+12*int(h[19]):]
	img := image.NewRGBA(image.Rect(0, 0, width, height))
	for y := range height {
		line, out := b[y*perLine:], img.Pix[y*img.Stride:]
		for x := range width {
			out[4*x], out[4*x+1], out[4*x+2], out[4*x+3] = line[4*x+2], line[4*x+1], line[4*x], 255
		}
	}
	return img
}

// do has xdotool move the pointer or press keys.
func (d *display) do(t testing.TB, args ...string) {
	t.Helper()
	c := exec.CommandContext(t.Context(), tool(t, "xdotool", "xdotool"), args...)
	c.Env = append(os.Environ(), "DISPLAY="+d.name)
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("xdotool %s: %v: %s", args[0], err, out)
	}
}

// program is the production window as a process.
type program struct {
	cmd    *exec.Cmd
	said   bytes.Buffer
	exited chan struct{}
	err    error
}

// open starts the window on a display. It ends with the test at the latest.
func open(t testing.TB, d *display, args ...string) *program {
	t.Helper()
	return run(t, d, binaryFile, append(args, "--scale", "1")...)
}

// run starts a program with a window on a display. It ends with the test at the
// latest.
func run(t testing.TB, d *display, file string, args ...string) *program {
	t.Helper()
	p := &program{cmd: exec.Command(file, args...), exited: make(chan struct{})}
	if d.home == "" {
		d.home = t.TempDir()
	}
	p.cmd.Env = append(os.Environ(), "DISPLAY="+d.name, "WAYLAND_DISPLAY=", "HOME="+d.home, "XDG_CONFIG_HOME="+d.home, "XDG_CACHE_HOME="+d.home)
	p.cmd.Stdout, p.cmd.Stderr = &p.said, &p.said
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.exited)
	}()
	t.Cleanup(func() {
		p.cmd.Process.Kill()
		<-p.exited
		if strings.Contains(p.said.String(), "Error in Fyne call thread") {
			t.Errorf("the window drew outside Fyne's goroutine:\n%s", &p.said)
		}
		if t.Failed() {
			t.Logf("the window said: %s", &p.said)
		}
	})
	return p
}

// kill ends the window as a crash does.
func (p *program) kill() {
	p.cmd.Process.Kill()
	<-p.exited
}

// leave asks the window to end and returns its exit code.
func (p *program) leave(t *testing.T, s syscall.Signal) int {
	t.Helper()
	p.cmd.Process.Signal(s)
	return p.code(t)
}

// code waits for the end of the window and returns its exit code.
func (p *program) code(t *testing.T) int {
	t.Helper()
	select {
	case <-p.exited:
	case <-time.After(patience):
		p.cmd.Process.Signal(syscall.SIGQUIT) // to be told what it waits for
		select {
		case <-p.exited:
		case <-time.After(5 * time.Second):
		}
		t.Fatal("the window does not end")
	}
	var exit *exec.ExitError
	if p.err != nil && !errors.As(p.err, &exit) {
		t.Fatal(p.err)
	}
	return p.cmd.ProcessState.ExitCode()
}

// write keeps a picture for people.
func write(t testing.TB, file string, img image.Image) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	e := png.Encoder{CompressionLevel: png.BestSpeed}
	if err := e.Encode(&b, img); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}
