package dispatch

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/sallyport/sallyport/webhook"
)

// target is an endpoint that keeps the order in which deliveries arrive.
type target struct {
	mu       sync.Mutex
	arrivals []arrival
	answer   func(webhook.Task) Attempt // nil: 200
	latency  time.Duration
	deaf     bool // does not notice that the sender aborted
	sending  int
	most     int // at the same time
}

type arrival struct {
	delivery, stream string
	attempt          int
	at               time.Time
}

// Send delivers half-way through its latency, and responds at the end.
func (e *target) Send(ctx context.Context, t webhook.Task) Attempt {
	e.mu.Lock()
	e.sending++
	e.most = max(e.most, e.sending)
	e.mu.Unlock()
	defer func() {
		e.mu.Lock()
		e.sending--
		e.mu.Unlock()
	}()
	half := e.latency / 2
	if half > 0 {
		half = half/2 + rand.N(half/2+1)
	}
	began := time.Now()
	if !e.wait(ctx, half) {
		return Attempt{Err: context.Cause(ctx)}
	}
	e.mu.Lock()
	e.arrivals = append(e.arrivals, arrival{t.Delivery, t.Stream, t.Attempt, time.Now()})
	answer := e.answer
	e.mu.Unlock()
	if !e.wait(ctx, half) {
		return Attempt{Err: context.Cause(ctx)}
	}
	a := Attempt{Status: 200}
	if answer != nil {
		a = answer(t)
	}
	a.Duration = time.Since(began)
	return a
}

func (e *target) wait(ctx context.Context, d time.Duration) bool {
	if e.deaf {
		ctx = context.WithoutCancel(ctx)
	}
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

func (e *target) all() []arrival {
	e.mu.Lock()
	defer e.mu.Unlock()
	return append([]arrival(nil), e.arrivals...)
}

func (e *target) set(answer func(webhook.Task) Attempt) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.answer = answer
}

// respond returns an answer with a status.
func respond(status int) func(webhook.Task) Attempt {
	return func(webhook.Task) Attempt { return Attempt{Status: status} }
}

// check compares what arrived with the list of accepted deliveries of each stream: each has
// to arrive, the first arrivals in the order of acceptance, and an arrival after that of a
// later delivery only with an id that arrived before. It returns what is wrong.
func check(accepted map[string][]string, arrivals []arrival) (faults []string) {
	first := map[string][]string{} // by stream, without repeats
	seen := map[string]bool{}
	for _, a := range arrivals {
		if !seen[a.delivery] {
			seen[a.delivery] = true
			first[a.stream] = append(first[a.stream], a.delivery)
		}
	}
	for stream, list := range accepted {
		got := first[stream]
		for i, delivery := range list {
			switch {
			case !seen[delivery]:
				faults = append(faults, fmt.Sprintf("lost: %s of %s", delivery, stream))
			case i < len(got) && got[i] != delivery:
				faults = append(faults, fmt.Sprintf("out of order: %s arrived as number %d of %s instead of %s", got[i], i, stream, delivery))
			}
		}
		if len(got) > len(list) {
			faults = append(faults, fmt.Sprintf("%d deliveries of %s arrived, %d were accepted", len(got), stream, len(list)))
		}
	}
	return faults
}
