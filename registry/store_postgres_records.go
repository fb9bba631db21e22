package registry

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"enrollkiosk/registry/record"
)

// Add asks the database once for all that decides, decides in memory (admit), and
// writes once: a batch costs four round trips, whatever its size.
func (s *postgresStore) Add(ctx context.Context, entries []entry) (out []added, err error) {
	err = s.tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		out, err = addAll(ctx, tx, entries)
		return err
	})
	return out, err
}

func addAll(ctx context.Context, tx pgx.Tx, entries []entry) ([]added, error) {
	f, err := readFacts(ctx, tx, entries)
	if err != nil {
		return nil, err
	}
	out := make([]added, len(entries))
	var stored []int
	for i, e := range entries {
		var held bool
		if held, out[i].gap, err = admit(f, e); refusal(err) {
			out[i] = added{refused: err}
		} else if err != nil {
			return nil, err
		} else if !held {
			stored = append(stored, i)
			f.take(e)
		}
	}
	if len(stored) == 0 {
		return out, nil
	}
	return out, f.write(ctx, tx, entries, stored, out)
}

// batchFacts are what the database says about a batch, with what its own records
// do to that.
type batchFacts struct {
	ids, keys map[[32]byte]bool
	places    map[place]link
	numbers   map[numberKey]uint64
	linked    []place // the batch's own
	holders   map[string]holder
	changed   map[string]bool // of holders
	codes     []batchCode     // the batch's own
}

// numberKey is a record of a kiosk.
type numberKey struct {
	kiosk string
	id    [32]byte
}

type batchCode struct {
	hash, id [32]byte
	did      string
}

func newBatchFacts() *batchFacts {
	return &batchFacts{ids: map[[32]byte]bool{}, keys: map[[32]byte]bool{}, places: map[place]link{}, numbers: map[numberKey]uint64{},
		holders: map[string]holder{}, changed: map[string]bool{}}
}

func (f *batchFacts) held(id [32]byte) bool             { return f.ids[id] }
func (f *batchFacts) keyTaken(thumbprint [32]byte) bool { return f.keys[thumbprint] }

func (f *batchFacts) link(p place) (link, bool, error) {
	l, has := f.places[p]
	return l, has, nil
}

func (f *batchFacts) numberOf(kiosk string, id [32]byte) (uint64, error) {
	return f.numbers[numberKey{kiosk, id}], nil
}

func (f *batchFacts) keepLink(p place, l link) error {
	f.places[p], f.numbers[numberKey{p.kiosk, l.Record}] = l, p.sequence
	f.linked = append(f.linked, p)
	return nil
}

// keepFork is for rejections: txFacts has it.
func (f *batchFacts) keepFork(string, Fork) error { return errors.ErrUnsupported }

func (f *batchFacts) keepCode(hash [32]byte, did string, id [32]byte) error {
	f.codes = append(f.codes, batchCode{hash, id, did})
	return nil
}

func (f *batchFacts) holder(did string) (holder, error) {
	h, known := f.holders[did]
	if !known {
		return h, errHolder
	}
	return h, nil
}

func (f *batchFacts) keepHolder(did string, h holder) error {
	f.holders[did], f.changed[did] = h, true
	return nil
}

// take has an entry that was admitted count for those after it.
func (f *batchFacts) take(e entry) {
	f.ids[e.submission.ID()] = true
	f.keys[e.newKey] = true
}

