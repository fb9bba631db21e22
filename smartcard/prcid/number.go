package prcid

import "bytes"

// Codes of sex that a number can tell.
const (
	male   = '1'
	female = '2'
)

// facts are what a number says of its holder.
type facts struct {
	birth []byte // YYYYMMDD, or YYMMDD
	sex   byte   // 0 if it does not tell
}

// readNumber checks a number's form and check digit.
func readNumber(k Kind, number []byte) (facts, error) {
	if k == Foreigner2017 {
		return readNumber15(number)
	}
	// GB 11643: region, birth, sequence, check. Foreigners have 9, a province and a
	// country for a region.
	if len(number) != 18 || !digits(number[:17]) || !digits(number[17:]) && number[17] != 'X' ||
		number[0] == '0' || (number[0] == '9') != (k == Foreigner2023) {
		return facts{}, ErrForm
	}
	if mod11(number[:17]) != number[17] {
		return facts{}, ErrCheckDigit
	}
	f := facts{birth: number[6:14], sex: female}
	if number[16]%2 == 1 {
		f.sex = male
	}
	if k == Foreigner2023 {
		f.sex = 0 // no public source says so of these
	}
	return f, nil
}

// readNumber15 reads the number of the foreigners' card of 2017: a country in
// letters, a region, birth, sequence, and a check digit as in machine readable
// zones (Doc 9303-3 4.9).
func readNumber15(number []byte) (facts, error) {
	if len(number) != 15 || !digits(number[3:]) || len(bytes.Trim(number[:3], "ABCDEFGHIJKLMNOPQRSTUVWXYZ")) != 0 {
		return facts{}, ErrForm
	}
	sum := 0
	for i, c := range number[:14] {
		value := int(c - '0')
		if i < 3 {
			value = int(c-'A') + 10
		}
		sum += value * [3]int{7, 3, 1}[i%3]
	}
	if byte('0'+sum%10) != number[14] {
		return facts{}, ErrCheckDigit
	}
	return facts{birth: number[7:13]}, nil
}

// mod11 is the check character of ISO 7064 MOD 11-2: with weights 2^i from the
// right, the check character's own being 1, the sum is 1 modulo 11.
func mod11(number []byte) byte {
	p := 0
	for _, c := range number {
		p = (p + int(c-'0')) * 2 % 11
	}
	return "10X98765432"[p]
}

func digits(b []byte) bool { return len(bytes.Trim(b, "0123456789")) == 0 }
