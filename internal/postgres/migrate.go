package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"

	"github.com/sallyport/sallyport/migrations"
)

// migrationLock is the advisory lock of all that changes the schema. Advisory
// locks are per database, so that databases do not wait for one another.
const migrationLock = 0x53616c6c79706f72 // "Sallypor"

// oldestServer is the oldest PostgreSQL whose behaviour we rely on, as
// server_version_num.
const oldestServer = 140000

// Migrate brings the schema of the database up to [migrations.Latest], as the
// role [Owner], and returns the versions before and after. The roles are made
// where the login may make them. Several may migrate at the same time, and
// servers may go on writing meanwhile. A database that is newer than we are is
// left alone, with an error. A nil log says nothing.
func Migrate(ctx context.Context, url string, log *slog.Logger) (from, to int64, err error) {
	return migrate(ctx, url, log, migrations.Latest())
}

// migrate brings the schema up or down to a version.
func migrate(ctx context.Context, url string, log *slog.Logger, want int64) (from, to int64, err error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	config, err := ParseConfig(url, "sallyport migrate")
	if err != nil {
		return 0, 0, fmt.Errorf("migrate: %w", err)
	}
	// What a migration takes depends on the size of the log.
	config.RuntimeParams["statement_timeout"] = "0"
	config.RuntimeParams["idle_in_transaction_session_timeout"] = "0"
	if err := prepare(ctx, config); err != nil {
		return 0, 0, fmt.Errorf("migrate: %w", err)
	}

	db := stdlib.OpenDB(*config, stdlib.OptionAfterConnect(func(ctx context.Context, conn *pgx.Conn) error {
		// A migration that waits for a lock makes every writer after it wait too.
		_, err := conn.Exec(ctx, "SET ROLE "+Owner+"; SET lock_timeout = '5s'")
		return Explain("act as "+Owner, &config.Config, err)
	}))
	defer db.Close()
	from, to, err = run(ctx, db, log, want)
	if err != nil {
		return from, to, fmt.Errorf("migrate: %w", Explain("apply", &config.Config, err))
	}
	return from, to, nil
}

func run(ctx context.Context, db *sql.DB, log *slog.Logger, want int64) (from, to int64, err error) {
	locker, err := lock.NewPostgresSessionLocker(lock.WithLockID(migrationLock), lock.WithLockTimeout(1, 300), lock.WithUnlockTimeout(1, 30))
	if err != nil {
		return 0, 0, err
	}
	provider, err := goose.NewProvider(goose.DialectPostgres, db, migrations.Files,
		goose.WithTableName(migrations.Table), goose.WithSessionLocker(locker), goose.WithSlog(log), goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return 0, 0, err
	}
	if from, err = provider.GetDBVersion(ctx); err != nil {
		return 0, 0, err
	}
	if from > migrations.Latest() {
		return from, from, fmt.Errorf("the database's schema is version %d and this program only knows %d; install the current version of sallyport", from, migrations.Latest())
	}
	var done []*goose.MigrationResult
	if want >= from {
		done, err = provider.UpTo(ctx, want)
	} else {
		done, err = provider.DownTo(ctx, want)
	}
	if partial, ok := errors.AsType[*goose.PartialError](err); ok {
		return from, from, fmt.Errorf("%s: %w", partial.Failed.Source.Path, partial.Err)
	}
	if err != nil {
		return from, from, err
	}
	for _, r := range done {
		log.InfoContext(ctx, "schema changed", "migration", r.Source.Path, "direction", r.Direction, "duration", r.Duration)
	}
	return from, want, nil
}

// prepare makes what the migrations stand on: the roles, and the schema that
// holds their version.
func prepare(ctx context.Context, config *pgx.ConnConfig) error {
	conn, err := Connect(ctx, config)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))

	var encoding string
	var server int
	if err := conn.QueryRow(ctx, "SELECT current_setting('server_encoding'), current_setting('server_version_num')::int").Scan(&encoding, &server); err != nil {
		return Explain("ask the server", &config.Config, err)
	}
	if server < oldestServer {
		return fmt.Errorf("PostgreSQL %d is too old; Sallyport needs %d or later", server/10000, oldestServer/10000)
	}
	if err := checkEncoding(encoding); err != nil {
		return err
	}
	// The lock ends with the connection.
	if _, err := conn.Exec(ctx, "SELECT pg_advisory_lock($1)", int64(migrationLock)); err != nil {
		return Explain("wait for another migration", &config.Config, err)
	}
	if err := ensureRoles(ctx, conn); err != nil {
		return err
	}
	if _, err := conn.Exec(ctx, "SET ROLE "+Owner); err != nil {
		return fmt.Errorf("%w; GRANT %s TO %q", Explain("act as "+Owner, &config.Config, err), Owner, config.User)
	}
	_, err = conn.Exec(ctx, `
		CREATE SCHEMA IF NOT EXISTS sallyport;
		COMMENT ON SCHEMA sallyport IS 'What Sallyport knows of its own database.';
		REVOKE ALL ON SCHEMA sallyport FROM PUBLIC;
		GRANT USAGE ON SCHEMA sallyport TO sallyport_writer, sallyport_auditor;
		ALTER DEFAULT PRIVILEGES IN SCHEMA sallyport GRANT SELECT ON TABLES TO sallyport_writer, sallyport_auditor`)
	return Explain("create schema sallyport", &config.Config, err)
}
