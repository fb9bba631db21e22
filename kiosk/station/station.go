// Package station is the production wiring of a kiosk: configuration, drivers,
// queue, courier and flow put together. Both `kiosk agent` and the demo start
// it; where a device is found is configuration, what makes it trusted is the
// policy.
package station

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"enrollkiosk/hsm/tpm"
	"enrollkiosk/kiosk"
	"enrollkiosk/kiosk/wire"
	"enrollkiosk/registry/api"
	"enrollkiosk/registry/checkpoint"
	"enrollkiosk/registry/policy"
	"enrollkiosk/sync/client"
	"enrollkiosk/sync/courier"
	"enrollkiosk/sync/queue"
)

// Station is a kiosk with everything open.
type Station struct {
	config    Config
	tpm       *tpm.TPM
	queue     *queue.Queue
	upkeep    upkeep
	policies  *policies
	activity  *activity
	decisions *decisions
	diary     *diary
	metrics   *metrics
	courier   *courier.Courier
	client    *client.Client
	agent     *kiosk.Agent
	clock     *clock
	seen      *checkpoint.Keeper // of the registry's public log
	own       ownCertificates
	newer     chan [32]byte // the registry has a policy of this digest, which is not ours
	asked     [32]byte      // the last of them that was fetched; keepCurrent's
	log       *slog.Logger
}

// Options of a Station that are not configuration.
type Options struct {
	Log     *slog.Logger
	Observe func(kiosk.Event)
	Limits  kiosk.Limits // zero: kiosk.DefaultLimits
}

// Open opens everything that the agent owns. Errors wrap those of hsm, queue
// and this package; nothing stays open after one.
func Open(ctx context.Context, c Config, o Options) (_ *Station, err error) {
	s := &Station{config: c, newer: make(chan [32]byte, 1), log: o.Log}
	defer func() {
		if err != nil {
			s.Close()
		}
	}()
	if s.clock, err = openClock(c); err != nil {
		return nil, err
	}
	var report queue.Report
	if s.queue, report, err = openQueue(ctx, c); err != nil {
		return nil, err
	}
	s.upkeep.note(o.Log, report)
	certs, err := c.certificates()
	if err != nil {
		return nil, err
	}
	if s.tpm, err = openTPM(ctx, c); err != nil {
		return nil, err
	}
	if err = s.tpm.Ready(); err != nil {
		return nil, err
	}
	if err = fits(certs, s.tpm); err != nil {
		return nil, err
	}
	if err = s.own.use(certs); err != nil {
		return nil, err
	}
	// What is saved here may still be delivered, and the screen says it better
	// than an agent that does not start; usable lets no enrollment begin.
	if err := s.own.valid.check(s.clock.now().Wall); err != nil {
		o.Log.Error("no enrollment can begin", "cause", err)
	}
	if s.policies, err = openPolicies(c); err != nil {
		return nil, err
	}
	if s.activity, err = openActivity(c, s.clock.now().Wall); err != nil {
		return nil, err
	}
	if s.decisions, err = openDecisions(c, o.Log); err != nil {
		return nil, err
	}
	if s.diary, err = openDiary(c, o.Log); err != nil {
		return nil, err
	}
	texts, err := readTexts(c.Kiosk.Texts)
	if err != nil {
		return nil, err
	}
	if s.seen, err = checkpoint.OpenKeeper(c.in(logDir)); err != nil {
		return nil, err
	}
	if s.client, err = newClient(c, s.tlsCertificate(certs), s.policies, s.clock, s.seen, s.heard, s.offered); err != nil {
		return nil, err
	}
	s.courier = courier.New(s.queue, s.client, courier.Options{Policy: s.policies.current, Slept: slept, Log: o.Log})
	if o.Limits == (kiosk.Limits{}) {
		o.Limits = kiosk.DefaultLimits()
	}
	readers := c.readers()
	paper, err := c.printer()
	if err != nil {
		return nil, err
	}
	past := archive{s.queue, s.decisions}
	cfg := kiosk.Config{ID: c.Kiosk.ID, Certificate: s.own.record, Languages: c.Kiosk.Languages,
		Readers: readers, Portraits: c.portraits(), Printer: paper, Tokens: tokens{readers}, TPM: s.tpm, Queue: s.queue, Delivery: delivery{s.courier, s.queue, s.client}, Registry: counter{s.client, s.clock.now}, SelfService: c.SelfService.Enabled, Activity: s.activity,
		Archive: past, Diary: s.diary, Folder: c.folder(past), Machine: (&machine{state: c.Kiosk.State, clock: s.clock, printer: paper}).look,
		Policy: s.usable, Texts: byDigest(texts), Clock: s.clock.now, LogFault: s.logFault, Alarms: s.alarms, Limits: o.Limits, Log: o.Log, Observe: o.Observe}
	if c.Metrics.File != "" {
		s.metrics = newMetrics(s, c.Metrics.File)
		cfg.Faulted = s.metrics.faulted
	}
	if cfg.Custody, err = openCustody(s.tpm, c.in(custodyDir), o.Log); err != nil {
		return nil, err
	}
	if readers.residents != nil {
		cfg.Residents = readers.residents
	}
	s.agent = kiosk.New(cfg)
	return s, nil
}

