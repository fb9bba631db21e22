package registry

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"enrollkiosk/registry/api"
	"enrollkiosk/registry/record"
)

// txFacts are what a transaction sees, asked one by one: for what comes alone. What
// is read is locked.
type txFacts struct {
	ctx context.Context
	tx  pgx.Tx
}

// get reads one row; has is false if there is none.
func (f txFacts) get(into []any, sql string, args ...any) (has bool, err error) {
	err = f.tx.QueryRow(f.ctx, sql, args...).Scan(into...)
	if errors.Is(err, pgx.ErrNoRows) {
		return false, nil
	}
	return err == nil, err
}

func (f txFacts) put(sql string, args ...any) error {
	_, err := f.tx.Exec(f.ctx, sql, args...)
	return err
}

func (f txFacts) link(p place) (l link, has bool, err error) {
	has, err = f.get([]any{&l}, `SELECT link FROM links WHERE kiosk = $1 AND sequence = $2`, p.kiosk, int64(p.sequence))
	return l, has, err
}

func (f txFacts) numberOf(kiosk string, id [32]byte) (n uint64, err error) {
	_, err = f.get([]any{&n}, `SELECT sequence FROM (`+numberOfSQL+`) AS known`, [][]byte{id[:]}, []string{kiosk})
	return n, err
}

func (f txFacts) keepLink(p place, l link) error {
	return f.put(`INSERT INTO links (kiosk, sequence, record, link) VALUES ($1, $2, $3, $4)`, p.kiosk, int64(p.sequence), l.Record[:], l)
}

func (f txFacts) keepFork(kiosk string, fork Fork) error {
	return f.put(`INSERT INTO forks (kiosk, fork) VALUES ($1, $2)`, kiosk, fork)
}

func (f txFacts) holder(did string) (h holder, err error) {
	digest := didDigest(did)
	has, err := f.get([]any{&h.Record, &h.EndedBy, &h.ReplacedBy, &h.Cancelled},
		`SELECT record, ended_by, replaced_by, cancelled FROM holders WHERE did = $1 FOR UPDATE`, digest[:])
	if err == nil && !has {
		err = errHolder
	}
	return h, err
}

func (f txFacts) keepHolder(did string, h holder) error {
	digest := didDigest(did)
	return f.put(`INSERT INTO holders (did, record, ended_by, replaced_by, cancelled) VALUES ($1, $2, $3, $4, $5)
		ON CONFLICT (did) DO UPDATE SET record = excluded.record, ended_by = excluded.ended_by, replaced_by = excluded.replaced_by, cancelled = excluded.cancelled`,
		digest[:], h.Record, h.EndedBy, h.ReplacedBy, h.Cancelled)
}

// keepCode is for records that are kept already.
func (f txFacts) keepCode(hash [32]byte, _ string, id [32]byte) error {
	return f.put(`INSERT INTO codes (hash, arrival) SELECT $1, arrival FROM records WHERE id = $2 ON CONFLICT (hash) DO NOTHING`, hash[:], id[:])
}

func (f txFacts) code(hash [32]byte) (did string, id [32]byte, known bool, err error) {
	var b []byte
	known, err = f.get([]any{&did, &b}, `SELECT did, id FROM codes JOIN records USING (arrival) WHERE hash = $1`, hash[:])
	copy(id[:], b)
	return did, id, known, err
}

func (f txFacts) cancellation(did string) (c Cancellation, err error) {
	has, err := f.get([]any{&c}, `SELECT cancellation FROM cancellations WHERE did = $1 FOR UPDATE`, did)
	if err == nil && !has {
		err = ErrNoCancellation
	}
	return c, err
}

func (f txFacts) keepCancellation(c Cancellation) error {
	return f.put(`INSERT INTO cancellations (did, state, received, due, cancellation) VALUES ($1, $2, $3, $4, $5)
		ON CONFLICT (did) DO UPDATE SET state = excluded.state, received = excluded.received, due = excluded.due, cancellation = excluded.cancellation`,
		c.DID, c.State, c.Received, c.Due, c)
}

func (s *postgresStore) Links(ctx context.Context, kiosk string, after uint64, limit int) (out []numbered, err error) {
	err = s.rows(ctx, func(rows pgx.Rows) error {
		var one numbered
		err := rows.Scan(&one.number, &one.link)
		out = append(out, one)
		return err
	}, `SELECT sequence, link FROM links WHERE kiosk = $1 AND sequence > $2 ORDER BY sequence LIMIT $3`, kiosk, int64(after), limit)
	return out, err
}

