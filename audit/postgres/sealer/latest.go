package sealer

import (
	"bytes"
	"fmt"

	"github.com/sallyport/sallyport/audit"
	auditpg "github.com/sallyport/sallyport/audit/postgres"
)

// latest is the newest checkpoint of the database that holds. Size 0: there is
// none.
type latest struct {
	audit.Checkpoint
	signedBy audit.Key
	note     []byte
	frontier []byte
	leaves   int64    // leaves in the database: those above Size were never signed
	findings []string // newer checkpoints that do not hold
	unknown  []string // the signers of newer checkpoints that no known key signed, some of them
	refused  error    // why the newest checkpoint does not hold; nil: it holds, or there is none
}

// check accepts a row whose columns are those that a known key has signed.
func (l *latest) check(size int64, root []byte, keys []audit.Key) error {
	var err error
	if l.Checkpoint, err = audit.ReadCheckpoint(l.note); err != nil || l.Size != size || l.Size < 1 || !bytes.Equal(l.Root[:], root) {
		return fmt.Errorf("%w: the row of the checkpoint of size %d is not what was signed", auditpg.ErrDamaged, size)
	}
	if _, l.signedBy, err = audit.OpenCheckpoint(l.note, keys...); err != nil {
		return fmt.Errorf("%w: %w", ErrNoKey, err)
	}
	if tree, err := audit.RestoreTree(l.Size, l.frontier); err != nil || tree.Root() != l.Root {
		return fmt.Errorf("%w: the frontier of the checkpoint of size %d does not have its root", auditpg.ErrDamaged, size)
	}
	return nil
}
