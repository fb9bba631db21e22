package process_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"enrollkiosk/hsm/piv"
	"enrollkiosk/kiosk"
	"enrollkiosk/registry/checkpoint"
	"enrollkiosk/registry/receipt"
	"enrollkiosk/registry/record"
	"enrollkiosk/simulators/cmd/demo/stage"
	"enrollkiosk/simulators/idcard"
	"enrollkiosk/simulators/pivtoken"
	"enrollkiosk/sync/queue"
)

// allSteps is the timeline of an enrollment.
var allSteps = []kiosk.StepName{
	kiosk.StepOpenCard, kiosk.StepProveChip, kiosk.StepReadCard, kiosk.StepVerifyCard, kiosk.StepMakeContext,
	kiosk.StepProbeToken, kiosk.StepSetPIN, kiosk.StepMakeKeys, kiosk.StepVerifyToken, kiosk.StepBindChip,
	kiosk.StepSeal, kiosk.StepLockToken, kiosk.StepHolderSign, kiosk.StepOfficerSign, kiosk.StepKioskSign,
	kiosk.StepProvisional, kiosk.StepSave, kiosk.StepDeliver, kiosk.StepFinal, kiosk.StepPurge, kiosk.StepActivate,
}

// The agent is killed after each step. Each time what it leaves is whole, the
// next enrollment reaches its receipt, and in the end the registry has an
// unbroken chain with every record once. Lanes are kiosks of their own, to share
// the time that is spent waiting.
func TestKilledBetweenAnyTwoSteps(t *testing.T) {
	const lanes = 3
	for lane := range lanes {
		t.Run(fmt.Sprintf("kiosk%d", lane), func(t *testing.T) {
			t.Parallel()
			s := newStage(t, fmt.Sprintf("Lane%d", lane), slog.New(slog.DiscardHandler))
			first := startAgent(t, s)
			var timeline []kiosk.StepName
			followed := first.follow(func(e kiosk.Event) { timeline = append(timeline, e.Step) })
			enroll(t, first.script(s))
			first.stop(t)
			<-followed
			if !slices.Equal(timeline, allSteps) {
				t.Fatalf("the timeline is %v: this test must kill after each of its steps", timeline)
			}
			want := 1 // records that the registry must have
			for i := lane; i < len(allSteps); i += lanes {
				if !t.Run(string(allSteps[i]), func(t *testing.T) { want += killedAt(t, s, i) }) {
					t.Fatalf("agent's output:\n%s", tail(filepath.Join(s.Dir, "agent.log")))
				}
			}
			registered(t, s, want)
		})
	}
}

// killedAt kills the agent after a step and enrolls with the next one. It returns
// how many records come of both.
func killedAt(t *testing.T, s *stage.Stage, step int) (records int) {
	newCitizen(t, s, 2*step+1)
	killAfter(t, s, allSteps[step])
	left, err := inspect(s)
	if err != nil {
		t.Fatalf("left behind: %v", err)
	}
	saved := step >= slices.Index(allSteps, kiosk.StepSave)
	if !saved && slices.ContainsFunc(left, func(r record.Record) bool { return r.Payload().Context.Purpose == record.Enroll }) {
		t.Error("a record is queued that nobody was told of")
	}
	switch {
	case saved: // it holds; the next citizen comes
		records++
		newCitizen(t, s, 2*step+2)
	case step%2 == 0: // the citizen begins again with the same token
		resetToken(t, s)
	default: // or with another one
		newToken(s, 2*step+2)
	}
	if !saved && step >= slices.Index(allSteps, kiosk.StepMakeContext) {
		records++ // the void record of the reserved number
	}
	a := startAgent(t, s)
	followed := a.follow(func(e kiosk.Event) {
		if e.Failed != "" {
			t.Errorf("step %s failed afterwards: %s", e.Step, e.Failed)
		}
	})
	enroll(t, a.script(s))
	a.stop(t)
	<-followed
	if left, err := inspect(s); err != nil || len(left) > 0 {
		t.Errorf("after the next enrollment %d records wait: %v", len(left), err)
	}
	return records + 1
}

// What the test above looks for would be found: a queue whose files were cut
// short, and chains that are broken in one thing.
func TestHalfWrittenQueueIsReported(t *testing.T) {
	s := newStage(t, "Torn", slog.New(slog.DiscardHandler))
	if err := s.StopRegistry(); err != nil { // the record stays in the queue
		t.Fatal(err)
	}
	killAfter(t, s, kiosk.StepSave)
	if left, err := inspect(s); err != nil || len(left) != 1 {
		t.Fatalf("%d records wait, %v; want one that is whole", len(left), err)
	}
	good := filepath.Join(s.Dir, "queue.good")
	if err := os.CopyFS(good, os.DirFS(queueDir(s))); err != nil {
		t.Fatal(err)
	}
	reported := 0
	files := regular(t, good)
	for _, torn := range append(files, "") {
		if err := errors.Join(os.RemoveAll(queueDir(s)), os.CopyFS(queueDir(s), os.DirFS(good))); err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			if torn == "" || f == torn { // "": all of them
				name := filepath.Join(queueDir(s), f)
				info, err := os.Stat(name)
				if err != nil {
					t.Fatal(err)
				}
				if err := os.Truncate(name, info.Size()/2); err != nil {
					t.Fatal(err)
				}
			}
		}
		left, err := inspect(s)
		t.Logf("%q cut short: %d records, %v", torn, len(left), err)
		if err != nil {
			reported++
		} else if len(left) != 1 {
			t.Errorf("%q cut short: the record is gone and nobody says so", torn)
		}
		if torn == "" && err == nil {
			t.Error("all files cut short and nobody says so")
		}
	}
	if reported < 2 {
		t.Errorf("%d of %d cuts reported", reported, len(files)+1)
	}
}

