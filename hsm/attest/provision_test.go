package attest_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"os"
	"slices"
	"testing"

	"enrollkiosk/hsm"
	"enrollkiosk/hsm/attest"
)

// provisioning is what one TPM says when a kiosk is provisioned:
// testdata/provision.json holds it of a swtpm.
type provisioning struct {
	AK         []byte       `json:"ak"`
	ParentName []byte       `json:"parent_name"`
	Nonce      []byte       `json:"nonce"`
	Quote      hsm.TPMQuote `json:"quote"`
	EK         [][]byte     `json:"ek"` // TPMT_PUBLIC, RSA-2048 and P-384
}

func provisioned(t testing.TB) (p provisioning) {
	t.Helper()
	b, err := os.ReadFile("testdata/provision.json")
	if err == nil {
		err = json.Unmarshal(b, &p)
	}
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func (p provisioning) expect() attest.QuoteExpect {
	return attest.QuoteExpect{AK: p.AK, ParentName: p.ParentName, QualifyingData: p.Nonce}
}

// TestRecordedProvisioning holds the recording against a real TPM; -update makes it anew.
func TestRecordedProvisioning(t *testing.T) {
	_, d := machine(t, t.TempDir())
	ak, err := d.AttestationKey()
	if err != nil {
		t.Fatal(err)
	}
	now := provisioning{AK: ak.Public, ParentName: ak.ParentName, Nonce: bytes.Repeat([]byte{7}, 32)}
	if now.Quote, err = d.Quote(t.Context(), now.Nonce); err != nil {
		t.Fatal(err)
	}
	keys, err := d.EndorsementKeys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range keys {
		now.EK = append(now.EK, k.Public)
	}
	if _, err := attest.VerifyQuote(now.Quote, now.expect()); err != nil {
		t.Error(err)
	}
	if *update {
		b, err := json.MarshalIndent(now, "", "\t")
		if err == nil {
			err = os.WriteFile("testdata/provision.json", append(b, '\n'), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	old := provisioned(t)
	if len(old.EK) != len(now.EK) || len(old.Quote.Attest) != len(now.Quote.Attest) {
		t.Error("the recording is of another kind of TPM")
	}
}

func refusedBy(t *testing.T, what string, err error, checks ...attest.Check) {
	t.Helper()
	var e *attest.Error
	if !errors.Is(err, attest.ErrRejected) || !errors.As(err, &e) || len(checks) > 0 && !slices.Contains(checks, e.Check) {
		t.Errorf("%s: %v, want %q", what, err, checks)
	}
}

func TestVerifyQuote(t *testing.T) {
	p := provisioned(t)
	pcrs, err := attest.VerifyQuote(p.Quote, p.expect())
	if err != nil {
		t.Fatal(err)
	}
	for i, v := range p.Quote.PCRs {
		if !bytes.Equal(pcrs[i][:], v.Value) {
			t.Errorf("PCR %d is %x", i, pcrs[i])
		}
	}
	edit := func(f func(*hsm.TPMQuote)) hsm.TPMQuote {
		q := hsm.TPMQuote{Attest: bytes.Clone(p.Quote.Attest), Signature: bytes.Clone(p.Quote.Signature)}
		for _, v := range p.Quote.PCRs {
			q.PCRs = append(q.PCRs, hsm.PCR{Index: v.Index, Value: bytes.Clone(v.Value)})
		}
		f(&q)
		return q
	}
	for at := range p.Quote.Attest {
		_, err := attest.VerifyQuote(edit(func(q *hsm.TPMQuote) { q.Attest[at] ^= 1 }), p.expect())
		refusedBy(t, "statement changed", err)
	}
	for at := range p.Quote.Signature {
		_, err := attest.VerifyQuote(edit(func(q *hsm.TPMQuote) { q.Signature[at] ^= 1 }), p.expect())
		refusedBy(t, "signature changed", err, attest.CheckSignature, attest.CheckForm)
	}
	for i := range p.Quote.PCRs {
		for at := range 32 {
			_, err := attest.VerifyQuote(edit(func(q *hsm.TPMQuote) { q.PCRs[i].Value[at] ^= 1 }), p.expect())
			refusedBy(t, "value changed", err, attest.CheckPCRDigest)
		}
	}
	r := recorded(t)
	for what, c := range map[string]struct {
		edit  func(*hsm.TPMQuote)
		check attest.Check
	}{
		"magic":           {func(q *hsm.TPMQuote) { q.Attest[0] ^= 1 }, attest.CheckMagic},
		"a certification": {func(q *hsm.TPMQuote) { q.Attest = r.Evidence.Attest }, attest.CheckType},
		"cut":             {func(q *hsm.TPMQuote) { q.Attest = q.Attest[:len(q.Attest)-1] }, attest.CheckForm},
		"more":            {func(q *hsm.TPMQuote) { q.Attest = append(q.Attest, 0) }, attest.CheckForm},
		"a value less":    {func(q *hsm.TPMQuote) { q.PCRs = q.PCRs[:7] }, attest.CheckForm},
		"a value more":    {func(q *hsm.TPMQuote) { q.PCRs = append(q.PCRs, q.PCRs[0]) }, attest.CheckForm},
		"another order":   {func(q *hsm.TPMQuote) { q.PCRs[0].Index, q.PCRs[1].Index = 1, 0 }, attest.CheckForm},
		"a short value":   {func(q *hsm.TPMQuote) { q.PCRs[0].Value = q.PCRs[0].Value[1:] }, attest.CheckForm},
	} {
		_, err := attest.VerifyQuote(edit(c.edit), p.expect())
		refusedBy(t, what, err, c.check)
	}
	for what, c := range map[string]struct {
		edit  func(*attest.QuoteExpect)
		check attest.Check
	}{
		"another nonce":  {func(w *attest.QuoteExpect) { w.QualifyingData = []byte{1} }, attest.CheckNonce},
		"no nonce":       {func(w *attest.QuoteExpect) { w.QualifyingData = nil }, attest.CheckExpectation},
		"no parent":      {func(w *attest.QuoteExpect) { w.ParentName = nil }, attest.CheckExpectation},
		"another parent": {func(w *attest.QuoteExpect) { w.ParentName = append([]byte{0, 11}, make([]byte, 32)...) }, attest.CheckSigner},
		"another AK":     {func(w *attest.QuoteExpect) { w.AK = r.AK }, attest.CheckSignature},
		"no AK":          {func(w *attest.QuoteExpect) { w.AK = r.Evidence.Public }, attest.CheckAttestationKey},
	} {
		want := p.expect()
		c.edit(&want)
		_, err := attest.VerifyQuote(p.Quote, want)
		refusedBy(t, what, err, c.check)
	}
}

// Only one selection is what the caller asked for. A key in software says the
// rest as a TPM would.
func TestQuoteOfOtherPCRs(t *testing.T) {
	p := provisioned(t)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	point, err := key.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	head := p.AK[:len(p.AK)-68]
	ak := slices.Concat(head, []byte{0, 32}, point[1:33], []byte{0, 32}, point[33:])
	name := func(parts ...[]byte) []byte {
		d := sha256.Sum256(bytes.Join(parts, nil))
		return append([]byte{0, 11}, d[:]...)
	}
	signer := name(name([]byte{0x40, 0, 0, 1}, p.ParentName), name(ak))
	at := bytes.Index(p.Quote.Attest, []byte{0, 0, 0, 1, 0, 11, 3, 0xFF, 0, 0})
	if at < 0 {
		t.Fatal("no selection in the recording")
	}
	say := func(selection ...byte) hsm.TPMQuote {
		statement := slices.Concat(p.Quote.Attest[:8], signer, p.Quote.Attest[8+34:at], selection, p.Quote.Attest[at+10:])
		digest := sha256.Sum256(statement)
		r, s, err := ecdsa.Sign(rand.Reader, key, digest[:])
		if err != nil {
			t.Fatal(err)
		}
		signature := slices.Concat([]byte{0, 0x18, 0, 11, 0, 32}, r.FillBytes(make([]byte, 32)), []byte{0, 32}, s.FillBytes(make([]byte, 32)))
		return hsm.TPMQuote{Attest: statement, Signature: signature, PCRs: p.Quote.PCRs}
	}
	want := p.expect()
	want.AK = ak
	if _, err := attest.VerifyQuote(say(0, 0, 0, 1, 0, 11, 3, 0xFF, 0, 0), want); err != nil {
		t.Fatal(err)
	}
	for what, selection := range map[string][]byte{
		"none":              {0, 0, 0, 0},
		"no PCR":            {0, 0, 0, 1, 0, 11, 3, 0, 0, 0},
		"one less":          {0, 0, 0, 1, 0, 11, 3, 0xFE, 0, 0},
		"one more":          {0, 0, 0, 1, 0, 11, 3, 0xFF, 1, 0},
		"SHA-1":             {0, 0, 0, 1, 0, 4, 3, 0xFF, 0, 0},
		"SHA-384":           {0, 0, 0, 1, 0, 12, 3, 0xFF, 0, 0},
		"another bank, too": {0, 0, 0, 2, 0, 4, 3, 0xFF, 0, 0, 0, 11, 3, 0xFF, 0, 0},
		"twice":             {0, 0, 0, 2, 0, 11, 3, 0xFF, 0, 0, 0, 11, 3, 0xFF, 0, 0},
		"32 PCRs":           {0, 0, 0, 1, 0, 11, 4, 0xFF, 0, 0, 0},
	} {
		_, err := attest.VerifyQuote(say(selection...), want)
		refusedBy(t, what, err, attest.CheckSelection)
	}
}

// Only the templates' own public areas are endorsement keys: with any other
// attribute or policy the key could be used for what it must not.
func TestParseEndorsementKey(t *testing.T) {
	p, r := provisioned(t), recorded(t)
	for i, public := range p.EK {
		k, err := attest.ParseEndorsementKey(public)
		if err != nil || k.Key() == nil {
			t.Fatal(err)
		}
		unique := len(public) - []int{256, 48 + 2 + 48}[i]
		for at := range public[:unique] {
			b := bytes.Clone(public)
			b[at] ^= 1
			_, err := attest.ParseEndorsementKey(b)
			refusedBy(t, "head changed", err, attest.CheckEndorsement, attest.CheckForm)
		}
		for at := unique; at < len(public); at++ {
			b := bytes.Clone(public)
			b[at] ^= 1
			other, err := attest.ParseEndorsementKey(b)
			if err == nil && (bytes.Equal(other.Name(), k.Name()) || other.Certified(attest.Endorsement{}) == nil) {
				t.Fatalf("byte %d changes nothing", at)
			}
		}
		for _, b := range [][]byte{public[:len(public)-1], append(bytes.Clone(public), 0)} {
			_, err := attest.ParseEndorsementKey(b)
			refusedBy(t, "length", err, attest.CheckForm)
		}
	}
	for _, b := range [][]byte{nil, r.AK, r.Evidence.Public} {
		_, err := attest.ParseEndorsementKey(b)
		refusedBy(t, "another key", err, attest.CheckEndorsement)
	}
	even := bytes.Clone(p.EK[0])
	even[len(even)-1] &^= 1
	_, err := attest.ParseEndorsementKey(even)
	refusedBy(t, "even modulus", err, attest.CheckKey)
}

// A credential is another one each time, of the one form.
func TestMakeCredential(t *testing.T) {
	p, r := provisioned(t), recorded(t)
	ak, err := attest.ParseAttestationKey(r.AK)
	if err != nil {
		t.Fatal(err)
	}
	secret := bytes.Repeat([]byte{9}, 32)
	for i, public := range p.EK {
		k, err := attest.ParseEndorsementKey(public)
		if err != nil {
			t.Fatal(err)
		}
		a, err := attest.MakeCredential(k, ak.Name, secret)
		if err != nil {
			t.Fatal(err)
		}
		b, err := attest.MakeCredential(k, ak.Name, secret)
		if err != nil || bytes.Equal(a.Blob, b.Blob) || bytes.Equal(a.Secret, b.Secret) {
			t.Errorf("two credentials are alike: %v", err)
		}
		digest := []int{32, 48}[i]
		if n := int(binary.BigEndian.Uint16(a.Blob)); n != digest || len(a.Blob) != 2+digest+2+32 || bytes.Contains(a.Blob, secret) {
			t.Errorf("blob %x", a.Blob)
		}
		_, err = attest.MakeCredential(k, ak.Name[:33], secret)
		refusedBy(t, "short name", err, attest.CheckExpectation)
	}
}

func FuzzVerifyQuote(f *testing.F) {
	p := provisioned(f)
	f.Add(p.Quote.Attest, p.Quote.Signature)
	f.Fuzz(func(t *testing.T, statement, signature []byte) {
		q := hsm.TPMQuote{Attest: statement, Signature: signature, PCRs: p.Quote.PCRs}
		_, err := attest.VerifyQuote(q, p.expect())
		if err == nil && !bytes.Equal(statement, p.Quote.Attest) {
			t.Error("another statement was accepted")
		}
		if err != nil && !errors.Is(err, attest.ErrRejected) {
			t.Errorf("untyped: %v", err)
		}
	})
}

func FuzzParseEndorsementKey(f *testing.F) {
	for _, b := range provisioned(f).EK {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		k, err := attest.ParseEndorsementKey(b)
		if err != nil {
			if !errors.Is(err, attest.ErrRejected) {
				t.Errorf("untyped: %v", err)
			}
			return
		}
		if _, err := attest.MakeCredential(k, append([]byte{0, 11}, make([]byte, 32)...), []byte{1}); err != nil {
			t.Errorf("no credential for a key that was accepted: %v", err)
		}
	})
}
