package registry

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"enrollkiosk/registry/record"
)

// Add asks the database once for all that decides, decides in memory (admit), and
// writes the records and what follows from them: a batch costs five round trips,
// whatever its size.
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
			f.ids[e.submission.ID()] = true
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
	arrivals map[[32]byte]int64 // the number that a record of the batch gets
	ids      map[[32]byte]bool
	places   map[place]link
	numbers  map[numberKey]uint64
	linked   []place             // the batch's own
	holders  map[[32]byte]holder // by digest of the DID
	stored   map[[32]byte]bool   // of holders: the database has it
	changed  map[[32]byte]bool   // of holders
	codes    []batchCode         // the batch's own
}

// numberKey is a record of a kiosk.
type numberKey struct {
	kiosk string
	id    [32]byte
}

type batchCode struct {
	hash    [32]byte
	arrival int64
}

// didDigest is what a DID's holder is kept under.
func didDigest(did string) [32]byte { return sha256.Sum256([]byte(did)) }

func newBatchFacts() *batchFacts {
	return &batchFacts{arrivals: map[[32]byte]int64{}, ids: map[[32]byte]bool{}, places: map[place]link{}, numbers: map[numberKey]uint64{},
		holders: map[[32]byte]holder{}, stored: map[[32]byte]bool{}, changed: map[[32]byte]bool{}}
}

func (f *batchFacts) held(id [32]byte) bool { return f.ids[id] }

// keyTaken needs no look-up of its own: whose DID is there, their key is.
func (f *batchFacts) keyTaken(_ [32]byte, did string) bool {
	_, taken := f.holders[didDigest(did)]
	return taken
}

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

func (f *batchFacts) keepCode(hash [32]byte, _ string, id [32]byte) error {
	f.codes = append(f.codes, batchCode{hash, f.arrivals[id]})
	return nil
}

func (f *batchFacts) holder(did string) (holder, error) {
	h, known := f.holders[didDigest(did)]
	if !known {
		return h, errHolder
	}
	return h, nil
}

func (f *batchFacts) keepHolder(did string, h holder) error {
	digest := didDigest(did)
	f.holders[digest], f.changed[digest] = h, true
	return nil
}

