package station

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"enrollkiosk/kiosk"
	"enrollkiosk/kiosk/durable"
	"enrollkiosk/kiosk/ipp"
	"enrollkiosk/kiosk/paper"
	"enrollkiosk/kiosk/words"
	"enrollkiosk/sync/queue"
)

// pages sets pages for the flow. Neither a job's name nor a file's says anything of
// the citizen.
type pages struct{ kiosk string }

func (p pages) receipt(r kiosk.ReceiptView, language string, training bool) ([]byte, error) {
	w, err := words.Open(language)
	if err != nil {
		return nil, err
	}
	return paper.Receipt(w, r, p.kiosk, training)
}

func (p pages) day(v kiosk.DayView, language string, training bool) ([]byte, error) {
	w, err := words.Open(language)
	if err != nil {
		return nil, err
	}
	return paper.Day(w, v, p.kiosk, training)
}

// printer plugs a queue of CUPS into the flow.
type printer struct {
	queue *ipp.Printer
	pages pages
}

// printer is nil when none is configured.
func (c Config) printer() (kiosk.Printer, error) {
	if c.Printer.URL == "" {
		return nil, nil
	}
	queue, err := ipp.Open(c.Printer.URL)
	if err != nil {
		return nil, fmt.Errorf("printer.url: %w", err)
	}
	return printer{queue, pages{c.Kiosk.ID}}, nil
}

// Print implements kiosk.Printer.
func (p printer) Print(ctx context.Context, r kiosk.ReceiptView, language string, training bool) error {
	pdf, err := p.pages.receipt(r, language, training)
	return p.print(ctx, "enrollkiosk receipt", pdf, err)
}

// PrintDay implements kiosk.Printer.
func (p printer) PrintDay(ctx context.Context, v kiosk.DayView, language string, training bool) error {
	pdf, err := p.pages.day(v, language, training)
	return p.print(ctx, "enrollkiosk day", pdf, err)
}

func (p printer) print(ctx context.Context, title string, pdf []byte, err error) error {
	if err != nil {
		return err
	}
	defer clear(pdf) // a cancel code may stand in it
	if err := p.queue.Print(ctx, title, pdf); err != nil {
		if errors.Is(err, context.Canceled) {
			return err
		}
		return fmt.Errorf("%w: %w", kiosk.ErrPrinter, err)
	}
	return nil
}

func diagnosePrinter(ctx context.Context, c Config) (string, error) {
	p, err := c.printer()
	switch {
	case err != nil:
		return "", err
	case p == nil && c.Printer.Folder != "":
		return "none configured: receipts are shown, and copies written to " + c.Printer.Folder, nil
	case p == nil:
		return "none configured: receipts are shown, not printed", nil
	}
	if err := p.(printer).queue.Ready(ctx); err != nil {
		return "", err
	}
	return c.Printer.URL + " takes jobs", nil
}

// folder is kiosk.Folder: files below a directory that must be there, such as a
// drive's. Each is written whole, and anew when it is there already.
type folder struct {
	dir     string
	pages   pages
	archive archive
}

// folder is nil when none is configured.
func (c Config) folder(a archive) kiosk.Folder {
	if c.Printer.Folder == "" {
		return nil
	}
	return folder{c.Printer.Folder, pages{c.Kiosk.ID}, a}
}

// Write implements kiosk.Folder.
func (f folder) Write(_ context.Context, r kiosk.ReceiptView, language string, training bool) (string, error) {
	if r.CancelCode.Len() > 0 {
		return "", errors.New("a cancel code is never written to a file")
	}
	pdf, err := f.pages.receipt(r, language, training)
	return f.write("receipt-"+r.RecordID[:min(16, len(r.RecordID))]+".pdf", pdf, err)
}

// WriteDay implements kiosk.Folder.
func (f folder) WriteDay(_ context.Context, v kiosk.DayView, language string, training bool) (string, error) {
	pdf, err := f.pages.day(v, language, training)
	return f.write("day-"+localDay(v.At)+"-"+f.pages.kiosk+".pdf", pdf, err)
}

// WriteRecord implements kiosk.Folder: what `kiosk queue show --json` prints.
func (f folder) WriteRecord(ctx context.Context, id queue.ID) (string, error) {
	r, err := show(ctx, f.archive.queue, f.archive.decided, id.String())
	if err != nil {
		return "", err
	}
	b, err := json.MarshalIndent(r, "", "  ")
	return f.write("record-"+id.String()[:16]+".json", append(b, '\n'), err)
}

func (f folder) write(name string, b []byte, err error) (string, error) {
	if err != nil {
		return "", err
	}
	if err := durable.Replace(filepath.Join(f.dir, name), b); err != nil {
		return "", fmt.Errorf("%w: %w", kiosk.ErrFolder, err)
	}
	return name, nil
}

// readyLimit is how long the printer may take to say how it does, readyInterval how
// long its answer holds.
const (
	readyLimit    = 5 * time.Second
	readyInterval = time.Minute
)

// machine is kiosk.Config.Machine.
type machine struct {
	state   string // directory
	clock   *clock
	printer kiosk.Printer // nil: none

	mu    sync.Mutex
	asked time.Time
	paper kiosk.PrinterState
}

func (m *machine) look(ctx context.Context) kiosk.Machine {
	out := kiosk.Machine{Printer: m.ready(ctx)}
	if checkClock(m.clock.read()) != nil {
		out.Clock = kiosk.CodeClock
	}
	if free, err := queue.Free(m.state); err != nil || free < queue.DefaultReserve {
		out.Disk = kiosk.CodeDiskFull
	}
	return out
}

func (m *machine) ready(ctx context.Context) kiosk.PrinterState {
	p, ok := m.printer.(printer)
	if !ok {
		return kiosk.PrinterNone
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.paper == kiosk.PrinterReady && time.Since(m.asked) < readyInterval {
		return m.paper
	}
	ctx, cancel := context.WithTimeout(ctx, readyLimit)
	defer cancel()
	m.asked, m.paper = time.Now(), kiosk.PrinterReady
	if p.queue.Ready(ctx) != nil {
		m.paper = kiosk.PrinterMute
	}
	return m.paper
}
