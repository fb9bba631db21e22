package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"enrollkiosk/registry/api"
	"enrollkiosk/registry/receipt"
)

func (s *postgresStore) Kiosk(ctx context.Context, id string) (Kiosk, error) {
	return document[Kiosk](ctx, s.pool, id, `SELECT kiosk FROM kiosks WHERE id = $1`)
}

func (s *postgresStore) Provision(ctx context.Context, id string) (Provision, error) {
	return document[Provision](ctx, s.pool, id, `SELECT provision FROM provisions WHERE id = $1`)
}

func (s *postgresStore) Kiosks(ctx context.Context) ([]Kiosk, error) {
	return documents[Kiosk](ctx, s, `SELECT id, kiosk FROM kiosks ORDER BY id`)
}

func (s *postgresStore) Provisions(ctx context.Context) ([]Provision, error) {
	return documents[Provision](ctx, s, `SELECT id, provision FROM provisions ORDER BY id`)
}

// querier is a pool or a transaction.
type querier interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// document reads one row's JSON; ErrUnknownKiosk if there is none.
func document[T any](ctx context.Context, q querier, id, sql string) (v T, err error) {
	ctx, cancel := context.WithTimeout(ctx, databaseWait)
	defer cancel()
	var b []byte
	if err := q.QueryRow(ctx, sql, id).Scan(&b); errors.Is(err, pgx.ErrNoRows) {
		return v, fmt.Errorf("%s: %w", id, ErrUnknownKiosk)
	} else if err != nil {
		return v, fmt.Errorf("read kiosk: %w", err)
	}
	return v, decodeRow(id, b, &v)
}

func documents[T any](ctx context.Context, s *postgresStore, sql string) (out []T, err error) {
	err = s.rows(ctx, func(rows pgx.Rows) error {
		var id string
		var b []byte
		var v T
		if err := rows.Scan(&id, &b); err != nil {
			return err
		}
		err := decodeRow(id, b, &v)
		out = append(out, v)
		return err
	}, sql)
	return out, err
}

func decodeRow(id string, b []byte, v any) error {
	if err := decodeStrict(b, v); err != nil {
		return fmt.Errorf("read kiosk: the row of %s is damaged: %w", id, err)
	}
	return nil
}

func (s *postgresStore) ChangeKiosk(ctx context.Context, id string, f func(*standing) error) error {
	return s.tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		// A row that is not there yet cannot be locked.
		if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock($1, hashtext($2))`, lockKiosk, id); err != nil {
			return err
		}
		var st standing
		if kiosk, err := document[Kiosk](ctx, tx, id, `SELECT kiosk FROM kiosks WHERE id = $1`); err == nil {
			st.kiosk = &kiosk
		} else if !errors.Is(err, ErrUnknownKiosk) {
			return err
		}
		if p, err := document[Provision](ctx, tx, id, `SELECT provision FROM provisions WHERE id = $1`); err == nil {
			st.provision = &p
		} else if !errors.Is(err, ErrUnknownKiosk) {
			return err
		}
		if err := f(&st); err != nil {
			return err
		}
		if st.kiosk != nil {
			if _, err := tx.Exec(ctx, `INSERT INTO kiosks (id, kiosk) VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET kiosk = excluded.kiosk`,
				id, st.kiosk); err != nil {
				return err
			}
		}
		if st.provision == nil {
			return nil
		}
		_, err := tx.Exec(ctx, `INSERT INTO provisions (id, provision) VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET provision = excluded.provision`,
			id, st.provision)
		return err
	})
}

func (s *postgresStore) AddSession(ctx context.Context, n session, now time.Time) error {
	return s.tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock($1, hashtext($2))`, lockKiosk, n.Kiosk.ID); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `DELETE FROM sessions WHERE ends <= $1 OR id IN
			(SELECT id FROM sessions WHERE kiosk = $2 ORDER BY made DESC OFFSET $3)`, now, n.Kiosk.ID, maxSessions-1); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `INSERT INTO sessions (id, kiosk, ends, session) VALUES ($1, $2, $3, $4)`, n.ID[:], n.Kiosk.ID, n.Ends, n)
		return err
	})
}

