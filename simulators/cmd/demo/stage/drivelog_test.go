package stage_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/transparency-dev/formats/log"
	"github.com/transparency-dev/merkle/rfc6962"
	"github.com/transparency-dev/merkle/testonly"
	"golang.org/x/mod/sumdb/note"

	"enrollkiosk/kiosk"
	"enrollkiosk/kiosk/station"
	"enrollkiosk/registry/checkpoint"
	"enrollkiosk/registry/checkpoint/logtest"
	"enrollkiosk/registry/parcel"
	"enrollkiosk/simulators/cmd/demo/stage"
	"enrollkiosk/simulators/idcard"
	"enrollkiosk/simulators/pivtoken"
)

// What a kiosk has seen of the public log goes out with its records, and receipts
// that come back are held against it: by the registry's proof when the drive has
// it; without, they count as ever, and the kiosk says so; against a proof of another
// face of the log none counts, and the kiosk keeps the evidence.
func TestDriveProvesTheLog(t *testing.T) {
	t.Parallel()
	cable := newLine(t)
	s := newStage(t, func(o *stage.Options) {
		o.Registry = cable.listener.Addr().String()
		o.Limits.Delivery = 300 * time.Millisecond
	})
	cable.become(through(s.RegistryAddress(), 0))
	start(t, s)
	of := checkpoint.Log{Key: s.Keys.LogKey}
	kept := func() uint64 {
		t.Helper()
		c, err := checkpoint.ReadKept(filepath.Join(s.Config.Kiosk.State, "log"), of)
		if err != nil {
			t.Fatal(err)
		}
		return c.Size()
	}
	arrive(t, s, idcard.Options{}, pivtoken.Options{}).meet()
	eventually(t, time.Minute, func() error {
		if n := kept(); n != 1 {
			return fmt.Errorf("%d leaves are seen", n)
		}
		return nil
	})
	cable.become(hello("")) // pulled out

	drive, err := parcel.OpenDrive(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	proof := filepath.Join(drive.Dir(), parcel.KioskName(s.Config.Kiosk.ID, parcel.Log))
	// travels has one citizen's record go to the registry and an answer come to the drive.
	travels := func() {
		t.Helper()
		arrive(t, s, idcard.Options{}, pivtoken.Options{}).meet()
		if out, err := station.Export(t.Context(), s.Config, drive.Dir(), func(int, int) {}); err != nil || out.Records != 1 {
			t.Fatalf("%+v, %v", out, err)
		}
		if in := importDrive(t, s, drive); in.Err() != nil {
			t.Fatalf("%+v", in)
		}
	}
	collect := func() station.Collected {
		t.Helper()
		got, err := station.ImportReceipts(t.Context(), s.Config, drive.Dir())
		if err != nil {
			t.Fatal(err)
		}
		return got
	}

	for n := uint64(2); n < 4; n++ { // the second time goes on from what the first has brought
		travels()
		got := collect()
		if got.Err() != nil || got.Unproved != "" || got.Count(station.OutcomeDelivered) != 1 || kept() != n {
			t.Errorf("%+v, and %d leaves are seen", got, kept())
		}
		for _, r := range got.Records {
			if r.Proved != (r.Outcome == station.OutcomeDelivered) {
				t.Errorf("%+v", r)
			}
		}
	}

	// Without the proof, and with one that is none.
	for _, spoil := range []func() error{
		func() error { return os.Remove(proof) },
		func() error { return os.Truncate(proof, 100) },
		func() error { return os.WriteFile(proof, []byte(`{"checkpoint":"","tiles":{}}`), 0o600) },
	} {
		before := kept()
		travels()
		if err := spoil(); err != nil {
			t.Fatal(err)
		}
		got := collect()
		if got.Err() != nil || got.Unproved == "" || got.Count(station.OutcomeDelivered) != 1 || kept() != before {
			t.Errorf("%+v, and %d leaves are seen, before %d", got, kept(), before)
		}
	}

	// Another face, signed by the log.
	travels()
	honest, err := os.ReadFile(proof)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(proof, anotherFace(t, s, 9).Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		got := collect()
		if got.Err() == nil || got.Count(station.OutcomeDelivered) != 0 || got.Waiting != 1 || !strings.Contains(fmt.Sprint(got.Records), checkpoint.ErrSplit.Error()) {
			t.Errorf("another face is believed: %+v", got)
		}
	}
	health(t, s, "told that the log has two faces", func(h kiosk.Health) bool { return h.LogFault == kiosk.CodeSplitView && h.Queued == 1 })
	evidence, err := filepath.Glob(filepath.Join(s.Config.Kiosk.State, "log", "evidence", "*.checkpoint"))
	if err != nil || len(evidence) != 2 {
		t.Errorf("evidence %v, %v", evidence, err)
	}
	if err := os.WriteFile(proof, honest, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := collect(); got.Err() != nil || got.Unproved != "" || got.Count(station.OutcomeDelivered) != 1 {
		t.Errorf("the true proof: %+v", got)
	}
}

// anotherFace is a proof that the registry's own key has signed, of a log of other
// entries.
func anotherFace(t *testing.T, s *stage.Stage, n int) checkpoint.Proof {
	t.Helper()
	skey, err := os.ReadFile(filepath.Join(s.Dir, "registry", "log.key"))
	if err != nil {
		t.Fatal(err)
	}
	signer, err := note.NewSigner(strings.TrimSpace(string(skey)))
	if err != nil {
		t.Fatal(err)
	}
	tree := testonly.New(rfc6962.DefaultHasher)
	var entries [][]byte
	for i := range n {
		entries = append(entries, fmt.Appendf(nil, "another entry %d", i))
		tree.AppendData(entries[i])
	}
	text := log.Checkpoint{Origin: signer.Name(), Size: tree.Size(), Hash: tree.Hash()}.Marshal()
	signed, err := note.Sign(&note.Note{Text: string(text)}, signer)
	if err != nil {
		t.Fatal(err)
	}
	return checkpoint.Proof{Checkpoint: string(signed), Tiles: logtest.Files(entries)}
}
