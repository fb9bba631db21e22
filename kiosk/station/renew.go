package station

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"enrollkiosk/hsm"
	"enrollkiosk/hsm/tpm"
	"enrollkiosk/kiosk"
	"enrollkiosk/kiosk/durable"
	"enrollkiosk/registry/api"
	"enrollkiosk/registry/policy"
	"enrollkiosk/registry/receipt"
)

// ErrCertificateEnds means that the certificates end soon and were not renewed by
// themselves, as they are by an agent that reaches the registry.
var ErrCertificateEnds = errors.New("this kiosk's certificates end soon")

// ownCertificates are those in use. They are renewed while the agent runs.
type ownCertificates struct {
	mu     sync.Mutex
	certs  api.KioskCertificates
	valid  validity
	warned time.Time // that they end soon
}

// use has certificates in use from now on.
func (i *ownCertificates) use(certs api.KioskCertificates) error {
	v, err := validityOf(certs)
	if err != nil {
		return err
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.certs, i.valid = certs, v
	return nil
}

func (i *ownCertificates) now() (api.KioskCertificates, validity) {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.certs, i.valid
}

// record is kiosk.Config.Certificate.
func (i *ownCertificates) record() [][]byte {
	certs, _ := i.now()
	return certs.Record
}

// endsSoon says whether it is time for a person to see to it.
func (v validity) endsSoon(t time.Time) bool { return t.After(v.until.Add(-api.EndsSoon)) }

// tlsCertificate is how the kiosk shows itself to the registry.
func (s *Station) tlsCertificate(certs api.KioskCertificates) tls.Certificate {
	return tls.Certificate{Certificate: certs.TLS, PrivateKey: hsm.Signer(s.tpm.TLSKey(), tpmTimeout)}
}

// renew asks the registry for new certificates when those in use are in the last third
// of their life. What does not work is tried again, and says nothing about the line.
func (s *Station) renew(ctx context.Context) {
	certs, _ := s.own.now()
	if due, err := certs.Due(); err == nil && s.clock.now().Wall.Before(due) {
		return
	}
	until, err := s.renewNow(ctx, certs)
	switch {
	case ctx.Err() != nil:
	case err != nil:
		s.log.Warn("the kiosk's certificates are not renewed", "cause", err)
	case !until.IsZero():
		s.log.Info("the kiosk's certificates are renewed", "until", until)
	}
}

// renewNow asks for new certificates, keeps them durably, and has them used: by
// connections and enrollments that begin from now on. A zero time: the registry finds
// that there is time left.
func (s *Station) renewNow(ctx context.Context, certs api.KioskCertificates) (until time.Time, err error) {
	p, err := s.policies.current()
	if err != nil {
		return until, err
	}
	request, err := receipt.SignRenewal(ctx, s.config.Kiosk.ID, p.Policy().LogOrigin, certs.TLS[0], s.tpm.RecordKey())
	if err != nil {
		return until, err
	}
	fresh, err := s.client.Renew(ctx, request)
	if err != nil {
		return until, err
	}
	v, err := acceptable(fresh, s.config, s.tpm, p, s.clock.now().Wall)
	if err != nil {
		return until, err
	}
	if _, old := s.own.now(); !v.until.After(old.until) {
		return until, nil
	}
	// The policy that names their authority is on the disk already.
	if err := keepCertificates(s.config, fresh); err != nil {
		return until, err
	}
	if err := s.own.use(fresh); err != nil {
		return until, err
	}
	s.client.Present(s.tlsCertificate(fresh))
	return v.until, nil
}

// acceptable says that certificates are for this kiosk's keys, good now, and from an
// authority that the policy names.
func acceptable(certs api.KioskCertificates, c Config, t *tpm.TPM, p policy.Signed, now time.Time) (validity, error) {
	if certs.KioskID != c.Kiosk.ID {
		return validity{}, fmt.Errorf("%w: they are for %s", ErrCertificates, certs.KioskID)
	}
	if err := fits(certs, t); err != nil {
		return validity{}, err
	}
	v, err := validityOf(certs)
	if err != nil {
		return v, err
	}
	if err := v.check(now); err != nil {
		return v, err
	}
	return v, issued(certs, p.Policy().KioskCA)
}

func keepCertificates(c Config, certs api.KioskCertificates) error {
	b, err := json.Marshal(certs)
	if err != nil {
		return err
	}
	if err := durable.Replace(c.in(certificatesFile), b); err != nil {
		return fmt.Errorf("keep certificates: %w", err)
	}
	return nil
}

// warnInterval is how often the log repeats that the certificates end soon.
const warnInterval = 24 * time.Hour

// warnEnding logs, once a day, that the certificates end soon.
func (s *Station) warnEnding() {
	now := s.clock.now().Wall
	s.own.mu.Lock()
	until, quiet := s.own.valid.until, !s.own.valid.endsSoon(now) || now.Sub(s.own.warned) < warnInterval && !now.Before(s.own.warned)
	if !quiet {
		s.own.warned = now
	}
	s.own.mu.Unlock()
	if !quiet {
		s.log.Warn("this kiosk's certificates end soon and were not renewed: connect it to the registry, or run kiosk provision with a new code", "until", until)
	}
}

// alarms is kiosk.Config.Alarms.
func (s *Station) alarms() (out []kiosk.Code) {
	if s.config.forkSeen() {
		out = append(out, kiosk.CodeAuthorityFork)
	}
	if _, v := s.own.now(); v.endsSoon(s.clock.now().Wall) {
		out = append(out, kiosk.CodeCertificateEnds)
	}
	return out
}
