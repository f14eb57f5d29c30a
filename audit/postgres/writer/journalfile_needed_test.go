package writer

import (
	"os"
	"testing"

	"github.com/sallyport/sallyport/audit/postgres/internal/audittest"
	"github.com/sallyport/sallyport/internal/database"
)

// TestJournalOwnerIsNeeded: another user adds an event to a journal that every user may
// write to. The journal is refused. Opened without that check, the forged event is in the
// log under the name of the server's writer, although its author has no login.
func TestJournalOwnerIsNeeded(t *testing.T) {
	t.Parallel()
	db := audittest.Migrated(t)
	writer, path := leftBy(t, db, t.TempDir())
	if err := os.Chmod(path, 0o666); err != nil {
		t.Fatal(err)
	}
	forged := rowsOf(writer, 12, 1)
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := file.Write(appendFrame(nil, forged.tuple(forged.rows[0]))); err != nil {
		t.Fatal(err)
	}
	_ = file.Close()
	if _, err := openLeft(path); err == nil {
		t.Error("a journal that every user may write to is opened")
	}

	unchecked, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer unchecked.Close()
	j, err := openJournal(unchecked)
	if err != nil {
		t.Fatal(err)
	}
	s, err := openSession(t.Context(), connect(t, db.URL(database.Writer)))
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	if err := s.authenticateLeft(t.Context(), writer, j.Secret); err != nil {
		t.Fatal(err)
	}
	if err := j.into(t.Context(), s, &replayed{}); err != nil {
		t.Fatal(err)
	}
	if n := audittest.QueryValue[int](t, audittest.Connect(t, db.URL("")), `SELECT count(*) FROM audit.events WHERE writer = $1 AND writer_sequence = 12`, writer); n != 1 {
		t.Errorf("%d forged events", n)
	}
}
