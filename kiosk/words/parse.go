package words

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"

	"enrollkiosk/kiosk"
)

// model is the language that says which sentences and placeholders there are.
const model = "en"

var placeholder = regexp.MustCompile(`\{[a-z]*\}`)

// Parse reads a catalogue and holds it against the screens and codes of the
// kiosk and, unless it is the model itself, against the model language.
func Parse(b []byte) (*Catalog, error) {
	f, err := decode(b)
	if err != nil {
		return nil, err
	}
	if f.Code == "" || f.Name == "" {
		return nil, errors.New("catalogue: no code or no name")
	}
	for _, s := range kiosk.Screens() {
		if _, ok := f.Screens[s]; !ok {
			return nil, fmt.Errorf("catalogue: no sentences for screen %q", s)
		}
	}
	for _, c := range kiosk.Codes() {
		if _, ok := f.Troubles[c]; !ok {
			return nil, fmt.Errorf("catalogue: no sentences for code %q", c)
		}
	}
	if f.Code == model {
		return &Catalog{f}, f.matches(f)
	}
	m, err := files.ReadFile(model + ".json")
	if err != nil {
		return nil, fmt.Errorf("catalogue: %w", err)
	}
	want, err := decode(m)
	if err != nil {
		return nil, err
	}
	if err := f.matches(want); err != nil {
		return nil, err
	}
	return &Catalog{f}, nil
}

func decode(b []byte) (file, error) {
	var f file
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&f); err != nil {
		return file{}, fmt.Errorf("catalogue: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return file{}, errors.New("catalogue: something follows it")
	}
	return f, nil
}

// matches demands the same keys as want has, no empty sentence, and the same
// placeholders in each.
func (f file) matches(want file) error {
	have := map[string]message{}
	f.each(func(key string, m message) { have[key] = m })
	var problem error
	want.each(func(key string, w message) {
		m, ok := have[key]
		delete(have, key)
		switch {
		case problem != nil:
		case !ok:
			problem = fmt.Errorf("catalogue: %q is missing", key)
		case strings.TrimSpace(m.one) == "" || strings.TrimSpace(m.other) == "":
			problem = fmt.Errorf("catalogue: %q is empty", key)
		case !slices.Equal(placeholders(m.other), placeholders(w.other)):
			problem = fmt.Errorf("catalogue: %q has other placeholders than the model", key)
		case m.one != m.other && !slices.Contains(placeholders(w.other), "{count}") && w.one == w.other:
			problem = fmt.Errorf("catalogue: %q has forms for a count that it is never given", key)
		}
	})
	for key := range have {
		if problem == nil {
			problem = fmt.Errorf("catalogue: %q is not in the model", key)
		}
	}
	return problem
}

func placeholders(s string) []string {
	p := placeholder.FindAllString(s, -1)
	slices.Sort(p)
	return slices.Compact(p)
}

// each visits every sentence under a key of the form "actions/retry", in order.
func (f file) each(visit func(key string, m message)) {
	for _, k := range slices.Sorted(maps.Keys(f.Screens)) {
		visit("screens/"+string(k)+"/title", plain(f.Screens[k].Title))
		visit("screens/"+string(k)+"/instruction", plain(f.Screens[k].Instruction))
	}
	for _, k := range slices.Sorted(maps.Keys(f.Guardian)) {
		visit("guardian/"+string(k)+"/title", plain(f.Guardian[k].Title))
		visit("guardian/"+string(k)+"/instruction", plain(f.Guardian[k].Instruction))
	}
	group("actions/", f.Actions, plain, visit)
	group("steps/", f.Steps, plain, visit)
	group("statuses/", f.Statuses, plain, visit)
	group("checks/", f.Checks, plain, visit)
	group("receipts/", f.Receipts, plain, visit)
	group("outcomes/", f.Outcomes, plain, visit)
	group("verdicts/", f.Verdicts, plain, visit)
	group("lacks/", f.Lacks, plain, visit)
	group("pin/", f.PIN, same, visit)
	group("devices/", f.Devices, plain, visit)
	group("readers/", f.Readers, plain, visit)
	for _, k := range slices.Sorted(maps.Keys(f.Bring)) {
		group("bring/"+string(k)+"/", f.Bring[k], plain, visit)
	}
	group("take/", f.Take, plain, visit)
	group("items/", f.Items, plain, visit)
	for _, k := range slices.Sorted(maps.Keys(f.Standings)) {
		visit("standings/"+string(k)+"/name", plain(f.Standings[k].Name))
		visit("standings/"+string(k)+"/means", plain(f.Standings[k].Means))
	}
	group("rejections/", f.Rejections, plain, visit)
	group("advices/", f.Advices, plain, visit)
	group("endings/", f.Endings, plain, visit)
	group("labels/", f.Labels, same, visit)
	for _, k := range slices.Sorted(maps.Keys(f.Troubles)) {
		t := f.Troubles[k]
		visit("troubles/"+string(k)+"/headline", t.Headline)
		visit("troubles/"+string(k)+"/do", t.Do)
		visit("troubles/"+string(k)+"/safe", t.Safe)
		visit("troubles/"+string(k)+"/staff", t.Staff)
	}
}

func group[K ~string, V any](prefix string, m map[K]V, form func(V) message, visit func(string, message)) {
	for _, k := range slices.Sorted(maps.Keys(m)) {
		visit(prefix+string(k), form(m[k]))
	}
}

func plain(s string) message { return message{s, s} }
func same(m message) message { return m }
