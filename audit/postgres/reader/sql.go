package reader

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/sallyport/sallyport/audit"
	auditpg "github.com/sallyport/sallyport/audit/postgres"
)

const (
	leavesName = "sallyport_leaves"
	leavesSQL  = `SELECT index, writer_sequence, writer, hash FROM audit.leaves WHERE index > $1 ORDER BY index LIMIT $2`
	rowsName   = "sallyport_rows"
	rangeName  = "sallyport_range"
	tailName   = "sallyport_tail"
)

var (
	rowsSQL = `SELECT w.place, e.writer_sequence, ` + auditpg.StoredColumns("e.") + `
		FROM unnest($1::text[], $2::bigint[], $3::bigint[]) WITH ORDINALITY AS w(writer, least, most, place)
		CROSS JOIN LATERAL (
			SELECT * FROM audit.events v
			WHERE v.writer = w.writer COLLATE "C" AND v.writer_sequence BETWEEN w.least AND w.most
		) e`
	// What rowsSQL does for one writer. The join costs half as much again for each
	// row, and a statement of its own a little for each writer.
	rangeSQL = `SELECT $4::bigint, e.writer_sequence, ` + auditpg.StoredColumns("e.") + `
		FROM audit.events e WHERE e.writer = $1 AND e.writer_sequence BETWEEN $2 AND $3`
	tailSQL = `SELECT 1::bigint, e.writer_sequence, ` + auditpg.StoredColumns("e.") + `
		FROM audit.events e
		WHERE e.writer = $1 AND e.writer_sequence BETWEEN $2 AND $3 AND (e.writer_sequence, e.time) > ($4::bigint, $5::timestamptz)
		ORDER BY e.writer_sequence, e.time LIMIT $6`
	allWritersSQL = `WITH RECURSIVE w AS (
			(SELECT writer FROM audit.events ORDER BY writer LIMIT 1)
			UNION ALL
			SELECT (SELECT e.writer FROM audit.events e WHERE e.writer > w.writer ORDER BY e.writer LIMIT 1) FROM w WHERE w.writer IS NOT NULL
		)
		SELECT w.writer, coalesce((SELECT max(l.writer_sequence) FROM audit.leaves l WHERE l.writer = w.writer), 0) FROM w WHERE w.writer IS NOT NULL`
)

func (r *Reader) prepare(ctx context.Context) error {
	for name, sql := range map[string]string{leavesName: leavesSQL, rowsName: rowsSQL, rangeName: rangeSQL, tailName: tailSQL} {
		if _, err := r.conn.Prepare(ctx, name, sql); err != nil {
			return err
		}
	}
	// The ranges are few and their rows many, whatever the planner thinks.
	_, err := r.tx.Exec(ctx, "SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off; SET LOCAL enable_seqscan = off; SET LOCAL jit = off; SET LOCAL max_parallel_workers_per_gather = 0")
	return err
}

// binaryRows runs a prepared statement and hands over each row in binary form.
func (r *Reader) binaryRows(ctx context.Context, name string, arguments []any, row func(values [][]byte) error) error {
	var types *pgtype.Map = r.conn.TypeMap()
	parameters, formats := make([][]byte, len(arguments)), make([]int16, len(arguments))
	for i, a := range arguments {
		formats[i] = pgx.BinaryFormatCode
		var oid uint32
		switch a.(type) {
		case []string:
			oid = pgtype.TextArrayOID
		case []int64:
			oid = pgtype.Int8ArrayOID
		case string:
			oid = pgtype.TextOID
		case time.Time:
			oid = pgtype.TimestamptzOID
		default:
			oid = pgtype.Int8OID
		}
		var err error
		if parameters[i], err = types.Encode(oid, pgx.BinaryFormatCode, a, nil); err != nil {
			return fmt.Errorf("encode parameter %d: %w", i+1, err)
		}
	}
	result := r.conn.PgConn().ExecPrepared(ctx, name, parameters, formats, []int16{pgx.BinaryFormatCode})
	err := eachRow(result, row)
	if _, closing := result.Close(); err == nil {
		err = closing
	}
	return err
}

func eachRow(result *pgconn.ResultReader, row func(values [][]byte) error) error {
	for result.NextRow() {
		if err := row(result.Values()); err != nil {
			return err
		}
	}
	return nil
}

