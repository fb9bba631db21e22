package registrytest

import (
	"crypto/rand"
	"encoding/json"
	"testing"
	"time"

	"enrollkiosk/registry/api"
	"enrollkiosk/registry/parcel"
	"enrollkiosk/registry/record"
)

// Traveller is a kiosk whose records travel on drives.
type Traveller struct {
	*Kiosk
	Reply parcel.PrivateKey
}

// Traveller makes a kiosk, see Kiosk.
func (w *World) Traveller(t testing.TB, id string) Traveller {
	t.Helper()
	reply, err := parcel.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	return Traveller{w.Kiosk(t, id), reply}
}

// Context is that of a new parcel, under the World's policy.
func (k Traveller) Context() parcel.Context {
	p := k.World.Policy
	c := parcel.Context{Version: parcel.Version, KioskID: k.ID, Audience: Origin, Time: time.Now().UTC().Truncate(time.Second),
		PolicyDigest: p.Digest(), KeyID: p.Policy().Exchange[0].ID, Reply: k.Reply.Public()}
	rand.Read(c.Nonce[:])
	return c
}

// Export writes a parcel whose files hold these records, and returns its manifest's
// name. edit, if not nil, changes the context first.
func (k Traveller) Export(t testing.TB, d parcel.Drive, edit func(*parcel.Context), files ...[]record.Submission) (manifest string) {
	t.Helper()
	m := parcel.Manifest{Context: k.Context()}
	if edit != nil {
		edit(&m.Context)
	}
	for _, records := range files {
		var b api.Batch
		var ids [][32]byte
		for _, s := range records {
			b.Items, ids = append(b.Items, api.Item{ID: s.ID(), Submission: s.Bytes()}), append(ids, s.ID())
		}
		body, err := json.Marshal(b)
		if err != nil {
			t.Fatal(err)
		}
		k.Add(t, d, &m, body, ids)
	}
	return k.Sign(t, d, m)
}

// Add seals a body as the next file of m and writes it.
func (k Traveller) Add(t testing.TB, d parcel.Drive, m *parcel.Manifest, body []byte, ids [][32]byte) {
	t.Helper()
	sealed, err := m.Add(k.World.Policy.Policy().Exchange[0], body, ids)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Write(m.Files[len(m.Files)-1].Name(), sealed); err != nil {
		t.Fatal(err)
	}
}

// Sign signs m and writes it.
func (k Traveller) Sign(t testing.TB, d parcel.Drive, m parcel.Manifest) (name string) {
	t.Helper()
	signed, err := parcel.Sign(t.Context(), m, k.Record)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Write(parcel.ManifestName(signed), signed); err != nil {
		t.Fatal(err)
	}
	return parcel.ManifestName(signed)
}
