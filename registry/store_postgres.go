package registry

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/url"
	"path"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// postgresStore keeps everything in a PostgreSQL database, for all registries
// that share it. store_postgres_records.go has records and what follows from
// them, store_postgres_kiosks.go has the register, sessions and reports.
//
// Transactions are READ COMMITTED: that nothing is there twice is held by unique
// keys, and what a decision rests on is locked. They run again when the database
// says that another one came in between.
type postgresStore struct {
	pool *pgxpool.Pool
	log  *slog.Logger
}

// Errors of a database that cannot be the store.
var (
	ErrDatabaseAddress = errors.New("the database's address must be postgres://USER@HOST:PORT/NAME?sslmode=verify-full; " +
		"only on this machine it may be without sslmode, and the password stands in a file (PGPASSFILE), not in the address")
	ErrDatabaseNewer   = errors.New("the database was made by a newer registry: run that one")
	ErrDatabaseOther   = errors.New("the database is another registry's")
	ErrDatabaseForgets = errors.New("the database does not keep what it has confirmed: set fsync, full_page_writes and synchronous_commit on")
)

// Limits of the database. Every statement has one, so that a lock or a link that
// hangs becomes an error, and its sender comes again.
const (
	databaseConnect   = 5 * time.Second
	databaseStatement = 10 * time.Second
	databaseLock      = 5 * time.Second
	databaseIdle      = 15 * time.Second // in a transaction
	databaseWait      = 20 * time.Second // a whole method
	databaseTries     = 10
	databaseConns     = 16
)

// postgresConfig reads an address. What crosses a network is encrypted to a server
// that has proved its name, or refused.
func postgresConfig(address string) (*pgxpool.Config, error) {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "postgres" && u.Scheme != "postgresql" {
		return nil, ErrDatabaseAddress // the cause could quote a password
	}
	if _, has := u.User.Password(); has || u.Query().Has("password") {
		return nil, ErrDatabaseAddress
	}
	c, err := pgxpool.ParseConfig(address)
	if err != nil {
		return nil, ErrDatabaseAddress
	}
	if !u.Query().Has("pool_max_conns") {
		c.MaxConns = databaseConns
	}
	if c.ConnConfig.ConnectTimeout == 0 {
		c.ConnConfig.ConnectTimeout = databaseConnect
	}
	hosts := []*pgconn.FallbackConfig{{Host: c.ConnConfig.Host, TLSConfig: c.ConnConfig.TLSConfig}}
	for _, h := range append(hosts, c.ConnConfig.Fallbacks...) {
		ip := net.ParseIP(h.Host)
		here := strings.HasPrefix(h.Host, "/") || strings.HasPrefix(h.Host, "@") || h.Host == "localhost" || ip != nil && ip.IsLoopback()
		if !here && (h.TLSConfig == nil || h.TLSConfig.InsecureSkipVerify) {
			return nil, ErrDatabaseAddress
		}
	}
	milliseconds := func(d time.Duration) string { return fmt.Sprint(d.Milliseconds()) }
	for name, value := range map[string]string{
		"application_name":                    "enrollkiosk registry",
		"default_transaction_isolation":       "read committed",
		"statement_timeout":                   milliseconds(databaseStatement),
		"lock_timeout":                        milliseconds(databaseLock),
		"idle_in_transaction_session_timeout": milliseconds(databaseIdle),
	} {
		c.ConnConfig.RuntimeParams[name] = value
	}
	return c, nil
}

// openPostgres connects to the database of the registry of this origin and brings
// its tables up to date.
func openPostgres(ctx context.Context, o Options, origin string) (*postgresStore, error) {
	c, err := postgresConfig(o.Database)
	if err != nil {
		return nil, err
	}
	pool, err := pgxpool.NewWithConfig(ctx, c)
	if err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	s := &postgresStore{pool, o.Log}
	if err := s.prepare(ctx, o.Production, origin); err != nil {
		pool.Close()
		return nil, fmt.Errorf("open database: %w", err)
	}
	return s, nil
}

func (s *postgresStore) prepare(ctx context.Context, production bool, origin string) error {
	var durable bool
	if err := s.row(ctx, &durable, `SELECT current_setting('fsync')::bool AND current_setting('full_page_writes')::bool
		AND current_setting('synchronous_commit') <> 'off'`); err != nil {
		return err
	}
	if !durable {
		if production {
			return ErrDatabaseForgets
		}
		s.log.Warn("this registry is for tests", "error", ErrDatabaseForgets)
	}
	migrations, err := fs.Sub(migrationFiles, "migrations")
	if err != nil {
		return err
	}
	if err := s.migrate(ctx, migrations); err != nil {
		return err
	}
	return s.tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `INSERT INTO registry (origin) SELECT $1 WHERE NOT EXISTS (SELECT FROM registry)`, origin); err != nil {
			return err
		}
		var whose string
		if err := tx.QueryRow(ctx, `SELECT origin FROM registry`).Scan(&whose); err != nil {
			return err
		}
		if whose != origin {
			return fmt.Errorf("%w: of %s", ErrDatabaseOther, whose)
		}
		return nil
	})
}

//go:embed migrations/*.sql
var migrationFiles embed.FS

// Advisory locks are numbered; the first number says what the second is of.
const (
	lockMigration = iota + 1
	lockRole
	lockKiosk
	lockChain
	lockOfficer
	lockIssuer
)

