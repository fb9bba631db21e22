package window

import (
	"context"
	"image"
	"strings"
	"sync"
	"time"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/canvas"
	"fyne.io/fyne/v2/test"

	"enrollkiosk/kiosk"
	"enrollkiosk/ui"
)

// drawing is held by whoever uses Fyne's driver for tests: it knows one thread.
var drawing sync.Mutex

// mirror draws in memory what the window should show, and says where things
// are on it. Keys and taps that the window gets are given to it too.
type mirror struct {
	w       fyne.Window
	u       *ui.UI
	picture image.Image // nil when something happened since
	minute  int
}

// newMirror is the only window of that size that has just been opened.
func newMirror(width, height int) *mirror {
	drawing.Lock()
	defer drawing.Unlock()
	w := test.NewWindow(nil)
	w.SetPadded(false)
	w.Resize(fyne.NewSize(float32(width), float32(height)))
	m := &mirror{w: w, u: ui.New(nobody{}, w, ui.Options{})}
	m.u.Serve(ui.Turned)
	m.u.Wait()
	return m
}

// draw shows a state.
func (m *mirror) draw(s kiosk.State) {
	drawing.Lock()
	defer drawing.Unlock()
	before := m.w.Content()
	m.u.Draw(s)
	minute := time.Now().Minute() // on the clock
	if m.w.Content() != before || m.minute != minute {
		m.picture, m.minute = nil, minute // all else that changed cannot be seen
	}
}

// capture is what the window should look like.
func (m *mirror) capture() image.Image {
	drawing.Lock()
	defer drawing.Unlock()
	if m.picture == nil {
		m.picture = m.w.Canvas().Capture()
	}
	return m.picture
}

// nobody is a desk that drops what it is sent: the window's own intents count.
type nobody struct{}

func (nobody) States(ctx context.Context) (<-chan kiosk.State, error) {
	ch := make(chan kiosk.State)
	context.AfterFunc(ctx, func() { close(ch) })
	return ch, nil
}

func (nobody) Send(context.Context, kiosk.Intent) error { return nil }

// reads says whether a sentence stands on the page, over however many lines.
func (m *mirror) reads(sentence string) bool {
	drawing.Lock()
	defer drawing.Unlock()
	var all strings.Builder
	var read func(fyne.CanvasObject)
	read = func(o fyne.CanvasObject) {
		switch o := o.(type) {
		case *fyne.Container:
			for _, child := range o.Objects {
				read(child)
			}
		case fyne.Widget:
			for _, part := range test.WidgetRenderer(o).Objects() {
				read(part)
			}
		case *canvas.Text:
			all.WriteString(o.Text)
		}
	}
	read(m.w.Content())
	joined := func(s string) string { return strings.Join(strings.Fields(s), "") }
	return strings.Contains(joined(all.String()), joined(sentence))
}

// button is something to tap, and its middle on the screen.
type button struct {
	fyne.CanvasObject
	at image.Point
}

// button finds what can be tapped by the word on it.
func (m *mirror) button(text string) (found button, ok bool) {
	drawing.Lock()
	defer drawing.Unlock()
	var find func(fyne.CanvasObject, fyne.Position)
	find = func(o fyne.CanvasObject, at fyne.Position) {
		if !o.Visible() || ok {
			return
		}
		at = at.Add(o.Position())
		switch o := o.(type) {
		case *fyne.Container:
			for _, child := range o.Objects {
				find(child, at)
			}
		case fyne.Widget:
			if _, taps := o.(fyne.Tappable); !taps {
				return
			}
			for _, part := range test.WidgetRenderer(o).Objects() {
				if label, is := part.(*canvas.Text); is && label.Text == text {
					found, ok = button{o, image.Pt(int(at.X+o.Size().Width/2), int(at.Y+o.Size().Height/2))}, true
				}
			}
		}
	}
	find(m.w.Content(), fyne.NewPos(0, 0))
	return found, ok
}

func (m *mirror) tap(b button) {
	drawing.Lock()
	defer drawing.Unlock()
	m.picture = nil
	b.CanvasObject.(fyne.Tappable).Tapped(&fyne.PointEvent{})
}

// tabs says how often Tab must be pressed until b has the focus, and presses;
// -1 when it never has.
func (m *mirror) tabs(b button) int {
	drawing.Lock()
	defer drawing.Unlock()
	m.picture = nil
	for n := range 60 {
		if m.w.Canvas().Focused() == b.CanvasObject.(fyne.Focusable) {
			return n
		}
		m.w.Canvas().FocusNext()
	}
	return -1
}

// enter presses Return.
func (m *mirror) enter() { m.key(fyne.KeyReturn) }

// key presses a key that is no character.
func (m *mirror) key(k fyne.KeyName) {
	drawing.Lock()
	defer drawing.Unlock()
	m.picture = nil
	e := &fyne.KeyEvent{Name: k}
	if f := m.w.Canvas().Focused(); f != nil {
		f.TypedKey(e)
		return
	}
	m.w.Canvas().OnTypedKey()(e)
}

// digit presses the key of a digit.
func (m *mirror) digit(r rune) {
	drawing.Lock()
	defer drawing.Unlock()
	m.picture = nil
	if f := m.w.Canvas().Focused(); f != nil {
		f.TypedRune(r)
		return
	}
	m.w.Canvas().OnTypedRune()(r)
}

// square is the side of what pictures are compared by, in pixels. The two
// renderers place edges and letters up to two pixels apart, which may be in the
// next square, but agree on how bright a square is; one digit more, or the ring
// of the focus, makes more difference than that.
const (
	square = 48
	apart  = 2
)

// differ returns the largest difference in brightness, 0 to 255, of any two
// squares, and where.
func differ(a, b image.Image) (most int, where image.Point) {
	bounds := a.Bounds().Intersect(b.Bounds())
	for y := bounds.Min.Y; y < bounds.Max.Y; y += square {
		for x := bounds.Min.X; x < bounds.Max.X; x += square {
			r := image.Rect(x, y, x+square, y+square).Intersect(bounds)
			if d := unlike(a, b, r); d > most {
				most, where = d, r.Min
			}
		}
	}
	return most, where
}

// unlike is the difference in brightness of a square, at the place nearby where b
// is most like a.
func unlike(a, b image.Image, r image.Rectangle) int {
	want := brightness(a, r)
	least := 255
	for _, by := range []image.Point{{}, {0, apart}, {0, -apart}, {apart, 0}, {-apart, 0}} {
		there := r.Add(by).Intersect(b.Bounds())
		if there.Empty() {
			continue
		}
		d := want - brightness(b, there)
		if least = min(least, max(d, -d)); least <= alike {
			break
		}
	}
	return least
}

func brightness(img image.Image, r image.Rectangle) int {
	var pix []byte
	var stride int
	switch img := img.(type) {
	case *image.RGBA:
		pix, stride = img.Pix, img.Stride
	case *image.NRGBA: // opaque
		pix, stride = img.Pix, img.Stride
	}
	sum := 0
	for y := r.Min.Y; y < r.Max.Y; y++ {
		for _, c := range pix[y*stride+4*r.Min.X : y*stride+4*r.Max.X] {
			sum += int(c)
		}
	}
	return sum/(r.Dx()*r.Dy())/3 - 85 // without the alpha
}
