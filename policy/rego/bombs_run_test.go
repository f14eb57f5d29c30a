package rego

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/worker"
	"github.com/sallyport/sallyport/policy"
)

// bombPool is a pool with limits that a bomb reaches quickly.
func bombPool(t testing.TB) *worker.Pool {
	t.Helper()
	p := worker.New(worker.Config{
		Workers: 6, Limits: worker.Limits{Memory: 96 << 20, Stack: 16 << 20}, Grace: 80 * time.Millisecond, Quarantine: time.Hour, QueueTimeout: time.Minute,
	})
	t.Cleanup(p.Close)
	return p
}

// resident is the resident memory of this process and the workers of a pool.
func resident(p *worker.Pool) (bytes int64) {
	for _, pid := range append(p.Processes(), os.Getpid()) {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
		if fields := strings.Fields(string(text)); err == nil && len(fields) > 1 {
			pages, _ := strconv.ParseInt(fields[1], 10, 64)
			bytes += pages * int64(os.Getpagesize())
		}
	}
	return bytes
}

// watchMemory samples the resident memory until it is stopped, and returns the peak.
func watchMemory(p *worker.Pool) (stop func() int64) {
	var peak atomic.Int64
	done := make(chan struct{})
	var sampling sync.WaitGroup
	sampling.Go(func() {
		ticker := time.NewTicker(2 * time.Millisecond)
		defer ticker.Stop()
		for {
			select {
			case <-done:
				return
			case <-ticker.C:
				peak.Store(max(peak.Load(), resident(p)))
			}
		}
	})
	return func() int64 {
		close(done)
		sampling.Wait()
		return peak.Load()
	}
}

// maxBombMemory bounds this process and six workers.
const maxBombMemory = 900 << 20

// TestHostilePolicies: each of at least 60 bombs of 20 kinds is refused with its file
// and the reason, within bounded time and memory, and nothing else happens.
func TestHostilePolicies(t *testing.T) {
	if withoutRaceDetector(t) {
		return
	}
	kinds := map[string]bool{}
	for _, b := range evaluationBombs {
		kinds[b.kind] = true
	}
	for _, b := range loadBombs {
		kinds[b.kind] = true
	}
	if n := len(evaluationBombs) + len(loadBombs); n < 60 || len(kinds) < 20 {
		t.Errorf("%d bombs of %d kinds", n, len(kinds))
	}
	t.Run("evaluation", testEvaluationBombs)
	t.Run("load", testLoadBombs)
}

