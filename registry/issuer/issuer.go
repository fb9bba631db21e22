// Package issuer issues credentials for signing in to websites (OpenID4VCI 1.0,
// pre-authorized code): batches of SD-JWT VCs, each for a fresh key, against one
// proof by the key that was enrolled.
//
// The way of a batch:
//
//	POST /nonce       a nonce, made of a MAC: nothing is stored           (nonce.go)
//	POST /offer       signed by the enrolled key -> pre-authorized code   (offer.go)
//	POST /token       with the paper's claim code, the first time         (offer.go)
//	POST /credential  proofs of all keys -> one credential for each       (batch.go)
//	GET  /status/N    status lists, published at fixed times              (status.go)
//
// Invariants. A batch is issued whole or not at all, and a request that is repeated
// within [answerTime] gets the same answer. What the store holds afterwards links no
// two credentials and no credential to a record: the places of a batch are sealed to
// the vault; keys stand as hashes without a record; indices, keys and signatures are
// forgotten. An index is never given twice. When a record's DID ends, the places of
// its credentials are revoked with the next list.
//
// Not here: who is in good standing (the registry says), ages and names (the vault
// says, for one record at a time), and the store, which the registry has.
package issuer

import (
	"context"
	"crypto/hpke"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"enrollkiosk/registry/credential"
	"enrollkiosk/registry/record"
)

// Records is what the registry knows of who was enrolled.
type Records interface {
	// Holder is the record behind a DID in good standing; ErrNoHolder if it is unknown,
	// has ended or is suspended.
	Holder(ctx context.Context, did string) (Holder, error)
}

// Holder is a DID's record.
type Holder struct {
	Record [32]byte
	Cancel [32]byte // hash of its cancel code: see record.ClaimCode
}

// Vault is what only the authority knows.
type Vault interface {
	// Claims are of the person in a record that the vault has found active; names only
	// if they are asked for. ErrNoHolder if it has not, or not any more.
	Claims(ctx context.Context, record [32]byte, names bool) (Claims, error)
	// Places opens what was sealed of ended records, and mixes it.
	Places(ctx context.Context, sealed []Sealed) ([]credential.Link, error)
}

// Claims are what credentials say of a person, as of today.
type Claims struct {
	Over14, Over16, Over18           bool
	FamilyName, GivenName, NameLocal string
}

// Sealed are the places of one batch, sealed to the vault.
type Sealed struct {
	Record [32]byte
	Bytes  []byte
}

// Errors of what an issuer rests on.
var (
	ErrNoHolder = errors.New("issuer: no record in good standing")
	ErrFull     = errors.New("issuer: the status lists are full: configure more")
)

// Options of New. Zero limits take their defaults.
type Options struct {
	Signer  credential.Issuer
	Vault   Vault
	Records Records
	Store   Store

	Authority record.AuthorityKey // whom escrows and places are sealed to

	Lists   uint8         // status lists; default 4. More may follow later, never fewer.
	Size    uint32        // statuses of each; default 2^20, a multiple of cellBits
	Batch   int           // credentials of a request; default and at most credential.MaxBatch
	Life    time.Duration // of a credential, before it is rounded up to a Monday; default 30 days
	Publish time.Duration // between two status lists; default 1h
	Now     func() time.Time
	Log     *slog.Logger
}

// Issuer answers requests; Handler and Run may be called concurrently.
type Issuer struct {
	Options
	authority hpke.PublicKey
	secret    [32]byte      // of nonces
	turns     chan struct{} // places of batches in work
	mu        sync.Mutex
	published map[uint8]published
}

const (
	defaultLists   = 4
	defaultSize    = 1 << 20
	defaultLife    = 30 * 24 * time.Hour
	defaultPublish = time.Hour
	batchesAtOnce  = 4
)

// New makes an issuer. The id must be https without path, so that every address
// under it is its own.
func New(ctx context.Context, o Options) (*Issuer, error) {
	u, err := url.Parse(o.Signer.ID)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.Path != "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return nil, fmt.Errorf("issuer: %q is no https address without a path", o.Signer.ID)
	}
	pub, err := hpke.MLKEM768X25519().NewPublicKey(o.Authority.Public)
	if err != nil {
		return nil, fmt.Errorf("issuer: authority key: %w", err)
	}
	if o.Lists == 0 {
		o.Lists = defaultLists
	}
	if o.Size == 0 {
		o.Size = defaultSize
	}
	if o.Batch == 0 || o.Batch > credential.MaxBatch {
		o.Batch = credential.MaxBatch
	}
	if o.Life == 0 {
		o.Life = defaultLife
	}
	if o.Publish == 0 {
		o.Publish = defaultPublish
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Size%cellBits != 0 {
		return nil, fmt.Errorf("issuer: a status list of %d: a multiple of %d is needed", o.Size, cellBits)
	}
	i := &Issuer{Options: o, authority: pub, turns: make(chan struct{}, batchesAtOnce), published: map[uint8]published{}}
	return i, i.loadSecret(ctx)
}

