package stage_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"enrollkiosk/hsm"
	"enrollkiosk/hsm/piv"
	"enrollkiosk/kiosk"
	"enrollkiosk/kiosk/station"
	"enrollkiosk/registry/record"
	"enrollkiosk/simulators/cmd/demo/stage"
	"enrollkiosk/simulators/idcard"
	"enrollkiosk/simulators/pcscd"
	"enrollkiosk/simulators/pivtoken"
	"enrollkiosk/simulators/specimen"
)

// written counts commands that change a token: CHANGE REFERENCE DATA, RESET
// RETRY COUNTER, GENERATE, PUT DATA, SET MANAGEMENT KEY, RESET.
func written(t *testing.T, s *stage.Stage) *atomic.Int32 {
	n := new(atomic.Int32)
	s.Reader(kiosk.DeviceToken).Trace(func(e pcscd.TraceEvent) {
		if !e.Answered && len(e.Command) > 1 {
			switch e.Command[1] {
			case 0x24, 0x2C, 0x47, 0xDB, 0xFF, 0xFB:
				n.Add(1)
			}
		}
	})
	t.Cleanup(func() { s.Reader(kiosk.DeviceToken).Trace(nil) })
	return n
}

// Tokens that cannot be used: the person is told, brings another one and goes
// on. The bad one is as it came.
func TestBadTokens(t *testing.T) {
	t.Parallel()
	s := newStage(t, nil)
	start(t, s)
	for _, c := range []struct {
		fault pivtoken.Fault
		code  kiosk.Code
		begun bool // found out only after keys were made: put back to factory state
	}{
		{pivtoken.Provisioned, kiosk.CodeNotFactoryNew, false},
		{pivtoken.PINBlocked, kiosk.CodeTokenPINBlocked, false},
		{pivtoken.NoAttestation, kiosk.CodeCannotAttest, false},
		{pivtoken.PlainNIST, kiosk.CodeCannotAttest, false},
		{pivtoken.ForeignRoot, kiosk.CodeAttestation, true},
		{pivtoken.WrongSlot, kiosk.CodeAttestation, true},
		{pivtoken.SoftwareKey, kiosk.CodeAttestation, true},
		{pivtoken.CopiedChain, kiosk.CodeAttestation, true},
		{pivtoken.SoftwareLeaf, kiosk.CodeAttestation, true},
		{pivtoken.LikeNitrokey, kiosk.CodeCannotAttest, false},
		{pivtoken.LikePivApplet, kiosk.CodeCannotAttest, false},
		{pivtoken.NoAgreement, kiosk.CodeTokenUnsupported, false},
		{pivtoken.LateAgreement, kiosk.CodeTokenUnsupported, true},
	} {
		t.Run(c.fault.String(), func(t *testing.T) {
			p := arrive(t, s, idcard.Options{}, pivtoken.Options{Faults: c.fault})
			bad := s.Token
			good := pivtoken.New(pivtoken.Options{Serial: 11_000_000 + uint32(c.fault), Root: issuers.Tokens})
			changes := written(t, s)
			p.mend = func(int, told) kiosk.Action {
				if (changes.Load() > 0) != c.begun {
					t.Errorf("%d commands changed the token", changes.Load())
				}
				p.swap(kiosk.DeviceToken, good)
				return kiosk.ActionRetry
			}
			final(t, s, p.meet(trouble(c.code)))
			if c.begun {
				p.swap(kiosk.DeviceToken, bad)
				if i, err := piv.Probe(t.Context(), s.Reader(kiosk.DeviceToken).Name()); err != nil || !i.FactoryNew {
					t.Errorf("the refused token is not as it came: %+v, %v", i, err)
				}
			}
		})
	}
	t.Run("no token", func(t *testing.T) {
		p := arrive(t, s, idcard.Options{}, pivtoken.Options{})
		p.swap(kiosk.DeviceToken, s.Chip)
		p.mend = func(int, told) kiosk.Action {
			p.swap(kiosk.DeviceToken, s.Token)
			return kiosk.ActionRetry
		}
		final(t, s, p.meet(trouble(kiosk.CodeNotPIV)))
	})
	works(t, s)
}

