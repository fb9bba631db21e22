package registry_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/hpke"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"enrollkiosk/registry"
	"enrollkiosk/registry/api"
	"enrollkiosk/registry/credential"
	"enrollkiosk/registry/internal/registrytest"
	"enrollkiosk/registry/policy"
	"enrollkiosk/registry/record"
)

// opened is a registry that a test changes before it is served.
type opened struct {
	*registry.Registry
	address string
	stop    func() error
}

func openAndServe(t *testing.T, w *registrytest.World, change func(*registry.Registry)) opened {
	t.Helper()
	r, err := registry.Open(t.Context(), w.RegistryOptions(noVault))
	if err != nil {
		t.Fatal(err)
	}
	change(r)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- r.Serve(ctx, l) }()
	stop := sync.OnceValue(func() error {
		cancel()
		return errors.Join(<-ended, r.Close())
	})
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
	return opened{r, l.Addr().String(), stop}
}

// What no test of a route gets by itself: statuses of the contract that need
// something to be broken, or full.
func TestContractFailures(t *testing.T) {
	w := registrytest.New(t)
	k := w.Kiosk(t, "KIOSK-0001")
	id := strings.Repeat("0", 64)
	some := []byte{1}
	begin := api.ProvisionBegin{Version: 1, KioskID: kioskID, Secret: make([]byte, 16), Endorsements: []api.Endorsement{{Certificate: some, Public: some}},
		AttestationKey: some, StorageKeyName: some, RecordCSR: some, TLSCSR: some}
	pcrs := make([]api.PCR, 8)
	for i := range pcrs {
		pcrs[i] = api.PCR{Index: i, Value: some}
	}
	evidence := api.TPMEvidence{Public: some, CreationData: some, Attest: some, Signature: some}
	prove := api.ProvisionProof{Secret: some, Quote: api.TPMQuote{Attest: some, Signature: some, PCRs: pcrs}, RecordEvidence: evidence, TLSEvidence: evidence}

	r := openAndServe(t, w, func(*registry.Registry) {})
	c := connect(t, w, "https://"+r.address, k.TLS)
	for _, path := range []string{api.PathProvisionBegin, api.PathProvisionProve} {
		c.problem(http.MethodPost, path, "text/plain", []byte("{}"), http.StatusUnsupportedMediaType, api.CodeMedia)
	}
	c.problem(http.MethodGet, api.PathProvision+"/xyz", "", nil, http.StatusBadRequest, api.CodeBadRequest)
	release := registry.HoldProvisioning(r.Registry)
	c.problem(http.MethodPost, api.PathProvisionBegin, api.MediaJSON, encoded(t, begin), http.StatusTooManyRequests, api.CodeTooMany)
	c.problem(http.MethodPost, api.PathProvisionProve, api.MediaJSON, encoded(t, prove), http.StatusTooManyRequests, api.CodeTooMany)
	c.problem(http.MethodGet, api.PathProvision+"/"+id, "", nil, http.StatusTooManyRequests, api.CodeTooMany)
	release()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if status, _ := c.do(http.MethodGet, api.PathCheckpoint, "", nil); status == http.StatusOK {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("no checkpoint")
		}
	}
	if err := os.Rename(w.RegistryDir()+"/log/checkpoint", w.RegistryDir()+"/log/away"); err != nil {
		t.Fatal(err)
	}
	c.problem(http.MethodGet, api.PathCheckpoint, "", nil, http.StatusServiceUnavailable, api.CodeUnavailable)
	if err := os.MkdirAll(w.RegistryDir()+"/log/tile/0/000", 0o700); err != nil {
		t.Fatal(err)
	}
	c.problem(http.MethodGet, api.PathLog+"tile/0/000", "", nil, http.StatusServiceUnavailable, api.CodeUnavailable)
	if err := errors.Join(os.RemoveAll(w.RegistryDir()+"/log/tile/0/000"), os.Rename(w.RegistryDir()+"/log/away", w.RegistryDir()+"/log/checkpoint"), r.stop()); err != nil {
		t.Fatal(err)
	}

	r = openAndServe(t, w, registry.KillStore)
	c = connect(t, w, "https://"+r.address, k.TLS)
	c.problem(http.MethodGet, api.PathRecords+"/"+id, "", nil, http.StatusServiceUnavailable, api.CodeUnavailable)
	c.problem(http.MethodPost, api.PathProvisionBegin, api.MediaJSON, encoded(t, begin), http.StatusServiceUnavailable, api.CodeUnavailable)
	c.problem(http.MethodPost, api.PathProvisionProve, api.MediaJSON, encoded(t, prove), http.StatusServiceUnavailable, api.CodeUnavailable)
	c.problem(http.MethodGet, api.PathProvision+"/"+id, "", nil, http.StatusServiceUnavailable, api.CodeUnavailable)
	c.problem(http.MethodGet, api.PathReady, "", nil, http.StatusServiceUnavailable, api.CodeUnavailable)
	c.problem(http.MethodPost, api.PathStatus, api.MediaJSON, encoded(t, api.StatusQuery{IDs: []api.ID{{1}}}), http.StatusServiceUnavailable, api.CodeUnavailable)
	c.problem(http.MethodPost, api.PathReceipts, api.MediaJSON, encoded(t, api.ReceiptQuery{Receipt: provisional(t, k, [32]byte{1}, k.Record, nil)}),
		http.StatusServiceUnavailable, api.CodeUnavailable)
	c.problem(http.MethodPost, api.PathCancellations, "text/plain", nil, http.StatusUnsupportedMediaType, api.CodeMedia)
	c.problem(http.MethodPost, api.PathCancellations, api.MediaJSON, bytes.Repeat([]byte(" "), api.MaxBody), http.StatusRequestEntityTooLarge, api.CodeTooLarge)
	c.problem(http.MethodPost, api.PathCancellations, api.MediaJSON, encoded(t, api.Cancellation{Code: record.FormatCancelCode([16]byte{1})}), http.StatusServiceUnavailable,
		api.CodeUnavailable)
	reporter := reporter{c, k, w.RegistryDir()}
	c.problem(http.MethodPost, api.PathActivity, api.MediaJOSE, reporter.sign(reporter.days(1), k.Record), http.StatusServiceUnavailable, api.CodeUnavailable)
}

