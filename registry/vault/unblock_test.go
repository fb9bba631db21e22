package vault_test

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"enrollkiosk/hsm"
	"enrollkiosk/hsm/attest"
	"enrollkiosk/hsm/tpm"
	"enrollkiosk/kiosk/secret"
	"enrollkiosk/registry/api"
	"enrollkiosk/registry/internal/chain"
	"enrollkiosk/registry/internal/registrytest"
	"enrollkiosk/registry/record"
	"enrollkiosk/registry/vault"
	"enrollkiosk/simulators/idcard"
	sim "enrollkiosk/simulators/tpm"
)

// machine is a TPM with a kiosk's keys.
type machine struct {
	tpm    *tpm.TPM
	ek     tpm.EndorsementKey
	ekName []byte
	ak     tpm.AttestationKey
	roots  [][]byte
}

func newMachine(t testing.TB) machine {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "tpm")
	if err := sim.Manufacture(t.Context(), dir); err != nil { // each another one
		t.Fatal(err)
	}
	chip, err := sim.Start(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { chip.Stop() })
	m := machine{roots: chip.Roots()}
	if m.tpm, err = tpm.Open(t.Context(), tpm.Options{Path: chip.Path(), Dir: t.TempDir()}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.tpm.Close() })
	if err := m.tpm.Init(t.Context(), [32]byte{1}); err != nil {
		t.Fatal(err)
	}
	keys, err := m.tpm.EndorsementKeys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	m.ek = keys[0]
	parsed, err := attest.ParseEndorsementKey(m.ek.Public)
	if err != nil {
		t.Fatal(err)
	}
	m.ekName = parsed.Name()
	if m.ak, err = m.tpm.AttestationKey(); err != nil {
		t.Fatal(err)
	}
	return m
}

// counter is a service desk: a kiosk with a real TPM, an officer, and a citizen
// whose record the vault has found active.
type counter struct {
	t        testing.TB
	w        *registrytest.World
	o        vault.Options
	v        *vault.Vault
	k        *registrytest.Kiosk
	m        machine
	officer  registrytest.Officer
	holder   registrytest.Device
	enrolled record.Submission
	admin    record.TokenAdmin // sealed in enrolled
}

func admin(n byte) record.TokenAdmin {
	return record.TokenAdmin{PUK: secret.FromString(fmt.Sprintf("7712345%d", n)), ManagementKey: secret.New(bytes.Repeat([]byte{0xA0 + n}, 24))}
}

// newCounter makes one; the makers of further TPMs are trusted too.
func newCounter(t testing.TB, further ...machine) *counter {
	t.Helper()
	c := &counter{t: t, w: registrytest.New(t, state(t).CSCA()), m: newMachine(t), admin: admin(0), holder: registrytest.NewDevice(t)}
	var roots strings.Builder
	files := map[string][]byte{}
	trusted := c.m.roots
	for _, m := range further {
		trusted = append(trusted, m.roots...)
	}
	for i, der := range trusted {
		name := fmt.Sprintf("tpm%d.der", i)
		files[name] = der
		fmt.Fprintf(&roots, "[[tpm_roots]]\nfile = %q\nclass = \"test\"\n", name)
	}
	c.w.Accept(t, roots.String()+"[[officer_roles]]\nunit = \"desk\"\nroles = [\"desk\"]\n", files)
	c.officer = c.w.Officers.Officer(t, "5500", func(x *x509.Certificate) { x.Subject.OrganizationalUnit = []string{"desk"} })
	c.o = c.w.VaultOptions()
	c.v = open(t, c.o)
	c.k = c.w.Kiosk(t, "KIOSK-0001")
	c.enrolled = c.enroll(idcard.SpecimenPerson(), registrytest.Spec{Holder: &c.holder})
	return c
}

