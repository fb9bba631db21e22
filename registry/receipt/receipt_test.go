package receipt_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/transparency-dev/formats/log"
	"github.com/transparency-dev/merkle/rfc6962"
	"github.com/transparency-dev/merkle/testonly"
	"golang.org/x/mod/sumdb/note"

	"enrollkiosk/registry/checkpoint"
	"enrollkiosk/registry/receipt"
	"enrollkiosk/registry/record"
)

const origin = "registry.example/log"

var (
	blind = sha256.Sum256([]byte("blind"))
	id    = sha256.Sum256([]byte("record"))
)

// publicLog is a small log with its key.
type publicLog struct {
	tree   *testonly.Tree
	signer note.Signer
	vkey   string
}

func newLog(t testing.TB, name string) *publicLog {
	t.Helper()
	skey, vkey, err := note.GenerateKey(rand.Reader, name)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := note.NewSigner(skey)
	if err != nil {
		t.Fatal(err)
	}
	return &publicLog{testonly.New(rfc6962.DefaultHasher), signer, vkey}
}

func (l *publicLog) log() checkpoint.Log { return checkpoint.Log{Key: l.vkey} }

func (l *publicLog) checkpoint(t testing.TB, extension string, also ...note.Signer) []byte {
	t.Helper()
	text := string(log.Checkpoint{Origin: l.signer.Name(), Size: l.tree.Size(), Hash: l.tree.Hash()}.Marshal()) + extension
	signed, err := note.Sign(&note.Note{Text: text}, append([]note.Signer{l.signer}, also...)...)
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

func (l *publicLog) path(t testing.TB, index uint64) (out [][32]byte) {
	t.Helper()
	path, err := l.tree.InclusionProof(index, l.tree.Size())
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range path {
		out = append(out, [32]byte(h))
	}
	return out
}

// logged returns a log of n leaves with the record at index.
func logged(t testing.TB, index, n uint64) *publicLog {
	l := newLog(t, origin)
	for i := range n {
		entry := sha256.Sum256([]byte{byte(i)})
		if i == index {
			entry = receipt.Leaf(blind, id)
		}
		l.tree.AppendData(entry[:])
	}
	return l
}

func TestFinalReceipt(t *testing.T) {
	for n := uint64(1); n <= 9; n++ {
		for index := range n {
			l := logged(t, index, n)
			text := receipt.Build(index, l.path(t, index), l.checkpoint(t, ""), blind, id)
			f, err := receipt.Verify(text, l.log(), id)
			if err != nil {
				t.Fatalf("leaf %d of %d: %v", index, n, err)
			}
			if !f.Valid() || f.Index() != index || f.Size() != n || f.Origin() != origin || !bytes.Equal(f.Bytes(), text) || !bytes.Contains(text, f.Checkpoint().Bytes()) || f.Checkpoint().Size() != n {
				t.Errorf("leaf %d of %d: %d, %d, %s", index, n, f.Index(), f.Size(), f.Origin())
			}
		}
	}
}

func TestEveryByteOfAReceiptMatters(t *testing.T) {
	l := logged(t, 4, 7)
	good := receipt.Build(4, l.path(t, 4), l.checkpoint(t, ""), blind, id)
	head, err := l.log().Open(l.checkpoint(t, ""))
	if err != nil {
		t.Fatal(err)
	}
	if f, err := receipt.VerifyUnder(good, head, id); err != nil || f.Index() != 4 || f.Checkpoint() != head || !bytes.Equal(f.Bytes(), good) {
		t.Fatalf("%+v, %v", f, err)
	}
	if _, err := receipt.VerifyUnder(good, checkpoint.Checkpoint{}, id); !errors.Is(err, receipt.ErrSignature) {
		t.Errorf("under no checkpoint: %v", err)
	}
	for i := range good {
		for bit := range 8 {
			bad := bytes.Clone(good)
			bad[i] ^= 1 << bit
			if _, err := receipt.Verify(bad, l.log(), id); !typed(err) {
				t.Fatalf("byte %d, %q for %q: %v", i, bad[i], good[i], err)
			}
			if _, err := receipt.VerifyUnder(bad, head, id); !typed(err) {
				t.Fatalf("byte %d, %q for %q, under its checkpoint: %v", i, bad[i], good[i], err)
			}
		}
		if _, err := receipt.Verify(good[:i], l.log(), id); !typed(err) {
			t.Fatalf("cut at %d: %v", i, err)
		}
	}
}

func typed(err error) bool {
	for _, want := range []error{receipt.ErrForm, receipt.ErrSignature, receipt.ErrWitnesses, receipt.ErrRecord, receipt.ErrInclusion} {
		if errors.Is(err, want) {
			return true
		}
	}
	return false
}

func TestForgedReceipts(t *testing.T) {
	l := logged(t, 4, 7)
	path, signed := l.path(t, 4), l.checkpoint(t, "")
	good := string(receipt.Build(4, path, signed, blind, id))
	otherID, otherBlind := sha256.Sum256([]byte("other")), sha256.Sum256([]byte("other blind"))
	foreign := newLog(t, origin) // same name, another key
	stranger := newLog(t, "other.example/log")
	elsewhere := logged(t, 4, 7)
	crlf := strings.ReplaceAll(good, "\n", "\r\n")
	for name, c := range map[string]struct {
		text, vkey string
		id         [32]byte
		want       error
	}{
		"another record asked for": {good, l.vkey, otherID, receipt.ErrRecord},
		"id exchanged":             {string(receipt.Build(4, path, signed, blind, otherID)), l.vkey, otherID, receipt.ErrInclusion},
		"blind exchanged":          {string(receipt.Build(4, path, signed, otherBlind, id)), l.vkey, id, receipt.ErrInclusion},
		"another index":            {string(receipt.Build(5, path, signed, blind, id)), l.vkey, id, receipt.ErrInclusion},
		"index beyond the log":     {string(receipt.Build(7, path, signed, blind, id)), l.vkey, id, receipt.ErrInclusion},
		"proof cut":                {string(receipt.Build(4, path[1:], signed, blind, id)), l.vkey, id, receipt.ErrInclusion},
		"proof longer":             {string(receipt.Build(4, append(path, path[0]), signed, blind, id)), l.vkey, id, receipt.ErrInclusion},
		"no proof":                 {string(receipt.Build(4, nil, signed, blind, id)), l.vkey, id, receipt.ErrInclusion},
		"foreign log's checkpoint": {string(receipt.Build(4, path, elsewhere.checkpoint(t, ""), blind, id)), l.vkey, id, receipt.ErrSignature},
		"foreign key, same name":   {good, foreign.vkey, id, receipt.ErrSignature},
		"foreign log's key":        {good, stranger.vkey, id, receipt.ErrSignature},
		"no key":                   {good, "", id, receipt.ErrForm},
		"extension line":           {string(receipt.Build(4, path, l.checkpoint(t, "extra line\n"), blind, id)), l.vkey, id, receipt.ErrForm},
		"CRLF":                     {crlf, l.vkey, id, receipt.ErrForm},
		"no extra":                 {strings.Replace(good, "extra ", "extra", 1), l.vkey, id, receipt.ErrForm},
		"short extra":              {strings.Replace(good, good[strings.Index(good, "extra ")+6:strings.Index(good, "\nindex")], "AAAA", 1), l.vkey, id, receipt.ErrForm},
		"trailing line":            {good + "\n", l.vkey, id, receipt.ErrSignature},
		"leading line":             {"\n" + good, l.vkey, id, receipt.ErrForm},
		"+ in index":               {strings.Replace(good, "index 4", "index +4", 1), l.vkey, id, receipt.ErrForm},
		"0 in index":               {strings.Replace(good, "index 4", "index 04", 1), l.vkey, id, receipt.ErrForm},
		"too large":                {good + strings.Repeat("A", receipt.MaxSize), l.vkey, id, receipt.ErrForm},
		"empty":                    {"", l.vkey, id, receipt.ErrForm},
		"login page":               {"<html>please sign in</html>", l.vkey, id, receipt.ErrForm},
	} {
		f, err := receipt.Verify([]byte(c.text), checkpoint.Log{Key: c.vkey}, c.id)
		if !errors.Is(err, c.want) || f.Valid() {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

func TestLeafVector(t *testing.T) {
	want := sha256.Sum256([]byte("enrollkiosk/leaf/v1" + string(blind[:]) + string(id[:])))
	if receipt.Leaf(blind, id) != want || receipt.Leaf(id, blind) == want {
		t.Error("leaf")
	}
}

type device struct{ *ecdsa.PrivateKey }

func (d device) Public() crypto.PublicKey { return d.PrivateKey.Public() }
func (d device) Sign(_ context.Context, digest []byte) ([]byte, error) {
	return d.PrivateKey.Sign(rand.Reader, digest, crypto.SHA256)
}

func newDevice(t testing.TB) (device, record.JWK) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	jwk, err := record.NewJWK(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return device{key}, jwk
}

var now = time.Date(2026, 11, 20, 9, 30, 0, 0, time.UTC)

func TestProvisional(t *testing.T) {
	kiosk, key := newDevice(t)
	_, other := newDevice(t)
	p := receipt.Provisional{Record: id, Audience: origin, Kiosk: "kiosk-7", Sequence: 42, Time: now, Claim: "QX7-93K"}
	b, err := receipt.SignProvisional(t.Context(), p, kiosk)
	if err != nil {
		t.Fatal(err)
	}
	v, err := receipt.VerifyProvisional(b, record.AcceptAny(key))
	if err != nil || !v.Valid() || !reflect.DeepEqual(v.Claims(), p) || !bytes.Equal(v.Bytes(), b) {
		t.Fatalf("%v, %+v", err, v.Claims())
	}
	if _, err := receipt.VerifyProvisional(b, record.AcceptAny(other)); !errors.Is(err, receipt.ErrSignature) {
		t.Errorf("another kiosk: %v", err)
	}
	everyByte(t, b, func(b []byte) error {
		_, err := receipt.VerifyProvisional(b, record.AcceptAny(key))
		return err
	})
}

func everyByte(t *testing.T, good []byte, check func([]byte) error) {
	t.Helper()
	for i := range good {
		for _, flip := range []byte{1, 0x20, 0x80} {
			bad := bytes.Clone(good)
			bad[i] ^= flip
			if err := check(bad); !typed(err) {
				t.Fatalf("byte %d, %q for %q: %v", i, bad[i], good[i], err)
			}
		}
		if err := check(good[:i]); !typed(err) {
			t.Fatalf("cut at %d: %v", i, err)
		}
	}
}

func TestVerdicts(t *testing.T) {
	registry, registryKey := newDevice(t)
	vault, vaultKey := newDevice(t)
	verify := func(b []byte, id [32]byte) error {
		_, err := receipt.VerifyVerdict(b, []record.JWK{registryKey}, []record.JWK{vaultKey}, id)
		return err
	}
	active := receipt.Verdict{Record: id, DID: "did:key:zDn", Status: receipt.Active, Time: now}
	refused := receipt.Verdict{Record: id, DID: "did:key:zDn", Status: receipt.Refused, Code: "vault-review", Time: now}
	rejected := receipt.Verdict{Record: id, Status: receipt.Rejected, Code: "record-signature", Time: now}
	suspended := receipt.Verdict{Record: id, DID: "did:key:zDn", Status: receipt.Suspended, Code: "registry-cancelled", Time: now}
	revoked := receipt.Verdict{Record: id, DID: "did:key:zDn", Status: receipt.Revoked, Code: "registry-revoked", Time: now}
	second := receipt.Verdict{Record: id, DID: "did:key:zDn", Status: receipt.Active, Time: now, Supersedes: blind}
	sign := func(v receipt.Verdict, by device) []byte {
		b, err := receipt.SignVerdict(t.Context(), v, by)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	for name, c := range map[string]struct {
		b    []byte
		want error
	}{
		"active by vault":      {sign(active, vault), nil},
		"refused by vault":     {sign(refused, vault), nil},
		"rejected by registry": {sign(rejected, registry), nil},
		"active by registry":   {sign(active, registry), receipt.ErrSignature},
		"refused by registry":  {sign(refused, registry), receipt.ErrSignature},
		"rejected by vault":    {sign(rejected, vault), receipt.ErrSignature},

		"suspended by registry":  {sign(suspended, registry), nil},
		"revoked by registry":    {sign(revoked, registry), nil},
		"suspended by vault":     {sign(suspended, vault), receipt.ErrSignature},
		"revoked by vault":       {sign(revoked, vault), receipt.ErrSignature},
		"superseding by vault":   {sign(second, vault), nil},
		"superseding by another": {sign(second, registry), receipt.ErrSignature},
	} {
		if err := verify(c.b, id); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	if err := verify(sign(rejected, registry), blind); !errors.Is(err, receipt.ErrRecord) {
		t.Errorf("another record's rejection: %v", err)
	}
	stranger, _ := newDevice(t)
	if err := verify(sign(rejected, stranger), id); !errors.Is(err, receipt.ErrSignature) {
		t.Errorf("a stranger's rejection: %v", err)
	}
	for _, bad := range []receipt.Verdict{
		{Record: id, Status: receipt.Active, Time: now},
		{Record: id, Status: receipt.Active, DID: "d", Code: "c", Time: now},
		{Record: id, Status: receipt.Rejected, Time: now},
		{Record: id, Status: "maybe", Code: "c", Time: now},
		{Record: id, Status: receipt.Suspended, Code: "c", Time: now},
		{Record: id, Status: receipt.Revoked, DID: "d", Time: now},
		{Record: id, Status: receipt.Revoked, DID: "d", Code: "c", Time: now, Supersedes: blind},
		{Record: id, Status: receipt.Rejected, Code: "c", Time: now, Supersedes: blind},
	} {
		if _, err := receipt.SignVerdict(t.Context(), bad, vault); !errors.Is(err, receipt.ErrForm) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
	everyByte(t, sign(active, vault), func(b []byte) error { return verify(b, id) })
}

// A statement of one kind is none of another, whoever signed it.
func TestStatementsDoNotStandInForOneAnother(t *testing.T) {
	key, jwk := newDevice(t)
	keys := []record.JWK{jwk}
	clock, err := receipt.SignTime(t.Context(), receipt.Time{Audience: origin, Time: now}, key)
	if err != nil {
		t.Fatal(err)
	}
	if v, err := receipt.VerifyTime(clock, keys, origin); err != nil || !v.Claims().Time.Equal(now) {
		t.Errorf("time: %v", err)
	}
	if _, err := receipt.VerifyTime(clock, keys, "other.example/log"); !errors.Is(err, receipt.ErrSignature) {
		t.Errorf("another registry's time: %v", err)
	}
	if _, err := receipt.VerifyTime(clock, nil, origin); !errors.Is(err, receipt.ErrSignature) {
		t.Errorf("no trusted keys: %v", err)
	}
	if _, err := receipt.VerifyProvisional(clock, record.AcceptAny(jwk)); !errors.Is(err, receipt.ErrSignature) {
		t.Errorf("time as provisional receipt: %v", err)
	}
	if _, err := receipt.VerifyVerdict(clock, keys, keys, id); !errors.Is(err, receipt.ErrSignature) {
		t.Errorf("time as verdict: %v", err)
	}
	// Right typ and key, but a lenient payload.
	for _, payload := range []string{
		`{"audience":"registry.example/log", "time":"2026-11-20T09:30:00Z"}`,
		`{"time":"2026-11-20T09:30:00Z","audience":"registry.example/log"}`,
		`{"audience":"registry.example/log","time":"2026-11-20T09:30:00Z","x":1}`,
		`{"Audience":"registry.example/log","time":"2026-11-20T09:30:00Z"}`,
	} {
		b, err := record.SignCompact(t.Context(), receipt.TimeType, []byte(payload), key)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := receipt.VerifyTime(b, keys, origin); !errors.Is(err, receipt.ErrForm) {
			t.Errorf("%s: %v", payload, err)
		}
	}
}

func TestCompactFormIsStrict(t *testing.T) {
	key, jwk := newDevice(t)
	good, err := receipt.SignTime(t.Context(), receipt.Time{Audience: origin, Time: now}, key)
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(string(good), ".")
	b64 := base64.RawURLEncoding
	header, _ := b64.DecodeString(parts[0])
	resign := func(header string) string {
		input := b64.EncodeToString([]byte(header)) + "." + parts[1]
		digest := sha256.Sum256([]byte(input))
		r, s, err := ecdsa.Sign(rand.Reader, key.PrivateKey, digest[:])
		if err != nil {
			t.Fatal(err)
		}
		return input + "." + b64.EncodeToString(append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...))
	}
	if _, err := receipt.VerifyTime([]byte(resign(string(header))), []record.JWK{jwk}, origin); err != nil {
		t.Fatalf("the test cannot sign: %v", err)
	}
	for name, text := range map[string]string{
		"header with space":  resign(strings.Replace(string(header), ",", ", ", 1)),
		"header with crit":   resign(strings.Replace(string(header), `{"alg"`, `{"crit":["b64"],"alg"`, 1)),
		"header with role":   resign(strings.Replace(string(header), `,"jwk"`, `,"role":"kiosk","jwk"`, 1)),
		"header without key": resign(`{"alg":"ES256","typ":"` + receipt.TimeType + `"}`),
		"alg none":           resign(strings.Replace(string(header), "ES256", "none", 1)),
		"four parts":         string(good) + ".",
		"two parts":          parts[0] + "." + parts[1],
		"newline":            string(good) + "\n",
		"no signature":       parts[0] + "." + parts[1] + ".",
		"padding":            string(good) + "==",
		"JSON":               `{"payload":"` + parts[1] + `"}`,
	} {
		if _, err := receipt.VerifyTime([]byte(text), []record.JWK{jwk}, origin); !typed(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestZeroValues(t *testing.T) {
	var f receipt.Final
	var v receipt.Verified[receipt.Verdict]
	if f.Valid() || f.Bytes() != nil || f.Index() != 0 || f.Size() != 0 || f.Origin() != "" || f.Checkpoint().Valid() || v.Valid() {
		t.Error("a zero value passes")
	}
	for _, x := range []any{f, v} {
		for field := range reflect.TypeOf(x).Fields() {
			if field.IsExported() {
				t.Errorf("%T.%s can be forged", x, field.Name)
			}
		}
	}
}

func example(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile("../record/testdata/example/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func FuzzVerify(f *testing.F) {
	r, err := record.Parse(example(f, "record.json"))
	if err != nil {
		f.Fatal(err)
	}
	vkey := strings.TrimSpace(string(example(f, "log.vkey")))
	good := example(f, "receipt.tlog-proof")
	f.Add(good)
	f.Fuzz(func(t *testing.T, b []byte) {
		final, err := receipt.Verify(b, checkpoint.Log{Key: vkey}, r.ID())
		if err != nil && !typed(err) {
			t.Fatalf("untyped: %v", err)
		}
		// Witnesses may add lines at the end; nothing else may differ.
		if err == nil && (!bytes.HasPrefix(b, good[:bytes.LastIndex(good, []byte("\n\n"))]) || final.Index() != 4) {
			t.Errorf("another receipt passes: %q", b)
		}
	})
}
