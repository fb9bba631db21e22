package kiosk

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"log/slog"
	"time"

	"enrollkiosk/hsm"
	"enrollkiosk/hsm/attest"
	"enrollkiosk/kiosk/secret"
	"enrollkiosk/registry/policy"
	"enrollkiosk/registry/receipt"
	"enrollkiosk/registry/record"
	"enrollkiosk/smartcard/inspection"
	"enrollkiosk/smartcard/trust"
	"enrollkiosk/sync/queue"
)

// enrollment is one citizen's enrollment. It carries what stays the same from
// the first step to the last; what a step finds out is handed to the next one.
type enrollment struct {
	d       *desk
	officer officer
	second  officer       // agreed to what the document cannot prove; zero when it proves everything
	policy  policy.Signed // in force since the first step
	anchors trust.Anchors
	roots   []attest.Root

	readers      Readers
	residents    Residents // nil: none
	portraits    Portraits
	printer      Printer // nil: none
	cards        *inspection.Memory
	tokens       Tokens
	tpm          TPM
	queue        Queue
	delivery     Delivery
	registry     Registry
	activity     Activity
	chain        chain
	id           string
	cert         [][]byte
	limits       Limits
	count        func(DayCounts)
	clock        func() Times
	newestPolicy func() (policy.Signed, error)
	texts        func([32]byte) (string, bool)
	now          func() time.Time
	observe      func(Event)
	log          *slog.Logger
	custodian    *custodian // nil: no keys are kept here

	old      *oldHolder // the key that this enrollment replaces, if it is in custody here; nil for none
	guardian *guardian  // who decides for the citizen; nil: the citizen

	lost   string    // DID whose key is replaced and does not sign; "" for none
	renews bool      // a citizen with a new document, who keeps the key
	saved  bool      // its record is durable
	place  holderKey // where the new key lives; nil until it is chosen
	begun  uint32    // serial number of the token that was written to, 0 for none
}

// run is the enrollment, step by step. Each step takes what earlier steps
// returned; only errors come back.
func (e *enrollment) run(ctx context.Context) error {
	// What would make the enrollment fail at its end is found out before the
	// citizen's card is touched: policy, disk, counter.
	if err := e.try(ctx, e.prepare); err != nil {
		return err
	}
	if err := e.chooseLanguage(ctx); err != nil {
		return err
	}
	if err := e.welcome(ctx); err != nil {
		return err
	}
	doc, err := e.readDocument(ctx)
	if err != nil {
		return err
	}
	defer doc.close()
	if err := e.compare(ctx, doc); err != nil {
		return err
	}
	defer func() { e.guardian.close() }()
	if err := e.bringGuardian(ctx, doc); err != nil {
		return err
	}
	if e.second, err = e.secondOfficer(ctx, doc); err != nil {
		return err
	}
	if err := e.confirmData(ctx, doc); err != nil {
		return err
	}
	consents, err := e.askConsents(ctx)
	if err != nil {
		return err
	}
	if e.place, err = e.chooseDevice(ctx); err != nil {
		return err
	}
	pin, err := e.place.pin(ctx)
	if err != nil {
		return err
	}
	defer pin.Wipe()
	rc, previous, err := e.makeContext(ctx, e.purpose(), ScreenMakingKey)
	if err != nil {
		return err
	}
	key, err := e.place.make(ctx, rc, pin)
	if err != nil {
		return err
	}
	challenge, err := rc.ChipChallenge(key.proof.Key())
	if err != nil {
		return err
	}
	if err := e.bindGuardian(ctx, rc, key, doc); err != nil {
		return err
	}
	if err := e.bind(ctx, StepBindChip, doc, challenge); err != nil {
		return err
	}
	frozen, err := e.freeze(ctx, rc, previous, doc, key, consents)
	if err != nil {
		return err
	}
	doc.close() // nothing below needs the card; its session ends before anything is queued
	e.guardian.close()
	if err := e.place.lock(ctx, pin, frozen.admin); err != nil {
		return err
	}
	if err := e.holderSign(ctx, frozen, pin, consents); err != nil {
		return err
	}
	if err := e.officerSign(ctx, frozen, record.Officer, e.officer); err != nil {
		return err
	}
	if e.second.leaf != nil {
		if err := e.officerSign(ctx, frozen, record.Supervisor, e.second); err != nil {
			return err
		}
	}
	news, stop := context.WithCancel(ctx)
	defer stop()
	events := e.delivery.Events(news) // before the record can be on its way
	saved, err := e.save(ctx, frozen)
	if err != nil {
		return err
	}
	e.saved = true
	counts := DayCounts{Enrolled: 1}
	if len(e.exceptions(doc)) > 0 {
		counts.Second = 1
	}
	e.count(counts)
	e.place.settle(ctx) // the key belongs to a record now
	if err := e.activity.Enrolled(e.officer.digest(), saved.at); err != nil {
		e.log.Error("the enrollment is saved and not counted", "cause", err)
	}
	return e.handOver(ctx, saved, events)
}

