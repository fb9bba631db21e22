package record_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"math/big"
	"strings"
	"testing"

	"enrollkiosk/registry/record"
)

var b64 = base64.RawURLEncoding

// jws is the attacker's own view of a record, written with a lenient library.
type jws struct {
	Payload    string         `json:"payload"`
	Signatures []jwsSignature `json:"signatures"`
}

type jwsSignature struct {
	Protected string         `json:"protected"`
	Header    map[string]any `json:"header,omitempty"`
	Signature string         `json:"signature"`
}

func take(t *testing.T, b []byte) jws {
	t.Helper()
	var j jws
	if err := json.Unmarshal(b, &j); err != nil {
		t.Fatal(err)
	}
	return j
}

func (j jws) text(t *testing.T) string {
	t.Helper()
	b, err := json.Marshal(j)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func decode(t *testing.T, s string) string {
	t.Helper()
	b, err := b64.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func replaceOnce(t *testing.T, s, old, new string) string {
	t.Helper()
	if !strings.Contains(s, old) {
		t.Fatalf("%q is not there to be replaced", old)
	}
	return strings.Replace(s, old, new, 1)
}

// resign signs a changed payload or header with a key of the attacker's choice.
func (s *jwsSignature) resign(t *testing.T, payload, protected string, key device) {
	t.Helper()
	s.Protected = b64.EncodeToString([]byte(protected))
	digest := sha256.Sum256([]byte(s.Protected + "." + payload))
	der, err := key.Sign(t.Context(), digest[:])
	if err != nil {
		t.Fatal(err)
	}
	s.Signature = b64.EncodeToString(rawSignature(t, der))
}

func TestAttacks(t *testing.T) {
	e := enroll(t)
	good := e.sign(t).Bytes()
	original := string(good)
	foreign := ecKey(t, "foreign")
	edit := func(change func(j *jws)) string {
		j := take(t, good)
		change(&j)
		return j.text(t)
	}
	if edit(func(*jws) {}) != original {
		t.Fatal("the attacker's encoder changes a record that it should not")
	}
	inPayload := func(old, new string) string {
		return edit(func(j *jws) { j.Payload = b64.EncodeToString([]byte(replaceOnce(t, decode(t, j.Payload), old, new))) })
	}
	inHeader := func(i int, old, new string) string {
		return edit(func(j *jws) {
			s := &j.Signatures[i]
			s.Protected = b64.EncodeToString([]byte(replaceOnce(t, decode(t, s.Protected), old, new)))
		})
	}
	holderJWK := func(key device) string {
		j, err := record.NewJWK(key.Public())
		if err != nil {
			t.Fatal(err)
		}
		b, _ := json.Marshal(map[string]string{"crv": j.Curve, "kty": j.Type, "x": b64.EncodeToString(j.X), "y": b64.EncodeToString(j.Y)})
		return string(b)
	}
	type attack struct {
		text string
		want error
	}
	attacks := map[string]attack{
		"holder's signature removed":  {edit(func(j *jws) { j.Signatures = j.Signatures[1:] }), record.ErrSigners},
		"officer's signature removed": {edit(func(j *jws) { j.Signatures = append(j.Signatures[:1], j.Signatures[2]) }), record.ErrSigners},
		"kiosk's signature removed":   {edit(func(j *jws) { j.Signatures = j.Signatures[:2] }), record.ErrSigners},
		"no signatures":               {edit(func(j *jws) { j.Signatures = []jwsSignature{} }), record.ErrSigners},
		"signature twice":             {edit(func(j *jws) { j.Signatures = append(j.Signatures, j.Signatures[0]) }), record.ErrSigners},
		"officer's instead of holder's": {edit(func(j *jws) {
			j.Signatures[0] = j.Signatures[1]
		}), record.ErrSigners},
		"signatures reordered": {edit(func(j *jws) { j.Signatures[0], j.Signatures[1] = j.Signatures[1], j.Signatures[0] }), record.ErrSigners},
		"signature values swapped": {edit(func(j *jws) {
			a, b := &j.Signatures[0], &j.Signatures[1]
			a.Signature, b.Signature = b.Signature, a.Signature
		}), nil}, // the kiosk's hash or the signature: whichever is looked at first
		"signature empty": {edit(func(j *jws) { j.Signatures[2].Signature = "" }), record.ErrSignature},
		"signature as DER": {edit(func(j *jws) {
			raw := []byte(decode(t, j.Signatures[2].Signature))
			j.Signatures[2].Signature = b64.EncodeToString(derSignature(raw))
		}), record.ErrSignature},
		"signature zero":  {edit(func(j *jws) { j.Signatures[2].Signature = b64.EncodeToString(make([]byte, 64)) }), record.ErrSignature},
		"role moved out":  {edit(func(j *jws) { moveRole(t, &j.Signatures[1]) }), record.ErrCanonical},
		"role also out":   {edit(func(j *jws) { j.Signatures[1].Header = map[string]any{"role": "supervisor"} }), record.ErrCanonical},
		"empty header":    {strings.Replace(original, `,"signature":`, `,"header":{},"signature":`, 1), record.ErrCanonical},
		"role changed":    {inHeader(1, `"role":"officer"`, `"role":"supervisor"`), record.ErrSigners},
		"role twice":      {inHeader(1, `"role":"officer"`, `"role":"officer","role":"officer"`), record.ErrCanonical},
		"role missing":    {inHeader(1, `"role":"officer",`, ``), record.ErrSigners},
		"typ changed":     {inHeader(0, `enrollkiosk-record+jws`, `enrollkiosk-policy+jws`), record.ErrSigners},
		"alg none":        {inHeader(0, `"alg":"ES256"`, `"alg":"none"`), record.ErrSignature},
		"alg HS256":       {inHeader(0, `"alg":"ES256"`, `"alg":"HS256"`), record.ErrSignature},
		"alg EdDSA":       {inHeader(0, `"alg":"ES256"`, `"alg":"EdDSA"`), record.ErrSignature},
		"crit":            {inHeader(0, `"typ":`, `"crit":["x"],"typ":`), record.ErrCanonical},
		"b64 false":       {inHeader(0, `"typ":`, `"b64":false,"typ":`), record.ErrCanonical},
		"x5c beside jwk":  {inHeader(0, `}}`, `},"x5c":["AAAA"]}`), record.ErrSigners},
		"x5c nonsense":    {inHeader(1, `"x5c":["`, `"x5c":["AAAA","`), record.ErrSigners},
		"prev at officer": {inHeader(1, `]}`, `],"prev":"AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}`), record.ErrSigners},
		"purpose changed": {inPayload(`"purpose":"enroll"`, `"purpose":"update"`), record.ErrSignature},
		"member case":     {inPayload(`"purpose":`, `"PURPOSE":`), record.ErrCanonical},
		"member added":    {inPayload(`"blind":`, `"bling":1,"blind":`), record.ErrCanonical},
		"member twice":    {inPayload(`"blind":`, `"sequence":1,"blind":`), record.ErrCanonical},
		"payload space":   {inPayload(`,"blind":`, `, "blind":`), record.ErrCanonical},
		"payload tail":    {edit(func(j *jws) { j.Payload = b64.EncodeToString([]byte(decode(t, j.Payload) + "\n")) }), record.ErrCanonical},
		"envelope case":   {strings.Replace(original, `{"payload"`, `{"Payload"`, 1), record.ErrCanonical},
		"envelope member": {strings.Replace(original, `{"payload"`, `{"extra":1,"payload"`, 1), record.ErrCanonical},
		"payload twice":   {strings.Replace(original, `,"signatures"`, `,"payload":"e30","signatures"`, 1), record.ErrCanonical},
		"flattened also":  {strings.TrimSuffix(original, "}") + `,"signature":"AAAA"}`, record.ErrCanonical},
		"leading space":   {" " + original, record.ErrCanonical},
		"inner space":     {strings.Replace(original, `,"signatures"`, `, "signatures"`, 1), record.ErrCanonical},
		"trailing space":  {original + " ", record.ErrCanonical},
		"newline in b64":  {strings.Replace(original, `"payload":"ey`, "\"payload\":\"e\ny", 1), record.ErrCanonical},
		"escaped newline": {strings.Replace(original, `"payload":"ey`, `"payload":"e\ny`, 1), record.ErrCanonical},
		"escaped letter":  {strings.Replace(original, `"payload":"e`, `"payload":"\u0065`, 1), record.ErrCanonical},
		"padding":         {strings.Replace(original, `"}]}`, `=="}]}`, 1), record.ErrCanonical},
		"two records":     {original + original, record.ErrCanonical},
		"nothing":         {"", record.ErrCanonical},
		"null":            {"null", record.ErrCanonical},
		"foreign key, same header": {edit(func(j *jws) {
			j.Signatures[0].resign(t, j.Payload, decode(t, j.Signatures[0].Protected), foreign)
		}), nil},
		"foreign kiosk, same header": {edit(func(j *jws) {
			j.Signatures[2].resign(t, j.Payload, decode(t, j.Signatures[2].Protected), foreign)
		}), record.ErrSignature},
		"foreign key, own header": {edit(func(j *jws) {
			j.Signatures[0].resign(t, j.Payload, `{"alg":"ES256","typ":"enrollkiosk-record+jws","role":"holder","jwk":`+holderJWK(foreign)+`}`, foreign)
		}), record.ErrSigners},
	}
	// A loose tail: the last base64 character carries unused bits.
	if i := strings.Index(original, `","signatures"`); i > 0 {
		for c := range 64 {
			loose := original[:i-1] + string("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"[c]) + original[i:]
			if loose != original {
				attacks["payload's last character "+loose[i-1:i]] = attack{loose, nil}
			}
		}
	}
	for name, a := range attacks {
		if a.text == original {
			t.Errorf("%s: changes nothing", name)
		}
		_, err := record.Parse([]byte(a.text))
		var typed *record.Error
		if !errors.As(err, &typed) || a.want != nil && !errors.Is(err, a.want) {
			t.Errorf("%s: %v, want %v", name, err, a.want)
		}
		if !errors.Is(err, record.ErrCanonical) && typed != nil && typed.Code == record.CodeSize {
			t.Errorf("%s: %v", name, err)
		}
		// The same attack inside a submission.
		s, serr := record.NewSubmission(e.sign(t), e.attestation)
		if serr != nil {
			t.Fatal(serr)
		}
		inside := bytes.Replace(s.Bytes(), good, []byte(a.text), 1)
		if _, err := record.ParseSubmission(inside); !errors.As(err, &typed) {
			t.Errorf("%s in a submission: %v", name, err)
		}
	}
}

func moveRole(t *testing.T, s *jwsSignature) {
	t.Helper()
	s.Protected = b64.EncodeToString([]byte(replaceOnce(t, decode(t, s.Protected), `"role":"officer",`, "")))
	s.Header = map[string]any{"role": "officer"}
}

// The kiosk counter-signs what came before it: a holder who signs again, rightly,
// cannot be slipped under its signature.
func TestKioskSealsTheEarlierSignatures(t *testing.T) {
	e := enroll(t)
	j := take(t, e.sign(t).Bytes())
	raw := []byte(decode(t, j.Signatures[0].Signature))
	// (r, n-s) is as good an ECDSA signature as (r, s).
	n, _ := new(big.Int).SetString("ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551", 16)
	s := new(big.Int).SetBytes(raw[32:])
	n.Sub(n, s).FillBytes(raw[32:])
	j.Signatures[0].Signature = b64.EncodeToString(raw)
	if _, err := record.Parse([]byte(j.text(t))); !errors.Is(err, record.ErrSigners) {
		t.Errorf("another valid signature of the holder: %v", err)
	}
}

// A rogue kiosk holds its own key: it can exchange an earlier signer and sign
// anew, with the right hash. What the payload names as signers stops it.
func TestRogueKioskExchangesASigner(t *testing.T) {
	e := enroll(t)
	good := e.sign(t).Bytes()
	foreign := ecKey(t, "foreign")
	kiosk := e.parties[2].key
	foreignChain := chain(t, "foreign officer", foreign)
	jwk, err := record.NewJWK(foreign.Public())
	if err != nil {
		t.Fatal(err)
	}
	for i, key := range map[int]string{
		0: `"jwk":{"crv":"P-256","kty":"EC","x":"` + b64.EncodeToString(jwk.X) + `","y":"` + b64.EncodeToString(jwk.Y) + `"}`,
		1: `"x5c":["` + base64.StdEncoding.EncodeToString(foreignChain[0]) + `"]`,
	} {
		for _, exchange := range []bool{false, true} {
			j := take(t, good)
			if exchange {
				role := string(e.parties[i].role)
				j.Signatures[i].resign(t, j.Payload, `{"alg":"ES256","typ":"enrollkiosk-record+jws","role":"`+role+`",`+key+`}`, foreign)
			}
			prev := sha256.Sum256([]byte(decode(t, j.Signatures[0].Signature) + decode(t, j.Signatures[1].Signature)))
			header := decode(t, j.Signatures[2].Protected)
			header = header[:strings.Index(header, `"prev":"`)] + `"prev":"` + b64.EncodeToString(prev[:]) + `"}`
			j.Signatures[2].resign(t, j.Payload, header, kiosk)
			_, err := record.Parse([]byte(j.text(t)))
			if !exchange && err != nil {
				t.Fatalf("the test cannot sign as the kiosk: %v", err)
			}
			if exchange && !errors.Is(err, record.ErrSigners) {
				t.Errorf("%s exchanged: %v", e.parties[i].role, err)
			}
		}
	}
}

func TestEveryByteMatters(t *testing.T) {
	e := enroll(t)
	s, err := record.NewSubmission(e.sign(t), e.attestation)
	if err != nil {
		t.Fatal(err)
	}
	good := s.Bytes()
	for i := range good {
		flip := []byte{0x01, 0x20}[i%2] // a neighbour in base64, or the other case
		bad := bytes.Clone(good)
		bad[i] ^= flip
		_, err := record.ParseSubmission(bad)
		var typed *record.Error
		if !errors.As(err, &typed) {
			t.Fatalf("byte %d (%q for %q) changed: %v", i, bad[i], good[i], err)
		}
	}
	for i := range good {
		if _, err := record.ParseSubmission(good[:i]); err == nil {
			t.Fatalf("cut at %d is accepted", i)
		}
	}
}

func TestReplayToAnotherRegistry(t *testing.T) {
	r := enroll(t).sign(t)
	if err := r.CheckAudience(origin); err != nil {
		t.Error(err)
	}
	for _, other := range []string{"", "other.example/log", origin + "/", strings.ToUpper(origin)} {
		if err := r.CheckAudience(other); !errors.Is(err, record.ErrAudience) {
			t.Errorf("%q: %v", other, err)
		}
	}
}

func TestOldHolderIsTheReplacedOne(t *testing.T) {
	e := newEnrollment(t, record.Replace, oldHolder(t), holder(t), officer(t), kiosk(t))
	e.payload.Replaces, _ = record.DIDKey(ecKey(t, "somebody else").Public())
	d, err := record.New(e.payload)
	if err != nil {
		t.Fatal(err)
	}
	for _, by := range e.parties {
		if err := d.Sign(t.Context(), by.role, by.key, by.chain); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := d.Record(); !errors.Is(err, record.ErrSigners) {
		t.Errorf("another's DID replaced: %v", err)
	}
}

// One person's key cannot stand for two roles, whatever it is wrapped in.
func TestOneKeyTwoRoles(t *testing.T) {
	key := ecKey(t, "both")
	same := party{record.Officer, key, chain(t, "officer 1", key)}
	other := party{record.Kiosk, key, chain(t, "kiosk 1", key)}
	e := newEnrollment(t, record.Enroll, holder(t), same, other)
	d, err := record.New(e.payload)
	if err != nil {
		t.Fatal(err)
	}
	for _, by := range e.parties {
		if err := d.Sign(t.Context(), by.role, by.key, by.chain); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := d.Record(); !errors.Is(err, record.ErrSigners) {
		t.Errorf("%v", err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"payload":"e30","signatures":[]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := record.Parse(b)
		var typed *record.Error
		if err != nil && !errors.As(err, &typed) {
			t.Fatalf("untyped: %v", err)
		}
		if err == nil && !bytes.Equal(r.Bytes(), b) {
			t.Error("accepted, but not its own bytes")
		}
	})
}

func FuzzParseSubmission(f *testing.F) {
	f.Add([]byte(`{"record":{"payload":"e30","signatures":[]}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := record.ParseSubmission(b)
		var typed *record.Error
		if err != nil && !errors.As(err, &typed) {
			t.Fatalf("untyped: %v", err)
		}
		if err == nil && !bytes.Equal(s.Bytes(), b) {
			t.Error("accepted, but not its own bytes")
		}
	})
}
