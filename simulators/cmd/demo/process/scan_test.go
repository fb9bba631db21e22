package process_test

import (
	"bytes"
	"encoding/base32"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf16"
)

// canary is something that must be in no file.
type canary struct {
	name  string
	value []byte
}

// needle is one way in which a canary may have been written.
type needle struct {
	what  string
	bytes []byte
}

// needles are the ways in which programs write bytes: as they are, in the
// encodings of texts and dumps, and as memory words. The plain, hexadecimal and
// UTF-16 ones are in lower case, to be found in any case; base64 and base32 depend
// on what stands before, so there is one for each offset, without the characters
// at its ends that neighbours share.
func needles(c canary) (folded, exact []needle) {
	add := func(to *[]needle, how string, b []byte) {
		if !slices.ContainsFunc(*to, func(n needle) bool { return bytes.Equal(n.bytes, b) }) {
			*to = append(*to, needle{c.name + ", " + how, b})
		}
	}
	text := fold(c.value)
	add(&folded, "plain", text)
	add(&folded, "reversed", reversed(text)) // a big integer in memory
	for _, order := range []binary.AppendByteOrder{binary.LittleEndian, binary.BigEndian} {
		var wide []byte
		for _, u := range utf16.Encode([]rune(string(text))) {
			wide = order.AppendUint16(wide, u)
		}
		add(&folded, "UTF-16", wide)
	}
	for _, raw := range [][]byte{c.value, bytes.ToUpper(c.value), bytes.ToLower(c.value)} {
		add(&folded, "hex", []byte(hex.EncodeToString(raw)))
		add(&folded, "hex word", []byte(hex.EncodeToString(reversed(raw[:min(8, len(raw))])))) // as stacks are dumped
		for _, f := range []struct{ verb, between string }{{"%02x", " "}, {"%02x", ":"}, {"%02x", "-"}, {"0x%x", ", "}, {"0x%x", ","}, {"\\x%02x", ""},
			{"%d", " "}, {"%d", ","}, {"%d", ", "}} {
			var parts []string
			for _, b := range raw {
				parts = append(parts, fmt.Sprintf(f.verb, b))
			}
			add(&folded, fmt.Sprintf("%q bytes", f.verb+f.between), []byte(strings.Join(parts, f.between)))
		}
		for offset := range 5 {
			padded := append(make([]byte, offset), raw...)
			if offset < 3 {
				first, last := (offset*8+5)/6, len(padded)*8/6
				for _, e := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
					add(&exact, "base64", []byte(e.EncodeToString(padded)[first:last]))
				}
			}
			first, last := (offset*8+4)/5, len(padded)*8/5
			add(&exact, "base32", []byte(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(padded)[first:last]))
		}
	}
	return folded, exact
}

func reversed(b []byte) []byte {
	b = bytes.Clone(b)
	slices.Reverse(b)
	return b
}

// fold makes ASCII letters small and leaves every other byte alone.
func fold(b []byte) []byte {
	out := bytes.Clone(b)
	for i, c := range out {
		if 'A' <= c && c <= 'Z' {
			out[i] = c + 'a' - 'A'
		}
	}
	return out
}

// index is bytes.Index for folded text. Six or eight digits also come about by
// chance, inside a digest or an address in hexadecimal: digits count only where no
// hexadecimal digit stands beside them.
func index(b, needle []byte) int {
	const decimal, hexadecimal = "0123456789", "0123456789abcdef"
	if len(needle) > 8 || bytes.Trim(needle, decimal) != nil {
		return bytes.Index(b, needle)
	}
	for from := 0; ; {
		i := bytes.Index(b[from:], needle)
		if i < 0 {
			return -1
		}
		i += from
		end := i + len(needle)
		if (i == 0 || !strings.Contains(hexadecimal, string(b[i-1:i]))) && (end == len(b) || !strings.Contains(hexadecimal, string(b[end:end+1]))) {
			return i
		}
		from = i + 1
	}
}

// scan searches everything below dir, names too, and returns what it found and
// the files that it read, relative to dir.
func scan(dir string, canaries []canary) (found, files []string, err error) {
	var folded, exact []needle
	for _, c := range canaries {
		f, e := needles(c)
		folded, exact = append(folded, f...), append(exact, e...)
	}
	search := func(where string, b []byte) {
		small := fold(b)
		for _, n := range folded {
			if i := index(small, n.bytes); i >= 0 {
				found = append(found, fmt.Sprintf("%s at %d: %s", where, i, n.what))
			}
		}
		for _, n := range exact {
			if i := bytes.Index(b, n.bytes); i >= 0 {
				found = append(found, fmt.Sprintf("%s at %d: %s", where, i, n.what))
			}
		}
	}
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		search("the name "+name, []byte(name))
		if !d.Type().IsRegular() {
			return nil
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		files = append(files, name)
		search(name, b)
		return nil
	})
	return found, files, err
}

// The scanner is only worth something if it finds a canary however it was
// written.
func TestScannerFindsEveryEncoding(t *testing.T) {
	for _, value := range []string{"QUXVYZKAPPEL", "80246973", "987613", "D1234567X"} {
		raw := []byte(value)
		var wide []byte
		for _, u := range utf16.Encode([]rune(value)) {
			wide = binary.BigEndian.AppendUint16(wide, u)
		}
		for how, written := range map[string]string{
			"plain":          value,
			"lower case":     strings.ToLower(value),
			"quoted":         fmt.Sprintf("name=%q", value),
			"hex":            fmt.Sprintf("%x", value),
			"upper hex":      fmt.Sprintf("%X", value),
			"hex of lower":   fmt.Sprintf("%x", strings.ToLower(value)),
			"spaced hex":     fmt.Sprintf("% x", value),
			"Go bytes":       fmt.Sprintf("%#v", raw),
			"decimal":        fmt.Sprintf("%d", raw),
			"UTF-16":         string(wide),
			"base64":         base64.StdEncoding.EncodeToString(raw),
			"base64 after 1": base64.StdEncoding.EncodeToString(append([]byte("x"), raw...)),
			"base64 after 2": base64.URLEncoding.EncodeToString([]byte("xy" + value + "z")),
			"base32":         base32.StdEncoding.EncodeToString([]byte("xyzv" + value + "z")),
			"memory word":    fmt.Sprintf("main.f(0x%x)", binary.LittleEndian.Uint64([]byte(value + "\x00\x00\x00\x00\x00\x00\x00\x00")[:8])),
		} {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "f"), []byte("before "+written+" after"), 0o600); err != nil {
				t.Fatal(err)
			}
			found, _, err := scan(dir, []canary{{"value", raw}})
			if err != nil {
				t.Fatal(err)
			}
			if len(found) == 0 {
				t.Errorf("%s written as %s (%q) is not found", value, how, written)
			}
			if found, _, _ := scan(dir, []canary{{"another", []byte("13579BDF")}}); len(found) > 0 {
				t.Errorf("found what is not there: %v", found)
			}
		}
	}
}