// Desk is the agent, for a window in the same process.
func (s *Station) Desk() kiosk.Desk { return s.agent }

// Queue is the open queue.
func (s *Station) Queue() *queue.Queue { return s.queue }

// Verdict asks the registry what has been decided about a record.
func (s *Station) Verdict(ctx context.Context, id queue.ID) (kiosk.DeliveryStage, error) {
	return delivery{s.courier, s.queue, s.client}.Verdict(ctx, id)
}

// Run serves the desk, the socket and the courier until ctx ends.
func (s *Station) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	errs := make(chan error, 7)
	start := func(what string, f func(context.Context) error) {
		wg.Go(func() {
			defer cancel() // one ends: all end
			if err := f(ctx); err != nil && ctx.Err() == nil {
				errs <- fmt.Errorf("%s: %w", what, err)
			}
		})
	}
	start("agent", s.agent.Run)
	start("courier", s.courier.Run)
	start("socket", func(ctx context.Context) error { return wire.Serve(ctx, s.config.Kiosk.Socket, s.agent, s.answer) })
	start("policy", s.keepCurrent)
	start("upkeep", s.keepWhole)
	start("decisions", s.keepDecided)
	if s.metrics != nil {
		start("metrics", s.metrics.run)
	}
	wg.Wait()
	close(errs)
	return <-errs
}

// usable is kiosk.Config.Policy: the policy to enroll under, when a record made
// now would be accepted. Errors wrap kiosk.ErrCertificate and those of
// policies.usable.
func (s *Station) usable() (policy.Signed, error) {
	now := s.clock.read()
	p, err := s.policies.usable(now)
	if err != nil {
		return policy.Signed{}, err
	}
	_, v := s.own.now()
	if err := v.check(now.Wall); err != nil {
		return policy.Signed{}, err
	}
	return p, nil
}

// heard gets each time that the registry signed.
func (s *Station) heard(t time.Time) {
	if err := s.clock.heard(t); err != nil {
		s.log.Warn("the registry's time is not kept", "cause", err)
	}
}

// offered gets, with each answer to a batch, the digest of the registry's policy.
func (s *Station) offered(digest [32]byte) {
	if p, err := s.policies.current(); err == nil && p.Digest() == digest {
		return
	}
	select {
	case s.newer <- digest:
	default:
	}
}

// How often the registry is asked for its policy and its time, and told what
// officers did.
const (
	askInterval = 15 * time.Minute
	askAgain    = time.Minute // after a failure
)

// keepCurrent asks the registry for a newer policy and for its time, and reports
// what officers did: now and then, whenever the line comes back, and when an
// answer says that there is a newer policy. That the registry cannot be reached is
// the courier's to tell.
func (s *Station) keepCurrent(ctx context.Context) error {
	events := s.courier.Events(ctx)
	for {
		s.warnEnding()
		err := s.policies.refresh(ctx, s.client.Policy)
		if err == nil {
			_, err = s.client.Time(ctx)
		}
		if err == nil {
			err = s.followLog(ctx)
		}
		if err == nil {
			s.renew(ctx)
			s.reportActivity(ctx)
		}
		wait := askInterval
		switch {
		case ctx.Err() != nil:
			return nil
		case err == nil:
			s.agent.Heard(kiosk.DeliveryEvent{Stage: kiosk.Reached})
		case errors.Is(err, policy.ErrFork), errors.Is(err, policy.ErrRollback), errors.Is(err, policy.ErrSignature), errors.Is(err, policy.ErrForm):
			s.log.Error("the registry offers a policy that is not in order", "cause", err)
		case err != nil:
			s.log.Debug("policy and time not refreshed", "cause", err)
			s.agent.Heard(trouble(err))
			wait = askAgain
		}
		if !s.pause(ctx, wait, events, err != nil) {
			return nil
		}
	}
}

// reportActivity sends what officers did. A registry that does not take it says nothing
// about the line; the counts stay until one does.
func (s *Station) reportActivity(ctx context.Context) {
	p, err := s.policies.current()
	if err == nil {
		err = s.activity.report(ctx, s.config.Kiosk.ID, p.Policy().LogOrigin, s.clock.now().Wall, s.tpm.RecordKey(), s.client.Report)
	}
	if err != nil && ctx.Err() == nil {
		s.log.Warn("officers' activity is not reported", "cause", err)
	}
}

