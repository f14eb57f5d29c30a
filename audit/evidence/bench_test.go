package evidence

import (
	"bytes"
	"context"
	"fmt"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/audit/evidence/pack"
)

// generated is a log of many decisions that is in no memory: each with its end,
// every one to another host, as an attacker would have it.
type generated struct {
	*memory
	decisions int64
}

// policyInput is the input of a decision in the form of package policy/rego. A record
// has only the parts of it that no other field has.
func policyInput(e *audit.Event) []byte {
	return fmt.Appendf(nil, `{"principal":{"kind":"pipeline_step","workspace":{"uuid":%q,"slug":%q},"repository":{"uuid":%q,"full_name":%q},`+
		`"deployment":{"uuid":%q,"slug":%q,"type":%q},"pipeline":{"uuid":""},"step":{"uuid":""},"branch":%q},`+
		`"action":"connect","target":{"scheme":"https","host":%q,"port":443},"client":{"address":""},"time":%q}`,
		e.WorkspaceUUID, e.Workspace, e.RepositoryUUID, e.Repository, e.DeploymentUUID, e.Deployment, e.DeploymentType, e.Branch, e.Host, e.Time.Format("2006-01-02T15:04:05.999999Z"))
}

// record is that of a leaf: decisions are even, their ends odd.
func (g *generated) record(leaf int64) []byte {
	n := leaf / 2
	when := at(2, 0).Add(time.Duration(n) * time.Millisecond)
	var e *audit.Event
	if leaf%2 == 0 {
		e = decisionEvent(int(n), when, "allow", "policy_allowed", fmt.Sprintf("host-%d.example", n))
		e.Message = "a message that is as long as messages of policies are"
		e.Input = policyInput(e)
	} else {
		e = endEvent(int(n), when.Add(time.Millisecond), n, n)
	}
	e.Writer, e.WriterSequence = "w", leaf+1
	e.Normalise()
	record := e.AppendRecord(nil)
	if leaf == 0 && !bytes.Contains(record, []byte(`,"input_parts":{`)) {
		g.t.Fatalf("the record has its whole input, unlike those of a server: %s", record)
	}
	return record
}

func newGenerated(t testing.TB, decisions int64) *generated {
	g := &generated{newMemory(t), decisions}
	for leaf := range 2 * decisions {
		g.tree.Append(audit.Leaf(g.record(leaf)))
	}
	g.seal(at(28, 0))
	return g
}

func (g *generated) Cover(context.Context, time.Time, time.Time) (pack.Cover, error) {
	return pack.Cover{Events: 2 * g.decisions, Last: 2*g.decisions - 1}, nil
}

func (g *generated) Count(context.Context, pack.Selection) (int64, error) { return g.decisions, nil }

func (g *generated) Walk(_ context.Context, size int64, sink pack.Sink, _ func(int64)) error {
	for leaf := range size {
		record := g.record(leaf)
		sink.Sealed(&audit.Entry{Index: leaf, Writer: "w", Sequence: leaf + 1, Hash: audit.Leaf(record), Record: record})
	}
	sink.Checkpoint(g.notes[0])
	return nil
}

// BenchmarkPack makes and checks a pack: decisions/s is the figure, and MB the
// most that the heap had in use, which does not grow with the number of decisions.
func BenchmarkPack(b *testing.B) {
	for _, decisions := range []int64{100_000, 1_000_000} {
		b.Run(fmt.Sprint(decisions), func(b *testing.B) {
			g := newGenerated(b, decisions)
			most := watchHeap(b)
			b.ResetTimer()
			for b.Loop() {
				dir := filepath.Join(b.TempDir(), "pack")
				built, err := Build(b.Context(), g, dir, options(b))
				if err != nil || built.Manifest.Population != decisions {
					b.Fatal(err)
				}
				if c, err := Check(b.Context(), dir, CheckOptions{Tool: "test"}); err != nil || len(c.Findings) > 0 {
					b.Fatalf("%v: %+v", err, c)
				}
			}
			b.ReportMetric(float64(decisions*int64(b.N))/b.Elapsed().Seconds(), "decisions/s")
			b.ReportMetric(float64(most.Load())/1e6, "MB")
		})
	}
}

// watchHeap samples the heap until the benchmark ends.
func watchHeap(b *testing.B) *atomic.Uint64 {
	var most atomic.Uint64
	done := make(chan struct{})
	b.Cleanup(func() { close(done) })
	go func() {
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				var m runtime.MemStats
				runtime.ReadMemStats(&m)
				most.Store(max(most.Load(), m.HeapInuse))
			}
		}
	}()
	return &most
}
