package pack

import (
	"encoding/base64"

	"github.com/sallyport/sallyport/audit"
)

// SetDigest is the exclusive or of leaf hashes: the same for the same set of events,
// in whatever order they come.
type SetDigest audit.Hash

func (d *SetDigest) Add(record []byte) { d.AddLeaf(audit.Leaf(record)) }

func (d *SetDigest) AddLeaf(h audit.Hash) {
	for i := range d {
		d[i] ^= h[i]
	}
}

func (d SetDigest) String() string { return base64.StdEncoding.EncodeToString(d[:]) }
