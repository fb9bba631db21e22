package trust

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/asn1"
	"fmt"
	"slices"
	"time"

	"enrollkiosk/smartcard/lds"
)

// MasterList is a list of CSCA certificates, verified to be what a state signed
// (Doc 9303-12 9). To trust one of them, or all, is the caller's decision.
type MasterList struct {
	Country      string    // of the state that signed it
	Signed       time.Time // stated by the signer, zero if not
	Signer       string    // SHA-256 of the signer's certificate, hex
	Authority    string    // SHA-256 of the CSCA certificate that vouches for the signer, hex
	Certificates []Listed  // in the list's order
}

// Listed is one certificate of a master list.
type Listed struct {
	Certificate []byte // DER
	Thumbprint  string // SHA-256, hex
	Country     string // two letters, upper case
	NotBefore   time.Time
	NotAfter    time.Time
	Link        bool  // issued under another name or key than its own
	Err         error // why it is of no use to this program; nil: it can be an Anchor
}

// oidMasterListSigner is the extended key usage of Doc 9303-12 7.1 table 7.
var oidMasterListSigner = asn1.ObjectIdentifier{2, 23, 136, 1, 1, 3}

// ParseMasterList verifies a master list as of at. Its signer must stand under
// one of roots, or under a certificate, of the list itself or sent along with it,
// whose SHA-256 the caller gives: how a first list comes to be trusted. A
// certificate of the list that cannot be used is told and no reason to refuse.
func ParseMasterList(file []byte, roots Anchors, at time.Time, pinned ...[32]byte) (MasterList, error) {
	parsed, err := lds.ParseMasterList(file)
	if err != nil {
		return MasterList{}, ofParsing(err)
	}
	s, err := checkSigned(parsed.SignedData, roots.signers)
	if err != nil {
		return MasterList{}, fmt.Errorf("master list: %w", err)
	}
	for _, der := range slices.Concat(parsed.List, parsed.SignedData.Certificates) {
		if slices.Contains(pinned, sha256.Sum256(der)) {
			roots, err = roots.pin(der)
			if err != nil {
				return MasterList{}, fmt.Errorf("pinned certificate: %w", err)
			}
		}
	}
	ca, _, err := roots.signerUnder(s, at, at)
	switch {
	case err != nil:
		return MasterList{}, fmt.Errorf("signer of the master list: %w", err)
	case !slices.ContainsFunc(s.extendedUsage, oidMasterListSigner.Equal):
		return MasterList{}, fmt.Errorf("signer of the master list: %w: not made for that", ErrCertificate)
	}
	if _, _, err := roots.revoked(s.certificate, ca, at); err != nil {
		return MasterList{}, fmt.Errorf("signer of the master list: %w", err)
	}
	list := MasterList{Country: s.country(), Signed: s.at, Signer: s.thumbprint(), Authority: ca.anchor().thumbprint()}
	for _, der := range parsed.List {
		list.Certificates = append(list.Certificates, listed(der))
	}
	return list, nil
}

// pin adds an anchor that roots may have already.
func (a Anchors) pin(der []byte) (Anchors, error) {
	c, err := parseCertificate(der)
	if err == nil {
		err = c.checkAuthority()
	}
	if err != nil || a.has(c) {
		return a, err
	}
	a.list = slices.Clone(a.list)
	return a, a.add(&authority{certificate: c, class: Production})
}

func listed(der []byte) Listed {
	l := Listed{Certificate: der, Thumbprint: thumbprint(der)}
	c, err := parseCertificate(der)
	if err != nil {
		l.Err = err
		return l
	}
	l.Country, l.NotBefore, l.NotAfter = c.country(), c.notBefore, c.notAfter
	l.Link = c.subject.canonical != c.issuer.canonical || len(c.authorityKeyID) > 0 && !bytes.Equal(c.authorityKeyID, c.keyID)
	if l.Err = c.checkAuthority(); l.Err == nil && c.keyErr != nil {
		l.Err = unsupported(c.keyErr)
	}
	return l
}

// Change is what a master list changes of one country.
type Change struct {
	Country        string
	Added, Removed []Listed
}

// Diff tells by country what a newer list has and no longer has. Either may be
// the zero value.
func Diff(older, newer MasterList) []Change {
	changes := make(map[string]*Change)
	of := func(l Listed) *Change {
		if changes[l.Country] == nil {
			changes[l.Country] = &Change{Country: l.Country}
		}
		return changes[l.Country]
	}
	missing := func(list MasterList) func(Listed) bool {
		have := make(map[string]bool)
		for _, l := range list.Certificates {
			have[l.Thumbprint] = true
		}
		return func(l Listed) bool { missing := !have[l.Thumbprint]; have[l.Thumbprint] = true; return missing }
	}
	added, removed := missing(older), missing(newer)
	for _, l := range newer.Certificates {
		if added(l) {
			of(l).Added = append(of(l).Added, l)
		}
	}
	for _, l := range older.Certificates {
		if removed(l) {
			of(l).Removed = append(of(l).Removed, l)
		}
	}
	var all []Change
	for _, c := range changes {
		all = append(all, *c)
	}
	slices.SortFunc(all, func(a, b Change) int { return cmp.Compare(a.Country, b.Country) })
	return all
}
