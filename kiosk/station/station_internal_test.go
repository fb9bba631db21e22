package station

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"k8s.io/klog/v2"

	"enrollkiosk/hsm"
	"enrollkiosk/hsm/tpm"
	"enrollkiosk/kiosk"
	"enrollkiosk/kiosk/wire"
	"enrollkiosk/registry/api"
	"enrollkiosk/registry/policy"
	"enrollkiosk/registry/record"
	"enrollkiosk/simulators/pcscd"
	simulated "enrollkiosk/simulators/tpm"
	"enrollkiosk/smartcard/pcsc"
	"enrollkiosk/sync/client"
	"enrollkiosk/sync/queue"
)

const (
	idCardReader  = "Specimen ID Card Reader"
	tokenReader   = "Yubico YubiKey"
	officerReader = "Specimen Officer Reader"
)

// bench is the PC/SC service of this test binary; the library reads its
// environment once.
var bench *pcscd.Server

func TestMain(m *testing.M) {
	queue.RunCheck()
	klog.SetSlogLogger(slog.New(slog.DiscardHandler)) // of the registry's log, in tests of provisioning
	dir, err := os.MkdirTemp("", "st")
	if err == nil {
		bench, err = pcscd.Listen(filepath.Join(dir, "s"))
	}
	for _, name := range []string{idCardReader, tokenReader, officerReader} {
		if err == nil {
			_, err = bench.AddReader(name + " 00 00")
		}
	}
	if err != nil {
		panic(err)
	}
	os.Setenv("PCSCLITE_CSOCK_NAME", filepath.Join(dir, "s"))
	code := m.Run()
	bench.Close()
	os.RemoveAll(dir)
	os.Exit(code)
}

// issuer stands for the registry's authority over kiosks.
type issuer struct {
	key  *ecdsa.PrivateKey
	root *x509.Certificate
}

func newIssuer(t *testing.T) issuer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "specimen"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(1, 0, 0)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	root, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return issuer{key, root}
}

func (i issuer) certify(t *testing.T, name string, key crypto.PublicKey) [][]byte {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, NotBefore: i.root.NotBefore, NotAfter: i.root.NotAfter}
	der, err := x509.CreateCertificate(rand.Reader, template, i.root, key, i.key)
	if err != nil {
		t.Fatal(err)
	}
	return [][]byte{der}
}

// answer is what a registry gives the kiosk whose TPM this is.
func (i issuer) answer(t *testing.T, id string, chip *tpm.TPM) api.KioskCertificates {
	t.Helper()
	ak, err := chip.AttestationKey()
	if err != nil {
		t.Fatal(err)
	}
	return api.KioskCertificates{Version: 1, KioskID: id, Attestation: i.certify(t, id, ak.Key),
		Record: i.certify(t, id, chip.RecordKey().Public()), TLS: i.certify(t, id, chip.TLSKey().Public())}
}

func startTPM(t *testing.T) *simulated.Instance {
	t.Helper()
	chip, err := simulated.Start(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { chip.Stop() })
	return chip
}

