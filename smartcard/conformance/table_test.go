package conformance

import (
	"encoding/csv"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

var table = flag.Bool("table", false, "print the table: id, expected, got")

// row is a line of the plan.
type row struct{ id, expect, priority, basis, correction string }

func plan(t *testing.T) []row {
	t.Helper()
	f, err := os.Open("testdata/tr-03105-5.1.csv")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	lines, err := csv.NewReader(f).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	var rows []row
	for _, l := range lines[1:] {
		at := func(name string) string { return l[slices.Index(lines[0], name)] }
		rows = append(rows, row{at("id"), at("expect"), at("priority"), at("basis"), at("correction")})
	}
	return rows
}

// cases are all cases by their row.
func cases() map[string][]test {
	byRow := map[string][]test{}
	for _, list := range [][]test{
		applicationTests(), channelTests(), readingTests(), chipTests(), terminalTests(), activeTests(), paceTests(), keyTests(),
		mappingTests(), comTests(), zoneTests(), faceTests(), infosTests(), masterTests(), objectTests(), signerTests(), algorithmTests(),
	} {
		for _, c := range list {
			byRow[c.row] = append(byRow[c.row], c)
		}
	}
	return byRow
}

func TestEveryRowHasACase(t *testing.T) {
	all := cases()
	for _, r := range plan(t) {
		if r.priority == "must" && len(all[r.id]) == 0 {
			t.Errorf("%s: no case", r.id)
		}
		if r.correction != "" && r.basis != "inferred" {
			t.Errorf("%s: corrected, though the outcome stands in the plan", r.id)
		}
		delete(all, r.id)
	}
	for id := range all {
		t.Errorf("%s: a case, but no row", id)
	}
}

// line is what the table shows of a row.
type line struct {
	row
	got, why []string
	ok       bool
}

func TestConformance(t *testing.T) {
	all := cases()
	controlled := map[string]bool{} // bases by name
	var lines []*line
	for _, r := range plan(t) {
		if len(all[r.id]) == 0 {
			continue
		}
		t.Run(r.id, func(t *testing.T) {
			l := &line{row: r}
			lines = append(lines, l)
			for _, c := range all[r.id] {
				if !controlled[c.base.name] {
					controlled[c.base.name] = true
					c.base.control(t)
				}
				got, why := c.run(t)
				if got != r.expect {
					t.Errorf("%s: %s (%s), want %s", c.what, got, why, r.expect)
				}
				l.got, l.why = join(l.got, got), join(l.why, why)
			}
			l.ok = !t.Failed()
		})
	}
	if *table {
		show(lines)
	}
}

// join adds what is not there yet.
func join(list []string, s string) []string {
	if s == "" || slices.Contains(list, s) {
		return list
	}
	return append(list, s)
}

func show(lines []*line) {
	type total struct{ rows, ok int }
	totals := map[string]*total{"must": {}, "optional": {}}
	fmt.Printf("%-14s %-38s %-38s %-4s %s\n", "id", "expected", "got", "ok", "why")
	for _, l := range lines {
		n, ok := totals[l.priority], "ok"
		n.rows++
		if l.ok {
			n.ok++
		} else {
			ok = "FAIL"
		}
		fmt.Printf("%-14s %-38s %-38s %-4s %s\n", l.id, l.expect, strings.Join(l.got, " / "), ok, strings.Join(l.why, ", "))
	}
	for _, priority := range []string{"must", "optional"} {
		fmt.Printf("%s: %d rows, %d as expected\n", priority, totals[priority].rows, totals[priority].ok)
	}
}
