package idcard

import "strings"

// entry is an element of DG11 or DG12 by its tag.
type entry struct {
	tag   int
	value []byte
}

// listed writes a data group that begins with the list of its tags (9303-10 4.7.11, 4.7.12).
func listed(tag int, all []entry) []byte {
	var tags, content []byte
	for _, f := range all {
		if f.value == nil {
			continue
		}
		name := f.tag
		if name == 0xA0 { // the template's tag is not listed, what it repeats is
			name = int(f.value[3])<<8 | int(f.value[4])
		}
		tags = append(tags, byte(name>>8), byte(name))
		content = append(content, tlv(f.tag, f.value)...)
	}
	return tlv(tag, tlv(0x5C, tags), content)
}

func present(s string) []byte {
	if s == "" {
		return nil
	}
	return []byte(s)
}

// several is a template A0: how many, then each under its tag.
func several(tag int, names []string) []byte {
	if len(names) == 0 {
		return nil
	}
	content := []byte{0x02, 0x01, byte(len(names))}
	for _, n := range names {
		content = append(content, tlv(tag, []byte(n))...)
	}
	return content
}

// date is eight digits, or the same packed in four bytes, as early cards have it.
func date(s string, packed bool) []byte {
	if !packed || len(s) != 8 {
		return present(s)
	}
	out := make([]byte, 4)
	for i := range out {
		out[i] = (s[2*i]-'0')<<4 | (s[2*i+1] - '0')
	}
	return out
}

// Details is DG11: more of the holder (9303-10 4.7.11). Parts of a text are
// parted by < as in the machine readable zone; empty ones are left out.
type Details struct {
	FullName            string // in national letters, UTF-8
	OtherNames          []string
	PersonalNumber      string
	Birth               string // eight digits
	PackedBirth         bool   // four bytes instead
	BirthPlace          string
	Address             string
	Telephone           string
	Profession          string
	Title               string
	Summary             string
	ProofOfCitizenship  []byte // a picture
	OtherTravelDocument []string
	Custody             string
}

// Encode writes the file.
func (d Details) Encode() []byte {
	return listed(0x6B, []entry{
		{0x5F0E, present(d.FullName)},
		{0xA0, several(0x5F0F, d.OtherNames)},
		{0x5F10, present(d.PersonalNumber)},
		{0x5F2B, date(d.Birth, d.PackedBirth)},
		{0x5F11, present(d.BirthPlace)},
		{0x5F42, present(d.Address)},
		{0x5F12, present(d.Telephone)},
		{0x5F13, present(d.Profession)},
		{0x5F14, present(d.Title)},
		{0x5F15, present(d.Summary)},
		{0x5F16, d.ProofOfCitizenship},
		{0x5F17, present(strings.Join(d.OtherTravelDocument, "<"))},
		{0x5F18, present(d.Custody)},
	})
}

// DocumentDetails is DG12: more of the document (9303-10 4.7.12).
type DocumentDetails struct {
	Authority    string
	Issued       string // eight digits
	PackedIssued bool   // four bytes instead
	OtherPersons []string
	Endorsements string
	TaxExit      string
	Front, Rear  []byte // pictures of the document
	Personalised string // fourteen digits
	SystemNumber string // of the machine that personalised it
}

// Encode writes the file.
func (d DocumentDetails) Encode() []byte {
	return listed(0x6C, []entry{
		{0x5F19, present(d.Authority)},
		{0x5F26, date(d.Issued, d.PackedIssued)},
		{0xA0, several(0x5F1A, d.OtherPersons)},
		{0x5F1B, present(d.Endorsements)},
		{0x5F1C, present(d.TaxExit)},
		{0x5F1D, d.Front},
		{0x5F1E, d.Rear},
		{0x5F55, present(d.Personalised)},
		{0x5F56, present(d.SystemNumber)},
	})
}

// Signatures is DG7: pictures of the holder's signature or usual mark (9303-10 4.7.7).
func Signatures(pictures ...[]byte) []byte {
	content := small(len(pictures))
	for _, p := range pictures {
		content = append(content, tlv(0x5F43, p)...)
	}
	return tlv(0x67, content)
}

// OptionalDetails is DG13, whose content is the issuer's own affair (9303-10 4.7.13).
func OptionalDetails(content []byte) []byte { return tlv(0x6D, content) }

// Contact is somebody to notify (9303-10 4.7.16).
type Contact struct {
	Recorded  string // eight digits
	Name      string // as in the machine readable zone
	Telephone string
	Address   string
}

// Contacts is DG16.
func Contacts(people ...Contact) []byte {
	content := small(len(people))
	for i, c := range people {
		content = append(content, tlv(0xA1+i,
			tlv(0x5F50, []byte(c.Recorded)), tlv(0x5F51, []byte(c.Name)),
			tlv(0x5F52, []byte(c.Telephone)), tlv(0x5F53, []byte(c.Address)))...)
	}
	return tlv(0x70, content)
}

// OptionalGroups are DG7, DG11, DG12, DG13 and DG16 of the person, for Options.Files.
func OptionalGroups(p Person) (map[uint16][]byte, error) {
	signature, err := drawSignature(p)
	if err != nil {
		return nil, err
	}
	name := strings.TrimRight(p.Surname+"<<"+p.GivenNames, "<")
	return map[uint16][]byte{
		0x0107: Signatures(signature),
		0x010B: Details{
			FullName: strings.ReplaceAll(name, " ", "<"), Birth: p.Birth.Format("20060102"),
			BirthPlace: "ZENITH<UTOPIA", Address: "1 SPECIMEN STREET<ZENITH<UTOPIA", Profession: "TRAVEL<AGENT",
		}.Encode(),
		0x010C: DocumentDetails{
			Authority: "SPECIMEN AUTHORITY", Issued: p.Expiry.AddDate(-10, 0, 0).Format("20060102"),
			Personalised: p.Expiry.AddDate(-10, 0, 0).Format("20060102150405"), SystemNumber: "SPECIMEN-1",
		}.Encode(),
		0x010D: OptionalDetails([]byte("SPECIMEN")),
		0x0110: Contacts(Contact{Recorded: "20200101", Name: "SMITH<<CHARLES<R", Telephone: "19525551212", Address: "123 MAPLE RD<ANYTOWN<MN<55100"}),
	}, nil
}
