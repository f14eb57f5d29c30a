package reader

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/sallyport/sallyport/audit"
	auditpg "github.com/sallyport/sallyport/audit/postgres"
	"github.com/sallyport/sallyport/audit/postgres/internal/audittest"
	"github.com/sallyport/sallyport/audit/postgres/internal/sealertest"
	"github.com/sallyport/sallyport/audit/postgres/internal/writertest"
	"github.com/sallyport/sallyport/internal/database"
)

var (
	edits = flag.Int("edits", 140, "how many edits of sealed rows TestTamper makes")
)

// forger has a superuser's rights over a sealed log, and without
// its key.
type forger struct {
	t      testing.TB
	tx     pgx.Tx
	random *rand.Rand
	leaves int64
	sizes  []int64 // of the checkpoints

	partition string  // of the month that retention has taken
	present   []int64 // leaves whose events it has left
	decisions []int64 // those of them that are of decisions
	months    []string
}

func (f *forger) do(sql string, args ...any) {
	f.t.Helper()
	tag, err := f.tx.Exec(f.t.Context(), sql, args...)
	if err != nil {
		f.t.Fatalf("%s %v: %v", sql, args, err)
	}
	if tag.RowsAffected() == 0 && !strings.HasPrefix(sql, "DROP") && !strings.HasPrefix(sql, "ALTER") {
		f.t.Fatalf("%s %v: nothing was changed", sql, args)
	}
}

// leaf picks one whose event is there.
func (f *forger) leaf() int64 { return f.present[f.random.IntN(len(f.present))] }

// decision picks one of a decision.
func (f *forger) decision() int64 { return f.decisions[f.random.IntN(len(f.decisions))] }

// size picks a checkpoint that is not the last.
func (f *forger) size() int64 { return f.sizes[f.random.IntN(len(f.sizes)-1)] }

const ofLeaf = `(writer, writer_sequence) = (SELECT l.writer, l.writer_sequence FROM audit.leaves l WHERE l.index = $1)`

// changes are edits of a column by its type.
var changes = map[string]string{
	"text": `coalesce(%s, '') || 'x'`, "int4": `coalesce(%s, 0) + 1`, "int8": `coalesce(%s, 0) + 100000`, "bool": `NOT coalesce(%s, false)`,
	"uuid": `CASE WHEN %s IS NULL THEN gen_random_uuid() END`, "inet": `CASE WHEN %s IS NULL THEN '198.51.100.77'::inet END`,
	"_text": `array_append(coalesce(%s, '{}'), 'x')`, "_inet": `array_append(coalesce(%s, '{}'), '198.51.100.77')`,
	"interval": `coalesce(%s, '0') + '1 us'`, "timestamptz": `%s + '1 us'`,
}

