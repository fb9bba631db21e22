package station

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"time"

	"enrollkiosk/hsm"
	"enrollkiosk/hsm/tpm"
	"enrollkiosk/kiosk"
	"enrollkiosk/registry/api"
	"enrollkiosk/sync/queue"
)

// Files in the state directory.
const (
	certificatesFile = "certificates.json"
	queueDir         = "queue"
)

// ErrNotProvisioned means that this kiosk has no certificates yet.
var ErrNotProvisioned = errors.New("this kiosk has no certificates: run `kiosk init`, have the registry sign the request, then `kiosk init --certificates FILE`")

// ErrCertificates means that certificates do not fit this kiosk's keys.
var ErrCertificates = errors.New("the certificates are not for this kiosk's keys")

// tpmTimeout bounds a signature for TLS or a certificate request.
const tpmTimeout = 30 * time.Second

// ErrTPMPermission means that the TPM is there and this user may not use it.
var ErrTPMPermission = errors.New("this user may not use the TPM: add it to the group tss, then log in again")

func openTPM(ctx context.Context, c Config) (*tpm.TPM, error) {
	t, err := tpm.Open(ctx, tpm.Options{Path: c.TPM.Path, Dir: c.in("tpm")})
	var path *fs.PathError // of a key file, not of the device
	if errors.Is(err, fs.ErrPermission) && !errors.As(err, &path) {
		return nil, fmt.Errorf("open tpm %s: %w", c.TPM.Path, ErrTPMPermission)
	}
	return t, err
}

// Init makes the kiosk's keys and counter in the TPM and its queue on disk, and
// returns the request that the registry signs. It may be run again.
func Init(ctx context.Context, c Config) (api.KioskRequest, error) {
	var r api.KioskRequest
	if err := c.own(); err != nil {
		return r, err
	}
	if err := os.MkdirAll(c.Kiosk.State, 0o700); err != nil {
		return r, fmt.Errorf("state directory: %w", err)
	}
	if err := os.Chmod(c.Kiosk.State, 0o700); err != nil {
		return r, fmt.Errorf("state directory: %w", err)
	}
	t, err := openTPM(ctx, c)
	if err != nil {
		return r, err
	}
	defer t.Close()
	binding := api.KioskBinding(c.Kiosk.ID)
	if err := t.Init(ctx, binding); err != nil {
		return r, err
	}
	q, _, err := queue.Open(ctx, c.in(queueDir), queue.Options{})
	if err != nil {
		return r, fmt.Errorf("open queue: %w", err)
	}
	defer q.Close()
	if err := kiosk.Begin(ctx, t, q); err != nil {
		return r, err
	}
	return request(ctx, c.Kiosk.ID, t, binding)
}

func request(ctx context.Context, id string, t *tpm.TPM, binding [32]byte) (r api.KioskRequest, err error) {
	r = api.KioskRequest{Version: 1, KioskID: id}
	ak, err := t.AttestationKey()
	if err != nil {
		return r, err
	}
	r.AttestationKey, r.StorageKeyName = ak.Public, ak.ParentName
	for _, k := range []struct {
		name     tpm.KeyName
		key      hsm.Key
		csr      *[]byte
		evidence *api.TPMEvidence
	}{
		{tpm.Record, t.RecordKey(), &r.RecordCSR, &r.RecordEvidence},
		{tpm.TLS, t.TLSKey(), &r.TLSCSR, &r.TLSEvidence},
	} {
		e, err := t.Certify(ctx, k.name, binding[:])
		if err != nil {
			return r, err
		}
		*k.evidence = api.TPMEvidence(e)
		if *k.csr, err = x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
			Subject: pkix.Name{CommonName: id}, SignatureAlgorithm: x509.ECDSAWithSHA256}, hsm.Signer(k.key, tpmTimeout)); err != nil {
			return r, fmt.Errorf("certificate request: %w", err)
		}
	}
	certificates, err := t.EKCertificates(ctx)
	if err != nil {
		return r, err
	}
	for _, c := range certificates {
		r.EKCertificates = append(r.EKCertificates, c.DER)
	}
	r.CounterAtInit, err = t.Counter(ctx)
	return r, err
}

// Install keeps the certificates that the registry made, after checking that
// they are for this kiosk's keys.
func Install(ctx context.Context, c Config, certs api.KioskCertificates) error {
	if err := c.own(); err != nil {
		return err
	}
	t, err := openTPM(ctx, c)
	if err != nil {
		return err
	}
	defer t.Close()
	if err := t.Ready(); err != nil {
		return err
	}
	if certs.KioskID != c.Kiosk.ID {
		return fmt.Errorf("%w: they are for %s", ErrCertificates, certs.KioskID)
	}
	if err := fits(certs, t); err != nil {
		return err
	}
	v, err := validityOf(certs)
	if err != nil {
		return err
	}
	if err := v.check(time.Now()); err != nil {
		return err
	}
	b, err := json.Marshal(certs)
	if err != nil {
		return err
	}
	return replaceFile(c.in(certificatesFile), b)
}

func fits(certs api.KioskCertificates, t *tpm.TPM) error {
	for _, k := range []struct {
		chain [][]byte
		key   hsm.Key
	}{{certs.Record, t.RecordKey()}, {certs.TLS, t.TLSKey()}} {
		if len(k.chain) == 0 {
			return fmt.Errorf("%w: empty chain", ErrCertificates)
		}
		leaf, err := x509.ParseCertificate(k.chain[0])
		if err != nil {
			return fmt.Errorf("%w: %w", ErrCertificates, err)
		}
		if leaf.Subject.CommonName != certs.KioskID {
			return fmt.Errorf("%w: a certificate is for %q", ErrCertificates, leaf.Subject.CommonName)
		}
		public, ok := k.key.Public().(interface{ Equal(crypto.PublicKey) bool })
		if !ok || !public.Equal(leaf.PublicKey) {
			return ErrCertificates
		}
	}
	return nil
}

// certificates reads what Install kept.
func (c Config) certificates() (certs api.KioskCertificates, err error) {
	b, err := os.ReadFile(c.in(certificatesFile))
	if errors.Is(err, os.ErrNotExist) {
		return certs, ErrNotProvisioned
	}
	if err != nil {
		return certs, err
	}
	if err := json.Unmarshal(b, &certs); err != nil {
		return certs, fmt.Errorf("%w: %w", ErrCertificates, err)
	}
	return certs, nil
}

// validity is the time for which every certificate is valid.
type validity struct{ from, until time.Time }

func validityOf(certs api.KioskCertificates) (v validity, err error) {
	for _, der := range slices.Concat(certs.Record, certs.TLS) {
		x, err := x509.ParseCertificate(der)
		if err != nil {
			return v, fmt.Errorf("%w: %w", ErrCertificates, err)
		}
		if x.NotBefore.After(v.from) {
			v.from = x.NotBefore
		}
		if v.until.IsZero() || x.NotAfter.Before(v.until) {
			v.until = x.NotAfter
		}
	}
	return v, nil
}

// check says whether the certificates are valid at t. Errors wrap
// kiosk.ErrCertificate.
func (v validity) check(t time.Time) error {
	if t.Before(v.from) || t.After(v.until) {
		return fmt.Errorf("%w: it is valid from %s until %s; run kiosk init, have the registry sign the request, then kiosk init --certificates FILE",
			kiosk.ErrCertificate, v.from.Format(time.RFC3339), v.until.Format(time.RFC3339))
	}
	return nil
}
