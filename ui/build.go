package ui

import (
	"image"
	"image/color"
	"slices"
	"strings"
	"time"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/canvas"
	"fyne.io/fyne/v2/container"

	"enrollkiosk/kiosk"
	"enrollkiosk/kiosk/words"
)

// page is what the file of a screen returns: the inside of the frame.
type page struct {
	title   string
	lead    string
	body    fyne.CanvasObject // nil: title and lead only
	buttons []*button         // from the left; the last is the main one
	equal   bool              // the buttons weigh the same: none is the main one's size
	minor   bool              // none of the buttons is what the page is for
	whole   bool              // read to its end before it is agreed to
	say     string            // said after title and lead; nothing that is anybody's own

	// A page with keys says once more what body shows, for text so large that
	// the rest is turned beside them.
	wrong    fyne.CanvasObject // what was wrong with the last entry
	field    fyne.CanvasObject // what the keys fill
	keys     fyne.CanvasObject
	rest     fyne.CanvasObject
	entry    *cells          // takes typed characters
	listener *listener       // takes typed characters where there is no entry
	scanner  *scanner        // has them before that, if one is expected
	photos   []*canvas.Image // cleared when the page goes
	focus    fyne.Focusable  // nil: the main button
}

// built is a page on the stage.
type built struct {
	root     *fyne.Container
	size     fyne.Size
	slow     bool
	focus    fyne.Focusable
	main     *button
	entry    *cells
	listener *listener
	photos   []*canvas.Image
	clock    *canvas.Text
	content  fyne.CanvasObject // the page inside the frame
	room     fyne.Size         // for it
	spoken   string            // what of it can be said aloud
	language string            // and in what language
}

func (b *built) tick(now time.Time) {
	if b.clock != nil {
		b.clock.Text = now.Format("15:04")
		b.clock.Refresh()
	}
}

// forget lets go of the picture: Fyne keeps what it has drawn until it repaints
// without it.
func (b *built) forget() {
	for _, p := range b.photos {
		p.Image = nil
		p.Refresh()
	}
	b.photos = nil
}

// drawing is one page in the making.
type drawing struct {
	u     *UI
	s     kiosk.State
	w     *words.Catalog
	l     *local
	face  image.Image
	slow  bool
	cover cover
	room  fyne.Size // for the page, title included
	look  Look
}

func (u *UI) build(size fyne.Size) built {
	s := u.shown
	d := &drawing{u: u, s: s.state, l: &u.local, face: s.face}
	if !s.agent {
		d.w = u.book(u.o.Waiting)
	} else {
		d.w = u.book(d.language())
		d.slow, d.cover = u.slow(s), u.coverOf(s)
	}
	d.look = u.chosen(s).fitted(size)
	header, banner := d.header(size.Width), d.banner()
	f := frame{built: size, header: max(headerHigh, header.MinSize().Height), footer: footerHigh * d.look.times(), bar: barHigh, resized: func() { u.show(nil) }}
	if s.agent && d.s.Simulated {
		f.banner = max(bannerHigh, heightFor(banner, size.Width))
	}
	d.room = f.room()

	p := d.page()
	if d.s.Screen != kiosk.ScreenTrouble {
		p.say = strings.TrimSpace(d.hintText() + " " + p.say)
	}
	b := built{size: size, slow: d.slow, entry: p.entry, listener: p.listener, photos: p.photos, focus: p.focus, spoken: p.spoken(), language: d.w.Code()}
	row, place := d.arrange(&p, &f)
	b.room, b.content = f.room(), place.page
	b.clock = newText(u.o.Now().Format("15:04"), d.look.size(smallText), fyne.TextStyle{}, faint)
	if n := len(p.buttons); n > 0 && !p.minor {
		b.main = p.buttons[n-1]
		if b.focus == nil {
			b.focus = b.main
		}
	}
	inside := container.New(f, header, banner, place.whole(), row, d.footer(b.clock, place))
	b.root = container.New(inset{0, 0}, canvas.NewRectangle(paper), inside)
	d.look.dress(b.root)
	if p.entry != nil || p.listener != nil {
		p.route(b.root)
	}
	return b
}

