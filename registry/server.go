package registry

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"

	"github.com/transparency-dev/tessera/api/layout"

	"enrollkiosk/registry/api"
	"enrollkiosk/registry/internal/console"
	"enrollkiosk/registry/internal/reply"
	"enrollkiosk/registry/internal/serve"
	"enrollkiosk/registry/receipt"
)

// silent is the log of an HTTP server: peers that hang up are no news.
var silent = log.New(io.Discard, "", 0)

// Serve answers on l until ctx ends, and runs the roles behind. It returns nil
// after an orderly end.
func (r *Registry) Serve(ctx context.Context, l net.Listener) error {
	kiosks := x509.NewCertPool()
	for _, root := range r.opts.Policy.Policy().KioskCA {
		c, err := x509.ParseCertificate(root.Certificate)
		if err != nil {
			return err
		}
		kiosks.AddCert(c)
	}
	s := &http.Server{
		Handler:           r.handler(),
		ReadHeaderTimeout: r.limits.header, ReadTimeout: r.limits.read, WriteTimeout: r.limits.write, IdleTimeout: r.limits.idle,
		MaxHeaderBytes: maxHeader, ErrorLog: silent, HTTP2: &http.HTTP2Config{MaxConcurrentStreams: maxStreams},
		TLSConfig: &tls.Config{
			MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{r.server}, Time: r.opts.Now,
			// Policy, time and log are public; records ask for the certificate.
			ClientAuth: tls.VerifyClientCertIfGiven, ClientCAs: kiosks,
		},
	}
	stopConsole, err := console.Listen(r.opts.Dir, r.consoleRoutes())
	if err != nil {
		return err
	}
	roles, stop := context.WithCancel(context.WithoutCancel(ctx))
	var running sync.WaitGroup
	running.Go(func() { r.lead(roles, RoleLog, r.logging, r.runLog) })
	running.Go(func() { r.lead(roles, RoleVault, r.vault.leading, r.vault.run) })
	running.Go(func() { r.runCancellations(roles) })
	defer r.vault.client.CloseIdleConnections()
	defer running.Wait()
	defer stop()

	bounded := r.limit(l)
	r.metrics.server.Store(bounded)
	r.opts.Log.Info("registry serves", "address", l.Addr().String(), "origin", r.origin)
	err = serve.Until(ctx, s, shutdownWait, func() error { return s.ServeTLS(bounded, "", "") }, stopConsole)
	if ctx.Err() == nil {
		return err
	}
	if err != nil {
		r.opts.Log.Warn("a command was cut off", "error", err)
	}
	r.opts.Log.Info("registry stops")
	return nil
}

// route is a path of http.ServeMux with its one method.
type route struct {
	path, method string
	serve        http.HandlerFunc
}

// routes are those of docs/openapi.yaml.
func (r *Registry) routes() []route {
	posts := &turns{all: r.limits.posts, each: r.limits.postsPerKiosk}
	provisions, unblocks := r.provisions, make(chan struct{}, maxUnblocks)
	return []route{
		{api.PathRecords, http.MethodPost, func(w http.ResponseWriter, q *http.Request) { r.postRecords(w, q, posts) }},
		{api.PathStatus, http.MethodPost, r.postStatus},
		{api.PathRecords + "/{id}", http.MethodGet, r.getRecord},
		{api.PathReceipts, http.MethodPost, r.postReceipt},
		{api.PathProvisionBegin, http.MethodPost, r.provisionBegin(provisions)},
		{api.PathProvisionProve, http.MethodPost, r.provisionProve(provisions)},
		{api.PathProvision + "/{session}", http.MethodGet, r.provisionStatus(provisions)},
		{api.PathActivity, http.MethodPost, r.postActivity},
		{api.PathRenewal, http.MethodPost, r.postRenewal},
		{api.PathTokenUnblock, http.MethodPost, func(w http.ResponseWriter, q *http.Request) { r.postUnblock(w, q, unblocks) }},
		{api.PathCancellations, http.MethodPost, r.postCancellation},
		{api.PathPolicy, http.MethodGet, r.getPolicy},
		{api.PathTime, http.MethodGet, r.getTime},
		{api.PathLog + "{path...}", http.MethodGet, r.getLog},
		{api.PathLive, http.MethodGet, func(w http.ResponseWriter, _ *http.Request) { writeText(w, "ok\n") }},
		{api.PathReady, http.MethodGet, r.getReady},
	}
}

