package words

import (
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"enrollkiosk/kiosk"
)

func open(t *testing.T, language string) *Catalog {
	t.Helper()
	c, err := Open(language)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestEveryLanguageOpens(t *testing.T) {
	names := map[string]bool{}
	for _, l := range Languages() {
		c := open(t, l)
		if c.Code() != l || names[c.Name()] {
			t.Errorf("%s: code %q, name %q", l, c.Code(), c.Name())
		}
		names[c.Name()] = true
	}
	found, err := filepath.Glob("*.json")
	if err != nil || len(found) != len(Languages()) {
		t.Errorf("files %v for languages %v (%v)", found, Languages(), err)
	}
	if _, err := Open("xx"); !errors.Is(err, ErrLanguage) {
		t.Errorf("Open of an unknown language: %v", err)
	}
}

// constants returns the values of the string constants of each type that the
// Go files in dir declare.
func constants(t *testing.T, dir string) map[string][]string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("no Go files in %s (%v)", dir, err)
	}
	found := map[string][]string{}
	for _, path := range paths {
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			spec, ok := n.(*ast.ValueSpec)
			if !ok || spec.Type == nil || len(spec.Values) != 1 {
				return true
			}
			name, ok1 := spec.Type.(*ast.Ident)
			lit, ok2 := spec.Values[0].(*ast.BasicLit)
			if ok1 && ok2 && lit.Kind == token.STRING {
				v, err := strconv.Unquote(lit.Value)
				if err != nil {
					t.Fatal(err)
				}
				found[name.Name] = append(found[name.Name], v)
			}
			return true
		})
	}
	return found
}

// The catalogue has a sentence for each constant of the kiosk and no other.
func TestNothingMissingNothingUnused(t *testing.T) {
	k, own := constants(t, ".."), constants(t, ".")
	f := open(t, model).f
	same := func(what string, have []string, want []string) {
		t.Helper()
		want = slices.DeleteFunc(slices.Clone(want), func(s string) bool { return s == "" })
		if len(want) == 0 {
			t.Errorf("%s: no constants found", what)
		}
		slices.Sort(want)
		slices.Sort(have)
		if !slices.Equal(have, want) {
			t.Errorf("%s: catalogue has %v, want %v", what, have, want)
		}
	}
	same("screens", keys(f.Screens), k["Screen"])
	for screen := range f.Guardian {
		if _, ok := f.Screens[screen]; !ok {
			t.Errorf("guardian: %s is no screen", screen)
		}
	}
	same("actions", keys(f.Actions), k["Action"])
	same("steps", keys(f.Steps), k["StepName"])
	same("statuses", keys(f.Statuses), k["StepStatus"])
	same("checks", keys(f.Checks), k["CheckName"])
	same("verdicts", keys(f.Verdicts), k["Verdict"])
	same("receipts", keys(f.Receipts), k["ReceiptKind"])
	same("outcomes", keys(f.Outcomes), k["Standing"])
	same("lacks", keys(f.Lacks), k["Lack"])
	same("pin problems", keys(f.PIN), k["PINProblem"])
	same("devices", keys(f.Devices), k["Device"])
	same("readers", keys(f.Readers), k["ReaderState"])
	for d, b := range f.Bring {
		same("bring "+string(d), keys(b), k["ReaderState"])
	}
	same("codes", keys(f.Troubles), k["Code"])
	same("standings", keys(f.Standings), k["Standing"])
	same("rejections", keys(f.Rejections), k["Rejection"])
	same("advices", keys(f.Advices), k["Advice"])
	same("endings", keys(f.Endings), k["Ending"])
	same("labels", keys(f.Labels), own["Label"])
	if len(kiosk.Codes()) != len(k["Code"]) || len(kiosk.Screens()) != len(k["Screen"]) {
		t.Errorf("kiosk lists %d of %d codes and %d of %d screens",
			len(kiosk.Codes()), len(k["Code"]), len(kiosk.Screens()), len(k["Screen"]))
	}
}

func keys[K ~string, V any](m map[K]V) []string {
	var s []string
	for k := range maps.Keys(m) {
		s = append(s, string(k))
	}
	return s
}

// Every label is used by the window, the terminal or on paper.
func TestEveryLabelIsUsed(t *testing.T) {
	var code strings.Builder
	for _, dir := range []string{"../../ui", "../cmd", "../paper"} {
		err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
			if err != nil || d.IsDir() || filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") {
				return err
			}
			b, err := os.ReadFile(path)
			code.Write(b)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	own, err := os.ReadFile("day.go")
	if err != nil {
		t.Fatal(err)
	}
	f, err := parser.ParseFile(token.NewFileSet(), "labels.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(f, func(n ast.Node) bool {
		if spec, ok := n.(*ast.ValueSpec); ok {
			name := spec.Names[0].Name
			if !regexp.MustCompile(`words\.`+name+`\b`).MatchString(code.String()) && !regexp.MustCompile(`\b`+name+`\b`).Match(own) {
				t.Errorf("label %s is used nowhere", name)
			}
		}
		return true
	})
}

