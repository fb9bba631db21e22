package sam_test

import (
	"bytes"
	"encoding/hex"
	"io"
	"os"
	"testing"
	"time"

	"enrollkiosk/simulators/sam"

	"golang.org/x/sys/unix"
)

// line opens a module's port as a terminal program would.
func line(t *testing.T, m *sam.Module) *os.File {
	t.Helper()
	f, err := os.OpenFile(m.Path(), os.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func start(t *testing.T) *sam.Module {
	t.Helper()
	m, err := sam.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Commands and answers as public readers hold them, byte for byte: the class
// SerialReader of YinanSoft's reader kit, protocol sheets of the SAM_V module.
func TestFrames(t *testing.T) {
	const (
		find, selectCard = "AAAAAA96690003200122", "AAAAAA96690003200221"
		read, readPrints = "AAAAAA96690003300132", "AAAAAA96690003301023"
		newAddress       = "AAAAAA96690003300330"
	)
	m := start(t)
	f := line(t, m)
	for _, step := range []struct {
		name          string
		before        func()
		send, want    string
		length        int
		answerOnlyHas bool // want is the beginning
	}{
		{"no card", nil, find, "AAAAAA9669000400008084", 11, false},
		{"not selected", nil, selectCard, "AAAAAA9669000400008185", 11, false},
		{"not read", nil, read, "AAAAAA9669000400004145", 11, false},
		{"found", func() { m.Place(sam.Resident(sam.Specimen())) }, find, "AAAAAA9669000800009F0000000097", 15, false},
		{"selected", nil, selectCard, "AAAAAA9669000C00009000000000000000009C", 19, false},
		{"text and photo", nil, read, "AAAAAA9669050800009001000400", 1295, true},
		{"read before", nil, find, "AAAAAA9669000400008084", 11, false},
		{"put on again", func() { m.Remove(); m.Place(sam.Resident(sam.Specimen())) }, find, "AAAAAA9669000800009F0000000097", 15, false},
		{"selected again", nil, selectCard, "AAAAAA9669000C00009000000000000000009C", 19, false},
		{"fingerprints", nil, readPrints, "AAAAAA9669090A000090010004000400", 2321, true},
		{"no new address", nil, newAddress, "AAAAAA9669000400009195", 11, false},
		{"unknown command", nil, "AAAAAA96690003777703", "AAAAAA9669000400002125", 11, false},
		{"wrong checksum", nil, "AAAAAA96690003200123", "AAAAAA9669000400001014", 11, false},
	} {
		t.Run(step.name, func(t *testing.T) {
			if step.before != nil {
				step.before()
			}
			if _, err := f.Write(unhex(t, step.send)); err != nil {
				t.Fatal(err)
			}
			got := make([]byte, step.length)
			f.SetReadDeadline(time.Now().Add(5 * time.Second))
			if _, err := io.ReadFull(f, got); err != nil {
				t.Fatal(err)
			}
			if want := unhex(t, step.want); !bytes.HasPrefix(got, want) || !step.answerOnlyHas && len(got) != len(want) {
				t.Errorf("%X, want %X", got[:min(len(got), 24)], want)
			}
			f.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
			if n, _ := f.Read(got); n != 0 {
				t.Errorf("%d bytes too many", n)
			}
		})
	}
	if n := m.Commands(); n != 13 {
		t.Errorf("%d commands counted", n)
	}
}

// A command in pieces, after noise, is a command.
func TestPieces(t *testing.T) {
	m := start(t)
	f := line(t, m)
	for _, piece := range []string{"00FFAAAA", "AAAAAA96", "6900", "0311FFED"} {
		f.Write(unhex(t, piece))
		time.Sleep(5 * time.Millisecond)
	}
	got := make([]byte, 11)
	f.SetReadDeadline(time.Now().Add(5 * time.Second))
	if _, err := io.ReadFull(f, got); err != nil || !bytes.Equal(got, unhex(t, "AAAAAA9669000400009094")) {
		t.Errorf("%X, %v", got, err)
	}
}

// Close ends a module that is talking to nobody who listens.
func TestCloseWhileTalking(t *testing.T) {
	m, err := sam.Start()
	if err != nil {
		t.Fatal(err)
	}
	f := line(t, m)
	m.Fail(sam.EndlessNoise)
	f.Write(unhex(t, "AAAAAA9669000311FFED"))
	time.Sleep(50 * time.Millisecond)
	closed := make(chan error)
	go func() { closed <- m.Close() }()
	select {
	case err := <-closed:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(5 * time.Second):
		t.Fatal("still open")
	}
}

func TestFaultNames(t *testing.T) {
	for _, f := range sam.Faults() {
		if got, err := sam.ParseFault(string(f)); err != nil || got != f {
			t.Errorf("%q: %q, %v", f, got, err)
		}
	}
	if _, err := sam.ParseFault("no such"); err == nil {
		t.Error("takes any name")
	}
}

// Numbers say region, birth and sex.
func TestNumbers(t *testing.T) {
	for _, v := range []struct {
		p    sam.Person
		make func(sam.Person) sam.Card
		at   int
		want string
	}{
		{sam.Person{Birth: "19740812", Sex: "2"}, sam.Resident, 122, "10000019740812002"},
		{sam.Person{Birth: "19740812", Sex: "1"}, sam.Permit, 122, "81000019740812001"},
		{sam.Person{Birth: "19740812", Nationality: "UTO"}, sam.Foreigner2017, 122, "UTO10007408120"},
	} {
		c := v.make(v.p)
		for i, letter := range []byte(v.want) {
			if c.Text[v.at+2*i] != letter || c.Text[v.at+2*i+1] != 0 {
				t.Fatalf("number differs at %d", i)
			}
		}
	}
}
