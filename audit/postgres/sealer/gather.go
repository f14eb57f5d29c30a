package sealer

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/sallyport/sallyport/audit"
	auditpg "github.com/sallyport/sallyport/audit/postgres"
)

// surveySQL reads, of each writer, the number of its last sealed event, and the first
// and the last number that is not sealed: descents of an index, however much waits.
const surveySQL = `SELECT w.place, l.sealed, first.writer_sequence, last.writer_sequence
	FROM unnest($1::text[]) WITH ORDINALITY AS w(writer, place)
	CROSS JOIN LATERAL (SELECT coalesce(max(v.writer_sequence), 0) AS sealed FROM audit.leaves v WHERE v.writer = w.writer COLLATE "C") l
	CROSS JOIN LATERAL (SELECT v.writer_sequence FROM audit.events v
		WHERE v.writer = w.writer COLLATE "C" AND v.writer_sequence > l.sealed ORDER BY v.writer_sequence LIMIT 1) first
	CROSS JOIN LATERAL (SELECT v.writer_sequence FROM audit.events v
		WHERE v.writer = w.writer COLLATE "C" AND v.writer_sequence > l.sealed ORDER BY v.writer_sequence DESC LIMIT 1) last`

// survey reads what waits of the writers whose turn it is. A writer whose next
// number is missing takes no part in the batch, whatever waits behind the gap.
func (s *Sealer) survey(ctx context.Context, tx pgx.Tx) (survey, error) {
	var v survey
	names, rest, err := s.writers.next(ctx, tx, s.config.Writer(), s.writersPerStep)
	if err != nil {
		return v, err
	}
	v.rest = rest
	if v.declared, err = s.declaredGaps(ctx, tx); err != nil {
		return v, err
	}
	rows, err := tx.Query(ctx, surveySQL, names)
	if err != nil {
		return v, fmt.Errorf("look for events: %w", err)
	}
	waiting := make(map[string]bool)
	var place, sealed, first, last int64
	_, err = pgx.ForEachRow(rows, []any{&place, &sealed, &first, &last}, func() error {
		name := names[place-1]
		waiting[name] = true
		if first == sealed+1 || v.declared.steps(name, sealed+1, first-1) {
			v.ready = append(v.ready, pending{writer: name, sealed: first - 1, last: last, live: s.writers.live[name]})
			s.writers.note(name, "", 0)
			return nil
		}
		s.writers.note(name, gapOf(leaf{writer: name, sequence: first}, sealed+1), last-first+1)
		return nil
	})
	for _, name := range names {
		if !waiting[name] {
			s.writers.note(name, "", 0)
		}
	}
	return v, err
}

// One row more than the share shows whether the last number is there twice.
var gatherSQL = `SELECT w.place, e.writer_sequence, e.kind, ` + auditpg.StoredColumns("e.") + `
	FROM unnest($1::text[], $2::bigint[], $3::bigint[]) WITH ORDINALITY AS w(writer, sealed, share, place)
	CROSS JOIN LATERAL (
		SELECT * FROM audit.events v
		WHERE v.writer = w.writer COLLATE "C" AND v.writer_sequence > w.sealed
		ORDER BY v.writer_sequence, v.time LIMIT w.share + 1
	) e
	ORDER BY w.place, e.writer_sequence`

// gather takes the next events of each writer of this step, as far as no number is
// missing and as its share of the batch goes. What a key hands over in ends the batch,
// so that its own checkpoint is the last that the key signs.
func (s *Sealer) gather(ctx context.Context, tx pgx.Tx) (batch, error) {
	v, err := s.survey(ctx, tx)
	b := batch{rest: v.rest}
	if err == nil && len(v.ready) > 0 {
		err = s.gatherReady(ctx, tx, v, &b)
	}
	s.writers.more = s.writers.more || b.more
	b.rest = b.rest || s.writers.more && !b.more
	b.findings, b.blocked = s.writers.stuckOnes()
	return b, err
}

func (s *Sealer) gatherReady(ctx context.Context, tx pgx.Tx, v survey, b *batch) error {
	ready := s.shares(v.ready, s.batchLimit(), s.writers.rotation)
	s.writers.rotation = (s.writers.rotation + len(ready)) % len(v.ready)
	b.more = len(ready) < len(v.ready)
	if s.keys.leaves == 0 { // the first key that the log names has to be ours
		slices.SortStableFunc(ready, func(a, b pending) int { return -isOwn(a.writer, b.writer, s.config.Writer()) })
	}

	names, sealed, share := make([]string, len(ready)), make([]int64, len(ready)), make([]int64, len(ready))
	runs := make([]run, len(ready))
	for i, p := range ready {
		names[i], sealed[i], share[i] = p.writer, p.sealed, p.share
		runs[i] = run{next: p.sealed + 1, end: p.sealed + p.share, last: p.last}
	}
	rows, err := tx.Query(ctx, gatherSQL, pgx.QueryResultFormats{pgx.BinaryFormatCode}, names, sealed, share)
	if err != nil {
		return fmt.Errorf("look for events: %w", err)
	}
	defer rows.Close()
	var buffer []byte
	for rows.Next() {
		values := rows.RawValues()
		place, err := auditpg.Int8(values[0])
		if err != nil {
			return err
		}
		l, r := leaf{writer: names[place-1], kind: audit.Kind(values[2])}, &runs[place-1]
		if l.sequence, err = auditpg.Int8(values[1]); err != nil {
			return err
		}
		var record []byte
		record, buffer = auditpg.RecordIn(buffer, values[3:])
		l.hash = audit.Leaf(record)
		if !r.stopped && l.sequence > r.next && v.declared.steps(l.writer, r.next, l.sequence-1) {
			r.next = l.sequence
		}
		removed := b.add(r, l)
		if r.finding != "" {
			s.writers.note(l.writer, r.finding, r.blocked)
		}
		if removed && l.kind == audit.KindSigningKey && s.isHandover(record) {
			b.more = true
			break
		}
	}
	rows.Close()
	b.more = b.more && len(b.leaves) > 0
	return rows.Err()
}

// isOwn orders two writers: 1 where the first is our own, -1 where the second is.
func isOwn(a, b, own string) int {
	switch {
	case a == b:
		return 0
	case a == own:
		return 1
	case b == own:
		return -1
	}
	return 0
}

func (s *Sealer) isHandover(record []byte) bool {
	if s.config.Signer == nil {
		return false
	}
	r, ok := audit.ReadRegistration(record)
	return ok && r.HandedOver(s.config.Signer.Key()) && r.Possessed()
}
