package wire_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"enrollkiosk/kiosk"
	"enrollkiosk/kiosk/secret"
	"enrollkiosk/kiosk/wire"
)

// desk is an agent that publishes what it is told and remembers intents.
type desk struct {
	states  chan kiosk.State
	intents chan kiosk.Intent
}

func newDesk() *desk {
	return &desk{make(chan kiosk.State, 4), make(chan kiosk.Intent, 4)}
}

func (d *desk) States(ctx context.Context) (<-chan kiosk.State, error) {
	out := make(chan kiosk.State)
	go func() {
		defer close(out)
		for {
			select {
			case <-ctx.Done():
				return
			case s := <-d.states:
				select {
				case out <- s:
				case <-ctx.Done():
					return
				}
			}
		}
	}()
	return out, nil
}

func (d *desk) Send(_ context.Context, in kiosk.Intent) error {
	d.intents <- in
	return nil
}

func serve(t *testing.T, d kiosk.Desk) (path string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "wire")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	path = filepath.Join(dir, "s")
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- wire.Serve(ctx, path, d, func(_ context.Context, q wire.Query) (any, error) {
			if q.Kind != "echo" {
				return nil, errors.New("unknown")
			}
			return q.Argument, nil
		})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	for range 6000 { // a socket has its name before it listens
		if c, err := net.Dial("unix", path); err == nil {
			c.Close()
			return path
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatal("nothing listens")
	return ""
}

func full() kiosk.State {
	return kiosk.State{Number: 7, Revision: 9, Screen: kiosk.ScreenCompare, Turn: kiosk.TurnOfficer, Language: "zh",
		Languages: []string{"en", "zh"}, Position: 3, Positions: 8, Main: kiosk.ActionConfirmPerson,
		Actions: []kiosk.Action{kiosk.ActionConfirmPerson}, Simulated: true, Locked: true, Officer: "0001",
		Health: kiosk.Health{Readers: map[kiosk.Device]kiosk.ReaderState{kiosk.DeviceToken: kiosk.ReaderCard}, Queued: 3},
		Steps:  []kiosk.Step{{Name: kiosk.StepReadCard, Status: kiosk.StepRunning, Done: 1, Total: 2}},
		Holder: &kiosk.HolderView{Surname: secret.FromString("ERIKSSON"), GivenNames: secret.FromString("ANNA MARIA"),
			Number: secret.FromString("D23145890"), Birth: secret.FromString("1974-08-12"), Expiry: secret.FromString("2034-04-15"),
			Sex: "F", Nationality: "UTO", Issuer: "UTO", Face: secret.New([]byte{0x89, 'P', 'N', 'G', 0}), FaceMIME: "image/png"},
		Checks: []kiosk.Check{{Name: kiosk.CheckChip, Verdict: kiosk.NotChecked}},
		Lacks:  []kiosk.Lack{kiosk.LackChip, kiosk.LackIssuer}, Guardian: &kiosk.GuardianView{Below: 14, From: 18},
		Consent: &kiosk.ConsentView{ID: "statistics", Title: "Counting", Text: "May we count you?", Required: true, Index: 1, Count: 2},
		Review:  &kiosk.ReviewView{Sealed: []string{"dg1"}, Open: []string{"did"}, Consents: []kiosk.ConsentView{{ID: "statistics"}}, DID: "did:key:z"},
		Receipt: &kiosk.ReceiptView{RecordID: "00", CancelCode: secret.FromString("ABCDE"), Custody: "39402174"},
		Records: []kiosk.RecordView{{ID: "00", Standing: kiosk.StandingSetAside, Code: "registry-time", Saved: time.Date(2026, 5, 4, 10, 42, 0, 0, time.UTC)}},
		Record:  &kiosk.RecordView{ID: "00", Standing: kiosk.StandingWaiting, QR: "eyJ", Printed: true, File: "receipt.pdf"},
		Day: &kiosk.DayView{Officer: "0001", Waiting: 3, Own: kiosk.DayCounts{Enrolled: 1, Ended: map[kiosk.Ending]int{kiosk.EndDeclined: 2}},
			All: kiosk.DayCounts{Faults: map[kiosk.Code]int{kiosk.CodeCardRemoved: 4}}, Alarms: []kiosk.Code{kiosk.CodeSplitView}},
		Custody: &kiosk.CustodyView{Number: "39402174", Moving: true}, Token: &kiosk.TokenView{Changed: true}, Proof: &kiosk.ProofView{RecordID: "0123", Kind: kiosk.ReceiptFinal, Standing: kiosk.StandingActive}, Ended: &kiosk.EndedView{RecordID: "0123", At: time.Date(2026, 5, 4, 10, 42, 0, 0, time.UTC)},
		Fault: &kiosk.Fault{Code: kiosk.CodeTokenWrongPIN, Remedy: kiosk.RemedyRetry, Left: 2, Until: time.Date(2026, 5, 4, 10, 42, 0, 0, time.UTC)},
		PIN:   &kiosk.PINView{Min: 6, Max: 8}, Waiting: kiosk.DeviceOfficer, Left: []kiosk.Device{kiosk.DeviceToken}, Closed: 1}
}

// plain compares what secret.Text hides.
func plain(s kiosk.State) []string {
	h, r := s.Holder, s.Receipt
	var out []string
	for _, t := range []secret.Text{h.Surname, h.GivenNames, h.Number, h.Birth, h.Expiry, h.Face, r.CancelCode} {
		out = append(out, string(t.Reveal()))
	}
	return out
}

func TestStateArrivesWhole(t *testing.T) {
	d := newDesk()
	client, err := wire.Dial(serve(t, d))
	if err != nil {
		t.Fatal(err)
	}
	states, err := client.States(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := full()
	for i := range reflect.TypeFor[kiosk.State]().NumField() {
		if reflect.ValueOf(want).Field(i).IsZero() {
			t.Errorf("the test sends no %s", reflect.TypeFor[kiosk.State]().Field(i).Name)
		}
	}
	d.states <- want
	got := <-states
	if !reflect.DeepEqual(plain(got), plain(want)) {
		t.Errorf("personal data: got %q", plain(got))
	}
	if got.Receipt.Custody != want.Receipt.Custody {
		t.Errorf("custody number %q", got.Receipt.Custody)
	}
	got.Holder, got.Receipt, want.Holder, want.Receipt = nil, nil, nil, nil
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestIntentArrivesWhole(t *testing.T) {
	d := newDesk()
	client, err := wire.Dial(serve(t, d))
	if err != nil {
		t.Fatal(err)
	}
	if err := client.Send(t.Context(), kiosk.Intent{}); !errors.Is(err, wire.ErrNoAgent) {
		t.Errorf("send before States: %v", err)
	}
	if _, err := client.States(t.Context()); err != nil {
		t.Fatal(err)
	}
	in := kiosk.Intent{State: 5, Action: kiosk.ActionEnterMRZ, Choice: "x", Secret: secret.FromString("123456"),
		MRZ: &kiosk.MRZKey{Number: secret.FromString("D2"), Birth: secret.FromString("740812"), Expiry: secret.FromString("340415")}}
	if err := client.Send(t.Context(), in); err != nil {
		t.Fatal(err)
	}
	got := <-d.intents
	if got.State != 5 || got.Action != in.Action || got.Choice != "x" || !got.Secret.Equal(in.Secret) ||
		!got.MRZ.Number.Equal(in.MRZ.Number) || !got.MRZ.Birth.Equal(in.MRZ.Birth) || !got.MRZ.Expiry.Equal(in.MRZ.Expiry) {
		t.Errorf("got %+v", got)
	}
}

func TestOnlyTheNewestStateWaits(t *testing.T) {
	d := newDesk()
	client, _ := wire.Dial(serve(t, d))
	states, err := client.States(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for n := range uint64(50) {
		d.states <- kiosk.State{Number: n + 1}
	}
	deadline := time.After(5 * time.Second)
	for {
		select {
		case s := <-states:
			if s.Number == 50 {
				return
			}
		case <-deadline:
			t.Fatal("the newest state did not arrive")
		}
	}
}

func TestAsk(t *testing.T) {
	path := serve(t, newDesk())
	var got string
	if err := wire.Ask(t.Context(), path, wire.Query{Kind: "echo", Argument: "hello"}, &got); err != nil || got != "hello" {
		t.Errorf("%q, %v", got, err)
	}
	if err := wire.Ask(t.Context(), path, wire.Query{Kind: "nothing"}, &got); !errors.Is(err, wire.ErrAnswer) {
		t.Errorf("unknown question: %v", err)
	}
	if err := wire.Ask(t.Context(), path+"x", wire.Query{Kind: "echo"}, &got); !errors.Is(err, wire.ErrNoAgent) {
		t.Errorf("no agent: %v", err)
	}
}

func TestSocketIsPrivateAndTakenOnce(t *testing.T) {
	path := serve(t, newDesk())
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	err = wire.Serve(t.Context(), path, newDesk(), nil)
	if !errors.Is(err, wire.ErrSecond) {
		t.Errorf("second agent: %v", err)
	}
}

func TestStaleSocketIsReplaced(t *testing.T) {
	dir, err := os.MkdirTemp("", "wire")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "s")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close() // as a killed agent leaves it
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- wire.Serve(ctx, path, newDesk(), nil) }()
	defer func() { cancel(); <-done }()
	for range 200 {
		if _, err := wire.Dial(path); err == nil {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Error("the agent did not take over the socket")
}

// Whatever a peer sends, the agent goes on serving others.
func TestNonsenseEndsOnlyItsConnection(t *testing.T) {
	d := newDesk()
	path := serve(t, d)
	for _, b := range [][]byte{
		{}, {0}, {0, 0, 0, 0}, {0xff, 0xff, 0xff, 0xff}, append([]byte{0, 0, 0, 4}, "null"...),
		append([]byte{0, 0, 0, 2}, "[]"...), frames([]byte("{}"), []byte("nonsense")), frames([]byte("{}"), []byte(`{"State":"x"}`)),
		frames([]byte(`{"Kind":"echo"}`), bytes.Repeat([]byte{'x'}, 1000)),
	} {
		c, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		c.Write(b)
		c.Close()
	}
	client, err := wire.Dial(path)
	if err != nil {
		t.Fatal(err)
	}
	states, err := client.States(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	// One of the connections above may still hold the next state; they end soon.
	deadline := time.After(5 * time.Second)
	for {
		select {
		case d.states <- kiosk.State{Number: 1}:
		case s := <-states:
			if s.Number == 1 {
				return
			}
		case <-deadline:
			t.Fatal("the agent stopped serving")
		}
	}
}

func frames(bodies ...[]byte) []byte {
	var out []byte
	for _, b := range bodies {
		out = binary.BigEndian.AppendUint32(out, uint32(len(b)))
		out = append(out, b...)
	}
	return out
}
