package admin

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// DispatchMetrics counts the attempts to send webhook deliveries. Endpoints are those of the
// configuration, and outcomes a closed vocabulary.
type DispatchMetrics struct {
	attempts    *prometheus.HistogramVec
	deadLetters *prometheus.CounterVec
	leasesLost  *prometheus.CounterVec
}

// NewDispatchMetrics adds the metrics of these endpoints. Each counter exists from the start,
// so that its first increase is visible.
func (m *Metrics) NewDispatchMetrics(endpoints, outcomes []string) *DispatchMetrics {
	d := &DispatchMetrics{
		attempts: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "sallyport_webhook_attempt_duration_seconds",
			Help:    "Duration of attempts to send a delivery to an endpoint, by outcome. An agent reports no duration of a failure.",
			Buckets: []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300},
		}, []string{"endpoint", "outcome"}),
		deadLetters: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sallyport_webhook_dead_letters_total",
			Help: "Deliveries that became dead letters: the endpoint rejected them, or retry_for ended.",
		}, []string{"endpoint"}),
		leasesLost: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sallyport_webhook_leases_lost_total",
			Help: "Acknowledgements that came too late; the delivery may have been sent twice.",
		}, []string{"endpoint"}),
	}
	for _, e := range endpoints {
		d.deadLetters.WithLabelValues(e)
		d.leasesLost.WithLabelValues(e)
		for _, o := range outcomes {
			d.attempts.WithLabelValues(e, o)
		}
	}
	m.Registry.MustRegister(d.attempts, d.deadLetters, d.leasesLost)
	return d
}

// Attempted counts an attempt.
func (d *DispatchMetrics) Attempted(endpoint, outcome string, took time.Duration) {
	d.attempts.WithLabelValues(endpoint, outcome).Observe(took.Seconds())
}

// DeadLetter counts a dead letter.
func (d *DispatchMetrics) DeadLetter(endpoint string) { d.deadLetters.WithLabelValues(endpoint).Inc() }

// LeaseLost counts a late acknowledgement.
func (d *DispatchMetrics) LeaseLost(endpoint string) { d.leasesLost.WithLabelValues(endpoint).Inc() }
