package tpm_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/sha256"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"enrollkiosk/hsm"
	"enrollkiosk/hsm/tpm"
	"enrollkiosk/kiosk/secret"
	sim "enrollkiosk/simulators/tpm"

	"github.com/google/go-tpm/tpm2"
)

const rightPIN, wrongPIN = "739154", "739155"

func text(s string) secret.Text { return secret.FromString(s) }

func citizen(t testing.TB, d *tpm.TPM) tpm.Citizen {
	t.Helper()
	c, err := d.CreateCitizen(t.Context(), binding, text(rightPIN))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// signs uses a citizen's key once.
func signs(t *testing.T, c tpm.Citizen, pin string) error {
	t.Helper()
	sig, err := c.Key(text(pin)).Sign(t.Context(), someDigest[:])
	if err == nil && !ecdsa.VerifyASN1(c.Public().(*ecdsa.PublicKey), someDigest[:], sig) {
		t.Error("signature does not verify")
	}
	return err
}

// left is the number of tries, which must be there.
func left(t *testing.T, c tpm.Citizen) int {
	t.Helper()
	n, err := c.Tries()
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func wrong(t *testing.T, c tpm.Citizen, want int) {
	t.Helper()
	var e *hsm.WrongPIN
	if err := signs(t, c, wrongPIN); !errors.As(err, &e) || e.Left != want || left(t, c) != want {
		t.Errorf("wrong PIN: %v; want %d left", err, want)
	}
}

func TestCitizenSignsAndIsFoundAgain(t *testing.T) {
	i, dir, d := initialized(t)
	a, b := citizen(t, d), citizen(t, d)
	for _, c := range []tpm.Citizen{a, b} {
		if err := signs(t, c, rightPIN); err != nil {
			t.Fatal(err)
		}
	}
	_ = d.Close()
	if err := i.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	d = open(t, i, dir)
	all, err := d.Citizens()
	if err != nil || len(all) != 2 {
		t.Fatalf("%d keys, %v", len(all), err)
	}
	c, err := d.Citizen(a.Name())
	if err != nil || !a.Public().(*ecdsa.PublicKey).Equal(c.Public()) || a.Name() == b.Name() {
		t.Fatalf("another key: %v", err)
	}
	if err := signs(t, c, rightPIN); err != nil {
		t.Error(err)
	}
	if _, err := c.Key(text(rightPIN)).Sign(t.Context(), someDigest[:31]); !errors.Is(err, hsm.ErrUnsupported) || left(t, c) != tpm.MaxTries {
		t.Errorf("short digest: %v, %d left", err, left(t, c))
	}
}

// TestCitizenKeyIsGuarded reads in the TPM's own words how.
func TestCitizenKeyIsGuarded(t *testing.T) {
	_, _, d := initialized(t)
	e, err := citizen(t, d).Certify(t.Context(), someDigest[:])
	if err != nil {
		t.Fatal(err)
	}
	public, err := tpm2.Unmarshal[tpm2.TPMTPublic](e.Public)
	if err != nil {
		t.Fatal(err)
	}
	if want := (tpm2.TPMAObject{FixedTPM: true, FixedParent: true, SensitiveDataOrigin: true, UserWithAuth: true, SignEncrypt: true}); public.ObjectAttributes != want {
		t.Errorf("attributes %+v", public.ObjectAttributes)
	}
	if len(public.AuthPolicy.Buffer) > 0 {
		t.Error("a policy is a second way")
	}
}

func TestFiveWrongPINs(t *testing.T) {
	_, w, d := wired(t)
	c, other := citizen(t, d), citizen(t, d)
	for n := tpm.MaxTries - 1; n > 0; n-- {
		wrong(t, c, n)
	}
	asked := 0
	w.set(func(command []byte, ask func([]byte) []byte) []byte {
		if code(command) == tpm2.TPMCCSign {
			asked++
		}
		return ask(command)
	})
	for range 2 { // refusing costs nothing
		if err := signs(t, c, rightPIN); !errors.Is(err, tpm.ErrLastTry) || !errors.Is(err, hsm.ErrPINBlocked) || errors.Is(err, tpm.ErrKeyLost) || asked != 0 || left(t, c) != 1 {
			t.Fatalf("last try: %v, asked %d times", err, asked)
		}
	}
	if err := signs(t, c.Insist(), wrongPIN); !errors.Is(err, tpm.ErrKeyLost) || asked != 1 || left(t, c) != 0 {
		t.Errorf("last wrong PIN: %v, asked %d times", err, asked)
	}
	if err := signs(t, c.Insist(), rightPIN); !errors.Is(err, tpm.ErrKeyLost) || !errors.Is(err, hsm.ErrPINBlocked) || asked != 1 {
		t.Errorf("right PIN, too late: %v, asked %d times", err, asked)
	}
	if !strings.Contains(tpm.ErrKeyLost.Error(), "replace") {
		t.Error("it does not say what to do")
	}
	if err := signs(t, other, rightPIN); err != nil {
		t.Errorf("another citizen: %v", err)
	}
}

func TestRightPINForgives(t *testing.T) {
	_, _, d := initialized(t)
	c := citizen(t, d)
	for n := tpm.MaxTries - 1; n > 0; n-- {
		wrong(t, c, n)
	}
	if err := signs(t, c.Insist(), rightPIN); err != nil || left(t, c) != tpm.MaxTries {
		t.Errorf("insisting on the right one: %v, %d left", err, left(t, c))
	}
}

func TestPINForm(t *testing.T) {
	_, _, d := initialized(t)
	c := citizen(t, d)
	wiped := text(rightPIN)
	wiped.Wipe()
	for _, pin := range []secret.Text{{}, text("12345"), text("123456789"), wiped} {
		if _, err := d.CreateCitizen(t.Context(), binding, pin); !errors.Is(err, tpm.ErrPINForm) {
			t.Errorf("create: %v", err)
		}
		if _, err := c.Key(pin).Sign(t.Context(), someDigest[:]); !errors.Is(err, tpm.ErrPINForm) || left(t, c) != tpm.MaxTries {
			t.Errorf("sign: %v", err)
		}
	}
	for _, pin := range []string{"12345678", "\x00\x00\x00\x00\x00\x00", "a\x00bcdef", "\xff\xfe\xfd\xfc\xfb\xfa"} {
		c, err := d.CreateCitizen(t.Context(), binding, text(pin))
		if err != nil {
			t.Fatal(err)
		}
		if err := signs(t, c, pin); err != nil {
			t.Errorf("%q: %v", pin, err)
		}
		if err := signs(t, c, pin[:len(pin)-1]+"~"); !errors.As(err, new(*hsm.WrongPIN)) {
			t.Errorf("not %q: %v", pin, err)
		}
	}
}

// TestPowerCutCostsATry kills the TPM, and gives up waiting, at the very
// moment when the TPM is asked: the try is counted on disk by then.
func TestPowerCutCostsATry(t *testing.T) {
	i, w, d := wired(t)
	c := citizen(t, d)
	seen := make(chan int, 1)
	w.set(func(command []byte, ask func([]byte) []byte) []byte {
		if code(command) == tpm2.TPMCCSign {
			i.Kill()
			seen <- left(t, c)
		}
		return ask(command)
	})
	if err := signs(t, c, wrongPIN); !errors.Is(err, hsm.ErrUnavailable) {
		t.Errorf("killed: %v", err)
	}
	if n := <-seen; n != tpm.MaxTries-1 || left(t, c) != tpm.MaxTries-1 {
		t.Errorf("%d left while the TPM was asked, %d afterwards", n, left(t, c))
	}
	w.set(nil)
	if err := i.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	wrong(t, c, tpm.MaxTries-2)
	if err := signs(t, c, rightPIN); err != nil || left(t, c) != tpm.MaxTries {
		t.Errorf("right PIN: %v, %d left", err, left(t, c))
	}
	ctx, cancel := context.WithCancel(t.Context())
	w.set(func(command []byte, ask func([]byte) []byte) []byte {
		if code(command) == tpm2.TPMCCSign {
			cancel()
			time.Sleep(20 * time.Millisecond)
		}
		return ask(command)
	})
	if _, err := c.Key(text(wrongPIN)).Sign(ctx, someDigest[:]); !errors.Is(err, context.Canceled) || left(t, c) != tpm.MaxTries-1 {
		t.Errorf("given up: %v, %d left", err, left(t, c))
	}
}

// TestKilledKiosk kills the kiosk's process when its wrong PIN has arrived at
// the TPM, before the answer, more often than there are tries.
func TestKilledKiosk(t *testing.T) {
	i, w, d := wired(t)
	c := citizen(t, d)
	_ = d.Close()
	for n := tpm.MaxTries - 1; n >= 0; n-- {
		cmd := exec.CommandContext(t.Context(), os.Args[0])
		cmd.Env = append(os.Environ(), "TPM_TEST_KIOSK="+strings.Join([]string{w.path, w.dir, c.Name(), wrongPIN}, " "))
		var said bytes.Buffer
		cmd.Stderr = &said
		started := make(chan struct{})
		var asked atomic.Bool
		w.set(func(command []byte, ask func([]byte) []byte) []byte {
			answer := ask(command)
			if code(command) == tpm2.TPMCCSign {
				asked.Store(true)
				<-started
				_ = cmd.Process.Kill()
			}
			return answer
		})
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		close(started)
		_ = cmd.Wait()
		if want := max(n, 1); left(t, c) != want || asked.Load() != (n > 0) {
			t.Errorf("round %d: %d left, asked %v: %s", tpm.MaxTries-n, left(t, c), asked.Load(), &said)
		}
	}
	w.set(nil)
	d = open(t, i, w.dir)
	c, err := d.Citizen(c.Name())
	if err != nil {
		t.Fatal(err)
	}
	if err := signs(t, c.Insist(), rightPIN); err != nil {
		t.Error(err)
	}
}

// TestOnlyThePINIsBlamed: what the TPM says of other things is no wrong PIN,
// and before the key is loaded no try is counted.
func TestOnlyThePINIsBlamed(t *testing.T) {
	_, w, d := wired(t)
	c := citizen(t, d)
	for name, x := range map[string]struct {
		at   tpm2.TPMCC
		rc   tpm2.TPMRC
		want error
		left int
	}{
		"key file of another TPM":     {tpm2.TPMCCLoad, tpm2.TPMRCIntegrity + 0x140, tpm.ErrOtherTPM, 5},
		"no session":                  {tpm2.TPMCCStartAuthSession, tpm2.TPMRCSessionMemory, hsm.ErrUnavailable, 5},
		"authorization of the parent": {tpm2.TPMCCLoad, tpm2.TPMRCAuthFail + 0x900, tpm.ErrAltered, 5},
		"failure of the TPM":          {tpm2.TPMCCSign, tpm2.TPMRCFailure, hsm.ErrUnavailable, 4},
		"lockout":                     {tpm2.TPMCCSign, tpm2.TPMRCLockout, hsm.ErrLockout, 5},
	} {
		w.set(func(command []byte, ask func([]byte) []byte) []byte {
			if code(command) == x.at {
				return says(x.rc)
			}
			return ask(command)
		})
		err := signs(t, c, rightPIN)
		if !errors.Is(err, x.want) || errors.As(err, new(*hsm.WrongPIN)) || left(t, c) != x.left {
			t.Errorf("%s: %v, %d left", name, err, left(t, c))
		}
		w.set(nil)
		if err := signs(t, c, rightPIN); err != nil {
			t.Errorf("after %s: %v", name, err)
		}
	}
}

// TestLockoutEndsByItself: the kiosk works on, the citizen waits and has all
// tries that were left.
func TestLockoutEndsByItself(t *testing.T) {
	i, w, d := wired(t)
	c := citizen(t, d)
	wrong(t, c, 4)
	reopen := func() {
		_ = d.Close()
		var err error
		if d, err = tpm.Open(t.Context(), tpm.Options{Path: w.path, Dir: w.dir}); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = d.Close() })
		if c, err = d.Citizen(c.Name()); err != nil {
			t.Fatal(err)
		}
	}
	_ = d.Close()
	if err := errors.Join(i.SetDictionaryAttack(t.Context(), 4, 3*time.Second), i.Lockout(t.Context())); err != nil {
		t.Fatal(err)
	}
	reopen()
	asked := 0
	w.set(func(command []byte, ask func([]byte) []byte) []byte {
		if code(command) == tpm2.TPMCCSign {
			asked++
		}
		return ask(command)
	})
	var l *hsm.Lockout
	err := signs(t, c, rightPIN)
	if !errors.As(err, &l) || !errors.Is(err, hsm.ErrLockout) || asked != 1 || left(t, c) != 4 {
		t.Fatalf("locked out: %v, asked %d times, %d left", err, asked, left(t, c))
	}
	if wait := time.Until(l.Until); wait <= 0 || wait > 3*time.Second {
		t.Errorf("until in %v", wait)
	}
	if info, err := d.Info(t.Context()); err != nil || !info.LockedOut {
		t.Errorf("%+v, %v", info, err)
	}
	if _, err := d.RecordKey().Sign(t.Context(), someDigest[:]); err != nil {
		t.Errorf("the kiosk's key: %v", err)
	}
	if _, err := d.Increment(t.Context()); err != nil {
		t.Errorf("the counter: %v", err)
	}
	fresh, err := d.CreateCitizen(t.Context(), binding, text(rightPIN))
	if err != nil {
		t.Fatalf("making a key: %v", err)
	}
	if _, err := fresh.Certify(t.Context(), someDigest[:]); err != nil {
		t.Errorf("certifying it: %v", err)
	}
	time.Sleep(time.Until(l.Until) + 200*time.Millisecond)
	if err := signs(t, c, rightPIN); err != nil || left(t, c) != tpm.MaxTries {
		t.Errorf("afterwards: %v, %d left", err, left(t, c))
	}
}

