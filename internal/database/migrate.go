package database

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"

	"github.com/sallyport/sallyport/migrations"
)

// migrationLock is the advisory lock of all that changes the schema. Advisory
// locks are per database, so that databases do not wait for one another. Every
// login that may connect can acquire it: before the first migration there is no
// table that only our roles can lock, and goose has no other kind. So the wait is
// bounded, and the error names the session that holds the lock.
const migrationLock = 0x53616c6c79706f72 // "Sallypor"

// migrationWait is how long a migration waits for another.
var migrationWait = 5 * time.Minute

// oldestServer is the oldest PostgreSQL whose behavior we rely on, as
// server_version_num.
const oldestServer = 140000

// Migrate brings the schema of the database up to [migrations.Latest], as the
// role [Owner], and returns the versions before and after. The roles are made
// where the login may make them. Several may migrate at the same time, and
// servers may continue writing meanwhile. A database that is newer than we are is
// left alone, with an error. A nil log discards.
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
	Set(&config.Config, map[string]string{"statement_timeout": "0", "idle_in_transaction_session_timeout": "0"})
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
	if err != nil && strings.HasSuffix(err.Error(), "failed to acquire lock") { // goose's, an error without a type
		err = fmt.Errorf("%w: another session holds the migration lock, an advisory lock in pg_locks: wait for it where it migrates, or else end it with pg_terminate_backend", err)
	}
	if err != nil {
		return from, from, err
	}
	for _, r := range done {
		log.InfoContext(ctx, "schema changed", "migration", r.Source.Path, "direction", r.Direction, "duration", r.Duration)
	}
	return from, want, nil
}

// lockMigrations acquires the migration lock for the session, and waits for at most
// [migrationWait].
func lockMigrations(ctx context.Context, conn *pgx.Conn) error {
	if _, err := conn.Exec(ctx, fmt.Sprintf("SET lock_timeout = %d", migrationWait.Milliseconds())); err != nil {
		return Explain("bound the wait for another migration", &conn.Config().Config, err)
	}
	_, err := conn.Exec(ctx, "SELECT pg_advisory_lock($1)", int64(migrationLock))
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok && pg.Code == "55P03" { // lock_not_available
		return fmt.Errorf("acquire the migration lock: %s has held it for more than %s: wait for it where it migrates, or else end it with pg_terminate_backend",
			migrationHolder(ctx, conn), migrationWait)
	}
	if err != nil {
		return Explain("acquire the migration lock", &conn.Config().Config, err)
	}
	_, err = conn.Exec(ctx, "SET lock_timeout = 0")
	return Explain("settle the session", &conn.Config().Config, err)
}

// migrationHolder names the session that holds the migration lock. A key of 64
// bits is in pg_locks as two of 32 (PostgreSQL documentation, "pg_locks").
func migrationHolder(ctx context.Context, db Querier) string {
	var holder string
	if err := db.QueryRow(ctx, `SELECT coalesce(string_agg('session ' || l.pid || ' of the login ' || coalesce(quote_ident(a.usename), '?'), ', '), 'a session that has ended')
		FROM pg_locks l LEFT JOIN pg_stat_activity a ON a.pid = l.pid
		WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1 AND l.pid <> pg_backend_pid()
		  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
		  AND l.classid::bigint = $1 AND l.objid::bigint = $2`, int64(migrationLock>>32), int64(migrationLock&0xffffffff)).Scan(&holder); err != nil {
		return "another session"
	}
	return holder
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
	if err := lockMigrations(ctx, conn); err != nil {
		return err
	}
	if err := ensureRoles(ctx, conn); err != nil {
		return err
	}
	if _, err := conn.Exec(ctx, "SET ROLE "+Owner); err != nil {
		return fmt.Errorf("%w; GRANT %s TO %q", Explain("act as "+Owner, &config.Config, err), Owner, config.User)
	}
	// IF NOT EXISTS asks for the privilege all the same, which a restored database lacks.
	_, err = conn.Exec(ctx, `
		DO $$ BEGIN
			IF NOT EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = 'sallyport') THEN
				CREATE SCHEMA sallyport;
			END IF;
		END $$;
		COMMENT ON SCHEMA sallyport IS 'What Sallyport knows of its own database.';
		REVOKE ALL ON SCHEMA sallyport FROM PUBLIC;
		GRANT USAGE ON SCHEMA sallyport TO sallyport_writer, sallyport_sealer, sallyport_auditor;
		ALTER DEFAULT PRIVILEGES IN SCHEMA sallyport GRANT SELECT ON TABLES TO sallyport_writer, sallyport_sealer, sallyport_auditor`)
	return Explain("create schema sallyport", &config.Config, err)
}