// frauds are the ways to lie. Each changes something that was sealed.
var frauds = map[string]func(f *forger){
	"edit of a column": func(f *forger) {
		c := auditpg.RecordColumns[f.random.IntN(len(auditpg.RecordColumns))].Name
		var kind string
		if err := f.tx.QueryRow(f.t.Context(), `SELECT t.typname FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
			WHERE a.attrelid = 'audit.events'::regclass AND a.attname = $1`, c).Scan(&kind); err != nil {
			f.t.Fatal(err)
		}
		f.do(fmt.Sprintf(`UPDATE audit.events SET %s = %s WHERE `+ofLeaf, c, fmt.Sprintf(changes[kind], c)), f.leaf())
	},
	"edit of a record": func(f *forger) {
		f.do(`UPDATE audit.events e SET record_rest = NULL, record = set_byte(r.record, $2 % length(r.record), (get_byte(r.record, $2 % length(r.record)) + $3) % 256)
			FROM (SELECT audit.record(v) AS record FROM audit.events v WHERE `+ofLeaf+`) r WHERE `+ofLeaf,
			f.leaf(), f.random.IntN(1<<20), 1+f.random.IntN(255))
	},
	// The record stays the same to the byte: what was in columns is in its rest.
	"columns moved into the rest": func(f *forger) {
		f.do(`UPDATE audit.events e SET verdict = NULL, mode = NULL, would_deny = NULL, reason = NULL, rule = NULL, rules = NULL, message = NULL, revision = NULL, commit = NULL, status = NULL,
				upstream_proxy = NULL, dialed_address = NULL, addresses = NULL, record_rest = substr(r.said, strpos(r.said, '"verdict":'), length(r.said) - strpos(r.said, '"verdict":'))
			FROM (SELECT v.writer, v.writer_sequence, convert_from(audit.record(v), 'UTF8') AS said FROM audit.events v WHERE v.kind = 'decision' AND v.record IS NULL ORDER BY random() LIMIT 1) r
			WHERE e.writer = r.writer AND e.writer_sequence = r.writer_sequence`)
	},
	"a stored record beside other columns": func(f *forger) {
		f.do(`UPDATE audit.events e SET record = audit.record(e), record_rest = NULL, verdict = 'forged' WHERE kind = 'decision' AND `+ofLeaf, f.decision())
	},
	"edit of an event and its leaf": func(f *forger) {
		at := f.leaf()
		f.do(`UPDATE audit.events e SET record_rest = NULL, close_reason = 'forged', record = convert_to(replace(convert_from(audit.record(e), 'UTF8'), '"kind"', '"close_reason":"forged","kind"'), 'UTF8') WHERE `+ofLeaf, at)
		f.do(`UPDATE audit.leaves l SET hash = sha256('\x00'::bytea || audit.record(e)) FROM audit.events e
			WHERE l.index = $1 AND e.writer = l.writer AND e.writer_sequence = l.writer_sequence`, at)
	},
	"deletion": func(f *forger) { f.do(`DELETE FROM audit.events WHERE `+ofLeaf, f.leaf()) },
	"deletion with the leaf": func(f *forger) {
		at := f.leaf()
		f.do(`DELETE FROM audit.events WHERE `+ofLeaf, at)
		f.do(`DELETE FROM audit.leaves WHERE index = $1`, at)
		if f.random.IntN(2) == 0 && at < f.leaves-1 { // and no gap shows
			f.do(`UPDATE audit.leaves SET index = index + 1000000 WHERE index > $1`, at)
			f.do(`UPDATE audit.leaves SET index = index - 1000001 WHERE index > 1000000 + $1`, at)
		}
	},
	"insertion": func(f *forger) {
		switch f.random.IntN(4) {
		case 0: // under a number that was given
			f.do(`INSERT INTO audit.events (time, kind, writer, writer_sequence, record)
				SELECT time + '1 us', kind, writer, writer_sequence, audit.record(e) FROM audit.events e WHERE `+ofLeaf, f.leaf())
		case 1: // under one that never is
			f.do(`INSERT INTO audit.events (time, kind, writer, writer_sequence, record)
				SELECT time, kind, writer, -$2::int, audit.record(e) FROM audit.events e WHERE `+ofLeaf, f.leaf(), f.random.IntN(100))
		case 2: // behind the end of its writer
			f.do(`INSERT INTO audit.events (time, kind, writer, writer_sequence, record)
				SELECT time, 'decision', writer, writer_sequence + 1, '{}' FROM audit.events WHERE kind = 'writer_ended' ORDER BY random() LIMIT 1`)
		default: // in the name of a writer that never was
			f.do(`INSERT INTO audit.events (time, kind, writer, writer_sequence, record)
				SELECT e.time, e.kind, 'forged', 1, convert_to(regexp_replace(convert_from(audit.record(e), 'UTF8'), '"writer":"[^"]*","writer_sequence":[0-9]+', '"writer":"forged","writer_sequence":1'), 'UTF8')
				FROM audit.events e WHERE e.time < now() - interval '30 hours' ORDER BY random() LIMIT 1`)
		}
	},
	"swap of events": func(f *forger) {
		a, b := f.pair()
		f.do(`UPDATE audit.events e SET record = audit.record(o), record_rest = NULL, kind = o.kind, decision_id = o.decision_id, host = o.host, verdict = o.verdict
			FROM audit.events o, audit.leaves le, audit.leaves lo
			WHERE (le.index, lo.index) IN (($1, $2), ($2, $1))
			  AND e.writer = le.writer AND e.writer_sequence = le.writer_sequence AND o.writer = lo.writer AND o.writer_sequence = lo.writer_sequence`, a, b)
	},
	"swap of leaves": func(f *forger) {
		a, b := f.pair()
		f.do(`UPDATE audit.leaves SET index = -1 - index WHERE index IN ($1, $2)`, a, b)
		f.do(`UPDATE audit.leaves SET index = $1::bigint + $2::bigint + 1 + index WHERE index < 0`, a, b)
	},
	"truncated tail": func(f *forger) {
		at := f.leaves - 1 - f.random.Int64N(50)
		f.do(`DELETE FROM audit.events e USING audit.leaves l WHERE l.index >= $1 AND e.writer = l.writer AND e.writer_sequence = l.writer_sequence`, at)
		f.do(`DELETE FROM audit.leaves WHERE index >= $1`, at)
		f.do(`DELETE FROM audit.checkpoints WHERE size > $1`, at)
	},
	"dropped partition": func(f *forger) {
		month := f.months[f.random.IntN(len(f.months))]
		if f.random.IntN(2) == 0 {
			f.do(`DROP TABLE ` + month)
		} else {
			f.do(`ALTER TABLE audit.events DETACH PARTITION ` + month)
		}
	},
	"older backup": func(f *forger) {
		size := f.size()
		f.do(`DELETE FROM audit.events e WHERE NOT EXISTS (SELECT FROM audit.leaves l WHERE l.index < $1 AND l.writer = e.writer AND l.writer_sequence = e.writer_sequence)`, size)
		f.do(`DELETE FROM audit.leaves WHERE index >= $1`, size)
		f.do(`DELETE FROM audit.checkpoints WHERE size > $1`, size)
	},
	"row of another log": func(f *forger) {
		at := f.leaf()
		f.do(`UPDATE audit.events e SET record = o.record, record_rest = NULL, kind = o.kind, decision_id = o.decision_id, host = o.host, step_uuid = o.step_uuid
			FROM (SELECT * FROM foreign_events ORDER BY random() LIMIT 1) o
			WHERE (e.writer, e.writer_sequence) = (SELECT l.writer, l.writer_sequence FROM audit.leaves l WHERE l.index = $1)`, at)
		if f.random.IntN(2) == 0 {
			f.do(`UPDATE audit.leaves l SET hash = sha256('\x00'::bytea || audit.record(e)) FROM audit.events e
				WHERE l.index = $1 AND e.writer = l.writer AND e.writer_sequence = l.writer_sequence`, at)
		}
	},
	"what retention left": func(f *forger) {
		const one = ` WHERE ctid = (SELECT ctid FROM %[1]s ORDER BY random() LIMIT 1)`
		switch f.random.IntN(3) {
		case 0:
			f.do(fmt.Sprintf(`DELETE FROM %[1]s`+one, f.partition))
		case 1:
			f.do(fmt.Sprintf(`UPDATE %[1]s SET close_reason = coalesce(close_reason, '') || 'x'`+one, f.partition))
		default: // deleted, and the month taken once more
			f.do(fmt.Sprintf(`DELETE FROM %[1]s`+one, f.partition))
			f.retention(fmt.Sprintf("0-%d", f.leaves-1), "2024-01")
		}
	},
	"false retention": func(f *forger) {
		switch at := f.leaf(); f.random.IntN(3) {
		case 0: // the event of before, once more, for a young event
			f.do(`DELETE FROM audit.events WHERE writer <> 'database' AND kind = 'decision' AND time = (SELECT max(time) FROM audit.events WHERE kind = 'decision')`)
			f.do(`INSERT INTO audit.events (time, kind, writer, writer_sequence, record)
				SELECT now(), kind, writer, writer_sequence + 1, record FROM audit.events WHERE kind = 'retention'`)
		case 1: // not sealed: it is not signed
			f.do(`DELETE FROM audit.events WHERE ctid = (SELECT ctid FROM audit.events WHERE kind = 'decision' ORDER BY random() LIMIT 1)
				AND kind = 'decision'`)
			f.retention(fmt.Sprint(at), "2024-01")
		default: // it names more than it did
			f.do(`DELETE FROM audit.events WHERE kind = 'decision' AND time = (SELECT max(time) FROM audit.events WHERE kind = 'decision')`)
			f.do(`UPDATE audit.events SET record = convert_to(regexp_replace(convert_from(record, 'UTF8'), '"leaves":"[^"]*"', '"leaves":"0-100000"'), 'UTF8') WHERE kind = 'retention'`)
		}
	},
	"edit of a checkpoint": func(f *forger) {
		switch size := f.size(); f.random.IntN(4) {
		case 0:
			f.do(`UPDATE audit.checkpoints SET root = set_byte(root, 3, (get_byte(root, 3) + 1) % 256) WHERE size = $1`, size)
		case 1:
			f.do(`UPDATE audit.checkpoints SET frontier = set_byte(frontier, 3, (get_byte(frontier, 3) + 1) % 256) WHERE size = $1`, size)
		case 2:
			f.do(`UPDATE audit.checkpoints SET time = time - interval '1 day' WHERE size = $1`, size)
		default:
			f.do(`UPDATE audit.checkpoints SET note = replace(note, E'\ntime 20', E'\ntime 19') WHERE size = $1`, size)
		}
	},
	"edit of a leaf": func(f *forger) {
		if f.random.IntN(2) == 0 {
			f.do(`UPDATE audit.leaves SET hash = set_byte(hash, 3, (get_byte(hash, 3) + 1) % 256) WHERE index = $1`, f.leaf())
		} else {
			f.do(`UPDATE audit.leaves SET writer_sequence = writer_sequence + 1000000 WHERE index = $1`, f.leaf())
		}
	},
}