// abandon leaves no trace on a token that was written to and will not be used:
// it goes back to its factory state, if it is still there.
func (e *enrollment) abandon(ctx context.Context) {
	if e.begun == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), e.limits.Token)
	defer cancel()
	if err := withToken(ctx, e.tokens, DeviceToken, e.begun, func(t Token) error { return t.Reset(ctx) }); err != nil {
		e.log.Warn("token not reset", "cause", err)
		return
	}
	e.begun = 0
}

// Where a screen stands in "3 of 8".
var order = []Screen{ScreenLanguage, ScreenWelcome, ScreenPlaceCard, ScreenCompare, ScreenConsent, ScreenInsertToken, ScreenReview, ScreenReceipt}

func position(s Screen) int {
	switch s {
	case ScreenAccessNumber, ScreenReading:
		s = ScreenPlaceCard
	case ScreenConfirmData, ScreenSecondOfficer, ScreenGuardian, ScreenGuardianCard, ScreenGuardianCompare, ScreenGuardianProof, ScreenGuardianNote:
		s = ScreenCompare
	case ScreenNoToken, ScreenChoosePIN, ScreenRepeatPIN, ScreenMakingKey, ScreenCardBack, ScreenShowToken, ScreenTokenPIN, ScreenTokenWork:
		s = ScreenInsertToken
	case ScreenApprove, ScreenSecondApprove, ScreenSaving:
		s = ScreenReview
	case ScreenTakeThings, ScreenPrinting:
		s = ScreenReceipt
	}
	for i, o := range order {
		if o == s {
			return i + 1
		}
	}
	return 0
}

func (e *enrollment) chooseLanguage(ctx context.Context) error {
	_, err := e.d.ask(ctx, func() State {
		return State{Screen: ScreenLanguage, Turn: TurnCitizen, Main: ActionChoose,
			Actions: []Action{ActionChoose, ActionDecline}}
	})
	return err
}

func (e *enrollment) welcome(ctx context.Context) error {
	_, err := e.d.ask(ctx, func() State {
		return State{Screen: ScreenWelcome, Turn: TurnCitizen, Main: ActionContinue,
			Actions: []Action{ActionContinue, ActionDecline, ActionChoose}}
	})
	return err
}

func (e *enrollment) compare(ctx context.Context, doc *document) error {
	_, err := e.d.ask(ctx, func() State {
		return State{Screen: ScreenCompare, Turn: TurnOfficer, Main: ActionConfirmPerson,
			Actions: []Action{ActionConfirmPerson, ActionDoubtPerson, ActionChoose},
			Holder:  doc.view(e.now()), Checks: doc.checks(), Lacks: e.lacks(doc)}
	})
	return err
}

// lacks are what a second officer has to agree to.
func (e *enrollment) lacks(doc *document) []Lack {
	all := lackViews(e.exceptions(doc))
	if e.lost != "" {
		all = append(all, LackKey)
	}
	return all
}

func (e *enrollment) confirmData(ctx context.Context, doc *document) error {
	yes := ActionConfirmData
	if e.guardian != nil {
		yes = ActionGuard
	}
	_, err := e.d.ask(ctx, func() State {
		return State{Screen: ScreenConfirmData, Turn: TurnCitizen, Main: yes,
			Actions: []Action{yes, ActionDecline, ActionChoose},
			Holder:  doc.view(e.now()), Checks: doc.checks()}
	})
	return err
}

