package attest_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"os"
	"reflect"
	"slices"
	"testing"
	"time"

	"enrollkiosk/hsm"
	"enrollkiosk/hsm/attest"
)

// recording is what one TPM said: testdata/tpm.json holds one of a swtpm.
type recording struct {
	AK         []byte          `json:"ak"`
	ParentName []byte          `json:"parent_name"`
	Outside    []byte          `json:"outside"`
	Nonce      []byte          `json:"nonce"`
	Evidence   hsm.TPMEvidence `json:"evidence"`
	OtherKey   hsm.TPMEvidence `json:"other_key"` // same TPM and nonce, another key
	OtherNonce hsm.TPMEvidence `json:"other_nonce"`
	EK         [][]byte        `json:"ek"`    // RSA-2048, P-384
	Roots      [][]byte        `json:"roots"` // issuer, root
}

func recorded(t testing.TB) recording {
	t.Helper()
	b, err := os.ReadFile("testdata/tpm.json")
	if err != nil {
		t.Fatal(err)
	}
	var r recording
	if err := json.Unmarshal(b, &r); err != nil {
		t.Fatal(err)
	}
	return r
}

func (r recording) expect() attest.TPMExpect {
	return attest.TPMExpect{
		AK: r.AK, Class: attest.Test, QualifyingData: r.Nonce, OutsideInfo: [32]byte(r.Outside), ParentName: r.ParentName,
	}
}

// refused wants a typed refusal by one of checks (any, if none is given), and
// a Proof that proves nothing.
func refused(t *testing.T, what string, p attest.Proof, err error, checks ...attest.Check) {
	t.Helper()
	var e *attest.Error
	if !errors.Is(err, attest.ErrRejected) || !errors.As(err, &e) || p.Valid() || p.Key() != nil {
		t.Errorf("%s: proof %v, error %v", what, p.Valid(), err)
		return
	}
	if len(checks) > 0 && !slices.Contains(checks, e.Check) {
		t.Errorf("%s: refused by %q, want %q", what, e.Check, checks)
	}
}

func TestVerifyTPM(t *testing.T) {
	r := recorded(t)
	p, err := attest.VerifyTPM(r.Evidence, r.expect())
	if err != nil {
		t.Fatal(err)
	}
	if !p.Valid() || !p.Fresh() || p.Where() != attest.TPM || p.Class() != attest.Test {
		t.Errorf("proof %+v", p)
	}
	// The key of the proof is the one in the public area's last 68 bytes.
	x, y := r.Evidence.Public[len(r.Evidence.Public)-66:][:32], r.Evidence.Public[len(r.Evidence.Public)-32:]
	want, _ := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), slices.Concat([]byte{4}, x, y))
	if !want.Equal(p.Key()) {
		t.Error("another key")
	}
}

func TestZeroProof(t *testing.T) {
	if p := (attest.Proof{}); p.Valid() || p.Key() != nil || p.Class() != "" || p.Fresh() {
		t.Error("the zero Proof proves something")
	}
}

func members(e *hsm.TPMEvidence) map[string]*[]byte {
	return map[string]*[]byte{"public": &e.Public, "creation data": &e.CreationData, "attest": &e.Attest, "signature": &e.Signature}
}

func TestEveryBitCounts(t *testing.T) {
	r := recorded(t)
	for name := range members(&r.Evidence) {
		original := *members(&r.Evidence)[name]
		for i := range original {
			for _, mask := range []byte{0x01, 0x02, 0x04, 0x08, 0x10, 0x20, 0x40, 0x80, 0xFF} {
				e := r.Evidence
				changed := bytes.Clone(original)
				changed[i] ^= mask
				*members(&e)[name] = changed
				p, err := attest.VerifyTPM(e, r.expect())
				refused(t, name+" changed", p, err)
			}
		}
		for n := range original {
			e := r.Evidence
			*members(&e)[name] = original[:n]
			p, err := attest.VerifyTPM(e, r.expect())
			refused(t, name+" cut", p, err, attest.CheckForm)
		}
		for n := range original {
			for what, b := range map[string][]byte{
				"with a tail":  slices.Concat(original, make([]byte, n+1)),
				"front cut":    original[n+1:],
				"a byte more":  slices.Insert(bytes.Clone(original), n, 0),
				"a byte less":  slices.Delete(bytes.Clone(original), n, n+1),
				"twice in one": slices.Concat(original, original),
			} {
				e := r.Evidence
				*members(&e)[name] = b
				p, err := attest.VerifyTPM(e, r.expect())
				refused(t, name+" "+what, p, err)
			}
		}
	}
}

