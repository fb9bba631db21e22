package record

import (
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"errors"
	"strings"
)

// ErrCancelCode says that what somebody typed is no cancel code: a letter is
// missing or wrong.
var ErrCancelCode = errors.New("cancel-code: not a cancel code: compare each letter and digit with the paper")

// cancelLetters are digits and letters without I, L, O and U (Crockford's base 32):
// what looks alike is read as the one that is there.
const cancelLetters = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"

var (
	cancelCoding = base32.NewEncoding(cancelLetters).WithPadding(base32.NoPadding)
	lookAlikes   = strings.NewReplacer("I", "1", "L", "1", "O", "0")
)

// Lengths of a code on paper: 128 bits and 12 bits that find a slip of the pen,
// in groups of four.
const (
	cancelDigits = 28
	cancelGroup  = 4
	maxTyped     = 100 // bytes
)

// CancelHash is SHA-256("enrollkiosk/cancel/v1" || code): over the code's bytes,
// not over how they are written. Whoever holds the record can try codes against
// it: a code needs 80 random bits at least.
func CancelHash(code []byte) [32]byte {
	return sha256.Sum256(append([]byte("enrollkiosk/cancel/v1"), code...))
}

// FormatCancelCode writes a code of 128 random bits for people.
func FormatCancelCode(code [16]byte) string {
	digits := cancelCoding.EncodeToString(cancelBytes(code))
	var b strings.Builder
	for i := 0; i < cancelDigits; i += cancelGroup {
		if i > 0 {
			b.WriteByte('-')
		}
		b.WriteString(digits[i : i+cancelGroup])
	}
	return b.String()
}

// cancelBytes are the code, then the first 12 bits of
// SHA-256("enrollkiosk/cancel-check/v1" || code), then 4 bits that fall away.
func cancelBytes(code [16]byte) []byte {
	check := sha256.Sum256(append([]byte("enrollkiosk/cancel-check/v1"), code[:]...))
	return binary.BigEndian.AppendUint16(code[:], binary.BigEndian.Uint16(check[:])&0xFFF0)[:18]
}

// ParseCancelCode reads a code as people type it: in either case, in any groups,
// in the wide letters of Chinese keyboards, with I or L for 1 and O for 0. The
// error is ErrCancelCode.
func ParseCancelCode(typed string) (code [16]byte, err error) {
	if len(typed) > maxTyped {
		return code, ErrCancelCode
	}
	digits := digitsOf(typed)
	if len(digits) != cancelDigits {
		return code, ErrCancelCode
	}
	b, err := cancelCoding.DecodeString(digits)
	if err != nil {
		return code, ErrCancelCode
	}
	copy(code[:], b)
	// The last digit holds the check's last bits.
	if cancelCoding.EncodeToString(cancelBytes(code))[:cancelDigits] != digits {
		return [16]byte{}, ErrCancelCode
	}
	return code, nil
}

// digitsOf are what was meant by what was typed.
func digitsOf(typed string) string {
	return lookAlikes.Replace(strings.ToUpper(strings.Map(func(r rune) rune {
		if '\uFF01' <= r && r <= '\uFF5E' {
			r -= '\uFF01' - '!'
		}
		switch {
		case r <= ' ', r == '-', r == '.', r == '\u00A0', r == '\u00AD', '\u2010' <= r && r <= '\u2015', r == '\u3000':
			return -1
		}
		return r
	}, typed)))
}
