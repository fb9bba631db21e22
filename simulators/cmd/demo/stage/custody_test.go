package stage_test

import (
	"bytes"
	"cmp"
	"context"
	"crypto/ecdsa"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"enrollkiosk/hsm/tpm"
	"enrollkiosk/kiosk"
	"enrollkiosk/kiosk/secret"
	"enrollkiosk/registry/record"
	"enrollkiosk/simulators/cmd/demo/stage"
	"enrollkiosk/simulators/idcard"
	"enrollkiosk/simulators/pivtoken"
	simulated "enrollkiosk/simulators/tpm"
	"enrollkiosk/sync/queue"
)

// keyPIN is that of keys in custody: another one than the script's for tokens.
const keyPIN = "713905"

// keep enrolls the next citizen, who has no token.
func keep(t *testing.T, s *stage.Stage) (*people, *kiosk.ReceiptView) {
	t.Helper()
	p := arrive(t, s, idcard.Options{}, pivtoken.Options{})
	p.NoToken, p.PIN = true, keyPIN
	r := p.meet()
	if len(r.Custody) != 8 {
		t.Fatalf("the receipt says %q to come back with", r.Custody)
	}
	return p, r
}

// back is the same citizen once more, who comes to the key of a number.
func back(t *testing.T, s *stage.Stage, number string) *people {
	t.Helper()
	p := again(t, s)
	p.Custody, p.KeyPIN = number, keyPIN
	return p
}

// filesHere lists what the kiosk keeps of keys in custody: key files and notes.
func filesHere(t *testing.T, s *stage.Stage) (keys, notes []string) {
	t.Helper()
	for pattern, list := range map[string]*[]string{"tpm/citizens/*": &keys, "custody/*": &notes} {
		var err error
		if *list, err = filepath.Glob(filepath.Join(s.Config.Kiosk.State, pattern)); err != nil {
			t.Fatal(err)
		}
	}
	return keys, notes
}

// nothingHere checks that no key in custody is left, nor a trace of one.
func nothingHere(t *testing.T, s *stage.Stage) {
	t.Helper()
	if keys, notes := filesHere(t, s); len(keys)+len(notes) > 0 {
		t.Errorf("left behind: %v %v", keys, notes)
	}
}

// newest is the record that was queued last.
func newest(t *testing.T, s *stage.Stage) queue.Entry {
	t.Helper()
	return slices.MaxFunc(entries(t, s), func(a, b queue.Entry) int { return cmp.Compare(a.Seq, b.Seq) })
}

// waiting is the newest record in the kiosk's queue, which waits to be sent.
func waiting(t *testing.T, s *stage.Stage) record.Submission {
	t.Helper()
	b, err := s.Kiosk.Queue().Data(t.Context(), newest(t, s).ID)
	if err != nil {
		t.Fatal(err)
	}
	sub, err := record.ParseSubmission(b)
	if err != nil {
		t.Fatal(err)
	}
	return sub
}