// askConsents asks for each purpose on a page of its own. Refusing a required
// one is declining.
func (e *enrollment) askConsents(ctx context.Context) ([]record.ConsentText, error) {
	var given []record.ConsentText
	texts := e.policy.Policy().Consents
	for i, text := range texts {
		var language string
		in, err := e.d.ask(ctx, func() State {
			language = e.d.base.Language
			title, body := e.wording(text, language)
			return State{Screen: ScreenConsent, Turn: TurnCitizen, Main: ActionAccept,
				Actions: []Action{ActionAccept, ActionRefuse, ActionDecline, ActionChoose},
				Consent: &ConsentView{ID: text.ID, Title: title, Text: body, Required: text.Required,
					Index: i + 1, Count: len(texts)}}
		})
		if err != nil {
			return nil, err
		}
		switch {
		case in.Action == ActionAccept:
			digest, _ := text.Digest(language)
			given = append(given, record.ConsentText{ID: text.ID, Version: text.Version, Digest: digest, Language: language})
		case text.Required:
			return nil, errDeclined
		}
	}
	return given, nil
}

// makeContext reserves the sequence number and fixes what everything after it
// binds to. A number that an earlier enrollment reserved and did not use gets
// its void record first.
func (e *enrollment) makeContext(ctx context.Context, purpose record.Purpose, screen Screen) (c record.Context, previous [32]byte, err error) {
	err = e.try(ctx, func(ctx context.Context) error {
		p := e.stepper(screen, StepMakeContext)
		return p.run(ctx, StepMakeContext, kioskFault, func(ctx context.Context) error {
			ctx, cancel := context.WithTimeout(ctx, e.limits.TPM)
			defer cancel()
			if err := e.voidUnused(ctx); err != nil {
				return err
			}
			n, prev, err := e.chain.reserve(ctx)
			if err != nil {
				return err
			}
			c, previous = e.newContext(purpose, n), prev
			return nil
		})
	})
	return c, previous, err
}

// purpose is what the citizen came for.
func (e *enrollment) purpose() record.Purpose {
	switch {
	case e.old != nil, e.lost != "":
		return record.Replace
	case e.renews:
		return record.Update
	}
	return record.Enroll
}

func (e *enrollment) newContext(p record.Purpose, sequence uint64) record.Context {
	c := record.Context{Version: record.Version, Audience: e.policy.Policy().LogOrigin, Purpose: p, KioskID: e.id,
		Sequence: sequence, PolicyDigest: e.policy.Digest(), AuthorityKeyID: e.policy.Policy().Authority.ID}
	rand.Read(c.Nonce[:])
	return c
}

// makeKey writes to the token: PIN, then the keys, then checks the evidence. A
// token that was taken away halfway is started over when it comes back. One that
// an agent left behind which has ended since is not factory-new: it is reset at
// the service desk (kiosk token reset).
func (e *enrollment) makeKey(ctx context.Context, pin secret.Text) (key citizenKey, err error) {
	err = e.try(ctx, func(ctx context.Context) error {
		p := e.stepper(ScreenMakingKey, StepProbeToken, StepSetPIN, StepMakeKeys, StepVerifyToken)
		ctx, cancel := context.WithTimeout(ctx, e.limits.MakeKeys)
		defer cancel()
		var keys TokenKeys
		err := withToken(ctx, e.tokens, DeviceToken, 0, func(t Token) error {
			if err := p.run(ctx, StepProbeToken, tokenFault, func(ctx context.Context) error {
				switch info := t.Info(); {
				case e.begun == 0:
					return info.Usable()
				case e.begun != info.Serial:
					return errOtherToken
				case !info.FactoryNew:
					return t.Reset(ctx)
				}
				return nil
			}); err != nil {
				return err
			}
			e.begun = t.Info().Serial
			if err := p.run(ctx, StepSetPIN, tokenFault, func(ctx context.Context) error {
				return t.SetPIN(ctx, pin)
			}); err != nil {
				return err
			}
			return p.run(ctx, StepMakeKeys, tokenFault, func(ctx context.Context) error {
				var err error
				keys, err = MakeTokenKeys(ctx, t, pin, e.policy.Policy(), func(hsm.Progress) {})
				return err
			})
		})
		if err == nil {
			err = p.run(ctx, StepVerifyToken, tokenFault, func(context.Context) error {
				proof, err := VerifyTokenKeys(e.policy.Policy(), e.roots, keys, e.begun, e.now())
				if err != nil {
					return err
				}
				piv := record.PIVEvidence(keys.Authentication.Evidence)
				key = citizenKey{proof: proof, evidence: record.Attestation{PIV: &piv}}
				return nil
			})
		}
		if err == nil {
			return nil
		}
		fault := tokenFault(err)
		if fault.Remedy == RemedyOtherCard {
			e.abandon(ctx) // before another one takes its place
		}
		return fault
	})
	return key, err
}

