package kiosk

import (
	"context"
	"crypto"
	"crypto/rand"
	"encoding/hex"
	"fmt"

	"enrollkiosk/registry/record"
	"enrollkiosk/sync/queue"
)

// endIdentity ends an identity at once and for good, as its holder wishes: by the
// holder's own key, or, where that is not at hand, by two officers and this kiosk for
// the identity of a receipt. The record says which identity and nothing of the
// person.
func (e *enrollment) endIdentity(ctx context.Context) error {
	if err := e.try(ctx, e.ready); err != nil {
		return err
	}
	e.d.aside = true
	defer func() { e.d.aside = false }()
	in, err := e.d.ask(ctx, func() State {
		return State{Screen: ScreenEndIdentity, Turn: TurnOfficer, Actions: leaving(ActionWithToken, ActionWithReceipt)}
	})
	if err != nil {
		return err
	}
	end := e.endByOfficers
	if in.Action == ActionWithToken {
		end = e.endByHolder
	}
	id, err := end(ctx)
	if err != nil {
		return err
	}
	e.delivery.Kick()
	view := EndedView{RecordID: hex.EncodeToString(id[:]), At: e.now()}
	if _, err = e.d.ask(ctx, func() State {
		return State{Screen: ScreenIdentityEnded, Turn: TurnCitizen, Main: ActionDone, Actions: []Action{ActionDone, ActionChoose}, Ended: &view}
	}); err != nil {
		return err
	}
	return e.takeThings(ctx)
}

// endByHolder has the holder's key sign alone.
func (e *enrollment) endByHolder(ctx context.Context) (id [32]byte, err error) {
	t, err := e.showToken(ctx)
	if err != nil {
		return id, err
	}
	pin, err := e.tokenPIN(ctx, t)
	if err != nil {
		return id, err
	}
	defer pin.Wipe()
	if err := e.confirmEnd(ctx); err != nil {
		return id, err
	}
	key := t.proof.Key()
	did, err := record.DIDKey(key)
	if err != nil {
		return id, ownTokenFault(err)
	}
	c := e.newContext(record.Revoke, 0)
	c.KioskID = "" // no kiosk signs
	f, err := e.ending(c, [32]byte{}, did, signer{record.Holder, key, nil})
	if err != nil {
		return id, kioskFault(err)
	}
	if err := e.tokenSign(ctx, func(ctx context.Context) error {
		return withToken(ctx, e.tokens, DeviceToken, t.serial, func(t Token) error { return signHolder(ctx, t, f, pin) })
	}, ownTokenFault); err != nil {
		return id, err
	}
	return f.draft.ID(), e.saveEnding(ctx, f, func(ctx context.Context, r record.Record) error {
		submission, err := record.NewSubmission(r, nil)
		if err != nil {
			return err
		}
		// No head: the chain of this kiosk's own records does not move.
		return e.queue.Put(ctx, queue.Item{ID: r.ID(), Data: submission.Bytes()})
	})
}

// endByOfficers has two officers and this kiosk sign for the identity of a receipt.
func (e *enrollment) endByOfficers(ctx context.Context) (id [32]byte, err error) {
	did, err := e.holderOfReceipt(ctx)
	if err != nil {
		return id, err
	}
	if err := e.confirmEnd(ctx); err != nil {
		return id, err
	}
	if e.second, err = e.agreeing(ctx, State{Screen: ScreenSecondOfficer, Lacks: []Lack{LackKey}}); err != nil {
		return id, err
	}
	c, previous, err := e.makeContext(ctx, record.Revoke, ScreenSaving)
	if err != nil {
		return id, err
	}
	f, err := e.ending(c, previous, did, signer{record.Officer, e.officer.leaf.PublicKey, e.officer.chain},
		signer{record.Supervisor, e.second.leaf.PublicKey, e.second.chain}, signer{record.Kiosk, e.tpm.RecordKey().Public(), e.cert})
	if err != nil {
		return id, kioskFault(err)
	}
	if err := e.officerSign(ctx, f, record.Officer, e.officer); err != nil {
		return id, err
	}
	if err := e.officerSign(ctx, f, record.Supervisor, e.second); err != nil {
		return id, err
	}
	return f.draft.ID(), e.saveEnding(ctx, f, func(ctx context.Context, r record.Record) error { return e.put(ctx, r, nil, f.sequence) })
}

// confirmEnd tells the citizen what is about to end.
func (e *enrollment) confirmEnd(ctx context.Context) error {
	_, err := e.d.ask(ctx, func() State {
		return State{Screen: ScreenConfirmEnd, Turn: TurnCitizen, Main: ActionEnd, Actions: []Action{ActionEnd, ActionDecline, ActionChoose}}
	})
	return err
}

// ending freezes the record that ends an identity.
func (e *enrollment) ending(c record.Context, previous [32]byte, did string, signers ...signer) (*frozen, error) {
	key, err := record.ParseDIDKey(did)
	if err != nil {
		return nil, err
	}
	jwk, err := record.NewJWK(key)
	if err != nil {
		return nil, err
	}
	p := record.Payload{Context: c, Previous: previous, Times: e.clock(), Holder: record.HolderKey{DID: did, Key: jwk}}
	rand.Read(p.Blind[:])
	if p.Signers, err = refs(signers); err != nil {
		return nil, err
	}
	draft, err := record.New(p)
	return &frozen{draft: draft, payload: p, sequence: c.Sequence}, err
}

// saveEnding has the kiosk sign, if it is one of the signers, and puts the record.
func (e *enrollment) saveEnding(ctx context.Context, f *frozen, put func(context.Context, record.Record) error) error {
	return e.try(ctx, func(ctx context.Context) error {
		p := e.stepper(ScreenSaving, StepKioskSign, StepSave)
		if err := p.run(ctx, StepKioskSign, kioskFault, func(ctx context.Context) error {
			if f.draft.Next() != record.Kiosk {
				return nil
			}
			ctx, cancel := context.WithTimeout(ctx, e.limits.TPM)
			defer cancel()
			return f.draft.Sign(ctx, record.Kiosk, e.tpm.RecordKey(), e.cert)
		}); err != nil {
			return err
		}
		return p.run(ctx, StepSave, kioskFault, func(ctx context.Context) error {
			r, err := f.draft.Record()
			if err != nil {
				return err
			}
			return put(ctx, r)
		})
	})
}

// signer is who signs a record, by which key, and the certificates of it.
type signer struct {
	role  record.Role
	key   crypto.PublicKey
	chain [][]byte
}

func refs(signers []signer) (out []record.SignerRef, err error) {
	for _, s := range signers {
		ref, err := record.SignerOf(s.role, s.key, s.chain)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", s.role, err)
		}
		out = append(out, ref)
	}
	return out, nil
}