// sealing is an identity with the administrator.
func (c *counter) sealing(p idcard.Person) func(record.Context, crypto.PublicKey) record.Identity {
	c.t.Helper()
	return identityOf(c.t, card(c.t, p, idcard.Options{}), func(id *record.Identity) {
		a := record.TokenAdmin{PUK: secret.New(bytes.Clone(c.admin.PUK.Reveal())), ManagementKey: secret.New(bytes.Clone(c.admin.ManagementKey.Reveal()))}
		id.TokenAdmin = &a
	})
}

// enroll makes an active record with it.
func (c *counter) enroll(p idcard.Person, s registrytest.Spec) record.Submission {
	c.t.Helper()
	s.Identity = c.sealing(p)
	out := c.k.Make(c.t, s)
	if got := judged(c.t, c.w, c.v, out); got.Code != "" {
		c.t.Fatalf("%+v", got)
	}
	return out
}

// asking is what may be special about a request.
type asking struct {
	context func(*record.UnblockContext)
	officer *registrytest.Officer
	kiosk   *registrytest.Kiosk
	next    *record.TokenAdmin
}

func (c *counter) request(a asking) record.Unblock {
	c.t.Helper()
	s := registrytest.UnblockSpec{DID: c.enrolled.Record().Payload().Holder.DID, EKNames: [][]byte{c.m.ekName}, AKName: c.m.ak.Name,
		Officer: c.officer, Context: a.context, Kiosk: a.kiosk, Next: a.next}
	if a.officer != nil {
		s.Officer = *a.officer
	}
	return c.k.Unblock(c.t, s)
}

// order is what an honest registry makes of a request.
func (c *counter) order(u record.Unblock) api.UnblockOrder {
	return api.UnblockOrder{Request: u.Bytes(), Record: c.enrolled.Bytes(), Endorsement: api.Endorsement{Certificate: c.m.ek.Certificate, Public: c.m.ek.Public},
		AttestationKey: c.m.ak.Public}
}

// redeem opens an answer in the TPM.
func (c *counter) redeem(answer []byte, u record.Unblock) []record.TokenAdmin {
	c.t.Helper()
	a, err := record.VerifyUnblockAnswer(answer, c.w.Policy.Policy().VerdictKeys.Vault, u)
	if err != nil {
		c.t.Fatal(err)
	}
	key, err := c.m.tpm.Activate(c.t.Context(), c.m.ek, hsm.TPMCredential{Blob: a.Blob, Secret: a.Encrypted})
	if err != nil {
		c.t.Fatal(err)
	}
	list, err := record.OpenCandidates(key, u.ID(), a.Ciphertext)
	if err != nil {
		c.t.Fatal(err)
	}
	return list
}

func (c *counter) answered(a asking) []record.TokenAdmin {
	c.t.Helper()
	u := c.request(a)
	answer, err := c.v.Unblock(c.t.Context(), c.order(u))
	if err != nil {
		c.t.Fatal(err)
	}
	return c.redeem(answer, u)
}

func (c *counter) refuses(what string, order api.UnblockOrder, code string) {
	c.t.Helper()
	answer, err := c.v.Unblock(c.t.Context(), order)
	var refused *chain.Refusal
	if answer != nil || !errors.As(err, &refused) || refused.Code != code {
		c.t.Errorf("%s: %v, want %s", what, err, code)
	}
}

// reopen opens the vault anew, with another clock or policy.
func (c *counter) reopen(change func(*vault.Options)) {
	c.t.Helper()
	if err := c.v.Close(); err != nil {
		c.t.Fatal(err)
	}
	change(&c.o)
	c.v = open(c.t, c.o)
}

func same(a, b record.TokenAdmin) bool {
	return a.PUK.Equal(b.PUK) && a.ManagementKey.Equal(b.ManagementKey)
}

