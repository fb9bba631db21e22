package station

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
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
	"enrollkiosk/kiosk/durable"
	"enrollkiosk/registry/api"
	"enrollkiosk/registry/policy"
	"enrollkiosk/sync/client"
	"enrollkiosk/sync/queue"
)

// Files in the state directory.
const (
	certificatesFile = "certificates.json"
	rootFile         = "authority-root" // hash of the authority's root key, pinned by Provision
	queueDir         = "queue"
)

// Errors of provisioning, beside those of tpm and client.
var (
	ErrNotProvisioned = errors.New("this kiosk is not provisioned: have the registry give out a code (registry kiosks code), then run `kiosk provision --code -`")
	ErrCertificates   = errors.New("the certificates are not for this kiosk's keys")
	ErrWaiting        = errors.New("nobody at the registry has approved this kiosk yet: run it again once they have (registry kiosks approve); nothing is lost")
	ErrOtherAuthority = errors.New("this kiosk is pinned to another authority than the code's: compare trust.root, or move the state directory away to begin anew")
)

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

// ProvisionStep is where provisioning stands, for the screen.
type ProvisionStep string

// Steps of Provision, in order.
const (
	StepConnect ProvisionStep = "connect" // to the registry; its key is the code's
	StepKeys    ProvisionStep = "keys"    // are made in the TPM, unless they are there
	StepProve   ProvisionStep = "prove"   // that this is this TPM
	StepWait    ProvisionStep = "wait"    // for a person at the registry
	StepInstall ProvisionStep = "install"
)

// ProvisionOptions are what a person brings to Provision.
type ProvisionOptions struct {
	Code api.Code
	// Wait is how long to wait for approval; 0 is not at all.
	Wait time.Duration
	// Progress is told each step. fingerprint, from StepWait on, is what the
	// person at the registry compares.
	Progress func(step ProvisionStep, fingerprint string)
}

// Provisioned is what came of it.
type Provisioned struct {
	KioskID     string    `json:"kiosk"`
	Fingerprint string    `json:"ek"` // of the endorsement key, api.Fingerprint
	Until       time.Time `json:"until"`
}

// Provision makes this machine a kiosk that the registry has reason to trust, and
// pins the authority that the kiosk trusts from then on. It may be run again at
// any time, also after a power cut at any point: keys that exist stay, and a
// kiosk in good standing gets its certificates again.
//
// Nothing is sent before the registry has shown the TLS key that the code names.
// Nothing is kept of what the registry says before it has approved the kiosk.
func Provision(ctx context.Context, c Config, o ProvisionOptions) (Provisioned, error) {
	var none Provisioned
	if err := c.makeState(); err != nil {
		return none, err
	}
	if r, err := c.retirement(); r.Farewell != "" {
		return none, ErrRetiring
	} else if err != nil && !errors.Is(err, ErrNotProvisioned) {
		return none, err
	}
	o.Progress(StepConnect, "")
	registry, err := client.New(client.Options{URL: c.Registry.URL, Pin: &o.Code.TLS, Policy: func() (policy.Signed, error) { return policy.Signed{}, kiosk.ErrPolicy }})
	if err != nil {
		return none, err
	}
	defer registry.Close()
	signed, err := registry.Policy(ctx)
	if err != nil {
		return none, err
	}
	rules, root, err := policy.ParseShort(signed, o.Code.Root)
	if err != nil {
		return none, err
	}
	if err := rules.CheckTime(time.Now()); err != nil {
		return none, err
	}
	switch pinned, err := c.rootHash(); {
	case err == nil && !slices.Contains(rules.Roots(), pinned):
		return none, ErrOtherAuthority
	case err == nil:
		root = pinned // the code's root follows it, or the other way round: what is pinned stays
	case !errors.Is(err, ErrNotProvisioned):
		return none, err
	}
	o.Progress(StepKeys, "")
	t, err := makeKeys(ctx, c)
	if err != nil {
		return none, err
	}
	defer t.Close()
	certs, fingerprint, err := prove(ctx, c, t, registry, o)
	if err != nil {
		return none, err
	}
	o.Progress(StepInstall, fingerprint)
	if err := install(c, t, root, rules, certs); err != nil {
		return none, err
	}
	v, err := validityOf(certs)
	return Provisioned{c.Kiosk.ID, fingerprint, v.until}, err
}

func (c Config) makeState() error {
	if err := c.own(); err != nil {
		return err
	}
	if err := os.MkdirAll(c.Kiosk.State, 0o700); err != nil {
		return fmt.Errorf("state directory: %w", err)
	}
	if err := os.Chmod(c.Kiosk.State, 0o700); err != nil {
		return fmt.Errorf("state directory: %w", err)
	}
	return nil
}

