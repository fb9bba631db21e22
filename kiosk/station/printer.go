package station

import (
	"context"
	"errors"
	"fmt"

	"enrollkiosk/kiosk"
	"enrollkiosk/kiosk/ipp"
	"enrollkiosk/kiosk/paper"
	"enrollkiosk/kiosk/words"
)

// printer plugs a queue of CUPS into the flow.
type printer struct {
	queue *ipp.Printer
	kiosk string
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
	return printer{queue, c.Kiosk.ID}, nil
}

// Print implements kiosk.Printer. The job's name says nothing of the citizen.
func (p printer) Print(ctx context.Context, r kiosk.ReceiptView, language string, training bool) error {
	w, err := words.Open(language)
	if err != nil {
		return err
	}
	pdf, err := paper.Receipt(w, r, p.kiosk, training)
	if err != nil {
		return err
	}
	defer clear(pdf) // the cancel code stands in it
	if err := p.queue.Print(ctx, "enrollkiosk receipt", pdf); err != nil {
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
	case p == nil:
		return "none configured: receipts are shown, not printed", nil
	}
	if err := p.(printer).queue.Ready(ctx); err != nil {
		return "", err
	}
	return c.Printer.URL + " takes jobs", nil
}
