package stage_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"enrollkiosk/kiosk"
	"enrollkiosk/kiosk/secret"
	"enrollkiosk/registry/receipt"
	"enrollkiosk/registry/record"
	"enrollkiosk/simulators/cmd/demo/stage"
	"enrollkiosk/simulators/idcard"
	"enrollkiosk/simulators/pivtoken"
)

// guest is a citizen at the self-service. Each page takes the next of its answers,
// and is left when there are no more.
type guest struct {
	t       *testing.T
	s       *stage.Stage
	alone   bool // no officer is signed on
	answers map[kiosk.Screen][]answer
	seen    []kiosk.State // each question, as it was answered
}

type answer struct {
	action kiosk.Action
	secret string
	before func() // what the person does first
}

func pins(pins ...string) (all []answer) {
	for _, pin := range pins {
		all = append(all, answer{action: kiosk.ActionPIN, secret: pin})
	}
	return all
}

// comes plays one visit, from home or from the page for signing on and back.
func (g *guest) comes(errand kiosk.Action) *guest {
	g.t.Helper()
	ctx, cancel := context.WithTimeout(g.t.Context(), 4*time.Minute)
	defer cancel()
	desk := g.s.Kiosk.Desk()
	states, err := desk.States(ctx)
	if err != nil {
		g.t.Fatal(err)
	}
	var answered uint64
	began := false
	for st := range states {
		if st.Screen == kiosk.ScreenTakeThings {
			for _, d := range st.Left {
				g.s.Take(d)
			}
			continue
		}
		if st.Number == answered {
			continue
		}
		answered = st.Number
		if began && (st.Screen == kiosk.ScreenHome || st.Screen == kiosk.ScreenSignOn) {
			return g
		}
		in := kiosk.Intent{State: st.Number}
		switch st.Screen {
		case kiosk.ScreenSignOn:
			if in.Action = kiosk.ActionSelfService; !g.alone {
				g.s.Officer(0)
				in.Action, in.Secret = kiosk.ActionSignOn, secret.FromString(stage.OfficerPIN)
			}
		case kiosk.ScreenHome:
			in.Action = kiosk.ActionServices
		case kiosk.ScreenServices:
			in.Action = kiosk.ActionSelfService
		case kiosk.ScreenSelfService:
			began, in.Action = true, errand
		case kiosk.ScreenShowToken:
			g.s.Bring(kiosk.DeviceToken)
			continue
		default:
			if st.Turn == kiosk.TurnMachine {
				continue
			}
			g.seen = append(g.seen, st)
			in.Action = kiosk.ActionLeave
			if st.Screen == kiosk.ScreenTrouble {
				in.Action = kiosk.ActionStartOver
			}
			if !slices.Contains(st.Actions, in.Action) {
				in.Action = kiosk.ActionDecline
			}
			if next := g.answers[st.Screen]; len(next) > 0 {
				if next[0].before != nil {
					next[0].before()
				}
				in.Action, in.Secret = next[0].action, secret.FromString(next[0].secret)
				g.answers[st.Screen] = next[1:]
			}
		}
		if st.Position != 0 {
			g.t.Errorf("%s stands at step %d of an enrollment", st.Screen, st.Position)
		}
		if err := desk.Send(ctx, in); err != nil {
			g.t.Fatal(err)
		}
	}
	g.t.Fatalf("the visit does not end, after %v", g.screens())
	return g
}

func (g *guest) screens() (all []kiosk.Screen) {
	for _, st := range g.seen {
		all = append(all, st.Screen)
	}
	return all
}

// last is the last page of a kind that was seen.
func (g *guest) last(screen kiosk.Screen) kiosk.State {
	g.t.Helper()
	for _, st := range slices.Backward(g.seen) {
		if st.Screen == screen {
			return st
		}
	}
	g.t.Fatalf("no %s among %v", screen, g.screens())
	return kiosk.State{}
}

// told is the fault on the last page for faults.
func (g *guest) told(code kiosk.Code) {
	g.t.Helper()
	if f := g.last(kiosk.ScreenTrouble).Fault; f == nil || f.Code != code {
		g.t.Errorf("told %+v, want %s", f, code)
	}
}

// owner is a stage on which a citizen was enrolled with a token, and is there again.
func owner(t *testing.T, change func(*stage.Options)) (*stage.Stage, *people, *kiosk.ReceiptView) {
	t.Helper()
	s := newStage(t, change)
	start(t, s)
	p := arrive(t, s, idcard.Options{}, pivtoken.Options{})
	r := p.meet()
	final(t, s, r)
	active(t, s, newest(t, s).ID)
	return s, p, r
}

