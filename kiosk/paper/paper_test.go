package paper_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"image"
	"image/draw"
	"image/png"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"enrollkiosk/kiosk"
	"enrollkiosk/kiosk/paper"
	"enrollkiosk/kiosk/secret"
	"enrollkiosk/kiosk/words"
)

func view() kiosk.ReceiptView {
	return kiosk.ReceiptView{RecordID: strings.Repeat("9f3c21d0", 8), CancelCode: secret.FromString("7X2R-PJE5-1YQT-S9TB-PDZ3-K6E3-0M8H"),
		QR: strings.Repeat("c2sp.org/tlog-proof@v1 ", 90), Final: "c2sp.org/tlog-proof@v1", Saved: time.Date(2026, 5, 4, 10, 42, 0, 0, time.UTC), Custody: "39402174"}
}

func catalogue(t *testing.T, language string) *words.Catalog {
	t.Helper()
	c, err := words.Open(language)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// set makes a receipt and leaves it in a file.
func set(t *testing.T, language string, r kiosk.ReceiptView, training bool) (pdf []byte, path string) {
	t.Helper()
	pdf, err := paper.Receipt(catalogue(t, language), r, "KIOSK-0001", training)
	if err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(t.TempDir(), "receipt.pdf")
	if err := os.WriteFile(path, pdf, 0o600); err != nil {
		t.Fatal(err)
	}
	return pdf, path
}

// run is a program of the package poppler-utils or zbar-tools.
func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	var complaints bytes.Buffer
	cmd := exec.Command(name, args...)
	cmd.Stderr = &complaints
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s (scripts/install-packages installs it): %v\n%s", name, err, complaints.String())
	}
	if complaints.Len() > 0 {
		t.Errorf("%s: %s", name, complaints.String())
	}
	return string(out)
}

// Readers of PDF find the sentences of every language as text, in the order in
// which they are read, and one page.
func TestEverySentenceCanBeRead(t *testing.T) {
	plain := strings.NewReplacer("\u200b", "", " ", "", "\n", "", "\f", "")
	for _, language := range words.Languages() {
		t.Run(language, func(t *testing.T) {
			r := view()
			_, path := set(t, language, r, true)
			if info := run(t, "pdfinfo", path); !strings.Contains(info, "Pages:           1\n") || !strings.Contains(info, "A4") {
				t.Errorf("not one page of A4:\n%s", info)
			}
			text := plain.Replace(run(t, "pdftotext", "-raw", path, "-"))
			c := catalogue(t, language)
			for _, want := range []string{c.Label(words.App, nil), c.Label(words.Training, nil), c.Title(kiosk.ScreenReceipt), c.Label(words.ReceiptFinal, nil),
				c.Label(words.Record, nil), r.Number(), c.Label(words.Saved, nil), r.Saved.Local().Format("2006-01-02 15:04"), "KIOSK-0001",
				c.Label(words.CustodyNumber, nil), r.Custody, c.Label(words.CustodyHint, nil), c.Label(words.PaperKeep, nil), c.Label(words.PaperCut, nil),
				c.Label(words.CancelCode, nil), string(r.CancelCode.Reveal()), c.Label(words.CancelHint, nil)} {
				if !strings.Contains(text, plain.Replace(want)) {
					t.Errorf("no %q in %q", want, text)
				}
			}
		})
	}
}

// A copy has no cancel code, and a receipt of a real kiosk no word of training.
func TestCopy(t *testing.T) {
	r := view()
	r.CancelCode = secret.Text{}
	r.Final = ""
	_, path := set(t, "en", r, false)
	text := run(t, "pdftotext", path, "-")
	c := catalogue(t, "en")
	for _, want := range []string{"Copy of your receipt", "It will be sent when"} {
		if !strings.Contains(strings.ReplaceAll(text, "\n", " "), want) {
			t.Errorf("no %q in %q", want, text)
		}
	}
	for _, l := range []words.Label{words.CancelCode, words.PaperCut, words.Training} {
		if strings.Contains(text, c.Label(l, nil)) {
			t.Errorf("%q on a copy:\n%s", c.Label(l, nil), text)
		}
	}
}

