package registry_test

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport/linuxudstpm"

	"enrollkiosk/hsm"
	"enrollkiosk/hsm/attest"
	"enrollkiosk/hsm/tpm"
	"enrollkiosk/registry"
	"enrollkiosk/registry/api"
	"enrollkiosk/registry/internal/registrytest"
	sim "enrollkiosk/simulators/tpm"
)

const kioskID = "KIOSK-0007"

// applicant is a machine that asks to be a kiosk. It speaks the protocol as
// hsm/tpm lets it, and can be told to lie.
type applicant struct {
	t    *testing.T
	chip *sim.Instance
	dir  string
	tpm  *tpm.TPM
	eks  []tpm.EndorsementKey
}

// machine is a TPM with a kiosk's keys; its maker is the same for all but strange
// ones.
func machine(t *testing.T, id string, strange bool) *applicant {
	t.Helper()
	a := &applicant{t: t, dir: t.TempDir()}
	dir := t.TempDir()
	if strange {
		dir = filepath.Join(dir, "other")
		if err := sim.Manufacture(t.Context(), dir); err != nil {
			t.Fatal(err)
		}
	}
	var err error
	if a.chip, err = sim.Start(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.chip.Stop() })
	a.open(id)
	if a.eks, err = a.tpm.EndorsementKeys(t.Context()); err != nil {
		t.Fatal(err)
	}
	return a
}

func (a *applicant) open(id string) {
	a.t.Helper()
	d, err := tpm.Open(a.t.Context(), tpm.Options{Path: a.chip.Path(), Dir: a.dir})
	if err == nil {
		err = d.Init(a.t.Context(), api.KioskBinding(id))
	}
	if err != nil {
		a.t.Fatal(err)
	}
	a.t.Cleanup(func() { d.Close() })
	a.tpm = d
}

func csr(t *testing.T, id string, key crypto.Signer) []byte {
	t.Helper()
	b, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: id}, SignatureAlgorithm: x509.ECDSAWithSHA256}, key)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// asks is what the machine says first.
func (a *applicant) asks(id string, code api.Code) api.ProvisionBegin {
	a.t.Helper()
	ak, err := a.tpm.AttestationKey()
	if err != nil {
		a.t.Fatal(err)
	}
	q := api.ProvisionBegin{Version: 1, KioskID: id, Secret: code.Secret.Reveal(), AttestationKey: ak.Public, StorageKeyName: ak.ParentName,
		RecordCSR: csr(a.t, id, hsm.Signer(a.tpm.RecordKey(), time.Minute)), TLSCSR: csr(a.t, id, hsm.Signer(a.tpm.TLSKey(), time.Minute))}
	for _, k := range a.eks {
		q.Endorsements = append(q.Endorsements, api.Endorsement{Certificate: k.Certificate, Public: k.Public})
	}
	if q.Counter, err = a.tpm.Counter(a.t.Context()); err != nil {
		a.t.Fatal(err)
	}
	return q
}

// answers is what the machine makes of a challenge.
func (a *applicant) answers(c api.ProvisionChallenge) api.ProvisionProof {
	a.t.Helper()
	p := api.ProvisionProof{Session: c.Session}
	var err error
	if p.Secret, err = a.tpm.Activate(a.t.Context(), a.eks[c.Endorsement], hsm.TPMCredential{Blob: c.Blob, Secret: c.Encrypted}); err != nil {
		a.t.Fatal(err)
	}
	a.states(&p, c.Nonce)
	return p
}

func (a *applicant) states(p *api.ProvisionProof, nonce []byte) {
	a.t.Helper()
	q, err := a.tpm.Quote(a.t.Context(), nonce)
	if err != nil {
		a.t.Fatal(err)
	}
	p.Quote = api.TPMQuote{Attest: q.Attest, Signature: q.Signature}
	for _, v := range q.PCRs {
		p.Quote.PCRs = append(p.Quote.PCRs, api.PCR(v))
	}
	for name, out := range map[tpm.KeyName]*api.TPMEvidence{tpm.Record: &p.RecordEvidence, tpm.TLS: &p.TLSEvidence} {
		e, err := a.tpm.Certify(a.t.Context(), name, nonce)
		if err != nil {
			a.t.Fatal(err)
		}
		*out = api.TPMEvidence(e)
	}
}

