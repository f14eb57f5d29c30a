package sealer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/sallyport/sallyport/audit"
	auditpg "github.com/sallyport/sallyport/audit/postgres"
	"github.com/sallyport/sallyport/internal/database"
)

// stepTimeout bounds a step. A commit that waits for a synchronous standby which
// is gone is given up; whether it happened is found out by the next step.
const stepTimeout = time.Minute

// step seals one batch. It is true where there may be more.
func (s *Sealer) step(ctx context.Context) (more bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	conn, err := s.session(ctx)
	if err != nil {
		return false, err
	}
	tx, err := conn.Begin(ctx)
	if err != nil {
		_ = conn.Close(ctx)
		return false, database.Explain("seal", &s.connect.Config, err)
	}
	defer func() {
		if err := tx.Rollback(context.WithoutCancel(ctx)); err != nil && !errors.Is(err, pgx.ErrTxClosed) {
			_ = conn.Close(ctx)
		}
	}()
	more, err = s.seal(ctx, tx)
	s.adapt(err, 0)
	if database.IsReadOnly(err) { // the primary is another server now
		s.drop()
	}
	if err != nil && !isOurs(err) {
		err = database.Explain("seal", &s.connect.Config, err)
	}
	return more, err
}

func isOurs(err error) bool {
	return errors.Is(err, ErrNoKey) || errors.Is(err, ErrBehind) || errors.Is(err, ErrForked) || errors.Is(err, auditpg.ErrDamaged) || errors.Is(err, ErrNoProgress) || errors.Is(err, ErrMayNotSeal)
}

// sealLock acquires the lock of the sealer for one transaction. It is a row lock
// that only the owner's functions can acquire: an advisory lock can be acquired,
// and kept, by every login that may connect.
const sealLock = `SELECT audit.try_seal_lock()`

func (s *Sealer) seal(ctx context.Context, tx pgx.Tx) (more bool, err error) {
	var mine bool
	if err := tx.QueryRow(ctx, sealLock).Scan(&mine); err != nil {
		return false, s.mayNotSeal(err)
	}
	s.locked = mine
	last, complete, err := s.latestAndKeys(ctx, tx)
	if err != nil || !complete {
		return true, err
	}
	s.mu.Lock()
	s.status.Invalid = last.findings
	s.mu.Unlock()
	if again, err := s.foreignKey(last); again || err != nil {
		return again, err
	}
	if err := s.compare(ctx, tx, last); err != nil { // also without the lock of sealing
		return false, err
	}
	if !mine {
		return false, s.watch(ctx, tx, last)
	}
	s.lockHolder = lockHolderState{}
	return s.sealNext(ctx, tx, last)
}

// sealNext seals the next batch, or signs a heartbeat, while this session has the lock
// of sealing. There is more to do where more is true.
func (s *Sealer) sealNext(ctx context.Context, tx pgx.Tx, last latest) (more bool, err error) {
	if err := s.findLost(ctx, tx); err != nil {
		return false, err
	}
	if again, err := s.authority(ctx, last); again || err != nil {
		return again, err // the event of a new key is the next to be sealed
	}
	tree, err := s.restore(ctx, tx, last)
	if err != nil {
		return false, err
	}
	s.announce(last.Checkpoint, last.note)
	b, err := s.gatherNext(ctx, tx)
	if err != nil {
		return false, err
	}
	s.passSteps++
	more = b.more || b.rest && s.passSteps < maxPassSteps
	if len(b.leaves) == 0 && tree.Size() == last.Size && !s.heartbeatDue(last) {
		s.behind(false, b.rest, b.findings, b.blocked)
		return more, nil
	}
	return more, s.extend(ctx, tx, tree, b)
}

