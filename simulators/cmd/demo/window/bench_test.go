package window

import (
	"fmt"
	"image"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"fyne.io/fyne/v2"

	"enrollkiosk/kiosk"
	"enrollkiosk/simulators/cmd/demo/stage"
	"enrollkiosk/simulators/pcscd"
)

// gate holds up whatever passes it while it is shut: a device that hangs.
type gate struct{ sync.Mutex }

func (g *gate) pass() {
	g.Lock()
	defer g.Unlock()
}

// watchedTPM puts the gate in front of a TPM and returns the path to it.
func (g *gate) watchedTPM(t testing.TB, upstream, file string) string {
	t.Helper()
	l, err := net.Listen("unix", file)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			tpm, err := net.Dial("unix", strings.TrimPrefix(upstream, "unix:"))
			if err != nil {
				client.Close()
				continue
			}
			go func() {
				io.Copy(client, tpm)
				client.Close()
			}()
			go func() {
				defer tpm.Close()
				b := make([]byte, 4096)
				for {
					n, err := client.Read(b)
					if err != nil {
						return
					}
					g.pass()
					if _, err := tpm.Write(b[:n]); err != nil {
						return
					}
				}
			}()
		}
	}()
	return "unix:" + file
}

// strokes types a digit and takes it back, over and over, each once the window has
// shown the one before.
func (p *person) strokes(n int) {
	p.t.Helper()
	for range n {
		p.display.do(p.t, "key", "8")
		p.mirror.digit('8')
		p.look()
		p.display.do(p.t, "key", "BackSpace")
		p.mirror.key(fyne.KeyBackspace)
		p.look()
	}
}

// hung is a kiosk whose officer's PIN is with a card that does not answer any
// more. Neither do the other readers, the TPM and the registry. Its window is
// what show starts.
func hung(t testing.TB, show func(d *display, socket string) *program) (*person, *program) {
	t.Helper()
	dir, err := os.MkdirTemp("", "stage") // t.TempDir is too long for a socket's path
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	limits := kiosk.DefaultLimits()
	limits.Token, limits.TPM, limits.Idle = time.Hour, time.Hour, time.Hour
	s, err := stage.New(t.Context(), daemon, dir, stage.Options{Prefix: fmt.Sprintf("Window%d", stages.Add(1)), Limits: limits, Issuers: issuers})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close stage: %v", err)
		}
	})
	var devices gate
	touched := make(chan struct{}, 1)
	s.Config.TPM.Path = devices.watchedTPM(t, s.TPM.Path(), filepath.Join(dir, "gate"))
	for _, r := range []kiosk.Device{kiosk.DeviceDocument, kiosk.DeviceToken, kiosk.DeviceOfficer} {
		s.Reader(r).Trace(func(e pcscd.TraceEvent) {
			if e.Answered {
				return
			}
			select {
			case touched <- struct{}{}:
			default:
			}
			devices.pass()
		})
	}
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.Officer(0)
	d := openDisplay(t, 1280, 800)
	window := show(d, s.Config.Kiosk.Socket)
	p := &person{Stage: s, t: t, width: 1280, height: 800, display: d, pictures: t.TempDir()}
	p.meet()
	for limit := time.Now().Add(patience); p.newest().PIN == nil || p.now.Health.Readers[kiosk.DeviceOfficer] != kiosk.ReaderCard; {
		if time.Now().After(limit) {
			t.Fatal("no page asks for the officer's PIN")
		}
	}
	p.look()
	devices.Lock()
	t.Cleanup(devices.Unlock) // before the stage is closed
	if err := s.StopRegistry(); err != nil {
		t.Fatal(err)
	}
	for len(touched) > 0 {
		<-touched
	}
	d.do(t, "key", "--delay", "40", "1", "1", "1", "1", "1", "1", "Return")
	select {
	case <-touched:
	case <-time.After(patience):
		t.Fatal("the officer's card is not asked")
	}
	p.look() // the pad is empty again
	return p, window
}

// While every device hangs the window goes on to show what is typed.
func TestWindowAnswersWhileDevicesHang(t *testing.T) {
	p, _ := hung(t, func(d *display, socket string) *program { return open(t, d, "--socket", socket) })
	p.strokes(10)
}

// BenchmarkFrames types while every device hangs, and reports the longest gap
// between two frames and the median, in milliseconds.
func BenchmarkFrames(b *testing.B) {
	for b.Loop() {
		frames := build(b, "frames")
		p, window := hung(b, func(d *display, socket string) *program { return run(b, d, frames, socket) })
		window.cmd.Process.Signal(syscall.SIGUSR1)
		p.strokes(50)
		window.cmd.Process.Signal(syscall.SIGTERM)
		<-window.exited
		var longest, typical float64
		_, said, _ := strings.Cut(window.said.String(), "gaps ")
		if _, err := fmt.Sscan(said, &longest, &typical); err != nil {
			b.Fatalf("the window said %s: %v", &window.said, err)
		}
		b.ReportMetric(longest, "gap-ms")
		b.ReportMetric(typical, "frame-ms")
	}
}

