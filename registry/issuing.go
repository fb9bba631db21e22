package registry

import (
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"

	"enrollkiosk/registry/api"
	"enrollkiosk/registry/credential"
	"enrollkiosk/registry/internal/keyfile"
	"enrollkiosk/registry/internal/serve"
	"enrollkiosk/registry/issuer"
	"enrollkiosk/registry/policy"
	"enrollkiosk/registry/record"
)

// Names in a registry's directory.
const (
	nameIssuerCA = "issuer-ca"
	nameIssuer   = "issuer"
)

// ErrIssuer: nobody can issue credentials here.
var ErrIssuer = errors.New("no issuer of credentials: make one (registry issuer init) and have the authority sign a policy that names it")

// InitIssuer makes a registry's key that signs credentials, with an authority over
// it, for an address that citizens reach, and puts both into FilePublic. The
// certificate names what it may issue. The error is keyfile's ErrExists if there is
// one.
func InitIssuer(dir, id string, now time.Time) (api.RegistryKeys, error) {
	u, err := url.Parse(id)
	if err != nil || u.Scheme != "https" || u.Host == "" || id != "https://"+u.Host {
		return api.RegistryKeys{}, errors.New("the issuer's address must be https without a path, such as https://id.example")
	}
	return rotate(dir, func(pub *api.RegistryKeys) error {
		ca, err := keyfile.CreateAuthority(dir, nameIssuerCA, "Credentials of "+id, now)
		if err != nil {
			return err
		}
		var uris []*url.URL
		for _, name := range []string{id, credential.RealPerson(id), credential.LegalName(id)} {
			uri, err := url.Parse(name)
			if err != nil {
				return err
			}
			uris = append(uris, uri)
		}
		if err := ca.IssueNew(dir, nameIssuer, x509.Certificate{Subject: pkix.Name{CommonName: u.Host}, URIs: uris}, now); err != nil {
			return err
		}
		pub.Issuer = api.IssuerKeys{ID: id, Root: ca.Certificate.Raw}
		return nil
	})
}

// openIssuer makes the issuer that the policy names; nil if it names none.
func (r *Registry) openIssuer(ctx context.Context) (*issuer.Issuer, error) {
	p := r.opts.Policy.Policy()
	if p.Issuer.ID == "" {
		return nil, nil
	}
	key, err := keyfile.TLS(r.opts.Dir, nameIssuer)
	if err != nil {
		return nil, fmt.Errorf("issuer: %w", err)
	}
	leaf, err := x509.ParseCertificate(key.Certificate[0])
	if err != nil {
		return nil, fmt.Errorf("issuer: %w", err)
	}
	if !slices.ContainsFunc(p.Issuer.Roots, func(root policy.Root) bool {
		c, err := x509.ParseCertificate(root.Certificate)
		return err == nil && leaf.CheckSignatureFrom(c) == nil
	}) {
		return nil, fmt.Errorf("%w: issuer", ErrPolicy)
	}
	signer, ok := key.PrivateKey.(crypto.Signer)
	if !ok {
		return nil, errors.New("issuer: no key that signs")
	}
	return issuer.New(ctx, issuer.Options{
		Signer: credential.Issuer{ID: p.Issuer.ID, Chain: []*x509.Certificate{leaf}, Key: signer},
		Vault:  issuerVault{r.vault, r.store}, Records: issuerRecords{r.store}, Store: r.store.Issuer(),
		Authority: p.Authority, Lists: r.opts.StatusLists, Size: r.opts.StatusSize, Publish: r.opts.StatusInterval, Now: r.opts.Now, Log: r.opts.Log,
	})
}

// Issues says whether there is an issuer of credentials here.
func (r *Registry) Issues() bool { return r.issuer != nil }

