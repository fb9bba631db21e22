// Package holder is the citizen's helper on a PC: it collects credentials from the
// issuer and shows them to websites, under another key at each.
//
// The way of a sign-in: Link (from a browser, hostile) -> credential.Request (verified)
// -> Ask (the person consents) -> PIN and touch -> store.Entry (this website's, on the
// disk) -> presentation -> the address that the browser returns to.
//
// Invariants: nothing is asked of the token and no credential is looked at before the
// person has consented. A website gets one key, and no other website gets that one. A
// request leads to one host, the one in the website's certificate; redirects are
// refused. Requests carry no name of this program, no language, no cookie, and share
// no connection. Nobody is told why something was refused.
//
// Non-goals: another device's sign-in (a link that came by mail or as a picture is
// what phishing sends), and keeping anything about the person.
package holder

import (
	"context"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"enrollkiosk/holder/sitekey"
	"enrollkiosk/holder/store"
	"enrollkiosk/hsm"
	"enrollkiosk/kiosk/secret"
	"enrollkiosk/registry/credential"
)

// Times that are waited.
const (
	answerLimit = 20 * time.Second // for a website or the issuer, each time
	tokenLimit  = 2 * time.Minute  // for the token, with touches
	askLimit    = 5 * time.Minute  // for a person's decision: the website has forgotten by then
	Pause       = 30 * time.Second // after a refusal: a page cannot wear a person down with windows
	pauseFile   = "declined"
	lockFile    = "lock"
)

// Authority is whom the helper trusts, as its authority publishes it.
type Authority struct {
	Issuer      string         // credential issuer identifier, an https URL without a slash at its end
	IssuerRoots *x509.CertPool // of its signing CA
	SiteRoots   *x509.CertPool // of the CA that registers websites
	StatusLists []string       // all that there are: a list of one's own would be a mark
	TLSRoots    *x509.CertPool // nil: the system's
	AnyPort     bool           // demonstrations: websites on another port than 443
}

// Token is the citizen's token, open.
type Token interface {
	sitekey.Agreement // with 9D

	// Enrolled is the key in 9A. It signs the requests to the issuer, one touch each,
	// and is shown to no website.
	Enrolled() hsm.Key
	Close() error
}

// Tokens opens the citizen's token.
type Tokens interface {
	// Open takes the token for this process alone. It sends no PIN: the first use of
	// a key does. The caller keeps pin until the token is closed.
	Open(ctx context.Context, pin secret.Text) (Token, error)
}

// Person is who sits at the PC. Each method returns when the person has answered, or
// ctx has ended.
type Person interface {
	// Consent asks whether a website shall know this. No answer is no.
	Consent(ctx context.Context, a Ask) (bool, error)

	// PIN asks for the token's PIN; wrong is nil the first time. The caller wipes it.
	PIN(ctx context.Context, wrong *hsm.WrongPIN) (secret.Text, error)

	// Touch says that the token waits for a finger. It returns at once.
	Touch()
}

// Claimant is a Person who can be asked for the code on the receipt; without one, a
// first collection ends with ErrNoCode. The caller wipes it.
type Claimant interface {
	ClaimCode(ctx context.Context) (secret.Text, error)
}

// Ask is what a website wants.
type Ask struct {
	Site      string   // its DNS name from its certificate, in ASCII: a foreign script shows as xn--
	Claims    []string // disclosable claims, by name, in order; the pseudonym is always shown
	LegalName bool     // the person's name is among them: a decision of its own
}

// Helper does one thing at a time, for one person.
type Helper struct {
	Authority Authority
	Dir       string // of the sealed files; made when it is missing
	Tokens    Tokens
	Person    Person

	run run
}

// run is what is kept until one thing is done, so that the person is asked once.
type run struct {
	pin  secret.Text
	file *store.Store
	id   [16]byte // of the token that file belongs to
}

// session is the token open, with its file, which outlives it until the run ends.
type session struct {
	token Token
	file  *store.Store
}

// withToken opens the token for as long as use takes. The PIN is asked for before, and
// again while it is wrong and the token lets it be tried.
func (h *Helper) withToken(ctx context.Context, use func(context.Context, session) error) error {
	var wrong *hsm.WrongPIN
	for {
		if h.run.pin.Len() == 0 {
			asking, cancel := context.WithTimeout(ctx, askLimit)
			pin, err := h.Person.PIN(asking, wrong)
			cancel()
			if errors.Is(err, context.DeadlineExceeded) {
				err = ErrDeclined // nobody is there
			}
			if err != nil {
				return fmt.Errorf("pin: %w", err)
			}
			h.run.pin = pin
		}
		err := h.withPIN(ctx, use)
		if !errors.As(err, &wrong) {
			return err
		}
		h.run.pin.Wipe()
	}
}

