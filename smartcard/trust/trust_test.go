package trust_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/asn1"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"enrollkiosk/kiosk/secret"
	"enrollkiosk/simulators/idcard"
	"enrollkiosk/smartcard/lds"
	"enrollkiosk/smartcard/tlv"
	"enrollkiosk/smartcard/trust"
)

var challenge = [8]byte{1, 2, 3, 4, 5, 6, 7, 8}

var strict = trust.Options{ExpectedChallenge: &challenge, RequireChip: true, RequireActive: true, RefuseExpired: true}

// refused fails the test unless Verify refuses with the given check and reason.
func refused(t *testing.T, what string, doc lds.Document, anchors trust.Anchors, at time.Time, opts trust.Options, check trust.Check, reason error) trust.Report {
	t.Helper()
	h, report, err := trust.Verify(doc, anchors, at, opts)
	var e *trust.Error
	if h.Valid() || !errors.As(err, &e) || e.Check != check || !errors.Is(err, reason) {
		t.Errorf("%s: valid %v, %v, want %s: %v", what, h.Valid(), err, check, reason)
	}
	return report
}

func TestGoodDocument(t *testing.T) {
	s := newState()
	doc := s.issue(annaMRZ, 2, ecKey(elliptic.P256())).authenticated(challenge)
	h, report, err := trust.Verify(doc, s.anchors(trust.Test), now, strict)
	if err != nil || !h.Valid() {
		t.Fatal(err)
	}
	want := trust.Report{
		Hashes: trust.Passed, Signature: trust.Passed, Chain: trust.Passed, Revocation: trust.NotChecked,
		Structure: trust.Passed, CardSecurity: trust.NotChecked, ChipMapping: trust.NotChecked,
		ChipAuthentication: trust.Passed, ActiveAuthentication: trust.Passed, Validity: trust.Passed,
		Access: "PACE", Signer: report.Signer, Authority: report.Authority, Simulated: true,
	}
	if fmt.Sprint(report) != fmt.Sprint(want) || len(report.Signer) != 64 || len(report.Authority) != 64 {
		t.Errorf("report %+v", report)
	}
	if want := []trust.Proof{trust.ProofData, trust.ProofChipAuthentication, trust.ProofActive}; !slices.Equal(h.Proofs(), want) || h.Kind() != trust.EMRTD {
		t.Errorf("proofs %v of %q", h.Proofs(), h.Kind())
	}
	if !h.Simulated() {
		t.Error("a test anchor gives an unsimulated holder")
	}
	if string(h.MRZ().Primary.Reveal()) != "ERIKSSON" {
		t.Error("name is lost")
	}
	if face, err := h.Face(); err != nil || face.MIME != "image/jpeg" {
		t.Errorf("face: %v", err)
	}
	files := slices.Sorted(maps.Keys(h.Document().Files))
	if !slices.Equal(files, []lds.File{lds.DG1, lds.DG2, lds.DG14, lds.DG15, lds.EFSOD}) {
		t.Errorf("the holder vouches for %v", files)
	}
	if h, _, err := trust.Verify(doc, s.anchors(trust.Production), now, strict); err != nil || h.Simulated() {
		t.Errorf("production anchor: simulated, %v", err)
	}
}

// The kiosk verifies the card when it has been read, and again when the
// challenge bound to the record has been answered.
func TestTwoSteps(t *testing.T) {
	s := newState()
	c := s.issue(annaMRZ, 4, ecKey(elliptic.P256()))
	doc := c.doc
	doc.Chip = c.authenticateChip()
	h, report, err := trust.Verify(doc, s.anchors(trust.Test), now, trust.Options{RequireChip: true})
	if err != nil || report.ActiveAuthentication != trust.NotChecked {
		t.Fatalf("first step: %v, %+v", err, report)
	}
	doc = h.Document()
	doc.Active = c.authenticateActive(challenge)
	if _, report, err = trust.Verify(doc, s.anchors(trust.Test), now, strict); err != nil || report.ActiveAuthentication != trust.Passed {
		t.Fatalf("second step: %v, %+v", err, report)
	}
	if _, report, err = trust.Verify(doc, s.anchors(trust.Test), now, trust.Options{}); err != nil || !slices.Contains(report.Warnings, trust.WarnChallenge) {
		t.Errorf("no expected challenge: %v, %+v", err, report)
	}
}

