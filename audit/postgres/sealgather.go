package postgres

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/sallyport/sallyport/audit"
)

// batch is what is sealed by one checkpoint, and what cannot be sealed.
type batch struct {
	leaves   []leaf
	more     bool
	findings []string // writers that cannot be sealed any further
	blocked  int64    // about how many events of theirs wait behind that
}

type leaf struct {
	writer   string
	sequence int64
	kind     audit.Kind
	hash     audit.Hash
}

// ranges are what audit.add_checkpoint takes: of each writer the first and the
// last number, in the order of the leaves.
func (b *batch) ranges() (writers []string, first, last []int64) {
	for _, l := range b.leaves {
		if n := len(writers) - 1; n >= 0 && writers[n] == l.writer && last[n]+1 == l.sequence {
			last[n]++
			continue
		}
		writers, first, last = append(writers, l.writer), append(first, l.sequence), append(last, l.sequence)
	}
	return writers, first, last
}

// maxBlockedFindings bounds the findings of one survey. The number of those
// beyond it is the last finding.
const maxBlockedFindings = 100

// surveySQL reads, of each writer, the first and the last number that is not
// sealed: two descents of an index, however much waits.
const surveySQL = `SELECT w.place, first.writer_sequence, last.writer_sequence
	FROM unnest($1::text[], $2::bigint[]) WITH ORDINALITY AS w(writer, sealed, place)
	CROSS JOIN LATERAL (SELECT v.writer_sequence FROM audit.events v
		WHERE v.writer = w.writer COLLATE "C" AND v.writer_sequence > w.sealed ORDER BY v.writer_sequence LIMIT 1) first
	CROSS JOIN LATERAL (SELECT v.writer_sequence FROM audit.events v
		WHERE v.writer = w.writer COLLATE "C" AND v.writer_sequence > w.sealed ORDER BY v.writer_sequence DESC LIMIT 1) last`

// survey is which writers have events to seal.
type survey struct {
	ready    []pending // their next number is there
	declared steppedOver
	findings []string // those whose next number is missing
	blocked  int64    // about how many events wait behind a missing number
}

// pending is a writer and what of it waits to be sealed.
type pending struct {
	writer string
	sealed int64 // the number of its last sealed event
	last   int64 // its highest number
	share  int64 // how many of its events the next batch may take
}

// survey reads what waits, as of the tree of size. A writer whose next number is
// missing takes no part in the batch, whatever waits behind the gap.
func (s *Sealer) survey(ctx context.Context, tx pgx.Tx, size int64) (survey, error) {
	var v survey
	if err := s.writers.refresh(ctx, tx, size, s.config.Writer()); err != nil {
		return v, err
	}
	names := slices.Sorted(maps.Keys(s.writers.sealedTo))
	sealed := make([]int64, len(names))
	for i, name := range names {
		sealed[i] = s.writers.sealedTo[name]
	}
	declared, err := s.declaredGaps(ctx, tx)
	if err != nil {
		return v, err
	}
	v.declared = declared
	rows, err := tx.Query(ctx, surveySQL, names, sealed)
	if err != nil {
		return v, fmt.Errorf("look for events: %w", err)
	}
	gaps := 0
	var place, first, last int64
	_, err = pgx.ForEachRow(rows, []any{&place, &first, &last}, func() error {
		name, end := names[place-1], sealed[place-1]
		if first == end+1 || declared.steps(name, end+1, first-1) {
			v.ready = append(v.ready, pending{writer: name, sealed: first - 1, last: last})
			return nil
		}
		v.blocked += last - first + 1
		if gaps++; gaps <= maxBlockedFindings {
			v.findings = append(v.findings, gapOf(leaf{writer: name, sequence: first}, end+1))
		}
		return nil
	})
	if gaps > maxBlockedFindings {
		v.findings = append(v.findings, fmt.Sprintf("%d more writers have a missing number", gaps-maxBlockedFindings))
	}
	return v, err
}

// shares divides a batch: each writer gets an equal share, and what a writer
// does not need of its share is divided among the others. Where there are more
// writers than leaves, turn says which of them are first.
func shares(ready []pending, batch, turn int) []pending {
	if len(ready) > batch {
		rotated := make([]pending, 0, batch)
		for i := range batch {
			rotated = append(rotated, ready[(turn+i)%len(ready)])
		}
		ready = rotated
	}
	bySize := make([]*pending, len(ready))
	for i := range ready {
		bySize[i] = &ready[i]
	}
	slices.SortFunc(bySize, func(a, b *pending) int { return cmp.Compare(a.last-a.sealed, b.last-b.sealed) })
	left := int64(batch)
	for i, p := range bySize {
		p.share = min(p.last-p.sealed, left/int64(len(bySize)-i))
		left -= p.share
	}
	return ready
}

