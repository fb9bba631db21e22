package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"enrollkiosk/registry/api"
	"enrollkiosk/registry/policy"
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
	d, err := decisionOf(got, id, p.Policy())
	if err != nil {
		return "", fmt.Errorf("verdict: %w", err)
	}
	return d.Status, nil
}

// Decision is what has been decided about a record whose bytes are gone from here,
// as it was signed.
type Decision struct {
	ID       [32]byte
	Status   api.Status     // Pending: nothing has been decided
	Code     string         // why not Active
	Time     time.Time      // when it was decided; zero for Pending
	Verdict  []byte         // signed
	DID      string         // of the identity; "" while Pending and where none was brought
	Standing receipt.Status // Suspended or Revoked: what became of the identity since, by the registry; "" while it holds
	Since    string         // code of Standing
}

// Shown asks what has been decided about the record of a receipt, whichever kiosk sent
// it: the receipt is the evidence. id is the record that it names, unverified. ErrUntold:
// the registry tells nothing about this receipt, for it has no such record, or not yet,
// or the receipt is no evidence; *RetryAfter, also when this kiosk has shown too many.
func (c *Client) Shown(ctx context.Context, text []byte, id [32]byte) (d Decision, err error) {
	p, err := c.policy()
	if err != nil {
		return d, fmt.Errorf("show receipt: %w", err)
	}
	body, err := json.Marshal(api.ReceiptQuery{Receipt: string(text)})
	if err != nil {
		return d, fmt.Errorf("show receipt: %w", err)
	}
	var got api.RecordStatus
	err = c.do(ctx, http.MethodPost, api.PathReceipts, body, api.MediaJSON, api.MaxBody, func(b []byte) error {
		got, err = api.Decode[api.RecordStatus](bytes.NewReader(b))
		return err
	})
	if err == nil {
		d, err = decisionOf(got, id, p.Policy())
	}
	if err != nil {
		return Decision{}, fmt.Errorf("show receipt: %w", err)
	}
	return d, nil
}

// Decisions asks for many records at once, at most api.MaxItems. What the registry
// does not have, did not get into its answer, or says without proof is left out;
// proof is the error about what was left out for that, which wraps ErrNonsense.
func (c *Client) Decisions(ctx context.Context, ids [][32]byte) (out []Decision, proof, err error) {
	p, err := c.policy()
	if err != nil {
		return nil, nil, fmt.Errorf("decisions: %w", err)
	}
	result, err := c.statuses(ctx, ids)
	if err != nil {
		return nil, nil, fmt.Errorf("decisions: %w", err)
	}
	for _, got := range result.Statuses {
		if got.Status == api.Unknown {
			continue
		}
		d, err := decisionOf(got, got.ID, p.Policy())
		if err != nil {
			proof = errors.Join(proof, fmt.Errorf("%s: %w", got.ID, err))
			continue
		}
		out = append(out, d)
	}
	return out, proof, nil
}

// decisionOf believes what is signed about the record of that id.
func decisionOf(got api.RecordStatus, id [32]byte, p policy.Policy) (Decision, error) {
	out := Decision{ID: id, Status: got.Status}
	if got.ID != id {
		return out, fmt.Errorf("%w: about another record", ErrNonsense)
	}
	if got.Status != api.Pending {
		v, err := receipt.VerifyVerdict([]byte(got.Verdict), p.VerdictKeys.Registry, p.VerdictKeys.Vault, id)
		if err == nil && string(v.Claims().Status) != string(got.Status) {
			err = errors.New("the signed verdict says something else")
		}
		if err != nil {
			return out, fmt.Errorf("%w: %w", ErrNonsense, err)
		}
		out.Code, out.Time, out.Verdict, out.DID = v.Claims().Code, v.Claims().Time, v.Bytes(), v.Claims().DID
	}
	if got.Standing != "" {
		v, err := receipt.VerifyVerdict([]byte(got.Standing), p.VerdictKeys.Registry, p.VerdictKeys.Vault, id)
		if err == nil && v.Claims().Status != receipt.Suspended && v.Claims().Status != receipt.Revoked {
			err = errors.New("the signed standing says something else")
		}
		if err != nil {
			return out, fmt.Errorf("%w: %w", ErrNonsense, err)
		}
		out.Standing, out.Since = v.Claims().Status, v.Claims().Code
	}
	return out, nil
}
