package idcard

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"encoding/asn1"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"testing"

	"enrollkiosk/smartcard/apdu"
)

// opensslNames are the curves as openssl calls them.
var opensslNames = map[Domain]string{
	P192: "prime192v1", BrainpoolP192r1: "brainpoolP192r1", P224: "secp224r1", BrainpoolP224r1: "brainpoolP224r1",
	P256: "prime256v1", BrainpoolP256r1: "brainpoolP256r1", BrainpoolP320r1: "brainpoolP320r1",
	P384: "secp384r1", BrainpoolP384r1: "brainpoolP384r1", BrainpoolP512r1: "brainpoolP512r1", P521: "secp521r1",
}

// opensslKey makes a key pair: the private key, the public point, and a file with the public key.
func opensslKey(t *testing.T, d Domain) (private *big.Int, public []byte, path string) {
	t.Helper()
	dir := t.TempDir()
	key := filepath.Join(dir, "key.der")
	path = filepath.Join(dir, "public.pem")
	for _, args := range [][]string{
		{"ecparam", "-name", opensslNames[d], "-genkey", "-noout", "-outform", "DER", "-out", key},
		{"ec", "-inform", "DER", "-in", key, "-pubout", "-out", path},
	} {
		if out, err := openssl(t, args...); err != nil {
			t.Fatalf("openssl %s: %v\n%s", args[0], err, out)
		}
	}
	der, err := os.ReadFile(key)
	if err != nil {
		t.Fatal(err)
	}
	var k struct { // RFC 5915
		Version int
		Private []byte
		Curve   asn1.RawValue  `asn1:"explicit,optional,tag:0"`
		Public  asn1.BitString `asn1:"explicit,optional,tag:1"`
	}
	if _, err := asn1.Unmarshal(der, &k); err != nil {
		t.Fatal(err)
	}
	return new(big.Int).SetBytes(k.Private), k.Public.Bytes, path
}

func TestActiveAuthenticationByECDSA(t *testing.T) {
	challenge := []byte{1, 2, 3, 4, 5, 6, 7, 8}
	message := write(t, "challenge", challenge)
	for _, v := range []struct {
		domain Domain
		hash   crypto.Hash
		name   string
	}{
		{P224, crypto.SHA224, "sha224"}, {P256, crypto.SHA256, "sha256"}, {P384, crypto.SHA384, "sha384"}, {P521, crypto.SHA512, "sha512"},
		{BrainpoolP224r1, crypto.SHA224, "sha224"}, {BrainpoolP256r1, crypto.SHA256, "sha256"}, {BrainpoolP320r1, crypto.SHA256, "sha256"},
		{BrainpoolP384r1, crypto.SHA384, "sha384"}, {BrainpoolP512r1, crypto.SHA512, "sha512"},
		{P192, crypto.SHA1, "sha1"}, {P256, crypto.SHA512, "sha512"}, {P521, crypto.SHA224, "sha224"},
	} {
		t.Run(fmt.Sprintf("domain %d %s", v.domain, v.name), func(t *testing.T) {
			private, _, public := opensslKey(t, v.domain)
			plain := sign(t, &ActiveKey{Domain: v.domain, Private: private, Hash: v.hash}, challenge)
			g, _ := v.domain.group()
			size := (g.n.BitLen() + 7) / 8
			if len(plain) != 2*size {
				t.Fatalf("a plain signature of %d bytes", len(plain))
			}
			r, s := new(big.Int).SetBytes(plain[:size]), new(big.Int).SetBytes(plain[size:])
			for _, der := range [][]byte{
				tlv(0x30, integer(r), integer(s)),
				sign(t, &ActiveKey{Domain: v.domain, Private: private, Hash: v.hash, DER: true}, challenge),
			} {
				if out, err := openssl(t, "dgst", "-"+v.name, "-verify", public, "-signature", write(t, "signature", der), message); err != nil {
					t.Errorf("openssl: %v\n%s", err, out)
				}
			}
		})
	}
}

// sign runs INTERNAL AUTHENTICATE under secure messaging.
func sign(t *testing.T, key *ActiveKey, challenge []byte) []byte {
	t.Helper()
	r := openSession(t, bare(t, Profile{ActiveKey: key}))
	r.extended = true
	a, err := r.send(apdu.Command{INS: 0x88, Data: challenge, Le: apdu.MaxExtendedLe})
	if err != nil || a.Status != apdu.OK {
		t.Fatalf("INTERNAL AUTHENTICATE: %v, %v", a.Status, err)
	}
	return a.Data
}