// PUK and management key are sealed to the authority before the token learns them.
func TestAdministratorIsSealedBeforeItIsSet(t *testing.T) {
	t.Parallel()
	var sealed atomic.Bool
	s := newStage(t, func(o *stage.Options) {
		o.Observe = func(e kiosk.Event) {
			if e.Step == kiosk.StepSeal && e.Failed == "" {
				sealed.Store(true)
			}
		}
	})
	start(t, s)
	p := arrive(t, s, idcard.Options{}, pivtoken.Options{})
	var set, early atomic.Int32
	s.Reader(kiosk.DeviceToken).Trace(func(e pcscd.TraceEvent) {
		if c := e.Command; !e.Answered && (c[1] == 0x24 && c[3] == 0x81 || c[1] == 0xFF) {
			set.Add(1)
			if !sealed.Load() {
				early.Add(1)
			}
		}
	})
	final(t, s, p.meet())
	if set.Load() != 2 || early.Load() != 0 {
		t.Errorf("%d of %d credentials were set before they were sealed", early.Load(), set.Load())
	}
}

// A token is exchanged for another new one halfway: the one that was written to
// must come back.
func TestTokenExchanged(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		at   byte // the instruction before which the first token goes
	}{{"before its keys", 0x47}, {"before it is locked", 0xFF}, {"before it signs", 0x87}} {
		t.Run(c.name, func(t *testing.T) {
			s := newStage(t, nil)
			start(t, s)
			p := arrive(t, s, idcard.Options{}, pivtoken.Options{})
			first := s.Token
			var gone atomic.Bool
			s.Reader(kiosk.DeviceToken).Trace(func(e pcscd.TraceEvent) {
				if !e.Answered && e.Command[1] == c.at && (c.at != 0x87 || e.Command[3] == 0x9A) && !gone.Swap(true) {
					s.Take(kiosk.DeviceToken)
				}
			})
			p.mend = func(n int, _ told) kiosk.Action {
				if n == 1 {
					p.swap(kiosk.DeviceToken, pivtoken.New(pivtoken.Options{Serial: 12_000_000, Root: issuers.Tokens}))
				} else {
					p.swap(kiosk.DeviceToken, first)
				}
				return kiosk.ActionRetry
			}
			final(t, s, p.meet(trouble(kiosk.CodeTokenRemoved), trouble(kiosk.CodeTokenRemoved)))
		})
	}
}

// A missing touch is asked for again: when the keys are made, which starts them
// over, and when the citizen signs.
func TestTokenNotTouched(t *testing.T) {
	t.Parallel()
	s := newStage(t, func(o *stage.Options) { o.Limits.Touch = moment })
	start(t, s)
	var asked atomic.Int32
	p := arrive(t, s, idcard.Options{}, pivtoken.Options{Touch: func(ctx context.Context) bool {
		switch asked.Add(1) {
		case 1, 3: // the token's own patience ends: at the agreement, at the signature
			return false
		case 4: // ours ends
			<-ctx.Done()
			return false
		}
		return true
	}})
	p.mend = func(n int, _ told) kiosk.Action {
		if n == 3 { // as the sentence says: take it out and put it back
			p.swap(kiosk.DeviceToken, s.Token)
		}
		return kiosk.ActionRetry
	}
	final(t, s, p.meet(trouble(kiosk.CodeTouchTimeout), trouble(kiosk.CodeTouchTimeout), trouble(kiosk.CodeTouchTimeout)))
	works(t, s)
}

// verified counts PINs that were sent to the officer's card.
func verified(t *testing.T, s *stage.Stage) *atomic.Int32 {
	n := new(atomic.Int32)
	s.Reader(kiosk.DeviceOfficer).Trace(func(e pcscd.TraceEvent) {
		if !e.Answered && len(e.Command) > 5 && e.Command[1] == 0x20 {
			n.Add(1)
		}
	})
	t.Cleanup(func() { s.Reader(kiosk.DeviceOfficer).Trace(nil) })
	return n
}

func officersCard(t *testing.T, of *specimen.Authority, i int) *pivtoken.Token {
	t.Helper()
	card, err := of.Officers[i].Card(of.Tokens, stage.OfficerPIN)
	if err != nil {
		t.Fatal(err)
	}
	return card
}

