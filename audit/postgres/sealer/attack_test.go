package sealer

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sallyport/sallyport/audit"
	auditpg "github.com/sallyport/sallyport/audit/postgres"
	"github.com/sallyport/sallyport/audit/postgres/internal/audittest"
	"github.com/sallyport/sallyport/audit/postgres/internal/readertest"
	"github.com/sallyport/sallyport/audit/postgres/internal/writertest"
	auditwriter "github.com/sallyport/sallyport/audit/postgres/writer"
	"github.com/sallyport/sallyport/internal/database"
	"github.com/sallyport/sallyport/internal/pgtest"
)

// The tree of plain SQL is that of RFC 6962, however it grows.
func TestTreeInSQL(t *testing.T) {
	t.Parallel()
	conn := audittest.Connect(t, audittest.Migrated(t).URL(database.Auditor))
	var tree audit.Tree
	frontier := []byte{}
	for range 60 {
		size := tree.Size()
		var hashes []byte
		for range rand.IntN(40) {
			leaf := audit.Leaf([]byte(fmt.Sprint(tree.Size())))
			tree.Append(leaf)
			hashes = append(hashes, leaf[:]...)
		}
		if hashes == nil {
			hashes = []byte{}
		}
		frontier = audittest.QueryValue[[]byte](t, conn, `SELECT audit.extend_frontier($1, $2, $3)`, size, frontier, hashes)
		if string(frontier) != string(tree.Frontier()) {
			t.Fatalf("the frontier of %d leaves, %d of them added, differs", tree.Size(), tree.Size()-size)
		}
		if tree.Size() == 0 {
			frontier = []byte{}
			continue
		}
		if root := audittest.QueryValue[[]byte](t, conn, `SELECT audit.tree_root($1)`, frontier); audit.Hash(root) != tree.Root() {
			t.Fatalf("the root of %d leaves differs", tree.Size())
		}
	}
	var got []byte
	if err := conn.QueryRow(t.Context(), `SELECT audit.extend_frontier(3, ''::bytea, ''::bytea)`).Scan(&got); audittest.SQLState(err) != "XX001" {
		t.Errorf("a frontier of another size: %v", err)
	}
}

// attackedLog is a log of some events, of which the first ones are sealed.
type attackedLog struct {
	db     *pgtest.DB
	log    *auditwriter.Log
	sealer *Sealer
	key    *audit.Signer
	place  *audittest.Shelf
}

func newAttackedLog(t testing.TB) *attackedLog {
	t.Helper()
	l := &attackedLog{db: audittest.Migrated(t), key: audittest.NewKey(t, "log.example/a"), place: &audittest.Shelf{}}
	l.log = writertest.Open(t, l.db.URL(database.Writer), nil)
	l.sealer = sealerFor(t, l.db.URL(database.Writer), l.log, withKey(l.key, l.place))
	for n := range 5 {
		audittest.Record(t, l.log, audittest.Decision("allow", n))
	}
	audittest.Seal(t, l.sealer) // 7 leaves
	return l
}

