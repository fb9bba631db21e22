package station

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// asNobody has this thread open files as a user without rights.
func asNobody(t *testing.T, f func()) {
	t.Helper()
	if os.Geteuid() != 0 {
		f()
		return
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	const nobody = 65534
	if err := unix.Setfsuid(nobody); err != nil {
		t.Fatal(err)
	}
	defer unix.Setfsuid(0)
	f()
}

func TestTPMThatThisUserMayNotUse(t *testing.T) {
	c := newAuthority(t).config(t)
	c.TPM.Path, c.Kiosk.State = filepath.Join(t.TempDir(), "tpm0"), "/nonexistent/state"
	put(t, c.TPM.Path, nil)
	if err := os.Chmod(c.TPM.Path, 0); err != nil {
		t.Fatal(err)
	}
	asNobody(t, func() {
		_, err := openTPM(t.Context(), c)
		if !errors.Is(err, ErrTPMPermission) || !strings.Contains(err.Error(), "group tss") || !strings.Contains(err.Error(), c.TPM.Path) {
			t.Errorf("%v", err)
		}
	})
}

func TestStateOfAnotherUser(t *testing.T) {
	c := newAuthority(t).config(t)
	if os.Geteuid() == 0 {
		if err := os.Chown(c.Kiosk.State, 65534, 65534); err != nil {
			t.Fatal(err)
		}
	} else {
		c.Kiosk.State = "/" // root's
	}
	c.TPM.Path = "unix:/nonexistent"
	if err := c.makeState(); !errors.Is(err, ErrOtherUser) {
		t.Errorf("init: %v", err)
	}
	if _, _, err := openQueue(t.Context(), c); !errors.Is(err, ErrOtherUser) {
		t.Errorf("queue: %v", err)
	}
	if _, err := diagnoseDisk(c); !errors.Is(err, ErrOtherUser) {
		t.Errorf("doctor: %v", err)
	}
}
