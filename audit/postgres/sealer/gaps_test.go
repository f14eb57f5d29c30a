package sealer

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/audit/postgres/internal/audittest"
	"github.com/sallyport/sallyport/audit/postgres/internal/readertest"
	"github.com/sallyport/sallyport/audit/postgres/internal/writertest"
	auditwriter "github.com/sallyport/sallyport/audit/postgres/writer"
	"github.com/sallyport/sallyport/internal/database"
	"github.com/sallyport/sallyport/internal/pgtest"
)

// gapped is a log with a sealed beginning and the writer "w", whose numbers 3 to
// 5 are missing.
type gapped struct {
	db  *pgtest.DB
	key *audit.Signer
	l   *auditwriter.Log
	s   *Sealer
	g   *Gaps
}

func withGap(t *testing.T) gapped {
	t.Helper()
	f := gapped{db: audittest.Migrated(t), key: audittest.NewKey(t, "log.example/a")}
	f.l = writertest.Open(t, f.db.URL(database.Writer), nil)
	f.s = sealerFor(t, f.db.URL(database.Writer), f.l, withKey(f.key))
	audittest.AddWriter(t, f.db, "w", `VALUES (1), (2), (6), (7)`)
	audittest.Seal(t, f.s)
	f.g = gapsOf(t, f.db.URL(""))
	return f
}

func gapsOf(t *testing.T, url string) *Gaps {
	t.Helper()
	g, err := OpenGaps(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Close)
	return g
}

// TestDeclaredGap: a declaration that is signed and sealed lets what follows the
// gap be sealed; verify and the list show the gap, and nothing is damaged.
func TestDeclaredGap(t *testing.T) {
	t.Parallel()
	f := withGap(t)
	if r := readertest.Verify(t, f.db, audit.Trust{}); r.Counts[audit.DamageMissing] != 1 {
		t.Errorf("before the declaration: %+v", r.Findings)
	}
	list, err := gapsOf(t, f.db.URL(database.Auditor)).List(t.Context())
	if err != nil || len(list) != 1 || list[0].Writer != "w" || list[0].First != 3 || list[0].Last != 5 || list[0].Declared != nil || list[0].After.IsZero() {
		t.Errorf("%+v, %v", list, err)
	}
	if _, err := f.g.Declare(t.Context(), f.key, "w", 3, 5, "failover of 2026-11-30"); err != nil {
		t.Fatal(err)
	}
	audittest.Seal(t, f.s)
	if st := f.s.Status(); len(st.Findings) != 0 || st.Blocked != 0 {
		t.Errorf("%+v", st)
	}
	r := readertest.Verify(t, f.db, audit.Trust{Keys: []audit.Key{f.key.Key()}})
	audittest.CheckReport(t, r, 2+2+1+2, 0)
	if r.Missing != 3 || len(r.Gaps) != 1 || r.Gaps[0].Reason != "failover of 2026-11-30" || r.Gaps[0].Login != pgtest.Superuser || r.Gaps[0].First != 3 || r.Gaps[0].Last != 5 {
		t.Errorf("%+v", r)
	}
	if list, err = f.g.List(t.Context()); err != nil || len(list) != 1 || list[0].Declared == nil || list[0].Declared.Index < 0 {
		t.Errorf("%+v, %v", list, err)
	}
	// The writer continues, and a new sealer finds its way.
	audittest.AddWriter(t, f.db, "w", `VALUES (8)`)
	audittest.Seal(t, sealerFor(t, f.db.URL(database.Writer), f.l, withKey(f.key)))
	audittest.CheckReport(t, readertest.Verify(t, f.db, audit.Trust{}), 8, 0)
}

