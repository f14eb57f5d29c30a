package postgres

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/internal/postgres"
)

// A Sink takes a log in its order; see audit.Verification, which is one.
type Sink interface {
	Sealed(*audit.Entry)
	Checkpoint(audit.Statement)
	Unsealed(*audit.Entry)
}

// Reader reads the whole log as it is at one moment, in the order of its tree.
// The role sallyport_auditor is enough. It is not safe for concurrent use.
type Reader struct {
	connect *pgx.ConnConfig
	conn    *pgx.Conn
	tx      pgx.Tx
	leaves  int64
	events  int64
}

// OpenReader connects, and takes the moment.
func OpenReader(ctx context.Context, url string) (*Reader, error) {
	connect, err := postgres.ParseConfig(url, "sallyport reader")
	if err != nil {
		return nil, fmt.Errorf("read the audit log: %w", err)
	}
	connect.RuntimeParams["statement_timeout"] = "0"
	connect.RuntimeParams["idle_in_transaction_session_timeout"] = "0"
	// The log comes in long runs: a large buffer saves most of the reads.
	connect.BuildFrontend = func(r io.Reader, w io.Writer) *pgproto3.Frontend {
		return pgproto3.NewFrontend(bufio.NewReaderSize(r, 256<<10), w)
	}
	r := &Reader{connect: connect}
	if r.conn, err = postgres.Connect(ctx, connect); err != nil {
		return nil, fmt.Errorf("read the audit log: %w", err)
	}
	if err := r.begin(ctx); err != nil {
		r.Close()
		return nil, fmt.Errorf("read the audit log: %w", err)
	}
	return r, nil
}

func (r *Reader) begin(ctx context.Context) error {
	if err := postgres.CheckVersion(ctx, r.conn); err != nil {
		return err
	}
	var err error
	if r.tx, err = r.conn.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}); err != nil {
		return postgres.Explain("begin", &r.connect.Config, err)
	}
	if err := r.tx.QueryRow(ctx, `SELECT (SELECT coalesce(max(index), -1) + 1 FROM audit.leaves),
		(SELECT coalesce(sum(greatest(reltuples, 0)), 0)::bigint FROM pg_class WHERE oid IN (SELECT inhrelid FROM pg_inherits WHERE inhparent = 'audit.events'::regclass))`).
		Scan(&r.leaves, &r.events); err != nil {
		return postgres.Explain("look", &r.connect.Config, err)
	}
	return nil
}

// Close ends the connection.
func (r *Reader) Close() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = r.conn.Close(ctx)
}

// Leaves is how many sealed events there are to read.
func (r *Reader) Leaves() int64 { return r.leaves }

// window is how many leaves are read at once: what a reader holds in memory is a
// few windows, however long the log is.
const window = 4096

// Walk gives all of the log to the sink, once. The sink runs in the caller's
// goroutine, beside the reading; what it is given holds until it returns.
// progress is called now and then with how many leaves are behind.
func (r *Reader) Walk(ctx context.Context, sink Sink, progress func(leaves int64)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	full, empty := make(chan *part, 2), make(chan *part, 3)
	for range cap(empty) {
		empty <- new(part)
	}
	failed := make(chan error, 1)
	go func() {
		defer close(full)
		failed <- r.read(ctx, full, empty)
	}()
	var done int64
	for p := range full {
		next := 0
		for i := range p.entries {
			e := &p.entries[i]
			if p.unsealed {
				sink.Unsealed(e)
				continue
			}
			for next < len(p.statements) && p.statements[next].Size <= e.Index {
				sink.Checkpoint(p.statements[next])
				next++
			}
			sink.Sealed(e)
			done++
		}
		for ; next < len(p.statements); next++ {
			sink.Checkpoint(p.statements[next])
		}
		if progress != nil {
			progress(done)
		}
		empty <- p
	}
	if err := <-failed; err != nil {
		return fmt.Errorf("read the audit log: %w", postgres.Explain("read", &r.connect.Config, err))
	}
	return nil
}

