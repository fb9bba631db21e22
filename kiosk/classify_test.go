package kiosk

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"regexp"
	"slices"
	"testing"
	"time"

	"enrollkiosk/hsm"
	"enrollkiosk/hsm/attest"
)

// What docs/errors.md says of the devices' errors is all there is, and what
// people are shown.
func TestDeviceErrors(t *testing.T) {
	text, err := os.ReadFile("../docs/errors.md")
	if err != nil {
		t.Fatal(err)
	}
	errs := map[string]error{
		"hsm.WrongPIN{Left}": &hsm.WrongPIN{Left: 2}, "hsm.ErrPINBlocked": hsm.ErrPINBlocked, "hsm.ErrPUKBlocked": hsm.ErrPUKBlocked,
		"hsm.ErrTouchTimeout": hsm.ErrTouchTimeout, "hsm.ErrRemoved": hsm.ErrRemoved, "hsm.ErrNoDevice": hsm.ErrNoDevice, "hsm.ErrBusy": hsm.ErrBusy,
		"hsm.ErrNotPIV": hsm.ErrNotPIV, "hsm.ErrCannotAttest": hsm.ErrCannotAttest, "hsm.ErrNotFactoryNew": hsm.ErrNotFactoryNew,
		"hsm.ErrFactoryCredentials": hsm.ErrFactoryCredentials, "hsm.ErrUnsupported": hsm.ErrUnsupported, "hsm.ErrUnavailable": hsm.ErrUnavailable,
		"hsm.ErrLockout": &hsm.Lockout{Until: time.Now()}, "attest.Error{Check}": &attest.Error{Check: attest.CheckChain},
	}
	rows := regexp.MustCompile("(?m)^\\| `((?:hsm|attest)\\.[^`]+)` \\|.*\\| (\\S+) \\| (\\S+) \\| (\\S+) \\|$").FindAllStringSubmatch(string(text), -1)
	for _, r := range rows {
		cause, known := errs[r[1]]
		if !known {
			t.Errorf("%s is documented and not tested", r[1])
			continue
		}
		delete(errs, r[1])
		wrapped := fmt.Errorf("a step: %w", cause)
		for i, f := range []func(error) *Fault{tokenFault, keyFault, officerFault} {
			if shown := "`" + string(f(wrapped).Code) + "`"; r[i+2] != "-" && r[i+2] != shown {
				t.Errorf("%s, column %d: shown as %s, documented %s", r[1], i+1, shown, r[i+2])
			}
		}
	}
	for name := range errs {
		t.Errorf("%s is not documented", name)
	}

	var exported []string
	for _, file := range []string{"../hsm/hsm.go", "../hsm/policy.go", "../hsm/algorithm.go"} {
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			if v, ok := n.(*ast.ValueSpec); ok {
				for _, name := range v.Names {
					if name.IsExported() && len(name.Name) > 3 && name.Name[:3] == "Err" {
						exported = append(exported, "hsm."+name.Name)
					}
				}
			}
			return true
		})
	}
	for _, name := range exported {
		if !slices.ContainsFunc(rows, func(r []string) bool { return r[1] == name }) {
			t.Errorf("%s is not documented", name)
		}
	}
	if len(exported) < 13 || len(rows) < 15 {
		t.Errorf("%d errors, %d rows: the test does not see them", len(exported), len(rows))
	}
}