// TestDeclareGapRefuses: what is recorded, sealed or not a gap is not declared.
func TestDeclareGapRefuses(t *testing.T) {
	t.Parallel()
	f := withGap(t)
	for _, c := range []struct {
		writer      string
		first, last int64
		want        string
	}{
		{"w", 3, 6, "event 6 of writer w is recorded"}, {"w", 2, 5, "event 2 of writer w is recorded"},
		{"w", 3, 4, "is not a gap"}, {"w", 4, 5, "is not a gap"}, {"w", 8, 9, "is not a gap"}, {"nobody", 1, 1, "is not a gap"},
		{"database", 1, 1, "is damage"}, {"w", 5, 3, "not a range"}, {"w", 0, 3, "not a range"}, {"w\n", 3, 5, "not the name of a writer"},
	} {
		if _, err := f.g.Declare(t.Context(), f.key, c.writer, c.first, c.last, "x"); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s %d to %d: %v", c.writer, c.first, c.last, err)
		}
	}
	for _, reason := range []string{"", "a\nb", strings.Repeat("x", 1001)} {
		if _, err := f.g.Declare(t.Context(), f.key, "w", 3, 5, reason); err == nil {
			t.Errorf("the reason %.20q", reason)
		}
	}
	if _, err := f.g.Declare(t.Context(), audittest.NewKey(t, "log.example/a"), "w", 3, 5, "x"); !errors.Is(err, ErrNoKey) {
		t.Errorf("another key: %v", err)
	}
	// A sealed event that was deleted is damage, and stays so.
	admin := audittest.Connect(t, f.db.URL(""))
	audittest.DisableTriggers(t, admin)
	if _, err := admin.Exec(t.Context(), `DELETE FROM audit.events WHERE writer = 'w' AND writer_sequence = 2`); err != nil {
		t.Fatal(err)
	}
	for _, first := range []int64{2, 3} {
		if _, err := f.g.Declare(t.Context(), f.key, "w", first, 5, "x"); first == 2 && (err == nil || !strings.Contains(err.Error(), "was sealed")) {
			t.Errorf("%v", err)
		}
	}
}

