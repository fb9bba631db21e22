package policy_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
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

	cosignature "github.com/transparency-dev/formats/note"
	"golang.org/x/mod/sumdb/note"

	"enrollkiosk/registry/checkpoint"
	"enrollkiosk/registry/policy"
	"enrollkiosk/registry/record"
)

const origin = "registry.example/log"

type device struct{ *ecdsa.PrivateKey }

func (d device) Public() crypto.PublicKey { return d.PrivateKey.Public() }
func (d device) Sign(_ context.Context, digest []byte) ([]byte, error) {
	return d.PrivateKey.Sign(rand.Reader, digest, crypto.SHA256)
}

func newDevice(t testing.TB) device {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return device{key}
}

func rootHash(t testing.TB, d device) [32]byte {
	t.Helper()
	h, err := policy.RootHash(d.Public())
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func certificate(t testing.TB) []byte {
	t.Helper()
	key := newDevice(t)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "specimen"}, NotAfter: time.Date(2040, 1, 1, 0, 0, 0, 0, time.UTC)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

var (
	issued  = time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	expires = time.Date(2027, 11, 1, 0, 0, 0, 0, time.UTC)
)

func specimen(t testing.TB) policy.Policy {
	t.Helper()
	var vkeys [3]string
	for i := range vkeys {
		var err error
		if _, vkeys[i], err = note.GenerateKey(rand.Reader, origin); err != nil {
			t.Fatal(err)
		}
	}
	authority, err := record.GenerateAuthorityKey()
	if err != nil {
		t.Fatal(err)
	}
	roots := []policy.Root{{Certificate: certificate(t), Class: record.Test}}
	jwk, err := record.NewJWK(newDevice(t).Public())
	if err != nil {
		t.Fatal(err)
	}
	english, chinese := sha256.Sum256([]byte("text")), sha256.Sum256([]byte("文本"))
	return policy.Policy{
		Version: 3, Issued: issued, Expires: expires, LogOrigin: origin, LogKey: vkeys[0], Authority: authority.Public(),
		EarlierLogs:   []checkpoint.Earlier{{Key: vkeys[1]}, {Key: vkeys[2], Size: 7, Root: sha256.Sum256([]byte("seven"))}},
		Witnesses:     []string{witnessKey(t, "one.example", []byte("witness 1")), witnessKey(t, "two.example", []byte("witness 2"))},
		WitnessQuorum: 2, WitnessFrom: 1000,
		Anchors: []policy.Root{{Certificate: certificate(t), Class: record.Production}, {Certificate: brainpoolLike, Class: record.Test}}, CRLs: [][]byte{{0x30, 0}},
		Documents: []policy.Document{{Kind: record.BelgianEID, MayLack: []record.Exception{record.NoChipProof},
			Roots: []policy.Root{{Certificate: certificate(t), Class: record.Test}}}, {Kind: record.PRCResident,
			MayLack: []record.Exception{record.NoChipProof, record.NoIssuerSignature}, Roots: []policy.Root{}, Class: record.Test}},
		PIVRoots: roots, TPMRoots: roots, OfficerCA: roots, KioskCA: roots, RegistryTLS: roots,
		VerdictKeys:        policy.VerdictKeys{Registry: []record.JWK{jwk}, Vault: []record.JWK{jwk}},
		MinimumPIVFirmware: policy.Firmware{Major: 5, Minor: 7}, RevokedTokens: []uint64{1234567}, RevokedOfficers: [][32]byte{sha256.Sum256([]byte("lost"))},
		Consents:            []policy.Text{{ID: "enroll", Version: 2, Required: true, Digests: []policy.Translation{{Language: "en", SHA256: english}, {Language: "zh-Hans", SHA256: chinese}}}},
		RevokedAttestations: [][32]byte{sha256.Sum256([]byte("leaked"))},
		OfficerRules:        []policy.OfficerRule{{Unit: "desk", Roles: []record.Role{record.Officer, policy.Desk}, Quota: 40}, {Roles: []record.Role{record.Supervisor}}},
		Token: policy.Token{Algorithms: []policy.Algorithm{policy.P384, policy.P256}, PIN: policy.PINAlways, Touch: policy.TouchCached,
			KeyAgreementTouch: policy.TouchAlways, Retired: 20, Custody: true},
		Limits:    policy.Limits{ReadsWithoutEnrollment: 5, EnrollmentsPerDay: 100},
		Languages: []string{"en", "zh-Hans"}, Files: []uint16{0x010E, 0x010F}, OfflineDays: 14,
	}
}

// witnessKey is the verifier key of a witness (C2SP tlog-cosignature).
func witnessKey(t testing.TB, name string, seed []byte) string {
	t.Helper()
	h := sha256.Sum256(seed)
	pub := ed25519.NewKeyFromSeed(h[:]).Public().(ed25519.PublicKey)
	plain, err := note.NewEd25519VerifierKey(name, pub)
	if err != nil {
		t.Fatal(err)
	}
	vkey, err := cosignature.VKeyToCosignatureV1(plain)
	if err != nil {
		t.Fatal(err)
	}
	return vkey
}

// brainpoolLike is DER that crypto/x509 does not read: anchors may be such.
var brainpoolLike = []byte{0x30, 3, 2, 1, 0}

func TestSignAndParse(t *testing.T) {
	root, p := newDevice(t), specimen(t)
	b, err := policy.Sign(t.Context(), p, root)
	if err != nil {
		t.Fatal(err)
	}
	s, err := policy.Parse(b, rootHash(t, root))
	if err != nil {
		t.Fatal(err)
	}
	if !s.Valid() || !reflect.DeepEqual(s.Policy(), p) || !bytes.Equal(s.Bytes(), b) {
		t.Errorf("policy changes on its way: %+v", s.Policy())
	}
	again, err := policy.Sign(t.Context(), p, root)
	if err != nil {
		t.Fatal(err)
	}
	other, err := policy.Parse(again, rootHash(t, root))
	if err != nil || other.Digest() != s.Digest() {
		t.Errorf("signing again changes the digest: %v", err)
	}
	if d, ok := p.Consents[0].Digest("zh-Hans"); !ok || d != sha256.Sum256([]byte("文本")) {
		t.Error("consent's digest")
	}
	if _, ok := p.Consents[0].Digest("fr"); ok {
		t.Error("a digest from nowhere")
	}
}

func TestOnlyThePinnedRootSigns(t *testing.T) {
	root, other, p := newDevice(t), newDevice(t), specimen(t)
	b, err := policy.Sign(t.Context(), p, other)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := policy.Parse(b, rootHash(t, root)); !errors.Is(err, policy.ErrSignature) {
		t.Errorf("another root: %v", err)
	}
	// The registry puts the real root's key into the header of its own signature.
	good, err := policy.Sign(t.Context(), p, root)
	if err != nil {
		t.Fatal(err)
	}
	forged := strings.Split(string(good), ".")[0] + string(b[bytes.IndexByte(b, '.'):])
	if _, err := policy.Parse([]byte(forged), rootHash(t, root)); !errors.Is(err, policy.ErrSignature) {
		t.Errorf("root's header over another's signature: %v", err)
	}
	// A statement of another kind by the root is no policy.
	payload, _ := base64.RawURLEncoding.DecodeString(strings.Split(string(good), ".")[1])
	wrong, err := record.SignCompact(t.Context(), "enrollkiosk-verdict+jws", payload, root)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := policy.Parse(wrong, rootHash(t, root)); !errors.Is(err, policy.ErrSignature) {
		t.Errorf("another typ: %v", err)
	}
	for _, change := range []func(string) string{
		func(s string) string { return strings.Replace(s, `"version"`, `"VERSION"`, 1) },
		func(s string) string { return strings.Replace(s, `{"version"`, `{ "version"`, 1) },
		func(s string) string { return strings.Replace(s, `"version":3`, `"version":3,"version":4`, 1) },
		func(s string) string { return strings.Replace(s, `{"version"`, `{"x":1,"version"`, 1) },
		func(s string) string { return s + " " },
	} {
		lenient, err := record.SignCompact(t.Context(), policy.Type, []byte(change(string(payload))), root)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := policy.Parse(lenient, rootHash(t, root)); !errors.Is(err, policy.ErrForm) {
			t.Errorf("lenient payload, rightly signed: %v", err)
		}
	}
}

func TestEveryByteMatters(t *testing.T) {
	root := newDevice(t)
	good, err := policy.Sign(t.Context(), specimen(t), root)
	if err != nil {
		t.Fatal(err)
	}
	hash := rootHash(t, root)
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 1
		if s, err := policy.Parse(bad, hash); s.Valid() || !errors.Is(err, policy.ErrForm) && !errors.Is(err, policy.ErrSignature) {
			t.Fatalf("byte %d, %q for %q: %v", i, bad[i], good[i], err)
		}
	}
	if _, err := policy.Parse(make([]byte, policy.MaxSize+1), hash); !errors.Is(err, policy.ErrForm) {
		t.Errorf("too large: %v", err)
	}
}

