// Package enrollkiosk holds the test that keeps the direction of imports: it
// walks what the Go tool says of every package of the module.
package enrollkiosk

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "enrollkiosk/"

// allowed lists, for each package, what of the module and what third-party
// modules it may import directly. A name ending in "/..." stands for everything
// below it. The standard library, kiosk/secret and kiosk/durable are open to all.
var allowed = map[string][]string{
	"kiosk/secret":     {},
	"kiosk/durable":    {},
	"smartcard/apdu":   {},
	"smartcard/tlv":    {},
	"smartcard/pcsc":   {"smartcard/apdu", "github.com/ebfe/scard"},
	"smartcard/domain": {"github.com/osanderson/brainpool"},
	"smartcard/lds":    {"smartcard/tlv", "smartcard/domain"},
	"smartcard/icao":   {"smartcard/apdu", "smartcard/tlv", "smartcard/lds", "smartcard/domain", "github.com/aead/cmac"},
	"smartcard/trust":  {"smartcard/apdu", "smartcard/lds", "smartcard/tlv", "smartcard/domain"},
	"smartcard/beid":   {"smartcard/apdu", "smartcard/tlv"},
	"smartcard/prcid":  {"smartcard/portrait", "golang.org/x/sys/unix", "golang.org/x/image/..."},
	// One holder for every kind of document, and the procedures that read them.
	"smartcard/conformance": {}, // tests only
	"smartcard/identity":    {"smartcard/lds", "smartcard/trust", "smartcard/beid", "smartcard/prcid"},
	"smartcard/inspection":  {"smartcard/apdu", "smartcard/lds", "smartcard/icao", "smartcard/trust", "smartcard/beid", "smartcard/prcid", "smartcard/identity"},
	"smartcard/portrait":    {"golang.org/x/sys/unix", "golang.org/x/image/..."},

	"hsm":        {},
	"hsm/piv":    {"hsm", "smartcard/apdu", "smartcard/tlv", "github.com/go-piv/piv-go/v2/piv", "github.com/ebfe/scard"},
	"hsm/tpm":    {"hsm", "github.com/google/go-tpm/...", "golang.org/x/sys/unix"},
	"hsm/attest": {"hsm"},

	"registry/internal/canonical": {},
	"registry/record":             {"registry/internal/canonical", "github.com/go-jose/go-jose/v4"},
	"registry/checkpoint":         {"registry/internal/keyfile", "github.com/transparency-dev/formats/...", "golang.org/x/mod/sumdb/..."},
	"registry/checkpoint/logtest": {"registry/checkpoint", "github.com/transparency-dev/...", "golang.org/x/mod/sumdb/note"}, // tests only
	"registry/parcel":             {"registry/record", "registry/checkpoint", "registry/internal/canonical", "golang.org/x/sys/unix"},
	"registry/policy":             {"registry/record", "registry/parcel", "registry/checkpoint", "registry/internal/canonical", "golang.org/x/mod/sumdb/note"},
	"registry/receipt": {"registry/record", "registry/checkpoint", "registry/internal/canonical", "github.com/transparency-dev/formats/...",
		"github.com/transparency-dev/merkle/..."},
	"registry/expect": {"registry/policy", "hsm", "hsm/attest"},
	"registry/witness": {"registry/checkpoint", "registry/internal/...", "github.com/transparency-dev/formats/...",
		"github.com/transparency-dev/merkle/...", "golang.org/x/mod/sumdb/note"},
	"registry/audit":                     {"registry/checkpoint", "registry/receipt", "registry/internal/keyfile"},
	"registry/api":                       {"registry/record", "registry/checkpoint", "registry/receipt", "registry/parcel", "registry/internal/canonical"},
	"registry/credential":                {"github.com/go-jose/go-jose/v4"},
	"registry/credential/credentialtest": {"registry/credential"}, // tests only
	"registry/issuer":                    {"registry/credential", "registry/record"},
	"relyingparty":                       {"registry/credential"},
	"registry/vault": {"hsm/attest", "registry/credential", "registry/record", "registry/receipt", "registry/policy", "registry/api", "smartcard/lds", "smartcard/trust",
		"smartcard/identity", "smartcard/beid", "smartcard/prcid",
		"registry/internal/...", "go.etcd.io/bbolt/...", "github.com/prometheus/client_golang/...", "github.com/pelletier/go-toml/v2"},
	"registry": {"registry/credential", "registry/issuer", "registry/record", "registry/expect", "registry/parcel", "registry/checkpoint", "registry/receipt", "registry/policy", "registry/api", "registry/internal/canonical", "hsm", "hsm/attest",
		"go.etcd.io/bbolt/...", "github.com/jackc/pgx/v5/...", "github.com/prometheus/client_golang/...", "github.com/transparency-dev/...", "golang.org/x/mod/sumdb/note", "github.com/pelletier/go-toml/v2"},

	"sync/queue": {"go.etcd.io/bbolt/...", "golang.org/x/sys/unix"},
	"sync/client": {"registry/record", "registry/checkpoint", "registry/receipt", "registry/policy", "registry/api",
		"github.com/transparency-dev/...", "golang.org/x/mod/sumdb/note"},
	"sync/courier": {"sync/queue", "sync/client", "registry/record", "registry/receipt", "registry/policy", "registry/api"},

	"kiosk": {"registry/record", "registry/expect", "registry/policy", "registry/receipt", "registry/api", "smartcard/apdu", "smartcard/icao",
		"smartcard/lds", "smartcard/trust", "smartcard/identity", "smartcard/inspection", "smartcard/beid", "smartcard/prcid", "hsm", "hsm/attest", "sync/queue"},
	"kiosk/words":    {"kiosk"},
	"kiosk/typeface": {"golang.org/x/image/..."},
	"kiosk/qr":       {"github.com/skip2/go-qrcode"},
	"kiosk/paper":    {"kiosk", "kiosk/words", "kiosk/typeface", "kiosk/qr", "github.com/go-text/typesetting/...", "golang.org/x/image/..."},
	"kiosk/ipp":      {},
	"kiosk/wire":     {"kiosk", "golang.org/x/sys/unix"},
	// What both production mains and the demo start: drivers and delivery
	// plugged into the flow. No simulator, no Fyne.
	"kiosk/station": {"kiosk", "kiosk/wire", "kiosk/words", "kiosk/paper", "kiosk/ipp", "smartcard/...", "hsm/...", "hsm", "registry/record", "registry/expect", "registry/parcel", "registry/checkpoint", "registry/policy", "registry/receipt",
		"registry/api", "sync/...", "github.com/pelletier/go-toml/v2", "github.com/prometheus/client_golang/prometheus", "golang.org/x/sys/unix"},
	"holder":         {"holder/sitekey", "holder/store", "hsm", "hsm/piv", "registry/credential", "registry/record"},
	"holder/sitekey": {"github.com/cloudflare/circl/group"},
	"holder/store":   {},
	"holder/setup":   {"holder", "holder/sitekey", "holder/store", "hsm", "hsm/piv", "registry/credential", "smartcard/pcsc", "github.com/pelletier/go-toml/v2"},
	"holder/window":  {"holder", "hsm", "registry/credential", "kiosk/typeface", "ui", "fyne.io/fyne/v2/...", "fyne.io/fyne/v2"},

	"ui":         {"kiosk", "kiosk/wire", "kiosk/words", "kiosk/typeface", "kiosk/qr", "fyne.io/fyne/v2/...", "fyne.io/fyne/v2", "golang.org/x/image/..."},
	"ui/display": {"github.com/jezek/xgb/...", "github.com/jezek/xgb"},
	"ui/monitor": {},
	"ui/speech":  {},
	"ui/picture": {"ui", "kiosk", "kiosk/words", "fyne.io/fyne/v2/...", "fyne.io/fyne/v2"},
}

