package reader

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/audit/postgres/internal/audittest"
	"github.com/sallyport/sallyport/audit/postgres/internal/writertest"
)

// TestHistory: an auditor reads decisions of a time, one by its id, and the policy
// that decided; and can change nothing.
func TestHistory(t *testing.T) {
	db := audittest.Migrated(t)
	l := writertest.Open(t, db.URL("sallyport_writer"), nil)
	now := time.Now()
	var events []*audit.Event
	for i := range 3 {
		e := audittest.Decision("allow", i+1)
		e.Time, e.Input = now.Add(-time.Duration(i)*time.Hour), []byte(`{"a":1}`)
		kept := *e
		events = append(events, &kept)
		audittest.Record(t, l, e)
	}
	closed := audittest.Decision("allow", 9)
	closed.Kind, closed.Time = audit.KindTunnelClosed, now
	audittest.Record(t, l, closed)
	if err := l.PutPolicy(t.Context(), audittest.DigestOf("content"), []byte("content")); err != nil {
		t.Fatal(err)
	}

	h, err := OpenHistory(t.Context(), db.URL("sallyport_auditor"))
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	var ids []string
	read := func(r []byte) error {
		d, ok, err := audit.ReadDecided(r)
		if err != nil || !ok || string(d.Input) != `{"a":1}` {
			t.Errorf("%s: %v, %v", r, ok, err)
		}
		ids = append(ids, d.ID)
		return nil
	}
	if err := h.Decisions(t.Context(), now.Add(-90*time.Minute), now.Add(time.Minute), read); err != nil || len(ids) != 2 {
		t.Errorf("%v, %v", ids, err)
	}
	stop := errors.New("stop")
	if err := h.Decisions(t.Context(), now.Add(-90*time.Minute), now.Add(time.Minute), func([]byte) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("%v", err)
	}
	one, err := h.Decision(t.Context(), events[2].DecisionID)
	if d, ok, _ := audit.ReadDecided(one); err != nil || !ok || d.ID != events[2].DecisionID {
		t.Errorf("%s, %v", one, err)
	}
	if one, err := h.Decision(t.Context(), "01a1fdf4-c192-7cf7-900b-49ceb24f5238"); one != nil || err != nil {
		t.Errorf("an unknown id: %s, %v", one, err)
	}
	if content, err := h.Policy(t.Context(), audittest.DigestOf("content")); err != nil || !bytes.Equal(content, []byte("content")) {
		t.Errorf("%q, %v", content, err)
	}
	if _, err := h.Policy(t.Context(), "sha256:01"); !errors.Is(err, ErrNoPolicy) {
		t.Errorf("%v", err)
	}
	if names, err := h.Repositories(t.Context()); err != nil || len(names) != 0 {
		t.Errorf("%v, %v", names, err)
	}
	if _, err := h.conn.Exec(t.Context(), "CREATE TEMP TABLE x ()"); err == nil {
		t.Error("it can write")
	}
	if _, err := OpenHistory(t.Context(), "postgres://nobody:s3cret@127.0.0.1:1/x"); err == nil || bytes.Contains([]byte(err.Error()), []byte("s3cret")) {
		t.Errorf("%v", err)
	}
}