func TestMalformedPoliciesAreNotSigned(t *testing.T) {
	root := newDevice(t)
	for name, change := range map[string]func(p *policy.Policy){
		"version":            func(p *policy.Policy) { p.Version = 0 },
		"dates":              func(p *policy.Policy) { p.Expires = p.Issued },
		"no date":            func(p *policy.Policy) { p.Issued = time.Time{} },
		"origin":             func(p *policy.Policy) { p.LogOrigin = "another.example/log" },
		"log key":            func(p *policy.Policy) { p.LogKey += "x" },
		"earlier log key":    func(p *policy.Policy) { p.EarlierLogs[0].Key += "x" },
		"another log's key":  func(p *policy.Policy) { p.EarlierLogs[0].Key = witnessKey(t, "other.example", []byte("other")) },
		"log key twice":      func(p *policy.Policy) { p.EarlierLogs[0].Key = p.LogKey },
		"an end in the end":  func(p *policy.Policy) { p.EarlierLogs[0], p.EarlierLogs[1] = p.EarlierLogs[1], p.EarlierLogs[0] },
		"an end of no tree":  func(p *policy.Policy) { p.EarlierLogs[1].Root = [32]byte{} },
		"an old log witness": func(p *policy.Policy) { p.Witnesses[0] = p.EarlierLogs[1].Key },
		"witness":            func(p *policy.Policy) { p.Witnesses[0] += "x" },
		"a log as a witness": func(p *policy.Policy) { p.Witnesses[0] = p.LogKey },
		"witness twice":      func(p *policy.Policy) { p.Witnesses[1] = p.Witnesses[0] },
		"witness's other name": func(p *policy.Policy) {
			p.Witnesses[1] = witnessKey(t, "other.example", []byte("witness 1"))
		},
		"witness's hash":        func(p *policy.Policy) { p.Witnesses[0] = strings.Replace(p.Witnesses[0], "+", "+00", 1) },
		"no quorum":             func(p *policy.Policy) { p.WitnessQuorum = 0 },
		"quorum of nobody":      func(p *policy.Policy) { p.Witnesses = nil },
		"quorum out of reach":   func(p *policy.Policy) { p.WitnessQuorum = 3 },
		"quorum out of numbers": func(p *policy.Policy) { p.WitnessQuorum = 1 << 63 },
		"authority":             func(p *policy.Policy) { p.Authority.Public = p.Authority.Public[1:] },
		"authority's id":        func(p *policy.Policy) { p.Authority.ID = "" },
		"root":                  func(p *policy.Policy) { p.OfficerCA = []policy.Root{{Certificate: []byte{1}, Class: record.Test}} },
		"root without class":    func(p *policy.Policy) { p.KioskCA = []policy.Root{{Certificate: certificate(t)}} },
		"unknown document":      func(p *policy.Policy) { p.Documents[0].Kind = "library-card" },
		"document twice":        func(p *policy.Policy) { p.Documents[1].Kind = record.BelgianEID },
		"unknown exception":     func(p *policy.Policy) { p.Documents[0].MayLack[0] = "no-face" },
		"class of nobody":       func(p *policy.Policy) { p.Documents[1].Class = "" },
		"class beside roots":    func(p *policy.Policy) { p.Documents[0].Class = record.Test },
		"document root":         func(p *policy.Policy) { p.Documents[0].Roots[0].Certificate = []byte{0x30, 0} },
		"document without root": func(p *policy.Policy) { p.Documents[0].Roots = nil },
		"roots of nobody":       func(p *policy.Policy) { p.Documents[1].Roots = p.OfficerCA },
		"roots beside anchors": func(p *policy.Policy) {
			p.Documents[0] = policy.Document{Kind: record.EMRTD, Roots: p.OfficerCA}
		},
		"anchor":                 func(p *policy.Policy) { p.Anchors[0].Certificate = append(p.Anchors[0].Certificate, 0) },
		"unit twice":             func(p *policy.Policy) { p.OfficerRules[1].Unit = "desk" },
		"unit without a role":    func(p *policy.Policy) { p.OfficerRules[1].Roles = nil },
		"role of nobody":         func(p *policy.Policy) { p.OfficerRules[1].Roles = []record.Role{record.Kiosk} },
		"role twice":             func(p *policy.Policy) { p.OfficerRules[0].Roles[1] = record.Officer },
		"officers' CRL":          func(p *policy.Policy) { p.OfficerCRLs = [][]byte{{0x30, 0}} },
		"algorithm":              func(p *policy.Policy) { p.Token.Algorithms[0] = "rsa-1024" },
		"Ed25519 in 9A":          func(p *policy.Policy) { p.Token.Algorithms[0] = policy.Ed25519 },
		"algorithm twice":        func(p *policy.Policy) { p.Token.Algorithms[0] = policy.P256 },
		"pin policy":             func(p *policy.Policy) { p.Token.PIN = "never" },
		"touch policy":           func(p *policy.Policy) { p.Token.Touch = "sometimes" },
		"9D's touch policy":      func(p *policy.Policy) { p.Token.KeyAgreementTouch = "once" },
		"retired slots":          func(p *policy.Policy) { p.Token.Retired = 21 },
		"intermediate":           func(p *policy.Policy) { p.PIVIntermediates = [][]byte{certificate(t)} },
		"verdict key":            func(p *policy.Policy) { p.VerdictKeys.Vault = []record.JWK{{Type: "EC"}} },
		"language twice":         func(p *policy.Policy) { p.Languages = []string{"en", "en"} },
		"language":               func(p *policy.Policy) { p.Languages = []string{"en us"} },
		"consent twice":          func(p *policy.Policy) { p.Consents = append(p.Consents, p.Consents[0]) },
		"consent without digest": func(p *policy.Policy) { p.Languages = append(p.Languages, "fr") },
		"offline":                func(p *policy.Policy) { p.OfflineDays = 100000 },
	} {
		p := specimen(t)
		change(&p)
		if _, err := policy.Sign(t.Context(), p, root); !errors.Is(err, policy.ErrForm) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func parse(t testing.TB, p policy.Policy, root device) policy.Signed {
	t.Helper()
	b, err := policy.Sign(t.Context(), p, root)
	if err != nil {
		t.Fatal(err)
	}
	s, err := policy.Parse(b, rootHash(t, root))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestTimeAndSuccession(t *testing.T) {
	root, p := newDevice(t), specimen(t)
	s := parse(t, p, root)
	for at, want := range map[time.Time]error{
		issued.Add(-time.Second): policy.ErrNotYet, issued: nil,
		expires.Add(-time.Second): nil, expires: policy.ErrExpired,
	} {
		if err := s.CheckTime(at); !errors.Is(err, want) {
			t.Errorf("%v: %v, want %v", at, err, want)
		}
	}
	change := func(version uint64, days uint64) policy.Signed {
		p.Version, p.OfflineDays = version, p.OfflineDays+days
		return parse(t, p, root)
	}
	for name, c := range map[string]struct {
		last policy.Signed
		want error
	}{
		"first":                   {policy.Signed{}, nil},
		"newer":                   {change(2, 0), nil},
		"same":                    {s, nil},
		"same version, different": {change(3, 1), policy.ErrRollback},
		"older":                   {change(4, 0), policy.ErrRollback},
	} {
		if err := s.CheckSuccessor(c.last); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

func TestZeroValueIsRefused(t *testing.T) {
	var s policy.Signed
	if s.Valid() || s.Bytes() != nil || s.CheckTime(issued) == nil || s.CheckSuccessor(policy.Signed{}) == nil || s.Roots() != nil || s.Root() != [32]byte{} || s.Digest() != [32]byte{} {
		t.Error("zero policy passes")
	}
	for f := range reflect.TypeFor[policy.Signed]().Fields() {
		if f.IsExported() {
			t.Errorf("%s can be forged", f.Name)
		}
	}
}

func TestFirmwareOrder(t *testing.T) {
	if (policy.Firmware{Major: 5, Minor: 10}).Compare(policy.Firmware{Major: 5, Minor: 9, Patch: 9}) <= 0 {
		t.Error("5.10 before 5.9.9")
	}
}

// FuzzParse feeds the fuzzer's bytes both as a whole policy and, rightly signed,
// as a payload.
func FuzzParse(f *testing.F) {
	root := newDevice(f)
	hash := rootHash(f, root)
	good, err := policy.Sign(f.Context(), specimen(f), root)
	if err != nil {
		f.Fatal(err)
	}
	payload, _ := base64.RawURLEncoding.DecodeString(strings.Split(string(good), ".")[1])
	f.Add(good)
	f.Add(payload)
	f.Fuzz(func(t *testing.T, b []byte) {
		signed, err := record.SignCompact(t.Context(), policy.Type, b, root)
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range [][]byte{b, signed} {
			s, err := policy.Parse(b, hash)
			if err != nil && !errors.Is(err, policy.ErrForm) && !errors.Is(err, policy.ErrSignature) {
				t.Errorf("untyped: %v", err)
			}
			if err == nil && !bytes.Equal(s.Bytes(), b) {
				t.Error("accepted, but not its own bytes")
			}
		}
	})
}

func TestDocuments(t *testing.T) {
	p := policy.Policy{Documents: []policy.Document{{Kind: record.BelgianEID, MayLack: []record.Exception{record.NoChipProof}}}}
	for _, c := range []struct {
		kind     record.Document
		lacks    []record.Exception
		accepted bool
	}{
		{record.EMRTD, nil, true},
		{record.EMRTD, []record.Exception{record.NoChipProof}, false},
		{record.BelgianEID, []record.Exception{record.NoChipProof}, true},
		{record.BelgianEID, []record.Exception{record.NoChipProof, record.NoIssuerSignature}, false},
		{record.PRCResident, nil, false},
	} {
		rule, ok := p.Document(c.kind)
		if accepted := ok && rule.Allows(c.lacks); accepted != c.accepted {
			t.Errorf("%s that lacks %v: accepted %v", c.kind, c.lacks, accepted)
		}
	}
}
