package vault

import (
	"crypto/hpke"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"time"
	"unicode"

	"enrollkiosk/registry/api"
	"enrollkiosk/registry/credential"
	"enrollkiosk/registry/internal/reply"
	"enrollkiosk/registry/receipt"
	"enrollkiosk/registry/record"
	"enrollkiosk/smartcard/identity"
)

// ErrNotActive: the record is not one that this vault has found active, or its
// holder has another key now.
var ErrNotActive = errors.New("the holder's record is not active")

// Claims are what credentials may say today of the person in a record that this
// vault has found active: whether they have reached an age, and, only if it is asked
// for, the name. Nothing is kept.
func (v *Vault) Claims(q api.ClaimsRequest) (out api.ClaimsResult, err error) {
	s, err := record.ParseSubmission(q.Record)
	if err != nil {
		return out, fmt.Errorf("%w: %w", ErrNoRecord, err)
	}
	v.one.Lock()
	defer v.one.Unlock()
	if err := v.isLevel(); err != nil {
		return out, err
	}
	r := s.Record()
	if err := v.active(r); err != nil {
		return out, err
	}
	p := r.Payload()
	rules, known := v.judge.rules[p.Context.PolicyDigest]
	if !known {
		return out, ErrUnknownPolicy
	}
	now := v.opts.Now()
	at, err := v.judge.signers(rules, r, now)
	if err != nil {
		return out, fmt.Errorf("%w: %w", ErrNotActive, err)
	}
	id, err := record.OpenSealed(p.Context, v.identity(p.Identity.Key), p.Identity)
	if err != nil {
		return out, fmt.Errorf("%w: %w", ErrNotActive, err)
	}
	defer wipe(id)
	holder, _, err := rules.people(p, id, at, v.judge.production)
	if err != nil {
		return out, fmt.Errorf("%w: %w", ErrNotActive, err)
	}
	return claimsOf(holder.Person(at), now, q.Names), nil
}

// active holds that a record brought the key that its holder has now.
func (v *Vault) active(r record.Record) error {
	p := r.Payload()
	if p.Context.Purpose != record.Enroll && p.Context.Purpose != record.Replace {
		return fmt.Errorf("%w: it brought no key", ErrNotActive)
	}
	signed, err := v.store.verdict(r.ID())
	if err != nil {
		return err
	}
	verdict, err := receipt.VerifyVerdict(signed, nil, v.keys(), r.ID())
	if err != nil || verdict.Claims().Status != receipt.Active {
		return ErrNotActive
	}
	if _, ok, err := v.store.holder(p.Holder.DID); err != nil || !ok {
		return errors.Join(err, ErrNotActive)
	}
	return nil
}

func claimsOf(p identity.Person, now time.Time, names bool) api.ClaimsResult {
	born := string(p.Birth.Reveal())
	out := api.ClaimsResult{Over14: reached(born, 14, now), Over16: reached(born, 16, now), Over18: reached(born, 18, now)}
	if names {
		out.FamilyName, out.GivenName = string(p.Surname.Reveal()), string(p.GivenNames.Reveal())
		if name := strings.TrimSpace(out.FamilyName + " " + out.GivenName); strings.ContainsFunc(name, func(r rune) bool { return r > unicode.MaxLatin1 }) {
			out.NameLocal = name // as the document's own script has it
		}
	}
	return out
}

// reached says whether somebody born on a day has so many years. A day or month that
// the document does not know is the last one: nobody is made older. Who is born on
// 29 February has a birthday on 1 March in other years. An unreadable date: no.
func reached(born string, years int, now time.Time) bool {
	parts := strings.Split(born, "-")
	for len(parts) < 3 {
		parts = append(parts, "")
	}
	var n [3]int
	for i, last := range []int{0, 12, 31} {
		if _, err := fmt.Sscanf(parts[i], "%d", &n[i]); err != nil || n[i] == 0 {
			n[i] = last
		}
	}
	if n[0] == 0 || n[1] > 12 || n[2] > 31 {
		return false
	}
	return !now.UTC().Before(time.Date(n[0]+years, time.Month(n[1]), n[2], 0, 0, 0, 0, time.UTC))
}

// Places opens the sealed places of ended records' credentials and mixes them.
func (v *Vault) Places(q api.PlacesRequest) (api.PlacesResult, error) {
	out := api.PlacesResult{Places: []api.Place{}}
	current := v.opts.Policy.Policy().Authority.ID
	b, err := v.identity(current).Bytes()
	if err != nil {
		return out, err
	}
	key, err := hpke.MLKEM768X25519().NewPrivateKey(b.Reveal())
	if err != nil {
		return out, errors.New("places: the authority's key")
	}
	for _, s := range q.Sealed {
		links, err := credential.OpenLinks(s.Places, key, current, s.Record)
		if err != nil {
			return out, fmt.Errorf("%w: places of %s: %w", ErrNoRecord, s.Record, err)
		}
		for _, l := range links {
			out.Places = append(out.Places, api.Place(l))
		}
	}
	rand.Shuffle(len(out.Places), func(i, j int) { out.Places[i], out.Places[j] = out.Places[j], out.Places[i] })
	v.opts.Log.Info("places of ended credentials opened", "lists", len(q.Sealed), "places", len(out.Places))
	return out, nil
}

func (v *Vault) claims(w http.ResponseWriter, q *http.Request) {
	asked, ok := message[api.ClaimsRequest](w, q)
	if !ok {
		return
	}
	out, err := v.Claims(asked)
	v.tell(w, api.PathClaims, out, err)
}

func (v *Vault) places(w http.ResponseWriter, q *http.Request) {
	asked, ok := message[api.PlacesRequest](w, q)
	if !ok {
		return
	}
	out, err := v.Places(asked)
	v.tell(w, api.PathPlaces, out, err)
}

// tell answers what the issuer of credentials asks.
func (v *Vault) tell(w http.ResponseWriter, path string, out any, err error) {
	switch {
	case errors.Is(err, ErrNotActive):
		v.opts.Log.Warn("no claims", "error", err)
		reply.Problem(w, http.StatusForbidden, api.CodeHolder, "the holder's record is not active", 0)
	case errors.Is(err, ErrNoRecord):
		v.opts.Log.Warn("nothing to tell", "path", path, "error", err)
		reply.Problem(w, http.StatusBadRequest, api.CodeBadRequest, "the body is not what is asked here", 0)
	case errors.Is(err, ErrBehind):
		behind(w)
	case err != nil:
		v.metrics.errors.WithLabelValues(path).Inc()
		v.opts.Log.Error("nothing told", "path", path, "error", err)
		reply.Problem(w, http.StatusServiceUnavailable, api.CodeUnavailable, "ask again", retryAfter)
	default:
		w.Header().Set("Cache-Control", "no-store")
		reply.JSON(w, out)
	}
}
