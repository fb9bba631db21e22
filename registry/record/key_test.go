package record_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/asn1"
	"encoding/binary"
	"errors"
	"math/big"
	"strconv"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"

	"enrollkiosk/registry/record"
)

func rawSignature(t *testing.T, der []byte) []byte {
	t.Helper()
	var rs struct{ R, S *big.Int }
	if _, err := asn1.Unmarshal(der, &rs); err != nil {
		t.Fatal(err)
	}
	return append(rs.R.FillBytes(make([]byte, 32)), rs.S.FillBytes(make([]byte, 32))...)
}

func derSignature(raw []byte) []byte {
	der, _ := asn1.Marshal(struct{ R, S *big.Int }{new(big.Int).SetBytes(raw[:32]), new(big.Int).SetBytes(raw[32:])})
	return der
}

// Thumbprints from RFC 7638 3.1 (RSA) and RFC 8037 A.3 (Ed25519).
func TestThumbprintVectors(t *testing.T) {
	rsaKey := record.JWK{Type: "RSA", Exponent: []byte{1, 0, 1}, Modulus: []byte(decode(t, "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw"))}
	edKey := record.JWK{Type: "OKP", Curve: "Ed25519", X: []byte(decode(t, "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"))}
	for want, jwk := range map[string]record.JWK{
		"NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs": rsaKey,
		"kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k": edKey,
	} {
		print := jwk.Thumbprint()
		if got := b64.EncodeToString(print[:]); got != want {
			t.Errorf("%s: %s, want %s", jwk.Type, got, want)
		}
		pub, err := jwk.Public()
		if err != nil {
			t.Fatal(err)
		}
		if back, err := record.NewJWK(pub); err != nil || !back.Equal(jwk) {
			t.Errorf("%s: %v", jwk.Type, err)
		}
	}
}

// rsaDID is an example of the did:key method specification.
const rsaDID = "did:key:z4MXj1wBzi9jUstyPMS4jQqB6KdJaiatPkAtVtGc6bQEQEEsKTic4G7Rou3iBf9vPmT5dbkm9qsZsuVNjq8HCuW1w24nhBFGkRE4cd2Uf2tfrB3N7h4mnyPp1BF3ZttHTYv3DLUPi1zMdkULiow3M1GfXkoC6DoxDUm1jmN6GBj22SjVsr6dxezRVQc7aj9TxE7JLbMH1wh5X3kA58H3DFW8rnYMakFGbca5CB2Jf6CnGQZmL7o5uJAdTwXfy2iiiyPxXEGerMhHwhjTA1mKYobyk2CpeEcmvynADfNZ5MBvcCS7m3XkFCMNUYBS9NQ3fze6vMSUPsNa6GVYmKx2x6JrdEjCk3qRMMmyjnjCMfR4pXbRMZa3i"

// Examples of the did:key method specification.
func TestDIDKeyVectors(t *testing.T) {
	p256, err := record.JWK{
		Type: "EC", Curve: "P-256",
		X: []byte(decode(t, "fyNYMN0976ci7xqiSdag3buk-ZCwgXU4kz9XNkBlNUI")),
		Y: []byte(decode(t, "hW2ojTNfH7Jbi8--CJUo3OCbH3y5n91g-IMA9MLMbTU")),
	}.Public()
	if err != nil {
		t.Fatal(err)
	}
	const p256DID = "did:key:zDnaerDaTF5BXEavCrfRZEk316dpbLsfPDZ3WJ5hRTPFU2169"
	if did, err := record.DIDKey(p256); err != nil || did != p256DID {
		t.Errorf("%s, %v", did, err)
	}
	p384, err := record.JWK{
		Type: "EC", Curve: "P-384",
		X: []byte(decode(t, "lInTxl8fjLKp_UCrxI0WDklahi-7-_6JbtiHjiRvMvhedhKVdHBfi2HCY8t_QJyc")),
		Y: []byte(decode(t, "y6N1IC-2mXxHreETBW7K3mBcw0qGr3CWHCs-yl09yCQRLcyfGv7XhqAngHOu51Zv")),
	}.Public()
	if err != nil {
		t.Fatal(err)
	}
	const p384DID = "did:key:z82Lm1MpAkeJcix9K8TMiLd5NMAhnwkjjCBeWHXyu3U4oT2MVJJKXkcVBgjGhnLBn2Kaau9"
	if did, err := record.DIDKey(p384); err != nil || did != p384DID {
		t.Errorf("%s, %v", did, err)
	}
	for _, did := range []string{p256DID, p384DID, rsaDID,
		"did:key:z82LkvCwHNreneWpsgPEbV3gu1C6NFJEBg4srfJ5gdxEsMGRJUz2sG9FE42shbn2xkZJh54", "did:key:z6MkhaXgBZDvotDkL5257faiztiGiC2QtKLGpbnnEGta2doK",
	} {
		pub, err := record.ParseDIDKey(did)
		if err != nil {
			t.Errorf("%s: %v", did, err)
			continue
		}
		if again, err := record.DIDKey(pub); err != nil || again != did {
			t.Errorf("%s: comes back as %s, %v", did, again, err)
		}
	}
	if pub, err := record.ParseDIDKey(p256DID); err != nil || !p256.(*ecdsa.PublicKey).Equal(pub) {
		t.Errorf("another key: %v", err)
	}
	if pub, err := record.ParseDIDKey(rsaDID); err != nil || pub.(*rsa.PublicKey).N.BitLen() != 2048 || pub.(*rsa.PublicKey).E != 65537 {
		t.Errorf("RSA: %v", err)
	}
	// The longest: RSA of 4096 bits.
	long := &rsa.PublicKey{N: new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), 4096), big.NewInt(1)), E: 65537}
	did, err := record.DIDKey(long)
	if err != nil {
		t.Fatal(err)
	}
	if pub, err := record.ParseDIDKey(did); err != nil || !long.Equal(pub) {
		t.Errorf("RSA of 4096 bits: %d characters, %v", len(did), err)
	}
}

