package registry_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/tls"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"k8s.io/klog/v2"

	"enrollkiosk/kiosk/secret"
	"enrollkiosk/registry"
	"enrollkiosk/registry/api"
	"enrollkiosk/registry/internal/registrytest"
	"enrollkiosk/registry/receipt"
	"enrollkiosk/registry/record"
	"enrollkiosk/registry/vault"
	"enrollkiosk/simulators/idcard"
	"enrollkiosk/smartcard/icao"
	"enrollkiosk/smartcard/lds"
)

// The log's library has a log of its own.
func TestMain(m *testing.M) {
	klog.SetSlogLogger(slog.New(slog.DiscardHandler))
	if dir := os.Getenv(childDir); dir != "" {
		child(dir)
		return
	}
	code := m.Run()
	// Every answer that any of the tests got was held against the contract.
	if c, err := loadContract(); err == nil {
		for _, wrong := range c.verdict(code == 0 && everything()) {
			fmt.Println("docs/openapi.yaml:", wrong)
			code = 1
		}
	}
	if c := started.Load(); c != nil {
		c.Close()
	}
	os.Exit(code)
}

// everything says that no test was left out.
func everything() bool {
	for _, name := range []string{"test.run", "test.skip", "test.list", "test.bench", "test.fuzz"} {
		if f := flag.Lookup(name); f != nil && f.Value.String() != "" {
			return false
		}
	}
	return true
}

func mkdir(t testing.TB, dir string) {
	t.Helper()
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
}

// state makes one specimen state for all tests: its keys take time.
var state = sync.OnceValues(func() (*idcard.Authority, error) { return idcard.NewAuthority(idcard.ECDSA) })

func specimenState(t testing.TB) *idcard.Authority {
	t.Helper()
	a, err := state()
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// identityOf reads a person's card as a kiosk does, and has its chip answer the
// record's challenge.
func identityOf(t testing.TB, person idcard.Person) func(record.Context, crypto.PublicKey) record.Identity {
	t.Helper()
	card, err := specimenState(t).Personalise(person, idcard.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return func(c record.Context, holder crypto.PublicKey) record.Identity {
		t.Helper()
		chip, err := icao.Open(t.Context(), card.Direct(), icao.CAN(secret.FromString(card.CAN())), icao.Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer chip.Close()
		if _, err := chip.ReadAll(t.Context(), []lds.File{lds.DG1, lds.DG14, lds.DG15, lds.EFSOD}, nil); err != nil {
			t.Fatal(err)
		}
		challenge, err := c.ChipChallenge(holder)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := chip.AuthenticateActive(t.Context(), [8]byte(challenge[:8])); err != nil {
			t.Fatal(err)
		}
		return registrytest.Identity(chip.Document())
	}
}

// running is a served registry.
type running struct {
	*registry.Registry
	URL  string
	stop func() // ends it and waits
}

func serve(t testing.TB, o registry.Options) *running {
	t.Helper()
	r, err := registry.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- r.Serve(ctx, l) }()
	stop := sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("serve: %v", err)
		}
		if err := r.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	t.Cleanup(stop)
	return &running{r, "https://" + l.Addr().String(), stop}
}

// serveVault serves the World's vault at an address of its own choice, or a given one.
func serveVault(t testing.TB, w *registrytest.World, address string) (at string, stop func()) {
	t.Helper()
	v, err := vault.Open(t.Context(), w.VaultOptions())
	if err != nil {
		t.Fatal(err)
	}
	return runVault(t, v, address)
}

// runVault serves a vault.
func runVault(t testing.TB, v *vault.Vault, address string) (at string, stop func()) {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- v.Serve(ctx, l) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("serve vault: %v", err)
		}
		if err := v.Close(); err != nil {
			t.Errorf("close vault: %v", err)
		}
	})
	t.Cleanup(stop)
	return l.Addr().String(), stop
}

// noVault is an address at which nobody listens.
const noVault = "127.0.0.1:1"

// client speaks to a registry, as a kiosk or as nobody.
type client struct {
	t    testing.TB
	url  string
	http *http.Client
}

