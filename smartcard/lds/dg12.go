package lds

import (
	"enrollkiosk/kiosk/secret"
	"enrollkiosk/smartcard/tlv"
)

// DocumentDetails is DG12 (Doc 9303-10 4.7.12). It refuses to print and to
// marshal. Fields that the card does not have are empty.
type DocumentDetails struct {
	private
	Authority       secret.Text // that issued it
	Issued          secret.Text // YYYYMMDD
	OtherPersons    []Name
	Endorsements    secret.Text
	TaxExit         secret.Text // requirements for leaving
	Front           Image
	Rear            Image
	Personalized    secret.Text // YYYYMMDDhhmmss
	Personalization secret.Text // serial number of the system that did it
	Unread          []tlv.Tag   // objects that are there and could not be read
}

// ParseDG12 reads DG12. A field that it cannot read stands in Unread and hides
// none of the others.
func ParseDG12(file []byte) (DocumentDetails, error) {
	return readDG12(file, new(findings))
}

func readDG12(file []byte, f *findings) (DocumentDetails, error) {
	nodes, err := parseDetails(DG12, file, f)
	if err != nil {
		return DocumentDetails{}, err
	}
	var d DocumentDetails
	r := readers{
		0x5F19: text(&d.Authority),
		0x5F26: date(&d.Issued),
		0xA0:   nameList(0x5F1A, &d.OtherPersons),
		0x5F1A: addName(&d.OtherPersons),
		0x5F1B: text(&d.Endorsements),
		0x5F1C: text(&d.TaxExit),
		0x5F1D: picture(&d.Front),
		0x5F1E: picture(&d.Rear),
		0x5F55: moment(&d.Personalized),
		0x5F56: text(&d.Personalization),
	}
	d.Unread = r.read(nodes, f)
	return d, nil
}
