package registry_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/transparency-dev/formats/log"
	"github.com/transparency-dev/merkle/rfc6962"
	"github.com/transparency-dev/merkle/testonly"
	"golang.org/x/mod/sumdb/note"

	"enrollkiosk/registry"
	"enrollkiosk/registry/api"
	"enrollkiosk/registry/audit"
	"enrollkiosk/registry/checkpoint"
	"enrollkiosk/registry/checkpoint/logtest"
	"enrollkiosk/registry/internal/registrytest"
	"enrollkiosk/registry/parcel"
	"enrollkiosk/registry/policy"
	"enrollkiosk/registry/receipt"
	"enrollkiosk/registry/record"
	"enrollkiosk/registry/witness"
	link "enrollkiosk/sync/client"
)

// station is a kiosk's client with the policy and the memory that the kiosk has.
type station struct {
	t      *testing.T
	kiosk  *registrytest.Kiosk
	policy policy.Signed
	seen   *checkpoint.Keeper
}

func newStation(t *testing.T, k *registrytest.Kiosk) *station {
	t.Helper()
	seen, err := checkpoint.OpenKeeper(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	return &station{t, k, k.World.Policy, seen}
}

func (s *station) connect(url string) *link.Client {
	s.t.Helper()
	c, err := link.New(link.Options{URL: url, Certificate: s.kiosk.TLS, Log: s.seen, Policy: func() (policy.Signed, error) { return s.policy, nil }})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(c.Close)
	return c
}

// deliver sends a record and asks for it until done is content.
func (s *station) deliver(url string, sub record.Submission, done func(link.Status) bool) link.Status {
	s.t.Helper()
	c := s.connect(url)
	item := link.Item{ID: sub.ID(), Data: sub.Bytes()}
	if v, err := c.Submit(s.t.Context(), []link.Item{item}); err != nil || v[0].Status == api.Rejected {
		s.t.Fatalf("%+v, %v", v, err)
	}
	for deadline := time.Now().Add(60 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		got, err := c.Status(s.t.Context(), []link.Item{item})
		if err != nil {
			s.t.Fatal(err)
		}
		if len(got) == 1 && done(got[0]) {
			return got[0]
		}
	}
	s.t.Fatal("no answer that is wanted")
	return link.Status{}
}

// received is a receipt that the kiosk has proved and held against what it knows of
// the log.
func received(s link.Status) bool { return s.Receipt != nil }

// disbelieved is one that it cannot prove.
func disbelieved(s link.Status) bool { return errors.Is(s.Err, link.ErrNonsense) }

// follow has the kiosk look at the log, as soon as it is shown.
func (s *station) follow(url string) {
	s.t.Helper()
	c := s.connect(url)
	for deadline := time.Now().Add(60 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		err := c.FollowLog(s.t.Context())
		if err == nil {
			break
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("follow: %v", err)
		}
	}
	if pairs, err := s.seen.Evidence(); err != nil || len(pairs) > 0 {
		s.t.Errorf("evidence %v, %v", pairs, err)
	}
}

// signedBy are the names of those that have signed a receipt, in its order, with the
// hash of their keys.
func signedBy(t testing.TB, proof []byte, keys ...string) (signed []bool) {
	t.Helper()
	for _, key := range keys {
		found := false
		for line := range bytes.Lines(proof) {
			fields := strings.Fields(string(line))
			if len(fields) != 3 || fields[0] != "—" || fields[1] != checkpoint.Name(key) {
				continue
			}
			b, err := base64.StdEncoding.DecodeString(fields[2])
			if err != nil {
				t.Fatal(err)
			}
			found = found || strings.HasPrefix(key, fmt.Sprintf("%s+%x+", fields[1], b[:4]))
		}
		signed = append(signed, found)
	}
	return signed
}

// The log changes its key while kiosks are away, and its witnesses look on: each
// gets receipts that it can prove, under the policy that it has, without a gap; what
// was given before stays good; and the old key signs nothing more.
func TestLogKeyRotation(t *testing.T) {
	w := registrytest.New(t, specimenState(t).CSCA())
	watchers, links := watch(t, w)
	w.Policy = w.Sign(t, 1, time.Now().Add(-time.Hour))
	for _, x := range watchers {
		x.start(t)
	}
	begin := func() *running {
		t.Helper()
		o := w.RegistryOptions(noVault)
		o.Witnesses = links
		return serve(t, o)
	}
	dir := w.RegistryDir()
	here, away := newStation(t, w.Kiosk(t, "KIOSK-0001")), newStation(t, w.Kiosk(t, "KIOSK-0002"))
	var subs []record.Submission
	var receipts [][]byte
	deliver := func(r *running, s *station, done func(link.Status) bool) {
		t.Helper()
		sub := s.kiosk.Make(t, registrytest.Spec{})
		got := s.deliver(r.URL, sub, done)
		subs, receipts = append(subs, sub), append(receipts, got.Receipt)
	}

	// One key, and then a second one that no policy names.
	r := begin()
	old := w.Policy.Policy().LogKey
	deliver(r, here, received)
	if _, err := registry.RetireLog(t.Context(), dir, w.Policy, true, time.Now()); !errors.Is(err, registry.ErrNoOverlap) {
		t.Errorf("there is one key: %v", err)
	}
	pub, err := registry.RotateLog(dir, w.Policy, false)
	if err != nil {
		t.Fatal(err)
	}
	fresh := pub.LogKey
	if _, err := registry.RotateLog(dir, w.Policy, false); !errors.Is(err, registry.ErrOverlap) {
		t.Errorf("a third key before the second is used: %v", err)
	}
	if _, err := registry.RetireLog(t.Context(), dir, w.Policy, true, time.Now()); !errors.Is(err, registry.ErrPolicy) {
		t.Errorf("no policy names the new key: %v", err)
	}
	r.stop()
	r = begin()
	deliver(r, away, received)
	if by := signedBy(t, receipts[1], old, fresh); !slices.Equal(by, []bool{true, false}) {
		t.Errorf("until a policy names the new key, %v sign", by)
	}

	// A policy names both. The old key cannot be retired before both have signed.
	first := w.Policy
	w.Policy = w.Sign(t, 2, time.Now().Add(-time.Minute))
	if p := w.Policy.Policy(); p.LogKey != fresh || len(p.EarlierLogs) != 1 || p.EarlierLogs[0] != (checkpoint.Earlier{Key: old}) {
		t.Fatalf("the policy names %q, %v", p.LogKey, p.EarlierLogs)
	}
	soon, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if _, err := registry.RetireLog(soon, dir, w.Policy, true, time.Now()); !errors.Is(err, registry.ErrBothKeys) {
		t.Errorf("the registry has the old policy: %v", err)
	}
	r.stop()
	for _, x := range watchers {
		if err := witness.AddLog(x.dir, fresh, false); err != nil {
			t.Fatal(err)
		}
		x.stop()
		x.start(t)
	}
	r = begin()
	here.policy = w.Policy
	for _, s := range []*station{away, here} {
		deliver(r, s, received)
		s.follow(r.URL)
		last := receipts[len(receipts)-1]
		if by := signedBy(t, last, old, fresh); !slices.Equal(by, []bool{true, true}) {
			t.Errorf("in the overlap %v sign", by)
		}
		if size := len(last); size > 2500 {
			t.Errorf("a receipt of %d bytes", size)
		}
	}

	// The old key ends when no kiosk that may enroll can be without the new one.
	if _, err := registry.RetireLog(t.Context(), dir, w.Policy, false, time.Now().AddDate(0, 0, 29)); !errors.Is(err, registry.ErrEarly) {
		t.Errorf("too early: %v", err)
	}
	if pub, err = registry.RetireLog(t.Context(), dir, w.Policy, false, time.Now().AddDate(0, 0, 31)); err != nil || pub.EarlierLogs[0].Size != 4 {
		t.Fatalf("%v, %v", pub.EarlierLogs, err)
	}
	if _, err := registry.RetireLog(t.Context(), dir, w.Policy, false, time.Now().AddDate(0, 0, 31)); !errors.Is(err, registry.ErrNoOverlap) {
		t.Errorf("a second time: %v", err)
	}
	deliver(r, away, received) // the policy does not know yet
	r.stop()
	r = begin()
	deliver(r, away, received)
	r.stop()
	now := w.Policy
	w.Policy = first
	if _, err := registry.Open(t.Context(), w.RegistryOptions(noVault)); !errors.Is(err, registry.ErrPolicy) {
		t.Errorf("a policy under which the old key would sign alone: %v", err)
	}
	w.Policy = now

	// The policy knows. Whoever was away for longer takes it before anything else.
	w.Policy = w.Sign(t, 3, time.Now().Add(-time.Second))
	r = begin()
	sub := away.kiosk.Make(t, registrytest.Spec{})
	away.deliver(r.URL, sub, disbelieved)
	b, err := away.connect(r.URL).Policy(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if away.policy, err = policy.Parse(b, w.Root); err != nil || away.policy.Digest() != w.Policy.Digest() {
		t.Fatal(err)
	}
	got := away.deliver(r.URL, sub, received)
	away.follow(r.URL)
	subs, receipts = append(subs, sub), append(receipts, got.Receipt)
	if by := signedBy(t, got.Receipt, old, fresh); !slices.Equal(by, []bool{false, true}) {
		t.Errorf("after the end %v sign", by)
	}
	here.policy = w.Policy
	deliver(r, here, received)
	here.follow(r.URL)

	// What was ever given is good, and the registry needs the old private key no more.
	of := w.Policy.Policy().Log()
	for i, b := range receipts {
		if _, err := receipt.Verify(b, of, subs[i].ID()); err != nil {
			t.Errorf("receipt %d: %v", i, err)
		}
	}
	stolen := signerOf(t, filepath.Join(dir, "log.key"))
	if report, err := registry.Examine(r.Registry); err != nil || report.Err() != nil || int(report.Receipts) != len(subs) {
		t.Errorf("%v, %v", report, err)
	}
	r.stop()
	if err := os.Remove(filepath.Join(dir, "log.key")); err != nil {
		t.Fatal(err)
	}
	r = begin()
	deliver(r, here, received)

	// Everybody refuses the thief who has taken it long before.
	b, forged := thiefsReceipt(t, stolen, 20)
	if _, err := receipt.Verify(b, of.Unwitnessed(), forged); !errors.Is(err, checkpoint.ErrEnded) || !errors.Is(err, receipt.ErrSignature) {
		t.Errorf("a receipt beyond the end: %v", err)
	}
	if _, err := receipt.Verify(b, first.Policy().Log().Unwitnessed(), forged); err != nil {
		t.Errorf("without the end it would be good: %v", err)
	}
	files, err := audit.OpenDir(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer files.Close()
	report, err := audit.Run(t.Context(), audit.Options{Log: of, Files: files, Dir: t.TempDir()})
	if err != nil || int(report.Size) != len(subs) {
		t.Errorf("audit: %+v, %v", report, err)
	}
	// The next rotation is as the first.
	if pub, err = registry.RotateLog(dir, w.Policy, false); err != nil || len(pub.EarlierLogs) != 2 || pub.EarlierLogs[0].Ended() || !pub.EarlierLogs[1].Ended() {
		t.Errorf("%v, %v", pub.EarlierLogs, err)
	}
}

func signerOf(t testing.TB, file string) note.Signer {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	s, err := note.NewSigner(strings.TrimSpace(string(b)))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// thiefsReceipt is of a record that the log never had, in a tree of some size.
func thiefsReceipt(t testing.TB, signer note.Signer, size int) (b []byte, id [32]byte) {
	t.Helper()
	id = [32]byte{1}
	tree := testonly.New(rfc6962.DefaultHasher)
	leaf := receipt.Leaf([32]byte{2}, id)
	tree.AppendData(leaf[:])
	for i := range size - 1 {
		tree.AppendData(bytes.Repeat([]byte{byte(i)}, 32))
	}
	text := log.Checkpoint{Origin: registrytest.Origin, Size: uint64(size), Hash: tree.Hash()}.Marshal()
	signed, err := note.Sign(&note.Note{Text: string(text)}, signer)
	if err != nil {
		t.Fatal(err)
	}
	path, err := tree.InclusionProof(0, uint64(size))
	if err != nil {
		t.Fatal(err)
	}
	var hashes [][32]byte
	for _, h := range path {
		hashes = append(hashes, [32]byte(h))
	}
	return receipt.Build(0, hashes, signed, [32]byte{2}, id), id
}

// A stolen key ends at once: the registry that is started next signs with the new
// one alone, and nothing that the thief signs is larger than what there was.
func TestStolenLogKey(t *testing.T) {
	w := registrytest.New(t, specimenState(t).CSCA())
	dir := w.RegistryDir()
	s := newStation(t, w.Kiosk(t, "KIOSK-0001"))
	r := serve(t, w.RegistryOptions(noVault))
	var subs []record.Submission
	var receipts [][]byte
	deliver := func() {
		t.Helper()
		sub := s.kiosk.Make(t, registrytest.Spec{})
		subs, receipts = append(subs, sub), append(receipts, s.deliver(r.URL, sub, received).Receipt)
	}
	for range 3 {
		deliver()
	}
	stolen := signerOf(t, filepath.Join(dir, "log.key"))
	if _, err := registry.RotateLog(dir, w.Policy, true); !errors.Is(err, registry.ErrServes) {
		t.Errorf("while it signs: %v", err)
	}
	r.stop()
	before := w.Policy
	pub, err := registry.RotateLog(dir, w.Policy, true)
	if err != nil || len(pub.EarlierLogs) != 1 || pub.EarlierLogs[0].Size != 3 {
		t.Fatalf("%v, %v", pub.EarlierLogs, err)
	}
	if _, err := registry.Open(t.Context(), w.RegistryOptions(noVault)); !errors.Is(err, registry.ErrPolicy) {
		t.Errorf("with the old policy: %v", err)
	}
	w.Policy = w.Sign(t, 2, time.Now().Add(-time.Minute))
	if err := os.Remove(filepath.Join(dir, "log.key")); err != nil {
		t.Fatal(err)
	}
	r = serve(t, w.RegistryOptions(noVault))
	s.policy = w.Policy
	s.follow(r.URL)
	deliver()
	s.follow(r.URL)
	of := w.Policy.Policy().Log()
	for i, b := range receipts {
		if _, err := receipt.Verify(b, of, subs[i].ID()); err != nil {
			t.Errorf("receipt %d: %v", i, err)
		}
	}
	if by := signedBy(t, receipts[3], before.Policy().LogKey, pub.LogKey); !slices.Equal(by, []bool{false, true}) {
		t.Errorf("%v sign", by)
	}
	receiptsDir := t.TempDir()
	for size, is := range map[int]error{3: checkpoint.ErrEnded, 4: checkpoint.ErrEnded, 2: nil} {
		b, forged := thiefsReceipt(t, stolen, size)
		if _, err := receipt.Verify(b, of, forged); !errors.Is(err, is) {
			t.Errorf("a receipt of the thief's at %d: %v", size, err)
		}
		if is == nil { // nobody has witnessed it: only the log itself tells
			if err := os.WriteFile(filepath.Join(receiptsDir, "forged"), b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	files, err := audit.OpenDir(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer files.Close()
	if _, err := audit.Run(t.Context(), audit.Options{Log: of, Files: files, Dir: t.TempDir(), Receipts: receiptsDir}); !errors.Is(err, audit.ErrReceipt) || !errors.Is(err, checkpoint.ErrSplit) {
		t.Errorf("the audit: %v", err)
	}
	r.stop()

	// The new one is stolen as well, before and after the policy names a third.
	if _, err := registry.RotateLog(dir, w.Policy, false); err != nil {
		t.Fatal(err)
	}
	pub, err = registry.RotateLog(dir, w.Policy, true)
	if err != nil || len(pub.EarlierLogs) != 2 || pub.EarlierLogs[0].Key != of.Key || pub.EarlierLogs[0].Size != 4 || pub.EarlierLogs[1].Size != 3 {
		t.Errorf("%v, %v", pub.EarlierLogs, err)
	}
	w.Policy = w.Sign(t, 3, time.Now().Add(-time.Second))
	r = serve(t, w.RegistryOptions(noVault))
	s.policy = w.Policy
	deliver()
	s.follow(r.URL)
	if _, err := receipt.Verify(receipts[0], w.Policy.Policy().Log(), subs[0].ID()); err != nil {
		t.Error(err)
	}
}

// A backup from before a rotation lacks the key that the policy names: another one
// takes its place, and the log goes on.
func TestLostLogKey(t *testing.T) {
	w := registrytest.New(t, specimenState(t).CSCA())
	dir := w.RegistryDir()
	s := newStation(t, w.Kiosk(t, "KIOSK-0001"))
	r := serve(t, w.RegistryOptions(noVault))
	sub := s.kiosk.Make(t, registrytest.Spec{})
	first := s.deliver(r.URL, sub, received).Receipt
	to, keys := filepath.Join(w.Dir, "backup"), filepath.Join(w.Dir, "keys")
	if _, err := registry.Backup(t.Context(), dir, w.Policy, to, keys, registry.Snapshot(r.Registry), time.Now()); err != nil {
		t.Fatal(err)
	}
	r.stop()
	pub, err := registry.RotateLog(dir, w.Policy, false)
	if err != nil {
		t.Fatal(err)
	}
	lost := pub.LogKey
	again := s.kiosk.Make(t, registrytest.Spec{})
	w.Policy = w.Sign(t, 2, time.Now().Add(-time.Minute))
	r = serve(t, w.RegistryOptions(noVault))
	s.policy = w.Policy
	second := s.deliver(r.URL, again, received).Receipt
	if pub, err = registry.RetireLog(t.Context(), dir, w.Policy, true, time.Now()); err != nil {
		t.Fatal(err)
	}
	w.Policy = w.Sign(t, 3, time.Now().Add(-time.Second))
	s.policy = w.Policy
	mirror := filepath.Join(w.Dir, "mirror")
	head, err := registry.CopyLog(t.Context(), registry.LogDir(filepath.Join(dir, "log")), mirror, w.Policy.Policy().Log().Unwitnessed())
	if err != nil {
		t.Fatal(err)
	}
	r.stop()
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if _, err := registry.Restore(t.Context(), registry.RestoreOptions{From: to, Keys: keys, Dir: dir, Policy: w.Policy, Log: registry.LogDir(mirror), Seen: [][]byte{head.Bytes()}}); err != nil {
		t.Fatal(err)
	}
	if _, err := registry.Open(t.Context(), w.RegistryOptions(noVault)); !errors.Is(err, registry.ErrPolicy) {
		t.Errorf("without its key: %v", err)
	}
	if _, err := registry.RotateLog(dir, w.Policy, false); !errors.Is(err, registry.ErrLogKeyLost) {
		t.Errorf("a key that is lost signs beside none: %v", err)
	}
	pub, err = registry.RotateLog(dir, w.Policy, true)
	if err != nil || len(pub.EarlierLogs) != 2 || pub.EarlierLogs[0].Key != lost || pub.EarlierLogs[0].Size != 2 || pub.EarlierLogs[1].Size != 2 {
		t.Fatalf("%v, %v", pub.EarlierLogs, err)
	}
	w.Policy = w.Sign(t, 4, time.Now())
	s.policy = w.Policy
	r = serve(t, w.RegistryOptions(noVault))
	s.deliver(r.URL, again, received) // it came after the backup, and is in the log
	s.deliver(r.URL, s.kiosk.Make(t, registrytest.Spec{}), received)
	s.follow(r.URL)
	for id, b := range map[[32]byte][]byte{sub.ID(): first, again.ID(): second} {
		if _, err := receipt.Verify(b, w.Policy.Policy().Log(), id); err != nil {
			t.Error(err)
		}
	}
}

// A registry that has the older policy takes on records beside those that have the
// newer, and never the log: it would sign with the old key alone.
func TestLogKeyAcrossReplicas(t *testing.T) {
	t.Parallel()
	w := registrytest.New(t)
	address, _ := database(t)
	k := w.Kiosk(t, "KIOSK-0001")
	enlist(t, w, address, k)
	s := newStation(t, k)
	first := serve(t, onDatabase(t, w, address))
	connect(t, w, first.URL, k.TLS).untilReady("\nlog: here\n")
	var said lines
	o := onDatabase(t, w, address)
	o.Log = said.logger()
	second := serve(t, o) // as the first, and stays so
	two := connect(t, w, second.URL, k.TLS)
	two.untilReady("\nlog: another's\n")
	s.deliver(second.URL, k.Make(t, registrytest.Spec{}), received)

	old := w.Policy.Policy().LogKey
	pub, err := registry.RotateLog(w.RegistryDir(), w.Policy, false)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := registry.RotateLog(w.RegistryDir(), w.Policy, true); !errors.Is(err, registry.ErrServes) {
		t.Errorf("another signs: %v", err)
	}
	sub, waiting := k.Make(t, registrytest.Spec{}), k.Make(t, registrytest.Spec{})
	w.Policy = w.Sign(t, 2, time.Now().Add(-time.Minute))
	third := serve(t, onDatabase(t, w, address)) // with the new key and policy
	first.stop()
	three := connect(t, w, third.URL, k.TLS)
	three.untilReady("\nlog: here\n")
	got := s.deliver(second.URL, sub, received)
	if by := signedBy(t, got.Receipt, old, pub.LogKey); !slices.Equal(by, []bool{true, true}) {
		t.Errorf("%v sign", by)
	}
	third.stop()
	for deadline := time.Now().Add(time.Minute); !strings.Contains(said.String(), "names other keys of the log"); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the second does not say why it leaves the log alone: %s", said.String())
		}
	}
	two.send(waiting)
	fourth := serve(t, onDatabase(t, w, address))
	got = s.deliver(fourth.URL, waiting, received)
	if by := signedBy(t, got.Receipt, old, pub.LogKey); !slices.Equal(by, []bool{true, true}) {
		t.Errorf("%v sign", by)
	}
}

// The proof on a drive goes back to where a key ended, for a kiosk that has seen more
// of the log than that.
func TestDriveProofOfAnEndedKey(t *testing.T) {
	w := registrytest.New(t)
	dir := w.RegistryDir()
	tree := testonly.New(rfc6962.DefaultHasher)
	var entries [][]byte
	for i := range 700 {
		entries = append(entries, bytes.Repeat([]byte{byte(i), byte(i >> 8)}, 16))
		tree.AppendData(entries[i])
	}
	signed := func(key string, size uint64) []byte {
		t.Helper()
		b, err := note.Sign(&note.Note{Text: string(log.Checkpoint{Origin: registrytest.Origin, Size: size, Hash: tree.HashAt(size)}.Marshal())}, signerOf(t, filepath.Join(dir, key)))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	grow := func(key string, size uint64) {
		t.Helper()
		files := logtest.Files(entries[:size])
		files[checkpoint.PathCheckpoint] = signed(key, size)
		if _, err := registry.CopyLog(t.Context(), func(_ context.Context, path string) ([]byte, error) { return files[path], nil }, filepath.Join(dir, "log"), w.Policy.Policy().Log()); err != nil {
			t.Fatal(err)
		}
	}
	grow("log.key", 300)
	if _, err := registry.RotateLog(dir, w.Policy, true); err != nil {
		t.Fatal(err)
	}
	w.Policy = w.Sign(t, 2, time.Now().Add(-time.Minute))
	grow("log-2.key", 700)
	of := w.Policy.Policy().Log()
	seen, err := of.Open(signed("log-2.key", 600))
	if err != nil {
		t.Fatal(err)
	}
	memory := t.TempDir()
	for range 2 { // the first time it proves the end, the second time it remembers nothing of that
		keeper, err := checkpoint.OpenKeeper(memory)
		if err != nil {
			t.Fatal(err)
		}
		if err := keeper.Accept(t.Context(), of, checkpoint.Proof{Tiles: logtest.Files(entries[:600])}, seen); err != nil {
			t.Fatal(err)
		}
	}
	r := serve(t, w.RegistryOptions(noVault))
	k, d := newTraveller(t, w, "KIOSK-0001"), newDrive(t)
	if err := d.Write(parcel.KioskName(k.ID, parcel.Seen), seen.Bytes()); err != nil {
		t.Fatal(err)
	}
	k.Export(t, d, nil, []record.Submission{k.Make(t, registrytest.Spec{})})
	if in := take(t, r, d); in.Err() != nil {
		t.Fatalf("%+v", in)
	}
	b, err := d.Read(parcel.KioskName(k.ID, parcel.Log))
	if err != nil {
		t.Fatal(err)
	}
	proof, err := checkpoint.ParseProof(b)
	if err != nil {
		t.Fatal(err)
	}
	keeper, err := checkpoint.OpenKeeper(memory)
	if err != nil {
		t.Fatal(err)
	}
	if c, err := keeper.Follow(t.Context(), of, proof); err != nil || c.Size() != 701 {
		t.Errorf("%v, %v", c, err)
	}
}