// The vault's answers are the contract's too.
func TestContractVault(t *testing.T) {
	d := newDesk(t)
	v := vaultClient(t, d.w, d.vault)
	s := d.k.Make(t, registrytest.Spec{})
	if status, b := v.do(http.MethodPost, api.PathOpen, api.MediaJSON, encoded(t, api.OpenRequest{Record: s.Bytes()})); status != http.StatusOK {
		t.Errorf("open: %d %s", status, b)
	}
	if status, b := v.do(http.MethodPost, api.PathOutcomes, api.MediaJSON, encoded(t, api.OutcomesRequest{})); status != http.StatusOK {
		t.Errorf("outcomes: %d %s", status, b)
	}
	v.problem(http.MethodPost, api.PathOutcomes, api.MediaJSON, []byte("{}"), http.StatusBadRequest, api.CodeBadRequest)
	v.problem(http.MethodPost, api.PathOpen, api.MediaJSON, encoded(t, api.OpenRequest{Record: []byte("x")}), http.StatusBadRequest, api.CodeBadRequest)
	if status, b := v.do(http.MethodPost, api.PathClaims, api.MediaJSON, encoded(t, api.ClaimsRequest{Record: d.enrolled.Bytes()})); status != http.StatusOK {
		t.Errorf("claims: %d %s", status, b)
	}
	v.problem(http.MethodPost, api.PathClaims, api.MediaJSON, encoded(t, api.ClaimsRequest{Record: s.Bytes()}), http.StatusForbidden, api.CodeHolder)
	authority := d.w.Policy.Policy().Authority
	key, err := hpke.MLKEM768X25519().NewPublicKey(authority.Public)
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := credential.SealLinks(key, authority.ID, s.ID(), []credential.Link{{List: 1, Index: 7}})
	if err != nil {
		t.Fatal(err)
	}
	places := api.SealedPlaces{Record: s.ID(), Places: sealed}
	if status, b := v.do(http.MethodPost, api.PathPlaces, api.MediaJSON, encoded(t, api.PlacesRequest{Sealed: []api.SealedPlaces{places}})); status != http.StatusOK {
		t.Errorf("places: %d %s", status, b)
	}
	places.Record[0] ^= 1
	v.problem(http.MethodPost, api.PathPlaces, api.MediaJSON, encoded(t, api.PlacesRequest{Sealed: []api.SealedPlaces{places}}), http.StatusBadRequest, api.CodeBadRequest)
	v.problem(http.MethodPost, api.PathClaims, api.MediaJSON, []byte("{}"), http.StatusBadRequest, api.CodeBadRequest)
	v.problem(http.MethodPost, api.PathLevel, api.MediaJSON, encoded(t, api.LevelRequest{Judged: []api.Judged{}, Done: true}), http.StatusBadRequest, api.CodeBadRequest)
	v.problem(http.MethodPost, api.PathLevel, api.MediaJOSE, d.w.Policy.Bytes(), http.StatusBadRequest, api.CodeBadRequest)
	v.problem(http.MethodPost, api.PathLevel, api.MediaJOSE, bytes.Repeat([]byte("x"), policy.MaxSize+1), http.StatusRequestEntityTooLarge, api.CodeTooLarge)
	good := d.request(t, nil)
	strange := d.request(t, func(s *registrytest.UnblockSpec) { s.AKName = []byte(strings.Repeat("x", 34)) })
	d.w.Policy = d.w.Sign(t, 2, time.Now())
	later := d.k.Make(t, registrytest.Spec{})
	v.problem(http.MethodPost, api.PathOpen, api.MediaJSON, encoded(t, api.OpenRequest{Record: later.Bytes()}), http.StatusServiceUnavailable, api.CodeUnavailable)
	ak, err := d.tpm.tpm.AttestationKey()
	if err != nil {
		t.Fatal(err)
	}
	order := api.UnblockOrder{Request: d.request(t, nil).Bytes(), Record: s.Bytes(), Endorsement: api.Endorsement{Certificate: d.tpm.eks[0].Certificate, Public: d.tpm.eks[0].Public},
		AttestationKey: ak.Public}
	v.problem(http.MethodPost, api.PathUnblock, api.MediaJSON, encoded(t, order), http.StatusServiceUnavailable, api.CodeUnavailable)
	order.Record, order.Request = d.enrolled.Bytes(), good.Bytes()
	if status, b := v.do(http.MethodPost, api.PathUnblock, api.MediaJSON, encoded(t, order)); status != http.StatusOK {
		t.Errorf("release: %d %s", status, b)
	}
	order.Request = strange.Bytes()
	v.problem(http.MethodPost, api.PathUnblock, api.MediaJSON, encoded(t, order), http.StatusForbidden, api.CodeUnblockTPM)
	text := scraped(t, d.opened.ServeMetrics)
	for _, want := range []string{`vault_unblocks_total{code=""} 1`, `vault_unblocks_total{code="vault-unblock-tpm"} 1`,
		`vault_errors_total{route="/v1/open"} 1`, `vault_errors_total{route="/v1/unblock"} 1`} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s in\n%s", want, text)
		}
	}
	for _, path := range []string{api.PathOpen, api.PathUnblock, api.PathOutcomes, api.PathLevel, api.PathClaims, api.PathPlaces} {
		v.problem(http.MethodPost, path, api.MediaJSON, bytes.Repeat([]byte(" "), api.MaxBody+1), http.StatusRequestEntityTooLarge, api.CodeTooLarge)
		v.problem(http.MethodPost, path, "text/plain", nil, http.StatusUnsupportedMediaType, api.CodeMedia)
		v.problem(http.MethodGet, path, "", nil, http.StatusMethodNotAllowed, api.CodeMethod)
	}
}

