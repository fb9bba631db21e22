package piv_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"enrollkiosk/hsm"
	"enrollkiosk/hsm/attest"
	"enrollkiosk/hsm/piv"
	"enrollkiosk/kiosk/secret"
	"enrollkiosk/simulators/pcscd"
	"enrollkiosk/simulators/pivtoken"
)

var (
	daemon    *pcscd.Server
	authority *pivtoken.Authority
	readers   atomic.Int32
)

// The PC/SC library keeps the socket's path for the life of the process: one
// daemon for all tests, a reader for each.
func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "piv")
		if err != nil {
			panic(err)
		}
		defer os.RemoveAll(dir)
		socket := filepath.Join(dir, "s")
		os.Setenv("PCSCLITE_CSOCK_NAME", socket)
		if daemon, err = pcscd.Listen(socket); err != nil {
			panic(err)
		}
		defer daemon.Close()
		if authority, err = pivtoken.NewAuthority([]byte("piv test")); err != nil {
			panic(err)
		}
		return m.Run()
	}())
}

// bench is a reader of a test's own.
func bench(t testing.TB) *pcscd.Reader {
	t.Helper()
	r, err := daemon.AddReader(fmt.Sprintf("Bench %d", readers.Add(1)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Remove)
	return r
}

// insert puts a new token into a reader of its own.
func insert(t testing.TB, o pivtoken.Options) (*pcscd.Reader, *pivtoken.Token) {
	t.Helper()
	if o.Root == nil {
		o.Root = authority
	}
	r, token := bench(t), pivtoken.New(o)
	r.Insert(token)
	return r, token
}

func within(t testing.TB, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

func text(s string) secret.Text { return secret.FromString(s) }

const citizenPIN = "271828"

var admin = func() piv.Admin {
	key := make([]byte, 24)
	rand.Read(key)
	return piv.Admin{PUK: text("31415926"), ManagementKey: secret.New(key)}
}()

// enroll is the whole ceremony, opening the token for each part as the flow
// does.
func enroll(ctx context.Context, reader string) (piv.Keys, error) {
	var keys piv.Keys
	for _, part := range []func(*piv.Token) error{
		func(t *piv.Token) error {
			if i := t.Info(); !i.CanAttest {
				return hsm.ErrCannotAttest
			} else if !i.FactoryNew {
				return hsm.ErrNotFactoryNew
			}
			return nil
		},
		func(t *piv.Token) error {
			if err := t.SetPIN(ctx, text(citizenPIN)); err != nil {
				return err
			}
			var err error
			keys, err = t.GenerateKeys(ctx, piv.KeySpec{TouchAlways: true}, nil)
			return err
		},
		func(t *piv.Token) error { return t.Lock(ctx, text(citizenPIN), admin) },
		func(t *piv.Token) error {
			k, err := t.Key(ctx, piv.Authentication, text(citizenPIN))
			if err != nil {
				return err
			}
			digest := sha256.Sum256([]byte("record"))
			signature, err := k.Sign(ctx, digest[:])
			if err != nil {
				return err
			}
			if !ecdsa.VerifyASN1(keys.Authentication.Public.(*ecdsa.PublicKey), digest[:], signature) {
				return fmt.Errorf("signature of another key")
			}
			return nil
		},
	} {
		t, err := piv.Open(ctx, reader)
		if err != nil {
			return keys, err
		}
		err = part(t)
		if closeErr := t.Close(); err == nil {
			err = closeErr
		}
		if err != nil {
			return keys, err
		}
	}
	return keys, nil
}

func expect(slot piv.Slot, key crypto.PublicKey) attest.PIVExpect {
	touch := hsm.TouchCached
	if slot == piv.Authentication {
		touch = hsm.TouchAlways
	}
	return attest.PIVExpect{Slot: byte(slot), Serial: 10000001, Key: key, Minimum: [3]byte{5, 4, 0},
		PIN: hsm.PINOnce, Touch: touch, At: time.Now()}
}

func roots(t testing.TB) []attest.Root {
	t.Helper()
	c, err := x509.ParseCertificate(authority.Root())
	if err != nil {
		t.Fatal(err)
	}
	return []attest.Root{{Certificate: c, Class: attest.Test}}
}

func TestCeremony(t *testing.T) {
	var touches atomic.Int32
	r, _ := insert(t, pivtoken.Options{Touch: func(context.Context) bool { touches.Add(1); return true }})
	var commands, bytes atomic.Int32
	r.Trace(func(e pcscd.TraceEvent) {
		if e.Answered {
			commands.Add(1)
			bytes.Add(int32(len(e.Command) + len(e.Response)))
		}
	})
	start := time.Now()
	keys, err := enroll(within(t, 20*time.Second), r.Name())
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d commands, %d bytes, %v, %d touches", commands.Load(), bytes.Load(), time.Since(start), touches.Load())
	for slot, k := range map[piv.Slot]piv.KeyPair{piv.Authentication: keys.Authentication, piv.KeyManagement: keys.KeyManagement} {
		p, err := attest.VerifyPIV(k.Evidence, roots(t), expect(slot, k.Public))
		if err != nil || !p.Valid() || p.Class() != attest.Test || p.Where() != attest.PIV || p.Fresh() {
			t.Errorf("slot %v: %v, %+v", slot, err, p)
		}
	}
	info, err := piv.Probe(within(t, time.Second), r.Name())
	if err != nil || info.FactoryNew || !info.CanAttest || info.PINTries != 3 {
		t.Errorf("afterwards: %+v, %v", info, err)
	}
	if touches.Load() != 1 {
		t.Errorf("%d touches for one signature", touches.Load())
	}
}
