//go:build linux

package prcid_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"enrollkiosk/kiosk/secret"
	"enrollkiosk/simulators/sam"
	"enrollkiosk/smartcard/portrait"
	"enrollkiosk/smartcard/prcid"
)

func start(t testing.TB) *sam.Module {
	t.Helper()
	s, err := sam.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func open(t testing.TB, s *sam.Module, opts prcid.Options) *prcid.Module {
	t.Helper()
	m, err := prcid.Open(t.Context(), s.Path(), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

// show is what a document says, field by field.
func show(d prcid.Document) map[prcid.Field]string {
	say := func(t secret.Text) string { return string(t.Reveal()) }
	code := func(c prcid.Code) string { return say(c.Value) + " " + say(c.Chinese) + " " + say(c.English) }
	date := func(d prcid.Date) string {
		day, ok := d.Day()
		if !ok {
			return ""
		}
		return day.Format(time.DateOnly)
	}
	all := map[prcid.Field]string{
		prcid.FieldName: say(d.Name), prcid.FieldEnglishName: say(d.EnglishName), prcid.FieldSex: code(d.Sex),
		prcid.FieldEthnicGroup: code(d.EthnicGroup), prcid.FieldBirth: date(d.Birth), prcid.FieldAddress: say(d.Address),
		prcid.FieldNewAddress: say(d.NewAddress), prcid.FieldNumber: say(d.Number), prcid.FieldNationality: say(d.Nationality),
		prcid.FieldPassNumber: say(d.PassNumber), prcid.FieldIssue: say(d.Issue), prcid.FieldAuthority: say(d.Authority),
		prcid.FieldFrom: date(d.From), prcid.FieldUntil: date(d.Until),
	}
	for f, s := range all {
		if strings.TrimSpace(s) == "" {
			delete(all, f)
		}
	}
	return all
}

func compare(t *testing.T, got, want map[prcid.Field]string) {
	t.Helper()
	for f, w := range want {
		if got[f] != w {
			t.Errorf("%s is %q, want %q", f, got[f], w)
		}
	}
	for f, g := range got {
		if _, ok := want[f]; !ok {
			t.Errorf("%s is %q, want nothing", f, g)
		}
	}
}

func TestRead(t *testing.T) {
	p := sam.Specimen()
	long := p
	long.EnglishName = "SPECIMEN-WITH-A-LONG-SURNAME, MARIA ANNA" // more than 35 letters
	moved := sam.Resident(p)
	moved.NewAddress = "样本省样本市新路2号"
	forever := p
	forever.Until = "长期"
	for name, v := range map[string]struct {
		card     sam.Card
		kind     prcid.Kind
		longTerm bool
		want     map[prcid.Field]string
	}{
		"resident": {sam.Resident(p), prcid.Resident, false, map[prcid.Field]string{
			"name": "样本甲", "sex": "2 女 female", "ethnic group": "01 汉 Han", "birth": "1974-08-12", "address": "样本省样本市样例路1号",
			"number": "100000197408120029", "authority": "样本市公安局", "valid from": "2020-01-01", "valid until": "2040-01-01",
		}},
		"resident who moved": {moved, prcid.Resident, false, map[prcid.Field]string{
			"name": "样本甲", "sex": "2 女 female", "ethnic group": "01 汉 Han", "birth": "1974-08-12", "address": "样本省样本市样例路1号",
			"number": "100000197408120029", "authority": "样本市公安局", "valid from": "2020-01-01", "valid until": "2040-01-01",
			"new address": "样本省样本市新路2号",
		}},
		"resident, long term": {sam.Resident(forever), prcid.Resident, true, map[prcid.Field]string{
			"name": "样本甲", "sex": "2 女 female", "ethnic group": "01 汉 Han", "birth": "1974-08-12", "address": "样本省样本市样例路1号",
			"number": "100000197408120029", "authority": "样本市公安局", "valid from": "2020-01-01",
		}},
		"Hong Kong": {sam.Permit(p), prcid.HongKongMacaoTaiwan, false, map[prcid.Field]string{
			"name": "样本甲", "sex": "2 女 female", "birth": "1974-08-12", "address": "样本省样本市样例路1号",
			"number": "810000197408120026", "authority": "样本市公安局", "valid from": "2020-01-01", "valid until": "2040-01-01",
			"pass number": "H00000000", "issue": "01",
		}},
		"foreigner 2017": {sam.Foreigner2017(p), prcid.Foreigner2017, false, map[prcid.Field]string{
			"name": "样本甲", "english name": "SPECIMEN, ANNA MARIA", "sex": "2 女 female", "birth": "1974-08-12",
			"number": "UTO100074081202", "nationality": "UTO", "authority": "1000", "issue": "01",
			"valid from": "2020-01-01", "valid until": "2040-01-01",
		}},
		"foreigner 2023": {sam.Foreigner2023(long), prcid.Foreigner2023, false, map[prcid.Field]string{
			"name": "样本甲", "english name": "SPECIMEN-WITH-A-LONG-SURNAME, MARIA ANNA", "sex": "2 女 female", "birth": "1974-08-12",
			"number": "91000019740812002X", "nationality": "UTO", "issue": "01",
			"valid from": "2020-01-01", "valid until": "2040-01-01",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			s := start(t)
			m := open(t, s, prcid.Options{})
			s.Place(v.card)
			if err := m.Find(t.Context()); err != nil {
				t.Fatal(err)
			}
			var last prcid.Progress
			d, err := m.Read(t.Context(), func(p prcid.Progress) {
				if p.Read <= last.Read || p.Read > p.Total {
					t.Errorf("progress %+v after %+v", p, last)
				}
				last = p
			})
			if err != nil {
				t.Fatal(err)
			}
			if last.Read != 1288 || last.Total != 1288 {
				t.Errorf("last progress %+v", last)
			}
			if d.Kind != v.kind || d.LongTerm != v.longTerm {
				t.Errorf("kind %v, long term %v", d.Kind, d.LongTerm)
			}
			for _, p := range d.Problems {
				t.Errorf("problem: %v", p)
			}
			compare(t, show(d), v.want)
			if string(d.Text.Reveal()) != string(v.card.Text[:]) || string(d.Photo.Reveal()) != string(v.card.Photo[:]) || d.Fingerprints.Len() != 0 {
				t.Error("raw bytes differ")
			}
		})
	}
}

// Fingerprints are read when they are asked for.
func TestFingerprints(t *testing.T) {
	for name, prints := range map[string]int{"two": 1024, "one": 512, "none": 0} {
		t.Run(name, func(t *testing.T) {
			s := start(t)
			m := open(t, s, prcid.Options{Fingerprints: true})
			c := sam.Resident(sam.Specimen())
			c.Fingerprints = c.Fingerprints[:prints]
			s.Place(c)
			if err := m.Find(t.Context()); err != nil {
				t.Fatal(err)
			}
			if d, err := m.Read(t.Context(), nil); err != nil || string(d.Fingerprints.Reveal()) != string(c.Fingerprints) || d.Photo.Len() != 1024 {
				t.Errorf("%d bytes of fingerprints, %v", d.Fingerprints.Len(), err)
			}
		})
	}
}

func TestModuleCommands(t *testing.T) {
	s := start(t)
	m := open(t, s, prcid.Options{})
	if n, err := m.Number(t.Context()); err != nil || n != "05.03-20230911-0000000042-0000000007" {
		t.Errorf("%q, %v", n, err)
	}
	if err := m.Reset(t.Context()); err != nil {
		t.Error(err)
	}
	if err := m.Find(t.Context()); !errors.Is(err, prcid.ErrNoCard) {
		t.Error(err)
	}
	if _, err := m.Read(t.Context(), nil); !errors.Is(err, prcid.ErrCardLost) {
		t.Error(err)
	}
}

func TestWait(t *testing.T) {
	s := start(t)
	m := open(t, s, prcid.Options{})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := m.Wait(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	time.AfterFunc(50*time.Millisecond, func() { s.Place(sam.Resident(sam.Specimen())) })
	if err := m.Wait(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := m.Read(t.Context(), nil); err != nil {
		t.Error(err)
	}
}

// Whatever is wrong, every call ends in time with an error that says what kind
// of thing it is, and a module that is mended works again on the same line.
func TestFaults(t *testing.T) {
	const timeout = 300 * time.Millisecond
	for _, v := range []struct {
		fault      sam.Fault
		find, read error
	}{
		{sam.NoAnswer, prcid.ErrNoAnswer, prcid.ErrNoAnswer},
		{sam.HalfFrame, prcid.ErrFrame, prcid.ErrFrame},
		{sam.WrongChecksum, prcid.ErrFrame, prcid.ErrFrame},
		{sam.ShortLength, prcid.ErrFrame, prcid.ErrFrame},
		{sam.LongLength, prcid.ErrFrame, prcid.ErrFrame},
		{sam.HugeLength, prcid.ErrFrame, prcid.ErrFrame},
		{sam.NoiseFirst, nil, nil},
		{sam.EndlessNoise, prcid.ErrFrame, prcid.ErrFrame},
		{sam.CardRemoved, nil, prcid.ErrCardLost},
		{sam.UnknownStatus, prcid.ErrRefused, prcid.ErrRefused},
		{sam.Defective, prcid.ErrModule, prcid.ErrModule},
		{sam.Unauthorised, prcid.ErrModule, prcid.ErrModule},
		{sam.NotGenuine, prcid.ErrNotGenuine, prcid.ErrNotGenuine},
		{sam.WrongCard, prcid.ErrWrongCard, prcid.ErrWrongCard},
	} {
		t.Run(string(v.fault), func(t *testing.T) {
			t.Parallel()
			s := start(t)
			m := open(t, s, prcid.Options{Timeout: timeout})
			timed := func(what string, want error, f func() error) {
				t.Helper()
				started := time.Now()
				if err := f(); !errors.Is(err, want) {
					t.Errorf("%s: %v, want %v", what, err, want)
				}
				if took := time.Since(started); took > 20*timeout {
					t.Errorf("%s took %v", what, took)
				}
			}
			find := func() error { return m.Find(t.Context()) }
			read := func() error { _, err := m.Read(t.Context(), nil); return err }

			s.Place(sam.Resident(sam.Specimen()))
			s.Fail(v.fault)
			timed("find", v.find, find)
			if v.fault == sam.EndlessNoise {
				return // nothing mends that line
			}
			s.Fail("")
			s.Place(sam.Resident(sam.Specimen()))
			timed("find on the mended module", nil, find)
			s.Fail(v.fault)
			timed("read", v.read, read)
			s.Fail("")
			s.Place(sam.Resident(sam.Specimen()))
			timed("find again", nil, find)
			timed("read again", nil, read)
		})
	}
}

// Nothing is said twice: an answer that comes after its command was given up is
// not taken for the next one's.
func TestLateAnswer(t *testing.T) {
	s := start(t)
	m := open(t, s, prcid.Options{Timeout: 300 * time.Millisecond})
	s.Fail(sam.LateAnswer)
	if err := m.Find(t.Context()); !errors.Is(err, prcid.ErrNoAnswer) {
		t.Fatal(err)
	}
	s.Fail("")
	s.Place(sam.Resident(sam.Specimen()))
	if err := m.Find(t.Context()); err != nil {
		t.Errorf("the late answer was taken for the next: %v", err)
	}
}

// A slow line is slow, not dead.
func TestSlowBytes(t *testing.T) {
	s := start(t)
	m := open(t, s, prcid.Options{})
	s.Place(sam.Resident(sam.Specimen()))
	s.Fail(sam.SlowBytes)
	if err := m.Find(t.Context()); err != nil {
		t.Fatal(err)
	}
	steps := 0
	if _, err := m.Read(t.Context(), func(prcid.Progress) { steps++ }); err != nil || steps < 10 {
		t.Errorf("%d steps, %v", steps, err)
	}
}

// The caller's context ends a call at once, and its error is what comes back.
func TestCancel(t *testing.T) {
	s := start(t)
	m := open(t, s, prcid.Options{Timeout: time.Minute})
	s.Fail(sam.NoAnswer)
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	started := time.Now()
	if err := m.Find(ctx); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if took := time.Since(started); took > 5*time.Second {
		t.Errorf("took %v", took)
	}
	s.Fail("")
	s.Place(sam.Resident(sam.Specimen()))
	if err := m.Find(t.Context()); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

// A field that does not parse is reported and leaves the others.
func TestProblems(t *testing.T) {
	good := sam.Specimen()
	with := func(change func(*sam.Person)) sam.Card {
		p := good
		change(&p)
		return sam.Resident(p)
	}
	foreign := good
	foreign.Number = "UTO100074081203"
	letter := sam.Resident(good)
	letter.Text[248] = 'Q'
	wide := sam.Resident(good)
	wide.Text[248], wide.Text[249] = 'J', 1
	for name, v := range map[string]struct {
		card  sam.Card
		field prcid.Field
		err   error
	}{
		"date":                {with(func(p *sam.Person) { p.From = "20200230" }), prcid.FieldFrom, prcid.ErrDate},
		"date in words":       {with(func(p *sam.Person) { p.From = "长期" }), prcid.FieldFrom, prcid.ErrDate},
		"no name":             {with(func(p *sam.Person) { p.Name = "" }), prcid.FieldName, prcid.ErrMissing},
		"ethnic group":        {with(func(p *sam.Person) { p.EthnicGroup = "57" }), prcid.FieldEthnicGroup, prcid.ErrCode},
		"sex":                 {with(func(p *sam.Person) { p.Sex = "3"; p.Number = "100000197408120029" }), prcid.FieldSex, prcid.ErrCode},
		"control character":   {with(func(p *sam.Person) { p.Address = "1\n2" }), prcid.FieldAddress, prcid.ErrText},
		"check digit":         {with(func(p *sam.Person) { p.Number = "100000197408120024" }), prcid.FieldNumber, prcid.ErrCheckDigit},
		"letters in number":   {with(func(p *sam.Person) { p.Number = "10000019740812002x" }), prcid.FieldNumber, prcid.ErrForm},
		"short number":        {with(func(p *sam.Person) { p.Number = "10000019740812" }), prcid.FieldNumber, prcid.ErrForm},
		"foreigner's number":  {with(func(p *sam.Person) { p.Number = "932682198501010017"; p.Birth = "19850101" }), prcid.FieldNumber, prcid.ErrForm},
		"another birth":       {with(func(p *sam.Person) { p.Number = "100000197408120029"; p.Birth = "19740813" }), prcid.FieldBirth, prcid.ErrMismatch},
		"another sex":         {with(func(p *sam.Person) { p.Number = "100000197408120029"; p.Sex = "1" }), prcid.FieldSex, prcid.ErrMismatch},
		"check digit of 2017": {sam.Foreigner2017(foreign), prcid.FieldNumber, prcid.ErrCheckDigit},
		"kind in two letters": {wide, prcid.FieldKind, prcid.ErrCode},
		"kind":                {letter, prcid.FieldKind, prcid.ErrCode},
	} {
		t.Run(name, func(t *testing.T) {
			d, err := prcid.Parse(v.card.Text[:])
			if err != nil {
				t.Fatal(err)
			}
			if len(d.Problems) != 1 || d.Problems[0].Field != v.field || !errors.Is(d.Problems[0].Err, v.err) {
				t.Errorf("problems %v, want %s: %v", d.Problems, v.field, v.err)
			}
			if d.Text.Len() != 256 {
				t.Error("raw bytes are gone")
			}
			if fields := show(d); len(fields) < 8 {
				t.Errorf("only %d fields are left", len(fields))
			}
		})
	}
	for _, n := range []int{0, 255, 257} {
		if _, err := prcid.Parse(make([]byte, n)); !errors.Is(err, prcid.ErrFrame) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
	// Nothing but zeros: every field of a resident's card is missing.
	if d, err := prcid.Parse(make([]byte, 256)); err != nil || len(d.Problems) != 9 {
		t.Errorf("%v, %v", d.Problems, err)
	}
}

// Faults in the text are problems of its fields, not of reading.
func TestFaultyText(t *testing.T) {
	for fault, want := range map[sam.Fault]string{
		sam.UnknownCodes: "[sex: prcid: unknown code ethnic group: prcid: unknown code]",
		sam.NotText:      "[name: prcid: not text]",
	} {
		s := start(t)
		m := open(t, s, prcid.Options{})
		s.Place(sam.Resident(sam.Specimen()))
		s.Fail(fault)
		if err := m.Find(t.Context()); err != nil {
			t.Fatal(err)
		}
		if d, err := m.Read(t.Context(), nil); err != nil || fmt.Sprint(d.Problems) != want {
			t.Errorf("%v, %v, want %s", d.Problems, err, want)
		}
	}
}

func TestRefusesToPrint(t *testing.T) {
	c := sam.Resident(sam.Specimen())
	d, err := prcid.Parse(c.Text[:])
	if err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	slog.New(slog.NewTextHandler(&log, nil)).Info("read", "card", d, "birth", d.Birth, "sex", d.Sex)
	for _, s := range []string{fmt.Sprint(d), fmt.Sprintf("%+v %#v %s %d", d, d, &d, d), fmt.Sprint(d.Birth, d.Sex), log.String()} {
		for _, personal := range []string{"样本", "1974", "100000", "female", "女"} {
			if strings.Contains(s, personal) {
				t.Errorf("prints %q", s)
			}
		}
	}
	if _, err := json.Marshal(d); !errors.Is(err, secret.ErrMarshal) {
		t.Error(err)
	}
	if _, err := json.Marshal(d.Birth); !errors.Is(err, secret.ErrMarshal) {
		t.Error(err)
	}
}

func TestOpen(t *testing.T) {
	if _, err := prcid.Open(t.Context(), filepath.Join(t.TempDir(), "none"), prcid.Options{}); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	if _, err := prcid.Open(t.Context(), os.DevNull, prcid.Options{}); err == nil {
		t.Error("takes what is no serial port")
	}
	s := start(t)
	if _, err := prcid.Open(t.Context(), s.Path(), prcid.Options{Baud: 300}); err == nil {
		t.Error("takes any speed")
	}
	m := open(t, s, prcid.Options{Baud: 9600})
	if _, err := prcid.Open(t.Context(), s.Path(), prcid.Options{}); err == nil {
		t.Error("two drivers on one line")
	}
	m.Close()
	s.Fail(sam.Unauthorised)
	if _, err := prcid.Open(t.Context(), s.Path(), prcid.Options{}); !errors.Is(err, prcid.ErrModule) {
		t.Error(err)
	}
	s.Fail("")
	open(t, s, prcid.Options{})
}

// What an earlier program left on the line is not the answer to this one.
func TestOpenFlushes(t *testing.T) {
	s := start(t)
	f, err := os.OpenFile(s.Path(), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	f.Write([]byte("\xAA\xAA\xAA\x96\x69\x00\x03\x20\x01\x22"))
	f.Close()
	for s.Commands() == 0 {
		time.Sleep(time.Millisecond)
	}
	time.Sleep(20 * time.Millisecond)
	open(t, s, prcid.Options{})
}

// A module at the end of a network line works as one at a serial port, and a
// line that ends says so.
func TestNetworkLine(t *testing.T) {
	here, there := net.Pipe()
	m := prcid.New(here, prcid.Options{})
	defer m.Close()
	go func() {
		there.Read(make([]byte, 10))
		there.Write([]byte("\xAA\xAA\xAA\x96\x69\x00\x04\x00\x00\x90\x94"))
		there.Read(make([]byte, 10))
		there.Close()
	}()
	if err := m.Check(t.Context()); err != nil {
		t.Error(err)
	}
	if err := m.Check(t.Context()); err == nil || errors.Is(err, prcid.ErrNoAnswer) || errors.Is(err, prcid.ErrFrame) {
		t.Error(err)
	}
}

func script(t testing.TB, name string) string {
	t.Helper()
	path, err := filepath.Abs("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func TestDecoder(t *testing.T) {
	photo := secret.New([]byte("a photo in no known format"))
	if _, err := (prcid.Decoder{}).Decode(t.Context(), photo); !errors.Is(err, portrait.ErrNoDecoder) {
		t.Error(err)
	}
	m, err := prcid.Decoder{Path: script(t, "decode.sh")}.Decode(t.Context(), photo)
	if err != nil {
		t.Fatal(err)
	}
	// decode.sh paints the photo's first bytes: blue, green, red.
	if r, g, b, _ := m.At(0, 0).RGBA(); m.Bounds().Dx() != 2 || b>>8 != 'a' || g>>8 != ' ' || r>>8 != 'p' {
		t.Errorf("%v, first pixel %d %d %d", m.Bounds(), r>>8, g>>8, b>>8)
	}
	for arg, want := range map[string]error{"large": portrait.ErrTooLarge, "text": portrait.ErrFormat, "fail": portrait.ErrDecoder} {
		if _, err := (prcid.Decoder{Path: script(t, "decode.sh"), Args: []string{arg}}).Decode(t.Context(), photo); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", arg, err, want)
		}
	}
}
