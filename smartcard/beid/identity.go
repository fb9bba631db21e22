package beid

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"enrollkiosk/kiosk/secret"
)

// Tag names a field of the identity or the address file.
type Tag byte

// Fields of the identity file. From TagFamilyMember on residence cards have
// them, or those of applet 1.8.
const (
	TagVersion        Tag = 0x00 // of the structure
	TagCardNumber     Tag = 0x01
	TagChipNumber     Tag = 0x02
	TagValidFrom      Tag = 0x03
	TagValidUntil     Tag = 0x04
	TagMunicipality   Tag = 0x05
	TagNationalNumber Tag = 0x06
	TagSurname        Tag = 0x07
	TagFirstNames     Tag = 0x08
	TagInitial        Tag = 0x09
	TagNationality    Tag = 0x0A
	TagBirthPlace     Tag = 0x0B
	TagBirth          Tag = 0x0C
	TagSex            Tag = 0x0D
	TagNobleCondition Tag = 0x0E
	TagDocumentType   Tag = 0x0F
	TagSpecialStatus  Tag = 0x10
	TagPhotoHash      Tag = 0x11
	TagDuplicate      Tag = 0x12
	TagOrganization   Tag = 0x13
	TagFamilyMember   Tag = 0x14
	TagProtection     Tag = 0x15 // date and country
	TagWorkPermit     Tag = 0x16
	TagEmployerVAT1   Tag = 0x17
	TagEmployerVAT2   Tag = 0x18
	TagRegionalFile   Tag = 0x19
	TagBasicKeyHash   Tag = 0x1A
	TagBrexit1        Tag = 0x1B
	TagBrexit2        Tag = 0x1C
	TagCardA1         Tag = 0x1D
	TagCardA2         Tag = 0x1E
	TagRegistered     Tag = 0x1F // of an EU card
)

// Fields of the address file.
const (
	TagStreet Tag = 0x01
	TagZip    Tag = 0x02
	TagTown   Tag = 0x03
)

// Fields are the fields of a file as they are, known or not. They refuse to print.
type Fields struct {
	private
	byTag map[Tag]secret.Text
}

// Get is the value of a field, empty if it is not there.
func (f Fields) Get(t Tag) secret.Text { return f.byTag[t] }

// Has says whether the field is there, be it empty.
func (f Fields) Has(t Tag) bool { _, ok := f.byTag[t]; return ok }

// Tags lists the fields that are there.
func (f Fields) Tags() []Tag {
	tags := make([]Tag, 0, len(f.byTag))
	for t := range f.byTag {
		tags = append(tags, t)
	}
	slices.Sort(tags)
	return tags
}

// parseFields splits a file: a tag of one byte, then the length as a run of FF,
// each worth 255, and a last byte. Tag 00 comes first or is filling. It gives
// what it read before an error.
func parseFields(b []byte) (Fields, error) {
	f := Fields{byTag: make(map[Tag]secret.Text)}
	for i := 0; i < len(b); {
		tag := Tag(b[i])
		if i++; tag == 0 && i > 1 {
			break
		}
		n := 0
		for more := true; more; i++ {
			if i == len(b) {
				return f, fmt.Errorf("%w: field %02X breaks off", ErrMalformed, byte(tag))
			}
			n += int(b[i])
			more = b[i] == 0xFF
		}
		if n > len(b)-i {
			return f, fmt.Errorf("%w: field %02X breaks off", ErrMalformed, byte(tag))
		}
		if f.Has(tag) {
			return f, fmt.Errorf("%w: field %02X stands there twice", ErrMalformed, byte(tag))
		}
		f.byTag[tag] = secret.New(slices.Clone(b[i : i+n]))
		i += n
	}
	return f, nil
}

// text is a field that must be UTF-8.
func (f Fields) text(t Tag, unread *[]Tag) secret.Text {
	if !utf8.Valid(f.Get(t).Reveal()) {
		*unread = append(*unread, t)
		return secret.Text{}
	}
	return f.Get(t)
}

