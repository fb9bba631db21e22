package station

import (
	"bytes"
	"crypto"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"enrollkiosk/kiosk/wire"
	"enrollkiosk/registry/api"
	"enrollkiosk/registry/parcel"
	"enrollkiosk/registry/policy"
	"enrollkiosk/registry/receipt"
	"enrollkiosk/sync/queue"
)

// The queue takes any bytes for a record, and so does an export.
func recordOf(n int) queue.Item {
	data := fmt.Sprintf("sealed bytes of record %d, ", n)
	return queue.Item{ID: queue.ID{byte(n >> 8), byte(n), 1}, Data: bytes.Repeat([]byte(data), 1+n%7*40)}
}

// fill puts records into the queue while no agent runs.
func fill(t *testing.T, c Config, from, to int) {
	t.Helper()
	with(t, c, func(q *queue.Queue) {
		for n := from; n < to; n++ {
			if err := q.Put(t.Context(), recordOf(n)); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func with(t *testing.T, c Config, f func(*queue.Queue)) {
	t.Helper()
	q, _, err := queue.Open(t.Context(), c.in(queueDir), queue.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	f(q)
}

func export(t *testing.T, c Config, dir string) Exported {
	t.Helper()
	out, err := Export(t.Context(), c, dir, func(int, int) {})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// onDrive opens everything on a drive as the registry does, and fails on a file
// that is not in order or that nobody names.
func (a authority) onDrive(t *testing.T, dir string) map[queue.ID][]byte {
	t.Helper()
	d, err := parcel.OpenDrive(dir)
	if err != nil {
		t.Fatal(err)
	}
	manifests, err := d.Names(parcel.Manifests)
	if err != nil {
		t.Fatal(err)
	}
	out, files := map[queue.ID][]byte{}, len(manifests)
	for _, name := range manifests {
		s, _, err := d.Manifest(name, func(id string, _ crypto.PublicKey) error {
			if id != "KIOSK-0001" {
				return errForeign
			}
			return nil
		})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for i, f := range s.Manifest().Files {
			files++
			b, err := d.Read(f.Name())
			if err != nil {
				t.Fatal(err)
			}
			body, err := s.Open(i, b, []parcel.PrivateKey{a.exchange})
			if err != nil {
				t.Fatal(err)
			}
			batch, err := api.Decode[api.Batch](bytes.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			var ids [][32]byte
			for _, item := range batch.Items {
				ids = append(ids, item.ID)
				if out[queue.ID(item.ID)] != nil {
					t.Errorf("%s is there twice", item.ID)
				}
				out[queue.ID(item.ID)] = item.Submission
			}
			if err := s.CheckItems(i, ids); err != nil {
				t.Error(err)
			}
		}
	}
	if names := listing(t, dir); len(names) != files {
		t.Errorf("%d files are named, on the drive are %v", files, names)
	}
	return out
}

func listing(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// holds asserts that the records of these numbers are on the drive, and no others.
func (a authority) holds(t *testing.T, dir string, from, to int) {
	t.Helper()
	got := a.onDrive(t, dir)
	for n := from; n < to; n++ {
		if r := recordOf(n); !bytes.Equal(got[r.ID], r.Data) {
			t.Errorf("record %d is not on the drive", n)
		}
	}
	if len(got) != to-from {
		t.Errorf("%d records on the drive, want %d", len(got), to-from)
	}
}

// entries is the whole queue.
func entries(t *testing.T, c Config) string {
	t.Helper()
	var list QueueList
	if err := Ask(t.Context(), c, wire.Query{Kind: QueryList}, &list); err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(list.Records)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// Export copies what waits, alike with and without an agent, says how much that
// is, changes nothing in the queue, and may be repeated.
func TestExport(t *testing.T) {
	for _, agent := range []bool{false, true} {
		t.Run(fmt.Sprintf("agent %v", agent), func(t *testing.T) {
			a := newAuthority(t)
			c, _ := a.provisioned(t)
			const n = 3*parcel.MaxItems + 1
			fill(t, c, 0, n)
			with(t, c, func(q *queue.Queue) { // one that was delivered stays at home
				id := queue.ID{9, 9}
				if err := errors.Join(q.Put(t.Context(), queue.Item{ID: id, Data: []byte("x")}), q.StoreReceipt(t.Context(), id, []byte("r")), q.Purge(t.Context(), id)); err != nil {
					t.Fatal(err)
				}
			})
			if agent {
				running(t, c)
			}
			before, dir := entries(t, c), t.TempDir()
			var told []string
			out, err := Export(t.Context(), c, dir, func(records, all int) { told = append(told, fmt.Sprint(records, "/", all)) })
			if err != nil {
				t.Fatal(err)
			}
			if out.Records != n || out.Already != 0 || out.Files < 4 || len(out.Manifests) != 1 || out.Bytes < int64(out.Files)<<14 || out.More || len(out.Failed) > 0 {
				t.Errorf("%+v", out)
			}
			if want := []string{fmt.Sprint(0, "/", n), fmt.Sprint(n, "/", n)}; !slices.Equal(told, want) {
				t.Errorf("told %v", told)
			}
			a.holds(t, dir, 0, n)
			for _, name := range listing(t, dir) {
				if b := read(t, filepath.Join(dir, name)); bytes.Contains(b, []byte("sealed bytes")) {
					t.Errorf("%s tells what it holds", name)
				}
			}
			out = export(t, c, dir)
			if out.Records != 0 || out.Already != n || len(out.Manifests) != 0 {
				t.Errorf("again: %+v", out)
			}
			a.holds(t, dir, 0, n)
			other := t.TempDir()
			if out = export(t, c, other); out.Records != n {
				t.Errorf("to another drive: %+v", out)
			}
			a.holds(t, other, 0, n)
			if after := entries(t, c); after != before {
				t.Errorf("the queue was\n%s\nand is\n%s", before, after)
			}
		})
	}
}

// Whatever is missing from an earlier export, or damaged in it, the next one makes
// the drive whole, and writes no record twice.
func TestExportIsFinishedByTheNext(t *testing.T) {
	a := newAuthority(t)
	c, _ := a.provisioned(t)
	const n = 2*parcel.MaxItems + 3
	fill(t, c, 0, n)
	running(t, c)
	whole := t.TempDir()
	export(t, c, whole)
	names := listing(t, whole)
	copied := func(skip int) string {
		dir := t.TempDir()
		for i, name := range names {
			if i != skip {
				put(t, filepath.Join(dir, name), read(t, filepath.Join(whole, name)))
			}
		}
		return dir
	}
	for i, name := range names {
		for what, harm := range map[string]func(file string){
			"missing":    func(string) {},
			"empty":      func(file string) { put(t, file, nil) },
			"cut":        func(file string) { b := read(t, filepath.Join(whole, name)); put(t, file, b[:len(b)/2]) },
			"damaged":    func(file string) { b := read(t, filepath.Join(whole, name)); b[len(b)/2] ^= 1; put(t, file, b) },
			"unfinished": func(file string) { put(t, file+".tmp", read(t, filepath.Join(whole, name))[:5]) },
		} {
			dir := copied(i)
			harm(filepath.Join(dir, name))
			out := export(t, c, dir)
			if out.Records+out.Already != n {
				t.Errorf("%s %s: %+v", name, what, out)
			}
			if strings.HasSuffix(name, string(parcel.Manifests)) && what != "missing" && what != "unfinished" {
				// Nobody can tell whose it was: it stays, and with it what it may name.
				if got := listing(t, dir); !slices.Contains(got, name) || len(got) != 2*len(names) {
					t.Errorf("%s %s: %v", name, what, got)
				}
				continue
			}
			a.holds(t, dir, 0, n)
		}
	}
}

// New records are added to the drive, delivered ones are not looked for any more.
func TestExportGoesOn(t *testing.T) {
	a := newAuthority(t)
	c, _ := a.provisioned(t)
	fill(t, c, 0, 5)
	dir := t.TempDir()
	put(t, filepath.Join(dir, "holiday.jpg"), nil)
	export(t, c, dir)
	fill(t, c, 5, 8)
	s, stop := running(t, c)
	deliver := func(n int) {
		if err := errors.Join(s.queue.StoreReceipt(t.Context(), recordOf(n).ID, []byte("r")), s.queue.Purge(t.Context(), recordOf(n).ID)); err != nil {
			t.Error(err)
		}
	}
	deliver(0)
	out, err := Export(t.Context(), c, dir, func(records, all int) {
		if records == 4 { // between the list and the copy the courier is at work
			deliver(7)
		}
	})
	if err != nil || out.Records != 2 || out.Already != 4 {
		t.Errorf("%+v, %v", out, err)
	}
	stop()
	if err := os.Remove(filepath.Join(dir, "holiday.jpg")); err != nil {
		t.Errorf("what else was on the drive: %v", err)
	}
	a.holds(t, dir, 0, 7)
}

// One record whose copies are both damaged keeps no other one.
func TestExportPassesADamagedRecord(t *testing.T) {
	a := newAuthority(t)
	c, _ := a.provisioned(t)
	fill(t, c, 0, 4)
	running(t, c)
	harmed := 0
	err := filepath.WalkDir(c.in(queueDir), func(file string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		b := read(t, file)
		f, err := os.OpenFile(file, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		defer f.Close()
		for at := 0; ; {
			i := bytes.Index(b[at:], []byte("record 2, "))
			if i < 0 {
				return nil
			}
			harmed++
			at += i + 1
			if _, err := f.WriteAt([]byte("R"), int64(at-1)); err != nil {
				return err
			}
		}
	})
	if err != nil || harmed < 2 {
		t.Fatalf("%d copies, %v", harmed, err)
	}
	dir := t.TempDir()
	out, err := Export(t.Context(), c, dir, func(int, int) {})
	if err != nil || out.Records != 3 || len(out.Failed) != 1 || !strings.Contains(out.Failed[0], recordOf(2).ID.String()) {
		t.Errorf("%+v, %v", out, err)
	}
	if got := a.onDrive(t, dir); len(got) != 3 || got[recordOf(2).ID] != nil {
		t.Errorf("%d records", len(got))
	}
}

func TestExportSaysWhyNot(t *testing.T) {
	a := newAuthority(t)
	without := a
	without.specimen.Exchange = nil
	old, _ := without.provisioned(t)
	fill(t, old, 0, 1)
	dir := t.TempDir()
	if out, err := Export(t.Context(), old, dir, func(int, int) {}); !errors.Is(err, ErrNoExchange) || len(listing(t, dir)) != 0 {
		t.Errorf("a policy without a key: %+v, %v", out, err)
	}
	c, _ := a.provisioned(t)
	if out, err := Export(t.Context(), c, filepath.Join(dir, "none"), func(int, int) {}); !errors.Is(err, parcel.ErrNoDrive) {
		t.Errorf("no directory: %+v, %v", out, err)
	}
	if out := export(t, c, dir); out.Records != 0 || len(listing(t, dir)) != 0 {
		t.Errorf("an empty queue: %+v, %v", out, listing(t, dir))
	}
	if err := room(dir, []waitingRecord{{Size: 1 << 60}}); !errors.Is(err, ErrNoRoom) {
		t.Errorf("a small drive: %v", err)
	}
	if err := room(dir, []waitingRecord{{Size: 1}}); err != nil {
		t.Error(err)
	}
	unprovisioned := c
	unprovisioned.Kiosk.State = t.TempDir()
	unprovisioned.Kiosk.Socket = filepath.Join(unprovisioned.Kiosk.State, "agent.sock")
	if _, err := Export(t.Context(), unprovisioned, dir, func(int, int) {}); !errors.Is(err, ErrNotProvisioned) {
		t.Errorf("no kiosk: %v", err)
	}
	// A policy that station IT has put there, and that the agent has not read yet.
	fill(t, c, 0, 1)
	running(t, c)
	p, err := readPolicies(c)
	if err != nil {
		t.Fatal(err)
	}
	put(t, c.Trust.Policy, a.sign(t, 6, func(next *policy.Policy) { next.KioskCA = p.now.Policy().KioskCA }))
	if _, err := Export(t.Context(), c, dir, func(int, int) {}); !errors.Is(err, wire.ErrAnswer) || !strings.Contains(err.Error(), ErrOtherPolicy.Error()) {
		t.Errorf("another policy than the agent's: %v", err)
	}
	// The records were there before the manifest was to be signed, and it is not.
	if got := listing(t, dir); len(got) != 1 || !strings.HasSuffix(got[0], string(parcel.Records)) {
		t.Errorf("left on the drive: %v", got)
	}
}

// The record key signs this kiosk's own manifests under its policy, and nothing else.
func TestOnlyOwnManifestsAreSigned(t *testing.T) {
	a := newAuthority(t)
	c, _ := a.provisioned(t)
	s, _ := running(t, c)
	p, err := s.policies.current()
	if err != nil {
		t.Fatal(err)
	}
	reply, err := parcel.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	good := parcel.Context{Version: parcel.Version, KioskID: c.Kiosk.ID, Audience: p.Policy().LogOrigin, Time: s.clock.now().Wall, PolicyDigest: p.Digest(),
		KeyID: a.exchange.Public().ID, Reply: reply.Public(), Nonce: [32]byte{1}}
	sign := func(argument string) error {
		var out []byte
		return wire.Ask(t.Context(), c.Kiosk.Socket, wire.Query{Kind: querySign, Argument: argument}, &out)
	}
	text := func(change func(*parcel.Manifest)) string {
		m := parcel.Manifest{Context: good, Files: []parcel.File{{SHA256: [32]byte{1}, Size: 1, Items: [][32]byte{{1}}}}}
		change(&m)
		b, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	fine := text(func(*parcel.Manifest) {})
	if err := sign(fine); err != nil {
		t.Fatal(err)
	}
	for name, argument := range map[string]string{
		"another kiosk":    text(func(m *parcel.Manifest) { m.Context.KioskID = "KIOSK-0002" }),
		"another registry": text(func(m *parcel.Manifest) { m.Context.Audience = "elsewhere.example/log" }),
		"another key":      text(func(m *parcel.Manifest) { m.Context.KeyID = reply.Public().ID }),
		"another policy":   text(func(m *parcel.Manifest) { m.Context.PolicyDigest[0]++ }),
		"no files":         text(func(m *parcel.Manifest) { m.Files = nil }),
		"no JSON":          "manifest",
		"more":             `{"more":1,` + fine[1:],
	} {
		if err := sign(argument); !errors.Is(err, wire.ErrAnswer) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Answers that nobody has proved are refused by name, and change nothing.
func TestImportReceiptsBelievesNobody(t *testing.T) {
	a := newAuthority(t)
	c, _ := a.provisioned(t)
	fill(t, c, 0, 3)
	dir := t.TempDir()
	export(t, c, dir)
	d, err := parcel.OpenDrive(dir)
	if err != nil {
		t.Fatal(err)
	}
	manifests, err := ownManifests(c, d)
	if err != nil || len(manifests) != 1 {
		t.Fatal(manifests, err)
	}
	var s parcel.Signed
	for _, s = range manifests {
	}
	name := s.Manifest().Files[0].ReceiptsName()
	body := func(records ...api.RecordStatus) []byte {
		b, err := json.Marshal(api.StatusResult{Statuses: records})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	sealed := func(body []byte) []byte {
		b, err := s.SealReceipts(0, body)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	verdict, err := receipt.SignVerdict(t.Context(), receipt.Verdict{Record: recordOf(0).ID, Status: receipt.Rejected, Code: "made-up", Time: s.Manifest().Context.Time}, newAuthority(t))
	if err != nil {
		t.Fatal(err)
	}
	first, second := api.ID(recordOf(0).ID), api.ID(recordOf(1).ID)
	forged := sealed(body(api.RecordStatus{ID: first, Status: api.Rejected, Code: "made-up", Verdict: string(verdict)},
		api.RecordStatus{ID: second, Status: api.Pending, Receipt: "made up"},
		api.RecordStatus{ID: api.ID{4, 4}, Status: api.Pending, Receipt: "made up"},
		api.RecordStatus{ID: api.ID(recordOf(2).ID), Status: api.Pending}))
	look := func(what string, put []byte, refusedFiles, refusedRecords int) {
		t.Helper()
		if err := d.Write(name, put); err != nil {
			t.Fatal(err)
		}
		before := entries(t, c)
		out, err := ImportReceipts(t.Context(), c, dir)
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		refused := 0
		for _, r := range out.Records {
			if r.Refused != "" {
				refused++
			} else if r.Outcome != OutcomeOpen {
				t.Errorf("%s: %+v", what, r)
			}
		}
		if len(out.Refused) != refusedFiles || refused != refusedRecords || out.Waiting != 3 || !errors.Is(out.Err(), ErrReceipts) {
			t.Errorf("%s: %+v", what, out)
		}
		if refusedFiles > 0 && !strings.Contains(out.Refused[0], name) {
			t.Errorf("%s: %v", what, out.Refused)
		}
		if after := entries(t, c); after != before {
			t.Errorf("%s: the queue was\n%s\nand is\n%s", what, before, after)
		}
	}
	flipped := bytes.Clone(forged)
	flipped[len(flipped)/2] ^= 1
	for round := range 2 { // without an agent, then with one
		look("forged", forged, 0, 3)
		look("empty", nil, 1, 0)
		look("flipped", flipped, 1, 0)
		look("cut", forged[:len(forged)/2], 1, 0)
		look("nonsense", sealed([]byte("nonsense")), 1, 0)
		look("twice", sealed(body(api.RecordStatus{ID: first, Status: api.Pending}, api.RecordStatus{ID: first, Status: api.Pending})), 1, 0)
		if round == 0 {
			running(t, c)
		}
	}
	// A drive of nobody's, and one that was not imported yet.
	if out, err := ImportReceipts(t.Context(), c, t.TempDir()); err != nil || out.Parcels != 0 || out.Err() != nil {
		t.Errorf("%+v, %v", out, err)
	}
	if err := d.Remove(name); err != nil {
		t.Fatal(err)
	}
	if out, err := ImportReceipts(t.Context(), c, dir); err != nil || out.Parcels != 1 || out.Waiting != 3 || out.Err() != nil || len(out.Records) != 0 {
		t.Errorf("%+v, %v", out, err)
	}
	// The key is gone, with the disk: nothing is believed, and one exports again.
	if err := d.Write(name, forged); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(c.in(exchangeFile)); err != nil {
		t.Fatal(err)
	}
	look("a key that is gone", forged, 1, 0)
	if out := export(t, c, dir); out.Records != 3 || out.Already != 0 {
		t.Errorf("%+v", out)
	}
	if err := d.Remove(name); err != nil { // of the parcel that is gone
		t.Fatal(err)
	}
	a.holds(t, dir, 0, 3)
}
