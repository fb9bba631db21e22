package vault

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"time"

	"enrollkiosk/registry/api"
	"enrollkiosk/registry/internal/chain"
	"enrollkiosk/registry/internal/console"
	"enrollkiosk/registry/internal/reply"
	"enrollkiosk/registry/internal/serve"
	"enrollkiosk/registry/policy"
)

// Limits of the server: one client, that sends one record at a time.
const (
	headerTimeout = 5 * time.Second
	readTimeout   = 20 * time.Second
	writeTimeout  = 30 * time.Second
	idleTimeout   = 2 * time.Minute
	maxHeader     = 16 << 10
	shutdownWait  = 10 * time.Second
	retryAfter    = 5 // seconds
)

var errClient = errors.New("not the registry's key")

// Serve answers on l until ctx ends. It returns nil after an orderly end.
func (v *Vault) Serve(ctx context.Context, l net.Listener) error {
	s := &http.Server{
		Handler:           v.handler(),
		ReadHeaderTimeout: headerTimeout, ReadTimeout: readTimeout, WriteTimeout: writeTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeader,
		ErrorLog: log.New(io.Discard, "", 0),
		TLSConfig: &tls.Config{
			MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{v.server},
			// One key may speak here. The handshake proves it; a chain would add nothing.
			ClientAuth: tls.RequireAnyClientCert,
			VerifyConnection: func(c tls.ConnectionState) error {
				if len(c.PeerCertificates) == 0 || sha256.Sum256(c.PeerCertificates[0].RawSubjectPublicKeyInfo) != v.client {
					return errClient
				}
				return nil
			},
		},
	}
	stopConsole, err := console.Listen(v.opts.Dir, v.consoleRoutes())
	if err != nil {
		return err
	}
	v.opts.Log.Info("vault serves", "address", l.Addr().String())
	err = serve.Until(ctx, s, shutdownWait, func() error { return s.ServeTLS(l, "", "") }, stopConsole)
	if ctx.Err() != nil {
		v.opts.Log.Info("vault stops")
	}
	return err
}

func (v *Vault) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc(api.PathOpen, v.open)
	mux.HandleFunc(api.PathUnblock, v.unblock)
	mux.HandleFunc(api.PathOutcomes, v.outcomes)
	mux.HandleFunc(api.PathClaims, v.claims)
	mux.HandleFunc(api.PathPlaces, v.places)
	mux.HandleFunc(api.PathLevel, v.level)
	mux.HandleFunc(api.PathLive, func(w http.ResponseWriter, _ *http.Request) {
		reply.Bytes(w, http.StatusOK, api.MediaText, []byte("ok\n"))
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		reply.Problem(w, http.StatusNotFound, api.CodeNotFound, "there is nothing here", 0)
	})
	return mux
}

// message reads the body of a POST; false: it was refused.
func message[M interface {
	api.OpenRequest | api.UnblockOrder | api.OutcomesRequest | api.LevelRequest | api.ClaimsRequest | api.PlacesRequest
	Check() error
}](w http.ResponseWriter, q *http.Request) (m M, ok bool) {
	if q.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		reply.Problem(w, http.StatusMethodNotAllowed, api.CodeMethod, "use POST", 0)
		return m, false
	}
	if !api.IsMedia(q.Header.Get("Content-Type"), api.MediaJSON) {
		reply.Problem(w, http.StatusUnsupportedMediaType, api.CodeMedia, "send "+api.MediaJSON, 0)
		return m, false
	}
	m, err := api.Decode[M](http.MaxBytesReader(w, q.Body, api.MaxBody+1))
	switch {
	case errors.Is(err, api.ErrSize):
		reply.Problem(w, http.StatusRequestEntityTooLarge, api.CodeTooLarge, "too large for a record", 0)
	case err != nil:
		reply.Problem(w, http.StatusBadRequest, api.CodeBadRequest, "the body is not what is asked here", 0)
	}
	return m, err == nil
}

