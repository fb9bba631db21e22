package api

import (
	"fmt"

	"enrollkiosk/registry/record"
)

// UnblockOrder is the body of the vault's POST /v1/unblock: a kiosk's request,
// with what the registry knows of the token's holder and of the kiosk's TPM.
type UnblockOrder struct {
	Request        Data        `json:"request"`         // record.Unblock.Bytes
	Record         Data        `json:"record"`          // record.Submission.Bytes of the record that brought the DID
	Endorsement    Endorsement `json:"endorsement"`     // of the kiosk's TPM
	AttestationKey []byte      `json:"attestation_key"` // TPMT_PUBLIC of the kiosk's AK
}

// Check holds the limits.
func (o UnblockOrder) Check() error {
	if len(o.Request) == 0 || len(o.Request) > record.MaxUnblock || len(o.Record) == 0 || len(o.Record) > record.MaxSubmission {
		return fmt.Errorf("%w: request of %d bytes, record of %d bytes", ErrForm, len(o.Request), len(o.Record))
	}
	return nil
}

// UnblockResult answers an UnblockOrder.
type UnblockResult struct {
	Answer string `json:"answer"` // record.SignUnblockAnswer's JWS by the vault's key
}

// Check holds the form.
func (r UnblockResult) Check() error {
	if r.Answer == "" || len(r.Answer) > record.MaxUnblockAnswer {
		return fmt.Errorf("%w: answer", ErrForm)
	}
	return nil
}