// makeKeys makes the kiosk's keys and counter in the TPM, and its queue on disk.
// What is there stays.
func makeKeys(ctx context.Context, c Config) (_ *tpm.TPM, err error) {
	t, err := openTPM(ctx, c)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			t.Close()
		}
	}()
	if err := t.Init(ctx, api.KioskBinding(c.Kiosk.ID)); err != nil {
		return nil, err
	}
	q, _, err := queue.Open(ctx, c.in(queueDir), queue.Options{})
	if err != nil {
		return nil, fmt.Errorf("open queue: %w", err)
	}
	defer q.Close()
	return t, kiosk.Begin(ctx, t, q)
}

// pollInterval is how often a waiting kiosk asks.
const pollInterval = 2 * time.Second

// maxAttempts bounds beginning again with a registry that forgets at once.
const maxAttempts = 3

// prove proves to the registry which TPM this is, and waits for a person to
// approve it. A registry that has forgotten the attempt, because it was started
// again, is asked anew.
func prove(ctx context.Context, c Config, t *tpm.TPM, registry *client.Client, o ProvisionOptions) (certs api.KioskCertificates, fingerprint string, err error) {
	begin, keys, err := claim(ctx, c.Kiosk.ID, t)
	if err != nil {
		return certs, "", err
	}
	begin.Secret = o.Code.Secret.Reveal()
	deadline := time.Now().Add(o.Wait)
	for attempt := 1; ; attempt++ {
		o.Progress(StepProve, fingerprint)
		challenge, err := registry.BeginProvisioning(ctx, begin)
		var busy *client.RetryAfter
		if left := time.Until(deadline); errors.As(err, &busy) && left > 0 {
			select {
			case <-ctx.Done():
				return certs, fingerprint, context.Cause(ctx)
			case <-time.After(min(max(busy.After, pollInterval), left)):
			}
			attempt--
			continue
		}
		if err != nil {
			return certs, fingerprint, err
		}
		key := keys[challenge.Endorsement]
		fingerprint = fingerprintOf(key)
		status, err := respond(ctx, t, registry, key, challenge)
		if forgotten(err) && attempt < maxAttempts {
			continue
		}
		if err != nil {
			return certs, fingerprint, err
		}
		if status.Status == api.Waiting {
			o.Progress(StepWait, fingerprint)
			status, err = await(ctx, registry, challenge.Session, deadline)
			if forgotten(err) && time.Now().Before(deadline) {
				attempt = 0
				continue
			}
			if err != nil {
				return certs, fingerprint, err
			}
		}
		return *status.Certificates, fingerprint, nil
	}
}

func forgotten(err error) bool {
	var refused *client.ProvisionRefused
	return errors.As(err, &refused) && refused.Code == api.CodeProvisionSession
}

func fingerprintOf(k tpm.EndorsementKey) string {
	c, err := x509.ParseCertificate(k.Certificate)
	if err != nil {
		return ""
	}
	return api.Fingerprint(c.RawSubjectPublicKeyInfo)
}

// claim is what this kiosk says of its keys.
func claim(ctx context.Context, id string, t *tpm.TPM) (b api.ProvisionBegin, keys []tpm.EndorsementKey, err error) {
	b = api.ProvisionBegin{Version: 1, KioskID: id}
	ak, err := t.AttestationKey()
	if err != nil {
		return b, nil, err
	}
	b.AttestationKey, b.StorageKeyName = ak.Public, ak.ParentName
	if keys, err = t.EndorsementKeys(ctx); err != nil {
		return b, nil, err
	}
	for _, k := range keys {
		b.Endorsements = append(b.Endorsements, api.Endorsement{Certificate: k.Certificate, Public: k.Public})
	}
	for _, k := range []struct {
		key hsm.Key
		csr *[]byte
	}{{t.RecordKey(), &b.RecordCSR}, {t.TLSKey(), &b.TLSCSR}} {
		if *k.csr, err = x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
			Subject: pkix.Name{CommonName: id}, SignatureAlgorithm: x509.ECDSAWithSHA256}, hsm.Signer(k.key, tpmTimeout)); err != nil {
			return b, nil, fmt.Errorf("certificate request: %w", err)
		}
	}
	b.Counter, err = t.Counter(ctx)
	return b, keys, err
}

