package registry_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"enrollkiosk/registry"
	"enrollkiosk/registry/api"
	"enrollkiosk/registry/internal/keyfile"
	"enrollkiosk/registry/internal/registrytest"
	"enrollkiosk/registry/policy"
	"enrollkiosk/registry/receipt"
	"enrollkiosk/registry/record"
	"enrollkiosk/simulators/idcard"
)

// The vault is away: records are taken on, logged and stay pending. It comes:
// they are decided, without anybody asking again.
func TestVaultAway(t *testing.T) {
	t.Parallel()
	w := registrytest.New(t, specimenState(t).CSCA())
	address, stop := serveVault(t, w, "127.0.0.1:0")
	stop()
	r := serve(t, w.RegistryOptions(address))
	k := w.Kiosk(t, "KIOSK-0001")
	c := connect(t, w, r.URL, k.TLS)
	one := k.Make(t, registrytest.Spec{Identity: identityOf(t, idcard.SpecimenPerson())})
	bad := k.Make(t, registrytest.Spec{}) // holds up no other
	c.send(bad)
	c.send(one)
	for _, s := range []record.Submission{one, bad} {
		if got := c.until(s.ID(), "receipt", hasReceipt); got.Status != api.Pending {
			t.Errorf("%+v", got)
		}
	}
	if status, b := c.do(http.MethodGet, api.PathReady, "", nil); status != http.StatusOK || !strings.Contains(string(b), "vault") {
		t.Errorf("ready: %d %s", status, b)
	}
	serveVault(t, w, address)
	if got := c.until(one.ID(), "verdict", isDecided); got.Status != api.Active {
		t.Errorf("%+v", got)
	}
	if got := c.until(bad.ID(), "verdict", isDecided); got.Status != api.Refused || got.Code != api.CodeDocument || got.Receipt == "" {
		t.Errorf("%+v", got)
	}
	// Refused, so its DID does not stand.
	holder := registrytest.NewDevice(t)
	refused := k.Make(t, registrytest.Spec{Holder: &holder})
	c.send(refused)
	c.until(refused.ID(), "verdict", isDecided)
	c.rejected(w, item(k.Make(t, registrytest.Spec{Purpose: record.Update, Holder: &holder})), api.CodeHolder)
}