// post sends one message: an answer, or the code and check of a problem.
func post[A api.ProvisionChallenge | api.ProvisionStatus](c client, method, path string, q any) (out A, code, check string) {
	c.t.Helper()
	var body []byte
	if q != nil {
		var err error
		if body, err = json.Marshal(q); err != nil {
			c.t.Fatal(err)
		}
	}
	status, b := c.do(method, path, api.MediaJSON, body)
	if status != http.StatusOK {
		p, err := api.Decode[api.Problem](bytes.NewReader(b))
		if err != nil || p.Status != status {
			c.t.Fatalf("%d %s: %v", status, b, err)
		}
		return out, p.Code, p.Refused
	}
	if err := json.Unmarshal(b, &out); err != nil {
		c.t.Fatal(err)
	}
	return out, "", ""
}

func (c client) begin(q api.ProvisionBegin) (api.ProvisionChallenge, string, string) {
	return post[api.ProvisionChallenge](c, http.MethodPost, api.PathProvisionBegin, q)
}

func (c client) prove(p api.ProvisionProof) (api.ProvisionStatus, string, string) {
	return post[api.ProvisionStatus](c, http.MethodPost, api.PathProvisionProve, p)
}

func (c client) waits(session api.ID) (api.ProvisionStatus, string, string) {
	return post[api.ProvisionStatus](c, http.MethodGet, api.PathProvision+"/"+session.String(), nil)
}

// provisions goes as far as waiting, or wherever the registry lets the machine go.
func (a *applicant) provisions(c client, id string, code api.Code) (api.ProvisionStatus, api.ID) {
	a.t.Helper()
	challenge, problem, check := c.begin(a.asks(id, code))
	if problem != "" {
		a.t.Fatalf("begin: %s %s", problem, check)
	}
	status, problem, check := c.prove(a.answers(challenge))
	if problem != "" {
		a.t.Fatalf("prove: %s %s", problem, check)
	}
	return status, challenge.Session
}

// clock is a time that a test sets.
type clock struct {
	mu    sync.Mutex
	ahead time.Duration
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.ahead)
}

func (c *clock) forward(d time.Duration) { c.mu.Lock(); c.ahead += d; c.mu.Unlock() }

// trusting is a registry whose policy trusts these machines' makers.
func trusting(t *testing.T, log *lines, machines ...*applicant) (*registrytest.World, registry.Kiosks, client, *clock) {
	t.Helper()
	w := registrytest.New(t)
	text, files := "", map[string][]byte{}
	for i, m := range machines {
		name := fmt.Sprintf("tpm%d.der", i)
		files[name] = m.chip.Roots()[0] // the issuer: certificates in a TPM come without it
		text += fmt.Sprintf("[[tpm_roots]]\nfile = %q\nclass = \"test\"\n", name)
	}
	w.Accept(t, text, files)
	o := w.RegistryOptions(noVault)
	c := &clock{}
	o.Now = c.now
	if log != nil {
		o.Log = log.logger()
	}
	r := serve(t, o)
	return w, registry.KiosksIn(w.RegistryDir()), connect(t, w, r.URL), c
}

