package sealer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/sallyport/sallyport/audit"
)

// Gaps lists the missing numbers of writers, and declares them permanently missing.
// It acts as the role sallyport_owner, of which the login has to be a member; to
// list them an auditor's login is enough. It is not safe for concurrent use.
type Gaps struct{ owner *Retention }

// OpenGaps connects.
func OpenGaps(ctx context.Context, url string) (*Gaps, error) {
	owner, err := openAsOwner(ctx, url, "gaps")
	if err != nil {
		return nil, err
	}
	return &Gaps{owner}, nil
}

// Close ends the connection.
func (g *Gaps) Close() { g.owner.Close() }

// A Gap is a run of missing numbers between two events of a writer.
type Gap struct {
	Writer        string
	First, Last   int64     // the missing numbers
	Before, After time.Time // of the events around them; zero: none, or retention took it
	// Declared is the declaration that names all of them; nil: none does.
	Declared *audit.GapDeclaration
}

// Of what is sealed no number is missing that was not declared, so that only what
// is not sealed is read. This walks an index from one writer to the next.
const gapsSQL = `WITH RECURSIVE w AS (
		(SELECT writer FROM audit.events ORDER BY writer LIMIT 1)
		UNION ALL
		SELECT (SELECT e.writer FROM audit.events e WHERE e.writer > w.writer ORDER BY e.writer LIMIT 1) FROM w WHERE w.writer IS NOT NULL
	)
	SELECT w.writer, g.before + 1, g.number - 1,
		(SELECT min(e.time) FROM audit.events e WHERE e.writer = w.writer AND e.writer_sequence = g.before),
		(SELECT min(e.time) FROM audit.events e WHERE e.writer = w.writer AND e.writer_sequence = g.number)
	FROM w
	CROSS JOIN LATERAL (SELECT coalesce(max(l.writer_sequence), 0) AS sealed FROM audit.leaves l WHERE l.writer = w.writer) s
	CROSS JOIN LATERAL (SELECT e.writer_sequence AS number, lag(e.writer_sequence, 1, s.sealed) OVER (ORDER BY e.writer_sequence) AS before
		FROM audit.events e WHERE e.writer = w.writer AND e.writer_sequence > s.sealed) g
	WHERE w.writer IS NOT NULL AND g.number > g.before + 1
	ORDER BY 1, 2`

// List returns the gaps of all writers: those that are not declared, or behind
// which nothing is sealed yet, and then those of the declarations.
func (g *Gaps) List(ctx context.Context) ([]Gap, error) {
	declared, err := g.declarations(ctx)
	if err != nil {
		return nil, err
	}
	type numbers struct {
		writer      string
		first, last int64
	}
	known := make(map[numbers]bool, len(declared))
	for _, d := range declared {
		known[numbers{d.Writer, d.First, d.Last}] = true
	}
	rows, err := g.owner.conn.Query(ctx, gapsSQL)
	if err != nil {
		return nil, g.owner.explain("list gaps", err)
	}
	var all []Gap
	var one Gap
	var before, after *time.Time
	if _, err := pgx.ForEachRow(rows, []any{&one.Writer, &one.First, &one.Last, &before, &after}, func() error {
		found := one
		found.Before, found.After = value(before), value(after)
		if !known[numbers{one.Writer, one.First, one.Last}] { // else it is listed with its declaration
			all = append(all, found)
		}
		return nil
	}); err != nil {
		return nil, g.owner.explain("list gaps", err)
	}
	for i := range declared {
		all = append(all, Gap{Writer: declared[i].Writer, First: declared[i].First, Last: declared[i].Last, Declared: &declared[i]})
	}
	return all, nil
}

// declarations reads the declarations. One that is not sealed has the index -1.
func (g *Gaps) declarations(ctx context.Context) ([]audit.GapDeclaration, error) {
	rows, err := g.owner.conn.Query(ctx, `SELECT e.record, coalesce(l.index, -1) FROM audit.declared_gaps g
		JOIN audit.events e ON e.writer = $1 AND e.writer_sequence = g.declaration
		LEFT JOIN audit.leaves l ON l.writer = $1 AND l.writer_sequence = g.declaration ORDER BY g.declaration`, audit.DatabaseWriter)
	if err != nil {
		return nil, g.owner.explain("read declared gaps", err)
	}
	var all []audit.GapDeclaration
	var record []byte
	var index int64
	_, err = pgx.ForEachRow(rows, []any{&record, &index}, func() error {
		if d, ok := audit.GapDeclarationOf(record); ok {
			d.Index = index
			all = append(all, d)
		}
		return nil
	})
	return all, g.owner.explain("read declared gaps", err)
}

// Lost returns what writers report as lost after a failover or a restore.
func (g *Gaps) Lost(ctx context.Context) ([]audit.LostRange, error) {
	rows, err := g.owner.conn.Query(ctx, `SELECT record FROM audit.events WHERE kind = $1 ORDER BY time`, audit.KindEventsLost)
	if err != nil {
		return nil, g.owner.explain("read lost events", err)
	}
	var all []audit.LostRange
	var record []byte
	_, err = pgx.ForEachRow(rows, []any{&record}, func() error {
		if l, ok := audit.LostRangeOf(record); ok {
			all = append(all, l)
		}
		return nil
	})
	return all, g.owner.explain("read lost events", err)
}

// Declare records that the numbers first to last of a writer are permanently
// missing, signed with the key that signs the log, and returns the number of the
// event. The database rejects it without the owner's login, and for numbers that
// are recorded or are not a gap.
func (g *Gaps) Declare(ctx context.Context, signer *audit.Signer, writer string, first, last int64, reason string) (int64, error) {
	d, err := signer.DeclareGap(writer, first, last, reason, time.Now())
	if err != nil {
		return 0, err
	}
	if err := g.signs(ctx, signer); err != nil {
		return 0, err
	}
	var number int64
	err = g.owner.conn.QueryRow(ctx, `SELECT audit.declare_gap($1, $2, $3, $4, $5, $6, $7)`,
		d.Writer, d.First, d.Last, d.Reason, d.DeclaredAt.Format(time.RFC3339), string(d.Key), d.Signature).Scan(&number)
	// The function's own refusals state what to do.
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok && (pg.Code == "55000" || pg.Code == "22023") {
		return 0, errors.New(pg.Message)
	}
	return number, g.owner.explain("declare", err)
}

// signs returns an error where the key is not the one that signs the log.
func (g *Gaps) signs(ctx context.Context, signer *audit.Signer) error {
	tx, err := g.owner.conn.Begin(ctx)
	if err != nil {
		return g.owner.explain("read the log's key", err)
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }()
	s := &Sealer{config: Config{Signer: signer}}
	s.readRegistrations = s.readPage
	var last latest
	for complete := false; !complete; {
		if last, complete, err = s.latestAndKeys(ctx, tx); err != nil {
			return g.owner.explain("read the log's key", err)
		}
	}
	if s.keys.next != "" {
		return fmt.Errorf("declare gap: the key hands over to %s: wait until that is sealed, and use the next key", s.keys.next)
	}
	if last.signedBy != "" && s.keys.mayFollow(last.signedBy) {
		return nil
	}
	return fmt.Errorf("declare gap: %w: it is %s, and this key is %s", ErrNoKey, s.keys.present(last.signedBy), signer.Key())
}