// pause waits, shorter when the line comes back after a failure, and reports after
// each delivery. false: ctx has ended.
func (s *Station) pause(ctx context.Context, wait time.Duration, events <-chan courier.Event, failed bool) bool {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return false
		case <-timer.C:
			return true
		case ev := <-events:
			if failed && ev.Stage == courier.Reached {
				return true
			}
			if ev.Stage == courier.Accepted {
				s.reportActivity(ctx)
			}
		case digest := <-s.newer:
			// What it offers may be one that is not taken: once is enough.
			if digest != s.asked {
				s.asked = digest
				return true
			}
		}
	}
}

// Close releases everything that is open.
func (s *Station) Close() error {
	var errs []error
	if s.client != nil {
		s.client.Close()
	}
	if s.queue != nil {
		errs = append(errs, s.queue.Close())
	}
	if s.tpm != nil {
		errs = append(errs, s.tpm.Close())
	}
	return errors.Join(errs...)
}

// newClient speaks to the registry with mutual TLS 1.3. The roots of its
// certificate come from the policy in force at each connection.
func newClient(c Config, certificate tls.Certificate, p *policies, clock *clock, seen *checkpoint.Keeper, heard func(time.Time), offered func([32]byte)) (*client.Client, error) {
	return client.New(client.Options{URL: c.Registry.URL, Certificate: certificate, Policy: p.current, Clock: clock.floored, Log: seen, Heard: heard, Offered: offered})
}

// delivery is the courier as the flow sees it.
type delivery struct {
	courier *courier.Courier
	queue   *queue.Queue
	client  *client.Client
}

func (d delivery) Kick() { d.courier.Kick() }

func (d delivery) Verdict(ctx context.Context, id queue.ID) (kiosk.DeliveryStage, error) {
	status, err := d.client.Verdict(ctx, id)
	if errors.Is(err, client.ErrNotFound) {
		return "", nil // not sent yet
	}
	return verdicts[status], err
}

var verdicts = map[api.Status]kiosk.DeliveryStage{api.Active: kiosk.Activated, api.Refused: kiosk.Refused, api.Rejected: kiosk.Quarantined}

func (d delivery) Events(ctx context.Context) <-chan kiosk.DeliveryEvent {
	out := make(chan kiosk.DeliveryEvent, 64)
	events := d.courier.Events(ctx)
	go func() {
		for ev := range events {
			e := kiosk.DeliveryEvent{ID: ev.ID, Stage: stages[ev.Stage]}
			switch e.Stage {
			case kiosk.Receipted:
				e.Receipt, _ = d.queue.Receipt(ctx, ev.ID)
			case kiosk.Trouble:
				e = trouble(ev.Err)
				e.ID, e.Stopped, e.Next = ev.ID, ev.Line == courier.LineStopped, ev.Next
			case kiosk.Quarantined:
				e.Code = kiosk.CodeRejected
			}
			select {
			case out <- e:
			case <-ctx.Done():
				return
			}
		}
	}()
	return out
}

var stages = map[courier.Stage]kiosk.DeliveryStage{
	courier.Accepted: kiosk.Accepted, courier.Receipted: kiosk.Receipted, courier.Purged: kiosk.Purged,
	courier.Quarantined: kiosk.Quarantined, courier.Activated: kiosk.Activated, courier.Refused: kiosk.Refused, courier.Reached: kiosk.Reached, courier.Trouble: kiosk.Trouble,
}

// trouble is what is told of a failed attempt.
func trouble(err error) kiosk.DeliveryEvent {
	e := kiosk.DeliveryEvent{Stage: kiosk.Trouble, Code: netCode(err)}
	var shown *client.CertificateError
	if e.Code == kiosk.CodeInspected && errors.As(err, &shown) {
		e.Inspector = shown.By
	}
	return e
}

var lineFaults = []struct {
	is   error
	code kiosk.Code
}{
	{client.ErrCaptivePortal, kiosk.CodeCaptivePortal},
	{checkpoint.ErrSplit, kiosk.CodeSplitView}, // before the nonsense that it is, too
	{client.ErrNonsense, kiosk.CodeNonsense},
	{client.ErrNotAllowed, kiosk.CodeNotAllowed},
	{client.ErrTLS, kiosk.CodeTLS},
	{client.ErrTLS, kiosk.CodeInspected},
	{client.ErrKey, kiosk.CodeTPMFailed},
	{kiosk.ErrPolicy, kiosk.CodePolicyMissing},
}

func netCode(err error) kiosk.Code {
	var shown *client.CertificateError
	if errors.As(err, &shown) && shown.Mismatch == client.Inspected {
		return kiosk.CodeInspected
	}
	for _, t := range lineFaults {
		if errors.Is(err, t.is) {
			return t.code
		}
	}
	return kiosk.CodeUnreachable
}
