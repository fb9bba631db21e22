package api

import (
	"fmt"

	"enrollkiosk/registry/receipt"
	"enrollkiosk/registry/record"
)

// MaxJudged is how many verdicts a LevelRequest shows at most.
const MaxJudged = 64

// LevelRequest is the body of the vault's POST /v1/level: the registry shows a vault
// that was put back from a backup what it had judged, in the order in which the
// records came. Each verdict comes once by itself and, if it is missed, again with its
// record; at last Done. Before all that come the policies, each a body of its own
// (MediaJOSE).
type LevelRequest struct {
	Judged   []Judged `json:"judged"`
	Outcomes uint64   `json:"outcomes"` // the number of the outcome that the registry saw last
	Done     bool     `json:"done"`     // there is nothing more
}

// Judged is a record with the vault's verdict of it that is in force.
type Judged struct {
	Record     ID     `json:"record"`
	Verdict    string `json:"verdict"`              // receipt.Verdict's JWS by the vault's key
	Submission Data   `json:"submission,omitempty"` // record.Submission.Bytes; none until it is missed
}

// Check holds the limits.
func (r LevelRequest) Check() error {
	if len(r.Judged) > MaxJudged {
		return fmt.Errorf("%w: %d verdicts", ErrForm, len(r.Judged))
	}
	for _, j := range r.Judged {
		if j.Verdict == "" || len(j.Verdict) > receipt.MaxSize || len(j.Submission) > record.MaxSubmission {
			return fmt.Errorf("%w: verdict of %s", ErrForm, j.Record)
		}
	}
	return nil
}

// LevelResult answers a LevelRequest.
type LevelResult struct {
	Missing []ID `json:"missing"` // records whose verdicts the vault does not know: show them with their submissions
}

// Check holds the limits.
func (r LevelResult) Check() error {
	if len(r.Missing) > MaxJudged {
		return fmt.Errorf("%w: %d records", ErrForm, len(r.Missing))
	}
	return nil
}
