package registry_test

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"enrollkiosk/registry"
	"enrollkiosk/registry/api"
	"enrollkiosk/registry/internal/registrytest"
	"enrollkiosk/registry/record"
)

// before is a database in which what hangs on a record is kept under its id, as
// migrations 1 to 3 made it.
type before struct {
	shop
	name string
}

func (b before) sql(format string, a ...any) string {
	b.Helper()
	out, err := mustCluster(b).Query(b.Context(), b.name, fmt.Sprintf(format, a...))
	b.must(err)
	return out
}

// lit is a literal of binary data.
func lit(data []byte) string { return fmt.Sprintf(`'\x%x'`, data) }

// put stores a record, as the store of before did.
func (b before) put(sub record.Submission, at time.Time) (id string) {
	b.Helper()
	r := sub.Record()
	p, raw := r.Payload(), r.ID()
	id = lit(raw[:])
	b.sql(`INSERT INTO records (id, kiosk, sequence, sender, received, jws, did) VALUES (%s, '%s', nullif(%d, 0), '%s', '%s', %s, '%s')`,
		id, p.Context.KioskID, p.Context.Sequence, b.kiosk.ID, at.Format(time.RFC3339), lit(r.Bytes()), p.Holder.DID)
	if a, ok := sub.Attestation(); ok {
		b.sql(`INSERT INTO attestations VALUES (%s, %s)`, id, lit(a.Bytes()))
	}
	if p.Context.Sequence != 0 {
		b.link(p, raw, "")
	}
	switch p.Context.Purpose {
	case record.Replace:
		b.sql(`UPDATE holders SET replaced_by = %s WHERE did = '%s'`, id, p.Replaces)
		fallthrough
	case record.Enroll:
		print := p.Holder.Key.Thumbprint()
		b.sql(`INSERT INTO keys VALUES (%s, %s)`, lit(print[:]), id)
		b.sql(`INSERT INTO holders (did, record) VALUES ('%s', %s)`, p.Holder.DID, id)
	case record.Revoke:
		b.sql(`UPDATE holders SET ended_by = %s WHERE did = '%s'`, id, p.Holder.DID)
	}
	if p.CancelSHA != [32]byte{} {
		b.sql(`INSERT INTO codes VALUES (%s, '%s', %s) ON CONFLICT DO NOTHING`, lit(p.CancelSHA[:]), p.Holder.DID, id)
	}
	return id
}

func (b before) link(p record.Payload, id [32]byte, rejected string) {
	b.Helper()
	text, err := json.Marshal(map[string]any{"record": api.ID(id), "previous": api.ID(p.Previous), "wall": p.Times.Wall, "monotonic": p.Times.Monotonic,
		"boot": hex.EncodeToString(p.Times.Boot[:]), "received": p.Times.Wall, "rejected": rejected})
	b.must(err)
	b.sql(`INSERT INTO links VALUES ('%s', %d, %s, '%s')`, p.Context.KioskID, p.Context.Sequence, lit(id[:]), text)
}

// waits puts a record in both outboxes.
func (b before) waits(sub record.Submission, id string) {
	b.Helper()
	blind := sub.Record().Payload().Blind
	b.sql(`INSERT INTO unlogged VALUES (%s, %s)`, id, lit(blind[:]))
	b.sql(`INSERT INTO unopened VALUES (%s)`, id)
}

// done gives a record its receipt and its verdict.
func (b before) done(id string, d registry.Decision) {
	b.Helper()
	b.sql(`INSERT INTO receipts VALUES (%s, 'receipt of %s')`, id, d.Verdict)
	b.sql(`INSERT INTO verdicts VALUES (%s, '%s', '%s', '%s')`, id, d.Status, d.Code, d.Verdict)
}

