package writer

import (
	"errors"
	"fmt"
	"testing"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/audit/postgres/internal/audittest"
	"github.com/sallyport/sallyport/internal/database"
)

// TestCompanionsArePrepared: a session prepares each statement once and a bounded number of
// them, and executes the others unprepared. One that cannot be prepared is refused, and its
// event is recorded.
func TestCompanionsArePrepared(t *testing.T) {
	t.Parallel()
	db := audittest.Migrated(t)
	conn := withChanges(t, db)
	l := logFor(t, db.URL(database.Writer), nil)
	for range 2 {
		e, with := received(1, statement("SELECT is_not_there FROM public.changes"))
		if err := l.RecordWith(t.Context(), e, with); !errors.Is(err, audit.ErrRefused) {
			t.Errorf("a statement with an error: %v", err)
		}
	}
	for n := range int64(2 * maxPrepared) {
		e, with := received(n, statement(fmt.Sprintf("SELECT %d", n%(maxPrepared+8))))
		if err := l.RecordWith(t.Context(), e, with); err != nil {
			t.Fatal(err)
		}
	}
	audittest.Close(t, l)
	if n := len(l.session.prepared); n != maxPrepared {
		t.Errorf("%d statements are prepared", n)
	}
	audittest.Sound(t, conn)
	for _, wrong := range checkCompanions(t, conn) {
		t.Error(wrong)
	}
	if n := audittest.QueryValue[int](t, conn, `SELECT count(*) FROM public.changes`); n != 2*maxPrepared {
		t.Errorf("%d changes", n)
	}
}
