package ui

import (
	"time"

	"fyne.io/fyne/v2"

	"enrollkiosk/kiosk"
	"enrollkiosk/kiosk/secret"
)

// A keyboard-wedge scanner types a machine-readable zone as a keyboard would,
// faster than people do, and ends each line or only the last one with Enter.
const (
	scanMost = 90 // characters of the largest zone (ICAO 9303-5 4.2.1)
	// scanSure is how many keys at a scanner's pace make a scan. The first five
	// characters of every zone are the document code and the issuing state
	// (ICAO 9303-4 4.2.2, 9303-5 4.2.2, 9303-6 4.2.2): nothing of the person is drawn
	// before the rest is kept from the boxes.
	scanSure  = 6
	scanPace  = 50 * time.Millisecond // between two keys at most
	scanQuiet = time.Second           // ends a scan that was cut short
)

// scan is what a scanner has typed of a zone. Nothing draws it. Every key goes
// in, a person's too: those never come at its pace, and Enter forgets them.
type scan struct {
	b       [scanMost]byte
	n       int       // more than b holds: too long
	run     int       // keys at a scanner's pace, the last one included
	mixed   bool      // not one key held down
	strange bool      // a character that no zone has
	on      bool      // it is a scan
	last    time.Time // key
	ended   time.Time // last scan
}

func (s *scan) wipe() {
	clear(s.b[:])
	*s = scan{ended: s.ended}
}

// quiet says whether a scan was cut short.
func (s *scan) quiet(now time.Time) bool { return s.on && now.Sub(s.last) > scanQuiet }

// add takes a typed character and says whether it is a scanner's.
func (s *scan) add(r rune, now time.Time) bool {
	pause := now.Sub(s.last)
	if pause > scanQuiet {
		s.wipe()
	}
	s.last = now
	if pause > scanPace {
		s.run = 0
	}
	s.run++
	c, ok := mrzLetter(r)
	switch {
	case r == ' ':
		return s.on // between lines
	case !ok:
		s.strange = true
		return s.on
	case s.n < len(s.b):
		s.b[s.n] = c
	}
	s.n++
	s.mixed = s.mixed || c != s.b[0]
	letter := s.b[0] >= 'A' && s.b[0] <= 'Z' // as every document code begins
	s.on = s.on || s.run >= scanSure && s.mixed && letter || s.n > longest
	return s.on
}

// part is what an Enter has ended.
type part int

const (
	notScanned part = iota
	lineFeed        // the second half of a scanner's line end
	oneLine         // of several
	wholeZone
	nonsense
)

// enter takes an Enter.
func (s *scan) enter(now time.Time) part {
	switch {
	case !s.on && now.Sub(s.ended) < StrikeGuard:
		return lineFeed
	case !s.on:
		s.wipe()
		return notScanned
	case s.strange:
	case s.n == 90, s.n == 88, s.n == 72:
		s.ended = now
		return wholeZone
	case s.n == 30, s.n == 60, s.n == 36, s.n == 44:
		s.last = now
		return oneLine
	}
	s.ended = now
	return nonsense
}

// take hands the zone over and forgets it.
func (s *scan) take() secret.Text {
	zone := secret.New(append([]byte(nil), s.b[:s.n]...))
	s.wipe()
	return zone
}

// scanner is the way of typed keys through a page that a zone can be scanned
// on: before the boxes and the buttons have them.
type scanner struct{ u *UI }

// character says whether r is a scanner's.
func (s *scanner) character(r rune) bool {
	sc := &s.u.local.scan
	before := sc.on && !sc.quiet(s.u.o.Now())
	taken := sc.add(r, s.u.o.Now())
	if taken && !before {
		s.u.page.entry.clear() // of what came before it was known for a scan
	}
	return taken
}

// key says whether k is a scanner's.
func (s *scanner) key(k *fyne.KeyEvent) bool {
	l, now := &s.u.local, s.u.o.Now()
	if l.scan.quiet(now) {
		s.u.unclear()
	}
	if k.Name != fyne.KeyReturn && k.Name != fyne.KeyEnter {
		return l.scan.on
	}
	switch l.scan.enter(now) {
	case notScanned:
		return false
	case wholeZone:
		l.unclear, l.scanned, l.problem = false, true, ""
		s.u.act(kiosk.Intent{Action: kiosk.ActionScanMRZ, Secret: l.scan.take()})
		s.u.rebuild(true)
	case nonsense:
		s.u.unclear()
	}
	return true
}

// unclear says that a scan made no sense.
func (u *UI) unclear() {
	u.local.scan.wipe()
	u.local.unclear, u.local.problem = true, ""
	u.rebuild(true)
}
