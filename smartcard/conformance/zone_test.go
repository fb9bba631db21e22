package conformance

import (
	"slices"
	"strings"

	"enrollkiosk/simulators/idcard"
	"enrollkiosk/smartcard/lds"
)

// comTests are unit LDS_A.
func comTests() []test {
	com := func(edit idcard.Edit) func(*card) { return tree(lds.EFCOM, edit) }
	says := func(tag int, value string) func(*card) {
		return com(func(n *idcard.Node) { n.Find(tag).Value = []byte(value) })
	}
	const version, unicode, list = 0x5F01, 0x5F36, 0x5C
	return []test{
		{row: "LDS_A_01", what: "61", base: plain, alter: file(lds.EFCOM, firstTag(0x61)), refused: "structure: malformed"},
		{row: "LDS_A_02", what: "one byte", base: plain, alter: file(lds.EFCOM, outerLength(-1)), refused: "structure: malformed"},
		{row: "LDS_A_03", what: "one byte", base: plain, alter: file(lds.EFCOM, outerLength(+1)), refused: "reader: malformed"},
		{row: "LDS_A_04", what: "0300", base: plain, alter: says(version, "0300"), refused: "structure: malformed"},
		{row: "LDS_A_05", what: "none", base: plain, alter: com(without(version)), refused: "structure: malformed"},
		{row: "LDS_A_06", what: "050000", base: plain, alter: says(unicode, "050000"), refused: "structure: malformed"},
		{row: "LDS_A_07", what: "none", base: plain, alter: com(without(unicode)), refused: "structure: malformed"},
		{row: "LDS_A_08", what: "first", base: plain, alter: com(func(n *idcard.Node) { n.Find(list).Value = n.Find(list).Value[1:] }), refused: "structure: malformed"},
		{row: "LDS_A_09", what: "none", base: plain, alter: com(without(list)), refused: "structure: malformed"},
		{row: "LDS_A_10", what: "0108", base: plain, alter: func(c *card) { c.opts.LDSVersion = idcard.LDS18 }},
	}
}

// passport is a book, whose zone has two lines of 44 (Doc 9303-4 4.2.2): the
// plan's zones are of that size. Its page is scanned.
var passport = with("a passport", plain, func(c *card) {
	c.person.Format, c.person.Code, c.person.Optional = idcard.TD3, "P", "ZE184226B"
	c.scanned = true
})

// field is a place in the second line of a zone, and where its check digit is.
type field struct{ from, to int }

var (
	documentNumber = field{0, 9}
	nationality    = field{10, 13}
	birth          = field{13, 19}
	sex            = field{20, 21}
	expiry         = field{21, 27}
	optionalData   = field{28, 42}
)

const second = 44 // where the second line begins

// zone changes the zone in DG1, not the page.
func zone(change func(z []byte)) func(*card) {
	return func(c *card) {
		c.opts.EditZone = func(s string) string {
			z := []byte(s)
			change(z)
			return string(z)
		}
	}
}

// digit writes the check digit of a field, and the composite one.
func digit(z []byte, f field) {
	z[second+f.to] = lds.CheckDigit(string(z[second+f.from : second+f.to]))[0]
	composite(z)
}

func composite(z []byte) {
	line := z[second:]
	line[43] = lds.CheckDigit(string(slices.Concat(line[0:10], line[13:20], line[21:43])))[0]
}