// BenchmarkStandardEnrollment plays one enrollment with the mouse, from the
// officer's start until the desk is free again, on one display and with a scanner or
// without, and reports what it costs: the buttons that officer and citizen press,
// keys of pads apart, and the seconds of people who need 0.4 of them for a page. On
// two displays the officer presses as many less as the display is turned.
func BenchmarkStandardEnrollment(b *testing.B) {
	for _, scanned := range []bool{true, false} {
		b.Run(either(scanned, "scanned", "typed"), func(b *testing.B) {
			for b.Loop() {
				p := newPerson(b, b.Name(), mouse{}, 1280, 800, "")
				p.scanner = scanned
				window := open(b, p.display, "--socket", p.Config.Kiosk.Socket, "--full-screen=true")
				p.meet()
				p.until(at(kiosk.ScreenHome))
				p.officers, p.citizens = effort{}, effort{}
				start := time.Now()
				p.until(at(kiosk.ScreenReceipt))
				p.until(at(kiosk.ScreenHome))
				b.ReportMetric(time.Since(start).Seconds(), "seconds")
				b.ReportMetric(float64(p.officers.presses), "officer-clicks")
				b.ReportMetric(float64(p.officers.presses-p.officers.turns), "two-displays-clicks")
				b.ReportMetric(float64(p.officers.keys), "officer-keys")
				b.ReportMetric(float64(p.citizens.presses), "citizen-taps")
				window.kill()
			}
		})
	}
}

// build makes a program of testdata.
func build(t testing.TB, name string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	if out, err := exec.Command("go", "build", "-trimpath", "-o", file, "./testdata/"+name).CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", name, err, out)
	}
	return file
}

// BenchmarkWindow starts the window and one with a label in turn, and reports
// time to the first usable frame and resident memory as ratios of the two; how
// memory grows over a thousand citizens; and how long a killed window takes to
// come back as its unit says, in seconds.
func BenchmarkWindow(b *testing.B) {
	label := build(b, "label")
	const starts = 7
	for b.Loop() {
		d := openDisplay(b, 1280, 800)
		desk, socket := newScript(b)
		m := newMirror(1280, 800)
		m.draw(desk.show(home()))
		page := m.capture()
		ours := func(img *image.RGBA) bool { return looksLike(img, left, page) }
		any := func(img *image.RGBA) bool { return !blank(img) }
		var times, sizes [2][]float64
		for range starts {
			for i, c := range []struct {
				program string
				args    []string
				drawn   func(*image.RGBA) bool
			}{{binaryFile, []string{"--socket", socket, "--scale", "1"}, ours}, {label, nil, any}} {
				start := time.Now()
				p := run(b, d, c.program, c.args...)
				for !c.drawn(d.screen(b)) {
					if time.Since(start) > patience {
						b.Fatalf("%s draws nothing", c.program)
					}
					time.Sleep(time.Millisecond)
				}
				times[i] = append(times[i], time.Since(start).Seconds())
				time.Sleep(2 * time.Second) // whatever it makes after that
				sizes[i] = append(sizes[i], resident(b, p))
				p.kill()
				for !blank(d.screen(b)) {
					time.Sleep(time.Millisecond)
				}
			}
		}
		b.ReportMetric(median(times[0])/median(times[1]), "start/label")
		b.ReportMetric(median(sizes[0])/median(sizes[1]), "memory/label")

		s := supervise(b, d, "--socket", socket)
		d.shows(b, "50-before", pages{left: m}, nil)
		var early float64
		const citizens, forgotten = 1000, 25 * time.Second // until nothing of earlier pages is kept
		face := photo(b)
		for i := range citizens {
			for _, page := range []kiosk.State{home(), comparing(), choosing()} {
				if page.Holder != nil {
					page.Holder.Face = face
				}
				desk.show(page)
				time.Sleep(20 * time.Millisecond) // a frame or more
			}
			if i == citizens/10 {
				desk.show(home())
				time.Sleep(forgotten)
				early = resident(b, s.running())
			}
		}
		m.draw(desk.show(home()))
		d.shows(b, "51-after", pages{left: m}, nil)
		time.Sleep(forgotten)
		b.ReportMetric(resident(b, s.running())/early, "grown")

		s.running().kill()
		start := time.Now()
		for !blank(d.screen(b)) && !ours(d.screen(b)) {
			time.Sleep(time.Millisecond)
		}
		for blank(d.screen(b)) {
			time.Sleep(time.Millisecond)
		}
		d.shows(b, "52-back", pages{left: m}, nil)
		b.ReportMetric(time.Since(start).Seconds(), "back-s")
	}
}

func median(all []float64) float64 {
	slices.Sort(all)
	return all[len(all)/2]
}

// resident is the memory of a program that is in use, in bytes (proc(5), VmRSS).
func resident(t testing.TB, p *program) float64 {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), "VmRSS:")
	var kilobytes float64
	if _, err := fmt.Sscan(rest, &kilobytes); err != nil {
		t.Fatal(err)
	}
	return 1024 * kilobytes
}
