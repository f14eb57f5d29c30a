package writer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/sallyport/sallyport/audit"
	auditpg "github.com/sallyport/sallyport/audit/postgres"
	"github.com/sallyport/sallyport/internal/database"
)

// smallGroup is the largest group that is written by prepared INSERTs instead
// of COPY. Both are one round trip and one transaction; COPY costs more to begin
// and less for each row.
const smallGroup = 3

const (
	insertName = "sallyport_insert"
	bareName   = "sallyport_insert_bare"
)

var insertSQL = insertStatement(auditpg.Columns)

// bareColumns are the columns that no content can make the database refuse.
var bareColumns = []string{"time", "writer_sequence", "writer", "kind", "record"}

func insertStatement(columns []string) string {
	var b strings.Builder
	b.WriteString("INSERT INTO audit.events (" + strings.Join(columns, ", ") + ") VALUES (")
	for i := range columns {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, "$%d", i+1)
	}
	b.WriteByte(')')
	return b.String()
}

// A session is the committer's connection. It belongs to one goroutine.
type session struct {
	conn    *pgx.Conn
	insert  *pgconn.StatementDescription
	formats []int16 // all binary
	fields  [][]byte
	reader  bytes.Reader
	batch   pgconn.Batch
	counts  []int64 // rows of each statement of the batch
	// prepared are statements of companions by their text. Nil: it cannot be prepared.
	prepared map[string]*pgconn.StatementDescription
	// replication is what the server reports of our commits' way to a standby.
	replication database.Replication
	wait        time.Duration
	where       databaseID
}

// openSession connects as the only session of this application name: what an
// earlier one of ours left open is ended first and waited for, so that what it
// was committing is either there or never will be.
func openSession(ctx context.Context, config *pgx.ConnConfig) (*session, error) {
	return openSessionWithin(ctx, config, 5*time.Second)
}

// openSessionWithin is openSession, with a bound on the wait for a synchronous
// standby to confirm what is there.
func openSessionWithin(ctx context.Context, config *pgx.ConnConfig, wait time.Duration) (*session, error) {
	s := &session{wait: wait}
	config = config.Copy()
	s.replication.Watch(&config.Config)
	var err error
	if s.conn, err = database.Connect(ctx, config); err != nil {
		return nil, err
	}
	if err := database.CheckVersion(ctx, s.conn); err != nil {
		s.close()
		return nil, err
	}
	if err := s.prepare(ctx); err != nil {
		s.close()
		return nil, database.Explain("prepare session", &config.Config, err)
	}
	return s, nil
}

func (s *session) prepare(ctx context.Context) error {
	if err := database.Durable(ctx, s.conn.PgConn()); err != nil {
		return err
	}
	var name string
	if err := s.conn.QueryRow(ctx, "SELECT current_setting('application_name')").Scan(&name); err != nil {
		return fmt.Errorf("ask for the session's name: %w", err)
	}
	if err := s.endOthers(ctx, name); err != nil {
		return err
	}
	// What those have committed may be on the primary alone.
	if err := database.Confirm(ctx, s.conn.PgConn(), s.wait); err != nil {
		return err
	}
	if err := s.locate(ctx); err != nil {
		return err
	}
	var err error
	if s.insert, err = s.conn.PgConn().Prepare(ctx, insertName, insertSQL, nil); err != nil {
		return err
	}
	if _, err = s.conn.PgConn().Prepare(ctx, bareName, insertStatement(bareColumns), nil); err != nil {
		return err
	}
	s.formats = make([]int16, len(auditpg.Columns))
	for i := range s.formats {
		s.formats[i] = 1
	}
	return nil
}

// endOthers ends all other sessions of this name, and waits for it.
func (s *session) endOthers(ctx context.Context, name string) error {
	var ended bool
	if err := s.conn.QueryRow(ctx, `SELECT coalesce(bool_and(pg_terminate_backend(pid, 5000)), true) FROM pg_stat_activity
		WHERE application_name = $1 AND usename = current_user
		  AND datname = current_database() AND pid <> pg_backend_pid()`, name).Scan(&ended); err != nil {
		return fmt.Errorf("end the previous session: %w", err)
	}
	if !ended { // false as well for one that ended by itself meanwhile
		if err := s.conn.QueryRow(ctx, `SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE application_name = $1 AND usename = current_user
			AND datname = current_database() AND pid <> pg_backend_pid())`, name).Scan(&ended); err != nil {
			return fmt.Errorf("end the previous session: %w", err)
		}
	}
	if !ended {
		return errors.New("the previous session has not ended yet")
	}
	return nil
}

// close ends the session without waiting for a server that may not answer.
func (s *session) close() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = s.conn.Close(ctx)
}