// number is a decimal number, 0 if the field is empty.
func (f Fields) number(t Tag, unread *[]Tag) int {
	s := strings.TrimSpace(string(f.Get(t).Reveal()))
	if s == "" {
		return 0
	}
	n, err := strconv.ParseUint(s, 10, 8)
	if err != nil {
		*unread = append(*unread, t)
		return 0
	}
	return int(n)
}

// day is a date DD.MM.YYYY, zero if the field is empty.
func (f Fields) day(t Tag, unread *[]Tag) time.Time {
	if f.Get(t).Len() == 0 {
		return time.Time{}
	}
	d, err := time.Parse("02.01.2006", string(f.Get(t).Reveal()))
	if err != nil {
		*unread = append(*unread, t)
	}
	return d
}

// Sex as the card gives it, whatever its language.
type Sex string

// Values of Sex.
const (
	Female  Sex = "F"
	Male    Sex = "M"
	Unknown Sex = ""
)

// DocumentType is the kind of card.
type DocumentType int

// Kinds of cards for Belgians; others are of residents.
const (
	CitizenCard  DocumentType = 1
	KidsCard     DocumentType = 6 // Kids-ID, under 12 years
	BootstrapDoc DocumentType = 7
	Habilitation DocumentType = 8
)

// residence are the letters of residence cards by kind; from 61 on for children
// under 12 years.
var residence = map[DocumentType]string{11: "A", 12: "B", 13: "C", 14: "D", 15: "E", 16: "E+", 17: "F", 18: "F+", 19: "H", 20: "I", 21: "J",
	22: "M", 23: "N", 27: "K", 28: "L", 31: "EU", 32: "EU+", 33: "A", 34: "B", 35: "F", 36: "F+",
	61: "EU", 62: "EU+", 63: "A", 64: "B", 65: "K", 66: "L", 67: "F", 68: "F+", 69: "M"}

func (t DocumentType) String() string {
	switch t {
	case CitizenCard:
		return "identity card"
	case KidsCard:
		return "Kids-ID"
	case BootstrapDoc:
		return "bootstrap card"
	case Habilitation:
		return "habilitation card"
	}
	if letter, ok := residence[t]; ok {
		return "residence card " + letter
	}
	return fmt.Sprintf("document of type %d", int(t))
}

// Identity is the identity file (EF 4031). It refuses to print.
type Identity struct {
	private
	CardNumber     secret.Text
	ChipNumber     secret.Text // 16 bytes
	ValidFrom      time.Time   // a day, UTC; zero if unread
	ValidUntil     time.Time   // the last day
	Municipality   secret.Text // that delivered the card
	NationalNumber secret.Text
	Surname        secret.Text
	FirstNames     secret.Text // the first two, separated by a blank
	Initial        secret.Text // of the third
	Nationality    secret.Text // in the municipality's language
	BirthPlace     secret.Text
	Birth          Birth
	Sex            Sex
	NobleCondition secret.Text
	DocumentType   DocumentType
	SpecialStatus  int    // 0 none; 1 white cane, 2 extended minority, 3 both; 4 yellow cane, 5 with extended minority
	PhotoHash      []byte // SHA-1, SHA-256 or SHA-384 of the photo file, by length
	BasicKeyHash   []byte // SHA-384 of the basic key file; nil before applet 1.8

	Fields Fields // every field, those of other tags and unread ones too
	Unread []Tag  // fields that are there but could not be read
}