// TestAddCheckpointRefuses: a login that may seal adds the leaves of recorded
// events and no others, in order and without gaps, under a checkpoint over them.
func TestAddCheckpointRefuses(t *testing.T) {
	t.Parallel()
	l := newAttackedLog(t)
	for n := range 3 {
		audittest.Record(t, l.log, audittest.Decision("allow", n))
	}
	conn, own := audittest.Connect(t, l.db.URL(database.Sealer)), l.log.Writer()
	const maximum = int64(math.MaxInt64)
	note := l.place.All()[0]
	for name, c := range map[string]struct {
		writers []string
		from    []int64
		to      []int64
		note    any
		code    string
	}{
		"a number is skipped":        {[]string{own}, []int64{9}, []int64{9}, string(note), "55000"},
		"sealed already":             {[]string{own}, []int64{7}, []int64{8}, string(note), "55000"},
		"an event that is not there": {[]string{own}, []int64{8}, []int64{11}, string(note), "55000"},
		"the largest number":         {[]string{own}, []int64{8}, []int64{maximum}, string(note), "55000"},
		"the largest numbers":        {[]string{own, "w"}, []int64{8, maximum}, []int64{8, maximum}, string(note), "55000"},
		"too many":                   {[]string{own}, []int64{8}, []int64{100_008}, string(note), "22023"},
		"backwards":                  {[]string{own}, []int64{8}, []int64{7}, string(note), "55000"},
		"nobody's events":            {[]string{"nobody"}, []int64{1}, []int64{1}, string(note), "55000"},
		"twice":                      {[]string{own, own}, []int64{8, 8}, []int64{8, 8}, string(note), "55000"},
		"of two lengths":             {[]string{own}, []int64{8, 9}, []int64{8}, string(note), "22023"},
		"no note":                    {[]string{own}, []int64{8}, []int64{8}, nil, "22023"},
		"an empty note":              {[]string{own}, []int64{8}, []int64{8}, "", "22023"},
		"an unsigned note":           {[]string{own}, []int64{8}, []int64{8}, strings.Split(string(note), "\n\n")[0] + "\n\n", "22023"},
		"a long note":                {[]string{own}, []int64{8}, []int64{8}, strings.Repeat("x", 20_000), "22023"},
		"the note of another tree":   {[]string{own}, []int64{8}, []int64{8}, string(note), "23514"},
	} {
		if _, err := conn.Exec(t.Context(), `SELECT audit.add_checkpoint($1, $2, $3, $4)`, c.writers, c.from, c.to, c.note); audittest.SQLState(err) != c.code {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, change := range map[string]func(*audit.Checkpoint){
		"another size":   func(c *audit.Checkpoint) { c.Size++ },
		"another root":   func(c *audit.Checkpoint) { c.Root[0]++ },
		"no time":        func(c *audit.Checkpoint) { c.Time = time.Time{} },
		"the year 9999":  func(c *audit.Checkpoint) { c.Time = time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC) },
		"a year earlier": func(c *audit.Checkpoint) { c.Time = c.Time.AddDate(-1, 0, 0) },
	} {
		if err := audittest.AddCheckpoint(t, conn, l.log.Writer(), l.key, 9, change); err == nil {
			t.Errorf("%s: added", name)
		}
	}
	// Others wait for their turn, and what is refused leaves nothing behind.
	other := audittest.Connect(t, l.db.URL(database.Sealer))
	audittest.MustExec(t, other, `BEGIN`)
	if !audittest.QueryValue[bool](t, other, `SELECT audit.try_seal_lock()`) {
		t.Fatal("the lock is taken")
	}
	if err := audittest.AddCheckpoint(t, conn, l.log.Writer(), l.key, 9, nil); audittest.SQLState(err) != "55P03" {
		t.Errorf("sealed beside another: %v", err)
	}
	audittest.MustExec(t, other, `ROLLBACK`)
	audittest.CheckReport(t, readertest.Verify(t, l.db, audit.Trust{Notes: l.place.All()}), 7, 3)
	if err := audittest.AddCheckpoint(t, conn, l.log.Writer(), l.key, 9, nil); err != nil {
		t.Error(err)
	}
	if err := audittest.AddCheckpoint(t, conn, l.log.Writer(), l.key, 9, nil); err != nil { // nothing new
		t.Error(err)
	}
	if n := audittest.QueryValue[int64](t, conn, `SELECT max(number) FROM audit.checkpoints WHERE size = 9`); n != 3 {
		t.Errorf("the latest checkpoint has number %d", n)
	}
	audittest.Seal(t, l.sealer)
	audittest.CheckReport(t, readertest.Verify(t, l.db, audit.Trust{Notes: l.place.All()}), 10, 0)
}

// TestCheckpointOfAStrangersKey: a login that may seal, and has no key, adds
// checkpoints; sealing continues over them, and every reader reports them.
func TestCheckpointOfAStrangersKey(t *testing.T) {
	t.Parallel()
	l := newAttackedLog(t)
	conn, thief := audittest.Connect(t, l.db.URL(database.Sealer)), audittest.NewKey(t, "log.example/a")
	for n := range 3 {
		audittest.Record(t, l.log, audittest.Decision("allow", n))
	}
	audittest.Record(t, l.log, audit.Register(thief, time.Now())) // the writer's login names it
	for _, last := range []int64{8, 8, 9, 11} {
		if err := audittest.AddCheckpoint(t, conn, l.log.Writer(), thief, last, nil); err != nil {
			t.Fatal(err)
		}
	}
	audittest.Record(t, l.log, audittest.Decision("allow", 1))
	audittest.Seal(t, l.sealer)
	if st := l.sealer.Status(); st.Size != 12 || len(st.Invalid) != 4 || !strings.Contains(st.Invalid[0], "checkpoint 5") {
		t.Errorf("%+v", st)
	}
	audittest.Record(t, l.log, audittest.Decision("allow", 2))
	audittest.Seal(t, sealerFor(t, l.db.URL(database.Writer), l.log, withKey(l.key, l.place)))
	audittest.Eventually(t, "it is published", func() bool { n := l.place.All(); return len(n) > 0 && strings.Contains(string(n[len(n)-1]), "\n13\n") })
	r := readertest.Verify(t, l.db, audit.Trust{Keys: []audit.Key{l.key.Key()}, Notes: l.place.All()})
	if r.Leaves != 13 || r.Anchored.Size != 13 || r.Sound() {
		t.Errorf("%+v", r)
	}
	// Nothing that is sealed under it alone is accepted from a damaged tree: the owner
	// changes a leaf that no good checkpoint covers.
	audittest.Record(t, l.log, audittest.Decision("allow", 3))
	if err := audittest.AddCheckpoint(t, conn, l.log.Writer(), thief, 14, nil); err != nil {
		t.Fatal(err)
	}
	admin := audittest.Connect(t, l.db.URL(""))
	audittest.MustExec(t, admin, `ALTER TABLE audit.leaves DISABLE TRIGGER ALL; UPDATE audit.leaves SET hash = sha256('x') WHERE index = 13`)
	if err := l.sealer.Seal(t.Context()); !errors.Is(err, auditpg.ErrDamaged) {
		t.Errorf("sealed over a leaf of no event: %v", err)
	}
}

// TestWriterCannotSeal: the login that records adds no leaf and no checkpoint; as
// long as it could, one row ended sealing.
func TestWriterCannotSeal(t *testing.T) {
	t.Parallel()
	l := newAttackedLog(t)
	writer, admin := audittest.Connect(t, l.db.URL(database.Writer)), audittest.Connect(t, l.db.URL(""))
	const leaf = `INSERT INTO audit.leaves (index, writer, writer_sequence, hash) VALUES (9223372036854775807, 'x', 9223372036854775807, sha256(''))`
	const checkpoint = `INSERT INTO audit.checkpoints (number, size, time, root, frontier, note) VALUES (99, 99, now(), sha256(''), sha256(''), 'bogus')`
	for _, sql := range []string{leaf, checkpoint, `SELECT audit.try_seal_lock()`, `SELECT audit.add_checkpoint('{}', '{}', '{}', '')`, `SELECT audit.sealed_tree()`} {
		if _, err := writer.Exec(t.Context(), sql); audittest.SQLState(err) != "42501" {
			t.Errorf("%s: %v", sql, err)
		}
	}
	s := sealerFor(t, l.db.URL(database.Writer), l.log, withKey(l.key))
	s.connect.User = database.Writer
	if err := s.Seal(t.Context()); !errors.Is(err, ErrMayNotSeal) || !strings.Contains(err.Error(), "GRANT sallyport_sealer") {
		t.Errorf("seals as the writer: %v", err)
	}

	audittest.MustExec(t, admin, `GRANT INSERT ON audit.leaves, audit.checkpoints TO sallyport_writer`)
	audittest.MustExec(t, writer, checkpoint)
	audittest.Record(t, l.log, audittest.Decision("allow", 1))
	audittest.Seal(t, l.sealer) // whatever else the database holds
	if st := l.sealer.Status(); len(st.Invalid) != 1 || st.Size != 8 {
		t.Errorf("%+v", st)
	}
	if r := readertest.Verify(t, l.db, audit.Trust{Notes: l.place.All()}); r.Sound() {
		t.Error("verify does not report the bogus checkpoint")
	}
	if _, err := writer.Exec(t.Context(), leaf); audittest.SQLState(err) != "23514" {
		t.Errorf("the number of a leaf is not bounded: %v", err)
	}
	audittest.MustExec(t, writer, `INSERT INTO audit.leaves (index, writer, writer_sequence, hash) VALUES (9007199254740990, 'x', 9007199254740991, sha256(''))`)
	if err := l.sealer.Seal(t.Context()); !errors.Is(err, auditpg.ErrDamaged) {
		t.Errorf("negative control: one leaf does not end sealing any more: %v", err)
	}
	if r := readertest.Verify(t, l.db, audit.Trust{Notes: l.place.All()}); r.Sound() {
		t.Error("verify does not report the bogus leaf")
	}
}

// TestManyRanges: the ranges of one checkpoint may alternate between writers, of which
// the login that records makes any number. Each range follows the one before of its
// writer.
func TestManyRanges(t *testing.T) {
	t.Parallel()
	const names = 2000
	l := newAttackedLog(t)
	makeNames(t, l.db.URL(database.Writer), names)
	for n := range 3 {
		audittest.Record(t, l.log, audittest.Decision("allow", n))
	}
	conn, own := audittest.Connect(t, l.db.URL(database.Sealer)), l.log.Writer()
	writers := audittest.QueryStrings(t, conn, `SELECT DISTINCT writer FROM audit.events WHERE writer < '001' ORDER BY writer`)
	if len(writers) != names {
		t.Fatalf("%d writers", len(writers))
	}
	first, last := make([]int64, names), make([]int64, names)
	for i := range first {
		first[i], last[i] = 1, 1
	}
	add := func(writers []string, first, last []int64) error {
		size := audittest.QueryValue[int64](t, conn, `SELECT max(index) + 1 FROM audit.leaves`)
		tree, err := audit.RestoreTree(size, audittest.QueryValue[[]byte](t, conn, `SELECT frontier FROM audit.checkpoints ORDER BY number DESC LIMIT 1`))
		if err != nil {
			t.Fatal(err)
		}
		rows, err := conn.Query(t.Context(), `SELECT sha256('\x00'::bytea || audit.record(e)) FROM unnest($1::text[], $2::bigint[], $3::bigint[]) WITH ORDINALITY AS r (writer, first, last, place)
			JOIN audit.events e ON e.writer = r.writer COLLATE "C" AND e.writer_sequence BETWEEN r.first AND r.last ORDER BY r.place, e.writer_sequence`, writers, first, last)
		if err != nil {
			t.Fatal(err)
		}
		var hash []byte
		if _, err := pgx.ForEachRow(rows, []any{&hash}, func() error { tree.Append(audit.Hash(hash)); return nil }); err != nil {
			t.Fatal(err)
		}
		note, err := l.key.Sign(audit.Checkpoint{Size: tree.Size(), Root: tree.Root(), Time: time.Now()})
		if err != nil {
			t.Fatal(err)
		}
		_, err = conn.Exec(t.Context(), `SELECT audit.add_checkpoint($1, $2, $3, $4)`, writers, first, last, string(note))
		return err
	}
	at := names / 2
	alternating := slices.Insert(slices.Clone(writers), at, own)
	alternating = append(alternating, own)
	if err := add(alternating, append(slices.Insert(slices.Clone(first), at, 8), 10), append(slices.Insert(slices.Clone(last), at, 8), 10)); audittest.SQLState(err) != "55000" {
		t.Errorf("a writer's second range leaves out a number: %v", err)
	}
	if err := add(alternating, append(slices.Insert(slices.Clone(first), at, 8), 9), append(slices.Insert(slices.Clone(last), at, 8), 10)); err != nil {
		t.Errorf("%d ranges: %v", len(alternating), err)
	}
	// Every tenth of the writers has a gap.
	r := readertest.Verify(t, l.db, audit.Trust{Keys: []audit.Key{l.key.Key()}})
	if r.Leaves != 7+names+3 || len(r.Counts) != 1 || r.Counts[audit.DamageMissing] != names/10 {
		t.Errorf("%d leaves: %v", r.Leaves, r.Counts)
	}
}