// Everything that a client can be slow at ends: a handshake, headers, a body,
// reading the answer. Meanwhile others are served, and afterwards all places are
// free again.
func TestSlowAtEverything(t *testing.T) {
	t.Parallel()
	w := registrytest.New(t)
	const patience = 2 * time.Second
	r := openAndServe(t, w, func(r *registry.Registry) { registry.Hurry(r, patience, 512, 384) })
	k := w.Kiosk(t, "KIOSK-0001")
	raw := func() net.Conn {
		c, err := net.Dial("tcp", r.address)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	over := func(send string) net.Conn {
		c, err := tls.Dial("tcp", r.address, w.TLS(t, k.TLS))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(c, send); err != nil {
			t.Fatal(err)
		}
		return c
	}
	post := "POST /v1/records HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
	slow := map[string]net.Conn{
		"says nothing":           raw(),
		"half a handshake":       raw(),
		"no request":             over(""),
		"half a header":          over("GET /v1/policy HT"),
		"headers without end":    over(post + "X-A: b\r\n"),
		"half a body":            over(post + "Content-Length: 100\r\n\r\n{\"items\":"),
		"half a chunk":           over(post + "Transfer-Encoding: chunked\r\n\r\n40\r\n{"),
		"a body of a stranger's": over("POST /v1/provision/begin HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{"),
	}
	io.WriteString(slow["half a handshake"], "\x16\x03\x01\x02\x00\x01")
	// Asks for much and reads nothing of it.
	slow["reads nothing"] = over(strings.Repeat("GET /v1/policy HTTP/1.1\r\nHost: localhost\r\n\r\n", 2000))
	c := connect(t, w, "https://"+r.address, k.TLS)
	if v := c.send(k.Make(t, registrytest.Spec{})); v.Status != api.Pending {
		t.Errorf("meanwhile: %+v", v)
	}
	for name, s := range slow {
		if name == "reads nothing" {
			time.Sleep(patience) // its own slowness
		}
		s.SetReadDeadline(time.Now().Add(30 * time.Second))
		if _, err := io.Copy(io.Discard, s); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("who %s is kept", name)
		}
		s.Close()
	}
	c.http.CloseIdleConnections()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if metric(t, r.Registry, "registry_connections") == "0" {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s connections are still open", metric(t, r.Registry, "registry_connections"))
		}
	}
}