func TestNobodyForgesAHolder(t *testing.T) {
	var h trust.Holder
	if h.Valid() || !h.Simulated() || h.Kind() != "" || h.Proofs() != nil || h.MRZ().Number.Len() != 0 || h.Document().Files != nil {
		t.Error("the zero holder says something")
	}
	if _, err := h.Face(); err == nil {
		t.Error("the zero holder has a face")
	}

	// Nobody alters one either, neither through what went in nor what comes out.
	s := newState()
	c := s.issue(annaMRZ, 2, ecKey(elliptic.P256()))
	doc := c.authenticated(challenge)
	h, _, err := trust.Verify(doc, s.anchors(trust.Test), now, strict)
	if err != nil {
		t.Fatal(err)
	}
	copy(doc.Files[lds.DG1][5:], "P<XXX")
	doc.Active.Signature[0] ^= 1
	out := h.Document()
	copy(out.Files[lds.DG1][5:], "P<XXX")
	out.Chip.TerminalKey.Wipe()
	copy(h.MRZ().Primary.Reveal(), "MALLORY")
	h.MRZ().Number.Wipe()
	if string(h.MRZ().Primary.Reveal()) != "ERIKSSON" {
		t.Error("a holder's name was changed")
	}
	if _, _, err := trust.Verify(h.Document(), s.anchors(trust.Test), now, strict); err != nil {
		t.Errorf("the holder's document was altered: %v", err)
	}
}

func TestHolderAndReportKeepTheSecret(t *testing.T) {
	s := newState()
	h, report, err := trust.Verify(s.issue(annaMRZ, 2, nil).doc, s.anchors(trust.Test), now, trust.Options{})
	if err != nil {
		t.Fatal(err)
	}
	type wrap struct {
		H trust.Holder
		h trust.Holder
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%q", "%d"} {
		for _, v := range []any{h, &h, wrap{h, h}, h.MRZ(), h.Document(), report} {
			out := fmt.Sprintf(verb, v)
			if strings.Contains(out, "ERIKSSON") || strings.Contains(out, fmt.Sprintf("%x", "ERIKSSON")) || strings.Contains(out, "D23145890") || strings.Contains(out, "69 82 73") {
				t.Errorf("%s of %T: %s", verb, v, out)
			}
		}
	}
	for _, v := range []any{h, wrap{H: h}, h.MRZ(), h.Document()} {
		if _, err := json.Marshal(v); !errors.Is(err, secret.ErrMarshal) {
			t.Errorf("%T marshals: %v", v, err)
		}
	}
	b, err := json.Marshal(report)
	if err != nil || !strings.Contains(string(b), `"chip_authentication":"not-checked"`) || !strings.Contains(string(b), `"active_authentication":"impossible"`) {
		t.Errorf("report: %s, %v", b, err)
	}
}

