package witness

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"enrollkiosk/registry/checkpoint"
	"enrollkiosk/registry/internal/serve"
)

// Limits of the server. A request is one old size, 63 hashes at most, and a
// checkpoint.
const (
	maxBody      = 24 << 10
	maxProof     = 63
	maxRequests  = 32 // at once; more are asked to come again
	readTimeout  = 10 * time.Second
	writeTimeout = 20 * time.Second
	idleTimeout  = 2 * time.Minute
	shutdownWait = 5 * time.Second
)

// mediaSize is the media type of the answer to a stale old size.
const mediaSize = "text/x.tlog.size"

// request is the body of add-checkpoint.
type request struct {
	old        uint64
	proof      [][]byte
	origin     string // as the checkpoint says: unverified
	checkpoint []byte
}

// parse reads a request, strictly. Errors wrap errForm.
func parse(body []byte) (q request, err error) {
	head, rest, found := bytes.Cut(body, []byte("\n\n"))
	lines := strings.Split(string(head), "\n")
	size, old := strings.CutPrefix(lines[0], "old ")
	if q.old, err = strconv.ParseUint(size, 10, 64); err != nil || !old || !found || strconv.FormatUint(q.old, 10) != size {
		return q, fmt.Errorf("%w: the old size", errForm)
	}
	if len(lines)-1 > maxProof {
		return q, fmt.Errorf("%w: %d hashes", errForm, len(lines)-1)
	}
	for _, line := range lines[1:] {
		h, err := base64.StdEncoding.Strict().DecodeString(line)
		if err != nil || len(h) != 32 || strings.ContainsAny(line, "\r") {
			return q, fmt.Errorf("%w: a hash", errForm)
		}
		q.proof = append(q.proof, h)
	}
	q.checkpoint = rest
	origin, _, _ := bytes.Cut(rest, []byte("\n"))
	q.origin = string(origin)
	return q, nil
}

// Handler answers POST /add-checkpoint.
func (w *Witness) Handler() http.Handler {
	slots := make(chan struct{}, maxRequests)
	mux := http.NewServeMux()
	mux.HandleFunc("POST /add-checkpoint", func(out http.ResponseWriter, in *http.Request) {
		select {
		case slots <- struct{}{}:
			defer func() { <-slots }()
		default:
			http.Error(out, "busy: send again", http.StatusServiceUnavailable)
			return
		}
		w.add(out, in)
	})
	return mux
}

func (w *Witness) add(out http.ResponseWriter, in *http.Request) {
	out.Header().Set("Cache-Control", "no-store")
	body, err := io.ReadAll(http.MaxBytesReader(out, in.Body, maxBody))
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		http.Error(out, "the request is too large", http.StatusRequestEntityTooLarge)
		return
	}
	if err != nil {
		http.Error(out, "the request did not arrive", http.StatusBadRequest)
		return
	}
	q, err := parse(body)
	var line []byte
	if err == nil {
		line, err = w.cosign(q)
	}
	var grown stale
	switch {
	case err == nil:
		out.Header().Set("Content-Type", "text/plain; charset=utf-8")
		out.Write(line)
	case errors.As(err, &grown):
		out.Header().Set("Content-Type", mediaSize)
		out.WriteHeader(http.StatusConflict)
		fmt.Fprintf(out, "%d\n", grown.size)
	default:
		status, why := refusal(err)
		w.log.Warn("a checkpoint is not cosigned", "log", clip(q.origin), "old", q.old, "status", status, "cause", err)
		http.Error(out, why.Error(), status)
	}
}

// refusal is how the protocol says an error, and which part of it the sender may
// know.
func refusal(err error) (int, error) {
	for _, r := range []struct {
		is     error
		status int
	}{
		{errUnknown, http.StatusNotFound},
		{checkpoint.ErrSignature, http.StatusForbidden},
		{checkpoint.ErrForm, http.StatusBadRequest},
		{errForm, http.StatusBadRequest},
		{errOther, http.StatusConflict},
		{errProof, http.StatusUnprocessableEntity},
	} {
		if errors.Is(err, r.is) {
			return r.status, r.is
		}
	}
	return http.StatusServiceUnavailable, errors.New("the witness cannot keep what it sees: send again")
}

// clip bounds what strangers write into the log.
func clip(s string) string { return s[:min(len(s), 100)] }

// Serve answers on l until ctx ends; with a TLS configuration, over TLS.
func (w *Witness) Serve(ctx context.Context, l net.Listener, config *tls.Config) error {
	if config != nil {
		l = tls.NewListener(l, config)
	}
	s := &http.Server{Handler: w.Handler(), ReadHeaderTimeout: readTimeout / 2, ReadTimeout: readTimeout, WriteTimeout: writeTimeout,
		IdleTimeout: idleTimeout, MaxHeaderBytes: 8 << 10, ErrorLog: log.New(io.Discard, "", 0)}
	return serve.Until(ctx, s, shutdownWait, func() error { return s.Serve(l) }, nil)
}
