package record_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"sync"
	"testing"
	"time"

	"enrollkiosk/kiosk/secret"
	"enrollkiosk/registry/record"
)

const origin = "registry.example/log"

// device is a software stand-in for a key in hardware.
type device struct {
	key crypto.Signer
	pss bool
}

func (d device) Public() crypto.PublicKey { return d.key.Public() }
func (d device) PSS() bool                { return d.pss }

// Sign is deterministic for ECDSA (RFC 6979), so that examples can be made again.
func (d device) Sign(ctx context.Context, message []byte) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	switch k := d.key.(type) {
	case *ecdsa.PrivateKey:
		if k.Curve == elliptic.P384() {
			return k.Sign(nil, message, crypto.SHA384)
		}
	case ed25519.PrivateKey:
		return k.Sign(nil, message, crypto.Hash(0))
	case *rsa.PrivateKey:
		if d.pss {
			return k.Sign(rand.Reader, message, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: crypto.SHA256})
		}
	}
	return d.key.Sign(nil, message, crypto.SHA256)
}

// ecKey makes a P-256 key from a word, the same each time.
func ecKey(t testing.TB, word string) device {
	t.Helper()
	d := sha256.Sum256([]byte(word))
	key, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), d[:])
	if err != nil {
		t.Fatal(err)
	}
	return device{key: key}
}

// p384Key is as ecKey.
func p384Key(t testing.TB, word string) device {
	t.Helper()
	d := sha512.Sum384([]byte(word))
	key, err := ecdsa.ParseRawPrivateKey(elliptic.P384(), d[:])
	if err != nil {
		t.Fatal(err)
	}
	return device{key: key}
}

func edKey(word string) device {
	seed := sha256.Sum256([]byte(word))
	return device{key: ed25519.NewKeyFromSeed(seed[:])}
}

var rsaOnce = sync.OnceValue(func() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return key
})

// chain issues a certificate for d under a CA of its own, leaf first.
func chain(t testing.TB, name string, d device) [][]byte {
	t.Helper()
	ca := ecKey(t, "ca of "+name)
	template := func(serial int64, cn string, isCA bool) *x509.Certificate {
		usage := x509.KeyUsageDigitalSignature
		if isCA {
			usage = x509.KeyUsageCertSign
		}
		return &x509.Certificate{
			SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: cn},
			NotBefore: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), NotAfter: time.Date(2036, 1, 1, 0, 0, 0, 0, time.UTC),
			IsCA: isCA, BasicConstraintsValid: true, KeyUsage: usage,
		}
	}
	root := template(1, "Specimen CA "+name, true)
	leaf, err := x509.CreateCertificate(nil, template(4711, name, false), root, d.Public(), ca.key)
	if err != nil {
		t.Fatal(err)
	}
	anchor, err := x509.CreateCertificate(nil, root, root, ca.Public(), ca.key)
	if err != nil {
		t.Fatal(err)
	}
	return [][]byte{leaf, anchor}
}

type party struct {
	role  record.Role
	key   device
	chain [][]byte
}

// enrollment is everything that goes into one record.
type enrollment struct {
	payload     record.Payload
	parties     []party
	attestation *record.Attestation
	authority   record.AuthorityPrivateKey
	identity    record.Identity
}

func specimenIdentity() record.Identity {
	return record.Identity{
		Document: record.EMRTD,
		Files: map[uint16]secret.Text{
			0x0101: secret.FromString("DG1 I<UTO ERIKSSON<<ANNA<MARIA canary-dg1"),
			0x011D: secret.FromString("SOD canary-sod"),
			0x010F: secret.FromString("DG15"),
		},
		Access:     "PACE",
		Chip:       &record.ChipClaim{Protocol: "0.4.0.127.0.7.2.2.3.2.2", KeyID: []byte{1}, Passed: true},
		Active:     &record.ActiveEvidence{Challenge: []byte{1, 2, 3, 4, 5, 6, 7, 8}, Signature: []byte{4, 5}},
		Report:     []byte(`{"hashes":"ok"}`),
		Consents:   []record.ConsentText{{ID: "enroll", Version: 2, Digest: sha256.Sum256([]byte("text")), Language: "en"}},
		Checks:     []record.Check{{Code: "face-matches", Passed: true, Note: secret.FromString("canary-note \"quoted\"\nline")}},
		TokenAdmin: &record.TokenAdmin{PUK: secret.FromString("canary-puk"), ManagementKey: secret.FromString("canary-mgm")},
	}
}

