package sam

import (
	"strings"
	"unicode/utf16"
)

// Card is what the module finds on a card.
type Card struct {
	Text         [256]byte
	Photo        [1024]byte // in no format: nobody's face
	Fingerprints []byte     // two of 512 bytes, or none
	NewAddress   string     // added after issue, at most 35 characters
}

// Person is what is written on a card, as it stands there.
type Person struct {
	Name        string // Chinese characters, at most 15
	EnglishName string // foreigners
	Sex         string // GB/T 2261.1: 1 is male, 2 female
	EthnicGroup string // GB/T 3304, two digits
	Birth       string // YYYYMMDD
	Address     string // at most 35 characters
	Authority   string
	From, Until string // YYYYMMDD; Until may be 长期
	Nationality string // three letters
	PassNumber  string // travel permit of Hong Kong, Macao and Taiwan residents
	Number      string // empty for one that fits
}

// Specimen is an invented person from a place that does not exist.
func Specimen() Person {
	return Person{
		Name: "样本甲", EnglishName: "SPECIMEN, ANNA MARIA", Sex: "2", EthnicGroup: "01", Birth: "19740812",
		Address: "样本省样本市样例路1号", Authority: "样本市公安局", From: "20200101", Until: "20400101",
		Nationality: "UTO", PassNumber: "H00000000",
	}
}

// number makes an 18-digit number in a region, with a sequence that fits the sex.
func (p Person) number(region string) string {
	if p.Number != "" {
		return p.Number
	}
	sequence := "002"
	if p.Sex == "1" {
		sequence = "001"
	}
	number := region + p.Birth + sequence
	return number + string(citizenCheck(number))
}

// citizenCheck is the check character of GB 11643 by its table of weights.
func citizenCheck(number string) byte {
	weights := [17]int{7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2}
	sum := 0
	for i, w := range weights {
		sum += w * int(number[i]-'0')
	}
	return "10X98765432"[sum%11]
}

// zoneCheck is the check digit of machine readable zones (Doc 9303-3 4.9).
func zoneCheck(s string) byte {
	sum := 0
	for i, c := range s {
		sum += strings.IndexRune("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ", c) * []int{7, 3, 1}[i%3]
	}
	return byte('0' + sum%10)
}

// put writes s in UTF-16, little endian, blanks to the width of the field.
func put(text []byte, at, width int, s string) {
	units := utf16.Encode([]rune(s))
	for i := range width / 2 {
		unit := uint16(' ')
		if i < len(units) {
			unit = units[i]
		}
		text[at+2*i], text[at+2*i+1] = byte(unit), byte(unit>>8)
	}
}

func card(fields ...any) Card {
	c := Card{Fingerprints: make([]byte, 1024)}
	put(c.Text[:], 0, 256, "")
	for i := 0; i < len(fields); i += 3 {
		put(c.Text[:], fields[i].(int), fields[i+1].(int), fields[i+2].(string))
	}
	for i := range c.Photo {
		c.Photo[i] = byte(i * 7)
	}
	for i := range c.Fingerprints {
		c.Fingerprints[i] = byte(i * 11)
	}
	return c
}

// The region 100000 has no province, the 810000 of the permit is Hong Kong's.

// Resident is a resident identity card.
func Resident(p Person) Card {
	return card(0, 30, p.Name, 30, 2, p.Sex, 32, 4, p.EthnicGroup, 36, 16, p.Birth, 52, 70, p.Address,
		122, 36, p.number("100000"), 158, 30, p.Authority, 188, 16, p.From, 204, 16, p.Until)
}

// Permit is a residence permit for a resident of Hong Kong.
func Permit(p Person) Card {
	return card(0, 30, p.Name, 30, 2, p.Sex, 36, 16, p.Birth, 52, 70, p.Address, 122, 36, p.number("810000"),
		158, 30, p.Authority, 188, 16, p.From, 204, 16, p.Until, 220, 18, p.PassNumber, 238, 4, "01", 248, 2, "J")
}

// Foreigner2017 is a foreign permanent resident card of 2017.
func Foreigner2017(p Person) Card {
	number := p.Number
	if number == "" {
		number = p.Nationality + "1000" + p.Birth[2:] + "0"
		number += string(zoneCheck(number))
	}
	return card(0, 120, p.EnglishName, 120, 2, p.Sex, 122, 30, number, 152, 6, p.Nationality, 158, 30, p.Name,
		188, 16, p.From, 204, 16, p.Until, 220, 16, p.Birth, 236, 4, "01", 240, 8, "1000", 248, 2, "I")
}

// Foreigner2023 is a foreign permanent resident card of 2023, whose English
// name goes on in a second field after 35 letters.
func Foreigner2023(p Person) Card {
	first, second := p.EnglishName, ""
	if len(first) > 35 {
		first, second = first[:35], first[35:]
	}
	return card(0, 30, p.Name, 30, 2, p.Sex, 32, 4, "01", 36, 16, p.Birth, 52, 70, first, 122, 36, p.number("910000"),
		188, 16, p.From, 204, 16, p.Until, 220, 22, second, 242, 6, p.Nationality, 248, 2, "Y")
}

// content is the answer to a READ command.
func (c *Card) content(prints bool, f Fault) []byte {
	text := c.Text
	switch f {
	case UnknownCodes:
		put(text[:], 30, 2, "7")
		put(text[:], 32, 4, "88")
	case NotText:
		text[0], text[1] = 0x00, 0xD8
	}
	b := []byte{1, 0, 4, 0}
	if prints {
		b = append(b, byte(len(c.Fingerprints)>>8), byte(len(c.Fingerprints)))
	}
	b = append(append(b, text[:]...), c.Photo[:]...)
	if prints {
		b = append(b, c.Fingerprints...)
	}
	return b
}
