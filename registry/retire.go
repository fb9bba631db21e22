package registry

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"enrollkiosk/registry/internal/console"
	"enrollkiosk/registry/receipt"
)

// Retirement is the end of a kiosk that has done nothing wrong.
type Retirement struct {
	At       time.Time `json:"at"`
	Sequence uint64    `json:"sequence"` // the last number of its TPM's counter, as the kiosk itself shows it
	Missing  uint64    `json:"missing"`  // numbers up to it of which no record has come, and will come
	By       string    `json:"by"`       // who decided it
	// Farewell is the kiosk's own signed word on Sequence, which may be 0 beside it
	// (receipt.Farewell); "" when the kiosk could not say it.
	Farewell string `json:"farewell,omitempty"`
}

// retired says whether a kiosk has ended by its retirement, and nobody has found out
// since that it should have ended before.
func (k Kiosk) retired() bool { return k.Retired != nil && !k.Revoked.Before(k.Retired.At) }

// Errors of Retire.
var (
	ErrRetired  = errors.New("the kiosk was retired already")
	ErrSequence = errors.New("the kiosk has sent a record of a higher number than its last: read its counter again")
	ErrMissing  = errors.New("records of this kiosk are missing: have it deliver or export them, or say how many are given up")
	ErrBy       = errors.New("say who decides, and the kiosk's last number, or bring its farewell")
	ErrFarewell = errors.New("this is not the farewell of this kiosk: have kiosk retire write it, and carry it here as it is")
)

// Retire ends a kiosk's standing with its last number. What has not come by then
// never will: missing must be its count, so that nobody gives up records without
// knowing how many. It is like a revocation from now on: nothing that the kiosk made
// before is suspect, nothing more is taken.
func (r *Registry) Retire(ctx context.Context, id string, want Retirement) (Retirement, error) {
	if want.By == "" || want.Sequence == 0 && want.Farewell == "" {
		return Retirement{}, ErrBy
	}
	report, err := r.Report(ctx, id)
	if err != nil {
		return Retirement{}, err
	}
	if report.Waiting {
		return Retirement{}, fmt.Errorf("%s: %w", id, ErrUnknownKiosk)
	}
	if want.Farewell != "" {
		said, err := r.farewell(ctx, report.Kiosk, want.Farewell)
		if err != nil {
			return Retirement{}, err
		}
		if want.Sequence != 0 && want.Sequence != said.Sequence {
			return Retirement{}, fmt.Errorf("%s: %w: %d, the kiosk itself says %d", id, ErrFarewell, want.Sequence, said.Sequence)
		}
		want.Sequence = said.Sequence
	}
	c := report.Chain
	highest := max(c.Highest, c.First)
	if want.Sequence < highest {
		return Retirement{}, fmt.Errorf("%s: %w: %d after %d", id, ErrSequence, highest, want.Sequence)
	}
	if missing := c.Missing + want.Sequence - highest; missing != want.Missing {
		return Retirement{}, fmt.Errorf("%s: %w: %d of %d", id, ErrMissing, missing, want.Sequence-c.First)
	}
	want.At = r.now()
	err = r.kiosks.change(ctx, id, func(s *standing) error {
		switch {
		case s.kiosk == nil:
			return fmt.Errorf("%s: %w", id, ErrUnknownKiosk)
		case s.kiosk.Retired != nil:
			return fmt.Errorf("%s: %w", id, ErrRetired)
		case s.kiosk.Revoked != nil:
			return fmt.Errorf("%s: %w", id, ErrRevoked)
		}
		s.kiosk.Retired, s.kiosk.Revoked = &want, &want.At
		return nil
	})
	return want, err
}

// farewell is what a kiosk has said last, under the record key that is registered. Its
// chain must end there as it does here.
func (r *Registry) farewell(ctx context.Context, k Kiosk, signed string) (receipt.Farewell, error) {
	v, err := receipt.VerifyFarewell([]byte(signed), k.signs, k.ID, r.origin)
	if err != nil {
		return receipt.Farewell{}, fmt.Errorf("%s: %w: %w", k.ID, ErrFarewell, err)
	}
	f := v.Claims()
	if f.Recorded == 0 || f.Head == [32]byte{} {
		return f, nil
	}
	last, err := r.store.Links(ctx, k.ID, f.Recorded-1, 1)
	if err != nil {
		return receipt.Farewell{}, err
	}
	if len(last) > 0 && last[0].number == f.Recorded && last[0].Record != f.Head {
		return receipt.Farewell{}, fmt.Errorf("%s: %w: its record %d is another one than ours: a copied or older disk", k.ID, ErrFarewell, f.Recorded)
	}
	return f, nil
}

func (r *Registry) consoleRetire(w http.ResponseWriter, q *http.Request) {
	want, ok := console.Read[Retirement](w, q)
	if !ok {
		return
	}
	done, err := r.Retire(q.Context(), q.PathValue("id"), want)
	if err == nil {
		r.opts.Log.Warn("kiosk retired", "kiosk", q.PathValue("id"), "sequence", done.Sequence, "missing", done.Missing, "by", done.By)
	}
	r.consoleAnswer(w, done, err)
}
