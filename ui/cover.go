package ui

import (
	"enrollkiosk/kiosk"
	"enrollkiosk/kiosk/words"
)

// Side says who is in front of a window.
type Side string

const (
	// Everybody sees every page; nothing is ever covered.
	Everybody Side = ""
	// Turned is the only display of a kiosk. Officer and citizen turn it to one
	// another, and between their pages it is covered until the other one says so.
	Turned Side = "turned"
	// Officer and Citizen have a display each, which shows their own pages. While
	// the machine works both see the same.
	Officer Side = "officer"
	Citizen Side = "citizen"
	// Nobody: the display is gone. Nothing but a cover is drawn.
	Nobody Side = "nobody"
)

// cover is what is shown in the place of a page.
type cover int

const (
	open      cover = iota // nothing: the page itself
	toOfficer              // turn the display to the officer
	toCitizen              // and to the citizen
	waiting                // the citizen waits for the officer
	idle                   // no enrollment
	other                  // the officer waits for the citizen
)

// officers says whether an officer is or will be in front.
func (c cover) officers() bool { return c == open || c == toOfficer || c == other }

// Serve says who is in front from now on. What is shown is covered or shown at
// once. A display that becomes the only one is covered at first, whoever's turn
// it is: nobody knows who sits there.
func (u *UI) Serve(side Side) {
	if u.side == side {
		return
	}
	first := u.side == Everybody && !u.shown.agent
	u.side, u.front = side, kiosk.AudienceBoth
	u.found = !first
	u.local.reset(u.shown.state)
	u.rebuild(true)
}

// meet notes who is in front when the window opens: the one whose turn it is. A
// window that comes back after a crash is where it was.
func (u *UI) meet(s *scene) {
	if a := s.state.Audience(); s.agent && !u.found && a != kiosk.AudienceBoth {
		u.front, u.found = a, true
	}
}

// coverOf says what is shown in the place of a page.
func (u *UI) coverOf(s *scene) cover {
	a := s.state.Audience()
	between := s.state.Screen == kiosk.ScreenHome || s.state.Screen == kiosk.ScreenSignOn && !s.state.Locked || s.state.Screen == kiosk.ScreenClose
	switch {
	case u.side == Everybody || a == kiosk.AudienceBoth && u.side != Nobody:
		return open
	case u.side == Turned && u.front == a:
		return open
	case u.side == Turned && a == kiosk.AudienceOfficer:
		return toOfficer
	case u.side == Turned:
		return toCitizen
	case u.side == Officer && a == kiosk.AudienceCitizen:
		return other
	case u.side == Officer || u.side == Citizen && a == kiosk.AudienceCitizen:
		return open
	case between:
		return idle
	}
	return waiting
}

// Asks says whether somebody in front of the window is asked something.
func (u *UI) Asks() bool {
	return u.shown.agent && u.coverOf(u.shown) <= toCitizen && u.shown.state.Audience() != kiosk.AudienceBoth
}

// lift uncovers the page for whom it is meant. The second half of a double tap,
// meant for the page that the cover took the place of, does not.
func (u *UI) lift() {
	now := u.o.Now()
	if now.Sub(u.raised) < StrikeGuard {
		return
	}
	u.last = strike{at: now}
	u.front = u.shown.state.Audience()
	u.rebuild(true)
}

// covered is the page that is shown in the place of another one. It tells
// nothing of it.
func (d *drawing) covered() page {
	say := func(l words.Label) string { return d.w.Label(l, nil) }
	p, name := page{title: say(words.WaitTitle), lead: say(words.Wait)}, "officer-at-work"
	switch d.cover {
	case toOfficer:
		p, name = page{title: say(words.CoverOfficerTitle), lead: say(words.CoverOfficer),
			buttons: []*button{newButton(say(words.CoverOfficerLift), mainButton, d.u.lift)}}, "turn-to-officer"
	case toCitizen:
		p, name = page{title: say(words.CoverCitizenTitle), lead: say(words.CoverCitizen),
			buttons: []*button{newButton(say(words.CoverCitizenLift), mainButton, d.u.lift)}}, "turn-to-citizen"
	case other:
		p, name = page{title: say(words.OtherScreenTitle), lead: d.w.Label(words.OtherScreen, words.Args{"page": d.w.Title(d.s.Screen)})}, "citizen-at-work"
	case idle:
		p, name = page{title: say(words.IdleTitle), lead: say(words.Idle)}, "welcome"
	}
	room := d.below(p.title, p.lead) + barHigh - d.barHigh(p)
	if high := min(330, room/d.look.room()); high > 100 { // a cover is never turned for its picture
		p.body = d.illustration(name, high*4/3, high)
	}
	return p
}