func TestOtherExpectation(t *testing.T) {
	r := recorded(t)
	other := func(b []byte) []byte { b = bytes.Clone(b); b[len(b)-1] ^= 1; return b }
	for name, c := range map[string]struct {
		change func(*attest.TPMExpect)
		check  attest.Check
	}{
		"nonce":          {func(x *attest.TPMExpect) { x.QualifyingData = other(x.QualifyingData) }, attest.CheckNonce},
		"shorter nonce":  {func(x *attest.TPMExpect) { x.QualifyingData = x.QualifyingData[:31] }, attest.CheckNonce},
		"binding":        {func(x *attest.TPMExpect) { x.OutsideInfo[0] ^= 1 }, attest.CheckBinding},
		"parent":         {func(x *attest.TPMExpect) { x.ParentName = other(x.ParentName) }, attest.CheckSigner},
		"key as AK":      {func(x *attest.TPMExpect) { x.AK = r.Evidence.Public }, attest.CheckAttestationKey},
		"no AK":          {func(x *attest.TPMExpect) { x.AK = nil }, attest.CheckAttestationKey},
		"no nonce":       {func(x *attest.TPMExpect) { x.QualifyingData = nil }, attest.CheckExpectation},
		"no binding":     {func(x *attest.TPMExpect) { x.OutsideInfo = [32]byte{} }, attest.CheckExpectation},
		"no parent":      {func(x *attest.TPMExpect) { x.ParentName = nil }, attest.CheckExpectation},
		"no class":       {func(x *attest.TPMExpect) { x.Class = "" }, attest.CheckExpectation},
		"parent SHA-384": {func(x *attest.TPMExpect) { x.ParentName = append([]byte{0, 0x0C}, make([]byte, 48)...) }, attest.CheckExpectation},
	} {
		want := r.expect()
		c.change(&want)
		p, err := attest.VerifyTPM(r.Evidence, want)
		refused(t, name, p, err, c.check)
	}
}

// TestMixedEvidence takes genuine parts of two genuine statements.
func TestMixedEvidence(t *testing.T) {
	r := recorded(t)
	for name, c := range map[string]struct {
		mix   func(e *hsm.TPMEvidence)
		check attest.Check
	}{
		"replayed for an older nonce": {func(e *hsm.TPMEvidence) { *e = r.OtherNonce }, attest.CheckNonce},
		"signature of another":        {func(e *hsm.TPMEvidence) { e.Signature = r.OtherKey.Signature }, attest.CheckSignature},
		"statement about another":     {func(e *hsm.TPMEvidence) { e.Attest, e.Signature = r.OtherKey.Attest, r.OtherKey.Signature }, attest.CheckName},
		"another key":                 {func(e *hsm.TPMEvidence) { e.Public = r.OtherKey.Public }, attest.CheckName},
	} {
		e := r.Evidence
		c.mix(&e)
		p, err := attest.VerifyTPM(e, r.expect())
		refused(t, name, p, err, c.check)
	}
}