// The enrolled administrator comes first, then those of earlier requests, the
// newest first. The same request gets the same bytes and is not counted again; the
// third within 30 days is the last, whatever happens to the process.
func TestUnblockCandidatesAndLimit(t *testing.T) {
	c := newCounter(t)
	var first record.Unblock
	var answer []byte
	for n := byte(1); n <= 3; n++ {
		next := admin(n)
		u := c.request(asking{next: &next})
		got, err := c.v.Unblock(t.Context(), c.order(u))
		if err != nil {
			t.Fatal(err)
		}
		list := c.redeem(got, u)
		if len(list) != int(n) || !same(list[0], admin(0)) {
			t.Fatalf("%d candidates", len(list))
		}
		for i, a := range list[1:] {
			if !same(a, admin(n-1-byte(i))) {
				t.Errorf("request %d: candidate %d is another", n, i+1)
			}
		}
		if n == 1 {
			first, answer = u, got
		}
		again, err := c.v.Unblock(t.Context(), c.order(u))
		if err != nil || !bytes.Equal(again, got) {
			t.Errorf("the same request again: %v", err)
		}
	}
	c.refuses("a fourth", c.order(c.request(asking{})), api.CodeUnblockLimit)
	c.reopen(func(*vault.Options) {})
	c.refuses("a fourth, after a restart", c.order(c.request(asking{})), api.CodeUnblockLimit)
	if again, err := c.v.Unblock(t.Context(), c.order(first)); err != nil || !bytes.Equal(again, answer) {
		t.Errorf("the first again: %v", err)
	}
	later := time.Now().Add(31 * 24 * time.Hour)
	c.reopen(func(o *vault.Options) { o.Now = func() time.Time { return later } })
	if list := c.answered(asking{context: func(u *record.UnblockContext) { u.Time = later.UTC().Truncate(time.Second) }}); len(list) != 4 {
		t.Errorf("a month later: %d candidates", len(list))
	}
}

func TestUnblockOfficersLimit(t *testing.T) {
	c := newCounter(t)
	vault.Serve(t, c.v, "5500", time.Now(), 19)
	c.answered(asking{})
	c.refuses("the officer's 21st", c.order(c.request(asking{})), api.CodeUnblockLimit)
	other := c.w.Officers.Officer(t, "5501", func(x *x509.Certificate) { x.Subject.OrganizationalUnit = []string{"desk"} })
	c.answered(asking{officer: &other})
}

