package tpm_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"enrollkiosk/hsm"
	"enrollkiosk/hsm/tpm"
	sim "enrollkiosk/simulators/tpm"

	"github.com/creack/pty"
	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
	"golang.org/x/term"
)

// A hook stands between the kiosk and its TPM. It answers one command, having
// asked the TPM or not; nil is silence.
type hook func(command []byte, ask func([]byte) []byte) []byte

// wire is a unix socket in front of a TPM.
type wire struct {
	path string
	dir  string // key files of who is wired
	mu   sync.Mutex
	hook hook
}

func (w *wire) set(h hook) { w.mu.Lock(); w.hook = h; w.mu.Unlock() }

func newWire(t testing.TB, i *sim.Instance) *wire {
	t.Helper()
	dir, err := os.MkdirTemp("", "wire")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	l, err := net.Listen("unix", filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{path: "unix:" + filepath.Join(dir, "s")}
	var wg sync.WaitGroup
	t.Cleanup(func() { _ = l.Close(); wg.Wait() })
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			w.serve(c, i)
		}
	})
	return w
}

func (w *wire) serve(c io.ReadWriteCloser, i *sim.Instance) {
	defer c.Close()
	back, err := net.Dial("unix", strings.TrimPrefix(i.Path(), "unix:"))
	if err != nil {
		return
	}
	defer back.Close()
	ask := func(command []byte) []byte {
		if _, err := back.Write(command); err != nil {
			return nil
		}
		b, _ := readOne(back)
		return b
	}
	for {
		command, err := readOne(c)
		if err != nil {
			return
		}
		w.mu.Lock()
		h := w.hook
		w.mu.Unlock()
		answer := []byte(nil)
		if h == nil {
			answer = ask(command)
		} else {
			answer = h(command, ask)
		}
		if _, err := c.Write(answer); err != nil {
			return
		}
	}
}

func readOne(r io.Reader) ([]byte, error) {
	b := make([]byte, 10)
	if _, err := io.ReadFull(r, b); err != nil {
		return nil, err
	}
	b = append(b, make([]byte, binary.BigEndian.Uint32(b[2:])-10)...)
	_, err := io.ReadFull(r, b[10:])
	return b, err
}

func code(command []byte) tpm2.TPMCC { return tpm2.TPMCC(binary.BigEndian.Uint32(command[6:])) }

// nameOf reads an object's name and believes it.
func nameOf(t *testing.T, r transport.TPM, h tpm2.TPMHandle) tpm2.TPM2BName {
	t.Helper()
	got, err := tpm2.ReadPublic{ObjectHandle: h}.Execute(r)
	if err != nil {
		t.Fatal(err)
	}
	return got.Name
}

// says is a response that is only a code.
func says(rc tpm2.TPMRC) []byte {
	return binary.BigEndian.AppendUint32([]byte{0x80, 1, 0, 0, 0, 10}, uint32(rc))
}

// wired is an initialized TPM behind a wire, with short patience.
func wired(t testing.TB) (*sim.Instance, *wire, *tpm.TPM) {
	t.Helper()
	i := start(t)
	w := newWire(t, i)
	w.dir = t.TempDir()
	d, err := tpm.Open(t.Context(), tpm.Options{Path: w.path, Dir: w.dir, Timeout: 2 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.set(nil); _ = d.Close() })
	if err := d.Init(t.Context(), binding); err != nil {
		t.Fatal(err)
	}
	return i, w, d
}

var someDigest = sha256.Sum256([]byte("x"))

func TestAskedToRetry(t *testing.T) {
	for _, rc := range []tpm2.TPMRC{tpm2.TPMRCRetry, tpm2.TPMRCYielded, tpm2.TPMRCTesting, tpm2.TPMRCNVRate} {
		_, w, d := wired(t)
		var first []byte
		tries := 0
		w.set(func(command []byte, ask func([]byte) []byte) []byte {
			if code(command) != tpm2.TPMCCSign {
				return ask(command)
			}
			if tries++; tries == 1 {
				first = command
			} else if !bytes.Equal(first, command) {
				t.Error("another command was sent")
			}
			if tries <= 4 {
				return says(rc)
			}
			return ask(command)
		})
		if _, err := d.RecordKey().Sign(t.Context(), someDigest[:]); err != nil || tries != 5 {
			t.Errorf("%v: %v after %d tries", rc, err, tries)
		}
	}
}