// TestMulticodecs wants the codes of the multicodec table, as varints, before
// each kind of key.
func TestMulticodecs(t *testing.T) {
	for prefix, d := range map[uint64]device{0x1200: ecKey(t, "x"), 0x1201: p384Key(t, "x"), 0xED: edKey("x"), 0x1205: {key: rsaOnce()}} {
		did, err := record.DIDKey(d.Public())
		if err != nil {
			t.Fatal(err)
		}
		n := new(big.Int)
		for _, c := range strings.TrimPrefix(did, "did:key:z") {
			n.Add(n.Mul(n, big.NewInt(58)), big.NewInt(int64(strings.IndexRune("123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz", c))))
		}
		if got, _ := binary.Uvarint(n.Bytes()); got != prefix {
			t.Errorf("%T: codec %#x, want %#x", d.Public(), got, prefix)
		}
		if pub, err := record.ParseDIDKey(did); err != nil || !pub.(interface{ Equal(crypto.PublicKey) bool }).Equal(d.Public()) {
			t.Errorf("%s: %v", did, err)
		}
	}
}

// TestAlgorithmFollowsTheKey makes and checks a compact JWS with each kind of
// key, here and with an independent JOSE library, and refuses every other alg
// in its header, also where the signature is good for it.
func TestAlgorithmFollowsTheKey(t *testing.T) {
	const typ = "test+jws"
	anyKey := func(crypto.PublicKey) bool { return true }
	algorithms := []jose.SignatureAlgorithm{jose.ES256, jose.ES384, jose.EdDSA, jose.RS256, jose.PS256}
	for alg, d := range map[jose.SignatureAlgorithm]device{
		jose.ES256: ecKey(t, "x"), jose.ES384: p384Key(t, "x"), jose.EdDSA: edKey("x"), jose.RS256: {key: rsaOnce()}, jose.PS256: {key: rsaOnce(), pss: true},
	} {
		b, err := record.SignCompact(t.Context(), typ, []byte("payload"), d)
		if err != nil {
			t.Errorf("%s: %v", alg, err)
			continue
		}
		if got, err := record.VerifyCompact(b, typ, anyKey); err != nil || string(got) != "payload" {
			t.Errorf("%s: %q, %v", alg, got, err)
		}
		foreign, err := jose.ParseSignedCompact(string(b), []jose.SignatureAlgorithm{alg})
		if err != nil {
			t.Errorf("%s: %v", alg, err)
			continue
		}
		if got, err := foreign.Verify(d.Public()); err != nil || string(got) != "payload" {
			t.Errorf("%s by go-jose: %q, %v", alg, got, err)
		}
		parts := strings.Split(string(b), ".")
		for _, other := range algorithms {
			if other == alg {
				continue
			}
			header := b64.EncodeToString([]byte(strings.Replace(decode(t, parts[0]), string(alg), string(other), 1)))
			input := header + "." + parts[1]
			if _, err := record.VerifyCompact([]byte(input+"."+parts[2]), typ, anyKey); !errors.Is(err, record.ErrSignature) {
				t.Errorf("%s as %s: %v", alg, other, err)
			}
			// A P-384 key that signs SHA-256, and a P-256 key that signs SHA-384.
			k, ok := d.key.(*ecdsa.PrivateKey)
			if !ok || other != jose.ES256 && other != jose.ES384 {
				continue
			}
			digest := sha512.Sum384([]byte(input))
			hash, message := crypto.SHA384, digest[:]
			if other == jose.ES256 {
				short := sha256.Sum256([]byte(input))
				hash, message = crypto.SHA256, short[:]
			}
			der, err := k.Sign(nil, message, hash)
			if err != nil {
				t.Fatal(err)
			}
			var rs struct{ R, S *big.Int }
			if _, err := asn1.Unmarshal(der, &rs); err != nil {
				t.Fatal(err)
			}
			for _, size := range []int{32, 48} {
				if rs.R.BitLen() > 8*size || rs.S.BitLen() > 8*size {
					continue
				}
				sig := append(rs.R.FillBytes(make([]byte, size)), rs.S.FillBytes(make([]byte, size))...)
				if _, err := record.VerifyCompact([]byte(input+"."+b64.EncodeToString(sig)), typ, anyKey); !errors.Is(err, record.ErrSignature) {
					t.Errorf("%s key signs as %s, %d bytes: %v", alg, other, len(sig), err)
				}
			}
		}
	}
}

