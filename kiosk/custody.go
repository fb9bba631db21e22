package kiosk

import (
	"context"
	"errors"
	"time"

	"enrollkiosk/hsm"
	"enrollkiosk/hsm/attest"
	"enrollkiosk/kiosk/secret"
	"enrollkiosk/registry/expect"
	"enrollkiosk/registry/policy"
	"enrollkiosk/registry/record"
)

// custodyAllowed says whether keys may be born in the kiosk's TPM.
func custodyAllowed(p policy.Policy) bool { return p.TokenRules().Custody }

// inCustody is a key in this kiosk's TPM: the holder uses it here and nowhere
// else, until a replacement moves the holder to a token.
//
// Its note is written before it is born, and names it and its record just before
// the record is put. What becomes of it follows one rule, custodian.tidy,
// whatever happens and wherever the power goes.
type inCustody struct {
	e    *enrollment
	key  CustodyKey // nil before make
	note CustodyNote
}

func (c *inCustody) pin(ctx context.Context) (secret.Text, error) { return c.e.choosePIN(ctx) }

func (c *inCustody) make(ctx context.Context, rc record.Context, pin secret.Text) (key citizenKey, err error) {
	e := c.e
	binding := rc.KeyBinding()
	err = e.try(ctx, func(ctx context.Context) error {
		c.abandon(ctx) // what an attempt before has left
		p := e.stepper(ScreenMakingKey, StepMakeKeys, StepVerifyKey)
		ctx, cancel := context.WithTimeout(ctx, e.limits.MakeKeys)
		defer cancel()
		if err := p.run(ctx, StepMakeKeys, keyFault, func(ctx context.Context) error {
			var err error
			if c.note, err = e.custodian.reserve(ctx); err != nil {
				return err
			}
			c.key, err = e.custodian.keys.Create(ctx, binding, pin)
			return err
		}); err != nil {
			return err
		}
		return p.run(ctx, StepVerifyKey, keyFault, func(ctx context.Context) error {
			evidence, err := c.key.Evidence(ctx, binding)
			if err != nil {
				return err
			}
			if key.proof, err = e.verifyCustody(ctx, evidence, binding); err != nil {
				return err
			}
			tpm := record.TPMEvidence(evidence)
			key.evidence = record.Attestation{TPM: &tpm}
			return nil
		})
	})
	return key, err
}

// verifyCustody checks the evidence as the registry will: it knows this TPM from
// when the kiosk was registered.
func (e *enrollment) verifyCustody(ctx context.Context, evidence hsm.TPMEvidence, binding [32]byte) (attest.Proof, error) {
	id, err := e.custodian.keys.TPM(ctx)
	if err != nil {
		return attest.Proof{}, err
	}
	class, err := endorsed(id.EKCertificates, e.policy.Policy().TPMRoots, e.now())
	if err != nil {
		return attest.Proof{}, err
	}
	return attest.VerifyTPM(evidence, attest.TPMExpect{AK: id.AK, Class: class, QualifyingData: binding[:], OutsideInfo: binding,
		ParentName: id.ParentName, UserAuth: true})
}

// endorsed is the class of the root behind one of a TPM's endorsement
// certificates, found as the registry finds it.
func endorsed(certificates [][]byte, roots []policy.Root, at time.Time) (string, error) {
	list, err := expect.Roots(roots)
	if err != nil {
		return "", err
	}
	err = errors.New("the TPM has no endorsement certificate")
	for _, der := range certificates {
		var e attest.Endorsement
		if e, err = attest.VerifyEndorsement(der, nil, list, at); err == nil {
			return e.Class(), nil
		}
	}
	return "", err
}

func (c *inCustody) admin() *TokenAdmin { return nil }

func (c *inCustody) lock(context.Context, secret.Text, *TokenAdmin) error { return nil }

func (c *inCustody) sign(ctx context.Context, f *frozen, pin secret.Text) error {
	return c.e.signInTPM(ctx, StepHolderSign, f, record.Holder, c.key.Signer(pin, false))
}

// signInTPM has a key in custody sign a record.
func (e *enrollment) signInTPM(ctx context.Context, step StepName, f *frozen, role record.Role, key hsm.Key) error {
	return e.try(ctx, func(ctx context.Context) error {
		return e.stepper(ScreenSaving, step).run(ctx, step, keyFault, func(ctx context.Context) error {
			ctx, cancel := context.WithTimeout(ctx, e.limits.TPM)
			defer cancel()
			return f.draft.Sign(ctx, role, key, nil)
		})
	})
}

func (c *inCustody) promise(ctx context.Context, record [32]byte) error {
	c.note.Key, c.note.Record = c.key.Name(), record
	return c.e.custodian.note(ctx, c.note)
}

func (c *inCustody) settle(ctx context.Context) { c.e.custodian.tidyUp(ctx) }

func (c *inCustody) abandon(ctx context.Context) { c.e.custodian.tidyUp(ctx) }

func (c *inCustody) number() string { return c.note.Number }
