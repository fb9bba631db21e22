package kiosk

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"enrollkiosk/hsm"
	"enrollkiosk/hsm/attest"
	"enrollkiosk/kiosk/secret"
	"enrollkiosk/registry/expect"
	"enrollkiosk/registry/policy"
	"enrollkiosk/registry/receipt"
	"enrollkiosk/registry/record"
	"enrollkiosk/sync/queue"
)

// selfService is a citizen without an officer: with the own token or a receipt in
// the hand, and nothing else of this kiosk. It reads no identity document, makes no
// record and keeps nothing.
func (e *enrollment) selfService(ctx context.Context) error {
	e.d.aside = true
	defer func() { e.d.aside = false }()
	in, err := e.d.ask(ctx, func() State {
		return State{Screen: ScreenSelfService, Turn: TurnCitizen,
			Actions: []Action{ActionTryToken, ActionChangePIN, ActionCheckReceipt, ActionCancel, ActionLeave, ActionChoose}}
	})
	if err != nil {
		return err
	}
	switch in.Action {
	case ActionTryToken:
		err = e.tryToken(ctx)
	case ActionChangePIN:
		err = e.changePIN(ctx)
	case ActionCheckReceipt:
		err = e.checkReceipt(ctx)
	case ActionCancel:
		err = e.cancel(ctx)
	}
	if err != nil && !errors.Is(err, errStartOver) && !errors.Is(err, errDeclined) {
		return err
	}
	return e.takeThings(ctx)
}

// leaving is what can be done on each page of a citizen alone, after the page's own.
func leaving(own ...Action) []Action { return append(own, ActionLeave, ActionChoose) }

// ownToken is a citizen's token that has proved where its key was born.
type ownToken struct {
	serial   uint32
	proof    attest.Proof
	evidence record.Attestation
}

// tryToken shows that the token's key was born in it and answers to its PIN.
func (e *enrollment) tryToken(ctx context.Context) error {
	t, err := e.showToken(ctx)
	if err != nil {
		return err
	}
	pin, err := e.tokenPIN(ctx, t)
	if err != nil {
		return err
	}
	defer pin.Wipe()
	if err := e.tokenWork(ctx, StepTryKey, t, func(ctx context.Context, open Token) error {
		key, err := open.Key(ctx, SlotAuthentication, pin)
		if err != nil {
			return err
		}
		return possesses(ctx, key, t.proof.Key())
	}); err != nil {
		return err
	}
	return e.tokenResult(ctx, TokenView{})
}

// changePIN has the citizen choose another PIN. Nothing is written before both are
// known to be in order.
func (e *enrollment) changePIN(ctx context.Context) error {
	t, err := e.showToken(ctx)
	if err != nil {
		return err
	}
	old, err := e.tokenPIN(ctx, t)
	if err != nil {
		return err
	}
	defer old.Wipe()
	pin, err := e.choosePIN(ctx)
	if err != nil {
		return err
	}
	defer pin.Wipe()
	var sent bool
	if err := e.tokenWork(ctx, StepChangePIN, t, func(ctx context.Context, open Token) error {
		// A token that went while its PIN was being changed may have the new one.
		if sent {
			if err := open.VerifyPIN(ctx, pin, false); err == nil {
				return nil
			}
		}
		sent = true
		return open.ChangePIN(ctx, old, pin)
	}); err != nil {
		return err
	}
	return e.tokenResult(ctx, TokenView{Changed: true})
}

func (e *enrollment) tokenResult(ctx context.Context, v TokenView) error {
	_, err := e.d.ask(ctx, func() State {
		return State{Screen: ScreenTokenResult, Turn: TurnCitizen, Main: ActionLeave, Actions: leaving(), Token: &v}
	})
	return err
}

