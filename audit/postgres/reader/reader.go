// Package reader reads the log back from PostgreSQL: for verification, export, evidence
// packs and proofs, for queries, statistics and streams, and for replays of a policy.
package reader

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/sallyport/sallyport/audit"
	auditpg "github.com/sallyport/sallyport/audit/postgres"
	"github.com/sallyport/sallyport/internal/database"
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
	alone   bool               // what it reads no other connection sees
	window  int64              // how many leaves are read at once; 0: defaultWindow
	given   []audit.Key        // see Trust
	signers *audit.SigningKeys // see signingKeys; nil: not read yet
}

// Open connects, and takes the moment.
func Open(ctx context.Context, url string) (*Reader, error) {
	connect, err := database.ParseConfig(url, "sallyport reader")
	if err != nil {
		return nil, fmt.Errorf("read the audit log: %w", err)
	}
	database.Set(&connect.Config, map[string]string{"statement_timeout": "0", "idle_in_transaction_session_timeout": "0"})
	// The log comes in long runs: a large buffer saves most of the reads.
	connect.BuildFrontend = func(r io.Reader, w io.Writer) *pgproto3.Frontend {
		return pgproto3.NewFrontend(bufio.NewReaderSize(r, 256<<10), w)
	}
	r := &Reader{connect: connect}
	if r.conn, err = database.Connect(ctx, connect); err != nil {
		return nil, fmt.Errorf("read the audit log: %w", err)
	}
	if err := r.begin(ctx); err != nil {
		r.Close()
		return nil, fmt.Errorf("read the audit log: %w", err)
	}
	return r, nil
}

func (r *Reader) begin(ctx context.Context) error {
	if err := database.CheckVersion(ctx, r.conn); err != nil {
		return err
	}
	var err error
	if r.tx, err = r.conn.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}); err != nil {
		return database.Explain("begin", &r.connect.Config, err)
	}
	// Before the snapshot is taken: a partition that retention takes after that
	// would be gone for us too, and the event that says so not be there.
	if _, err := r.tx.Exec(ctx, `LOCK TABLE audit.events IN ACCESS SHARE MODE`); err != nil {
		return database.Explain("lock", &r.connect.Config, err)
	}
	if err := r.tx.QueryRow(ctx, `SELECT (SELECT coalesce(max(index), -1) + 1 FROM audit.leaves),
		(SELECT coalesce(sum(greatest(reltuples, 0)), 0)::bigint FROM pg_class WHERE oid IN (SELECT inhrelid FROM pg_inherits WHERE inhparent = 'audit.events'::regclass))`).
		Scan(&r.leaves, &r.events); err != nil {
		return database.Explain("look", &r.connect.Config, err)
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

// defaultWindow is how many leaves are read at once: what a reader holds in memory
// is a few windows, however long the log is.
const defaultWindow = 4096

func (r *Reader) atOnce() int64 { return cmp.Or(r.window, defaultWindow) }

// partsAhead is how many parts may be on their way from the database to a sink.
const partsAhead = 6

// Walk gives all of the log to the sink, once. The sink runs in the caller's
// goroutine, beside the reading; what it is given holds until it returns.
// progress is called now and then with how many leaves are behind.
//
// Two connections read, of one snapshot, where a second one can be had: they
// take the windows of the tree by turns, and the sink gets them in their order.
func (r *Reader) Walk(ctx context.Context, sink Sink, progress func(leaves int64)) error {
	return r.walk(ctx, 0, sink, progress)
}

// walk gives the leaves below a size and the checkpoints up to it; 0: all of the
// log, and what is not sealed.
func (r *Reader) walk(ctx context.Context, size int64, sink Sink, progress func(leaves int64)) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	w := &walk{size: size, full: make(chan *part, partsAhead), empty: make(chan *part, partsAhead), next: -1, more: true}
	for range partsAhead {
		w.empty <- new(part)
	}
	readers := []*Reader{r}
	if second := r.second(ctx); second != nil {
		defer second.Close()
		readers = append(readers, second)
	}
	failed := make(chan error, 1)
	go func() {
		defer close(w.full)
		failed <- w.read(ctx, cancel, readers)
	}()
	var done int64
	for p := range w.full {
		select {
		case <-p.ready:
		case <-ctx.Done():
			continue // what it was to hold never comes
		}
		if size > 0 {
			p.cut(size)
		}
		if p.unsealed {
			for i := range p.entries {
				sink.Unsealed(&p.entries[i])
			}
		} else {
			p.give(sink)
			done += int64(len(p.entries))
		}
		if progress != nil {
			progress(done)
		}
		w.empty <- p
	}
	if err := <-failed; err != nil {
		return fmt.Errorf("read the audit log: %w", database.Explain("read", &r.connect.Config, err))
	}
	return nil
}

