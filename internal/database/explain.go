package database

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5/pgconn"
)

// Explain wraps an error of the database with what an operator can do about it.
// It is nil for nil. It contains the login and the server of the configuration, and
// nothing else of it.
func Explain(operation string, config *pgconn.Config, err error) error {
	if err == nil {
		return nil
	}
	if hint := hint(config, err); hint != "" {
		return fmt.Errorf("%s: %w: %s", operation, redacted{err}, hint)
	}
	return fmt.Errorf("%s: %w", operation, redacted{err})
}

// redacted drops the text of a connect error, which repeats the same failure
// for every address and TLS mode that was tried, and keeps the chain.
type redacted struct{ err error }

func (r redacted) Unwrap() error { return r.err }

func (r redacted) Error() string {
	if pg, ok := errors.AsType[*pgconn.PgError](r.err); ok {
		return fmt.Sprintf("%s (SQLSTATE %s)", pg.Message, pg.Code)
	}
	if connect, ok := errors.AsType[*pgconn.ConnectError](r.err); ok {
		if op, ok := errors.AsType[*net.OpError](connect); ok {
			return op.Error()
		}
		if refusesTLS(r.err) {
			return "the server has no TLS, and sslmode demands it"
		}
	}
	return r.err.Error()
}

// FromServer reports whether an error is an answer of a database server, or comes from
// the way to it.
func FromServer(err error) bool {
	_, explained := errors.AsType[redacted](err)
	_, answer := errors.AsType[*pgconn.PgError](err)
	_, connect := errors.AsType[*pgconn.ConnectError](err)
	return explained || answer || connect
}

// hint returns what an operator can do about an error; "" if that is unknown.
func hint(config *pgconn.Config, err error) string {
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		return serverHint(config, pg)
	}
	return connectionHint(config, err)
}

// serverHints are the hints for the codes of a server that need no further data
// (PostgreSQL documentation, appendix A).
var serverHints = map[string]string{
	"53300": "the server has no connection left; raise its max_connections",
	"42704": "the database URL has a parameter that the server does not know: correct its name",
	"57P03": "the server is starting or shutting down; try again in a moment",
	"25006": "the server is a read-only standby; name the primary, or use target_session_attrs=read-write",
	"53100": "the server's disk is full: make room there",
}

func serverHint(config *pgconn.Config, pg *pgconn.PgError) string {
	switch pg.Code {
	case "28P01":
		return fmt.Sprintf("the password for %q is wrong, or the role does not exist", config.User)
	case "28000":
		if strings.Contains(pg.Message, "not permitted to log in") {
			return fmt.Sprintf("%q is a role without LOGIN: name a login that is a member of it", config.User)
		}
		return fmt.Sprintf("the server does not let %q in from here; see its pg_hba.conf, and give the role a password (ALTER ROLE … PASSWORD)", config.User)
	case "3D000":
		return fmt.Sprintf("create the database first: CREATE DATABASE %q ENCODING 'UTF8' TEMPLATE template0", config.Database)
	case "42501":
		return fmt.Sprintf("the role %q lacks a privilege; serve logs in as %s, migrate as a member of %s", config.User, Writer, Owner)
	}
	return serverHints[pg.Code]
}

func connectionHint(config *pgconn.Config, err error) string {
	where := net.JoinHostPort(config.Host, fmt.Sprint(config.Port))
	if strings.HasPrefix(config.Host, "/") {
		where = "the socket in " + config.Host
	}
	var certificate *tls.CertificateVerificationError
	var authority x509.UnknownAuthorityError
	switch {
	case errors.As(err, &certificate), errors.As(err, &authority):
		return "the server's certificate is not trusted; see sslmode and sslrootcert of the database URL"
	case refusesTLS(err):
		return "set ssl = on at the server, or write sslmode=disable into the database URL on a trusted network"
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, fs.ErrNotExist):
		return fmt.Sprintf("nothing listens at %s; is PostgreSQL running, and is the database URL right?", where)
	case errors.Is(err, context.DeadlineExceeded), isTimeout(err):
		return fmt.Sprintf("%s does not answer; is there a firewall in between, and is the database URL right?", where)
	}
	if _, ok := errors.AsType[*net.DNSError](err); ok {
		return fmt.Sprintf("the host %q is not known; is the database URL right?", config.Host)
	}
	return ""
}

// refusesTLS reports whether the server has no TLS and the URL demands it. pgx has no
// type for it.
func refusesTLS(err error) bool {
	return strings.Contains(err.Error(), "server refused TLS connection")
}

func isTimeout(err error) bool {
	n, ok := errors.AsType[net.Error](err)
	return ok && n.Timeout()
}
