package sealer

import (
	"context"
	"sync"
	"testing"

	"github.com/sallyport/sallyport/audit/postgres/internal/audittest"
	"github.com/sallyport/sallyport/audit/postgres/internal/writertest"
	"github.com/sallyport/sallyport/internal/database"
)

// hanging is a place of publication that never answers.
type hanging struct {
	called chan struct{} // closed by the first Publish
	once   sync.Once
}

func (*hanging) Name() string                             { return "hanging" }
func (*hanging) Recent(context.Context) ([][]byte, error) { return nil, nil }
func (h *hanging) Publish(ctx context.Context, note []byte) error {
	h.once.Do(func() { close(h.called) })
	<-ctx.Done()
	return ctx.Err()
}

// TestPublishNever: a place that never answers delays neither recording nor sealing, nor
// the other places.
func TestPublishNever(t *testing.T) {
	t.Parallel()
	db := audittest.Migrated(t)
	l := writertest.Open(t, db.URL(database.Writer), nil)
	place, good := &hanging{called: make(chan struct{})}, &audittest.Shelf{}
	s := sealerFor(t, db.URL(database.Writer), l, withKey(audittest.NewKey(t, ""), place, good))
	audittest.Record(t, l, audittest.Decision("allow", 0))
	audittest.Seal(t, s)
	<-place.called
	for n := range 5 {
		audittest.Record(t, l, audittest.Decision("allow", n))
		audittest.Seal(t, s)
	}
	audittest.Eventually(t, "the good place has all", func() bool { return s.Status().Places[1].Size == 8 })
	if st := s.Status(); st.Size != 8 || st.Places[0].Size != 0 {
		t.Errorf("%+v", st)
	}
}
