package station

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"enrollkiosk/hsm/tpm"
	"enrollkiosk/kiosk"
	"enrollkiosk/kiosk/durable"
	"enrollkiosk/kiosk/wire"
	"enrollkiosk/registry/receipt"
	"enrollkiosk/sync/queue"
)

// retirementFile holds a Retired from the moment that the farewell is signed until
// nothing more is to be done.
const retirementFile = "retirement.json"

// Errors of Retire, and of Provision where Retire has not come to its end.
var (
	ErrEraseAbandoned = errors.New("records that are given up are kept: erase only where everything was delivered")
	ErrRetiring       = errors.New("this machine is being retired: run kiosk retire again until it says that it is done")
)

// UndeliveredError says how many records the registry has not taken, when another
// number was given up.
type UndeliveredError struct{ Waiting, Quarantined, Abandon int }

func (e *UndeliveredError) Error() string {
	n := e.Waiting + e.Quarantined
	switch {
	case n == 0:
		return fmt.Sprintf("nothing waits and nothing is set aside, so %d records cannot be given up: leave out --abandon", e.Abandon)
	case e.Abandon != 0:
		return fmt.Sprintf("%d records wait for the registry and %d are set aside: %d together, not %d", e.Waiting, e.Quarantined, n, e.Abandon)
	}
	return fmt.Sprintf("%d records wait for the registry and %d are set aside: start the agent to deliver them, or kiosk queue export, registry import and kiosk queue import-receipts; "+
		"whoever gives them up for good says so: --abandon %d", e.Waiting, e.Quarantined, n)
}

// RetireOptions are what a person brings to Retire.
type RetireOptions struct {
	// Abandon is how many records are given up, waiting and set aside together:
	// exactly as many as there are.
	Abandon int
	// Erase also erases what was delivered, with its receipts. Else it is kept in Retired.Kept.
	Erase bool
	// Confirm is asked before anything is done; its error ends it.
	Confirm func(Retired) error
	// Farewell gets the signed farewell (receipt.Farewell) before the keys are
	// destroyed, and keeps it. It is called again when Retire is run again.
	Farewell func([]byte) error
}

// Retired is what ended.
type Retired struct {
	KioskID   string   `json:"kiosk"`
	Sequence  uint64   `json:"sequence"` // the counter's last value
	Abandoned int      `json:"abandoned"`
	Custody   int      `json:"custody"`            // citizens' keys that were destroyed with the kiosk's
	Farewell  string   `json:"farewell,omitempty"` // compact JWS; "" until it is signed
	Kept      string   `json:"kept,omitempty"`     // directory of queue, receipts and what was known of the log
	Remains   []string `json:"remains,omitempty"`  // what could not be removed, in words
}

// Retire ends this machine's being a kiosk: it signs a farewell for the registry,
// then destroys keys and certificates. It may be run again after a power cut at any
// point. Errors wrap ErrAgentRuns, ErrNotProvisioned, *UndeliveredError,
// ErrEraseAbandoned, kiosk.ErrRolledBack and those of tpm and queue; nothing was done
// then, unless the certificates are gone already.
//
//	retirement.json   written, with the farewell
//	Farewell          the caller has it
//	certificates.json removed: from here on there is no way back, and no agent starts
//	TPM               counter and keys are gone, citizens' in custody too
//	secrets on disk   removed
//	the rest          moved to Kept, or erased
//	retirement.json   moved there last
func Retire(ctx context.Context, c Config, o RetireOptions) (Retired, error) {
	if err := wire.Ask(ctx, c.Kiosk.Socket, wire.Query{Kind: QueryHealth}, new(Health)); !errors.Is(err, wire.ErrNoAgent) {
		if err == nil || errors.Is(err, wire.ErrAnswer) {
			err = ErrAgentRuns
		}
		return Retired{}, err
	}
	if err := c.own(); err != nil {
		return Retired{}, err
	}
	r, err := c.retirement()
	if err != nil {
		return Retired{}, err
	}
	if r.Farewell == "" {
		r, err = farewell(ctx, c, o)
	} else if err = o.mayErase(r); err == nil {
		if err = o.Confirm(r); err == nil {
			err = o.Farewell([]byte(r.Farewell))
		}
	}
	if err != nil {
		return Retired{}, err
	}
	if err := c.wipe(ctx, &r, o.Erase); err != nil {
		return r, fmt.Errorf("not everything is removed yet, run it again: %w", err)
	}
	return r, nil
}

func (o RetireOptions) mayErase(r Retired) error {
	if o.Erase && r.Abandoned > 0 {
		return ErrEraseAbandoned
	}
	return nil
}

