package prcid

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"errors"
	"io"
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