// Nothing that a lying registry, a stranger or a thief sends is answered.
func TestUnblockRefusals(t *testing.T) {
	other := newMachine(t)
	c := newCounter(t, other)
	desk := func(x *x509.Certificate) { x.Subject.OrganizationalUnit = []string{"desk"} }
	at := func(d time.Duration) asking {
		return asking{context: func(u *record.UnblockContext) { u.Time = time.Now().Add(d).UTC().Truncate(time.Second) }}
	}
	second := c.w.Kiosk(t, "KIOSK-0002")
	stranger := registrytest.NewCA(t, "Strangers").Officer(t, "5500", desk)
	bad := record.TokenAdmin{PUK: secret.FromString("123"), ManagementKey: secret.New(make([]byte, 24))}
	for _, r := range []struct {
		what string
		a    asking
		edit func(*api.UnblockOrder)
		code string
	}{
		{"officer without the role", asking{officer: &c.w.Officer}, nil, api.CodeOfficer},
		{"officer of another force", asking{officer: &stranger}, nil, api.CodeOfficer},
		{"another kiosk's certificate", asking{kiosk: second}, nil, api.CodeKiosk},
		{"too old", at(-11 * time.Minute), nil, api.CodeTime},
		{"from the future", at(11 * time.Minute), nil, api.CodeTime},
		{"for another registry", asking{context: func(u *record.UnblockContext) { u.Audience = "elsewhere.example/log" }}, nil, record.CodeAudience},
		{"new administrator that no token takes", asking{next: &bad}, nil, api.CodeSealed},
		{"another TPM's endorsement key", asking{}, func(o *api.UnblockOrder) {
			o.Endorsement = api.Endorsement{Certificate: other.ek.Certificate, Public: other.ek.Public}
		}, api.CodeUnblockTPM},
		{"another TPM altogether", asking{}, func(o *api.UnblockOrder) {
			o.Endorsement = api.Endorsement{Certificate: other.ek.Certificate, Public: other.ek.Public}
			o.AttestationKey = other.ak.Public
		}, api.CodeUnblockTPM},
		{"another TPM's certificate", asking{}, func(o *api.UnblockOrder) { o.Endorsement.Certificate = other.ek.Certificate }, api.CodeUnblockTPM},
		{"another AK", asking{}, func(o *api.UnblockOrder) { o.AttestationKey = other.ak.Public }, api.CodeUnblockTPM},
		{"no AK but an endorsement key", asking{}, func(o *api.UnblockOrder) { o.AttestationKey = c.m.ek.Public }, api.CodeUnblockTPM},
		{"no endorsement", asking{}, func(o *api.UnblockOrder) { o.Endorsement = api.Endorsement{} }, api.CodeUnblockTPM},
		{"endorsed by nobody", asking{}, func(o *api.UnblockOrder) { o.Endorsement.Certificate = c.w.Tokens.Cert.Raw }, api.CodeUnblockTPM},
		{"names of another TPM", asking{context: func(u *record.UnblockContext) { u.EKNames, u.AKName = [][]byte{other.ekName}, other.ak.Name }}, nil, api.CodeUnblockTPM},
	} {
		order := c.order(c.request(r.a))
		if r.edit != nil {
			r.edit(&order)
		}
		c.refuses(r.what, order, r.code)
	}

	elsewhere := c.enroll(another("X00000001", "OLGA"), registrytest.Spec{})
	exchanged := c.order(c.request(asking{}))
	exchanged.Record = elsewhere.Bytes()
	if _, err := c.v.Unblock(t.Context(), exchanged); !errors.Is(err, vault.ErrNoRequest) {
		t.Errorf("another person's record: %v", err)
	}
	unknown := c.order(c.request(asking{context: func(u *record.UnblockContext) { u.PolicyDigest[0] ^= 1 }}))
	if _, err := c.v.Unblock(t.Context(), unknown); !errors.Is(err, vault.ErrUnknownPolicy) {
		t.Errorf("unknown policy: %v", err)
	}
	// Nothing of this was counted.
	if list := c.answered(asking{}); len(list) != 1 {
		t.Errorf("%d candidates after refusals", len(list))
	}

	knows(t, c.w, "5500", annas)
	c.refuses("the officer's own token", c.order(c.request(asking{})), api.CodeOwnEnrollment)
	c.officer = c.w.Officers.Officer(t, "5501", desk)
	c.answered(asking{})

	// A record that was never judged, one whose holder has another key now, and one
	// without a token.
	unjudged := registrytest.NewDevice(t)
	c2 := *c
	c2.enrolled = c.k.Make(t, registrytest.Spec{Holder: &unjudged})
	c2.refuses("a record without a verdict", c2.order(c2.request(asking{})), api.CodeUnblockToken)
	c2.enrolled = c.k.Make(t, registrytest.Spec{Holder: &c.holder, Identity: c.sealing(idcard.SpecimenPerson())})
	c2.refuses("another record of the same key", c2.order(c2.request(asking{})), api.CodeUnblockToken)
	c.enroll(idcard.SpecimenPerson(), registrytest.Spec{Purpose: record.Replace, Old: &c.holder})
	c.refuses("a replaced key", c.order(c.request(asking{})), api.CodeUnblockToken)
	c2.enrolled = c.k.Make(t, registrytest.Spec{Identity: identityOf(t, card(t, another("X00000002", "VERA"), idcard.Options{}), nil)})
	if got := judged(t, c.w, c.v, c2.enrolled); got.Code != "" {
		t.Fatalf("%+v", got)
	}
	c2.refuses("a key in no token", c2.order(c2.request(asking{})), api.CodeUnblockToken)

	c2.enrolled = elsewhere
	c.reopen(func(o *vault.Options) { o.Policy = c.w.Revoke(t, 2, time.Now().Add(-10*time.Minute), c.officer) })
	c2.v, c2.officer = c.v, c.officer
	c2.refuses("a lost officer's card", c2.order(c2.request(asking{})), api.CodeOfficerRevoked)
}