// readFacts reads what decides about entries. Kiosks' chains and DIDs are locked:
// what is decided from them holds until the transaction ends. Ids and keys that
// another transaction takes meanwhile are found by their unique keys.
func readFacts(ctx context.Context, tx pgx.Tx, entries []entry) (*batchFacts, error) {
	var ids, keys, previous [][]byte
	var kiosks, dids, chains []string
	var numbers []int64
	for _, e := range entries {
		id := e.submission.ID()
		p := e.submission.Record().Payload()
		ids = append(ids, id[:])
		if e.newKey != [32]byte{} {
			keys = append(keys, e.newKey[:])
		}
		if n, k := int64(p.Context.Sequence), p.Context.KioskID; n != 0 {
			kiosks, numbers = append(kiosks, k, k, k), append(numbers, n-1, n, n+1)
			previous, chains = append(previous, e.link.Previous[:]), append(chains, k)
		}
		dids = append(dids, didsOf(p)...)
	}
	f := newBatchFacts()
	var q pgx.Batch
	slices.Sort(chains)
	for _, kiosk := range slices.Compact(chains) {
		queueChainLock(&q, kiosk)
	}
	q.Queue(`SELECT thumbprint FROM keys WHERE thumbprint = ANY($1)`, keys).Query(func(rows pgx.Rows) error { return collect(rows, f.keys) })
	q.Queue(`SELECT kiosk, sequence, link FROM links JOIN unnest($1::text[], $2::bigint[]) AS asked (kiosk, sequence) USING (kiosk, sequence)`, kiosks, numbers).
		Query(func(rows pgx.Rows) error {
			return eachRow(rows, func(rows pgx.Rows) error {
				var p place
				var l link
				err := rows.Scan(&p.kiosk, &p.sequence, &l)
				f.places[p] = l
				return err
			})
		})
	q.Queue(numberOfSQL, previous).Query(func(rows pgx.Rows) error {
		return eachRow(rows, func(rows pgx.Rows) error {
			var kiosk string
			var id []byte
			var n uint64
			if err := rows.Scan(&kiosk, &id, &n); err != nil {
				return err
			}
			f.numbers[numberKey{kiosk, [32]byte(id)}] = n
			return nil
		})
	})
	queueHolders(&q, f, dids)
	// Last: a record that another transaction stores meanwhile must not be refused for
	// its own number, key or DID. If those are seen, so is the record.
	q.Queue(`SELECT id FROM records WHERE id = ANY($1)`, ids).Query(func(rows pgx.Rows) error { return collect(rows, f.ids) })
	return f, tx.SendBatch(ctx, &q).Close()
}

// numberOfSQL is which kiosks' numbers records have.
const numberOfSQL = `SELECT kiosk, id, sequence FROM records WHERE id = ANY($1) AND sequence IS NOT NULL
	UNION ALL SELECT sender, record, sequence FROM rejections WHERE record = ANY($1) AND sequence <> 0`

// queueChainLock has one transaction at a time decide about a kiosk's chain.
func queueChainLock(q *pgx.Batch, kiosk string) {
	q.Queue(`SELECT pg_advisory_xact_lock($1, hashtext($2))`, lockChain, kiosk).Query(func(rows pgx.Rows) error {
		rows.Close()
		return rows.Err()
	})
}

// didsOf are those that a record can change.
func didsOf(p record.Payload) []string {
	var out []string
	for _, did := range []string{p.Holder.DID, p.Replaces} {
		if did != "" {
			out = append(out, did)
		}
	}
	return out
}

func queueHolders(q *pgx.Batch, f *batchFacts, dids []string) {
	q.Queue(`SELECT did, record, ended_by, replaced_by, cancelled FROM holders WHERE did = ANY($1) ORDER BY did FOR UPDATE`, dids).Query(func(rows pgx.Rows) error {
		return eachRow(rows, func(rows pgx.Rows) error {
			var did string
			var h holder
			err := rows.Scan(&did, &h.Record, &h.EndedBy, &h.ReplacedBy, &h.Cancelled)
			f.holders[did] = h
			return err
		})
	})
}

func collect(rows pgx.Rows, into map[[32]byte]bool) error {
	return eachRow(rows, func(rows pgx.Rows) error {
		var b []byte
		if err := rows.Scan(&b); err != nil {
			return err
		}
		into[[32]byte(b)] = true
		return nil
	})
}

