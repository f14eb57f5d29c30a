package reader

import (
	"bytes"
	"context"
	"crypto/sha256"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/audit/evidence"
	"github.com/sallyport/sallyport/audit/evidence/pack"
	"github.com/sallyport/sallyport/audit/postgres/internal/audittest"
	"github.com/sallyport/sallyport/audit/postgres/internal/sealertest"
	"github.com/sallyport/sallyport/audit/postgres/internal/writertest"
	auditsealer "github.com/sallyport/sallyport/audit/postgres/sealer"
	"github.com/sallyport/sallyport/internal/database"
)

// evidenceOf is a reader as packs are made from it.
type evidenceOf struct{ *Reader }

// sealedOnly is a sink to which nothing comes that is not sealed.
type sealedOnly struct{ pack.Sink }

func (sealedOnly) Unsealed(*audit.Entry) { panic("an event that is not sealed") }

func (l evidenceOf) Database(ctx context.Context) (pack.Database, error) {
	i, err := l.Identity(ctx)
	return pack.Database{System: i.System, Name: i.Name, User: i.User, Schema: i.Schema, Now: i.Now}, err
}

func (l evidenceOf) Cover(ctx context.Context, from, to time.Time) (pack.Cover, error) {
	c, err := l.Coverage(ctx, from, to)
	return pack.Cover(c), err
}

func (l evidenceOf) Checkpoint(ctx context.Context, size int64) ([]byte, error) {
	return l.CheckpointOf(ctx, size)
}

func (l evidenceOf) CheckpointAfter(ctx context.Context, t time.Time) ([]byte, error) {
	return l.CheckpointSince(ctx, t)
}

func (l evidenceOf) Count(ctx context.Context, s pack.Selection) (int64, error) {
	return l.CountDecisions(ctx, s.From, s.To, s.Size, s.Repositories)
}

func (l evidenceOf) Walk(ctx context.Context, size int64, sink pack.Sink, progress func(int64)) error {
	return l.WalkTo(ctx, size, sealedOnly{sink}, progress)
}

func (l evidenceOf) Policy(ctx context.Context, digest string) ([]byte, error) {
	return l.PolicyContent(ctx, digest)
}

func (l evidenceOf) Access(ctx context.Context, from, to time.Time) ([]pack.Table, error) {
	grants, err := l.Reader.Access(ctx, from, to)
	var tables []pack.Table
	for _, g := range grants {
		tables = append(tables, pack.Table{Name: g.Name, Title: g.Title, Note: g.Note, Columns: g.Columns, Rows: g.Rows})
	}
	return tables, err
}

func (l evidenceOf) Unsealed(ctx context.Context, from, to time.Time) ([]pack.UnsealedRun, error) {
	runs, err := l.UnsealedRuns(ctx, from, to)
	var list []pack.UnsealedRun
	for _, r := range runs {
		list = append(list, pack.UnsealedRun(r))
	}
	return list, err
}

func (l evidenceOf) Next(ctx context.Context, writers []string, numbers []int64) ([]pack.NextNumber, error) {
	next, err := l.NextNumbers(ctx, writers, numbers)
	var list []pack.NextNumber
	for _, n := range next {
		list = append(list, pack.NextNumber(n))
	}
	return list, err
}

func (l evidenceOf) Queries() []pack.Query { return nil }

// BenchmarkEvidence makes packs: decisions/s is the figure, and MB the most that
// the heap had in use.
func BenchmarkEvidence(b *testing.B) {
	db := audittest.Migrated(b)
	key := fill(b, db, benchmarkEvents)
	b.ResetTimer()
	var decisions int64
	most := watchHeap(b)
	for b.Loop() {
		now := time.Now()
		r, err := Open(b.Context(), db.URL(database.Auditor))
		if err != nil {
			b.Fatal(err)
		}
		dir := filepath.Join(b.TempDir(), "pack")
		built, err := evidence.Build(b.Context(), evidenceOf{r}, dir, evidence.Options{
			Period: pack.Period{From: now.Add(-24 * time.Hour), To: now}, Sample: 25, Signer: key, Tool: "test",
		})
		r.Close()
		if err != nil || !built.Facts.Result.Sound || built.Manifest.Population != benchmarkEvents/512*256 {
			b.Fatalf("%v: %+v", err, built)
		}
		decisions += built.Manifest.Population
		if c, err := evidence.Check(b.Context(), dir, evidence.CheckOptions{Tool: "test"}); err != nil || len(c.Findings) > 0 {
			b.Fatalf("%v: %+v", err, c)
		}
	}
	b.ReportMetric(float64(decisions)/b.Elapsed().Seconds(), "decisions/s")
	b.ReportMetric(float64(most.Load())/1e6, "MB")
}

