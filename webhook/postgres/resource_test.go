package postgres

import (
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/database"
)

// TestLatest: the largest id is that of an open task of the same endpoint.
func TestLatest(t *testing.T) {
	db := migrated(t)
	q := newInstance(t, db.URL(database.Writer))
	want := func(endpoint string, id int64) {
		t.Helper()
		if got, err := q.Latest(t.Context(), endpoint); err != nil || got != id {
			t.Errorf("Latest(%s) = %d, %v; want %d", endpoint, got, err, id)
		}
	}
	want("warehouse", 0)
	for n := range 3 {
		accept(t, q, delivery(repository(n), n), allowed("warehouse"))
	}
	accept(t, q, delivery(repository(1), 9), allowed("jenkins"))
	want("warehouse", 3)
	want("jenkins", 4)
	task := claim(t, q, "jenkins", time.Minute)
	want("jenkins", 4) // leased tasks are open
	if err := q.Dead(t.Context(), *task, "gone"); err != nil {
		t.Fatal(err)
	}
	want("jenkins", 0)
}
