package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"enrollkiosk/registry/api"
	"enrollkiosk/simulators/idcard"
	"enrollkiosk/simulators/pcscd"
	"enrollkiosk/smartcard/trust"
)

func TestUsage(t *testing.T) {
	wants(t, exitUsage, "kiosk enrolls citizens", "")
	wants(t, exitUsage, `no command "queue"`, "", "queue")
	wants(t, exitUsage, `no command "nonsense"`, "", "nonsense")
	wants(t, exitUsage, "--help lists the flags", "", "agent", "--nonsense")
	wants(t, exitUsage, `unexpected "more"`, "", "doctor", "more")
	wants(t, exitUsage, "FILE is missing", "", "record", "verify")
	wants(t, exitUsage, "/none/kiosk.toml", "/none/kiosk.toml", "agent")
	for name := range commands {
		r := wants(t, exitDone, "", "", append(strings.Fields(name), "--help")...)
		if !strings.Contains(r.out, "usage: kiosk "+name) || !strings.Contains(r.out, "-config") || !strings.Contains(usage, strings.Fields(name)[0]) {
			t.Errorf("%s --help says\n%s", name, r.out)
		}
	}
	if r := wants(t, exitDone, "", "", "help"); r.out != usage {
		t.Errorf("help says\n%s", r.out)
	}
}

func TestConfigValidate(t *testing.T) {
	s := newSetting(t, "/dev/none")
	wants(t, exitDone, "", s.config, "config", "validate")
	b, err := os.ReadFile(s.config)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ from, to, says string }{
		{`["en", "zh"]`, `["tlh"]`, `kiosk.toml: kiosk.languages: no sentences in "tlh"; there are en, es, hi, zh`},
		{"document =", "documnt =", `kiosk.toml:6: unknown key "readers.documnt"`},
	} {
		file := filepath.Join(t.TempDir(), "kiosk.toml")
		if err := os.WriteFile(file, bytes.Replace(b, []byte(c.from), []byte(c.to), 1), 0o600); err != nil {
			t.Fatal(err)
		}
		wants(t, exitUsage, c.says, file, "config", "validate")
	}
}

// Each command, on a machine that has nothing.
func TestNothingIsThere(t *testing.T) {
	s := newSetting(t, "/dev/none")
	wants(t, exitUsage, "run `kiosk provision", s.config, "agent")
	wants(t, exitUnreachable, "cannot be reached", s.config, "provision", "--code", api.NewCode([32]byte{}, [32]byte{}).Text())
	wants(t, exitUnreachable, "start it with `kiosk agent`", s.config, "enroll")
	wants(t, exitHardware, "systemctl start pcscd", s.config, "card", "read", "--can", "123456")
	r := wants(t, exitUsage, "checks failed", s.config, "doctor")
	for _, line := range []string{"ok    configuration", "FAIL  readers", "FAIL  tpm", "ok    clock", "FAIL  queue", "ok    policy", "FAIL  registry"} {
		if !strings.Contains(r.out, line) {
			t.Errorf("doctor does not say %q:\n%s", line, r.out)
		}
	}
	if strings.Count(r.out, "->") != strings.Count(r.out, "FAIL") {
		t.Errorf("doctor does not say what to do each time:\n%s", r.out)
	}
	// provision makes the state directory before anything else; there is no queue in it.
	wants(t, exitUsage, "run `kiosk provision", s.config, "queue", "list")
	wants(t, exitUsage, "year, month and day", s.config, "queue", "list", "--from", "28.11.2026")
	wants(t, exitUsage, "64 hexadecimal digits", s.config, "queue", "show", "12")
	wants(t, exitUsage, "run `kiosk provision", s.config, "queue", "show", strings.Repeat("0", 64))
	for _, command := range []string{"export", "import-receipts"} {
		wants(t, exitUsage, "DIR is missing", s.config, "queue", command)
		wants(t, exitUsage, "is the drive mounted", s.config, "queue", command, filepath.Join(s.dir, "none"))
		wants(t, exitUsage, "run `kiosk provision", s.config, "queue", command, t.TempDir())
	}
}

