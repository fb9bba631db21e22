package attest_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"encoding/pem"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"enrollkiosk/hsm"
	"enrollkiosk/hsm/attest"
)

// openssl reports whether `openssl verify` accepts a chain at a time.
func openssl(t *testing.T, at time.Time, root, leaf []byte, between ...[]byte) bool {
	t.Helper()
	dir := t.TempDir()
	write := func(name string, der ...[]byte) string {
		var b []byte
		for _, d := range der {
			b = append(b, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: d})...)
		}
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	args := []string{"verify", "-no-CAfile", "-no-CApath", "-no-CAstore", "-attime", strconv.FormatInt(at.Unix(), 10), "-trusted", write("root", root)}
	if len(between) > 0 {
		args = append(args, "-untrusted", write("between", between...))
	}
	out, err := exec.CommandContext(t.Context(), "openssl", append(args, write("leaf", leaf))...).CombinedOutput()
	if exit, ok := err.(*exec.ExitError); err != nil && (!ok || exit.ExitCode() != 2) {
		t.Fatalf("openssl is needed: %v\n%s", err, out)
	}
	return err == nil
}

// hierarchy is shaped as Yubico's from firmware 5.7.4 on: a root, two
// intermediates, a token and its statement about a key in 9A.
type hierarchy struct {
	root, intermediate, authority, own, leaf *x509.Certificate
	key                                      crypto.PublicKey
}

// newHierarchy issues one after change has had each template, by its name.
func newHierarchy(t testing.TB, change func(name string, c *x509.Certificate)) hierarchy {
	t.Helper()
	var h hierarchy
	rootKey := p256Key(t)
	parent, by := authorityCertificate("root", 3), rootKey
	change("root", parent)
	h.root = issue(t, parent, parent, rootKey, rootKey)
	parent = h.root
	for i, c := range []**x509.Certificate{&h.intermediate, &h.authority, &h.own} {
		name := []string{"intermediate", "authority", "own"}[i]
		template, key := authorityCertificate(name, 2-i), p256Key(t)
		change(name, template)
		*c = issue(t, template, parent, key, by)
		parent, by = *c, key
	}
	template, key := statementCertificate(), p256Key(t)
	change("leaf", template)
	h.leaf, h.key = issue(t, template, parent, key, by), key.Public()
	return h
}

func (h hierarchy) evidence() hsm.PIVEvidence {
	return hsm.PIVEvidence{Certificate: h.leaf.Raw, Intermediate: h.own.Raw}
}

func (h hierarchy) expect() attest.PIVExpect {
	want := pivExpect(h.key)
	want.Serial, want.Intermediates = 42, []*x509.Certificate{h.authority, h.intermediate}
	return want
}

func asMade(string, *x509.Certificate) {}