func (s *postgresStore) ChangeSession(ctx context.Context, id api.ID, now time.Time, f func(*session) error) (out session, err error) {
	err = s.tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		out = session{}
		var b []byte
		if err := tx.QueryRow(ctx, `SELECT session FROM sessions WHERE id = $1 AND ends > $2 FOR UPDATE`, id[:], now).Scan(&b); errors.Is(err, pgx.ErrNoRows) {
			return errSessionOver
		} else if err != nil {
			return err
		}
		if err := decodeStrict(b, &out); err != nil {
			return fmt.Errorf("session: %w", err)
		}
		if err := f(&out); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `UPDATE sessions SET ends = $2, session = $3 WHERE id = $1`, id[:], out.Ends, out)
		return err
	})
	return out, err
}

func (s *postgresStore) Activities(ctx context.Context) (out []KioskActivity, err error) {
	err = s.tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		out, err = readActivity(ctx, tx, "")
		return err
	})
	return out, err
}

// readActivity reads a kiosk's activity, or that of all.
func readActivity(ctx context.Context, tx pgx.Tx, kiosk string) (out []KioskActivity, err error) {
	rows, err := tx.Query(ctx, `SELECT kiosk, counter, reported, alarms FROM activity WHERE $1 IN ('', kiosk) ORDER BY kiosk`, kiosk)
	if err != nil {
		return nil, err
	}
	if err := eachRow(rows, func(rows pgx.Rows) error {
		var k KioskActivity
		var reported *time.Time
		var alarms []byte
		if err := rows.Scan(&k.Kiosk, &k.Counter, &reported, &alarms); err != nil {
			return err
		}
		if reported != nil {
			k.Reported = reported.UTC()
		}
		if err := decodeStrict(alarms, &k.Alarms); err != nil {
			return fmt.Errorf("activity: the row of %s is damaged: %w", k.Kiosk, err)
		}
		if len(k.Alarms) == 0 {
			k.Alarms = nil
		}
		out = append(out, k)
		return nil
	}); err != nil {
		return nil, err
	}
	rows, err = tx.Query(ctx, `SELECT kiosk, day, officer, reads, enrollments FROM activity_counts WHERE $1 IN ('', kiosk) ORDER BY kiosk, day, officer`, kiosk)
	if err != nil {
		return nil, err
	}
	return out, eachRow(rows, func(rows pgx.Rows) error {
		var of string
		var e receipt.ActivityEntry
		var officer []byte
		if err := rows.Scan(&of, &e.Day, &officer, &e.Reads, &e.Enrollments); err != nil {
			return err
		}
		e.Officer = receipt.Officer(officer)
		if i, found := slices.BinarySearchFunc(out, of, func(k KioskActivity, id string) int { return bytes.Compare([]byte(k.Kiosk), []byte(id)) }); found {
			out[i].Entries = append(out[i].Entries, e)
		}
		return nil
	})
}

// officerLocks is how many locks stand for all officers: a report may name
// thousands, and the database's table of locks is small.
const officerLocks = 64

func (s *postgresStore) ChangeActivity(ctx context.Context, kiosk string, about []receipt.ActivityEntry, f func(*KioskActivity, []tally)) error {
	var days []string
	var officers [][]byte
	var locks []int32
	for _, e := range about {
		days, officers = append(days, string(e.Day)), append(officers, e.Officer[:])
		locks = append(locks, int32(e.Officer[0])%officerLocks)
	}
	slices.Sort(locks) // in the same order everywhere
	locks = slices.Compact(locks)
	return s.tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		var lock pgx.Batch
		for _, n := range locks {
			lock.Queue(`SELECT pg_advisory_xact_lock($1, $2)`, lockOfficer, n)
		}
		lock.Queue(`INSERT INTO activity (kiosk, counter, alarms) VALUES ($1, 0, '[]') ON CONFLICT (kiosk) DO UPDATE SET kiosk = excluded.kiosk`, kiosk)
		if err := tx.SendBatch(ctx, &lock).Close(); err != nil {
			return err
		}
		kept, err := readActivity(ctx, tx, kiosk)
		if err != nil {
			return err
		}
		others, err := tallies(ctx, tx, kiosk, about, days, officers)
		if err != nil {
			return err
		}
		k := kept[0]
		before := k.Entries
		k.Entries = slices.Clone(before)
		f(&k, others)
		return writeActivity(ctx, tx, k, before)
	})
}