// frozen is a payload that nothing changes any more, with what must not be lost
// until it is signed and saved.
type frozen struct {
	draft      *record.Draft
	payload    record.Payload
	sealed     []string // names of what the identity holds, for the citizen
	sequence   uint64
	evidence   record.Attestation
	admin      *TokenAdmin // nil where nothing administers the device
	cancelCode secret.Text
}

// freeze seals the identity and fixes the payload.
func (e *enrollment) freeze(ctx context.Context, rc record.Context, previous [32]byte, doc *document, key citizenKey, consents []record.ConsentText) (*frozen, error) {
	f := &frozen{sequence: rc.Sequence, evidence: key.evidence, admin: e.place.admin()}
	err := e.try(ctx, func(ctx context.Context) error {
		p := e.stepper(ScreenMakingKey, StepSeal)
		return p.run(ctx, StepSeal, kioskFault, func(context.Context) error {
			// Minutes have passed since the first step: what would have the record
			// rejected later is looked at once more.
			if _, err := e.newestPolicy(); err != nil {
				return err
			}
			if err := e.policy.CheckTime(e.now()); err != nil {
				return err
			}
			var code [16]byte
			rand.Read(code[:])
			f.cancelCode = secret.FromString(record.FormatCancelCode(code))
			id := e.identity(doc, consents, f.admin)
			f.sealed = sealedItems(id)
			sealed, err := record.Seal(rc, e.policy.Policy().Authority, id)
			if err != nil {
				return err
			}
			f.payload, err = e.payload(rc, previous, key, consents, sealed, e.exceptions(doc), code)
			if err != nil {
				return err
			}
			f.draft, err = record.New(f.payload)
			return err
		})
	})
	return f, err
}

// lockToken sets the PUK and the management key that the identity holds sealed.
func (e *enrollment) lockToken(ctx context.Context, pin secret.Text, admin TokenAdmin) error {
	return e.try(ctx, func(ctx context.Context) error {
		p := e.stepper(ScreenMakingKey, StepLockToken)
		return p.run(ctx, StepLockToken, tokenFault, func(ctx context.Context) error {
			ctx, cancel := context.WithTimeout(ctx, e.limits.Token)
			defer cancel()
			return withToken(ctx, e.tokens, DeviceToken, e.begun, func(t Token) error {
				return t.Lock(ctx, pin, admin)
			})
		})
	})
}

// holderSign shows what is kept and sent, and has the citizen sign it with the
// new key and, before, with the one that it replaces.
func (e *enrollment) holderSign(ctx context.Context, f *frozen, pin secret.Text, consents []record.ConsentText) error {
	if _, err := e.d.ask(ctx, func() State {
		return State{Screen: ScreenReview, Turn: TurnCitizen, Main: ActionSign,
			Actions: []Action{ActionSign, ActionDecline, ActionChoose}, Review: e.review(f, consents)}
	}); err != nil {
		return err
	}
	if e.old != nil {
		if err := e.old.sign(ctx, e, f); err != nil {
			return err
		}
	}
	return e.place.sign(ctx, f, pin)
}

// officerSign has an officer approve this record with card and PIN: the one who
// signed on, or the second one who agreed to what the document cannot prove.
func (e *enrollment) officerSign(ctx context.Context, f *frozen, role record.Role, who officer) error {
	screen, step := ScreenApprove, StepOfficerSign
	if role == record.Supervisor {
		screen, step = ScreenSecondApprove, StepSecondSign
	}
	own := e.d.guard // of the officer who signed on
	if role != record.Officer {
		own = nil
	}
	_, err := e.d.askOfficer(ctx, func() State { return approval(State{Screen: screen}) }, func(ctx context.Context, pin secret.Text) (officer, error) {
		p := e.stepper(ScreenSaving, step)
		return who, p.run(ctx, step, officerFault, func(ctx context.Context) error {
			ctx, cancel := context.WithTimeout(ctx, e.limits.Touch)
			defer cancel()
			if _, err := officerOf(who.leaf.Raw, e.policy.Policy(), role, e.now()); err != nil {
				return err
			}
			return own.proving(func() error {
				return withToken(ctx, e.tokens, DeviceOfficer, who.serial, func(t Token) error {
					k, err := t.Key(ctx, SlotSignature, pin)
					if err != nil {
						return err
					}
					return f.draft.Sign(ctx, role, k, who.chain)
				})
			})
		})
	})
	return err
}

