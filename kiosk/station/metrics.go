package station

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"enrollkiosk/kiosk"
	"enrollkiosk/sync/courier"
	"enrollkiosk/sync/queue"
)

// metricsInterval is how often the file is written.
const metricsInterval = 30 * time.Second

// metrics are the kiosk's numbers for Prometheus, in a file for node_exporter's
// textfile collector: a kiosk has no listener. docs/metrics.md lists them. None has a
// person, an officer or a record in it: labels are devices and codes that the
// program knows beforehand.
type metrics struct {
	station *Station
	file    string
	all     *prometheus.Registry
	faults  *prometheus.CounterVec // code

	mu     sync.Mutex
	health kiosk.Health
}

var (
	descWaiting     = prometheus.NewDesc("kiosk_waiting_records", "Records that wait for the registry.", nil, nil)
	descOldest      = prometheus.NewDesc("kiosk_waiting_oldest_seconds", "Since when the oldest of them waits; 0 if none does.", nil, nil)
	descQuarantined = prometheus.NewDesc("kiosk_quarantined_records", "Records set aside.", nil, nil)
	descDelivered   = prometheus.NewDesc("kiosk_delivered_records_total", "Records whose receipt was stored here.", nil, nil)
	descDelivery    = prometheus.NewDesc("kiosk_last_delivery_timestamp_seconds", "When the last receipt was stored; 0 if none was.", nil, nil)
	descReached     = prometheus.NewDesc("kiosk_registry_reached", "1 when the last attempt reached the registry.", nil, nil)
	descStopped     = prometheus.NewDesc("kiosk_delivery_stopped", "1 while somebody has to act before anything can be delivered.", nil, nil)
	descHeard       = prometheus.NewDesc("kiosk_registry_time_timestamp_seconds", "The last time that the registry has signed; 0 if none was heard.", nil, nil)
	descPolicy      = prometheus.NewDesc("kiosk_policy_expires_timestamp_seconds", "When the policy in force expires; 0 if there is none.", nil, nil)
	descCertificate = prometheus.NewDesc("kiosk_certificate_expires_timestamp_seconds", "When the first of this kiosk's certificates expires.", nil, nil)
	descLog         = prometheus.NewDesc("kiosk_log_alarm", "1 while there is evidence against the registry's public log.", nil, nil)
	descDevice      = prometheus.NewDesc("kiosk_device_present", "1 while a device is there: a reader, with or without a card, or a TPM that answers.", []string{"device"}, nil)
)

func newMetrics(s *Station, file string) *metrics {
	m := &metrics{station: s, file: file, all: prometheus.NewRegistry(), faults: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "kiosk_faults_total",
		Help: "Faults that people were shown since the agent's start, by their code."}, []string{"code"})}
	for _, c := range kiosk.Codes() {
		m.faults.WithLabelValues(string(c)) // 0 is news, too
	}
	m.all.MustRegister(m.faults, m)
	return m
}

// faulted is kiosk.Config.Faulted.
func (m *metrics) faulted(c kiosk.Code) { m.faults.WithLabelValues(string(c)).Inc() }

// Describe is prometheus.Collector's.
func (m *metrics) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descWaiting, descOldest, descQuarantined, descDelivered, descDelivery, descReached, descStopped, descHeard,
		descPolicy, descCertificate, descLog, descDevice} {
		to <- d
	}
}

// Collect is prometheus.Collector's: the machine as it is now.
func (m *metrics) Collect(to chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	m.mu.Lock()
	h := m.health
	m.mu.Unlock()
	s := m.station
	ctx, cancel := context.WithTimeout(context.Background(), metricsInterval)
	defer cancel()
	delivery, err := s.delivery(ctx)
	var last []queue.Entry
	if err == nil {
		last, err = s.queue.Delivered(ctx, time.Time{}, time.Time{}, 1)
	}
	if err != nil { // no number is better than a wrong one
		to <- prometheus.NewInvalidMetric(descWaiting, err)
		return
	}
	gauge(descWaiting, float64(delivery.Waiting))
	gauge(descOldest, float64(delivery.OldestAge))
	gauge(descQuarantined, float64(delivery.Quarantined))
	to <- prometheus.MustNewConstMetric(descDelivered, prometheus.CounterValue, float64(delivery.Receipted))
	delivered := time.Time{}
	if len(last) > 0 {
		delivered = last[0].Done
	}
	gauge(descDelivery, seconds(delivered))
	gauge(descReached, one(h.Registry))
	gauge(descStopped, one(delivery.Line == courier.LineStopped))
	gauge(descHeard, seconds(s.clock.now().Registry))
	var expires time.Time
	if p, err := s.policies.current(); err == nil {
		expires = p.Policy().Expires
	}
	gauge(descPolicy, seconds(expires))
	_, certificates := s.own.now()
	gauge(descCertificate, seconds(certificates.until))
	gauge(descLog, one(s.logFault() != ""))
	for _, d := range []kiosk.Device{kiosk.DeviceDocument, kiosk.DeviceToken, kiosk.DeviceOfficer} {
		state, known := h.Readers[d]
		gauge(descDevice, one(known && state != kiosk.ReaderMissing), string(d))
	}
	gauge(descDevice, one(h.TPM), string(kiosk.DeviceTPM))
}

func one(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}

func seconds(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.Unix())
}

// run writes the file until ctx ends: as soon as the machine is known, and then
// each half minute. A file that cannot be written keeps nobody from working.
func (m *metrics) run(ctx context.Context) error {
	states, err := m.station.agent.States(ctx)
	if err != nil {
		return err
	}
	tick := time.NewTicker(metricsInterval)
	defer tick.Stop()
	failed := false
	for {
		select {
		case <-ctx.Done():
			return nil
		case s, ok := <-states:
			if !ok {
				return nil
			}
			if known := m.look(s.Health); known {
				continue
			}
		case <-tick.C:
		}
		err := m.write()
		if err != nil && !failed {
			m.station.log.Error("the metrics are not written", "cause", err)
		}
		failed = err != nil
	}
}

// look keeps how the machine is; known says that something was kept before.
func (m *metrics) look(h kiosk.Health) (known bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	known = m.health.Readers != nil
	m.health = h
	return known
}

// write replaces the file, so that who reads it finds all of one moment.
func (m *metrics) write() error {
	if err := prometheus.WriteToTextfile(m.file, m.all); err != nil {
		return fmt.Errorf("metrics.file: %w", err)
	}
	return nil
}
