package kiosk

import (
	"context"
	"errors"
	"slices"
	"strings"

	"enrollkiosk/kiosk/secret"
	"enrollkiosk/registry/policy"
	"enrollkiosk/registry/record"
)

// guardian is who consents for a citizen too young to do so. From the moment the
// officer calls for one, what speaks to the citizen speaks to the guardian, who may
// decline at any step.
type guardian struct {
	doc   *document
	shown record.Guardianship
	note  secret.Text // which paper; empty where its kind says enough
}

func (g *guardian) close() {
	if g != nil {
		g.doc.close()
		g.note.Wipe()
	}
}

// bringGuardian has a guardian come in, if the policy wants one at the age that the
// document shows. Where it shows no age for certain, and the policy lets it, officers
// may say that the citizen is old enough: then that is one more thing it lacks.
func (e *enrollment) bringGuardian(ctx context.Context, child *document) error {
	rules, now := e.policy.Policy().Minors, e.now()
	first, last := child.holder.Born(now)
	if !rules.Young(last, now) {
		return nil
	}
	view := &GuardianView{Below: int(rules.GuardianBelow), From: int(rules.GuardianFrom)}
	s := State{Screen: ScreenGuardian, Turn: TurnOfficer, Main: ActionContinue, Actions: []Action{ActionContinue, ActionStartOver, ActionChoose}, Guardian: view}
	aged := append([]record.Exception{record.NoAge}, child.lacks...)
	if rule, _ := e.policy.Policy().Document(record.Document(child.holder.Kind())); !rules.Young(first, now) && rule.Allows(aged) {
		s.Actions = append(s.Actions, ActionOfAge)
	}
	in, err := e.d.ask(ctx, func() State { return s })
	if err != nil {
		return err
	}
	if in.Action == ActionOfAge {
		child.lacks = aged
		return nil
	}
	e.d.base.Guardian = view
	child.source.Close() // its card makes room for the guardian's
	g := &guardian{}
	if g.doc, err = e.readGuardian(ctx, child, rules); err != nil {
		return err
	}
	e.guardian = g
	if _, err := e.d.ask(ctx, func() State {
		return State{Screen: ScreenGuardianCompare, Turn: TurnOfficer, Main: ActionConfirmPerson,
			Actions: []Action{ActionConfirmPerson, ActionDoubtPerson, ActionChoose},
			Holder:  g.doc.view(e.now()), Checks: g.doc.checks(), Lacks: lackViews(g.doc.lacks)}
	}); err != nil {
		return err
	}
	g.shown, g.note, err = e.askGuardianship(ctx, rules)
	return err
}

// readGuardian has the guardian put the own document in the place of the citizen's,
// and reads and verifies it as it did that one. Another document, or another guardian,
// may come in the place of one that will not do.
func (e *enrollment) readGuardian(ctx context.Context, child *document, rules policy.Minors) (*document, error) {
	var doc *document
	from := e.d.look().documents
	err := e.try(ctx, func(ctx context.Context) error {
		if err := e.awaitAnother(ctx, ScreenGuardianCard, from); err != nil {
			return err
		}
		d, err := e.procedure(ctx)
		if err == nil {
			if err = e.openAndVerify(ctx, d); err == nil {
				err = e.fit(child, d, rules)
			}
			if err == nil {
				doc = d
				return nil
			}
			d.close()
		}
		var fault *Fault
		if !errors.As(err, &fault) {
			return err
		}
		if fault = guardianFault(err); fault.Remedy == RemedyOtherCard {
			from = e.d.look().documents // the one that lies there will not do
		}
		return fault
	})
	return doc, err
}

// fit says why whoever has a document cannot be a child's guardian. That it is not an
// officer who signs, only the vault can tell.
func (e *enrollment) fit(child, doc *document, rules policy.Minors) error {
	now := e.now()
	own, other := child.holder.Person(now), doc.holder.Person(now)
	if child.holder.Kind() == doc.holder.Kind() && own.Issuer == other.Issuer && own.Number.Equal(other.Number) {
		return guardianFault(errGuardianSame)
	}
	if _, last := doc.holder.Born(now); !rules.MayGuard(last, now) {
		return guardianFault(errGuardianYoung)
	}
	return nil
}