// A catalogue with any sentence taken out, emptied, renamed or given another
// placeholder is refused.
func TestDamagedCataloguesAreRefused(t *testing.T) {
	b, err := os.ReadFile("zh.json")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Parse(b); err != nil {
		t.Fatal(err)
	}
	if _, err := Parse(append(slices.Clone(b), '{', '}')); err == nil {
		t.Error("took trailing bytes")
	}
	var whole map[string]any
	if err := json.Unmarshal(b, &whole); err != nil {
		t.Fatal(err)
	}
	tried := 0
	refused := func(what string) {
		t.Helper()
		tried++
		d, err := json.Marshal(whole)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Parse(d); err == nil {
			t.Errorf("took a catalogue with %s", what)
		}
	}
	var walk func(path string, m map[string]any)
	walk = func(path string, m map[string]any) {
		for _, k := range slices.Sorted(maps.Keys(m)) {
			v := m[k]
			if path != "" && !strings.HasSuffix(path, "/count") {
				delete(m, k)
				if k != "one" && k != "other" {
					refused(path + k + " missing")
				}
				m[k] = v
			}
			switch v := v.(type) {
			case map[string]any:
				walk(path+k+"/", v)
			case string:
				if path == "" || k == "one" {
					continue
				}
				m[k] = " "
				refused(path + k + " empty")
				m[k] = v + "{other}"
				refused(path + k + " with a placeholder")
				m[k] = v
			}
		}
		if path != "" {
			m["surplus"] = "x"
			refused(path + "surplus")
			delete(m, "surplus")
		}
	}
	// One screen, one action, one label and one trouble stand for all: the loader
	// treats them alike, and a whole walk parses thousands of times.
	for group, only := range map[string]string{"screens": "home", "actions": "retry", "labels": "page-of", "troubles": "K-TOKEN-07", "pin": "wrong", "bring": "token"} {
		g := whole[group].(map[string]any)
		one := g[only]
		if m, ok := one.(map[string]any); ok {
			walk(group+"/"+only+"/", m)
		}
		delete(g, only)
		refused(group + " without " + only)
		g[only] = one
		g["surplus"] = one
		refused(group + " with a surplus member")
		delete(g, "surplus")
	}
	if d, _ := json.Marshal(whole); tried < 30 {
		t.Errorf("only %d damaged catalogues tried", tried)
	} else if _, err := Parse(d); err != nil {
		t.Errorf("the undamaged catalogue is refused: %v", err)
	}
}

func TestNoKeyTwice(t *testing.T) {
	for _, l := range Languages() {
		b, err := os.ReadFile(l + ".json")
		if err != nil {
			t.Fatal(err)
		}
		d := json.NewDecoder(strings.NewReader(string(b)))
		if err := unique(d); err != nil {
			t.Errorf("%s: %v", l, err)
		}
	}
}

func unique(d *json.Decoder) error {
	tok, err := d.Token()
	if err != nil || tok != json.Delim('{') {
		return err
	}
	seen := map[json.Token]bool{}
	for d.More() {
		k, err := d.Token()
		if err != nil {
			return err
		}
		if seen[k] {
			return fmt.Errorf("%q stands twice", k)
		}
		seen[k] = true
		if err := unique(d); err != nil {
			return err
		}
	}
	_, err = d.Token()
	return err
}

func TestSentencesAreFilled(t *testing.T) {
	for _, l := range Languages() {
		c := open(t, l)
		for _, code := range kiosk.Codes() {
			for left := range 4 {
				tr := c.Trouble(kiosk.Fault{Code: code, Left: left})
				for _, s := range []string{tr.Headline, tr.Do, tr.Safe, tr.Staff} {
					if s == "" || strings.ContainsAny(s, "{}") {
						t.Errorf("%s %s: %q", l, code, s)
					}
				}
			}
		}
		for _, p := range []kiosk.PINProblem{kiosk.PINTooShort, kiosk.PINTooLong, kiosk.PINTooEasy, kiosk.PINDifferent, kiosk.PINWrong, kiosk.PINNotDigits,
			kiosk.PINMistyped, kiosk.PINUnknown, kiosk.PINKeyWrong, kiosk.PINLastTry, kiosk.PINOwnWrong, kiosk.PINOwnLast, kiosk.PINNoCode, kiosk.PINNoNote} {
			if s := c.Problem(kiosk.PINView{Min: 6, Max: 8, Problem: p, Left: 2}); s == "" || strings.ContainsAny(s, "{}") {
				t.Errorf("%s %s: %q", l, p, s)
			}
		}
		if c.Problem(kiosk.PINView{}) != "" {
			t.Error("a problem where there is none")
		}
		internal := c.Trouble(kiosk.Fault{Code: kiosk.CodeInternal})
		if got := c.Trouble(kiosk.Fault{Code: "K-UNHEARD-OF"}); got != internal {
			t.Errorf("unknown code: %+v", got)
		}
	}
	en := open(t, "en")
	if s := en.Trouble(kiosk.Fault{Code: kiosk.CodeOfficerWrongPIN, Left: 1}).Headline; !strings.Contains(s, "1 try left") {
		t.Error(s)
	}
	alone, guarded := kiosk.State{Screen: kiosk.ScreenReview}, kiosk.State{Screen: kiosk.ScreenReview, Guardian: &kiosk.GuardianView{}}
	if a, _ := en.Heading(alone); a != en.Title(kiosk.ScreenReview) {
		t.Errorf("without a guardian: %q", a)
	}
	if g, _ := en.Heading(guarded); g == en.Title(kiosk.ScreenReview) {
		t.Errorf("to a guardian: %q", g)
	}
	if s := en.Label(StepOf, Args{"position": 3, "positions": 8}); s != "Step 3 of 8" {
		t.Error(s)
	}
}