func TestAskedToRetryForEver(t *testing.T) {
	_, w, d := wired(t)
	tries := 0
	w.set(func(command []byte, ask func([]byte) []byte) []byte {
		if code(command) == tpm2.TPMCCSign {
			tries++
			return says(tpm2.TPMRCRetry)
		}
		return ask(command)
	})
	begin := time.Now()
	if _, err := d.RecordKey().Sign(t.Context(), someDigest[:]); !errors.Is(err, hsm.ErrUnavailable) {
		t.Errorf("error %v", err)
	}
	if tries < 5 || tries > 16 || time.Since(begin) > 10*time.Second {
		t.Errorf("%d tries in %v", tries, time.Since(begin))
	}
	w.set(nil)
	if _, err := d.RecordKey().Sign(t.Context(), someDigest[:]); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

func TestResponseCodesSayWhatToDo(t *testing.T) {
	_, w, d := wired(t)
	for rc, want := range map[tpm2.TPMRC]error{
		tpm2.TPMRCLockout:           hsm.ErrLockout,
		tpm2.TPMRCFailure:           hsm.ErrUnavailable,
		tpm2.TPMRCInitialize:        hsm.ErrUnavailable,
		tpm2.TPMRCCanceled:          hsm.ErrUnavailable, // and is not sent again
		tpm2.TPMRCObjectMemory:      hsm.ErrUnavailable,
		tpm2.TPMRCBadAuth + 0x900:   tpm.ErrAltered, // session 1
		tpm2.TPMRCNVUnavailable:     hsm.ErrUnavailable,
		tpm2.TPMRCIntegrity + 0x140: tpm.ErrOtherTPM, // parameter 1
		tpm2.TPMRCCommandCode:       hsm.ErrUnsupported,
	} {
		tries := 0
		w.set(func(command []byte, ask func([]byte) []byte) []byte {
			if code(command) == tpm2.TPMCCLoad {
				tries++
				return says(rc)
			}
			return ask(command)
		})
		if _, err := d.RecordKey().Sign(t.Context(), someDigest[:]); !errors.Is(err, want) || !errors.Is(err, rc) || tries != 1 {
			t.Errorf("%v: %v after %d tries", rc, err, tries)
		}
	}
}

func TestMalformedAnswers(t *testing.T) {
	_, w, d := wired(t)
	for name, h := range map[string]hook{
		"nothing":       func(c []byte, ask func([]byte) []byte) []byte { return nil },
		"half a header": func(c []byte, ask func([]byte) []byte) []byte { return says(0)[:5] },
		"length 9":      func(c []byte, ask func([]byte) []byte) []byte { return []byte{0x80, 1, 0, 0, 0, 9, 0, 0, 0, 0} },
		"length 4 GB": func(c []byte, ask func([]byte) []byte) []byte {
			return []byte{0x80, 1, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0}
		},
		"another tag":   func(c []byte, ask func([]byte) []byte) []byte { return []byte{0x80, 3, 0, 0, 0, 10, 0, 0, 0, 0} },
		"empty success": func(c []byte, ask func([]byte) []byte) []byte { return says(0) },
		"cut off":       func(c []byte, ask func([]byte) []byte) []byte { a := ask(c); return a[:len(a)-1] },
		"all ones": func(c []byte, ask func([]byte) []byte) []byte {
			return append([]byte{0x80, 2, 0, 0, 0, 110, 0, 0, 0, 0}, bytes.Repeat([]byte{0xFF}, 100)...)
		},
		"all zeros": func(c []byte, ask func([]byte) []byte) []byte {
			return append([]byte{0x80, 1, 0, 0, 0, 110, 0, 0, 0, 0}, make([]byte, 100)...)
		},
	} {
		for _, at := range []tpm2.TPMCC{tpm2.TPMCCReadPublic, tpm2.TPMCCStartAuthSession, tpm2.TPMCCLoad, tpm2.TPMCCSign} {
			stumble(t, w, d)
			w.set(func(command []byte, ask func([]byte) []byte) []byte {
				if code(command) == at {
					return h(command, ask)
				}
				return ask(command)
			})
			ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
			if sig, err := d.RecordKey().Sign(ctx, someDigest[:]); err == nil {
				t.Errorf("%s to command %#x: signature %x", name, at, sig)
			}
			cancel()
			w.set(nil)
			if _, err := d.RecordKey().Sign(t.Context(), someDigest[:]); err != nil {
				t.Errorf("after %s to command %#x: %v", name, at, err)
			}
		}
	}
}

// stumble makes an operation fail, after which the storage root key is read anew.
func stumble(t *testing.T, w *wire, d *tpm.TPM) {
	t.Helper()
	w.set(nil)
	if _, err := d.Counter(t.Context()); err != nil { // connects anew where needed
		t.Fatal(err)
	}
	w.set(func([]byte, func([]byte) []byte) []byte { return says(tpm2.TPMRCFailure) })
	defer w.set(nil)
	if _, err := d.Counter(t.Context()); !errors.Is(err, tpm2.TPMRCFailure) {
		t.Fatal(err)
	}
}

// TestLateAnswer has the TPM answer after the deadline: the answer must not be
// taken for that of the next command.
func TestLateAnswer(t *testing.T) {
	_, w, d := wired(t)
	before, err := d.Increment(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	w.set(func(command []byte, ask func([]byte) []byte) []byte {
		answer := ask(command)
		if code(command) == tpm2.TPMCCNVIncrement {
			time.Sleep(300 * time.Millisecond)
		}
		return answer
	})
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	begin := time.Now()
	if _, err := d.Increment(ctx); !errors.Is(err, hsm.ErrUnavailable) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("late: %v", err)
	}
	if took := time.Since(begin); took > 250*time.Millisecond {
		t.Errorf("waited %v for 100 ms", took)
	}
	w.set(nil)
	if n, err := d.Counter(t.Context()); err != nil || n != before+1 {
		t.Errorf("counter %d, %v; want %d", n, err, before+1)
	}
}

// device is a character device in front of a TPM: a terminal in raw mode.
func device(t *testing.T, i *sim.Instance) (path string, w *wire) {
	t.Helper()
	master, slave, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = slave.Close() })
	if _, err := term.MakeRaw(int(slave.Fd())); err != nil {
		t.Fatal(err)
	}
	// A descriptor in non-blocking mode is one whose Close ends a Read.
	fd, err := syscall.Dup(int(master.Fd()))
	if err == nil {
		err = syscall.SetNonblock(fd, true)
	}
	if err != nil {
		t.Fatal(err)
	}
	_ = master.Close()
	end := os.NewFile(uintptr(fd), "pty")
	w = &wire{}
	var wg sync.WaitGroup
	wg.Go(func() { w.serve(end, i) })
	t.Cleanup(func() { _ = end.Close(); wg.Wait() })
	return slave.Name(), w
}

