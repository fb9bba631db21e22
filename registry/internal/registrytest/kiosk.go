package registrytest

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/json"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"enrollkiosk/kiosk/secret"
	"enrollkiosk/registry"
	"enrollkiosk/registry/api"
	"enrollkiosk/registry/internal/keyfile"
	"enrollkiosk/registry/record"
	"enrollkiosk/smartcard/lds"
)

// Kiosk is a kiosk whose keys are in software.
type Kiosk struct {
	ID       string
	World    *World
	Record   Device
	Chain    [][]byte
	TLS      tls.Certificate
	Sequence uint64 // of its last record
	made     map[uint64][32]byte
}

// before is the id of the record before a number: the first that was made, or one
// that nobody has seen.
func (k *Kiosk) before(number uint64) [32]byte {
	id, made := k.made[number-1]
	if !made && number > 1 {
		id = sha256.Sum256(fmt.Appendf(nil, "%s %d", k.ID, number-1))
	}
	return id
}

// Kiosk makes a kiosk and puts it on the register, as if its TPM had been
// looked at.
func (w *World) Kiosk(t testing.TB, id string) *Kiosk {
	t.Helper()
	return w.KioskFrom(t, id, time.Now())
}

// KioskFrom is Kiosk with certificates that were issued at a time.
func (w *World) KioskFrom(t testing.TB, id string, at time.Time) *Kiosk {
	t.Helper()
	k := &Kiosk{ID: id, World: w, Record: NewDevice(t), made: map[uint64][32]byte{}}
	ca, err := keyfile.ReadAuthority(w.RegistryDir(), "kiosk-ca")
	if err != nil {
		t.Fatal(err)
	}
	certify := func(key Device, usage ...x509.ExtKeyUsage) []byte {
		der, err := ca.Issue(x509.Certificate{Subject: pkix.Name{CommonName: id}, ExtKeyUsage: usage}, key.Public(), at)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	spki := func(key Device) []byte {
		b, err := x509.MarshalPKIXPublicKey(key.Public())
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	link, ak := NewDevice(t), NewDevice(t)
	k.Chain = [][]byte{certify(k.Record)}
	k.TLS = tls.Certificate{Certificate: [][]byte{certify(link, x509.ExtKeyUsageClientAuth)}, PrivateKey: link.PrivateKey}
	b, err := json.Marshal(registry.Kiosk{ID: id, RecordKey: spki(k.Record), TLSKey: spki(link), AttestationKey: attestationKey(ak), Class: string(w.kiosks), Registered: time.Now().UTC().AddDate(0, 0, -60),
		Certificates: api.KioskCertificates{Version: 1, KioskID: id, Attestation: [][]byte{certify(ak)}, Record: k.Chain, TLS: k.TLS.Certificate}})
	if err != nil {
		t.Fatal(err)
	}
	w.write(t, filepath.Join("registry", "kiosks", id+".json"), b)
	return k
}

// attestationKey is the TPMT_PUBLIC (TPM 2.0 Part 2, 12.2.4) of a restricted signing
// key: P-256, ECDSA with SHA-256, fixed to its TPM and born there.
func attestationKey(key Device) []byte {
	b := []byte{0, 0x23, 0, 0x0B, 0, 5, 0, 0x72, 0, 0, 0, 0x10, 0, 0x18, 0, 0x0B, 0, 3, 0, 0x10}
	point, _ := key.PublicKey.Bytes() // 4 || x || y; a P-256 key has one
	for _, coordinate := range [][]byte{point[1:33], point[33:]} {
		b = append(append(b, 0, 32), coordinate...)
	}
	return b
}

// Restart has the register know that the kiosk was provisioned anew on an empty
// disk, at a value of its counter.
func (k *Kiosk) Restart(t testing.TB, counter uint64) {
	t.Helper()
	kiosk, err := registry.KiosksIn(k.World.RegistryDir()).Find(t.Context(), k.ID)
	if err != nil {
		t.Fatal(err)
	}
	kiosk.Restarts = append(kiosk.Restarts, counter)
	b, err := json.Marshal(kiosk)
	if err != nil {
		t.Fatal(err)
	}
	k.World.write(t, filepath.Join("registry", "kiosks", k.ID+".json"), b)
}

// Spec says what is special about a record. The zero value is an ordinary
// enrollment of a new key.
type Spec struct {
	Purpose    record.Purpose // default Enroll
	Context    func(*record.Context)
	Holder     *Device // default a new one
	Old        *Device // old holder, for Replace
	Officer    *Officer
	Exceptions []record.Exception // what the document lacks; a supervisor signs too
	Supervisor *Officer
	Kiosk      *Kiosk                                                          // who signs instead
	Attest     func(own *CA, leaf *x509.Certificate)                           // alters what the token says
	Identity   func(c record.Context, holder crypto.PublicKey) record.Identity // default: nothing that verifies
	// Custody makes a holder's key in the kiosk's TPM, bound to the record, in place of Holder.
	Custody func(binding [32]byte) (record.Signer, record.TPMEvidence)
	Payload func(*record.Payload)                                              //
	Roles   func([]record.SignerRef, map[record.Role]Party) []record.SignerRef // alters who signs
}

// Party signs for a role.
type Party struct {
	Signer record.Signer
	Chain  [][]byte
}

// Make makes a record and joins it with its attestation.
func (k *Kiosk) Make(t testing.TB, s Spec) record.Submission {
	t.Helper()
	w := k.World
	if s.Purpose == "" {
		s.Purpose = record.Enroll
	}
	if s.Holder == nil {
		d := NewDevice(t)
		s.Holder = &d
	}
	if s.Officer == nil {
		s.Officer = &w.Officer
	}
	if s.Supervisor == nil {
		s.Supervisor = &w.Supervisor
	}
	c := record.Context{Version: record.Version, Audience: Origin, Purpose: s.Purpose, KioskID: k.ID, Sequence: k.Sequence + 1,
		PolicyDigest: w.Policy.Digest(), AuthorityKeyID: w.Policy.Policy().Authority.ID}
	rand.Read(c.Nonce[:])
	if s.Context != nil {
		s.Context(&c)
	}
	var previous [32]byte
	if c.KioskID != "" {
		previous = k.before(c.Sequence)
		k.Sequence++
	}
	now := time.Now().UTC().Truncate(time.Second)
	p := record.Payload{Context: c, Previous: previous, Times: record.Times{Wall: now, Synchronised: true, Monotonic: 1000, Boot: [16]byte{1}, Registry: now.Add(-time.Hour)}}
	rand.Read(p.Blind[:])
	var holder record.Signer = *s.Holder
	where, class := record.PIV, w.tokens
	var evidence *record.Attestation
	if s.Custody != nil {
		signer, tpm := s.Custody(c.KeyBinding())
		holder, where, class, evidence = signer, record.TPM, w.kiosks, &record.Attestation{TPM: &tpm}
	}
	did, err := record.DIDKey(holder.Public())
	if err != nil {
		t.Fatal(err)
	}
	jwk, err := record.NewJWK(holder.Public())
	if err != nil {
		t.Fatal(err)
	}
	switch s.Purpose {
	case record.Enroll, record.Replace, record.Update:
		if evidence == nil {
			evidence = w.attest(t, holder.Public(), s.Attest)
		}
		p.Holder = record.HolderKey{DID: did, Key: jwk, Where: where, Class: class, Attestation: evidence.Digest()}
		p.Purposes = []record.Consent{{ID: "enrollment", Version: 1}}
		p.CancelSHA = record.CancelHash(c.Nonce[:]) // every citizen has a code of their own
		p.Exceptions = s.Exceptions
		if s.Identity == nil {
			s.Identity = Unverifiable
		}
		if p.Identity, err = record.Seal(c, w.vault.Authority, s.Identity(c, holder.Public())); err != nil {
			t.Fatal(err)
		}
	case record.Revoke:
		p.Holder = record.HolderKey{DID: did, Key: jwk}
	}
	by := k
	if s.Kiosk != nil {
		by = s.Kiosk
	}
	parties := map[record.Role]Party{record.Holder: {holder, nil}, record.Officer: {*s.Officer, s.Officer.Chain},
		record.Supervisor: {*s.Supervisor, s.Supervisor.Chain}, record.Kiosk: {by.Record, by.Chain}}
	roles := []record.Role{record.Holder, record.Officer, record.Kiosk}
	if len(s.Exceptions) > 0 {
		roles = []record.Role{record.Holder, record.Officer, record.Supervisor, record.Kiosk}
	}
	switch {
	case s.Purpose == record.Void:
		roles = roles[2:]
	case s.Purpose == record.Revoke:
		roles = roles[:1]
	case s.Old != nil:
		roles = append([]record.Role{record.OldHolder}, roles...)
		parties[record.OldHolder] = Party{*s.Old, nil}
		if p.Replaces, err = record.DIDKey(s.Old.Public()); err != nil {
			t.Fatal(err)
		}
	}
	for _, role := range roles {
		ref, err := record.SignerOf(role, parties[role].Signer.Public(), parties[role].Chain)
		if err != nil {
			t.Fatal(err)
		}
		p.Signers = append(p.Signers, ref)
	}
	if s.Roles != nil {
		p.Signers = s.Roles(p.Signers, parties)
	}
	if s.Payload != nil {
		s.Payload(&p)
	}
	d, err := record.New(p)
	if err != nil {
		t.Fatal(err)
	}
	for role := d.Next(); role != ""; role = d.Next() {
		if err := d.Sign(t.Context(), role, parties[role].Signer, parties[role].Chain); err != nil {
			t.Fatal(err)
		}
	}
	r, err := d.Record()
	if err != nil {
		t.Fatal(err)
	}
	out, err := record.NewSubmission(r, evidence)
	if err != nil {
		t.Fatal(err)
	}
	if _, made := k.made[c.Sequence]; !made && c.KioskID == k.ID {
		k.made[c.Sequence] = out.ID()
	}
	return out
}

// Unverifiable is an identity that no vault accepts.
func Unverifiable(record.Context, crypto.PublicKey) record.Identity {
	return record.Identity{Document: record.EMRTD, Access: "PACE", Report: []byte(`{}`), Consents: Consents(),
		Files: map[uint16]secret.Text{0x0101: secret.FromString("no DG1"), 0x011D: secret.FromString("no EF.SOD")}}
}

// Identity is what a kiosk seals of a document that it has read.
func Identity(doc lds.Document) record.Identity {
	id := record.Identity{Document: record.EMRTD, Access: doc.Access, Report: []byte(`{}`), Consents: Consents(), Files: map[uint16]secret.Text{}}
	for _, f := range []lds.File{lds.DG1, lds.DG14, lds.DG15, lds.EFSOD} {
		if b := doc.Files[f]; b != nil {
			id.Files[uint16(f)] = secret.New(bytes.Clone(b))
		}
	}
	if a := doc.Active; a != nil {
		id.Active = &record.ActiveEvidence{Challenge: a.Challenge[:], Signature: a.Signature}
	}
	return id
}

// Consents are those that go with a Spec's purposes.
func Consents() []record.ConsentText {
	return []record.ConsentText{{ID: "enrollment", Version: 1, Digest: sha256.Sum256([]byte(ConsentText)), Language: "en"}}
}

// attest is what a token of firmware 5.4.3 with serial number 1234567 says
// about a key in 9A (Yubico, "PIV Attestation").
func (w *World) attest(t testing.TB, key crypto.PublicKey, edit func(*CA, *x509.Certificate)) *record.Attestation {
	t.Helper()
	say := func(n int, value ...byte) pkix.Extension {
		return pkix.Extension{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 41482, 3, n}, Value: value}
	}
	serial, err := asn1.Marshal(1234567)
	if err != nil {
		t.Fatal(err)
	}
	own := w.own
	leaf := &x509.Certificate{Subject: pkix.Name{CommonName: "YubiKey PIV Attestation 9a"},
		NotBefore: time.Now().AddDate(-1, 0, 0), NotAfter: time.Now().AddDate(10, 0, 0),
		ExtraExtensions: []pkix.Extension{say(3, 5, 4, 3), say(7, serial...), say(8, 2, 2), say(9, 1)}}
	if edit != nil {
		edit(&own, leaf)
	}
	cert := issue(t, leaf, own.Cert, key, own.Key)
	return &record.Attestation{PIV: &record.PIVEvidence{Certificate: cert.Raw, Intermediate: own.Cert.Raw}}
}

// Lost is how a record replaces a DID whose key is not at hand: a supervisor signs
// in the old holder's place.
func Lost(did string) Spec {
	return Spec{Purpose: record.Replace, Payload: func(p *record.Payload) { p.Replaces = did },
		Roles: By(record.Holder, record.Officer, record.Supervisor, record.Kiosk)}
}

// By has these roles sign.
func By(roles ...record.Role) func([]record.SignerRef, map[record.Role]Party) []record.SignerRef {
	return func(_ []record.SignerRef, parties map[record.Role]Party) (refs []record.SignerRef) {
		for _, role := range roles {
			ref, err := record.SignerOf(role, parties[role].Signer.Public(), parties[role].Chain)
			if err != nil {
				panic(err) // P-256 keys
			}
			refs = append(refs, ref)
		}
		return refs
	}
}

// Own is the token's own certificate (F9), which issues all attestations.
func (w *World) Own() CA { return w.own }

// Lookalike is a token's certificate under a maker that nobody trusts.
func (w *World) Lookalike(t testing.TB) CA {
	t.Helper()
	maker, key := NewCA(t, "Tokens"), NewDevice(t)
	c := authority("token")
	c.MaxPathLenZero = true
	return CA{key, issue(t, c, maker.Cert, key.Public(), maker.Key)}
}