// ServeIssuer answers citizens on l until ctx ends, beside Serve, and revokes what is
// to be revoked. Kiosks have a listener of their own, which nobody can fill from here.
// The error is ErrIssuer if the policy names no issuer.
func (r *Registry) ServeIssuer(ctx context.Context, l net.Listener) error {
	if r.issuer == nil {
		return errors.Join(ErrIssuer, l.Close())
	}
	s := &http.Server{
		Handler:           r.limitIssuer(r.issuer.Handler()),
		ReadHeaderTimeout: r.limits.header, ReadTimeout: r.limits.read, WriteTimeout: r.limits.write, IdleTimeout: r.limits.idle,
		MaxHeaderBytes: maxHeader, ErrorLog: silent,
		TLSConfig: &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{r.server}, Time: r.opts.Now},
	}
	work, stop := context.WithCancel(context.WithoutCancel(ctx))
	var running sync.WaitGroup
	running.Go(func() { r.issuer.Run(work) })
	defer running.Wait()
	defer stop()
	r.opts.Log.Info("issuer serves", "address", l.Addr().String(), "issuer", r.issuer.Signer.ID)
	return serve.Until(ctx, s, shutdownWait, func() error { return s.ServeTLS(r.limit(l), "", "") }, nil)
}

// limitIssuer holds back who asks too often for what costs a signature or a
// transaction.
func (r *Registry) limitIssuer(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if q.Method == http.MethodPost {
			if wait := r.issues.take(network(q.RemoteAddr), time.Now()); wait > 0 {
				tooMany(w, wait, "too many requests: come again later")
				return
			}
		}
		h.ServeHTTP(w, q)
	})
}

// Limits of one address: collecting both credentials takes eight requests, and many
// citizens may stand behind one address.
var (
	issueRate  = rate{200, 250 * time.Millisecond} // of one address
	issuesRate = rate{2000, 2 * time.Millisecond}
)

// issuerRecords is what the issuer may know of records.
type issuerRecords struct{ store store }

func (s issuerRecords) Holder(ctx context.Context, did string) (h issuer.Holder, err error) {
	h.Record, err = s.store.Brought(ctx, did)
	if errors.Is(err, errHolder) || errors.Is(err, errSuspended) {
		return h, fmt.Errorf("%w: %w", issuer.ErrNoHolder, err)
	}
	if err != nil {
		return h, err
	}
	b, err := s.store.Submission(ctx, h.Record)
	if err != nil {
		return h, err
	}
	submission, err := record.ParseSubmission(b)
	if err != nil {
		return h, err
	}
	h.Cancel = submission.Record().Payload().CancelSHA
	return h, nil
}

// issuerVault asks the vault in the issuer's name.
type issuerVault struct {
	vault *vaultRole
	store store
}

// claimsTimeout bounds the vault's work, so that the citizen is told in time.
const claimsTimeout = 20 * time.Second

func (v issuerVault) Claims(ctx context.Context, id [32]byte, names bool) (c issuer.Claims, err error) {
	submission, err := v.store.Submission(ctx, id)
	if err != nil {
		return c, err
	}
	out, err := askVault[api.ClaimsResult](ctx, v.vault, api.PathClaims, api.ClaimsRequest{Record: submission, Names: names})
	if err != nil {
		return c, err
	}
	return issuer.Claims{Over14: out.Over14, Over16: out.Over16, Over18: out.Over18,
		FamilyName: out.FamilyName, GivenName: out.GivenName, NameLocal: out.NameLocal}, nil
}

func (v issuerVault) Places(ctx context.Context, sealed []issuer.Sealed) (links []credential.Link, err error) {
	for batch := range slices.Chunk(sealed, api.MaxPlaces) {
		var q api.PlacesRequest
		for _, s := range batch {
			q.Sealed = append(q.Sealed, api.SealedPlaces{Record: s.Record, Places: s.Bytes})
		}
		out, err := askVault[api.PlacesResult](ctx, v.vault, api.PathPlaces, q)
		if err != nil {
			return nil, err
		}
		for _, p := range out.Places {
			links = append(links, credential.Link(p))
		}
	}
	return links, nil
}

// askVault wraps issuer.ErrNoHolder if the vault refuses.
func askVault[M interface {
	api.ClaimsResult | api.PlacesResult
	Check() error
}](ctx context.Context, v *vaultRole, path string, message any) (m M, err error) {
	ctx, cancel := context.WithTimeout(ctx, claimsTimeout)
	defer cancel()
	a, err := v.ask(ctx, path, message)
	if err != nil {
		return m, err
	}
	if a.StatusCode == http.StatusForbidden {
		io.Copy(io.Discard, io.LimitReader(a.Body, 4<<10))
		a.Body.Close()
		return m, fmt.Errorf("%w: the vault refuses", issuer.ErrNoHolder)
	}
	return decodeAnswer[M](a)
}
