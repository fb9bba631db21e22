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
)

// counter is the registry as citizens ask it.
type counter struct {
	client *client.Client
	now    func() kiosk.Times
}

var standings = map[api.Status]kiosk.Standing{api.Pending: kiosk.StandingReceipted, api.Active: kiosk.StandingActive,
	api.Refused: kiosk.StandingRefused, api.Rejected: kiosk.StandingSetAside}

func (c counter) Standing(ctx context.Context, r kiosk.Receipt) (kiosk.Standing, error) {
	d, err := c.client.Shown(ctx, r.Text, r.Record)
	switch {
	case errors.Is(err, client.ErrUntold):
		return kiosk.StandingUntold, nil
	case err != nil:
		return "", fmt.Errorf("%w: %w", kiosk.ErrRegistry, err)
	}
	switch d.Standing {
	case receipt.Suspended:
		return kiosk.StandingSuspended, nil
	case receipt.Revoked:
		return kiosk.StandingRevoked, nil
	}
	return standings[d.Status], nil
}

func (c counter) Holder(ctx context.Context, r kiosk.Receipt) (string, error) {
	d, err := c.client.Shown(ctx, r.Text, r.Record)
	switch {
	case errors.Is(err, client.ErrUntold):
		return "", kiosk.ErrUntold
	case err != nil:
		return "", fmt.Errorf("%w: %w", kiosk.ErrRegistry, err)
	case d.Status != api.Active || d.Since == api.CodeReplaced:
		return "", kiosk.ErrNoHolder
	}
	return d.DID, nil
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
