package kiosk

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"log/slog"
	"math/big"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/mod/sumdb/note"

	"enrollkiosk/hsm"
	"enrollkiosk/kiosk/secret"
	"enrollkiosk/registry/policy"
	"enrollkiosk/registry/record"
)

// shift is a desk whose officer has signed on. The test plays the card.
type shift struct {
	*desk
	left  uint64
	right string // PIN of the officer's card
	tried []string
}

func newShift() *shift {
	s := &shift{desk: newDesk(), right: "246813"}
	s.guard = &guard{left: func() uint64 { return s.left }, proved: time.Now(), unlock: func(_ context.Context, pin secret.Text) error {
		s.tried = append(s.tried, string(pin.Reveal()))
		if string(pin.Reveal()) != s.right {
			return &Fault{Code: CodeOfficerOther, Remedy: RemedyOtherCard}
		}
		return nil
	}}
	s.latest.Readers = map[Device]ReaderState{DeviceOfficer: ReaderCard}
	return s
}

// reader has the officers' reader show something, as Agent.watch tells it.
func (s *shift) reader(r ReaderState) {
	if s.latest.Readers[DeviceOfficer] == ReaderCard && r != ReaderCard {
		s.left++
	}
	s.health <- Health{Readers: map[Device]ReaderState{DeviceOfficer: r}}
	synctest.Wait()
}

func comparing() State {
	return State{Screen: ScreenCompare, Turn: TurnOfficer, Main: ActionConfirmPerson, Actions: []Action{ActionConfirmPerson, ActionDoubtPerson},
		Holder: &HolderView{Surname: secret.FromString("SPECIMEN")}}
}

// newest is the state on the screen.
func (s *shift) newest() State {
	synctest.Wait()
	return <-s.hub.states(context.Background())
}

func (s *shift) enter(pin string) {
	s.intents <- Intent{State: s.newest().Number, Action: ActionSignOn, Secret: secret.FromString(pin)}
	synctest.Wait()
}

// What an officer sees is covered at once when the card leaves, and comes back
// with the same card and its PIN only. What was tapped meanwhile is dropped.
func TestOfficersScreenIsCovered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShift()
		_, answer, _ := ask(t.Context(), s.desk, comparing)
		before := s.newest()
		if before.Screen != ScreenCompare || before.Holder == nil {
			t.Fatalf("shown: %+v", before)
		}
		s.reader(ReaderEmpty)
		locked := s.newest()
		if locked.Screen != ScreenSignOn || !locked.Locked || locked.Holder != nil || locked.Fault == nil || locked.Fault.Code != CodeOfficerRemoved {
			t.Fatalf("covered by %+v", locked)
		}
		s.intents <- Intent{State: before.Number, Action: ActionConfirmPerson}
		s.reader(ReaderCard)
		if got := s.newest(); !got.Locked {
			t.Errorf("open without a PIN: %+v", got)
		}
		s.enter("111111") // a colleague's card
		if got := s.newest(); !got.Locked || got.Fault == nil || got.Fault.Code != CodeOfficerOther {
			t.Errorf("a colleague's card: %+v", got)
		}
		s.enter(s.right)
		again := s.newest()
		if again.Screen != ScreenCompare || again.Holder == nil || again.Number == before.Number {
			t.Fatalf("after the PIN: %+v", again)
		}
		select {
		case in := <-answer:
			t.Fatalf("answered by %+v", in)
		default:
		}
		s.intents <- Intent{State: again.Number, Action: ActionConfirmPerson}
		if in := <-answer; in.Action != ActionConfirmPerson {
			t.Errorf("%+v", in)
		}
	})
}

// A tap that comes before the news that the card has gone does not count.
func TestTapAfterTheCardLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShift()
		_, answer, _ := ask(t.Context(), s.desk, comparing)
		n := s.newest().Number
		s.left++
		s.intents <- Intent{State: n, Action: ActionConfirmPerson}
		if got := s.newest(); !got.Locked {
			t.Errorf("%+v", got)
		}
		select {
		case in := <-answer:
			t.Errorf("taken: %+v", in)
		default:
		}
		s.enter(s.right)
		s.intents <- Intent{State: s.newest().Number, Action: ActionDoubtPerson}
		synctest.Wait()
	})
}

