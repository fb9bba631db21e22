package station

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"enrollkiosk/kiosk"
	"enrollkiosk/kiosk/secret"
	"enrollkiosk/registry/api"
	"enrollkiosk/registry/receipt"
	"enrollkiosk/sync/client"
	"enrollkiosk/sync/queue"
)

// counter is the registry as citizens ask it.
type counter struct {
	client *client.Client
	now    func() kiosk.Times
}

var standings = map[api.Status]kiosk.Standing{api.Pending: kiosk.StandingReceipted, api.Active: kiosk.StandingActive,
	api.Refused: kiosk.StandingRefused, api.Rejected: kiosk.StandingSetAside}

func (c counter) Standing(ctx context.Context, id queue.ID) (kiosk.Standing, error) {
	found, proof, err := c.client.Decisions(ctx, [][32]byte{id})
	switch {
	case err != nil:
		return "", fmt.Errorf("%w: %w", kiosk.ErrRegistry, err)
	case proof != nil: // it says something that it does not prove
		return "", fmt.Errorf("%w: %w", kiosk.ErrRegistry, proof)
	case len(found) == 0:
		return kiosk.StandingElsewhere, nil
	}
	switch found[0].Standing {
	case receipt.Suspended:
		return kiosk.StandingSuspended, nil
	case receipt.Revoked:
		return kiosk.StandingRevoked, nil
	}
	return standings[found[0].Status], nil
}

func (c counter) Holder(ctx context.Context, id queue.ID) (string, error) {
	found, proof, err := c.client.Decisions(ctx, [][32]byte{id})
	switch {
	case err != nil || proof != nil:
		return "", fmt.Errorf("%w: %w", kiosk.ErrRegistry, errors.Join(err, proof))
	case len(found) == 0:
		return "", kiosk.ErrElsewhere
	}
	if d := found[0]; d.Status == api.Active && d.Since != api.CodeReplaced {
		return d.DID, nil
	}
	return "", kiosk.ErrNoHolder
}

func (c counter) Cancel(ctx context.Context, code secret.Text) error {
	err := c.client.Cancel(ctx, code)
	var later *client.RetryAfter
	switch {
	case err == nil:
		return nil
	case errors.As(err, &later) && later.Status == http.StatusTooManyRequests:
		return &kiosk.TooMany{Until: c.now().Wall.Add(later.After)}
	}
	return fmt.Errorf("%w: %w", kiosk.ErrRegistry, err)
}
