package rego

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sallyport/sallyport/policy"
)

// BenchmarkScale measures policies of 50, 500 and 50,000 repositories whose
// organization allows 200 hosts, as a set and as the library's patterns: what one
// decision costs, what loading costs with nothing known, with what the process
// before has found, and after one file has changed, and the memory of it. Times
// are of the wall; cpu-ms is what the process took meanwhile.
//
//	go test -run '^$' -bench Scale -benchtime 1000x -timeout 30m ./policy/rego
func BenchmarkScale(b *testing.B) {
	for _, n := range []int{50, 500, 50_000} {
		for _, patterns := range []bool{false, true} {
			form := "set"
			if patterns {
				form = "patterns"
			}
			b.Run(fmt.Sprintf("%d/%s", n, form), func(b *testing.B) { benchmarkScale(b, scale{repositories: n, patterns: patterns}) })
		}
	}
}

func benchmarkScale(b *testing.B, s scale) {
	tree := s.snapshot(b)
	options := Options{Names: true, Deadline: time.Second}
	empty := heapInUse()
	resetPeak()
	var set *Set
	once(b, "load", func(b *testing.B) { set = mustLoadTree(b, tree, options) }, func(m map[string]float64) {
		m["MiB-peak"], m["MiB-set"] = peak(), heapInUse()-empty
	})
	if set == nil {
		return // another part was chosen
	}
	content, findings := set.Snapshot().Content(), set.Findings()
	once(b, "start-again", func(b *testing.B) {
		kept, err := policy.ParseContent(content, "")
		if err != nil {
			b.Fatal(err)
		}
		again := options
		if again.Previous, err = Resume(b.Context(), kept, findings, options); err != nil {
			b.Fatal(err)
		}
		mustLoadTree(b, tree, again)
	}, nil)
	content, findings = nil, nil
	options.Previous, options.SpareProcessor = set, true
	for name, changed := range map[string]scale{
		"reload-one-repository": {own: map[int]string{7: "# changed\n"}},
		"reload-one-document":   {documents: map[int]string{10: "  - more.example\n"}},
		"reload-organization":   {organization: "# changed\n"},
	} {
		changed.repositories, changed.patterns = s.repositories, s.patterns
		next := changed.snapshot(b)
		once(b, name, func(b *testing.B) { mustLoadTree(b, next, options) }, nil)
	}
	b.Run("first-decision", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			b.StopTimer()
			set.programs = newLRU[string, *lazyProgram](maxPrograms)
			r := requestFor(b, fmt.Sprintf("repository=acme/r-%d", i%s.repositories), "to=api-75.partner.example:443")
			b.StartTimer()
			if _, err := set.Decide(b.Context(), r); err != nil {
				b.Fatal(err)
			}
		}
	})
	for _, to := range []string{"api-75.partner.example:443", "x.zone-25.example:443", "nowhere.at.all.example:443"} {
		b.Run("decision/"+to, func(b *testing.B) {
			r := requestFor(b, "repository=acme/r-7", "to="+to)
			b.ReportAllocs()
			before := processorTime()
			for b.Loop() {
				if _, err := set.Decide(b.Context(), r); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64((processorTime()-before).Nanoseconds())/float64(b.N), "cpu-ns/op")
		})
	}
	for _, used := range []int{100, 1024} {
		if used > s.repositories {
			continue
		}
		set.programs = newLRU[string, *lazyProgram](maxPrograms)
		before := heapInUse()
		once(b, fmt.Sprintf("in-use/%d", used), func(b *testing.B) {
			for i := range used {
				if _, err := set.Decide(b.Context(), requestFor(b, fmt.Sprintf("repository=acme/r-%d", i))); err != nil {
					b.Fatal(err)
				}
			}
		}, func(m map[string]float64) { m["MiB-more"] = heapInUse() - before })
	}
	runtime.KeepAlive(tree)
}

// once measures one run, however often benchmarks are repeated: what it measures
// takes long, and does not vary much. more adds what is to be reported besides.
func once(b *testing.B, name string, f func(*testing.B), more func(map[string]float64)) {
	measured := map[string]float64{}
	b.Run(name, func(b *testing.B) {
		if len(measured) == 0 {
			before, start := processorTime(), time.Now()
			f(b)
			measured["ms"] = float64(time.Since(start).Microseconds()) / 1000
			measured["cpu-ms"] = float64((processorTime() - before).Microseconds()) / 1000
			if more != nil {
				more(measured)
			}
		}
		b.ReportMetric(0, "ns/op")
		for unit, value := range measured {
			b.ReportMetric(value, unit)
		}
	})
}

func processorTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func heapInUse() float64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc) / (1 << 20)
}

// resetPeak and peak are of the resident memory, where the system reports it.
func resetPeak() { _ = os.WriteFile("/proc/self/clear_refs", []byte("5"), 0) }

func peak() float64 {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	_, after, _ := strings.Cut(string(status), "VmHWM:")
	var kilobytes float64
	if _, err := fmt.Sscan(after, &kilobytes); err != nil {
		return 0
	}
	return kilobytes / 1024
}