// zoneTests are unit LDS_B.
func zoneTests() []test {
	put := func(at int, s string) func([]byte) { return func(z []byte) { copy(z[at:], s) } }
	// set writes a field with the check digits that belong to it.
	set := func(f field, s string, checked bool) func(*card) {
		return zone(func(z []byte) {
			copy(z[second+f.from:second+f.to], s)
			if checked {
				digit(z, f)
			}
		})
	}
	// spoil makes the check digit of a field wrong, and the composite one right.
	spoil := func(f field) func(*card) {
		return zone(func(z []byte) {
			z[second+f.to] = '0' + (z[second+f.to]-'0'+1)%10
			composite(z)
		})
	}
	person := func(change func(*idcard.Person)) func(*card) { return func(c *card) { change(&c.person) } }
	born := func(field string) func(*card) { return person(func(p *idcard.Person) { p.BirthField = field }) }
	const malformed = "structure: malformed"
	return []test{
		{row: "LDS_B_01", what: "passport", base: passport},
		{row: "LDS_B_01", what: "card", base: plain, alter: person(func(p *idcard.Person) { p.Optional = "ZE184226B" })},
		{row: "LDS_B_02", what: "one letter left", base: passport, alter: person(func(p *idcard.Person) { p.NameField = "NILAVADHANANANDA<<CHAYAPA<DEJTHAMRONG<K" })},
		{row: "LDS_B_03", what: "passport", base: passport, alter: person(func(p *idcard.Person) { p.GivenNames = "" })},
		{row: "LDS_B_04", what: "0", base: passport, alter: person(func(p *idcard.Person) { p.Optional = "" })},
		{row: "LDS_B_04", what: "<, where the page has 0", base: passport, alter: func(c *card) {
			c.person.Optional = ""
			zone(func(z []byte) { z[second+42] = '<'; composite(z) })(c)
		}},
		{row: "LDS_B_05", what: "62", base: passport, alter: file(lds.DG1, firstTag(0x62)), refused: malformed},
		{row: "LDS_B_06", what: "hashed as stored", base: passport, alter: file(lds.DG1, outerLength(-1)), refused: "hashes: altered"},
		{row: "LDS_B_06", what: "hashed as stated", base: passport, alter: file(lds.DG1, cutToLength), refused: malformed},
		{row: "LDS_B_07", what: "one byte", base: passport, alter: file(lds.DG1, outerLength(+1)), refused: "reader: malformed"},
		{row: "LDS_B_08", what: "X", base: passport, alter: zone(put(0, "X<")), refused: malformed},
		{row: "LDS_B_09", what: "U7O", base: passport, alter: zone(put(2, "U7O")), refused: malformed},
		{row: "LDS_B_10", what: "fillers", base: passport, alter: zone(put(5, strings.Repeat("<", 39))), refused: malformed},
		{row: "LDS_B_11", what: "a letter", base: passport, alter: zone(put(5, "ERIKSSEN")), refused: "page: name"},
		{row: "LDS_B_12", what: "the last digit", base: passport, alter: set(documentNumber, "D23145891", true), refused: "page: document number"},
		{row: "LDS_B_13", what: "one more", base: passport, alter: spoil(documentNumber), refused: "structure: check digit"},
		{row: "LDS_B_14", what: "U7O", base: passport, alter: set(nationality, "U7O", false), refused: malformed},
		{row: "LDS_B_15", what: "a letter", base: passport, alter: set(birth, "74O812", true), refused: malformed},
		{row: "LDS_B_16", what: "31 February", base: passport, alter: set(birth, "740231", true), refused: malformed},
		{row: "LDS_B_17", what: "one more", base: passport, alter: spoil(birth), refused: "structure: check digit"},
		{row: "LDS_B_18", what: "Q", base: passport, alter: set(sex, "Q", false), refused: malformed},
		{row: "LDS_B_19", what: "a letter", base: passport, alter: set(expiry, "34O415", true), refused: malformed},
		{row: "LDS_B_20", what: "31 April", base: passport, alter: set(expiry, "340431", true), refused: malformed},
		{row: "LDS_B_21", what: "one more", base: passport, alter: spoil(expiry), refused: "structure: check digit"},
		{row: "LDS_B_22", what: "one more", base: passport, alter: spoil(optionalData), refused: "structure: check digit"},
		{row: "LDS_B_23", what: "one more", base: passport, alter: zone(func(z []byte) { z[87] = '0' + (z[87]-'0'+1)%10 }), refused: "structure: check digit"},
		{row: "LDS_B_24", what: "empty", base: passport, alter: tree(lds.DG1, func(n *idcard.Node) { n.Children = nil }), refused: malformed},
		{row: "LDS_B_25", what: "day", base: passport, alter: born("7408<<")},
		{row: "LDS_B_26", what: "month", base: passport, alter: born("74<<12")},
		{row: "LDS_B_27", what: "year", base: passport, alter: born("<<0812")},
		{row: "LDS_B_28", what: "all", base: passport, alter: born("<<<<<<")},
	}
}