func connect(t testing.TB, w *registrytest.World, url string, certificates ...tls.Certificate) client {
	t.Helper()
	transport := &http.Transport{TLSClientConfig: w.TLS(t, certificates...)}
	t.Cleanup(transport.CloseIdleConnections)
	return client{t, url, &http.Client{Transport: watched{transport, theContract(t)}, Timeout: 20 * time.Second}}
}

func (c client) do(method, path, media string, body []byte) (int, []byte) {
	c.t.Helper()
	q, err := http.NewRequestWithContext(c.t.Context(), method, c.url+path, bytes.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	q.Header.Set("Content-Type", media)
	a, err := c.http.Do(q)
	if err != nil {
		c.t.Fatal(err)
	}
	defer a.Body.Close()
	b, err := io.ReadAll(a.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	return a.StatusCode, b
}

// problem asserts a problem of a status and code.
func (c client) problem(method, path, media string, body []byte, status int, code string) {
	c.t.Helper()
	got, b := c.do(method, path, media, body)
	var p api.Problem
	if err := json.Unmarshal(b, &p); err != nil || got != status || p.Code != code || p.Check() != nil {
		c.t.Errorf("%s %s: %d %s, want %d %s", method, path, got, b, status, code)
	}
}

func batch(items ...api.Item) []byte {
	b, err := json.Marshal(api.Batch{Items: items})
	if err != nil {
		panic(err)
	}
	return b
}

func item(s record.Submission) api.Item { return api.Item{ID: s.ID(), Submission: s.Bytes()} }

// post sends a batch that the registry must answer.
func (c client) post(items ...api.Item) []api.ItemVerdict {
	c.t.Helper()
	status, b := c.do(http.MethodPost, api.PathRecords, api.MediaJSON, batch(items...))
	if status != http.StatusOK {
		c.t.Fatalf("post: %d %s", status, b)
	}
	result, err := api.Decode[api.BatchResult](bytes.NewReader(b))
	if err != nil {
		c.t.Fatal(err)
	}
	if err := result.Answers(api.Batch{Items: items}); err != nil {
		c.t.Fatal(err)
	}
	slices.SortFunc(result.Verdicts, func(a, b api.ItemVerdict) int { return bytes.Compare(a.ID[:], b.ID[:]) })
	return result.Verdicts
}

// send posts one submission.
func (c client) send(s record.Submission) api.ItemVerdict {
	c.t.Helper()
	return c.post(item(s))[0]
}

// rejected asserts a signed rejection with a code.
func (c client) rejected(w *registrytest.World, it api.Item, code string) api.ItemVerdict {
	c.t.Helper()
	v := c.post(it)[0]
	if v.Status != api.Rejected || v.Code != code {
		c.t.Errorf("got %s %s, want rejected %s", v.Status, v.Code, code)
		return v
	}
	signed, err := receipt.VerifyVerdict([]byte(v.Verdict), w.Policy.Policy().VerdictKeys.Registry, nil, it.ID)
	if err != nil {
		c.t.Errorf("signed verdict: %v", err)
	} else if claims := signed.Claims(); claims.Status != receipt.Rejected || claims.Code != code {
		c.t.Errorf("signed verdict says %+v", claims)
	}
	return v
}

func (c client) record(id [32]byte) (api.RecordStatus, error) {
	c.t.Helper()
	status, b := c.do(http.MethodGet, api.PathRecords+"/"+api.ID(id).String(), "", nil)
	if status != http.StatusOK {
		return api.RecordStatus{}, fmt.Errorf("status %d: %s", status, b)
	}
	return api.Decode[api.RecordStatus](bytes.NewReader(b))
}

// until waits for a record to be as wanted.
func (c client) until(id [32]byte, what string, wanted func(api.RecordStatus) bool) api.RecordStatus {
	c.t.Helper()
	var last api.RecordStatus
	for deadline := time.Now().Add(15 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		var err error
		if last, err = c.record(id); err != nil {
			c.t.Fatal(err)
		}
		if wanted(last) {
			return last
		}
	}
	c.t.Fatalf("no %s: %+v", what, last)
	return last
}

func hasReceipt(s api.RecordStatus) bool { return s.Receipt != "" }
func isDecided(s api.RecordStatus) bool  { return s.Status != api.Pending }

// lines is a log to look at.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (l *lines) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug}))
}
