package station

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"enrollkiosk/kiosk"
	"enrollkiosk/kiosk/secret"
	"enrollkiosk/registry/api"
	"enrollkiosk/registry/receipt"
	"enrollkiosk/sync/client"
	"enrollkiosk/sync/queue"
)

func diaryIn(t *testing.T, dir string) *diary {
	t.Helper()
	d, err := openDiary(Config{Kiosk: KioskConfig{State: dir}}, slog.New(slog.DiscardHandler))
	good(t, err)
	return d
}

// A note is on the disk when it has been taken, counts are those of the officer and of
// everybody, days are the station's, and old ones go.
func TestDiary(t *testing.T) {
	dir := t.TempDir()
	noon := time.Date(2026, 5, 4, 12, 0, 0, 0, time.Local)
	good(t, diaryIn(t, dir).Note(firstOfficer, noon, kiosk.DayCounts{Enrolled: 1, Second: 1, Faults: map[kiosk.Code]int{kiosk.CodeCardRemoved: 2}}))
	good(t, diaryIn(t, dir).Note(firstOfficer, noon.Add(11*time.Hour), kiosk.DayCounts{Ended: map[kiosk.Ending]int{kiosk.EndDeclined: 1}}))
	good(t, diaryIn(t, dir).Note(secondOfficer, noon.Add(-12*time.Hour), kiosk.DayCounts{Enrolled: 3}))
	good(t, diaryIn(t, dir).Note(secondOfficer, noon.Add(12*time.Hour), kiosk.DayCounts{Enrolled: 9})) // tomorrow
	own, all := diaryIn(t, dir).Day(firstOfficer, noon)
	if own.Enrolled != 1 || own.Second != 1 || own.Ended[kiosk.EndDeclined] != 1 || own.Trouble(kiosk.DeviceDocument) != 2 || all.Enrolled != 4 || all.Unfinished() != 1 {
		t.Errorf("own %+v, all %+v", own, all)
	}
	if own, all = diaryIn(t, dir).Day(firstOfficer, noon.AddDate(0, 0, 1)); own.Enrolled != 0 || all.Enrolled != 9 {
		t.Errorf("tomorrow: own %+v, all %+v", own, all)
	}
	own.Ended[kiosk.EndFault] = 7 // what was handed out is nobody's but the asker's
	if own, _ = diaryIn(t, dir).Day(firstOfficer, noon.AddDate(0, 0, 1)); own.Ended[kiosk.EndFault] != 0 {
		t.Error("the diary changes with what it has told")
	}
	d := diaryIn(t, dir)
	good(t, d.Note(firstOfficer, noon.AddDate(0, 2, 0), kiosk.DayCounts{Enrolled: 1}))
	if len(d.days) != 1 {
		t.Errorf("%d days are kept", len(d.days))
	}
	b, err := os.ReadFile(filepath.Join(dir, diaryFile))
	good(t, err)
	if info, err := os.Stat(filepath.Join(dir, diaryFile)); err != nil || info.Mode().Perm() != 0o600 || len(b) > 500 {
		t.Errorf("%d bytes, %v, %v", len(b), info.Mode(), err)
	}
}

// A damaged diary is set aside and kept, and the kiosk starts.
func TestDamagedDiary(t *testing.T) {
	for _, damage := range []string{"", "{", `{"2026-05-04":{"x":{"enrolled":"no"}}}`, "null", `{"2026-05-04":{"x":{"names":1}}}`, "{} {}"} {
		dir := t.TempDir()
		file := filepath.Join(dir, diaryFile)
		good(t, os.WriteFile(file, []byte(damage), 0o600))
		d := diaryIn(t, dir)
		if b, err := os.ReadFile(file + ".damaged"); err != nil || string(b) != damage {
			t.Errorf("%q: kept %q, %v", damage, b, err)
		}
		good(t, d.Note(firstOfficer, monday, kiosk.DayCounts{Enrolled: 1}))
		if _, all := diaryIn(t, dir).Day(firstOfficer, monday); all.Enrolled != 1 {
			t.Errorf("%q: %+v", damage, all)
		}
	}
}