// TestEveryMixture puts genuine parts of two genuine statements together in every
// way: only a whole one passes.
func TestEveryMixture(t *testing.T) {
	r := recorded(t)
	for name, other := range map[string]hsm.TPMEvidence{"another key": r.OtherKey, "an older nonce": r.OtherNonce} {
		for parts := 1; parts < 1<<4; parts++ {
			e, from := r.Evidence, other
			for i, member := range []string{"public", "creation data", "attest", "signature"} {
				if parts&(1<<i) != 0 {
					*members(&e)[member] = *members(&from)[member]
				}
			}
			whole := reflect.DeepEqual(e, r.Evidence) || reflect.DeepEqual(e, r.OtherKey)
			if p, err := attest.VerifyTPM(e, r.expect()); whole {
				if err != nil {
					t.Errorf("%s, parts %04b: %v", name, parts, err)
				}
			} else {
				refused(t, fmt.Sprintf("%s, parts %04b", name, parts), p, err)
			}
		}
	}
}

// TestSignatureForms makes every form of one genuine signature that is accepted,
// and the nearest ones that are not.
func TestSignatureForms(t *testing.T) {
	r := recorded(t)
	f := newForger(t, r.AK)
	want := r.expect()
	want.AK = f.ak
	e := f.sign(t, f.honest(r))
	for e.Signature[6] != 0 { // r begins with a zero: one in 256
		e = f.sign(t, f.honest(r))
	}
	x, y := e.Signature[6:38], e.Signature[40:]
	complement := new(big.Int).Sub(elliptic.P256().Params().N, new(big.Int).SetBytes(y)).FillBytes(make([]byte, 32))
	short := bytes.TrimLeft(x, "\x00")
	order := elliptic.P256().Params().N.Bytes()
	for name, c := range map[string]struct {
		x, y  []byte
		check attest.Check // none: accepted
	}{
		"32 bytes each":         {x, y, ""},
		"without leading zeros": {short, y, ""},
		"the complement of s":   {x, complement, ""},
		"exchanged":             {y, x, attest.CheckSignature},
		"one zero too many":     {append([]byte{0}, x...), y, attest.CheckForm},
		"r is empty":            {nil, y, attest.CheckForm},
		"s is empty":            {x, nil, attest.CheckForm},
		"r is a zero":           {[]byte{0}, y, attest.CheckForm},
		"r is zero":             {make([]byte, 32), y, attest.CheckSignature},
		"s is zero":             {x, make([]byte, 32), attest.CheckSignature},
		"s is the order":        {x, order, attest.CheckSignature},
		"r is above the order":  {bytes.Repeat([]byte{0xFF}, 32), y, attest.CheckSignature},
	} {
		e := e
		e.Signature = slices.Concat([]byte{0, 0x18, 0, 0x0B}, sized(c.x), sized(c.y))
		p, err := attest.VerifyTPM(e, want)
		if c.check != "" {
			refused(t, name, p, err, c.check)
		} else if err != nil || !p.Valid() {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestPersonalKey wants what a person's key must have, and only where it is asked for.
func TestPersonalKey(t *testing.T) {
	r := recorded(t)
	f := newForger(t, r.AK)
	const userWithAuth, adminWithPolicy, noDA = 1 << 6, 1 << 7, 1 << 10
	for attributes, good := range map[uint32]bool{
		userWithAuth: true, userWithAuth | adminWithPolicy: true, userWithAuth | noDA: false, noDA: false, 0: false, adminWithPolicy: false, adminWithPolicy | noDA: false,
	} {
		s := f.honest(r)
		s.public = bytes.Clone(s.public)
		a := binary.BigEndian.Uint32(s.public[4:]) &^ (userWithAuth | adminWithPolicy | noDA)
		binary.BigEndian.PutUint32(s.public[4:], a|attributes)
		want := r.expect()
		want.AK = f.ak
		if _, err := attest.VerifyTPM(f.sign(t, s), want); err != nil {
			t.Errorf("%#x, not asked for: %v", attributes, err)
		}
		want.UserAuth = true
		p, err := attest.VerifyTPM(f.sign(t, s), want)
		if !good {
			refused(t, fmt.Sprintf("%#x", attributes), p, err, attest.CheckAttributes)
		} else if err != nil {
			t.Errorf("%#x: %v", attributes, err)
		}
	}
	// The kiosk's own record key has no auth value that anybody counts.
	want := r.expect()
	want.UserAuth = true
	p, err := attest.VerifyTPM(r.Evidence, want)
	refused(t, "record key", p, err, attest.CheckAttributes)
}

// forger has the private half of an attestation key, as no one outside a TPM
// has: it shows that each check holds by itself, behind a good signature.
type forger struct {
	key *ecdsa.PrivateKey
	ak  []byte
}

func newForger(t *testing.T, akPublic []byte) forger {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return forger{k, withPoint(t, akPublic, &k.PublicKey)}
}

func withPoint(t *testing.T, public []byte, k *ecdsa.PublicKey) []byte {
	t.Helper()
	point, err := k.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	out := bytes.Clone(public)
	copy(out[len(out)-66:], point[1:33])
	copy(out[len(out)-32:], point[33:])
	return out
}

func name(b []byte) []byte {
	d := sha256.Sum256(b)
	return append([]byte{0, 0x0B}, d[:]...)
}

func sized(b []byte) []byte { return append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...) }

// statement holds a TPMS_ATTEST and a TPMS_CREATION_DATA as fields.
type statement struct {
	magic, kind                                []byte
	signer, extra, clock, object, creationHash []byte
	pcrs, pcrDigest, locality, parentAlg       []byte
	parentName, parentQualified, outside       []byte
	public                                     []byte
}

func (f forger) honest(r recording) statement {
	srk := name(append([]byte{0x40, 0, 0, 1}, r.ParentName...))
	return statement{
		magic: []byte{0xFF, 'T', 'C', 'G'}, kind: []byte{0x80, 0x1A},
		signer: name(slices.Concat(srk, name(f.ak))), extra: r.Nonce, clock: make([]byte, 8+4+4+1+8),
		pcrs: make([]byte, 4), pcrDigest: []byte{}, locality: []byte{1}, parentAlg: []byte{0, 0x0B},
		parentName: r.ParentName, parentQualified: srk, outside: r.Outside, public: r.Evidence.Public,
	}
}

func (f forger) sign(t *testing.T, s statement) hsm.TPMEvidence {
	t.Helper()
	creation := slices.Concat(s.pcrs, sized(s.pcrDigest), s.locality, s.parentAlg, sized(s.parentName), sized(s.parentQualified), sized(s.outside))
	if s.creationHash == nil {
		d := sha256.Sum256(creation)
		s.creationHash = d[:]
	}
	if s.object == nil {
		s.object = name(s.public)
	}
	a := slices.Concat(s.magic, s.kind, sized(s.signer), sized(s.extra), s.clock, sized(s.object), sized(s.creationHash))
	d := sha256.Sum256(a)
	der, err := ecdsa.SignASN1(rand.Reader, f.key, d[:])
	if err != nil {
		t.Fatal(err)
	}
	var rs struct{ R, S *big.Int }
	if _, err := asn1.Unmarshal(der, &rs); err != nil {
		t.Fatal(err)
	}
	return hsm.TPMEvidence{Public: s.public, CreationData: creation, Attest: a,
		Signature: slices.Concat([]byte{0, 0x18, 0, 0x0B}, sized(rs.R.FillBytes(make([]byte, 32))), sized(rs.S.FillBytes(make([]byte, 32))))}
}

func TestSignedButWrong(t *testing.T) {
	r := recorded(t)
	f := newForger(t, r.AK)
	want := r.expect()
	want.AK = f.ak
	if p, err := attest.VerifyTPM(f.sign(t, f.honest(r)), want); err != nil || !p.Valid() {
		t.Fatalf("honest statement: %v", err)
	}
	attributes := func(set, clear uint32) func(*statement) {
		return func(s *statement) {
			s.public = bytes.Clone(s.public)
			a := binary.BigEndian.Uint32(s.public[4:])
			binary.BigEndian.PutUint32(s.public[4:], a&^clear|set)
		}
	}
	// at puts bytes over the public area from offset i on.
	at := func(i int, b ...byte) func(*statement) {
		return func(s *statement) { s.public = bytes.Clone(s.public); copy(s.public[i:], b) }
	}
	for name, c := range map[string]struct {
		change func(*statement)
		check  attest.Check
	}{
		"name by SHA-1":       {at(2, 0, 4), attest.CheckForm},
		"symmetric algorithm": {at(10, 0, 6), attest.CheckForm},
		"scheme":              {at(12, 0, 0x1A), attest.CheckForm},
		"scheme with SHA-1":   {at(14, 0, 4), attest.CheckForm},
		"curve P-384":         {at(16, 0, 4), attest.CheckForm},
		"kdf":                 {at(18, 0, 0x20), attest.CheckForm},
		"policy": {func(s *statement) {
			s.public = slices.Concat(s.public[:8], sized(make([]byte, 32)), s.public[10:])
		}, attest.CheckForm},
		"coordinate of 31 bytes": {func(s *statement) {
			s.public = slices.Concat(s.public[:20], sized(s.public[23:54]), s.public[54:])
		}, attest.CheckForm},
		"outside info of 67 bytes": {func(s *statement) { s.outside = make([]byte, 67) }, attest.CheckForm},
		"magic":                    {func(s *statement) { s.magic = []byte("\xFFTCH") }, attest.CheckMagic},
		"certify, not creation":    {func(s *statement) { s.kind = []byte{0x80, 0x17} }, attest.CheckType},
		"nonce":                    {func(s *statement) { s.extra = make([]byte, 32) }, attest.CheckNonce},
		"no nonce":                 {func(s *statement) { s.extra = nil }, attest.CheckNonce},
		"signer":                   {func(s *statement) { s.signer = make([]byte, 34) }, attest.CheckSigner},
		"name":                     {func(s *statement) { s.object = make([]byte, 34) }, attest.CheckName},
		"creation hash":            {func(s *statement) { s.creationHash = make([]byte, 32) }, attest.CheckCreationHash},
		"outside info":             {func(s *statement) { s.outside = make([]byte, 32) }, attest.CheckBinding},
		"no outside info":          {func(s *statement) { s.outside = nil }, attest.CheckBinding},
		"parent":                   {func(s *statement) { s.parentName = make([]byte, 34) }, attest.CheckParent},
		"parent's path":            {func(s *statement) { s.parentQualified = make([]byte, 34) }, attest.CheckParent},
		"parent algorithm":         {func(s *statement) { s.parentAlg = []byte{0, 4} }, attest.CheckParent},
		"PCRs":                     {func(s *statement) { s.pcrs = []byte{0, 0, 0, 1, 0, 0x0B, 3, 0xFF, 0, 0} }, attest.CheckPCR},
		"endless PCRs":             {func(s *statement) { s.pcrs = []byte{0xFF, 0xFF, 0xFF, 0xFF} }, attest.CheckForm},
		"safe is 2":                {func(s *statement) { s.clock = slices.Concat(make([]byte, 16), []byte{2}, make([]byte, 8)) }, attest.CheckForm},
		"may leave the TPM":        {attributes(0, 1<<1), attest.CheckAttributes},
		"may change its parent":    {attributes(0, 1<<4), attest.CheckAttributes},
		"was imported":             {attributes(0, 1<<5), attest.CheckAttributes},
		"cannot sign":              {attributes(0, 1<<18), attest.CheckAttributes},
		"decrypts":                 {attributes(1<<17, 0), attest.CheckAttributes},
		"restricted":               {attributes(1<<16, 0), attest.CheckAttributes},
		"gone at the next start":   {attributes(1<<2, 0), attest.CheckAttributes},
		"reserved attribute":       {attributes(1<<31, 0), attest.CheckForm},
		"point not on the curve": {func(s *statement) {
			s.public = append(bytes.Clone(s.public[:len(s.public)-1]), s.public[len(s.public)-1]^1)
		}, attest.CheckKey},
		"public area of another alg": {func(s *statement) { s.public = append([]byte{0, 1}, s.public[2:]...) }, attest.CheckForm},
	} {
		s := f.honest(r)
		c.change(&s)
		p, err := attest.VerifyTPM(f.sign(t, s), want)
		refused(t, name, p, err, c.check)
	}
}

func TestAttestationKeyMustBeRestricted(t *testing.T) {
	r := recorded(t)
	ak, err := attest.ParseAttestationKey(r.AK)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(ak.Name, name(r.AK)) {
		t.Error("another name")
	}
	for bit, what := range map[int]string{1: "fixedTPM", 4: "fixedParent", 5: "sensitiveDataOrigin", 16: "restricted", 17: "decrypt", 18: "sign"} {
		changed := bytes.Clone(r.AK)
		binary.BigEndian.PutUint32(changed[4:], binary.BigEndian.Uint32(changed[4:])^1<<bit)
		if _, err := attest.ParseAttestationKey(changed); !errors.Is(err, attest.ErrRejected) {
			t.Errorf("%s turned: %v", what, err)
		}
	}
	if _, err := attest.ParseAttestationKey(r.Evidence.Public); !errors.Is(err, attest.ErrRejected) {
		t.Errorf("a record key as attestation key: %v", err)
	}
}

func certificates(t testing.TB, class string, der ...[]byte) (roots []attest.Root) {
	t.Helper()
	for _, b := range der {
		c, err := x509.ParseCertificate(b)
		if err != nil {
			t.Fatal(err)
		}
		roots = append(roots, attest.Root{Certificate: c, Class: class})
	}
	return roots
}

func TestVerifyEndorsement(t *testing.T) {
	r := recorded(t)
	now := time.Date(2035, 1, 1, 0, 0, 0, 0, time.UTC)
	issuer, root := r.Roots[0], r.Roots[1]
	for i, der := range r.EK {
		e, err := attest.VerifyEndorsement(der, [][]byte{issuer}, certificates(t, attest.Test, root), now)
		if err != nil {
			t.Fatalf("certificate %d: %v", i, err)
		}
		if e.Class() != attest.Test || e.Key() == nil || e.Manufacturer() == "" || e.Model() == "" {
			t.Errorf("certificate %d: %+v", i, e)
		}
		if _, err := attest.VerifyEndorsement(der, nil, certificates(t, attest.Production, issuer), now); err != nil {
			t.Errorf("issuer as root: %v", err)
		}
		for name, c := range map[string]struct {
			between [][]byte
			roots   []attest.Root
			at      time.Time
			check   attest.Check
		}{
			"no root":        {[][]byte{issuer}, nil, now, attest.CheckChain},
			"issuer missing": {nil, certificates(t, attest.Test, root), now, attest.CheckChain},
			"too early":      {[][]byte{issuer}, certificates(t, attest.Test, root), time.Date(2001, 1, 1, 0, 0, 0, 0, time.UTC), attest.CheckChain},
			"no time":        {[][]byte{issuer}, certificates(t, attest.Test, root), time.Time{}, attest.CheckExpectation},
			"no class":       {[][]byte{issuer}, certificates(t, "", root), now, attest.CheckExpectation},
		} {
			e, err := attest.VerifyEndorsement(der, c.between, c.roots, c.at)
			var refusal *attest.Error
			if !errors.As(err, &refusal) || refusal.Check != c.check || e.Key() != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		for at := range der {
			changed := bytes.Clone(der)
			changed[at] ^= 1
			if _, err := attest.VerifyEndorsement(changed, [][]byte{issuer}, certificates(t, attest.Test, root), now); !errors.Is(err, attest.ErrRejected) {
				t.Errorf("byte %d changed: %v", at, err)
			}
		}
	}
	// A CA of the right maker is no endorsement key.
	if _, err := attest.VerifyEndorsement(issuer, nil, certificates(t, attest.Test, root), now); !errors.Is(err, attest.ErrRejected) {
		t.Errorf("the issuer itself: %v", err)
	}
}

// TestEndorsementProfile makes certificates that are each wrong in one thing.
func TestEndorsementProfile(t *testing.T) {
	now := time.Now()
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ca := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "maker"}, NotAfter: now.Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, caKey.Public(), caKey)
	if err != nil {
		t.Fatal(err)
	}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p521, err := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	edwards, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	san := func(attributes ...[]string) pkix.Extension {
		var name pkix.RDNSequence
		for _, a := range attributes {
			name = append(name, pkix.RelativeDistinguishedNameSET{{Type: asn1.ObjectIdentifier{2, 23, 133, 2, int(a[0][0] - '0')}, Value: a[1]}})
		}
		der, err := asn1.Marshal(name)
		if err != nil {
			t.Fatal(err)
		}
		names, err := asn1.Marshal([]asn1.RawValue{{Class: asn1.ClassContextSpecific, Tag: 4, IsCompound: true, Bytes: der}})
		if err != nil {
			t.Fatal(err)
		}
		return pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Critical: true, Value: names}
	}
	full := san([]string{"1", "id:12345678"}, []string{"2", "part"}, []string{"3", "id:1"})
	for name, c := range map[string]struct {
		change func(*x509.Certificate)
		key    crypto.PublicKey
		check  attest.Check // none: accepted
	}{
		"good":           {func(*x509.Certificate) {}, p384.Public(), ""},
		"no EKU":         {func(c *x509.Certificate) { c.UnknownExtKeyUsage = nil }, p384.Public(), attest.CheckEndorsement},
		"another EKU":    {func(c *x509.Certificate) { c.UnknownExtKeyUsage[0] = asn1.ObjectIdentifier{2, 23, 133, 8, 3} }, p384.Public(), attest.CheckEndorsement},
		"CA":             {func(c *x509.Certificate) { c.IsCA, c.BasicConstraintsValid = true, true }, p384.Public(), attest.CheckEndorsement},
		"for signing":    {func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageDigitalSignature }, p384.Public(), attest.CheckEndorsement},
		"P-521":          {func(*x509.Certificate) {}, p521.Public(), attest.CheckKey},
		"Ed25519":        {func(*x509.Certificate) {}, edwards, attest.CheckKey},
		"no device name": {func(c *x509.Certificate) { c.ExtraExtensions = nil }, p384.Public(), attest.CheckEndorsement},
		"host name":      {func(c *x509.Certificate) { c.ExtraExtensions = nil; c.DNSNames = []string{"x.example"} }, p384.Public(), attest.CheckEndorsement},
		"maker is no id": {func(c *x509.Certificate) {
			c.ExtraExtensions[0] = san([]string{"1", "ACME"}, []string{"2", "p"}, []string{"3", "v"})
		}, p384.Public(), attest.CheckEndorsement},
		"no version": {func(c *x509.Certificate) { c.ExtraExtensions[0] = san([]string{"1", "id:1"}, []string{"2", "p"}) }, p384.Public(), attest.CheckEndorsement},
		"two makers": {func(c *x509.Certificate) {
			c.ExtraExtensions[0] = san([]string{"1", "id:1"}, []string{"1", "id:2"}, []string{"2", "p"}, []string{"3", "v"})
		}, p384.Public(), attest.CheckForm},
		"unknown critical": {func(c *x509.Certificate) {
			c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{Id: asn1.ObjectIdentifier{1, 2, 3}, Critical: true, Value: []byte{5, 0}})
		}, p384.Public(), attest.CheckChain},
		"expired": {func(c *x509.Certificate) { c.NotAfter = now.Add(-time.Minute) }, p384.Public(), attest.CheckChain},
	} {
		c2 := &x509.Certificate{SerialNumber: big.NewInt(2), NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour), KeyUsage: x509.KeyUsageKeyAgreement,
			UnknownExtKeyUsage: []asn1.ObjectIdentifier{{2, 23, 133, 8, 1}}, ExtraExtensions: []pkix.Extension{full}}
		c.change(c2)
		der, err := x509.CreateCertificate(rand.Reader, c2, ca, c.key, caKey)
		if err != nil {
			t.Fatal(err)
		}
		e, err := attest.VerifyEndorsement(der, nil, certificates(t, attest.Test, caDER), now)
		var refusal *attest.Error
		switch {
		case c.check == "" && (err != nil || e.Key() == nil || e.Manufacturer() != "id:12345678" || e.Model() != "part"):
			t.Errorf("%s: %+v, %v", name, e, err)
		case c.check != "" && (!errors.As(err, &refusal) || refusal.Check != c.check || e.Key() != nil):
			t.Errorf("%s: %v, want %q", name, err, c.check)
		}
	}
}

