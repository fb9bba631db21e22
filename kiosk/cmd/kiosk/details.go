package main

import (
	"fmt"
	"strings"

	"enrollkiosk/kiosk/secret"
	"enrollkiosk/smartcard/lds"
)

// detail is one further field of an eMRTD, for the person who asked for it.
type detail struct {
	File  string `json:"file"`
	Field string `json:"field"`
	Value string `json:"value"`
}

// details are the fields of the optional data groups among files. What cannot be
// read is named; its bytes are in the saved files.
func details(files map[string][]byte) (list []detail) {
	add := func(f lds.File, field string, values ...secret.Text) {
		var s []string
		for _, v := range values {
			if v.Len() > 0 {
				s = append(s, reveal(v))
			}
		}
		if len(s) > 0 {
			list = append(list, detail{f.String(), field, strings.Join(s, ", ")})
		}
	}
	unread := func(f lds.File, what any) { list = append(list, detail{f.String(), "not readable", fmt.Sprint(what)}) }
	if b := files[lds.DG7.String()]; b != nil {
		if images, err := lds.ParseDG7(b); err != nil {
			unread(lds.DG7, err)
		} else {
			list = append(list, detail{lds.DG7.String(), "signature", fmt.Sprintf("%d image(s), %s", len(images), images[0].MIME)})
		}
	}
	if b := files[lds.DG11.String()]; b != nil {
		d, err := lds.ParseDG11(b)
		if err != nil {
			unread(lds.DG11, err)
		}
		add(lds.DG11, "full name", d.FullName.Primary, d.FullName.Secondary)
		for _, n := range d.OtherNames {
			add(lds.DG11, "other name", n.Primary, n.Secondary)
		}
		add(lds.DG11, "personal number", d.PersonalNumber)
		add(lds.DG11, "born", d.Birth)
		add(lds.DG11, "place of birth", d.PlaceOfBirth...)
		add(lds.DG11, "address", d.Address...)
		add(lds.DG11, "telephone", d.Telephone)
		add(lds.DG11, "profession", d.Profession)
		add(lds.DG11, "title", d.Title)
		add(lds.DG11, "summary", d.Summary)
		add(lds.DG11, "other documents", d.OtherDocuments...)
		add(lds.DG11, "custody", d.Custody)
		for _, tag := range d.Unread {
			unread(lds.DG11, fmt.Sprintf("object %X", uint32(tag)))
		}
	}
	if b := files[lds.DG12.String()]; b != nil {
		d, err := lds.ParseDG12(b)
		if err != nil {
			unread(lds.DG12, err)
		}
		add(lds.DG12, "issued by", d.Authority)
		add(lds.DG12, "issued on", d.Issued)
		for _, n := range d.OtherPersons {
			add(lds.DG12, "other person", n.Primary, n.Secondary)
		}
		add(lds.DG12, "endorsements", d.Endorsements)
		add(lds.DG12, "tax and exit", d.TaxExit)
		add(lds.DG12, "personalized", d.Personalized, d.Personalization)
		for _, tag := range d.Unread {
			unread(lds.DG12, fmt.Sprintf("object %X", uint32(tag)))
		}
	}
	if b := files[lds.DG16.String()]; b != nil {
		contacts, err := lds.ParseDG16(b)
		if err != nil {
			unread(lds.DG16, err)
		}
		for _, c := range contacts {
			add(lds.DG16, "notify", append([]secret.Text{c.Name.Primary, c.Name.Secondary, c.Telephone}, c.Address...)...)
		}
	}
	return list
}
