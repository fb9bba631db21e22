package trust_test

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"math/big"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"enrollkiosk/smartcard/lds"
	"enrollkiosk/smartcard/tlv"
	"enrollkiosk/smartcard/trust"
)

// germanCSCA is the SHA-256 of the German CSCA certificate that vouches for the
// signer of the list of 2026-05-28.
const germanCSCA = "2084aed7a991b3158e63ad750d3dc38bc6c9dcf5958f28d1162f49884e91ada8"

func germanList(t testing.TB) []byte {
	t.Helper()
	file, err := os.ReadFile("testdata/DE_ML_2026-05-28.ml")
	if err != nil {
		t.Fatal(err)
	}
	return file
}

func TestGermanMasterList(t *testing.T) {
	file := germanList(t)
	at := time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)
	root := [32]byte(must(hex.DecodeString(germanCSCA)))
	list, err := trust.ParseMasterList(file, trust.Anchors{}, at, root)
	if err != nil {
		t.Fatal(err)
	}
	if list.Country != "DE" || list.Authority != germanCSCA || list.Signed.Format(time.DateOnly) != "2026-05-28" || len(list.Certificates) != 588 {
		t.Errorf("of %s under %s, signed %v, %d certificates", list.Country, list.Authority, list.Signed, len(list.Certificates))
	}
	countries := make(map[string]bool)
	var anchors []trust.Anchor
	var roots []trust.Anchor
	for i, c := range list.Certificates {
		// Every certificate can be read and every key used. Nine say of themselves
		// that they are no authority's.
		if c.Err != nil && !strings.HasSuffix(c.Err.Error(), "not a certificate authority") {
			t.Errorf("certificate %d of %s: %v", i, c.Country, c.Err)
		}
		if c.Err == nil {
			anchors = append(anchors, trust.Anchor{Certificate: c.Certificate, Class: trust.Production})
		}
		countries[c.Country] = true
		if c.Thumbprint == germanCSCA {
			roots = []trust.Anchor{{Certificate: c.Certificate, Class: trust.Production}}
		}
	}
	if len(anchors) != 579 || len(countries) != 112 || countries[""] {
		t.Errorf("%d anchors of %d states", len(anchors), len(countries))
	}
	if _, err := trust.NewAnchors(anchors); err != nil {
		t.Error(err)
	}
	// With the root known no certificate needs to be pinned.
	if _, err := trust.ParseMasterList(file, must(trust.NewAnchors(roots)), at); err != nil {
		t.Error(err)
	}
	for name, c := range map[string]struct {
		roots  trust.Anchors
		at     time.Time
		pinned [][32]byte
		reason error
	}{
		"nobody trusted":    {trust.Anchors{}, at, nil, trust.ErrUnknownAuthority},
		"another pinned":    {trust.Anchors{}, at, [][32]byte{sha256.Sum256(list.Certificates[0].Certificate)}, trust.ErrUnknownAuthority},
		"the signer pinned": {trust.Anchors{}, at, [][32]byte{[32]byte(must(hex.DecodeString(list.Signer)))}, trust.ErrCertificate},
		"before it":         {must(trust.NewAnchors(roots)), at.AddDate(-1, 0, 0), nil, trust.ErrSignerExpired},
	} {
		if _, err := trust.ParseMasterList(file, c.roots, c.at, c.pinned...); !errors.Is(err, c.reason) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for at := 7; at < len(file); at += len(file) / 40 {
		file[at] ^= 0x20
		if _, err := trust.ParseMasterList(file, trust.Anchors{}, list.Signed.AddDate(0, 0, 1), root); err == nil {
			t.Errorf("byte %d altered", at)
		}
		file[at] ^= 0x20
	}
}

// masterList signs a list as a state does.
func (s *state) masterList(content []byte) []byte {
	b := s.sign(lds.OIDMasterList, content, lds.OIDMasterList)
	_, header, _, err := tlv.Header(b)
	must(0, err)
	return b[header:]
}

func listOf(certificates ...[]byte) []byte { return seq(der(0), tlv.Encode(0x31, certificates...)) }

