package registry

import (
	"context"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Cut is where a registry on PostgreSQL is killed: in the first transaction with a
// statement that begins with SQL.
type Cut struct {
	SQL    string
	Moment Moment
}

// Moment of a transaction.
type Moment string

const (
	BeforeWrite  Moment = "before it writes"
	BeforeCommit Moment = "before it commits"
	AfterCommit  Moment = "after the database has committed"
)

// Moments are all of them.
var Moments = []Moment{BeforeWrite, BeforeCommit, AfterCommit}

// CutStore has a registry killed at an arrow, before Serve. With outboxApart its
// records and their places in the outbox are written in a transaction each: what must
// not be.
func CutStore(r *Registry, at Cut, outboxApart bool) error {
	c, err := postgresConfig(r.opts.Database)
	if err != nil {
		return err
	}
	c.ConnConfig.Tracer = cutter{at}
	pool, err := pgxpool.NewWithConfig(context.Background(), c)
	if err != nil {
		return err
	}
	var s store = &postgresStore{pool, r.opts.Log}
	if outboxApart {
		s = outboxApartStore{&postgresStore{pool, r.opts.Log}}
	}
	r.store, r.outbox, r.vault.store = s, s, s
	return nil
}

// cutter sees each statement before it is sent and when it is answered. What is known
// of a transaction stands beside its connection.
type cutter struct{ at Cut }

const cutHere = "cut" // a connection's custom data: this transaction is the one

type committing struct{}

func (c cutter) sees(conn *pgx.Conn, sql string) {
	if !strings.HasPrefix(strings.TrimSpace(sql), c.at.SQL) {
		return
	}
	if c.at.Moment == BeforeWrite {
		die()
	}
	conn.PgConn().CustomData()[cutHere] = true
}

func (c cutter) TraceQueryStart(ctx context.Context, conn *pgx.Conn, d pgx.TraceQueryStartData) context.Context {
	if d.SQL != "commit" {
		c.sees(conn, d.SQL)
		return ctx
	}
	if conn.PgConn().CustomData()[cutHere] == true {
		if c.at.Moment == BeforeCommit {
			die()
		}
		return context.WithValue(ctx, committing{}, true)
	}
	return ctx
}

func (c cutter) TraceQueryEnd(ctx context.Context, _ *pgx.Conn, d pgx.TraceQueryEndData) {
	if ctx.Value(committing{}) != nil && d.Err == nil {
		die()
	}
}

func (c cutter) TraceBatchStart(ctx context.Context, conn *pgx.Conn, d pgx.TraceBatchStartData) context.Context {
	for _, q := range d.Batch.QueuedQueries {
		c.sees(conn, q.SQL)
	}
	return ctx
}

func (cutter) TraceBatchQuery(context.Context, *pgx.Conn, pgx.TraceBatchQueryData) {}
func (cutter) TraceBatchEnd(context.Context, *pgx.Conn, pgx.TraceBatchEndData)     {}

func die() {
	syscall.Kill(syscall.Getpid(), syscall.SIGKILL)
	select {}
}

// outboxApartStore is a store with the mistake that the outbox is there to prevent.
type outboxApartStore struct{ *postgresStore }

func (s outboxApartStore) Add(ctx context.Context, entries []entry) (out []added, err error) {
	ids, blinds := make([][]byte, len(entries)), make([][]byte, len(entries))
	for i, e := range entries {
		id, p := e.submission.ID(), e.submission.Record().Payload()
		ids[i], blinds[i] = id[:], p.Blind[:]
	}
	if err := s.tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		if out, err = addAll(ctx, tx, entries); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `DELETE FROM unlogged USING records WHERE id = ANY($1) AND unlogged.arrival = records.arrival`, ids)
		return err
	}); err != nil {
		return nil, err
	}
	return out, s.tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `INSERT INTO unlogged (arrival, blind) SELECT arrival, blind FROM unnest($1::bytea[], $2::bytea[]) AS new (id, blind) JOIN records USING (id)
			ON CONFLICT DO NOTHING`, ids, blinds)
		return err
	})
}
