package registry

import (
	"context"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"enrollkiosk/registry/internal/scrape"
)

// metrics are the registry's numbers, for Prometheus. docs/metrics.md lists them.
// None has a person, a record or a kiosk in its labels: labels are routes, codes
// and names that the program knows beforehand.
type metrics struct {
	all      *prometheus.Registry
	records  *prometheus.CounterVec   // verdict, code
	requests *prometheus.HistogramVec // route, method, status
	refused  prometheus.Counter
	failures prometheus.Counter
	server   atomic.Pointer[limited]
}

func newMetrics(r *Registry) *metrics {
	m := &metrics{
		all: prometheus.NewRegistry(),
		records: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "registry_records_total",
			Help: "Records that kiosks sent, by what became of them: pending, accepted (sent again), rejected or retry, and why."}, []string{"verdict", "code"}),
		requests: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "registry_request_duration_seconds",
			Help: "Time to answer a request, from its headers to the last byte.", Buckets: []float64{.005, .02, .1, .5, 2, 10, 60}}, []string{"route", "method", "status"}),
		refused: prometheus.NewCounter(prometheus.CounterOpts{Name: "registry_connections_refused_total",
			Help: "Connections closed at once because their address had too many."}),
		failures: prometheus.NewCounter(prometheus.CounterOpts{Name: "registry_store_failures_total",
			Help: "Records that could not be looked at or kept, and are sent again."}),
	}
	m.all.MustRegister(m.records, m.requests, m.refused, m.failures, collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), state{r, m})
	return m
}

// state is what is looked up when somebody asks.
type state struct {
	r *Registry
	m *metrics
}

var (
	descConnections = prometheus.NewDesc("registry_connections", "Open connections.", nil, nil)
	descWaiting     = prometheus.NewDesc("registry_waiting_records", "Records that wait for the log or the vault.", []string{"for"}, nil)
	descOldest      = prometheus.NewDesc("registry_waiting_oldest_seconds", "Since when the oldest of them waits; 0 if none does.", []string{"for"}, nil)
	descLog         = prometheus.NewDesc("registry_log_leaves", "Leaves of the log up to which all is accounted for.", nil, nil)
	descFailing     = prometheus.NewDesc("registry_failing", "1 while the log, the vault or the store does not work.", []string{"what"}, nil)
	descLeads       = prometheus.NewDesc("registry_leads", "1 while this process has a role.", []string{"role"}, nil)
	descPolicy      = prometheus.NewDesc("registry_policy_expires_timestamp_seconds", "When the policy in force expires.", nil, nil)
	descCertificate = prometheus.NewDesc("registry_certificate_expires_timestamp_seconds", "When a certificate of the registry expires.", []string{"name"}, nil)
)

func (state) Describe(c chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descConnections, descWaiting, descOldest, descLog, descFailing, descLeads, descPolicy, descCertificate} {
		c <- d
	}
}

func (s state) Collect(c chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		c <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	flag := func(b bool) float64 {
		if b {
			return 1
		}
		return 0
	}
	ctx, cancel := context.WithTimeout(context.Background(), scrape.Timeout)
	defer cancel()
	now := s.r.opts.Now()
	waiting, err := s.r.store.Backlog(ctx)
	scanned, err2 := s.r.store.Scanned(ctx)
	failed := errors.Join(err, err2) != nil
	gauge(descFailing, flag(failed), "store")
	gauge(descFailing, flag(s.r.logging.failing.Load()), "log")
	gauge(descFailing, flag(s.r.vault.failing.Load()), "vault")
	gauge(descLeads, flag(s.r.logging.leads.Load()), string(RoleLog))
	gauge(descLeads, flag(s.r.vault.leads.Load()), string(RoleVault))
	if !failed {
		for name, q := range map[string]queueDepth{"log": waiting.unlogged, "vault": waiting.unopened} {
			gauge(descWaiting, float64(q.count), name)
			age := 0.0
			if !q.oldest.IsZero() {
				age = max(0, now.Sub(q.oldest).Seconds())
			}
			gauge(descOldest, age, name)
		}
		gauge(descLog, float64(scanned))
	}
	if l := s.m.server.Load(); l != nil {
		gauge(descConnections, float64(l.open()))
	}
	gauge(descPolicy, float64(s.r.opts.Policy.Policy().Expires.Unix()))
	for name, cert := range s.r.certificates() {
		gauge(descCertificate, float64(cert.NotAfter.Unix()), name)
	}
}

// certificates are those of the registry that end some day.
func (r *Registry) certificates() map[string]*x509.Certificate {
	out := map[string]*x509.Certificate{nameServer: r.server.Leaf, nameVault: r.client.Leaf}
	for _, root := range r.opts.Policy.Policy().KioskCA {
		if c, err := x509.ParseCertificate(root.Certificate); err == nil {
			out[nameKioskCA] = c
		}
	}
	return out
}

// ServeMetrics answers Prometheus at /metrics until ctx ends.
func (r *Registry) ServeMetrics(ctx context.Context, l net.Listener) error {
	return scrape.Serve(ctx, l, r.metrics.all)
}

// measured counts and times what a route answers.
func (m *metrics) measured(route, method string, serve http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, q *http.Request) {
		begin := time.Now()
		noted := &noted{ResponseWriter: w, status: http.StatusOK}
		defer func() {
			m.requests.WithLabelValues(route, method, strconv.Itoa(noted.status)).Observe(time.Since(begin).Seconds())
		}()
		serve(noted, q)
	}
}

// noted remembers the status of an answer.
type noted struct {
	http.ResponseWriter
	status int
}

func (n *noted) WriteHeader(status int) {
	n.status = status
	n.ResponseWriter.WriteHeader(status)
}

func (n *noted) Unwrap() http.ResponseWriter { return n.ResponseWriter }