// TestPIVPathsAgreeWithOpenSSL builds hierarchies that are each wrong in one
// thing and wants the same verdict of openssl.
func TestPIVPathsAgreeWithOpenSSL(t *testing.T) {
	on := func(name string, change func(*x509.Certificate)) func(string, *x509.Certificate) {
		return func(n string, c *x509.Certificate) {
			if n == name {
				change(c)
			}
		}
	}
	length := func(name string, n int) func(string, *x509.Certificate) {
		return on(name, func(c *x509.Certificate) { c.MaxPathLen, c.MaxPathLenZero = n, n == 0 })
	}
	early := time.Date(2021, 1, 1, 0, 0, 0, 0, time.UTC)
	expired := func(c *x509.Certificate) { c.NotAfter = early }
	unborn := func(c *x509.Certificate) { c.NotBefore = time.Date(2031, 1, 1, 0, 0, 0, 0, time.UTC) }
	noCA := func(c *x509.Certificate) { c.IsCA, c.MaxPathLen, c.KeyUsage = false, -1, x509.KeyUsageDigitalSignature }
	silent := func(c *x509.Certificate) { c.IsCA, c.BasicConstraintsValid, c.MaxPathLen = false, false, 0 }
	for name, c := range map[string]struct {
		change func(string, *x509.Certificate)
		check  attest.Check // none: accepted
	}{
		"good":                      {asMade, ""},
		"no lengths":                {func(_ string, c *x509.Certificate) { c.MaxPathLen, c.MaxPathLenZero = -1, false }, ""},
		"root short by one":         {length("root", 2), attest.CheckChain},
		"root 0":                    {length("root", 0), attest.CheckChain},
		"intermediate short by one": {length("intermediate", 1), attest.CheckChain},
		"authority 0":               {length("authority", 0), attest.CheckChain},
		"intermediate expired":      {on("intermediate", expired), attest.CheckChain},
		"authority expired":         {on("authority", expired), attest.CheckChain},
		"own expired":               {on("own", expired), attest.CheckChain},
		"root expired":              {on("root", expired), attest.CheckChain},
		"leaf expired":              {on("leaf", expired), attest.CheckLeaf},
		"authority not yet valid":   {on("authority", unborn), attest.CheckChain},
		"leaf not yet valid":        {on("leaf", unborn), attest.CheckLeaf},
		"intermediate no CA":        {on("intermediate", noCA), attest.CheckChain},
		"authority no CA":           {on("authority", noCA), attest.CheckChain},
		"own no CA":                 {on("own", noCA), attest.CheckLeaf},
		"own silent about it":       {on("own", silent), attest.CheckLeaf},
		"own for other uses":        {on("own", func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageDigitalSignature }), attest.CheckLeaf},
	} {
		h := newHierarchy(t, c.change)
		p, err := attest.VerifyPIV(h.evidence(), certificates(t, attest.Production, h.root.Raw), h.expect())
		if c.check != "" {
			refused(t, name, p, err, c.check)
		} else if err != nil || !p.Valid() {
			t.Errorf("%s: %v", name, err)
		}
		if got := openssl(t, h.expect().At, h.root.Raw, h.leaf.Raw, h.own.Raw, h.authority.Raw, h.intermediate.Raw); got != (c.check == "") {
			t.Errorf("%s: openssl accepts: %v", name, got)
		}
	}

	h, other := newHierarchy(t, asMade), newHierarchy(t, asMade)
	roots := certificates(t, attest.Production, h.root.Raw)
	for name, c := range map[string]struct {
		root    *x509.Certificate
		own     *x509.Certificate
		between []*x509.Certificate
		check   attest.Check
	}{
		"nothing between":         {h.root, h.own, nil, attest.CheckChain},
		"authority missing":       {h.root, h.own, []*x509.Certificate{h.intermediate}, attest.CheckChain},
		"intermediate missing":    {h.root, h.own, []*x509.Certificate{h.authority}, attest.CheckChain},
		"another maker's":         {h.root, h.own, []*x509.Certificate{other.authority, other.intermediate}, attest.CheckChain},
		"another maker's as well": {h.root, h.own, []*x509.Certificate{other.authority, h.authority, other.intermediate, h.intermediate}, ""},
		"another root":            {other.root, h.own, []*x509.Certificate{h.authority, h.intermediate}, attest.CheckChain},
		"a root brought along":    {other.root, h.own, []*x509.Certificate{h.authority, h.intermediate, h.root}, attest.CheckChain},
		"another token's":         {h.root, other.own, []*x509.Certificate{h.authority, h.intermediate}, attest.CheckChain},
	} {
		want := h.expect()
		want.Intermediates = c.between
		p, err := attest.VerifyPIV(hsm.PIVEvidence{Certificate: h.leaf.Raw, Intermediate: c.own.Raw}, certificates(t, attest.Production, c.root.Raw), want)
		if c.check != "" {
			refused(t, name, p, err, c.check)
		} else if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		between := [][]byte{c.own.Raw}
		for _, b := range c.between {
			between = append(between, b.Raw)
		}
		if got := openssl(t, want.At, c.root.Raw, h.leaf.Raw, between...); got != (c.check == "") {
			t.Errorf("%s: openssl accepts: %v", name, got)
		}
	}
	// An authority between may be the root that is configured.
	want := h.expect()
	want.Intermediates = nil
	if _, err := attest.VerifyPIV(h.evidence(), certificates(t, attest.Production, h.authority.Raw), want); err != nil {
		t.Errorf("authority as root: %v", err)
	}
	everyByteCounts(t, h.evidence(), roots, h.expect())
}

