package sealer

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/audit/postgres/internal/audittest"
	"github.com/sallyport/sallyport/audit/postgres/internal/readertest"
	"github.com/sallyport/sallyport/audit/postgres/internal/writertest"
	"github.com/sallyport/sallyport/internal/database"
)

const recordExport = `SELECT audit.record_export($1, $2, $3, $4, $5)`

var nothing = sha256.Sum256(nil)

// oddText makes text that is hard to write down: quotes, backslashes, control
// characters, what hides text, what is outside of the first plane.
func oddText(random *rand.Rand, most int) string {
	alphabet := []rune("aZ09 \"\\\n\t\r\x01\x1f\x7f\u0080\u009f\u00e9\u061c\u200e\u200f\u2028\u202e\u2066\u2069\ufeff\ufffd€…😀\U0010ffff{}:,")
	var b strings.Builder
	for range random.IntN(most + 1) {
		b.WriteRune(alphabet[random.IntN(len(alphabet))])
	}
	return b.String()
}

// TestEscape: the database escapes and caps a text as audit.Text does.
func TestEscape(t *testing.T) {
	t.Parallel()
	conn := audittest.Connect(t, audittest.Migrated(t).URL(""))
	random := rand.New(rand.NewPCG(1, 2))
	for n := range 1500 {
		limit := []int{8, 10, 16, 64, 2048}[n%5]
		value := oddText(random, limit+3)
		if n%7 == 0 {
			value = strings.Repeat("x", limit-random.IntN(4)) + oddText(random, 4)
		}
		if got, want := audittest.QueryValue[string](t, conn, `SELECT audit.escape($1, $2)`, value, limit), audit.Text(value, limit); got != want {
			t.Fatalf("%q within %d: %q, and audit.Text says %q", value, limit, got, want)
		}
	}
}

// again decodes a record and encodes it again.
func again(t *testing.T, record []byte) []byte {
	t.Helper()
	var said struct {
		Version        int
		Time           time.Time
		Kind           audit.Kind
		Writer         string
		WriterSequence int64      `json:"writer_sequence"`
		ClientAddress  netip.Addr `json:"client_address"`
		Attributes     json.RawMessage
	}
	if err := json.Unmarshal(record, &said); err != nil {
		t.Fatalf("%s: %v", record, err)
	}
	e := &audit.Event{Time: said.Time, Kind: said.Kind, Writer: said.Writer, WriterSequence: said.WriterSequence, ClientAddress: said.ClientAddress}
	if said.Attributes != nil {
		d := json.NewDecoder(strings.NewReader(string(said.Attributes)))
		if _, err := d.Token(); err != nil {
			t.Fatal(err)
		}
		for d.More() {
			name, _ := d.Token()
			value, err := d.Token()
			if err != nil {
				t.Fatal(err)
			}
			e.Attributes = append(e.Attributes, audit.Attribute{Name: name.(string), Value: value.(string)})
		}
	}
	e.Normalise()
	return e.AppendRecord(nil)
}

// TestRecordExport: what the database records of an export is a record like any
// other, whatever is in it, and is sealed and verified like any other.
func TestRecordExport(t *testing.T) {
	t.Parallel()
	db := audittest.Migrated(t)
	l := writertest.Open(t, db.URL(database.Writer), nil)
	s := sealerFor(t, db.URL(database.Writer), l, withKey(audittest.NewKey(t, "")))
	audittest.Seal(t, s)
	auditor, writer, admin := audittest.Connect(t, db.URL(database.Auditor)), audittest.Connect(t, db.URL(database.Writer)), audittest.Connect(t, db.URL(""))
	random := rand.New(rand.NewPCG(3, 4))
	const events = 60
	for n := range events {
		conn := []*pgx.Conn{auditor, writer}[n%2]
		parameters := oddText(random, 300)
		if n == 7 {
			parameters = strings.Repeat(`{"host":"`+strings.Repeat("😀", 90)+`"}`, 2000)
		}
		if number := audittest.QueryValue[int64](t, conn, recordExport, "query"+oddText(random, 20), parameters, n, nothing[:], "sallyport test"); number != int64(n+1) {
			t.Fatalf("event %d has the number %d", n+1, number)
		}
	}
	rows, err := admin.Query(t.Context(), `SELECT record FROM audit.events WHERE writer = 'database' ORDER BY writer_sequence`)
	if err != nil {
		t.Fatal(err)
	}
	records, err := pgx.CollectRows(rows, pgx.RowTo[[]byte])
	if err != nil || len(records) != events {
		t.Fatal(len(records), err)
	}
	for _, record := range records {
		if second := again(t, record); string(second) != string(record) {
			t.Errorf("written again it is\n%s\nand not\n%s", second, record)
		}
	}
	said := audittest.AttributesOf(t, records[7])
	if said["login"] != "sallyport_writer" || said["rows"] != "7" || said["digest"] != "sha256:"+hex.EncodeToString(nothing[:]) ||
		len(said["parameters"]) > 2048 || !strings.HasPrefix(said["parameters_digest"], "sha256:") {
		t.Errorf("%v", said)
	}
	if audittest.AttributesOf(t, records[0])["login"] != "sallyport_auditor" {
		t.Errorf("%s", records[0])
	}
	audittest.Sound(t, admin)

	// The sealer takes it within a step, although it has no first event, and does
	// not think it lost.
	if r := readertest.Verify(t, db, audit.Trust{}); r.Unsealed != events || !r.Sound() {
		t.Errorf("%+v", r)
	}
	audittest.Seal(t, s)
	r := readertest.Verify(t, db, audit.Trust{})
	audittest.CheckReport(t, r, events+2, 0)
	if r.Unended != 1 {
		t.Errorf("%d writers without an end: the database has none", r.Unended)
	}
	s.config.LostAfter = time.Nanosecond
	s.writers = newWriters()
	for range 3 {
		audittest.Seal(t, s)
	}
	if n := audittest.QueryValue[int](t, admin, `SELECT count(*) FROM audit.events WHERE kind = 'writer_lost'`); n != 0 {
		t.Error("the database was taken for a lost writer")
	}
	if n := audittest.QueryValue[int64](t, admin, `SELECT missing FROM audit.writers WHERE writer = 'database'`); n != 0 {
		t.Errorf("%d missing", n)
	}
}

