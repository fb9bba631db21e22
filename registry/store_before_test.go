package registry_test

import (
	"encoding/binary"
	"encoding/json"
	"path/filepath"
	"testing"

	"go.etcd.io/bbolt"

	"enrollkiosk/registry"
	"enrollkiosk/registry/internal/registrytest"
	"enrollkiosk/registry/record"
)

// A file in which records and attestations lie by id, as they did once, is read
// and added to.
func TestEmbeddedStoreOfBefore(t *testing.T) {
	t.Parallel()
	w := registrytest.New(t)
	o := registry.Options{Dir: t.TempDir()}
	mkdir(t, o.Dir+"/kiosks")
	k := w.Kiosk(t, "KIOSK-0001")
	open := func() shop {
		s, err := registry.OpenStore(t.Context(), o, registrytest.Origin)
		if err != nil {
			t.Fatal(err)
		}
		return shop{t, s, w, k}
	}
	s := open()
	one, two, late := s.make(registrytest.Spec{}), s.make(registrytest.Spec{}), s.make(registrytest.Spec{})
	s.add(nil, one, two)
	s.must(s.Close())

	db, err := bbolt.Open(filepath.Join(o.Dir, "registry.db"), 0o600, nil)
	s.must(err)
	s.must(db.Update(func(tx *bbolt.Tx) error {
		held, bodies, evidence := tx.Bucket([]byte("held")), tx.Bucket([]byte("bodies")), tx.Bucket([]byte("evidence"))
		for _, sub := range []record.Submission{one, two} {
			id := sub.ID()
			var p map[string]any
			s.must(json.Unmarshal(held.Get(id[:]), &p))
			number := binary.BigEndian.AppendUint64(nil, uint64(p["number"].(float64)))
			delete(p, "number")
			b, err := json.Marshal(p)
			s.must(err)
			s.must(tx.Bucket([]byte("records")).Put(id[:], bodies.Get(number)))
			s.must(tx.Bucket([]byte("attestations")).Put(id[:], evidence.Get(number)))
			s.must(held.Put(id[:], b))
		}
		s.must(tx.DeleteBucket([]byte("bodies")))
		return tx.DeleteBucket([]byte("evidence"))
	}))
	s.must(db.Close())

	s = open()
	s.add(nil, one, late, two)
	for _, sub := range []record.Submission{one, two, late} {
		got, err := s.Submission(t.Context(), sub.ID())
		s.must(err)
		is(s, "submission", string(got), string(sub.Bytes()))
	}
	all, err := s.Inventory(t.Context(), [32]byte{}, 10)
	s.must(err)
	is(s, "records", len(all), 3)
	for _, one := range all {
		if r, err := record.Parse(one.Record()); err != nil || r.ID() != [32]byte(one.ID()) {
			t.Errorf("%x: %v", one.ID(), err)
		}
	}
	waiting, err := s.Unlogged(t.Context(), 10)
	s.must(err)
	is(s, "unlogged", len(waiting), 3)
	s.must(s.Close())
}
