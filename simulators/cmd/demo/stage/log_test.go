package stage_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/transparency-dev/formats/log"
	"golang.org/x/mod/sumdb/note"

	"enrollkiosk/kiosk"
	"enrollkiosk/registry/checkpoint"
	"enrollkiosk/simulators/cmd/demo/stage"
	"enrollkiosk/simulators/idcard"
	"enrollkiosk/simulators/pivtoken"
	"enrollkiosk/sync/queue"
)

// health waits until the machine's health is as wanted.
func health(t *testing.T, s *stage.Stage, what string, wanted func(kiosk.Health) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	states, err := s.Kiosk.Desk().States(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for st := range states {
		if wanted(st.Health) {
			return
		}
	}
	t.Fatalf("not %s", what)
}

// A kiosk that has seen another face of the registry's log says so; it goes on
// enrolling and delivering, and takes no receipt of the face that does not fit.
func TestLogWithTwoFaces(t *testing.T) {
	t.Parallel()
	s := newStage(t, nil)
	start(t, s)
	works(t, s)
	of := checkpoint.Log{Key: s.Keys.LogKey}
	seen := filepath.Join(s.Config.Kiosk.State, "log")
	files, err := filepath.Glob(filepath.Join(seen, "*.checkpoint"))
	if err != nil || len(files) != 1 {
		t.Fatal(files, err)
	}
	honest, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	kept, err := of.Open(honest)
	if err != nil || kept.Size() != 1 {
		t.Fatalf("%v, %v", kept, err)
	}
	// The registry has signed another tree, and shown it to this kiosk alone.
	skey, err := os.ReadFile(filepath.Join(s.Dir, "registry", "log.key"))
	if err != nil {
		t.Fatal(err)
	}
	signer, err := note.NewSigner(strings.TrimSpace(string(skey)))
	if err != nil {
		t.Fatal(err)
	}
	text := log.Checkpoint{Origin: kept.Origin(), Size: 1, Hash: make([]byte, 32)}.Marshal()
	other, err := note.Sign(&note.Note{Text: string(text)}, signer)
	if err != nil {
		t.Fatal(err)
	}
	off := func(f func() error) {
		t.Helper()
		if err := errors.Join(s.StopKiosk(), f(), s.StartKiosk(t.Context())); err != nil {
			t.Fatal(err)
		}
	}
	off(func() error { return os.WriteFile(files[0], other, 0o600) })
	health(t, s, "told that the log has two faces", func(h kiosk.Health) bool { return h.LogFault == kiosk.CodeSplitView })
	evidence, err := filepath.Glob(filepath.Join(seen, "evidence", "*.checkpoint"))
	if err != nil || len(evidence) != 2 {
		t.Errorf("evidence %v, %v", evidence, err)
	}
	for _, file := range evidence {
		if b, err := os.ReadFile(file); err != nil || string(b) != string(honest) && string(b) != string(other) {
			t.Errorf("%s: %q, %v", file, b, err)
		}
	}
	if r := arrive(t, s, idcard.Options{}, pivtoken.Options{}).meet(); r.Final != "" || r.Provisional == "" {
		t.Errorf("final receipt %q", r.Final)
	}
	waiting := func(h kiosk.Health) bool { return h.Queued == 1 && h.LogFault == kiosk.CodeSplitView }
	health(t, s, "keeping the record", waiting)

	// The authority has looked at it: the evidence is away, and what was right is back.
	off(func() error {
		return errors.Join(os.WriteFile(files[0], honest, 0o600), os.Rename(filepath.Join(seen, "evidence"), filepath.Join(s.Dir, "evidence")))
	})
	delivered(t, s)
	health(t, s, "delivered and quiet", func(h kiosk.Health) bool { return h.Queued == 0 && h.LogFault == "" && h.Registry })
	left, err := s.Kiosk.Queue().List(t.Context(), 10, func(e queue.Entry) bool { return e.State == queue.Purged })
	if err != nil || len(left) != 2 {
		t.Errorf("%d records delivered, %v", len(left), err)
	}
}