func guestOf(t *testing.T, s *stage.Stage, answers map[kiosk.Screen][]answer) *guest {
	return &guest{t: t, s: s, answers: answers}
}

// A citizen tries the token and changes its PIN: wrong PINs are counted in words,
// the last one is used only by whoever knows that it is, the old PIN is of no more
// use, and nothing of it is a record.
func TestOwnToken(t *testing.T) {
	t.Parallel()
	var logged bytes.Buffer
	s, p, _ := owner(t, func(o *stage.Options) {
		o.Log = slog.New(slog.NewTextHandler(&logged, &slog.HandlerOptions{Level: slog.LevelDebug}))
	})
	const other = "350917"
	try := func(pin ...string) *guest {
		t.Helper()
		return guestOf(t, s, map[kiosk.Screen][]answer{kiosk.ScreenTokenPIN: pins(pin...)}).comes(kiosk.ActionTryToken)
	}
	problems := func(g *guest, want ...kiosk.PINView) {
		t.Helper()
		var got []kiosk.PINView
		for _, st := range g.seen {
			if st.Screen == kiosk.ScreenTokenPIN {
				got = append(got, kiosk.PINView{Problem: st.PIN.Problem, Left: st.PIN.Left})
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("told %+v, want %+v", got, want)
		}
	}
	wrong := func(left int) kiosk.PINView { return kiosk.PINView{Problem: kiosk.PINOwnWrong, Left: left} }

	g := try("12ab56", "999999", p.PIN)
	problems(g, kiosk.PINView{}, kiosk.PINView{Problem: kiosk.PINNotDigits}, wrong(2))
	if g.last(kiosk.ScreenTokenResult).Token.Changed {
		t.Error("a token that was tried is said to have another PIN")
	}

	g = guestOf(t, s, map[kiosk.Screen][]answer{kiosk.ScreenTokenPIN: pins(p.PIN), kiosk.ScreenChoosePIN: pins("123456", other, other),
		kiosk.ScreenRepeatPIN: pins("350918", other)}).comes(kiosk.ActionChangePIN)
	if !g.last(kiosk.ScreenTokenResult).Token.Changed {
		t.Error("the PIN was not changed")
	}
	if got := g.last(kiosk.ScreenChoosePIN).PIN.Problem; got != kiosk.PINDifferent {
		t.Errorf("after two PINs that differ: %q", got)
	}
	problems(try(p.PIN, other), kiosk.PINView{}, wrong(2)) // the old one is refused

	// Stopping before the new PIN is chosen changes nothing.
	guestOf(t, s, map[kiosk.Screen][]answer{kiosk.ScreenTokenPIN: pins(other), kiosk.ScreenChoosePIN: {{action: kiosk.ActionDecline}}}).comes(kiosk.ActionChangePIN)
	try(other).last(kiosk.ScreenTokenResult)

	problems(try("999991", "999992"), kiosk.PINView{}, wrong(2), wrong(1))
	g = try(other) // nobody knew that this would be the last: it is not sent
	problems(g, kiosk.PINView{}, kiosk.PINView{Problem: kiosk.PINOwnLast, Left: 1})
	g = try("999993", "999993")
	problems(g, kiosk.PINView{}, kiosk.PINView{Problem: kiosk.PINOwnLast, Left: 1})
	g.told(kiosk.CodeOwnBlocked)
	try(other).told(kiosk.CodeOwnBlocked)

	if n := len(entries(t, s)); n != 1 {
		t.Errorf("%d records after an enrollment and visits", n)
	}
	works(t, s)
	nowhere(t, s, logged.Bytes(), p.PIN, other, "999999", "999993")
}

// nowhere ends a stage and looks for what nobody may find, in all that it leaves.
func nowhere(t *testing.T, s *stage.Stage, logged []byte, secrets ...string) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(s.Dir, "log"), logged, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := filepath.WalkDir(s.Dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		for i, secret := range secrets {
			if bytes.Contains(b, []byte(secret)) {
				t.Errorf("%s holds secret %d", path, i)
			}
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
}

// What is no citizen's token of a trusted maker is told so before its PIN is asked.
func TestForeignTokens(t *testing.T) {
	t.Parallel()
	s, _, _ := owner(t, nil)
	enrolled := s.Token
	refused := func(name string, code kiosk.Code) {
		t.Helper()
		for _, errand := range []kiosk.Action{kiosk.ActionTryToken, kiosk.ActionChangePIN} {
			g := guestOf(t, s, nil).comes(errand)
			g.told(code)
			if slices.Contains(g.screens(), kiosk.ScreenTokenPIN) {
				t.Errorf("%s: the PIN was asked for", name)
			}
		}
	}
	s.IssueToken(pivtoken.Options{Serial: 77})
	refused("factory-new", kiosk.CodeOwnNoKey)
	officer, err := issuers.Officers[1].Card(issuers.Tokens, stage.OfficerPIN)
	if err != nil {
		t.Fatal(err)
	}
	s.Hold(kiosk.DeviceToken, officer)
	refused("an officer's card", kiosk.CodeOwnNoKey)
	s.Hold(kiosk.DeviceToken, s.Chip)
	refused("an ID card", kiosk.CodeOwnNoKey)

	// Exchanged for the own one while its PIN is typed.
	s.Hold(kiosk.DeviceToken, enrolled)
	swap := func() {
		s.Take(kiosk.DeviceToken)
		s.IssueToken(pivtoken.Options{Serial: 78})
		s.Bring(kiosk.DeviceToken)
	}
	g := guestOf(t, s, map[kiosk.Screen][]answer{kiosk.ScreenTokenPIN: {{kiosk.ActionPIN, "802469", swap}}}).comes(kiosk.ActionTryToken)
	g.told(kiosk.CodeOwnRemoved)
}

// A receipt is checked by its QR code, as a scanner types it: what it proves by
// itself, and what has become of its record. No altered one passes.
func TestReceiptAtSelfService(t *testing.T) {
	t.Parallel()
	s, _, r := owner(t, nil)
	scan := func(text string) *guest {
		t.Helper()
		return guestOf(t, s, map[kiosk.Screen][]answer{kiosk.ScreenScanReceipt: {{action: kiosk.ActionScan, secret: text}}}).comes(kiosk.ActionCheckReceipt)
	}
	shown := func(text string, want kiosk.ProofView) {
		t.Helper()
		if got := scan(text).last(kiosk.ScreenStanding).Proof; *got != want {
			t.Errorf("%+v, want %+v", *got, want)
		}
	}
	shown(r.Final, kiosk.ProofView{RecordID: r.RecordID, Kind: kiosk.ReceiptFinal, Standing: kiosk.StandingActive})
	shown(strings.ReplaceAll(strings.ReplaceAll(r.Final, "\n", "\r\n"), "\u2014 ", "- "), kiosk.ProofView{RecordID: r.RecordID, Kind: kiosk.ReceiptFinal, Standing: kiosk.StandingActive})
	shown(r.Provisional, kiosk.ProofView{RecordID: r.RecordID, Kind: kiosk.ReceiptProvisional, Standing: kiosk.StandingActive})

	// Bytes are altered all over both receipts, in one visit.
	var altered []answer
	for _, text := range []string{r.Final, r.Provisional} {
		for i := 0; i < len(text)-1; i += 7 {
			b := []byte(text)
			if b[i] == '\n' || b[i] >= 0x80 {
				continue
			}
			if b[i]++; b[i] == 0x7F {
				b[i] = '!'
			}
			altered = append(altered, answer{action: kiosk.ActionScan, secret: string(b)})
		}
	}
	// What another key has signed in this kiosk's name is no receipt; in another kiosk's
	// name it is one that only the registry can check, and does not vouch for.
	altered = append(altered, answer{action: kiosk.ActionScan, secret: forged(t, r.RecordID, stage.KioskID, stage.Origin)})
	altered = append(altered, answer{action: kiosk.ActionScan, secret: forged(t, r.RecordID, "KIOSK-0002", "elsewhere.example/log")})
	shown(forged(t, r.RecordID, "KIOSK-0002", stage.Origin), kiosk.ProofView{RecordID: r.RecordID, Kind: kiosk.ReceiptOther, Standing: kiosk.StandingUntold})
	altered = append(altered, answer{action: kiosk.ActionScan, secret: ""}, answer{action: kiosk.ActionScan, secret: strings.Repeat("A", 20<<10)})
	g := guestOf(t, s, map[kiosk.Screen][]answer{kiosk.ScreenScanReceipt: slices.Clone(altered)}).comes(kiosk.ActionCheckReceipt)
	refused := 0
	for _, st := range g.seen {
		switch {
		case st.Screen == kiosk.ScreenStanding:
			t.Errorf("an altered receipt passes: %+v", st.Proof)
		case st.Fault != nil && st.Fault.Code == kiosk.CodeNoReceipt:
			refused++
		}
	}
	if refused != len(altered) {
		t.Errorf("%d of %d refused", refused, len(altered))
	}

	if err := s.StopRegistry(); err != nil {
		t.Fatal(err)
	}
	shown(r.Final, kiosk.ProofView{RecordID: r.RecordID, Kind: kiosk.ReceiptFinal, Standing: kiosk.StandingUnknown})
	shown(forged(t, r.RecordID, "KIOSK-0002", stage.Origin), kiosk.ProofView{RecordID: r.RecordID, Kind: kiosk.ReceiptOther, Standing: kiosk.StandingUnknown})
	late := arrive(t, s, idcard.Options{}, pivtoken.Options{}).meet()
	shown(late.Provisional, kiosk.ProofView{RecordID: late.RecordID, Kind: kiosk.ReceiptProvisional, Standing: kiosk.StandingWaiting})
	// What waits here is not told to whoever can make up a receipt.
	shown(forged(t, late.RecordID, "KIOSK-0002", stage.Origin), kiosk.ProofView{RecordID: late.RecordID, Kind: kiosk.ReceiptOther, Standing: kiosk.StandingUnknown})
}

// softKey is a key that anybody can have.
type softKey struct{ *ecdsa.PrivateKey }

func (k softKey) Sign(_ context.Context, digest []byte) ([]byte, error) {
	return ecdsa.SignASN1(rand.Reader, k.PrivateKey, digest)
}

// forged is a provisional receipt by a key of nobody's.
func forged(t *testing.T, recordID, kioskID, origin string) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	id, err := hex.DecodeString(recordID)
	if err != nil {
		t.Fatal(err)
	}
	b, err := receipt.SignProvisional(t.Context(), receipt.Provisional{Record: [32]byte(id), Audience: origin, Kiosk: kioskID, Sequence: 1,
		Time: time.Now().UTC().Truncate(time.Second), Claim: "AAAAAAAAAAAAAAAA"}, softKey{key})
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// The cancel code suspends the identity; a mistyped one is found here; while the
// registry is away nothing is kept and the code is as good as before; who gives
// many is told how long to wait. The code stands nowhere afterwards.
func TestCancelCodeAtSelfService(t *testing.T) {
	t.Parallel()
	var logged bytes.Buffer
	s, _, r := owner(t, func(o *stage.Options) {
		o.Log = slog.New(slog.NewTextHandler(&logged, &slog.HandlerOptions{Level: slog.LevelDebug}))
	})
	code := string(r.CancelCode.Reveal())
	give := func(codes ...string) map[kiosk.Screen][]answer {
		a := map[kiosk.Screen][]answer{kiosk.ScreenConfirmCancel: {{action: kiosk.ActionSuspend}}}
		for _, c := range codes {
			a[kiosk.ScreenCancelCode] = append(a[kiosk.ScreenCancelCode], answer{action: kiosk.ActionGiveCode, secret: c})
		}
		return a
	}
	standing := func() kiosk.Standing {
		t.Helper()
		g := guestOf(t, s, map[kiosk.Screen][]answer{kiosk.ScreenScanReceipt: {{action: kiosk.ActionScan, secret: r.Final}}}).comes(kiosk.ActionCheckReceipt)
		return g.last(kiosk.ScreenStanding).Proof.Standing
	}

	// Who does not confirm has changed nothing.
	guestOf(t, s, map[kiosk.Screen][]answer{kiosk.ScreenCancelCode: {{action: kiosk.ActionGiveCode, secret: code}}}).comes(kiosk.ActionCancel)
	if got := standing(); got != kiosk.StandingActive {
		t.Errorf("before: %s", got)
	}
	if err := s.StopRegistry(); err != nil {
		t.Fatal(err)
	}
	guestOf(t, s, give(code)).comes(kiosk.ActionCancel).told(kiosk.CodeNotAsked)
	if err := s.StartRegistry(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := standing(); got != kiosk.StandingActive {
		t.Errorf("a code that could not be given: %s", got)
	}

	mistyped := []byte(code)
	mistyped[5] = map[bool]byte{true: '8', false: '9'}[mistyped[5] == '9']
	g := guestOf(t, s, give(string(mistyped), strings.ToLower(strings.ReplaceAll(code, "-", "")))).comes(kiosk.ActionCancel)
	if got := g.last(kiosk.ScreenCancelCode).PIN.Problem; got != kiosk.PINNoCode {
		t.Errorf("mistyped: %q", got)
	}
	if at := g.last(kiosk.ScreenCancelled).Ended.At; time.Since(at).Abs() > time.Minute {
		t.Errorf("received at %v", at)
	}
	if got := standing(); got != kiosk.StandingSuspended {
		t.Errorf("after: %s", got)
	}

	// A code of nobody's gets the same answer.
	nobodys := record.FormatCancelCode([16]byte{1})
	guestOf(t, s, give(nobodys)).comes(kiosk.ActionCancel).last(kiosk.ScreenCancelled)

	// While somebody here gives one after another, there are too many.
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); hammer(ctx, s, nobodys) }()
	defer func() { stop(); <-ended }()
	for range 10 {
		g := guestOf(t, s, give(nobodys)).comes(kiosk.ActionCancel)
		if !slices.Contains(g.screens(), kiosk.ScreenTrouble) {
			continue // it was the one that there was room for
		}
		g.told(kiosk.CodeTooMany)
		if f := g.last(kiosk.ScreenTrouble).Fault; f.Until.IsZero() {
			t.Error("not told how long to wait")
		}
		stop()
		<-ended
		compact := strings.ReplaceAll(code, "-", "")
		nowhere(t, s, logged.Bytes(), code, compact, strings.ToLower(compact))
		return
	}
	t.Error("no limit")
}

// hammer gives a cancel code to the registry, again and again, from this address.
func hammer(ctx context.Context, s *stage.Stage, code string) {
	c := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}} // it is not tested here
	defer c.CloseIdleConnections()
	for ctx.Err() == nil {
		q, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+s.RegistryAddress()+"/v1/cancellations", strings.NewReader(`{"code":"`+code+`"}`))
		if err != nil {
			return
		}
		q.Header.Set("Content-Type", "application/json")
		if res, err := c.Do(q); err == nil {
			io.Copy(io.Discard, res.Body)
			res.Body.Close()
		}
	}
}

