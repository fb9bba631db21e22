package tpm_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"testing"
	"time"

	"enrollkiosk/simulators/tpm"
)

// property reads one TPM property raw.
func property(t *testing.T, i *tpm.Instance, p uint32) uint32 {
	t.Helper()
	cmd := binary.BigEndian.AppendUint32([]byte{0x80, 1, 0, 0, 0, 22, 0, 0, 1, 0x7A, 0, 0, 0, 6}, p)
	got := send(t, i, append(cmd, 0, 0, 0, 1)...)
	if n := len(got); n < 8 || binary.BigEndian.Uint32(got[n-8:]) != p {
		t.Fatalf("property %#x: %x", p, got)
	}
	return binary.BigEndian.Uint32(got[len(got)-4:])
}

func lockedOut(t *testing.T, i *tpm.Instance) bool { return property(t, i, 0x200)&(1<<9) != 0 }

func TestLockoutAndRecovery(t *testing.T) {
	i := start(t, t.TempDir())
	if err := i.SetDictionaryAttack(t.Context(), 4, 2*time.Second); err != nil {
		t.Fatal(err)
	}
	if tries, seconds := property(t, i, 0x20F), property(t, i, 0x210); tries != 4 || seconds != 2 {
		t.Errorf("%d tries, %d s", tries, seconds)
	}
	if lockedOut(t, i) {
		t.Fatal("locked out before")
	}
	if err := i.Lockout(t.Context()); err != nil || !lockedOut(t, i) {
		t.Fatalf("lock out: %v", err)
	}
	if err := i.Lockout(t.Context()); err != nil { // already so
		t.Error(err)
	}
	for deadline := time.Now().Add(10 * time.Second); lockedOut(t, i); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it does not recover")
		}
	}
	if err := i.Lockout(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := i.ResetLockout(t.Context()); err != nil || lockedOut(t, i) {
		t.Errorf("reset: %v", err)
	}
	if got := send(t, i, 0x80, 1, 0, 0, 0, 22, 0, 0, 1, 0x7A, 0, 0, 0, 1, 0x80, 0, 0, 0, 0, 0, 0, 9); !bytes.Equal(got[5:], []byte{0, 0, 0, 0}) {
		t.Errorf("objects stay loaded: %x", got)
	}
}

func TestLockoutAuthOfAnother(t *testing.T) {
	i := start(t, t.TempDir())
	if err := i.SetLockoutAuth(t.Context(), "theirs"); err != nil || property(t, i, 0x200)&(1<<2) == 0 {
		t.Fatal(err)
	}
	if err := i.SetDictionaryAttack(t.Context(), 4, time.Second); err == nil {
		t.Error("set without the authorization")
	}
}

func TestExtendPCR(t *testing.T) {
	i := start(t, t.TempDir())
	read := func() []byte { // TPM2_PCR_Read of register 7, SHA-256; the digest comes last
		got := send(t, i, 0x80, 1, 0, 0, 0, 20, 0, 0, 1, 0x7E, 0, 0, 0, 1, 0, 0x0B, 3, 0x80, 0, 0)
		return got[len(got)-32:]
	}
	before, event := read(), sha256.Sum256([]byte("event"))
	if err := i.ExtendPCR(t.Context(), 7, event); err != nil {
		t.Fatal(err)
	}
	if want := sha256.Sum256(append(bytes.Clone(before), event[:]...)); !bytes.Equal(read(), want[:]) {
		t.Error("another value")
	}
	if err := i.ExtendPCR(t.Context(), 24, event); err == nil {
		t.Error("there is no register 24")
	}
}

func TestStateOfATPMThatIsOff(t *testing.T) {
	i := start(t, t.TempDir())
	i.Kill()
	for name, f := range map[string]func(context.Context) error{"lockout": i.Lockout, "reset": i.ResetLockout} {
		if err := f(t.Context()); err == nil {
			t.Errorf("%s of a TPM that is off", name)
		}
	}
}
