// Package words holds every sentence that the window and the terminal show a
// person, in every language, as one JSON file each (en.json is the model).
//
// The loader is strict: a file that lacks a sentence, has one too many, or uses
// a placeholder that English does not use is refused, so that a screen never
// shows a key instead of a sentence. The package draws nothing, knows no device
// and formats no personal data: names and numbers of people are shown beside
// sentences, never inside them.
package words

import (
	"bytes"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"enrollkiosk/kiosk"
)

//go:embed *.json
var files embed.FS

// ErrLanguage means that there is no catalogue in the language asked for.
var ErrLanguage = errors.New("no such language")

// Languages lists the codes that Open knows, the model language first.
func Languages() []string { return []string{"en", "es", "hi", "zh"} }

// Open returns the catalogue of one language.
func Open(language string) (*Catalog, error) {
	if !slices.Contains(Languages(), language) {
		return nil, fmt.Errorf("open catalogue %q: %w", language, ErrLanguage)
	}
	b, err := files.ReadFile(language + ".json")
	if err != nil {
		return nil, fmt.Errorf("open catalogue: %w", err)
	}
	c, err := Parse(b)
	if err != nil {
		return nil, fmt.Errorf("open catalogue %q: %w", language, err)
	}
	return c, nil
}

// Catalog is every sentence in one language. It does not change after Open.
type Catalog struct{ f file }

// Trouble is what a person reads when a step failed.
type Trouble struct {
	Headline string // what is so
	Do       string // what to do
	Safe     string // what is safe or lost
	Staff    string // for the officer: the cause, and what to check
}

// Args are the values of a sentence's placeholders by name: {count}, {time}.
type Args map[string]any

// Code is the language's code, Name its own name for itself.
func (c *Catalog) Code() string { return c.f.Code }

// Name is what the language calls itself.
func (c *Catalog) Name() string { return c.f.Name }

// Title is the heading of a screen.
func (c *Catalog) Title(s kiosk.Screen) string { return c.f.Screens[s].Title }

// Instruction is the sentence below the heading.
func (c *Catalog) Instruction(s kiosk.Screen) string { return c.f.Screens[s].Instruction }

// Heading is the title of a state's screen and the sentence below it. Where a guardian
// acts for the citizen, some screens speak to the guardian.
func (c *Catalog) Heading(s kiosk.State) (title, instruction string) {
	h, ok := c.f.Guardian[s.Screen]
	if !ok || s.Guardian == nil {
		h = c.f.Screens[s.Screen]
	}
	return h.Title, h.Instruction
}

// Action is the text of the button for a.
func (c *Catalog) Action(a kiosk.Action) string { return known(c.f.Actions, a) }

// Step is one line of a waiting screen.
func (c *Catalog) Step(n kiosk.StepName) string { return known(c.f.Steps, n) }

// Status says how far a step is.
func (c *Catalog) Status(s kiosk.StepStatus) string { return known(c.f.Statuses, s) }

// Check names a proof.
func (c *Catalog) Check(n kiosk.CheckName) string { return known(c.f.Checks, n) }

// Verdict says how a proof ended.
func (c *Catalog) Verdict(v kiosk.Verdict) string { return known(c.f.Verdicts, v) }

// Receipt says what a receipt proves by itself.
func (c *Catalog) Receipt(k kiosk.ReceiptKind) string { return known(c.f.Receipts, k) }

// Outcome says to a citizen what has become of a record.
func (c *Catalog) Outcome(s kiosk.Standing) string { return known(c.f.Outcomes, s) }

// Lack says in plain words what the document cannot prove.
func (c *Catalog) Lack(l kiosk.Lack) string { return known(c.f.Lacks, l) }

// Device names a device.
func (c *Catalog) Device(d kiosk.Device) string { return known(c.f.Devices, d) }

// Reader says what a reader shows.
func (c *Catalog) Reader(r kiosk.ReaderState) string { return known(c.f.Readers, r) }

// Item explains one item of a ReviewView.
func (c *Catalog) Item(name string) string { return known(c.f.Items, name) }

// Bring asks for the card or token that d takes, seeing r on its reader.
// It is empty for devices that nobody brings.
func (c *Catalog) Bring(d kiosk.Device, r kiosk.ReaderState) string { return c.f.Bring[d][r] }

// Take asks the person to take away what lies on d.
func (c *Catalog) Take(d kiosk.Device) string { return known(c.f.Take, d) }

// Problem says why an entry was not taken; empty when it was.
func (c *Catalog) Problem(v kiosk.PINView) string {
	if v.Problem == kiosk.PINFine {
		return ""
	}
	m, ok := c.f.PIN[v.Problem]
	if !ok {
		return string(v.Problem)
	}
	return m.fill(Args{"min": v.Min, "max": v.Max, "count": v.Left})
}

