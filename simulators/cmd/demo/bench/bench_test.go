// Package bench_test measures a whole enrollment: how much time the kiosk's
// software adds to what the devices take.
package bench_test

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"enrollkiosk/kiosk"
	"enrollkiosk/simulators/cmd/demo/stage"
	"enrollkiosk/simulators/idcard"
	"enrollkiosk/simulators/pcscd"
	"enrollkiosk/simulators/pivtoken"
	"enrollkiosk/sync/queue"
)

// The link model: every byte of a command and its response crosses at 424 kbit/s
// (ISO/IEC 14443-4, the rate that readers commonly agree on), and each exchange
// costs a fixed time for the frames' delays, USB and the card's own work. Real
// cards and tokens take longer, above all to make keys: a kiosk beside them
// looks better than here.
const (
	bitsPerSecond = 424_000
	turnaround    = 5 * time.Millisecond
)

// goal is the most that the sum of the steps may be of the devices' time.
const goal = 1.05

var daemon *pcscd.Server

func TestMain(m *testing.M) {
	queue.RunCheck()
	os.Exit(func() int {
		started, _, err := pcscd.Private()
		if err != nil {
			panic(err)
		}
		daemon = started
		defer daemon.Close()
		return m.Run()
	}())
}

// BenchmarkEnrollmentRatio plays five enrollments at the production wiring and
// prints the time of all steps from the opened card to the saved record over the
// time in which a card or the TPM was at work meanwhile: of each step the median,
// which other programs on the machine spoil least. Nobody's thinking time is in
// it.
func BenchmarkEnrollmentRatio(b *testing.B) {
	dir, err := os.MkdirTemp("", "stage") // b.TempDir is too long for a socket's path
	if err != nil {
		b.Fatal(err)
	}
	defer os.RemoveAll(dir)
	var mu sync.Mutex
	var steps []kiosk.Event
	s, err := stage.New(b.Context(), daemon, dir, stage.Options{Prefix: "Bench", Observe: func(e kiosk.Event) {
		mu.Lock()
		defer mu.Unlock()
		steps = append(steps, e)
	}})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	work := &work{}
	for _, d := range []kiosk.Device{kiosk.DeviceDocument, kiosk.DeviceToken, kiosk.DeviceOfficer} {
		s.Reader(d).Trace(func(e pcscd.TraceEvent) {
			if e.Answered {
				work.add(e.Start, e.Start.Add(e.Took))
			}
		})
	}
	officer, err := s.Issuers.Officers[0].Card(s.Issuers.Tokens, stage.OfficerPIN)
	if err != nil {
		b.Fatal(err)
	}
	s.Hold(kiosk.DeviceOfficer, linked{officer})
	s.Config.TPM.Path = watchTPM(b, s.TPM.Path(), filepath.Join(dir, "tpm.watched"), work)
	if err := s.Start(b.Context()); err != nil {
		b.Fatal(err)
	}
	face, err := idcard.Portrait(idcard.SpecimenPerson())
	if err != nil {
		b.Fatal(err)
	}
	const runs = 5
	var all []measured
	citizens := 0
	for b.Loop() {
		for range runs {
			citizens++
			p := idcard.SpecimenPerson()
			p.Number = fmt.Sprintf("D%08d", citizens)
			p.GivenNames = "ANNA " + string([]byte{'A' + byte(citizens/26%26), 'A' + byte(citizens%26)})
			if err := s.IssueCard(p, idcard.Options{Face: face}); err != nil {
				b.Fatal(err)
			}
			s.Hold(kiosk.DeviceDocument, linked{s.Chip})
			s.IssueToken(pivtoken.Options{Serial: 13_000_000 + uint32(citizens)})
			s.Hold(kiosk.DeviceToken, linked{s.Token})
			mu.Lock()
			steps = nil
			mu.Unlock()
			work.reset()
			ctx, cancel := context.WithTimeout(b.Context(), time.Minute)
			_, err := s.Script().Enroll(ctx)
			cancel()
			if err != nil {
				b.Fatal(err)
			}
			mu.Lock()
			m, err := measure(steps, work.spans())
			mu.Unlock()
			if err != nil {
				b.Fatal(err)
			}
			all = append(all, m)
		}
	}
	median, err := across(all, func(d []time.Duration) time.Duration { return d[len(d)/2] })
	if err != nil {
		b.Fatal(err)
	}
	quickest, err := across(all, func(d []time.Duration) time.Duration { return d[0] })
	if err != nil {
		b.Fatal(err)
	}
	b.Logf("most software time, medians of %d enrollments:\n%s", len(all), median)
	b.Logf("enrollment: %v in all, %v of it cards at %d kbit/s + %v an exchange and TPM: ratio %.3f, goal at most %.2f (of the quickest steps %.3f: the rest is what else the machine did)",
		median.total().Round(time.Millisecond), median.device().Round(time.Millisecond), bitsPerSecond/1000, turnaround, median.ratio(), goal, quickest.ratio())
	b.ReportMetric(median.ratio(), "ratio")
	b.ReportMetric(float64(median.total().Milliseconds()), "ms")
	b.ReportMetric(float64(median.device().Milliseconds()), "device-ms")
}

// linked is a card behind the link model.
type linked struct{ pcscd.Card }

func (c linked) Transmit(ctx context.Context, command []byte) []byte {
	response := c.Card.Transmit(ctx, command)
	bits := 8 * (len(command) + len(response))
	select {
	case <-time.After(turnaround + time.Duration(bits)*time.Second/bitsPerSecond):
	case <-ctx.Done():
	}
	return response
}

// span is a time in which a device was at work.
type span struct{ from, to time.Time }

