package idcard

import (
	"errors"
	"strings"
)

// checkDigit is 9303-3 4.9: weights 7, 3, 1, modulo 10.
func checkDigit(field string) byte {
	sum := 0
	for i := range len(field) {
		v := 0
		switch c := field[i]; {
		case c >= '0' && c <= '9':
			v = int(c - '0')
		case c >= 'A' && c <= 'Z':
			v = int(c-'A') + 10
		}
		sum += v * [3]int{7, 3, 1}[i%3]
	}
	return byte('0' + sum%10)
}

var errMRZ = errors.New("neither a TD1 nor a TD2 nor a TD3 zone")

// mrzInformation takes from a machine readable zone what both BAC and PACE make
// their key of: document number, date of birth and date of expiry, each with its
// check digit (9303-11 4.3.2).
func mrzInformation(zone string) ([]byte, error) {
	var number, dates string
	switch len(zone) {
	case 90:
		number = zone[5:15]
		if zone[14] == '<' { // the number goes on in the optional data, then its check digit
			rest, _, _ := strings.Cut(zone[15:30], "<")
			if rest != "" {
				number = zone[5:14] + rest
			}
		}
		dates = zone[30:37] + zone[38:45]
	case 72, 88:
		line := zone[len(zone)/2:]
		if number = line[:10]; len(zone) == 72 && number[9] == '<' {
			rest, _, _ := strings.Cut(line[28:35], "<")
			if rest != "" {
				number = line[:9] + rest
			}
		}
		dates = line[13:20] + line[21:28]
	default:
		return nil, errMRZ
	}
	return []byte(number + dates), nil
}

// CheckDigits writes all check digits of a zone anew, the document number's last
// where it is a long one, so that an altered field is the only fault. A zone of no
// known size stays as it is.
func CheckDigits(zone string) string {
	z := []byte(zone)
	put := func(at int, field string) { z[at] = checkDigit(field) }
	part := func(from, to int) string { return string(z[from:to]) }
	// number takes the field's digit, or the one behind the rest of a long number.
	number := func(at, rest, end int) {
		if z[at+9] != '<' || rest == 0 {
			put(at+9, part(at, at+9))
			return
		}
		n := strings.IndexByte(part(rest, end), '<')
		if n < 0 {
			n = end - rest
		}
		if n > 0 {
			put(rest+n-1, part(at, at+9)+part(rest, rest+n-1))
		}
	}
	switch len(zone) {
	case 90:
		number(5, 15, 30)
		put(36, part(30, 36))
		put(44, part(38, 44))
		put(59, part(5, 30)+part(30, 37)+part(38, 45)+part(48, 59))
	case 72:
		number(36, 64, 71)
		put(55, part(49, 55))
		put(63, part(57, 63))
		put(71, part(36, 46)+part(49, 56)+part(57, 71))
	case 88:
		number(44, 0, 0)
		put(63, part(57, 63))
		put(71, part(65, 71))
		put(86, part(72, 86))
		put(87, part(44, 54)+part(57, 64)+part(65, 87))
	}
	return string(z)
}
