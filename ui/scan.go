package ui

import (
	"time"

	"fyne.io/fyne/v2"

	"enrollkiosk/kiosk"
	"enrollkiosk/kiosk/secret"
)

// A keyboard-wedge scanner types a machine-readable zone, or the code of a receipt, as
// a keyboard would, faster than people do, and ends each line or only the last
// one with Enter.
const (
	scanMost  = 256  // characters of a zone, line ends and what scanners add included
	scanRoom  = 4096 // of a receipt
	scanLeast = 45   // in a zone whose lines come without their last filler
	// scanSure is how many keys at a scanner's pace make a scan. The first five
	// characters of every zone are the document code and the issuing state
	// (ICAO 9303-4 4.2.2, 9303-5 4.2.2, 9303-6 4.2.2): nothing of the person is drawn
	// before the rest is kept from the boxes.
	scanSure  = 6
	scanPace  = 50 * time.Millisecond // between two keys at most
	scanQuiet = time.Second           // ends a scan
)

// scan is what a scanner has typed. Nothing draws it. Every key goes in, a
// person's too: those never come at its pace, and Enter forgets them.
type scan struct {
	b       [scanRoom]byte
	n       int       // more than most: too long
	receipt bool      // the code of a receipt is expected, no zone
	run     int       // keys at a scanner's pace, the last one included
	mixed   bool      // not one key held down
	letters bool      // not digits alone, as an access number
	on      bool      // it is a scan
	last    time.Time // key
	ended   time.Time // last scan
}

func (s *scan) wipe() {
	clear(s.b[:])
	*s = scan{ended: s.ended, receipt: s.receipt}
}

func (s *scan) most() int { return either(s.receipt, scanRoom, scanMost) }

// quiet says whether a scan has come to its end without a whole zone.
func (s *scan) quiet(now time.Time) bool { return s.on && now.Sub(s.last) > scanQuiet }

// add takes a typed character and says whether it is a scanner's.
func (s *scan) add(r rune, now time.Time) bool {
	pause := now.Sub(s.last)
	if pause > scanQuiet {
		s.wipe()
	}
	if pause > scanPace {
		s.run = 0
	}
	s.run++
	s.put(r)
	s.last = now
	s.mixed = s.mixed || s.b[0] != byte(r)
	s.letters = s.letters || r < '0' || r > '9'
	s.on = s.on || s.run >= scanSure && s.mixed && s.letters
	return s.on
}

func (s *scan) put(r rune) {
	if r > '~' {
		r = '?'
	}
	if s.n < s.most() {
		s.b[s.n] = byte(r)
	}
	s.n = min(s.n+1, s.most()+1)
}

// zone counts the characters that a zone can have, once with spaces for filler.
// ok is false when there are others.
func (s *scan) zone() (without, with int, ok bool) {
	if s.n > s.most() {
		return 0, 0, false
	}
	ok = true
	for _, c := range s.b[:s.n] {
		_, letter := mrzLetter(rune(c))
		switch {
		case letter || c == '_': // filler of some scanners
			without++
			with++
		case c == ' ':
			with++
		case c != '\n':
			ok = false
		}
	}
	return without, with, ok
}

// whole says whether it is all of a zone: TD1, TD2 or TD3. How many lines a receipt
// has, nobody knows before they have come.
func (s *scan) whole() bool {
	if s.receipt {
		return false
	}
	without, with, ok := s.zone()
	size := func(n int) bool { return n == 90 || n == 72 || n == 88 }
	return ok && (size(without) || size(with))
}

// enough says whether what came before the quiet may be what was to be scanned.
func (s *scan) enough() bool {
	if s.receipt {
		return s.n >= scanLeast && s.n <= s.most()
	}
	n, _, _ := s.zone()
	return n >= scanLeast
}

// enter takes an Enter and says whether it is a scanner's.
func (s *scan) enter(now time.Time) bool {
	if !s.on {
		feed := now.Sub(s.ended) < StrikeGuard // the second half of a line's end
		s.wipe()
		return feed
	}
	s.put('\n')
	s.last = now
	return true
}

// take hands over what was scanned and forgets it.
func (s *scan) take() secret.Text {
	text := secret.New(append([]byte(nil), s.b[:s.n]...))
	s.wipe()
	return text
}

// scanner is the way of typed keys through a page that a zone can be scanned
// on: before the boxes and the buttons have them.
type scanner struct{ u *UI }

// character says whether r is a scanner's.
func (s *scanner) character(r rune) bool {
	s.u.settle()
	sc := &s.u.local.scan
	before := sc.on
	taken := sc.add(r, s.u.o.Now())
	if taken && !before {
		s.u.page.entry.clear() // of what came before it was known for a scan
		s.u.listen()
	}
	return taken
}

// key says whether k is a scanner's.
func (s *scanner) key(k *fyne.KeyEvent) bool {
	s.u.settle()
	sc := &s.u.local.scan
	if k.Name != fyne.KeyReturn && k.Name != fyne.KeyEnter {
		return sc.on
	}
	taken := sc.enter(s.u.o.Now())
	switch {
	case !sc.on:
	case sc.whole():
		s.u.scanned()
	default:
		s.u.listen()
	}
	return taken
}

// listen looks again when the scanner may have come to its end.
func (u *UI) listen() { u.after(scanQuiet+scanPace, func() { u.show(nil) }) }

// settle ends a scan after which nothing came. What may be a zone with filler
// left out goes to the agent; else the person is told.
func (u *UI) settle() {
	u.heard(u.o.Now())
	s := &u.local.scan
	if !s.quiet(u.o.Now()) {
		return
	}
	if s.enough() {
		u.scanned()
		return
	}
	s.wipe()
	u.local.unclear, u.local.problem = true, ""
	u.rebuild(true)
}

// scanned sends what was scanned.
func (u *UI) scanned() {
	l := &u.local
	l.unclear, l.scanned, l.problem, l.scan.ended = false, true, "", u.o.Now()
	u.act(kiosk.Intent{Action: either(l.scan.receipt, kiosk.ActionFind, kiosk.ActionScanMRZ), Secret: l.scan.take()})
	u.rebuild(true)
}
