package forwarder

import (
	"cmp"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/sallyport/sallyport/step/upstream"
)

// Bounds of the report.
const (
	maxTargets  = 2000
	maxRefusals = 1000
	maxPeers    = 50 // users and addresses that are not admitted; further ones are counted only
	// maxListedTarget bounds the targets in the lists, in bytes: no host:port is longer, and
	// URLs are shortened to it. A report has less than 24 MiB as JSON.
	maxListedTarget = 300
)

// Report is what the forwarder has served so far.
type Report struct {
	Since    time.Time
	Allowed  int // tunnels and requests that Sallyport passed on
	Denied   int // without repeats
	Repeats  int // refusals that were given again for a remembered denial
	Rejected int // connections over Config.MaxConnections
	Targets  []Target
	Refusals []Refusal // in the order of time
	// Omitted counts the targets and refusals that are not listed, because a list is full.
	Omitted int
}

// Target is what was requested of one target. Its name is the tool's spelling.
type Target struct {
	Name          string // host:port
	Allowed       int
	Denied        int   // with repeats
	Aborted       int   // tunnels that ended by an error
	BytesSent     int64 // by the tools, in tunnels
	BytesReceived int64
	LastReason    string // of the latest refusal
}

// statistics counts what the forwarder serves. Its memory is bounded.
type statistics struct {
	mu       sync.Mutex
	total    Report
	targets  map[string]*Target
	refusals map[refusalKey]int // index in total.Refusals
	peers    int                // listed refusals of connections
}

// refusalKey identifies refusals that are listed once.
type refusalKey struct{ method, target, reason, decision string }

// listed returns a refusal whose texts are shortened to the bounds of the report.
func (r Refusal) listed() Refusal {
	for _, name := range []*string{&r.Method, &r.Reason, &r.Rule, &r.DecisionID, &r.RetryAfter} {
		*name = shortened(*name, maxShownName)
	}
	r.Target = shortened(r.Target, maxListedTarget)
	r.Message, r.Next = shortened(r.Message, maxShownText), shortened(r.Next, maxShownText)
	return r
}

func shortened(s string, limit int) string { return s[:min(len(s), limit)] }

// key identifies a refusal that listed has shortened.
func (r Refusal) key() refusalKey {
	k := refusalKey{r.Method, r.Target, r.Reason, r.DecisionID}
	if r.Action == actionConnection {
		k.decision = r.Message
	}
	return k
}

func newStatistics() *statistics {
	return &statistics{total: Report{Since: time.Now()}, targets: make(map[string]*Target), refusals: make(map[refusalKey]int)}
}

// target returns the counts of a target; a shared one where the list is full. s.mu is held.
func (s *statistics) target(name string) *Target {
	t := s.targets[name]
	if t == nil {
		t = &Target{Name: name}
		if len(s.targets) >= maxTargets || len(name) > maxListedTarget {
			s.total.Omitted++
			return t
		}
		s.targets[name] = t
	}
	return t
}

func (s *statistics) allowed(target string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.total.Allowed++
	s.target(target).Allowed++
}

func (s *statistics) closed(target string, sent, received int64, aborted bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.target(target)
	t.BytesSent += sent
	t.BytesReceived += received
	if aborted {
		t.Aborted++
	}
}

// refused counts a refusal, and reports whether it is the first of its kind. Sallyport
// counts repeats under the decision id of the first; a refused connection is repeated by
// the same peer for the same cause.
func (s *statistics) refused(r Refusal) (first bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.Action != actionConnection {
		t := s.target(hostOf(r.Target))
		t.Denied++
		t.LastReason = shortened(r.Reason, maxShownName)
	}
	r = r.listed()
	key := r.key()
	if i, listed := s.refusals[key]; listed && key.decision != "" {
		s.total.Refusals[i].Repeats++
		s.total.Repeats++
		return false
	}
	s.total.Denied++
	if r.Action == actionConnection {
		if s.peers++; s.peers > maxPeers {
			s.total.Omitted++
			return false // another user must not fill the build log
		}
	}
	if len(s.total.Refusals) >= maxRefusals {
		s.total.Omitted++
		return true
	}
	s.refusals[key] = len(s.total.Refusals)
	s.total.Refusals = append(s.total.Refusals, r)
	return true
}

// repeated counts a refusal that was given again without asking Sallyport.
func (s *statistics) repeated(method, target, host string, reason, decision string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.total.Repeats++
	s.target(host).Denied++
	again := Refusal{Method: method, Target: target, Refusal: upstream.Refusal{Reason: reason, DecisionID: decision}}
	if i, listed := s.refusals[again.listed().key()]; listed {
		s.total.Refusals[i].Repeats++
	}
}

func (s *statistics) overLimit() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.total.Rejected++
}

func (s *statistics) report() Report {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.total
	r.Refusals = slices.Clone(r.Refusals)
	r.Targets = make([]Target, 0, len(s.targets))
	for t := range maps.Values(s.targets) {
		r.Targets = append(r.Targets, *t)
	}
	slices.SortFunc(r.Targets, func(a, b Target) int { return cmp.Compare(a.Name, b.Name) })
	return r
}
