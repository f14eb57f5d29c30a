package server

import (
	"strings"

	"github.com/sallyport/sallyport/internal/worker"
)

// workersDetail is what /readyz reports of the workers.
func (s *server) workersDetail() any {
	st := s.policy.WorkerStatus()
	d := map[string]any{"processes": st.Workers, "waiting": st.Waiting}
	if len(st.Shares) > 0 {
		d["quarantined_repositories"] = strings.Join(st.Shares[:min(len(st.Shares), 20)], " ")
	}
	return d
}

// workerMetrics adds the figures of the workers.
func (s *server) workerMetrics() {
	m, status := s.metrics, s.policy.WorkerStatus
	causes := make([]string, len(worker.Causes))
	for i, c := range worker.Causes {
		causes[i] = string(c)
	}
	m.CounterBy("sallyport_policy_worker_deaths_total", "Worker processes that a repository's policy ended, by the limit that it exceeded.", "cause", causes, func(cause string) float64 {
		return float64(status().Deaths[worker.Cause(cause)])
	})
	m.Gauge("sallyport_policy_workers", "Worker processes that are alive.", func() float64 { return float64(status().Workers) })
	m.Gauge("sallyport_policy_evaluations_queued", "Evaluations, checks and tests that wait for a worker process.", func() float64 { return float64(status().Waiting) })
	m.Gauge("sallyport_policy_quarantined_repositories", "Repositories whose rules are not evaluated for a while because they ended worker processes.", func() float64 {
		return float64(len(status().Shares))
	})
	m.Counter("sallyport_policy_evaluations_refused_total", "Evaluations refused because too many of the same repository waited, or for too long.", func() float64 { return float64(status().Refused) })
	m.Counter("sallyport_policy_evaluations_quarantined_total", "Evaluations refused because the repository's rules had ended worker processes.", func() float64 { return float64(status().Quarantined) })
	m.Counter("sallyport_policy_workers_retired_total", "Worker processes that were replaced for the memory that they held.", func() float64 { return float64(status().Retired) })
}