// filled is an archive of a queue with one record in every state.
func filled(t *testing.T) (archive, map[string]queue.ID) {
	t.Helper()
	ctx := t.Context()
	q, _, err := queue.Open(ctx, t.TempDir(), queue.Options{})
	good(t, err)
	t.Cleanup(func() { q.Close() })
	c := Config{Kiosk: KioskConfig{State: t.TempDir()}}
	d, err := openDecisions(c, slog.New(slog.DiscardHandler))
	good(t, err)
	ids := map[string]queue.ID{}
	for i, name := range []string{"waiting", "rejected", "receipted", "purged", "active", "refused", "suspended", "revoked"} {
		id := queue.ID{0xAB, byte(i)}
		for n := range id[2:] {
			id[2+n] = byte(i + n)
		}
		ids[name] = id
		good(t, q.Put(ctx, queue.Item{ID: id, Data: []byte("record " + name)}))
		switch name {
		case "waiting":
		case "rejected":
			good(t, q.Quarantine(ctx, id, queue.Reason{Code: "registry-time", Text: "rejected by the registry"}))
		default:
			good(t, q.StoreReceipt(ctx, id, []byte("receipt "+name)))
			if name != "receipted" {
				good(t, q.Purge(ctx, id))
			}
		}
	}
	now := time.Now()
	good(t, d.hear([]client.Decision{
		{ID: ids["active"], Status: api.Active, Time: now}, {ID: ids["refused"], Status: api.Refused, Code: "vault-review", Time: now},
		{ID: ids["suspended"], Status: api.Active, Standing: receipt.Suspended, Code: "registry-cancelled", Time: now},
		{ID: ids["revoked"], Status: api.Active, Standing: receipt.Revoked, Code: "registry-replaced", Time: now}}, now))
	return archive{q, d}, ids
}

// Each record stands as the queue and the decisions say, with its receipt or, while
// it waits, with its bytes.
func TestArchive(t *testing.T) {
	a, ids := filled(t)
	want := map[string]kiosk.RecordView{
		"waiting": {Standing: kiosk.StandingWaiting}, "rejected": {Standing: kiosk.StandingSetAside, Code: "registry-time"},
		"receipted": {Standing: kiosk.StandingReceipted}, "purged": {Standing: kiosk.StandingReceipted}, "active": {Standing: kiosk.StandingActive},
		"refused": {Standing: kiosk.StandingRefused, Code: "vault-review"}, "suspended": {Standing: kiosk.StandingSuspended, Code: "registry-cancelled"},
		"revoked": {Standing: kiosk.StandingRevoked, Code: "registry-replaced"},
	}
	for name, w := range want {
		v, final, data, err := a.Record(t.Context(), ids[name])
		good(t, err)
		if v.Standing != w.Standing || v.Code != w.Code || v.ID != ids[name].String() || v.Saved.IsZero() {
			t.Errorf("%s: %+v", name, v)
		}
		there := name != "waiting" && name != "rejected"
		if there != (final == "receipt "+name) || (name == "waiting") != (string(data) == "record waiting") {
			t.Errorf("%s: receipt %q, bytes %q", name, final, data)
		}
	}
	if _, _, _, err := a.Record(t.Context(), queue.ID{1}); !errors.Is(err, kiosk.ErrNoRecord) {
		t.Errorf("a record of nobody: %v", err)
	}
	recent, err := a.Recent(t.Context(), 3)
	good(t, err)
	if len(recent) != 3 || recent[0].ID != ids["revoked"].String() || recent[2].ID != ids["refused"].String() {
		t.Errorf("the newest: %+v", recent)
	}
	if recent, err = a.Recent(t.Context(), 100); err != nil || len(recent) != len(want) {
		t.Errorf("all: %d, %v", len(recent), err)
	}
	if aside, err := a.SetAside(t.Context(), 100); err != nil || len(aside) != 1 || aside[0].ID != ids["rejected"].String() {
		t.Errorf("set aside: %+v, %v", aside, err)
	}
	for digits, n := range map[string]int{"ab03": 1, "ab00": 1, "ab": 2, "ac": 0, ids["purged"].String(): 1, strings.Repeat("0", 64): 0} {
		if got, err := a.Matching(t.Context(), digits, 2); err != nil || len(got) != n || n == 1 && !strings.HasPrefix(got[0].String(), digits) {
			t.Errorf("%s: %v, %v", digits, got, err)
		}
	}
	if delivered, refused, err := a.Since(t.Context(), time.Now().Add(-time.Hour)); err != nil || delivered != 6 || refused != 2 {
		t.Errorf("since an hour: %d, %d, %v", delivered, refused, err)
	}
	if delivered, refused, err := a.Since(t.Context(), time.Now().Add(time.Hour)); err != nil || delivered != 0 || refused != 0 {
		t.Errorf("since an hour to come: %d, %d, %v", delivered, refused, err)
	}
}