// others are the tables that stay as they are, with a row where nothing else puts one.
var others = []string{
	`INSERT INTO registry (origin, scanned) VALUES ('` + registrytest.Origin + `', 7)`,
	`INSERT INTO policies (digest, signed) VALUES ('\x01', '\x02')`,
	`INSERT INTO approvals VALUES ('\x01', '2026-11-28', 3)`,
	`INSERT INTO kiosks VALUES ('KIOSK-0001', '{}')`,
	`INSERT INTO provisions VALUES ('KIOSK-0001', '{}')`,
	`INSERT INTO sessions (id, kiosk, ends, session) VALUES ('\x01', 'KIOSK-0001', now(), '{}')`,
	`INSERT INTO activity VALUES ('KIOSK-0001', 1, now(), '[]')`,
	`INSERT INTO activity_counts VALUES ('KIOSK-0001', '2026-11-28', '\x01', 2, 3)`,
	`INSERT INTO forks (kiosk, fork) VALUES ('KIOSK-0001', '{}')`,
	`INSERT INTO heard VALUES ('KIOSK-0001', now())`,
}

// contents are all tables' rows, as text.
func (b before) contents() map[string]string {
	b.Helper()
	out := map[string]string{}
	for _, table := range strings.Fields(b.sql(`SELECT tablename FROM pg_tables WHERE schemaname = 'public'`)) {
		out[table] = b.sql(`SELECT t FROM %s t ORDER BY t::text`, table)
	}
	return out
}

