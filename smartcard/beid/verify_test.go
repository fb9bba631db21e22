package beid_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"errors"
	"maps"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	simulated "enrollkiosk/simulators/beid"
	"enrollkiosk/smartcard/beid"
)

var challenge = [32]byte([]byte("a challenge of thirty-two bytes!"))

func roots(t testing.TB, g simulated.Generation) beid.Roots {
	t.Helper()
	r, err := beid.NewRoots(beid.Root{Certificate: issuer(t, g).Root(), Class: beid.Test})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// proven reads a card and, if it can, has it prove itself.
func proven(t testing.TB, card *simulated.Card) beid.Document {
	t.Helper()
	doc := read(t, card.Direct())
	e, err := beid.AuthenticateChip(t.Context(), card.Direct(), challenge)
	if err != nil && !errors.Is(err, beid.ErrNoBasicKey) {
		t.Fatal(err)
	}
	doc.Chip = e
	return doc
}

func TestVerify(t *testing.T) {
	for _, g := range generations {
		doc := proven(t, newCard(t, g))
		doc.Files[beid.RootCertificate] = []byte("nobody vouches for this")
		opts := beid.Options{ExpectedChallenge: &challenge, RequireChip: g == simulated.Applet18, RefuseExpired: true}
		h, report, err := beid.Verify(doc, roots(t, g), time.Now(), opts)
		if err != nil {
			t.Fatalf("applet %s: %v", g, err)
		}
		want := beid.Report{IdentitySignature: beid.Passed, AddressSignature: beid.Passed, Chain: beid.Passed, PhotoHash: beid.Passed,
			Chip: beid.Impossible, Validity: beid.Passed, Signer: report.Signer, Authority: report.Authority, Simulated: true}
		switch g {
		case simulated.Applet11:
			want.Warnings = []beid.Warning{beid.WarnSHA1, beid.WarnWeakKey, beid.WarnChip}
		case simulated.Applet17:
			want.Warnings = []beid.Warning{beid.WarnChip}
		case simulated.Applet18:
			want.Chip = beid.Passed
		}
		got, _ := json.Marshal(report)
		if expected, _ := json.Marshal(want); !bytes.Equal(got, expected) {
			t.Errorf("applet %s: report %s, want %s", g, got, expected)
		}
		if len(report.Signer) != 64 || len(report.Authority) != 64 || report.Signer == report.Authority {
			t.Errorf("thumbprints %s and %s", report.Signer, report.Authority)
		}
		p := simulated.Specimen()
		id, a := h.Identity(), h.Address()
		if !h.Valid() || !h.Simulated() || !is(id.Surname, p.Surname) || !is(id.FirstNames, p.FirstNames) || !is(id.NationalNumber, p.NationalNumber) ||
			id.Sex != beid.Female || !id.ValidUntil.Equal(p.ValidUntil) || !is(a.Street, p.Street) || !is(a.Zip, p.Zip) || !is(a.Town, p.Town) {
			t.Errorf("applet %s: holder differs from the person", g)
		}
		if !bytes.Equal(h.Photo(), doc.Files[beid.PhotoFile]) {
			t.Errorf("applet %s: another photo", g)
		}
		kept := h.Document()
		if kept.Files[beid.RootCertificate] != nil || kept.Files[beid.IdentityFile] == nil {
			t.Errorf("applet %s: kept %v", g, slices.Collect(maps.Keys(kept.Files)))
		}
		// What was verified can be verified again, and nobody can alter it.
		clear(kept.Files[beid.PhotoFile])
		h.Photo()[0] ^= 1
		if _, _, err := beid.Verify(h.Document(), roots(t, g), time.Now(), opts); err != nil {
			t.Errorf("applet %s: again: %v", g, err)
		}
	}
}

func TestVerifyFaults(t *testing.T) {
	for fault, want := range map[simulated.Fault]struct {
		check beid.Check
		err   error
	}{
		simulated.AlteredIdentity:  {beid.CheckIdentitySignature, beid.ErrSignature},
		simulated.AlteredAddress:   {beid.CheckAddressSignature, beid.ErrSignature},
		simulated.AlteredPhoto:     {beid.CheckPhotoHash, beid.ErrHash},
		simulated.SwappedSignature: {beid.CheckIdentitySignature, beid.ErrSignature},
		simulated.ForeignAddress:   {beid.CheckAddressSignature, beid.ErrSignature},
		simulated.ForeignPhoto:     {beid.CheckPhotoHash, beid.ErrHash},
		simulated.SelfMadeSigner:   {beid.CheckChain, beid.ErrSignature},
		simulated.CitizenSigner:    {beid.CheckChain, beid.ErrUnknownAuthority},
		simulated.Clone:            {beid.CheckChip, beid.ErrChip},
		simulated.Expired:          {beid.CheckValidity, beid.ErrExpired},
		simulated.TruncatedFile:    {beid.CheckIdentitySignature, beid.ErrSignature},
	} {
		for _, g := range generations {
			if fault == simulated.Clone && g != simulated.Applet18 {
				continue
			}
			doc := proven(t, newCard(t, g, fault))
			h, report, err := beid.Verify(doc, roots(t, g), time.Now(), beid.Options{RefuseExpired: true})
			var failed *beid.Error
			if h.Valid() || !errors.As(err, &failed) || failed.Check != want.check || !errors.Is(err, want.err) {
				t.Errorf("%s, applet %s: valid %v, %v; want %s: %v", fault, g, h.Valid(), err, want.check, want.err)
			}
			if fault == simulated.CitizenSigner && report.IdentitySignature != beid.Passed {
				t.Errorf("the citizen's signature should verify: %+v", report)
			}
		}
	}
}

// An expired card is told apart, and refused only where the policy says so.
func TestValidity(t *testing.T) {
	g := simulated.Applet17
	doc := read(t, newCard(t, g, simulated.Expired).Direct())
	h, report, err := beid.Verify(doc, roots(t, g), time.Now(), beid.Options{})
	if err != nil || !h.Valid() || report.Validity != beid.Failed {
		t.Errorf("%v, %+v", err, report)
	}
	last := h.Identity().ValidUntil
	for name, test := range map[string]struct {
		at   time.Time
		want error
	}{
		"last second":  {last.AddDate(0, 0, 1).Add(-time.Second), nil},
		"a second on":  {last.AddDate(0, 0, 1), beid.ErrExpired},
		"before":       {h.Identity().ValidFrom.Add(-time.Second), beid.ErrNotYetValid},
		"long after":   {last.AddDate(60, 0, 0), beid.ErrExpired},        // the certificates counted on the last day
		"long before":  {last.AddDate(-20, 0, 0), beid.ErrSignerExpired}, // no certificate yet
		"zero instant": {time.Time{}, beid.ErrSignerExpired},
	} {
		if _, _, err := beid.Verify(doc, roots(t, g), test.at, beid.Options{RefuseExpired: true}); !errors.Is(err, test.want) {
			t.Errorf("%s: %v, want %v", name, err, test.want)
		}
	}
}

// Whatever bit of whatever is signed is altered, nobody gets a holder.
func TestNoMutantIsGenuine(t *testing.T) {
	for _, g := range []simulated.Generation{simulated.Applet17, simulated.Applet18} {
		doc, trust := proven(t, newCard(t, g)), roots(t, g)
		opts := beid.Options{ExpectedChallenge: &challenge}
		if _, _, err := beid.Verify(doc, trust, time.Now(), opts); err != nil {
			t.Fatal(err)
		}
		mutants := 0
		try := func(what string, at int) {
			mutants++
			if h, _, err := beid.Verify(doc, trust, time.Now(), opts); err == nil || h.Valid() {
				t.Errorf("applet %s: %s altered at %d is genuine", g, what, at)
			}
		}
		for f, content := range doc.Files {
			step := 1
			switch {
			case f == beid.PhotoFile && g == simulated.Applet18:
				step = 61 // its hash is the same code, the signatures beside it are slow
			case g == simulated.Applet18:
				step = stride
			}
			for i := 0; i < len(content); i += step {
				content[i] ^= 1 << (i % 8)
				try(f.String(), i)
				content[i] ^= 1 << (i % 8)
			}
			// Filling carries nothing: a file without the last zero is the same.
			for _, altered := range [][]byte{content[:len(bytes.TrimRight(content, "\x00"))-1], append(slices.Clone(content), 0x2A), nil} {
				doc.Files[f] = altered
				try(f.String()+"'s length", len(altered))
			}
			doc.Files[f] = content
		}
		if doc.Chip != nil {
			for i := 0; i < len(doc.Chip.Signature); i += stride {
				doc.Chip.Signature[i] ^= 1 << (i % 8)
				try("chip's signature", i)
				doc.Chip.Signature[i] ^= 1 << (i % 8)
			}
			for i := 0; i < len(doc.Chip.Challenge); i += stride {
				doc.Chip.Challenge[i] ^= 1 << (i % 8)
				try("challenge", i)
				doc.Chip.Challenge[i] ^= 1 << (i % 8)
			}
		}
		t.Logf("applet %s: %d mutants", g, mutants)
		if _, _, err := beid.Verify(doc, trust, time.Now(), opts); err != nil {
			t.Errorf("the original no longer verifies: %v", err)
		}
	}
}

// Every exchange of files between two genuine cards is found out, but for the
// one that changes nothing: the certificate is the same on both.
func TestNothingFitsAnotherCard(t *testing.T) {
	for _, g := range generations {
		mine := read(t, newCard(t, g).Direct())
		card, err := issuer(t, g).Personalise(simulated.Options{Person: simulated.OtherSpecimen()})
		if err != nil {
			t.Fatal(err)
		}
		theirs := read(t, card.Direct())
		files := []beid.File{beid.IdentityFile, beid.IdentitySignature, beid.AddressFile, beid.AddressSignature, beid.PhotoFile}
		for mask := 1; mask < 1<<len(files)-1; mask++ {
			doc := beid.Document{Files: maps.Clone(mine.Files)}
			for i, f := range files {
				if mask>>i&1 != 0 {
					doc.Files[f] = theirs.Files[f]
				}
			}
			if h, _, err := beid.Verify(doc, roots(t, g), time.Now(), beid.Options{}); err == nil || h.Valid() {
				t.Errorf("applet %s: mixture %05b is genuine", g, mask)
			}
		}
	}
}

// The address is signed by the same key as the identity: its signed bytes must
// not pass for an identity.
func TestAddressIsNoIdentity(t *testing.T) {
	g := simulated.Applet17
	doc := read(t, newCard(t, g).Direct())
	doc.Files[beid.IdentityFile] = slices.Concat(bytes.TrimRight(doc.Files[beid.AddressFile], "\x00"), doc.Files[beid.IdentitySignature])
	doc.Files[beid.IdentitySignature] = doc.Files[beid.AddressSignature]
	h, report, err := beid.Verify(doc, roots(t, g), time.Now(), beid.Options{PhotoWithheld: true})
	if err == nil || h.Valid() || report.IdentitySignature != beid.Passed || report.AddressSignature != beid.Failed {
		t.Errorf("%v, %+v", err, report)
	}
}

func TestChipEvidence(t *testing.T) {
	g := simulated.Applet18
	genuine, trust := proven(t, newCard(t, g)), roots(t, g)
	other := [32]byte{1}
	older := proven(t, newCard(t, simulated.Applet17))
	olderTrust := roots(t, simulated.Applet17)
	with := func(d beid.Document, e *beid.ChipAuthentication) beid.Document {
		return beid.Document{Files: d.Files, Chip: e}
	}
	// A cloner may well have a key of his own, but the identity names another.
	own, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	exchanged := beid.Document{Files: maps.Clone(genuine.Files), Chip: &beid.ChipAuthentication{Challenge: challenge}}
	if exchanged.Files[beid.BasicKey], err = x509.MarshalPKIXPublicKey(own.Public()); err != nil {
		t.Fatal(err)
	}
	digest := sha512.Sum384(challenge[:])
	r, s, err := ecdsa.Sign(rand.Reader, own, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	r.FillBytes(exchanged.Chip.Signature[:48])
	s.FillBytes(exchanged.Chip.Signature[48:])
	without := beid.Document{Files: maps.Clone(genuine.Files), Chip: genuine.Chip}
	delete(without.Files, beid.BasicKey)
	for name, test := range map[string]struct {
		doc     beid.Document
		roots   beid.Roots
		opts    beid.Options
		want    error
		verdict beid.Verdict
		warning beid.Warning
	}{
		"proven":                {genuine, trust, beid.Options{ExpectedChallenge: &challenge, RequireChip: true}, nil, beid.Passed, ""},
		"no challenge expected": {genuine, trust, beid.Options{}, nil, beid.Passed, beid.WarnChallenge},
		"replayed":              {genuine, trust, beid.Options{ExpectedChallenge: &other}, beid.ErrChip, beid.Failed, ""},
		"not run":               {with(genuine, nil), trust, beid.Options{}, nil, beid.NotChecked, beid.WarnChip},
		"not run, required":     {with(genuine, nil), trust, beid.Options{RequireChip: true}, beid.ErrChip, beid.NotChecked, ""},
		"key left out":          {without, trust, beid.Options{}, beid.ErrMissing, beid.Failed, ""},
		"key exchanged":         {exchanged, trust, beid.Options{ExpectedChallenge: &challenge}, beid.ErrHash, beid.Failed, ""},
		"older":                 {older, olderTrust, beid.Options{}, nil, beid.Impossible, beid.WarnChip},
		"older, required":       {older, olderTrust, beid.Options{RequireChip: true}, beid.ErrNoBasicKey, beid.Impossible, ""},
		"older with evidence":   {with(older, genuine.Chip), olderTrust, beid.Options{}, beid.ErrChip, beid.Failed, ""},
		"empty evidence":        {with(genuine, &beid.ChipAuthentication{}), trust, beid.Options{}, beid.ErrChip, beid.Failed, ""},
	} {
		h, report, err := beid.Verify(test.doc, test.roots, time.Now(), test.opts)
		if !errors.Is(err, test.want) || h.Valid() != (test.want == nil) || report.Chip != test.verdict {
			t.Errorf("%s: %v, %s", name, err, report.Chip)
		}
		if test.warning != "" && !slices.Contains(report.Warnings, test.warning) {
			t.Errorf("%s: warnings %v", name, report.Warnings)
		}
	}
}

// A basic key file that the identity does not name is not handed out as verified.
func TestForeignBasicKeyIsDropped(t *testing.T) {
	doc := read(t, newCard(t, simulated.Applet18).Direct())
	doc.Files[beid.BasicKey][5] ^= 1
	h, _, err := beid.Verify(doc, roots(t, simulated.Applet18), time.Now(), beid.Options{})
	if err != nil || h.Document().Files[beid.BasicKey] != nil {
		t.Errorf("%v, key kept %v", err, h.Document().Files[beid.BasicKey] != nil)
	}
}

func TestPhotoWithheld(t *testing.T) {
	g := simulated.Applet17
	doc := read(t, newCard(t, g).Direct())
	delete(doc.Files, beid.PhotoFile)
	if _, _, err := beid.Verify(doc, roots(t, g), time.Now(), beid.Options{}); !errors.Is(err, beid.ErrMissing) {
		t.Errorf("without a photo: %v", err)
	}
	h, report, err := beid.Verify(doc, roots(t, g), time.Now(), beid.Options{PhotoWithheld: true})
	if err != nil || report.PhotoHash != beid.NotChecked || h.Photo() != nil {
		t.Errorf("withheld: %v, %+v", err, report)
	}
}

func TestZeroHolder(t *testing.T) {
	var h beid.Holder
	id, a := h.Identity(), h.Address()
	if h.Valid() || !h.Simulated() || h.Photo() != nil || len(h.Document().Files) > 0 || id.Surname.Len() > 0 || a.Street.Len() > 0 || h.Report().Chain != "" {
		t.Error("the zero holder holds something")
	}
}

// An error or a report names files and checks, never the person.
func TestErrorsHoldNoPersonalData(t *testing.T) {
	p := simulated.Specimen()
	for _, f := range simulated.Faults() {
		if f == simulated.Hang {
			continue
		}
		doc, err := beid.Read(t.Context(), newCard(t, simulated.Applet18, f).Direct(), nil, nil)
		_, report, verifyErr := beid.Verify(doc, roots(t, simulated.Applet18), time.Now(), beid.Options{})
		b, _ := json.Marshal(report)
		for _, text := range []string{string(b), errorText(err), errorText(verifyErr)} {
			for _, private := range []string{p.Surname, p.NationalNumber, p.Street, p.CardNumber, p.FirstNames} {
				if strings.Contains(text, private) {
					t.Errorf("%s: %s", f, text)
				}
			}
		}
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestRoots(t *testing.T) {
	root := issuer(t, simulated.Applet17).Root()
	doc := read(t, newCard(t, simulated.Applet17).Direct())
	if _, report, err := beid.Verify(doc, beid.Roots{}, time.Now(), beid.Options{}); !errors.Is(err, beid.ErrUnknownAuthority) || report.IdentitySignature != beid.Passed {
		t.Errorf("nobody trusted: %v", err)
	}
	production, err := beid.NewRoots(beid.Root{Certificate: root, Class: beid.Production}, beid.Root{Certificate: issuer(t, simulated.Applet18).Root(), Class: beid.Test})
	if err != nil {
		t.Fatal(err)
	}
	if h, report, err := beid.Verify(doc, production, time.Now(), beid.Options{}); err != nil || report.Simulated || h.Simulated() {
		t.Errorf("production: %v, %+v", err, report)
	}
	for name, bad := range map[string][]beid.Root{
		"not a certificate":  {{Certificate: []byte{0x30, 0}, Class: beid.Test}},
		"no class":           {{Certificate: root}},
		"two classes":        {{Certificate: root, Class: beid.Test}, {Certificate: root, Class: beid.Production}},
		"signer, not a root": {{Certificate: doc.Files[beid.RegisterCertificate], Class: beid.Test}},
	} {
		if _, err := beid.NewRoots(bad...); err == nil || !errors.Is(err, beid.ErrMalformed) && !errors.Is(err, beid.ErrCertificate) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A certificate under the root serves only if it is the National Register's.
func TestSignerCertificates(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	ca := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Belgium Root CA"}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign, BasicConstraintsValid: true, IsCA: true}
	rootDER, err := x509.CreateCertificate(rand.Reader, ca, ca, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	trust, err := beid.NewRoots(beid.Root{Certificate: rootDER, Class: beid.Test})
	if err != nil {
		t.Fatal(err)
	}
	good := read(t, newCard(t, simulated.Applet17).Direct())
	register, err := x509.ParseCertificate(good.Files[beid.RegisterCertificate])
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		alter func(*x509.Certificate)
		want  error
	}{
		"as it should be": {func(*x509.Certificate) {}, nil},
		"an authority":    {func(c *x509.Certificate) { c.IsCA = true }, beid.ErrCertificate},
		"another name":    {func(c *x509.Certificate) { c.Subject.CommonName = "Belgium OCSP Responder" }, beid.ErrCertificate},
		"another country": {func(c *x509.Certificate) { c.Subject.Country = []string{"NL"} }, beid.ErrCertificate},
		"another usage":   {func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyEncipherment }, beid.ErrCertificate},
		"critical": {func(c *x509.Certificate) {
			c.ExtraExtensions = []pkix.Extension{{Id: []int{1, 2, 3, 4}, Critical: true, Value: []byte{5, 0}}}
		}, beid.ErrCertificate},
		"expired": {func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }, beid.ErrSignerExpired},
	} {
		c := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "RRN", Country: []string{"BE"}}, NotBefore: time.Now().Add(-time.Hour),
			NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageDigitalSignature, BasicConstraintsValid: true}
		test.alter(c)
		der, err := x509.CreateCertificate(rand.Reader, c, ca, register.PublicKey, key)
		if err != nil {
			t.Fatal(err)
		}
		doc := beid.Document{Files: maps.Clone(good.Files)}
		doc.Files[beid.RegisterCertificate] = der
		if _, report, err := beid.Verify(doc, trust, time.Now(), beid.Options{}); !errors.Is(err, test.want) || report.IdentitySignature != beid.Passed {
			t.Errorf("%s: %v, want %v", name, err, test.want)
		}
	}
}
