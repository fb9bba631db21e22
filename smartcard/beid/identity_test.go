package beid_test

import (
	"bytes"
	"crypto/sha1"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"enrollkiosk/kiosk/secret"
	"enrollkiosk/smartcard/beid"
)

type testcard struct {
	Identity, IdentitySignature, Address, Modulus []byte
	Exponent                                      int64
}

func readTestcard(t testing.TB) testcard {
	t.Helper()
	var raw struct {
		Identity          string `json:"identity"`
		IdentitySignature string `json:"identity_signature"`
		Address           string `json:"address"`
		Modulus           string `json:"signer_modulus"`
		Exponent          int64  `json:"signer_exponent"`
	}
	b, err := os.ReadFile("testdata/testcard.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &raw); err != nil {
		t.Fatal(err)
	}
	c := testcard{Exponent: raw.Exponent}
	for text, to := range map[string]*[]byte{raw.Identity: &c.Identity, raw.IdentitySignature: &c.IdentitySignature, raw.Address: &c.Address, raw.Modulus: &c.Modulus} {
		if *to, err = hex.DecodeString(text); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

// is says whether a secret has this text.
func is(s secret.Text, text string) bool { return string(s.Reveal()) == text }

func TestPublishedTestCard(t *testing.T) {
	card := readTestcard(t)
	id, err := beid.ParseIdentity(card.Identity)
	if err != nil {
		t.Fatal(err)
	}
	y, m, d, ok := id.Birth.Date()
	if !is(id.CardNumber, "592000056665") || !is(id.Surname, "Jones") || !is(id.FirstNames, "Peter ") || !is(id.Initial, "") ||
		!is(id.Nationality, "Belg") || !is(id.BirthPlace, "Brussel") || !is(id.Municipality, "Brussel") || !is(id.NationalNumber, "1974010102567") ||
		id.Sex != beid.Male || id.DocumentType != beid.CitizenCard || !ok || y != 1970 || m != 2 || d != 5 || len(id.Unread) > 0 {
		t.Errorf("identity read wrong")
	}
	if id.ValidFrom != time.Date(2014, 10, 12, 0, 0, 0, 0, time.UTC) || id.ValidUntil != time.Date(2025, 10, 12, 0, 0, 0, 0, time.UTC) {
		t.Errorf("valid from %v until %v", id.ValidFrom, id.ValidUntil)
	}
	if len(id.PhotoHash) != 20 || id.BasicKeyHash != nil || id.Fields.Has(beid.TagSpecialStatus) {
		t.Error("optional fields read wrong")
	}
	a, err := beid.ParseAddress(card.Address)
	if err != nil || !is(a.Street, "Louiza laan 167") || !is(a.Zip, "1000") || !is(a.Town, "Brussel") {
		t.Errorf("address read wrong: %v", err)
	}

	// What the signature covers: the whole file.
	n := new(big.Int).SetBytes(card.Modulus)
	opened := new(big.Int).Exp(new(big.Int).SetBytes(card.IdentitySignature), big.NewInt(card.Exponent), n).FillBytes(make([]byte, len(card.Modulus)))
	digest := sha1.Sum(card.Identity)
	if !bytes.HasPrefix(opened, []byte{0, 1, 0xFF}) || !bytes.HasSuffix(opened, digest[:]) {
		t.Errorf("the signature is of another content: %x", opened)
	}
}

func TestBirth(t *testing.T) {
	for text, want := range map[string][3]int{
		"09 OKT  1974": {1974, 10, 9}, "05 FEB 1970": {1970, 2, 5}, "15 MAI 1990": {1990, 5, 15}, "01.MÄR.1980": {1980, 3, 1},
		"31 DEC  1999": {1999, 12, 31}, "1.DEZ.2001": {2001, 12, 1}, "12 AOUT 1960": {1960, 8, 12}, "12 AOÛT 1960": {1960, 8, 12},
		"29 FEV 2000": {2000, 2, 29}, "3 mars 1985": {1985, 3, 3}, "07 JUIL 1977": {1977, 7, 7}, "07 JUIN 1977": {1977, 6, 7},
		"1950": {1950, 0, 0}, "SEPT 1944": {1944, 9, 0}, " 10. NOV. 1962 ": {1962, 11, 10},
	} {
		if y, m, d, ok := birth(t, text).Date(); !ok || [3]int{y, m, d} != want {
			t.Errorf("%q: %d-%d-%d %v, want %v", text, y, m, d, ok, want)
		}
	}
	for _, text := range []string{"", "30 FEB 1970", "00 JAN 1970", "1 XYZ 1970", "1 JAN 70", "01 JAN 0000", "1 2 JAN 1970", "12 JAN 197O", "+1 JAN 1970"} {
		if y, m, d, ok := birth(t, text).Date(); ok || y+m+d != 0 {
			t.Errorf("%q is taken for %d-%d-%d", text, y, m, d)
		}
	}
}

func birth(t *testing.T, text string) beid.Birth {
	t.Helper()
	id, err := beid.ParseIdentity(tlv(0x0C, text))
	if err != nil {
		t.Fatal(err)
	}
	if !is(id.Birth.Text(), text) {
		t.Errorf("%q came out different", text)
	}
	return id.Birth
}

func tlv(tag byte, value string) []byte {
	return append(append([]byte{tag}, bytes.Repeat([]byte{0xFF}, len(value)/255)...), append([]byte{byte(len(value) % 255)}, value...)...)
}

// A field that cannot be read hides no other, and its bytes stay.
func TestUnreadFields(t *testing.T) {
	file := slices.Concat([]byte{0, 2, '0', '1'}, tlv(0x01, "000000000193"), tlv(0x04, "31.02.2030"), tlv(0x07, "Voor\xFFbeeld"), tlv(0x08, "Zoë"),
		tlv(0x0C, "soon"), tlv(0x0D, "X"), tlv(0x0F, "many"), tlv(0x10, "300"), tlv(0x77, "of tomorrow"), make([]byte, 40))
	id, err := beid.ParseIdentity(file)
	if err != nil {
		t.Fatal(err)
	}
	want := []beid.Tag{beid.TagValidUntil, beid.TagSurname, beid.TagBirth, beid.TagSex, beid.TagDocumentType, beid.TagSpecialStatus}
	if got := slices.Sorted(slices.Values(id.Unread)); !slices.Equal(got, want) {
		t.Errorf("unread %v, want %v", got, want)
	}
	if !is(id.CardNumber, "000000000193") || !is(id.FirstNames, "Zoë") || id.Surname.Len() != 0 || id.Sex != beid.Unknown || !id.ValidUntil.IsZero() {
		t.Error("other fields suffered")
	}
	if !is(id.Fields.Get(beid.TagSurname), "Voor\xFFbeeld") || !is(id.Fields.Get(0x77), "of tomorrow") || !is(id.Birth.Text(), "soon") {
		t.Error("the bytes are lost")
	}
	if tags := id.Fields.Tags(); len(tags) != 10 || tags[0] != beid.TagVersion || tags[9] != 0x77 {
		t.Errorf("tags %v", tags)
	}
}

func TestLengthsAndBrokenFiles(t *testing.T) {
	for _, n := range []int{0, 1, 254, 255, 256, 509, 510, 511, 700} {
		a, err := beid.ParseAddress(append(tlv(1, strings.Repeat("x", n)), tlv(2, "1000")...))
		if err != nil || a.Street.Len() != n || !is(a.Zip, "1000") {
			t.Errorf("%d bytes: %d, %v", n, a.Street.Len(), err)
		}
	}
	whole := slices.Concat(tlv(1, "Proefstraat 1"), tlv(2, "1000"), tlv(3, "Town"))
	for name, file := range map[string][]byte{
		"no length":         whole[:len(whole)-5],
		"value breaks off":  whole[:len(whole)-1],
		"endless length":    {1, 0xFF, 0xFF, 0xFF},
		"longer than int16": append([]byte{1}, bytes.Repeat([]byte{0xFF}, 200)...),
		"twice":             append(slices.Clone(whole), tlv(2, "2000")...),
	} {
		a, err := beid.ParseAddress(file)
		if !errors.Is(err, beid.ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
		if strings.HasPrefix(name, "no ") && (!is(a.Street, "Proefstraat 1") || !is(a.Zip, "1000")) {
			t.Errorf("%s: what stands before is lost", name)
		}
	}
	if a, err := beid.ParseAddress(make([]byte, 117)); err != nil || a.Street.Len() != 0 {
		t.Errorf("a blank address: %v", err)
	}
}

func TestDocumentTypes(t *testing.T) {
	for code, want := range map[beid.DocumentType]string{1: "identity card", 6: "Kids-ID", 7: "bootstrap card", 8: "habilitation card",
		16: "residence card E+", 31: "residence card EU", 69: "residence card M", 99: "document of type 99"} {
		if code.String() != want {
			t.Errorf("%d: %s", int(code), code)
		}
	}
}

// Personal data do not print, whatever the verb, nor leave through an encoder.
func TestNothingPrints(t *testing.T) {
	card := readTestcard(t)
	id, _ := beid.ParseIdentity(card.Identity)
	a, _ := beid.ParseAddress(card.Address)
	doc := beid.Document{Files: map[beid.File][]byte{beid.IdentityFile: card.Identity}}
	for _, v := range []any{id, &id, a, &a, doc, &doc, id.Birth, id.Fields, beid.Holder{}, []beid.Identity{id}, map[int]beid.Document{1: doc}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
			out := fmt.Sprintf(verb, v)
			for _, private := range []string{"Jones", "4a6f6e6573", "74 111 110", "Louiza", "1970"} {
				if strings.Contains(out, private) {
					t.Errorf("%T prints with %s: %s", v, verb, out)
				}
			}
		}
		if b, err := json.Marshal(v); err == nil {
			t.Errorf("%T marshals: %s", v, b)
		}
	}
}
