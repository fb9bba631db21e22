package registry_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	tlog "github.com/transparency-dev/formats/log"
	"golang.org/x/mod/sumdb/note"

	"enrollkiosk/registry"
	"enrollkiosk/registry/checkpoint"
	"enrollkiosk/registry/internal/registrytest"
	"enrollkiosk/registry/parcel"
	"enrollkiosk/registry/receipt"
	"enrollkiosk/registry/record"
)

// A drive takes home what proves the log, from the checkpoint that the kiosk has put
// there to that of every receipt, for each kiosk its own.
func TestImportProvesTheLog(t *testing.T) {
	w := registrytest.New(t)
	r := serve(t, w.RegistryOptions(noVault))
	log := w.Policy.Policy().Log()
	k, other := newTraveller(t, w, "KIOSK-0001"), newTraveller(t, w, "KIOSK-0002")
	newest := func() []byte {
		t.Helper()
		b, err := os.ReadFile(filepath.Join(w.RegistryDir(), "log", checkpoint.PathCheckpoint))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	d := newDrive(t)
	k.Export(t, d, nil, []record.Submission{k.Make(t, registrytest.Spec{}), k.Make(t, registrytest.Spec{})})
	if in := take(t, r, d); in.Err() != nil {
		t.Fatalf("%+v", in)
	}
	seen := newest()
	keeper, err := checkpoint.OpenKeeper(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	first, err := log.Open(seen)
	if err != nil {
		t.Fatal(err)
	}
	if err := keeper.Accept(t.Context(), log, checkpoint.Proof{}, first); err != nil { // there is nothing before it
		t.Fatal(err)
	}

	// What others put in the checkpoint's place changes nothing but what is proved.
	name := parcel.KioskName(k.ID, parcel.Seen)
	for what, put := range map[string][]byte{"nonsense": []byte("nonsense"), "nothing": nil, "another log's": []byte(strings.Replace(string(seen), "\n2\n", "\n3\n", 1))} {
		if err := d.Write(name, put); err != nil {
			t.Fatal(err)
		}
		if in := take(t, r, d); in.Err() != nil {
			t.Errorf("%s: %+v", what, in)
		}
	}

	if err := d.Write(name, seen); err != nil {
		t.Fatal(err)
	}
	k.Export(t, d, nil, []record.Submission{k.Make(t, registrytest.Spec{})}, []record.Submission{k.Make(t, registrytest.Spec{})})
	other.Export(t, d, nil, []record.Submission{other.Make(t, registrytest.Spec{})})
	if in := take(t, r, d); in.Err() != nil {
		t.Fatalf("%+v", in)
	}
	if names, err := d.Names(parcel.Log); err != nil || len(names) != 2 {
		t.Errorf("%v, %v", names, err)
	}
	b, err := d.Read(parcel.KioskName(k.ID, parcel.Log))
	if err != nil {
		t.Fatal(err)
	}
	proof, err := checkpoint.ParseProof(b)
	if err != nil {
		t.Fatal(err)
	}
	if c, err := keeper.Follow(t.Context(), log, proof); err != nil || c.Size() != 5 {
		t.Errorf("%v, %v", c, err)
	}
	receipts := k.receipts(t, d)
	if len(receipts) != 4 {
		t.Errorf("%d receipts", len(receipts))
	}
	for id, s := range receipts {
		f, err := receipt.Verify([]byte(s.Receipt), log, id)
		if err != nil {
			t.Fatal(err)
		}
		if err := keeper.Accept(t.Context(), log, proof, f.Checkpoint()); err != nil {
			t.Errorf("a receipt under %v: %v", f.Checkpoint(), err)
		}
	}

	// A kiosk has seen more than there is: somebody has put an older log back.
	skey, err := os.ReadFile(filepath.Join(w.RegistryDir(), "log.key"))
	if err != nil {
		t.Fatal(err)
	}
	signer, err := note.NewSigner(strings.TrimSpace(string(skey)))
	if err != nil {
		t.Fatal(err)
	}
	ahead, err := note.Sign(&note.Note{Text: string(tlog.Checkpoint{Origin: signer.Name(), Size: 6, Hash: make([]byte, 32)}.Marshal())}, signer)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Write(name, ahead); err != nil {
		t.Fatal(err)
	}
	in := take(t, r, d)
	told := ""
	for _, p := range in.Parcels {
		told += p.NoLogProof
	}
	if !errors.Is(in.Err(), registry.ErrNoLogProof) || errors.Is(in.Err(), registry.ErrUnread) || !strings.Contains(told, registry.ErrLogCut.Error()) {
		t.Errorf("%v: %+v", in.Err(), in)
	}
	if in, err := d.Read(parcel.KioskName(other.ID, parcel.Log)); err != nil || len(in) == 0 {
		t.Errorf("the other kiosk's: %v", err)
	}
	// What cannot be written is told.
	if err := errors.Join(d.Remove(name), d.Remove(parcel.KioskName(k.ID, parcel.Log)), os.MkdirAll(filepath.Join(d.Dir(), parcel.KioskName(k.ID, parcel.Log), "x"), 0o755)); err != nil {
		t.Fatal(err)
	}
	if in := take(t, r, d); !errors.Is(in.Err(), registry.ErrNoLogProof) {
		t.Errorf("%v: %+v", in.Err(), in)
	}
	if _, err := d.Read(name); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}