// Without an officer nothing but the self-service can be reached, and that only
// where it is configured.
func TestAloneReachesNothingElse(t *testing.T) {
	t.Parallel()
	for _, enabled := range []bool{false, true} {
		t.Run(fmt.Sprint(enabled), func(t *testing.T) {
			s := newStage(t, nil)
			s.Config.SelfService.Enabled = enabled
			start(t, s)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			states, err := s.Kiosk.Desk().States(ctx)
			if err != nil {
				t.Fatal(err)
			}
			st := <-states
			for st.Screen != kiosk.ScreenSignOn {
				st = <-states
			}
			if slices.Contains(st.Actions, kiosk.ActionSelfService) != enabled {
				t.Fatalf("offered: %v", st.Actions)
			}
			for _, a := range []kiosk.Action{kiosk.ActionStart, kiosk.ActionServices, kiosk.ActionCustody, kiosk.ActionSignOff, kiosk.ActionTryToken} {
				if err := s.Kiosk.Desk().Send(ctx, kiosk.Intent{State: st.Number, Action: a}); err != nil {
					t.Fatal(err)
				}
			}
			if !enabled {
				if err := s.Kiosk.Desk().Send(ctx, kiosk.Intent{State: st.Number, Action: kiosk.ActionSelfService}); err != nil {
					t.Fatal(err)
				}
				works(t, s) // from the page for signing on, where it still is
				return
			}
			g := &guest{t: t, s: s, alone: true}
			g.comes(kiosk.ActionTryToken)
			g.told(kiosk.CodeOwnNoKey) // the factory-new one
			if g.seen[0].Officer != "" {
				t.Errorf("an officer is signed on: %s", g.seen[0].Officer)
			}
			works(t, s)

			// Nobody is there to turn the screen to, whatever is told.
			states, err = s.Kiosk.Desk().States(ctx)
			if err != nil {
				t.Fatal(err)
			}
			st = <-states
			for st.Screen != kiosk.ScreenHome {
				st = <-states
			}
			if err := s.Kiosk.Desk().Send(ctx, kiosk.Intent{State: st.Number, Action: kiosk.ActionSignOff}); err != nil {
				t.Fatal(err)
			}
			for st.Screen != kiosk.ScreenSignOn {
				st = <-states
			}
			g = &guest{t: t, s: s, alone: true, answers: map[kiosk.Screen][]answer{kiosk.ScreenTokenPIN: pins("999991", "999992", "999993")}}
			g.comes(kiosk.ActionTryToken)
			g.told(kiosk.CodeOwnBlocked)
			for _, st := range g.seen {
				if st.Audience() != kiosk.AudienceCitizen {
					t.Errorf("%s is for the %s", st.Screen, st.Audience())
				}
			}
		})
	}
}
