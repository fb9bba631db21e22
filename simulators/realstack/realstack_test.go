//go:build realstack

package realstack

import (
	"bufio"
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"enrollkiosk/kiosk"
	"enrollkiosk/kiosk/words"
	"enrollkiosk/simulators/tpm"
)

var (
	binaries = flag.String("bin", "bin", "where the production binaries are")
	scripts  = flag.String("scripts", "scripts", "where verify-record is")
	texts    = flag.String("texts", "kiosk/station/texts", "the consent texts")
	results  = flag.String("out", "out/real-stack", "where record, receipt, timeline and logs go")
)

// needs are the programs of the real stack, and the Debian packages that have
// them.
var needs = map[string]string{"pcscd": "pcscd", "swtpm": "swtpm", "swtpm_setup": "swtpm-tools", "certtool": "gnutls-bin",
	"python3": "python3", "openssl": "openssl", "opensc-tool": "opensc"}

const driver = "/usr/lib/pcsc/drivers/serial/libifdvpcd.so"

// reader is a virtual reader of the real pcscd.
type reader struct {
	name string
	port int
}

var (
	idCardReader  = reader{"Station ID Card Reader", 35963}
	tokenReader   = reader{"Yubico YubiKey OTP+FIDO+CCID", 35979}
	officerReader = reader{"Station Officer Reader", 35995}
)

const officerPIN = "90417362"

// citizen is a person with the PIN that she chooses.
type citizen struct{ file, surname, given, number, can, pin string }

var citizens = []citizen{
	{"eriksson.txt", "ERIKSSON", "ANNA MARIA", "D23145890", "739105", "58203917"},
	{"lindqvist.txt", "LINDQVIST", "OSKAR EMIL", "K70918254", "462817", "71940286"},
}

func (c citizen) describe() string {
	return fmt.Sprintf("format: TD1\ncode: I\nissuer: UTO\nnumber: %s\nsurname: %s\ngiven names: %s\nnationality: UTO\nsex: X\nbirth: 1974-08-12\nexpiry: 2034-04-15\ncan: %s\n",
		c.number, c.surname, c.given, c.can)
}

func (c citizen) secrets() secrets {
	return secrets{"surname": c.surname, "given names": strings.ReplaceAll(c.given, " ", "<"), "first given name": strings.Fields(c.given)[0],
		"document number": c.number, "access number": c.can, "pin": c.pin}
}