// ParseIdentity reads the identity file. A field that cannot be read is listed
// in Unread and hides no other; only a file whose fields cannot be told apart is
// an error, which comes with those before it.
func ParseIdentity(b []byte) (Identity, error) {
	f, err := parseFields(b)
	id := Identity{Fields: f}
	u := &id.Unread
	id.CardNumber, id.ChipNumber = f.text(TagCardNumber, u), f.Get(TagChipNumber)
	id.ValidFrom, id.ValidUntil = f.day(TagValidFrom, u), f.day(TagValidUntil, u)
	id.Municipality, id.NationalNumber = f.text(TagMunicipality, u), f.text(TagNationalNumber, u)
	id.Surname, id.FirstNames, id.Initial = f.text(TagSurname, u), f.text(TagFirstNames, u), f.text(TagInitial, u)
	id.Nationality, id.BirthPlace = f.text(TagNationality, u), f.text(TagBirthPlace, u)
	id.Birth = Birth{text: f.text(TagBirth, u)}
	if _, _, _, ok := id.Birth.Date(); !ok && id.Birth.text.Len() > 0 {
		*u = append(*u, TagBirth)
	}
	switch string(f.Get(TagSex).Reveal()) {
	case "M":
		id.Sex = Male
	case "F", "V", "W": // féminin, vrouwelijk, weiblich
		id.Sex = Female
	case "":
	default:
		*u = append(*u, TagSex)
	}
	id.NobleCondition = f.text(TagNobleCondition, u)
	id.DocumentType, id.SpecialStatus = DocumentType(f.number(TagDocumentType, u)), f.number(TagSpecialStatus, u)
	id.PhotoHash, id.BasicKeyHash = slices.Clone(f.Get(TagPhotoHash).Reveal()), slices.Clone(f.Get(TagBasicKeyHash).Reveal())
	if err != nil {
		return id, fmt.Errorf("parse identity: %w", err)
	}
	return id, nil
}

// Address is the address file (EF 4033). It refuses to print.
type Address struct {
	private
	Street secret.Text // with the number
	Zip    secret.Text
	Town   secret.Text

	Fields Fields
	Unread []Tag
}

// ParseAddress reads the address file as ParseIdentity reads the other.
func ParseAddress(b []byte) (Address, error) {
	f, err := parseFields(b)
	a := Address{Fields: f}
	a.Street, a.Zip, a.Town = f.text(TagStreet, &a.Unread), f.text(TagZip, &a.Unread), f.text(TagTown, &a.Unread)
	if err != nil {
		return a, fmt.Errorf("parse address: %w", err)
	}
	return a, nil
}

// Birth is the date of birth as printed: "09 OKT  1974", "01.MÄR.1980", or of
// people whose day is not known "1950".
type Birth struct {
	private
	text secret.Text
}

// Text is the date as the card has it.
func (b Birth) Text() secret.Text { return b.text }

// months by the abbreviations in use: French, Dutch, German.
var months = map[string]int{
	"JAN": 1, "FEV": 2, "FÉV": 2, "FEB": 2, "MARS": 3, "MAAR": 3, "MRT": 3, "MÄR": 3, "MÄRZ": 3, "AVR": 4, "APR": 4, "MAI": 5, "MEI": 5,
	"JUIN": 6, "JUN": 6, "JUIL": 7, "JUL": 7, "AOUT": 8, "AOÛT": 8, "AUG": 8, "SEPT": 9, "SEP": 9, "OCT": 10, "OKT": 10, "NOV": 11,
	"DEC": 12, "DÉC": 12, "DEZ": 12,
}

// Date is year, month and day; the last two are 0 if not known. It fails for
// what is no date.
func (b Birth) Date() (year, month, day int, ok bool) {
	parts := strings.FieldsFunc(strings.ToUpper(string(b.text.Reveal())), func(r rune) bool { return r == ' ' || r == '.' })
	if len(parts) == 0 || len(parts) > 3 || len(parts[len(parts)-1]) != 4 {
		return 0, 0, 0, false
	}
	y, err := strconv.ParseUint(parts[len(parts)-1], 10, 16)
	if err != nil || y < 1800 {
		return 0, 0, 0, false
	}
	year = int(y)
	if len(parts) >= 2 {
		if month, ok = months[parts[len(parts)-2]]; !ok {
			return 0, 0, 0, false
		}
	}
	if len(parts) == 3 {
		d, err := strconv.ParseUint(parts[0], 10, 8)
		if err != nil || time.Date(year, time.Month(month), int(d), 0, 0, 0, 0, time.UTC).Day() != int(d) {
			return 0, 0, 0, false
		}
		day = int(d)
	}
	return year, month, day, true
}
