package station

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"enrollkiosk/kiosk"
	"enrollkiosk/registry/checkpoint"
	"enrollkiosk/registry/checkpoint/logtest"
	"enrollkiosk/sync/queue"
)

// sample is a line of Prometheus' text format.
var sample = regexp.MustCompile(`^([a-z_]+(?:\{[a-z]+="[A-Za-z0-9-]+"\})?) (\S+)$`)

// samples reads a metrics file.
func samples(t *testing.T, file string) map[string]float64 {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]float64{}
	for line := range strings.Lines(string(b)) {
		if strings.HasPrefix(line, "# HELP ") || strings.HasPrefix(line, "# TYPE ") {
			continue
		}
		m := sample.FindStringSubmatch(strings.TrimSpace(line))
		if m == nil {
			t.Fatalf("no sample: %q", line)
		}
		if out[m[1]], err = strconv.ParseFloat(m[2], 64); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// The file tells how the machine is, in names that are known beforehand and nothing
// else.
func TestMetrics(t *testing.T) {
	c, _ := provisioned(t)
	c.Metrics.File = filepath.Join(t.TempDir(), "kiosk.prom")
	fill(t, c, 0, 3)
	with(t, c, func(q *queue.Queue) {
		if err := errors.Join(q.StoreReceipt(t.Context(), recordOf(0).ID, []byte("receipt")), q.Purge(t.Context(), recordOf(0).ID),
			q.Quarantine(t.Context(), recordOf(1).ID, queue.Reason{Code: "made-up"})); err != nil {
			t.Fatal(err)
		}
	})
	before := time.Now()
	s, _ := running(t, c)
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		if _, err := os.Stat(c.Metrics.File); err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("no file is written")
		}
	}
	if got := samples(t, c.Metrics.File); got["kiosk_waiting_records"] != 1 {
		t.Errorf("%v", got)
	}
	// One that nobody else tells how the machine is.
	file := filepath.Join(t.TempDir(), "other.prom")
	m := newMetrics(s, file)
	look := func() map[string]float64 {
		t.Helper()
		if err := m.write(); err != nil {
			t.Fatal(err)
		}
		return samples(t, file)
	}
	m.look(kiosk.Health{Readers: map[kiosk.Device]kiosk.ReaderState{kiosk.DeviceDocument: kiosk.ReaderEmpty, kiosk.DeviceToken: kiosk.ReaderMissing,
		kiosk.DeviceOfficer: kiosk.ReaderCard}, TPM: true, Registry: true})
	m.faulted(kiosk.CodeCardMute)
	got := look()
	_, certificates := s.own.now()
	p, err := s.policies.current()
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]float64{"kiosk_waiting_records": 1, "kiosk_quarantined_records": 1, "kiosk_delivered_records_total": 1, "kiosk_registry_reached": 1,
		"kiosk_delivery_stopped": 0, "kiosk_registry_time_timestamp_seconds": 0, "kiosk_log_alarm": 0,
		"kiosk_policy_expires_timestamp_seconds":      float64(p.Policy().Expires.Unix()),
		"kiosk_certificate_expires_timestamp_seconds": float64(certificates.until.Unix()),
		`kiosk_device_present{device="document"}`:     1, `kiosk_device_present{device="token"}`: 0, `kiosk_device_present{device="officer"}`: 1,
		`kiosk_device_present{device="tpm"}`: 1}
	for _, code := range kiosk.Codes() {
		want[fmt.Sprintf("kiosk_faults_total{code=%q}", code)] = one(code == kiosk.CodeCardMute)
	}
	for name, value := range want {
		if v, there := got[name]; !there || v != value {
			t.Errorf("%s is %v, there %v; want %v", name, v, there, value)
		}
	}
	if age := got["kiosk_waiting_oldest_seconds"]; age < 0 || age > time.Since(before).Seconds()+3600 {
		t.Errorf("the oldest waits for %v s", age)
	}
	if at := got["kiosk_last_delivery_timestamp_seconds"]; at < float64(before.Add(-time.Hour).Unix()) || at > float64(time.Now().Unix()) {
		t.Errorf("the last delivery is at %v", at)
	}
	if len(got) != len(want)+2 {
		t.Errorf("%d series, want %d", len(got), len(want)+2)
	}

	// An alarm of the log, and that it is over.
	l := logtest.New(logtest.NewKey(t, 0))
	l.Fill(1, "a")
	other := logtest.New(l.Key)
	other.Fill(1, "b")
	var two checkpoint.Split
	for _, x := range []struct {
		to *checkpoint.Checkpoint
		of *logtest.Log
	}{{&two.First, l}, {&two.Second, other}} {
		if *x.to, err = l.Key.Log.Open(x.of.Signed(t, 1)); err != nil {
			t.Fatal(err)
		}
	}
	evidence := filepath.Join(c.in(logDir), "evidence")
	if err := two.Keep(evidence); err != nil {
		t.Fatal(err)
	}
	if got := look()["kiosk_log_alarm"]; got != 1 {
		t.Errorf("alarm %v", got)
	}
	if err := os.Rename(evidence, filepath.Join(t.TempDir(), "evidence")); err != nil {
		t.Fatal(err)
	}
	if got := look()["kiosk_log_alarm"]; got != 0 {
		t.Errorf("alarm %v after the evidence is away", got)
	}

	// Nothing is left of writing; a directory that comes back gets the file again.
	dir := filepath.Dir(file)
	if names := listing(t, dir); !slices.Equal(names, []string{"other.prom"}) {
		t.Errorf("%v", names)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := m.write(); err == nil {
		t.Error("written to nowhere")
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	look()
}
