package expect_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"math/big"
	"testing"
	"time"

	"enrollkiosk/hsm"
	"enrollkiosk/registry/expect"
	"enrollkiosk/registry/policy"
	"enrollkiosk/registry/record"
)

// What a policy says comes out as what a token must say, and nothing is left out.
func TestToken(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	p := policy.Policy{PIVRoots: []policy.Root{{Certificate: der, Class: record.Test}}, PIVIntermediates: [][]byte{der},
		MinimumPIVFirmware: policy.Firmware{Major: 5, Minor: 4, Patch: 3}, RevokedTokens: []uint64{7},
		Token: policy.Token{PIN: "always", Touch: "cached", KeyAgreementTouch: "never"}}
	roots, err := expect.Roots(p.PIVRoots)
	if err != nil || len(roots) != 1 || roots[0].Class != string(record.Test) || !roots[0].Certificate.Equal(parsed(t, der)) {
		t.Errorf("%+v, %v", roots, err)
	}
	between, err := expect.Intermediates(p)
	if err != nil || len(between) != 1 {
		t.Errorf("%d intermediates, %v", len(between), err)
	}
	at := time.Now()
	for slot, want := range map[byte]struct {
		pin   hsm.PINPolicy
		touch hsm.TouchPolicy
	}{expect.SlotAuthentication: {hsm.PINAlways, hsm.TouchCached}, 0x82: {hsm.PINAlways, hsm.TouchCached}, expect.SlotKeyManagement: {hsm.PINOnce, hsm.TouchNever}} {
		got := expect.Token(p, between, slot, key.Public(), at)
		if got.Slot != slot || got.PIN != want.pin || got.Touch != want.touch || got.Minimum != [3]byte{5, 4, 3} || len(got.Revoked) != 1 ||
			len(got.Intermediates) != 1 || !got.At.Equal(at) || !key.PublicKey.Equal(got.Key) || got.AnySerial || got.Serial != 0 {
			t.Errorf("slot %02X: %+v", slot, got)
		}
	}
	bad := policy.Root{Certificate: der[:len(der)-1]}
	if _, err := expect.Roots([]policy.Root{bad}); err == nil {
		t.Error("half a root is read")
	}
	if _, err := expect.Intermediates(policy.Policy{PIVIntermediates: [][]byte{bad.Certificate}}); err == nil {
		t.Error("half an intermediate is read")
	}
}

func parsed(t *testing.T, der []byte) *x509.Certificate {
	t.Helper()
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}
