package ipp_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"enrollkiosk/kiosk/ipp"
	"enrollkiosk/simulators/cups"
)

var document = []byte("%PDF-1.7\nwhat stands on paper")

// daemon is a real CUPS for one test.
func daemon(t *testing.T) *cups.Server {
	t.Helper()
	dir, err := os.MkdirTemp("", "cups") // the user lp cannot enter t.TempDir
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	s, err := cups.Start(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func queue(t *testing.T, s *cups.Server, name string) (*ipp.Printer, string) {
	t.Helper()
	uri, paper, err := s.Queue(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	p, err := ipp.Open(uri)
	if err != nil {
		t.Fatal(err)
	}
	return p, paper
}

// nothing is left of a document in CUPS: no job that waits, and no file.
func nothing(t *testing.T, s *cups.Server) {
	t.Helper()
	if jobs, err := s.Waiting(t.Context()); err != nil || jobs != "" {
		t.Errorf("jobs wait: %q, %v", jobs, err)
	}
	var files []string
	for begun := time.Now(); time.Since(begun) < 20*time.Second; time.Sleep(50 * time.Millisecond) {
		var err error
		if files, err = s.Spool(); err != nil {
			t.Fatal(err)
		}
		if len(files) == 0 {
			return
		}
	}
	t.Errorf("kept by CUPS: %v", files)
}

func TestPrinted(t *testing.T) {
	s := daemon(t)
	p, paper := queue(t, s, "desk")
	if err := p.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := p.Print(ctx, "receipt", document); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(paper); err != nil || !bytes.Equal(got, document) {
		t.Errorf("on paper: %q, %v", got, err)
	}
	nothing(t, s)
}

// A printer without paper: the document is taken back when the time is over, and
// does not come out when there is paper again.
func TestNoPaper(t *testing.T) {
	s := daemon(t)
	p, paper := queue(t, s, "desk")
	if err := s.Stop(t.Context(), "desk"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	err := p.Print(ctx, "receipt", document)
	if !errors.Is(err, ipp.ErrNotPrinted) || !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "paused") {
		t.Errorf("without paper: %v", err)
	}
	nothing(t, s)
	if err := s.Go(t.Context(), "desk"); err != nil {
		t.Fatal(err)
	}
	other, later := queue(t, s, "other") // after it has printed, the first would have
	wait, stop := context.WithTimeout(t.Context(), 30*time.Second)
	defer stop()
	if err := other.Print(wait, "receipt", document); err != nil {
		t.Fatal(err)
	}
	if got, _ := os.ReadFile(later); !bytes.Equal(got, document) {
		t.Errorf("the other printed %q", got)
	}
	if got, _ := os.ReadFile(paper); len(got) > 0 {
		t.Errorf("came out after all: %q", got)
	}
}

func TestRefused(t *testing.T) {
	s := daemon(t)
	p, _ := queue(t, s, "desk")
	if err := s.Refuse(t.Context(), "desk"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := p.Print(ctx, "receipt", document); !errors.Is(err, ipp.ErrRefused) {
		t.Errorf("a queue that takes no jobs: %v", err)
	}
	if err := p.Ready(ctx); !errors.Is(err, ipp.ErrRefused) {
		t.Errorf("a queue that takes no jobs is ready: %v", err)
	}
	none, err := ipp.Open("ipp://" + s.Address + "/printers/none")
	if err != nil {
		t.Fatal(err)
	}
	if err := none.Print(ctx, "receipt", document); !errors.Is(err, ipp.ErrRefused) {
		t.Errorf("no such queue: %v", err)
	}
}

func TestUnreachable(t *testing.T) {
	s := httptest.NewServer(nil)
	p, err := ipp.Open("ipp://" + strings.TrimPrefix(s.URL, "http://") + "/printers/desk")
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	if err := p.Print(t.Context(), "receipt", document); !errors.Is(err, ipp.ErrUnreachable) {
		t.Error(err)
	}
}

// Whatever a service answers that is no IPP, nothing is called printed.
func TestNonsense(t *testing.T) {
	for _, answer := range []string{"", "hello", "\x01\x01\x00\x00\x00\x00\x00\x01\x03", "\x01\x01\x00\x00\x00\x00\x00\x01\x01", "\x01\x01\x00\x00\x00\x00\x00\x01\x02\x21\x00\x06job-id\x00\x04\x00\x00\x00\x00\x03",
		"\x01\x01\x00\x00\x00\x00\x00\x01\x02\x21\x00\xffjob-id"} {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, answer) }))
		p, err := ipp.Open("ipp://" + strings.TrimPrefix(s.URL, "http://") + "/printers/desk")
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Print(t.Context(), "receipt", document); err == nil {
			t.Errorf("printed after %q", answer)
		}
		s.Close()
	}
}

func TestAddresses(t *testing.T) {
	for address, want := range map[string]error{
		"ipp://localhost/printers/desk": nil, "ipp://127.0.0.1:8631/printers/desk": nil, "ipp://[::1]/printers/desk": nil, "ipps://printer.example/ipp/print": nil,
		"ipp://printer.example/ipp/print": ipp.ErrAddress, "ipp://192.0.2.1/ipp/print": ipp.ErrAddress, "http://localhost/printers/desk": ipp.ErrAddress,
		"ipp://localhost": ipp.ErrAddress, "ipp://u:p@localhost/printers/desk": ipp.ErrAddress, "desk": ipp.ErrAddress, "": ipp.ErrAddress, "ipp://%zz": ipp.ErrAddress,
	} {
		if _, err := ipp.Open(address); !errors.Is(err, want) {
			t.Errorf("%q: %v, want %v", address, err, want)
		}
	}
}
