package sitekey_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"testing"

	"github.com/cloudflare/circl/group"

	"enrollkiosk/holder/sitekey"
)

// soft is a 9D whose private key is known: what a vector needs.
type soft struct {
	key    *ecdh.PrivateKey
	peers  []*ecdh.PublicKey // what it was asked
	answer func([][]byte) [][]byte
}

func (s *soft) Public() *ecdh.PublicKey { return s.key.PublicKey() }

func (s *soft) AgreeAll(_ context.Context, peers []*ecdh.PublicKey) (all [][]byte, err error) {
	for _, p := range peers {
		z, err := s.key.ECDH(p)
		if err != nil {
			return nil, err
		}
		all = append(all, z)
	}
	s.peers = append(s.peers, peers...)
	if s.answer != nil {
		all = s.answer(all)
	}
	return all, nil
}

// rfc6979 is the P-256 key of RFC 6979 A.2.5.
func rfc6979(t *testing.T) *soft {
	t.Helper()
	key, err := ecdh.P256().NewPrivateKey(unhex(t, "c9afa9d845ba75166b5c215767b1d6934e50c3db36e89b127b8a622b120f6721"))
	if err != nil {
		t.Fatal(err)
	}
	return &soft{key: key}
}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// A key is a promise: a change of the construction would lose every account.
func TestVector(t *testing.T) {
	token := rfc6979(t)
	keys, err := sitekey.Derive(t.Context(), token, 7)
	if err != nil {
		t.Fatal(err)
	}
	if x := hex.EncodeToString(token.peers[0].Bytes()[1:33]); x != "fbb39b5c4a1d5a478a67f1fd65b64b71bafe80456c3da28b9cc4c4deb65acbcb" {
		t.Errorf("point %s", x)
	}
	want, err := ecdh.P256().NewPrivateKey(unhex(t, "a8f2288e8960d12e10b3067182a0dbe2b78f5a746ca675d70ccdc8115ab73de5"))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := keys[0].ECDSA().ECDH(); err != nil || !got.Equal(want.PublicKey()) {
		t.Errorf("another key, %v", err)
	}
}

// The library's hash to the curve is that of RFC 9380 J.1.1.
func TestRFC9380(t *testing.T) {
	const dst = "QUUX-V01-CS02-with-P256_XMD:SHA-256_SSWU_RO_"
	for msg, x := range map[string]string{
		"":    "2c15230b26dbc6fc9a37051158c95b79656e17a1a920b11394ca91c44247d3e4",
		"abc": "0bb8b87485551aa43ed54f009230450b492fead5f1cc91658775dac4a3388a0f",
	} {
		b, err := group.P256.HashToElement([]byte(msg), []byte(dst)).MarshalBinary()
		if err != nil || hex.EncodeToString(b[1:33]) != x {
			t.Errorf("%q: %x, %v", msg, b, err)
		}
	}
}

func TestKeysAreTheTokensAndTheIndex(t *testing.T) {
	token := rfc6979(t)
	other, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	first := derive(t, token, 0, 1, 1<<40)
	again := derive(t, token, 1<<40, 1, 0)
	foreign := derive(t, &soft{key: other}, 0, 1, 1<<40)
	for i := range first {
		if !first[i].Equal(again[2-i]) {
			t.Errorf("key %d differs the second time", i)
		}
		for j := range first {
			if i != j && first[i].Equal(first[j]) || first[i].Equal(foreign[j]) {
				t.Errorf("keys %d and %d are the same", i, j)
			}
		}
	}
}

func derive(t *testing.T, a sitekey.Agreement, indices ...uint64) (public []*ecdsa.PublicKey) {
	t.Helper()
	keys, err := sitekey.Derive(t.Context(), a, indices...)
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range keys {
		public = append(public, k.ECDSA())
		k.Erase()
	}
	return public
}

func TestSignsUntilErased(t *testing.T) {
	keys, err := sitekey.Derive(t.Context(), rfc6979(t), 3)
	if err != nil {
		t.Fatal(err)
	}
	k, digest := keys[0], sha256.Sum256([]byte("text"))
	one, err := k.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil || !ecdsa.VerifyASN1(k.ECDSA(), digest[:], one) {
		t.Fatalf("signature: %v", err)
	}
	two, err := k.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil || bytes.Equal(one, two) {
		t.Errorf("the same signature twice: %v", err)
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x"} {
		if s := fmt.Sprintf(verb, k); s != "site key" && s != hex.EncodeToString([]byte("site key")) {
			t.Errorf("%s prints %q", verb, s)
		}
	}
	k.Erase()
	k.Erase()
	if _, err := k.Sign(rand.Reader, digest[:], crypto.SHA256); !errors.Is(err, sitekey.ErrErased) {
		t.Errorf("after erasing: %v", err)
	}
}

// What the token gave is overwritten, whatever comes of it.
func TestSharedSecretsAreErased(t *testing.T) {
	token := rfc6979(t)
	var kept [][]byte
	token.answer = func(z [][]byte) [][]byte { kept = append(kept, z...); return z }
	derive(t, token, 1, 2)
	if _, err := sitekey.MapKey(t.Context(), token); err != nil {
		t.Fatal(err)
	}
	token.answer = func(z [][]byte) [][]byte { kept = append(kept, z...); return z[:1] }
	if _, err := sitekey.Derive(t.Context(), token, 1, 2); !errors.Is(err, sitekey.ErrAgreement) {
		t.Errorf("an answer too few: %v", err)
	}
	if !bytes.Equal(kept[0], make([]byte, 32)) || len(kept) != 5 {
		t.Errorf("left behind: %x", kept)
	}
	for _, z := range kept[:4] {
		if !bytes.Equal(z, make([]byte, 32)) {
			t.Errorf("left behind: %x", z)
		}
	}
	token.answer = func(z [][]byte) [][]byte { return [][]byte{z[0][:31]} }
	if _, err := sitekey.MapKey(t.Context(), token); !errors.Is(err, sitekey.ErrAgreement) {
		t.Errorf("a short answer: %v", err)
	}
}

// The map's key is no site's, and the token's name tells nothing of either.
func TestMapKey(t *testing.T) {
	token := rfc6979(t)
	key, err := sitekey.MapKey(t.Context(), token)
	if err != nil || len(key) != 32 {
		t.Fatalf("%x, %v", key, err)
	}
	again, _ := sitekey.MapKey(t.Context(), rfc6979(t))
	if !bytes.Equal(key, again) {
		t.Error("another key the second time")
	}
	if p, err := ecdh.P256().NewPrivateKey(key); err == nil {
		for _, index := range []uint64{0, 1} {
			if k, _ := derive(t, token, index)[0].ECDH(); k.Equal(p.PublicKey()) {
				t.Errorf("the map's key is that of index %d", index)
			}
		}
	}
	if id := sitekey.TokenID(token.Public()); bytes.Contains(token.Public().Bytes(), id[:4]) || id == [16]byte{} {
		t.Errorf("token id %x", id)
	}
}