// turned is one page of those that a screen needs, with what turns it.
type turned struct {
	page   fyne.CanvasObject
	arrows *fyne.Container // nil: there is one page, or buttons in the bar turn it
	n, all int
}

func (t turned) whole() fyne.CanvasObject {
	if t.arrows == nil {
		return t.page
	}
	return container.New(margined{}, t.page, t.arrows)
}

// arrange sets the page as the text's size wants it, and makes the bar of its
// buttons, for which f leaves room.
func (d *drawing) arrange(p *page, f *frame) (*fyne.Container, turned) {
	shown, more := p.buttons, float32(0)
	if !p.whole {
		more = arrowsWide
	}
	f.bar = d.barHigh(*p)
	if n := len(p.buttons) - 1; p.keys != nil && d.look.times() > 1 && n > 0 && f.bar > d.barHigh(page{buttons: p.buttons[n:]}) {
		var others []fyne.CanvasObject // keys take the height: what else can be done is turned with the text
		for _, b := range p.buttons[:n] {
			others = append(others, b)
		}
		p.rest, p.buttons = stack(gap, p.rest, stack(gap, others...)), p.buttons[n:]
		shown, f.bar = p.buttons, d.barHigh(*p)
	}
	all := d.pages(*p, f.room(), more)
	if p.whole && len(all) > 1 { // as high as the highest of its bars
		for n := range len(all) {
			q := *p
			d.turnable(&q, n, len(all))
			f.bar = max(f.bar, d.barHigh(q))
		}
		all = d.pages(*p, f.room(), more)
	}
	t := turned{all: max(1, len(all)), page: stack(0)}
	t.n = min(d.l.page, t.all-1)
	if len(all) > 0 {
		t.page = all[t.n]
	}
	switch {
	case p.whole:
		p.buttons = shown
		d.turnable(p, t.n, t.all)
	case t.all > 1:
		t.arrows = d.arrows(t)
	}
	return d.bar(*p), t
}

func (d *drawing) barHigh(p page) float32 {
	return d.high(d.bar(p), d.room.Width+2*ringGap)
}

// spoken is what is said of a page when pages are read aloud.
func (p page) spoken() string {
	return strings.Join(slices.DeleteFunc([]string{p.title, p.lead, p.say}, func(s string) bool { return s == "" }), " ")
}

// arrows turn the pages of a screen whose main button stays.
func (d *drawing) arrows(t turned) *fyne.Container {
	arrow := func(icon string, l words.Label, by int) *button {
		b := d.localButton(d.w.Label(l, nil), keyButton, func(l *local) { l.page = t.n + by })
		b.icon, b.bare = icon, true
		return b
	}
	var all []fyne.CanvasObject
	if t.n > 0 {
		all = append(all, arrow("up", words.PageBack, -1))
	}
	if t.n < t.all-1 {
		all = append(all, arrow("down", words.PageOn, 1))
	}
	return stack(gap, all...)
}

// arrowsWide is the width of the column of arrows, and its distance.
const arrowsWide = touch + 2*ringGap + gap

// margined is a page with a column of arrows at its right.
type margined struct{}

func (margined) MinSize(objects []fyne.CanvasObject) fyne.Size {
	return objects[0].MinSize().AddWidthHeight(arrowsWide, 0)
}

func (margined) heightFor(objects []fyne.CanvasObject, width float32) float32 {
	return heightFor(objects[0], width-arrowsWide)
}

func (margined) Layout(objects []fyne.CanvasObject, size fyne.Size) {
	page, arrows := objects[0], objects[1]
	page.Move(fyne.NewPos(0, 0))
	page.Resize(size.SubtractWidthHeight(arrowsWide, 0))
	wide, high := arrowsWide-gap, heightFor(arrows, arrowsWide-gap)
	arrows.Move(fyne.NewPos(size.Width-wide, max(0, size.Height-high)))
	arrows.Resize(fyne.NewSize(wide, high))
}

