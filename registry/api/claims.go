package api

import (
	"fmt"

	"enrollkiosk/registry/record"
)

// MaxPlaces is how many sealed lists of places one request may have.
const MaxPlaces = 256

// ClaimsRequest is the body of the vault's POST /v1/claims: the record that brought
// a DID, of whose holder credentials are to speak.
type ClaimsRequest struct {
	Record Data `json:"record"` // record.Submission.Bytes
	Names  bool `json:"names"`  // the legal name is asked for
}

// Check holds the limits.
func (r ClaimsRequest) Check() error {
	if len(r.Record) == 0 || len(r.Record) > record.MaxSubmission {
		return fmt.Errorf("%w: record of %d bytes", ErrForm, len(r.Record))
	}
	return nil
}

// ClaimsResult answers it, as of today. Names are empty unless asked for.
type ClaimsResult struct {
	Over14     bool   `json:"age_over_14"`
	Over16     bool   `json:"age_over_16"`
	Over18     bool   `json:"age_over_18"`
	FamilyName string `json:"family_name"`
	GivenName  string `json:"given_name"`
	NameLocal  string `json:"name_local"`
}

// Check holds the form.
func (r ClaimsResult) Check() error {
	if r.Over18 && !r.Over16 || r.Over16 && !r.Over14 || max(len(r.FamilyName), len(r.GivenName), len(r.NameLocal)) > maxName {
		return fmt.Errorf("%w: claims", ErrForm)
	}
	return nil
}

const maxName = 512 // bytes

// PlacesRequest is the body of the vault's POST /v1/places: what was sealed of
// credentials whose record has ended.
type PlacesRequest struct {
	Sealed []SealedPlaces `json:"sealed"`
}

// SealedPlaces are credential.SealLinks' of one batch.
type SealedPlaces struct {
	Record ID   `json:"record"`
	Places Data `json:"places"`
}

// Check holds the limits.
func (r PlacesRequest) Check() error {
	if len(r.Sealed) == 0 || len(r.Sealed) > MaxPlaces {
		return fmt.Errorf("%w: %d sealed lists", ErrForm, len(r.Sealed))
	}
	return nil
}

// PlacesResult answers it: all places, in an order that says nothing.
type PlacesResult struct {
	Places []Place `json:"places"`
}

// Place is a credential's in the status lists.
type Place struct {
	List  uint8  `json:"list"`
	Index uint32 `json:"index"`
}

// Check holds the form.
func (r PlacesResult) Check() error {
	if r.Places == nil {
		return fmt.Errorf("%w: places", ErrForm)
	}
	return nil
}