// write stores the entries of these places in one go, and counts approvals.
func (f *batchFacts) write(ctx context.Context, tx pgx.Tx, entries []entry, stored []int, out []added) error {
	var ids, jws, blinds, attested, evidence, thumbprints, keyed, personal [][]byte
	var kiosks, senders, dids []string
	var sequences []int64
	var received []time.Time
	for _, i := range stored {
		e, r := entries[i], entries[i].submission.Record()
		p, id := r.Payload(), r.ID()
		ids, jws, blinds = append(ids, id[:]), append(jws, r.Bytes()), append(blinds, p.Blind[:])
		kiosks, sequences = append(kiosks, p.Context.KioskID), append(sequences, int64(p.Context.Sequence))
		senders, received, dids = append(senders, e.sender), append(received, e.received), append(dids, p.Holder.DID)
		if a, ok := e.submission.Attestation(); ok {
			attested, evidence = append(attested, id[:]), append(evidence, a.Bytes())
		}
		if e.newKey != [32]byte{} {
			thumbprints, keyed = append(thumbprints, e.newKey[:]), append(keyed, id[:])
		}
		if e.personal {
			personal = append(personal, id[:])
		}
	}
	var q pgx.Batch
	q.Queue(`INSERT INTO records (id, kiosk, sequence, sender, received, jws, did)
		SELECT id, kiosk, nullif(sequence, 0), sender, received, jws, did
		FROM unnest($1::bytea[], $2::text[], $3::bigint[], $4::text[], $5::timestamptz[], $6::bytea[], $7::text[])
			AS new (id, kiosk, sequence, sender, received, jws, did)`, ids, kiosks, sequences, senders, received, jws, dids)
	q.Queue(`INSERT INTO attestations (record, evidence) SELECT * FROM unnest($1::bytea[], $2::bytea[])`, attested, evidence)
	q.Queue(`INSERT INTO keys (thumbprint, record) SELECT * FROM unnest($1::bytea[], $2::bytea[])`, thumbprints, keyed)
	q.Queue(`INSERT INTO unlogged (record, blind) SELECT * FROM unnest($1::bytea[], $2::bytea[])`, ids, blinds)
	q.Queue(`INSERT INTO unopened (record) SELECT * FROM unnest($1::bytea[])`, personal)
	f.queueChanged(&q)
	queueApprovals(&q, entries, stored, out)
	return tx.SendBatch(ctx, &q).Close()
}

// queueChanged writes what has changed of chains, holders and codes.
func (f *batchFacts) queueChanged(q *pgx.Batch) {
	if len(f.linked) > 0 {
		var kiosks []string
		var numbers []int64
		var records [][]byte
		var linked []link
		for _, p := range f.linked {
			l := f.places[p]
			kiosks, numbers, records, linked = append(kiosks, p.kiosk), append(numbers, int64(p.sequence)), append(records, l.Record[:]), append(linked, l)
		}
		q.Queue(`INSERT INTO links (kiosk, sequence, record, link) SELECT * FROM unnest($1::text[], $2::bigint[], $3::bytea[], $4::jsonb[])`, kiosks, numbers, records, linked)
	}
	if dids := slices.Sorted(maps.Keys(f.changed)); len(dids) > 0 {
		var records, endedBy, replacedBy [][]byte
		var cancelled []string
		for _, did := range dids {
			h := f.holders[did]
			records, endedBy, replacedBy, cancelled = append(records, h.Record), append(endedBy, h.EndedBy), append(replacedBy, h.ReplacedBy), append(cancelled, string(h.Cancelled))
		}
		q.Queue(`INSERT INTO holders (did, record, ended_by, replaced_by, cancelled) SELECT * FROM unnest($1::text[], $2::bytea[], $3::bytea[], $4::bytea[], $5::text[])
			ON CONFLICT (did) DO UPDATE SET record = excluded.record, ended_by = excluded.ended_by, replaced_by = excluded.replaced_by, cancelled = excluded.cancelled`,
			dids, records, endedBy, replacedBy, cancelled)
	}
	if len(f.codes) > 0 {
		var hashes, records [][]byte
		var dids []string
		for _, c := range f.codes {
			hashes, records, dids = append(hashes, c.hash[:]), append(records, c.id[:]), append(dids, c.did)
		}
		q.Queue(`INSERT INTO codes (hash, did, record) SELECT * FROM unnest($1::bytea[], $2::text[], $3::bytea[]) ON CONFLICT (hash) DO NOTHING`, hashes, dids, records)
	}
}

