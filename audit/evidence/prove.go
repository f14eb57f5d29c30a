package evidence

import (
	"bufio"
	"fmt"
	"io"
	"maps"
	"math/bits"
	"os"
	"slices"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/sallyport/sallyport/audit"
)

// keptLevel is the level of the smallest subtrees whose roots a prover keeps in
// memory: 64 bytes for 256 leaves. Of what is below it reads the leaves again.
const keptLevel = 8

// prover keeps, while the leaves go by once, what proofs consist of. Which leaves are
// to be proven is known afterwards. It is used by one goroutine.
type prover struct {
	size     int64
	hashes   *os.File // of all leaves, in their order
	out      *bufio.Writer
	nodes    [][]audit.Hash // roots of complete subtrees, by level above keptLevel
	frontier []audit.Hash   // roots of the complete subtrees, the largest first
	next     int64
	whole    bool                 // no leaf was left out
	roots    map[int64]audit.Hash // of the sizes that are expected; zero until it is there
	err      error
}

// newProver makes a prover for a tree of a size. The file is scratch.
func newProver(size int64, scratch *os.File) *prover {
	return &prover{size: size, hashes: scratch, out: bufio.NewWriterSize(scratch, 1<<16), whole: true, roots: make(map[int64]audit.Hash)}
}

// add takes the hash of the next leaf.
func (p *prover) add(index int64, hash audit.Hash) {
	if index != p.next {
		p.whole = false
		return
	}
	p.next++
	if _, err := p.out.Write(hash[:]); err != nil && p.err == nil {
		p.err = fmt.Errorf("keep the leaves: %w", err)
	}
	p.frontier = append(p.frontier, hash)
	for level := range bits.TrailingZeros64(uint64(p.next)) {
		last := len(p.frontier) - 1
		p.frontier[last-1] = tlog.NodeHash(p.frontier[last-1], p.frontier[last])
		p.frontier = p.frontier[:last]
		if kept := level + 1 - keptLevel; kept >= 0 {
			if kept == len(p.nodes) {
				p.nodes = append(p.nodes, nil)
			}
			p.nodes[kept] = append(p.nodes[kept], p.frontier[last-1])
		}
	}
	p.noteRoot()
}

// expect asks for the proof that the tree of a smaller size is the beginning of this
// one. It is called before the first leaf.
func (p *prover) expect(old int64) error {
	if old < 1 || old > p.size {
		return fmt.Errorf("prove older checkpoints: a tree of %d leaves has no beginning of %d", p.size, old)
	}
	p.roots[old] = audit.Hash{}
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
		hashes, err := audit.ProveConsistency(p.size, old, p.subtree)
		if err != nil {
			return nil
		}
		list = append(list, &audit.Consistency{
			From: audit.TreeHead{Size: old, Root: p.roots[old]}, To: audit.TreeHead{Size: p.size, Root: p.roots[p.size]}, Hashes: hashes,
		})
	}
	return list
}

// finish ends the leaves.
func (p *prover) finish() error {
	if err := p.out.Flush(); err != nil && p.err == nil {
		p.err = fmt.Errorf("keep the leaves: %w", err)
	}
	return p.err
}

// subtree is the root of 2^level leaves.
func (p *prover) subtree(level int, index int64) (audit.Hash, error) {
	if level >= keptLevel {
		return p.nodes[level-keptLevel][index], nil
	}
	if err := p.out.Flush(); err != nil {
		return audit.Hash{}, err
	}
	var hash audit.Hash
	var tree audit.Tree
	from := io.NewSectionReader(p.hashes, index<<level*int64(len(hash)), int64(len(hash))<<level)
	for range 1 << level {
		if _, err := io.ReadFull(from, hash[:]); err != nil {
			return hash, err
		}
		tree.Append(hash)
	}
	return tree.Root(), nil
}

// proof is that of a leaf. Of a tree that has gaps there is none.
func (p *prover) proof(leaf int64) []audit.Hash {
	if !p.whole || p.next != p.size {
		return nil
	}
	hashes, err := audit.ProveInclusion(p.size, leaf, p.subtree)
	if err != nil {
		return nil
	}
	return hashes
}
