package manager

import (
	"context"
	"time"

	"github.com/sallyport/sallyport/internal/config"
	"github.com/sallyport/sallyport/internal/worker"
)

// maxDeaths bounds the deaths of workers that wait for their event; more are counted and
// logged only.
const maxDeaths = 64

// newWorkers makes the pool that executes repositories' policies.
func (p *Manager) newWorkers(cfg *config.Config) *worker.Pool {
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

// recordDeath records that a repository's policy ended a worker and is refused for a
// while.
func (p *Manager) recordDeath(ctx context.Context, d policyDeath) {
	set := p.engine.Current()
	if set == nil || p.audit == nil {
		return
	}
	e := TerminatedEvent(d.repository, d.death, set.Revision(), p.options.Names, d.at)
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if err := p.audit.Record(ctx, e); err != nil {
		p.log.Error("event not recorded", "kind", string(e.Kind), "error", err)
	}
}
