package writer

import (
	"bytes"
	"context"
	"fmt"

	"github.com/sallyport/sallyport/internal/database"
)

// PutPolicy keeps a policy's content under its digest, once. It returns when
// that is durable, and may be called again with the same content by any writer.
// Other content under a known digest is an error. It uses a connection of its
// own; retrying is the caller's business.
func (l *Log) PutPolicy(ctx context.Context, digest string, content []byte) error {
	if err := l.putPolicy(ctx, digest, content); err != nil {
		return fmt.Errorf("keep policy %s: %w", digest, err)
	}
	return nil
}

// HasPolicy reports whether the log holds a policy's content under its digest. It uses
// a connection of its own.
func (l *Log) HasPolicy(ctx context.Context, digest string) (known bool, err error) {
	config := l.connect.Copy()
	config.RuntimeParams["application_name"] = "sallyport policies"
	conn, err := database.Connect(ctx, config)
	if err != nil {
		return false, fmt.Errorf("look up policy %s: %w", digest, err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if err := conn.QueryRow(ctx, `SELECT EXISTS (SELECT FROM audit.policies WHERE digest = $1)`, digest).Scan(&known); err != nil {
		return false, fmt.Errorf("look up policy %s: %w", digest, database.Explain("select", &config.Config, err))
	}
	return known, nil
}

func (l *Log) putPolicy(ctx context.Context, digest string, content []byte) error {
	config := l.connect.Copy()
	config.RuntimeParams["application_name"] = "sallyport policies"
	conn, err := database.Connect(ctx, config)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if err := database.Durable(ctx, conn.PgConn()); err != nil {
		return err
	}
	if content == nil {
		content = []byte{}
	}
	tag, err := conn.Exec(ctx, `INSERT INTO audit.policies (digest, content) VALUES ($1, $2) ON CONFLICT (digest) DO NOTHING`, digest, content)
	if err != nil {
		return database.Explain("insert", &config.Config, err)
	}
	if tag.RowsAffected() == 1 {
		return nil
	}
	var kept []byte
	if err := conn.QueryRow(ctx, `SELECT content FROM audit.policies WHERE digest = $1`, digest).Scan(&kept); err != nil {
		return database.Explain("compare", &config.Config, err)
	}
	if !bytes.Equal(kept, content) {
		return fmt.Errorf("the log holds other content under this digest (%d bytes, not %d)", len(kept), len(content))
	}
	return nil
}
