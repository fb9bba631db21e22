package beid_test

import (
	"bytes"
	"crypto/sha512"
	"encoding/asn1"
	"encoding/pem"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"enrollkiosk/simulators/beid"
)

// openssl verifies what the card holds, by the description of what is signed.
func TestOpenSSLVerifiesTheCard(t *testing.T) {
	for g, hash := range map[beid.Generation]string{beid.Applet11: "-sha1", beid.Applet17: "-sha256", beid.Applet18: "-sha384"} {
		dir := t.TempDir()
		write := func(name string, content []byte) string {
			path := filepath.Join(dir, name)
			if err := os.WriteFile(path, content, 0o600); err != nil {
				t.Fatal(err)
			}
			return path
		}
		openssl := func(args ...string) []byte {
			out, err := exec.CommandContext(t.Context(), "openssl", args...).CombinedOutput()
			if err != nil {
				t.Errorf("applet %s: openssl %v: %v\n%s", g, args[0], err, out)
			}
			return out
		}
		// certificates and signatures of applet 1.8 are DER with filling behind it
		object := func(file []byte) []byte {
			var raw asn1.RawValue
			if _, err := asn1.Unmarshal(file, &raw); err != nil {
				t.Fatal(err)
			}
			return raw.FullBytes
		}
		signature := func(file []byte) []byte {
			if g == beid.Applet18 {
				return object(file)
			}
			return file
		}
		issuer := newIssuer(t, g)
		card := newCard(t, issuer, beid.Options{})
		root := write("root", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: issuer.Root()}))
		register := write("register", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: object(card.File(0xDF00, 0x503C))}))
		openssl("verify", "-auth_level", "0", "-CAfile", root, register)
		key := write("key", openssl("x509", "-in", register, "-noout", "-pubkey"))

		identity, signed := card.File(0xDF01, 0x4031), card.File(0xDF01, 0x4032)
		address := append(bytes.TrimRight(card.File(0xDF01, 0x4033), "\x00"), signed...)
		openssl("dgst", hash, "-verify", key, "-signature", write("s1", signature(signed)), write("identity", identity))
		openssl("dgst", hash, "-verify", key, "-signature", write("s2", signature(card.File(0xDF01, 0x4034))), write("address", address))
		digest := bytes.Fields(openssl("dgst", hash, "-r", write("photo", card.File(0xDF01, 0x4035))))[0]
		if raw, _ := new(big.Int).SetString(string(digest), 16); !bytes.Contains(identity, raw.Bytes()) {
			t.Errorf("applet %s: the photo's hash is not in the identity", g)
		}
		if g != beid.Applet18 {
			continue
		}
		// The basic key's hash is in the identity; the key signs a digest as r and s.
		basic := card.File(0xDF01, 0x4040)
		if hash := sha512.Sum384(basic); !bytes.Contains(identity, hash[:]) {
			t.Error("the basic key's hash is not in the identity")
		}
		challenge := []byte("a challenge")
		toSign := sha512.Sum384(challenge)
		if answer := card.Transmit(t.Context(), append([]byte{0, 0x88, 0x02, 0x81, 50, 0x94, 48}, toSign[:]...)); !bytes.Equal(answer, []byte{0x61, 96}) {
			t.Fatalf("INTERNAL AUTHENTICATE: %X", answer)
		}
		answer := card.Transmit(t.Context(), []byte{0, 0xC0, 0, 0, 96})
		der, err := asn1.Marshal([]*big.Int{new(big.Int).SetBytes(answer[:48]), new(big.Int).SetBytes(answer[48:96])})
		if err != nil {
			t.Fatal(err)
		}
		public := write("basic", pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: basic}))
		openssl("dgst", "-sha384", "-verify", public, "-signature", write("s3", der), write("challenge", challenge))
	}
}
