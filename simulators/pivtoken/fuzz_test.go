package pivtoken_test

import (
	"bytes"
	"testing"

	"enrollkiosk/simulators/pivtoken"
	"enrollkiosk/smartcard/apdu"
)

// FuzzTransmit feeds a session of commands, each behind its length, to a token
// on which the administrator and the PIN were authenticated.
func FuzzTransmit(f *testing.F) {
	session := func(commands ...string) {
		var b []byte
		for _, c := range commands {
			b = append(append(b, byte(len(c))), c...)
		}
		f.Add(b)
	}
	session("\x00\xA4\x04\x00\x05\xA0\x00\x00\x03\x08", "\x00\xFD\x00\x00\x00", "\x00\xCB\x3F\xFF\x03\x5C\x01\x7E")
	session("\x00\x47\x00\x9A\x05\xAC\x03\x80\x01\x11", "\x00\xF9\x9A\x00\x00", "\x00\xC0\x00\x00\x00", "\x00\xF7\x00\x9A\x00")
	session("\x00\x47\x00\x9E\x0B\xAC\x09\x80\x01\xE0\xAA\x01\x01\xAB\x01\x01", "\x00\x87\xE0\x9E\x09\x7C\x07\x82\x00\x81\x03abc")
	session("\x10\xDB\x3F\xFF\x02\x5C\x03", "\x00\xDB\x3F\xFF\x06\x5F\xC1\x02\x53\x01\x00", "\x00\xCB\x3F\xFF\x05\x5C\x03\x5F\xC1\x02")
	session("\x00\xFE\x11\x9D\x22\x06\x2012345678901234567890123456789012", "\x00\xF6\x82\x9D")
	session("\x00\x87\x0A\x9B\x04\x7C\x02\x80\x00", "\x00\x87\x0A\x9B\x04\x7C\x02\x81\x00", "\x00\xFF\xFF\xFF\x13\x08\x9B\x101234567890123456")
	session("\x00\x24\x00\x80\x10123456\xFF\xFF654321\xFF\xFF", "\x00\x2C\x00\x80\x1012345678123456\xFF\xFF", "\x00\xFA\x03\x03", "\x00\xFB\x00\x00")
	session("\x00\xCB\x3F\xFF\x00\x00\x05\x5C\x03\x5F\xFF\x01\x00\x00")

	root, err := pivtoken.NewAuthority([]byte("fuzz"))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, input []byte) {
		term := ready(t, pivtoken.Options{Root: root})
		term.verify(pivtoken.DefaultPIN)
		for n := 0; len(input) > 0 && n < 32; n++ {
			length := min(int(input[0]), len(input)-1)
			command := input[1 : 1+length]
			input = input[1+length:]
			if slowRSA(command) {
				continue
			}
			answer := term.token.Transmit(t.Context(), command)
			if _, err := apdu.ParseResponse(answer); err != nil || len(answer) > apdu.MaxExtendedLe+2 {
				t.Fatalf("answer of %d bytes to %x", len(answer), command)
			}
		}
	})
}

// slowRSA tells commands that may take seconds: generating RSA keys.
func slowRSA(command []byte) bool {
	return len(command) > 1 && command[1] == 0x47 && bytes.ContainsAny(command, "\x05\x06\x07\x16")
}
