package vault

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"enrollkiosk/registry/internal/scrape"
)

// metrics are the vault's numbers, for Prometheus. docs/metrics.md lists them. None
// has a person, a record, an officer or a kiosk in its labels: labels are codes and
// names that the program knows beforehand.
type metrics struct {
	all        *prometheus.Registry
	judged     *prometheus.CounterVec // status, code
	duplicates *prometheus.CounterVec // kind
	unblocks   *prometheus.CounterVec // code
	errors     *prometheus.CounterVec // what
	lost       prometheus.Counter
	reviews    atomic.Int64 // open
}

// What duplicates are about.
const (
	sameDocument = "document"
	sameName     = "name"
)

func newMetrics(v *Vault) *metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	m := &metrics{
		all:        prometheus.NewRegistry(),
		judged:     counter("vault_judged_total", "First verdicts, by what they say and why.", "status", "code"),
		duplicates: counter("vault_duplicates_total", "Records whose document, or whose name and date of birth, another enrollment has.", "same"),
		unblocks:   counter("vault_unblocks_total", "Requests to unblock a token, by the code of the refusal; answered ones have none.", "code"),
		errors:     counter("vault_errors_total", "Questions that got no answer and may be asked again.", "route"),
		lost: prometheus.NewCounter(prometheus.CounterOpts{Name: "vault_persons_lost_total",
			Help: "Verdicts whose persons could not be learnt again after the vault was put back."}),
	}
	m.all.MustRegister(m.judged, m.duplicates, m.unblocks, m.errors, m.lost, collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), state{v, m})
	return m
}

// state is what is looked up when somebody asks.
type state struct {
	v *Vault
	m *metrics
}

var (
	descReviews     = prometheus.NewDesc("vault_reviews_open", "Reviews that wait for a person's decision.", nil, nil)
	descStore       = prometheus.NewDesc("vault_store_bytes", "Size of the store's file.", nil, nil)
	descBehind      = prometheus.NewDesc("vault_behind", "1 while the vault, put back from a backup, waits to be shown what it has judged since.", nil, nil)
	descPolicy      = prometheus.NewDesc("vault_policy_expires_timestamp_seconds", "When the policy in force expires.", nil, nil)
	descCertificate = prometheus.NewDesc("vault_certificate_expires_timestamp_seconds", "When the vault's TLS certificate expires.", nil, nil)
)

func (state) Describe(c chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descReviews, descStore, descBehind, descPolicy, descCertificate} {
		c <- d
	}
}

func (s state) Collect(c chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64) { c <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v) }
	gauge(descReviews, float64(s.m.reviews.Load()))
	if info, err := os.Stat(filepath.Join(s.v.opts.Dir, fileStore)); err == nil {
		gauge(descStore, float64(info.Size()))
	}
	if since, err := s.v.Behind(); err == nil {
		behind := 0.0
		if !since.IsZero() {
			behind = 1
		}
		gauge(descBehind, behind)
	}
	gauge(descPolicy, float64(s.v.opts.Policy.Policy().Expires.Unix()))
	if s.v.server.Leaf != nil {
		gauge(descCertificate, float64(s.v.server.Leaf.NotAfter.Unix()))
	}
}

// noteVerdict counts a first verdict.
func (m *metrics) noteVerdict(status string, o outcome) {
	m.judged.WithLabelValues(status, o.code).Inc()
	if o.other != "" {
		same := sameName
		if o.code != "" {
			same = sameDocument
		}
		m.duplicates.WithLabelValues(same).Inc()
	}
	if o.other != "" || o.officer != "" {
		m.reviews.Add(1)
	}
}

// ServeMetrics answers Prometheus at /metrics until ctx ends.
func (v *Vault) ServeMetrics(ctx context.Context, l net.Listener) error {
	return scrape.Serve(ctx, l, v.metrics.all)
}