// route has what is typed go to the entry whatever has the focus, and past the
// scanner first.
func (p page) route(root fyne.CanvasObject) {
	visit(root, func(o fyne.CanvasObject) {
		switch o := o.(type) {
		case *button:
			if p.listener != nil {
				o.typed, o.listener = func(r rune) { p.listener.character(r) }, p.listener
				break
			}
			o.typed, o.pressed, o.scanner = p.entry.TypedRune, p.entry.TypedKey, p.scanner
		case *cells:
			o.scanner = p.scanner
		}
	})
}

// bodyGap stands between a page's sentences and its body.
const bodyGap float32 = 20

// below is the height that is left for the body of a page with these sentences.
func (d *drawing) below(title, sentence string) float32 {
	h := d.room.Height - bodyGap - d.high(heading(title), d.room.Width)
	if sentence != "" {
		h -= 6 + d.high(lead(sentence), d.room.Width)
	}
	return h
}

// high is the height that o needs in this window's look.
func (d *drawing) high(o fyne.CanvasObject, width float32) float32 {
	d.look.dress(o)
	return heightFor(o, width)
}

// tighten sets the type of a page smaller, by steps and never below three
// quarters, when its sentences are too long for the room; where that is not
// enough it changes nothing.
func tighten(page fyne.CanvasObject, room fyne.Size) (fits bool) {
	var all []*paragraph
	var full []float32
	visit(page, func(o fyne.CanvasObject) {
		if p, ok := o.(*paragraph); ok {
			all, full = append(all, p), append(full, p.size)
		}
	})
	for _, share := range []float32{1, 0.94, 0.88, 0.82, 0.75} {
		for i, p := range all {
			p.size = full[i] * share
		}
		if heightFor(page, room.Width) <= room.Height {
			return true
		}
	}
	for i, p := range all {
		p.size = full[i]
	}
	return false
}

func lead(s string) *paragraph {
	if s == "" {
		return nil
	}
	return body(s).in(faint)
}

// language is that of the citizen, or of the officer on the officer's pages.
func (d *drawing) language() string {
	officers := d.s.Turn == kiosk.TurnOfficer && d.cover != waiting && d.cover != idle || d.cover == other
	if officers && d.u.o.OfficerLanguage != "" {
		return d.u.o.OfficerLanguage
	}
	return d.s.Language
}