// queueApprovals counts enrollments for their officers and days: each entry gets
// the count that it would have had alone.
func queueApprovals(q *pgx.Batch, entries []entry, stored []int, out []added) {
	of := map[approval][]int{}
	for _, i := range stored {
		if a := entries[i].approval; a != (approval{}) {
			of[a] = append(of[a], i)
		}
	}
	order := slices.SortedFunc(maps.Keys(of), func(a, b approval) int {
		return bytes.Compare(append(a.officer[:], a.day...), append(b.officer[:], b.day...))
	})
	for _, a := range order { // in the same order everywhere: they are locked
		q.Queue(`INSERT INTO approvals AS a (officer, day, enrollments) VALUES ($1, $2, $3)
			ON CONFLICT (officer, day) DO UPDATE SET enrollments = a.enrollments + excluded.enrollments RETURNING enrollments`,
			a.officer[:], string(a.day), len(of[a])).QueryRow(func(row pgx.Row) error {
			var n uint64
			err := row.Scan(&n)
			for k, i := range of[a] {
				out[i].approved = n - uint64(len(of[a])-1-k)
			}
			return err
		})
	}
}

func (s *postgresStore) Brought(ctx context.Context, did string) (id [32]byte, err error) {
	err = s.tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		h, err := living(txFacts{ctx, tx}, did)
		if err == nil {
			id = [32]byte(h.Record)
		}
		return err
	})
	return id, err
}

func (s *postgresStore) Status(ctx context.Context, sender string, ids ...[32]byte) (map[[32]byte]status, error) {
	out := map[[32]byte]status{}
	err := s.rows(ctx, func(rows pgx.Rows) error {
		var id []byte
		var known status
		h := &known.holder
		if err := rows.Scan(&id, &known.receipt, &known.decision.Status, &known.decision.Code, &known.decision.Verdict,
			&known.did, &h.Record, &h.EndedBy, &h.ReplacedBy, &h.Cancelled); err != nil {
			return err
		}
		out[[32]byte(id)] = known
		return nil
	}, `SELECT id, receipt, coalesce(status, ''), coalesce(code, ''), coalesce(verdict, ''),
				records.did, holders.record, ended_by, replaced_by, coalesce(cancelled, '')
			FROM records LEFT JOIN receipts ON receipts.record = id LEFT JOIN verdicts ON verdicts.record = id LEFT JOIN holders ON holders.did = records.did
			WHERE id = ANY($1) AND sender IN ('', $2)
		UNION ALL SELECT record, NULL, status, code, verdict, '', NULL, NULL, NULL, '' FROM rejections
			WHERE sender = $2 AND record = ANY($1) AND NOT EXISTS (SELECT FROM records WHERE id = record AND records.sender IN ('', $2))`,
		raw(ids), sender)
	return out, err
}

func raw(ids [][32]byte) [][]byte {
	out := make([][]byte, len(ids))
	for i := range ids {
		out[i] = ids[i][:]
	}
	return out
}

