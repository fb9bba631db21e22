package registry

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"enrollkiosk/registry/api"
	"enrollkiosk/registry/internal/console"
	"enrollkiosk/registry/internal/reply"
)

// KioskReport is all that the registry knows of a kiosk.
type KioskReport struct {
	Kiosk
	Waiting     bool      `json:"waiting,omitempty"` // for a person to approve it
	LastContact time.Time `json:"last_contact,omitzero"`
	Chain       Chain     `json:"chain"`
	Forks       []Fork    `json:"forks"`    // the newest
	Activity    []Alarm   `json:"activity"` // alarms about what its officers did
	Alarms      []string  `json:"alarms"`   // what people should look at, in words
}

// linksAtOnce is how much of a chain is read in one transaction.
const linksAtOnce = 1000

// Report looks at a kiosk; ErrUnknownKiosk if there is none of this id.
func (r *Registry) Report(ctx context.Context, id string) (KioskReport, error) {
	k, err := r.kiosks.Find(ctx, id)
	if errors.Is(err, ErrUnknownKiosk) {
		p, err := r.kiosks.findProvision(ctx, id)
		if err == nil && p.Waiting == nil {
			err = ErrUnknownKiosk
		}
		if err != nil {
			return KioskReport{}, err
		}
		return KioskReport{Kiosk: *p.Waiting, Waiting: true, Chain: newChainReader(*p.Waiting).chain, Forks: []Fork{}, Activity: []Alarm{}, Alarms: []string{}}, nil
	}
	if err != nil {
		return KioskReport{}, err
	}
	out := KioskReport{Kiosk: k, Forks: []Fork{}, Activity: []Alarm{}}
	if out.LastContact, err = r.store.LastHeard(ctx, id); err != nil {
		return KioskReport{}, err
	}
	forks, err := r.store.Forks(ctx, id, maxListed)
	if err != nil {
		return KioskReport{}, err
	}
	out.Forks = append(out.Forks, forks...)
	reader := newChainReader(k)
	for after := k.Counter; ; {
		some, err := r.store.Links(ctx, id, after, linksAtOnce)
		if err != nil {
			return KioskReport{}, err
		}
		for _, l := range some {
			reader.next(l.number, l.link)
			after = l.number
		}
		if len(some) < linksAtOnce {
			break
		}
	}
	out.Chain = reader.chain
	out.Alarms = out.Chain.Alarms(out.Forks)
	reported, err := r.store.Activities(ctx)
	if err != nil {
		return KioskReport{}, err
	}
	for _, a := range reported {
		if a.Kiosk == id {
			out.Activity = append(out.Activity, a.Alarms...)
		}
	}
	return out, nil
}

func (r *Registry) consoleKiosk(w http.ResponseWriter, q *http.Request) {
	report, err := r.Report(q.Context(), q.PathValue("id"))
	r.consoleAnswer(w, report, err)
}

func (r *Registry) consoleCancellations(w http.ResponseWriter, q *http.Request) {
	list, err := r.store.Cancellations(q.Context(), q.URL.Query().Get("all") != "")
	if list == nil {
		list = []Cancellation{}
	}
	r.consoleAnswer(w, list, err)
}

func (r *Registry) consoleCancellation(w http.ResponseWriter, q *http.Request) {
	c, err := r.store.Cancellation(q.Context(), q.PathValue("did"))
	r.consoleAnswer(w, c, err)
}

// consoleResolve ends a suspension as a person has decided.
func (r *Registry) consoleResolve(state CancelState) http.HandlerFunc {
	return func(w http.ResponseWriter, q *http.Request) {
		decision, ok := console.Read[Resolution](w, q)
		if !ok {
			return
		}
		decision.Time = r.now()
		if err := decision.check(); err != nil {
			r.consoleAnswer(w, nil, err)
			return
		}
		c, err := r.store.ResolveCancellation(q.Context(), q.PathValue("did"), state, decision)
		if err == nil {
			r.opts.Log.Info("cancellation resolved", "record", c.Record, "state", c.State)
		}
		r.consoleAnswer(w, c, err)
	}
}

// consoleAnswer answers an operator, who may see the cause.
func (r *Registry) consoleAnswer(w http.ResponseWriter, answer any, err error) {
	status, code := http.StatusConflict, api.CodeBadRequest
	switch {
	case err == nil:
		reply.JSON(w, answer)
		return
	case errors.Is(err, ErrUnknownKiosk), errors.Is(err, ErrNoCancellation):
		status, code = http.StatusNotFound, api.CodeNotFound
	case errors.Is(err, ErrRetired), errors.Is(err, ErrRevoked), errors.Is(err, ErrSequence), errors.Is(err, ErrMissing), errors.Is(err, ErrBy), errors.Is(err, ErrFarewell):
	case errors.Is(err, ErrResolution):
		status = http.StatusBadRequest
	case errors.Is(err, ErrCancelResolved):
	default:
		r.consoleFailed(w, err)
		return
	}
	title, _, _ := strings.Cut(err.Error(), "\n")
	reply.Problem(w, status, code, title, 0)
}
