package rego

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/worker"
	"github.com/sallyport/sallyport/policy"
)

// diagnosisCounter counts the diagnoses that a pool gets.
type diagnosisCounter struct {
	*worker.Pool
	diagnoses atomic.Int64
}

func (c *diagnosisCounter) Do(ctx context.Context, call *worker.Call) ([]byte, error) {
	if len(call.Request) > 0 && call.Request[0] == requestPlace {
		c.diagnoses.Add(1)
	}
	return c.Pool.Do(ctx, call)
}

// TestOneDiagnosisOfADeath: of many requests at once whose policy ends its worker, one is
// evaluated again for the location. The others are refused without it, and none waits for
// the diagnosis of another.
func TestOneDiagnosisOfADeath(t *testing.T) {
	t.Parallel()
	workers := &diagnosisCounter{Pool: bombPool(t)}
	files := org("delegate contains {\"rule\": \"all\"}") + "-- repositories/acme/payments/rules.rego --\npackage sallyport.repository[\"acme/payments\"]\n\n" +
		doubled(26) + when(`count(t26) == 1`)
	set, err := loadWith(t, files, Options{Workers: workers})
	if err != nil {
		t.Fatal(err)
	}
	var requests sync.WaitGroup
	var located atomic.Int64
	for range 40 {
		requests.Go(func() {
			d, err := set.Decide(t.Context(), requestFor(t, "repository=acme/payments", "to=bomb.example:443"))
			if err == nil || d.Verdict != policy.Deny || d.Reason != policy.PolicyError {
				t.Errorf("%s, %v", described(d, err), err)
			}
			if e, ok := errors.AsType[Error](err); ok && e.Line > 2 {
				located.Add(1)
			}
		})
	}
	requests.Wait()
	if n := workers.diagnoses.Load(); n != 1 || located.Load() == 0 {
		t.Errorf("%d diagnoses, and %d errors have the location", n, located.Load())
	}
	_, err = set.Decide(t.Context(), requestFor(t, "repository=acme/payments", "to=bomb.example:443"))
	if e, ok := errors.AsType[Error](err); !ok || e.Line < 3 || !errors.As(err, new(*worker.Quarantined)) {
		t.Errorf("a later request: %v", err)
	}
	if n := workers.diagnoses.Load(); n != 1 {
		t.Errorf("%d diagnoses after a later request", n)
	}
}

// TestDiagnosisIsBounded: a request waits for a diagnosis for a bounded time, also when no
// worker has time for it.
func TestDiagnosisIsBounded(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	c := &client{workers: endlessWorkers{}}
	err := c.placeOfDeath(ctx, &unit{repository: "acme/payments"}, 0, nil, 10*time.Millisecond, "evaluation", &worker.Death{Cause: worker.OutOfMemory, Limit: "96 MiB"})
	if _, ok := errors.AsType[*worker.Death](err); !ok || ctx.Err() != nil {
		t.Errorf("%v: %v", ctx.Err(), err)
	}
}

// endlessWorkers answer no call.
type endlessWorkers struct{}

func (endlessWorkers) Do(ctx context.Context, _ *worker.Call) ([]byte, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}