// TestExportsThatAreRefused: arguments are bounded, and nothing is written.
func TestExportsThatAreRefused(t *testing.T) {
	t.Parallel()
	db := audittest.Migrated(t)
	conn := audittest.Connect(t, db.URL(database.Auditor))
	for _, arguments := range [][]any{
		{nil, "{}", 1, nothing[:], "tool"}, {"", "{}", 1, nothing[:], "tool"}, {strings.Repeat("x", 501), "{}", 1, nothing[:], "tool"},
		{"query", nil, 1, nothing[:], "tool"}, {"query", strings.Repeat("x", 1<<20+1), 1, nothing[:], "tool"},
		{"query", "{}", -1, nothing[:], "tool"}, {"query", "{}", nil, nothing[:], "tool"},
		{"query", "{}", 1, nothing[:31], "tool"}, {"query", "{}", 1, nil, "tool"}, {"query", "{}", 1, nothing[:], nil}, {"query", "{}", 1, nothing[:], strings.Repeat("x", 501)},
	} {
		if _, err := conn.Exec(t.Context(), recordExport, arguments...); audittest.SQLState(err) != "22023" {
			t.Errorf("%.60v: %v", arguments, err)
		}
	}
	// A snapshot that is older than the lock would give a number twice.
	for _, level := range []pgx.TxIsoLevel{pgx.RepeatableRead, pgx.Serializable} {
		tx, err := conn.BeginTx(t.Context(), pgx.TxOptions{IsoLevel: level})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tx.Exec(t.Context(), recordExport, "query", "{}", 1, nothing[:], "tool"); audittest.SQLState(err) != "25000" {
			t.Errorf("%s: %v", level, err)
		}
		_ = tx.Rollback(t.Context())
	}
	// No login writes in the name of the database, not even a superuser's.
	const forged = `INSERT INTO audit.events (time, kind, writer, writer_sequence, record) VALUES (now(), 'hold_lifted', 'database', 1, '{}')`
	for _, role := range []string{database.Writer, ""} {
		if _, err := audittest.Connect(t, db.URL(role)).Exec(t.Context(), forged); audittest.SQLState(err) != "42501" {
			t.Errorf("%q: %v", role, err)
		}
	}
	if n := audittest.QueryValue[int](t, conn, `SELECT count(*) FROM audit.events`); n != 0 {
		t.Errorf("%d events", n)
	}
}

// TestDatabaseNumbers: numbers have no gaps, and become visible in their order,
// while many call, some take it back, and the sealer looks on.
func TestDatabaseNumbers(t *testing.T) {
	t.Parallel()
	db := audittest.Migrated(t)
	l := writertest.Open(t, db.URL(database.Writer), nil)
	s := sealerFor(t, db.URL(database.Writer), l, withKey(audittest.NewKey(t, "")))
	var wg sync.WaitGroup
	stop := make(chan struct{})
	for n := range 6 {
		conn := audittest.Connect(t, db.URL([]string{database.Writer, database.Auditor}[n%2]))
		wg.Go(func() {
			for i := range 40 {
				tx, err := conn.Begin(context.Background())
				if err == nil {
					_, err = tx.Exec(context.Background(), recordExport, "query", fmt.Sprint(n, i), i, nothing[:], "test")
				}
				if err == nil && i%3 == 0 {
					err = tx.Rollback(context.Background())
				} else if err == nil {
					err = tx.Commit(context.Background())
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	looked := make(chan struct{})
	go func() {
		defer close(looked)
		watch := audittest.Connect(t, db.URL(database.Auditor))
		for {
			var seen []int64
			rows, err := watch.Query(context.Background(), `SELECT writer_sequence FROM audit.events WHERE writer = 'database' ORDER BY writer_sequence`)
			if err == nil {
				seen, err = pgx.CollectRows(rows, pgx.RowTo[int64])
			}
			if err != nil || len(seen) > 0 && (seen[0] != 1 || seen[len(seen)-1] != int64(len(seen))) {
				t.Errorf("numbers %v, %v", seen, err)
			}
			if err := s.Seal(context.Background()); err != nil {
				t.Error(err)
			}
			if f := s.Status().Findings; len(f) > 0 {
				t.Errorf("the sealer sees %v", f)
			}
			select {
			case <-stop:
				return
			default:
			}
		}
	}()
	wg.Wait()
	close(stop)
	<-looked
	audittest.Seal(t, s)
	r := readertest.Verify(t, db, audit.Trust{})
	audittest.CheckReport(t, r, 2+6*26, 0)
}