// Paths under the issuer's id.
const (
	PathIssuer     = "/.well-known/openid-credential-issuer"
	PathServer     = "/.well-known/oauth-authorization-server"
	PathOffer      = "/offer"
	PathToken      = "/token"
	PathNonce      = "/nonce"
	PathCredential = "/credential"
	PathStatus     = "/status/"
)

// Names of the credential configurations.
const (
	RealPerson = "real-person"
	LegalName  = "legal-name"
)

// configurations are what can be asked for.
func (i *Issuer) configurations() map[string]configuration {
	one := func(vct, scope string) configuration {
		return configuration{
			Format: "dc+sd-jwt", VCT: vct, Scope: scope, Binding: []string{"jwk"}, Algorithms: []string{"ES256"},
			Proofs: proofTypes{proofJWT{Algorithms: []string{"ES256"}}},
		}
	}
	return map[string]configuration{
		RealPerson: one(credential.RealPerson(i.Signer.ID), RealPerson),
		LegalName:  one(credential.LegalName(i.Signer.ID), LegalName),
	}
}

// Issuer metadata (OpenID4VCI 1.0, 12.2.4).
type (
	issuerMetadata struct {
		Issuer         string                   `json:"credential_issuer"`
		Credential     string                   `json:"credential_endpoint"`
		Nonce          string                   `json:"nonce_endpoint"`
		Batch          batchSize                `json:"batch_credential_issuance"`
		Configurations map[string]configuration `json:"credential_configurations_supported"`
		// StatusLists is ours: all lists that there are, so that a holder notices one
		// that was made for it alone. OfferRequest is where a holder asks for an offer.
		StatusLists  []string `json:"status_lists"`
		OfferRequest string   `json:"offer_request_endpoint"`
	}
	batchSize struct {
		Size int `json:"batch_size"`
	}
	configuration struct {
		Format     string     `json:"format"`
		VCT        string     `json:"vct"`
		Scope      string     `json:"scope"`
		Binding    []string   `json:"cryptographic_binding_methods_supported"`
		Algorithms []string   `json:"credential_signing_alg_values_supported"`
		Proofs     proofTypes `json:"proof_types_supported"`
	}
	proofTypes struct {
		JWT proofJWT `json:"jwt"`
	}
	proofJWT struct {
		Algorithms   []string `json:"proof_signing_alg_values_supported"`
		Attestations struct{} `json:"key_attestations_required"`
	}
	serverMetadata struct {
		Issuer    string   `json:"issuer"`
		Token     string   `json:"token_endpoint"`
		Grants    []string `json:"grant_types_supported"`
		Anonymous bool     `json:"pre-authorized_grant_anonymous_access_supported"`
	}
)

const grantType = "urn:ietf:params:oauth:grant-type:pre-authorized_code"

// StatusURIs are the addresses of all status lists.
func (i *Issuer) StatusURIs() []string {
	var uris []string
	for n := range i.Lists {
		uris = append(uris, i.statusURI(n))
	}
	return uris
}

// Handler answers under the issuer's id.
func (i *Issuer) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+PathIssuer, func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusOK, issuerMetadata{i.Signer.ID, i.Signer.ID + PathCredential, i.Signer.ID + PathNonce, batchSize{i.Batch},
			i.configurations(), i.StatusURIs(), i.Signer.ID + PathOffer})
	})
	mux.HandleFunc("GET "+PathServer, func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusOK, serverMetadata{i.Signer.ID, i.Signer.ID + PathToken, []string{grantType}, true})
	})
	mux.HandleFunc("POST "+PathOffer, i.postOffer)
	mux.HandleFunc("POST "+PathToken, i.postToken)
	mux.HandleFunc("POST "+PathNonce, i.postNonce)
	mux.HandleFunc("POST "+PathCredential, i.postCredential)
	mux.HandleFunc("GET "+PathStatus+"{list}", i.getStatus)
	return mux
}

func media(q *http.Request, want string) bool {
	got, _, _ := strings.Cut(q.Header.Get("Content-Type"), ";")
	return strings.EqualFold(strings.TrimSpace(got), want)
}