// migrate applies what the database lacks of the numbered files, each in a
// transaction with its number; one registry at a time. It takes as long as it takes:
// one that moves a country's rows needs hours, and those who come meanwhile wait.
func (s *postgresStore) migrate(ctx context.Context, migrations fs.FS) error {
	files, err := fs.Glob(migrations, "*.sql") // in order
	if err != nil {
		return err
	}
	for {
		more := false
		if err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, `SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 0`); err != nil {
				return err
			}
			if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock($1, 0)`, lockMigration); err != nil {
				return err
			}
			if _, err := tx.Exec(ctx, `CREATE TABLE IF NOT EXISTS migrations (version int PRIMARY KEY, applied timestamptz NOT NULL DEFAULT now())`); err != nil {
				return err
			}
			var version int
			if err := tx.QueryRow(ctx, `SELECT coalesce(max(version), 0) FROM migrations`).Scan(&version); err != nil {
				return err
			}
			switch {
			case version > len(files):
				return fmt.Errorf("%w: its tables are of version %d, this registry's of %d", ErrDatabaseNewer, version, len(files))
			case version == len(files):
				return nil
			}
			text, err := fs.ReadFile(migrations, files[version])
			if err != nil {
				return err
			}
			if _, err := tx.Exec(ctx, string(text)); err != nil { // without arguments: many statements
				return fmt.Errorf("migration %s: %w", path.Base(files[version]), err)
			}
			_, err = tx.Exec(ctx, `INSERT INTO migrations (version) VALUES ($1)`, version+1)
			more = true
			return err
		}); err != nil {
			return err
		}
		if !more {
			return nil
		}
	}
}

func (s *postgresStore) Close() error {
	s.pool.Close()
	return nil
}

// tx runs f in a transaction, again if another one came in between. f must keep
// nothing of an earlier run.
func (s *postgresStore) tx(ctx context.Context, f func(ctx context.Context, tx pgx.Tx) error) error {
	ctx, cancel := context.WithTimeout(ctx, databaseWait)
	defer cancel()
	for try := 1; ; try++ {
		err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error { return f(ctx, tx) })
		if err == nil || try == databaseTries || !again(err) {
			return err
		}
		select {
		case <-ctx.Done():
			return errors.Join(err, ctx.Err())
		case <-time.After(rand.N(time.Duration(try) * 5 * time.Millisecond)):
		}
	}
}

// again says whether a transaction failed for what another one did meanwhile
// (PostgreSQL, Appendix A). A unique key taken is such: whoever took it is seen by
// the next try.
func again(err error) bool {
	var e *pgconn.PgError
	if !errors.As(err, &e) {
		return false
	}
	switch e.Code {
	case "40001", "40P01", "23505": // serialization_failure, deadlock_detected, unique_violation
		return true
	}
	return false
}

// rows runs one query and hands each row to scan.
func (s *postgresStore) rows(ctx context.Context, scan func(pgx.Rows) error, sql string, args ...any) error {
	ctx, cancel := context.WithTimeout(ctx, databaseWait)
	defer cancel()
	rows, err := s.pool.Query(ctx, sql, args...)
	if err != nil {
		return err
	}
	return eachRow(rows, scan)
}

func eachRow(rows pgx.Rows, scan func(pgx.Rows) error) error {
	defer rows.Close()
	for rows.Next() {
		if err := scan(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

// row runs a query of one row; pgx.ErrNoRows if it has none.
func (s *postgresStore) row(ctx context.Context, into any, sql string, args ...any) error {
	ctx, cancel := context.WithTimeout(ctx, databaseWait)
	defer cancel()
	return s.pool.QueryRow(ctx, sql, args...).Scan(into)
}

// Roles are locks of a session: the database lets go of them with the connection,
// whatever becomes of the process at its other end.
const (
	leaseCheck = time.Second
	leaseWait  = 3 * time.Second // for an answer
)

var roleLocks = map[Role]int32{RoleLog: 1, RoleVault: 2}

func (s *postgresStore) Lead(ctx context.Context, role Role, f func(ctx context.Context, term uint64) error) error {
	conn, term, err := s.lease(ctx, role)
	if err != nil || conn == nil {
		return err
	}
	held, lose := context.WithCancel(ctx)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		defer lose()
		for {
			select {
			case <-held.Done():
				return
			case <-time.After(leaseCheck):
			}
			ping, cancel := context.WithTimeout(held, leaseWait)
			err := conn.Ping(ping)
			cancel()
			if err != nil {
				return
			}
		}
	}()
	err = f(held, term)
	lose()
	<-watched
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaseWait)
	defer cancel()
	// The role ends with the connection, but the server may take its time to notice.
	_, _ = conn.Exec(last, `SELECT pg_advisory_unlock($1, $2)`, lockRole, roleLocks[role])
	conn.Close(last)
	return err
}

// lease takes a role on if nobody has it; nil if somebody has.
func (s *postgresStore) lease(ctx context.Context, role Role) (*pgx.Conn, uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, databaseWait)
	defer cancel()
	pooled, err := s.pool.Acquire(ctx)
	if err != nil {
		return nil, 0, fmt.Errorf("take role on: %w", err)
	}
	var free bool
	if err := pooled.QueryRow(ctx, `SELECT pg_try_advisory_lock($1, $2)`, lockRole, roleLocks[role]).Scan(&free); err != nil || !free {
		pooled.Release()
		return nil, 0, err
	}
	conn := pooled.Hijack() // the lock is its own
	var term uint64
	if err := conn.QueryRow(ctx, `UPDATE roles SET term = term + 1, since = now() WHERE name = $1 RETURNING term`, role).Scan(&term); err != nil {
		conn.Close(ctx)
		return nil, 0, fmt.Errorf("take role on: %w", err)
	}
	return conn, term, nil
}