// page finds the file of the screen.
func (d *drawing) page() page {
	if !d.u.shown.agent {
		return d.noAgent()
	}
	if d.cover != open {
		return d.covered()
	}
	if d.l.confirm != "" {
		return d.confirm()
	}
	if d.l.access {
		return d.accessible()
	}
	if d.l.books {
		return d.otherLanguage()
	}
	switch d.s.Screen {
	case kiosk.ScreenSignOn:
		return d.signOn()
	case kiosk.ScreenHome:
		return d.home()
	case kiosk.ScreenClose:
		return d.closing()
	case kiosk.ScreenLocked:
		return d.locked()
	case kiosk.ScreenReceipts:
		return d.receipts()
	case kiosk.ScreenSetAside:
		return d.setAside()
	case kiosk.ScreenRecord:
		return d.record()
	case kiosk.ScreenDay:
		return d.day()
	case kiosk.ScreenServices:
		return d.services()
	case kiosk.ScreenLanguage:
		return d.chooseLanguage()
	case kiosk.ScreenWelcome:
		return d.welcome()
	case kiosk.ScreenPlaceCard:
		return d.placeCard()
	case kiosk.ScreenAccessNumber:
		return d.accessNumber()
	case kiosk.ScreenReading:
		return d.reading()
	case kiosk.ScreenCompare:
		return d.compare()
	case kiosk.ScreenSecondOfficer:
		return d.secondOfficer()
	case kiosk.ScreenConfirmData:
		return d.confirmData()
	case kiosk.ScreenConsent:
		return d.consent()
	case kiosk.ScreenInsertToken:
		return d.insertToken()
	case kiosk.ScreenNoToken:
		return d.noToken()
	case kiosk.ScreenChoosePIN:
		return d.choosePIN()
	case kiosk.ScreenRepeatPIN:
		return d.repeatPIN()
	case kiosk.ScreenMakingKey:
		return d.makingKey()
	case kiosk.ScreenReview:
		return d.review()
	case kiosk.ScreenApprove:
		return d.approve()
	case kiosk.ScreenSecondApprove:
		return d.secondApprove()
	case kiosk.ScreenSaving:
		return d.saving()
	case kiosk.ScreenReceipt:
		return d.receipt()
	case kiosk.ScreenPrinting:
		return d.printing()
	case kiosk.ScreenTakeThings:
		return d.takeThings()
	case kiosk.ScreenTrouble:
		return d.trouble()
	case kiosk.ScreenCustodyNumber:
		return d.custodyNumber()
	case kiosk.ScreenCustodyPIN:
		return d.custodyPIN()
	case kiosk.ScreenCustodyKey:
		return d.custodyKey()
	case kiosk.ScreenSelfService:
		return d.selfService()
	case kiosk.ScreenShowToken:
		return d.showToken()
	case kiosk.ScreenTokenPIN:
		return d.tokenPIN()
	case kiosk.ScreenTokenWork:
		return d.tokenWork()
	case kiosk.ScreenTokenResult:
		return d.tokenResult()
	case kiosk.ScreenScanReceipt:
		return d.scanReceipt()
	case kiosk.ScreenStanding:
		return d.standing()
	case kiosk.ScreenCancelCode:
		return d.cancelCode()
	case kiosk.ScreenConfirmCancel:
		return d.confirmCancel()
	case kiosk.ScreenCancelled:
		return d.cancelled()
	case kiosk.ScreenAskRegistry:
		return d.askRegistry()
	case kiosk.ScreenEndIdentity:
		return d.endIdentity()
	case kiosk.ScreenConfirmEnd:
		return d.confirmEnd()
	case kiosk.ScreenIdentityEnded:
		return d.identityEnded()
	case kiosk.ScreenGuardian:
		return d.guardian()
	case kiosk.ScreenGuardianCard:
		return d.guardianCard()
	case kiosk.ScreenGuardianCompare:
		return d.guardianCompare()
	case kiosk.ScreenGuardianProof:
		return d.guardianProof()
	case kiosk.ScreenGuardianNote:
		return d.guardianNote()
	case kiosk.ScreenCardBack:
		return d.cardBack()
	}
	return page{title: string(d.s.Screen)}
}

// standard is the page of a screen with its own sentences and the buttons for
// every action that has no other place.
func (d *drawing) standard(body fyne.CanvasObject) page {
	title, lead := d.w.Heading(d.s)
	return page{title: title, lead: lead, body: body, buttons: d.buttons()}
}

// elsewhere are the actions that have a place of their own.
func elsewhere(a kiosk.Action) bool {
	switch a {
	case kiosk.ActionDecline, kiosk.ActionChoose, kiosk.ActionSignOff, kiosk.ActionClose, kiosk.ActionSignOn, kiosk.ActionEnterCAN,
		kiosk.ActionEnterMRZ, kiosk.ActionScanMRZ, kiosk.ActionPIN, kiosk.ActionNumber, kiosk.ActionApprove, kiosk.ActionFind,
		kiosk.ActionScan, kiosk.ActionGiveCode, kiosk.ActionNote:
		return true
	}
	return false
}

// buttons makes the buttons of the bar, the main one last.
func (d *drawing) buttons() []*button {
	var all []*button
	for _, a := range d.s.Actions {
		if a != d.s.Main && !elsewhere(a) {
			all = append(all, d.button(a, plainButton))
		}
	}
	if d.s.Main != "" && !elsewhere(d.s.Main) {
		all = append(all, d.button(d.s.Main, mainButton))
	}
	return all
}