// respond opens the registry's credential and has the TPM state, for the
// registry's nonce, how the machine was started and which keys were born in it.
func respond(ctx context.Context, t *tpm.TPM, registry *client.Client, key tpm.EndorsementKey, c api.ProvisionChallenge) (api.ProvisionStatus, error) {
	p := api.ProvisionProof{Session: c.Session}
	var err error
	if p.Secret, err = t.Activate(ctx, key, hsm.TPMCredential{Blob: c.Blob, Secret: c.Encrypted}); err != nil {
		return api.ProvisionStatus{}, err
	}
	quote, err := t.Quote(ctx, c.Nonce)
	if err != nil {
		return api.ProvisionStatus{}, err
	}
	p.Quote = api.TPMQuote{Attest: quote.Attest, Signature: quote.Signature}
	for _, v := range quote.PCRs {
		p.Quote.PCRs = append(p.Quote.PCRs, api.PCR(v))
	}
	for name, evidence := range map[tpm.KeyName]*api.TPMEvidence{tpm.Record: &p.RecordEvidence, tpm.TLS: &p.TLSEvidence} {
		e, err := t.Certify(ctx, name, c.Nonce)
		if err != nil {
			return api.ProvisionStatus{}, err
		}
		*evidence = api.TPMEvidence(e)
	}
	return registry.ProveProvisioning(ctx, p)
}

// await asks until a person has decided or the time is over. A line that fails
// meanwhile is no end.
func await(ctx context.Context, registry *client.Client, session api.ID, deadline time.Time) (api.ProvisionStatus, error) {
	for {
		status, err := registry.Provisioned(ctx, session)
		var busy *client.RetryAfter
		lost := forgotten(err)
		if err == nil && status.Status == api.Approved || err != nil && !lost && !errors.Is(err, client.ErrUnreachable) && !errors.As(err, &busy) {
			return status, err
		}
		left := time.Until(deadline)
		if left <= 0 {
			return status, ErrWaiting
		}
		select {
		case <-ctx.Done():
			return status, context.Cause(ctx)
		case <-time.After(min(pollInterval, left)):
		}
		if lost {
			return status, err
		}
	}
}

// install keeps certificates that are for this kiosk's keys, and what the kiosk
// trusts from now on. The certificates come last: with them it is provisioned.
func install(c Config, t *tpm.TPM, root [32]byte, rules policy.Signed, certs api.KioskCertificates) error {
	if _, err := acceptable(certs, c, t, rules, time.Now()); err != nil {
		return err
	}
	if err := durable.Replace(c.in(rootFile), []byte(hex.EncodeToString(root[:])+"\n")); err != nil {
		return fmt.Errorf("pin authority: %w", err)
	}
	p, err := openPolicies(c)
	if err != nil {
		return err
	}
	if err := p.take(rules.Bytes()); err != nil {
		return err
	}
	return keepCertificates(c, certs)
}

// issued says whether an authority over kiosks that the policy names has made all
// these certificates, which are valid now.
func issued(certs api.KioskCertificates, authorities []policy.Root) error {
	roots := x509.NewCertPool()
	for _, r := range authorities {
		c, err := x509.ParseCertificate(r.Certificate)
		if err != nil {
			return fmt.Errorf("policy's kiosk authority: %w", err)
		}
		roots.AddCert(c)
	}
	for _, chain := range [][][]byte{certs.Attestation, certs.Record, certs.TLS} {
		leaf, err := x509.ParseCertificate(chain[0]) // fits has looked at it
		if err == nil {
			_, err = leaf.Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
		}
		if err != nil {
			return fmt.Errorf("%w: %w", ErrCertificates, err)
		}
	}
	return nil
}

func fits(certs api.KioskCertificates, t *tpm.TPM) error {
	for _, k := range []struct {
		chain [][]byte
		key   interface{ Public() crypto.PublicKey }
	}{{certs.Attestation, attestationKey{t}}, {certs.Record, t.RecordKey()}, {certs.TLS, t.TLSKey()}} {
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

// attestationKey is the AK as far as its certificate is concerned.
type attestationKey struct{ tpm *tpm.TPM }

func (k attestationKey) Public() crypto.PublicKey {
	ak, err := k.tpm.AttestationKey()
	if err != nil {
		return nil
	}
	return ak.Key
}

// certificates reads what install kept.
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
	for _, der := range slices.Concat(certs.Attestation, certs.Record, certs.TLS) {
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
		return fmt.Errorf("%w: it is valid from %s until %s; run kiosk provision with a new code",
			kiosk.ErrCertificate, v.from.Format(time.RFC3339), v.until.Format(time.RFC3339))
	}
	return nil
}