// copiedOfficer is a card with an officer's certificate, which is public, and a
// key of its own.
func copiedOfficer(t *testing.T) *pivtoken.Token {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	card := pivtoken.New(pivtoken.Options{Root: issuers.Tokens, Serial: 32})
	if err := card.InstallKey(byte(kiosk.SlotSignature), key, issuers.Officers[0].Certificate.Raw); err != nil {
		t.Fatal(err)
	}
	if err := card.SetPIN(stage.OfficerPIN); err != nil {
		t.Fatal(err)
	}
	return card
}

func TestOfficersCardAtSignOn(t *testing.T) {
	t.Parallel()
	s := newStage(t, nil)
	start(t, s)
	others, err := specimen.Open("")
	if err != nil {
		t.Fatal(err)
	}
	p := arrive(t, s, idcard.Options{}, pivtoken.Options{})
	pins := verified(t, s)
	unknown := told{kiosk.ScreenSignOn, kiosk.CodeOfficerUnknown, 0}
	steps := []struct {
		card pcscd.Card // brought now; nil: the one that lies there
		pin  string
		told told // afterwards
		pins int32
	}{
		{officersCard(t, others, 0), stage.OfficerPIN, unknown, 0},
		{pivtoken.New(pivtoken.Options{Root: issuers.Tokens, Serial: 31}), stage.OfficerPIN, unknown, 0},
		{pivtoken.New(pivtoken.Options{Faults: pivtoken.PlainNIST}), stage.OfficerPIN, unknown, 0},
		{s.Chip, stage.OfficerPIN, unknown, 0},
		{copiedOfficer(t), stage.OfficerPIN, unknown, 0}, // found out before the PIN is sent
		{officersCard(t, issuers, 0), "999999", told{kiosk.ScreenSignOn, kiosk.CodeOfficerWrongPIN, 2}, 1},
		{nil, "999999", told{kiosk.ScreenSignOn, kiosk.CodeOfficerWrongPIN, 1}, 2},
		{nil, stage.OfficerPIN, told{kiosk.ScreenSignOn, kiosk.CodeOfficerBlocked, 0}, 2}, // the last try is not for machines
		{officersCard(t, issuers, 1), stage.OfficerPIN, told{}, 3},
	}
	do := func(n int) {
		p.OfficerPIN = steps[n].pin
		if steps[n].card != nil {
			p.swap(kiosk.DeviceOfficer, steps[n].card)
		}
	}
	var want []told
	for _, step := range steps[:len(steps)-1] {
		want = append(want, step.told)
	}
	p.mend = func(n int, _ told) kiosk.Action {
		if got := pins.Load(); got != steps[n-1].pins {
			t.Errorf("step %d: %d PINs were sent to cards, want %d", n, got, steps[n-1].pins)
		}
		do(n)
		return kiosk.ActionRetry
	}
	do(0)
	final(t, s, p.meet(want...))
	if pins.Load() != 4 { // to sign on and to approve
		t.Errorf("%d PINs were sent", pins.Load())
	}
}

// The approval is the signed-on officer's own: not the colleague's.
func TestOfficersCardAtApproval(t *testing.T) {
	t.Parallel()
	s := newStage(t, nil)
	start(t, s)
	p := arrive(t, s, idcard.Options{}, pivtoken.Options{})
	own := officersCard(t, issuers, 0)
	pins := verified(t, s)
	s.Hold(kiosk.DeviceOfficer, own)
	p.odd = func(_ context.Context, st kiosk.State) (bool, error) {
		if st.Screen == kiosk.ScreenApprove && st.Fault == nil {
			p.swap(kiosk.DeviceOfficer, officersCard(t, issuers, 1))
		}
		return false, nil
	}
	p.mend = func(n int, _ told) kiosk.Action {
		p.OfficerPIN = stage.OfficerPIN
		if n == 1 {
			if pins.Load() != 1 {
				t.Error("the PIN was sent to the colleague's card")
			}
			p.swap(kiosk.DeviceOfficer, own)
			p.OfficerPIN = "999999"
		}
		return kiosk.ActionRetry
	}
	final(t, s, p.meet(told{kiosk.ScreenApprove, kiosk.CodeOfficerOther, 0}, told{kiosk.ScreenApprove, kiosk.CodeOfficerWrongPIN, 2}))
	if pins.Load() != 3 {
		t.Errorf("%d PINs were sent for three that were typed for this card", pins.Load())
	}
	works(t, s)
}