func (s *postgresStore) Reject(ctx context.Context, sender string, rejections map[[32]byte]rejection) (map[[32]byte]decision, error) {
	ids := slices.SortedFunc(maps.Keys(rejections), func(a, b [32]byte) int { return bytes.Compare(a[:], b[:]) })
	out := map[[32]byte]decision{}
	err := s.tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		clear(out)
		var q pgx.Batch
		queueChainLock(&q, sender)
		for _, id := range ids {
			r := rejections[id]
			q.Queue(`INSERT INTO rejections (sender, record, status, code, verdict, sequence) VALUES ($1, $2, $3, $4, $5, $6)
				ON CONFLICT (sender, record) DO NOTHING RETURNING record`, sender, id[:], r.Status, r.Code, r.Verdict, int64(r.number)).
				Query(func(rows pgx.Rows) error {
					return eachRow(rows, func(pgx.Rows) error {
						out[id] = r.decision // it is new
						return nil
					})
				})
		}
		if err := tx.SendBatch(ctx, &q).Close(); err != nil {
			return err
		}
		for _, id := range ids {
			if _, fresh := out[id]; fresh {
				if err := bury(txFacts{ctx, tx}, sender, rejections[id]); err != nil {
					return err
				}
			}
		}
		if len(out) == len(ids) {
			return nil
		}
		rows, err := tx.Query(ctx, `SELECT record, status, code, verdict FROM rejections WHERE sender = $1 AND record = ANY($2)`, sender, raw(ids))
		if err != nil {
			return err
		}
		return eachRow(rows, func(rows pgx.Rows) error {
			var id []byte
			var d decision
			if err := rows.Scan(&id, &d.Status, &d.Code, &d.Verdict); err != nil {
				return err
			}
			out[[32]byte(id)] = d
			return nil
		})
	})
	return out, err
}

func (s *postgresStore) KeepPolicy(ctx context.Context, digest [32]byte, signed []byte, since time.Time) error {
	return s.tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `INSERT INTO policies (digest, signed, since) VALUES ($1, $2, $3) ON CONFLICT (digest) DO NOTHING`, digest[:], signed, since)
		return err
	})
}

func (s *postgresStore) Policies(ctx context.Context) (out []keptPolicy, err error) {
	err = s.rows(ctx, func(rows pgx.Rows) error {
		var p keptPolicy
		err := rows.Scan(&p.signed, &p.since)
		p.since = p.since.UTC()
		out = append(out, p)
		return err
	}, `SELECT signed, since FROM policies ORDER BY digest`)
	return out, err
}

func (s *postgresStore) Gaps(ctx context.Context, kiosk string, first uint64) (gaps uint64, err error) {
	err = s.row(ctx, &gaps, `SELECT coalesce(max(sequence) - $2 - count(*), 0) FROM links WHERE kiosk = $1 AND sequence > $2`, kiosk, int64(first))
	return gaps, err
}

func (s *postgresStore) Unlogged(ctx context.Context, limit int) (out []leaf, err error) {
	err = s.rows(ctx, func(rows pgx.Rows) error {
		var id, blind []byte
		if err := rows.Scan(&id, &blind); err != nil {
			return err
		}
		out = append(out, leaf{[32]byte(id), [32]byte(blind)})
		return nil
	}, `SELECT record, blind FROM unlogged LIMIT $1`, limit)
	return out, err
}

func (s *postgresStore) Scanned(ctx context.Context) (n uint64, err error) {
	err = s.row(ctx, &n, `SELECT scanned FROM registry`)
	return n, err
}

func (s *postgresStore) Logged(ctx context.Context, term uint64, receipts map[[32]byte][]byte, scanned uint64) error {
	ids := slices.SortedFunc(maps.Keys(receipts), func(a, b [32]byte) int { return bytes.Compare(a[:], b[:]) })
	var texts [][]byte
	for _, id := range ids {
		texts = append(texts, receipts[id])
	}
	return s.tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		// Locked: who takes the role on waits for this transaction, and sees it.
		var now uint64
		if err := tx.QueryRow(ctx, `SELECT term FROM roles WHERE name = $1 FOR SHARE`, RoleLog).Scan(&now); err != nil {
			return err
		}
		if now != term {
			return errDeposed
		}
		var q pgx.Batch
		q.Queue(`INSERT INTO receipts (record, receipt) SELECT * FROM unnest($1::bytea[], $2::bytea[]) ON CONFLICT (record) DO NOTHING`, raw(ids), texts)
		q.Queue(`DELETE FROM unlogged WHERE record = ANY($1)`, raw(ids))
		q.Queue(`UPDATE registry SET scanned = $1`, int64(scanned))
		return tx.SendBatch(ctx, &q).Close()
	})
}

