package vault

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"enrollkiosk/registry/api"
	"enrollkiosk/registry/internal/console"
	"enrollkiosk/registry/internal/reply"
)

// consoleRoutes is what operators' commands may ask.
func (v *Vault) consoleRoutes() map[string]http.HandlerFunc {
	return map[string]http.HandlerFunc{
		"GET /store":                 v.consoleStore,
		"GET /reviews":               v.consoleReviews,
		"GET /reviews/{id}":          v.consoleReview,
		"POST /reviews/{id}/resolve": v.consoleResolve,
	}
}

// Console is how an operator's command reaches the store: through the vault
// that holds it, or, when none runs, by opening it. It must be closed.
type Console = console.Console

// OpenConsole opens the console of the vault that c describes.
func OpenConsole(ctx context.Context, c Config) (*Console, error) {
	return console.Open(ctx, c.Vault.Dir, func() (map[string]http.HandlerFunc, func() error, error) {
		o, err := c.Options()
		if err != nil {
			return nil, nil, err
		}
		v, err := Open(ctx, o)
		if err != nil {
			return nil, nil, err
		}
		return v.consoleRoutes(), v.Close, nil
	})
}

// Refused is an answer other than yes.
type Refused = console.Refused

func (v *Vault) consoleReviews(w http.ResponseWriter, q *http.Request) {
	list, err := v.Reviews(q.URL.Query().Get("all") != "")
	v.consoleAnswer(w, list, err)
}

func (v *Vault) consoleReview(w http.ResponseWriter, q *http.Request) {
	id, err := api.ParseID(q.PathValue("id"))
	if err != nil {
		v.consoleAnswer(w, nil, ErrNoReview)
		return
	}
	r, err := v.Review(id)
	v.consoleAnswer(w, r, err)
}

func (v *Vault) consoleResolve(w http.ResponseWriter, q *http.Request) {
	decision, ok := console.Read[Resolution](w, q)
	if !ok {
		return
	}
	id, err := api.ParseID(q.PathValue("id"))
	if err != nil {
		v.consoleAnswer(w, nil, ErrNoReview)
		return
	}
	r, err := v.Resolve(q.Context(), id, decision)
	v.consoleAnswer(w, r, err)
}

// consoleAnswer answers an operator, who may see the cause.
func (v *Vault) consoleAnswer(w http.ResponseWriter, answer any, err error) {
	status, code := http.StatusConflict, api.CodeBadRequest
	switch {
	case err == nil:
		reply.JSON(w, answer)
		return
	case errors.Is(err, ErrNoReview):
		status, code = http.StatusNotFound, api.CodeNotFound
	case errors.Is(err, ErrDecision):
		status = http.StatusBadRequest
	case errors.Is(err, ErrResolved), errors.Is(err, ErrReviewChanged), errors.Is(err, ErrOwnReview), errors.Is(err, ErrBehind):
	default:
		v.opts.Log.Error("command failed", "error", err)
		status, code = http.StatusInternalServerError, api.CodeInternal
	}
	title, _, _ := strings.Cut(err.Error(), "\n")
	reply.Problem(w, status, code, title, 0)
}

// consoleStore writes the store as it is now.
func (v *Vault) consoleStore(w http.ResponseWriter, q *http.Request) {
	w.Header().Set("Content-Type", "application/octet-stream")
	if err := v.Snapshot(q.Context(), w); err != nil {
		v.opts.Log.Error("backup failed", "error", err)
		panic(http.ErrAbortHandler) // whoever reads it must not think that it is whole
	}
}