func FuzzVerifyTPM(f *testing.F) {
	r := recorded(f)
	f.Add(r.Evidence.Public, r.Evidence.CreationData, r.Evidence.Attest, r.Evidence.Signature)
	f.Fuzz(func(t *testing.T, public, creation, statement, signature []byte) {
		e := hsm.TPMEvidence{Public: public, CreationData: creation, Attest: statement, Signature: signature}
		want := r.expect()
		p, err := attest.VerifyTPM(e, want)
		if (err == nil) != p.Valid() || err != nil && !errors.Is(err, attest.ErrRejected) {
			t.Fatalf("proof %v with error %v", p.Valid(), err)
		}
		// The recorded key is nobody's.
		want.UserAuth = true
		if p, err := attest.VerifyTPM(e, want); err == nil || p.Valid() {
			t.Fatal("a person's key")
		}
		// Anything accepted is one of the recorded statements; only r and s of the
		// signature may have another genuine form.
		if err == nil && !slices.ContainsFunc([]hsm.TPMEvidence{r.Evidence, r.OtherKey}, func(of hsm.TPMEvidence) bool {
			return bytes.Equal(public, of.Public) && bytes.Equal(creation, of.CreationData) && bytes.Equal(statement, of.Attest)
		}) {
			t.Fatal("forged")
		}
	})
}