func (f *forger) pair() (a, b int64) {
	a = f.leaf()
	for b = f.leaf(); a == b; {
		b = f.leaf()
	}
	return a, b
}

// retention writes the event that retention would have written.
func (f *forger) retention(leaves, month string) {
	f.do(`INSERT INTO audit.events (time, kind, writer, writer_sequence, record)
		SELECT at, 'retention', 'database', n, convert_to('{"version":1,"time":"' || to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') ||
			'","kind":"retention","writer":"database","writer_sequence":' || n || ',"attributes":{"month":"' || $2::text || '","events":"1","stayed":"0","leaves":"' || $1::text || '"}}', 'UTF8')
		FROM (SELECT now() AS at, 1 + max(writer_sequence) AS n FROM audit.events WHERE writer = 'database') d`, leaves, month)
}

// TestTamper lies in every way, a random one each time, and every lie is found
// by who has a checkpoint from outside. The sealed log is the same each time:
// each change is made inside a transaction that is rolled back.
func TestTamper(t *testing.T) {
	t.Parallel()
	db, other := audittest.Migrated(t), audittest.Migrated(t)
	key := audittest.VariedLog(t, db, partsOf(t, db), 250, true)
	audittest.VariedLog(t, other, partsOf(t, other), 30, false)
	admin := audittest.Connect(t, db.URL(""))
	// Retention removed a month, and that is sealed.
	taken := audittest.OldMonth()
	number := audittest.QueryValue[int64](t, admin, `SELECT audit.expire($1)`, taken)
	last := writertest.Open(t, db.URL(database.Writer), nil)
	audittest.Seal(t, sealertest.Open(t, db.URL(database.Writer), last, sealertest.WithKey(key)))
	f := &forger{t: t, leaves: audittest.QueryValue[int64](t, admin, `SELECT count(*) FROM audit.leaves`)}
	outside := []byte(audittest.QueryValue[string](t, admin, `SELECT note FROM audit.checkpoints ORDER BY size DESC LIMIT 1`))
	trust := audit.Trust{Keys: []audit.Key{key.Key()}, Notes: [][]byte{outside}}
	r := verify(t, db, trust)
	audittest.CheckReport(t, r, f.leaves, 0)
	f.present = numbers(t, admin, `SELECT l.index FROM audit.leaves l JOIN audit.events e USING (writer, writer_sequence)`)
	f.decisions = numbers(t, admin, `SELECT l.index FROM audit.leaves l JOIN audit.events e USING (writer, writer_sequence) WHERE e.kind = 'decision'`)
	if r.Expired < 20 || f.leaves-int64(len(f.present)) != r.Expired || len(r.Retentions) != 1 || r.Retentions[0].Sequence != number {
		t.Fatalf("%d expired, %+v", r.Expired, r.Retentions)
	}
	f.partition = "audit.events_" + taken.Format("2006_01")
	f.sizes = numbers(t, admin, `SELECT size FROM audit.checkpoints ORDER BY size`)
	f.months = audittest.QueryStrings(t, admin, `SELECT DISTINCT tableoid::regclass::text FROM audit.events`)
	audittest.DisableTriggers(t, admin)
	copyEvents(t, audittest.Connect(t, other.URL("")), admin)

	kinds := make([]string, 0, len(frauds))
	for kind := range frauds {
		kinds = append(kinds, kind)
	}
	slices.Sort(kinds)
	counts := make(map[string]int)
	for n := range *edits {
		kind := kinds[n%len(kinds)]
		seed := rand.Uint64()
		f.random = rand.New(rand.NewPCG(seed, 0))
		if report := f.attempt(admin, frauds[kind], trust); report.Sound() {
			t.Errorf("%s (seed %d) is not found", kind, seed)
		}
		counts[kind]++
	}
	t.Logf("%d edits of %d sealed events, all found: %v", *edits, f.leaves, counts)
	if r := verify(t, other, trust); r.Sound() {
		t.Error("the whole of another log is not found")
	}
}

