package client

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	"enrollkiosk/kiosk/secret"
	"enrollkiosk/registry/api"
)

// Cancel gives in a cancel code. nil says that the registry has it, and not whether
// it is one of its own: that it tells nobody. Sent again, it changes nothing.
//
// Errors: *RetryAfter, also when too many codes came from here, and those of the
// line; ErrNonsense for a code that the registry takes for mistyped.
func (c *Client) Cancel(ctx context.Context, code secret.Text) error {
	body, err := json.Marshal(api.Cancellation{Code: string(code.Reveal())})
	if err == nil {
		defer clear(body)
		err = c.do(ctx, http.MethodPost, api.PathCancellations, body, api.MediaJSON, api.MaxBody, func(b []byte) error {
			_, err := api.Decode[api.Cancelled](bytes.NewReader(b))
			return err
		})
	}
	if err != nil {
		return fmt.Errorf("cancel: %w", err)
	}
	return nil
}
