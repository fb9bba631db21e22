package registry

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// copyRows are rows for COPY in its binary format (PostgreSQL documentation, COPY,
// "Binary Format"). Records go to the database this way: as an array in a statement's
// parameter, megabytes would be copied again and again on both sides.
type copyRows struct{ b []byte }

// newCopyRows begins rows of about size bytes together.
func newCopyRows(size int) *copyRows {
	b := append(make([]byte, 0, size), "PGCOPY\n\xff\r\n\x00"...)
	return &copyRows{append(b, make([]byte, 8)...)} // no flags, no extension
}

// row begins one of as many columns.
func (c *copyRows) row(columns int) { c.b = binary.BigEndian.AppendUint16(c.b, uint16(columns)) }

func (c *copyRows) null() { c.b = append(c.b, 0xff, 0xff, 0xff, 0xff) }

func (c *copyRows) bigint(n int64) {
	c.b = binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint32(c.b, 8), uint64(n))
}

func (c *copyRows) bytea(v []byte) {
	c.b = append(binary.BigEndian.AppendUint32(c.b, uint32(len(v))), v...)
}

func (c *copyRows) text(s string) {
	c.b = append(binary.BigEndian.AppendUint32(c.b, uint32(len(s))), s...)
}

// postgresEpoch is where timestamptz counts microseconds from.
var postgresEpoch = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

func (c *copyRows) timestamptz(t time.Time) { c.bigint(t.UnixMicro() - postgresEpoch.UnixMicro()) }

// into ends the rows and sends them to a table. n is how many they are.
func (c *copyRows) into(ctx context.Context, tx pgx.Tx, table string, n int) error {
	c.b = binary.BigEndian.AppendUint16(c.b, 0xffff)
	done, err := tx.Conn().PgConn().CopyFrom(ctx, bytes.NewReader(c.b), "COPY "+table+" FROM STDIN BINARY")
	if err == nil && done.RowsAffected() != int64(n) {
		err = fmt.Errorf("%d rows of %d were stored", done.RowsAffected(), n)
	}
	return err
}
