package rego

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/worker"
)

// BenchmarkWorkers measures one decision with a repository's rules: evaluated in this
// process, and in a worker. The processor time of both sides is what counts on a
// machine that does other work.
func BenchmarkWorkers(b *testing.B) {
	files := org("delegate contains {\"rule\": \"all\"}\n\ndeny contains {\"rule\": \"no\"} if input.target.host in {\"paste.example\"}") +
		repo("allow contains {\"rule\": \"own\"} if {\n\tinput.target.host == \"api-7.partner.example\"\n\tinput.principal.deployment.type == \"production\"\n}\n")
	pool := worker.New(worker.Config{})
	defer pool.Close()
	var one sync.Mutex
	for _, c := range []struct {
		name    string
		workers Workers
	}{{"in process", serialized{&one, inProcess{newHost()}}}, {"worker", pool}} {
		set, err := Load(b.Context(), snapshot(b, files), Options{Names: true, Deadline: 5 * time.Second, Workers: c.workers})
		if err != nil {
			b.Fatal(err)
		}
		for _, callers := range []int{1, 16, 64} {
			b.Run(fmt.Sprintf("%s/%d", c.name, callers), func(b *testing.B) {
				request := requestFor(b, "repository=acme/tools", "deployment=production", "to=api-7.partner.example:443")
				if _, err := set.Decide(b.Context(), request); err != nil {
					b.Fatal(err)
				}
				server, workers := processorTimeOf(os.Getpid()), workersTime(pool)
				left := make(chan struct{}, b.N)
				for range b.N {
					left <- struct{}{}
				}
				close(left)
				b.ResetTimer()
				var group sync.WaitGroup
				for range callers {
					group.Go(func() {
						for range left {
							if _, err := set.Decide(b.Context(), request); err != nil {
								b.Error(err)
							}
						}
					})
				}
				group.Wait()
				b.ReportMetric(float64(processorTimeOf(os.Getpid())-server)/float64(b.N), "server-ns/op")
				b.ReportMetric(float64(workersTime(pool)-workers)/float64(b.N), "worker-ns/op")
			})
		}
	}
}

// serialized executes one call at a time.
type serialized struct {
	mu *sync.Mutex
	inProcess
}

func (s serialized) Do(ctx context.Context, call *worker.Call) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.inProcess.Do(ctx, call)
}

// processorTimeOf is the processor time that a process has used: this one exactly,
// another in the steps of /proc.
func processorTimeOf(pid int) time.Duration {
	if pid == os.Getpid() {
		var u syscall.Rusage
		if syscall.Getrusage(syscall.RUSAGE_SELF, &u) == nil {
			return time.Duration(u.Utime.Nano() + u.Stime.Nano())
		}
	}
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, rest, _ := strings.Cut(string(text), ") ")
	fields := strings.Fields(rest)
	if len(fields) < 13 {
		return 0
	}
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	return time.Duration(user+system) * 10 * time.Millisecond
}

func workersTime(p *worker.Pool) (sum time.Duration) {
	for _, pid := range p.Processes() {
		sum += processorTimeOf(pid)
	}
	return sum
}
