package audit

import (
	"fmt"
	"testing"
)

// BenchmarkVerifyAnchors verifies a log of a million leaves with checkpoints from
// outside the log, which are spread evenly over it.
func BenchmarkVerifyAnchors(b *testing.B) {
	const leaves = 1_000_000
	for _, anchors := range []int{0, 500, 50_000} {
		b.Run(fmt.Sprint(anchors), func(b *testing.B) {
			l := newLog(b)
			records := make([]Entry, leaves)
			var notes [][]byte
			for i := range records {
				if i < len(l.entries) {
					records[i] = l.entries[i]
				} else {
					records[i] = l.entry("a", decided(i))
					records[i].Index = int64(i)
					records[i].Hash = Leaf(records[i].Record)
					records[i].Columns = nil
					l.tree.Append(records[i].Hash)
				}
				if anchors > 0 && (i+1)%(leaves/anchors) == 0 {
					signed, err := l.signer.Sign(Checkpoint{Size: l.tree.Size(), Root: l.tree.Root(), Time: noon})
					if err != nil {
						b.Fatal(err)
					}
					notes = append(notes, signed)
				}
			}
			l.seal(b)
			b.ResetTimer()
			for range b.N {
				v, err := NewVerification(Trust{Keys: []Key{l.signer.Key()}, Notes: notes})
				if err != nil {
					b.Fatal(err)
				}
				for i := range records {
					v.Sealed(&records[i])
				}
				v.Checkpoint(l.checkpoints[0])
				if r := v.Report(); !r.Sound() || r.Anchored.Size == 0 && anchors > 0 {
					b.Fatal(r.Findings)
				}
			}
			b.ReportMetric(leaves*float64(b.N)/b.Elapsed().Seconds(), "events/s")
		})
	}
}