// showToken has the citizen put the own token in, and verifies where the key in 9A
// was born. It needs no PIN and writes nothing.
func (e *enrollment) showToken(ctx context.Context) (t ownToken, err error) {
	err = e.try(ctx, func(ctx context.Context) error {
		if err := e.awaitOwnToken(ctx); err != nil {
			return err
		}
		p := e.stepper(ScreenTokenWork, StepLookAtToken)
		return p.run(ctx, StepLookAtToken, ownTokenFault, func(ctx context.Context) error {
			ctx, cancel := context.WithTimeout(ctx, e.limits.Token)
			defer cancel()
			signed, err := e.newestPolicy()
			if err != nil {
				return err
			}
			e.policy = signed
			return withToken(ctx, e.tokens, DeviceToken, 0, func(open Token) error {
				t, err = e.verifyOwn(ctx, open, signed.Policy())
				return err
			})
		})
	})
	return t, err
}

// awaitOwnToken shows its page until a token is in.
func (e *enrollment) awaitOwnToken(ctx context.Context) error {
	for {
		_, answered, err := e.d.wait(ctx, func() State {
			return State{Screen: ScreenShowToken, Turn: TurnCitizen, Waiting: DeviceToken, Actions: leaving()}
		}, func(s *State, h Health) bool {
			s.Fault = readerHint(DeviceToken, h.Readers[DeviceToken])
			return h.Readers[DeviceToken] == ReaderCard
		})
		if err != nil || !answered {
			return err
		}
	}
}

// verifyOwn verifies that an open token is a citizen's. Who it was given to, only the
// registry could tell.
func (e *enrollment) verifyOwn(ctx context.Context, open Token, p policy.Policy) (ownToken, error) {
	info := open.Info()
	if info.FactoryNew {
		return ownToken{}, ErrNoKey
	}
	key, err := open.Attest(ctx, SlotAuthentication)
	if err != nil {
		return ownToken{}, err
	}
	proof, err := VerifyOwnKey(p, key, info.Serial, e.now())
	if err != nil {
		return ownToken{}, err
	}
	if info.PINBlocked {
		return ownToken{}, hsm.ErrPINBlocked
	}
	piv := record.PIVEvidence(key.Evidence)
	return ownToken{info.Serial, proof, record.Attestation{PIV: &piv}}, nil
}

// tokenPIN asks for the token's PIN until the token takes it. Each PIN is one that
// the person has just entered, and the last try one that the person knows to be the
// last. The caller wipes the PIN.
func (e *enrollment) tokenPIN(ctx context.Context, t ownToken) (pin secret.Text, err error) {
	view := PINView{Min: MinPIN, Max: MaxPIN}
	err = e.try(ctx, func(ctx context.Context) error {
		for {
			in, err := e.d.ask(ctx, func() State {
				pad := view
				return State{Screen: ScreenTokenPIN, Turn: TurnCitizen, Main: ActionPIN, Actions: leaving(ActionPIN), PIN: &pad}
			})
			if err != nil {
				return err
			}
			if p := digits(in.Secret, MinPIN, MaxPIN); p != PINFine { // no PIN of ours: it costs no try
				in.Wipe()
				if view.Left != 1 {
					view.Problem = p
				}
				continue
			}
			limited, cancel := context.WithTimeout(ctx, e.limits.Token)
			err = withToken(limited, e.tokens, DeviceToken, t.serial, func(open Token) error {
				return open.VerifyPIN(limited, in.Secret, view.Left == 1)
			})
			cancel()
			if err == nil {
				pin = in.Secret
				return nil
			}
			in.Wipe()
			var wrong *hsm.WrongPIN
			switch {
			case errors.As(err, &wrong):
				view.Problem, view.Left = PINOwnWrong, wrong.Left
			case errors.Is(err, ErrLastTry):
				view.Problem, view.Left = PINOwnLast, 1
			case ctx.Err() != nil:
				return ctx.Err()
			default:
				return ownTokenFault(err)
			}
		}
	})
	return pin, err
}

// tokenWork does one step with the token that was shown, again if the person wants.
func (e *enrollment) tokenWork(ctx context.Context, step StepName, t ownToken, work func(context.Context, Token) error) error {
	return e.try(ctx, func(ctx context.Context) error {
		return e.stepper(ScreenTokenWork, step).run(ctx, step, ownTokenFault, func(ctx context.Context) error {
			ctx, cancel := context.WithTimeout(ctx, e.limits.Touch)
			defer cancel()
			return withToken(ctx, e.tokens, DeviceToken, t.serial, func(open Token) error { return work(ctx, open) })
		})
	})
}

