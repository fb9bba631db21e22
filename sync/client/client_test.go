package client_test

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"enrollkiosk/registry/api"
	"enrollkiosk/registry/policy"
	"enrollkiosk/registry/receipt"
	"enrollkiosk/registry/record"
	"enrollkiosk/simulators/network"
	"enrollkiosk/sync/client"
	"enrollkiosk/sync/internal/testregistry"
)

func noProxy(*http.Request) (*url.URL, error) { return nil, nil }

func connect(t testing.TB, r *testregistry.Registry, change func(*client.Options)) *client.Client {
	t.Helper()
	o := client.Options{URL: r.URL, Certificate: r.Kiosk, Proxy: noProxy, Policy: func() (policy.Signed, error) { return r.Policy, nil }}
	if change != nil {
		change(&o)
	}
	c, err := client.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func item(s record.Submission) client.Item { return client.Item{ID: s.ID(), Data: s.Bytes()} }

// submit sends one item.
func submit(t testing.TB, c *client.Client, i client.Item) client.Verdict {
	t.Helper()
	v, err := c.Submit(t.Context(), []client.Item{i})
	if err != nil || len(v) != 1 || v[0].ID != i.ID {
		t.Fatalf("submit: %v, %v", v, err)
	}
	return v[0]
}

// status asks for one item.
func status(t testing.TB, c *client.Client, i client.Item) (client.Status, error) {
	t.Helper()
	s, err := c.Status(t.Context(), []client.Item{i})
	if err != nil {
		return client.Status{}, err
	}
	if len(s) != 1 || s[0].ID != i.ID {
		t.Fatalf("status: %+v", s)
	}
	return s[0], s[0].Err
}

func TestDelivery(t *testing.T) {
	r := testregistry.New(t, nil)
	var heard time.Time
	c := connect(t, r, func(o *client.Options) { o.Heard = func(at time.Time) { heard = at } })
	r.Delay(1)
	for name, s := range map[string]record.Submission{"enroll": r.Enroll(t, 1), "void": testregistry.Void(t, 2)} {
		i := item(s)
		if v := submit(t, c, i); v.Status != api.Pending {
			t.Errorf("%s: %+v", name, v)
		}
		if st, err := status(t, c, i); err != nil || st.Receipt != nil {
			t.Errorf("%s: a receipt before the log has the leaf: %v, %v", name, st, err)
		}
		st, err := status(t, c, i)
		if err != nil || !r.IsReceipt(st.Receipt, s.ID()) {
			t.Errorf("%s: %+v, %v", name, st, err)
		}
		if wanted := api.Status(map[string]api.Status{"enroll": api.Active, "void": api.Pending}[name]); st.Status != wanted {
			t.Errorf("%s: %s, want %s", name, st.Status, wanted)
		}
		if v := submit(t, c, i); v.Status != api.Accepted {
			t.Errorf("%s, again: %+v", name, v)
		}
	}
	if r.Records() != 2 {
		t.Errorf("%d records in the registry", r.Records())
	}
	if since := time.Since(heard); since > time.Minute || since < -time.Minute {
		t.Errorf("registry's time %v", heard)
	}
	if at, err := c.Time(t.Context()); err != nil || time.Since(at) > time.Minute {
		t.Errorf("time: %v, %v", at, err)
	}
	if b, err := c.Policy(t.Context()); err != nil || string(b) != string(r.Policy.Bytes()) {
		t.Errorf("policy: %v", err)
	}
	if _, err := status(t, c, item(testregistry.Void(t, 9))); !errors.Is(err, client.ErrNotFound) {
		t.Errorf("status of a record never sent: %v", err)
	}
}

// A report arrives as it is, and the answer is the registry's time.
func TestReport(t *testing.T) {
	r := testregistry.New(t, nil)
	var heard time.Time
	c := connect(t, r, func(o *client.Options) { o.Heard = func(at time.Time) { heard = at } })
	if err := c.Report(t.Context(), []byte("a.b.c")); err != nil || heard.IsZero() {
		t.Errorf("%v, heard %v", err, heard)
	}
	if got := r.Reports(); len(got) != 1 || string(got[0]) != "a.b.c" {
		t.Errorf("arrived: %q", got)
	}
	nobody := connect(t, r, func(o *client.Options) { o.Certificate = tls.Certificate{} })
	if err := nobody.Report(t.Context(), []byte("a.b.c")); !errors.Is(err, client.ErrNotAllowed) {
		t.Errorf("without a certificate: %v", err)
	}
	other := testregistry.New(t, nil) // another registry's time is none
	c = connect(t, r, func(o *client.Options) {
		served := o.Policy
		o.Policy = func() (policy.Signed, error) {
			if len(r.Reports()) > 1 {
				return other.Policy, nil
			}
			return served()
		}
	})
	if err := c.Report(t.Context(), []byte("a.b.c")); err != nil {
		t.Errorf("its own: %v", err)
	}
	if err := c.Report(t.Context(), []byte("a.b.c")); !errors.Is(err, client.ErrNonsense) {
		t.Errorf("another registry's time: %v", err)
	}
}

func TestSignedDecisions(t *testing.T) {
	r := testregistry.New(t, nil)
	c := connect(t, r, nil)
	bad := item(testregistry.Void(t, 1))
	r.Reject(bad.ID, api.CodeFork)
	v := submit(t, c, bad)
	if v.Status != api.Rejected || v.Code != api.CodeFork {
		t.Errorf("%+v", v)
	}
	if _, err := receipt.VerifyVerdict(v.Evidence, r.Policy.Policy().VerdictKeys.Registry, nil, bad.ID); err != nil {
		t.Errorf("the evidence is not the registry's: %v", err)
	}
	r.Decide(receipt.Refused)
	s := item(r.Enroll(t, 2))
	submit(t, c, s)
	st, err := status(t, c, s)
	if err != nil || st.Status != api.Refused || st.Code != api.CodeReview || st.Verdict == nil {
		t.Errorf("%+v, %v", st, err)
	}
}

// What became of the key later stands beside the vault's verdict.
func TestStanding(t *testing.T) {
	r := testregistry.New(t, nil)
	c := connect(t, r, nil)
	s := r.Enroll(t, 1)
	submit(t, c, item(s))
	if st, err := status(t, c, item(s)); err != nil || st.Standing != nil || st.Status != api.Active {
		t.Fatalf("%+v, %v", st, err)
	}
	for _, want := range []receipt.Status{receipt.Suspended, receipt.Revoked} {
		standing := string(r.Verdict(receipt.Verdict{Record: s.ID(), DID: s.Record().Payload().Holder.DID, Status: want, Code: api.CodeCancelled}, false))
		r.Change(func(_ string, answer any) {
			if a, ok := answer.(*api.StatusResult); ok {
				a.Statuses[0].Standing = standing
			}
		})
		if st, err := status(t, c, item(s)); err != nil || st.Standing == nil || st.Standing.Status != want || st.Standing.Code != api.CodeCancelled || st.Status != api.Active {
			t.Errorf("%+v, %v", st, err)
		}
	}
}

// A registry that claims what it cannot prove is not believed.
func TestLies(t *testing.T) {
	r := testregistry.New(t, nil)
	c := connect(t, r, nil)
	s, other := r.Enroll(t, 1), r.Enroll(t, 2)
	i, o := item(s), item(other)
	submit(t, c, i)
	submit(t, c, o)
	otherStatus, err := status(t, c, o)
	if err != nil {
		t.Fatal(err)
	}
	otherReceipt := r.OtherReceipt(s.ID())
	did := s.Record().Payload().Holder.DID
	verdict := func(v receipt.Verdict, byVault bool) string { return string(r.Verdict(v, byVault)) }
	for name, lie := range map[string]func(a *api.RecordStatus){
		"another record's receipt":          func(a *api.RecordStatus) { a.Receipt = string(otherStatus.Receipt) },
		"a receipt with a blind of its own": func(a *api.RecordStatus) { a.Receipt = string(otherReceipt) },
		"a receipt cut short":               func(a *api.RecordStatus) { a.Receipt = a.Receipt[:len(a.Receipt)-3] },
		"a byte of the receipt":             func(a *api.RecordStatus) { a.Receipt = strings.Replace(a.Receipt, "index 0", "index 1", 1) },
		"another id":                        func(a *api.RecordStatus) { a.ID[0] ^= 1 },
		"another record's activation": func(a *api.RecordStatus) {
			a.Status, a.Verdict = api.Active, string(otherStatus.Verdict)
		},
		"another holder's activation": func(a *api.RecordStatus) {
			a.Status, a.Verdict = api.Active, verdict(receipt.Verdict{Record: s.ID(), DID: other.Record().Payload().Holder.DID, Status: receipt.Active}, true)
		},
		"activated by the registry": func(a *api.RecordStatus) {
			a.Status, a.Verdict = api.Active, verdict(receipt.Verdict{Record: s.ID(), DID: did, Status: receipt.Active}, false)
		},
		"rejected by the vault": func(a *api.RecordStatus) {
			a.Receipt, a.Status, a.Code = "", api.Rejected, "c"
			a.Verdict = verdict(receipt.Verdict{Record: s.ID(), Status: receipt.Rejected, Code: "c"}, true)
		},
		"refusal told as activation": func(a *api.RecordStatus) {
			a.Status, a.Verdict = api.Active, verdict(receipt.Verdict{Record: s.ID(), DID: did, Status: receipt.Refused, Code: "c"}, true)
		},
		"unsigned rejection": func(a *api.RecordStatus) { a.Receipt, a.Status, a.Code, a.Verdict = "", api.Rejected, "c", "jws" },
		"unsigned standing":  func(a *api.RecordStatus) { a.Standing = "jws" },
		"suspended by the vault": func(a *api.RecordStatus) {
			a.Standing = verdict(receipt.Verdict{Record: s.ID(), DID: did, Status: receipt.Suspended, Code: "c"}, true)
		},
		"another record's suspension": func(a *api.RecordStatus) {
			a.Standing = verdict(receipt.Verdict{Record: other.ID(), DID: did, Status: receipt.Suspended, Code: "c"}, false)
		},
		"another holder's suspension": func(a *api.RecordStatus) {
			a.Standing = verdict(receipt.Verdict{Record: s.ID(), DID: other.Record().Payload().Holder.DID, Status: receipt.Suspended, Code: "c"}, false)
		},
		"a rejection as standing": func(a *api.RecordStatus) {
			a.Standing = verdict(receipt.Verdict{Record: s.ID(), Status: receipt.Rejected, Code: "c"}, false)
		},
	} {
		r.Change(func(_ string, answer any) {
			if a, ok := answer.(*api.StatusResult); ok {
				lie(&a.Statuses[0])
			}
		})
		if st, err := status(t, c, i); !errors.Is(err, client.ErrNonsense) {
			t.Errorf("%s is believed: %+v, %v", name, st, err)
		}
	}
	// The others of the same answer are believed.
	two := []client.Item{i, o}
	r.Change(func(_ string, answer any) {
		if a, ok := answer.(*api.StatusResult); ok {
			a.Statuses[0].Receipt = string(otherStatus.Receipt)
		}
	})
	if got, err := c.Status(t.Context(), two); err != nil || len(got) != 2 || !errors.Is(got[0].Err, client.ErrNonsense) || got[0].Receipt != nil ||
		got[1].Err != nil || !r.IsReceipt(got[1].Receipt, o.ID) {
		t.Errorf("one lie in two: %+v, %v", got, err)
	}
	for name, lie := range map[string]func(a *api.StatusResult){
		"left out": func(a *api.StatusResult) { a.Statuses = a.Statuses[1:] },
		"lost":     func(a *api.StatusResult) { a.Statuses[0] = api.RecordStatus{ID: i.ID, Status: api.Unknown} },
	} {
		r.Change(func(_ string, answer any) {
			if a, ok := answer.(*api.StatusResult); ok {
				lie(a)
			}
		})
		got, err := c.Status(t.Context(), two)
		if err != nil || name == "left out" && (len(got) != 1 || got[0].ID != o.ID) || name == "lost" && !errors.Is(got[0].Err, client.ErrNotFound) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	for name, lie := range map[string]func(a *api.BatchResult){
		"unsigned rejection": func(a *api.BatchResult) {
			a.Verdicts[0] = api.ItemVerdict{ID: i.ID, Status: api.Rejected, Code: "c", Verdict: "jws"}
		},
		"rejection of another record": func(a *api.BatchResult) {
			a.Verdicts[0] = api.ItemVerdict{ID: i.ID, Status: api.Rejected, Code: "c", Verdict: verdict(receipt.Verdict{Record: o.ID, Status: receipt.Rejected, Code: "c"}, false)}
		},
		"rejection by the vault": func(a *api.BatchResult) {
			a.Verdicts[0] = api.ItemVerdict{ID: i.ID, Status: api.Rejected, Code: "c", Verdict: verdict(receipt.Verdict{Record: i.ID, Status: receipt.Rejected, Code: "c"}, true)}
		},
		"refusal told as rejection": func(a *api.BatchResult) {
			a.Verdicts[0] = api.ItemVerdict{ID: i.ID, Status: api.Rejected, Code: "c", Verdict: verdict(receipt.Verdict{Record: i.ID, DID: did, Status: receipt.Refused, Code: "c"}, true)}
		},
		"no verdict":    func(a *api.BatchResult) { a.Verdicts = nil },
		"other verdict": func(a *api.BatchResult) { a.Verdicts[0].ID = o.ID },
		"unsigned time": func(a *api.BatchResult) { a.Time = "jws" },
		"verdict as time": func(a *api.BatchResult) {
			a.Time = verdict(receipt.Verdict{Record: i.ID, Status: receipt.Rejected, Code: "c"}, false)
		},
	} {
		r.Change(func(_ string, answer any) {
			if a, ok := answer.(*api.BatchResult); ok {
				lie(a)
			}
		})
		if v, err := c.Submit(t.Context(), []client.Item{i}); !errors.Is(err, client.ErrNonsense) {
			t.Errorf("%s is believed: %+v, %v", name, v, err)
		}
	}
}

// Every way in which a network or server goes wrong has its class, and the
// connection is good again afterwards.
func TestFaults(t *testing.T) {
	line, r := behind(t)
	c := connect(t, r, nil)
	hurried := connect(t, r, func(o *client.Options) { o.Timeout = 300 * time.Millisecond })
	retry := func(err error) bool { var e *client.RetryAfter; return errors.As(err, &e) }
	retryIn := func(after time.Duration, status int) func(error) bool {
		return func(err error) bool {
			var e *client.RetryAfter
			return errors.As(err, &e) && e.After == after && e.Status == status
		}
	}
	is := func(want error) func(error) bool { return func(err error) bool { return errors.Is(err, want) } }
	i := item(r.Enroll(t, 1))
	for fault, want := range map[network.Fault]func(error) bool{
		network.Unreachable: is(client.ErrUnreachable), network.Silent: is(client.ErrUnreachable), network.Slow: is(client.ErrUnreachable),
		network.Interrupted: is(client.ErrUnreachable), network.LostAnswer: is(client.ErrUnreachable), network.HalfAnswer: is(client.ErrUnreachable),
		network.CutBody: is(client.ErrUnreachable), network.Nonsense: is(client.ErrNonsense), network.OtherJSON: is(client.ErrNonsense),
		network.Endless: is(client.ErrNonsense), network.Page: is(client.ErrCaptivePortal), network.Redirect: is(client.ErrCaptivePortal),
		network.SignIn: is(client.ErrCaptivePortal), network.PlainHTTP: is(client.ErrCaptivePortal), network.Unauthorized: is(client.ErrNotAllowed),
		network.Forbidden: is(client.ErrNotAllowed), network.ProxyAuth: is(client.ErrNotAllowed), network.TooLarge: is(client.ErrTooBig),
		network.Storm: retryIn(3*time.Second, 429), network.Unavailable: retryIn(3*time.Second, 503), network.Broken: retryIn(0, 500),
		network.BadGateway: retry, network.OldTLS: shows(client.Inspected, network.Inspector), network.Inspected: shows(client.Inspected, network.Inspector),
		network.WrongCert: shows(client.Stranger, "Stranger"), network.ExpiredCert: shows(client.OutOfTime, "Specimen TLS"), network.Stalled: is(client.ErrUnreachable),
	} {
		line.Suffer(fault)
		healthy, c := c, c
		if fault == network.Silent || fault == network.Slow || fault == network.Stalled {
			c = hurried
		}
		if v, err := c.Submit(t.Context(), []client.Item{i}); !want(err) {
			t.Errorf("%s: %v, %v", fault, v, err)
		}
		if line.Count(fault) == 0 {
			t.Errorf("%s was not met", fault)
		}
		line.Suffer(network.Healthy)
		if _, err := healthy.Submit(t.Context(), []client.Item{i}); err != nil {
			t.Errorf("after %s: %v", fault, err)
		}
	}
	if r.Records() != 1 {
		t.Errorf("sent %d times, the registry holds it %d times", r.Submitted(i.ID), r.Records())
	}
}

// shows is a certificate error.
func shows(m client.Mismatch, by string) func(error) bool {
	return func(err error) bool {
		var e *client.CertificateError
		return errors.As(err, &e) && errors.Is(err, client.ErrTLS) && e.Mismatch == m && e.By == by
	}
}

// A bad line is no fault, only slow.
func TestPatience(t *testing.T) {
	line, r := behind(t)
	c := connect(t, r, nil)
	line.Suffer(network.Sliced)
	if _, err := c.Submit(t.Context(), []client.Item{item(r.Enroll(t, 1))}); err != nil {
		t.Fatal(err)
	}
	if r.Records() != 1 {
		t.Errorf("%d records", r.Records())
	}
}

// behind is a registry behind a line with faults.
func behind(t testing.TB) (*network.Listener, *testregistry.Registry) {
	t.Helper()
	var line *network.Listener
	r := testregistry.New(t, func(r *testregistry.Registry, l net.Listener) net.Listener {
		var err error
		if line, err = network.Wrap(l, network.Options{Certificate: r.Certificate, Expired: r.Expired(), RetryAfter: 3 * time.Second}); err != nil {
			t.Fatal(err)
		}
		return line
	})
	t.Cleanup(func() { line.Close() })
	return line, r
}

func TestNothingListens(t *testing.T) {
	r := testregistry.New(t, nil)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	c := connect(t, r, func(o *client.Options) { o.URL = "https://" + l.Addr().String() })
	if _, err := c.Policy(t.Context()); !errors.Is(err, client.ErrUnreachable) {
		t.Errorf("%v", err)
	}
	c = connect(t, r, func(o *client.Options) { o.URL = "https://no-such-host.invalid" })
	if _, err := c.Policy(t.Context()); !errors.Is(err, client.ErrUnreachable) {
		t.Errorf("%v", err)
	}
}

// The policy in force at the connection says which roots are the registry's.
func TestRootsFollowThePolicy(t *testing.T) {
	r := testregistry.New(t, nil)
	now := r.Successor(func(p *policy.Policy) { p.RegistryTLS = []policy.Root{} })
	c := connect(t, r, func(o *client.Options) { o.Policy = func() (policy.Signed, error) { return now, nil } })
	if _, err := c.Policy(t.Context()); !errors.Is(err, client.ErrTLS) {
		t.Errorf("no root: %v", err)
	}
	now = r.Policy
	if _, err := c.Policy(t.Context()); err != nil {
		t.Errorf("the policy names the root now: %v", err)
	}
	missing := errors.New("no policy yet")
	c = connect(t, r, func(o *client.Options) { o.Policy = func() (policy.Signed, error) { return policy.Signed{}, missing } })
	if _, err := c.Policy(t.Context()); !errors.Is(err, missing) {
		t.Errorf("without a policy: %v", err)
	}
	if _, err := c.Submit(t.Context(), []client.Item{{ID: [32]byte{1}, Data: []byte("x")}}); !errors.Is(err, missing) {
		t.Errorf("without a policy: %v", err)
	}
	// A clock that has stopped judges no certificate; the registry's signed time does.
	for _, at := range []time.Time{time.Unix(0, 0), time.Now().AddDate(30, 0, 0)} {
		c = connect(t, r, func(o *client.Options) { o.Clock = func() time.Time { return at } })
		if _, err := c.Policy(t.Context()); !shows(client.OutOfTime, "Specimen TLS")(err) || !strings.Contains(err.Error(), "clock") {
			t.Errorf("in %d: %v", at.Year(), err)
		}
	}
}

// Whoever stands in the way names himself as he likes: what comes to a screen is
// one short line that means nothing to a terminal.
func TestInspectorsNameIsHarmless(t *testing.T) {
	r := testregistry.New(t, nil)
	key := testregistry.NewDevice()
	for name, want := range map[string]string{
		"Plain Gateway GmbH": "Plain Gateway GmbH", " \t\n": "", "a\x1b[31mb\r\nc\u202ed\u2066e": "a[31mbcde",
		strings.Repeat("長", 60): strings.Repeat("長", 39) + "…", "\xff\xfe": "",
	} {
		ca := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{Organization: []string{name}}, IsCA: true, BasicConstraintsValid: true,
			IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
		der, err := x509.CreateCertificate(rand.Reader, ca, ca, key.Public(), key.PrivateKey)
		if err != nil {
			if name == "\xff\xfe" {
				continue // Go issues no such name
			}
			t.Fatal(err)
		}
		l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key.PrivateKey}}})
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				go func() { c.(*tls.Conn).Handshake(); c.Close() }()
			}
		}()
		c := connect(t, r, func(o *client.Options) { o.URL = "https://" + l.Addr().String() })
		if _, err := c.Policy(t.Context()); !shows(client.Inspected, want)(err) {
			t.Errorf("%q: %v", name, err)
		}
		l.Close()
	}
}