// A camera reads the code from paper at 300 dots an inch, the longest one too.
func TestQRFromPaper(t *testing.T) {
	r := view()
	r.QR = strings.Repeat("0123456789abcdef", 150)
	_, path := set(t, "en", r, true)
	picture := strings.TrimSuffix(path, ".pdf")
	run(t, "pdftoppm", "-r", "300", "-png", "-singlefile", path, picture)
	if got := strings.TrimSuffix(run(t, "zbarimg", "--nodbus", "--quiet", "--raw", "-Sdisable", "-Sqrcode.enable", picture+".png"), "\n"); got != r.QR {
		t.Errorf("read %q", got)
	}
}

// What is drawn stays on the paper, 15 mm from its edges but for the band at the
// top and the line to cut along.
func TestMargins(t *testing.T) {
	for _, language := range words.Languages() {
		_, path := set(t, language, view(), true)
		picture := strings.TrimSuffix(path, ".pdf")
		run(t, "pdftoppm", "-r", "60", "-png", "-singlefile", "-gray", path, picture)
		f, err := os.Open(picture + ".png")
		if err != nil {
			t.Fatal(err)
		}
		img, err := png.Decode(f)
		f.Close()
		if err != nil {
			t.Fatal(err)
		}
		gray, dots := image.NewGray(img.Bounds()), func(mm int) int { return mm * 60 * 10 / 254 }
		b := gray.Rect
		draw.Draw(gray, b, img, b.Min, draw.Src)
		for y := dots(33); y < b.Max.Y; y++ {
			line := 0
			for x := range b.Max.X {
				if gray.GrayAt(x, y).Y < 0xF0 && (x < dots(15) || x >= b.Max.X-dots(15)) {
					line++
				}
			}
			if line > 0 && line < dots(12) { // not the line to cut along
				t.Errorf("%s: ink in the margin at %d mm", language, y*254/600)
			}
		}
		for y := b.Max.Y - dots(12); y < b.Max.Y; y++ {
			for x := range b.Max.X {
				if gray.GrayAt(x, y).Y < 0xF0 {
					t.Fatalf("%s: ink at the bottom", language)
				}
			}
		}
	}
}

func TestSameBytes(t *testing.T) {
	a, _ := set(t, "hi", view(), true)
	b, _ := set(t, "hi", view(), true)
	if !bytes.Equal(a, b) {
		t.Error("the same receipt is set in two ways")
	}
}

func TestTooLong(t *testing.T) {
	r := view()
	for _, text := range []string{"", strings.Repeat("x", 3000)} {
		r.QR = text
		if _, err := paper.Receipt(catalogue(t, "en"), r, "KIOSK-0001", false); !errors.Is(err, paper.ErrTooLong) {
			t.Errorf("%d bytes: %v", len(text), err)
		}
	}
}

// No line leaves its column, measured as it is set: in letters that are joined, and in
// the face of the whole line. All sentences of the kiosk are tried, in many columns.
func TestLinesStayInTheirColumn(t *testing.T) {
	setter := paper.NewSetter()
	for _, language := range words.Languages() {
		b, err := os.ReadFile(filepath.Join("..", "words", language+".json"))
		if err != nil {
			t.Fatal(err)
		}
		var tree any
		if err := json.Unmarshal(b, &tree); err != nil {
			t.Fatal(err)
		}
		// Figures among Hindi words are wider than by themselves.
		all := append(sentences(tree), "रसीद "+strings.Repeat("12345678 9012345 ", 20))
		if len(all) < 501 {
			t.Fatalf("%s: %d sentences", language, len(all))
		}
		for i, text := range all {
			width, heavy := 90+float64(i*37%400), i%2 == 0
			lines, wide := setter.Lines(width, text, 12, heavy)
			for n, line := range lines {
				if wide[n] > width+0.5 {
					t.Errorf("%s: %.2f in a column of %.0f: %q", language, wide[n], width, line)
				}
			}
		}
	}
}

func sentences(tree any) (all []string) {
	switch v := tree.(type) {
	case string:
		return []string{v}
	case map[string]any:
		for _, key := range slices.Sorted(maps.Keys(v)) {
			all = append(all, sentences(v[key])...)
		}
	}
	return all
}
