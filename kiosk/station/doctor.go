package station

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"time"

	"enrollkiosk/hsm"
	"enrollkiosk/hsm/tpm"
	"enrollkiosk/kiosk"
	"enrollkiosk/kiosk/wire"
	"enrollkiosk/registry/policy"
	"enrollkiosk/smartcard/pcsc"
	"enrollkiosk/sync/client"
	"enrollkiosk/sync/queue"
)

// Finding is one check of the machine. Err is nil when it is in order; Remedy
// says what to do otherwise.
type Finding struct {
	Check  string
	Detail string
	Err    error
	Remedy string
}

// checkLimit bounds each check.
const checkLimit = 10 * time.Second

// Diagnose checks readers, TPM, clock, certificates, disk, queue, policy and registry. What a
// running agent holds is asked of the agent. It changes nothing but what
// opening a queue mends.
func Diagnose(ctx context.Context, c Config) []Finding {
	health, agentErr := askHealth(ctx, c)
	running := agentErr == nil
	own := func(f func(context.Context, Config) (string, error)) func(context.Context) (string, error) {
		return func(ctx context.Context) (string, error) { return f(ctx, c) }
	}
	agent := func(context.Context) (string, error) {
		switch {
		case running:
			return "running at " + c.Kiosk.Socket, nil
		case errors.Is(agentErr, wire.ErrNoAgent):
			return "not running: its devices are checked directly", nil
		}
		return "", agentErr
	}
	security, waiting := own(diagnoseTPM), own(diagnoseQueue)
	if running {
		security = func(context.Context) (string, error) { return health.tpm() }
		waiting = func(context.Context) (string, error) { return health.queue() }
	}
	var out []Finding
	for _, check := range []struct {
		name, remedy string
		f            func(context.Context) (string, error)
	}{
		{"agent", "restart it; run this as the agent's user", agent},
		{"readers", "connect the readers, start pcscd, compare [readers] with what pcsc_scan -r lists", own(diagnoseReaders)},
		{"tpm", "enable the TPM in the firmware, put the agent's user into the group tss, run kiosk provision", security},
		{"clock", "set the clock and let a time service keep it", func(context.Context) (string, error) { return diagnoseClock(c) }},
		{"certificates", "leave the agent running where it reaches the registry: it renews them by itself; or run kiosk provision with a new code from the registry", func(context.Context) (string, error) { return diagnoseCertificates(c) }},
		{"disk", "see the message; nothing in " + c.Kiosk.State + " may be deleted by hand", func(context.Context) (string, error) { return diagnoseDisk(c) }},
		{"queue", "call staff; nothing is deleted by itself", waiting},
		{"policy", "connect this kiosk to the registry, or put a newer policy into trust.policy; a new kiosk: kiosk provision", func(context.Context) (string, error) { return diagnosePolicy(c) }},
		{"authority", "go on enrolling; take " + c.in(forkFile) + " to the identity authority, then move it away", func(context.Context) (string, error) { return diagnoseAuthority(c) }},
		{"log", "go on enrolling; take the directory log/evidence to the identity authority, then move it away and restart the agent", func(ctx context.Context) (string, error) { return diagnoseLog(ctx, c) }},
		{"printer", "start cups and compare printer.url with what lpstat -v lists; enrollments go on without one", own(diagnosePrinter)},
		{"registry", "check the network cable, the proxy and registry.url", func(ctx context.Context) (string, error) { return diagnoseRegistry(ctx, c, health.Delivery) }},
	} {
		limited, cancel := context.WithTimeout(ctx, checkLimit)
		detail, err := check.f(limited)
		cancel()
		f := Finding{Check: check.name, Detail: detail, Err: err}
		if err != nil {
			f.Remedy = check.remedy
		}
		out = append(out, f)
	}
	return out
}

// Health is what a running agent says of what only it can reach.
type Health struct {
	TPM      string   `json:"tpm"`       // what it is and where its counter stands
	TPMFault string   `json:"tpm_fault"` // "" when it answers
	Delivery Delivery `json:"delivery"`
	Fault    string   `json:"queue_fault"`
	Mended   string   `json:"queue_mended,omitempty"` // since its start
}

// askHealth asks the agent. Errors: wire.ErrNoAgent, wire.ErrAnswer and those of
// the socket.
func askHealth(ctx context.Context, c Config) (h Health, err error) {
	ctx, cancel := context.WithTimeout(ctx, checkLimit)
	defer cancel()
	err = wire.Ask(ctx, c.Kiosk.Socket, wire.Query{Kind: QueryHealth}, &h)
	return h, err
}

// health answers QueryHealth.
func (s *Station) health(ctx context.Context) Health {
	var h Health
	var err error
	if h.TPM, err = describeTPM(ctx, s.tpm); err != nil {
		h.TPMFault = err.Error()
	}
	if h.Delivery, err = s.delivery(ctx); err != nil {
		h.Fault = err.Error()
	}
	h.Mended = s.upkeep.String()
	return h
}

func (h Health) tpm() (string, error) {
	if h.TPMFault != "" {
		return "", fmt.Errorf("%w: the agent says: %s", hsm.ErrUnavailable, h.TPMFault)
	}
	return h.TPM, nil
}

func (h Health) queue() (string, error) {
	if h.Fault != "" {
		return "", fmt.Errorf("%w: the agent says: %s", queue.ErrDamaged, h.Fault)
	}
	return describeQueue(h.Delivery, h.Mended)
}