// part is a piece of the log in memory. Its memory is used again.
type part struct {
	unsealed   bool
	entries    []audit.Entry
	statements []audit.Statement
	arena      []byte
	cuts       []cut
	ranges     ranges
}

// cut is where the record and the columns of an entry are in the arena, which
// may move while it grows.
type cut struct {
	entry                  int
	record, columns, after int
}

func (p *part) reset() {
	p.unsealed = false
	p.entries, p.statements, p.arena, p.cuts = p.entries[:0], p.statements[:0], p.arena[:0], p.cuts[:0]
	p.ranges.reset()
}

// keep copies the record and the columns of an entry.
func (p *part) keep(entry int, record []byte, columns [][]byte) {
	c := cut{entry: entry, record: len(p.arena)}
	p.arena = append(p.arena, record...)
	c.columns = len(p.arena)
	p.arena = appendColumns(p.arena, columns)
	c.after = len(p.arena)
	p.cuts = append(p.cuts, c)
}

// settle gives the entries what was kept for them.
func (p *part) settle() {
	for _, c := range p.cuts {
		e := &p.entries[c.entry]
		e.Record = p.arena[c.record:c.columns:c.columns]
		e.Columns = p.arena[c.columns:c.after:c.after]
	}
}

// ranges are the numbers of each writer in a window. A writer's leaves are in
// the order of its numbers and without gaps, so that in a sound log these are
// exactly the events of the window.
type ranges struct {
	of      map[string]int
	writers []string
	from    []int64
	to      []int64
	slots   []map[int64]int // number to entry, where the numbers do not follow
	entries [][]int
}

func (r *ranges) reset() {
	clear(r.of)
	r.writers, r.from, r.to, r.entries = r.writers[:0], r.from[:0], r.to[:0], r.entries[:0]
	r.slots = r.slots[:0]
}

func (r *ranges) add(writer string, sequence int64, entry int) {
	if r.of == nil {
		r.of = make(map[string]int)
	}
	i, known := r.of[writer]
	if !known {
		i = len(r.writers)
		r.of[writer] = i
		r.writers = append(r.writers, writer)
		r.from, r.to = append(r.from, sequence), append(r.to, sequence)
		r.entries = append(r.entries, []int{entry})
		r.slots = append(r.slots, nil)
		return
	}
	if r.slots[i] == nil && sequence == r.from[i]+int64(len(r.entries[i])) {
		r.entries[i] = append(r.entries[i], entry)
		r.to[i] = sequence
		return
	}
	if r.slots[i] == nil { // not as it should be: go on with a map
		r.slots[i] = make(map[int64]int)
		for n, e := range r.entries[i] {
			r.slots[i][r.from[i]+int64(n)] = e
		}
	}
	r.slots[i][sequence] = entry
	r.from[i], r.to[i] = min(r.from[i], sequence), max(r.to[i], sequence)
}

// find returns the entry of a number of the writer in this place.
func (r *ranges) find(place int, sequence int64) (entry int, ok bool) {
	if r.slots[place] != nil {
		entry, ok = r.slots[place][sequence]
		return entry, ok
	}
	n := sequence - r.from[place]
	if n < 0 || n >= int64(len(r.entries[place])) {
		return 0, false
	}
	return r.entries[place][n], true
}

// read fills parts until there is nothing left.
func (r *Reader) read(ctx context.Context, full chan<- *part, empty <-chan *part) error {
	if err := r.prepare(ctx); err != nil {
		return err
	}
	take := func() (*part, error) {
		select {
		case p := <-empty:
			p.reset()
			return p, nil
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	give := func(p *part) error {
		p.settle()
		select {
		case full <- p:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	for next, more := int64(-1), true; more; {
		p, err := take()
		if err != nil {
			return err
		}
		if next, more, err = r.readSealed(ctx, p, next); err != nil {
			return err
		}
		if err := give(p); err != nil {
			return err
		}
	}
	return r.readUnsealed(ctx, take, give)
}

var errRow = errors.New("the database answered a row in another form than was asked for")