// newEnrollment prepares a record of a purpose, to be signed by the parties.
func newEnrollment(t testing.TB, purpose record.Purpose, parties ...party) *enrollment {
	t.Helper()
	seed := sha256.Sum256([]byte("authority"))
	authority, err := record.ParseAuthorityKey(secret.New(seed[:]))
	if err != nil {
		t.Fatal(err)
	}
	e := &enrollment{parties: parties, authority: authority, identity: specimenIdentity()}
	e.payload = record.Payload{
		Context: record.Context{
			Version: record.Version, Audience: origin, Purpose: purpose,
			Nonce: sha256.Sum256([]byte("nonce")), PolicyDigest: sha256.Sum256([]byte("policy")), AuthorityKeyID: authority.Public().ID,
		},
		Times: record.Times{
			Wall: time.Date(2026, 11, 20, 9, 30, 0, 0, time.UTC), Synchronised: true, Monotonic: 86_400_000, Boot: [16]byte{0xb0},
			Registry: time.Date(2026, 11, 20, 9, 0, 0, 0, time.UTC),
		},
		Blind: sha256.Sum256([]byte("blind")),
	}
	p := &e.payload
	for _, by := range parties {
		ref, err := record.SignerOf(by.role, by.key.Public(), by.chain)
		if err != nil {
			t.Fatal(err)
		}
		p.Signers = append(p.Signers, ref)
		switch by.role {
		case record.Kiosk:
			p.Context.KioskID, p.Context.Sequence = "kiosk-7", 42
			p.Previous = sha256.Sum256([]byte("the record before"))
		case record.OldHolder:
			p.Replaces, _ = record.DIDKey(by.key.Public())
		case record.Holder:
			setHolder(t, p, by.key)
		}
	}
	personal := purpose == record.Enroll || purpose == record.Replace || purpose == record.Update
	if personal {
		e.attestation = &record.Attestation{PIV: &record.PIVEvidence{Certificate: []byte("slot 9A"), Intermediate: []byte("F9")}}
		p.Holder.Where, p.Holder.Class, p.Holder.Attestation = record.PIV, record.Test, e.attestation.Digest()
		p.Purposes = []record.Consent{{ID: "enroll", Version: 2}, {ID: "notify", Version: 1}}
		p.CancelSHA = record.CancelHash([]byte("1234-5678"))
		if p.Identity, err = record.Seal(p.Context, authority.Public(), e.identity); err != nil {
			t.Fatal(err)
		}
	}
	return e
}

func setHolder(t testing.TB, p *record.Payload, key device) {
	t.Helper()
	did, err := record.DIDKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	jwk, err := record.NewJWK(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	p.Holder.DID, p.Holder.Key = did, jwk
}

func (e *enrollment) sign(t testing.TB) record.Record {
	t.Helper()
	d, err := record.New(e.payload)
	if err != nil {
		t.Fatal(err)
	}
	for _, by := range e.parties {
		if err := d.Sign(t.Context(), by.role, by.key, by.chain); err != nil {
			t.Fatal(err)
		}
	}
	r, err := d.Record()
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func holder(t testing.TB) party    { return party{role: record.Holder, key: ecKey(t, "holder")} }
func oldHolder(t testing.TB) party { return party{role: record.OldHolder, key: ecKey(t, "old holder")} }

func certified(t testing.TB, role record.Role) party {
	key := ecKey(t, string(role))
	return party{role, key, chain(t, string(role)+" 4711", key)}
}

func officer(t testing.TB) party    { return certified(t, record.Officer) }
func supervisor(t testing.TB) party { return certified(t, record.Supervisor) }
func kiosk(t testing.TB) party      { return certified(t, record.Kiosk) }

func enroll(t testing.TB) *enrollment {
	return newEnrollment(t, record.Enroll, holder(t), officer(t), kiosk(t))
}
