package ui

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/canvas"
	"fyne.io/fyne/v2/test"

	"enrollkiosk/kiosk"
)

// recorder is a desk that keeps the intents it is sent.
type recorder struct {
	mu   sync.Mutex
	sent []kiosk.Intent
}

func (*recorder) States(ctx context.Context) (<-chan kiosk.State, error) {
	ch := make(chan kiosk.State)
	context.AfterFunc(ctx, func() { close(ch) })
	return ch, nil
}

func (r *recorder) Send(_ context.Context, in kiosk.Intent) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sent = append(r.sent, in)
	return nil
}

func (r *recorder) take(t *testing.T) kiosk.Intent {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.sent) != 1 {
		t.Fatalf("%d intents sent, want 1", len(r.sent))
	}
	in := r.sent[0]
	r.sent = nil
	return in
}

func (r *recorder) none(t *testing.T) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.sent) != 0 {
		t.Fatalf("sent %v", r.sent[0].Action)
	}
}

// bench is a window in memory with a desk and a clock that the test turns.
type bench struct {
	*UI
	t    *testing.T
	desk *recorder
	w    fyne.Window
	now  time.Time
}

var (
	large = fyne.NewSize(1280, 800)
	least = fyne.NewSize(1024, 768)
	full  = fyne.NewSize(1920, 1080)
)

// illustrations are drawn once for all benches: each takes a tenth of a second.
var illustrations = map[string]*canvas.Image{}

func newBench(t *testing.T, size fyne.Size) *bench {
	t.Helper()
	b := &bench{t: t, desk: &recorder{}, now: time.Date(2026, 5, 4, 10, 42, 0, 0, time.UTC)}
	test.NewTempApp(t)
	b.w = test.NewTempWindow(t, nil)
	b.w.SetPadded(false)
	b.w.Resize(size)
	b.UI = New(b.desk, b.w, Options{Now: func() time.Time { return b.now }})
	b.kept = illustrations
	b.after = func(time.Duration, func()) {}
	return b
}

// draw shows a state as if nothing had been pressed for a while.
func (b *bench) draw(s kiosk.State) {
	b.now = b.now.Add(time.Second)
	b.Draw(s)
}

func (b *bench) buttons() []*button {
	var all []*button
	visit(b.page.root, func(o fyne.CanvasObject) {
		if x, ok := o.(*button); ok {
			all = append(all, x)
		}
	})
	return all
}

func (b *bench) button(text string) *button {
	for _, x := range b.buttons() {
		if x.text == text {
			return x
		}
	}
	return nil
}

func (b *bench) tap(text string) {
	b.t.Helper()
	x := b.button(text)
	if x == nil {
		b.t.Fatalf("%s: no button %q", b.shown.state.Screen, text)
	}
	test.Tap(x)
}

// touchField touches the nth field that takes typed characters.
func (b *bench) touchField(n int) {
	b.t.Helper()
	for _, l := range leaves(b.page.root) {
		if c, ok := l.o.(*cells); ok {
			if n == 0 {
				test.Tap(c)
				return
			}
			n--
		}
	}
	b.t.Fatalf("%s: no such field", b.shown.state.Screen)
}

func (b *bench) press(k fyne.KeyName) {
	b.t.Helper()
	f := b.w.Canvas().Focused()
	if f == nil {
		b.w.Canvas().OnTypedKey()(&fyne.KeyEvent{Name: k})
		return
	}
	f.TypedKey(&fyne.KeyEvent{Name: k})
}

// typeText types as people do.
func (b *bench) typeText(s string) {
	for _, r := range s {
		b.now = b.now.Add(120 * time.Millisecond)
		b.keys(string(r))
	}
}

// keys types without a pause, whatever has the focus.
func (b *bench) keys(s string) {
	for _, r := range s {
		if f := b.w.Canvas().Focused(); f != nil {
			f.TypedRune(r)
		} else {
			b.w.Canvas().OnTypedRune()(r)
		}
	}
}

// leaf is something drawn, at its place in the window.
type leaf struct {
	o    fyne.CanvasObject
	pos  fyne.Position
	size fyne.Size
	in   fyne.CanvasObject // widget it belongs to, or nil
}

// leaves lists what is drawn, widgets' parts included.
func leaves(root fyne.CanvasObject) []leaf {
	var all []leaf
	var walk func(o fyne.CanvasObject, at fyne.Position, in fyne.CanvasObject)
	walk = func(o fyne.CanvasObject, at fyne.Position, in fyne.CanvasObject) {
		if !o.Visible() {
			return
		}
		at = at.Add(o.Position())
		switch x := o.(type) {
		case *fyne.Container:
			for _, c := range x.Objects {
				walk(c, at, in)
			}
		case fyne.Widget:
			all = append(all, leaf{o, at, o.Size(), in})
			for _, c := range test.WidgetRenderer(x).Objects() {
				walk(c, at, o)
			}
		default:
			all = append(all, leaf{o, at, o.Size(), in})
		}
	}
	walk(root, fyne.NewPos(0, 0), nil)
	return all
}

// drawings lists the illustrations on the page.
func (b *bench) drawings() (all []string) {
	for _, l := range leaves(b.page.root) {
		if img, ok := l.o.(*canvas.Image); ok && img.Resource != nil && l.size.Width > 100 {
			name := strings.TrimSuffix(img.Resource.Name(), ".svg")
			all = append(all, name[strings.Index(name, "-")+1:])
		}
	}
	return all
}

// texts lists what can be read on the page: whole paragraphs, not their lines.
func (b *bench) texts() []string {
	var all []string
	for _, l := range leaves(b.page.root) {
		switch o := l.o.(type) {
		case *paragraph:
			all = append(all, o.text)
		case *canvas.Text:
			if _, ok := l.in.(*paragraph); !ok {
				all = append(all, o.Text)
			}
		}
	}
	return all
}

func (b *bench) reads(want string) bool {
	for _, s := range b.texts() {
		if s == want {
			return true
		}
	}
	return false
}
