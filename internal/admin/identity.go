package admin

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// IdentityMetrics counts the effect on credentials, and what issuers and APIs
// are asked. A workspace is one of the configuration's.
type IdentityMetrics struct {
	verified *prometheus.CounterVec
	refused  *prometheus.CounterVec
	keys     *prometheus.CounterVec
	names    *prometheus.CounterVec
	moved    *prometheus.CounterVec
}

// NewIdentityMetrics adds them to the others. They start at zero for the
// workspaces given, so that the first failure is a change.
func NewIdentityMetrics(m *Metrics, workspaces []string) *IdentityMetrics {
	i := &IdentityMetrics{
		verified: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sallyport_credentials_verified_total",
			Help: "Credentials that were accepted: verified, or recognized by their digest.",
		}, []string{"how"}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sallyport_credentials_refused_total",
			Help: "Credentials that were not accepted, by the check that refused them.",
		}, []string{"check"}),
		keys: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sallyport_key_fetches_total",
			Help: "Fetches of an issuer's keys.",
		}, []string{"workspace", "result"}),
		names: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sallyport_name_requests_total",
			Help: "Requests to the REST API for names and pipelines.",
		}, []string{"workspace", "result"}),
		moved: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sallyport_names_reassigned_total",
			Help: "Names that passed from one UUID to another; each is an event too.",
		}, []string{"kind"}),
	}
	for _, w := range workspaces {
		for _, result := range []string{"ok", "failed"} {
			i.keys.WithLabelValues(w, result)
			i.names.WithLabelValues(w, result)
		}
	}
	for _, kind := range []string{"workspace", "repository", "deployment"} {
		i.moved.WithLabelValues(kind)
	}
	m.Registry.MustRegister(i.verified, i.refused, i.keys, i.names, i.moved)
	return i
}

// Verified counts a credential that was accepted.
func (i *IdentityMetrics) Verified(_ string, again bool) {
	how := "proven"
	if again {
		how = "recognized"
	}
	i.verified.WithLabelValues(how).Inc()
}

// Refused counts one that was not. The check is one of a closed vocabulary, or
// empty where there was no credential.
func (i *IdentityMetrics) Refused(check string) {
	if check == "" {
		check = "missing"
	}
	i.refused.WithLabelValues(check).Inc()
}

// KeysFetched counts a fetch of an issuer's keys.
func (i *IdentityMetrics) KeysFetched(workspace string, _ time.Duration, err error) {
	i.keys.WithLabelValues(workspace, result(err)).Inc()
}

// NamesFetched counts a request to the REST API.
func (i *IdentityMetrics) NamesFetched(workspace, _ string, _ time.Duration, err error) {
	i.names.WithLabelValues(workspace, result(err)).Inc()
}

// NameReassigned counts a name that belongs to another now. The kind is workspace,
// repository or deployment.
func (i *IdentityMetrics) NameReassigned(kind string) { i.moved.WithLabelValues(kind).Inc() }

func result(err error) string {
	if err != nil {
		return "failed"
	}
	return "ok"
}
