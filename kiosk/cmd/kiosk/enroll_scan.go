package main

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"time"

	"enrollkiosk/kiosk"
	"enrollkiosk/kiosk/secret"
	"enrollkiosk/kiosk/words"
)

// A scanner types the machine readable zone in place of a number, or a person
// pastes it: lines longer than anything else that is asked for.
const (
	scanLine  = 10                     // longer than a number and any letter
	scanField = 23                     // longer than any document number (ICAO 9303-5 4.2.2)
	scanLeast = 45                     // in a whole zone, its last filler left out
	scanMost  = 256                    // with what scanners add
	scanQuiet = 500 * time.Millisecond // after the last line
)

// scans takes text when it is a line of a scan.
func (t *terminal) scans(text []byte) bool {
	least := scanLine
	if t.mrz != nil {
		least = scanField
	}
	digit := func(c rune) bool { return c >= '0' && c <= '9' }
	if t.scan == nil {
		if len(text) < least || len(bytes.TrimFunc(text, digit)) == 0 {
			return false
		}
		t.scan = make([]byte, 0, scanMost) // never moved: nothing is left behind
	}
	if len(t.scan)+len(text) < scanMost {
		t.scan = append(append(t.scan, text...), '\n')
	} else {
		clear(t.scan)
		t.scan = t.scan[:0] // no zone
	}
	t.scanned = time.After(scanQuiet)
	return true
}

// findMost is more than any receipt that a code holds.
const findMost = 4096

// finds takes text when it is how a record's number begins, or a line of a receipt: a
// final one has several, which come together.
func (t *terminal) finds(text []byte) bool {
	if t.scan == nil {
		if len(text) < 2 { // a letter for something else
			return false
		}
		t.scan = make([]byte, 0, findMost)
	}
	if len(t.scan)+len(text) < findMost {
		t.scan = append(append(t.scan, text...), '\n')
	}
	t.scanned = time.After(scanQuiet)
	return true
}

// receiptMost is receipt.MaxSize.
const receiptMost = 16 << 10

// hears takes text when it is a line of a receipt's QR code: any line where one is
// asked for, but a letter for something else in place of the first.
func (t *terminal) hears(s kiosk.State, text []byte) bool {
	if !slices.Contains(s.Actions, kiosk.ActionScan) || t.receipt == nil && len(text) < scanLine {
		return false
	}
	if len(t.receipt)+len(text) < receiptMost {
		t.receipt = append(append(t.receipt, text...), '\n')
	}
	t.scanned = time.After(scanQuiet)
	return true
}

// endScan sends what was scanned, if that can be a zone, the whole of a receipt, or
// what is looked for.
func (t *terminal) endScan(ctx context.Context, s kiosk.State) error {
	defer t.forgetScan()
	if t.receipt != nil {
		return t.desk.Send(ctx, kiosk.Intent{State: s.Number, Action: kiosk.ActionScan, Secret: secret.New(bytes.Clone(t.receipt))})
	}
	if slices.Contains(s.Actions, kiosk.ActionFind) {
		in := kiosk.Intent{State: s.Number, Action: kiosk.ActionFind, Secret: secret.New(bytes.Clone(bytes.TrimSpace(t.scan)))}
		err := t.desk.Send(ctx, in)
		in.Wipe()
		return err
	}
	t.mrz = nil
	fmt.Fprintln(t.out)
	if len(t.scan) < scanLeast {
		fmt.Fprintf(t.out, "  ! %s\n", t.words.Label(words.ScanUnclear, nil))
		t.prompt(s)
		return nil
	}
	in := kiosk.Intent{State: s.Number, Action: kiosk.ActionScanMRZ, Secret: secret.New(bytes.Clone(t.scan))}
	t.tty.echo(true)
	err := t.desk.Send(ctx, in)
	in.Wipe()
	return err
}

func (t *terminal) forgetScan() {
	clear(t.scan)
	t.scan, t.receipt, t.scanned = nil, nil, nil
}