// The citizen goes on while the officer is away; that the card was away, however
// shortly, is not forgotten when the officer's turn comes.
func TestCitizenGoesOnWithoutTheOfficer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShift()
		_, answer, _ := ask(t.Context(), s.desk, consent)
		n := s.newest().Number
		s.reader(ReaderEmpty)
		s.reader(ReaderCard)
		if got := s.newest(); got.Number != n || got.Screen != ScreenConsent {
			t.Errorf("the citizen is disturbed: %+v", got)
		}
		s.intents <- Intent{State: n, Action: ActionAccept}
		<-answer
		ask(t.Context(), s.desk, comparing)
		if got := s.newest(); !got.Locked || got.Holder != nil {
			t.Errorf("the officer's turn: %+v", got)
		}
		s.enter(s.right)
		if got := s.newest(); got.Screen != ScreenCompare {
			t.Errorf("after the PIN: %+v", got)
		}
		s.intents <- Intent{State: s.newest().Number, Action: ActionDoubtPerson}
		synctest.Wait()
	})
}

// What asks for a card and its PIN needs no lock before it: another officer's
// card may have to lie there.
func TestScreensThatAskForACardStay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShift()
		for _, screen := range []Screen{ScreenApprove, ScreenSecondOfficer, ScreenSecondApprove} {
			ctx, cancel := context.WithCancel(t.Context())
			go s.askOfficer(ctx, func() State { return approval(State{Screen: screen}) }, nil)
			s.newest()
			s.reader(ReaderEmpty)
			if got := s.newest(); got.Screen != screen {
				t.Errorf("%s: %+v", screen, got)
			}
			s.reader(ReaderCard)
			cancel()
			synctest.Wait()
		}
	})
}

// A locked desk can be left: somebody starts over, or nobody comes.
func TestLockedDeskEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShift()
		_, _, failed := ask(t.Context(), s.desk, comparing)
		s.newest()
		s.reader(ReaderEmpty)
		s.intents <- Intent{State: s.newest().Number, Action: ActionStartOver}
		if err := <-failed; !errors.Is(err, errStartOver) {
			t.Errorf("started over: %v", err)
		}
		_, _, failed = ask(t.Context(), s.desk, comparing)
		var fault *Fault
		if err := <-failed; !errors.As(err, &fault) || fault.Code != CodeTimedOut {
			t.Errorf("nobody comes: %v", err)
		}
		if len(s.tried) > 0 {
			t.Errorf("PINs tried: %v", s.tried)
		}
	})
}

// A card that proved itself and was never seen to lie there is taken to be away
// when there was time to see it.
func TestCardThatWasNeverSeen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShift()
		empty := Health{Readers: map[Device]ReaderState{DeviceOfficer: ReaderEmpty}}
		if s.guard.away(empty) {
			t.Error("the news may be on its way")
		}
		time.Sleep(settle + time.Second)
		if !s.guard.away(empty) || s.guard.away(s.latest) {
			t.Error("there was time to see it")
		}
		if err := s.guard.proving(func() error { return errOtherToken }); err == nil || !s.guard.away(empty) {
			t.Error("a proof that failed counts")
		}
		s.left++ // while it proves itself
		err := s.guard.proving(func() error { s.left++; return nil })
		if err != nil || !s.guard.away(s.latest) {
			t.Error("a card that left while it proved itself is there")
		}
	})
}

// plainCard is an officer's card that has no serial number, as not every maker's has.
type plainCard struct {
	Token // the rest of it is not asked
	key   *ecdsa.PrivateKey
	cert  []byte
}

func (c plainCard) Open(context.Context, Device) (Token, error)             { return c, nil }
func (c plainCard) Info() TokenInfo                                         { return TokenInfo{} }
func (c plainCard) Close() error                                            { return nil }
func (c plainCard) Certificate(context.Context, Slot) ([]byte, error)       { return c.cert, nil }
func (c plainCard) Key(context.Context, Slot, secret.Text) (hsm.Key, error) { return c, nil }
func (c plainCard) Public() crypto.PublicKey                                { return c.key.Public() }
func (c plainCard) Sign(_ context.Context, digest []byte) ([]byte, error) {
	return c.key.Sign(rand.Reader, digest, crypto.SHA256)
}

func (f force) plainCard(t *testing.T, number string) plainCard {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(9), Subject: pkix.Name{SerialNumber: number}, KeyUsage: x509.KeyUsageDigitalSignature,
		NotBefore: f.cert.NotBefore, NotAfter: f.cert.NotAfter}
	der, err := x509.CreateCertificate(rand.Reader, c, f.cert, key.Public(), f.key)
	if err != nil {
		t.Fatal(err)
	}
	return plainCard{key: key, cert: der}
}