// can says whether a is offered now.
func (d *drawing) can(a kiosk.Action) bool {
	for _, o := range d.s.Actions {
		if o == a {
			return true
		}
	}
	return false
}

// button is the button for an action. The two that end an enrollment ask once
// more.
func (d *drawing) button(a kiosk.Action, k kind) *button {
	return newButton(d.w.Action(a), k, func() {
		if a == kiosk.ActionDecline || a == kiosk.ActionDoubtPerson {
			d.u.local.confirm = a
			d.u.rebuild(true)
			return
		}
		in := kiosk.Intent{Action: a}
		if d.s.Consent != nil && (a == kiosk.ActionAccept || a == kiosk.ActionRefuse) {
			in.Choice = d.s.Consent.ID
		}
		d.u.act(in)
	})
}

// localButton changes something on this page only.
func (d *drawing) localButton(text string, k kind, change func(*local)) *button {
	return newButton(text, k, func() {
		change(&d.u.local)
		d.u.rebuild(true)
	})
}

// hint is a fault on a page that can go on: what is so and what to do. A wrong
// PIN is said once, at the pad.
func (d *drawing) hint() *fyne.Container {
	text := d.hintText()
	if text == "" {
		return nil
	}
	return notice(cautPale, caution, beside(14, []float32{0, 1}, sign("warning"), body(text).sized(22)))
}

func (d *drawing) hintText() string {
	if d.s.Fault == nil || d.s.PIN != nil && d.s.PIN.Problem != kiosk.PINFine {
		return ""
	}
	t := d.w.Trouble(*d.s.Fault)
	return t.Headline + " " + t.Do
}

// confirm asks whether to end the enrollment.
func (d *drawing) confirm() page {
	title, text := words.ConfirmStopTitle, words.ConfirmStop
	if d.l.confirm == kiosk.ActionDoubtPerson {
		title, text = words.ConfirmDoubtTitle, words.ConfirmDoubt
	}
	end := d.l.confirm
	return page{
		title: d.w.Label(title, nil),
		lead:  d.w.Label(text, nil),
		buttons: []*button{
			newButton(d.w.Action(end), plainButton, func() { d.u.act(kiosk.Intent{Action: end}) }),
			d.localButton(d.w.Label(words.GoOn, nil), mainButton, func(l *local) { l.confirm = "" }),
		},
	}
}

func (d *drawing) noAgent() page {
	return page{title: d.w.Label(words.AgentTitle, nil), lead: d.w.Label(words.AgentInstruction, nil)}
}

func (d *drawing) bar(p page) *fyne.Container {
	objects := make([]fyne.CanvasObject, len(p.buttons))
	for i, b := range p.buttons {
		objects[i] = b
	}
	if p.equal {
		return container.New(pair{}, objects...)
	}
	return container.New(bar{minor: p.minor}, objects...)
}

