package audit

import (
	"fmt"
	"slices"
	"testing"
)

// A proof needs of what lies before a checkpoint nothing but its frontier: for every
// leaf, and every two sizes on either side of it.
func TestProofFromAnEdge(t *testing.T) {
	const most = 70
	var leaves []Hash
	var trees [most + 1]Tree
	for n := range most {
		trees[n+1].frontier = slices.Clone(trees[n].frontier)
		trees[n+1].size = trees[n].size
		leaves = append(leaves, Leaf(fmt.Appendf(nil, "event %d", n)))
		trees[n+1].Append(leaves[n])
	}
	for size := int64(1); size <= most; size++ {
		for index := range size {
			for before := int64(0); before <= index; before++ {
				subtree := func(level int, at int64) (Hash, error) {
					from, to := at<<level, (at+1)<<level
					tree := new(Tree)
					if from < before {
						var err error
						if tree, err = trees[before].Part(from, min(to, before)); err != nil {
							return Hash{}, err
						}
					}
					for i := max(from, before); i < to; i++ {
						tree.Append(leaves[i])
					}
					return tree.Root(), nil
				}
				proof, err := ProveInclusion(size, index, subtree)
				if err != nil {
					t.Fatalf("leaf %d of %d behind %d: %v", index, size, before, err)
				}
				if err := CheckInclusion(proof, size, trees[size].Root(), index, leaves[index]); err != nil {
					t.Fatalf("behind %d: %v", before, err)
				}
			}
		}
	}
	for _, c := range [][2]int64{{-1, 4}, {1, 4}, {0, 3}, {0, 8}, {4, 2}, {6, 8}} {
		if part, err := trees[7].Part(c[0], c[1]); err == nil {
			t.Errorf("the frontier of 7 leaves tells of %v: %+v", c, part)
		}
	}
}
