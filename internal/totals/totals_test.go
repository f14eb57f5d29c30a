package totals

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/policy"
)

// recorder is a log in memory, with a switch for a fault.
type recorder struct {
	mu     sync.Mutex
	events []*audit.Event
	failed error
}

func (r *recorder) record(_ context.Context, e *audit.Event) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.failed == nil {
		r.events = append(r.events, e)
	}
	return r.failed
}

// texts are the attributes of each event, without its times.
func (r *recorder) texts() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []string
	for _, e := range r.events {
		var one []string
		for _, a := range e.Attributes {
			if a.Name != "from" && a.Name != "to" {
				one = append(one, a.Name+"="+a.Value)
			}
		}
		all = append(all, strings.Join(one, " "))
	}
	return all
}

// contiguous expects that each event begins where the one before it ended.
func (r *recorder) contiguous(t *testing.T, begin time.Time) {
	t.Helper()
	at := begin.UTC().Format(time.RFC3339Nano)
	for i, e := range r.events {
		if e.Kind != audit.KindUnrecordedTotals || e.Attributes[0].Name != "from" || e.Attributes[0].Value != at || e.Attributes[1].Name != "to" {
			t.Errorf("event %d begins %v, want %s", i, e.Attributes[0], at)
		}
		at = e.Attributes[1].Value
	}
}

func expect(t *testing.T, r *recorder, want ...string) {
	t.Helper()
	if got := r.texts(); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("recorded %q, want %q", got, want)
	}
}

// run runs totals until the end of the test.
func run(t *testing.T, totals *Totals) {
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { totals.Run(ctx) })
	t.Cleanup(func() { cancel(); wg.Wait() })
}

func TestTotals(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r, rejected, begin := &recorder{}, int64(0), time.Now()
		totals := New(Config{Record: r.record, Rejected: func() int64 { return rejected }})
		run(t, totals)
		pass := func(d time.Duration) { time.Sleep(d + time.Second); synctest.Wait() } // of the bubble's clock
		for range 3 {
			totals.Add(policy.CredentialMissing)
		}
		totals.Add(policy.HeadTimeout)
		pass(Interval)
		expect(t, r, "total=4 credential_missing=3 head_timeout=1")
		// An hour without any is an event with 0.
		pass(50 * time.Minute)
		expect(t, r, "total=4 credential_missing=3 head_timeout=1")
		pass(Interval)
		expect(t, r, "total=4 credential_missing=3 head_timeout=1", "total=0")
		rejected = 7
		totals.Add(policy.Overloaded)
		totals.Flush(t.Context())
		totals.Flush(t.Context())
		expect(t, r, "total=4 credential_missing=3 head_timeout=1", "total=0", "total=8 overloaded=1 event_rejected=7", "total=0")
		r.contiguous(t, begin)
	})
}

// TestTotalsThatWereNotRecorded: what was counted while the log took nothing is in
// the next event, which has the same beginning.
func TestTotalsThatWereNotRecorded(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 30, 8, 0, 0, 0, time.UTC)
	begin := now
	r := &recorder{failed: errors.New("unavailable")}
	totals := New(Config{Record: r.record, Now: func() time.Time { return now }})
	totals.Add(policy.CredentialMissing)
	now = now.Add(time.Minute)
	totals.Flush(t.Context())
	totals.Add(policy.CredentialMissing)
	r.failed = nil
	now = now.Add(time.Minute)
	totals.Flush(t.Context())
	totals.Add(policy.CredentialMissing)
	now = now.Add(time.Minute)
	totals.Flush(t.Context())
	expect(t, r, "total=2 credential_missing=2", "total=1 credential_missing=1")
	r.contiguous(t, begin)
}

// TestCountingBesideRecording: nothing is counted twice or lost.
func TestCountingBesideRecording(t *testing.T) {
	t.Parallel()
	r := &recorder{}
	totals := New(Config{Record: r.record})
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 1000 {
				totals.Add(policy.CredentialMissing)
			}
		})
	}
	for range 50 {
		totals.Flush(t.Context())
	}
	wg.Wait()
	totals.Flush(t.Context())
	sum := 0
	for _, e := range r.events {
		var n int
		if _, err := fmt.Sscan(e.Attributes[2].Value, &n); err != nil {
			t.Fatal(err)
		}
		sum += n
	}
	if sum != 8000 {
		t.Errorf("%d of 8000 are recorded", sum)
	}
}