// TestLockoutUntil computes the end from what the TPM tells of itself.
func TestLockoutUntil(t *testing.T) {
	_, w, d := wired(t)
	c := citizen(t, d)
	for _, x := range []struct {
		failed, max, interval byte
		until                 time.Duration // 0 is unknown
	}{{4, 4, 60, time.Minute}, {6, 4, 60, 3 * time.Minute}, {4, 4, 0, 0}, {0, 0, 60, 0}} {
		w.set(func(command []byte, ask func([]byte) []byte) []byte {
			switch code(command) {
			case tpm2.TPMCCSign:
				return says(tpm2.TPMRCLockout)
			case tpm2.TPMCCGetCapability: // header, more, capability, count; then pairs of property and value
				a := ask(command)
				for n, v := range []byte{x.failed, x.max, x.interval} {
					copy(a[10+1+4+4+8*n+4:], []byte{0, 0, 0, v})
				}
				return a
			}
			return ask(command)
		})
		var l *hsm.Lockout
		if err := signs(t, c, rightPIN); !errors.As(err, &l) || !errors.Is(err, hsm.ErrLockout) {
			t.Fatal(err)
		}
		if got := time.Until(l.Until); l.Until.IsZero() != (x.until == 0) || x.until != 0 && (got > x.until || got < x.until-10*time.Second) {
			t.Errorf("%+v: until in %v", x, got)
		}
		if l.Error() == "" || left(t, c) != tpm.MaxTries {
			t.Errorf("%v, %d left", l, left(t, c))
		}
	}
	w.set(func(command []byte, ask func([]byte) []byte) []byte {
		switch code(command) {
		case tpm2.TPMCCSign:
			return says(tpm2.TPMRCLockout)
		case tpm2.TPMCCGetCapability:
			return says(tpm2.TPMRCFailure)
		}
		return ask(command)
	})
	var l *hsm.Lockout
	if err := signs(t, c, rightPIN); !errors.As(err, &l) || !l.Until.IsZero() {
		t.Errorf("a TPM that tells nothing: %v", err)
	}
}

