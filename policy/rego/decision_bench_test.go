package rego

import (
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/destination"
	"github.com/sallyport/sallyport/internal/worker"
	"github.com/sallyport/sallyport/policy"
)

// BenchmarkDecision measures one decision of the engine by a policy whose organization
// allows 200 hosts, for steps that differ in port, step and time:
//
//	cached       the decision of an earlier request
//	first        the same for a step's first request
//	uncached     without the cache; "organization" for a repository without rules,
//	             "both" with a repository's rules, in this process
//	worker       without the cache, with a repository's rules in a worker
//	unique       with the cache, and another host for each request
//
// cpu-ns is the processor time of this process, without that of workers.
// SALLYPORT_REPOSITORIES is the number of repositories (500).
func BenchmarkDecision(b *testing.B) {
	repositories := 500
	if n, err := strconv.Atoi(os.Getenv("SALLYPORT_REPOSITORIES")); err == nil {
		repositories = n
	}
	pool := worker.New(worker.Config{})
	defer pool.Close()
	for _, form := range []string{"set", "patterns"} {
		tree := scale{repositories: repositories, patterns: form == "patterns"}.snapshot(b)
		load := func(w Workers) *Set {
			return mustLoadTree(b, tree, Options{Names: true, Deadline: time.Second, SkipTests: true, Prechecked: true, Workers: w})
		}
		local, remote := load(oneByOne()), load(pool)
		for _, c := range []struct {
			name       string
			set        *Set
			bytes      int64
			repository string
			change     func(r *policy.Request, i int)
		}{
			{"cached", remote, 64 << 20, "acme/r-7", nil},
			{"first", remote, 64 << 20, "acme/r-7", func(r *policy.Request, i int) {
				p := *r.Principal
				p.Step.UUID = "0f000000-0000-4000-8000-" + fmt.Sprintf("%012d", i)
				r.Principal = &p
			}},
			{"uncached/organization", remote, 0, "acme/none", nil},
			{"uncached/both", local, 0, "acme/r-7", nil},
			{"worker", remote, 0, "acme/r-7", nil},
			{"unique/on", remote, 1 << 20, "acme/none", uniqueHost},
			{"unique/off", remote, 0, "acme/none", uniqueHost},
		} {
			b.Run(c.name+"/"+form, func(b *testing.B) {
				e := &Engine{CacheBytes: c.bytes}
				e.Swap(c.set)
				r := requestFor(b, "repository="+c.repository, "to=api-75.partner.example:443")
				b.ReportAllocs()
				before := processorTime()
				for i := 0; b.Loop(); i++ {
					one := *r
					one.Time = r.Time.Add(time.Duration(i%1000) * time.Microsecond)
					if c.change != nil {
						c.change(&one, i)
					}
					if _, err := e.Decide(b.Context(), &one); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64((processorTime()-before).Nanoseconds())/float64(b.N), "cpu-ns/op")
			})
		}
	}
}

func uniqueHost(r *policy.Request, i int) {
	r.Target = destination.Target{Host: "h" + strconv.Itoa(i) + ".elsewhere.example", Port: 443}
}
