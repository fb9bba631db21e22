package courier_test

import (
	"errors"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"sync/atomic"
	"testing"
	"time"

	"enrollkiosk/registry/api"
	"enrollkiosk/registry/policy"
	"enrollkiosk/registry/receipt"
	"enrollkiosk/registry/record"
	"enrollkiosk/simulators/network"
	"enrollkiosk/sync/client"
	"enrollkiosk/sync/courier"
	"enrollkiosk/sync/internal/testregistry"
	"enrollkiosk/sync/queue"
)

// field is a courier with a real queue, the real client and a registry with real
// records, signatures and log behind a line, and perhaps a proxy, with faults.
type field struct {
	t        *testing.T
	registry *testregistry.Registry
	line     *network.Listener
	packets  *network.Packets // before it, or nil
	proxy    *network.Proxy
	via      atomic.Bool // the proxy
	queue    *queue.Queue
	courier  *courier.Courier
	records  []record.Submission
}

// patience is how long the client waits for an answer.
const patience = 1500 * time.Millisecond

func newField(t *testing.T) *field {
	t.Helper()
	f := &field{t: t}
	f.serve()
	f.run(f.registry.URL, patience)
	return f
}

// newPacketField is one behind a line of packets.
func newPacketField(t *testing.T, patience time.Duration) *field {
	t.Helper()
	if missing := network.MissingForPackets(); missing != "" {
		t.Fatal("a line of packets needs " + missing)
	}
	f := &field{t: t}
	f.serve()
	var err error
	if f.packets, err = network.NewPackets(f.registry.Address, 1); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.packets.Close() })
	f.run("https://"+f.packets.Address, patience)
	return f
}

// serve starts the registry and what lies before it.
func (f *field) serve() {
	t := f.t
	t.Helper()
	f.registry = testregistry.New(t, func(r *testregistry.Registry, l net.Listener) net.Listener {
		var err error
		if f.line, err = network.Wrap(l, network.Options{Certificate: r.Certificate, Expired: r.Expired(), Pace: time.Millisecond}); err != nil {
			t.Fatal(err)
		}
		return f.line
	})
	t.Cleanup(func() { f.line.Close() })
	var err error
	if f.proxy, err = network.NewProxy(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.proxy.Close() })
}

