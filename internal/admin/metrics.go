// Package admin is what an operator sees of a running instance: health,
// readiness with its details and Prometheus metrics, all read-only, and a control
// socket for those on the same machine who may do something about it.
package admin

import (
	"regexp"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/proxy"
)

// Metrics counts what the gate does; it is a [proxy.Observer]. Label values come
// from closed vocabularies only: nothing that a client sends can make a series.
type Metrics struct {
	Registry *prometheus.Registry

	decisions  *prometheus.CounterVec
	unrecorded *prometheus.CounterVec
	ended      *prometheus.CounterVec
	wouldClose *prometheus.CounterVec
	sent       prometheus.Counter
	received   prometheus.Counter
	panics     prometheus.Counter
	stages     map[string]prometheus.Observer
	reevaluate prometheus.Histogram
}

var _ proxy.Observer = (*Metrics)(nil)

var liveHeap = regexp.MustCompile(`^/gc/heap/live:bytes$`)

// NewMetrics returns metrics in a registry of their own, with the Go runtime's
// and the process's beside them. version is the program's.
func NewMetrics(version string) *Metrics {
	r := prometheus.NewRegistry()
	m := &Metrics{
		Registry: r,
		decisions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sallyport_decisions_total",
			Help: "Requests, by outcome.",
		}, []string{"action", "verdict", "reason", "would_deny"}),
		unrecorded: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sallyport_unrecorded_total",
			Help: "Refusals that were counted and not recorded one by one: no credential, a head that cannot be read, or over the rate of one address.",
		}, []string{"reason"}),
		ended: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sallyport_closed_total",
			Help: "Ends of tunnels and requests, by their cause.",
		}, []string{"action", "cause"}),
		sent: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "sallyport_sent_bytes_total",
			Help: "Bytes from clients to targets, counted when a tunnel or request ends.",
		}),
		received: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "sallyport_received_bytes_total",
			Help: "Bytes from targets to clients, counted when a tunnel or request ends.",
		}),
		wouldClose: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sallyport_would_close_total",
			Help: "Tunnels that report mode let continue, by the close reason that they would have in enforce mode.",
		}, []string{"close_reason"}),
		panics: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "sallyport_panics_total",
			Help: "Connections that a fault of ours ended.",
		}),
		stages: make(map[string]prometheus.Observer),
		reevaluate: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "sallyport_reevaluation_duration_seconds",
			Help:    "Duration of each complete reevaluation of all open tunnels and requests.",
			Buckets: []float64{.001, .005, .01, .05, .1, .25, .5, 1, 2, 5, 10, 30, 120},
		}),
	}
	stages := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "sallyport_stage_seconds",
		Help:    "What each stage of the way took.",
		Buckets: []float64{.00001, .00005, .0001, .00025, .0005, .001, .0025, .005, .01, .025, .1, .5, 2, 10},
	}, []string{"stage"})
	for _, s := range []string{"authenticate", "queue", "decide", "resolve", "record", "dial"} {
		m.stages[s] = stages.WithLabelValues(s)
	}
	// Prometheus does not see the first value of a counter as an increase, so counters
	// that alerts use begin with 0.
	for _, action := range []policy.Action{policy.Connect, policy.Forward} {
		for _, reason := range []policy.Reason{policy.PolicyDenied, policy.NoRuleMatched, policy.PolicyError, policy.AuditUnavailable} {
			m.decisions.WithLabelValues(string(action), policy.Deny.String(), string(reason), "false")
		}
	}
	build := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "sallyport_build_info",
		Help: "Always 1; the label has the version.",
	}, []string{"version"})
	build.WithLabelValues(version).Set(1)
	r.MustRegister(m.decisions, m.unrecorded, m.ended, m.wouldClose, m.sent, m.received, m.panics, stages, m.reevaluate, build,
		collectors.NewGoCollector(collectors.WithGoCollectorRuntimeMetrics(
			// What is in use after a collection: the rest of the heap is waste at any moment.
			collectors.GoRuntimeMetricsRule{Matcher: liveHeap})),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// Gauge adds a figure that is read when it is asked for. read must be safe for
// concurrent use and quick.
func (m *Metrics) Gauge(name, help string, read func() float64) {
	m.Registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, read))
}

// Counter adds a figure that only grows and is read when it is asked for.
func (m *Metrics) Counter(name, help string, read func() float64) {
	m.Registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help}, read))
}

// CounterBy adds a figure that only grows for each value of a label, a closed
// vocabulary.
func (m *Metrics) CounterBy(name, help, label string, values []string, read func(value string) float64) {
	for _, value := range values {
		m.Registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: name, Help: help, ConstLabels: prometheus.Labels{label: value},
		}, func() float64 { return read(value) }))
	}
}

// GaugeBy adds a figure that is read when it is asked for, for each value of a
// label, a closed vocabulary.
func (m *Metrics) GaugeBy(name, help, label string, values []string, read func(value string) float64) {
	for _, value := range values {
		m.Registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: name, Help: help, ConstLabels: prometheus.Labels{label: value},
		}, func() float64 { return read(value) }))
	}
}

// CounterOf adds one series of a figure that only grows, with these labels, whose values
// are of a closed vocabulary. All series of a name have the same help and label names.
func (m *Metrics) CounterOf(name, help string, labels map[string]string, read func() float64) {
	m.Registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help, ConstLabels: labels}, read))
}

// GaugeOf is [Metrics.CounterOf] for a figure that may fall.
func (m *Metrics) GaugeOf(name, help string, labels map[string]string, read func() float64) {
	m.Registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help, ConstLabels: labels}, read))
}

// Decided counts a decision.
func (m *Metrics) Decided(action policy.Action, verdict policy.Verdict, reason policy.Reason, wouldDeny bool) {
	m.decisions.WithLabelValues(string(action), verdict.String(), string(reason), strconv.FormatBool(wouldDeny)).Inc()
}

// WouldClose counts a tunnel that report mode let continue.
func (m *Metrics) WouldClose(cause proxy.Cause) {
	m.wouldClose.WithLabelValues(string(cause)).Inc()
}

// Unrecorded counts a refusal that got no event.
func (m *Metrics) Unrecorded(reason policy.Reason) {
	m.unrecorded.WithLabelValues(string(reason)).Inc()
}

// Stage observes what a stage took.
func (m *Metrics) Stage(stage string, duration time.Duration) {
	if s, known := m.stages[stage]; known {
		s.Observe(duration.Seconds())
	}
}

// Reevaluated observes the duration of a complete reevaluation of all open tunnels and
// requests.
func (m *Metrics) Reevaluated(duration time.Duration) { m.reevaluate.Observe(duration.Seconds()) }

// Closed counts an end.
func (m *Metrics) Closed(action policy.Action, cause proxy.Cause, sent, received int64) {
	m.ended.WithLabelValues(string(action), string(cause)).Inc()
	m.sent.Add(float64(sent))
	m.received.Add(float64(received))
}

// Refused counts what never reached the gate.
func (m *Metrics) Refused(_ string, reason policy.Reason) {
	m.unrecorded.WithLabelValues(string(reason)).Inc()
}

// Panicked counts a connection that a fault of ours ended.
func (m *Metrics) Panicked(string) { m.panics.Inc() }
