package beid

import (
	"bytes"
	"fmt"
	"hash/fnv"
	"image"
	"image/color"
	"image/jpeg"
	"math/rand/v2"
	"time"
)

// Person is what the National Register knows of the holder. The people of this
// package are invented; nothing here guards their data.
type Person struct {
	CardNumber     string // 12 digits
	ChipNumber     [16]byte
	ValidFrom      time.Time // a day
	ValidUntil     time.Time // the last day
	Municipality   string    // that delivered the card
	NationalNumber string    // 11 digits
	Surname        string
	FirstNames     string
	Initial        string // of the third name
	Nationality    string // in the language of the municipality
	BirthPlace     string
	Birth          string // as printed: "09 OKT  1974", "01.MÄR.1980", "1950"
	Sex            string // M; F, V or W by language
	NobleCondition string
	DocumentType   string // "1" for a citizen's card
	SpecialStatus  string // "0" for none
	More           map[byte]string

	Street, Zip, Town string
}

// Specimen is a citizen who does not exist, with a card that is valid today. The
// national number has wrong check digits, so that it is nobody's.
func Specimen() Person {
	today := time.Now().UTC().Truncate(24 * time.Hour)
	return Person{
		CardNumber: "000000000193", ChipNumber: [16]byte([]byte("SPECIMEN-CHIP-01")),
		ValidFrom: today.AddDate(-1, 0, 0), ValidUntil: today.AddDate(9, 0, -1),
		Municipality: "Specimenstad", NationalNumber: "74100900100",
		Surname: "Voorbeeld", FirstNames: "Zoë Françoise", Initial: "M",
		Nationality: "Belg", BirthPlace: "Modeldorp", Birth: "09 OKT  1974", Sex: "V",
		DocumentType: "1", SpecialStatus: "0",
		Street: "Proefstraat 12 bus 3", Zip: "1000", Town: "Specimenstad",
	}
}

// OtherSpecimen is another one.
func OtherSpecimen() Person {
	p := Specimen()
	p.CardNumber, p.ChipNumber, p.NationalNumber = "000000000294", [16]byte([]byte("SPECIMEN-CHIP-02")), "80030100200"
	p.Municipality, p.Surname, p.FirstNames, p.Initial = "Musterdorf", "Muster", "Jürgen Karl", ""
	p.Nationality, p.BirthPlace, p.Birth, p.Sex = "Belgisch", "Beispielstadt", "01.MÄR.1980", "M"
	p.Street, p.Zip, p.Town = "Musterweg 7", "4700", "Musterdorf"
	return p
}

const day = "02.01.2006"

// identityFile is EF 4031 up to the photo's hash and, from applet 1.8 on, that
// of the basic key. Applet 1.8 begins with the version of the structure, tag 00.
func (p Person) identityFile(generation Generation, photoHash, keyHash []byte) []byte {
	var b []byte
	if generation == Applet18 {
		b = field(b, 0x00, []byte{0, 2})
	}
	for i, value := range []string{
		p.CardNumber, string(p.ChipNumber[:]), p.ValidFrom.Format(day), p.ValidUntil.Format(day), p.Municipality, p.NationalNumber,
		p.Surname, p.FirstNames, p.Initial, p.Nationality, p.BirthPlace, p.Birth, p.Sex, p.NobleCondition, p.DocumentType, p.SpecialStatus,
		string(photoHash),
	} {
		b = field(b, byte(i+1), []byte(value))
	}
	for tag := byte(0x12); tag < 0x20; tag++ {
		if value, ok := p.More[tag]; ok {
			b = field(b, tag, []byte(value))
		}
		if tag == 0x1A && keyHash != nil {
			b = field(b, tag, keyHash)
		}
	}
	return b
}

// addressSize is the size of EF 4033; the rest is filled with zeros.
const addressSize = 117

func (p Person) addressFile() []byte {
	b := field(field(field(nil, 1, []byte(p.Street)), 2, []byte(p.Zip)), 3, []byte(p.Town))
	return padded(b, addressSize)
}

// field appends a data object: a tag of one byte, then the length as a run of
// FF, each worth 255, and a last byte.
func field(b []byte, tag byte, value []byte) []byte {
	b = append(b, tag)
	n := len(value)
	for ; n >= 0xFF; n -= 0xFF {
		b = append(b, 0xFF)
	}
	return append(append(b, byte(n)), value...)
}

func padded(b []byte, size int) []byte {
	return append(b, make([]byte, max(0, size-len(b)))...)
}

// photo is a grey JPEG of 140 by 200 pixels, as cards have it: blocks at random
// that resemble nobody, the same for the same person.
func (p Person) photo() ([]byte, error) {
	seed := fnv.New64a()
	fmt.Fprint(seed, p.Surname, p.FirstNames, p.NationalNumber)
	draw := rand.New(rand.NewPCG(seed.Sum64(), 1))
	img := image.NewGray(image.Rect(0, 0, 140, 200))
	for y := 0; y < 200; y += 20 {
		for x := 0; x < 140; x += 20 {
			shade := color.Gray{Y: byte(draw.IntN(256))}
			for i := range 400 {
				img.SetGray(x+i%20, y+i/20, shade)
			}
		}
	}
	var b bytes.Buffer
	if err := jpeg.Encode(&b, img, &jpeg.Options{Quality: 75}); err != nil {
		return nil, fmt.Errorf("encode photo: %w", err)
	}
	return b.Bytes(), nil
}
