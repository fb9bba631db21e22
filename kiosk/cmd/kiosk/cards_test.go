package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	virtual "enrollkiosk/simulators/beid"
	"enrollkiosk/simulators/idcard"
	"enrollkiosk/simulators/sam"
	"enrollkiosk/smartcard/identity"
)

// folder is a trust folder with these certificates.
func folder(t *testing.T, certificates map[string][]byte) string {
	t.Helper()
	dir := t.TempDir()
	for name, der := range certificates {
		name = filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, der, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// says holds what a command prints to these lines.
func says(t *testing.T, r result, lines ...string) {
	t.Helper()
	for _, line := range lines {
		if !strings.Contains(r.out, line) {
			t.Errorf("no %q in:\n%s%s", line, r.out, r.err)
		}
	}
}

// A folder of trusted issuers and a reader's name are all that an inspection
// needs: no configuration, no policy, no kiosk.
func TestCardReadWithoutConfiguration(t *testing.T) {
	server := listen(t)
	reader, err := server.AddReader("Specimen ID Card Reader 00 00")
	if err != nil {
		t.Fatal(err)
	}
	issuer, err := idcard.NewAuthority(idcard.ECDSA)
	if err != nil {
		t.Fatal(err)
	}
	person := idcard.SpecimenPerson()
	person.CAN = someCAN
	further, err := idcard.OptionalGroups(person)
	if err != nil {
		t.Fatal(err)
	}
	chip, err := issuer.Personalise(person, idcard.Options{Files: further})
	if err != nil {
		t.Fatal(err)
	}
	reader.Insert(chip)
	trusted := folder(t, map[string][]byte{"test/csca.der": issuer.CSCA()})
	read := []string{"card", "read", "--reader", "ID Card", "--trust", trusted}
	zone := chip.MRZ()

	says(t, wants(t, exitDone, "", "/none", append(read, "--mrz", zone)...), "ERIKSSON, ANNA MARIA", "chain       passed")
	other := strings.Replace(zone, "ERIKSSON", "ERIKSEN<", 1)
	wants(t, exitRefused, "differ", "/none", append(read, "--mrz", other)...)
	wants(t, exitUsage, "zone", "/none", append(read, "--mrz", "nonsense")...)
	wants(t, exitUsage, "no data group", "/none", append(read, "--can", someCAN, "--files", "DG99")...)
	wants(t, exitRefused, "authority", "/none", "card", "read", "--reader", "ID Card", "--trust", t.TempDir(), "--can", someCAN)

	saved, log := filepath.Join(t.TempDir(), "files"), filepath.Join(t.TempDir(), "apdus")
	says(t, wants(t, exitDone, "personal data", "/none", append(read, "--can", someCAN, "--save", saved, "--apdu-log", log, "--files", "all")...),
		"DG7         signature: 1 image", "DG11        place of birth: ZENITH", "DG12        issued by: SPECIMEN AUTHORITY", "DG13 (", "DG16        notify")
	if r := wants(t, exitDone, "", "/none", append(read, "--can", someCAN, "--files", "DG12")...); !strings.Contains(r.out, "DG12  ") || strings.Contains(r.out, "DG11") {
		t.Errorf("asked for DG12 only:\n%s", r.out)
	}
	trace, err := os.ReadFile(log)
	if err != nil || len(trace) < 500 {
		t.Fatalf("%d bytes of log, %v", len(trace), err)
	}
	for _, secret := range []string{someCAN, "ERIKSSON", person.Number, "4552494B53534F4E"} {
		if strings.Contains(strings.ToUpper(string(trace)), secret) {
			t.Errorf("the log holds %s", secret)
		}
	}

	verify := []string{"card", "verify", saved, "--trust", trusted}
	says(t, wants(t, exitDone, "", "/none", verify...), "ERIKSSON, ANNA MARIA", "signature   passed", "chip        not-checked", "LACKS")
	dg1 := filepath.Join(saved, "DG1.bin")
	content, err := os.ReadFile(dg1)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dg1, flip(content, len(content)-1), 0o600); err != nil {
		t.Fatal(err)
	}
	says(t, wants(t, exitRefused, "DG1", "/none", verify...), "NOT GENUINE", "unaltered   failed")
	wants(t, exitUsage, "no folder of saved files", "/none", "card", "verify", t.TempDir(), "--trust", trusted)
	wants(t, exitUsage, "2026-11-27", "/none", append(verify, "--at", "soon")...)
}

func TestCardReadBelgian(t *testing.T) {
	server := listen(t)
	reader, err := server.AddReader("Specimen ID Card Reader 00 00")
	if err != nil {
		t.Fatal(err)
	}
	for _, generation := range []virtual.Generation{virtual.Applet17, virtual.Applet18} {
		issuer, err := virtual.NewIssuer(generation)
		if err != nil {
			t.Fatal(err)
		}
		trusted := folder(t, map[string][]byte{"test/belgium/root.der": issuer.Root()})
		card, err := issuer.Personalise(virtual.Options{})
		if err != nil {
			t.Fatal(err)
		}
		reader.Insert(card)
		saved := filepath.Join(t.TempDir(), "files")
		r := wants(t, exitDone, "personal data", "/none", "card", "read", "--reader", "ID Card", "--trust", trusted, "--save", saved)
		says(t, r, "kind        belgian-eid", string(virtual.Specimen().Surname), "signature   passed", "chain       passed", "(BEL)")
		if lacks := strings.Contains(r.out, "LACKS"); lacks != (generation == virtual.Applet17) {
			t.Errorf("applet %v lacks a proof: %v\n%s", generation, lacks, r.out)
		}
		says(t, wants(t, exitDone, "", "/none", "card", "verify", saved, "--trust", trusted), "signature   passed", "LACKS")
		wants(t, exitRefused, "root", "/none", "card", "read", "--reader", "ID Card", "--trust", t.TempDir())
		reader.Pull()
		altered, err := issuer.Personalise(virtual.Options{Faults: []virtual.Fault{virtual.AlteredAddress}})
		if err != nil {
			t.Fatal(err)
		}
		reader.Insert(altered)
		wants(t, exitRefused, "address", "/none", "card", "read", "--reader", "ID Card", "--trust", trusted)
		reader.Pull()
	}
}

func TestCardReadResident(t *testing.T) {
	module, err := sam.Start()
	if err != nil {
		t.Fatal(err)
	}
	defer module.Close()
	s := newSetting(t, "/dev/none")
	config, err := os.ReadFile(s.config)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.config, append(config, "[resident]\nport = \""+module.Path()+"\"\n"...), 0o600); err != nil {
		t.Fatal(err)
	}
	module.Place(sam.Resident(sam.Specimen()))
	r := wants(t, exitDone, "", s.config, "card", "read", "--resident", "--json")
	var report cardReport
	if err := json.Unmarshal([]byte(r.out), &report); err != nil || report.Kind != identity.PRCResident || len(report.Lacks) != 2 ||
		report.Surname != sam.Specimen().Name || report.Issuer != "CHN" {
		t.Errorf("%v in %s", err, r.out)
	}
	if !strings.Contains(string(report.Report), "not signed by the issuer") {
		t.Errorf("the report does not say what the data are worth: %s", report.Report)
	}
	module.Fail(sam.NoAnswer)
	wants(t, exitHardware, "module", s.config, "card", "read", "--resident")
}