// An address cannot take all connections, nor a kiosk all places.
func TestNobodyTakesAll(t *testing.T) {
	t.Parallel()
	w := registrytest.New(t)
	var release func()
	r := openAndServe(t, w, func(r *registry.Registry) {
		registry.Hurry(r, time.Minute, 64, 24)
		release = registry.StallStore(r)
	})
	var held []net.Conn
	defer func() {
		for _, c := range held {
			c.Close()
		}
	}()
	closed := 0
	for range 40 {
		c, err := net.Dial("tcp", r.address)
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, c)
	}
	for _, c := range held {
		c.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			closed++
		}
	}
	if closed != 16 {
		t.Errorf("%d of 40 were closed at once, want 16", closed)
	}
	if got := metric(t, r.Registry, "registry_connections_refused_total"); got != "16" {
		t.Errorf("metric says %s", got)
	}
	for _, c := range held {
		c.Close()
	}
	// One kiosk has eight batches under way; another gets its turn all the same.
	greedy, modest := w.Kiosk(t, "KIOSK-0001"), w.Kiosk(t, "KIOSK-0002")
	g, m := connect(t, w, "https://"+r.address, greedy.TLS), connect(t, w, "https://"+r.address, modest.TLS)
	answers := make(chan int, 12)
	for range cap(answers) {
		body := batch(item(greedy.Make(t, registrytest.Spec{})))
		go func() {
			status, _ := g.do(http.MethodPost, api.PathRecords, api.MediaJSON, body)
			answers <- status
		}()
	}
	for range 4 {
		if status := <-answers; status != http.StatusTooManyRequests {
			t.Errorf("above its share: %d", status)
		}
	}
	other := make(chan int, 1)
	body := batch(item(modest.Make(t, registrytest.Spec{})))
	go func() {
		status, _ := m.do(http.MethodPost, api.PathRecords, api.MediaJSON, body)
		other <- status
	}()
	select {
	case status := <-other:
		t.Errorf("not waiting for the store but answered: %d", status)
	case <-time.After(200 * time.Millisecond):
	}
	release()
	for range 8 {
		if status := <-answers; status != http.StatusOK {
			t.Errorf("of its share: %d", status)
		}
	}
	if status := <-other; status != http.StatusOK {
		t.Errorf("the other kiosk: %d", status)
	}
}