// When the officer's card leaves, what the officer saw is covered until the same
// card is back with its PIN; between two citizens its officer is signed off.
func TestOfficersCardLeaves(t *testing.T) {
	t.Parallel()
	s := newStage(t, nil)
	start(t, s)
	p := arrive(t, s, idcard.Options{}, pivtoken.Options{})
	own := officersCard(t, issuers, 0)
	pins := verified(t, s)
	s.Hold(kiosk.DeviceOfficer, own)
	left := false
	p.odd = func(_ context.Context, st kiosk.State) (bool, error) {
		if st.Screen == kiosk.ScreenCompare && !left {
			left = true
			s.Take(kiosk.DeviceOfficer)
			return true, nil
		}
		if st.Locked && st.Holder != nil {
			t.Error("a locked desk shows the citizen")
		}
		return false, nil
	}
	p.mend = func(n int, _ told) kiosk.Action {
		if got := pins.Load(); got != 1 {
			t.Errorf("fault %d: %d PINs were sent to cards", n, got)
		}
		p.swap(kiosk.DeviceOfficer, []pcscd.Card{officersCard(t, issuers, 1), own}[n-1])
		return kiosk.ActionRetry
	}
	final(t, s, p.meet(told{kiosk.ScreenSignOn, kiosk.CodeOfficerRemoved, 0}, told{kiosk.ScreenSignOn, kiosk.CodeOfficerOther, 0}))
	if pins.Load() != 3 { // to sign on, to go on, to approve
		t.Errorf("%d PINs were sent", pins.Load())
	}
	s.Take(kiosk.DeviceOfficer)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	states, err := s.Kiosk.Desk().States(ctx)
	if err != nil {
		t.Fatal(err)
	}
	signedOff := false
	for st := range states {
		if signedOff = st.Screen == kiosk.ScreenSignOn; signedOff {
			if st.Locked || st.Officer != "" {
				t.Errorf("signed off: locked %v, officer %q", st.Locked, st.Officer)
			}
			break
		}
	}
	if !signedOff {
		t.Error("the officer stays signed on without the card")
	}
	works(t, s)
}

// The policy's wishes for citizens' keys are what the token makes: another curve,
// retired slots too, all attested.
func TestKeysAsThePolicyWants(t *testing.T) {
	t.Parallel()
	s := newStage(t, nil)
	if err := s.SignPolicy(t.Context(), func(text string) string {
		text = strings.Replace(text, "version = 1\n", "version = 2\n", 1)
		return strings.Replace(text, "token = { custody = true }", `token = { algorithms = ["p-384", "p-256"], pin = "always", touch = "cached", retired = 2 }`, 1)
	}); err != nil {
		t.Fatal(err)
	}
	start(t, s)
	p := arrive(t, s, idcard.Options{}, pivtoken.Options{})
	var did string
	p.OnState = func(st kiosk.State) {
		if st.Review != nil {
			did = st.Review.DID
		}
	}
	final(t, s, p.meet())
	public, err := record.ParseDIDKey(did)
	if err != nil {
		t.Fatal(err)
	}
	if a, _ := hsm.AlgorithmOf(public); a != hsm.P384 {
		t.Errorf("the holder's key is of algorithm %q", a)
	}
	p.Bring(kiosk.DeviceToken)
	seen(t, s, func(h kiosk.Health) bool { return h.Readers[kiosk.DeviceToken] == kiosk.ReaderCard })
	d, err := station.DescribeToken(t.Context(), s.Config.Readers.Token+" 00 00", s.Policy.Policy())
	if err != nil {
		t.Fatal(err)
	}
	var keys []string
	for _, slot := range d.Slots {
		if slot.Public != nil && slot.Ref != 0xF9 {
			keys = append(keys, fmt.Sprintf("%v %s", slot.Ref, slot.Attested))
		}
	}
	const good = " verified, root of class test"
	if want := []string{"9A" + good, "9D" + good, "82" + good, "83" + good}; !slices.Equal(keys, want) {
		t.Errorf("keys on the token: %q", keys)
	}
}
