package postgres

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/sallyport/sallyport/internal/postgres"
)

// errNameTaken: the name of the writer is registered with another secret.
var errNameTaken = errors.New("the name of this writer is registered with another secret, or the log has events of it: another process uses the name; restart with `sallyport serve`, which takes a new name")

// newSecret is what a writer proves with that it is itself: 256 random bits, in
// hexadecimal. The database has its SHA-256.
func newSecret() string {
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails: crypto/rand ends the process instead
	return hex.EncodeToString(b[:])
}

// openSession opens a session that may write as this writer. A database that does
// not know the name registers it: after a failover the registration may be lost.
func (l *Log) openSession(ctx context.Context) (*session, error) {
	s, err := openSessionWithin(ctx, l.connect, l.config.WriteTimeout)
	if err != nil {
		return nil, err
	}
	if err := s.register(ctx, l.writer, l.secret); err != nil {
		s.close()
		return nil, postgres.Explain("register writer", &l.connect.Config, err)
	}
	return s, nil
}

// register registers a writer, if it is not registered, and makes this session
// its own.
func (s *session) register(ctx context.Context, writer, secret string) error {
	digest := sha256.Sum256([]byte(secret))
	var ours bool
	if err := s.conn.QueryRow(ctx, `SELECT audit.register_writer($1, $2)`, writer, digest[:]).Scan(&ours); err != nil {
		return err
	}
	if !ours {
		return errNameTaken
	}
	return s.authenticate(ctx, secret)
}

// authenticate lets this session write under the names that are registered with
// the secret, and no others. The secret is a parameter of the protocol, whatever
// the connection string says of simple queries: other sessions of the login see
// the text of a query in pg_stat_activity.
func (s *session) authenticate(ctx context.Context, secret string) error {
	result := s.conn.PgConn().ExecParams(ctx, `SELECT set_config('sallyport.writer_secret', $1, false)`, [][]byte{[]byte(secret)}, nil, nil, nil).Read()
	if result.Err != nil {
		return fmt.Errorf("show the secret of the writer: %w", result.Err)
	}
	return nil
}

// authenticateLeft lets this session write as the writer of a journal that an
// earlier process left.
func (s *session) authenticateLeft(ctx context.Context, writer, secret string) error {
	if err := s.authenticate(ctx, secret); err != nil {
		return err
	}
	var may bool
	if err := s.conn.QueryRow(ctx, `SELECT audit.may_write($1)`, writer).Scan(&may); err != nil {
		return fmt.Errorf("authenticate as writer %s: %w", writer, err)
	}
	if !may {
		return fmt.Errorf("%w: its secret is not that of writer %s", errJournalForeign, writer)
	}
	return nil
}
