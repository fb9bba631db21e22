package lds

import (
	"enrollkiosk/kiosk/secret"
	"enrollkiosk/smartcard/tlv"
)

// PersonalDetails is DG11 (Doc 9303-10 4.7.11). It refuses to print and to
// marshal. Fields that the card does not have are empty.
type PersonalDetails struct {
	private
	FullName       Name
	OtherNames     []Name
	PersonalNumber secret.Text
	Birth          secret.Text // YYYYMMDD; month and day may be "00" or "<<"
	PlaceOfBirth   []secret.Text
	Address        []secret.Text
	Telephone      secret.Text
	Profession     secret.Text
	Title          secret.Text
	Summary        secret.Text
	Citizenship    Image         // proof of it
	OtherDocuments []secret.Text // numbers of other valid travel documents
	Custody        secret.Text
	Unread         []tlv.Tag // objects that are there and could not be read
}

// ParseDG11 reads DG11. A field that it cannot read stands in Unread and hides
// none of the others.
func ParseDG11(file []byte) (PersonalDetails, error) {
	return readDG11(file, new(findings))
}

func readDG11(file []byte, f *findings) (PersonalDetails, error) {
	nodes, err := parseDetails(DG11, file, f)
	if err != nil {
		return PersonalDetails{}, err
	}
	var d PersonalDetails
	r := readers{
		0x5F0E: name(&d.FullName),
		0xA0:   nameList(0x5F0F, &d.OtherNames),
		0x5F0F: addName(&d.OtherNames), // without DO'A0', on cards in the field
		0x5F10: text(&d.PersonalNumber),
		0x5F2B: date(&d.Birth),
		0x5F11: lines(&d.PlaceOfBirth),
		0x5F42: lines(&d.Address),
		0x5F12: text(&d.Telephone),
		0x5F13: text(&d.Profession),
		0x5F14: text(&d.Title),
		0x5F15: text(&d.Summary),
		0x5F16: picture(&d.Citizenship),
		0x5F17: lines(&d.OtherDocuments),
		0x5F18: text(&d.Custody),
	}
	d.Unread = r.read(nodes, f)
	return d, nil
}