// A vault that answers nonsense, or signs with another key, decides nothing.
func TestVaultNotBelieved(t *testing.T) {
	t.Parallel()
	w := registrytest.New(t)
	elsewhere := registrytest.New(t)
	forger, err := keyfile.Read(filepath.Join(elsewhere.VaultDir(), "verdict.key"))
	if err != nil {
		t.Fatal(err)
	}
	registrys, err := keyfile.Read(filepath.Join(w.RegistryDir(), "verdict.key"))
	if err != nil {
		t.Fatal(err)
	}
	cert, err := keyfile.TLS(w.VaultDir(), "server")
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	asked := 0
	fake := httptest.NewUnstartedServer(http.HandlerFunc(func(rw http.ResponseWriter, q *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		if q.URL.Path == api.PathOutcomes {
			rw.Header().Set("Content-Type", api.MediaJSON)
			io.WriteString(rw, `{"outcomes":[],"last":0}`)
			return
		}
		asked++
		request, err := api.Decode[api.OpenRequest](q.Body)
		if err != nil {
			t.Error(err)
		}
		s, err := record.ParseSubmission(request.Record)
		if err != nil {
			t.Error(err)
		}
		p := s.Record().Payload()
		verdict := receipt.Verdict{Record: s.ID(), DID: p.Holder.DID, Status: receipt.Active, Time: time.Now().UTC().Truncate(time.Second)}
		var by record.Signer = forger
		if asked%4 == 1 {
			by = registrys
		}
		b, err := receipt.SignVerdict(q.Context(), verdict, by)
		if err != nil {
			t.Error(err)
		}
		switch asked % 4 {
		case 2:
			rw.WriteHeader(http.StatusTeapot)
		case 3:
			rw.Header().Set("Content-Type", api.MediaJSON)
			io.WriteString(rw, `{"verdict":"active"}`)
		default:
			rw.Header().Set("Content-Type", api.MediaJSON)
			json.NewEncoder(rw).Encode(api.OpenResult{Verdict: string(b)})
		}
	}))
	fake.TLS = &tls.Config{Certificates: []tls.Certificate{cert}, ClientAuth: tls.RequireAnyClientCert}
	fake.StartTLS()
	defer fake.Close()
	r := serve(t, w.RegistryOptions(fake.Listener.Addr().String()))
	k := w.Kiosk(t, "KIOSK-0001")
	c := connect(t, w, r.URL, k.TLS)
	s := k.Make(t, registrytest.Spec{})
	c.send(s)
	for deadline := time.Now().Add(15 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		mu.Lock()
		enough := asked >= 4
		mu.Unlock()
		if enough {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the vault is not asked again")
		}
	}
	if got, err := c.record(s.ID()); err != nil || got.Status != api.Pending {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestPublic(t *testing.T) {
	w := registrytest.New(t)
	r := serve(t, w.RegistryOptions(noVault))
	c := connect(t, w, r.URL)
	p := w.Policy.Policy()

	if status, b := c.do(http.MethodGet, api.PathPolicy, "", nil); status != http.StatusOK || !bytes.Equal(b, w.Policy.Bytes()) {
		t.Errorf("policy: %d, %d bytes", status, len(b))
	}
	status, b := c.do(http.MethodGet, api.PathTime, "", nil)
	signed, err := receipt.VerifyTime(b, p.VerdictKeys.Registry, registrytest.Origin)
	if status != http.StatusOK || err != nil || time.Since(signed.Claims().Time).Abs() > time.Minute {
		t.Errorf("time: %d %v %v", status, signed.Claims(), err)
	}
	for _, path := range []string{api.PathLive, api.PathReady} {
		if status, b := c.do(http.MethodGet, path, "", nil); status != http.StatusOK {
			t.Errorf("%s: %d %s", path, status, b)
		}
	}
	k := w.Kiosk(t, "KIOSK-0001")
	kc := connect(t, w, r.URL, k.TLS)
	s := k.Make(t, registrytest.Spec{})
	kc.send(s)
	kc.until(s.ID(), "receipt", hasReceipt)
	if status, b := c.do(http.MethodGet, api.PathLog+"tile/0/000.p/1", "", nil); status != http.StatusOK || len(b) != 32 {
		t.Errorf("tile: %d, %d bytes", status, len(b))
	}
	leaf := leafOf(s)
	if status, b := c.do(http.MethodGet, api.PathLog+"tile/entries/000.p/1", "", nil); status != http.StatusOK || !bytes.Contains(b, leaf[:]) {
		t.Errorf("entries: %d, %d bytes", status, len(b))
	}
	// Nothing else of the directory, and no way out of it.
	for _, path := range []string{"", ".state/treeState", "tile", "tile/0", "tile/0/999", "../public.json", "..%2fpublic.json", "tile/entries/../../.state/version",
		"tile/0/000.p/1/..", "%2e%2e/log.key", "/etc/passwd"} {
		q, err := http.NewRequest(http.MethodGet, r.URL+api.PathLog+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		c.http.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
		a, err := c.http.Do(q)
		if err != nil {
			t.Fatal(err)
		}
		a.Body.Close()
		if a.StatusCode == http.StatusOK {
			t.Errorf("%q can be read", path)
		}
	}
	c.problem(http.MethodGet, "/", "", nil, http.StatusNotFound, api.CodeNotFound)
	c.problem(http.MethodGet, "/v2/records", "", nil, http.StatusNotFound, api.CodeNotFound)
	c.problem(http.MethodDelete, api.PathRecords, "", nil, http.StatusMethodNotAllowed, api.CodeMethod)
	c.problem(http.MethodPost, api.PathPolicy, "", nil, http.StatusMethodNotAllowed, api.CodeMethod)
	kc.problem(http.MethodGet, api.PathRecords+"/xyz", "", nil, http.StatusBadRequest, api.CodeBadRequest)
}

func TestLimits(t *testing.T) {
	w := registrytest.New(t)
	r := serve(t, w.RegistryOptions(noVault))
	k := w.Kiosk(t, "KIOSK-0001")
	c := connect(t, w, r.URL, k.TLS)
	s := k.Make(t, registrytest.Spec{})
	many := make([]api.Item, api.MaxItems+1)
	for i := range many {
		many[i] = api.Item{ID: api.ID{byte(i), 1}, Submission: api.Data("{}")}
	}
	for _, bad := range []struct {
		name, media string
		body        []byte
		status      int
		code        string
	}{
		{"no media type", "", batch(item(s)), http.StatusUnsupportedMediaType, api.CodeMedia},
		{"empty", api.MediaJSON, nil, http.StatusBadRequest, api.CodeBadRequest},
		{"no items", api.MediaJSON, []byte(`{"items":[]}`), http.StatusBadRequest, api.CodeBadRequest},
		{"unknown member", api.MediaJSON, []byte(`{"items":[],"also":1}`), http.StatusBadRequest, api.CodeBadRequest},
		{"an id twice", api.MediaJSON, batch(item(s), item(s)), http.StatusBadRequest, api.CodeBadRequest},
		{"too many", api.MediaJSON, batch(many...), http.StatusBadRequest, api.CodeBadRequest},
		{"too large", api.MediaJSON, bytes.Repeat([]byte(" "), api.MaxBody+1), http.StatusRequestEntityTooLarge, api.CodeTooLarge},
		{"much too large", api.MediaJSON, bytes.Repeat([]byte(" "), 3*api.MaxBody), http.StatusRequestEntityTooLarge, api.CodeTooLarge},
		{"a submission too large", api.MediaJSON, batch(api.Item{ID: s.ID(), Submission: make([]byte, record.MaxSubmission+1)}), http.StatusBadRequest, api.CodeBadRequest},
	} {
		t.Run(bad.name, func(t *testing.T) {
			client{t, c.url, c.http}.problem(http.MethodPost, api.PathRecords, bad.media, bad.body, bad.status, bad.code)
		})
	}
	long := make(http.Header)
	long.Set("X-Long", strings.Repeat("a", 64<<10))
	q, err := http.NewRequest(http.MethodGet, r.URL+api.PathLive, nil)
	if err != nil {
		t.Fatal(err)
	}
	q.Header = long
	if a, err := c.http.Do(q); err == nil {
		a.Body.Close()
		if a.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
			t.Errorf("a header of 64 KiB: %d", a.StatusCode)
		}
	}
	if v := c.send(s); v.Status != api.Pending {
		t.Errorf("after all that: %+v", v)
	}
}

// Clients that say nothing, or speak a byte now and then, hold up nobody and
// are let go of.
func TestSlowClients(t *testing.T) {
	t.Parallel()
	w := registrytest.New(t)
	r := serve(t, w.RegistryOptions(noVault))
	k := w.Kiosk(t, "KIOSK-0001")
	var slow []net.Conn
	defer func() {
		for _, c := range slow {
			c.Close()
		}
	}()
	address := strings.TrimPrefix(r.URL, "https://")
	for range 20 {
		c, err := net.Dial("tcp", address) // not even a handshake
		if err != nil {
			t.Fatal(err)
		}
		slow = append(slow, c)
		s, err := tls.Dial("tcp", address, w.TLS(t, k.TLS))
		if err != nil {
			t.Fatal(err)
		}
		slow = append(slow, s)
		io.WriteString(s, "POST /v1/records HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Le")
	}
	c := connect(t, w, r.URL, k.TLS)
	if v := c.send(k.Make(t, registrytest.Spec{})); v.Status != api.Pending {
		t.Errorf("%+v", v)
	}
	begin := time.Now()
	for _, s := range slow {
		s.SetReadDeadline(begin.Add(15 * time.Second))
		if _, err := io.ReadAll(s); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal("a client that says nothing is kept")
		}
	}
	if d := time.Since(begin); d > 10*time.Second {
		t.Errorf("they were kept for %v", d)
	}
}

// More than the registry does at once is asked to come again, not refused.
func TestBusy(t *testing.T) {
	w := registrytest.New(t)
	r, err := registry.Open(t.Context(), w.RegistryOptions(noVault))
	if err != nil {
		t.Fatal(err)
	}
	release := registry.StallStore(r)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- r.Serve(ctx, l) }()
	const n = 80
	answers := make(chan int, n)
	var k *registrytest.Kiosk
	var c client
	for i := range n {
		if i%8 == 0 {
			k = w.Kiosk(t, fmt.Sprintf("KIOSK-%04d", i))
			c = connect(t, w, "https://"+l.Addr().String(), k.TLS)
		}
		c, body := c, batch(item(k.Make(t, registrytest.Spec{})))
		go func() {
			a, err := c.http.Post(c.url+api.PathRecords, api.MediaJSON, bytes.NewReader(body))
			if err != nil {
				answers <- 0
				return
			}
			defer a.Body.Close()
			if p, err := api.Decode[api.Problem](a.Body); a.StatusCode == http.StatusServiceUnavailable && (err != nil || p.RetryAfter == 0) {
				t.Errorf("no time to come again: %+v, %v", p, err)
			}
			answers <- a.StatusCode
		}()
	}
	got := map[int]int{}
	for busy := 0; busy < n/2; busy++ {
		select {
		case status := <-answers:
			got[status]++
		case <-time.After(10 * time.Second):
			t.Fatal("they are made to wait")
		}
	}
	release()
	for range n / 2 {
		got[<-answers]++
	}
	if got[http.StatusServiceUnavailable] < n/2 || got[http.StatusServiceUnavailable]+got[http.StatusOK] != n {
		t.Errorf("answers %v", got)
	}
	cancel()
	if err := errors.Join(<-ended, r.Close()); err != nil {
		t.Error(err)
	}
}