func TestAlgorithms(t *testing.T) {
	for _, c := range []struct {
		name         string
		csca, signer crypto.Signer
		digest       crypto.Hash
		cert         x509.SignatureAlgorithm
		pss          bool
	}{
		{"RSA, SHA-1", rsaKey(), rsaKey2(), crypto.SHA1, x509.SHA256WithRSA, false},
		{"RSA, SHA-224", rsaKey(), rsaKey2(), crypto.SHA224, x509.SHA256WithRSA, false},
		{"RSA, SHA-256", rsaKey(), rsaKey2(), crypto.SHA256, x509.SHA512WithRSA, false},
		{"RSA, SHA-512", rsaKey(), rsaKey2(), crypto.SHA512, x509.SHA384WithRSA, false},
		{"PSS, SHA-256", rsaKey(), rsaKey2(), crypto.SHA256, x509.SHA256WithRSAPSS, true},
		{"PSS, SHA-512", rsaKey(), rsaKey2(), crypto.SHA512, x509.SHA512WithRSAPSS, true},
		{"P-224, SHA-224", ecKey(elliptic.P256()), ecKey(elliptic.P224()), crypto.SHA224, x509.ECDSAWithSHA256, false},
		{"P-256, SHA-1", ecKey(elliptic.P256()), ecKey(elliptic.P256()), crypto.SHA1, x509.ECDSAWithSHA256, false},
		{"P-384, SHA-384", ecKey(elliptic.P384()), ecKey(elliptic.P384()), crypto.SHA384, x509.ECDSAWithSHA384, false},
		{"P-521, SHA-512", ecKey(elliptic.P521()), ecKey(elliptic.P521()), crypto.SHA512, x509.ECDSAWithSHA512, false},
		{"RSA over P-256", rsaKey(), ecKey(elliptic.P256()), crypto.SHA256, x509.SHA256WithRSA, false},
		{"SHA-1 certificate", ecKey(elliptic.P256()), ecKey(elliptic.P256()), crypto.SHA256, x509.ECDSAWithSHA1, false},
	} {
		s := newStateWith(c.csca, c.signer, c.digest, func(_, signer *x509.Certificate) { signer.SignatureAlgorithm = c.cert })
		s.pss = c.pss
		doc := s.issue(annaMRZ, 2, nil).authenticated(challenge)
		_, report, err := trust.Verify(doc, s.anchors(trust.Test), now, trust.Options{RequireChip: true})
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		if old := strings.Contains(c.name, "SHA-1"); old != slices.Contains(report.Warnings, trust.WarnSHA1) {
			t.Errorf("%s: warnings %v", c.name, report.Warnings)
		}
		// The same with one bit of the signature's end turned.
		sod := doc.Files[lds.EFSOD]
		sod[len(sod)-1] ^= 1
		refused(t, c.name, doc, s.anchors(trust.Test), now, trust.Options{}, trust.CheckSignature, trust.ErrSignature)
	}
}

func TestChipProtocols(t *testing.T) {
	s := newState()
	for suite := 1; suite <= 4; suite++ {
		doc := s.issue(annaMRZ, suite, nil).authenticated(challenge)
		if _, r, err := trust.Verify(doc, s.anchors(trust.Test), now, trust.Options{RequireChip: true}); err != nil || r.ChipAuthentication != trust.Passed {
			t.Errorf("Chip Authentication %d: %v", suite, err)
		}
	}
	for name, c := range map[string]struct {
		key     crypto.Signer
		hash    crypto.Hash
		trailer []byte
	}{
		"SHA-1": {rsaKey(), crypto.SHA1, []byte{0xBC}}, "SHA-1, explicit": {rsaKey(), crypto.SHA1, []byte{0x33, 0xCC}}, "SHA-224": {rsaKey(), crypto.SHA224, []byte{0x38, 0xCC}},
		"SHA-256": {rsaKey(), crypto.SHA256, []byte{0x34, 0xCC}}, "SHA-384": {rsaKey(), crypto.SHA384, []byte{0x36, 0xCC}}, "SHA-512": {rsaKey(), crypto.SHA512, []byte{0x35, 0xCC}},
	} {
		chip := s.issue(annaMRZ, 2, c.key)
		doc := chip.doc
		doc.Active = &lds.ActiveAuthentication{Challenge: challenge, Signature: iso9796(rsaKey(), c.hash, c.trailer, challenge)}
		if _, r, err := trust.Verify(doc, s.anchors(trust.Test), now, strict); err != nil || r.ActiveAuthentication != trust.Passed {
			t.Errorf("Active Authentication, RSA %s: %v", name, err)
		}
		// The other representative, n - s, is as good (ISO/IEC 9796-2 B.6).
		n := new(big.Int).Sub(rsaKey().N, new(big.Int).SetBytes(doc.Active.Signature))
		doc.Active.Signature = n.FillBytes(make([]byte, rsaKey().Size()))
		if _, _, err := trust.Verify(doc, s.anchors(trust.Test), now, strict); err != nil {
			t.Errorf("Active Authentication, RSA %s, n-s: %v", name, err)
		}
		doc.Active.Signature = iso9796(rsaKey2(), c.hash, c.trailer, challenge)
		refused(t, "another RSA key", doc, s.anchors(trust.Test), now, strict, trust.CheckActiveAuthentication, trust.ErrChip)
	}
	// Some chips answer in DER.
	key := ecKey(elliptic.P256())
	doc := s.issue(annaMRZ, 2, key).doc
	doc.Active = &lds.ActiveAuthentication{Challenge: challenge, Signature: must(key.Sign(rand.Reader, hashOf(crypto.SHA256, challenge[:]), crypto.SHA256))}
	if _, _, err := trust.Verify(doc, s.anchors(trust.Test), now, strict); err != nil {
		t.Errorf("Active Authentication, DER: %v", err)
	}
	// Without DG14 the curve names the hash.
	for curve, hash := range map[elliptic.Curve]crypto.Hash{elliptic.P224(): crypto.SHA224, elliptic.P256(): crypto.SHA256, elliptic.P384(): crypto.SHA384, elliptic.P521(): crypto.SHA512} {
		key := ecKey(curve)
		doc := s.issue(annaMRZ, 2, key).doc
		delete(doc.Files, lds.DG14)
		delete(doc.Files, lds.EFCOM)
		delete(doc.Files, lds.EFSOD)
		doc.Files[lds.EFSOD] = s.sod(doc.Files)
		doc.Active = &lds.ActiveAuthentication{Challenge: challenge, Signature: must(key.Sign(rand.Reader, hashOf(hash, challenge[:]), hash))}
		if _, _, err := trust.Verify(doc, s.anchors(trust.Test), now, strict); err != nil {
			t.Errorf("Active Authentication, %s without DG14: %v", curve.Params().Name, err)
		}
	}
}