// TLS below 1.3 is refused whoever speaks it, before the kiosk shows its
// certificate or sends a byte.
func TestOldTLSIsRefused(t *testing.T) {
	r := testregistry.New(t, nil)
	var heard atomic.Bool
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{r.Certificate}, MaxVersion: tls.VersionTLS12, ClientAuth: tls.RequestClientCert,
		VerifyPeerCertificate: func([][]byte, [][]*x509.Certificate) error { heard.Store(true); return nil }})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				if _, err := c.Read(make([]byte, 1)); err == nil {
					heard.Store(true)
				}
			}()
		}
	}()
	leaf, err := x509.ParseCertificate(r.Certificate.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	hash := api.KeyHash(leaf.RawSubjectPublicKeyInfo)
	pin := [16]byte(hash[:16])
	for name, p := range map[string]*[16]byte{"policy": nil, "pin": &pin} {
		c := connect(t, r, func(o *client.Options) { o.URL, o.Pin = "https://"+l.Addr().String(), p })
		if _, err := c.Policy(t.Context()); !errors.Is(err, client.ErrTLS) || !strings.Contains(err.Error(), "TLS 1.2") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if heard.Load() {
		t.Error("something was sent")
	}
}

func TestAnotherHostsCertificate(t *testing.T) {
	var line *network.Listener
	r := testregistry.New(t, func(r *testregistry.Registry, l net.Listener) net.Listener {
		var err error
		if line, err = network.Wrap(l, network.Options{Certificate: r.OtherHost()}); err != nil {
			t.Fatal(err)
		}
		return line
	})
	line.Suffer(network.Nonsense)
	if _, err := connect(t, r, nil).Policy(t.Context()); !shows(client.OtherHost, "Specimen TLS")(err) {
		t.Errorf("%v", err)
	}
}

type brokenKey struct{ crypto.Signer }

var errTPM = errors.New("tpm: no answer")

func (brokenKey) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) { return nil, errTPM }

