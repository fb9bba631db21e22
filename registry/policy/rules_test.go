package policy_test

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"errors"
	"math/big"
	"reflect"
	"strings"
	"testing"
	"time"

	"enrollkiosk/registry/policy"
	"enrollkiosk/registry/record"
)

// authority issues certificates and CRLs.
type authority struct {
	key  device
	cert *x509.Certificate
}

func newAuthority(t testing.TB, name string, by *authority) authority {
	t.Helper()
	key := newDevice(t)
	c := &x509.Certificate{SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, NotBefore: issued.AddDate(-1, 0, 0), NotAfter: expires}
	if by == nil {
		by = &authority{key, c}
	}
	return authority{key, by.issue(t, c, key)}
}

func (a authority) issue(t testing.TB, c *x509.Certificate, key device) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, c, a.cert, key.Public(), a.key.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	out, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func (a authority) officer(t testing.TB, serial int64, units ...string) *x509.Certificate {
	t.Helper()
	return a.issue(t, &x509.Certificate{SerialNumber: big.NewInt(serial), Subject: pkix.Name{SerialNumber: "0001", OrganizationalUnit: units}}, newDevice(t))
}

func (a authority) crl(t testing.TB, revoked map[int64]time.Time, extra ...pkix.Extension) []byte {
	t.Helper()
	list := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: issued, NextUpdate: issued.AddDate(0, 0, 7), ExtraExtensions: extra}
	for serial, at := range revoked {
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: big.NewInt(serial), RevocationTime: at})
	}
	der, err := x509.CreateRevocationList(rand.Reader, list, a.cert, a.key.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func root(a authority) policy.Root {
	return policy.Root{Certificate: a.cert.Raw, Class: record.Test}
}

// A policy that says nothing about officers and tokens has the bytes that it had
// before there was anything to say: records keep naming it.
func TestAbsentRulesChangeNoDigest(t *testing.T) {
	p := specimen(t)
	p.RevokedAttestations, p.OfficerRules, p.Token, p.Limits, p.Minors = nil, nil, policy.Token{}, policy.Limits{}, policy.Minors{}
	p.Witnesses, p.WitnessQuorum, p.WitnessFrom = nil, 0, 0
	s := parse(t, p, newDevice(t))
	payload, err := base64.RawURLEncoding.DecodeString(strings.Split(string(s.Bytes()), ".")[1])
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"officer_crls", "officer_roles", "token\"", "limits", "revoked_attestations", "piv_intermediates", "witness", "minors"} {
		if bytes.Contains(payload, []byte(name)) {
			t.Errorf("%s is there, empty", name)
		}
	}
	if got := s.Policy().OfficerRule(&x509.Certificate{}); got.May(record.Officer) {
		t.Error("no rule trusts somebody")
	}
	want := policy.Token{Algorithms: []policy.Algorithm{policy.P256}, PIN: policy.PINOnce, Touch: policy.TouchAlways, KeyAgreementTouch: policy.TouchCached}
	if got := s.Policy().TokenRules(); !reflect.DeepEqual(got, want) {
		t.Errorf("defaults: %+v", got)
	}
}

// A role comes from the certificate's one unit and nothing else.
func TestOfficerRule(t *testing.T) {
	ca, p := newAuthority(t, "force", nil), specimen(t)
	for _, c := range []struct {
		units                     []string
		officer, supervisor, desk bool
	}{
		{nil, false, true, false},
		{[]string{"desk"}, true, false, true},
		{[]string{"Desk"}, false, false, false},
		{[]string{"kitchen"}, false, false, false},
		{[]string{"desk", "kitchen"}, false, false, false},
		{[]string{"desk", "desk"}, false, false, false},
	} {
		r := p.OfficerRule(ca.officer(t, 5, c.units...))
		if r.May(record.Officer) != c.officer || r.May(record.Supervisor) != c.supervisor || r.May(policy.Desk) != c.desk || r.May(record.Kiosk) {
			t.Errorf("%v: %+v", c.units, r)
		}
	}
}

// A CRL counts from each entry's date on, for certificates of its issuer alone.
func TestOfficersCRL(t *testing.T) {
	ca, other := newAuthority(t, "force", nil), newAuthority(t, "other force", nil)
	lost := issued.Add(48 * time.Hour)
	p := specimen(t)
	p.OfficerCA = []policy.Root{root(other), root(ca)}
	p.OfficerCRLs = [][]byte{other.crl(t, nil), ca.crl(t, map[int64]time.Time{5: lost})}
	good := ca.officer(t, 6)
	p.RevokedOfficers = [][32]byte{sha256.Sum256(good.Raw)}
	s := parse(t, p, newDevice(t))
	r := s.Policy().Revocations()
	for name, c := range map[string]struct {
		cert *x509.Certificate
		at   time.Time
		want bool
	}{
		"after":                        {ca.officer(t, 5), lost, true},
		"long after, the CRL outdated": {ca.officer(t, 5), lost.AddDate(0, 6, 0), true},
		"before":                       {ca.officer(t, 5), lost.Add(-time.Second), false},
		"another card":                 {good, lost, false},
		"another issuer's":             {other.officer(t, 5), lost, false},
	} {
		if got := r.Listed(c.cert, c.at); got != c.want {
			t.Errorf("%s: listed %v", name, got)
		}
	}
	if !r.Named(good) || r.Named(ca.officer(t, 6)) {
		t.Error("a revoked officer is one certificate: the next card works")
	}
}

// A CRL that could hide a revocation, or that is not the force's, is not signed.
func TestOfficersCRLOfOthers(t *testing.T) {
	ca, stranger, twin := newAuthority(t, "force", nil), newAuthority(t, "stranger", nil), newAuthority(t, "force", nil)
	good := ca.crl(t, map[int64]time.Time{5: issued})
	altered := bytes.Clone(good)
	altered[len(altered)-1] ^= 1
	delta := pkix.Extension{Id: []int{2, 5, 29, 27}, Critical: true, Value: []byte{2, 1, 1}}
	for name, der := range map[string][]byte{"stranger's": stranger.crl(t, nil), "of another of the name": twin.crl(t, nil),
		"altered": altered, "delta": ca.crl(t, nil, delta), "no CRL": ca.cert.Raw, "nothing": nil, "more behind it": append(bytes.Clone(good), 0)} {
		p := specimen(t)
		p.OfficerCA, p.OfficerCRLs = []policy.Root{root(ca)}, [][]byte{good, der}
		if _, err := policy.Sign(t.Context(), p, newDevice(t)); !errors.Is(err, policy.ErrForm) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Intermediates lead to a root, each over those before it.
func TestIntermediates(t *testing.T) {
	maker := newAuthority(t, "maker", nil)
	first := newAuthority(t, "first", &maker)
	second := newAuthority(t, "second", &first)
	p := specimen(t)
	p.PIVRoots, p.PIVIntermediates = []policy.Root{root(maker)}, [][]byte{first.cert.Raw, second.cert.Raw}
	if got := parse(t, p, newDevice(t)).Policy().PIVIntermediates; len(got) != 2 {
		t.Errorf("%d intermediates", len(got))
	}
	for name, list := range map[string][][]byte{"before its issuer": {second.cert.Raw, first.cert.Raw}, "without its issuer": {second.cert.Raw},
		"of nobody": {newAuthority(t, "stranger", nil).cert.Raw}} {
		p.PIVIntermediates = list
		if _, err := policy.Sign(t.Context(), p, newDevice(t)); !errors.Is(err, policy.ErrForm) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
