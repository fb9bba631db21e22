package beid_test

import (
	"context"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"enrollkiosk/simulators/beid"
	"enrollkiosk/simulators/pcscd"
	"enrollkiosk/simulators/vpcd"
)

var (
	_ pcscd.Card = (*beid.Card)(nil)
	_ vpcd.Card  = (*beid.Card)(nil)
)

func newIssuer(t testing.TB, g beid.Generation) *beid.Issuer {
	t.Helper()
	i, err := beid.NewIssuer(g)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func newCard(t testing.TB, i *beid.Issuer, o beid.Options) *beid.Card {
	t.Helper()
	c, err := i.Personalise(o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// openSC runs an unmodified program of OpenSC with the card in its only reader.
func openSC(t *testing.T, c *beid.Card, program string, args ...string) (stdout, stderr string) {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		t.Fatalf("%s is missing: install the Debian package opensc", program)
	}
	socket := filepath.Join(t.TempDir(), "s")
	server, err := pcscd.Listen(socket)
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	reader, err := server.AddReader("Belgian Reader 00 00")
	if err != nil {
		t.Fatal(err)
	}
	reader.Insert(c)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env = append(os.Environ(), "PCSCLITE_CSOCK_NAME="+socket, "LC_ALL=C")
	var out, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errs
	err = cmd.Run()
	// eidenv 0.23 ends with status 1 after it has printed a Belgian card.
	if err != nil && program != "eidenv" {
		t.Fatalf("%s: %v\n%s%s", program, err, out.String(), errs.String())
	}
	return out.String(), errs.String()
}

// want is what eidenv says of a person, in its order.
func want(p beid.Person) []string {
	return []string{
		"BELPIC_CARDNUMBER", p.CardNumber, "BELPIC_CHIPNUMBER", strings.ToUpper(hex.EncodeToString(p.ChipNumber[:])),
		"BELPIC_VALIDFROM", p.ValidFrom.Format("02.01.2006"), "BELPIC_VALIDTILL", p.ValidUntil.Format("02.01.2006"),
		"BELPIC_DELIVERINGMUNICIPALITY", p.Municipality, "BELPIC_NATIONALNUMBER", p.NationalNumber,
		"BELPIC_NAME", p.Surname, "BELPIC_FIRSTNAMES", p.FirstNames, "BELPIC_INITIAL", p.Initial,
		"BELPIC_NATIONALITY", p.Nationality, "BELPIC_BIRTHLOCATION", p.BirthPlace, "BELPIC_BIRTHDATE", p.Birth,
		"BELPIC_SEX", p.Sex, "BELPIC_NOBLECONDITION", p.NobleCondition, "BELPIC_DOCUMENTTYPE", p.DocumentType, "BELPIC_SPECIALSTATUS", p.SpecialStatus,
		"BELPIC_STREETANDNUMBER", p.Street, "BELPIC_ZIPCODE", p.Zip, "BELPIC_MUNICIPALITY", p.Town,
	}
}

// text puts the right column of opensc-tool's hexadecimal dump together.
func text(dump string) string {
	var b strings.Builder
	for line := range strings.Lines(dump) {
		if len(line) > 48 && line[2] == ' ' {
			b.WriteString(strings.TrimRight(line[48:], "\n"))
		}
	}
	return b.String()
}

func TestEidenvReadsTheCard(t *testing.T) {
	for _, p := range []beid.Person{beid.Specimen(), beid.OtherSpecimen()} {
		for _, g := range []beid.Generation{beid.Applet11, beid.Applet17} {
			card := newCard(t, newIssuer(t, g), beid.Options{Person: p})
			out, errs := openSC(t, card, "eidenv")
			var got []string
			for line := range strings.Lines(out) {
				key, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
				got = append(got, key, value)
			}
			expected := want(p)
			// eidenv 0.23 loses the street: the lengths are ints of which its library
			// writes eight bytes, over the first letters too. Later ones may not.
			if i := slices.Index(got, "BELPIC_STREETANDNUMBER"); i >= 0 && i+1 < len(got) && got[i+1] == "" {
				expected[i+1] = ""
			}
			if !slices.Equal(got, expected) {
				t.Errorf("eidenv, applet %s:\n got %q\nwant %q\n%s", g, got, expected, errs)
			}
			// 6Cxx names the file's length, which the library then asks for.
			address, _ := openSC(t, card, "opensc-tool", "-s", "00A4080C063F00DF014033", "-s", "00B0000000")
			if _, dump, _ := strings.Cut(address, "B0 00 00 00"); !strings.Contains(text(dump), p.Street) || !strings.Contains(dump, "SW1=0x90") {
				t.Errorf("opensc-tool reads another address: %s", address)
			}
		}
	}
}

func TestOpenSCKnowsTheCard(t *testing.T) {
	card := newCard(t, newIssuer(t, beid.Applet17), beid.Options{})
	if out, _ := openSC(t, card, "opensc-tool", "-n"); !strings.Contains(out, "Belpic") {
		t.Errorf("opensc-tool -n: %q", out)
	}
	if out, _ := openSC(t, card, "pkcs15-tool", "--dump"); !strings.Contains(out, "[BELPIC]") || !strings.Contains(out, "Basic PIN") || !strings.Contains(out, "Path           : 3f00df00503b") {
		t.Errorf("pkcs15-tool: %s", out)
	}
	data, _ := openSC(t, card, "opensc-tool", "-s", "80E400001C")
	if !strings.Contains(data, "SW1=0x90, SW2=0x00") || !strings.Contains(data, "53 50 45 43 49 4D 45 4E") {
		t.Errorf("GET CARD DATA: %s", data)
	}
	if out, errs := openSC(t, newCard(t, newIssuer(t, beid.Applet17), beid.Options{Faults: []beid.Fault{beid.NotBelgian}}), "eidenv"); strings.Contains(out, "BELPIC") {
		t.Errorf("eidenv takes another card for a Belgian one: %s%s", out, errs)
	}
}

func TestFaultNames(t *testing.T) {
	for _, f := range beid.Faults() {
		if got, err := beid.ParseFault(string(f)); got != f || err != nil {
			t.Errorf("%s: %v %v", f, got, err)
		}
	}
	if _, err := beid.ParseFault("worn-out"); err == nil {
		t.Error("an unknown fault has been taken")
	}
}
