package audit

import (
	"errors"
	"fmt"
	"math/bits"

	"golang.org/x/mod/sumdb/tlog"
)

// Hash is a hash of the log's Merkle tree: SHA-256.
type Hash = tlog.Hash

// Tree is a Merkle tree (RFC 6962 section 2.1) to which leaves are added at its
// end. It keeps the roots of the complete subtrees at its right edge and nothing
// else, so that it is small at any size. The zero Tree is empty. It is not safe
// for concurrent use.
type Tree struct {
	size     int64
	frontier []Hash // the largest subtree first: one for each bit that is set in size
}

// RestoreTree returns the tree of a size from its [Tree.Frontier].
// Only the root shows whether the frontier is that of a certain tree.
func RestoreTree(size int64, frontier []byte) (*Tree, error) {
	want := bits.OnesCount64(uint64(size)) * len(Hash{})
	if size < 0 || len(frontier) != want {
		return nil, fmt.Errorf("the frontier of a tree of %d leaves has %d bytes, not %d", size, want, len(frontier))
	}
	t := &Tree{size: size}
	for ; len(frontier) > 0; frontier = frontier[len(Hash{}):] {
		t.frontier = append(t.frontier, Hash(frontier[:len(Hash{})]))
	}
	return t, nil
}

// Append adds a leaf by its hash (see [Leaf]).
func (t *Tree) Append(leaf Hash) {
	t.frontier = append(t.frontier, leaf)
	for n := t.size; n&1 == 1; n >>= 1 {
		last := len(t.frontier) - 1
		t.frontier[last-1] = tlog.NodeHash(t.frontier[last-1], t.frontier[last])
		t.frontier = t.frontier[:last]
	}
	t.size++
}

// Size is the number of leaves.
func (t *Tree) Size() int64 { return t.size }

// Root is the tree's root hash; that of an empty tree is the hash of nothing.
func (t *Tree) Root() Hash {
	if t.size == 0 {
		root, _ := tlog.TreeHash(0, nil)
		return root
	}
	root := t.frontier[len(t.frontier)-1]
	for i := len(t.frontier) - 2; i >= 0; i-- {
		root = tlog.NodeHash(t.frontier[i], root)
	}
	return root
}

// Frontier is what [RestoreTree] takes.
func (t *Tree) Frontier() []byte {
	var b []byte
	for _, h := range t.frontier {
		b = append(b, h[:]...)
	}
	return b
}

// Part is the tree of the leaves from one index to before another, of which no
// more is known than the frontier of t: both have to be where subtrees of the frontier begin
// or end, and the later ones must be the smaller, as they are in a tree.
func (t *Tree) Part(from, to int64) (*Tree, error) {
	part := &Tree{size: to - from}
	at := int64(0)
	i := 0
	for n := t.size; n > 0; i++ {
		length := int64(1) << (bits.Len64(uint64(n)) - 1)
		if at >= from && at+length <= to {
			part.frontier = append(part.frontier, t.frontier[i])
		}
		at, n = at+length, n-length
	}
	if from < 0 || from > to || to > t.size || len(part.frontier) != bits.OnesCount64(uint64(part.size)) {
		return nil, fmt.Errorf("the frontier of a tree of %d leaves does not have the leaves %d to %d", t.size, from, to-1)
	}
	return part, nil
}

// Subtree returns the root of the complete subtree of 2^level leaves that begins
// at leaf index<<level. A leaf is a subtree of level 0. Who makes proofs
// implements it on what it keeps of the tree.
type Subtree func(level int, index int64) (Hash, error)

func (s Subtree) reader() tlog.HashReader {
	return tlog.HashReaderFunc(func(stored []int64) ([]Hash, error) {
		hashes := make([]Hash, len(stored))
		for i, at := range stored {
			var err error
			if hashes[i], err = s(tlog.SplitStoredHashIndex(at)); err != nil {
				return nil, err
			}
		}
		return hashes, nil
	})
}

// errProof is the only error of a proof that does not hold.
var errProof = errors.New("the proof does not hold")

// ProveInclusion proves that a leaf is in the tree of a size (RFC 6962 section
// 2.1.1).
func ProveInclusion(size, index int64, s Subtree) ([]Hash, error) {
	proof, err := tlog.ProveRecord(size, index, s.reader())
	if err != nil {
		return nil, fmt.Errorf("prove that leaf %d is in the tree of %d: %w", index, size, err)
	}
	return proof, nil
}

// CheckInclusion returns nil if and only if the proof shows that the leaf has
// this hash in the tree of this size and root.
func CheckInclusion(proof []Hash, size int64, root Hash, index int64, leaf Hash) error {
	if err := tlog.CheckRecord(proof, size, root, index, leaf); err != nil {
		return fmt.Errorf("leaf %d in the tree of %d: %w", index, size, errProof)
	}
	return nil
}

// ProveConsistency proves that the tree of size old is the beginning of that of
// size (RFC 6962 section 2.1.2).
func ProveConsistency(size, old int64, s Subtree) ([]Hash, error) {
	proof, err := tlog.ProveTree(size, old, s.reader())
	if err != nil {
		return nil, fmt.Errorf("prove that the tree of %d extends that of %d: %w", size, old, err)
	}
	return proof, nil
}

// CheckConsistency returns nil if and only if the proof shows that the tree with
// the old size and root is the beginning of the other.
func CheckConsistency(proof []Hash, size int64, root Hash, old int64, oldRoot Hash) error {
	if err := tlog.CheckTree(proof, size, root, old, oldRoot); err != nil {
		return fmt.Errorf("the tree of %d as the beginning of that of %d: %w", old, size, errProof)
	}
	return nil
}
