package api

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"strings"

	"enrollkiosk/kiosk/secret"
)

// Code is what a person carries from the registry to a new kiosk: the secret
// that lets the kiosk ask once, and what the kiosk needs to know whom it asks.
//
// The two hashes are cut to 128 bits. Both keys exist before anybody attacks:
// what an attacker would have to find is a second key for a given hash.
type Code struct {
	Secret secret.Text // 16 bytes
	Root   [16]byte    // SHA-256 of the authority's root key (SubjectPublicKeyInfo), its first half
	TLS    [16]byte    // the same of the registry's TLS key
}

// ErrCode refuses a text that is no provisioning code.
var ErrCode = errors.New("the provisioning code is mistyped or cut short: copy it again, all 84 letters and digits")

// As bytes: version, secret, root, TLS, checksum; as text base32 (RFC 4648 6,
// without padding) in groups of four.
const (
	codeVersion  = 1
	codeChecksum = 3
	codeSize     = 1 + 3*16 + codeChecksum
	codeText     = 84
)

var codeEncoding = base32.StdEncoding.WithPadding(base32.NoPadding)

// NewCode makes a code with a new secret. root and tls are whole hashes.
func NewCode(root, tls [32]byte) Code {
	b := make([]byte, 16)
	rand.Read(b)
	return Code{secret.New(b), [16]byte(root[:]), [16]byte(tls[:])}
}

// Text is the code as it is printed. It holds the secret.
func (c Code) Text() string {
	b := bytes.Join([][]byte{{codeVersion}, c.Secret.Reveal(), c.Root[:], c.TLS[:]}, nil)
	text := codeEncoding.EncodeToString(append(b, checksum(b)...))
	var out strings.Builder
	for i := 0; i < len(text); i += 4 {
		if i > 0 {
			out.WriteByte('-')
		}
		out.WriteString(text[i:min(i+4, len(text))])
	}
	return out.String()
}

// ParseCode reads a code however it was typed: upper or lower case, with hyphens,
// blanks and line ends anywhere. The error is ErrCode.
func ParseCode(text string) (Code, error) {
	if len(text) > 4*codeText {
		return Code{}, ErrCode
	}
	plain := strings.Map(func(r rune) rune {
		switch {
		case strings.ContainsRune("- \t\r\n", r):
			return -1
		case r >= 'a' && r <= 'z':
			return r - 'a' + 'A'
		}
		return r
	}, text)
	b, err := codeEncoding.DecodeString(plain)
	if err != nil || len(b) != codeSize || codeEncoding.EncodeToString(b) != plain || b[0] != codeVersion {
		return Code{}, ErrCode
	}
	body := b[:codeSize-codeChecksum]
	if !bytes.Equal(checksum(body), b[len(body):]) {
		return Code{}, ErrCode
	}
	return Code{secret.New(bytes.Clone(b[1:17])), [16]byte(b[17:33]), [16]byte(b[33:49])}, nil
}

// checksum finds typing mistakes; it keeps nobody out.
func checksum(b []byte) []byte {
	d := sha256.Sum256(append([]byte("enrollkiosk/code/v1"), b...))
	return d[:codeChecksum]
}

// KeyHash is SHA-256 of a SubjectPublicKeyInfo; a Code holds the first half.
func KeyHash(spki []byte) [32]byte { return sha256.Sum256(spki) }