// A store that fails says nothing about a record.
func TestStoreFailsRecordsAreKeptByTheirSenders(t *testing.T) {
	w := registrytest.New(t)
	r, err := registry.Open(t.Context(), w.RegistryOptions(noVault))
	if err != nil {
		t.Fatal(err)
	}
	mend := registry.BreakStore(r)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- r.Serve(ctx, l) }()
	k := w.Kiosk(t, "KIOSK-0001")
	c := connect(t, w, "https://"+l.Addr().String(), k.TLS)
	s := k.Make(t, registrytest.Spec{})
	broken := s.Bytes()
	broken[len(broken)/2] ^= 1
	for _, it := range []api.Item{item(s), {ID: s.ID(), Submission: broken}} {
		if v := c.post(it)[0]; v.Status != api.Retry || v.RetryAfter == 0 {
			t.Errorf("%+v", v)
		}
	}
	mend()
	if v := c.send(s); v.Status != api.Pending {
		t.Errorf("%+v", v)
	}
	cancel()
	if err := errors.Join(<-ended, r.Close()); err != nil {
		t.Error(err)
	}
}

func TestOneProcess(t *testing.T) {
	t.Parallel()
	w := registrytest.New(t)
	serve(t, w.RegistryOptions(noVault))
	if r, err := registry.Open(t.Context(), w.RegistryOptions(noVault)); !errors.Is(err, registry.ErrBusy) {
		t.Errorf("a second registry on the directory: %v, %v", r, err)
	}
}