func (s *postgresStore) Unopened(ctx context.Context, after [32]byte, limit int) (out [][32]byte, err error) {
	err = s.rows(ctx, func(rows pgx.Rows) error {
		var id []byte
		if err := rows.Scan(&id); err != nil {
			return err
		}
		out = append(out, [32]byte(id))
		return nil
	}, `SELECT record FROM unopened WHERE record > $1 ORDER BY record LIMIT $2`, after[:], limit)
	return out, err
}

func (s *postgresStore) Submission(ctx context.Context, id [32]byte) (out []byte, err error) {
	err = pgx.ErrNoRows
	if rowErr := s.rows(ctx, func(rows pgx.Rows) error {
		var jws, evidence []byte
		err = rows.Scan(&jws, &evidence)
		out = submission(jws, evidence)
		return err
	}, `SELECT jws, evidence FROM records LEFT JOIN attestations ON record = id WHERE id = $1`, id[:]); rowErr != nil {
		return nil, rowErr
	}
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, errNotHeld
	}
	return out, err
}

func (s *postgresStore) Decided(ctx context.Context, id [32]byte, d decision, refused *record.Payload) error {
	return s.tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `DELETE FROM unopened WHERE record = $1`, id[:]); err != nil {
			return err
		}
		done, err := tx.Exec(ctx, `INSERT INTO verdicts (record, status, code, verdict) VALUES ($1, $2, $3, $4) ON CONFLICT (record) DO NOTHING`,
			id[:], d.Status, d.Code, d.Verdict)
		if err != nil || done.RowsAffected() == 0 || refused == nil {
			return err
		}
		return undoHolder(txFacts{ctx, tx}, *refused, id)
	})
}

func (s *postgresStore) Judged(ctx context.Context, after uint64, limit int) (out []judged, err error) {
	err = s.rows(ctx, func(rows pgx.Rows) error {
		var j judged
		var id []byte
		if err := rows.Scan(&j.number, &id, &j.verdict); err != nil {
			return err
		}
		j.id = [32]byte(id)
		out = append(out, j)
		return nil
	}, `SELECT arrival, id, verdict FROM records JOIN verdicts ON record = id WHERE arrival > $1 ORDER BY arrival LIMIT $2`, int64(after), limit)
	return out, err
}

func (s *postgresStore) Inventory(ctx context.Context, after [32]byte, limit int) (out []stock, err error) {
	err = s.rows(ctx, func(rows pgx.Rows) error {
		var id, jws, proof []byte
		if err := rows.Scan(&id, &jws, &proof); err != nil {
			return err
		}
		out = append(out, stock{[32]byte(id), jws, proof})
		return nil
	}, `SELECT r.id, r.jws, p.receipt FROM records r LEFT JOIN receipts p ON p.record = r.id WHERE r.id > $1 ORDER BY r.id LIMIT $2`, after[:], limit)
	return out, err
}

func (s *postgresStore) Backlog(ctx context.Context) (out backlog, err error) {
	err = s.rows(ctx, func(rows pgx.Rows) error {
		var name string
		var count int64
		var oldest *time.Time
		if err := rows.Scan(&name, &count, &oldest); err != nil {
			return err
		}
		q := queueDepth{count: uint64(count)}
		if oldest != nil {
			q.oldest = oldest.UTC()
		}
		if name == "log" {
			out.unlogged = q
		} else {
			out.unopened = q
		}
		return nil
	}, `SELECT 'log', count(*), min(received) FROM unlogged u JOIN records r ON r.id = u.record
		UNION ALL SELECT 'vault', count(*), min(received) FROM unopened u JOIN records r ON r.id = u.record`)
	return out, err
}