// An answer is of use to the TPM that it was made for alone, and to its own request.
func TestUnblockAnswerElsewhere(t *testing.T) {
	c := newCounter(t)
	u := c.request(asking{})
	answer, err := c.v.Unblock(t.Context(), c.order(u))
	if err != nil {
		t.Fatal(err)
	}
	keys := c.w.Policy.Policy().VerdictKeys.Vault
	a, err := record.VerifyUnblockAnswer(answer, keys, u)
	if err != nil {
		t.Fatal(err)
	}
	other := newMachine(t)
	if bytes.Equal(other.ekName, c.m.ekName) {
		t.Fatal("it is the same TPM")
	}
	if _, err := other.tpm.Activate(t.Context(), other.ek, hsm.TPMCredential{Blob: a.Blob, Secret: a.Encrypted}); !errors.Is(err, tpm.ErrCredential) {
		t.Errorf("another kiosk's TPM: %v", err)
	}
	if _, err := record.VerifyUnblockAnswer(answer, keys, c.request(asking{})); err == nil {
		t.Error("it answers a later request too")
	}
	for i := range answer {
		altered := bytes.Clone(answer)
		altered[i] ^= 1
		if _, err := record.VerifyUnblockAnswer(altered, keys, u); err == nil {
			t.Fatalf("byte %d altered, accepted", i)
		}
	}
	order := c.order(u)
	for i := range order.Request {
		altered := order
		altered.Request = bytes.Clone(order.Request)
		altered.Request[i] ^= 1
		if got, err := c.v.Unblock(t.Context(), altered); err == nil {
			t.Fatalf("byte %d of the request altered, answered %d bytes", i, len(got))
		}
	}
}

// What a test kiosk's TPM or an officer of class test asks, a production vault
// does not answer.
func TestUnblockInProduction(t *testing.T) {
	c := newCounter(t)
	c.reopen(func(o *vault.Options) { o.Production = true })
	c.refuses("test", c.order(c.request(asking{})), api.CodeSimulated)
}

// No PUK and no management key is in a log or a file of the vault, in any encoding.
func TestNoAdministratorStays(t *testing.T) {
	c := newCounter(t)
	var logged bytes.Buffer
	c.reopen(func(o *vault.Options) {
		o.Log = slog.New(slog.NewTextHandler(&logged, &slog.HandlerOptions{Level: slog.LevelDebug}))
	})
	next := admin(1)
	c.answered(asking{next: &next})
	c.answered(asking{})
	c.refuses("refused", c.order(c.request(asking{officer: &c.w.Officer})), api.CodeOfficer)
	if err := c.v.Close(); err != nil {
		t.Fatal(err)
	}
	seen := logged.Bytes()
	b, err := os.ReadFile(filepath.Join(c.w.VaultDir(), "vault.db"))
	if err != nil {
		t.Fatal(err)
	}
	seen = append(seen, b...)
	find := func(secret []byte) bool {
		for _, form := range []string{string(secret), hex.EncodeToString(secret), base64.RawURLEncoding.EncodeToString(secret), base64.StdEncoding.EncodeToString(secret)} {
			if bytes.Contains(seen, []byte(form)) {
				return true
			}
		}
		return false
	}
	for n := range byte(2) {
		if find(admin(n).PUK.Reveal()) || find(admin(n).ManagementKey.Reveal()) {
			t.Errorf("administrator %d stays", n)
		}
	}
	if !find([]byte("administrator handed out")) || !find([]byte("5500")) {
		t.Error("the control is not there either: this test looks in the wrong place")
	}
}
