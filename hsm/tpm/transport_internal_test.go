package tpm

import (
	"bytes"
	"context"
	"errors"
	"os"
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