func (r *Registry) handler() http.Handler {
	mux := http.NewServeMux()
	for _, route := range r.routes() {
		mux.HandleFunc(route.path, r.metrics.measured(route.path, route.method, func(w http.ResponseWriter, q *http.Request) {
			w.Header().Set("Cache-Control", "no-store")
			w.Header().Set("X-Content-Type-Options", "nosniff")
			if q.Method != route.method && !(route.method == http.MethodGet && q.Method == http.MethodHead) {
				w.Header().Set("Allow", route.method)
				reply.Problem(w, http.StatusMethodNotAllowed, api.CodeMethod, "use "+route.method, 0)
				return
			}
			route.serve(w, q)
		}))
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		reply.Problem(w, http.StatusNotFound, api.CodeNotFound, "there is nothing here", 0)
	})
	return mux
}

// known is the kiosk that a request comes from: the one that its TLS certificate
// names, if that is the certificate's key that is registered.
func (r *Registry) known(q *http.Request) (Kiosk, bool) {
	if q.TLS == nil || len(q.TLS.PeerCertificates) == 0 {
		return Kiosk{}, false
	}
	leaf := q.TLS.PeerCertificates[0]
	k, err := r.kiosks.Find(q.Context(), leaf.Subject.CommonName)
	if err != nil {
		r.opts.Log.Warn("unknown kiosk", "kiosk", leaf.Subject.CommonName, "error", err)
		return Kiosk{}, false
	}
	if !bytes.Equal(k.TLSKey, leaf.RawSubjectPublicKeyInfo) {
		r.opts.Log.Warn("kiosk without standing", "kiosk", k.ID)
		return Kiosk{}, false
	}
	r.contact(q.Context(), k.ID)
	return k, true
}

// sender is known, in good standing: nobody has revoked it.
func (r *Registry) sender(q *http.Request) (Kiosk, bool) {
	k, ok := r.known(q)
	if ok && k.Revoked != nil {
		r.opts.Log.Warn("kiosk without standing", "kiosk", k.ID)
		return Kiosk{}, false
	}
	return k, ok
}

// asked reads what a registered kiosk asks for, signed. When ok is false the answer
// is given.
func (r *Registry) asked(w http.ResponseWriter, q *http.Request, media string, limit int64) (sender Kiosk, b []byte, ok bool) {
	if sender, ok = r.sender(q); !ok {
		reply.Problem(w, http.StatusForbidden, api.CodeNoKiosk, "only a registered kiosk may ask", 0)
		return sender, nil, false
	}
	if !api.IsMedia(q.Header.Get("Content-Type"), media) {
		reply.Problem(w, http.StatusUnsupportedMediaType, api.CodeMedia, "send "+media, 0)
		return sender, nil, false
	}
	b, err := io.ReadAll(http.MaxBytesReader(w, q.Body, limit))
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		reply.Problem(w, http.StatusRequestEntityTooLarge, api.CodeTooLarge, "the request is too large", 0)
	case err != nil:
		reply.Problem(w, http.StatusBadRequest, api.CodeBadRequest, "the body did not arrive", 0)
	}
	return sender, b, err == nil
}

// postRecords takes a batch, from a revoked kiosk too: it is told, signed and for
// each of its records, that they come too late.
func (r *Registry) postRecords(w http.ResponseWriter, q *http.Request, posts *turns) {
	sender, ok := r.known(q)
	if !ok {
		reply.Problem(w, http.StatusForbidden, api.CodeNoKiosk, "only a registered kiosk may send records", 0)
		return
	}
	if !api.IsMedia(q.Header.Get("Content-Type"), api.MediaJSON) {
		reply.Problem(w, http.StatusUnsupportedMediaType, api.CodeMedia, "send "+api.MediaJSON, 0)
		return
	}
	body, ok := decoded(w, q)
	if !ok {
		w.Header().Set("Accept-Encoding", api.Gzip)
		reply.Problem(w, http.StatusUnsupportedMediaType, api.CodeMedia, "send it as it is, or with gzip", 0)
		return
	}
	batch, err := api.Decode[api.Batch](body)
	switch {
	case errors.Is(err, api.ErrSize):
		reply.Problem(w, http.StatusRequestEntityTooLarge, api.CodeTooLarge, "the batch is too large: send half of it", 0)
		return
	case errors.Is(err, api.ErrForm):
		reply.Problem(w, http.StatusBadRequest, api.CodeBadRequest, "the body is no batch of records", 0)
		return
	case err != nil: // the sender is slow or has gone
		reply.Problem(w, http.StatusBadRequest, api.CodeBadRequest, "the body did not arrive", 0)
		return
	}
	release, own := posts.take(sender.ID)
	switch {
	case own: // one kiosk does not keep the others from being heard
		reply.Problem(w, http.StatusTooManyRequests, api.CodeTooMany, "this kiosk sends too much at once: send again", retryAfter)
		return
	case release == nil:
		reply.Problem(w, http.StatusServiceUnavailable, api.CodeUnavailable, "busy: send again", retryAfter)
		return
	}
	defer release()
	result := api.BatchResult{Verdicts: r.takeBatch(q.Context(), batch, sender)}
	signed, err := r.signedTime(q.Context())
	if err != nil {
		r.opts.Log.Error("time not signed", "error", err)
	}
	result.Time = signed // left out when empty
	result.Policy = r.opts.Policy.Digest()
	reply.JSON(w, result)
}