// A database of before is carried over, with rows of every table, and added to.
func TestPostgresStoreOfBefore(t *testing.T) {
	t.Parallel()
	w := registrytest.New(t)
	address, name := database(t)
	b := before{shop{T: t, world: w, kiosk: w.Kiosk(t, "KIOSK-0001")}, name}
	b.sql(`CREATE TABLE migrations (version int PRIMARY KEY, applied timestamptz NOT NULL DEFAULT now())`)
	for i, file := range []string{"0001_registry.sql", "0002_standing.sql", "0003_arrival.sql"} {
		text, err := os.ReadFile(filepath.Join("migrations", file))
		b.must(err)
		b.sql(`BEGIN; %s; INSERT INTO migrations (version) VALUES (%d); COMMIT`, text, i+1)
	}
	for _, row := range others {
		b.sql(`%s`, row)
	}

	at := time.Date(2026, 11, 28, 9, 30, 0, 0, time.UTC)
	active := func(verdict string) registry.Decision { return registry.Decision{Status: api.Active, Verdict: verdict} }
	old, lost, coded, suspended := registrytest.NewDevice(t), registrytest.NewDevice(t), registrytest.NewDevice(t), registrytest.NewDevice(t)
	replaced := b.make(registrytest.Spec{Holder: &old})
	replaces := b.make(registrytest.Spec{Purpose: record.Replace, Old: &old})
	revoked := b.make(registrytest.Spec{Holder: &lost})
	revokes := b.revoke(lost)
	void := b.make(registrytest.Spec{Purpose: record.Void})
	rejected := b.make(registrytest.Spec{})
	withCode := b.make(registrytest.Spec{Holder: &coded, Payload: code(1)})
	cancelled := b.make(registrytest.Spec{Holder: &suspended, Payload: code(2)})
	waiting := b.make(registrytest.Spec{})
	all := []record.Submission{replaced, replaces, revoked, revokes, void, withCode, cancelled, waiting}
	for i, sub := range all {
		id := b.put(sub, at.Add(time.Duration(i)*time.Minute))
		if sub.ID() == waiting.ID() {
			b.waits(sub, id)
		} else {
			b.done(id, active(string(rune('a'+i))))
		}
	}
	refused := registry.Decision{Status: api.Rejected, Code: api.CodeTime, Verdict: "rejected"}
	no := rejected.ID()
	b.sql(`INSERT INTO rejections VALUES ('KIOSK-0001', %s, '%s', '%s', '%s', %d)`, lit(no[:]), refused.Status, refused.Code, refused.Verdict,
		rejected.Record().Payload().Context.Sequence)
	b.link(rejected.Record().Payload(), no, refused.Code)
	b.sql(`UPDATE holders SET cancelled = 'suspended' WHERE did = '%s'`, did(b.shop, suspended))
	want := registry.Cancellation{DID: did(b.shop, suspended), Record: cancelled.ID(), State: registry.CancelSuspended, Received: at, Due: at.AddDate(0, 0, 7)}
	text, err := json.Marshal(want)
	b.must(err)
	b.sql(`INSERT INTO cancellations VALUES ('%s', 'suspended', '%s', '%s', '%s')`, want.DID, want.Received.Format(time.RFC3339), want.Due.Format(time.RFC3339), text)
	then := b.contents()
	for table, rows := range then {
		if rows == "" {
			t.Errorf("no row of %s", table)
		}
	}

	o := registry.Options{Database: address}
	b.Store, err = registry.OpenStore(t.Context(), o, registrytest.Origin)
	b.must(err)
	defer func() { b.must(b.Close()) }()
	moved := []string{"attestations", "unlogged", "receipts", "unopened", "verdicts", "codes", "holders", "keys", "migrations"}
	now := b.contents()
	for table, rows := range then {
		if slices.Contains(moved, table) {
			continue
		}
		is(b.shop, table, now[table], rows)
	}
	for _, table := range []string{"attestations", "unlogged", "receipts", "unopened", "verdicts", "codes", "holders"} {
		is(b.shop, "rows of "+table, strings.Count(now[table], "\n"), strings.Count(then[table], "\n"))
	}

	for i, sub := range all {
		got, err := b.Submission(t.Context(), sub.ID())
		b.must(err)
		is(b.shop, "submission", string(got), string(sub.Bytes()))
		decided, receipt, held := b.status(sub)
		is(b.shop, "held", held, true)
		if sub.ID() == waiting.ID() {
			is(b.shop, "decision of what waits", decided, registry.Decision{})
			is(b.shop, "receipt of what waits", receipt, nil)
			continue
		}
		is(b.shop, "decision", decided, active(string(rune('a'+i))))
		is(b.shop, "receipt", string(receipt), "receipt of "+string(rune('a'+i)))
	}
	d, _, _ := b.status(rejected)
	is(b.shop, "rejection", d, refused)
	unlogged, err := b.Unlogged(t.Context(), 10)
	b.must(err)
	is(b.shop, "unlogged", len(unlogged), 1)
	is(b.shop, "blind", unlogged[0].Blind(), waiting.Record().Payload().Blind)
	unopened, err := b.Unopened(t.Context(), [32]byte{}, 10)
	b.must(err)
	is(b.shop, "unopened", unopened, [][32]byte{waiting.ID()})

	// What became of DIDs, and of whose codes.
	for holder, brought := range map[string]record.Submission{did(b.shop, coded): withCode, waiting.Record().Payload().Holder.DID: waiting,
		replaces.Record().Payload().Holder.DID: replaces} {
		id, err := b.Brought(t.Context(), holder)
		b.must(err)
		is(b.shop, "brought by", id, brought.ID())
	}
	for holder, want := range map[string]error{did(b.shop, old): registry.ErrHolder, did(b.shop, lost): registry.ErrHolder, did(b.shop, suspended): registry.ErrSuspended} {
		_, err := b.Brought(t.Context(), holder)
		is(b.shop, "not in good standing", err, want)
	}
	c, done := b.cancel(1, at)
	is(b.shop, "code", done, true)
	is(b.shop, "whose", c.DID, did(b.shop, coded))
	is(b.shop, "of which record", c.Record, api.ID(withCode.ID()))
	c, err = b.ResolveCancellation(t.Context(), want.DID, registry.CancelLifted, registry.Resolution{By: "desk 7", Reason: "found", Time: at})
	b.must(err)
	is(b.shop, "lifted", c.DID, want.DID)

	// Nothing that is there comes again, and what is new comes after it.
	b.add(nil, all...)
	b.add(registry.ErrFork, rejected)
	for _, holder := range []registrytest.Device{old, lost, coded} {
		b.add(registry.ErrKeyTaken, b.make(registrytest.Spec{Holder: &holder, Context: func(c *record.Context) { c.Sequence = b.kiosk.Sequence + 10 }}))
	}
	late := b.make(registrytest.Spec{})
	b.add(nil, late)
	b.must(b.Decided(t.Context(), late.ID(), active("y"), nil))
	b.must(b.Decided(t.Context(), waiting.ID(), active("x"), nil))
	judged, err := b.Judged(t.Context(), 0, 20)
	b.must(err)
	var order string
	for _, j := range judged {
		order += j.Verdict()
	}
	is(b.shop, "order of arrival", order, "abcdefgxy")
}