func newCode(t *testing.T, w *registrytest.World, k registry.Kiosks, id string) api.Code {
	t.Helper()
	code, err := k.NewCode(t.Context(), id, w.Root, time.Hour, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return code
}

// A new kiosk proves its TPM, waits for a person, gets its certificates and is
// let in with them. It gets them again whenever it asks with a good code, new
// ones when they run out, none once it is revoked.
func TestProvision(t *testing.T) {
	t.Parallel()
	log := &lines{}
	a := machine(t, kioskID, false)
	w, kiosks, c, clock := trusting(t, log, a)
	code := newCode(t, w, kiosks, kioskID)
	status, session := a.provisions(c, kioskID, code)
	if status.Status != api.Waiting || status.Certificates != nil {
		t.Fatalf("%+v", status)
	}
	if list, err := kiosks.List(t.Context()); err != nil || len(list) != 0 {
		t.Fatalf("registered before anybody approved: %v, %v", list, err)
	}
	given, err := kiosks.Provisions(t.Context())
	if err != nil || len(given) != 1 || given[0].Waiting == nil {
		t.Fatalf("%+v, %v", given, err)
	}
	ek, err := x509.ParseCertificate(a.eks[0].Certificate)
	if err != nil {
		t.Fatal(err)
	}
	fingerprint := api.Fingerprint(ek.RawSubjectPublicKeyInfo)
	if got := given[0].Waiting.Fingerprint(); got != fingerprint {
		t.Errorf("the registry shows %s, the kiosk %s", got, fingerprint)
	}
	for _, wrong := range []string{"", "00", fingerprint[:len(fingerprint)-1], fingerprint + "0"} {
		if _, err := kiosks.Approve(t.Context(), kioskID, wrong, time.Now()); !errors.Is(err, registry.ErrFingerprint) {
			t.Errorf("approved by %q: %v", wrong, err)
		}
	}
	if s, problem, _ := c.waits(session); problem != "" || s.Status != api.Waiting {
		t.Errorf("%+v %s", s, problem)
	}
	k, err := kiosks.Approve(t.Context(), kioskID, strings.ToUpper(strings.ReplaceAll(fingerprint, " ", ":")), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if k.Class != "test" || len(k.BootPCRs) != 8 || k.Manufacturer == "" || k.Model == "" {
		t.Errorf("%+v", k)
	}
	if _, err := kiosks.Approve(t.Context(), kioskID, fingerprint, time.Now()); !errors.Is(err, registry.ErrNotWaiting) {
		t.Errorf("approved twice: %v", err)
	}
	s, problem, _ := c.waits(session)
	if problem != "" || s.Status != api.Approved || !reflect.DeepEqual(*s.Certificates, k.Certificates) {
		t.Fatalf("%+v %s", s, problem)
	}
	if again, _ := a.provisions(c, kioskID, code); again.Status != api.Approved || !reflect.DeepEqual(again.Certificates, s.Certificates) {
		t.Errorf("again: %+v", again)
	}

	pool := x509.NewCertPool()
	pool.AddCert(certificate(t, w.Policy.Policy().KioskCA[0].Certificate))
	for name, chain := range map[string][][]byte{"attestation": k.Certificates.Attestation, "record": k.Certificates.Record, "tls": k.Certificates.TLS} {
		leaf := certificate(t, chain[0])
		if _, err := leaf.Verify(x509.VerifyOptions{Roots: pool, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}); err != nil || leaf.Subject.CommonName != kioskID {
			t.Errorf("%s: %v", name, err)
		}
	}
	own := connect(t, w, c.url, tls.Certificate{Certificate: k.Certificates.TLS, PrivateKey: hsm.Signer(a.tpm.TLSKey(), time.Minute)})
	unknown := api.PathRecords + "/" + strings.Repeat("00", 32)
	own.problem(http.MethodGet, unknown, "", nil, http.StatusNotFound, api.CodeNotFound)

	// Two years later: the code has expired, a new one brings new certificates.
	clock.forward(2 * 366 * 24 * time.Hour)
	if _, problem, _ := c.begin(a.asks(kioskID, code)); problem != api.CodeProvisionCode {
		t.Errorf("expired code: %q", problem)
	}
	late, err := kiosks.NewCode(t.Context(), kioskID, w.Root, time.Hour, clock.now())
	if err != nil {
		t.Fatal(err)
	}
	renewed, _ := a.provisions(c, kioskID, late)
	if renewed.Status != api.Approved || bytes.Equal(renewed.Certificates.TLS[0], k.Certificates.TLS[0]) {
		t.Errorf("two years later: %+v", renewed)
	}

	if err := kiosks.Revoke(t.Context(), kioskID, time.Now()); err != nil {
		t.Fatal(err)
	}
	if _, problem, _ := c.begin(a.asks(kioskID, late)); problem != api.CodeProvisionRevoked {
		t.Errorf("revoked: %q", problem)
	}
	if _, problem, _ := c.waits(session); problem == "" {
		t.Error("a revoked kiosk gets its certificates")
	}
	if _, err := kiosks.NewCode(t.Context(), kioskID, w.Root, time.Hour, time.Now()); !errors.Is(err, registry.ErrRevoked) {
		t.Errorf("a code for a revoked kiosk: %v", err)
	}
	if text := log.String(); strings.Contains(text, fmt.Sprintf("%x", code.Secret.Reveal())) || strings.Contains(text, code.Text()) {
		t.Error("the code stands in the log")
	}
}

func certificate(t *testing.T, der []byte) *x509.Certificate {
	t.Helper()
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// Whoever lies at the beginning gets no challenge.
func TestBeginRefuses(t *testing.T) {
	t.Parallel()
	a, stranger := machine(t, kioskID, false), machine(t, kioskID, true)
	w, kiosks, c, _ := trusting(t, nil, a)
	code := newCode(t, w, kiosks, kioskID)
	newCode(t, w, kiosks, "KIOSK-0008")
	record, err := a.tpm.Certify(t.Context(), tpm.Record, []byte{1})
	if err != nil {
		t.Fatal(err)
	}
	software := registrytest.NewDevice(t)
	for name, bad := range map[string]struct {
		edit        func(*api.ProvisionBegin)
		code, check string
	}{
		"wrong secret":           {func(q *api.ProvisionBegin) { q.Secret[3] ^= 1 }, api.CodeProvisionCode, ""},
		"code of another kiosk":  {func(q *api.ProvisionBegin) { q.KioskID = "KIOSK-0008" }, api.CodeProvisionCode, ""},
		"no code was given out":  {func(q *api.ProvisionBegin) { q.KioskID = "KIOSK-0009" }, api.CodeProvisionCode, ""},
		"no version":             {func(q *api.ProvisionBegin) { q.Version = 0 }, api.CodeBadRequest, ""},
		"a path for an id":       {func(q *api.ProvisionBegin) { q.KioskID = "../x" }, api.CodeBadRequest, ""},
		"no endorsement":         {func(q *api.ProvisionBegin) { q.Endorsements = nil }, api.CodeBadRequest, ""},
		"too large":              {func(q *api.ProvisionBegin) { q.RecordCSR = make([]byte, 300<<10) }, api.CodeBadRequest, ""},
		"software TPM":           {func(q *api.ProvisionBegin) { q.Endorsements = stranger.asks(kioskID, code).Endorsements }, api.CodeProvisionEK, string(attest.CheckChain)},
		"another TPM's EK":       {func(q *api.ProvisionBegin) { swap(q, stranger.asks(kioskID, code).Endorsements) }, api.CodeProvisionEK, string(attest.CheckEndorsement)},
		"a usable EK":            {func(q *api.ProvisionBegin) { each(q, func(e *api.Endorsement) { e.Public[5] ^= 4 }) }, api.CodeProvisionEK, string(attest.CheckEndorsement)},
		"certificate of nothing": {func(q *api.ProvisionBegin) { each(q, func(e *api.Endorsement) { e.Certificate = []byte{1} }) }, api.CodeProvisionEK, string(attest.CheckForm)},
		"unrestricted AK":        {func(q *api.ProvisionBegin) { q.AttestationKey = record.Public }, api.CodeProvisionAttestation, string(attest.CheckAttestationKey)},
		"no AK":                  {func(q *api.ProvisionBegin) { q.AttestationKey = []byte{} }, api.CodeProvisionAttestation, string(attest.CheckAttestationKey)},
		"request changed":        {func(q *api.ProvisionBegin) { q.TLSCSR[len(q.TLSCSR)-3] ^= 1 }, api.CodeProvisionAttestation, ""},
	} {
		q := a.asks(kioskID, code)
		q.Secret = bytes.Clone(q.Secret)
		bad.edit(&q)
		if _, problem, check := c.begin(q); problem != bad.code || check != bad.check {
			t.Errorf("%s: %s %s, want %s %s", name, problem, check, bad.code, bad.check)
		}
	}
	given, err := kiosks.Provisions(t.Context())
	if err != nil || given[0].Wrong != 1 || given[1].Wrong != 1 || given[0].Waiting != nil {
		t.Errorf("%+v, %v", given, err)
	}
	// A software key: its request is in order, but it was not born in the TPM.
	q := a.asks(kioskID, code)
	q.RecordCSR = csr(t, kioskID, software.PrivateKey)
	challenge, problem, _ := c.begin(q)
	if problem != "" {
		t.Fatal(problem)
	}
	if _, problem, check := c.prove(a.answers(challenge)); problem != api.CodeProvisionAttestation || check != string(attest.CheckKey) {
		t.Errorf("software key: %s %s", problem, check)
	}
	// And none of that has used up the code.
	if s, _ := a.provisions(c, kioskID, code); s.Status != api.Waiting {
		t.Errorf("the honest one: %+v", s)
	}
}

func swap(q *api.ProvisionBegin, public []api.Endorsement) {
	for i := range q.Endorsements {
		q.Endorsements[i].Public = public[i].Public
	}
}

func each(q *api.ProvisionBegin, f func(*api.Endorsement)) {
	for i := range q.Endorsements {
		q.Endorsements[i] = api.Endorsement{Certificate: bytes.Clone(q.Endorsements[i].Certificate), Public: bytes.Clone(q.Endorsements[i].Public)}
		f(&q.Endorsements[i])
	}
}

// Whoever lies in answer to the challenge does not get to wait for approval, and
// has one try.
func TestProveRefuses(t *testing.T) {
	t.Parallel()
	a, stranger := machine(t, kioskID, false), machine(t, kioskID, true)
	elsewhere := machine(t, "KIOSK-0008", false) // same endorsement keys, keys bound to another id
	w, kiosks, c, clock := trusting(t, nil, a, stranger)
	code := newCode(t, w, kiosks, kioskID)
	older, _, _ := c.begin(a.asks(kioskID, code))
	for name, bad := range map[string]struct {
		edit  func(*api.ProvisionProof, api.ProvisionChallenge)
		check attest.Check
	}{
		"another secret":           {func(p *api.ProvisionProof, _ api.ProvisionChallenge) { p.Secret[0] ^= 1 }, registry.CheckActivation},
		"secret of another time":   {func(p *api.ProvisionProof, _ api.ProvisionChallenge) { p.Secret = a.answers(older).Secret }, registry.CheckActivation},
		"short secret":             {func(p *api.ProvisionProof, _ api.ProvisionChallenge) { p.Secret = p.Secret[:31] }, registry.CheckActivation},
		"quote of another time":    {func(p *api.ProvisionProof, _ api.ProvisionChallenge) { p.Quote = a.answers(older).Quote }, attest.CheckNonce},
		"another boot":             {func(p *api.ProvisionProof, _ api.ProvisionChallenge) { p.Quote.PCRs[0].Value[0] ^= 1 }, attest.CheckPCRDigest},
		"quote of another TPM":     {func(p *api.ProvisionProof, c api.ProvisionChallenge) { stranger.states(p, c.Nonce) }, attest.CheckSignature},
		"evidence of another time": {func(p *api.ProvisionProof, _ api.ProvisionChallenge) { p.TLSEvidence = a.answers(older).TLSEvidence }, attest.CheckNonce},
		"evidence exchanged": {func(p *api.ProvisionProof, _ api.ProvisionChallenge) {
			p.RecordEvidence, p.TLSEvidence = p.TLSEvidence, p.RecordEvidence
		}, attest.CheckKey},
		"evidence of another TPM": {func(p *api.ProvisionProof, c api.ProvisionChallenge) {
			var theirs api.ProvisionProof
			stranger.states(&theirs, c.Nonce)
			p.RecordEvidence = theirs.RecordEvidence
		}, attest.CheckSignature},
		"evidence changed": {func(p *api.ProvisionProof, _ api.ProvisionChallenge) { p.RecordEvidence.Attest[20] ^= 1 }, attest.CheckSignature},
	} {
		challenge, problem, _ := c.begin(a.asks(kioskID, code))
		if problem != "" {
			t.Fatal(problem)
		}
		honest := a.answers(challenge)
		p := a.answers(challenge)
		bad.edit(&p, challenge)
		if _, problem, check := c.prove(p); problem != api.CodeProvisionAttestation || check != string(bad.check) {
			t.Errorf("%s: %s %s, want %s", name, problem, check, bad.check)
		}
		if _, problem, _ := c.prove(honest); problem != api.CodeProvisionSession {
			t.Errorf("after %s the challenge is answered again: %q", name, problem)
		}
		if _, problem, _ := c.waits(challenge.Session); problem != api.CodeProvisionSession {
			t.Errorf("after %s it waits: %q", name, problem)
		}
	}
	// Another kiosk's machine: the keys are bound to its own id.
	challenge, problem, _ := c.begin(elsewhere.asks(kioskID, code))
	if problem != "" {
		t.Fatal(problem)
	}
	if _, problem, check := c.prove(elsewhere.answers(challenge)); problem != api.CodeProvisionAttestation || check != string(attest.CheckBinding) {
		t.Errorf("keys of another id: %s %s", problem, check)
	}
	// One key for both uses.
	q := a.asks(kioskID, code)
	q.TLSCSR = q.RecordCSR
	challenge, _, _ = c.begin(q)
	p := a.answers(challenge)
	p.TLSEvidence = p.RecordEvidence
	if _, problem, check := c.prove(p); problem != api.CodeProvisionAttestation || check != string(attest.CheckKey) {
		t.Errorf("one key twice: %s %s", problem, check)
	}
	// Another code was given out meanwhile: the earlier one ends at once.
	challenge, _, _ = c.begin(a.asks(kioskID, code))
	p = a.answers(challenge)
	code = newCode(t, w, kiosks, kioskID)
	if _, problem, _ := c.prove(p); problem != api.CodeProvisionCode {
		t.Errorf("an earlier code: %q", problem)
	}
	// So many attempts that the first is forgotten.
	challenge, _, _ = c.begin(a.asks(kioskID, code))
	p = a.answers(challenge)
	for range 8 {
		c.begin(a.asks(kioskID, code))
	}
	if _, problem, _ := c.prove(p); problem != api.CodeProvisionSession {
		t.Errorf("an attempt long ago: %q", problem)
	}
	// Too late.
	challenge, _, _ = c.begin(a.asks(kioskID, code))
	p = a.answers(challenge)
	clock.forward(6 * time.Minute)
	if _, problem, _ := c.prove(p); problem != api.CodeProvisionSession {
		t.Errorf("late: %q", problem)
	}
	given, err := kiosks.Provisions(t.Context())
	if err != nil || given[0].Waiting != nil || given[0].EndorsementKey != nil {
		t.Errorf("a liar is kept: %+v, %v", given, err)
	}
}

// The endorsement certificate of a genuine TPM is public. Who shows it with an AK
// of another TPM gets a credential that neither can open: the thief's has not the
// endorsement key, the genuine one not that AK, whoever carries it there.
func TestRelayedEndorsement(t *testing.T) {
	t.Parallel()
	genuine, thief := machine(t, kioskID, false), machine(t, kioskID, true)
	w, kiosks, c, _ := trusting(t, nil, genuine)
	code := newCode(t, w, kiosks, kioskID)
	q := thief.asks(kioskID, code)
	q.Endorsements = genuine.asks(kioskID, code).Endorsements
	challenge, problem, _ := c.begin(q)
	if problem != "" {
		t.Fatal(problem)
	}
	carried := hsm.TPMCredential{Blob: challenge.Blob, Secret: challenge.Encrypted}
	for name, m := range map[string]*applicant{"genuine": genuine, "thief": thief} {
		if secret, err := m.tpm.Activate(t.Context(), m.eks[challenge.Endorsement], carried); !errors.Is(err, tpm.ErrCredential) || secret != nil {
			t.Errorf("%s opens it: %x, %v", name, secret, err)
		}
	}
	p := api.ProvisionProof{Session: challenge.Session, Secret: make([]byte, 32)}
	thief.states(&p, challenge.Nonce)
	if _, problem, check := c.prove(p); problem != api.CodeProvisionAttestation || check != string(registry.CheckActivation) {
		t.Errorf("%s %s", problem, check)
	}
}

// The first TPM that proves itself has the code and the id; another one is sent
// away, before approval and after it, with any code.
func TestAnotherTPM(t *testing.T) {
	t.Parallel()
	a, b := machine(t, kioskID, false), machine(t, kioskID, true)
	w, kiosks, c, _ := trusting(t, nil, a, b)
	code := newCode(t, w, kiosks, kioskID)
	// Both begin; the first to prove wins.
	challenge, problem, _ := c.begin(b.asks(kioskID, code))
	if problem != "" {
		t.Fatal(problem)
	}
	late := b.answers(challenge)
	a.provisions(c, kioskID, code)
	if _, problem, _ := c.prove(late); problem != api.CodeProvisionOtherTPM {
		t.Errorf("the second to prove: %q", problem)
	}
	if _, problem, _ := c.begin(b.asks(kioskID, code)); problem != api.CodeProvisionOtherTPM {
		t.Errorf("claimed code: %q", problem)
	}
	given, err := kiosks.Provisions(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	k, err := kiosks.Approve(t.Context(), kioskID, given[0].Waiting.Fingerprint(), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	second := newCode(t, w, kiosks, kioskID)
	if _, problem, _ := c.begin(b.asks(kioskID, second)); problem != api.CodeProvisionOtherTPM {
		t.Errorf("registered id: %q", problem)
	}
	if s, _ := a.provisions(c, kioskID, second); s.Status != api.Approved || !reflect.DeepEqual(*s.Certificates, k.Certificates) {
		t.Errorf("the TPM that has the id: %+v", s)
	}
	// Sent away, it has no further try with that code.
	b2 := machine(t, "KIOSK-0008", false)
	code = newCode(t, w, kiosks, "KIOSK-0008")
	_, session := b2.provisions(c, "KIOSK-0008", code)
	if err := kiosks.Reject(t.Context(), "KIOSK-0008"); err != nil {
		t.Fatal(err)
	}
	if _, problem, _ := c.waits(session); problem != api.CodeProvisionRejected {
		t.Errorf("waiting: %q", problem)
	}
	if _, problem, _ := c.begin(b2.asks("KIOSK-0008", code)); problem != api.CodeProvisionRejected {
		t.Errorf("again: %q", problem)
	}
	for _, id := range []string{"KIOSK-0008", "KIOSK-0009"} {
		if err := kiosks.Reject(t.Context(), id); !errors.Is(err, registry.ErrNotWaiting) {
			t.Errorf("reject %s: %v", id, err)
		}
	}
}

// A registered TPM that started other firmware, or has other keys, waits for a
// person; what it had stays as it is until then.
func TestChangedMachineWaits(t *testing.T) {
	t.Parallel()
	a := machine(t, kioskID, false)
	w, kiosks, c, _ := trusting(t, nil, a)
	code := newCode(t, w, kiosks, kioskID)
	approve := func() registry.Kiosk {
		t.Helper()
		given, err := kiosks.Provisions(t.Context())
		if err != nil || given[0].Waiting == nil {
			t.Fatalf("%+v, %v", given, err)
		}
		k, err := kiosks.Approve(t.Context(), kioskID, given[0].Waiting.Fingerprint(), time.Now())
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	a.provisions(c, kioskID, code)
	first := approve()

	a.tpm.Close()
	r, err := linuxudstpm.Open(strings.TrimPrefix(a.chip.Path(), "unix:"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := (tpm2.PCRExtend{PCRHandle: tpm2.AuthHandle{Handle: tpm2.TPMHandle(4), Auth: tpm2.PasswordAuth(nil)},
		Digests: tpm2.TPMLDigestValues{Digests: []tpm2.TPMTHA{{HashAlg: tpm2.TPMAlgSHA256, Digest: make([]byte, 32)}}}}).Execute(r); err != nil {
		t.Fatal(err)
	}
	r.Close()
	a.open(kioskID)
	if s, _ := a.provisions(c, kioskID, code); s.Status != api.Waiting {
		t.Errorf("other firmware: %+v", s)
	}
	if k, err := kiosks.Find(t.Context(), kioskID); err != nil || !reflect.DeepEqual(k, first) {
		t.Errorf("changed before anybody approved: %v", err)
	}
	if second := approve(); bytes.Equal(second.BootPCRs[4], first.BootPCRs[4]) || !bytes.Equal(second.RecordKey, first.RecordKey) {
		t.Error("the new boot is not pinned")
	}
	a.tpm.Close()
	a.dir = t.TempDir() // the disk is lost
	a.open(kioskID)
	if s, _ := a.provisions(c, kioskID, code); s.Status != api.Waiting {
		t.Errorf("other keys: %+v", s)
	}
	if third := approve(); bytes.Equal(third.RecordKey, first.RecordKey) || !third.Registered.Equal(first.Registered) {
		t.Error("the new keys are not registered")
	}
}

// Without a maker that the policy trusts nobody becomes a kiosk.
func TestNoMakerIsTrusted(t *testing.T) {
	t.Parallel()
	a := machine(t, kioskID, false)
	w, kiosks, c, _ := trusting(t, nil)
	if _, problem, check := c.begin(a.asks(kioskID, newCode(t, w, kiosks, kioskID))); problem != api.CodeProvisionEK || check != string(attest.CheckChain) {
		t.Errorf("%s %s", problem, check)
	}
}

// Guessing is slow, and many who guess at once are asked to come again.
func TestGuessingIsSlow(t *testing.T) {
	t.Parallel()
	w, kiosks, c, _ := trusting(t, nil)
	newCode(t, w, kiosks, kioskID)
	some := []byte{1}
	q := api.ProvisionBegin{Version: 1, KioskID: kioskID, Secret: make([]byte, 16), Endorsements: []api.Endorsement{{Certificate: some, Public: some}},
		AttestationKey: some, StorageKeyName: some, RecordCSR: some, TLSCSR: some}
	codes := make(chan string, 8)
	for range cap(codes) {
		go func() { _, code, _ := c.begin(q); codes <- code }()
	}
	got := map[string]int{}
	for range cap(codes) {
		got[<-codes]++
	}
	if got[api.CodeProvisionCode]+got[api.CodeTooMany] != cap(codes) || got[api.CodeTooMany] == 0 || got[api.CodeProvisionCode] == 0 {
		t.Errorf("%v", got)
	}
}

// FuzzProvisionBegin: what comes before the code is checked is anybody's, and
// every part of it foreign bytes even with a code. Nobody is registered.
func FuzzProvisionBegin(f *testing.F) {
	seed, err := json.Marshal(api.ProvisionBegin{Version: 1, KioskID: "K-1", Secret: make([]byte, 16), Endorsements: make([]api.Endorsement, 1),
		RecordCSR: []byte{0x30, 0}, AttestationKey: bytes.Repeat([]byte{0, 0x23}, 40)})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Add([]byte(`{}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		q, err := api.Decode[api.ProvisionBegin](bytes.NewReader(b))
		if err != nil && !errors.Is(err, api.ErrForm) && !errors.Is(err, api.ErrSize) {
			t.Errorf("untyped: %v", err)
		}
		if err == nil && (len(q.Secret) != 16 || !api.ValidKioskID(q.KioskID)) {
			t.Errorf("accepted %q", b)
		}
	})
}