// ofForce is a policy under which the force's officers work.
func ofForce(t *testing.T, f force) policy.Signed {
	t.Helper()
	root := plainCard{key: f.key}
	_, vkey, err := note.GenerateKey(rand.Reader, "registry.example/log")
	if err != nil {
		t.Fatal(err)
	}
	seal, err := record.GenerateAuthorityKey()
	if err != nil {
		t.Fatal(err)
	}
	b, err := policy.Sign(t.Context(), policy.Policy{Version: 1, Issued: f.cert.NotBefore.UTC().Truncate(time.Second), Expires: f.cert.NotAfter.UTC().Truncate(time.Second),
		LogOrigin: "registry.example/log", LogKey: vkey, Authority: seal.Public(), OfficerCA: []policy.Root{{Certificate: f.cert.Raw, Class: record.Test}},
		OfficerRules: []policy.OfficerRule{{Roles: []record.Role{record.Officer}}}}, root)
	if err != nil {
		t.Fatal(err)
	}
	hash, err := policy.RootHash(root.Public())
	if err != nil {
		t.Fatal(err)
	}
	s, err := policy.Parse(b, hash)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// The desk is unlocked by the very card, also where cards have no serial number:
// no other officer's, and no copy of the certificate.
func TestUnlockedByTheSameCard(t *testing.T) {
	f := newForce(t, time.Now())
	own, other := f.plainCard(t, "0001"), f.plainCard(t, "0002")
	copied := plainCard{key: other.key, cert: own.cert}
	signed := ofForce(t, f)
	pin := secret.FromString("246813")
	on := func(c plainCard, known officer) (officer, error) {
		a := New(Config{ID: "KIOSK-0001", Tokens: c, Policy: func() (policy.Signed, error) { return signed, nil }, Languages: []string{"en"},
			Limits: DefaultLimits(), Log: slog.New(slog.DiscardHandler), Clock: func() Times { return Times{Wall: time.Now()} }})
		return a.recognise(t.Context(), known, pin)
	}
	known, err := on(own, officer{})
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		card plainCard
		code Code
	}{"the same": {own, ""}, "another officer's": {other, CodeOfficerOther}, "a copy of the certificate": {copied, CodeOfficerUnknown}} {
		o, err := on(c.card, known)
		var fault *Fault
		if c.code == "" && (err != nil || o.number != "0001") || c.code != "" && (!errors.As(err, &fault) || fault.Code != c.code) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The windows end for the card of the officer who signed on, with its PIN, and
// for nothing else; every state says so from then on.
func TestClosingWantsTheOfficersCard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShift()
		ended := make(chan error, 1)
		answer := func(a Action, pin string) {
			t.Helper()
			s.intents <- Intent{State: s.newest().Number, Action: a, Secret: secret.FromString(pin)}
			synctest.Wait()
		}
		closing := func() {
			t.Helper()
			go func() { ended <- s.desk.close(t.Context()) }()
			if got := s.newest(); got.Screen != ScreenClose || got.Waiting != DeviceOfficer || got.Closed != 0 {
				t.Fatalf("asked by %+v", got)
			}
		}
		closing()
		answer(ActionLeave, "")
		if err := <-ended; err != nil || s.base.Closed != 0 {
			t.Errorf("went back: %v, closed %d times", err, s.base.Closed)
		}
		closing()
		time.Sleep(2 * s.idle) // walked away
		if err := <-ended; err != nil || s.base.Closed != 0 {
			t.Errorf("walked away: %v, closed %d times", err, s.base.Closed)
		}
		closing()
		answer(ActionApprove, "111111")
		if got := s.newest(); got.Screen != ScreenClose || got.Fault == nil || got.Fault.Code != CodeOfficerOther || got.Closed != 0 {
			t.Errorf("another card: %+v", got)
		}
		answer(ActionApprove, s.right)
		if err := <-ended; !errors.Is(err, errSignedOff) {
			t.Fatalf("closed: %v", err)
		}
		if got := s.show(State{Screen: ScreenSignOn}); got.Closed != 1 {
			t.Errorf("the next state says %d", got.Closed)
		}
	})
}

// A page for nobody in particular holds nothing of anybody.
func TestAudience(t *testing.T) {
	for turn, want := range map[Turn]Audience{TurnOfficer: AudienceOfficer, TurnCitizen: AudienceCitizen, TurnMachine: AudienceBoth} {
		if got := (State{Turn: turn}).Audience(); got != want {
			t.Errorf("turn of %s: for %s", turn, got)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		e := &enrollment{d: newDesk(), observe: func(Event) {}}
		e.stepper(ScreenReading, StepOpenCard)
		s := <-e.d.hub.states(t.Context())
		if s.Audience() != AudienceBoth || s.Holder != nil || s.Checks != nil || s.Consent != nil || s.Review != nil || s.PIN != nil || s.Receipt != nil || s.Custody != nil {
			t.Errorf("a page of the machine's: %+v", s)
		}
	})
}
