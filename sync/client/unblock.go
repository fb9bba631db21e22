package client

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	"enrollkiosk/registry/api"
	"enrollkiosk/registry/record"
)

// UnblockRefused is the registry's or the vault's no to a request to unblock a
// token. What a person can do is in its text.
type UnblockRefused struct {
	Code string // one of api's
}

// unblockAdvice says what each refusal means for the officer at the desk.
var unblockAdvice = map[string]string{
	api.CodeKiosk:          "this kiosk's certificate is not the registered one: run kiosk provision again",
	api.CodeOfficer:        "this officer does not serve at the desk for tokens: have another one do it",
	api.CodeOfficerRevoked: "this officer's card was reported lost: keep it, and call the authority",
	api.CodeTime:           "this machine's clock is wrong: set it, then run it again",
	api.CodePolicy:         "the authority's policy has changed: run it again",
	api.CodeSimulated:      "this kiosk, officer or TPM is for tests only",
	api.CodeHolder:         "the registry knows no citizen with this token, or the token was replaced or revoked: the citizen must be enrolled with a new one",
	api.CodeSuspended:      "somebody gave this citizen's cancel code: the citizen gets a new key, with a second officer, or the authority lifts it",
	api.CodeSealed:         "the authority cannot open what was sealed for it: call the authority",
	api.CodeOwnEnrollment:  "the token is the officer's own: another officer must do it",
	api.CodeUnblockTPM:     "the registry knows another TPM under this kiosk's id: run kiosk provision again",
	api.CodeUnblockToken:   "nothing is kept that unblocks this token: the citizen must be enrolled with a new one",
	api.CodeUnblockLimit:   "this token, or this officer's tokens, were unblocked too often lately: wait, or call the authority",
}

func unblockRefusal(code string) bool {
	return strings.HasPrefix(code, "registry-") || strings.HasPrefix(code, "vault-") || code == record.CodeAudience
}

func (e *UnblockRefused) Error() string {
	advice := unblockAdvice[e.Code]
	if advice == "" {
		advice = "the registry does not unblock this token: call the authority"
	}
	return clip(e.Code) + ": " + advice
}

// Unblock sends an officer's and this kiosk's request to unblock a token. The
// answer is the vault's, verified. Sent again, it gets the same answer.
//
// Errors: *UnblockRefused, *RetryAfter, and those of the line.
func (c *Client) Unblock(ctx context.Context, u record.Unblock) (a record.UnblockAnswer, err error) {
	p, err := c.policy()
	if err == nil {
		err = c.do(ctx, http.MethodPost, api.PathTokenUnblock, u.Bytes(), api.MediaJOSE, record.MaxUnblockAnswer, func(b []byte) error {
			a, err = record.VerifyUnblockAnswer(b, p.Policy().VerdictKeys.Vault, u)
			return err
		})
	}
	if err != nil {
		return record.UnblockAnswer{}, fmt.Errorf("unblock: %w", err)
	}
	return a, nil
}