// standing is a DID's at the registry, which it stops: the record that brought
// it and those that ended it.
func standing(t *testing.T, s *stage.Stage, did string) (h struct {
	Record     []byte `json:"record"`
	EndedBy    []byte `json:"ended_by"`
	ReplacedBy []byte `json:"replaced_by"`
}) {
	t.Helper()
	if err := s.StopRegistry(); err != nil {
		t.Fatal(err)
	}
	db, err := bbolt.Open(filepath.Join(s.Dir, "registry", "registry.db"), 0o600, &bbolt.Options{ReadOnly: true, Timeout: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := db.View(func(tx *bbolt.Tx) error {
		return json.Unmarshal(tx.Bucket([]byte("holders")).Get([]byte(did)), &h)
	}); err != nil {
		t.Fatal(err)
	}
	return h
}

func restart(t *testing.T, s *stage.Stage) {
	t.Helper()
	if err := errors.Join(s.StopKiosk(), s.StartKiosk(t.Context())); err != nil {
		t.Fatal(err)
	}
	s.Take(kiosk.DeviceOfficer)
}

// A citizen without a token: enrolled with a key in the kiosk's TPM, which the
// registry and the vault accept; comes back; moves to a token while the registry
// is away; and only when the authority has confirmed the new key is the old one
// forgotten.
func TestCustodyFromEnrollmentToToken(t *testing.T) {
	t.Parallel()
	var steps []kiosk.StepName
	s := newStage(t, func(o *stage.Options) {
		o.Limits.Delivery = moment
		o.Observe = func(e kiosk.Event) { steps = append(steps, e.Step) }
	})
	for _, start := range []func(context.Context) error{s.StartVault, s.StartKiosk} {
		if err := start(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	_, r := keep(t, s)
	if token := s.Reader(kiosk.DeviceToken); s.Lies(kiosk.DeviceToken) {
		t.Errorf("a token lies on %s", token.Name())
	}
	first := waiting(t, s)
	p := first.Record().Payload()
	if a, ok := first.Attestation(); !ok || a.TPM == nil || p.Holder.Where != record.TPM || p.Holder.Class != record.Test || p.Context.Purpose != record.Enroll {
		t.Errorf("holder %+v, purpose %s", p.Holder, p.Context.Purpose)
	}
	if slices.Contains(steps, kiosk.StepLockToken) || slices.Contains(steps, kiosk.StepProbeToken) || !slices.Contains(steps, kiosk.StepVerifyKey) {
		t.Errorf("steps %v", steps)
	}
	if keys, notes := filesHere(t, s); len(keys) != 2 || len(notes) != 1 { // key and tries
		t.Errorf("kept: %v %v", keys, notes)
	}
	if err := s.StartRegistry(t.Context()); err != nil {
		t.Fatal(err)
	}
	delivered(t, s)
	active(t, s, first.ID())

	restart(t, s)
	visit := back(t, s, r.Custody)
	visit.Leave = true
	if r := visit.meet(); r != nil {
		t.Errorf("a visit gave the receipt %+v", r)
	}
	if n := len(entries(t, s)); n != 1 {
		t.Errorf("%d records after a visit", n)
	}

	// The registry is away: the old key must live until the new one holds.
	if h := standing(t, s, p.Holder.DID); h.EndedBy != nil || h.ReplacedBy != nil {
		t.Errorf("the DID has ended: %+v", h)
	}
	back(t, s, r.Custody).meet()
	second := waiting(t, s)
	q := second.Record().Payload()
	if q.Context.Purpose != record.Replace || q.Replaces != p.Holder.DID || q.Holder.Where != record.PIV {
		t.Errorf("purpose %s, replaces %s, holder %+v", q.Context.Purpose, q.Replaces, q.Holder)
	}
	old, ok := second.Record().Signature(record.OldHolder)
	if key, err := p.Holder.Key.Public(); err != nil || !ok || !old.Public.(*ecdsa.PublicKey).Equal(key) {
		t.Errorf("signed as old holder: %v, %v", ok, err)
	}
	restart(t, s)
	moving := back(t, s, r.Custody) // the key is still theirs, but there is nothing more to do with it
	moving.OnState = func(st kiosk.State) {
		if st.Screen == kiosk.ScreenCustodyKey && (!st.Custody.Moving || slices.Contains(st.Actions, kiosk.ActionMove)) {
			t.Errorf("%+v with %v", st.Custody, st.Actions)
		}
	}
	moving.meet()
	if keys, notes := filesHere(t, s); len(keys) != 2 || len(notes) != 1 {
		t.Errorf("before the authority has confirmed: %v %v", keys, notes)
	}

	if err := s.StartRegistry(t.Context()); err != nil {
		t.Fatal(err)
	}
	delivered(t, s)
	active(t, s, second.ID())
	eventually(t, 30*time.Second, func() error {
		if keys, notes := filesHere(t, s); len(keys)+len(notes) > 0 {
			return fmt.Errorf("still here: %v %v", keys, notes)
		}
		return nil
	})
	gone := back(t, s, r.Custody)
	gone.odd = func(ctx context.Context, st kiosk.State) (bool, error) {
		if st.Screen == kiosk.ScreenCustodyNumber && st.PIN.Problem == kiosk.PINUnknown {
			gone.over = true
			return true, gone.Desk.Send(ctx, kiosk.Intent{State: st.Number, Action: kiosk.ActionLeave})
		}
		return false, nil
	}
	gone.leaveQuietly()
	id := second.ID()
	if h := standing(t, s, p.Holder.DID); !slices.Equal(h.ReplacedBy, id[:]) {
		t.Errorf("the old DID: %+v", h)
	}
	if h := standing(t, s, q.Holder.DID); !slices.Equal(h.Record, id[:]) || h.EndedBy != nil || h.ReplacedBy != nil {
		t.Errorf("the new DID: %+v", h)
	}
}

// active waits until the vault has signed that a record holds.
func active(t *testing.T, s *stage.Stage, id queue.ID) {
	t.Helper()
	eventually(t, 30*time.Second, func() error {
		stage, err := s.Kiosk.Verdict(t.Context(), id)
		if err == nil && stage != kiosk.Activated {
			err = fmt.Errorf("verdict %q", stage)
		}
		return err
	})
}

// pins answers the page for a key's PIN with one PIN after another, and notes
// what each was answered.
func (p *people) pins(pins ...string) *[]kiosk.PINView {
	var said []kiosk.PINView
	p.odd = func(ctx context.Context, st kiosk.State) (bool, error) {
		if st.Screen != kiosk.ScreenCustodyPIN {
			return false, nil
		}
		said = append(said, kiosk.PINView{Problem: st.PIN.Problem, Left: st.PIN.Left})
		in := kiosk.Intent{State: st.Number, Action: kiosk.ActionLeave}
		if n := len(said) - 1; n < len(pins) {
			in.Action, in.Secret = kiosk.ActionPIN, secret.FromString(pins[n])
		} else {
			p.over = true
		}
		return true, p.Desk.Send(ctx, in)
	}
	return &said
}

// Wrong PINs: each is answered with the tries that are left, also after the
// kiosk was restarted; the right one gives all back; the last is used only by
// whoever knows that it is; then the key is locked, for its own holder too, and
// nobody else's.
func TestCustodyPIN(t *testing.T) {
	t.Parallel()
	var logged bytes.Buffer
	s := newStage(t, func(o *stage.Options) {
		o.Log = slog.New(slog.NewTextHandler(&logged, &slog.HandlerOptions{Level: slog.LevelDebug}))
	})
	start(t, s)
	_, other := keep(t, s)
	_, r := keep(t, s)
	wrong := func(left int) kiosk.PINView { return kiosk.PINView{Problem: kiosk.PINKeyWrong, Left: left} }
	said := func(got *[]kiosk.PINView, want ...kiosk.PINView) {
		t.Helper()
		if !slices.Equal(*got, want) {
			t.Errorf("people were told %+v, want %+v", *got, want)
		}
	}

	p := back(t, s, r.Custody)
	got := p.pins("900001", "900002", "12ab56", "900003")
	p.leaveQuietly()
	said(got, kiosk.PINView{}, wrong(4), wrong(3), kiosk.PINView{Problem: kiosk.PINNotDigits, Left: 3}, wrong(2))

	restart(t, s)
	p = back(t, s, r.Custody)
	p.Leave = true
	got = p.pins("900004", keyPIN)
	p.meet()
	said(got, kiosk.PINView{}, wrong(1))

	p = back(t, s, r.Custody)
	got = p.pins("900001", "900002", "900003", "900004")
	p.leaveQuietly()
	said(got, kiosk.PINView{}, wrong(4), wrong(3), wrong(2), wrong(1))
	restart(t, s)
	p = back(t, s, r.Custody)
	got = p.pins("900005", "900005") // the first is not tried: nobody knew that it would be the last
	p.leave(trouble(kiosk.CodeKeyBlocked))
	said(got, kiosk.PINView{}, kiosk.PINView{Problem: kiosk.PINLastTry, Left: 1})
	p = back(t, s, r.Custody)
	p.leave(trouble(kiosk.CodeKeyBlocked)) // with the right PIN

	p = back(t, s, other.Custody)
	p.Leave = true
	p.meet()
	works(t, s)

	if err := s.Close(); err != nil { // of all that was typed nothing stands anywhere
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(s.Dir, "log"), logged.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	err := filepath.WalkDir(s.Dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		for _, pin := range []string{keyPIN, "900001", "900005"} {
			if bytes.Contains(b, []byte(pin)) {
				t.Errorf("%s holds a PIN", path)
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// Numbers that are no key's here.
func TestCustodyNumber(t *testing.T) {
	t.Parallel()
	s := newStage(t, nil)
	start(t, s)
	_, r := keep(t, s)
	tries := map[string]kiosk.PINProblem{"": kiosk.PINTooShort, "1234567": kiosk.PINTooShort, "12345678": kiosk.PINMistyped, "00000000": kiosk.PINUnknown,
		"../../ak": kiosk.PINNotDigits}
	for i := range r.Custody { // each digit mistyped in each way
		for d := byte('0'); d <= '9'; d++ {
			b := []byte(r.Custody)
			if b[i] != d {
				b[i] = d
				tries[string(b)] = kiosk.PINMistyped
			}
		}
	}
	for i := range 7 { // two neighbours exchanged, which the check digit finds but for 09 and 90
		b := []byte(r.Custody)
		b[i], b[i+1] = b[i+1], b[i]
		if string(b) != r.Custody && string(b[i:i+2]) != "09" && string(b[i:i+2]) != "90" {
			tries[string(b)] = kiosk.PINMistyped
		}
	}
	var left []string
	for number := range tries {
		left = append(left, number)
	}
	p := back(t, s, "")
	var asked string
	p.odd = func(ctx context.Context, st kiosk.State) (bool, error) {
		switch st.Screen {
		case kiosk.ScreenHome:
			if p.over {
				return false, nil
			}
			return true, p.Desk.Send(ctx, kiosk.Intent{State: st.Number, Action: kiosk.ActionServices})
		case kiosk.ScreenServices:
			return true, p.Desk.Send(ctx, kiosk.Intent{State: st.Number, Action: kiosk.ActionCustody})
		case kiosk.ScreenCustodyNumber:
			if st.PIN.Problem != kiosk.PINFine && st.PIN.Problem != tries[asked] {
				t.Errorf("%q: %s, want %s", asked, st.PIN.Problem, tries[asked])
			}
			if len(left) == 0 {
				p.over = true
				return true, p.Desk.Send(ctx, kiosk.Intent{State: st.Number, Action: kiosk.ActionLeave})
			}
			asked, left = left[0], left[1:]
			return true, p.Desk.Send(ctx, kiosk.Intent{State: st.Number, Action: kiosk.ActionNumber, Secret: secret.FromString(asked)})
		case kiosk.ScreenCustodyPIN:
			t.Errorf("%q leads to a key", asked)
		}
		return false, nil
	}
	p.leaveQuietly()
}

// The citizen declines, the officer doubts, nobody answers, after the key was
// born: no key is left, and the number gets its void record.
func TestCustodyLeft(t *testing.T) {
	t.Parallel()
	s := newStage(t, nil)
	start(t, s)
	arrive(t, s, idcard.Options{}, pivtoken.Options{})
	screens := map[kiosk.Screen]kiosk.Action{kiosk.ScreenNoToken: kiosk.ActionDecline, kiosk.ScreenChoosePIN: kiosk.ActionDecline,
		kiosk.ScreenReview: kiosk.ActionDecline, kiosk.ScreenApprove: kiosk.ActionDoubtPerson}
	for screen, action := range screens {
		t.Run(string(screen), func(t *testing.T) {
			p := again(t, s)
			p.NoToken, p.PIN = true, keyPIN
			p.odd = func(ctx context.Context, st kiosk.State) (bool, error) {
				if st.Screen != screen || p.over {
					return false, nil
				}
				if keys, _ := filesHere(t, s); (len(keys) > 0) != (screen == kiosk.ScreenReview || screen == kiosk.ScreenApprove) {
					t.Errorf("keys %v", keys)
				}
				p.over = true
				return true, p.Desk.Send(ctx, kiosk.Intent{State: st.Number, Action: action})
			}
			p.leaveQuietly()
			nothingHere(t, s)
		})
	}
	// On second thoughts there is a token.
	p := again(t, s)
	p.NoToken = true
	p.odd = func(ctx context.Context, st kiosk.State) (bool, error) {
		if st.Screen != kiosk.ScreenNoToken {
			return false, nil
		}
		p.NoToken = false
		return true, p.Desk.Send(ctx, kiosk.Intent{State: st.Number, Action: kiosk.ActionBack})
	}
	r := p.meet()
	final(t, s, r)
	if r.Custody != "" {
		t.Errorf("number %s for a key on a token", r.Custody)
	}
	nothingHere(t, s)
	chained(t, s, 3)
}

// A replacement is left halfway: the old key is as it was, and can move later.
func TestCustodyMoveLeft(t *testing.T) {
	t.Parallel()
	s := newStage(t, nil)
	start(t, s)
	_, r := keep(t, s)
	for _, screen := range []kiosk.Screen{kiosk.ScreenWelcome, kiosk.ScreenReview} {
		p := back(t, s, r.Custody)
		p.odd = func(ctx context.Context, st kiosk.State) (bool, error) {
			if st.Screen == kiosk.ScreenInsertToken && slices.Contains(st.Actions, kiosk.ActionNoToken) {
				t.Error("a move to a token does without one")
			}
			if st.Screen != screen || p.over {
				return false, nil
			}
			p.over = true
			return true, p.Desk.Send(ctx, kiosk.Intent{State: st.Number, Action: kiosk.ActionDecline})
		}
		p.leaveQuietly()
	}
	final(t, s, back(t, s, r.Custody).meet())
	eventually(t, 30*time.Second, func() error {
		if keys, notes := filesHere(t, s); len(keys)+len(notes) > 0 {
			return fmt.Errorf("still here: %v %v", keys, notes)
		}
		return nil
	})
}

// The vault refuses a replacement with another person's document: the old key
// and its DID live on.
func TestCustodyMoveOfAnother(t *testing.T) {
	t.Parallel()
	s := newStage(t, nil)
	start(t, s)
	_, r := keep(t, s)
	arrive(t, s, idcard.Options{}, pivtoken.Options{}) // with a card and a token of their own
	stranger := back(t, s, r.Custody)
	stranger.meet()
	id := newest(t, s).ID
	eventually(t, 30*time.Second, func() error {
		stage, err := s.Kiosk.Verdict(t.Context(), id)
		if err == nil && stage != kiosk.Refused {
			err = fmt.Errorf("verdict %q", stage)
		}
		return err
	})
	p := back(t, s, r.Custody)
	p.Leave = true
	eventually(t, 30*time.Second, func() error { // the kiosk hears of it
		moving := false
		p.OnState = func(st kiosk.State) { moving = moving || st.Custody != nil && st.Custody.Moving }
		p.meet()
		if moving {
			return errors.New("the key is moving still")
		}
		return nil
	})
}

// Too many wrong tries anywhere lock the whole TPM for citizens' PINs: the person
// is told until when, no try is lost, and the kiosk goes on.
func TestCustodyLockout(t *testing.T) {
	t.Parallel()
	s := newStage(t, nil)
	start(t, s)
	_, r := keep(t, s)
	p := back(t, s, r.Custody)
	p.pins("900001")
	p.leaveQuietly()
	if err := s.StopKiosk(); err != nil { // a TPM has one client here
		t.Fatal(err)
	}
	const recovery = 4 * time.Second
	if err := errors.Join(s.TPM.SetDictionaryAttack(t.Context(), 2, recovery), s.TPM.Lockout(t.Context()), s.StartKiosk(t.Context())); err != nil {
		t.Fatal(err)
	}
	s.Take(kiosk.DeviceOfficer)
	p = back(t, s, r.Custody)
	var until time.Time
	p.odd = func(_ context.Context, st kiosk.State) (bool, error) {
		if st.Fault != nil {
			until = st.Fault.Until
		}
		return false, nil
	}
	p.leave(trouble(kiosk.CodeKeyWaits))
	if wait := time.Until(until); wait > recovery || wait < -recovery {
		t.Errorf("told to wait until %v, in %v", until, wait)
	}
	keys, _ := filesHere(t, s)
	if tries, err := os.ReadFile(keys[0]); err != nil || string(tries) != "4\n" {
		t.Errorf("%s says %q, %v", keys[0], tries, err)
	}
	works(t, s) // the kiosk's own keys are exempt
	time.Sleep(time.Until(until))
	eventually(t, 30*time.Second, func() error {
		p := back(t, s, r.Custody)
		p.Leave = true
		_, err := p.enroll()
		return err
	})
}

// The TPM loses its power before the key is born and before it signs: it boots
// again, the same step succeeds, and one key is left.
func TestCustodyTPMGone(t *testing.T) {
	t.Parallel()
	s := newStage(t, nil)
	start(t, s)
	p := arrive(t, s, idcard.Options{}, pivtoken.Options{})
	p.NoToken, p.PIN = true, keyPIN
	p.odd = func(_ context.Context, st kiosk.State) (bool, error) {
		if st.Screen == kiosk.ScreenRepeatPIN || st.Screen == kiosk.ScreenReview {
			s.TPM.Kill()
		}
		return false, nil
	}
	p.mend = func(int, told) kiosk.Action {
		if err := s.TPM.Restart(t.Context()); err != nil {
			t.Error(err)
		}
		return kiosk.ActionRetry
	}
	final(t, s, p.meet(trouble(kiosk.CodeTPMMissing), trouble(kiosk.CodeTPMMissing)))
	if keys, notes := filesHere(t, s); len(keys) != 2 || len(notes) != 1 {
		t.Errorf("kept %v %v", keys, notes)
	}
}

// Files of keys in custody, copied to another kiosk, are nothing there.
func TestCustodyCopied(t *testing.T) {
	t.Parallel()
	dir := tempDir(t)
	if err := simulated.Manufacture(t.Context(), filepath.Join(dir, "tpm")); err != nil { // another TPM than all others here
		t.Fatal(err)
	}
	s, thief := newStage(t, nil), newStageIn(t, dir, nil)
	start(t, s)
	_, r := keep(t, s)
	for _, dir := range []string{"custody", filepath.Join("tpm", "citizens")} {
		to := filepath.Join(thief.Config.Kiosk.State, dir)
		if err := errors.Join(os.RemoveAll(to), os.CopyFS(to, os.DirFS(filepath.Join(s.Config.Kiosk.State, dir)))); err != nil {
			t.Fatal(err)
		}
	}
	start(t, thief)
	arrive(t, thief, idcard.Options{}, pivtoken.Options{})
	p := back(t, thief, r.Custody)
	p.leave(trouble(kiosk.CodeKeyElsewhere))
	works(t, thief)
}

// A crash leaves a key whose note says that one is being made, or names a record
// that was not put: it is gone when the kiosk has started. A note that is missing
// or damaged keeps every key.
func TestCustodyTidiedUp(t *testing.T) {
	t.Parallel()
	s := newStage(t, nil)
	start(t, s)
	_, r := keep(t, s)
	if err := s.StopKiosk(); err != nil {
		t.Fatal(err)
	}
	orphan := func() string {
		d, err := tpm.Open(t.Context(), tpm.Options{Path: s.TPM.Path(), Dir: filepath.Join(s.Config.Kiosk.State, "tpm")})
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		c, err := d.CreateCitizen(t.Context(), [32]byte{1}, secret.FromString(keyPIN))
		if err != nil {
			t.Fatal(err)
		}
		return c.Name()
	}
	orphan()
	note := filepath.Join(s.Config.Kiosk.State, "custody", "00000018.json")
	text := fmt.Sprintf(`{"key":%q,"record":"%064d","saved":false}`, orphan(), 7)
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(note, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		what, note  string
		keys, notes int
	}{
		{"a note cannot be read", text[:len(text)-1], 6, 2},
		{"a key has no note", text, 4, 1},
		{"a key is being made", `{"making":true}`, 2, 1},
	} {
		write(c.note)
		restart(t, s)
		seen(t, s, func(kiosk.Health) bool { return true })
		if keys, notes := filesHere(t, s); len(keys) != c.keys || len(notes) != c.notes {
			t.Errorf("%s: kept %v %v", c.what, keys, notes)
		}
	}
	p := back(t, s, r.Custody)
	p.Leave = true
	p.meet()
}
