package registry

import (
	"context"
	"net/http"
	"strings"

	"enrollkiosk/registry/api"
	"enrollkiosk/registry/internal/console"
	"enrollkiosk/registry/internal/reply"
)

// consoleRoutes is what operators' commands may ask, as http.ServeMux patterns.
func (r *Registry) consoleRoutes() map[string]http.HandlerFunc {
	return map[string]http.HandlerFunc{
		"GET /status":              r.consoleStatus,
		"GET /store":               r.consoleStore,
		"GET /check":               r.consoleCheck,
		"GET /kiosks/{id}":         r.consoleKiosk,
		"POST /kiosks/{id}/retire": r.consoleRetire,

		"POST " + pathImportParcel:   importRoute(r, r.importParcel),
		"POST " + pathImportRecords:  importRoute(r, r.importRecords),
		"POST " + pathImportReceipts: importRoute(r, r.importReceipts),
		"POST " + pathImportLog:      importRoute(r, r.proveLog),

		"GET /cancellations":                r.consoleCancellations,
		"GET /cancellations/{did}":          r.consoleCancellation,
		"POST /cancellations/{did}/lift":    r.consoleResolve(CancelLifted),
		"POST /cancellations/{did}/confirm": r.consoleResolve(CancelRevoked),
	}
}

// Console is how an operator's command reaches the store: through the registry
// that holds it, or, when none runs, by opening it. It must be closed.
type Console = console.Console

// OpenConsole opens the console of the registry that c describes.
func OpenConsole(ctx context.Context, c Config) (*Console, error) {
	return console.Open(ctx, c.Registry.Dir, func() (map[string]http.HandlerFunc, func() error, error) {
		o, err := c.Options()
		if err != nil {
			return nil, nil, err
		}
		r, err := Open(ctx, o)
		if err != nil {
			return nil, nil, err
		}
		return r.consoleRoutes(), r.Close, nil
	})
}

// Refused is an answer other than yes.
type Refused = console.Refused

// Status is how a registry is.
type Status struct {
	Origin  string   `json:"origin"`
	LogKeys []string `json:"log_keys"` // checkpoint.Log.Keys, by the policy in force
	Policy  uint64   `json:"policy"`   // version
	LogSize uint64   `json:"log"`      // leaves with a receipt, and those before them
	Failing []string `json:"failing"`  // "log", "vault"
	Leads   []Role   `json:"leads"`    // the roles that this process has now

	Ending []KioskEnd `json:"ending"` // kiosks whose certificates end soon
}

func (r *Registry) consoleStatus(w http.ResponseWriter, q *http.Request) {
	s := Status{Origin: r.origin, LogKeys: r.opts.Policy.Policy().Log().Keys(), Policy: r.opts.Policy.Policy().Version, Failing: []string{}, Leads: []Role{}}
	var err error
	if s.LogSize, err = r.store.Scanned(q.Context()); err != nil {
		r.consoleFailed(w, err)
		return
	}
	if s.Ending, err = r.kiosks.ending(q.Context(), r.opts.Now()); err != nil {
		r.consoleFailed(w, err)
		return
	}
	if r.logging.failing.Load() {
		s.Failing = append(s.Failing, "log")
	}
	if r.vault.failing.Load() {
		s.Failing = append(s.Failing, "vault")
	}
	if r.logging.leads.Load() {
		s.Leads = append(s.Leads, RoleLog)
	}
	if r.vault.leads.Load() {
		s.Leads = append(s.Leads, RoleVault)
	}
	reply.JSON(w, s)
}

// consoleFailed answers an operator, who may see the cause.
func (r *Registry) consoleFailed(w http.ResponseWriter, err error) {
	r.opts.Log.Error("command failed", "error", err)
	title, _, _ := strings.Cut(err.Error(), "\n")
	reply.Problem(w, http.StatusInternalServerError, api.CodeUnavailable, title, 0)
}

// consoleStore writes the store as it is now.
func (r *Registry) consoleStore(w http.ResponseWriter, q *http.Request) {
	s, ok := r.store.(snapshotter)
	if !ok {
		reply.Problem(w, http.StatusConflict, api.CodeUnavailable, "the store is a database: back it up with pg_dump first, then say --no-store", 0)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	if err := s.Snapshot(q.Context(), w); err != nil {
		r.opts.Log.Error("backup failed", "error", err)
		panic(http.ErrAbortHandler) // whoever reads it must not think that it is whole
	}
}

// consoleCheck compares store and log.
func (r *Registry) consoleCheck(w http.ResponseWriter, q *http.Request) {
	if !r.may(RoleLog) {
		reply.Problem(w, http.StatusConflict, api.CodeUnavailable, "the log is at another registry: ask there", 0)
		return
	}
	report, err := examine(q.Context(), r.store, LogDir(r.logDir()), r.opts.Policy.Policy().Log().Unwitnessed())
	if err != nil {
		r.consoleFailed(w, err)
		return
	}
	reply.JSON(w, report)
}