// openSession is a session in the application, whatever the chip's access control.
func openSession(t testing.TB, c *Chip) *terminal {
	t.Helper()
	r := connect(t, c)
	r.selectApplication()
	keys := func() *channel { return newChannel(AES128, []byte("a shared secret"), nil) }
	c.channel, r.sm = keys(), keys()
	return r
}

func TestActiveAuthenticationByRSA(t *testing.T) {
	challenge := []byte{1, 2, 3, 4, 5, 6, 7, 8}
	for _, bits := range []int{1024, 1536, 3072} {
		private, err := rsa.GenerateKey(rand.Reader, bits)
		if err != nil {
			t.Fatal(err)
		}
		for hash, trailer := range trailers {
			block := openSignature(&private.PublicKey, sign(t, &ActiveKey{RSA: private, Hash: hash}, challenge))
			end := len(block) - len(trailer)
			m1, digest := block[1:end-hash.Size()], block[end-hash.Size():end]
			h := hash.New()
			h.Write(m1)
			h.Write(challenge)
			if block[0] != 0x6A || !bytes.Equal(block[end:], trailer) || !bytes.Equal(digest, h.Sum(nil)) {
				t.Errorf("%d bits, %v: the block is %x", bits, hash, block)
			}
		}
		block := openSignature(&private.PublicKey, sign(t, &ActiveKey{RSA: private, Hash: crypto.SHA256, Trailer: []byte{0x7A, 0xCC}}, challenge))
		if !bytes.HasSuffix(block, []byte{0x7A, 0xCC}) {
			t.Errorf("the trailer of the profile is not there: %x", block)
		}
	}
}

// openSignature undoes RSA; the smaller of s and n-s was sent, and a block ends in C.
func openSignature(key *rsa.PublicKey, signature []byte) []byte {
	s := new(big.Int).SetBytes(signature)
	f := s.Exp(s, big.NewInt(int64(key.E)), key.N)
	if b := f.Bytes(); b[len(b)-1]&0x0F != 0x0C {
		f.Sub(key.N, f)
	}
	return f.FillBytes(make([]byte, key.Size()))
}

// A signature longer than the command asks for is an error, unless the chip
// keeps the rest for GET RESPONSE.
func TestLongSignature(t *testing.T) {
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	for _, keeps := range []bool{false, true} {
		r := openSession(t, bare(t, Profile{ActiveKey: &ActiveKey{RSA: private, Hash: crypto.SHA256}, GetResponse: keeps}))
		first := r.plain(r.protect(apdu.Command{INS: 0x88, Data: make([]byte, 8), Le: 256}))
		if !keeps {
			if first.Status != apdu.WrongLength || len(first.Data) != 0 {
				t.Errorf("without GET RESPONSE: %v, %d bytes", first.Status, len(first.Data))
			}
			continue
		}
		if first.Status&0xFF00 != moreData || len(first.Data) != 256 {
			t.Fatalf("the first part: %v, %d bytes", first.Status, len(first.Data))
		}
		second := r.plain(apdu.Command{INS: 0xC0, Le: int(first.Status & 0xFF)})
		if second.Status != apdu.OK || len(second.Data) != int(first.Status&0xFF) {
			t.Fatalf("the second part: %v, %d bytes", second.Status, len(second.Data))
		}
		a, err := r.opened(apdu.Response{Data: append(first.Data, second.Data...), Status: second.Status})
		if err != nil || len(a.Data) != 256 {
			t.Fatalf("both parts: %v, %d bytes", err, len(a.Data))
		}
		if _, err := r.read(efCOM); err != nil {
			t.Errorf("the session after GET RESPONSE: %v", err)
		}
	}
}

func TestActiveKeysThatCannotSign(t *testing.T) {
	for name, key := range map[string]*ActiveKey{
		"no key":             {Hash: crypto.SHA256},
		"a hash of its own":  {Hash: crypto.MD5, Domain: P256, Private: one},
		"an unknown domain":  {Hash: crypto.SHA256, Domain: 3, Private: one},
		"a short RSA key":    {Hash: crypto.SHA512, RSA: &rsa.PrivateKey{PublicKey: rsa.PublicKey{N: new(big.Int).Lsh(one, 500)}}},
		"a finite field key": {Hash: crypto.SHA256, Domain: DH2048_256, Private: one},
	} {
		if _, err := New(Profile{ActiveKey: key}); err == nil {
			t.Errorf("%s: a chip was made", name)
		}
	}
}
