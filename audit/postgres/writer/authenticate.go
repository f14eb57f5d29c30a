package writer

import (
	"context"
	"errors"
	"fmt"
	"strings"

	auditpg "github.com/sallyport/sallyport/audit/postgres"
)

// authenticate lets this session write under the names that are made from the
// secret, and no others. The secret is a parameter of the protocol, whatever
// the connection string sets for simple queries: other sessions of the login see
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

// errJournalForeign: a journal of a writer that this log has never known.
var errJournalForeign = errors.New("this log knows nothing of its writer: data_directory was used with another database, or an older backup was restored")
