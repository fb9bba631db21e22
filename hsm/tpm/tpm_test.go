package tpm_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"enrollkiosk/hsm"
	"enrollkiosk/hsm/tpm"
	sim "enrollkiosk/simulators/tpm"
)

var binding = sha256.Sum256([]byte("enrollkiosk/init/v1" + "kiosk-7"))

func start(t testing.TB) *sim.Instance {
	t.Helper()
	i, err := sim.Start(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := i.Stop(); err != nil {
			t.Error(err)
		}
	})
	return i
}

func open(t testing.TB, i *sim.Instance, dir string) *tpm.TPM {
	t.Helper()
	d, err := tpm.Open(t.Context(), tpm.Options{Path: i.Path(), Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	return d
}

func initialized(t testing.TB) (*sim.Instance, string, *tpm.TPM) {
	t.Helper()
	i, dir := start(t), filepath.Join(t.TempDir(), "keys")
	d := open(t, i, dir)
	if err := d.Init(t.Context(), binding); err != nil {
		t.Fatal(err)
	}
	return i, dir, d
}

func keys(t testing.TB, d *tpm.TPM) (record, tls hsm.Key) {
	t.Helper()
	if err := d.Ready(); err != nil {
		t.Fatal(err)
	}
	return d.RecordKey(), d.TLSKey()
}

func TestKeysSign(t *testing.T) {
	_, _, d := initialized(t)
	record, tls := keys(t, d)
	if record.Public().(*ecdsa.PublicKey).Equal(tls.Public()) {
		t.Error("record key and TLS key are the same")
	}
	digest := sha256.Sum256([]byte("x"))
	for _, k := range []hsm.Key{record, tls} {
		sig, err := k.Sign(t.Context(), digest[:])
		if err != nil {
			t.Fatal(err)
		}
		if !ecdsa.VerifyASN1(k.Public().(*ecdsa.PublicKey), digest[:], sig) {
			t.Error("signature does not verify")
		}
		if _, err := k.Sign(t.Context(), digest[:31]); !errors.Is(err, hsm.ErrUnsupported) {
			t.Errorf("short digest: %v", err)
		}
	}
	ak, err := d.AttestationKey()
	if err != nil {
		t.Fatal(err)
	}
	if len(ak.Name) != 34 || len(ak.ParentName) != 34 || ak.Key.Equal(record.Public()) {
		t.Errorf("attestation key %+v", ak)
	}
}

func TestInitAgainKeepsEverything(t *testing.T) {
	i, dir, d := initialized(t)
	record, tls := keys(t, d)
	count, err := d.Increment(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Init(t.Context(), binding); err != nil {
		t.Fatal(err)
	}
	_ = d.Close()
	if err := i.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	d = open(t, i, dir)
	if err := d.Init(t.Context(), binding); err != nil {
		t.Fatal(err)
	}
	record2, tls2 := keys(t, d)
	if !record.Public().(*ecdsa.PublicKey).Equal(record2.Public()) || !tls.Public().(*ecdsa.PublicKey).Equal(tls2.Public()) {
		t.Error("keys changed")
	}
	if got, err := d.Counter(t.Context()); err != nil || got != count {
		t.Errorf("counter %d, %v; want %d", got, err, count)
	}
	if err := d.Init(t.Context(), sha256.Sum256([]byte("another kiosk"))); !errors.Is(err, tpm.ErrOtherBinding) {
		t.Errorf("init for another kiosk: %v", err)
	}
}

// TestInitAfterPowerCut removes what a cut at each point would not have left.
func TestInitAfterPowerCut(t *testing.T) {
	for _, left := range [][]string{{}, {"ak"}, {"ak", "record"}} {
		i, cut := start(t), filepath.Join(t.TempDir(), "keys")
		d := open(t, i, cut)
		if err := d.Init(t.Context(), binding); err != nil {
			t.Fatal(err)
		}
		_ = d.Close()
		entries, err := os.ReadDir(cut)
		if err != nil || len(entries) != 3 {
			t.Fatal(entries, err)
		}
		for _, e := range entries {
			keep := false
			for _, name := range left {
				keep = keep || e.Name() == name+".tss2.pem"
			}
			if !keep {
				_ = os.Remove(filepath.Join(cut, e.Name()))
			}
		}
		d = open(t, i, cut)
		if err := d.Ready(); !errors.Is(err, tpm.ErrNotInitialized) || d.TLSKey().Public() != nil {
			t.Errorf("key that is not there: %v", err)
		}
		if err := d.Init(t.Context(), binding); err != nil {
			t.Errorf("with %v left: %v", left, err)
		}
		keys(t, d)
	}
}

func TestCounterOnlyGoesUp(t *testing.T) {
	i, dir, d := initialized(t)
	last, err := d.Counter(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		got, err := d.Increment(t.Context())
		if err != nil || got != last+1 {
			t.Fatalf("counter %d, %v after %d", got, err, last)
		}
		last = got
	}
	i.Kill() // no shutdown: the power is gone
	if err := i.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	d = open(t, i, dir)
	if got, err := d.Counter(t.Context()); err != nil || got != last {
		t.Errorf("after a power cut %d, %v; want %d", got, err, last)
	}
}

func TestManyPowerCutsNeverLockOut(t *testing.T) {
	i, dir, d := initialized(t)
	digest := sha256.Sum256([]byte("x"))
	name := citizen(t, d).Name()
	for range 6 { // each counts as a wrong PIN, as a citizen's key is protected; as made, a TPM takes three
		c, err := d.Citizen(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := signs(t, c, rightPIN); err != nil {
			t.Fatal(err)
		}
		record, _ := keys(t, d)
		if _, err := record.Sign(t.Context(), digest[:]); err != nil {
			t.Fatal(err)
		}
		i.Kill()
		if err := i.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
		d = open(t, i, dir)
		if info, err := d.Info(t.Context()); err != nil || info.LockedOut {
			t.Fatalf("%+v, %v", info, err)
		}
	}
}

func TestEKCertificates(t *testing.T) {
	i, _, d := initialized(t)
	got, err := d.EKCertificates(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 2 || got[0].Index != 0x01c00002 || got[1].Index != 0x01c00016 {
		t.Fatalf("%d certificates", len(got))
	}
	issuer, _ := x509.ParseCertificate(i.Roots()[0])
	for k, algorithm := range []x509.PublicKeyAlgorithm{x509.RSA, x509.ECDSA} {
		c, err := x509.ParseCertificate(got[k].DER)
		if err != nil {
			t.Fatal(err)
		}
		if c.PublicKeyAlgorithm != algorithm {
			t.Errorf("%#x is %v", got[k].Index, c.PublicKeyAlgorithm)
		}
		if err := c.CheckSignatureFrom(issuer); err != nil {
			t.Error(err)
		}
	}
}

func TestBeforeInit(t *testing.T) {
	d := open(t, start(t), t.TempDir())
	_, err1 := d.RecordKey().Sign(t.Context(), make([]byte, 32))
	_, err2 := d.AttestationKey()
	_, err3 := d.Counter(t.Context())
	_, err4 := d.Increment(t.Context())
	_, err5 := d.Certify(t.Context(), tpm.Record, []byte("n"))
	for k, err := range []error{err1, err2, err3, err4, err5, d.Ready()} {
		if !errors.Is(err, tpm.ErrNotInitialized) {
			t.Errorf("call %d: %v", k+1, err)
		}
	}
}

func TestNoDevice(t *testing.T) {
	i := start(t)
	i.Kill() // leaves the socket's name
	for _, path := range []string{"/dev/tpm-that-is-not-there", "unix:/nowhere/s", "tpm", i.Path()} {
		if _, err := tpm.Open(t.Context(), tpm.Options{Path: path, Dir: t.TempDir()}); !errors.Is(err, hsm.ErrNoDevice) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func TestGoneAndBack(t *testing.T) {
	i, _, d := initialized(t)
	record, _ := keys(t, d)
	digest := sha256.Sum256([]byte("x"))
	i.Kill()
	for range 2 {
		if _, err := record.Sign(t.Context(), digest[:]); !errors.Is(err, hsm.ErrUnavailable) {
			t.Fatalf("sign without TPM: %v", err)
		}
	}
	if err := i.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := record.Sign(t.Context(), digest[:]); err != nil {
		t.Errorf("sign with the TPM back: %v", err)
	}
}

func TestKeyFilesOfAnotherTPM(t *testing.T) {
	_, dir, _ := initialized(t)
	other := t.TempDir()
	if err := sim.Manufacture(t.Context(), other); err != nil {
		t.Fatal(err)
	}
	i, err := sim.Start(t.Context(), other)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = i.Stop() }()
	if _, err := tpm.Open(t.Context(), tpm.Options{Path: i.Path(), Dir: dir}); !errors.Is(err, tpm.ErrOtherTPM) {
		t.Errorf("TPM without storage root key: %v", err)
	}
	d := open(t, i, t.TempDir())
	if err := d.Init(t.Context(), binding); err != nil {
		t.Fatal(err)
	}
	_ = d.Close()
	if _, err := tpm.Open(t.Context(), tpm.Options{Path: i.Path(), Dir: dir}); !errors.Is(err, tpm.ErrOtherTPM) {
		t.Errorf("TPM with another storage root key: %v", err)
	}
}

func TestConcurrentUse(t *testing.T) {
	_, _, d := initialized(t)
	record, tls := keys(t, d)
	first, err := d.Counter(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	const each = 5
	var wg sync.WaitGroup
	var mu sync.Mutex
	seen := map[uint64]bool{}
	for _, k := range []hsm.Key{record, tls, record, tls} {
		wg.Go(func() {
			digest := sha256.Sum256([]byte("x"))
			for range each {
				if _, err := k.Sign(t.Context(), digest[:]); err != nil {
					t.Error(err)
				}
				n, err := d.Increment(t.Context())
				mu.Lock()
				if err != nil || seen[n] {
					t.Errorf("number %d twice, %v", n, err)
				}
				seen[n] = true
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if last, err := d.Counter(t.Context()); err != nil || last != first+4*each {
		t.Errorf("counter %d, %v; want %d", last, err, first+4*each)
	}
}

func TestCancelled(t *testing.T) {
	_, _, d := initialized(t)
	record, _ := keys(t, d)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	digest := sha256.Sum256([]byte("x"))
	if _, err := record.Sign(ctx, digest[:]); !errors.Is(err, context.Canceled) || errors.Is(err, hsm.ErrUnavailable) {
		t.Errorf("cancelled: %v", err)
	}
	if _, err := record.Sign(t.Context(), digest[:]); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

func TestSecondProgramOnTheSocket(t *testing.T) {
	i, _, _ := initialized(t)
	if _, err := tpm.Open(t.Context(), tpm.Options{Path: i.Path(), Dir: t.TempDir(), Timeout: 200 * time.Millisecond}); !errors.Is(err, hsm.ErrBusy) {
		t.Errorf("second client: %v", err)
	}
}
