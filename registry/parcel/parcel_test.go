package parcel_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"enrollkiosk/kiosk/secret"
	"enrollkiosk/registry/parcel"
	"enrollkiosk/registry/record"
)

// device is a record key in software.
type device struct{ *ecdsa.PrivateKey }

func (d device) Sign(_ context.Context, digest []byte) ([]byte, error) {
	return d.PrivateKey.Sign(rand.Reader, digest, crypto.SHA256)
}

func newDevice(t testing.TB) device {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return device{key}
}

func newKey(t testing.TB) parcel.PrivateKey {
	t.Helper()
	k, err := parcel.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// sender is a kiosk that exports to a registry.
type sender struct {
	record   device
	reply    parcel.PrivateKey
	registry parcel.PrivateKey
}

func newSender(t testing.TB) sender {
	return sender{newDevice(t), newKey(t), newKey(t)}
}

var errStranger = errors.New("stranger")

// is accepts the sender's own key under its own name.
func (s sender) is(id string, key crypto.PublicKey) error {
	if id != "KIOSK-0001" || !s.record.PublicKey.Equal(key) {
		return errStranger
	}
	return nil
}

func (s sender) context() parcel.Context {
	c := parcel.Context{Version: parcel.Version, KioskID: "KIOSK-0001", Audience: "registry.example/log", Time: time.Now().UTC().Truncate(time.Second),
		PolicyDigest: [32]byte{1}, KeyID: s.registry.Public().ID, Reply: s.reply.Public()}
	rand.Read(c.Nonce[:])
	return c
}

// export makes a parcel with a file for each body; its records' ids are 1, 2, ...
func (s sender) export(t testing.TB, bodies ...string) (signed []byte, files [][]byte) {
	t.Helper()
	m := parcel.Manifest{Context: s.context()}
	for i, body := range bodies {
		b, err := m.Add(s.registry.Public(), []byte(body), [][32]byte{{byte(i + 1)}})
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, b)
	}
	return s.sign(t, m), files
}

