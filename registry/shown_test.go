package registry_test

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/transparency-dev/merkle/rfc6962"
	"golang.org/x/mod/sumdb/note"

	"enrollkiosk/registry"
	"enrollkiosk/registry/api"
	"enrollkiosk/registry/internal/registrytest"
	"enrollkiosk/registry/receipt"
	"enrollkiosk/registry/record"
	"enrollkiosk/simulators/idcard"
)

// provisional is the receipt that a kiosk gives at once.
func provisional(t testing.TB, k *registrytest.Kiosk, id [32]byte, by record.Signer, edit func(*receipt.Provisional)) string {
	t.Helper()
	p := receipt.Provisional{Record: id, Audience: k.World.Policy.Policy().LogOrigin, Kiosk: k.ID, Sequence: k.Sequence,
		Time: time.Now().UTC().Truncate(time.Second), Claim: "AAAAAAAAAAAAAAAA"}
	if edit != nil {
		edit(&p)
	}
	b, err := receipt.SignProvisional(t.Context(), p, by)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// shows has a kiosk show a receipt that the registry must tell about.
func (c client) shows(text string) api.RecordStatus {
	c.t.Helper()
	status, b := c.do(http.MethodPost, api.PathReceipts, api.MediaJSON, encoded(c.t, api.ReceiptQuery{Receipt: text}))
	got, err := api.Decode[api.RecordStatus](bytes.NewReader(b))
	if status != http.StatusOK || err != nil {
		c.t.Fatalf("shown: %d %s: %v", status, b, err)
	}
	return got
}

// showsInVain has a kiosk show a receipt of which nothing is told. It returns the
// answer's body, and how long that took.
func (c client) showsInVain(text string) (string, time.Duration) {
	c.t.Helper()
	began := time.Now()
	status, b := c.do(http.MethodPost, api.PathReceipts, api.MediaJSON, encoded(c.t, api.ReceiptQuery{Receipt: text}))
	if status != http.StatusNotFound {
		c.t.Errorf("of %.40q it is told: %d %s", text, status, b)
	}
	return string(b), time.Since(began)
}

// What has become of a record is told at every kiosk to whoever shows its receipt, of
// either kind: what the kiosk that sent it is told, but for the receipt. The citizen
// gets another key there, and nobody else does.
func TestReceiptAtAnotherKiosk(t *testing.T) {
	t.Parallel()
	w := registrytest.New(t, specimenState(t).CSCA())
	w.Accept(t, "", nil)
	vault, _ := serveVault(t, w, "127.0.0.1:0")
	r := serve(t, w.RegistryOptions(vault))
	k, other := w.Kiosk(t, "KIOSK-0001"), w.Kiosk(t, "KIOSK-0002")
	c, away := connect(t, w, r.URL, k.TLS), connect(t, w, r.URL, other.TLS)
	holder, person := registrytest.NewDevice(t), idcard.SpecimenPerson()
	code := [16]byte{4, 2}
	s := k.Make(t, registrytest.Spec{Holder: &holder, Identity: identityOf(t, person), Payload: withCode(code)})
	paper := provisional(t, k, s.ID(), k.Record, nil)
	c.send(s)
	c.until(s.ID(), "verdict", isDecided)
	own := c.until(s.ID(), "receipt", hasReceipt)
	if own.Status != api.Active {
		t.Fatalf("%+v", own)
	}
	told := own
	told.Receipt = ""
	for name, text := range map[string]string{"final": own.Receipt, "provisional": paper} {
		if got := away.shows(text); got != told {
			t.Errorf("%s: %+v, its kiosk is told %+v", name, got, told)
		}
	}
	// A rejected record: its kiosk gave a provisional receipt for it.
	bad := k.Make(t, registrytest.Spec{Payload: func(p *record.Payload) { p.Purposes[0].ID = "other" }})
	c.rejected(w, item(bad), api.CodePolicy)
	if got := away.shows(provisional(t, k, bad.ID(), k.Record, nil)); got.Status != api.Rejected || got.Verdict == "" {
		t.Errorf("rejected: %+v", got)
	}
	standing := func() receipt.Verdict {
		t.Helper()
		v, err := receipt.VerifyVerdict([]byte(away.shows(own.Receipt).Standing), w.Policy.Policy().VerdictKeys.Registry, nil, s.ID())
		if err != nil || v.Claims().DID != didOf(t, holder) {
			t.Fatal(err)
		}
		return v.Claims()
	}
	cancel(t, connect(t, w, r.URL), record.FormatCancelCode(code))
	if v := standing(); v.Status != receipt.Suspended {
		t.Errorf("%+v", v)
	}
	replace := func(who idcard.Person) api.RecordStatus {
		t.Helper()
		next := registrytest.NewDevice(t)
		spec := registrytest.Lost(didOf(t, holder))
		spec.Holder, spec.Identity = &next, identityOf(t, who)
		s := other.Make(t, spec)
		away.send(s)
		return away.until(s.ID(), "verdict", isDecided)
	}
	// Whoever has found the paper.
	thief := person
	thief.Surname, thief.Number = "OTHER", "Z"+person.Number[1:]
	if got := replace(thief); got.Status != api.Refused {
		t.Errorf("somebody else: %+v", got)
	}
	if v := standing(); v.Status != receipt.Suspended {
		t.Errorf("after somebody else came: %+v", v)
	}
	if got := replace(person); got.Status != api.Active {
		t.Errorf("the citizen: %+v", got)
	}
	if v := standing(); v.Status != receipt.Revoked || v.Code != api.CodeReplaced {
		t.Errorf("%+v", v)
	}
}

// Everything else that can be shown gets one answer, no sooner than after a second:
// it does not tell which records there are, nor whose.
func TestNoReceiptTellsNothing(t *testing.T) {
	t.Parallel()
	w := registrytest.New(t)
	var logged lines
	o := w.RegistryOptions(noVault)
	o.Log = logged.logger()
	r := serve(t, o)
	k, curious, gone := w.Kiosk(t, "KIOSK-0001"), w.Kiosk(t, "KIOSK-0002"), w.Kiosk(t, "KIOSK-0003")
	c, away := connect(t, w, r.URL, k.TLS), connect(t, w, r.URL, curious.TLS)
	s, another, stolen := k.Make(t, registrytest.Spec{}), k.Make(t, registrytest.Spec{}), gone.Make(t, registrytest.Spec{})
	c.send(s)
	c.send(another)
	connect(t, w, r.URL, gone.TLS).send(stolen)
	final := c.until(s.ID(), "receipt", hasReceipt).Receipt
	lost := connect(t, w, r.URL, gone.TLS).until(stolen.ID(), "receipt", hasReceipt).Receipt
	id := s.ID()
	never := sha256.Sum256([]byte("never"))
	swapped := strings.Replace(final, line(final, "extra "), line(c.until(another.ID(), "receipt", hasReceipt).Receipt, "extra "), 1)
	theirs := provisional(t, gone, stolen.ID(), gone.Record, nil)
	if got := away.shows(theirs); got.ID != stolen.ID() {
		t.Fatalf("%+v", got)
	}
	kiosks := registry.KiosksIn(w.RegistryDir())
	if err := kiosks.Revoke(t.Context(), gone.ID, time.Now()); err != nil {
		t.Fatal(err)
	}
	want, _ := away.showsInVain("no receipt")
	var p api.Problem
	if err := json.Unmarshal([]byte(want), &p); err != nil || p.Code != api.CodeReceipt {
		t.Fatalf("%s: %v", want, err)
	}
	for name, text := range map[string]string{
		"an id":                                "eyJ" + api.ID(id).String(),
		"an id, signed by the kiosk that asks": provisional(t, curious, id, curious.Record, nil),
		"in the other kiosk's name":            provisional(t, k, id, curious.Record, nil),
		"by nobody's key":                      provisional(t, k, id, registrytest.NewDevice(t), nil),
		"of no kiosk":                          provisional(t, k, id, k.Record, func(p *receipt.Provisional) { p.Kiosk = "KIOSK-0404" }),
		"another registry's":                   provisional(t, k, id, k.Record, func(p *receipt.Provisional) { p.Audience = "elsewhere.example/log" }),
		"a record that has not come":           provisional(t, k, never, k.Record, nil),
		"another kiosk's record":               provisional(t, k, stolen.ID(), k.Record, nil),
		"a revoked kiosk's":                    theirs,
		"another's number":                     swapped,
		"a proof of another record":            forgedFinal(t, w, never, [32]byte{1}),
		"cut":                                  final[:len(final)-1],
	} {
		if got, took := away.showsInVain(text); got != want || took < time.Second {
			t.Errorf("%s: %s after %v, want %s", name, got, took, want)
		}
	}
	// What a revoked kiosk's record proves by the log it still proves.
	if got := away.shows(lost); got.ID != stolen.ID() {
		t.Errorf("%+v", got)
	}
	// A receipt may be shown again and again, and at its own kiosk.
	for _, at := range []client{away, away, c} {
		if got := at.shows(final); got.ID != id {
			t.Errorf("%+v", got)
		}
	}
	body := encoded(t, api.ReceiptQuery{Receipt: final})
	connect(t, w, r.URL).problem(http.MethodPost, api.PathReceipts, api.MediaJSON, body, http.StatusForbidden, api.CodeNoKiosk)
	connect(t, w, r.URL, gone.TLS).problem(http.MethodPost, api.PathReceipts, api.MediaJSON, body, http.StatusForbidden, api.CodeNoKiosk)
	away.problem(http.MethodPost, api.PathReceipts, api.MediaText, body, http.StatusUnsupportedMediaType, api.CodeMedia)
	away.problem(http.MethodPost, api.PathReceipts, api.MediaJSON, []byte(`{"receipt":""}`), http.StatusBadRequest, api.CodeBadRequest)
	away.problem(http.MethodPost, api.PathReceipts, api.MediaJSON, encoded(t, api.ReceiptQuery{Receipt: strings.Repeat("x", 64<<10)}), http.StatusRequestEntityTooLarge, api.CodeTooLarge)
	// Where people go with their receipts is written down nowhere.
	for _, text := range strings.Split(logged.String(), "\n") {
		if strings.Contains(text, curious.ID) && (strings.Contains(text, api.ID(id).String()) || strings.Contains(text, api.ID(stolen.ID()).String())) {
			t.Errorf("logged: %s", text)
		}
	}
}

// line is the first line of text that begins so.
func line(text, begin string) string {
	all := strings.Split(text, "\n")
	return all[slices.IndexFunc(all, func(l string) bool { return strings.HasPrefix(l, begin) })]
}

// A kiosk that shows receipts without end is told to wait, and the others are served.
func TestShownReceiptsAreLimited(t *testing.T) {
	t.Parallel()
	w := registrytest.New(t)
	r := serve(t, w.RegistryOptions(noVault))
	c, other := connect(t, w, r.URL, w.Kiosk(t, "KIOSK-0001").TLS), connect(t, w, r.URL, w.Kiosk(t, "KIOSK-0002").TLS)
	body := []byte(`{"receipt":""}`) // takes no second
	limited := 0
	for began := time.Now(); limited == 0 && time.Since(began) < time.Minute; {
		for range 20 {
			if status, b := c.do(http.MethodPost, api.PathReceipts, api.MediaJSON, body); status == http.StatusTooManyRequests {
				limited++
				var p api.Problem
				if err := json.Unmarshal(b, &p); err != nil || p.Code != api.CodeTooMany || p.RetryAfter < 1 || p.RetryAfter > 3 {
					t.Errorf("%s: %v", b, err)
				}
			}
		}
	}
	if limited == 0 {
		t.Error("no limit")
	}
	other.problem(http.MethodPost, api.PathReceipts, api.MediaJSON, body, http.StatusBadRequest, api.CodeBadRequest)
}

// No receipt of which a byte is another one is evidence, wherever that byte stands.
func TestEveryByteOfAReceiptCounts(t *testing.T) {
	t.Parallel()
	w := registrytest.New(t)
	r := serve(t, w.RegistryOptions(noVault))
	k := w.Kiosk(t, "KIOSK-0001")
	c := connect(t, w, r.URL, k.TLS)
	s := k.Make(t, registrytest.Spec{})
	c.send(s)
	final := c.until(s.ID(), "receipt", hasReceipt).Receipt
	for name, text := range map[string]string{"final": final, "provisional": provisional(t, k, s.ID(), k.Record, nil)} {
		if id, err := registry.Evidenced(r.Registry, []byte(text)); err != nil || id != s.ID() {
			t.Fatalf("%s: %s, %v", name, id, err)
		}
		for i := range text {
			b := []byte(text)
			b[i] ^= 1
			if id, err := registry.Evidenced(r.Registry, b); !errors.Is(err, registry.ErrShown) {
				t.Errorf("%s: byte %d: %s, %v", name, i, id, err)
			}
		}
	}
}

// Whoever has stolen a key of the log can sign a log with any leaf in it; the record's
// own blind such a receipt does not have.
func TestForgedLogIsNoEvidence(t *testing.T) {
	t.Parallel()
	w := registrytest.New(t)
	r := serve(t, w.RegistryOptions(noVault))
	k := w.Kiosk(t, "KIOSK-0001")
	c := connect(t, w, r.URL, k.TLS)
	s := k.Make(t, registrytest.Spec{})
	c.send(s)
	c.until(s.ID(), "receipt", hasReceipt)
	for name, one := range map[string]struct{ id, blind [32]byte }{"known id": {s.ID(), [32]byte{7}}, "unknown id": {[32]byte{8}, [32]byte{7}}} {
		forged := finalBy(t, registry.LogSigner(r.Registry), one.id, one.blind)
		if _, err := receipt.Verify([]byte(forged), w.Policy.Policy().Log(), one.id); err != nil {
			t.Fatalf("%s: the forged log is not believed: %v", name, err)
		}
		if id, err := registry.Evidenced(r.Registry, []byte(forged)); !errors.Is(err, registry.ErrShown) {
			t.Errorf("%s: %s, %v", name, id, err)
		}
	}
	if id, err := registry.Evidenced(r.Registry, []byte(finalBy(t, registry.LogSigner(r.Registry), s.ID(), s.Record().Payload().Blind))); err != nil || id != s.ID() {
		t.Errorf("with the record's own blind: %s, %v", id, err)
	}
}

// finalBy is a receipt of a log of one leaf.
func finalBy(t testing.TB, log note.Signer, id, blind [32]byte) string {
	t.Helper()
	leaf := receipt.Leaf(blind, id)
	root := rfc6962.DefaultHasher.HashLeaf(leaf[:])
	signed, err := note.Sign(&note.Note{Text: fmt.Sprintf("%s\n1\n%s\n", log.Name(), base64.StdEncoding.EncodeToString(root))}, log)
	if err != nil {
		t.Fatal(err)
	}
	return string(receipt.Build(0, nil, signed, blind, id))
}

// forgedFinal is one of a log of this name whose key nobody believes.
func forgedFinal(t testing.TB, w *registrytest.World, id, blind [32]byte) string {
	t.Helper()
	skey, _, err := note.GenerateKey(rand.Reader, w.Policy.Policy().LogOrigin)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := note.NewSigner(skey)
	if err != nil {
		t.Fatal(err)
	}
	return finalBy(t, signer, id, blind)
}

// A kiosk that was retired has done nothing wrong: the receipts that it gave count, as
// long as nobody finds out more.
func TestRetiredKiosksReceipts(t *testing.T) {
	t.Parallel()
	w := registrytest.New(t)
	r := serve(t, w.RegistryOptions(noVault))
	k := w.Kiosk(t, "KIOSK-0001")
	s := k.Make(t, registrytest.Spec{})
	connect(t, w, r.URL, k.TLS).send(s)
	paper := []byte(provisional(t, k, s.ID(), k.Record, nil))
	if _, err := r.Retire(t.Context(), k.ID, registry.Retirement{Sequence: k.Sequence, By: "A. Clerk"}); err != nil {
		t.Fatal(err)
	}
	if id, err := registry.Evidenced(r.Registry, paper); err != nil || id != s.ID() {
		t.Errorf("%s, %v", id, err)
	}
	if err := registry.KiosksIn(w.RegistryDir()).Revoke(t.Context(), k.ID, time.Now().Add(-time.Hour)); err != nil {
		t.Fatal(err)
	}
	if id, err := registry.Evidenced(r.Registry, paper); !errors.Is(err, registry.ErrShown) {
		t.Errorf("found out: %s, %v", id, err)
	}
}

// FuzzEvidence shows what nobody would: good receipts of this registry's own of which
// a piece is cut out and another one put in. Only the whole ones are evidence.
func FuzzEvidence(f *testing.F) {
	w := registrytest.New(f)
	r := serve(f, w.RegistryOptions(noVault))
	k := w.Kiosk(f, "KIOSK-0001")
	c := connect(f, w, r.URL, k.TLS)
	s := k.Make(f, registrytest.Spec{})
	c.send(s)
	texts := map[bool]string{true: c.until(s.ID(), "receipt", hasReceipt).Receipt, false: provisional(f, k, s.ID(), k.Record, nil)}
	f.Add(true, uint16(0), uint16(0), []byte{})
	f.Add(false, uint16(0), uint16(0), []byte{})
	f.Add(true, uint16(40), uint16(1), []byte("x"))
	f.Add(false, uint16(3), uint16(9), []byte("."))
	f.Fuzz(func(t *testing.T, final bool, at, cut uint16, put []byte) {
		b := spliced([]byte(texts[final]), at, cut, put)
		id, err := registry.Evidenced(r.Registry, b)
		switch whole := string(b) == texts[final]; {
		case whole && (err != nil || id != s.ID()):
			t.Errorf("the whole receipt: %s, %v", id, err)
		case !whole && !errors.Is(err, registry.ErrShown):
			t.Errorf("%q: %s, %v", b, id, err)
		}
	})
}
