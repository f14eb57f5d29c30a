package audit

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// Trust is the input of a verification from outside the log.
type Trust struct {
	// Keys are public keys of the log, old or new.
	Keys []Key
	// Notes are checkpoints of the log that were kept elsewhere.
	Notes [][]byte
	// Sources has where each of Notes was read, as FILE:LINE, for warnings. It may
	// be shorter than Notes.
	Sources []string
	// MaxLateness is how late an event may be sealed and not be listed; 0 is
	// [DefaultMaxLateness].
	MaxLateness time.Duration
	// MaxSilence is how far apart two checkpoints may be signed and not be listed; 0
	// is [DefaultMaxSilence].
	MaxSilence time.Duration
}

// Source is where a note was read.
func (t *Trust) Source(note int) string {
	if note < len(t.Sources) {
		return t.Sources[note]
	}
	return fmt.Sprintf("checkpoint %d from outside", note+1)
}

// anchor is a checkpoint from outside the log.
type anchor struct {
	Checkpoint
	signed  []byte
	source  string
	held    bool // the tree has its root
	differs bool // the tree has another root, and no known key signed it so far
}

// anchors are compared with the tree as it grows: one comparison for each, however
// many leaves there are.
type anchors struct {
	list []anchor // ascending by size
	next int      // the first that is larger than the tree
}

func newAnchors(trust Trust) (anchors, error) {
	var a anchors
	for i, signed := range trust.Notes {
		c, err := ReadCheckpoint(signed)
		if err != nil {
			return anchors{}, fmt.Errorf("%s: %w", trust.Source(i), err)
		}
		a.list = append(a.list, anchor{Checkpoint: c, signed: signed, source: trust.Source(i)})
	}
	slices.SortStableFunc(a.list, func(x, y anchor) int { return cmp.Compare(x.Size, y.Size) })
	return a, nil
}