// tallies are the other kiosks' counts.
func tallies(ctx context.Context, tx pgx.Tx, kiosk string, about []receipt.ActivityEntry, days []string, officers [][]byte) ([]tally, error) {
	out := make([]tally, len(about))
	if len(about) == 0 {
		return out, nil
	}
	rows, err := tx.Query(ctx, `SELECT day, officer, least(sum(reads), $4)::bigint, least(sum(enrollments), $4)::bigint, count(*)
		FROM activity_counts JOIN unnest($2::text[], $3::bytea[]) AS asked (day, officer) USING (day, officer)
		WHERE kiosk <> $1 GROUP BY day, officer`, kiosk, days, officers, int64(1)<<62)
	if err != nil {
		return nil, err
	}
	return out, eachRow(rows, func(rows pgx.Rows) error {
		var e receipt.ActivityEntry
		var officer []byte
		var t tally
		if err := rows.Scan(&e.Day, &officer, &t.reads, &t.enrollments, &t.kiosks); err != nil {
			return err
		}
		e.Officer = receipt.Officer(officer)
		if i, found := slices.BinarySearchFunc(about, e, receipt.ActivityEntry.Compare); found {
			out[i] = t
		}
		return nil
	})
}

// writeActivity writes what has changed.
func writeActivity(ctx context.Context, tx pgx.Tx, k KioskActivity, before []receipt.ActivityEntry) error {
	var reported *time.Time
	if !k.Reported.IsZero() {
		reported = &k.Reported
	}
	if k.Alarms == nil {
		k.Alarms = []Alarm{}
	}
	find := func(list []receipt.ActivityEntry, e receipt.ActivityEntry) (int, bool) {
		return slices.BinarySearchFunc(list, e, receipt.ActivityEntry.Compare)
	}
	var days, goneDays []string
	var officers, goneOfficers [][]byte
	var reads, enrollments []int64
	for _, e := range k.Entries {
		if i, found := find(before, e); found && before[i] == e {
			continue
		}
		days, officers = append(days, string(e.Day)), append(officers, e.Officer[:])
		reads, enrollments = append(reads, int64(e.Reads)), append(enrollments, int64(e.Enrollments))
	}
	for _, e := range before {
		if _, found := find(k.Entries, e); !found {
			goneDays, goneOfficers = append(goneDays, string(e.Day)), append(goneOfficers, e.Officer[:])
		}
	}
	var q pgx.Batch
	q.Queue(`UPDATE activity SET counter = $2, reported = $3, alarms = $4 WHERE kiosk = $1`, k.Kiosk, int64(k.Counter), reported, k.Alarms)
	q.Queue(`INSERT INTO activity_counts (kiosk, day, officer, reads, enrollments)
		SELECT $1, * FROM unnest($2::text[], $3::bytea[], $4::bigint[], $5::bigint[])
		ON CONFLICT (kiosk, day, officer) DO UPDATE SET reads = excluded.reads, enrollments = excluded.enrollments`,
		k.Kiosk, days, officers, reads, enrollments)
	q.Queue(`DELETE FROM activity_counts USING unnest($2::text[], $3::bytea[]) AS gone (day, officer)
		WHERE kiosk = $1 AND activity_counts.day = gone.day AND activity_counts.officer = gone.officer`, k.Kiosk, goneDays, goneOfficers)
	return tx.SendBatch(ctx, &q).Close()
}
