package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"

	"enrollkiosk/registry/api"
	"enrollkiosk/registry/receipt"
)

// Verdict asks what has been decided about a record whose bytes are gone from
// here: api.Pending, or what the registry or the vault has signed. Unlike Status
// it says nothing about the receipt. ErrNotFound: the registry does not have the
// record.
func (c *Client) Verdict(ctx context.Context, id [32]byte) (api.Status, error) {
	p, err := c.policy()
	if err != nil {
		return "", fmt.Errorf("verdict: %w", err)
	}
	var got api.RecordStatus
	err = c.do(ctx, http.MethodGet, api.PathRecords+"/"+api.ID(id).String(), nil, api.MediaJSON, api.MaxBody, func(b []byte) error {
		got, err = api.Decode[api.RecordStatus](bytes.NewReader(b))
		return err
	})
	if err != nil {
		return "", fmt.Errorf("verdict: %w", err)
	}
	if got.ID != id {
		return "", fmt.Errorf("verdict: %w: about another record", ErrNonsense)
	}
	if got.Status == api.Pending {
		return got.Status, nil
	}
	keys := p.Policy().VerdictKeys
	v, err := receipt.VerifyVerdict([]byte(got.Verdict), keys.Registry, keys.Vault, id)
	if err == nil && string(v.Claims().Status) != string(got.Status) {
		err = errors.New("the signed verdict says something else")
	}
	if err != nil {
		return "", fmt.Errorf("verdict: %w: %w", ErrNonsense, err)
	}
	return got.Status, nil
}
