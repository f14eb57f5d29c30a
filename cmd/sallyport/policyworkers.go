package main

import (
	"context"
	"strings"
	"time"

	"github.com/sallyport/sallyport/internal/config"
	"github.com/sallyport/sallyport/internal/worker"
	"github.com/sallyport/sallyport/policy/manager"
)

// maxDeaths is how many deaths of workers may wait to be recorded; more are counted
// and logged only.
const maxDeaths = 64

// policyDeath is that a repository's policy has ended a worker.
type policyDeath struct {
	repository string
	at         time.Time
	death      *worker.Death
}

// newWorkers makes the pool that executes what repositories wrote.
func (p *policyHolder) newWorkers(cfg *config.Config) *worker.Pool {
	w := cfg.Policy.Workers
	return worker.New(worker.Config{
		Workers: w.Processes, Limits: worker.Limits{Memory: int64(w.MaxMemory)},
		Queue: w.MaxQueued, QueueTimeout: w.QueueTimeout, Log: p.log,
		OnDeath: func(repository string, death *worker.Death) {
			select {
			case p.deaths <- policyDeath{repository, time.Now(), death}:
			default:
			}
		},
	})
}

// recordDeath records that a repository's policy has ended a worker and is refused
// for a while.
func (p *policyHolder) recordDeath(ctx context.Context, d policyDeath) {
	set := p.engine.Current()
	if set == nil || p.audit == nil {
		return
	}
	e := manager.TerminatedEvent(d.repository, d.death, set.Revision(), p.options.Names, d.at)
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if err := p.audit.Record(ctx, e); err != nil {
		p.log.Error("event not recorded", "kind", string(e.Kind), "error", err)
	}
}

// workersDetail is what /readyz reports of the workers.
func (s *server) workersDetail() any {
	st := s.policy.workers.Status()
	d := map[string]any{"processes": st.Workers, "waiting": st.Waiting}
	if len(st.Shares) > 0 {
		d["quarantined_repositories"] = strings.Join(st.Shares[:min(len(st.Shares), 20)], " ")
	}
	return d
}

// workerMetrics adds the figures of the workers.
func (s *server) workerMetrics() {
	m, status := s.metrics, s.policy.workers.Status
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
