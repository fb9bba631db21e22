package registry

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"enrollkiosk/registry/api"
	"enrollkiosk/registry/internal/keyfile"
	"enrollkiosk/registry/internal/reply"
	"enrollkiosk/registry/policy"
	"enrollkiosk/registry/receipt"
)

// A kiosk's certificates are renewed while they are good: whoever shows the TLS
// certificate and proves the record key has both keys that are registered, and gets
// new certificates for these and for no others. Nothing that is pinned changes.

// ErrKioskCA means that the policy names none of the registry's authorities over
// kiosks, or that it is needed to say which one signs.
var ErrKioskCA = errors.New("the policy names no authority over kiosks that this registry has; after a rotation it must be given: use --config")

// authority is the latest authority over kiosks that the policy in force names:
// a kiosk would not believe a later one.
func (k Kiosks) authority() (keyfile.Authority, error) {
	names := keyfile.Generations(k.dir, nameKioskCA, ".crt")
	for _, name := range names {
		ca, err := keyfile.ReadAuthority(k.dir, name)
		if err != nil {
			return ca, err
		}
		named := slices.ContainsFunc(k.named, func(r policy.Root) bool { return slices.Equal(r.Certificate, ca.Certificate.Raw) })
		if named || k.named == nil && len(names) == 1 {
			return ca, nil
		}
	}
	return keyfile.Authority{}, ErrKioskCA
}

// RotateKioskCA makes the next authority over kiosks. Certificates that the old ones
// have issued stay good.
func RotateKioskCA(dir string, now time.Time) (api.RegistryKeys, error) {
	return rotate(dir, func(pub *api.RegistryKeys) error {
		ca, err := keyfile.CreateAuthority(dir, keyfile.Next(dir, nameKioskCA, ".crt"), "Kiosks of "+pub.Origin, now)
		if err != nil {
			return err
		}
		pub.EarlierKioskCAs = slices.Insert(pub.EarlierKioskCAs, 0, pub.KioskCA)
		pub.KioskCA = ca.Certificate.Raw
		return nil
	})
}

// Renew gives a kiosk in good standing certificates that last: new ones if the
// registered ones are in the last third of their life, else those. So a kiosk that lost
// the answer gets it again.
func (k Kiosks) Renew(ctx context.Context, id string, now time.Time) (certs api.KioskCertificates, renewed bool, err error) {
	err = k.change(ctx, id, func(s *standing) error {
		renewed = false
		switch {
		case s.kiosk == nil:
			return fmt.Errorf("%s: %w", id, ErrUnknownKiosk)
		case s.kiosk.Revoked != nil:
			return fmt.Errorf("%s: %w", id, ErrRevoked)
		}
		if !k.last(s.kiosk.Certificates, now) {
			if err := k.issue(s.kiosk, now); err != nil {
				return err
			}
			renewed = true
		}
		certs = s.kiosk.Certificates
		return nil
	})
	return certs, renewed, err
}

// postRenewal takes a kiosk's receipt.Renewal.
func (r *Registry) postRenewal(w http.ResponseWriter, q *http.Request) {
	sender, b, ok := r.asked(w, q, api.MediaJOSE, receipt.MaxSize)
	if !ok {
		return
	}
	_, err := receipt.VerifyRenewal(b, sender.signs, sender.ID, r.origin, q.TLS.PeerCertificates[0].Raw)
	switch {
	case errors.Is(err, receipt.ErrForm):
		reply.Problem(w, http.StatusBadRequest, api.CodeBadRequest, "the body is no request for certificates", 0)
		return
	case err != nil:
		r.opts.Log.Warn("certificates not renewed", "kiosk", sender.ID, "error", err)
		reply.Problem(w, http.StatusForbidden, api.CodeRenewal, "the request is not this kiosk's own, made for this connection", 0)
		return
	}
	// Signing takes its place among what is signed for provisioning.
	select {
	case r.provisions <- struct{}{}:
		defer func() { <-r.provisions }()
	default:
		reply.Problem(w, http.StatusServiceUnavailable, api.CodeUnavailable, "busy: ask again", retryAfter)
		return
	}
	certs, renewed, err := r.kiosks.Renew(q.Context(), sender.ID, r.opts.Now())
	switch {
	case errors.Is(err, ErrRevoked), errors.Is(err, ErrUnknownKiosk): // meanwhile
		reply.Problem(w, http.StatusForbidden, api.CodeNoKiosk, "only a registered kiosk may ask", 0)
		return
	case err != nil:
		r.opts.Log.Error("certificates not renewed", "kiosk", sender.ID, "error", err)
		reply.Problem(w, http.StatusServiceUnavailable, api.CodeUnavailable, "ask again", retryAfter)
		return
	}
	if renewed {
		end, _ := certs.End() // they were made just now
		r.opts.Log.Info("certificates renewed", "kiosk", sender.ID, "until", end)
	}
	reply.JSON(w, certs)
}

// KioskEnd is a kiosk whose certificates end soon.
type KioskEnd struct {
	Kiosk string    `json:"kiosk"`
	End   time.Time `json:"end"`
}

// ending are the kiosks in good standing whose certificates end within
// api.EndsSoon, or have ended: those that have not renewed them by themselves.
func (k Kiosks) ending(ctx context.Context, now time.Time) ([]KioskEnd, error) {
	out := []KioskEnd{}
	all, err := k.List(ctx)
	for _, kiosk := range all {
		end, err := kiosk.Certificates.End()
		if err == nil && kiosk.Revoked == nil && end.Before(now.Add(api.EndsSoon)) {
			out = append(out, KioskEnd{kiosk.ID, end})
		}
	}
	slices.SortFunc(out, func(a, b KioskEnd) int { return a.End.Compare(b.End) })
	return out, err
}