func TestDoctorSpeaksJSON(t *testing.T) {
	s := newSetting(t, "/dev/none")
	r := wants(t, exitUsage, "", s.config, "doctor", "--json")
	var rows []struct {
		Check, Detail, Remedy string
		OK                    bool
	}
	if err := json.Unmarshal([]byte(r.out), &rows); err != nil || len(rows) != 13 {
		t.Fatalf("%v in %s", err, r.out)
	}
	for _, row := range rows {
		if row.OK != (row.Remedy == "") || row.Detail == "" {
			t.Errorf("%+v", row)
		}
	}
	r = wants(t, exitUsage, "", filepath.Join(s.dir, "none"), "doctor")
	if !strings.Contains(r.out, "FAIL  configuration") {
		t.Errorf("without a configuration:\n%s", r.out)
	}
}

// listen offers the system's PC/SC service.
func listen(t *testing.T) *pcscd.Server {
	t.Helper()
	server, err := pcscd.Listen(service)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	return server
}

func TestCardRead(t *testing.T) {
	server := listen(t)
	s := newSetting(t, "/dev/none")
	wants(t, exitHardware, "pcsc_scan -r", s.config, "card", "read", "--can", "123456")
	reader, err := server.AddReader("Specimen ID Card Reader 00 00")
	if err != nil {
		t.Fatal(err)
	}
	wants(t, exitHardware, "insert it", s.config, "card", "read", "--can", "123456")
	wants(t, exitHardware, `"YubiKey"`, s.config, "card", "read", "--can", "123456", "--reader", "YubiKey")

	person := idcard.SpecimenPerson()
	insert := func(faults ...idcard.Fault) {
		t.Helper()
		chip, err := s.issuer.Personalise(person, idcard.Options{Faults: faults})
		if err != nil {
			t.Fatal(err)
		}
		reader.Pull()
		reader.Insert(chip)
	}
	insert()
	wants(t, exitUsage, "--can", s.config, "card", "read")
	wants(t, exitUsage, "--born", s.config, "card", "read", "--doc", "D23145890", "--born", "today", "--expires", "340415")
	wants(t, exitRefused, "type it again", s.config, "card", "read", "--can", "654321")
	saved := filepath.Join(t.TempDir(), "files")
	r := wants(t, exitDone, "personal data", s.config, "card", "read", "--can", person.CAN, "--save", saved)
	for _, line := range []string{"opened      PACE", "ERIKSSON, ANNA MARIA", "D23145890", "unaltered   passed", "signature   passed", "chain       passed", "chip        passed", "proof       data", "proof       chip-authentication", "proof       active-authentication", "kind        emrtd"} {
		if !strings.Contains(r.out, line) {
			t.Errorf("no %q in:\n%s", line, r.out)
		}
	}
	if strings.Contains(r.err, "%") {
		t.Errorf("progress where there is no terminal: %q", r.err)
	}
	if files, err := os.ReadDir(saved); err != nil || len(files) < 6 {
		t.Errorf("saved %v, %v", files, err)
	} else if info, err := files[0].Info(); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("saved with %v, %v", info.Mode(), err)
	}
	wants(t, exitDone, "", s.config, "card", "read", "--doc", "D23145890", "--born", "740812", "--expires", "340415")

	for fault, expected := range map[idcard.Fault]struct {
		code int
		says string
	}{
		idcard.NotEMRTD:    {exitRefused, "use an electronic ID card"},
		idcard.TamperedDG1: {exitRefused, "DG1"},
		idcard.Clone:       {exitRefused, "chip"},
		idcard.UnknownCSCA: {exitRefused, "authority"},
		idcard.BACOnly:     {exitRefused, "--doc"},
		idcard.NoChipKeys:  {exitDone, ""},
		idcard.ShortOnly:   {exitDone, ""},
	} {
		insert(fault)
		wants(t, expected.code, expected.says, s.config, "card", "read", "--can", person.CAN)
	}
	insert(idcard.TamperedDG1)
	r = wants(t, exitRefused, "", s.config, "card", "read", "--can", person.CAN, "--json")
	var report cardReport
	var verdicts trust.Report
	err = errors.Join(json.Unmarshal([]byte(r.out), &report), json.Unmarshal(report.Report, &verdicts))
	if err != nil || report.Refused == "" || verdicts.Hashes != trust.Failed || report.Access != "PACE" {
		t.Errorf("%v: %+v", err, report)
	}
}

