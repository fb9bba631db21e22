package client

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"

	"enrollkiosk/registry/api"
	"enrollkiosk/registry/checkpoint"
	"enrollkiosk/registry/policy"
	"enrollkiosk/registry/receipt"
)

// mediaTile is the media type of the log's tiles.
const mediaTile = "application/octet-stream"

// logFiles are the public files of the registry's log: checkpoint.Files.
type logFiles struct{ c *Client }

func (f logFiles) Read(ctx context.Context, path string, limit int64) (b []byte, err error) {
	want := mediaTile
	if path == checkpoint.PathCheckpoint {
		want = api.MediaText
	}
	err = f.c.do(ctx, http.MethodGet, api.PathLog+path, nil, want, limit, func(got []byte) error {
		b = got
		return nil
	})
	if errors.Is(err, ErrNotFound) {
		err = fmt.Errorf("%w: %w", fs.ErrNotExist, err)
	}
	return b, err
}

// FollowLog fetches the log's newest checkpoint, proves that it continues the one
// that Options.Log has kept, and keeps it. What the registry shows amiss is
// ErrNonsense and an error of package checkpoint: checkpoint.ErrSplit when the
// log has shown two faces.
func (c *Client) FollowLog(ctx context.Context) error {
	p, err := c.policy()
	if err == nil && c.log != nil {
		_, err = c.log.Follow(ctx, p.Policy().Log(), logFiles{c})
	}
	if err != nil {
		return fmt.Errorf("follow log: %w", nonsense(err))
	}
	return nil
}

// consistent holds a verified receipt's checkpoint against those seen before.
func (c *Client) consistent(ctx context.Context, s Status, p policy.Policy) error {
	if c.log == nil {
		return nil
	}
	f, err := receipt.Verify(s.Receipt, p.Log(), s.ID)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNonsense, err)
	}
	return nonsense(c.log.Accept(ctx, p.Log(), logFiles{c}, f.Checkpoint()))
}

// nonsense is ErrNonsense for what the log shows amiss; other errors stay.
func nonsense(err error) error {
	for _, amiss := range []error{checkpoint.ErrForm, checkpoint.ErrSignature, checkpoint.ErrWitnesses, checkpoint.ErrTiles, checkpoint.ErrSplit, checkpoint.ErrBehind} {
		if errors.Is(err, amiss) {
			return fmt.Errorf("%w: %w", ErrNonsense, err)
		}
	}
	return err
}
