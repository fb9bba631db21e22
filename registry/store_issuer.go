package registry

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
	"go.etcd.io/bbolt"

	"enrollkiosk/registry/issuer"
)

// boltIssuer keeps what the issuer does in the registry's file.
type boltIssuer struct{ s *boltStore }

func (s *boltStore) Issuer() issuer.Store { return boltIssuer{s} }

func (b boltIssuer) Read(ctx context.Context, f func(issuer.Tx) error) error {
	return b.s.view(ctx, func(tx *bbolt.Tx) error { return f(boltIssuerTx{tx}) })
}

func (b boltIssuer) Change(ctx context.Context, f func(issuer.Tx) error) error {
	return b.s.update(ctx, func(tx *bbolt.Tx) error { return f(boltIssuerTx{tx}) })
}

type boltIssuerTx struct{ tx *bbolt.Tx }

func issuerKey(k issuer.Kind, key []byte) []byte { return append(append([]byte(k), 0), key...) }

func (t boltIssuerTx) Get(k issuer.Kind, key []byte) ([]byte, error) {
	return t.tx.Bucket(bucketIssuer).Get(issuerKey(k, key)), nil
}

func (t boltIssuerTx) Put(k issuer.Kind, key, value []byte, expires time.Time) error {
	full := issuerKey(k, key)
	if !expires.IsZero() {
		if err := t.tx.Bucket(bucketIssuerDue).Put(issuerDue(expires, full), []byte{}); err != nil {
			return err
		}
	}
	return t.tx.Bucket(bucketIssuer).Put(full, value)
}

func (t boltIssuerTx) Delete(k issuer.Kind, key []byte) error {
	return t.tx.Bucket(bucketIssuer).Delete(issuerKey(k, key))
}

func (t boltIssuerTx) First(k issuer.Kind, limit int) (keys [][]byte, err error) {
	prefix := issuerKey(k, nil)
	c := t.tx.Bucket(bucketIssuer).Cursor()
	for key, _ := c.Seek(prefix); bytes.HasPrefix(key, prefix) && len(keys) < limit; key, _ = c.Next() {
		keys = append(keys, bytes.Clone(key[len(prefix):]))
	}
	return keys, nil
}

func issuerDue(at time.Time, full []byte) []byte {
	return append(binary.BigEndian.AppendUint64(nil, uint64(at.Unix())), full...)
}

func (t boltIssuerTx) Sweep(now time.Time, limit int) error {
	due := t.tx.Bucket(bucketIssuerDue)
	var gone [][]byte
	c := due.Cursor()
	for key, _ := c.First(); key != nil && binary.BigEndian.Uint64(key) < uint64(now.Unix()) && len(gone) < limit; key, _ = c.Next() {
		gone = append(gone, bytes.Clone(key))
	}
	for _, key := range gone {
		if err := errors.Join(due.Delete(key), t.tx.Bucket(bucketIssuer).Delete(key[8:])); err != nil {
			return err
		}
	}
	return nil
}

// endCredentials follows what becomes of a DID: the credentials of one that ends, or
// is suspended, are to be revoked; one whose suspension is lifted may collect anew. A
// trigger does it in PostgreSQL (migrations/0005_issuer.sql).
func endCredentials(tx *bbolt.Tx, h holder) error {
	t := boltIssuerTx{tx}
	if h.ended() || h.Cancelled == CancelSuspended {
		if closed, err := t.Get(issuer.KindClosed, h.Record); err != nil || closed != nil {
			return err
		}
		return t.Put(issuer.KindEnded, h.Record, []byte{1}, time.Time{})
	}
	return errors.Join(t.Delete(issuer.KindEnded, h.Record), t.Delete(issuer.KindClosed, h.Record))
}

// postgresIssuer keeps it in a table.
type postgresIssuer struct{ s *postgresStore }

func (s *postgresStore) Issuer() issuer.Store { return postgresIssuer{s} }

func (p postgresIssuer) Read(ctx context.Context, f func(issuer.Tx) error) error {
	return p.s.tx(ctx, func(ctx context.Context, tx pgx.Tx) error { return f(postgresIssuerTx{ctx, tx}) })
}

// Change runs one at a time: cells are read and written again.
func (p postgresIssuer) Change(ctx context.Context, f func(issuer.Tx) error) error {
	return p.s.tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock($1, 0)`, lockIssuer); err != nil {
			return err
		}
		return f(postgresIssuerTx{ctx, tx})
	})
}

type postgresIssuerTx struct {
	ctx context.Context
	tx  pgx.Tx
}

// rawKey is never NULL.
func rawKey(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

func (t postgresIssuerTx) Get(k issuer.Kind, key []byte) (value []byte, err error) {
	err = t.tx.QueryRow(t.ctx, `SELECT value FROM issuer WHERE kind = $1 AND key = $2`, string(k), rawKey(key)).Scan(&value)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	return value, err
}

func (t postgresIssuerTx) Put(k issuer.Kind, key, value []byte, expires time.Time) error {
	var at *time.Time
	if !expires.IsZero() {
		at = &expires
	}
	_, err := t.tx.Exec(t.ctx, `INSERT INTO issuer (kind, key, value, expires) VALUES ($1, $2, $3, $4)
		ON CONFLICT (kind, key) DO UPDATE SET value = excluded.value, expires = excluded.expires`, string(k), rawKey(key), value, at)
	return err
}

func (t postgresIssuerTx) Delete(k issuer.Kind, key []byte) error {
	_, err := t.tx.Exec(t.ctx, `DELETE FROM issuer WHERE kind = $1 AND key = $2`, string(k), rawKey(key))
	return err
}

func (t postgresIssuerTx) First(k issuer.Kind, limit int) (keys [][]byte, err error) {
	rows, err := t.tx.Query(t.ctx, `SELECT key FROM issuer WHERE kind = $1 ORDER BY key LIMIT $2`, string(k), limit)
	if err != nil {
		return nil, err
	}
	return keys, eachRow(rows, func(rows pgx.Rows) error {
		var key []byte
		err := rows.Scan(&key)
		keys = append(keys, key)
		return err
	})
}

func (t postgresIssuerTx) Sweep(now time.Time, limit int) error {
	_, err := t.tx.Exec(t.ctx, `DELETE FROM issuer WHERE (kind, key) IN (SELECT kind, key FROM issuer WHERE expires < $1 ORDER BY expires LIMIT $2)`, now, limit)
	return err
}
