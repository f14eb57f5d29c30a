package database

import (
	"context"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sallyport/sallyport/migrations"
)

// clockTolerance is the difference of two clocks that is worth a warning.
const clockTolerance = 2 * time.Second

// Login is what [CheckLogin] found.
type Login struct {
	Detail   string   // one line
	Warnings []string // what works, and should not stay so
}

// CheckLogin connects with a database URL as a server's login does, and changes
// nothing: the session, the schema's version, the privileges of the role, whether the
// server can be written to, and the difference of the clocks. An error contains what to do.
func CheckLogin(ctx context.Context, url, role string) (*Login, error) {
	config, err := ParseConfig(url, "sallyport check")
	if err != nil {
		return nil, err
	}
	if err := CheckSessions(ctx, config); err != nil {
		return nil, err
	}
	conn, err := Connect(ctx, config)
	if err != nil {
		return nil, err
	}
	defer closeSoon(ctx, conn)
	l := &Login{}
	var member bool
	var name, server string
	if err := conn.QueryRow(ctx, `SELECT current_user, current_setting('server_version'),
		EXISTS (SELECT FROM pg_roles r WHERE r.rolname = $1 AND pg_has_role(current_user, r.oid, 'USAGE'))`, role).Scan(&name, &server, &member); err != nil {
		return nil, Explain("read the login's roles", &config.Config, err)
	}
	if err := CheckVersion(ctx, conn); err != nil {
		return nil, err
	}
	version, err := Version(ctx, conn)
	if err != nil {
		return nil, err
	}
	if !member {
		return nil, fmt.Errorf("the login %q is not a member of %s: GRANT %[2]s TO %[1]q, or use a login that is", name, role)
	}
	primary, err := IsPrimary(ctx, conn)
	if err != nil {
		return nil, Explain("ask whether the server is writable", &config.Config, err)
	}
	if !primary {
		return nil, errReadOnly
	}
	if version < migrations.Latest() {
		l.Warnings = append(l.Warnings, fmt.Sprintf("the schema is version %d, and this program's is %d: run `sallyport migrate`", version, migrations.Latest()))
	}
	warning, err := Privileged(ctx, conn)
	if err != nil {
		return nil, Explain("read the login's roles", &config.Config, err)
	}
	if warning != "" {
		l.Warnings = append(l.Warnings, warning)
	}
	offset, err := clockOffset(ctx, conn)
	if err != nil {
		return nil, Explain("read the server's clock", &config.Config, err)
	}
	if offset.Abs() > clockTolerance {
		l.Warnings = append(l.Warnings, fmt.Sprintf("the clocks of this machine and of the database differ by %s: synchronize both with NTP", offset.Round(time.Second/10)))
	}
	l.Detail = fmt.Sprintf("%q on PostgreSQL %s at %s, schema version %d, clocks differ by %s",
		name, server, strings.Join(Hosts(&config.Config), ","), version, offset.Abs().Round(time.Millisecond))
	return l, nil
}

// CheckRole returns an error where the login of a database URL may not act as a role.
func CheckRole(ctx context.Context, url, role string) error {
	config, err := ParseConfig(url, "sallyport check")
	if err != nil {
		return err
	}
	conn, err := Connect(ctx, config)
	if err != nil {
		return err
	}
	defer closeSoon(ctx, conn)
	if _, err := conn.Exec(ctx, "SET ROLE "+pgx.Identifier{role}.Sanitize()); err != nil {
		return fmt.Errorf("the login %q may not act as %s: GRANT %[2]s TO %[1]q, or name a login of it in audit.database_url_file: %[3]w", config.User, role, redacted{err})
	}
	return nil
}

// PrivilegedLogin is [Privileged] for the login of a database URL.
func PrivilegedLogin(ctx context.Context, url string) (string, error) {
	config, err := ParseConfig(url, "sallyport check")
	if err != nil {
		return "", err
	}
	conn, err := Connect(ctx, config)
	if err != nil {
		return "", err
	}
	defer closeSoon(ctx, conn)
	warning, err := Privileged(ctx, conn)
	return warning, Explain("read the login's roles", &config.Config, err)
}

// Privileged is a warning where the session's login can change the log: a superuser, or
// a member of the owner. It is empty for others.
func Privileged(ctx context.Context, db Querier) (string, error) {
	var name string
	var super, owner bool
	if err := db.QueryRow(ctx, `SELECT session_user, (SELECT rolsuper FROM pg_roles WHERE rolname = session_user),
		EXISTS (SELECT FROM pg_roles r WHERE r.rolname = $1 AND pg_has_role(session_user, r.oid, 'MEMBER'))`, Owner).Scan(&name, &super, &owner); err != nil {
		return "", err
	}
	switch {
	case super:
		return fmt.Sprintf("the login %q is a superuser, and can change the log: use a login that is a member of %s alone", name, Writer), nil
	case owner:
		return fmt.Sprintf("the login %q is a member of %s, and can change the log: REVOKE %[2]s FROM %[1]q, and keep a login of its own for migrations", name, Owner), nil
	}
	return "", nil
}

// clockOffset is how far the server's clock is ahead of ours, by the quickest of some
// answers.
func clockOffset(ctx context.Context, conn *pgx.Conn) (time.Duration, error) {
	best, offset := time.Duration(math.MaxInt64), time.Duration(0)
	for range 3 {
		began := time.Now()
		var at time.Time
		if err := conn.QueryRow(ctx, "SELECT clock_timestamp()").Scan(&at); err != nil {
			return 0, err
		}
		if duration := time.Since(began); duration < best {
			best, offset = duration, at.Sub(began.Add(duration/2))
		}
	}
	return offset, nil
}