func TestKiosksCertificate(t *testing.T) {
	r := testregistry.New(t, nil)
	i := item(testregistry.Void(t, 1))
	// None: the public paths work, records are refused.
	c := connect(t, r, func(o *client.Options) { o.Certificate = tls.Certificate{} })
	if _, err := c.Policy(t.Context()); err != nil {
		t.Errorf("policy without a certificate: %v", err)
	}
	if _, err := c.Submit(t.Context(), []client.Item{i}); !errors.Is(err, client.ErrNotAllowed) {
		t.Errorf("records without a certificate: %v", err)
	}
	// Of nobody: the alert says so, unless the reset that follows it is faster.
	c = connect(t, r, func(o *client.Options) { o.Certificate = r.Foreign() })
	if _, err := c.Submit(t.Context(), []client.Item{i}); !errors.Is(err, client.ErrNotAllowed) && !errors.Is(err, client.ErrUnreachable) {
		t.Errorf("a foreign certificate: %v", err)
	}
	c = connect(t, r, func(o *client.Options) {
		o.Certificate.PrivateKey = brokenKey{o.Certificate.PrivateKey.(crypto.Signer)}
	})
	if _, err := c.Submit(t.Context(), []client.Item{i}); !errors.Is(err, client.ErrKey) || !errors.Is(err, errTPM) {
		t.Errorf("a key that does not sign: %v", err)
	}
	if r.Records() != 0 {
		t.Error("a record came in")
	}
}

