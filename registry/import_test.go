package registry_test

import (
	"bytes"
	"crypto"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"enrollkiosk/registry"
	"enrollkiosk/registry/api"
	"enrollkiosk/registry/internal/registrytest"
	"enrollkiosk/registry/parcel"
	"enrollkiosk/registry/receipt"
	"enrollkiosk/registry/record"
)

// traveller is a kiosk that exports.
type traveller struct{ registrytest.Traveller }

func newTraveller(t testing.TB, w *registrytest.World, id string) traveller {
	t.Helper()
	return traveller{w.Traveller(t, id)}
}

// receipts opens what the registry has written for this kiosk.
func (k traveller) receipts(t testing.TB, d parcel.Drive) map[api.ID]api.RecordStatus {
	t.Helper()
	names, err := d.Names(parcel.Manifests)
	if err != nil {
		t.Fatal(err)
	}
	out := map[api.ID]api.RecordStatus{}
	for _, name := range names {
		s, _, err := d.Manifest(name, func(id string, _ crypto.PublicKey) error {
			if id != k.ID {
				return errors.New("another kiosk's")
			}
			return nil
		})
		if err != nil {
			continue
		}
		for i, f := range s.Manifest().Files {
			b, err := d.Read(f.ReceiptsName())
			if errors.Is(err, os.ErrNotExist) {
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			body, err := s.OpenReceipts(i, b, k.Reply)
			if err != nil {
				t.Fatal(err)
			}
			list, err := api.Decode[api.StatusResult](bytes.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range list.Statuses {
				out[r.ID] = r
			}
		}
	}
	return out
}

func newDrive(t testing.TB) parcel.Drive {
	t.Helper()
	d, err := parcel.OpenDrive(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// copyDrive copies the files that keep says yes to.
func copyDrive(t testing.TB, from parcel.Drive, keep func(name string) bool) parcel.Drive {
	t.Helper()
	to := newDrive(t)
	entries, err := os.ReadDir(from.Dir())
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if b, err := os.ReadFile(filepath.Join(from.Dir(), e.Name())); err != nil {
			t.Fatal(err)
		} else if keep(e.Name()) {
			if err := os.WriteFile(filepath.Join(to.Dir(), e.Name()), b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	return to
}

func all(string) bool { return true }

// take imports a drive and waits for receipts.
func take(t testing.TB, r *running, d parcel.Drive) registry.Imported {
	t.Helper()
	console, err := registry.ConsoleOf(t.Context(), r.Registry)
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

// found are the records of an import by id.
func found(in registry.Imported) map[api.ID]registry.ImportedRecord {
	out := map[api.ID]registry.ImportedRecord{}
	for _, p := range in.Parcels {
		for _, f := range p.Files {
			for _, r := range f.Records {
				out[r.ID] = r
			}
		}
	}
	return out
}

// refusals are the reasons, in order.
func refusals(in registry.Imported) (out []string) {
	for _, p := range in.Parcels {
		if p.Refused != "" {
			out = append(out, p.Refused)
		}
		for _, f := range p.Files {
			if f.Refused != "" {
				out = append(out, f.Refused)
			}
		}
	}
	return out
}

// held is whether the registry holds a record of k's, asked over the network.
func held(t testing.TB, w *registrytest.World, r *running, k traveller, id [32]byte) bool {
	t.Helper()
	_, err := connect(t, w, r.URL, k.TLS).record(id)
	return err == nil
}

func TestImport(t *testing.T) {
	w := registrytest.New(t)
	r := serve(t, w.RegistryOptions(noVault))
	k, other := newTraveller(t, w, "KIOSK-0001"), newTraveller(t, w, "KIOSK-0002")
	a, b, c := k.Make(t, registrytest.Spec{}), k.Make(t, registrytest.Spec{}), k.Make(t, registrytest.Spec{})
	bad := k.Make(t, registrytest.Spec{Context: func(c *record.Context) { c.Audience = "elsewhere.example/log" }})
	theirs := other.Make(t, registrytest.Spec{})

	// Several kiosks and several exports on one drive, one of them twice.
	d := newDrive(t)
	k.Export(t, d, nil, []record.Submission{a, bad}, []record.Submission{b})
	k.Export(t, d, nil, []record.Submission{b, c})
	other.Export(t, d, nil, []record.Submission{theirs})
	if err := os.WriteFile(filepath.Join(d.Dir(), "holiday.jpg"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	in := take(t, r, d)
	if err := in.Err(); err != nil || len(in.Parcels) != 3 {
		t.Errorf("%v: %+v", err, in)
	}
	line := connect(t, w, r.URL, k.TLS)
	receipts := k.receipts(t, d)
	for _, s := range []record.Submission{a, b, c} {
		got := found(in)[s.ID()]
		if got.Status != api.Pending || !got.Receipt {
			t.Errorf("%+v", got)
		}
		// The very receipt that the network hands out, for the record that was sent.
		over, err := line.record(s.ID())
		if err != nil || receipts[s.ID()] != over || over.Receipt == "" {
			t.Errorf("on the drive %+v, over the network %+v, %v", receipts[s.ID()], over, err)
		}
		if _, err := receipt.Verify([]byte(over.Receipt), w.Policy.Policy().Log(), s.ID()); err != nil {
			t.Error(err)
		}
		if v := line.send(s); v.Status != api.Accepted {
			t.Errorf("sent again over the network: %+v", v)
		}
	}
	if got := found(in)[bad.ID()]; got.Status != api.Rejected || got.Code != record.CodeAudience || got.Receipt {
		t.Errorf("%+v", got)
	}
	line.rejected(w, item(bad), record.CodeAudience)
	if over, err := line.record(bad.ID()); err != nil || receipts[bad.ID()] != over {
		t.Errorf("on the drive %+v, over the network %+v, %v", receipts[bad.ID()], over, err)
	}
	if got := other.receipts(t, d); len(got) != 1 || got[theirs.ID()].Receipt == "" {
		t.Errorf("the other kiosk's: %+v", got)
	}
	if got := other.receipts(t, d)[a.ID()]; got.Receipt != "" {
		t.Error("the other kiosk reads receipts that are not its own")
	}
	// The same again, and from an old copy: the same receipts, nothing twice.
	size := logSize(t, line)
	again := take(t, r, copyDrive(t, d, func(name string) bool { return !strings.HasSuffix(name, string(parcel.Receipts)) }))
	if err := again.Err(); err != nil || len(found(again)) != 5 {
		t.Errorf("%v: %+v", err, again)
	}
	if now := logSize(t, line); now != size || size != 4 {
		t.Errorf("%d leaves, before %d", now, size)
	}
	if got := k.receipts(t, d); len(got) != 4 || got[a.ID()] != receipts[a.ID()] {
		t.Errorf("%+v", got)
	}
	if records, settled, retry := again.Count(); records != 6 || settled != 6 || retry != 0 {
		t.Errorf("%d records, %d settled, %d to be sent again", records, settled, retry)
	}
}

// logSize is the number of leaves in the newest checkpoint.
func logSize(t testing.TB, c client) (n int) {
	t.Helper()
	_, b := c.do("GET", api.PathCheckpoint, "", nil)
	lines := strings.Split(string(b), "\n")
	if err := json.Unmarshal([]byte(lines[1]), &n); err != nil {
		t.Fatal(err)
	}
	return n
}

// idle imports a drive into a registry that takes records on and does not log
// them, because it does not serve.
func idle(t testing.TB, w *registrytest.World, d parcel.Drive, change func(*registry.Registry)) registry.Imported {
	t.Helper()
	r, err := registry.Open(t.Context(), w.RegistryOptions(noVault))
	if err != nil {
		t.Fatal(err)
	}
	change(r)
	stop, err := registry.ServeConsole(r)
	if err != nil {
		t.Fatal(err)
	}
	console, err := registry.ConsoleOf(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	in, err := registry.Import(t.Context(), console, d, 0)
	if err := errors.Join(err, console.Close(), stop(t.Context()), r.Close()); err != nil {
		t.Fatal(err)
	}
	return in
}

// Receipts that are not there at once are collected by a later import.
func TestImportCollectsLater(t *testing.T) {
	w := registrytest.New(t)
	k := newTraveller(t, w, "KIOSK-0001")
	s := k.Make(t, registrytest.Spec{})
	d := newDrive(t)
	k.Export(t, d, nil, []record.Submission{s})

	in := idle(t, w, d, func(*registry.Registry) {})
	if in.Err() != nil || found(in)[s.ID()].Status != api.Pending || found(in)[s.ID()].Receipt {
		t.Errorf("%+v", in)
	}
	if got := k.receipts(t, d); len(got) != 0 {
		t.Errorf("receipts of what is not logged: %+v", got)
	}
	r := serve(t, w.RegistryOptions(noVault))
	if in := take(t, r, d); !found(in)[s.ID()].Receipt || k.receipts(t, d)[s.ID()].Receipt == "" {
		t.Errorf("%+v", in)
	}
}

// While the courier delivers the same records: once each, the same receipts.
func TestImportWhileTheNetworkDelivers(t *testing.T) {
	w := registrytest.New(t)
	r := serve(t, w.RegistryOptions(noVault))
	k := newTraveller(t, w, "KIOSK-0001")
	var records []record.Submission
	var files [][]record.Submission
	for range 12 {
		records = append(records, k.Make(t, registrytest.Spec{}))
	}
	for some := range slices.Chunk(records, 4) {
		files = append(files, some)
	}
	d := newDrive(t)
	k.Export(t, d, nil, files...)
	line := connect(t, w, r.URL, k.TLS)
	var wg sync.WaitGroup
	wg.Go(func() {
		for _, s := range slices.Backward(records) {
			if v := line.send(s); v.Status != api.Pending && v.Status != api.Accepted {
				t.Errorf("%+v", v)
			}
		}
	})
	second := copyDrive(t, d, all)
	wg.Go(func() { take(t, r, second) })
	in := take(t, r, d)
	wg.Wait()
	if err := in.Err(); err != nil || len(found(in)) != len(records) {
		t.Errorf("%v: %+v", err, in)
	}
	if n := logSize(t, line); n != len(records) {
		t.Errorf("%d leaves for %d records", n, len(records))
	}
	one, two := k.receipts(t, d), k.receipts(t, second)
	for _, s := range records {
		if one[s.ID()].Receipt == "" || one[s.ID()] != two[s.ID()] {
			t.Errorf("%s: receipts differ", api.ID(s.ID()))
		}
	}
}

// What a manifest's signer may not do.
func TestImportRefusesSenders(t *testing.T) {
	w := registrytest.New(t)
	r := serve(t, w.RegistryOptions(noVault))
	k, revoked := newTraveller(t, w, "KIOSK-0001"), newTraveller(t, w, "KIOSK-0002")
	impostor := newTraveller(t, w, "KIOSK-0003")
	impostor.ID = k.ID
	unknown := newTraveller(t, w, "KIOSK-0404")
	if err := errors.Join(registry.KiosksIn(w.RegistryDir()).Revoke(t.Context(), revoked.ID, time.Now()), os.Remove(filepath.Join(w.RegistryDir(), "kiosks", unknown.ID+".json"))); err != nil {
		t.Fatal(err)
	}
	s := k.Make(t, registrytest.Spec{})
	for name, c := range map[string]struct {
		by   traveller
		edit func(*parcel.Context)
		says string
	}{
		"revoked":        {revoked, nil, "was revoked"},
		"impostor":       {impostor, nil, "not signed by the kiosk that it names"},
		"unknown":        {unknown, nil, "no kiosk of this id"},
		"other registry": {k, func(c *parcel.Context) { c.Audience = "elsewhere.example/log" }, "another registry"},
	} {
		d := newDrive(t)
		c.by.Export(t, d, c.edit, []record.Submission{s})
		in := take(t, r, d)
		if got := refusals(in); len(got) != 1 || !strings.Contains(got[0], c.says) || !errors.Is(in.Err(), registry.ErrUnread) {
			t.Errorf("%s: %+v", name, in)
		}
		if held(t, w, r, k, s.ID()) || len(listing(t, d)) != 2 {
			t.Errorf("%s: something was taken, or written", name)
		}
	}
	// A record of another kiosk, exported by one in good standing.
	d := newDrive(t)
	theirs := impostor.Make(t, registrytest.Spec{Context: func(c *record.Context) { c.KioskID = "KIOSK-0003" }})
	k.Export(t, d, nil, []record.Submission{theirs})
	if in := take(t, r, d); found(in)[theirs.ID()].Code != api.CodeReplay {
		t.Errorf("another kiosk's record: %+v", in)
	}
}

func listing(t testing.TB, d parcel.Drive) (out []string) {
	t.Helper()
	entries, err := os.ReadDir(d.Dir())
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out
}

// Whatever happens to a file, it is named, and the others are taken.
func TestImportOfDamagedDrives(t *testing.T) {
	w := registrytest.New(t)
	r := serve(t, w.RegistryOptions(noVault))
	k := newTraveller(t, w, "KIOSK-0001")
	s, good := k.Make(t, registrytest.Spec{}), k.Make(t, registrytest.Spec{})
	whole := newDrive(t)
	manifest := k.Export(t, whole, nil, []record.Submission{s}, []record.Submission{good})
	m, _, err := whole.Manifest(manifest, func(string, crypto.PublicKey) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	first, second := m.Manifest().Files[0].Name(), m.Manifest().Files[1].Name()
	change := func(name string, f func(b []byte) []byte) func(dir string) error {
		return func(dir string) error {
			b, err := os.ReadFile(filepath.Join(dir, name))
			if err != nil {
				return err
			}
			return os.WriteFile(filepath.Join(dir, name), f(b), 0o600)
		}
	}
	instead := func(put func(file string) error) func(dir string) error {
		return func(dir string) error {
			return errors.Join(os.Remove(filepath.Join(dir, first)), put(filepath.Join(dir, first)))
		}
	}
	hostile := map[string]func(dir string) error{
		"missing":     instead(func(string) error { return nil }),
		"empty":       change(first, func([]byte) []byte { return nil }),
		"one shorter": change(first, func(b []byte) []byte { return b[:len(b)-1] }),
		"one longer":  change(first, func(b []byte) []byte { return append(b, 0) }),
		"swapped": func(dir string) error {
			b, err := os.ReadFile(filepath.Join(dir, second))
			return errors.Join(err, os.WriteFile(filepath.Join(dir, first), b, 0o600))
		},
		"a link":      instead(func(file string) error { return os.Symlink(filepath.Join(whole.Dir(), first), file) }),
		"a fifo":      instead(func(file string) error { return syscall.Mkfifo(file, 0o600) }),
		"a directory": instead(func(file string) error { return os.Mkdir(file, 0o755) }),
		"a device":    instead(func(file string) error { return os.Symlink("/dev/zero", file) }),
		"a giant":     instead(func(file string) error { return errors.Join(os.WriteFile(file, nil, 0o600), os.Truncate(file, 1<<40)) }),
	}
	size := int(m.Manifest().Files[0].Size)
	for i := 0; i < size; i += size / 8 {
		hostile["byte flipped at "+time.Duration(i).String()] = change(first, func(b []byte) []byte { b[i] ^= 1; return b })
	}
	for name, harm := range hostile {
		d := copyDrive(t, whole, all)
		if err := harm(d.Dir()); err != nil {
			t.Fatal(err)
		}
		in := take(t, r, d)
		if got := refusals(in); len(got) != 1 || in.Parcels[0].Files[0].Name != first || in.Parcels[0].Files[0].Refused == "" || !errors.Is(in.Err(), registry.ErrUnread) {
			t.Errorf("%s: %+v", name, in)
		}
		if len(found(in)) != 1 || !found(in)[good.ID()].Receipt {
			t.Errorf("%s: the other file is not taken: %+v", name, in)
		}
		if held(t, w, r, k, s.ID()) {
			t.Fatalf("%s: it was taken", name)
		}
	}
	// The manifest, every byte of it.
	b, err := os.ReadFile(filepath.Join(whole.Dir(), manifest))
	if err != nil {
		t.Fatal(err)
	}
	d := copyDrive(t, whole, all)
	for i := 0; i < len(b); i += 11 {
		bad := bytes.Clone(b)
		bad[i] ^= 1
		if err := os.WriteFile(filepath.Join(d.Dir(), manifest), bad, 0o600); err != nil {
			t.Fatal(err)
		}
		in := take(t, r, d)
		if len(refusals(in)) != 1 || len(found(in)) != 0 || len(in.Unnamed) != 2 {
			t.Fatalf("byte %d: %+v", i, in)
		}
		// And under its new name.
		if err := os.Rename(filepath.Join(d.Dir(), manifest), filepath.Join(d.Dir(), parcel.ManifestName(bad))); err != nil {
			t.Fatal(err)
		}
		in = take(t, r, d)
		if len(refusals(in)) != 1 || len(found(in)) != 0 {
			t.Fatalf("byte %d, renamed: %+v", i, in)
		}
		if err := os.Remove(filepath.Join(d.Dir(), parcel.ManifestName(bad))); err != nil {
			t.Fatal(err)
		}
	}
	if held(t, w, r, k, s.ID()) {
		t.Fatal("it was taken")
	}
	// The whole drive, at last.
	if in := take(t, r, whole); in.Err() != nil || !found(in)[s.ID()].Receipt {
		t.Errorf("%+v", in)
	}
}

// A drive that was copied in part: whichever files are there, what is missing is
// told, and a whole copy later brings the rest.
func TestImportOfHalfCopiedDrives(t *testing.T) {
	w := registrytest.New(t)
	r := serve(t, w.RegistryOptions(noVault))
	k := newTraveller(t, w, "KIOSK-0001")
	whole := newDrive(t)
	var ids [][32]byte
	var parcels [2][]string // their files
	for p := range parcels {
		var files [][]record.Submission
		for range 2 {
			s := k.Make(t, registrytest.Spec{})
			files, ids = append(files, []record.Submission{s}), append(ids, s.ID())
		}
		before := listing(t, whole)
		k.Export(t, whole, nil, files...)
		parcels[p] = slices.DeleteFunc(listing(t, whole), func(name string) bool { return slices.Contains(before, name) })
	}
	names := listing(t, whole)
	for n := range len(names) { // none up to all but one, in the order of names
		d := copyDrive(t, whole, func(name string) bool { return slices.Index(names, name) < n })
		in := take(t, r, d)
		torn := false // a parcel that is missing whole was never there
		for _, files := range parcels {
			there := 0
			for _, name := range files {
				if slices.Index(names, name) < n {
					there++
				}
			}
			torn = torn || there > 0 && there < len(files)
		}
		if told := in.Err() != nil; told != torn {
			t.Errorf("%d of %d files: %v: %+v", n, len(names), in.Err(), in)
		}
		for _, name := range names[:n] {
			if strings.HasSuffix(name, string(parcel.Records)) && !slices.Contains(in.Unnamed, name) && !slices.ContainsFunc(in.Parcels, func(p registry.ImportedParcel) bool {
				return slices.ContainsFunc(p.Files, func(f registry.ImportedFile) bool { return f.Name == name && len(f.Records) == 1 })
			}) {
				t.Errorf("%d files: nothing is said of %s", n, name)
			}
		}
	}
	in := take(t, r, whole)
	for _, id := range ids {
		if in.Err() != nil || !found(in)[id].Receipt {
			t.Errorf("%v: %+v", in.Err(), in)
		}
	}
}

// What a kiosk seals is not believed: nonsense, other records than the manifest
// says, one twice.
func TestImportOfNonsense(t *testing.T) {
	w := registrytest.New(t)
	r := serve(t, w.RegistryOptions(noVault))
	k := newTraveller(t, w, "KIOSK-0001")
	a, b := k.Make(t, registrytest.Spec{}), k.Make(t, registrytest.Spec{})
	ids := [][32]byte{a.ID(), b.ID()}
	for name, body := range map[string][]byte{
		"nothing": {}, "no batch": []byte("{}"), "no items": []byte(`{"items":[]}`), "one of two": batch(item(a)), "the other order": batch(item(b), item(a)),
		"one twice": batch(item(a), item(a)), "others": batch(item(a), item(k.Make(t, registrytest.Spec{}))), "trailing": append(batch(item(a), item(b)), '1'),
	} {
		d := newDrive(t)
		m := parcel.Manifest{Context: k.Context()}
		k.Add(t, d, &m, body, ids)
		k.Sign(t, d, m)
		in := take(t, r, d)
		if got := refusals(in); len(got) != 1 || !strings.Contains(got[0], "parcel-form") || len(found(in)) != 0 {
			t.Errorf("%s: %+v", name, in)
		}
		if held(t, w, r, k, a.ID()) {
			t.Fatalf("%s: it was taken", name)
		}
	}
}

// A drive that cannot be written to brings its records all the same.
func TestImportFromAReadOnlyDrive(t *testing.T) {
	w := registrytest.New(t)
	r := serve(t, w.RegistryOptions(noVault))
	k := newTraveller(t, w, "KIOSK-0001")
	s := k.Make(t, registrytest.Spec{})
	d := newDrive(t)
	m, _, err := d.Manifest(k.Export(t, d, nil, []record.Submission{s}), func(string, crypto.PublicKey) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	// Also for root: a directory stands in the way.
	if err := os.MkdirAll(filepath.Join(d.Dir(), m.Manifest().Files[0].ReceiptsName(), "x"), 0o755); err != nil {
		t.Fatal(err)
	}
	in := take(t, r, d)
	if !errors.Is(in.Err(), registry.ErrNotWritten) || errors.Is(in.Err(), registry.ErrUnread) || !found(in)[s.ID()].Receipt {
		t.Errorf("%v: %+v", in.Err(), in)
	}
}

// While the registry cannot store, nothing is refused: it is imported again.
func TestImportWhileTheStoreFails(t *testing.T) {
	w := registrytest.New(t)
	k := newTraveller(t, w, "KIOSK-0001")
	s := k.Make(t, registrytest.Spec{})
	d := newDrive(t)
	k.Export(t, d, nil, []record.Submission{s})
	in := idle(t, w, d, func(r *registry.Registry) { registry.BreakStore(r) })
	if got := found(in)[s.ID()]; got.Status != api.Retry || got.Receipt || len(k.receipts(t, d)) != 0 {
		t.Errorf("%+v", in)
	}
	if _, _, retry := in.Count(); retry != 1 {
		t.Errorf("%d to be sent again", retry)
	}
	r := serve(t, w.RegistryOptions(noVault))
	if in := take(t, r, d); !found(in)[s.ID()].Receipt {
		t.Errorf("%+v", in)
	}
}

// Drives sealed to an old key open after a new one was made; a policy that names a
// key of nobody is refused.
func TestExchangeKeyRotation(t *testing.T) {
	w := registrytest.New(t)
	k := newTraveller(t, w, "KIOSK-0001")
	s, later := k.Make(t, registrytest.Spec{}), k.Make(t, registrytest.Spec{})
	d := newDrive(t)
	k.Export(t, d, nil, []record.Submission{s})
	old := w.Policy.Policy().Exchange
	made, err := registry.NewExchangeKey(w.RegistryDir())
	if err != nil {
		t.Fatal(err)
	}
	first := w.Policy
	w.Policy = w.Sign(t, 2, time.Now())
	if got := w.Policy.Policy().Exchange; len(old) != 1 || len(got) != 2 || got[0].ID != made.ID || got[1].ID != old[0].ID {
		t.Fatalf("before %v, after %v", old, got)
	}
	k.Export(t, d, nil, []record.Submission{later})
	o := w.RegistryOptions(noVault)
	o.Policy = first // records under it are still to come
	serve(t, o).stop()
	r := serve(t, w.RegistryOptions(noVault))
	in := take(t, r, d)
	if in.Err() != nil || !found(in)[s.ID()].Receipt || !found(in)[later.ID()].Receipt {
		t.Errorf("%v: %+v", in.Err(), in)
	}
	r.stop()
	for range 5 {
		if _, err := registry.NewExchangeKey(w.RegistryDir()); err != nil {
			t.Fatal(err)
		}
	}
	w.Policy = w.Sign(t, 3, time.Now())
	if got := w.Policy.Policy().Exchange; len(got) != 4 {
		t.Errorf("%d keys in the policy", len(got))
	}
	r = serve(t, w.RegistryOptions(noVault))
	if in := take(t, r, copyDrive(t, d, all)); in.Err() != nil || len(found(in)) != 2 {
		t.Errorf("the first key after five more: %+v", in)
	}
	r.stop()

	lost := filepath.Join(w.RegistryDir(), "exchange", w.Policy.Policy().Exchange[0].ID+".key")
	if err := os.Remove(lost); err != nil {
		t.Fatal(err)
	}
	if _, err := registry.Open(t.Context(), w.RegistryOptions(noVault)); !errors.Is(err, registry.ErrPolicy) {
		t.Errorf("a policy that names a key that is lost: %v", err)
	}
	if err := os.WriteFile(lost, []byte(strings.Repeat("00", 32)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := registry.Open(t.Context(), w.RegistryOptions(noVault)); err == nil || !strings.Contains(err.Error(), "exchange keys") {
		t.Errorf("another key in its place: %v", err)
	}
}
