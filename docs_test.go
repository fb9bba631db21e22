package enrollkiosk

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// BUILD.md names every direct dependency, and says which ones only tests need.
func TestDependencyTable(t *testing.T) {
	b, err := exec.Command("go", "mod", "edit", "-json").Output()
	if err != nil {
		t.Fatal(err)
	}
	var mod struct {
		Require []struct {
			Path     string
			Indirect bool
		}
		Tool []struct{ Path string }
	}
	if err := json.Unmarshal(b, &mod); err != nil {
		t.Fatal(err)
	}
	production := map[string]bool{}
	for _, p := range list(t, "./...") {
		for _, imp := range p.Imports {
			production[imp] = true
		}
	}
	used := func(module string) bool {
		for imp := range production {
			if imp == module || strings.HasPrefix(imp, module+"/") {
				return true
			}
		}
		return false
	}
	var want []string
	for _, r := range mod.Require {
		switch {
		case slices.ContainsFunc(mod.Tool, func(tool struct{ Path string }) bool { return strings.HasPrefix(tool.Path, r.Path+"/") }):
			want = append(want, r.Path+" tool")
		case r.Indirect:
		case used(r.Path):
			want = append(want, r.Path)
		default:
			want = append(want, r.Path+" tests")
		}
	}
	var got []string
	rows := regexp.MustCompile(`(?m)^\| ([a-z0-9.-]+\.[a-z0-9]+/\S+)(?: \((tests|tool|pinned)\))? \|`)
	for _, m := range rows.FindAllStringSubmatch(read(t, "BUILD.md"), -1) {
		if m[2] == "tests" || m[2] == "tool" {
			m[1] += " " + m[2]
		}
		got = append(got, m[1])
	}
	slices.Sort(want)
	slices.Sort(got)
	for _, m := range want {
		if !slices.Contains(got, m) {
			t.Errorf("BUILD.md does not list %s", m)
		}
	}
	for _, m := range got {
		if !slices.Contains(want, m) {
			t.Errorf("BUILD.md lists %s, which go.mod does not", m)
		}
	}
}

// Every relative link in the documents leads somewhere.
func TestLinks(t *testing.T) {
	files, err := filepath.Glob("docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	link := regexp.MustCompile(`\]\(([^)#\s]+)(?:#[^)]*)?\)`)
	n := 0
	for _, file := range append(files, "README.md", "BUILD.md", "CHANGELOG.md") {
		for _, m := range link.FindAllStringSubmatch(read(t, file), -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			n++
			if info, err := os.Stat(filepath.Join(filepath.Dir(file), m[1])); err != nil || info.Size() == 0 {
				t.Errorf("%s links to %s: %v", file, m[1], err)
			}
		}
	}
	if n < 10 {
		t.Errorf("%d links: the test does not see them", n)
	}
}

func read(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