// TestGapNeedsOwnerAndKey: neither the owner's login without the key nor the key
// without the owner's login lets anything behind a gap be sealed.
func TestGapNeedsOwnerAndKey(t *testing.T) {
	t.Parallel()
	f := withGap(t)
	size := f.s.Status().Size
	// The key, with every login but the owner's.
	d, err := f.key.DeclareGap("w", 3, 5, "hidden", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for _, role := range []string{database.Writer, database.Sealer, database.Auditor} {
		conn := audittest.Connect(t, f.db.URL(role))
		for _, sql := range []string{
			`SELECT audit.declare_gap('w', 3, 5, 'hidden', '` + d.DeclaredAt.Format(time.RFC3339) + `', '` + string(d.Key) + `', '` + d.Signature + `')`,
			`INSERT INTO audit.declared_gaps (first, last, declaration, writer) VALUES (3, 5, 1, 'w')`,
			`INSERT INTO audit.events (time, kind, writer, writer_sequence, record) VALUES (now(), 'gap_declared', 'database', 1, '{}')`,
		} {
			if _, err := conn.Exec(t.Context(), sql); audittest.SQLState(err) != "42501" {
				t.Errorf("%s: %.60s: %v", role, sql, err)
			}
		}
	}
	// A writer records it in its own name.
	e := &audit.Event{Time: time.Now(), Kind: audit.KindGapDeclared, Attributes: []audit.Attribute{
		{Name: "writer", Value: "w"}, {Name: "first", Value: "3"}, {Name: "last", Value: "5"}, {Name: "reason", Value: "hidden"},
		{Name: "declared_at", Value: d.DeclaredAt.Format(time.RFC3339)}, {Name: "key", Value: string(d.Key)}, {Name: "signature", Value: d.Signature},
	}}
	audittest.Record(t, f.l, e)
	audittest.Seal(t, f.s)
	if st := f.s.Status(); st.Size != size+1 || st.Blocked != 2 {
		t.Errorf("%+v", st)
	}
	// The owner, with a key of his own and with a signature of another range.
	thief := audittest.NewKey(t, "log.example/a")
	forged, err := thief.DeclareGap("w", 3, 5, "hidden", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	other, err := f.key.DeclareGap("v", 3, 5, "hidden", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	other.Writer = "w"
	for _, d := range []audit.GapDeclaration{forged, other} {
		declareByHand(t, f.db, d)
	}
	audittest.Seal(t, f.s)
	if st := f.s.Status(); st.Size != size+3 || st.Blocked != 2 { // the declarations themselves
		t.Errorf("%+v", st)
	}
	r := readertest.Verify(t, f.db, audit.Trust{})
	if r.Counts[audit.DamageGap] != 2 || len(r.Gaps) != 0 || r.Missing != 0 {
		t.Errorf("%+v", r.Findings)
	}
}

func declareByHand(t *testing.T, db *pgtest.DB, d audit.GapDeclaration) {
	t.Helper()
	if _, err := audittest.Connect(t, db.URL("")).Exec(t.Context(), `SELECT audit.declare_gap($1, $2, $3, $4, $5, $6, $7)`,
		d.Writer, d.First, d.Last, d.Reason, d.DeclaredAt.Format(time.RFC3339), string(d.Key), d.Signature); err != nil {
		t.Fatal(err)
	}
}

// TestGapSignatureIsNeeded: a sealer that does not check the signature steps over
// a gap that the owner alone has declared; verify still finds it.
func TestGapSignatureIsNeeded(t *testing.T) {
	t.Parallel()
	f := withGap(t)
	forged, err := audittest.NewKey(t, "log.example/a").DeclareGap("w", 3, 5, "hidden", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	declareByHand(t, f.db, forged)
	f.s.gapValid = map[int64]bool{1: true}
	audittest.Seal(t, f.s)
	if st := f.s.Status(); st.Blocked != 0 {
		t.Errorf("without the check the gap was not stepped over: %+v", st)
	}
	if r := readertest.Verify(t, f.db, audit.Trust{}); r.Counts[audit.DamageGap] != 1 || r.Counts[audit.DamageOrder] == 0 {
		t.Errorf("%+v", r.Findings)
	}
}

// TestOwnersRightIsNeeded: where the function is granted to the writer's login,
// the key alone is enough.
func TestOwnersRightIsNeeded(t *testing.T) {
	t.Parallel()
	f := withGap(t)
	if _, err := audittest.Connect(t, f.db.URL("")).Exec(t.Context(), `GRANT EXECUTE ON FUNCTION audit.declare_gap(text, bigint, bigint, text, text, text, text) TO sallyport_writer`); err != nil {
		t.Fatal(err)
	}
	if _, err := gapsOf(t, f.db.URL(database.Writer)).Declare(t.Context(), f.key, "w", 3, 5, "hidden"); err != nil {
		t.Fatal(err)
	}
	audittest.Seal(t, f.s)
	if st := f.s.Status(); st.Blocked != 0 {
		t.Errorf("%+v", st)
	}
}

// TestDeclaredEventThatIsThere: an event with a number that was declared missing
// is a finding, whether it comes before what follows the gap is sealed or after.
func TestDeclaredEventThatIsThere(t *testing.T) {
	t.Parallel()
	for _, before := range []bool{true, false} {
		t.Run(fmt.Sprint(before), func(t *testing.T) {
			t.Parallel()
			f := withGap(t)
			if _, err := f.g.Declare(t.Context(), f.key, "w", 3, 5, "failover"); err != nil {
				t.Fatal(err)
			}
			if !before {
				audittest.Seal(t, f.s)
			}
			audittest.AddWriter(t, f.db, "w", `VALUES (4)`)
			audittest.Seal(t, f.s)
			r := readertest.Verify(t, f.db, audit.Trust{})
			if r.Counts[audit.DamageGap] != 1 {
				t.Errorf("%+v", r.Findings)
			}
			if st := f.s.Status(); st.Err != nil || before && st.Blocked != 0 {
				t.Errorf("sealing stopped: %+v", st)
			}
			// Others are sealed as before.
			size := f.s.Status().Size
			audittest.Record(t, f.l, audittest.Decision("allow", 1))
			audittest.Seal(t, f.s)
			if got := f.s.Status().Size; got != size+1 {
				t.Errorf("%d leaves, want %d", got, size+1)
			}
		})
	}
}
