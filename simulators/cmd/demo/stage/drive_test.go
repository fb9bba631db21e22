package stage_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"enrollkiosk/kiosk/secret"
	"enrollkiosk/kiosk/station"
	"enrollkiosk/registry"
	"enrollkiosk/registry/api"
	"enrollkiosk/registry/parcel"
	"enrollkiosk/registry/receipt"
	"enrollkiosk/simulators/cmd/demo/stage"
	"enrollkiosk/simulators/idcard"
	"enrollkiosk/simulators/pivtoken"
	"enrollkiosk/sync/queue"
)

// A kiosk without a network: records leave on a drive, the registry takes them
// from there, and what it writes back is believed where it is proved, and only
// there. When the network comes back, nothing is there twice.
func TestRecordsTravelByDrive(t *testing.T) {
	t.Parallel()
	cable := newLine(t)
	cable.become(hello("")) // pulled out
	s := newStage(t, func(o *stage.Options) {
		o.Registry = cable.listener.Addr().String()
		o.Limits.Delivery = 300 * time.Millisecond
	})
	start(t, s)
	for range 2 {
		if r := arrive(t, s, idcard.Options{}, pivtoken.Options{}).meet(); r.Final != "" {
			t.Error("a final receipt without a network")
		}
	}
	q := s.Kiosk.Queue()
	junk := queue.Item{ID: queue.ID{1, 2, 3}, Data: []byte("no record at all")}
	if err := q.Put(t.Context(), junk); err != nil {
		t.Fatal(err)
	}
	waiting, err := q.Queued(t.Context(), 10)
	if err != nil || len(waiting) != 3 {
		t.Fatal(waiting, err)
	}

	drive, err := parcel.OpenDrive(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	out, err := station.Export(t.Context(), s.Config, drive.Dir(), func(int, int) {})
	if err != nil || out.Records != 3 {
		t.Fatalf("%+v, %v", out, err)
	}
	// Nothing of the citizen, nor of a record, can be read on the drive.
	names, err := os.ReadDir(drive.Dir())
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range names {
		b, err := os.ReadFile(filepath.Join(drive.Dir(), f.Name()))
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range waiting {
			if bytes.Contains(b, e.ID[:]) || bytes.Contains(b, []byte(e.ID.String())) || bytes.Contains(b, []byte("did:key")) {
				t.Errorf("%s tells of a record", f.Name())
			}
		}
	}

	imported := importDrive(t, s, drive)
	if records, settled, _ := imported.Count(); imported.Err() != nil || records != 3 || settled != 3 {
		t.Errorf("%+v", imported)
	}
	replies := openReplies(t, s, drive)
	forgeReplies(t, s, drive, replies)

	replies.write(t, drive, replies.records)
	got, err := station.ImportReceipts(t.Context(), s.Config, drive.Dir())
	if err != nil || got.Err() != nil || got.Count(station.OutcomeDelivered) != 2 || got.Count(station.OutcomeRejected) != 1 || got.Waiting != 0 {
		t.Errorf("%+v, %v", got, err)
	}
	for _, e := range waiting {
		now, err := q.Get(t.Context(), e.ID)
		if err != nil {
			t.Fatal(err)
		}
		if e.ID == junk.ID {
			if now.State != queue.Quarantined || now.Reason.Code != "record-canonical" || len(now.Reason.Evidence) == 0 {
				t.Errorf("%+v", now)
			}
			continue
		}
		kept, err := q.Receipt(t.Context(), e.ID)
		if now.State != queue.Purged || err != nil || string(kept) != replies.of(e.ID).Receipt {
			t.Errorf("%+v, %v", now, err)
		}
	}
	if again, err := station.ImportReceipts(t.Context(), s.Config, drive.Dir()); err != nil || again.Err() != nil || again.Count(station.OutcomeKnown) != 3 {
		t.Errorf("again: %+v, %v", again, err)
	}
	// What is settled stays settled, whatever comes.
	later := slices.Clone(replies.records)
	for i := range later {
		if later[i].Receipt != "" {
			later[i].Receipt = strings.Replace(later[i].Receipt, "index ", "index 1", 1)
		}
	}
	replies.write(t, drive, later)
	if got, err := station.ImportReceipts(t.Context(), s.Config, drive.Dir()); err != nil || got.Count(station.OutcomeKnown) != 1 || got.Err() == nil {
		t.Errorf("other receipts for what was delivered: %+v, %v", got, err)
	}

	// The network again: the next record is delivered over it, the others not.
	cable.become(through(s.RegistryAddress(), 0))
	r := arrive(t, s, idcard.Options{}, pivtoken.Options{}).meet()
	if r.Provisional == "" {
		t.Error("no receipt")
	}
	eventually(t, time.Minute, func() error {
		left, err := q.Queued(t.Context(), 10)
		if err == nil && len(left) > 0 {
			err = fmt.Errorf("%d records wait", len(left))
		}
		return err
	})
	if got := importDrive(t, s, drive); got.Err() != nil || leaves(t, s) != 3 {
		t.Errorf("%d leaves: %+v", leaves(t, s), got)
	}
	if out, err := station.Export(t.Context(), s.Config, drive.Dir(), func(int, int) {}); err != nil || out.Records+out.Already != 0 {
		t.Errorf("nothing is left to export: %+v, %v", out, err)
	}
}

// importDrive is an operator at the registry, which serves.
func importDrive(t *testing.T, s *stage.Stage, d parcel.Drive) registry.Imported {
	t.Helper()
	var c registry.Config
	c.Registry.Dir, c.Registry.Policy, c.Registry.Root = filepath.Join(s.Dir, "registry"), filepath.Join(s.Dir, "policy.jws"), s.Config.Trust.Root
	c.Vault.URL, c.Vault.Public = "https://127.0.0.1:1", filepath.Join(s.Dir, "vault", "public.json")
	console, err := registry.OpenConsole(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	defer console.Close()
	in, err := registry.Import(t.Context(), console, d, 30*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	return in
}

func leaves(t *testing.T, s *stage.Stage) (n int) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(s.Dir, "registry", "log", "checkpoint"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Sscan(strings.Split(string(b), "\n")[1], &n); err != nil {
		t.Fatal(err)
	}
	return n
}

// replies are what the registry has sealed to the kiosk for its one file.
type replies struct {
	manifest parcel.Signed
	records  []api.RecordStatus
}

func openReplies(t *testing.T, s *stage.Stage, d parcel.Drive) (out replies) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(s.Config.Kiosk.State, "exchange.key"))
	if err != nil {
		t.Fatal(err)
	}
	key, err := parcel.ParseKey(secret.New(b))
	if err != nil {
		t.Fatal(err)
	}
	names, err := d.Names(parcel.Manifests)
	if err != nil || len(names) != 1 {
		t.Fatal(names, err)
	}
	if out.manifest, _, err = d.Manifest(names[0], func(string, crypto.PublicKey) error { return nil }); err != nil {
		t.Fatal(err)
	}
	if b, err = d.Read(out.manifest.Manifest().Files[0].ReceiptsName()); err != nil {
		t.Fatal(err)
	}
	body, err := out.manifest.OpenReceipts(0, b, key)
	if err != nil {
		t.Fatal(err)
	}
	list, err := api.Decode[api.StatusResult](bytes.NewReader(body))
	if err != nil || len(list.Statuses) != 3 {
		t.Fatalf("%+v, %v", list, err)
	}
	out.records = list.Statuses
	return out
}

func (r replies) of(id queue.ID) (out api.RecordStatus) {
	for _, s := range r.records {
		if s.ID == api.ID(id) {
			out = s
		}
	}
	return out
}

// write seals other replies: whoever finds the drive can.
func (r replies) write(t *testing.T, d parcel.Drive, records []api.RecordStatus) {
	t.Helper()
	body, err := json.Marshal(api.StatusResult{Statuses: records})
	if err != nil {
		t.Fatal(err)
	}
	b, err := r.manifest.SealReceipts(0, body)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Write(r.manifest.Manifest().Files[0].ReceiptsName(), b); err != nil {
		t.Fatal(err)
	}
}

// software is a key of nobody's.
type software struct{ *ecdsa.PrivateKey }

func (k software) Public() crypto.PublicKey { return k.PrivateKey.Public() }

func (k software) Sign(_ context.Context, digest []byte) ([]byte, error) {
	return k.PrivateKey.Sign(rand.Reader, digest, crypto.SHA256)
}

// forgeReplies changes true replies and makes up false ones: each is refused, and
// the queue stays as it is.
func forgeReplies(t *testing.T, s *stage.Stage, d parcel.Drive, true replies) {
	t.Helper()
	var one, two, rejected api.RecordStatus
	for _, r := range true.records {
		switch {
		case r.Status == api.Rejected:
			rejected = r
		case one.Receipt == "":
			one = r
		default:
			two = r
		}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	madeUp := func(v receipt.Verdict) string {
		b, err := receipt.SignVerdict(t.Context(), v, software{key})
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	with := func(r api.RecordStatus, change func(*api.RecordStatus)) api.RecordStatus {
		change(&r)
		return r
	}
	forged := []api.RecordStatus{
		with(one, func(r *api.RecordStatus) { r.Receipt = two.Receipt }),
		with(one, func(r *api.RecordStatus) { r.ID = two.ID }),
		with(one, func(r *api.RecordStatus) { r.ID = rejected.ID }),
		with(rejected, func(r *api.RecordStatus) { r.ID = one.ID }),
		{ID: one.ID, Status: api.Rejected, Code: "made-up", Verdict: madeUp(receipt.Verdict{Record: one.ID, Status: receipt.Rejected, Code: "made-up", Time: time.Now().UTC().Truncate(time.Second)})},
		{ID: rejected.ID, Status: api.Pending, Receipt: one.Receipt},
	}
	if one.Verdict != "" {
		forged = append(forged, with(one, func(r *api.RecordStatus) { r.Status = api.Rejected; r.Receipt = "" }),
			with(one, func(r *api.RecordStatus) { r.Verdict = two.Verdict }))
	}
	for i := 0; i < len(one.Receipt); i += 13 {
		forged = append(forged, with(one, func(r *api.RecordStatus) {
			b := []byte(r.Receipt)
			b[i] ^= 1
			r.Receipt = string(b)
		}))
	}
	for i := 0; i < len(rejected.Verdict); i += 17 {
		forged = append(forged, with(rejected, func(r *api.RecordStatus) {
			b := []byte(r.Verdict)
			b[i] ^= 1
			r.Verdict = string(b)
		}))
	}
	before, err := s.Kiosk.Queue().Queued(t.Context(), 10)
	if err != nil {
		t.Fatal(err)
	}
	for i, f := range forged {
		true.write(t, d, []api.RecordStatus{f})
		got, err := station.ImportReceipts(t.Context(), s.Config, d.Dir())
		if err != nil || len(got.Records) != 1 || got.Records[0].Refused == "" || got.Records[0].ID != f.ID || got.Waiting != 3 {
			t.Fatalf("forgery %d is believed: %+v, %v", i, got, err)
		}
	}
	after, err := s.Kiosk.Queue().Queued(t.Context(), 10)
	if err != nil || len(after) != len(before) {
		t.Errorf("%d records wait, before %d, %v", len(after), len(before), err)
	}
}
