package paper_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"enrollkiosk/kiosk"
	"enrollkiosk/kiosk/paper"
	"enrollkiosk/kiosk/words"
)

// fullDay is a day on which everything happened.
func fullDay() kiosk.DayView {
	v := kiosk.DayView{At: time.Date(2026, 5, 4, 17, 5, 0, 0, time.Local), Officer: "40771", Delivered: 118, Refused: 27, Waiting: 1345, SetAside: 36,
		Own: kiosk.DayCounts{Enrolled: 61, Second: 48}, All: kiosk.DayCounts{Enrolled: 133, Second: 119, Ended: map[kiosk.Ending]int{}, Faults: map[kiosk.Code]int{}},
		Alarms: []kiosk.Code{kiosk.CodeSplitView, kiosk.CodeCertificateEnds}}
	for i, e := range kiosk.Endings() {
		v.All.Ended[e] = 210 + i
	}
	for i, c := range kiosk.Codes() {
		v.All.Faults[c] = 1 + i
	}
	return v
}

// The summary of the fullest day is one page on which readers of PDF find every
// figure, in every language, and nothing is drawn outside of its margins.
func TestDay(t *testing.T) {
	plain := strings.NewReplacer("\u200b", "", " ", "", "\n", "", "\f", "")
	for _, language := range words.Languages() {
		t.Run(language, func(t *testing.T) {
			c, v := catalogue(t, language), fullDay()
			pdf, err := paper.Day(c, v, "KIOSK-0001", true)
			if err != nil {
				t.Fatal(err)
			}
			again, err := paper.Day(c, v, "KIOSK-0001", true)
			if err != nil || string(again) != string(pdf) {
				t.Errorf("not the same twice (%v)", err)
			}
			path := filepath.Join(t.TempDir(), "day.pdf")
			if err := os.WriteFile(path, pdf, 0o600); err != nil {
				t.Fatal(err)
			}
			if info := run(t, "pdfinfo", path); !strings.Contains(info, "Pages:           1\n") || !strings.Contains(info, "A4") {
				t.Errorf("not one page of A4:\n%s", info)
			}
			text := plain.Replace(run(t, "pdftotext", "-raw", path, "-"))
			want := []string{c.Label(words.App, nil), c.Label(words.Training, nil), c.Title(kiosk.ScreenDay), "2026-05-04 17:05", "KIOSK-0001", "40771",
				c.Label(words.DayOwn, nil), c.Label(words.DayAll, nil), c.Label(words.DayToDo, nil)}
			rows := c.Day(v)
			if len(rows) < 20 {
				t.Errorf("%d rows", len(rows))
			}
			for _, r := range rows {
				want = append(want, r.Name, r.Own, r.All)
			}
			for _, w := range append(want, c.ToDo(v)...) {
				if !strings.Contains(text, plain.Replace(w)) {
					t.Errorf("no %q in %q", w, text)
				}
			}
			for _, m := range regexp.MustCompile(`<word [^>]*(yMax)="([0-9.]+)"`).FindAllStringSubmatch(run(t, "pdftotext", "-bbox", path, "-"), -1) {
				if at, err := strconv.ParseFloat(m[2], 64); err != nil || at > 800 {
					t.Errorf("a word reaches to %s", m[0])
				}
			}
		})
	}
}

// A quiet day says that nothing is left to do, and has no row of what never happened.
func TestQuietDay(t *testing.T) {
	c := catalogue(t, "en")
	v := kiosk.DayView{At: time.Now(), Officer: "1", Own: kiosk.DayCounts{Enrolled: 2}, All: kiosk.DayCounts{Enrolled: 3}, Delivered: 3}
	if todo := c.ToDo(v); len(todo) != 1 || todo[0] != c.Label(words.ToDoNothing, nil) {
		t.Errorf("to do: %q", todo)
	}
	if rows := c.Day(v); len(rows) != 6 {
		t.Errorf("%d rows: %+v", len(rows), rows)
	}
	v.Waiting, v.SetAside = 1, 2
	if todo := c.ToDo(v); len(todo) != 2 || !strings.HasPrefix(todo[0], "1 record waits") || !strings.HasPrefix(todo[1], "2 records are set aside") {
		t.Errorf("to do: %q", todo)
	}
}
