package auditdb

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"

	"github.com/sallyport/sallyport/cmd/sallyport/internal/cli"
	"github.com/sallyport/sallyport/internal/config"
	"github.com/sallyport/sallyport/internal/pgembed"
)

// Roles are the names that --role takes.
var Roles = map[string]string{"writer": "sallyport_writer", "auditor": "sallyport_auditor"}

// Connection returns what psql connects to. An embedded database that is not running
// is started, and runs for as long as psql does.
func Connection(ctx context.Context, cfg *config.Config, role string) (database string, env []string, done func(), err error) {
	done = func() {}
	if !cfg.Audit.Embedded {
		text, err := cfg.Audit.Database.Read()
		if err != nil {
			return "", nil, done, cli.Invalid(err)
		}
		database, env, err := withoutPassword(text)
		if err != nil {
			return "", nil, done, cli.Invalid(err)
		}
		return database, env, done, nil
	}
	if role == "" {
		role = Roles["writer"]
	}
	directory := EmbeddedDirectory(cfg)
	endpoint, err := pgembed.Locate(directory)
	if errors.Is(err, pgembed.ErrNotRunning) {
		if _, statErr := os.Stat(directory); statErr != nil {
			return "", nil, done, fmt.Errorf("there is no embedded database in %s yet: `sallyport serve` makes it", directory)
		}
		server, startErr := pgembed.Start(ctx, pgembed.Config{Directory: directory})
		if startErr != nil {
			return "", nil, done, startErr
		}
		done = func() { _ = server.Close() }
		endpoint, err = server.Endpoint, nil
	}
	if err != nil {
		return "", nil, done, err
	}
	return endpoint.URL(EmbeddedDatabase, role), nil, done, nil
}

// withoutPassword takes the password out of a connection string and puts it
// where other users of this machine cannot see it: a program's arguments are
// public, its environment is not.
func withoutPassword(text string) (database string, env []string, err error) {
	if !strings.HasPrefix(text, "postgres://") && !strings.HasPrefix(text, "postgresql://") {
		if strings.Contains(text, "password") {
			return "", nil, errors.New("the database URL is in keyword form with a password: write it as postgresql://user:password@host/database")
		}
		return text, nil, nil
	}
	u, err := url.Parse(text)
	if err != nil {
		return "", nil, errors.New("the database URL does not parse") // the cause would quote it
	}
	if password, set := u.User.Password(); set {
		env = append(env, "PGPASSWORD="+password)
		u.User = url.User(u.User.Username())
	}
	if query := u.Query(); query.Has("password") {
		env = append(env, "PGPASSWORD="+query.Get("password"))
		query.Del("password")
		u.RawQuery = query.Encode()
	}
	return u.String(), env, nil
}