// attempt lies, verifies in the same transaction, and takes the lie back.
func (f *forger) attempt(conn *pgx.Conn, fraud func(*forger), trust audit.Trust) *audit.Report {
	f.t.Helper()
	var err error
	if f.tx, err = conn.Begin(f.t.Context()); err != nil {
		f.t.Fatal(err)
	}
	defer func() {
		if err := f.tx.Rollback(f.t.Context()); err != nil {
			f.t.Fatal(err)
		}
	}()
	fraud(f)
	config, err := database.ParseConfig(conn.Config().ConnString(), "test")
	if err != nil {
		f.t.Fatal(err)
	}
	r := &Reader{connect: config, conn: conn, tx: f.tx, alone: true, window: []int64{0, 7, 64}[f.random.IntN(3)]}
	return audittest.ReportOf(f.t, trust, func(ctx context.Context, v *audit.Verification) error { return r.Walk(ctx, v, nil) })
}

func numbers(t testing.TB, conn *pgx.Conn, sql string) []int64 {
	t.Helper()
	rows, err := conn.Query(t.Context(), sql)
	if err != nil {
		t.Fatal(err)
	}
	all, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// copyEvents puts another log's events where a forger finds them.
func copyEvents(t testing.TB, from, to *pgx.Conn) {
	t.Helper()
	if _, err := to.Exec(t.Context(), `CREATE TABLE foreign_events AS SELECT kind, decision_id, host, step_uuid, audit.record(e) AS record FROM audit.events e LIMIT 0`); err != nil {
		t.Fatal(err)
	}
	rows, err := from.Query(t.Context(), `SELECT kind, decision_id::text, host, step_uuid::text, audit.record(e) FROM audit.events e WHERE kind = 'decision'`)
	if err != nil {
		t.Fatal(err)
	}
	var kind, id, host, step string
	var record []byte
	if _, err := pgx.ForEachRow(rows, []any{&kind, &id, &host, &step, &record}, func() error {
		_, err := to.Exec(t.Context(), `INSERT INTO foreign_events VALUES ($1, $2::text::uuid, $3, $4::text::uuid, $5)`, kind, id, host, step, record)
		return err
	}); err != nil {
		t.Fatal(err)
	}
}
