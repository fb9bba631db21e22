package record_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/asn1"
	"errors"
	"math/big"
	"strings"
	"testing"

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
	// W3C's did:key document, appendix of test vectors.
	const p384DID = "did:key:z82Lm1MpAkeJcix9K8TMiLd5NMAhnwkjjCBeWHXyu3U4oT2MVJJKXkcVBgjGhnLBn2Kaau9"
	p384, err := record.JWK{
		Type: "EC", Curve: "P-384",
		X: []byte(decode(t, "lInTxl8fjLKp_UCrxI0WDklahi-7-_6JbtiHjiRvMvhedhKVdHBfi2HCY8t_QJyc")),
		Y: []byte(decode(t, "y6N1IC-2mXxHreETBW7K3mBcw0qGr3CWHCs-yl09yCQRLcyfGv7XhqAngHOu51Zv")),
	}.Public()
	if err != nil {
		t.Fatal(err)
	}
	if did, err := record.DIDKey(p384); err != nil || did != p384DID {
		t.Errorf("%s, %v", did, err)
	}
	ofRSA, err := record.DIDKey(rsaOnce().Public())
	if err != nil || !strings.HasPrefix(ofRSA, "did:key:z4MX") { // as all of RSA-2048 begin there
		t.Errorf("%s, %v", ofRSA, err)
	}
	for _, did := range []string{p256DID, p384DID, ofRSA, "did:key:z6MkhaXgBZDvotDkL5257faiztiGiC2QtKLGpbnnEGta2doK"} {
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
}

func TestDIDKeysRefused(t *testing.T) {
	const good = "did:key:zDnaerDaTF5BXEavCrfRZEk316dpbLsfPDZ3WJ5hRTPFU2169"
	for _, did := range []string{
		"", "did:key:", "did:key:z", "did:web:example.com", good + "1", good[:len(good)-1], "DID:key:z" + good[9:],
		"did:key:z1" + good[9:], // a leading zero byte: the same number
		good + "#" + good[8:], good + " ",
		"did:key:zDnaerDaTF5BXEavCrfRZEk316dpbLsfPDZ3WJ5hRTPFU216O", // O is no base58
		"did:key:z6LSbysY2xFMRpGMhb7tFTLMpeuPRaqaWM1yECx2AtzE3KCc",  // X25519 cannot sign
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
	} {
		j := good
		change(&j)
		if _, err := j.Public(); !errors.Is(err, record.ErrKey) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