// VerifyOwnKey checks the evidence of the key in 9A of a token that somebody brings.
func VerifyOwnKey(p policy.Policy, key TokenKey, serial uint32, at time.Time) (attest.Proof, error) {
	roots, err := expect.Roots(p.PIVRoots)
	if err != nil {
		return attest.Proof{}, err
	}
	between, err := expect.Intermediates(p)
	if err != nil {
		return attest.Proof{}, err
	}
	public, err := x509.ParsePKIXPublicKey(key.Public)
	if err != nil {
		return attest.Proof{}, err
	}
	want := expect.Token(p, between, byte(SlotAuthentication), public, at)
	want.Serial = serial
	return attest.VerifyPIV(key.Evidence, roots, want)
}

// possessionType is the typ of what a key signs to show that it is there. It can be
// taken for nothing else that citizens sign.
const possessionType = "enrollkiosk-possession+jws"

var errNotPossessed = errors.New("the key does not sign what its public key verifies: call staff")

// possesses has key sign 32 random bytes, which public verifies.
func possesses(ctx context.Context, key hsm.Key, public crypto.PublicKey) error {
	fresh := make([]byte, 32)
	rand.Read(fresh)
	signed, err := record.SignCompact(ctx, possessionType, fresh, key)
	if err != nil {
		return err
	}
	want, err := record.NewJWK(public)
	if err != nil {
		return err
	}
	said, err := record.VerifyCompact(signed, possessionType, record.AcceptAny(want))
	switch {
	case err != nil:
		return fmt.Errorf("%w: %w", errNotPossessed, err)
	case !bytes.Equal(said, fresh):
		return errNotPossessed
	}
	return nil
}

// checkReceipt verifies a receipt and asks what has become of its record.
func (e *enrollment) checkReceipt(ctx context.Context) error {
	shown, err := e.scanReceipt(ctx)
	if err != nil {
		return err
	}
	view := ProofView{RecordID: hex.EncodeToString(shown.Record[:]), Kind: shown.Kind, Standing: e.standing(ctx, shown)}
	if view.Kind == ReceiptOther && view.Standing != StandingUntold && view.Standing != StandingUnknown {
		view.Kind = ReceiptVouched
	}
	_, err = e.d.ask(ctx, func() State {
		return State{Screen: ScreenStanding, Turn: TurnCitizen, Main: ActionLeave, Actions: leaving(), Proof: &view}
	})
	return err
}

// scanReceipt takes the QR code of a receipt from a scanner until it is one.
func (e *enrollment) scanReceipt(ctx context.Context) (shown Receipt, err error) {
	var fault *Fault
	for {
		in, err := e.d.ask(ctx, func() State {
			return State{Screen: ScreenScanReceipt, Turn: TurnCitizen, Main: ActionScan, Actions: leaving(ActionScan), Fault: fault}
		})
		if err != nil {
			return shown, err
		}
		text := scannedReceipt(in.Secret.Reveal())
		in.Wipe()
		signed, err := e.newestPolicy()
		if err != nil {
			return shown, kioskFault(err)
		}
		if shown, err = e.verifyReceipt(text, signed.Policy()); err == nil {
			return shown, nil
		}
		e.log.Info("what was scanned is no receipt", "cause", err)
		fault = &Fault{Code: CodeNoReceipt, Remedy: RemedyRetry}
	}
}

// scannedReceipt undoes what scanners do to a text that they type: line ends, and
// the dash before a signature (C2SP signed-note), which not every keyboard has.
func scannedReceipt(typed []byte) []byte {
	s := strings.ReplaceAll(string(typed), "\r\n", "\n")
	s = strings.TrimSpace(strings.ReplaceAll(s, "\n- ", "\n\u2014 "))
	if strings.Contains(s, "\n") {
		s += "\n"
	}
	return []byte(s)
}

