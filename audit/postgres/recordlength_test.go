package postgres_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/audit/postgres/internal/audittest"
	auditreader "github.com/sallyport/sallyport/audit/postgres/reader"
	"github.com/sallyport/sallyport/internal/database"
)

// addLong adds an event with a record of so many bytes, which compress well, and a
// message of so many.
const addLong = `INSERT INTO audit.events (time, kind, writer, writer_sequence, record, message)
	VALUES (now(), 'decision', $3, 1, convert_to('{"a":"' || repeat('x', $1) || '"}', 'UTF8'), repeat('x', $2))`

// TestLongEventsAreRefused: a login that may write cannot keep readers and sealing
// busy with rows of hundreds of megabytes, which take little on the disk.
func TestLongEventsAreRefused(t *testing.T) {
	t.Parallel()
	conn := audittest.Connect(t, audittest.Migrated(t).URL(database.Writer))
	writer := audittest.ActAs(t, conn)
	for name, lengths := range map[string][2]int{"record": {4 << 20, 1}, "message": {1, 2 << 20}} {
		if _, err := conn.Exec(t.Context(), addLong, lengths[0], lengths[1], writer); audittest.SQLState(err) != "23514" || !strings.Contains(err.Error(), "events_length") {
			t.Errorf("an event with a long %s: %v", name, err)
		}
	}
	// What a record that follows from columns has behind them counts with them.
	const addRest = `INSERT INTO audit.events (time, kind, writer, writer_sequence, record_rest) VALUES (now(), 'decision', $2, 1, '"attributes":{' || repeat('x', $1))`
	if _, err := conn.Exec(t.Context(), addRest, 1<<20, writer); audittest.SQLState(err) != "23514" || !strings.Contains(err.Error(), "events_length") {
		t.Errorf("an event with a long rest: %v", err)
	}
	audittest.MustExec(t, conn, addLong, 3<<20-100, 1<<19, writer) // more than any server writes
}

// TestLengthOfEventsIsNeeded: without the bound, one event makes an export that
// no verifier accepts.
func TestLengthOfEventsIsNeeded(t *testing.T) {
	t.Parallel()
	db := audittest.Migrated(t)
	audittest.MustExec(t, audittest.Connect(t, db.URL("")), `ALTER TABLE audit.events DROP CONSTRAINT events_length`)
	conn := audittest.Connect(t, db.URL(database.Writer))
	audittest.MustExec(t, conn, addLong, 9<<20, 1, audittest.ActAs(t, conn))
	r, err := auditreader.Open(t.Context(), db.URL(database.Auditor))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var export bytes.Buffer
	x := audit.NewExporter(&export)
	if err := r.Walk(t.Context(), x, nil); err != nil {
		t.Fatal(err)
	}
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
	v, err := audit.NewVerification(audit.Trust{})
	if err != nil {
		t.Fatal(err)
	}
	if err := v.ReadExport(&export, nil); err == nil {
		t.Error("the export can be verified: is the bound still needed?")
	}
}

// TestApprovalsOfAnyForm: a forged event cannot make the question
// about approvals fail.
func TestApprovalsOfAnyForm(t *testing.T) {
	t.Parallel()
	db := audittest.Migrated(t)
	conn := audittest.Connect(t, db.URL(database.Writer))
	writer := audittest.ActAs(t, conn)
	const add = `INSERT INTO audit.events (time, kind, writer, writer_sequence, commit, record) VALUES (now(), $1, $2, $3, 'c', convert_to($4, 'UTF8'))`
	audittest.MustExec(t, conn, add, audit.KindPolicyLoaded, writer, 1, `{"attributes":{}}`)
	for _, name := range []string{"pull_request", "commits", "approvers"} {
		if _, err := conn.Exec(t.Context(), add, audit.KindPolicyApproval, writer, 2, `{"attributes":{"`+name+`":"x"}}`); audittest.SQLState(err) != "23514" {
			t.Errorf("an approval whose %s has another form: %v", name, err)
		}
	}
	owner := audittest.Connect(t, db.URL(""))
	audittest.MustExec(t, owner, add, audit.KindPolicyApproval, writer, 2, `{"attributes":{"pull_request":"7","commits":"1","approvers":"[]"}}`)
	audittest.MustExec(t, owner, `SELECT * FROM audit.policy_approvals`)
	audittest.MustExec(t, owner, `DO $$ DECLARE p regclass; BEGIN FOR p IN SELECT relid FROM pg_partition_tree('audit.events') LOOP EXECUTE format('ALTER TABLE %s DISABLE TRIGGER check_event', p); END LOOP; END $$`)
	audittest.MustExec(t, conn, add, audit.KindPolicyApproval, writer, 3, `{"attributes":{"pull_request":"x"}}`)
	if _, err := owner.Exec(t.Context(), `SELECT * FROM audit.policy_approvals`); err == nil {
		t.Error("the question can be answered: is the check still needed?")
	}
}