// What citizens read: short sentences, no jargon, no begging.
func TestPlainLanguage(t *testing.T) {
	jargon := regexp.MustCompile(`(?i)\b(APDU|PUK|AID|PIV|TPM|invalid|error|please|sorry|oops)\b`)
	officers := regexp.MustCompile(`/staff$`)
	open(t, "en").f.each(func(key string, m message) {
		for _, s := range []string{m.one, m.other} {
			if officers.MatchString(key) {
				continue
			}
			if j := jargon.FindString(s); j != "" {
				t.Errorf("%s: %q says %q", key, s, j)
			}
			for _, sentence := range regexp.MustCompile(`[.?!:]( |$)`).Split(s, -1) {
				if n := len(strings.Fields(sentence)); n > 20 {
					t.Errorf("%s: %d words in %q", key, n, sentence)
				}
			}
		}
	})
}

// docs/errors.md has one row for each code, with the sentence people read.
func TestErrorsAreDocumented(t *testing.T) {
	b, err := os.ReadFile("../../docs/errors.md")
	if err != nil {
		t.Fatal(err)
	}
	row := regexp.MustCompile("(?m)^\\| `(K-[A-Z]+-[0-9]+)` \\| ([^|]+) \\| ([^|]+) \\| ([^|]+) \\|$")
	rows := map[kiosk.Code][]string{}
	for _, m := range row.FindAllStringSubmatch(string(b), -1) {
		if rows[kiosk.Code(m[1])] != nil {
			t.Errorf("%s stands twice", m[1])
		}
		rows[kiosk.Code(m[1])] = m[2:]
	}
	remedies := []string{"retry", "other-card", "staff", "start-over"}
	given := assigned(t)
	en := open(t, "en")
	for _, c := range kiosk.Codes() {
		r := rows[c]
		delete(rows, c)
		if r == nil {
			t.Errorf("%s is not documented", c)
			continue
		}
		tr := en.Trouble(kiosk.Fault{Code: c, Left: 2, Until: time.Date(2026, 5, 4, 10, 42, 0, 0, time.Local)})
		if want := tr.Headline + " " + tr.Do + " " + tr.Safe; r[2] != want {
			t.Errorf("%s: documented as %q, shown as %q", c, r[2], want)
		}
		if r[0] != tr.Staff || !slices.Contains(remedies, r[1]) {
			t.Errorf("%s: cause %q, remedy %q", c, r[0], r[1])
		}
		if g := given[c]; g != "" && g != r[1] {
			t.Errorf("%s: documented as %s, the kiosk says %s", c, r[1], g)
		}
	}
	for c := range rows {
		t.Errorf("%s is documented but no code", c)
	}
}

// assigned reads which remedy the kiosk's tables give each code.
func assigned(t *testing.T) map[kiosk.Code]string {
	t.Helper()
	b, err := os.ReadFile("../classify.go")
	if err != nil {
		t.Fatal(err)
	}
	constant := map[string]string{}
	f, err := os.ReadFile("../fault.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`(?m)^\t(Code\w+|Remedy\w+)\s+(?:Code|Remedy)\s+= "([^"]+)"`).FindAllStringSubmatch(string(f), -1) {
		constant[m[1]] = m[2]
	}
	given := map[kiosk.Code]string{}
	for _, m := range regexp.MustCompile(`\{\w+(?:\.\w+)?, (Code\w+), (Remedy\w+)\}`).FindAllStringSubmatch(string(b), -1) {
		given[kiosk.Code(constant[m[1]])] = constant[m[2]]
	}
	if len(given) < 20 {
		t.Fatalf("only %d remedies found in classify.go", len(given))
	}
	return given
}