// retirement is one that was begun and is past its point of no return; zero if there
// is none. What was signed earlier is void as long as the kiosk has its certificates:
// it may have enrolled since.
func (c Config) retirement() (r Retired, err error) {
	if _, err := os.Stat(c.in(certificatesFile)); !errors.Is(err, os.ErrNotExist) {
		return r, err
	}
	b, err := os.ReadFile(c.in(retirementFile))
	if errors.Is(err, os.ErrNotExist) {
		return r, ErrNotProvisioned
	}
	if err != nil {
		return r, err
	}
	if err := json.Unmarshal(b, &r); err != nil {
		return r, fmt.Errorf("%s: %w", c.in(retirementFile), err)
	}
	return r, nil
}

// farewell does everything up to the point of no return, with the queue locked.
func farewell(ctx context.Context, c Config, o RetireOptions) (r Retired, err error) {
	q, _, err := openQueue(ctx, c)
	if errors.Is(err, queue.ErrLocked) {
		err = fmt.Errorf("%w (%w)", ErrAgentRuns, err)
	}
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, q.Close()) }()
	s, err := q.Stats(ctx)
	if err != nil {
		return r, err
	}
	if s.Waiting+s.Quarantined != o.Abandon {
		return r, &UndeliveredError{s.Waiting, s.Quarantined, o.Abandon}
	}
	policies, err := readPolicies(c)
	if err != nil {
		return r, err
	}
	p, err := policies.current()
	if err != nil {
		return r, err
	}
	clock, err := openClock(c)
	if err != nil {
		return r, err
	}
	t, err := openTPM(ctx, c)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, t.Close()) }()
	if err := t.Ready(); err != nil {
		return r, err
	}
	f := receipt.Farewell{Kiosk: c.Kiosk.ID, Audience: p.Policy().LogOrigin, Time: clock.now().Wall, Abandoned: uint64(o.Abandon)}
	if f.Sequence, f.Recorded, f.Head, err = kiosk.End(ctx, t, q); err != nil {
		return r, err
	}
	citizens, _ := t.Citizens() // of what cannot be read nothing is lost any more
	r = Retired{KioskID: c.Kiosk.ID, Sequence: f.Sequence, Abandoned: o.Abandon, Custody: len(citizens)}
	if err := o.mayErase(r); err != nil {
		return r, err
	}
	if err := o.Confirm(r); err != nil {
		return r, err
	}
	signed, err := receipt.SignFarewell(ctx, f, t.RecordKey())
	if err != nil {
		return r, fmt.Errorf("sign farewell: %w", err)
	}
	r.Farewell = string(signed)
	b, err := json.Marshal(r)
	if err != nil {
		return r, err
	}
	if err := durable.Replace(c.in(retirementFile), b); err != nil {
		return r, err
	}
	if err := o.Farewell(signed); err != nil {
		return r, fmt.Errorf("keep farewell: %w", err)
	}
	return r, c.remove(certificatesFile)
}

// wipe destroys what makes this machine the kiosk, keys first, and puts the rest
// where the next kiosk on this machine does not meet it. All of it may have been done
// already.
func (c Config) wipe(ctx context.Context, r *Retired, erase bool) error {
	t, err := openTPM(ctx, c)
	if err == nil {
		err = errors.Join(t.Wipe(ctx), t.Close())
	}
	switch {
	case errors.Is(err, tpm.ErrOwned):
		r.Remains = append(r.Remains, "the TPM's counter: "+err.Error())
	case errors.Is(err, tpm.ErrOtherTPM): // it was cleared meanwhile: these keys work nowhere
		err = c.remove("tpm")
		fallthrough
	default:
		if err != nil {
			return err
		}
	}
	if err := c.remove(custodyDir, exchangeFile); err != nil {
		return err
	}
	kept := fmt.Sprintf("retired-%s-%d", r.KioskID, r.Sequence)
	if err := os.MkdirAll(c.in(kept), 0o700); err != nil {
		return err
	}
	for _, name := range []string{queueDir, logDir, activityFile, timeFile, policyFile, forkFile, rootFile} {
		if err := c.move(name, kept); err != nil {
			return err
		}
	}
	if erase {
		return c.remove(kept, retirementFile)
	}
	r.Kept = c.in(kept)
	return c.move(retirementFile, kept)
}

// remove removes files and directories durably, with what a power cut left of
// writing them. What is not there is no error.
func (c Config) remove(names ...string) error {
	for _, name := range names {
		left, err := filepath.Glob(c.in(name + ".*.tmp")) // durable.Replace's
		if err != nil {
			return err
		}
		for _, path := range append(left, c.in(name)) {
			if err := os.RemoveAll(path); err != nil {
				return err
			}
		}
		if err := durable.SyncDir(c.Kiosk.State); err != nil {
			return err
		}
	}
	return nil
}

// move moves what is there into a directory beside it, durably.
func (c Config) move(name, into string) error {
	if err := os.Rename(c.in(name), c.in(filepath.Join(into, name))); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return errors.Join(durable.SyncDir(c.in(into)), durable.SyncDir(c.Kiosk.State))
}
