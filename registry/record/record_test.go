package record_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"enrollkiosk/registry/record"
)

func TestEnrollment(t *testing.T) {
	e := enroll(t)
	r := e.sign(t)
	again, err := record.Parse(r.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	if again.ID() != r.ID() || !bytes.Equal(again.Bytes(), r.Bytes()) {
		t.Error("parsing changes the record")
	}
	if !reflect.DeepEqual(again.Payload(), e.payload) {
		t.Errorf("payload\n%+v\nwant\n%+v", again.Payload(), e.payload)
	}
	payload, err := e.payload.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	if r.ID() != sha256.Sum256(payload) {
		t.Error("id is not SHA-256 of the payload")
	}
	if !bytes.HasPrefix(payload, append([]byte(`{"context":`), e.payload.Context.Bytes()...)) {
		t.Error("the context's bytes do not stand in the payload")
	}
	k, ok := again.Signature(record.Kiosk)
	if !ok || k.Algorithm != "ES256" || len(k.Chain) != 2 || k.Chain[0].CheckSignatureFrom(k.Chain[1]) != nil {
		t.Errorf("kiosk's signature: %+v", k)
	}
	if _, ok := again.Signature(record.Supervisor); ok {
		t.Error("a supervisor's signature from nowhere")
	}
	if bytes.Contains(r.Bytes(), []byte("canary")) {
		t.Error("plain identity in the record")
	}
}

// Every allowed set of signers, with every kind of key, verifies here and with
// an independent JOSE library; every other set is refused.
func TestSignersAndPurposes(t *testing.T) {
	rsaOfficer := party{role: record.Officer, key: device{key: rsaOnce()}}
	rsaOfficer.chain = chain(t, "officer 1", rsaOfficer.key)
	pssKiosk := party{role: record.Kiosk, key: device{key: rsaOnce(), pss: true}}
	edHolder := party{role: record.Holder, key: edKey("holder")}
	p384Holder := party{role: record.Holder, key: p384Key(t, "holder")}
	p384Officer := party{role: record.Officer, key: p384Key(t, "officer")}
	p384Officer.chain = chain(t, "officer 2", p384Officer.key)
	rsaHolder := party{role: record.Holder, key: device{key: rsaOnce()}}
	bareKiosk := party{role: record.Kiosk, key: ecKey(t, "bare kiosk")}
	for name, e := range map[string]*enrollment{
		"enroll":               enroll(t),
		"enroll RS256 officer": newEnrollment(t, record.Enroll, holder(t), rsaOfficer, kiosk(t)),
		"enroll PS256 kiosk":   newEnrollment(t, record.Enroll, holder(t), officer(t), pssKiosk),
		"enroll EdDSA holder":  newEnrollment(t, record.Enroll, edHolder, officer(t), bareKiosk),
		"enroll ES384":         newEnrollment(t, record.Enroll, p384Holder, p384Officer, kiosk(t)),
		"enroll RS256 holder":  newEnrollment(t, record.Enroll, rsaHolder, officer(t), kiosk(t)),
		"replace, old key":     newEnrollment(t, record.Replace, oldHolder(t), holder(t), officer(t), kiosk(t)),
		"replace, lost":        newEnrollment(t, record.Replace, holder(t), officer(t), supervisor(t), kiosk(t)),
		"replace, exception":   withExceptions(newEnrollment(t, record.Replace, oldHolder(t), holder(t), officer(t), supervisor(t), kiosk(t)), record.NoChipProof),
		"enroll, exception":    withExceptions(newEnrollment(t, record.Enroll, holder(t), officer(t), supervisor(t), kiosk(t)), record.NoChipProof),
		"update, exceptions":   withExceptions(newEnrollment(t, record.Update, holder(t), officer(t), supervisor(t), kiosk(t)), record.NoChipProof, record.NoIssuerSignature),
		"update":               newEnrollment(t, record.Update, holder(t), officer(t), kiosk(t)),
		"revoke by holder":     newEnrollment(t, record.Revoke, holder(t)),
	} {
		t.Run(name, func(t *testing.T) { checkWithGoJOSE(t, e.sign(t)) })
	}
	byOffice := newEnrollment(t, record.Revoke, officer(t), supervisor(t), kiosk(t))
	setHolder(t, &byOffice.payload, ecKey(t, "lost holder"))
	checkWithGoJOSE(t, byOffice.sign(t))

	for purpose, parties := range map[record.Purpose][]party{
		record.Enroll:  {holder(t), officer(t), supervisor(t), kiosk(t)},
		record.Update:  {holder(t), kiosk(t)},
		record.Replace: {holder(t), officer(t), kiosk(t)},
		record.Revoke:  {officer(t), kiosk(t)},
		record.Void:    {holder(t)},
	} {
		if _, err := record.New(newEnrollment(t, purpose, parties...).payload); !errors.Is(err, record.ErrSigners) {
			t.Errorf("%s with a wrong set: %v", purpose, err)
		}
	}
}

func withExceptions(e *enrollment, list ...record.Exception) *enrollment {
	e.payload.Exceptions = list
	return e
}

// A second officer signs for exceptions, and for nothing else in a first enrollment.
func TestExceptions(t *testing.T) {
	four := []party{holder(t), officer(t), supervisor(t), kiosk(t)}
	for name, c := range map[string]struct {
		e    *enrollment
		want error
	}{
		"no supervisor":                         {withExceptions(enroll(t), record.NoChipProof), record.ErrSigners},
		"no exception":                          {newEnrollment(t, record.Enroll, four...), record.ErrSigners},
		"replace, old key, needless supervisor": {newEnrollment(t, record.Replace, oldHolder(t), holder(t), officer(t), supervisor(t), kiosk(t)), record.ErrSigners},
		"replace, old key":                      {withExceptions(newEnrollment(t, record.Replace, oldHolder(t), holder(t), officer(t), kiosk(t)), record.NoChipProof), record.ErrSigners},
		"unknown":                               {withExceptions(newEnrollment(t, record.Enroll, four...), "no-face"), record.ErrForm},
		"twice":                                 {withExceptions(newEnrollment(t, record.Enroll, four...), record.NoChipProof, record.NoChipProof), record.ErrForm},
		"other order":                           {withExceptions(newEnrollment(t, record.Enroll, four...), record.NoIssuerSignature, record.NoChipProof), record.ErrForm},
		"revoke with an exception":              {withExceptions(newEnrollment(t, record.Revoke, holder(t)), record.NoChipProof), record.ErrForm},
	} {
		if _, err := record.New(c.e.payload); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func checkWithGoJOSE(t *testing.T, r record.Record) {
	t.Helper()
	parsed, err := jose.ParseSignedJSON(string(r.Bytes()), []jose.SignatureAlgorithm{jose.ES256, jose.ES384, jose.EdDSA, jose.RS256, jose.PS256})
	if err != nil {
		t.Fatal(err)
	}
	payload, _ := r.Payload().Bytes()
	for i, s := range r.Signatures() {
		index, _, got, err := parsed.VerifyMulti(s.Public)
		if err != nil || index != i || !bytes.Equal(got, payload) {
			t.Errorf("%s: %v, index %d", s.Role, err, index)
		}
	}
}

func TestVoid(t *testing.T) {
	k := kiosk(t)
	c := enroll(t).payload.Context
	c.Purpose = record.Void
	times := record.Times{Wall: time.Now(), Boot: [16]byte{1}}
	r, err := record.NewVoid(t.Context(), c, [32]byte{9}, times, k.key, k.chain)
	if err != nil {
		t.Fatal(err)
	}
	checkWithGoJOSE(t, r)
	if p := r.Payload(); p.Context.Sequence != 42 || p.Previous != [32]byte{9} || p.Blind == [32]byte{} {
		t.Errorf("%+v", p)
	}
	if _, err := record.NewSubmission(r, nil); err != nil {
		t.Error(err)
	}
	c.Purpose = record.Enroll
	if _, err := record.NewVoid(t.Context(), c, [32]byte{9}, times, k.key, k.chain); err == nil {
		t.Error("void with purpose enroll")
	}
}

// A payload whose members contradict one another cannot be drafted, and cannot
// be parsed either: New and Parse share the check.
func TestContradictions(t *testing.T) {
	for name, change := range map[string]func(p *record.Payload){
		"version":              func(p *record.Payload) { p.Context.Version = 2 },
		"audience":             func(p *record.Payload) { p.Context.Audience = "a b" },
		"purpose":              func(p *record.Payload) { p.Context.Purpose = "ENROLL" },
		"no kiosk":             func(p *record.Payload) { p.Context.KioskID = "" },
		"kiosk id":             func(p *record.Payload) { p.Context.KioskID = "kiosk/7" },
		"sequence 0":           func(p *record.Payload) { p.Context.Sequence = 0 },
		"sequence too large":   func(p *record.Payload) { p.Context.Sequence = 1 << 53 },
		"no nonce":             func(p *record.Payload) { p.Context.Nonce = [32]byte{} },
		"no policy":            func(p *record.Payload) { p.Context.PolicyDigest = [32]byte{} },
		"no time":              func(p *record.Payload) { p.Times.Wall = time.Time{} },
		"year 10000":           func(p *record.Payload) { p.Times.Wall = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC) },
		"no boot":              func(p *record.Payload) { p.Times.Boot = [16]byte{} },
		"no blind":             func(p *record.Payload) { p.Blind = [32]byte{} },
		"no consent":           func(p *record.Payload) { p.Purposes = nil },
		"consent twice":        func(p *record.Payload) { p.Purposes = append(p.Purposes, p.Purposes[0]) },
		"no cancel":            func(p *record.Payload) { p.CancelSHA = [32]byte{} },
		"replaces":             func(p *record.Payload) { p.Replaces = p.Holder.DID },
		"DID of another":       func(p *record.Payload) { p.Holder.DID, _ = record.DIDKey(ecKey(t, "x").Public()) },
		"key of another":       func(p *record.Payload) { p.Holder.Key, _ = record.NewJWK(ecKey(t, "x").Public()) },
		"another holder":       func(p *record.Payload) { setHolder(t, p, ecKey(t, "x")) },
		"signs for another":    func(p *record.Payload) { p.Signers[0].SHA256[0] ^= 1 },
		"where":                func(p *record.Payload) { p.Holder.Where = "phone" },
		"class":                func(p *record.Payload) { p.Holder.Class = "" },
		"no attestation":       func(p *record.Payload) { p.Holder.Attestation = [32]byte{} },
		"no identity":          func(p *record.Payload) { p.Identity = record.Sealed{} },
		"another KEM":          func(p *record.Payload) { p.Identity.KEM = 0x20 },
		"sealed to another":    func(p *record.Payload) { p.Identity.Key = "other" },
		"signer twice":         func(p *record.Payload) { p.Signers[1].SHA256 = p.Signers[2].SHA256 },
		"holder by x5c":        func(p *record.Payload) { p.Signers[0].By = record.ByX5C },
		"officer by jwk":       func(p *record.Payload) { p.Signers[1].By = record.ByJWK },
		"signers out of order": func(p *record.Payload) { p.Signers[0], p.Signers[1] = p.Signers[1], p.Signers[0] },
		"void with identity": func(p *record.Payload) {
			p.Context.Purpose = record.Void
			p.Signers = p.Signers[2:]
		},
	} {
		e := enroll(t)
		change(&e.payload)
		var typed *record.Error
		if _, err := record.New(e.payload); !errors.As(err, &typed) || typed.Code != record.CodeForm && typed.Code != record.CodeSigners {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestDraftKeepsItsOrderAndKeys(t *testing.T) {
	e := enroll(t)
	d, err := record.New(e.payload)
	if err != nil {
		t.Fatal(err)
	}
	h, o, k := e.parties[0], e.parties[1], e.parties[2]
	if err := d.Sign(t.Context(), record.Kiosk, k.key, k.chain); !errors.Is(err, record.ErrSigners) {
		t.Errorf("kiosk first: %v", err)
	}
	if err := d.Sign(t.Context(), record.Holder, ecKey(t, "foreign"), nil); !errors.Is(err, record.ErrSigners) {
		t.Errorf("foreign key: %v", err)
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if err := d.Sign(cancelled, record.Holder, h.key, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("device's error is lost: %v", err)
	}
	if err := d.Sign(t.Context(), record.Holder, liar{h.key}, nil); !errors.Is(err, record.ErrSignature) {
		t.Errorf("device that signs wrongly: %v", err)
	}
	if err := d.Sign(t.Context(), record.Holder, h.key, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Record(); !errors.Is(err, record.ErrSigners) {
		t.Errorf("unfinished: %v", err)
	}
	if err := d.Sign(t.Context(), record.Officer, ecKey(t, "another key"), o.chain); !errors.Is(err, record.ErrSigners) {
		t.Errorf("certificate of another key: %v", err)
	}
	if d.Next() != record.Officer {
		t.Errorf("next is %q", d.Next())
	}
	for _, by := range []party{o, k} {
		if err := d.Sign(t.Context(), by.role, by.key, by.chain); err != nil {
			t.Fatal(err)
		}
	}
	r, err := d.Record()
	if err != nil || r.ID() != d.ID() || d.Next() != "" {
		t.Errorf("%v", err)
	}
}

type liar struct{ device }

func (l liar) Sign(ctx context.Context, digest []byte) ([]byte, error) {
	return l.device.Sign(ctx, bytes.Repeat([]byte{1}, len(digest)))
}

func TestZeroValuesAreRefused(t *testing.T) {
	var r record.Record
	if r.Valid() || r.Bytes() != nil || r.ID() != [32]byte{} || r.Signatures() != nil || !errors.Is(r.CheckAudience(""), record.ErrZero) {
		t.Error("zero record passes")
	}
	if _, err := record.NewSubmission(r, nil); !errors.Is(err, record.ErrZero) {
		t.Errorf("submission of nothing: %v", err)
	}
	if (record.Submission{}).Valid() {
		t.Error("zero submission passes")
	}
	if _, err := record.OpenSealed(record.Context{}, record.AuthorityPrivateKey{}, record.Sealed{}); !errors.Is(err, record.ErrZero) {
		t.Errorf("zero key: %v", err)
	}
	// From outside nobody can fill one in.
	for _, v := range []any{r, record.Submission{}, record.AuthorityPrivateKey{}} {
		for f := range reflect.TypeOf(v).Fields() {
			if f.IsExported() {
				t.Errorf("%T.%s can be forged", v, f.Name)
			}
		}
	}
}

func TestSubmission(t *testing.T) {
	e := enroll(t)
	r := e.sign(t)
	s, err := record.NewSubmission(r, e.attestation)
	if err != nil {
		t.Fatal(err)
	}
	back, err := record.ParseSubmission(s.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	a, ok := back.Attestation()
	if back.ID() != r.ID() || !bytes.Equal(back.Record().Bytes(), r.Bytes()) || !ok || !reflect.DeepEqual(a, *e.attestation) {
		t.Error("submission changes on its way")
	}
	tpm := &record.Attestation{TPM: &record.TPMEvidence{Public: []byte("p")}}
	other := &record.Attestation{PIV: &record.PIVEvidence{Certificate: []byte("another slot")}}
	both := &record.Attestation{PIV: e.attestation.PIV, TPM: tpm.TPM}
	for name, a := range map[string]*record.Attestation{"missing": nil, "tpm": tpm, "other": other, "both": both, "none": {}} {
		if _, err := record.NewSubmission(r, a); !errors.Is(err, record.ErrAttestation) && !errors.Is(err, record.ErrCanonical) {
			t.Errorf("%s attestation: %v", name, err)
		}
	}
	claimed := enroll(t)
	claimed.payload.Holder.Where = record.TPM
	if _, err := record.NewSubmission(claimed.sign(t), claimed.attestation); !errors.Is(err, record.ErrAttestation) {
		t.Errorf("PIV evidence for a TPM key: %v", err)
	}
}

func TestTooLarge(t *testing.T) {
	if _, err := record.Parse(make([]byte, record.MaxRecord+1)); !errors.Is(err, record.ErrSize) {
		t.Errorf("%v", err)
	}
	if _, err := record.ParseSubmission(make([]byte, record.MaxSubmission+1)); !errors.Is(err, record.ErrSize) {
		t.Errorf("%v", err)
	}
}

func TestBindings(t *testing.T) {
	c := record.Context{
		Version: 1, Audience: origin, Purpose: record.Enroll, KioskID: "kiosk-7", Sequence: 42,
		Nonce: [32]byte{1}, PolicyDigest: [32]byte{2}, AuthorityKeyID: "authority-1",
	}
	const text = `{"version":1,"audience":"registry.example/log","purpose":"enroll","kiosk":"kiosk-7","sequence":42,` +
		`"nonce":"AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA","policy":"AgAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA","authority":"authority-1"}`
	if string(c.Bytes()) != text {
		t.Fatalf("context %s", c.Bytes())
	}
	if c.KeyBinding() != sha256.Sum256([]byte("enrollkiosk/key/v1"+text)) {
		t.Error("key binding")
	}
	key := ecKey(t, "holder").Public()
	spki, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256([]byte("enrollkiosk/aa/v1" + text + string(spki)))
	if got, err := c.ChipChallenge(key); err != nil || got != sum {
		t.Errorf("chip challenge %x, %v", got, err)
	}
	if _, err := c.ChipChallenge("no key"); err == nil {
		t.Error("challenge for no key")
	}
}

func TestErrorCodes(t *testing.T) {
	_, err := record.Parse([]byte("{}"))
	var typed *record.Error
	if !errors.As(err, &typed) || typed.Code != record.CodeCanonical || !errors.Is(err, record.ErrCanonical) || errors.Is(err, record.ErrForm) {
		t.Errorf("%v", err)
	}
	if !strings.HasPrefix(err.Error(), "record-canonical: ") {
		t.Errorf("text: %v", err)
	}
}

// Of a submission that was verified before, the payload is what the id names,
// whatever else stands there; one changed byte of it is an error.
func TestPayloadOf(t *testing.T) {
	e := enroll(t)
	s, err := record.NewSubmission(e.sign(t), e.attestation)
	if err != nil {
		t.Fatal(err)
	}
	p, err := record.PayloadOf(s.Bytes(), s.ID())
	if err != nil || !reflect.DeepEqual(p, s.Record().Payload()) {
		t.Errorf("%v: %+v", err, p)
	}
	for name, bad := range map[string]struct {
		b  []byte
		id [32]byte
	}{
		"another id":   {s.Bytes(), [32]byte{1}},
		"nothing":      {nil, s.ID()},
		"no canonical": {append(s.Bytes(), ' '), s.ID()},
		"too large":    {make([]byte, record.MaxSubmission+1), s.ID()},
	} {
		var typed *record.Error
		if p, err := record.PayloadOf(bad.b, bad.id); !errors.As(err, &typed) || !reflect.DeepEqual(p, record.Payload{}) {
			t.Errorf("%s: %v, %+v", name, err, p)
		}
	}
	start := bytes.Index(s.Bytes(), []byte(`"payload":"`)) + len(`"payload":"`)
	end := start + bytes.IndexByte(s.Bytes()[start:], '"')
	for i := start; i < end; i += 7 {
		b := s.Bytes()
		b[i] ^= 2
		if _, err := record.PayloadOf(b, s.ID()); err == nil {
			t.Fatalf("byte %d of the payload may be another one", i-start)
		}
	}
}