type pkg struct {
	ImportPath string
	Name       string
	Imports    []string
	Deps       []string
	Standard   bool
}

func list(t *testing.T, args ...string) []pkg {
	t.Helper()
	out, err := exec.Command("go", append([]string{"list", "-json=ImportPath,Name,Imports,Deps,Standard"}, args...)...).Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			t.Fatalf("go list: %s", exit.Stderr)
		}
		t.Fatal(err)
	}
	var all []pkg
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		if err := dec.Decode(&p); err == io.EOF {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

func TestImportDirection(t *testing.T) {
	for _, p := range list(t, "./...") {
		path := strings.TrimPrefix(p.ImportPath, module)
		if p.Name == "main" || strings.HasPrefix(path, "simulators/") || path == "enrollkiosk" || strings.Contains(path, "/internal/") && allowed[path] == nil {
			continue
		}
		rules, known := allowed[path]
		if !known {
			t.Errorf("%s has no row in the import table: say what it may import", path)
			continue
		}
		for _, imp := range p.Imports {
			if standard(imp) || imp == module+"kiosk/secret" || imp == module+"kiosk/durable" || strings.HasPrefix(imp, p.ImportPath+"/internal/") {
				continue
			}
			if !slices.ContainsFunc(rules, func(rule string) bool { return matches(rule, imp) }) {
				t.Errorf("%s imports %s, which its row does not allow", path, imp)
			}
		}
	}
}

// Simulators speak bytes: of the module they may know APDUs and one another,
// and simulators/network the registry that it stands in front of. What lies
// below simulators/cmd only wires them to the real thing.
func TestSimulatorsKnowNothingOfTheirSubject(t *testing.T) {
	for _, p := range list(t, "./simulators/...") {
		if p.Name == "main" || strings.HasPrefix(p.ImportPath, module+"simulators/cmd/") {
			continue
		}
		for _, imp := range p.Imports {
			path, ours := strings.CutPrefix(imp, module)
			ok := !ours || path == "smartcard/apdu" || strings.HasPrefix(path, "simulators/") ||
				strings.HasPrefix(p.ImportPath, module+"simulators/network") && strings.HasPrefix(path, "registry")
			if !ok {
				t.Errorf("%s imports %s", p.ImportPath, path)
			}
		}
	}
}

func TestProductionReachesNoSimulatorAndNoFyneOutsideTheWindow(t *testing.T) {
	for _, p := range list(t, "./kiosk/...", "./registry/...", "./relyingparty/...", "./hsm/...", "./smartcard/...", "./sync/...", "./ui/...", "./holder/...") {
		window := p.ImportPath == module+"kiosk/cmd/kiosk-window" || p.ImportPath == module+"holder/cmd/holder-window"
		screens := window || strings.HasPrefix(p.ImportPath+"/", module+"ui/") || p.ImportPath == module+"holder/window"
		for _, dep := range p.Deps {
			if strings.HasPrefix(dep, module+"simulators/") {
				t.Errorf("%s reaches %s", p.ImportPath, dep)
			}
			if strings.HasPrefix(dep, "fyne.io/") && !screens {
				t.Errorf("%s reaches %s", p.ImportPath, dep)
			}
			if dep == "fyne.io/fyne/v2/app" && !window {
				t.Errorf("%s reaches %s: only a window's main may", p.ImportPath, dep)
			}
		}
	}
}

// hsm, smartcard and sync never reach one another, but for hsm/piv's use of the
// APDU and TLV codecs.
func TestDeviceTreesStayApart(t *testing.T) {
	trees := []string{"smartcard/", "hsm/", "sync/"}
	for _, p := range list(t, "./smartcard/...", "./hsm/...", "./sync/...") {
		own := strings.TrimPrefix(p.ImportPath, module) + "/"
		for _, dep := range p.Deps {
			dep, ours := strings.CutPrefix(dep, module)
			if !ours || own == "hsm/piv/" && (dep == "smartcard/apdu" || dep == "smartcard/tlv") {
				continue
			}
			for _, tree := range trees {
				if strings.HasPrefix(dep+"/", tree) && !strings.HasPrefix(own, tree) {
					t.Errorf("%s reaches %s", own, dep)
				}
			}
		}
	}
}

func standard(path string) bool {
	first, _, _ := strings.Cut(path, "/")
	return !strings.Contains(first, ".") && first != "enrollkiosk"
}

func matches(rule, imp string) bool {
	if first, _, _ := strings.Cut(rule, "/"); !strings.Contains(first, ".") {
		rule = module + rule
	}
	if prefix, ok := strings.CutSuffix(rule, "/..."); ok {
		return strings.HasPrefix(imp, prefix+"/") || imp == prefix
	}
	return imp == rule
}