func TestTrustImport(t *testing.T) {
	// The list that the German BSI published on 28 May 2026.
	const german = "../../../smartcard/trust/testdata/DE_ML_2026-05-28.ml"
	dir := t.TempDir()
	r := wants(t, exitRefused, "--pin", "", "trust", "import", german, "--trust", dir)
	pin := r.err[strings.LastIndex(r.err, "--pin ")+len("--pin "):]
	pin = strings.TrimSpace(pin)
	wants(t, exitRefused, "--pin", "", "trust", "import", german, "--trust", dir, "--pin", strings.Repeat("ab", 32))
	wants(t, exitUsage, "64 hexadecimal", "", "trust", "import", german, "--trust", dir, "--pin", "abc")
	says(t, wants(t, exitDone, "", "", "trust", "import", german, "--trust", dir, "--pin", pin), "master list of DE", "+ FR", "+ CH")
	// It is trusted from now on, and another time changes nothing.
	says(t, wants(t, exitDone, "", "", "trust", "import", german, "--trust", dir), "nothing changed")

	list, err := os.ReadFile(german)
	if err != nil {
		t.Fatal(err)
	}
	bad := filepath.Join(t.TempDir(), "bad.ml")
	for name, b := range map[string][]byte{"a byte in the middle": flip(list, len(list)/2), "cut": list[:len(list)/2], "empty": {}} {
		if err := os.WriteFile(bad, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if r := kioskRun(t, "", "trust", "import", bad, "--trust", dir); r.code != exitRefused {
			t.Errorf("%s: exit code %d: %s", name, r.code, r.err)
		}
	}
	// A list by nobody of the installed ones' kind needs a pin of its own.
	issuer, err := idcard.NewAuthority(idcard.ECDSA)
	if err != nil {
		t.Fatal(err)
	}
	own, err := issuer.MasterList([][]byte{issuer.CSCA()}, idcard.MasterListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(bad, own, 0o600); err != nil {
		t.Fatal(err)
	}
	wants(t, exitRefused, "--pin", "", "trust", "import", bad, "--trust", dir)
}