func (v *Vault) open(w http.ResponseWriter, q *http.Request) {
	request, ok := message[api.OpenRequest](w, q)
	if !ok {
		return
	}
	verdict, err := v.Judge(q.Context(), request.Record)
	switch {
	case errors.Is(err, ErrNoRecord):
		v.opts.Log.Warn("no record", "error", err)
		reply.Problem(w, http.StatusBadRequest, api.CodeBadRequest, "not a record with an identity for this authority", 0)
	case errors.Is(err, ErrBehind):
		behind(w)
	case errors.Is(err, ErrUnknownPolicy):
		v.metrics.errors.WithLabelValues(api.PathOpen).Inc()
		v.opts.Log.Error("record under an unknown policy", "error", err)
		reply.Problem(w, http.StatusServiceUnavailable, api.CodeUnavailable, "the record's policy is not known here yet", retryAfter)
	case err != nil:
		v.metrics.errors.WithLabelValues(api.PathOpen).Inc()
		v.opts.Log.Error("no verdict", "error", err)
		reply.Problem(w, http.StatusServiceUnavailable, api.CodeUnavailable, "ask again", retryAfter)
	default:
		w.Header().Set("Cache-Control", "no-store")
		reply.JSON(w, api.OpenResult{Verdict: string(verdict)})
	}
}

func (v *Vault) unblock(w http.ResponseWriter, q *http.Request) {
	order, ok := message[api.UnblockOrder](w, q)
	if !ok {
		return
	}
	answer, err := v.Unblock(q.Context(), order)
	var refused *chain.Refusal
	switch {
	case errors.As(err, &refused):
		v.metrics.unblocks.WithLabelValues(refused.Code).Inc()
		v.opts.Log.Warn("token not unblocked", "code", refused.Code, "error", err)
		reply.Problem(w, http.StatusForbidden, refused.Code, "the token is not unblocked", 0)
	case errors.Is(err, ErrNoRequest):
		v.opts.Log.Warn("no request to unblock", "error", err)
		reply.Problem(w, http.StatusBadRequest, api.CodeBadRequest, "not a request to unblock a token with its holder's record", 0)
	case errors.Is(err, ErrBehind):
		behind(w)
	case err != nil:
		v.metrics.errors.WithLabelValues(api.PathUnblock).Inc()
		v.opts.Log.Error("token not unblocked", "error", err)
		reply.Problem(w, http.StatusServiceUnavailable, api.CodeUnavailable, "ask again", retryAfter)
	default:
		v.metrics.unblocks.WithLabelValues("").Inc()
		w.Header().Set("Cache-Control", "no-store")
		reply.JSON(w, api.UnblockResult{Answer: string(answer)})
	}
}

func (v *Vault) outcomes(w http.ResponseWriter, q *http.Request) {
	asked, ok := message[api.OutcomesRequest](w, q)
	if !ok {
		return
	}
	out, err := v.Outcomes(asked.After)
	if errors.Is(err, ErrBehind) {
		behind(w)
		return
	}
	if err != nil {
		v.metrics.errors.WithLabelValues(api.PathOutcomes).Inc()
		v.opts.Log.Error("outcomes not read", "error", err)
		reply.Problem(w, http.StatusServiceUnavailable, api.CodeUnavailable, "ask again", retryAfter)
		return
	}
	w.Header().Set("Cache-Control", "no-store")
	reply.JSON(w, out)
}

// level takes a policy, or verdicts.
func (v *Vault) level(w http.ResponseWriter, q *http.Request) {
	out, err := api.LevelResult{Missing: []api.ID{}}, error(nil)
	if q.Method == http.MethodPost && api.IsMedia(q.Header.Get("Content-Type"), api.MediaJOSE) {
		var signed []byte
		if signed, err = io.ReadAll(http.MaxBytesReader(w, q.Body, policy.MaxSize)); err != nil {
			reply.Problem(w, http.StatusRequestEntityTooLarge, api.CodeTooLarge, "too large for a policy", 0)
			return
		}
		err = v.LearnPolicy(signed)
	} else {
		shown, ok := message[api.LevelRequest](w, q)
		if !ok {
			return
		}
		out, err = v.Level(q.Context(), shown)
	}
	switch {
	case errors.Is(err, ErrLevel), errors.Is(err, ErrNoRecord):
		v.opts.Log.Warn("nothing to learn", "error", err)
		reply.Problem(w, http.StatusBadRequest, api.CodeBadRequest, "nothing that a vault that is behind can learn, or it is not", 0)
	case err != nil:
		v.metrics.errors.WithLabelValues(api.PathLevel).Inc()
		v.opts.Log.Error("vault not brought level", "error", err)
		reply.Problem(w, http.StatusServiceUnavailable, api.CodeUnavailable, "show it again", retryAfter)
	default:
		w.Header().Set("Cache-Control", "no-store")
		reply.JSON(w, out)
	}
}

func behind(w http.ResponseWriter) {
	reply.Problem(w, http.StatusServiceUnavailable, api.CodeBehind, "show what was judged since the backup", retryAfter)
}
