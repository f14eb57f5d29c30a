package proxy

import (
	"context"
	"fmt"
	"time"

	"github.com/sallyport/sallyport/audit"
)

// Repeated is how many refusals were counted as repeats since the gate was made.
func (g *Gate) Repeated() int64 {
	g.repeats.mu.Lock()
	defer g.repeats.mu.Unlock()
	return g.repeats.total
}

// RunRepeats records the counts of repeated refusals every [Config.RepeatInterval] until
// ctx ends. [Gate.RecordRepeats] records what is left then.
func (g *Gate) RunRepeats(ctx context.Context) {
	tick := time.NewTicker(g.config.RepeatInterval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			g.RecordRepeats(ctx)
		case <-ctx.Done():
			return
		}
	}
}

// RecordRepeats records an event with the count of each refusal that was repeated
// since the latest one. If that fails, the next event of that refusal has the same
// beginning and includes the count, so that of several events of a writer with one
// decision id and one beginning the last is right, whichever of them came to be
// recorded.
func (g *Gate) RecordRepeats(ctx context.Context) {
	r := &g.repeats
	r.mu.Lock()
	var list []*repeat
	for _, s := range r.steps {
		for _, e := range s.keys {
			if e.count > 0 {
				list = append(list, e)
			}
		}
	}
	r.mu.Unlock()
	for _, entry := range list {
		if ctx.Err() != nil {
			return
		}
		r.mu.Lock()
		e, count, since := entry.first, entry.count, entry.since
		r.mu.Unlock()
		now := g.config.Now().UTC().Truncate(time.Microsecond)
		e.Time = now
		e.Message = fmt.Sprintf("refused %d more times, with the decision id of the first refusal", count)
		e.Attributes = []audit.Attribute{{Name: "from", Value: since.UTC().Format(time.RFC3339Nano)}, {Name: "to", Value: now.Format(time.RFC3339Nano)},
			{Name: "count", Value: fmt.Sprint(count)}}
		wait, cancel := context.WithTimeout(ctx, g.config.RecordWait)
		err := g.config.Recorder.Record(wait, &e)
		cancel()
		if err != nil {
			g.config.Log.WarnContext(ctx, "count of repeated refusals not recorded yet", "decision_id", entry.first.DecisionID, "error", err)
			continue
		}
		r.mu.Lock()
		if entry.count -= count; entry.count > 0 {
			entry.since = now
		}
		r.mu.Unlock()
	}
}