// run starts the courier.
func (f *field) run(address string, patience time.Duration) {
	t := f.t
	t.Helper()
	c, err := client.New(client.Options{URL: address, Certificate: f.registry.Kiosk, Timeout: patience,
		Policy: func() (policy.Signed, error) { return f.registry.Policy, nil },
		Proxy: func(*http.Request) (*url.URL, error) {
			if f.via.Load() {
				return url.Parse(f.proxy.URL)
			}
			return nil, nil
		}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	f.queue = open(t, quickDir(t))
	f.courier, _ = run(t, f.queue, c, courier.Options{Idle: 20 * time.Millisecond})
}

// put queues one more record.
func (f *field) put() record.Submission {
	f.t.Helper()
	s := f.registry.Enroll(f.t, uint64(len(f.records)+1))
	f.records = append(f.records, s)
	if err := f.queue.Put(f.t.Context(), queue.Item{ID: s.ID(), Data: s.Bytes()}); err != nil {
		f.t.Fatal(err)
	}
	return s
}

// until kicks the courier until something is so.
func (f *field) until(what string, so func() bool) {
	f.t.Helper()
	for deadline := time.Now().Add(3 * time.Minute); !so(); time.Sleep(5 * time.Millisecond) {
		f.courier.Kick()
		if time.Now().After(deadline) {
			f.t.Fatalf("not %s: %+v", what, now(f.t, f.courier))
		}
	}
}

// delivered waits for every record but those of others, and holds that each is in
// the registry once and its receipt here.
func (f *field) delivered(but ...queue.ID) {
	f.t.Helper()
	f.until("delivered", func() bool { return now(f.t, f.courier).Receipted == len(f.records)-len(but) })
	if n := f.registry.Records(); n != len(f.records)-len(but) {
		f.t.Errorf("the registry holds %d of %d records", n, len(f.records))
	}
	for _, s := range f.records {
		id := queue.ID(s.ID())
		if len(but) > 0 && id == but[0] {
			continue
		}
		f.until("purged", func() bool { return state(f.t, f.queue, id) == queue.Purged })
		if b, err := f.queue.Receipt(f.t.Context(), id); err != nil || !f.registry.IsReceipt(b, id) {
			f.t.Errorf("receipt of %v: %v", id, err)
		}
	}
}

// Every way in which a network fails: what the courier says of it, and that once
// it is over each record is in the registry once, with its receipt here.
func TestThroughEachFault(t *testing.T) {
	t.Parallel()
	f := newField(t)
	throttled := func(err error) bool { var r *client.RetryAfter; return errors.As(err, &r) }
	is := func(want error) func(error) bool { return func(err error) bool { return errors.Is(err, want) } }
	shown := func(m client.Mismatch) func(error) bool {
		return func(err error) bool { var e *client.CertificateError; return errors.As(err, &e) && e.Mismatch == m }
	}
	for _, c := range []struct {
		fault network.Fault
		proxy bool // its fault, not the line's
		line  courier.Line
		says  func(error) bool
	}{
		{network.Unreachable, false, courier.LineDown, is(client.ErrUnreachable)},
		{network.Silent, false, courier.LineDown, is(client.ErrUnreachable)},
		{network.Interrupted, false, courier.LineDown, is(client.ErrUnreachable)},
		{network.LostAnswer, false, courier.LineDown, is(client.ErrUnreachable)}, // cut after the commit
		{network.HalfAnswer, false, courier.LineDown, is(client.ErrUnreachable)},
		{network.Stalled, false, courier.LineDown, is(client.ErrUnreachable)},
		{network.CutBody, false, courier.LineDown, is(client.ErrUnreachable)},
		{network.Slow, false, "", nil},
		{network.Sliced, false, "", nil},
		{network.Storm, false, courier.LineDown, throttled},
		{network.Unavailable, false, courier.LineDown, throttled},
		{network.BadGateway, false, courier.LineDown, throttled},
		{network.Broken, false, courier.LineDown, throttled},
		{network.Nonsense, false, courier.LineDown, is(client.ErrNonsense)},
		{network.OtherJSON, false, courier.LineDown, is(client.ErrNonsense)},
		{network.TooLarge, false, "", nil},
		{network.Page, false, courier.LineStopped, is(client.ErrCaptivePortal)},
		{network.Redirect, false, courier.LineStopped, is(client.ErrCaptivePortal)},
		{network.SignIn, false, courier.LineStopped, is(client.ErrCaptivePortal)},
		{network.PlainHTTP, false, courier.LineStopped, is(client.ErrCaptivePortal)},
		{network.Unauthorized, false, courier.LineStopped, is(client.ErrNotAllowed)},
		{network.Forbidden, false, courier.LineStopped, is(client.ErrNotAllowed)},
		{network.ProxyAuth, false, courier.LineStopped, is(client.ErrNotAllowed)},
		{network.WrongCert, false, courier.LineStopped, shown(client.Stranger)},
		{network.ExpiredCert, false, courier.LineStopped, shown(client.OutOfTime)},
		{network.Inspected, false, courier.LineStopped, shown(client.Inspected)},
		{network.OldTLS, false, courier.LineStopped, shown(client.Inspected)},
		{network.Healthy, true, courier.LineUp, nil},
		{network.OnlyHTTP1, true, courier.LineUp, nil},
		{network.ProxyAuth, true, courier.LineStopped, is(client.ErrNotAllowed)},
		{network.Redirect, true, courier.LineStopped, is(client.ErrCaptivePortal)},
		{network.Inspected, true, courier.LineStopped, shown(client.Inspected)},
		{network.BadGateway, true, courier.LineDown, is(client.ErrUnreachable)},
	} {
		name := string(c.fault)
		if c.proxy {
			name += " of a proxy"
		}
		t.Run(name, func(t *testing.T) {
			defer func(outer *testing.T) { f.t = outer }(f.t)
			f.t = t
			before := f.line.Count(c.fault)
			if c.proxy {
				f.proxy.Suffer(c.fault)
			} else {
				f.line.Suffer(c.fault)
			}
			f.via.Store(c.proxy)
			s := f.put()
			if c.line == courier.LineUp {
				f.delivered()
				f.via.Store(false)
				return
			}
			f.until("met", func() bool { return c.proxy || f.line.Count(c.fault) > before })
			if c.line != "" {
				f.until("told", func() bool {
					st := now(t, f.courier)
					return st.Line == c.line && c.says(st.Fault) && st.Waiting == 1 && !st.Oldest.IsZero()
				})
				if st := state(t, f.queue, s.ID()); st != queue.Queued {
					t.Errorf("the record is %s", st)
				}
			}
			f.line.Suffer(network.Healthy)
			f.via.Store(false)
			f.delivered()
		})
	}
}

// A third of all packets is lost, and those that are not overtake one another: each
// record is in the registry once all the same, with its receipt here. A line that
// loses everything delivers nothing, and the state says so.
func TestThroughLostPackets(t *testing.T) {
	t.Parallel()
	f := newPacketField(t, 20*time.Second) // longer than it takes when a segment is lost a few times
	f.packets.Suffer(network.Weather{Loss: 0.3, Delay: time.Millisecond, Jitter: 5 * time.Millisecond})
	for range 3 {
		f.put()
		f.delivered()
	}
	_, lost := f.packets.Count()
	again, err := f.packets.Retransmitted()
	if err != nil || lost == 0 || again == 0 {
		t.Errorf("%d packets lost, %d sent again, %v", lost, again, err)
	}
}

func TestThroughNothing(t *testing.T) {
	t.Parallel()
	f := newPacketField(t, patience)
	f.packets.Suffer(network.Weather{Loss: 1})
	s := f.put()
	f.until("told", func() bool {
		st := now(t, f.courier)
		return st.Line == courier.LineDown && errors.Is(st.Fault, client.ErrUnreachable) && st.Waiting == 1 && !st.Oldest.IsZero()
	})
	if n, st := f.registry.Records(), state(t, f.queue, s.ID()); n != 0 || st != queue.Queued {
		t.Errorf("over a dead line came %d records; the record is %s", n, st)
	}
	f.packets.Suffer(network.Weather{})
	f.delivered()
}

// The same, one after another in any order while records keep coming.
func TestThroughEveryFault(t *testing.T) {
	t.Parallel()
	f := newField(t)
	f.registry.Delay(1)
	faults := []network.Fault{network.Unreachable, network.Slow, network.Interrupted, network.LostAnswer, network.HalfAnswer, network.PlainHTTP,
		network.WrongCert, network.ExpiredCert, network.Nonsense, network.Page, network.Redirect, network.Unauthorized, network.ProxyAuth,
		network.TooLarge, network.Broken, network.Storm, network.CutBody, network.Sliced, network.Inspected}
	rand.Shuffle(len(faults), func(i, j int) { faults[i], faults[j] = faults[j], faults[i] })
	for _, fault := range faults {
		f.line.Suffer(fault)
		for range 3 {
			f.put()
		}
		f.until("met", func() bool { return f.line.Count(fault) > 0 })
		if rand.N(2) == 0 {
			f.line.Suffer(network.Healthy)
		}
	}
	f.line.Suffer(network.Healthy)
	f.delivered()
}

// Nothing but the registry's signature over this record's id takes a record out of
// the queue, whoever stands at the registry's end of the line, and however often
// he says so. The other records are delivered meanwhile.
func TestUnsignedRejectionsNeverQuarantine(t *testing.T) {
	t.Parallel()
	f := newField(t)
	r := f.registry
	good := f.put()
	f.delivered()
	elsewhere := testregistry.New(t, nil)
	verdict := func(r *testregistry.Registry, of [32]byte, status receipt.Status, byVault bool) string {
		v := receipt.Verdict{Record: of, Status: status, Code: api.CodeFork}
		if status != receipt.Rejected {
			v.DID = good.Record().Payload().Holder.DID
		}
		return string(r.Verdict(v, byVault))
	}
	for name, forge := range map[string]func(id [32]byte) string{
		"unsigned":                func([32]byte) string { return "e30.e30.AAAA" },
		"by another registry":     func(id [32]byte) string { return verdict(elsewhere, id, receipt.Rejected, false) },
		"by the vault":            func(id [32]byte) string { return verdict(r, id, receipt.Rejected, true) },
		"about another record":    func([32]byte) string { return verdict(r, good.ID(), receipt.Rejected, false) },
		"a refusal":               func(id [32]byte) string { return verdict(r, id, receipt.Refused, true) },
		"a byte of the claims":    func(id [32]byte) string { return flip(verdict(r, id, receipt.Rejected, false), 1, 3) },
		"a byte of the header":    func(id [32]byte) string { return flip(verdict(r, id, receipt.Rejected, false), 0, 3) },
		"a byte of the signature": func(id [32]byte) string { return flip(verdict(r, id, receipt.Rejected, false), 2, 9) },
	} {
		t.Run(name, func(t *testing.T) {
			defer func(outer *testing.T) { f.t = outer }(f.t)
			f.t = t
			var victim atomic.Pointer[[32]byte]
			var lies atomic.Int32
			change := func(_ string, answer any) {
				id := victim.Load()
				if id == nil {
					return
				}
				switch a := answer.(type) {
				case *api.BatchResult:
					for i := range a.Verdicts {
						if a.Verdicts[i].ID == *id {
							a.Verdicts[i] = api.ItemVerdict{ID: *id, Status: api.Rejected, Code: api.CodeFork, Verdict: forge(*id)}
							lies.Add(1)
						}
					}
				case *api.StatusResult:
					for i := range a.Statuses {
						if a.Statuses[i].ID == *id {
							a.Statuses[i] = api.RecordStatus{ID: *id, Status: api.Rejected, Code: api.CodeFork, Verdict: forge(*id)}
							lies.Add(1)
						}
					}
				}
			}
			r.Change(change)
			defer r.Change(nil)
			s := f.registry.Enroll(t, uint64(len(f.records)+1))
			id := [32]byte(s.ID())
			victim.Store(&id)
			f.records = append(f.records, s)
			if err := f.queue.Put(t.Context(), queue.Item{ID: id, Data: s.Bytes()}); err != nil {
				t.Fatal(err)
			}
			other := queue.ID(f.put().ID())
			f.until("lied to", func() bool { return lies.Load() >= 4 })
			f.until("delivered beside", func() bool { return state(t, f.queue, other) == queue.Purged })
			if st := state(t, f.queue, id); st != queue.Queued {
				t.Errorf("after %d lies the record is %s", lies.Load(), st)
			}
			victim.Store(nil)
			f.delivered()
		})
	}
	// The control: with the signature it is believed, and what is kept is what was signed.
	s := r.Enroll(t, uint64(len(f.records)+1))
	r.Reject(s.ID(), api.CodeKiosk)
	r.Change(func(_ string, answer any) {
		if a, ok := answer.(*api.BatchResult); ok {
			for i := range a.Verdicts {
				a.Verdicts[i].Code = map[bool]string{true: api.CodeFork}[a.Verdicts[i].Status == api.Rejected]
			}
		}
	})
	if err := f.queue.Put(t.Context(), queue.Item{ID: s.ID(), Data: s.Bytes()}); err != nil {
		t.Fatal(err)
	}
	f.until("quarantined", func() bool { return state(t, f.queue, s.ID()) == queue.Quarantined })
	e, err := f.queue.Get(t.Context(), s.ID())
	if err != nil || e.Reason.Code != api.CodeKiosk {
		t.Errorf("%+v, %v", e.Reason, err)
	}
	if _, err := receipt.VerifyVerdict(e.Reason.Evidence, r.Policy.Policy().VerdictKeys.Registry, nil, s.ID()); err != nil {
		t.Errorf("the evidence: %v", err)
	}
}

// flip changes one character of one part of a compact JWS.
func flip(jws string, part, at int) string {
	b := []byte(jws)
	for i := range b {
		if b[i] == '.' {
			part--
			continue
		}
		if part == 0 {
			i += at
			b[i] ^= 1 // another character of base64url, or none
			return string(b)
		}
	}
	return jws
}