func TestProxy(t *testing.T) {
	r := testregistry.New(t, nil)
	p, err := network.NewProxy()
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	via := func(address string) *client.Client {
		return connect(t, r, func(o *client.Options) {
			o.Proxy = func(*http.Request) (*url.URL, error) { return url.Parse(address) }
		})
	}
	if _, err := via(p.URL).Submit(t.Context(), []client.Item{item(testregistry.Void(t, 1))}); err != nil {
		t.Errorf("through a proxy: %v", err)
	}
	if seen := p.Seen(); len(seen) != 1 || seen[0] != r.Address {
		t.Errorf("the proxy saw %v", seen)
	}
	p.Suffer(network.OnlyHTTP1)
	if _, err := via(p.URL).Submit(t.Context(), []client.Item{item(testregistry.Void(t, 2))}); err != nil {
		t.Errorf("through a proxy for HTTP/1.1 only: %v", err)
	}
	p.Suffer(network.Inspected)
	if _, err := via(p.URL).Submit(t.Context(), []client.Item{item(testregistry.Void(t, 3))}); !shows(client.Inspected, network.Inspector)(err) || r.Records() != 2 {
		t.Errorf("through a proxy that opens the connection: %v, %d records", err, r.Records())
	}
	for fault, want := range map[network.Fault]error{
		network.ProxyAuth: client.ErrNotAllowed, network.Forbidden: client.ErrNotAllowed, network.Redirect: client.ErrCaptivePortal,
		network.SignIn: client.ErrCaptivePortal, network.BadGateway: client.ErrUnreachable, network.Unavailable: client.ErrUnreachable,
		network.Page: client.ErrTLS, // 200 to CONNECT, and then a page instead of TLS
	} {
		p.Suffer(fault)
		if _, err := via(p.URL).Policy(t.Context()); !errors.Is(err, want) && !(fault == network.Page && errors.Is(err, client.ErrCaptivePortal)) {
			t.Errorf("%s: %v, want %v", fault, err, want)
		}
	}
	var busy *client.RetryAfter
	p.Suffer(network.Storm)
	if _, err := via(p.URL).Policy(t.Context()); !errors.As(err, &busy) || busy.After != time.Second {
		t.Errorf("storm: %v", err)
	}
	if _, err := via("https://127.0.0.1:1").Policy(t.Context()); !errors.Is(err, client.ErrUnreachable) {
		t.Errorf("a proxy over TLS: %v", err)
	}
}

