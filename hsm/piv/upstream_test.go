package piv_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"fmt"
	"strings"
	"testing"
	"time"

	upstream "github.com/go-piv/piv-go/v2/piv"

	"enrollkiosk/hsm"
	"enrollkiosk/hsm/piv"
	"enrollkiosk/simulators/pcscd"
	"enrollkiosk/simulators/pivtoken"
)

// Each test here shows a defect that piv-go has, so that a release without it is
// noticed and the work-around can go, and then that this package survives it.

// unmended fails when piv-go has mended a defect.
func unmended(t *testing.T, still bool, workaround string) {
	t.Helper()
	if !still {
		t.Errorf("piv-go has mended this: %s can go", workaround)
	}
}

// Open of a card without PIV keeps its connection: the card stays locked until
// the process ends, or here until its reader is gone.
func TestUpstreamLeaksTheCardItCannotOpen(t *testing.T) {
	notPIV := altered{pivtoken.New(pivtoken.Options{}), func(context.Context, []byte) []byte { return []byte{0x6A, 0x82} }}
	r := bench(t)
	r.Insert(notPIV)
	if _, err := upstream.Open(r.Name()); err == nil {
		t.Fatal("opened")
	}
	_, err := upstream.Open(r.Name())
	unmended(t, err != nil && strings.Contains(err.Error(), "connecting to smart card"), "the look before piv.Open")

	r = bench(t)
	r.Insert(notPIV)
	for range 3 {
		_, err := piv.Open(within(t, 5*time.Second), r.Name())
		wants(t, "open", err, hsm.ErrNotPIV)
		exclusive(t, r)
	}
}

// A bare 9000 for the metadata of 9B is read beyond its end.
func TestUpstreamPanicsOnEmptyMetadata(t *testing.T) {
	r := bench(t)
	r.Insert(altered{pivtoken.New(pivtoken.Options{Root: authority}), silentOfAdmin})
	panicked := func() (p any) {
		y, err := upstream.Open(r.Name())
		if err != nil {
			t.Fatal(err)
		}
		defer y.Close()
		defer func() { p = recover() }()
		y.SetManagementKey(upstream.DefaultManagementKey, make([]byte, 24))
		return nil
	}()
	unmended(t, panicked != nil && strings.Contains(fmt.Sprint(panicked), "out of range"), "the session of our own for the administrator")

	ctx := within(t, 10*time.Second)
	token := open(t, ctx, r.Name())
	_, err := token.GenerateKeys(ctx, text(citizenPIN), piv.KeySpec{}, nil)
	wants(t, "generate", err, hsm.ErrUnsupported)
	if err := token.SetPIN(ctx, text(citizenPIN)); err != nil {
		t.Errorf("the connection is not good any more: %v", err)
	}
}

// A key whose origin has another number cannot be asked about, nor used with a
// PIN unless the policy is given.
func TestUpstreamFailsOnOtherOrigins(t *testing.T) {
	r, card := insert(t, pivtoken.Options{Faults: pivtoken.OtherOrigins})
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	install(t, card, private, private)
	ctx := within(t, 10*time.Second)
	_, _, made := born(t, ctx, pivtoken.Options{Faults: pivtoken.OtherOrigins}) // generated: 0
	made.Close()

	generated, _ := insert(t, pivtoken.Options{Faults: pivtoken.OtherOrigins})
	failed := func(r *pcscd.Reader) bool {
		y, err := upstream.Open(r.Name())
		if err != nil {
			t.Fatal(err)
		}
		defer y.Close()
		public, err := y.GenerateKey(upstream.DefaultManagementKey, upstream.SlotAuthentication,
			upstream.Key{Algorithm: upstream.AlgorithmEC256, PINPolicy: upstream.PINPolicyOnce, TouchPolicy: upstream.TouchPolicyNever})
		if err != nil {
			t.Fatal(err)
		}
		_, asked := y.KeyInfo(upstream.SlotAuthentication)
		_, used := y.PrivateKey(upstream.SlotAuthentication, public, upstream.KeyAuth{PIN: pivtoken.DefaultPIN})
		return asked != nil && strings.Contains(asked.Error(), "unknown origin") && used != nil
	}(generated)
	unmended(t, failed, "the metadata parser of our own")

	token := open(t, ctx, r.Name())
	k, err := token.Key(ctx, piv.Signature, text(officerPIN))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := k.Sign(ctx, make([]byte, 32)); err != nil {
		t.Error(err)
	}
}