// watchHeap samples the heap until the benchmark ends.
func watchHeap(b *testing.B) *atomic.Uint64 {
	var most atomic.Uint64
	done := make(chan struct{})
	b.Cleanup(func() { close(done) })
	go func() {
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				var m runtime.MemStats
				runtime.ReadMemStats(&m)
				most.Store(max(most.Load(), m.HeapInuse))
			}
		}
	}()
	return &most
}

// sealedPart takes a log as WalkTo gives it.
type sealedPart struct {
	leaves      []int64
	checkpoints []int64
}

func (s *sealedPart) Sealed(e *audit.Entry)        { s.leaves = append(s.leaves, e.Index) }
func (s *sealedPart) Checkpoint(c audit.Statement) { s.checkpoints = append(s.checkpoints, c.Size) }
func (s *sealedPart) Unsealed(*audit.Entry)        { s.leaves = append(s.leaves, -1) }

// TestReaderForEvidence: all content of a pack depends on one checkpoint: later events,
// ends and checkpoints do not show, and what is not sealed is counted.
func TestReaderForEvidence(t *testing.T) {
	db := audittest.Migrated(t)
	l := writertest.Open(t, db.URL(database.Writer), nil)
	s := sealertest.Open(t, db.URL(database.Writer), l, func(c *auditsealer.Config) { c.Signer = audittest.NewKey(t, "") })
	from := time.Now().Add(-time.Minute)
	first, second := audittest.Decision("allow", 1), audittest.Decision("deny", 2)
	audittest.Record(t, l, first)
	audittest.Record(t, l, second)
	audittest.Seal(t, s)
	audittest.Record(t, l, audittest.EndOf(first, time.Now()))
	audittest.Seal(t, s)
	to := time.Now()
	audittest.Record(t, l, audittest.Decision("deny", 3))

	open := func() *Reader {
		r, err := Open(t.Context(), db.URL(database.Auditor))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(r.Close)
		return r
	}
	r := open()
	if i, err := r.Identity(t.Context()); err != nil || i.User != database.Auditor || i.System == "" || i.Schema == 0 || i.Now.Before(to) {
		t.Errorf("%+v %v", i, err)
	}
	c, err := r.Coverage(t.Context(), from, time.Now())
	if err != nil || c.Unsealed != 1 {
		t.Errorf("%+v %v", c, err)
	}
	if c, err = r.Coverage(t.Context(), from, to); err != nil || c.Unsealed != 0 || c.Events != c.Last+1 {
		t.Errorf("%+v %v", c, err)
	}
	early, late := new(sealedPart), new(sealedPart)
	if err := r.WalkTo(t.Context(), c.Last, early, nil); err != nil { // the checkpoint before the end
		t.Fatal(err)
	}
	if err := r.WalkTo(t.Context(), c.Last+1, late, nil); err != nil {
		t.Fatal(err)
	}
	if n := len(early.leaves); int64(n) != c.Last || early.checkpoints[len(early.checkpoints)-1] != c.Last {
		t.Errorf("%+v", early)
	}
	if n := len(late.leaves); int64(n) != c.Last+1 || late.checkpoints[len(late.checkpoints)-1] != c.Last+1 {
		t.Errorf("%+v", late)
	}
	for _, size := range []int64{c.Last, c.Last + 1} {
		note, err := r.CheckpointOf(t.Context(), size)
		got, readErr := audit.ReadCheckpoint(note)
		if err != nil || readErr != nil || got.Size != size {
			t.Errorf("%v %v %d", err, readErr, got.Size)
		}
	}
	if note, err := r.CheckpointOf(t.Context(), c.Last+2); err != nil || note != nil {
		t.Errorf("%s %v", note, err)
	}
	for _, tt := range []struct {
		size         int64
		repositories []string
		n            int64
	}{
		{c.Last + 1, nil, 2},
		{1, nil, 0},
		{c.Last + 1, []string{first.Repository}, 1},
		{c.Last + 1, []string{second.RepositoryUUID, "acme/unknown"}, 1},
		{c.Last + 1, []string{"acme/unknown"}, 0},
	} {
		if n, err := r.CountDecisions(t.Context(), from, to, tt.size, tt.repositories); err != nil || n != tt.n {
			t.Errorf("of size %d and %q: %d decisions, want %d: %v", tt.size, tt.repositories, n, tt.n, err)
		}
	}
	grants, err := r.Access(t.Context(), from, to)
	if err != nil || len(grants) != len(accessQueries) {
		t.Errorf("%+v %v", grants, err)
	}
	for _, g := range grants {
		if g.Name == "unguarded" && len(g.Rows) > 0 || (g.Name == "grants" || g.Name == "triggers" || g.Name == "roles" || g.Name == "definers") && len(g.Rows) == 0 {
			t.Errorf("%s: %q", g.Name, g.Rows)
		}
	}
	if size, err := r.RetentionAfter(t.Context(), 0); err != nil || size != 0 {
		t.Errorf("%d %v", size, err)
	}
}

