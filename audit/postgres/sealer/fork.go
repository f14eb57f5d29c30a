package sealer

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sallyport/sallyport/audit"
	auditpg "github.com/sallyport/sallyport/audit/postgres"
)

// forkError is a fork: the database has another tree than a checkpoint that was
// published. Its text is the same at each step, so that a fork is logged once.
type forkError struct {
	where     string // that has the checkpoint
	published audit.Checkpoint
	root      audit.Hash // that the database has at that size
	latest    audit.Checkpoint
}

func (e *forkError) Error() string {
	return fmt.Sprintf("%v: %s has the checkpoint of size %d with the root %s, and the database has the root %s there: seal nothing until it is known which of the two logs is kept (docs/audit.md, \"After a fork\")",
		ErrForked, e.where, e.published.Size, e.published.Root, e.root)
}

func (e *forkError) Unwrap() error { return ErrForked }

// event is the event that records a fork.
func (e *forkError) event(now time.Time) *audit.Event {
	return &audit.Event{Time: now, Kind: audit.KindLogForked, Message: "the database holds another log than was published", Attributes: []audit.Attribute{
		{Name: "place", Value: e.where},
		{Name: "published_size", Value: strconv.FormatInt(e.published.Size, 10)},
		{Name: "published_root", Value: e.published.Root.String()},
		{Name: "database_root", Value: e.root.String()},
		{Name: "database_size", Value: strconv.FormatInt(e.latest.Size, 10)},
		{Name: "database_latest_root", Value: e.latest.Root.String()},
	}}
}

// compare compares the database with what was published: with the newest checkpoint
// that this instance knows at each step, and with the places on each new connection
// and now and then. A fork stays until an operator acts: what this instance knows
// is not replaced by what contradicts it, and after a restart the places have it.
func (s *Sealer) compare(ctx context.Context, tx pgx.Tx, last latest) error {
	if s.compared.IsZero() {
		for _, p := range s.places {
			p.checked = nil
		}
	}
	err := s.compareNewest(ctx, tx, last)
	if err == nil && (s.compared.IsZero() || time.Since(s.compared) >= s.config.CompareInterval) {
		if err = s.comparePlaces(ctx, tx, last); err == nil {
			s.compared = time.Now()
		}
	}
	if fork, ok := errors.AsType[*forkError](err); ok {
		s.recordFork(ctx, fork)
	}
	return err
}

// recordFork records a fork once. Where that fails it is tried again at the next
// step.
func (s *Sealer) recordFork(ctx context.Context, fork *forkError) {
	if text := fork.Error(); s.fork != text {
		if err := s.config.Record(ctx, fork.event(time.Now())); err != nil {
			s.log.Error("fork of the log not recorded yet", "error", err)
			return
		}
		s.fork = text
	}
}

// comparePublished compares the database with the newest checkpoint that this
// instance published or saw. The size alone is not enough: after a failover another
// instance may have sealed other events to a larger size.
func (s *Sealer) comparePublished(ctx context.Context, tx pgx.Tx, last latest) error {
	switch {
	case s.newest.Size == 0 || last.Size == s.newest.Size && last.Root == s.newest.Root:
		return nil
	case last.Size < s.newest.Size && last.refused != nil:
		return last.refused
	case last.Size < s.newest.Size:
		return fmt.Errorf("%w: this instance has seen the checkpoint of size %d, and the database has %d", ErrBehind, s.newest.Size, last.Size)
	}
	return s.compareRoot(ctx, tx, "this instance", s.newest, last)
}

// compareRoot compares the root of a checkpoint that the database is not behind.
func (s *Sealer) compareRoot(ctx context.Context, tx pgx.Tx, where string, c audit.Checkpoint, last latest) error {
	root, err := rootAt(ctx, tx, c.Size, c.Root)
	if err != nil {
		return err
	}
	if root != c.Root {
		return &forkError{where, c, root, last.Checkpoint}
	}
	return nil
}

