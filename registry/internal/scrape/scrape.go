// Package scrape answers Prometheus.
package scrape

import (
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Timeout is for looking everything up.
const Timeout = 10 * time.Second

const (
	headerTimeout = 5 * time.Second
	idle          = time.Minute
	maxAtOnce     = 2
	maxHeader     = 8 << 10
)

// Serve answers Prometheus at /metrics until ctx ends. The listener is one of its
// own, for the operators' network: what it says is no secret, and no business of
// anybody else.
func Serve(ctx context.Context, l net.Listener, all prometheus.Gatherer) error {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(all, promhttp.HandlerOpts{MaxRequestsInFlight: maxAtOnce, Timeout: Timeout}))
	s := &http.Server{Handler: mux, ReadHeaderTimeout: headerTimeout, ReadTimeout: headerTimeout, WriteTimeout: 2 * Timeout, IdleTimeout: idle,
		MaxHeaderBytes: maxHeader, ErrorLog: log.New(io.Discard, "", 0)}
	stop := context.AfterFunc(ctx, func() { s.Close() })
	defer stop()
	if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
