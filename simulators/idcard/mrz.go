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
