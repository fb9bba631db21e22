package tpm_test

import (
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"enrollkiosk/hsm/tpm"

	"golang.org/x/sys/unix"
)

// TestSignalsLoseNoAnswer sends SIGCHLD to every thread, without end, while a
// device file is used: an interrupted read or write is begun again, and no
// answer is left behind for the next command.
func TestSignalsLoseNoAnswer(t *testing.T) {
	path, w := device(t, start(t))
	d, err := tpm.Open(t.Context(), tpm.Options{Path: path, Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if err := d.Init(t.Context(), binding); err != nil {
		t.Fatal(err)
	}
	w.set(func(command []byte, ask func([]byte) []byte) []byte {
		time.Sleep(2 * time.Millisecond) // so that the kiosk is reading when they come
		return ask(command)
	})
	stop := make(chan struct{})
	var wg sync.WaitGroup
	sent := 0
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(200 * time.Microsecond):
			}
			threads, _ := os.ReadDir("/proc/self/task")
			for _, e := range threads {
				if id, err := strconv.Atoi(e.Name()); err == nil && unix.Tgkill(os.Getpid(), id, unix.SIGCHLD) == nil {
					sent++
				}
			}
		}
	})
	last, err := d.Counter(t.Context())
	for range 20 {
		if err != nil {
			break
		}
		var n uint64
		if n, err = d.Increment(t.Context()); n != last+1 {
			t.Errorf("counter %d after %d", n, last)
		}
		last = n
	}
	close(stop)
	wg.Wait()
	if err != nil {
		t.Error(err)
	}
	if sent < 1000 {
		t.Errorf("only %d signals", sent)
	}
}
