//go:build linux

package portrait_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"enrollkiosk/smartcard/portrait"

	"golang.org/x/sys/unix"
)

func script(t testing.TB, name string) string {
	t.Helper()
	path, err := filepath.Abs("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// A decoder that misbehaves is stopped, and the error says so.
func TestHostileDecoder(t *testing.T) {
	for name, want := range map[string]struct {
		limits portrait.Limits
		err    error
	}{
		"endless.sh": {portrait.Limits{Timeout: 300 * time.Millisecond}, portrait.ErrLimits},
		"flood.sh":   {portrait.Limits{}, portrait.ErrLimits},
		"liar.sh":    {portrait.Limits{}, portrait.ErrDecoder},
		"missing":    {portrait.Limits{}, portrait.ErrNoDecoder},
	} {
		t.Run(name, func(t *testing.T) {
			d := portrait.Decoder{OpenJPEG: script(t, name), Limits: want.limits}
			started := time.Now()
			if _, err := d.Decode(t.Context(), read(t, "colour.jp2")); !errors.Is(err, want.err) {
				t.Errorf("%v, want %v", err, want.err)
			}
			if took := time.Since(started); took > 15*time.Second {
				t.Errorf("took %v", took)
			}
		})
	}
}

// The memory limit is what stops the hog: with room it gets what it wants.
func TestMemoryLimit(t *testing.T) {
	hog := portrait.Program{Path: script(t, "hog.sh"), Limits: portrait.Limits{Memory: 1 << 30}}
	if out, err := hog.Run(t.Context(), nil, 100); err != nil || string(out) != "got them\n" {
		t.Errorf("with 1 GiB: %q, %v", out, err)
	}
	hog.Limits.Memory = 32 << 20
	// A program that gets no memory gives up or crashes.
	if out, err := hog.Run(t.Context(), nil, 100); !errors.Is(err, portrait.ErrDecoder) && !errors.Is(err, portrait.ErrLimits) {
		t.Errorf("with 32 MiB: %q, %v", out, err)
	}
}

// The caller's context ends an endless decoder, and is what the error says.
func TestCancelWhileDecoding(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	d := portrait.Decoder{OpenJPEG: script(t, "endless.sh")}
	if _, err := d.Decode(ctx, read(t, "colour.jp2")); !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, portrait.ErrLimits) {
		t.Error(err)
	}
}

// While a decoder runs, the disk holds two links and nothing else; afterwards nothing.
func TestNothingOnDisk(t *testing.T) {
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	done := make(chan struct{})
	go func() {
		defer close(done)
		d := portrait.Decoder{OpenJPEG: script(t, "endless.sh"), Limits: portrait.Limits{Timeout: time.Second}}
		d.Decode(t.Context(), read(t, "colour.jp2"))
	}()
	links := 0
	for running := true; running; {
		select {
		case <-done:
			running = false
		case <-time.After(20 * time.Millisecond):
		}
		seen := 0
		filepath.WalkDir(tmp, func(path string, e fs.DirEntry, err error) error {
			if err != nil || e.IsDir() {
				return nil
			}
			seen++
			if e.Type() != fs.ModeSymlink {
				t.Errorf("%s lies on the disk", e.Name())
			}
			return nil
		})
		links = max(links, seen)
	}
	if links != 2 {
		t.Errorf("saw %d links", links)
	}
	if left, err := os.ReadDir(tmp); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// A decoder that was taken over sees no file of the kiosk, writes none, reaches
// neither network nor process, inherits no environment and leaves no core.
func TestConfinement(t *testing.T) {
	if !portrait.Confined() {
		t.Fatal("this kernel has no Landlock: nothing to test")
	}
	t.Setenv("PORTRAIT_CANARY", "1")
	var cores unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_CORE, &cores); err != nil {
		t.Fatal(err)
	}
	allowed := unix.Rlimit{Cur: cores.Max, Max: cores.Max}
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &allowed); err != nil {
		t.Fatal(err)
	}
	defer unix.Setrlimit(unix.RLIMIT_CORE, &cores)
	dir := t.TempDir()
	secret, written := filepath.Join(dir, "secret"), filepath.Join(dir, "written")
	if err := os.WriteFile(secret, []byte("read me"), 0o644); err != nil {
		t.Fatal(err)
	}
	spy := portrait.Program{Path: script(t, "spy.sh"), Args: []string{secret, written}}
	if out, err := spy.Run(t.Context(), nil, 4096); err != nil || len(out) != 0 {
		t.Errorf("%v, the decoder could:\n%s", err, out)
	}
	// What the caller names may be read.
	spy.Files = []string{secret}
	if out, err := spy.Run(t.Context(), nil, 4096); err != nil || string(out) != "read meread a file\n" {
		t.Errorf("%v, the decoder could:\n%s", err, out)
	}
}

// What binds children does not bind their parent.
func TestParentStaysFree(t *testing.T) {
	for range 20 {
		if _, err := (portrait.Program{Path: "true"}).Run(t.Context(), nil, 1); err != nil {
			t.Fatal(err)
		}
		name := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(name, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
		if err != nil {
			t.Fatal(err)
		}
		unix.Close(fd)
	}
}

func TestNoOrphans(t *testing.T) {
	out, err := portrait.Program{Path: script(t, "orphan.sh")}.Run(t.Context(), nil, 100)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(out)))
	if err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		state, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
		if err != nil || strings.Contains(string(state), ") Z ") {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("a process of the decoder lives on")
		}
	}
}

func TestProgram(t *testing.T) {
	out, err := portrait.Program{Path: "tr", Args: []string{"a-z", "A-Z"}}.Run(t.Context(), []byte("face"), 4)
	if err != nil || string(out) != "FACE" {
		t.Errorf("%q, %v", out, err)
	}
	if _, err := (portrait.Program{Path: "false"}).Run(t.Context(), nil, 4); !errors.Is(err, portrait.ErrDecoder) {
		t.Error(err)
	}
	if _, err := (portrait.Program{Path: script(t, "flood.sh")}).Run(t.Context(), nil, 1000); !errors.Is(err, portrait.ErrLimits) {
		t.Error(err)
	}
}