// Records that were made under an earlier policy are taken on under it; a
// policy that goes back is not served, nor is another registry's.
func TestPolicies(t *testing.T) {
	w := registrytest.New(t)
	k := w.Kiosk(t, "KIOSK-0001")
	s := k.Make(t, registrytest.Spec{})
	first := serve(t, w.RegistryOptions(noVault))
	first.stop()
	o := w.RegistryOptions(noVault)
	o.Policy = w.Sign(t, 2, time.Now().Add(-time.Minute))
	second := serve(t, o)
	c := connect(t, w, second.URL, k.TLS)
	if v := c.send(s); v.Status != api.Pending {
		t.Errorf("%+v", v)
	}
	if _, b := c.do(http.MethodGet, api.PathPolicy, "", nil); !bytes.Equal(b, o.Policy.Bytes()) {
		t.Error("another policy than the one in force is handed out")
	}
	second.stop()
	if _, err := registry.Open(t.Context(), w.RegistryOptions(noVault)); !errors.Is(err, policy.ErrRollback) {
		t.Errorf("an older policy: %v", err)
	}
	foreign := w.RegistryOptions(noVault)
	foreign.Policy = registrytest.New(t).Policy
	if _, err := registry.Open(t.Context(), foreign); !errors.Is(err, registry.ErrPolicy) {
		t.Errorf("another registry's policy: %v", err)
	}
	if _, err := registry.Open(t.Context(), registry.Options{Dir: w.RegistryDir()}); !errors.Is(err, registry.ErrPolicy) {
		t.Errorf("no policy: %v", err)
	}
}

// What the registry keeps and logs names nobody: its files and log lines hold
// neither the person nor, in the public log, the DID.
func TestNothingPersonalInTheRegistry(t *testing.T) {
	w := registrytest.New(t, specimenState(t).CSCA())
	address, _ := serveVault(t, w, "127.0.0.1:0")
	logged := &lines{}
	o := w.RegistryOptions(address)
	o.Log = logged.logger()
	r := serve(t, o)
	k := w.Kiosk(t, "KIOSK-0001")
	c := connect(t, w, r.URL, k.TLS)
	s := k.Make(t, registrytest.Spec{Identity: identityOf(t, idcard.SpecimenPerson())})
	c.send(s)
	c.until(s.ID(), "verdict", func(s api.RecordStatus) bool { return hasReceipt(s) && isDecided(s) })
	r.stop()
	var all, public bytes.Buffer
	all.WriteString(logged.String())
	err := filepath.Walk(w.RegistryDir(), func(path string, info os.FileInfo, err error) error {
		if err != nil || info.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		all.Write(b)
		if strings.Contains(path, "/log/") {
			public.Write(b)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	p := idcard.SpecimenPerson()
	for _, canary := range []string{p.Surname, p.GivenNames, p.Number, p.CAN} {
		if bytes.Contains(all.Bytes(), []byte(canary)) {
			t.Errorf("the registry keeps %q", canary)
		}
	}
	did := s.Record().Payload().Holder.DID
	id := s.ID()
	for name, b := range map[string][]byte{"did": []byte(did), "id": id[:], "hexadecimal id": []byte(api.ID(id).String()), "kiosk": []byte(k.ID)} {
		if bytes.Contains(public.Bytes(), b) {
			t.Errorf("the log tells the %s", name)
		}
	}
	if !bytes.Contains(all.Bytes(), []byte(did)) || !strings.Contains(logged.String(), api.ID(id).String()) {
		t.Error("the control is not there either: this test looks in the wrong place")
	}
}
