package audittest

import (
	"bytes"
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sallyport/sallyport/audit"
)

// Shelf is a place of publication in memory, with switches for faults.
type Shelf struct {
	Mu     sync.Mutex
	Notes  [][]byte
	Failed error
}

func (s *Shelf) Name() string { return "shelf" }

func (s *Shelf) Recent(context.Context) ([][]byte, error) {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	return slices.Clone(s.Notes), nil
}

func (s *Shelf) Publish(_ context.Context, note []byte) error {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	if s.Failed == nil {
		s.Notes = append(s.Notes, bytes.Clone(note))
	}
	return s.Failed
}

func (s *Shelf) All() [][]byte {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	return slices.Clone(s.Notes)
}

func NewKey(t testing.TB, origin string) *audit.Signer {
	t.Helper()
	private, err := audit.GenerateKey(origin)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := audit.ParseSigner(private)
	if err != nil {
		t.Fatal(err)
	}
	return signer
}

// AddCheckpoint seals the next events of a writer as a login that may seal, with whatever
// key.
func AddCheckpoint(t testing.TB, conn *pgx.Conn, writer string, signer *audit.Signer, last int64, change func(*audit.Checkpoint)) error {
	t.Helper()
	size := QueryValue[int64](t, conn, `SELECT max(index) + 1 FROM audit.leaves`)
	sealed := QueryValue[int64](t, conn, `SELECT max(writer_sequence) FROM audit.leaves WHERE writer = $1`, writer)
	tree, err := audit.RestoreTree(size, QueryValue[[]byte](t, conn, `SELECT frontier FROM audit.checkpoints ORDER BY number DESC LIMIT 1`))
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range QueryStrings(t, conn, `SELECT convert_from(audit.record(e), 'UTF8') FROM audit.events e WHERE writer = $1 AND writer_sequence > $2 AND writer_sequence <= $3 ORDER BY writer_sequence`, writer, sealed, last) {
		tree.Append(audit.Leaf([]byte(r)))
	}
	c := audit.Checkpoint{Size: tree.Size(), Root: tree.Root(), Time: time.Now()}
	if change != nil {
		change(&c)
	}
	note, err := signer.Sign(c)
	if err != nil {
		t.Fatal(err)
	}
	if last == sealed {
		_, err = conn.Exec(t.Context(), `SELECT audit.add_checkpoint('{}', '{}', '{}', $1)`, string(note))
	} else {
		_, err = conn.Exec(t.Context(), `SELECT audit.add_checkpoint(ARRAY[$1], ARRAY[$2::bigint], ARRAY[$3::bigint], $4)`, writer, sealed+1, last, string(note))
	}
	return err
}
