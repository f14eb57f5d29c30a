package rego

import (
	"fmt"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sallyport/sallyport/policy"
)

// TestReloadsUnderLoad: during many reloads, the input of every decision, evaluated again
// by the recorded content of its revision, gives the same decision. SALLYPORT_RELOADS is
// the number of reloads; `make soak` sets a thousand and more.
func TestReloadsUnderLoad(t *testing.T) {
	reloads := 20
	if n, err := strconv.Atoi(os.Getenv("SALLYPORT_RELOADS")); err == nil {
		reloads = n
	}
	const repositories = 4
	text := func(n int) string {
		files := fmt.Sprintf("-- egress/a.rego --\npackage sallyport.egress\n\nallow contains {\"rule\": \"org-%d\", \"message\": data.word} if input.target.port %% %d == 0\n\ndelegate contains {\"rule\": \"d\"}\n\ndeny contains {\"rule\": \"no\"} if input.target.port == %d\n-- data/x.yaml --\nword: w%d\n", n, 2+n%5, 1+n, n%7)
		for r := range repositories {
			files += fmt.Sprintf("-- repositories/acme/r%d/a.rego --\npackage sallyport.repository[\"acme/r%d\"]\n\nallow contains {\"rule\": \"own-%d\"} if input.target.port > %d\n", r, r, (n+r)%3, 100*((n+r)%3))
		}
		return files
	}
	type made struct {
		decision policy.Decision
		said     string
	}
	engine := Engine{CacheBytes: 1 << 20}
	var stop atomic.Bool
	var group sync.WaitGroup
	contents := map[string][]byte{}
	take := func(n int, previous *Set) *Set {
		set, err := Load(t.Context(), snapshot(t, text(n)), Options{Names: true, Deadline: 10 * time.Second, Previous: previous})
		if err != nil {
			t.Fatal(err)
		}
		if err := engine.Prepare(t.Context(), set); err != nil {
			t.Fatal(err)
		}
		contents[set.Revision().Digest] = set.Snapshot().Content()
		engine.Swap(set)
		return set
	}
	set := take(0, nil)
	kept := make([][]made, 2)
	for worker := range kept {
		group.Go(func() {
			for i := 0; !stop.Load(); i++ {
				r := requestFor(t, fmt.Sprintf("repository=acme/r%d", (i+worker)%repositories), fmt.Sprintf("to=h%d.example:%d", i%3, 1+i%500))
				d, err := engine.Decide(t.Context(), r)
				if err != nil {
					t.Error(err)
					return
				}
				if i%50 == 0 {
					kept[worker] = append(kept[worker], made{d, described(d, nil)})
				}
			}
		})
	}
	for n := 1; n <= reloads && !t.Failed(); n++ {
		set = take(n, set)
	}
	stop.Store(true)
	group.Wait()

	sets := map[string]*Set{}
	replayed := 0
	for _, list := range kept {
		for _, m := range list {
			digest := m.decision.Revision.Digest
			if sets[digest] == nil {
				content := contents[digest]
				if content == nil {
					t.Fatalf("a decision names the revision %q, which never decided", digest)
				}
				s, err := policy.ParseContent(content, "")
				if err != nil {
					t.Fatal(err)
				}
				if sets[digest], err = Load(t.Context(), s, Options{Names: true, Recorded: true, SkipTests: true, Deadline: 10 * time.Second}); err != nil {
					t.Fatal(err)
				}
			}
			again, err := sets[digest].Replay(t.Context(), m.decision.Input)
			if got := described(again, err); got != m.said {
				t.Fatalf("%s said %s, and now %s", digest, m.said, got)
			}
			replayed++
		}
	}
	t.Logf("%d reloads, %d decisions of %d revisions evaluated again", reloads, replayed, len(sets))
	if replayed == 0 {
		t.Error("no decision was evaluated again")
	}
}