// mayNotSeal explains the error of a login that may not seal.
func (s *Sealer) mayNotSeal(err error) error {
	if pg, ok := errors.AsType[*pgconn.PgError](err); !ok || pg.Code != "42501" {
		return err
	}
	return fmt.Errorf("%w: %q is not a member of %s: give serve a login of its own for sealing (audit.sealer_database_url_file), or run GRANT %[3]s TO %[2]q",
		ErrMayNotSeal, s.connect.User, database.Sealer)
}

// watch determines whether the session that has the turn to seal makes progress.
func (s *Sealer) watch(ctx context.Context, tx pgx.Tx, last latest) error {
	v, err := s.survey(ctx, tx)
	if err != nil {
		return err
	}
	findings, blocked := s.writers.stuckOnes()
	now, known := time.Now(), !s.lockHolder.since.IsZero()
	switch {
	case len(v.ready) == 0:
		if !v.rest {
			s.lockHolder = lockHolderState{}
		}
		s.behind(false, v.rest, findings, blocked)
		return nil
	case known && last.leaves != s.lockHolder.size:
		s.lockHolder = lockHolderState{size: last.leaves, since: now}
		s.behind(false, false, findings, blocked)
	case !known:
		s.lockHolder = lockHolderState{last.leaves, now, true}
	case now.Sub(s.lockHolder.since) > s.config.PatienceWithOthers:
		return fmt.Errorf("%w, since %s", ErrNoProgress, s.lockHolder.since.UTC().Format(time.RFC3339))
	default:
		s.lockHolder.stalled = true
	}
	s.behind(true, false, findings, blocked)
	return nil
}

// authority checks that our key is the one that signs next. It is true where
// there was none and ours has just been registered, or where an operator has put
// another key in the place of ours.
func (s *Sealer) authority(ctx context.Context, last latest) (again bool, err error) {
	if s.keys.first == "" && last.Size == 0 && last.refused == nil {
		return s.registerFirst(ctx)
	}
	if s.config.Signer == nil {
		return false, fmt.Errorf("%w: it is that of the log %s; copy its key file here and name it in audit.signing_key_file", ErrNoKey, cmp.Or(last.Origin, s.keys.first.Origin()))
	}
	if last.Size == 0 && last.refused != nil {
		return false, last.refused
	}
	own := s.config.Signer.Key()
	if s.keys.mayFollow(last.signedBy) {
		return false, nil
	}
	if s.rereadSigner(own) {
		return true, nil
	}
	present := s.keys.present(last.signedBy)
	if last.signedBy == own && present != own {
		return false, fmt.Errorf("%w: the key was rotated to %s: put that key in place of this instance's, which is read again", errKeyRotated, present)
	}
	return false, fmt.Errorf("%w: the log's key is %s, and this instance has %s: put the log's key into the file of audit.signing_key_file, or into data_directory; it is read again", ErrNoKey, present, own)
}

// foreignKey returns an error where this instance's key signed nothing of what the log
// has: it is another log's, or one that no key handed over to. It is true where an
// operator has put another key in its place since.
func (s *Sealer) foreignKey(last latest) (again bool, err error) {
	if s.config.Signer == nil || last.Size > 0 || s.keys.first == "" || !errors.Is(last.refused, ErrNoKey) {
		return false, nil
	}
	own := s.config.Signer.Key()
	if s.rereadSigner(own) {
		return true, nil
	}
	return false, fmt.Errorf("%w: the log's key is %s, and this instance has %s: put the log's key into the file of audit.signing_key_file, or into data_directory; it is read again",
		ErrNoKey, s.keys.present(""), own)
}

// rereadSigner reads this instance's key again, and reports whether it is another one.
func (s *Sealer) rereadSigner(present audit.Key) bool {
	if s.config.ReadSigner == nil {
		return false
	}
	signer, err := s.config.ReadSigner()
	if err != nil {
		s.log.Debug("the signing key cannot be read again", "error", err)
		return false
	}
	if signer == nil || signer.Key() == present {
		return false
	}
	s.log.Info("another signing key is in use", "key", string(signer.Key()))
	s.config.Signer = signer
	return true
}

