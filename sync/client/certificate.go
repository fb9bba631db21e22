package client

import (
	"crypto/x509"
	"fmt"
	"strings"
	"time"
	"unicode"
)

// Mismatch is what is wrong with a certificate that was shown for the registry's.
type Mismatch string

const (
	// Inspected: for the registry's name, by an authority that the policy does not
	// know. A proxy opens the connection.
	Inspected Mismatch = "inspected"
	OutOfTime Mismatch = "out-of-time" // the registry's own, expired or not valid yet
	OtherHost Mismatch = "other-host"  // of the registry's authority, for another name
	Stranger  Mismatch = "stranger"    // another name, another authority: another server, or a portal
)

// CertificateError says whose certificate was shown where the registry's should
// be. It wraps ErrTLS; nothing was sent to whoever showed it.
type CertificateError struct {
	Mismatch   Mismatch
	By         string    // organisation that issued it, printable, "" when it names none. Anybody's claim
	From, Till time.Time // when it is valid
	cause      error
}

func (e *CertificateError) Error() string {
	by := "an authority without a name"
	if e.By != "" {
		by = fmt.Sprintf("%q", e.By)
	}
	var text string
	switch e.Mismatch {
	case Inspected:
		text = "a proxy opens the connection to the registry with a certificate by " + by + ": have the registry exempted from inspection, or use USB"
	case OutOfTime:
		text = fmt.Sprintf("the registry's certificate is good from %s till %s and not now: check the kiosk's clock, then tell the registry",
			e.From.UTC().Format(time.DateTime), e.Till.UTC().Format(time.DateTime))
	case OtherHost:
		text = "another server of the registry's authority answers: check registry.url"
	default:
		text = "another server answers, with a certificate by " + by + ": check registry.url and the network"
	}
	return text + ": " + e.cause.Error()
}

func (e *CertificateError) Unwrap() []error { return []error{ErrTLS, e.cause} }

// certificateError finds out what is wrong with a certificate that verification
// under o has refused.
func certificateError(leaf *x509.Certificate, o x509.VerifyOptions, cause error) error {
	e := &CertificateError{By: organisation(leaf), From: leaf.NotBefore, Till: leaf.NotAfter, cause: cause}
	named := leaf.VerifyHostname(o.DNSName) == nil
	known := false // its authority is one of the policy's, time aside
	o.DNSName = ""
	for _, o.CurrentTime = range []time.Time{leaf.NotBefore, leaf.NotBefore.Add(leaf.NotAfter.Sub(leaf.NotBefore) / 2), leaf.NotAfter} {
		_, err := leaf.Verify(o)
		known = known || err == nil
	}
	switch {
	case known && named:
		e.Mismatch = OutOfTime
	case known:
		e.Mismatch = OtherHost
	case named:
		e.Mismatch = Inspected
	default:
		e.Mismatch = Stranger
	}
	return e
}

// maxName is as long as a name on a screen may be.
const maxName = 40

// organisation is who says to have issued a certificate, fit for a screen: one
// line of printable characters, none that reorders text.
func organisation(c *x509.Certificate) string {
	name := c.Issuer.CommonName
	if len(c.Issuer.Organization) > 0 {
		name = c.Issuer.Organization[0]
	}
	name = strings.Map(func(r rune) rune {
		if r == unicode.ReplacementChar || !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, name)
	if runes := []rune(name); len(runes) > maxName {
		name = string(runes[:maxName-1]) + "…"
	}
	return strings.TrimSpace(name)
}