func FuzzVerifyEndorsement(f *testing.F) {
	r := recorded(f)
	roots := certificates(f, attest.Test, r.Roots...)
	for _, der := range r.EK {
		f.Add(der)
	}
	f.Fuzz(func(t *testing.T, der []byte) {
		e, err := attest.VerifyEndorsement(der, nil, roots, time.Date(2035, 1, 1, 0, 0, 0, 0, time.UTC))
		if (err == nil) != (e.Key() != nil) || err != nil && !errors.Is(err, attest.ErrRejected) {
			t.Fatalf("key %v, error %v", e.Key(), err)
		}
	})
}

// BenchmarkVerifyTPM reports the verification's cost in units of one bare
// ECDSA check.
func BenchmarkVerifyTPM(b *testing.B) {
	r := recorded(b)
	ak, err := attest.ParseAttestationKey(r.AK)
	if err != nil {
		b.Fatal(err)
	}
	digest := sha256.Sum256(r.Evidence.Attest)
	s := r.Evidence.Signature // scheme, hash, then r and s with their lengths
	n := int(s[4])<<8 | int(s[5])
	x, y := new(big.Int).SetBytes(s[6:6+n]), new(big.Int).SetBytes(s[8+n:])
	want := r.expect()
	var bare, whole time.Duration
	for b.Loop() {
		start := time.Now()
		if !ecdsa.Verify(ak.Key, digest[:], x, y) {
			b.Fatal("signature")
		}
		bare += time.Since(start)
		start = time.Now()
		if _, err := attest.VerifyTPM(r.Evidence, want); err != nil {
			b.Fatal(err)
		}
		whole += time.Since(start)
	}
	b.ReportMetric(float64(whole)/float64(bare), "verify/bare")
}
