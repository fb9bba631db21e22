package piv_test

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"fmt"
	"os"
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
		started, _, err := pcscd.Private()
		if err != nil {
			panic(err)
		}
		daemon = started
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

// enroll is the whole ceremony, which ends when the token is taken away.
func enroll(ctx context.Context, reader string) (piv.Keys, error) {
	c := ceremony{reader: reader}
	err := c.run(ctx)
	return c.keys, err
}

func expect(slot piv.Slot, key crypto.PublicKey) attest.PIVExpect {
	want := attest.PIVExpect{Slot: byte(slot), Serial: 10000001, Key: key, Minimum: [3]byte{5, 4, 0},
		PIN: hsm.PINOnce, Touch: hsm.TouchCached, At: time.Now()}
	if slot == piv.Authentication {
		want.Touch = hsm.TouchAlways
	}
	return want
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
	if err != nil || info.FactoryNew || !info.Ready || !info.CanAttest || info.PINTries != 3 {
		t.Errorf("afterwards: %+v, %v", info, err)
	}
	if touches.Load() != 2 {
		t.Errorf("%d touches for one agreement and one signature", touches.Load())
	}
}
