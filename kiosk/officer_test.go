package kiosk

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"testing"
	"time"

	"enrollkiosk/kiosk/secret"
	"enrollkiosk/registry/policy"
	"enrollkiosk/registry/record"
)

// force is an officers' authority.
type force struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

func newForce(t *testing.T, now time.Time) force {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	root := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "force"}, IsCA: true, SubjectKeyId: []byte{1},
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, root, root, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	root.Raw = der
	return force{key, root}
}

func (f force) officer(t *testing.T, change func(*x509.Certificate)) []byte {
	t.Helper()
	c := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{SerialNumber: "0001"},
		KeyUsage: x509.KeyUsageDigitalSignature, NotBefore: f.cert.NotBefore, NotAfter: f.cert.NotAfter}
	change(c)
	der, err := x509.CreateCertificate(rand.Reader, c, f.cert, f.key.Public(), f.key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// crl lists the one officer's certificate as lost since a time.
func (f force) crl(t *testing.T, since time.Time) []byte {
	t.Helper()
	list := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: f.cert.NotBefore, NextUpdate: f.cert.NotBefore.Add(time.Minute),
		RevokedCertificateEntries: []x509.RevocationListEntry{{SerialNumber: big.NewInt(2), RevocationTime: since}}}
	der, err := x509.CreateRevocationList(rand.Reader, list, f.cert, f.key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func TestOfficersCertificate(t *testing.T) {
	now := time.Now()
	f, other := newForce(t, now), newForce(t, now)
	p := policy.Policy{OfficerCA: []policy.Root{{Certificate: f.cert.Raw}},
		OfficerRules: []policy.OfficerRule{{Roles: []record.Role{record.Officer}}, {Unit: "back", Roles: []record.Role{record.Supervisor, policy.Desk}}}}
	good := f.officer(t, func(*x509.Certificate) {})
	if o, err := officerOf(good, p, record.Officer, now); err != nil || o.number != "0001" {
		t.Errorf("good: %q, %v", o.number, err)
	}
	for name, der := range map[string][]byte{
		"nonsense":        []byte("nonsense"),
		"another force's": other.officer(t, func(*x509.Certificate) {}),
		"expired":         f.officer(t, func(c *x509.Certificate) { c.NotAfter = now.Add(-time.Minute) }),
		"not yet valid":   f.officer(t, func(c *x509.Certificate) { c.NotBefore = now.Add(time.Minute) }),
		"without number":  f.officer(t, func(c *x509.Certificate) { c.Subject = pkix.Name{CommonName: "a name"} }),
		"another role's":  f.officer(t, func(c *x509.Certificate) { c.Subject.OrganizationalUnit = []string{"back"} }),
		"unit of nobody":  f.officer(t, func(c *x509.Certificate) { c.Subject.OrganizationalUnit = []string{"kitchen"} }),
		"two units":       f.officer(t, func(c *x509.Certificate) { c.Subject.OrganizationalUnit = []string{"back", "front"} }),
		"not for signing": f.officer(t, func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyAgreement }),
	} {
		if _, err := officerOf(der, p, record.Officer, now); !errors.Is(err, ErrOfficerUnknown) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := officerOf(good, p, record.Supervisor, now); !errors.Is(err, ErrOfficerUnknown) {
		t.Errorf("an officer supervises: %v", err)
	}
	if _, err := officerOf(f.officer(t, func(c *x509.Certificate) { c.Subject.OrganizationalUnit = []string{"back"} }), p, record.Supervisor, now); err != nil {
		t.Errorf("a supervisor supervises: %v", err)
	}
	for since, lost := range map[time.Time]bool{now.Add(-time.Minute): true, now.Add(time.Minute): false} {
		p.OfficerCRLs = [][]byte{f.crl(t, since)}
		if _, err := officerOf(good, p, record.Officer, now); errors.Is(err, ErrOfficerUnknown) != lost {
			t.Errorf("on the force's CRL since %v: %v", since, err)
		}
	}
	p.OfficerCRLs = nil
	p.RevokedOfficers = [][32]byte{sha256.Sum256(good)}
	if _, err := officerOf(good, p, record.Officer, now); !errors.Is(err, ErrOfficerUnknown) {
		t.Errorf("reported lost: %v", err)
	}
}

// tally is an Activity that has counted some.
type tally struct{ own, all uint64 }

func (c tally) Opened([32]byte, time.Time) error                  { return nil }
func (c tally) Enrolled([32]byte, time.Time) error                { return nil }
func (c tally) Enrollments([32]byte, time.Time) (own, all uint64) { return c.own, c.all }

// An officer's quota and the kiosk's limit each end the day's enrollments.
func TestQuota(t *testing.T) {
	now := time.Now()
	f := newForce(t, now)
	for name, c := range map[string]struct {
		quota, limit uint64
		done         tally
		allowed      bool
	}{
		"none of either":        {0, 0, tally{1000, 2000}, true},
		"the officer's last":    {3, 0, tally{2, 9}, true},
		"the officer's quota":   {3, 0, tally{3, 9}, false},
		"the kiosk's last":      {0, 10, tally{2, 9}, true},
		"the kiosk's limit":     {0, 10, tally{0, 10}, false},
		"a quota that has gone": {0, 10, tally{9, 9}, true},
	} {
		p := policy.Policy{OfficerCA: []policy.Root{{Certificate: f.cert.Raw}}, Limits: policy.Limits{EnrollmentsPerDay: c.limit},
			OfficerRules: []policy.OfficerRule{{Roles: []record.Role{record.Officer}, Quota: c.quota}, {Unit: "other", Roles: []record.Role{record.Officer}, Quota: 1}}}
		o, err := officerOf(f.officer(t, func(*x509.Certificate) {}), p, record.Officer, now)
		if err != nil {
			t.Fatal(err)
		}
		e := &enrollment{officer: o, activity: c.done, now: time.Now}
		err = e.withinQuota(p)
		if c.allowed != (err == nil) {
			t.Errorf("%s: %v", name, err)
		}
		if fault := (*Fault)(nil); err != nil && (!errors.As(kioskFault(err), &fault) || fault.Code != CodeQuota || fault.Remedy != RemedyStartOver) {
			t.Errorf("%s: told %v", name, kioskFault(err))
		}
	}
}

// Without a policy that is valid now nobody signs on, nothing begins, and the
// person is told why.
func TestNoPolicyNoEnrollment(t *testing.T) {
	for cause, code := range map[error]Code{ErrPolicy: CodePolicyMissing, policy.ErrExpired: CodePolicyExpired, policy.ErrNotYet: CodeClock,
		ErrOffline: CodeOffline, ErrClock: CodeClock, ErrCertificate: CodeKioskCertificate} {
		none := func() (policy.Signed, error) { return policy.Signed{}, fmt.Errorf("policy: %w", cause) }
		a := New(Config{Policy: none, Languages: []string{"en"}, Limits: DefaultLimits(), Log: slog.New(slog.DiscardHandler),
			Clock: func() Times { return Times{Wall: time.Now()} }})
		_, signingOn := a.recognise(t.Context(), officer{}, secret.FromString("246813"))
		e := &enrollment{d: newDesk(), newestPolicy: none, now: time.Now, limits: DefaultLimits()}
		for what, err := range map[string]error{"sign on": signingOn, "begin": e.prepare(t.Context())} {
			var f *Fault
			if !errors.As(err, &f) || f.Code != code || f.Remedy != RemedyStaff {
				t.Errorf("%v, %s: %v", cause, what, err)
			}
		}
	}
}