// secondOfficer has another officer look at person and document and agree, with
// card and PIN, to what cannot be proved. It asks nobody when everything is.
func (e *enrollment) secondOfficer(ctx context.Context, doc *document) (officer, error) {
	lacks := e.lacks(doc)
	if len(lacks) == 0 {
		return officer{}, nil
	}
	return e.agreeing(ctx, State{Screen: ScreenSecondOfficer, Holder: doc.view(e.now()), Checks: doc.checks(), Lacks: lacks})
}

// agreeing is another officer, who has agreed with card and PIN to what s shows.
func (e *enrollment) agreeing(ctx context.Context, s State) (officer, error) {
	return e.d.askOfficer(ctx, func() State { return approval(s) }, func(ctx context.Context, pin secret.Text) (officer, error) {
		ctx, cancel := context.WithTimeout(ctx, e.limits.Token)
		defer cancel()
		o, err := checkOfficer(ctx, e.tokens, e.policy.Policy(), record.Supervisor, receipt.SignOn{Kiosk: e.id, Time: e.now()}, 0, pin)
		if err == nil && o.number == e.officer.number {
			err = errSamePerson
		}
		if err != nil {
			return officer{}, officerFault(err)
		}
		return o, nil
	})
}

// approval adds what an officer can do with a card on the reader.
func approval(s State) State {
	s.Main, s.Actions = ActionApprove, []Action{ActionApprove, ActionDoubtPerson, ActionStartOver}
	return s
}

// saved is a record that is durable here.
type saved struct {
	id          [32]byte
	provisional string
	cancelCode  secret.Text
	at          time.Time
	custody     string // number to come back with; "" for a token
}

// save signs for the kiosk, and returns when the record survives a power cut.
func (e *enrollment) save(ctx context.Context, f *frozen) (saved, error) {
	s := saved{id: f.draft.ID(), cancelCode: f.cancelCode}
	var signed bool
	err := e.try(ctx, func(ctx context.Context) error {
		p := e.stepper(ScreenSaving, StepKioskSign, StepProvisional, StepSave)
		if err := p.run(ctx, StepKioskSign, kioskFault, func(ctx context.Context) error {
			if signed {
				return nil
			}
			ctx, cancel := context.WithTimeout(ctx, e.limits.TPM)
			defer cancel()
			err := f.draft.Sign(ctx, record.Kiosk, e.tpm.RecordKey(), e.cert)
			signed = err == nil
			return err
		}); err != nil {
			return err
		}
		// The receipt is signed now and shown only when the record is safe: once
		// it is, nothing may fail any more.
		s.at = e.now()
		if err := p.run(ctx, StepProvisional, kioskFault, func(ctx context.Context) error {
			ctx, cancel := context.WithTimeout(ctx, e.limits.TPM)
			defer cancel()
			var err error
			s.provisional, err = e.provisional(ctx, f, s.at)
			return err
		}); err != nil {
			return err
		}
		return p.run(ctx, StepSave, kioskFault, func(ctx context.Context) error {
			r, err := f.draft.Record()
			if err != nil {
				return err
			}
			if err := e.promise(ctx, r.ID()); err != nil {
				return err
			}
			err = e.put(ctx, r, &f.evidence, f.sequence)
			if errors.Is(err, queue.ErrDamaged) {
				// The write failed in a way that may have reached the disk: the record
				// may come back when the queue is opened again, so its key must live.
				e.place.settle(ctx)
			}
			return err
		})
	})
	s.custody = e.place.number()
	return s, err
}

// promise tells the keys of a record, the new one and the one that it replaces,
// that the record is about to be put.
func (e *enrollment) promise(ctx context.Context, id [32]byte) error {
	if e.old != nil {
		if err := e.old.promise(ctx, e, id); err != nil {
			return err
		}
	}
	return e.place.promise(ctx, id)
}

// handOver gives the courier a moment, shows the receipt, and waits until
// nothing lies on the readers any more.
func (e *enrollment) handOver(ctx context.Context, s saved, events <-chan DeliveryEvent) error {
	err := e.showReceipt(ctx, s, events)
	var fault *Fault
	if errors.As(err, &fault) && fault.Code == CodeTimedOut {
		e.log.Info("nobody took the receipt or the cards away")
		return nil // the enrollment is done all the same
	}
	return err
}