// registerFirst records the first key of a log, and makes one first if this
// instance has none. It is false where the event was recorded already and is not
// in the database yet: while that is unavailable, the event is in the journal.
func (s *Sealer) registerFirst(ctx context.Context) (registered bool, err error) {
	if !s.registered.IsZero() && s.now().Sub(s.registered) < registrationRetry {
		return false, errKeyNotInDatabase
	}
	if s.config.Signer == nil {
		if s.config.NewSigner == nil {
			return false, fmt.Errorf("%w: it has none", ErrNoKey)
		}
		signer, err := s.config.NewSigner()
		if err != nil {
			return false, fmt.Errorf("make a signing key: %w", err)
		}
		s.config.Signer = signer
	}
	key := s.config.Signer.Key()
	e := audit.Register(s.config.Signer, time.Now())
	// The first instance makes the key after its writer has started.
	if s.config.Writer != nil {
		if attributes, err := s.config.Signer.SignWriter(s.config.Writer()); err == nil {
			e.Attributes = append(e.Attributes, attributes...)
		}
	}
	if err := s.config.Record(ctx, e); err != nil {
		return false, fmt.Errorf("register the signing key: %w", err)
	}
	s.registered = s.now()
	s.log.Info("the audit log has its signing key", "key", string(key))
	return true, nil
}

// registrationRetry is how long a recorded event may take to reach the database
// before it counts as lost with the database that had it.
const registrationRetry = time.Minute

var errKeyNotInDatabase = errors.New("the signing key was recorded, and its event is not in the database yet: it follows from the journal")

// extend seals the batch and signs, in this transaction. The database computes
// the leaves and the tree again, and refuses what differs from the signed note.
func (s *Sealer) extend(ctx context.Context, tx pgx.Tx, tree *audit.Tree, b batch) error {
	for i := range b.leaves {
		tree.Append(b.leaves[i].hash)
	}
	c := audit.Checkpoint{Origin: s.config.Signer.Key().Origin(), Size: tree.Size(), Root: tree.Root(), Time: s.now().UTC().Truncate(time.Second)}
	note, err := s.config.Signer.Sign(c)
	if err != nil {
		return err
	}
	writers, first, last := b.ranges()
	if _, err := tx.Exec(ctx, `SELECT audit.add_checkpoint($1, $2, $3, $4)`, writers, first, last, string(note)); err != nil {
		if pg, ok := errors.AsType[*pgconn.PgError](err); ok && (pg.Code == "XX001" || pg.Code == "23514") {
			return fmt.Errorf("%w: %s", auditpg.ErrDamaged, pg.Message)
		}
		return fmt.Errorf("add the checkpoint: %w", err)
	}
	err = tx.Commit(ctx)
	if err == nil {
		if err = s.replication.Err(); err != nil { // it is not published: a failover may lose it
			s.drop()
		}
	}
	if err != nil {
		s.writers = newWriters() // whether it happened is found out at the next step
		return fmt.Errorf("commit: %w", err)
	}
	s.adapt(nil, len(b.leaves))
	s.writers.sealed(b)
	s.announce(c, note)
	s.mu.Lock()
	s.status.Sealed += int64(len(b.leaves))
	s.mu.Unlock()
	s.behind(b.more, b.rest, b.findings, b.blocked)
	return nil
}

// announce takes note of a checkpoint that is in the database, and gives it to
// the places that do not have it. It may be another instance's.
func (s *Sealer) announce(c audit.Checkpoint, note []byte) {
	if c.Size == 0 {
		return
	}
	s.mu.Lock()
	s.status.Size, s.status.Time = c.Size, c.Time
	s.mu.Unlock()
	if c.Compare(s.newest) <= 0 {
		return
	}
	s.newest = c
	for _, p := range s.places {
		if p.lacks(c) {
			p.put(note)
		}
	}
}