func diagnoseReaders(ctx context.Context, c Config) (string, error) {
	list, err := pcsc.List(ctx)
	if err != nil {
		return "", cardError(err)
	}
	r := c.readers()
	for _, d := range []kiosk.Device{kiosk.DeviceDocument, kiosk.DeviceToken, kiosk.DeviceOfficer} {
		if _, err := r.find(ctx, d); err != nil {
			return "", err
		}
	}
	return fmt.Sprintf("%d connected, the three configured ones among them", len(list)), nil
}

func diagnoseTPM(ctx context.Context, c Config) (string, error) {
	t, err := openTPM(ctx, c)
	if err != nil {
		return "", err
	}
	defer t.Close()
	return describeTPM(ctx, t)
}

func describeTPM(ctx context.Context, t *tpm.TPM) (string, error) {
	info, err := t.Info(ctx)
	if err != nil {
		return "", err
	}
	if info.LockedOut {
		return "", hsm.ErrLockout
	}
	if err := t.Ready(); err != nil {
		return "", err
	}
	n, err := t.Counter(ctx)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s, counter at %d", info.Manufacturer, n), nil
}

func diagnoseClock(c Config) (string, error) {
	clock, err := openClock(c)
	if err != nil {
		return "", err
	}
	now := clock.read()
	if err := checkClock(now); err != nil {
		return "", err
	}
	kept := "kept by a time service"
	if !now.Synchronised {
		kept = "not kept by a time service"
	}
	return now.Wall.Format(time.RFC3339) + ", " + kept, nil
}

func diagnoseCertificates(c Config) (string, error) {
	certs, err := c.certificates()
	if err != nil {
		return "", err
	}
	v, err := validityOf(certs)
	if err != nil {
		return "", err
	}
	if err := v.check(time.Now()); err != nil {
		return "", err
	}
	if v.endsSoon(time.Now()) {
		return "", fmt.Errorf("%w: on %s", ErrCertificateEnds, v.until.Format(time.DateOnly))
	}
	return "valid until " + v.until.Format(time.DateOnly), nil
}

func diagnoseQueue(ctx context.Context, c Config) (string, error) {
	q, report, err := openQueue(ctx, c)
	if err != nil {
		return "", err
	}
	defer q.Close()
	d, err := deliveryOf(ctx, q)
	if err != nil {
		return "", err
	}
	return describeQueue(d, report.String())
}

// ErrQuarantined means that records need a person's look.
var ErrQuarantined = errors.New("records were set aside: kiosk queue list says why")

func describeQueue(d Delivery, mended string) (string, error) {
	text := fmt.Sprintf("%d waiting, %d set aside, %d delivered", d.Waiting, d.Quarantined, d.Receipted)
	if mended != "" {
		text += "; mended: " + mended
	}
	if d.Quarantined > 0 {
		return "", fmt.Errorf("%w: %s", ErrQuarantined, text)
	}
	return text, nil
}

func diagnosePolicy(c Config) (string, error) {
	p, err := readPolicies(c)
	if err != nil {
		return "", err
	}
	clock, err := openClock(c)
	if err != nil {
		return "", err
	}
	now := clock.read()
	s, err := p.usable(now)
	if err != nil {
		return "", err
	}
	if err := s.CheckTime(now.Wall); err != nil {
		return "", err
	}
	if err := installed(c, s.Policy()); err != nil {
		return "", err
	}
	return fmt.Sprintf("version %d, until %s", s.Policy().Version, s.Policy().Expires.Format(time.DateOnly)), nil
}

// diagnoseAuthority says under which of its root keys the authority's policy is.
func diagnoseAuthority(c Config) (string, error) {
	p, err := readPolicies(c)
	if err != nil {
		return "", err
	}
	s, err := p.current()
	if err != nil {
		return "", err
	}
	if c.forkSeen() || p.forked != nil {
		return "", fmt.Errorf("%w: what is in force stays in force", policy.ErrFork)
	}
	return fmt.Sprintf("root %d: %x", len(s.Roots()), s.Root()), nil
}

// diagnoseRegistry fetches the policy over the registry's public side, which
// needs no client key: the agent may hold the TPM. agent is how delivery stands there.
func diagnoseRegistry(ctx context.Context, c Config, agent Delivery) (string, error) {
	p, err := readPolicies(c)
	if err != nil {
		return "", err
	}
	clock, err := openClock(c)
	if err != nil {
		return "", err
	}
	r, err := newClient(c, tls.Certificate{}, p, clock, nil, nil, nil)
	if err != nil {
		return "", err
	}
	defer r.Close()
	b, err := r.Policy(ctx)
	if err != nil {
		return "", err
	}
	if _, err := policy.Parse(b, p.root); err != nil {
		return "", err
	}
	for _, t := range lineFaults {
		if t.code == agent.Code {
			return "", fmt.Errorf("it answers, but the agent could not deliver: %w", t.is)
		}
	}
	if agent.Code != "" {
		return "", fmt.Errorf("it answers now, but the agent's last attempt failed: %w", client.ErrUnreachable)
	}
	return c.Registry.URL + " answers", nil
}

// Policy is the policy in force, without a running station.
func Policy(c Config) (policy.Policy, error) {
	p, err := readPolicies(c)
	if err != nil {
		return policy.Policy{}, err
	}
	s, err := p.current()
	return s.Policy(), err
}

// RecordCertificate is the certificate of this kiosk's record key, leaf first, DER.
func RecordCertificate(c Config) ([][]byte, error) {
	certs, err := c.certificates()
	return certs.Record, err
}
