package pcsc_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"enrollkiosk/simulators/vpcd"
	"enrollkiosk/smartcard/pcsc"
)

// TestRealService runs the package against the real daemon and the real driver
// of vsmartcard, in private mount and network namespaces, for that driver
// listens on all addresses.
func TestRealService(t *testing.T) {
	for name, pkg := range map[string]string{"pcscd": "pcscd", "unshare": "util-linux", "ip": "iproute2"} {
		if _, err := exec.LookPath(name); err != nil {
			t.Fatalf("%s is missing: install the Debian package %s", name, pkg)
		}
	}
	if found, _ := filepath.Glob("/etc/reader.conf.d/vpcd*"); len(found) == 0 {
		t.Fatal("the virtual reader is missing: install the Debian package vsmartcard-vpcd")
	}
	flags := "-mn"
	if os.Getuid() != 0 {
		flags = "-Urmn"
	}
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, "unshare", flags, "--kill-child", "--fork", "--pid",
		"sh", "-ec", `ip link set lo up; mount -t tmpfs tmpfs /run; mkdir /run/pcscd; exec "$0"`, os.Args[0])
	cmd.Env = append(os.Environ(), child+"=real")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

func realService() error {
	pcsc.ClearEnvironment()
	ctx, cancel := context.WithTimeout(context.Background(), 45*time.Second)
	defer cancel()
	updates, err := pcsc.Watch(ctx) // before there is a service
	if err != nil {
		return err
	}
	await := func(what string, fits func([]pcsc.Reader) bool) ([]pcsc.Reader, error) {
		var last []pcsc.Reader
		for readers := range updates {
			if last = readers; fits(readers) {
				return readers, nil
			}
		}
		return nil, fmt.Errorf("never saw %s, but %+v", what, last)
	}
	if _, err := await("no service", func(r []pcsc.Reader) bool { return r == nil }); err != nil {
		return err
	}
	daemon := exec.CommandContext(ctx, "pcscd", "--foreground", "--error")
	daemon.Stderr = os.Stderr
	if err := daemon.Start(); err != nil {
		return err
	}
	defer func() { daemon.Process.Kill(); daemon.Wait() }()
	empty := func(r []pcsc.Reader) bool { return len(r) > 0 && !r[0].Card }
	if _, err := await("an empty reader", empty); err != nil {
		return err
	}

	var insertion uint16
	for round := byte(1); round <= 2; round++ {
		c := newCard(round)
		inserted, pull := context.WithCancel(ctx)
		defer pull()
		plugged := make(chan error, 1)
		go func() { plugged <- vpcd.Plug(inserted, "127.0.0.1:35963", c) }()
		readers, err := await("a card", func(r []pcsc.Reader) bool { return len(r) > 0 && r[0].Card })
		if err != nil {
			return err
		}
		r := readers[0]
		if !bytes.Equal(r.ATR, c.ATR()) || r.Unresponsive || r.Insertion == insertion {
			return fmt.Errorf("round %d: reader %+v", round, r)
		}
		insertion = r.Insertion
		card, err := pcsc.Connect(ctx, r.Name)
		if err != nil {
			return err
		}
		for range 2 {
			if got, err := card.Transmit(ctx, []byte{0, 0xCA, 0, 0, 0}); err != nil || !bytes.Equal(got, []byte{round, 0x90, 0}) {
				return fmt.Errorf("round %d: %x, %w", round, got, err)
			}
			if err := card.Reset(ctx); err != nil {
				return err
			}
		}
		if n := c.resets.Load(); n < 2 {
			return fmt.Errorf("card saw %d resets", n)
		}
		go func() { <-c.started; pull() }()
		if got, err := card.Transmit(ctx, []byte{0, 0xFF, 0, 0}); !errors.Is(err, pcsc.ErrCardRemoved) {
			return fmt.Errorf("pulled in the middle of a command: %x, %v", got, err)
		}
		if err := <-plugged; err != nil {
			return err
		}
		if err := card.Close(); err != nil {
			return err
		}
		if _, err := await("the pull", empty); err != nil {
			return err
		}
	}
	if _, err := pcsc.Connect(ctx, "Virtual PCD 00 00"); !errors.Is(err, pcsc.ErrNoCard) {
		return fmt.Errorf("connect to the empty reader: %w", err)
	}
	daemon.Process.Kill()
	daemon.Wait()
	_, err = await("the end of the service", func(r []pcsc.Reader) bool { return r == nil })
	return err
}