// work collects spans.
type work struct {
	mu   sync.Mutex
	done []span
}

func (w *work) add(from, to time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.done = append(w.done, span{from, to})
}

func (w *work) reset() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.done = nil
}

func (w *work) spans() []span {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.done)
}

// step is one step with the time in which any device was at work.
type step struct {
	name         kiosk.StepName
	took, device time.Duration
}

// measured is one enrollment.
type measured []step

// measure takes the steps up to the saved record. Work of two devices at once
// counts once, and only as far as it lies within a step.
func measure(events []kiosk.Event, spans []span) (m measured, err error) {
	slices.SortFunc(spans, func(a, b span) int { return a.from.Compare(b.from) })
	for _, e := range events {
		if e.Failed != "" {
			return nil, fmt.Errorf("step %s failed: %s", e.Step, e.Failed)
		}
		at, end := e.Began, e.Began.Add(e.Took)
		var busy time.Duration
		for _, s := range spans {
			from, to := s.from, s.to
			if from.Before(at) {
				from = at
			}
			if to.After(end) {
				to = end
			}
			if to.After(from) {
				busy += to.Sub(from)
				at = to
			}
		}
		m = append(m, step{e.Step, e.Took, busy})
		if e.Step == kiosk.StepSave {
			return m, nil
		}
	}
	return nil, errors.New("the record was not saved")
}

// across makes one enrollment of many: of each step's times, in order, pick
// chooses one, and of its devices' times.
func across(all []measured, pick func([]time.Duration) time.Duration) (out measured, err error) {
	for i, s := range all[0] {
		var took, device []time.Duration
		for _, m := range all {
			if len(m) != len(all[0]) || m[i].name != s.name {
				return nil, errors.New("enrollments of different steps")
			}
			took, device = append(took, m[i].took), append(device, m[i].device)
		}
		slices.Sort(took)
		slices.Sort(device)
		out = append(out, step{s.name, pick(took), pick(device)})
	}
	return out, nil
}

func (m measured) total() (d time.Duration) {
	for _, s := range m {
		d += s.took
	}
	return d
}

func (m measured) device() (d time.Duration) {
	for _, s := range m {
		d += s.device
	}
	return d
}

func (m measured) ratio() float64 { return float64(m.total()) / float64(m.device()) }

// String names the steps in which the software took longest.
func (m measured) String() string {
	const most = 6
	own := func(s step) time.Duration { return s.took - s.device }
	m = slices.SortedFunc(slices.Values(m), func(a, b step) int { return cmp.Compare(own(b), own(a)) })
	var lines []string
	for _, s := range m[:min(most, len(m))] {
		lines = append(lines, fmt.Sprintf("%6.1f of %6.1f ms  %s", millis(own(s)), millis(s.took), s.name))
	}
	return strings.Join(lines, "\n")
}

func millis(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// watchTPM stands between the kiosk and the TPM at upstream, which is
// "unix:/path", and notes when a command is at work. It returns its own address.
func watchTPM(b *testing.B, upstream, path string, w *work) string {
	b.Helper()
	l, err := net.Listen("unix", path)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { l.Close() })
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer client.Close()
				tpm, err := net.Dial("unix", strings.TrimPrefix(upstream, "unix:"))
				if err != nil {
					return
				}
				defer tpm.Close()
				for {
					start, err := pass(client, tpm)
					if err != nil {
						return
					}
					if _, err := pass(tpm, client); err != nil {
						return
					}
					w.add(start, time.Now())
				}
			}()
		}
	}()
	return "unix:" + path
}

// pass moves one command or response: its length stands after two bytes of tag
// (TPM 2.0 Part 1, 18). It returns when all of it had come.
func pass(from io.Reader, to io.Writer) (time.Time, error) {
	b := make([]byte, 10)
	if _, err := io.ReadFull(from, b); err != nil {
		return time.Time{}, err
	}
	size := binary.BigEndian.Uint32(b[2:])
	if size < 10 || size > 1<<16 {
		return time.Time{}, errors.New("no TPM command")
	}
	b = append(b, make([]byte, size-10)...)
	if _, err := io.ReadFull(from, b[10:]); err != nil {
		return time.Time{}, err
	}
	at := time.Now()
	_, err := to.Write(b)
	return at, err
}

// Devices that work at once count once; what lies outside of a step does not.
func TestMeasure(t *testing.T) {
	zero := time.Now()
	at := func(ms int) time.Time { return zero.Add(time.Duration(ms) * time.Millisecond) }
	events := []kiosk.Event{
		{Step: kiosk.StepOpenCard, Began: at(0), Took: 100 * time.Millisecond},
		{Step: kiosk.StepSave, Began: at(200), Took: 50 * time.Millisecond},
		{Step: kiosk.StepProvisional, Began: at(250), Took: time.Second},
	}
	spans := []span{{at(210), at(220)}, {at(10), at(60)}, {at(50), at(90)}, {at(20), at(30)}, {at(120), at(180)}, {at(240), at(300)}}
	m, err := measure(events, spans)
	if err != nil {
		t.Fatal(err)
	}
	want := measured{{kiosk.StepOpenCard, 100 * time.Millisecond, 80 * time.Millisecond}, {kiosk.StepSave, 50 * time.Millisecond, 20 * time.Millisecond}}
	if !slices.Equal(m, want) || m.ratio() != 1.5 {
		t.Errorf("%v, ratio %v", m, m.ratio())
	}
	if _, err := measure(events[:1], spans); err == nil {
		t.Error("an enrollment that was not saved counts")
	}
	events[0].Failed = kiosk.CodeCardRemoved
	if _, err := measure(events, spans); err == nil {
		t.Error("an enrollment with a failed step counts")
	}
}
