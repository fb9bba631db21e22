package tpm_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"enrollkiosk/hsm"
	"enrollkiosk/hsm/attest"
	"enrollkiosk/hsm/tpm"

	"github.com/google/go-tpm/tpm2"
)

// operations are all that use a key, make one or carry a secret. Each says
// whether the TPM really did what the caller believes.
func operations(t *testing.T, w *wire, d *tpm.TPM, c tpm.Citizen) map[string]func(context.Context) error {
	t.Helper()
	ak, err := d.AttestationKey()
	if err != nil {
		t.Fatal(err)
	}
	signs := func(k hsm.Key) func(context.Context) error {
		return func(ctx context.Context) error {
			sig, err := k.Sign(ctx, someDigest[:])
			if err == nil && !ecdsa.VerifyASN1(k.Public().(*ecdsa.PublicKey), someDigest[:], sig) {
				t.Error("a signature that does not verify")
			}
			return err
		}
	}
	certified := func(e hsm.TPMEvidence, err error) error {
		if err == nil {
			if _, err := attest.VerifyTPM(e, attest.TPMExpect{AK: ak.Public, Class: attest.Test, ParentName: ak.ParentName,
				OutsideInfo: binding, QualifyingData: someDigest[:]}); err != nil {
				t.Errorf("evidence that does not verify: %v", err)
			}
		}
		return err
	}
	return map[string]func(context.Context) error{
		"sign":    signs(d.RecordKey()),
		"certify": func(ctx context.Context) error { return certified(d.Certify(ctx, tpm.TLS, someDigest[:])) },
		"increment": func(ctx context.Context) error {
			before, err := d.Counter(t.Context())
			if err != nil {
				return err
			}
			n, err := d.Increment(ctx)
			if err == nil && n != before+1 {
				t.Errorf("counter %d after %d", n, before)
			}
			return err
		},
		"create citizen": func(ctx context.Context) error {
			c, err := d.CreateCitizen(ctx, binding, text(rightPIN))
			if err != nil {
				return err
			}
			w.set(nil)
			if err := errors.Join(signs(c.Key(text(rightPIN)))(t.Context()), d.Forget(t.Context(), c.Name())); err != nil {
				t.Errorf("the key that was made: %v", err)
			}
			return nil
		},
		"sign as citizen": signs(c.Insist().Key(text(rightPIN))),
		"certify citizen": func(ctx context.Context) error { return certified(c.Certify(ctx, someDigest[:])) },
	}
}

// TestNothingStaysLoaded lets each command of each operation fail, by a code,
// and by the person who gives up waiting.
func TestNothingStaysLoaded(t *testing.T) {
	i, w, d := wired(t)
	c := citizen(t, d)
	for name, call := range operations(t, w, d, c) {
		for _, cancelled := range []bool{false, true} {
			for at := int32(0); ; at++ {
				var n atomic.Int32
				ctx, cancel := context.WithCancel(t.Context())
				w.set(func(command []byte, ask func([]byte) []byte) []byte {
					if code(command) == tpm2.TPMCCFlushContext || n.Add(1) != at+1 {
						return ask(command)
					}
					if cancelled {
						answer := ask(command)
						cancel()
						time.Sleep(5 * time.Millisecond)
						return answer
					}
					return says(tpm2.TPMRCFailure)
				})
				err := call(ctx)
				cancel()
				w.set(nil)
				if err != nil && cancelled && !errors.Is(err, context.Canceled) {
					t.Errorf("%s cancelled at command %d: %v", name, at, err)
				}
				if err != nil && !cancelled && !errors.Is(err, hsm.ErrUnavailable) {
					t.Errorf("%s failed at command %d: %v", name, at, err)
				}
				if n.Load() <= at { // no such command: all was well
					if err != nil {
						t.Errorf("%s: %v", name, err)
					}
					break
				}
				// A connection that was given up is swept when the next begins.
				if _, err := d.Counter(t.Context()); err != nil {
					t.Fatal(err)
				}
				if list := loadedNow(t, w, d); len(list) > 0 {
					t.Fatalf("%s, command %d, cancelled %v: %#x stay loaded", name, at, cancelled, list)
				}
			}
		}
	}
	_ = d.Close()
	if list := loaded(t, i); len(list) > 0 {
		t.Errorf("%#x stay loaded", list)
	}
}

// TestCloseAfterGivingUp: nothing stays loaded, and the TPM is shut down in
// order.
func TestCloseAfterGivingUp(t *testing.T) {
	i, w, d := wired(t)
	ctx, cancel := context.WithCancel(t.Context())
	var told atomic.Bool
	w.set(func(command []byte, ask func([]byte) []byte) []byte {
		answer := ask(command)
		switch code(command) {
		case tpm2.TPMCCSign:
			cancel()
			time.Sleep(20 * time.Millisecond)
		case tpm2.TPMCCShutdown:
			told.Store(true)
		}
		return answer
	})
	if _, err := d.RecordKey().Sign(ctx, someDigest[:]); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if list := loaded(t, i); len(list) > 0 || !told.Load() {
		t.Errorf("%#x stay loaded; told %v", list, told.Load())
	}
}