// readLeaves fills a part with the leaves after one of this index, and the
// checkpoints up to there.
func (r *Reader) readLeaves(ctx context.Context, p *part, after int64) (last int64, more bool, err error) {
	last = after
	var name string
	if err := r.binaryRows(ctx, leavesName, []any{after, r.atOnce()}, func(values [][]byte) error {
		var e audit.Entry
		var err error
		if e.Index, err = auditpg.Int8(values[0]); err != nil {
			return err
		}
		if e.Sequence, err = auditpg.Int8(values[1]); err != nil {
			return err
		}
		if name != string(values[2]) {
			name = string(values[2])
		}
		e.Writer = name
		if len(values[3]) == len(e.Hash) { // another size is not a hash, and no record has it
			e.Hash = audit.Hash(values[3])
		} else {
			e.Hash = audit.Hash{1}
		}
		p.ranges.add(name, e.Sequence, len(p.entries))
		p.entries = append(p.entries, e)
		last = e.Index
		return nil
	}); err != nil {
		return 0, false, err
	}
	more = int64(len(p.entries)) == r.atOnce()
	if err := r.readStatements(ctx, p, after+1, last+1, !more); err != nil {
		return 0, false, err
	}
	return last, more, nil
}

// readEvents adds the events of the leaves of a part.
func (r *Reader) readEvents(ctx context.Context, p *part) error {
	row := func(values [][]byte) error {
		place, err := auditpg.Int8(values[0])
		if err != nil {
			return err
		}
		sequence, err := auditpg.Int8(values[1])
		if err != nil {
			return err
		}
		entry, found := p.ranges.find(int(place)-1, sequence)
		if !found {
			return nil // of another window
		}
		e := &p.entries[entry]
		if e.Record != nil {
			e.Copies++
			return nil
		}
		e.Record = noRecord // until it is settled
		p.appendEntry(entry, values[2:])
		return nil
	}
	if len(p.ranges.writers) > fewWriters {
		return r.binaryRows(ctx, rowsName, []any{p.ranges.writers, p.ranges.from, p.ranges.to}, row)
	}
	for i, writer := range p.ranges.writers {
		if err := r.binaryRows(ctx, rangeName, []any{writer, p.ranges.from[i], p.ranges.to[i], int64(i + 1)}, row); err != nil {
			return err
		}
	}
	return nil
}

// fewWriters is how many writers of a window are asked for one by one.
const fewWriters = 16

var noRecord = []byte{}

// readStatements reads the checkpoints of a size above from, up to to; without
// an end, all that are left.
func (r *Reader) readStatements(ctx context.Context, p *part, from, to int64, all bool) error {
	rows, err := r.tx.Query(ctx, `SELECT size, time, root, frontier, note FROM audit.checkpoints WHERE size > $1 AND (size <= $2 OR $3) ORDER BY size, number`, from, to, all)
	if err != nil {
		return err
	}
	for rows.Next() {
		var s audit.Statement
		var note string
		if err := rows.Scan(&s.Size, &s.Time, &s.Root, &s.Frontier, &note); err != nil {
			rows.Close()
			return err
		}
		s.Note = []byte(note)
		p.statements = append(p.statements, s)
	}
	return rows.Err()
}

// readUnsealed gives the events of each writer that have no leaf.
func (r *Reader) readUnsealed(ctx context.Context, w *walk) error {
	rows, err := r.tx.Query(ctx, allWritersSQL)
	if err != nil {
		return err
	}
	type tail struct {
		writer string
		sealed int64
	}
	tails, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (tail, error) {
		var t tail
		err := row.Scan(&t.writer, &t.sealed)
		return t, err
	})
	if err != nil {
		return err
	}
	// Where the leaves of a writer step over numbers, no event has one of these.
	for _, j := range w.jumps.sorted() {
		if err := r.readTail(ctx, j.writer, j.first, j.last, w); err != nil {
			return err
		}
	}
	for _, t := range tails {
		for _, numbers := range [][2]int64{{math.MinInt64, 0}, {t.sealed + 1, math.MaxInt64}} {
			if err := r.readTail(ctx, t.writer, numbers[0], numbers[1], w); err != nil {
				return err
			}
		}
	}
	return nil
}

// readTail gives the events of a writer from one number to another, in pieces.
func (r *Reader) readTail(ctx context.Context, writer string, least, most int64, w *walk) error {
	sequence, at := least, time.Date(-4000, 1, 1, 0, 0, 0, 0, time.UTC)
	for more := true; more; {
		p, err := w.acquirePart(ctx)
		if err != nil {
			return err
		}
		p.unsealed = true
		if err := r.binaryRows(ctx, tailName, []any{writer, least, most, sequence, at, r.atOnce()}, func(values [][]byte) error {
			var err error
			if sequence, err = auditpg.Int8(values[1]); err != nil {
				return err
			}
			micros, err := auditpg.Int8(values[4]) // time is the first of the columns
			if err != nil {
				return err
			}
			at = time.UnixMicro(micros + auditpg.Epoch)
			p.appendEntry(len(p.entries), values[2:])
			p.entries = append(p.entries, audit.Entry{Index: -1, Writer: writer, Sequence: sequence})
			return nil
		}); err != nil {
			return err
		}
		more = int64(len(p.entries)) == r.atOnce()
		p.settle()
		close(p.ready)
		if err := w.queuePart(ctx, p); err != nil {
			return err
		}
	}
	return nil
}
