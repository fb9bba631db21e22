package client

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	"enrollkiosk/registry/api"
)

// ProvisionRefused is the registry's no to a new kiosk: one of api's
// CodeProvision constants. What a person can do is in its text.
type ProvisionRefused struct {
	Code  string
	Check string // of an attestation: what refused it
}

// provisionAdvice says what each refusal means for the person at the kiosk.
var provisionAdvice = map[string]string{
	api.CodeProvisionCode:        "the code is wrong, used up or expired, or for another kiosk id: compare kiosk.id, or have the registry give out a new one (registry kiosks code)",
	api.CodeProvisionOtherTPM:    "this kiosk id belongs to another machine: if this one replaces it, give it an id of its own; if its disk was copied here, clear the state directory and do the same",
	api.CodeProvisionRevoked:     "the kiosk of this id was revoked: give this machine another id",
	api.CodeProvisionEK:          "the authority trusts no maker of this TPM: have its root added to the policy (tpm_roots), or use another machine",
	api.CodeProvisionAttestation: "the TPM did not prove what it should: try again once, then call staff",
	api.CodeProvisionSession:     "the registry has forgotten this attempt: run it again",
	api.CodeProvisionRejected:    "a person at the registry has rejected this kiosk: call them",
}

func (e *ProvisionRefused) Error() string {
	advice := provisionAdvice[e.Code]
	if advice == "" {
		advice = "the registry refuses this kiosk: call staff"
	}
	if e.Check != "" {
		return fmt.Sprintf("%s: %s (%s)", e.Code, advice, clip(e.Check))
	}
	return e.Code + ": " + advice
}

// BeginProvisioning shows the registry the code and the TPM's keys.
func (c *Client) BeginProvisioning(ctx context.Context, b api.ProvisionBegin) (out api.ProvisionChallenge, err error) {
	err = c.exchange(ctx, http.MethodPost, api.PathProvisionBegin, b, func(answer []byte) error {
		if out, err = api.Decode[api.ProvisionChallenge](bytes.NewReader(answer)); err != nil {
			return err
		}
		if out.Endorsement >= len(b.Endorsements) {
			return fmt.Errorf("%w: challenge for a key that was not offered", api.ErrForm)
		}
		return nil
	})
	return out, err
}

// ProveProvisioning answers the challenge.
func (c *Client) ProveProvisioning(ctx context.Context, p api.ProvisionProof) (out api.ProvisionStatus, err error) {
	err = c.exchange(ctx, http.MethodPost, api.PathProvisionProve, p, func(answer []byte) error {
		out, err = api.Decode[api.ProvisionStatus](bytes.NewReader(answer))
		return err
	})
	return out, err
}

// Provisioned asks whether a person has approved the kiosk.
func (c *Client) Provisioned(ctx context.Context, session api.ID) (out api.ProvisionStatus, err error) {
	err = c.exchange(ctx, http.MethodGet, api.PathProvision+"/"+session.String(), nil, func(answer []byte) error {
		out, err = api.Decode[api.ProvisionStatus](bytes.NewReader(answer))
		return err
	})
	return out, err
}

func (c *Client) exchange(ctx context.Context, method, path string, question any, read func([]byte) error) error {
	var body []byte
	if question != nil {
		var err error
		if body, err = json.Marshal(question); err != nil {
			return fmt.Errorf("provision: %w", err)
		}
	}
	// do sends again what met a connection that had ended meanwhile. A challenge
	// that was answered twice is refused: the kiosk begins again.
	if err := c.do(ctx, method, path, body, api.MediaJSON, api.MaxBody, read); err != nil {
		return fmt.Errorf("provision: %w", err)
	}
	return nil
}