// writeWithin is write with a bound on its time. A deadline on the socket costs
// less than a context, and leaves the same: a connection that is not used again.
func (s *session) writeWithin(g *group, limit time.Duration) error {
	socket := s.conn.PgConn().Conn()
	if err := socket.SetDeadline(time.Now().Add(limit)); err != nil {
		return err
	}
	if err := s.writeGroup(context.Background(), g); err != nil {
		return err
	}
	if err := s.replication.Err(); err != nil {
		return err
	}
	return socket.SetDeadline(time.Time{})
}

// write commits the group in one round trip and one transaction. A month that
// has no partition yet gets one.
func (s *session) write(ctx context.Context, g *group) error {
	err := s.writeOnce(ctx, g)
	if !isNoPartition(err) {
		return err
	}
	for _, m := range g.months() {
		if err := s.ensurePartition(ctx, m); err != nil {
			return err
		}
	}
	return s.writeOnce(ctx, g)
}

func (s *session) writeOnce(ctx context.Context, g *group) error {
	if len(g.rows) <= smallGroup || g.accompanied() {
		return s.writeRows(ctx, g)
	}
	g.buffer = append(g.buffer, auditpg.CopyTrailer...)
	s.reader.Reset(g.buffer)
	tag, err := s.conn.PgConn().CopyFrom(ctx, &s.reader, auditpg.CopySQL)
	g.buffer = g.buffer[:len(g.buffer)-len(auditpg.CopyTrailer)]
	if err != nil {
		// Where the connection breaks, pgx 5.12 returns while the goroutine that
		// reads from us may still run: it keeps this memory.
		g.buffer = slices.Clone(g.buffer)
	}
	if err == nil && tag.RowsAffected() != int64(len(g.rows)) {
		return swallowedError{tag.RowsAffected(), int64(len(g.rows))}
	}
	return err
}

// writeRows runs one INSERT a row. They are one transaction, since there is one
// Sync behind all of them (PostgreSQL documentation, "Pipelining").
func (s *session) writeRows(ctx context.Context, g *group) error {
	s.fields = s.fields[:0]
	s.batch = pgconn.Batch{}
	for i, r := range g.rows {
		s.fields = auditpg.TupleFields(s.fields, g.tuple(r))
		s.batch.ExecStatement(s.insert, s.fields[i*len(auditpg.Columns):(i+1)*len(auditpg.Columns)], s.formats, nil)
	}
	accompanied := g.accompanied()
	if accompanied {
		if err := s.prepareCompanions(ctx, g); err != nil {
			return err
		}
		s.addCompanions(g)
	}
	results := s.conn.PgConn().ExecBatch(ctx, &s.batch)
	var stored int64
	s.counts = s.counts[:0]
	for results.NextResult() {
		tag, err := results.ResultReader().Close() // its error is that of results too
		if err == nil {
			s.counts = append(s.counts, tag.RowsAffected())
		}
	}
	if err := results.Close(); err != nil {
		// An error behind all results is one of the commit: of a companion as well, since
		// nothing of an event is deferred.
		if pg, ok := errors.AsType[*pgconn.PgError](err); ok && accompanied && len(s.counts) > len(g.rows) && isRefusal(pg) {
			return companionError{pg}
		}
		return err
	}
	for _, n := range s.counts[:min(len(g.rows), len(s.counts))] {
		stored += n
	}
	if accompanied {
		g.readCompanions(s.counts[len(g.rows):])
	}
	if stored != int64(len(g.rows)) {
		return swallowedError{stored, int64(len(g.rows))}
	}
	return nil
}

// A swallowedError means that the database accepted rows and did not store all of
// them. Nothing of the group counts as recorded.
type swallowedError struct{ stored, sent int64 }

func (e swallowedError) Error() string {
	return fmt.Sprintf("the database stored %d of %d events and reported no error: a trigger or rule on audit.events, which is not Sallyport's, drops rows; "+
		"find it with \\d audit.events in psql and remove it", e.stored, e.sent)
}

// settle makes a group with an unknown outcome durable: it compares the events that are
// stored, writes those that are missing, and returns the number of the latter.
func (s *session) settle(ctx context.Context, g *group) (int, error) {
	stored, err := s.find(ctx, g)
	if err != nil {
		return 0, fmt.Errorf("look for events: %w", err)
	}
	missing, err := g.missing(stored)
	if err == nil {
		err = s.findEffects(ctx, g, stored)
	}
	if err != nil || len(missing) == 0 {
		return 0, err
	}
	part := g.only(missing)
	err = s.writeGroup(ctx, part)
	if isContent(err) {
		err = s.writeBare(ctx, part)
	}
	return len(missing), errors.Join(err, s.replication.Err())
}