// Trouble returns the sentences of a fault. A code that no catalogue knows gets
// those of an internal error.
func (c *Catalog) Trouble(f kiosk.Fault) Trouble {
	t, ok := c.f.Troubles[f.Code]
	if !ok {
		t = c.f.Troubles[kiosk.CodeInternal]
	}
	a := Args{"count": f.Left, "time": "--:--"}
	if !f.Until.IsZero() {
		a["time"] = f.Until.Local().Format("15:04")
	}
	return Trouble{t.Headline.fill(a), t.Do.fill(a), t.Safe.fill(a), t.Staff.fill(a)}
}

// Label fills a label that takes arguments; a nil Args will do for the others.
func (c *Catalog) Label(l Label, a Args) string {
	m, ok := c.f.Labels[l]
	if !ok {
		return string(l)
	}
	return m.fill(a)
}

// Standing says in a few words how a record stands, Means what that means.
func (c *Catalog) Standing(s kiosk.Standing) string { return c.f.Standings[s].Name }

// Means is the sentence to Standing.
func (c *Catalog) Means(s kiosk.Standing) string { return c.f.Standings[s].Means }

// Rejection says why a record was not accepted.
func (c *Catalog) Rejection(r kiosk.Rejection) string { return known(c.f.Rejections, r) }

// Advice is the one thing to do about it.
func (c *Catalog) Advice(a kiosk.Advice) string { return known(c.f.Advices, a) }

// Ending says how an enrollment ended that brought no record.
func (c *Catalog) Ending(e kiosk.Ending) string { return known(c.f.Endings, e) }

// Sentences returns every sentence, unfilled, for checks of fonts and lengths.
func (c *Catalog) Sentences() []string {
	var all []string
	c.f.each(func(_ string, m message) {
		all = append(all, m.one)
		if m.other != m.one {
			all = append(all, m.other)
		}
	})
	return append(all, c.f.Name)
}

func known[K ~string](m map[K]string, k K) string {
	if s, ok := m[k]; ok {
		return s
	}
	return string(k)
}

// file is the form of a catalogue.
type file struct {
	Code       string                                        `json:"code"`
	Name       string                                        `json:"name"`
	Screens    map[kiosk.Screen]screen                       `json:"screens"`
	Guardian   map[kiosk.Screen]screen                       `json:"guardian"`
	Actions    map[kiosk.Action]string                       `json:"actions"`
	Steps      map[kiosk.StepName]string                     `json:"steps"`
	Statuses   map[kiosk.StepStatus]string                   `json:"statuses"`
	Checks     map[kiosk.CheckName]string                    `json:"checks"`
	Verdicts   map[kiosk.Verdict]string                      `json:"verdicts"`
	Lacks      map[kiosk.Lack]string                         `json:"lacks"`
	PIN        map[kiosk.PINProblem]message                  `json:"pin"`
	Devices    map[kiosk.Device]string                       `json:"devices"`
	Readers    map[kiosk.ReaderState]string                  `json:"readers"`
	Bring      map[kiosk.Device]map[kiosk.ReaderState]string `json:"bring"`
	Take       map[kiosk.Device]string                       `json:"take"`
	Items      map[string]string                             `json:"items"`
	Receipts   map[kiosk.ReceiptKind]string                  `json:"receipts"`
	Standings  map[kiosk.Standing]standing                   `json:"standings"`
	Outcomes   map[kiosk.Standing]string                     `json:"outcomes"`
	Rejections map[kiosk.Rejection]string                    `json:"rejections"`
	Advices    map[kiosk.Advice]string                       `json:"advices"`
	Endings    map[kiosk.Ending]string                       `json:"endings"`
	Labels     map[Label]message                             `json:"labels"`
	Troubles   map[kiosk.Code]trouble                        `json:"troubles"`
}

type screen struct {
	Title       string `json:"title"`
	Instruction string `json:"instruction"`
}

type standing struct {
	Name  string `json:"name"`
	Means string `json:"means"`
}

type trouble struct {
	Headline message `json:"headline"`
	Do       message `json:"do"`
	Safe     message `json:"safe"`
	Staff    message `json:"staff"`
}

// message is a sentence, or two of which {count} chooses.
type message struct{ one, other string }

func (m *message) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '"' {
		err := json.Unmarshal(b, &m.one)
		m.other = m.one
		return err
	}
	var forms struct {
		One   string `json:"one"`
		Other string `json:"other"`
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&forms); err != nil {
		return err
	}
	m.one, m.other = forms.One, forms.Other
	return nil
}

func (m message) fill(a Args) string {
	s := m.other
	if n, ok := a["count"].(int); ok && n == 1 {
		s = m.one
	}
	for name, v := range a {
		s = strings.ReplaceAll(s, "{"+name+"}", fmt.Sprint(v))
	}
	return s
}