// rootAt is the root of the database's tree at a size that it has reached. Where
// there is a checkpoint of that size with the root that is expected, it is one
// indexed row. Otherwise the tree is made from the checkpoint before: checkpoints
// thin out, and another branch of the log has checkpoints of other sizes.
func rootAt(ctx context.Context, tx pgx.Tx, size int64, expected audit.Hash) (audit.Hash, error) {
	var there bool
	if err := tx.QueryRow(ctx, `SELECT EXISTS (SELECT FROM audit.checkpoints WHERE size = $1 AND root = $2)`, size, expected[:]).Scan(&there); err != nil {
		return audit.Hash{}, fmt.Errorf("compare checkpoints: %w", err)
	}
	if there {
		return expected, nil
	}
	tree := new(audit.Tree)
	var before int64
	var frontier []byte
	err := tx.QueryRow(ctx, `SELECT size, frontier FROM audit.checkpoints WHERE size <= $1 ORDER BY size DESC, number LIMIT 1`, size).Scan(&before, &frontier)
	if err == nil {
		if tree, err = audit.RestoreTree(before, frontier); err != nil {
			return audit.Hash{}, fmt.Errorf("%w: %w", auditpg.ErrDamaged, err)
		}
	} else if !errors.Is(err, pgx.ErrNoRows) {
		return audit.Hash{}, fmt.Errorf("compare checkpoints: %w", err)
	}
	if err := auditpg.AppendLeaves(ctx, tx, tree, before, size); err != nil {
		return audit.Hash{}, err
	}
	return tree.Root(), nil
}

// comparePlaces compares the database with the recent checkpoints of each place.
func (s *Sealer) comparePlaces(ctx context.Context, tx pgx.Tx, last latest) error {
	for _, p := range s.places {
		brief, cancel := context.WithTimeout(ctx, 4*time.Second)
		notes, err := p.publisher.Recent(brief)
		cancel()
		if err != nil {
			if text := err.Error(); p.unread != text {
				p.unread = text
				s.log.Warn("published checkpoints cannot be compared with the database", "place", p.publisher.Name(), "error", err)
			}
			continue
		}
		p.unread = ""
		if err := s.comparePlace(ctx, tx, p, notes, last); err != nil {
			return err
		}
	}
	return nil
}

func (s *Sealer) comparePlace(ctx context.Context, tx pgx.Tx, p *place, notes [][]byte, last latest) error {
	checked := make(map[string]bool, len(notes))
	var newest audit.Checkpoint
	for _, note := range notes {
		published, err := audit.ReadCheckpoint(note)
		if err != nil {
			return fmt.Errorf("%w: %s holds no checkpoints", ErrForked, p.publisher.Name())
		}
		if err := s.sameLog(p, published, last); err != nil {
			return err
		}
		if published.Compare(newest) > 0 {
			newest = published
		}
		if published.Size > last.Size {
			continue
		}
		if !p.checked[string(note)] {
			if err := s.compareRoot(ctx, tx, p.publisher.Name(), published, last); err != nil {
				return err
			}
		}
		checked[string(note)] = true
	}
	if newest.Size > last.Size {
		return fmt.Errorf("%w: %s has the checkpoint of size %d, and the database has %d", ErrBehind, p.publisher.Name(), newest.Size, last.Size)
	}
	p.checked = checked
	if newest.Size > 0 {
		p.mu.Lock()
		if newest.Compare(audit.Checkpoint{Size: p.size, Time: p.signed}) > 0 {
			p.size, p.signed = newest.Size, newest.Time
		}
		p.mu.Unlock()
	}
	return nil
}

// sameLog checks the name of the log that a place has checkpoints of.
func (s *Sealer) sameLog(p *place, published audit.Checkpoint, last latest) error {
	origin := last.Origin
	if s.config.Signer != nil {
		origin = s.config.Signer.Key().Origin()
	}
	if last.Size == 0 && s.config.Signer == nil {
		return fmt.Errorf("%w: %s has the checkpoint of size %d, and the database has none", ErrBehind, p.publisher.Name(), published.Size)
	}
	if published.Origin != origin {
		return fmt.Errorf("%w: %s has checkpoints of the log %s, and this is %q; give this log a place of its own", ErrForked, p.publisher.Name(), published.Origin, origin)
	}
	return nil
}