// In a terminal the access number is asked for, unseen, and progress is shown.
func TestCardReadInATerminal(t *testing.T) {
	server := listen(t)
	s := newSetting(t, "/dev/none")
	reader, err := server.AddReader("Specimen ID Card Reader 00 00")
	if err != nil {
		t.Fatal(err)
	}
	person := idcard.SpecimenPerson()
	person.CAN = someCAN
	chip, err := s.issuer.Personalise(person, idcard.Options{})
	if err != nil {
		t.Fatal(err)
	}
	reader.Insert(chip)
	for _, c := range []struct {
		typed string
		code  int
		sees  string
	}{{someCAN + "\n", exitDone, "ERIKSSON"}, {"111111\n", exitRefused, "type it again"}, {"\x03", exitInterrupted, ""}, {"\x04", exitFailed, "closed"}} {
		seat := sitBefore(t, program(t, s.config, "card", "read"))
		keep, err := os.OpenFile(fmt.Sprintf("/proc/%d/fd/0", seat.cmd.Process.Pid), os.O_RDWR|syscall.O_NOCTTY, 0)
		if err != nil {
			t.Fatal(err)
		}
		seat.sees("CAN (6 digits on the card), or scan the machine readable zone: ")
		seat.types(c.typed)
		seat.cmd.Wait()
		if !seat.echoes() {
			t.Error("the terminal stays mute")
		}
		keep.Close()
		<-seat.done
		if code := seat.cmd.ProcessState.ExitCode(); code != c.code || !strings.Contains(seat.transcript(), c.sees) {
			t.Errorf("%q: exit code %d, want %d\n%s", c.typed, code, c.code, seat.transcript())
		}
		if strings.Contains(seat.transcript(), someCAN) {
			t.Error("the access number was shown")
		}
		if progress := strings.Contains(seat.transcript(), "100 %"); progress != (c.code == exitDone) {
			t.Errorf("progress: %v\n%s", progress, seat.transcript())
		}
	}
}

const example = "../../../registry/record/testdata/example"

func TestRecordAndReceiptVerify(t *testing.T) {
	record, receipt, key := filepath.Join(example, "record.json"), filepath.Join(example, "receipt.tlog-proof"), filepath.Join(example, "log.vkey")
	r := wants(t, exitDone, "", "", "record", "verify", record, "--json")
	var shown struct {
		ID      string
		Signers []struct{ Role string }
	}
	if err := json.Unmarshal([]byte(r.out), &shown); err != nil || len(shown.ID) != 64 || len(shown.Signers) != 3 {
		t.Fatalf("%v in %s", err, r.out)
	}
	vkey, err := os.ReadFile(key)
	if err != nil {
		t.Fatal(err)
	}
	wants(t, exitDone, "", "", "receipt", "verify", receipt, "--log-key", key)
	wants(t, exitDone, "", "", "receipt", "verify", "--id", shown.ID, receipt, "--log-key", strings.TrimSpace(string(vkey)))
	wants(t, exitUsage, "--log-key is missing", "", "receipt", "verify", receipt)
	wants(t, exitUsage, "64 hexadecimal", "", "receipt", "verify", receipt, "--log-key", key, "--id", "xyz")
	wants(t, exitRefused, "", "", "receipt", "verify", receipt, "--log-key", key, "--id", strings.Repeat("ab", 32))
	wants(t, exitUsage, "not the verifier key of a log", "", "receipt", "verify", receipt, "--log-key", "registry.example/log+00000000+AAAA")
	wants(t, exitUsage, "no such file", "", "record", "verify", "/none")
	wants(t, exitUsage, "no such file", "", "receipt", "verify", "/none", "--log-key", key)

	for name, command := range map[string][]string{record: {"record", "verify"}, receipt: {"receipt", "verify", "--log-key", key}} {
		good, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		bad := filepath.Join(t.TempDir(), "bad")
		for what, b := range map[string][]byte{"empty": {}, "space added": append(bytes.Clone(good), ' '), "cut": good[:len(good)/2],
			"early byte": flip(good, 60), "middle byte": flip(good, len(good)/2), "late byte": flip(good, len(good)-20)} {
			if err := os.WriteFile(bad, b, 0o600); err != nil {
				t.Fatal(err)
			}
			if r := kioskRun(t, "", append(command, bad)...); r.code != exitRefused || r.err == "" {
				t.Errorf("%s of %s: exit code %d: %s", what, filepath.Base(name), r.code, r.err)
			}
		}
	}
}

func flip(b []byte, i int) []byte {
	b = bytes.Clone(b)
	b[i] ^= 1
	return b
}