func forLists(_, signer *x509.Certificate) {
	signer.UnknownExtKeyUsage = []asn1.ObjectIdentifier{{2, 23, 136, 1, 1, 3}}
}

func TestMasterListSigners(t *testing.T) {
	s, other := newState(forLists), newState()
	good := s.masterList(listOf(s.csca, other.csca, []byte{5, 0}))
	list, err := trust.ParseMasterList(good, s.anchors(trust.Test), now)
	if err != nil || len(list.Certificates) != 3 || list.Certificates[0].Err != nil || !errors.Is(list.Certificates[2].Err, trust.ErrMalformed) {
		t.Fatalf("%+v, %v", list, err)
	}
	documents := *s
	documents.signer = newStateWith(s.cscaKey, s.signerKey, s.digest).signer
	if _, err := trust.ParseMasterList(documents.masterList(listOf(s.csca)), s.anchors(trust.Test), now); !errors.Is(err, trust.ErrCertificate) {
		t.Errorf("signed by a signer of documents: %v", err)
	}
	if _, err := trust.ParseMasterList(good, other.anchors(trust.Test), now); !errors.Is(err, trust.ErrUnknownAuthority) {
		t.Errorf("another state: %v", err)
	}
	if _, err := trust.ParseMasterList(good, s.anchors(trust.Test), now.AddDate(20, 0, 0)); !errors.Is(err, trust.ErrSignerExpired) {
		t.Errorf("long after: %v", err)
	}
	revoked := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: now, NextUpdate: now.AddDate(0, 1, 0),
		RevokedCertificateEntries: []x509.RevocationListEntry{{SerialNumber: signerSerial(s.signer), RevocationTime: now}}}
	crl := must(x509.CreateRevocationList(rand.Reader, revoked, must(x509.ParseCertificate(s.csca)), s.cscaKey))
	if _, err := trust.ParseMasterList(good, s.anchors(trust.Test, crl), now); !errors.Is(err, trust.ErrRevoked) {
		t.Errorf("signer revoked: %v", err)
	}
	doc := s.issue(annaMRZ, 2, nil).doc
	refused(t, "document signed by a signer of lists", doc, s.anchors(trust.Test), now, trust.Options{}, trust.CheckChain, trust.ErrCertificate)
}

func TestDiff(t *testing.T) {
	s, a, b, c := newState(forLists), newState(), newState(), newState(func(csca, _ *x509.Certificate) { csca.Subject.Country = []string{"AA"} })
	parse := func(certs ...[]byte) trust.MasterList {
		return must(trust.ParseMasterList(s.masterList(listOf(certs...)), s.anchors(trust.Test), now))
	}
	older, newer := parse(s.csca, a.csca), parse(s.csca, b.csca, c.csca)
	changes := trust.Diff(older, newer)
	if len(changes) != 2 || changes[0].Country != "AA" || len(changes[0].Added) != 1 || len(changes[0].Removed) != 0 ||
		changes[1].Country != "UT" || len(changes[1].Added) != 1 || len(changes[1].Removed) != 1 ||
		!slices.Equal(changes[1].Removed[0].Certificate, a.csca) {
		t.Errorf("%+v", changes)
	}
	if changes := trust.Diff(trust.MasterList{}, older); len(changes) != 1 || len(changes[0].Added) != 2 {
		t.Errorf("first list: %+v", changes)
	}
	if changes := trust.Diff(older, older); changes != nil {
		t.Errorf("no change: %+v", changes)
	}
}

// The seeds in testdata are lists of a specimen state. Whoever brings his own
// authority along, and has it pinned, is believed: the worst case.
func FuzzParseMasterList(f *testing.F) {
	f.Fuzz(func(t *testing.T, b []byte) {
		var pinned [][32]byte
		if parsed, err := lds.ParseMasterList(b); err == nil {
			for _, der := range slices.Concat(parsed.List, parsed.Certificates) {
				pinned = append(pinned, sha256.Sum256(der))
			}
		}
		list, err := trust.ParseMasterList(b, trust.Anchors{}, now, pinned...)
		if (err == nil) != (list.Signer != "") {
			t.Errorf("signer %q, %v", list.Signer, err)
		}
	})
}
