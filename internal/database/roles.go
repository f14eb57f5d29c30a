package database

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/sallyport/sallyport/migrations"
)

// The roles. A PostgreSQL cluster has each of them once, for all its databases.
const (
	Owner   = "sallyport_owner"   // owns the tables; it has no LOGIN
	Writer  = "sallyport_writer"  // what serve records as
	Sealer  = "sallyport_sealer"  // what serve seals as
	Auditor = "sallyport_auditor" // what an auditor logs in as
)

// PrintRoles returns SQL for an administrator to run, with psql, in the
// database, where the login that migrates may not make roles itself.
func PrintRoles() string {
	return "-- Run this in Sallyport's database as an administrator who may create roles\n" +
		"-- and who owns the database (or as a superuser). It may be run again.\n\n" +
		migrations.Roles + `
-- Then give the logins passwords (psql asks for them, and sends only a hash):
--   \password ` + Writer + `
--   \password ` + Sealer + `
--   \password ` + Auditor + `
-- or, with one login for both, which then may seal as well as record:
--   GRANT ` + Sealer + ` TO ` + Writer + `;
-- and let the login that "sallyport migrate" uses act as the owner:
--   GRANT ` + Owner + ` TO your_migration_login;
`
}

const printRoles = "; let an administrator run what `sallyport migrate --print-roles` prints"

// ensureRoles creates the roles if the login may, and otherwise reports who has to.
func ensureRoles(ctx context.Context, conn *pgx.Conn) error {
	var complete, mayCreate bool
	if err := conn.QueryRow(ctx, `
		SELECT (SELECT count(*) = 4 FROM pg_roles WHERE rolname IN ('sallyport_owner', 'sallyport_writer', 'sallyport_sealer', 'sallyport_auditor')),
		       (SELECT rolsuper OR rolcreaterole FROM pg_roles WHERE rolname = current_user)`).Scan(&complete, &mayCreate); err != nil {
		return Explain("look for roles", &conn.Config().Config, err)
	}
	if complete {
		member, able, err := ownerReady(ctx, conn)
		switch {
		case member && able || err != nil:
			return err
		case !member && !mayCreate:
			return fmt.Errorf("the roles exist, and the login %q is not a member of %s: name the login that migrates in audit.migration_url_file, or let an administrator run GRANT %[2]s TO %[1]q",
				conn.Config().User, Owner)
		case !able && !mayCreate:
			return fmt.Errorf("%s may not create a schema in the database %q: let an administrator run GRANT CREATE ON DATABASE %[2]q TO %[1]s", Owner, conn.Config().Database)
		}
	} else if !mayCreate {
		return fmt.Errorf("the roles %s, %s, %s and %s do not all exist, and %q may not create roles%s",
			Owner, Writer, Sealer, Auditor, conn.Config().User, printRoles)
	}
	if err := retryConcurrent(ctx, conn, migrations.Roles); err != nil {
		return fmt.Errorf("create roles: %w%s", err, printRoles)
	}
	member, able, err := ownerReady(ctx, conn)
	if err != nil {
		return err
	}
	if !member || !able {
		return fmt.Errorf("create roles: %s may still not create a schema in the database %q%s", Owner, conn.Config().Database, printRoles)
	}
	return nil
}

// ownerReady reports whether this login may act as the owner, and the owner may
// do, or has done, its first step.
func ownerReady(ctx context.Context, conn *pgx.Conn) (member, able bool, err error) {
	if err := conn.QueryRow(ctx, `
		SELECT pg_has_role(current_user, 'sallyport_owner', 'MEMBER'),
		       has_database_privilege('sallyport_owner', current_database(), 'CREATE')
		       OR (SELECT count(*) = 3 FROM pg_namespace WHERE nspname IN ('sallyport', 'audit', 'identity'))`).Scan(&member, &able); err != nil {
		return false, false, Explain("read roles", &conn.Config().Config, err)
	}
	return member, able, nil
}

// retryConcurrent runs SQL on objects that the whole cluster shares: two
// databases that are migrated at the same time may update the same row of a
// catalogue, and PostgreSQL then reports "tuple concurrently updated" (XX000) or
// refuses a duplicate.
func retryConcurrent(ctx context.Context, conn *pgx.Conn, sql string) error {
	var err error
	for range 10 {
		_, err = conn.Exec(ctx, sql)
		pg, ok := errors.AsType[*pgconn.PgError](err)
		if !ok || pg.Code != "XX000" && pg.Code != "23505" && pg.Code != "42710" {
			return err
		}
	}
	return err
}
