package client_test

import (
	"errors"
	"testing"

	"enrollkiosk/registry/checkpoint"
	"enrollkiosk/sync/client"
	"enrollkiosk/sync/internal/testregistry"
)

func followed(t *testing.T) (*testregistry.Registry, *client.Client, *checkpoint.Keeper) {
	t.Helper()
	r := testregistry.New(t, nil)
	k, err := checkpoint.OpenKeeper(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return r, connect(t, r, func(o *client.Options) { o.Log = k }), k
}

// The log is followed over the wire: tiles that begin with anything are tiles.
func TestFollowLog(t *testing.T) {
	r, c, k := followed(t)
	for _, n := range []int{0, 1, 300, 900} {
		r.Grow(n)
		if err := c.FollowLog(t.Context()); err != nil {
			t.Fatalf("%d more: %v", n, err)
		}
	}
	if kept, err := k.Kept(t.Context(), r.Policy.Policy().Log()); err != nil || kept.Size() != 1201 {
		t.Errorf("kept %v, %v", kept, err)
	}
	i := item(r.Enroll(t, 1))
	submit(t, c, i)
	if s, err := status(t, c, i); err != nil || s.Err != nil || s.Receipt == nil {
		t.Errorf("a receipt that fits: %+v, %v", s, err)
	}
}

// A receipt from another face of the log is none; what was signed is kept, and
// the honest face goes on being believed.
func TestReceiptFromAFork(t *testing.T) {
	r, c, k := followed(t)
	r.Grow(300)
	first := item(r.Enroll(t, 2))
	submit(t, c, first)
	if s, err := status(t, c, first); err != nil || s.Receipt == nil {
		t.Fatalf("%+v, %v", s, err)
	}
	r.Fork(100)
	if err := c.FollowLog(t.Context()); !errors.Is(err, checkpoint.ErrSplit) || !errors.Is(err, client.ErrNonsense) {
		t.Errorf("the same size, another tree: %v", err)
	}
	second := item(r.Enroll(t, 3))
	submit(t, c, second)
	s, err := status(t, c, second)
	if err == nil {
		err = s.Err
	}
	if !errors.Is(err, checkpoint.ErrSplit) || !errors.Is(err, client.ErrNonsense) || s.Receipt != nil {
		t.Errorf("a receipt of the fork: %+v, %v", s, err)
	}
	if pairs, err := k.Evidence(); err != nil || len(pairs) != 2 {
		t.Errorf("evidence %v, %v", pairs, err)
	}
	// Whoever follows nothing sees nothing amiss: the check is what finds it.
	if s, err := status(t, connect(t, r, nil), second); err != nil || s.Receipt == nil {
		t.Errorf("%+v, %v", s, err)
	}
}