// What is made to be costly to read is not read.
func TestCostlyBodies(t *testing.T) {
	w := registrytest.New(t)
	r := serve(t, w.RegistryOptions(noVault))
	k := w.Kiosk(t, "KIOSK-0001")
	c := connect(t, w, r.URL, k.TLS)
	for name, body := range map[string][]byte{
		"deep":                bytes.Repeat([]byte("["), api.MaxBody-10),
		"deep members":        bytes.Repeat([]byte(`{"items":`), 50000),
		"many members":        []byte("{" + strings.Repeat(`"a":1,`, 100000) + `"b":1}`),
		"many items":          []byte(`{"items":[` + strings.Repeat("{},", 300000) + "{}]}"),
		"a number of a body":  append([]byte(`{"items":`), bytes.Repeat([]byte("1"), 900000)...),
		"escapes":             []byte(`{"items":[{"id":"` + strings.Repeat(`\u0000`, 100000) + `"}]}`),
		"bytes that are null": []byte(`{"items":[{"id":"` + strings.Repeat("0", 64) + `","submission":null}]}`),
	} {
		if status, answer := c.do(http.MethodPost, api.PathRecords, api.MediaJSON, body); status != http.StatusBadRequest {
			t.Errorf("%s: %d %.100s", name, status, answer)
		}
	}
	// What unpacks to more than a batch may have is not unpacked any further.
	var bomb bytes.Buffer
	packer := gzip.NewWriter(&bomb)
	if _, err := packer.Write(bytes.Repeat([]byte(" "), 200<<20)); err != nil {
		t.Fatal(err)
	}
	if err := packer.Close(); err != nil {
		t.Fatal(err)
	}
	q, err := http.NewRequestWithContext(t.Context(), http.MethodPost, r.URL+api.PathRecords, &bomb)
	if err != nil {
		t.Fatal(err)
	}
	q.Header.Set("Content-Type", api.MediaJSON)
	q.Header.Set("Content-Encoding", "gzip")
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	a, err := c.http.Do(q)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Body.Close()
	if runtime.ReadMemStats(&after); a.StatusCode != http.StatusRequestEntityTooLarge || after.TotalAlloc-before.TotalAlloc > 40*api.MaxBody {
		t.Errorf("a compressed body of 200 MB: %d, and %d bytes allocated", a.StatusCode, after.TotalAlloc-before.TotalAlloc)
	}
}

// The registry is told to stop while kiosks send. Whoever was being answered gets
// the whole answer, and what it was told is true for the next registry.
func TestStopsInOrderUnderLoad(t *testing.T) {
	w := registrytest.New(t)
	var release func()
	r := openAndServe(t, w, func(r *registry.Registry) { release = registry.StallStore(r) })
	const n = 6
	type sent struct {
		k      *registrytest.Kiosk
		s      []record.Submission
		status int
		answer []byte
	}
	under := make(chan sent, n)
	for i := range n {
		k := w.Kiosk(t, fmt.Sprintf("KIOSK-%04d", i))
		c := connect(t, w, "https://"+r.address, k.TLS)
		one := sent{k: k, s: []record.Submission{k.Make(t, registrytest.Spec{}), k.Make(t, registrytest.Spec{})}}
		go func() {
			one.status, one.answer = c.do(http.MethodPost, api.PathRecords, api.MediaJSON, batch(item(one.s[0]), item(one.s[1])))
			under <- one
		}()
	}
	for deadline := time.Now().Add(20 * time.Second); metric(t, r.Registry, "registry_connections") != fmt.Sprint(n); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("they do not come")
		}
	}
	time.Sleep(100 * time.Millisecond) // their batches are in
	ended := make(chan error, 1)
	go func() { ended <- r.stop() }()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		c, err := net.Dial("tcp", r.address)
		if err != nil {
			break // nobody new is let in
		}
		c.Close()
		if time.Now().After(deadline) {
			t.Fatal("it goes on to take connections")
		}
	}
	release()
	var all []sent
	for range n {
		one := <-under
		if one.status != http.StatusOK {
			t.Errorf("a batch that was under way: %d %s", one.status, one.answer)
		}
		all = append(all, one)
	}
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	again := serve(t, w.RegistryOptions(noVault))
	for _, one := range all {
		c := connect(t, w, again.URL, one.k.TLS)
		for _, s := range one.s {
			c.until(s.ID(), "receipt", hasReceipt)
		}
	}
}

