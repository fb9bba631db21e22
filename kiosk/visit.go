package kiosk

import (
	"context"
	"errors"

	"enrollkiosk/hsm"
	"enrollkiosk/kiosk/secret"
	"enrollkiosk/registry/record"
	"enrollkiosk/sync/queue"
)

// oldHolder is the key in custody that a replacement ends. It signs the new
// record under the PIN that its holder has just entered, kept until the
// enrollment ends.
type oldHolder struct {
	note CustodyNote
	key  CustodyKey
	did  string
	pin  secret.Text
}

// visit is a citizen who comes back to a key that is kept here, proves that it
// is theirs, and perhaps moves to a token.
func (e *enrollment) visit(ctx context.Context) error {
	note, key, err := e.askNumber(ctx)
	if err != nil {
		return err
	}
	pin, err := e.provePossession(ctx, key)
	if err != nil {
		return err
	}
	defer pin.Wipe()
	moving := note.ReplacedBy != queue.ID{}
	in, err := e.d.ask(ctx, func() State {
		s := State{Screen: ScreenCustodyKey, Turn: TurnCitizen, Main: ActionMove,
			Actions: []Action{ActionMove, ActionLeave, ActionChoose}, Custody: &CustodyView{note.Number, moving}}
		if moving {
			s.Main, s.Actions = ActionLeave, []Action{ActionLeave, ActionChoose}
		}
		return s
	})
	if err != nil || in.Action != ActionMove {
		return err
	}
	did, err := record.DIDKey(key.Public())
	if err != nil {
		return err
	}
	e.old = &oldHolder{note, key, did, pin}
	return e.run(ctx)
}

// askNumber asks for the custody number until it is that of a key.
func (e *enrollment) askNumber(ctx context.Context) (CustodyNote, CustodyKey, error) {
	problem := PINFine
	for {
		in, err := e.d.ask(ctx, func() State {
			return State{Screen: ScreenCustodyNumber, Turn: TurnCitizen, Main: ActionNumber,
				Actions: []Action{ActionNumber, ActionLeave, ActionChoose},
				PIN:     &PINView{Min: numberSize, Max: numberSize, Problem: problem}}
		})
		if err != nil {
			return CustodyNote{}, nil, err
		}
		number := string(in.Secret.Reveal())
		problem = digits(in.Secret, numberSize, numberSize)
		in.Wipe()
		switch {
		case problem != PINFine:
			continue
		case luhn(number) != 0:
			problem = PINMistyped
			continue
		}
		note, key, ok, err := e.custodian.find(ctx, number)
		switch {
		case err != nil:
			return note, nil, keyFault(err)
		case ok:
			return note, key, nil
		}
		problem = PINUnknown
	}
}

// provePossession asks for the key's PIN until the key signs a fresh challenge.
// Each PIN is one that the person has just entered, and the last try one that
// the person knows to be the last. The caller wipes the PIN.
func (e *enrollment) provePossession(ctx context.Context, key CustodyKey) (secret.Text, error) {
	view := PINView{Min: MinPIN, Max: MaxPIN}
	for {
		in, err := e.d.ask(ctx, func() State {
			pad := view
			return State{Screen: ScreenCustodyPIN, Turn: TurnCitizen, Main: ActionPIN,
				Actions: []Action{ActionPIN, ActionLeave, ActionChoose}, PIN: &pad}
		})
		if err != nil {
			return secret.Text{}, err
		}
		if p := digits(in.Secret, MinPIN, MaxPIN); p != PINFine { // no PIN of ours: it costs no try
			in.Wipe()
			if view.Left != 1 {
				view.Problem = p
			}
			continue
		}
		limited, cancel := context.WithTimeout(ctx, e.limits.TPM)
		err = possesses(limited, key.Signer(in.Secret, view.Left == 1), key.Public())
		cancel()
		if err == nil {
			return in.Secret, nil
		}
		in.Wipe()
		var wrong *hsm.WrongPIN
		switch {
		case errors.As(err, &wrong):
			view.Problem, view.Left = PINKeyWrong, wrong.Left
		case errors.Is(err, ErrLastTry):
			view.Problem, view.Left = PINLastTry, 1
		case ctx.Err() != nil:
			return secret.Text{}, ctx.Err()
		default:
			return secret.Text{}, keyFault(err)
		}
	}
}

// sign makes the old holder's signature.
func (o *oldHolder) sign(ctx context.Context, e *enrollment, f *frozen) error {
	return e.signInTPM(ctx, StepOldSign, f, record.OldHolder, o.key.Signer(o.pin, false))
}

// promise notes which record ends the key, just before it is put. The key lives
// on until the identity authority has signed that the record holds.
func (o *oldHolder) promise(ctx context.Context, e *enrollment, id [32]byte) error {
	n := o.note
	n.ReplacedBy = id
	return e.custodian.note(ctx, n)
}