func TestMissingFiles(t *testing.T) {
	s := newState()
	for _, f := range []lds.File{lds.DG1, lds.DG2, lds.EFSOD} {
		doc := s.issue(annaMRZ, 2, ecKey(elliptic.P256())).authenticated(challenge)
		delete(doc.Files, f)
		refused(t, f.String(), doc, s.anchors(trust.Test), now, strict, trust.CheckContent, trust.ErrMissing)
	}
	for f, check := range map[lds.File]trust.Check{lds.DG14: trust.CheckChipAuthentication, lds.DG15: trust.CheckActiveAuthentication} {
		doc := s.issue(annaMRZ, 2, ecKey(elliptic.P256())).authenticated(challenge)
		delete(doc.Files, f)
		refused(t, f.String(), doc, s.anchors(trust.Test), now, strict, check, trust.ErrMissing)
	}
	refused(t, "nothing", lds.Document{}, s.anchors(trust.Test), now, strict, trust.CheckContent, trust.ErrMissing)
	unlisted := lds.Document{Files: map[lds.File][]byte{lds.EFSOD: {0x77, 0}}} // what a reader has who found no list
	refused(t, "EF.SOD without a list", unlisted, s.anchors(trust.Test), now, strict, trust.CheckContent, trust.ErrMalformed)
}

