package evidence

import (
	"encoding/base64"

	"github.com/sallyport/sallyport/audit"
)

// digest is the exclusive or of leaf hashes: the same for the same set of events,
// in whatever order they come.
type digest audit.Hash

func (d *digest) add(record []byte) { d.addLeaf(audit.Leaf(record)) }

func (d *digest) addLeaf(h audit.Hash) {
	for i := range d {
		d[i] ^= h[i]
	}
}

func (d digest) String() string { return base64.StdEncoding.EncodeToString(d[:]) }
