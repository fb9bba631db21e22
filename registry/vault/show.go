package vault

import (
	"cmp"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"enrollkiosk/registry/policy"
)

// ShowPolicy writes what a policy decides for people to read: everything but the
// bytes of keys and certificates.
func ShowPolicy(w io.Writer, p policy.Policy, now time.Time) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	line := func(name, format string, a ...any) { fmt.Fprintf(t, "%s\t%s\n", name, fmt.Sprintf(format, a...)) }
	standing := "in force"
	switch {
	case now.Before(p.Issued):
		standing = "not yet in force"
	case !now.Before(p.Expires):
		standing = "expired"
	}
	line("version", "%d, %s", p.Version, standing)
	line("issued", "%s", p.Issued.Format(time.RFC3339))
	line("expires", "%s", p.Expires.Format(time.RFC3339))
	line("offline", "%d days at most", p.OfflineDays)
	line("log", "%s", p.LogKey)
	for _, e := range p.EarlierLogs {
		until := "and signs beside it"
		if e.Ended() {
			until = fmt.Sprintf("until %d leaves, root %s", e.Size, base64.StdEncoding.EncodeToString(e.Root[:]))
		}
		line("  before", "%s %s", e.Key, until)
	}
	line("authority key", "%s", p.Authority.ID)
	if p.Issuer.ID != "" {
		line("issuer", "%s", p.Issuer.ID)
		showRoots(line, "  root", p.Issuer.Roots)
	}
	line("verdict keys", "%d of the registry, %d of the vault", len(p.VerdictKeys.Registry), len(p.VerdictKeys.Vault))
	line("languages", "%s", strings.Join(p.Languages, ", "))
	for _, c := range p.Consents {
		need := "optional"
		if c.Required {
			need = "required"
		}
		line("consent", "%s version %d, %s", c.ID, c.Version, need)
		for _, d := range c.Digests {
			line("", "%s %x", d.Language, d.SHA256)
		}
	}
	if len(p.Files) > 0 {
		line("files", "%#04x beside what the vault needs", p.Files)
	}
	for _, d := range p.Documents {
		line("document", "%s, may lack %v%s", d.Kind, d.MayLack, classed(string(d.Class)))
		showRoots(line, "  root", d.Roots)
	}
	if len(p.Anchors) > 0 { // of any curve: crypto/x509 does not read them all
		line("trust anchors", "%d CSCA certificates, %d CRLs", len(p.Anchors), len(p.CRLs))
	}
	showRoots(line, "kiosk authority", p.KioskCA)
	showRoots(line, "registry's TLS", p.RegistryTLS)
	showRoots(line, "TPM root", p.TPMRoots)
	showRoots(line, "PIV root", p.PIVRoots)
	for _, der := range p.PIVIntermediates {
		showCertificate(line, "PIV intermediate", der, "")
	}
	line("tokens", "firmware %d.%d.%d or newer", p.MinimumPIVFirmware.Major, p.MinimumPIVFirmware.Minor, p.MinimumPIVFirmware.Patch)
	rules := p.TokenRules()
	line("citizen's key", "9A %v, pin %s, touch %s; 9D touch %s; %d retired slots; in the kiosk's TPM: %v",
		rules.Algorithms, rules.PIN, rules.Touch, rules.KeyAgreementTouch, rules.Retired, rules.Custody)
	for _, n := range p.RevokedTokens {
		line("revoked token", "%d", n)
	}
	for _, d := range p.RevokedAttestations {
		line("revoked attestation", "%x", d)
	}
	showRoots(line, "officers' CA", p.OfficerCA)
	for _, r := range p.OfficerRules {
		quota := "no quota"
		if r.Quota > 0 {
			quota = fmt.Sprintf("%d enrollments a day", r.Quota)
		}
		line("officers", "unit %q: %v, %s", r.Unit, r.Roles, quota)
	}
	for _, der := range p.OfficerCRLs {
		showCRL(line, der, now)
	}
	for _, d := range p.RevokedOfficers {
		line("revoked officer", "%x", d)
	}
	if m := p.Minors; m.GuardianBelow > 0 {
		line("guardian", "for who is under %d, from %d years on, birthdays in %s, shown by %q", m.GuardianBelow, m.GuardianFrom, cmp.Or(m.Zone, "UTC"), m.Proofs)
	} else {
		line("guardian", "nobody needs one")
	}
	line("alarm", "more than %d documents opened without an enrollment, by one officer on one day", p.Limits.ReadsWithoutEnrollment)
	if n := p.Limits.EnrollmentsPerDay; n > 0 {
		line("limit", "%d enrollments of one kiosk on one day", n)
	}
	return t.Flush()
}

type liner func(name, format string, a ...any)

func showRoots(line liner, name string, roots []policy.Root) {
	for _, r := range roots {
		showCertificate(line, name, r.Certificate, string(r.Class))
	}
}

func showCertificate(line liner, name string, der []byte, class string) {
	c, err := x509.ParseCertificate(der)
	if err != nil {
		line(name, "%d bytes", len(der))
		return
	}
	line(name, "%s, until %s%s", cmp.Or(c.Subject.String(), "no name"), c.NotAfter.Format(time.DateOnly), classed(class))
}

func classed(class string) string {
	if class == "" {
		return ""
	}
	return ", class " + class
}

func showCRL(line liner, der []byte, now time.Time) {
	crl, err := x509.ParseRevocationList(der)
	if err != nil {
		return
	}
	outdated := ""
	if crl.NextUpdate.Before(now) {
		outdated = ", outdated"
	}
	line("officers' CRL", "%s, of %s, next %s%s, %d certificates", crl.Issuer.String(), crl.ThisUpdate.Format(time.DateOnly),
		crl.NextUpdate.Format(time.DateOnly), outdated, len(crl.RevokedCertificateEntries))
}
