package stage_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"enrollkiosk/kiosk"
	"enrollkiosk/registry/checkpoint"
	"enrollkiosk/registry/receipt"
	"enrollkiosk/simulators/cmd/demo/stage"
	"enrollkiosk/simulators/pcscd"
	"enrollkiosk/simulators/specimen"
)

// daemon is the one PC/SC daemon of this process: libpcsclite reads its address
// once.
var (
	daemon  *pcscd.Server
	issuers *specimen.Authority
)

func TestMain(m *testing.M) {
	os.Exit(func() int {
		started, dir, err := pcscd.Private()
		if err != nil {
			panic(err)
		}
		daemon = started
		defer daemon.Close()
		if issuers, err = specimen.Open(filepath.Join(dir, "issuers")); err != nil {
			panic(err)
		}
		// Stages wait more than they compute.
		flag.Parse()
		if err := flag.Set("test.parallel", "4"); err != nil {
			panic(err)
		}
		return m.Run()
	}())
}

// own names, for a child of this test program, the test that it is for.
const own = "STAGE_TEST"

// alone has the test that calls it run in a process of its own, under a command
// if one is given, and returns true there: a process has one PC/SC client, and
// what some tests do to it others would feel.
func alone(t *testing.T, under ...string) bool {
	t.Helper()
	if os.Getenv(own) == t.Name() {
		return true
	}
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	args := append(under, os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Env = append(os.Environ(), own+"="+t.Name())
	out, err := cmd.CombinedOutput()
	if err == nil && !bytes.Contains(out, []byte("--- PASS: "+t.Name())) {
		err = errors.New("it did not run")
	}
	if err != nil {
		t.Fatalf("in a process of its own: %v\n%s", err, out)
	}
	t.Logf("%s", out)
	return false
}

var stages atomic.Int32

// newStage sets a stage with short limits; everything of it ends with the test.
func newStage(t *testing.T, change func(*stage.Options)) *stage.Stage {
	t.Helper()
	return newStageIn(t, tempDir(t), change)
}

// tempDir is t.TempDir with a path short enough for sockets.
func tempDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "stage")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// places is how many stages the daemon has readers for.
var places = make(chan struct{}, 5)

func newStageIn(t *testing.T, dir string, change func(*stage.Options)) *stage.Stage {
	t.Helper()
	places <- struct{}{}
	t.Cleanup(func() { <-places })
	limits := kiosk.DefaultLimits()
	limits.Delivery = 10 * time.Second
	o := stage.Options{Prefix: fmt.Sprintf("Stage%d", stages.Add(1)), Limits: limits, Issuers: issuers, Log: slog.New(slog.NewTextHandler(t.Output(), nil))}
	if change != nil {
		change(&o)
	}
	s, err := stage.New(t.Context(), daemon, dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close stage: %v", err)
		}
	})
	return s
}

func start(t *testing.T, s *stage.Stage) {
	t.Helper()
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// enroll plays one enrollment that must succeed.
func enroll(t *testing.T, s *stage.Stage, p *stage.Script) *kiosk.ReceiptView {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	r, err := p.Enroll(ctx)
	if err != nil {
		t.Fatalf("enroll: %v", err)
	}
	return r
}

func TestOneCitizenEnrolled(t *testing.T) {
	for _, language := range []string{"en", "es", "hi", "zh"} {
		t.Run(language, func(t *testing.T) {
			var steps []kiosk.Event
			s := newStage(t, func(o *stage.Options) { o.Observe = func(e kiosk.Event) { steps = append(steps, e) } })
			start(t, s)
			p := s.Script()
			p.Language = language
			r := enroll(t, s, p)
			for _, e := range steps {
				if e.Failed != "" {
					t.Errorf("step %s failed: %s", e.Step, e.Failed)
				}
			}
			if got := steps[len(steps)-1].Step; got != kiosk.StepActivate {
				t.Errorf("last step is %s", got)
			}
			id, err := receipt.RecordID([]byte(r.Final))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := receipt.Verify([]byte(r.Final), checkpoint.Log{Key: s.Keys.LogKey}, id); err != nil {
				t.Errorf("receipt: %v", err)
			}
			if fmt.Sprintf("%x", id) != r.RecordID {
				t.Errorf("receipt for %x, record %s", id, r.RecordID)
			}
		})
	}
}
