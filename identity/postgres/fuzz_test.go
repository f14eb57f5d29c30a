package postgres

import (
	"testing"
	"time"

	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/database"
)

// Whatever Bitbucket calls something: either the name is refused before it waits
// to be written, or the database takes it and gives it back as it was.
func FuzzNames(f *testing.F) {
	f.Add("acme", "acme/payments", "PAY", "Production EU", "production-eu", "production")
	f.Add("", "\x00", "\xff\xfe", "", "\\u0000", "'; DROP TABLE identity.names; --")
	f.Add("acme", "acme/\u202e", "", "{\"NULL\",NULL}", "NULL", "\\N")
	f.Add(string(make([]byte, 1001)), "\n\t", "\ufffd", "\U0010ffff", "ü", " ")
	db := migrated(f)
	s, err := Open(f.Context(), Config{URL: db.URL(database.Writer)})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(s.Close)
	at := time.Now().Add(-time.Hour)
	f.Fuzz(func(t *testing.T, workspace, fullName, project, name, slug, kind string) {
		at = at.Add(time.Microsecond)
		r := repository(payments, fullName, database.Timestamp(at))
		r.WorkspaceSlug, r.Project = workspace, project
		d := deployment(uuidOf(1), payments, name, slug, database.Timestamp(at))
		d.Type = kind
		saved := map[string]identity.KnownName{}
		for _, n := range []identity.KnownName{r, d} {
			rows, err := observe(n)
			if err != nil {
				continue
			}
			if err := s.writeNames(t.Context(), rows); err != nil {
				t.Fatalf("%+v was accepted and not written: %v", n, err)
			}
			saved[n.Kind] = n
		}
		loaded, err := s.LoadNames(t.Context(), acme)
		if err != nil {
			t.Fatal(err)
		}
		for _, got := range loaded {
			if want, ok := saved[got.Kind]; ok {
				got.FetchedAt = want.FetchedAt
				if got != want {
					t.Errorf("got %+v, want %+v", got, want)
				}
				delete(saved, got.Kind)
			}
		}
		if len(saved) > 0 {
			t.Errorf("not given back: %+v", saved)
		}
	})
}
