package trust_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"os"
	"testing"

	"enrollkiosk/kiosk/secret"
	"enrollkiosk/smartcard/lds"
	"enrollkiosk/smartcard/trust"
)

type hexBytes []byte

func (h *hexBytes) UnmarshalText(text []byte) (err error) {
	*h, err = hex.DecodeString(string(text))
	return err
}

// specimen is the document of testdata/specimen.json.
type specimen struct {
	CSCA  hexBytes
	Files map[string]hexBytes
	Chip  struct {
		TerminalKey hexBytes `json:"terminal_key"`
		Command     hexBytes
		Response    hexBytes
		SSC         hexBytes
	}
	Active struct{ Challenge, Signature hexBytes }
}

func loadSpecimen(t testing.TB) (specimen, trust.Anchors) {
	t.Helper()
	b, err := os.ReadFile("testdata/specimen.json")
	if err != nil {
		t.Fatal(err)
	}
	var s specimen
	if err := json.Unmarshal(b, &s); err != nil {
		t.Fatal(err)
	}
	anchors, err := trust.NewAnchors([]trust.Anchor{{Certificate: s.CSCA, Class: trust.Test}})
	if err != nil {
		t.Fatal(err)
	}
	return s, anchors
}

func (s specimen) document() lds.Document {
	d := lds.Document{Access: "PACE", Files: make(map[lds.File][]byte)}
	for _, f := range []lds.File{lds.DG1, lds.DG2, lds.DG14, lds.DG15, lds.EFSOD} {
		d.Files[f] = s.Files[f.String()]
	}
	d.Chip = &lds.ChipAuthentication{
		Protocol: oid(lds.OIDCAECDH, 2), TerminalKey: secret.New(bytes.Clone(s.Chip.TerminalKey)),
		Command: s.Chip.Command, Response: s.Chip.Response, SSC: s.Chip.SSC,
	}
	d.Active = &lds.ActiveAuthentication{Challenge: [8]byte(s.Active.Challenge), Signature: s.Active.Signature}
	return d
}

func FuzzVerify(f *testing.F) {
	s, anchors := loadSpecimen(f)
	if _, _, err := trust.Verify(s.document(), anchors, now, strict); err != nil {
		f.Fatalf("the specimen is refused: %v", err)
	}
	// Which part to replace, and by what.
	f.Add(byte(0), []byte(s.Files["DG1"]))
	f.Add(byte(1), []byte(s.Files["DG2"]))
	f.Add(byte(2), []byte(s.Files["DG14"]))
	f.Add(byte(3), []byte(s.Files["DG15"]))
	f.Add(byte(4), []byte(s.Files["EF.SOD"]))
	f.Add(byte(5), []byte(s.Chip.Command))
	f.Add(byte(6), []byte(s.Chip.Response))
	f.Add(byte(7), []byte(s.Active.Signature))
	f.Add(byte(8), []byte(s.Chip.TerminalKey))
	f.Add(byte(9), []byte(s.Chip.SSC))
	f.Fuzz(func(t *testing.T, part byte, b []byte) {
		d := s.document()
		var was []byte
		put := func(at *[]byte) { was, *at = *at, b }
		files := []lds.File{lds.DG1, lds.DG2, lds.DG14, lds.DG15, lds.EFSOD}
		switch part %= 10; part {
		case 5:
			put(&d.Chip.Command)
		case 6:
			put(&d.Chip.Response)
		case 7:
			put(&d.Active.Signature)
		case 8:
			was, d.Chip.TerminalKey = d.Chip.TerminalKey.Reveal(), secret.New(bytes.Clone(b))
		case 9:
			put(&d.Chip.SSC)
		default:
			was, d.Files[files[part]] = d.Files[files[part]], b
		}
		h, _, err := trust.Verify(d, anchors, now, strict)
		if h.Valid() != (err == nil) {
			t.Fatalf("holder and error at once: %v", err)
		}
		if !h.Valid() || bytes.Equal(b, was) {
			return
		}
		// What CMS leaves unsigned may differ, what is signed may not; and an ECDSA
		// signature has a second form.
		got := h.Document()
		for _, f := range files[:4] {
			if !bytes.Equal(got.Files[f], s.Files[f.String()]) {
				t.Errorf("%v was altered", f)
			}
		}
		if part != 4 && part != 7 {
			t.Errorf("part %d was altered", part)
		}
	})
}

func FuzzNewAnchors(f *testing.F) {
	s, _ := loadSpecimen(f)
	f.Add([]byte(s.CSCA), []byte{})
	f.Fuzz(func(t *testing.T, cert, crl []byte) {
		trust.NewAnchors([]trust.Anchor{{Certificate: cert, Class: trust.Test}}, crl)
		trust.NewAnchors([]trust.Anchor{{Certificate: s.CSCA, Class: trust.Test}}, crl)
	})
}

func BenchmarkVerify(b *testing.B) {
	s, anchors := loadSpecimen(b)
	d := s.document()
	for b.Loop() {
		if _, _, err := trust.Verify(d, anchors, now, strict); err != nil {
			b.Fatal(err)
		}
	}
}