func TestDeviceFile(t *testing.T) {
	path, w := device(t, start(t))
	d, err := tpm.Open(t.Context(), tpm.Options{Path: path, Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if err := d.Init(t.Context(), binding); err != nil {
		t.Fatal(err)
	}
	if _, err := d.RecordKey().Sign(t.Context(), someDigest[:]); err != nil {
		t.Error(err)
	}
	if c, err := d.EKCertificates(t.Context()); err != nil || len(c) != 2 {
		t.Errorf("%d certificates, %v", len(c), err)
	}
	// A driver that hangs costs a deadline, not the kiosk.
	w.set(func([]byte, func([]byte) []byte) []byte { return []byte{} })
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	begin := time.Now()
	if _, err := d.Counter(ctx); !errors.Is(err, hsm.ErrUnavailable) || time.Since(begin) > time.Second {
		t.Errorf("hanging device: %v after %v", err, time.Since(begin))
	}
}

func TestDeviceFileOfAnotherKind(t *testing.T) {
	for _, path := range []string{"/dev/null", "/dev/zero", os.Args[0]} {
		if _, err := tpm.Open(t.Context(), tpm.Options{Path: path, Dir: t.TempDir()}); !errors.Is(err, hsm.ErrUnavailable) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// loaded lists what occupies slots, on a connection of its own.
func loaded(t *testing.T, i *sim.Instance) (list []tpm2.TPMHandle) {
	t.Helper()
	r := raw(t, i)
	defer r.Close()
	for _, first := range []uint32{0x80000000, 0x02000000, 0x03000000} {
		got, err := tpm2.GetCapability{Capability: tpm2.TPMCapHandles, Property: first, PropertyCount: 20}.Execute(r)
		if err != nil {
			t.Fatal(err)
		}
		h, err := got.CapabilityData.Data.Handles()
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, h.Handle...)
	}
	return list
}

func raw(t *testing.T, i *sim.Instance) transport.TPMCloser {
	t.Helper()
	return rawAt(t, i.Path())
}

func rawAt(t *testing.T, path string) transport.TPMCloser {
	t.Helper()
	c, err := net.Dial("unix", strings.TrimPrefix(path, "unix:"))
	if err != nil {
		t.Fatal(err)
	}
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	return transport.FromReadWriteCloser(c)
}

func TestSweepsAfterACrash(t *testing.T) {
	i, dir, d := initialized(t)
	_ = d.Close()
	r := raw(t, i)
	for range 3 {
		if _, err := (tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHOwner, InPublic: tpm2.New2B(tpm2.ECCSRKTemplate)}).Execute(r); err != nil {
			t.Fatal(err)
		}
		if _, _, err := tpm2.HMACSession(r, tpm2.TPMAlgSHA256, 16); err != nil {
			t.Fatal(err)
		}
	}
	_ = r.Close() // the crash
	d = open(t, i, dir)
	if _, err := d.RecordKey().Sign(t.Context(), someDigest[:]); err != nil {
		t.Error(err)
	}
	if _, err := d.Increment(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestPlaceIsTaken(t *testing.T) {
	i := start(t)
	r := raw(t, i)
	// An index of another kind where the counter should be.
	if _, err := (tpm2.NVDefineSpace{AuthHandle: tpm2.TPMRHOwner, PublicInfo: tpm2.New2B(tpm2.TPMSNVPublic{
		NVIndex: tpm.DefaultCounter, NameAlg: tpm2.TPMAlgSHA256, DataSize: 8,
		Attributes: tpm2.TPMANV{AuthWrite: true, AuthRead: true, NoDA: true, NT: tpm2.TPMNTOrdinary},
	})}).Execute(r); err != nil {
		t.Fatal(err)
	}
	_ = r.Close()
	d := open(t, i, t.TempDir())
	if err := d.Init(t.Context(), binding); !errors.Is(err, tpm.ErrForeign) {
		t.Errorf("counter's index is taken: %v", err)
	}
	_ = d.Close()

	// The endorsement key, no storage key for the owner's objects, as parent.
	d, err := tpm.Open(t.Context(), tpm.Options{Path: i.Path(), Dir: t.TempDir(), SRK: 0x81010001})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if err := d.Init(t.Context(), binding); !errors.Is(err, tpm.ErrForeign) {
		t.Errorf("storage root key's handle is taken: %v", err)
	}
}

// TestOwnedTPM: somebody set the owner authorization, before Init or after.
func TestOwnedTPM(t *testing.T) {
	take := func(i *sim.Instance) {
		r := raw(t, i)
		defer r.Close()
		if _, err := (tpm2.HierarchyChangeAuth{AuthHandle: tpm2.TPMRHOwner, NewAuth: tpm2.TPM2BAuth{Buffer: []byte("theirs")}}).Execute(r); err != nil {
			t.Fatal(err)
		}
	}
	i := start(t)
	take(i)
	d := open(t, i, t.TempDir())
	if err := d.Init(t.Context(), binding); !errors.Is(err, tpm.ErrOwned) || errors.Is(err, tpm.ErrAltered) {
		t.Errorf("before: %v", err)
	}

	i, dir, d := initialized(t)
	_ = d.Close()
	take(i)
	d = open(t, i, dir)
	if err := d.Init(t.Context(), binding); err != nil {
		t.Errorf("after: %v", err)
	}
	if _, err := d.Increment(t.Context()); err != nil {
		t.Error(err)
	}
}
