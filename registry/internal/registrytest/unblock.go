package registrytest

import (
	"crypto/rand"
	"encoding/json"
	"path/filepath"
	"testing"
	"time"

	"enrollkiosk/kiosk/secret"
	"enrollkiosk/registry"
	"enrollkiosk/registry/api"
	"enrollkiosk/registry/record"
)

// HasTPM puts a TPM's keys on the register, as the kiosk's.
func (k *Kiosk) HasTPM(t testing.TB, endorsement api.Endorsement, attestationKey []byte) {
	t.Helper()
	kiosk, err := registry.KiosksIn(k.World.RegistryDir()).Find(t.Context(), k.ID)
	if err != nil {
		t.Fatal(err)
	}
	kiosk.Endorsement, kiosk.AttestationKey = endorsement, attestationKey
	b, err := json.Marshal(kiosk)
	if err != nil {
		t.Fatal(err)
	}
	k.World.write(t, filepath.Join("registry", "kiosks", k.ID+".json"), b)
}

// UnblockSpec says what a request to unblock a token is like.
type UnblockSpec struct {
	DID     string
	EKNames [][]byte
	AKName  []byte
	Officer Officer
	Context func(*record.UnblockContext) // alters it
	Kiosk   *Kiosk                       // who signs instead
	Next    *record.TokenAdmin           // what the token will have; default: some
}

// Unblock makes a request of this kiosk's.
func (k *Kiosk) Unblock(t testing.TB, s UnblockSpec) record.Unblock {
	t.Helper()
	p := k.World.Policy.Policy()
	c := record.UnblockContext{Version: record.Version, Audience: Origin, KioskID: k.ID, DID: s.DID, Serial: 1234567, Time: time.Now().UTC().Truncate(time.Second),
		PolicyDigest: k.World.Policy.Digest(), AuthorityKeyID: p.Authority.ID, EKNames: s.EKNames, AKName: s.AKName}
	rand.Read(c.Nonce[:])
	if s.Context != nil {
		s.Context(&c)
	}
	next := record.TokenAdmin{PUK: secret.FromString("11223344"), ManagementKey: secret.New(make([]byte, 24))}
	if s.Next != nil {
		next = *s.Next
	}
	by := k
	if s.Kiosk != nil {
		by = s.Kiosk
	}
	d, err := record.NewUnblock(c, p.Authority, next, s.Officer.Chain, by.Chain)
	if err == nil {
		err = d.Sign(t.Context(), record.Desk, s.Officer, s.Officer.Chain)
	}
	if err == nil {
		err = d.Sign(t.Context(), record.Kiosk, by.Record, by.Chain)
	}
	if err != nil {
		t.Fatal(err)
	}
	u, err := d.Unblock()
	if err != nil {
		t.Fatal(err)
	}
	return u
}