// second is a reader of the same moment; nil: there is none to be had, and one
// is enough.
func (r *Reader) second(ctx context.Context) *Reader {
	if r.alone {
		return nil
	}
	var snapshot string
	if err := r.tx.QueryRow(ctx, `SELECT pg_export_snapshot()`).Scan(&snapshot); err != nil {
		return nil
	}
	conn, err := database.Connect(ctx, r.connect)
	if err != nil {
		return nil
	}
	s := &Reader{connect: r.connect, conn: conn, window: r.window}
	if s.tx, err = conn.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}); err == nil {
		_, err = s.tx.Exec(ctx, `SET TRANSACTION SNAPSHOT '`+snapshot+`'`) // it takes no parameter
	}
	if err != nil {
		s.Close()
		return nil
	}
	return s
}

// walk is one reading of the log.
type walk struct {
	size  int64      // where it ends; 0: with the log
	full  chan *part // in the order of the log, each before it is ready
	empty chan *part

	mu   sync.Mutex // held while a window's leaves are read, which say where the next begins
	next int64
	more bool
	jumps
}

// part is a piece of the log in memory. Its memory is used again.
type part struct {
	ready      chan struct{}
	unsealed   bool
	entries    []audit.Entry
	statements []audit.Statement
	arena      []byte
	cuts       []cut
	ranges     ranges
}

// cut is where the columns and the record of an entry are in the arena, which
// may move while it grows.
type cut struct {
	entry                  int
	columns, record, after int
}

func (p *part) reset() {
	p.unsealed = false
	p.ready = make(chan struct{})
	p.entries, p.statements, p.arena, p.cuts = p.entries[:0], p.statements[:0], p.arena[:0], p.cuts[:0]
	p.ranges.reset()
}

// keep copies the columns and the record of an entry from the values of StoredColumns.
func (p *part) keep(entry int, values [][]byte) {
	c := cut{entry: entry, columns: len(p.arena)}
	p.arena = auditpg.AppendColumns(p.arena, values[2:])
	c.record = len(p.arena)
	p.arena = auditpg.AppendRecordOf(p.arena, values[0], values[1], p.arena[c.columns:c.record])
	c.after = len(p.arena)
	p.cuts = append(p.cuts, c)
}

// settle gives the entries what was kept for them, and does what can be done
// beside others.
func (p *part) settle() {
	for _, c := range p.cuts {
		e := &p.entries[c.entry]
		e.Columns = p.arena[c.columns:c.record:c.record]
		e.Record = p.arena[c.record:c.after:c.after]
		e.Prepare()
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
	if r.slots[i] == nil { // not as it should be: continue with a map
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

// read fills parts until there is nothing left. The first of the readers reads
// what is not sealed, when all else is on its way.
func (w *walk) read(ctx context.Context, cancel context.CancelCauseFunc, readers []*Reader) error {
	var wg sync.WaitGroup
	errs := make([]error, len(readers))
	for i, r := range readers {
		wg.Go(func() {
			if errs[i] = w.readSealed(ctx, r); errs[i] != nil {
				cancel(errs[i])
			}
		})
	}
	wg.Wait()
	if err := context.Cause(ctx); err != nil {
		return err
	}
	if w.size > 0 {
		return nil
	}
	return readers[0].readUnsealed(ctx, w)
}

// take waits for a part that is free, and give puts one into its place.
func (w *walk) take(ctx context.Context) (*part, error) {
	select {
	case p := <-w.empty:
		p.reset()
		return p, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func (w *walk) give(ctx context.Context, p *part) error {
	select {
	case w.full <- p:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// readSealed reads windows until another has read the last.
func (w *walk) readSealed(ctx context.Context, r *Reader) error {
	if err := r.prepare(ctx); err != nil {
		return err
	}
	for {
		p, err := w.window(ctx, r)
		if p == nil || err != nil {
			return err
		}
		if err := r.readEvents(ctx, p); err != nil {
			return err
		}
		p.settle()
		close(p.ready)
	}
}

// window reads the leaves of the next window, and lets another continue. Nil: there
// is none.
func (w *walk) window(ctx context.Context, r *Reader) (*part, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.more || w.size > 0 && w.next >= w.size-1 {
		return nil, nil
	}
	p, err := w.take(ctx)
	if err != nil {
		return nil, err
	}
	if w.next, w.more, err = r.readLeaves(ctx, p, w.next); err != nil {
		w.more = false
		return nil, err
	}
	w.jumps.add(p.entries)
	return p, w.give(ctx, p)
}
