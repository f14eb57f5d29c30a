package evidence

import (
	"fmt"
	"maps"
	"math/bits"
	"slices"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/sallyport/sallyport/audit"
)

// node is the root of a complete subtree: 2^level leaves from index<<level on.
type node struct {
	level int
	index int64
}

// prover gathers, while the leaves go by once, what the proofs of some of them
// consist of: a proof for each leaf by itself would read the whole log for each.
type prover struct {
	size     int64
	found    map[node]audit.Hash // what is wanted; zero until it is there
	frontier []audit.Hash        // roots of the complete subtrees, the largest first
	next     int64
	whole    bool                 // no leaf was left out
	roots    map[int64]audit.Hash // of the sizes that are expected; zero until it is there
}

func newProver(size int64, leaves []int64) (*prover, error) {
	p := &prover{size: size, found: make(map[node]audit.Hash), whole: true, roots: make(map[int64]audit.Hash)}
	for _, leaf := range leaves {
		// What ProveInclusion asks for is what it needs.
		if _, err := audit.ProveInclusion(size, leaf, func(level int, index int64) (audit.Hash, error) {
			p.found[node{level, index}] = audit.Hash{}
			return audit.Hash{}, nil
		}); err != nil {
			return nil, fmt.Errorf("prove the sample: %w", err)
		}
	}
	return p, nil
}

// add takes the hash of the next leaf.
func (p *prover) add(index int64, hash audit.Hash) {
	if index != p.next {
		p.whole = false
		return
	}
	p.next++
	p.frontier = append(p.frontier, hash)
	p.note(node{0, index}, hash)
	for level := range bits.TrailingZeros64(uint64(p.next)) {
		last := len(p.frontier) - 1
		p.frontier[last-1] = tlog.NodeHash(p.frontier[last-1], p.frontier[last])
		p.frontier = p.frontier[:last]
		p.note(node{level + 1, index >> (level + 1)}, p.frontier[last-1])
	}
	p.noteRoot()
}

func (p *prover) note(at node, hash audit.Hash) {
	if _, wanted := p.found[at]; wanted {
		p.found[at] = hash
	}
}

// expect gathers what the proof consists of that the tree of a smaller size is the
// beginning of this one. It is called before the first leaf.
func (p *prover) expect(old int64) error {
	p.roots[old] = audit.Hash{}
	if _, err := audit.ProveConsistency(p.size, old, func(level int, index int64) (audit.Hash, error) {
		p.found[node{level, index}] = audit.Hash{}
		return audit.Hash{}, nil
	}); err != nil {
		return fmt.Errorf("prove older checkpoints: %w", err)
	}
	return nil
}

func (p *prover) noteRoot() {
	if _, wanted := p.roots[p.next]; wanted || p.next == p.size {
		p.roots[p.next] = p.root()
	}
}

// root is that of the leaves so far.
func (p *prover) root() audit.Hash {
	root := p.frontier[len(p.frontier)-1]
	for i := len(p.frontier) - 2; i >= 0; i-- {
		root = tlog.NodeHash(p.frontier[i], root)
	}
	return root
}

// consistencies are the proofs for the sizes that were expected, ascending. Of a
// tree that has gaps there are none.
func (p *prover) consistencies() []*audit.Consistency {
	if !p.whole || p.next != p.size {
		return nil
	}
	var list []*audit.Consistency
	for _, old := range slices.Sorted(maps.Keys(p.roots)) {
		if old == p.size {
			continue
		}
		hashes, err := audit.ProveConsistency(p.size, old, func(level int, index int64) (audit.Hash, error) {
			return p.found[node{level, index}], nil
		})
		if err != nil {
			return nil
		}
		list = append(list, &audit.Consistency{
			From: audit.TreeHead{Size: old, Root: p.roots[old]}, To: audit.TreeHead{Size: p.size, Root: p.roots[p.size]}, Hashes: hashes,
		})
	}
	return list
}

// proof is that of a leaf. Of a tree that has gaps there is none.
func (p *prover) proof(leaf int64) []audit.Hash {
	if !p.whole || p.next != p.size {
		return nil
	}
	hashes, err := audit.ProveInclusion(p.size, leaf, func(level int, index int64) (audit.Hash, error) {
		return p.found[node{level, index}], nil
	})
	if err != nil {
		return nil
	}
	return hashes
}