// testEvaluationBombs evaluates each bomb in a repository of its own. Meanwhile another
// repository gets decisions.
func testEvaluationBombs(t *testing.T) {
	files := org("delegate contains {\"rule\": \"all\"}") + "-- repositories/acme/good/a.rego --\npackage sallyport.repository[\"acme/good\"]\n\nallow contains {\"rule\": \"good\"} if input.target.host == \"good.example\"\n"
	for i, b := range evaluationBombs {
		files += fmt.Sprintf("-- repositories/acme/bomb-%d/a.rego --\npackage sallyport.repository[\"acme/bomb-%d\"]\n\n%s", i, i, b.rego)
	}
	p := bombPool(t)
	// With every builtin of OPA: the limits hold without the list of those that a
	// policy gets.
	set, err := loadWithout(t, checkCapabilities, files, Options{Names: true, Workers: p, Deadline: timeFactor * 20 * time.Millisecond})
	if err != nil {
		t.Fatalf("%.3000v", err)
	}
	peak := watchMemory(p)
	stop := make(chan struct{})
	var others sync.WaitGroup
	others.Go(func() {
		for n := 0; ; n++ {
			select {
			case <-stop:
				if n == 0 {
					t.Error("the other repository was not answered once")
				}
				return
			default:
			}
			d, err := set.Decide(t.Context(), requestFor(t, "repository=acme/good", "to=good.example:443"))
			if got := described(d, err); got != "allow policy_allowed rule=good rules=good,all" {
				t.Errorf("the other repository: %s, %v", got, err)
				return
			}
		}
	})
	t.Run("bombs", func(t *testing.T) {
		for i, b := range evaluationBombs {
			t.Run(b.kind+"/"+b.name, func(t *testing.T) {
				t.Parallel()
				began := time.Now()
				repository := fmt.Sprintf("acme/bomb-%d", i)
				d, err := set.Decide(t.Context(), requestFor(t, "repository="+repository, "to=bomb.example:443"))
				if err == nil || d.Verdict != policy.Deny || d.Reason != policy.PolicyError {
					t.Fatalf("%s, %v", described(d, err), err)
				}
				if !strings.Contains(err.Error(), repository) || len(err.Error()) > 8<<10 {
					t.Errorf("the error does not name the repository: %.300v", err)
				}
				if death, ok := errors.AsType[*worker.Death](err); ok {
					if place, _ := errors.AsType[Error](err); place.File != "repositories/"+repository+"/a.rego" || place.Line == 0 {
						t.Errorf("no place: %v", err)
					}
					// It is not executed again.
					if _, err := set.Decide(t.Context(), requestFor(t, "repository="+repository, "to=bomb.example:443")); !errors.As(err, new(*worker.Quarantined)) && (err == nil || !strings.Contains(err.Error(), ": compilation exceeded")) {
						t.Errorf("again: %v", err) // what failed to compile is not compiled again
					}
					t.Logf("%v: %s", time.Since(began).Round(time.Millisecond), death.Cause)
				} else {
					t.Logf("%v: %.200v", time.Since(began).Round(time.Millisecond), err)
				}
			})
		}
	})
	close(stop)
	others.Wait()
	if bytes := peak(); bytes > maxBombMemory*raceFactor {
		t.Errorf("%d MiB of resident memory", bytes>>20)
	} else {
		t.Logf("%d MiB of resident memory at most", bytes>>20)
	}
}

// testLoadBombs: a revision with a bomb is rejected, with the file of the repository and
// the reason, within bounded time and memory. The active set decides meanwhile.
func testLoadBombs(t *testing.T) {
	p := bombPool(t)
	active, err := Load(t.Context(), snapshot(t, org("delegate contains {\"rule\": \"all\"}")+repo("allow contains {\"rule\": \"good\"}")), Options{Names: true, Workers: p})
	if err != nil {
		t.Fatal(err)
	}
	peak := watchMemory(p)
	t.Run("bombs", func(t *testing.T) {
		for _, b := range loadBombs {
			t.Run(b.kind+"/"+b.name, func(t *testing.T) {
				t.Parallel()
				began := time.Now()
				l := newLoader(snapshot(t, org("p := 1\n\ndelegate contains {\"rule\": \"all\"} if p == 1")+b.files), Options{Names: true, Workers: p})
				l.testsTime = time.Second
				_, err := l.load(t.Context())
				faults, ok := errors.AsType[Errors](err)
				if !ok {
					t.Fatalf("%.500v", err)
				}
				t.Logf("%v: %.200v", time.Since(began).Round(time.Millisecond), err)
				for _, fault := range faults {
					if !strings.HasPrefix(fmt.Sprintf("%s:%d", fault.File, fault.Line), b.at) || fault.Message == "" || len(fault.Error()) > 8<<10 {
						t.Errorf("%.500v", fault)
					}
				}
				if got := described(active.Decide(t.Context(), requestFor(t, "repository=acme/tools"))); got != "allow policy_allowed rule=good rules=good,all" {
					t.Errorf("the active set: %s", got)
				}
			})
		}
	})
	if bytes := peak(); bytes > maxBombMemory*raceFactor {
		t.Errorf("%d MiB of resident memory", bytes>>20)
	} else {
		t.Logf("%d MiB of resident memory at most", bytes>>20)
	}
}