// twin is a certificate with the other valid form of its ECDSA signature.
func twin(t *testing.T, c *x509.Certificate, issuer *x509.Certificate) *x509.Certificate {
	t.Helper()
	var rs struct{ R, S *big.Int }
	if _, err := asn1.Unmarshal(c.Signature, &rs); err != nil {
		t.Fatal(err)
	}
	rs.S.Sub(issuer.PublicKey.(*ecdsa.PublicKey).Params().N, rs.S)
	signature, err := asn1.Marshal(rs)
	if err != nil {
		t.Fatal(err)
	}
	algorithm := []byte{0x30, 10, 6, 8, 0x2A, 0x86, 0x48, 0xCE, 0x3D, 4, 3, 2} // ecdsa-with-SHA256
	bits, err := asn1.Marshal(asn1.BitString{Bytes: signature, BitLength: 8 * len(signature)})
	if err != nil {
		t.Fatal(err)
	}
	der, err := asn1.Marshal(asn1.RawValue{Tag: asn1.TagSequence, IsCompound: true, Bytes: slices.Concat(c.RawTBSCertificate, algorithm, bits)})
	if err != nil {
		t.Fatal(err)
	}
	out := certificates(t, attest.Test, der)[0].Certificate
	if bytes.Equal(out.Raw, c.Raw) || out.CheckSignatureFrom(issuer) != nil {
		t.Fatal("no twin")
	}
	return out
}

func TestPIVRevokedCertificates(t *testing.T) {
	h := newHierarchy(t, asMade)
	roots := certificates(t, attest.Production, h.root.Raw)
	digest := func(c *x509.Certificate) [32]byte { return sha256.Sum256(c.Raw) }
	for name, c := range map[string]*x509.Certificate{"own": h.own, "authority": h.authority, "intermediate": h.intermediate, "root": h.root,
		"own's twin": twin(t, h.own, h.authority), "authority's twin": twin(t, h.authority, h.intermediate)} {
		want := h.expect()
		want.RevokedCertificates = [][32]byte{{1}, digest(c)}
		p, err := attest.VerifyPIV(h.evidence(), roots, want)
		refused(t, name, p, err, attest.CheckRevoked)
	}
	want := h.expect()
	want.RevokedCertificates = [][32]byte{{1}, digest(newHierarchy(t, asMade).own)}
	if _, err := attest.VerifyPIV(h.evidence(), roots, want); err != nil {
		t.Errorf("others are revoked: %v", err)
	}

	// The twin is the same statement, and no way around a revocation.
	again := h
	again.own = twin(t, h.own, h.authority)
	if _, err := attest.VerifyPIV(again.evidence(), roots, want); err != nil {
		t.Errorf("twin: %v", err)
	}
	again.leaf = twin(t, h.leaf, h.own)
	if _, err := attest.VerifyPIV(again.evidence(), roots, want); err != nil {
		t.Errorf("twin of the statement: %v", err)
	}
	want.RevokedCertificates = [][32]byte{digest(h.own)}
	p, err := attest.VerifyPIV(again.evidence(), roots, want)
	refused(t, "twin of a revoked one", p, err, attest.CheckRevoked)

	// It comes before what the token says.
	want.Slot, want.Minimum = 0x9E, [3]byte{9, 0, 0}
	p, err = attest.VerifyPIV(h.evidence(), roots, want)
	refused(t, "order", p, err, attest.CheckRevoked)

	// Where two paths lead up, one that is not revoked is enough, and gives the class.
	second := authorityCertificate("root", 3)
	secondKey := p256Key(t)
	second.SubjectKeyId = []byte{2}
	secondRoot := issue(t, second, second, secondKey, secondKey)
	cross := issue(t, authorityCertificate("intermediate", 2), secondRoot, &ecdsa.PrivateKey{PublicKey: *h.intermediate.PublicKey.(*ecdsa.PublicKey)}, secondKey)
	want = h.expect()
	want.Intermediates = append(want.Intermediates, cross)
	want.RevokedCertificates = [][32]byte{digest(h.intermediate)}
	both := append(certificates(t, attest.Test, h.root.Raw), certificates(t, attest.Production, secondRoot.Raw)...)
	if p, err := attest.VerifyPIV(h.evidence(), both, want); err != nil || p.Class() != attest.Production {
		t.Errorf("another path: %v", err)
	}
	p, err = attest.VerifyPIV(h.evidence(), both[:1], want)
	refused(t, "the other root is not configured", p, err, attest.CheckRevoked)
}

