package ui

import (
	"time"

	"enrollkiosk/kiosk"
)

// local is what a person did on the page shown that the agent does not know
// yet. It goes with the question.
type local struct {
	typed   entry    // PIN or access number
	mrz     [3]entry // document number, birth, expiry
	field   int      // of mrz, where the keys go
	lines   bool     // the citizen types printed lines instead of the number
	page    int      // of text that needs several
	confirm kiosk.Action
	books   bool   // the languages are shown instead of the page
	access  bool   // or what can be changed about the window
	touched bool   // a finger opened the field: the keys are shown
	problem string // said about what was typed
	scan    scan
	unclear bool   // the last scan made no sense
	scanned bool   // the last thing sent was a scan
	heard   []byte // of a receipt's QR code
	heardAt time.Time

	step  kiosk.StepName // running
	done  int
	since time.Time
}

func (l *local) reset(s kiosk.State) {
	l.typed.wipe()
	for i := range l.mrz {
		l.mrz[i].wipe()
	}
	l.scan.wipe()
	clear(l.heard)
	again := s.Screen == kiosk.ScreenAccessNumber
	*l = local{lines: again && l.lines, touched: again && l.touched, scanned: again && l.scanned}
	l.unclear = l.scanned && s.PIN != nil && s.PIN.Problem != kiosk.PINFine
	l.scan.receipt = s.Screen == kiosk.ScreenReceipts
	l.typed.max = 12
	if s.PIN != nil && s.PIN.Max > 0 {
		l.typed.max = s.PIN.Max
	}
	l.mrz[0].max, l.mrz[1].max, l.mrz[2].max = mrzLongest, 6, 6
}

// running returns how long a step has run without progress.
func (l *local) running(step kiosk.StepName, done int, now time.Time) time.Duration {
	if l.step != step || l.done != done {
		l.step, l.done, l.since = step, done, now
	}
	return now.Sub(l.since)
}
