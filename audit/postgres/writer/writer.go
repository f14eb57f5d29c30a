package writer

import (
	"context"
	"fmt"
	"strings"

	auditpg "github.com/sallyport/sallyport/audit/postgres"
)

// openSession opens a session that may write as this writer.
func (l *Log) openSession(ctx context.Context) (*session, error) {
	s, err := openSessionWithin(ctx, l.connect, l.config.WriteTimeout)
	if err != nil {
		return nil, err
	}
	if err := s.authenticate(ctx, l.secret); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// authenticate lets this session write under the names that are made from the
// secret, and no others. The secret is a parameter of the protocol, whatever
// the connection string says of simple queries: other sessions of the login see
// the text of a query in pg_stat_activity.
func (s *session) authenticate(ctx context.Context, secret string) error {
	result := s.conn.PgConn().ExecParams(ctx, `SELECT set_config('sallyport.writer_secret', $1, false)`, [][]byte{[]byte(secret)}, nil, nil, nil).Read()
	if result.Err != nil {
		return fmt.Errorf("show the secret of the writer: %w", result.Err)
	}
	return nil
}

// showPrevious lets this session add a first event that names writers as those
// which it continues: it shows that this process knows their secrets.
func (s *session) showPrevious(ctx context.Context, secrets ...string) error {
	result := s.conn.PgConn().ExecParams(ctx, `SELECT set_config('sallyport.previous_writer_secrets', $1, false)`, [][]byte{[]byte(strings.Join(secrets, " "))}, nil, nil, nil).Read()
	if result.Err != nil {
		return fmt.Errorf("show the secrets of the previous writers: %w", result.Err)
	}
	return nil
}

// authenticateLeft lets this session write as the writer of a journal that an
// earlier process left.
func (s *session) authenticateLeft(ctx context.Context, writer, secret string) error {
	if !auditpg.IsNamedBy(writer, secret) {
		return fmt.Errorf("%w: its secret is not that of writer %s", errJournalForeign, writer)
	}
	return s.authenticate(ctx, secret)
}