// TestReaderFindings: what a pack is given of a reconciliation is what the digest in
// SQL is of, whatever the rows hold and the session's time zone is.
func TestReaderFindings(t *testing.T) {
	db := audittest.Migrated(t)
	conn := audittest.Connect(t, db.URL(""))
	const first, second = "01a1fdf4-2222-7000-8000-000000000001", "01a1fdf4-2222-7000-8000-000000000002"
	if _, err := conn.Exec(t.Context(), `
		INSERT INTO audit.reconciliation_scans SELECT $1::uuid, gen_random_uuid(), gen_random_uuid(), now(), now(), 1, 2, true, false, r, 'complete', 'a "detail"' || chr(10) || r
			FROM unnest(ARRAY['acme/b', 'acme/A', 'acme/é😀', '']) r;`, first); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Exec(t.Context(), `
		INSERT INTO audit.deployment_findings (deployment_run_uuid, repository_uuid, workspace_uuid, reconciliation, build_number, found_at, started_at, state, class, detail)
			SELECT gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), CASE n WHEN 9 THEN $2::uuid ELSE $1::uuid END, n, now(), now() - n * interval '1 hour', 'failed', 'unobserved', ''
			FROM generate_series(1, 9) n`, first, second); err != nil {
		t.Fatal(err)
	}
	name := pgx.Identifier{audittest.QueryValue[string](t, conn, "SELECT current_database()::text")}.Sanitize()
	if _, err := conn.Exec(t.Context(), `ALTER ROLE sallyport_auditor IN DATABASE `+name+` SET timezone = 'Asia/Kathmandu'`); err != nil {
		t.Fatal(err)
	}
	r, err := Open(t.Context(), db.URL(database.Auditor))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for id, rows := range map[string]int{first: 12, second: 1, "01a1fdf4-2222-7000-8000-000000000003": 0} {
		got, err := r.Findings(t.Context(), id)
		if err != nil || len(got) != rows {
			t.Errorf("%d rows, %v", len(got), err)
		}
		sum := sha256.Sum256([]byte(strings.Join(got, "\n")))
		if want := audittest.QueryValue[[]byte](t, conn, "SELECT audit.reconciliation_digest($1)", id); !bytes.Equal(sum[:], want) {
			t.Errorf("%s: the digest is %x, and SQL says %x", id, sum, want)
		}
	}
}