func (s sender) sign(t testing.TB, m parcel.Manifest) []byte {
	t.Helper()
	b, err := parcel.Sign(t.Context(), m, s.record)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (s sender) verify(t testing.TB, signed []byte) parcel.Signed {
	t.Helper()
	out, err := parcel.Verify(signed, s.is)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestThereAndBack(t *testing.T) {
	s := newSender(t)
	bodies := []string{"first", strings.Repeat("x", parcel.MaxPlain), ""}
	signed, files := s.export(t, bodies...)
	p := s.verify(t, signed)
	for i, want := range bodies {
		got, err := p.Open(i, files[i], []parcel.PrivateKey{newKey(t), s.registry})
		if err != nil || string(got) != want {
			t.Errorf("file %d: %d bytes, %v", i, len(got), err)
		}
		if err := p.CheckItems(i, [][32]byte{{byte(i + 1)}}); err != nil {
			t.Errorf("file %d: %v", i, err)
		}
		if size := p.Manifest().Files[i].Size; size > parcel.MaxFile || size != uint64(len(files[i])) || bytes.Contains(files[i], []byte("first")) {
			t.Errorf("file %d: %d bytes", i, size)
		}
		back, err := p.SealReceipts(i, []byte("receipts"))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := p.OpenReceipts(i, back, s.reply); err != nil || string(got) != "receipts" {
			t.Errorf("receipts %d: %s, %v", i, got, err)
		}
		if _, err := p.OpenReceipts((i+1)%len(bodies), back, s.reply); !errors.Is(err, parcel.ErrSealed) {
			t.Errorf("receipts of file %d at the next: %v", i, err)
		}
		if _, err := p.OpenReceipts(i, back, s.registry); !errors.Is(err, parcel.ErrKey) {
			t.Errorf("receipts with another key: %v", err)
		}
	}
	if len(files[0]) != len(files[2]) {
		t.Errorf("five bytes and none are told apart: %d, %d", len(files[0]), len(files[2]))
	}
}

// The manifest tells no record's id.
func TestManifestTellsNoIDs(t *testing.T) {
	s := newSender(t)
	m := parcel.Manifest{Context: s.context()}
	id := sha256.Sum256([]byte("record"))
	if _, err := m.Add(s.registry.Public(), []byte("body"), [][32]byte{id}); err != nil {
		t.Fatal(err)
	}
	again := parcel.Manifest{Context: s.context()}
	if _, err := again.Add(s.registry.Public(), []byte("body"), [][32]byte{id}); err != nil {
		t.Fatal(err)
	}
	if m.Files[0].Items[0] == id || m.Files[0].Items[0] == again.Files[0].Items[0] {
		t.Error("one record is known again on two drives")
	}
	p := s.verify(t, s.sign(t, m))
	for name, ids := range map[string][][32]byte{"another": {{9}}, "none": {}, "one too many": {id, {9}}, "twice": {id, id}} {
		if err := p.CheckItems(0, ids); !errors.Is(err, parcel.ErrForm) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := p.CheckItems(1, [][32]byte{id}); !errors.Is(err, parcel.ErrForm) {
		t.Errorf("no such file: %v", err)
	}
}

func TestEveryByteFlipped(t *testing.T) {
	s := newSender(t)
	signed, files := s.export(t, "a body")
	for i := range signed {
		for _, bit := range []byte{1, 0x80} {
			b := bytes.Clone(signed)
			b[i] ^= bit
			if _, err := parcel.Verify(b, s.is); err == nil {
				t.Fatalf("manifest with byte %d changed", i)
			}
		}
	}
	p := s.verify(t, signed)
	for i := 0; i < len(files[0]); i += 7 {
		b := bytes.Clone(files[0])
		b[i] ^= 1
		if _, err := p.Open(0, b, []parcel.PrivateKey{s.registry}); !errors.Is(err, parcel.ErrDamaged) {
			t.Fatalf("file with byte %d changed: %v", i, err)
		}
		// And were the hash right, too:
		m := p.Manifest()
		m.Files = []parcel.File{{SHA256: sha256.Sum256(b), Size: uint64(len(b)), Items: m.Files[0].Items}}
		if i%21 == 0 {
			if _, err := s.verify(t, s.sign(t, m)).Open(0, b, []parcel.PrivateKey{s.registry}); !errors.Is(err, parcel.ErrSealed) {
				t.Fatalf("file with byte %d changed and signed: %v", i, err)
			}
		}
	}
	for n := range files[0] {
		if n%97 == 0 && p.CheckFile(0, files[0][:n]) == nil {
			t.Fatalf("file cut to %d bytes", n)
		}
	}
	back, err := p.SealReceipts(0, []byte("receipts"))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(back); i += 7 {
		b := bytes.Clone(back)
		b[i] ^= 1
		if _, err := p.OpenReceipts(0, b, s.reply); !errors.Is(err, parcel.ErrSealed) {
			t.Fatalf("receipts with byte %d changed: %v", i, err)
		}
	}
	for _, n := range []int{0, 1, 1119, 1120, 1121, 1136, len(back) - 1} {
		if _, err := p.OpenReceipts(0, back[:n], s.reply); !errors.Is(err, parcel.ErrSealed) {
			t.Errorf("receipts cut to %d bytes: %v", n, err)
		}
	}
}

// A file opens in its own place of its own export only, even where the kiosk
// itself signs otherwise.
func TestFilesAreNotSwapped(t *testing.T) {
	s := newSender(t)
	signed, files := s.export(t, "one", "two")
	p := s.verify(t, signed)
	if _, err := p.Open(0, files[1], []parcel.PrivateKey{s.registry}); !errors.Is(err, parcel.ErrDamaged) {
		t.Errorf("the other's place: %v", err)
	}
	keys := []parcel.PrivateKey{s.registry}
	m := p.Manifest()
	m.Files = []parcel.File{m.Files[1], m.Files[0]}
	if _, err := s.verify(t, s.sign(t, m)).Open(0, files[1], keys); !errors.Is(err, parcel.ErrSealed) {
		t.Errorf("the other's place, signed: %v", err)
	}
	for name, change := range map[string]func(*parcel.Context){
		"kiosk":    func(c *parcel.Context) { c.KioskID = "KIOSK-0002" },
		"audience": func(c *parcel.Context) { c.Audience = "other.example/log" },
		"time":     func(c *parcel.Context) { c.Time = c.Time.Add(time.Second) },
		"policy":   func(c *parcel.Context) { c.PolicyDigest[0]++ },
		"nonce":    func(c *parcel.Context) { c.Nonce[0]++ },
		"reply":    func(c *parcel.Context) { c.Reply = newKey(t).Public() },
	} {
		m := p.Manifest()
		change(&m.Context)
		other, err := parcel.Verify(s.sign(t, m), func(string, crypto.PublicKey) error { return nil })
		if err != nil {
			t.Fatal(err)
		}
		if _, err := other.Open(0, files[0], keys); !errors.Is(err, parcel.ErrSealed) {
			t.Errorf("another %s: %v", name, err)
		}
	}
	if _, err := p.Open(0, files[0], []parcel.PrivateKey{newKey(t)}); !errors.Is(err, parcel.ErrKey) {
		t.Errorf("a key that is not here: %v", err)
	}
	for _, n := range []int{-1, 2} {
		if _, err := p.Open(n, files[0], keys); !errors.Is(err, parcel.ErrForm) {
			t.Errorf("file %d: %v", n, err)
		}
		if _, err := p.SealReceipts(n, nil); !errors.Is(err, parcel.ErrForm) {
			t.Errorf("receipts %d: %v", n, err)
		}
	}
}

func TestStrangersManifests(t *testing.T) {
	s := newSender(t)
	signed, _ := s.export(t, "body")
	other := s
	other.record = newDevice(t)
	foreign, _ := other.export(t, "body")
	if _, err := parcel.Verify(foreign, s.is); !errors.Is(err, errStranger) {
		t.Errorf("another key under this kiosk's name: %v", err)
	}
	// The kiosk's own signature over something else.
	payload, err := record.VerifyCompact(signed, parcel.Type, func(crypto.PublicKey) bool { return true })
	if err != nil {
		t.Fatal(err)
	}
	for _, typ := range []string{"enrollkiosk-activity+jws", "JWT", ""} {
		b, err := record.SignCompact(t.Context(), typ, payload, s.record)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := parcel.Verify(b, s.is); !errors.Is(err, parcel.ErrSigner) {
			t.Errorf("typ %q: %v", typ, err)
		}
	}
	for name, b := range map[string][]byte{"space": append([]byte(" "), payload...), "member": bytes.Replace(payload, []byte(`"version":1`), []byte(`"version":1,"more":1`), 1),
		"nothing": {}, "number": []byte("1")} {
		signed, err := record.SignCompact(t.Context(), parcel.Type, b, s.record)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := parcel.Verify(signed, s.is); !errors.Is(err, parcel.ErrForm) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := parcel.Verify(make([]byte, parcel.MaxManifest+1), s.is); !errors.Is(err, parcel.ErrForm) {
		t.Errorf("too large: %v", err)
	}
	var zero parcel.Signed
	if zero.Valid() || zero.CheckFile(0, nil) == nil || zero.CheckItems(0, nil) == nil {
		t.Error("the zero value holds something")
	}
}

func TestManifestForm(t *testing.T) {
	s := newSender(t)
	file := parcel.File{SHA256: [32]byte{1}, Size: 1, Items: [][32]byte{{1}}}
	many := func(n int) (out []parcel.File) {
		for i := range n {
			out = append(out, parcel.File{SHA256: [32]byte{byte(i), 1}, Size: parcel.MaxFile, Items: make([][32]byte, parcel.MaxItems)})
		}
		return out
	}
	largest := parcel.Manifest{Context: s.context(), Files: many(parcel.MaxFiles)}
	if b := s.sign(t, largest); len(b) > parcel.MaxManifest {
		t.Errorf("the largest has %d bytes", len(b))
	}
	for name, change := range map[string]func(*parcel.Manifest){
		"version":        func(m *parcel.Manifest) { m.Context.Version = 2 },
		"no kiosk":       func(m *parcel.Manifest) { m.Context.KioskID = "" },
		"odd kiosk":      func(m *parcel.Manifest) { m.Context.KioskID = "a b" },
		"long audience":  func(m *parcel.Manifest) { m.Context.Audience = strings.Repeat("a", 256) },
		"no key":         func(m *parcel.Manifest) { m.Context.KeyID = "" },
		"no time":        func(m *parcel.Manifest) { m.Context.Time = time.Time{} },
		"no policy":      func(m *parcel.Manifest) { m.Context.PolicyDigest = [32]byte{} },
		"no nonce":       func(m *parcel.Manifest) { m.Context.Nonce = [32]byte{} },
		"no reply key":   func(m *parcel.Manifest) { m.Context.Reply = parcel.Key{} },
		"misnamed reply": func(m *parcel.Manifest) { m.Context.Reply.ID += "x" },
		"no files":       func(m *parcel.Manifest) { m.Files = nil },
		"many files":     func(m *parcel.Manifest) { m.Files = many(parcel.MaxFiles + 1) },
		"large file":     func(m *parcel.Manifest) { m.Files[0].Size = parcel.MaxFile + 1 },
		"no items":       func(m *parcel.Manifest) { m.Files[0].Items = nil },
		"many items":     func(m *parcel.Manifest) { m.Files[0].Items = make([][32]byte, parcel.MaxItems+1) },
		"named twice":    func(m *parcel.Manifest) { m.Files = []parcel.File{file, file} },
	} {
		m := parcel.Manifest{Context: s.context(), Files: []parcel.File{file}}
		change(&m)
		if _, err := parcel.Sign(t.Context(), m, s.record); !errors.Is(err, parcel.ErrForm) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAddRefuses(t *testing.T) {
	s := newSender(t)
	m := parcel.Manifest{Context: s.context()}
	one := [][32]byte{{1}}
	if _, err := m.Add(newKey(t).Public(), nil, one); !errors.Is(err, parcel.ErrKey) {
		t.Errorf("another key: %v", err)
	}
	for name, ids := range map[string][][32]byte{"none": nil, "many": make([][32]byte, parcel.MaxItems+1)} {
		if _, err := m.Add(s.registry.Public(), nil, ids); !errors.Is(err, parcel.ErrSize) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := m.Add(s.registry.Public(), make([]byte, parcel.MaxPlain+1), one); !errors.Is(err, parcel.ErrSize) {
		t.Errorf("too large: %v", err)
	}
	if len(m.Files) != 0 {
		t.Errorf("%d files", len(m.Files))
	}
}

func TestKeys(t *testing.T) {
	k := newKey(t)
	text, err := k.Text()
	if err != nil {
		t.Fatal(err)
	}
	again, err := parcel.ParseKey(text)
	if err != nil || again.Public().ID != k.Public().ID {
		t.Errorf("read back: %v", err)
	}
	for _, format := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d"} {
		if shown := fmt.Sprintf(format, k) + fmt.Sprintf(format, struct{ k parcel.PrivateKey }{k}); strings.Contains(shown, string(text.Reveal()[:16])) {
			t.Errorf("%s shows %s", format, shown)
		}
	}
	if b, err := json.Marshal(k); err == nil {
		t.Errorf("marshalled to %s", b)
	}
	for _, bad := range []string{"", "00", strings.Repeat("0", 63), strings.Repeat("g", 64)} {
		if _, err := parcel.ParseKey(secret.FromString(bad)); err == nil {
			t.Errorf("%q is a key", bad)
		}
	}
	p := k.Public()
	p.Public = slices.Clone(p.Public)
	p.Public[0] ^= 1
	if err := p.Check(); !errors.Is(err, parcel.ErrForm) {
		t.Errorf("another key under an id: %v", err)
	}
	if _, err := (parcel.PrivateKey{}).Text(); !errors.Is(err, parcel.ErrKey) {
		t.Errorf("the zero value: %v", err)
	}
}

// FuzzVerify: what is accepted is canonical, in form, and re-encodes to the input.
func FuzzVerify(f *testing.F) {
	s := newSender(f)
	signed, _ := s.export(f, "one", "two")
	f.Add(signed)
	f.Add([]byte("e30.e30.e30"))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := parcel.Verify(b, func(string, crypto.PublicKey) error { return nil })
		if err != nil {
			if p.Valid() || !errors.Is(err, parcel.ErrForm) && !errors.Is(err, parcel.ErrSigner) {
				t.Errorf("%v", err)
			}
			return
		}
		if err := p.Manifest().Check(); err != nil {
			t.Error(err)
		}
	})
}

// FuzzUnpad: what is accepted is what Pad writes. Inputs are filled up to a block,
// or nearly none would be of the right length.
func FuzzUnpad(f *testing.F) {
	f.Add(parcel.Pad([]byte("body"))[:8], false)
	f.Add([]byte{0, 0, 0x3f, 0xfc}, false)
	f.Add([]byte{0xff, 0xff, 0xff, 0xff}, false)
	f.Add([]byte{0, 0, 0}, true)
	f.Fuzz(func(t *testing.T, b []byte, exact bool) {
		if !exact {
			b = append(b, make([]byte, -len(b)&(16<<10-1))...)
		}
		body, err := parcel.Unpad(b)
		if err == nil && !bytes.Equal(parcel.Pad(body), b) || err != nil && !errors.Is(err, parcel.ErrSealed) {
			t.Errorf("%d bytes, %v", len(body), err)
		}
	})
}

func TestUnpadRefuses(t *testing.T) {
	for name, b := range map[string][]byte{
		"nothing":         {},
		"no block":        {0, 0, 0, 0},
		"longer than all": append([]byte{0, 0, 0x3f, 0xfd}, make([]byte, 16<<10-4)...),
		"a whole block":   make([]byte, 32<<10),
		"padding":         append(make([]byte, 16<<10-1), 1),
	} {
		if body, err := parcel.Unpad(b); !errors.Is(err, parcel.ErrSealed) {
			t.Errorf("%s: %d bytes, %v", name, len(body), err)
		}
	}
}
