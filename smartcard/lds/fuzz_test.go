package lds_test

import (
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"enrollkiosk/smartcard/lds"
	"enrollkiosk/smartcard/tlv"
)

// loadFiles reads the files of one specimen document.
func loadFiles(t testing.TB) map[string][]byte {
	t.Helper()
	b, err := os.ReadFile("testdata/specimen.json")
	if err != nil {
		t.Fatal(err)
	}
	var s struct{ Files map[string]string }
	if err := json.Unmarshal(b, &s); err != nil {
		t.Fatal(err)
	}
	files := make(map[string][]byte)
	for name, content := range s.Files {
		files[name] = unhex(t, content)
	}
	return files
}

// typed fails the test for an error that no caller can class.
func typed(t *testing.T, err error) {
	t.Helper()
	if err != nil && !errors.Is(err, lds.ErrMalformed) && !errors.Is(err, lds.ErrUnsupported) && !errors.Is(err, lds.ErrCheckDigit) {
		t.Errorf("untyped error: %v", err)
	}
}

func FuzzParseMRZ(f *testing.F) {
	for _, v := range load(f, "mrz.json") {
		if v.Kind == "mrz" {
			f.Add(v.Lines[0] + v.Lines[1])
		}
	}
	f.Fuzz(func(t *testing.T, text string) {
		m, err := lds.ParseMRZ(text)
		typed(t, err)
		now := time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC)
		m.Birth.Birth(now)
		m.Expiry.Expiry(now)
		if err == nil {
			// What a person copies from the card opens it as the zone does.
			zone, err1 := m.Information()
			typedIn, err2 := lds.MRZInformation(reveal(m.Number), reveal(m.Birth.Text()), reveal(m.Expiry.Text()))
			if (err1 == nil) != (err2 == nil) || !zone.Equal(typedIn) {
				t.Errorf("information differs: %v, %v", err1, err2)
			}
		}
	})
}

func fuzzFile[T any](f *testing.F, parse func([]byte) (T, error), seeds ...string) {
	files := loadFiles(f)
	for _, s := range seeds {
		if len(files[s]) == 0 {
			f.Fatalf("no %s among the specimens", s)
		}
		f.Add(files[s])
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		_, err := parse(b)
		typed(t, err)
	})
}

func FuzzParseCOM(f *testing.F)        { fuzzFile(f, lds.ParseCOM, "EF.COM") }
func FuzzParseDG1(f *testing.F)        { fuzzFile(f, lds.ParseDG1, "DG1") }
func FuzzParseDG2(f *testing.F)        { fuzzFile(f, lds.ParseDG2, "DG2") }
func FuzzParseDG14(f *testing.F)       { fuzzFile(f, lds.ParseDG14, "DG14") }
func FuzzParseDG15(f *testing.F)       { fuzzFile(f, lds.ParseDG15, "DG15", "DG15 RSA") }
func FuzzParseSOD(f *testing.F)        { fuzzFile(f, lds.ParseSOD, "EF.SOD") }
func FuzzParseCardAccess(f *testing.F) { fuzzFile(f, lds.ParseCardAccess, "EF.CardAccess") }

// vectorFiles are the worked examples of one file.
func vectorFiles(f *testing.F, name string) (files [][]byte) {
	for _, v := range load(f, "lds.json") {
		if v.File == name && v.Bytes != "" {
			files = append(files, unhex(f, v.Bytes))
		}
	}
	if files == nil {
		f.Fatalf("no %s among the examples", name)
	}
	return files
}

func fuzzExamples[T any](f *testing.F, file lds.File, parse func([]byte) (T, error), seeds [][]byte) {
	for _, s := range seeds {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		_, err := parse(b)
		typed(t, err)
		// What is in order can be read.
		if _, checkErr := lds.Check(file, b); checkErr == nil && err != nil {
			t.Errorf("in order, but %v", err)
		}
	})
}

func FuzzParseDG11(f *testing.F) {
	fuzzExamples(f, lds.DG11, lds.ParseDG11, vectorFiles(f, "EF.DG11"))
}

func FuzzParseDG12(f *testing.F) {
	fuzzExamples(f, lds.DG12, lds.ParseDG12, vectorFiles(f, "EF.DG12"))
}

func FuzzParseDG16(f *testing.F) {
	fuzzExamples(f, lds.DG16, lds.ParseDG16, vectorFiles(f, "EF.DG16"))
}

func FuzzParseDIR(f *testing.F) {
	fuzzExamples(f, lds.EFDIR, lds.ParseDIR, vectorFiles(f, "EF.DIR"))
}

func FuzzParseATRInfo(f *testing.F) {
	fuzzExamples(f, lds.EFATRInfo, lds.ParseATRInfo, vectorFiles(f, "EF.ATR/INFO"))
}

func FuzzParseDG5(f *testing.F) {
	fuzzExamples(f, lds.DG5, lds.ParseDG5, [][]byte{tlv.Encode(0x65, []byte{2, 1, 1}, tlv.Encode(0x5F40, jpegImage))})
}

func FuzzParseDG7(f *testing.F) {
	fuzzExamples(f, lds.DG7, lds.ParseDG7, [][]byte{tlv.Encode(0x67, []byte{2, 1, 1}, tlv.Encode(0x5F43, jpegImage))})
}

func FuzzParseFace39794(f *testing.F) {
	fuzzExamples(f, lds.DG2, lds.ParseDG2, [][]byte{inDG2(face39794(2, jpegImage))})
}

func FuzzParseScan(f *testing.F) {
	for _, v := range load(f, "mrz.json") {
		if v.Kind == "mrz" {
			f.Add(strings.Join(v.Lines, "\r"))
		}
	}
	f.Fuzz(func(t *testing.T, text string) {
		m, err := lds.ParseScan(text)
		typed(t, err)
		if err == nil && (m.Number.Len() == 0 || m.Format == "") {
			t.Error("a zone without a number")
		}
	})
}