// metric is the value of a metric without labels; empty if there is none.
func metric(t *testing.T, r *registry.Registry, name string) string {
	t.Helper()
	for line := bufio.NewScanner(bytes.NewReader(scrape(t, r))); line.Scan(); {
		if value, ok := strings.CutPrefix(line.Text(), name+" "); ok {
			return value
		}
	}
	return ""
}

func scrape(t *testing.T, r *registry.Registry) []byte {
	t.Helper()
	a := httptest.NewRecorder()
	registry.Metrics(r).ServeHTTP(a, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if a.Code != http.StatusOK {
		t.Fatalf("metrics: %d %s", a.Code, a.Body)
	}
	return a.Body.Bytes()
}

// scraped is what Prometheus is told at the listener of its own.
func scraped(t *testing.T, serve func(context.Context, net.Listener) error) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- serve(ctx, l) }()
	a, err := http.Get("http://" + l.Addr().String() + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer a.Body.Close()
	b, err := io.ReadAll(a.Body)
	cancel()
	if err := errors.Join(err, <-ended); err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// The metrics tell how the registry is, and nobody's name.
func TestMetrics(t *testing.T) {
	w := registrytest.New(t)
	r := serve(t, w.RegistryOptions(noVault))
	k := w.Kiosk(t, "KIOSK-0001")
	c := connect(t, w, r.URL, k.TLS)
	s := k.Make(t, registrytest.Spec{})
	c.send(s)
	c.until(s.ID(), "receipt", hasReceipt)
	c.send(s)
	c.rejected(w, item(k.Make(t, registrytest.Spec{Context: func(c *record.Context) { c.Sequence = 1 }})), api.CodeFork)

	text := scraped(t, r.ServeMetrics)
	for _, want := range []string{
		`registry_records_total{code="",verdict="pending"} 1`, `registry_records_total{code="",verdict="accepted"} 1`,
		`registry_records_total{code="registry-fork",verdict="rejected"} 1`,
		`registry_request_duration_seconds_count{method="POST",route="/v1/records",status="200"} 3`,
		`registry_waiting_records{for="log"} 0`, `registry_waiting_records{for="vault"} 1`, `registry_log_leaves 1`,
		`registry_failing{what="log"} 0`, `registry_failing{what="store"} 0`, `registry_certificate_expires_timestamp_seconds{name="server"}`,
		`registry_policy_expires_timestamp_seconds `, `registry_leads{role="log"} 1`, "go_goroutines ", "process_open_fds ",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s in\n%s", want, text)
		}
	}
	// As many series as the program has names, not as many as it has kiosks.
	for _, no := range []string{k.ID, api.ID(s.ID()).String(), s.Record().Payload().Holder.DID} {
		if strings.Contains(text, no) {
			t.Errorf("the metrics name %s", no)
		}
	}
	documented, err := os.ReadFile("../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range strings.Split(text, "\n") {
		if name, ok := strings.CutPrefix(line, "# TYPE registry_"); ok {
			name, _, _ = strings.Cut(name, " ")
			if !bytes.Contains(documented, []byte("`registry_"+name+"`")) {
				t.Errorf("docs/metrics.md lacks registry_%s", name)
			}
		}
	}
}
