package lds_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"enrollkiosk/kiosk/secret"
	"enrollkiosk/smartcard/lds"
)

// join writes names as the zone would.
func join(names ...lds.Name) string {
	var all []string
	for _, n := range names {
		s := reveal(n.Primary)
		if n.Secondary.Len() > 0 {
			s += "<<" + reveal(n.Secondary)
		}
		all = append(all, strings.ReplaceAll(s, " ", "<"))
	}
	return strings.Join(all, "; ")
}

func parts(texts []secret.Text) string {
	var all []string
	for _, t := range texts {
		all = append(all, reveal(t))
	}
	return strings.Join(all, "<")
}

// The worked examples of Doc 9303, and samples of readers' authors: see the
// source of each.
func TestFiles(t *testing.T) {
	for _, v := range load(t, "lds.json") {
		switch {
		case v.File == "EF.COM":
			com, err := lds.ParseCOM(unhex(t, v.Bytes))
			var groups []string
			for _, g := range com.Groups {
				groups = append(groups, strings.TrimPrefix(g.String(), "DG"))
			}
			if err != nil || com.LDSVersion != v.Content["lds_version"] || com.UnicodeVersion != v.Content["unicode_version"] ||
				strings.Join(groups, " ") != v.Content["data_groups"] || com.Unknown != nil {
				t.Errorf("%s: %+v, %v", v.Name, com, err)
			}
		case v.File == "EF.DG1":
			m, err := lds.ParseDG1(unhex(t, v.Bytes))
			// The composite digit of the TD1 example is misprinted in the standard.
			if wrong := strings.HasSuffix(v.Name, "TD1"); errors.Is(err, lds.ErrCheckDigit) != wrong || !wrong && err != nil || m.Primary.Len() == 0 {
				t.Errorf("%s: %v", v.Name, err)
			}
		case v.File == "EF.DG2":
			// The standard prints the headers of a DG2 and leaves the image out.
			image := append([]byte{0xFF, 0xD8, 0xFF}, make([]byte, v.ImageBlock-14-20-12-3)...)
			record := append([]byte("FAC\x00010\x00"), 0, 0, byte(v.ImageBlock>>8), byte(v.ImageBlock), 0, 1)
			record = append(record, 0, 0, byte((v.ImageBlock-14)>>8), byte(v.ImageBlock-14))
			record = append(record, make([]byte, 16+12)...)
			faces, err := lds.ParseDG2(slices.Concat(unhex(t, v.HeaderBytes), record, image))
			if err != nil || len(faces) != 1 || !slices.Equal(faces[0].Image, image) || faces[0].MIME != "image/jpeg" {
				t.Errorf("%s: %d faces, %v", v.Name, len(faces), err)
			}
		case v.File == "EF.CardAccess":
			infos, err := lds.ParseCardAccess(unhex(t, v.Bytes))
			if err != nil || len(infos.PACE) != 1 || infos.PACE[0].Version != 2 || infos.PACE[0].ParameterID != 13 ||
				!infos.PACE[0].Protocol.Equal(append(slices.Clone(lds.OIDPACEECDHGM), 2)) {
				t.Errorf("%s: %+v, %v", v.Name, infos, err)
			}
		case v.File == "EF.DG5":
			image := append([]byte{0xFF, 0xD8, 0xFF}, make([]byte, 2000-3)...)
			images, err := lds.ParseDG5(append(unhex(t, v.HeaderBytes), image...))
			if err != nil || len(images) != 1 || !slices.Equal(images[0].Data, image) || images[0].MIME != "image/jpeg" {
				t.Errorf("%s: %d images, %v", v.Name, len(images), err)
			}
		case v.File == "EF.DG11":
			d, err := lds.ParseDG11(unhex(t, v.Bytes))
			if err != nil || d.Unread != nil {
				t.Errorf("%s: unread %X, %v", v.Name, d.Unread, err)
			}
			for field, got := range map[string]string{
				"full_name": join(d.FullName), "place_of_birth": parts(d.PlaceOfBirth), "permanent_address": parts(d.Address),
				"telephone": reveal(d.Telephone), "profession": strings.ReplaceAll(reveal(d.Profession), " ", "<"),
				"other_name": join(d.OtherNames...), "other_names": join(d.OtherNames...),
			} {
				if want, ok := v.Content[field]; ok && got != want && (want != "UTF-8" || got != "\u8d75\u5f6c") {
					t.Errorf("%s: %s = %q, want %q", v.Name, field, got, want)
				}
			}
		case v.File == "EF.DG12":
			d, err := lds.ParseDG12(unhex(t, v.Bytes))
			if err != nil || d.Unread != nil || reveal(d.Personalized) != v.Content["personalization_time"] || reveal(d.Personalization) != v.Content["system_number"] {
				t.Errorf("%s: %q, %q, unread %X, %v", v.Name, reveal(d.Personalized), reveal(d.Personalization), d.Unread, err)
			}
		case v.File == "EF.DG16":
			contacts, err := lds.ParseDG16(unhex(t, v.Bytes))
			if err != nil || len(contacts) != 2 {
				t.Fatalf("%s: %d persons, %v", v.Name, len(contacts), err)
			}
			p := contacts[0]
			if join(p.Name) != "SMITH<<CHARLES<R" || reveal(p.Recorded) != "20020101" || reveal(p.Telephone) != "19525551212" ||
				parts(p.Address) != "123 MAPLE RD<ANYTOWN<MN<55100" || p.Unread != nil || join(contacts[1].Name) != "BROWN<<MARY<J" {
				t.Errorf("%s: %q %q %q", v.Name, join(p.Name), reveal(p.Recorded), parts(p.Address))
			}
		case v.File == "EF.DIR":
			applications, err := lds.ParseDIR(unhex(t, v.Bytes))
			if err != nil || len(applications) != 4 || string(applications[0]) != "\xA0\x00\x00\x02\x47\x10\x01" {
				t.Errorf("%s: %X, %v", v.Name, applications, err)
			}
		case v.File == "EF.ATR/INFO":
			info, err := lds.ParseATRInfo(unhex(t, v.Bytes))
			if err != nil || info != (lds.ATRInfo{MaxCommand: 1920, MaxAnswer: 1920}) {
				t.Errorf("%s: %+v, %v", v.Name, info, err)
			}
		default:
			t.Errorf("%s: unexpected file %s", v.Name, v.File)
		}
	}
}