func (e *enrollment) showReceipt(ctx context.Context, s saved, events <-chan DeliveryEvent) error {
	// The screen's copy of the code is not wiped: a socket may be sending it when
	// the screen is left.
	view := &ReceiptView{RecordID: hex.EncodeToString(s.id[:]), Provisional: s.provisional,
		CancelCode: secret.FromString(string(s.cancelCode.Reveal())), QR: s.provisional, Saved: s.at, Custody: s.custody}
	s.cancelCode.Wipe()
	if final := e.awaitReceipt(ctx, s.id, events); final != "" {
		view.Final, view.QR = final, final
	}
	var fault *Fault
	for {
		in, err := e.d.ask(ctx, func() State {
			shown := *view // published states never change
			s := State{Screen: ScreenReceipt, Turn: TurnCitizen, Main: ActionDone, Actions: []Action{ActionDone, ActionChoose}, Receipt: &shown, Fault: fault}
			if e.printer != nil {
				s.Actions = append(s.Actions, ActionPrint)
			}
			return s
		})
		if err != nil {
			return err
		}
		if in.Action == ActionDone {
			break
		}
		if err := e.print(ctx, *view); err == nil {
			view.Printed, fault = true, nil
		} else if !errors.As(err, &fault) {
			return err
		}
	}
	return e.takeThings(ctx)
}

// takeThings waits until nothing of the citizen's lies on a reader any more.
func (e *enrollment) takeThings(ctx context.Context) error {
	_, _, err := e.d.wait(ctx, func() State {
		return State{Screen: ScreenTakeThings, Turn: TurnCitizen, Actions: []Action{ActionChoose}}
	}, func(s *State, h Health) bool {
		s.Left = nil
		for _, d := range []Device{DeviceDocument, DeviceToken} {
			if h.Readers[d] == ReaderCard || h.Readers[d] == ReaderMute {
				s.Left = append(s.Left, d)
			}
		}
		return len(s.Left) == 0
	})
	return err
}

// print puts the receipt on paper. A page may be printed again: it may have been
// crumpled, and whoever sees this screen has seen the cancel code.
func (e *enrollment) print(ctx context.Context, r ReceiptView) error {
	err := e.stepper(ScreenPrinting, StepPrint).run(ctx, StepPrint, printFault, func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, e.limits.Print)
		defer cancel()
		return e.printer.Print(ctx, r, e.d.base.Language, e.d.base.Simulated)
	})
	var fault *Fault
	if errors.As(err, &fault) {
		e.log.Warn("receipt not printed", "code", fault.Code, "cause", fault.Unwrap())
	}
	return err
}

// awaitReceipt watches the courier for as long as a person waits gladly. The
// registry being out of reach is no error: the record is safe here.
func (e *enrollment) awaitReceipt(ctx context.Context, id [32]byte, events <-chan DeliveryEvent) (final string) {
	p := e.stepper(ScreenSaving, StepDeliver, StepFinal, StepPurge, StepActivate)
	ctx, cancel := context.WithTimeout(ctx, e.limits.Delivery)
	defer cancel()
	e.delivery.Kick()
	seen := map[DeliveryStage]bool{} // a stage may be told before the one that is waited for
	until := func(name StepName, stage DeliveryStage) error {
		return p.run(ctx, name, kioskFault, func(ctx context.Context) error {
			for !seen[stage] {
				var ev DeliveryEvent
				select {
				case <-ctx.Done():
					return ctx.Err()
				case ev = <-events:
				}
				switch {
				case ev.Stage == Trouble && (ev.ID == queue.ID{} || ev.ID == id):
					return &Fault{Code: ev.Code, Remedy: RemedyStaff}
				case ev.ID != id:
				case ev.Stage == Quarantined || ev.Stage == Refused:
					return &Fault{Code: CodeRejected, Remedy: RemedyStaff}
				case ev.Stage == Receipted:
					final = string(ev.Receipt)
					seen[Accepted], seen[Receipted] = true, true
				default:
					seen[ev.Stage] = true
				}
			}
			return nil
		})
	}
	for _, step := range []struct {
		name  StepName
		stage DeliveryStage
	}{{StepDeliver, Accepted}, {StepFinal, Receipted}, {StepPurge, Purged}, {StepActivate, Activated}} {
		if until(step.name, step.stage) != nil {
			break
		}
	}
	return final
}