// The mark may stand on the statement or on the token's own certificate.
func TestPIVFIPSMark(t *testing.T) {
	for name, marked := range map[string]string{"none": "", "statement": "leaf", "token": "own", "authority": "authority"} {
		h := newHierarchy(t, func(n string, c *x509.Certificate) {
			if n == marked {
				c.ExtraExtensions = append(c.ExtraExtensions, yubico(10, 5, 0))
			}
		})
		want := h.expect()
		want.FIPS = true
		p, err := attest.VerifyPIV(h.evidence(), certificates(t, attest.Test, h.root.Raw), want)
		if marked == "leaf" || marked == "own" {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
		} else {
			refused(t, name, p, err, attest.CheckFIPS)
		}
	}
}

// genuine reads an attestation of a real YubiKey: public data of the tokens'
// maker and of the library that drives them.
func genuine(t testing.TB, name string) (e hsm.PIVEvidence, root []byte, want attest.PIVExpect) {
	t.Helper()
	b, err := os.ReadFile("testdata/yubico/" + name)
	if err != nil {
		t.Fatal(err)
	}
	var der [][]byte
	for block, rest := pem.Decode(b); block != nil; block, rest = pem.Decode(rest) {
		der = append(der, block.Bytes)
	}
	_, between := attest.Yubico()
	return hsm.PIVEvidence{Certificate: der[0], Intermediate: der[1]}, der[2], attest.PIVExpect{Slot: authentication, AnySerial: true,
		Key: certificates(t, attest.Production, der[0])[0].Certificate.PublicKey, PIN: hsm.PINOnce, Touch: hsm.TouchNever,
		Intermediates: between, At: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
}

func TestGenuineYubiKeys(t *testing.T) {
	roots, between := attest.Yubico()
	var untrusted [][]byte
	for _, c := range between {
		untrusted = append(untrusted, c.Raw)
	}
	e, root, want := genuine(t, "firmware-5.4.3.pem")
	want.Serial, want.AnySerial, want.Minimum = 0xF00F14, false, [3]byte{5, 4, 3}
	p, err := attest.VerifyPIV(e, roots, want)
	if err != nil || p.Class() != attest.Production {
		t.Errorf("firmware 5.4.3: %v", err)
	}
	if !openssl(t, want.At, root, e.Certificate, append(untrusted, e.Intermediate)...) {
		t.Error("openssl refuses firmware 5.4.3")
	}
	for name, c := range map[string]struct {
		change func(*attest.PIVExpect)
		check  attest.Check
	}{
		"no touch":                       {func(w *attest.PIVExpect) { w.Touch = hsm.TouchAlways }, attest.CheckTouchPolicy},
		"older firmware":                 {func(w *attest.PIVExpect) { w.Minimum = [3]byte{5, 7, 0} }, attest.CheckFirmware},
		"no FIPS":                        {func(w *attest.PIVExpect) { w.FIPS = true }, attest.CheckFIPS},
		"revoked":                        {func(w *attest.PIVExpect) { w.Revoked = []uint64{0xF00F14} }, attest.CheckRevoked},
		"revoked certificate, RSA":       {func(w *attest.PIVExpect) { w.RevokedCertificates = [][32]byte{sha256.Sum256(e.Intermediate)} }, attest.CheckRevoked},
		"revoked root, RSA":              {func(w *attest.PIVExpect) { w.RevokedCertificates = [][32]byte{sha256.Sum256(root)} }, attest.CheckRevoked},
		"before the token's certificate": {func(w *attest.PIVExpect) { w.At = time.Date(2016, 1, 1, 0, 0, 0, 0, time.UTC) }, attest.CheckChain},
	} {
		want := want
		c.change(&want)
		p, err = attest.VerifyPIV(e, roots, want)
		refused(t, name, p, err, c.check)
	}
	want.AnySerial = true
	everyByteCounts(t, e, roots, want)

	// Firmware 4.3: the root allows no certificate below the token's own, and that
	// one does not say that it may issue.
	old, oldRoot, oldWant := genuine(t, "firmware-4.3.7.pem")
	p, err = attest.VerifyPIV(old, roots, oldWant)
	refused(t, "firmware 4.3.7", p, err, attest.CheckChain)
	p, err = attest.VerifyPIV(old, certificates(t, attest.Production, oldRoot), oldWant)
	refused(t, "firmware 4.3.7 with its root", p, err, attest.CheckChain)
	p, err = attest.VerifyPIV(old, certificates(t, attest.Production, old.Intermediate), oldWant)
	refused(t, "firmware 4.3.7 with its own certificate as root", p, err, attest.CheckChain, attest.CheckLeaf)
	if openssl(t, oldWant.At, oldRoot, old.Certificate, old.Intermediate) {
		t.Error("openssl accepts firmware 4.3.7")
	}
	p, err = attest.VerifyPIV(hsm.PIVEvidence{Certificate: old.Certificate, Intermediate: e.Intermediate}, roots, oldWant)
	refused(t, "one token's certificate, another's statement", p, err, attest.CheckLeaf)
}

// TestYubicoIsWhatItSays wants the published certificates and no other, each
// intermediate below Attestation Root 1 and fit for tokens.
func TestYubicoIsWhatItSays(t *testing.T) {
	fingerprints := map[string]string{
		"63ece914e54dd87915f34033c85af4c0696ba1512f8add66ced738331207b546": "Yubico PIV Root CA Serial 263751",
		"62760c6a6ef91679f454c8902b80fd009825b3f25da90f1fbace2ec6586cd5a8": "Yubico Attestation Root 1",
		"4698a1d3389c3ec60016c216250f1d0439922832d65142327436376dc2942b55": "Yubico Attestation Intermediate A 1",
		"d4cc3f456fdaf4e7812a21aab1dfe9d8e27d24e2fd2d6f21c9940109f0daa754": "Yubico Attestation Intermediate B 1",
		"6de693f05376f5d8ca29069261e1c8626c75d503bd2edbfd75354cad1f722870": "Yubico PIV Attestation A 1",
		"2d55b7998f4e42569d6d8fa382b6dc77d1dacf07358b19701163892922b17052": "Yubico PIV Attestation B 1",
	}
	roots, between := attest.Yubico()
	if len(roots) != 2 || len(between) != 4 {
		t.Fatalf("%d roots, %d intermediates", len(roots), len(between))
	}
	library := published(t)
	readme, err := os.ReadFile("yubico/README.md")
	if err != nil {
		t.Fatal(err)
	}
	check := func(c *x509.Certificate) {
		print := sha256.Sum256(c.Raw)
		text := hex.EncodeToString(print[:])
		if fingerprints[text] != c.Subject.CommonName {
			t.Errorf("%s: fingerprint %s", c.Subject.CommonName, text)
		}
		if !library[print] {
			t.Errorf("%s is not what piv-go carries", c.Subject.CommonName)
		}
		if !strings.Contains(string(readme), text) {
			t.Errorf("%s is not in README.md", c.Subject.CommonName)
		}
	}
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	var root *x509.Certificate
	for _, r := range roots {
		check(r.Certificate)
		if r.Class != attest.Production || r.Certificate.CheckSignatureFrom(r.Certificate) != nil {
			t.Errorf("%s: class %s", r.Certificate.Subject.CommonName, r.Class)
		}
		if r.Certificate.Subject.CommonName == "Yubico Attestation Root 1" {
			root = r.Certificate
		}
	}
	var untrusted [][]byte
	for _, c := range between {
		check(c)
		untrusted = append(untrusted, c.Raw)
	}
	for _, c := range between {
		for _, r := range roots {
			if got := openssl(t, at, r.Certificate.Raw, c.Raw, untrusted...); got != (r.Certificate == root) {
				t.Errorf("%s leads to %s: %v", c.Subject.CommonName, r.Certificate.Subject.CommonName, got)
			}
		}
		room := 2 // certificates below it that may issue
		if strings.Contains(c.Subject.CommonName, " PIV ") {
			room = 1
		}
		if !c.IsCA || c.MaxPathLen != room {
			t.Errorf("%s: path length %d", c.Subject.CommonName, c.MaxPathLen)
		}
	}
	// A token's word about a test root is nothing to it.
	h := newHierarchy(t, asMade)
	p, err := attest.VerifyPIV(h.evidence(), roots, h.expect())
	refused(t, "a test hierarchy", p, err, attest.CheckChain)
}

// published is what piv-go carries.
func published(t *testing.T) map[[32]byte]bool {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "github.com/go-piv/piv-go/v2").Output()
	if err != nil {
		t.Fatal(err)
	}
	certs := map[[32]byte]bool{}
	for _, name := range []string{"yubico-ca-certs.txt", "yubico-intermediate.pem"} {
		b, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(out)), "piv", "certs", name))
		if err != nil {
			t.Fatal(err)
		}
		for block, rest := pem.Decode(b); block != nil; block, rest = pem.Decode(rest) {
			certs[sha256.Sum256(block.Bytes)] = true
		}
	}
	return certs
}