// TestManyTryAtOnce: guesses that come together are counted one by one.
func TestManyTryAtOnce(t *testing.T) {
	_, w, d := wired(t)
	c := citizen(t, d)
	var asked atomic.Int32
	w.set(func(command []byte, ask func([]byte) []byte) []byte {
		answer := ask(command)
		if code(command) == tpm2.TPMCCSign && !bytes.Equal(answer, says(tpm2.TPMRCRetry)) { // once, before the first use of a protected key
			asked.Add(1)
		}
		return answer
	})
	var wg sync.WaitGroup
	for range 12 {
		wg.Go(func() {
			if err := signs(t, c, wrongPIN); !errors.As(err, new(*hsm.WrongPIN)) && !errors.Is(err, tpm.ErrLastTry) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if asked.Load() != tpm.MaxTries-1 || left(t, c) != 1 {
		t.Errorf("asked %d times, %d left", asked.Load(), left(t, c))
	}
}

// TestCitizensDoNotLockTheTPM: six of them guess wrongly until their keys are
// lost, and the seventh does not notice.
func TestCitizensDoNotLockTheTPM(t *testing.T) {
	_, _, d := initialized(t)
	for range 6 {
		c := citizen(t, d)
		for n := tpm.MaxTries - 1; n > 0; n-- {
			wrong(t, c, n)
		}
		if err := signs(t, c.Insist(), wrongPIN); !errors.Is(err, tpm.ErrKeyLost) {
			t.Fatal(err)
		}
	}
	if err := signs(t, citizen(t, d), rightPIN); err != nil {
		t.Error(err)
	}
}

func TestInitSetsProtection(t *testing.T) {
	_, w, d := wired(t)
	want := tpm.DictionaryAttack{MaxTries: 32, RecoveryTime: 10 * time.Minute, LockoutRecovery: 24 * time.Hour}
	if info, err := d.Info(t.Context()); err != nil || info.Protection != want || info.ProtectionOwned {
		t.Errorf("%+v, %v", info, err)
	}
	writes := 0
	w.set(func(command []byte, ask func([]byte) []byte) []byte {
		if code(command) == tpm2.TPMCCDictionaryAttackParameters {
			writes++
		}
		return ask(command)
	})
	if err := d.Init(t.Context(), binding); err != nil || writes != 0 {
		t.Errorf("again: %v, %d writes", err, writes)
	}

	// Where somebody keeps the lockout authorization, it is theirs.
	i := start(t)
	if err := errors.Join(i.SetDictionaryAttack(t.Context(), 7, time.Hour), i.SetLockoutAuth(t.Context(), "theirs")); err != nil {
		t.Fatal(err)
	}
	d = open(t, i, t.TempDir())
	if err := d.Init(t.Context(), binding); err != nil {
		t.Fatal(err)
	}
	if info, err := d.Info(t.Context()); err != nil || info.Protection.MaxTries != 7 || info.Protection.RecoveryTime != time.Hour || !info.ProtectionOwned {
		t.Errorf("%+v, %v", info, err)
	}
}

// TestInterposerHidesProtection answers TPM2_DictionaryAttackParameters itself.
func TestInterposerHidesProtection(t *testing.T) {
	ok := []byte{0x80, 2, 0, 0, 0, 19, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0}
	for name, answer := range map[string][]byte{"plain": says(0), "empty HMAC": ok, "cut": ok[:12], "parameters": append(bytes.Clone(ok[:13]), 1, 0, 0, 1, 0, 0)} {
		i := start(t)
		w := newWire(t, i)
		w.set(func(command []byte, ask func([]byte) []byte) []byte {
			if code(command) != tpm2.TPMCCDictionaryAttackParameters {
				return ask(command)
			}
			a := bytes.Clone(answer)
			a[5] = byte(len(a))
			return a
		})
		d, err := tpm.Open(t.Context(), tpm.Options{Path: w.path, Dir: t.TempDir()})
		if err != nil {
			t.Fatal(err)
		}
		if err := d.Init(t.Context(), binding); !errors.Is(err, tpm.ErrAltered) && !errors.Is(err, hsm.ErrUnavailable) {
			t.Errorf("%s: %v", name, err)
		}
		_ = d.Close()
	}
}

func TestForget(t *testing.T) {
	_, dir, d := initialized(t)
	c, other := citizen(t, d), citizen(t, d)
	// A power cut while the key file was written left this.
	stray := filepath.Join(dir, "citizens", c.Name()+".tss2.pem.tmp1")
	if err := os.WriteFile(stray, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if all, err := d.Citizens(); err != nil || len(all) != 2 {
		t.Fatalf("%d keys, %v", len(all), err)
	}
	if err := d.Forget(t.Context(), c.Name()); err != nil {
		t.Fatal(err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "citizens", c.Name()+"*")); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	if err := signs(t, c, rightPIN); !errors.Is(err, tpm.ErrNoCitizen) {
		t.Errorf("use of a forgotten key: %v", err)
	}
	_, err := d.Citizen(c.Name())
	for _, err := range []error{err, d.Forget(t.Context(), c.Name())} {
		if !errors.Is(err, tpm.ErrNoCitizen) {
			t.Errorf("forgotten key: %v", err)
		}
	}
	if err := signs(t, other, rightPIN); err != nil {
		t.Errorf("the other key: %v", err)
	}
}

func TestNamesThatAreNone(t *testing.T) {
	_, _, d := initialized(t)
	name := citizen(t, d).Name()
	for _, bad := range []string{"", ".", "../record", strings.ToUpper(name), name[:62], name + "00", "../" + name, name[:60] + "/../"} {
		if bad == name { // only digits by chance
			continue
		}
		_, err := d.Citizen(bad)
		for _, err := range []error{err, d.Forget(t.Context(), bad)} {
			if !errors.Is(err, tpm.ErrNoCitizen) {
				t.Errorf("%q: %v", bad, err)
			}
		}
	}
	if err := d.Ready(); err != nil {
		t.Error(err)
	}
}

func TestDamagedCitizenFiles(t *testing.T) {
	_, dir, d := initialized(t)
	c, other := citizen(t, d), citizen(t, d)
	file := func(c tpm.Citizen, suffix string) string { return filepath.Join(dir, "citizens", c.Name()+suffix) }
	pem, err1 := os.ReadFile(file(c, ".tss2.pem"))
	foreign, err2 := os.ReadFile(file(other, ".tss2.pem"))
	kiosk, err3 := os.ReadFile(filepath.Join(dir, "record.tss2.pem"))
	if err := errors.Join(err1, err2, err3); err != nil {
		t.Fatal(err)
	}
	write := func(name string, b []byte) {
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	damaged := func(what string) {
		t.Helper()
		if _, err := d.Citizen(c.Name()); !errors.Is(err, tpm.ErrKeyFile) {
			t.Errorf("%s: %v", what, err)
		}
		if all, err := d.Citizens(); !errors.Is(err, tpm.ErrKeyFile) || len(all) != 1 || all[0].Name() != other.Name() {
			t.Errorf("%s: %d keys, %v", what, len(all), err)
		}
	}
	for what, b := range map[string][]byte{"cut": pem[:len(pem)/2], "empty": nil, "another's": foreign, "a kiosk's": kiosk, "no salt": pem[:bytes.Index(pem, []byte("-----BEGIN TPM2 AUTH SALT"))]} {
		write(file(c, ".tss2.pem"), b)
		damaged(what)
	}
	write(file(c, ".tss2.pem"), pem)
	for _, b := range []string{"", "5", "6\n", "-1\n", "55\n", "5\n\n", " 5\n"} {
		write(file(c, ".tries"), []byte(b))
		damaged("count " + b)
		if err := signs(t, c, rightPIN); !errors.Is(err, tpm.ErrKeyFile) {
			t.Errorf("count %q: %v", b, err)
		}
	}
	if err := os.Remove(file(c, ".tries")); err != nil {
		t.Fatal(err)
	}
	damaged("no count")
	if err := signs(t, c, rightPIN); !errors.Is(err, tpm.ErrKeyFile) {
		t.Errorf("no count: %v", err)
	}

	// And a citizen's key is none of the kiosk's.
	write(filepath.Join(dir, "record.tss2.pem"), foreign)
	if _, err := tpm.Open(t.Context(), tpm.Options{Path: "unix:/nowhere", Dir: dir}); !errors.Is(err, tpm.ErrKeyFile) {
		t.Errorf("a citizen's key as record key: %v", err)
	}
}

// TestTryThatCannotBeCounted: it is not used.
func TestTryThatCannotBeCounted(t *testing.T) {
	_, w, d := wired(t)
	c := citizen(t, d)
	dir := filepath.Join(w.dir, "citizens")
	asked := 0
	w.set(func(command []byte, ask func([]byte) []byte) []byte {
		switch code(command) {
		case tpm2.TPMCCLoad: // after the count was read, before it is written
			if err := os.Rename(dir, dir+".away"); err != nil {
				t.Error(err)
			}
		case tpm2.TPMCCSign:
			asked++
		}
		return ask(command)
	})
	if err := signs(t, c, rightPIN); !errors.Is(err, syscall.ENOENT) || asked != 0 {
		t.Errorf("%v, asked %d times", err, asked)
	}
	w.set(nil)
	if err := os.Rename(dir+".away", dir); err != nil {
		t.Fatal(err)
	}
	if err := signs(t, c, rightPIN); err != nil {
		t.Error(err)
	}
}

func TestCitizenBeforeInit(t *testing.T) {
	d := open(t, start(t), t.TempDir())
	if _, err := d.CreateCitizen(t.Context(), binding, text(rightPIN)); !errors.Is(err, tpm.ErrNotInitialized) {
		t.Error(err)
	}
	if all, err := d.Citizens(); err != nil || len(all) != 0 {
		t.Errorf("%d keys, %v", len(all), err)
	}
}

// TestCitizenOfAnotherTPM brings a key file, its count and the PIN to another
// kiosk.
func TestCitizenOfAnotherTPM(t *testing.T) {
	_, dir, d := initialized(t)
	c := citizen(t, d)
	state := t.TempDir()
	if err := sim.Manufacture(t.Context(), state); err != nil {
		t.Fatal(err)
	}
	i, err := sim.Start(t.Context(), state)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = i.Stop() }()
	there := t.TempDir()
	d = open(t, i, there)
	if err := d.Init(t.Context(), binding); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(filepath.Join(there, "citizens"), os.DirFS(filepath.Join(dir, "citizens"))); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Citizen(c.Name()); !errors.Is(err, tpm.ErrOtherTPM) {
		t.Errorf("taken elsewhere: %v", err)
	}
}

// TestNothingPersonalOnDisk: two keys with one PIN and one binding differ in
// everything, and no file holds the PIN.
func TestNothingPersonalOnDisk(t *testing.T) {
	_, dir, d := initialized(t)
	a, b := citizen(t, d), citizen(t, d)
	if bytes.Equal(authOf(t, dir, a, rightPIN), authOf(t, dir, b, rightPIN)) {
		t.Error("one PIN, one authorization value")
	}
	entries, err := os.ReadDir(filepath.Join(dir, "citizens"))
	if err != nil || len(entries) != 4 {
		t.Fatalf("%d files, %v", len(entries), err)
	}
	pinHash := sha256.Sum256([]byte(rightPIN))
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", e.Name(), info.Mode(), err)
		}
		text, err := os.ReadFile(filepath.Join(dir, "citizens", e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range [][]byte{[]byte(rightPIN), pinHash[:], authOf(t, dir, a, rightPIN), authOf(t, dir, b, rightPIN)} {
			if bytes.Contains(text, s) {
				t.Errorf("%s holds %x", e.Name(), s)
			}
		}
	}
	if info, err := os.Stat(filepath.Join(dir, "citizens")); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}
