package attest

import (
	"crypto/x509"
	"embed"
	"encoding/pem"
	"fmt"
)

//go:embed yubico/*.pem
var yubico embed.FS

// Yubico returns Yubico's authorities for PIV attestation (yubico/README.md):
// its roots, and the intermediates under them, each after its issuer. They are
// trusted where a policy names them, and nowhere else.
func Yubico() (roots, intermediates []*x509.Certificate) {
	read := func(names ...string) (list []*x509.Certificate) {
		for _, name := range names {
			b, err := yubico.ReadFile("yubico/" + name + ".pem")
			if err != nil {
				panic(err) // embedded
			}
			block, _ := pem.Decode(b)
			c, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				panic(fmt.Sprintf("%s: %v", name, err))
			}
			list = append(list, c)
		}
		return list
	}
	return read("piv-root", "attestation-root-1"),
		read("attestation-intermediate-a-1", "attestation-intermediate-b-1", "piv-attestation-a-1", "piv-attestation-b-1")
}