// find reads what the database holds under the numbers of the group, in
// whatever month.
func (s *session) find(ctx context.Context, g *group) (map[int64][]found, error) {
	stored := make(map[int64][]found)
	err := auditpg.ReadRecords(ctx, s.conn, g.writer, g.rows[0].sequence, g.rows[len(g.rows)-1].sequence, func(sequence int64, at time.Time, record []byte) {
		stored[sequence] = append(stored[sequence], found{at, record})
	})
	return stored, err
}

// writeBare is the last resort for a group that the database refuses for its
// content, which normalised events do not have: row by row, and a row that is
// refused again goes in with its record and its key alone. One row must not
// stop the log, and none may be lost.
func (s *session) writeBare(ctx context.Context, g *group) error {
	for _, r := range g.rows {
		one := g.only([]row{r})
		err := s.writeGroup(ctx, one)
		if isContent(err) {
			one.dropCompanions(fmt.Errorf("%w: the database refused the columns of its event", audit.ErrRefused))
			fields := auditpg.TupleFields(nil, one.tuple(one.rows[0]))
			bare := [][]byte{fields[0], fields[1], fields[15], append([]byte{}, fields[16]...), one.record(one.rows[0])}
			result := s.conn.PgConn().ExecPrepared(ctx, bareName, bare, s.formats[:len(bare)], nil).Read()
			if err = result.Err; err == nil && result.CommandTag.RowsAffected() != 1 {
				err = swallowedError{result.CommandTag.RowsAffected(), 1}
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// ensurePartition makes the partition of a month, if there is none.
func (s *session) ensurePartition(ctx context.Context, month time.Time) error {
	if _, err := s.conn.Exec(ctx, "SELECT audit.ensure_partition($1::date)", month); err != nil {
		return fmt.Errorf("make partition for %s: %w", month.Format("2006-01"), err)
	}
	return nil
}

// ensureAhead makes the partitions of now and of the next month.
func (s *session) ensureAhead(ctx context.Context, now time.Time) error {
	for _, m := range []time.Time{month(now), month(now).AddDate(0, 1, 0)} {
		if err := s.ensurePartition(ctx, m); err != nil {
			return err
		}
	}
	return nil
}

func isNoPartition(err error) bool {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	return ok && pg.Code == "23514" && pg.ConstraintName == ""
}

// isContent reports whether the database refused what a row holds: class 22 is
// "data exception", 23 "integrity constraint violation", 54 "program limit
// exceeded" (PostgreSQL documentation, appendix A). A key that is there already
// is no such case.
func isContent(err error) bool {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	if !ok || pg.Code == "23505" || isNoPartition(err) {
		return false
	}
	return strings.HasPrefix(pg.Code, "22") || strings.HasPrefix(pg.Code, "23") || strings.HasPrefix(pg.Code, "54")
}

// ping checks that the server answers and can be written to.
func (s *session) ping(ctx context.Context, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	var readOnly bool
	if err := s.conn.QueryRow(ctx, "SELECT pg_is_in_recovery()").Scan(&readOnly); err != nil {
		return err
	}
	if readOnly {
		return errors.New("the server has become a standby")
	}
	return nil
}

// maintain makes partitions ahead of their need.
func (s *session) maintain(ctx context.Context, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return s.ensureAhead(ctx, time.Now())
}

// databaseID identifies a database: a failover changes the timeline, a dump that is
// restored the other two. A part that the server does not report is empty.
type databaseID struct {
	system   string // pg_control_system(): of the cluster, shared with its standbys
	timeline string // of the WAL: increased by every promotion
	database string // its OID
}

const databaseIDSQL = `SELECT (SELECT oid::text FROM pg_database WHERE datname = current_database()),
	left(pg_walfile_name(pg_current_wal_lsn()), 8),
	CASE WHEN has_function_privilege('pg_control_system()', 'EXECUTE') THEN (SELECT system_identifier::text FROM pg_control_system()) END`

// locate reads which database the session is on.
func (s *session) locate(ctx context.Context) error {
	var system *string
	if err := s.conn.QueryRow(ctx, databaseIDSQL).Scan(&s.where.database, &s.where.timeline, &system); err != nil {
		return fmt.Errorf("ask which database it is: %w", err)
	}
	if system != nil {
		s.where.system = *system
	}
	return nil
}

// clockAhead is how far the database's clock is ahead of ours.
func (s *session) clockAhead(ctx context.Context) (time.Duration, error) {
	var now time.Time
	before := time.Now()
	if err := s.conn.QueryRow(ctx, "SELECT clock_timestamp()").Scan(&now); err != nil {
		return 0, fmt.Errorf("ask for the time: %w", err)
	}
	return now.Sub(before.Add(time.Since(before) / 2)).Round(time.Microsecond), nil
}
