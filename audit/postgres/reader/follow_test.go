package reader

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/audit/postgres/internal/audittest"
	"github.com/sallyport/sallyport/audit/postgres/internal/sealertest"
	"github.com/sallyport/sallyport/audit/postgres/internal/writertest"
	"github.com/sallyport/sallyport/internal/database"
)

// TestFollower: every leaf once and in order, with what was sealed, and between
// two readings nothing of it in the database.
func TestFollower(t *testing.T) {
	t.Parallel()
	db := audittest.Migrated(t)
	l := writertest.Open(t, db.URL(database.Writer), nil)
	s := sealertest.Open(t, db.URL(database.Writer), l, sealertest.WithKey(audittest.NewKey(t, "log.example/a")))
	const events = 150
	for n := range events {
		e := audittest.Decision("deny", n)
		if n == 40 { // longer than all that is read at once
			e.Input = []byte(`{"long":"` + strings.Repeat("x", 200<<10) + `"}`)
		}
		audittest.Record(t, l, e)
	}
	for range 3 {
		audittest.Seal(t, s)
	}
	audittest.Record(t, l, audittest.Decision("deny", 1)) // not sealed
	f, err := OpenFollower(t.Context(), db.URL(database.Auditor))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	admin := audittest.Connect(t, db.URL(""))
	next, readings := int64(0), 0
	for ; ; readings++ {
		entries, err := f.Next(t.Context(), next)
		if err != nil {
			t.Fatal(err)
		}
		if len(entries) == 0 {
			break
		}
		size := 0
		for _, e := range entries {
			if e.Index != next || e.Hash != audit.Leaf(e.Record) {
				t.Fatalf("leaf %d is %d, and its record is another's", next, e.Index)
			}
			next++
			size += len(e.Record)
		}
		if size > 64<<10 && len(entries) > 1 {
			t.Errorf("%d bytes at once in %d records", size, len(entries))
		}
		if held := audittest.QueryValue[string](t, admin, `SELECT coalesce(string_agg(state || ' ' || coalesce(backend_xmin::text, ''), ','), '')
			FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'sallyport stream'`); held != "idle " {
			t.Errorf("between two readings the database holds %q for it", held)
		}
	}
	if next != events+2 || readings < 4 {
		t.Errorf("%d leaves in %d readings, want %d", next, readings, events+2)
	}
	hash, ok, err := f.Leaf(t.Context(), 3)
	if err != nil || !ok || hash == (audit.Hash{}) {
		t.Errorf("leaf 3: %v %v %v", hash, ok, err)
	}
	if _, ok, err := f.Leaf(t.Context(), next); ok || err != nil {
		t.Errorf("leaf %d: %v %v", next, ok, err)
	}
}

// TestFollowerGone: an event that is not there any more becomes an entry that states
// so; a leaf that is not there is damage.
func TestFollowerGone(t *testing.T) {
	t.Parallel()
	db := audittest.Migrated(t)
	admin := audittest.Connect(t, db.URL(""))
	for n := range 6 {
		if n == 4 {
			continue
		}
		if _, err := admin.Exec(t.Context(), `INSERT INTO audit.leaves (index, writer, writer_sequence, hash) VALUES ($1, 'w"\x', $2, sha256('\x007b7d'::bytea))`, n, n+1); err != nil {
			t.Fatal(err)
		}
		if n != 2 {
			if _, err := admin.Exec(t.Context(), `INSERT INTO audit.events (time, kind, writer, writer_sequence, record) VALUES (now(), 'admin', 'w"\x', $1, convert_to($2, 'UTF8'))`, n+1, []string{"{}", "[]"}[n/3]); err != nil {
				t.Fatal(err)
			}
		}
	}
	f, err := OpenFollower(t.Context(), db.URL(database.Auditor))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Next(t.Context(), 0); err == nil || !strings.Contains(err.Error(), "there is no leaf 4") {
		t.Errorf("a leaf that is missing: %v", err)
	}
	if _, err := admin.Exec(t.Context(), `INSERT INTO audit.leaves (index, writer, writer_sequence, hash) VALUES (4, 'w', 1, sha256(''))`); err != nil {
		t.Fatal(err)
	}
	entries, err := f.Next(t.Context(), 1)
	if err != nil || len(entries) != 5 {
		t.Fatalf("%v: %v", entries, err)
	}
	var got []byte
	for i := range entries {
		got = audit.AppendFollowed(got, &entries[i])
	}
	want := fmt.Sprintf(`{"leaf":1,"record":{}}
{"leaf":2,"writer":"w\"\\x","writer_sequence":3,"hash":%[1]s,"gone":true}
{"leaf":3,"writer":"w\"\\x","writer_sequence":4,"hash":%[1]s,"record_base64":"W10="}
{"leaf":4,"writer":"w","writer_sequence":1,"hash":%[2]s,"gone":true}
`, hashJSON(t, entries[0].Hash), hashJSON(t, entries[3].Hash))
	if !strings.HasPrefix(string(got), want) {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func hashJSON(t *testing.T, h audit.Hash) string {
	t.Helper()
	text, err := json.Marshal(h)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