func TestAuthorities(t *testing.T) {
	s := newState()
	doc := s.issue(annaMRZ, 2, nil).doc
	report := refused(t, "no anchors", doc, trust.Anchors{}, now, trust.Options{}, trust.CheckChain, trust.ErrUnknownAuthority)
	if report.Hashes != trust.Passed || report.Signature != trust.Passed || report.Chain != trust.Failed || report.ChipAuthentication != trust.NotChecked {
		t.Errorf("report %+v", report)
	}
	// An authority that calls itself like the real one, with another key.
	refused(t, "same name", doc, newState().anchors(trust.Test), now, trust.Options{}, trust.CheckChain, trust.ErrUnknownAuthority)
	// Among several of one name the signature chooses.
	twins := []trust.Anchor{{newState().csca, trust.Production}, {s.csca, trust.Test}, {newState().csca, trust.Production}}
	if h, _, err := trust.Verify(doc, must(trust.NewAnchors(twins)), now, trust.Options{}); err != nil || !h.Simulated() {
		t.Errorf("twins: %v", err)
	}

	for name, anchors := range map[string][]trust.Anchor{
		"class missing":    {{Certificate: s.csca}},
		"class unknown":    {{s.csca, "staging"}},
		"not an authority": {{s.signer, trust.Test}},
		"two classes":      {{s.csca, trust.Test}, {s.csca, trust.Production}},
		"critical extension": {{newState(func(csca, _ *x509.Certificate) {
			csca.ExtraExtensions = append(csca.ExtraExtensions, extension(asn1.ObjectIdentifier{1, 2, 3}, true))
		}).csca, trust.Test}},
	} {
		if _, err := trust.NewAnchors(anchors); !errors.Is(err, trust.ErrCertificate) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := trust.NewAnchors([]trust.Anchor{{[]byte("no certificate"), trust.Test}}); !errors.Is(err, trust.ErrMalformed) {
		t.Errorf("garbage: %v", err)
	}
}

func TestSignerCertificates(t *testing.T) {
	for name, c := range map[string]struct {
		edit   func(csca, signer *x509.Certificate)
		reason error
	}{
		"an authority signs documents": {func(_, s *x509.Certificate) { s.IsCA, s.BasicConstraintsValid = true, true }, trust.ErrCertificate},
		"no key usage":                 {func(_, s *x509.Certificate) { s.KeyUsage = 0 }, trust.ErrCertificate},
		"for encryption":               {func(_, s *x509.Certificate) { s.KeyUsage = x509.KeyUsageKeyEncipherment }, trust.ErrCertificate},
		"for master lists": {func(_, s *x509.Certificate) {
			s.UnknownExtKeyUsage = []asn1.ObjectIdentifier{{2, 23, 136, 1, 1, 3}}
		}, trust.ErrCertificate},
		"critical extension": {func(_, s *x509.Certificate) {
			s.ExtraExtensions = append(s.ExtraExtensions, extension(asn1.ObjectIdentifier{1, 2, 3}, true))
		}, trust.ErrCertificate},
		"other extension": {func(_, s *x509.Certificate) {
			s.ExtraExtensions = append(s.ExtraExtensions, extension(asn1.ObjectIdentifier{1, 2, 3}, false))
		}, nil},
		"another country":        {func(_, s *x509.Certificate) { s.Subject.Country = []string{"XX"} }, trust.ErrCertificate},
		"lower case country":     {func(_, s *x509.Certificate) { s.Subject.Country = []string{"ut"} }, nil},
		"not yet valid":          {func(_, s *x509.Certificate) { s.NotBefore = now.Add(time.Hour) }, trust.ErrSignerExpired},
		"expired":                {func(_, s *x509.Certificate) { s.NotAfter = now.Add(-time.Hour) }, trust.ErrSignerExpired},
		"authority expired":      {func(c, _ *x509.Certificate) { c.NotAfter = now.Add(-time.Hour) }, trust.ErrSignerExpired},
		"valid after signing":    {func(_, s *x509.Certificate) { s.NotBefore = now.AddDate(0, -1, 0) }, trust.ErrSignerExpired},
		"authority not yet then": {func(c, _ *x509.Certificate) { c.NotBefore = now.Add(time.Hour) }, trust.ErrSignerExpired},
	} {
		s := newState(c.edit)
		doc := s.issue(annaMRZ, 2, nil).doc
		if c.reason == nil {
			if _, _, err := trust.Verify(doc, s.anchors(trust.Test), now, trust.Options{}); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		refused(t, name, doc, s.anchors(trust.Test), now, trust.Options{}, trust.CheckChain, c.reason)
	}
	s := newState()
	s.signedAt = now.AddDate(0, 0, 1)
	refused(t, "signed tomorrow", s.issue(annaMRZ, 2, nil).doc, s.anchors(trust.Test), now, trust.Options{}, trust.CheckChain, trust.ErrSignerExpired)
}

// Doc 9303-12 has ECDSA certificates spell their curve out.
func TestExplicitCurve(t *testing.T) {
	params := elliptic.P256().Params()
	explicit := func(p elliptic.CurveParams) []byte {
		a := new(big.Int).Sub(p.P, big.NewInt(3))
		point := append([]byte{4}, append(p.Gx.FillBytes(make([]byte, 32)), p.Gy.FillBytes(make([]byte, 32))...)...)
		return seq(der(1), seq(der(asn1.ObjectIdentifier{1, 2, 840, 10045, 1, 1}), der(p.P)),
			seq(der(a.FillBytes(make([]byte, 32))), der(p.B.FillBytes(make([]byte, 32)))), der(point), der(p.N), der(1))
	}
	spell := func(cert []byte, key *ecdsa.PrivateKey, parameters []byte) []byte {
		parsed := must(x509.ParseCertificate(cert))
		nodes := must(must(tlv.ParseOne(cert, 0x30)).Children())
		public := must(must(tlv.ParseOne(parsed.RawSubjectPublicKeyInfo, 0x30)).Children())
		spki := seq(seq(der(asn1.ObjectIdentifier{1, 2, 840, 10045, 2, 1}), parameters), public[1].Raw)
		tbs := seq(bytes.Replace(nodes[0].Value, parsed.RawSubjectPublicKeyInfo, spki, 1))
		signature := must(key.Sign(rand.Reader, hashOf(crypto.SHA256, tbs), crypto.SHA256))
		return seq(tbs, nodes[1].Raw, der(asn1.BitString{Bytes: signature, BitLength: 8 * len(signature)}))
	}
	s := newState()
	parent := s.cscaKey.(*ecdsa.PrivateKey)
	good := s.signer
	s.signer = spell(good, parent, explicit(*params))
	if _, _, err := trust.Verify(s.issue(annaMRZ, 2, nil).doc, s.anchors(trust.Test), now, trust.Options{}); err != nil {
		t.Errorf("explicit P-256: %v", err)
	}
	// The base point is a parameter too: with another one anyone knows a private key.
	forged := *params
	forged.Gx, forged.Gy = s.signerKey.(*ecdsa.PrivateKey).X, s.signerKey.(*ecdsa.PrivateKey).Y
	s.signer = spell(good, parent, explicit(forged))
	refused(t, "base point of one's own", s.issue(annaMRZ, 2, nil).doc, s.anchors(trust.Test), now, trust.Options{}, trust.CheckSignature, trust.ErrUnsupported)
}

func TestRevocation(t *testing.T) {
	s := newState()
	doc := s.issue(annaMRZ, 2, nil).doc
	list := func(s *state, edit func(*x509.RevocationList)) []byte {
		l := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: now.AddDate(0, -1, 0), NextUpdate: now.AddDate(0, 1, 0)}
		edit(l)
		return must(x509.CreateRevocationList(rand.Reader, l, must(x509.ParseCertificate(s.csca)), s.cscaKey))
	}
	revoke := func(serial int64) func(*x509.RevocationList) {
		return func(l *x509.RevocationList) {
			l.RevokedCertificateEntries = []x509.RevocationListEntry{{SerialNumber: big.NewInt(serial), RevocationTime: now}}
		}
	}
	_, r, err := trust.Verify(doc, s.anchors(trust.Test, list(s, revoke(1))), now, trust.Options{})
	if err != nil || r.Revocation != trust.Passed {
		t.Errorf("another signer is revoked: %v, %v", r.Revocation, err)
	}
	r = refused(t, "revoked", doc, s.anchors(trust.Test, list(s, revoke(4711))), now, trust.Options{}, trust.CheckRevocation, trust.ErrRevoked)
	if r.Revocation != trust.Failed || r.Chain != trust.Passed {
		t.Errorf("report %+v", r)
	}
	_, r, err = trust.Verify(doc, s.anchors(trust.Test, list(s, revoke(1))), now.AddDate(0, 2, 0), trust.Options{})
	if err != nil || !slices.Contains(r.Warnings, trust.WarnRevocationListStale) {
		t.Errorf("stale list: %v, %v", r.Warnings, err)
	}
	// Nobody else's list counts, nor one that says it is partial, nor that of an
	// authority that may not sign lists.
	other := newState()
	noLists := newStateWith(s.cscaKey, s.signerKey, crypto.SHA256, func(csca, _ *x509.Certificate) { csca.KeyUsage = x509.KeyUsageCertSign }).csca
	if _, err := trust.NewAnchors([]trust.Anchor{{noLists, trust.Test}}, list(s, revoke(1))); !errors.Is(err, trust.ErrUnknownAuthority) {
		t.Errorf("authority that may not sign lists: %v", err)
	}
	for name, c := range map[string]struct {
		crl    []byte
		reason error
	}{
		"foreign": {list(other, revoke(1)), trust.ErrUnknownAuthority},
		"garbage": {[]byte("x"), trust.ErrMalformed},
		"delta": {list(s, func(l *x509.RevocationList) {
			l.ExtraExtensions = append(l.ExtraExtensions, extension(asn1.ObjectIdentifier{2, 5, 29, 27}, true))
		}), trust.ErrUnsupported},
	} {
		if _, err := trust.NewAnchors([]trust.Anchor{{s.csca, trust.Test}}, c.crl); !errors.Is(err, c.reason) {
			t.Errorf("%s list: %v", name, err)
		}
	}
}

func TestExpiry(t *testing.T) {
	s := newState(func(csca, signer *x509.Certificate) {
		csca.NotAfter, signer.NotAfter = now.AddDate(6, 0, 0), now.AddDate(6, 0, 0) // a little after 2032-04-15
	})
	doc := s.issue(annaMRZ, 2, nil).doc
	last := time.Date(2032, 4, 15, 23, 59, 59, 0, time.UTC)
	lax, refuse := trust.Options{}, trust.Options{RefuseExpired: true}
	if _, r, err := trust.Verify(doc, s.anchors(trust.Test), last, refuse); err != nil || r.Validity != trust.Passed {
		t.Errorf("last second: %v, %v", r.Validity, err)
	}
	if _, r, err := trust.Verify(doc, s.anchors(trust.Test), last.Add(time.Second), lax); err != nil || r.Validity != trust.Failed {
		t.Errorf("expired, tolerated: %v, %v", r.Validity, err)
	}
	refused(t, "expired", doc, s.anchors(trust.Test), last.Add(time.Second), refuse, trust.CheckValidity, trust.ErrExpired)
	// Years later the certificates are judged on the document's last day.
	if _, r, err := trust.Verify(doc, s.anchors(trust.Test), last.AddDate(9, 0, 0), lax); err != nil || r.Chain != trust.Passed || r.Validity != trust.Failed {
		t.Errorf("long expired: %+v, %v", r, err)
	}
}

func TestWarnings(t *testing.T) {
	s := newState()
	verify := func(c *chip) trust.Report {
		_, r, err := trust.Verify(c.doc, s.anchors(trust.Test), now, trust.Options{})
		if err != nil {
			t.Error(err)
		}
		return r
	}
	resign := func(c *chip) {
		delete(c.doc.Files, lds.EFSOD)
		c.doc.Files[lds.EFSOD] = s.sod(c.doc.Files)
	}
	expect := func(r trust.Report, want ...trust.Warning) {
		t.Helper()
		if !slices.Equal(r.Warnings, want) {
			t.Errorf("warnings %v, want %v", r.Warnings, want)
		}
	}
	expect(verify(s.issue(annaMRZ, 2, nil)))

	// A genuine document stays genuine when this program cannot show all of it.
	c := s.issue(annaMRZ, 2, nil)
	c.doc.Files[lds.DG2] = bytes.ReplaceAll(c.doc.Files[lds.DG2], []byte{0xFF, 0xD8, 0xFF}, []byte("GIF"))
	resign(c)
	expect(verify(c), trust.WarnFaceUnreadable)
	h, _, _ := trust.Verify(c.doc, s.anchors(trust.Test), now, trust.Options{})
	if _, err := h.Face(); !errors.Is(err, lds.ErrUnsupported) {
		t.Errorf("face in another format: %v", err)
	}
	// Its issuer's slips are another thing.
	c = s.issue(strings.Replace(annaMRZ, "<<2ERIK", "<<9ERIK", 1), 2, nil)
	r := refused(t, "check digit", c.doc, s.anchors(trust.Test), now, trust.Options{}, trust.CheckStructure, lds.ErrCheckDigit)
	if r.Hashes != trust.Passed || r.Signature != trust.Passed || r.Chain != trust.Passed || r.Structure != trust.Failed {
		t.Errorf("report %+v", r)
	}

	expect(verify(s.issue(strings.Replace(annaMRZ, "I<UTO", "I<FRA", 1), 2, nil)), trust.WarnIssuer)
	expect(verify(s.issue(strings.Replace(annaMRZ, "I<UTO", "I<ZZZ", 1), 2, nil))) // a code without a known country

	c = s.issue(annaMRZ, 2, nil)
	c.doc.Files[lds.EFCardAccess] = tlv.Encode(0x31, seq(der(oid(lds.OIDPACEECDHGM, 1)), der(2), der(12)))
	expect(verify(c), trust.WarnCardAccess)
	c = s.issue(annaMRZ, 2, nil)
	c.doc.Access = "BAC"
	expect(verify(c), trust.WarnPACENotUsed)

	c = s.issue(idcard.CheckDigits(strings.Replace(annaMRZ, "3204153", "<<<<<<0", 1)), 2, nil)
	r = verify(c)
	if r.Validity != trust.NotChecked || !slices.Contains(r.Warnings, trust.WarnNoExpiry) {
		t.Errorf("no expiry: %+v", r)
	}
}