// loadedNow asks over the kiosk's own connection: its next command is
// exchanged for ours.
func loadedNow(t *testing.T, w *wire, d *tpm.TPM) (list []uint32) {
	t.Helper()
	asked := false
	w.set(func(command []byte, ask func([]byte) []byte) []byte {
		if !asked {
			asked = true
			for _, first := range []uint32{0x80000000, 0x02000000, 0x03000000} {
				got := ask(slices.Concat([]byte{0x80, 1, 0, 0, 0, 22, 0, 0, 1, 0x7A, 0, 0, 0, 1}, be(uint64(first))[4:], []byte{0, 0, 0, 20}))
				for n := 0; n < int(binary.BigEndian.Uint32(got[15:])); n++ {
					list = append(list, binary.BigEndian.Uint32(got[19+4*n:]))
				}
			}
		}
		return ask(command)
	})
	defer w.set(nil)
	if _, err := d.Counter(t.Context()); err != nil {
		t.Fatal(err)
	}
	return list
}

// TestSlots counts what is loaded at once. With the storage root key, which
// takes a slot while it is used, that may be three objects and three sessions.
func TestSlots(t *testing.T) {
	_, w, d := wired(t)
	calls := operations(t, w, d, citizen(t, d))
	kinds := map[byte]string{0x80: "objects", 0x02: "sessions"}
	for name, call := range calls {
		now, most := map[byte]int{}, map[byte]int{}
		w.set(func(command []byte, ask func([]byte) []byte) []byte {
			answer := ask(command)
			handle := answer
			switch code(command) {
			case tpm2.TPMCCLoad, tpm2.TPMCCStartAuthSession, tpm2.TPMCCCreatePrimary:
				now[handle[10]]++
			case tpm2.TPMCCFlushContext:
				now[command[10]]--
			}
			for k, n := range now {
				most[k] = max(most[k], n)
			}
			return answer
		})
		if err := call(t.Context()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		w.set(nil)
		if most[0x80] > 2 || most[0x02] > 2 || most[0x02] == 0 {
			t.Errorf("%s: %d objects, %d sessions at once", name, most[0x80], most[0x02])
		}
		for k, n := range now {
			if n != 0 {
				t.Errorf("%s: %d %s stay", name, n, kinds[k])
			}
		}
	}
}

// TestBusSeesNoSecret records every byte between kiosk and TPM and looks for
// the PIN and for what it becomes.
func TestBusSeesNoSecret(t *testing.T) {
	_, w, d := wired(t)
	var bus bytes.Buffer
	record := func(command []byte, ask func([]byte) []byte) []byte {
		bus.Write(command)
		answer := ask(command)
		bus.Write(answer)
		return answer
	}
	w.set(record)
	c, err := d.CreateCitizen(t.Context(), binding, text(rightPIN))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Key(text(rightPIN)).Sign(t.Context(), someDigest[:]); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Key(text(wrongPIN)).Sign(t.Context(), someDigest[:]); err == nil {
		t.Fatal("a wrong PIN signs")
	}
	auth := authOf(t, w.dir, c, rightPIN)
	secrets := map[string][]byte{"PIN": []byte(rightPIN), "wrong PIN": []byte(wrongPIN), "authorization value": auth,
		"sensitive area": append([]byte{0, byte(len(auth) + 4), 0, byte(len(auth))}, auth...), "digest to sign": someDigest[:]}
	for name, b := range secrets {
		if bytes.Contains(bus.Bytes(), b) {
			t.Errorf("%s crosses the bus in clear", name)
		}
	}

	// The same without sessions: the recorder does find what crosses in clear.
	bus.Reset()
	w.set(nil)
	_ = d.Close()
	r := rawAt(t, w.path)
	defer r.Close()
	w.set(record)
	_, err = tpm2.Create{
		ParentHandle: tpm2.AuthHandle{Handle: tpm.DefaultSRK, Name: nameOf(t, r, tpm.DefaultSRK), Auth: tpm2.PasswordAuth(nil)},
		InSensitive:  tpm2.TPM2BSensitiveCreate{Sensitive: &tpm2.TPMSSensitiveCreate{UserAuth: tpm2.TPM2BAuth{Buffer: auth}}},
		InPublic:     tpm2.New2B(tpm2.ECCSRKTemplate),
	}.Execute(r)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(bus.Bytes(), secrets["sensitive area"]) {
		t.Error("the recorder sees nothing")
	}
}

// TestInterposerAltersAnswers flips a bit of every byte of every answer to
// every command of every operation: each time the operation fails. Answers to
// TPM2_FlushContext carry nothing.
func TestInterposerAltersAnswers(t *testing.T) {
	_, w, d := wired(t)
	c := citizen(t, d)
	altered, found := 0, 0
	calls := operations(t, w, d, c)
	delete(calls, "certify citizen") // as certify
	for _, call := range calls {
		for at, more := int32(1), true; more; at++ {
			size := headerSize + 1
			for flip := headerSize; flip < size && more; flip++ { // the header is framing: TestMalformedAnswers
				stumble(t, w, d)
				var n atomic.Int32
				w.set(func(command []byte, ask func([]byte) []byte) []byte {
					answer := ask(command)
					if code(command) != tpm2.TPMCCFlushContext && n.Add(1) == at {
						if size = len(answer) - unused[code(command)]; flip < size {
							altered++
							answer[flip] ^= 1 << (flip % 8)
						}
					}
					return answer
				})
				if err := call(t.Context()); err != nil {
					found++
				}
				w.set(nil)
				more = n.Load() >= at
				restore(t, w, c)
			}
		}
	}
	if altered < 1000 || found != altered {
		t.Errorf("%d of %d alterations found", found, altered)
	}
	if list := loadedNow(t, w, d); len(list) > 0 {
		t.Errorf("%#x stay loaded", list)
	}
}

const headerSize = 10

// unused is what ends some answers: names, which the kiosk computes itself.
var unused = map[tpm2.TPMCC]int{tpm2.TPMCCReadPublic: 2 * (2 + 34), tpm2.TPMCCNVReadPublic: 2 + 34}

// TestInterposerAltersCommands flips bits at the end of every command, where
// its parameters are. The operation says if it was made to believe something.
func TestInterposerAltersCommands(t *testing.T) {
	_, w, d := wired(t)
	c := citizen(t, d)
	for _, call := range operations(t, w, d, c) {
		for at, more := int32(1), true; more; at++ {
			for back := 1; back < 48 && more; back += 7 {
				stumble(t, w, d)
				var n atomic.Int32
				w.set(func(command []byte, ask func([]byte) []byte) []byte {
					if code(command) != tpm2.TPMCCFlushContext && n.Add(1) == at && len(command)-back >= headerSize {
						command[len(command)-back] ^= 0x10
					}
					return ask(command)
				})
				_ = call(t.Context())
				w.set(nil)
				more = n.Load() >= at
				restore(t, w, c)
			}
		}
	}
}

// restore gives a citizen all tries back, which alterations cost.
func restore(t *testing.T, w *wire, c tpm.Citizen) {
	t.Helper()
	if n, err := c.Tries(); err != nil || n == tpm.MaxTries {
		return
	}
	if err := os.WriteFile(filepath.Join(w.dir, "citizens", c.Name()+".tries"), []byte("5\n"), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestInterposer sits on the bus and lies where it pays.
func TestInterposer(t *testing.T) {
	_, w, d := wired(t)
	value, err := d.Counter(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		hook hook
		call func() error
		want error
	}{
		"another counter value": {func(command []byte, ask func([]byte) []byte) []byte {
			a := ask(command)
			if code(command) == tpm2.TPMCCNVRead {
				a[10+4+2+7]++ // header, parameter size, TPM2B size, last byte of the value
			}
			return a
		}, func() error { _, err := d.Counter(t.Context()); return err }, tpm.ErrAltered},
		"swallowed increment": {func(command []byte, ask func([]byte) []byte) []byte {
			if code(command) == tpm2.TPMCCNVIncrement {
				return append([]byte{0x80, 2, 0, 0, 0, 19, 0, 0, 0, 0}, 0, 0, 0, 0, 0, 0, 1, 0, 0)
			}
			return ask(command)
		}, func() error { _, err := d.Increment(t.Context()); return err }, tpm.ErrAltered},
		"another digest to sign": {func(command []byte, ask func([]byte) []byte) []byte {
			if code(command) == tpm2.TPMCCSign {
				// scheme and ticket come last: TPM_ALG_NULL, 8 bytes; before them the digest
				command[len(command)-2-8-1] ^= 1
			}
			return ask(command)
		}, func() error { _, err := d.RecordKey().Sign(t.Context(), someDigest[:]); return err }, tpm.ErrAltered},
		"another storage root key": {func(command []byte, ask func([]byte) []byte) []byte {
			a := ask(command)
			if code(command) == tpm2.TPMCCReadPublic {
				a[len(a)-34-2-34-2-20]++ // in the point, before name and qualified name
			}
			return a
		}, func() error { _, err := d.RecordKey().Sign(t.Context(), someDigest[:]); return err }, tpm.ErrOtherTPM},
	} {
		stumble(t, w, d)
		w.set(c.hook)
		if err := c.call(); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
		w.set(nil)
		if n, err := d.Counter(t.Context()); err != nil || n != value {
			t.Errorf("after %s: counter %d, %v", name, n, err)
		}
	}
}

// authOf computes the authorization value as its description says.
func authOf(t *testing.T, dir string, c tpm.Citizen, pin string) []byte {
	t.Helper()
	rest, err := os.ReadFile(filepath.Join(dir, "citizens", c.Name()+".tss2.pem"))
	if err != nil {
		t.Fatal(err)
	}
	for {
		var b *pem.Block
		if b, rest = pem.Decode(rest); b == nil {
			t.Fatal("no salt")
		} else if b.Type == "TPM2 AUTH SALT" {
			sum := sha256.Sum256(slices.Concat([]byte("enrollkiosk/citizen-pin/v1"), b.Bytes, []byte(pin)))
			return []byte(hex.EncodeToString(sum[:16]))
		}
	}
}
