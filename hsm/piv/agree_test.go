package piv_test

import (
	"bytes"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/rand"
	"errors"
	"testing"
	"time"

	"enrollkiosk/hsm"
	"enrollkiosk/hsm/piv"
)

// One agreement for each peer, in their order; a wrong PIN costs one try, not one for
// each.
func TestAgreeAll(t *testing.T) {
	r, _ := finished(t)
	ctx := within(t, time.Minute)
	token, err := piv.Open(ctx, r.Name())
	if err != nil {
		t.Fatal(err)
	}
	defer token.Close()
	k, err := token.Key(ctx, piv.KeyManagement, text(citizenPIN))
	if err != nil {
		t.Fatal(err)
	}
	public, err := k.Public().(*ecdsa.PublicKey).ECDH()
	if err != nil {
		t.Fatal(err)
	}
	var mine []*ecdh.PrivateKey
	var peers []*ecdh.PublicKey
	for range 3 {
		p, err := ecdh.P256().GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		mine, peers = append(mine, p), append(peers, p.PublicKey())
	}
	var wrong *hsm.WrongPIN
	if z, err := token.AgreeAll(ctx, piv.KeyManagement, text("000000"), peers); !errors.As(err, &wrong) || wrong.Left != 2 || z != nil {
		t.Errorf("wrong PIN: %x, %v", z, err)
	}
	shared, err := token.AgreeAll(ctx, piv.KeyManagement, text(citizenPIN), peers)
	if err != nil || len(shared) != 3 {
		t.Fatalf("%d secrets, %v", len(shared), err)
	}
	for i, m := range mine {
		if want, err := m.ECDH(public); err != nil || !bytes.Equal(want, shared[i]) {
			t.Errorf("secret %d: %v", i, err)
		}
	}
	other, err := ecdh.P384().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if z, err := token.AgreeAll(ctx, piv.KeyManagement, text(citizenPIN), append(peers, other.PublicKey())); !errors.Is(err, hsm.ErrUnsupported) || z != nil {
		t.Errorf("a peer on another curve: %x, %v", z, err)
	}
}