// awaitAnother shows screen until another card lies on the document's reader than the
// one that did when from cards had left it.
func (e *enrollment) awaitAnother(ctx context.Context, screen Screen, from uint64) error {
	_, _, err := e.d.wait(ctx, func() State {
		return State{Screen: screen, Turn: TurnCitizen, Waiting: DeviceDocument, Actions: []Action{ActionDecline, ActionChoose}}
	}, func(s *State, h Health) bool {
		there, same := h.Readers[DeviceDocument], h.documents == from
		s.Fault, s.Left = readerHint(DeviceDocument, there), nil
		if same && (there == ReaderCard || there == ReaderMute) {
			s.Fault, s.Left = nil, []Device{DeviceDocument}
		}
		return there == ReaderCard && !same
	})
	return err
}

// papers are what can show who a guardian is.
var papers = map[record.Guardianship]Action{record.BirthCertificate: ActionBirthPaper, record.FamilyRegister: ActionFamilyPaper,
	record.CourtOrder: ActionCourtPaper, record.OtherProof: ActionOtherPaper}

// askGuardianship asks the officer what has shown that this is the guardian.
func (e *enrollment) askGuardianship(ctx context.Context, rules policy.Minors) (record.Guardianship, secret.Text, error) {
	for {
		in, err := e.d.ask(ctx, func() State {
			s := State{Screen: ScreenGuardianProof, Turn: TurnOfficer}
			for _, p := range rules.Proofs {
				s.Actions = append(s.Actions, papers[p])
			}
			s.Actions = append(s.Actions, ActionStartOver, ActionChoose)
			return s
		})
		if err != nil {
			return "", secret.Text{}, err
		}
		if in.Action != ActionOtherPaper {
			for p, a := range papers {
				if a == in.Action {
					return p, secret.Text{}, nil
				}
			}
			continue
		}
		note, err := e.askNote(ctx)
		if err != nil || note.Len() > 0 {
			return record.OtherProof, note, err
		}
	}
}

// NoteSize is how long a note on a proof of guardianship can be.
const NoteSize = 28

// askNote asks which paper it was; an empty note means that the officer went back.
func (e *enrollment) askNote(ctx context.Context) (secret.Text, error) {
	problem := PINFine
	for {
		in, err := e.d.ask(ctx, func() State {
			return State{Screen: ScreenGuardianNote, Turn: TurnOfficer, Main: ActionNote, Actions: []Action{ActionNote, ActionBack, ActionChoose},
				PIN: &PINView{Min: 1, Max: NoteSize, Problem: problem}}
		})
		if err != nil || in.Action == ActionBack {
			return secret.Text{}, err
		}
		if problem = checkNote(in.Secret); problem == PINFine {
			return in.Secret, nil
		}
		in.Wipe()
	}
}

// noteMarks are what a note has beside capitals, digits and blanks.
const noteMarks = "-./"

func checkNote(note secret.Text) PINProblem {
	text := string(note.Reveal())
	strange := strings.ContainsFunc(text, func(r rune) bool {
		return !(r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == ' ' || strings.ContainsRune(noteMarks, r))
	})
	if strange || strings.Trim(text, noteMarks+" ") == "" || len(text) > NoteSize {
		return PINNoNote
	}
	return PINFine
}

// bindGuardian has the chip of the guardian's document sign for this child and this
// key, and the citizen's card come back, if its chip is to sign too.
func (e *enrollment) bindGuardian(ctx context.Context, rc record.Context, key citizenKey, child *document) error {
	g := e.guardian
	if g == nil {
		return nil
	}
	if g.doc.source.Signs() {
		challenge, err := rc.GuardianChallenge(key.proof.Key(), e.sealedFiles(child))
		if err != nil {
			return err
		}
		if err := e.bind(ctx, StepGuardChip, g.doc, challenge); err != nil {
			return err
		}
	}
	g.doc.source.Close()
	if !child.source.Signs() {
		return nil
	}
	return e.awaitAnother(ctx, ScreenCardBack, e.d.look().documents)
}

// sealed is what the vault verifies a guardian by.
func (g *guardian) sealed() *record.Guardian {
	h := g.doc.holder
	out := &record.Guardian{Document: record.Document(h.Kind()), Files: evidenceOf(h), Access: h.Access(), Report: h.Report(),
		Shown: g.shown, Note: secret.FromString(string(g.note.Reveal())),
		Checks: []record.Check{{Code: "face-matches", Passed: true}, {Code: "guardian-declared", Passed: true}}}
	out.Chip, out.Active = proofsOf(h)
	return out
}

// exceptions are what documents lack, the citizen's and the guardian's, in order.
func (e *enrollment) exceptions(doc *document) []record.Exception {
	all := slices.Clone(doc.lacks)
	if e.guardian != nil {
		all = append(all, e.guardian.doc.lacks...)
	}
	slices.Sort(all)
	return slices.Compact(all)
}
