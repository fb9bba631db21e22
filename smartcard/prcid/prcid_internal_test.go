package prcid

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"testing"
)

// Commands as public readers hold them (class SerialReader of YinanSoft's
// reader kit; protocol sheets of the SAM_V module).
func TestCommandFrames(t *testing.T) {
	for want, c := range map[string]command{
		"aaaaaa9669000310ffec": commandReset,
		"aaaaaa9669000311ffed": commandStatus,
		"aaaaaa9669000312ffee": commandNumber,
		"aaaaaa96690003200122": commandFind,
		"aaaaaa96690003200221": commandSelect,
		"aaaaaa96690003300132": commandRead,
		"aaaaaa96690003300330": commandReadAddress,
		"aaaaaa96690003301023": commandReadPrints,
	} {
		if got := hex.EncodeToString(c.frame()); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

// Numbers that public sources print as examples: GB 11643's own two, the
// foreigners' of both issues from the guide to the card of 2023.
func TestNumbers(t *testing.T) {
	for _, v := range []struct {
		kind   Kind
		number string
		birth  string
		sex    byte
	}{
		{Resident, "11010519491231002X", "19491231", female},
		{Resident, "440524188001010014", "18800101", male},
		{Foreigner2023, "932682198501010017", "19850101", 0},
		{Foreigner2017, "KAZ110090123105", "901231", 0},
	} {
		f, err := readNumber(v.kind, []byte(v.number))
		if err != nil || string(f.birth) != v.birth || f.sex != v.sex {
			t.Errorf("%s: %s, %c, %v", v.number, f.birth, f.sex, err)
		}
		// No other last character fits, and no swap of neighbours goes unseen.
		for _, c := range []byte("0123456789X") {
			b := []byte(v.number)
			b[len(b)-1] = c
			if _, err := readNumber(v.kind, b); (err == nil) != (string(b) == v.number) {
				t.Errorf("%s: %v", b, err)
			}
		}
		for i := 3; v.kind != Foreigner2017 && i < 17; i++ {
			b := []byte(v.number)
			if b[i], b[i+1] = b[i+1], b[i]; b[i] != b[i+1] {
				if _, err := readNumber(v.kind, b); err == nil {
					t.Errorf("%s is accepted", b)
				}
			}
		}
	}
}

func TestEthnicGroups(t *testing.T) {
	seen := make(map[string]bool)
	for i := 1; i <= 56; i++ {
		code := string([]byte{byte('0' + i/10), byte('0' + i%10)})
		n, ok := ethnicGroups[code]
		if !ok || n[0] == "" || n[1] == "" || seen[n[0]] || seen[n[1]] {
			t.Errorf("%s: %q", code, n)
		}
		seen[n[0]], seen[n[1]] = true, true
	}
	if len(ethnicGroups) != 58 {
		t.Errorf("%d groups", len(ethnicGroups))
	}
}

// timeout is a line that has nothing more to say.
type timeout struct{ io.Reader }

func (r timeout) Read(b []byte) (int, error) {
	n, err := r.Reader.Read(b)
	if err == io.EOF {
		err = os.ErrDeadlineExceeded
	}
	return n, err
}

func TestReadAnswer(t *testing.T) {
	const noCard = preamble + "\x00\x04\x00\x00\x80\x84"
	noise := func(n int) string { return string(bytes.Repeat([]byte{0xAA}, n)) }
	for name, v := range map[string]struct {
		line string
		err  error
	}{
		"answer":              {noCard, nil},
		"most noise":          {noise(maxNoise) + noCard, nil},
		"one byte more":       {noise(maxNoise+1) + noCard, ErrFrame},
		"silence":             {"", ErrNoAnswer},
		"silence after noise": {noise(3), ErrFrame},
		"no length":           {preamble + "\x00", ErrFrame},
		"length 3":            {preamble + "\x00\x03\x00\x00\x80", ErrFrame},
		"length 2315":         {preamble + "\x09\x0B" + noise(4000), ErrFrame},
		"ends early":          {noCard[:len(noCard)-1], ErrFrame},
	} {
		r := bytes.NewReader([]byte(v.line))
		if a, err := readAnswer(bufio.NewReaderSize(timeout{r}, 16), nil); !errors.Is(err, v.err) || err == nil && a.status != (Status{0, 0, 0x80}) {
			t.Errorf("%s: %v, %v", name, a.status, err)
		}
		if name == "length 2315" && r.Len() < 3900 {
			t.Errorf("%s: it was read", name)
		}
	}
}

// Every status of the protocol sheets stands for one thing, any other for a
// refusal, and none passes for success.
func TestStatus(t *testing.T) {
	want := map[byte]error{
		0x10: ErrRefused, 0x11: ErrRefused, 0x21: ErrRefused, 0x23: ErrRefused, 0x24: ErrRefused,
		0x31: ErrNotGenuine, 0x32: ErrNotGenuine, 0x33: ErrNotGenuine, 0x37: ErrNotGenuine,
		0x3F: ErrCardLost, 0x40: ErrWrongCard, 0x41: ErrCardLost, 0x47: ErrCardLost,
		0x60: ErrModule, 0x66: ErrModule, 0x80: ErrNoCard, 0x81: ErrCardLost, 0x91: ErrNoContent,
	}
	for sw3 := range 256 {
		class, known := want[byte(sw3)]
		if !known {
			class = ErrRefused
		}
		for _, err := range []error{ErrRefused, ErrNotGenuine, ErrCardLost, ErrWrongCard, ErrModule, ErrNoCard, ErrNoContent} {
			if errors.Is(Status{0, 0, byte(sw3)}, err) != (err == class) {
				t.Errorf("%02X: %v", sw3, err)
			}
		}
	}
}

func TestDecodeText(t *testing.T) {
	for name, v := range map[string]struct {
		in, want string
		err      error
	}{
		"blanks at the end":   {"A\x00 \x00 \x00", "A", nil},
		"zeros at the end":    {"A\x00\x00\x00\x00\x00", "A", nil},
		"ideographic blank":   {"A\x00\x00\x30", "A", nil},
		"blank inside":        {"A\x00 \x00B\x00", "A B", nil},
		"surrogate pair":      {"\x40\xD8\x00\xDC", "\U00020000", nil},
		"private use":         {"\x63\xE8", "\uE863", nil},
		"half a pair":         {"\x40\xD8A\x00", "", ErrText},
		"never written":       {"\xFF\xFF\xFF\xFF", "", ErrText},
		"zero inside":         {"A\x00\x00\x00B\x00", "", ErrText},
		"odd number of bytes": {"A\x00B", "", ErrText},
	} {
		if got, err := decodeText([]byte(v.in)); got != v.want || !errors.Is(err, v.err) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}

func TestNumberForms(t *testing.T) {
	for name, v := range map[string]struct {
		kind   Kind
		number string
	}{
		"region of no province":   {Resident, "000000197408120028"},
		"X inside":                {Resident, "1101051949123X0020"},
		"resident's on 2023":      {Foreigner2023, "11010519491231002X"},
		"foreigner's on resident": {Resident, "932682198501010017"},
		"18 digits on 2017":       {Foreigner2017, "932682198501010017"},
		"digits for a country":    {Foreigner2017, "123110090123105"},
		"country in small":        {Foreigner2017, "kaz110090123105"},
	} {
		if _, err := readNumber(v.kind, []byte(v.number)); !errors.Is(err, ErrForm) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzFrame takes anything as what comes over a line: frames and, in them, cards.
func FuzzFrame(f *testing.F) {
	f.Add([]byte("\xAA\xAA\xAA\x96\x69\x00\x04\x00\x00\x80\x84"))
	f.Add([]byte("\x00\xAA\xAA\xAA\xAA\x96\x69\x00\x08\x00\x00\x9F\x00\x00\x00\x00\x97"))
	whole := append([]byte{0x05, 0x08, 0, 0, 0x90, 1, 0, 4, 0}, make([]byte, textSize+photoSize)...)
	sum := byte(0)
	for _, b := range whole {
		sum ^= b
	}
	f.Add(append(append([]byte(preamble), whole...), sum))
	f.Fuzz(func(t *testing.T, b []byte) {
		last := 0
		a, err := readAnswer(bufio.NewReader(bytes.NewReader(b)), func(p Progress) {
			if p.Read <= last || p.Read > p.Total || p.Total > maxLength {
				t.Errorf("progress %+v after %d", p, last)
			}
			last = p.Read
		})
		if err != nil {
			if !errors.Is(err, ErrFrame) && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("untyped error: %v", err)
			}
			return
		}
		// What was accepted is in the input as it would be written.
		again := append([]byte{byte((len(a.data) + 4) >> 8), byte(len(a.data) + 4)}, a.status[:]...)
		again = append(again, a.data...)
		if !bytes.Contains(b, append([]byte(preamble), again...)) {
			t.Error("the frame is not in the input")
		}
		for _, prints := range []bool{false, true} {
			text, photo, fingers, err := splitContent(a.data, prints)
			if err != nil {
				continue
			}
			if len(text) != textSize || len(photo)%photoSize != 0 || len(fingers) > printCount*printSize {
				t.Errorf("%d, %d, %d bytes", len(text), len(photo), len(fingers))
			}
			if _, err := Parse(text); err != nil {
				t.Error(err)
			}
		}
	})
}

// FuzzText: no text fails as a whole; what is no problem is whole.
func FuzzText(f *testing.F) {
	blank := bytes.Repeat([]byte{' ', 0}, textSize/2)
	for _, kind := range []Kind{Resident, Foreigner2017, HongKongMacaoTaiwan, Foreigner2023} {
		text := bytes.Clone(blank)
		text[kindAt] = byte(kind)
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := Parse(bytes.Clone(b))
		if (err == nil) != (len(b) == textSize) {
			t.Fatalf("%d bytes: %v", len(b), err)
		}
		if err != nil {
			return
		}
		if !bytes.Equal(d.Text.Reveal(), b) {
			t.Error("raw bytes changed")
		}
		troubled := make(map[Field]bool)
		for _, p := range d.Problems {
			if p.Err == nil {
				t.Errorf("%s: a problem without an error", p.Field)
			}
			troubled[p.Field] = true
		}
		if _, ok := d.Birth.Day(); !ok && !troubled[FieldBirth] {
			t.Error("no birth, and no problem")
		}
		if _, ok := d.Until.Day(); ok == d.LongTerm && !troubled[FieldUntil] {
			t.Error("no end, and no problem")
		}
		if d.Sex.English.Len() == 0 && !troubled[FieldSex] || d.Number.Len() == 0 && !troubled[FieldNumber] {
			t.Error("a field is empty, and no problem")
		}
	})
}