// One row more than the share shows whether the last number is there twice.
const gatherSQL = `SELECT w.writer, e.writer_sequence, e.kind, sha256('\x00'::bytea || e.record), CASE WHEN e.kind = 'signing_key' THEN e.record END
	FROM unnest($1::text[], $2::bigint[], $3::bigint[]) WITH ORDINALITY AS w(writer, sealed, share, place)
	CROSS JOIN LATERAL (
		SELECT v.writer_sequence, v.kind, v.record FROM audit.events v
		WHERE v.writer = w.writer COLLATE "C" AND v.writer_sequence > w.sealed
		ORDER BY v.writer_sequence, v.time LIMIT w.share + 1
	) e
	ORDER BY w.place, e.writer_sequence`

// gather takes each writer's next events, as far as no number is missing and as
// its share of the batch goes. What a key hands over in ends the batch, so that
// its own checkpoint is the last that the key signs.
func (s *Sealer) gather(ctx context.Context, tx pgx.Tx, size int64) (batch, error) {
	v, err := s.survey(ctx, tx, size)
	b := batch{findings: v.findings, blocked: v.blocked}
	if err != nil || len(v.ready) == 0 {
		return b, err
	}
	ready := shares(v.ready, s.batchLimit(), s.writers.turn)
	s.writers.turn = (s.writers.turn + len(ready)) % len(v.ready)
	b.more = len(ready) < len(v.ready)

	names, sealed, share := make([]string, len(ready)), make([]int64, len(ready)), make([]int64, len(ready))
	byName := make(map[string]*run, len(ready))
	for i, p := range ready {
		names[i], sealed[i], share[i] = p.writer, p.sealed, p.share
		byName[p.writer] = &run{next: p.sealed + 1, end: p.sealed + p.share, last: p.last}
	}
	rows, err := tx.Query(ctx, gatherSQL, names, sealed, share)
	if err != nil {
		return b, fmt.Errorf("look for events: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var l leaf
		var hash, record []byte
		if err := rows.Scan(&l.writer, &l.sequence, &l.kind, &hash, &record); err != nil {
			return b, err
		}
		l.hash = audit.Hash(hash)
		r := byName[l.writer]
		if !r.stopped && l.sequence > r.next && v.declared.steps(l.writer, r.next, l.sequence-1) {
			r.next = l.sequence
		}
		if b.take(r, l) && record != nil && s.handsOver(record) {
			b.more = true
			break
		}
	}
	rows.Close()
	b.more = b.more && len(b.leaves) > 0
	return b, rows.Err()
}

// run is how far a writer's events have been taken.
type run struct {
	next, end, last int64 // the next number, the last of the share, the writer's highest
	stopped         bool  // no further
}

// take adds an event of a writer to the batch, and reports whether it did.
func (b *batch) take(r *run, l leaf) bool {
	switch {
	case r.stopped:
		return false
	case l.sequence != r.next:
		r.stopped = true
		b.findings = append(b.findings, gapOf(l, r.next))
		if l.sequence < r.next { // it is there twice: neither is taken
			r.next--
			b.leaves = slices.DeleteFunc(b.leaves, func(o leaf) bool { return o.writer == l.writer && o.sequence == l.sequence })
		}
		b.blocked += r.last - r.next + 1
		return false
	case l.sequence > r.end:
		r.stopped, b.more = true, true
		return false
	}
	r.next++
	b.leaves = append(b.leaves, l)
	b.more = b.more || l.kind == audit.KindGapDeclared // what follows the gap is next
	return true
}

// gapOf says what is wrong with the event that follows, where want was to.
func gapOf(l leaf, want int64) string {
	if l.sequence < want {
		return fmt.Sprintf("writer %s has the number %d twice", audit.Text(l.writer, 64), l.sequence)
	}
	return fmt.Sprintf("writer %s has no number %d, and continues with %d", audit.Text(l.writer, 64), want, l.sequence)
}

func (s *Sealer) handsOver(record []byte) bool {
	if s.config.Signer == nil {
		return false
	}
	r, ok := audit.RegistrationOf(record)
	return ok && r.HandedOver(s.config.Signer.Key())
}
