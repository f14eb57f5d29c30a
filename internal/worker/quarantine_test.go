package worker

import (
	"errors"
	"sync"
	"testing"
	"time"
)

// diagnosed reports a mark for a share's key, and returns the quarantine.
func diagnosed(t *testing.T, p *Pool, share string, mark uint64) *Quarantined {
	t.Helper()
	p.Diagnosed("unknown", mark)
	p.Diagnosed(call(share, "").QuarantineKey, mark)
	_, err := p.Do(t.Context(), call(share, "echo hello"))
	q, ok := errors.AsType[*Quarantined](err)
	if !ok {
		t.Fatalf("after the diagnosis: %v", err)
	}
	return q
}

// TestWaitingCallsAreRefused: when a call ends its worker, the calls that already wait with
// the same key are refused as later ones are, and end no worker. The calls of the share
// with another key are answered.
func TestWaitingCallsAreRefused(t *testing.T) {
	t.Parallel()
	p := pool(t, Config{Workers: 1, Quarantine: time.Hour})
	ask(t, p, "bad", "spin 15ms") // the share is heavy, and its calls are executed one by one
	var calls sync.WaitGroup
	var deaths, refused int
	var mu sync.Mutex
	occupied := call("other", "spin 90ms")
	calls.Go(func() { _, _ = p.Do(t.Context(), occupied) })
	waiting(t, p, 0)
	for range 20 {
		calls.Go(func() {
			_, err := p.Do(t.Context(), call("bad", "exit"))
			mu.Lock()
			defer mu.Unlock()
			if _, ok := errors.AsType[*Quarantined](err); ok {
				refused++
			} else if _, ok := errors.AsType[*Death](err); ok {
				deaths++
			}
		})
	}
	waiting(t, p, 20)
	calls.Go(func() {
		c := call("bad", "echo hello")
		c.QuarantineKey = "another"
		if reply, err := p.Do(t.Context(), c); err != nil || string(reply) != "hello" {
			t.Errorf("another key of the share: %q, %v", reply, err)
		}
	})
	calls.Wait()
	if deaths != 1 || refused != 19 {
		t.Errorf("%d calls ended a worker and %d were refused", deaths, refused)
	}
	if st := p.Status(); st.Deaths[Crashed] != 1 || st.Waiting != 0 {
		t.Errorf("%+v", st)
	}
}