func (s *postgresStore) Forks(ctx context.Context, kiosk string, limit int) (out []Fork, err error) {
	err = s.rows(ctx, func(rows pgx.Rows) error {
		var f Fork
		err := rows.Scan(&f)
		out = append(out, f)
		return err
	}, `SELECT fork FROM forks WHERE kiosk = $1 ORDER BY number DESC LIMIT $2`, kiosk, limit)
	slices.Reverse(out)
	return out, err
}

func (s *postgresStore) Heard(ctx context.Context, kiosk string, at time.Time) error {
	return s.tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		return txFacts{ctx, tx}.put(`INSERT INTO heard AS h (kiosk, at) VALUES ($1, $2) ON CONFLICT (kiosk) DO UPDATE SET at = greatest(h.at, excluded.at)`, kiosk, at)
	})
}

func (s *postgresStore) LastHeard(ctx context.Context, kiosk string) (at time.Time, err error) {
	err = s.row(ctx, &at, `SELECT at FROM heard WHERE kiosk = $1`, kiosk)
	if errors.Is(err, pgx.ErrNoRows) {
		return time.Time{}, nil
	}
	return at.UTC(), err
}

func (s *postgresStore) Cancel(ctx context.Context, hash [32]byte, now, due time.Time) (c Cancellation, done bool, err error) {
	err = s.tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		f := txFacts{ctx, tx}
		// A transaction that writes waits for the disk; one that does not, does not.
		if err := f.put(`UPDATE cancel_attempts SET attempts = attempts + 1`); err != nil {
			return err
		}
		c, done, err = cancel(f, hash, now, due)
		return err
	})
	return c, done, err
}

func (s *postgresStore) Cancellations(ctx context.Context, all bool) (out []Cancellation, err error) {
	err = s.rows(ctx, func(rows pgx.Rows) error {
		var c Cancellation
		err := rows.Scan(&c)
		out = append(out, c)
		return err
	}, `SELECT cancellation FROM cancellations WHERE $1 OR state = $2 ORDER BY received, did`, all, CancelSuspended)
	return out, err
}

func (s *postgresStore) Cancellation(ctx context.Context, did string) (c Cancellation, err error) {
	err = s.row(ctx, &c, `SELECT cancellation FROM cancellations WHERE did = $1`, did)
	if errors.Is(err, pgx.ErrNoRows) {
		err = ErrNoCancellation
	}
	return c, err
}

func (s *postgresStore) ResolveCancellation(ctx context.Context, did string, state CancelState, d Resolution) (c Cancellation, err error) {
	err = s.tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		c, err = resolveCancellation(txFacts{ctx, tx}, did, state, &d, d.Time)
		return err
	})
	return c, err
}

func (s *postgresStore) RevokeDue(ctx context.Context, now time.Time, limit int) (out []Cancellation, err error) {
	err = s.tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		out = nil
		rows, err := tx.Query(ctx, `SELECT did FROM cancellations WHERE state = $1 AND due <= $2 ORDER BY due LIMIT $3 FOR UPDATE SKIP LOCKED`, CancelSuspended, now, limit)
		if err != nil {
			return err
		}
		dids, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			return err
		}
		for _, did := range dids {
			c, err := resolveCancellation(txFacts{ctx, tx}, did, CancelRevoked, nil, now)
			if err != nil {
				return err
			}
			out = append(out, c)
		}
		return nil
	})
	return out, err
}

func (s *postgresStore) Outcomes(ctx context.Context) (n uint64, err error) {
	err = s.row(ctx, &n, `SELECT outcomes FROM registry`)
	return n, err
}

func (s *postgresStore) Redecided(ctx context.Context, o outcome) (applied bool, err error) {
	err = s.tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		applied = false
		f := txFacts{ctx, tx}
		if err := f.put(`UPDATE registry SET outcomes = $1`, int64(o.number)); err != nil {
			return err
		}
		var verdict string
		var jws []byte
		has, err := f.get([]any{&verdict, &jws}, `SELECT verdict, jws FROM verdicts JOIN records USING (arrival) WHERE id = $1 FOR UPDATE OF verdicts`, o.record[:])
		if err != nil || !has || sha256.Sum256([]byte(verdict)) != o.supersedes {
			return err
		}
		r, err := record.Parse(jws)
		if err != nil {
			return fmt.Errorf("kept record: %w", err)
		}
		if err := redecide(f, r.Payload(), o.record, o.decision.Status == api.Active); err != nil {
			return err
		}
		applied = true
		return f.put(`UPDATE verdicts v SET status = $2, code = $3, verdict = $4 FROM records r WHERE r.id = $1 AND v.arrival = r.arrival`, o.record[:], o.decision.Status, o.decision.Code, o.decision.Verdict)
	})
	return applied, err
}
