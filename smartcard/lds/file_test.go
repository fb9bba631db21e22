package lds_test

import (
	"errors"
	"strings"
	"testing"

	"enrollkiosk/smartcard/lds"
	"enrollkiosk/smartcard/tlv"
)

func TestFileNames(t *testing.T) {
	for f, want := range map[lds.File]struct {
		name   string
		fid    uint16
		sfi    byte
		tag    tlv.Tag
		master bool
	}{
		lds.DG1:            {"DG1", 0x0101, 1, 0x61, false},
		lds.DG2:            {"DG2", 0x0102, 2, 0x75, false},
		lds.DG14:           {"DG14", 0x010E, 14, 0x6E, false},
		lds.DG15:           {"DG15", 0x010F, 15, 0x6F, false},
		lds.DG16:           {"DG16", 0x0110, 16, 0x70, false},
		lds.EFCOM:          {"EF.COM", 0x011E, 0x1E, 0x60, false},
		lds.EFSOD:          {"EF.SOD", 0x011D, 0x1D, 0x77, false},
		lds.EFCardAccess:   {"EF.CardAccess", 0x011C, 0x1C, 0x31, true},
		lds.EFCardSecurity: {"EF.CardSecurity", 0x011D, 0x1D, 0x30, true},
		lds.EFDIR:          {"EF.DIR", 0x2F00, 0x1E, 0, true},
		lds.EFATRInfo:      {"EF.ATR/INFO", 0x2F01, 0x01, 0, true},
		0x3F00:             {"EF 3F00", 0x3F00, 0, 0, false},
	} {
		if f.String() != want.name || f.FID() != want.fid || f.SFI() != want.sfi || f.Tag() != want.tag || f.Master() != want.master {
			t.Errorf("%v: FID %X, SFI %X, tag %X, master %v", f, f.FID(), f.SFI(), f.Tag(), f.Master())
		}
		if f == 0x3F00 {
			continue
		}
		for _, name := range []string{want.name, strings.ToLower(want.name), strings.TrimPrefix(want.name, "EF.")} {
			if got, err := lds.ParseFile(name); got != f || err != nil {
				t.Errorf("%s: %v, %v", name, got, err)
			}
		}
	}
	for _, name := range []string{"", "EF.", "DG", "DG0", "DG17", "DG01", "011D", "EF.EF.COM"} {
		if f, err := lds.ParseFile(name); !errors.Is(err, lds.ErrMalformed) {
			t.Errorf("%q: %v, %v", name, f, err)
		}
	}
}
