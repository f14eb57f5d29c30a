package postgres_test

import (
	"errors"
	"net/netip"
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

// oddColumns are values that PostgreSQL and the programs write differently.
var oddColumns = map[string]string{
	"client_address": `inet '10.1.0.0/16'`,
	"dialed_address": `inet '::192.0.2.1'`,
	"addresses":      `ARRAY[inet '192.0.2.1', NULL]`,
	"rules":          `'{}'::text[]`,
	"exceptions":     `ARRAY['a', NULL]`,
	"duration":       `interval '1 month'`,
}

// addOdd adds an event whose record would follow from one such column.
func addOdd(t *testing.T, conn *pgx.Conn, writer, column string, number int) error {
	t.Helper()
	_, err := conn.Exec(t.Context(), `INSERT INTO audit.events (time, kind, writer, writer_sequence, `+column+`) VALUES (now(), 'decision', $1, $2, `+oddColumns[column]+`)`, writer, number)
	return err
}

// TestOddColumnsAreRefused: a login that may write cannot add an event that sealing
// and verification understand differently.
func TestOddColumnsAreRefused(t *testing.T) {
	t.Parallel()
	conn := audittest.Connect(t, audittest.Migrated(t).URL(database.Writer))
	writer := audittest.ActAs(t, conn)
	for column := range oddColumns {
		if err := addOdd(t, conn, writer, column, 1); audittest.SQLState(err) != "23514" || !strings.Contains(err.Error(), "events_record_follows") {
			t.Errorf("an odd %s: %v", column, err)
		}
	}
	for _, row := range []string{`'admin', NULL, NULL`, `'decision', '"verdict":"allow"', NULL`, `'decision', '', '{}'`} {
		if _, err := conn.Exec(t.Context(), `INSERT INTO audit.events (time, writer, writer_sequence, kind, record_rest, record) VALUES (now(), $1, 1, `+row+`)`, writer); audittest.SQLState(err) != "23514" {
			t.Errorf("kind, rest and record %s: %v", row, err)
		}
	}
}

// TestOddColumnsConstraintIsNeeded: without the constraint such an event stops sealing.
func TestOddColumnsConstraintIsNeeded(t *testing.T) {
	t.Parallel()
	db := audittest.Migrated(t)
	audittest.MustExec(t, audittest.Connect(t, db.URL("")), `ALTER TABLE audit.events DROP CONSTRAINT events_record_follows`)
	l := writertest.Open(t, db.URL(database.Writer), nil)
	s := sealertest.Open(t, db.URL(database.Sealer), l, sealertest.WithKey(audittest.NewKey(t, "")))
	conn := audittest.Connect(t, db.URL(database.Writer))
	for column := range oddColumns {
		if err := addOdd(t, conn, audittest.ActAs(t, conn), column, 1); err != nil {
			t.Fatal(err)
		}
	}
	var err error
	for range 3 { // the key comes first
		err = errors.Join(err, s.Seal(t.Context()))
	}
	if !errors.Is(err, auditpg.ErrDamaged) {
		t.Errorf("the odd events are sealed: %v", err)
	}
}

// An event whose record would not follow from its columns has it stored.
func TestRecordsThatAreStored(t *testing.T) {
	t.Parallel()
	db := audittest.Migrated(t)
	l := writertest.Open(t, db.URL(database.Writer), nil)
	conn := audittest.Connect(t, db.URL(""))
	for name, c := range map[string]struct {
		change func(*audit.Event)
		stored bool
	}{
		"a usual decision": {func(*audit.Event) {}, false},
		"attributes":       {func(e *audit.Event) { e.Attributes = []audit.Attribute{{Name: "a", Value: `"\`}} }, false},
		"several rules and addresses": {func(e *audit.Event) {
			e.Rules, e.Addresses = []string{"a", `"b\`}, append(e.Addresses, netip.MustParseAddr("::ffff:192.0.2.1"))
		}, false},
		"from the loopback":       {func(e *audit.Event) { e.ClientAddress = netip.IPv6Loopback() }, false},
		"to an embedded address":  {func(e *audit.Event) { e.DialedAddress = netip.MustParseAddr("::192.0.2.1") }, true},
		"one among the addresses": {func(e *audit.Event) { e.Addresses = append(e.Addresses, netip.MustParseAddr("::192.0.2.1")) }, true},
		"an exception": {func(e *audit.Event) {
			e.Exceptions, e.Attributes = []string{""}, []audit.Attribute{{Name: "exceptions", Value: "[]"}}
		}, true},
		"not a decision": {func(e *audit.Event) { e.Kind = audit.KindAdmin }, true},
	} {
		e := audittest.Decision("allow", 1)
		c.change(e)
		ours := *e
		audittest.Record(t, l, e)
		last := int64(l.Stats().Recorded)
		ours.Normalise()
		ours.Writer, ours.WriterSequence = l.Writer(), last
		if got := audittest.SameRecords(t, conn, "WHERE writer_sequence = $1", last); string(got[0]) != string(ours.AppendRecord(nil)) {
			t.Errorf("%s: the record is\n%s\nand not\n%s", name, got[0], ours.AppendRecord(nil))
		}
		if stored := audittest.QueryValue[bool](t, conn, `SELECT record IS NOT NULL FROM audit.events WHERE writer_sequence = $1`, last); stored != c.stored {
			t.Errorf("%s: the record is stored: %v", name, stored)
		}
	}
}