func TestRealStack(t *testing.T) {
	l := setUp(t)
	began := time.Now()
	lap := func(what string) { t.Logf("%6.1f s  %s", time.Since(began).Seconds(), what) }

	issuers := l.in("issuers")
	l.run(0, "virtualhardware", "--make-authority", issuers)
	for _, c := range citizens {
		l.write(c.file, c.describe())
	}
	l.startReaders()
	chip, err := tpm.Start(t.Context(), l.in("swtpm"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { chip.Stop() })
	lap("pcscd and swtpm run")

	l.authorities(issuers, chip)
	config := l.write("kiosk.toml", kioskConfig(chip.Path()))
	l.provision(config)
	lap("kiosk provisioned")

	// Everything is in order but the registry, which does not run.
	if out, _ := l.run(5, "kiosk", "doctor", "--config", config); strings.Count(out, "FAIL") != 1 || !strings.Contains(out, "FAIL  registry") {
		t.Errorf("doctor without a registry:\n%s", out)
	}
	timeline := filepath.Join(*results, "timeline.jsonl")
	officer := l.plug("officer", officerReader, "--officer", filepath.Join(issuers, "officers/0001"), "--officer-pin", officerPIN)
	agent := l.startAgent(config, timeline)

	// The first citizen, while the registry is down.
	first := l.enroll(config, citizens[0])
	lap("first citizen enrolled, offline")
	if strings.Contains(first.transcript(), "c2sp.org/tlog-proof") {
		t.Error("a final receipt without a registry")
	}
	id := first.recordID()
	l.holds(config, id, "queued")
	record := filepath.Join(*results, "record.json")
	l.run(0, "kiosk", "queue", "show", id, "--config", config, "--record", record)
	l.run(4, "kiosk", "queue", "show", id, "--config", config, "--receipt", filepath.Join(*results, "none"))
	if out, _ := l.run(0, "kiosk", "record", "verify", record); !strings.Contains(out, id) {
		t.Errorf("record verify does not name the record:\n%s", out)
	}
	l.run(4, "kiosk", "record", "verify", l.tampered(record, `"kiosk"`, `"kiosK"`))
	if out, _ := l.run(5, "kiosk", "doctor", "--config", config); !strings.Contains(out, "1 waiting") {
		t.Errorf("doctor beside an agent:\n%s", out)
	}
	l.forbidsCore(agent)

	// The agent ends and starts, the registry comes: the record is delivered.
	l.stop(agent, 0)
	l.holds(config, id, "queued")
	vault := l.start("vault", "ready", filepath.Join(l.bin, "vault"), "serve", "--config", l.in("vault.toml"))
	registry := l.start("registry", "ready", filepath.Join(l.bin, "registry"), "serve", "--config", l.in("registry.toml"))
	agent = l.startAgent(config, timeline)
	l.await("the receipt", 20*time.Second, func() error { return l.state(config, id, "purged") })
	lap("delivered, receipt here, record purged")
	if b, err := os.ReadFile(l.in("kiosk", "registry-time")); err != nil || len(b) == 0 {
		t.Errorf("the registry's time is not kept: %v", err)
	}
	receipt, key := filepath.Join(*results, "receipt.tlog-proof"), filepath.Join(*results, "log.vkey")
	l.logKey(key)
	l.run(0, "kiosk", "queue", "show", id, "--config", config, "--receipt", receipt)
	l.run(4, "kiosk", "queue", "show", id, "--config", config, "--record", filepath.Join(*results, "none"))
	l.run(0, "kiosk", "receipt", "verify", receipt, "--log-key", key, "--id", id)
	l.run(4, "kiosk", "receipt", "verify", receipt, "--log-key", key, "--id", strings.Repeat("0", 64))
	l.run(0, filepath.Join(*scripts, "verify-record"), record, "--receipt", receipt, "--log-key", key)
	l.run(0, "kiosk", "doctor", "--config", config)

	// The second citizen, with everything there: the final receipt on the screen.
	second := l.enroll(config, citizens[1])
	lap("second citizen enrolled, with the final receipt")
	proof := second.proof()
	if err := os.WriteFile(filepath.Join(*results, "receipt-2.tlog-proof"), proof, 0o600); err != nil {
		t.Fatal(err)
	}
	l.run(0, "kiosk", "receipt", "verify", filepath.Join(*results, "receipt-2.tlog-proof"), "--log-key", key, "--id", second.recordID())
	l.await("the record's end", 10*time.Second, func() error { return l.state(config, second.recordID(), "purged") })
	l.reads(config, issuers)
	l.told(timeline)
	for _, s := range []*seat{first, second} {
		for _, pin := range []string{officerPIN, citizens[0].pin, citizens[1].pin, citizens[0].can, citizens[1].can} {
			if strings.Contains(s.transcript(), pin) {
				t.Error("a PIN or access number was shown in the terminal")
			}
		}
	}

	for _, p := range []*process{agent, registry, vault, officer} {
		l.stop(p, 0)
	}
	if err := chip.Stop(); err != nil {
		t.Error(err)
	}
	l.pcscd.cmd.Process.Signal(os.Interrupt)
	<-l.pcscd.exited
	l.nobodyLeft()
	l.canary()
	lap("done")
}

func setUp(t *testing.T) *lab {
	if os.Getpid() != 1 || os.Geteuid() != 0 {
		t.Fatal("run scripts/real-stack: this needs root and namespaces of its own")
	}
	for program, pkg := range needs {
		if _, err := exec.LookPath(program); err != nil {
			t.Fatalf("%s is missing: install the Debian package %s", program, pkg)
		}
	}
	if _, err := os.Stat(driver); err != nil {
		t.Fatalf("%v: install the Debian package vsmartcard-vpcd", err)
	}
	for _, p := range []*string{binaries, scripts, texts, results} {
		abs, err := filepath.Abs(*p)
		if err != nil {
			t.Fatal(err)
		}
		*p = abs
	}
	l := &lab{t: t, dir: t.TempDir(), bin: *binaries, logs: filepath.Join(*results, "logs")}
	for _, old := range []string{l.logs, filepath.Join(*results, "timeline.jsonl")} {
		if err := os.RemoveAll(old); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(l.logs, 0o755); err != nil {
		t.Fatal(err)
	}
	// Production programs are not led astray by their environment.
	l.env = append(os.Environ(), "PCSCLITE_CSOCK_NAME=/nowhere/pcscd.comm", "GOTRACEBACK=all")
	t.Cleanup(l.end)
	return l
}

// startReaders starts the real pcscd with three virtual readers.
func (l *lab) startReaders() {
	l.t.Helper()
	var conf strings.Builder
	code, err := os.ReadFile(driver)
	if err != nil {
		l.t.Fatal(err)
	}
	for i, r := range []reader{idCardReader, tokenReader, officerReader} {
		// The driver tells its readers apart by slot alone: each entry needs a
		// copy of it with variables of its own.
		copied := l.write(fmt.Sprintf("driver%d.so", i), string(code))
		fmt.Fprintf(&conf, "FRIENDLYNAME %q\nDEVICENAME /dev/null:0x%04X\nLIBPATH %s\nCHANNELID 0x%04X\n\n", r.name, r.port, copied, r.port)
	}
	file := l.write("reader.conf", conf.String())
	path, err := exec.LookPath("pcscd")
	if err != nil {
		l.t.Fatal(err)
	}
	l.pcscd = l.start("pcscd", "daemon ready", path, "--foreground", "--info", "-c", file)
	if out, _ := l.run(0, "/usr/bin/opensc-tool", "-l"); !strings.Contains(out, officerReader.name) {
		l.t.Fatalf("pcscd does not have the readers:\n%s", out)
	}
}

// plug puts a card into one of pcscd's readers, and returns when pcscd has seen
// it.
func (l *lab) plug(name string, r reader, card ...string) *process {
	l.t.Helper()
	inserted := "Card inserted into " + r.name
	before := strings.Count(l.pcscd.log.String(), inserted)
	p := l.start(name, "ready", filepath.Join(l.bin, "virtualhardware"),
		append([]string{"--authority", l.in("issuers"), "--vpcd", fmt.Sprintf("127.0.0.1:%d", r.port)}, card...)...)
	l.await(inserted, 5*time.Second, func() error {
		if strings.Count(l.pcscd.log.String(), inserted) == before {
			return fmt.Errorf("pcscd says:\n%s", l.pcscd.log)
		}
		return nil
	})
	return p
}

const policyFile = `version = 1
valid_days = 365
offline_days = 30
languages = ["en", "zh"]
files = [0x010E, 0x010F] # DG14, DG15
minimum_piv_firmware = "5.4.0"

[[anchors]]
file = "issuers/csca.der"
class = "test"
[[piv_roots]]
file = "issuers/piv-root.der"
class = "test"
[[officer_ca]]
file = "issuers/officers-ca.der"
class = "test"
[[officer_roles]]
unit = "Citizen Services"
roles = ["officer", "supervisor", "desk"]
[[tpm_roots]]
file = "tpm-issuer.der"
class = "test"
[[tpm_roots]]
file = "tpm-root.der"
class = "test"

[registry]
public = "registry/public.json"
class = "test"

[consents]
dir = %q
required = ["enrollment"]
`

// authorities sets up vault, registry and policy.
func (l *lab) authorities(issuers string, chip *tpm.Instance) {
	l.t.Helper()
	out, _ := l.run(0, "vault", "init", l.in("vault"))
	m := regexp.MustCompile(`(?m)^root ([0-9a-f]{64})$`).FindStringSubmatch(out)
	if m == nil {
		l.t.Fatalf("vault init names no root:\n%s", out)
	}
	root := m[1]
	l.run(0, "registry", "init", l.in("registry"), "--origin", "registry.utopia.example/log")
	for i, name := range []string{"tpm-issuer.der", "tpm-root.der"} {
		l.write(name, string(chip.Roots()[i]))
	}
	l.run(0, "vault", "policy", "sign", "--dir", l.in("vault"), "--in", l.write("policy.toml", fmt.Sprintf(policyFile, *texts)), "--out", l.in("policy.jws"))
	// Offline, as it should be.
	if err := os.Rename(l.in("vault", "authority-root.key"), l.in("authority-root.key")); err != nil {
		l.t.Fatal(err)
	}
	l.write("vault.toml", fmt.Sprintf("[vault]\ndir = \"vault\"\nlisten = \"127.0.0.1:8444\"\npolicy = \"policy.jws\"\nroot = %q\n[registry]\npublic = \"registry/public.json\"\n", root))
	l.write("registry.toml", fmt.Sprintf("[registry]\ndir = \"registry\"\nlisten = \"127.0.0.1:8443\"\npolicy = \"policy.jws\"\nroot = %q\ncheckpoint = \"200ms\"\n[vault]\nurl = \"https://127.0.0.1:8444\"\npublic = \"vault/public.json\"\n", root))
}

func kioskConfig(tpmPath string) string {
	return fmt.Sprintf(`[kiosk]
id = "KIOSK-0001"
state = "kiosk"
languages = ["en", "zh"]

[readers]
document = "ID Card Reader"
token = "YubiKey"
officer = "Officer Reader"

[tpm]
path = %q

[registry]
url = "https://127.0.0.1:8443"
`, tpmPath)
}

var fingerprint = regexp.MustCompile(`EK ((?:[0-9a-f]{4} ){7}[0-9a-f]{4})`)

// provision has the registry give out a code, the kiosk prove itself with it, and
// a person compare what both show. The registry runs for that long.
func (l *lab) provision(config string) {
	l.t.Helper()
	l.run(0, "kiosk", "config", "validate", "--config", config)
	l.run(2, "kiosk", "agent", "--config", config) // is not provisioned
	registry := l.start("registry-provisioning", "ready", filepath.Join(l.bin, "registry"), "serve", "--config", l.in("registry.toml"))
	code, _ := l.run(0, "registry", "kiosks", "code", "--config", l.in("registry.toml"), "--id", "KIOSK-0001")
	p := l.start("provision", "  EK ", "/bin/sh", "-c", `exec "$0" provision --code - --config "$1" <"$2"`, filepath.Join(l.bin, "kiosk"), config, l.write("code", code))
	shown := fingerprint.FindStringSubmatch(p.log.String())
	list, _ := l.run(0, "registry", "kiosks", "list", "--config", l.in("registry.toml"))
	seen := fingerprint.FindStringSubmatch(list)
	if shown == nil || seen == nil || shown[1] != seen[1] || !strings.Contains(list, "class test") {
		l.t.Fatalf("the kiosk shows\n%s\nthe registry\n%s", p.log, list)
	}
	l.run(4, "registry", "kiosks", "approve", "KIOSK-0001", "--ek", strings.Repeat("0000 ", 8), "--config", l.in("registry.toml"))
	l.run(0, "registry", "kiosks", "approve", "KIOSK-0001", "--ek", shown[1], "--config", l.in("registry.toml"))
	select {
	case <-p.exited:
	case <-time.After(20 * time.Second):
		l.t.Fatalf("kiosk provision does not end\n%s", p.log)
	}
	if got := p.cmd.ProcessState.ExitCode(); got != 0 || strings.Contains(p.log.String(), strings.TrimSpace(code)) {
		l.t.Fatalf("kiosk provision: exit code %d, or it shows the code\n%s", got, p.log)
	}
	l.run(0, "kiosk", "provision", "--code", strings.TrimSpace(code), "--config", config) // again: nothing changes
	if out, _ := l.run(0, "registry", "kiosks", "show", "KIOSK-0001", "--config", l.in("registry.toml")); !strings.Contains(out, "PCR 7") {
		l.t.Errorf("kiosks show:\n%s", out)
	}
	l.stop(registry, 0)
}

func (l *lab) startAgent(config, timeline string) *process {
	l.t.Helper()
	p := l.start("agent", "agent ready", filepath.Join(l.bin, "kiosk"), "agent", "--debug", "--timeline", timeline, "--config", config)
	l.await("the agent's socket", 10*time.Second, func() error {
		c, err := net.Dial("unix", l.in("kiosk", "agent.sock"))
		if err == nil {
			c.Close()
		}
		return err
	})
	return p
}

// enroll takes one citizen through the whole enrollment, as officer and citizen
// do it before the terminal.
func (l *lab) enroll(config string, c citizen) *seat {
	l.t.Helper()
	s := l.sit(config)
	s.screenOneOf(kiosk.ScreenSignOn, kiosk.ScreenHome, "PIN> ", officerPIN)
	s.types("\n> ", "")
	s.answers(kiosk.ScreenLanguage, "> ", "zh")
	s.inLanguage("zh")
	s.screen(kiosk.ScreenWelcome)
	s.types("\n> ", "l") // to the other language
	s.inLanguage("en")
	s.answers(kiosk.ScreenWelcome, "> ", "")
	s.screen(kiosk.ScreenPlaceCard)
	card := l.plug("idcard-"+c.surname, idCardReader, "--idcard", l.in(c.file))
	s.answers(kiosk.ScreenAccessNumber, "CAN> ", c.can)
	s.screen(kiosk.ScreenCompare)
	s.sees(c.surname)
	s.types("\n> ", "")
	s.answers(kiosk.ScreenConfirmData, "> ", "")
	s.answers(kiosk.ScreenConsent, "> ", "")
	s.answers(kiosk.ScreenConsent, "> ", "n") // statistics: no, thank you
	s.screen(kiosk.ScreenInsertToken)
	token := l.plug("token-"+c.surname, tokenReader, "--token", "factory")
	s.answers(kiosk.ScreenChoosePIN, "PIN> ", c.pin)
	s.answers(kiosk.ScreenRepeatPIN, "PIN> ", c.pin)
	s.answers(kiosk.ScreenReview, "> ", "")
	s.answers(kiosk.ScreenApprove, "PIN> ", officerPIN)
	s.answers(kiosk.ScreenReceipt, "> ", "")
	s.screen(kiosk.ScreenTakeThings)
	l.stop(token, 0)
	l.stop(card, 0)
	if code := s.leaves(); code != 0 {
		l.t.Fatalf("kiosk enroll ended with %d; the screen:\n%s", code, s.transcript())
	}
	if err := os.WriteFile(filepath.Join(*results, "terminal-"+c.surname+".txt"), []byte(s.transcript()), 0o600); err != nil {
		l.t.Fatal(err)
	}
	return s
}

// screenOneOf signs on where nobody is signed on; an officer stays so from one
// terminal to the next.
func (s *seat) screenOneOf(signOn, home kiosk.Screen, prompt, pin string) {
	s.t.Helper()
	s.sees("== ")
	s.sees("\n")
	if strings.Contains(s.transcript(), "== "+s.words.Title(signOn)) {
		s.types(prompt, pin)
		s.screen(home)
	}
}

func (s *seat) inLanguage(code string) {
	s.t.Helper()
	var err error
	if s.words, err = words.Open(code); err != nil {
		s.t.Fatal(err)
	}
}

var hex64 = regexp.MustCompile(`\b[0-9a-f]{64}\b`)

// recordID is the number on the receipt.
func (s *seat) recordID() string {
	s.t.Helper()
	_, receipt, _ := strings.Cut(s.transcript(), "== "+s.words.Title(kiosk.ScreenReceipt))
	id := hex64.FindString(receipt)
	if id == "" {
		s.t.Fatalf("no record number on the receipt:\n%s", s.transcript())
	}
	return id
}

// proof is the final receipt on the screen.
func (s *seat) proof() []byte {
	s.t.Helper()
	plain := strings.ReplaceAll(s.transcript(), "\r\n", "\n")
	i := strings.Index(plain, "c2sp.org/tlog-proof")
	if i < 0 {
		s.t.Fatalf("no final receipt:\n%s", plain)
	}
	// Its last part is a signed note: everything up to the line after the last signature.
	var b bytes.Buffer
	signed := false
	for line := range strings.Lines(plain[i:]) {
		if signature := strings.HasPrefix(line, "\u2014 "); signed && !signature {
			break
		} else if signature {
			signed = true
		}
		b.WriteString(line)
	}
	return b.Bytes()
}

// state says whether the queue has a record in a state.
func (l *lab) state(config, id, want string) error {
	l.t.Helper()
	out, _ := l.run(0, "kiosk", "queue", "list", "--json", "--config", config)
	var list struct {
		Records []struct{ ID, State, Code, Reason string }
	}
	if err := json.Unmarshal([]byte(out), &list); err != nil {
		l.t.Fatal(err)
	}
	for _, e := range list.Records {
		if e.ID == id && e.State == want {
			return nil
		}
	}
	return fmt.Errorf("the queue holds %+v", list)
}

func (l *lab) holds(config, id, want string) {
	l.t.Helper()
	if err := l.state(config, id, want); err != nil {
		l.t.Fatalf("%s is not %s: %v", id, want, err)
	}
}

// tampered is a copy of a file with one word replaced.
func (l *lab) tampered(file, from, to string) string {
	l.t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		l.t.Fatal(err)
	}
	changed := bytes.Replace(b, []byte(from), []byte(to), 1)
	if bytes.Equal(b, changed) { // the payload is base64url: turn one character of it
		i := bytes.Index(b, []byte(`"payload":"`)) + len(`"payload":"`) + 400
		changed = bytes.Clone(b)
		changed[i] ^= 1
	}
	return l.write("tampered.json", string(changed))
}

func (l *lab) logKey(file string) {
	l.t.Helper()
	b, err := os.ReadFile(l.in("registry", "public.json"))
	if err != nil {
		l.t.Fatal(err)
	}
	var keys struct {
		LogKey string `json:"log_key"`
	}
	if err := json.Unmarshal(b, &keys); err != nil {
		l.t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(keys.LogKey+"\n"), 0o600); err != nil {
		l.t.Fatal(err)
	}
}

// reads reads the second citizen's card with the tool for it, right and wrong.
func (l *lab) reads(config, issuers string) {
	l.t.Helper()
	c := citizens[1]
	if _, said := l.run(3, "kiosk", "card", "read", "--can", c.can, "--config", config); !strings.Contains(said, "no card in the reader") {
		l.t.Errorf("without a card: %s", said)
	}
	card := l.plug("idcard-read", idCardReader, "--idcard", l.in(c.file))
	out, _ := l.run(0, "kiosk", "card", "read", "--can", c.can, "--json", "--config", config)
	var report struct {
		Access string
		APDUs  int
		Report struct {
			Hashes, Signature, Chain string
			Chip                     string `json:"chip_authentication"`
			Active                   string `json:"active_authentication"`
		}
		Surname string
	}
	if err := json.Unmarshal([]byte(out), &report); err != nil {
		l.t.Fatal(err)
	}
	r := report.Report
	if report.Access != "PACE" || report.Surname != c.surname || report.APDUs == 0 || r.Hashes != "passed" || r.Signature != "passed" ||
		r.Chain != "passed" || r.Chip != "passed" || r.Active != "passed" {
		l.t.Errorf("card read says %+v", report)
	}
	l.run(4, "kiosk", "card", "read", "--can", "000000", "--config", config)
	l.stop(card, 0)
	clone := l.plug("idcard-clone", idCardReader, "--idcard", l.in(c.file), "--idcard-faults", "clone")
	l.run(4, "kiosk", "card", "read", "--can", c.can, "--config", config)
	l.stop(clone, 0)
}

// told holds the timeline: one object a line, each step with its time.
func (l *lab) told(file string) {
	l.t.Helper()
	f, err := os.Open(file)
	if err != nil {
		l.t.Fatal(err)
	}
	defer f.Close()
	apdus := map[string]int{}
	for lines := bufio.NewScanner(f); lines.Scan(); {
		var m struct {
			Step         string    `json:"step"`
			Began        time.Time `json:"began"`
			Milliseconds int64     `json:"milliseconds"`
			APDUs        int       `json:"apdus"`
			Bytes        int       `json:"bytes"`
			Failed       string    `json:"failed"`
		}
		d := json.NewDecoder(bytes.NewReader(lines.Bytes()))
		d.DisallowUnknownFields()
		if err := d.Decode(&m); err != nil {
			l.t.Fatalf("timeline: %v in %s", err, lines.Bytes())
		}
		if m.Began.IsZero() || m.Milliseconds < 0 || m.Bytes < m.APDUs {
			l.t.Errorf("timeline: %+v", m)
		}
		apdus[m.Step] += m.APDUs
	}
	for _, step := range []string{"open-card", "read-card", "make-keys", "holder-sign", "officer-sign", "kiosk-sign", "save", "deliver", "final", "purge"} {
		if _, ok := apdus[step]; !ok {
			l.t.Errorf("timeline: no %s", step)
		}
	}
	if apdus["read-card"] < 8 { // EF.COM is the proof of the chip; EF.SOD, DG1, DG15, DG2
		l.t.Errorf("timeline: %d APDUs to read two cards", apdus["read-card"])
	}
}

// forbidsCore looks at what the kernel says of a process.
func (l *lab) forbidsCore(p *process) {
	l.t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", p.cmd.Process.Pid))
	if err != nil {
		l.t.Fatal(err)
	}
	if !regexp.MustCompile(`(?m)^Max core file size\s+0\s+0\s`).Match(b) {
		l.t.Errorf("the agent may leave a core file:\n%s", b)
	}
}

// nobodyLeft wants no process in this namespace but the test's own.
func (l *lab) nobodyLeft() {
	l.t.Helper()
	l.await("every process's end", 5*time.Second, func() error {
		entries, err := os.ReadDir("/proc")
		if err != nil {
			return err
		}
		for _, e := range entries {
			pid, err := strconv.Atoi(e.Name())
			if err != nil || pid == os.Getpid() {
				continue
			}
			command, err := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
			if err == nil && len(command) > 0 { // one that has ended has none
				return fmt.Errorf("%d still runs: %s", pid, bytes.ReplaceAll(command, []byte{0}, []byte{' '}))
			}
		}
		return nil
	})
}

// canary searches everything that kiosk, registry and vault have written, their
// logs included, for what must not be there.
func (l *lab) canary() {
	l.t.Helper()
	folders := []string{l.in("kiosk"), l.in("registry"), l.in("vault"), l.in("swtpm"), l.logs, filepath.Join(*results, "timeline.jsonl")}
	all := secrets{"officer's pin": officerPIN}
	for _, c := range citizens {
		for what, secret := range c.secrets() {
			all[c.surname+"'s "+what] = secret
		}
	}
	leaks, files := search(l.t, all, folders...)
	for _, leak := range leaks {
		l.t.Errorf("%s stands as %s in %s", leak.what, leak.form, leak.file)
	}
	if files < 20 {
		l.t.Errorf("only %d files were searched", files)
	}
	l.t.Logf("%d files searched for %d secrets", files, len(all))

	// The search itself: what is leaked on purpose is found.
	var planted []string
	for i, c := range citizens {
		for form, pattern := range forms(c.pin) {
			planted = append(planted, fmt.Sprintf("%d %s %s", i, form, pattern))
		}
	}
	file := l.write("kiosk/queue/leak", "x"+strings.Join(planted, "\n")+"\n"+citizens[0].surname)
	leaks, _ = search(l.t, all, folders...)
	if want := 2*len(forms(citizens[0].pin)) + 1; len(leaks) < want {
		l.t.Errorf("of a deliberate leak %d traces were found, want %d", len(leaks), want)
	}
	if err := os.Remove(file); err != nil {
		l.t.Error(err)
	}
}