func (h *Helper) withPIN(ctx context.Context, use func(context.Context, session) error) (err error) {
	ctx, cancel := context.WithTimeout(ctx, tokenLimit)
	defer cancel()
	token, err := h.Tokens.Open(ctx, h.run.pin)
	if err != nil {
		return fmt.Errorf("open token: %w", err)
	}
	defer func() {
		if e := token.Close(); err == nil && e != nil {
			err = fmt.Errorf("close token: %w", e)
		}
	}()
	id := sitekey.TokenID(token.Public())
	switch {
	case h.run.file == nil:
		if err := h.open(ctx, token, id); err != nil {
			return err
		}
	case id != h.run.id:
		return store.ErrOtherToken
	}
	return use(ctx, session{token, h.run.file})
}

func (h *Helper) open(ctx context.Context, token Token, id [16]byte) error {
	h.Person.Touch()
	key, err := sitekey.MapKey(ctx, token)
	if err != nil {
		return err
	}
	defer sitekey.Erase(key)
	file, err := store.Open(filepath.Join(h.Dir, hex.EncodeToString(id[:])+".sealed"), id, key)
	if err != nil {
		return err
	}
	h.run.file, h.run.id = file, id
	return nil
}

// alone holds the helper's directory for one run: one window at a time, and one
// writer of the file.
func (h *Helper) alone(do func() error) error {
	if err := os.MkdirAll(h.Dir, 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(h.Dir, lockFile), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer f.Close() // unlocks
	if err := lock(f); err != nil {
		return fmt.Errorf("%w: %w", ErrRunning, err)
	}
	defer func() {
		h.run.pin.Wipe()
		h.run = run{}
	}()
	return do()
}

// Site is a website in the file.
type Site struct {
	Name      string    `json:"site"`
	LegalName bool      `json:"legal_name"` // it got the name, under a key of its own
	Expires   time.Time `json:"expires"`
}

// Summary is what the file holds.
type Summary struct {
	Sites          []Site `json:"sites"`
	Unused         int    `json:"unused"`          // credentials for further websites
	UnusedForNames int    `json:"unused_for_name"` // the same, that show the name
}

// List says which websites the person has signed in to, by name.
func (h *Helper) List(ctx context.Context) (s Summary, err error) {
	err = h.alone(func() error {
		return h.withToken(ctx, func(_ context.Context, at session) error {
			now := time.Now()
			s.Unused = at.file.Unused(credential.RealPerson(h.Authority.Issuer), now)
			s.UnusedForNames = at.file.Unused(credential.LegalName(h.Authority.Issuer), now)
			for _, e := range at.file.Entries() {
				if e.Site != "" {
					s.Sites = append(s.Sites, Site{e.Site, e.Type == credential.LegalName(h.Authority.Issuer), e.Expires})
				}
			}
			slices.SortStableFunc(s.Sites, func(a, b Site) int { return strings.Compare(a.Name, b.Name) })
			return nil
		})
	})
	return s, err
}

// Forget lets the next visit at a website be a stranger's. The account there cannot
// be reached any more.
func (h *Helper) Forget(ctx context.Context, site string) error {
	return h.alone(func() error {
		return h.withToken(ctx, func(_ context.Context, at session) error { return at.file.Forget(site) })
	})
}

// Export is a sealed file for another PC.
func (h *Helper) Export(ctx context.Context) (b []byte, err error) {
	err = h.alone(func() error {
		return h.withToken(ctx, func(_ context.Context, at session) error {
			b, err = at.file.Export()
			return err
		})
	})
	return b, err
}

// Import adds what Export gave on another PC, with the same token.
func (h *Helper) Import(ctx context.Context, b []byte) (added int, conflicts []string, err error) {
	err = h.alone(func() error {
		return h.withToken(ctx, func(_ context.Context, at session) error {
			added, conflicts, err = at.file.Import(b)
			return err
		})
	})
	return added, conflicts, err
}

// accept checks a credential of the file, or a fresh one, against the published set.
func (h *Helper) accept(compact, vct string, key *ecdsa.PublicKey, now time.Time) (credential.Issued, error) {
	return credential.Accept(compact, credential.Terms{
		Authority: credential.Authority{Issuer: h.Authority.Issuer, Roots: h.Authority.IssuerRoots},
		Type:      vct, Claims: claimsOf(vct, h.Authority.Issuer), Key: key, StatusURIs: h.Authority.StatusLists, Now: now,
	})
}

// claimsOf are the disclosable claims of the two types.
func claimsOf(vct, issuer string) []string {
	if vct == credential.LegalName(issuer) {
		return credential.NameClaims()
	}
	return credential.PersonClaims()
}
