package bench

import (
	"errors"
	"runtime"
	"slices"
	"sync"
	"time"
)

// measure applies a load to a target for a time.
func (o *Options) measure(l *Load, t *Target, during time.Duration) (measurement, error) {
	runtime.GC() // of this process, which otherwise collects during the measurement
	if l.tunnels > 0 {
		return o.measureIdle(l, t)
	}
	clients := make([]*session, l.Clients)
	works := make([]work, l.Clients)
	defer func() {
		for i, w := range works {
			if w.end != nil {
				w.end()
			}
			if clients[i] != nil {
				clients[i].close()
			}
		}
	}()
	for i := range clients {
		clients[i] = &session{client: t.client(i), upstream: o.Upstream, bytes: o.Bytes}
		var err error
		if works[i], err = l.prepare(clients[i]); err != nil {
			return measurement{}, err
		}
	}
	settle(t.processes(), o.Settle)
	proxy, database := readProcessorTimes(t.processes()), readProcessorTimes(t.database())
	began := time.Now()
	took, err := repeat(works, began.Add(during))
	if err != nil {
		return measurement{}, err
	}
	elapsed := time.Since(began)
	settle(slices.Concat(t.processes(), t.database()), o.Settle)
	units := float64(len(took))
	if l.Unit == "MiB" {
		units *= float64(o.Bytes) / (1 << 20)
	}
	slices.Sort(took)
	return measurement{
		rate:      units / elapsed.Seconds(),
		p50:       took[len(took)/2],
		p99:       took[len(took)*99/100],
		processor: time.Duration(float64(readProcessorTimes(t.processes()).since(proxy)) / units),
		database:  time.Duration(float64(readProcessorTimes(t.database()).since(database)) / units),
	}, nil
}

// repeat lets each client repeat its work until a time, and returns the durations. Each
// client works at least once.
func repeat(works []work, end time.Time) (took []time.Duration, err error) {
	var clients sync.WaitGroup
	var mu sync.Mutex
	for _, w := range works {
		clients.Go(func() {
			var own []time.Duration
			var failed error
			for began := time.Now(); failed == nil; {
				failed = w.once()
				now := time.Now()
				own = append(own, now.Sub(began))
				if began = now; now.After(end) {
					break
				}
			}
			mu.Lock()
			defer mu.Unlock()
			took, err = append(took, own...), errors.Join(err, failed)
		})
	}
	clients.Wait()
	return took, first(err)
}

// first is the first of joined errors: with hundreds of clients the others are the same.
func first(err error) error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		return first(joined.Unwrap()[0])
	}
	return err
}

// measureIdle opens tunnels and leaves them idle. The memory is that of the proxy alone.
func (o *Options) measureIdle(l *Load, t *Target) (measurement, error) {
	tunnels := l.tunnels
	if o.Tunnels > 0 {
		tunnels = o.Tunnels
	}
	settle(t.processes(), o.Settle)
	before := residentMemory(t.processes())
	const openers = 8
	var mu sync.Mutex
	var failed error
	var running sync.WaitGroup
	var open []interface{ Close() error }
	for i := range openers {
		running.Go(func() {
			for n := i; n < tunnels; n += openers {
				conn, err := (&session{client: t.client(n), upstream: o.Upstream}).openTunnel()
				mu.Lock()
				if failed = errors.Join(failed, err); err == nil {
					open = append(open, conn)
				}
				stop := failed != nil
				mu.Unlock()
				if stop {
					return
				}
			}
		})
	}
	running.Wait()
	settle(slices.Concat(t.processes(), t.database()), o.Settle)
	memory := residentMemory(t.processes()) - before
	for _, conn := range open {
		_ = conn.Close()
	}
	settle(slices.Concat(t.processes(), t.database()), o.Settle)
	return measurement{memory: float64(memory) / float64(tunnels)}, first(failed)
}

func (t *Target) processes() []int { return call(t.Processes) }
func (t *Target) database() []int  { return call(t.Database) }

func call(list func() []int) []int {
	if list == nil {
		return nil
	}
	return list()
}
