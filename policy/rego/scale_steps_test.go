package rego

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"
)

// stepCounter counts the steps of an evaluation: a measure that does not depend on the
// load of the machine.
type stepCounter struct{ steps, rules int }

func (*stepCounter) Enabled() bool               { return true }
func (*stepCounter) Config() topdown.TraceConfig { return topdown.TraceConfig{} }
func (c *stepCounter) TraceEvent(e topdown.Event) {
	c.steps++
	if _, ok := e.Node.(*ast.Rule); ok && e.Op == topdown.EnterOp {
		c.rules++
	}
}

// countSteps is what a set does for a request.
func countSteps(t testing.TB, set *Set, words ...string) (c stepCounter) {
	t.Helper()
	d, err := set.Decide(t.Context(), requestFor(t, words...))
	if err != nil {
		t.Fatal(err)
	}
	in, err := recordedInput(d.Input, set.loader.options.Names)
	if err != nil {
		t.Fatal(err)
	}
	var own *program
	if u := set.units[in.repository]; u != nil {
		programs, err := set.loader.fork().compileUnit(u) // as a worker does
		if err != nil {
			t.Fatal(err)
		}
		own = programs.egress
	}
	for _, p := range []*program{set.organization, own} {
		if p == nil {
			continue
		}
		if _, err := p.run(t.Context(), in, 10*time.Second, &c); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

// TestOneCostsTheSameAmongMany: a decision takes as many steps among many
// repositories as among few, with 200 hosts in either form.
func TestOneCostsTheSameAmongMany(t *testing.T) {
	for _, patterns := range []bool{false, true} {
		few := mustLoadTree(t, scale{repositories: 20, patterns: patterns}.snapshot(t), patient)
		many := mustLoadTree(t, scale{repositories: 60, patterns: patterns}.snapshot(t), Options{Names: true, Deadline: patient.Deadline, Previous: few})
		if many.Inspected() != 41 {
			t.Errorf("%d were checked, and 40 are new", many.Inspected())
		}
		for _, repository := range []string{"acme/r-7", "acme/r-9", "acme/r-10", "acme/none"} {
			for _, to := range []string{"api-75.partner.example:443", "x.zone-25.example:443", "sandbox-7.partner.example:443", "nowhere.at.all.example:8443"} {
				words := []string{"repository=" + repository, "to=" + to, "deployment=production"}
				if a, b := countSteps(t, few, words...), countSteps(t, many, words...); a != b || a.steps > 200 {
					t.Errorf("%v: %+v among few, and %+v among many", words, a, b)
				}
			}
		}
	}
}

// TestMemoryFollowsUse: a repository without requests needs little more memory than its
// text, and the number of compiled policies is bounded.
func TestMemoryFollowsUse(t *testing.T) {
	if inOwnProcess(t) {
		return
	}
	const n = 120
	held := func() int64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.GC()
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	tree := scale{repositories: n}.snapshot(t)
	mustLoadTree(t, tree, patient) // what is made once, and buffers of this size
	before := held()
	set := mustLoadTree(t, tree, patient)
	loaded := held()
	if each := (loaded - before) / n; each > 4<<10 {
		t.Errorf("a repository that nobody asks about takes %d bytes", each)
	}
	for i := range n {
		if _, err := set.Decide(t.Context(), requestFor(t, fmt.Sprintf("repository=acme/r-%d", i))); err != nil {
			t.Fatal(err)
		}
	}
	if each := (held() - loaded) / n; each > 150<<10 {
		t.Errorf("one that was asked about takes %d bytes", each)
	}
	if kept := len(set.programs.keys()); kept != n {
		t.Errorf("%d are kept", kept)
	}
	runtime.KeepAlive(tree)
}

// TestOneFaultAmongManyIsFound: the fault is reported with its file and line, and nothing
// else is.
func TestOneFaultAmongManyIsFound(t *testing.T) {
	good := scale{repositories: 120}
	set := mustLoadTree(t, good.snapshot(t), patient)
	bad := good
	bad.broken = 117
	for name, previous := range map[string]*Set{"afresh": nil, "after a good one": set} {
		_, err := Load(t.Context(), bad.snapshot(t), Options{Names: true, Previous: previous})
		errs, ok := errors.AsType[Errors](err)
		if !ok || len(errs) != 1 || errs[0].File != "repositories/acme/r-117/egress.rego" || errs[0].Line != 21 || !strings.Contains(errs[0].Hint, "input.target.host") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestReloadLeavesAProcessor: loading leaves one processor to decisions.
func TestReloadLeavesAProcessor(t *testing.T) {
	procs := runtime.GOMAXPROCS(4)
	defer runtime.GOMAXPROCS(procs)
	for beside, want := range map[bool]int64{false: 4, true: 3} {
		l := newLoader(nil, Options{SpareProcessor: beside})
		var now, most atomic.Int64
		arrived := make(chan struct{}, 4)
		release := make(chan struct{})
		go func() {
			for range want {
				<-arrived
			}
			close(release)
		}()
		err := l.each(t.Context(), 100, func(i int) {
			if n := now.Add(1); n > most.Load() {
				most.Store(n)
			}
			if i < int(want) {
				arrived <- struct{}{}
			}
			<-release
			now.Add(-1)
		})
		if err != nil || most.Load() != want {
			t.Errorf("beside other work %v: %d at a time, want %d (%v)", beside, most.Load(), want, err)
		}
	}
}