// verifyReceipt finds out what a receipt proves by itself. A provisional one of another
// kiosk proves nothing here: only the registry knows whose key signed it.
func (e *enrollment) verifyReceipt(b []byte, p policy.Policy) (shown Receipt, err error) {
	shown.Text = b
	if !bytes.HasPrefix(b, []byte("eyJ")) {
		shown.Kind = ReceiptFinal
		if shown.Record, err = receipt.RecordID(b); err != nil {
			return shown, err
		}
		_, err = receipt.Verify(b, p.Log(), shown.Record)
		return shown, err
	}
	own := false
	v, err := receipt.VerifyProvisional(b, func(pub crypto.PublicKey) bool {
		mine, ok := e.tpm.RecordKey().Public().(interface{ Equal(crypto.PublicKey) bool })
		own = ok && mine.Equal(pub)
		return true
	})
	if err != nil {
		return shown, err
	}
	c := v.Claims()
	shown.Record, shown.Kind = c.Record, ReceiptOther
	switch {
	case c.Audience != p.LogOrigin:
		return shown, fmt.Errorf("%w: for another registry", receipt.ErrSignature)
	case own != (c.Kiosk == e.id): // in this kiosk's name, or by its key in another's
		return shown, fmt.Errorf("%w: another kiosk's name", receipt.ErrSignature)
	case own:
		shown.Kind = ReceiptProvisional
	}
	return shown, nil
}

// standing is what has become of a receipt's record. That the registry cannot be asked
// is an answer too. What is in this kiosk's queue is told on evidence only.
func (e *enrollment) standing(ctx context.Context, shown Receipt) Standing {
	if entry, err := e.queue.Get(ctx, shown.Record); err == nil && shown.Kind != ReceiptOther {
		switch entry.State {
		case queue.Queued:
			return StandingWaiting
		case queue.Quarantined:
			return StandingSetAside
		}
	}
	said := StandingUnknown
	err := e.stepper(ScreenAskRegistry, StepAskRegistry).run(ctx, StepAskRegistry, registryFault, func(ctx context.Context) (err error) {
		ctx, cancel := context.WithTimeout(ctx, e.limits.Delivery)
		defer cancel()
		said, err = e.registry.Standing(ctx, shown)
		return err
	})
	if err != nil {
		e.log.Warn("what has become of a record is not known", "cause", err)
		return StandingUnknown
	}
	return said
}

// cancel takes a cancel code, says what it does, and gives it to the registry. The
// code is kept until it is given, in memory only, and shown to nobody.
func (e *enrollment) cancel(ctx context.Context) error {
	code, err := e.askCancelCode(ctx)
	if err != nil {
		return err
	}
	defer code.Wipe()
	if _, err := e.d.ask(ctx, func() State {
		return State{Screen: ScreenConfirmCancel, Turn: TurnCitizen, Main: ActionSuspend, Actions: leaving(ActionSuspend)}
	}); err != nil {
		return err
	}
	if err := e.try(ctx, func(ctx context.Context) error {
		return e.stepper(ScreenAskRegistry, StepAskRegistry).run(ctx, StepAskRegistry, registryFault, func(ctx context.Context) error {
			ctx, cancel := context.WithTimeout(ctx, e.limits.Delivery)
			defer cancel()
			return e.registry.Cancel(ctx, code)
		})
	}); err != nil {
		return err
	}
	view := EndedView{At: e.now()}
	_, err = e.d.ask(ctx, func() State {
		return State{Screen: ScreenCancelled, Turn: TurnCitizen, Main: ActionLeave, Actions: leaving(), Ended: &view}
	})
	return err
}

// CancelCodeSize is how many letters and digits a cancel code has on paper.
const CancelCodeSize = 28

// askCancelCode asks for a cancel code until its check digits are right. The caller
// wipes it.
func (e *enrollment) askCancelCode(ctx context.Context) (secret.Text, error) {
	problem := PINFine
	for {
		in, err := e.d.ask(ctx, func() State {
			return State{Screen: ScreenCancelCode, Turn: TurnCitizen, Main: ActionGiveCode, Actions: leaving(ActionGiveCode),
				PIN: &PINView{Min: CancelCodeSize, Max: CancelCodeSize, Problem: problem}}
		})
		if err != nil {
			return secret.Text{}, err
		}
		if _, err := record.ParseCancelCode(string(in.Secret.Reveal())); err == nil {
			return in.Secret, nil
		}
		in.Wipe()
		problem = PINNoCode
	}
}
