package record_test

import (
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"testing"

	"enrollkiosk/registry/record"
)

// The code on paper, its bytes and its hash, so that others can build the same.
func TestCancelCodeVector(t *testing.T) {
	var code [16]byte
	for i := range code {
		code[i] = byte(i)
	}
	if got, want := record.FormatCancelCode(code), "000G-40R4-0M30-E209-185G-R38E-1Y7E"; got != want {
		t.Errorf("written %s, want %s", got, want)
	}
	if got, want := fmt.Sprintf("%x", record.CancelHash(code[:])), "dc0704ee24bf5279bd97a261b18d5a3cfe32ea149d0c5af9c1e35f8cb7aecc88"; got != want {
		t.Errorf("hash %s, want %s", got, want)
	}
}

// However people write it down and type it in, it is the same code.
func TestCancelCodeAsTyped(t *testing.T) {
	var code [16]byte
	for i := range code {
		code[i] = byte(17 * i)
	}
	paper := record.FormatCancelCode(code)
	plain := strings.ReplaceAll(paper, "-", "")
	wide := strings.Map(func(r rune) rune { return r + '\uFF01' - '!' }, plain)
	for name, typed := range map[string]string{"as printed": paper, "small": strings.ToLower(paper), "one word": plain, "spaces": " " + strings.ReplaceAll(paper, "-", "  ") + "\n",
		"other dashes": strings.ReplaceAll(paper, "-", "–"), "other groups": plain[:7] + " " + plain[7:], "wide letters": wide,
		"O and I": strings.NewReplacer("0", "O", "1", "I").Replace(paper), "o and l": strings.NewReplacer("0", "o", "1", "l").Replace(paper)} {
		if got, err := record.ParseCancelCode(typed); err != nil || got != code {
			t.Errorf("%s: %x, %v", name, got, err)
		}
	}
}

// One wrong letter, two that changed places, one too many or too few: the paper
// says so before anybody is asked.
func TestCancelCodeMistyped(t *testing.T) {
	missed, tried := 0, 0
	for range 40 {
		var code [16]byte
		rand.Read(code[:])
		plain := strings.ReplaceAll(record.FormatCancelCode(code), "-", "")
		for i := range plain {
			for _, other := range "0123456789ABCDEFGHJKMNPQRSTVWXYZ" {
				typed := plain[:i] + string(other) + plain[i+1:]
				if typed == plain {
					continue
				}
				tried++
				if _, err := record.ParseCancelCode(typed); err == nil {
					missed++
				} else if !errors.Is(err, record.ErrCancelCode) {
					t.Fatal(err)
				}
			}
		}
		for _, typed := range []string{plain[1:], plain + "0", "", plain[:27] + "U", plain[:27] + "é", strings.Repeat(plain, 4)} {
			if _, err := record.ParseCancelCode(typed); !errors.Is(err, record.ErrCancelCode) {
				t.Errorf("%q: %v", typed, err)
			}
		}
	}
	if missed > tried/500 { // one in 4096 gets through
		t.Errorf("%d of %d slips are not found", missed, tried)
	}
}

func FuzzParseCancelCode(f *testing.F) {
	f.Add("000G-40R4-0M30-E209-185G-R38E-1Y7E")
	f.Add("oooG 40r4 OM3o e2o9 i85g r38e ly7e")
	f.Add("")
	f.Fuzz(func(t *testing.T, typed string) {
		code, err := record.ParseCancelCode(typed)
		if err != nil {
			return
		}
		if again, err := record.ParseCancelCode(record.FormatCancelCode(code)); err != nil || again != code {
			t.Errorf("%q: %x, then %x, %v", typed, code, again, err)
		}
	})
}