// keyed makes a kiosk's keys and has f use them.
func keyed(t *testing.T, c Config, f func(*tpm.TPM)) {
	t.Helper()
	if err := c.makeState(); err != nil {
		t.Fatal(err)
	}
	k, err := makeKeys(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	f(k)
}

// provisioned is a kiosk that could work.
func provisioned(t *testing.T) (Config, *simulated.Instance) {
	t.Helper()
	return newAuthority(t).provisioned(t)
}

func (a authority) provisioned(t *testing.T) (Config, *simulated.Instance) {
	t.Helper()
	ca := newIssuer(t)
	c := a.config(t)
	rules := a.naming(t, ca)
	put(t, c.Trust.Policy, rules.Bytes())
	chip := startTPM(t)
	c.TPM.Path = chip.Path()
	keyed(t, c, func(k *tpm.TPM) {
		if err := install(c, k, a.root(t), rules, ca.answer(t, c.Kiosk.ID, k)); err != nil {
			t.Fatal(err)
		}
	})
	return c, chip
}

// naming is a's policy, which names ca as the authority over kiosks.
func (a authority) naming(t *testing.T, ca issuer) policy.Signed {
	t.Helper()
	s, err := policy.Parse(a.sign(t, 5, func(p *policy.Policy) { p.KioskCA = []policy.Root{{Certificate: ca.root.Raw, Class: record.Test}} }), a.root(t))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestInstallTakesOwnCertificatesOnly(t *testing.T) {
	a := newAuthority(t)
	c := a.config(t)
	c.TPM.Path = startTPM(t).Path()
	ca := newIssuer(t)
	rules := a.naming(t, ca)
	put(t, c.Trust.Policy, rules.Bytes())
	other := c
	other.TPM.Path, other.Kiosk.State = startTPM(t).Path(), t.TempDir()
	var foreign api.KioskCertificates
	keyed(t, other, func(k *tpm.TPM) { foreign = ca.answer(t, c.Kiosk.ID, k) })
	keyed(t, c, func(k *tpm.TPM) {
		good := ca.answer(t, c.Kiosk.ID, k)
		with := func(edit func(*api.KioskCertificates)) api.KioskCertificates {
			bad := good
			edit(&bad)
			return bad
		}
		for name, bad := range map[string]api.KioskCertificates{
			"another kiosk's id":      with(func(c *api.KioskCertificates) { c.KioskID = "KIOSK-0002" }),
			"foreign record key":      with(func(c *api.KioskCertificates) { c.Record = foreign.Record }),
			"foreign tls key":         with(func(c *api.KioskCertificates) { c.TLS = foreign.TLS }),
			"foreign attestation key": with(func(c *api.KioskCertificates) { c.Attestation = foreign.Attestation }),
			"keys exchanged":          with(func(c *api.KioskCertificates) { c.Record, c.TLS = c.TLS, c.Record }),
			"another name":            with(func(c *api.KioskCertificates) { c.Record = ca.certify(t, "KIOSK-0002", k.RecordKey().Public()) }),
			"none":                    {Version: 1, KioskID: c.Kiosk.ID},
			"another authority's":     newIssuer(t).answer(t, c.Kiosk.ID, k),
			"no certificate":          with(func(c *api.KioskCertificates) { c.Record = [][]byte{{0x30, 0}} }),
		} {
			if err := install(c, k, a.root(t), rules, bad); !errors.Is(err, ErrCertificates) {
				t.Errorf("%s: %v", name, err)
			}
			for _, file := range []string{certificatesFile, rootFile} {
				if _, err := os.Stat(c.in(file)); !errors.Is(err, os.ErrNotExist) {
					t.Fatalf("%s: something was kept: %v", name, err)
				}
			}
		}
		if err := install(c, k, a.root(t), rules, good); err != nil {
			t.Fatal(err)
		}
	})
	// And what lies there is looked at each time.
	b, err := json.Marshal(foreign)
	if err != nil {
		t.Fatal(err)
	}
	put(t, c.in(certificatesFile), b)
	if s, err := Open(t.Context(), c, Options{Log: slog.New(slog.DiscardHandler)}); !errors.Is(err, ErrCertificates) {
		t.Errorf("foreign certificates in the state directory: %v, %v", s, err)
	}
}

// With certificates that are not valid now nothing is enrolled: the registry
// would reject it. Doctor says what to do, and what is saved stays reachable.
func TestCertificatesOutOfTime(t *testing.T) {
	for name, from := range map[string]time.Duration{"expired": -3 * time.Hour, "not yet valid": time.Hour} {
		c, _ := provisioned(t)
		ca := newIssuer(t)
		var bad api.KioskCertificates
		keyed(t, c, func(k *tpm.TPM) {
			bad = ca.answer(t, c.Kiosk.ID, k)
			ca.root.NotBefore, ca.root.NotAfter = time.Now().Add(from), time.Now().Add(from+2*time.Hour)
			bad.TLS = ca.answer(t, c.Kiosk.ID, k).TLS // one of them is enough
			root, err := c.rootHash()
			if err != nil {
				t.Fatal(err)
			}
			if err := install(c, k, root, policy.Signed{}, bad); !errors.Is(err, kiosk.ErrCertificate) {
				t.Errorf("%s: install: %v", name, err)
			}
		})
		b, err := json.Marshal(bad)
		if err != nil {
			t.Fatal(err)
		}
		put(t, c.in(certificatesFile), b)
		s, _ := running(t, c)
		if p, err := s.usable(); !errors.Is(err, kiosk.ErrCertificate) || p.Valid() || !strings.Contains(err.Error(), "kiosk provision") {
			t.Errorf("%s: usable: %v", name, err)
		}
		for _, f := range Diagnose(t.Context(), c) {
			if wrong := errors.Is(f.Err, kiosk.ErrCertificate); wrong != (f.Check == "certificates") || wrong && f.Remedy == "" {
				t.Errorf("%s: %s: %v", name, f.Check, f.Err)
			}
		}
	}
}

// A queue that was moved away begins again at the TPM's counter, with the keys
// and certificates that are there.
func TestProvisionAfterTheQueueWasMovedAway(t *testing.T) {
	c, _ := provisioned(t)
	chip, err := openTPM(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	n, err := chip.Increment(t.Context())
	if err := errors.Join(err, chip.Close(), os.Rename(c.in(queueDir), c.in("evidence"))); err != nil {
		t.Fatal(err)
	}
	keyed(t, c, func(*tpm.TPM) {})
	s, _ := running(t, c)
	head, err := s.queue.Head(t.Context())
	if want := fmt.Sprintf(`"reserved":%d,"recorded":%d`, n, n); err != nil || !strings.Contains(string(head), want) {
		t.Errorf("head %s, %v", head, err)
	}
	if _, err := s.usable(); err != nil {
		t.Errorf("not usable: %v", err)
	}
}

// running runs a station for as long as the test wants.
func running(t *testing.T, c Config) (s *Station, stop func()) {
	t.Helper()
	s, err := Open(t.Context(), c, Options{Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	for conn, err := net.Dial("unix", c.Kiosk.Socket); ; conn, err = net.Dial("unix", c.Kiosk.Socket) {
		if err == nil {
			conn.Close()
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := errors.Join(<-done, s.Close()); err != nil {
			t.Errorf("stop: %v", err)
		}
	}
	t.Cleanup(stop)
	return s, stop
}

// What the agent mended at its start, or found while it ran, stands in its health
// until it ends.
func TestAgentSaysWhatItMended(t *testing.T) {
	c, _ := provisioned(t)
	q, _, err := queue.Open(t.Context(), c.in(queueDir), queue.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(q.Put(t.Context(), queue.Item{ID: queue.ID{1}, Data: []byte("sealed bytes")}), q.Close(),
		os.Truncate(filepath.Join(c.in(queueDir), "index.db"), 5000)); err != nil {
		t.Fatal(err)
	}
	running(t, c)
	for _, f := range Diagnose(t.Context(), c) {
		if f.Check == "queue" && (f.Err != nil || !strings.HasPrefix(f.Detail, "1 waiting, 0 set aside, 0 delivered; mended: database made anew")) {
			t.Errorf("%+v", f)
		}
	}
}

// The queue answers alike with and without an agent, and doctor finds the same.
func TestQueueAndDoctorWithAndWithoutAgent(t *testing.T) {
	c, _ := provisioned(t)
	q, _, err := queue.Open(t.Context(), c.in(queueDir), queue.Options{})
	if err != nil {
		t.Fatal(err)
	}
	waiting, delivered := queue.ID{1}, queue.ID{2}
	for _, err := range []error{
		q.Put(t.Context(), queue.Item{ID: waiting, Data: []byte("sealed bytes")}),
		q.Put(t.Context(), queue.Item{ID: delivered, Data: []byte("other bytes")}),
		q.StoreReceipt(t.Context(), delivered, []byte("proof")), q.Purge(t.Context(), delivered), q.Close(),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}

	look := func(how string) {
		t.Helper()
		var all QueueList
		if err := Ask(t.Context(), c, wire.Query{Kind: QueryList}, &all); err != nil {
			t.Fatalf("%s: %v", how, err)
		}
		if d := all.Delivery; d.Waiting != 1 || d.Receipted != 1 || d.Oldest.IsZero() || (d.Line == "") != (how != "agent") {
			t.Errorf("%s: %+v", how, d)
		}
		list := all.Records
		if len(list) != 2 || list[0].ID != waiting.String() || list[0].State != queue.Queued || list[1].State != queue.Purged {
			t.Errorf("%s: %+v", how, list)
		}
		for want, period := range map[int]string{1: Period(time.Now().Add(-time.Hour), time.Time{}), 0: Period(time.Time{}, time.Now().Add(-time.Hour))} {
			if err := Ask(t.Context(), c, wire.Query{Kind: QueryList, Argument: period}, &all); err != nil || len(all.Records) != want {
				t.Errorf("%s: delivered in %s: %+v, %v", how, period, all.Records, err)
			}
		}
		var r QueueRecord
		if err := Ask(t.Context(), c, wire.Query{Kind: QueryShow, Argument: waiting.String()}, &r); err != nil {
			t.Fatalf("%s: %v", how, err)
		}
		if string(r.Submission) != "sealed bytes" || r.Receipt != "" || r.Size != 12 {
			t.Errorf("%s: %+v", how, r)
		}
		r = QueueRecord{}
		if err := Ask(t.Context(), c, wire.Query{Kind: QueryShow, Argument: delivered.String()}, &r); err != nil {
			t.Fatalf("%s: %v", how, err)
		}
		if r.Submission != nil || r.Receipt != "proof" {
			t.Errorf("%s: %+v", how, r)
		}
		if err := Ask(t.Context(), c, wire.Query{Kind: QueryShow, Argument: queue.ID{3}.String()}, &r); err == nil || !strings.Contains(err.Error(), "no record") {
			t.Errorf("%s: unknown record: %v", how, err)
		}
		for _, f := range Diagnose(t.Context(), c) {
			if f.Check == "registry" {
				if !errors.Is(f.Err, client.ErrUnreachable) || f.Remedy == "" {
					t.Errorf("%s: registry: %v", how, f.Err)
				}
				continue
			}
			if f.Err != nil || f.Detail == "" {
				t.Errorf("%s: %s: %v", how, f.Check, f.Err)
			}
		}
	}
	look("no agent")
	_, stop := running(t, c)
	look("agent")
	if _, err := Open(t.Context(), c, Options{Log: slog.New(slog.DiscardHandler)}); !errors.Is(err, queue.ErrLocked) {
		t.Errorf("a second agent on the same state: %v", err)
	}
	stop()
	look("agent gone")
	if _, err := os.Stat(c.Kiosk.Socket); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is left: %v", err)
	}
}

func TestDoctorNamesWhatIsMissing(t *testing.T) {
	find := func(c Config, check string) error {
		t.Helper()
		for _, f := range Diagnose(t.Context(), c) {
			if f.Check == check {
				return f.Err
			}
		}
		t.Fatalf("no check %q", check)
		return nil
	}
	c, chip := provisioned(t)
	other := c
	other.Readers.Officer = "Reader that nobody has"
	if err := find(other, "readers"); !errors.Is(err, kiosk.ErrReaderMissing) || !strings.Contains(err.Error(), "Reader that nobody has") {
		t.Errorf("reader: %v", err)
	}
	other = c
	other.Kiosk.State = t.TempDir()
	for check, want := range map[string]error{"tpm": tpm.ErrNotInitialized, "queue": ErrNotProvisioned} {
		if err := find(other, check); !errors.Is(err, want) {
			t.Errorf("%s unprovisioned: %v", check, err)
		}
	}
	other = c
	other.Trust.Root = strings.Repeat("00", 32)
	if err := find(other, "policy"); err == nil {
		t.Error("a policy of another authority")
	}
	_, stop := running(t, c)
	chip.Kill()
	if err := find(c, "tpm"); !errors.Is(err, hsm.ErrUnavailable) {
		t.Errorf("tpm gone under the agent: %v", err)
	}
	stop()
	if err := find(c, "tpm"); !errors.Is(err, hsm.ErrNoDevice) {
		t.Errorf("no tpm: %v", err)
	}
}

// A registry with a certificate of another authority is told from none.
func TestDoctorOnTheWrongRegistry(t *testing.T) {
	c, _ := provisioned(t)
	ca := newIssuer(t)
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{ca.root.Raw}, PrivateKey: ca.key}}})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() { io.Copy(io.Discard, conn); conn.Close() }()
		}
	}()
	c.Registry.URL = "https://" + l.Addr().String()
	for _, f := range Diagnose(t.Context(), c) {
		if f.Check == "registry" && !errors.Is(f.Err, client.ErrTLS) {
			t.Errorf("registry: %v", f.Err)
		}
	}
}

func TestCardErrorsAreThePersons(t *testing.T) {
	for from, to := range map[error]error{
		pcsc.ErrNoService: kiosk.ErrServiceMissing, pcsc.ErrNoReader: kiosk.ErrReaderMissing, pcsc.ErrNoCard: kiosk.ErrCardRemoved,
		pcsc.ErrCardRemoved: kiosk.ErrCardRemoved, pcsc.ErrBusy: kiosk.ErrCardBusy, pcsc.ErrUnresponsive: kiosk.ErrCardMute,
		pcsc.ErrAbandoned: kiosk.ErrCardRemoved, pcsc.ErrClosed: kiosk.ErrCardRemoved,
	} {
		if err := cardError(from); !errors.Is(err, to) || !errors.Is(err, from) {
			t.Errorf("%v becomes %v", from, err)
		}
	}
	slow := errors.Join(pcsc.ErrAbandoned, context.DeadlineExceeded)
	if err := cardError(slow); errors.Is(err, kiosk.ErrCardRemoved) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a slow card becomes %v", err)
	}
	if cardError(nil) != nil {
		t.Error("no error becomes one")
	}
}