// header says where one is, whose turn it is, and holds what is always
// possible: another language, and stopping.
func (d *drawing) header(width float32) fyne.CanvasObject {
	app := newText(d.w.Label(words.App, nil), d.look.size(22), fyne.TextStyle{Bold: true}, white)
	var turn, step, right []fyne.CanvasObject
	if d.u.shown.agent {
		turn = append(turn, d.turn())
		if d.s.Position > 0 {
			step = append(step, newText(d.w.Label(words.StepOf, words.Args{"position": d.s.Position, "positions": d.s.Positions}), d.look.size(labelText), fyne.TextStyle{}, mist))
		}
		if d.cover == open && !d.l.access && !d.l.books && d.l.confirm == "" {
			b := d.localButton(d.w.Label(words.Access, nil), headerButton, func(l *local) { l.access = true })
			b.icon, b.bare = "access", true
			right = append(right, b)
		}
		if d.cover == open && d.can(kiosk.ActionChoose) && d.s.Screen != kiosk.ScreenLanguage && !d.l.books && !d.l.access {
			if others := slices.DeleteFunc(slices.Clone(d.s.Languages), func(l string) bool { return l == d.s.Language }); len(others) > 1 {
				b := d.localButton(d.u.book(d.s.Language).Name(), headerButton, func(l *local) { l.books = true })
				b.icon = "languages"
				right = append(right, b)
			} else {
				for _, l := range others {
					right = append(right, d.languageButton(l, headerButton))
				}
			}
		}
		for _, a := range []kiosk.Action{kiosk.ActionClose, kiosk.ActionSignOff, kiosk.ActionDecline} {
			if d.cover == open && d.can(a) && d.l.confirm == "" && !d.l.books && !d.l.access {
				right = append(right, d.button(a, headerButton))
			}
		}
	}
	// What matters least goes first when the words are long.
	turned := slices.Concat(turn, step)
	var s *fyne.Container
	for _, left := range [][]fyne.CanvasObject{append([]fyne.CanvasObject{picture("emblem", 40, 40), app}, turned...),
		append([]fyne.CanvasObject{picture("emblem", 40, 40)}, turned...), turned, turn} {
		s = newStrip(canvas.NewRectangle(navy), 18, margin-8, left, right)
		if d.look.dress(s); s.MinSize().Width <= width {
			return s
		}
	}
	if len(turn) == 0 {
		return s
	}
	s = container.New(inset{0, 0}, canvas.NewRectangle(navy), container.New(headerRows{}, append(turn, right...)...))
	d.look.dress(s)
	return s
}

func (d *drawing) languageButton(l string, k kind) *button {
	return newButton(d.u.book(l).Name(), k, func() { d.u.act(kiosk.Intent{Action: kiosk.ActionChoose, Choice: l}) })
}

// turn is the sign that says whose turn it is, in drawing and word.
func (d *drawing) turn() fyne.CanvasObject {
	name, l := "machine", words.TurnMachine
	switch d.s.Turn {
	case kiosk.TurnOfficer:
		name, l = "officer", words.TurnOfficer
	case kiosk.TurnCitizen:
		name, l = "citizen", words.TurnCitizen
	}
	text := newText(d.w.Label(l, nil), d.look.size(labelText), fyne.TextStyle{Bold: true}, white)
	back := canvas.NewRectangle(color.Transparent)
	back.CornerRadius, back.StrokeColor, back.StrokeWidth = 21, mist, 1.5
	return container.New(inset{16, 8}, back, besideMiddle(9, []float32{0, 0}, picture(name, 24, 24), text))
}

func (d *drawing) banner() fyne.CanvasObject {
	text := label(d.w.Label(words.Training, nil)).bold().in(white)
	c := container.New(inset{margin, 7}, canvas.NewRectangle(training), text)
	d.look.dress(c)
	if !d.u.shown.agent || !d.s.Simulated {
		c.Hide()
	}
	return c
}

func (d *drawing) footer(clock *canvas.Text, t turned) fyne.CanvasObject {
	say := func(s string) fyne.CanvasObject {
		return newText(s, d.look.size(smallText), fyne.TextStyle{}, faint)
	}
	var left []fyne.CanvasObject
	if t.all > 1 {
		left = append(left, newText(d.w.Label(words.PageOf, words.Args{"page": t.n + 1, "pages": t.all}), d.look.size(labelText), fyne.TextStyle{Bold: true}, ink))
	}
	if d.s.Fault != nil && d.cover == open {
		left = append(left, say(string(d.s.Fault.Code)))
	}
	if d.s.Officer != "" && d.u.shown.agent && d.cover.officers() {
		left = append(left, say(d.w.Label(words.SignedOn, words.Args{"number": d.s.Officer})))
	}
	return newStrip(canvas.NewRectangle(sheet), 28, margin, left, []fyne.CanvasObject{clock})
}
