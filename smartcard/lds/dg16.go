package lds

import (
	"fmt"

	"enrollkiosk/kiosk/secret"
	"enrollkiosk/smartcard/tlv"
)

// Contact is a person to notify, of DG16 (Doc 9303-10 4.7.16). It refuses to
// print and to marshal.
type Contact struct {
	private
	Recorded  secret.Text // YYYYMMDD
	Name      Name
	Telephone secret.Text
	Address   []secret.Text
	Unread    []tlv.Tag // objects that are there and could not be read
}

// maxContacts is as many as the tags A1 to AF can hold.
const maxContacts = 15

// ParseDG16 reads the persons to notify.
func ParseDG16(file []byte) ([]Contact, error) {
	return readDG16(file, new(findings))
}

func readDG16(file []byte, f *findings) ([]Contact, error) {
	outer, err := tlv.ParseOne(file, DG16.Tag())
	if err != nil {
		return nil, malformed("DG16", err)
	}
	c := outer.Cursor()
	count := c.Next(0x02).Value
	var contacts []Contact
	for c.More() {
		if len(contacts) == maxContacts {
			return nil, malformed("DG16", fmt.Errorf("%w: too many persons", ErrMalformed))
		}
		person, ok := c.Optional(0xA1 + tlv.Tag(len(contacts)))
		if !ok {
			break // what else is there, Done tells
		}
		nodes, err := person.Children()
		if err != nil {
			return nil, malformed("DG16", err)
		}
		var p Contact
		r := readers{
			0x5F50: date(&p.Recorded),
			0x5F51: name(&p.Name),
			0x5F52: text(&p.Telephone),
			0x5F53: lines(&p.Address),
		}
		p.Unread = r.read(nodes, f)
		contacts = append(contacts, p)
	}
	if err := c.Done(); err != nil {
		return nil, malformed("DG16", err)
	}
	if !counts(count, len(contacts)) {
		f.broken("number of persons to notify")
	}
	return contacts, nil
}