// The folder takes copies, summaries and records that were set aside, anew under
// the same name, never a cancel code, and says when it is not there.
func TestFolder(t *testing.T) {
	a, ids := filled(t)
	dir := t.TempDir()
	c := Config{Kiosk: KioskConfig{ID: "KIOSK-0001"}, Printer: PrinterConfig{Folder: dir}}
	f := c.folder(a)
	r := kiosk.ReceiptView{RecordID: ids["active"].String(), Final: "receipt", QR: "receipt", Saved: time.Now()}
	day := kiosk.DayView{At: time.Date(2026, 5, 4, 17, 0, 0, 0, time.Local), Officer: "40771"}
	writes := map[string]func(context.Context) (string, error){
		"receipt-" + r.RecordID[:16] + ".pdf": func(ctx context.Context) (string, error) { return f.Write(ctx, r, "hi", true) },
		"day-2026-05-04-KIOSK-0001.pdf":       func(ctx context.Context) (string, error) { return f.WriteDay(ctx, day, "zh", false) },
		"record-" + ids["rejected"].String()[:16] + ".json": func(ctx context.Context) (string, error) {
			return f.WriteRecord(ctx, ids["rejected"])
		},
	}
	for name, write := range writes {
		for range 2 {
			if got, err := write(t.Context()); err != nil || got != name {
				t.Errorf("%s: %q, %v", name, got, err)
			}
		}
		b, err := os.ReadFile(filepath.Join(dir, name))
		good(t, err)
		if strings.HasSuffix(name, ".pdf") != strings.HasPrefix(string(b), "%PDF-") {
			t.Errorf("%s begins %.8q", name, b)
		}
	}
	b, err := os.ReadFile(filepath.Join(dir, "record-"+ids["rejected"].String()[:16]+".json"))
	good(t, err)
	for _, want := range []string{ids["rejected"].String(), "registry-time", `"submission"`} {
		if !strings.Contains(string(b), want) {
			t.Errorf("no %s in %s", want, b)
		}
	}
	r.CancelCode = secret.FromString("7X2R-PJE5")
	if _, err := f.Write(t.Context(), r, "en", true); err == nil {
		t.Error("a cancel code was written")
	}
	r.CancelCode = secret.Text{}
	entries, err := os.ReadDir(dir)
	good(t, err)
	if len(entries) != len(writes) {
		t.Errorf("%d files", len(entries))
	}
	good(t, os.RemoveAll(dir))
	for name, write := range writes {
		if _, err := write(t.Context()); !errors.Is(err, kiosk.ErrFolder) {
			t.Errorf("%s, no folder: %v", name, err)
		}
	}
	c.Printer.Folder = ""
	if c.folder(a) != nil {
		t.Error("a folder that is not configured")
	}
}

// What the machine says of itself: its clock against what the registry has said,
// its disk, and no printer where none is configured.
func TestMachine(t *testing.T) {
	c := Config{Kiosk: KioskConfig{State: t.TempDir()}}
	clk, err := openClock(c)
	good(t, err)
	m := &machine{state: c.Kiosk.State, clock: clk}
	if got := m.look(t.Context()); got != (kiosk.Machine{}) {
		t.Errorf("in order: %+v", got)
	}
	good(t, clk.heard(time.Now().Add(time.Hour)))
	m.state = filepath.Join(c.Kiosk.State, "gone")
	p, err := Config{Printer: PrinterConfig{URL: "ipp://127.0.0.1:9/printers/none"}}.printer()
	good(t, err)
	m.printer = p
	if got := m.look(t.Context()); got != (kiosk.Machine{Clock: kiosk.CodeClock, Disk: kiosk.CodeDiskFull, Printer: kiosk.PrinterMute}) {
		t.Errorf("nothing in order: %+v", got)
	}
}
