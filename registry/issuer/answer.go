package issuer

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"time"

	"enrollkiosk/registry/credential"
)

const (
	maxBody   = 1 << 20 // 50 proofs of about 1 kB, one of 12 kB
	maxSmall  = 32 << 10
	mediaForm = "application/x-www-form-urlencoded"
	mediaJSON = "application/json"
	mediaJWT  = "application/jwt"
)

// Error codes (RFC 6749 5.2, OpenID4VCI 1.0 8.3.1).
const (
	invalidRequest   = "invalid_request"
	invalidGrant     = "invalid_grant"
	unsupportedGrant = "unsupported_grant_type"
	invalidToken     = "invalid_token"
	invalidRequestVC = "invalid_credential_request"
	unknownConfig    = "unknown_credential_configuration"
	invalidProof     = "invalid_proof"
	invalidNonce     = "invalid_nonce"
	denied           = "credential_request_denied"
	unavailable      = "temporarily_unavailable"
)

// problem is an answer that says no.
type problem struct {
	status      int
	Code        string `json:"error"`
	Description string `json:"error_description"` // what the person can do; no cause
}

func (p problem) Error() string { return p.Code + ": " + p.Description }

func no(status int, code, description string) problem { return problem{status, code, description} }

var errAgain = no(http.StatusServiceUnavailable, unavailable, "send it again in a while")

func answer(w http.ResponseWriter, status int, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // plain data always encodes
	}
	send(w, status, b)
}

func send(w http.ResponseWriter, status int, b []byte) {
	h := w.Header()
	h.Set("Content-Type", mediaJSON)
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	w.Write(b)
}

// fail answers an error. Its cause goes to the log, with no word of the person.
func (i *Issuer) fail(w http.ResponseWriter, path string, err error) {
	var p problem
	if !errors.As(err, &p) {
		i.Log.Error("issuer cannot answer", "path", path, "error", err)
		p = errAgain
	} else {
		i.Log.Info("issuer refuses", "path", path, "error", err)
	}
	switch p.status {
	case http.StatusServiceUnavailable:
		w.Header().Set("Retry-After", "5")
	case http.StatusUnauthorized:
		w.Header().Set("WWW-Authenticate", "Bearer")
	}
	answer(w, p.status, p)
}

// refused is a problem with its cause for the log.
type refused struct {
	problem
	cause error
}

func (r refused) Error() string { return r.Code + ": " + r.cause.Error() }
func (r refused) Unwrap() error { return r.problem }

// read takes a body of one media type, at most limit bytes.
func read(w http.ResponseWriter, q *http.Request, want string, limit int64) ([]byte, error) {
	if !media(q, want) {
		return nil, no(http.StatusUnsupportedMediaType, invalidRequest, "send "+want)
	}
	b, err := io.ReadAll(http.MaxBytesReader(w, q.Body, limit))
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return nil, no(http.StatusRequestEntityTooLarge, invalidRequest, "the request is too large")
	case err != nil:
		return nil, no(http.StatusBadRequest, invalidRequest, "the body did not arrive")
	}
	return b, nil
}

// proofProblem is how a refusal of package credential is answered.
func proofProblem(err error) error {
	var r credential.Refusal
	if !errors.As(err, &r) {
		return err
	}
	if r == credential.ErrNonce {
		return refused{no(http.StatusBadRequest, invalidNonce, "fetch a new nonce and prove the keys again"), err}
	}
	return refused{no(http.StatusBadRequest, invalidProof, "a proof is not as it should be"), err}
}

func seconds(d time.Duration) int64 { return int64(d / time.Second) }
