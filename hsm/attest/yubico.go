package attest

import (
	"crypto/x509"
	"embed"
	"encoding/pem"
	"fmt"
	"io/fs"
	"strings"
)

//go:embed yubico/*.pem
var yubicoFiles embed.FS

// Yubico is the maker's PIV hierarchy as it is published, see yubico/README.md:
// roots of class Production, and what stands between Attestation Root 1 and the
// tokens from firmware 5.7.4 on (for PIVExpect.Intermediates). The certificates
// are the caller's own.
func Yubico() (roots []Root, intermediates []*x509.Certificate) {
	names, err := fs.Glob(yubicoFiles, "yubico/*.pem")
	if err != nil {
		panic(err) // the pattern is good
	}
	for _, name := range names {
		b, err := yubicoFiles.ReadFile(name)
		if err != nil {
			panic(err)
		}
		block, rest := pem.Decode(b)
		if block == nil || len(rest) > 0 {
			panic(fmt.Sprintf("attest: %s is not one certificate", name)) // its test has seen it
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			panic(fmt.Sprintf("attest: %s: %v", name, err))
		}
		if strings.HasPrefix(name, "yubico/root-") {
			roots = append(roots, Root{c, Production})
		} else {
			intermediates = append(intermediates, c)
		}
	}
	return roots, intermediates
}
