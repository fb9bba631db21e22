package postgres_test

import (
	"testing"

	"enrollkiosk/simulators/postgres"
)

// What was confirmed is there after a kill, in the database and in its copies.
func TestKillAndStart(t *testing.T) {
	t.Parallel()
	c, err := postgres.New(t.Context(), "fsync=off")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Create(t.Context(), "one", ""); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Query(t.Context(), "one", `CREATE TABLE t (n int); INSERT INTO t VALUES (7)`); err != nil {
		t.Fatal(err)
	}
	if err := c.Kill(); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Query(t.Context(), "one", `SELECT 1`); err == nil {
		t.Error("it answers though it was killed")
	}
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := c.Create(t.Context(), "two", "one"); err != nil {
		t.Fatal(err)
	}
	if n, err := c.Query(t.Context(), "two", `SELECT n FROM t`); err != nil || n != "7" {
		t.Errorf("%q, %v", n, err)
	}
	if err := c.Drop(t.Context(), "two"); err != nil {
		t.Error(err)
	}
	if _, err := c.Query(t.Context(), "two", `SELECT 1`); err == nil {
		t.Error("a dropped database answers")
	}
}
