package vault

import (
	"slices"
	"time"

	"enrollkiosk/kiosk/secret"
	"enrollkiosk/registry/api"
	"enrollkiosk/registry/internal/chain"
	"enrollkiosk/registry/record"
	"enrollkiosk/smartcard/identity"
)

// aSitting is how long an enrollment may take: who is old enough for less than that
// may have begun with a guardian.
const aSitting = time.Hour

// age holds that a guardian stands beside who is too young at the time of capture,
// and beside nobody else. Where a document leaves it open whether its holder is old
// enough, officers may have said so: then its lack of that is one more.
func (r *rules) age(p record.Payload, id record.Identity, holder party, at time.Time) ([]record.Exception, error) {
	first, last := holder.Born(at)
	young, perhapsNot := r.policy.Minors.Young(last, at), !r.policy.Minors.Young(first, at)
	switch {
	case !r.policy.Minors.Young(last, at.Add(-aSitting)) && id.Guardian != nil:
		return nil, chain.Refuse(api.CodeGuardian, "the holder is old enough to decide alone")
	case !young || id.Guardian != nil:
		return holder.lacks, nil
	case !slices.Contains(p.Exceptions, record.NoAge):
		return nil, chain.Refuse(api.CodeGuardian, "the holder is too young to decide alone")
	case !perhapsNot:
		return nil, chain.Refuse(api.CodeGuardian, "the document shows that the holder is too young")
	}
	lacks := append([]record.Exception{record.NoAge}, holder.lacks...)
	if rule, _ := r.policy.Document(id.Document); !rule.Allows(lacks) {
		return nil, chain.Refuse(api.CodeGuardian, "the document does not show an age, and the policy wants one")
	}
	return lacks, nil
}

// guardian verifies the guardian's document as the holder's is, against the same
// anchors, with a challenge of its own: the chip stands for this child in this
// record. A guardian is of age, is not the holder, and was shown to be the guardian in
// a way that the policy accepts.
func (r *rules) guardian(p record.Payload, id record.Identity, holder party, at time.Time, production bool) (party, error) {
	g := id.Guardian
	key, err := p.Holder.Key.Public()
	if err != nil {
		return party{}, chain.Refuse(api.CodeDocument, "%w", err)
	}
	challenge, err := p.Context.GuardianChallenge(key, id.Files)
	if err != nil {
		return party{}, chain.Refuse(api.CodeGuardian, "%w", err)
	}
	guardian, err := r.document(papers{g.Document, g.Files, g.Access, g.Chip, g.Active}, challenge, at, production)
	if err != nil {
		return party{}, chain.Refuse(guardians(err), "guardian: %w", err)
	}
	if _, last := guardian.Born(at); !r.policy.Minors.MayGuard(last, at) {
		return party{}, chain.Refuse(api.CodeGuardian, "the guardian is not of age")
	}
	if documentOf(holder.Holder, at) == documentOf(guardian.Holder, at) {
		return party{}, chain.Refuse(api.CodeGuardian, "the guardian is the holder")
	}
	if !slices.Contains(r.policy.Minors.Proofs, g.Shown) {
		return party{}, chain.Refuse(api.CodeGuardian, "the policy does not accept %s as a proof of guardianship", g.Shown)
	}
	return guardian, nil
}

// guardians is the code for what is wrong with a guardian's document: its own, but
// for one that is only simulated.
func guardians(err error) string {
	if c := codeOf(err); c == api.CodeSimulated {
		return c
	}
	return api.CodeGuardian
}

// documentOf tells documents apart within one record.
func documentOf(h identity.Holder, at time.Time) [32]byte {
	return tokensOf(secret.Text{}, h.Kind(), h.Person(at)).document
}

// signing says which number of an officer who signed is one of these persons'; ""
// for none. Nobody enrolls himself, nor says that he is a guardian.
func (v *Vault) signing(r record.Record, at time.Time, people ...identity.Holder) (number string, role record.Role, err error) {
	for _, s := range r.Signatures() {
		if s.Role != record.Officer && s.Role != record.Supervisor {
			continue
		}
		number := s.Chain[0].Subject.SerialNumber
		for _, h := range people {
			if !h.Valid() {
				continue
			}
			own, err := v.officers.is(number, tokensOf(v.officers.key, h.Kind(), h.Person(at)))
			if err != nil || own {
				return number, s.Role, err
			}
		}
	}
	return "", "", nil
}