func TestBrokenChainIsReported(t *testing.T) {
	whole := []link{{1, id(1), id(0)}, {2, id(2), id(1)}, {3, id(3), id(2)}}
	if err := checkChain(whole); err != nil {
		t.Fatal(err)
	}
	for name, broken := range map[string][]link{
		"gap":   {whole[0], whole[2]},
		"fork":  {whole[0], whole[1], {2, id(9), id(1)}, whole[2]},
		"other": {whole[0], whole[1], {3, id(3), id(1)}},
	} {
		if checkChain(broken) == nil {
			t.Errorf("%s is not reported", name)
		}
	}
}

func id(n byte) [32]byte { return [32]byte{n} }

// enroll plays one enrollment that must reach its final receipt.
func enroll(t *testing.T, p *stage.Script) *kiosk.ReceiptView {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	r, err := p.Enroll(ctx)
	if err != nil {
		t.Fatalf("enroll: %v", err)
	}
	if r.Final == "" {
		t.Fatal("no final receipt")
	}
	return r
}

// killAfter plays an enrollment and kills the agent when it has done step and
// before it does anything else.
func killAfter(t *testing.T, s *stage.Stage, step kiosk.StepName, change ...func(*stage.Script)) {
	t.Helper()
	a := startAgent(t, s)
	killed := false
	followed := a.follow(func(e kiosk.Event) {
		if e.Failed != "" {
			t.Errorf("step %s failed: %s", e.Step, e.Failed)
		}
		if e.Step == step {
			killed = true
			a.kill()
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	p := a.script(s)
	for _, f := range change {
		f(p)
	}
	if _, err := p.Enroll(ctx); err == nil {
		t.Fatal("the enrollment ended although the agent was to be killed")
	}
	a.close()
	<-followed
	if !killed {
		t.Fatalf("the agent did not come to step %s", step)
	}
}

func newCitizen(t *testing.T, s *stage.Stage, n int) {
	t.Helper()
	s.Take(kiosk.DeviceDocument)
	if err := s.IssueCard(citizen(n), idcard.Options{Face: face}); err != nil {
		t.Fatal(err)
	}
	newToken(s, n)
}

func newToken(s *stage.Stage, n int) {
	s.Take(kiosk.DeviceToken)
	s.IssueToken(pivtoken.Options{Serial: 12_000_000 + uint32(n)})
}

// resetToken brings the token that an enrollment has left half-made back to its
// factory state, as `kiosk token reset` does.
func resetToken(t *testing.T, s *stage.Stage) {
	t.Helper()
	s.Bring(kiosk.DeviceToken)
	defer s.Take(kiosk.DeviceToken)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	token, err := piv.Open(ctx, s.Reader(kiosk.DeviceToken).Name())
	if err != nil {
		t.Fatal(err)
	}
	defer token.Close()
	if err := token.Reset(ctx); err != nil {
		t.Fatal(err)
	}
	if !token.Info().FactoryNew {
		t.Error("the token is not factory-new after its reset")
	}
}

func queueDir(s *stage.Stage) string { return filepath.Join(s.Config.Kiosk.State, "queue") }

// inspect opens the queue that a dead agent left and holds everything in it
// against what it must be. It returns the records that wait: at most one
// enrollment and one void record.
func inspect(s *stage.Stage) (waiting []record.Record, err error) {
	ctx := context.Background()
	q, report, err := queue.Open(ctx, queueDir(s), queue.Options{})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, q.Close()) }()
	if report.Rebuilt || len(report.SetAside) > 0 || report.Quarantined > 0 || report.Repaired > 0 || report.Unreadable > 0 {
		return nil, fmt.Errorf("the queue had to be mended: %+v", report)
	}
	entries, err := q.List(ctx, 1000, func(queue.Entry) bool { return true })
	if err != nil {
		return nil, err
	}
	purposes := map[record.Purpose]int{}
	for _, e := range entries {
		switch e.State {
		case queue.Quarantined:
			return nil, fmt.Errorf("record %s is quarantined: %+v", e.ID, e.Reason)
		case queue.Receipted, queue.Purged:
			r, err := q.Receipt(ctx, e.ID)
			if err != nil {
				return nil, err
			}
			if _, err := receipt.Verify(r, checkpoint.Log{Key: s.Keys.LogKey}, e.ID); err != nil {
				return nil, err
			}
		case queue.Queued:
			data, err := q.Data(ctx, e.ID)
			if err != nil {
				return nil, err
			}
			sub, err := record.ParseSubmission(data)
			if err != nil {
				return nil, err
			}
			if sub.ID() != e.ID {
				return nil, fmt.Errorf("record %x stands under %s", sub.ID(), e.ID)
			}
			waiting = append(waiting, sub.Record())
			purposes[sub.Record().Payload().Context.Purpose]++
		}
	}
	if purposes[record.Enroll] > 1 || purposes[record.Void] > 1 || len(purposes) > 2 {
		return nil, fmt.Errorf("too much waits: %v", purposes)
	}
	return waiting, nil
}

// registered stops the registry and checks what it has: an unbroken chain of
// want records, each in the log once.
func registered(t *testing.T, s *stage.Stage, want int) {
	t.Helper()
	ctx := t.Context()
	if err := s.StopRegistry(); err != nil {
		t.Fatal(err)
	}
	records, err := registryRecords(filepath.Join(s.Dir, "registry", "registry.db"))
	if err != nil {
		t.Fatal(err)
	}
	var chain []link
	ids := map[queue.ID]bool{}
	for _, r := range records {
		chain = append(chain, link{r.Payload().Context.Sequence, r.ID(), r.Payload().Previous})
		ids[r.ID()] = true
	}
	if err := checkChain(chain); err != nil {
		t.Error(err)
	}
	q, _, err := queue.Open(ctx, queueDir(s), queue.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	entries, err := q.List(ctx, 1000, func(queue.Entry) bool { return true })
	if err != nil {
		t.Fatal(err)
	}
	indices := map[uint64]bool{}
	for _, e := range entries {
		b, err := q.Receipt(ctx, e.ID)
		if err != nil {
			t.Errorf("record %s: %v", e.ID, err)
			continue
		}
		r, err := receipt.Verify(b, checkpoint.Log{Key: s.Keys.LogKey}, e.ID)
		if err != nil {
			t.Errorf("record %s: %v", e.ID, err)
			continue
		}
		if !ids[e.ID] {
			t.Errorf("the registry does not have %s", e.ID)
		}
		indices[r.Index()] = true
	}
	size, err := logSize(filepath.Join(s.Dir, "registry", "log", "checkpoint"))
	if err != nil {
		t.Fatal(err)
	}
	if len(records) != want || len(ids) != want || len(entries) != want || len(indices) != want || size != uint64(want) {
		t.Errorf("registry has %d records (%d ids), the kiosk %d, with %d places in a log of %d; want %d each",
			len(records), len(ids), len(entries), len(indices), size, want)
	}
}

// registryRecords reads and checks everything that a stopped registry holds.
func registryRecords(file string) (records []record.Record, err error) {
	db, err := bbolt.Open(file, 0o600, &bbolt.Options{ReadOnly: true, Timeout: time.Second})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	err = db.View(func(tx *bbolt.Tx) error {
		arrivals, bodies := tx.Bucket([]byte("arrivals")), tx.Bucket([]byte("bodies"))
		if arrivals == nil || bodies == nil {
			return errors.New("the registry holds no records")
		}
		return arrivals.ForEach(func(k, v []byte) error {
			r, err := record.Parse(bytes.Clone(bodies.Get(k)))
			if err != nil {
				return err
			}
			if id := r.ID(); !bytes.Equal(id[:], v) {
				return fmt.Errorf("record %x arrived as %x", id, v)
			}
			records = append(records, r)
			return nil
		})
	})
	return records, err
}

// link is a record's place in its kiosk's chain.
type link struct {
	sequence     uint64
	id, previous [32]byte
}

// checkChain wants every number once, each record naming the one before it.
func checkChain(chain []link) error {
	slices.SortFunc(chain, func(a, b link) int { return int(a.sequence) - int(b.sequence) })
	for i, l := range chain {
		if i == 0 {
			if l.previous != [32]byte{} {
				return fmt.Errorf("number %d is the first and names one before it", l.sequence)
			}
			continue
		}
		if before := chain[i-1]; l.sequence != before.sequence+1 || l.previous != before.id {
			return fmt.Errorf("after number %d comes %d, which names %x", before.sequence, l.sequence, l.previous[:4])
		}
	}
	return nil
}

// logSize is the size that a checkpoint states (C2SP tlog-checkpoint: the second
// line).
func logSize(checkpoint string) (n uint64, err error) {
	b, err := os.ReadFile(checkpoint)
	if err != nil {
		return 0, err
	}
	lines := strings.Split(string(b), "\n")
	if len(lines) < 3 {
		return 0, fmt.Errorf("checkpoint: %q", b)
	}
	_, err = fmt.Sscan(lines[1], &n)
	return n, err
}

// regular lists the files below dir that hold something.
func regular(t *testing.T, dir string) (names []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err == nil && info.Size() > 1 {
			name, _ := filepath.Rel(dir, path)
			names = append(names, name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}
