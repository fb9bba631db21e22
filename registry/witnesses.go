package registry

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/transparency-dev/tessera"

	"enrollkiosk/registry/checkpoint"
)

// WitnessLink is where a witness of the policy is (C2SP tlog-witness).
type WitnessLink struct {
	Name string // in the policy's verifier key
	URL  string // "/add-checkpoint" is asked below it
	Root []byte // of its TLS certificate, DER; nil: the system's roots
}

// ErrWitnesses means that too few of the policy's witnesses have cosigned:
// records are taken on, their receipts wait.
var ErrWitnesses = errors.New("too few witnesses answer: records are taken on, receipts wait for them")

const (
	witnessTimeout = 10 * time.Second // for all witnesses together
	maxWitness     = 64 << 10         // bytes of a witness's answer
)

// witnesses knows which of the witnesses that the log asks are away. It stands
// between Tessera, which speaks to them, and the network.
type witnesses struct {
	group  tessera.WitnessGroup
	quorum int
	log    *slog.Logger
	lines  map[string]http.RoundTripper // by name
	names  map[string]string            // by the URL that is asked

	mu   sync.Mutex
	away map[string]error // by name; nil: it has answered
}

// newWitnesses checks that the links serve the policy: each is to a witness of
// its, and together they make the quorum. Errors wrap ErrPolicy.
func newWitnesses(links []WitnessLink, of checkpoint.Log, log *slog.Logger) (*witnesses, error) {
	if of.Key == "" { // nobody appends here
		links = nil
	}
	w := &witnesses{quorum: of.Quorum, log: log, lines: map[string]http.RoundTripper{}, names: map[string]string{}, away: map[string]error{}}
	for _, link := range links {
		i := slices.IndexFunc(of.Witnesses, func(vkey string) bool { return checkpoint.Name(vkey) == link.Name })
		if i < 0 || w.lines[link.Name] != nil {
			return nil, fmt.Errorf("%w: it has no witness %q, or the witness is there twice", ErrPolicy, link.Name)
		}
		u, err := url.Parse(link.URL)
		if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.RawQuery != "" {
			return nil, fmt.Errorf("witness %q: %q is no address: want http://host:port or https://host:port", link.Name, link.URL)
		}
		witness, err := tessera.NewWitness(of.Witnesses[i], u)
		if err != nil {
			return nil, fmt.Errorf("witness %q: %w", link.Name, err)
		}
		if w.lines[link.Name], err = link.transport(); err != nil {
			return nil, err
		}
		w.names[witness.URL] = link.Name
		w.group.Components = append(w.group.Components, witness)
	}
	if w.group.N = of.Quorum; len(links) < of.Quorum {
		return nil, fmt.Errorf("%w: it asks for %d witnesses, and only %d have an address here", ErrPolicy, of.Quorum, len(links))
	}
	return w, nil
}

func (l WitnessLink) transport() (http.RoundTripper, error) {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS13}
	if l.Root != nil {
		c, err := x509.ParseCertificate(l.Root)
		if err != nil {
			return nil, fmt.Errorf("witness %q: root certificate: %w", l.Name, err)
		}
		t.TLSClientConfig.RootCAs = x509.NewCertPool()
		t.TLSClientConfig.RootCAs.AddCert(c)
	}
	return t, nil
}

// client is the one through which Tessera asks.
func (w *witnesses) client() *http.Client {
	return &http.Client{Transport: w, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// RoundTrip asks one witness and notes whether it cosigns.
func (w *witnesses) RoundTrip(q *http.Request) (*http.Response, error) {
	name := w.names[q.URL.String()]
	if name == "" {
		return nil, fmt.Errorf("no witness is at %s", q.URL)
	}
	a, err := w.lines[name].RoundTrip(q)
	switch {
	case err == nil && a.StatusCode == http.StatusOK:
		w.note(name, nil)
	case err == nil && a.StatusCode == http.StatusConflict && a.Header.Get("Content-Type") == "text/x.tlog.size":
		// It tells how far it is and is asked again.
	case err == nil:
		w.note(name, fmt.Errorf("it answers %s", a.Status))
	case !errors.Is(err, context.Canceled): // others were quicker
		w.note(name, err)
	}
	if err == nil {
		a.Body = struct {
			io.Reader
			io.Closer
		}{io.LimitReader(a.Body, maxWitness), a.Body}
	}
	return a, err
}

func (w *witnesses) note(name string, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	was, known := w.away[name]
	w.away[name] = err
	switch {
	case err != nil && (!known || was == nil):
		w.log.Warn("a witness does not cosign", "witness", name, "cause", err)
	case err == nil && was != nil:
		w.log.Info("a witness cosigns again", "witness", name)
	}
}

// missing are the names of witnesses whose last answer was no cosignature.
func (w *witnesses) missing() (names []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for name, err := range w.away {
		if err != nil {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// short is ErrWitnesses with the names of those away, when the rest is no quorum.
func (w *witnesses) short() error {
	if away := w.missing(); w.quorum > 0 && len(w.names)-len(away) < w.quorum {
		return fmt.Errorf("%w: away: %s", ErrWitnesses, strings.Join(away, ", "))
	}
	return nil
}

// withdraw takes away a published checkpoint that has not the cosignatures that
// the policy asks for by now: Tessera publishes another one at once, and not only
// when the log grows. One that is good, but lacks the signature of a key that signs
// by now, stays until then: it is made to look old.
func withdraw(dir string, of checkpoint.Log) error {
	file := filepath.Join(dir, checkpoint.PathCheckpoint)
	b, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("own checkpoint: %w", err)
	}
	switch c, err := of.Open(b); {
	case errors.Is(err, checkpoint.ErrWitnesses):
		return os.Remove(file)
	case err != nil:
		return fmt.Errorf("own checkpoint: %w", err)
	case !signedByAll(c, of):
		return os.Chtimes(file, time.Time{}, time.Unix(0, 0))
	}
	return nil
}