// About one r or s in 256 begins with a zero byte, and half of all with a bit that
// DER would read as a sign.
func TestShortNumbersInSignatures(t *testing.T) {
	for _, d := range []device{ecKey(t, "x"), p384Key(t, "x")} {
		var shortR, shortS bool
		for n := 0; !shortR || !shortS; n++ {
			b, err := record.SignCompact(t.Context(), "test+jws", []byte(strconv.Itoa(n)), d)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := record.VerifyCompact(b, "test+jws", func(crypto.PublicKey) bool { return true }); err != nil {
				t.Fatal(err)
			}
			sig := decode(t, string(b[bytes.LastIndexByte(b, '.')+1:]))
			shortR, shortS = shortR || sig[0] == 0, shortS || sig[len(sig)/2] == 0
		}
	}
}

func FuzzParseDIDKey(f *testing.F) {
	for _, d := range []device{ecKey(f, "x"), p384Key(f, "x"), edKey("x"), {key: rsaOnce()}} {
		did, err := record.DIDKey(d.Public())
		if err != nil {
			f.Fatal(err)
		}
		f.Add(did)
	}
	f.Fuzz(func(t *testing.T, did string) {
		pub, err := record.ParseDIDKey(did)
		if err != nil {
			if !errors.Is(err, record.ErrKey) || pub != nil {
				t.Fatalf("%v, key %v", err, pub)
			}
			return
		}
		if again, err := record.DIDKey(pub); err != nil || again != did {
			t.Fatalf("%q comes back as %q, %v", did, again, err)
		}
	})
}

func TestDIDKeysRefused(t *testing.T) {
	const good = "did:key:zDnaerDaTF5BXEavCrfRZEk316dpbLsfPDZ3WJ5hRTPFU2169"
	for _, did := range []string{
		"", "did:key:", "did:key:z", "did:web:example.com", good + "1", good[:len(good)-1], "DID:key:z" + good[9:],
		"did:key:z1" + good[9:], // a leading zero byte: the same number
		good + "#" + good[8:], good + " ",
		"did:key:zDnaerDaTF5BXEavCrfRZEk316dpbLsfPDZ3WJ5hRTPFU216O", // O is no base58
		"did:key:z6LSbysY2xFMRpGMhb7tFTLMpeuPRaqaWM1yECx2AtzE3KCc",  // X25519 cannot sign
		rsaDID + "1", rsaDID[:len(rsaDID)-1], rsaDID + rsaDID[9:],
		"did:key:z82Lm1MpAkeJcix9K8TMiLd5NMAhnwkjjCBeWHXyu3U4oT2MVJJKXkcVBgjGhnLBn2Kaau6",                          // no point of P-384
		"did:key:z2J9gaYxrKVpdoG9A4gRnmpnRCcxU6agDtFVVBVdn1JedouoZN7SzcyREXXzWgt3gGiwpoHq7K68X4m32D8HgzG8wv3sY5j7", // P-521
	} {
		if _, err := record.ParseDIDKey(did); !errors.Is(err, record.ErrKey) {
			t.Errorf("%q: %v", did, err)
		}
	}
}

func TestUnsupportedKeys(t *testing.T) {
	p521, err := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	short := &rsa.PublicKey{N: new(big.Int).Lsh(big.NewInt(1), 1023), E: 65537}
	odd := &rsa.PublicKey{N: rsaOnce().N, E: 3}
	for _, pub := range []crypto.PublicKey{nil, p521.Public(), short, odd, ed25519.PublicKey{1}, "key"} {
		if _, err := record.NewJWK(pub); !errors.Is(err, record.ErrKey) {
			t.Errorf("%T: %v", pub, err)
		}
	}
	good, err := record.NewJWK(ecKey(t, "x").Public())
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(j *record.JWK){
		"off the curve":  func(j *record.JWK) { j.Y = append([]byte{j.Y[0] ^ 1}, j.Y[1:]...) },
		"short x":        func(j *record.JWK) { j.X = j.X[1:] },
		"infinity":       func(j *record.JWK) { j.X, j.Y = make([]byte, 32), make([]byte, 32) },
		"curve":          func(j *record.JWK) { j.Curve = "P-384" },
		"type":           func(j *record.JWK) { j.Type = "oct" },
		"with a modulus": func(j *record.JWK) { j.Modulus = []byte{1} },
		"as Ed25519":     func(j *record.JWK) { j.Type, j.Curve = "OKP", "Ed25519" },
		"P-521":          func(j *record.JWK) { j.Curve = "P-521" },
		"no curve":       func(j *record.JWK) { j.Curve = "" },
	} {
		j := good
		change(&j)
		if _, err := j.Public(); !errors.Is(err, record.ErrKey) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