func TestContext(t *testing.T) {
	line, r := behind(t)
	line.Suffer(network.Silent)
	c := connect(t, r, nil)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	start := time.Now()
	if _, err := c.Policy(ctx); !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, client.ErrUnreachable) {
		t.Errorf("the caller's own limit: %v", err)
	}
	if time.Since(start) > 5*time.Second {
		t.Error("the caller's limit was not kept")
	}
}

func TestLimits(t *testing.T) {
	r := testregistry.New(t, nil)
	c := connect(t, r, nil)
	var many []client.Item
	for n := range api.MaxItems + 1 {
		many = append(many, client.Item{ID: [32]byte{1, byte(n)}, Data: []byte("x")})
	}
	big := []client.Item{{ID: [32]byte{1}, Data: make([]byte, record.MaxSubmission)}, {ID: [32]byte{2}, Data: make([]byte, record.MaxSubmission)}}
	for name, items := range map[string][]client.Item{
		"items": many, "bytes": big, "one item": {{ID: [32]byte{1}, Data: make([]byte, record.MaxSubmission+1)}},
	} {
		if _, err := c.Submit(t.Context(), items); !errors.Is(err, client.ErrTooBig) {
			t.Errorf("too many %s: %v", name, err)
		}
	}
	if r.Requests() != 0 {
		t.Error("it was sent all the same")
	}
	for _, address := range []string{"", "http://registry.example", "registry.example", "https://", "https://u:p@registry.example", "https://registry.example/v1", "https://registry.example?x=1"} {
		if _, err := client.New(client.Options{URL: address, Policy: func() (policy.Signed, error) { return r.Policy, nil }}); err == nil {
			t.Errorf("%q is taken for an address", address)
		}
	}
}
