package writer

import (
	"testing"
	"time"

	auditpg "github.com/sallyport/sallyport/audit/postgres"
	"github.com/sallyport/sallyport/audit/postgres/internal/audittest"
	"github.com/sallyport/sallyport/internal/database"
)

// An event that the database refuses for its content, which normalising
// prevents, is written with its record and its key alone, and the others of its
// group in full.
func TestRefusedContentIsNotLost(t *testing.T) {
	t.Parallel()
	db := audittest.Migrated(t)
	config, err := database.ParseConfig(db.URL(database.Writer), "test")
	if err != nil {
		t.Fatal(err)
	}
	s, err := openSession(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	for _, size := range []int64{2, 10} { // by INSERT and by COPY
		g := newGroup(audittest.ActAs(t, s.conn))
		for n := int64(1); n <= size; n++ {
			e := audittest.Decision("deny", int(n))
			e.Normalise()
			e.Writer, e.WriterSequence = g.writer, n
			if n == 2 {
				e.Host, e.Repository = "nul\x00", "\xff" // after normalising, which no caller does
			}
			g.add(e, nil)
		}
		if err := s.write(t.Context(), g); !isContent(err) {
			t.Fatalf("the database took it: %v", err)
		}
		for range 2 { // and once more changes nothing
			if _, err := s.settle(t.Context(), g); err != nil {
				t.Fatal(err)
			}
		}
		conn := audittest.Connect(t, db.URL(""))
		if n := audittest.QueryValue[int64](t, conn, "SELECT count(*) FROM audit.events WHERE writer = $1", g.writer); n != size {
			t.Errorf("%d events of %d", n, size)
		}
		if n := audittest.QueryValue[int64](t, conn, "SELECT count(*) FROM audit.events WHERE writer = $1 AND host IS NOT NULL", g.writer); n != size-1 {
			t.Errorf("%d events are in full of %d", n, size)
		}
	}
}

// What an earlier session of the same name left open is ended, and no other.
func TestSessionEndsItsPredecessor(t *testing.T) {
	t.Parallel()
	db := audittest.Migrated(t)
	config, err := database.ParseConfig(db.URL(database.Writer), "test one")
	if err != nil {
		t.Fatal(err)
	}
	other, err := database.ParseConfig(db.URL(database.Writer), "test two")
	if err != nil {
		t.Fatal(err)
	}
	bystander, err := openSession(t.Context(), other)
	if err != nil {
		t.Fatal(err)
	}
	defer bystander.close()
	first, err := openSession(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	defer first.close()
	writer, secret := auditpg.NewWriter(time.Now())
	g := newGroup(writer)
	e := audittest.Decision("deny", 1)
	e.Normalise()
	e.Writer, e.WriterSequence = writer, 1
	g.add(e, nil)
	if err := first.authenticate(t.Context(), secret); err != nil {
		t.Fatal(err)
	}
	if _, err := first.conn.Exec(t.Context(), "BEGIN"); err != nil {
		t.Fatal(err)
	}
	if err := first.write(t.Context(), g); err != nil { // and its COMMIT is still to come
		t.Fatal(err)
	}
	second, err := openSession(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	defer second.close()
	if err := second.authenticate(t.Context(), secret); err != nil {
		t.Fatal(err)
	}
	if _, err := second.settle(t.Context(), g); err != nil {
		t.Fatal(err)
	}
	if _, err := first.conn.Exec(t.Context(), "COMMIT"); err == nil {
		t.Error("the first session goes on")
	}
	if err := bystander.conn.Ping(t.Context()); err != nil {
		t.Errorf("another's session was ended: %v", err)
	}
	if got := audittest.QueryValue[string](t, second.conn, "SHOW synchronous_commit"); got != "on" {
		t.Errorf("synchronous_commit is %s", got)
	}
}
