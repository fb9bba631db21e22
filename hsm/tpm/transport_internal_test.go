package tpm

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"enrollkiosk/hsm"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
)

// scribbler decrypts commands in place, as some TPMs do, and wants each twice.
type scribbler struct {
	seen   [][]byte
	closed bool
}

func (s *scribbler) exchange(_ context.Context, command []byte) ([]byte, error) {
	s.seen = append(s.seen, bytes.Clone(command))
	clear(command)
	if len(s.seen)%2 == 1 {
		return []byte{0x80, 1, 0, 0, 0, 10, 0, 0, 9, 0x22}, nil // TPM_RC_RETRY
	}
	return []byte{0x80, 1, 0, 0, 0, 10, 0, 0, 0, 0}, nil
}

func (s *scribbler) Close() error { s.closed = true; return nil }

func TestEachTryIsACopy(t *testing.T) {
	d := &scribbler{}
	command := []byte{0x80, 1, 0, 0, 0, 10, 0, 0, 1, 0x7B}
	if _, err := (&runner{ctx: t.Context(), device: d, timeout: time.Second}).Send(command); err != nil {
		t.Fatal(err)
	}
	if len(d.seen) != 2 || !bytes.Equal(d.seen[0], d.seen[1]) || command[0] == 0 {
		t.Errorf("sent %x", d.seen)
	}
}

// TestPanicInAnswer stands for an answer that the library does not survive.
func TestPanicInAnswer(t *testing.T) {
	d := &scribbler{}
	k := &TPM{lock: make(chan struct{}, 1), device: d, options: Options{Timeout: time.Second}}
	k.lock <- struct{}{}
	err := k.do(t.Context(), "x", func(transport.TPM) error {
		tpm2.Marshal(tpm2.TPMTSignature{SigAlg: 0x1234})
		return nil
	})
	if !errors.Is(err, hsm.ErrUnavailable) || !d.closed || k.device != nil {
		t.Errorf("error %v, closed %v", err, d.closed)
	}
	if len(k.lock) != 1 {
		t.Error("the lock is lost")
	}
}

// TestCloseShutsDown: a TPM that is ours alone is told; one behind a resource
// manager serves others on.
func TestCloseShutsDown(t *testing.T) {
	for _, shared := range []bool{false, true} {
		d := &scribbler{}
		k := &TPM{lock: make(chan struct{}, 1), device: d, shared: shared, options: Options{Timeout: time.Second}}
		k.lock <- struct{}{}
		if err := errors.Join(k.Close(), k.Close()); err != nil || !d.closed {
			t.Errorf("error %v, closed %v", err, d.closed)
		}
		told := len(d.seen) > 0 && bytes.Equal(d.seen[0][6:], []byte{0, 0, 1, 0x45, 0, 0}) // TPM2_Shutdown(TPM_SU_CLEAR)
		if told == shared {
			t.Errorf("shared %v: told %v", shared, told)
		}
		if _, err := k.Counter(t.Context()); !errors.Is(err, os.ErrClosed) {
			t.Errorf("after Close: %v", err)
		}
	}
}

// TestSharedTPMIsNotSwept: behind a resource manager nothing is listed, let
// alone flushed.
func TestSharedTPMIsNotSwept(t *testing.T) {
	for _, shared := range []bool{false, true} {
		d := &scribbler{}
		k := &TPM{options: Options{Timeout: time.Second}}
		_ = k.attach(t.Context(), d, shared)
		if (len(d.seen) == 0) != shared {
			t.Errorf("shared %v: %x", shared, d.seen)
		}
	}
}

// TestBlockingDeviceThatHangs gives up at the deadline and closes the device
// once, when its call has come back.
func TestBlockingDeviceThatHangs(t *testing.T) {
	back, closed := make(chan struct{}), make(chan struct{}, 2)
	d := &blocking{
		submit: func([]byte) ([]byte, error) { <-back; return nil, nil },
		close:  func() error { closed <- struct{}{}; return nil },
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := d.exchange(ctx, []byte{1}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v", err)
	}
	if err := d.Close(); err != nil || len(closed) > 0 {
		t.Errorf("closed under a call that uses it: %v", err)
	}
	close(back)
	<-closed
	if len(closed) > 0 {
		t.Error("closed twice")
	}
	d = &blocking{submit: func(b []byte) ([]byte, error) { return b, nil }, close: d.close}
	if b, err := d.exchange(t.Context(), []byte{1}); err != nil || len(b) != 1 || d.Close() != nil || len(closed) != 1 {
		t.Errorf("%x, %v", b, err)
	}
}

// TestOtherSystems builds the package with each system's transport.
func TestOtherSystems(t *testing.T) {
	for system, file := range map[string]string{"windows/amd64": "transport_windows.go", "darwin/arm64": "transport_unix.go", "wasip1/wasm": "transport_other.go"} {
		name, arch, _ := strings.Cut(system, "/")
		run := func(args ...string) string {
			cmd := exec.CommandContext(t.Context(), "go", args...)
			cmd.Env = append(os.Environ(), "GOOS="+name, "GOARCH="+arch, "CGO_ENABLED=0")
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Errorf("%s: go %v: %v\n%s", system, args, err, out)
			}
			return string(out)
		}
		run("build", ".")
		if files := run("list", "-f", "{{.GoFiles}}", "."); !strings.Contains(files, file) {
			t.Errorf("%s is built of %s", system, files)
		}
	}
}