// takeBatch decides every item of a batch, however it came here.
func (r *Registry) takeBatch(ctx context.Context, batch api.Batch, sender Kiosk) (out []api.ItemVerdict) {
	for _, t := range r.take(ctx, batch.Items, sender) {
		v := t.verdict
		if t.err != nil {
			r.opts.Log.Error("record not taken on", "record", v.ID, "error", t.err)
			r.metrics.failures.Inc()
			v = api.ItemVerdict{ID: v.ID, Status: api.Retry, Code: api.CodeUnavailable, RetryAfter: retryAfter}
			switch {
			case errors.Is(t.err, errUnknownPolicy):
				v.Code = api.CodeUnknownPolicy
			case errors.Is(t.err, errRevoked):
				v.Code, v.RetryAfter = api.CodeNoKiosk, revokedAfter
			}
		}
		r.metrics.records.WithLabelValues(string(v.Status), v.Code).Inc()
		out = append(out, v)
	}
	return out
}

// decoded is a request's body without its content coding, which nothing but gzip
// may be. A body that is not what it says fails when it is read, with ErrForm.
func decoded(w http.ResponseWriter, q *http.Request) (io.Reader, bool) {
	body := http.MaxBytesReader(w, q.Body, api.MaxBody+1)
	switch q.Header.Get("Content-Encoding") {
	case "":
		return body, true
	case api.Gzip:
		return &inflated{from: body}, true
	}
	return nil, false
}

// inflated reads gzip of which every fault but the connection's is ErrForm.
type inflated struct {
	from io.Reader
	gzip *gzip.Reader
}

func (r *inflated) Read(b []byte) (n int, err error) {
	if r.gzip == nil {
		r.gzip, err = gzip.NewReader(r.from)
	}
	if err == nil {
		n, err = r.gzip.Read(b)
	}
	var corrupt flate.CorruptInputError
	if errors.Is(err, gzip.ErrHeader) || errors.Is(err, gzip.ErrChecksum) || errors.As(err, &corrupt) {
		err = fmt.Errorf("%w: %w", api.ErrForm, err)
	}
	return n, err
}

// postStatus tells of many records what getRecord tells of one.
func (r *Registry) postStatus(w http.ResponseWriter, q *http.Request) {
	sender, ok := r.sender(q)
	if !ok {
		reply.Problem(w, http.StatusForbidden, api.CodeNoKiosk, "only a registered kiosk may ask for records", 0)
		return
	}
	if !api.IsMedia(q.Header.Get("Content-Type"), api.MediaJSON) {
		reply.Problem(w, http.StatusUnsupportedMediaType, api.CodeMedia, "send "+api.MediaJSON, 0)
		return
	}
	query, err := api.Decode[api.StatusQuery](http.MaxBytesReader(w, q.Body, api.MaxBody+1))
	if err != nil {
		reply.Problem(w, http.StatusBadRequest, api.CodeBadRequest, "the body is no list of record ids", 0)
		return
	}
	result, err := r.statuses(q.Context(), sender, query.IDs)
	if err != nil {
		r.opts.Log.Error("records not read", "error", err)
		reply.Problem(w, http.StatusServiceUnavailable, api.CodeUnavailable, "ask again", retryAfter)
		return
	}
	reply.JSON(w, result)
}

// statuses is what is known of records of sender's; what does not fit a message is
// left out.
func (r *Registry) statuses(ctx context.Context, sender Kiosk, asked []api.ID) (result api.StatusResult, err error) {
	ids := make([][32]byte, len(asked))
	for i, id := range asked {
		ids[i] = id
	}
	found, err := r.store.Status(ctx, sender.ID, ids...)
	if err != nil {
		return result, err
	}
	room := api.MaxBody - 64
	for _, id := range asked {
		answer := api.RecordStatus{ID: id, Status: api.Unknown}
		if known, held := found[id]; held {
			if answer, err = r.recordStatus(ctx, id, known); err != nil {
				return api.StatusResult{}, fmt.Errorf("sign standing of %s: %w", id, err)
			}
		}
		if room -= reply.Size(answer) + 1; room < 0 {
			break
		}
		result.Statuses = append(result.Statuses, answer)
	}
	return result, nil
}

func (r *Registry) recordStatus(ctx context.Context, id api.ID, known status) (answer api.RecordStatus, err error) {
	answer = api.RecordStatus{ID: id, Status: api.Pending, Receipt: string(known.receipt)}
	if d := known.decision; d.Status != "" {
		answer.Status, answer.Code, answer.Verdict = d.Status, d.Code, d.Verdict
	}
	answer.Standing, err = r.standing(ctx, id, known)
	return answer, err
}