// readFacts reads what decides about entries. Kiosks' chains and DIDs are locked:
// what is decided from them holds until the transaction ends. Ids and DIDs that
// another transaction takes meanwhile are found by their unique keys.
func readFacts(ctx context.Context, tx pgx.Tx, entries []entry) (*batchFacts, error) {
	var ids, dids, previous [][]byte
	var kiosks, chains []string
	var numbers []int64
	for _, e := range entries {
		id := e.submission.ID()
		p := e.submission.Record().Payload()
		ids = append(ids, id[:])
		if n, k := int64(p.Context.Sequence), p.Context.KioskID; n != 0 {
			kiosks, numbers = append(kiosks, k, k, k), append(numbers, n-1, n, n+1)
			previous, chains = append(previous, e.link.Previous[:]), append(chains, k)
		}
		for _, did := range didsOf(p) {
			digest := didDigest(did)
			dids = append(dids, digest[:])
		}
	}
	f := newBatchFacts()
	var q pgx.Batch
	slices.Sort(chains)
	chains = slices.Compact(chains)
	for _, kiosk := range chains {
		queueChainLock(&q, kiosk)
	}
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
	q.Queue(numberOfSQL, previous, chains).Query(func(rows pgx.Rows) error {
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
	// its own number or DID. If those are seen, so is the record.
	q.Queue(`SELECT id FROM records WHERE id = ANY($1)`, ids).Query(func(rows pgx.Rows) error { return collect(rows, f.ids) })
	// After the locks: what a record rests on has a lower number.
	next := 0
	q.Queue(`SELECT nextval('records_arrival_seq') FROM generate_series(1, $1)`, len(entries)).Query(func(rows pgx.Rows) error {
		return eachRow(rows, func(rows pgx.Rows) error {
			var n int64
			err := rows.Scan(&n)
			f.arrivals[[32]byte(ids[next])] = n
			next++
			return err
		})
	})
	return f, tx.SendBatch(ctx, &q).Close()
}

// numberOfSQL is which of these kiosks' numbers records have.
const numberOfSQL = `SELECT kiosk, id, sequence FROM records WHERE id = ANY($1) AND kiosk = ANY($2) AND sequence IS NOT NULL
	UNION ALL SELECT sender, record, sequence FROM rejections WHERE record = ANY($1) AND sender = ANY($2) AND sequence <> 0`

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

func queueHolders(q *pgx.Batch, f *batchFacts, dids [][]byte) {
	q.Queue(`SELECT did, record, ended_by, replaced_by, cancelled FROM holders WHERE did = ANY($1) ORDER BY did FOR UPDATE`, dids).Query(func(rows pgx.Rows) error {
		return eachRow(rows, func(rows pgx.Rows) error {
			var digest []byte
			var h holder
			if err := rows.Scan(&digest, &h.Record, &h.EndedBy, &h.ReplacedBy, &h.Cancelled); err != nil {
				return err
			}
			f.holders[[32]byte(digest)], f.stored[[32]byte(digest)] = h, true
			return nil
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
	if err := f.copyRecords(ctx, tx, entries, stored); err != nil {
		return err
	}
	var arrivals, attested, personal []int64
	var blinds, evidence [][]byte
	for _, i := range stored {
		e, r := entries[i], entries[i].submission.Record()
		p, n := r.Payload(), f.arrivals[r.ID()]
		arrivals, blinds = append(arrivals, n), append(blinds, p.Blind[:])
		if a, ok := e.submission.Attestation(); ok {
			attested, evidence = append(attested, n), append(evidence, a.Bytes())
		}
		if e.personal {
			personal = append(personal, n)
		}
	}
	var q pgx.Batch
	q.Queue(`INSERT INTO unlogged (arrival, blind) SELECT * FROM unnest($1::bigint[], $2::bytea[])`, arrivals, blinds)
	if len(attested) > 0 {
		q.Queue(`INSERT INTO attestations (arrival, evidence) SELECT * FROM unnest($1::bigint[], $2::bytea[])`, attested, evidence)
	}
	if len(personal) > 0 {
		q.Queue(`INSERT INTO unopened (arrival) SELECT * FROM unnest($1::bigint[])`, personal)
	}
	f.queueLinks(&q)
	f.queueHolders(&q)
	f.queueCodes(&q)
	queueApprovals(&q, entries, stored, out)
	return tx.SendBatch(ctx, &q).Close()
}

func (f *batchFacts) copyRecords(ctx context.Context, tx pgx.Tx, entries []entry, stored []int) error {
	bodies, size := make([][]byte, len(stored)), 0
	for n, i := range stored {
		bodies[n] = entries[i].submission.Record().Bytes()
		size += len(bodies[n]) + 512
	}
	rows := newCopyRows(size)
	for n, i := range stored {
		e, r := entries[i], entries[i].submission.Record()
		p, id := r.Payload(), r.ID()
		rows.row(8)
		rows.bigint(f.arrivals[id])
		rows.bytea(id[:])
		rows.text(p.Context.KioskID)
		if p.Context.Sequence == 0 {
			rows.null()
		} else {
			rows.bigint(int64(p.Context.Sequence))
		}
		rows.text(e.sender)
		rows.timestamptz(e.received)
		rows.text(p.Holder.DID)
		rows.bytea(bodies[n])
	}
	return rows.into(ctx, tx, "records (arrival, id, kiosk, sequence, sender, received, did, jws)", len(stored))
}

func (f *batchFacts) queueLinks(q *pgx.Batch) {
	if len(f.linked) == 0 {
		return
	}
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

// queueHolders writes what the batch brings and what it changes. Of two transactions
// that bring one DID the second fails, and sees the first when it runs again.
func (f *batchFacts) queueHolders(q *pgx.Batch) {
	write := func(stored bool, sql string) {
		var dids, records, endedBy, replacedBy [][]byte
		var cancelled []string
		for _, did := range sortedIDs(f.changed) {
			if f.stored[did] != stored {
				continue
			}
			h := f.holders[did]
			dids, records, endedBy, replacedBy = append(dids, did[:]), append(records, h.Record), append(endedBy, h.EndedBy), append(replacedBy, h.ReplacedBy)
			cancelled = append(cancelled, string(h.Cancelled))
		}
		if len(dids) > 0 {
			q.Queue(sql, dids, records, endedBy, replacedBy, cancelled)
		}
	}
	write(false, `INSERT INTO holders (did, record, ended_by, replaced_by, cancelled)
		SELECT * FROM unnest($1::bytea[], $2::bytea[], $3::bytea[], $4::bytea[], $5::text[])`)
	write(true, `UPDATE holders h SET record = n.record, ended_by = n.ended_by, replaced_by = n.replaced_by, cancelled = n.cancelled
		FROM unnest($1::bytea[], $2::bytea[], $3::bytea[], $4::bytea[], $5::text[]) AS n (did, record, ended_by, replaced_by, cancelled) WHERE h.did = n.did`)
}

func (f *batchFacts) queueCodes(q *pgx.Batch) {
	if len(f.codes) == 0 {
		return
	}
	var hashes [][]byte
	var arrivals []int64
	for _, c := range f.codes {
		hashes, arrivals = append(hashes, c.hash[:]), append(arrivals, c.arrival)
	}
	q.Queue(`INSERT INTO codes (hash, arrival) SELECT * FROM unnest($1::bytea[], $2::bigint[]) ON CONFLICT (hash) DO NOTHING`, hashes, arrivals)
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

// heldStatus is what statuses reads of the records with the ids $1.
const heldStatus = `SELECT id, receipt, coalesce(status, ''), coalesce(code, ''), coalesce(verdict, ''),
				records.did, holders.record, ended_by, replaced_by, coalesce(cancelled, '')
			FROM records LEFT JOIN receipts USING (arrival) LEFT JOIN verdicts USING (arrival)
				LEFT JOIN holders ON records.did <> '' AND holders.did = sha256(convert_to(records.did, 'UTF8'))
			WHERE id = ANY($1)`

func (s *postgresStore) Status(ctx context.Context, sender string, ids ...[32]byte) (map[[32]byte]status, error) {
	return s.statuses(ctx, heldStatus+` AND sender IN ('', $2)
		UNION ALL SELECT record, NULL, status, code, verdict, '', NULL, NULL, NULL, '' FROM rejections
			WHERE sender = $2 AND record = ANY($1) AND NOT EXISTS (SELECT FROM records WHERE id = record AND records.sender IN ('', $2))`,
		raw(ids), sender)
}

func (s *postgresStore) Held(ctx context.Context, id [32]byte) (status, error) {
	found, err := s.statuses(ctx, heldStatus, raw([][32]byte{id}))
	known, held := found[id]
	if err == nil && !held {
		err = errNotHeld
	}
	return known, err
}

func (s *postgresStore) statuses(ctx context.Context, query string, args ...any) (map[[32]byte]status, error) {
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
	}, query, args...)
	return out, err
}

// sortedIDs are the keys of m in order: rows that are locked are locked in the same
// order everywhere.
func sortedIDs[V any](m map[[32]byte]V) [][32]byte {
	return slices.SortedFunc(maps.Keys(m), func(a, b [32]byte) int { return bytes.Compare(a[:], b[:]) })
}

func raw(ids [][32]byte) [][]byte {
	out := make([][]byte, len(ids))
	for i := range ids {
		out[i] = ids[i][:]
	}
	return out
}

func (s *postgresStore) Reject(ctx context.Context, sender string, rejections map[[32]byte]rejection) (map[[32]byte]decision, error) {
	ids := sortedIDs(rejections)
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
	}, `SELECT (SELECT id FROM records r WHERE r.arrival = u.arrival), blind FROM unlogged u ORDER BY arrival LIMIT $1`, limit)
	return out, err
}

func (s *postgresStore) Scanned(ctx context.Context) (n uint64, err error) {
	err = s.row(ctx, &n, `SELECT scanned FROM registry`)
	return n, err
}

func (s *postgresStore) Logged(ctx context.Context, term uint64, receipts map[[32]byte][]byte, scanned uint64) error {
	ids := sortedIDs(receipts)
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
		q.Queue(`INSERT INTO receipts (arrival, receipt) SELECT arrival, receipt FROM unnest($1::bytea[], $2::bytea[]) AS new (id, receipt) JOIN records USING (id)
			ORDER BY arrival ON CONFLICT (arrival) DO NOTHING`, raw(ids), texts)
		q.Queue(`DELETE FROM unlogged USING records WHERE id = ANY($1) AND unlogged.arrival = records.arrival`, raw(ids))
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
	}, `SELECT (SELECT id FROM records r WHERE r.arrival = u.arrival) FROM unopened u
		WHERE arrival > coalesce((SELECT arrival FROM records WHERE id = $1), 0) ORDER BY arrival LIMIT $2`, after[:], limit)
	return out, err
}

func (s *postgresStore) Submission(ctx context.Context, id [32]byte) (out []byte, err error) {
	err = pgx.ErrNoRows
	if rowErr := s.rows(ctx, func(rows pgx.Rows) error {
		var jws, evidence []byte
		err = rows.Scan(&jws, &evidence)
		out = submission(jws, evidence)
		return err
	}, `SELECT jws, evidence FROM records LEFT JOIN attestations USING (arrival) WHERE id = $1`, id[:]); rowErr != nil {
		return nil, rowErr
	}
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, errNotHeld
	}
	return out, err
}

func (s *postgresStore) Decided(ctx context.Context, id [32]byte, d decision, refused *record.Payload) error {
	return s.tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `DELETE FROM unopened USING records WHERE id = $1 AND unopened.arrival = records.arrival`, id[:]); err != nil {
			return err
		}
		done, err := tx.Exec(ctx, `INSERT INTO verdicts (arrival, status, code, verdict) SELECT arrival, $2, $3, $4 FROM records WHERE id = $1 ON CONFLICT (arrival) DO NOTHING`,
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
	}, `SELECT arrival, (SELECT id FROM records r WHERE r.arrival = v.arrival), verdict FROM verdicts v WHERE arrival > $1 ORDER BY arrival LIMIT $2`, int64(after), limit)
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
	}, `SELECT r.id, r.jws, p.receipt FROM records r LEFT JOIN receipts p USING (arrival) WHERE r.id > $1 ORDER BY r.id LIMIT $2`, after[:], limit)
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
	}, `SELECT 'log', count(*), min(received) FROM unlogged JOIN records USING (arrival)
		UNION ALL SELECT 'vault', count(*), min(received) FROM unopened JOIN records USING (arrival)`)
	return out, err
}
