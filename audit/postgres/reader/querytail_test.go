package reader

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/audit/postgres/internal/audittest"
	"github.com/sallyport/sallyport/audit/postgres/internal/writertest"
	"github.com/sallyport/sallyport/internal/database"
)

// TestTail: every event is given once, whichever order its time, its number and
// its commit come in.
func TestTail(t *testing.T) {
	t.Parallel()
	db := audittest.Migrated(t)
	admin := audittest.Connect(t, db.URL(""))
	at := time.Now().UTC().Truncate(time.Second)
	add := func(writer string, sequence int, kind string, ago time.Duration) {
		t.Helper()
		if _, err := admin.Exec(t.Context(), `INSERT INTO audit.events (time, kind, writer, writer_sequence, record) VALUES ($1, $2, $3, $4, '{}')`,
			at.Add(-ago), kind, writer, sequence); err != nil {
			t.Fatal(err)
		}
	}
	for n := range 5 {
		add("a", n+1, []string{"writer_started", "decision"}[min(n, 1)], time.Minute-time.Duration(n)*time.Second)
	}
	q := &Filter{Columns: []string{"writer", "writer_sequence"}, Limit: 3}
	a, tail := askerFor(t, db.URL(database.Auditor)), NewTail()
	var got []string
	take := func(r Row) error {
		got = append(got, r.Text(0)+r.Text(1))
		return nil
	}
	expect := func(want string) {
		t.Helper()
		if said := strings.Join(got, " "); said != want {
			t.Errorf("got %s, want %s", said, want)
		}
		got = nil
	}
	look := func() {
		t.Helper()
		if _, err := tail.Poll(t.Context(), a, q, take); err != nil {
			t.Fatal(err)
		}
	}
	if err := tail.Begin(t.Context(), a, q, take); err != nil {
		t.Fatal(err)
	}
	expect("a3 a4 a5")
	look()
	expect("")
	add("a", 6, "decision", 0)
	add("b", 1, "writer_started", time.Second)
	look()
	expect("b1 a6")
	// A commit that is visible late, and from an hour ago: a journal.
	late, err := audittest.Connect(t, db.URL("")).Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := late.Exec(t.Context(), `INSERT INTO audit.events (time, kind, writer, writer_sequence, record) VALUES (now() - interval '1 hour', 'decision', 'b', 2, '{}')`); err != nil {
		t.Fatal(err)
	}
	add("a", 7, "decision", 0)
	look()
	expect("a7")
	if err := late.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	look()
	look()
	expect("b2")
	// The filter holds, and what it leaves out is not checked again.
	q.Kinds = []string{"admin"}
	add("a", 8, "decision", 0)
	add("a", 9, "admin", 0)
	look()
	expect("a9")
	q.Kinds = nil
	look()
	expect("")
	// A connection that is lost loses nothing.
	a.abandon()
	add("a", 10, "decision", 0)
	if _, err := tail.Poll(t.Context(), a, q, take); err == nil {
		t.Error("a lost connection is not noticed")
	}
	a = askerFor(t, db.URL(database.Auditor))
	look()
	expect("a10")
	// A receiver that fails ends the query.
	add("a", 11, "decision", 0)
	full := errors.New("full")
	if _, err := tail.Poll(t.Context(), a, q, func(Row) error { return full }); !errors.Is(err, full) {
		t.Error(err)
	}
	// A writer that is long gone, and another that was never seen to begin, are
	// found when all are checked.
	tail.scanned = time.Now().Add(-2 * tailScan)
	add("0", 1, "decision", 100*time.Hour)
	look()
	expect("01")
}

// TestTailUnderLoad: two writers write while it looks.
func TestTailUnderLoad(t *testing.T) {
	t.Parallel()
	db := audittest.Migrated(t)
	a, tail := askerFor(t, db.URL(database.Auditor)), NewTail()
	q := &Filter{Columns: []string{"writer", "writer_sequence"}}
	got := map[string][]string{}
	take := func(r Row) error {
		got[r.Text(0)] = append(got[r.Text(0)], r.Text(1))
		return nil
	}
	if err := tail.Begin(t.Context(), a, q, take); err != nil {
		t.Fatal(err)
	}
	const each = 1500
	done := make(chan error, 2)
	for range 2 {
		l := writertest.Open(t, db.URL(database.Writer), nil)
		go func() {
			for n := range each {
				if err := l.Record(t.Context(), audittest.Decision("deny", n)); err != nil {
					done <- err
					return
				}
			}
			done <- nil
		}()
	}
	for ended := 0; ended < 2; {
		select {
		case err := <-done:
			if ended++; err != nil {
				t.Fatal(err)
			}
		default:
		}
		if _, err := tail.Poll(t.Context(), a, q, take); err != nil {
			t.Fatal(err)
		}
	}
	for more := true; more; {
		var err error
		if more, err = tail.Poll(t.Context(), a, q, take); err != nil {
			t.Fatal(err)
		}
	}
	var want []string
	for n := range each + 1 {
		want = append(want, fmt.Sprint(n+1))
	}
	for writer, numbers := range got {
		slices.SortFunc(numbers, func(a, b string) int { return len(a)*1000 - len(b)*1000 + strings.Compare(a, b) })
		if !slices.Equal(numbers, want) {
			t.Errorf("writer %s: %d events, want %d each once", writer, len(numbers), len(want))
		}
	}
	if len(got) != 2 {
		t.Errorf("%d writers", len(got))
	}
}
