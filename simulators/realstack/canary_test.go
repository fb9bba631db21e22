//go:build realstack

package realstack

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// secrets are what must be nowhere but on the card, in the token and, sealed,
// at the authority.
type secrets map[string]string

// found is one place where a secret lies open.
type found struct{ what, form, file string }

// search looks through every file below the folders for each secret, as it is,
// in hexadecimal and in base64 at each alignment.
func search(t *testing.T, s secrets, folders ...string) (leaks []found, files int) {
	t.Helper()
	for _, folder := range folders {
		err := filepath.WalkDir(folder, func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			files++
			for what, secret := range s {
				for form, pattern := range forms(secret) {
					if stands(b, pattern) {
						leaks = append(leaks, found{what, form, path})
					}
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return leaks, files
}

func forms(secret string) map[string]string {
	utf16 := strings.Join(strings.Split(secret, ""), "\x00")
	out := map[string]string{"plain": secret, "lower case": strings.ToLower(secret), "hex": hex.EncodeToString([]byte(secret)),
		"HEX": strings.ToUpper(hex.EncodeToString([]byte(secret))), "utf-16": utf16}
	for shift := range 3 {
		encoded := base64.RawStdEncoding.EncodeToString([]byte(strings.Repeat("\x00", shift) + secret))
		// Only the characters that no neighbour of the secret has a part in.
		first, last := (shift*8+5)/6, (shift+len(secret))*8/6
		if last-first < 6 { // five come up by chance in a sealed record
			continue
		}
		out["base64 "+string(rune('0'+shift))] = encoded[first:last]
	}
	return out
}

// stands finds pattern where it is no part of a longer number: six digits
// come up by chance in long hexadecimal strings.
func stands(b []byte, pattern string) bool {
	digits := strings.Trim(pattern, "0123456789") == ""
	for at := 0; ; {
		i := bytes.Index(b[at:], []byte(pattern))
		if i < 0 {
			return false
		}
		i += at
		at = i + 1
		if !digits || !hexDigit(b, i-1) && !hexDigit(b, i+len(pattern)) {
			return true
		}
	}
}

func hexDigit(b []byte, i int) bool {
	return i >= 0 && i < len(b) && strings.IndexByte("0123456789abcdefABCDEF", b[i]) >= 0
}
