package database

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/sallyport/sallyport/migrations"
)

// Querier is a connection or a pool.
type Querier interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// Version returns the number of the newest migration that the database has;
// zero where it has none.
func Version(ctx context.Context, db Querier) (int64, error) {
	var version int64
	err := db.QueryRow(ctx, "SELECT coalesce(max(version_id), 0) FROM "+migrations.Table+" WHERE is_applied").Scan(&version)
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		switch pg.Code {
		case "42P01", "3F000": // no such table, no such schema
			return 0, nil
		case "42501":
			login := "the login"
			var name string
			if db.QueryRow(ctx, "SELECT current_user").Scan(&name) == nil {
				login = fmt.Sprintf("the login %q", name)
			}
			return 0, fmt.Errorf("read schema version: %s (SQLSTATE %s): %s is not a member of %s, %s or %s: use one that is, or GRANT it",
				pg.Message, pg.Code, login, Writer, Sealer, Auditor)
		}
	}
	if err != nil {
		return 0, fmt.Errorf("read schema version: %w", err)
	}
	return version, nil
}

// CheckVersion returns an error that names the command to run where this
// program does not fit the database: neighboring versions work together. A
// program knows how old a schema may be for it, and a schema how old a program.
func CheckVersion(ctx context.Context, db Querier) error {
	var encoding string
	if err := db.QueryRow(ctx, "SELECT current_setting('server_encoding')").Scan(&encoding); err != nil {
		return fmt.Errorf("read server encoding: %w", err)
	}
	if err := checkEncoding(encoding); err != nil {
		return err
	}
	version, err := Version(ctx, db)
	switch {
	case err != nil:
		return err
	case version == 0:
		return errors.New("the database has no Sallyport schema yet; run `sallyport migrate` first")
	case version < migrations.Oldest:
		return fmt.Errorf("the database's schema is version %d and this program needs %d or later; run `sallyport migrate`", version, migrations.Oldest)
	case version <= migrations.Latest():
		return nil
	}
	// A newer program has migrated. The schema contains the oldest program that it serves.
	var oldest int64
	if err := db.QueryRow(ctx, "SELECT sallyport.oldest_program()").Scan(&oldest); err != nil {
		return fmt.Errorf("ask whom the schema serves: %w", err)
	}
	if oldest > migrations.Latest() {
		return fmt.Errorf("the database's schema is version %d, which is too new for this program (it knows %d); install the current version of sallyport", version, migrations.Latest())
	}
	return nil
}

// checkEncoding refuses a database that cannot hold every character: there, a
// host name could make the write of its own refusal fail.
func checkEncoding(encoding string) error {
	if encoding != "UTF8" {
		return fmt.Errorf("the database's encoding is %s and must be UTF8: CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0", encoding)
	}
	return nil
}