func (r *Registry) getRecord(w http.ResponseWriter, q *http.Request) {
	sender, ok := r.sender(q)
	if !ok {
		reply.Problem(w, http.StatusForbidden, api.CodeNoKiosk, "only a registered kiosk may ask for records", 0)
		return
	}
	id, err := api.ParseID(q.PathValue("id"))
	if err != nil {
		reply.Problem(w, http.StatusBadRequest, api.CodeBadRequest, "no record id", 0)
		return
	}
	found, err := r.store.Status(q.Context(), sender.ID, id)
	if err != nil {
		r.opts.Log.Error("record not read", "record", id, "error", err)
		reply.Problem(w, http.StatusServiceUnavailable, api.CodeUnavailable, "ask again", retryAfter)
		return
	}
	known, held := found[id]
	if !held {
		reply.Problem(w, http.StatusNotFound, api.CodeNotFound, "no such record of this kiosk", 0)
		return
	}
	answer, err := r.recordStatus(q.Context(), id, known)
	if err != nil {
		r.opts.Log.Error("standing not signed", "record", id, "error", err)
		reply.Problem(w, http.StatusServiceUnavailable, api.CodeUnavailable, "ask again", retryAfter)
		return
	}
	reply.JSON(w, answer)
}

func (r *Registry) getPolicy(w http.ResponseWriter, _ *http.Request) {
	reply.Bytes(w, http.StatusOK, api.MediaJOSE, r.opts.Policy.Bytes())
}

func (r *Registry) signedTime(ctx context.Context) (string, error) {
	b, err := receipt.SignTime(ctx, receipt.Time{Audience: r.origin, Time: r.now()}, r.verdict)
	return string(b), err
}

func (r *Registry) getTime(w http.ResponseWriter, q *http.Request) {
	signed, err := r.signedTime(q.Context())
	if err != nil {
		r.opts.Log.Error("time not signed", "error", err)
		reply.Problem(w, http.StatusServiceUnavailable, api.CodeUnavailable, "ask again", retryAfter)
		return
	}
	reply.Bytes(w, http.StatusOK, api.MediaJOSE, []byte(signed))
}

func (r *Registry) getLog(w http.ResponseWriter, q *http.Request) {
	path := q.PathValue("path")
	if r.files.root == nil {
		reply.Problem(w, http.StatusServiceUnavailable, api.CodeUnavailable, "the log is served by another registry", retryAfter)
		return
	}
	b, err := r.files.read(path)
	switch {
	case errors.Is(err, os.ErrNotExist) && path != layout.CheckpointPath: // which there always is
		reply.Problem(w, http.StatusNotFound, api.CodeNotFound, "not in the log", 0)
	case err != nil:
		r.opts.Log.Error("log not read", "error", err)
		reply.Problem(w, http.StatusServiceUnavailable, api.CodeUnavailable, "ask again", retryAfter)
	case path == "checkpoint":
		reply.Bytes(w, http.StatusOK, api.MediaText, b)
	default:
		if !strings.Contains(path, ".p/") {
			w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
		}
		reply.Bytes(w, http.StatusOK, "application/octet-stream", b)
	}
}

// getReady says whether records are taken on and logged, and which roles this
// process has. The vault may be away.
func (r *Registry) getReady(w http.ResponseWriter, q *http.Request) {
	_, err := r.store.Unlogged(q.Context(), 1)
	switch {
	case err != nil || r.logging.failing.Load():
		reply.Problem(w, http.StatusServiceUnavailable, api.CodeUnavailable, "store or log does not work", retryAfter)
		return
	case r.opts.Policy.CheckTime(r.opts.Now()) != nil:
		reply.Problem(w, http.StatusServiceUnavailable, api.CodeUnavailable, "the policy is not in force", retryAfter)
		return
	}
	text := "ready\n"
	if r.vault.failing.Load() {
		text = "ready, but the vault does not answer\n"
	}
	if err := r.witnesses.short(); err != nil {
		text = "ready, but " + err.Error() + "\n"
	}
	for _, l := range []struct {
		role Role
		leading
	}{{RoleLog, r.logging}, {RoleVault, r.vault.leading}} {
		has := "another's"
		if !r.may(l.role) {
			has = "never here"
		} else if l.leads.Load() {
			has = "here"
		}
		text += string(l.role) + ": " + has + "\n"
	}
	writeText(w, text)
}

func jsonReader(v any) (io.Reader, error) {
	b, err := json.Marshal(v)
	return bytes.NewReader(b), err
}

func writeText(w http.ResponseWriter, text string) {
	reply.Bytes(w, http.StatusOK, api.MediaText, []byte(text))
}
